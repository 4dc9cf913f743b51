/* Watches an interface: packets, bytes and losses of each second, with the cause of each loss.
 *
 *   stats eth0                  a line a second, until Ctrl-C
 *   stats -i 5 -n 12 eth0       a minute in lines of five seconds
 *
 * Counters are cumulative and reading them resets nothing, so a rate is the difference of two
 * readings: netring_stats_since. One thread takes the blocks (and here does nothing with them but
 * add up lengths); the counters may be read by any other. Here it is the same one, between blocks.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>
#include <netring_inline.h>

static const char help[] =
    "usage: stats [-i SECONDS] [-n LINES] INTERFACE\n"
    "Packets, bytes and losses on an interface, a line a second, until Ctrl-C.\n"
    "\n"
    "  -i SECONDS  time between lines (default: 1)\n"
    "  -n LINES    end after so many\n"
    "  -h          this text\n"
    "\n"
    "Columns, all per second but the last two:\n"
    "  packets    handed to this program        MB         their bytes on the wire\n"
    "  ring full  lost: this program too slow   interface  lost: missed, dropped, overrun there\n"
    "  softnet    lost: the kernel's backlog queues, whole machine\n"
    "  ready      blocks waiting for this program now\n"
    "  worst      most blocks that ever waited\n"
    "\"-\": the kernel does not tell. Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

static struct netring_capture *capture;

static void on_signal(int signal)
{
    (void)signal;
    netring_capture_stop(capture);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void print_rate(uint64_t count, uint64_t interval_ns, bool known)
{
    if (known)
        printf(" %10.0f", (double)count * 1e9 / (double)interval_ns);
    else
        printf(" %10s", "-");
}

/* The line of the time since the last one. */
static void print_line(const struct netring_stats *now, const struct netring_stats *before,
                       uint64_t bytes)
{
    static unsigned lines;
    struct netring_stats s;

    if (netring_stats_since(now, before, &s, sizeof s) < 0 || s.time_ns == 0)
        return;
    if (lines++ % 20 == 0)
        printf("%10s %10s %10s %10s %10s %6s %6s\n", "packets", "MB", "ring full", "interface",
               "softnet", "ready", "worst");
    printf("%10.0f %10.3f", (double)s.delivered * 1e9 / (double)s.time_ns,
           (double)bytes * 1e3 / (double)s.time_ns);
    print_rate(s.dropped, s.time_ns, true);
    print_rate(s.interface_missed + s.interface_dropped + s.interface_fifo, s.time_ns,
               (s.valid & NETRING_STATS_INTERFACE) != 0);
    print_rate(s.softnet_dropped, s.time_ns, (s.valid & NETRING_STATS_SOFTNET) != 0);
    /* Gauges say how it is, not how it changed. */
    printf(" %6" PRIu64 " %6" PRIu64 "\n", now->blocks_ready, now->blocks_ready_max);
    fflush(stdout);
}

static void print_total(const struct netring_stats *s)
{
    printf("in all: %" PRIu64 " seen by the kernel = %" PRIu64 " received + %" PRIu64
           " lost to a full ring\n",
           s->seen, s->received, s->dropped);
    printf("received: %" PRIu64 " delivered, %" PRIu64 " second copies on lo, %" PRIu64
           " filtered late, %" PRIu64 " pending\n",
           s->delivered, s->looped, s->filtered_late, s->pending);
}

static int run(int64_t interval_ms, uint64_t lines)
{
    struct netring_stats before, now;
    struct netring_block *block;
    uint64_t bytes = 0, printed = 0;
    int64_t next_line = now_ms() + interval_ms;
    int rc = netring_capture_stats(capture, &before, sizeof before);

    while (rc >= 0) {
        const int64_t wait = next_line - now_ms();

        rc = netring_capture_next_block(capture, wait > 0 ? (int)wait : 0, &block);
        if (rc > 0) {
            struct netring_cursor cursor;

            netring_cursor_init(&cursor, block);
            while (netring_cursor_next(&cursor))
                bytes += netring_cursor_len(&cursor);
            netring_block_release(block);
        }
        if (rc >= 0 && now_ms() >= next_line) {
            rc = netring_capture_stats(capture, &now, sizeof now);
            if (rc < 0)
                break;
            print_line(&now, &before, bytes);
            before = now;
            bytes = 0;
            next_line = now_ms() + interval_ms; /* also when this one came late */
            if (++printed == lines)
                netring_capture_stop(capture); /* what is in the ring is still counted */
        }
    }
    if (netring_capture_stats(capture, &now, sizeof now) == 0)
        print_total(&now);
    return rc;
}

int main(int argc, char **argv)
{
    struct netring_error err;
    long interval = 1, lines = 0;
    int option, rc;

    while ((option = getopt(argc, argv, "i:n:h")) != -1) {
        switch (option) {
        case 'i':
            interval = strtol(optarg, NULL, 10);
            break;
        case 'n':
            lines = strtol(optarg, NULL, 10);
            break;
        case 'h':
            fputs(help, stdout);
            return EXIT_SUCCESS;
        default:
            interval = 0;
        }
    }
    if (optind != argc - 1 || interval < 1 || interval > 86400 || lines < 0) {
        fputs("usage: stats [-i SECONDS] [-n LINES] INTERFACE (stats -h tells more)\n", stderr);
        return 2;
    }
    if (netring_capture_open(argv[optind], NULL, &capture, &err) < 0) {
        fprintf(stderr, "stats: %s\n", err.message);
        return EXIT_FAILURE;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);

    rc = run(interval * 1000, (uint64_t)lines);
    if (rc != NETRING_ESHUTDOWN) { /* that one is the end after netring_capture_stop */
        netring_capture_last_error(capture, &err);
        fprintf(stderr, "stats: %s\n", err.code == rc ? err.message : netring_strerror(rc));
    }
    netring_capture_close(capture);
    return rc == NETRING_ESHUTDOWN ? EXIT_SUCCESS : EXIT_FAILURE;
}
