/* Every error of sending, by its real cause: the returned code, errno, and what the error struct
 * tells; nothing is left open. Where this kernel has no reason to refuse a step, a seccomp filter
 * refuses it with the kernel's errno. */
#include "inject.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PACKET_QDISC_BYPASS
#define PACKET_QDISC_BYPASS 20
#endif

enum { SLOTS = 64 };

static struct sink sink; /* at vb */

static struct netring_injector_config small(uint32_t method)
{
    return inject_config(method, SLOTS);
}

/* ---- arguments and config values ---- */

static void test_interface(void)
{
    static const struct {
        const char *what, *interface;
        struct failure failure;
    } cases[] = {
        {"an unknown interface",
         "nosuch0",
         {NETRING_ENODEV, 0, "interface", {"interface not found: nosuch0"}}},
        {"a name that is too long",
         "sixteen-letters-",
         {NETRING_EINVAL, 0, "interface", {"sixteen-letters-", "15"}}},
        {"an empty name", "", {NETRING_EINVAL, 0, "interface", {"empty"}}},
        {"no name", NULL, {NETRING_EINVAL, 0, "interface", {"NULL"}}},
        {"every interface", "any", {NETRING_EINVAL, 0, "interface", {"any"}}},
    };
    struct netring_error error;
    int rc;

    for (size_t i = 0; i < COUNT(cases); i++)
        injector_open_fails(cases[i].what, cases[i].interface, NULL, &cases[i].failure);
    {
        struct netring_injector_config config = small(NETRING_METHOD_TPACKET2);

        injector_open_fails("a ring on loopback", "lo", &config,
                            &(struct failure){NETRING_ENOTSUP, 0, "method", {"loopback", "AUTO"}});
    }
    error_spoil(&error);
    errno = 0;
    rc = netring_injector_open("va", NULL, NULL, &error);
    is_failure(rc, errno, &error, &(struct failure){NETRING_EINVAL, 0, "out", {"NULL"}},
               "nowhere to put the handle");
}

static void test_values(void)
{
    static const struct {
        const char *what;
        size_t field, width;
        uint64_t value;
        const char *name, *words[2];
    } cases[] = {
#define FIELD(name)                                                                                \
    offsetof(struct netring_injector_config, name),                                                \
        sizeof(((struct netring_injector_config *)NULL)->name)
        {"slot_size too large", FIELD(slot_size), 131073, "slot_size", {"131073", "131072"}},
        {"slot_count too large", FIELD(slot_count), 65537, "slot_count", {"65537", "65536"}},
        {"method 1", FIELD(method), 1, "method", {"1"}},
        {"method 5", FIELD(method), 5, "method", {"5"}},
        {"a V3 ring", FIELD(method), 3, "method", {"3", "TPACKET2"}},
        {"rate_unit 3", FIELD(rate_unit), 3, "rate_unit", {"3", "RATE_BITS"}},
        {"a unit without a rate", FIELD(rate_unit), 1, "rate", {"0"}},
        {"a rate without a unit", FIELD(rate), 1000, "rate", {"1000", "RATE_NONE"}},
        {"unknown flags",
         FIELD(flags),
         UINT64_C(0x4000000000000000),
         "flags",
         {"0x4000000000000000"}},
        {"a namespace that is not asked for", FIELD(netns_fd), 7, "netns_fd", {"7", "NETNS_FD"}},
        {"a namespace that is none", FIELD(flags), NETRING_INJECTOR_NETNS_FD, "netns_fd", {"-1"}},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_injector_config config = small(NETRING_METHOD_AUTO);
        struct failure failure = {
            NETRING_EINVAL, 0, cases[i].name, {cases[i].words[0], cases[i].words[1]}};

        if (cases[i].value == NETRING_INJECTOR_NETNS_FD)
            config.netns_fd = -1;
        memcpy((char *)&config + cases[i].field, &cases[i].value, cases[i].width);
        injector_open_fails(cases[i].what, "va", &config, &failure);
    }
}

/* ---- the config struct itself ---- */

union sized_config {
    struct netring_injector_config config;
    uint8_t bytes[sizeof(struct netring_injector_config) + 64];
};

static void opens(const char *what, const struct netring_injector_config *config)
{
    struct netring_injector *injector = NULL;
    struct netring_error error;

    error_spoil(&error);
    is_str(netring_err_name(netring_injector_open("va", config, &injector, &error)), "NETRING_OK",
           "%s: opens", what);
    is_no_error(&error, what);
    netring_injector_close(injector);
}

static void test_config_struct(void)
{
    const struct failure never = {NETRING_EINVAL, 0, NULL, {"initialised", "config_init"}};
    const struct failure size = {NETRING_EINVAL, 0, "size", {"size"}};
    const struct failure alignment = {NETRING_EINVAL, 0, "config", {"aligned to 8"}};
    struct netring_injector_config config, macro = NETRING_INJECTOR_CONFIG_INIT;
    union sized_config sized;

    memset(&config, 0xa5, sizeof config);
    errno = 5;
    is_int(netring_injector_config_init(&config, sizeof config), 0, "config_init");
    is_int(errno, 5, "config_init leaves errno alone");
    is_bytes(&config, &macro, sizeof config, "the function and the macro write the same");
    is_int(config.size, sizeof config, "config_init: size");
    is_int(netring_injector_config_init(NULL, sizeof config), NETRING_EINVAL, "config_init: NULL");
    is_int(netring_injector_config_init(&config, 4), NETRING_EINVAL, "config_init: size 4");
    opens("the defaults", NULL);
    opens("the defaults, written", &macro);

    memset(&config, 0, sizeof config);
    injector_open_fails("a config of zeros", "va", &config, &never);
    memset(&config, 0xa5, sizeof config);
    config.size = sizeof config;
    injector_open_fails("a config with nothing but its size", "va", &config, &never);
    {
        /* One of another kind is no config of this kind. */
        struct netring_capture_config other = small_config();

        memcpy(&config, &other, sizeof config < sizeof other ? sizeof config : sizeof other);
        config.size = sizeof config;
        injector_open_fails("a capture's config", "va", &config, &never);
    }
    config = small(NETRING_METHOD_AUTO);
    config.size = 4;
    injector_open_fails("a size too small for the header", "va", &config, &size);
    config.size = 5000;
    injector_open_fails("a size that no config has", "va", &config, &size);
    memset(&sized, 0, sizeof sized);
    injector_open_fails("a config at an odd place", "va",
                        (struct netring_injector_config *)(void *)(sized.bytes + 4), &alignment);
    sized.config = small(NETRING_METHOD_AUTO);
    sized.config.size = sizeof sized;
    opens("a longer config with zeros at its end", &sized.config);
    sized.bytes[sizeof sized - 1] = 1;
    injector_open_fails("a longer config with something at its end", "va", &sized.config, &size);
    config = small(NETRING_METHOD_AUTO);
    config.size = offsetof(struct netring_injector_config, rate_unit);
    config.rate_unit = config.method = config.slot_size = config.slot_count = UINT32_MAX;
    opens("a shorter config: what it lacks is not read", &config);
}

/* ---- memory ---- */

static void test_memory(const struct method *method)
{
    struct netring_injector_config config = inject_config(method->method, 256);
    struct netring_injector *injector = injector_open("va", &config);
    struct netring_injector_info whole = injector_info(injector), info;

    is_int(whole.shrunk_by, 0, "%s: not shrunk", method->name);
    injector_close(injector);
    config.memory_limit = whole.memory / 2;
    injector = injector_open("va", &config);
    info = injector_info(injector);
    ok(info.memory <= whole.memory / 2 && info.memory >= whole.memory / 4 &&
           info.slot_count >= 64 && info.slot_count <= 128,
       "%s: shrunk to the limit: %u slots, %llu bytes", method->name, info.slot_count,
       (unsigned long long)info.memory);
    is_int(info.requested_slot_count, 256, "%s: shrunk: slots asked for", method->name);
    is_int(info.shrunk_by, NETRING_SHRUNK_MEMORY_LIMIT, "%s: shrunk: by the limit", method->name);
    is_int(info.memory_bound, whole.memory / 2, "%s: shrunk: the bound", method->name);
    commit_stream(injector, 0, 40);
    drains(injector, "shrunk");
    sink_is_stream(&sink, 0, 40, "shrunk");
    injector_close(injector);

    config.flags |= NETRING_INJECTOR_EXACT;
    injector_open_fails("exact, over the limit", "va", &config,
                        &(struct failure){NETRING_EMMAP, ENOMEM, "memory_limit", {"256 slots"}});
    config.flags = 0;
    config.memory_limit = whole.memory / 8;
    injector_open_fails("even a quarter is over the limit", "va", &config,
                        &(struct failure){NETRING_EMMAP, ENOMEM, "memory_limit", {"quarter"}});
    config.memory_limit = 0;
    config.slot_count = 1;
    injector = injector_open("va", &config);
    is_int(injector_info(injector).slot_count, 1, "%s: one slot", method->name);
    for (uint32_t i = 0; i < 20; i++) {
        uint8_t frame[FRAME_MAX];
        uint32_t length = stream_make(frame, i);

        if (netring_injector_send(injector, frame, length, (int)tap_patience(2000)) != 1)
            ok(false, "%s: one slot: frame %u", method->name, i);
    }
    drains(injector, "one slot");
    sink_is_stream(&sink, 0, 20, "one slot");
    injector_close(injector);
}

/* ---- privilege ---- */

static void unprivileged(void *user)
{
    const struct failure failure = {
        NETRING_EPERM,
        EPERM,
        "socket",
        {"insufficient privileges (need CAP_NET_RAW)", "setcap", "cap_net_raw"}};

    (void)user;
    keep_capabilities(0);
    injector_open_fails("without privilege", "va", NULL, &failure);
}

/* CAP_NET_RAW is all it takes. */
static void least_privilege(void *user)
{
    struct sink own; /* the other one's place in its ring is the parent's */

    (void)user;
    sink_open(&own, "vb");
    keep_capabilities(CAPABILITY(CAP_NET_RAW));
    for (size_t i = 0; i < COUNT(methods); i++) {
        struct netring_injector_config config = small(methods[i].method);
        struct netring_injector *injector = injector_open("va", &config);

        commit_stream(injector, 0, 30);
        is_int(netring_injector_flush(injector), 30, "with CAP_NET_RAW alone: %s", methods[i].name);
        drains(injector, "with CAP_NET_RAW alone");
        sink_is_stream(&own, 0, 30, "with CAP_NET_RAW alone");
        injector_close(injector);
    }
}

/* ---- refused steps ---- */

struct refused {
    const char *what;
    struct refusal refusals[2];
    int code;
    const char *option, *words;
    uint64_t flags;
    uint32_t method;
    uint32_t slots;
};

static void open_refused(void *user)
{
    const struct refused *refused = user;
    const struct failure failure = {
        refused->code, refused->refusals[0].error, refused->option, {refused->words}};
    struct netring_injector_config config = small(refused->method);

    config.flags |= refused->flags;
    if (refused->slots)
        config.slot_count = refused->slots;
    for (size_t i = 0; i < COUNT(refused->refusals) && refused->refusals[i].call; i++)
        refuse(&refused->refusals[i]);
    injector_open_fails(refused->what, "va", &config, &failure);
}

/* clang-format off */
#define SOCKET(number)       {SYS_socket, number, 1, {{0, ~0u, AF_PACKET, false}}}
#define BIND(number)         {SYS_bind, number, 1, {{2, ~0u, sizeof(struct sockaddr_ll), false}}}
#define OPTION(level, option, number) \
    {SYS_setsockopt, number, 2, {{1, ~0u, level, false}, {2, ~0u, option, false}}}
#define PACKET(option, number) OPTION(SOL_PACKET, option, number)
#define MAPPING(number) \
    {SYS_mmap, number, 2, {{3, MAP_SHARED, MAP_SHARED, false}, {4, ~0u, ~0u, true}}}
/* Of memory alone, larger than what the C library's heap asks for at a time. */
#define ANONYMOUS(number) \
    {SYS_mmap, number, 2, {{4, ~0u, ~0u, false}, {1, 0xfff00000, 0, true}}}
#define CALL(call, number)   {call, number, 0, {{0, 0, 0, false}}}
#define IOCTL(request, number) {SYS_ioctl, number, 1, {{1, ~0u, request, false}}}
enum { RING = NETRING_METHOD_TPACKET2, MESSAGES = NETRING_METHOD_SENDMMSG };

static struct refused refused[] = {
    {"socket: EACCES", {SOCKET(EACCES)}, NETRING_EPERM, "socket", "CAP_NET_RAW", 0, 0, 0},
    {"socket: EMFILE", {SOCKET(EMFILE)}, NETRING_ESOCKET, "socket", "ulimit -n", 0, 0, 0},
    {"socket: EAFNOSUPPORT", {SOCKET(EAFNOSUPPORT)}, NETRING_ESOCKET, "socket", "CONFIG_PACKET",
     0, 0, 0},
    {"the interface's index", {IOCTL(SIOCGIFINDEX, ENFILE)}, NETRING_EIO, "SIOCGIFINDEX",
     "looking up interface va", 0, 0, 0},
    {"the interface's MTU", {IOCTL(SIOCGIFMTU, EIO)}, NETRING_EIO, "SIOCGIFMTU", "va", 0, 0, 0},
    {"gone before its MTU is known", {IOCTL(SIOCGIFMTU, ENODEV)}, NETRING_ENODEV, "interface",
     "interface not found: va", 0, 0, 0},
    {"PACKET_VERSION", {PACKET(PACKET_VERSION, EINVAL)}, NETRING_ESOCKOPT, "PACKET_VERSION",
     "PACKET_VERSION", 0, RING, 0},
    {"PACKET_VNET_HDR, ring", {PACKET(PACKET_VNET_HDR, EINVAL)}, NETRING_ESOCKOPT,
     "PACKET_VNET_HDR", "PACKET_VNET_HDR", NETRING_INJECTOR_VNET_HEADER, RING, 0},
    {"PACKET_VNET_HDR, sendmmsg", {PACKET(PACKET_VNET_HDR, EINVAL)}, NETRING_ESOCKOPT,
     "PACKET_VNET_HDR", "PACKET_VNET_HDR", NETRING_INJECTOR_VNET_HEADER, MESSAGES, 0},
    {"PACKET_QDISC_BYPASS", {PACKET(PACKET_QDISC_BYPASS, ENOPROTOOPT)}, NETRING_ESOCKOPT,
     "PACKET_QDISC_BYPASS", "PACKET_QDISC_BYPASS", NETRING_INJECTOR_QDISC_BYPASS, 0, 0},
    {"PACKET_TX_RING: ENOMEM", {PACKET(PACKET_TX_RING, ENOMEM)}, NETRING_EMMAP, "PACKET_TX_RING",
     "slot_count", 0, RING, 0},
    {"PACKET_TX_RING: ENOMEM, exact", {PACKET(PACKET_TX_RING, ENOMEM)}, NETRING_EMMAP,
     "PACKET_TX_RING", "64 slots", NETRING_INJECTOR_EXACT, RING, 0},
    {"PACKET_TX_RING: EINVAL", {PACKET(PACKET_TX_RING, EINVAL)}, NETRING_ESOCKOPT,
     "PACKET_TX_RING", "ring", 0, RING, 0},
    {"mmap of the ring: ENOMEM", {MAPPING(ENOMEM)}, NETRING_EMMAP, "mmap", "slot_count", 0, RING,
     0},
    {"mmap of the ring: EAGAIN", {MAPPING(EAGAIN)}, NETRING_EMMAP, "mmap", "slots", 0, RING, 0},
    {"memory for the slots: ENOMEM", {ANONYMOUS(ENOMEM)}, NETRING_EMMAP, "mmap", "slot_count",
     NETRING_INJECTOR_EXACT, MESSAGES, 2048},
    {"SO_SNDBUF", {OPTION(SOL_SOCKET, SO_SNDBUF, EINVAL), OPTION(SOL_SOCKET, SO_SNDBUFFORCE, EPERM)},
     NETRING_ESOCKOPT, "SO_SNDBUF", "SO_SNDBUF", 0, RING, 4096},
    {"SO_TIMESTAMPING, ring", {OPTION(SOL_SOCKET, SO_TIMESTAMPING, EINVAL)}, NETRING_ESOCKOPT,
     "SO_TIMESTAMPING", "timestamps", NETRING_INJECTOR_TIMESTAMPS, RING, 0},
    {"SO_TIMESTAMPING, sendmmsg", {OPTION(SOL_SOCKET, SO_TIMESTAMPING, EINVAL)}, NETRING_ESOCKOPT,
     "SO_TIMESTAMPING", "timestamps", NETRING_INJECTOR_TIMESTAMPS, MESSAGES, 0},
    {"eventfd", {CALL(SYS_eventfd2, ENFILE)}, NETRING_EIO, "epoll", "eventfd", 0, 0, 0},
    {"epoll_create", {CALL(SYS_epoll_create1, EMFILE)}, NETRING_EIO, "epoll", "epoll", 0, 0, 0},
    {"epoll_ctl", {CALL(SYS_epoll_ctl, ENOSPC)}, NETRING_EIO, "epoll", "epoll", 0, 0, 0},
    {"timerfd", {CALL(SYS_timerfd_create, EMFILE)}, NETRING_EIO, "epoll", "ulimit -n", 0, 0, 0},
    {"bind: ENOBUFS", {BIND(ENOBUFS)}, NETRING_EBIND, "bind", "va", 0, 0, 0},
    {"bind: ENODEV", {BIND(ENODEV)}, NETRING_ENODEV, "interface", "interface not found: va", 0, 0,
     0},
};
/* clang-format on */

static void test_refused(void)
{
    for (size_t i = 0; i < COUNT(refused); i++)
        child_run(refused[i].what, open_refused, &refused[i]);
}

/* ---- the kernel refuses to send ---- */

struct sending {
    const struct method *method;
    int error;
    /* What flush says; 0: back-pressure. */
    int code;
    bool refused; /* the frames, as results */
};

static void send_refused(void *user)
{
    const struct sending *s = user;
    struct netring_injector_config config = small(s->method->method);
    struct netring_injector *injector = injector_open("va", &config);
    struct netring_injector_stats stats;
    struct netring_result results[8];
    struct netring_error error;
    struct sink own;
    char what[80];
    int rc, error_number, told;

    sink_open(&own, "vb");

    snprintf(what, sizeof what, "%s: sending: %s", s->method->name, strerror(s->error));
    commit_stream(injector, 0, 5);
    refuse(&(struct refusal)CALL(SYS_sendto, s->error));
    refuse(&(struct refusal)CALL(SYS_sendmsg, s->error));
    refuse(&(struct refusal)CALL(SYS_sendmmsg, s->error));
    errno = 0;
    rc = netring_injector_flush(injector);
    error_number = errno;
    if (s->code) {
        error_spoil(&error);
        netring_injector_last_error(injector, &error);
        is_failure(rc, error_number, &error,
                   &(struct failure){s->code, s->code == NETRING_EIO ? s->error : 0, NULL, {NULL}},
                   what);
    } else {
        is_int(rc, 0, "%s: flush", what);
        is_int(error_number, 0, "%s: errno", what);
    }
    adds_up(injector, what);
    stats = injector_stats(injector);
    is_int(stats.handed, 0, "%s: none left", what);
    is_int(stats.refused, s->refused ? 5 : 0, "%s: refused", what);
    is_int(stats.waiting, s->refused ? 0 : 5, "%s: waiting", what);
    told = netring_injector_results(injector, results, sizeof *results, COUNT(results));
    is_int(told, s->refused ? 5 : 0, "%s: results", what);
    for (int i = 0; i < told; i++) {
        int why = s->code == NETRING_ENODEV ? ENODEV : s->error;

        if (results[i].code >= 0 || results[i].os_errno != why)
            ok(false, "%s: result %d: %s, errno %d", what, i, netring_err_name(results[i].code),
               results[i].os_errno);
    }
    rc = netring_injector_drain(injector, 20);
    is_str(netring_err_name(rc), netring_err_name(s->code), "%s: drain", what);
    /* On a busy machine that has taken so long that the first one is given up (ENOBUFS). */
    stats = injector_stats(injector);
    is_int(netring_injector_close(injector), s->refused ? 0 : 5 - (int64_t)stats.dropped,
           "%s: close tells how many did not leave", what);
    sink_is_empty(&own, what);
}

static void test_send_refused(void)
{
    static const struct {
        int error, code;
        bool refused[2]; /* by the ring, which says so in the frame's state; by sendmmsg */
    } cases[] = {
        {ENOBUFS, 0, {false, false}},
        {EAGAIN, 0, {false, false}},
        {ENETDOWN, NETRING_ENETDOWN, {false, false}},
        {ENXIO, NETRING_ENODEV, {true, true}},
        {EPERM, NETRING_EIO, {false, false}},
        {EIO, NETRING_EIO, {false, false}},
        {ENOMEM, 0, {false, false}},
        {EMSGSIZE, 0, {false, true}},
        {EINVAL, 0, {false, true}},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        for (size_t j = 0; j < 2; j++) {
            struct sending sending = {&methods[j], cases[i].error, cases[i].code,
                                      cases[i].refused[j]};

            if (j == 0 && cases[i].error == EMSGSIZE)
                continue; /* a ring tells of a frame by its state, which no filter can set */
            if (j == 0 && cases[i].error == EINVAL)
                sending.code = NETRING_EIO;
            child_run("sending refused", send_refused, &sending);
        }
    }
}

/* ---- NULL and sizes ---- */

static void test_arguments(const struct method *method)
{
    struct netring_injector_config config = small(method->method);
    struct netring_injector *injector = injector_open("va", &config);
    struct netring_injector_stats stats;
    struct netring_injector_info info;
    struct netring_result results[2];
    struct netring_timestamp stamps[2];
    struct netring_frame frame = {.data = NULL};
    struct netring_slot slots[2];

#define REFUSED(call) is_int((errno = 0, call), NETRING_EINVAL, "%s: %s", method->name, #call)
    REFUSED(netring_injector_reserve(injector, NULL, sizeof *slots, 1, 0));
    REFUSED(netring_injector_reserve(injector, slots, sizeof *slots, 0, 0));
    REFUSED(netring_injector_reserve(injector, slots, 8, 1, 0));
    REFUSED(netring_injector_reserve(injector, slots, 0, 1, 0));
    REFUSED(netring_injector_commit(injector, NULL, sizeof *slots, 1));
    REFUSED(netring_injector_commit(injector, slots, 8, 1));
    REFUSED(netring_injector_results(injector, NULL, sizeof *results, 1));
    REFUSED(netring_injector_results(injector, results, 3, 1));
    REFUSED(netring_injector_timestamps(injector, NULL, sizeof *stamps, 1));
    REFUSED(netring_injector_timestamps(injector, stamps, 3, 1));
    REFUSED(netring_injector_send(injector, NULL, 60, 0));
    REFUSED(netring_injector_send_batch(injector, NULL, sizeof frame, 1, 0));
    REFUSED(netring_injector_send_batch(injector, &frame, 3, 1, 0));
    REFUSED(netring_injector_stats(injector, NULL, sizeof stats));
    REFUSED(netring_injector_stats(injector, &stats, 0));
    REFUSED(netring_injector_info(injector, NULL, sizeof info));
    REFUSED(netring_injector_info(injector, &info, 0));
    REFUSED(netring_injector_last_error(injector, NULL));
    is_int(injector_stats(injector).open, 0, "%s: which reserves nothing", method->name);

    /* Longer elements of a newer program: what this library does not know stays. */
    {
        struct {
            struct netring_slot slot;
            uint64_t more;
        } longer[3];
        struct {
            struct netring_injector_stats stats;
            uint64_t more;
        } longer_stats;

        memset(longer, 0xa5, sizeof longer);
        is_int(netring_injector_reserve(injector, &longer[0].slot, sizeof *longer, 3, 0), 3,
               "%s: longer slots", method->name);
        for (size_t i = 0; i < 3; i++) {
            struct numbered what = stream_frame((uint32_t)i);

            numbered_make(longer[i].slot.data, what.length, what.number, what.tagged);
            longer[i].slot.len = what.length;
            longer[i].more = 0;
        }
        is_int(netring_injector_commit(injector, &longer[0].slot, sizeof *longer, 3), 3,
               "%s: longer slots committed", method->name);
        is_int(netring_injector_flush(injector), 3, "%s: and sent", method->name);
        sink_is_stream(&sink, 0, 3, "longer slots");
        memset(&longer_stats, 0xa5, sizeof longer_stats);
        is_int(netring_injector_stats(injector, &longer_stats.stats, sizeof longer_stats), 0,
               "%s: longer stats", method->name);
        is_int(longer_stats.stats.handed, 3, "%s: longer stats: handed", method->name);
    }
    injector_close(injector);
}

static void test_last_error(void)
{
    struct netring_injector_config config = small(NETRING_METHOD_AUTO);
    struct netring_injector *injector = injector_open("va", &config);
    struct netring_error error;
    struct netring_slot slot;
    int rc, error_number;

    error_spoil(&error);
    is_int(netring_injector_last_error(injector, &error), 0, "last_error");
    is_no_error(&error, "last_error of a fresh injector");
    netring_injector_stop(injector);
    errno = 0;
    rc = netring_injector_reserve(injector, &slot, sizeof slot, 1, 0);
    error_number = errno;
    error_spoil(&error);
    netring_injector_last_error(injector, &error);
    is_failure(rc, error_number, &error, &(struct failure){NETRING_ESHUTDOWN, 0, NULL, {0}},
               "last_error of a stopped injector");
    injector_close(injector);
}

int main(void)
{
    struct footprint before;

    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    net_await_carrier("va");
    sink_open(&sink, "vb");
    opens("the first one", NULL); /* which makes a page that fork wipes */
    before = footprint_now();
    test_interface();
    test_values();
    test_config_struct();
    child_run("without privilege", unprivileged, NULL);
    child_run("with CAP_NET_RAW alone", least_privilege, NULL);
    while (sink_next(&sink, 20) > 0)
        ;
    test_refused();
    test_send_refused();
    for (size_t i = 0; i < 2; i++) {
        test_memory(&methods[i]);
        test_arguments(&methods[i]);
    }
    test_last_error();
    is_footprint(before, "all of it");
    sink_close(&sink);
    return tap_end();
}
