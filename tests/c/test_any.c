/* A capture on "any" with lo, a veth pair, a bridge over one end of another pair, and a tun device
 * side by side: each packet has the index, the link type, the direction and the bytes of its
 * interface, by every walk and in a savefile, where each interface is described once.
 *
 * no-archive: the walks are the same there, and ASan has the archive */
#include "savefile.h"

#include <linux/if_tun.h>
#include <netring_inline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EACH = 20 };

/* An IPv4 packet to nobody, which says its number. */
static size_t ip_packet(uint8_t *out, uint8_t number)
{
    static const uint8_t header[] = {0x45, 0, 0,  28, 0, 1, 0,  0, 64, 253,
                                     0,    0, 10, 0,  0, 1, 10, 0, 0,  2};

    memcpy(out, header, sizeof header);
    memset(out + sizeof header, number, 8);
    return sizeof header + 8;
}

/* What must come through each interface. */
static struct expected {
    const char *name;
    uint16_t link_type;
    uint8_t direction;
    uint32_t first; /* number of the first frame */
    uint32_t ifindex;
    unsigned seen, in_file;
} expected[] = {
    {"va", NETRING_LINKTYPE_ETHERNET, NETRING_DIRECTION_OUTGOING, 100, 0, 0, 0},
    {"vb", NETRING_LINKTYPE_ETHERNET, NETRING_DIRECTION_OTHERHOST, 100, 0, 0, 0},
    {"vc", NETRING_LINKTYPE_ETHERNET, NETRING_DIRECTION_OUTGOING, 200, 0, 0, 0},
    {"vd", NETRING_LINKTYPE_ETHERNET, NETRING_DIRECTION_BROADCAST, 200, 0, 0, 0},
    {"br0", NETRING_LINKTYPE_ETHERNET, NETRING_DIRECTION_BROADCAST, 200, 0, 0, 0},
    {"lo", NETRING_LINKTYPE_ETHERNET, NETRING_DIRECTION_HOST, 0, 0, 0, 0},
    {"tun0", NETRING_LINKTYPE_RAW, NETRING_DIRECTION_HOST, 0, 0, 0, 0},
};
enum { VA, VB, VC, VD, BR0, LO, TUN0 };

static size_t frame_of(size_t which, uint32_t number, uint8_t *frame)
{
    frame_make(frame, 60, expected[which].first + number);
    if (expected[which].first == 200)
        memset(frame, 0xff, 6); /* a bridge takes it up */
    return 60;
}

/* Whether these bytes are the next ones of an interface. */
static bool is_next(size_t which, unsigned number, const uint8_t *data, size_t length)
{
    uint8_t want[64];
    size_t size;

    if (which == LO) /* the headers are the kernel's */
        return length == 14 + 20 + 8 + 1 && data[length - 1] == number;
    size = which == TUN0 ? ip_packet(want, (uint8_t)number) : frame_of(which, number, want);
    return length == size && memcmp(data, want, size) == 0;
}

int main(void)
{
    struct netring_capture_config config = small_config();
    struct netring_writer_config how = NETRING_WRITER_CONFIG_INIT;
    struct netring_capture *capture;
    struct netring_writer *writer;
    struct netring_error error;
    struct netring_block *block;
    struct netring_cursor cursor;
    struct net_udp udp;
    struct savefile file;
    char path[] = "/tmp/netring-any-XXXXXX";
    int veth, port, tun, fd;
    size_t all = COUNT(expected), want = 0, got = 0, interfaces = 0;
    unsigned unlike = 0, strange = 0;
    bool bridge;
    /* A bridge joins a multicast group of its own, and says so when it likes (IGMP). */
    const struct sock_filter no_igmp[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, 2),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 2, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),     BPF_STMT(BPF_RET | BPF_K, 0),
    };

    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    net_veth("vc", "vd");
    bridge = net_link_new("br0", "bridge", NULL);
    if (bridge) {
        net_link_master("vd", "br0");
        net_await_carrier("br0");
    }
    tun = net_tun("tun0", IFF_TUN);
    if (!bridge)
        tap_skip("a bridge", "this kernel has none");
    if (tun < 0)
        tap_skip("a tun device", "no tun device here");
    for (size_t i = 0; i < all; i++) {
        bool there = (i != BR0 || bridge) && (i != TUN0 || tun >= 0);

        expected[i].ifindex = there ? net_index(expected[i].name) : 0;
        want += there ? EACH : 0;
        interfaces += there;
    }
    veth = net_sender("va");
    port = net_sender("vc");
    udp = net_udp_open();
    fd = mkstemp(path);
    if (fd < 0)
        tap_bail("mkstemp failed");
    close(fd);

    if (netring_filter_new(no_igmp, COUNT(no_igmp), &config.filter, &error) != 0)
        tap_bail("%s", error.message);
    capture = capture_open("any", &config);
    netring_filter_free(config.filter);
    if (netring_writer_open(path, &how, &writer, &error) < 0 ||
        netring_writer_add_capture(writer, capture, &error) != 0)
        tap_bail("netring_writer: %s", error.message);
    for (uint32_t i = 0; i < EACH; i++) {
        uint8_t frame[64], number = (uint8_t)i;

        net_send(veth, frame, frame_of(VA, i, frame));
        net_send(port, frame, frame_of(VC, i, frame));
        net_udp_send(&udp, &number, 1);
        if (tun >= 0 && write(tun, frame, ip_packet(frame, number)) != 28)
            tap_bail("the tun device takes no packet");
    }
    while (got < want && netring_capture_next_block(capture, 1000, &block) == 1) {
        struct netring_packet packet, walked;
        struct netring_block_info info;

        netring_block_info(block, &info, sizeof info);
        unlike += info.ifindex != 0;
        netring_cursor_init(&cursor, block);
        while (netring_block_read(block, &packet, sizeof packet, 1) == 1) {
            size_t which = 0;

            if (!netring_cursor_next(&cursor))
                tap_bail("the inline walk ends early");
            netring_cursor_packet(&cursor, &walked);
            unlike += memcmp(&packet, &walked, sizeof packet) != 0;
            while (which < all && expected[which].ifindex != packet.ifindex)
                which++;
            if (which == all || packet.link_type != expected[which].link_type ||
                packet.direction != expected[which].direction ||
                !is_next(which, expected[which].seen, packet.data, packet.caplen)) {
                strange++;
                tap_diag("ifindex %u, link type %u, direction %u, %u bytes", packet.ifindex,
                         packet.link_type, packet.direction, packet.caplen);
                continue;
            }
            expected[which].seen++;
            got++;
        }
        if (netring_writer_write_block(writer, 0, block) < 0) {
            netring_writer_last_error(writer, &error);
            ok(false, "writing: %s", error.message);
        }
        netring_block_release(block);
    }
    for (size_t i = 0; i < all; i++)
        is_int(expected[i].seen, expected[i].ifindex ? EACH : 0, "packets of %s, in order",
               expected[i].name);
    is_int(strange, 0, "and no others");
    is_int(unlike, 0, "the inline walk tells the same");
    capture_close(capture);
    is_int(netring_writer_close(writer, &error), 0, "the savefile is closed");

    file = savefile_read(path);
    if (is_savefile(&file, got, "savefile")) {
        unsigned wrong = 0;

        is_int(file.interfaces, interfaces, "savefile: an interface each");
        for (size_t i = 0; i < file.packets; i++) {
            const struct saved_packet *packet = &file.packet[i];
            const struct saved_interface *from = &file.interface[packet->interface];
            size_t which = 0;

            while (which < all && strcmp(expected[which].name, from->name) != 0)
                which++;
            wrong += which == all || from->link_type != expected[which].link_type ||
                     !is_next(which, expected[which].in_file++, packet->data, packet->caplen);
        }
        is_int(wrong, 0, "savefile: each packet under its interface, with its link type");
        is_read_by_reader(path, &file, "savefile");
    }
    savefile_free(&file);
    unlink(path);
    net_udp_close(&udp);
    close(veth);
    close(port);
    if (tun >= 0)
        close(tun);
    return tap_end();
}
