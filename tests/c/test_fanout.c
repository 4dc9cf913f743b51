/* Fanout groups: who gets which packet in every mode, flags and programs, from when on members get
 * packets, leaving and coming back, ids of one and of several processes, and every refusal.
 *
 * no-valgrind: its kernel calls are what it is about, and ASan and TSan have it
 * no-archive: ASan has the archive */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST = 4, FLOWS = 1024, NOBODY = -1 };

static int sender; /* on va; what it sends arrives at vb */

/* ---- frames: UDP, a flow and a number in each ---- */

enum { IP = ETHER_HEADER, UDP = IP + 20, PAYLOAD = UDP + 8, UDP_FRAME = PAYLOAD + 16 };

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void ip_checksum(uint8_t *ip)
{
    uint32_t sum = 0;

    put16(ip + 10, 0);
    for (int i = 0; i < 20; i += 2)
        sum += get16(ip + i);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(ip + 10, ~(sum + (sum >> 16)) & 0xffff);
}

/* A frame of a flow, in the other direction if `back`. */
static size_t udp_frame(uint8_t *frame, uint32_t flow, bool back, uint32_t number, size_t payload)
{
    uint32_t address[2] = {0xc0000200, 0xc6336400 + flow % 200};
    unsigned port[2] = {1024 + flow, 53};

    memset(frame, 0, PAYLOAD + payload);
    frame[0] = frame[6] = 2;
    frame[5] = !back;
    frame[11] = back;
    put16(frame + 12, 0x0800);
    frame[IP] = 0x45;
    put16(frame + IP + 2, (unsigned)(20 + 8 + payload));
    frame[IP + 8] = 64;
    frame[IP + 9] = IPPROTO_UDP;
    put32(frame + IP + 12, address[back]);
    put32(frame + IP + 16, address[!back]);
    ip_checksum(frame + IP);
    put16(frame + UDP, port[back]);
    put16(frame + UDP + 2, port[!back]);
    put16(frame + UDP + 4, (unsigned)(8 + payload));
    put32(frame + PAYLOAD, flow);
    put32(frame + PAYLOAD + 4, number);
    frame[PAYLOAD + 8] = (uint8_t)number;
    return PAYLOAD + payload;
}

/* Frames first..first+count-1; number n is of flow n % flows. */
static void send_flows(int from, uint32_t first, uint32_t count, uint32_t flows, bool back)
{
    uint8_t frame[UDP_FRAME];

    for (uint32_t number = first; number < first + count; number++)
        net_send(from, frame, udp_frame(frame, number % flows, back, number, 16));
}

/* ---- groups ---- */

static struct netring_group_config group_config(uint32_t mode)
{
    struct netring_group_config config = NETRING_GROUP_CONFIG_INIT;

    config.mode = mode;
    return config;
}

static struct netring_group *group_new(const struct netring_group_config *config)
{
    struct netring_group *group = NULL;
    struct netring_error error;

    if (netring_group_new(config, &group, &error) != 0)
        tap_bail("netring_group_new: %s", error.message);
    return group;
}

static struct netring_group_info group_info(struct netring_group *group)
{
    struct netring_group_info info;

    if (netring_group_info(group, &info, sizeof info) != 0)
        tap_bail("netring_group_info");
    return info;
}

static struct netring_capture *join(struct netring_group *group, const char *interface,
                                    const struct netring_capture_config *config)
{
    struct netring_capture_config small = small_config();
    struct netring_capture *capture = NULL;
    struct netring_error error;
    int rc;

    error_spoil(&error);
    rc = netring_group_join(group, interface, config ? config : &small, &capture, &error);
    if (rc != 0)
        tap_bail("netring_group_join: %s", error.message);
    is_no_error(&error, "netring_group_join");
    return capture;
}

/* `count` members on vb. */
static void open_all(struct netring_group *group, const struct netring_capture_config *config,
                     struct netring_capture **captures, size_t count)
{
    struct netring_capture_config small = small_config();
    struct netring_error error;

    error_spoil(&error);
    if (netring_group_open(group, "vb", config ? config : &small, NULL, captures, count, &error))
        tap_bail("netring_group_open: %s", error.message);
    is_no_error(&error, "netring_group_open");
}

static void close_all(struct netring_group *group, struct netring_capture **captures, size_t count)
{
    for (size_t i = 0; i < count; i++)
        capture_close(captures[i]);
    is_int(netring_group_free(group), 0, "netring_group_free");
}

/* Waits until the members have seen `want` packets together, and a moment longer for those that
 * must not come. */
static uint64_t await_sum(struct netring_capture **captures, size_t count, uint64_t want)
{
    int64_t end = now_ms() + tap_patience(2000);
    uint64_t sum;

    do {
        sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += capture_stats(captures[i]).seen;
        if (sum < want)
            sleep_ms(2);
    } while (sum < want && now_ms() < end);
    return sum;
}

/* What the members have received, each number once: which member had number n, or NOBODY. */
struct who {
    uint32_t first, count;
    int *member;
    unsigned of[MOST]; /* packets */
    unsigned twice, strange;
};

static void who_begin(struct who *who, uint32_t first, uint32_t count)
{
    memset(who, 0, sizeof *who);
    who->first = first;
    who->count = count;
    who->member = malloc(count * sizeof *who->member);
    if (!who->member)
        tap_bail("no memory");
    for (uint32_t i = 0; i < count; i++)
        who->member[i] = NOBODY;
}

static void who_block(struct who *who, int member, struct netring_block *block)
{
    struct netring_packet p[64];
    int n;

    while ((n = netring_block_read(block, p, sizeof *p, COUNT(p))) > 0)
        for (int i = 0; i < n; i++) {
            uint32_t number = p[i].caplen >= PAYLOAD + 8 ? get32(p[i].data + PAYLOAD + 4) : 0;

            who->of[member]++;
            if (p[i].caplen < PAYLOAD + 8 || number - who->first >= who->count)
                who->strange++;
            else if (who->member[number - who->first] != NOBODY)
                who->twice++;
            else
                who->member[number - who->first] = member;
        }
}

/* Reads until `want` packets have come to the members. */
static void who_read(struct who *who, struct netring_capture **captures, size_t count,
                     unsigned want)
{
    int64_t end = now_ms() + tap_patience(2000);
    unsigned sum = 0;

    while (sum < want && now_ms() < end) {
        sum = 0;
        for (size_t i = 0; i < count; i++) {
            struct netring_block *block;

            if (netring_capture_next_block(captures[i], sum < want ? 5 : 0, &block) == 1) {
                who_block(who, (int)i, block);
                netring_block_release(block);
            }
            sum += who->of[i];
        }
    }
}

/* One check: each of the numbers came to exactly one member. */
static bool who_is_all(const struct who *who, const char *what)
{
    unsigned missing = 0;

    for (uint32_t i = 0; i < who->count; i++)
        missing += who->member[i] == NOBODY;
    return ok(missing == 0 && who->twice == 0 && who->strange == 0,
              "%s: each packet to one member (%u missing, %u twice, %u strange)", what, missing,
              who->twice, who->strange);
}

/* ---- modes ---- */

/* Both directions of 1024 flows, four packets each: all to one member, and no member idle. */
static void test_hash(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_HASH);
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[MOST];
    struct who who;
    unsigned split = 0, flows[MOST] = {0};

    open_all(group, NULL, captures, MOST);
    who_begin(&who, 0, 4 * FLOWS);
    for (uint32_t i = 0; i < 4; i++) {
        send_flows(sender, i * FLOWS, FLOWS, FLOWS, i & 1);
        who_read(&who, captures, MOST, (i + 1) * FLOWS);
    }
    who_is_all(&who, "hash");
    for (uint32_t flow = 0; flow < FLOWS; flow++) {
        int member = who.member[flow];

        for (uint32_t i = 1; i < 4; i++)
            split += who.member[i * FLOWS + flow] != member;
        flows[member == NOBODY ? 0 : member]++;
    }
    is_int(split, 0, "hash: %d flows, both directions: none is split", FLOWS);
    for (int i = 0; i < MOST; i++)
        is_between(flows[i], FLOWS / MOST / 2, FLOWS / MOST * 2, "hash: flows of member %d", i);
    is_int(await_sum(captures, MOST, 4 * FLOWS), 4 * FLOWS, "hash: sum over members = sent");
    free(who.member);
    close_all(group, captures, MOST);
}

static void test_lb(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[MOST];
    struct who who;

    open_all(group, NULL, captures, MOST);
    who_begin(&who, 0, 400);
    send_flows(sender, 0, 400, 1, false);
    who_read(&who, captures, MOST, 400);
    who_is_all(&who, "lb");
    for (int i = 0; i < MOST; i++)
        is_int(who.of[i], 400 / MOST, "lb: packets of member %d", i);
    is_int(await_sum(captures, MOST, 400), 400, "lb: sum over members = sent");
    free(who.member);
    close_all(group, captures, MOST);
}

static void test_rnd(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_RND);
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[MOST];
    struct who who;

    open_all(group, NULL, captures, MOST);
    who_begin(&who, 0, 4000);
    send_flows(sender, 0, 4000, 1, false);
    who_read(&who, captures, MOST, 4000);
    who_is_all(&who, "rnd");
    /* 1000 each; 300 away is eleven standard deviations. */
    for (int i = 0; i < MOST; i++)
        is_between(who.of[i], 700, 1300, "rnd: packets of member %d", i);
    is_int(await_sum(captures, MOST, 4000), 4000, "rnd: sum over members = sent");
    free(who.member);
    close_all(group, captures, MOST);
}

/* A member's filter that takes only what it is chosen for: where something of a packet, modulo the
 * members, is its number. What is chosen wrongly is missing in the sum. */
static struct netring_filter *mine(uint32_t what, uint32_t members, uint32_t number)
{
    const struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, what),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, members),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct netring_filter *filter = NULL;

    if (netring_filter_new(program, COUNT(program), &filter, NULL) != 0)
        tap_bail("netring_filter_new");
    return filter;
}

static void join_mine(struct netring_group *group, const char *interface, uint32_t what,
                      struct netring_capture **captures, uint32_t members)
{
    for (uint32_t i = 0; i < members; i++) {
        struct netring_capture_config config = small_config();

        config.filter = mine(what, members, i);
        captures[i] = join(group, interface, &config);
        netring_filter_free(config.filter);
    }
}

static bool pin(int cpu)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return sched_setaffinity(0, sizeof one, &one) == 0;
}

/* Sends from each CPU that this thread may run on. */
static void test_cpu(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_CPU);
    struct netring_group *group;
    struct netring_capture *captures[2];
    cpu_set_t all;
    unsigned sent = 0, on[2] = {0, 0};
    struct who who;

    config.members = 2;
    group = group_new(&config);
    join_mine(group, "vb", (uint32_t)(SKF_AD_OFF + SKF_AD_CPU), captures, 2);
    sched_getaffinity(0, sizeof all, &all);
    who_begin(&who, 0, 8 * 50);
    for (int cpu = 0; cpu < CPU_SETSIZE && sent < 8 * 50; cpu++) {
        if (!CPU_ISSET(cpu, &all) || !pin(cpu))
            continue;
        send_flows(sender, sent, 50, 50, false);
        sent += 50;
        on[cpu % 2] += 50;
    }
    sched_setaffinity(0, sizeof all, &all);
    who_read(&who, captures, 2, sent);
    for (int i = 0; i < 2; i++)
        is_int(who.of[i], on[i], "cpu: what was sent on CPUs of member %d", i);
    is_int(who.twice + who.strange, 0, "cpu: none twice");
    if (!on[0] || !on[1])
        tap_skip("cpu: both members", "one CPU");
    free(who.member);
    close_all(group, captures, 2);
}

/* Over a veth with four queues: the sender's choice of a queue is a flow's hash. */
static void test_qm(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_QM);
    struct netring_group *group;
    struct netring_capture *captures[MOST];
    struct who who;
    int from;

    net_veth_queues("qa", "qb", MOST);
    net_await_carrier("qa");
    from = net_sender("qa");
    config.members = MOST;
    group = group_new(&config);
    join_mine(group, "qb", (uint32_t)(SKF_AD_OFF + SKF_AD_QUEUE), captures, MOST);
    who_begin(&who, 0, FLOWS);
    send_flows(from, 0, FLOWS, FLOWS, false);
    who_read(&who, captures, MOST, FLOWS);
    who_is_all(&who, "qm: to the member of the queue");
    for (int i = 0; i < MOST; i++)
        is_between(who.of[i], FLOWS / MOST / 2, FLOWS / MOST * 2, "qm: packets of queue %d", i);
    free(who.member);
    close_all(group, captures, MOST);
    close(from);
    net_link_delete("qa");
}

/* By a byte of the payload, which the program finds behind the network header. */
static void test_cbpf(void)
{
    const struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF + PAYLOAD + 8 - IP),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct netring_group_config config = group_config(NETRING_FANOUT_CBPF);
    struct netring_group *group;
    struct netring_capture *captures[3];
    struct who who;
    unsigned wrong = 0;

    if (netring_filter_new(program, COUNT(program), &config.program, NULL) != 0)
        tap_bail("netring_filter_new");
    group = group_new(&config);
    /* It keeps its own copy. */
    netring_filter_free(config.program);
    open_all(group, NULL, captures, 3);
    who_begin(&who, 0, 256);
    send_flows(sender, 0, 256, 256, false);
    who_read(&who, captures, 3, 256);
    who_is_all(&who, "cbpf");
    for (uint32_t i = 0; i < 256; i++)
        wrong += who.member[i] != (int)(i % 3);
    is_int(wrong, 0, "cbpf: to the member the program has chosen");
    free(who.member);
    close_all(group, captures, 3);
}

/* r0 = skb->len; of a packet received, without its link-layer header. */
static int ebpf_length(void)
{
    static const struct bpf_insn program[] = {
        {BPF_LDX | BPF_W | BPF_MEM, BPF_REG_0, BPF_REG_1, offsetof(struct __sk_buff, len), 0},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    union bpf_attr attr;

    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attr.insns = (uintptr_t)program;
    attr.insn_cnt = COUNT(program);
    attr.license = (uintptr_t) "MIT";
    return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
}

static void test_ebpf(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_EBPF);
    struct netring_group *group;
    struct netring_capture *captures[3];
    uint8_t frame[UDP_FRAME + 30];
    struct who who;
    unsigned wrong = 0;
    int program = ebpf_length();

    if (program < 0) {
        tap_skip("ebpf", "bpf(BPF_PROG_LOAD) is not allowed here");
        return;
    }
    if (netring_filter_new_ebpf(program, &config.program, NULL) != 0)
        tap_bail("netring_filter_new_ebpf");
    close(program);
    group = group_new(&config);
    netring_filter_free(config.program);
    open_all(group, NULL, captures, 3);
    who_begin(&who, 0, 90);
    for (uint32_t i = 0; i < 90; i++)
        net_send(sender, frame, udp_frame(frame, i, false, i, 16 + i % 30));
    who_read(&who, captures, 3, 90);
    who_is_all(&who, "ebpf");
    for (uint32_t i = 0; i < 90; i++)
        wrong += who.member[i] != (int)((20 + 8 + 16 + i % 30) % 3);
    is_int(wrong, 0, "ebpf: to the member the program has chosen");
    free(who.member);
    close_all(group, captures, 3);
}

/* Its ring full, a member's share goes to the other, and is counted. */
static void test_rollover(uint32_t mode)
{
    struct netring_group_config config = group_config(mode);
    struct netring_capture_config small = page_config(8), large = small_config();
    struct netring_group *group;
    struct netring_capture *captures[2];
    struct netring_group_stats all, one[2];
    struct netring_stats stats[2];
    const char *what = mode == NETRING_FANOUT_ROLLOVER ? "mode rollover" : "flag rollover";
    uint32_t sent = 8 * frames_per_page(UDP_FRAME) + 500;
    int first;

    if (mode != NETRING_FANOUT_ROLLOVER)
        config.flags |= NETRING_FANOUT_FLAG_ROLLOVER;
    small.block_timeout = 20;
    large.block_timeout = 20;
    /* One flow, whose member is not read. */
    for (int turn = 0; turn < 2; turn++) {
        group = group_new(&config);
        captures[0] = join(group, "vb", turn ? &large : &small);
        captures[1] = join(group, "vb", turn ? &small : &large);
        send_flows(sender, 0, 1, 1, false);
        await_sum(captures, 2, 1);
        first = capture_stats(captures[0]).seen == 1 ? 0 : 1;
        if (first == turn)
            break;
        close_all(group, captures, 2);
        if (turn == 1)
            tap_bail("the flow is never that of the small ring");
    }
    send_flows(sender, 1, sent - 1, 1, false);
    is_int(await_sum(captures, 2, sent), sent, "%s: sum over members = sent", what);
    for (int i = 0; i < 2; i++) {
        stats[i] = capture_stats(captures[i]);
        is_int(netring_group_stats(group, captures[i], &one[i], sizeof one[i]), 0, "%s: of one",
               what);
    }
    is_int(netring_group_stats(group, NULL, &all, sizeof all), 0, "%s: of all", what);
    tap_diag("%s: %llu and %llu packets; rollover %llu, huge %llu, failed %llu", what,
             (unsigned long long)stats[first].seen, (unsigned long long)stats[!first].seen,
             (unsigned long long)all.rollover, (unsigned long long)all.rollover_huge,
             (unsigned long long)all.rollover_failed);
    ok(all.valid & NETRING_GROUP_STATS_ROLLOVER, "%s: counted", what);
    is_int(all.members, 2, "%s: of two members", what);
    is_int(one[0].members, 1, "%s: of one member", what);
    is_int(one[0].rollover + one[1].rollover, all.rollover, "%s: summed", what);
    is_int(one[!first].rollover, 0, "%s: of the other: none", what);
    is_int(stats[0].dropped + stats[1].dropped, all.rollover_failed, "%s: dropped for no room",
           what);
    ok(stats[!first].seen >= 500 && stats[first].seen > 0, "%s: what had no room went to the other",
       what);
    is_int(all.rollover + all.rollover_failed,
           mode == NETRING_FANOUT_ROLLOVER ? sent : stats[!first].seen + stats[first].dropped,
           "%s: each packet that was moved is counted", what);
    capture_close(captures[first]);
    is_int(netring_group_stats(group, NULL, &one[0], sizeof one[0]), 0, "%s: after a close", what);
    ok(one[0].rollover == all.rollover && one[0].members == 1,
       "%s: what a member counted stays in the sum", what);
    captures[first] = captures[!first];
    close_all(group, captures, 1);
}

/* ---- flags ---- */

/* Two fragments of a datagram. */
static void send_fragments(uint32_t flow, uint32_t number)
{
    enum { LENGTH = 256, FIRST = 8 + 120 }; /* the UDP header goes with the first */
    uint8_t whole[PAYLOAD + LENGTH], part[PAYLOAD + LENGTH];

    udp_frame(whole, flow, false, number, LENGTH);
    put16(whole + IP + 4, number);
    memcpy(part, whole, UDP + FIRST);
    put16(part + IP + 2, 20 + FIRST);
    put16(part + IP + 6, 0x2000);
    ip_checksum(part + IP);
    net_send(sender, part, UDP + FIRST);
    memcpy(part, whole, UDP);
    memcpy(part + UDP, whole + UDP + FIRST, 8 + LENGTH - FIRST);
    put16(part + IP + 2, 20 + 8 + LENGTH - FIRST);
    put16(part + IP + 6, FIRST / 8);
    ip_checksum(part + IP);
    net_send(sender, part, UDP + 8 + LENGTH - FIRST);
}

static void test_defrag(void)
{
    enum { DATAGRAMS = 200 };
    struct netring_group_config config = group_config(NETRING_FANOUT_HASH);
    struct netring_group *group;
    struct netring_capture *captures[MOST];
    struct who who;
    unsigned split = 0;
    cpu_set_t all;

    /* A fragment that waits on a CPU it was sent from is given up when enough others have passed
     * (net.ipv4.ipfrag_max_dist). */
    sched_getaffinity(0, sizeof all, &all);
    pin(sched_getcpu());
    for (int defrag = 0; defrag < 2; defrag++) {
        config.flags |= defrag ? NETRING_FANOUT_FLAG_DEFRAG : 0;
        group = group_new(&config);
        open_all(group, NULL, captures, MOST);
        if (!defrag) {
            send_fragments(0, 1);
            is_int(await_sum(captures, MOST, 2), 2, "no defrag: two fragments, two packets");
            close_all(group, captures, MOST);
            continue;
        }
        ok(group_info(group).flags & NETRING_FANOUT_FLAG_DEFRAG, "defrag: told by the info");
        who_begin(&who, 0, 2 * DATAGRAMS);
        send_flows(sender, 0, DATAGRAMS, DATAGRAMS, false);
        for (uint32_t i = 0; i < DATAGRAMS; i++)
            send_fragments(i, DATAGRAMS + i);
        who_read(&who, captures, MOST, 2 * DATAGRAMS);
        who_is_all(&who, "defrag");
        for (uint32_t i = 0; i < DATAGRAMS; i++)
            split += who.member[i] != who.member[DATAGRAMS + i];
        is_int(split, 0, "defrag: fragments go where the flow's other packets go");
        is_int(await_sum(captures, MOST, 2 * DATAGRAMS), 2 * DATAGRAMS,
               "defrag: one packet a datagram");
        free(who.member);
        close_all(group, captures, MOST);
    }
    sched_setaffinity(0, sizeof all, &all);
}

/* On va, where packets are sent and received. By the group's flag, by the captures', and with a
 * filter of their own. */
static void test_ignore_outgoing(void)
{
    static const struct sock_filter udp[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    int other = net_sender("vb");

    for (int how = 0; how < 4; how++) {
        struct netring_group_config config = group_config(NETRING_FANOUT_LB);
        struct netring_capture_config capture = small_config();
        struct netring_group *group;
        struct netring_capture *captures[2];
        unsigned want = how == 0 ? 60 : 20;

        config.flags |= how == 1 ? NETRING_FANOUT_FLAG_IGNORE_OUTGOING : 0;
        capture.flags |= how >= 2 ? NETRING_CAPTURE_IGNORE_OUTGOING : 0;
        if (how == 3 && netring_filter_new(udp, COUNT(udp), &capture.filter, NULL) != 0)
            tap_bail("netring_filter_new");
        group = group_new(&config);
        captures[0] = join(group, "va", &capture);
        captures[1] = join(group, "va", &capture);
        netring_filter_free(capture.filter);
        send_flows(sender, 0, 40, 1, false);
        send_flows(other, 0, 20, 1, false);
        is_int(await_sum(captures, 2, want), want, "ignore outgoing, way %d: packets", how);
        sleep_ms(5);
        is_int(await_sum(captures, 2, want), want, "ignore outgoing, way %d: and no more", how);
        is_int((group_info(group).flags & NETRING_FANOUT_FLAG_IGNORE_OUTGOING) != 0, how != 0,
               "ignore outgoing, way %d: the info tells", how);
        close_all(group, captures, 2);
    }
    close(other);
}

/* ---- from when on ---- */

/* With the number of members given, nobody gets what came before the last one. */
static void test_members(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config small = small_config();
    struct netring_capture *captures[4], *observer = capture_open("vb", &small);
    struct netring_group *group;
    struct who who;

    config.members = 3;
    group = group_new(&config);
    is_int(group_info(group).state, 0, "members: a new group has no id and delivers nothing");
    captures[0] = join(group, "vb", NULL);
    send_flows(sender, 0, 50, 1, false);
    await_seen(observer, 50);
    captures[1] = join(group, "vb", NULL);
    send_flows(sender, 50, 50, 1, false);
    await_seen(observer, 100);
    is_int(group_info(group).joined, 2, "members: two have joined");
    is_int(group_info(group).state, NETRING_GROUP_HAS_ID, "members: not delivering");
    /* One that leaves is waited for again. */
    capture_close(captures[1]);
    is_int(group_info(group).joined, 1, "members: one has left");
    captures[1] = join(group, "vb", NULL);
    is_int(group_info(group).state, NETRING_GROUP_HAS_ID, "members: two again, not delivering");
    send_flows(sender, 100, 50, 1, false);
    await_seen(observer, 150);
    captures[2] = join(group, "vb", NULL);
    is_int(group_info(group).state, NETRING_GROUP_HAS_ID | NETRING_GROUP_DELIVERING,
           "members: the last one has joined");
    who_begin(&who, 150, 90);
    send_flows(sender, 150, 90, 1, false);
    await_seen(observer, 240);
    is_int(await_sum(captures, 3, 90), 90, "members: nothing from before the last one joined");
    who_read(&who, captures, 3, 90);
    who_is_all(&who, "members");
    for (int i = 0; i < 3; i++)
        is_int(who.of[i], 30, "members: packets of member %d", i);
    free(who.member);
    /* Once it delivers, one that comes instead of another delivers at once. */
    capture_close(captures[0]);
    captures[0] = join(group, "vb", NULL);
    send_flows(sender, 240, 90, 1, false);
    await_seen(observer, 330);
    is_int(capture_stats(captures[0]).seen, 30, "members: who came instead gets its share");
    close_all(group, captures, 3);
    capture_close(observer);
}

/* Sends while members join: none twice, and all from the last join's return on. */
struct flood {
    uint32_t begun; /* atomic; a frame is counted before it is sent */
    bool over;      /* atomic */
};

static void *floods(void *user)
{
    struct flood *flood = user;
    uint8_t frame[UDP_FRAME];

    for (uint32_t number = 0; !__atomic_load_n(&flood->over, __ATOMIC_ACQUIRE); number++) {
        __atomic_store_n(&flood->begun, number + 1, __ATOMIC_RELEASE);
        net_send(sender, frame, udp_frame(frame, number, false, number, 16));
        if (number % 32 == 0)
            usleep(500);
    }
    return NULL;
}

static void test_flood(uint32_t members)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_HASH);
    struct netring_capture_config large = small_config();
    struct netring_group *group;
    struct netring_capture *captures[MOST];
    struct flood flood = {0, false};
    struct who who;
    pthread_t thread;
    uint32_t before, after, end;
    unsigned early = 0, missing = 0;

    large.block_count = 128;
    config.members = members;
    group = group_new(&config);
    pthread_create(&thread, NULL, floods, &flood);
    for (int i = 0; i < MOST; i++) {
        sleep_ms(5);
        before = __atomic_load_n(&flood.begun, __ATOMIC_ACQUIRE);
        captures[i] = join(group, "vb", &large);
    }
    after = __atomic_load_n(&flood.begun, __ATOMIC_ACQUIRE);
    sleep_ms(20);
    __atomic_store_n(&flood.over, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    sleep_ms(20); /* for what the kernel still has on its way */
    end = flood.begun;
    who_begin(&who, 0, end);
    for (int i = 0; i < MOST; i++)
        netring_capture_stop(captures[i]);
    for (int i = 0; i < MOST; i++) {
        struct netring_block *block;

        while (netring_capture_next_block(captures[i], 1000, &block) == 1) {
            who_block(&who, i, block);
            netring_block_release(block);
        }
    }
    for (uint32_t i = 0; i < end; i++) {
        missing += i >= after && who.member[i] == NOBODY;
        early += i < before && who.member[i] != NOBODY;
    }
    tap_diag("flood: %u sent, the last join from %u to %u", end, before, after);
    is_int(who.twice + who.strange, 0, "flood, %u members given: none twice", members);
    is_int(missing, 0, "flood, %u members given: all from the last join on", members);
    if (members == 0)
        ok(early > 0, "flood, open-ended: earlier members get packets before");
    for (int i = 0; i < MOST; i++)
        is_int(capture_stats(captures[i]).dropped, 0, "flood: no drops of member %d", i);
    free(who.member);
    close_all(group, captures, MOST);
}

/* ---- leaving ---- */

/* A member closed while a block of it is held: the others get everything from then on. */
static void test_leaving(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2];
    struct netring_block *held = NULL;
    struct netring_packet packet;
    uint32_t id;

    open_all(group, NULL, captures, 2);
    id = group_info(group).id;
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 20), 20, "leaving: both receive");
    if (netring_capture_next_block(captures[0], 1000, &held) != 1)
        tap_bail("no block");
    capture_close(captures[0]);
    is_int(group_info(group).joined, 1, "leaving: one member");
    send_flows(sender, 20, 100, 1, false);
    is_int(await_sum(captures + 1, 1, 110), 110, "leaving: a block held, the other gets it all");
    is_int(netring_block_read(held, &packet, sizeof packet, 1), 1, "leaving: the block reads");
    is_int(netring_block_release(held), 0, "leaving: and is released");
    captures[0] = join(group, "vb", NULL);
    is_int(group_info(group).id, id, "leaving: who comes back finds the same group");
    send_flows(sender, 120, 100, 1, false);
    is_int(await_sum(captures, 2, 210), 210, "coming back: all of it");
    is_int(capture_stats(captures[0]).seen, 50, "coming back: half of it");
    capture_close(captures[0]);
    capture_close(captures[1]);
    is_int(group_info(group).state, 0, "all have left: no group in the kernel");
    captures[0] = join(group, "vb", NULL);
    send_flows(sender, 0, 10, 1, false);
    is_int(await_sum(captures, 1, 10), 10, "all have left: another begins");
    /* Members stay what they are when their group is freed. */
    is_int(netring_group_free(group), 0, "free with a member");
    send_flows(sender, 0, 10, 1, false);
    is_int(await_sum(captures, 1, 20), 20, "free with a member: it still receives");
    capture_close(captures[0]);
}

/* What elsewhere is done by binds. */
static void test_flush_and_stop(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config slow = small_config();
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2];
    struct netring_block *block;
    struct netring_error error;
    struct who who;
    int rc;

    slow.block_timeout = 60000;
    open_all(group, &slow, captures, 2);
    who_begin(&who, 0, 40);
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 20), 20, "flush: received");
    is_int(netring_capture_next_block(captures[0], 0, &block), 0, "flush: no block is ready");
    is_int(netring_capture_flush(captures[0]), 0, "flush in a group");
    is_int(netring_capture_next_block(captures[0], 0, &block), 1, "flush: one is ready now");
    who_block(&who, 0, block);
    netring_block_release(block);
    is_int(who.of[0], 10, "flush: what it had received");
    is_int(netring_capture_flush(captures[0]), 0, "flush of nothing");
    is_int(netring_capture_next_block(captures[0], 0, &block), 0, "flush: nothing twice");
    send_flows(sender, 20, 20, 1, false);
    is_int(await_sum(captures, 2, 40), 40, "stop: received");
    for (int i = 0; i < 2; i++) {
        netring_capture_stop(captures[i]);
        while ((rc = netring_capture_next_block(captures[i], 5000, &block)) == 1) {
            who_block(&who, i, block);
            netring_block_release(block);
        }
        is_int(rc, NETRING_ESHUTDOWN, "stop: the end of member %d", i);
    }
    who_is_all(&who, "stop: what was received is handed out");
    send_flows(sender, 40, 20, 1, false);
    sleep_ms(5);
    is_int(capture_stats(captures[0]).seen + capture_stats(captures[1]).seen, 40,
           "stop: the intake has ended");
    error_spoil(&error);
    errno = 0;
    rc = netring_capture_rebind(captures[0], "va", 0, 0, &error);
    is_failure(rc, errno, &error,
               &(struct failure){NETRING_EINVAL, 0, "interface", {"fanout group", "join"}},
               "rebind of a member");
    free(who.member);
    close_all(group, captures, 2);
}

/* Where the filter is locked, the intake goes on after a stop. What came before is handed out, and
 * no more. */
static void test_locked(bool immediate)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config slow = small_config();
    struct netring_group *group = group_new(&config);
    struct netring_capture *capture;
    struct netring_block *block;
    struct netring_stats stats;
    struct who who;
    const char *what = immediate ? "locked, immediate" : "locked";
    const uint32_t more = immediate ? 100 : 2000; /* enough to fill the block that is open */
    int one = 1, rc;

    slow.block_timeout = 60000;
    slow.snap_length = 512; /* or few frames fit the ring */
    slow.flags |= NETRING_CAPTURE_SOCKET_FD | (immediate ? NETRING_CAPTURE_IMMEDIATE : 0);
    slow.socket_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    capture = join(group, "vb", &slow);
    is_int(setsockopt(slow.socket_fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one), 0,
           "%s: SO_LOCK_FILTER", what);
    who_begin(&who, 0, 30);
    send_flows(sender, 0, 30, 1, false);
    is_int(await_sum(&capture, 1, 30), 30, "%s: received", what);
    netring_capture_stop(capture);
    rc = netring_capture_next_block(capture, 5000, &block);
    send_flows(sender, 30, more, 1, false);
    is_int(await_sum(&capture, 1, 30 + more), 30 + more, "%s: the intake goes on", what);
    while (rc == 1) {
        who_block(&who, 0, block);
        netring_block_release(block);
        rc = netring_capture_next_block(capture, 5000, &block);
    }
    is_int(rc, NETRING_ESHUTDOWN, "%s: it comes to its end", what);
    who_is_all(&who, what);
    stats = capture_stats(capture);
    is_int(stats.delivered, 30, "%s: delivered", what);
    is_int(stats.pending, more, "%s: what came later is pending", what);
    free(who.member);
    close(slow.socket_fd);
    close_all(group, &capture, 1);
}

/* Frames one by one, through the same group; no timer, so that a block timeout of 0 means nothing.
 */
static void test_immediate(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config immediate = small_config();
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2];
    struct netring_block *block;
    struct who who;
    int rc;

    immediate.flags |= NETRING_CAPTURE_IMMEDIATE;
    immediate.block_timeout = 0;
    immediate.snap_length = 512; /* or few frames fit the ring */
    open_all(group, &immediate, captures, 2);
    who_begin(&who, 0, 40);
    send_flows(sender, 0, 20, 1, false);
    who_read(&who, captures, 2, 20);
    is_int(netring_capture_flush(captures[0]), 0, "immediate: flush");
    send_flows(sender, 20, 20, 1, false);
    is_int(await_sum(captures, 2, 40), 40, "immediate: received");
    for (int i = 0; i < 2; i++) {
        netring_capture_stop(captures[i]);
        while ((rc = netring_capture_next_block(captures[i], 5000, &block)) == 1) {
            who_block(&who, i, block);
            netring_block_release(block);
        }
        is_int(rc, NETRING_ESHUTDOWN, "immediate: stopped");
    }
    who_is_all(&who, "immediate");
    free(who.member);
    close_all(group, captures, 2);
}

static void join_fails(struct netring_group *group, const char *interface,
                       const struct netring_capture_config *config, const struct failure *want,
                       const char *what)
{
    struct netring_capture *capture = NULL;
    struct footprint before = footprint_now();
    struct netring_group_info info = group_info(group), after;
    struct netring_error error;
    int rc;

    error_spoil(&error);
    errno = 0;
    rc = netring_group_join(group, interface, config, &capture, &error);
    is_failure(rc, errno, &error, want, what);
    ok(capture == NULL, "%s: no handle", what);
    is_footprint(before, what);
    after = group_info(group);
    ok(memcmp(&info, &after, sizeof info) == 0, "%s: the group is as before", what);
}

/* ---- refused system calls ---- */

/* Without membarrier the kernel is waited for by another way; without that as well, a flush waits
 * for the block's timer, and a stop gives what is there. */
static void without_membarrier(void *user)
{
    const bool sockets = *(const bool *)user;
    const struct refusal membarrier = {.call = SYS_membarrier, .error = EPERM};
    const struct refusal socket_call = {
        .call = SYS_socket,
        .error = EPERM,
        .count = 1,
        .conditions = {{.argument = 0, .mask = UINT32_MAX, .value = AF_PACKET}}};
    const char *what = sockets ? "no membarrier" : "no membarrier, no sockets";
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config slow = small_config();
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2];
    struct netring_block *block;
    struct who who;

    slow.block_timeout = 200;
    refuse(&membarrier);
    open_all(group, &slow, captures, 2);
    if (!sockets)
        refuse(&socket_call);
    who_begin(&who, 0, 40);
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 20), 20, "%s: received", what);
    is_int(netring_capture_flush(captures[0]), 0, "%s: flush", what);
    is_int(netring_capture_next_block(captures[0], 0, &block), 1, "%s: flushed", what);
    who_block(&who, 0, block);
    netring_block_release(block);
    is_int(who.of[0], 10, "%s: what was flushed", what);
    send_flows(sender, 20, 20, 1, false);
    is_int(await_sum(captures, 2, 40), 40, "%s: goes on", what);
    for (int i = 0; i < 2; i++) {
        netring_capture_stop(captures[i]);
        while (netring_capture_next_block(captures[i], 5000, &block) == 1) {
            who_block(&who, i, block);
            netring_block_release(block);
        }
    }
    who_is_all(&who, what);
    free(who.member);
    close_all(group, captures, 2);
}

/* The filter cannot be taken away when the last one joins: that join fails, the first one waits. */
static void without_detach(void *user)
{
    const struct refusal detach = {
        .call = SYS_setsockopt,
        .error = ENOMEM,
        .count = 1,
        .conditions = {{.argument = 2, .mask = UINT32_MAX, .value = SO_DETACH_FILTER}}};
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config small = small_config();
    struct netring_capture *first;
    struct netring_group *group;

    (void)user;
    config.members = 2;
    group = group_new(&config);
    first = join(group, "vb", &small);
    refuse(&detach);
    join_fails(group, "vb", &small,
               &(struct failure){NETRING_ESOCKOPT,
                                 ENOMEM,
                                 "SO_DETACH_FILTER",
                                 {"member 1 of 2", "could not be detached"}},
               "the first one's filter");
    send_flows(sender, 0, 20, 1, false);
    sleep_ms(5);
    is_int(capture_stats(first).seen, 0, "the first one still gets nothing");
    close_all(group, &first, 1);
}

/* What a filter may take, in this network namespace; what it was before. -1: cannot be set here. */
static long option_memory(long most)
{
    FILE *file = fopen("/proc/sys/net/core/optmem_max", "r+e");
    long before = -1;
    bool set;

    if (!file)
        return -1;
    set = fscanf(file, "%ld", &before) == 1;
    rewind(file);
    set = set && fprintf(file, "%ld", most) > 0 && fflush(file) == 0;
    fclose(file);
    return set ? before : -1;
}

/* The second member's filter is refused when the last one joins: nobody gets packets, and all do
 * once it is possible. */
static void test_later_than_refused(void)
{
    enum { LENGTH = 2000 };
    static struct sock_filter program[LENGTH];
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config large = small_config(), small = large;
    struct netring_group *group;
    struct netring_capture *captures[3];
    long before;

    for (int i = 0; i < LENGTH - 1; i++)
        program[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0);
    program[LENGTH - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0x40000);
    if (netring_filter_new(program, LENGTH, &large.filter, NULL) != 0)
        tap_bail("netring_filter_new");
    config.members = 3;
    group = group_new(&config);
    captures[0] = join(group, "vb", &small);
    captures[1] = join(group, "vb", &large);
    before = option_memory(4096);
    if (before < 0) {
        tap_skip("a filter that is refused for want of memory", "optmem_max cannot be set here");
    } else {
        join_fails(group, "vb", &small,
                   &(struct failure){
                       NETRING_ESOCKOPT, ENOMEM, "SO_ATTACH_FILTER", {"member 2 of 3", "optmem"}},
                   "the second one's filter");
        send_flows(sender, 0, 30, 1, false);
        sleep_ms(5);
        is_int(capture_stats(captures[0]).seen, 0, "the first one gets nothing yet");
        option_memory(before);
    }
    captures[2] = join(group, "vb", &small);
    send_flows(sender, 0, 30, 1, false);
    is_int(await_sum(captures, 3, 30), 30, "filters fit again: sum over members = sent");
    is_int(capture_stats(captures[0]).seen, 10, "filters fit again: the first one has its share");
    netring_filter_free(large.filter);
    close_all(group, captures, 3);
}

static int set_filter(struct netring_capture *capture, struct netring_filter *filter)
{
    return netring_capture_set_filter(capture, filter, NULL, NULL);
}

/* A filter that is given before the group is complete opens nothing, is refused at once where the
 * kernel would, and is in force from the first packet on; likewise a lock. */
static void test_filter_before_complete(bool immediate)
{
    const char *what =
        immediate ? "filter before all have joined, immediate" : "filter before all have joined";
    enum { LENGTH = 2000 };
    static struct sock_filter many[LENGTH];
    struct sock_filter large_only[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 200, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config small = small_config();
    struct netring_filter *large, *huge;
    struct netring_capture *captures[2];
    struct netring_group *group;
    uint8_t frame[PAYLOAD + 300];
    long before;

    for (int i = 0; i < LENGTH; i++)
        many[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0);
    many[LENGTH - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0x40000);
    if (netring_filter_new(large_only, COUNT(large_only), &large, NULL) != 0 ||
        netring_filter_new(many, LENGTH, &huge, NULL) != 0)
        tap_bail("netring_filter_new");
    if (immediate)
        small.flags |= NETRING_CAPTURE_IMMEDIATE;
    config.members = 2;
    group = group_new(&config);
    captures[0] = join(group, "vb", &small);
    is_int(set_filter(captures[0], NULL), 0, "%s: detached", what);
    is_int(set_filter(captures[0], large), 0, "%s: set", what);
    before = option_memory(4096);
    if (before < 0) {
        tap_skip("a filter too large", "optmem_max cannot be set here");
    } else {
        is_int(set_filter(captures[0], huge), NETRING_ESOCKOPT, "%s: one too large", what);
        is_int(errno, ENOMEM, "%s: one too large: ENOMEM", what);
        option_memory(before);
    }
    is_int(netring_capture_lock_filter(captures[0], NULL), 0, "%s: locked", what);
    is_int(set_filter(captures[0], NULL), NETRING_ESOCKOPT, "%s: locked, not detached", what);
    is_int(errno, EPERM, "%s: locked, not detached: EPERM", what);
    send_flows(sender, 0, 20, 1, false);
    sleep_ms(5);
    is_int(capture_stats(captures[0]).seen, 0, "%s: nothing comes", what);

    captures[1] = join(group, "vb", &small);
    for (uint32_t i = 0; i < 40; i++)
        net_send(sender, frame, udp_frame(frame, 0, false, i, i < 20 ? 16 : 300));
    is_int(await_sum(captures, 2, 30), 30, "%s: what both have received", what);
    is_int(capture_stats(captures[0]).seen, 10, "%s: what it lets in", what);
    is_int(set_filter(captures[0], NULL), NETRING_ESOCKOPT, "%s: still locked", what);
    is_int(set_filter(captures[1], large), 0, "%s: the other is not", what);
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 30), 30, "%s: both want large ones only", what);
    netring_filter_free(large);
    netring_filter_free(huge);
    close_all(group, captures, 2);
}

/* ---- a close while another thread is busy with the group ---- */

struct busy {
    struct netring_group *group;
    struct netring_capture *joined;
    atomic_bool inside, go_on;
};

/* Stays in the line that says that packets come from now on. */
static void lingers(void *user, uint32_t level, const char *message)
{
    struct busy *busy = user;
    int64_t end = now_ms() + tap_patience(3000);

    (void)level;
    if (!strstr(message, "packets come from now on"))
        return;
    atomic_store(&busy->inside, true);
    while (!atomic_load(&busy->go_on) && now_ms() < end)
        sleep_ms(1);
}

static void *joins_slowly(void *user)
{
    struct busy *busy = user;

    busy->joined = join(busy->group, "vb", NULL);
    return NULL;
}

/* A close has ended the socket when it returns, whoever is busy with the group. */
static void test_close_beside_join(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct busy busy = {.group = group_new(&config)};
    struct netring_capture *first = join(busy.group, "vb", NULL);
    pthread_t thread;

    netring_log_set(NETRING_LOG_INFO, lingers, &busy);
    if (pthread_create(&thread, NULL, joins_slowly, &busy) != 0)
        tap_bail("pthread_create");
    while (!atomic_load(&busy.inside))
        sleep_ms(1);
    capture_close(first);
    /* All of it goes to the one that is left. */
    send_flows(sender, 0, 20, 1, false);
    atomic_store(&busy.go_on, true);
    pthread_join(thread, NULL);
    netring_log_set(0, NULL, NULL);
    is_int(await_sum(&busy.joined, 1, 20), 20, "closed beside a join: its share is the other's");
    close_all(busy.group, &busy.joined, 1);
}

/* A held block that cannot be copied keeps the socket, and the socket its share. It receives
 * nothing, and all of it ends with the block. */
static void without_copies(void *user)
{
    const struct refusal mremap = {.call = SYS_mremap, .error = ENOMEM};
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2];
    struct netring_block *held;

    (void)user;
    open_all(group, NULL, captures, 2);
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 20), 20, "no copies: both receive");
    if (netring_capture_next_block(captures[0], 1000, &held) != 1)
        tap_bail("no block");
    refuse(&mremap);
    capture_close(captures[0]);
    is_int(group_info(group).joined, 1, "no copies: one member");
    netring_block_release(held);
    send_flows(sender, 20, 20, 1, false);
    is_int(await_sum(captures + 1, 1, 30), 30, "no copies: released, the other gets it all");
    close_all(group, captures + 1, 1);
}

static void test_refused(void)
{
    for (int sockets = 1; sockets >= 0; sockets--) {
        bool user = sockets;

        child_run("no membarrier", without_membarrier, &user);
    }
    child_run("no detach", without_detach, NULL);
    child_run("no copies", without_copies, NULL);
}

/* A link that goes down takes its members along; what came before is told before that. */
static void test_down(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config slow = small_config();
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2];
    struct netring_block *block;
    struct who who;

    slow.block_timeout = 60000;
    slow.flags |= NETRING_CAPTURE_DOWN_IS_ERROR;
    open_all(group, &slow, captures, 2);
    who_begin(&who, 0, 20);
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 20), 20, "down: received");
    net_link_up("vb", false);
    for (int i = 0; i < 2; i++) {
        is_int(netring_capture_next_block(captures[i], 5000, &block), 1, "down: first the packets");
        who_block(&who, i, block);
        netring_block_release(block);
        is_int(netring_capture_next_block(captures[i], 5000, &block), NETRING_ENETDOWN,
               "down: then the error");
    }
    who_is_all(&who, "down");
    free(who.member);
    net_link_up("vb", true);
    net_await_carrier("va");
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 40), 40, "up again: members receive");
    close_all(group, captures, 2);
}

/* ---- ids ---- */

struct shared_id {
    struct netring_group_config config;
};

/* Another process, which joins by the id. */
static void other_process(void *user)
{
    const struct shared_id *shared = user;
    struct netring_group *group = group_new(&shared->config);
    struct netring_capture *capture = join(group, "vb", NULL);
    int from = net_sender("va");

    is_int(group_info(group).id, shared->config.id, "two processes: the same id");
    send_flows(from, 0, 100, 1, false);
    is_int(await_sum(&capture, 1, 50), 50, "two processes: the share of the other one");
    close(from);
    close_all(group, &capture, 1);
}

static void test_ids(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_group *groups[3];
    struct netring_capture *captures[3];
    struct netring_group_info info[3];
    struct shared_id shared;

    for (int i = 0; i < 2; i++) {
        groups[i] = group_new(&config);
        captures[i] = join(groups[i], "vb", NULL);
        info[i] = group_info(groups[i]);
    }
    ok(info[0].id != info[1].id, "unique ids differ: %u and %u", info[0].id, info[1].id);
    ok(info[0].state & NETRING_GROUP_HAS_ID && info[0].mode == NETRING_FANOUT_LB &&
           info[0].max_members == 256 && info[0].joined == 1 && info[0].members == 0 &&
           info[0].flags == NETRING_FANOUT_FLAG_UNIQUEID && info[0].ifindex == net_index("vb"),
       "the info of a group");
    /* A group by itself gets everything. */
    send_flows(sender, 0, 10, 1, false);
    is_int(await_sum(captures, 1, 10), 10, "a group of one: all packets");
    is_int(await_sum(captures + 1, 1, 10), 10, "another group of one: all of them too");
    capture_close(captures[1]);
    netring_group_free(groups[1]);

    shared.config = config;
    shared.config.flags = 0;
    shared.config.id = info[0].id;
    child_run("two processes", other_process, &shared);
    is_int(await_sum(captures, 1, 60), 60, "two processes: the share of this one");
    send_flows(sender, 0, 10, 1, false);
    is_int(await_sum(captures, 1, 70), 70, "two processes: the other has left");

    /* By an id that nobody has yet; another handle of this process joins it. */
    shared.config.id = 54321;
    groups[1] = group_new(&shared.config);
    is_int(group_info(groups[1]).id, 54321, "an id given: told before the join");
    groups[2] = group_new(&shared.config);
    captures[1] = join(groups[1], "vb", NULL);
    captures[2] = join(groups[2], "vb", NULL);
    send_flows(sender, 0, 10, 1, false);
    is_int(await_sum(captures + 1, 2, 10), 10, "an id given: one group");
    is_int(capture_stats(captures[2]).seen, 5, "an id given: two members");
    for (int i = 0; i < 3; i++)
        close_all(groups[i], &captures[i], 1);
}

/* ---- threads, pinned ---- */

struct joiner {
    struct netring_group *group;
    pthread_barrier_t *barrier;
    pthread_t thread;
    struct netring_capture *capture;
    int rc;
};

static void *joins(void *user)
{
    struct joiner *joiner = user;
    struct netring_capture_config config = small_config();

    pthread_barrier_wait(joiner->barrier);
    joiner->rc = netring_group_join(joiner->group, "vb", &config, &joiner->capture, NULL);
    return NULL;
}

/* Six at once for four places; and closes at once. */
static void test_threads(void)
{
    enum { JOINERS = 6 };

    for (int round = 0; round < 3; round++) {
        struct netring_group_config config = group_config(NETRING_FANOUT_LB);
        struct joiner joiners[JOINERS];
        struct netring_capture *captures[JOINERS];
        struct netring_group *group;
        pthread_barrier_t barrier;
        size_t in = 0, refused = 0;

        config.members = MOST;
        group = group_new(&config);
        pthread_barrier_init(&barrier, NULL, JOINERS);
        for (int i = 0; i < JOINERS; i++) {
            joiners[i] = (struct joiner){.group = group, .barrier = &barrier};
            pthread_create(&joiners[i].thread, NULL, joins, &joiners[i]);
        }
        for (int i = 0; i < JOINERS; i++) {
            pthread_join(joiners[i].thread, NULL);
            if (joiners[i].rc == 0)
                captures[in++] = joiners[i].capture;
            refused += joiners[i].rc == NETRING_EINVAL;
        }
        is_int(in, MOST, "threads: four have joined");
        is_int(refused, JOINERS - MOST, "threads: the others were refused");
        if (in != MOST)
            tap_bail("no group");
        send_flows(sender, 0, 100, 1, false);
        is_int(await_sum(captures, in, 100), 100, "threads: sum over members = sent");
        for (size_t i = 0; i < in; i++)
            is_int(capture_stats(captures[i]).seen, 25, "threads: share of member %zu", i);
        pthread_barrier_destroy(&barrier);
        close_all(group, captures, in);
    }
}

struct closer {
    struct netring_capture *capture;
    pthread_t thread;
};

static void *closes(void *user)
{
    netring_capture_close(((struct closer *)user)->capture);
    return NULL;
}

/* Members come and go while others do, and one stays. */
static void test_turmoil(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_group *group = group_new(&config);
    struct netring_capture *stays = join(group, "vb", NULL);
    pthread_barrier_t barrier;

    for (int round = 0; round < 5; round++) {
        struct joiner joiners[2];
        struct closer closers[2];
        unsigned wrong = 0;

        for (int i = 0; i < 2; i++)
            closers[i].capture = join(group, "vb", NULL);
        pthread_barrier_init(&barrier, NULL, 2);
        for (int i = 0; i < 2; i++) {
            joiners[i] = (struct joiner){.group = group, .barrier = &barrier};
            pthread_create(&joiners[i].thread, NULL, joins, &joiners[i]);
            pthread_create(&closers[i].thread, NULL, closes, &closers[i]);
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(joiners[i].thread, NULL);
            pthread_join(closers[i].thread, NULL);
            wrong += joiners[i].rc != 0;
        }
        pthread_barrier_destroy(&barrier);
        is_int(wrong, 0, "turmoil %d: joins", round);
        is_int(group_info(group).joined, 3, "turmoil %d: members", round);
        for (int i = 0; i < 2; i++)
            capture_close(joiners[i].capture);
    }
    is_int(group_info(group).joined, 1, "turmoil: one stays");
    close_all(group, &stays, 1);
}

/* A capture by itself is pinned as a member is, and put back where its open fails. */
static void pinned_alone(void *user)
{
    const struct netring_capture_config *pinned = user;
    const struct refusal bind_call = {
        .call = SYS_setsockopt,
        .error = ENOBUFS,
        .count = 1,
        .conditions = {{.argument = 2, .mask = UINT32_MAX, .value = PACKET_ADD_MEMBERSHIP}}};
    struct netring_capture_config promiscuous = *pinned;
    struct netring_capture *capture = NULL;
    cpu_set_t before, now, one;

    CPU_ZERO(&one);
    CPU_SET(pinned->cpu, &one);
    sched_getaffinity(0, sizeof before, &before);
    refuse(&bind_call);
    promiscuous.flags |= NETRING_CAPTURE_PROMISCUOUS;
    is_int(netring_capture_open("vb", &promiscuous, &capture, NULL), NETRING_ESOCKOPT,
           "an open with a CPU that fails behind the ring");
    sched_getaffinity(0, sizeof now, &now);
    ok(CPU_EQUAL(&now, &before), "an open that fails: the thread is where it was");
    capture = capture_open("vb", pinned);
    sched_getaffinity(0, sizeof now, &now);
    ok(CPU_EQUAL(&now, &one), "an open with a CPU: pinned to it");
    capture_close(capture);
}

static void test_pinning(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_HASH);
    struct netring_capture_config pinned = small_config();
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2];
    struct netring_error error;
    cpu_set_t before, now, one;
    int cpu = 0, last = 0, rc;
    int32_t cpus[2];

    sched_getaffinity(0, sizeof before, &before);
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    for (int i = 0; i < CPU_SETSIZE; i++)
        last = CPU_ISSET(i, &before) ? i : last;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    pinned.cpu = last;
    child_run("pinned, no member", pinned_alone, &pinned);
    captures[0] = join(group, "vb", &pinned);
    sched_getaffinity(0, sizeof now, &now);
    ok(CPU_EQUAL(&now, &one) && sched_getcpu() == last, "a join with a CPU: pinned to it");
    sched_setaffinity(0, sizeof before, &before);

    /* One that fails after that puts the thread back. */
    pinned.flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
    rc = netring_group_join(group, "vb", &pinned, &captures[1], NULL);
    is_int(rc, NETRING_EINVAL, "a join that fails");
    sched_getaffinity(0, sizeof now, &now);
    ok(CPU_EQUAL(&now, &before), "a join that fails: the thread is where it was");
    pinned.flags &= ~NETRING_CAPTURE_IGNORE_OUTGOING;
    pinned.cpu = 8191;
    error_spoil(&error);
    errno = 0;
    rc = netring_group_join(group, "vb", &pinned, &captures[1], &error);
    is_failure(rc, errno, &error, &(struct failure){NETRING_EINVAL, EINVAL, "cpu", {"8191"}},
               "a CPU that is not there");
    for (int i = 0; i < 2; i++) {
        pinned.cpu = i ? 8192 : -2;
        is_int(netring_group_join(group, "vb", &pinned, &captures[1], NULL), NETRING_EINVAL,
               "cpu %d", pinned.cpu);
    }
    capture_close(captures[0]);

    pinned.cpu = -1;
    cpus[0] = cpu;
    cpus[1] = last;
    rc = netring_group_open(group, "vb", &pinned, cpus, captures, 2, NULL);
    is_int(rc, 0, "two with CPUs of their own");
    sched_getaffinity(0, sizeof now, &now);
    ok(CPU_EQUAL(&now, &before), "two with CPUs of their own: the thread is where it was");
    close_all(group, captures, 2);
}

/* ---- refusals ---- */

static void new_fails(const struct netring_group_config *config, const char *option,
                      const char *words)
{
    const struct failure want = {NETRING_EINVAL, 0, option, {words}};
    struct netring_group *group = NULL;
    struct netring_error error;
    int rc;

    error_spoil(&error);
    errno = 0;
    rc = netring_group_new(config, &group, &error);
    is_failure(rc, errno, &error, &want, words);
    ok(group == NULL, "%s: no handle", words);
}

static void test_new(void)
{
    static const struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 1)};
    struct netring_group_config config;
    struct netring_filter *filter;
    struct netring_group *group = NULL;

    netring_filter_new(all, 1, &filter, NULL);
    for (uint32_t mode = 0; mode < 10; mode++) {
        config = group_config(mode);
        config.program = mode == NETRING_FANOUT_CBPF ? filter : NULL;
        if (mode >= NETRING_FANOUT_EBPF)
            new_fails(&config, mode == NETRING_FANOUT_EBPF ? "program" : "mode",
                      mode == NETRING_FANOUT_EBPF ? "program is NULL" : "no fanout mode");
        else if (is_int(netring_group_new(&config, &group, NULL), 0, "mode %u", mode))
            netring_group_free(group);
    }
    for (int bit = 0; bit < 64; bit++) {
        config = group_config(NETRING_FANOUT_HASH);
        config.flags |= UINT64_C(1) << bit;
        if (bit < 12 || bit > 15)
            new_fails(&config, "flags", "unknown to this library");
    }
    config = group_config(NETRING_FANOUT_ROLLOVER);
    config.flags |= NETRING_FANOUT_FLAG_ROLLOVER;
    new_fails(&config, "flags", "rolls over by itself");
    config = group_config(NETRING_FANOUT_HASH);
    config.id = 1;
    new_fails(&config, "id", "clear the flag");
    config.flags = 0;
    config.id = 65536;
    new_fails(&config, "id", "0 to 65535");
    config = group_config(NETRING_FANOUT_HASH);
    config.members = 257;
    new_fails(&config, "members", "raise max_members");
    config.max_members = 65537;
    new_fails(&config, "max_members", "0 to 65536");
    config = group_config(NETRING_FANOUT_HASH);
    config.program = filter;
    new_fails(&config, "program", "NETRING_FANOUT_CBPF");
    config.mode = NETRING_FANOUT_EBPF;
    new_fails(&config, "program", "takes an eBPF program");
    config.mode = NETRING_FANOUT_CBPF;
    config.program = NULL;
    new_fails(&config, "program", "program is NULL");
    config.init = 0;
    new_fails(&config, "init", "netring_group_config_init");
    config = group_config(NETRING_FANOUT_CBPF);
    config.program = (struct netring_filter *)(uintptr_t)0x1234;
    is_int(netring_group_new(&config, &group, NULL), NETRING_EBADF, "a program that is none");
    config.flags = 0;
    config.id = 7;
    config.program = NULL;
    if (is_int(netring_group_new(&config, &group, NULL), 0, "by id, another has the program"))
        netring_group_free(group);
    netring_filter_free(filter);
}

static void test_join_errors(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB), other;
    struct netring_capture_config small = small_config(), wrong = small;
    struct netring_group *group, *stranger;
    struct netring_capture *captures[3] = {NULL, NULL, NULL};
    struct netring_error error;
    int32_t cpus[3] = {-1, -1, 8191};
    struct footprint before;
    int rc;

    config.flags = 0;
    config.id = 777;
    config.members = 2;
    config.max_members = 2;
    group = group_new(&config);
    wrong.block_timeout = 0;
    join_fails(group, "vb", &wrong,
               &(struct failure){NETRING_EINVAL, 0, "block_timeout", {"fanout group"}},
               "block_timeout 0");
    join_fails(group, "nosuch", &small,
               &(struct failure){.code = NETRING_ENODEV, .os_errno = ENODEV},
               "an interface that is not there");
    captures[0] = join(group, "vb", &small);
    join_fails(group, "va", &small,
               &(struct failure){NETRING_EINVAL, 0, "interface", {"va", "first member"}},
               "another interface");
    wrong = small;
    wrong.flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
    join_fails(group, "vb", &wrong,
               &(struct failure){NETRING_EINVAL, 0, "flags", {"IGNORE_OUTGOING"}},
               "outgoing ignored by one alone");

    /* The kernel's own refusals, to others who come by the id. */
    for (int i = 0; i < 4; i++) {
        static const char *const what[] = {"another mode", "other flags", "another interface",
                                           "another max_members"};

        other = config;
        other.members = 0;
        other.mode = i == 0 ? NETRING_FANOUT_HASH : config.mode;
        other.flags = i == 1 ? NETRING_FANOUT_FLAG_DEFRAG : 0;
        other.max_members = i == 3 ? 3 : 0;
        stranger = group_new(&other);
        join_fails(
            stranger, i == 2 ? "va" : "vb", &small,
            &(struct failure){
                NETRING_ESOCKOPT, EINVAL, "PACKET_FANOUT", {"777", "another mode", "max_members"}},
            what[i]);
        netring_group_free(stranger);
    }
    captures[1] = join(group, "vb", &small);
    join_fails(group, "vb", &small,
               &(struct failure){NETRING_EINVAL, 0, "members", {"2 members", "3"}},
               "more than the members given");
    other = config;
    other.members = 0;
    stranger = group_new(&other);
    join_fails(stranger, "vb", &small,
               &(struct failure){NETRING_ESOCKOPT, ENOSPC, "PACKET_FANOUT", {"777", "(2)"}},
               "a full group");
    netring_group_free(stranger);
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 20), 20, "after all that the members receive");
    is_int(capture_stats(captures[0]).seen, 10, "after all that they share");
    close_all(group, captures, 2);

    /* All or nothing. */
    config = group_config(NETRING_FANOUT_LB);
    group = group_new(&config);
    before = footprint_now();
    captures[0] = captures[1] = NULL;
    error_spoil(&error);
    errno = 0;
    rc = netring_group_open(group, "vb", &small, cpus, captures, 3, &error);
    is_failure(rc, errno, &error,
               &(struct failure){NETRING_EINVAL, EINVAL, "cpu", {"capture 3 of 3", "8191"}},
               "the third of three fails");
    ok(!captures[0] && !captures[1], "the third of three fails: no handles");
    is_int(group_info(group).joined, 0, "the third of three fails: no members");
    is_int(group_info(group).state, 0, "the third of three fails: no group in the kernel");
    is_footprint(before, "the third of three fails");
    wrong = small;
    wrong.cpu = 0;
    is_int(netring_group_open(group, "vb", &wrong, NULL, captures, 2, NULL), NETRING_EINVAL,
           "several, and one CPU for them all");
    netring_group_free(group);
}

/* In another network namespace the same id is another group, and interface 1 another lo.
 * Handed-over sockets join as any other, one by one. */
static void test_elsewhere(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config small = small_config(), other = small;
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2] = {join(group, "lo", &small), NULL};
    int sockets[2] = {-1, -1}, program;

    other.flags |= NETRING_CAPTURE_NETNS_FD;
    other.netns_fd = net_namespace_new();
    if (capture_info(captures[0]).kernel_version >= 0x050e00)
        join_fails(group, "lo", &other,
                   &(struct failure){NETRING_EINVAL, 0, "netns_fd", {"another network namespace"}},
                   "another network namespace");
    else
        tap_skip("another network namespace", "this kernel does not tell");
    close(other.netns_fd);
    capture_close(captures[0]);

    other = small;
    other.flags |= NETRING_CAPTURE_SOCKET_FD;
    for (int i = 0; i < 2; i++) {
        other.socket_fd = sockets[i] = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        captures[i] = join(group, "vb", &other);
    }
    send_flows(sender, 0, 20, 1, false);
    is_int(await_sum(captures, 2, 20), 20, "handed-over sockets: sum over members = sent");
    is_int(capture_stats(captures[0]).seen, 10, "handed-over sockets: shared");
    is_int(netring_group_open(group, "vb", &other, NULL, captures, 2, NULL), NETRING_EINVAL,
           "one handed-over socket for two captures");
    program = ebpf_length();
    if (program < 0) {
        tap_skip("a handed-over socket with an eBPF filter", "bpf(2) is not allowed here");
    } else {
        other.socket_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        if (setsockopt(other.socket_fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program) != 0)
            tap_bail("SO_ATTACH_BPF");
        join_fails(group, "vb", &other,
                   &(struct failure){NETRING_EINVAL, 0, "socket_fd", {"has an eBPF filter"}},
                   "a handed-over socket with an eBPF filter");
        close(other.socket_fd);
        close(program);
    }
    for (int i = 0; i < 2; i++)
        close(sockets[i]);
    close_all(group, captures, 2);
}

/* A link that is down: since Linux 6.13 members wait for it, before that they are told. */
static void test_down_before(void)
{
    struct netring_group_config config = group_config(NETRING_FANOUT_LB);
    struct netring_capture_config small = small_config();
    struct netring_group *group = group_new(&config);
    struct netring_capture *captures[2] = {NULL, NULL};
    struct netring_error error;
    int rc;

    net_link_up("vb", false);
    error_spoil(&error);
    errno = 0;
    rc = netring_group_join(group, "vb", &small, &captures[0], &error);
    if (rc == 0) {
        captures[1] = join(group, "vb", &small);
        net_link_up("vb", true);
        net_await_carrier("va");
        send_flows(sender, 0, 20, 1, false);
        is_int(await_sum(captures, 2, 20), 20, "joined while down, then up");
        is_int(capture_stats(captures[0]).seen, 10, "joined while down, then up: shared");
        close_all(group, captures, 2);
    } else {
        is_failure(rc, errno, &error,
                   &(struct failure){NETRING_ESOCKOPT,
                                     EINVAL,
                                     "PACKET_FANOUT",
                                     {"vb is down", "ip link set vb up", "6.13"}},
                   "a link that is down");
        netring_group_free(group);
        net_link_up("vb", true);
        net_await_carrier("va");
    }
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    net_await_carrier("va");
    sender = net_sender("va");

    test_hash();
    test_lb();
    test_rnd();
    test_cpu();
    test_qm();
    test_cbpf();
    test_ebpf();
    test_rollover(NETRING_FANOUT_HASH);
    test_rollover(NETRING_FANOUT_ROLLOVER);
    test_defrag();
    test_ignore_outgoing();
    test_members();
    test_flood(0);
    test_flood(MOST);
    test_leaving();
    test_flush_and_stop();
    test_down();
    test_ids();
    test_threads();
    test_turmoil();
    test_pinning();
    test_new();
    test_join_errors();
    test_down_before();
    test_elsewhere();
    test_immediate();
    test_locked(false);
    test_locked(true);
    test_later_than_refused();
    test_filter_before_complete(false);
    test_filter_before_complete(true);
    test_close_beside_join();
    test_refused();
    return tap_end();
}
