/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * How long a single packet takes to the program, from just before send to the reader's having it:
 * the immediate mode against what a careful programmer writes by hand (a TPACKET_V2 ring, recv),
 * both waiting and spinning, and against blocks with a timer of 1 ms. In one process, in turn, the
 * order rotated; the reference is measured twice (its control), and what counts is the median of
 * the ratios of each round.
 *
 * Makes a network namespace of its own with a veth pair; a child sends from the other CPU. Exit
 * status: 0, 1 (the control failed), 77 (not allowed to make a namespace).
 */
#include "common.h"

#include <errno.h>
#include <net/ethernet.h>
#include <netring.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_PCAP
#include <pcap/pcap.h>
#endif

#include "../tests/c/net.h"

#define IN "bench0"
#define OUT "bench1"

enum { ROUNDS = 15, SINGLES = 400, WARM = 20, GAP_US = 500 };
enum { FRAME = 2048, FRAMES = 512 };

/* ---- the sender ---- */

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Packets that carry the time at which they were sent, until it is killed. The gaps vary, so that
 * they do not march in step with anything. */
static pid_t sender_start(void)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child < 0)
        tap_bail("fork: %s", strerror(errno));
    if (child == 0) {
        uint8_t frame[60];
        int sender;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(0);
        sender = net_sender(OUT);
        memset(frame, 0xff, sizeof frame);
        frame[12] = ETHERTYPE_TEST >> 8;
        frame[13] = ETHERTYPE_TEST & 0xff;
        for (;;) {
            int64_t now;

            sleep_us(GAP_US / 2 + rand() % GAP_US);
            now = clock_ns(CLOCK_MONOTONIC);
            memcpy(frame + 14, &now, sizeof now);
            net_send(sender, frame, sizeof frame);
        }
    }
    return child;
}

/* ---- the readers ---- */

struct latencies {
    double us[SINGLES];
    size_t count, seen;
};

/* Takes a packet that the program has now; the first ones only warm it up. */
static void take(struct latencies *latencies, const uint8_t *data)
{
    int64_t now = clock_ns(CLOCK_MONOTONIC), sent;

    memcpy(&sent, data + 14, sizeof sent);
    if (latencies->seen++ >= WARM && latencies->count < SINGLES)
        latencies->us[latencies->count++] = (double)(now - sent) / 1e3;
}

static int packet_socket(void)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)net_index(IN),
    };
    int fd = socket(AF_PACKET, SOCK_RAW, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        tap_bail("socket: %s", strerror(errno));
    return fd;
}

static void by_hand_ring(struct latencies *latencies, bool spin)
{
    struct tpacket_req request = {
        .tp_block_size = FRAME * FRAMES,
        .tp_block_nr = 1,
        .tp_frame_size = FRAME,
        .tp_frame_nr = FRAMES,
    };
    int fd = socket(AF_PACKET, SOCK_RAW, 0), version = TPACKET_V2;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)net_index(IN),
    };
    struct pollfd set = {.fd = fd, .events = POLLIN};
    uint8_t *ring;

    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0)
        tap_bail("ring: %s", strerror(errno));
    ring = mmap(NULL, (size_t)FRAME * FRAMES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring == MAP_FAILED || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        tap_bail("ring: %s", strerror(errno));
    for (uint32_t at = 0; latencies->count < SINGLES; at = (at + 1) % FRAMES) {
        struct tpacket2_hdr *frame = (void *)(ring + (size_t)at * FRAME);

        while ((__atomic_load_n(&frame->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) == 0)
            if (!spin)
                poll(&set, 1, -1);
        take(latencies, (const uint8_t *)frame + frame->tp_mac);
        __atomic_store_n(&frame->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
    munmap(ring, (size_t)FRAME * FRAMES);
    close(fd);
}

static void by_hand_wait(struct latencies *latencies)
{
    by_hand_ring(latencies, false);
}

static void by_hand_spin(struct latencies *latencies)
{
    by_hand_ring(latencies, true);
}

static void by_recv(struct latencies *latencies, bool spin)
{
    int fd = packet_socket();
    uint8_t frame[FRAME];

    while (latencies->count < SINGLES)
        if (recv(fd, frame, sizeof frame, spin ? MSG_DONTWAIT : 0) > 0)
            take(latencies, frame);
    close(fd);
}

static void recv_wait(struct latencies *latencies)
{
    by_recv(latencies, false);
}

static void recv_spin(struct latencies *latencies)
{
    by_recv(latencies, true);
}

static void by_library(struct latencies *latencies, bool immediate, int timeout_ms)
{
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_capture *capture;
    struct netring_block *block;
    struct netring_error error;

    config.block_count = 4;
    config.block_timeout = 1;
    if (immediate)
        config.flags |= NETRING_CAPTURE_IMMEDIATE;
    if (netring_capture_open(IN, &config, &capture, &error) < 0)
        tap_bail("%s: %s", error.option, error.message);
    while (latencies->count < SINGLES) {
        struct netring_packet packets[64];
        int count;

        if (netring_capture_next_block(capture, timeout_ms, &block) <= 0)
            continue;
        while ((count = netring_block_read(block, packets, sizeof *packets, 64)) > 0)
            for (int i = 0; i < count; i++)
                take(latencies, packets[i].data);
        netring_block_release(block);
    }
    netring_capture_close(capture);
}

static void library_wait(struct latencies *latencies)
{
    by_library(latencies, true, -1);
}

static void library_spin(struct latencies *latencies)
{
    by_library(latencies, true, 0);
}

static void library_blocks(struct latencies *latencies)
{
    by_library(latencies, false, -1);
}

#ifdef HAVE_PCAP
static void pcap_wait(struct latencies *latencies)
{
    char why[PCAP_ERRBUF_SIZE];
    pcap_t *pcap = pcap_create(IN, why);
    struct pcap_pkthdr *header;
    const u_char *data;

    if (pcap == NULL)
        tap_bail("pcap_create: %s", why);
    pcap_set_immediate_mode(pcap, 1);
    pcap_set_snaplen(pcap, FRAME);
    pcap_set_buffer_size(pcap, FRAME * FRAMES);
    if (pcap_activate(pcap) < 0)
        tap_bail("pcap_activate: %s", pcap_geterr(pcap));
    while (latencies->count < SINGLES)
        if (pcap_next_ex(pcap, &header, &data) == 1)
            take(latencies, data);
    pcap_close(pcap);
}
#endif

static const struct way {
    const char *name;
    void (*read)(struct latencies *latencies);
    int reference; /* which of them it is held against */
} ways[] = {
    {"by hand, poll", by_hand_wait, 0},
    {"by hand, poll, again", by_hand_wait, 0},
    {"**immediate, waiting**", library_wait, 0},
    {"recv", recv_wait, 0},
#ifdef HAVE_PCAP
    {"libpcap, immediate mode", pcap_wait, 0},
#endif
    {"blocks, timer of 1 ms", library_blocks, 0},
    {"by hand, spinning", by_hand_spin, -1},
    {"by hand, spinning, again", by_hand_spin, -1},
    {"**immediate, spinning**", library_spin, -1},
    {"recv, spinning", recv_spin, -1},
};

int main(void)
{
    static double p50[COUNT(ways)][ROUNDS], p99[COUNT(ways)][ROUNDS], ratio[COUNT(ways)][ROUNDS];
    size_t spinning = 0;
    bool control = true;
    pid_t sender;

    net_enter();
    net_veth(IN, OUT);
    sender = sender_start();
    pin(1);
    while (ways[spinning].reference >= 0)
        spinning++;
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < COUNT(ways); i++) {
            size_t way = (i + round) % COUNT(ways);
            struct latencies latencies = {.count = 0};

            ways[way].read(&latencies);
            p50[way][round] = quantile(latencies.us, latencies.count, 0.5);
            p99[way][round] = quantile(latencies.us, latencies.count, 0.99);
        }
        for (size_t way = 0; way < COUNT(ways); way++)
            ratio[way][round] =
                p50[way][round] / p50[ways[way].reference < 0 ? spinning : 0][round];
    }
    kill(sender, SIGKILL);
    waitpid(sender, NULL, 0);

    printf("| one packet, to the program | p50 | p99 | p50 / by hand |\n|---|---|---|---|\n");
    for (size_t way = 0; way < COUNT(ways); way++) {
        double share = quantile(ratio[way], ROUNDS, 0.5);

        printf("| %s | %.1f us | %.1f us | %.2f |\n", ways[way].name,
               quantile(p50[way], ROUNDS, 0.5), quantile(p99[way], ROUNDS, 0.5), share);
        if ((way == 1 || way == spinning + 1) && (share < 0.95 || share > 1.05))
            control = false;
    }
    if (!control)
        printf("\nThe reference measured twice differs by more than 5 %%: measure again.\n");
    return control ? 0 : 1;
}
