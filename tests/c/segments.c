#include "segments.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IPV4 = 20, IPV6 = 40, TCP = 20, UDP = 8, FIN = 1, PSH = 8, ACK = 16, CWR = 128 };

const struct kind kinds[KINDS] = {
    {.name = "TCP over IPv4", .protocol = 6, .gso_type = NETRING_GSO_TCPV4},
    {.name = "TCP over IPv6", .six = true, .protocol = 6, .gso_type = NETRING_GSO_TCPV6},
    {.name = "UDP over IPv4", .protocol = 17, .gso_type = NETRING_GSO_UDP_L4},
    {.name = "UDP over IPv6", .six = true, .protocol = 17, .gso_type = NETRING_GSO_UDP_L4},
    {.name = "TCP, tagged",
     .protocol = 6,
     .gso_type = NETRING_GSO_TCPV4,
     .tpid = {0x8100},
     .tci = {0x2005}},
    {.name = "TCP over IPv6, 802.1ad",
     .six = true,
     .protocol = 6,
     .gso_type = NETRING_GSO_TCPV6,
     .tpid = {0x88a8},
     .tci = {0xf007}},
    {.name = "TCP, two tags",
     .protocol = 6,
     .gso_type = NETRING_GSO_TCPV4,
     .tpid = {0x88a8, 0x8100},
     .tci = {7, 9}},
    {.name = "UDP, priority tag", .protocol = 17, .gso_type = NETRING_GSO_UDP_L4, .tpid = {0x8100}},
};

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static uint32_t sum(uint32_t start, const uint8_t *bytes, size_t length)
{
    uint64_t all = start;

    for (size_t i = 0; i < length; i++)
        all += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    while (all >> 16)
        all = (all & 0xffff) + (all >> 16);
    return (uint32_t)all;
}

size_t kind_network(const struct kind *kind)
{
    return ETHER_HEADER + 4 * ((kind->tpid[0] != 0) + (size_t)(kind->tpid[1] != 0));
}

size_t kind_transport(const struct kind *kind)
{
    return kind_network(kind) + (kind->six ? IPV6 : IPV4);
}

static size_t transport_length(const struct kind *kind)
{
    return kind->protocol == 6 ? TCP : UDP;
}

size_t kind_headers(const struct kind *kind)
{
    return kind_transport(kind) + transport_length(kind);
}

static size_t checksum_offset(const struct kind *kind)
{
    return kind->protocol == 6 ? 16 : 6;
}

static uint32_t pseudo_sum(const uint8_t *ip, const struct kind *kind, size_t length)
{
    uint32_t addresses = kind->six ? sum(0, ip + 8, 32) : sum(0, ip + 12, 8);
    uint8_t rest[4] = {0, kind->protocol, (uint8_t)(length >> 8), (uint8_t)length};

    return sum(addresses, rest, sizeof rest);
}

size_t kind_make(uint8_t *frame, const struct kind *kind, size_t payload, uint32_t number)
{
    static const uint8_t addresses[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
    size_t network = kind_network(kind), transport = kind_transport(kind);
    size_t length = transport_length(kind) + payload, at = 12;
    uint8_t *ip = frame + network, *l4 = frame + transport;

    memcpy(frame, addresses, sizeof addresses);
    for (size_t i = 0; i < 2; i++) {
        if (kind->tpid[i] == 0)
            continue;
        put16(frame + at, kind->tpid[i]);
        put16(frame + at + 2, kind->tci[i]);
        at += 4;
    }
    put16(frame + at, kind->six ? 0x86dd : 0x0800);
    memset(ip, 0, IPV6 + TCP);
    if (kind->six) {
        ip[0] = 0x60;
        put16(ip + 4, length);
        ip[6] = kind->protocol;
        ip[7] = 64;
        ip[8] = ip[24] = 0xfd;
        put32(ip + 20, number);
        ip[39] = 2;
    } else {
        ip[0] = 0x45;
        put16(ip + 2, IPV4 + length);
        put16(ip + 4, number);
        put16(ip + 6, 0x4000); /* is not to be fragmented */
        ip[8] = 64;
        ip[9] = kind->protocol;
        ip[12] = ip[16] = 10;
        put16(ip + 14, number);
        ip[19] = 2;
        put16(ip + 10, 0xffff & ~sum(0, ip, IPV4));
    }
    put16(l4, 1000);
    put16(l4 + 2, 2000);
    if (kind->protocol == 6) {
        put32(l4 + 4, number * 65536 + 7);
        put32(l4 + 8, 77);
        l4[12] = TCP / 4 << 4;
        l4[13] = ACK | PSH | FIN;
        put16(l4 + 14, 500);
    } else {
        put16(l4 + 4, length);
    }
    put16(l4 + checksum_offset(kind), pseudo_sum(ip, kind, length));
    for (size_t i = 0; i < payload; i++)
        frame[kind_headers(kind) + i] = (uint8_t)(i * 7 + (i >> 8) + number);
    return kind_headers(kind) + payload;
}

void kind_vnet(const struct kind *kind, uint16_t gso_size, struct netring_slot *slot)
{
    slot->vnet_flags = NETRING_VNET_NEEDS_CSUM;
    slot->csum_start = (uint16_t)kind_transport(kind);
    slot->csum_offset = (uint16_t)checksum_offset(kind);
    slot->gso_type = gso_size ? kind->gso_type : NETRING_GSO_NONE;
    slot->gso_size = gso_size;
    slot->hdr_len = gso_size ? (uint16_t)kind_headers(kind) : 0;
}

/* The frame that segment `index` must be, with all its sums. Returns its length. */
static size_t segment(uint8_t *out, const uint8_t *packet, size_t length, const struct kind *kind,
                      size_t gso_size, size_t index)
{
    size_t headers = kind_headers(kind), payload = length - headers;
    size_t from = index * gso_size, part = payload - from < gso_size ? payload - from : gso_size;
    uint8_t *ip = out + kind_network(kind), *l4 = out + kind_transport(kind);
    size_t l4_length = transport_length(kind) + part;

    memcpy(out, packet, headers);
    memcpy(out + headers, packet + headers + from, part);
    if (kind->six) {
        put16(ip + 4, l4_length);
    } else {
        put16(ip + 2, IPV4 + l4_length);
        put16(ip + 4, get16(ip + 4) + index);
        put16(ip + 10, 0);
        put16(ip + 10, 0xffff & ~sum(0, ip, IPV4));
    }
    if (kind->protocol == 6) {
        put32(l4 + 4, get32(l4 + 4) + (uint32_t)from);
        if (from + part < payload)
            l4[13] &= (uint8_t) ~(FIN | PSH);
        if (index > 0)
            l4[13] &= (uint8_t)~CWR;
    } else {
        put16(l4 + 4, l4_length);
    }
    put16(l4 + checksum_offset(kind), 0);
    put16(l4 + checksum_offset(kind),
          0xffff & ~sum(pseudo_sum(ip, kind, l4_length), l4, l4_length));
    if (get16(l4 + checksum_offset(kind)) == 0)
        put16(l4 + checksum_offset(kind), 0xffff);
    return headers + part;
}

bool sink_is_cut(struct sink *sink, const uint8_t *packet, size_t length, const struct kind *kind,
                 uint16_t gso_size, const char *what)
{
    size_t payload = length - kind_headers(kind), size = gso_size ? gso_size : payload;
    size_t count = size ? (payload + size - 1) / size : 1;
    uint8_t want[FRAME_MAX];

    for (size_t i = 0; i < count; i++) {
        size_t expected = segment(want, packet, length, kind, size, i), at = 0;
        size_t got = sink_next(sink, (int)tap_patience(1000));

        if (got == expected && memcmp(sink->frame, want, got) == 0)
            continue;
        while (at < got && at < expected && sink->frame[at] == want[at])
            at++;
        return ok(false, "%s: %s: segment %zu of %zu: %zu bytes for %zu, alike up to %zu", what,
                  kind->name, i, count, got, expected, at);
    }
    return ok(true, "%s: %s: %zu frames, with their sums", what, kind->name, count);
}

void offloads_off(const char *link)
{
    static const char *const names[] = {"tx-checksum-ip-generic",  "tx-tcp-segmentation",
                                        "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation",
                                        "tx-tcp6-segmentation",    "tx-udp-segmentation",
                                        "tx-generic-segmentation"};
    struct {
        struct ethtool_sset_info info;
        uint32_t count;
    } set = {.info = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1 << ETH_SS_FEATURES}};
    struct ethtool_gstrings *strings;
    struct ethtool_sfeatures *features;
    struct ifreq request = {.ifr_data = (char *)&set};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    size_t words;

    strncpy(request.ifr_name, link, IFNAMSIZ - 1);
    if (ioctl(fd, SIOCETHTOOL, &request) != 0)
        tap_bail("features of %s: %s", link, strerror(errno));
    words = (set.count + 31) / 32;
    strings = calloc(1, sizeof *strings + (size_t)set.count * ETH_GSTRING_LEN);
    features = calloc(1, sizeof *features + words * sizeof features->features[0]);
    if (!strings || !features)
        tap_bail("out of memory");
    strings->cmd = ETHTOOL_GSTRINGS;
    strings->string_set = ETH_SS_FEATURES;
    strings->len = set.count;
    request.ifr_data = (char *)strings;
    if (ioctl(fd, SIOCETHTOOL, &request) != 0)
        tap_bail("names of features: %s", strerror(errno));
    features->cmd = ETHTOOL_SFEATURES;
    features->size = (uint32_t)words;
    for (size_t i = 0; i < set.count; i++) {
        const char *name = (const char *)strings->data + i * ETH_GSTRING_LEN;

        for (size_t k = 0; k < COUNT(names); k++) {
            if (strncmp(name, names[k], ETH_GSTRING_LEN) == 0)
                features->features[i / 32].valid |= 1u << i % 32;
        }
    }
    request.ifr_data = (char *)features;
    if (ioctl(fd, SIOCETHTOOL, &request) < 0)
        tap_bail("offloads of %s: %s", link, strerror(errno));
    free(strings);
    free(features);
    close(fd);
}
