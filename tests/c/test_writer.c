/* The savefile writer: what was sent is in the file, byte for byte and with its time, in both
 * formats; VLAN tags, several interfaces, statistics, rotation, full disks, pipes, misuse. Every
 * file is read by a parser of the test's own, and by libpcap, tcpdump and capinfos where they are
 * there. */
#include "savefile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static char directory[64];
static int sender;

/* ---- files ---- */

static const char *in_directory(const char *name)
{
    static char path[4][256];
    static unsigned turn;
    char *out = path[turn++ % 4];

    snprintf(out, sizeof path[0], "%s/%s", directory, name);
    return out;
}

static void remove_directory(void)
{
    char command[128];

    if (directory[0] == '\0')
        return;
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    if (system(command) != 0)
        tap_diag("%s could not be removed", directory);
}

static void make_directory(void)
{
    const char *where = getenv("TMPDIR");

    snprintf(directory, sizeof directory, "%s/netring-writer-XXXXXX",
             where && strlen(where) < 32 ? where : "/tmp");
    if (!mkdtemp(directory))
        tap_bail("%s: %s", directory, strerror(errno));
}

/* ---- writers ---- */

static struct netring_writer_config writer_config(uint32_t format)
{
    struct netring_writer_config config = NETRING_WRITER_CONFIG_INIT;

    config.format = format;
    return config;
}

static struct netring_writer *writer_open(const char *path,
                                          const struct netring_writer_config *config)
{
    struct netring_writer *writer = NULL;
    struct netring_error error;
    int rc;

    errno = ENOTTY;
    error_spoil(&error);
    rc = netring_writer_open(path, config, &writer, &error);
    if (rc != 0 || !writer || errno != ENOTTY || error.code != 0)
        tap_bail("opening %s: %s (%s: %s)", path, netring_err_name(rc), error.option,
                 error.message);
    return writer;
}

static void writer_close(struct netring_writer *writer)
{
    struct netring_error error;
    int rc = netring_writer_close(writer, &error);

    if (rc != 0)
        ok(false, "netring_writer_close: %s", error.message);
}

static struct netring_writer_info writer_info(struct netring_writer *writer)
{
    struct netring_writer_info info;
    int rc = netring_writer_info(writer, &info, sizeof info);

    if (rc != 0)
        tap_bail("netring_writer_info: %s", netring_err_name(rc));
    return info;
}

static struct netring_error last_error(struct netring_writer *writer)
{
    struct netring_error error;

    error_spoil(&error);
    if (netring_writer_last_error(writer, &error) != 0)
        tap_bail("netring_writer_last_error failed");
    return error;
}

static int add_capture(struct netring_writer *writer, struct netring_capture *capture)
{
    struct netring_error error;
    int id = netring_writer_add_capture(writer, capture, &error);

    if (id < 0)
        tap_bail("netring_writer_add_capture: %s", error.message);
    return id;
}

static int add_ethernet(struct netring_writer *writer, uint32_t snap_length)
{
    struct netring_error error;
    int id = netring_writer_add_interface(writer, "test0", NETRING_LINKTYPE_ETHERNET, snap_length,
                                          &error);

    if (id < 0)
        tap_bail("netring_writer_add_interface: %s", error.message);
    return id;
}

/* A packet whose bytes tell its number. */
static struct netring_packet numbered(uint8_t *data, uint32_t number, uint32_t length)
{
    struct netring_packet packet;

    memset(&packet, 0, sizeof packet);
    frame_make(data, length, number);
    packet.data = data;
    packet.caplen = packet.len = length;
    packet.link_type = NETRING_LINKTYPE_ETHERNET;
    packet.time_ns = 1000 * SECOND + number * (SECOND / 10);
    return packet;
}

/* ---- what must be in a file ---- */

/* One check: the packets of the file from `first` on are the records as they were on the wire. */
static bool is_records(const struct savefile *file, size_t first, const struct records *records,
                       const char *what)
{
    const uint64_t unit = file->microseconds ? 1000 : 1;
    uint8_t frame[FRAME_MAX + 4];

    if (file->packets < first + records->count)
        return is_int(file->packets, first + records->count, "%s: every packet", what);
    for (size_t i = 0; i < records->count; i++) {
        const struct netring_packet *want = &records->v[i].packet;
        const struct saved_packet *got = &file->packet[first + i];
        size_t length = frame_restore(want, frame);

        if (got->caplen != length || got->len != want->len + (length - want->caplen) ||
            got->time_ns != want->time_ns / unit * unit || memcmp(got->data, frame, length) != 0)
            return ok(false, "%s: packet %zu: %u/%u bytes at %llu, captured %zu/%u at %llu", what,
                      i, got->caplen, got->len, (unsigned long long)got->time_ns, length, want->len,
                      (unsigned long long)want->time_ns);
    }
    return ok(true, "%s: %zu packets byte for byte, with their times", what, records->count);
}

/* ---- formats ---- */

static void test_formats(void)
{
    static const struct {
        const char *name;
        uint32_t format;
        uint64_t flags;
    } formats[] = {
        {"pcapng", NETRING_SAVEFILE_PCAPNG, 0},
        {"pcap", NETRING_SAVEFILE_PCAP, 0},
        {"pcap-us", NETRING_SAVEFILE_PCAP, NETRING_WRITER_MICROSECONDS},
    };
    enum { FRAMES = 400 };
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_writer *writers[COUNT(formats)];
    int ids[COUNT(formats)];
    struct records records = {0, 0, NULL};
    struct netring_block *block;
    uint8_t frame[FRAME_MAX];

    net_link_mtu("va", 9000);
    net_link_mtu("vb", 9000);
    config.block_count = 64;
    capture = capture_open("vb", &config);
    for (size_t i = 0; i < COUNT(formats); i++) {
        struct netring_writer_config how = writer_config(formats[i].format);

        how.flags = formats[i].flags;
        writers[i] = writer_open(in_directory(formats[i].name), &how);
        ids[i] = add_capture(writers[i], capture);
        is_int(ids[i], 0, "%s: the first interface is 0", formats[i].name);
    }
    for (uint32_t i = 0; i < FRAMES; i++)
        net_send(sender, frame, frame_make(frame, frame_mixed(i, 18, 9014), i));
    while (records.count < FRAMES && netring_capture_next_block(capture, 1000, &block) == 1) {
        size_t before = records.count;

        /* The cursor in the middle is nobody's business. */
        block_records(block, 7, &records);
        for (size_t i = 0; i < COUNT(formats); i++) {
            errno = ENOTTY;
            if (netring_writer_write_block(writers[i], (uint32_t)ids[i], block) !=
                    (int)(records.count - before) ||
                errno != ENOTTY)
                ok(false, "%s: every packet of a block is written", formats[i].name);
        }
        netring_block_release(block);
    }
    is_frames(&records, 0, FRAMES, 18, 9014, "captured");
    for (size_t i = 0; i < COUNT(formats); i++) {
        const char *path = in_directory(formats[i].name), *name = formats[i].name;
        struct netring_writer_info info = writer_info(writers[i]);
        struct savefile file = savefile_read(path);
        char shown[256];

        is_savefile(&file, FRAMES, "before the close");
        ok(info.packets == FRAMES && info.file_packets == FRAMES && info.bytes == file.size &&
               info.file_bytes == file.size && info.files == 1 && info.files_removed == 0 &&
               info.interfaces == 1 && info.format == formats[i].format,
           "%s: the info tells of it", name);
        is_int(netring_writer_path(writers[i], shown, sizeof shown), strlen(path),
               "%s: length of its path", name);
        is_str(shown, path, "%s: its path", name);
        is_int(netring_writer_sync(writers[i]), 0, "%s: sync", name);
        savefile_free(&file);
        writer_close(writers[i]);

        file = savefile_read(path);
        is_savefile(&file, FRAMES, name);
        is_records(&file, 0, &records, name);
        is_int(file.interface[0].link_type, NETRING_LINKTYPE_ETHERNET, "%s: link type", name);
        is_int(file.interface[0].snap_length, 262144, "%s: snap length", name);
        if (file.pcapng) {
            is_str(file.interface[0].name, "vb", "%s: the interface's name", name);
            is_str_contains(file.application, "libnetring ", "%s: who wrote it", name);
            is_str_contains(file.os, "Linux ", "%s: on what", name);
            /* frame_make sends to 02:00:00:00:00:02: another host's. */
            is_int(file.packet[0].flags, 1 | 4 << 2, "%s: direction", name);
        }
        is_read_by_others(path, &file, name);
        savefile_free(&file);
    }
    records_free(&records);
    capture_close(capture);
}

/* What goes out, and broadcasts and multicasts that come in. */
static void test_directions(void)
{
    static const struct {
        const char *name;
        uint8_t first;
        uint32_t flags;
    } kinds[] = {{"broadcast", 0xff, 1 | 3 << 2}, {"multicast", 0x01, 1 | 2 << 2}};
    struct netring_capture_config config = small_config();
    struct netring_capture *in = capture_open("vb", &config), *out = capture_open("va", &config);
    const char *path = in_directory("directions.pcapng");
    struct netring_writer *writer = writer_open(path, NULL);
    int ids[2] = {add_capture(writer, in), add_capture(writer, out)};
    struct savefile file;
    uint8_t frame[64];

    is_int(ids[1], 1, "a second interface");
    for (size_t i = 0; i < COUNT(kinds); i++) {
        frame_make(frame, sizeof frame, (uint32_t)i);
        memset(frame, kinds[i].first, 6);
        net_send(sender, frame, sizeof frame);
    }
    for (int i = 0; i < 2; i++) {
        struct netring_capture *capture = i == 0 ? in : out;
        struct netring_block *block;
        int got = 0;

        await_seen(capture, COUNT(kinds));
        while (got < (int)COUNT(kinds) && netring_capture_next_block(capture, 1000, &block) == 1) {
            got += netring_writer_write_block(writer, (uint32_t)ids[i], block);
            netring_block_release(block);
        }
        capture_close(capture);
    }
    writer_close(writer);
    file = savefile_read(path);
    if (is_savefile(&file, 4, "directions")) {
        for (size_t i = 0; i < COUNT(kinds); i++)
            is_int(file.packet[i].flags, kinds[i].flags, "a %s that came in", kinds[i].name);
        is_int(file.packet[2].flags, 2, "one that went out");
        is_int(file.packet[3].interface, 1, "of the other interface");
        is_str(file.interface[1].name, "va", "and its name");
    }
    savefile_free(&file);
}

/* ---- VLAN tags ---- */

static void test_vlan(uint32_t format, uint32_t snap_length)
{
    static const struct {
        const char *name;
        unsigned tags;
        uint16_t tpid[2], tci[2];
    } cases[] = {
        {"no tag", 0, {0}, {0}},
        {"802.1Q", 1, {0x8100}, {100}},
        {"802.1ad", 1, {0x88a8}, {0xe00a}},
        {"priority tag", 1, {0x8100}, {0}},
        {"QinQ", 2, {0x88a8, 0x8100}, {7, 8}},
        {"two of 802.1Q", 2, {0x8100, 0x8100}, {0x3fff, 1}},
        {"0x9100", 1, {0x9100}, {5}},
    };
    struct netring_capture_config config = small_config();
    struct netring_writer_config how = writer_config(format);
    const char *path = in_directory("vlan");
    struct netring_writer *writer = writer_open(path, &how);
    struct netring_capture *capture;
    struct netring_block *block;
    struct savefile file;
    uint8_t frame[128], sent[COUNT(cases)][128];
    size_t lengths[COUNT(cases)];
    int got = 0, id;

    config.snap_length = snap_length;
    capture = capture_open("vb", &config);
    id = add_capture(writer, capture);
    for (size_t i = 0; i < COUNT(cases); i++) {
        lengths[i] = frame_make(frame, 64 + i, (uint32_t)i);
        for (unsigned tag = cases[i].tags; tag-- > 0;)
            lengths[i] = frame_tag(frame, lengths[i], cases[i].tpid[tag], cases[i].tci[tag]);
        memcpy(sent[i], frame, lengths[i]);
        net_send(sender, frame, lengths[i]);
    }
    while (got < (int)COUNT(cases) && netring_capture_next_block(capture, 1000, &block) == 1) {
        got += netring_writer_write_block(writer, (uint32_t)id, block);
        netring_block_release(block);
    }
    writer_close(writer);
    capture_close(capture);
    file = savefile_read(path);
    if (is_savefile(&file, COUNT(cases), "tagged frames")) {
        for (size_t i = 0; i < COUNT(cases); i++) {
            size_t kept = snap_length && snap_length < lengths[i] ? snap_length : lengths[i];

            ok(file.packet[i].len == lengths[i] && file.packet[i].caplen == kept &&
                   memcmp(file.packet[i].data, sent[i], kept) == 0,
               "%s as it was sent, %u of %u bytes (snap length %u, format %u)", cases[i].name,
               file.packet[i].caplen, file.packet[i].len, snap_length, format);
        }
        is_read_by_others(path, &file, "tagged frames");
    }
    savefile_free(&file);
}

/* What no kernel gives: tags of packets that the caller has made. */
static void test_made_up_tags(void)
{
    uint8_t data[64];
    struct netring_packet packets[4];
    const char *path = in_directory("made-up");
    struct netring_writer *writer = writer_open(path, NULL);
    int ethernet = add_ethernet(writer, 0);
    int raw = netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_RAW, 14, NULL);
    struct savefile file;

    memset(packets, 0, sizeof packets);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    for (size_t i = 0; i < COUNT(packets); i++) {
        packets[i].data = data;
        packets[i].caplen = 12;
        packets[i].len = 60;
        packets[i].status = NETRING_PACKET_VLAN;
        packets[i].vlan_tci = 0x0102;
        packets[i].link_type = NETRING_LINKTYPE_ETHERNET;
    }
    packets[1].caplen = 11;
    packets[2].vlan_tpid = 0x88a8;
    packets[2].status |= NETRING_PACKET_VLAN_TPID;
    packets[2].queue = 3;
    packets[3].link_type = NETRING_LINKTYPE_RAW;
    packets[3].caplen = 60;
    is_int(netring_writer_write(writer, (uint32_t)ethernet, packets, sizeof *packets, 3), 3,
           "three of one interface");
    is_int(netring_writer_write(writer, (uint32_t)raw, packets + 3, sizeof *packets, 1), 1,
           "one of another");
    is_int(netring_writer_write(writer, (uint32_t)raw, packets + 3, sizeof *packets, 0), 0, "none");
    writer_close(writer);
    file = savefile_read(path);
    if (is_savefile(&file, 4, "made up")) {
        static const uint8_t tagged[] = {0, 1, 2,  3,  4,    5,    6,    7,
                                         8, 9, 10, 11, 0x81, 0x00, 0x01, 0x02};

        ok(file.packet[0].caplen == 16 && file.packet[0].len == 64 &&
               memcmp(file.packet[0].data, tagged, 16) == 0,
           "a tag right behind the addresses");
        ok(file.packet[1].caplen == 11 && file.packet[1].len == 60, "none without both addresses");
        ok(file.packet[2].caplen == 16 && file.packet[2].data[12] == 0x88 &&
               file.packet[2].queue == 3,
           "a TPID and a queue");
        ok(file.packet[3].caplen == 14 && file.packet[3].len == 60 &&
               memcmp(file.packet[3].data, data, 14) == 0 && file.packet[3].flags == 0,
           "none where the link has no addresses; the writer's snap length");
        is_int(file.interface[1].link_type, NETRING_LINKTYPE_RAW, "its link type");
        is_int(file.interface[1].snap_length, 14, "and its snap length");
    }
    savefile_free(&file);
}

/* ---- several interfaces ---- */

static int tun_open(const char *name)
{
    struct ifreq request;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return -1;
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
        close(fd);
        return -1;
    }
    net_link_up(name, true);
    return fd;
}

/* An IPv4 packet to nobody. */
static size_t ip_packet(uint8_t *out)
{
    static const uint8_t header[] = {0x45, 0, 0,  28, 0, 1, 0,  0, 64, 253,
                                     0,    0, 10, 0,  0, 1, 10, 0, 0,  2};

    memcpy(out, header, sizeof header);
    memset(out + sizeof header, 0x5a, 8);
    return sizeof header + 8;
}

static void test_any(void)
{
    int tun = tun_open("tun0");
    struct netring_capture_config config = small_config();
    const char *path = in_directory("any.pcapng"), *other = in_directory("any.pcap");
    struct netring_writer_config pcap = writer_config(NETRING_SAVEFILE_PCAP);
    struct netring_writer *writer = writer_open(path, NULL), *narrow = writer_open(other, &pcap);
    struct netring_capture *capture = capture_open("any", &config);
    struct netring_stats stats;
    struct netring_block *block;
    struct records records = {0, 0, NULL};
    struct net_udp udp = net_udp_open();
    struct savefile file;
    uint8_t frame[64];
    size_t refused = 0, lo = 0, raw = 0, veth = 0, wrong = 0, allowed = 0;
    int id = add_capture(writer, capture), narrow_id = add_capture(narrow, capture);

    for (uint32_t i = 0; i < 20; i++) {
        net_send(sender, frame, frame_make(frame, sizeof frame, i));
        net_udp_send(&udp, "packet", 6);
        if (tun >= 0 && write(tun, frame, ip_packet(frame)) < 0)
            tap_bail("tun: %s", strerror(errno));
    }
    /* va out, vb in, lo, tun */
    while (records.count < (tun >= 0 ? 80 : 60) &&
           netring_capture_next_block(capture, 1000, &block) == 1) {
        size_t before = records.count;
        bool mixed = false;
        int rc;

        block_records(block, 64, &records);
        for (size_t i = before; i < records.count; i++)
            mixed |= records.v[i].packet.link_type != records.v[before].packet.link_type;
        if (netring_writer_write_block(writer, (uint32_t)id, block) !=
            (int)(records.count - before))
            ok(false, "any: a block is written: %s", last_error(writer).message);
        errno = 0;
        rc = netring_writer_write_block(narrow, (uint32_t)narrow_id, block);
        if (rc == NETRING_EINVAL)
            refused++;
        else
            allowed += (size_t)rc;
        if (mixed) {
            struct failure want = {NETRING_EINVAL, 0, "link_type", {"pcapng", "any.pcap"}};
            struct netring_error error = last_error(narrow);

            is_failure(rc, errno, &error, &want, "a block of two link types into pcap");
            is_int(writer_info(narrow).packets, allowed, "and none of it is written");
        }
        netring_block_release(block);
    }
    stats = capture_stats(capture);
    is_int(netring_writer_statistics(writer, (uint32_t)id, &stats, sizeof stats), 1,
           "statistics of all together");
    is_int(netring_writer_statistics(narrow, (uint32_t)narrow_id, &stats, sizeof stats), 0,
           "which pcap has no place for");
    writer_close(writer);
    writer_close(narrow);
    capture_close(capture);
    net_udp_close(&udp);
    if (tun >= 0)
        close(tun);

    file = savefile_read(path);
    is_savefile(&file, records.count, "any");
    if (is_records(&file, 0, &records, "any")) {
        for (size_t i = 0; i < file.packets; i++) {
            const struct saved_interface *interface = &file.interface[file.packet[i].interface];

            wrong += interface->link_type != records.v[i].packet.link_type;
            lo += strcmp(interface->name, "lo") == 0;
            raw += interface->link_type == NETRING_LINKTYPE_RAW &&
                   strcmp(interface->name, "tun0") == 0;
            veth += interface->name[0] == 'v';
        }
        is_int(wrong, 0, "any: link types");
        is_int(veth, 40, "any: packets of va and vb");
        ok(lo >= 20, "any: packets of lo (%zu)", lo);
        if (tun >= 0) {
            is_int(raw, 20, "any: packets of tun0");
            ok(refused > 0, "pcap took no second link type");
        } else {
            tap_skip("packets of a tun", "/dev/net/tun is not for us");
        }
        wrong = 0;
        for (size_t i = 0; i < file.interfaces; i++) {
            wrong += file.interface[i].statistics;
            if (strcmp(file.interface[i].name, "any") == 0)
                is_int(file.interface[i].received, stats.seen, "any: what its statistics say");
        }
        is_int(wrong, 1, "any: statistics, once");
    }
    is_read_by_reader(path, &file, "any");
    savefile_free(&file);
    file = savefile_read(other);
    is_savefile(&file, allowed, "pcap of one link type");
    savefile_free(&file);
    records_free(&records);
}

/* What the reader reads, the writer writes again. */
static void test_copy(void)
{
    const char *from = in_directory("any.pcapng"), *to = in_directory("copy.pcapng");
    struct netring_writer *writer = writer_open(to, NULL);
    int id = netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_UNKNOWN, 0, NULL);
    struct savefile original = savefile_read(from), copy;
    struct netring_reader *reader;
    struct netring_block *block;
    size_t wrong = 0;

    if (netring_reader_open(from, NULL, &reader, NULL) != 0)
        tap_bail("%s cannot be read", from);
    while (netring_reader_next_block(reader, 1000, &block) == 1) {
        wrong += netring_writer_write_block(writer, (uint32_t)id, block) < 0;
        netring_block_release(block);
    }
    netring_reader_close(reader);
    writer_close(writer);
    copy = savefile_read(to);
    is_int(wrong, 0, "blocks of a reader are written");
    if (is_savefile(&copy, original.packets, "a copy")) {
        for (size_t i = 0; i < copy.packets; i++) {
            const struct saved_packet *one = &original.packet[i], *other = &copy.packet[i];

            wrong += one->caplen != other->caplen || one->len != other->len ||
                     one->time_ns != other->time_ns || one->flags != other->flags ||
                     original.interface[one->interface].link_type !=
                         copy.interface[other->interface].link_type ||
                     memcmp(one->data, other->data, one->caplen) != 0;
        }
        is_int(wrong, 0, "the same packets, of the same link types");
    }
    savefile_free(&original);
    savefile_free(&copy);
}

/* Interfaces that nobody looks up, as a reader of savefiles has them. */
static void test_several_made_up(void)
{
    const char *path = in_directory("several");
    struct netring_writer *writer = writer_open(path, NULL);
    int id = netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_UNKNOWN, 0, NULL);
    struct netring_packet packets[300];
    uint8_t data[20] = {0};
    struct savefile file;
    size_t wrong = 0;

    memset(packets, 0, sizeof packets);
    for (uint32_t i = 0; i < COUNT(packets); i++) {
        packets[i].data = data;
        packets[i].caplen = packets[i].len = 1 + i % 20;
        packets[i].time_ns = i;
        packets[i].ifindex = 1000 + i % 3;
        packets[i].link_type = i % 3 == 2 ? NETRING_LINKTYPE_UNKNOWN : 1;
    }
    is_int(netring_writer_write(writer, (uint32_t)id, packets, sizeof *packets, COUNT(packets)),
           COUNT(packets), "packets of three interfaces in one call");
    writer_close(writer);
    file = savefile_read(path);
    if (is_savefile(&file, COUNT(packets), "three interfaces") &&
        is_int(file.interfaces, 3, "are described once each")) {
        for (uint32_t i = 0; i < COUNT(packets); i++)
            wrong += file.packet[i].interface != i % 3 || file.packet[i].caplen != 1 + i % 20;
        is_int(wrong, 0, "each packet has its own");
        is_str(file.interface[1].name, "if1001", "a name for want of one");
        is_int(file.interface[2].link_type, 147, "unknown hardware is LINKTYPE_USER0");
    }
    savefile_free(&file);
}

/* The same into pcap: one link type, and nothing of a call that has two. */
static void test_pcap_of_two(void)
{
    struct failure want = {NETRING_EINVAL, 0, "link_type", {"pcapng", "two.pcap"}};
    struct netring_writer_config how = writer_config(NETRING_SAVEFILE_PCAP);
    const char *path = in_directory("two.pcap");
    struct netring_writer *writer = writer_open(path, &how);
    int id = netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_UNKNOWN, 0, NULL);
    struct netring_packet packets[100];
    struct netring_error error;
    struct savefile file;
    uint8_t data[20] = {0};
    int rc, error_number;

    memset(packets, 0, sizeof packets);
    for (uint32_t i = 0; i < COUNT(packets); i++) {
        packets[i].data = data;
        packets[i].caplen = packets[i].len = 20;
        packets[i].ifindex = i % 2;
        packets[i].link_type = NETRING_LINKTYPE_RAW;
    }
    packets[99].link_type = NETRING_LINKTYPE_ETHERNET;
    for (int i = 0; i < 2; i++) {
        errno = 0;
        rc = netring_writer_write(writer, (uint32_t)id, packets, sizeof *packets, COUNT(packets));
        error_number = errno;
        error = last_error(writer);
        is_failure(rc, error_number, &error, &want, "two link types into pcap");
        is_int(writer_info(writer).packets, i * 99, "nothing of it is written");
        is_int(netring_writer_write(writer, (uint32_t)id, packets, sizeof *packets, 99), 99,
               "those of one are");
    }
    rc = netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_ETHERNET, 0, &error);
    is_int(rc, NETRING_EINVAL, "nor another interface: %s", error.message);
    writer_close(writer);
    file = savefile_read(path);
    is_savefile(&file, 198, "pcap of one link type");
    is_int(file.interface[0].link_type, NETRING_LINKTYPE_RAW, "its link type");
    savefile_free(&file);
}

/* Readers cut the packets of a pcap file to its snap length, whichever interface they are of. */
static void test_pcap_snap_lengths(void)
{
    struct failure want = {NETRING_EINVAL, 0, "snap_length", {"snaps.pcap has 700", "262144"}};
    struct netring_writer_config how = writer_config(NETRING_SAVEFILE_PCAP);
    const char *path = in_directory("snaps.pcap");
    struct netring_writer *writer = writer_open(path, &how);
    static uint8_t data[1000];
    struct netring_packet packet = numbered(data, 0, 1000);
    struct netring_error error;
    struct savefile file;
    int rc, error_number;

    add_ethernet(writer, 700);
    add_ethernet(writer, 64);
    errno = 0;
    rc = netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_ETHERNET, 0, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &want, "a larger snap length than the file's");
    is_int(writer_info(writer).interfaces, 2, "is not added");
    for (uint32_t id = 0; id < 2; id++)
        is_int(netring_writer_write(writer, id, &packet, sizeof packet, 1), 1, "a packet each");
    writer_close(writer);
    file = savefile_read(path);
    if (is_savefile(&file, 2, "two snap lengths in pcap")) {
        is_int(file.interface[0].snap_length, 700, "the header has the larger one");
        ok(file.packet[0].caplen == 700 && file.packet[1].caplen == 64, "each has its own");
    }
    is_read_by_others(path, &file, "two snap lengths in pcap");
    savefile_free(&file);

    /* Interfaces that do not make the header when they are added. */
    writer = writer_open(path, &how);
    netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_UNKNOWN, 64, NULL);
    netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_UNKNOWN, 700, NULL);
    for (uint32_t id = 0; id < 2; id++)
        is_int(netring_writer_write(writer, id, &packet, sizeof packet, 1), 1, "a packet each");
    writer_close(writer);
    file = savefile_read(path);
    is_int(file.interface[0].snap_length, 700, "the largest of those there are");
    is_read_by_others(path, &file, "several interfaces each");
    savefile_free(&file);
}

/* A file without packets is one that every reader takes. */
static void test_empty(void)
{
    for (uint32_t format = 1; format <= 2; format++) {
        for (int added = 0; added < 2; added++) {
            struct netring_writer_config how = writer_config(format);
            const char *path = in_directory("empty");
            struct netring_writer *writer = writer_open(path, &how);
            struct netring_capture_config config = small_config();
            struct netring_capture *capture;
            struct savefile file;

            if (added) {
                capture = capture_open("any", &config);
                add_capture(writer, capture);
                capture_close(capture);
            }
            writer_close(writer);
            file = savefile_read(path);
            is_savefile(&file, 0, "an empty file");
            is_read_by_others(path, &file, "an empty file");
            savefile_free(&file);
        }
    }
}

/* ---- statistics ---- */

static void test_statistics(void)
{
    enum { FRAMES = 5000 };
    struct netring_capture_config config = page_config(8);
    const char *path = in_directory("statistics.pcapng");
    struct netring_writer *writer = writer_open(path, NULL);
    uint64_t before = (uint64_t)clock_ns(CLOCK_REALTIME), lost;
    struct netring_capture *capture = capture_open("vb", &config);
    const struct saved_interface *interface;
    struct netring_block *block;
    struct netring_stats stats;
    struct savefile file;
    uint8_t frame[200];
    int id = add_capture(writer, capture), written = 0;

    frame_make(frame, sizeof frame, 1);
    net_flood(sender, frame, sizeof frame, FRAMES);
    await_seen(capture, 1);
    sleep_ms(tap_patience(20));
    netring_capture_stop(capture);
    while (netring_capture_next_block(capture, 0, &block) == 1) {
        written += netring_writer_write_block(writer, (uint32_t)id, block);
        netring_block_release(block);
    }
    stats = capture_stats(capture);
    ok(stats.dropped > 0 && written > 0, "an overload: %llu of %llu dropped",
       (unsigned long long)stats.dropped, (unsigned long long)stats.seen);
    is_int(netring_writer_statistics(writer, (uint32_t)id, &stats, sizeof stats), 1, "are taken");
    writer_close(writer);
    capture_close(capture);
    file = savefile_read(path);
    if (is_savefile(&file, (size_t)written, "overload")) {
        interface = &file.interface[0];
        lost =
            stats.dropped + stats.interface_missed + stats.interface_dropped + stats.interface_fifo;
        is_int(interface->statistics, 1, "one block of statistics");
        is_int(interface->received, stats.seen, "isb_ifrecv");
        is_int(interface->accepted, stats.seen, "isb_filteraccept");
        is_int(interface->dropped, lost, "isb_ifdrop");
        is_int(interface->os_dropped, stats.dropped, "isb_osdrop");
        is_int(interface->delivered, stats.delivered, "isb_usrdeliv");
        is_int(interface->delivered, written, "what was delivered is in the file");
        ok(before <= interface->start_ns && interface->start_ns <= interface->end_ns &&
               interface->end_ns == interface->taken_ns &&
               interface->end_ns <= (uint64_t)clock_ns(CLOCK_REALTIME),
           "when they began and when they were taken");
        is_read_by_others(path, &file, "overload");
    }
    savefile_free(&file);
}

/* ---- rotation ---- */

/* The files of a series, in the order of their numbers. */
struct series {
    size_t count;
    char path[64][256];
};

static struct series series_of(const char *stem, const char *extension)
{
    struct series series = {.count = 0};
    char command[512], line[256];
    FILE *output;

    snprintf(command, sizeof command, "ls -1 '%s'/%s_*%s 2>/dev/null", directory, stem, extension);
    output = popen(command, "re");
    while (output && fgets(line, sizeof line, output) && series.count < COUNT(series.path)) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(series.path[series.count++], sizeof series.path[0], "%s", line);
    }
    if (output)
        pclose(output);
    return series;
}

/* Checks: the series has packets first..first+count-1, each once and in order. */
static void is_series(const struct series *series, uint32_t first, uint32_t count,
                      uint64_t most_bytes, const char *what)
{
    uint32_t next = first;
    size_t wrong = 0, larger = 0, broken = 0, without = 0;

    for (size_t i = 0; i < series->count; i++) {
        struct savefile file = savefile_read(series->path[i]);

        broken += file.wrong != NULL;
        larger += most_bytes != 0 && file.size > most_bytes && file.packets != 1;
        if (file.pcapng)
            without += file.interfaces != 1 || file.interface[0].statistics != 1;
        for (size_t p = 0; p < file.packets; p++, next++)
            wrong += frame_number(file.packet[p].data) != next;
        if (i == 0 || i + 1 == series->count)
            is_read_by_others(series->path[i], &file, what);
        savefile_free(&file);
    }
    is_int(broken, 0, "%s: each of %zu files is complete", what, series->count);
    is_int(larger, 0, "%s: none is larger than allowed", what);
    is_int(without, 0, "%s: each describes the interface and has its statistics", what);
    is_int(next - first, count, "%s: every packet", what);
    is_int(wrong, 0, "%s: once and in order", what);
}

static void test_rotation_by_size(uint32_t format, uint32_t max_files)
{
    enum { PACKETS = 1000, BATCH = 37, LIMIT = 20000 };
    struct netring_writer_config config = writer_config(format);
    const char *extension = format == NETRING_SAVEFILE_PCAP ? ".pcap" : ".pcapng";
    struct netring_packet packets[BATCH];
    struct netring_stats stats;
    struct netring_writer *writer;
    struct netring_writer_info info;
    struct series series;
    static uint8_t data[BATCH][1514];
    char name[64], shown[256];
    uint32_t sent = 0, kept = PACKETS;
    int id;

    snprintf(name, sizeof name, "size%u-%u%s", format, max_files, extension);
    config.rotate_bytes = LIMIT;
    config.max_files = max_files;
    writer = writer_open(in_directory(name), &config);
    id = add_ethernet(writer, 0);
    memset(&stats, 0, sizeof stats);
    stats.seen = 7;
    netring_writer_statistics(writer, (uint32_t)id, &stats, sizeof stats);
    while (sent < PACKETS) {
        uint32_t count = sent + BATCH <= PACKETS ? BATCH : PACKETS - sent;

        for (uint32_t i = 0; i < count; i++)
            packets[i] = numbered(data[i], sent + i, (uint32_t)frame_mixed(sent + i, 18, 1514));
        if (netring_writer_write(writer, (uint32_t)id, packets, sizeof *packets, count) !=
            (int)count)
            tap_bail("%s: %s", name, last_error(writer).message);
        sent += count;
    }
    info = writer_info(writer);
    netring_writer_path(writer, shown, sizeof shown);
    writer_close(writer);
    snprintf(name, sizeof name, "size%u-%u", format, max_files);
    series = series_of(name, extension);
    if (max_files != 0) {
        struct savefile oldest = savefile_read(series.path[0]);

        is_int(series.count, max_files, "%s: so many files are kept", name);
        kept = PACKETS - (oldest.packets ? frame_number(oldest.packet[0].data) : 0);
        savefile_free(&oldest);
        is_int(info.files_removed, info.files - max_files, "%s: the others were removed", name);
    } else {
        is_int(series.count, info.files, "%s: all files are kept", name);
        is_int(info.files_removed, 0, "%s: none removed", name);
    }
    ok(info.files > 20 && info.packets == PACKETS && info.bytes > 20 * (LIMIT - 3000),
       "%s: %llu files, filled", name, (unsigned long long)info.files);
    is_str(series.path[series.count - 1], shown, "%s: the path of the last", name);
    is_series(&series, PACKETS - kept, kept, LIMIT, name);
}

/* A packet that is larger than a file may be has a file of its own. */
static void test_rotation_of_giants(void)
{
    struct netring_writer_config config = writer_config(NETRING_SAVEFILE_PCAP);
    struct netring_writer *writer;
    struct series series;
    static uint8_t data[1514];

    config.rotate_bytes = 200;
    writer = writer_open(in_directory("giants"), &config);
    add_ethernet(writer, 0);
    for (uint32_t i = 0; i < 3; i++) {
        struct netring_packet packet = numbered(data, i, 1000);

        is_int(netring_writer_write(writer, 0, &packet, sizeof packet, 1), 1, "a giant");
    }
    writer_close(writer);
    series = series_of("giants", "");
    is_int(series.count, 3, "each has a file");
    is_series(&series, 0, 3, 200, "giants");
}

static void test_rotation_by_time(void)
{
    enum { PACKETS = 95 };
    struct netring_writer_config config = writer_config(NETRING_SAVEFILE_PCAPNG);
    struct netring_packet packets[PACKETS];
    struct netring_stats stats;
    struct netring_writer *writer;
    struct series series;
    static uint8_t data[PACKETS][64];
    size_t wrong = 0;
    const char *name;

    config.rotate_ns = SECOND;
    writer = writer_open(in_directory("time.ng"), &config);
    add_ethernet(writer, 0);
    memset(&stats, 0, sizeof stats);
    netring_writer_statistics(writer, 0, &stats, sizeof stats);
    /* Ten a second, the eleventh of them in the next file. */
    for (uint32_t i = 0; i < PACKETS; i++)
        packets[i] = numbered(data[i], i, 64);
    is_int(netring_writer_write(writer, 0, packets, sizeof *packets, PACKETS), PACKETS,
           "9.5 seconds in one call");
    writer_close(writer);
    series = series_of("time", ".ng");
    is_int(series.count, 10, "a file a second");
    is_series(&series, 0, PACKETS, 0, "time");
    for (size_t i = 0; i < series.count; i++) {
        struct savefile file = savefile_read(series.path[i]);

        wrong += file.packets != (i < 9 ? 10 : 5);
        savefile_free(&file);
    }
    is_int(wrong, 0, "ten packets each");
    /* time_00001_20261122202701.ng */
    name = strrchr(series.path[0], '/') + 1;
    ok(strlen(name) == 28 && strncmp(name, "time_00001_20", 13) == 0 &&
           strspn(name + 11, "0123456789") == 14,
       "named as dumpcap does: %s", name);
}

/* The clock is set back by more than a file: the file ends nevertheless, but not for two clocks
 * that differ. */
static void test_rotation_set_back(void)
{
    struct netring_writer_config config = writer_config(NETRING_SAVEFILE_PCAP);
    struct netring_writer *writer;
    struct netring_packet packet;
    static uint8_t data[64];
    struct series series;

    config.rotate_ns = SECOND / 50;
    writer = writer_open(in_directory("back"), &config);
    add_ethernet(writer, 0);
    for (uint32_t i = 0; i < 3; i++) {
        packet = numbered(data, i, 64);
        if (i > 0)
            packet.time_ns = 7;
        is_int(netring_writer_write(writer, 0, &packet, sizeof packet, 1), 1, "set back");
        sleep_ms(40);
    }
    writer_close(writer);
    series = series_of("back", "");
    is_int(series.count, 2, "the file ends");
    is_series(&series, 0, 3, 0, "a clock set back");

    writer = writer_open(in_directory("clocks"), &config);
    add_ethernet(writer, 0);
    for (uint32_t i = 0; i < 6; i++) {
        packet = numbered(data, i, 64);
        packet.time_ns = i % 2 == 0 ? SECOND : 7;
        is_int(netring_writer_write(writer, 0, &packet, sizeof packet, 1), 1, "two clocks");
        sleep_ms(15);
    }
    writer_close(writer);
    series = series_of("clocks", "");
    is_int(series.count, 1, "one file");
    is_series(&series, 0, 6, 0, "two clocks");
}

/* Two series of one name, begun in one second: neither takes the other's files. */
static void test_rotation_of_two(void)
{
    enum { FILES = 6 };
    struct netring_writer_config config = writer_config(NETRING_SAVEFILE_PCAP);
    struct netring_writer *writer[2];
    char path[2 * FILES][256];
    static uint8_t data[400];
    size_t same = 0, wrong = 0;

    config.rotate_bytes = 500;
    for (int w = 0; w < 2; w++) {
        writer[w] = writer_open(in_directory("both.pcap"), &config);
        add_ethernet(writer[w], 0);
    }
    for (uint32_t i = 0; i < 2 * FILES; i++) {
        struct netring_packet packet = numbered(data, i, 400);

        wrong += netring_writer_write(writer[i % 2], 0, &packet, sizeof packet, 1) != 1;
        netring_writer_path(writer[i % 2], path[i], sizeof path[i]);
    }
    for (int w = 0; w < 2; w++) {
        wrong += writer_info(writer[w]).files != FILES;
        writer_close(writer[w]);
    }
    is_int(wrong, 0, "two series of one name");
    for (uint32_t i = 0; i < 2 * FILES; i++) {
        struct savefile file = savefile_read(path[i]);

        wrong += file.packets != 1 || frame_number(file.packet[0].data) != i;
        savefile_free(&file);
        for (uint32_t k = 0; k < i; k++)
            same += strcmp(path[i], path[k]) == 0;
    }
    is_int(same, 0, "no two files of one name");
    is_int(wrong, 0, "each has its packet");
}

/* max_files removes what the writer made, and nothing that has come to lie in its place. */
static void test_rotation_of_others(void)
{
    struct netring_writer_config config = writer_config(NETRING_SAVEFILE_PCAP);
    struct netring_writer *writer;
    static uint8_t data[400];
    char first[256], moved[272];
    FILE *other;

    config.rotate_bytes = 500;
    config.max_files = 2;
    writer = writer_open(in_directory("others"), &config);
    add_ethernet(writer, 0);
    netring_writer_path(writer, first, sizeof first);
    snprintf(moved, sizeof moved, "%s.kept", first);
    if (rename(first, moved) != 0 || !(other = fopen(first, "we")))
        tap_bail("%s: %s", first, strerror(errno));
    fclose(other);
    for (uint32_t i = 0; i < 4; i++) {
        struct netring_packet packet = numbered(data, i, 400);

        is_int(netring_writer_write(writer, 0, &packet, sizeof packet, 1), 1, "file %u", i);
    }
    is_int(writer_info(writer).files_removed, 1, "one of ours is removed");
    ok(access(first, F_OK) == 0 && access(moved, F_OK) == 0, "somebody else's file is not");
    writer_close(writer);
}

/* The next file cannot be begun: the present one goes on, and nothing is lost. */
static void test_rotation_fails(void *user)
{
    struct netring_writer_config config = writer_config(NETRING_SAVEFILE_PCAP);
    struct failure want = {NETRING_EIO, EACCES, "open", {"refused_00002_", "Permission denied"}};
    struct netring_writer *writer;
    struct netring_packet packets[4];
    struct netring_error error;
    struct series series;
    static uint8_t data[4][400];
    int rc, error_number;

    (void)user;
    config.rotate_bytes = 1000;
    mkdir(in_directory("closed"), 0755);
    writer = writer_open(in_directory("closed/refused"), &config);
    add_ethernet(writer, 0);
    for (uint32_t i = 0; i < 4; i++)
        packets[i] = numbered(data[i], i, 400);
    chmod(in_directory("closed"), 0555);
    keep_capabilities(0);
    errno = 0;
    rc = netring_writer_write(writer, 0, packets, sizeof *packets, 4);
    error_number = errno;
    error = last_error(writer);
    is_failure(rc, error_number, &error, &want, "the next file is refused");
    is_int(writer_info(writer).last_written, 2, "two packets are in the first one");
    chmod(in_directory("closed"), 0755);
    is_int(netring_writer_write(writer, 0, packets + 2, sizeof *packets, 2), 2, "then it goes on");
    writer_close(writer);
    series = series_of("closed/refused", "");
    is_int(series.count, 2, "two files");
    is_series(&series, 0, 4, 1000, "after a refusal");
}

/* ---- disks and limits ---- */

/* Fills `path` until nothing fits any more. */
static void fill(const char *path, size_t leave)
{
    static char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    off_t size;

    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    size = lseek(fd, 0, SEEK_END);
    if (ftruncate(fd, size - (off_t)leave) != 0)
        tap_bail("%s: %s", path, strerror(errno));
    close(fd);
}

static struct netring_block *some_block(struct netring_capture *capture, uint32_t first,
                                        uint32_t count)
{
    return block_of(capture, sender, first, count, 1400);
}

static void test_full(uint32_t format)
{
    enum { FRAMES = 40, FIRST = 15 };
    const char *disk = in_directory("disk");
    struct netring_capture_config config = small_config();
    struct netring_writer_config how = writer_config(format);
    struct failure want = {
        NETRING_EIO, ENOSPC, "write", {"disk/full", "No space left", " packets, ", "free space"}};
    struct netring_capture *capture;
    struct netring_writer *writer;
    struct netring_writer_info info;
    struct netring_block *block;
    struct netring_error error;
    struct savefile file;
    struct records records = {0, 0, NULL};
    char path[256], ballast[256], theirs[256], shown[256];
    int rc, error_number;

    mkdir(disk, 0755);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", disk, "tmpfs", 0, "size=256k") != 0) {
        tap_skip("a full disk", "mounting a tmpfs is not for us");
        return;
    }
    snprintf(path, sizeof path, "%s/full", disk);
    snprintf(ballast, sizeof ballast, "%s/ballast", disk);
    config.block_count = 4;
    config.block_timeout = 0;
    capture = capture_open("vb", &config);
    writer = writer_open(path, &how);
    add_capture(writer, capture);

    /* A block that fits, and one that does not. */
    block = some_block(capture, 0, FIRST);
    is_int(netring_writer_write_block(writer, 0, block), FIRST, "a block that fits");
    block_records(block, 64, &records);
    netring_block_release(block);
    fill(ballast, 16384);
    block = some_block(capture, FIRST, FRAMES - FIRST);
    errno = 0;
    rc = netring_writer_write_block(writer, 0, block);
    error_number = errno;
    error = last_error(writer);
    is_failure(rc, error_number, &error, &want, "a full disk");
    info = writer_info(writer);
    ok(info.packets >= FIRST && info.packets < FRAMES && info.last_written == info.packets - FIRST,
       "%llu packets fit", (unsigned long long)info.packets);
    file = savefile_read(path);
    is_savefile(&file, info.packets, "on a full disk");
    is_int(file.size, info.file_bytes, "of the size that was told");
    is_read_by_others(path, &file, "on a full disk");
    savefile_free(&file);
    rc = netring_writer_write_block(writer, 0, block);
    is_int(rc, NETRING_EIO, "and still full");

    /* Space: the same call goes on. */
    unlink(ballast);
    info = writer_info(writer);
    is_int(netring_writer_write_block(writer, 0, block), FRAMES - (int)info.packets,
           "then the rest of the block");
    block_records(block, 64, &records);
    is_int(netring_writer_write_block(writer, 0, block), FRAMES - FIRST,
           "and the whole of it anew");
    netring_block_release(block);
    writer_close(writer);
    file = savefile_read(path);
    is_savefile(&file, 2 * FRAMES - FIRST, "after that");
    is_records(&file, 0, &records, "no packet is missing, none there twice");
    savefile_free(&file);

    /* The end does not fit. */
    writer = writer_open(path, &how);
    add_capture(writer, capture);
    if (format == NETRING_SAVEFILE_PCAPNG) {
        struct netring_stats stats = capture_stats(capture);
        size_t most = 0;

        netring_writer_statistics(writer, 0, &stats, sizeof stats);
        /* The page that the file has is filled, and there is no other. */
        while (writer_info(writer).file_bytes % 4096 < 4096 - 112) {
            static uint8_t data[64];
            struct netring_packet packet = numbered(data, 0, 18);

            netring_writer_write(writer, 0, &packet, sizeof packet, 1);
            most++;
        }
        fill(ballast, 0);
        error_spoil(&error);
        errno = 0;
        rc = netring_writer_close(writer, &error);
        error_number = errno;
        is_failure(rc, error_number, &error, &want, "no space for the end");
        ok(strstr(error.message, "call again") == NULL, "which cannot be tried again");
        file = savefile_read(path);
        is_savefile(&file, most, "without its end");
        savefile_free(&file);
        unlink(ballast);
    } else {
        writer_close(writer);
    }

    /* Not even the beginning does. */
    unlink(path);
    snprintf(theirs, sizeof theirs, "%s/theirs", disk);
    close(open(theirs, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    fill(ballast, 0);
    if (format == NETRING_SAVEFILE_PCAPNG) {
        is_int(symlink(theirs, path), 0, "a link to a file");
        is_int(netring_writer_open(path, &how, &writer, &error), NETRING_EIO,
               "no space behind a link");
        ok(readlink(path, shown, sizeof shown) > 0 && access(theirs, F_OK) == 0,
           "what others made stays");
        unlink(path);
        want.words[2] = NULL;
        writer = NULL;
        errno = 0;
        rc = netring_writer_open(path, &how, &writer, &error);
        error_number = errno;
        is_failure(rc, error_number, &error, &want, "no space for the beginning");
        ok(writer == NULL && access(path, F_OK) != 0, "leaves nothing behind");
    }
    records_free(&records);
    capture_close(capture);
    umount2(disk, MNT_DETACH);
}

/* The first blocks of a savefile with so many packets. */
static struct netring_reader *blocks_of(uint32_t packets, struct netring_block **blocks, int count)
{
    struct netring_reader_config config = NETRING_READER_CONFIG_INIT;
    const char *path = in_directory("blocks");
    struct netring_writer *writer = writer_open(path, NULL);
    struct netring_reader *reader;
    static uint8_t data[1000];

    add_ethernet(writer, 0);
    for (uint32_t i = 0; i < packets; i++) {
        struct netring_packet packet = numbered(data, i, 1000);

        if (netring_writer_write(writer, 0, &packet, sizeof packet, 1) != 1)
            tap_bail("%s", last_error(writer).message);
    }
    writer_close(writer);
    config.block_size = 8192;
    if (netring_reader_open(path, &config, &reader, NULL) != 0)
        tap_bail("%s could not be read", path);
    for (int i = 0; i < count; i++)
        if (netring_reader_next_block(reader, 0, &blocks[i]) != 1)
            tap_bail("%s has too few blocks", path);
    return reader;
}

/* Several blocks that did not fit: each goes on where it was, as several threads have it. */
static void write_unfinished(void *user)
{
    struct rlimit unlimited, limit;
    struct netring_block *blocks[2];
    struct netring_reader *reader = blocks_of(20, blocks, 2);
    const char *path = in_directory("unfinished");
    struct netring_writer *writer = writer_open(path, NULL);
    struct netring_block_info info[2];
    struct savefile file;
    size_t wrong = 0;
    int rc[4], first;

    (void)user;
    signal(SIGXFSZ, SIG_DFL);
    add_ethernet(writer, 0);
    for (int i = 0; i < 2; i++)
        netring_block_info(blocks[i], &info[i], sizeof info[i]);
    getrlimit(RLIMIT_FSIZE, &unlimited);
    limit = unlimited;
    limit.rlim_cur = 4000;
    /* Standard output may be a file, too. */
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        tap_bail("setrlimit: %s", strerror(errno));
    rc[0] = netring_writer_write_block(writer, 0, blocks[0]);
    first = (int)writer_info(writer).last_written;
    rc[1] = netring_writer_write_block(writer, 0, blocks[1]);
    setrlimit(RLIMIT_FSIZE, &unlimited);
    rc[2] = netring_writer_write_block(writer, 0, blocks[0]);
    rc[3] = netring_writer_write_block(writer, 0, blocks[1]);
    ok(rc[0] == NETRING_EIO && rc[1] == NETRING_EIO && first > 0, "two blocks do not fit");
    is_int(rc[2], (int)info[0].count - first, "the rest of the first");
    is_int(rc[3], (int)info[1].count, "all of the second");
    writer_close(writer);
    file = savefile_read(path);
    if (is_savefile(&file, info[0].count + info[1].count, "both"))
        for (size_t i = 0; i < file.packets; i++)
            wrong += frame_number(file.packet[i].data) != i;
    is_int(wrong, 0, "each packet once and in order");
    savefile_free(&file);
    for (int i = 0; i < 2; i++)
        netring_block_release(blocks[i]);
    netring_reader_close(reader);
}

static void write_past_limit(void *user)
{
    struct rlimit unlimited, limit;
    struct failure want = {NETRING_EIO, EFBIG, "write", {"limited", "ulimit -f"}};
    const char *path = in_directory("limited");
    struct netring_writer *writer = writer_open(path, NULL);
    struct netring_packet packets[20];
    static uint8_t data[20][1000];
    struct netring_error error;
    struct savefile file;
    int rc, error_number;

    (void)user;
    signal(SIGXFSZ, SIG_DFL);
    getrlimit(RLIMIT_FSIZE, &unlimited);
    limit = unlimited;
    limit.rlim_cur = 10000;
    add_ethernet(writer, 0);
    for (uint32_t i = 0; i < COUNT(packets); i++)
        packets[i] = numbered(data[i], i, 1000);
    /* Standard output may be a file, too. */
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        tap_bail("setrlimit: %s", strerror(errno));
    errno = 0;
    rc = netring_writer_write(writer, 0, packets, sizeof *packets, COUNT(packets));
    error_number = errno;
    setrlimit(RLIMIT_FSIZE, &unlimited);
    error = last_error(writer);
    is_failure(rc, error_number, &error, &want, "a limit on file sizes");
    file = savefile_read(path);
    is_savefile(&file, 9, "up to the limit");
    is_int(writer_info(writer).last_written, 9, "as the writer says");
    savefile_free(&file);
    netring_writer_close(writer, NULL);
}

/* ---- descriptors ---- */

struct drain {
    int fd;
    uint8_t *bytes;
    size_t size;
};

static void *drains(void *user)
{
    struct drain *drain = user;
    uint8_t part[3000];
    ssize_t n;

    while ((n = read(drain->fd, part, sizeof part)) > 0) {
        drain->bytes = realloc(drain->bytes, drain->size + (size_t)n + 32);
        memcpy(drain->bytes + drain->size, part, (size_t)n);
        drain->size += (size_t)n;
        if (drain->size < 20000)
            sleep_ms(1);
    }
    return NULL;
}

static void test_pipe(bool blocking)
{
    enum { PACKETS = 300 };
    struct netring_writer *writer;
    struct netring_error error;
    struct drain drain = {-1, NULL, 0};
    struct savefile file;
    static uint8_t data[PACKETS][1500];
    struct netring_packet packets[PACKETS];
    pthread_t thread;
    size_t wrong = 0;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | (blocking ? 0 : O_NONBLOCK)) != 0)
        tap_bail("pipe: %s", strerror(errno));
    drain.fd = fds[0];
    fcntl(fds[0], F_SETFL, 0);
    is_int(netring_writer_open_fd(fds[1], NULL, &writer, &error), 0, "a pipe");
    is_no_error(&error, "a pipe");
    close(fds[1]);
    pthread_create(&thread, NULL, drains, &drain);
    add_ethernet(writer, 0);
    for (uint32_t i = 0; i < PACKETS; i++)
        packets[i] = numbered(data[i], i, 1500);
    is_int(netring_writer_write(writer, 0, packets, sizeof *packets, PACKETS), PACKETS,
           "all through a slow pipe");
    is_int(netring_writer_sync(writer), 0, "nothing to sync");
    is_int(netring_writer_path(writer, NULL, 0), 0, "no path");
    writer_close(writer);
    pthread_join(thread, NULL);
    close(fds[0]);
    file = savefile_parse(drain.bytes, drain.size);
    if (is_savefile(&file, PACKETS, blocking ? "a pipe" : "a non-blocking pipe"))
        for (uint32_t i = 0; i < PACKETS; i++)
            wrong += memcmp(file.packet[i].data, data[i], 1500) != 0;
    is_int(wrong, 0, "byte for byte");
    savefile_free(&file);
}

static void write_to_nobody(void *user)
{
    struct failure want = {NETRING_EIO, EPIPE, "write", {"the descriptor", "Broken pipe"}};
    struct netring_writer *writer;
    struct netring_error error;
    struct netring_packet packet;
    static uint8_t data[1500];
    int fds[2], rc, error_number;

    (void)user;
    signal(SIGPIPE, SIG_DFL);
    if (pipe2(fds, O_CLOEXEC) != 0 || netring_writer_open_fd(fds[1], NULL, &writer, NULL) != 0)
        tap_bail("pipe: %s", strerror(errno));
    add_ethernet(writer, 0);
    close(fds[0]);
    packet = numbered(data, 0, 1500);
    for (int i = 0; i < 2; i++) {
        errno = 0;
        rc = netring_writer_write(writer, 0, &packet, sizeof packet, 1);
        error_number = errno;
        error = last_error(writer);
        is_failure(rc, error_number, &error, &want, "a pipe that nobody reads");
    }
    close(fds[1]);
    rc = netring_writer_close(writer, &error);
    is_int(rc, 0, "its close has nothing to write");
}

/* A file of the caller's, from where it stands. */
static void test_descriptor(void)
{
    const char *path = in_directory("descriptor");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct netring_writer *writer = NULL;
    struct netring_packet packet;
    static uint8_t data[64];
    struct savefile file;

    is_int(netring_writer_open_fd(fd, NULL, &writer, NULL), 0, "a descriptor");
    add_ethernet(writer, 0);
    packet = numbered(data, 5, 64);
    is_int(netring_writer_write(writer, 0, &packet, sizeof packet, 1), 1, "a packet");
    writer_close(writer);
    ok(fcntl(fd, F_GETFD) >= 0, "the caller's stays open");
    is_int(lseek(fd, 0, SEEK_CUR), lseek(fd, 0, SEEK_END), "at the end");
    close(fd);
    file = savefile_read(path);
    is_savefile(&file, 1, "descriptor");
    savefile_free(&file);
}

struct stuck {
    struct netring_writer *writer;
    struct netring_packet packet;
    int rc;
};

static void *write_one(void *user)
{
    struct stuck *stuck = user;

    stuck->rc = netring_writer_write(stuck->writer, 0, &stuck->packet, sizeof stuck->packet, 1);
    return NULL;
}

/* A pipe that is full: whoever only asks does not wait for it. */
static void test_asking_meanwhile(void)
{
    static uint8_t data[200000];
    struct stuck stuck = {NULL, numbered(data, 0, sizeof data), 0};
    struct pollfd full;
    struct savefile file;
    struct drain drain = {-1, NULL, 0};
    pthread_t thread, drainer;
    char path[8] = "x";
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        tap_bail("pipe: %s", strerror(errno));
    netring_writer_open_fd(fds[1], NULL, &stuck.writer, NULL);
    add_ethernet(stuck.writer, 0);
    pthread_create(&thread, NULL, write_one, &stuck);
    full = (struct pollfd){.fd = fds[1], .events = POLLOUT};
    while (poll(&full, 1, 0) != 0)
        sleep_ms(1);
    is_int(writer_info(stuck.writer).packets, 0, "what a call has not written is not counted");
    is_int(netring_writer_path(stuck.writer, path, sizeof path), 0, "nor does the path wait");
    close(fds[1]);
    drain.fd = fds[0];
    pthread_create(&drainer, NULL, drains, &drain);
    pthread_join(thread, NULL);
    is_int(stuck.rc, 1, "then it is written");
    is_int(writer_info(stuck.writer).packets, 1, "and counted");
    writer_close(stuck.writer);
    pthread_join(drainer, NULL);
    close(fds[0]);
    file = savefile_parse(drain.bytes, drain.size);
    is_savefile(&file, 1, "through a full pipe");
    savefile_free(&file);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 200 };

struct writing {
    struct netring_writer *writer;
    uint32_t number;
    int failures;
};

static void *writes(void *user)
{
    struct writing *writing = user;
    uint8_t data[2][300];
    struct netring_packet packets[2];
    struct netring_writer_info info;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        for (uint32_t k = 0; k < 2; k++)
            packets[k] = numbered(data[k], writing->number + 2 * i + k, 300);
        writing->failures +=
            netring_writer_write(writing->writer, 0, packets, sizeof *packets, 2) != 2;
        writing->failures += netring_writer_info(writing->writer, &info, sizeof info) != 0;
    }
    return NULL;
}

static void test_threads(void)
{
    const char *path = in_directory("threads");
    struct netring_writer *writer = writer_open(path, NULL);
    struct writing writing[THREADS];
    pthread_t threads[THREADS];
    bool seen[THREADS * ROUNDS * 2] = {false};
    struct savefile file;
    size_t wrong = 0;

    add_ethernet(writer, 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        writing[i] = (struct writing){writer, i * 2 * ROUNDS, 0};
        pthread_create(&threads[i], NULL, writes, &writing[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        wrong += (size_t)writing[i].failures;
    }
    writer_close(writer);
    is_int(wrong, 0, "four threads write");
    file = savefile_read(path);
    wrong = 0;
    if (is_savefile(&file, COUNT(seen), "four threads")) {
        for (size_t i = 0; i < file.packets; i++) {
            uint32_t number = frame_number(file.packet[i].data);

            wrong += number >= COUNT(seen) || seen[number];
            if (number < COUNT(seen))
                seen[number] = true;
            /* The two of a call are together. */
            if (i % 2 == 1)
                wrong += frame_number(file.packet[i - 1].data) + 1 != number;
        }
    }
    is_int(wrong, 0, "each packet once");
    savefile_free(&file);
}

/* ---- misuse ---- */

static void fails_to_open(const char *what, const char *path,
                          const struct netring_writer_config *config, const struct failure *want)
{
    struct footprint before = footprint_now();
    struct netring_writer *writer = NULL;
    struct netring_error error;
    int rc, error_number;

    error_spoil(&error);
    errno = 0;
    rc = netring_writer_open(path, config, &writer, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, want, what);
    ok(writer == NULL, "%s: no handle", what);
    is_footprint(before, what);
}

static void open_unprivileged(void *user)
{
    struct failure want = {NETRING_EIO, EACCES, "open", {"closed2/x", "Permission denied"}};

    (void)user;
    mkdir(in_directory("closed2"), 0555);
    keep_capabilities(0);
    fails_to_open("a directory of others", in_directory("closed2/x"), NULL, &want);
}

static void test_open_errors(void)
{
    static const struct {
        const char *name, *path;
        struct failure want;
    } paths[] = {
        {"no path", "", {NETRING_EINVAL, 0, "path", {"empty"}}},
        {"no directory", "missing/x", {NETRING_EIO, ENOENT, "open", {"missing/x", "directory"}}},
        {"a directory", ".", {NETRING_EIO, EISDIR, "open", {"Is a directory"}}},
    };
    struct netring_writer_config config = writer_config(NETRING_SAVEFILE_PCAPNG);
    struct netring_writer_config good = config;
    char path[8192];
    struct failure want;

    for (size_t i = 0; i < COUNT(paths); i++) {
        snprintf(path, sizeof path, "%s%s%s", paths[i].path[0] ? directory : "",
                 paths[i].path[0] ? "/" : "", paths[i].path);
        fails_to_open(paths[i].name, path, NULL, &paths[i].want);
    }
    want = (struct failure){NETRING_EINVAL, 0, "path", {"NULL"}};
    fails_to_open("NULL for a path", NULL, NULL, &want);
    memset(path, 'x', 5000);
    path[5000] = '\0';
    want = (struct failure){NETRING_EIO, ENAMETOOLONG, "open", {"...xxx", "too long"}};
    fails_to_open("a path without end", path, NULL, &want);
    child_run("an unprivileged user", open_unprivileged, NULL);

    fclose(fopen(in_directory("there"), "we"));
    config.flags = NETRING_WRITER_NEW;
    want = (struct failure){NETRING_EIO, EEXIST, "open", {"there", "another file"}};
    fails_to_open("a file that is there", in_directory("there"), &config, &want);

    config = good;
    config.init = 0;
    want = (struct failure){NETRING_EINVAL, 0, "init", {"netring_writer_config_init"}};
    fails_to_open("no init word", in_directory("x"), &config, &want);
    config = good;
    config.size = 8;
    want = (struct failure){NETRING_EINVAL, 0, "size", {"8"}};
    fails_to_open("a wrong size", in_directory("x"), &config, &want);
    config = good;
    config.format = 3;
    want = (struct failure){NETRING_EINVAL, 0, "format", {"3"}};
    fails_to_open("an unknown format", in_directory("x"), &config, &want);
    config = good;
    config.flags = 0x80 | NETRING_WRITER_NEW;
    want = (struct failure){NETRING_EINVAL, 0, "flags", {"0x80"}};
    fails_to_open("an unknown flag", in_directory("x"), &config, &want);
    config = good;
    config.flags = NETRING_WRITER_MICROSECONDS;
    want = (struct failure){NETRING_EINVAL, 0, "flags", {"MICROSECONDS"}};
    fails_to_open("microseconds in pcapng", in_directory("x"), &config, &want);
    config = good;
    config.max_files = 5;
    want = (struct failure){NETRING_EINVAL, 0, "max_files", {"5", "rotate_bytes"}};
    fails_to_open("files without rotation", in_directory("x"), &config, &want);
    config.rotate_ns = 1;
    config.max_files = 0;
    want = (struct failure){NETRING_EINVAL, 0, "path", {"directory"}};
    fails_to_open("a series without a name", in_directory(""), &config, &want);
    config.max_files = 1;
    want = (struct failure){NETRING_EINVAL, 0, "max_files", {"2"}};
    fails_to_open("a single file", in_directory("x"), &config, &want);
    is_int(netring_writer_open(in_directory("x"), NULL, NULL, NULL), NETRING_EINVAL,
           "no place for the handle");
    ok(access(in_directory("x"), F_OK) != 0, "none of these has made a file");
}

static void test_descriptor_errors(void)
{
    struct netring_writer_config config = writer_config(NETRING_SAVEFILE_PCAPNG);
    struct footprint before = footprint_now();
    struct netring_writer *writer = NULL;
    struct netring_error error;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct failure want = {NETRING_EINVAL, 0, "fd", {"not open for writing"}};
    struct rlimit limit, few;
    int rc, error_number;

    errno = 0;
    rc = netring_writer_open_fd(fd, NULL, &writer, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &want, "a descriptor to read");
    close(fd);
    want = (struct failure){NETRING_EINVAL, 0, "fd", {"not open"}};
    errno = 0;
    rc = netring_writer_open_fd(fd, NULL, &writer, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &want, "a closed descriptor");
    fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    getrlimit(RLIMIT_NOFILE, &limit);
    few = limit;
    few.rlim_cur = (rlim_t)fd + 1; /* the lowest that was free: all below are in use */
    setrlimit(RLIMIT_NOFILE, &few);
    want = (struct failure){NETRING_EIO, EMFILE, "fd", {"could not be duplicated", "ulimit -n"}};
    errno = 0;
    rc = netring_writer_open_fd(fd, NULL, &writer, &error);
    error_number = errno;
    setrlimit(RLIMIT_NOFILE, &limit);
    is_failure(rc, error_number, &error, &want, "no descriptor left");
    close(fd);
    want = (struct failure){NETRING_EINVAL, 0, "fd", {"-1"}};
    errno = 0;
    rc = netring_writer_open_fd(-1, NULL, &writer, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &want, "no descriptor");
    config.rotate_bytes = 1000;
    want = (struct failure){NETRING_EINVAL, 0, "fd", {"path"}};
    errno = 0;
    rc = netring_writer_open_fd(1, &config, &writer, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &want, "rotation of a descriptor");
    ok(writer == NULL, "no handle");
    is_footprint(before, "descriptors");

    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    want = (struct failure){NETRING_EIO, ENOSPC, "write", {"No space left"}};
    errno = 0;
    rc = netring_writer_open_fd(fd, NULL, &writer, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &want, "/dev/full");
    close(fd);
    is_footprint(before, "/dev/full");
}

/* Every function on something that is no writer. */
static void is_no_writer(struct netring_writer *writer, const char *what)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_stats stats = capture_stats(capture);
    struct netring_writer_info info;
    struct netring_packet packet;
    struct netring_error error;
    uint8_t data[64];
    char path[8];
    int codes[9] = {0};

    packet = numbered(data, 0, 64);
    codes[0] = netring_writer_add_interface(writer, "x", 1, 0, &error);
    codes[1] = netring_writer_add_capture(writer, capture, &error);
    codes[2] = netring_writer_write(writer, 0, &packet, sizeof packet, 1);
    codes[3] = netring_writer_write_block(writer, 0, NULL);
    codes[4] = netring_writer_statistics(writer, 0, &stats, sizeof stats);
    codes[5] = netring_writer_sync(writer);
    codes[6] = netring_writer_info(writer, &info, sizeof info);
    codes[7] = netring_writer_path(writer, path, sizeof path);
    codes[8] = netring_writer_last_error(writer, &error);
    for (size_t i = 0; i < COUNT(codes); i++)
        if (codes[i] != NETRING_EBADF)
            is_int(codes[i], NETRING_EBADF, "%s: call %zu", what, i);
    is_int(netring_writer_close(writer, &error), writer ? NETRING_EBADF : 0, "%s: close", what);
    capture_close(capture);
}

static void use_in_child(void *user)
{
    is_no_writer(user, "the parent's");
}

static void test_misuse(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_writer *writer = writer_open(in_directory("misuse"), NULL);
    struct netring_block *block = block_of(capture, sender, 0, 3, 100);
    struct netring_packet packets[2];
    struct netring_writer_info info;
    struct netring_error error;
    struct failure want;
    static uint8_t data[2][64];
    struct savefile file;
    char path[8] = "12345678";
    int rc, error_number;

    packets[0] = numbered(data[0], 0, 64);
    packets[1] = numbered(data[1], 1, 64);
    want = (struct failure){NETRING_EINVAL, 0, "interface", {"netring_writer_add_capture"}};
    errno = 0;
    rc = netring_writer_write_block(writer, 0, block);
    error_number = errno;
    error = last_error(writer);
    is_failure(rc, error_number, &error, &want, "before an interface");
    want = (struct failure){NETRING_EINVAL, 0, "link_type", {"65536"}};
    errno = 0;
    rc = netring_writer_add_interface(writer, "x", 65536, 0, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &want, "no link type");
    is_int(netring_writer_add_capture(writer, NULL, &error), NETRING_EBADF, "no capture");
    is_int(netring_writer_add_capture(writer, (struct netring_capture *)writer, NULL),
           NETRING_EBADF, "a writer for a capture");
    add_ethernet(writer, 0);

    is_int(netring_writer_write_block(writer, 0, NULL), NETRING_EBADF, "no block");
    is_int(netring_writer_write_block(writer, 0, (struct netring_block *)capture), NETRING_EBADF,
           "a capture for a block");
    is_int(netring_writer_write(writer, 0, NULL, sizeof *packets, 1), NETRING_EINVAL, "no packets");
    is_int(netring_writer_write(writer, 0, packets, 8, 2), NETRING_EINVAL, "size of a pointer");
    is_int(netring_writer_write(writer, 0, packets, sizeof packets * 16, 2), NETRING_EINVAL,
           "size of an array");
    is_int(netring_writer_write(writer, 1, packets, sizeof *packets, 2), NETRING_EINVAL,
           "no such interface");
    packets[1].data = NULL;
    want = (struct failure){NETRING_EINVAL, 0, "packets", {"packet 1"}};
    errno = 0;
    rc = netring_writer_write(writer, 0, packets, sizeof *packets, 2);
    error_number = errno;
    error = last_error(writer);
    is_failure(rc, error_number, &error, &want, "a packet without data");
    packets[1].data = data[1];
    packets[1].link_type = NETRING_LINKTYPE_RAW;
    want = (struct failure){NETRING_EINVAL, 0, "link_type", {"101", "test0"}};
    errno = 0;
    rc = netring_writer_write(writer, 0, packets, sizeof *packets, 2);
    error_number = errno;
    error = last_error(writer);
    is_failure(rc, error_number, &error, &want, "a packet of another link type");
    is_int(netring_writer_statistics(writer, 0, NULL, sizeof(struct netring_stats)), NETRING_EINVAL,
           "no statistics");
    is_int(netring_writer_info(writer, NULL, sizeof info), NETRING_EINVAL, "no place for the info");
    is_int(netring_writer_info(writer, &info, 8), NETRING_EINVAL, "no room for the info");
    is_int(netring_writer_path(writer, NULL, 8), NETRING_EINVAL, "no place for the path");
    ok(netring_writer_path(writer, path, 4) > 8 && strlen(path) == 3 && path[4] == '5',
       "a path is cut");
    is_int(netring_writer_last_error(writer, NULL), NETRING_EINVAL, "no place for the error");
    is_int(writer_info(writer).packets, 0, "nothing of all that was written");

    /* A block that somebody else reads, and one whose capture is closed. */
    is_int(netring_block_retain(block, 1), 0, "another user");
    capture_close(capture);
    is_int(netring_writer_write_block(writer, 0, block), 3, "a block of a closed capture");
    netring_block_release(block);
    is_int(netring_writer_write_block(writer, 0, block), 3, "and once more");
    netring_block_release(block);
    is_int(netring_writer_write_block(writer, 0, block), NETRING_EBADF, "a released block");

    child_run("a child", use_in_child, writer);
    is_no_writer(NULL, "NULL");
    is_no_writer((struct netring_writer *)(uintptr_t)0x1234567890, "made up");
    writer_close(writer);
    is_no_writer(writer, "closed");
    file = savefile_read(in_directory("misuse"));
    is_savefile(&file, 6, "what was written rightly");
    savefile_free(&file);
}

int main(void)
{
    tap_begin(100);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");
    make_directory();

    test_formats();
    test_directions();
    for (uint32_t format = 1; format <= 2; format++) {
        test_vlan(format, 0);
        test_vlan(format, 70);
    }
    test_made_up_tags();
    test_any();
    test_copy();
    test_several_made_up();
    test_pcap_of_two();
    test_pcap_snap_lengths();
    test_empty();
    test_statistics();
    for (uint32_t format = 1; format <= 2; format++) {
        test_rotation_by_size(format, 0);
        test_rotation_by_size(format, 3);
    }
    test_rotation_of_giants();
    test_rotation_by_time();
    test_rotation_set_back();
    test_rotation_of_two();
    test_rotation_of_others();
    child_run("a refused file", test_rotation_fails, NULL);
    test_pipe(true);
    test_pipe(false);
    test_asking_meanwhile();
    child_run("a pipe that nobody reads", write_to_nobody, NULL);
    test_descriptor();
    test_threads();
    test_open_errors();
    test_descriptor_errors();
    test_misuse();
    child_run("a limit on file sizes", write_past_limit, NULL);
    child_run("two blocks that do not fit", write_unfinished, NULL);
    test_full(NETRING_SAVEFILE_PCAP);
    test_full(NETRING_SAVEFILE_PCAPNG);
    remove_directory();
    return tap_end();
}
