/* Every error, by its real cause: the returned code, errno, and what the error struct tells. Where
 * this kernel has no reason to refuse a step, a seccomp filter refuses it with the kernel's errno.
 */
#include "support.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

/* ---- names ---- */

static void test_names(void)
{
    static const struct {
        int code;
        const char *name;
    } codes[] = {
        {0, "NETRING_OK"},
        {7, "NETRING_OK"},
        {NETRING_EPERM, "NETRING_EPERM"},
        {NETRING_EIO, "NETRING_EIO"},
        {NETRING_EBADF, "NETRING_EBADF"},
        {NETRING_EBUSY, "NETRING_EBUSY"},
        {NETRING_ENODEV, "NETRING_ENODEV"},
        {NETRING_EINVAL, "NETRING_EINVAL"},
        {NETRING_EMSGSIZE, "NETRING_EMSGSIZE"},
        {NETRING_ENOTSUP, "NETRING_ENOTSUP"},
        {NETRING_ENETDOWN, "NETRING_ENETDOWN"},
        {NETRING_ESHUTDOWN, "NETRING_ESHUTDOWN"},
        {NETRING_ESOCKET, "NETRING_ESOCKET"},
        {NETRING_EBIND, "NETRING_EBIND"},
        {NETRING_EMMAP, "NETRING_EMMAP"},
        {NETRING_ESOCKOPT, "NETRING_ESOCKOPT"},
        {NETRING_EWAKEUP, "NETRING_EWAKEUP"},
        {NETRING_EMEMLOCK, "NETRING_EMEMLOCK"},
        {NETRING_EFILTER, "NETRING_EFILTER"},
        {NETRING_EXDP, "NETRING_EXDP"},
        {NETRING_EPANIC, "NETRING_EPANIC"},
        {-9999, "NETRING_UNKNOWN"},
        {INT32_MIN, "NETRING_UNKNOWN"},
    };

    for (size_t i = 0; i < COUNT(codes); i++) {
        const char *text = netring_strerror(codes[i].code);

        is_str(netring_err_name(codes[i].code), codes[i].name, "the name of %d", codes[i].code);
        ok(text && *text && text == netring_strerror(codes[i].code), "the text of %d is static: %s",
           codes[i].code, text ? text : "(null)");
    }
    is_str_contains(netring_strerror(NETRING_EPERM), "insufficient privileges (need CAP_NET_RAW)",
                    "the documented text");
    is_str_contains(netring_strerror(NETRING_ENODEV), "interface not found", "the documented text");
}

/* ---- arguments and config values ---- */

static struct netring_filter *filter_returning(uint16_t source, uint32_t value)
{
    const struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_IMM, value),
        BPF_STMT((uint16_t)(BPF_RET | source), value),
    };
    struct netring_filter *filter = NULL;
    int rc = netring_filter_new(program, COUNT(program), &filter, NULL);

    if (rc != 0)
        tap_bail("netring_filter_new: %s", netring_err_name(rc));
    return filter;
}

static void test_interface(void)
{
    static const struct {
        const char *what, *interface;
        struct failure failure;
    } cases[] = {
        {"an unknown interface",
         "nosuch0",
         {NETRING_ENODEV, 0, "interface", {"interface not found: nosuch0"}}},
        {"the longest name",
         "fifteen-letters",
         {NETRING_ENODEV, 0, "interface", {"interface not found: fifteen-letters"}}},
        {"a name that is too long",
         "sixteen-letters-",
         {NETRING_EINVAL, 0, "interface", {"sixteen-letters-", "15"}}},
        {"an empty name", "", {NETRING_EINVAL, 0, "interface", {"empty"}}},
        {"no name", NULL, {NETRING_EINVAL, 0, "interface", {"NULL"}}},
    };
    struct netring_error error;
    int rc;

    for (size_t i = 0; i < COUNT(cases); i++)
        open_fails(cases[i].what, cases[i].interface, NULL, &cases[i].failure);
    error_spoil(&error);
    errno = 0;
    rc = netring_capture_open("vb", NULL, NULL, &error);
    is_failure(rc, errno, &error, &(struct failure){NETRING_EINVAL, 0, NULL, {"NULL"}},
               "nowhere to put the handle");
}

static void test_values(void)
{
    static const struct {
        const char *what;
        size_t field; /* a uint32_t of the config */
        uint32_t value;
        const char *name, *words[2];
    } cases[] = {
#define FIELD(name) offsetof(struct netring_capture_config, name)
        {"block_size 0", FIELD(block_size), 0, "block_size", {"1073741824"}},
        {"block_size too large", FIELD(block_size), 0x80000001, "block_size", {"2147483649"}},
        {"block_count 0", FIELD(block_count), 0, "block_count", {"1", "65535"}},
        {"block_count 65536", FIELD(block_count), 65536, "block_count", {"65536", "65535"}},
        {"frame_size 0", FIELD(frame_size), 0, "frame_size", {"96"}},
        {"frame_size 16", FIELD(frame_size), 16, "frame_size", {"96"}},
        {"frame_size 2056", FIELD(frame_size), 2056, "frame_size", {"2056", "16"}},
        {"frame_size above block_size", FIELD(frame_size), 128 * KIB, "frame_size", {"131072"}},
        {"block_timeout 65536", FIELD(block_timeout), 65536, "block_timeout", {"65536", "65535"}},
        {"block_timeout 2^32-2", FIELD(block_timeout), 0xfffffffe, "block_timeout", {"65535"}},
        {"busy_poll 2^31", FIELD(busy_poll), 0x80000000, "busy_poll", {"2147483648"}},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_capture_config config = small_config();
        struct failure failure = {
            NETRING_EINVAL, 0, cases[i].name, {cases[i].words[0], cases[i].words[1]}};

        memcpy((char *)&config + cases[i].field, &cases[i].value, sizeof cases[i].value);
        open_fails(cases[i].what, "vb", &config, &failure);
    }
}

static void test_flags(void)
{
    static const struct {
        const char *what, *interface;
        uint64_t flags;
        struct failure failure;
    } cases[] = {
        {"an unknown flag", "vb", 0x80000000, {NETRING_EINVAL, 0, "flags", {"0x80000000"}}},
        {"unknown flags beside known ones",
         "vb",
         0x4000000000000001 | 0x80000000000,
         {NETRING_EINVAL, 0, "flags", {"0x4000080000000000"}}},
        {"promiscuous any",
         "any",
         NETRING_CAPTURE_PROMISCUOUS,
         {NETRING_EINVAL, 0, "flags", {"any", "PROMISCUOUS"}}},
        {"all multicast of any",
         "any",
         NETRING_CAPTURE_ALL_MULTICAST,
         {NETRING_EINVAL, 0, "flags", {"any", "ALL_MULTICAST"}}},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_capture_config config = small_config();

        config.flags = cases[i].flags;
        open_fails(cases[i].what, cases[i].interface, &config, &cases[i].failure);
    }
}

static void test_filter_handle(void)
{
    struct netring_capture_config config = small_config();
    struct netring_filter *filter = filter_returning(BPF_K, 100);

    netring_filter_free(filter);
    config.filter = filter;
    open_fails("a filter that was freed", "vb", &config,
               &(struct failure){NETRING_EBADF, 0, "filter", {"bad handle"}});

    config.filter = filter_returning(BPF_A, 100);
    config.snap_length = 64;
    open_fails("a snap length with a filter that returns A", "vb", &config,
               &(struct failure){NETRING_EINVAL, 0, "snap_length", {"snap_length"}});
    netring_filter_free(config.filter);
}

/* ---- the config struct itself ---- */

union sized_config {
    struct netring_capture_config config;
    uint8_t bytes[sizeof(struct netring_capture_config) + 64];
};

static void opens(const char *what, const struct netring_capture_config *config)
{
    struct netring_capture *capture = NULL;
    struct netring_error error;

    error_spoil(&error);
    is_str(netring_err_name(netring_capture_open("vb", config, &capture, &error)), "NETRING_OK",
           "%s: opens", what);
    is_no_error(&error, what);
    netring_capture_close(capture);
}

static void test_config_struct(void)
{
    const struct failure never = {NETRING_EINVAL, 0, NULL, {"initialised", "config_init"}};
    const struct failure size = {NETRING_EINVAL, 0, "size", {"size"}};
    const struct failure alignment = {NETRING_EINVAL, 0, "config", {"aligned to 8"}};
    const struct failure frames = {NETRING_EINVAL, 0, "frame_size", {"2^32 frames"}};
    union sized_config sized;
    struct netring_capture_config config;

    memset(&config, 0, sizeof config);
    open_fails("a config of zeros", "vb", &config, &never);
    memset(&config, 0xa5, sizeof config);
    open_fails("a config of garbage", "vb", &config, &never);
    memset(&config, 0xa5, sizeof config);
    config.size = sizeof config;
    open_fails("a config with nothing but its size", "vb", &config, &never);

    config = small_config();
    config.size = 4;
    open_fails("a size too small for the header", "vb", &config, &size);
    config.size = 0;
    open_fails("size 0", "vb", &config, &size);
    config.size = 5000;
    open_fails("a size that no config has", "vb", &config, &size);
    memcpy(sized.bytes + 4, &(struct netring_capture_config){0}, sizeof config);
    open_fails("a config at an odd place", "vb",
               (struct netring_capture_config *)(void *)(sized.bytes + 4), &alignment);
    config = small_config();
    config.block_size = 1u << 30;
    config.block_count = 65535;
    open_fails("more frames than can be counted", "vb", &config, &frames);

    memset(&sized, 0, sizeof sized);
    sized.config = small_config();
    sized.config.size = sizeof sized;
    opens("a longer config with zeros at its end", &sized.config);
    sized.bytes[sizeof sized - 1] = 1;
    open_fails("a longer config with something at its end", "vb", &sized.config, &size);

    config = small_config();
    config.size = offsetof(struct netring_capture_config, flags);
    config.flags = config.memory_limit = UINT64_MAX;
    memset(&config.filter, 0xa5, sizeof config.filter);
    opens("a shorter config: what it lacks is not read", &config);
}

static void test_config_init(void)
{
    struct netring_capture_config config, macro = NETRING_CAPTURE_CONFIG_INIT;
    union sized_config sized;
    uint8_t small[sizeof config];

    memset(&config, 0xa5, sizeof config);
    errno = 5;
    is_int(netring_capture_config_init(&config, sizeof config), 0, "config_init");
    is_int(errno, 5, "config_init leaves errno alone");
    is_bytes(&config, &macro, sizeof config, "the function and the macro write the same");
    is_int(config.size, sizeof config, "config_init: size");
    is_int(config.block_timeout, 60, "config_init: the documented block timeout");
    is_int(config.flags, NETRING_CAPTURE_RXHASH, "config_init: flags");
    ok(config.filter == NULL && config.snap_length == 0 && config.memory_limit == 0,
       "config_init: no filter, no snap length, no limit of its own");

    memset(&sized, 0xa5, sizeof sized);
    is_int(netring_capture_config_init(&sized.config, sizeof sized), 0,
           "config_init of a newer program's config");
    opens("a newer program's config", &sized.config);

    memset(small, 0xa5, sizeof small);
    is_int(netring_capture_config_init((struct netring_capture_config *)(void *)small, 40), 0,
           "config_init of an older program's config");
    is_int(small[40], 0xa5, "writes nothing behind it");
    is_int(netring_capture_config_init(&config, 4), NETRING_EINVAL, "config_init: size 4");
    is_int(netring_capture_config_init(NULL, sizeof config), NETRING_EINVAL, "config_init: NULL");

    is_int(netring_capture_config_profile(&config, 99), NETRING_EINVAL, "an unknown profile");
    is_int(errno, EINVAL, "an unknown profile: errno");
    memset(&config, 0, sizeof config);
    is_int(netring_capture_config_profile(&config, NETRING_PROFILE_JUMBO), NETRING_EINVAL,
           "a profile for a config that was never initialised");
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
    keep_capabilities(CAPABILITY(CAP_SETUID));
    if (setresuid(65534, 65534, 65534) != 0)
        tap_diag("uid 65534 is not mapped here: only the capabilities are dropped");
    keep_capabilities(0);
    open_fails("without privilege", "vb", NULL, &failure);
}

static void busy_poll_unprivileged(void *user)
{
    const struct failure failure = {
        NETRING_ESOCKOPT, EPERM, "SO_BUSY_POLL", {"SO_BUSY_POLL", "CAP_NET_ADMIN"}};
    struct netring_capture_config config = small_config();
    int plain = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), microseconds = 50;

    (void)user;
    config.busy_poll = 50;
    keep_capabilities(CAPABILITY(CAP_NET_RAW));
    if (setsockopt(plain, SOL_SOCKET, SO_BUSY_POLL, &microseconds, sizeof microseconds) == 0) {
        tap_skip("busy poll without CAP_NET_ADMIN", "this kernel does not ask for it");
        return;
    }
    open_fails("busy poll with CAP_NET_RAW only", "vb", &config, &failure);
}

/* ---- refused steps ---- */

struct refused {
    const char *what;
    struct refusal refusal;
    int code;
    const char *option, *words;
    uint64_t flags;
    uint32_t busy_poll, snap_length;
};

static void open_refused(void *user)
{
    const struct refused *refused = user;
    const struct failure failure = {
        refused->code, refused->refusal.error, refused->option, {refused->words}};
    struct netring_capture_config config = small_config();

    config.flags |= refused->flags;
    config.busy_poll = refused->busy_poll;
    config.snap_length = refused->snap_length;
    refuse(&refused->refusal);
    open_fails(refused->what, "vb", &config, &failure);
}

/* clang-format off */
#define SOCKET(number)       {SYS_socket, number, 1, {{0, ~0u, AF_PACKET, false}}}
/* Only the address of a packet socket has this length. */
#define BIND(number)         {SYS_bind, number, 1, {{2, ~0u, sizeof(struct sockaddr_ll), false}}}
#define OPTION(level, option, number) \
    {SYS_setsockopt, number, 2, {{1, ~0u, level, false}, {2, ~0u, option, false}}}
#define PACKET(option, number) OPTION(SOL_PACKET, option, number)
/* Shared mappings of a file. */
#define MAPPING(number) \
    {SYS_mmap, number, 2, {{3, MAP_SHARED, MAP_SHARED, false}, {4, ~0u, ~0u, true}}}
#define CALL(call, number)   {call, number, 0, {{0, 0, 0, false}}}

static const char no_privilege[] = "insufficient privileges (need CAP_NET_RAW)";

static struct refused refused[] = {
    {"socket: EPERM", SOCKET(EPERM), NETRING_EPERM, "socket", no_privilege, 0, 0, 0},
    {"socket: EACCES", SOCKET(EACCES), NETRING_EPERM, "socket", no_privilege, 0, 0, 0},
    {"socket: EMFILE", SOCKET(EMFILE), NETRING_ESOCKET, "socket", "ulimit -n", 0, 0, 0},
    {"socket: ENOBUFS", SOCKET(ENOBUFS), NETRING_ESOCKET, "socket", "socket", 0, 0, 0},
    {"socket: EAFNOSUPPORT", SOCKET(EAFNOSUPPORT), NETRING_ESOCKET, "socket", "AF_PACKET", 0, 0, 0},
    {"PACKET_VERSION", PACKET(PACKET_VERSION, EINVAL),
     NETRING_ESOCKOPT, "PACKET_VERSION", "PACKET_VERSION", 0, 0, 0},
    {"PACKET_RESERVE", PACKET(PACKET_RESERVE, EINVAL),
     NETRING_ESOCKOPT, "PACKET_RESERVE", "PACKET_RESERVE", NETRING_CAPTURE_IMMEDIATE, 0, 0},
    {"PACKET_RX_RING: ENOMEM", PACKET(PACKET_RX_RING, ENOMEM),
     NETRING_EMMAP, "PACKET_RX_RING", "block_count", 0, 0, 0},
    {"mmap: ENOMEM", MAPPING(ENOMEM), NETRING_EMMAP, "mmap", "mapping the ring", 0, 0, 0},
    {"mmap: EACCES", MAPPING(EACCES), NETRING_EMMAP, "mmap", "mapping the ring", 0, 0, 0},
    {"PACKET_IGNORE_OUTGOING before Linux 4.20", PACKET(PACKET_IGNORE_OUTGOING, ENOPROTOOPT),
     NETRING_ESOCKOPT, "PACKET_IGNORE_OUTGOING", "4.20", NETRING_CAPTURE_IGNORE_OUTGOING, 0, 0},
    {"PACKET_VNET_HDR", PACKET(PACKET_VNET_HDR, EINVAL),
     NETRING_ESOCKOPT, "PACKET_VNET_HDR", "PACKET_VNET_HDR", NETRING_CAPTURE_VNET_HEADER, 0, 0},
    {"PACKET_RESERVE", PACKET(PACKET_RESERVE, EINVAL),
     NETRING_ESOCKOPT, "PACKET_RESERVE", "(value 6)", NETRING_CAPTURE_VNET_HEADER, 0, 0},
    {"SO_BUSY_POLL: EPERM", OPTION(SOL_SOCKET, SO_BUSY_POLL, EPERM),
     NETRING_ESOCKOPT, "SO_BUSY_POLL", "CAP_NET_ADMIN", 0, 50, 0},
    {"SO_BUSY_POLL on a kernel without", OPTION(SOL_SOCKET, SO_BUSY_POLL, ENOPROTOOPT),
     NETRING_ESOCKOPT, "SO_BUSY_POLL", "CONFIG_NET_RX_BUSY_POLL", 0, 50, 0},
    {"promiscuous", PACKET(PACKET_ADD_MEMBERSHIP, ENOBUFS),
     NETRING_ESOCKOPT, "PACKET_ADD_MEMBERSHIP (promiscuous)", "PACKET_ADD_MEMBERSHIP",
     NETRING_CAPTURE_PROMISCUOUS, 0, 0},
    {"all multicast", PACKET(PACKET_ADD_MEMBERSHIP, ENOBUFS),
     NETRING_ESOCKOPT, "PACKET_ADD_MEMBERSHIP (allmulti)", "PACKET_ADD_MEMBERSHIP",
     NETRING_CAPTURE_ALL_MULTICAST, 0, 0},
    {"a filter the kernel does not take", OPTION(SOL_SOCKET, SO_ATTACH_FILTER, EINVAL),
     NETRING_EFILTER, "SO_ATTACH_FILTER", "filter", 0, 0, 100},
    {"PACKET_RX_RING: EINVAL", PACKET(PACKET_RX_RING, EINVAL),
     NETRING_ESOCKOPT, "PACKET_RX_RING", "65536 bytes", 0, 0, 0},
    {"attaching a filter", OPTION(SOL_SOCKET, SO_ATTACH_FILTER, ENOMEM),
     NETRING_ESOCKOPT, "SO_ATTACH_FILTER", "net.core.optmem_max", 0, 0, 100},
    {"a filter, any other reason", OPTION(SOL_SOCKET, SO_ATTACH_FILTER, EPERM),
     NETRING_ESOCKOPT, "SO_ATTACH_FILTER", "filter", 0, 0, 100},
    {"PACKET_RX_RING: ENOMEM, exact", PACKET(PACKET_RX_RING, ENOMEM),
     NETRING_EMMAP, "PACKET_RX_RING", "16 blocks", NETRING_CAPTURE_EXACT, 0, 0},
    {"the interface's index", {SYS_ioctl, ENFILE, 1, {{1, ~0u, SIOCGIFINDEX, false}}},
     NETRING_EIO, "SIOCGIFINDEX", "looking up interface vb", 0, 0, 0},
    {"promiscuous: ENODEV", PACKET(PACKET_ADD_MEMBERSHIP, ENODEV),
     NETRING_ENODEV, "interface", "interface not found: vb", NETRING_CAPTURE_PROMISCUOUS, 0, 0},
    {"bind: ENOBUFS", BIND(ENOBUFS), NETRING_EBIND, "bind", "vb", 0, 0, 0},
    {"bind: ENODEV", BIND(ENODEV), NETRING_ENODEV, "interface", "interface not found: vb", 0, 0, 0},
    {"eventfd", CALL(SYS_eventfd2, ENFILE), NETRING_EIO, "epoll", "eventfd", 0, 0, 0},
    {"epoll_create", CALL(SYS_epoll_create1, EMFILE),
     NETRING_EIO, "epoll", "epoll", 0, 0, 0},
    {"epoll_ctl", CALL(SYS_epoll_ctl, ENOSPC), NETRING_EIO, "epoll", "epoll", 0, 0, 0},
};
/* clang-format on */

static void test_refused(void)
{
    for (size_t i = 0; i < COUNT(refused); i++)
        child_run(refused[i].what, open_refused, &refused[i]);
}

/* The first capture of a process makes a page that fork wipes. */
struct wipe {
    int error, code;
    const char *words;
};

static void open_without_wipe(void *user)
{
    enum { WIPEONFORK = 18 }; /* MADV_WIPEONFORK */
    const struct wipe *wipe = user;
    const struct refusal refusal = {SYS_madvise, wipe->error, 1, {{2, ~0u, WIPEONFORK, false}}};
    const struct failure failure = {wipe->code, wipe->error, "MADV_WIPEONFORK", {wipe->words}};
    const struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 1)};
    struct netring_filter *filter = NULL;
    struct netring_error error;
    int rc;

    refuse(&refusal);
    open_fails("no MADV_WIPEONFORK", "vb", NULL, &failure);
    errno = 0;
    rc = netring_filter_new(all, 1, &filter, &error);
    is_failure(rc, errno, &error, &failure, "no MADV_WIPEONFORK: a filter");
}

static void test_without_wipe(void)
{
    static struct wipe old = {EINVAL, NETRING_ENOTSUP, "Linux 4.14"};
    static struct wipe full = {ENOMEM, NETRING_EIO, "page of memory"};

    child_run("Linux before 4.14", open_without_wipe, &old);
    child_run("no page of memory", open_without_wipe, &full);
}

/* A flush that cannot bind the socket again: what there was is handed out, then it is told. */
static void flush_refused(void *user)
{
    const struct refusal refusal = BIND(ENOBUFS);
    const struct failure failure = {NETRING_EBIND, ENOBUFS, "bind", {"after a flush"}};
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records = {0, 0, NULL};
    struct netring_error error;
    int sender = net_sender("va"), rc;

    (void)user;
    send_frames(sender, 0, frames_per_page(60) + 1, 60);
    await_ready(capture, 1);
    refuse(&refusal);
    for (int i = 0; i < 2; i++) {
        errno = 0;
        rc = netring_capture_flush(capture);
        is_int(errno, ENOBUFS, "flush that cannot bind again: errno");
        netring_capture_last_error(capture, &error);
        is_failure(rc, ENOBUFS, &error, &failure, "flush that cannot bind again");
    }
    receive(capture, frames_per_page(60), 1000, &records);
    is_frames(&records, 0, frames_per_page(60), 60, 60, "flush that cannot bind again");
    for (size_t i = 0; i < COUNT(wait_kinds); i++) {
        errno = 0;
        rc = wait_kinds[i].call(capture, -1);
        is_int(errno, ENOBUFS, "%s after that: errno", wait_kinds[i].name);
        is_str(netring_err_name(rc), "NETRING_EBIND", "%s after that", wait_kinds[i].name);
    }
    capture_close(capture);
    records_free(&records);
}

static void wait_refused(void *user)
{
    static const long calls[] = {
        SYS_epoll_pwait,
#ifdef SYS_epoll_wait
        SYS_epoll_wait,
#endif
    };
    const struct failure failure = {NETRING_EIO, ENOSYS, "epoll", {"waiting failed"}};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_error error;
    int rc, error_number;

    (void)user;
    for (size_t i = 0; i < COUNT(calls); i++)
        refuse(&(struct refusal)CALL(calls[i], ENOSYS));
    errno = 0;
    rc = wait_kinds[0].call(capture, 1000);
    error_number = errno;
    netring_capture_last_error(capture, &error);
    is_failure(rc, error_number, &error, &failure, "a wait that the kernel refuses");
    capture_close(capture);
}

/* A confined program (systemd's RestrictAddressFamilies) captures all the same: the interface's
 * counters are missing, and its removal is looked for. */
static void without_netlink(void *user)
{
    const struct refusal no_netlink = {SYS_socket, EPERM, 1, {{0, ~0u, AF_NETLINK, false}}};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_block *block;
    pid_t remover;
    int64_t since;

    (void)user;
    net_veth("gone", "peer");
    remover = fork();
    if (remover == 0) {
        sleep_ms(300);
        net_link_delete("gone");
        _exit(0);
    }
    refuse(&no_netlink);
    capture = capture_open("gone", &config);
    is_int(capture_stats(capture).valid & NETRING_STATS_INTERFACE, 0,
           "no netlink: no interface counters");
    since = now_ms();
    is_int(netring_capture_next_block(capture, 10000, &block), NETRING_ENODEV,
           "no netlink: the removal is seen");
    ok(now_ms() - since < tap_patience(3000), "no netlink: within a second or so");
    waitpid(remover, NULL, 0);
    capture_close(capture);
}

static void test_without_netlink(void)
{
    child_run("no netlink", without_netlink, NULL);
}

/* ---- memory ---- */

static const struct refusal no_ring = PACKET(PACKET_RX_RING, 0);

/* The kernel is not asked for the ring: it would kill this child. */
static void over_the_bound(void *user)
{
    const struct failure limit = {NETRING_EMMAP, ENOMEM, NULL, {"memory_limit"}};
    struct netring_capture_config config = small_config();

    (void)user;
    refuse(&no_ring);
    config.flags |= NETRING_CAPTURE_EXACT;
    config.memory_limit = MIB - 1;
    open_fails("exact, one byte over the limit", "vb", &config, &limit);
    config.flags &= ~(uint64_t)NETRING_CAPTURE_EXACT;
    config.memory_limit = MIB / 4 - 1;
    open_fails("even a quarter is over the limit", "vb", &config, &limit);
    config.memory_limit = UINT64_MAX;
    config.block_size = 1u << 30;
    config.block_count = 65535;
    config.frame_size = 1u << 20;
    open_fails("a ring larger than any memory", "vb", &config,
               &(struct failure){NETRING_EMMAP, ENOMEM, NULL, {0}});
}

static void within_the_bound(void *user)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;

    (void)user;
    refuse(&no_ring);
    config.flags |= NETRING_CAPTURE_EXACT;
    config.memory_limit = MIB;
    netring_capture_open("vb", &config, &capture, NULL);
}

static void test_shrink(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture_info info;
    struct netring_capture *capture;

    config.memory_limit = MIB / 2;
    capture = capture_open("vb", &config);
    info = capture_info(capture);
    ok(info.memory <= MIB / 2 && info.memory >= MIB / 4, "shrunk to the limit (%llu bytes)",
       (unsigned long long)info.memory);
    is_int(info.memory, (uint64_t)info.block_size * info.block_count, "shrunk: memory");
    is_int(info.memory_bound, MIB / 2, "shrunk: the bound");
    ok(info.shrinks > 0, "shrunk: told (%u times)", info.shrinks);
    is_int(info.shrunk_by, NETRING_SHRUNK_MEMORY_LIMIT, "shrunk: by the limit");
    is_int(info.requested_block_size, 64 * KIB, "shrunk: requested block size");
    is_int(info.requested_block_count, 16, "shrunk: requested block count");
    capture_close(capture);
}

/* Makes every PACKET_RX_RING of the calling thread wait for the listener's answer. */
static int listen_for_ring_requests(void)
{
    const unsigned option =
        offsetof(struct seccomp_data, args) + 16 + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, option),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_RX_RING, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = COUNT(code), .filter = code};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                        &program);
}

struct talk {
    int listener;
    pthread_barrier_t ready;
};

static void *open_under_listener(void *user)
{
    struct netring_capture_config config = small_config();
    struct talk *talk = user;
    struct netring_capture_info info;
    struct netring_capture *capture;

    talk->listener = listen_for_ring_requests();
    pthread_barrier_wait(&talk->ready);
    if (talk->listener < 0)
        return NULL;
    capture = capture_open("vb", &config);
    info = capture_info(capture);
    is_int(info.memory, MIB / 4, "ENOMEM from the kernel: one more try, at a quarter");
    ok(info.shrinks > 0 && info.shrunk_by == NETRING_SHRUNK_ENOMEM,
       "ENOMEM from the kernel: told (%u times, by 0x%x)", info.shrinks, info.shrunk_by);
    capture_close(capture);
    return NULL;
}

/* ENOMEM for the first request, the kernel's own answer for those after it. */
static int answer_ring_requests(int listener)
{
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    int asked = 0;

    while (poll(&wait, 1, -1) > 0 && wait.revents & POLLIN) {
        struct seccomp_notif request;
        struct seccomp_notif_resp answer;

        memset(&request, 0, sizeof request);
        memset(&answer, 0, sizeof answer);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) != 0)
            break;
        answer.id = request.id;
        answer.error = asked == 0 ? -ENOMEM : 0;
        answer.flags = asked == 0 ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        asked++;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    return asked;
}

static void kernel_without_memory(void *user)
{
    struct talk talk;
    pthread_t opener;

    (void)user;
    pthread_barrier_init(&talk.ready, NULL, 2);
    pthread_create(&opener, NULL, open_under_listener, &talk);
    pthread_barrier_wait(&talk.ready);
    if (talk.listener < 0)
        tap_skip("ENOMEM once", "no seccomp listener here");
    else
        is_int(answer_ring_requests(talk.listener), 2, "the kernel is asked twice");
    pthread_join(opener, NULL);
}

/* ---- handles ---- */

static void test_last_error(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_error error;
    int rc;

    error_spoil(&error);
    is_int(netring_capture_last_error(capture, &error), 0, "last_error");
    is_no_error(&error, "last_error of a fresh capture");
    netring_capture_stop(capture);
    errno = 0;
    rc = netring_capture_next_block(capture, 0, &(struct netring_block *){NULL});
    is_int(errno, ESHUTDOWN, "stopped: errno");
    error_spoil(&error);
    netring_capture_last_error(capture, &error);
    is_failure(rc, ESHUTDOWN, &error, &(struct failure){NETRING_ESHUTDOWN, 0, NULL, {0}},
               "last_error of a stopped capture");
    capture_close(capture);
    errno = 0;
    is_int(netring_capture_last_error(capture, &error), NETRING_EBADF, "last_error when closed");
    is_int(errno, EBADF, "last_error when closed: errno");
}

static void test_release(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    int sender = net_sender("va");
    struct netring_block *block = block_of(capture, sender, 0, 3, 60), *second;
    struct netring_packet packet;

    is_int(netring_block_retain(block, 2), 0, "retain for two more users");
    for (int i = 0; i < 3; i++)
        is_int(netring_block_release(block), 0, "release by user %d", i);
    errno = 0;
    is_int(netring_block_release(block), NETRING_EBADF, "once too often");
    is_int(errno, EBADF, "once too often: errno");
    is_int(netring_block_read(block, &packet, sizeof packet, 1), NETRING_EBADF,
           "read after release");
    second = block_of(capture, sender, 3, 3, 60);
    is_int(netring_block_release(block), NETRING_EBADF,
           "the old handle does not release the next block");
    is_int(netring_block_read(second, &packet, sizeof packet, 1), 1, "which is still there");
    is_int(netring_block_retain(second, UINT32_MAX), NETRING_EINVAL,
           "more users than can be counted");
    is_int(netring_block_release(second), 0, "and is released");
    is_int(netring_block_release(NULL), 0, "releasing nothing");
    capture_close(capture);
    errno = 0;
    is_int(netring_capture_close(capture), NETRING_EBADF, "closing twice");
    is_int(errno, EBADF, "closing twice: errno");
    is_int(netring_capture_close(NULL), 0, "closing nothing");
    close(sender);
}

/* ---- ends of a wait ---- */

static void test_close_while_waiting(void)
{
    struct netring_capture_config config = small_config();

    for (size_t i = 0; i < COUNT(wait_kinds); i++) {
        struct netring_capture *capture = capture_open("vb", &config);
        struct waiter waiter;
        int64_t since;

        waiter_start(&waiter, &wait_kinds[i], capture);
        since = now_ms();
        capture_close(capture);
        waiter_ends(&waiter, NETRING_EBADF, since, "close");
    }
}

static void test_removal(void)
{
    struct netring_capture_config config = small_config();

    for (size_t i = 0; i < 2 * COUNT(wait_kinds); i++) {
        bool down_before = i % 2;
        struct netring_capture *capture;
        struct netring_error error;
        struct waiter waiter;
        int64_t since;

        net_veth("gone", "peer");
        capture = capture_open("gone", &config);
        if (down_before)
            net_link_up("gone", false);
        waiter_start(&waiter, &wait_kinds[i / 2], capture);
        since = now_ms();
        net_link_delete("gone");
        waiter_ends(&waiter, NETRING_ENODEV, since,
                    down_before ? "removal of a link that is down" : "removal");
        is_int(wait_kinds[i / 2].call(capture, -1), NETRING_ENODEV, "and again, at once");
        netring_capture_last_error(capture, &error);
        is_str_contains(error.message, "gone", "last_error names the interface");
        is_int(netring_capture_flush(capture), NETRING_ENODEV, "flush after removal");
        is_int(netring_capture_stop(capture), 0, "stop after removal");
        is_int(wait_kinds[i / 2].call(capture, -1), NETRING_ESHUTDOWN, "which is told then");
        capture_close(capture);
    }
}

/* What came before the removal is handed out before it is told. */
static void test_removal_drains(void)
{
    struct netring_capture_config config = small_config();
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;
    int sender;

    config.block_timeout = 100;
    net_veth("gone", "peer");
    sender = net_sender("peer");
    capture = capture_open("gone", &config);
    send_frames(sender, 0, 20, 60);
    await_seen(capture, 20);
    net_link_delete("gone");
    is_int(receive(capture, 21, 3000, &records), NETRING_ENODEV, "removal with packets received");
    is_frames(&records, 0, 20, 60, 60, "removal with packets received");
    close(sender);
    capture_close(capture);
    records_free(&records);
}

/* ---- fork ---- */

struct parent {
    struct netring_capture *capture;
    struct netring_block *block;
    struct netring_filter *filter;
};

static void forked(void *user)
{
    struct parent *parent = user;
    struct netring_stats stats;
    struct netring_capture *capture;
    struct netring_packet packet;
    int rc;

    is_int(wait_kinds[0].call(parent->capture, 0), NETRING_EBADF, "after fork: next_block");
    is_int(netring_capture_stats(parent->capture, &stats, sizeof stats), NETRING_EBADF,
           "after fork: stats");
    is_int(netring_capture_fd(parent->capture), NETRING_EBADF, "after fork: fd");
    is_int(netring_capture_stop(parent->capture), NETRING_EBADF, "after fork: stop");
    is_int(netring_block_read(parent->block, &packet, sizeof packet, 1), NETRING_EBADF,
           "after fork: read");
    is_int(netring_block_release(parent->block), NETRING_EBADF, "after fork: release");
    is_int(netring_capture_close(parent->capture), NETRING_EBADF, "after fork: close");
    rc = netring_capture_open("vb", NULL, &capture, NULL);
    is_int(rc, 0, "after fork: the child opens a capture of its own");
    is_int(rc == 0 ? netring_capture_close(capture) : rc, 0, "after fork: and closes it");
}

static void test_fork(void)
{
    struct netring_capture_config config = page_config(4);
    int sender = net_sender("va");
    struct parent parent = {capture_open("vb", &config), NULL, NULL};
    struct records records = {0, 0, NULL};

    parent.block = block_of(parent.capture, sender, 0, 5, 60);
    child_run("a forked child", forked, &parent);
    block_records(parent.block, 64, &records);
    is_frames(&records, 0, 5, 60, 60, "the parent's block after its child's calls");
    is_int(netring_block_release(parent.block), 0, "the parent's release");
    netring_block_release(block_of(parent.capture, sender, 5, 5, 60));
    is_int(capture_stats(parent.capture).delivered, 10, "the parent's capture goes on");
    close(sender);
    capture_close(parent.capture);
    records_free(&records);
}

int main(void)
{
    struct footprint before;

    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    before = footprint_now();

    test_without_wipe();
    test_names();
    test_interface();
    test_values();
    test_flags();
    test_filter_handle();
    test_config_struct();
    test_config_init();
    child_run("without privilege", unprivileged, NULL);
    child_run("busy poll", busy_poll_unprivileged, NULL);
    test_refused();
    test_without_netlink();
    child_run("flush refused", flush_refused, NULL);
    child_run("wait refused", wait_refused, NULL);
    child_run("over the bound", over_the_bound, NULL);
    child_killed("within the bound the kernel is asked", SIGSYS, within_the_bound, NULL);
    test_shrink();
    child_run("a kernel without memory", kernel_without_memory, NULL);
    test_last_error();
    test_release();
    test_close_while_waiting();
    test_removal();
    test_removal_drains();
    test_fork();
    is_footprint(before, "all of it");
    return tap_end();
}
