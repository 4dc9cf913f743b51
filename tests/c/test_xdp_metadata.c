/* NETRING_XDP_RX_METADATA: the hash that the kernel has for the packet's flow, and the VLAN tag
 * that it has taken out of the frame, come with the packet. A veth tells them; a bridge takes the
 * tags out, and a capture in front of it sees the same packets. */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { FLOWS = 16, LENGTH = 90, LARGE = 5000, COUNT_OF = 600, BATCH = 50 };

static const struct {
    const char *name;
    uint64_t flags;
    size_t length;
} ways[] = {
    {"one buffer", 0, LENGTH},
    {"several buffers", NETRING_XDP_MULTI_BUFFER, LARGE},
    {"several buffers, linear", NETRING_XDP_MULTI_BUFFER | NETRING_XDP_LINEAR, LARGE},
};

static int sender;

/* UDP over IPv4 from one of FLOWS ports, without the tag that flow_tci tells. */
static size_t flow_make(uint8_t *frame, size_t length, uint32_t number)
{
    uint16_t total = (uint16_t)(length - ETHER_HEADER), udp = (uint16_t)(total - 20);
    uint16_t port = (uint16_t)(1000 + number % FLOWS);
    /* clang-format off */
    const uint8_t header[] = {
        0x08, 0,
        0x45, 0, total >> 8, (uint8_t)total, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        port >> 8, (uint8_t)port, 0, 53, udp >> 8, (uint8_t)udp, 0, 0,
    };
    /* clang-format on */
    uint32_t sum = 0;

    frame_make(frame, length, number);
    memcpy(frame + 12, header, sizeof header);
    for (size_t i = 14; i < 34; i += 2)
        sum += (uint32_t)frame[i] << 8 | frame[i + 1];
    sum = ~((sum & 0xffff) + (sum >> 16));
    frame[24] = (uint8_t)(sum >> 8);
    frame[25] = (uint8_t)sum;
    return length;
}

/* 0: none. */
static uint16_t flow_tci(uint32_t number)
{
    return number % FLOWS % 3 == 0 ? (uint16_t)(0x6001 + number % FLOWS) : 0;
}

static void send_flow(uint32_t number, size_t length)
{
    uint8_t frame[FRAME_MAX];
    uint16_t tci = flow_tci(number);

    flow_make(frame, length, number);
    if (tci != 0)
        length = frame_tag(frame, length, number % 2 ? 0x88a8 : 0x8100, tci);
    net_send(sender, frame, length);
}

/* Packets in several frames: Linux 6.6. */
static bool has_several(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0;

    return uname(&name) == 0 && sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
           major * 100 + minor >= 606;
}

static struct netring_xdp *open_with(uint32_t mode, uint64_t flags, struct netring_queue **queue)
{
    struct netring_xdp_config config = NETRING_XDP_CONFIG_INIT;
    struct netring_error error;
    struct netring_xdp *xdp = NULL;
    int rc;

    config.redirect = NETRING_REDIRECT_ALL;
    config.mode = mode;
    config.flags = flags;
    config.rx_frames = 256;
    config.tx_frames = 64;
    rc = netring_xdp_open("va", NULL, 0, &config, &xdp, &error);
    if (rc == NETRING_EPERM)
        tap_skip_all("%s", error.message);
    if (rc < 0)
        tap_bail("netring_xdp_open: %s", error.message);
    if (netring_xdp_queue(xdp, 0, queue) < 0)
        tap_bail("netring_xdp_queue failed");
    return xdp;
}

/* The next packet for us: a bridge has some of its own. */
static struct netring_packet next_of(struct netring_queue *queue, struct netring_capture *capture)
{
    uint8_t to[FRAME_NUMBERED];
    struct netring_packet packet;
    int rc;

    frame_make(to, sizeof to, 0);
    do {
        rc = queue ? netring_queue_next_packet(queue, 2000, &packet, sizeof packet)
                   : netring_capture_next_packet(capture, 2000, &packet, sizeof packet);
        if (rc != 1)
            tap_bail("next_packet: %d", rc);
    } while (packet.caplen < 12 || memcmp(packet.data, to, 6) != 0);
    return packet;
}

static bool is_whole(const struct netring_packet *packet, const uint8_t *frame, size_t length)
{
    return packet->len == length && packet->caplen <= length &&
           (packet->caplen == length) == (packet->segments == 0) &&
           memcmp(packet->data, frame, packet->caplen) == 0;
}

/* What is told of each packet is what the capture is told. */
static void test_told(size_t way)
{
    const uint32_t told = NETRING_PACKET_RXHASH | NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID;
    const char *name = ways[way].name;
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("yb", &config);
    struct netring_queue *queue;
    struct netring_xdp *xdp =
        open_with(NETRING_MODE_COPY, ways[way].flags | NETRING_XDP_RX_METADATA, &queue);
    struct netring_xdp_info info;
    struct netring_xdp_step step;
    unsigned wrong = 0, tags = 0, hashes = 0;
    uint8_t frame[FRAME_MAX];

    netring_xdp_info(xdp, &info, sizeof info);
    if (netring_xdp_steps(xdp, &step, sizeof step, 1) > 0 &&
        strcmp(step.option, "rx_metadata") == 0) {
        tap_skip(name, step.message);
        ok(!(info.flags & NETRING_XDP_RX_METADATA), "%s: the info says so", name);
        netring_xdp_close(xdp);
        capture_close(capture);
        return;
    }
    ok(info.flags & NETRING_XDP_RX_METADATA, "%s: is to be had", name);
    for (uint32_t first = 0; first < COUNT_OF; first += BATCH) {
        struct netring_packet all[BATCH];
        bool whole[BATCH];

        for (uint32_t i = 0; i < BATCH; i++)
            send_flow(first + i, ways[way].length);
        for (uint32_t i = 0; i < BATCH; i++) {
            all[i] = next_of(queue, NULL);
            flow_make(frame, ways[way].length, first + i);
            whole[i] = is_whole(&all[i], frame, ways[way].length);
        }
        for (uint32_t i = 0; i < BATCH; i++) {
            const struct netring_packet *got = &all[i], want = next_of(NULL, capture);

            if ((got->status & told) != (want.status & told) || got->rxhash != want.rxhash ||
                got->vlan_tci != want.vlan_tci || got->vlan_tpid != want.vlan_tpid ||
                got->vlan_tci != flow_tci(first + i) || got->clock != NETRING_CLOCK_TAKEN ||
                !whole[i]) {
                if (++wrong <= 3)
                    tap_diag("%s: %u: status %#x, hash %#x, tag %#x %#x, clock %u, %u of %u bytes; "
                             "capture: %#x, %#x, %#x %#x",
                             name, first + i, got->status, got->rxhash, got->vlan_tpid,
                             got->vlan_tci, got->clock, got->caplen, got->len, want.status,
                             want.rxhash, want.vlan_tpid, want.vlan_tci);
            }
            tags += !!(got->status & NETRING_PACKET_VLAN);
            hashes += got->status & NETRING_PACKET_RXHASH && got->rxhash != 0;
        }
    }
    is_int(wrong, 0, "%s: hash, tag and bytes of every packet", name);
    ok(tags > COUNT_OF / 4 && tags < COUNT_OF / 2, "%s: %u tags", name, tags);
    is_int(hashes, COUNT_OF, "%s: every packet has a hash", name);
    netring_xdp_close(xdp);
    capture_close(capture);
}

/* Frames that had something in front do not show it to those who did not ask. */
static void test_not_asked(void)
{
    struct netring_queue *queue;
    struct netring_xdp *xdp = open_with(NETRING_MODE_COPY, 0, &queue);
    unsigned wrong = 0;

    for (uint32_t number = 0; number < 300; number++) {
        struct netring_packet got;

        send_flow(number, LENGTH);
        got = next_of(queue, NULL);
        wrong += got.status != 0 || got.rxhash != 0 || got.vlan_tci != 0;
    }
    is_int(wrong, 0, "without the flag nothing is told");
    netring_xdp_close(xdp);
}

/* Where there is none the open goes on, and says why. */
static void test_none(void)
{
    struct netring_queue *queue;
    struct netring_xdp *xdp = open_with(NETRING_MODE_SKB, NETRING_XDP_RX_METADATA, &queue);
    struct netring_xdp_info info;
    struct netring_xdp_step step;
    struct netring_packet got;

    netring_xdp_info(xdp, &info, sizeof info);
    ok(!(info.flags & NETRING_XDP_RX_METADATA), "SKB: the info does not have the flag");
    is_int(netring_xdp_steps(xdp, &step, sizeof step, 1), 1, "SKB: a step");
    is_str(step.option, "rx_metadata", "SKB: which");
    is_int(step.mode, NETRING_MODE_AUTO, "SKB: it is not about the mode");
    is_str_contains(step.message, "no RX metadata", "SKB: why");
    send_flow(1, LENGTH);
    got = next_of(queue, NULL);
    is_int(got.status, 0, "SKB: packets come without");
    netring_xdp_close(xdp);
}

static void test_refused(void)
{
    struct netring_xdp_config config = NETRING_XDP_CONFIG_INIT;
    struct netring_error error;
    struct netring_xdp *xdp = NULL;
    const struct failure want = {NETRING_EINVAL, 0, "flags", {"NETRING_XDP_RX_METADATA"}};
    int rc;

    config.redirect = NETRING_REDIRECT_NONE;
    config.flags = NETRING_XDP_RX_METADATA | NETRING_XDP_NO_PROGRAM;
    error_spoil(&error);
    errno = 0;
    rc = netring_xdp_open("va", NULL, 0, &config, &xdp, &error);
    is_failure(rc, errno, &error, &want, "without a program");
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    net_veth("ya", "yb");
    if (!net_link_new("bridge", "bridge", NULL))
        tap_skip_all("no bridge on this kernel");
    for (size_t i = 0; i < 5; i++)
        net_link_mtu((const char *[]){"va", "vb", "ya", "yb", "bridge"}[i], 6000);
    net_link_master("vb", "bridge");
    net_link_master("yb", "bridge");
    net_await_carrier("ya");
    net_await_carrier("vb");
    sender = net_sender("ya");
    test_refused();
    test_none();
    for (size_t way = 1; way < COUNT(ways); way++)
        if (has_several())
            test_told(way);
        else
            tap_skip(ways[way].name, "Linux 6.6");
    for (size_t i = 0; i < 5; i++)
        net_link_mtu((const char *[]){"va", "vb", "ya", "yb", "bridge"}[i], 1500);
    test_told(0);
    test_not_asked();
    close(sender);
    return tap_end();
}
