/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What it costs to send: each method of the injector against the program a careful user would write
 * by hand with the same method, and against sendto for every packet and libpcap, on devices that
 * differ in what becomes of a packet. All write each frame anew, and hand over a batch at a time.
 *
 * Measured is the CPU time of the thread and of the softirq thread of its CPU, to which all is
 * pinned, so that the receiving half of a veth pair is in it. Every packet is counted where it
 * arrives: a round in which one was lost does not count.
 *
 * The ways take turns, in another order every round, with a socket each has to itself (an open one
 * of libpcap listens, and that costs the others). What counts is the median over the rounds of each
 * one's time by that of another in the same round. Two of them run twice in every round: unless
 * they are as fast as themselves, the machine was too busy, and the table says so.
 *
 * usage: transmit [-r ROUNDS] [-b BATCH] [DEVICE... | all]; devices other than veth0 and ifb0 are
 * for the choice of a method
 * Makes a network namespace of its own. Exit status: 0, 1 (a control failed three times), 77 (not
 * allowed to make one).
 */
#include "common.h"
#include "cpu.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netring.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef HAVE_PCAP
#include <pcap.h>
#endif

#include "../tests/c/net.h"

enum { SLOT = 2048, SLOTS = 1024, MOST_BATCH = 256 };
enum { MOST_ROUNDS = 50, TRIES = 3, PACKETS = 8192 };

static int rounds_wanted = 9;

static void must(bool done, const char *what)
{
    if (!done)
        tap_bail("%s: %s", what, strerror(errno));
}

/* ---- devices ---- */

static const struct device {
    const char *name, *kind;
    const char *counted; /* the link that receives; NULL: whoever reads the tap device */
} devices[] = {
    {"veth0", "veth", "veth1"},
    {"ifb0", "ifb", "ifb0"},
    {"lo", "loopback", "lo"},
    {"tap0", "tap", NULL},
    {"macvlan0", "macvlan on veth", "under1"},
    {"macvlan1", "macvlan on ifb", "under2"},
    {"bridge0", "bridge with a veth port", "port1"},
    {"port1", "peer of a port of that bridge", "port0"},
    {"bridge1", "bridge with an ifb port", "port2"},
};
enum { DEVICES = COUNT(devices), DEFAULT_DEVICES = 2 };

static const struct device *device; /* the one at hand */
static int tap = -1;
static uint64_t tap_read;

static void devices_make(bool all)
{
    net_veth("veth0", "veth1");
    net_link_new("ifb0", "ifb", NULL);
    if (all) {
        tap = net_tun("tap0", IFF_TAP);
        must(tap >= 0 && fcntl(tap, F_SETFL, O_NONBLOCK) == 0, "tap0");
        net_veth("under0", "under1");
        net_link_new("macvlan0", "macvlan", "under0");
        net_link_new("under2", "ifb", NULL);
        net_link_new("macvlan1", "macvlan", "under2");
        net_veth("port0", "port1");
        net_link_new("bridge0", "bridge", NULL);
        net_link_master("port0", "bridge0");
        net_link_new("port2", "ifb", NULL);
        net_link_new("bridge1", "bridge", NULL);
        net_link_master("port2", "bridge1");
    }
    net_await_carrier("veth0");
    sleep_us(1200000); /* until all send, and are done with what they say to begin with */
}

/* What comes out of a tap device has to be read by somebody; not measured. */
static void tap_drain(void)
{
    uint8_t packet[SLOT];

    while (device->counted == NULL && read(tap, packet, sizeof packet) > 0)
        tap_read++;
}

static uint64_t arrived(void)
{
    return device->counted ? net_counters(device->counted).rx_packets : tap_read;
}

/* The name of the driver, by which a device can be told. */
static void driver_name(char name[32])
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq request = {.ifr_data = (void *)&info};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    must(fd >= 0, "socket(AF_INET)");
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device->name);
    snprintf(name, 32, "%s", ioctl(fd, SIOCETHTOOL, &request) == 0 ? info.driver : "none");
    close(fd);
}

/* ---- frames ---- */

static uint8_t frame[SLOT]; /* what is sent, but for its number */
static uint32_t length;
static uint64_t written;

static void write_frame(uint8_t *to)
{
    memcpy(to, frame, length);
    memcpy(to + 20, &written, sizeof written);
    written++;
}

static void make_frame(uint32_t bytes)
{
    length = bytes;
    memset(frame, 0x5a, sizeof frame);
    memset(frame, 0xff, 12);
    frame[0] = 2; /* unicast, to nobody */
    frame[12] = ETHERTYPE_TEST >> 8;
    frame[13] = ETHERTYPE_TEST & 0xff;
}

/* ---- by hand ---- */

static int fd;
static bool bypass; /* PACKET_QDISC_BYPASS */

static void socket_open(void)
{
    int one = 1;

    fd = net_sender(device->name);
    if (bypass)
        must(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) == 0, "bypass");
}

static void socket_close(void)
{
    close(fd);
}

/* The device's or the qdisc's queue is full, or the socket's send buffer. */
static void wait_for_room(void)
{
    struct pollfd set = {.fd = fd, .events = POLLOUT};

    if (errno != ENOBUFS && errno != EAGAIN)
        tap_bail("send: %s", strerror(errno));
    if (errno == ENOBUFS)
        sched_yield();
    else
        poll(&set, 1, 1);
}

/* A frame does not begin where a page does, or the kernel's copy of a large one takes a third more:
 * it reads what lies, but for the page, just behind what it has written. */
enum { FRAME_AT = 64, BUFFERS = MOST_BATCH * SLOT + FRAME_AT };

static uint8_t *buffers;
static struct mmsghdr messages[MOST_BATCH];
static struct iovec vectors[MOST_BATCH];

static void buffers_new(void)
{
    buffers = mmap(NULL, BUFFERS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(buffers != MAP_FAILED, "mmap");
}

static void sendmmsg_open(void)
{
    socket_open();
    memset(messages, 0, sizeof messages);
    for (size_t i = 0; i < MOST_BATCH; i++) {
        vectors[i] = (struct iovec){buffers + FRAME_AT + i * SLOT, length};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static void sendmmsg_send(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        write_frame(vectors[i].iov_base);
    for (uint32_t done = 0; done < count;) {
        int sent = sendmmsg(fd, messages + done, count - done, MSG_DONTWAIT);

        if (sent < 0)
            wait_for_room();
        else
            done += (uint32_t)sent;
    }
}

static void sendto_send(uint32_t count)
{
    uint8_t buffer[SLOT];

    for (uint32_t i = 0; i < count; i++) {
        write_frame(buffer);
        while (send(fd, buffer, length, MSG_DONTWAIT) < 0)
            wait_for_room();
    }
}

static uint8_t *ring;
static uint32_t ring_at;
static size_t ring_data; /* of a slot: where the frame begins */

static void ring_open(int version)
{
    struct tpacket_req3 request = {
        .tp_block_size = SLOT * SLOTS / 16,
        .tp_block_nr = 16,
        .tp_frame_size = SLOT,
        .tp_frame_nr = SLOTS,
    };

    socket_open();
    must(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0 &&
             setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &request,
                        version == TPACKET_V3 ? sizeof request : sizeof(struct tpacket_req)) == 0,
         "PACKET_TX_RING");
    ring = mmap(NULL, (size_t)SLOT * SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(ring != MAP_FAILED, "mmap");
    ring_at = 0;
}

static void ring2_open(void)
{
    ring_open(TPACKET_V2);
    ring_data = TPACKET_ALIGN(sizeof(struct tpacket2_hdr));
}

static void ring3_open(void)
{
    ring_open(TPACKET_V3);
    ring_data = TPACKET_ALIGN(sizeof(struct tpacket3_hdr));
}

static void ring_kick(void)
{
    if (send(fd, NULL, 0, MSG_DONTWAIT) < 0)
        wait_for_room();
}

/* The two layouts differ in where the status and the length are; the rest is written once. */
#define RING_SEND(name, header)                                                                    \
    static void name(uint32_t count)                                                               \
    {                                                                                              \
        header *slot = NULL;                                                                       \
                                                                                                   \
        for (uint32_t i = 0; i < count; i++) {                                                     \
            uint32_t status;                                                                       \
                                                                                                   \
            slot = (void *)(ring + (size_t)ring_at * SLOT);                                        \
            while ((status = __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE)) !=               \
                   TP_STATUS_AVAILABLE) {                                                          \
                if (status & TP_STATUS_WRONG_FORMAT)                                               \
                    tap_bail("the kernel refused a frame");                                        \
                ring_kick();                                                                       \
            }                                                                                      \
            write_frame((uint8_t *)slot + ring_data);                                              \
            slot->tp_len = length;                                                                 \
            __atomic_store_n(&slot->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);          \
            ring_at = (ring_at + 1) % SLOTS;                                                       \
        }                                                                                          \
        do                                                                                         \
            ring_kick();                                                                           \
        while (__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) == TP_STATUS_SEND_REQUEST);     \
    }
RING_SEND(ring2_send, struct tpacket2_hdr)
RING_SEND(ring3_send, struct tpacket3_hdr)

static void ring_close(void)
{
    munmap(ring, (size_t)SLOT * SLOTS);
    socket_close();
}

#ifdef HAVE_PCAP
static pcap_t *pcap;

static void pcap_begin(void)
{
    char error[PCAP_ERRBUF_SIZE];

    pcap = pcap_create(device->name, error);
    if (pcap == NULL)
        tap_bail("pcap_create: %s", error);
    pcap_set_snaplen(pcap, 64);
    pcap_set_buffer_size(pcap, 1 << 20);
    if (pcap_activate(pcap) < 0)
        tap_bail("pcap_activate: %s", pcap_geterr(pcap));
}

static void pcap_send(uint32_t count)
{
    uint8_t buffer[SLOT];

    for (uint32_t i = 0; i < count; i++) {
        write_frame(buffer);
        while (pcap_inject(pcap, buffer, length) < 0)
            wait_for_room();
    }
}

static void pcap_end(void)
{
    pcap_close(pcap);
}
#endif

/* ---- the library ---- */

static struct netring_injector *injector;
static struct netring_frame copied[MOST_BATCH];

static void injector_open(uint32_t method)
{
    struct netring_injector_config config = NETRING_INJECTOR_CONFIG_INIT;
    struct netring_error error;

    config.method = method;
    config.slot_count = SLOTS;
    if (bypass)
        config.flags |= NETRING_INJECTOR_QDISC_BYPASS;
    if (netring_injector_open(device->name, &config, &injector, &error) < 0)
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

static void injector_auto(void)
{
    injector_open(NETRING_METHOD_AUTO);
}

static int must_netring(int rc, const char *what)
{
    if (rc < 0)
        tap_bail("%s: %s", what, netring_strerror(rc));
    return rc;
}

static void injector_in_place(uint32_t count)
{
    struct netring_slot slots[MOST_BATCH];

    while (count > 0) {
        int got = must_netring(netring_injector_reserve(injector, slots, sizeof *slots, count, -1),
                               "netring_injector_reserve");

        for (int i = 0; i < got; i++) {
            write_frame(slots[i].data);
            slots[i].len = length;
        }
        if (netring_injector_commit(injector, slots, sizeof *slots, (size_t)got) != got)
            tap_bail("netring_injector_commit");
        count -= (uint32_t)got;
    }
    must_netring(netring_injector_flush(injector), "netring_injector_flush");
}

static void injector_by_copy(uint32_t count)
{
    uint32_t done = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *to = buffers + FRAME_AT + (size_t)i * SLOT;

        write_frame(to);
        copied[i] = (struct netring_frame){.data = to, .len = length};
    }
    while (done < count)
        done += (uint32_t)must_netring(
            netring_injector_send_batch(injector, copied + done, sizeof *copied, count - done, -1),
            "netring_injector_send_batch");
}

static void injector_end(void)
{
    if (netring_injector_drain(injector, 1000) != 1)
        tap_bail("netring_injector_drain");
    netring_injector_close(injector);
}

/* ---- the ways ---- */

enum { BEST = -1 /* of the first */, CANDIDATES = 4 };

static const struct way {
    const char *name;
    void (*open)(void), (*send)(uint32_t count), (*close)(void);
    int reference; /* the way it is held against */
    bool bypass;
    bool control; /* the reference once more */
} ways[] = {
    {"sendmmsg", sendmmsg_open, sendmmsg_send, socket_close, 0, false, false},
    {"TPACKET_V2 ring", ring2_open, ring2_send, ring_close, 0, false, false},
    {"TPACKET_V3 ring", ring3_open, ring3_send, ring_close, 0, false, false},
    {"sendto", socket_open, sendto_send, socket_close, 0, false, false},
    {"sendmmsg, bypass", sendmmsg_open, sendmmsg_send, socket_close, 0, true, false},
    {"TPACKET_V2 ring, bypass", ring2_open, ring2_send, ring_close, 0, true, false},
#ifdef HAVE_PCAP
    {"libpcap `pcap_inject`", pcap_begin, pcap_send, pcap_end, 0, false, false},
#endif
    {"sendmmsg again (control)", sendmmsg_open, sendmmsg_send, socket_close, 0, false, true},
    {"TPACKET_V2 ring again (control)", ring2_open, ring2_send, ring_close, 1, false, true},
    {"**sendmmsg**", injector_sendmmsg, injector_in_place, injector_end, 0, false, false},
    {"**ring**", injector_ring, injector_in_place, injector_end, 1, false, false},
    {"**sendmmsg, bypass**", injector_sendmmsg, injector_in_place, injector_end, 4, true, false},
    {"**ring, bypass**", injector_ring, injector_in_place, injector_end, 5, true, false},
    {"sendmmsg, `send_batch`", injector_sendmmsg, injector_by_copy, injector_end, 0, false, false},
    {"ring, `send_batch`", injector_ring, injector_by_copy, injector_end, 1, false, false},
    {"**auto**", injector_auto, injector_in_place, injector_end, BEST, false, false},
};
enum { WAYS = COUNT(ways) };

/* No ring is opened on lo: it would send other bytes than were written. */
static bool is_possible(const struct way *way)
{
    return way->open != injector_ring || strcmp(device->name, "lo") != 0;
}

/* ---- measuring ---- */

/* CPU time of sending a packet in nanoseconds; negative where not all arrived. */
static double cost(const struct way *way, uint32_t batch)
{
    uint64_t before, lost = net_softnet_dropped();
    bool complete;
    int64_t cpu = 0;

    bypass = way->bypass;
    way->open();
    for (uint32_t warm = 0; warm < SLOTS; warm += batch) { /* each slot is touched */
        way->send(batch);
        tap_drain();
    }
    sleep_us(1000);
    tap_drain();
    before = arrived();
    if (device->counted) {
        cpu = -cpu_ns();
        for (uint32_t sent = 0; sent < PACKETS; sent += batch)
            way->send(batch);
        for (int i = 0; i < 20 && arrived() - before < PACKETS; i++)
            sched_yield();
        cpu += cpu_ns();
    } else {
        for (uint32_t sent = 0; sent < PACKETS; sent += batch) {
            cpu -= cpu_ns();
            way->send(batch);
            cpu += cpu_ns();
            tap_drain();
        }
    }
    way->close();
    for (int i = 0; i < 20 && arrived() - before < PACKETS; i++)
        sleep_us(1000);
    complete = arrived() - before == PACKETS && net_softnet_dropped() == lost;
    return complete ? (double)cpu / PACKETS : -1;
}

struct results {
    double ratio[WAYS];
    double first_ns;
    int best; /* by hand */
    bool good;
};

/* An order for a round. Not a rotation: each way would always follow the same other one. */
static void shuffle(int order[WAYS])
{
    for (int i = 0; i < (int)WAYS; i++) {
        int at = rand() % (i + 1);

        order[i] = order[at];
        order[at] = i;
    }
}

static double median_ratio(double ns[][WAYS], size_t rounds, int way, int by)
{
    double ratios[MOST_ROUNDS];

    for (size_t i = 0; i < rounds; i++)
        ratios[i] = ns[i][way] / ns[i][by];
    return quantile(ratios, rounds, 0.5);
}

static struct results measure(uint32_t batch)
{
    static double ns[MOST_ROUNDS][WAYS];
    struct results results = {.good = true};
    double first[MOST_ROUNDS];
    size_t rounds = 0;

    /* Round 0 warms up. */
    for (int turn = 0; turn <= rounds_wanted; turn++) {
        bool complete = true;
        int order[WAYS];

        shuffle(order);
        for (size_t i = 0; i < WAYS; i++) {
            if (!is_possible(&ways[order[i]]))
                continue;
            ns[rounds][order[i]] = cost(&ways[order[i]], batch);
            complete = complete && ns[rounds][order[i]] > 0;
        }
        if (turn > 0 && complete) {
            first[rounds] = ns[rounds][0];
            rounds++;
        }
    }
    for (int way = 1; way < CANDIDATES; way++)
        if (median_ratio(ns, rounds, way, results.best) < 1)
            results.best = way;
    for (int way = 0; way < (int)WAYS; way++) {
        int by = ways[way].reference == BEST ? results.best : ways[way].reference;
        double ratio = median_ratio(ns, rounds, way, by);

        results.ratio[way] = ratio;
        if (ways[way].control && (ratio < 0.95 || ratio > 1.05))
            results.good = false;
    }
    results.first_ns = quantile(first, rounds, 0.5);
    if (rounds + 2 < (size_t)rounds_wanted) {
        fprintf(stderr, "%s: packets were lost in %zu of %d rounds\n", device->name,
                (size_t)rounds_wanted - rounds, rounds_wanted);
        results.good = false;
    }
    return results;
}

static const uint32_t lengths[] = {64, 1514};
static uint32_t batches[8] = {1, 16, 64, 256};
static size_t batch_count = 4;
enum { COLUMNS = COUNT(lengths) * COUNT(batches) };

static void print_head(const char *title)
{
    printf("| %s |", title);
    for (size_t l = 0; l < COUNT(lengths); l++)
        for (size_t b = 0; b < batch_count; b++)
            printf(" %u B, %u |", lengths[l], batches[b]);
    printf("\n|---|");
    for (size_t i = 0; i < COUNT(lengths) * batch_count; i++)
        printf("---|");
}

static void print_row(const struct results *results, int way)
{
    printf("\n| %s |", ways[way].name);
    for (size_t i = 0; i < COUNT(lengths) * batch_count; i++) {
        const char *discard = results[i].good ? "" : " discard";

        if (way == 0)
            printf(" 1 (%.0f ns)%s |", results[i].first_ns, discard);
        else if (!is_possible(&ways[way]))
            printf(" |");
        else
            printf(" %.2f%s |", results[i].ratio[way], discard);
    }
}

/* Both tables of a device; whether all their controls passed. */
static bool compare(void)
{
    struct results results[COLUMNS];
    size_t cells = 0, near = 0, all = 0;
    bool good = true;
    char driver[32];

    for (size_t l = 0; l < COUNT(lengths); l++) {
        make_frame(lengths[l]);
        for (size_t b = 0; b < batch_count; b++, cells++) {
            for (int try = 0; try < TRIES; try++) {
                results[cells] = measure(batches[b]);
                if (results[cells].good)
                    break;
            }
            good = good && results[cells].good;
        }
    }
    driver_name(driver);
    printf("\n%s (driver: %s)\n\n", device->kind, driver);
    print_head("time by that of sendmmsg");
    for (int way = 0; way < (int)WAYS && (ways[way].name[0] != '*'); way++)
        print_row(results, way);
    printf("\n\n");
    print_head("libnetring, by the same by hand");
    for (int way = 0; way < (int)WAYS; way++) {
        if (ways[way].open != injector_sendmmsg && ways[way].open != injector_ring &&
            ways[way].open != injector_auto)
            continue;
        print_row(results, way);
        for (size_t i = 0; i < cells && ways[way].send == injector_in_place; i++, all++)
            near += is_possible(&ways[way]) && results[i].ratio[way] <= 1.05;
    }
    printf("\n\nbest by hand:");
    for (size_t i = 0; i < cells; i++)
        printf(" %s%s", ways[results[i].best].name, i + 1 < cells ? "," : "\n");
    printf("In place within 1.05: %zu of %zu.\n", near, all);
    return good;
}

int main(int argc, char **argv)
{
    bool good = true, every = false;
    int option;

    while ((option = getopt(argc, argv, "r:b:")) != -1) {
        if (option == 'r') {
            rounds_wanted = atoi(optarg);
        } else if (option == 'b') {
            batches[0] = (uint32_t)atoi(optarg);
            batch_count = 1;
        }
    }
    if (rounds_wanted < 1 || rounds_wanted > MOST_ROUNDS || batches[0] < 1 ||
        batches[0] > MOST_BATCH)
        tap_bail("usage: transmit [-r ROUNDS] [-b BATCH] [all | DEVICE...]");
    every = optind < argc && strcmp(argv[optind], "all") == 0;
    must(stay_on(1), "sched_setaffinity");
    net_enter();
    devices_make(optind < argc);
    buffers_new();
    for (size_t at = 0; at < DEVICES; at++) {
        bool wanted = every || (optind == argc && at < DEFAULT_DEVICES);

        for (int i = optind; i < argc; i++)
            wanted = wanted || strcmp(argv[i], devices[at].name) == 0;
        device = &devices[at];
        if (wanted && !compare())
            good = false;
    }
    if (!good)
        printf("\nDiscard what says so: the control is outside of 0.95 to 1.05, or packets were "
               "lost.\n");
    return good ? 0 : 1;
}
