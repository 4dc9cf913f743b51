/* NETRING_CAPTURE_RESTORE_VLAN: what is captured is, byte for byte, what was sent, at both ends of
 * the link, in a savefile written from it, and once only.
 *
 * no-archive: records are rewritten by the same code there, and ASan has the archive */
#include "savefile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int sender;
static uint64_t mode; /* NETRING_CAPTURE_IMMEDIATE, or 0 */

static const struct {
    const char *name;
    uint16_t tpid, tci, inner;
    bool stripped; /* by the kernel, on its way in */
} cases[] = {
    {"untagged", 0, 0, 0, false},
    {"802.1Q", 0x8100, 0x6064, 0, true},
    {"priority tag", 0x8100, 0, 0, true},
    {"802.1ad", 0x88a8, 0x0123, 0, true},
    {"QinQ", 0x88a8, 0x0fff, 0x8100, true},
    {"802.1Q twice", 0x8100, 0x2001, 0x8100, true},
    {"pre-standard 0x9100", 0x9100, 0x0042, 0, false},
};

/* The frame of a case, `length` bytes without its tags; its length with them. */
static size_t frame_of(size_t i, uint8_t *frame, size_t length)
{
    length = frame_make(frame, length, (uint32_t)i);
    if (cases[i].inner)
        length = frame_tag(frame, length, cases[i].inner, 0x0321);
    return cases[i].tpid ? frame_tag(frame, length, cases[i].tpid, cases[i].tci) : length;
}

static void send_all(size_t length)
{
    uint8_t frame[FRAME_MAX];

    for (size_t i = 0; i < COUNT(cases); i++)
        net_send(sender, frame, frame_of(i, frame, length));
}

static struct netring_capture *open_restoring(const char *name, uint32_t snap_length)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;

    config.snap_length = snap_length;
    config.flags |= NETRING_CAPTURE_RESTORE_VLAN | mode;
    capture = capture_open(name, &config);
    ok(capture_info(capture).flags & NETRING_CAPTURE_RESTORE_VLAN, "%s: the info tells", name);
    return capture;
}

static void test_whole(const char *name, bool incoming)
{
    static const size_t lengths[] = {60, 61, 100, 1514};
    struct netring_capture *capture = open_restoring(name, 0);
    uint8_t frame[FRAME_MAX];

    for (size_t n = 0; n < COUNT(lengths); n++) {
        struct records records = {0, 0, NULL};

        send_all(lengths[n]);
        receive_both_ways(capture, COUNT(cases), 1000, &records, name);
        if (!is_int(records.count, COUNT(cases), "%s: packets", name))
            tap_bail("nothing to compare");
        for (size_t i = 0; i < COUNT(cases); i++) {
            const struct netring_packet *packet = &records.v[i].packet;
            size_t length = frame_of(i, frame, lengths[n]);

            if (packet->caplen != length || packet->len != length ||
                memcmp(packet->data, frame, length) != 0)
                ok(false, "%s: %s of %zu bytes (caplen %u, len %u)", name, cases[i].name, length,
                   packet->caplen, packet->len);
            else
                ok(true, "%s: %s of %zu bytes", name, cases[i].name, length);
            ok(!(packet->status & (NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID)) &&
                   packet->vlan_tci == 0 && packet->vlan_tpid == 0,
               "%s: %s: no tag beside it", name, cases[i].name);
            if (incoming) {
                is_int(packet->net_offset, cases[i].stripped ? 18 : 14, "%s: %s: net_offset", name,
                       cases[i].name);
                is_int(packet->protocol,
                       cases[i].inner                        ? cases[i].inner
                       : cases[i].stripped || !cases[i].tpid ? ETHERTYPE_TEST
                                                             : cases[i].tpid,
                       "%s: %s: protocol as the kernel has it", name, cases[i].name);
            }
        }
        records_free(&records);
    }
    is_int(capture_stats(capture).truncated, 0, "%s: nothing was cut", name);
    capture_close(capture);
}

/* The snap length counts bytes without a tag beside the packet. */
static void test_cut(void)
{
    static const uint32_t snaps[] = {64, 16, 14, 12, 11, 1};
    uint8_t frame[FRAME_MAX];

    for (size_t n = 0; n < COUNT(snaps); n++) {
        struct netring_capture *capture = open_restoring("vb", snaps[n]);
        struct records records = {0, 0, NULL};
        bool room = snaps[n] >= 12;
        unsigned wrong = 0;

        send_all(100);
        receive_both_ways(capture, COUNT(cases), 1000, &records, "cut");
        is_int(records.count, COUNT(cases), "snap length %u: packets", snaps[n]);
        for (size_t i = 0; i < records.count; i++) {
            const struct netring_packet *packet = &records.v[i].packet;
            size_t length = frame_of(i, frame, 100);
            bool put_back = cases[i].stripped && room, beside = cases[i].stripped && !room;

            if (packet->caplen != snaps[n] + (put_back ? 4 : 0) ||
                packet->len != length - (beside ? 4 : 0) ||
                memcmp(packet->data, frame, packet->caplen) != 0 ||
                !(packet->status & NETRING_PACKET_TRUNCATED) ||
                !(packet->status & NETRING_PACKET_VLAN) == beside ||
                packet->vlan_tci != (beside ? cases[i].tci : 0)) {
                wrong++;
                tap_diag("snap length %u, %s: caplen %u, len %u, status 0x%x", snaps[n],
                         cases[i].name, packet->caplen, packet->len, packet->status);
            }
        }
        is_int(wrong, 0, "snap length %u: cut and restored", snaps[n]);
        is_int(capture_stats(capture).truncated, COUNT(cases), "snap length %u: truncated",
               snaps[n]);
        capture_close(capture);
        records_free(&records);
    }
}

/* Parts of one block, each treated once. */
static void test_parts(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture;
    struct netring_block *blocks[COUNT(cases)];
    struct records records = {0, 0, NULL};
    uint8_t frame[FRAME_MAX];
    unsigned wrong = 0;

    config.flags |= NETRING_CAPTURE_RESTORE_VLAN;
    capture = capture_open("vb", &config);
    for (size_t i = 0; i < COUNT(cases); i++) {
        net_send(sender, frame, frame_of(i, frame, 60));
        await_seen(capture, i + 1);
        is_int(netring_capture_flush(capture), 0, "parts: flush");
        if (netring_capture_next_block(capture, 1000, &blocks[i]) != 1)
            tap_bail("parts: no block after a flush");
    }
    for (size_t i = 0; i < COUNT(cases); i++) {
        block_records(blocks[i], 64, &records);
        netring_block_release(blocks[i]);
    }
    is_int(records.count, COUNT(cases), "parts: a packet each");
    for (size_t i = 0; i < records.count; i++)
        wrong += records.v[i].packet.caplen != frame_of(i, frame, 60) ||
                 memcmp(records.v[i].packet.data, frame, records.v[i].packet.caplen) != 0;
    is_int(wrong, 0, "parts: restored, once");
    capture_close(capture);
    records_free(&records);
}

static void test_savefile(void)
{
    struct netring_writer_config config = NETRING_WRITER_CONFIG_INIT;
    struct netring_capture *capture = open_restoring("vb", 0);
    struct netring_writer *writer;
    struct netring_error error;
    struct netring_block *block;
    struct savefile file;
    uint8_t frame[FRAME_MAX];
    char path[64] = "/tmp/netring-vlan-XXXXXX";
    size_t written = 0;
    unsigned wrong = 0;
    int fd = mkstemp(path);

    if (fd < 0)
        tap_bail("mkstemp failed");
    close(fd);
    if (netring_writer_open(path, &config, &writer, &error) < 0 ||
        netring_writer_add_capture(writer, capture, &error) != 0)
        tap_bail("netring_writer: %s", error.message);
    send_all(100);
    while (written < COUNT(cases) && netring_capture_next_block(capture, 1000, &block) == 1) {
        written += (size_t)netring_writer_write_block(writer, 0, block);
        netring_block_release(block);
    }
    is_int(netring_writer_close(writer, &error), 0, "savefile: closed");
    file = savefile_read(path);
    if (is_savefile(&file, COUNT(cases), "savefile")) {
        for (size_t i = 0; i < COUNT(cases); i++)
            wrong += file.packet[i].caplen != frame_of(i, frame, 100) ||
                     file.packet[i].len != file.packet[i].caplen ||
                     memcmp(file.packet[i].data, frame, file.packet[i].caplen) != 0;
        is_int(wrong, 0, "savefile: what was sent, with one tag where one was");
        is_read_by_others(path, &file, "savefile");
    }
    savefile_free(&file);
    unlink(path);
    capture_close(capture);
}

/* A filter program of the kernel sees the tag beside the packet, restored later or not. */
static void test_filtered(void)
{
    static const struct sock_filter tagged[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    uint8_t frame[FRAME_MAX];
    unsigned wrong = 0, n = 0;

    config.flags |= NETRING_CAPTURE_RESTORE_VLAN;
    if (netring_filter_new(tagged, COUNT(tagged), &config.filter, NULL) != 0)
        tap_bail("netring_filter_new failed");
    capture = capture_open("vb", &config);
    netring_filter_free(config.filter);
    send_all(60);
    receive(capture, 5, 1000, &records);
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (!cases[i].stripped)
            continue;
        wrong += n >= records.count || records.v[n].packet.caplen != frame_of(i, frame, 60) ||
                 memcmp(records.v[n].packet.data, frame, records.v[n].packet.caplen) != 0;
        n++;
    }
    is_int(records.count, n, "a filter for tags takes the tagged ones");
    is_int(wrong, 0, "and those come with their tags");
    capture_close(capture);
    records_free(&records);
}

int main(void)
{
    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    net_link_mtu("va", 1600);
    net_link_mtu("vb", 1600);
    sender = net_sender("va");

    test_whole("vb", true);
    test_whole("va", false);
    test_cut();
    test_parts();
    test_savefile();
    test_filtered();

    mode = NETRING_CAPTURE_IMMEDIATE;
    test_whole("vb", true);
    test_whole("va", false);
    test_cut();
    test_savefile();
    return tap_end();
}
