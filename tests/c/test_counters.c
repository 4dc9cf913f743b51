/* Counters that add up, under real overload.
 *
 *   seen     = received + dropped                              (the kernel's packets; at any time)
 *   received = delivered + filtered_late + looped + pending    (once traffic stops)
 *   sent     = seen + what the interface and the CPUs' backlog dropped before the ring
 *
 * The last one is over veth: what the link takes but cannot queue is in the sender's tx_dropped and
 * in the second column of /proc/net/softnet_stat (softnet_dropped, which is of the whole machine);
 * send() reports it as ENOBUFS. */
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int sender; /* on va; what it sends arrives at vb */

static void adds_up(const struct netring_stats *stats, const char *when)
{
    is_int(stats->seen, stats->received + stats->dropped, "%s: seen = received + dropped", when);
    is_int(stats->received,
           stats->delivered + stats->filtered_late + stats->looped + stats->pending,
           "%s: received = delivered + filtered_late + looped + pending", when);
    ok(stats->skipped <= stats->dropped, "%s: skipped are part of dropped", when);
}

static uint64_t tx_dropped(void)
{
    return net_counters("va").tx_dropped;
}

/* Takes all blocks that are ready. Returns how many packets were in them. */
static uint64_t drain(struct netring_capture *capture)
{
    struct records records = {0, 0, NULL};
    uint64_t count;

    receive(capture, SIZE_MAX, 0, &records);
    count = records.count;
    records_free(&records);
    return count;
}

/* ---- overload ---- */

static void test_overload(void)
{
    enum { SENT = 20000 };
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_stats stats;
    struct netring_block *block;
    uint8_t frame[200];
    uint64_t refused_before = tx_dropped(), read = 0, taken, rx_before;

    config.block_size = 16 * KIB;
    config.block_count = 4;
    config.block_timeout = 50;
    capture = capture_open("vb", &config);
    rx_before = net_counters("vb").rx_packets;
    frame_make(frame, sizeof frame, 1);
    taken = net_flood(sender, frame, sizeof frame, SENT);
    await_seen(capture, taken);
    stats = capture_stats(capture);
    adds_up(&stats, "a full ring");
    is_int(stats.seen, taken, "a full ring: seen is what the link took");
    is_int(stats.seen, net_counters("vb").rx_packets - rx_before,
           "a full ring: seen is what the interface received");
    is_int(stats.seen + tx_dropped() - refused_before, SENT,
           "a full ring: sent = seen + dropped before the ring");
    tap_diag("%llu of %d dropped by the backlog, %llu by the ring; softnet_dropped %llu",
             (unsigned long long)(tx_dropped() - refused_before), SENT,
             (unsigned long long)stats.dropped, (unsigned long long)stats.softnet_dropped);
    ok(stats.dropped > SENT / 2, "a full ring: most are dropped");
    is_int(stats.delivered, 0, "a full ring: nothing delivered yet");
    ok(stats.pending > 0, "a full ring: pending");
    ok(stats.freezes >= 1, "a full ring: the freeze is counted");
    is_int(stats.blocks_ready, 4, "a full ring: all blocks are ready");
    is_int(stats.blocks_ready_max, 4, "a full ring: as never before");

    if (is_int(netring_capture_next_block(capture, 0, &block), 1, "a full ring: a block")) {
        struct records records = {0, 0, NULL};

        block_records(block, 64, &records);
        read += records.count;
        netring_block_release(block);
        records_free(&records);
    }
    stats = capture_stats(capture);
    is_int(stats.delivered, read, "one block taken: delivered");
    adds_up(&stats, "one block taken");
    read += drain(capture);
    await_seen(capture, taken + net_flood(sender, frame, sizeof frame, 100));
    netring_capture_flush(capture);
    read += drain(capture);
    stats = capture_stats(capture);
    adds_up(&stats, "drained");
    is_int(stats.pending, 0, "drained: nothing pending");
    is_int(stats.delivered, read, "drained: delivered is what was read");
    is_int(stats.received, read, "drained: received is what was read");
    is_int(stats.filtered_late + stats.looped + stats.skipped + stats.sequence_gaps, 0,
           "drained: nothing else happened");
    is_int(stats.blocks_ready, 0, "drained: no block ready");
    is_int(stats.blocks_held, 0, "drained: no block held");
    capture_close(capture);
}

/* The reader keeps up now and then, the sender does not stop. */
static volatile bool flood_over;

static void *flooding(void *user)
{
    uint8_t frame[100];
    uint64_t *taken = user;

    frame_make(frame, sizeof frame, 1);
    while (!flood_over)
        *taken += net_flood(sender, frame, sizeof frame, 256);
    return NULL;
}

static void test_running(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_stats stats, last;
    uint64_t taken = 0, read = 0;
    unsigned uneven = 0, back = 0, readings = 0;
    int64_t end = now_ms() + 700;
    pthread_t thread;

    config.block_size = 16 * KIB;
    config.block_count = 8;
    config.block_timeout = 5;
    capture = capture_open("vb", &config);
    last = capture_stats(capture);
    flood_over = false;
    pthread_create(&thread, NULL, flooding, &taken);
    while (now_ms() < end) {
        stats = capture_stats(capture);
        readings++;
        uneven += stats.seen != stats.received + stats.dropped;
        uneven += stats.skipped > stats.dropped;
        back += stats.seen < last.seen || stats.dropped < last.dropped ||
                stats.received < last.received || stats.delivered < last.delivered ||
                stats.freezes < last.freezes || stats.time_ns <= last.time_ns;
        last = stats;
        if (readings % 3 == 0)
            read += drain(capture);
    }
    flood_over = true;
    pthread_join(thread, NULL);
    await_seen(capture, taken);
    is_int(uneven, 0, "running: seen = received + dropped in every one of %u readings", readings);
    is_int(back, 0, "running: no counter goes back");
    netring_capture_flush(capture);
    read += drain(capture);
    stats = capture_stats(capture);
    adds_up(&stats, "after the run");
    is_int(stats.seen, taken, "after the run: seen is what the link took");
    is_int(stats.delivered, read, "after the run: delivered is what was read");
    tap_diag("%llu seen, %llu dropped, %llu freezes", (unsigned long long)stats.seen,
             (unsigned long long)stats.dropped, (unsigned long long)stats.freezes);
    capture_close(capture);
}

/* ---- single counters ---- */

static void test_pending(void)
{
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture = capture_open("vb", &config);
    const uint32_t whole = frames_per_page(60);
    struct netring_stats stats;
    struct netring_block *block;

    send_frames(sender, 0, 5, 60);
    await_seen(capture, 5);
    stats = capture_stats(capture);
    is_int(stats.pending, 5, "pending: the open block");
    adds_up(&stats, "pending in the open block");
    netring_capture_flush(capture);
    stats = capture_stats(capture);
    is_int(stats.pending, 5, "pending: flushed and not yet taken");
    netring_capture_next_block(capture, 0, &block);
    stats = capture_stats(capture);
    is_int(stats.pending, 0, "pending: taken");
    send_frames(sender, 5, 2 * whole, 60);
    await_seen(capture, 5 + 2 * whole);
    stats = capture_stats(capture);
    is_int(stats.pending, 2 * whole, "pending: the rest of a block handed out in part, and more");
    adds_up(&stats, "pending behind a part");
    netring_block_release(block);
    stats = capture_stats(capture);
    is_int(stats.pending, 2 * whole, "pending: whatever is released");
    capture_close(capture);
}

static void test_blocks_held(void)
{
    struct netring_capture_config config = page_config(6);
    struct netring_capture *capture = capture_open("vb", &config);
    const uint32_t whole = frames_per_page(60);
    struct netring_block *first, *second;
    struct netring_stats stats;
    int64_t begin;

    stats = capture_stats(capture);
    is_int(stats.blocks_held, 0, "none held");
    is_int(stats.oldest_held_ns, 0, "none held: no age");
    first = block_of(capture, sender, 0, whole, 60);
    sleep_ms(50);
    begin = now_ms();
    second = block_of(capture, sender, whole, whole, 60);
    stats = capture_stats(capture);
    is_int(stats.blocks_held, 2, "two held");
    is_between(stats.oldest_held_ns, 50000000, INT64_C(50000000) + 1000000 * tap_patience(1000),
               "two held: the age of the older one");
    netring_block_release(first);
    stats = capture_stats(capture);
    is_int(stats.blocks_held, 1, "one held");
    is_between(stats.oldest_held_ns, 0, (now_ms() - begin + 20) * INT64_C(1000000),
               "one held: the younger one");
    netring_block_release(second);
    stats = capture_stats(capture);
    is_int(stats.blocks_held, 0, "none held again");
    is_int(stats.blocks_delivered, 2, "blocks delivered");
    capture_close(capture);
}

/* A packet larger than a block: the kernel hands over an empty block before it, and cuts it. */
static void test_empty_blocks(void)
{
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture;
    struct netring_stats stats;
    struct records records = {0, 0, NULL};
    const uint32_t length = (uint32_t)getpagesize() + 500;

    if (length > FRAME_MAX) {
        tap_skip("empty blocks", "pages are too large here");
        return;
    }
    net_link_mtu("va", 9000);
    net_link_mtu("vb", 9000);
    capture = capture_open("vb", &config);
    send_frames(sender, 0, 3, length);
    await_seen(capture, 3);
    netring_capture_flush(capture);
    receive(capture, 3, 200, &records);
    stats = capture_stats(capture);
    is_int(records.count, 3, "oversize packets: arrive");
    for (size_t i = 0; i < records.count; i++) {
        const struct netring_packet *packet = &records.v[i].packet;
        uint8_t frame[FRAME_MAX];

        frame_make(frame, length, (uint32_t)i);
        is_int(packet->len, length, "oversize packets: len");
        ok(packet->caplen < length && packet->status & NETRING_PACKET_TRUNCATED,
           "oversize packets: cut to %u bytes, and marked", packet->caplen);
        is_bytes(packet->data, frame, packet->caplen, "oversize packets: bytes");
    }
    ok(stats.blocks_empty >= 1, "empty blocks are counted (%llu)",
       (unsigned long long)stats.blocks_empty);
    is_int(stats.truncated, 3, "oversize packets: counted as truncated");
    adds_up(&stats, "oversize packets");
    capture_close(capture);
    records_free(&records);
    net_link_mtu("va", 1500);
    net_link_mtu("vb", 1500);
}

static void test_interface_counters(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct rtnl_link_stats64 before = net_counters("vb"), after;
    struct netring_stats stats;

    send_frames(sender, 0, 50, 60);
    after = net_counters("vb");
    stats = capture_stats(capture);
    ok(stats.valid & NETRING_STATS_INTERFACE, "the interface's counters can be read");
    is_int(stats.interface_missed, after.rx_missed_errors - before.rx_missed_errors, "rx_missed");
    is_int(stats.interface_dropped, after.rx_dropped - before.rx_dropped, "rx_dropped since open");
    is_int(stats.interface_fifo, after.rx_fifo_errors - before.rx_fifo_errors, "rx_fifo");
    if (stats.valid & NETRING_STATS_SOFTNET)
        ok(stats.softnet_dropped <= net_softnet_dropped(), "softnet drops are since open");
    else
        tap_skip("softnet drops", "cannot be read here");
    capture_close(capture);
}

/* ---- the struct and the interval ---- */

static void test_since(void)
{
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_stats before, now, since;
    struct netring_block *held;

    netring_block_release(block_of(capture, sender, 0, 4, 60));
    before = capture_stats(capture);
    sleep_ms(20);
    held = block_of(capture, sender, 4, 6, 60);
    now = capture_stats(capture);
    memset(&since, 0xa5, sizeof since);
    errno = ENOTTY;
    is_int(netring_stats_since(&now, &before, &since, sizeof since), 0, "stats_since");
    is_int(errno, ENOTTY, "stats_since leaves errno alone");
    is_int(since.time_ns, now.time_ns - before.time_ns, "since: the interval");
    ok(since.time_ns >= 20000000, "since: at least as long as the sleep");
    is_int(since.received, 6, "since: received");
    is_int(since.delivered, 6, "since: delivered");
    is_int(since.seen, 6, "since: seen");
    is_int(since.blocks_delivered, 1, "since: blocks delivered");
    is_int(since.dropped, 0, "since: dropped");
    is_int(since.pending, now.pending, "since: pending is as it is now");
    is_int(since.blocks_held, 1, "since: blocks held are as they are now");
    is_int(since.oldest_held_ns, now.oldest_held_ns, "since: the age is as it is now");
    is_int(since.valid, now.valid, "since: valid");
    netring_block_release(held);
    capture_close(capture);
}

static void test_struct_sizes(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_stats now, since;
    union {
        struct netring_stats stats;
        uint8_t bytes[sizeof(struct netring_stats) + 32];
    } sized;
    const size_t shorter = offsetof(struct netring_stats, freezes);
    unsigned rest = 0;

    netring_block_release(block_of(capture, sender, 0, 5, 60));
    now = capture_stats(capture);
    memset(&sized, 0xa5, sizeof sized);
    is_int(netring_capture_stats(capture, &sized.stats, shorter), 0, "stats of an older program");
    is_int(sized.stats.received, 5, "have what it knows");
    is_int(sized.bytes[shorter], 0xa5, "and nothing behind it");
    memset(&sized, 0xa5, sizeof sized);
    is_int(netring_capture_stats(capture, &sized.stats, sizeof sized), 0,
           "stats of a newer program");
    is_int(sized.stats.received, 5, "have what the library knows");
    for (size_t i = sizeof sized.stats; i < sizeof sized; i++)
        rest += sized.bytes[i] != 0;
    is_int(rest, 0, "and zeros behind it");
    is_int(netring_capture_stats(capture, &now, 0), NETRING_EINVAL, "size 0");
    memset(&sized, 0xa5, sizeof sized);
    is_int(netring_stats_since(&now, &now, &sized.stats, shorter), 0,
           "stats_since for an older program");
    is_int(sized.stats.received, 0, "has what it knows");
    is_int(sized.bytes[shorter], 0xa5, "and nothing behind it");
    is_int(netring_stats_since(&now, &now, &since, 0), NETRING_EINVAL, "stats_since: size 0");
    memset(&sized, 0, sizeof sized);
    is_int(netring_stats_since(&sized.stats, &sized.stats, &sized.stats, sizeof sized), 0,
           "stats_since for a newer program");
    sized.bytes[sizeof sized - 1] = 1;
    is_int(netring_stats_since(&sized.stats, &sized.stats, &sized.stats, sizeof sized),
           NETRING_EINVAL, "stats_since with what only a newer library knows");
    capture_close(capture);
}

static void test_reading_resets_nothing(void)
{
    enum { TURNS = 300 };
    struct netring_capture_config config = page_config(32);
    struct netring_capture *capture = capture_open("vb", &config);
    unsigned wrong = 0;

    for (uint32_t n = 1; n <= TURNS; n++) {
        struct netring_stats stats;

        send_frames(sender, n, 1, 60);
        await_seen(capture, n);
        stats = capture_stats(capture);
        wrong += stats.seen != n || stats.received != n || stats.dropped != 0;
        wrong += capture_stats(capture).seen != n;
    }
    is_int(wrong, 0, "reading %d times resets nothing", 2 * TURNS);
    capture_close(capture);
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");

    test_overload();
    test_running();
    test_pending();
    test_blocks_held();
    test_empty_blocks();
    test_interface_counters();
    test_since();
    test_struct_sizes();
    test_reading_resets_nothing();
    return tap_end();
}
