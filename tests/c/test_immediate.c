/* Immediate mode: each packet is handed over at once, through the same blocks, counters, descriptor
 * and walks as in blocks of the kernel's making. What was sent is what arrives, byte for byte;
 * blocks held and released in any order; overload, close, removal, rebind, several threads. */
#include "support.h"

#include <errno.h>
#include <netring_inline.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int sender; /* on va; what it sends arrives at vb */

/* Room for about 240 packets of a common size. */
static struct netring_capture_config immediate_config(void)
{
    struct netring_capture_config config = small_config();

    config.flags |= NETRING_CAPTURE_IMMEDIATE;
    config.snap_length = 9018;
    config.block_size = 128 * KIB;
    config.block_count = 8;
    return config;
}

/* How many packets the ring holds. */
static uint32_t frames_of(struct netring_capture *capture)
{
    return capture_info(capture).frame_count;
}

static struct netring_block *next(struct netring_capture *capture)
{
    struct netring_block *block;

    return netring_capture_next_block(capture, tap_patience(1000), &block) == 1 ? block : NULL;
}

static struct netring_block_info info_of(struct netring_block *block)
{
    struct netring_block_info info;

    if (netring_block_info(block, &info, sizeof info) != 0)
        tap_bail("netring_block_info");
    return info;
}

static void test_grants(void)
{
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_capture *capture;
    struct netring_capture_info info;

    config.block_count = 4;
    config.flags |= NETRING_CAPTURE_IMMEDIATE;
    capture = capture_open("vb", &config);
    info = capture_info(capture);
    is_int(info.method, NETRING_METHOD_TPACKET2, "the method");
    is_int(info.frame_size >= 65536 + 82 && info.frame_size < 65536 + 256, 1,
           "a frame of %u bytes holds the largest packet", info.frame_size);
    is_int(info.frame_count, 4 * (MIB / info.frame_size), "frames");
    is_int(info.timer_ms, 0, "no timer");
    is_int(info.flags, NETRING_CAPTURE_IMMEDIATE, "no flow hash");
    is_int(capture_stats(capture).valid & NETRING_STATS_FREEZES, 0, "no freezes");
    capture_close(capture);

    config.snap_length = 96;
    capture = capture_open("vb", &config);
    is_int(capture_info(capture).frame_size, 2048,
           "a small snap length makes frames of frame_size");
    capture_close(capture);
    config.frame_size = 96;
    capture = capture_open("vb", &config);
    is_int(capture_info(capture).frame_size, 96 + 128, "or smaller ones");
    capture_close(capture);
    config.block_size = 4096;
    config.snap_length = 0;
    capture = capture_open("vb", &config);
    is_int(capture_info(capture).frame_size, 4096, "a frame ends with its block");
    capture_close(capture);

    config.flags &= ~(uint64_t)NETRING_CAPTURE_IMMEDIATE;
    capture = capture_open("vb", &config);
    is_int(capture_info(capture).method, NETRING_METHOD_TPACKET3, "without the flag: blocks");
    ok(capture_stats(capture).valid & NETRING_STATS_FREEZES, "which count freezes");
    capture_close(capture);
}

/* Blocks of the kernel's making would wait for their timer: a minute. */
static void test_at_once(void)
{
    struct netring_capture_config config = immediate_config();
    struct netring_capture *capture;
    int64_t longest = 0;

    config.block_timeout = 60000;
    capture = capture_open("vb", &config);
    for (uint32_t i = 0; i < 50; i++) {
        struct records records = {0};
        struct pollfd set = {.fd = netring_capture_fd(capture), .events = POLLIN};
        int64_t begin = now_ms();

        if (poll(&set, 1, 0) != 0)
            ok(false, "readable without a packet");
        send_frames(sender, i, 1, 60);
        /* Every other one by the descriptor. */
        if (i % 2 && poll(&set, 1, tap_patience(1000)) != 1)
            ok(false, "not readable");
        receive(capture, 1, tap_patience(1000), &records);
        if (now_ms() - begin > longest)
            longest = now_ms() - begin;
        if (records.count != 1 || frame_number(records.v[0].packet.data) != i)
            ok(false, "packet %u", i);
        records_free(&records);
    }
    is_between(longest, 0, tap_patience(200), "50 lone packets, each at once (%d ms at most)",
               (int)longest);
    capture_close(capture);
}

/* Sends frames first..first+count-1 of mixed lengths. */
static void send_mixed(uint32_t first, uint32_t count)
{
    uint8_t frame[FRAME_MAX];

    for (uint32_t i = first; i < first + count; i++) {
        size_t length = frame_mixed(i, 60, FRAME_MAX);

        frame_make(frame, length, i);
        net_send(sender, frame, length);
    }
}

/* The walks agree: read, inline and the view. Returns the packets. */
static uint32_t walks_agree(struct netring_block *block)
{
    struct netring_cursor cursor;
    struct netring_block_view view;
    struct netring_packet packet, same;
    uint32_t count = 0;
    uint64_t offset;

    if (netring_cursor_init(&cursor, block) != 0 ||
        netring_block_view(block, &view, sizeof view) != 0)
        ok(false, "cursor or view");
    offset = view.first;
    is_int(view.layout, NETRING_LAYOUT_TPACKET3, "the layout of all blocks");
    netring_block_rewind(block);
    while (netring_block_read(block, &packet, sizeof packet, 1) == 1) {
        uint8_t address[8];
        uint32_t step;

        memset(&same, 0xff, sizeof same);
        if (netring_cursor_next(&cursor) != 1)
            ok(false, "the inline walk ends early");
        netring_cursor_packet(&cursor, &same);
        if (memcmp(&same, &packet, sizeof same) != 0)
            ok(false, "packet %u: the inline walk differs", count);
        if (packet.cookie != offset)
            ok(false, "packet %u: the view says %llu", count, (unsigned long long)offset);
        if (netring_block_address(block, packet.cookie, address, sizeof address) != 6 ||
            memcmp(address, packet.data + 6, 6) != 0)
            ok(false, "packet %u: the address", count);
        memcpy(&step, view.base + offset, sizeof step);
        offset += step;
        count++;
    }
    is_int(netring_cursor_next(&cursor) || netring_cursor_damaged(&cursor), 0,
           "the walks end after %u packets", count);
    is_int(count, view.count, "as many as the view has");
    return count;
}

static void test_bytes(void)
{
    struct netring_capture_config config = immediate_config();
    struct netring_capture *capture = capture_open("vb", &config);
    uint32_t frames = frames_of(capture), number = 0;
    struct netring_stats stats;
    uint64_t sequence = 1, blocks = 0;

    /* More than three times around the ring, in pieces of a prime number. */
    for (uint32_t sent = 0; sent < 3 * frames + 50; sent += 37) {
        struct records records = {0};

        send_mixed(sent, 37);
        while (records.count < 37) {
            struct netring_block *block = next(capture);
            struct netring_block_info info;

            if (block == NULL) {
                ok(false, "%u of 37 packets", (unsigned)records.count);
                break;
            }
            info = info_of(block);
            if (info.sequence != sequence || info.flags != 0 || info.ifindex != net_index("vb"))
                ok(false, "block %llu: sequence %llu, flags %x", (unsigned long long)blocks,
                   (unsigned long long)info.sequence, info.flags);
            sequence += info.count;
            blocks++;
            if (sent < 2 * 37)
                walks_agree(block);
            netring_block_rewind(block);
            block_records(block, 5, &records);
            netring_block_release(block);
        }
        if (!is_frames(&records, sent, 37, 60, FRAME_MAX, "bytes"))
            break;
        for (size_t i = 0; i < records.count; i++) {
            const struct netring_packet *p = &records.v[i].packet;

            if (p->status != (NETRING_PACKET_NET_OFFSET | NETRING_PACKET_PROTOCOL |
                              NETRING_PACKET_DIRECTION) ||
                p->rxhash != 0 || p->protocol != ETHERTYPE_TEST || p->net_offset != ETHER_HEADER ||
                p->link_type != NETRING_LINKTYPE_ETHERNET || p->clock == NETRING_CLOCK_UNKNOWN ||
                p->direction != NETRING_DIRECTION_OTHERHOST)
                ok(false, "packet %u: status %x", number, p->status);
            number++;
        }
        records_free(&records);
    }
    stats = capture_stats(capture);
    is_int(stats.received, number, "received");
    is_int(stats.delivered, number, "delivered");
    is_int(stats.pending + stats.dropped + stats.truncated + stats.skipped + stats.sequence_gaps, 0,
           "nothing else");
    is_int(stats.blocks_delivered, blocks, "blocks");
    capture_close(capture);
}

/* All of the ring held, one by one; then released from the back, the front last. */
static void test_held(void)
{
    struct netring_capture_config config = immediate_config();
    struct netring_capture *capture = capture_open("vb", &config);
    uint32_t frames = frames_of(capture);
    struct netring_block **held = calloc(frames, sizeof *held), *block;
    struct netring_packet packet;
    struct netring_stats stats;
    struct records records = {0};

    for (uint32_t i = 0; i < frames; i++) {
        send_frames(sender, i, 1, 60);
        held[i] = next(capture);
        if (held[i] == NULL)
            tap_bail("no block %u", i);
    }
    stats = capture_stats(capture);
    is_int(stats.blocks_held, frames, "every frame is held by itself");
    ok(stats.oldest_held_ns > 0, "the oldest for some time");
    send_frames(sender, frames, 5, 60);
    is_int(netring_capture_next_block(capture, 50, &block), 0, "no room: nothing comes");
    stats = capture_stats(capture);
    is_int(stats.dropped, 5, "dropped and counted");
    is_int(stats.seen, frames + 5, "seen = received + dropped");
    is_int(stats.received, frames, "received");

    for (uint32_t i = frames - 1; i > 0; i--)
        is_int(netring_block_release(held[i]), 0, "release from the back");
    send_frames(sender, frames, 3, 60);
    is_int(netring_capture_next_block(capture, 50, &block), 0,
           "the kernel waits for the oldest frame");
    is_int(capture_stats(capture).dropped, 8, "dropped and counted");
    is_int(netring_block_read(held[0], &packet, sizeof packet, 1), 1, "which is readable");
    is_int(frame_number(packet.data), 0, "and as it was");
    is_int(netring_block_release(held[0]), 0, "it goes back");
    is_int(netring_block_release(held[0]), NETRING_EBADF, "only once");
    is_int(capture_stats(capture).blocks_held, 0, "none is held");
    is_int(capture_stats(capture).oldest_held_ns, 0, "for no time");

    send_frames(sender, 1000, frames, 60);
    receive(capture, frames, tap_patience(1000), &records);
    is_frames(&records, 1000, frames, 60, 60, "then the whole ring is there again");
    records_free(&records);
    free(held);
    capture_close(capture);
}

static void test_close(void)
{
    struct netring_capture_config config = immediate_config();
    struct netring_capture *capture;
    struct netring_block *held[20];
    struct netring_packet packet[20];
    uint8_t frame[FRAME_MAX];

    config.flags |= NETRING_CAPTURE_PROMISCUOUS;
    capture = capture_open("vb", &config);
    for (uint32_t i = 0; i < 20; i++) {
        send_frames(sender, i, 1, 1000);
        held[i] = next(capture);
        if (held[i] == NULL || netring_block_read(held[i], &packet[i], sizeof *packet, 1) != 1)
            tap_bail("no packet %u", i);
    }
    /* Gaps between what is held. */
    for (uint32_t i = 1; i < 20; i += 3)
        netring_block_release(held[i]);
    is_int(net_promiscuity("vb"), 1, "promiscuous");
    capture_close(capture);
    is_int(net_promiscuity("vb"), 0, "the socket is gone at once");
    send_frames(sender, 500, 300, 1000);
    for (uint32_t i = 0; i < 20; i++) {
        if (i % 3 == 1)
            continue;
        frame_make(frame, 1000, i);
        is_int(memcmp(packet[i].data, frame, 1000), 0, "held packet %u is as it was", i);
        is_int(netring_block_release(held[i]), 0, "released");
    }
}

static void test_signals(void)
{
    struct netring_capture_config config = immediate_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *block;
    struct records records = {0};
    struct waiter waiter;
    int64_t since;

    is_int(netring_capture_flush(capture), 0, "a flush has nothing to do");
    is_int(netring_capture_next_block(capture, 0, &block), 0, "nothing");
    netring_capture_wakeup(capture);
    is_int(netring_capture_next_block(capture, 0, &block), NETRING_EWAKEUP, "a wakeup");
    is_int(netring_capture_next_block(capture, 0, &block), 0, "one");
    waiter_start(&waiter, &wait_kinds[0], capture);
    sleep_ms(20);
    since = now_ms();
    netring_capture_wakeup(capture);
    waiter_ends(&waiter, NETRING_EWAKEUP, since, "a wakeup ends a wait");
    send_frames(sender, 1, 3, 60);
    await_seen(capture, 3);
    netring_capture_stop(capture);
    is_int(receive(capture, 4, 1000, &records), NETRING_ESHUTDOWN, "stopped,");
    is_frames(&records, 1, 3, 60, 60, "after the last packet");
    records_free(&records);
    capture_close(capture);
}

static void test_contents(void)
{
    struct netring_capture_config config = immediate_config();
    const struct sock_filter odd[] = {
        /* The last byte of the number is odd. */
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ETHER_HEADER + 3),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct netring_capture *capture, *outgoing;
    struct records records = {0};
    uint8_t frame[FRAME_MAX];
    size_t length;

    config.snap_length = 100;
    if (netring_filter_new(odd, COUNT(odd), &config.filter, NULL) != 0)
        tap_bail("netring_filter_new");
    capture = capture_open("vb", &config);
    for (uint32_t i = 0; i < 10; i++)
        send_frames(sender, i, 1, 50 + 20 * i);
    receive(capture, 5, tap_patience(1000), &records);
    is_int(records.count, 5, "a filter");
    for (size_t i = 0; i < records.count; i++) {
        const struct netring_packet *p = &records.v[i].packet;
        uint32_t sent = 50 + 20 * (2 * (uint32_t)i + 1);

        is_int(p->len, sent, "length %u", sent);
        is_int(p->caplen, sent < 100 ? sent : 100, "cut to the snap length");
        is_int((p->status & NETRING_PACKET_TRUNCATED) != 0, sent > 100, "and says so");
    }
    is_int(capture_stats(capture).truncated, 4, "counted");
    records_free(&records);
    capture_close(capture);
    netring_filter_free(config.filter);

    config = immediate_config();
    capture = capture_open("vb", &config);
    outgoing = capture_open("va", &config);
    length = frame_tag(frame, frame_make(frame, 200, 7), 0x88a8, 0x2064);
    net_send(sender, frame, length);
    records = (struct records){0};
    receive(capture, 1, tap_patience(1000), &records);
    if (records.count != 1)
        tap_bail("no tagged packet");
    is_int(records.v[0].packet.status & (NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID),
           NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID, "a tag");
    is_int(records.v[0].packet.vlan_tci, 0x2064, "its control information");
    is_int(records.v[0].packet.vlan_tpid, 0x88a8, "its type");
    is_int(records.v[0].packet.len, 200, "is not in the bytes");
    records_free(&records);
    records = (struct records){0};
    receive(outgoing, 1, tap_patience(1000), &records);
    if (records.count != 1)
        tap_bail("no outgoing packet");
    is_int(records.v[0].packet.direction, NETRING_DIRECTION_OUTGOING, "outgoing");
    is_int(records.v[0].packet.len, length, "with its tag");
    is_int(memcmp(records.v[0].packet.data, frame, length), 0, "byte for byte");
    records_free(&records);
    capture_close(capture);
    capture_close(outgoing);
}

/* On every interface: each packet has its own index and link type; and lo's packets come once. */
static void test_any(void)
{
    struct netring_capture_config config = immediate_config();
    struct netring_capture *capture = capture_open("any", &config);
    struct net_udp udp = net_udp_open();
    uint32_t lo = net_index("lo"), looped = 0;
    struct records records = {0};

    for (int i = 0; i < 10; i++)
        net_udp_send(&udp, "immediate", 9);
    receive(capture, 10, tap_patience(500), &records);
    for (size_t i = 0; i < records.count; i++)
        looped += records.v[i].packet.ifindex == lo &&
                  records.v[i].packet.link_type == NETRING_LINKTYPE_ETHERNET &&
                  records.v[i].packet.direction == NETRING_DIRECTION_HOST;
    is_int(looped, 10, "packets of lo, once each");
    is_int(capture_stats(capture).looped, 10, "the others are marked away");
    records_free(&records);
    net_udp_close(&udp);
    capture_close(capture);
}

static void test_link(void)
{
    struct netring_capture_config config = immediate_config();
    struct netring_capture *capture;
    struct netring_block *block, *before;
    struct netring_packet packet;
    int second;

    net_veth("vc", "vd");
    capture = capture_open("vb", &config);
    second = net_sender("vc");
    send_frames(sender, 1, 3, 60);
    await_seen(capture, 3);
    is_int(netring_capture_rebind(capture, "vd", 0, 0, NULL), 0, "rebind");
    send_frames(second, 4, 3, 60);
    await_seen(capture, 6);
    before = next(capture);
    block = next(capture);
    if (before == NULL || block == NULL)
        tap_bail("no blocks");
    is_int(info_of(before).ifindex, net_index("vb"), "a block is of one interface");
    is_int(info_of(before).count, 3, "with its packets");
    netring_block_release(before);
    /* What came around the rebind has a block of its own. */
    for (uint32_t number = 4; number < 7;) {
        while (netring_block_read(block, &packet, sizeof packet, 1) == 1) {
            is_int(frame_number(packet.data), number, "packet %u", number);
            is_int(packet.ifindex, net_index("vd"), "of the next interface");
            number++;
        }
        netring_block_release(block);
        if (number < 7 && (block = next(capture)) == NULL)
            tap_bail("no block");
    }
    net_link_up("vd", false);
    net_link_up("vd", true);
    net_await_carrier("vc");
    send_frames(second, 7, 1, 60);
    block = next(capture);
    is_int(block != NULL, 1, "it goes on after the link was down");
    netring_block_release(block);
    send_frames(second, 8, 2, 60);
    await_seen(capture, 9);
    net_link_delete("vd");
    block = next(capture);
    is_int(block != NULL && info_of(block).count == 2, 1, "received before the removal");
    netring_block_release(block);
    is_int(netring_capture_next_block(capture, 1000, &block), NETRING_ENODEV, "removed");
    capture_close(capture);
    close(second);
}

/* Readers on several threads while another one sends: each packet exactly once. */
enum { FLOOD = 20000, READERS = 3 };

struct flood {
    struct netring_capture *capture;
    uint8_t seen[FLOOD];
    uint64_t packets;
    pthread_mutex_t lock;
};

static void *flood_reader(void *user)
{
    struct flood *flood = user;
    struct netring_block *block;

    while (netring_capture_next_block(flood->capture, -1, &block) == 1) {
        struct netring_cursor cursor;

        netring_cursor_init(&cursor, block);
        while (netring_cursor_next(&cursor)) {
            uint32_t number = frame_number(netring_cursor_data(&cursor));

            pthread_mutex_lock(&flood->lock);
            if (number < FLOOD)
                flood->seen[number]++;
            flood->packets++;
            pthread_mutex_unlock(&flood->lock);
        }
        netring_block_release(block);
    }
    return NULL;
}

static void test_threads(void)
{
    struct netring_capture_config config = immediate_config();
    struct flood *flood = calloc(1, sizeof *flood);
    pthread_t readers[READERS];
    struct netring_stats stats;
    uint64_t twice = 0, once = 0;

    pthread_mutex_init(&flood->lock, NULL);
    flood->capture = capture_open("vb", &config);
    for (int i = 0; i < READERS; i++)
        pthread_create(&readers[i], NULL, flood_reader, flood);
    for (uint32_t i = 0; i < FLOOD; i += 50) {
        send_frames(sender, i, 50, 60);
        /* So that the readers often wait, and nothing is lost for long. */
        for (int tries = 0; tries < 1000 && capture_stats(flood->capture).pending > 50; tries++)
            sleep_ms(1);
    }
    await_seen(flood->capture, FLOOD);
    netring_capture_stop(flood->capture);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    stats = capture_stats(flood->capture);
    for (int i = 0; i < FLOOD; i++) {
        once += flood->seen[i] == 1;
        twice += flood->seen[i] > 1;
    }
    is_int(twice, 0, "no packet came twice");
    is_int(once, flood->packets, "%llu came once", (unsigned long long)once);
    is_int(once + stats.dropped, FLOOD, "the others are counted as dropped");
    is_int(stats.delivered, once, "delivered");
    is_int(stats.pending + stats.blocks_held, 0, "nothing is left");
    capture_close(flood->capture);
    pthread_mutex_destroy(&flood->lock);
    free(flood);
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    net_link_mtu("va", 9004);
    net_link_mtu("vb", 9004);
    sender = net_sender("va");
    test_grants();
    test_at_once();
    test_bytes();
    test_held();
    test_close();
    test_signals();
    test_contents();
    test_any();
    test_link();
    test_threads();
    return tap_end();
}
