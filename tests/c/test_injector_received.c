/* Received packets leave as they came: what a1 receives from a0 is sent by b0, and what arrives at
 * b1 is what was sent to a1: tags, sums, and the segments that super-packets are cut into. b0
 * leaves nothing to its device, so b1 has what a wire would have. Last, real frames: every frame of
 * the savefile that NETRING_CORPUS names, read, sent, and compared byte for byte. */
#include "segments.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CORPUS "../shared/corpus/ethernet.pcap"

static uint8_t packet[SUPER_MAX];
static uint32_t kernel;
static struct netring_injector *source; /* on a0 */
static struct sink sink;                /* at b1 */

static bool is_possible(const struct kind *kind)
{
    return kind->gso_type != NETRING_GSO_UDP_L4 || kernel >= 0x060200;
}

/* Sends a packet to a1 as it is before a device. */
static size_t arrive(const struct kind *kind, size_t payload, uint16_t gso_size, uint32_t number)
{
    struct netring_slot slot;
    size_t length = kind_make(packet, kind, payload, number);

    must_reserve(source, &slot, 1);
    memcpy(slot.data, packet, length);
    slot.len = (uint32_t)length;
    kind_vnet(kind, gso_size, &slot);
    must_commit(source, &slot, 1);
    if (netring_injector_flush(source) != 1)
        tap_bail("%s did not leave", kind->name);
    return length;
}

/* Each combination of who keeps and who takes checksum and segmentation. */
static const struct way {
    const char *name;
    uint64_t capture, injector;
} ways[] = {
    {"vnet", NETRING_CAPTURE_VNET_HEADER, NETRING_INJECTOR_VNET_HEADER},
    {"vnet, tags back", NETRING_CAPTURE_VNET_HEADER | NETRING_CAPTURE_RESTORE_VLAN,
     NETRING_INJECTOR_VNET_HEADER},
    {"vnet received", NETRING_CAPTURE_VNET_HEADER, 0},
    {"vnet sent", 0, NETRING_INJECTOR_VNET_HEADER},
    {"plain", 0, 0},
    {"plain, tags back", NETRING_CAPTURE_RESTORE_VLAN, 0},
    {"immediate", NETRING_CAPTURE_IMMEDIATE, 0},
};

static struct netring_capture *open_capture(const struct way *way)
{
    struct netring_capture_config config = small_config();

    if (!(way->capture & NETRING_CAPTURE_IMMEDIATE)) {
        config.block_size = 256 * KIB; /* super-packets whole */
        config.block_count = 8;
    }
    config.flags |= way->capture;
    return capture_open("a1", &config);
}

static struct netring_injector *open_injector(const struct way *way, uint32_t method)
{
    struct netring_injector_config config = inject_config(method, 16);

    config.flags = way->injector;
    return injector_open("b0", &config);
}

/* The next packet that is received, alone in its block. */
static struct netring_block *next_packet(struct netring_capture *capture, struct netring_packet *p)
{
    struct netring_block *block = NULL;

    for (int i = 0; i < 100; i++) {
        if (netring_capture_next_block(capture, (int)tap_patience(1000), &block) != 1)
            break;
        if (netring_block_read(block, p, sizeof *p, 1) == 1)
            return block;
        netring_block_release(block);
    }
    tap_bail("nothing is received");
}

static int send_on(struct netring_injector *injector, struct netring_block *block,
                   const struct netring_packet *p)
{
    return netring_injector_send_packet(injector, block, p, sizeof *p, 1, 1000);
}

/* The call fails with these words. */
static void is_refused(struct netring_injector *injector, struct netring_block *block,
                       const struct netring_packet *p, int code, const char *option,
                       const char *words, const char *what)
{
    struct netring_error error;

    is_int(send_on(injector, block, p), code, "%s: refused", what);
    netring_injector_last_error(injector, &error);
    is_str(error.option, option, "%s: the option", what);
    is_str_contains(error.message, words, "%s: the words", what);
}

static void test_way(const struct way *way, const struct method *method)
{
    struct netring_capture *capture = open_capture(way);
    struct netring_injector *injector = open_injector(way, method->method);
    bool can_cut = (way->capture & NETRING_CAPTURE_VNET_HEADER) && way->injector;
    struct netring_block *block;
    struct netring_packet p;
    char what[100];

    snprintf(what, sizeof what, "%s, %s", way->name, method->name);
    for (size_t k = 0; k < KINDS; k++) {
        for (size_t payload = 0; payload < 1300; payload += 433) {
            size_t length = arrive(&kinds[k], payload, 0, (uint32_t)payload);

            block = next_packet(capture, &p);
            if (payload == 0)
                ok(p.status & NETRING_PACKET_CSUM_NOT_READY, "%s: a checksum is missing", what);
            is_int(send_on(injector, block, &p), 1, "%s: %s goes on", what, kinds[k].name);
            sink_is_cut(&sink, packet, length, &kinds[k], 0, what);
            netring_block_release(block);
        }
        if (is_possible(&kinds[k]) && !(way->capture & NETRING_CAPTURE_IMMEDIATE)) {
            size_t length = arrive(&kinds[k], k % 2 ? 60000 : 5000, 1300, 5);

            block = next_packet(capture, &p);
            ok(p.len > 4000, "%s: %s: a super-packet", what, kinds[k].name);
            if (can_cut) {
                is_int(send_on(injector, block, &p), 1, "%s: %s goes on", what, kinds[k].name);
                sink_is_cut(&sink, packet, length, &kinds[k], 1300, what);
            } else {
                is_int(send_on(injector, block, &p), NETRING_EMSGSIZE, "%s: %s is refused", what,
                       kinds[k].name);
            }
            netring_block_release(block);
        }
    }
    sink_is_empty(&sink, what);
    adds_up(injector, what);
    injector_close(injector);
    capture_close(capture);
}

/* Frames without any of it: inline tags of every kind, runts, in batches. */
static void test_frames(const struct way *way)
{
    enum { FRAMES = 300 };
    struct netring_capture *capture = open_capture(way);
    struct netring_injector *injector = open_injector(way, NETRING_METHOD_AUTO);
    int from = net_sender("a0");
    uint8_t frame[FRAME_MAX];
    uint32_t sent = 0, first = 0;

    for (uint32_t i = 0; i < FRAMES; i++) {
        struct netring_packet p[40];
        struct netring_block *block;
        int got;

        net_send(from, frame, stream_make(frame, i));
        if (i % 10 != 9) /* as many as the smallest ring holds */
            continue;
        while (sent <= i && netring_capture_next_block(capture, 1000, &block) == 1) {
            while ((got = netring_block_read(block, p, sizeof *p, COUNT(p))) > 0) {
                int gone =
                    netring_injector_send_packet(injector, block, p, sizeof *p, (size_t)got, 1000);

                if (gone != got)
                    is_int(gone, got, "%s: a batch from %u on", way->name, sent);
                sent += (uint32_t)got;
            }
            netring_block_release(block);
        }
        sink_is_stream(&sink, first, sent - first, way->name);
        first = sent;
    }
    is_int(sent, FRAMES, "%s: all", way->name);
    close(from);
    injector_close(injector);
    capture_close(capture);
}

/* The bytes are those there now. */
static void test_changed(void)
{
    struct netring_capture *capture = open_capture(&ways[0]), *plain = open_capture(&ways[4]);
    struct netring_injector *injector = open_injector(&ways[0], NETRING_METHOD_AUTO);
    struct netring_injector *other = open_injector(&ways[4], NETRING_METHOD_AUTO);
    const struct kind *tagged = &kinds[7], *udp = &kinds[2];
    struct netring_packet p, changed;
    struct netring_block *block;
    uint8_t swap[6];
    size_t length;

    /* Addresses swapped in place, under a tag beside the bytes. */
    length = arrive(tagged, 100, 0, 1);
    block = next_packet(capture, &p);
    memcpy(swap, p.data, 6);
    memcpy(p.data, p.data + 6, 6);
    memcpy(p.data + 6, swap, 6);
    memcpy(packet, p.data, 12);
    is_int(send_on(injector, block, &p), 1, "swapped");
    sink_is_cut(&sink, packet, length, tagged, 0, "swapped");
    /* Another tag, and payload: the checksum is computed with it. */
    p.vlan_tci = 0x123;
    p.data[p.caplen - 1] ^= 0xff;
    packet[length - 1] ^= 0xff;
    packet[14] = 0x01;
    packet[15] = 0x23;
    is_int(send_on(injector, block, &p), 1, "changed");
    sink_is_cut(&sink, packet, length, tagged, 0, "changed");
    /* No tag; an EtherType that is not known is that of 802.1Q. */
    changed = p;
    changed.status &= ~(uint32_t)NETRING_PACKET_VLAN_TPID;
    changed.vlan_tpid = 0;
    is_int(send_on(injector, block, &changed), 1, "an unknown tpid");
    sink_is_cut(&sink, packet, length, tagged, 0, "an unknown tpid");
    netring_block_release(block);
    block = next_packet(plain, &p);
    netring_block_release(block);

    /* Made shorter: the capture knows the checksum's place, and it covers what is left. Without,
     * the IP header must fit. */
    length = arrive(udp, 50, 0, 2);
    block = next_packet(capture, &p);
    p.caplen = 44;
    is_int(send_on(injector, block, &p), 1, "shorter");
    is_int(sink_next(&sink, 1000), 44, "shorter: as it is now");
    p.caplen = 41;
    is_refused(injector, block, &p, NETRING_EINVAL, "checksum", "behind the end", "too short");
    netring_block_release(block);
    block = next_packet(plain, &p);
    p.caplen = (uint32_t)length - 1;
    is_refused(other, block, &p, NETRING_EINVAL, "checksum", "does not fit its length", "shorter");
    p.caplen = 40;
    p.status &= ~(uint32_t)NETRING_PACKET_CSUM_NOT_READY;
    is_int(send_on(other, block, &p), 1, "no checksum is missing");
    is_int(sink_next(&sink, 1000), 40, "as short as it is now");
    is_bytes(sink.frame, p.data, 40, "and as it is");
    netring_block_release(block);
    /* Written by the caller. */
    arrive(udp, 50, 0, 3);
    block = next_packet(capture, &p);
    p.status &= ~(uint32_t)NETRING_PACKET_CSUM_NOT_READY;
    p.data[40] = 0x12;
    is_int(send_on(injector, block, &p), 1, "written by the caller");
    is_int(sink_next(&sink, 1000), length, "written by the caller: whole");
    is_bytes(sink.frame, p.data, length, "and as it is");
    netring_block_release(block);
    /* Other addresses: TCP is summed anew, of UDP nobody knows what is missing. */
    netring_block_release(next_packet(plain, &p));
    for (size_t k = 0; k <= 2; k += 2) {
        length = arrive(&kinds[k], 50, 0, 4);
        block = next_packet(plain, &p);
        packet[28]++; /* and one hop less: the sum of the IP header stays */
        packet[22]--;
        memcpy(p.data, packet, length);
        if (k == 0) {
            is_int(send_on(other, block, &p), 1, "another address");
            sink_is_cut(&sink, packet, length, &kinds[k], 0, "another address");
        } else {
            is_refused(other, block, &p, NETRING_EINVAL, "checksum", "tunnel", "another address");
        }
        netring_block_release(block);
    }
    injector_close(injector);
    injector_close(other);
    capture_close(capture);
    capture_close(plain);
}

static void test_refused(void)
{
    struct netring_capture *capture = open_capture(&ways[4]), *cut;
    struct netring_injector *injector = open_injector(&ways[4], NETRING_METHOD_AUTO);
    struct netring_capture_config config = small_config();
    struct netring_packet p[3], changed;
    struct netring_block *block, *other;
    uint8_t frame[200];
    int from = net_sender("a0"), tun;

    config.snap_length = 50;
    cut = capture_open("a1", &config);
    net_send(from, frame, frame_make(frame, 100, 7));
    block = next_packet(cut, &p[0]);
    is_refused(injector, block, &p[0], NETRING_EINVAL, "caplen", "100 bytes was truncated to 50",
               "truncated");
    p[0].status &= ~(uint32_t)NETRING_PACKET_TRUNCATED;
    is_int(send_on(injector, block, &p[0]), 1, "truncated: on purpose");
    is_int(sink_next(&sink, 1000), 50, "truncated: what there is");
    other = next_packet(capture, &p[1]);
    is_refused(injector, block, &p[1], NETRING_EINVAL, "packets", "in this block",
               "a packet of another block");
    changed = p[1];
    changed.cookie += 4;
    is_refused(injector, other, &changed, NETRING_EINVAL, "cookie", "names no packet", "no packet");
    changed = p[1];
    changed.caplen = 0;
    is_refused(injector, other, &changed, NETRING_EINVAL, "packets", "no bytes", "no bytes");
    changed.caplen = 13;
    is_refused(injector, other, &changed, NETRING_EINVAL, "len", "13 bytes", "no header");
    changed = p[1];
    changed.status |= NETRING_PACKET_CSUM_NOT_READY;
    is_refused(injector, other, &changed, NETRING_EINVAL, "checksum", "neither IPv4 nor IPv6",
               "no checksum to compute");
    changed.status = (p[1].status | NETRING_PACKET_GSO_TCP);
    is_refused(injector, other, &changed, NETRING_EMSGSIZE, "gso", "NETRING_INJECTOR_VNET_HEADER",
               "a super-packet");
    changed = p[1];
    changed.status |= NETRING_PACKET_VLAN;
    changed.caplen = 11;
    is_refused(injector, other, &changed, NETRING_EINVAL, "vlan_tci", "two Ethernet addresses",
               "no place for a tag");
    /* Those before a bad one go. */
    changed = p[1];
    p[2] = p[1];
    p[2].link_type = NETRING_LINKTYPE_RAW;
    p[0] = p[1];
    is_int(netring_injector_send_packet(injector, other, p, sizeof *p, 3, 1000), 2,
           "up to the first bad one");
    is_int(sink_next(&sink, 1000), 100, "the first");
    is_int(sink_next(&sink, 1000), 100, "the second");
    is_refused(injector, other, &p[2], NETRING_EINVAL, "link_type",
               "link type 101 does not fit an interface of link type 1", "another link type");
    is_int(netring_injector_send_packet(injector, NULL, p, sizeof *p, 1, 0), NETRING_EBADF,
           "no block");
    is_int(netring_injector_send_packet(injector, other, NULL, sizeof *p, 1, 0), NETRING_EINVAL,
           "no packets");
    is_int(netring_injector_send_packet(injector, other, p, 60, 1, 0), NETRING_EINVAL, "size 60");
    is_int(netring_injector_send_packet(injector, other, p, sizeof *p, 0, 0), NETRING_EINVAL,
           "count 0");
    netring_block_release(other);
    is_int(send_on(injector, other, &p[1]), NETRING_EBADF, "released");
    netring_block_release(block);
    sink_is_empty(&sink, "refused");

    /* The other way round: an interface without Ethernet. */
    tun = net_tun("tun0", IFF_TUN);
    if (tun < 0) {
        tap_skip("Ethernet to a tun device", "there is none here");
    } else {
        struct netring_injector_config raw = inject_config(NETRING_METHOD_AUTO, 16);
        struct netring_injector *to = injector_open("tun0", &raw);

        net_send(from, frame, frame_make(frame, 100, 8));
        block = next_packet(capture, &p[0]);
        is_refused(to, block, &p[0], NETRING_EINVAL, "link_type",
                   "link type 1 does not fit an interface of link type 101", "Ethernet to tun");
        netring_block_release(block);
        injector_close(to);
        close(tun);
    }
    close(from);
    adds_up(injector, "refused");
    injector_close(injector);
    capture_close(cut);
    capture_close(capture);
}

/* ---- real frames ---- */

static uint32_t little(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void test_corpus(void)
{
    const char *path = getenv("NETRING_CORPUS") ? getenv("NETRING_CORPUS") : CORPUS;
    struct netring_injector_config config = inject_config(NETRING_METHOD_AUTO, 256);
    struct netring_injector *injector;
    struct netring_reader *reader = NULL;
    struct netring_block *block;
    struct netring_packet p[32];
    FILE *file = fopen(path, "re");
    uint8_t header[24], record[16];
    uint32_t sent = 0, wrong = 0, refused = 0;
    int got;

    if (!file) {
        tap_skip("real frames", "no savefile (NETRING_CORPUS names one)");
        return;
    }
    if (fread(header, sizeof header, 1, file) != 1 ||
        netring_reader_open(path, NULL, &reader, NULL))
        tap_bail("%s is no savefile", path);
    if (little(header) != 0xa1b2c3d4 && little(header) != 0xa1b23c4d)
        tap_bail("%s is of another byte order", path);
    config.slot_size = FRAME_MAX + 4;
    injector = injector_open("b0", &config);
    while (netring_reader_next_block(reader, 1000, &block) == 1) {
        while ((got = netring_block_read(block, p, sizeof *p, COUNT(p))) > 0) {
            for (int at = 0; at < got;) {
                int gone = netring_injector_send_packet(injector, block, p + at, sizeof *p,
                                                        (size_t)(got - at), 1000);
                int count = gone > 0 ? gone : 1;

                for (int i = 0; i < count; i++) {
                    uint8_t frame[65536];
                    size_t length, arrived;

                    if (fread(record, sizeof record, 1, file) != 1)
                        tap_bail("fewer frames in the file");
                    length = little(record + 8);
                    if (length > sizeof frame || fread(frame, 1, length, file) != length)
                        tap_bail("a frame of the file cannot be read");
                    if (gone <= 0) {
                        refused++;
                        continue;
                    }
                    arrived = sink_next(&sink, 1000);
                    wrong += arrived != length || memcmp(frame, sink.frame, length) != 0;
                    sent++;
                }
                at += count;
            }
        }
        netring_block_release(block);
    }
    tap_diag("%u frames, %u refused", sent, refused);
    ok(sent > 100, "there are real frames");
    is_int(refused, 0, "none is refused");
    is_int(wrong, 0, "each arrives byte for byte");
    fclose(file);
    netring_reader_close(reader);
    injector_close(injector);
}

int main(void)
{
    struct netring_injector_config config = inject_config(NETRING_METHOD_SENDMMSG, 16);

    tap_begin(90);
    net_enter();
    net_veth("a0", "a1");
    net_veth("b0", "b1");
    net_await_carrier("a0");
    net_await_carrier("b0");
    offloads_off("b0");
    config.flags = NETRING_INJECTOR_VNET_HEADER;
    source = injector_open("a0", &config);
    kernel = injector_info(source).kernel_version;
    sink_open(&sink, "b1");
    for (size_t i = 0; i < COUNT(ways); i++) {
        test_way(&ways[i], &methods[0]);
        test_way(&ways[i], &methods[1]);
        test_frames(&ways[i]);
    }
    test_changed();
    test_refused();
    is_int(sink_drops(&sink), 0, "the receiver had room");
    sink_close(&sink);
    injector_close(source);

    net_link_mtu("b0", 9000);
    net_link_mtu("b1", 9000);
    sink_open(&sink, "b1");
    test_corpus();
    sink_close(&sink);
    return tap_end();
}
