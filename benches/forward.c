/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What a bridge adds to the latency of sparse traffic: single packets, 0.5 to 1.5 ms apart, from
 * just before send, through two veth pairs and what forwards between them, until the kernel
 * receives them at the far end (its timestamp: nobody is woken there); less what one veth pair
 * takes. Held against the forwarder one writes by hand with recv and send: waiting in recv for one
 * direction, or in poll for both. The ways take turns, the order rotated; each forwarder runs twice
 * in every round, which is the control.
 *
 * Makes a network namespace of its own. Exit status: 0, 1 (the control failed, or a bridge's p99 is
 * more than twice the forwarder's), 77 (not allowed to make a namespace).
 */
#include "arrivals.h"

#include <net/ethernet.h>
#include <netring.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#define FROM "near0"
#define A "near1"
#define B "far1"
#define TO "far0"

enum { ROUNDS = 9, PACKETS = 300, WARM = 20, GAP_US = 1000, BLOCKS = 1 };

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* ---- the forwarders ---- */

static atomic_bool ready, ended;

static int packet_socket(const char *name)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)net_index(name),
    };
    struct packet_mreq promiscuous = {
        .mr_ifindex = address.sll_ifindex,
        .mr_type = PACKET_MR_PROMISC,
    };
    struct timeval patience = {.tv_usec = 100000};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        tap_bail("socket: %s", strerror(errno));
    return fd;
}

static void forward(int from, int to, int flags)
{
    uint8_t frame[65536];
    ssize_t got = recv(from, frame, sizeof frame, flags);

    if (got > 0 && send(to, frame, (size_t)got, 0) != got)
        tap_bail("send: %s", strerror(errno));
}

static void by_hand_one(void)
{
    int from = packet_socket(A), to = packet_socket(B);

    ready = true;
    while (!ended)
        forward(from, to, 0);
    close(from);
    close(to);
}

static void by_hand_both(void)
{
    struct pollfd set[] = {{.fd = packet_socket(A), .events = POLLIN},
                           {.fd = packet_socket(B), .events = POLLIN}};

    ready = true;
    while (!ended) {
        poll(set, 2, 100);
        if (set[0].revents & POLLIN)
            forward(set[0].fd, set[1].fd, MSG_DONTWAIT);
        if (set[1].revents & POLLIN)
            forward(set[1].fd, set[0].fd, MSG_DONTWAIT);
    }
    close(set[0].fd);
    close(set[1].fd);
}

static struct netring_bridge *bridge;

static void by_bridge(uint32_t directions)
{
    struct netring_error error;
    int rc;

    if (netring_bridge_open(A, B, NULL, &bridge, &error) < 0)
        tap_bail("%s: %s", error.option, error.message);
    ready = true;
    rc = netring_bridge_run(bridge, directions, NULL, NULL);
    if (rc < 0 && rc != NETRING_ESHUTDOWN)
        tap_bail("netring_bridge_run: %s", netring_strerror(rc));
}

static void bridge_one(void)
{
    by_bridge(NETRING_BRIDGE_A_TO_B);
}

static void bridge_both(void)
{
    by_bridge(NETRING_BRIDGE_BOTH);
}

static const struct way {
    const char *name;
    void (*run)(void); /* NULL: nothing to forward, one veth pair */
    int reference;
    bool control, bridge;
} ways[] = {
    {"a veth pair alone", NULL, 0, false, false},
    {"by hand: recv, send", by_hand_one, 1, false, false},
    {"by hand: recv, send, again", by_hand_one, 1, true, false},
    {"**bridge**, one direction", bridge_one, 1, false, true},
    {"by hand: poll, recv, send", by_hand_both, 4, false, false},
    {"by hand: poll, recv, send, again", by_hand_both, 4, true, false},
    {"**bridge**, both directions", bridge_both, 4, false, true},
};
enum { WAYS = COUNT(ways) };

/* ---- the traffic ---- */

static void *run_way(void *way)
{
    pin(1);
    ((const struct way *)way)->run();
    return NULL;
}

/* Microseconds of each packet, from before send until it is received. */
static size_t latencies(const struct way *way, double us[PACKETS])
{
    struct arrival arrivals[PACKETS + WARM];
    struct arrivals ring;
    uint8_t frame[64];
    pthread_t thread;
    size_t count;
    int sender;

    ready = ended = false;
    if (way->run) {
        if (pthread_create(&thread, NULL, run_way, (void *)(uintptr_t)way) != 0)
            tap_bail("pthread_create");
        while (!ready)
            sleep_us(1000);
        sleep_us(20000); /* until it waits */
    }
    ring = arrivals_open(way->run ? TO : A, BLOCKS);
    sender = net_sender(FROM);
    memset(frame, 2, sizeof frame);
    frame[12] = ETHERTYPE_TEST >> 8;
    frame[13] = ETHERTYPE_TEST & 0xff;
    for (int i = 0; i < PACKETS + WARM; i++) {
        int64_t now;

        sleep_us(GAP_US / 2 + rand() % GAP_US);
        now = clock_ns(CLOCK_REALTIME);
        memcpy(frame + ARRIVALS_VALUE_AT, &now, sizeof now);
        net_send(sender, frame, sizeof frame);
    }
    close(sender);
    count = arrivals_take(&ring, arrivals, PACKETS + WARM);
    if (count != PACKETS + WARM)
        tap_bail("%s: %zu packets of %d", way->name, count, PACKETS + WARM);
    ended = true;
    if (bridge)
        netring_bridge_stop(bridge);
    if (way->run)
        pthread_join(thread, NULL);
    if (bridge)
        netring_bridge_close(bridge);
    bridge = NULL;
    for (size_t i = 0; i < PACKETS; i++)
        us[i] = (double)(arrivals[i + WARM].ns - (int64_t)arrivals[i + WARM].value) / 1e3;
    return PACKETS;
}

int main(void)
{
    static double p50[WAYS][ROUNDS], p99[WAYS][ROUNDS];
    static double ratio50[WAYS][ROUNDS], ratio99[WAYS][ROUNDS];
    bool control = true, kept = true;

    pin(0);
    net_enter();
    net_veth(FROM, A);
    net_veth(TO, B);
    net_await_carrier(FROM);
    net_await_carrier(TO);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < WAYS; i++) {
            size_t way = (i + round) % WAYS;
            double us[PACKETS];
            size_t count = latencies(&ways[way], us);

            p50[way][round] = quantile(us, count, 0.5);
            p99[way][round] = quantile(us, count, 0.99);
        }
        for (size_t way = 1; way < WAYS; way++) {
            p50[way][round] -= p50[0][round];
            p99[way][round] -= p50[0][round];
        }
        for (size_t way = 1; way < WAYS; way++) {
            ratio50[way][round] = p50[way][round] / p50[ways[way].reference][round];
            ratio99[way][round] = p99[way][round] / p99[ways[way].reference][round];
        }
    }

    printf(
        "| added latency | p50 | p99 | p50 / by hand | p99 / by hand |\n|---|---|---|---|---|\n");
    for (size_t way = 0; way < WAYS; way++) {
        double share50 = quantile(ratio50[way], ROUNDS, 0.5);
        double share99 = quantile(ratio99[way], ROUNDS, 0.5);

        printf("| %s | %.1f us | %.1f us |", ways[way].name, quantile(p50[way], ROUNDS, 0.5),
               quantile(p99[way], ROUNDS, 0.5));
        if (way == 0)
            printf(" | |\n");
        else
            printf(" %.2f | %.2f |\n", share50, share99);
        if (ways[way].control && (share50 < 0.95 || share50 > 1.05))
            control = false;
        if (ways[way].bridge && share99 > 2)
            kept = false;
    }
    if (!control)
        printf("\nA forwarder measured twice differs by more than 5 %%: measure again.\n");
    if (!kept)
        printf("\nA bridge's p99 is more than twice the forwarder's.\n");
    return control && kept ? 0 : 1;
}
