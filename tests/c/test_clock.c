/* Who stamps the packets. The kernel's stamps are seen in the packets; there is no device with a
 * clock of its own here, so that a driver's answers are given by a thread in its place (seccomp's
 * user notification): what the library asks of it, and makes of what it says.
 *
 * no-valgrind: another thread answers a system call, for which valgrind lets none run
 * no-archive: it is about what the kernel is asked, and ASan has the archive */
#include "support.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/net_tstamp.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sender;

/* ---- the kernel's stamps ---- */

static struct netring_packet one_packet(struct netring_capture *capture)
{
    struct records records = {0, 0, NULL};
    struct netring_packet packet;

    send_frames(sender, 0, 1, 60);
    receive(capture, 1, 1000, &records);
    if (records.count != 1)
        tap_bail("no packet");
    packet = records.v[0].packet;
    records_free(&records);
    return packet;
}

static void test_software(const char *name)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open(name, &config);
    uint8_t before = one_packet(capture).clock;
    struct records records = {0, 0, NULL};
    int64_t start, end = now_ms() + tap_patience(2000);
    unsigned stamped = 0, outside = 0;

    is_int(capture_info(capture).clock, 0, "%s: as the kernel is: the info tells", name);
    capture_close(capture);
    if (before == NETRING_CLOCK_SOFTWARE)
        tap_skip("stamped at the copy", "another program on this machine has stamps made");
    else
        is_int(before, NETRING_CLOCK_COPY, "%s: stamped at the copy", name);

    config.clock = NETRING_CLOCK_SOFTWARE;
    capture = capture_open(name, &config);
    is_int(capture_info(capture).clock, NETRING_CLOCK_SOFTWARE, "%s: granted", name);
    /* The kernel switches it on in the background. */
    while (one_packet(capture).clock != NETRING_CLOCK_SOFTWARE && now_ms() < end)
        sleep_ms(1);
    start = clock_ns(CLOCK_REALTIME);
    send_frames(sender, 0, 100, 60);
    receive_both_ways(capture, 100, 1000, &records, name);
    end = clock_ns(CLOCK_REALTIME);
    is_int(records.count, 100, "%s: packets", name);
    for (size_t i = 0; i < records.count; i++) {
        int64_t time = (int64_t)records.v[i].packet.time_ns;

        stamped += records.v[i].packet.clock == NETRING_CLOCK_SOFTWARE;
        outside += time < start || time > end;
    }
    is_int(stamped, 100, "%s: each stamped when it came in", name);
    is_int(outside, 0, "%s: and then", name);
    records_free(&records);
    capture_close(capture);
}

/* It needs no privilege beyond that of the capture. */
static void unprivileged(void *user)
{
    (void)user;
    keep_capabilities(UINT64_C(1) << 13); /* CAP_NET_RAW */
    test_software("vb");
}

static void test_rebind(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    int64_t end = now_ms() + tap_patience(2000);

    config.clock = NETRING_CLOCK_SOFTWARE;
    capture = capture_open("vb", &config);
    is_int(netring_capture_rebind(capture, "va", 0, 0, NULL), 0, "rebound");
    while (one_packet(capture).clock != NETRING_CLOCK_SOFTWARE && now_ms() < end)
        sleep_ms(1);
    is_int(one_packet(capture).clock, NETRING_CLOCK_SOFTWARE, "rebound: stamped as before");
    capture_close(capture);
}

/* ---- refusals ---- */

static void test_refused(void)
{
    static const struct {
        const char *name, *interface;
        uint32_t clock;
        uint64_t flags;
        struct failure want;
    } cases[] = {
        {"veth",
         "vb",
         NETRING_CLOCK_RAW_HARDWARE,
         0,
         {NETRING_ENOTSUP,
          0,
          "clock",
          {"not supported by vb: its driver (veth) stamps received packets in software only",
           "NETRING_CLOCK_SOFTWARE works"}}},
        {"veth, to be switched on",
         "vb",
         NETRING_CLOCK_RAW_HARDWARE,
         NETRING_CAPTURE_HARDWARE_STAMPING,
         {NETRING_ENOTSUP, 0, "clock", {"(veth) stamps received packets in software only"}}},
        {"lo",
         "lo",
         NETRING_CLOCK_RAW_HARDWARE,
         0,
         {NETRING_ENOTSUP, 0, "clock", {"not supported by lo", "in software only"}}},
        {"any",
         "any",
         NETRING_CLOCK_RAW_HARDWARE,
         0,
         {NETRING_EINVAL, 0, "clock", {"needs one interface, not \"any\""}}},
        {"copy",
         "vb",
         NETRING_CLOCK_COPY,
         0,
         {NETRING_EINVAL, 0, "clock", {"clock 2 cannot be asked for"}}},
        {"an unknown clock",
         "vb",
         77,
         0,
         {NETRING_EINVAL, 0, "clock", {"clock 77 cannot be asked for"}}},
        {"switched on for another clock",
         "vb",
         NETRING_CLOCK_SOFTWARE,
         NETRING_CAPTURE_HARDWARE_STAMPING,
         {NETRING_EINVAL, 0, "flags", {"goes with clock NETRING_CLOCK_RAW_HARDWARE"}}},
        {"switched on for none",
         "vb",
         0,
         NETRING_CAPTURE_HARDWARE_STAMPING,
         {NETRING_EINVAL, 0, "flags", {"goes with clock NETRING_CLOCK_RAW_HARDWARE"}}},
        {"tun",
         "tun0",
         NETRING_CLOCK_RAW_HARDWARE,
         0,
         {NETRING_ENOTSUP, 0, "clock", {"not supported by tun0: its driver (tun)"}}},
        {"ifb",
         "ifb7",
         NETRING_CLOCK_RAW_HARDWARE,
         0,
         {NETRING_ENOTSUP, 0, "clock", {"not supported by ifb7"}}},
    };
    int tun = net_tun("tun0", IFF_TUN);
    bool ifb = net_link_new("ifb7", "ifb", NULL);

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_capture_config config = small_config();

        if ((strcmp(cases[i].name, "tun") == 0 && tun < 0) ||
            (strcmp(cases[i].name, "ifb") == 0 && !ifb)) {
            tap_skip(cases[i].name, "no such device here");
            continue;
        }
        config.clock = cases[i].clock;
        config.flags |= cases[i].flags;
        open_fails(cases[i].name, cases[i].interface, &config, &cases[i].want);
    }
    if (tun >= 0)
        close(tun);
}

/* What the kernel is asked, refused. */
static struct refused {
    const char *name;
    struct refusal refusal;
    uint32_t clock;
    struct failure want;
} refused[] = {
    {"SO_TIMESTAMPING",
     {SYS_setsockopt, EINVAL, 2, {{1, ~0u, SOL_SOCKET, false}, {2, ~0u, SO_TIMESTAMPING, false}}},
     NETRING_CLOCK_SOFTWARE,
     {NETRING_ESOCKOPT, EINVAL, "SO_TIMESTAMPING", {"SO_TIMESTAMPING (value 0x8) was refused"}}},
    {"PACKET_TIMESTAMP",
     {SYS_setsockopt, EINVAL, 2, {{1, ~0u, SOL_PACKET, false}, {2, ~0u, PACKET_TIMESTAMP, false}}},
     NETRING_CLOCK_SOFTWARE,
     {NETRING_ESOCKOPT, EINVAL, "PACKET_TIMESTAMP", {"PACKET_TIMESTAMP (value 0x10) was refused"}}},
    {"a driver that says nothing",
     {SYS_ioctl, EOPNOTSUPP, 1, {{1, ~0u, SIOCETHTOOL, false}}},
     NETRING_CLOCK_RAW_HARDWARE,
     {NETRING_ENOTSUP, 0, "clock", {"its driver tells of no stamps"}}},
    {"a question that fails",
     {SYS_ioctl, ENOMEM, 1, {{1, ~0u, SIOCETHTOOL, false}}},
     NETRING_CLOCK_RAW_HARDWARE,
     {NETRING_EIO, ENOMEM, "ETHTOOL_GET_TS_INFO", {"asking vb for its time stamps failed"}}},
    {"an interface that is gone meanwhile",
     {SYS_ioctl, ENODEV, 1, {{1, ~0u, SIOCETHTOOL, false}}},
     NETRING_CLOCK_RAW_HARDWARE,
     {NETRING_ENODEV, ENODEV, "interface", {"interface not found: vb"}}},
};

static void open_refused(void *user)
{
    const struct refused *one = user;
    struct netring_capture_config config = small_config();

    config.clock = one->clock;
    refuse(&one->refusal);
    open_fails(one->name, "vb", &config, &one->want);
}

/* ---- a driver's answers ---- */

/* What the device can and does, and what became of it. */
static struct device {
    uint32_t abilities, filters;
    struct hwtstamp_config now;
    int refuses;  /* errno of SIOCSHWTSTAMP */
    int answers;  /* the filter it makes of it; -1: the one that was asked for */
    int told;     /* how often it was switched */
    int asked_tx; /* and how */
    int asked_rx;
} device;

static _Atomic int listener = -1;

/* The answer to one request, which is in our memory; an errno, or 0. */
static int answer(uint64_t request, struct ifreq *ifreq)
{
    struct ethtool_ts_info *info = (void *)ifreq->ifr_data;
    struct hwtstamp_config *config = (void *)ifreq->ifr_data;

    if (strcmp(ifreq->ifr_name, "vb") != 0)
        return -1; /* the kernel's own */
    switch (request) {
    case SIOCETHTOOL:
        if (info->cmd != ETHTOOL_GET_TS_INFO)
            return -1;
        info->so_timestamping = device.abilities;
        info->rx_filters = device.filters;
        return 0;
    case SIOCGHWTSTAMP:
        *config = device.now;
        return 0;
    default:
        device.told++;
        device.asked_tx = config->tx_type;
        device.asked_rx = config->rx_filter;
        if (device.refuses)
            return device.refuses;
        if (device.answers >= 0)
            config->rx_filter = device.answers;
        device.now = *config;
        return 0;
    }
}

static void *answering(void *user)
{
    struct seccomp_notif request;
    struct seccomp_notif_resp response;

    (void)user;
    for (;;) {
        memset(&request, 0, sizeof request);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) != 0) {
            sleep_ms(1);
            continue;
        }
        memset(&response, 0, sizeof response);
        response.id = request.id;
        response.error = answer(request.data.args[1], (void *)(uintptr_t)request.data.args[2]);
        if (response.error < 0) {
            response.error = 0;
            response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        }
        response.error = -response.error;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
    }
    return NULL;
}

/* This thread's requests to drivers go to the other one from here on. */
static bool answer_requests(void)
{
    enum { REQUEST = offsetof(struct seccomp_data, args[1]) };
    static const struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, REQUEST + (__BYTE_ORDER == __BIG_ENDIAN ? 4 : 0)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIOCETHTOOL, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIOCGHWTSTAMP, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIOCSHWTSTAMP, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    };
    struct sock_fprog fprog = {.len = COUNT(program), .filter = (struct sock_filter *)program};
    pthread_t thread;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        tap_bail("PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
    if (pthread_create(&thread, NULL, answering, NULL) != 0)
        tap_bail("pthread_create");
    /* The other one was there before and is not filtered. */
    listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                            &fprog);
    return listener >= 0;
}

#define STAMPS (SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE)
#define ALL (1u << HWTSTAMP_FILTER_ALL)
#define PTP (1u << HWTSTAMP_FILTER_NONE | 1u << HWTSTAMP_FILTER_PTP_V2_EVENT)

static const struct driver_case {
    const char *name;
    bool switch_on;
    struct device device;
    int told, rx, tx; /* what is asked of it, if anything */
    struct failure want;
} drivers[] = {
    {"stamps everything",
     false,
     {.abilities = STAMPS, .filters = ALL, .answers = -1},
     0,
     0,
     0,
     {0, 0, NULL, {NULL}}},
    {"only PTP, somebody else chooses",
     false,
     {.abilities = STAMPS, .filters = PTP, .answers = -1},
     0,
     0,
     0,
     {0, 0, NULL, {NULL}}},
    {"switched on",
     true,
     {.abilities = STAMPS, .filters = ALL, .answers = -1},
     1,
     1,
     0,
     {0, 0, NULL, {NULL}}},
    {"a PTP daemon keeps its stamps of packets sent",
     true,
     {.abilities = STAMPS,
      .filters = ALL | PTP,
      .now = {.tx_type = HWTSTAMP_TX_ON, .rx_filter = HWTSTAMP_FILTER_PTP_V2_EVENT},
      .answers = -1},
     1,
     HWTSTAMP_FILTER_ALL,
     HWTSTAMP_TX_ON,
     {0, 0, NULL, {NULL}}},
    {"on already",
     true,
     {.abilities = STAMPS, .filters = ALL, .now = {.rx_filter = HWTSTAMP_FILTER_ALL}},
     0,
     0,
     0,
     {0, 0, NULL, {NULL}}},
    {"only PTP",
     true,
     {.abilities = STAMPS, .filters = PTP, .answers = -1},
     0,
     0,
     0,
     {NETRING_ENOTSUP,
      0,
      "clock",
      {"(veth) stamps received packets in hardware: none, ptpv2-event", "hwstamp_ctl"}}},
    {"no stamps of its own clock",
     false,
     {.abilities = SOF_TIMESTAMPING_RX_HARDWARE, .filters = ALL},
     0,
     0,
     0,
     {NETRING_ENOTSUP, 0, "clock", {"tells of no stamps"}}},
    {"no privilege",
     true,
     {.abilities = STAMPS, .filters = ALL, .refuses = EPERM},
     1,
     1,
     0,
     {NETRING_EIO, EPERM, "SIOCSHWTSTAMP", {"needs CAP_NET_ADMIN", "hwstamp_ctl -i vb -r 1"}}},
    {"refused by the driver",
     true,
     {.abilities = STAMPS, .filters = ALL, .refuses = ERANGE},
     1,
     1,
     0,
     {NETRING_ENOTSUP,
      ERANGE,
      "SIOCSHWTSTAMP",
      {"having vb stamp every packet was refused", "stamps received packets in hardware: all"}}},
    {"busy",
     true,
     {.abilities = STAMPS, .filters = ALL, .refuses = EBUSY},
     1,
     1,
     0,
     {NETRING_EIO, EBUSY, "SIOCSHWTSTAMP", {"was refused"}}},
    {"granted nothing",
     true,
     {.abilities = STAMPS, .filters = ALL, .answers = 0},
     1,
     1,
     0,
     {NETRING_ENOTSUP, 0, "clock", {"not supported by vb"}}},
};

static void with_drivers(void *user)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_error error;
    struct failure want = {
        NETRING_ENOTSUP, 0, "clock", {"not supported by va", "in software only"}};
    int rc;

    (void)user;
    if (!answer_requests()) {
        tap_skip("a driver's answers", "no seccomp user notification here (Linux 5.5)");
        return;
    }
    for (size_t i = 0; i < COUNT(drivers); i++) {
        const struct driver_case *one = &drivers[i];

        device = one->device;
        config.clock = NETRING_CLOCK_RAW_HARDWARE;
        config.flags = one->switch_on ? NETRING_CAPTURE_HARDWARE_STAMPING : 0;
        if (one->want.code) {
            open_fails(one->name, "vb", &config, &one->want);
            device = one->device;
            rc = netring_capture_open("vb", &config, &capture, NULL);
            is_int(rc, one->want.code, "%s: again", one->name);
        } else {
            capture = capture_open("vb", &config);
            is_int(capture_info(capture).clock, NETRING_CLOCK_RAW_HARDWARE, "%s: granted",
                   one->name);
            ok(one_packet(capture).clock != NETRING_CLOCK_RAW_HARDWARE,
               "%s: a packet without such a stamp says so", one->name);
            /* The next one cannot. */
            rc = netring_capture_rebind(capture, "va", 0, 0, &error);
            is_failure(rc, errno, &error, &want, one->name);
            is_int(capture_info(capture).ifindex, net_index("vb"), "%s: still there", one->name);
            one_packet(capture);
            is_int(netring_capture_rebind(capture, "vb", 0, 0, &error), 0, "%s: rebound",
                   one->name);
            capture_close(capture);
        }
        is_int(device.told, one->told, "%s: how often it is switched", one->name);
        if (one->told) {
            is_int(device.asked_rx, one->rx, "%s: for packets received", one->name);
            is_int(device.asked_tx, one->tx, "%s: for packets sent", one->name);
        }
    }
}

int main(void)
{
    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");

    test_software("vb");
    test_software("va");
    child_run("without CAP_NET_ADMIN", unprivileged, NULL);
    test_rebind();
    test_refused();
    for (size_t i = 0; i < COUNT(refused); i++)
        child_run(refused[i].name, open_refused, &refused[i]);
    child_run("with a driver's answers", with_drivers, NULL);
    return tap_end();
}
