/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What it costs to take packets out of a filled ring. Each way of reading opens a ring of its own
 * on one end of a veth pair, is sent packets through the other, and is timed while it takes them
 * out: CPU time of the thread, nothing else in it. The ways take turns, in another order every
 * round, one ring at a time; what counts is the median over the rounds of each one's time by that
 * of the hand-written loop in the same round. That loop runs twice in every round: unless it is as
 * fast as itself, the machine was too busy, and the table says so.
 *
 * Makes a network namespace of its own. Exit status: 0, 1 (a control failed three times), 77 (not
 * allowed to make one).
 */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <netring.h>
#include <netring_inline.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef HAVE_PCAP
#include <pcap.h>
#endif

#include "../tests/c/net.h"

#define IN "bench0"
#define OUT "bench1"

enum { BLOCK = 1 << 20, BLOCKS = 48, TIMEOUT_MS = 30, BATCH = 64 };
enum { MOST_ROUNDS = 50, TRIES = 3 };

struct workload {
    const char *name;
    size_t length, bytes; /* of a packet; of those, read */
    size_t packets;
};

static struct workload workload; /* the one at hand */
static uint64_t seen, sum;       /* what a walk found */
static double fill_ns; /* what sending and receiving a packet cost the kernel, last time */
static int rounds_wanted = 13;

static void must(bool done, const char *what)
{
    if (!done)
        tap_bail("%s: %s", what, strerror(errno));
}

static void must_netring(int rc, const char *what)
{
    if (rc < 0)
        tap_bail("%s: %s", what, netring_strerror(rc));
}

/* ---- the floor: a loop written by hand over a ring of one's own ---- */

struct raw {
    int fd;
    uint8_t *ring;
};

static struct raw raw;

static void raw_open(void)
{
    struct tpacket_req3 request = {
        .tp_block_size = BLOCK,
        .tp_block_nr = BLOCKS,
        .tp_frame_size = 2048,
        .tp_frame_nr = BLOCK / 2048 * BLOCKS,
        .tp_retire_blk_tov = TIMEOUT_MS,
        .tp_feature_req_word = TP_FT_REQ_FILL_RXHASH,
    };
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)net_index(IN),
    };
    int version = TPACKET_V3;

    raw.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    must(raw.fd >= 0, "socket");
    must(setsockopt(raw.fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0 &&
             setsockopt(raw.fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0,
         "PACKET_RX_RING");
    raw.ring = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, raw.fd, 0);
    must(raw.ring != MAP_FAILED, "mmap");
    must(bind(raw.fd, (struct sockaddr *)&address, sizeof address) == 0, "bind");
}

static void raw_walk(void)
{
    for (int i = 0; seen < workload.packets && i < BLOCKS; i++) {
        uint8_t *block = raw.ring + (size_t)i * BLOCK;
        uint32_t *status = &((struct tpacket_block_desc *)(void *)block)->hdr.bh1.block_status;

        if ((__atomic_load_n(status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) == 0)
            break;
        sum += walk_by_hand(block, BLOCK, workload.bytes, &seen);
        __atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
}

static void raw_close(void)
{
    munmap(raw.ring, (size_t)BLOCK * BLOCKS);
    close(raw.fd);
}

/* ---- the library ---- */

static struct netring_capture *capture;

static void netring_open(void)
{
    struct netring_capture_config config;
    struct netring_error error;

    netring_capture_config_init(&config, sizeof config);
    config.block_size = BLOCK;
    config.block_count = BLOCKS;
    config.block_timeout = TIMEOUT_MS;
    config.flags |= NETRING_CAPTURE_EXACT;
    if (netring_capture_open(IN, &config, &capture, &error) < 0)
        tap_bail("%s: %s", error.option, error.message);
}

static void netring_close(void)
{
    must_netring(netring_capture_close(capture), "close");
}

static void inline_walk(void)
{
    struct netring_block *block;

    while (seen < workload.packets && netring_capture_next_block(capture, 0, &block) > 0) {
        struct netring_cursor cursor;

        netring_cursor_init(&cursor, block);
        while (netring_cursor_next(&cursor)) {
            sum += consume(netring_cursor_data(&cursor), netring_cursor_caplen(&cursor),
                           workload.bytes);
            seen++;
        }
        netring_block_release(block);
    }
}

static void read_batches(void)
{
    struct netring_packet packets[BATCH];
    struct netring_block *block;
    int count;

    while (seen < workload.packets && netring_capture_next_block(capture, 0, &block) > 0) {
        while ((count = netring_block_read(block, packets, sizeof *packets, BATCH)) > 0) {
            for (int i = 0; i < count; i++)
                sum += consume(packets[i].data, packets[i].caplen, workload.bytes);
            seen += (unsigned)count;
        }
        netring_block_release(block);
    }
}

static void next_packet(void)
{
    struct netring_packet packet;

    while (seen < workload.packets &&
           netring_capture_next_packet(capture, 0, &packet, sizeof packet) > 0) {
        sum += consume(packet.data, packet.caplen, workload.bytes);
        seen++;
    }
}

static int take(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    (void)user;
    (void)size;
    for (size_t i = 0; i < count; i++)
        sum += consume(packets[i].data, packets[i].caplen, workload.bytes);
    seen += count;
    return 0;
}

static void dispatch(void)
{
    while (seen < workload.packets && netring_capture_dispatch(capture, 0, 0, take, NULL) > 0)
        ;
}

/* ---- libpcap ---- */

#ifdef HAVE_PCAP
static pcap_t *pcap;

static void pcap_begin(void)
{
    char error[PCAP_ERRBUF_SIZE];

    pcap = pcap_create(IN, error);
    if (pcap == NULL)
        tap_bail("pcap_create: %s", error);
    if (pcap_set_buffer_size(pcap, BLOCK * BLOCKS) != 0 ||
        pcap_set_timeout(pcap, TIMEOUT_MS) != 0 || pcap_activate(pcap) < 0)
        tap_bail("pcap_activate: %s", pcap_geterr(pcap));
}

static void pcap_end(void)
{
    pcap_close(pcap);
}

static void pcap_take(u_char *user, const struct pcap_pkthdr *header, const u_char *data)
{
    (void)user;
    sum += consume(data, header->caplen, workload.bytes);
    seen++;
}

static void pcap_by_dispatch(void)
{
    while (seen < workload.packets && pcap_dispatch(pcap, -1, pcap_take, NULL) > 0)
        ;
}

static void pcap_by_packet(void)
{
    struct pcap_pkthdr *header;
    const u_char *data;

    while (seen < workload.packets && pcap_next_ex(pcap, &header, &data) > 0) {
        sum += consume(data, header->caplen, workload.bytes);
        seen++;
    }
}
#endif

/* ---- rounds ---- */

static const struct way {
    const char *name;
    void (*open)(void), (*walk)(void), (*close)(void);
} ways[] = {
    {"hand-written C loop", raw_open, raw_walk, raw_close},
    {"inline walk", netring_open, inline_walk, netring_close},
    {"`netring_block_read`, 64", netring_open, read_batches, netring_close},
#ifdef HAVE_PCAP
    {"libpcap `pcap_dispatch`", pcap_begin, pcap_by_dispatch, pcap_end},
#endif
    {"the hand-written loop again (control)", raw_open, raw_walk, raw_close},
    {"`netring_capture_dispatch`", netring_open, dispatch, netring_close},
    {"`netring_capture_next_packet`", netring_open, next_packet, netring_close},
#ifdef HAVE_PCAP
    {"libpcap `pcap_next_ex`", pcap_begin, pcap_by_packet, pcap_end},
#endif
};
enum { WAYS = COUNT(ways), FLOOR = 0 };
#ifdef HAVE_PCAP
enum { CONTROL = 4 };
#else
enum { CONTROL = 3 };
#endif

struct results {
    double ratio[WAYS]; /* by the floor: median and quartiles */
    double low[WAYS], high[WAYS];
    double floor_ns, fill_ns; /* a packet */
    bool good;
};

/* One ring, filled and drained: nanoseconds a packet; negative where not all packets came. */
static double drain(const struct way *way, int sender)
{
    static uint64_t expected_sum;
    uint8_t frame[1514];
    int64_t before, after;

    memset(frame, 0x5a, sizeof frame);
    memset(frame, 0xff, 12);
    frame[12] = ETHERTYPE_TEST >> 8;
    frame[13] = ETHERTYPE_TEST & 0xff;
    way->open();
    before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    if (net_flood(sender, frame, workload.length, workload.packets) != workload.packets)
        tap_bail("veth refused packets");
    fill_ns = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - before) / (double)workload.packets;
    sleep_us(2200 * TIMEOUT_MS); /* until the kernel has closed the last block */
    seen = sum = 0;
    before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    way->walk();
    after = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    way->close();
    if (seen != workload.packets)
        return -1;
    expected_sum = seen * consume(frame, (uint32_t)workload.length, workload.bytes);
    if (sum != expected_sum)
        tap_bail("%s: other bytes than were sent", way->name);
    return (double)(after - before) / (double)seen;
}

/* An order for a round. Not a rotation: each way would always follow the same other one, and get
 * the pages that one gave back. */
static void shuffle(int order[WAYS])
{
    for (int i = 0; i < WAYS; i++) {
        int at = rand() % (i + 1);

        order[i] = order[at];
        order[at] = i;
    }
}

static struct results measure(int sender)
{
    static double ratios[WAYS][MOST_ROUNDS];
    double floors[MOST_ROUNDS], fills[MOST_ROUNDS];
    struct results results = {.good = true};
    size_t rounds = 0;

    /* Round 0 warms up; a round in which packets were lost is thrown away as well. */
    for (int turn = 0; turn <= rounds_wanted; turn++) {
        double ns[WAYS];
        bool complete = true;
        int order[WAYS];

        shuffle(order);
        for (int i = 0; i < WAYS; i++) {
            ns[order[i]] = drain(&ways[order[i]], sender);
            complete = complete && ns[order[i]] > 0;
        }
        if (turn == 0 || !complete)
            continue;
        for (int way = 0; way < WAYS; way++)
            ratios[way][rounds] = ns[way] / ns[FLOOR];
        fills[rounds] = fill_ns;
        floors[rounds++] = ns[FLOOR];
    }
    for (int way = 0; way < WAYS; way++) {
        results.low[way] = quantile(ratios[way], rounds, 0.25);
        results.ratio[way] = quantile(ratios[way], rounds, 0.5);
        results.high[way] = quantile(ratios[way], rounds, 0.75);
    }
    results.floor_ns = quantile(floors, rounds, 0.5);
    results.fill_ns = quantile(fills, rounds, 0.5);
    results.good = rounds + 2 >= (size_t)rounds_wanted && results.ratio[CONTROL] > 0.95 &&
                   results.ratio[CONTROL] < 1.05;
    if (!results.good)
        fprintf(stderr, "%s: control %.2f in %zu rounds: the machine is busy\n", workload.name,
                results.ratio[CONTROL], rounds);
    return results;
}

/* Filling and draining on one CPU: what the cache holds is then the same in every round. */
static void stay_here(void)
{
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET((unsigned)sched_getcpu(), &here);
    must(sched_setaffinity(0, sizeof here, &here) == 0, "sched_setaffinity");
}

/* usage: drain [ROUNDS]; fewer than 9 are for a quick look */
int main(int argc, char **argv)
{
    static const struct workload workloads[] = {
        {"64 B, lengths only", 64, 0, 200000},
        {"64 B, first 64 B read", 64, 64, 200000},
        {"1514 B, first 64 B read", 1514, 64, 21000},
    };
    struct results results[COUNT(workloads)];
    bool good = true;
    int sender;

    if (argc > 1)
        rounds_wanted = atoi(argv[1]);
    if (rounds_wanted < 1 || rounds_wanted > MOST_ROUNDS)
        tap_bail("usage: drain [ROUNDS], 1 to %d", MOST_ROUNDS);
    stay_here();
    net_enter();
    net_veth(IN, OUT);
    sender = net_sender(OUT);
    for (size_t w = 0; w < COUNT(workloads); w++) {
        workload = workloads[w];
        for (int try = 0; try < TRIES; try++) {
            results[w] = measure(sender);
            if (results[w].good)
                break;
        }
        good = good && results[w].good;
    }

    printf("| time by that of the hand-written loop |");
    for (size_t w = 0; w < COUNT(workloads); w++)
        printf(" %s |", workloads[w].name);
    printf("\n|---|");
    for (size_t w = 0; w < COUNT(workloads); w++)
        printf("---|");
    for (int way = 0; way < WAYS; way++) {
        printf("\n| %s |", ways[way].name);
        for (size_t w = 0; w < COUNT(workloads); w++) {
            if (way == FLOOR)
                printf(" 1 (%.1f ns) |", results[w].floor_ns);
            else
                printf(" %.2f (%.2f-%.2f)%s |", results[w].ratio[way], results[w].low[way],
                       results[w].high[way], results[w].good ? "" : " discard");
        }
    }
#ifndef HAVE_PCAP
    printf("\n| libpcap | not installed | not installed | not installed |");
#endif
    printf("\n| the kernel, to send and receive it |");
    for (size_t w = 0; w < COUNT(workloads); w++)
        printf(" %.0f (%.0f ns) |", results[w].fill_ns / results[w].floor_ns, results[w].fill_ns);
    printf("\n\n");
    if (!good)
        printf(
            "Discard this table: the control is outside of 0.95 to 1.05, the machine was busy.\n");
    return good ? 0 : 1;
}
