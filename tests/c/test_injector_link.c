/* What is between an injector and the wire: full queues and a small send buffer, which lose
 * nothing, and the way past the queue; a link that is down, has no carrier, comes back, or is
 * removed; one of another network namespace; a close with frames in every state; the rate.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "inject.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SLOTS = 64,
    MTU_FRAME = 1000,
    KBYTE_RATE = 1000 * 1000, /* bytes a second: a frame of 1000 takes a millisecond */
};

static struct sink sink; /* at vb */

static const struct netring_injector_config *config_of(const struct method *method, uint64_t flags)
{
    static struct netring_injector_config config;

    config = inject_config(method->method, SLOTS);
    config.flags |= flags;
    return &config;
}

/* Commits `count` frames of one length, all slots at once. */
static void commit_frames(struct netring_injector *injector, uint32_t first, uint32_t count)
{
    struct netring_slot slots[4 * SLOTS];

    must_reserve(injector, slots, count);
    for (uint32_t i = 0; i < count; i++) {
        numbered_make(slots[i].data, MTU_FRAME, first + i, false);
        slots[i].len = MTU_FRAME;
    }
    must_commit(injector, slots, count);
}

/* One check: frames first..first+count-1 of commit_frames arrive. */
static bool frames_arrive_at(struct sink *there, uint32_t first, uint32_t count, const char *what)
{
    struct numbered *frames = calloc(count + 1, sizeof *frames);
    bool good;

    if (!frames)
        tap_bail("out of memory");
    for (uint32_t i = 0; i < count; i++)
        frames[i] = (struct numbered){first + i, MTU_FRAME, false};
    good = sink_is(there, frames, count, what);
    free(frames);
    return good;
}

static bool frames_arrive(uint32_t first, uint32_t count, const char *what)
{
    return frames_arrive_at(&sink, first, count, what);
}

/* ---- back-pressure ---- */

/* As many as that by batches, each with a wait for slots; they arrive at the queue's pace. */
static void squeeze(struct netring_injector *injector, uint32_t count, const char *what)
{
    struct netring_injector_stats stats;
    uint32_t sent = 0, batch = 16;
    unsigned off = 0;

    while (sent < count) {
        struct netring_slot slots[16];
        uint32_t want = count - sent < batch ? count - sent : batch;
        int got =
            netring_injector_reserve(injector, slots, sizeof *slots, want, (int)tap_patience(3000));

        if (!ok(got > 0, "%s: a slot for frame %u (%s)", what, sent, netring_err_name(got)))
            return;
        for (int i = 0; i < got; i++) {
            numbered_make(slots[i].data, MTU_FRAME, sent + (uint32_t)i, false);
            slots[i].len = MTU_FRAME;
        }
        must_commit(injector, slots, (size_t)got);
        if (netring_injector_flush(injector) < 0)
            ok(false, "%s: flush under back-pressure is no error", what);
        stats = injector_stats(injector);
        off += not_adding_up(&stats) != NULL;
        sent += (uint32_t)got;
    }
    drains(injector, what);
    is_int(off, 0, "%s: the counters add up all the time", what);
    frames_arrive(0, count, what);
    stats = injector_stats(injector);
    ok(stats.handed == count && stats.completed == count && stats.refused + stats.dropped == 0,
       "%s: all were handed over, none refused", what);
    sink_is_empty(&sink, what);
}

static void test_full_queue(const struct method *method)
{
    struct netring_injector *injector = injector_open("va", config_of(method, 0));
    struct netring_injector_stats stats;
    struct netring_result result;

    net_queue_slow("va", KBYTE_RATE, 10 * MTU_FRAME);
    squeeze(injector, 400, "a full queue");
    stats = injector_stats(injector);
    ok(stats.full_queue > 0, "%s: a full queue: %llu times told", method->name,
       (unsigned long long)stats.full_queue);
    ok(stats.qdisc_drops >= stats.full_queue || !(stats.valid & NETRING_INJECTOR_STATS_QDISC),
       "%s: a full queue: %llu drops, each offered again", method->name,
       (unsigned long long)stats.qdisc_drops);
    is_int(netring_injector_results(injector, &result, sizeof result, 1), 0,
           "%s: a full queue: no frame is lost, no results", method->name);
    net_queue_none("va");
    injector_close(injector);
}

static void test_full_socket(const struct method *method)
{
    struct open_files before = open_files_now();
    struct netring_injector *injector = injector_open("va", config_of(method, 0));
    struct netring_injector_stats stats;
    int small = 4 * MTU_FRAME, fd = packet_socket_since(&before);

    net_queue_slow("va", KBYTE_RATE, 1000 * MTU_FRAME);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) != 0)
        tap_bail("SO_SNDBUF: %s", strerror(errno));
    squeeze(injector, 300, "a small send buffer");
    stats = injector_stats(injector);
    ok(stats.full_socket > 0, "%s: a small send buffer: %llu times told", method->name,
       (unsigned long long)stats.full_socket);
    is_int(stats.full_queue, 0, "%s: a small send buffer: the queue is not full", method->name);
    net_queue_none("va");
    injector_close(injector);
}

/* A drain that cannot end in time, and then can. */
static void test_slow_drain(const struct method *method)
{
    struct netring_injector *injector = injector_open("va", config_of(method, 0));
    struct netring_injector_stats stats;
    int64_t start = now_ms();

    net_queue_slow("va", KBYTE_RATE / 10, 5 * MTU_FRAME); /* 10 ms a frame */
    commit_frames(injector, 0, 30);
    is_int(netring_injector_drain(injector, 0), 0, "%s: a drain without time", method->name);
    is_int(netring_injector_drain(injector, 50), 0, "%s: a drain with too little", method->name);
    is_between(now_ms() - start, 49, 250 + tap_patience(1000), "%s: its time", method->name);
    stats = injector_stats(injector);
    ok(stats.waiting + stats.in_flight > 0, "%s: %llu wait, %llu are in flight", method->name,
       (unsigned long long)stats.waiting, (unsigned long long)stats.in_flight);
    drains(injector, "a slow queue");
    adds_up(injector, "a slow queue");
    frames_arrive(0, 30, "a slow queue");
    net_queue_none("va");
    injector_close(injector);
}

/* ---- down ---- */

static void down(struct netring_injector *injector, const char *what)
{
    struct netring_injector_stats stats;
    struct netring_slot slot;
    struct netring_error error;
    int rc, error_number;

    commit_frames(injector, 0, 10);
    errno = 0;
    rc = netring_injector_flush(injector);
    error_number = errno;
    error_spoil(&error);
    netring_injector_last_error(injector, &error);
    is_failure(rc, error_number, &error,
               &(struct failure){NETRING_ENETDOWN, ENETDOWN, "link", {"link is down", "carrier"}},
               what);
    is_int(netring_injector_drain(injector, 1000), NETRING_ENETDOWN, "%s: drain", what);
    stats = injector_stats(injector);
    ok(stats.waiting == 10 && stats.handed == 0 && stats.refused == 0, "%s: the frames stay", what);
    adds_up(injector, what);
    is_int(netring_injector_reserve(injector, &slot, sizeof slot, 1, 0), 1,
           "%s: slots can be had all the same", what);
    slot.len = 0;
    must_commit(injector, &slot, 1);
}

/* One check: everything leaves, some time after the link is up. */
static void drains_once_up(struct netring_injector *injector, const char *what)
{
    int64_t end = now_ms() + tap_patience(5000);
    int rc;

    while ((rc = netring_injector_drain(injector, 100)) == NETRING_ENETDOWN && now_ms() < end)
        sleep_ms(1);
    is_int(rc, 1, "%s: up again: they leave", what);
}

static void up_again(struct netring_injector *injector, const char *what)
{
    drains_once_up(injector, what);
    frames_arrive(0, 10, what);
    sink_is_empty(&sink, what);
    is_int(injector_stats(injector).handed, 10, "%s: each once", what);
}

static void test_down(const struct method *method)
{
    struct netring_injector *injector = injector_open("va", config_of(method, 0));
    struct netring_injector_stats stats;
    char what[64];
    int rc = 0;

    snprintf(what, sizeof what, "%s: set down", method->name);
    net_link_up("va", false);
    down(injector, what);
    net_link_up("va", true);
    up_again(injector, what);
    injector_close(injector);
    net_await_carrier("va");

    /* A program that waits for the event calls once: nothing more happens then. */
    injector = injector_open("va", config_of(method, 0));
    snprintf(what, sizeof what, "%s: up for long", method->name);
    net_link_up("va", false);
    down(injector, what);
    net_link_up("va", true);
    net_await_carrier("va");
    sleep_ms(20);
    is_int(netring_injector_drain(injector, (int)tap_patience(1000)), 1, "%s: the first call",
           what);
    frames_arrive(0, 10, what);
    injector_close(injector);

    injector = injector_open("va", config_of(method, 0));
    snprintf(what, sizeof what, "%s: no carrier", method->name);
    net_link_up("vb", false);
    net_await_no_carrier("va");
    down(injector, what);
    net_link_up("vb", true);
    up_again(injector, what);
    injector_close(injector);
    net_await_carrier("va");

    /* It takes the kernel up to a second to say so (linkwatch), when the driver drops already. But
     * it may also do it between a look at the link and the sending: what takes the frames is a
     * queue that drops them, and tells nobody (sch_generic.c noop_enqueue). Then once more. */
    injector = injector_open("va", config_of(method, 0));
    snprintf(what, sizeof what, "%s: no carrier, at once", method->name);
    for (int try = 0; try < 5; try++) {
        net_link_up("vb", false);
        commit_frames(injector, 0, 10);
        rc = netring_injector_drain(injector, (int)tap_patience(3000));
        if (rc != 1)
            break;
        net_link_up("vb", true);
        net_await_carrier("va");
        injector_close(injector);
        injector = injector_open("va", config_of(method, 0));
    }
    is_str(netring_err_name(rc), "NETRING_ENETDOWN", "%s: drain", what);
    stats = injector_stats(injector);
    ok(stats.waiting == 10 && stats.handed + stats.refused + stats.dropped == 0,
       "%s: the frames stay", what);
    net_link_up("vb", true);
    up_again(injector, what);
    injector_close(injector);
    net_await_carrier("va");

    net_link_up("va", false);
    injector = injector_open("va", config_of(method, 0));
    snprintf(what, sizeof what, "%s: down at the open", method->name);
    down(injector, what);
    net_link_up("va", true);
    up_again(injector, what);
    injector_close(injector);
    net_await_carrier("va");
}

/* A link that was set down is back-pressure, then. */
static void test_ignore_link_state(const struct method *method)
{
    struct netring_injector *injector =
        injector_open("va", config_of(method, NETRING_INJECTOR_IGNORE_LINK_STATE));
    struct netring_injector_stats stats;

    net_link_up("va", false);
    commit_frames(injector, 0, 10);
    is_int(netring_injector_flush(injector), 0, "%s: link state ignored: down is back-pressure",
           method->name);
    is_int(netring_injector_drain(injector, 30), 0, "%s: link state ignored: drain waits",
           method->name);
    stats = injector_stats(injector);
    ok(stats.waiting == 10 && stats.handed == 0, "%s: link state ignored: the frames stay",
       method->name);
    net_link_up("va", true);
    net_await_carrier("va");
    up_again(injector, "link state ignored");
    injector_close(injector);
}

/* Nothing but what was under way is lost by flaps under load. */
static void *flaps(void *user)
{
    bool *over = user;

    for (int i = 0; i < 8; i++) {
        sleep_ms(30);
        net_link_up("va", false);
        sleep_ms(20);
        net_link_up("va", true);
    }
    __atomic_store_n(over, true, __ATOMIC_RELEASE);
    return NULL;
}

static void test_flapping(const struct method *method)
{
    struct netring_injector *injector = injector_open("va", config_of(method, 0));
    struct netring_injector_stats stats;
    uint32_t sent = 0, received = 0, downs = 0, strange = 0, last = 0;
    bool over = false, ordered = true;
    pthread_t thread;
    size_t length;

    pthread_create(&thread, NULL, flaps, &over);
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        struct netring_slot slots[8];
        int rc, got = netring_injector_reserve(injector, slots, sizeof *slots, COUNT(slots), 0);

        for (int i = 0; i < got; i++) {
            numbered_make(slots[i].data, 60, 1 + sent++, false);
            slots[i].len = 60;
        }
        if (got > 0)
            must_commit(injector, slots, (size_t)got);
        rc = netring_injector_flush(injector);
        downs += rc == NETRING_ENETDOWN;
        strange += rc < 0 && rc != NETRING_ENETDOWN;
        stats = injector_stats(injector);
        strange += not_adding_up(&stats) != NULL;
        while ((length = sink_next(&sink, 0)) > 0) {
            ordered = ordered && length == 60 && numbered_number(sink.frame) > last;
            last = numbered_number(sink.frame);
            received++;
        }
        sleep_ms(1);
    }
    pthread_join(thread, NULL);
    net_await_carrier("va");
    drains_once_up(injector, "flapping");
    while ((length = sink_next(&sink, 100)) > 0) {
        ordered = ordered && length == 60 && numbered_number(sink.frame) > last;
        last = numbered_number(sink.frame);
        received++;
    }
    stats = injector_stats(injector);
    ok(downs > 0 && strange == 0, "%s: flapping: ENETDOWN %u times, nothing else", method->name,
       downs);
    ok(ordered && last == sent, "%s: flapping: in order, none twice, the last one arrives",
       method->name);
    ok(stats.committed == sent && stats.handed == sent && stats.refused == 0,
       "%s: flapping: %u frames handed over, each once", method->name, sent);
    is_between(received, sent - 64, sent, "%s: flapping: and received, but for those under way",
               method->name);
    injector_close(injector);
}

/* ---- removed ---- */

struct flooding {
    struct netring_injector *injector;
    int rc;
    uint64_t committed; /* atomic */
};

static void *floods(void *user)
{
    struct flooding *f = user;

    for (;;) {
        struct netring_slot slots[16];
        int got = netring_injector_reserve(f->injector, slots, sizeof *slots, COUNT(slots), 5000);

        if (got <= 0) {
            f->rc = got;
            return NULL;
        }
        for (int i = 0; i < got; i++) {
            numbered_make(slots[i].data, 60, 0, false);
            slots[i].len = 60;
        }
        got = netring_injector_commit(f->injector, slots, sizeof *slots, (size_t)got);
        if (got > 0)
            __atomic_add_fetch(&f->committed, (uint64_t)got, __ATOMIC_RELAXED);
        got = netring_injector_flush(f->injector);
        if (got < 0) {
            f->rc = got;
            return NULL;
        }
    }
}

static void test_removed(const struct method *method, bool slow, bool by_peer)
{
    struct flooding flooding = {.injector = NULL};
    struct netring_injector_stats stats;
    struct netring_result results[64];
    struct netring_slot slot;
    struct netring_error error;
    uint64_t told = 0;
    pthread_t thread;
    int64_t start;
    char what[80];
    int rc;

    snprintf(what, sizeof what, "%s: removed mid-flood%s%s", method->name,
             slow ? ", with a slow queue" : "", by_peer ? ", by its peer" : "");
    net_veth("gone", "peer");
    if (slow)
        net_queue_slow("gone", KBYTE_RATE / 10, 5000);
    flooding.injector = injector_open("gone", config_of(method, 0));
    pthread_create(&thread, NULL, floods, &flooding);
    while (__atomic_load_n(&flooding.committed, __ATOMIC_RELAXED) < 100)
        sleep_ms(1);
    sleep_ms(20);
    start = now_ms();
    net_link_delete(by_peer ? "peer" : "gone");
    pthread_join(thread, NULL);
    is_between(now_ms() - start, 0, tap_patience(3000), "%s: soon", what);
    /* ENETDOWN for a moment: a link goes down before it goes. */
    start = now_ms();
    while ((rc = netring_injector_flush(flooding.injector)) == NETRING_ENETDOWN &&
           now_ms() - start < tap_patience(3000))
        sleep_ms(1);
    ok(flooding.rc == NETRING_ENODEV || flooding.rc == NETRING_ENETDOWN, "%s: the flood ends: %s",
       what, netring_err_name(flooding.rc));
    is_str(netring_err_name(rc), "NETRING_ENODEV", "%s: flush", what);
    netring_injector_last_error(flooding.injector, &error);
    is_str_contains(error.message, "removed", "%s: last_error", what);
    is_int(netring_injector_drain(flooding.injector, 1000), NETRING_ENODEV, "%s: drain", what);
    /* Slots can be had all the same, as long as there are some. */
    rc = netring_injector_reserve(flooding.injector, &slot, sizeof slot, 1, 1000);
    ok(rc == 1 || rc == NETRING_ENODEV, "%s: reserve (%d)", what, rc);
    slot.len = 0;
    if (rc == 1)
        must_commit(flooding.injector, &slot, 1);
    stats = injector_stats(flooding.injector);
    adds_up(flooding.injector, what);
    is_int(stats.waiting, 0, "%s: nothing waits", what);
    while ((rc = netring_injector_results(flooding.injector, results, sizeof *results, 64)) > 0) {
        for (int i = 0; i < rc; i++, told++) {
            if (results[i].code != NETRING_ENODEV)
                ok(false, "%s: a result is %s", what, netring_err_name(results[i].code));
        }
    }
    is_int(told + stats.results_lost, stats.refused, "%s: what waited is told (%llu)", what,
           (unsigned long long)told);
    is_int(stats.committed, flooding.committed, "%s: committed", what);
    /* A link of the same name is another one. */
    net_veth("gone", "peer");
    is_int(netring_injector_drain(flooding.injector, 0), NETRING_ENODEV, "%s: for good", what);
    is_int(netring_injector_close(flooding.injector), 0, "%s: close", what);
    net_link_delete("gone");
}

/* With a reservation open, which can still be committed or not. */
static void test_removed_open(const struct method *method)
{
    struct netring_injector *injector;
    struct netring_injector_stats stats;
    struct netring_slot slots[6];
    struct netring_result results[8];
    int rc;

    net_veth("gone", "peer");
    injector = injector_open("gone", config_of(method, 0));
    must_reserve(injector, slots, 6);
    for (uint32_t i = 0; i < 6; i++)
        slots[i].len = stream_make(slots[i].data, i);
    must_commit(injector, slots, 2);
    must_commit(injector, slots + 3, 2);
    net_link_delete("gone");
    sleep_ms(3);
    is_int(netring_injector_flush(injector), NETRING_ENODEV, "%s: removed: flush", method->name);
    adds_up(injector, "removed with open slots");
    rc = netring_injector_commit(injector, slots + 2, sizeof *slots, 1);
    ok(rc == 1 || rc == NETRING_ENODEV, "%s: removed: a commit (%d)", method->name, rc);
    slots[2].len = slots[5].len = 0;
    if (rc != 1)
        must_commit(injector, slots + 2, 1);
    must_commit(injector, slots + 5, 1);
    netring_injector_flush(injector);
    stats = injector_stats(injector);
    adds_up(injector, "removed with open slots, committed then");
    ok(stats.open + stats.waiting + stats.in_flight == 0 && stats.refused == stats.committed,
       "%s: removed: all of it is refused, nothing waits", method->name);
    rc = netring_injector_results(injector, results, sizeof *results, COUNT(results));
    is_int(rc, stats.refused, "%s: removed: results", method->name);
    for (int i = 1; i < rc; i++) {
        if (results[i].cookie <= results[i - 1].cookie)
            ok(false, "%s: removed: results in order", method->name);
    }
    injector_close(injector);
}

/* Moved to another network namespace: gone, too. */
static void test_moved(const struct method *method)
{
    struct netring_injector *injector;
    int other = net_namespace_new();

    net_veth("gone", "peer");
    injector = injector_open("gone", config_of(method, 0));
    commit_frames(injector, 0, 4);
    net_link_move("gone", other);
    sleep_ms(3);
    is_int(netring_injector_flush(injector), NETRING_ENODEV, "%s: moved: flush", method->name);
    is_int(injector_stats(injector).refused, 4, "%s: moved: refused", method->name);
    injector_close(injector);
    net_link_delete("peer");
    close(other);
}

static void test_renamed(const struct method *method)
{
    struct netring_injector *injector;

    injector = injector_open("va", config_of(method, 0));
    net_link_up("va", false);
    net_link_rename("va", "other");
    net_link_up("other", true);
    net_await_carrier("other");
    sleep_ms(3);
    commit_frames(injector, 0, 4);
    is_int(netring_injector_flush(injector), 4, "%s: renamed: it goes on", method->name);
    frames_arrive(0, 4, "renamed");
    is_str(injector_info(injector).interface, "other", "%s: renamed: info", method->name);
    net_link_up("other", false);
    net_link_rename("other", "va");
    net_link_up("va", true);
    net_await_carrier("va");
    injector_close(injector);
}

/* ---- close ---- */

static void test_close(const struct method *method)
{
    struct netring_injector *injector = injector_open("va", config_of(method, 0));
    struct footprint before;
    struct netring_slot slots[8];

    /* Reserved, not committed: they do not count. */
    must_reserve(injector, slots, 8);
    is_int(netring_injector_close(injector), 0, "%s: close with open slots", method->name);
    is_int(netring_injector_close(injector), NETRING_EBADF, "%s: twice", method->name);
    is_int(netring_injector_close(NULL), 0, "%s: of nothing", method->name);

    /* Committed, not flushed. */
    injector = injector_open("va", config_of(method, 0));
    commit_frames(injector, 0, 20);
    is_int(netring_injector_close(injector), 0, "%s: close kicks once", method->name);
    frames_arrive(0, 20, "committed before the close");
    sink_is_empty(&sink, "committed before the close");

    /* Behind an open one. */
    injector = injector_open("va", config_of(method, 0));
    must_reserve(injector, slots, 8);
    for (uint32_t i = 0; i < 8; i++)
        slots[i].len = stream_make(slots[i].data, i);
    must_commit(injector, slots, 3);
    must_commit(injector, slots + 4, 4);
    is_int(netring_injector_close(injector), 4, "%s: close tells of 4 behind an open slot",
           method->name);
    sink_is_stream(&sink, 0, 3, "before an open slot");
    sink_is_empty(&sink, "before an open slot");

    /* Down: none leaves. */
    injector = injector_open("va", config_of(method, 0));
    commit_frames(injector, 0, 7);
    net_link_up("va", false);
    is_int(netring_injector_close(injector), 7, "%s: close of a link that is down", method->name);
    net_link_up("va", true);
    net_await_carrier("va");
    sink_is_empty(&sink, "closed while down");

    /* In a slow queue: what the kernel has leaves, untorn, whatever is done with the memory. */
    before = footprint_now();
    for (int turn = 0; turn < 3; turn++) {
        uint32_t taken;
        int left;

        injector = injector_open("va", config_of(method, 0));
        net_queue_slow("va", KBYTE_RATE / 2, turn == 0 ? 15 * MTU_FRAME : 100 * MTU_FRAME);
        commit_frames(injector, 0, 40);
        if (turn < 2)
            netring_injector_flush(injector);
        taken = (uint32_t)injector_stats(injector).handed;
        left = netring_injector_close(injector);
        is_footprint(before, "closed with frames in flight");
        is_between(left, turn == 0 ? 10 : 0, turn == 0 ? 40 : 0,
                   "%s: close with a slow queue: %d of 40 never reached the kernel", method->name,
                   left);
        ok(turn != 1 || taken == 40, "%s: the kernel has them", method->name);
        /* Another injector writes all over its slots. */
        injector = injector_open("va", config_of(method, 0));
        for (int again = 0; again < 4; again++) {
            int got = netring_injector_reserve(injector, slots, sizeof *slots, 8, 0);

            for (int i = 0; i < got; i++)
                memset(slots[i].data, 0x5a, slots[i].capacity);
        }
        frames_arrive(0, (uint32_t)(40 - left), "in flight at the close");
        sink_is_empty(&sink, "in flight at the close");
        net_queue_none("va");
        injector_close(injector);
    }
}

/* Slots are not given out again while their frame is in a queue. */
static void test_untorn(const struct method *method)
{
    struct netring_injector *injector = injector_open("va", config_of(method, 0));
    struct netring_slot slots[4 * SLOTS];
    uint32_t sent = 0;

    net_queue_slow("va", KBYTE_RATE, 1000 * MTU_FRAME);
    while (sent < 200) {
        int got =
            netring_injector_reserve(injector, slots, sizeof *slots, 32, (int)tap_patience(3000));

        if (!ok(got > 0, "%s: a slot while %u are queued", method->name, sent))
            break;
        for (int i = 0; i < got; i++) {
            memset(slots[i].data, 0xcc, slots[i].capacity);
            numbered_make(slots[i].data, MTU_FRAME, sent++, false);
            slots[i].len = MTU_FRAME;
        }
        must_commit(injector, slots, (size_t)got);
        netring_injector_flush(injector);
        got = netring_injector_reserve(injector, slots, sizeof *slots, 4 * SLOTS, 0);
        for (int i = 0; i < got; i++) {
            memset(slots[i].data, 0xcc, slots[i].capacity);
            slots[i].len = 0;
        }
        if (got > 0)
            must_commit(injector, slots, (size_t)got);
    }
    drains(injector, "slots used again");
    frames_arrive(0, sent, "slots used again");
    net_queue_none("va");
    injector_close(injector);
}

/* A queue that lets a frame pass every ten seconds holds frames back, but not with
 * NETRING_INJECTOR_QDISC_BYPASS. */
static void test_bypass(const struct method *method)
{
    enum { FRAMES = 50, HELD = 5 };
    struct netring_injector *injector;
    struct netring_injector_stats stats;
    unsigned arrived = 0;

    net_queue_slow("va", MTU_FRAME / 10, 100000);
    injector = injector_open("va", config_of(method, NETRING_INJECTOR_QDISC_BYPASS));
    commit_frames(injector, 0, FRAMES);
    is_int(netring_injector_flush(injector), FRAMES, "%s: past the queue: flush", method->name);
    frames_arrive(0, FRAMES, "past the queue");
    drains(injector, "past the queue");
    stats = injector_stats(injector);
    is_int(stats.full_queue + stats.qdisc_drops, 0, "%s: past the queue: it drops none",
           method->name);
    injector_close(injector);

    injector = injector_open("va", config_of(method, 0));
    commit_frames(injector, 0, HELD);
    is_int(netring_injector_flush(injector), HELD, "%s: into the queue: flush", method->name);
    while (sink_next(&sink, 50) > 0)
        arrived++;
    ok(arrived < HELD, "%s: into the queue: %u of %d arrive", method->name, arrived, HELD);
    net_queue_none("va"); /* with what is in it */
    drains(injector, "into the queue");
    injector_close(injector);
}

/* ---- another network namespace ---- */

/* There is a link of that name in both: the one of the namespace asked for is meant. */
static void test_namespace(const struct method *method)
{
    const int there = net_namespace_new();
    struct netring_injector_config config = *config_of(method, NETRING_INJECTOR_NETNS_FD);
    struct netring_injector *injector;
    struct sink right, wrong;

    net_veth("na", "nb");
    net_link_move("na", there);
    net_veth("na", "nc");
    sink_open(&right, "nb");
    sink_open(&wrong, "nc");
    net_await_carrier("na");
    config.netns_fd = dup(there);
    {
        const int here = net_namespace();

        net_namespace_enter(there);
        net_link_up("na", true); /* moving it has set it down */
        net_await_carrier("na");
        net_namespace_enter(here);
        close(here);
    }
    injector = injector_open("na", &config);
    close(config.netns_fd); /* the library needs it no longer */
    commit_frames(injector, 0, 20);
    is_int(netring_injector_flush(injector), 20, "%s: another namespace: flush", method->name);
    frames_arrive_at(&right, 0, 20, "another namespace");
    drains(injector, "another namespace");
    sink_is_empty(&right, "another namespace: its link");
    sink_is_empty(&wrong, "another namespace: the link of that name here");
    injector_close(injector);

    injector = injector_open("na", config_of(method, 0));
    commit_frames(injector, 20, 3);
    is_int(netring_injector_flush(injector), 3, "%s: this namespace: flush", method->name);
    frames_arrive_at(&wrong, 20, 3, "this namespace");
    sink_is_empty(&right, "this namespace: the link of that name elsewhere");
    drains(injector, "this namespace");
    injector_close(injector);
    sink_close(&right);
    sink_close(&wrong);
    net_link_delete("nb");
    net_link_delete("na");
    close(there);
}

/* ---- the rate ---- */

static void paced(const struct method *method, uint32_t unit, uint64_t rate, const char *what)
{
    enum { PACED = 1000 };
    struct netring_injector_config config = *config_of(method, 0);
    struct netring_injector *injector;
    uint32_t sent = 0;
    int64_t start;

    config.rate_unit = unit;
    config.rate = rate;
    injector = injector_open("va", &config);
    start = now_ms();
    while (sent < PACED) {
        struct netring_slot slots[16];
        int got = netring_injector_reserve(injector, slots, sizeof *slots,
                                           PACED - sent < 16 ? PACED - sent : 16, 5000);

        if (got <= 0) {
            ok(false, "%s: %s: a slot (%s)", method->name, what, netring_err_name(got));
            break;
        }
        for (int i = 0; i < got; i++) {
            numbered_make(slots[i].data, 100, sent++, false);
            slots[i].len = 100;
        }
        must_commit(injector, slots, (size_t)got);
        if (netring_injector_flush(injector) < 0)
            ok(false, "%s: %s: flush", method->name, what);
    }
    drains(injector, what);
    is_between(now_ms() - start, 450, 800 + (tap_patience(1) > 1 ? tap_patience(1000) : 0),
               "%s: %s: 1000 frames in half a second", method->name, what);
    for (uint32_t i = 0; i < sent; i++) {
        if (sink_next(&sink, (int)tap_patience(1000)) != 100 || numbered_number(sink.frame) != i) {
            ok(false, "%s: %s: frame %u", method->name, what, i);
            break;
        }
    }
    adds_up(injector, what);
    injector_close(injector);
}

int main(void)
{
    struct footprint before;

    tap_begin(110);
    net_enter();
    net_one_cpu();
    net_veth("va", "vb");
    net_await_carrier("va");
    sink_open(&sink, "vb");
    before = footprint_now();
    for (size_t i = 0; i < COUNT(methods); i++) {
        const struct method *method = &methods[i];

        test_full_queue(method);
        test_full_socket(method);
        test_slow_drain(method);
        test_bypass(method);
        test_down(method);
        test_ignore_link_state(method);
        test_flapping(method);
        test_removed(method, false, false);
        test_removed(method, true, false);
        test_removed(method, false, true);
        test_removed_open(method);
        test_moved(method);
        test_renamed(method);
        test_namespace(method);
        test_close(method);
        test_untorn(method);
        paced(method, NETRING_RATE_PACKETS, 2000, "2000 packets a second");
        paced(method, NETRING_RATE_BITS, 1600000, "1.6 Mbit a second");
    }
    is_int(sink_drops(&sink), 0, "the receiver drops nothing");
    is_footprint(before, "all of it");
    sink_close(&sink);
    return tap_end();
}
