/* AF_XDP on veth, native and in SKB mode: what an open says it has granted and why; which queues
 * have a socket; that a filter takes its match alone from the host's stack, where TCP goes on;
 * other filters at run time; programs and maps of the caller; detaching. */
#include "xdp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

enum { QUEUES = 4 };

/* ---- filters ---- */

/* UDP over IPv4, without options, to a port. */
static struct netring_filter *udp_filter(uint16_t port)
{
    const struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 3),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 36),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct netring_filter *filter = NULL;

    if (netring_filter_new(program, COUNT(program), &filter, NULL) < 0)
        tap_bail("netring_filter_new failed");
    return filter;
}

/* Numbered frames (inject.h) with this bit of the number. */
static struct netring_filter *bit_filter(uint8_t bit)
{
    const struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 11),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bit, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct netring_filter *filter = NULL;

    if (netring_filter_new(program, COUNT(program), &filter, NULL) < 0)
        tap_bail("netring_filter_new failed");
    return filter;
}

/* ---- info ---- */

static void test_info(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct xdp_one one = xdp_one("va", &config);
    struct netring_xdp_info info = xdp_info(one.xdp);
    struct xdp_attached attached = xdp_attached("va");
    struct netring_queue_info queue;
    struct netring_xdp_step steps[4];

    is_int(info.size, sizeof info, "%s: info.size", mode->name);
    is_int(info.mode, mode->mode, "%s: mode", mode->name);
    is_int(info.requested_mode, mode->mode, "%s: requested_mode", mode->name);
    is_int(info.redirect, NETRING_REDIRECT_ALL, "%s: redirect", mode->name);
    is_int(info.queue_count, 1, "%s: queue_count", mode->name);
    is_int(info.interface_queues, 1, "%s: interface_queues", mode->name);
    is_int(info.ifindex, net_index("va"), "%s: ifindex", mode->name);
    is_int(info.link_type, 1, "%s: link_type", mode->name);
    is_int(info.mtu, 1500, "%s: mtu", mode->name);
    is_int(info.frame_size, 2048, "%s: frame_size", mode->name);
    is_int(info.headroom, 0, "%s: headroom", mode->name);
    is_int(info.rx_frames, XDP_RX_FRAMES, "%s: rx_frames", mode->name);
    is_int(info.tx_frames, XDP_TX_FRAMES, "%s: tx_frames", mode->name);
    ok(info.fill_ring >= info.rx_frames && info.completion_ring >= info.tx_frames &&
           info.rx_ring >= 64 && info.tx_ring >= 64,
       "%s: rings %u %u %u %u", mode->name, info.rx_ring, info.tx_ring, info.fill_ring,
       info.completion_ring);
    is_int(info.block_packets, 64, "%s: block_packets", mode->name);
    is_int(info.steps, 0, "%s: no step down from what was asked for", mode->name);
    is_int(netring_xdp_steps(one.xdp, steps, sizeof *steps, COUNT(steps)), 0, "%s: none to tell",
           mode->name);
    is_str(info.interface, "va", "%s: interface", mode->name);
    ok(info.memory >= (XDP_RX_FRAMES + XDP_TX_FRAMES) * 2048u && info.memory <= info.memory_bound,
       "%s: memory %llu, bound %llu", mode->name, (unsigned long long)info.memory,
       (unsigned long long)info.memory_bound);
    ok(info.program_id != 0 && info.program_id == attached.id,
       "%s: program %u is the interface's, %u", mode->name, info.program_id, attached.id);
    is_int(attached.native, mode->mode == NETRING_MODE_COPY, "%s: attached as that", mode->name);
    is_int(xdp_program_id(netring_xdp_fd(one.xdp, NETRING_XDP_FD_PROGRAM)), info.program_id,
           "%s: its descriptor", mode->name);
    is_int(netring_queue_info(one.queue, &queue, sizeof queue), 0, "%s: queue info", mode->name);
    is_int(queue.queue, 0, "%s: queue.queue", mode->name);
    is_int(queue.mode, mode->mode, "%s: queue.mode", mode->name);
    is_int(queue.ifindex, info.ifindex, "%s: queue.ifindex", mode->name);
    queue_adds_up(one.queue, mode->name);
    queue_is_idle(one.queue, mode->name);
    xdp_close(one.xdp);
    xdp_is_detached("va", mode->name);
    is_int(netring_queue_fd(one.queue), NETRING_EBADF, "%s: its queues are stale", mode->name);
}

/* The modes that it has tried before, each with the reason. */
static void test_steps(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_AUTO);
    struct xdp_one one = xdp_one("va", &config);
    struct netring_xdp_info info = xdp_info(one.xdp);
    struct netring_xdp_step steps[4];

    memset(steps, 0xaa, sizeof steps);
    is_int(info.mode, NETRING_MODE_COPY, "veth: native, copied");
    is_int(info.requested_mode, NETRING_MODE_AUTO, "as well as it can");
    is_int(info.steps, 1, "veth: one step down");
    is_int(netring_xdp_steps(one.xdp, steps, sizeof *steps, COUNT(steps)), 1, "is told");
    is_int(steps[0].mode, NETRING_MODE_ZEROCOPY, "veth: not zero-copy");
    ok(steps[0].option[0] && strlen(steps[0].message) > 10, "because %s: %s", steps[0].option,
       steps[0].message);
    is_int(netring_xdp_steps(one.xdp, steps, sizeof *steps, 0), 0, "none fits into nothing");
    xdp_close(one.xdp);

    if (xdp_kernel(6, 6)) {
        config.flags |= NETRING_XDP_MULTI_BUFFER;
        one = xdp_one("va", &config);
        is_int(netring_xdp_steps(one.xdp, steps, sizeof *steps, COUNT(steps)), 1,
               "several frames: one step down");
        ok(strstr(steps[0].message, "driver") && !strstr(steps[0].message, "MULTI_BUFFER"),
           "which the flag is not to blame for: %s", steps[0].message);
        xdp_close(one.xdp);
        config.flags &= ~NETRING_XDP_MULTI_BUFFER;
    }

    one = xdp_one("lo", &config);
    info = xdp_info(one.xdp);
    is_int(info.mode, NETRING_MODE_SKB, "lo has no driver's hook: SKB mode");
    is_int(info.steps, 1, "lo: one step down");
    is_int(netring_xdp_steps(one.xdp, steps, sizeof *steps, COUNT(steps)), 1, "is told");
    is_int(steps[0].mode, NETRING_MODE_COPY, "lo: not native, so neither zero-copy");
    ok(strcmp(steps[0].option, "attach") == 0 && strlen(steps[0].message) > 10, "because %s: %s",
       steps[0].option, steps[0].message);
    xdp_close(one.xdp);
    xdp_is_detached("lo", "lo");
}

/* ---- ways to work a queue ---- */

static void test_busy_poll(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct netring_queue_info info;
    struct netring_xdp_counters counters;
    int sender = net_sender("vb");
    struct xdp_one a;

    config.busy_poll = 20;
    config.busy_poll_budget = 16;
    if (!xdp_kernel(5, 11)) {
        xdp_open_fails(
            "busy polling before Linux 5.11", "va", NULL, 0, &config,
            &(struct failure){NETRING_ESOCKOPT, ENOPROTOOPT, "SO_PREFER_BUSY_POLL", {"5.11"}});
    } else {
        a = xdp_one("va", &config);
        netring_queue_info(a.queue, &info, sizeof info);
        is_int(info.busy_poll, 20, "%s: busy polling is granted", mode->name);
        for (uint32_t i = 0; i < 500; i += 50) {
            send_stream(sender, i, 50);
            queue_is_stream(a.queue, i, 50, "by busy polling");
        }
        queue_commit_stream(a.queue, 0, 50);
        queue_drains(a.queue, "by busy polling");
        xdp_close(a.xdp);
    }
    config.busy_poll = config.busy_poll_budget = 0;
    config.flags |= NETRING_XDP_NO_NEED_WAKEUP;
    a = xdp_one("va", &config);
    send_stream(sender, 0, 50);
    queue_is_stream(a.queue, 0, 50, "without need_wakeup");
    queue_commit_stream(a.queue, 0, 50);
    queue_drains(a.queue, "without need_wakeup");
    netring_queue_info(a.queue, &info, sizeof info);
    is_int(info.busy_poll, 0, "%s: no busy polling", mode->name);
    is_int(netring_queue_counters(a.queue, &counters, sizeof counters), 0, "%s: counters",
           mode->name);
    ok(counters.tx_kicks > 0, "%s: %llu kicks", mode->name, (unsigned long long)counters.tx_kicks);
    xdp_close(a.xdp);
    close(sender);
}

static void test_carrier(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_COPY);
    int64_t start;
    struct xdp_one a;

    net_veth("ca", "cb");
    net_await_carrier("ca");
    config.carrier_timeout = (uint32_t)tap_patience(5000);
    start = now_ms();
    a = xdp_one("ca", &config);
    xdp_close(a.xdp);
    is_between(now_ms() - start, 0, tap_patience(4000), "a carrier is not waited for");
    net_link_up("cb", false);
    net_await_no_carrier("ca");
    config.carrier_timeout = 100;
    start = now_ms();
    a = xdp_one("ca", &config);
    is_between(now_ms() - start, 99, tap_patience(4000), "no carrier: 100 ms, and no error");
    xdp_close(a.xdp);
    net_link_delete("ca");
}

/* ---- queues ---- */

static void test_queue_list(void)
{
    const uint32_t some[] = {3, 1};
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_AUTO);
    struct netring_xdp *xdp = xdp_open("qa", some, COUNT(some), &config);
    struct netring_queue *queue = NULL;
    struct netring_queue_info info;
    uint32_t missing[QUEUES] = {99, 99, 99, 99};

    is_int(xdp_info(xdp).queue_count, 2, "two of four: sockets");
    is_int(xdp_info(xdp).interface_queues, QUEUES, "two of four: queues");
    for (uint32_t i = 0; i < COUNT(some); i++) {
        netring_queue_info(xdp_queue(xdp, i), &info, sizeof info);
        is_int(info.queue, some[i], "two of four: queue %u is number %u", i, some[i]);
    }
    is_int(netring_xdp_queue(xdp, 2, &queue), NETRING_EINVAL, "two of four: there is no third");
    ok(queue == NULL, "and no handle");
    is_int(netring_xdp_missing(xdp, missing, 1), 2, "two of four: two are missing");
    ok(missing[0] == 0 && missing[1] == 99, "the first one, and no more than fits");
    is_int(netring_xdp_missing(xdp, missing, COUNT(missing)), 2, "two of four: two are missing");
    ok(missing[0] == 0 && missing[1] == 2 && missing[2] == 99, "0 and 2");
    ok(xdp_queue(xdp, 1) == xdp_queue(xdp, 1), "a queue has one handle");
    xdp_close(xdp);
    xdp = xdp_open("qa", NULL, 0, &config);
    is_int(xdp_info(xdp).queue_count, QUEUES, "all by default");
    is_int(netring_xdp_missing(xdp, missing, COUNT(missing)), 0, "none is missing");
    xdp_close(xdp);
}

/* Where veth has what goes out by a queue come in: in the driver by the same, but in SKB mode the
 * kernel takes the sender's queue for a recorded one, which is one more than that of the receiver
 * (skb_rx_queue_recorded). */
static uint32_t comes_in_by(const struct xdp_mode *mode, uint32_t queue)
{
    return mode->mode == NETRING_MODE_SKB && queue > 0 ? queue - 1 : queue;
}

/* What goes out by a queue comes in by one, and by no other; the sums are of all. */
static void test_queues(const struct xdp_mode *mode)
{
    enum { EACH = 100 };
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    uint32_t received[QUEUES] = {0}, to;
    struct netring_xdp *a, *b;
    struct netring_stats all;
    struct netring_xdp_counters counters;
    struct netring_packet packet;
    char what[64];

    config.rx_frames = config.tx_frames = 256;
    a = xdp_open("qa", NULL, 0, &config);
    b = xdp_open("qb", NULL, 0, &config);
    for (uint32_t i = 0; i < QUEUES; i++) {
        queue_commit_stream(xdp_queue(a, i), i * 1000, EACH);
        is_int(netring_queue_flush(xdp_queue(a, i)), EACH, "%s: queue %u takes them", mode->name,
               i);
        to = comes_in_by(mode, i);
        received[to] += EACH;
        snprintf(what, sizeof what, "%s: from queue %u to queue %u", mode->name, i, to);
        queue_is_stream(xdp_queue(b, to), i * 1000, EACH, what);
        for (uint32_t k = 0; k < QUEUES; k++)
            is_int(queue_stats(xdp_queue(b, k)).received, received[k], "%s: received by queue %u",
                   mode->name, k);
    }
    is_int(netring_xdp_stats(b, &all, sizeof all), 0, "%s: stats of all", mode->name);
    is_int(all.received, QUEUES * EACH, "%s: received by all", mode->name);
    is_int(all.delivered, QUEUES * EACH, "%s: delivered by all", mode->name);
    is_int(netring_xdp_counters(b, &counters, sizeof counters), 0, "%s: counters of all",
           mode->name);
    is_int(counters.rx_frames, QUEUES * 256, "%s: frames of all", mode->name);
    /* Its number is in the packet, too. */
    to = comes_in_by(mode, 2);
    queue_commit_stream(xdp_queue(a, 2), 7, 1);
    netring_queue_flush(xdp_queue(a, 2));
    if (is_int(netring_queue_next_packet(xdp_queue(b, to), (int)tap_patience(1000), &packet,
                                         sizeof packet),
               1, "%s: one more", mode->name))
        ok(packet.queue == to && packet.ifindex == net_index("qb") && packet.link_type == 1 &&
               packet.clock == NETRING_CLOCK_TAKEN && packet.status == 0 && packet.segments == 0,
           "%s: a packet of queue %u, interface %u, link type %u, clock %u, status %x", mode->name,
           packet.queue, packet.ifindex, packet.link_type, packet.clock, packet.status);
    xdp_close(a);
    xdp_close(b);
}

/* A queue without a socket leaves its packets to the host's stack. */
static void test_missing_queue(const struct xdp_mode *mode)
{
    const uint32_t third = comes_in_by(mode, 2);
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct netring_xdp *a = xdp_open("qa", NULL, 0, &config);
    struct netring_xdp *b = xdp_open("qb", &third, 1, &config);
    static struct sink stack;

    sink_open(&stack, "qb");
    queue_commit_stream(xdp_queue(a, 1), 100, 20);
    queue_commit_stream(xdp_queue(a, 2), 200, 20);
    netring_queue_flush(xdp_queue(a, 1));
    netring_queue_flush(xdp_queue(a, 2));
    queue_is_stream(xdp_queue(b, 0), 200, 20, "the queue with a socket");
    sink_is_stream(&stack, 100, 20, "the queue without");
    sink_is_empty(&stack, "the host");
    queue_is_empty(xdp_queue(b, 0), "the socket");
    sink_close(&stack);
    xdp_close(a);
    xdp_close(b);
}

/* ---- what is redirected ---- */

/* Sends numbers 0..31 from vb: those of the mask reach the queue, all others the host. */
static void goes_to(struct netring_queue *queue, int sender, uint32_t mask, bool inverse,
                    const char *what)
{
    static struct sink stack;
    struct records got = {0};
    uint32_t redirected = 0, want = 0;
    bool right = true;

    sink_open(&stack, "va");
    for (uint32_t i = 0; i < 32; i++) {
        uint8_t frame[60];

        numbered_make(frame, sizeof frame, i, false);
        net_send(sender, frame, sizeof frame);
        want += ((i & mask) != 0) != inverse;
    }
    queue_receive(queue, want, 1000, &got);
    for (uint32_t i = 0; i < 32; i++) {
        if (((i & mask) != 0) != inverse) {
            right = right && redirected < got.count &&
                    numbered_number(got.v[redirected].packet.data) == i;
            redirected++;
        } else {
            right = right && sink_next(&stack, (int)tap_patience(1000)) == 60 &&
                    numbered_number(stack.frame) == i;
        }
    }
    ok(right && redirected == got.count, "%s: %u of 32 are redirected, the others are the host's",
       what, want);
    sink_is_empty(&stack, what);
    queue_is_empty(queue, what);
    sink_close(&stack);
    records_free(&got);
}

static void test_redirect(const struct xdp_mode *mode)
{
    struct netring_filter *ones = bit_filter(1), *fours = bit_filter(4);
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_FILTER, mode->mode);
    struct netring_error error;
    struct xdp_one a;
    uint32_t first;
    int sender = net_sender("vb");

    config.filter = ones;
    a = xdp_one("va", &config);
    first = xdp_attached("va").id;
    goes_to(a.queue, sender, 1, false, "a filter");
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_FILTER, fours, &error), 0,
           "%s: another filter", mode->name);
    is_no_error(&error, "another filter");
    goes_to(a.queue, sender, 4, false, "another filter");
    is_int(xdp_info(a.xdp).program_id, xdp_attached("va").id, "%s: its program", mode->name);
    ok(xdp_attached("va").id != first, "%s: is another", mode->name);
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_ALL, NULL, NULL), 0, "%s: everything",
           mode->name);
    goes_to(a.queue, sender, 0, true, "everything");
    is_int(xdp_info(a.xdp).redirect, NETRING_REDIRECT_ALL, "%s: is told", mode->name);
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_NONE, NULL, NULL), 0, "%s: nothing",
           mode->name);
    goes_to(a.queue, sender, 0, false, "nothing");
    /* What is wrong leaves it as it is. */
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_FILTER, NULL, &error), NETRING_EINVAL,
           "%s: a filter that is not there", mode->name);
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_ALL, ones, &error), NETRING_EINVAL,
           "%s: a filter for everything", mode->name);
    is_int(netring_xdp_set_filter(a.xdp, 0, NULL, &error), NETRING_EINVAL, "%s: no choice",
           mode->name);
    is_int(netring_xdp_set_filter(a.xdp, 4, NULL, &error), NETRING_EINVAL, "%s: another choice",
           mode->name);
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_FILTER,
                                  (struct netring_filter *)(void *)a.queue, &error),
           NETRING_EBADF, "%s: a queue for a filter", mode->name);
    goes_to(a.queue, sender, 0, false, "still nothing");
    /* The filter is not needed any more. */
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_FILTER, ones, NULL), 0,
           "%s: the first filter again", mode->name);
    netring_filter_free(ones);
    netring_filter_free(fours);
    goes_to(a.queue, sender, 1, false, "the first filter again");
    xdp_close(a.xdp);
    close(sender);
}

/* ---- filters under load ---- */

struct load {
    int sender;
    uint32_t count;
    uint32_t taken; /* atomic */
};

static void *sends(void *user)
{
    struct load *load = user;
    uint8_t frame[60];

    for (uint32_t i = 1; i <= load->count; i++) {
        while (i - __atomic_load_n(&load->taken, __ATOMIC_ACQUIRE) > 100)
            usleep(100);
        numbered_make(frame, sizeof frame, i, false);
        net_send(load->sender, frame, sizeof frame);
    }
    return NULL;
}

/* Not one frame is lost or seen twice while filters change. */
static void test_swap_under_load(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_filter *filter = bit_filter(1);
    struct load load = {.sender = net_sender("vb"), .count = tap_patience(1) > 1 ? 1000 : 20000};
    uint32_t redirected = 0, passed = 0, wrong = 0, swaps = 0;
    int64_t last = now_ms();
    static uint8_t seen[20001];
    static struct sink stack;
    pthread_t thread;

    memset(seen, 0, sizeof seen);
    sink_open(&stack, "va");
    pthread_create(&thread, NULL, sends, &load);
    while (redirected + passed < load.count && now_ms() - last < tap_patience(2000)) {
        static const uint32_t choices[] = {NETRING_REDIRECT_NONE, NETRING_REDIRECT_FILTER,
                                           NETRING_REDIRECT_ALL};
        uint32_t choice = choices[swaps++ % 3], before = redirected + passed;
        struct records got = {0};

        if (netring_xdp_set_filter(a.xdp, choice, choice == NETRING_REDIRECT_FILTER ? filter : NULL,
                                   NULL) != 0)
            tap_bail("netring_xdp_set_filter");
        queue_receive(a.queue, SIZE_MAX, 0, &got);
        for (size_t i = 0; i < got.count; i++) {
            uint32_t number = numbered_number(got.v[i].packet.data);

            wrong += number > load.count || seen[number]++ > 0;
        }
        redirected += (uint32_t)got.count;
        records_free(&got);
        while (sink_next(&stack, 0) > 0) {
            uint32_t number = numbered_number(stack.frame);

            wrong += number > load.count || seen[number]++ > 0;
            passed++;
        }
        __atomic_store_n(&load.taken, redirected + passed, __ATOMIC_RELEASE);
        if (redirected + passed != before)
            last = now_ms();
    }
    ok(redirected + passed == load.count && wrong == 0,
       "%s: %u frames during %u changes of the filter: %u redirected, %u the host's, %u wrong",
       mode->name, load.count, swaps, redirected, passed, wrong);
    ok(redirected > 0 && passed > 0, "%s: some of each", mode->name);
    __atomic_store_n(&load.taken, load.count, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    netring_filter_free(filter);
    sink_close(&stack);
    xdp_close(a.xdp);
    close(load.sender);
}

/* ---- TCP beside a filter ---- */

enum { PORT = 5353, OTHER_PORT = 5354, TCP_PORT = 7777 };

struct echo {
    int namespace;
    int ready; /* atomic */
    int listener;
};

static int stream_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = tap_patience(5000) / 1000};

    if (fd < 0)
        tap_bail("socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
}

static struct sockaddr_in address(const char *text, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

    inet_pton(AF_INET, text, &in.sin_addr);
    return in;
}

/* The other host: sends back what it gets. */
static void *echoes(void *user)
{
    struct echo *echo = user;
    struct sockaddr_in own = address("10.0.0.2", TCP_PORT);
    char bytes[4096];
    ssize_t got;
    int peer;

    net_namespace_enter(echo->namespace);
    echo->listener = stream_socket();
    if (bind(echo->listener, (struct sockaddr *)&own, sizeof own) != 0 ||
        listen(echo->listener, 1) != 0)
        tap_bail("the other host: %s", strerror(errno));
    __atomic_store_n(&echo->ready, 1, __ATOMIC_RELEASE);
    peer = accept(echo->listener, NULL, NULL);
    while (peer >= 0 && (got = recv(peer, bytes, sizeof bytes, 0)) > 0) {
        if (send(peer, bytes, (size_t)got, MSG_NOSIGNAL) != got)
            break;
    }
    if (peer >= 0)
        close(peer);
    close(echo->listener);
    return NULL;
}

/* One turn: `size` bytes there and back. */
static bool tcp_turn(int tcp, uint32_t turn, size_t size)
{
    static uint8_t out[20000], in[20000];
    size_t done = 0;

    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(turn * 31 + i * 7);
    memset(in, 0, sizeof in);
    if (send(tcp, out, size, MSG_NOSIGNAL) != (ssize_t)size)
        return false;
    while (done < size) {
        ssize_t got = recv(tcp, in + done, size - done, 0);

        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return memcmp(in, out, size) == 0;
}

static int udp_socket(const char *own, uint16_t port)
{
    struct sockaddr_in in = address(own, port);
    struct timeval patience = {.tv_sec = tap_patience(1000) / 1000};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof in) != 0)
        tap_bail("a UDP socket: %s", strerror(errno));
    return fd;
}

/* Sends from the other host: a socket made in its namespace. */
static int other_udp(int namespace)
{
    int own = net_namespace(), fd;

    net_namespace_enter(namespace);
    fd = udp_socket("10.0.0.2", 0);
    net_namespace_enter(own);
    close(own);
    return fd;
}

static void test_tcp(const struct xdp_mode *mode)
{
    enum { TURNS = 300, EVERY = 4 };
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_FILTER, mode->mode);
    struct netring_filter *filter = udp_filter(PORT);
    struct echo echo = {.namespace = net_namespace_new()};
    struct sockaddr_in to = address("10.0.0.2", TCP_PORT), here = address("10.0.0.1", PORT),
                       beside = address("10.0.0.1", OTHER_PORT);
    uint32_t turns = tap_patience(1) > 1 ? 40 : TURNS, turn = 0, matched = 0, other = 0, hosts = 0;
    int own = net_namespace(), tcp, udp, matching, passing;
    struct records got = {0};
    struct xdp_one a;
    pthread_t thread;
    char byte;
    bool right = true;

    net_veth("ta", "tb");
    net_link_move("tb", echo.namespace);
    net_namespace_enter(echo.namespace);
    net_link_up("tb", true);
    net_ipv4("tb", "10.0.0.2");
    net_namespace_enter(own);
    net_ipv4("ta", "10.0.0.1");
    net_await_carrier("ta");
    pthread_create(&thread, NULL, echoes, &echo);
    while (!__atomic_load_n(&echo.ready, __ATOMIC_ACQUIRE))
        usleep(1000);
    tcp = stream_socket();
    if (connect(tcp, (struct sockaddr *)&to, sizeof to) != 0)
        tap_bail("connect: %s", strerror(errno));
    /* Connected before, and from here on beside: open, traffic, close. */
    ok(tcp_turn(tcp, 0, 5000), "%s: TCP, before", mode->name);
    udp = other_udp(echo.namespace);
    matching = udp_socket("10.0.0.1", PORT);
    passing = udp_socket("10.0.0.1", OTHER_PORT);
    config.filter = filter;
    a = xdp_one("ta", &config);
    for (; right && turn < turns; turn++) {
        right = tcp_turn(tcp, turn, 1 + turn * 61 % 20000);
        if (turn % EVERY == 0) {
            sendto(udp, &(uint32_t){turn}, 4, 0, (struct sockaddr *)&here, sizeof here);
            sendto(udp, "x", 1, 0, (struct sockaddr *)&beside, sizeof beside);
            matched++;
            hosts += recv(passing, &byte, 1, 0) == 1 && byte == 'x';
            other++;
        }
        if (turn == turns / 2 &&
            netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_FILTER, filter, NULL) != 0)
            tap_bail("netring_xdp_set_filter");
    }
    ok(right, "%s: TCP flows beside a filter: %u turns there and back, byte for byte", mode->name,
       turn);
    queue_receive(a.queue, matched, 1000, &got);
    is_int(got.count, matched, "%s: every match is redirected, and nothing else", mode->name);
    right = got.count == matched;
    for (size_t i = 0; right && i < got.count; i++) {
        uint32_t number;

        memcpy(&number, got.v[i].packet.data + 42, sizeof number);
        right = got.v[i].packet.len == 46 && number == i * EVERY;
    }
    ok(right, "%s: they are those that were sent", mode->name);
    is_int(recv(matching, &byte, 1, MSG_DONTWAIT), -1, "%s: the host has seen none of them",
           mode->name);
    is_int(hosts, other, "%s: what goes to the next port the host gets", mode->name);
    queue_is_empty(a.queue, mode->name);
    xdp_close(a.xdp);
    ok(tcp_turn(tcp, 1, 5000), "%s: TCP, after", mode->name);
    sendto(udp, "y", 1, 0, (struct sockaddr *)&here, sizeof here);
    ok(recv(matching, &byte, 1, 0) == 1 && byte == 'y', "%s: the match is the host's again",
       mode->name);
    close(tcp);
    pthread_join(thread, NULL);
    close(udp), close(matching), close(passing), close(own);
    net_link_delete("ta"); /* before its other end goes with the namespace */
    close(echo.namespace);
    netring_filter_free(filter);
    records_free(&got);
}

/* ---- descriptors, detach, stop ---- */

static void test_detach(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_error error;
    static struct sink stack, other;
    int sender = net_sender("vb");

    sink_open(&stack, "va");
    sink_open(&other, "vb");
    send_stream(sender, 0, 20);
    is_int(netring_xdp_detach(a.xdp, &error), 0, "%s: detach", mode->name);
    is_no_error(&error, "detach");
    xdp_is_detached("va", "detach");
    send_stream(sender, 20, 20);
    queue_is_stream(a.queue, 0, 20, "what was there before is there");
    sink_is_stream(&stack, 20, 20, "what comes later is the host's");
    queue_is_empty(a.queue, "a queue without a program");
    queue_commit_stream(a.queue, 100, 20);
    netring_queue_flush(a.queue);
    sink_is_stream(&other, 100, 20, "it still sends");
    is_int(xdp_info(a.xdp).program_id, 0, "%s: it has no program", mode->name);
    sink_close(&stack);
    sink_close(&other);
    xdp_close(a.xdp);
    close(sender);
}

static void test_descriptors(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_xdp_info info = xdp_info(a.xdp);
    static struct sink stack;
    struct bpf_map_info map;
    union bpf_attr attributes;
    struct netring_error error;
    int link, sender = net_sender("vb");

    memset(&map, 0, sizeof map);
    memset(&attributes, 0, sizeof attributes);
    attributes.info.bpf_fd = (uint32_t)netring_xdp_fd(a.xdp, NETRING_XDP_FD_MAP);
    attributes.info.info_len = sizeof map;
    attributes.info.info = (uintptr_t)&map;
    is_int(xdp_bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes), 0, "the map");
    ok(map.type == BPF_MAP_TYPE_XSKMAP && map.id == info.map_id, "is an XSKMAP with the id told");
    errno = 0;
    ok(netring_xdp_fd(a.xdp, 0) == NETRING_EINVAL && errno == EINVAL, "descriptor 0");
    ok(netring_xdp_fd(a.xdp, 4) == NETRING_EINVAL && errno == EINVAL, "descriptor 4");
    /* A link of the caller's own keeps the program: its map is empty then, all passes. */
    link = dup(netring_xdp_fd(a.xdp, NETRING_XDP_FD_LINK));
    ok(link >= 0, "the link, once more");
    xdp_close(a.xdp);
    is_int(xdp_attached("va").id, info.program_id, "it keeps the program beyond the close");
    sink_open(&stack, "va");
    send_stream(sender, 0, 5);
    sink_is_stream(&stack, 0, 5, "which lets everything pass");
    close(link);
    xdp_is_detached("va", "the last link is closed");
    sink_close(&stack);
    close(sender);
    config.redirect = NETRING_REDIRECT_NONE;
    config.flags |= NETRING_XDP_NO_PROGRAM;
    a = xdp_one("va", &config);
    is_int(xdp_attached("va").id, 0, "no program is wanted, and none is attached");
    is_int(netring_xdp_fd(a.xdp, NETRING_XDP_FD_LINK), NETRING_EINVAL, "so it has no link");
    for (uint32_t redirect = NETRING_REDIRECT_ALL; redirect <= NETRING_REDIRECT_NONE; redirect++) {
        is_int(netring_xdp_set_filter(a.xdp, redirect, NULL, &error), NETRING_EINVAL,
               "nor anything to redirect by: %s", error.message);
        is_str(error.option, "program", "for want of a program");
    }
    xdp_close(a.xdp);
}

/* The map is known outside. Who puts a socket of his own into it gets no packets by it that were
 * to come here. */
static void test_entry(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_COPY);
    struct xdp_one a = xdp_one("va", &config);
    int other = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), sender = net_sender("vb");
    uint32_t key = 0, entries = 64;
    struct netring_error error;
    union bpf_attr entry;

    /* Linux 7.3 wants something to receive into. */
    setsockopt(other, SOL_XDP, XDP_RX_RING, &entries, sizeof entries);
    memset(&entry, 0, sizeof entry);
    entry.map_fd = (uint32_t)netring_xdp_fd(a.xdp, NETRING_XDP_FD_MAP);
    entry.key = (uintptr_t)&key;
    entry.value = (uintptr_t)&other;
    if (xdp_bpf(BPF_MAP_UPDATE_ELEM, &entry, sizeof entry) != 0)
        tap_bail("BPF_MAP_UPDATE_ELEM: %s", strerror(errno));
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_ALL, NULL, &error), NETRING_EBUSY,
           "another socket in the map: %s", error.message);
    is_str(error.option, "queue", "is in the way of the queue's");
    is_int(xdp_info(a.xdp).redirect, NETRING_REDIRECT_NONE, "and nothing is redirected");
    close(other);
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_ALL, NULL, NULL), 0, "until it is gone");
    send_stream(sender, 0, 20);
    queue_is_stream(a.queue, 0, 20, "by the map");
    xdp_close(a.xdp);
    close(sender);
}

static void test_stop(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    struct netring_xdp *xdp = xdp_open("qb", NULL, 0, &config);
    struct netring_block *block;
    struct netring_slot slots[QUEUES], slot;
    int sender = net_sender("qa");
    uint8_t frame[60];

    numbered_make(frame, sizeof frame, 1, false);
    for (uint32_t i = 0; i < QUEUES; i++) {
        queue_must_reserve(xdp_queue(xdp, i), &slots[i], 1);
        memcpy(slots[i].data, frame, sizeof frame);
        slots[i].len = sizeof frame;
    }
    net_send(sender, frame, sizeof frame);
    while (queue_stats(xdp_queue(xdp, 0)).pending + queue_stats(xdp_queue(xdp, 1)).pending +
               queue_stats(xdp_queue(xdp, 2)).pending + queue_stats(xdp_queue(xdp, 3)).pending ==
           0)
        sleep_ms(1);
    errno = ENOTTY;
    is_int(netring_xdp_stop(xdp), 0, "stop");
    is_int(errno, ENOTTY, "leaves errno alone");
    for (uint32_t i = 0, got = 0; i < QUEUES; i++) {
        struct netring_queue *queue = xdp_queue(xdp, i);
        int rc = netring_queue_next_block(queue, -1, &block);

        if (rc == 1) {
            got++;
            netring_block_release(block);
            rc = netring_queue_next_block(queue, -1, &block);
        }
        is_int(rc, NETRING_ESHUTDOWN, "queue %u has ended", i);
        is_int(netring_queue_next_block(queue, -1, &block), NETRING_ESHUTDOWN, "for good");
        if (i == QUEUES - 1)
            is_int(got, 1, "after what had been received");
        is_int(netring_queue_commit(queue, &slots[i], sizeof *slots, 1), 1,
               "a slot that was handed out before can be given back");
        is_int(netring_queue_flush(queue), 1, "and its frame leaves");
        is_int(netring_queue_reserve(queue, &slot, sizeof slot, 1, -1), NETRING_ESHUTDOWN,
               "there are no more");
        is_int(netring_queue_send(queue, frame, sizeof frame, -1), NETRING_ESHUTDOWN,
               "by copy neither");
    }
    xdp_close(xdp);
    close(sender);
}

/* ---- programs and maps of the caller ---- */

static void test_own_program(const struct xdp_mode *mode)
{
    bool native = mode->mode == NETRING_MODE_COPY;
    int map = xdp_map(4), program = xdp_redirect_program(map), sender = net_sender("vb"), link;
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct netring_error error;
    struct xdp_one a;
    static struct sink stack;

    /* The library attaches it. */
    config.flags |= NETRING_XDP_PROGRAM_FD | NETRING_XDP_MAP_FD;
    config.redirect = 0; /* the program decides */
    config.program_fd = program;
    config.map_fd = map;
    a = xdp_one("va", &config);
    is_int(xdp_attached("va").id, xdp_program_id(program), "%s: the caller's program", mode->name);
    is_int(xdp_info(a.xdp).program_id, xdp_program_id(program), "%s: is told", mode->name);
    send_stream(sender, 0, 20);
    queue_is_stream(a.queue, 0, 20, "by the caller's program");
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_NONE, NULL, &error), NETRING_ENOTSUP,
           "%s: it is not the library's to change", mode->name);
    xdp_close(a.xdp);
    xdp_is_detached("va", "the caller's program");
    /* The caller does; the map is the caller's too, and has nothing left in it. */
    link = xdp_attach(program, "va", native);
    config.flags &= ~(uint64_t)NETRING_XDP_PROGRAM_FD;
    config.program_fd = 0;
    a = xdp_one("va", &config);
    send_stream(sender, 20, 20);
    queue_is_stream(a.queue, 20, 20, "by the caller's map");
    xdp_close(a.xdp);
    is_int(xdp_attached("va").id, xdp_program_id(program), "%s: the program stays", mode->name);
    sink_open(&stack, "va");
    send_stream(sender, 40, 20);
    sink_is_stream(&stack, 40, 20, "by a map without sockets");
    sink_close(&stack);
    a = xdp_one("va", &config);
    send_stream(sender, 60, 20);
    queue_is_stream(a.queue, 60, 20, "by the map once more");
    xdp_close(a.xdp);
    /* Where it runs is not the library's to change either. */
    config.mode = native ? NETRING_MODE_SKB : NETRING_MODE_COPY;
    xdp_open_fails("a map whose program runs elsewhere", "va", NULL, 0, &config,
                   &(struct failure){NETRING_ENOTSUP,
                                     0,
                                     "mode",
                                     {native ? "in the driver" : "in the kernel's stack", "va"}});
    if (!native) {
        config.mode = NETRING_MODE_ZEROCOPY;
        xdp_open_fails("no zero-copy either", "va", NULL, 0, &config,
                       &(struct failure){NETRING_ENOTSUP, 0, "mode", {"in the kernel's stack"}});
    }
    config.mode = NETRING_MODE_AUTO;
    a = xdp_one("va", &config);
    is_int(xdp_info(a.xdp).mode, mode->mode, "%s: by itself it is as that", mode->name);
    xdp_close(a.xdp);
    close(link), close(program), close(map), close(sender);
    xdp_is_detached("va", "the caller's link is closed");
}

static void test_try_filter(void)
{
    struct netring_filter *filter = udp_filter(PORT);
    struct netring_error error;
    char log[256], small[2] = {'x', 'x'};
    int rc;

    memset(log, 'x', sizeof log);
    rc = netring_xdp_try_filter(filter, 0, log, sizeof log, &error);
    ok(rc > 8, "a filter is a program of %d instructions", rc);
    is_no_error(&error, "try");
    ok(memchr(log, 0, sizeof log) != NULL, "the log ends: %s", log);
    is_int(netring_xdp_try_filter(filter, 0, NULL, 0, NULL), rc, "without a log");
    is_int(netring_xdp_try_filter(filter, 0, small, 1, NULL), rc, "with room for nothing");
    ok(small[0] == 0 && small[1] == 'x', "nothing and a NUL");
    is_int(xdp_attached("va").id, 0, "and nothing is attached");
    netring_filter_free(filter);
}

int main(void)
{
    struct footprint before;

    tap_begin(100);
    xdp_enter();
    net_veth("va", "vb");
    net_veth_queues("qa", "qb", QUEUES);
    before = footprint_now();
    test_steps();
    test_carrier();
    test_queue_list();
    for (size_t i = 0; i < COUNT(xdp_modes); i++) {
        test_info(&xdp_modes[i]);
        test_busy_poll(&xdp_modes[i]);
        test_queues(&xdp_modes[i]);
        test_missing_queue(&xdp_modes[i]);
        test_redirect(&xdp_modes[i]);
        test_swap_under_load(&xdp_modes[i]);
        test_tcp(&xdp_modes[i]);
        test_detach(&xdp_modes[i]);
        test_own_program(&xdp_modes[i]);
    }
    test_descriptors();
    test_entry();
    test_stop();
    test_try_filter();
    is_footprint(before, "all of it");
    return tap_end();
}
