/* NETRING_CAPTURE_VNET_HEADER: checksum and segmentation of each packet, as the sender left them:
 * of a tap device, where the test says what that is, and of the kernel's own TCP and UDP.
 *
 * no-archive: records are rewritten by the same code there, and ASan has the archive */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IPV4 = 20, IPV6 = 40, TCP = 20, UDP = 8, MSS = 1448 };

static struct netring_capture *open_vnet(const char *name, uint64_t flags)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;

    config.block_size = 256 * KIB; /* super-packets whole */
    config.block_count = 8;
    config.flags |= NETRING_CAPTURE_VNET_HEADER | flags;
    capture = capture_open(name, &config);
    ok(capture_info(capture).flags & NETRING_CAPTURE_VNET_HEADER, "%s: the info tells", name);
    return capture;
}

/* ---- frames ---- */

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static size_t header(uint8_t *frame, uint16_t ethertype)
{
    static const uint8_t addresses[12] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9};

    memcpy(frame, addresses, 12);
    put16(frame + 12, ethertype);
    return ETHER_HEADER;
}

static uint16_t ipv4_sum(const uint8_t *ip)
{
    uint32_t sum = 0;

    for (int i = 0; i < IPV4; i += 2)
        sum += (uint32_t)ip[i] << 8 | ip[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~(sum + (sum >> 16));
}

/* An IPv4 or IPv6 packet of TCP or UDP with `payload` bytes. */
static size_t ip_frame(uint8_t *frame, bool six, uint8_t protocol, size_t payload)
{
    size_t at = header(frame, six ? 0x86dd : 0x0800), transport = protocol == 6 ? TCP : UDP;
    uint8_t *ip = frame + at;

    memset(ip, 0, IPV6 + TCP);
    if (six) {
        ip[0] = 0x60;
        put16(ip + 4, transport + payload);
        ip[6] = protocol;
        ip[7] = 64;
        ip[8] = ip[24] = 0xfd;
        ip[23] = 1;
        ip[39] = 2;
        at += IPV6;
    } else {
        ip[0] = 0x45;
        put16(ip + 2, IPV4 + transport + payload);
        ip[8] = 64;
        ip[9] = protocol;
        ip[12] = ip[16] = 10;
        ip[15] = 1;
        ip[19] = 2;
        put16(ip + 10, ipv4_sum(ip));
        at += IPV4;
    }
    put16(frame + at, 1000);
    put16(frame + at + 2, 2000);
    if (protocol == 6) {
        frame[at + 12] = TCP / 4 << 4;
        frame[at + 13] = 0x10; /* ACK */
    } else {
        put16(frame + at + 4, transport + payload);
    }
    at += transport;
    for (size_t i = 0; i < payload; i++)
        frame[at + i] = (uint8_t)(i * 7 + (i >> 8));
    return at + payload;
}

/* ---- what a tap device is given ---- */

static void tap_write(int tap, const struct virtio_net_hdr *vnet, const uint8_t *frame,
                      size_t length, const char *what)
{
    struct iovec parts[2] = {{(void *)(uintptr_t)vnet, sizeof *vnet},
                             {(void *)(uintptr_t)frame, length}};

    if (writev(tap, parts, 2) != (ssize_t)(sizeof *vnet + length))
        tap_bail("%s: the tap device takes no such packet: %s", what, strerror(errno));
}

static const struct {
    const char *name;
    struct virtio_net_hdr vnet;
    bool six;
    uint8_t protocol;
    size_t payload;
    uint32_t since; /* Linux version */
    uint32_t status;
} given[] = {
    {"a plain packet", {.flags = 0}, false, 17, 100, 0, 0},
    {"a checksum to come",
     {.flags = 1, .csum_start = 34, .csum_offset = 6},
     false,
     17,
     100,
     0,
     NETRING_PACKET_CSUM_NOT_READY},
    {"TCP over IPv4, 64 KiB",
     {.flags = 1, .gso_type = 1, .gso_size = MSS, .csum_start = 34, .csum_offset = 16},
     false,
     6,
     65535 - IPV4 - TCP,
     0,
     NETRING_PACKET_CSUM_NOT_READY},
    {"TCP over IPv6, 64 KiB",
     {.flags = 1, .gso_type = 4, .gso_size = 1428, .csum_start = 54, .csum_offset = 16},
     true,
     6,
     65535 - TCP,
     0,
     NETRING_PACKET_CSUM_NOT_READY},
    {"TCP with ECN",
     {.flags = 1, .gso_type = 0x81, .gso_size = MSS, .csum_start = 34, .csum_offset = 16},
     false,
     6,
     5000,
     0,
     NETRING_PACKET_CSUM_NOT_READY},
    {"UDP datagrams in a row",
     {.flags = 1, .gso_type = 5, .gso_size = 1200, .csum_start = 34, .csum_offset = 6},
     false,
     17,
     12000,
     0x060200,
     NETRING_PACKET_CSUM_NOT_READY},
};

static void is_given(const struct netring_packet *packet, const struct netring_vnet *vnet, size_t i,
                     const uint8_t *frame, size_t length, const char *what)
{
    const struct virtio_net_hdr *want = &given[i].vnet;
    const uint32_t states = NETRING_PACKET_CSUM_NOT_READY | NETRING_PACKET_CSUM_VALID;

    if (is_int(packet->caplen, length, "%s: %s: whole", what, given[i].name) &&
        is_int(packet->len, length, "%s: %s: len", what, given[i].name))
        is_bytes(packet->data, frame, length, "%s: %s: its bytes", what, given[i].name);
    ok(packet->status & NETRING_PACKET_VNET, "%s: %s: known", what, given[i].name);
    is_int(packet->status & states, given[i].status, "%s: %s: status", what, given[i].name);
    is_int(packet->gso_size, want->gso_size, "%s: %s: gso_size", what, given[i].name);
    is_int(packet->gso_type, want->gso_type, "%s: %s: gso_type", what, given[i].name);
    is_int(vnet->flags, want->flags, "%s: %s: flags", what, given[i].name);
    is_int(vnet->gso_size, want->gso_size, "%s: %s: gso_size of all", what, given[i].name);
    is_int(vnet->gso_type, want->gso_type, "%s: %s: gso_type of all", what, given[i].name);
    is_int(vnet->csum_start, want->csum_start, "%s: %s: csum_start", what, given[i].name);
    is_int(vnet->csum_offset, want->csum_offset, "%s: %s: csum_offset", what, given[i].name);
    /* A hint: how much the kernel has in one piece. */
    is_between(vnet->hdr_len, want->gso_type ? 42 : 0, want->gso_type ? 65535 : 0,
               "%s: %s: hdr_len", what, given[i].name);
}

static void test_given(int tap)
{
    struct netring_capture *capture = open_vnet("tap0", 0);
    uint32_t version = capture_info(capture).kernel_version;
    uint8_t *frame = calloc(1, 70000);
    struct netring_block *block;
    struct netring_packet packet;
    struct netring_vnet vnet;

    for (size_t i = 0; i < COUNT(given); i++) {
        struct virtio_net_hdr how = given[i].vnet;
        size_t length = ip_frame(frame, given[i].six, given[i].protocol, given[i].payload);

        if (version < given[i].since) {
            tap_skip(given[i].name, "not on this kernel");
            continue;
        }
        if (how.gso_type)
            how.hdr_len = (uint16_t)(how.csum_start + (given[i].protocol == 6 ? TCP : UDP));
        tap_write(tap, &how, frame, length, given[i].name);
        if (!is_int(netring_capture_next_block(capture, 1000, &block), 1, "%s: a block",
                    given[i].name))
            continue;
        is_int(netring_block_read(block, &packet, sizeof packet, 1), 1, "%s: a packet",
               given[i].name);
        is_int(netring_block_vnet(block, packet.cookie, &vnet, sizeof vnet), 1, "%s: has it",
               given[i].name);
        is_given(&packet, &vnet, i, frame, length, "tap");
        is_int((packet.cookie + 112) % 16, packet.cookie % 16, "the record's alignment");
        is_int(((uintptr_t)packet.data + ETHER_HEADER) % 16, packet.cookie % 16,
               "%s: the IP header is aligned", given[i].name);
        netring_block_release(block);
    }
    capture_close(capture);
    free(frame);
}

/* Every walk finds the same. */
static void test_walks(int tap)
{
    struct netring_capture *capture = open_vnet("tap0", NETRING_CAPTURE_RESTORE_VLAN);
    struct records records = {0, 0, NULL};
    uint8_t *frame = calloc(1, 70000);

    for (size_t i = 0; i < 4; i++) {
        struct virtio_net_hdr how = given[i].vnet;
        size_t length = ip_frame(frame, given[i].six, given[i].protocol, given[i].payload);

        if (how.gso_type)
            how.hdr_len = 54;
        tap_write(tap, &how, frame, length, given[i].name);
    }
    receive_both_ways(capture, 4, 1000, &records, "vnet");
    is_int(records.count, 4, "vnet: packets");
    capture_close(capture);
    records_free(&records);
    free(frame);
}

/* A tag put back moves the packet's start, and what is counted from there. */
static void test_tagged(int tap)
{
    static const uint64_t flags[] = {0, NETRING_CAPTURE_RESTORE_VLAN};
    uint8_t frame[4096];

    for (size_t i = 0; i < COUNT(flags); i++) {
        struct netring_capture *capture = open_vnet("tap0", flags[i]);
        size_t length = ip_frame(frame, false, 6, 3000), off = flags[i] ? 0 : 4;
        struct virtio_net_hdr how = {.flags = 1,
                                     .gso_type = 1,
                                     .gso_size = MSS,
                                     .hdr_len = 58,
                                     .csum_start = 38,
                                     .csum_offset = 16};
        struct netring_block *block = NULL;
        struct netring_packet packet;
        struct netring_vnet vnet;

        length = frame_tag(frame, length, 0x88a8, 0x2005);
        tap_write(tap, &how, frame, length, "tagged");
        netring_capture_next_block(capture, 1000, &block);
        if (!is_int(netring_block_read(block, &packet, sizeof packet, 1), 1, "tagged: a packet"))
            tap_bail("no tagged packet");
        is_int(netring_block_vnet(block, packet.cookie, &vnet, sizeof vnet), 1, "tagged: vnet");
        is_int(packet.caplen, length - off, "tagged: caplen");
        is_int(vnet.csum_start, 38 - off, "tagged: csum_start");
        is_int(vnet.csum_offset, 16, "tagged: csum_offset");
        is_int(vnet.gso_size, MSS, "tagged: gso_size");
        is_int(!(packet.status & NETRING_PACKET_VLAN), flags[i] != 0, "tagged: the tag's place");
        if (flags[i])
            is_bytes(packet.data, frame, length, "tagged: as sent");
        netring_block_release(block);
        capture_close(capture);
    }
}

/* UDP to be fragmented has no vnet header: the kernel counts the slot, drops the packet, and leaves
 * the bytes of an earlier lap in it. */
static void test_skipped(int tap)
{
    enum { ROUNDS = 40, BLOCKS = 4 };
    struct netring_capture_config config = page_config(BLOCKS);
    struct virtio_net_hdr plain = {.flags = 0}, fragments = {.flags = 1,
                                                             .gso_type = 3,
                                                             .gso_size = 400,
                                                             .hdr_len = 42,
                                                             .csum_start = 34,
                                                             .csum_offset = 6};
    struct netring_capture *capture;
    struct netring_stats stats;
    struct records records = {0, 0, NULL};
    uint8_t frame[1024], large[1024];
    size_t length = ip_frame(frame, false, 17, 600), largest = ip_frame(large, false, 17, 900);
    unsigned wrong = 0;

    config.block_timeout = 10;
    config.flags |= NETRING_CAPTURE_VNET_HEADER;
    capture = capture_open("tap0", &config);
    for (unsigned i = 0; i < ROUNDS; i++) {
        tap_write(tap, &plain, frame, length, "plain");
        tap_write(tap, &fragments, large, largest, "to be fragmented");
        tap_write(tap, &plain, frame, length, "plain");
        receive_both_ways(capture, 2 * (i + 1), 1000, &records, "skipped");
    }
    receive(capture, 1000, 50, &records);
    stats = capture_stats(capture);
    is_int(records.count, 2 * ROUNDS, "skipped: what has a header is delivered");
    for (size_t i = 0; i < records.count; i++)
        wrong += records.v[i].packet.caplen != length ||
                 memcmp(records.v[i].packet.data, frame, length) != 0;
    is_int(wrong, 0, "skipped: and nothing else");
    is_int(stats.skipped, ROUNDS, "skipped: slots");
    is_int(stats.dropped, ROUNDS, "skipped: drops");
    is_int(stats.seen, 3 * ROUNDS, "skipped: seen");
    is_int(stats.delivered, 2 * ROUNDS, "skipped: delivered");
    capture_close(capture);
    records_free(&records);
}

/* ---- the kernel's own ---- */

static void test_udp(void)
{
    struct netring_capture *capture = open_vnet("lo", 0);
    struct net_udp udp = net_udp_open();
    struct netring_block *block = NULL;
    struct netring_packet packet;
    struct netring_vnet vnet;

    net_udp_send(&udp, "some data", 9);
    netring_capture_next_block(capture, 1000, &block);
    if (is_int(netring_block_read(block, &packet, sizeof packet, 1), 1, "UDP: a packet")) {
        is_int(netring_block_vnet(block, packet.cookie, &vnet, sizeof vnet), 1, "UDP: vnet");
        ok(packet.status & NETRING_PACKET_CSUM_NOT_READY, "UDP: the checksum is to come");
        is_int(vnet.flags, NETRING_VNET_NEEDS_CSUM, "UDP: flags");
        is_int(vnet.csum_start, ETHER_HEADER + IPV4, "UDP: csum_start");
        is_int(vnet.csum_offset, 6, "UDP: csum_offset");
        is_int(packet.gso_type, NETRING_GSO_NONE, "UDP: one as on the wire");
    }
    netring_block_release(block);
    net_udp_close(&udp);
    capture_close(capture);
}

enum { PORT = 4242, BYTES = 1 << 20 };

/* At the other end, in its own network: swallows what comes. */
static void swallow(int namespace, int ready)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int listener, from, one = 1;
    static char buffer[65536];

    if (setns(namespace, CLONE_NEWNET) != 0)
        _exit(1);
    net_link_up("vb", true);
    net_ipv4("vb", "10.9.0.2");
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 || write(ready, "", 1) != 1)
        _exit(2);
    from = accept(listener, NULL, NULL);
    while (read(from, buffer, sizeof buffer) > 0)
        ;
    _exit(0);
}

static void test_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int namespace = net_namespace_new(), to = socket(AF_INET, SOCK_STREAM, 0), ready[2];
    int mss = 0;
    socklen_t size = sizeof mss;
    struct netring_capture *capture;
    struct netring_block *block;
    struct netring_packet packet;
    struct netring_vnet vnet;
    static char data[BYTES];
    unsigned large = 0, small = 0, wrong = 0;
    uint32_t largest = 0;
    pid_t child;
    char byte;

    net_link_move("vb", namespace);
    net_ipv4("va", "10.9.0.1");
    if (pipe(ready) != 0 || (child = fork()) < 0)
        tap_bail("fork: %s", strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(to); /* or the connection would not end with the parent's close */
        swallow(namespace, ready[1]);
    }
    if (read(ready[0], &byte, 1) != 1)
        tap_bail("the other end did not begin");
    net_await_carrier("va");
    capture = open_vnet("va", 0);
    address.sin_addr.s_addr = inet_addr("10.9.0.2");
    if (connect(to, (struct sockaddr *)&address, sizeof address) != 0)
        tap_bail("connect: %s", strerror(errno));
    getsockopt(to, IPPROTO_TCP, TCP_MAXSEG, &mss, &size);
    for (size_t sent = 0; sent < sizeof data;) {
        ssize_t now = send(to, data + sent, sizeof data - sent, 0);

        if (now <= 0)
            tap_bail("send: %s", strerror(errno));
        sent += (size_t)now;
    }
    close(to);
    while (netring_capture_next_block(capture, 200, &block) == 1) {
        while (netring_block_read(block, &packet, sizeof packet, 1) == 1) {
            bool outgoing = packet.direction == NETRING_DIRECTION_OUTGOING;

            if (packet.protocol != 0x0800 || !outgoing)
                continue;
            netring_block_vnet(block, packet.cookie, &vnet, sizeof vnet);
            if (packet.len > 1514) {
                large++;
                largest = packet.len > largest ? packet.len : largest;
                wrong += packet.gso_size != mss || packet.gso_type != NETRING_GSO_TCPV4 ||
                         packet.caplen != packet.len;
            } else {
                small++;
                wrong += packet.gso_size != 0 || packet.gso_type != NETRING_GSO_NONE;
            }
            /* The last acknowledgement has no socket any more, and is summed at once. */
            if (packet.len > ETHER_HEADER + IPV4 + 60)
                wrong += vnet.flags != NETRING_VNET_NEEDS_CSUM || vnet.csum_start != 34 ||
                         vnet.csum_offset != 16 || vnet.gso_size != packet.gso_size;
        }
        netring_block_release(block);
    }
    tap_diag("%u super-packets, the largest of %u bytes, %u others, MSS %d", large, largest, small,
             mss);
    ok(large > 0, "TCP: there are super-packets");
    ok(small > 0, "TCP: and plain ones");
    is_int(wrong, 0, "TCP: segment size, kind and checksum of each");
    is_int(capture_stats(capture).truncated, 0, "TCP: all whole");
    capture_close(capture);
    is_int(waitpid(child, NULL, 0), child, "TCP: the other end has ended");
    close(namespace);
    close(ready[0]);
    close(ready[1]);
}

/* ---- the call ---- */

static void test_call(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("lo", &config);
    struct net_udp udp = net_udp_open();
    struct netring_block *block = NULL;
    struct netring_packet packet;
    struct {
        struct netring_vnet vnet;
        uint8_t more[16];
    } out;
    static const uint8_t zeros[sizeof out];

    net_udp_send(&udp, "some data", 9);
    netring_capture_next_block(capture, 1000, &block);
    is_int(netring_block_read(block, &packet, sizeof packet, 1), 1, "no header: a packet");
    ok(!(packet.status & NETRING_PACKET_VNET), "no header: the status says so");
    is_int(packet.gso_size, 0, "no header: gso_size");
    memset(&out, 0x5a, sizeof out);
    is_int(netring_block_vnet(block, packet.cookie, &out.vnet, sizeof out), 0, "no header: 0");
    is_int(out.vnet.size, sizeof out, "no header: the size passed in");
    is_bytes((const uint8_t *)&out + 4, zeros, sizeof out - 4, "no header: zeros, to the end");
    is_int(netring_block_vnet(block, packet.cookie + 1, &out.vnet, sizeof out.vnet), NETRING_EINVAL,
           "a cookie of nothing");
    is_int(netring_block_vnet(block, packet.cookie, NULL, sizeof out.vnet), NETRING_EINVAL,
           "out NULL");
    is_int(netring_block_vnet(block, packet.cookie, &out.vnet, 8), NETRING_EINVAL, "size 8");
    netring_block_release(block);
    is_int(netring_block_vnet(block, packet.cookie, &out.vnet, sizeof out.vnet), NETRING_EBADF,
           "released");
    net_udp_close(&udp);
    capture_close(capture);
}

/* A slot that the kernel leaves unfilled would end a ring of frames for good. */
static void test_immediate(void)
{
    static const struct failure want = {
        NETRING_EINVAL, 0, "flags", {"VNET_HEADER does not go with NETRING_CAPTURE_IMMEDIATE"}};
    struct netring_capture_config config = small_config();

    config.flags |= NETRING_CAPTURE_VNET_HEADER | NETRING_CAPTURE_IMMEDIATE;
    open_fails("immediate mode", "lo", &config, &want);
}

int main(void)
{
    int tap;

    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    tap = net_tun("tap0", IFF_TAP | IFF_VNET_HDR);
    if (tap >= 0 && ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM) == 0) {
        test_given(tap);
        test_walks(tap);
        test_tagged(tap);
        test_skipped(tap);
    } else {
        tap_skip("packets of a tap device", "no tap device here");
    }
    test_udp();
    test_call();
    test_immediate();
    test_tcp();
    return tap_end();
}
