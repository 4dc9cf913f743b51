/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * AF_XDP: the library's queues against a program written by hand with libxdp (where that is not
 * installed: with rings of its own, xsk.h) and against the library's AF_PACKET capture and
 * injector, over one veth pair. Four tables:
 *
 * Walk: 2048 packets are received into a ring, then taken out; CPU time of the thread that takes
 * them out, nothing else in it. With and without the hint to fetch a packet further on.
 * Receive: one thread sends as fast as it can, another one waits for packets and takes them: how
 * many a second, CPU time of the receiving thread, and what was lost.
 * Bursts: the same with so many packets at a time, and a pause behind them: each way wakes up for
 * as many packets as the others, which it does not where packets come without an end.
 * Send: CPU time of the thread and of the softirq thread of its CPU, to which all is pinned.
 *
 * The ways take turns, in another order every round, with a socket each has to itself; what counts
 * is the median over the rounds of each one's figure by that of the program by hand in the same
 * round. It runs twice a round as the control: where it is not as fast as itself, the machine was
 * too busy, and the table says so. All of it by hand but "libxdp's program" has the XDP program of
 * the library, so that the kernel does the same for both.
 *
 * usage: xdp [ROUNDS [wrbs]]; fewer than 9 are for a quick look; w, r, b, s: those tables alone
 * Makes a network namespace of its own. Exit status: 0, 1 (a control failed), 77 (not allowed to).
 */
#include "common.h"
#include "cpu.h"
#include "xsk.h"

#include <errno.h>
#include <netring.h>
#include <netring_inline.h>
#include <poll.h>
#include <pthread.h>

#define IN "bench0"
#define OUT "bench1"

enum { BATCH = XSK_BATCH, BURST = 2048, BURSTS = 12, AHEAD = 8 };
/* Microseconds that a queue gathers a block, where it does. */
enum { GATHER = 50 };
enum { BURST_PAUSE_NS = 60000, BURST_PACKET_NS = 2500, BURST_MOST = 3000 };
enum { LIVE = 50000, SENT = 8192, MOST_ROUNDS = 50, TRIES = 3 };

/* How far the control may be from 1. What two threads do on two CPUs is less steady. */
static const double TOLERANCE = 0.05, LIVE_TOLERANCE = 0.15;

static int rounds_wanted = 9;
static bool skb;        /* the mode at hand */
static uint32_t length; /* of a packet */
static size_t bytes;    /* of those, read */
static uint32_t burst;  /* packets sent at a time; 0: without a pause */
static uint32_t gather; /* microseconds */
static uint64_t seen, sum, written;
static uint8_t frame[XSK_FRAME];

static void must_netring(int rc, const char *what)
{
    if (rc < 0)
        tap_bail("%s: %s", what, netring_strerror(rc));
}

static void make_frame(void)
{
    memset(frame, 0x5a, sizeof frame);
    memset(frame, 0xff, 12);
    frame[0] = 2; /* unicast, to nobody */
    frame[12] = ETHERTYPE_TEST >> 8;
    frame[13] = ETHERTYPE_TEST & 0xff;
}

static void write_frame(uint8_t *to)
{
    memcpy(to, frame, length);
    memcpy(to + 20, &written, sizeof written);
    written++;
}

/* ---- by hand ---- */

static struct xsk xsk;
static struct netring_xdp *xdp; /* by hand: its program alone */

static void xdp_start(const char *name, uint32_t redirect, uint64_t flags)
{
    struct netring_xdp_config config = NETRING_XDP_CONFIG_INIT;
    struct netring_error error;

    config.flags = flags;
    config.redirect = redirect;
    config.mode = skb ? NETRING_MODE_SKB : NETRING_MODE_COPY;
    config.frame_size = XSK_FRAME;
    config.rx_frames = config.tx_frames = XSK_FRAMES;
    config.block_timeout_us = gather;
    if (netring_xdp_open(name, NULL, 0, &config, &xdp, &error) < 0)
        tap_bail("%s: %s", error.option, error.message);
}

static void hand_open(void)
{
    xdp_start(IN, NETRING_REDIRECT_ALL, NETRING_XDP_PROGRAM_ONLY);
    xsk_open(&xsk, IN, netring_xdp_fd(xdp, NETRING_XDP_FD_MAP), skb);
}

static void hand_close(void)
{
    must_netring(netring_xdp_close(xdp), "netring_xdp_close");
    xsk_close(&xsk);
}

#ifdef HAVE_LIBXDP
static void libxdp_open(void)
{
    xsk_open(&xsk, IN, XSK_OWN_PROGRAM, skb);
}

static void libxdp_close(void)
{
    xsk_close(&xsk);
}
#endif

static uint32_t hand_take(void)
{
    return xsk_take(&xsk, bytes, 0, &sum);
}

static uint32_t hand_take_ahead(void)
{
    return xsk_take(&xsk, bytes, AHEAD, &sum);
}

static void hand_wait(void)
{
    struct pollfd set = {.fd = xsk.fd, .events = POLLIN};

    poll(&set, 1, 10);
}

/* What block_timeout_us does. */
static void hand_gather(void)
{
    hand_wait();
    sleep_us(GATHER);
}

/* ---- the library ---- */

static struct netring_queue *queue;
static struct netring_capture *capture;
static int patience; /* milliseconds that next_block waits */

static void queue_open(void)
{
    xdp_start(IN, NETRING_REDIRECT_ALL, 0);
    must_netring(netring_xdp_queue(xdp, 0, &queue), "netring_xdp_queue");
}

static void gather_open(void)
{
    gather = GATHER;
    queue_open();
    gather = 0;
}

static void queue_close(void)
{
    must_netring(netring_xdp_close(xdp), "netring_xdp_close");
}

static struct netring_block *queue_block(void)
{
    struct netring_block *block;
    int rc = netring_queue_next_block(queue, patience, &block);

    must_netring(rc, "netring_queue_next_block");
    return rc > 0 ? block : NULL;
}

static uint32_t walk_block(struct netring_block *block, uint32_t ahead)
{
    struct netring_cursor cursor;
    uint32_t count = 0;

    if (block == NULL)
        return 0;
    netring_cursor_init(&cursor, block);
    while (netring_cursor_next(&cursor)) {
        if (ahead != 0)
            netring_cursor_prefetch(&cursor, ahead);
        sum += consume(netring_cursor_data(&cursor), netring_cursor_caplen(&cursor), bytes);
        count++;
    }
    netring_block_release(block);
    return count;
}

static uint32_t inline_take(void)
{
    return walk_block(queue_block(), 0);
}

static uint32_t inline_take_ahead(void)
{
    return walk_block(queue_block(), AHEAD);
}

static uint32_t read_block(struct netring_block *block, uint32_t ahead)
{
    struct netring_packet packets[BATCH];
    uint32_t seen_here = 0;
    int count;

    if (block == NULL)
        return 0;
    while ((count = netring_block_read(block, packets, sizeof *packets, BATCH)) > 0) {
        for (uint32_t i = 0; i < (uint32_t)count; i++) {
            if (ahead != 0 && i + ahead < (uint32_t)count)
                __builtin_prefetch(packets[i + ahead].data);
            sum += consume(packets[i].data, packets[i].caplen, bytes);
        }
        seen_here += (uint32_t)count;
    }
    netring_block_release(block);
    return seen_here;
}

static uint32_t read_take(void)
{
    return read_block(queue_block(), 0);
}

static uint32_t read_take_ahead(void)
{
    return read_block(queue_block(), AHEAD);
}

/* next_block has waited. */
static void queue_wait(void)
{
}

static void capture_open(void)
{
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_error error;

    config.block_size = 1 << 18;
    config.block_count = XSK_FRAMES * XSK_FRAME / (1 << 18);
    config.block_timeout = 10;
    config.flags |= NETRING_CAPTURE_EXACT;
    if (netring_capture_open(IN, &config, &capture, &error) < 0)
        tap_bail("%s: %s", error.option, error.message);
}

static void capture_close(void)
{
    must_netring(netring_capture_close(capture), "netring_capture_close");
}

static uint32_t capture_take(void)
{
    struct netring_block *block;
    int rc = netring_capture_next_block(capture, patience, &block);

    must_netring(rc, "netring_capture_next_block");
    return rc > 0 ? walk_block(block, 0) : 0;
}

/* ---- what is compared ---- */

struct way {
    const char *name;
    void (*open)(void);
    uint32_t (*take)(void); /* some of what is there; how many packets */
    void (*wait)(void), (*close)(void);
    bool control; /* the first once more */
};
#define HAND "libxdp"
#ifndef HAVE_LIBXDP
#undef HAND
#define HAND "rings by hand"
#endif

static const struct way walks[] = {
    {HAND, hand_open, hand_take, hand_wait, hand_close, false},
    {HAND " again (control)", hand_open, hand_take, hand_wait, hand_close, true},
    {HAND ", 8 ahead", hand_open, hand_take_ahead, hand_wait, hand_close, false},
    {"**inline walk**", queue_open, inline_take, queue_wait, queue_close, false},
    {"**inline walk**, 8 ahead", queue_open, inline_take_ahead, queue_wait, queue_close, false},
    {"**`netring_block_read`**", queue_open, read_take, queue_wait, queue_close, false},
    {"**`netring_block_read`**, 8 ahead", queue_open, read_take_ahead, queue_wait, queue_close,
     false},
    {"AF_PACKET capture, inline walk", capture_open, capture_take, queue_wait, capture_close,
     false},
};

static const struct way receivers[] = {
    {HAND, hand_open, hand_take, hand_wait, hand_close, false},
    {HAND " again (control)", hand_open, hand_take, hand_wait, hand_close, true},
    {HAND ", 50 us of sleep more", hand_open, hand_take, hand_gather, hand_close, false},
#ifdef HAVE_LIBXDP
    {HAND " with libxdp's program", libxdp_open, hand_take, hand_wait, libxdp_close, false},
#endif
    {"**inline walk**", queue_open, inline_take, queue_wait, queue_close, false},
    {"**`netring_block_read`**", queue_open, read_take, queue_wait, queue_close, false},
    {"**inline walk**, `block_timeout_us` 50", gather_open, inline_take, queue_wait, queue_close,
     false},
    {"AF_PACKET capture, inline walk", capture_open, capture_take, queue_wait, capture_close,
     false},
};

static const struct way woken[] = {
    {HAND, hand_open, hand_take, hand_wait, hand_close, false},
    {HAND " again (control)", hand_open, hand_take, hand_wait, hand_close, true},
    {"**inline walk**", queue_open, inline_take, queue_wait, queue_close, false},
    {"**`netring_block_read`**", queue_open, read_take, queue_wait, queue_close, false},
};

enum { MOST_WAYS = 8 };

/* Figures of a round: what is compared, negative where the round is void. */
struct figures {
    double time, rate, lost;
};

/* ---- walk ---- */

static int sender;

static struct figures walk(const struct way *way)
{
    struct figures figures = {-1, 0, 0};
    int64_t ns = 0;
    uint64_t count = 0;

    patience = 0;
    way->open();
    for (int burst = 0; burst < BURSTS; burst++) {
        int64_t before;
        uint32_t got;

        if (net_flood(sender, frame, length, BURST) != BURST)
            tap_bail("veth refused packets");
        /* Until all are there, and AF_PACKET's last block is closed. */
        sleep_us(way->open == capture_open ? 25000 : 1000);
        seen = sum = 0;
        before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        while (seen < BURST && (got = way->take()) != 0)
            seen += got;
        if (burst != 0) { /* the first warms up */
            ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - before;
            count += seen;
        }
        if (seen != BURST)
            break;
        if (sum != BURST * consume(frame, length, bytes))
            tap_bail("%s: other bytes than were sent", way->name);
    }
    way->close();
    if (seen == BURST)
        figures.time = (double)ns / (double)count;
    return figures;
}

/* ---- receive ---- */

static volatile bool sent_all;
static int64_t sent_from, sent_until;
static uint32_t sent;

static void *send_live(void *unused)
{
    const uint32_t at_once = burst != 0 ? burst : LIVE;
    const uint32_t all = burst != 0 && burst * BURST_MOST < LIVE ? burst * BURST_MOST : LIVE;

    (void)unused;
    if (!stay_on(0))
        tap_bail("sched_setaffinity");
    sent_from = clock_ns(CLOCK_MONOTONIC);
    for (sent = 0; sent < all; sent += at_once) {
        int64_t next;

        if (net_flood(sender, frame, length, at_once) != at_once)
            tap_bail("veth refused packets");
        next = clock_ns(CLOCK_MONOTONIC) + BURST_PAUSE_NS + BURST_PACKET_NS * (int64_t)at_once;
        while (burst != 0 && clock_ns(CLOCK_MONOTONIC) < next)
            ;
    }
    sent_until = clock_ns(CLOCK_MONOTONIC);
    sent_all = true;
    return NULL;
}

static struct figures receive(const struct way *way)
{
    struct figures figures = {-1, 0, 0};
    pthread_t thread;
    int64_t cpu;
    int idle = 0;

    patience = 10;
    seen = sum = 0;
    sent_all = false;
    way->open();
    if (pthread_create(&thread, NULL, send_live, NULL) != 0)
        tap_bail("pthread_create");
    cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    while (idle < 5) {
        uint32_t got = way->take();

        seen += got;
        idle = got != 0 ? 0 : idle + sent_all;
        if (got == 0)
            way->wait();
    }
    cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    pthread_join(thread, NULL);
    way->close();
    if (sum != seen * consume(frame, length, bytes))
        tap_bail("%s: other bytes than were sent", way->name);
    if (seen != 0) {
        figures.time = (double)cpu / (double)seen;
        figures.rate = (double)seen * 1e9 / (double)(sent_until - sent_from);
        figures.lost = 100 * (1 - (double)seen / sent);
    }
    return figures;
}

/* ---- send ---- */

static struct netring_injector *injector;

static void hand_sender_open(void)
{
    xdp_start(OUT, NETRING_REDIRECT_NONE, NETRING_XDP_PROGRAM_ONLY);
    xsk_open(&xsk, OUT, XSK_NO_MAP, skb);
}

static void queue_sender_open(void)
{
    xdp_start(OUT, NETRING_REDIRECT_NONE, 0);
    must_netring(netring_xdp_queue(xdp, 0, &queue), "netring_xdp_queue");
}

static void queue_sender_close(void)
{
    if (netring_queue_drain(queue, 1000) != 1)
        tap_bail("netring_queue_drain");
    queue_close();
}

static uint32_t hand_send(void)
{
    xsk_send(&xsk, BATCH, length, write_frame);
    return BATCH;
}

static uint32_t queue_in_place(void)
{
    struct netring_slot slots[BATCH];
    int got = netring_queue_reserve(queue, slots, sizeof *slots, BATCH, -1);

    must_netring(got, "netring_queue_reserve");
    for (int i = 0; i < got; i++) {
        write_frame(slots[i].data);
        slots[i].len = length;
    }
    if (netring_queue_commit(queue, slots, sizeof *slots, (size_t)got) != got)
        tap_bail("netring_queue_commit");
    must_netring(netring_queue_flush(queue), "netring_queue_flush");
    return (uint32_t)got;
}

/* A copy more: from buffers of the caller's. */
static uint32_t queue_by_copy(void)
{
    static uint8_t buffers[BATCH][XSK_FRAME];
    struct netring_frame frames[BATCH];
    uint32_t done = 0;

    for (uint32_t i = 0; i < BATCH; i++) {
        write_frame(buffers[i]);
        frames[i] = (struct netring_frame){.data = buffers[i], .len = length};
    }
    while (done < BATCH) {
        int sent = netring_queue_send_batch(queue, frames + done, sizeof *frames, BATCH - done, -1);

        must_netring(sent, "netring_queue_send_batch");
        done += (uint32_t)sent;
    }
    return BATCH;
}

static void injector_open(uint32_t method)
{
    struct netring_injector_config config = NETRING_INJECTOR_CONFIG_INIT;
    struct netring_error error;

    config.method = method;
    if (netring_injector_open(OUT, &config, &injector, &error) < 0)
        tap_bail("%s: %s", error.option, error.message);
}

static void injector_sendmmsg(void)
{
    injector_open(NETRING_METHOD_SENDMMSG);
}

static void injector_ring(void)
{
    injector_open(NETRING_METHOD_TPACKET2);
}

static void injector_close(void)
{
    if (netring_injector_drain(injector, 1000) != 1)
        tap_bail("netring_injector_drain");
    netring_injector_close(injector);
}

static uint32_t injector_in_place(void)
{
    struct netring_slot slots[BATCH];
    int got = netring_injector_reserve(injector, slots, sizeof *slots, BATCH, -1);

    must_netring(got, "netring_injector_reserve");
    for (int i = 0; i < got; i++) {
        write_frame(slots[i].data);
        slots[i].len = length;
    }
    if (netring_injector_commit(injector, slots, sizeof *slots, (size_t)got) != got)
        tap_bail("netring_injector_commit");
    must_netring(netring_injector_flush(injector), "netring_injector_flush");
    return (uint32_t)got;
}

static const struct way senders[] = {
    {HAND, hand_sender_open, hand_send, NULL, hand_close, false},
    {HAND " again (control)", hand_sender_open, hand_send, NULL, hand_close, true},
    {"**in place**", queue_sender_open, queue_in_place, NULL, queue_sender_close, false},
    {"**`send_batch`**", queue_sender_open, queue_by_copy, NULL, queue_sender_close, false},
    {"AF_PACKET injector, sendmmsg", injector_sendmmsg, injector_in_place, NULL, injector_close,
     false},
    {"AF_PACKET injector, ring", injector_ring, injector_in_place, NULL, injector_close, false},
};

static struct figures transmit(const struct way *way)
{
    struct figures figures = {-1, 0, 0};
    uint64_t before, lost = net_softnet_dropped(), arrived = 0;
    int64_t cpu;

    way->open();
    for (uint32_t warm = 0; warm < XSK_FRAMES;) /* each frame is touched */
        warm += way->take();
    sleep_us(1000);
    before = net_counters(IN).rx_packets;
    cpu = -cpu_ns();
    for (seen = 0; seen < SENT;)
        seen += way->take();
    for (int i = 0; i < 20 && net_counters(IN).rx_packets - before < seen; i++)
        sched_yield();
    cpu += cpu_ns();
    way->close();
    for (int i = 0; i < 20 && arrived != seen; i++) {
        arrived = net_counters(IN).rx_packets - before;
        if (arrived != seen)
            sleep_us(1000);
    }
    if (arrived == seen && net_softnet_dropped() == lost)
        figures.time = (double)cpu / (double)seen;
    return figures;
}

/* ---- rounds ---- */

struct column {
    const char *name;
    bool skb;
    uint32_t length, bytes, burst;
};

struct results {
    double time[MOST_WAYS], low[MOST_WAYS], high[MOST_WAYS], rate[MOST_WAYS], lost[MOST_WAYS];
    double first_ns, first_rate;
    bool good;
};

/* An order for a round. Not a rotation: each way would always follow the same other one. */
static void shuffle(size_t *order, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)rand() % (i + 1);

        order[i] = order[at];
        order[at] = i;
    }
}

static struct results measure(const struct way *ways, size_t count, const struct column *column,
                              struct figures (*figures_of)(const struct way *way), double tolerance)
{
    static double times[MOST_WAYS][MOST_ROUNDS], rates[MOST_WAYS][MOST_ROUNDS];
    static double losses[MOST_WAYS][MOST_ROUNDS];
    double first[MOST_ROUNDS], first_rates[MOST_ROUNDS];
    struct results results = {.good = true};
    size_t rounds = 0;

    skb = column->skb;
    length = column->length;
    bytes = column->bytes;
    burst = column->burst;
    /* Round 0 warms up; one in which packets were lost where none may be does not count. */
    for (int turn = 0; turn <= rounds_wanted; turn++) {
        struct figures figures[MOST_WAYS];
        size_t order[MOST_WAYS];
        bool complete = true;

        shuffle(order, count);
        for (size_t i = 0; i < count; i++) {
            figures[order[i]] = figures_of(&ways[order[i]]);
            complete = complete && figures[order[i]].time > 0;
        }
        if (turn == 0 || !complete)
            continue;
        for (size_t way = 0; way < count; way++) {
            times[way][rounds] = figures[way].time / figures[0].time;
            rates[way][rounds] = figures[0].rate != 0 ? figures[way].rate / figures[0].rate : 0;
            losses[way][rounds] = figures[way].lost;
        }
        first_rates[rounds] = figures[0].rate;
        first[rounds++] = figures[0].time;
    }
    for (size_t way = 0; way < count; way++) {
        results.low[way] = quantile(times[way], rounds, 0.25);
        results.time[way] = quantile(times[way], rounds, 0.5);
        results.high[way] = quantile(times[way], rounds, 0.75);
        results.rate[way] = quantile(rates[way], rounds, 0.5);
        results.lost[way] = quantile(losses[way], rounds, 0.5);
        if (ways[way].control &&
            (results.time[way] < 1 - tolerance || results.time[way] > 1 + tolerance))
            results.good = false;
    }
    results.first_ns = quantile(first, rounds, 0.5);
    results.first_rate = quantile(first_rates, rounds, 0.5);
    if (rounds + 2 < (size_t)rounds_wanted)
        results.good = false;
    if (!results.good)
        fprintf(stderr, "%s: control %.2f in %zu rounds: the machine is busy\n", column->name,
                results.time[1], rounds);
    return results;
}

static bool table(const char *title, const struct way *ways, size_t count,
                  const struct column *columns, size_t column_count,
                  struct figures (*figures_of)(const struct way *way), bool rated, double tolerance)
{
    struct results results[8];
    bool good = true;

    for (size_t c = 0; c < column_count; c++) {
        for (int try = 0; try < TRIES; try++) {
            results[c] = measure(ways, count, &columns[c], figures_of, tolerance);
            if (results[c].good)
                break;
        }
        good = good && results[c].good;
    }
    printf("\n| %s |", title);
    for (size_t c = 0; c < column_count; c++)
        printf(" %s |", columns[c].name);
    printf("\n|---|");
    for (size_t c = 0; c < column_count; c++)
        printf("---|");
    for (size_t way = 0; way < count; way++) {
        printf("\n| %s |", ways[way].name);
        for (size_t c = 0; c < column_count; c++) {
            const struct results *these = &results[c];

            if (rated && way == 0)
                printf(" 1 (%.0f k/s), 1 (%.0f ns), %.1f %%", these->first_rate / 1000,
                       these->first_ns, these->lost[way]);
            else if (rated)
                printf(" %.2f, %.2f (%.2f-%.2f), %.1f %%", these->rate[way], these->time[way],
                       these->low[way], these->high[way], these->lost[way]);
            else if (way == 0)
                printf(" 1 (%.1f ns)", these->first_ns);
            else
                printf(" %.2f (%.2f-%.2f)", these->time[way], these->low[way], these->high[way]);
            printf("%s |", these->good ? "" : " discard");
        }
    }
    printf("\n");
    fflush(stdout);
    return good;
}

int main(int argc, char **argv)
{
    static const struct column walked[] = {
        {"64 B, lengths only", false, 64, 0, 0},
        {"64 B, first 8 B read", false, 64, 8, 0},
        {"1514 B, first 8 B read", false, 1514, 8, 0},
        {"1514 B, all read", false, 1514, 1512, 0},
    };
    static const struct column modes[] = {
        {"native, 64 B", false, 64, 8, 0},
        {"native, 1514 B", false, 1514, 8, 0},
        {"SKB, 64 B", true, 64, 8, 0},
        {"SKB, 1514 B", true, 1514, 8, 0},
    };
    static const struct column bursts[] = {
        {"bursts of 1", false, 64, 8, 1},
        {"of 4", false, 64, 8, 4},
        {"of 16", false, 64, 8, 16},
        {"of 64", false, 64, 8, 64},
    };
    const char *which = "wrbs";
    bool good = true;

    if (argc > 1)
        rounds_wanted = atoi(argv[1]);
    if (rounds_wanted < 1 || rounds_wanted >= MOST_ROUNDS)
        tap_bail("usage: xdp [ROUNDS [wrbs]], 1 to %d", MOST_ROUNDS - 1);
    if (argc > 2)
        which = argv[2];
    if (geteuid() != 0)
        tap_skip_all("XDP programs take root");
#ifdef HAVE_LIBXDP
    libxdp_set_print(NULL);
    libbpf_set_print(NULL);
#else
    printf("libxdp is not installed: held against rings by hand (benches/xsk.h).\n");
#endif
    net_enter();
    net_veth(IN, OUT);
    net_await_carrier(IN);
    net_await_carrier(OUT);
    sender = net_sender(OUT);
    make_frame();
    if (!stay_on(1))
        tap_bail("sched_setaffinity");
    if (strchr(which, 'w'))
        good = table("walk: CPU time", walks, COUNT(walks), walked, COUNT(walked), walk, false,
                     TOLERANCE) &&
               good;
    if (strchr(which, 'r'))
        good = table("receive: packets a second, CPU time of the thread, lost", receivers,
                     COUNT(receivers), modes, COUNT(modes), receive, true, LIVE_TOLERANCE) &&
               good;
    if (strchr(which, 'b'))
        good = table("bursts: CPU time of the thread", woken, COUNT(woken), bursts, COUNT(bursts),
                     receive, false, LIVE_TOLERANCE) &&
               good;
    if (strchr(which, 's'))
        good = table("send: CPU time", senders, COUNT(senders), modes, COUNT(modes), transmit,
                     false, TOLERANCE) &&
               good;
    if (!good)
        printf("\nDiscard what says so: the control is off by more than 5 %% (receive, bursts: 15 "
               "%%), the "
               "machine was busy.\n");
    return good ? 0 : 1;
}
