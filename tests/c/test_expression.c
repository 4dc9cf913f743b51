/* Filter expressions: what they mean where the kernel takes VLAN tags out of the bytes and where it
 * does not, on Ethernet, raw IP and "any"; what is refused, and in which words; that nothing is
 * looked up.
 * no-archive: the same code. no-valgrind: libpcap's optimiser takes minutes under it. */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLAIN = 60, TAGGED = 130, FRAMES = PLAIN + TAGGED, SNAP = 40 };

static struct {
    uint8_t bytes[128];
    size_t length;
} frames[FRAMES];

/* ---- frames ---- */

static void put_16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* An Ethernet frame: IPv4 (TCP or UDP), IPv6 or ARP. Returns its length. */
static size_t make_frame(uint8_t *frame, unsigned number, unsigned kind)
{
    static const uint8_t from[] = {10, 0, 0, 1}, to[] = {10, 0, 0, 2};
    const size_t length = 60 + number % 20;

    memset(frame, 0, length);
    memset(frame, 0xff, 6);
    frame[6] = 2;
    frame[11] = (uint8_t)number;
    switch (kind) {
    case 0: /* IPv4 */
        put_16(frame + 12, 0x0800);
        frame[14] = 0x45;
        put_16(frame + 16, (unsigned)length - 14);
        frame[22] = 64;
        frame[23] = number % 2 ? 6 : 17;
        memcpy(frame + 26, from, 4);
        memcpy(frame + 30, to, 4);
        frame[33] = (uint8_t)(2 + number % 3);
        put_16(frame + 34, 1000 + number % 2);
        put_16(frame + 36, 80);
        break;
    case 1: /* IPv6 */
        put_16(frame + 12, 0x86dd);
        frame[14] = 0x60;
        put_16(frame + 18, (unsigned)length - 54);
        frame[20] = 17;
        frame[38] = 0xff;
        put_16(frame + 56, 80);
        break;
    default:
        put_16(frame + 12, 0x0806);
        break;
    }
    return length;
}

static void make_frames(void)
{
    for (unsigned n = 0; n < FRAMES; n++) {
        uint8_t *frame = frames[n].bytes;
        size_t length = make_frame(frame, n, n < PLAIN ? 0 : n % 5 ? n % 3 : 0);

        if (n >= PLAIN) {
            static const uint16_t numbers[] = {100, 200, 100, 0};

            if (n % 3 == 0) /* the inner tag first */
                length = frame_tag(frame, length, 0x8100, n % 2 ? 100 : 200);
            length = frame_tag(frame, length, n % 2 ? 0x8100 : 0x88a8,
                               (uint16_t)(n % 8 << 13 | numbers[n / 3 % 4]));
        }
        frames[n].length = length;
    }
}

/* ---- libpcap ---- */

struct pcap_header {
    struct timeval time;
    uint32_t caplen, len;
};

struct program {
    unsigned length;
    struct sock_filter *instructions;
};

static struct {
    void *(*open_dead)(int link_type, int snap_length);
    int (*compile)(void *pcap, struct program *program, const char *text, int optimise,
                   uint32_t netmask);
    unsigned (*filter)(const struct sock_filter *program, const uint8_t *packet, unsigned length,
                       unsigned caplen);
    void (*free_code)(struct program *program);
    void *(*create)(const char *interface, char *error);
    int (*set_number)(void *pcap, int number); /* pcap_set_buffer_size */
    int (*set_timeout)(void *pcap, int milliseconds);
    int (*activate)(void *pcap);
    int (*set_filter)(void *pcap, struct program *program);
    int (*set_nonblock)(void *pcap, int on, char *error);
    int (*next_ex)(void *pcap, struct pcap_header **header, const uint8_t **data);
    void (*close)(void *pcap);
} pcap;

static bool load_libpcap(void)
{
    void *library = libpcap_open();

    return library && library_find(library, "pcap_open_dead", &pcap.open_dead) &&
           library_find(library, "pcap_compile", &pcap.compile) &&
           library_find(library, "bpf_filter", &pcap.filter) &&
           library_find(library, "pcap_freecode", &pcap.free_code) &&
           library_find(library, "pcap_create", &pcap.create) &&
           library_find(library, "pcap_set_buffer_size", &pcap.set_number) &&
           library_find(library, "pcap_set_timeout", &pcap.set_timeout) &&
           library_find(library, "pcap_activate", &pcap.activate) &&
           library_find(library, "pcap_setfilter", &pcap.set_filter) &&
           library_find(library, "pcap_setnonblock", &pcap.set_nonblock) &&
           library_find(library, "pcap_next_ex", &pcap.next_ex) &&
           library_find(library, "pcap_close", &pcap.close);
}

/* The program for the bytes of a frame. */
static struct program offline(const char *text)
{
    struct program program = {0, NULL};
    void *dead = pcap.open_dead(1, 262144);

    if (!dead || pcap.compile(dead, &program, text, 1, 0xffffffff) != 0)
        tap_bail("libpcap does not compile \"%s\"", text);
    pcap.close(dead);
    return program;
}

static unsigned count_offline(const struct program *program)
{
    unsigned count = 0;

    for (size_t n = 0; n < FRAMES; n++)
        count += pcap.filter(program->instructions, frames[n].bytes, (unsigned)frames[n].length,
                             (unsigned)frames[n].length) != 0;
    return count;
}

/* libpcap capturing, as tcpdump does. */
static void *live(const char *interface, const char *text)
{
    char error[256];
    struct program program;
    void *handle = pcap.create(interface, error);

    if (!handle || pcap.set_number(handle, MIB) != 0 || pcap.set_timeout(handle, 10) != 0 ||
        pcap.activate(handle) < 0 || pcap.set_nonblock(handle, 1, error) != 0 ||
        pcap.compile(handle, &program, text, 1, 0xffffffff) != 0 ||
        pcap.set_filter(handle, &program) != 0)
        tap_bail("libpcap does not capture on %s: \"%s\"", interface, text);
    pcap.free_code(&program);
    return handle;
}

/* What it has got, once its timer has run out. */
static unsigned count_live(void *handle)
{
    struct pcap_header *header;
    const uint8_t *data;
    unsigned count = 0;
    int64_t quiet = now_ms();

    while (now_ms() - quiet < tap_patience(60)) {
        if (pcap.next_ex(handle, &header, &data) == 1) {
            count++;
            quiet = now_ms();
        } else {
            sleep_ms(2);
        }
    }
    pcap.close(handle);
    return count;
}

/* ---- filters and captures ---- */

static int compile(const char *text, uint64_t flags, struct netring_filter **filter,
                   struct netring_error *error)
{
    struct netring_filter_config config = NETRING_FILTER_CONFIG_INIT;

    config.flags = flags;
    return netring_filter_compile(text, strlen(text), &config, filter, error);
}

static struct netring_filter *filter_of(const char *text, uint64_t flags)
{
    struct netring_filter *filter;
    struct netring_error error;

    if (compile(text, flags, &filter, &error) != 0)
        tap_bail("\"%s\" does not compile: %s", text, error.message);
    return filter;
}

static struct netring_capture *capture_with(const char *interface, struct netring_filter *filter,
                                            uint32_t snap_length)
{
    struct netring_capture_config config = small_config();

    config.block_count = 4;
    config.filter = filter;
    config.snap_length = snap_length;
    return capture_open(interface, &config);
}

/* What a capture has got, no more than `snap_length` of each, and ends it. */
static unsigned count_captured(struct netring_capture *capture, uint32_t snap_length)
{
    struct records records = {0, 0, NULL};
    unsigned count;

    netring_capture_stop(capture);
    receive(capture, SIZE_MAX, 0, &records);
    count = (unsigned)records.count;
    for (size_t i = 0; i < records.count; i++)
        if (snap_length && records.v[i].packet.caplen > snap_length)
            ok(false, "packet %zu has %u bytes, %u were asked for", i, records.v[i].packet.caplen,
               snap_length);
    records_free(&records);
    capture_close(capture);
    return count;
}

/* ---- the meaning of tags ---- */

/* `offline_differs`: libpcap's program for the bytes, as it is, is wrong where the kernel has taken
 * the tag out. */
static const struct {
    const char *text;
    bool offline_differs;
} meanings[] = {
    {"vlan", true},
    {"vlan 100", true},
    {"vlan 100 and ip", true},
    {"vlan 100 and vlan 200", true},
    {"vlan and ip", true},
    {"not vlan", true},
    {"ip", true},
    {"ether proto 0x8100", true},
    {"udp port 80", true},
    {"host 10.0.0.3 or vlan 200", true},
    {"ether[14:2] & 0xfff = 100", true},
    {"len > 75", true},
    {"ether[11] & 3 = 1", false},
};

static const struct {
    const char *name, *interface;
} sides[] = {{"received", "vb"}, {"sent", "va"}};

/* `thorough`: tcpdump's meaning with a snap length too. */
static void test_meaning(const char *text, bool offline_differs, bool thorough, int sender)
{
    static const uint32_t snaps[] = {0, SNAP};
    struct program program = offline(text);
    const unsigned wire = count_offline(&program);
    struct netring_filter *as_wire = filter_of(text, 0);
    struct netring_filter *as_tcpdump = filter_of(text, NETRING_FILTER_TCPDUMP);
    struct netring_filter *as_it_is;
    struct netring_capture *captures[2][2][2], *witnesses[2], *naive;
    unsigned tcpdump[2], wrong;
    void *handles[2];

    if (netring_filter_new(program.instructions, program.length, &as_it_is, NULL) != 0)
        tap_bail("\"%s\" makes no filter", text);
    /* First opened, last served. */
    for (size_t side = 0; side < 2; side++)
        witnesses[side] = capture_with(sides[side].interface, NULL, 0);
    for (size_t side = 0; side < 2; side++) {
        handles[side] = live(sides[side].interface, text);
        for (size_t snap = 0; snap < 2; snap++) {
            captures[side][snap][0] = capture_with(sides[side].interface, as_wire, snaps[snap]);
            if (snap == 0 || thorough)
                captures[side][snap][1] =
                    capture_with(sides[side].interface, as_tcpdump, snaps[snap]);
        }
    }
    naive = capture_with("vb", as_it_is, 0);
    for (size_t n = 0; n < FRAMES; n++)
        net_send(sender, frames[n].bytes, frames[n].length);
    for (size_t side = 0; side < 2; side++) {
        await_seen(witnesses[side], FRAMES);
        capture_close(witnesses[side]);
        tcpdump[side] = count_live(handles[side]);
        for (size_t snap = 0; snap < 2; snap++) {
            const char *how = snap ? ", with a snap length" : "";

            is_int(count_captured(captures[side][snap][0], snaps[snap]), wire,
                   "%s: %s%s: as on the wire", text, sides[side].name, how);
            if (snap == 0 || thorough)
                is_int(count_captured(captures[side][snap][1], snaps[snap]), tcpdump[side],
                       "%s: %s%s: as tcpdump", text, sides[side].name, how);
        }
    }
    wrong = count_captured(naive, 0);
    ok((wrong != wire) == offline_differs, "%s: libpcap's program as it is: %u, the wire: %u", text,
       wrong, wire);
    tap_diag("| `%s` | %u | %u | %u | %u |", text, wire, tcpdump[0], tcpdump[1], wrong);
    netring_filter_free(as_it_is);
    netring_filter_free(as_tcpdump);
    netring_filter_free(as_wire);
    pcap.free_code(&program);
}

/* In user space: with the tag in the bytes, and beside them. */
static void test_match(void)
{
    for (size_t i = 0; i < COUNT(meanings); i++) {
        struct program program = offline(meanings[i].text);
        struct netring_filter *filter = filter_of(meanings[i].text, 0);
        unsigned inside = 0, beside = 0, wire = count_offline(&program);

        for (size_t n = 0; n < FRAMES; n++) {
            uint8_t bytes[sizeof frames[n].bytes];
            struct netring_packet packet = {
                .data = frames[n].bytes,
                .caplen = (uint32_t)frames[n].length,
                .len = (uint32_t)frames[n].length,
                .link_type = NETRING_LINKTYPE_ETHERNET,
            };

            inside += netring_filter_match(filter, &packet, sizeof packet) > 0;
            if (n >= PLAIN) {
                memcpy(bytes, frames[n].bytes, 12);
                memcpy(bytes + 12, frames[n].bytes + 16, frames[n].length - 16);
                packet.data = bytes;
                packet.caplen = packet.len = (uint32_t)frames[n].length - 4;
                packet.status = NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID;
                packet.vlan_tpid = (uint16_t)(frames[n].bytes[12] << 8 | frames[n].bytes[13]);
                packet.vlan_tci = (uint16_t)(frames[n].bytes[14] << 8 | frames[n].bytes[15]);
            }
            beside += netring_filter_match(filter, &packet, sizeof packet) > 0;
        }
        is_int(inside, wire, "match: %s: tags in the bytes", meanings[i].text);
        is_int(beside, wire, "match: %s: tags beside them", meanings[i].text);
        netring_filter_free(filter);
        pcap.free_code(&program);
    }
}

/* A savefile has its tags in the bytes. */
static void test_reader(void)
{
    FILE *file = tmpfile();
    const uint32_t head[] = {0xa1b2c3d4, 0x00040002, 0, 0, 65535, 1};

    if (!file || fwrite(head, sizeof head, 1, file) != 1)
        tap_bail("no file");
    for (size_t n = 0; n < FRAMES; n++) {
        const uint32_t record[] = {1, 0, (uint32_t)frames[n].length, (uint32_t)frames[n].length};

        if (fwrite(record, sizeof record, 1, file) != 1 ||
            fwrite(frames[n].bytes, frames[n].length, 1, file) != 1)
            tap_bail("no file");
    }
    fflush(file);
    for (size_t i = 0; i < COUNT(meanings); i++) {
        struct netring_reader_config config = NETRING_READER_CONFIG_INIT;
        struct program program = offline(meanings[i].text);
        struct netring_reader *reader;
        struct netring_packet packet;
        unsigned count = 0;

        config.filter = filter_of(meanings[i].text, 0);
        lseek(fileno(file), 0, SEEK_SET);
        if (netring_reader_open_fd(fileno(file), &config, &reader, NULL) != 0)
            tap_bail("no reader");
        netring_filter_free(config.filter);
        while (netring_reader_next_packet(reader, 0, &packet, sizeof packet) == 1)
            count++;
        is_int(count, count_offline(&program), "reader: %s", meanings[i].text);
        netring_reader_close(reader);
        pcap.free_code(&program);
    }
    fclose(file);
}

/* ---- link types ---- */

static void open_refused(const char *interface, const char *text, uint64_t flags, const char *words,
                         const char *more)
{
    const struct failure failure = {NETRING_EFILTER, 0, "expression", {words, more}};
    struct netring_capture_config config = small_config();
    struct netring_filter *filter = filter_of(text, flags);

    config.filter = filter;
    open_fails(text, interface, &config, &failure);
    netring_filter_free(filter);
}

static void test_lo(void)
{
    struct net_udp udp = net_udp_open();
    struct netring_filter *yes = filter_of("ip and udp and len = 52", 0);
    struct netring_filter *no = filter_of("tcp or vlan or ip6", 0);
    struct netring_capture *matches = capture_with("lo", yes, 0);
    struct netring_capture *matches_not = capture_with("lo", no, 0);

    for (int i = 0; i < 7; i++)
        net_udp_send(&udp, "ten bytes.", 10);
    await_seen(matches, 14); /* each one twice */
    is_int(count_captured(matches, 0), 7, "lo: matches");
    is_int(count_captured(matches_not, 0), 0, "lo: matches not");
    netring_filter_free(no);
    netring_filter_free(yes);
    net_udp_close(&udp);
}

/* A UDP packet without a link-layer header; the port says whose. */
static size_t raw_packet(uint8_t *packet, uint16_t port)
{
    uint8_t frame[128];
    size_t length = make_frame(frame, 2, 0) - ETHER_HEADER;

    put_16(frame + 36, port);
    memcpy(packet, frame + ETHER_HEADER, length);
    return length;
}

static void test_tun_and_any(int sender)
{
    struct ifreq request = {.ifr_name = "etun", .ifr_flags = IFF_TUN | IFF_NO_PI};
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    struct netring_filter *udp = filter_of("udp dst port 4711", 0);
    struct netring_filter *other = filter_of("not udp dst port 4711", 0);
    struct netring_filter *tagged = filter_of("vlan 100", NETRING_FILTER_REJECT_OTHERS);
    struct program wire = offline("vlan 100");
    struct netring_capture *on_tun, *on_any, *witness;
    struct records records = {0, 0, NULL};
    struct netring_capture_config config = small_config();
    uint8_t packet[128];
    unsigned from_tun = 0;

    open_refused("any", "vlan 100", 0, "raw IP", "NETRING_FILTER_REJECT_OTHERS");
    open_refused("any", "ether host 2:0:0:0:0:1", 0, "raw IP", "single interfaces");
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) != 0) {
        if (tun >= 0)
            close(tun);
        tap_skip("filters on tun", "no tun device here");
        goto done;
    }
    net_link_up("etun", true);
    open_refused("etun", "vlan 100", 0, "for raw IP", "VLAN");
    open_refused("etun", "ether host 2:0:0:0:0:1", NETRING_FILTER_REJECT_OTHERS, "for raw IP", "");

    config.filter = NULL;
    witness = capture_open("etun", &config);
    on_tun = capture_with("etun", udp, 0);
    config.filter = udp;
    on_any = capture_open("any", &config);
    for (uint16_t port = 4710; port < 4713; port++)
        if (write(tun, packet, raw_packet(packet, port)) < 0)
            tap_bail("tun: %s", strerror(errno));
    await_seen(witness, 3);
    capture_close(witness);
    is_int(count_captured(on_tun, 0), 1, "tun: one of three");
    for (uint16_t port = 4710; port < 4713; port++) {
        uint8_t frame[128];
        size_t length = make_frame(frame, 2, 0);

        put_16(frame + 36, port);
        net_send(sender, frame, length);
    }
    /* One from tun, one going out of va, one coming in on vb. */
    is_int(receive(on_any, 3, 2000, &records), 1, "any: a block");
    netring_capture_stop(on_any);
    receive(on_any, SIZE_MAX, 0, &records);
    is_int(records.count, 3, "any: one of three, on tun and on both ends of veth");
    for (size_t i = 0; i < records.count; i++)
        from_tun +=
            records.v[i].packet.ifindex == net_index("etun") && records.v[i].packet.caplen < 60;
    is_int(from_tun, 1, "any: one of them from tun");
    records_free(&records);
    capture_close(on_any);

    /* The others; and what has no meaning for raw IP, on Ethernet only. */
    records = (struct records){0, 0, NULL};
    on_any = capture_with("any", tagged, 0);
    config.filter = other;
    witness = capture_open("any", &config);
    if (write(tun, packet, raw_packet(packet, 1)) < 0)
        tap_bail("tun: %s", strerror(errno));
    for (size_t n = 0; n < FRAMES; n++)
        net_send(sender, frames[n].bytes, frames[n].length);
    await_seen(witness, 2 * FRAMES + 1);
    capture_close(witness);
    is_int(count_captured(on_any, 0), 2 * count_offline(&wire), "any: vlan 100 on both ends");
    close(tun);
done:
    pcap.free_code(&wire);
    netring_filter_free(tagged);
    netring_filter_free(other);
    netring_filter_free(udp);
}

/* ---- another interface, another filter ---- */

struct ends {
    struct netring_capture *capture;
    int sender, tun;
    uint64_t seen; /* what the kernel's filter has let in */
};

/* Port by port: on veth, or on tun. `matches`: as many of them pass. */
static void on_veth(struct ends *ends, uint16_t from, uint16_t count, unsigned matches)
{
    for (uint16_t port = from; port < from + count; port++) {
        uint8_t frame[128];
        size_t length = make_frame(frame, 2, 0);

        put_16(frame + 36, port);
        net_send(ends->sender, frame, length);
    }
    await_seen(ends->capture, ends->seen += matches);
}

static void on_tun(struct ends *ends, uint16_t from, uint16_t count, unsigned matches)
{
    uint8_t packet[128];

    for (uint16_t port = from; port < from + count; port++)
        if (write(ends->tun, packet, raw_packet(packet, port)) < 0)
            tap_bail("tun: %s", strerror(errno));
    await_seen(ends->capture, ends->seen += matches);
}

static void rebound(struct ends *ends, const char *name)
{
    struct netring_error error;

    if (!is_int(netring_capture_rebind(ends->capture, name, 0, 0, &error), 0, "rebound to %s",
                name))
        tap_diag("%s", error.message);
}

static uint64_t swapped(struct ends *ends, const char *text)
{
    struct netring_filter *filter = filter_of(text, 0);
    struct netring_error error;
    uint64_t from = UINT64_MAX;

    if (netring_capture_set_filter(ends->capture, filter, &from, &error) != 0)
        tap_bail("set_filter: %s", error.message);
    netring_filter_free(filter);
    return from;
}

/* One check: what the capture has, port by port; the length of each; whether it is of tun. Ends
 * the capture. */
static void has(struct ends *ends, const char *what, size_t count, const uint16_t *ports,
                const bool *of_tun, uint32_t snap_length)
{
    struct records records = {0, 0, NULL};

    netring_capture_stop(ends->capture);
    receive(ends->capture, SIZE_MAX, 0, &records);
    is_int(records.count, count, "%s: %zu packets", what, count);
    for (size_t i = 0; i < records.count && i < count; i++) {
        const struct netring_packet *got = &records.v[i].packet;
        const bool tun = got->link_type == NETRING_LINKTYPE_RAW;
        const uint8_t *port = got->data + (tun ? 22 : 36);

        if (tun != of_tun[i] || (port[0] << 8 | port[1]) != ports[i] ||
            got->caplen != (snap_length ? snap_length : got->len))
            ok(false, "%s: packet %zu: %s, port %d, %u bytes of %u", what, i, tun ? "tun" : "veth",
               port[0] << 8 | port[1], got->caplen, got->len);
    }
    records_free(&records);
    capture_close(ends->capture);
}

static void begins(struct ends *ends, const char *interface, const char *text, uint32_t snap_length)
{
    struct netring_filter *filter = text ? filter_of(text, 0) : NULL;

    ends->capture = capture_with(interface, filter, snap_length);
    ends->seen = 0;
    if (filter)
        netring_filter_free(filter);
}

static void rebind_refused(struct ends *ends, const char *name, int code, int os,
                           const char *option, const char *words, const char *more)
{
    const struct failure failure = {code, os, option, {words, more}};
    struct netring_error error;
    int rc;

    error_spoil(&error);
    rc = netring_capture_rebind(ends->capture, name, 0, 0, &error);
    is_failure(rc, errno, &error, &failure, "rebind");
}

static void test_other_link_types(int sender)
{
    struct ends ends = {.sender = sender, .tun = net_tun("etun2", IFF_TUN)};
    static const bool veth_tun_veth[] = {false, true, false}, veth_tun[] = {false, true, true};
    static const bool veth_veth[] = {false, false}, tun_veth[] = {true, true, false};

    if (ends.tun < 0) {
        tap_skip("filters on tun", "no tun device here");
        return;
    }
    for (uint32_t snap = 0; snap <= SNAP; snap += SNAP) {
        begins(&ends, "vb", "udp dst port 4711", snap);
        on_veth(&ends, 4710, 2, 1);
        rebound(&ends, "etun2");
        on_tun(&ends, 4710, 3, 1);
        rebound(&ends, "vb");
        on_veth(&ends, 4711, 2, 1);
        has(&ends, "veth, tun, veth", 3, (const uint16_t[]){4711, 4711, 4711}, veth_tun_veth, snap);

        /* The next to be handed out are of both interfaces. */
        begins(&ends, "vb", NULL, snap);
        on_veth(&ends, 4710, 2, 2);
        rebound(&ends, "etun2");
        on_tun(&ends, 4710, 2, 2);
        /* In what was cut to the snap length the port might lie behind. */
        is_int(swapped(&ends, "udp dst port 4710") == 0, snap == 0, "a filter for both: at once");
        on_tun(&ends, 4710, 2, 1);
        has(&ends, "both interfaces, then a filter", 3, (const uint16_t[]){4710, 4710, 4710},
            veth_tun, snap);

        /* What passed on the one is not put to the program for the other. */
        begins(&ends, "vb", NULL, snap);
        on_veth(&ends, 4710, 2, 2);
        swapped(&ends, "udp dst port 4711");
        rebound(&ends, "etun2");
        on_tun(&ends, 4710, 2, 1);
        swapped(&ends, "udp dst port 4711");
        rebound(&ends, "vb");
        on_veth(&ends, 4710, 2, 1);
        has(&ends, "a filter, then other interfaces", 3, (const uint16_t[]){4711, 4711, 4711},
            veth_tun_veth, snap);
    }
    /* It has no meaning for what came before: that stays, and the call says so. */
    begins(&ends, "etun2", NULL, 0);
    on_tun(&ends, 4710, 2, 2);
    rebound(&ends, "vb");
    ok(swapped(&ends, "ether broadcast") > 0, "a filter without meaning for what there is");
    on_veth(&ends, 4711, 1, 1);
    has(&ends, "no meaning", 3, (const uint16_t[]){4710, 4711, 4711}, tun_veth, 0);

    begins(&ends, "vb", "ether broadcast", 0);
    on_veth(&ends, 4710, 1, 1);
    rebind_refused(&ends, "etun2", NETRING_EFILTER, 0, "expression", "for raw IP", "");
    on_veth(&ends, 4711, 1, 1);
    has(&ends, "a refused rebind", 2, (const uint16_t[]){4710, 4711}, veth_veth, 0);

    begins(&ends, "vb", "udp dst port 4711", 0);
    is_int(netring_capture_lock_filter(ends.capture, NULL), 0, "locked");
    rebind_refused(&ends, "etun2", NETRING_ESOCKOPT, EPERM, "SO_ATTACH_FILTER", "locked",
                   "link type 101");
    on_veth(&ends, 4710, 2, 1);
    rebound(&ends, "va");
    on_veth(&ends, 4711, 2, 1);
    has(&ends, "locked", 2, (const uint16_t[]){4711, 4711}, veth_veth, 0);

    /* "any": each packet says what it is. */
    begins(&ends, "any", NULL, 0);
    on_tun(&ends, 4710, 2, 2);
    on_veth(&ends, 4710, 2, 4);
    is_int(swapped(&ends, "udp dst port 4711"), 0, "any, then a filter: at once");
    on_tun(&ends, 4710, 2, 1);
    netring_capture_flush(ends.capture);
    is_int(capture_stats(ends.capture).filtered_late, 0, "any: nothing is judged before its time");
    has(&ends, "any", 4, (const uint16_t[]){4711, 4711, 4711, 4711},
        (const bool[]){true, false, false, true}, 0);
    close(ends.tun);
}

/* ---- what is refused ---- */

static const struct {
    const char *text;
    const char *words[2];
} wrong[] = {
    {"tcp port", {"syntax error"}},
    {"tcp port 80 or", {"before byte 12", "\"or\""}},
    {"tcp port 80 80", {"before byte 12", "\"80\""}},
    {"host example.com", {"byte 5", "\"example.com\""}},
    {"net example", {"byte 4", "\"example\""}},
    {"port http", {"byte 5", "port's number"}},
    {"portrange ftp-ssh", {"byte 10", "NETRING_FILTER_NAMES"}},
    {"ether host printer", {"byte 11", "\"printer\""}},
    {"ip proto nosuch", {"byte 9", "protocol's number"}},
    {"ip proto \\nosuch", {"byte 9", "\"nosuch\""}},
    {"host 1.2.3.4 and 3-4", {"byte 17", "\"3-4\""}},
    {"port 80 and nott 443", {"byte 12", "\"nott\""}},
    {"gateway router", {"byte 8", "\"router\""}},
    {"host 1.2.3.4 and (portrange 1-2) and 3-4", {"byte 37"}},
    {"ip host 10.0.0.300", {"libpcap:"}},
    {"ip broadcast", {"netmask"}},
    {"ip protochain 6", {"backwards", "protochain"}},
    {"ip6 protochain 17", {"backwards"}},
    {"tcp[0", {"syntax error"}},
    {"ip[0:3] = 1", {"libpcap:"}},
    {"tcp # 3", {"byte 4", "\"# 3\""}},
    {"udp \xc3\xa4", {"byte 4", "0xc3"}},
    {"ip host 1.2.3.4 and ip host 1.2.3.5 and src host 1.2.3.6", {"libpcap:"}},
};

static void refused(const char *text, size_t length, const char *what, const char *words,
                    const char *more)
{
    const struct failure failure = {NETRING_EFILTER, 0, "expression", {words, more}};
    struct netring_filter *filter = NULL;
    struct netring_error error;
    int rc;

    error_spoil(&error);
    errno = 0;
    rc = netring_filter_compile(text, length, NULL, &filter, &error);
    is_failure(rc, errno, &error, &failure, what);
    ok(filter == NULL, "%s: no filter", what);
}

/* "FIRST or FIRST or ...": `count` times, the number counted up from `from`. */
static char *joined(const char *format, unsigned from, unsigned count, size_t *length)
{
    size_t room = (size_t)count * (strlen(format) + 24) + 1, at = 0;
    char *text = malloc(room);

    if (!text)
        tap_bail("out of memory");
    text[0] = '\0';
    for (unsigned n = from; n < from + count; n++) {
        at += (size_t)snprintf(text + at, room - at, "%s", n == from ? "" : " or ");
        at += (size_t)snprintf(text + at, room - at, format, n, n + 1);
    }
    *length = at;
    return text;
}

static void test_bounds(void)
{
    static const struct {
        const char *what, *format;
        unsigned from, most;
    } bounds[] = {
        {"ports", "port %u", 1, 128},
        {"port ranges", "portrange %u-%u", 1, 64},
        {"lengths", "len != %u", 100, 320},
    };
    char *text;
    size_t length;

    for (size_t i = 0; i < COUNT(bounds); i++) {
        struct netring_filter *filter = NULL;
        unsigned most = bounds[i].most;
        char what[64];

        /* The keywords weigh too. */
        do
            text = joined(bounds[i].format, bounds[i].from, --most, &length);
        while (netring_filter_compile(text, length, NULL, &filter, NULL) != 0 &&
               most > bounds[i].most / 2 && (free(text), true));
        is_between(most, bounds[i].most * 3 / 4, bounds[i].most, "as many %s are fine",
                   bounds[i].what);
        netring_filter_free(filter);
        free(text);
        text = joined(bounds[i].format, bounds[i].from, bounds[i].most + 1, &length);
        snprintf(what, sizeof what, "%u %s", bounds[i].most + 1, bounds[i].what);
        refused(text, length, what, "too much", "tcpdump -ddd");
        free(text);
    }
    length = 100000;
    text = malloc(length);
    if (!text)
        tap_bail("out of memory");
    memset(text, '(', length);
    refused(text, 16384, "parentheses", "nested deeper than 64", NULL);
    refused(text, 16385, "a long text", "16384", NULL);
    for (size_t i = 0; i < length; i += 4)
        memcpy(text + i, "not ", 4);
    refused(text, 16384, "nots", "nested deeper than 64", NULL);
    memset(text, ' ', length);
    memcpy(text, "ip\0ip6", 6);
    refused(text, 6, "a NUL", "byte 2 is 0x00", NULL);
    free(text);
    for (size_t i = 0; i < COUNT(wrong); i++)
        refused(wrong[i].text, strlen(wrong[i].text), wrong[i].text, wrong[i].words[0],
                wrong[i].words[1]);
}

static void test_compile(void)
{
    struct netring_filter_config config = NETRING_FILTER_CONFIG_INIT;
    struct netring_filter *filter = NULL;
    struct netring_error error;
    char listing[512], cut[8];
    static const char ip[] = "(000) ldb      [-4048]\n"
                             "(001) jeq      #0x0             jt 3\tjf 2\n"
                             "(002) ret      #0\n"
                             "(003) ldh      [12]\n"
                             "(004) jeq      #0x800           jt 5\tjf 6\n"
                             "(005) ret      #2147483647\n"
                             "(006) ret      #0";

    error_spoil(&error);
    errno = ENOTTY;
    is_int(netring_filter_compile("ip and more", 2, NULL, &filter, &error), 0,
           "only the length's bytes are read");
    is_int(errno, ENOTTY, "errno is left alone");
    is_no_error(&error, "compile");
    is_int(netring_filter_count(filter), 7, "its instructions");
    is_int(netring_filter_listing(filter, 1, listing, sizeof listing), strlen(ip), "their listing");
    is_str(listing, ip, "as tcpdump -d prints it");
    is_int(netring_filter_listing(filter, 1, cut, sizeof cut), strlen(ip), "the length of all");
    is_str(cut, "(000) l", "cut to the room");
    is_int(netring_filter_listing(filter, 1, NULL, 0), strlen(ip), "the length alone");
    ok(netring_filter_listing(filter, 101, listing, sizeof listing) > 0 &&
           strstr(listing, "#0x40") != NULL,
       "another program for raw IP");
    ok(netring_filter_listing(filter, NETRING_LINKTYPE_UNKNOWN, listing, sizeof listing) > 0 &&
           strstr(listing, "[-4068]") != NULL,
       "and for any: by the hardware type");
    netring_filter_free(filter);
    is_int(netring_filter_compile("", 0, NULL, &filter, NULL), 0, "the empty expression");
    is_int(netring_filter_count(filter), 1, "keeps all");
    netring_filter_free(filter);

    config.netmask = 0xffffff00;
    is_int(netring_filter_compile("ip broadcast", 12, &config, &filter, NULL), 0, "a netmask");
    for (unsigned host = 1; host < 256; host += 254) {
        uint8_t frame[128];
        struct netring_packet packet = {
            .data = frame, .link_type = NETRING_LINKTYPE_ETHERNET, .caplen = 60, .len = 60};

        make_frame(frame, 2, 0);
        frame[33] = (uint8_t)host;
        is_int(netring_filter_match(filter, &packet, sizeof packet) != 0, host == 255,
               "10.0.0.%u is a broadcast address, or not", host);
    }
    netring_filter_free(filter);
    config.flags = 1 << 30;
    is_int(netring_filter_compile("ip", 2, &config, &filter, &error), NETRING_EINVAL,
           "an unknown flag");
    is_str_contains(error.message, "0x40000000", "an unknown flag: which");
    config.flags = NETRING_FILTER_NO_OPTIMISER;
    config.reserved = 1;
    is_int(netring_filter_compile("ip", 2, &config, &filter, &error), NETRING_EINVAL, "reserved");
    config.reserved = 0;
    is_int(netring_filter_compile("tcp port 80 or ip", 17, &config, &filter, NULL), 0,
           "without the optimiser");
    netring_filter_free(filter);
}

/* ---- the rest of the system ---- */

/* Before libpcap is opened in this process: its files are covered by an empty one. */
static void without_libpcap(void *user)
{
    static const char *const places[] = {"/usr/lib/*/libpcap.so*", "/usr/lib*/libpcap.so*",
                                         "/lib/*/libpcap.so*", "/lib*/libpcap.so*",
                                         "/usr/local/lib*/libpcap.so*"};
    static const char ddd[] = "1\n6 0 0 1\n";
    const struct failure failure = {
        NETRING_ENOTSUP, 0, "libpcap", {"libpcap.so.1", "install", "netring_filter_new_ddd"}};
    struct netring_filter *filter = NULL;
    struct netring_error error;
    char empty[] = "/tmp/netring-empty-XXXXXX";
    int rc, fd = mkstemp(empty);

    (void)user;
    if (fd < 0)
        tap_bail("mkstemp: %s", strerror(errno));
    close(fd);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        unlink(empty);
        tap_skip("without libpcap", "mounts are not for us");
        return;
    }
    for (size_t i = 0; i < COUNT(places); i++) {
        glob_t found;

        if (glob(places[i], 0, NULL, &found) == 0) {
            for (size_t n = 0; n < found.gl_pathc; n++)
                if (mount(empty, found.gl_pathv[n], NULL, MS_BIND, NULL) != 0)
                    tap_diag("%s: %s", found.gl_pathv[n], strerror(errno));
            globfree(&found);
        }
    }
    unlink(empty);
    if (libpcap_open()) {
        tap_skip("without libpcap", "it is somewhere else");
        return;
    }
    error_spoil(&error);
    errno = 0;
    rc = netring_filter_compile("ip", 2, NULL, &filter, &error);
    is_failure(rc, errno, &error, &failure, "without libpcap");
    ok(filter == NULL, "without libpcap: no filter");
    is_int(netring_filter_new_ddd(ddd, strlen(ddd), &filter, NULL), 0,
           "without libpcap: programs work");
    netring_filter_free(filter);
}

static void without_privilege(void *user)
{
    const struct failure failure = {
        NETRING_EPERM, 0, "pcap_activate", {"CAP_NET_RAW", "NETRING_FILTER_TCPDUMP"}};
    struct netring_filter *filter = NULL;
    struct netring_error error;
    int rc;

    (void)user;
    keep_capabilities(0);
    is_int(compile("vlan 100", 0, &filter, NULL), 0, "the wire's meaning needs no privilege");
    netring_filter_free(filter);
    is_int(compile("tcp port 80", NETRING_FILTER_TCPDUMP, &filter, NULL), 0,
           "nor does tcpdump's without vlan");
    netring_filter_free(filter);
    filter = NULL;
    error_spoil(&error);
    errno = 0;
    rc = compile("vlan 100", NETRING_FILTER_TCPDUMP, &filter, &error);
    is_failure(rc, errno, &error, &failure, "tcpdump's vlan without privilege");
    is_int(compile("vlan and", NETRING_FILTER_TCPDUMP, &filter, NULL), NETRING_EFILTER,
           "what is wrong anyway says so first");
    ok(filter == NULL, "tcpdump's vlan without privilege: no filter");
}

static void without_links(void *user)
{
    const struct failure failure = {
        NETRING_ENETDOWN, 0, "pcap_activate", {"ip link set lo up", "NETRING_FILTER_TCPDUMP"}};
    struct netring_filter *filter = NULL;
    struct netring_error error;
    int rc;

    (void)user;
    if (unshare(CLONE_NEWNET) != 0)
        tap_bail("unshare: %s", strerror(errno));
    error_spoil(&error);
    errno = 0;
    rc = compile("vlan 100", NETRING_FILTER_TCPDUMP, &filter, &error);
    is_failure(rc, errno, &error, &failure, "tcpdump's vlan where nothing is up");
    net_veth("vc", "vd");
    is_int(compile("vlan 100", NETRING_FILTER_TCPDUMP, &filter, NULL), 0, "lo is not needed");
    netring_filter_free(filter);
}

/* Whatever looks a name up opens a file or a socket. */
static void no_files(void)
{
    static const long calls[] = {SYS_openat, SYS_socket,
#ifdef SYS_open
                                 SYS_open,
#endif
                                 SYS_connect};

    for (size_t i = 0; i < COUNT(calls); i++) {
        const struct refusal refusal = {.call = calls[i], .error = 0};

        refuse(&refusal);
    }
}

static void without_names(void *user)
{
    static const char *const fine[] = {
        "host 10.0.0.1 and not net 10.1.0.0/16",
        "host 2001:db8::1 or ip6 net 2001:db8::/32",
        "portrange 1-1024 or tcp portrange 5000-6000",
        "ether host 00:11:22:33:44:55 or ether src 0011.2233.4455",
        "ip proto \\tcp or ip6 proto \\udp",
        "ether proto \\arp or ether proto \\ip6",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and icmp6",
        "iso proto \\isis or llc u",
        "vlan 100 and (port 80 or 443 or (8080 or 8443))",
        "net 10 or net 192.168.1 or decnet host 10.1",
        "port http or vxlan or geneve",
        "host nosuch.invalid or ip proto nosuch",
    };

    (void)user;
    no_files();
    for (size_t i = 0; i < COUNT(fine); i++) {
        struct netring_filter *filter = NULL;

        if (compile(fine[i], 0, &filter, NULL) == 0)
            netring_filter_free(filter);
    }
    ok(true, "nothing was looked up");
}

static void with_names(void *user)
{
    struct netring_filter *filter;

    (void)user;
    no_files();
    (void)compile("host nosuch.invalid", NETRING_FILTER_NAMES, &filter, NULL);
    _exit(0);
}

/* On a small stack: a Go or musl thread. */
static void *on_thread(void *user)
{
    size_t length;
    char *text = joined("port %u", 1, 100, &length);
    struct netring_filter *filter = NULL;

    *(int *)user = netring_filter_compile(text, length, NULL, &filter, NULL);
    netring_filter_free(filter);
    free(text);
    return NULL;
}

static void test_threads(void)
{
    pthread_attr_t attributes;
    pthread_t threads[4];
    int results[COUNT(threads)];

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * KIB);
    for (size_t i = 0; i < COUNT(threads); i++)
        if (pthread_create(&threads[i], &attributes, on_thread, &results[i]) != 0)
            tap_bail("no thread");
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
        is_int(results[i], 0, "compiled by thread %zu of several", i);
    }
    pthread_attr_destroy(&attributes);
}

/* Compiles what takes a while, until told to stop. */
static void *compiles(void *user)
{
    atomic_int *go = user;
    char text[2048] = "port 1";

    for (int port = 2; port < 60; port++)
        snprintf(text + strlen(text), sizeof text - strlen(text), " or %d", port * 7);
    while (atomic_load(go)) {
        netring_filter_free(filter_of(text, 0));
        atomic_compare_exchange_strong(go, &(int){1}, 2);
    }
    return NULL;
}

static void in_a_fork(void)
{
    struct netring_filter *filter = NULL;
    struct netring_error error = {0};
    const int rc = compile("ip", 0, &filter, &error);

    _exit(rc == 0 ? 10 : rc == NETRING_EBUSY && strstr(error.message, "forked") ? 11 : 1);
}

/* Forked while another thread compiles: no call hangs. */
static void test_forked(void)
{
    atomic_int go = 1;
    pthread_t thread;
    int busy = 0, other = 0;

    pthread_create(&thread, NULL, compiles, &go);
    while (atomic_load(&go) != 2)
        sleep_ms(1);
    for (int i = 0; i < 20 && !busy; i++) {
        int status = 0;
        const pid_t child = fork();

        if (child == 0) {
            alarm((unsigned)tap_patience(20000) / 1000);
            in_a_fork();
        }
        waitpid(child, &status, 0);
        busy += WIFEXITED(status) && WEXITSTATUS(status) == 11;
        other += !WIFEXITED(status) || WEXITSTATUS(status) < 10;
        sleep_ms(7);
    }
    atomic_store(&go, 0);
    pthread_join(thread, NULL);
    is_int(other, 0, "forked during a compilation: every child has an answer");
    ok(busy > 0, "forked during a compilation: the refusal was seen");
}

int main(void)
{
    struct netring_filter *first;
    int sender;

    tap_begin(60);
    make_frames();
    net_enter();
    child_run("without libpcap", without_libpcap, NULL);
    if (!load_libpcap()) {
        tap_skip("filter expressions", "libpcap is not installed");
        return tap_end();
    }
    net_veth("va", "vb");
    sender = net_sender("va");
    first = filter_of("ip", 0); /* libpcap is open from here on */
    netring_filter_free(first);
    for (size_t i = 0; i < COUNT(meanings); i++)
        test_meaning(meanings[i].text, meanings[i].offline_differs, i < 2, sender);
    test_match();
    test_reader();
    test_lo();
    test_tun_and_any(sender);
    test_other_link_types(sender);
    test_compile();
    test_bounds();
    test_threads();
    test_forked();
    child_run("without privilege", without_privilege, NULL);
    child_run("without links", without_links, NULL);
    child_run("without names", without_names, NULL);
    child_killed("with names something would be looked up", SIGSYS, with_names, NULL);
    return tap_end();
}
