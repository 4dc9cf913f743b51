#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void must(bool done, const char *step)
{
    if (!done)
        tap_bail("%s: %s", step, strerror(errno));
}

/* ---- the namespace ---- */

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return done;
}

static void map_id(const char *path, unsigned id)
{
    char line[32];

    snprintf(line, sizeof line, "0 %u 1", id);
    must(write_file(path, line), path);
}

static void enter_as_user(void)
{
    unsigned uid = getuid(), gid = getgid();

    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        tap_skip_all("neither root nor allowed to create user namespaces: %s", strerror(errno));
    must(write_file("/proc/self/setgroups", "deny"), "/proc/self/setgroups");
    map_id("/proc/self/uid_map", uid);
    map_id("/proc/self/gid_map", gid);
}

static cpu_set_t cpus;

void net_one_cpu(void)
{
    cpu_set_t one;
    int cpu = sched_getcpu();

    must(sched_getaffinity(0, sizeof cpus, &cpus) == 0, "sched_getaffinity");
    CPU_ZERO(&one);
    CPU_SET(cpu < 0 ? 0 : cpu, &one);
    must(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

void net_all_cpus(void)
{
    must(sched_setaffinity(0, sizeof cpus, &cpus) == 0, "sched_setaffinity");
}

/* No traffic of the namespace's own. */
static void be_quiet(void)
{
    /* Absent without IPv6, which is just as well. */
    write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

void net_enter(void)
{
    if (unshare(CLONE_NEWNET) != 0)
        enter_as_user();
    be_quiet();
    net_link_up("lo", true);
}

/* ---- rtnetlink ---- */

struct request {
    struct nlmsghdr head;
    struct ifinfomsg link;
    char attributes[512];
};

static struct request request_new(uint16_t type, uint16_t flags, const char *name)
{
    struct request request;

    memset(&request, 0, sizeof request);
    request.head.nlmsg_len = NLMSG_LENGTH(sizeof request.link);
    request.head.nlmsg_type = type;
    request.head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    request.link.ifi_index = name ? (int)net_index(name) : 0;
    return request;
}

static struct rtattr *add(struct request *request, uint16_t type, const void *data, size_t length)
{
    struct rtattr *attribute =
        (struct rtattr *)(void *)((char *)request + NLMSG_ALIGN(request->head.nlmsg_len));

    must((char *)attribute + RTA_SPACE(length) <= (char *)(request + 1), "netlink request size");
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(length);
    if (length)
        memcpy(RTA_DATA(attribute), data, length);
    request->head.nlmsg_len = NLMSG_ALIGN(request->head.nlmsg_len) + (uint32_t)RTA_SPACE(length);
    return attribute;
}

static void add_name(struct request *request, const char *name)
{
    add(request, IFLA_IFNAME, name, strlen(name) + 1);
}

static void nest_end(struct request *request, struct rtattr *nest)
{
    nest->rta_len = (uint16_t)((char *)request + request->head.nlmsg_len - (char *)nest);
}

/* Sends a request and reads its one answer; the error in that, or 0. */
static int exchange(struct request *request, void *answer, size_t size, const char *step)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct nlmsghdr *head = answer;
    ssize_t got;

    must(fd >= 0, "socket(AF_NETLINK)");
    must(send(fd, request, request->head.nlmsg_len, 0) >= 0, step);
    got = recv(fd, answer, size, 0);
    close(fd);
    must(got > 0 && NLMSG_OK(head, (uint32_t)got), step);
    return head->nlmsg_type == NLMSG_ERROR ? -((struct nlmsgerr *)NLMSG_DATA(head))->error : 0;
}

static struct nlmsghdr *ask(struct request *request, void *answer, size_t size, const char *step)
{
    errno = exchange(request, answer, size, step);
    must(errno == 0, step);
    return answer;
}

static void change(struct request *request, const char *step)
{
    _Alignas(struct nlmsghdr) char answer[1024];

    request->head.nlmsg_flags |= NLM_F_ACK;
    ask(request, answer, sizeof answer, step);
}

static void add_queues(struct request *request, uint32_t queues)
{
    if (queues) {
        add(request, IFLA_NUM_TX_QUEUES, &queues, sizeof queues);
        add(request, IFLA_NUM_RX_QUEUES, &queues, sizeof queues);
    }
}

void net_veth(const char *one, const char *other)
{
    net_veth_queues(one, other, 0);
}

void net_veth_queues(const char *one, const char *other, uint32_t queues)
{
    struct request request = request_new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, NULL);
    struct rtattr *info, *data, *peer;

    add_name(&request, one);
    add_queues(&request, queues);
    info = add(&request, IFLA_LINKINFO, NULL, 0);
    add(&request, IFLA_INFO_KIND, "veth", 4);
    data = add(&request, IFLA_INFO_DATA, NULL, 0);
    peer = add(&request, VETH_INFO_PEER, &request.link, sizeof request.link);
    add_name(&request, other);
    add_queues(&request, queues);
    nest_end(&request, peer);
    nest_end(&request, data);
    nest_end(&request, info);
    change(&request, "creating a veth pair");
    net_link_up(one, true);
    net_link_up(other, true);
    /* Until the kernel's worker has seen the carrier, what is sent is dropped. */
    net_await_carrier(one);
    net_await_carrier(other);
}

bool net_link_new(const char *name, const char *kind, const char *lower)
{
    _Alignas(struct nlmsghdr) char answer[1024];
    struct request request = request_new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, NULL);
    uint32_t link = lower ? net_index(lower) : 0;
    struct rtattr *info;
    int error;

    add_name(&request, name);
    if (lower)
        add(&request, IFLA_LINK, &link, sizeof link);
    info = add(&request, IFLA_LINKINFO, NULL, 0);
    add(&request, IFLA_INFO_KIND, kind, strlen(kind));
    nest_end(&request, info);
    error = exchange(&request, answer, sizeof answer, "creating a link");
    if (error == EOPNOTSUPP)
        return false;
    errno = error;
    must(error == 0, kind);
    net_link_up(name, true);
    return true;
}

void net_link_master(const char *name, const char *bridge)
{
    struct request request = request_new(RTM_NEWLINK, 0, name);
    uint32_t master = net_index(bridge);

    add(&request, IFLA_MASTER, &master, sizeof master);
    change(&request, "adding a port to a bridge");
}

int net_tun(const char *name, int flags)
{
    struct ifreq request;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    request.ifr_flags = (short)(flags | IFF_NO_PI);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) != 0) {
        close(fd);
        fd = -1;
    }
    if (fd >= 0)
        net_link_up(name, true);
    return fd;
}

void net_ipv4(const char *name, const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct ifreq request;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    must(fd >= 0 && inet_pton(AF_INET, address, &in.sin_addr) == 1, address);
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    memcpy(&request.ifr_addr, &in, sizeof in);
    must(ioctl(fd, SIOCSIFADDR, &request) == 0, "SIOCSIFADDR");
    close(fd);
}

void net_link_up(const char *name, bool up)
{
    struct request request = request_new(RTM_NEWLINK, 0, name);

    request.link.ifi_change = IFF_UP;
    request.link.ifi_flags = up ? IFF_UP : 0;
    change(&request, "setting a link up or down");
}

void net_link_mtu(const char *name, uint32_t mtu)
{
    struct request request = request_new(RTM_NEWLINK, 0, name);

    add(&request, IFLA_MTU, &mtu, sizeof mtu);
    change(&request, "setting an MTU");
}

void net_link_rename(const char *name, const char *to)
{
    struct request request = request_new(RTM_NEWLINK, 0, name);

    add_name(&request, to);
    change(&request, "renaming a link");
}

void net_link_alternative(const char *name, const char *also)
{
    enum { NEWLINKPROP = 108, PROP_LIST = 52, ALT_IFNAME = 53 }; /* not in older headers */
    struct request request = request_new(NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL, name);
    struct rtattr *list = add(&request, PROP_LIST | NLA_F_NESTED, NULL, 0);

    request.head.nlmsg_flags |= NLM_F_APPEND;
    add(&request, ALT_IFNAME, also, strlen(also) + 1);
    nest_end(&request, list);
    change(&request, "giving a link one more name");
}

void net_link_move(const char *name, int namespace)
{
    struct request request = request_new(RTM_NEWLINK, 0, name);

    add(&request, IFLA_NET_NS_FD, &namespace, sizeof namespace);
    change(&request, "moving a link to another namespace");
}

int net_namespace_new(void)
{
    int own = net_namespace(), other;

    /* Only this thread moves, and comes back. */
    must(unshare(CLONE_NEWNET) == 0, "unshare(CLONE_NEWNET)");
    other = net_namespace();
    be_quiet();
    net_namespace_enter(own);
    close(own);
    return other;
}

int net_namespace(void)
{
    int namespace = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

    must(namespace >= 0, "/proc/thread-self/ns/net");
    return namespace;
}

void net_namespace_enter(int namespace)
{
    must(setns(namespace, CLONE_NEWNET) == 0, "setns");
}

void net_link_delete(const char *name)
{
    struct request request = request_new(RTM_DELLINK, 0, name);

    change(&request, "deleting a link");
}

/* Copies one attribute of a link, as much as this kernel knows of it; false where it does not send
 * it at all. */
static bool link_attribute(const char *name, uint16_t type, void *out, size_t size)
{
    _Alignas(struct nlmsghdr) char answer[16384];
    struct request request = request_new(RTM_GETLINK, 0, name);
    struct nlmsghdr *head = ask(&request, answer, sizeof answer, "reading a link");
    struct rtattr *attribute = IFLA_RTA(NLMSG_DATA(head));
    int left = (int)IFLA_PAYLOAD(head);

    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
        size_t known = RTA_PAYLOAD(attribute);

        if (attribute->rta_type != type)
            continue;
        memset(out, 0, size);
        memcpy(out, RTA_DATA(attribute), known < size ? known : size);
        return true;
    }
    return false;
}

uint32_t net_index(const char *name)
{
    uint32_t index = if_nametoindex(name);

    must(index != 0, name);
    return index;
}

void net_address(const char *name, uint8_t address[6])
{
    must(link_attribute(name, IFLA_ADDRESS, address, 6), "link address");
}

struct rtnl_link_stats64 net_counters(const char *name)
{
    struct rtnl_link_stats64 counters;

    must(link_attribute(name, IFLA_STATS64, &counters, sizeof counters), "link counters");
    return counters;
}

static int link_number(const char *name, uint16_t type)
{
    uint32_t number;

    return link_attribute(name, type, &number, sizeof number) ? (int)number : -1;
}

static void await_carrier(const char *name, bool carrier)
{
    uint8_t state = 0;

    for (int i = 0; i < 500; i++) {
        must(link_attribute(name, IFLA_OPERSTATE, &state, sizeof state), "link state");
        if ((state == 6 /* IF_OPER_UP */) == carrier)
            return;
        usleep(10000);
    }
    tap_bail("%s has %s carrier (state %u)", name, carrier ? "no" : "a", state);
}

void net_await_carrier(const char *name)
{
    await_carrier(name, true);
}

void net_await_no_carrier(const char *name)
{
    await_carrier(name, false);
}

uint32_t net_mtu(const char *name)
{
    uint32_t mtu;

    must(link_attribute(name, IFLA_MTU, &mtu, sizeof mtu), "MTU");
    return mtu;
}

uint32_t net_xdp_program(const char *name, uint8_t *attached)
{
    _Alignas(struct rtattr) char nest[64] = {0};
    struct rtattr *attribute = (struct rtattr *)(void *)nest;
    int left = sizeof nest;
    uint32_t id = 0;

    *attached = XDP_ATTACHED_NONE;
    must(link_attribute(name, IFLA_XDP, nest, sizeof nest), "the XDP program of a link");
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
        if (attribute->rta_type == IFLA_XDP_ATTACHED)
            memcpy(attached, RTA_DATA(attribute), sizeof *attached);
        if (attribute->rta_type == IFLA_XDP_PROG_ID)
            memcpy(&id, RTA_DATA(attribute), sizeof id);
    }
    return id;
}

/* A request about the root queue of a link. */
static struct request queue_request(uint16_t type, const char *name)
{
    struct tcmsg queue = {.tcm_ifindex = (int)net_index(name), .tcm_parent = TC_H_ROOT};
    struct request request;

    memset(&request, 0, sizeof request);
    request.head.nlmsg_len = NLMSG_LENGTH(sizeof queue);
    request.head.nlmsg_type = type;
    request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE;
    memcpy(NLMSG_DATA(&request.head), &queue, sizeof queue);
    return request;
}

void net_queue_fifo(const char *name, uint32_t packets)
{
    struct request request = queue_request(RTM_NEWQDISC, name);
    struct tc_fifo_qopt fifo = {packets};

    add(&request, TCA_KIND, "pfifo", sizeof "pfifo");
    add(&request, TCA_OPTIONS, &fifo, sizeof fifo);
    change(&request, "pfifo");
}

void net_queue_slow(const char *name, uint32_t rate, uint32_t bytes)
{
    struct request request = queue_request(RTM_NEWQDISC, name);
    struct tc_tbf_qopt bucket;
    uint32_t burst = 2000; /* no more than a frame at once */
    struct rtattr *options;

    memset(&bucket, 0, sizeof bucket);
    bucket.rate.rate = rate;
    bucket.rate.linklayer = TC_LINKLAYER_ETHERNET;
    bucket.limit = bytes;
    add(&request, TCA_KIND, "tbf", sizeof "tbf");
    options = add(&request, TCA_OPTIONS, NULL, 0);
    add(&request, TCA_TBF_PARMS, &bucket, sizeof bucket);
    add(&request, TCA_TBF_BURST, &burst, sizeof burst);
    nest_end(&request, options);
    change(&request, "tbf");
}

void net_queue_none(const char *name)
{
    struct request request = queue_request(RTM_DELQDISC, name);

    request.head.nlmsg_flags = NLM_F_REQUEST;
    change(&request, "taking a queue away");
}

int net_promiscuity(const char *name)
{
    return link_number(name, IFLA_PROMISCUITY);
}

int net_allmulti(const char *name)
{
    enum { ALLMULTI = 61 }; /* IFLA_ALLMULTI, Linux 6.0; not in older headers */

    return link_number(name, ALLMULTI);
}

uint64_t net_softnet_dropped(void)
{
    FILE *file = fopen("/proc/net/softnet_stat", "re");
    unsigned processed, dropped;
    uint64_t sum = 0;

    must(file != NULL, "/proc/net/softnet_stat");
    while (fscanf(file, "%x %x %*[^\n]", &processed, &dropped) == 2)
        sum += dropped;
    fclose(file);
    return sum;
}

/* ---- senders ---- */

int net_sender(const char *name)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)net_index(name)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    must(fd >= 0, "socket(AF_PACKET)");
    must(bind(fd, (struct sockaddr *)&to, sizeof to) == 0, "bind(AF_PACKET)");
    return fd;
}

void net_send(int sender, const void *frame, size_t length)
{
    must(send(sender, frame, length, 0) == (ssize_t)length, "send(AF_PACKET)");
}

size_t net_flood(int sender, const void *frame, size_t length, size_t count)
{
    enum { BATCH = 64 };
    struct iovec data = {.iov_base = (void *)(uintptr_t)frame, .iov_len = length};
    struct mmsghdr messages[BATCH];
    size_t taken = 0, tried = 0;

    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_iov = &data;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    while (tried < count) {
        unsigned now = count - tried < BATCH ? (unsigned)(count - tried) : BATCH;
        int sent = sendmmsg(sender, messages, now, 0);

        must(sent > 0 || errno == ENOBUFS, "sendmmsg(AF_PACKET)");
        taken += sent > 0 ? (size_t)sent : 0;
        tried += sent > 0 ? (size_t)sent : 1; /* the first one was refused */
    }
    return taken;
}

struct net_udp net_udp_open(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    struct net_udp udp;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    udp.from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    udp.to = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(udp.from >= 0 && udp.to >= 0, "socket(AF_INET)");
    must(bind(udp.to, (struct sockaddr *)&address, sizeof address) == 0, "bind(AF_INET)");
    must(getsockname(udp.to, (struct sockaddr *)&address, &length) == 0, "getsockname");
    must(connect(udp.from, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    return udp;
}

void net_udp_send(const struct net_udp *udp, const void *data, size_t length)
{
    must(send(udp->from, data, length, 0) == (ssize_t)length, "send(AF_INET)");
}

void net_udp_close(const struct net_udp *udp)
{
    close(udp->from);
    close(udp->to);
}
