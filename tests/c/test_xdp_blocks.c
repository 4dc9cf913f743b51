/* Blocks of AF_XDP queues: held to the last frame and released in any order from other threads,
 * retained, held beyond the close; what the fill ring and the counters have then; and every way to
 * wait for one: readable exactly when there is something. */
#include "xdp.h"

#include <errno.h>
#include <netring_inline.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { FRAMES = 256, PACKETS = 16, BLOCKS = FRAMES / PACKETS, THREADS = 4 };

static int sender; /* at vb */

static struct netring_xdp_config block_config(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);

    config.rx_frames = FRAMES;
    config.tx_frames = 64;
    config.block_packets = PACKETS;
    return config;
}

/* Blocks with frames first..., all of PACKETS; in order. */
static void take_all(struct netring_queue *queue, struct netring_block **blocks)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks[i] = queue_block(queue, PACKETS);
}

/* NULL, or what is wrong with the content of a block. */
static const char *not_this_block(struct netring_block *block, uint32_t first, uint32_t count)
{
    struct netring_packet packet;

    netring_block_rewind(block);
    for (uint32_t i = 0; i < count; i++) {
        const char *wrong;

        if (netring_block_read(block, &packet, sizeof packet, 1) != 1)
            return "it ends early";
        wrong = not_of_stream(&packet, first + i);
        if (wrong)
            return wrong;
    }
    return netring_block_read(block, &packet, sizeof packet, 1) == 0 ? NULL : "it does not end";
}

static bool are_blocks(struct netring_block **blocks, uint32_t first, const char *what)
{
    for (uint32_t i = 0; i < BLOCKS; i++) {
        const char *wrong = not_this_block(blocks[i], first + i * PACKETS, PACKETS);

        if (wrong)
            return ok(false, "%s: block %u: %s", what, i, wrong);
    }
    return ok(true, "%s: %d blocks with what was sent", what, BLOCKS);
}

struct releaser {
    struct netring_block **blocks;
    uint32_t first;
    int failed;
    pthread_t thread;
};

static void *releases(void *user)
{
    struct releaser *r = user;

    for (uint32_t i = r->first; i < BLOCKS; i += THREADS)
        r->failed += netring_block_release(r->blocks[i]) != 0;
    return NULL;
}

/* By several threads, and in an order of no sense. */
static void release_all(struct netring_block **blocks, uint32_t seed)
{
    struct releaser releasers[THREADS];
    struct dice dice = {seed + 1};
    int failed = 0;

    for (uint32_t i = BLOCKS - 1; i > 0; i--) {
        uint32_t other = dice_roll(&dice, i + 1);
        struct netring_block *block = blocks[i];

        blocks[i] = blocks[other];
        blocks[other] = block;
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        releasers[i] = (struct releaser){.blocks = blocks, .first = i};
        pthread_create(&releasers[i].thread, NULL, releases, &releasers[i]);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(releasers[i].thread, NULL);
        failed += releasers[i].failed;
    }
    is_int(failed, 0, "every release works");
}

static void frames_are(struct netring_queue *queue, uint64_t kernel, uint64_t held,
                       const char *what)
{
    struct netring_xdp_counters c = queue_counters(queue);

    ok(c.rx_frames == FRAMES && c.rx_kernel == kernel && c.rx_held == held && c.rx_forwarded == 0,
       "%s: of %llu frames %llu are the kernel's (%llu), %llu held (%llu)", what,
       (unsigned long long)c.rx_frames, (unsigned long long)c.rx_kernel, (unsigned long long)kernel,
       (unsigned long long)c.rx_held, (unsigned long long)held);
}

static void test_hold_all(const struct xdp_mode *mode)
{
    enum { TOO_MANY = 10, ROUNDS = 5 };
    struct netring_xdp_config config = block_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_block *blocks[BLOCKS], *block;
    struct netring_stats stats;
    uint64_t dropped = 0;

    frames_are(a.queue, FRAMES, 0, "at first");
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t first = round * FRAMES;

        send_stream(sender, first, FRAMES);
        queue_await(a.queue, FRAMES);
        frames_are(a.queue, FRAMES, 0, "in the ring");
        stats = queue_stats(a.queue);
        ok(stats.pending == FRAMES && stats.received == stats.delivered + FRAMES &&
               stats.delivered == round * (uint64_t)FRAMES,
           "%s: %llu received, %llu of them pending", mode->name,
           (unsigned long long)stats.received, (unsigned long long)stats.pending);
        take_all(a.queue, blocks);
        frames_are(a.queue, 0, FRAMES, "held");
        stats = queue_stats(a.queue);
        is_int(stats.blocks_held, BLOCKS, "%s: blocks held", mode->name);
        ok(stats.oldest_held_ns > 0, "%s: since %llu ns", mode->name,
           (unsigned long long)stats.oldest_held_ns);
        /* There is no frame for these. They are counted, and touch nothing that is held. */
        send_stream(sender, 9000, TOO_MANY);
        for (int i = 0; i < 1000 && queue_stats(a.queue).dropped < dropped + TOO_MANY; i++)
            sleep_ms(1);
        dropped += TOO_MANY;
        is_int(netring_queue_next_block(a.queue, 0, &block), 0, "%s: nothing comes", mode->name);
        is_int(queue_stats(a.queue).dropped, dropped, "%s: dropped", mode->name);
        ok(queue_counters(a.queue).fill_empty >= TOO_MANY, "%s: for want of frames", mode->name);
        are_blocks(blocks, first, mode->name);
        release_all(blocks, round);
        frames_are(a.queue, FRAMES, 0, "released");
        is_int(queue_stats(a.queue).blocks_held, 0, "%s: no block is held", mode->name);
    }
    send_stream(sender, 50, 100);
    queue_is_stream(a.queue, 50, 100, "after all of it");
    stats = queue_stats(a.queue);
    is_int(stats.delivered, ROUNDS * FRAMES + 100, "%s: delivered", mode->name);
    is_int(stats.received, stats.delivered, "%s: received", mode->name);
    is_int(stats.seen, stats.received + stats.dropped, "%s: seen", mode->name);
    queue_adds_up(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* Some held, some released, for a while: the others go round and round. */
static void test_few_left(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = block_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_block *held[BLOCKS - 1];
    uint32_t rounds = tap_patience(1) > 1 ? 20 : 500;
    const char *wrong = NULL;

    send_stream(sender, 0, FRAMES - PACKETS);
    queue_await(a.queue, FRAMES - PACKETS);
    for (uint32_t i = 0; i < COUNT(held); i++)
        held[i] = queue_block(a.queue, PACKETS);
    for (uint32_t i = 0; !wrong && i < rounds; i++) {
        struct netring_block *block;

        send_stream(sender, 1000 + i * PACKETS, PACKETS);
        queue_await(a.queue, PACKETS);
        block = queue_block(a.queue, PACKETS);
        wrong = not_this_block(block, 1000 + i * PACKETS, PACKETS);
        netring_block_release(block);
        if (i % 50 == 0) { /* the oldest one moves */
            wrong = wrong ? wrong
                          : not_this_block(held[i / 50 % COUNT(held)],
                                           i / 50 % COUNT(held) * PACKETS, PACKETS);
        }
    }
    ok(!wrong, "%s: %u rounds with the last %d frames%s%s", mode->name, rounds, PACKETS,
       wrong ? ": " : "", wrong ? wrong : "");
    for (uint32_t i = 0; !wrong && i < COUNT(held); i++)
        wrong = not_this_block(held[i], i * PACKETS, PACKETS);
    ok(!wrong, "%s: those that are held are as they were%s%s", mode->name, wrong ? ": " : "",
       wrong ? wrong : "");
    for (uint32_t i = 0; i < COUNT(held); i++)
        netring_block_release(held[i]);
    is_int(queue_stats(a.queue).dropped, 0, "%s: nothing is dropped", mode->name);
    queue_adds_up(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

static void test_retain(void)
{
    struct netring_xdp_config config = block_config(&xdp_modes[0]);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_block *block;

    send_stream(sender, 0, 5);
    queue_await(a.queue, 5);
    block = queue_block(a.queue, 5);
    ok(netring_block_retain(block, 2) >= 0, "for two more users");
    is_int(netring_block_release(block), 0, "the first is done");
    frames_are(a.queue, FRAMES - 5, 5, "two users");
    is_int(netring_block_release(block), 0, "the second is done");
    frames_are(a.queue, FRAMES - 5, 5, "one user");
    ok(!not_this_block(block, 0, 5), "the third reads it");
    is_int(netring_block_release(block), 0, "the third is done");
    frames_are(a.queue, FRAMES, 0, "no user");
    is_int(netring_block_release(block), NETRING_EBADF, "once more is too much");
    frames_are(a.queue, FRAMES, 0, "which changes nothing");
    xdp_close(a.xdp);
}

/* Closed while blocks are held: they stay, whatever becomes of the queue; a new open has frames of
 * its own. */
static void test_close_with_held(const struct xdp_mode *mode)
{
    struct footprint before = footprint_now();
    struct netring_xdp_config config = block_config(mode);
    struct xdp_one a = xdp_one("va", &config), b;
    struct netring_block *blocks[BLOCKS];
    struct netring_packet packet;

    send_stream(sender, 0, FRAMES);
    queue_await(a.queue, FRAMES);
    take_all(a.queue, blocks);
    xdp_close(a.xdp);
    xdp_is_detached("va", mode->name);
    are_blocks(blocks, 0, "after the close");
    b = xdp_one("va", &config);
    for (uint32_t i = 0; i < 4; i++) {
        send_stream(sender, 5000 + i * FRAMES, FRAMES);
        queue_is_stream(b.queue, 5000 + i * FRAMES, FRAMES, "of the next open");
    }
    are_blocks(blocks, 0, "after all that");
    netring_block_rewind(blocks[3]);
    if (netring_block_read(blocks[3], &packet, sizeof packet, 1) == 1)
        packet.data[packet.caplen - 1] ^= 0xff; /* still writable */
    is_int(netring_block_retain(blocks[3], 1) < 0, 0, "%s: it can be retained", mode->name);
    is_int(netring_block_release(blocks[3]), 0, "%s: and released", mode->name);
    release_all(blocks, 7);
    is_int(netring_block_release(blocks[0]), NETRING_EBADF, "%s: they are gone", mode->name);
    xdp_close(b.xdp);
    is_footprint(before, "after the last release");
}

/* Three ways to walk a block tell the same. */
static void test_walks(void)
{
    struct netring_xdp_config config = block_config(&xdp_modes[0]);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_packet packets[PACKETS], walked;
    struct netring_block_info info;
    struct netring_block_view view;
    struct netring_cursor cursor;
    struct netring_block *block;
    uint32_t same = 0;

    send_stream(sender, 30, PACKETS);
    queue_await(a.queue, PACKETS);
    block = queue_block(a.queue, PACKETS);
    is_int(netring_block_read(block, packets, sizeof *packets, PACKETS + 0), PACKETS, "read");
    is_int(netring_block_info(block, &info, sizeof info), 0, "info");
    is_int(info.count, PACKETS, "count");
    is_int(info.ifindex, net_index("va"), "ifindex");
    ok(info.first_ns == packets[0].time_ns && info.last_ns == packets[PACKETS - 1].time_ns &&
           info.first_ns <= info.last_ns,
       "the times are of the first and the last");
    is_between(info.first_ns, clock_ns(CLOCK_REALTIME) - tap_patience(10000) * 1000000,
               clock_ns(CLOCK_REALTIME), "not long ago");
    is_int(netring_block_view(block, &view, sizeof view), 0, "view");
    is_int(view.layout, NETRING_LAYOUT_PACKETS, "an array of packets");
    is_int(view.count, PACKETS, "of so many");
    ok(view.stride >= sizeof *packets &&
           view.first + (uint64_t)view.stride * view.count <= view.length,
       "%u bytes apart, in %llu", view.stride, (unsigned long long)view.length);
    for (uint32_t i = 0; i < view.count; i++)
        same += memcmp(view.base + view.first + (size_t)i * view.stride, &packets[i],
                       sizeof *packets) == 0;
    is_int(same, PACKETS, "the same packets");
    is_int(netring_block_cursor(block, &cursor, sizeof cursor), 0, "cursor");
    same = 0;
    while (netring_cursor_next(&cursor)) {
        netring_cursor_packet(&cursor, &walked);
        same += same < PACKETS && memcmp(&walked, &packets[same], sizeof walked) == 0;
    }
    is_int(same, PACKETS, "the same, inline");
    netring_block_release(block);
    xdp_close(a.xdp);
}

/* ---- waiting ---- */

static bool readable(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    return poll(&wait, 1, 0) == 1 && wait.revents == POLLIN;
}

/* Takes one block at once: how many packets it has, or the code. */
static int take(struct netring_queue *queue)
{
    struct netring_block_info info;
    struct netring_block *block;
    int rc = netring_queue_next_block(queue, 0, &block);

    if (rc != 1)
        return rc;
    netring_block_info(block, &info, sizeof info);
    netring_block_release(block);
    return (int)info.count;
}

/* The descriptor says what the next call would. */
static void test_fd(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = block_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_block *held;
    int fd = netring_queue_fd(a.queue), rc;

    ok(fd >= 0 && fd == netring_queue_fd(a.queue), "%s: a queue has one descriptor", mode->name);
    ok(!readable(fd), "%s: nothing", mode->name);
    send_stream(sender, 0, 3);
    queue_await(a.queue, 3);
    ok(readable(fd) && readable(fd), "%s: readable, and remains so", mode->name);
    is_int(take(a.queue), 3, "%s: three packets", mode->name);
    ok(!readable(fd), "%s: no more", mode->name);
    is_int(take(a.queue), 0, "%s: nor any block", mode->name);
    send_stream(sender, 0, 2 * PACKETS + 5);
    queue_await(a.queue, 2 * PACKETS + 5);
    for (int i = 0; i < 3; i++) {
        ok(readable(fd), "%s: block %d is there", mode->name, i);
        is_int(take(a.queue), i < 2 ? PACKETS : 5, "%s: block %d", mode->name, i);
    }
    ok(!readable(fd), "%s: they are taken", mode->name);
    /* Held ones are not there. */
    send_stream(sender, 0, 1);
    queue_await(a.queue, 1);
    held = queue_block(a.queue, 1);
    ok(!readable(fd), "%s: it is held", mode->name);
    netring_block_release(held);
    ok(!readable(fd), "%s: and released", mode->name);
    netring_queue_wakeup(a.queue);
    netring_queue_wakeup(a.queue);
    ok(readable(fd), "%s: two wakeups", mode->name);
    is_int(take(a.queue), NETRING_EWAKEUP, "%s: are one", mode->name);
    ok(!readable(fd), "%s: which is told", mode->name);
    netring_queue_wakeup(a.queue);
    netring_queue_wakeup_clear(a.queue);
    ok(!readable(fd), "%s: a wakeup that is cleared", mode->name);
    is_int(take(a.queue), 0, "%s: is none", mode->name);
    send_stream(sender, 0, PACKETS + 1);
    queue_await(a.queue, PACKETS + 1);
    netring_queue_stop(a.queue);
    ok(readable(fd), "%s: stopped", mode->name);
    is_int(take(a.queue), PACKETS, "%s: what there was", mode->name);
    ok(readable(fd), "%s: there is more", mode->name);
    is_int(take(a.queue), 1, "%s: the rest", mode->name);
    for (int i = 0; i < 2; i++) {
        ok(readable(fd), "%s: the end", mode->name);
        rc = take(a.queue);
        is_int(rc, NETRING_ESHUTDOWN, "%s: is told", mode->name);
    }
    xdp_close(a.xdp);
}

/* Edge-triggered, one block a turn: each turn has its event while there is more. */
static void test_edges(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = block_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int set = epoll_create1(EPOLL_CLOEXEC), turns = 0, packets = 0, got;
    uint32_t rounds = tap_patience(1) > 1 ? 10 : 100;

    epoll_ctl(set, EPOLL_CTL_ADD, netring_queue_fd(a.queue), &event);
    for (uint32_t i = 0; i < rounds; i++)
        for (uint32_t sent = 0; sent < 3 * PACKETS; sent += 12) {
            send_stream(sender, 0, 12);
            if (epoll_wait(set, &event, 1, 0) == 1 && (got = take(a.queue)) > 0) {
                turns++;
                packets += got;
            }
        }
    while (epoll_wait(set, &event, 1, (int)tap_patience(100)) == 1) {
        got = take(a.queue);
        if (got <= 0)
            break;
        turns++;
        packets += got;
    }
    is_int(packets, rounds * 4 * 12, "%s: %d events, one block each: none is left", mode->name,
           turns);
    is_int(queue_stats(a.queue).pending, 0, "%s: in the ring", mode->name);
    close(set);
    xdp_close(a.xdp);
}

enum wait { BLOCK, PACKET, DISPATCH, WAITS };
static const char *const wait_names[] = {"next_block", "next_packet", "dispatch"};

struct waiting {
    struct netring_queue *queue;
    enum wait wait;
    int timeout, rc, error_number;
    int64_t took;
    pthread_t thread;
};

static int ignore(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    (void)user, (void)packets, (void)count, (void)size;
    return 0;
}

static void *waits(void *user)
{
    struct waiting *w = user;
    struct netring_packet packet;
    struct netring_block *block;
    int64_t start = now_ms();

    errno = 0;
    switch (w->wait) {
    case BLOCK:
        w->rc = netring_queue_next_block(w->queue, w->timeout, &block);
        if (w->rc == 1)
            netring_block_release(block);
        break;
    case PACKET:
        w->rc = netring_queue_next_packet(w->queue, w->timeout, &packet, sizeof packet);
        break;
    default:
        w->rc = netring_queue_dispatch(w->queue, w->timeout, 0, ignore, NULL);
        break;
    }
    w->error_number = errno;
    w->took = now_ms() - start;
    return NULL;
}

static void sends_one(struct xdp_one *one)
{
    (void)one;
    send_stream(sender, 0, 1);
}

static void wakes(struct xdp_one *one)
{
    netring_queue_wakeup(one->queue);
}

static void stops(struct xdp_one *one)
{
    netring_queue_stop(one->queue);
}

static void stops_all(struct xdp_one *one)
{
    netring_xdp_stop(one->xdp);
}

static void closes(struct xdp_one *one)
{
    xdp_close(one->xdp);
}

/* With block_timeout_us the socket is polled, and in no epoll set. */
static void test_waits(const struct xdp_mode *mode, uint32_t block_timeout_us)
{
    static const struct {
        const char *name;
        void (*act)(struct xdp_one *one);
        int code;
    } ends[] = {
        {"a packet", sends_one, 1},         {"a wakeup", wakes, NETRING_EWAKEUP},
        {"stop", stops, NETRING_ESHUTDOWN}, {"stop of all", stops_all, NETRING_ESHUTDOWN},
        {"close", closes, NETRING_EBADF},
    };
    struct netring_xdp_config config = block_config(mode);

    config.block_timeout_us = block_timeout_us;
    for (int wait = 0; wait < WAITS; wait++) {
        for (size_t i = 0; i < COUNT(ends); i++) {
            struct xdp_one a = xdp_one("va", &config);
            struct waiting w = {.queue = a.queue, .wait = (enum wait)wait, .timeout = -1};

            pthread_create(&w.thread, NULL, waits, &w);
            sleep_ms(20);
            ends[i].act(&a);
            pthread_join(w.thread, NULL);
            is_int(w.rc, ends[i].code, "%s: %s of %s ends", mode->name, ends[i].name,
                   wait_names[wait]);
            if (w.rc < 0)
                is_int(w.error_number, ends[i].code == NETRING_EWAKEUP ? EINTR : -ends[i].code,
                       "%s: with its errno", mode->name);
            if (ends[i].act != closes)
                xdp_close(a.xdp);
        }
    }
}

struct gathering {
    struct xdp_one one;
    void (*act)(struct xdp_one *one);
    uint32_t first; /* packets that come while the call waits */
};

static void *sends_more(void *user)
{
    struct gathering *gathering = user;

    if (gathering->first) {
        sleep_ms(20);
        send_stream(sender, 0, gathering->first);
        sleep_ms(20);
    }
    if (gathering->act)
        gathering->act(&gathering->one);
    sleep_ms(200);
    send_stream(sender, gathering->first ? gathering->first : 2, 1);
    return NULL;
}

/* With block_timeout_us a call that has waited sleeps on for more packets, until it has had its
 * time or something ends it. */
static void test_gathering(const struct xdp_mode *mode)
{
    static const struct {
        const char *name;
        uint32_t time_us, there, coming;
        int timeout;
        void (*act)(struct xdp_one *one);
        uint32_t count;
        int then;
    } cases[] = {
        {"no time", 0, 0, 1, -1, NULL, 1, 0},
        {"a second", 1000000, 0, 1, -1, NULL, 2, 0},
        {"a second, with a wakeup", 1000000, 0, 1, -1, wakes, 1, NETRING_EWAKEUP},
        {"a second, with a stop", 1000000, 0, 1, -1, stops, 1, NETRING_ESHUTDOWN},
        {"a second, the call less", 1000000, 0, 1, 100, NULL, 1, 0},
        {"a second, packets there before", 1000000, 2, 0, -1, NULL, 2, 0},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_xdp_config config = block_config(mode);
        struct gathering gathering = {.act = cases[i].act, .first = cases[i].coming};
        struct netring_block *block = NULL, *none;
        struct netring_queue_info info;
        struct netring_block_info has;
        pthread_t thread;
        int rc;

        config.block_timeout_us = cases[i].time_us;
        gathering.one = xdp_one("va", &config);
        netring_queue_info(gathering.one.queue, &info, sizeof info);
        is_int(info.block_timeout_us, cases[i].time_us, "%s: gathering, %s", mode->name,
               cases[i].name);
        send_stream(sender, 0, cases[i].there);
        queue_await(gathering.one.queue, cases[i].there);
        pthread_create(&thread, NULL, sends_more, &gathering);
        rc = netring_queue_next_block(gathering.one.queue, cases[i].timeout, &block);
        is_int(rc, 1, "a block");
        if (rc != 1 || netring_block_info(block, &has, sizeof has) != 0)
            tap_bail("no block: %s", netring_strerror(rc));
        ok(has.count == cases[i].count && !not_this_block(block, 0, cases[i].count),
           "of %u packets (%u)", cases[i].count, (uint32_t)has.count);
        if (cases[i].then)
            is_int(netring_queue_next_block(gathering.one.queue, 0, &none), cases[i].then, "then");
        netring_block_release(block);
        pthread_join(thread, NULL);
        xdp_close(gathering.one.xdp);
    }
}

static void test_timeouts(void)
{
    struct netring_xdp_config config = block_config(&xdp_modes[0]);
    struct xdp_one a = xdp_one("va", &config);

    for (int wait = 0; wait < WAITS; wait++) {
        struct waiting w = {.queue = a.queue, .wait = (enum wait)wait, .timeout = 50};

        waits(&w);
        is_int(w.rc, 0, "%s: a timeout", wait_names[wait]);
        is_int(w.error_number, 0, "%s: is no error", wait_names[wait]);
        is_between(w.took, 49, tap_patience(1000), "%s: after 50 ms", wait_names[wait]);
        w.timeout = 0;
        waits(&w);
        is_int(w.rc, 0, "%s: at once", wait_names[wait]);
    }
    xdp_close(a.xdp);
}

/* Several threads take blocks of one queue: each packet goes to one of them. */
struct taker {
    struct netring_queue *queue;
    pthread_t thread;
    int rc;
    uint32_t packets;
    uint8_t *seen; /* atomic */
};

static void *takes(void *user)
{
    struct taker *t = user;
    struct netring_packet packets[PACKETS];
    struct netring_block *block;
    int n;

    while ((t->rc = netring_queue_next_block(t->queue, -1, &block)) == 1) {
        while ((n = netring_block_read(block, packets, sizeof *packets, PACKETS)) > 0) {
            for (int i = 0; i < n; i++) {
                uint32_t number = numbered_number(packets[i].data);

                if (!not_of_stream(&packets[i], number))
                    __atomic_fetch_add(&t->seen[number], 1, __ATOMIC_RELAXED);
                t->packets++;
            }
        }
        netring_block_release(block);
    }
    return NULL;
}

/* And one looks on: what was received and dropped only ever gets more. */
struct watcher {
    struct netring_queue *queue;
    int stop; /* atomic */
    uint32_t looks, fell, wrong;
    pthread_t thread;
};

static void *watches(void *user)
{
    struct watcher *w = user;
    struct netring_stats last = {0}, now;

    while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
        now = queue_stats(w->queue);
        w->fell += now.received < last.received || now.seen < last.seen ||
                   now.delivered < last.delivered || now.blocks_delivered < last.blocks_delivered;
        w->wrong +=
            now.received != now.delivered + now.pending || now.seen != now.received + now.dropped;
        last = now;
        if (++w->looks % 16 == 0)
            usleep(20); /* others want a turn, under valgrind above all */
    }
    return NULL;
}

static void test_takers(const struct xdp_mode *mode)
{
    enum { MOST = 20000 };
    struct netring_xdp_config config = block_config(mode);
    struct xdp_one a = xdp_one("va", &config);
    uint32_t count = tap_patience(1) > 1 ? 1000 : MOST, once = 0, got = 0;
    static uint8_t seen[MOST];
    struct watcher watcher = {.queue = a.queue};
    struct taker takers[THREADS];

    memset(seen, 0, sizeof seen);
    pthread_create(&watcher.thread, NULL, watches, &watcher);
    for (int i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){.queue = a.queue, .seen = seen};
        pthread_create(&takers[i].thread, NULL, takes, &takers[i]);
    }
    for (uint32_t i = 0; i < count; i += 50) {
        while (i > queue_stats(a.queue).delivered + 100)
            usleep(200);
        send_stream(sender, i, 50);
    }
    for (int i = 0; i < 2000 && queue_stats(a.queue).delivered < count; i++)
        sleep_ms(1);
    netring_queue_stop(a.queue);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(takers[i].thread, NULL);
        is_int(takers[i].rc, NETRING_ESHUTDOWN, "%s: taker %d ends (%u packets)", mode->name, i,
               takers[i].packets);
        got += takers[i].packets;
    }
    __atomic_store_n(&watcher.stop, 1, __ATOMIC_RELEASE);
    pthread_join(watcher.thread, NULL);
    is_int(watcher.fell, 0, "%s: of %u looks none tells of less than the one before", mode->name,
           watcher.looks);
    is_int(watcher.wrong, 0, "%s: and the sums are right each time", mode->name);
    for (uint32_t i = 0; i < count; i++)
        once += seen[i] == 1;
    is_int(got, count, "%s: all packets have been taken", mode->name);
    is_int(once, count, "%s: each of them once, byte for byte", mode->name);
    queue_adds_up(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* ---- the slower ways ---- */

struct dispatched {
    struct netring_queue *queue;
    uint32_t next, calls;
    int inner;
    const char *wrong;
};

static int looks(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    struct dispatched *d = user;
    struct netring_packet packet;

    d->calls++;
    d->inner = netring_queue_next_packet(d->queue, 0, &packet, sizeof packet);
    for (size_t i = 0; i < count && !d->wrong; i++)
        d->wrong = not_of_stream((const void *)((const uint8_t *)packets + i * size), d->next++);
    return d->next >= 40; /* ends it */
}

static void test_slower(void)
{
    struct netring_xdp_config config = block_config(&xdp_modes[0]);
    struct xdp_one a = xdp_one("va", &config);
    struct dispatched d = {.queue = a.queue};
    struct netring_packet packet;
    const char *wrong = NULL;
    int rc;

    send_stream(sender, 0, 60);
    queue_await(a.queue, 60);
    is_int(netring_queue_dispatch(a.queue, 0, 10, looks, &d), 10, "ten");
    rc = netring_queue_dispatch(a.queue, 0, 1000, looks, &d);
    is_int(rc, d.next - 10, "until it ends");
    ok(d.next >= 40 && d.next < 60 && !d.wrong, "%u packets in order%s%s", d.next,
       d.wrong ? ": " : "", d.wrong ? d.wrong : "");
    is_int(d.inner, NETRING_EBUSY, "from inside it is busy");
    for (uint32_t i = d.next; i < 60 && !wrong; i++) {
        if (netring_queue_next_packet(a.queue, 0, &packet, sizeof packet) != 1)
            wrong = "it is not there";
        else
            wrong = not_of_stream(&packet, i);
    }
    ok(!wrong, "the others one by one%s%s", wrong ? ": " : "", wrong ? wrong : "");
    is_int(netring_queue_next_packet(a.queue, 0, &packet, sizeof packet), 0, "no more");
    queue_is_idle(a.queue, "the last packet is taken");
    xdp_close(a.xdp);
}

int main(void)
{
    struct footprint before;

    tap_begin(100);
    xdp_enter();
    net_veth("va", "vb");
    sender = net_sender("vb");
    before = footprint_now();
    for (size_t i = 0; i < COUNT(xdp_modes); i++) {
        test_hold_all(&xdp_modes[i]);
        test_few_left(&xdp_modes[i]);
        test_close_with_held(&xdp_modes[i]);
        test_fd(&xdp_modes[i]);
        test_edges(&xdp_modes[i]);
        test_waits(&xdp_modes[i], 0);
        test_waits(&xdp_modes[i], 100);
        test_gathering(&xdp_modes[i]);
        test_takers(&xdp_modes[i]);
    }
    test_retain();
    test_walks();
    test_timeouts();
    test_slower();
    is_footprint(before, "all of it");
    return tap_end();
}
