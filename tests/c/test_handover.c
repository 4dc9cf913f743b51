/* Packet sockets made by somebody with the privilege and handed over to somebody without any: what
 * the worker can do, that a close ends everything whoever else has the socket, and what will not
 * do.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOON ((int)tap_patience(3000))

static int sender; /* on v1; what it sends arrives at v0 */

static int packet_socket(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW, 0);

    if (fd < 0)
        tap_bail("socket(AF_PACKET): %s", strerror(errno));
    return fd;
}

static struct netring_capture_config config_on(int fd)
{
    struct netring_capture_config config = small_config();

    config.flags |= NETRING_CAPTURE_SOCKET_FD;
    config.socket_fd = fd;
    return config;
}

/* ---- workers ---- */

static void send_socket(int channel, int fd)
{
    char byte = 'x', control[CMSG_SPACE(sizeof fd)];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    memset(control, 0, sizeof control);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    if (sendmsg(channel, &message, 0) != 1)
        tap_bail("SCM_RIGHTS: %s", strerror(errno));
}

static int receive_socket(int channel)
{
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    int fd = -1;

    if (recvmsg(channel, &message, 0) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* Nothing is left: neither the user nor a capability, and none can be had again. */
static void drop_everything(void)
{
    keep_capabilities(CAPABILITY(CAP_SETUID));
    if (setresuid(65534, 65534, 65534) != 0)
        tap_diag("uid 65534 is not mapped here: only the capabilities are dropped");
    keep_capabilities(0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* It may send by the socket it has; it is /proc that a setuid makes unreadable. */
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    is_int(socket(AF_PACKET, SOCK_RAW, 0), -1, "the worker cannot make one");
    is_int(errno, EPERM, "the worker cannot make one: EPERM");
    is_int(netring_capture_open("v0", NULL, &(struct netring_capture *){NULL}, NULL), NETRING_EPERM,
           "nor open a capture without it");
}

static struct netring_filter *only_large(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 200, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct netring_filter *filter;

    if (netring_filter_new(program, COUNT(program), &filter, NULL) != 0)
        tap_bail("netring_filter_new");
    return filter;
}

/* Ring, filter, promiscuous mode, statistics, events and rebind. `own`: the socket is of the
 * worker's own namespace. */
static void works(int fd, bool own, const char *what)
{
    struct netring_capture_config config = config_on(fd);
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;
    struct netring_error error;
    struct netring_stats stats;
    struct netring_event event;
    int rc;

    config.filter = only_large();
    config.flags |= NETRING_CAPTURE_PROMISCUOUS | NETRING_CAPTURE_IGNORE_OUTGOING;
    rc = netring_capture_open("v0", &config, &capture, &error);
    if (!is_int(rc, 0, "%s: opened", what)) {
        tap_diag("%s", error.message);
        return;
    }
    netring_filter_free(config.filter);
    send_frames(sender, 0, 20, 100);
    send_frames(sender, 20, 60, 300);
    receive(capture, 60, SOON, &records);
    is_frames(&records, 20, 60, 300, 300, what);
    records_free(&records);
    stats = capture_stats(capture);
    is_int(stats.received, 60, "%s: counters", what);
    is_int(!!(stats.valid & NETRING_STATS_INTERFACE), own, "%s: counters of the interface", what);
    is_str(capture_info(capture).interface, "v0", "%s: its name", what);
    ok(fcntl(fd, F_GETFL) & O_NONBLOCK, "%s: never blocks", what);
    is_int(netring_capture_next_event(capture, 0, &event, sizeof event), 0, "%s: no event", what);
    is_int(netring_capture_rebind(capture, "v1", 0, 0, NULL), 0, "%s: bound anew", what);
    is_int(netring_capture_rebind(capture, "v0", 0, 0, NULL), 0, "%s: and back", what);
    is_int(netring_capture_rebind(capture, "nosuch", 0, 10, NULL), NETRING_ENODEV, "%s: none",
           what);
    is_int(netring_capture_flush(capture), 0, "%s: flush", what);
    is_int(netring_capture_stop(capture), 0, "%s: stop", what);
    capture_close(capture);
}

/* The parent's copy and what it is used for. */
struct handed {
    int fd, channel[2];
};

static void by_inheritance(void *user)
{
    struct handed *handed = user;
    struct netring_capture_config config;
    struct netring_capture *capture;

    drop_everything();
    works(handed->fd, true, "inherited");
    works(handed->fd, true, "inherited, once more");
    config = config_on(handed->fd);
    capture = capture_open("any", &config);
    send_frames(sender, 0, 10, 100);
    await_seen(capture, 20);
    capture_close(capture);
}

static void by_message(void *user)
{
    struct handed *handed = user;

    drop_everything();
    works(receive_socket(handed->channel[1]), true, "by SCM_RIGHTS");
}

/* Not the user alone: the network is another one, and names are looked up in the socket's. */
static void from_elsewhere(void *user)
{
    struct handed *handed = user;
    struct netring_capture_config config;
    struct netring_capture *capture;
    struct netring_event event;

    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        tap_skip("in a user namespace", "may not make one here");
        return;
    }
    keep_capabilities(0);
    is_int(if_nametoindex("v0"), 0, "in a user namespace: no v0 here");
    works(handed->fd, false, "in a user namespace");
    config = config_on(handed->fd);
    config.flags |= NETRING_CAPTURE_EVENTS_ON_FD;
    capture = capture_open("v0", &config);
    ok(!(capture_info(capture).flags & NETRING_CAPTURE_EVENTS_ON_FD),
       "in a user namespace: events are not on the descriptor");
    if (write(handed->channel[1], "d", 1) != 1)
        tap_bail("write");
    is_int(netring_capture_next_event(capture, SOON, &event, sizeof event), 1,
           "in a user namespace: events are noticed");
    is_int(event.kind, NETRING_EVENT_DOWN, "in a user namespace: which");
    is_str(event.name, "v0", "in a user namespace: of which interface");
    capture_close(capture);
}

static void test_workers(void)
{
    struct handed handed = {.fd = packet_socket()};
    pid_t child;
    char byte;
    int status;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, handed.channel) != 0)
        tap_bail("socketpair: %s", strerror(errno));
    child_run("by inheritance", by_inheritance, &handed);
    is_int(net_promiscuity("v0"), 0, "by inheritance: nothing is left of it");
    send_socket(handed.channel[0], handed.fd);
    child_run("by SCM_RIGHTS", by_message, &handed);
    is_int(net_promiscuity("v0"), 0, "by SCM_RIGHTS: nothing is left of it");

    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm((unsigned)(tap_patience(20000) / 1000));
        close(handed.channel[0]);
        from_elsewhere(&handed);
        fflush(stdout);
        _exit(0);
    }
    close(handed.channel[1]);
    if (read(handed.channel[0], &byte, 1) == 1)
        net_link_up("v0", false);
    waitpid(child, &status, 0);
    is_int(status, 0, "in a user namespace: the worker came to its end");
    net_link_up("v0", true);
    net_await_carrier("v1");
    close(handed.channel[0]);
    close(handed.fd);
}

/* ---- whose it is ---- */

static int rings(void)
{
    return footprint_now().mappings;
}

/* The kernel's own list: bound to which protocol and interface the socket with this inode is, and
 * whether it runs. */
static bool listed(int fd, unsigned *protocol, int *interface)
{
    FILE *list = fopen("/proc/net/packet", "re");
    char line[256], name[64], target[64] = "";
    unsigned long inode = 0;
    bool found = false;

    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (!list || readlink(name, target, sizeof target - 1) < 0)
        tap_bail("/proc: %s", strerror(errno));
    while (fgets(line, sizeof line, list) && !found) {
        found = sscanf(line, "%*s %*s %*s %x %d %*s %*s %*s %lu", protocol, interface, &inode) == 3;
        snprintf(name, sizeof name, "socket:[%lu]", inode);
        found = found && strcmp(name, target) == 0;
    }
    fclose(list);
    return found;
}

static void is_unused(int fd, const char *what)
{
    unsigned protocol = 0;
    int interface = -1;

    ok(listed(fd, &protocol, &interface), "%s: the socket is still there", what);
    ok(protocol == 0 || protocol == 0xff, "%s: and receives nothing (protocol %x)", what, protocol);
    is_int(interface, 0, "%s: bound to nothing", what);
    is_int(net_promiscuity("v0"), 0, "%s: not promiscuous", what);
    is_int(net_allmulti("v0") > 0, 0, "%s: nor all-multicast", what);
    is_int(rings(), 0, "%s: no ring mapped", what);
}

/* With a copy left, a close still ends everything, held blocks or not. */
static void test_close(void)
{
    struct netring_capture_config config;
    int fd = packet_socket(), version = 0;
    struct records records = {0, 0, NULL};
    struct netring_block *block;
    struct netring_capture *capture;
    struct footprint before = footprint_now();
    socklen_t length = sizeof version;

    config = config_on(fd);
    config.flags |= NETRING_CAPTURE_PROMISCUOUS | NETRING_CAPTURE_ALL_MULTICAST |
                    NETRING_CAPTURE_IGNORE_OUTGOING;
    config.block_timeout = 100;
    capture = capture_open("v0", &config);
    is_int(net_promiscuity("v0"), 1, "close: promiscuous before");
    block = block_of(capture, sender, 0, 5, 100);
    capture_close(capture);
    is_unused(fd, "close");
    block_records(block, 8, &records);
    is_frames(&records, 0, 5, 100, 100, "close: the block that is held");
    netring_block_release(block);
    records_free(&records);
    is_footprint(before, "close");
    ok(getsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, &length) == 0 &&
           setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, length) == 0,
       "close: the ring is gone from the kernel");

    /* With other wishes, and in plain use again. */
    config = config_on(fd);
    config.snap_length = 64;
    capture = capture_open("v0", &config);
    send_frames(sender, 0, 10, 100);
    receive(capture, 10, SOON, &records);
    is_int(records.count, 10, "open again: packets come");
    is_int(records.count ? records.v[0].packet.caplen : 0, 64, "open again: cut");
    is_int(capture_stats(capture).received, 10, "open again: counters begin at 0");
    records_free(&records);
    capture_close(capture);
    config.snap_length = 0;
    capture = capture_open("v0", &config);
    send_frames(sender, 0, 10, 100);
    receive(capture, 10, SOON, &records);
    is_frames(&records, 0, 10, 100, 100, "open once more: the filter is gone");
    records_free(&records);
    /* The caller's copy is not needed. */
    close(fd);
    send_frames(sender, 50, 10, 100);
    receive(capture, 10, SOON, &records);
    is_frames(&records, 50, 10, 100, 100, "the caller's copy is closed");
    records_free(&records);
    capture_close(capture);
    is_int(net_promiscuity("v0"), 0, "all closed: not promiscuous");
}

/* A filter of whoever made the socket stays, and a locked one cannot be replaced. */
static void test_filter_of_the_parent(void)
{
    const struct failure locked = {NETRING_ESOCKOPT, EPERM, "SO_ATTACH_FILTER", {"was refused"}};
    struct sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_filter short_only[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 200, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 50),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {COUNT(short_only), short_only}, nothing = {COUNT(none), none};
    struct netring_capture_config config;
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;
    int fd = packet_socket(), one = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one) != 0)
        tap_bail("a locked filter: %s", strerror(errno));
    config = config_on(fd);
    for (int i = 0; i < 2; i++) {
        capture = capture_open("v0", &config);
        send_frames(sender, 0, 10, 300);
        send_frames(sender, 10, 10, 100);
        receive(capture, 10, SOON, &records);
        is_int(records.count, 10, "the parent's filter decides");
        is_int(records.count ? records.v[0].packet.caplen : 0, 50, "the parent's filter cuts");
        is_int(capture_stats(capture).truncated, 10, "which is counted");
        records_free(&records);
        capture_close(capture);
    }
    config.filter = only_large();
    open_fails("a filter over a locked one", "v0", &config, &locked);
    netring_filter_free(config.filter);
    is_int(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &nothing, sizeof nothing), -1,
           "the lock holds");
    is_unused(fd, "a filter over a locked one");
    close(fd);
}

static int filter_of_the_socket(int fd)
{
    socklen_t length = 0;

    return getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &length) == 0 ? (int)length : -1;
}

/* The parent's filter is not locked: it gives way to the worker's, is in force in a group and under
 * a snap length too, and is there again after each close and each open that failed. */
static void test_filter_comes_back(void)
{
    const struct failure absent = {
        NETRING_EINVAL, 0, "interface", {"is not the interface of the group's first member"}};
    struct netring_group_config group_config = NETRING_GROUP_CONFIG_INIT;
    struct sock_filter short_only[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 200, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 50),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {COUNT(short_only), short_only};
    struct netring_capture_config config, plain = small_config();
    struct netring_capture *capture, *first;
    struct netring_group *group;
    struct netring_error error;
    int fd = packet_socket(), rc;

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        tap_bail("a filter: %s", strerror(errno));
    config = config_on(fd);
    config.filter = only_large();
    capture = capture_open("v0", &config);
    send_frames(sender, 0, 10, 300);
    send_frames(sender, 10, 10, 100);
    await_seen(capture, 10);
    capture_close(capture);
    netring_filter_free(config.filter);
    config.filter = NULL;
    is_int(filter_of_the_socket(fd), COUNT(short_only), "the parent's filter is there again");

    for (uint32_t snap = 0; snap <= 40; snap += 40) {
        struct records records = {0, 0, NULL};

        config.snap_length = snap;
        capture = capture_open("v0", &config);
        send_frames(sender, 0, 10, 300);
        send_frames(sender, 10, 10, 100);
        receive(capture, 10, SOON, &records);
        is_int(capture_stats(capture).seen, 10, "snap length %u: the parent's filter decides",
               snap);
        is_int(records.count ? records.v[0].packet.caplen : 0, snap ? snap : 50,
               "snap length %u: the parent's filter cuts", snap);
        records_free(&records);
        capture_close(capture);
        is_int(filter_of_the_socket(fd), COUNT(short_only), "snap length %u: it is as it was",
               snap);
    }
    config.snap_length = 0;

    if (netring_group_new(&group_config, &group, NULL) != 0 ||
        netring_group_join(group, "v1", &plain, &first, NULL) != 0)
        tap_bail("a group");
    error_spoil(&error);
    errno = 0;
    rc = netring_group_join(group, "v0", &config, &capture, &error);
    is_failure(rc, errno, &error, &absent, "a join that fails");
    is_int(filter_of_the_socket(fd), COUNT(short_only), "a join that fails: the filter is there");
    capture_close(first);
    if (netring_group_join(group, "v0", &config, &capture, &error) != 0)
        tap_bail("netring_group_join: %s", error.message);
    send_frames(sender, 0, 10, 300);
    send_frames(sender, 10, 10, 100);
    await_seen(capture, 10);
    is_int(capture_stats(capture).seen, 10, "in a group: the parent's filter decides");
    is_int(filter_of_the_socket(fd), COUNT(short_only), "in a group: it is in force");
    capture_close(capture);
    netring_group_free(group);
    close(fd);
}

/* ---- errors ---- */

static void without_memberships(void *user)
{
    struct netring_capture_config *config = user;
    const struct refusal refusal = {
        SYS_setsockopt,
        ENOBUFS,
        2,
        {{.argument = 1, .mask = UINT32_MAX, .value = SOL_PACKET},
         {.argument = 2, .mask = UINT32_MAX, .value = PACKET_ADD_MEMBERSHIP}}};
    const struct failure promiscuous = {
        NETRING_ESOCKOPT, ENOBUFS, "PACKET_ADD_MEMBERSHIP (promiscuous)", {"was refused"}};

    refuse(&refusal);
    open_fails("a late failure", "v0", config, &promiscuous);
}

static void late_bind(void *user)
{
    const struct failure failure = {NETRING_EBIND, EPERM, "bind", {"could not be bound"}};
    const struct refusal refusal = {
        SYS_bind,
        EPERM,
        1,
        {{.argument = 2, .mask = UINT32_MAX, .value = sizeof(struct sockaddr_ll)}}};

    refuse(&refusal);
    open_fails("the last step", "v0", user, &failure);
}

static void test_errors(void)
{
    const struct failure closed = {NETRING_EINVAL, 0, "socket_fd", {"is not open"}};
    const struct failure negative = {NETRING_EINVAL, 0, "socket_fd", {"-1 is no descriptor"}};
    const struct failure unflagged = {
        NETRING_EINVAL, 0, "socket_fd", {"NETRING_CAPTURE_SOCKET_FD"}};
    const struct failure other = {NETRING_EINVAL, 0, "socket_fd", {"is no packet socket"}};
    const struct failure cooked = {NETRING_EINVAL, 0, "socket_fd", {"without link-layer headers"}};
    const struct failure bound = {NETRING_EINVAL, 0, "socket_fd", {"receives already"}};
    const struct failure ring = {NETRING_EINVAL, 0, "socket_fd", {"has a ring"}};
    const struct failure group = {NETRING_EINVAL, 0, "socket_fd", {"fanout group"}};
    const struct failure absent = {NETRING_ENODEV, ENODEV, "interface", {"interface not found"}};
    const struct failure memory = {NETRING_EMMAP, ENOMEM, "memory_limit", {"memory_limit"}};
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)net_index("v0")};
    struct netring_capture_config config = config_on(1000), second;
    struct netring_capture *capture;
    int fd, pipes[2];

    open_fails("a socket that is not open", "v0", &config, &closed);
    config.socket_fd = -1;
    open_fails("no socket at all", "v0", &config, &negative);
    config = small_config();
    config.socket_fd = sender;
    open_fails("a socket without its flag", "v0", &config, &unflagged);

    if (pipe(pipes) != 0)
        tap_bail("pipe");
    config = config_on(pipes[0]);
    open_fails("a pipe", "v0", &config, &other);
    close(pipes[0]);
    close(pipes[1]);
    config = config_on(fd = socket(AF_INET, SOCK_DGRAM, 0));
    open_fails("a UDP socket", "v0", &config, &other);
    close(fd);
    config = config_on(fd = socket(AF_PACKET, SOCK_DGRAM, 0));
    open_fails("a packet socket of another type", "v0", &config, &cooked);
    close(fd);
    config = config_on(fd = socket(AF_PACKET, SOCK_RAW, htons(3 /* ETH_P_ALL */)));
    open_fails("one that receives", "v0", &config, &bound);
    close(fd);
    config = config_on(fd = packet_socket());
    if (bind(fd, (struct sockaddr *)&to, sizeof to) != 0)
        tap_bail("bind");
    open_fails("one that is bound", "v0", &config, &bound);
    close(fd);

    config = config_on(fd = packet_socket());
    capture = capture_open("v0", &config);
    second = config;
    open_fails("one with a ring", "v0", &second, &ring);
    capture_close(capture);
    to.sll_protocol = htons(3);
    {
        int arg = 7 | PACKET_FANOUT_LB << 16;

        if (bind(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
            setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &arg, sizeof arg) != 0)
            tap_bail("PACKET_FANOUT: %s", strerror(errno));
    }
    open_fails("one in a group", "v0", &config, &group);
    close(fd);

    /* What fails leaves the socket as it was. */
    config = config_on(fd = packet_socket());
    open_fails("no such interface", "nosuch0", &config, &absent);
    config.memory_limit = 4096;
    open_fails("no memory", "v0", &config, &memory);
    config.memory_limit = 0;
    config.flags |= NETRING_CAPTURE_PROMISCUOUS;
    child_run("a late failure", without_memberships, &config);
    is_unused(fd, "a late failure");
    child_run("the last step", late_bind, &config);
    is_int(net_promiscuity("v0"), 0, "the last step: not promiscuous");
    is_unused(fd, "the last step");
    works(fd, true, "after failures");
    close(fd);
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("v0", "v1");
    net_await_carrier("v1");
    sender = net_sender("v1");
    test_close();
    test_filter_of_the_parent();
    test_filter_comes_back();
    test_errors();
    test_workers();
    close(sender);
    return tap_end();
}
