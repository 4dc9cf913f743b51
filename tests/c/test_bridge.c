/* Bridges: what is sent into one interface comes out of the other, byte for byte and in order, or
 * is in the counters. The network: wa - va, the bridge, vb - wb; the test sends on wa and listens
 * on wb with plain sockets, or the other way round.
 *
 * no-archive: it takes long, and ASan has the archive too
 * no-valgrind: it takes the handle that Rust keeps of a thread for lost memory in each child */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define A NETRING_BRIDGE_A_TO_B
#define B NETRING_BRIDGE_B_TO_A
#define BOTH NETRING_BRIDGE_BOTH
#define FOREVER ((int)tap_patience(10000)) /* for what must come */

static const uint32_t not_there = UINT32_MAX;

/* ---- the receiver ---- */

static int listener(const char *name)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)net_index(name)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1, room = 8 << 20;

    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0 ||
        (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0 &&
         setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) != 0) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        tap_bail("listening on %s: %s", name, strerror(errno));
    return fd;
}

/* The next frame with the tag that the kernel took out of it; 0: none came in time. */
static size_t hear(int fd, uint8_t *frame, size_t room, int timeout_ms)
{
    union {
        char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
        struct cmsghdr align;
    } control;
    struct iovec part = {frame, room};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    struct tpacket_auxdata aux;
    ssize_t got;

    if (poll(&waiting, 1, timeout_ms) != 1)
        return 0;
    got = recvmsg(fd, &message, MSG_DONTWAIT);
    if (got < 0)
        return 0;
    if (CMSG_FIRSTHDR(&message) == NULL)
        tap_bail("no auxiliary data");
    memcpy(&aux, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof aux);
    if (aux.tp_status & TP_STATUS_VLAN_VALID)
        return frame_tag(frame, (size_t)got, aux.tp_vlan_tpid, aux.tp_vlan_tci);
    return (size_t)got;
}

/* One check: exactly the frames first..first+count-1 of mixed lengths come next. */
static bool heard_frames(int fd, uint32_t first, uint32_t count, size_t low, size_t high,
                         const char *what)
{
    uint8_t want[FRAME_MAX], got[FRAME_MAX + 4];

    for (uint32_t n = first; n < first + count; n++) {
        const size_t length = frame_make(want, frame_mixed(n, low, high), n);
        const size_t came = hear(fd, got, sizeof got, FOREVER);

        if (came != length || memcmp(got, want, length) != 0)
            return ok(false, "%s: frame %u has %zu bytes, came %zu", what, n, length, came);
    }
    return ok(true, "%s: %u frames", what, count);
}

static void silence(int fd, const char *what)
{
    uint8_t frame[FRAME_MAX];

    is_int(hear(fd, frame, sizeof frame, 50), 0, "%s: nothing more comes", what);
}

static void send_mixed(int sender, uint32_t first, uint32_t count, size_t low, size_t high)
{
    uint8_t frame[FRAME_MAX];

    for (uint32_t n = first; n < first + count; n++)
        net_send(sender, frame, frame_make(frame, frame_mixed(n, low, high), n));
}

/* ---- a bridge that runs ---- */

struct run {
    struct netring_bridge *bridge;
    uint32_t directions;
    netring_bridge_callback callback;
    void *user;
    pthread_t thread;
    int rc, error_number;
    atomic_bool over;
};

static struct netring_bridge *bridge_open(const struct netring_bridge_config *config)
{
    struct netring_bridge *bridge = NULL;
    struct netring_error err;

    if (netring_bridge_open("va", "vb", config, &bridge, &err) != 0)
        tap_bail("netring_bridge_open: %s", err.message);
    return bridge;
}

/* What was counted before a test began: see run_ready. */
static struct {
    struct netring_bridge *bridge;
    struct netring_bridge_stats stats[2];
} base;

/* The counters from then on. */
static struct netring_bridge_stats bridge_stats(struct netring_bridge *bridge, uint32_t direction)
{
    struct netring_bridge_stats stats;

    if (netring_bridge_stats(bridge, direction, &stats, sizeof stats) != 0)
        tap_bail("netring_bridge_stats failed");
    if (bridge == base.bridge) {
        uint64_t *now = &stats.received, *then = &base.stats[direction == B].received;

        for (; now <= &stats.batches; now++, then++)
            *now -= *then;
    }
    return stats;
}

static uint64_t sum(const struct netring_bridge_stats *stats)
{
    return stats->forwarded + stats->dropped + stats->too_large + stats->ring_full +
           stats->link_down + stats->refused + stats->waiting;
}

/* One check: every packet is in one of the counters. */
static void adds_up(struct netring_bridge *bridge, uint32_t direction, const char *what)
{
    struct netring_bridge_stats stats = bridge_stats(bridge, direction);

    is_int(stats.received, sum(&stats), "%s: the counters add up", what);
}

static void *running(void *argument)
{
    struct run *run = argument;

    errno = 0;
    run->rc = netring_bridge_run(run->bridge, run->directions, run->callback, run->user);
    run->error_number = errno;
    atomic_store(&run->over, true);
    return NULL;
}

static void run_start(struct run *run)
{
    atomic_store(&run->over, false);
    if (pthread_create(&run->thread, NULL, running, run) != 0)
        tap_bail("no thread");
}

/* Waits until the direction has received, and done with, so many packets in all. */
static void await_received(struct netring_bridge *bridge, uint32_t direction, uint64_t count)
{
    const int64_t until = now_ms() + FOREVER;
    struct netring_bridge_stats stats;

    do {
        stats = bridge_stats(bridge, direction);
        if (stats.received >= count && sum(&stats) == stats.received)
            return;
        sleep_ms(1);
    } while (now_ms() < until);
    tap_bail("received %llu of %llu packets", (unsigned long long)stats.received,
             (unsigned long long)count);
}

/* Waits until a frame crosses, and until all is quiet again. */
static void await_running(struct run *run, int sender, int receiver)
{
    uint8_t frame[FRAME_MAX];

    for (int i = 0; i < FOREVER / 20; i++) {
        frame_make(frame, 60, not_there);
        net_send(sender, frame, 60);
        if (hear(receiver, frame, sizeof frame, 20) == 60) {
            while (hear(receiver, frame, sizeof frame, 50) != 0)
                ;
            return;
        }
    }
    tap_bail("the bridge does not run: %d", run->rc);
}

/* Starts a run that receives what is sent from here on. */
static void run_ready(struct run *run, int sender, int receiver)
{
    run_start(run);
    await_running(run, sender, receiver);
    base.bridge = NULL;
    base.stats[0] = bridge_stats(run->bridge, A);
    base.stats[1] = bridge_stats(run->bridge, B);
    base.bridge = run->bridge;
}

static void run_ends(struct run *run, int code, const char *what)
{
    const int64_t until = now_ms() + FOREVER;

    while (!atomic_load(&run->over) && now_ms() < until)
        sleep_ms(1);
    if (!atomic_load(&run->over))
        tap_bail("%s: the run does not end", what);
    pthread_join(run->thread, NULL);
    is_int(run->rc, code, "%s: the run's end", what);
    if (code < 0)
        is_int(run->error_number, natural_errno(code), "%s: its errno", what);
}

static void run_stop(struct run *run, const char *what)
{
    is_int(netring_bridge_stop(run->bridge), 0, "%s: stop", what);
    run_ends(run, NETRING_ESHUTDOWN, what);
}

/* ---- byte for byte ---- */

/* Marks each packet's fields as right. */
static int look(void *user, uint32_t direction, struct netring_packet *packets, uint8_t *verdicts,
                size_t count, size_t size)
{
    atomic_uint *wrong = user;

    for (size_t i = 0; i < count; i++) {
        const struct netring_packet *p = &packets[i];

        if (size != sizeof *p || verdicts[i] != NETRING_VERDICT_FORWARD || p->caplen != p->len ||
            p->ifindex != net_index(direction == A ? "va" : "vb") ||
            p->link_type != NETRING_LINKTYPE_ETHERNET || p->net_offset != ETHER_HEADER ||
            p->protocol != ETHERTYPE_TEST || !(p->status & NETRING_PACKET_VNET) ||
            p->direction == NETRING_DIRECTION_OUTGOING || p->clock != NETRING_CLOCK_COPY ||
            p->time_ns == 0)
            atomic_fetch_add(wrong, 1);
    }
    return 0;
}

static void test_frames(void)
{
    const uint32_t all = tap_patience(1000) > 1000 ? 2000 : 20000;
    int from[2] = {net_sender("wa"), net_sender("wb")};
    int to[2] = {listener("wb"), listener("wa")};
    atomic_uint wrong = 0;

    for (int with = 0; with < 2; with++) {
        struct run run = {.bridge = bridge_open(NULL), .directions = BOTH};
        bool whole = true;

        if (with) {
            run.callback = look;
            run.user = &wrong;
        }
        run_ready(&run, from[0], to[0]);
        for (uint32_t n = 0; n < all && whole; n += 200)
            for (int way = 0; way < 2 && whole; way++) {
                send_mixed(from[way], n, 200, FRAME_NUMBERED, 1514);
                whole =
                    heard_frames(to[way], n, 200, FRAME_NUMBERED, 1514, way ? "B to A" : "A to B");
            }
        silence(to[0], "A to B");
        silence(to[1], "B to A: what is sent does not come back");
        run_stop(&run, with ? "with a callback" : "without");
        for (int way = 0; way < 2; way++) {
            struct netring_bridge_stats stats = bridge_stats(run.bridge, way ? B : A);

            is_int(stats.received, all, "received");
            is_int(stats.forwarded, all, "forwarded");
            is_int(stats.forwarded_bytes, stats.received_bytes, "as many bytes");
            is_int(stats.direction, way ? B : A, "the direction");
            ok(stats.batches > 0 && stats.batches <= all, "batches");
            is_int(stats.kernel_dropped + stats.unreadable + stats.modified, 0, "nothing else");
        }
        is_int(netring_bridge_close(run.bridge), 0, "close");
    }
    is_int(wrong, 0, "the callback is told the truth of every packet");
    for (int way = 0; way < 2; way++) {
        close(from[way]);
        close(to[way]);
    }
}

/* ---- verdicts ---- */

/* By the frame's number: 0 drop, 1 forward, 2 one byte changed, 3 cut to 40 bytes, 4 grown to 1500,
 * 5 claims more than there is room for, 6 claims nothing, 7 drop. */
struct judging {
    uint32_t capacity;
    uint32_t seen;
    uint8_t unknown; /* what to say of frame 100, if anything */
    uint32_t end_at; /* ends the run there */
    struct run *nested;
    int nested_run, nested_close;
};

static int judge(void *user, uint32_t direction, struct netring_packet *packets, uint8_t *verdicts,
                 size_t count, size_t size)
{
    struct judging *judging = user;
    int end = 0;

    (void)direction, (void)size;
    for (size_t i = 0; i < count; i++) {
        struct netring_packet *p = &packets[i];
        const uint32_t n = frame_number(p->data);

        if (n == not_there)
            continue;
        judging->seen++;
        switch (n % 8) {
        case 0:
        case 7:
            verdicts[i] = NETRING_VERDICT_DROP;
            break;
        case 2:
            p->data[20] ^= 0xff;
            verdicts[i] = NETRING_VERDICT_MODIFIED;
            break;
        case 3:
            p->caplen = 40;
            verdicts[i] = NETRING_VERDICT_MODIFIED;
            break;
        case 4:
            memset(p->data + p->caplen, 0x5a, 1500 - p->caplen);
            p->caplen = 1500;
            verdicts[i] = NETRING_VERDICT_MODIFIED;
            break;
        case 5:
            p->caplen = judging->capacity + 1;
            verdicts[i] = NETRING_VERDICT_MODIFIED;
            break;
        case 6:
            p->caplen = 0;
            verdicts[i] = NETRING_VERDICT_MODIFIED;
            break;
        }
        if (n == 100 && judging->unknown)
            verdicts[i] = judging->unknown;
        if (judging->end_at && n == judging->end_at)
            end = 1;
    }
    if (judging->nested) {
        judging->nested_run = netring_bridge_run(judging->nested->bridge, B, NULL, NULL);
        judging->nested_close = netring_bridge_close(judging->nested->bridge);
        judging->nested = NULL;
    }
    return end;
}

static void test_verdicts(void)
{
    enum { ALL = 800 };
    int from = net_sender("wa"), to = listener("wb");
    uint8_t want[FRAME_MAX], got[FRAME_MAX];
    struct judging judging = {.seen = 0};
    struct netring_bridge_config config = NETRING_BRIDGE_CONFIG_INIT;
    struct netring_bridge_stats stats;
    struct netring_bridge_info info;
    struct netring_error err;
    struct run run;

    config.patience_us = 1000000;
    run = (struct run){
        .bridge = bridge_open(&config), .directions = A, .callback = judge, .user = &judging};
    netring_bridge_info(run.bridge, &info, sizeof info);
    judging.capacity = info.capacity;
    run_ready(&run, from, to);
    for (uint32_t n = 0; n < ALL; n += 80) {
        bool whole = true;

        send_mixed(from, n, 80, 60, 1400);
        for (uint32_t i = n; i < n + 80 && whole; i++) {
            size_t length = frame_make(want, frame_mixed(i, 60, 1400), i), came;

            if (i % 8 == 0 || i % 8 > 4)
                continue;
            if (i % 8 == 2)
                want[20] ^= 0xff;
            if (i % 8 == 3)
                length = 40;
            if (i % 8 == 4) {
                memset(want + length, 0x5a, 1500 - length);
                length = 1500;
            }
            came = hear(to, got, sizeof got, FOREVER);
            whole = came == length && memcmp(got, want, length) == 0;
            if (!whole)
                tap_diag("frame %u: %zu bytes, want %zu", i, came, length);
        }
        ok(whole, "from %u on: what is forwarded, as it was changed, and nothing else", n);
    }
    silence(to, "verdicts");
    await_received(run.bridge, A, ALL);
    stats = bridge_stats(run.bridge, A);
    is_int(judging.seen, ALL, "the callback saw all");
    is_int(stats.received, ALL, "received");
    is_int(stats.forwarded, ALL / 2, "forwarded");
    is_int(stats.dropped, ALL / 4, "dropped by verdict");
    is_int(stats.modified, ALL * 5 / 8, "verdicts of a change");
    is_int(stats.too_large, ALL / 8, "more than there is room for");
    is_int(stats.refused, ALL / 8, "nothing left of it");

    /* From a callback: neither another run of the direction, nor the close. */
    judging.nested_run = judging.nested_close = 1;
    run.directions = BOTH;
    is_int(netring_bridge_run(run.bridge, A, NULL, NULL), NETRING_EBUSY, "a run beside it");
    is_int(netring_bridge_last_error(run.bridge, &err), 0, "last_error");
    is_str(err.option, "directions", "what is busy");
    run_stop(&run, "verdicts");
    netring_bridge_close(run.bridge);

    /* The callback ends it: its batch is carried out, and another run goes on. */
    run.bridge = bridge_open(&config);
    judging.end_at = 9;
    judging.nested = &run;
    run_ready(&run, from, to);
    send_mixed(from, 9, 1, 60, 60);
    run_ends(&run, 0, "ended by the callback");
    is_int(judging.nested_run, NETRING_EBUSY, "a run from the callback");
    is_int(judging.nested_close, NETRING_EBUSY, "a close from the callback");
    heard_frames(to, 9, 1, 60, 60, "the batch that it ended at");
    judging.end_at = 0;
    send_mixed(from, 17, 1, 60, 60); /* waits for the next run */
    run_start(&run);
    heard_frames(to, 17, 1, 60, 60, "another run");

    /* A verdict that is none. */
    judging.unknown = 7;
    send_mixed(from, 100, 1, 60, 60);
    run_ends(&run, NETRING_EINVAL, "an unknown verdict");
    netring_bridge_last_error(run.bridge, &err);
    is_str(err.option, "verdict", "what is wrong");
    is_str_contains(err.message, "verdict 7 is none", "the message");
    silence(to, "an unknown verdict");
    adds_up(run.bridge, A, "an unknown verdict");
    netring_bridge_close(run.bridge);
    close(from);
    close(to);
}

/* ---- tags ---- */

static void test_tags(void)
{
    static const struct {
        const char *name;
        uint16_t tpid[2], tci[2];
    } kinds[] = {
        {"802.1Q", {0x8100}, {0x2064}},
        {"802.1ad", {0x88a8}, {0x0fff}},
        {"a priority tag", {0x8100}, {0}},
        {"QinQ", {0x8100, 0x88a8}, {0x0001, 0xe002}},
        {"twice the same", {0x8100, 0x8100}, {0x0001, 0x1002}},
        {"a tag that no kernel takes out", {0x9100}, {0x0005}},
    };
    int from = net_sender("wa"), to = listener("wb");
    struct run run = {.bridge = bridge_open(NULL), .directions = BOTH};
    uint32_t number = 0;

    run_ready(&run, from, to);
    for (size_t i = 0; i < COUNT(kinds); i++)
        for (int full = 0; full < 2; full++) {
            uint8_t frame[FRAME_MAX], got[FRAME_MAX];
            /* Packet sockets send one 802.1Q tag above the MTU (packet_extra_vlan_len_allowed). */
            const uint16_t outer = kinds[i].tpid[kinds[i].tpid[1] ? 1 : 0];
            const size_t above = outer == 0x8100 ? 4 : 0;
            const size_t tags = kinds[i].tpid[1] ? 8 : 4;
            size_t whole = frame_make(frame, full ? 1514 + above - tags : 60, number++), came;

            whole = frame_tag(frame, whole, kinds[i].tpid[0], kinds[i].tci[0]);
            if (kinds[i].tpid[1])
                whole = frame_tag(frame, whole, kinds[i].tpid[1], kinds[i].tci[1]);
            net_send(from, frame, whole);
            came = hear(to, got, sizeof got, FOREVER);
            is_int(came, whole, "%s: as long as it was", kinds[i].name);
            if (came == whole)
                is_bytes(got, frame, whole, "%s: every byte", kinds[i].name);
        }
    silence(to, "tags");
    run_stop(&run, "tags");
    adds_up(run.bridge, A, "tags");
    netring_bridge_close(run.bridge);
    close(from);
    close(to);
}

/* ---- what does not fit, does not leave, or not now ---- */

static void test_too_large(void)
{
    int from = net_sender("wa"), to = listener("wb");
    struct netring_bridge_config config = NETRING_BRIDGE_CONFIG_INIT;
    struct netring_bridge_info info;
    struct judging judging = {.seen = 0};
    struct run run = {.bridge = bridge_open(NULL), .directions = A};

    run_ready(&run, from, to);
    net_link_mtu("vb", 1000);
    send_frames(from, 1, 10, 1014);
    send_frames(from, 11, 10, 1015);
    send_frames(from, 21, 10, 60);
    heard_frames(to, 1, 10, 1014, 1014, "as large as the other side takes");
    heard_frames(to, 21, 10, 60, 60, "what comes after larger ones");
    await_received(run.bridge, A, 30);
    is_int(bridge_stats(run.bridge, A).too_large, 10, "larger ones");
    netring_bridge_info(run.bridge, &info, sizeof info);
    is_int(info.frame_limit_b, 1014, "what it takes now");
    net_link_mtu("vb", 1500);
    send_frames(from, 31, 10, 1514);
    heard_frames(to, 31, 10, 1514, 1514, "with its MTU back");
    run_stop(&run, "too large");
    adds_up(run.bridge, A, "too large");
    netring_bridge_info(run.bridge, &info, sizeof info);
    is_int(info.frame_limit_b, 1514, "what it takes again");
    netring_bridge_close(run.bridge);

    /* Larger than what there is memory for. */
    config.packet_size = 256;
    run.bridge = bridge_open(&config);
    run.callback = judge;
    run.user = &judging;
    netring_bridge_info(run.bridge, &info, sizeof info);
    is_int(info.capacity, 256, "the capacity");
    judging.capacity = info.capacity;
    run_ready(&run, from, to);
    for (uint32_t n = 1; n <= 81; n += 8)
        send_frames(from, n, 1, n % 16 == 1 ? 256 : 257);
    for (uint32_t n = 1; n <= 81; n += 16)
        heard_frames(to, n, 1, 256, 256, "as large as packet_size");
    await_received(run.bridge, A, 11);
    is_int(bridge_stats(run.bridge, A).too_large, 5, "larger than packet_size");
    is_int(judging.seen, 6, "the callback is not shown them");
    run_stop(&run, "packet_size");
    netring_bridge_close(run.bridge);
    close(from);
    close(to);
}

/* How many frames come until nothing came for `quiet_ms`; they are in order. */
static uint64_t hear_all(int fd, int quiet_ms)
{
    uint8_t frame[FRAME_MAX];
    uint64_t count = 0;
    uint32_t last = 0;
    bool in_order = true;

    while (hear(fd, frame, sizeof frame, quiet_ms) != 0) {
        in_order &= count == 0 || frame_number(frame) > last;
        last = frame_number(frame);
        count++;
    }
    ok(in_order, "what comes is in order");
    return count;
}

static void test_slow(void)
{
    enum { ALL = 3000 };
    int from = net_sender("wa"), to = listener("wb");
    struct netring_bridge_stats stats;
    struct run run = {.bridge = bridge_open(NULL), .directions = BOTH};
    int64_t begin;

    net_one_cpu();
    run_ready(&run, from, to);
    net_queue_slow("vb", 500000, 20000); /* 500 frames a second, 20 in its queue */
    begin = now_ms();
    send_frames(from, 0, ALL, 1000);
    await_received(run.bridge, A, ALL - 64);
    ok(now_ms() - begin < FOREVER / 2, "packets that come too fast are not waited for");
    is_between(hear_all(to, (int)tap_patience(300)), 1, ALL - 1, "some come");
    run_stop(&run, "slow");
    stats = bridge_stats(run.bridge, A);
    is_int(stats.received + stats.kernel_dropped, ALL, "every packet was seen");
    is_between(stats.ring_full, 1, ALL, "those there was no room for are counted");
    is_int(stats.waiting, 0, "none waits after the run");
    adds_up(run.bridge, A, "slow");
    netring_bridge_close(run.bridge);
    net_queue_none("vb");

    /* Forwarded is what comes, with a queue that drops nothing of its own. */
    run.bridge = bridge_open(NULL);
    run_ready(&run, from, to);
    net_queue_slow("vb", 500000, 4000000);
    send_frames(from, 0, 500, 1000);
    await_received(run.bridge, A, 500);
    is_int(hear_all(to, (int)tap_patience(300)), bridge_stats(run.bridge, A).forwarded,
           "what was forwarded has come");
    run_stop(&run, "slow, with a long queue");
    adds_up(run.bridge, A, "slow, with a long queue");
    netring_bridge_close(run.bridge);
    net_queue_none("vb");
    close(from);
    close(to);
    net_all_cpus();
}

/* What is dropped before the driver has no queue to wait for, and nothing waits behind it. */
static void test_dropped(void)
{
    static const char *const links[] = {"wa", "va", "vb", "wb"};
    enum { LARGE = 2500, ALL = 50 }; /* the bucket holds 2000 bytes: sch_tbf.c drops more */
    int from = net_sender("wa"), to = listener("wb");
    struct netring_bridge_config config = NETRING_BRIDGE_CONFIG_INIT;
    struct run run = {.directions = A};
    struct netring_bridge_stats stats;
    uint8_t large[LARGE];

    config.patience_us = 1000000; /* what waits a long time for a core is not dropped for that */
    run.bridge = bridge_open(&config);
    for (size_t i = 0; i < COUNT(links); i++)
        net_link_mtu(links[i], 3000);
    run_ready(&run, from, to);
    net_queue_slow("vb", 10000000, 1000000);
    memset(large + frame_make(large, 60, not_there), 0, LARGE - 60);
    for (int i = 0; i < ALL; i++)
        net_send(from, large, LARGE);
    send_frames(from, 0, ALL, 60);
    await_received(run.bridge, A, 2 * ALL);
    heard_frames(to, 0, ALL, 60, 60, "what comes behind it does not wait");
    stats = bridge_stats(run.bridge, A);
    is_int(stats.ring_full, ALL, "what was dropped");
    is_int(stats.forwarded, ALL, "what was not");
    run_stop(&run, "dropped");
    adds_up(run.bridge, A, "dropped");
    netring_bridge_close(run.bridge);
    net_queue_none("vb");
    for (size_t i = 0; i < COUNT(links); i++)
        net_link_mtu(links[i], 1500);
    close(from);
    close(to);
}

static void test_down(void)
{
    int from = net_sender("wa"), to = listener("wb");
    struct run run = {.bridge = bridge_open(NULL), .directions = BOTH};
    struct netring_bridge_stats before, stats;

    run_ready(&run, from, to);
    for (int which = 0; which < 2; which++) {
        const char *link = which ? "wb" : "vb"; /* set down; without carrier */

        net_link_up(link, false);
        sleep_ms(5); /* a look at the link is good for a millisecond */
        before = bridge_stats(run.bridge, A);
        send_frames(from, 0, 100, 200);
        await_received(run.bridge, A, before.received + 100);
        stats = bridge_stats(run.bridge, A);
        is_int(stats.link_down - before.link_down, 100, "%s down: counted", link);
        is_int(stats.forwarded, before.forwarded, "%s down: none is said to have left", link);
        net_link_up(link, true);
        net_await_carrier("vb");
        net_await_carrier("wb");
        await_running(&run, from, to);
        send_frames(from, 100, 50, 200);
        heard_frames(to, 100, 50, 200, 200, "up again");
    }
    /* The side that receives. */
    net_link_up("va", false);
    net_link_up("va", true);
    net_await_carrier("wa");
    await_running(&run, from, to);
    send_frames(from, 200, 50, 200);
    heard_frames(to, 200, 50, 200, 200, "the other side up again");
    ok(!atomic_load(&run.over), "the run goes on");
    run_stop(&run, "down and up");
    adds_up(run.bridge, A, "down and up");
    netring_bridge_close(run.bridge);
    close(from);
    close(to);
}

/* ---- removal ---- */

struct flood {
    int sender;
    atomic_bool end;
    pthread_t thread;
};

static void *flooding(void *argument)
{
    struct flood *flood = argument;
    uint8_t frame[FRAME_MAX];

    frame_make(frame, 500, 1);
    while (!atomic_load(&flood->end))
        (void)!send(flood->sender, frame, 500, MSG_DONTWAIT);
    return NULL;
}

static void test_removed(void)
{
    static const struct {
        const char *what, *link;
        uint32_t directions;
        bool down, flood;
    } cases[] = {
        {"the out side, in a flood", "vb", A, false, true},
        {"the in side, in a flood", "va", A, false, true},
        {"both ways, in a flood", "va", BOTH, false, true},
        {"the out side, idle", "vb", A, false, false},
        {"the in side, idle", "va", A, false, false},
        {"the out side, down already", "vb", A, true, false},
        {"the in side, down already", "va", A, true, false},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct run run = {.bridge = bridge_open(NULL), .directions = cases[i].directions};
        struct flood flood = {.sender = net_sender("wa")};
        int to = listener("wb");
        struct netring_error err;

        run_ready(&run, flood.sender, to);
        if (cases[i].flood && pthread_create(&flood.thread, NULL, flooding, &flood) != 0)
            tap_bail("no thread");
        sleep_ms(20);
        if (cases[i].down) {
            net_link_up(cases[i].link, false);
            sleep_ms(20);
            ok(!atomic_load(&run.over), "%s: down is no end", cases[i].what);
        }
        net_link_delete(cases[i].link);
        run_ends(&run, NETRING_ENODEV, cases[i].what);
        netring_bridge_last_error(run.bridge, &err);
        is_str_contains(err.message, cases[i].link, "%s: the message names it", cases[i].what);
        is_int(netring_bridge_run(run.bridge, cases[i].directions, NULL, NULL), NETRING_ENODEV,
               "%s: it is final", cases[i].what);
        atomic_store(&flood.end, true);
        if (cases[i].flood)
            pthread_join(flood.thread, NULL);
        adds_up(run.bridge, A, cases[i].what);
        is_int(netring_bridge_close(run.bridge), 0, "%s: close", cases[i].what);
        close(flood.sender);
        close(to);
        if (strcmp(cases[i].link, "va") == 0)
            net_veth("wa", "va");
        else
            net_veth("wb", "vb");
        net_await_carrier("va");
        net_await_carrier("vb");
    }
}

/* ---- stop, threads, close ---- */

static struct netring_bridge *to_stop;
static atomic_int stop_errno;

static void on_signal(int number)
{
    const int before = errno;

    (void)number;
    errno = 4711;
    netring_bridge_stop(to_stop);
    atomic_store(&stop_errno, errno);
    errno = before;
}

static int stop_in_callback(void *user, uint32_t direction, struct netring_packet *packets,
                            uint8_t *verdicts, size_t count, size_t size)
{
    (void)direction, (void)verdicts, (void)count, (void)size;
    return frame_number(packets[0].data) == 7 ? netring_bridge_stop(user) : 0;
}

static void test_ends(void)
{
    int from[2] = {net_sender("wa"), net_sender("wb")};
    int to[2] = {listener("wb"), listener("wa")};
    struct run run = {.bridge = bridge_open(NULL), .directions = BOTH};
    struct run other;

    /* From another thread; for good. */
    run_ready(&run, from[0], to[0]);
    run_stop(&run, "from another thread");
    is_int(netring_bridge_run(run.bridge, A, NULL, NULL), NETRING_ESHUTDOWN, "it stays so");
    netring_bridge_close(run.bridge);

    /* In a signal handler on the thread that runs; other signals do not end it. */
    run.bridge = to_stop = bridge_open(NULL);
    run_ready(&run, from[0], to[0]);
    signal(SIGUSR1, on_signal);
    pthread_kill(run.thread, SIGCONT);
    sleep_ms(10);
    ok(!atomic_load(&run.over), "a signal does not end it");
    pthread_kill(run.thread, SIGUSR1);
    run_ends(&run, NETRING_ESHUTDOWN, "in a signal handler");
    is_int(stop_errno, 4711, "stop leaves errno alone");
    netring_bridge_close(run.bridge);

    /* In the callback. */
    run.bridge = bridge_open(NULL);
    run.callback = stop_in_callback;
    run.user = run.bridge;
    run_ready(&run, from[0], to[0]);
    send_frames(from[0], 7, 1, 60);
    run_ends(&run, NETRING_ESHUTDOWN, "in the callback");
    heard_frames(to[0], 7, 1, 60, 60, "its batch is carried out");
    netring_bridge_close(run.bridge);

    /* A thread for each direction. */
    run = (struct run){.bridge = bridge_open(NULL), .directions = A};
    other = (struct run){.bridge = run.bridge, .directions = B};
    run_start(&run);
    run_start(&other);
    await_running(&run, from[0], to[0]);
    await_running(&other, from[1], to[1]);
    is_int(netring_bridge_run(run.bridge, BOTH, NULL, NULL), NETRING_EBUSY, "a third one");
    for (uint32_t n = 0; n < 2000; n += 100)
        for (int way = 0; way < 2; way++) {
            send_mixed(from[way], n, 100, 60, 1514);
            if (n % 1000 == 0)
                heard_frames(to[way], n, 100, 60, 1514, "two threads");
            else
                for (int i = 0; i < 100; i++) {
                    uint8_t frame[FRAME_MAX];

                    if (hear(to[way], frame, sizeof frame, FOREVER) == 0)
                        tap_bail("two threads: a frame is missing");
                }
        }
    is_int(netring_bridge_stop(run.bridge), 0, "stop");
    run_ends(&run, NETRING_ESHUTDOWN, "one direction");
    run_ends(&other, NETRING_ESHUTDOWN, "the other one");
    netring_bridge_close(run.bridge);

    /* Closed meanwhile, in traffic. */
    for (int i = 0; i < 5; i++) {
        struct flood flood = {.sender = from[0]};

        run = (struct run){.bridge = bridge_open(NULL), .directions = A};
        other = (struct run){.bridge = run.bridge, .directions = B};
        run_start(&run);
        run_start(&other);
        await_running(&run, from[0], to[0]);
        if (pthread_create(&flood.thread, NULL, flooding, &flood) != 0)
            tap_bail("no thread");
        sleep_ms(5);
        is_int(netring_bridge_close(run.bridge), 0, "close in a run");
        run_ends(&run, NETRING_EBADF, "closed meanwhile");
        run_ends(&other, NETRING_EBADF, "closed meanwhile");
        atomic_store(&flood.end, true);
        pthread_join(flood.thread, NULL);
        {
            uint8_t frame[FRAME_MAX];

            while (hear(to[0], frame, sizeof frame, 50) != 0)
                ;
        }
    }
    is_int(netring_bridge_close(run.bridge), NETRING_EBADF, "closed twice");
    for (int way = 0; way < 2; way++) {
        close(from[way]);
        close(to[way]);
    }
}

/* Forks at frame 7: the child has nothing to say in what its parent does. */
static int fork_in_callback(void *user, uint32_t direction, struct netring_packet *packets,
                            uint8_t *verdicts, size_t count, size_t size)
{
    pid_t *child = user;

    (void)direction, (void)verdicts, (void)size;
    for (size_t i = 0; i < count && *child == -1; i++) {
        if (frame_number(packets[i].data) == 7)
            *child = fork();
    }
    return 0;
}

static void test_fork(void)
{
    int from = net_sender("wa"), to = listener("wb"), status;
    pid_t child = -1;
    struct run run = {.bridge = bridge_open(NULL), .directions = A};

    /* On the thread that forks, so that the child has the run, too. */
    run.callback = fork_in_callback;
    run.user = &child;
    run_start(&run);
    await_running(&run, from, to);
    netring_bridge_close(run.bridge);
    run_ends(&run, NETRING_EBADF, "closed");
    run.bridge = bridge_open(NULL);
    {
        struct judging judging = {.end_at = 9};

        run.callback = judge;
        run.user = &judging;
        run_start(&run);
        while (!atomic_load(&run.over)) {
            send_frames(from, 9, 1, 60);
            sleep_ms(5);
        }
        run_ends(&run, 0, "received from here on");
    }
    {
        uint8_t frame[FRAME_MAX];

        while (hear(to, frame, sizeof frame, 50) != 0)
            ;
    }
    send_frames(from, 7, 1, 60);
    fflush(stdout);
    to_stop = run.bridge;
    signal(SIGALRM, on_signal);
    alarm(1);
    {
        const int rc = netring_bridge_run(run.bridge, A, fork_in_callback, &child);

        if (child == 0)
            _exit(rc == NETRING_EBADF ? 0 : 1);
        is_int(rc, NETRING_ESHUTDOWN, "the parent's run");
    }
    signal(SIGALRM, SIG_DFL);
    ok(child > 0 && waitpid(child, &status, 0) == child && status == 0,
       "a child that is forked in the callback: its run is over");
    {
        uint8_t want[60], got[FRAME_MAX];
        size_t came;

        do /* the run before may have ended with more than one frame 9 in its ring */
            came = hear(to, got, sizeof got, FOREVER);
        while (came == 60 && frame_number(got) == 9);
        frame_make(want, sizeof want, 7);
        ok(came == 60 && memcmp(got, want, 60) == 0, "the parent's packet leaves");
        silence(to, "and leaves once");
    }
    adds_up(run.bridge, A, "fork");
    is_int(netring_bridge_close(run.bridge), 0, "close");
    close(from);
    close(to);
}

/* ---- two namespaces, and what a connection sends ---- */

static void offload(const char *link, bool on)
{
    static const uint32_t what[] = {ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    for (size_t i = 0; i < COUNT(what); i++) {
        struct ethtool_value value = {.cmd = what[i], .data = on};
        struct ifreq request = {.ifr_data = (void *)&value};

        snprintf(request.ifr_name, sizeof request.ifr_name, "%s", link);
        if (ioctl(fd, SIOCETHTOOL, &request) != 0)
            tap_bail("offloads of %s: %s", link, strerror(errno));
    }
    close(fd);
}

/* A child sends so many bytes of a known stream to the address; its end is its exit. */
static pid_t tcp_sender(int namespace, const char *address, size_t bytes)
{
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(5000)};
        static uint8_t data[1 << 16];
        size_t sent = 0;
        int fd;

        alarm((unsigned)(FOREVER / 1000 * 6));
        net_namespace_enter(namespace);
        inet_pton(AF_INET, address, &to.sin_addr);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
            _exit(1);
        while (sent < bytes) {
            size_t n = bytes - sent < sizeof data ? bytes - sent : sizeof data;
            ssize_t done;

            for (size_t i = 0; i < n; i++)
                data[i] = (uint8_t)((sent + i) * 2654435761u >> 13);
            for (size_t at = 0; at < n; at += (size_t)done)
                if ((done = write(fd, data + at, n - at)) <= 0)
                    _exit(2);
            sent += n;
        }
        shutdown(fd, SHUT_WR);
        /* Until the other side has read all of it. */
        _exit(read(fd, data, 1) == 0 ? 0 : 3);
    }
    return child;
}

/* How many bytes of that stream come, all right. */
static size_t tcp_receive(int server)
{
    static uint8_t data[1 << 16];
    struct timeval limit = {FOREVER / 1000 * 2, 0};
    int fd = accept(server, NULL, NULL);
    size_t got = 0;
    ssize_t n;

    if (fd < 0)
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while ((n = read(fd, data, sizeof data)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (data[i] != (uint8_t)((got + (size_t)i) * 2654435761u >> 13)) {
                tap_diag("byte %zu is wrong", got + (size_t)i);
                close(fd);
                return got;
            }
        got += (size_t)n;
    }
    close(fd);
    return got;
}

static atomic_uint super_packets;

static int count_super(void *user, uint32_t direction, struct netring_packet *packets,
                       uint8_t *verdicts, size_t count, size_t size)
{
    (void)user, (void)direction, (void)verdicts, (void)size;
    for (size_t i = 0; i < count; i++)
        if (packets[i].gso_type != NETRING_GSO_NONE && packets[i].caplen > 3000)
            atomic_fetch_add(&super_packets, 1);
    return 0;
}

/* As before Linux 5.14, where no socket tells its namespace. */
static void without_cookies(void *user)
{
    enum { SO_NETNS_COOKIE_ = 71 };
    const struct refusal refusal = {
        SYS_getsockopt, ENOPROTOOPT, 1, {{2, ~0u, SO_NETNS_COOKIE_, false}}};
    struct netring_bridge_config config = *(const struct netring_bridge_config *)user;
    struct netring_bridge *bridge = NULL;
    struct netring_error err;

    refuse(&refusal);
    is_int(netring_bridge_open("eth0", "eth0", &config, &bridge, &err), 0,
           "two of one name and number, in two namespaces: %s", err.message);
    netring_bridge_close(bridge);
    config.netns_fd_b = config.netns_fd_a;
    is_int(netring_bridge_open("eth0", "eth0", &config, &bridge, &err), NETRING_EINVAL,
           "in one they are one");
}

static void test_namespaces(void)
{
    const size_t bytes = tap_patience(1000) > 1000 ? 2 * MIB : 128 * MIB;
    struct netring_bridge_config config = NETRING_BRIDGE_CONFIG_INIT;
    int here = net_namespace(), left = net_namespace_new(), right = net_namespace_new();
    int ends[2] = {net_namespace_new(), net_namespace_new()};
    struct timeval limit = {FOREVER / 1000, 0};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(5000)};
    int server, one = 1;

    /* left: a0, right: b0 are the bridge's; their peers, called the same, the connection's. */
    for (int side = 0; side < 2; side++) {
        net_namespace_enter(side ? right : left);
        net_veth("eth0", "peer");
        net_link_move("peer", ends[side]);
        net_namespace_enter(ends[side]);
        net_link_up("peer", true);
        net_ipv4("peer", side ? "10.77.0.2" : "10.77.0.1");
        net_namespace_enter(side ? right : left);
        net_await_carrier("eth0");
    }
    net_namespace_enter(ends[1]);
    server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (bind(server, (struct sockaddr *)&at, sizeof at) != 0 || listen(server, 5) != 0)
        tap_bail("listening: %s", strerror(errno));
    net_namespace_enter(here);

    config.flags = NETRING_BRIDGE_NETNS_FD_A | NETRING_BRIDGE_NETNS_FD_B;
    config.netns_fd_a = left;
    config.netns_fd_b = right;
    child_run("no namespace cookies", without_cookies, &config);
    for (int turn = 0; turn < 4; turn++) {
        const bool on = turn < 2, with = turn % 2;
        struct run run = {.directions = BOTH, .callback = with ? count_super : NULL};
        struct netring_error err;
        char what[64];
        pid_t sender;
        int status;

        snprintf(what, sizeof what, "offloads %s, %s callback", on ? "on" : "off",
                 with ? "with a" : "no");
        for (int side = 0; side < 2; side++) {
            net_namespace_enter(ends[side]);
            offload("peer", on);
        }
        net_namespace_enter(here);
        atomic_store(&super_packets, 0);
        if (netring_bridge_open("eth0", "eth0", &config, &run.bridge, &err) != 0)
            tap_bail("netring_bridge_open: %s", err.message);
        run_start(&run);
        sender = tcp_sender(ends[0], "10.77.0.2", bytes);
        is_int(tcp_receive(server), bytes, "%s: every byte came, and was right", what);
        ok(waitpid(sender, &status, 0) == sender && status == 0, "%s: the sender's end", what);
        run_stop(&run, what);
        for (int way = 0; way < 2; way++) {
            struct netring_bridge_stats stats = bridge_stats(run.bridge, way ? B : A);

            adds_up(run.bridge, way ? B : A, what);
            is_int(stats.refused + stats.too_large + stats.unreadable, 0,
                   "%s: what is sent can be sent on", what);
            ok(stats.forwarded > 0, "%s: packets both ways", what);
        }
        if (with)
            ok((super_packets > 0) == on, "%s: %u super-packets crossed as such", what,
               super_packets);
        netring_bridge_close(run.bridge);
    }
    close(server);
    close(left);
    close(right);
    close(ends[0]);
    close(ends[1]);
    close(here);
}

/* ---- what the kernel tells beside a packet ---- */

/* UDP over IPv4 to nobody; the checksum is to come. */
static size_t udp_frame(uint8_t *frame, size_t payload)
{
    const size_t udp = 8 + payload, ip = 20 + udp;

    memset(frame, 0, 14 + ip);
    memset(frame, 2, 12);
    frame[12] = 8;
    frame[14] = 0x45;
    frame[16] = (uint8_t)(ip >> 8);
    frame[17] = (uint8_t)ip;
    frame[22] = 64;
    frame[23] = 17;
    memset(frame + 26, 10, 8);
    frame[34] = frame[36] = 0x12;
    frame[38] = (uint8_t)(udp >> 8);
    frame[39] = (uint8_t)udp;
    for (size_t i = 0; i < payload; i++)
        frame[42 + i] = (uint8_t)i;
    return 14 + ip;
}

static bool tap_give(int tap, const struct virtio_net_hdr *vnet, const uint8_t *frame,
                     size_t length)
{
    struct iovec parts[2] = {{(void *)(uintptr_t)vnet, sizeof *vnet},
                             {(void *)(uintptr_t)frame, length}};

    return writev(tap, parts, 2) == (ssize_t)(sizeof *vnet + length);
}

/* Puts a tag behind the addresses, and says so. */
static int push_tag(void *user, uint32_t direction, struct netring_packet *packets,
                    uint8_t *verdicts, size_t count, size_t size)
{
    (void)user, (void)direction, (void)size;
    for (size_t i = 0; i < count; i++) {
        packets[i].caplen = (uint32_t)frame_tag(packets[i].data, packets[i].caplen, 0x8100, 5);
        packets[i].net_offset += 4;
        verdicts[i] = NETRING_VERDICT_MODIFIED;
    }
    return 0;
}

static void test_vnet(void)
{
    const struct virtio_net_hdr plain = {.flags = 0};
    const struct virtio_net_hdr csum = {.flags = 1, .csum_start = 34, .csum_offset = 6};
    const struct virtio_net_hdr fragments = {
        .flags = 1, .gso_type = 3, .gso_size = 400, .csum_start = 34, .csum_offset = 6};
    int tap = net_tun("tap0", IFF_TAP | IFF_VNET_HDR), to = listener("wb");
    uint8_t frame[2048], got[2048], large[2048];
    const size_t length = udp_frame(frame, 100), largest = udp_frame(large, 900);
    struct run run = {.directions = A};
    struct netring_bridge_stats stats;

    if (tap < 0) {
        tap_skip("checksums and segmentation", "there is no tap device");
        close(to);
        return;
    }
    if (netring_bridge_open("tap0", "vb", NULL, &run.bridge, NULL) != 0)
        tap_bail("netring_bridge_open failed");
    run_start(&run);
    do
        if (!tap_give(tap, &plain, frame, length))
            tap_bail("the tap device takes no packet: %s", strerror(errno));
    while (hear(to, got, sizeof got, 20) == 0);
    while (hear(to, got, sizeof got, 50) != 0)
        ;
    base.bridge = NULL;
    base.stats[0] = bridge_stats(run.bridge, A);
    base.bridge = run.bridge;

    /* A packet without a header is lost, and counted; those around it are not. */
    for (int i = 0; i < 10; i++) {
        tap_give(tap, &plain, frame, length);
        tap_give(tap, &fragments, large, largest);
        tap_give(tap, &plain, frame, length);
    }
    for (int i = 0; i < 20; i++) {
        const size_t came = hear(to, got, sizeof got, FOREVER);

        if (came != length || memcmp(got, frame, length) != 0)
            tap_bail("packet %d: %zu bytes", i, came);
    }
    silence(to, "packets without a header");
    stats = bridge_stats(run.bridge, A);
    is_int(stats.received, 20, "packets with a header");
    is_int(stats.unreadable, 10, "packets without one");
    run_stop(&run, "packets without a header");
    netring_bridge_close(run.bridge);

    /* What was said of the checksum moves with a tag that the callback puts in: computed where
     * it is now, as the receiver finds it without its offload. */
    offload("vb", false);
    run.callback = push_tag;
    if (netring_bridge_open("tap0", "vb", NULL, &run.bridge, NULL) != 0)
        tap_bail("netring_bridge_open failed");
    run_start(&run);
    do
        tap_give(tap, &csum, frame, length);
    while (hear(to, got, sizeof got, 20) == 0);
    run_stop(&run, "a checksum that moves");
    {
        uint32_t sum = 0;

        /* From the UDP header on, with the checksum in it, over what was 0 there. */
        for (size_t i = 38; i + 1 < length + 4; i += 2)
            sum += (uint32_t)got[i] << 8 | got[i + 1];
        while (sum >> 16)
            sum = (sum & 0xffff) + (sum >> 16);
        is_int(sum, 0xffff, "the checksum was completed where it belongs");
        is_bytes(got + 12, "\x81\x00\x00\x05\x08\x00", 6, "behind the tag");
    }
    netring_bridge_close(run.bridge);
    offload("vb", true);
    close(tap);
    close(to);
}

/* ---- opening ---- */

static void open_refused(const char *a, const char *b, const struct netring_bridge_config *config,
                         const struct failure *want, const char *what)
{
    struct netring_bridge *const untouched = (struct netring_bridge *)(uintptr_t)0x1230;
    struct netring_bridge *bridge = untouched;
    const struct footprint before = footprint_now();
    struct netring_error err;
    int rc;

    error_spoil(&err);
    errno = 0;
    rc = netring_bridge_open(a, b, config, &bridge, &err);
    is_failure(rc, errno, &err, want, what);
    ok(bridge == untouched, "%s: out is not written", what);
    is_footprint(before, what);
}

static void test_open(void)
{
    struct netring_bridge_config config;
    struct netring_bridge *bridge;
    struct netring_bridge_info info;
    struct netring_bridge_stats stats;
    struct footprint before = footprint_now();

#define REFUSED(change, code, step, word)                                                          \
    do {                                                                                           \
        netring_bridge_config_init(&config, sizeof config);                                        \
        change;                                                                                    \
        open_refused("va", "vb", &config, &(struct failure){code, 0, step, {word}}, #change);      \
    } while (0)
    REFUSED(config.init = 0, NETRING_EINVAL, "init", "netring_bridge_config_init");
    REFUSED(config.size = 8, NETRING_EINVAL, "size", "16 to 4096");
    REFUSED(config.flags = 1 << 20, NETRING_EINVAL, "flags", "0x100000");
    REFUSED(config.batch = 0, NETRING_EINVAL, "batch", "1 to 1024");
    REFUSED(config.packet_size = 63, NETRING_EINVAL, "packet_size", "64 to 131072");
    REFUSED(config.receive_buffer = 0, NETRING_EINVAL, "receive_buffer", "1 to 1073741824");
    REFUSED(config.patience_us = 1000001, NETRING_EINVAL, "patience_us", "0 to 1000000");
    REFUSED(config.netns_fd_a = 3, NETRING_EINVAL, "netns_fd_a", "NETRING_BRIDGE_NETNS_FD_A");
    REFUSED(config.netns_fd_b = 3, NETRING_EINVAL, "netns_fd_b", "NETRING_BRIDGE_NETNS_FD_B");
#undef REFUSED
    netring_bridge_config_init(&config, sizeof config);
    config.flags = NETRING_BRIDGE_NETNS_FD_B;
    config.netns_fd_b = 0;
    open_refused("va", "vb", &config,
                 &(struct failure){NETRING_EINVAL, 0, "netns_fd_b", {"no network namespace"}},
                 "what is no namespace");
    config.netns_fd_b = 999;
    open_refused("va", "vb", &config,
                 &(struct failure){NETRING_EINVAL, 0, "netns_fd_b", {"netns_fd_b 999 is not"}},
                 "what is not open");
    netring_bridge_config_init(&config, sizeof config);
    config.memory_limit = 100000;
    open_refused("va", "vb", &config,
                 &(struct failure){NETRING_EMMAP, ENOMEM, "memory_limit", {"50000", "packet_size"}},
                 "a memory limit");
    open_refused("va", "va", NULL,
                 &(struct failure){NETRING_EINVAL, 0, "interface", {"are one interface"}},
                 "one interface");
    open_refused("va", "lo", NULL, &(struct failure){NETRING_EINVAL, 0, "interface", {"loopback"}},
                 "lo");
    open_refused("any", "vb", NULL, &(struct failure){NETRING_EINVAL, 0, "a", {"two interfaces"}},
                 "any");
    open_refused("va", "", NULL, &(struct failure){NETRING_EINVAL, 0, "b", {"is empty"}},
                 "no name");
    open_refused("va", "nosuch", NULL,
                 &(struct failure){NETRING_ENODEV, ENODEV, "interface", {"nosuch"}},
                 "an interface that is not there");
    open_refused(NULL, "vb", NULL, &(struct failure){NETRING_EINVAL, 0, "a", {"NULL"}}, "NULL");
    {
        int tun = net_tun("tun0", IFF_TUN);

        if (tun >= 0)
            open_refused("va", "tun0", NULL,
                         &(struct failure){NETRING_EINVAL, 0, "interface", {"link types (1, 101)"}},
                         "another link type");
        else
            tap_skip("another link type", "there is no tun device");
        close(tun);
    }
    is_int(netring_bridge_open("va", "vb", NULL, NULL, NULL), NETRING_EINVAL, "no out");

    /* What it was granted, and what it leaves behind. */
    netring_bridge_config_init(&config, sizeof config);
    config.batch = 8;
    config.receive_buffer = 100000;
    config.patience_us = 17;
    bridge = bridge_open(&config);
    is_int(netring_bridge_info(bridge, &info, sizeof info), 0, "info");
    is_int(info.size, sizeof info, "size");
    is_int(info.link_type, NETRING_LINKTYPE_ETHERNET, "link_type");
    is_int(info.ifindex_a, net_index("va"), "ifindex_a");
    is_int(info.ifindex_b, net_index("vb"), "ifindex_b");
    is_str(info.interface_a, "va", "interface_a");
    is_str(info.interface_b, "vb", "interface_b");
    is_int(info.frame_limit_a, 1514, "frame_limit_a");
    is_int(info.frame_limit_b, 1514, "frame_limit_b");
    is_int(info.receive_buffer_a, 200000, "receive_buffer_a");
    is_int(info.receive_buffer_b, 200000, "receive_buffer_b");
    is_int(info.batch, 8, "batch");
    is_int(info.patience_us, 17, "patience_us");
    ok(info.capacity >= 65536 + 54, "capacity");
    is_between(info.memory, 32 * (uint64_t)info.capacity, 32 * (uint64_t)info.capacity + 4096,
               "memory");
    ok(info.kernel_version >= 0x040e00, "kernel_version");
    is_int(net_promiscuity("va"), 1, "promiscuous while it is open");
    is_int(net_promiscuity("vb"), 1, "both are");
    is_int(netring_bridge_stats(bridge, 3, &stats, sizeof stats), NETRING_EINVAL,
           "stats of both directions");
    is_int(netring_bridge_stats(bridge, A, NULL, sizeof stats), NETRING_EINVAL, "stats nowhere");
    is_int(netring_bridge_info(bridge, &info, 15), NETRING_EINVAL, "a short info");
    is_int(netring_bridge_run(bridge, 0, NULL, NULL), NETRING_EINVAL, "no direction");
    is_int(netring_bridge_run(bridge, 4, NULL, NULL), NETRING_EINVAL, "an unknown direction");
    is_int(netring_bridge_close(bridge), 0, "close");
    is_int(net_promiscuity("va"), 0, "no longer promiscuous");
    is_int(net_promiscuity("vb"), 0, "neither is");
    config.flags = NETRING_BRIDGE_NOT_PROMISCUOUS | NETRING_BRIDGE_QDISC_BYPASS;
    bridge = bridge_open(&config);
    is_int(net_promiscuity("va"), 0, "not promiscuous where that is not wanted");
    netring_bridge_close(bridge);
    is_footprint(before, "bridges");
}

/* ---- refused system calls ---- */

static const struct {
    const char *what;
    struct refusal refusal;
    struct failure want;
} steps[] = {
    {"no privilege",
     {SYS_socket, EPERM, 1, {{0, ~0u, AF_PACKET, false}}},
     {NETRING_EPERM, EPERM, "socket", {"CAP_NET_RAW"}}},
    {"no socket",
     {SYS_socket, EMFILE, 1, {{0, ~0u, AF_PACKET, false}}},
     {NETRING_ESOCKET, EMFILE, "socket", {"ulimit -n"}}},
    {"PACKET_IGNORE_OUTGOING",
     {SYS_setsockopt, ENOPROTOOPT, 2, {{1, ~0u, SOL_PACKET, false}, {2, ~0u, 23, false}}},
     {NETRING_ESOCKOPT, ENOPROTOOPT, "PACKET_IGNORE_OUTGOING", {"4.20"}}},
    {"PACKET_VNET_HDR",
     {SYS_setsockopt, EINVAL, 2, {{1, ~0u, SOL_PACKET, false}, {2, ~0u, 15, false}}},
     {NETRING_ESOCKOPT, EINVAL, "PACKET_VNET_HDR", {"PACKET_VNET_HDR"}}},
    {"PACKET_AUXDATA",
     {SYS_setsockopt, ENOPROTOOPT, 2, {{1, ~0u, SOL_PACKET, false}, {2, ~0u, 8, false}}},
     {NETRING_ESOCKOPT, ENOPROTOOPT, "PACKET_AUXDATA", {"PACKET_AUXDATA"}}},
    {"PACKET_ADD_MEMBERSHIP",
     {SYS_setsockopt, ENOBUFS, 2, {{1, ~0u, SOL_PACKET, false}, {2, ~0u, 1, false}}},
     {NETRING_ESOCKOPT, ENOBUFS, "PACKET_ADD_MEMBERSHIP (promiscuous)", {"refused"}}},
    {"bind", {SYS_bind, EPERM, 1, {{2, ~0u, 20, false}}}, {NETRING_EBIND, EPERM, "bind", {"va"}}},
    {"eventfd", {SYS_eventfd2, EMFILE, 0, {{0}}}, {NETRING_EIO, EMFILE, "eventfd", {"ulimit -n"}}},
};

static void refused_step(void *user)
{
    const size_t i = *(size_t *)user;

    refuse(&steps[i].refusal);
    open_refused("va", "vb", NULL, &steps[i].want, steps[i].what);
}

static const struct {
    const char *what;
    struct refusal refusal;
    int code;
    const char *option;
} runs[] = {
    {"recvmmsg", {SYS_recvmmsg, EPERM, 0, {{0}}}, NETRING_EIO, "recvmmsg"},
    {"poll", {SYS_poll, EPERM, 0, {{0}}}, NETRING_EIO, "poll"},
    {"sending", {SYS_sendto, EPERM, 0, {{0}}}, NETRING_EIO, "sendmmsg"},
    {"bind of a run", {SYS_bind, EPERM, 0, {{0}}}, NETRING_EBIND, "bind"},
};

static void refused_run(void *user)
{
    const size_t i = *(size_t *)user;
    struct netring_bridge *bridge = bridge_open(NULL);
    int from = net_sender("wa"), rc;
    struct netring_error err;

    if (runs[i].refusal.call != SYS_bind) {
        struct run run = {.bridge = bridge, .directions = A, .callback = NULL};
        struct judging judging = {.end_at = 9};

        /* Once, so that it receives; then a frame for the run that is refused something. */
        run.callback = judge;
        run.user = &judging;
        run_start(&run);
        while (!atomic_load(&run.over)) {
            uint8_t frame[60];

            frame_make(frame, 60, 9);
            send(from, frame, 60, MSG_DONTWAIT);
            sleep_ms(5);
        }
        run_ends(&run, 0, runs[i].what);
        send_frames(from, 1, 1, 60);
    }
    refuse(&runs[i].refusal);
    rc = netring_bridge_run(bridge, A, NULL, NULL);
    is_int(rc, runs[i].code, "%s refused", runs[i].what);
    netring_bridge_last_error(bridge, &err);
    is_str(err.option, runs[i].option, "%s refused: the step", runs[i].what);
    is_int(err.os_errno, EPERM, "%s refused: the reason", runs[i].what);
    adds_up(bridge, A, runs[i].what);
    is_int(netring_bridge_close(bridge), 0, "%s refused: close", runs[i].what);
    close(from);
}

static void test_refused(void)
{
    for (size_t i = 0; i < COUNT(steps); i++)
        child_run(steps[i].what, refused_step, &i);
    for (size_t i = 0; i < COUNT(runs); i++)
        child_run(runs[i].what, refused_run, &i);
}

int main(void)
{
    struct footprint before;

    tap_begin(150);
    net_enter();
    net_veth("wa", "va");
    net_veth("wb", "vb");
    net_await_carrier("va");
    net_await_carrier("vb");
    before = footprint_now();

    test_open();
    test_frames();
    test_verdicts();
    test_tags();
    test_too_large();
    test_slow();
    test_dropped();
    test_down();
    test_removed();
    test_ends();
    test_fork();
    test_vnet();
    test_namespaces();
    test_refused();
    is_int(net_promiscuity("va") + net_promiscuity("vb"), 0, "no interface is left promiscuous");
    is_footprint(before, "the whole test");
    return tap_end();
}
