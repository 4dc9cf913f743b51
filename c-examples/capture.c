/* Shows the packets of an interface, one readable line each, or writes them to savefiles, and says
 * what became of every packet at the end. Everything a capture tool needs from the library:
 * configuration, filter, the block loop, the inline walk, savefiles with rotation, a clean end on
 * Ctrl-C, counters, errors that say what to do.
 *
 *   capture -i eth0 -c 100
 *   capture -i eth0 -w eth0.pcapng --rotate-size 100M --max-files 10
 *   capture -i eth0 udp port 53 and not host 10.0.0.1
 *   capture --netns blue -i eth0         (in another network namespace)
 *   capture --backend xdp -i eth0 udp port 53   (AF_XDP: these packets do not reach the host)
 *   capture --demo                       (lo, with traffic it makes itself; needs no privilege)
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage, 77 the demo is not possible
 * here.
 */
#define _GNU_SOURCE /* unshare, getopt_long */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>
#include <netring_inline.h>

enum { EXIT_USAGE = 2, EXIT_SKIP = 77 };

static const char help[] =
    "usage: capture [options] [FILTER]\n"
    "Shows the packets of an interface, one line each, until Ctrl-C.\n"
    "\n"
    "  -i, --interface NAME  capture here (default: any, which is every interface)\n"
    "  -c, --count N         end after N packets\n"
    "  -s, --snaplen BYTES   keep only so much of a packet (default: all)\n"
    "  -p, --promiscuous     also packets for other machines (not with any)\n"
    "  -d, --direction WHICH in (what comes), out (what this host sends), both (default); the\n"
    "                        kernel leaves out the rest\n"
    "      --immediate       each packet at once, not in blocks: for few packets, shown soon\n"
    "      --backend WHICH   packet (default): copies of what the host handles. xdp: AF_XDP takes\n"
    "                        the packets that FILTER accepts away from the host, in the driver.\n"
    "                        auto: xdp where the driver can and nothing speaks against it\n"
    "      --take-all        with xdp or auto, without FILTER: every packet, your SSH session too\n"
    "      --netns NAMESPACE in another network namespace: a name (ip netns), a path, or the\n"
    "                        number of a process in it\n"
    "      --profile NAME    default, high-throughput, low-latency, low-memory, jumbo\n"
    "  -f, --filter-file F   read the filter from a file (-: standard input)\n"
    "  -w, --write FILE      write the packets to FILE and show none (-: standard output):\n"
    "                        pcap if its name ends in .pcap, else pcapng\n"
    "      --rotate-size N   begin another file before one is larger; N bytes, or 100k, 100M, 10G\n"
    "      --rotate-time N   begin another file after N seconds\n"
    "      --max-files N     keep only the last N files\n"
    "      --demo            capture on lo traffic made by the program itself; without the\n"
    "                        privilege to capture, in a network namespace of its own\n"
    "  -h, --help            this text\n"
    "\n"
    "FILTER is an expression (pcap-filter(7)), which means the packet on the wire, VLAN tag\n"
    "included; or a program as tcpdump -ddd prints it, whose lines may be joined by commas:\n"
    "  capture -i eth0 tcp port 80 and not host 10.0.0.1\n"
    "  capture -i eth0 '4,40 0 0 12,21 0 1 2054,6 0 0 262144,6 0 0 0'          (only ARP)\n"
    "\n"
    "Rotated files are named FILE_00001_20261122202701.pcapng and so on: number and time (UTC).\n"
    "pcapng files end with the counts of dropped packets; pcap has no place for them.\n"
    "\n"
    "A line: time, interface and direction, bytes captured/on the wire, VLAN tags, what it is.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 --demo is not possible here.\n";

enum { PACKET, XDP, AUTO };

struct options {
    int backend; /* PACKET, XDP, AUTO */
    bool take_all;
    const char *interface;
    char **filter_words; /* NULL: none */
    const char *filter_file;
    const char *write;    /* NULL: packets are shown */
    uint64_t rotate_size; /* bytes; 0: never */
    uint64_t rotate_time; /* seconds; 0: never */
    uint64_t max_files;   /* 0: all */
    uint64_t count;       /* 0: no end */
    uint32_t snap_length;
    uint32_t profile;
    uint64_t flags;    /* NETRING_CAPTURE_* */
    const char *netns; /* NULL: here */
    bool promiscuous;
    bool demo;
};

/* Where packets come from: the ring of a capture, or the sockets of an xdp. Their calls are alike,
 * and a block is a block: all that follows is the same for both. */
struct backend {
    int (*next_block)(int timeout_ms, struct netring_block **out);
    int (*stats)(struct netring_stats *out);
    int (*last_error)(struct netring_error *out);
    int (*add_to)(struct netring_writer *writer, struct netring_error *err);
    int (*stop)(void); /* safe in a signal handler */
    int (*close)(void);
};

static const struct backend *backend;
static volatile sig_atomic_t signals;

/* Once: shows or writes what has been received, and ends. Twice: only counts the rest. Thrice:
 * kills. */
static void on_signal(int number)
{
    if (signals++ == 0)
        backend->stop(); /* next_block ends when all is handed out */
    else
        signal(number, SIG_DFL);
}

/* ---- one packet, one line -------------------------------------------------------------------- */

/* The bytes still to decode. Whatever reads them asks for their number first. */
struct bytes {
    const uint8_t *at;
    size_t left;
};

static bool skip(struct bytes *b, size_t n)
{
    if (b->left < n)
        return false;
    b->at += n;
    b->left -= n;
    return true;
}

static unsigned be16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static void print_time(uint64_t ns)
{
    static time_t shown = -1;
    static char text[16];
    const time_t second = (time_t)(ns / 1000000000);

    if (second != shown) {
        struct tm tm;
        localtime_r(&second, &tm);
        strftime(text, sizeof text, "%H:%M:%S", &tm);
        shown = second;
    }
    printf("%s.%09u", text, (unsigned)(ns % 1000000000));
}

static bool elsewhere; /* in another network namespace, whose names are not ours */
static struct {
    uint32_t index;
    char name[IF_NAMESIZE];
} opened; /* the interface; index 0: all */

static const char *interface_name(uint32_t index)
{
    static uint32_t known;
    static char name[IF_NAMESIZE];

    if (index != known || name[0] == '\0') {
        if (elsewhere && opened.index == index)
            memcpy(name, opened.name, sizeof name);
        else if (elsewhere || if_indextoname(index, name) == NULL)
            snprintf(name, sizeof name, "if%" PRIu32, index);
        known = index;
    }
    return name;
}

static const char *direction_name(uint8_t direction)
{
    switch (direction) {
    case NETRING_DIRECTION_HOST:
        return "in";
    case NETRING_DIRECTION_BROADCAST:
        return "bcast";
    case NETRING_DIRECTION_MULTICAST:
        return "mcast";
    case NETRING_DIRECTION_OTHERHOST:
        return "other";
    case NETRING_DIRECTION_OUTGOING:
        return "out";
    default:
        return "?";
    }
}

static void print_tag(unsigned tci, unsigned tpid)
{
    printf("vlan %u prio %u%s tpid 0x%04x, ", tci & 0xfff, tci >> 13, tci & 0x1000 ? " dei" : "",
           tpid);
}

static void print_mac(const uint8_t *mac)
{
    printf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/* "10.0.0.1", "10.0.0.1:53", "fe80::1", "[fe80::1]:53" */
static void print_address(int family, const uint8_t *address, const uint8_t *port)
{
    char text[INET6_ADDRSTRLEN];

    if (inet_ntop(family, address, text, sizeof text) == NULL)
        text[0] = '\0';
    if (port == NULL)
        printf("%s", text);
    else
        printf(family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, be16(port));
}

static void print_addresses(int family, const uint8_t *source, const uint8_t *destination,
                            const uint8_t *ports)
{
    print_address(family, source, ports);
    printf(" > ");
    print_address(family, destination, ports == NULL ? NULL : ports + 2);
}

struct name {
    unsigned number;
    const char *text;
};

/* NULL: none of these. */
static const char *name_of(const struct name *names, size_t count, unsigned number)
{
    for (size_t i = 0; i < count; i++)
        if (names[i].number == number)
            return names[i].text;
    return NULL;
}

#define NAME_OF(names, number) name_of(names, sizeof(names) / sizeof *(names), number)

static void print_ip_protocol(unsigned protocol)
{
    static const struct name names[] = {
        {1, "ICMP"},         {2, "IGMP"},  {4, "IPv4 inside"}, {6, "TCP"},    {17, "UDP"},
        {41, "IPv6 inside"}, {47, "GRE"},  {50, "ESP"},        {51, "AH"},    {58, "ICMPv6"},
        {88, "EIGRP"},       {89, "OSPF"}, {103, "PIM"},       {112, "VRRP"}, {132, "SCTP"}};
    const char *name = NAME_OF(names, protocol);

    if (name != NULL)
        printf("%s", name);
    else
        printf("IP protocol %u", protocol);
}

static void print_icmp(const struct bytes *b)
{
    static const struct name names[] = {{0, "echo reply"},
                                        {3, "unreachable"},
                                        {5, "redirect"},
                                        {8, "echo request"},
                                        {11, "time exceeded"}};
    if (b->left < 8) {
        printf("ICMP, cut");
        return;
    }
    const unsigned type = b->at[0];
    const char *name = NAME_OF(names, type);
    if (name != NULL)
        printf("ICMP %s", name);
    else
        printf("ICMP type %u", type);
    if (type == 0 || type == 8)
        printf(" id %u seq %u", be16(b->at + 4), be16(b->at + 6));
    else
        printf(" code %u", b->at[1]);
}

static void print_icmp6(const struct bytes *b)
{
    static const struct name names[] = {{1, "unreachable"},
                                        {2, "packet too big"},
                                        {3, "time exceeded"},
                                        {128, "echo request"},
                                        {129, "echo reply"},
                                        {130, "listener query"},
                                        {131, "listener report"},
                                        {133, "router solicitation"},
                                        {134, "router advertisement"},
                                        {135, "neighbour solicitation"},
                                        {136, "neighbour advertisement"},
                                        {143, "listener report v2"}};

    if (b->left < 8) {
        printf("ICMPv6, cut");
        return;
    }
    const unsigned type = b->at[0];
    const char *name = NAME_OF(names, type);
    if (name != NULL)
        printf("ICMPv6 %s", name);
    else
        printf("ICMPv6 type %u", type);
    if (type == 128 || type == 129) {
        printf(" id %u seq %u", be16(b->at + 4), be16(b->at + 6));
    } else if ((type == 135 || type == 136) && b->left >= 24) {
        printf(" ");
        print_address(AF_INET6, b->at + 8, NULL);
    } else if (type < 128) {
        printf(" code %u", b->at[1]);
    }
}

static void print_tcp(const struct bytes *b, size_t length)
{
    static const char letters[] = "FSRP.UEW";
    const size_t header = (size_t)(b->at[12] >> 4) * 4;
    char flags[sizeof letters];
    size_t n = 0;

    for (size_t i = 0; i < sizeof letters - 1; i++)
        if (b->at[13] & 1u << i)
            flags[n++] = letters[i];
    flags[n] = '\0';
    printf("TCP [%s]", n == 0 ? "none" : flags);
    if (length >= header)
        printf(" %zu bytes", length - header);
}

/* What follows the IP header; `length` as the IP header tells, which may be more than is here. */
static void print_transport(int family, const uint8_t *source, const uint8_t *destination,
                            unsigned protocol, struct bytes b, size_t length)
{
    const bool has_ports =
        protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;

    print_addresses(family, source, destination, has_ports && b.left >= 4 ? b.at : NULL);
    printf(" ");
    if (protocol == IPPROTO_TCP && b.left >= 14)
        print_tcp(&b, length);
    else if (protocol == IPPROTO_TCP)
        printf("TCP, cut");
    else if (protocol == IPPROTO_UDP && length >= 8)
        printf("UDP %zu bytes", length - 8);
    else if (protocol == IPPROTO_UDP)
        printf("UDP, cut");
    else if (protocol == IPPROTO_ICMP && family == AF_INET)
        print_icmp(&b);
    else if (protocol == IPPROTO_ICMPV6 && family == AF_INET6)
        print_icmp6(&b);
    else {
        print_ip_protocol(protocol);
        printf(" %zu bytes", length);
    }
}

static void print_ipv4(struct bytes b)
{
    printf("IPv4 ");
    if (b.left < 20) {
        printf("header, cut");
        return;
    }
    const uint8_t *ip = b.at;
    const size_t header = (size_t)(ip[0] & 0xf) * 4;
    size_t total = be16(ip + 2);
    const unsigned offset = (be16(ip + 6) & 0x1fff) * 8;

    if (total == 0) /* segmentation offload: the device fills it in */
        total = b.left;
    if (ip[0] >> 4 != 4 || header < 20 || total < header) {
        printf("malformed header");
        return;
    }
    if (b.left > total) /* Ethernet padding */
        b.left = total;
    if (offset != 0) {
        print_addresses(AF_INET, ip + 12, ip + 16, NULL);
        printf(" ");
        print_ip_protocol(ip[9]);
        printf(" fragment at %u, %zu bytes", offset, total - header);
    } else if (!skip(&b, header)) {
        print_addresses(AF_INET, ip + 12, ip + 16, NULL);
        printf(" ");
        print_ip_protocol(ip[9]);
        printf(", cut");
    } else {
        print_transport(AF_INET, ip + 12, ip + 16, ip[9], b, total - header);
        if (be16(ip + 6) & 0x2000)
            printf(" (first fragment)");
    }
}

static void print_ipv6(struct bytes b)
{
    printf("IPv6 ");
    if (b.left < 40) {
        printf("header, cut");
        return;
    }
    const uint8_t *ip = b.at;
    size_t length = be16(ip + 4);
    unsigned next = ip[6];

    if (ip[0] >> 4 != 6) {
        printf("malformed header");
        return;
    }
    skip(&b, 40);
    if (length == 0)
        length = b.left;
    if (b.left > length)
        b.left = length;
    /* Extension headers: hop-by-hop, routing, destination, fragment. */
    while ((next == 0 || next == 43 || next == 60 || next == 44) && b.left >= 8) {
        const size_t size = next == 44 ? 8 : ((size_t)b.at[1] + 1) * 8;
        const unsigned offset = next == 44 ? be16(b.at + 2) & 0xfff8 : 0;

        if (length < size)
            break;
        next = b.at[0];
        if (offset != 0) {
            print_addresses(AF_INET6, ip + 8, ip + 24, NULL);
            printf(" ");
            print_ip_protocol(next);
            printf(" fragment at %u, %zu bytes", offset, length - size);
            return;
        }
        length -= size;
        if (!skip(&b, size))
            b.left = 0;
    }
    print_transport(AF_INET6, ip + 8, ip + 24, next, b, length);
}

static void print_arp(struct bytes b)
{
    if (b.left < 28 || be16(b.at) != 1 || be16(b.at + 2) != 0x0800) {
        printf("ARP, not of IPv4 over Ethernet or cut");
        return;
    }
    const unsigned operation = be16(b.at + 6);
    if (operation == 1) {
        printf("ARP who has ");
        print_address(AF_INET, b.at + 24, NULL);
        printf("? tell ");
        print_address(AF_INET, b.at + 14, NULL);
    } else if (operation == 2) {
        printf("ARP ");
        print_address(AF_INET, b.at + 14, NULL);
        printf(" is at ");
        print_mac(b.at + 8);
    } else {
        printf("ARP operation %u", operation);
    }
}

/* A network packet by its EtherType; false: not one that is decoded here. */
static bool print_network(unsigned protocol, struct bytes b)
{
    if (protocol == 0x0800)
        print_ipv4(b);
    else if (protocol == 0x86dd)
        print_ipv6(b);
    else if (protocol == 0x0806)
        print_arp(b);
    else
        return false;
    return true;
}

static void print_ethertype(unsigned protocol)
{
    static const struct name names[] = {{0x8035, "RARP"},
                                        {0x8809, "slow protocols (LACP)"},
                                        {0x8847, "MPLS"},
                                        {0x8848, "MPLS multicast"},
                                        {0x8863, "PPPoE discovery"},
                                        {0x8864, "PPPoE"},
                                        {0x888e, "EAPOL"},
                                        {0x88cc, "LLDP"},
                                        {0x88e5, "MACsec"},
                                        {0x88f7, "PTP"},
                                        {0x8906, "FCoE"},
                                        {0x9000, "loopback test"}};
    const char *name = NAME_OF(names, protocol);

    if (name != NULL)
        printf("%s", name);
    else
        printf("ethertype 0x%04x", protocol);
}

static void print_ethernet(struct bytes b)
{
    const uint8_t *frame = b.at;

    if (!skip(&b, 14)) {
        printf("Ethernet header, cut");
        return;
    }
    unsigned protocol = be16(frame + 12);
    /* Tags that are still in the frame: sent by this machine, or the inner one of two. */
    while ((protocol == 0x8100 || protocol == 0x88a8 || protocol == 0x9100) && b.left >= 4) {
        print_tag(be16(b.at), protocol);
        protocol = be16(b.at + 2);
        skip(&b, 4);
    }
    if (print_network(protocol, b))
        return;
    print_mac(frame + 6);
    printf(" > ");
    print_mac(frame);
    printf(" ");
    if (protocol < 0x0600)
        printf("802.3, %u bytes", protocol);
    else
        print_ethertype(protocol);
}

static void print_packet(const struct netring_packet *p)
{
    const struct bytes all = {p->data, p->caplen};
    struct bytes network = all;

    print_time(p->time_ns);
    printf(" %s/%s %" PRIu32 "/%" PRIu32 " ", interface_name(p->ifindex),
           direction_name(p->direction), p->caplen, p->len);
    /* The kernel takes the outer tag out of a received frame; 0 is a valid (priority) tag. */
    if (p->status & NETRING_PACKET_VLAN)
        print_tag(p->vlan_tci, p->status & NETRING_PACKET_VLAN_TPID ? p->vlan_tpid : 0x8100);
    if (p->link_type == 1)
        print_ethernet(all);
    else if (!(p->status & NETRING_PACKET_NET_OFFSET) || !skip(&network, p->net_offset) ||
             !print_network(p->protocol, network))
        printf("link type %u, protocol 0x%04x", p->link_type, p->protocol);
    printf(p->status & NETRING_PACKET_TRUNCATED ? ", truncated\n" : "\n");
}

/* ---- the live line --------------------------------------------------------------------------- */

/* One line on standard error below the packets, when both go to a terminal. */
static bool live;

static void live_clear(void)
{
    if (live)
        fputs("\r\x1b[K", stderr);
}

static void live_draw(uint64_t shown)
{
    static struct netring_stats before;
    static char text[128];
    struct netring_stats now, since;
    struct winsize window;

    if (!live)
        return;
    /* A new figure twice a second, the old one redrawn whenever packets were printed. */
    if (backend->stats(&now) == 0 &&
        (text[0] == '\0' || now.time_ns - before.time_ns >= 500000000)) {
        double rate = 0;
        if (before.time_ns != 0 && netring_stats_since(&now, &before, &since, sizeof since) == 0 &&
            since.time_ns != 0)
            rate = (double)since.delivered * 1e9 / (double)since.time_ns;
        snprintf(text, sizeof text,
                 "%" PRIu64 " packets, %.0f a second, %" PRIu64 " dropped; Ctrl-C ends", shown,
                 rate, now.dropped);
        before = now;
    }
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) < 0 || window.ws_col < 2)
        window.ws_col = 80;
    fprintf(stderr, "\r\x1b[K%.*s", (int)window.ws_col - 1, text);
}

/* ---- the end --------------------------------------------------------------------------------- */

static bool adds_up(const struct netring_stats *s)
{
    return s->seen == s->received + s->dropped &&
           s->received == s->delivered + s->looped + s->filtered_late + s->pending;
}

/* What became of every packet. Returns false, and says so, when the numbers do not add up. */
static bool summary(const char *done, uint64_t shown, uint64_t walked)
{
    struct netring_stats s;
    int rc = backend->stats(&s);

    /* The kernel counts a packet a moment after it has put it into the ring: while more arrive, a
     * reading may meet one in between. */
    for (int tries = 0; rc >= 0 && !adds_up(&s) && tries < 100; tries++)
        rc = backend->stats(&s);
    if (rc < 0) {
        fprintf(stderr, "capture: no counters: %s\n", netring_strerror(rc));
        return false;
    }
    fprintf(stderr,
            "%" PRIu64 " packets %s\n"
            "%" PRIu64 " seen by the kernel = %" PRIu64 " received + %" PRIu64
            " dropped (ring full)\n",
            shown, done, s.seen, s.received, s.dropped);
    fprintf(stderr,
            "%" PRIu64 " received = %" PRIu64 " delivered + %" PRIu64
            " second copies on lo left out + %" PRIu64 " filtered late + %" PRIu64
            " still in the ring\n",
            s.received, s.delivered, s.looped, s.filtered_late, s.pending);
    if (shown != walked)
        fprintf(stderr, "%" PRIu64 " of the delivered came after the last one %s\n", walked - shown,
                done);
    if (s.truncated != 0)
        fprintf(stderr, "%" PRIu64 " truncated\n", s.truncated);
    if (s.sequence_gaps != 0)
        fprintf(stderr, "%" PRIu64 " gaps in the block sequence\n", s.sequence_gaps);
    if ((s.valid & NETRING_STATS_INTERFACE) &&
        s.interface_missed + s.interface_dropped + s.interface_fifo != 0)
        fprintf(stderr,
                "lost before the kernel saw them: %" PRIu64 " missed, %" PRIu64 " dropped, %" PRIu64
                " overrun by the interface\n",
                s.interface_missed, s.interface_dropped, s.interface_fifo);
    if ((s.valid & NETRING_STATS_SOFTNET) && s.softnet_dropped != 0)
        fprintf(stderr, "lost on the way (softnet backlog, whole machine): %" PRIu64 "\n",
                s.softnet_dropped);

    if (adds_up(&s) && s.delivered == walked)
        return true;
    fprintf(stderr, "capture: these numbers do not add up (%" PRIu64 " packets walked)\n", walked);
    return false;
}

/* ---- the demo's traffic ---------------------------------------------------------------------- */

static bool may_capture(void)
{
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    const bool may = fd >= 0 || (errno != EPERM && errno != EACCES);

    if (fd >= 0)
        close(fd);
    return may;
}

static int lo_up(void)
{
    struct ifreq request;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = -1;

    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags |= IFF_UP;
        rc = ioctl(fd, SIOCSIFFLAGS, &request);
        if (rc < 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0 && request.ifr_flags & IFF_UP)
            rc = 0;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

/* Makes capturing on lo possible: as we are, or in a user and network namespace of our own. This
 * has to be done before the process has a second thread. */
static bool demo_prepare(void)
{
    char path[512];
    const char *why = NULL;

    if (!may_capture()) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
            why = errno == ENOSPC ? "user.max_user_namespaces allows none" : strerror(errno);
        else if (!may_capture())
            why = "capabilities are withheld in it";
        else
            fprintf(stderr, "no privilege to capture: showing a network namespace of our own\n");
    }
    if (why == NULL && lo_up() < 0) {
        fprintf(stderr, "capture: lo is down and cannot be brought up: %s\n", strerror(errno));
        return false;
    }
    if (why == NULL)
        return true;
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n < 0 ? 0 : n] = '\0';
    fprintf(stderr,
            "capture: no privilege to capture, and no network namespace of our own: %s\n"
            "Run it as root, or grant it CAP_NET_RAW:\n"
            "  sudo setcap cap_net_raw+ep %s\n",
            why, n < 0 ? "build/examples/capture" : path);
    return false;
}

/* A socket of `type` bound to a free port of the loopback address; its address in *address. */
static int loopback_socket(int family, int type, struct sockaddr_storage *address, socklen_t *size)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    const int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memset(address, 0, sizeof *address);
    if (family == AF_INET) {
        v4->sin_family = AF_INET;
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        *size = sizeof *v4;
    } else {
        v6->sin6_family = AF_INET6;
        v6->sin6_addr = in6addr_loopback;
        *size = sizeof *v6;
    }
    if (fd >= 0 && (bind(fd, (struct sockaddr *)address, *size) < 0 ||
                    getsockname(fd, (struct sockaddr *)address, size) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void send_udp(int family, unsigned round)
{
    static const unsigned sizes[] = {12, 96, 512, 1400};
    static const char payload[1400] = "netring";
    struct sockaddr_storage to;
    socklen_t size;
    const int receiver = loopback_socket(family, SOCK_DGRAM, &to, &size);
    const int sender = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (receiver >= 0 && sender >= 0) /* nobody to blame when it fails: it is a demo */
        (void)!sendto(sender, payload, sizes[round % 4], MSG_DONTWAIT, (struct sockaddr *)&to,
                      size);
    if (receiver >= 0)
        close(receiver);
    /* Every now and then to a port that was just closed: answered by "unreachable". */
    if (round % 4 == 3 && receiver >= 0 && sender >= 0)
        (void)!sendto(sender, payload, 32, MSG_DONTWAIT, (struct sockaddr *)&to, size);
    if (sender >= 0)
        close(sender);
}

static void send_echo(int family, unsigned round)
{
    const int protocol = family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
    uint8_t echo[64] = {family == AF_INET ? 8 : 128};
    struct sockaddr_storage to;
    socklen_t size;
    uint32_t sum = 0;
    int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol);

    if (fd < 0) /* allowed to some users by net.ipv4.ping_group_range */
        fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return;
    const int any = loopback_socket(family, SOCK_DGRAM, &to, &size); /* for the address */
    if (any >= 0)
        close(any);
    ((struct sockaddr_in *)&to)->sin_port = 0; /* at the same place for IPv6 */
    echo[4] = 'n';
    echo[5] = 'r';
    echo[6] = (uint8_t)(round >> 8);
    echo[7] = (uint8_t)round;
    if (family == AF_INET) { /* the kernel does it for ICMPv6 */
        for (size_t i = 0; i < sizeof echo; i += 2)
            sum += be16(echo + i);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
        echo[2] = (uint8_t)(sum >> 8);
        echo[3] = (uint8_t)sum;
    }
    (void)!sendto(fd, echo, sizeof echo, MSG_DONTWAIT, (struct sockaddr *)&to, size);
    close(fd);
}

static void send_tcp(int family)
{
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    static const char answer[] = "HTTP/1.0 204 No Content\r\n\r\n";
    struct sockaddr_storage to;
    socklen_t size;
    char buffer[64];
    const int listener = loopback_socket(family, SOCK_STREAM, &to, &size);
    const int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int server = -1;

    /* On lo all of this is done before the call returns: nothing here waits. */
    if (listener >= 0 && client >= 0 && listen(listener, 1) == 0 &&
        connect(client, (struct sockaddr *)&to, size) == 0)
        server = accept(listener, NULL, NULL);
    if (server >= 0) {
        (void)!send(client, request, sizeof request - 1, MSG_NOSIGNAL);
        (void)!recv(server, buffer, sizeof buffer, MSG_DONTWAIT);
        (void)!send(server, answer, sizeof answer - 1, MSG_NOSIGNAL);
        close(server);
        (void)!recv(client, buffer, sizeof buffer, MSG_DONTWAIT);
    }
    if (client >= 0)
        close(client);
    if (listener >= 0)
        close(listener);
}

/* The child: makes traffic from the first byte in the pipe until the parent's end is closed,
 * however the parent ends. */
static void demo_traffic(int pipe_fd)
{
    struct pollfd parent = {pipe_fd, POLLIN, 0};
    char go;

    signal(SIGINT, SIG_IGN); /* Ctrl-C goes to both; the parent ends this one */
    if (read(pipe_fd, &go, 1) != 1)
        _exit(0);
    for (unsigned round = 0;; round++) {
        const int family = round / 3 % 2 == 0 ? AF_INET : AF_INET6;
        switch (round % 3) {
        case 0:
            send_udp(family, round / 6);
            break;
        case 1:
            send_echo(family, round / 6);
            break;
        default:
            send_tcp(family);
        }
        if (poll(&parent, 1, 150) > 0)
            _exit(0);
    }
}

/* Forked before the capture is opened: a capture belongs to the process that opened it. */
static pid_t demo_fork(int *pipe_fd)
{
    int fds[2];

    if (pipe(fds) < 0)
        return -1;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        close(fds[1]);
        demo_traffic(fds[0]);
    }
    close(fds[0]);
    *pipe_fd = fds[1];
    return pid;
}

/* ---- the job --------------------------------------------------------------------------------- */

static char *read_file(const char *name)
{
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "r");
    char *text = NULL;
    size_t size = 0, used = 0;

    if (file == NULL)
        return NULL;
    for (;;) {
        if (size - used < 4096) {
            char *more = realloc(text, size += 65536);
            if (more == NULL)
                break;
            text = more;
        }
        const size_t n = fread(text + used, 1, size - used - 1, file);
        if (n == 0)
            break;
        used += n;
    }
    if (file != stdin)
        fclose(file);
    if (text != NULL)
        text[used] = '\0';
    return text;
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

/* The rest of the command line as one text. */
static char *join(char **words)
{
    size_t size = 1;
    char *text, *end;

    for (char **word = words; *word != NULL; word++)
        size += strlen(*word) + 1;
    end = text = calloc(size, 1);
    for (char **word = words; text != NULL && *word != NULL; word++) {
        end = stpcpy(end, word == words ? "" : " ");
        end = stpcpy(end, *word);
    }
    return text;
}

static int make_filter(const struct options *o, struct netring_filter **out)
{
    struct netring_error err;
    char *text = o->filter_file != NULL ? read_file(o->filter_file) : join(o->filter_words);
    struct netring_filter_config how = NETRING_FILTER_CONFIG_INIT;
    int rc;

    if (text == NULL) {
        fprintf(stderr, "capture: %s: %s\n", o->filter_file != NULL ? o->filter_file : "filter",
                strerror(errno));
        return -1;
    }
    /* A file that is empty accepts everything. */
    if (o->backend != PACKET && !o->take_all && is_blank(text)) {
        fprintf(stderr, "capture: the filter is empty: all packets are taken with --take-all\n");
        free(text);
        return -1;
    }
    /* A program is numbers and nothing else; no expression is. */
    if (text[0] != '\0' && text[strspn(text, "0123456789, \t\r\n")] == '\0')
        rc = netring_filter_new_ddd(text, strlen(text), out, &err);
    else {
        /* "vlan 100" on every interface means those that have VLANs, as for tcpdump. */
        how.flags |= NETRING_FILTER_REJECT_OTHERS;
        rc = netring_filter_compile(text, strlen(text), &how, out, &err);
    }
    if (rc < 0)
        fprintf(stderr, "capture: filter: %s\n", err.message);
    free(text);
    return rc;
}

/* A descriptor of the network namespace. */
static int open_namespace(const char *which, struct netring_error *err)
{
    if (which[strspn(which, "0123456789")] == '\0')
        return netring_netns_open_pid(atoi(which), err);
    return netring_netns_open(which, err);
}

/* A capture: AF_PACKET. */

static struct netring_capture *capture;

static int capture_next_block(int timeout_ms, struct netring_block **out)
{
    return netring_capture_next_block(capture, timeout_ms, out);
}

static int capture_stats(struct netring_stats *out)
{
    return netring_capture_stats(capture, out, sizeof *out);
}

static int capture_last_error(struct netring_error *out)
{
    return netring_capture_last_error(capture, out);
}

static int capture_add_to(struct netring_writer *to, struct netring_error *err)
{
    return netring_writer_add_capture(to, capture, err);
}

static int capture_stop(void)
{
    return netring_capture_stop(capture);
}

static int capture_close(void)
{
    return netring_capture_close(capture);
}

static int open_capture(const struct options *o, struct netring_filter *filter, int netns,
                        struct netring_error *err)
{
    static const struct backend calls = {capture_next_block, capture_stats, capture_last_error,
                                         capture_add_to,     capture_stop,  capture_close};
    struct netring_capture_config config;
    struct netring_capture_info info;

    netring_capture_config_init(&config, sizeof config);
    netring_capture_config_profile(&config, o->profile);
    config.snap_length = o->snap_length;
    config.filter = filter;
    config.flags |= o->flags;
    if (o->promiscuous)
        config.flags |= NETRING_CAPTURE_PROMISCUOUS;
    if (netns >= 0) {
        config.netns_fd = netns;
        config.flags |= NETRING_CAPTURE_NETNS_FD;
    }
    const int rc = netring_capture_open(o->interface, &config, &capture, err);
    if (rc >= 0 && netring_capture_info(capture, &info, sizeof info) == 0) {
        opened.index = info.ifindex;
        memcpy(opened.name, info.interface, sizeof opened.name);
    }
    backend = &calls;
    return rc;
}

/* An xdp: AF_XDP sockets, one on each queue of the interface, here all on one thread. */

static struct netring_xdp *xdp;
static struct netring_xdp_info xdp_info;
static struct netring_queue **queues;
static struct pollfd *readable; /* while the queue of that number has something */

/* One block a turn, from each queue in its turn. */
static int xdp_next_block(int timeout_ms, struct netring_block **out)
{
    static uint32_t next;
    const uint32_t count = xdp_info.queue_count;

    for (int turn = 0; turn < 2; turn++) {
        uint32_t ended = 0;

        for (uint32_t i = 0; i < count; i++) {
            const int rc = netring_queue_next_block(queues[next++ % count], 0, out);

            if (rc == NETRING_ESHUTDOWN)
                ended++;
            else if (rc != 0)
                return rc;
        }
        if (ended == count)
            return NETRING_ESHUTDOWN;
        if (turn == 0)
            poll(readable, count, timeout_ms); /* a signal ends it, too: then there is a stop */
    }
    return 0;
}

static int xdp_stats(struct netring_stats *out)
{
    return netring_xdp_stats(xdp, out, sizeof *out);
}

/* The queue that has failed last. */
static int xdp_last_error(struct netring_error *out)
{
    int rc = netring_xdp_last_error(xdp, out);

    for (uint32_t i = 0;
         i < xdp_info.queue_count && rc == 0 && (out->code == 0 || out->code == NETRING_ESHUTDOWN);
         i++)
        rc = netring_queue_last_error(queues[i], out);
    return rc;
}

static int xdp_add_to(struct netring_writer *to, struct netring_error *err)
{
    return netring_writer_add_interface(to, xdp_info.interface, xdp_info.link_type, 0, err);
}

static int xdp_stop(void)
{
    return netring_xdp_stop(xdp);
}

static int xdp_close(void)
{
    const int rc = netring_xdp_close(xdp);

    free(queues);
    free(readable);
    return rc;
}

static const char *mode_name(uint32_t mode)
{
    static const char *const names[] = {"auto", "zero-copy", "copy", "SKB"};

    return mode < sizeof names / sizeof *names ? names[mode] : "?";
}

static int open_xdp(const struct options *o, struct netring_filter *filter, int netns,
                    struct netring_error *err)
{
    static const struct backend calls = {xdp_next_block, xdp_stats, xdp_last_error,
                                         xdp_add_to,     xdp_stop,  xdp_close};
    struct netring_xdp_config config = NETRING_XDP_CONFIG_INIT;

    config.redirect = filter != NULL ? NETRING_REDIRECT_FILTER : NETRING_REDIRECT_ALL;
    config.filter = filter;
    config.flags |= NETRING_XDP_NO_TX;
    if (netns >= 0) {
        config.netns_fd = netns;
        config.flags |= NETRING_XDP_NETNS_FD;
    }
    int rc = netring_xdp_open(o->interface, NULL, 0, &config, &xdp, err);
    if (rc < 0)
        return rc;
    rc = netring_xdp_info(xdp, &xdp_info, sizeof xdp_info);
    if (rc >= 0 && o->backend == AUTO && xdp_info.mode == NETRING_MODE_SKB) {
        netring_xdp_close(xdp); /* each packet would be copied behind the host's own work */
        snprintf(err->message, sizeof err->message, "the driver of %s has no hook for it",
                 o->interface);
        return err->code = NETRING_ENOTSUP;
    }
    queues = calloc(xdp_info.queue_count, sizeof *queues);
    readable = calloc(xdp_info.queue_count, sizeof *readable);
    for (uint32_t i = 0; rc >= 0 && i < xdp_info.queue_count; i++) {
        rc = queues == NULL || readable == NULL ? -ENOMEM : netring_xdp_queue(xdp, i, &queues[i]);
        if (rc >= 0) {
            readable[i].fd = netring_queue_fd(queues[i]);
            readable[i].events = POLLIN;
        }
    }
    if (rc < 0) {
        snprintf(err->message, sizeof err->message, "queues: %s", netring_strerror(rc));
        xdp_close();
        return err->code = rc;
    }
    opened.index = xdp_info.ifindex;
    memcpy(opened.name, xdp_info.interface, sizeof opened.name);
    fprintf(stderr, "AF_XDP on %u queues of %s (%s): what is shown does not reach the host\n",
            xdp_info.queue_count, xdp_info.interface, mode_name(xdp_info.mode));
    backend = &calls;
    return rc;
}

/* What AF_XDP cannot do for these options; NULL: nothing. */
static const char *against_xdp(const struct options *o)
{
    if (strcmp(o->interface, "any") == 0)
        return "it needs an interface: -i NAME";
    if (o->filter_words == NULL && o->filter_file == NULL && !o->take_all)
        return "it would take every packet away from this host: give a filter, or --take-all";
    if (o->flags & NETRING_CAPTURE_IGNORE_INCOMING)
        return "it sees nothing of what this host sends";
    if (o->snap_length != 0 || o->promiscuous || o->profile != NETRING_PROFILE_DEFAULT)
        return "-s, -p and --profile are for AF_PACKET";
    return NULL;
}

static void tell_failure(int rc, const struct netring_error *err, bool with_xdp)
{
    char path[512];

    fprintf(stderr, "capture: %s\n", err->message);
    const ssize_t n = rc == NETRING_EPERM ? readlink("/proc/self/exe", path, sizeof path - 1) : 0;
    if (n > 0)
        fprintf(stderr, "For this program: sudo setcap %s+ep %.*s\n",
                with_xdp ? "cap_net_raw,cap_net_admin,cap_bpf" : "cap_net_raw", (int)n, path);
}

/* Opens the backend that is asked for, or that can do it. */
static int open_backend(const struct options *o)
{
    struct netring_filter *filter = NULL;
    struct netring_error err;
    int rc = -1, netns = -1;
    const char *against = o->backend == PACKET ? "" : against_xdp(o);

    if ((o->filter_words != NULL || o->filter_file != NULL) && make_filter(o, &filter) < 0)
        return -1;
    if (o->netns != NULL && (netns = open_namespace(o->netns, &err)) < 0) {
        fprintf(stderr, "capture: %s\n", err.message);
        netring_filter_free(filter);
        return netns;
    }
    elsewhere = o->netns != NULL;
    if (against == NULL) {
        rc = open_xdp(o, filter, netns, &err);
        against = err.message;
    }
    if (rc < 0 && o->backend == AUTO)
        fprintf(stderr, "AF_PACKET, not AF_XDP: %s\n", against);
    if (rc < 0 && o->backend != XDP)
        rc = open_capture(o, filter, netns, &err);
    if (netns >= 0)
        close(netns);
    netring_filter_free(filter); /* it is loaded */
    if (rc < 0)
        tell_failure(rc, &err, o->backend == XDP);
    return rc;
}

/* ---- into a file ----------------------------------------------------------------------------- */

static struct netring_writer *writer;

/* After the capture: the file says what it is a capture of. */
static bool open_writer(const struct options *o)
{
    struct netring_writer_config config = NETRING_WRITER_CONFIG_INIT;
    struct netring_error err;
    const size_t length = strlen(o->write);
    int rc;

    if (length >= 5 && strcmp(o->write + length - 5, ".pcap") == 0)
        config.format = NETRING_SAVEFILE_PCAP;
    config.rotate_bytes = o->rotate_size;
    config.rotate_ns = o->rotate_time * 1000000000;
    config.max_files = (uint32_t)o->max_files;
    if (strcmp(o->write, "-") == 0)
        rc = netring_writer_open_fd(STDOUT_FILENO, &config, &writer, &err);
    else
        rc = netring_writer_open(o->write, &config, &writer, &err);
    if (rc >= 0)
        rc = backend->add_to(writer, &err); /* the first one is number 0 */
    if (rc < 0)
        fprintf(stderr, "capture: %s\n", err.message);
    return rc >= 0;
}

/* What the present file says at its end. */
static void note_statistics(void)
{
    struct netring_stats stats;

    if (backend->stats(&stats) == 0)
        netring_writer_statistics(writer, 0, &stats, sizeof stats);
}

/* Writes a block, or its first `most` packets; 0 or more: how many. */
static int write_block(struct netring_block *block, uint64_t most)
{
    static time_t noted;
    struct netring_block_info info;
    struct netring_packet packets[64];
    struct timespec now;
    int written = 0, n;

    /* Once a second is enough: a file may end with any block, and these go to its end. */
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec != noted)
        note_statistics();
    noted = now.tv_sec;
    netring_block_info(block, &info, sizeof info);
    if (info.count <= most)
        return netring_writer_write_block(writer, 0, block);
    while (most > 0 && (n = netring_block_read(block, packets, sizeof packets[0],
                                               most < 64 ? (size_t)most : 64)) > 0) {
        const int rc = netring_writer_write(writer, 0, packets, sizeof packets[0], (size_t)n);
        if (rc < 0)
            return rc;
        written += n;
        most -= (uint64_t)n;
    }
    return written;
}

/* Says why a block was not written; false: that is no failure. */
static bool write_failed(void)
{
    struct netring_error err;

    netring_writer_last_error(writer, &err);
    if (err.os_errno == EPIPE) /* a reader that has seen enough */
        return false;
    fprintf(stderr, "capture: %s\n", err.message);
    return true;
}

/* Ends the last file. */
static bool close_writer(void)
{
    struct netring_writer_info info;
    struct netring_error err;
    char path[4096] = "";

    note_statistics();
    netring_writer_info(writer, &info, sizeof info);
    netring_writer_path(writer, path, sizeof path);
    if (netring_writer_close(writer, &err) < 0 && err.os_errno != EPIPE) {
        fprintf(stderr, "capture: %s\n", err.message);
        return false;
    }
    if (info.files > 1)
        fprintf(stderr, "%" PRIu64 " files, %" PRIu64 " of them removed again; the last one: %s\n",
                info.files, info.files_removed, path);
    return true;
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* The packets of a block as lines, `most` of them; how many. */
static uint64_t show_block(struct netring_block *block, uint64_t most)
{
    struct netring_cursor cursor;
    struct netring_packet packet;
    uint64_t shown = 0;

    netring_cursor_init(&cursor, block);
    while (shown < most && signals <= 1 && netring_cursor_next(&cursor)) {
        netring_cursor_packet(&cursor, &packet);
        print_packet(&packet);
        shown++;
    }
    return shown;
}

static uint64_t packets_of(struct netring_block *block)
{
    struct netring_cursor cursor;
    uint64_t count = 0;

    netring_cursor_init(&cursor, block);
    while (netring_cursor_next(&cursor))
        count++;
    return count;
}

static int run(const struct options *o)
{
    struct netring_block *block;
    uint64_t shown = 0, walked = 0;
    bool failed = false, ended = false;
    int rc, written;

    while ((rc = backend->next_block(live ? 500 : -1, &block)) >= 0) {
        if (rc > 0) {
            const uint64_t most = o->count == 0 ? UINT64_MAX : o->count - shown;

            live_clear();
            walked += packets_of(block);
            if (ended || signals > 1) {
                ; /* stopped: what is left is only counted */
            } else if (writer == NULL) {
                shown += show_block(block, most);
            } else if ((written = write_block(block, most)) >= 0) {
                shown += (uint64_t)written;
            } else {
                struct netring_writer_info info;

                failed = write_failed();
                netring_writer_info(writer, &info, sizeof info);
                shown = info.packets;
                backend->stop();
                ended = true;
            }
            netring_block_release(block);
            if (shown == o->count && !ended && o->count != 0) {
                backend->stop();
                ended = true;
            }
            if (fflush(stdout) == EOF && !ended) {
                if (errno != EPIPE) { /* a reader that has seen enough is no failure */
                    fprintf(stderr, "capture: standard output: %s\n", strerror(errno));
                    failed = true;
                }
                backend->stop();
                ended = true;
            }
        }
        if (!ended)
            live_draw(shown);
    }
    live_clear();
    if (rc != NETRING_ESHUTDOWN) { /* that one is the end we asked for */
        struct netring_error err;
        backend->last_error(&err);
        fprintf(stderr, "capture: %s\n", err.code == rc ? err.message : netring_strerror(rc));
        failed = true;
    }
    if (writer != NULL && !close_writer())
        failed = true;
    if (!summary(writer != NULL ? "written" : "shown", shown, walked))
        failed = true;
    backend->close();
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static bool number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *out <= max;
}

/* 100, 100k, 100M, 10G */
static bool bytes_of(const char *text, uint64_t *out)
{
    static const char units[] = "kMG";
    char digits[32];
    const size_t length = strlen(text);
    const char *unit = length == 0 ? NULL : strchr(units, text[length - 1]);

    if (unit == NULL || length > sizeof digits)
        return number(text, UINT64_MAX, out);
    memcpy(digits, text, length - 1);
    digits[length - 1] = '\0';
    if (!number(digits, UINT64_MAX >> 30, out))
        return false;
    for (const char *u = units; u <= unit; u++)
        *out *= 1000;
    return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
    enum { PROFILE = 256, DEMO, SIZE, TIME, FILES, IMMEDIATE, NETNS, BACKEND, TAKE_ALL };
    static const struct option longs[] = {{"interface", required_argument, NULL, 'i'},
                                          {"count", required_argument, NULL, 'c'},
                                          {"snaplen", required_argument, NULL, 's'},
                                          {"promiscuous", no_argument, NULL, 'p'},
                                          {"direction", required_argument, NULL, 'd'},
                                          {"immediate", no_argument, NULL, IMMEDIATE},
                                          {"netns", required_argument, NULL, NETNS},
                                          {"backend", required_argument, NULL, BACKEND},
                                          {"take-all", no_argument, NULL, TAKE_ALL},
                                          {"profile", required_argument, NULL, PROFILE},
                                          {"filter-file", required_argument, NULL, 'f'},
                                          {"write", required_argument, NULL, 'w'},
                                          {"rotate-size", required_argument, NULL, SIZE},
                                          {"rotate-time", required_argument, NULL, TIME},
                                          {"max-files", required_argument, NULL, FILES},
                                          {"demo", no_argument, NULL, DEMO},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    static const char *const profiles[] = {"default", "high-throughput", "low-latency",
                                           "low-memory", "jumbo"};   /* NETRING_PROFILE_* 0.. */
    static const char *const backends[] = {"packet", "xdp", "auto"}; /* PACKET.. */
    uint64_t value;
    int option;

    while ((option = getopt_long(argc, argv, "i:c:s:pd:f:w:h", longs, NULL)) != -1) {
        switch (option) {
        case 'i':
            o->interface = optarg;
            break;
        case 'c':
            if (!number(optarg, UINT64_MAX, &o->count) || o->count == 0) {
                fprintf(stderr, "capture: -c takes a number of packets, not \"%s\"\n", optarg);
                return false;
            }
            break;
        case 's':
            if (!number(optarg, UINT32_MAX, &value) || value == 0) {
                fprintf(stderr, "capture: -s takes a number of bytes, not \"%s\"\n", optarg);
                return false;
            }
            o->snap_length = (uint32_t)value;
            break;
        case 'p':
            o->promiscuous = true;
            break;
        case 'd':
            o->flags &= ~(NETRING_CAPTURE_IGNORE_OUTGOING | NETRING_CAPTURE_IGNORE_INCOMING);
            if (strcmp(optarg, "in") == 0) {
                o->flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
            } else if (strcmp(optarg, "out") == 0) {
                o->flags |= NETRING_CAPTURE_IGNORE_INCOMING;
            } else if (strcmp(optarg, "both") != 0) {
                fprintf(stderr, "capture: -d takes in, out or both, not \"%s\"\n", optarg);
                return false;
            }
            break;
        case IMMEDIATE:
            o->flags |= NETRING_CAPTURE_IMMEDIATE;
            break;
        case NETNS:
            o->netns = optarg;
            break;
        case BACKEND:
            for (o->backend = PACKET; o->backend <= AUTO; o->backend++)
                if (strcmp(optarg, backends[o->backend]) == 0)
                    break;
            if (o->backend > AUTO) {
                fprintf(stderr, "capture: --backend takes packet, xdp or auto, not \"%s\"\n",
                        optarg);
                return false;
            }
            break;
        case TAKE_ALL:
            o->take_all = true;
            break;
        case PROFILE:
            for (o->profile = 0; o->profile < sizeof profiles / sizeof *profiles; o->profile++)
                if (strcmp(optarg, profiles[o->profile]) == 0)
                    break;
            if (o->profile == sizeof profiles / sizeof *profiles) {
                fprintf(stderr, "capture: no profile \"%s\"\n", optarg);
                return false;
            }
            break;
        case 'f':
            o->filter_file = optarg;
            break;
        case 'w':
            o->write = optarg;
            break;
        case SIZE:
            if (!bytes_of(optarg, &o->rotate_size) || o->rotate_size == 0) {
                fprintf(stderr,
                        "capture: --rotate-size takes bytes, 100k, 100M or 10G, not \"%s\"\n",
                        optarg);
                return false;
            }
            break;
        case TIME:
            if (!number(optarg, UINT32_MAX, &o->rotate_time) || o->rotate_time == 0) {
                fprintf(stderr, "capture: --rotate-time takes a number of seconds, not \"%s\"\n",
                        optarg);
                return false;
            }
            break;
        case FILES:
            if (!number(optarg, UINT32_MAX, &o->max_files) || o->max_files < 2) {
                fprintf(stderr, "capture: --max-files takes 2 or more, not \"%s\"\n", optarg);
                return false;
            }
            break;
        case DEMO:
            o->demo = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(EXIT_SUCCESS);
        default:
            return false; /* getopt_long has said why */
        }
    }
    while (optind < argc && is_blank(argv[optind])) /* "$FILTER" of an empty variable: none */
        optind++;
    if (optind < argc)
        o->filter_words = argv + optind;
    if (o->filter_words != NULL && o->filter_file != NULL) {
        fprintf(stderr, "capture: a filter or a filter file, not both\n");
        return false;
    }
    if (o->demo && o->netns != NULL) {
        fprintf(stderr, "capture: --demo has a network of its own, and --netns another\n");
        return false;
    }
    const bool rotates = o->rotate_size != 0 || o->rotate_time != 0;
    if (rotates && (o->write == NULL || strcmp(o->write, "-") == 0)) {
        fprintf(stderr, "capture: rotation needs a file: -w FILE\n");
        return false;
    }
    if (o->max_files != 0 && !rotates) {
        fprintf(stderr, "capture: --max-files needs --rotate-size or --rotate-time\n");
        return false;
    }
    if (o->write != NULL && strcmp(o->write, "-") == 0 && isatty(STDOUT_FILENO)) {
        fprintf(stderr, "capture: -w - writes packets, and standard output is a terminal\n");
        return false;
    }
    if (o->demo && (o->interface != NULL || o->backend != PACKET)) {
        fprintf(stderr, "capture: --demo is on lo, by AF_PACKET; it takes no interface\n");
        return false;
    }
    if (o->interface == NULL)
        o->interface = o->demo ? "lo" : "any";
    if (o->backend == XDP && against_xdp(o) != NULL) {
        fprintf(stderr, "capture: --backend xdp: %s\n", against_xdp(o));
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options options = {.profile = NETRING_PROFILE_DEFAULT};
    struct sigaction action;
    int go = -1, status = EXIT_FAILURE;
    pid_t child = -1;

    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "Try capture --help.\n");
        return EXIT_USAGE;
    }
    if (options.demo) {
        if (!demo_prepare())
            return EXIT_SKIP;
        child = demo_fork(&go);
        if (child < 0) {
            fprintf(stderr, "capture: no process for the traffic: %s\n", strerror(errno));
            return EXIT_FAILURE;
        }
    }

    if (open_backend(&options) >= 0 && (options.write == NULL || open_writer(&options))) {
        memset(&action, 0, sizeof action);
        action.sa_handler = on_signal;
        action.sa_flags = SA_RESTART; /* a line is written whole */
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGHUP, &action, NULL);
        signal(SIGPIPE, SIG_IGN);
        live = isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
        setvbuf(stdout, NULL, _IOFBF, 65536); /* written once a block */
        if (go >= 0)
            (void)!write(go, "", 1);
        status = run(&options);
    }
    if (child > 0) {
        close(go);
        waitpid(child, NULL, 0);
    }
    return status;
}
