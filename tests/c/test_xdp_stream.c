/* A million frames of mixed sizes each way between two interfaces, native and in SKB mode, sent in
 * batches of every size by every way to send and received by every way to receive: all of them
 * arrive, byte for byte and in order, no counter tells of a drop, and every frame of the UMEMs is
 * accounted for at the end. Then the same against packet sockets, which owe nothing to the library.
 * A hundredth of it where everything is slow (NETRING_TEST_SLOW).
 *
 * alone: a flood of somebody else's overflows the machine's backlog
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "xdp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BATCH = 64,
    UNDER_WAY = 128, /* veth's ring has room for 256 */
};

/* One direction: what `from` sends `to` receives. */
struct way {
    const char *name;
    struct netring_queue *from, *to;
    struct dice dice;
    uint32_t count, sent, received;
    uint64_t bytes, discarded, blocks;
    char wrong[256];
};

static uint32_t smaller(uint32_t one, uint32_t other)
{
    return one < other ? one : other;
}

/* The next `want` frames into slots, some of which are discarded instead; committed in one go, or
 * the later half first. Returns how many frames. */
static uint32_t in_place(struct way *w, uint32_t want)
{
    struct netring_slot slots[BATCH + 8];
    uint32_t extra = dice_roll(&w->dice, 4) == 0 ? dice_roll(&w->dice, 8) : 0, made = 0;
    int got =
        netring_queue_reserve(w->from, slots, sizeof *slots, want + extra, (int)tap_patience(2000));
    size_t half;

    if (got <= 0)
        tap_bail("reserve: %s after %u frames", netring_err_name(got), w->sent);
    for (int i = 0; i < got; i++) {
        bool keep = made < want && (extra == 0 || dice_roll(&w->dice, 4) != 0);

        slots[i].len = keep ? stream_make(slots[i].data, w->sent + made) : 0;
        made += keep;
        w->discarded += !keep;
    }
    half = dice_roll(&w->dice, 2) ? (size_t)got / 2 : 0;
    queue_must_commit(w->from, slots + half, (size_t)got - half);
    if (half > 0)
        queue_must_commit(w->from, slots, half);
    return made;
}

static uint32_t by_copy(struct way *w, uint32_t want)
{
    static uint8_t bytes[BATCH][FRAME_MAX];
    struct netring_frame frames[BATCH];
    int rc;

    memset(frames, 0, sizeof frames);
    for (uint32_t i = 0; i < want; i++) {
        frames[i].data = bytes[i];
        frames[i].len = stream_make(bytes[i], w->sent + i);
    }
    if (want == 1)
        rc = netring_queue_send(w->from, frames->data, frames->len, (int)tap_patience(2000));
    else
        rc = netring_queue_send_batch(w->from, frames, sizeof *frames, want,
                                      (int)tap_patience(2000));
    if (rc <= 0 || rc > (int)want)
        tap_bail("%u frames by copy: %d (%s)", want, rc, netring_err_name(rc));
    return (uint32_t)rc;
}

static void sends_some(struct way *w)
{
    uint32_t want = smaller(w->count - w->sent, 1 + dice_roll(&w->dice, BATCH)), made;

    switch (dice_roll(&w->dice, 8)) {
    case 0:
        made = by_copy(w, 1);
        break;
    case 1:
        made = by_copy(w, want);
        break;
    default:
        made = in_place(w, want);
        if (netring_queue_flush(w->from) < 0)
            tap_bail("flush after %u frames", w->sent);
        break;
    }
    for (uint32_t i = 0; i < made; i++)
        w->bytes += stream_frame(w->sent + i).length;
    w->sent += made;
}

/* One packet more: is it the next one? */
static int takes(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    struct way *w = user;
    uint8_t frame[FRAME_MAX];

    (void)size;
    for (size_t i = 0; i < count && !*w->wrong; i++) {
        uint32_t length = stream_make(frame, w->received);

        if (packets[i].len != length || packets[i].caplen != length ||
            memcmp(packets[i].data, frame, length) != 0)
            snprintf(w->wrong, sizeof w->wrong, "%u bytes with number %u came, for %u with %u",
                     packets[i].len, packets[i].caplen >= 14 ? numbered_number(packets[i].data) : 0,
                     length, w->received);
        else
            w->received++;
    }
    return 0;
}

static int takes_block(struct way *w, int timeout)
{
    struct netring_packet packets[BATCH];
    struct netring_block *block;
    size_t batch = 1 + dice_roll(&w->dice, COUNT(packets));
    int rc = netring_queue_next_block(w->to, timeout, &block), n;

    if (rc <= 0)
        return rc;
    w->blocks++;
    while ((n = netring_block_read(block, packets, sizeof *packets, batch)) > 0)
        takes(w, packets, (size_t)n, sizeof *packets);
    if (netring_block_release(block) != 0)
        tap_bail("netring_block_release");
    return rc;
}

static int takes_packet(struct way *w, int timeout)
{
    struct netring_packet packet;
    int rc = netring_queue_next_packet(w->to, timeout, &packet, sizeof packet);

    if (rc > 0)
        takes(w, &packet, 1, sizeof packet);
    return rc;
}

/* Takes what is there, or waits for some. False: nothing came, or something else. `one_by_one`:
 * what the slower calls have begun they have to finish. */
static bool receives(struct way *w)
{
    bool full = w->sent - w->received > UNDER_WAY - BATCH || w->sent == w->count;
    int timeout = full && w->received < w->sent ? (int)tap_patience(2000) : 0, rc = 1;
    uint32_t how = dice_roll(&w->dice, 16);

    for (; rc > 0 && w->received < w->sent && !*w->wrong; timeout = 0) {
        if (how == 0) {
            do
                rc = takes_packet(w, timeout);
            while (rc > 0 && w->received < w->sent && !*w->wrong);
        } else if (how == 1) {
            rc = netring_queue_dispatch(w->to, timeout, 0, takes, w);
        } else {
            rc = takes_block(w, timeout);
        }
        if (rc == 0 && timeout > 0)
            snprintf(w->wrong, sizeof w->wrong, "frame %u of %u sent does not come", w->received,
                     w->sent);
    }
    if (rc < 0)
        snprintf(w->wrong, sizeof w->wrong, "receiving ends with %s", netring_err_name(rc));
    return !*w->wrong;
}

static uint64_t drops(const char *link)
{
    struct rtnl_link_stats64 now = net_counters(link);

    return now.rx_dropped + now.tx_dropped + now.rx_errors + now.tx_errors;
}

static void told_of(struct way *w)
{
    struct netring_packet packet;

    struct netring_injector_stats sent = queue_sent(w->from);
    struct netring_stats got;
    struct netring_xdp_counters from = queue_counters(w->from), to = queue_counters(w->to);
    struct netring_result result;

    /* The block that the last one was in goes back with the next call. */
    is_int(netring_queue_next_packet(w->to, 0, &packet, sizeof packet), 0, "%s: no more", w->name);
    got = queue_stats(w->to);
    ok(w->received == w->count && !*w->wrong, "%s: %u frames arrive in order, byte for byte%s%s",
       w->name, w->count, *w->wrong ? ": " : "", w->wrong);
    is_int(sent.reserved, w->count + w->discarded, "%s: reserved", w->name);
    is_int(sent.committed, w->count, "%s: committed", w->name);
    is_int(sent.discarded, w->discarded, "%s: discarded", w->name);
    is_int(sent.handed, w->count, "%s: handed", w->name);
    is_int(sent.handed_bytes, w->bytes, "%s: their bytes", w->name);
    is_int(sent.completed, w->count, "%s: completed", w->name);
    is_int(sent.refused + sent.dropped + sent.open + sent.waiting + sent.in_flight, 0,
           "%s: nothing refused, nothing left", w->name);
    is_int(netring_queue_results(w->from, &result, sizeof result, 1), 0, "%s: no results", w->name);
    is_int(got.received, w->count, "%s: received", w->name);
    is_int(got.delivered, w->count, "%s: delivered", w->name);
    is_int(got.pending + got.dropped + got.blocks_held, 0, "%s: none pending, dropped, held",
           w->name);
    is_int(from.tx_invalid + to.rx_dropped + to.rx_invalid + to.rx_ring_full, 0,
           "%s: the kernel tells of no drop", w->name);
    ok(from.tx_kicks > 0 && from.tx_kicks <= 2 * (uint64_t)w->count, "%s: %llu kicks", w->name,
       (unsigned long long)from.tx_kicks);
}

static void test_both_ways(const struct xdp_mode *mode, uint32_t count)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct xdp_one a = xdp_one("va", &config), b = xdp_one("vb", &config);
    struct way ways[2] = {
        {.name = "there", .from = a.queue, .to = b.queue, .dice = {88172645463325252}},
        {.name = "back", .from = b.queue, .to = a.queue, .dice = {1181783497276652981}},
    };
    uint64_t dropped = drops("va") + drops("vb"), softnet = net_softnet_dropped();
    int64_t start = clock_ns(CLOCK_MONOTONIC);

    is_int(xdp_info(a.xdp).mode, mode->mode, "%s is granted", mode->name);
    ways[0].count = ways[1].count = count;
    while (ways[0].received < count || ways[1].received < count) {
        bool fine = true;

        for (size_t i = 0; i < 2; i++) {
            struct way *w = &ways[i];

            if (w->sent < count && w->sent - w->received <= UNDER_WAY - BATCH)
                sends_some(w);
            fine = receives(w) && fine;
        }
        if (!fine)
            break;
    }
    tap_diag("%s: 2 x %u frames, %lld ns each", mode->name, count,
             (long long)(clock_ns(CLOCK_MONOTONIC) - start) / count / 2);
    for (size_t i = 0; i < 2; i++) {
        queue_drains(ways[i].from, ways[i].name);
        queue_is_empty(ways[i].to, ways[i].name);
        told_of(&ways[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        queue_adds_up(ways[i].from, ways[i].name);
        queue_is_idle(ways[i].from, ways[i].name);
    }
    is_int(drops("va") + drops("vb"), dropped, "%s: neither interface drops or errs", mode->name);
    is_int(net_softnet_dropped(), softnet, "%s: the backlog drops nothing", mode->name);
    xdp_close(a.xdp);
    xdp_close(b.xdp);
}

/* What the library sends arrives at a packet socket; what a packet socket sends arrives here. */
static void test_against_sockets(const struct xdp_mode *mode, uint32_t count)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct xdp_one a;
    struct sink *sink = malloc(sizeof *sink);
    char what[64];
    bool fine = true;
    int sender;

    if (!sink)
        tap_bail("out of memory");
    a = xdp_one("va", &config);
    sender = net_sender("vb");
    sink_open(sink, "vb");
    for (uint32_t done = 0; fine && done < count; done += BATCH) {
        snprintf(what, sizeof what, "%s, from %u on, to a packet socket", mode->name, done);
        queue_commit_stream(a.queue, done, BATCH);
        if (netring_queue_flush(a.queue) < 0)
            tap_bail("flush");
        fine = sink_is_stream(sink, done, BATCH, what);
        snprintf(what, sizeof what, "%s, from %u on, of a packet socket", mode->name, done);
        send_stream(sender, done, BATCH);
        fine = fine && queue_is_stream(a.queue, done, BATCH, what);
    }
    sink_is_empty(sink, mode->name);
    queue_is_empty(a.queue, mode->name);
    queue_adds_up(a.queue, mode->name);
    sink_close(sink);
    xdp_close(a.xdp);
    close(sender);
    free(sink);
}

int main(void)
{
    bool slow = tap_patience(1) > 1;
    struct footprint before;

    tap_begin(150);
    xdp_enter();
    net_veth("va", "vb");
    before = footprint_now();
    for (size_t i = 0; i < COUNT(xdp_modes); i++) {
        test_both_ways(&xdp_modes[i], slow ? 10000 : 1000000);
        test_against_sockets(&xdp_modes[i], slow ? 20 * BATCH : 200 * BATCH);
    }
    is_footprint(before, "all of it");
    return tap_end();
}
