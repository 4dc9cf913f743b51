/* What netring_xdp_probe tells, held against what happens: programs attached and sockets bound by
 * hand, and netring_xdp_open, on links of many kinds and states; what keeps an open from working;
 * what is told of queues; that nothing is loaded, attached or bound; wrong arguments.
 * no-valgrind: it does not know BPF_LINK_CREATE, and ASan sees the same */
#include "xdp.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/if_xdp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
enum { CAP_NET_ADMIN = 12, CAP_NET_RAW = 13, CAP_IPC_LOCK = 14, CAP_BPF = 39 };

/* XDP programs can be loaded here: not in a user namespace. */
static bool privileged;

static struct netring_xdp_probe probe(const char *name)
{
    struct netring_xdp_probe probe;
    struct netring_error error;

    memset(&probe, 0xa5, sizeof probe);
    if (netring_xdp_probe(name, &probe, sizeof probe, &error) != 0)
        tap_bail("%s: %s", name, error.message);
    return probe;
}

/* ---- a card with RSS ---- */

/* No card here has these. The library asks every driver through ioctl(2): for one interface the
 * answers come from here. */
static struct {
    char interface[IFNAMSIZ];
    uint32_t entries, table[512];
    uint32_t rules;
    uint32_t flags, gro; /* ETH_FLAG_* */
    bool renamed;        /* as soon as it is asked, another link gets its name */
} card;

static int card_answers(void *data)
{
    uint32_t command = *(uint32_t *)data;
    struct ethtool_rxfh_indir *indirection = data;

    switch (command) {
    case ETHTOOL_GRXFHINDIR:
        if (indirection->size != 0 && indirection->size != card.entries) {
            errno = EINVAL;
            return -1;
        }
        if (indirection->size != 0)
            memcpy(indirection->ring_index, card.table, card.entries * sizeof *card.table);
        indirection->size = card.entries;
        return 0;
    case ETHTOOL_GRXCLSRLCNT:
        ((struct ethtool_rxnfc *)data)->rule_cnt = card.rules;
        return 0;
    case ETHTOOL_GFLAGS:
        ((struct ethtool_value *)data)->data = card.flags;
        return 0;
    case ETHTOOL_GGRO:
        ((struct ethtool_value *)data)->data = card.gro;
        return 0;
    case ETHTOOL_GDRVINFO:
        strcpy(((struct ethtool_drvinfo *)data)->driver, "card");
        return 0;
    default:
        return 1;
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (request == SIOCETHTOOL && card.interface[0]) {
        struct ifreq *ifreq = argument;

        if (strncmp(ifreq->ifr_name, card.interface, IFNAMSIZ) == 0) {
            int answer = card_answers(ifreq->ifr_data);

            if (card.renamed && *(uint32_t *)ifreq->ifr_data == ETHTOOL_GRXFHINDIR) {
                card.renamed = false;
                net_link_rename("pa", "px");
                net_link_rename("pz", "pa");
            }

            if (answer <= 0)
                return answer;
        }
    }
    return (int)syscall(SYS_ioctl, fd, request, argument);
}

/* ---- by hand ---- */

/* Loads a program and attaches it: 0, or errno. */
static int attach_by_hand(const char *name, uint32_t mode, bool segments)
{
    const struct bpf_insn pass[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attributes;
    int program, link, error;

    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.insns = (uintptr_t)pass;
    attributes.insn_cnt = COUNT(pass);
    attributes.license = (uintptr_t) "GPL";
    attributes.prog_flags = segments ? 1u << 5 : 0; /* BPF_F_XDP_HAS_FRAGS */
    attributes.expected_attach_type = 37;           /* BPF_XDP */
    program = xdp_bpf(BPF_PROG_LOAD, &attributes, sizeof attributes);
    if (program < 0)
        return errno;
    memset(&attributes, 0, sizeof attributes);
    attributes.link_create.prog_fd = (uint32_t)program;
    attributes.link_create.target_ifindex = net_index(name);
    attributes.link_create.attach_type = 37;
    attributes.link_create.flags = mode;
    link = xdp_bpf(BPF_LINK_CREATE, &attributes, sizeof attributes);
    error = link < 0 ? errno : 0;
    if (link >= 0)
        close(link);
    close(program);
    return error;
}

/* A socket with rings and 64 frames. */
struct by_hand {
    int socket;
    void *memory;
};
enum { FRAMES = 64, MEMORY = FRAMES * 4096 };

static void unbind_by_hand(struct by_hand *one)
{
    if (one->socket >= 0)
        close(one->socket);
    if (one->memory)
        munmap(one->memory, MEMORY);
}

/* 0, or errno. A queue just closed is busy for a while. */
static int bind_by_hand(const char *name, uint32_t queue, uint16_t flags, struct by_hand *one)
{
    const int options[] = {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING};
    struct sockaddr_xdp address = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = flags,
        .sxdp_ifindex = net_index(name),
        .sxdp_queue_id = queue,
    };
    struct xdp_umem_reg umem = {.len = MEMORY, .chunk_size = 4096};
    const int entries = FRAMES;
    int64_t until = now_ms() + tap_patience(2000);
    int error;

    *one = (struct by_hand){-1, NULL};
    one->socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (one->socket < 0)
        return errno;
    one->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (one->memory == MAP_FAILED)
        tap_bail("mmap: %s", strerror(errno));
    umem.addr = (uintptr_t)one->memory;
    if (setsockopt(one->socket, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) != 0)
        tap_bail("XDP_UMEM_REG: %s", strerror(errno));
    for (size_t i = 0; i < COUNT(options); i++)
        if (setsockopt(one->socket, SOL_XDP, options[i], &entries, sizeof entries) != 0)
            tap_bail("ring %zu: %s", i, strerror(errno));
    do {
        error = bind(one->socket, (void *)&address, sizeof address) == 0 ? 0 : errno;
    } while (error == EBUSY && now_ms() < until && usleep(2000) == 0);
    return error;
}

/* What an open of all queues with NETRING_MODE_AUTO gets, found by doing it. */
static uint32_t mode_by_hand(const char *name, uint32_t queues, int *why)
{
    bool native = true, zero_copy = true;

    *why = attach_by_hand(name, XDP_FLAGS_DRV_MODE, false);
    if (*why == EPERM || *why == EBUSY || *why == EEXIST)
        return NETRING_PROBE_WOULD_FAIL;
    if (*why != 0) {
        native = false;
        *why = attach_by_hand(name, XDP_FLAGS_SKB_MODE, false);
        if (*why != 0)
            return NETRING_PROBE_WOULD_FAIL;
    }
    for (uint32_t queue = 0; queue < queues; queue++) {
        struct by_hand one;

        if (native && zero_copy) {
            if (bind_by_hand(name, queue, XDP_ZEROCOPY, &one) != 0)
                zero_copy = false;
            unbind_by_hand(&one);
        }
        *why = bind_by_hand(name, queue, XDP_COPY, &one);
        unbind_by_hand(&one);
        if (*why != 0)
            return NETRING_PROBE_WOULD_FAIL;
    }
    return !native ? NETRING_MODE_SKB : zero_copy ? NETRING_MODE_ZEROCOPY : NETRING_MODE_COPY;
}

/* ---- by the library ---- */

static uint32_t mode_by_open(const char *name, struct netring_error *error)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_AUTO);
    struct netring_xdp *xdp = NULL;
    uint32_t mode;

    config.rx_frames = FRAMES;
    config.tx_frames = FRAMES;
    if (netring_xdp_open(name, NULL, 0, &config, &xdp, error) < 0)
        return NETRING_PROBE_WOULD_FAIL;
    mode = xdp_info(xdp).mode;
    xdp_close(xdp);
    return mode;
}

static const char *mode_name(uint32_t mode)
{
    static const char *const names[] = {"not known", "zero-copy", "native", "SKB"};

    return mode < COUNT(names) ? names[mode] : "would fail";
}

/* A queue keeps its socket for a moment after that was closed. */
static void await_free(const char *name)
{
    int64_t until = now_ms() + tap_patience(5000);

    while (probe(name).taken_queues && now_ms() < until)
        sleep_ms(2);
}

/* The checks: attaching and binding by hand gets the mode that was foretold, and so does an open.
 */
static struct netring_xdp_probe is_as_foretold(const char *name, const char *what)
{
    struct netring_error error = {0};
    struct netring_xdp_probe told;
    uint32_t by_hand, by_open, queues;
    int why = 0;

    await_free(name);
    told = probe(name);
    queues = told.rx_queues > told.tx_queues ? told.rx_queues : told.tx_queues;
    if (!privileged) {
        ok(told.blocked_by & NETRING_PROBE_BLOCK_BPF && told.mode == NETRING_PROBE_WOULD_FAIL,
           "%s: told that bpf(2) is refused", what);
        is_int(attach_by_hand(name, 0, false), EPERM, "%s: it is", what);
        is_int(mode_by_open(name, &error), NETRING_PROBE_WOULD_FAIL, "%s: an open fails", what);
        is_int(error.code, NETRING_EPERM, "%s: because of that", what);
        return told;
    }
    by_hand = mode_by_hand(name, queues, &why);
    by_open = mode_by_open(name, &error);
    if (told.valid & NETRING_PROBE_MODE || told.blocked_by) {
        ok(told.mode == by_hand, "%s: foretold %s, by hand %s (%s)", what, mode_name(told.mode),
           mode_name(by_hand), strerror(why));
        ok(told.mode == by_open, "%s: foretold %s, opened %s (%s)", what, mode_name(told.mode),
           mode_name(by_open), error.message);
    } else {
        bool told_queues = told.valid & NETRING_PROBE_QUEUES;

        ok(by_hand >= told.mode && (by_hand != NETRING_PROBE_WOULD_FAIL || !told_queues),
           "%s: at best %s, by hand %s (%s)", what, mode_name(told.mode), mode_name(by_hand),
           strerror(why));
        ok(by_open >= told.mode && (by_open != NETRING_PROBE_WOULD_FAIL || !told_queues),
           "%s: at best %s, opened %s (%s)", what, mode_name(told.mode), mode_name(by_open),
           error.message);
    }
    return told;
}

/* Not while one that goes has a socket. */
static bool set_channels(const char *name, uint32_t rx, uint32_t tx)
{
    int64_t until = now_ms() + tap_patience(2000);
    struct ethtool_channels channels = {.cmd = ETHTOOL_SCHANNELS, .rx_count = rx, .tx_count = tx};
    struct ifreq request = {0};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool done;

    strcpy(request.ifr_name, name);
    request.ifr_data = (void *)&channels;
    do {
        done = ioctl(fd, SIOCETHTOOL, &request) == 0;
    } while (!done && errno == EINVAL && now_ms() < until && usleep(2000) == 0);
    if (!done)
        tap_diag("channels of %s: %s", name, strerror(errno));
    close(fd);
    return done;
}

/* ---- links ---- */

static void test_veth(void)
{
    struct netring_xdp_probe one;
    struct netring_interface as_interface;

    net_veth("pa", "pb");
    net_await_carrier("pa");
    one = is_as_foretold("pa", "veth");
    is_int(netring_interface_info("pa", &as_interface, sizeof as_interface, NULL), 0, "veth: info");
    is_int(one.size, sizeof one, "veth: size");
    is_int(one.ifindex, net_index("pa"), "veth: index");
    is_str(one.interface, "pa", "veth: name");
    is_str(one.driver, "veth", "veth: driver");
    is_int(one.best_mode, NETRING_MODE_COPY, "veth: the driver runs programs");
    is_int(one.limited_by, NETRING_PROBE_LIMIT_ZEROCOPY, "veth: and has no zero copy");
    is_int(one.features, as_interface.xdp_features, "veth: features");
    is_int(one.max_segments, as_interface.xdp_max_segments, "veth: segments");
    is_int(one.kernel_version >> 16, one.kernel_version / 65536, "veth: kernel");
    is_int(one.link_type, NETRING_LINKTYPE_ETHERNET, "veth: link type");
    is_int(one.mtu, 1500, "veth: MTU");
    is_int(one.native_mtu, 1500, "veth: MTU of the peer");
    is_int(one.frame_size_needed, 1500 + 14 + 8 + 4 + 256, "veth: frames");
    ok(one.up && one.carrier, "veth: up, with a carrier");
    is_int(one.program_id, 0, "veth: no program");
    is_int(one.attach_mode, 0, "veth: nowhere");
    is_int(one.strips_tags, 0, "veth: tags stay, whatever ethtool -k says");
    is_int(one.reserved, 0, "veth: reserved");
    ok((one.valid & NETRING_PROBE_QUEUES || one.kernel_version < 0x050d00) &&
           one.valid & NETRING_PROBE_DRIVER && one.valid & NETRING_PROBE_PROGRAM &&
           one.valid & NETRING_PROBE_NATIVE_MTU && one.valid & NETRING_PROBE_OFFLOADS &&
           one.valid & NETRING_PROBE_MODE,
       "veth: that is known");
    ok(!(one.valid & (NETRING_PROBE_RSS | NETRING_PROBE_RULES)), "veth: it has no RSS");
    is_int((one.valid & NETRING_PROBE_FEATURES) != 0,
           (as_interface.valid & NETRING_INTERFACE_XDP_FEATURES) != 0,
           "veth: features are known where netring_interface_info knows them");
    if (privileged)
        is_str(one.advice, "", "veth: nothing to say");

    net_link_up("pb", false);
    net_await_no_carrier("pa");
    one = is_as_foretold("pa", "veth without carrier");
    ok(one.up && !one.carrier, "veth without carrier: told");
    is_str_contains(one.advice, "pa has no carrier", "veth without carrier: in words");
    net_link_up("pa", false);
    one = is_as_foretold("pa", "veth that is down");
    ok(!one.up, "veth that is down: told");
    is_str_contains(one.advice, "`ip link set pa up`", "veth that is down: in words");
    net_link_delete("pa");
}

/* On the peer's, since that is what comes. */
static void test_mtu(void)
{
    struct netring_xdp_probe one;
    uint32_t limit;

    net_veth("pa", "pb");
    net_link_mtu("pa", 9000);
    one = is_as_foretold("pa", "an MTU of 9000 of its own");
    is_int(one.mtu, 9000, "an MTU of 9000 of its own: told");
    is_int(one.native_mtu, 1500, "an MTU of 9000 of its own: the peer's counts");
    is_int(one.limited_by, NETRING_PROBE_LIMIT_ZEROCOPY, "an MTU of 9000 of its own: no matter");

    net_link_mtu("pb", 9000);
    net_link_mtu("pa", 1500);
    one = is_as_foretold("pa", "a peer with an MTU of 9000");
    is_int(one.native_mtu, 9000, "a peer with an MTU of 9000: told");
    is_int(one.frame_size_needed, 1500 + 26 + 256, "a peer with an MTU of 9000: frames");
    is_str_contains(one.advice, "NETRING_XDP_MULTI_BUFFER", "a peer with an MTU of 9000: words");
    if (one.valid & NETRING_PROBE_MTU_LIMIT) {
        limit = one.mtu_limit;
        is_int(one.best_mode, NETRING_MODE_SKB, "a peer with an MTU of 9000: in the stack");
        ok(one.limited_by & NETRING_PROBE_LIMIT_MTU, "a peer with an MTU of 9000: therefore");
        net_link_mtu("pb", limit);
        one = is_as_foretold("pa", "a peer with the largest MTU");
        is_int(one.best_mode, NETRING_MODE_COPY, "a peer with the largest MTU: in the driver");
        net_link_mtu("pb", limit + 1);
        one = is_as_foretold("pa", "a peer with one more");
        is_int(one.best_mode, NETRING_MODE_SKB, "a peer with one more: in the stack");
    } else {
        tap_skip("the largest MTU", "not known on this architecture");
    }
    net_link_mtu("pb", 9000);
    net_link_mtu("pa", 8000);
    one = is_as_foretold("pa", "jumbo frames");
    is_int(one.frame_size_needed, 8000 + 26 + 256, "jumbo frames: the smaller one counts");
    is_str_contains(one.advice, "Packets need up to 8282 bytes", "jumbo frames: in words");
    net_link_delete("pa");
}

static void test_queues(void)
{
    struct netring_xdp_probe one;
    struct by_hand socket;

    net_veth_queues("pa", "pb", 4);
    one = is_as_foretold("pa", "four queues");
    is_int(one.rx_queues, 4, "four queues: receive");
    is_int(one.tx_queues, 4, "four queues: send");
    is_str_contains(one.advice, "any of 4 queues", "four queues: in words");
    if (!set_channels("pa", 2, 3)) {
        tap_skip("queues in use", "this veth's cannot be set");
        net_link_delete("pa");
        return;
    }
    one = is_as_foretold("pa", "fewer queues than the peer");
    is_int(one.rx_queues, 2, "fewer queues than the peer: receive");
    is_int(one.tx_queues, 3, "fewer queues than the peer: send");
    is_int(one.rx_queues_max, 4, "fewer queues than the peer: it could have more");
    is_int(one.tx_queues_max, 4, "fewer queues than the peer: also to send");
    ok(one.limited_by & NETRING_PROBE_LIMIT_PEER_QUEUES, "fewer queues than the peer: told");
    is_int(one.best_mode, NETRING_MODE_SKB, "fewer queues than the peer: in the stack");
    is_str_contains(one.advice, "`ethtool -L pa rx N`", "fewer queues than the peer: in words");
    if (privileged) {
        is_int(bind_by_hand("pa", 2, XDP_COPY, &socket), 0, "the last queue can be bound to");
        unbind_by_hand(&socket);
        is_int(bind_by_hand("pa", 3, XDP_COPY, &socket), EINVAL, "the one behind it cannot");
        unbind_by_hand(&socket);
    }
    ok(set_channels("pb", 4, 2), "the peer sends by two");
    one = is_as_foretold("pa", "as many queues as the peer");
    is_int(one.best_mode, NETRING_MODE_COPY, "as many queues as the peer: in the driver");

    net_link_up("pa", false);
    one = probe("pa");
    ok(one.rx_queues == 2 && one.tx_queues == 3 && one.valid & NETRING_PROBE_QUEUES,
       "down: the same queues (%u, %u)", one.rx_queues, one.tx_queues);
    ok(!(one.valid & NETRING_PROBE_TAKEN), "down: who has them is not known");
    net_link_delete("pa");
}

static void test_taken(void)
{
    struct netring_xdp_probe one;
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_AUTO);
    struct netring_error error;
    struct netring_xdp *xdp;
    struct by_hand socket;
    const uint32_t others[] = {0, 1, 3};

    net_veth_queues("pa", "pb", 4);
    one = probe("pa");
    if (!(one.valid & NETRING_PROBE_TAKEN)) {
        tap_skip("queues with sockets", "before Linux 6.15 the kernel does not tell");
        net_link_delete("pa");
        return;
    }
    is_int(one.taken_queues, 0, "no sockets: none");
    is_int(bind_by_hand("pa", 2, XDP_COPY, &socket), 0, "a socket on queue 2");
    one = probe("pa");
    is_int(one.taken_queues, 1, "a socket: counted");
    is_int(one.taken_first, 2, "a socket: its queue");
    ok(one.blocked_by & NETRING_PROBE_BLOCK_QUEUES, "a socket: in the way");
    is_int(one.mode, NETRING_PROBE_WOULD_FAIL, "a socket: an open of all queues would fail");
    if (privileged)
        is_int(one.best_mode, NETRING_MODE_COPY, "a socket: but for that");
    is_str_contains(one.advice, "Queue 2 has an AF_XDP socket", "a socket: in words");
    if (privileged) {
        config.flags |= NETRING_XDP_NO_RETRY;
        is_int(netring_xdp_open("pa", NULL, 0, &config, &xdp, &error), NETRING_EBUSY,
               "a socket: an open of all queues fails");
        is_str(error.option, "queue", "a socket: for that reason");
        config.flags &= ~NETRING_XDP_NO_RETRY; /* the others may be on their way to be closed */
        is_int(netring_xdp_open("pa", others, COUNT(others), &config, &xdp, &error), 0,
               "a socket: an open of the others does not");
        is_int(probe("pa").taken_queues, 4, "more sockets: all four");
        is_int(probe("pa").taken_first, 0, "more sockets: the first");
        xdp_close(xdp);
    }
    unbind_by_hand(&socket);
    await_free("pa");
    is_int(probe("pa").taken_queues, 0, "the socket is closed: none");
    net_link_delete("pa");
}

static void test_kinds(void)
{
    struct netring_xdp_probe one;
    int tun;

    net_veth("pa", "pb");
    one = is_as_foretold("lo", "lo");
    ok(one.limited_by & NETRING_PROBE_LIMIT_NATIVE || !(one.valid & NETRING_PROBE_FEATURES),
       "lo: no driver");
    if (net_link_new("pbr", "bridge", NULL)) {
        is_as_foretold("pbr", "bridge");
        net_link_master("pb", "pbr");
        is_as_foretold("pb", "port of a bridge");
        net_link_delete("pbr");
    } else {
        tap_skip("bridge", "not in this kernel");
    }
    if (net_link_new("pm", "macvlan", "pa"))
        is_as_foretold("pm", "macvlan");
    else
        tap_skip("macvlan", "not in this kernel");
    if (net_link_new("pi", "ifb", NULL))
        is_as_foretold("pi", "ifb");
    else
        tap_skip("ifb", "not in this kernel");
    tun = net_tun("pt", IFF_TUN);
    if (tun >= 0) {
        one = is_as_foretold("pt", "tun");
        is_int(one.link_type, NETRING_LINKTYPE_RAW, "tun: link type");
        is_int(one.frame_size_needed, 1500 + 256, "tun: no header");
        close(tun);
    } else {
        tap_skip("tun", "not in this kernel");
    }
    tun = net_tun("pt", IFF_TAP);
    if (tun >= 0) {
        is_as_foretold("pt", "tap");
        close(tun);
    }
    tun = net_tun("pt", IFF_TAP | IFF_MULTI_QUEUE);
    if (tun >= 0) {
        one = is_as_foretold("pt", "tap of many queues");
        if (one.valid & NETRING_PROBE_QUEUES) {
            is_int(one.rx_queues, 1, "tap of many queues: one is in use");
        } else {
            ok(one.kernel_version < 0x060800, "tap of many queues: the kernel tells since 6.8");
            is_str_contains(one.advice, "how many queues are in use", "tap of many queues: told");
        }
        ok(one.rx_queues_max > 1, "tap of many queues: of %u", one.rx_queues_max);
        close(tun);
    }
    net_link_delete("pa");
}

/* What is in another network namespace cannot be asked. */
static void test_peer_elsewhere(void)
{
    int other = net_namespace_new();
    struct netring_xdp_probe one;

    char command[64];

    /* Another link has the number of the peer, and is not it. */
    net_veth("pa", "pb");
    snprintf(command, sizeof command, "ip link add name pz index %" PRIu32 " mtu 9000 type ifb",
             net_index("pb"));
    net_link_move("pb", other);
    net_link_up("pa", true);
    if (system(command) != 0)
        tap_diag("%s: not here", command);
    one = is_as_foretold("pa", "peer elsewhere");
    ok(!(one.valid & NETRING_PROBE_NATIVE_MTU) && one.native_mtu == 0,
       "peer elsewhere: its MTU: unknown");
    ok(!(one.valid & NETRING_PROBE_MODE), "peer elsewhere: nothing is certain");
    is_int(one.best_mode, NETRING_MODE_COPY, "peer elsewhere: at best in the driver");
    is_str_contains(one.advice, "another network namespace", "peer elsewhere: in words");
    net_link_delete("pa");
    if (if_nametoindex("pz"))
        net_link_delete("pz");
    close(other);
}

/* ---- in the way ---- */

static void test_programs(void)
{
    struct netring_xdp_probe one;
    int program, link;

    if (!privileged) {
        tap_skip("programs", "none can be loaded here");
        return;
    }
    net_veth("pa", "pb");
    program = xdp_pass_program();
    for (int native = 0; native <= 1; native++) {
        const char *what = native ? "a program in the driver" : "a program in the stack";

        link = xdp_attach(program, "pa", native);
        one = is_as_foretold("pa", what);
        is_int(one.blocked_by, NETRING_PROBE_BLOCK_PROGRAM, "%s: in the way", what);
        is_int(one.mode, NETRING_PROBE_WOULD_FAIL, "%s: an open would fail", what);
        is_int(one.best_mode, NETRING_MODE_COPY, "%s: without it not", what);
        is_int(one.program_id, xdp_program_id(program), "%s: its number", what);
        is_int(one.attach_mode, native ? XDP_ATTACHED_DRV : XDP_ATTACHED_SKB, "%s: where", what);
        is_str_contains(one.advice, "is not replaced", "%s: in words", what);
        close(link);
        ok(xdp_is_detached("pa", what) && probe("pa").blocked_by == 0, "%s: gone", what);
    }
    if (probe("pa").kernel_version < 0x050f00) {
        tap_skip("programs above", "since Linux 5.15 none may be below");
    } else if (net_link_new("pm", "macvlan", "pa")) {
        link = xdp_attach(program, "pm", false);
        one = is_as_foretold("pa", "a program on a macvlan above");
        is_int(one.blocked_by, NETRING_PROBE_BLOCK_UPPER, "a program on a macvlan above: told");
        is_int(one.program_id, 0, "a program on a macvlan above: none of its own");
        is_str_contains(one.advice, "is on pm, above pa", "a program on a macvlan above: in words");
        close(link);
    }
    if (probe("pa").kernel_version >= 0x050f00 && net_link_new("pbr", "bridge", NULL)) {
        net_link_master("pb", "pbr");
        link = xdp_attach(program, "pbr", false);
        one = is_as_foretold("pb", "a program on the bridge");
        is_int(one.blocked_by, NETRING_PROBE_BLOCK_UPPER, "a program on the bridge: told");
        close(link);
        net_link_delete("pbr");
    }
    /* The peer is not above, though it is named as the interface below. */
    link = xdp_attach(program, "pb", true);
    one = is_as_foretold("pa", "a program on the peer");
    is_int(one.blocked_by, 0, "a program on the peer: not in the way");
    close(link);
    close(program);
    net_link_delete("pa");
}

struct capabilities {
    const char *what;
    uint64_t kept;
    rlim_t locked;
    uint32_t blocked;
    int code; /* of an open with the defaults */
};

static void with_capabilities(void *user)
{
    const struct capabilities *test = user;
    const struct rlimit limit = {test->locked, test->locked};
    struct netring_xdp_config config;
    struct netring_xdp_probe one;
    struct netring_error error;
    struct netring_xdp *xdp;

    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        tap_skip(test->what, "the limit on locked memory cannot be set so high");
        return;
    }
    keep_capabilities(test->kept);
    await_free("pa");
    one = probe("pa");
    /* Before Linux 5.11 programs count as locked memory, until they are forgotten. */
    for (int i = 0; i < 100 && one.blocked_by != test->blocked && !xdp_kernel(5, 11); i++) {
        sleep_ms(20);
        one = probe("pa");
    }
    is_int(one.blocked_by, test->blocked, "%s: told", test->what);
    is_int(one.mode, test->blocked ? NETRING_PROBE_WOULD_FAIL : NETRING_MODE_COPY, "%s: so it goes",
           test->what);
    is_int(one.best_mode, NETRING_MODE_COPY, "%s: without", test->what);
    is_int(one.locked_limit, test->kept & CAPABILITY(CAP_IPC_LOCK) ? UINT64_MAX : test->locked,
           "%s: what may be locked", test->what);
    netring_xdp_config_init(&config, sizeof config);
    config.redirect = NETRING_REDIRECT_NONE;
    is_int(netring_xdp_open("pa", NULL, 0, &config, &xdp, &error), test->code, "%s: an open: %s",
           test->what, error.message);
    if (test->code == 0) {
        is_int(xdp_info(xdp).memory, one.frame_memory, "%s: the memory was foretold", test->what);
        xdp_close(xdp);
    }
    if (test->code == NETRING_EMEMLOCK && test->locked >= MIB) {
        config.rx_frames = FRAMES;
        config.tx_frames = FRAMES;
        is_int(netring_xdp_open("pa", NULL, 0, &config, &xdp, &error), 0,
               "%s: an open with fewer frames: %s", test->what, error.message);
        xdp_close(xdp);
    }
}

static void test_capabilities(void)
{
    const uint64_t raw = CAPABILITY(CAP_NET_RAW), lock = CAPABILITY(CAP_IPC_LOCK);
    const uint64_t bpf = CAPABILITY(CAP_BPF) | CAPABILITY(CAP_NET_ADMIN);
    const struct capabilities tests[] = {
        {"no capability", 0, 1 << 16,
         NETRING_PROBE_BLOCK_SOCKET | NETRING_PROBE_BLOCK_BPF | NETRING_PROBE_BLOCK_LOCKED,
         NETRING_EPERM},
        {"CAP_NET_RAW", raw | lock, 1 << 16, NETRING_PROBE_BLOCK_BPF, NETRING_EPERM},
        {"CAP_BPF and CAP_NET_ADMIN", bpf | lock, 1 << 16, NETRING_PROBE_BLOCK_SOCKET,
         NETRING_EPERM},
        {"nothing to be locked", raw | bpf, 1 << 16, NETRING_PROBE_BLOCK_LOCKED, NETRING_EMEMLOCK},
        {"little to be locked", raw | bpf, 4 * MIB, NETRING_PROBE_BLOCK_LOCKED, NETRING_EMEMLOCK},
        {"all that is needed", raw | bpf | lock, 1 << 16, 0, 0},
    };

    if (!privileged || syscall(SYS_getuid) != 0) {
        tap_skip("capabilities", "there are none to take away here");
        return;
    }
    net_veth("pa", "pb");
    for (size_t i = 0; i < COUNT(tests); i++)
        child_run(tests[i].what, with_capabilities, (void *)&tests[i]);
    net_link_delete("pa");
}

static void in_user_namespace(void *user)
{
    struct netring_xdp_probe one;
    int fd;

    (void)user;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        tap_skip("a user namespace", strerror(errno));
        return;
    }
    fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    ok(fd >= 0, "a user namespace: sockets are had");
    close(fd);
    one = probe("lo");
    is_int(one.blocked_by & (NETRING_PROBE_BLOCK_SOCKET | NETRING_PROBE_BLOCK_BPF),
           NETRING_PROBE_BLOCK_BPF, "a user namespace: programs are not, and that is told");
    is_int(attach_by_hand("lo", XDP_FLAGS_SKB_MODE, false), EPERM,
           "a user namespace: they are not");
    ok(one.locked_limit != UINT64_MAX || one.frame_memory == 0,
       "a user namespace: CAP_IPC_LOCK does not count");
}

/* ---- RSS ---- */

static void test_card(void)
{
    struct netring_xdp_probe one;

    net_veth_queues("pa", "pb", 4);
    strcpy(card.interface, "pa");
    card.entries = 128;
    card.rules = 0;
    card.flags = 0;
    for (uint32_t i = 0; i < COUNT(card.table); i++)
        card.table[i] = i % 4;
    one = probe("pa");
    is_int(one.rss_queues, 4, "RSS over all: how many");
    is_int(one.rss_first, 0, "RSS over all: from the first");
    ok(one.valid & NETRING_PROBE_RSS && one.valid & NETRING_PROBE_RULES, "RSS over all: known");
    is_int(one.steering_rules, 0, "RSS over all: no rules");
    is_str_contains(one.advice, "RSS spreads packets over queues 0, 1, 2, 3 of 4",
                    "RSS over all: in words");
    is_str(one.driver, "card", "RSS over all: another driver");
    ok(!one.strips_tags && !one.lro, "RSS over all: no offloads");

    card.entries = 512;
    for (uint32_t i = 0; i < COUNT(card.table); i++)
        card.table[i] = 3;
    card.rules = 2;
    card.flags = ETH_FLAG_RXVLAN | ETH_FLAG_LRO;
    card.gro = 1;
    one = probe("pa");
    is_int(one.rss_queues, 1, "RSS to one: how many");
    is_int(one.rss_first, 3, "RSS to one: which");
    is_int(one.steering_rules, 2, "RSS to one: rules");
    ok(one.strips_tags && one.lro && one.gro, "RSS to one: offloads");
    is_str_contains(one.advice, "RSS leads every packet to queue 3 of 4", "RSS to one: in words");
    is_str_contains(one.advice, "2 steering rules", "RSS to one: rules in words");
    is_str_contains(one.advice, "`ethtool -K pa rxvlan off`", "RSS to one: tags in words");
    is_str_contains(one.advice, "`ethtool -K pa lro off`", "RSS to one: LRO in words");

    card.entries = 0;
    one = probe("pa");
    ok(!(one.valid & NETRING_PROBE_RSS) && one.rss_queues == 0, "no table: not known");
    card.entries = UINT32_MAX;
    one = probe("pa");
    ok(!(one.valid & NETRING_PROBE_RSS) && one.rss_queues == 0, "an endless table: not known");
    card.interface[0] = 0;
    net_link_delete("pa");
}

/* ---- nothing happens ---- */

static void probe_refused(void *user)
{
    const struct refusal refusals[] = {
        {SYS_bpf, 0, 1, {{0, UINT32_MAX, BPF_PROG_LOAD, false}}},
        {SYS_bpf, 0, 1, {{0, UINT32_MAX, BPF_LINK_CREATE, false}}},
        {SYS_bpf, 0, 1, {{0, UINT32_MAX, BPF_MAP_UPDATE_ELEM, false}}},
        {SYS_bind, 0, 0, {{0, 0, 0, false}}},
        {SYS_setsockopt, 0, 0, {{0, 0, 0, false}}},
        {SYS_mlock, 0, 0, {{0, 0, 0, false}}},
    };
    struct footprint before = footprint_now();

    for (size_t i = 0; i < COUNT(refusals); i++)
        refuse(&refusals[i]);
    for (int i = 0; i < 3; i++)
        is_int(probe("pa").ifindex, net_index("pa"), "without programs, binds and options: told");
    is_footprint(before, "probing");
    if (user)
        bind(-1, NULL, 0);
}

static void test_no_effect(void)
{
    struct xdp_attached before, after;

    net_veth("pa", "pb");
    before = xdp_attached("pa");
    child_run("nothing is loaded, attached or bound", probe_refused, NULL);
    child_killed("a bind would have been seen", SIGSYS, probe_refused, "bind");
    after = xdp_attached("pa");
    ok(before.id == 0 && after.id == 0, "no program came");
    net_link_delete("pa");
}

/* The socket and the map that tell what the caller may do. */
static void refused_call(void *user)
{
    const struct refusal *refusal = user;
    struct netring_xdp_probe one;

    refuse(refusal);
    one = probe("pa");
    is_int(one.blocked_by & ~(uint32_t)NETRING_PROBE_BLOCK_LOCKED,
           refusal->call == SYS_bpf         ? NETRING_PROBE_BLOCK_KERNEL
           : refusal->error == EAFNOSUPPORT ? NETRING_PROBE_BLOCK_KERNEL
                                            : NETRING_PROBE_BLOCK_SOCKET,
           "refused: told");
    is_int(one.mode, NETRING_PROBE_WOULD_FAIL, "refused: an open would fail");
}

static void test_other_kernels(void)
{
    const struct refusal refusals[] = {
        {SYS_socket, EAFNOSUPPORT, 1, {{0, UINT32_MAX, AF_XDP, false}}},
        {SYS_socket, EACCES, 1, {{0, UINT32_MAX, AF_XDP, false}}},
        {SYS_bpf, ENOSYS, 0, {{0, 0, 0, false}}},
    };

    net_veth("pa", "pb");
    if (privileged)
        for (size_t i = 0; i < COUNT(refusals); i++)
            child_run("a refused call", refused_call, (void *)&refusals[i]);
    else
        tap_skip("refused calls", "bpf(2) is refused in any case");
    net_link_delete("pa");
}

static void without_netdev(void *user)
{
    const struct refusal generic = {
        SYS_socket,
        EPROTONOSUPPORT,
        2,
        {{0, UINT32_MAX, AF_NETLINK, false}, {2, UINT32_MAX, NETLINK_GENERIC, false}}};
    struct netring_xdp_probe one;

    (void)user;
    refuse(&generic);
    one = is_as_foretold("pa", "before Linux 6.3, veth");
    ok(!(one.valid & (NETRING_PROBE_FEATURES | NETRING_PROBE_TAKEN)),
       "before Linux 6.3, veth: features are not known");
    is_int(one.best_mode, NETRING_MODE_COPY, "before Linux 6.3, veth: but that they are native");
    one = is_as_foretold("lo", "before Linux 6.3, lo");
    is_int(one.best_mode, NETRING_MODE_AUTO, "before Linux 6.3, lo: open, and see");
    ok(!(one.valid & NETRING_PROBE_MODE), "before Linux 6.3, lo: nothing is certain");
}

static void test_without_netdev(void)
{
    net_veth("pa", "pb");
    child_run("before Linux 6.3", without_netdev, NULL);
    net_link_delete("pa");
}

/* ---- a name that moves ---- */

static atomic_bool renaming;

static void *rename_it(void *user)
{
    (void)user;
    while (renaming) {
        net_link_rename("pa", "px");
        net_link_rename("px", "pa");
    }
    return NULL;
}

static void test_renamed(void)
{
    uint32_t index, found = 0, other = 0;
    struct netring_xdp_probe one;
    pthread_t thread;

    net_veth("pa", "pb");
    net_link_up("pa", false);
    index = net_index("pa");
    renaming = true;
    pthread_create(&thread, NULL, rename_it, NULL);
    for (int i = 0; i < 200; i++) {
        int rc = netring_xdp_probe(i % 2 ? "pa" : "px", &one, sizeof one, NULL);

        if (rc == 0 && one.ifindex == index && strcmp(one.driver, "veth") == 0)
            found++;
        else if (rc != NETRING_ENODEV)
            other++;
    }
    renaming = false;
    pthread_join(thread, NULL);
    is_int(other, 0, "renamed meanwhile: it, or NETRING_ENODEV");
    tap_diag("found %u of 200 times", found);

    /* Half of it asked, and the name is another one's. */
    net_veth("pz", "py");
    net_link_up("pz", false);
    strcpy(card.interface, "pa");
    card.renamed = true;
    card.entries = 1;
    card.rules = 9;
    one = probe("pa");
    is_int(one.ifindex, index, "renamed in the middle: it is found again");
    is_str(one.interface, "px", "renamed in the middle: by its new name");
    is_str(one.driver, "veth", "renamed in the middle: its own driver");
    ok(one.steering_rules == 0, "renamed in the middle: nothing of the other one's");
    card.interface[0] = 0;
    net_link_delete("px");
    net_link_delete("py");
}

/* ---- frames ---- */

static void test_frame_size(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_AUTO);
    uint8_t frame[FRAME_MAX];
    struct netring_xdp_probe one;
    struct netring_packet packet;
    struct xdp_one xdp;
    size_t longest;
    int sender;

    if (!privileged) {
        tap_skip("frames", "no program can be loaded");
        return;
    }
    net_veth("pa", "pb");
    net_link_mtu("pa", 2048 - 26 - 256);
    net_link_mtu("pb", 2048 - 26 - 256);
    one = probe("pa");
    is_int(one.frame_size_needed, 2048, "an MTU for frames of 2048");
    longest = one.mtu + ETHER_HEADER;
    config.frame_size = 2048;
    xdp = xdp_one("pa", &config);
    net_await_carrier("pb");
    sender = net_sender("pb");
    frame_make(frame, longest, 7);
    net_send(sender, frame, longest);
    is_int(netring_queue_next_packet(xdp.queue, (int)tap_patience(1000), &packet, sizeof packet), 1,
           "the longest packet comes");
    is_int(packet.caplen, longest, "the longest packet comes whole");
    is_bytes(packet.data, frame, longest, "the longest packet comes byte for byte");
    xdp_close(xdp.xdp);
    close(sender);
    net_link_delete("pa");
}

/* ---- arguments ---- */

static void fails(const char *what, const char *name, size_t size, bool out, int code,
                  const char *option)
{
    struct netring_xdp_probe one;
    struct netring_error error;
    int rc;

    error_spoil(&error);
    errno = 0;
    rc = netring_xdp_probe(name, out ? &one : NULL, size, &error);
    is_int(rc, code, "%s: refused", what);
    is_int(errno, -code, "%s: errno", what);
    is_int(error.code, code, "%s: code", what);
    is_str(error.option, option, "%s: option", what);
    is_int(netring_xdp_probe(name, out ? &one : NULL, size, NULL), code,
           "%s: without an error struct", what);
}

static void test_arguments(void)
{
    const size_t full = sizeof(struct netring_xdp_probe);
    struct netring_xdp_probe one, whole = probe("lo");
    struct netring_error error;
    uint8_t longer[4096];

    fails("no interface", NULL, full, true, NETRING_EINVAL, "interface");
    fails("no output", "lo", full, false, NETRING_EINVAL, "out");
    fails("too small", "lo", 15, true, NETRING_EINVAL, "size");
    fails("too large", "lo", 4097, true, NETRING_EINVAL, "size");
    fails("an empty name", "", full, true, NETRING_EINVAL, "interface");
    fails("a long name", "abcdefghijklmnop", full, true, NETRING_EINVAL, "interface");
    fails("any", "any", full, true, NETRING_ENODEV, "interface");
    fails("no such interface", "nosuch0", full, true, NETRING_ENODEV, "interface");
    error_spoil(&error);
    errno = ENOTTY;
    memset(&one, 0xa5, sizeof one);
    is_int(netring_xdp_probe("lo", &one, 24, &error), 0, "a short struct");
    is_int(errno, ENOTTY, "a short struct: errno is left alone");
    is_no_error(&error, "a short struct");
    is_int(one.size, 24, "a short struct: size");
    is_int(one.valid, whole.valid, "a short struct: valid");
    is_int(one.features, whole.features, "a short struct: the last in it");
    is_int(one.rx_metadata, (long long)0xa5a5a5a5a5a5a5a5, "a short struct: nothing behind it");
    memset(longer, 0xa5, sizeof longer);
    is_int(netring_xdp_probe("lo", (void *)longer, sizeof longer, NULL), 0, "a longer struct");
    ok(longer[full] == 0 && longer[sizeof longer - 1] == 0, "a longer struct: zeros behind");
}

int main(void)
{
    tap_begin(60);
    net_enter();
    privileged = attach_by_hand("lo", XDP_FLAGS_SKB_MODE, false) == 0;

    test_arguments();
    test_veth();
    test_mtu();
    test_queues();
    test_taken();
    test_kinds();
    test_peer_elsewhere();
    test_programs();
    test_capabilities();
    child_run("a user namespace", in_user_namespace, NULL);
    test_card();
    test_no_effect();
    test_other_kernels();
    test_without_netdev();
    test_renamed();
    test_frame_size();
    return tap_end();
}
