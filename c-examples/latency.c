/* How long packets take from the kernel to the program, as a histogram for each way to wait:
 *
 *   latency                     on lo, with traffic it makes itself
 *   latency -n 5000 eth0        of 5000 packets each way
 *   latency -m spinning eth0    one way only
 *
 *   blocks    the default: a block is handed over when it is full, or its time is over (here 10 ms)
 *   waiting   immediate mode, the thread sleeps until a packet is there
 *   spinning  immediate mode, the thread asks again and again: the fastest, if it has a CPU to
 *             itself; where it shares one, the others' turns of some ms are what is seen
 *
 * A packet's time is when the kernel copied it into the ring (NETRING_CLOCK_COPY; with `clock` of
 * the configuration NETRING_CLOCK_SOFTWARE it would be when it came in). What is measured is the
 * time from there to where the program has it in its hands.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>

static const char help[] =
    "usage: latency [-m MODE] [-n PACKETS] [INTERFACE]\n"
    "How long packets take from the kernel to this program, as histograms.\n"
    "\n"
    "  -m MODE     one way to wait only (default: one after the other):\n"
    "                blocks    blocks of packets, handed over after 10 ms at most\n"
    "                waiting   immediate mode, asleep until a packet is there\n"
    "                spinning  immediate mode, asking all the time: needs a CPU to itself\n"
    "  -n PACKETS  how many each way (default: 2000)\n"
    "  -h          this text\n"
    "\n"
    "Without an interface: on lo, with traffic of its own. Exit codes: 0 done, 1 failed, 2 wrong\n"
    "usage.\n";

enum mode { BLOCKS, WAITING, SPINNING, MODES };
static const char *const mode_names[MODES] = {"blocks", "waiting", "spinning"};

/* Bucket b: less than 2^b microseconds. */
enum { BUCKETS = 20 };

static struct netring_capture *volatile capture; /* for the signal handler */
static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
    netring_capture_stop(capture); /* safe here; NETRING_EBADF, which nobody sees, without one */
}

/* ---- traffic on lo --------------------------------------------------------------------------- */

static atomic_bool quiet;

static void *make_traffic(void *unused)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    const int sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned seed = 1;

    (void)unused;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (sender >= 0 && !atomic_load(&quiet)) {
        /* About a thousand a second, at no steady beat. */
        const struct timespec gap = {.tv_nsec = 200000 + rand_r(&seed) % 1600000};

        nanosleep(&gap, NULL);
        (void)!sendto(sender, "latency", 7, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
    }
    if (sender >= 0)
        close(sender);
    return NULL;
}

/* ---- measuring --------------------------------------------------------------------------------
 */

static int64_t realtime_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_size(const void *one, const void *other)
{
    const int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;

    return (a > b) - (a < b);
}

/* Fills up to `count` latencies, in nanoseconds. Returns how many, or -1. */
static ssize_t measure(const char *interface, enum mode mode, int64_t *latencies, size_t count)
{
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_error err;
    struct netring_capture *opened;
    struct netring_block *block;
    size_t got = 0;
    int rc;

    if (mode == BLOCKS)
        config.block_timeout = 10;
    else
        netring_capture_config_profile(&config, NETRING_PROFILE_LOW_LATENCY);
    config.block_count = 16;
    config.snap_length = 128;
    if (netring_capture_open(interface, &config, &opened, &err) < 0) {
        fprintf(stderr, "latency: %s: %s\n", err.option, err.message);
        return -1;
    }
    capture = opened;
    if (interrupted) /* before the handler knew it */
        netring_capture_stop(opened);
    for (;;) {
        struct netring_packet packets[64];
        int n;

        rc = netring_capture_next_block(opened, mode == SPINNING ? 0 : 1000, &block);
        if (rc < 0 || got == count)
            break;
        if (rc == 0)
            continue;
        while ((n = netring_block_read(block, packets, sizeof *packets, 64)) > 0) {
            const int64_t now = realtime_ns();

            for (int i = 0; i < n && got < count; i++)
                latencies[got++] = now - (int64_t)packets[i].time_ns;
        }
        netring_block_release(block);
    }
    if (rc == 1)
        netring_block_release(block);
    if (rc < 0 && rc != NETRING_ESHUTDOWN)
        fprintf(stderr, "latency: %s\n", netring_strerror(rc));
    capture = NULL;
    netring_capture_close(opened);
    return rc < 0 && rc != NETRING_ESHUTDOWN ? -1 : (ssize_t)got;
}

static void print_histogram(enum mode mode, int64_t *latencies, size_t count)
{
    size_t buckets[BUCKETS] = {0}, most = 0;
    int first = BUCKETS, last = 0;

    printf("%s: %zu packets", mode_names[mode], count);
    if (count == 0) {
        printf("\n");
        return;
    }
    qsort(latencies, count, sizeof *latencies, by_size);
    printf(", p50 %.1f us, p99 %.1f us, longest %.1f us\n", (double)latencies[count / 2] / 1e3,
           (double)latencies[count - 1 - count / 100] / 1e3, (double)latencies[count - 1] / 1e3);
    for (size_t i = 0; i < count; i++) {
        int b = 0;

        while (b < BUCKETS - 1 && latencies[i] >= (int64_t)1000 << b)
            b++;
        buckets[b]++;
        first = b < first ? b : first;
        last = b > last ? b : last;
        most = buckets[b] > most ? buckets[b] : most;
    }
    printf("  less than packets\n");
    for (int b = first; b <= last; b++)
        printf("%8ld us %7zu %.*s\n", 1l << b, buckets[b], (int)(50 * buckets[b] / most),
               "##################################################");
}

int main(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = on_signal};
    long count = 2000;
    int only = -1, option, rc = 0;
    const char *interface = NULL;
    pthread_t traffic;
    int64_t *latencies;

    while ((option = getopt(argc, argv, "m:n:h")) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (option == 'm') {
            for (only = MODES - 1; only >= 0 && strcmp(optarg, mode_names[only]) != 0;)
                only--;
            if (only < 0)
                option = '?';
        }
        if (option == 'n' && (count = strtol(optarg, NULL, 10)) <= 0)
            option = '?';
        if (option == '?') {
            fputs(help, stderr);
            return 2;
        }
    }
    if (argc - optind > 1) {
        fputs(help, stderr);
        return 2;
    }
    if (optind < argc)
        interface = argv[optind];
    latencies = calloc((size_t)count, sizeof *latencies);
    if (latencies == NULL) {
        fprintf(stderr, "latency: no memory for %ld packets\n", count);
        return 1;
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (interface == NULL && pthread_create(&traffic, NULL, make_traffic, NULL) != 0) {
        fprintf(stderr, "latency: no thread for the traffic\n");
        free(latencies);
        return 1;
    }

    for (int mode = 0; mode < MODES && rc == 0 && !interrupted; mode++) {
        ssize_t got;

        if (only >= 0 && mode != only)
            continue;
        got = measure(interface == NULL ? "lo" : interface, mode, latencies, (size_t)count);
        if (got < 0)
            rc = 1;
        else
            print_histogram(mode, latencies, (size_t)got);
    }

    if (interface == NULL) {
        atomic_store(&quiet, true);
        pthread_join(traffic, NULL);
    }
    free(latencies);
    return rc;
}
