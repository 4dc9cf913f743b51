/* Packets of several frames, from real queues at an MTU of 9000: every way to read them gives the
 * same, and they are whole in a savefile and behind an injector. What is to be had of a block is
 * test_packets_block's. */
#include "inject.h"
#include "savefile.h"
#include "xdp.h"

#include <netring_inline.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_PIECES = 8 };

/* Around the ends of the first and the second frame of 4096 bytes. */
static const size_t lengths[] = {60, 1514, 3839, 3840, 3841, 4096, 6000, 7935, 7936, 8000, 9014};
enum { PACKETS = COUNT(lengths) };

static uint8_t want[FRAME_MAX];

/* The pieces of a packet, joined, are frame `number`. */
static bool is_whole(struct netring_block *block, const struct netring_packet *packet,
                     uint32_t number)
{
    struct netring_segment pieces[MOST_PIECES];
    int n = netring_block_segments(block, packet->cookie, pieces, sizeof *pieces, MOST_PIECES);
    size_t at = 0;

    frame_make(want, lengths[number], number);
    if (n != packet->segments + 1 || packet->len != lengths[number] ||
        (n > 1) != ((packet->status & NETRING_PACKET_SEGMENTED) != 0) ||
        (packet->status & NETRING_PACKET_TRUNCATED))
        return ok(false, "packet %u: %d pieces, %u bytes, status %#x", number, n, packet->len,
                  packet->status);
    for (int i = 0; i < n; i++) {
        if (at + pieces[i].len > lengths[number] ||
            memcmp(pieces[i].data, want + at, pieces[i].len) != 0)
            return ok(false, "packet %u, piece %d", number, i);
        at += pieces[i].len;
    }
    return at == lengths[number] || ok(false, "packet %u: %zu bytes", number, at);
}

static void is_file(int fd, const char *what)
{
    off_t size = lseek(fd, 0, SEEK_END);
    uint8_t *bytes = malloc((size_t)size);
    struct savefile file;
    uint32_t same = 0;

    if (!bytes || pread(fd, bytes, (size_t)size, 0) != size)
        tap_bail("the file cannot be read");
    close(fd);
    file = savefile_parse(bytes, (size_t)size);
    is_savefile(&file, PACKETS, what);
    for (uint32_t i = 0; i < file.packets && i < PACKETS; i++) {
        frame_make(want, lengths[i], i);
        same += file.packet[i].len == lengths[i] && file.packet[i].caplen == lengths[i] &&
                memcmp(file.packet[i].data, want, lengths[i]) == 0;
    }
    is_int(same, PACKETS, "%s: whole in the file", what);
    savefile_free(&file);
}

static void test_pieces(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct netring_writer_config to_file = NETRING_WRITER_CONFIG_INIT;
    struct netring_injector_config on = inject_config(methods[0].method, 8);
    struct netring_xdp *xdp;
    struct netring_queue *queue;
    struct netring_injector *injector;
    struct netring_writer *writer = NULL;
    struct netring_error error;
    struct sink sink;
    uint32_t n = 0, whole = 0, same = 0, several = 0, sent = 0;
    int rc, sender, fd = memfd_create("netring", MFD_CLOEXEC);

    config.flags |= NETRING_XDP_MULTI_BUFFER;
    if (!xdp_kernel(6, 6)) {
        tap_skip(mode->name, "packets of several frames are of Linux 6.6");
        close(fd);
        return;
    }
    rc = netring_xdp_open("vb", NULL, 0, &config, &xdp, &error);
    if (!is_int(rc, 0, "%s: opened (%s)", mode->name, error.message))
        tap_bail("no sockets");
    queue = xdp_queue(xdp, 0);
    injector = injector_open("wa", &on);
    sink_open(&sink, "wb");
    if (fd < 0 || netring_writer_open_fd(fd, &to_file, &writer, &error) != 0 ||
        netring_writer_add_interface(writer, "vb", NETRING_LINKTYPE_ETHERNET, 0, &error) != 0)
        tap_bail("no writer");
    sender = net_sender("va");
    for (uint32_t i = 0; i < PACKETS; i++)
        net_send(sender, want, frame_make(want, lengths[i], i));

    while (n < PACKETS) {
        struct netring_block *block;
        struct netring_cursor cursor;
        struct netring_packet packet, walked;

        if (netring_queue_next_block(queue, (int)tap_patience(2000), &block) != 1)
            break;
        netring_cursor_init(&cursor, block);
        while (n < PACKETS && netring_block_read(block, &packet, sizeof packet, 1) == 1) {
            memset(&walked, 0, sizeof walked);
            if (netring_cursor_next(&cursor))
                netring_cursor_packet(&cursor, &walked);
            same += memcmp(&walked, &packet, sizeof packet) == 0;
            whole += is_whole(block, &packet, n);
            several += packet.segments != 0;
            if (netring_injector_send_packet(injector, block, &packet, sizeof packet, 1, 1000) == 1)
                netring_injector_flush(injector);
            sent += sink_next(&sink, (int)tap_patience(2000)) == lengths[n] &&
                    memcmp(sink.frame, want, lengths[n]) == 0;
            n++;
        }
        netring_writer_write_block(writer, 0, block);
        netring_block_release(block);
    }
    is_int(n, PACKETS, "%s: they arrive", mode->name);
    is_int(same, PACKETS, "%s: the inline walk gives what read gives", mode->name);
    is_int(whole, PACKETS, "%s: their pieces are the packet", mode->name);
    ok(several >= 5, "%s: %u have several", mode->name, several);
    is_int(sent, PACKETS, "%s: sent on, whole", mode->name);
    is_int(netring_writer_close(writer, NULL), 0, "%s: the writer is closed", mode->name);
    is_file(fd, mode->name);
    queue_is_idle(queue, mode->name);
    injector_close(injector);
    sink_close(&sink);
    close(sender);
    xdp_close(xdp);
}

int main(void)
{
    static const char *const links[] = {"va", "vb", "wa", "wb"};

    tap_begin(30);
    xdp_enter();
    net_veth("va", "vb");
    net_veth("wa", "wb");
    for (size_t i = 0; i < COUNT(links); i++)
        net_link_mtu(links[i], 9000);
    for (size_t i = 0; i < COUNT(xdp_modes); i++)
        test_pieces(&xdp_modes[i]);
    return tap_end();
}
