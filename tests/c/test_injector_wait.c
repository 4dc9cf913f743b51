/* Waiting for slots and for the kernel to be done: time limits, wakeup, stop, close and signals
 * during a wait; the descriptor, which is readable exactly while netring_injector_reserve(.., 0)
 * would return something else than 0: with poll, level and edge epoll; a fork.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "inject.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SLOTS = 32,
    SLOW = 20 * 1000,    /* bytes a second: a frame of 1000 takes 50 ms */
    STEADY = 200 * 1000, /* 5 ms */
};

static struct sink sink; /* at vb */

/* ---- an injector without a free slot ---- */

struct full {
    struct netring_injector *injector;
    struct netring_slot slots[4 * SLOTS];
    size_t count;
};

static void full_new(struct full *full, const struct method *method)
{
    struct netring_injector_config config = inject_config(method->method, SLOTS);

    memset(full, 0, sizeof *full);
    full->injector = injector_open("va", &config);
    full->count = injector_info(full->injector).slot_count;
    must_reserve(full->injector, full->slots, full->count);
}

/* All slots free again. */
static void full_free(struct full *full)
{
    for (size_t i = 0; i < full->count; i++)
        full->slots[i].len = 0;
    must_commit(full->injector, full->slots, full->count);
}

/* Frames in all slots. */
static void full_send(struct full *full)
{
    for (size_t i = 0; i < full->count; i++) {
        numbered_make(full->slots[i].data, 1000, (uint32_t)i, false);
        full->slots[i].len = 1000;
    }
    must_commit(full->injector, full->slots, full->count);
}

/* ---- the waits ---- */

static int wait_reserve(struct netring_injector *injector, int timeout_ms)
{
    struct netring_slot slot;

    return netring_injector_reserve(injector, &slot, sizeof slot, 1, timeout_ms);
}

static int wait_send(struct netring_injector *injector, int timeout_ms)
{
    uint8_t frame[60];

    numbered_make(frame, sizeof frame, 0, false);
    return netring_injector_send(injector, frame, sizeof frame, timeout_ms);
}

static int wait_send_batch(struct netring_injector *injector, int timeout_ms)
{
    uint8_t bytes[60];
    struct netring_frame frame;

    memset(&frame, 0, sizeof frame);
    numbered_make(bytes, sizeof bytes, 0, false);
    frame.data = bytes;
    frame.len = sizeof bytes;
    return netring_injector_send_batch(injector, &frame, sizeof frame, 1, timeout_ms);
}

static int wait_drain(struct netring_injector *injector, int timeout_ms)
{
    return netring_injector_drain(injector, timeout_ms);
}

static const struct wait {
    const char *name;
    int (*call)(struct netring_injector *injector, int timeout_ms);
    bool drain; /* it waits for frames, not for slots */
} waits[] = {
    {"reserve", wait_reserve, false},
    {"send", wait_send, false},
    {"send_batch", wait_send_batch, false},
    {"drain", wait_drain, true},
};

struct waiting {
    const struct wait *wait;
    struct netring_injector *injector;
    int timeout, rc, error_number;
    int64_t ended;
    pthread_t thread;
};

static void *waits_for_it(void *user)
{
    struct waiting *w = user;

    errno = 0;
    w->rc = w->wait->call(w->injector, w->timeout);
    w->error_number = errno;
    w->ended = now_ms();
    return NULL;
}

static void wait_starts(struct waiting *w, const struct wait *wait,
                        struct netring_injector *injector)
{
    *w = (struct waiting){.wait = wait, .injector = injector, .timeout = -1};
    pthread_create(&w->thread, NULL, waits_for_it, w);
    sleep_ms(50);
}

static void wait_ends(struct waiting *w, int code, int64_t since, const char *why)
{
    pthread_join(w->thread, NULL);
    is_str(netring_err_name(w->rc), netring_err_name(code), "%s while a thread is in %s", why,
           w->wait->name);
    is_int(w->error_number, code < 0 ? natural_errno(code) : 0, "%s, %s: errno", why,
           w->wait->name);
    is_between(w->ended - since, 0, tap_patience(3000), "%s, %s: soon", why, w->wait->name);
}

/* Something to wait for: in a queue that takes two or three frames at a time, so that it takes
 * long by every method. */
static void full_for(struct full *full, const struct method *method, const struct wait *wait)
{
    full_new(full, method);
    if (wait->drain) {
        net_queue_slow("va", SLOW, 3000);
        full_send(full);
    }
}

/* The frames of a drain, so that the next one finds nothing. */
static void full_end(struct full *full, const struct wait *wait, bool close)
{
    if (close)
        netring_injector_close(full->injector);
    if (wait->drain) {
        net_queue_none("va");
        while (sink_next(&sink, 20) > 0)
            ;
    }
}

static void test_time(const struct method *method, const struct wait *wait)
{
    struct full full;
    int64_t start;

    full_for(&full, method, wait);
    errno = ENOTTY;
    is_int(wait->call(full.injector, 0), 0, "%s: %s without time", method->name, wait->name);
    start = now_ms();
    is_int(wait->call(full.injector, 40), 0, "%s: %s for 40 ms", method->name, wait->name);
    is_between(now_ms() - start, 39, 40 + tap_patience(2000), "%s: %s: the time", method->name,
               wait->name);
    is_int(errno, ENOTTY, "%s: %s: errno stays", method->name, wait->name);
    full_end(&full, wait, true);
}

static void test_wakeup(const struct method *method, const struct wait *wait)
{
    struct full full;
    struct waiting w;
    int64_t since;

    full_for(&full, method, wait);
    wait_starts(&w, wait, full.injector);
    since = now_ms();
    is_int(netring_injector_wakeup(full.injector), 0, "%s: wakeup", method->name);
    wait_ends(&w, NETRING_EWAKEUP, since, "wakeup");
    is_int(wait->call(full.injector, 0), 0, "%s: %s: it ended one wait", method->name, wait->name);

    netring_injector_wakeup(full.injector);
    netring_injector_wakeup(full.injector);
    is_int(wait->call(full.injector, -1), NETRING_EWAKEUP, "%s: %s: a wakeup before the wait",
           method->name, wait->name);
    is_int(wait->call(full.injector, 1), 0, "%s: %s: two are one", method->name, wait->name);
    netring_injector_wakeup(full.injector);
    is_int(netring_injector_wakeup_clear(full.injector), 0, "%s: clear", method->name);
    is_int(wait->call(full.injector, 1), 0, "%s: %s: a wakeup that was cleared", method->name,
           wait->name);
    full_end(&full, wait, true);
}

static void test_stop(const struct method *method, const struct wait *wait)
{
    struct full full;
    struct waiting one, other;
    int64_t since;

    full_for(&full, method, wait);
    wait_starts(&one, wait, full.injector);
    wait_starts(&other, wait, full.injector);
    since = now_ms();
    is_int(netring_injector_stop(full.injector), 0, "%s: stop", method->name);
    wait_ends(&one, NETRING_ESHUTDOWN, since, "stop");
    wait_ends(&other, NETRING_ESHUTDOWN, since, "stop");
    is_int(wait->call(full.injector, -1), NETRING_ESHUTDOWN, "%s: %s: stopped for good",
           method->name, wait->name);
    if (!wait->drain) {
        /* What was reserved can still be sent. */
        full.slots[0].len = stream_make(full.slots[0].data, 0);
        must_commit(full.injector, full.slots, 1);
        is_int(netring_injector_flush(full.injector), 1, "%s: flush when stopped", method->name);
        sink_is_stream(&sink, 0, 1, "when stopped");
    }
    full_end(&full, wait, true);
}

static void test_close(const struct method *method, const struct wait *wait)
{
    struct full full;
    struct waiting w;
    int64_t since;
    int rc;

    full_for(&full, method, wait);
    wait_starts(&w, wait, full.injector);
    since = now_ms();
    rc = netring_injector_close(full.injector);
    ok(rc >= 0, "%s: close during %s (%d)", method->name, wait->name, rc);
    wait_ends(&w, NETRING_EBADF, since, "close");
    full_end(&full, wait, false);
}

static void test_removed(const struct method *method, const struct wait *wait)
{
    struct netring_injector_config config = inject_config(method->method, SLOTS);
    struct waiting w;
    struct full full = {.injector = NULL};
    int64_t since;

    net_veth("gone", "peer");
    net_await_carrier("gone");
    if (wait->drain)
        net_queue_slow("gone", SLOW, 3000);
    full.injector = injector_open("gone", &config);
    full.count = injector_info(full.injector).slot_count;
    must_reserve(full.injector, full.slots, full.count);
    if (wait->drain)
        full_send(&full);
    wait_starts(&w, wait, full.injector);
    since = now_ms();
    net_link_delete("gone");
    pthread_join(w.thread, NULL);
    /* It is down for a moment before it is gone, which is told too; in between the kernel takes
     * frames and drops them without a word (noop_enqueue), and the drain is over. */
    ok(w.rc == NETRING_ENODEV || w.rc == NETRING_ENETDOWN || (wait->drain && w.rc == 1),
       "%s: removal ends %s: %s", method->name, wait->name, netring_err_name(w.rc));
    is_between(w.ended - since, 0, tap_patience(3000), "%s: removal ends %s soon", method->name,
               wait->name);
    is_str(netring_err_name(wait->call(full.injector, -1)), "NETRING_ENODEV", "%s: %s once removed",
           method->name, wait->name);
    netring_injector_close(full.injector);
}

/* Threads that wait do not wake each other for nothing. */
static void test_idle(const struct method *method)
{
    struct waiting w[COUNT(waits)];
    struct full full;
    int64_t start, busy;

    full_new(&full, method);
    for (size_t i = 0; i < COUNT(waits); i++)
        wait_starts(&w[i], &waits[waits[i].drain ? 0 : i], full.injector);
    start = clock_ns(CLOCK_MONOTONIC);
    busy = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    sleep_ms(300);
    busy = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - busy;
    start = clock_ns(CLOCK_MONOTONIC) - start;
    ok(busy < start / 4, "%s: %zu threads wait, and are idle (%lld ms of %lld)", method->name,
       COUNT(waits), (long long)busy / 1000000, (long long)start / 1000000);
    start = now_ms();
    netring_injector_stop(full.injector);
    for (size_t i = 0; i < COUNT(waits); i++)
        wait_ends(&w[i], NETRING_ESHUTDOWN, start, "stop");
    netring_injector_close(full.injector);
}

static void held_up(int number)
{
    (void)number;
    nanosleep(&(struct timespec){.tv_nsec = 400 * 1000 * 1000}, NULL);
}

/* A change that ends no wait, while one of the waiting threads has no CPU: the others look, and
 * sleep again. */
static void test_held_up(const struct method *method)
{
    struct sigaction action = {.sa_handler = held_up};
    struct waiting w[3];
    struct full full;
    int64_t start, busy;

    sigaction(SIGUSR1, &action, NULL);
    full_new(&full, method);
    for (size_t held = 0; held < COUNT(w); held++) {
        for (size_t i = 0; i < COUNT(w); i++)
            wait_starts(&w[i], &waits[0], full.injector);
        pthread_kill(w[held].thread, SIGUSR1);
        sleep_ms(50);
        full.slots[held].len = 0; /* free once none is handed out */
        must_commit(full.injector, &full.slots[held], 1);
        start = clock_ns(CLOCK_MONOTONIC);
        busy = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        sleep_ms(200);
        busy = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - busy;
        start = clock_ns(CLOCK_MONOTONIC) - start;
        ok(busy < start / 4, "%s: of %zu threads that wait, one is held up (%lld ms of %lld)",
           method->name, COUNT(w), (long long)busy / 1000000, (long long)start / 1000000);
        for (size_t i = 0; i < COUNT(w); i++) {
            /* Several wakeups may have been one. */
            while (pthread_tryjoin_np(w[i].thread, NULL) == EBUSY) {
                netring_injector_wakeup(full.injector);
                sleep_ms(10);
            }
            is_str(netring_err_name(w[i].rc), "NETRING_EWAKEUP", "%s: thread %zu of them",
                   method->name, i);
        }
        netring_injector_wakeup_clear(full.injector);
    }
    netring_injector_close(full.injector);
}

/* ---- signals ---- */

static struct netring_injector *signalled;
static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    int saved = errno;

    signals++;
    if (number == SIGUSR2)
        netring_injector_wakeup(signalled);
    if (errno != saved)
        signals = -1000000;
}

static void test_signals(const struct method *method, const struct wait *wait)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct waiting w;
    struct full full;
    int64_t since;

    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    full_for(&full, method, wait);
    signalled = full.injector;
    signals = 0;
    wait_starts(&w, wait, full.injector);
    for (int i = 0; i < 20; i++) {
        pthread_kill(w.thread, SIGUSR1);
        sleep_ms(2);
    }
    is_int(pthread_tryjoin_np(w.thread, NULL), EBUSY, "%s: signals do not end %s", method->name,
           wait->name);
    since = now_ms();
    pthread_kill(w.thread, SIGUSR2);
    wait_ends(&w, NETRING_EWAKEUP, since, "wakeup from a signal handler");
    ok(signals > 1, "%s: %d signals", method->name, (int)signals);
    full_end(&full, wait, true);
}

/* ---- the descriptor ---- */

static bool poll_says(int fd, int timeout)
{
    struct pollfd set = {.fd = fd, .events = POLLIN};

    return poll(&set, 1, timeout) == 1 && set.revents & POLLIN;
}

/* One check: the descriptor says what reserve does. */
static void says(int fd, bool readable, const char *method, const char *what)
{
    is_int(poll_says(fd, readable ? (int)tap_patience(1000) : 40), readable, "%s: the fd %s: %s",
           method, readable ? "is readable" : "is not readable", what);
}

static void test_fd(const struct method *method)
{
    struct full full;
    struct netring_slot slots[4 * SLOTS];
    int fd, rc;

    full_new(&full, method);
    fd = netring_injector_fd(full.injector);
    ok(fd >= 0, "%s: a descriptor", method->name);
    is_int(netring_injector_fd(full.injector), fd, "%s: the same one each time", method->name);
    says(fd, false, method->name, "no slot");
    netring_injector_wakeup(full.injector);
    says(fd, true, method->name, "a wakeup");
    netring_injector_wakeup_clear(full.injector);
    says(fd, false, method->name, "cleared");
    netring_injector_wakeup(full.injector);
    is_int(wait_reserve(full.injector, 0), NETRING_EWAKEUP, "%s: a wakeup", method->name);
    says(fd, false, method->name, "taken");
    full_free(&full);
    says(fd, true, method->name, "all are free");
    must_reserve(full.injector, slots, full.count - 1);
    says(fd, true, method->name, "one is free");
    must_reserve(full.injector, slots + full.count - 1, 1);
    says(fd, false, method->name, "none is free");
    memcpy(full.slots, slots, sizeof slots);
    full_free(&full);
    must_reserve(full.injector, full.slots, full.count);

    /* In a slow queue: readable when one comes back from the kernel. */
    net_queue_slow("va", STEADY, 1000 * 1000);
    full_send(&full);
    if (netring_injector_flush(full.injector) < 0)
        ok(false, "%s: flush", method->name);
    for (size_t got = 0, idle = 0; got < full.count && idle < 3;) {
        if (!poll_says(fd, (int)tap_patience(2000))) {
            ok(false, "%s: the fd: a slot that comes back is told (%zu of %zu)", method->name, got,
               full.count);
            break;
        }
        rc = netring_injector_reserve(full.injector, slots, sizeof *slots, full.count, 0);
        if (rc < 0)
            ok(false, "%s: the fd: reserve: %s", method->name, netring_err_name(rc));
        idle = rc > 0 ? 0 : idle + 1;
        if (idle == 3)
            ok(false, "%s: the fd: readable, and nothing there", method->name);
        if (rc > 0)
            got += (size_t)rc;
        /* They stay reserved. */
    }
    says(fd, false, method->name, "all came back, and are reserved");
    ok(injector_stats(full.injector).completed == full.count, "%s: the fd: all came back",
       method->name);
    net_queue_none("va");
    while (sink_next(&sink, 20) > 0)
        ;
    netring_injector_stop(full.injector);
    says(fd, true, method->name, "stopped");
    says(fd, true, method->name, "for good");
    injector_close(full.injector);
}

/* An event for each edge: slots that come free while there is none. */
static void test_edges(const struct method *method)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    struct full full;
    int epoll = epoll_create1(EPOLL_CLOEXEC), fd;

    full_new(&full, method);
    fd = netring_injector_fd(full.injector);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        tap_bail("epoll: %s", strerror(errno));
    is_int(epoll_wait(epoll, &event, 1, 40), 0, "%s: edge: no slot, no event", method->name);
    for (int turn = 0; turn < 5; turn++) {
        full_free(&full);
        is_int(epoll_wait(epoll, &event, 1, (int)tap_patience(1000)), 1,
               "%s: edge: free slots are an event", method->name);
        must_reserve(full.injector, full.slots, full.count);
        is_int(wait_reserve(full.injector, 0), 0, "%s: edge: none is left", method->name);
    }
    /* Taken one by one until none is left, as an edge-triggered loop must. */
    full_free(&full);
    for (size_t i = 0; i < full.count; i++)
        must_reserve(full.injector, &full.slots[i], 1);
    is_int(wait_reserve(full.injector, 0), 0, "%s: edge: until 0", method->name);
    net_queue_slow("va", STEADY, 1000 * 1000);
    full_send(&full);
    netring_injector_flush(full.injector);
    for (size_t got = 0; got < full.count;) {
        int rc;

        while ((rc = wait_reserve(full.injector, 0)) > 0)
            got += (size_t)rc;
        if (got < full.count && epoll_wait(epoll, &event, 1, (int)tap_patience(2000)) != 1) {
            ok(false, "%s: edge: an event for every slot that comes back (%zu of %zu)",
               method->name, got, full.count);
            break;
        }
    }
    netring_injector_wakeup(full.injector);
    is_int(epoll_wait(epoll, &event, 1, (int)tap_patience(1000)), 1, "%s: edge: a wakeup",
           method->name);
    is_int(wait_reserve(full.injector, 0), NETRING_EWAKEUP, "%s: edge: taken", method->name);
    net_queue_none("va");
    while (sink_next(&sink, 20) > 0)
        ;
    netring_injector_close(full.injector);
    close(epoll);
}

/* An event loop that sends what it can whenever it may: a slow queue, nothing stalls. */
static void test_loop(const struct method *method)
{
    enum { FRAMES = 300 };
    struct netring_injector_config config = inject_config(method->method, SLOTS);
    struct netring_injector *injector = injector_open("va", &config);
    int fd = netring_injector_fd(injector);
    uint32_t sent = 0, events = 0;

    net_queue_slow("va", 1000 * 1000, 10000);
    while (sent < FRAMES) {
        struct netring_slot slots[8];
        int rc;

        if (!poll_says(fd, (int)tap_patience(2000))) {
            ok(false, "%s: a loop: it stalls at frame %u", method->name, sent);
            break;
        }
        events++;
        rc = netring_injector_reserve(injector, slots, sizeof *slots, COUNT(slots), 0);
        for (int i = 0; i < rc; i++) {
            slots[i].len = 0;
            if (sent < FRAMES) {
                numbered_make(slots[i].data, 1000, sent++, false);
                slots[i].len = 1000;
            }
        }
        if (rc > 0)
            must_commit(injector, slots, (size_t)rc);
        netring_injector_flush(injector);
    }
    drains(injector, "a loop");
    for (uint32_t i = 0; i < sent; i++) {
        if (sink_next(&sink, (int)tap_patience(1000)) != 1000 || numbered_number(sink.frame) != i) {
            ok(false, "%s: a loop: frame %u arrives", method->name, i);
            break;
        }
    }
    ok(events < 20 * FRAMES, "%s: a loop: it does not spin (%u events)", method->name, events);
    net_queue_none("va");
    injector_close(injector);
}

/* ---- fork ---- */

static void child_uses(void *user)
{
    struct full *full = user;
    struct netring_injector_config config = inject_config(NETRING_METHOD_AUTO, SLOTS);
    struct netring_injector_stats stats;
    struct netring_injector *own;
    uint8_t frame[60] = {0};

    is_int(netring_injector_reserve(full->injector, full->slots, sizeof *full->slots, 1, -1),
           NETRING_EBADF, "after fork: reserve");
    is_int(netring_injector_commit(full->injector, full->slots, sizeof *full->slots, 1),
           NETRING_EBADF, "after fork: commit");
    is_int(netring_injector_flush(full->injector), NETRING_EBADF, "after fork: flush");
    is_int(netring_injector_drain(full->injector, -1), NETRING_EBADF, "after fork: drain");
    is_int(netring_injector_send(full->injector, frame, sizeof frame, -1), NETRING_EBADF,
           "after fork: send");
    is_int(netring_injector_stats(full->injector, &stats, sizeof stats), NETRING_EBADF,
           "after fork: stats");
    is_int(netring_injector_stop(full->injector), NETRING_EBADF, "after fork: stop");
    is_int(netring_injector_close(full->injector), NETRING_EBADF, "after fork: close");
    own = injector_open("va", &config);
    commit_stream(own, 0, 5);
    is_int(netring_injector_flush(own), 5, "after fork: an injector of its own");
    injector_close(own);
}

static void test_fork(const struct method *method)
{
    struct full full;

    full_new(&full, method);
    for (uint32_t i = 0; i < full.count; i++)
        full.slots[i].len = stream_make(full.slots[i].data, i);
    must_commit(full.injector, full.slots, full.count / 2);
    child_run("a forked child", child_uses, &full);
    sink_is_stream(&sink, 0, 5, "the child's frames");
    must_commit(full.injector, full.slots + full.count / 2, full.count - full.count / 2);
    is_int(netring_injector_flush(full.injector), full.count, "%s: the parent goes on",
           method->name);
    sink_is_stream(&sink, 0, (uint32_t)full.count, "the parent's frames");
    injector_close(full.injector);
}

int main(void)
{
    struct footprint before;

    tap_begin(100);
    net_enter();
    net_one_cpu();
    net_veth("va", "vb");
    net_await_carrier("va");
    sink_open(&sink, "vb");
    before = footprint_now();
    for (size_t i = 0; i < COUNT(methods); i++) {
        for (size_t j = 0; j < COUNT(waits); j++) {
            test_time(&methods[i], &waits[j]);
            test_wakeup(&methods[i], &waits[j]);
            test_stop(&methods[i], &waits[j]);
            test_close(&methods[i], &waits[j]);
            test_removed(&methods[i], &waits[j]);
            test_signals(&methods[i], &waits[j]);
        }
        test_idle(&methods[i]);
        test_held_up(&methods[i]);
        test_fd(&methods[i]);
        test_edges(&methods[i]);
        test_loop(&methods[i]);
        test_fork(&methods[i]);
    }
    is_int(sink_drops(&sink), 0, "the receiver drops nothing");
    is_footprint(before, "all of it");
    sink_close(&sink);
    return tap_end();
}
