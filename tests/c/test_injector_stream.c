/* A million frames of mixed sizes by every method, in batches of every size and by every way to
 * send, arrive byte for byte and in order at a receiver that owes nothing to the library, while no
 * queue anywhere drops one: at most so many are under way at once. A tenth of a percent of that
 * where everything is slow (NETRING_TEST_SLOW).
 *
 * alone: a flood of somebody else's overflows the machine's backlog
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "inject.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS = 512,
    BATCH = 64,
    UNDER_WAY = 256, /* less than the backlog of a CPU (net.core.netdev_max_backlog) has room for */
};

struct stream {
    struct netring_injector *injector;
    struct sink sink;
    struct dice dice;
    uint32_t count, sent, received;
    uint64_t bytes, tagged, discarded;
    char wrong[256];
};

static uint32_t smaller(uint32_t one, uint32_t other)
{
    return one < other ? one : other;
}

/* The next `want` frames into slots, some of which are discarded instead; committed in one go, or
 * the later half first. Returns how many frames. */
static uint32_t in_place(struct stream *s, uint32_t want)
{
    struct netring_slot slots[BATCH + 8];
    uint32_t extra = dice_roll(&s->dice, 4) == 0 ? dice_roll(&s->dice, 8) : 0, made = 0;
    int got = netring_injector_reserve(s->injector, slots, sizeof *slots, want + extra,
                                       (int)tap_patience(2000));
    size_t half;

    if (got <= 0)
        tap_bail("reserve: %s after %u frames", netring_err_name(got), s->sent);
    for (int i = 0; i < got; i++) {
        bool keep = made < want && (extra == 0 || dice_roll(&s->dice, 4) != 0);

        slots[i].len = keep ? stream_make(slots[i].data, s->sent + made) : 0;
        made += keep;
        s->discarded += !keep;
    }
    half = dice_roll(&s->dice, 2) ? (size_t)got / 2 : 0;
    must_commit(s->injector, slots + half, (size_t)got - half);
    if (half > 0)
        must_commit(s->injector, slots, half);
    return made;
}

static uint32_t by_copy(struct stream *s, uint32_t want)
{
    static uint8_t bytes[BATCH][FRAME_MAX];
    struct netring_frame frames[BATCH];
    int rc;

    memset(frames, 0, sizeof frames);
    for (uint32_t i = 0; i < want; i++) {
        frames[i].data = bytes[i];
        frames[i].len = stream_make(bytes[i], s->sent + i);
    }
    if (want == 1)
        rc = netring_injector_send(s->injector, frames->data, frames->len, (int)tap_patience(2000));
    else
        rc = netring_injector_send_batch(s->injector, frames, sizeof *frames, want,
                                         (int)tap_patience(2000));
    if (rc <= 0 || rc > (int)want)
        tap_bail("%u frames by copy: %d (%s)", want, rc, netring_err_name(rc));
    return (uint32_t)rc;
}

static void sends_some(struct stream *s)
{
    uint32_t want = smaller(s->count - s->sent, 1 + dice_roll(&s->dice, BATCH)), made;

    switch (dice_roll(&s->dice, 8)) {
    case 0:
        made = by_copy(s, 1);
        break;
    case 1:
        made = by_copy(s, want);
        break;
    default:
        made = in_place(s, want);
        if (netring_injector_flush(s->injector) < 0)
            tap_bail("flush after %u frames", s->sent);
        break;
    }
    for (uint32_t i = 0; i < made; i++) {
        struct numbered frame = stream_frame(s->sent + i);

        s->bytes += frame.length;
        s->tagged += frame.tagged;
    }
    s->sent += made;
}

/* Takes what is there, or waits for some. False: nothing came, or something else. */
static bool receives(struct stream *s)
{
    uint8_t frame[FRAME_MAX];
    int timeout = s->sent - s->received > UNDER_WAY - BATCH || s->sent == s->count
                      ? (int)tap_patience(2000)
                      : 0;
    size_t got;

    for (; (got = sink_next(&s->sink, timeout)) > 0; timeout = 0) {
        uint32_t length = stream_make(frame, s->received);

        if (got != length || memcmp(frame, s->sink.frame, length) != 0) {
            snprintf(s->wrong, sizeof s->wrong,
                     "%zu bytes with number %u came, for %u with number %u", got,
                     numbered_number(s->sink.frame), length, s->received);
            return false;
        }
        if (++s->received == s->count)
            return true;
    }
    if (timeout != 0)
        snprintf(s->wrong, sizeof s->wrong, "frame %u does not come", s->received);
    return timeout == 0;
}

static uint64_t drops(const char *link)
{
    struct rtnl_link_stats64 now = net_counters(link);

    return now.rx_dropped + now.tx_dropped + now.rx_errors + now.tx_errors;
}

static void test_stream(const struct method *method, uint32_t count)
{
    struct netring_injector_config config = inject_config(method->method, SLOTS);
    struct stream *s = calloc(1, sizeof *s);
    uint64_t dropped = drops("va") + drops("vb"), softnet = net_softnet_dropped();
    struct netring_injector_stats stats;
    struct netring_result result;
    int64_t start;

    if (!s)
        tap_bail("out of memory");
    sink_open(&s->sink, "vb");
    s->injector = injector_open("va", &config);
    s->dice.state = 88172645463325252;
    s->count = count;
    start = clock_ns(CLOCK_MONOTONIC);
    while (s->received < count) {
        if (s->sent < count && s->sent - s->received <= UNDER_WAY - BATCH)
            sends_some(s);
        if (!receives(s))
            break;
    }
    tap_diag("%s: %u frames, %lld ns each", method->name, count,
             (long long)(clock_ns(CLOCK_MONOTONIC) - start) / count);
    ok(s->received == count && !*s->wrong, "%s: %u frames arrive in order, byte for byte%s%s",
       method->name, count, *s->wrong ? ": " : "", s->wrong);
    drains(s->injector, method->name);
    sink_is_empty(&s->sink, method->name);
    stats = injector_stats(s->injector);
    is_int(stats.reserved, count + s->discarded, "%s: reserved", method->name);
    is_int(stats.committed, count, "%s: committed", method->name);
    is_int(stats.discarded, s->discarded, "%s: discarded", method->name);
    is_int(stats.handed, count, "%s: handed", method->name);
    is_int(stats.handed_bytes, s->bytes, "%s: their bytes", method->name);
    is_int(stats.completed, count, "%s: completed", method->name);
    ok(stats.refused + stats.dropped + stats.open + stats.waiting + stats.held_back +
               stats.in_flight ==
           0,
       "%s: nothing refused, nothing left", method->name);
    ok(stats.kicks > 0 && stats.kicks <= count, "%s: %llu kicks", method->name,
       (unsigned long long)stats.kicks);
    is_int(netring_injector_results(s->injector, &result, sizeof result, 1), 0, "%s: no results",
           method->name);
    is_int(stats.interface_dropped + stats.interface_errors + stats.qdisc_drops, 0,
           "%s: no drops in its counters", method->name);
    /* A tagged frame that has been received is one more for the kernel, of a VLAN that nobody has.
     */
    is_int(drops("va") + drops("vb"), dropped + s->tagged, "%s: neither interface drops or errs",
           method->name);
    is_int(net_softnet_dropped(), softnet, "%s: the backlog drops nothing", method->name);
    is_int(sink_drops(&s->sink), 0, "%s: the receiver drops nothing", method->name);
    injector_close(s->injector);
    sink_close(&s->sink);
    free(s);
}

int main(void)
{
    struct footprint before;

    tap_begin(100);
    net_enter();
    net_veth("va", "vb");
    before = footprint_now();
    for (size_t i = 0; i < COUNT(methods); i++)
        test_stream(&methods[i], tap_patience(1) > 1 ? 10000 : 1000000);
    is_footprint(before, "all of it");
    return tap_end();
}
