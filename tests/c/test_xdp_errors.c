/* What an AF_XDP open refuses, and says about it: every field of its configuration, queues,
 * interfaces; every step that the kernel can refuse, with each errno that has a remedy of its own;
 * users without the right to it; memory beyond a limit. Nothing is left behind by any of them. */
#include "xdp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_xdp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

static struct netring_xdp_config plain(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_AUTO);

    config.rx_frames = config.tx_frames = 64;
    return config;
}

/* ---- the configuration ---- */

struct wrong {
    const char *what;
    void (*set)(struct netring_xdp_config *config);
    struct failure failure;
};

static struct netring_filter *filter;
static struct netring_umem *umem; /* frames of 4096 */

#define SET(name, ...)                                                                             \
    static void name(struct netring_xdp_config *config)                                            \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }
SET(no_redirect, config->redirect = 0)
SET(redirect_4, config->redirect = 4)
SET(no_filter, config->redirect = NETRING_REDIRECT_FILTER)
SET(filter_for_all, config->redirect = NETRING_REDIRECT_ALL; config->filter = filter)
SET(filter_for_none, config->filter = filter)
SET(mode_4, config->mode = 4)
SET(flag_unknown, config->flags |= UINT64_C(1) << 40)
SET(flag_reserved, config->flags |= 1)
SET(linear_alone, config->flags |= NETRING_XDP_LINEAR)
SET(none_for_all, config->flags |= NETRING_XDP_NO_PROGRAM; config->redirect = NETRING_REDIRECT_ALL)
SET(only_and_none, config->flags |= NETRING_XDP_NO_PROGRAM | NETRING_XDP_PROGRAM_ONLY)
SET(small_frames, config->frame_size = 1024)
SET(odd_frames, config->frame_size = 3000)
SET(large_frames, config->frame_size = 8192)
SET(odd_unaligned, config->frame_size = 3001; config->flags |= NETRING_XDP_UNALIGNED)
SET(large_headroom, config->headroom = 2048 - 256)
SET(few_rx_frames, config->rx_frames = 63)
SET(few_tx_frames, config->tx_frames = 1)
SET(many_rx_frames, config->rx_frames = (1 << 20) + 1)
SET(tx_frames_for_none, config->flags |= NETRING_XDP_NO_TX)
SET(rx_ring_3, config->rx_ring = 3000)
SET(tx_ring_3, config->tx_ring = 100)
SET(fill_ring_3, config->fill_ring = 65)
SET(completion_ring_3, config->completion_ring = 0x80000001)
SET(small_fill_ring, config->fill_ring = 32)
SET(long_blocks, config->block_packets = 4097)
SET(long_gathering, config->block_timeout_us = 1000001)
SET(gathering_and_busy_poll, config->block_timeout_us = 50; config->busy_poll = 20)
SET(reserved, config->reserved = 1)
SET(busy_poll_budget_alone, config->busy_poll_budget = 8)
SET(large_budget, config->busy_poll = 20; config->busy_poll_budget = 65536)
SET(long_busy_poll, config->busy_poll = 0x80000000)
SET(long_bind_timeout, config->bind_timeout = 3600001)
SET(long_carrier_timeout, config->carrier_timeout = 3600001)
SET(netns_without_flag, config->netns_fd = 3)
SET(program_without_flag, config->program_fd = 3)
SET(map_without_flag, config->map_fd = 3)
SET(netns_negative, config->netns_fd = -1; config->flags |= NETRING_XDP_NETNS_FD)
SET(netns_closed, config->netns_fd = 1000; config->flags |= NETRING_XDP_NETNS_FD)
SET(program_negative, config->program_fd = -1; config->redirect = 0;
    config->flags |= NETRING_XDP_PROGRAM_FD)
SET(program_closed, config->program_fd = 1000; config->redirect = 0;
    config->flags |= NETRING_XDP_PROGRAM_FD)
SET(map_closed, config->map_fd = 1000; config->redirect = 0; config->flags |= NETRING_XDP_MAP_FD)
SET(program_and_redirect, config->program_fd = 0; config->flags |= NETRING_XDP_PROGRAM_FD)
SET(umem_size, config->umem = umem)
SET(umem_flags, config->umem = umem; config->frame_size = 0; config->flags |= NETRING_XDP_UNALIGNED)
SET(umem_headroom, config->umem = umem; config->frame_size = 0; config->headroom = 64)
SET(umem_limit, config->umem = umem; config->frame_size = 0; config->memory_limit = 1 << 20)
SET(limit, config->memory_limit = 100 * 1024)

SET(limit_of_rings, config->rx_ring = config->completion_ring = 1 << 20;
    config->memory_limit = 16 << 20)

static const struct wrong wrongs[] = {
    {"no redirect", no_redirect, {NETRING_EINVAL, 0, "redirect", {"NETRING_REDIRECT_ALL", "SSH"}}},
    {"another redirect", redirect_4, {NETRING_EINVAL, 0, "redirect", {"4"}}},
    {"no filter", no_filter, {NETRING_EINVAL, 0, "redirect", {"filter"}}},
    {"a filter for all", filter_for_all, {NETRING_EINVAL, 0, "redirect", {"filter"}}},
    {"a filter for none", filter_for_none, {NETRING_EINVAL, 0, "redirect", {"filter"}}},
    {"another mode", mode_4, {NETRING_EINVAL, 0, "mode", {"4", "NETRING_MODE_SKB"}}},
    {"an unknown flag", flag_unknown, {NETRING_EINVAL, 0, "flags", {"0x10000000000"}}},
    {"a flag that is none", flag_reserved, {NETRING_EINVAL, 0, "flags", {"0x1"}}},
    {"linear", linear_alone, {NETRING_EINVAL, 0, "flags", {"NETRING_XDP_MULTI_BUFFER"}}},
    {"no program for all", none_for_all, {NETRING_EINVAL, 0, "flags", {"NETRING_REDIRECT_NONE"}}},
    {"no program, only it", only_and_none, {NETRING_EINVAL, 0, "flags", {"PROGRAM_ONLY"}}},
    {"small frames", small_frames, {NETRING_EINVAL, 0, "frame_size", {"1024", "2048"}}},
    {"frames of 3000", odd_frames, {NETRING_EINVAL, 0, "frame_size", {"3000", "unaligned"}}},
    {"large frames", large_frames, {NETRING_EINVAL, 0, "frame_size", {"8192"}}},
    {"unaligned, 3001", odd_unaligned, {NETRING_EINVAL, 0, "frame_size", {"3001", "8"}}},
    {"headroom", large_headroom, {NETRING_EINVAL, 0, "headroom", {"1792"}}},
    {"few rx_frames", few_rx_frames, {NETRING_EINVAL, 0, "rx_frames", {"63", "64"}}},
    {"few tx_frames", few_tx_frames, {NETRING_EINVAL, 0, "tx_frames", {"64"}}},
    {"many rx_frames", many_rx_frames, {NETRING_EINVAL, 0, "rx_frames", {"1048577"}}},
    {"tx_frames for none", tx_frames_for_none, {NETRING_EINVAL, 0, "tx_frames", {"NO_TX"}}},
    {"rx_ring 3000", rx_ring_3, {NETRING_EINVAL, 0, "rx_ring", {"3000", "power of two"}}},
    {"tx_ring 100", tx_ring_3, {NETRING_EINVAL, 0, "tx_ring", {"100"}}},
    {"fill_ring 65", fill_ring_3, {NETRING_EINVAL, 0, "fill_ring", {"65"}}},
    {"completion_ring", completion_ring_3, {NETRING_EINVAL, 0, "completion_ring", {"2147483649"}}},
    {"a small fill_ring", small_fill_ring, {NETRING_EINVAL, 0, "fill_ring", {"32", "64"}}},
    {"long blocks", long_blocks, {NETRING_EINVAL, 0, "block_packets", {"4097", "4096"}}},
    {"a long wait for a block",
     long_gathering,
     {NETRING_EINVAL, 0, "block_timeout_us", {"1000001", "1000000"}}},
    {"a block waited for while busy polling",
     gathering_and_busy_poll,
     {NETRING_EINVAL, 0, "block_timeout_us", {"busy_poll"}}},
    {"something reserved", reserved, {NETRING_EINVAL, 0, "reserved", {"not 0"}}},
    {"a budget", busy_poll_budget_alone, {NETRING_EINVAL, 0, "busy_poll_budget", {"busy_poll"}}},
    {"a large budget", large_budget, {NETRING_EINVAL, 0, "busy_poll_budget", {"65536"}}},
    {"a long busy poll", long_busy_poll, {NETRING_EINVAL, 0, "busy_poll", {"2147483648"}}},
    {"bind_timeout", long_bind_timeout, {NETRING_EINVAL, 0, "bind_timeout", {"3600001"}}},
    {"carrier_timeout", long_carrier_timeout, {NETRING_EINVAL, 0, "carrier_timeout", {"3600001"}}},
    {"netns_fd alone", netns_without_flag, {NETRING_EINVAL, 0, "netns_fd", {"NETNS_FD"}}},
    {"program_fd alone", program_without_flag, {NETRING_EINVAL, 0, "program_fd", {"PROGRAM_FD"}}},
    {"map_fd alone", map_without_flag, {NETRING_EINVAL, 0, "map_fd", {"MAP_FD"}}},
    {"netns_fd -1", netns_negative, {NETRING_EINVAL, 0, "netns_fd", {"-1"}}},
    {"netns_fd closed", netns_closed, {NETRING_EINVAL, 0, "netns_fd", {"1000"}}},
    {"program_fd -1", program_negative, {NETRING_EINVAL, 0, "program_fd", {"-1"}}},
    {"program_fd closed", program_closed, {NETRING_EINVAL, 0, "program_fd", {"1000"}}},
    {"map_fd closed", map_closed, {NETRING_EINVAL, 0, "map_fd", {"1000"}}},
    {"program and redirect", program_and_redirect, {NETRING_EINVAL, 0, "redirect", {"PROGRAM_FD"}}},
    {"another size than the umem's",
     umem_size,
     {NETRING_EINVAL, 0, "frame_size", {"2048", "4096"}}},
    {"another kind than the umem's", umem_flags, {NETRING_EINVAL, 0, "umem", {"unaligned"}}},
    {"headroom of the umem's", umem_headroom, {NETRING_EINVAL, 0, "headroom", {"64"}}},
    {"a limit of the umem's", umem_limit, {NETRING_EINVAL, 0, "umem", {"memory_limit"}}},
    {"memory", limit, {NETRING_EMMAP, ENOMEM, "memory_limit", {"102400"}}},
    {"memory of rings", limit_of_rings, {NETRING_EMMAP, ENOMEM, "memory_limit", {"rings"}}},
};

static void test_config(void)
{
    const struct sock_filter program[] = {BPF_STMT(BPF_RET | BPF_K, 1)};
    struct netring_umem_config memory;
    struct netring_xdp_config config;
    struct netring_xdp *xdp = NULL;
    uint64_t other[16] = {0};

    if (netring_filter_new(program, 1, &filter, NULL) != 0 ||
        netring_umem_config_init(&memory, sizeof memory) != 0)
        tap_bail("a filter and a UMEM");
    memory.frame_count = 256;
    if (netring_umem_new(&memory, &umem, NULL) != 0)
        tap_bail("netring_umem_new");
    for (size_t i = 0; i < COUNT(wrongs); i++) {
        config = plain();
        wrongs[i].set(&config);
        xdp_open_fails(wrongs[i].what, "va", NULL, 0, &config, &wrongs[i].failure);
    }
    xdp_open_fails("the defaults", "va", NULL, 0, NULL,
                   &(struct failure){NETRING_EINVAL, 0, "redirect", {"must be said"}});
    memset(&config, 0, sizeof config);
    is_int(netring_xdp_open("va", NULL, 0, &config, &xdp, NULL), NETRING_EINVAL,
           "never initialised");
    config = plain();
    config.filter = (struct netring_filter *)(void *)umem;
    config.redirect = NETRING_REDIRECT_FILTER;
    is_int(netring_xdp_open("va", NULL, 0, &config, &xdp, NULL), NETRING_EBADF,
           "a UMEM for a filter");
    config = plain();
    config.umem = (struct netring_umem *)(void *)filter;
    xdp_open_fails("a filter for a UMEM", "va", NULL, 0, &config,
                   &(struct failure){NETRING_EBADF, 0, "umem", {"bad handle"}});
    config = plain();
    config.frame_size = 0;
    config.umem = umem;
    config.rx_frames = 200;
    config.tx_frames = 64;
    xdp_open_fails("more frames than the umem has", "va", NULL, 0, &config,
                   &(struct failure){NETRING_EINVAL, 0, "umem", {"264", "256"}});
    config.rx_frames = 128;
    config.bind_timeout = 100;
    xdp = xdp_open("vb", NULL, 0, &config);
    xdp_open_fails("more frames than are free", "va", NULL, 0, &config,
                   &(struct failure){NETRING_EBUSY, 0, "umem", {"128", "64"}});
    xdp_close(xdp);
    xdp = NULL;
    is_int(netring_xdp_open("va", NULL, 0, (void *)other, &xdp, NULL), NETRING_EINVAL,
           "something else");
    config = plain();
    is_int(netring_xdp_open("va", NULL, 0, &config, NULL, NULL), NETRING_EINVAL, "no out");
    ok(xdp == NULL, "and no handle of any of them");
    is_int(xdp_attached("va").id, 0, "nor a program");
    netring_filter_free(filter);
    is_int(netring_umem_free(umem), 0, "the UMEM is not in use");
}

static void test_names(void)
{
    struct netring_xdp_config config = plain();
    struct netring_xdp *xdp = NULL;
    char name[300];

    xdp_open_fails("no such interface", "none", NULL, 0, &config,
                   &(struct failure){NETRING_ENODEV, ENODEV, "interface", {"none"}});
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    is_int(netring_xdp_open(name, NULL, 0, &config, &xdp, NULL) < 0, 1, "a long name");
    is_int(netring_xdp_open("", NULL, 0, &config, &xdp, NULL), NETRING_EINVAL, "an empty name");
    is_int(netring_xdp_open(NULL, NULL, 0, &config, &xdp, NULL), NETRING_EINVAL, "no name");
    is_int(netring_xdp_open("any", NULL, 0, &config, &xdp, NULL) < 0, 1,
           "not on all interfaces at once");
    ok(xdp == NULL, "no handle");
}

static void test_queues(void)
{
    struct netring_xdp_config config = plain();
    struct netring_xdp *xdp = NULL;

    xdp_open_fails("a queue that it does not have", "qa", (const uint32_t[]){0, 2}, 2, &config,
                   &(struct failure){NETRING_EINVAL, 0, "queues", {"2", "qa", "0 to 1"}});
    xdp_open_fails("a queue twice", "qa", (const uint32_t[]){1, 1}, 2, &config,
                   &(struct failure){NETRING_EINVAL, 0, "queues", {"1", "twice"}});
    xdp_open_fails("a large number", "qa", (const uint32_t[]){UINT32_MAX}, 1, &config,
                   &(struct failure){NETRING_EINVAL, 0, "queues", {"4294967295"}});
    is_int(netring_xdp_open("qa", NULL, 1, &config, &xdp, NULL), NETRING_EINVAL, "one of NULL");
    is_int(netring_xdp_open("qa", (const uint32_t[]){0}, SIZE_MAX / 2, &config, &xdp, NULL),
           NETRING_EINVAL, "too many to be a list");
    ok(xdp == NULL, "no handle");
}

/* Modes that an interface has not. */
static void test_modes(void)
{
    struct netring_xdp_config config = plain();

    config.mode = NETRING_MODE_ZEROCOPY;
    xdp_open_fails("zero copy on veth", "va", NULL, 0, &config,
                   &(struct failure){NETRING_ENOTSUP, EOPNOTSUPP, "bind", {"va", "zero copy"}});
    xdp_open_fails("zero copy on lo", "lo", NULL, 0, &config,
                   &(struct failure){NETRING_ENOTSUP, EOPNOTSUPP, "attach", {"lo"}});
    config.mode = NETRING_MODE_COPY;
    xdp_open_fails("native on lo", "lo", NULL, 0, &config,
                   &(struct failure){NETRING_ENOTSUP, EOPNOTSUPP, "attach", {"lo"}});
}

/* Filters that are none in XDP. */
static void test_filters(void)
{
    const struct sock_filter mark[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_MARK),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct netring_xdp_config config = plain();
    struct netring_error error;
    struct netring_xdp *xdp = NULL;
    struct xdp_one one;
    uint32_t id;

    if (netring_filter_new(mark, COUNT(mark), &filter, NULL) != 0)
        tap_bail("a filter");
    config.redirect = NETRING_REDIRECT_FILTER;
    config.filter = filter;
    is_int(netring_xdp_open("va", NULL, 0, &config, &xdp, &error), NETRING_EFILTER,
           "a filter by mark: %s", error.message);
    is_str(error.option, "filter", "is the filter's fault");
    is_int(netring_xdp_try_filter(filter, 0, NULL, 0, &error), NETRING_EFILTER, "nor tried");
    config = plain();
    config.redirect = NETRING_REDIRECT_ALL;
    one = xdp_one("va", &config);
    id = xdp_attached("va").id;
    is_int(netring_xdp_set_filter(one.xdp, NETRING_REDIRECT_FILTER, filter, &error),
           NETRING_EFILTER, "nor put in place");
    is_int(xdp_attached("va").id, id, "of the one there");
    {
        struct netring_error last;

        is_int(netring_xdp_last_error(one.xdp, &last), 0, "which is the last error");
        is_str(last.message, error.message, "told");
    }
    xdp_close(one.xdp);
    netring_filter_free(filter);
}

/* ---- what the kernel refuses ---- */

struct step {
    const char *what;
    struct refusal refusal;
    struct failure failure;
    uint32_t busy_poll;
};

#define OPTION(level, name, errno_)                                                                \
    {                                                                                              \
        SYS_setsockopt, errno_, 2,                                                                 \
        {                                                                                          \
            {1, UINT32_MAX, level, false},                                                         \
            {                                                                                      \
                2, UINT32_MAX, name, false                                                         \
            }                                                                                      \
        }                                                                                          \
    }
#define BPF(command, errno_)                                                                       \
    {                                                                                              \
        SYS_bpf, errno_, 1,                                                                        \
        {                                                                                          \
            {                                                                                      \
                0, UINT32_MAX, command, false                                                      \
            }                                                                                      \
        }                                                                                          \
    }
#define SOCKET(errno_)                                                                             \
    {                                                                                              \
        SYS_socket, errno_, 1,                                                                     \
        {                                                                                          \
            {                                                                                      \
                0, UINT32_MAX, AF_XDP, false                                                       \
            }                                                                                      \
        }                                                                                          \
    }
/* struct sockaddr_xdp is the only one of 16 bytes here. */
#define BIND(errno_)                                                                               \
    {                                                                                              \
        SYS_bind, errno_, 1,                                                                       \
        {                                                                                          \
            {                                                                                      \
                2, UINT32_MAX, sizeof(struct sockaddr_xdp), false                                  \
            }                                                                                      \
        }                                                                                          \
    }

static const struct step steps[] = {
    {"socket", SOCKET(EPERM), {NETRING_EPERM, EPERM, "socket", {"CAP_NET_RAW"}}, 0},
    {"socket", SOCKET(EACCES), {NETRING_EPERM, EACCES, "socket", {"CAP_NET_RAW"}}, 0},
    {"socket", SOCKET(EAFNOSUPPORT), {NETRING_ENOTSUP, EAFNOSUPPORT, "socket", {"AF_XDP"}}, 0},
    {"socket", SOCKET(EMFILE), {NETRING_ESOCKET, EMFILE, "socket", {"ulimit -n"}}, 0},
    {"map", BPF(BPF_MAP_CREATE, EPERM), {NETRING_EPERM, EPERM, "BPF_MAP_CREATE", {"CAP_BPF"}}, 0},
    {"map",
     BPF(BPF_MAP_CREATE, EINVAL),
     {NETRING_ENOTSUP, EINVAL, "BPF_MAP_CREATE", {"XSKMAP"}},
     0},
    {"map",
     BPF(BPF_MAP_CREATE, ENOSYS),
     {NETRING_ENOTSUP, ENOSYS, "BPF_MAP_CREATE", {"XSKMAP"}},
     0},
    {"map", BPF(BPF_MAP_CREATE, EMFILE), {NETRING_EIO, EMFILE, "BPF_MAP_CREATE", {"ulimit -n"}}, 0},
    {"map", BPF(BPF_MAP_CREATE, ENOMEM), {NETRING_EIO, ENOMEM, "BPF_MAP_CREATE", {"XSKMAP"}}, 0},
    {"load", BPF(BPF_PROG_LOAD, EPERM), {NETRING_EPERM, EPERM, "BPF_PROG_LOAD", {"CAP_BPF"}}, 0},
    {"load", BPF(BPF_PROG_LOAD, EMFILE), {NETRING_EIO, EMFILE, "BPF_PROG_LOAD", {"ulimit -n"}}, 0},
    {"load", BPF(BPF_PROG_LOAD, ENFILE), {NETRING_EIO, ENFILE, "BPF_PROG_LOAD", {"ulimit -n"}}, 0},
    {"load", BPF(BPF_PROG_LOAD, ENOMEM), {NETRING_EXDP, ENOMEM, "BPF_PROG_LOAD", {"memory"}}, 0},
    {"load", BPF(BPF_PROG_LOAD, EINVAL), {NETRING_EXDP, EINVAL, "BPF_PROG_LOAD", {"refused"}}, 0},
    {"link", BPF(BPF_LINK_CREATE, EPERM), {NETRING_EPERM, EPERM, "attach", {"CAP_NET_ADMIN"}}, 0},
    {"link", BPF(BPF_LINK_CREATE, ENODEV), {NETRING_ENODEV, ENODEV, "interface", {"gone"}}, 0},
    {"link", BPF(BPF_LINK_CREATE, EMFILE), {NETRING_EIO, EMFILE, "attach", {"ulimit -n"}}, 0},
    {"link", BPF(BPF_LINK_CREATE, ENFILE), {NETRING_EIO, ENFILE, "attach", {"ulimit -n"}}, 0},
    {"link",
     BPF(BPF_LINK_CREATE, EOPNOTSUPP),
     {NETRING_EXDP, EOPNOTSUPP, "attach", {"refused", "va"}},
     0},
    /* No reason to take another mode. */
    {"entry", BPF(BPF_MAP_UPDATE_ELEM, EEXIST), {NETRING_EBUSY, EEXIST, "queue", {"queue 0"}}, 0},
    {"entry", BPF(BPF_MAP_UPDATE_ELEM, EPERM), {NETRING_EPERM, EPERM, "map_fd", {"map"}}, 0},
    {"entry",
     BPF(BPF_MAP_UPDATE_ELEM, ENOMEM),
     {NETRING_EIO, ENOMEM, "BPF_MAP_UPDATE_ELEM", {"map"}},
     0},
    {"UMEM",
     OPTION(SOL_XDP, XDP_UMEM_REG, ENOBUFS),
     {NETRING_EMEMLOCK, ENOBUFS, "XDP_UMEM_REG", {"ulimit -l"}},
     0},
    {"UMEM",
     OPTION(SOL_XDP, XDP_UMEM_REG, ENOMEM),
     {NETRING_EMMAP, ENOMEM, "XDP_UMEM_REG", {"memory"}},
     0},
    {"UMEM",
     OPTION(SOL_XDP, XDP_UMEM_REG, EINVAL),
     {NETRING_ESOCKOPT, EINVAL, "XDP_UMEM_REG", {"2048"}},
     0},
    {"UMEM",
     OPTION(SOL_XDP, XDP_UMEM_REG, EPERM),
     {NETRING_EPERM, EPERM, "XDP_UMEM_REG", {"privileges"}},
     0},
    {"rx ring",
     OPTION(SOL_XDP, XDP_RX_RING, ENOMEM),
     {NETRING_EMMAP, ENOMEM, "XDP_RX_RING", {"64"}},
     0},
    {"rx ring",
     OPTION(SOL_XDP, XDP_RX_RING, EINVAL),
     {NETRING_ESOCKOPT, EINVAL, "XDP_RX_RING", {"64"}},
     0},
    {"tx ring",
     OPTION(SOL_XDP, XDP_TX_RING, ENOMEM),
     {NETRING_EMMAP, ENOMEM, "XDP_TX_RING", {"64"}},
     0},
    {"fill ring",
     OPTION(SOL_XDP, XDP_UMEM_FILL_RING, ENOMEM),
     {NETRING_EMMAP, ENOMEM, "XDP_UMEM_FILL_RING", {"64"}},
     0},
    {"completion ring",
     OPTION(SOL_XDP, XDP_UMEM_COMPLETION_RING, ENOMEM),
     {NETRING_EMMAP, ENOMEM, "XDP_UMEM_COMPLETION_RING", {"64"}},
     0},
    {"mmap of the tx and completion rings",
     {SYS_mmap, ENOMEM, 2, {{5, UINT32_MAX, 0x80000000, false}, {4, UINT32_MAX, UINT32_MAX, true}}},
     {NETRING_EMMAP, ENOMEM, "mmap", {"rings"}},
     0},
    {"bind", BIND(EBUSY), {NETRING_EBUSY, EBUSY, "queue", {"queue 0", "va"}}, 0},
    {"bind", BIND(ENODEV), {NETRING_ENODEV, ENODEV, "interface", {"va"}}, 0},
    {"bind", BIND(ENETDOWN), {NETRING_EBIND, ENETDOWN, "bind", {"ip link set va up"}}, 0},
    {"bind", BIND(EPERM), {NETRING_EPERM, EPERM, "bind", {"queue 0"}}, 0},
    {"bind", BIND(ENOBUFS), {NETRING_EMEMLOCK, ENOBUFS, "bind", {"ulimit -l"}}, 0},
    {"bind", BIND(EINVAL), {NETRING_EBIND, EINVAL, "bind", {"queue 0", "va"}}, 0},
    {"bind", BIND(EOPNOTSUPP), {NETRING_ENOTSUP, EOPNOTSUPP, "bind", {"queue 0", "va"}}, 0},
    {"bind", BIND(ENOMEM), {NETRING_EBIND, ENOMEM, "bind", {"queue 0", "va"}}, 0},
    {"busy poll",
     OPTION(SOL_SOCKET, 69, EPERM),
     {NETRING_ESOCKOPT, EPERM, "SO_PREFER_BUSY_POLL", {"CAP_NET_ADMIN"}},
     20},
    {"busy poll",
     OPTION(SOL_SOCKET, 69, ENOPROTOOPT),
     {NETRING_ESOCKOPT, ENOPROTOOPT, "SO_PREFER_BUSY_POLL", {"5.11"}},
     20},
    {"busy poll",
     OPTION(SOL_SOCKET, 46, EPERM),
     {NETRING_ESOCKOPT, EPERM, "SO_BUSY_POLL", {"CAP_NET_ADMIN"}},
     20},
    {"busy poll",
     OPTION(SOL_SOCKET, 70, EPERM),
     {NETRING_ESOCKOPT, EPERM, "SO_BUSY_POLL_BUDGET", {"CAP_NET_ADMIN"}},
     20},
    {"epoll", {SYS_epoll_create1, EMFILE, 0, {{0}}}, {NETRING_EIO, EMFILE, "epoll", {"ulimit"}}, 0},
    {"eventfd", {SYS_eventfd2, EMFILE, 0, {{0}}}, {NETRING_EIO, EMFILE, "epoll", {"ulimit"}}, 0},
};

static void refused(void *user)
{
    const struct step *step = user;
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_AUTO);
    char what[80];

    config.rx_frames = config.tx_frames = 64;
    if (step->refusal.error == EBUSY)
        config.flags |= NETRING_XDP_NO_RETRY;
    config.busy_poll = step->busy_poll;
    config.busy_poll_budget = step->busy_poll ? 8 : 0;
    snprintf(what, sizeof what, "%s: %s", step->what, strerror(step->refusal.error));
    refuse(&step->refusal);
    xdp_open_fails(what, "va", NULL, 0, &config, &step->failure);
}

static void test_steps(void)
{
    for (size_t i = 0; i < COUNT(steps); i++) {
        /* Before, there is none of these options, and the first says so. */
        if (steps[i].busy_poll && !xdp_kernel(5, 11)) {
            tap_skip(steps[i].failure.option, "it is of Linux 5.11");
            continue;
        }
        child_run(steps[i].what, refused, (void *)(uintptr_t)&steps[i]);
        xdp_is_detached("va", steps[i].what);
    }
}

/* ---- rights and limits ---- */

struct rights {
    const char *what;
    uint64_t capabilities;
    struct failure failure;
};

static void without(void *user)
{
    const struct rights *rights = user;
    struct netring_xdp_config config = plain();

    keep_capabilities(rights->capabilities);
    xdp_open_fails(rights->what, "va", NULL, 0, &config, &rights->failure);
}

static void test_rights(void)
{
    const uint64_t bpf = UINT64_C(1) << 39, raw = CAPABILITY(CAP_NET_RAW),
                   admin = CAPABILITY(CAP_NET_ADMIN);
    const struct rights all[] = {
        {"nobody", 0, {NETRING_EPERM, EPERM, "BPF_MAP_CREATE", {"CAP_BPF", "user namespace"}}},
        {"raw", raw, {NETRING_EPERM, EPERM, "BPF_MAP_CREATE", {"CAP_BPF"}}},
        {"raw and bpf", raw | bpf, {NETRING_EPERM, EPERM, "BPF_MAP_CREATE", {"CAP_NET_ADMIN"}}},
        {"bpf and admin", bpf | admin, {NETRING_EPERM, EPERM, "socket", {"CAP_NET_RAW"}}},
    };

    for (size_t i = 0; i < COUNT(all); i++)
        child_run(all[i].what, without, (void *)(uintptr_t)&all[i]);
}

/* The right to lock any amount of memory is none of these. */
static void with_enough(void *user)
{
    struct netring_xdp_config config = plain();
    struct rlimit limit = {64 * 1024, 64 * 1024};

    (void)user;
    setrlimit(RLIMIT_MEMLOCK, &limit);
    keep_capabilities(CAPABILITY(CAP_NET_RAW) | CAPABILITY(CAP_NET_ADMIN) | UINT64_C(1) << 39);
    config.rx_frames = 1024;
    xdp_open_fails(
        "more memory than may be locked", "va", NULL, 0, &config,
        &(struct failure){
            NETRING_EMEMLOCK, ENOBUFS, "XDP_UMEM_REG", {"65536", "ulimit -l", "2228224"}});
}

static void test_program_only(void)
{
    struct netring_xdp_config config = plain();
    struct netring_xdp *xdp;

    config.flags |= NETRING_XDP_PROGRAM_ONLY;
    config.redirect = NETRING_REDIRECT_ALL;
    xdp = xdp_open("qa", NULL, 0, &config);
    is_int(xdp_info(xdp).memory, 0, "a program alone takes no memory");
    is_int(xdp_info(xdp).mode, NETRING_MODE_COPY, "and is in the driver, which nobody has bound");
    xdp_close(xdp);
}

static void test_memory(void)
{
    struct netring_xdp_config config = plain();
    struct netring_umem_config memory;
    struct netring_umem *one = NULL;
    struct netring_error error;
    int rc;

    child_run("locked memory", with_enough, NULL);
    /* Of all queues, as much as one might have. */
    config.memory_limit = 300 * 1024;
    xdp_open_fails(
        "the memory of two queues", "qa", NULL, 0, &config,
        &(struct failure){
            NETRING_EMMAP, ENOMEM, "memory_limit", {"2 queues", "307200", "fewer queues"}});
    netring_umem_config_init(&memory, sizeof memory);
    memory.memory_limit = 1 << 20;
    rc = netring_umem_new(&memory, &one, &error);
    is_failure(rc, errno, &error,
               &(struct failure){NETRING_EMMAP,
                                 ENOMEM,
                                 "memory_limit",
                                 {"1048576", "67108864", "fewer or smaller frames"}},
               "a UMEM beyond its limit");
    memory.memory_limit = 0;
    memory.frame_count = 1 << 24; /* 64 GiB */
    is_int(netring_umem_new(&memory, &one, &error), NETRING_EMMAP, "beyond what there is");
    memory.frame_count = (1 << 24) + 1;
    is_int(netring_umem_new(&memory, &one, &error), NETRING_EINVAL, "beyond any");
    is_str(error.option, "frame_count", "by its frames");
    memory.frame_count = 64;
    memory.frame_size = 1000;
    is_int(netring_umem_new(&memory, &one, &error), NETRING_EINVAL, "small frames");
    is_str(error.option, "frame_size", "by their size");
    memory.frame_size = 2048;
    memory.headroom = 2000;
    is_int(netring_umem_new(&memory, &one, &error), NETRING_EINVAL, "headroom");
    is_str(error.option, "headroom", "is in the way");
    memory.headroom = 0;
    memory.flags = UINT64_C(1) << 63;
    is_int(netring_umem_new(&memory, &one, &error), NETRING_EINVAL, "an unknown flag");
    is_str(error.option, "flags", "is told");
    memory.flags = 0;
    memory.reserved = 1;
    is_int(netring_umem_new(&memory, &one, &error), NETRING_EINVAL, "what is reserved");
    memory.reserved = 0;
    is_int(netring_umem_new(&memory, NULL, &error), NETRING_EINVAL, "no out");
    ok(one == NULL, "none of them");
}

/* ---- sockets of somebody else ---- */

static void adopt_fails(const char *what, int fd, size_t count,
                        const struct netring_xdp_config *config, int code, const char *option)
{
    const uint32_t queue = 0;
    struct footprint before = footprint_now();
    struct netring_xdp *xdp = NULL;
    struct netring_error error;
    int rc = netring_xdp_adopt("va", &queue, &fd, count, config, &xdp, &error);

    is_int(rc, code, "%s: %s", what, error.message);
    is_str(error.option, option, "%s: option", what);
    ok(xdp == NULL, "%s: no handle", what);
    is_footprint(before, what);
}

static void test_adopt(void)
{
    struct netring_xdp_config config = plain();
    int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), other = net_sender("lo"), map = xdp_map(1),
        closed = dup(0), file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct netring_xdp *xdp = NULL;

    close(closed);
    adopt_fails("without a map", fd, 1, &config, NETRING_EINVAL, "map_fd");
    config.redirect = 0;
    config.flags |= NETRING_XDP_MAP_FD;
    config.map_fd = map;
    adopt_fails("no socket", closed, 1, &config, NETRING_EINVAL, "sockets");
    adopt_fails("a file", file, 1, &config, NETRING_EINVAL, "sockets");
    adopt_fails("another socket", other, 1, &config, NETRING_EINVAL, "sockets");
    adopt_fails("none", fd, 0, &config, NETRING_EINVAL, "queues");
    config.map_fd = file;
    adopt_fails("a file for a map", fd, 1, &config, NETRING_EINVAL, "map_fd");
    config.map_fd = xdp_pass_program();
    adopt_fails("a program for a map", fd, 1, &config, NETRING_EINVAL, "map_fd");
    close(config.map_fd);
    config.map_fd = map;
    is_int(netring_xdp_adopt("va", NULL, &fd, 1, &config, &xdp, NULL), NETRING_EINVAL,
           "queues NULL");
    is_int(netring_xdp_adopt("va", (const uint32_t[]){0}, NULL, 1, &config, &xdp, NULL),
           NETRING_EINVAL, "sockets NULL");
    is_int(netring_xdp_adopt("va", (const uint32_t[]){0}, &fd, 1, &config, NULL, NULL),
           NETRING_EINVAL, "no out");
    /* One that has been used up. */
    is_int(netring_xdp_adopt("va", (const uint32_t[]){0}, &fd, 1, &config, &xdp, NULL), 0,
           "a socket");
    xdp_close(xdp);
    xdp = NULL;
    adopt_fails("a socket that has been used", fd, 1, &config, NETRING_EINVAL, "sockets");
    close(fd), close(other), close(map), close(file);
}

/* A caller's map without room for the queue; programs that are none of XDP. */
static void test_own(void)
{
    struct netring_xdp_config config = plain();
    int map = xdp_map(1), program = xdp_redirect_program(map);

    config.redirect = 0;
    config.flags |= NETRING_XDP_PROGRAM_FD | NETRING_XDP_MAP_FD;
    config.program_fd = program;
    config.map_fd = map;
    xdp_open_fails("a map with one entry for two queues", "qa", NULL, 0, &config,
                   &(struct failure){NETRING_EINVAL, E2BIG, "map_fd", {"1", "queue 1"}});
    config.program_fd = map;
    xdp_open_fails("a map for a program", "va", NULL, 0, &config,
                   &(struct failure){NETRING_EINVAL, 0, "program_fd", {"XDP"}});
    config.program_fd = program;
    config.map_fd = program;
    xdp_open_fails("a program for a map", "va", NULL, 0, &config,
                   &(struct failure){NETRING_EINVAL, 0, "map_fd", {"XSKMAP"}});
    config.program_fd = program;
    /* A queue that somebody else has put a socket in for. */
    {
        int socket_fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
        uint32_t key = 0, entries = 64;
        union bpf_attr entry;

        /* Linux 7.3 wants something to receive into. */
        setsockopt(socket_fd, SOL_XDP, XDP_RX_RING, &entries, sizeof entries);
        memset(&entry, 0, sizeof entry);
        entry.map_fd = (uint32_t)map;
        entry.key = (uintptr_t)&key;
        entry.value = (uintptr_t)&socket_fd;
        if (xdp_bpf(BPF_MAP_UPDATE_ELEM, &entry, sizeof entry) != 0)
            tap_bail("BPF_MAP_UPDATE_ELEM: %s", strerror(errno));
        config.map_fd = map;
        config.bind_timeout = 100;
        xdp_open_fails("another socket in the map", "va", NULL, 0, &config,
                       &(struct failure){NETRING_EBUSY, EEXIST, "queue", {"queue 0"}});
        close(socket_fd);
    }
    close(program);
    close(map);
}

int main(void)
{
    struct footprint before;

    tap_begin(100);
    xdp_enter();
    net_veth("va", "vb");
    net_veth_queues("qa", "qb", 2);
    before = footprint_now();
    test_config();
    test_names();
    test_queues();
    test_modes();
    test_filters();
    test_steps();
    test_rights();
    test_memory();
    test_program_only();
    test_adopt();
    test_own();
    is_footprint(before, "all of it");
    return tap_end();
}
