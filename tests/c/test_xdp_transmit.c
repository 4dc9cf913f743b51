/* Sending by AF_XDP queues, native and in SKB mode: slots committed in any order and leaving in
 * that of reserve, discarded ones, what a full queue does, frames that are too short, too long or
 * larger than the MTU, a link that is down or gone, several threads, and a close in the middle of
 * it. */
#include "xdp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 64 };

static struct sink sink; /* at vb */

static struct netring_xdp_config send_config(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, mode->mode);

    config.rx_frames = 64;
    config.tx_frames = SLOTS;
    return config;
}

static void flushes(struct netring_queue *queue)
{
    int rc = netring_queue_flush(queue);

    if (rc < 0)
        tap_bail("flush: %s", netring_err_name(rc));
}

static void fill(struct netring_slot *slots, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        slots[i].len = stream_make(slots[i].data, first + i);
}

static void no_results(struct netring_queue *queue, const char *what)
{
    struct netring_result results[4];
    int told = netring_queue_results(queue, results, sizeof *results, COUNT(results));

    if (!is_int(told, 0, "%s: no results", what) && told > 0)
        tap_diag("  of %llu: %s, %s", (unsigned long long)results[0].cookie,
                 netring_err_name(results[0].code), strerror(results[0].os_errno));
}

/* ---- order ---- */

static void test_order(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_slot slots[12], more[4];
    struct netring_injector_stats stats;

    queue_must_reserve(a.queue, slots, 12);
    ok(slots[0].cookie == 1 && slots[11].cookie == 12, "%s: cookies from 1 on", mode->name);
    is_int(slots[0].capacity, 2048, "%s: capacity", mode->name);
    is_int(slots[0].len, 0, "%s: len", mode->name);
    fill(slots, 0, 12);
    /* The last ones first: they wait for the others. */
    queue_must_commit(a.queue, slots + 8, 4);
    flushes(a.queue);
    sink_is_empty(&sink, "behind open slots");
    stats = queue_sent(a.queue);
    ok(stats.open == 8 && stats.waiting == 4 && stats.held_back == 4 && stats.handed == 0,
       "%s: four are held back", mode->name);
    queue_adds_up(a.queue, "behind open slots");
    queue_must_commit(a.queue, slots, 4);
    flushes(a.queue);
    sink_is_stream(&sink, 0, 4, "the first ones");
    sink_is_empty(&sink, "behind the others");
    /* Slots reserved later do not overtake. */
    queue_must_reserve(a.queue, more, 4);
    fill(more, 12, 4);
    queue_must_commit(a.queue, more, 4);
    flushes(a.queue);
    sink_is_empty(&sink, "reserved later");
    for (uint32_t i = 8; i-- > 4;)
        queue_must_commit(a.queue, slots + i, 1);
    flushes(a.queue);
    sink_is_stream(&sink, 4, 12, "all others, in the order of reserve");
    queue_drains(a.queue, mode->name);
    no_results(a.queue, mode->name);
    queue_adds_up(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

static void test_discard(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_slot slots[SLOTS];
    struct netring_injector_stats stats;
    uint32_t made = 0;

    for (uint32_t round = 0; round < 20; round++) {
        uint32_t first = made;

        queue_must_reserve(a.queue, slots, 30);
        for (uint32_t i = 0; i < 30; i++)
            slots[i].len = (i + round) % 3 ? stream_make(slots[i].data, made++) : 0;
        queue_must_commit(a.queue, slots, 30);
        flushes(a.queue);
        sink_is_stream(&sink, first, made - first, "some discarded");
    }
    /* All of them, without end: none is lost. */
    for (uint32_t round = 0; round < 20; round++) {
        queue_must_reserve(a.queue, slots, SLOTS - 4);
        queue_must_commit(a.queue, slots, SLOTS - 4);
    }
    stats = queue_sent(a.queue);
    is_int(stats.discarded, 200 + 20 * (SLOTS - 4), "%s: discarded", mode->name);
    is_int(stats.committed, made, "%s: committed", mode->name);
    queue_drains(a.queue, mode->name);
    sink_is_empty(&sink, mode->name);
    queue_adds_up(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* ---- full ---- */

static void test_full(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_slot slots[SLOTS + 1];
    int64_t start = now_ms();
    int rc;

    is_int(netring_queue_reserve(a.queue, slots, sizeof *slots, SLOTS + 1, 0), SLOTS,
           "%s: as many slots as there are frames", mode->name);
    errno = 0;
    rc = netring_queue_reserve(a.queue, slots + SLOTS, sizeof *slots, 1, 0);
    ok(rc == 0 && errno == 0, "%s: then none", mode->name);
    is_int(netring_queue_reserve(a.queue, slots + SLOTS, sizeof *slots, 1, 30), 0,
           "%s: nor in a while", mode->name);
    ok(now_ms() - start >= 29, "%s: which it waits for", mode->name);
    is_int(netring_queue_send(a.queue, slots[0].data, 60, 0), 0, "%s: nor for a copy", mode->name);
    fill(slots, 0, SLOTS);
    queue_must_commit(a.queue, slots, SLOTS);
    /* Committed and not flushed: a wait for a slot hands them over. */
    is_int(netring_queue_reserve(a.queue, slots, sizeof *slots, 1, (int)tap_patience(1000)), 1,
           "%s: a wait hands over what is committed", mode->name);
    sink_is_stream(&sink, 0, SLOTS, "all of them");
    slots[0].len = 0;
    queue_must_commit(a.queue, slots, 1);
    queue_drains(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    queue_adds_up(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* A drain of nothing, of open slots, of frames. */
static void test_drain(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_slot slot;

    is_int(netring_queue_drain(a.queue, 0), 1, "%s: of nothing", mode->name);
    is_int(netring_queue_flush(a.queue), 0, "%s: a flush of nothing", mode->name);
    queue_must_reserve(a.queue, &slot, 1);
    queue_commit_stream(a.queue, 1, 3);
    is_int(netring_queue_drain(a.queue, 20), 1, "%s: what an open slot holds back cannot leave",
           mode->name);
    sink_is_empty(&sink, "behind an open slot");
    fill(&slot, 0, 1);
    queue_must_commit(a.queue, &slot, 1);
    queue_drains(a.queue, mode->name);
    sink_is_stream(&sink, 0, 4, mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* ---- what cannot be sent ---- */

static void test_misuse(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config), b;
    uint32_t limit = xdp_info(a.xdp).frame_limit;
    struct numbered frames[8];
    struct netring_slot slots[8], other, bad;
    struct netring_injector_stats before;

    ok(limit >= 1514 && limit <= 1518, "%s: frame_limit %u of an MTU of 1500", mode->name, limit);
    queue_must_reserve(a.queue, slots, 8);
    for (uint32_t i = 0; i < 8; i++) {
        frames[i] = (struct numbered){i, 100 + i, false};
        numbered_make(slots[i].data, frames[i].length, i, false);
        slots[i].len = frames[i].length;
    }
    before = queue_sent(a.queue);
    /* Up to the first that is wrong. */
    slots[2].len = limit + 1;
    is_int(netring_queue_commit(a.queue, slots, sizeof *slots, 8), 2, "%s: up to a long one",
           mode->name);
    is_int(netring_queue_commit(a.queue, slots + 2, sizeof *slots, 6), NETRING_EMSGSIZE,
           "%s: the long one", mode->name);
    slots[2].len = 13;
    is_int(netring_queue_commit(a.queue, slots + 2, sizeof *slots, 6), NETRING_EINVAL,
           "%s: no Ethernet header", mode->name);
    slots[2].len = frames[2].length;
    bad = slots[2];
    bad.cookie = slots[1].cookie;
    is_int(netring_queue_commit(a.queue, &bad, sizeof bad, 1), NETRING_EINVAL,
           "%s: committed before", mode->name);
    bad.cookie = slots[7].cookie + 1;
    is_int(netring_queue_commit(a.queue, &bad, sizeof bad, 1), NETRING_EINVAL,
           "%s: not reserved yet", mode->name);
    bad.cookie = 0;
    is_int(netring_queue_commit(a.queue, &bad, sizeof bad, 1), NETRING_EINVAL, "%s: of nobody",
           mode->name);
    b = xdp_one("vc", &config);
    queue_must_reserve(b.queue, &other, 1);
    is_int(netring_queue_commit(a.queue, &slots[2], 8, 1), NETRING_EINVAL, "%s: a size",
           mode->name);
    is_int(netring_queue_commit(a.queue, NULL, sizeof bad, 1), NETRING_EINVAL, "%s: NULL",
           mode->name);
    is_int(netring_queue_commit(a.queue, slots, sizeof bad, 0), NETRING_EINVAL, "%s: none",
           mode->name);
    bad = slots[2];
    bad.data++;
    is_int(netring_queue_commit(a.queue, &bad, sizeof bad, 1), NETRING_EINVAL, "%s: data moved",
           mode->name);
    bad = slots[2];
    bad.csum_start = 14;
    is_int(netring_queue_commit(a.queue, &bad, sizeof bad, 1), NETRING_EINVAL,
           "%s: a field for others", mode->name);
    is_int(netring_queue_reserve(a.queue, NULL, sizeof bad, 1, 0), NETRING_EINVAL,
           "%s: reserve to NULL", mode->name);
    is_int(netring_queue_reserve(a.queue, &bad, 8, 1, 0), NETRING_EINVAL, "%s: reserve a size",
           mode->name);
    is_int(netring_queue_send(a.queue, slots[3].data, 13, 0), NETRING_EINVAL, "%s: a short copy",
           mode->name);
    is_int(netring_queue_send(a.queue, NULL, 60, 0), NETRING_EINVAL, "%s: a copy of NULL",
           mode->name);
    {
        static uint8_t large[4096];

        is_int(netring_queue_send(a.queue, large, limit + 1, 0), NETRING_EMSGSIZE,
               "%s: a long copy", mode->name);
    }
    is_int(queue_sent(a.queue).committed, before.committed + 2, "%s: two are committed",
           mode->name);
    is_int(queue_sent(a.queue).open, 6, "%s: the others are open", mode->name);
    queue_must_commit(a.queue, slots + 2, 6);
    queue_drains(a.queue, mode->name);
    sink_is(&sink, frames, 8, "what was wrong and is right now");
    sink_is_empty(&sink, mode->name);
    no_results(a.queue, mode->name);
    is_int(queue_counters(a.queue).tx_invalid, 0, "%s: the kernel has seen nothing wrong",
           mode->name);
    queue_adds_up(a.queue, mode->name);
    xdp_close(b.xdp);
    xdp_close(a.xdp);
    is_int(netring_queue_commit(b.queue, &other, sizeof other, 1), NETRING_EBADF,
           "%s: a slot of a closed queue", mode->name);
}

/* The shortest and the longest that go. */
static void test_lengths(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct numbered frames[] = {{1, 14, false}, {2, 15, false},   {3, 59, false},
                                {4, 60, false}, {5, 1514, false}, {6, 1518, true}};
    struct netring_slot slots[COUNT(frames)];

    queue_must_reserve(a.queue, slots, COUNT(frames));
    for (size_t i = 0; i < COUNT(frames); i++) {
        numbered_make(slots[i].data, frames[i].length, frames[i].number, frames[i].tagged);
        slots[i].len = frames[i].length;
    }
    queue_must_commit(a.queue, slots, COUNT(frames));
    queue_drains(a.queue, mode->name);
    sink_is(&sink, frames, COUNT(frames), "from 14 bytes to a tagged one of 1518");
    no_results(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* The MTU is smaller than it was at the commit: that frame is a result, the others leave. */
static void test_smaller_mtu(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_slot slots[3];
    struct netring_result result[2];
    struct numbered left[] = {{1, 100, false}, {3, 100, false}};
    struct netring_injector_stats stats;

    queue_must_reserve(a.queue, slots, 3);
    for (uint32_t i = 0; i < 3; i++) {
        slots[i].len = i == 1 ? 1500 : 100;
        numbered_make(slots[i].data, slots[i].len, i + 1, false);
    }
    queue_must_commit(a.queue, slots, 3);
    net_link_mtu("va", 1000);
    net_link_mtu("vb", 1000);
    queue_drains(a.queue, mode->name);
    sink_is(&sink, left, 2, "with a smaller MTU");
    sink_is_empty(&sink, mode->name);
    if (is_int(netring_queue_results(a.queue, result, sizeof *result, 2), 1, "%s: one result",
               mode->name))
        /* Before Linux 6.17 the kernel does not tell which. */
        ok(result[0].cookie == (xdp_kernel(6, 17) ? slots[1].cookie : 0) && result[0].code < 0,
           "%s: %s (%s)", mode->name, netring_err_name(result[0].code),
           strerror(result[0].os_errno));
    stats = queue_sent(a.queue);
    is_int(stats.refused + stats.dropped, 1, "%s: is counted", mode->name);
    is_int(stats.completed, 2, "%s: as are the others", mode->name);
    queue_adds_up(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    net_link_mtu("va", 1500);
    net_link_mtu("vb", 1500);
    xdp_close(a.xdp);
}

/* Nobody fetches results: the newest are kept, and the others counted. */
static void test_results_kept(void)
{
    enum { KEPT = 4096, SENT = 1536, ROUNDS = 3, LOST = ROUNDS * SENT - KEPT };
    struct netring_xdp_config config = send_config(&xdp_modes[0]);
    static struct netring_result results[KEPT + 1];
    static struct netring_slot slots[SENT];
    struct netring_injector_stats stats;
    struct xdp_one a;

    config.tx_frames = SENT;
    a = xdp_one("va", &config);
    for (int round = 0; round < ROUNDS; round++) {
        queue_must_reserve(a.queue, slots, SENT);
        for (uint32_t i = 0; i < SENT; i++) {
            slots[i].len = 1500;
            numbered_make(slots[i].data, slots[i].len, i, false);
        }
        queue_must_commit(a.queue, slots, SENT);
        net_link_mtu("vb", 1000); /* veth looks at its peer's */
        queue_drains(a.queue, "larger than the MTU");
        net_link_mtu("vb", 1500);
    }
    sink_is_empty(&sink, "larger than the MTU");
    stats = queue_sent(a.queue);
    is_int(stats.dropped, ROUNDS * SENT, "larger than the MTU: dropped");
    is_int(stats.results_lost, LOST, "results that nobody fetched are counted");
    is_int(netring_queue_results(a.queue, results, sizeof *results, KEPT + 1), KEPT,
           "the others are kept");
    if (xdp_kernel(6, 17)) {
        is_int(results[0].cookie, LOST + 1, "from the oldest of these");
        is_int(results[KEPT - 1].cookie, ROUNDS * SENT, "to the newest");
    }
    is_int(netring_queue_results(a.queue, results, sizeof *results, 1), 0, "and told once");
    queue_adds_up(a.queue, "larger than the MTU");
    queue_is_idle(a.queue, "larger than the MTU");
    xdp_close(a.xdp);
}

/* The completion ring holds far fewer frames than are sent: the kernel ends a kick without an error
 * then. What it left is not taken for sent. */
static void test_small_completion_ring(const struct xdp_mode *mode)
{
    enum { MANY = 512 };
    struct netring_xdp_config config = send_config(mode);
    struct netring_injector_stats stats;
    struct xdp_one a;

    config.tx_frames = MANY;
    config.completion_ring = 64;
    a = xdp_one("va", &config);
    queue_commit_stream(a.queue, 0, MANY);
    flushes(a.queue);
    stats = queue_sent(a.queue);
    ok(stats.full_socket > 0 || stats.completed == MANY,
       "a small completion ring: all are sent, or there was no room");
    queue_drains(a.queue, "a small completion ring");
    sink_is_stream(&sink, 0, MANY, "a small completion ring");
    no_results(a.queue, "a small completion ring");
    queue_adds_up(a.queue, "a small completion ring");
    queue_is_idle(a.queue, "a small completion ring");
    xdp_close(a.xdp);
}

/* The receiver's ring is full: what veth drops is told, frame by frame. */
static void test_dropped(void)
{
    enum { MANY = 512 };
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    struct xdp_one a, b;
    struct netring_result results[64];
    struct netring_injector_stats stats;
    uint64_t results_seen = 0, wrong = 0, last = 0;
    struct records got = {0};
    uint32_t sent = 0;
    int told;

    config.tx_frames = MANY;
    config.rx_frames = 64; /* far fewer than are sent */
    a = xdp_one("va", &config);
    b = xdp_one("vb", &config);
    for (int i = 0; i < 10; i++) {
        struct netring_slot slots[MANY];
        int now =
            netring_queue_reserve(a.queue, slots, sizeof *slots, MANY, (int)tap_patience(1000));

        if (now <= 0)
            tap_bail("reserve: %d", now);
        fill(slots, sent, (uint32_t)now);
        queue_must_commit(a.queue, slots, (size_t)now);
        flushes(a.queue);
        sent += (uint32_t)now;
        while ((told = netring_queue_results(a.queue, results, sizeof *results, COUNT(results))) >
               0) {
            for (int k = 0; k < told; k++) {
                wrong += results[k].code >= 0 || (xdp_kernel(6, 17) && results[k].cookie <= last);
                last = results[k].cookie;
            }
            results_seen += (uint64_t)told;
        }
    }
    queue_drains(a.queue, "a flood");
    while ((told = netring_queue_results(a.queue, results, sizeof *results, COUNT(results))) > 0)
        results_seen += (uint64_t)told;
    queue_receive(b.queue, SIZE_MAX, 100, &got);
    stats = queue_sent(a.queue);
    is_int(stats.committed, sent, "a flood: %u sent", sent);
    is_int(stats.completed + stats.dropped + stats.refused, sent,
           "a flood: each completed or dropped");
    is_int(results_seen, stats.dropped + stats.refused, "a flood: a result for each dropped");
    is_int(wrong, 0, "a flood: in order, with a code");
    is_int(stats.completed, got.count + queue_stats(b.queue).dropped,
           "a flood: what left arrived (%zu) or was dropped by the receiver (%llu); %llu did not "
           "leave",
           got.count, (unsigned long long)queue_stats(b.queue).dropped,
           (unsigned long long)stats.dropped);
    ok(queue_stats(b.queue).dropped > 0, "a flood: some were");
    queue_adds_up(a.queue, "a flood");
    queue_is_idle(a.queue, "a flood");
    queue_is_idle(b.queue, "a flood");
    records_free(&got);
    xdp_close(a.xdp);
    xdp_close(b.xdp);
}

/* ---- the link ---- */

static void test_down(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    int rc;

    net_link_up("va", false);
    queue_commit_stream(a.queue, 0, 5);
    errno = 0;
    rc = netring_queue_flush(a.queue);
    ok(rc == NETRING_ENETDOWN && errno == ENETDOWN, "%s: the link is down: %s", mode->name,
       netring_err_name(rc));
    rc = netring_queue_drain(a.queue, 20);
    ok(rc == NETRING_ENETDOWN || rc == 0, "%s: a drain says so, too: %s", mode->name,
       netring_err_name(rc));
    is_int(queue_sent(a.queue).waiting + queue_sent(a.queue).in_flight, 5, "%s: nothing is lost",
           mode->name);
    queue_adds_up(a.queue, mode->name);
    net_link_up("va", true);
    net_await_carrier("va");
    queue_drains(a.queue, mode->name);
    sink_is_stream(&sink, 0, 5, "up again");
    queue_commit_stream(a.queue, 5, 5);
    queue_drains(a.queue, mode->name);
    sink_is_stream(&sink, 5, 5, "and on");
    no_results(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

static void test_gone(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct footprint before = footprint_now();
    struct netring_slot slot;
    struct xdp_one a;
    int rc;

    net_veth("ga", "gb");
    net_await_carrier("ga");
    a = xdp_one("ga", &config);
    queue_commit_stream(a.queue, 0, 5);
    queue_must_reserve(a.queue, &slot, 1);
    net_link_delete("ga");
    errno = 0;
    rc = netring_queue_flush(a.queue);
    ok(rc == NETRING_ENODEV && errno == ENODEV, "%s: the interface is gone: %s", mode->name,
       netring_err_name(rc));
    rc = netring_queue_drain(a.queue, (int)tap_patience(1000));
    is_int(rc, NETRING_ENODEV, "%s: nothing to wait for", mode->name);
    memset(slot.data, 7, 60); /* its memory is there */
    rc = netring_queue_send(a.queue, slot.data, 60, 0);
    ok(rc == 1 || rc == NETRING_ENODEV, "%s: nor to send to (%d)", mode->name, rc);
    queue_adds_up(a.queue, mode->name);
    rc = netring_xdp_close(a.xdp);
    ok(rc >= 0 && rc <= 6, "%s: close tells of %d frames", mode->name, rc);
    is_footprint(before, "an interface that is gone");
}

/* ---- several threads ---- */

struct thread {
    struct netring_queue *queue;
    uint32_t number, count;
    pthread_t thread;
    uint32_t failed;
};

static void *sends(void *user)
{
    struct thread *t = user;

    for (uint32_t i = 0, turn = 0; i < t->count;) {
        struct netring_slot slots[8];
        int got = netring_queue_reserve(t->queue, slots, sizeof *slots, 1 + (i + t->number) % 8,
                                        (int)tap_patience(5000));

        if (got <= 0) {
            t->failed++;
            break;
        }
        for (int k = 0; k < got; k++) {
            bool keep = i < t->count && turn++ % 5 != 4;

            slots[k].len = 0;
            if (keep) {
                numbered_make(slots[k].data, 100, t->number << 24 | i, false);
                slots[k].len = 100;
                i++;
            }
        }
        t->failed += netring_queue_commit(t->queue, slots, sizeof *slots, (size_t)got) != got;
        if (i % 3 == 0)
            t->failed += netring_queue_flush(t->queue) < 0;
        while (__atomic_load_n(&sink.received, __ATOMIC_RELAXED) + 400 <
               queue_sent(t->queue).handed)
            usleep(100);
    }
    t->failed += netring_queue_flush(t->queue) < 0;
    return NULL;
}

static void test_threads(const struct xdp_mode *mode)
{
    enum { THREADS = 4 };
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    uint32_t each = tap_patience(1) > 1 ? 300 : 5000, next[THREADS] = {0}, wrong = 0, failed = 0;
    struct thread threads[THREADS];
    uint8_t frame[100];

    sink.received = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.queue = a.queue, .number = i, .count = each};
        pthread_create(&threads[i].thread, NULL, sends, &threads[i]);
    }
    for (uint32_t got = 0; got < THREADS * each; got++) {
        uint32_t number, from;

        if (sink_next(&sink, (int)tap_patience(2000)) != 100) {
            wrong++;
            break;
        }
        number = numbered_number(sink.frame);
        from = number >> 24;
        if (from >= THREADS || (number & 0xffffff) != next[from]) {
            wrong++;
            break;
        }
        numbered_make(frame, sizeof frame, number, false);
        wrong += memcmp(frame, sink.frame, sizeof frame) != 0;
        next[from]++;
    }
    sink.received = UINT32_MAX; /* nobody waits any more */
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i].thread, NULL);
        failed += threads[i].failed;
        is_int(next[i], each, "%s: frames of thread %u, in order", mode->name, i);
    }
    is_int(wrong, 0, "%s: as they were sent", mode->name);
    is_int(failed, 0, "%s: every call works", mode->name);
    queue_drains(a.queue, mode->name);
    sink_is_empty(&sink, mode->name);
    no_results(a.queue, mode->name);
    is_int(queue_sent(a.queue).handed, THREADS * each, "%s: handed", mode->name);
    queue_adds_up(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* ---- close ---- */

static void test_close(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct footprint before = footprint_now();
    struct xdp_one a = xdp_one("va", &config);
    struct netring_slot slots[4], first;
    int rc;

    queue_must_reserve(a.queue, &first, 1);
    queue_commit_stream(a.queue, 0, 3);
    queue_must_reserve(a.queue, slots, 4);
    /* Three are committed behind an open slot and can never leave. */
    rc = netring_xdp_close(a.xdp);
    is_int(rc, 3, "%s: close tells of what did not leave", mode->name);
    is_int(netring_queue_commit(a.queue, slots, sizeof *slots, 4), NETRING_EBADF,
           "%s: a slot of before", mode->name);
    is_footprint(before, "closed with open slots");
    sink_is_empty(&sink, mode->name);
    a = xdp_one("va", &config);
    queue_commit_stream(a.queue, 0, 3);
    flushes(a.queue);
    xdp_close(a.xdp);
    sink_is_stream(&sink, 0, 3, "what was flushed leaves");
    is_footprint(before, "closed with frames under way");
}

/* By copy. */
static void test_copies(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = send_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    static uint8_t bytes[10][FRAME_MAX];
    struct netring_frame frames[10];
    struct netring_slot slots[SLOTS];

    memset(frames, 0, sizeof frames);
    for (uint32_t i = 0; i < 10; i++) {
        frames[i].data = bytes[i];
        frames[i].len = stream_make(bytes[i], i);
    }
    is_int(netring_queue_send(a.queue, frames[0].data, frames[0].len, 0), 1, "%s: one", mode->name);
    is_int(netring_queue_send_batch(a.queue, frames + 1, sizeof *frames, 9, 0), 9, "%s: nine",
           mode->name);
    queue_drains(a.queue, mode->name);
    sink_is_stream(&sink, 0, 10, "by copy");
    /* No more than there are slots for. */
    queue_must_reserve(a.queue, slots, SLOTS - 4);
    is_int(netring_queue_send_batch(a.queue, frames, sizeof *frames, 10, 0), 4,
           "%s: as many as there are slots", mode->name);
    for (uint32_t i = 0; i < SLOTS - 4; i++)
        slots[i].len = 0;
    queue_must_commit(a.queue, slots, SLOTS - 4);
    queue_drains(a.queue, mode->name);
    sink_is_stream(&sink, 0, 4, "these");
    /* The first that is wrong ends it. */
    frames[3].len = 13;
    is_int(netring_queue_send_batch(a.queue, frames, sizeof *frames, 10, 0), 3,
           "%s: up to a short one", mode->name);
    is_int(netring_queue_send_batch(a.queue, frames + 3, sizeof *frames, 7, 0), NETRING_EINVAL,
           "%s: the short one", mode->name);
    queue_drains(a.queue, mode->name);
    sink_is_stream(&sink, 0, 3, "those before it");
    sink_is_empty(&sink, mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* ---- received packets, by copy ---- */

static int send_all(struct netring_queue *queue, struct netring_block *block)
{
    struct netring_packet packets[64];
    int sent = 0, n, rc;

    while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0) {
        rc = netring_queue_send_packet(queue, block, packets, sizeof *packets, (size_t)n,
                                       (int)tap_patience(1000));
        if (rc != n)
            tap_bail("send_packet: %d of %d (%s)", rc, n, netring_err_name(rc));
        sent += n;
    }
    return sent;
}

/* What a capture has received, its tags put back, and what another queue has, whose memory is
 * another. */
static void test_received(const struct xdp_mode *mode)
{
    enum { FRAMES = 300 };
    struct netring_xdp_config config = send_config(mode), receives = send_config(mode);
    struct netring_capture_config small = small_config();
    struct netring_capture *capture = capture_open("vc", &small);
    struct xdp_one a = xdp_one("va", &config), c;
    struct netring_packet packet;
    struct netring_block *block;
    int sender = net_sender("vd");
    uint32_t sent = 0;

    for (uint32_t first = 0; first < FRAMES; first += 50) {
        uint32_t now = 0;

        send_stream(sender, first, 50);
        while (now < 50 &&
               netring_capture_next_block(capture, (int)tap_patience(1000), &block) == 1) {
            now += (uint32_t)send_all(a.queue, block);
            netring_block_release(block);
        }
        sent += now;
        sink_is_stream(&sink, first, 50, "of a capture");
    }
    is_int(sent, FRAMES, "%s: received by a capture, sent by a queue", mode->name);
    capture_close(capture);
    receives.redirect = NETRING_REDIRECT_ALL;
    c = xdp_one("vc", &receives);
    for (uint32_t first = 0; first < FRAMES; first += 50) {
        send_stream(sender, first, 50);
        queue_await(c.queue, 50);
        block = queue_block(c.queue, 50);
        is_int(send_all(a.queue, block), 50, "%s: received by a queue, sent by another",
               mode->name);
        netring_block_release(block);
        sink_is_stream(&sink, first, 50, "of a queue");
    }
    queue_drains(a.queue, mode->name);
    send_stream(sender, 0, 1);
    queue_await(c.queue, 1);
    block = queue_block(c.queue, 1);
    netring_block_read(block, &packet, sizeof packet, 1);
    is_int(netring_queue_send_packet(a.queue, block, NULL, sizeof packet, 1, 0), NETRING_EINVAL,
           "%s: NULL", mode->name);
    is_int(netring_queue_send_packet(a.queue, block, &packet, 8, 1, 0), NETRING_EINVAL,
           "%s: a size", mode->name);
    is_int(netring_queue_send_packet(a.queue, block, &packet, sizeof packet, 0, 0), NETRING_EINVAL,
           "%s: none", mode->name);
    netring_block_release(block);
    is_int(netring_queue_send_packet(a.queue, block, &packet, sizeof packet, 1, 0), NETRING_EBADF,
           "%s: a block that is released", mode->name);
    sink_is_empty(&sink, mode->name);
    no_results(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    queue_is_idle(c.queue, mode->name);
    queue_adds_up(a.queue, mode->name);
    xdp_close(a.xdp);
    xdp_close(c.xdp);
    close(sender);
}

/* Receive only, and an empty fill ring for who only sends. */
static void test_no_tx(void)
{
    struct netring_xdp_config config = send_config(&xdp_modes[0]);
    const uint8_t frame[60] = {2};
    struct netring_slot slot;
    struct xdp_one a;
    int rc;

    config.tx_frames = 0;
    config.flags |= NETRING_XDP_NO_TX;
    a = xdp_one("va", &config);
    rc = netring_queue_reserve(a.queue, &slot, sizeof slot, 1, 0);
    is_int(rc, NETRING_EINVAL, "receive only: no slots");
    is_int(netring_queue_send(a.queue, frame, sizeof frame, 0), NETRING_EINVAL, "nor copies");
    is_int(queue_counters(a.queue).tx_frames, 0, "nor frames for them");
    xdp_close(a.xdp);
}

int main(void)
{
    struct footprint before;

    tap_begin(100);
    xdp_enter();
    net_veth("va", "vb");
    net_veth("vc", "vd");
    before = footprint_now();
    for (size_t i = 0; i < COUNT(xdp_modes); i++) {
        sink_open(&sink, "vb");
        test_order(&xdp_modes[i]);
        test_discard(&xdp_modes[i]);
        test_full(&xdp_modes[i]);
        test_drain(&xdp_modes[i]);
        test_misuse(&xdp_modes[i]);
        test_lengths(&xdp_modes[i]);
        test_smaller_mtu(&xdp_modes[i]);
        test_copies(&xdp_modes[i]);
        test_received(&xdp_modes[i]);
        test_small_completion_ring(&xdp_modes[i]);
        test_down(&xdp_modes[i]);
        test_gone(&xdp_modes[i]);
        test_threads(&xdp_modes[i]);
        test_close(&xdp_modes[i]);
        if (i == 0)
            test_results_kept();
        sink_close(&sink);
    }
    test_no_tx();
    test_dropped();
    is_footprint(before, "all of it");
    return tap_end();
}
