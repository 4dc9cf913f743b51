/* A bridge between two interfaces: what comes in on one goes out on the other, but for what a
 * filter drops. A thread for each direction; live counters.
 *
 *   bridge eth1 eth2                          everything, both ways, until Ctrl-C
 *   bridge -d 'udp port 53' eth1 eth2         everything but DNS
 *   bridge -o -d 'not tcp' eth1 eth2          only from eth1 to eth2, and only TCP
 *   bridge -A blue -B red eth0 eth0           between two network namespaces
 *
 * The interfaces should have no addresses (`ip address flush dev eth1`): this machine would answer
 * what is addressed to it as well.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage.
 */
#define _GNU_SOURCE
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
    "usage: bridge [-d FILTER] [-o] [-s SECONDS] [-A NETNS] [-B NETNS] FIRST SECOND\n"
    "Sends what comes in on one interface out on the other, both ways, until Ctrl-C, and prints\n"
    "every second what became of it.\n"
    "\n"
    "  -d FILTER   drop the packets that this expression matches (pcap-filter(7))\n"
    "  -o          one way only: from FIRST to SECOND\n"
    "  -s SECONDS  end after so many\n"
    "  -A NETNS    FIRST is in this network namespace: a name (ip netns) or a path\n"
    "  -B NETNS    SECOND is\n"
    "  -h          this text\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

struct direction {
    uint32_t number; /* NETRING_BRIDGE_A_TO_B or NETRING_BRIDGE_B_TO_A */
    pthread_t thread;
    bool runs;
    struct netring_bridge_stats before;
};

static struct netring_bridge *bridge;
static struct netring_filter *filter; /* NULL: nothing is dropped */
static struct netring_bridge_info info;
static struct direction directions[2] = {{.number = NETRING_BRIDGE_A_TO_B},
                                         {.number = NETRING_BRIDGE_B_TO_A}};
static atomic_int running;
static atomic_bool failed;
static volatile sig_atomic_t ending;

static void on_signal(int signal)
{
    (void)signal;
    ending = 1;
    netring_bridge_stop(bridge); /* async-signal-safe */
}

/* What the filter matches is dropped. */
static int judge(void *user, uint32_t direction, struct netring_packet *packets, uint8_t *verdicts,
                 size_t count, size_t size)
{
    const uint8_t *at = (const uint8_t *)packets;

    (void)user, (void)direction;
    for (size_t i = 0; i < count; i++, at += size)
        if (netring_filter_match(filter, (const struct netring_packet *)at, size) > 0)
            verdicts[i] = NETRING_VERDICT_DROP;
    return 0;
}

static void *carry(void *argument)
{
    struct direction *self = argument;
    const int rc = netring_bridge_run(bridge, self->number, filter ? judge : NULL, NULL);

    if (rc < 0 && rc != NETRING_ESHUTDOWN) {
        struct netring_error err;

        netring_bridge_last_error(bridge, &err);
        /* Both directions end when an interface is removed: once is enough. */
        if (!atomic_exchange(&failed, true))
            fprintf(stderr, "bridge: %s\n", err.message);
        netring_bridge_stop(bridge);
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void print_direction(struct direction *self, bool totals)
{
    const bool forth = self->number == NETRING_BRIDGE_A_TO_B;
    struct netring_bridge_stats stats;
    double seconds;

    if (netring_bridge_stats(bridge, self->number, &stats, sizeof stats) < 0)
        return;
    seconds = (double)(stats.time_ns - self->before.time_ns) / 1e9;
    printf("%s -> %s: ", forth ? info.interface_a : info.interface_b,
           forth ? info.interface_b : info.interface_a);
    if (totals)
        printf("%" PRIu64 " received, %" PRIu64 " forwarded (%" PRIu64 " bytes)", stats.received,
               stats.forwarded, stats.forwarded_bytes);
    else
        printf("%.0f packets/s, %.3f Mbit/s, %" PRIu64 " forwarded",
               (double)(stats.forwarded - self->before.forwarded) / seconds,
               (double)(stats.forwarded_bytes - self->before.forwarded_bytes) * 8 / seconds / 1e6,
               stats.forwarded);
    printf(", %" PRIu64 " by filter, %" PRIu64 " too large, %" PRIu64 " ring full, %" PRIu64
           " link down, %" PRIu64 " refused, %" PRIu64 " kernel drops\n",
           stats.dropped, stats.too_large, stats.ring_full, stats.link_down, stats.refused,
           stats.kernel_dropped + stats.unreadable);
    self->before = stats;
}

static void print_all(int count, bool totals)
{
    for (int i = 0; i < count; i++)
        print_direction(&directions[i], totals);
    fflush(stdout);
}

static void fail(const char *what, const struct netring_error *err)
{
    fprintf(stderr, "bridge: %s%s\n", what, err->message);
    exit(EXIT_FAILURE);
}

static int open_namespace(const char *name)
{
    struct netring_error err;
    int fd = netring_netns_open(name, &err);

    if (fd < 0)
        fail("", &err);
    return fd;
}

int main(int argc, char **argv)
{
    struct netring_bridge_config config = NETRING_BRIDGE_CONFIG_INIT;
    struct netring_filter_config filter_config = NETRING_FILTER_CONFIG_INIT;
    const char *drop = NULL;
    struct netring_error err;
    double seconds = 0, over, next;
    int count = 2, option;
    char *end;

    while ((option = getopt(argc, argv, "d:os:A:B:h")) != -1) {
        switch (option) {
        case 'd':
            drop = optarg;
            break;
        case 'o':
            count = 1;
            break;
        case 's':
            seconds = strtod(optarg, &end);
            if (end == optarg || *end != '\0' || !(seconds > 0))
                argc = 0;
            break;
        case 'A':
            config.flags |= NETRING_BRIDGE_NETNS_FD_A;
            config.netns_fd_a = open_namespace(optarg);
            break;
        case 'B':
            config.flags |= NETRING_BRIDGE_NETNS_FD_B;
            config.netns_fd_b = open_namespace(optarg);
            break;
        case 'h':
            fputs(help, stdout);
            return EXIT_SUCCESS;
        default:
            argc = 0;
        }
    }
    if (argc - optind != 2) {
        fputs(help, stderr);
        return 2;
    }
    /* What the expression has no meaning for is not dropped. */
    filter_config.flags = NETRING_FILTER_REJECT_OTHERS;
    if (drop && netring_filter_compile(drop, strlen(drop), &filter_config, &filter, &err) < 0)
        fail("-d: ", &err);
    if (netring_bridge_open(argv[optind], argv[optind + 1], &config, &bridge, &err) < 0)
        fail("", &err);
    netring_bridge_info(bridge, &info, sizeof info);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);

    atomic_store(&running, count);
    for (int i = 0; i < count; i++) {
        netring_bridge_stats(bridge, directions[i].number, &directions[i].before,
                             sizeof directions[i].before);
        directions[i].runs =
            pthread_create(&directions[i].thread, NULL, carry, &directions[i]) == 0;
        if (!directions[i].runs) {
            fprintf(stderr, "bridge: no thread for a direction\n");
            atomic_store(&failed, true);
            atomic_fetch_sub(&running, 1);
            netring_bridge_stop(bridge);
        }
    }
    printf("%s (index %" PRIu32 ") and %s (index %" PRIu32 ") are bridged%s\n", info.interface_a,
           info.ifindex_a, info.interface_b, info.ifindex_b, count == 1 ? ", one way" : "");
    fflush(stdout);

    over = seconds > 0 ? now() + seconds : 0;
    next = now() + 1;
    while (!ending && atomic_load(&running) > 0 && !(over > 0 && now() >= over)) {
        usleep(20000);
        if (now() >= next) {
            print_all(count, false);
            next += 1;
        }
    }
    netring_bridge_stop(bridge);
    for (int i = 0; i < count; i++)
        if (directions[i].runs)
            pthread_join(directions[i].thread, NULL);
    print_all(count, true);
    netring_bridge_close(bridge);
    netring_filter_free(filter);
    for (int i = 0; i < 2; i++) {
        const int fd = i ? config.netns_fd_b : config.netns_fd_a;

        if (fd > 0)
            close(fd);
    }
    return atomic_load(&failed) ? EXIT_FAILURE : EXIT_SUCCESS;
}
