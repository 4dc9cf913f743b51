/* Sends numbered UDP frames through AF_XDP sockets, past the host's stack: from all queues of an
 * interface, a thread for each, and says what became of them.
 *
 *   xdp_send -c 1000000 eth1         a million, as fast as they leave
 *   xdp_send -q 0 -r 10000 eth1      10,000 a second from queue 0, until Ctrl-C
 *
 * Each frame is written where the driver takes it from (reserve, commit), a batch at a time; the
 * kernel is woken only where it asks for it (flush). The library attaches a program that passes
 * everything to the host: many drivers send nothing of AF_XDP without one.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage, 77 no privilege.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>

static const char help[] =
    "usage: xdp_send [options] INTERFACE\n"
    "Sends UDP frames by AF_XDP, until Ctrl-C.\n"
    "\n"
    "  -c COUNT   end after so many, over all queues\n"
    "  -s BYTES   of a frame, 50 or more (default: 60). It is addressed to nobody\n"
    "             (02:00:00:00:00:02, 192.0.2.2 port 9), and numbered from byte 42 on\n"
    "  -d MAC     addressed to this instead\n"
    "  -r RATE    so many a second, over all queues\n"
    "  -b BATCH   frames handed over together, 1 to 256 (default: 64)\n"
    "  -q QUEUES  from these queues alone: 0,2-3\n"
    "  -m MODE    auto (default), zerocopy, copy, skb\n"
    "  -w MS      wait so long for the carrier: some drivers reset the link at the start\n"
    "  -h         this text\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 no privilege.\n";

enum { EXIT_USAGE = 2, EXIT_SKIP = 77, MAX_QUEUES = 1024, MAX_BATCH = 256 };
enum { UDP_HEADERS = 42, NUMBER = 8 };

static struct netring_xdp *xdp;
static volatile sig_atomic_t interrupted;
static atomic_bool failed, told_down;
static uint8_t frame[65536];
static uint32_t frame_size = 60;
static uint64_t wanted; /* 0: no end */
static uint64_t batch = 64;
static double rate; /* of each queue; 0: as fast as they leave */
static _Atomic uint64_t next_number;

struct worker {
    struct netring_queue *queue;
    struct netring_queue_info info;
    pthread_t thread;
    uint64_t no_room; /* frames that the kernel took and the device did not */
};

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* From the interface's own address, so that switches learn nothing new, to addresses that nobody
 * has (RFC 5737). */
static void make_udp(const uint8_t *to, const struct netring_interface *from)
{
    static const uint8_t addresses[8] = {192, 0, 2, 1, 192, 0, 2, 2};
    uint32_t sum = 0;

    memcpy(frame, to, 6);
    memcpy(frame + 6, from->address, 6);
    put16(frame + 12, 0x0800);
    frame[14] = 0x45;
    put16(frame + 16, frame_size - 14);
    frame[22] = 64; /* time to live */
    frame[23] = 17; /* UDP */
    memcpy(frame + 26, addresses, sizeof addresses);
    for (int i = 14; i < 34; i += 2)
        sum += (uint32_t)frame[i] << 8 | frame[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    put16(frame + 24, ~(sum + (sum >> 16)));
    put16(frame + 34, 9); /* discard */
    put16(frame + 36, 9);
    put16(frame + 38, frame_size - 34); /* and a checksum of 0: none */
}

/* ---- sending --------------------------------------------------------------------------------- */

/* False: it cannot go on, and has said why. A link that is down is waited for. */
static bool goes_on(struct worker *w, int rc)
{
    const struct timespec while_down = {.tv_nsec = 100000000};
    struct netring_error err;

    if (rc >= 0)
        return true;
    if (rc == NETRING_ENETDOWN) {
        if (!atomic_exchange(&told_down, true))
            fprintf(stderr, "xdp_send: the link is down; waiting for it\n");
        nanosleep(&while_down, NULL);
        return true;
    }
    if (!atomic_exchange(&failed, true)) { /* the others will meet the same */
        netring_queue_last_error(w->queue, &err);
        fprintf(stderr, "xdp_send: queue %u: %s\n", w->info.queue,
                err.code == rc ? err.message : netring_strerror(rc));
    }
    return false;
}

/* How many are due by now; sleeps where none is. */
static size_t due(double begun, uint64_t sent)
{
    if (rate == 0)
        return batch;
    const double ahead = (double)sent - (seconds() - begun) * rate;
    if (ahead >= 0) {
        const double pause = (ahead + 1) / rate > 0.1 ? 0.1 : (ahead + 1) / rate;
        const struct timespec t = {.tv_nsec = (long)(pause * 1e9)};

        nanosleep(&t, NULL);
        return 0;
    }
    return -ahead < (double)batch ? (size_t)-ahead + 1 : batch;
}

/* Numbers for so many frames; how many of them are still wanted. */
static size_t take_numbers(size_t count, uint64_t *first)
{
    *first = atomic_fetch_add(&next_number, count);
    if (wanted == 0 || *first + count <= wanted)
        return count;
    return *first < wanted ? (size_t)(wanted - *first) : 0;
}

static void collect_results(struct worker *w)
{
    struct netring_result results[64];
    int n;

    while ((n = netring_queue_results(w->queue, results, sizeof *results, 64)) > 0)
        w->no_room += (uint64_t)n;
}

static void *send_frames(void *argument)
{
    struct worker *w = argument;
    struct netring_slot slots[MAX_BATCH];
    const double begun = seconds();
    uint64_t sent = 0, number;
    bool more = true;
    int rc;

    while (more && !interrupted && !failed) {
        const size_t want = due(begun, sent);

        if (want == 0)
            continue;
        const int n = netring_queue_reserve(w->queue, slots, sizeof *slots, want, 500);
        if (!goes_on(w, n))
            return NULL;
        if (n <= 0)
            continue;
        const size_t wanted_here = take_numbers((size_t)n, &number);
        more = wanted_here == (size_t)n;
        for (size_t i = 0; i < (size_t)n; i++) {
            slots[i].len = 0; /* given back unused */
            if (i >= wanted_here)
                continue;
            memcpy(slots[i].data, frame, frame_size);
            for (int b = 0; b < NUMBER; b++)
                slots[i].data[UDP_HEADERS + b] = (uint8_t)((number + i) >> (56 - 8 * b));
            slots[i].len = frame_size;
        }
        /* All of them are alike: where one is bad, the first is. */
        rc = netring_queue_commit(w->queue, slots, sizeof *slots, (size_t)n);
        if (!goes_on(w, rc))
            return NULL;
        sent += wanted_here;
        if (!goes_on(w, netring_queue_flush(w->queue)))
            return NULL;
        collect_results(w);
    }

    /* Completions may never come where a link stays down: not for ever. */
    const double end = seconds() + 5;
    do {
        rc = netring_queue_drain(w->queue, 500);
        collect_results(w);
    } while (goes_on(w, rc) && rc != 1 && !interrupted && seconds() < end);
    return NULL;
}

/* ---- the end --------------------------------------------------------------------------------- */

static const char *mode_name(uint32_t mode)
{
    static const char *const names[] = {"auto", "zero-copy", "copy", "SKB"};

    return mode < sizeof names / sizeof *names ? names[mode] : "?";
}

static void tell_the_end(const struct worker *workers, uint32_t count, double took)
{
    uint64_t handed = 0, completed = 0, waiting = 0, no_room = 0;
    struct netring_xdp_counters c;
    struct netring_injector_stats s;

    for (uint32_t i = 0; i < count; i++) {
        if (netring_queue_transmit_stats(workers[i].queue, &s, sizeof s) < 0)
            continue;
        if (count > 1 && s.handed != 0)
            printf("queue %u: %" PRIu64 " frames\n", workers[i].info.queue, s.handed);
        handed += s.handed;
        completed += s.completed;
        waiting += s.waiting;
        no_room += workers[i].no_room;
    }
    printf("%" PRIu64 " frames sent in %.3f s: %.0f packets/s, %.3f Mbit/s\n", handed, took,
           took > 0 ? (double)handed / took : 0,
           took > 0 ? (double)handed * frame_size * 8 / took / 1e6 : 0);
    printf("%" PRIu64 " completed, %" PRIu64 " did not leave, %" PRIu64 " still waiting\n",
           completed, no_room, waiting);
    if (netring_xdp_counters(xdp, &c, sizeof c) == 0)
        printf("the kernel was woken %" PRIu64 " times, and %" PRIu64 " times had no need\n",
               c.tx_kicks, c.kicks_saved);
}

/* ---- the command line ------------------------------------------------------------------------ */

static int fail(const struct netring_error *err)
{
    fprintf(stderr, "xdp_send: %s\n", err->message);
    return err->code == NETRING_EPERM ? EXIT_SKIP : EXIT_FAILURE;
}

static int usage(const char *what, const char *value)
{
    fprintf(stderr, "xdp_send: %s %s; -h tells more\n", what, value);
    return EXIT_USAGE;
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return isdigit((unsigned char)*text) && *end == '\0' && errno == 0 && *out >= min &&
           *out <= max;
}

static bool parse_mac(const char *text, uint8_t *out)
{
    char rest;

    return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &out[0], &out[1], &out[2], &out[3],
                  &out[4], &out[5], &rest) == 6;
}

/* "0,2-3". Returns how many, 0: that is none. */
static size_t parse_queues(const char *text, uint32_t *out)
{
    size_t count = 0;

    for (;;) {
        char *end;
        unsigned long first, last;

        if (!isdigit((unsigned char)*text))
            return 0;
        first = last = strtoul(text, &end, 10);
        if (*end == '-' && isdigit((unsigned char)end[1]))
            last = strtoul(end + 1, &end, 10);
        if (last < first || last - first >= MAX_QUEUES - count)
            return 0;
        for (; first <= last; first++)
            out[count++] = (uint32_t)first;
        if (*end == '\0')
            return count;
        if (*end != ',')
            return 0;
        text = end + 1;
    }
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"auto", "zerocopy", "copy", "skb"}; /* NETRING_MODE_* */
    struct netring_xdp_config config = NETRING_XDP_CONFIG_INIT;
    const struct sigaction action = {.sa_handler = on_signal};
    uint8_t to[6] = {2, 0, 0, 0, 0, 2};
    uint32_t queues[MAX_QUEUES];
    size_t queue_count = 0;
    struct netring_xdp_step steps[8];
    struct netring_xdp_info info;
    struct netring_interface from;
    struct netring_error err;
    uint64_t value;
    int option, n;

    while ((option = getopt(argc, argv, "c:s:d:r:b:q:m:w:h")) != -1) {
        if (option == 'h')
            return fputs(help, stdout) == EOF;
        else if (option == 'c' && !parse_number(optarg, 1, UINT64_MAX / 2, &wanted))
            return usage("no count:", optarg);
        else if (option == 's') {
            if (!parse_number(optarg, UDP_HEADERS + NUMBER, sizeof frame, &value))
                return usage("no size of a frame:", optarg);
            frame_size = (uint32_t)value;
        } else if (option == 'd' && !parse_mac(optarg, to))
            return usage("no MAC address:", optarg);
        else if (option == 'r') {
            if (!parse_number(optarg, 1, 1000000000, &value))
                return usage("no rate:", optarg);
            rate = (double)value;
        } else if (option == 'b' && !parse_number(optarg, 1, MAX_BATCH, &batch))
            return usage("no batch from 1 to 256:", optarg);
        else if (option == 'q' && (queue_count = parse_queues(optarg, queues)) == 0)
            return usage("no queues:", optarg);
        else if (option == 'm') {
            while (config.mode < 4 && strcmp(optarg, modes[config.mode]) != 0)
                config.mode++;
            if (config.mode == 4)
                return usage("no such mode:", optarg);
        } else if (option == 'w') {
            if (!parse_number(optarg, 0, 60000, &value))
                return usage("no milliseconds:", optarg);
            config.carrier_timeout = (uint32_t)value;
        } else if (option == '?')
            return fputs(help, stderr), EXIT_USAGE;
    }
    if (argc - optind != 1)
        return fputs(help, stderr), EXIT_USAGE;

    if (netring_interface_info(argv[optind], &from, sizeof from, &err) < 0)
        return fail(&err);
    config.redirect = NETRING_REDIRECT_NONE; /* all that arrives stays the host's */
    if (netring_xdp_open(argv[optind], queue_count == 0 ? NULL : queues, queue_count, &config, &xdp,
                         &err) < 0)
        return fail(&err);
    netring_xdp_info(xdp, &info, sizeof info);
    fprintf(stderr, "%s: %s, %u of %u queues\n", info.interface, mode_name(info.mode),
            info.queue_count, info.interface_queues);
    n = netring_xdp_steps(xdp, steps, sizeof *steps, sizeof steps / sizeof *steps);
    for (int i = 0; i < n; i++)
        fprintf(stderr, "not %s: %s\n", mode_name(steps[i].mode), steps[i].message);
    if (info.link_type != NETRING_LINKTYPE_ETHERNET) {
        fprintf(stderr, "xdp_send: %s takes no Ethernet frames\n", info.interface);
        return EXIT_FAILURE;
    }
    if (frame_size > info.frame_limit) {
        fprintf(stderr, "xdp_send: a frame of %u bytes; %s takes %u\n", frame_size, info.interface,
                info.frame_limit);
        return EXIT_FAILURE;
    }
    make_udp(to, &from);
    rate /= info.queue_count;

    struct worker *workers = calloc(info.queue_count, sizeof *workers);
    if (workers == NULL)
        return fprintf(stderr, "xdp_send: no memory\n"), EXIT_FAILURE;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    const double begun = seconds();
    uint32_t running = 0;
    for (; running < info.queue_count; running++) {
        struct worker *w = &workers[running];

        netring_xdp_queue(xdp, running, &w->queue);
        netring_queue_info(w->queue, &w->info, sizeof w->info);
        if (pthread_create(&w->thread, NULL, send_frames, w) != 0) {
            fprintf(stderr, "xdp_send: no more threads\n");
            failed = true;
            break;
        }
    }
    for (uint32_t i = 0; i < running; i++)
        pthread_join(workers[i].thread, NULL);
    tell_the_end(workers, running, seconds() - begun);
    netring_xdp_close(xdp);
    free(workers);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
