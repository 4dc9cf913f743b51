/* Several threads share an interface's packets: a fanout group, a thread and a ring for each CPU.
 *
 *   fanout eth0                 a thread on every CPU, by flow, until Ctrl-C
 *   fanout -t 4 -m cpu eth0     four of them, by the CPU that received the packet
 *   fanout -s 5                 on lo with traffic of its own, for five seconds
 *
 * Every second it prints what each thread has received in it, and all together. Each thread joins
 * the group itself, pinned to its CPU, so that its ring is on that CPU's memory node; none gets a
 * packet before all have joined. There is no queue and no lock between them.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
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
#include <netring_inline.h>

static const char help[] =
    "usage: fanout [-t THREADS] [-m MODE] [-s SECONDS] [INTERFACE]\n"
    "Receives an interface's packets on several threads, and prints rates every second, until\n"
    "Ctrl-C. Without an interface: on lo, with traffic of its own.\n"
    "\n"
    "  -t THREADS  how many (default: one for each CPU, at most 64)\n"
    "  -m MODE     who gets a packet: hash (by flow, default), lb (in turn), cpu, rnd, qm (by\n"
    "              the device's queue), rollover (the first with room)\n"
    "  -s SECONDS  end after so many\n"
    "  -h          this text\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

enum { MOST = 64 };

static const char *const modes[] = {"hash", "lb", "cpu", "rollover", "rnd", "qm"};

struct member {
    pthread_t thread;
    int cpu;
    _Atomic(struct netring_capture *) capture; /* NULL until it has joined */
    atomic_bool over;                          /* its thread has ended */
    atomic_uint_fast64_t packets, bytes;
    uint64_t packets_before, bytes_before;
    struct netring_error err;
};

static struct netring_group *group;
static const char *interface = "lo";
static bool own_traffic;
static struct member members[MOST];
static long count;
static volatile sig_atomic_t ending;
static atomic_int failed;

static void on_signal(int signal)
{
    (void)signal;
    ending = 1;
}

static void *receive(void *argument)
{
    struct member *self = argument;
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_capture *capture;
    struct netring_block *block;
    int rc;

    config.cpu = self->cpu;
    config.block_count = 16; /* 16 MiB for each thread */
    if (own_traffic)
        config.flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
    if (netring_group_join(group, interface, &config, &capture, &self->err) < 0) {
        atomic_store(&self->over, true);
        atomic_fetch_add(&failed, 1);
        return NULL;
    }
    atomic_store(&self->capture, capture);
    while ((rc = netring_capture_next_block(capture, -1, &block)) >= 0) {
        struct netring_cursor cursor;
        uint64_t packets = 0, bytes = 0;

        if (rc == 0)
            continue;
        netring_cursor_init(&cursor, block);
        while (netring_cursor_next(&cursor)) {
            packets++;
            bytes += netring_cursor_len(&cursor);
        }
        netring_block_release(block);
        atomic_fetch_add_explicit(&self->packets, packets, memory_order_relaxed);
        atomic_fetch_add_explicit(&self->bytes, bytes, memory_order_relaxed);
    }
    if (rc != NETRING_ESHUTDOWN) { /* that one is the end after netring_capture_stop */
        netring_capture_last_error(capture, &self->err);
        atomic_fetch_add(&failed, 1);
    }
    return NULL;
}

/* Datagrams of 64 flows over lo, some thousand a second. */
static void *send_over_lo(void *unused)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char text[64] = "fanout";

    (void)unused;
    for (unsigned n = 0; !ending; n++) {
        /* Somebody may answer with ICMP, which is traffic too. */
        to.sin_port = htons((uint16_t)(40000 + n % 64));
        (void)!sendto(from, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
        if (n % 64 == 63)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    close(from);
    return NULL;
}

/* What came since the last call, of each and of all. */
static void print_rates(double seconds)
{
    double all = 0, all_bits = 0;

    for (long i = 0; i < count; i++) {
        struct member *m = &members[i];
        const uint64_t packets = atomic_load(&m->packets), bytes = atomic_load(&m->bytes);
        const double rate = (double)(packets - m->packets_before) / seconds;
        const double bits = (double)(bytes - m->bytes_before) * 8 / seconds;

        printf("%s%ld: %.0f", i ? "  " : "packets/s  ", i, rate);
        m->packets_before = packets;
        m->bytes_before = bytes;
        all += rate;
        all_bits += bits;
    }
    printf("  together: %.0f, %.3f Mbit/s\n", all, all_bits / 1e6);
    fflush(stdout);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void print_end(void)
{
    struct netring_group_stats rolled;
    uint64_t received = 0, dropped = 0;

    for (long i = 0; i < count; i++) {
        struct netring_capture *capture = atomic_load(&members[i].capture);
        struct netring_stats stats;

        if (!capture || netring_capture_stats(capture, &stats, sizeof stats) < 0)
            continue;
        printf("thread %ld, CPU %d: %" PRIu64 " packets, %" PRIu64 " dropped (ring full)\n", i,
               members[i].cpu, stats.received, stats.dropped);
        received += stats.received;
        dropped += stats.dropped;
    }
    printf("together: %" PRIu64 " packets, %" PRIu64 " dropped\n", received, dropped);
    if (netring_group_stats(group, NULL, &rolled, sizeof rolled) == 0 &&
        rolled.valid & NETRING_GROUP_STATS_ROLLOVER)
        printf("rolled over: %" PRIu64 ", no room anywhere: %" PRIu64 "\n", rolled.rollover,
               rolled.rollover_failed);
}

/* The CPUs this program may run on, one for each thread and again from the first. */
static void choose_cpus(void)
{
    cpu_set_t allowed;
    int cpu = -1;

    sched_getaffinity(0, sizeof allowed, &allowed);
    if (count == 0)
        count = CPU_COUNT(&allowed) < MOST ? CPU_COUNT(&allowed) : MOST;
    for (long i = 0; i < count; i++) {
        do
            cpu = (cpu + 1) % CPU_SETSIZE;
        while (!CPU_ISSET(cpu, &allowed));
        members[i].cpu = cpu;
    }
}

int main(int argc, char **argv)
{
    struct netring_group_config config = NETRING_GROUP_CONFIG_INIT;
    struct netring_group_info info;
    struct netring_error err;
    pthread_t sender;
    double seconds = 0, begin, last;
    char *end;
    long mode = 0, started = 0;
    int option;

    while ((option = getopt(argc, argv, "t:m:s:h")) != -1) {
        switch (option) {
        case 't':
            count = strtol(optarg, NULL, 10);
            if (count < 1)
                count = MOST + 1;
            break;
        case 'm':
            for (mode = 0; mode < 6 && strcmp(optarg, modes[mode]) != 0; mode++)
                ;
            break;
        case 's':
            seconds = strtod(optarg, &end);
            if (end == optarg || *end != '\0')
                seconds = -1;
            break;
        case 'h':
            fputs(help, stdout);
            return EXIT_SUCCESS;
        default:
            mode = 6;
        }
    }
    if (argc - optind > 1 || count > MOST || mode == 6 || seconds < 0) {
        fputs(help, stderr);
        return 2;
    }
    own_traffic = optind == argc;
    if (!own_traffic)
        interface = argv[optind];
    choose_cpus();
    config.mode = (uint32_t)mode; /* the names stand in the order of NETRING_FANOUT_* */
    config.members = (uint32_t)count;
    if (netring_group_new(&config, &group, &err) < 0) {
        fprintf(stderr, "fanout: %s\n", err.message);
        return EXIT_FAILURE;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);

    while (started < count &&
           pthread_create(&members[started].thread, NULL, receive, &members[started]) == 0)
        started++;
    if (started < count) {
        fprintf(stderr, "fanout: only %ld threads could be started\n", started);
        atomic_fetch_add(&failed, 1);
    }
    do {
        usleep(1000);
        netring_group_info(group, &info, sizeof info);
    } while (!ending && atomic_load(&failed) == 0 && !(info.state & NETRING_GROUP_DELIVERING));
    if (info.state & NETRING_GROUP_DELIVERING)
        printf("%s: fanout group %" PRIu32 " of %ld threads, mode %s\n", interface, info.id, count,
               modes[mode]);
    own_traffic = own_traffic && pthread_create(&sender, NULL, send_over_lo, NULL) == 0;

    begin = last = now();
    while (!ending && atomic_load(&failed) == 0) {
        double next = last + 1, over = begin + seconds;

        if (seconds > 0 && next > over)
            next = over;
        while (!ending && now() < next)
            usleep(20000);
        print_rates(now() - last);
        last = now();
        if (seconds > 0 && last >= over)
            break;
    }
    ending = 1;
    if (own_traffic)
        pthread_join(sender, NULL);
    for (long i = 0; i < started; i++) {
        /* One that joins meanwhile is waited for: then it can be stopped. */
        while (!atomic_load(&members[i].capture) && !atomic_load(&members[i].over))
            usleep(1000);
        netring_capture_stop(atomic_load(&members[i].capture));
        pthread_join(members[i].thread, NULL);
    }
    print_end();
    for (long i = 0; i < started; i++) {
        if (members[i].err.code != 0)
            fprintf(stderr, "fanout: thread %ld: %s\n", i, members[i].err.message);
        netring_capture_close(atomic_load(&members[i].capture));
    }
    netring_group_free(group);
    return atomic_load(&failed) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
