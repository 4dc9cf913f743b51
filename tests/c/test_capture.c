/* What is sent is what arrives: every way of receiving, every field of a packet, every choice of
 * the config that decides what is received. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef __has_include
#if __has_include(<netring_inline.h>)
#include <netring_inline.h>
#define HAVE_INLINE 1
#endif
#endif

static int sender; /* on va; what it sends arrives at vb */

/* ---- ways to receive ---- */

static void walk_read_1(struct netring_block *block, struct records *records)
{
    block_records(block, 1, records);
}

static void walk_read_7(struct netring_block *block, struct records *records)
{
    block_records(block, 7, records);
}

static void walk_read_1000(struct netring_block *block, struct records *records)
{
    block_records(block, 1000, records);
}

static void walk_rewound(struct netring_block *block, struct records *records)
{
    struct netring_packet some[3];
    struct records first = {0, 0, NULL};

    netring_block_read(block, some, sizeof *some, COUNT(some));
    is_int(netring_block_rewind(block), 0, "rewind in the middle of a block");
    block_records(block, 64, &first);
    is_int(netring_block_rewind(block), 0, "rewind at its end");
    is_int(netring_block_read(block, some, sizeof *some, 1), 1, "a rewound block reads again");
    ok(first.count && some[0].len == first.v[0].packet.len &&
           memcmp(some[0].data, first.v[0].packet.data, some[0].caplen) == 0,
       "from its first packet");
    netring_block_rewind(block);
    block_records(block, 64, records);
    records_free(&first);
}

/* The walk that Go and Zig do: over the kernel's own records. */
static void walk_view(struct netring_block *block, struct records *records)
{
    struct netring_block_view view;
    struct netring_packet packet = {0};
    const struct tpacket3_hdr *head;
    uint64_t at;

    if (!is_int(netring_block_view(block, &view, sizeof view), 0, "netring_block_view"))
        return;
    ok(view.size == sizeof view && view.layout == NETRING_LAYOUT_TPACKET3, "the view's layout");
    at = view.first;
    for (uint32_t i = 0; i < view.count; i++, at += head->tp_next_offset) {
        head = (const struct tpacket3_hdr *)(const void *)(view.base + at);
        if (at + sizeof *head > view.length || at + head->tp_mac + head->tp_snaplen > view.length) {
            ok(false, "record %u lies inside of the view", i);
            return;
        }
        if (!(head->tp_status & TP_STATUS_USER))
            continue;
        packet.data = view.base + at + head->tp_mac;
        packet.caplen = head->tp_snaplen;
        packet.len = head->tp_len;
        records_add(records, &packet);
    }
}

#ifdef HAVE_INLINE
static void walk_inline(struct netring_block *block, struct records *records)
{
    struct netring_cursor cursor;
    struct netring_packet read, walked;
    uint16_t tci, tpid;
    unsigned unlike = 0;

    if (!is_int(netring_block_cursor(block, &cursor, sizeof cursor), 0, "netring_block_cursor"))
        return;
    while (netring_cursor_next(&cursor)) {
        netring_cursor_packet(&cursor, &walked);
        if (netring_block_read(block, &read, sizeof read, 1) != 1 ||
            memcmp(&read, &walked, sizeof read) != 0 || netring_cursor_data(&cursor) != read.data ||
            netring_cursor_caplen(&cursor) != read.caplen ||
            netring_cursor_len(&cursor) != read.len ||
            netring_cursor_time_ns(&cursor) != read.time_ns ||
            netring_cursor_vlan(&cursor, &tci, &tpid) != 0)
            unlike++;
        records_add(records, &walked);
    }
    is_int(netring_block_read(block, &read, sizeof read, 1), 0, "read ends where the cursor ends");
    is_int(unlike, 0, "the inline cursor tells the same of each packet as read does");
}
#endif

static void take_next_packet(struct netring_capture *capture, size_t want, struct records *records)
{
    struct netring_packet packet;

    while (records->count < want &&
           netring_capture_next_packet(capture, 1000, &packet, sizeof packet) == 1)
        records_add(records, &packet);
}

static int keep(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    if (count == 0 || count > 64 || size != sizeof *packets)
        ok(false, "the callback gets 1 to 64 packets of %zu bytes (%zu of %zu)", sizeof *packets,
           count, size);
    for (size_t i = 0; i < count; i++)
        records_add(user, &packets[i]);
    return 0;
}

static void take_dispatch(struct netring_capture *capture, size_t want, struct records *records)
{
    while (records->count < want && netring_capture_dispatch(capture, 1000, 0, keep, records) > 0)
        ;
}

static void take_dispatch_5(struct netring_capture *capture, size_t want, struct records *records)
{
    int n;

    while (records->count < want &&
           (n = netring_capture_dispatch(capture, 1000, 5, keep, records)) > 0) {
        if (n > 5)
            is_int(n, 5, "dispatch hands out at most what is asked for");
    }
}

static void take_blocks(struct netring_capture *capture, size_t want, struct records *records,
                        void (*walk)(struct netring_block *, struct records *))
{
    struct netring_block *block;

    while (records->count < want && netring_capture_next_block(capture, 1000, &block) == 1) {
        walk(block, records);
        netring_block_release(block);
    }
}

static void test_ways(void)
{
    static const struct {
        const char *name;
        void (*walk)(struct netring_block *, struct records *);
        void (*take)(struct netring_capture *, size_t, struct records *);
    } ways[] = {
        {"read, one packet a call", walk_read_1, NULL},
        {"read, 7 packets a call", walk_read_7, NULL},
        {"read, 1000 packets a call", walk_read_1000, NULL},
        {"read, rewind, read", walk_rewound, NULL},
        {"view", walk_view, NULL},
#ifdef HAVE_INLINE
        {"inline cursor", walk_inline, NULL},
#endif
        {"next_packet", NULL, take_next_packet},
        {"dispatch", NULL, take_dispatch},
        {"dispatch, 5 packets a call", NULL, take_dispatch_5},
    };
    enum { FRAMES = 300 };
    struct netring_capture_config config = small_config();
    uint8_t frame[FRAME_MAX];

#ifndef HAVE_INLINE
    tap_skip("inline cursor", "no netring_inline.h");
#endif
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct netring_capture *capture = capture_open("vb", &config);
        struct records records = {0, 0, NULL};

        for (uint32_t n = 0; n < FRAMES; n++)
            net_send(sender, frame, frame_make(frame, frame_mixed(n, 14, 1514), n));
        if (ways[i].walk)
            take_blocks(capture, FRAMES, &records, ways[i].walk);
        else
            ways[i].take(capture, FRAMES, &records);
        is_frames(&records, 0, FRAMES, 14, 1514, ways[i].name);
        is_int(capture_stats(capture).delivered, FRAMES, "%s: delivered", ways[i].name);
        capture_close(capture);
        records_free(&records);
    }
}

static int stop_at_once(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    keep(user, packets, count, size);
    return 1;
}

struct reentry {
    struct netring_capture *capture;
    int dispatch, next_packet, calls;
};

static int reenter(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    struct reentry *reentry = user;
    struct netring_packet packet;
    struct records none = {0, 0, NULL};

    (void)packets, (void)count, (void)size;
    reentry->calls++;
    reentry->dispatch = netring_capture_dispatch(reentry->capture, 0, 0, keep, &none);
    reentry->next_packet = netring_capture_next_packet(reentry->capture, 0, &packet, sizeof packet);
    return 0;
}

static void test_dispatch(void)
{
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records = {0, 0, NULL};
    struct reentry reentry = {capture, 0, 0, 0};
    const uint32_t per_block = frames_per_page(60);
    int n;

    is_int(netring_capture_dispatch(capture, 0, 0, keep, &records), 0, "dispatch: nothing there");
    send_frames(sender, 0, 3 * per_block + 1, 60);
    await_ready(capture, 3);
    is_int(netring_capture_dispatch(capture, 1000, 3, stop_at_once, &records), 3,
           "dispatch: part of a block");
    is_int(netring_capture_dispatch(capture, 1000, 0, keep, &records), per_block - 3,
           "dispatch: what is left of the block");
    is_int(netring_capture_dispatch(capture, 1000, 2 * per_block, keep, &records), 2 * per_block,
           "dispatch: goes on into the next block");
    is_int(netring_capture_dispatch(capture, 0, 0, keep, &records), 0, "dispatch: all taken");
    is_frames(&records, 0, 3 * per_block, 60, 60, "dispatch");

    records_free(&records);
    send_frames(sender, 0, 4 * per_block, 60);
    await_ready(capture, 4);
    n = netring_capture_dispatch(capture, 1000, 4 * per_block, stop_at_once, &records);
    is_int(n, records.count, "dispatch: the callback ends the call");
    is_between(records.count, 1, 64, "dispatch: after the batch it got");
    errno = 0;
    is_int(netring_capture_dispatch(capture, 1000, 1, reenter, &reentry), 1, "dispatch: one");
    ok(reentry.calls == 1 && reentry.dispatch == NETRING_EBUSY &&
           reentry.next_packet == NETRING_EBUSY,
       "dispatch and next_packet from the callback are refused (%d, %d)", reentry.dispatch,
       reentry.next_packet);
    capture_close(capture);
    records_free(&records);
}

static int close_at_once(void *user, const struct netring_packet *packets, size_t count,
                         size_t size)
{
    (void)packets, (void)count, (void)size;
    return netring_capture_close(user);
}

/* A callback may close the capture it was called for. */
static void test_close_from_callback(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    struct footprint before;

    send_frames(sender, 0, 3, 60);
    await_seen(capture, 3);
    netring_capture_flush(capture);
    is_int(netring_capture_dispatch(capture, 1000, 0, close_at_once, capture), 3,
           "dispatch: the callback closes the capture");
    is_int(netring_capture_close(capture), NETRING_EBADF, "dispatch: which is closed then");
    before = footprint_now();
    capture_close(capture_open("vb", &config));
    is_footprint(before, "dispatch: and another one");
    is_int(before.mappings, 0, "dispatch: no mapping is left");
}

/* next_packet and next_block on one capture share its packets: none twice, none lost. */
static void test_mixed_ways(void)
{
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture = capture_open("vb", &config);
    const uint32_t per_block = frames_per_page(60);
    struct records records = {0, 0, NULL};

    send_frames(sender, 0, 3 * per_block + 1, 60);
    await_ready(capture, 3);
    take_next_packet(capture, 2, &records);
    take_dispatch(capture, per_block, &records);
    receive(capture, 3 * per_block, 0, &records);
    is_frames(&records, 0, 3 * per_block, 60, 60, "next_packet, dispatch and next_block in turn");
    capture_close(capture);
    records_free(&records);
}

/* ---- blocks ---- */

static void test_block_info(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    uint64_t last_sequence = 0, last_ns = (uint64_t)clock_ns(CLOCK_REALTIME);
    unsigned packets = 0, blocks = 0, gaps = 0, counts = 0, times = 0, by_timer = 0, links = 0;

    for (uint32_t burst = 0; burst < 5; burst++) {
        struct netring_block *block;
        struct netring_block_info info;
        struct records records = {0, 0, NULL};

        send_frames(sender, 0, 10, 100);
        if (!is_int(netring_capture_next_block(capture, 1000, &block), 1, "a block a burst"))
            break;
        memset(&info, 0xa5, sizeof info);
        is_int(netring_block_info(block, &info, sizeof info), 0, "netring_block_info");
        block_records(block, 64, &records);
        packets += (unsigned)records.count;
        blocks++;
        gaps += last_sequence && info.sequence != last_sequence + 1;
        counts += info.count != records.count || info.size != sizeof info;
        times += info.first_ns > info.last_ns || info.last_ns < last_ns ||
                 info.last_ns > (uint64_t)clock_ns(CLOCK_REALTIME);
        by_timer += (info.flags & NETRING_BLOCK_TIMEOUT) != 0;
        links += info.ifindex == net_index("vb");
        last_sequence = info.sequence;
        last_ns = info.last_ns;
        netring_block_release(block);
        records_free(&records);
    }
    is_between(packets, 10, 50, "blocks: packets");
    is_int(counts, 0, "block info: the count is what read finds, the size is written");
    is_int(gaps, 0, "block info: sequence numbers without a gap");
    is_int(times, 0, "block info: first <= last, in the order of time");
    is_int(by_timer, blocks, "block info: handed over by the timer");
    is_int(links, blocks, "block info: ifindex");
    is_int(capture_stats(capture).sequence_gaps, 0, "no sequence gap counted");
    capture_close(capture);
}

/* What the reader writes into a packet is there until the release. */
static void test_writable(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *block = block_of(capture, sender, 0, 3, 60);
    struct netring_packet packets[3];
    uint8_t all[60], frame[60];

    memset(all, 0xee, sizeof all);
    netring_block_read(block, packets, sizeof *packets, 3);
    memcpy(packets[1].data, all, sizeof all);
    netring_block_rewind(block);
    is_int(netring_block_read(block, packets, sizeof *packets, 3), 3, "written: read again");
    is_bytes(packets[1].data, all, sizeof all, "written: as it was written");
    frame_make(frame, 60, 2);
    is_bytes(packets[2].data, frame, 60, "written: its neighbour is untouched");
    netring_block_release(block);
    capture_close(capture);
}

/* Held blocks survive the close of their capture, every one with its content. */
static void test_held_at_close(void)
{
    enum { HELD = 4 };
    struct netring_capture_config config = page_config(2 * HELD);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *blocks[HELD];
    struct netring_packet before[HELD][3], after;
    const uint32_t per_block = frames_per_page(60);
    unsigned moved = 0;

    send_frames(sender, 0, HELD * per_block + 1, 60);
    await_ready(capture, HELD);
    for (int i = 0; i < HELD; i++) {
        if (netring_capture_next_block(capture, 0, &blocks[i]) != 1)
            tap_bail("no block");
        netring_block_read(blocks[i], before[i], sizeof before[i][0], 3);
    }
    netring_block_release(blocks[1]);
    capture_close(capture);
    is_int(footprint_now().mappings, 0, "held at close: the socket's mapping is gone");
    for (int i = HELD - 1; i >= 0; i--) {
        struct records records = {0, 0, NULL};

        if (i == 1)
            continue;
        netring_block_rewind(blocks[i]);
        block_records(blocks[i], 64, &records);
        is_frames(&records, (uint32_t)i * per_block, per_block, 60, 60, "held at close");
        netring_block_rewind(blocks[i]);
        netring_block_read(blocks[i], &after, sizeof after, 1);
        moved += after.data != before[i][0].data;
        is_int(netring_block_release(blocks[i]), 0, "held at close: released");
        is_int(netring_block_release(blocks[i]), NETRING_EBADF, "held at close: once");
        records_free(&records);
    }
    is_int(moved, 0, "held at close: at their address");
}

/* ---- the packet's fields ---- */

/* Sends one frame, receives one packet. */
static bool one_packet(struct netring_capture *capture, int from, const uint8_t *frame,
                       size_t length, struct records *records, const char *what)
{
    net_send(from, frame, length);
    receive(capture, 1, 1000, records);
    return is_int(records->count, 1, "%s: one packet", what);
}

static void test_fields(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records = {0, 0, NULL};
    int64_t before = clock_ns(CLOCK_REALTIME), after;
    uint8_t frame[60];
    const struct netring_packet *packet;

    frame_make(frame, sizeof frame, 1);
    if (one_packet(capture, sender, frame, sizeof frame, &records, "fields")) {
        after = clock_ns(CLOCK_REALTIME);
        packet = &records.v[0].packet;
        is_int(packet->len, 60, "len");
        is_int(packet->caplen, 60, "caplen");
        is_between(packet->time_ns, before, after, "time_ns");
        ok(packet->clock == NETRING_CLOCK_SOFTWARE || packet->clock == NETRING_CLOCK_COPY,
           "clock (%u)", packet->clock);
        ok(packet->status & NETRING_PACKET_PROTOCOL, "protocol is valid");
        is_int(packet->protocol, ETHERTYPE_TEST, "protocol");
        ok(packet->status & NETRING_PACKET_NET_OFFSET, "net_offset is valid");
        is_int(packet->net_offset, ETHER_HEADER, "net_offset");
        ok(packet->status & NETRING_PACKET_RXHASH, "rxhash is valid");
        ok(!(packet->status &
             (NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID | NETRING_PACKET_TRUNCATED |
              NETRING_PACKET_CSUM_NOT_READY | NETRING_PACKET_GSO_TCP)),
           "no tag, not truncated, no checksum to come, no GSO (0x%x)", packet->status);
        is_int(packet->vlan_tci, 0, "vlan_tci of an untagged frame");
        is_int(packet->vlan_tpid, 0, "vlan_tpid of an untagged frame");
        is_int(packet->ifindex, net_index("vb"), "ifindex");
        is_int(packet->link_type, 1, "link_type");
        is_int(packet->reserved, 0, "reserved");
    }
    capture_close(capture);
    records_free(&records);
}

static void test_directions(void)
{
    static const struct {
        const char *name;
        uint8_t to[6];
        uint8_t direction;
    } cases[] = {
        {"broadcast", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, NETRING_DIRECTION_BROADCAST},
        {"multicast", {1, 0, 0x5e, 0, 0, 1}, NETRING_DIRECTION_MULTICAST},
        {"to someone else", {2, 0, 0, 0, 0, 2}, NETRING_DIRECTION_OTHERHOST},
        {"to us", {0}, NETRING_DIRECTION_HOST},
        {"outgoing", {2, 0, 0, 0, 0, 2}, NETRING_DIRECTION_OUTGOING},
    };
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    int own = net_sender("vb");

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct records records = {0, 0, NULL};
        bool outgoing = cases[i].direction == NETRING_DIRECTION_OUTGOING;
        uint8_t frame[60];

        frame_make(frame, sizeof frame, 1);
        memcpy(frame, cases[i].to, 6);
        if (cases[i].direction == NETRING_DIRECTION_HOST)
            net_address("vb", frame);
        if (one_packet(capture, outgoing ? own : sender, frame, sizeof frame, &records,
                       cases[i].name)) {
            is_int(records.v[0].packet.direction, cases[i].direction, "direction %s",
                   cases[i].name);
            ok(records.v[0].packet.status & NETRING_PACKET_DIRECTION, "direction is valid");
        }
        records_free(&records);
    }
    close(own);
    capture_close(capture);
}

static void test_rxhash_off(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    uint8_t frame[60];

    config.flags &= ~(uint64_t)NETRING_CAPTURE_RXHASH;
    capture = capture_open("vb", &config);
    frame_make(frame, sizeof frame, 1);
    if (one_packet(capture, sender, frame, sizeof frame, &records, "without rxhash")) {
        ok(!(records.v[0].packet.status & NETRING_PACKET_RXHASH), "rxhash is not valid");
        is_int(records.v[0].packet.rxhash, 0, "rxhash is 0");
    }
    capture_close(capture);
    records_free(&records);
}

static void test_link_address(void)
{
    static const uint8_t from[6] = {2, 0, 0, 0, 0, 1};
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *block = block_of(capture, sender, 0, 3, 60);
    struct netring_packet packets[3];
    uint8_t address[8];

    is_int(netring_block_read(block, packets, sizeof *packets, 3), 3, "link address: packets");
    for (int i = 2; i >= 0; i--) {
        memset(address, 0, sizeof address);
        is_int(netring_block_address(block, packets[i].cookie, address, sizeof address), 6,
               "the link-layer address of packet %d", i);
        is_bytes(address, from, sizeof from, "is its sender's");
    }
    netring_block_release(block);
    capture_close(capture);
}

/* ---- VLAN tags ---- */

static void test_vlan(void)
{
    static const struct {
        const char *name;
        uint16_t tpid, tci, inner;
        bool stripped;
    } cases[] = {
        {"802.1Q", 0x8100, 0x6064, 0, true},
        {"priority tag", 0x8100, 0, 0, true},
        {"802.1ad", 0x88a8, 0x0123, 0, true},
        {"QinQ", 0x88a8, 0x0fff, 0x8100, true},
        {"802.1Q twice", 0x8100, 0x2001, 0x8100, true},
        {"pre-standard 0x9100", 0x9100, 0x0042, 0, false},
    };
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct records records = {0, 0, NULL};
        uint8_t frame[128], restored[128];
        size_t plain = frame_make(frame, 100, (uint32_t)i), length = plain;
        const struct netring_packet *packet;

        if (cases[i].inner)
            length = frame_tag(frame, length, cases[i].inner, 0x0321);
        length = frame_tag(frame, length, cases[i].tpid, cases[i].tci);
        if (one_packet(capture, sender, frame, length, &records, cases[i].name)) {
            packet = &records.v[0].packet;
            is_int((packet->status & NETRING_PACKET_VLAN) != 0, cases[i].stripped,
                   "%s: tag in the metadata", cases[i].name);
            is_int((packet->status & NETRING_PACKET_VLAN_TPID) != 0, cases[i].stripped,
                   "%s: with its TPID", cases[i].name);
            is_int(packet->vlan_tci, cases[i].stripped ? cases[i].tci : 0, "%s: TCI",
                   cases[i].name);
            is_int(packet->vlan_tpid, cases[i].stripped ? cases[i].tpid : 0, "%s: TPID",
                   cases[i].name);
            is_int(packet->protocol,
                   cases[i].inner      ? cases[i].inner
                   : cases[i].stripped ? ETHERTYPE_TEST
                                       : cases[i].tpid,
                   "%s: protocol behind the tag", cases[i].name);
            is_int(packet->len, length - (cases[i].stripped ? 4 : 0), "%s: len without the tag",
                   cases[i].name);
            if (is_int(frame_restore(packet, restored), length, "%s: length on the wire",
                       cases[i].name))
                is_bytes(restored, frame, length, "%s: the frame with its tag put back",
                         cases[i].name);
        }
        records_free(&records);
    }
    capture_close(capture);
}

/* ---- what a capture takes ---- */

static void test_stride(void)
{
    enum { STRIDE = 128 };
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *block = block_of(capture, sender, 0, 5, 60);
    struct netring_packet plain[5];
    _Alignas(8) uint8_t strided[5 * STRIDE + 8];
    unsigned unlike = 0;

    memset(strided, 0xa5, sizeof strided);
    is_int(netring_block_read(block, plain, sizeof *plain, 5), 5, "stride: plain");
    netring_block_rewind(block);
    is_int(netring_block_read(block, (struct netring_packet *)(void *)strided, STRIDE, 5), 5,
           "elements larger than the library's struct");
    for (size_t i = 0; i < 5; i++)
        unlike += memcmp(strided + i * STRIDE, &plain[i], sizeof plain[i]) != 0;
    is_int(unlike, 0, "are filled at their own distance");
    is_int(strided[5 * STRIDE], 0xa5, "and nothing behind them");
    netring_block_rewind(block);
    is_int(netring_block_read(block, plain, sizeof *plain / 2, 5), NETRING_EINVAL,
           "elements smaller than the struct are refused");
    netring_block_release(block);
    capture_close(capture);
}

static void test_snap_length(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    uint8_t frame[FRAME_MAX];
    unsigned wrong = 0;

    config.snap_length = 100;
    capture = capture_open("vb", &config);
    is_int(capture_info(capture).snap_length, 100, "info tells the snap length");
    for (uint32_t i = 0; i < 40; i++)
        net_send(sender, frame, frame_make(frame, 81 + i, i));
    receive(capture, 40, 1000, &records);
    is_int(records.count, 40, "snap length: all arrive");
    for (uint32_t i = 0; i < records.count; i++) {
        const struct netring_packet *packet = &records.v[i].packet;
        bool cut = 81 + i > 100;

        frame_make(frame, 81 + i, i);
        wrong += packet->len != 81 + i || packet->caplen != (cut ? 100 : 81 + i) ||
                 ((packet->status & NETRING_PACKET_TRUNCATED) != 0) != cut ||
                 memcmp(packet->data, frame, packet->caplen) != 0;
    }
    is_int(wrong, 0, "cut to 100 bytes, with the original length, and marked where cut");
    is_int(capture_stats(capture).truncated, 20, "truncated are counted");
    capture_close(capture);
    records_free(&records);
}

static struct netring_filter *only_test_frames(uint32_t keep_bytes)
{
    const struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETHERTYPE_TEST, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, keep_bytes),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct netring_filter *filter = NULL;
    int rc = netring_filter_new(program, COUNT(program), &filter, NULL);

    if (rc != 0)
        tap_bail("netring_filter_new: %s", netring_err_name(rc));
    return filter;
}

static void test_filter(void)
{
    static const struct {
        const char *name;
        uint32_t keep, snap, caplen;
    } cases[] = {
        {"filter", 0x40000, 0, 200},
        {"filter that cuts", 90, 0, 90},
        {"filter and snap length", 0x40000, 70, 70},
        {"filter that cuts more than the snap length", 80, 120, 80},
        {"filter that cuts less than the snap length", 120, 80, 80},
    };
    uint8_t frame[FRAME_MAX];

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_filter *filter = only_test_frames(cases[i].keep);
        struct netring_capture_config config = small_config();
        struct records records = {0, 0, NULL};
        struct netring_capture *capture;
        unsigned wrong = 0;

        config.filter = filter;
        config.snap_length = cases[i].snap;
        capture = capture_open("vb", &config);
        is_int(netring_filter_free(filter), 0, "%s: a capture keeps its own copy", cases[i].name);
        for (uint32_t n = 0; n < 60; n++) {
            frame_make(frame, 200, n);
            frame[13] = n % 3 ? 0xb6 : ETHERTYPE_TEST & 0xff;
            net_send(sender, frame, 200);
        }
        receive(capture, 20, 1000, &records);
        is_int(netring_capture_next_block(capture, 50, &(struct netring_block *){NULL}), 0,
               "%s: nothing more", cases[i].name);
        is_int(records.count, 20, "%s: what it takes", cases[i].name);
        for (uint32_t n = 0; n < records.count; n++)
            wrong += frame_number(records.v[n].packet.data) != 3 * n ||
                     records.v[n].packet.caplen != cases[i].caplen ||
                     records.v[n].packet.len != 200;
        is_int(wrong, 0, "%s: the right ones, of the right length", cases[i].name);
        is_int(capture_stats(capture).received, 20, "%s: counts what it takes", cases[i].name);
        capture_close(capture);
        records_free(&records);
    }
}

static void test_any(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("any", &config);
    struct netring_capture_info info = capture_info(capture);
    struct records records = {0, 0, NULL};
    unsigned out = 0, in = 0, other = 0, ethernet = 0;

    is_int(info.ifindex, 0, "any: no ifindex");
    is_str(info.interface, "any", "any: its name");
    is_int(info.link_type, NETRING_LINKTYPE_UNKNOWN, "any: each packet has its own link type");
    send_frames(sender, 0, 10, 60);
    receive(capture, 20, 1000, &records);
    for (size_t i = 0; i < records.count; i++) {
        const struct netring_packet *packet = &records.v[i].packet;

        ethernet += packet->link_type == 1;
        if (packet->ifindex == net_index("va") && packet->direction == NETRING_DIRECTION_OUTGOING)
            out++;
        else if (packet->ifindex == net_index("vb") &&
                 packet->direction == NETRING_DIRECTION_OTHERHOST)
            in++;
        else
            other++;
    }
    is_int(out, 10, "any: leaving at one end");
    is_int(in, 10, "any: coming in at the other end");
    is_int(other, 0, "any: nothing else");
    is_int(ethernet, records.count, "any: link types");
    ok(!(capture_stats(capture).valid & NETRING_STATS_INTERFACE),
       "any: no interface's counters are told");
    send_frames(sender, 0, 3, 60);
    await_seen(capture, 26);
    is_int(netring_capture_flush(capture), 0, "any: flush");
    records_free(&records);
    receive(capture, 6, 1000, &records);
    is_int(records.count, 6, "any: flushed packets");
    send_frames(sender, 0, 3, 60);
    receive(capture, 12, 100, &records);
    is_int(records.count, 12, "any: and those after");
    capture_close(capture);
    records_free(&records);
}

static void test_lo(void)
{
    static const struct {
        const char *name;
        uint64_t flags;
        unsigned delivered, looped;
    } cases[] = {
        {"lo", 0, 25, 25},
        {"lo, outgoing kept", NETRING_CAPTURE_KEEP_LOOPED, 50, 0},
        {"lo, outgoing ignored", NETRING_CAPTURE_IGNORE_OUTGOING, 25, 0},
    };
    struct net_udp udp = net_udp_open();

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_capture_config config = small_config();
        struct netring_capture *capture;
        struct netring_stats stats;
        struct records records = {0, 0, NULL};
        unsigned outgoing = 0, pending = 0;

        config.flags |= cases[i].flags;
        capture = capture_open("lo", &config);
        for (int n = 0; n < 25; n++)
            net_udp_send(&udp, "some data", 9);
        receive(capture, 1000, 200, &records);
        for (size_t n = 0; n < records.count; n++) {
            outgoing += records.v[n].packet.direction == NETRING_DIRECTION_OUTGOING;
            pending += (records.v[n].packet.status & NETRING_PACKET_CSUM_NOT_READY) != 0;
        }
        stats = capture_stats(capture);
        is_int(records.count, cases[i].delivered, "%s: packets", cases[i].name);
        is_int(outgoing, cases[i].delivered - 25, "%s: outgoing ones among them", cases[i].name);
        is_int(pending, cases[i].delivered, "%s: checksums that nobody filled in", cases[i].name);
        is_int(stats.looped, cases[i].looped, "%s: looped", cases[i].name);
        is_int(stats.delivered, cases[i].delivered, "%s: delivered", cases[i].name);
        is_int(stats.received, cases[i].delivered + cases[i].looped, "%s: received", cases[i].name);
        is_int(capture_info(capture).link_type, 1, "%s: link type", cases[i].name);
        capture_close(capture);
        records_free(&records);
    }
    net_udp_close(&udp);
}

/* A block of looped packets, marked away: every way of walking leaves them out. */
static void test_looped_everywhere(void)
{
    static void (*const walks[])(struct netring_block *, struct records *) = {
        walk_read_7,
        walk_view,
#ifdef HAVE_INLINE
        walk_inline,
#endif
    };
    struct netring_capture_config config = page_config(4);
    struct net_udp udp = net_udp_open();

    for (size_t i = 0; i < COUNT(walks); i++) {
        struct netring_capture *capture = capture_open("lo", &config);
        struct netring_block *block;
        struct records records = {0, 0, NULL};

        for (int n = 0; n < 5; n++)
            net_udp_send(&udp, "some data", 9);
        await_seen(capture, 10);
        netring_capture_flush(capture);
        if (is_int(netring_capture_next_block(capture, 1000, &block), 1, "looped: a block")) {
            walks[i](block, &records);
            is_int(records.count, 5, "looped packets are left out by walk %zu", i);
            netring_block_release(block);
        }
        capture_close(capture);
        records_free(&records);
    }
    net_udp_close(&udp);
}

static void test_ignore_outgoing(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    int own = net_sender("vb");

    config.flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
    capture = capture_open("vb", &config);
    send_frames(own, 0, 10, 60);
    send_frames(sender, 0, 10, 60);
    receive(capture, 20, 100, &records);
    is_frames(&records, 0, 10, 60, 60, "outgoing ignored");
    is_int(capture_stats(capture).received, 10, "outgoing ignored: by the kernel already");
    ok(capture_info(capture).flags & NETRING_CAPTURE_IGNORE_OUTGOING, "info tells the flag");
    close(own);
    capture_close(capture);
    records_free(&records);
}

/* A flag that makes the link take more lasts as long as the capture is open, held blocks or not. */
static void test_membership(void)
{
    static const struct {
        const char *name;
        uint64_t flag;
        int (*users)(const char *);
    } cases[] = {
        {"promiscuous", NETRING_CAPTURE_PROMISCUOUS, net_promiscuity},
        {"all multicast", NETRING_CAPTURE_ALL_MULTICAST, net_allmulti},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_capture_config config = small_config();
        struct netring_block *block = NULL;
        struct netring_packet packet;
        struct netring_capture *capture;
        uint8_t frame[60];

        if (cases[i].users("vb") < 0) {
            tap_skip(cases[i].name, "this kernel does not tell");
            continue;
        }
        is_int(cases[i].users("vb"), 0, "%s: before", cases[i].name);
        config.flags |= cases[i].flag;
        capture = capture_open("vb", &config);
        is_int(cases[i].users("vb"), 1, "%s: while open", cases[i].name);
        ok(capture_info(capture).flags & cases[i].flag, "%s: info tells", cases[i].name);
        send_frames(sender, 7, 1, 60);
        is_int(netring_capture_next_block(capture, 1000, &block), 1, "%s: a block", cases[i].name);
        capture_close(capture);
        is_int(cases[i].users("vb"), 0, "%s: closed, with a block still held", cases[i].name);
        frame_make(frame, 60, 7);
        is_int(netring_block_read(block, &packet, sizeof packet, 1), 1,
               "%s: the block can be read after close", cases[i].name);
        is_bytes(packet.data, frame, 60, "%s: and still holds its packet", cases[i].name);
        is_int(netring_block_release(block), 0, "%s: and released", cases[i].name);
    }
}

/* ---- sizes ---- */

static void test_jumbo(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};

    net_link_mtu("va", 9000);
    net_link_mtu("vb", 9000);
    capture = capture_open("vb", &config);
    send_frames(sender, 0, 20, 9014);
    receive(capture, 20, 1000, &records);
    is_frames(&records, 0, 20, 9014, 9014, "jumbo frames");
    capture_close(capture);
    records_free(&records);
    net_link_mtu("va", 1500);
    net_link_mtu("vb", 1500);
}

static void test_geometry(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_capture_info info;
    uint32_t page = (uint32_t)getpagesize();

    config.block_size = page + 1;
    config.block_count = 5;
    config.frame_size = 2048;
    config.block_timeout = 77;
    capture = capture_open("vb", &config);
    info = capture_info(capture);
    is_int(info.size, sizeof info, "info: size");
    is_int(info.method, NETRING_METHOD_TPACKET3, "info: method");
    is_int(info.requested_block_size, page + 1, "info: requested block size");
    is_int(info.requested_block_count, 5, "info: requested block count");
    is_int(info.block_size, 2 * page, "info: block size, rounded up to pages");
    is_int(info.block_count, 5, "info: block count");
    is_int(info.frame_size, 2048, "info: frame size");
    is_int(info.frame_count, 5 * 2 * page / 2048, "info: frame count");
    is_int(info.memory, 5 * 2 * page, "info: memory");
    ok(info.memory_bound >= info.memory, "info: the bound (%llu)",
       (unsigned long long)info.memory_bound);
    is_int(info.shrinks, 0, "info: not shrunk");
    is_int(info.shrunk_by, 0, "info: by nothing");
    is_int(info.block_timeout, 77, "info: block timeout");
    is_int(info.ifindex, net_index("vb"), "info: ifindex");
    is_int(info.link_type, 1, "info: link type");
    is_int(info.snap_length, 0, "info: no snap length");
    is_int(info.flags, NETRING_CAPTURE_RXHASH, "info: flags");
    is_str(info.interface, "vb", "info: interface");
    ok(info.kernel_version >= 0x040000, "info: kernel version (0x%x)", info.kernel_version);
    is_int(info.timer_ms, 77, "info: the kernel's timer");
    capture_close(capture);

    config.block_size = 3 * page;
    capture = capture_open("vb", &config);
    info = capture_info(capture);
    is_int(info.block_size, 3 * page, "info: blocks of 3 pages");
    is_int(info.memory, 5 * 4 * page, "info: for which the kernel takes 4");
    capture_close(capture);
}

static void test_kernel_timeout(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    uint8_t frame[60];

    config.block_timeout = NETRING_BLOCK_TIMEOUT_KERNEL;
    capture = capture_open("vb", &config);
    is_int(capture_info(capture).timer_ms, 0, "the kernel's own block timeout: asked for");
    is_int(capture_info(capture).block_timeout, NETRING_BLOCK_TIMEOUT_KERNEL,
           "the kernel's own block timeout: told");
    frame_make(frame, sizeof frame, 1);
    one_packet(capture, sender, frame, sizeof frame, &records, "the kernel's own block timeout");
    capture_close(capture);
    records_free(&records);
}

/* Descriptors close on exec, the ring stays out of core dumps. */
static void test_hygiene(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    bool before[64];
    unsigned own = 0, inherited = 0, dumped = 0, rings = 0;
    char line[512];
    bool ring = false;
    FILE *maps;

    for (int fd = 0; fd < (int)COUNT(before); fd++)
        before[fd] = fcntl(fd, F_GETFD) >= 0;
    capture = capture_open("vb", &config);
    for (int fd = 0; fd < (int)COUNT(before); fd++) {
        int flags = fcntl(fd, F_GETFD);

        if (flags < 0 || before[fd])
            continue;
        own++;
        inherited += !(flags & FD_CLOEXEC);
    }
    ok(own >= 2 && inherited == 0, "all of the %u descriptors of a capture close on exec", own);
    maps = fopen("/proc/self/smaps", "re");
    while (maps && fgets(line, sizeof line, maps)) {
        if (strchr(line, '-') && strstr(line, " rw-s "))
            ring = strstr(line, "socket:") != NULL;
        if (ring && strncmp(line, "VmFlags:", 8) == 0) {
            rings++;
            dumped += strstr(line, " dd") == NULL;
            ring = false;
        }
    }
    if (maps)
        fclose(maps);
    ok(rings == 1 && dumped == 0, "the ring (%u mapping) is left out of core dumps", rings);
    capture_close(capture);
}

/* Many captures on one link: each gets everything. */
static void test_many(void)
{
    enum { MANY = 40 };
    struct netring_capture_config config = page_config(4);
    struct netring_capture *captures[MANY];
    unsigned whole = 0;

    for (int i = 0; i < MANY; i++)
        captures[i] = capture_open("vb", &config);
    send_frames(sender, 0, 5, 60);
    for (int i = 0; i < MANY; i++) {
        await_seen(captures[i], 5);
        netring_capture_stop(captures[i]);
    }
    for (int i = MANY - 1; i >= 0; i -= 1) {
        struct records records = {0, 0, NULL};

        receive(captures[i], 5, 0, &records);
        whole += records.count == 5;
        records_free(&records);
        capture_close(captures[i]);
    }
    is_int(whole, MANY, "many captures on one link each get everything");
}

/* ---- GSO ---- */

/* One TCP connection over lo that carries `size` bytes. */
static void tcp_transfer(size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int door = socket(AF_INET, SOCK_STREAM, 0), from = socket(AF_INET, SOCK_STREAM, 0), to;
    char *data = calloc(1, size);
    ssize_t n;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!data || bind(door, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(door, 1) != 0 || getsockname(door, (struct sockaddr *)&address, &length) != 0 ||
        connect(from, (struct sockaddr *)&address, sizeof address) != 0)
        tap_bail("TCP over lo: %s", strerror(errno));
    to = accept(door, NULL, NULL);
    for (size_t sent = 0, got = 0; got < size; got += (size_t)n) {
        if (sent < size && (n = send(from, data, size - sent, MSG_DONTWAIT)) > 0)
            sent += (size_t)n;
        n = recv(to, data, size, 0);
        if (n <= 0)
            tap_bail("TCP over lo: %s", strerror(errno));
    }
    close(from);
    close(to);
    close(door);
    free(data);
}

static void test_gso(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    unsigned large = 0, marked = 0;

    net_link_mtu("lo", 1500);
    config.block_size = 256 * KIB;
    config.block_count = 4;
    capture = capture_open("lo", &config);
    tcp_transfer(128 * KIB);
    receive(capture, 1000, 200, &records);
    for (size_t i = 0; i < records.count; i++) {
        large += records.v[i].packet.len > 1514;
        marked += (records.v[i].packet.status & NETRING_PACKET_GSO_TCP) != 0;
    }
    if (large && capture_info(capture).kernel_version >= 0x060200)
        is_int(marked, large, "packets larger than the MTU are marked as TCP to be segmented");
    else
        tap_skip("TCP to be segmented", "this kernel does not mark it");
    capture_close(capture);
    records_free(&records);
    net_link_mtu("lo", 65536);
}

int main(void)
{
    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");

    test_ways();
    test_dispatch();
    test_close_from_callback();
    test_mixed_ways();
    test_block_info();
    test_writable();
    test_held_at_close();
    test_fields();
    test_directions();
    test_rxhash_off();
    test_link_address();
    test_vlan();
    test_stride();
    test_snap_length();
    test_filter();
    test_any();
    test_lo();
    test_looped_everywhere();
    test_ignore_outgoing();
    test_membership();
    test_jumbo();
    test_geometry();
    test_kernel_timeout();
    test_hygiene();
    test_many();
    test_gso();
    return tap_end();
}
