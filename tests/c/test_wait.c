/* Waits: time limits, signals, wakeup, stop, flush, and blocks in the hands of several threads.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int sender; /* on va; what it sends arrives at vb */

static void *sends_soon(void *user)
{
    sleep_ms(100);
    send_frames(sender, *(uint32_t *)user, 1, 60);
    return NULL;
}

/* ---- time limits ---- */

static void times_out(struct netring_capture *capture, const struct wait_kind *kind, int timeout_ms,
                      const char *what)
{
    int64_t begin = now_ms();

    errno = ENOTTY;
    is_int(kind->call(capture, timeout_ms), 0, "%s: %s times out", what, kind->name);
    is_int(errno, ENOTTY, "%s: %s leaves errno alone", what, kind->name);
    is_between(now_ms() - begin, timeout_ms - 1, timeout_ms + tap_patience(400),
               "%s: %s after %d ms", what, kind->name, timeout_ms);
}

static void test_timeouts(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);

    for (size_t i = 0; i < COUNT(wait_kinds); i++) {
        times_out(capture, &wait_kinds[i], 0, "nothing there");
        times_out(capture, &wait_kinds[i], 150, "nothing comes");
    }
    capture_close(capture);
}

static void test_wait_is_over_with_a_packet(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);

    for (size_t i = 0; i < COUNT(wait_kinds); i++) {
        pthread_t thread;
        uint32_t number = (uint32_t)i;
        int64_t begin = now_ms();

        pthread_create(&thread, NULL, sends_soon, &number);
        is_int(wait_kinds[i].call(capture, -1), 1, "%s waits for a packet", wait_kinds[i].name);
        is_between(now_ms() - begin, 90, tap_patience(600), "%s: no longer than it takes",
                   wait_kinds[i].name);
        pthread_join(thread, NULL);
    }
    capture_close(capture);
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action;

    memset(&action, 0, sizeof action); /* no SA_RESTART */
    action.sa_handler = handler;
    sigaction(number, &action, NULL);
}

struct storm {
    pthread_t at;
    _Atomic bool over;
};

static void *storming(void *user)
{
    struct storm *storm = user;

    while (!storm->over) {
        pthread_kill(storm->at, SIGUSR1);
        sleep_ms(1);
    }
    return NULL;
}

static void test_signals(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct storm storm = {pthread_self(), false};
    pthread_t thread;

    handle(SIGUSR1, count_signal);
    pthread_create(&thread, NULL, storming, &storm);
    for (size_t i = 0; i < COUNT(wait_kinds); i++)
        times_out(capture, &wait_kinds[i], 300, "a storm of signals");
    storm.over = true;
    pthread_join(thread, NULL);
    ok(signals > 100, "there was a storm (%d signals)", (int)signals);
    capture_close(capture);
}

/* ---- wakeup ---- */

static void test_wakeup(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);

    for (size_t i = 0; i < COUNT(wait_kinds); i++) {
        const struct wait_kind *kind = &wait_kinds[i];
        struct waiter waiter;
        int64_t since;

        waiter_start(&waiter, kind, capture);
        since = now_ms();
        errno = ENOTTY;
        is_int(netring_capture_wakeup(capture), 0, "wakeup");
        is_int(errno, ENOTTY, "wakeup leaves errno alone");
        waiter_ends(&waiter, NETRING_EWAKEUP, since, "wakeup");
        times_out(capture, kind, 50, "the wakeup is used up");

        for (int n = 0; n < 3; n++)
            netring_capture_wakeup(capture);
        errno = 0;
        is_int(kind->call(capture, 1000), NETRING_EWAKEUP, "%s: a wakeup before the wait",
               kind->name);
        is_int(errno, EINTR, "%s: a wakeup before the wait: errno", kind->name);
        times_out(capture, kind, 50, "three pending wakeups are one");

        netring_capture_wakeup(capture);
        is_int(kind->call(capture, 0), NETRING_EWAKEUP, "%s: a wakeup ends a call without a wait",
               kind->name);
        netring_capture_wakeup(capture);
        is_int(netring_capture_wakeup_clear(capture), 0, "wakeup_clear");
        times_out(capture, kind, 50, "a cleared wakeup");
        is_int(netring_capture_wakeup_clear(capture), 0, "wakeup_clear of nothing");
    }
    capture_close(capture);
}

/* A wakeup costs no packet. */
static void test_wakeup_among_packets(void)
{
    enum { FRAMES = 400 };
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    unsigned woken = 0;
    int rc;

    config.block_timeout = 1;
    capture = capture_open("vb", &config);
    for (uint32_t n = 0; n < FRAMES; n++) {
        send_frames(sender, n, 1, 60);
        if (n % 10 == 0)
            netring_capture_wakeup(capture);
        if (n % 7 == 0 && receive(capture, FRAMES, 0, &records) == NETRING_EWAKEUP)
            woken++;
    }
    while ((rc = receive(capture, FRAMES, 1000, &records)) == NETRING_EWAKEUP)
        woken++;
    is_int(rc, 1, "wakeups among packets: the last packet");
    ok(woken > 0, "wakeups among packets: some were told (%u)", woken);
    is_frames(&records, 0, FRAMES, 60, 60, "wakeups among packets");
    capture_close(capture);
    records_free(&records);
}

/* next_packet and dispatch are for one thread at a time: another one is told so at once. */
static void test_busy(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);

    for (size_t i = 1; i < COUNT(wait_kinds); i++) {
        struct waiter waiter;
        int64_t since;

        waiter_start(&waiter, &wait_kinds[i], capture);
        errno = 0;
        is_int(wait_kinds[1].call(capture, -1), NETRING_EBUSY,
               "next_packet while a thread is in %s", wait_kinds[i].name);
        is_int(errno, EBUSY, "next_packet while a thread is in %s: errno", wait_kinds[i].name);
        is_int(wait_kinds[2].call(capture, -1), NETRING_EBUSY, "dispatch while a thread is in %s",
               wait_kinds[i].name);
        is_int(wait_kinds[0].call(capture, 0), 0, "next_block while a thread is in %s",
               wait_kinds[i].name);
        since = now_ms();
        netring_capture_wakeup(capture);
        waiter_ends(&waiter, NETRING_EWAKEUP, since, "wakeup");
    }
    capture_close(capture);
}

/* ---- stop ---- */

static void test_stop(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct waiter waiters[4];
    int64_t since;

    for (size_t i = 0; i < COUNT(waiters); i++)
        waiter_start(&waiters[i], &wait_kinds[0], capture);
    since = now_ms();
    errno = ENOTTY;
    is_int(netring_capture_stop(capture), 0, "stop");
    is_int(errno, ENOTTY, "stop leaves errno alone");
    for (size_t i = 0; i < COUNT(waiters); i++)
        waiter_ends(&waiters[i], NETRING_ESHUTDOWN, since, "stop");
    for (size_t i = 0; i < COUNT(wait_kinds); i++) {
        is_int(wait_kinds[i].call(capture, -1), NETRING_ESHUTDOWN, "stopped: %s",
               wait_kinds[i].name);
        is_int(wait_kinds[i].call(capture, 0), NETRING_ESHUTDOWN, "stopped: %s again",
               wait_kinds[i].name);
    }
    is_int(netring_capture_stop(capture), 0, "stopping twice");
    send_frames(sender, 0, 5, 60);
    sleep_ms(30);
    is_int(wait_kinds[0].call(capture, 0), NETRING_ESHUTDOWN, "what comes later does not matter");
    capture_close(capture);
}

/* What was received before the stop is handed out: full blocks, and the one being filled. */
static void test_stop_hands_out(void)
{
    struct netring_capture_config config = page_config(8);
    const uint32_t frames = 2 * frames_per_page(60) + 5;

    for (int waits = 0; waits < 2; waits++) {
        struct netring_capture *capture = capture_open("vb", &config);
        struct records records = {0, 0, NULL};
        struct netring_block *block;
        struct netring_block_info info = {0};

        send_frames(sender, 0, frames, 60);
        await_seen(capture, frames);
        netring_capture_stop(capture);
        is_int(receive(capture, frames - 5, waits ? -1 : 0, &records), 1, "stop: full blocks");
        if (is_int(netring_capture_next_block(capture, waits ? -1 : 0, &block), 1,
                   "stop: the open block")) {
            netring_block_info(block, &info, sizeof info);
            is_int(info.count, 5, "stop: the open block's packets");
            ok(info.flags & NETRING_BLOCK_PARTIAL, "stop: it says that it is partial");
            block_records(block, 64, &records);
            netring_block_release(block);
        }
        is_frames(&records, 0, frames, 60, 60, "stop");
        is_int(receive(capture, frames + 1, -1, &records), NETRING_ESHUTDOWN, "stop: and then");
        is_int(capture_stats(capture).delivered, frames, "stop: delivered");
        capture_close(capture);
        records_free(&records);
    }
}

static int count_packets(void *user, const struct netring_packet *packets, size_t count,
                         size_t size)
{
    (void)packets, (void)size;
    *(int *)user += (int)count;
    return 0;
}

static void test_stop_slower_ways(void)
{
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_packet packet;
    int count = 0;

    send_frames(sender, 0, 7, 60);
    await_seen(capture, 7);
    netring_capture_stop(capture);
    while (netring_capture_next_packet(capture, -1, &packet, sizeof packet) == 1)
        count++;
    is_int(count, 7, "stop: next_packet hands out first");
    capture_close(capture);

    count = 0;
    capture = capture_open("vb", &config);
    send_frames(sender, 0, 7, 60);
    await_seen(capture, 7);
    netring_capture_stop(capture);
    while (netring_capture_dispatch(capture, -1, 0, count_packets, &count) > 0)
        ;
    is_int(count, 7, "stop: dispatch hands out first");
    capture_close(capture);
}

/* ---- from a signal handler ---- */

static struct netring_capture *handlers_capture;
static volatile sig_atomic_t handlers_errno;

static void wakes(int number)
{
    int before = errno;

    (void)number;
    errno = ENOTTY;
    netring_capture_wakeup(handlers_capture);
    handlers_errno = errno;
    errno = before;
}

static void stops(int number)
{
    int before = errno;

    (void)number;
    errno = ENOTTY;
    netring_capture_stop(handlers_capture);
    handlers_errno = errno;
    errno = before;
}

static void *raises_soon(void *user)
{
    sleep_ms(100);
    pthread_kill(*(pthread_t *)user, SIGUSR2);
    return NULL;
}

static void test_handlers(void)
{
    static const struct {
        const char *name;
        void (*handler)(int);
        int code;
    } cases[] = {
        {"wakeup from a signal handler", wakes, NETRING_EWAKEUP},
        {"stop from a signal handler", stops, NETRING_ESHUTDOWN},
    };
    struct netring_capture_config config = small_config();
    pthread_t self = pthread_self(), thread;

    for (size_t i = 0; i < COUNT(cases); i++) {
        handlers_capture = capture_open("vb", &config);
        handle(SIGUSR2, cases[i].handler);
        pthread_create(&thread, NULL, raises_soon, &self);
        is_int(wait_kinds[0].call(handlers_capture, 5000), cases[i].code, "%s", cases[i].name);
        is_int(handlers_errno, ENOTTY, "%s leaves errno alone", cases[i].name);
        pthread_join(thread, NULL);
        capture_close(handlers_capture);
    }
}

/* ---- flush ---- */

static void test_flush(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    struct netring_block *block;
    struct netring_block_info info = {0};
    uint32_t sent = 0;
    int64_t begin = now_ms();

    config.block_timeout = 0;
    capture = capture_open("vb", &config);
    tap_diag("a block timeout of 0 is %u ms here", capture_info(capture).timer_ms);
    while (now_ms() - begin < 2000) {
        send_frames(sender, sent++, 1, 60);
        if (wait_kinds[0].call(capture, 200) != 0)
            ok(false, "sparse traffic hands out nothing");
    }
    await_seen(capture, sent);
    is_int(capture_stats(capture).blocks_delivered, 0, "block timeout 0: nothing for 2 s");
    is_int(capture_stats(capture).pending, sent, "block timeout 0: the packets are there");
    errno = ENOTTY;
    is_int(netring_capture_flush(capture), 0, "flush");
    is_int(errno, ENOTTY, "flush leaves errno alone");
    if (is_int(netring_capture_next_block(capture, 0, &block), 1, "flush: a block at once")) {
        netring_block_info(block, &info, sizeof info);
        is_int(info.count, sent, "flush: with all of it");
        ok(info.flags & NETRING_BLOCK_PARTIAL, "flush: it says that it is partial");
        block_records(block, 64, &records);
        is_int(netring_capture_flush(capture), 0, "flush while that block is held");
        netring_block_release(block);
    }
    is_int(wait_kinds[0].call(capture, 50), 0, "flush: and nothing more");

    send_frames(sender, sent, 10, 60);
    await_seen(capture, sent + 10);
    is_int(wait_kinds[0].call(capture, 50), 0, "capturing goes on, into the open block");
    is_int(netring_capture_flush(capture), 0, "flush again");
    receive(capture, sent + 10, 0, &records);
    is_frames(&records, 0, sent + 10, 60, 60, "flush: nothing lost, nothing twice");
    is_int(netring_capture_flush(capture), 0, "flush with nothing there");
    is_int(wait_kinds[0].call(capture, 50), 0, "flush with nothing there hands out nothing");
    capture_close(capture);
    records_free(&records);
}

/* Flushes at every fill of a block, over several turns of the ring. */
static void test_flush_everywhere(void)
{
    struct netring_capture_config config = page_config(3);
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records = {0, 0, NULL};
    const uint32_t most = frames_per_page(60) + 2;
    uint32_t sent = 0;

    for (uint32_t burst = 0; burst <= most; burst++) {
        send_frames(sender, sent, burst, 60);
        sent += burst;
        await_seen(capture, sent);
        netring_capture_flush(capture);
        receive(capture, sent, 0, &records);
    }
    is_frames(&records, 0, sent, 60, 60, "flush at every fill");
    is_int(capture_stats(capture).dropped, 0, "flush at every fill: no drops");
    is_int(capture_stats(capture).sequence_gaps, 0, "flush at every fill: no gaps");
    is_int(capture_stats(capture).delivered, sent, "flush at every fill: delivered");
    capture_close(capture);
    records_free(&records);
}

static _Atomic bool flood_over;

static void *flooding(void *user)
{
    uint32_t *sent = user;

    while (!flood_over) {
        send_frames(sender, *sent, 5, 60);
        *sent += 5;
        sleep_ms(1);
    }
    return NULL;
}

/* A flush costs packets only in a gap that is told: what arrives is in order and never twice. */
static void test_flush_in_traffic(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    uint32_t sent = 0, disorder = 0;
    struct netring_stats stats;
    pthread_t thread;

    config.block_timeout = 0;
    capture = capture_open("vb", &config);
    flood_over = false;
    pthread_create(&thread, NULL, flooding, &sent);
    for (int n = 0; n < 30; n++) {
        sleep_ms(5);
        netring_capture_flush(capture);
        receive(capture, SIZE_MAX, 0, &records);
    }
    flood_over = true;
    pthread_join(thread, NULL);
    sleep_ms(20);
    netring_capture_flush(capture);
    receive(capture, SIZE_MAX, 0, &records);
    for (size_t i = 1; i < records.count; i++)
        disorder +=
            frame_number(records.v[i].packet.data) <= frame_number(records.v[i - 1].packet.data);
    is_int(disorder, 0, "flush in traffic: in order, none twice");
    tap_diag("%zu of %u packets through 31 flushes in traffic", records.count, sent);
    ok(records.count > 0 && records.count <= sent, "flush in traffic: packets arrive");
    stats = capture_stats(capture);
    is_int(stats.delivered, records.count, "flush in traffic: delivered");
    is_int(stats.received, stats.delivered, "flush in traffic: received");
    capture_close(capture);
    records_free(&records);
}

/* ---- blocks in other hands ---- */

struct reader {
    struct netring_block *block;
    uint32_t first, count;
};

static void *reads_and_releases(void *user)
{
    struct reader *reader = user;
    struct records records = {0, 0, NULL};

    sleep_ms(20);
    block_records(reader->block, 16, &records);
    is_frames(&records, reader->first, reader->count, 60, 60, "a block read by another thread");
    is_int(netring_block_release(reader->block), 0, "and released by it");
    records_free(&records);
    return NULL;
}

static void test_held_blocks(void)
{
    enum { HELD = 4 };
    struct netring_capture_config config = page_config(HELD + 1);
    struct netring_capture *capture = capture_open("vb", &config);
    const uint32_t per_block = frames_per_page(60);
    struct reader readers[HELD];
    pthread_t threads[HELD];

    for (uint32_t turn = 0; turn < 3; turn++) {
        for (uint32_t i = 0; i < HELD; i++) {
            readers[i].first = i * per_block;
            readers[i].count = per_block;
            readers[i].block = block_of(capture, sender, i * per_block, per_block, 60);
        }
        is_int(capture_stats(capture).blocks_held, HELD, "blocks held");
        for (int i = HELD - 1; i >= 0; i--)
            pthread_create(&threads[i], NULL, reads_and_releases, &readers[i]);
        for (int i = 0; i < HELD; i++)
            pthread_join(threads[i], NULL);
        is_int(capture_stats(capture).blocks_held, 0, "none held any more");
    }
    is_int(capture_stats(capture).delivered, 3 * HELD * per_block, "held blocks: all delivered");
    is_int(capture_stats(capture).dropped, 0, "held blocks: none lost");
    capture_close(capture);
}

struct user {
    struct netring_block *block;
    unsigned wrong;
};

/* One of several users of a block: each walks the records by the view, since the cursor is one. */
static void *uses_and_releases(void *context)
{
    struct user *user = context;
    struct netring_block_view view;

    for (int n = 0; n < 50; n++)
        user->wrong += netring_block_view(user->block, &view, sizeof view) != 0 || view.count != 9;
    user->wrong += netring_block_release(user->block) != 0;
    return NULL;
}

static void test_retained_block(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *block = block_of(capture, sender, 0, 9, 60);
    struct user users[4];
    pthread_t threads[COUNT(users)];
    unsigned wrong = 0;

    is_int(netring_block_retain(block, COUNT(users)), 0, "retain for four more users");
    for (size_t i = 0; i < COUNT(users); i++) {
        users[i] = (struct user){block, 0};
        pthread_create(&threads[i], NULL, uses_and_releases, &users[i]);
    }
    for (size_t i = 0; i < COUNT(users); i++) {
        pthread_join(threads[i], NULL);
        wrong += users[i].wrong;
    }
    is_int(wrong, 0, "all users see it until their own release");
    is_int(capture_stats(capture).blocks_held, 1, "it is held until the last one");
    is_int(netring_block_release(block), 0, "the last release");
    is_int(capture_stats(capture).blocks_held, 0, "gives it back");
    is_int(netring_block_release(block), NETRING_EBADF, "and was the last");
    capture_close(capture);
}

/* ---- several threads on one capture ---- */

enum { SHARED_FRAMES = 6000 };

struct shared {
    struct netring_capture *capture;
    uint8_t seen[SHARED_FRAMES];
    unsigned strange, ends;
};

static void *shares(void *user)
{
    struct shared *shared = user;
    struct netring_block *block;
    struct netring_packet packets[16];
    int rc, n;

    while ((rc = netring_capture_next_block(shared->capture, 1000, &block)) >= 0) {
        if (rc == 0)
            continue;
        while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0) {
            for (int i = 0; i < n; i++) {
                uint32_t number = frame_number(packets[i].data);

                if (number < SHARED_FRAMES)
                    __atomic_add_fetch(&shared->seen[number], 1, __ATOMIC_RELAXED);
                else
                    __atomic_add_fetch(&shared->strange, 1, __ATOMIC_RELAXED);
            }
        }
        netring_block_release(block);
    }
    if (rc == NETRING_ESHUTDOWN)
        __atomic_add_fetch(&shared->ends, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void test_threads(void)
{
    static struct shared shared;
    struct netring_capture_config config = small_config();
    pthread_t threads[4];
    unsigned once = 0, never = 0, often = 0;

    config.block_size = 16 * KIB;
    config.block_count = 128;
    config.block_timeout = 1;
    shared.capture = capture_open("vb", &config);
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_create(&threads[i], NULL, shares, &shared);
    for (uint32_t n = 0; n < SHARED_FRAMES; n++) {
        send_frames(sender, n, 1, 60);
        if (n % 200 == 0)
            sleep_ms(1);
    }
    await_seen(shared.capture, SHARED_FRAMES);
    netring_capture_stop(shared.capture);
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    for (size_t n = 0; n < SHARED_FRAMES; n++) {
        once += shared.seen[n] == 1;
        never += shared.seen[n] == 0;
        often += shared.seen[n] > 1;
    }
    is_int(capture_stats(shared.capture).dropped, 0, "4 threads: no drops");
    is_int(once, SHARED_FRAMES, "4 threads: each packet once (%u never, %u more often)", never,
           often);
    is_int(shared.strange, 0, "4 threads: no other packets");
    is_int(shared.ends, COUNT(threads), "4 threads: all end with ESHUTDOWN");
    capture_close(shared.capture);
}

/* ---- the link ---- */

/* A veth link drops what it is given until the kernel's link watch has seen it come up. Sends until
 * something arrives, and takes it. */
static void await_link(struct netring_capture *capture)
{
    int64_t end = now_ms() + tap_patience(5000);
    struct records records = {0, 0, NULL};

    while (records.count == 0 && now_ms() < end) {
        send_frames(sender, 0, 1, 60);
        receive(capture, 1, 20, &records);
    }
    receive(capture, SIZE_MAX, 50, &records);
    ok(records.count > 0, "packets arrive once the link is up");
    records_free(&records);
}

static void test_link_down(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records = {0, 0, NULL};

    send_frames(sender, 0, 5, 60);
    await_seen(capture, 5);
    net_link_up("vb", false);
    is_int(receive(capture, 5, 500, &records), 1, "link down: what came before is handed out");
    times_out(capture, &wait_kinds[0], 150, "link down: the wait goes on");
    net_link_up("vb", true);
    await_link(capture);
    send_frames(sender, 5, 5, 60);
    is_int(receive(capture, 10, 1000, &records), 1, "link up again: capturing goes on");
    is_frames(&records, 0, 10, 60, 60, "link down and up");
    net_link_up("vb", false);
    net_link_rename("vb", "vc");
    net_link_up("vc", true);
    await_link(capture);
    send_frames(sender, 10, 5, 60);
    is_int(receive(capture, 15, 1000, &records), 1, "renamed: capturing goes on");
    is_frames(&records, 0, 15, 60, 60, "renamed");
    net_link_up("vc", false);
    net_link_rename("vc", "vb");
    net_link_up("vb", true);
    capture_close(capture);
    records_free(&records);
}

static void test_flush_while_down(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records = {0, 0, NULL};
    uint64_t seen;

    send_frames(sender, 0, 5, 60);
    await_seen(capture, 5);
    net_link_up("vb", false);
    is_int(netring_capture_flush(capture), 0, "flush while the link is down");
    is_int(receive(capture, 5, 0, &records), 1, "flush while the link is down: what there was");
    times_out(capture, &wait_kinds[0], 50, "flush while the link is down");
    net_link_up("vb", true);
    await_link(capture);
    seen = capture_stats(capture).seen;
    send_frames(sender, 5, 5, 60);
    await_seen(capture, seen + 5);
    is_int(netring_capture_flush(capture), 0, "flush after it came up");
    receive(capture, 10, 0, &records);
    is_frames(&records, 0, 10, 60, 60, "flush while the link is down and after");
    capture_close(capture);
    records_free(&records);
}

/* A link that is down can be opened; capturing starts when it comes up. */
static void test_open_down(void)
{
    struct netring_capture_config config = small_config();
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;

    net_link_up("vb", false);
    capture = capture_open("vb", &config);
    times_out(capture, &wait_kinds[0], 100, "opened while down");
    net_link_up("vb", true);
    await_link(capture);
    send_frames(sender, 0, 5, 60);
    is_int(receive(capture, 5, 1000, &records), 1, "opened while down: starts with the link");
    is_frames(&records, 0, 5, 60, 60, "opened while down");
    capture_close(capture);
    records_free(&records);
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");

    test_timeouts();
    test_wait_is_over_with_a_packet();
    test_signals();
    test_wakeup();
    test_wakeup_among_packets();
    test_busy();
    test_stop();
    test_stop_hands_out();
    test_stop_slower_ways();
    test_handlers();
    test_flush();
    test_flush_everywhere();
    test_flush_in_traffic();
    test_held_blocks();
    test_retained_block();
    test_threads();
    test_link_down();
    test_flush_while_down();
    test_open_down();
    return tap_end();
}
