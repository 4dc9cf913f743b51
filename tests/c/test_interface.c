/* The interfaces: each field held against /sys/class/net and ethtool, on links whose values the
 * test has chosen; hundreds of them; links that change, move and go away meanwhile; refused calls.
 */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <linux/net_tstamp.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { MOST = 400, PAIRS = 105 };

static struct netring_interface all[MOST];

/* ---- the other tools ---- */

/* Runs a command; its output, one static buffer. NULL where it fails. */
static const char *run(const char *format, ...) TAP_PRINTF(1, 2);
static const char *run(const char *format, ...)
{
    static char text[16 * KIB];
    char command[512];
    va_list arguments;
    size_t used;
    FILE *pipe;

    va_start(arguments, format);
    vsnprintf(command, sizeof command - 12, format, arguments);
    va_end(arguments);
    strcat(command, " 2>/dev/null");
    pipe = popen(command, "re");
    if (!pipe)
        return NULL;
    used = fread(text, 1, sizeof text - 1, pipe);
    text[used] = 0;
    return pclose(pipe) == 0 ? text : NULL;
}

static void must_run(const char *command)
{
    if (!run("%s", command))
        tap_bail("%s", command);
}

static char sys[64]; /* a sysfs of this network, or "" */

/* One value of /sys/class/net/NAME; NULL where it cannot be read. */
static const char *sysfs(const char *name, const char *file)
{
    static char text[256];
    char path[128];
    ssize_t got;
    int fd;

    snprintf(path, sizeof path, "%s/class/net/%s/%s", sys, name, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got < 0)
        return NULL;
    text[got] = 0;
    text[strcspn(text, "\n")] = 0;
    return text;
}

static long long sysfs_number(const char *name, const char *file)
{
    const char *text = sysfs(name, file);

    return text ? strtoll(text, NULL, 0) : -1;
}

static unsigned sysfs_queues(const char *name, const char *kind)
{
    char path[128];
    unsigned count = 0;
    struct dirent *entry;
    DIR *directory;

    snprintf(path, sizeof path, "%s/class/net/%s/queues", sys, name);
    directory = opendir(path);
    while (directory && (entry = readdir(directory)))
        count += strncmp(entry->d_name, kind, 3) == 0;
    if (directory)
        closedir(directory);
    return count;
}

static void mount_sysfs(void)
{
    snprintf(sys, sizeof sys, "/tmp/netring-sys.XXXXXX");
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, "") != 0 ||
        !mkdtemp(sys)) {
        sys[0] = 0;
        return;
    }
    if (mount("sysfs", sys, "sysfs", MS_RDONLY, "") != 0) {
        rmdir(sys);
        sys[0] = 0;
    }
}

static void unmount_sysfs(void)
{
    if (sys[0] && umount2(sys, MNT_DETACH) == 0)
        rmdir(sys);
}

/* What veth's driver tells: its queues only since Linux 5.13 (veth.c veth_get_channels). */
static uint64_t veth_tells(void)
{
    struct utsname kernel;
    unsigned major = 0, minor = 0;

    uname(&kernel);
    sscanf(kernel.release, "%u.%u", &major, &minor);
    return major > 5 || (major == 5 && minor >= 13) ? 0x1f : 0x1f & ~NETRING_INTERFACE_QUEUES;
}

/* ---- the calls ---- */

static struct netring_interface info(const char *name)
{
    struct netring_interface one;
    struct netring_error error;

    memset(&one, 0xa5, sizeof one);
    if (netring_interface_info(name, &one, sizeof one, &error) != 0)
        tap_bail("%s: %s", name, error.message);
    return one;
}

static int list(void)
{
    struct netring_error error;
    int count = netring_interface_list(all, sizeof *all, MOST, &error);

    if (count < 0)
        tap_bail("list: %s", error.message);
    return count;
}

static const struct netring_interface *listed(const char *name)
{
    int count = list();

    for (int i = 0; i < count; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    return NULL;
}

static int address_text(const struct netring_interface *one, char *text)
{
    int length = 0;

    text[0] = 0;
    for (unsigned i = 0; i < one->address_length; i++)
        length += sprintf(text + length, "%s%02x", i ? ":" : "", one->address[i]);
    return length;
}

/* ---- what is told ---- */

static void test_chosen_values(void)
{
    static const uint8_t address[6] = {2, 0, 0, 0, 0, 0xaa};
    struct netring_interface one;
    struct netring_error error;

    must_run("ip link add ia address 02:00:00:00:00:aa mtu 1400 numrxqueues 4 numtxqueues 3 "
             "type veth peer name ib");
    error_spoil(&error);
    memset(&one, 0xa5, sizeof one);
    errno = ENOTTY;
    is_int(netring_interface_info("ia", &one, sizeof one, &error), 0, "veth: info");
    is_int(errno, ENOTTY, "veth: errno is left alone");
    is_no_error(&error, "veth: info");
    is_int(one.size, sizeof one, "veth: size");
    is_int(one.ifindex, net_index("ia"), "veth: index");
    is_str(one.name, "ia", "veth: name");
    is_str(one.driver, "veth", "veth: driver");
    is_int(one.mtu, 1400, "veth: mtu");
    is_int(one.link_type, NETRING_LINKTYPE_ETHERNET, "veth: link type");
    is_int(one.hardware_type, ARPHRD_ETHER, "veth: hardware type");
    is_int(one.address_length, 6, "veth: length of the address");
    is_bytes(one.address, address, 6, "veth: address");
    is_int(one.address[6], 0, "veth: nothing behind the address");
    is_int(one.rx_queues, 4, "veth: receive queues");
    is_int(one.tx_queues, 3, "veth: transmit queues");
    is_int(one.rx_queues_max, 4, "veth: receive queues it was made with");
    is_int(one.tx_queues_max, 3, "veth: transmit queues it was made with");
    is_int(one.speed_mbps, 10000, "veth: speed");
    is_int(one.duplex, 1, "veth: duplex");
    is_int(one.clock, -1, "veth: no hardware clock");
    ok(one.timestamping & SOF_TIMESTAMPING_RX_SOFTWARE, "veth: software time stamps");
    is_int(one.valid &
               (NETRING_INTERFACE_SPEED | NETRING_INTERFACE_DRIVER | NETRING_INTERFACE_QUEUES |
                NETRING_INTERFACE_TIMESTAMPING | NETRING_INTERFACE_XDP_PROGRAM),
           veth_tells(), "veth: all that its driver tells is valid");
    is_int(one.reserved, 0, "veth: reserved");
    ok(!(one.flags & IFF_UP) && !one.carrier && one.operstate == 2, "veth: down");

    net_link_up("ia", true);
    one = info("ia");
    /* Older kernels do not know the state of a link that never had a carrier: it "runs". */
    ok(one.flags & IFF_UP && !one.carrier && (one.operstate == 0 || !(one.flags & IFF_RUNNING)),
       "veth: up, without a carrier (flags %#x, operstate %u)", one.flags, one.operstate);
    net_link_up("ib", true);
    net_await_carrier("ia");
    one = info("ia");
    ok(one.flags & IFF_UP && one.flags & IFF_RUNNING && one.carrier && one.operstate == 6,
       "veth: up, with a carrier");
    net_link_up("ib", false);
    ok(!info("ia").carrier, "veth: the carrier went with the peer");
    if (run("ethtool -L ia rx 2 tx 1")) {
        one = info("ia");
        is_int(one.rx_queues, 2, "veth: fewer receive queues in use");
        is_int(one.tx_queues, 1, "veth: fewer transmit queues in use");
        is_int(one.rx_queues_max, 4, "veth: of as many as before");
        is_int(one.tx_queues_max, 3, "veth: of as many as before");
    } else {
        tap_skip("veth: queues in use", "ethtool cannot change them here");
    }
    net_link_mtu("ia", 9000);
    is_int(info("ia").mtu, 9000, "veth: another mtu");
    net_link_rename("ib", "ic");
    is_str(info("ic").name, "ic", "veth: another name");
    is_int(netring_interface_info("ib", &one, sizeof one, NULL), NETRING_ENODEV,
           "veth: not under the old one");
    if (run("ip link property add dev ia altname second")) {
        one = info("second");
        is_str(one.name, "ia", "an alternative name leads to the main one");
        is_int(one.ifindex, net_index("ia"), "an alternative name: index");
    } else {
        tap_skip("alternative names", "this ip or kernel has none");
    }
}

static void test_lo(void)
{
    struct netring_interface lo = info("lo");

    is_int(lo.link_type, NETRING_LINKTYPE_ETHERNET, "lo: link type");
    is_int(lo.hardware_type, ARPHRD_LOOPBACK, "lo: hardware type");
    is_int(lo.mtu, 65536, "lo: mtu");
    is_int(lo.flags & (IFF_UP | IFF_LOOPBACK), IFF_UP | IFF_LOOPBACK, "lo: flags");
    is_int(lo.speed_mbps, 0, "lo: no speed");
    is_int(lo.duplex, 255, "lo: no duplex");
    is_int(lo.valid & NETRING_INTERFACE_SPEED, 0, "lo: the speed is not valid");
    is_int(lo.rx_queues, 1, "lo: receive queues");
    is_int(lo.valid & NETRING_INTERFACE_QUEUES, 0, "lo: but no driver says so");
}

static void test_tun(void)
{
    struct ifreq request = {.ifr_name = "itun", .ifr_flags = IFF_TUN | IFF_NO_PI};
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    struct netring_interface one;

    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) != 0) {
        if (tun >= 0)
            close(tun);
        tap_skip("tun", "no tun device here");
        return;
    }
    one = info("itun");
    is_int(one.link_type, NETRING_LINKTYPE_RAW, "tun: link type");
    is_int(one.hardware_type, ARPHRD_NONE, "tun: hardware type");
    is_int(one.address_length, 0, "tun: no address");
    is_str(one.driver, "tun", "tun: driver");
    close(tun);
    is_int(netring_interface_info("itun", &one, sizeof one, NULL), NETRING_ENODEV,
           "tun: gone with its descriptor");
}

/* ---- beside the other tools ---- */

static void test_sysfs(void)
{
    unsigned compared = 0;
    int count = list();

    if (!sys[0]) {
        tap_skip("/sys/class/net", "cannot be mounted for this network");
        return;
    }
    for (int i = 0; i < count; i++) {
        const struct netring_interface *one = &all[i];
        const char *name = one->name;
        const char *const states[] = {"unknown", "notpresent", "down", "lowerlayerdown",
                                      "testing", "dormant",    "up"};
        char address[3 * 32];
        long long speed;

        is_int(one->ifindex, sysfs_number(name, "ifindex"), "/sys: %s: ifindex", name);
        is_int(one->mtu, sysfs_number(name, "mtu"), "/sys: %s: mtu", name);
        is_int(one->hardware_type, sysfs_number(name, "type"), "/sys: %s: type", name);
        /* The kernel adds what it derives: IFF_RUNNING, IFF_LOWER_UP, IFF_DORMANT. */
        is_int(one->flags & 0xffff & ~(unsigned)IFF_RUNNING, sysfs_number(name, "flags") & 0xffff,
               "/sys: %s: flags", name);
        is_int(one->address_length, sysfs_number(name, "addr_len"), "/sys: %s: addr_len", name);
        address_text(one, address);
        is_str(address, sysfs(name, "address"), "/sys: %s: address", name);
        if (one->operstate < COUNT(states))
            is_str(states[one->operstate], sysfs(name, "operstate"), "/sys: %s: operstate", name);
        if (one->flags & IFF_UP)
            is_int(one->carrier, sysfs_number(name, "carrier"), "/sys: %s: carrier", name);
        speed = sysfs_number(name, "speed");
        if (one->flags & IFF_UP) /* else it does not tell */
            is_int(one->speed_mbps, speed > 0 ? speed : 0, "/sys: %s: speed", name);
        is_int(one->rx_queues, sysfs_queues(name, "rx-"), "/sys: %s: receive queues", name);
        is_int(one->tx_queues, sysfs_queues(name, "tx-"), "/sys: %s: transmit queues", name);
        compared++;
    }
    ok(compared >= 3, "/sys: %u interfaces compared", compared);
}

static void test_ethtool(void)
{
    static const struct {
        const char *word;
        uint32_t bit;
    } stamps[] = {
        {"hardware-transmit", SOF_TIMESTAMPING_TX_HARDWARE},
        {"software-transmit", SOF_TIMESTAMPING_TX_SOFTWARE},
        {"hardware-receive", SOF_TIMESTAMPING_RX_HARDWARE},
        {"software-receive", SOF_TIMESTAMPING_RX_SOFTWARE},
        {"software-system-clock", SOF_TIMESTAMPING_SOFTWARE},
        {"hardware-raw-clock", SOF_TIMESTAMPING_RAW_HARDWARE},
    };
    int count = list();

    if (!run("ethtool --version")) {
        tap_skip("ethtool", "is not installed");
        return;
    }
    for (int i = 0; i < count; i++) {
        const struct netring_interface *one = &all[i];
        const char *name = one->name, *text, *at;
        char driver[64] = "";
        unsigned rx = 0, tx = 0;

        text = run("ethtool -i %s", name);
        if (text && (at = strstr(text, "driver: ")))
            sscanf(at, "driver: %63s", driver);
        is_str(one->driver, driver, "ethtool: %s: driver", name);
        is_int((one->valid & NETRING_INTERFACE_DRIVER) != 0, driver[0] != 0,
               "ethtool: %s: a driver is told", name);

        text = run("ethtool -l %s", name);
        at = text ? strstr(text, "Current hardware settings:") : NULL;
        is_int((one->valid & NETRING_INTERFACE_QUEUES) != 0, at != NULL,
               "ethtool: %s: queues are told", name);
        if (at && sscanf(at, "Current hardware settings: RX: %u TX: %u", &rx, &tx) == 2) {
            is_int(one->rx_queues, rx, "ethtool: %s: receive queues", name);
            is_int(one->tx_queues, tx, "ethtool: %s: transmit queues", name);
        }

        text = run("ethtool -T %s", name);
        is_int((one->valid & NETRING_INTERFACE_TIMESTAMPING) != 0, text != NULL,
               "ethtool: %s: time stamps are told", name);
        for (size_t s = 0; text && s < COUNT(stamps); s++)
            is_int((one->timestamping & stamps[s].bit) != 0, strstr(text, stamps[s].word) != NULL,
                   "ethtool: %s: %s", name, stamps[s].word);
        if (text && strstr(text, "Clock: none"))
            is_int(one->clock, -1, "ethtool: %s: no hardware clock", name);
    }
}

/* ---- XDP ---- */

static int bpf(int command, union bpf_attr *attributes)
{
    return (int)syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

static void test_xdp(void)
{
    const struct bpf_insn pass[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS},
                                    {.code = BPF_JMP | BPF_EXIT}};
    struct netring_interface one = info("ia");
    struct bpf_prog_info program_info = {0};
    union bpf_attr attributes;
    int program, link;
    struct utsname kernel;
    unsigned major = 0, minor = 0;

    uname(&kernel);
    sscanf(kernel.release, "%u.%u", &major, &minor);
    is_int(one.xdp_mode, 0, "XDP: no program");
    is_int(one.xdp_program, 0, "XDP: no program's number");
    if (major > 6 || (major == 6 && minor >= 3))
        ok(one.valid & NETRING_INTERFACE_XDP_FEATURES, "XDP: this kernel tells the features");
    if (one.valid & NETRING_INTERFACE_XDP_FEATURES) {
        is_int(one.xdp_features & (NETRING_XDP_BASIC | NETRING_XDP_REDIRECT),
               NETRING_XDP_BASIC | NETRING_XDP_REDIRECT, "XDP: what veth can do");
        is_int(one.xdp_features & (NETRING_XDP_ZERO_COPY | NETRING_XDP_OFFLOAD), 0,
               "XDP: what veth cannot do");
        is_int(listed("ia")->xdp_features, one.xdp_features, "XDP: the list tells the same");
        is_int(info("lo").xdp_features, 0, "XDP: lo can do nothing");
        ok(info("lo").valid & NETRING_INTERFACE_XDP_FEATURES, "XDP: which is known");
    } else {
        is_int(one.xdp_features | one.xdp_max_segments, 0, "XDP: features unknown");
    }

    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.insns = (uintptr_t)pass;
    attributes.insn_cnt = COUNT(pass);
    attributes.license = (uintptr_t) "GPL";
    program = bpf(BPF_PROG_LOAD, &attributes);
    if (program < 0) {
        tap_skip("an XDP program", "bpf(2) is not allowed here");
        return;
    }
    memset(&attributes, 0, sizeof attributes);
    attributes.info.bpf_fd = (uint32_t)program;
    attributes.info.info_len = sizeof program_info;
    attributes.info.info = (uintptr_t)&program_info;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes);
    for (uint32_t mode = 1; mode <= 2; mode++) {
        memset(&attributes, 0, sizeof attributes);
        attributes.link_create.prog_fd = (uint32_t)program;
        attributes.link_create.target_ifindex = net_index("ia");
        attributes.link_create.attach_type = BPF_XDP;
        attributes.link_create.flags = mode == 1 ? 1u << 2 : 1u << 1; /* XDP_FLAGS_DRV, _SKB */
        link = bpf(BPF_LINK_CREATE, &attributes);
        if (link < 0) {
            tap_skip("an XDP program attached", strerror(errno));
            continue;
        }
        one = info("ia");
        is_int(one.xdp_mode, mode, "XDP: the program's mode");
        is_int(one.xdp_program, program_info.id, "XDP: the program's number");
        is_int(listed("ia")->xdp_program, program_info.id, "XDP: the list tells it too");
        close(link);
        /* The link's end may be a moment away. */
        for (int64_t end = now_ms() + tap_patience(2000); info("ia").xdp_mode && now_ms() < end;)
            sleep_ms(5);
        is_int(info("ia").xdp_mode, 0, "XDP: detached");
    }
    close(program);
}

/* ---- many, and changing ---- */

static void test_many(void)
{
    struct netring_interface few[3];
    struct if_nameindex *names;
    FILE *batch;
    unsigned wrong = 0, differ = 0;
    int count, before = list();
    union {
        struct netring_interface v;
        uint8_t bytes[256];
    } * wide;
    struct {
        uint8_t bytes[72];
        uint64_t behind;
    } narrow[2];

    batch = popen("ip -batch - >/dev/null 2>&1", "we");
    for (int i = 0; batch && i < PAIRS; i++)
        fprintf(batch, "link add many%d type veth peer name more%d\n", i, i);
    if (!batch || pclose(batch) != 0)
        tap_bail("ip -batch");
    count = netring_interface_list(NULL, 0, 0, NULL);
    is_int(count, before + 2 * PAIRS, "many: how many");
    is_int(list(), count, "many: as many are listed");
    names = if_nameindex();
    for (int i = 0; i < count; i++) {
        struct netring_interface one = info(all[i].name);

        wrong += !names[i].if_name || if_nametoindex(all[i].name) != all[i].ifindex;
        wrong += i > 0 && all[i - 1].ifindex >= all[i].ifindex;
        differ += memcmp(&one, &all[i], sizeof one) != 0;
    }
    ok(!names[count].if_name, "many: as many as if_nameindex has");
    if_freenameindex(names);
    is_int(wrong, 0, "many: each once, by index, with its name");
    is_int(differ, 0, "many: list and info agree");

    memset(few, 0xa5, sizeof few);
    is_int(netring_interface_list(few, sizeof *few, 2, NULL), count, "less room: how many");
    is_bytes(few, all, 2 * sizeof *few, "less room: the first ones");
    is_int(few[2].ifindex, 0xa5a5a5a5, "less room: nothing behind it");

    wide = malloc(MOST * sizeof *wide);
    memset(wide, 0xa5, MOST * sizeof *wide);
    is_int(netring_interface_list(&wide->v, sizeof *wide, MOST, NULL), count, "larger elements");
    wrong = 0;
    for (int i = 0; i < count; i++) {
        wrong += wide[i].v.size != sizeof *wide;
        wide[i].v.size = sizeof(struct netring_interface);
        wrong += memcmp(&wide[i].v, &all[i], sizeof *all) != 0;
        for (size_t at = sizeof *all; at < sizeof *wide; at++)
            wrong += wide[i].bytes[at] != 0;
    }
    is_int(wrong, 0, "larger elements: the same, and zeros behind it");
    is_int(wide[count].bytes[0], 0xa5, "larger elements: nothing behind the last");
    free(wide);

    memset(narrow, 0xa5, sizeof narrow);
    is_int(netring_interface_list((void *)narrow, 72, 1, NULL), count, "smaller elements");
    is_bytes(narrow[0].bytes + 4, (uint8_t *)all + 4, 68, "smaller elements: what fits");
    is_int(narrow[0].behind, INT64_C(0xa5a5a5a5a5a5a5a5), "smaller elements: and no more");
    batch = popen("ip -batch - >/dev/null 2>&1", "we");
    for (int i = 0; batch && i < PAIRS; i++)
        fprintf(batch, "link del many%d\n", i);
    if (!batch || pclose(batch) != 0)
        tap_bail("ip -batch");
}

static atomic_bool over;

/* A link that comes and goes, and one that changes its name. */
static void *churn(void *user)
{
    unsigned *turns = user;

    while (!over) {
        net_veth("come", "go");
        net_link_rename("turn", "nrut");
        net_link_delete("come");
        net_link_rename("nrut", "turn");
        ++*turns;
    }
    return NULL;
}

static void test_changing(void)
{
    unsigned turns = 0, lists = 0, stable = 0, wrong = 0;
    int64_t end = now_ms() + tap_patience(10000);
    pthread_t thread;

    must_run("ip link add turn type veth peer name tail");
    net_link_up("turn", false);
    net_link_up("tail", false);
    over = false;
    pthread_create(&thread, NULL, churn, &turns);
    while (lists < 200 && now_ms() < end) {
        int count = list();

        for (int i = 0; i < count; i++) {
            stable += strcmp(all[i].name, "lo") == 0 || strcmp(all[i].name, "tail") == 0;
            wrong += i > 0 && all[i - 1].ifindex == all[i].ifindex;
            /* Never another link's driver, nor none at all. */
            if (strcmp(all[i].name, "lo") != 0)
                wrong += strcmp(all[i].driver, "veth") != 0;
            else
                wrong += all[i].driver[0] != 0 && strcmp(all[i].driver, "veth") == 0;
        }
        lists++;
    }
    over = true;
    pthread_join(thread, NULL);
    is_int(lists, 200, "changing: lists (%u turns meanwhile)", turns);
    is_int(stable, 2 * lists, "changing: what stays is always there");
    is_int(wrong, 0, "changing: nothing twice, and each with its own driver");
    net_link_delete("turn");
}

/* ---- refused ---- */

static void is_refused(const char *what, const char *name, const struct failure *want)
{
    struct netring_interface one;
    struct netring_error error;
    int rc;

    error_spoil(&error);
    errno = 0;
    rc = name ? netring_interface_info(name, &one, sizeof one, &error)
              : netring_interface_list(all, sizeof *all, MOST, &error);
    is_failure(rc, errno, &error, want, what);
}

static void test_arguments(void)
{
    const struct failure gone = {
        NETRING_ENODEV, ENODEV, "interface", {"interface not found: nosuch0", "ip link show"}};
    const struct failure any = {
        NETRING_ENODEV, ENODEV, "interface", {"\"any\" stands for all of them"}};
    const struct failure empty = {NETRING_EINVAL, 0, "interface", {"is empty"}};
    const struct failure longer = {NETRING_EINVAL, 0, "interface", {"longer than 15 bytes"}};
    const struct failure null = {NETRING_EINVAL, 0, "name", {"name is NULL"}};
    struct netring_interface one;
    struct netring_error error;
    uint8_t bytes[64];
    int rc;

    is_refused("no such interface", "nosuch0", &gone);
    is_refused("any", "any", &any);
    is_refused("no name", "", &empty);
    is_refused("a long name", "sixteen-bytes-xx", &longer);
    rc = netring_interface_info(NULL, &one, sizeof one, &error);
    is_failure(rc, errno, &error, &null, "name NULL");
    is_int(netring_interface_info("lo", NULL, sizeof one, NULL), NETRING_EINVAL, "out NULL");
    is_int(netring_interface_info("lo", (void *)(bytes + 1), 32, NULL), NETRING_EINVAL,
           "out misaligned");
    is_int(netring_interface_info("lo", &one, sizeof &one, NULL), NETRING_EINVAL,
           "the size of a pointer");
    is_int(netring_interface_info("lo", &one, 5000, NULL), NETRING_EINVAL, "a size too large");
    memset(&one, 0xa5, sizeof one);
    is_int(netring_interface_info("lo", &one, 36, NULL), 0, "a size that ends inside a field");
    ok(one.ifindex == net_index("lo") && one.flags == 0xa5a5a5a5, "is filled up to there");
    is_int(netring_interface_list(NULL, sizeof one, 1, NULL), NETRING_EINVAL, "list: out NULL");
    is_int(netring_interface_list(all, 8, 1, NULL), NETRING_EINVAL, "list: a pointer's size");
    is_int(netring_interface_list(all, 196, 1, NULL), NETRING_EINVAL, "list: no multiple of 8");
    is_int(netring_interface_list(all, sizeof *all, SIZE_MAX / 8, NULL), NETRING_EINVAL,
           "list: more than an address space has");
    ok(netring_interface_list(NULL, 0, 0, NULL) >= 3, "list: only the number");
}

static void no_privilege(void *user)
{
    (void)user;
    keep_capabilities(0);
    ok(list() >= 3, "without privilege: the list");
    is_str(info("ia").driver, "veth", "without privilege: info");
    is_int((info("ia").valid & 0x1f), veth_tells(), "without privilege: all of it");
}

static void netlink_refused(void *user)
{
    const struct refusal refusal = {SYS_socket, EMFILE, 1, {{0, ~0u, AF_NETLINK, false}}};
    const struct failure want = {
        NETRING_EIO, EMFILE, "netlink", {"asking for the interfaces failed", "ulimit -n"}};

    (void)user;
    refuse(&refusal);
    is_refused("netlink refused: list", NULL, &want);
    is_refused("netlink refused: info", "lo", &want);
}

static void generic_refused(void *user)
{
    const struct refusal refusal = {
        SYS_socket, EPROTONOSUPPORT, 2, {{0, ~0u, AF_NETLINK, false}, {2, ~0u, 16, false}}};

    (void)user;
    refuse(&refusal);
    is_int(info("ia").valid, veth_tells(), "generic netlink refused: all but the XDP features");
    is_int(listed("ia")->valid, veth_tells(), "generic netlink refused: in the list too");
}

static void unix_refused(void *user)
{
    const struct refusal refusal = {SYS_socket, EACCES, 1, {{0, ~0u, AF_UNIX, false}}};
    const struct failure want = {NETRING_EIO, EACCES, "SIOCGIFINDEX", {"looking up interface lo"}};

    (void)user;
    refuse(&refusal);
    is_refused("AF_UNIX refused: info", "lo", &want);
    is_int(listed("ia")->mtu, 9000, "AF_UNIX refused: the list has what the kernel says");
    is_int(listed("ia")->valid & 0xf, 0, "AF_UNIX refused: and nothing of the driver");
    is_int(listed("ia")->rx_queues, 4, "AF_UNIX refused: queues are those it was made with");
}

int main(void)
{
    struct footprint before;

    tap_begin(120);
    net_enter();
    if (!run("ip -V"))
        tap_skip_all("ip(8) of iproute2 is not installed");
    mount_sysfs();
    before = footprint_now();

    test_chosen_values();
    test_lo();
    test_tun();
    test_sysfs();
    test_ethtool();
    test_xdp();
    test_many();
    test_changing();
    test_arguments();
    child_run("without privilege", no_privilege, NULL);
    child_run("netlink refused", netlink_refused, NULL);
    child_run("generic netlink refused", generic_refused, NULL);
    child_run("AF_UNIX refused", unix_refused, NULL);
    is_footprint(before, "interfaces");
    unmount_sysfs();
    return tap_end();
}
