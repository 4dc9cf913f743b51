/* Savefiles read as blocks: every field of every packet, from every kind of file, as written and as
 * libpcap has it; pipes, waits, wakeup and stop; held blocks and bounded memory; filters; errors.
 */
#include "files.h"

#include <netring_inline.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CORPUS "../shared/corpus/ethernet.pcap"

static const char *no_libpcap;

static struct netring_reader_info reader_info(struct netring_reader *reader)
{
    struct netring_reader_info info;

    if (netring_reader_info(reader, &info, sizeof info) != 0)
        tap_bail("netring_reader_info failed");
    return info;
}

static struct netring_stats reader_stats(struct netring_reader *reader)
{
    struct netring_stats stats;

    if (netring_reader_stats(reader, &stats, sizeof stats) != 0)
        tap_bail("netring_reader_stats failed");
    return stats;
}

static bool readable(struct netring_reader *reader, int timeout_ms)
{
    struct pollfd fd = {.fd = netring_reader_fd(reader), .events = POLLIN};

    return poll(&fd, 1, timeout_ms) == 1;
}

/* ---- fields ---- */

/* One check: the records are the file's packets from `first` on. */
static void are_packets(const struct records *records, const struct file *file, size_t first,
                        const char *what)
{
    size_t wrong = 0;

    if (!is_int(records->count, file->count - first, "%s: all packets", what))
        return;
    for (size_t i = 0; i < records->count; i++) {
        const struct expected *e = &file->packets[first + i];
        const struct netring_packet *p = &records->v[i].packet;
        bool told = p->status & NETRING_PACKET_DIRECTION;
        bool cut = p->status & NETRING_PACKET_TRUNCATED;

        if (p->caplen != e->caplen || p->len != e->len || p->time_ns != e->time_ns ||
            p->ifindex != e->ifindex || p->link_type != e->link_type ||
            p->clock != NETRING_CLOCK_UNKNOWN || told != (e->direction >= 0) ||
            p->direction != (told ? e->direction : 0) || cut != (e->caplen < e->len) ||
            p->status & ~(uint32_t)(NETRING_PACKET_DIRECTION | NETRING_PACKET_TRUNCATED |
                                    NETRING_PACKET_PROTOCOL | NETRING_PACKET_NET_OFFSET) ||
            p->rxhash || p->vlan_tci || p->vlan_tpid || p->queue || p->gso_size || p->gso_type ||
            p->segments || p->reserved || memcmp(p->data, file->bytes + e->data, e->caplen) != 0) {
            if (wrong++ == 0)
                tap_diag("packet %zu: %u of %u bytes at %llu, interface %u, link type %u, "
                         "direction %d, status 0x%x, clock %u; wanted %u of %u at %llu, %u, %u, %d",
                         i, p->caplen, p->len, (unsigned long long)p->time_ns, p->ifindex,
                         p->link_type, p->direction, p->status, p->clock, e->caplen, e->len,
                         (unsigned long long)e->time_ns, e->ifindex, e->link_type, e->direction);
        }
    }
    is_int(wrong, 0, "%s: every field and byte", what);
}

/* One check: libpcap reads the same packets from the file. */
static void is_like_libpcap(int fd, const struct records *records, const char *what)
{
    struct libpcap_result theirs;
    size_t unlike = 0;

    if (no_libpcap)
        return;
    libpcap_read(fd, &theirs);
    if (!is_int(theirs.records.count, records->count, "%s: libpcap has as many packets (%s)", what,
                theirs.message))
        return;
    for (size_t i = 0; i < records->count; i++) {
        const struct netring_packet *a = &records->v[i].packet, *b = &theirs.records.v[i].packet;

        unlike += a->caplen != b->caplen || a->len != b->len || a->time_ns != b->time_ns ||
                  memcmp(a->data, b->data, a->caplen) != 0;
    }
    is_int(unlike, 0, "%s: and the same ones", what);
    is_int(records->count ? records->v[0].packet.link_type : 1, theirs.link_type,
           "%s: of that link type", what);
    records_free(&theirs.records);
}

static void test_pcap(void)
{
    for (size_t i = 0; i < COUNT(pcap_kinds); i++) {
        const struct pcap_kind *kind = &pcap_kinds[i];
        struct file file = {0};
        struct records records = {0, 0, NULL};
        struct netring_reader_interface interface;
        struct netring_reader_info info;
        struct netring_reader *reader;
        struct netring_stats stats;
        int fd;

        pcap_file(&file, kind);
        reader = file_reader(&file, NULL);
        info = reader_info(reader);
        is_int(info.format, NETRING_SAVEFILE_PCAP, "%s: pcap", kind->name);
        is_int(info.byte_order, kind->big ? NETRING_BYTE_ORDER_BIG : NETRING_BYTE_ORDER_LITTLE,
               "its byte order");
        ok(info.version_major == 2 && info.version_minor == 4 && info.interfaces == 1 &&
               info.sections == 1 && info.link_type == 1 && info.snap_length == 65535 &&
               info.waits == 0 && info.offset == 24 && info.size == sizeof info,
           "what else the header says");
        is_int(netring_reader_interface(reader, 0, &interface, sizeof interface), 0,
               "its interface");
        ok(interface.resolution == (kind->nano ? 1000000000 : 1000000) &&
               interface.link_type == 1 && interface.number == 0 && interface.section == 1 &&
               interface.snap_length == 65535 && interface.valid == 0 && !interface.name[0],
           "which has no name");
        is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "read to the end");
        are_packets(&records, &file, 0, kind->name);
        stats = reader_stats(reader);
        ok(stats.received == 5 && stats.seen == 5 && stats.delivered == 5 && stats.pending == 0 &&
               stats.truncated == 2 && stats.blocks_delivered == 1 && stats.blocks_held == 0 &&
               stats.filtered_late == 0 && stats.dropped == 0 && stats.valid == 0,
           "the counters");
        is_int(reader_info(reader).offset, file.size, "every byte was read");
        is_int(netring_reader_close(reader), 0, "close");
        fd = file_fd(file.bytes, file.size);
        is_like_libpcap(fd, &records, kind->name);
        close(fd);
        records_free(&records);
        file_free(&file);
    }
}

/* Bytes above the snapshot length are cut off, as libpcap does; lengths of old versions come the
 * other way round. */
static void test_pcap_oddities(void)
{
    static const struct {
        uint16_t minor;
        uint32_t snap_length, first, second;
        uint32_t caplen, len; /* as read */
    } cases[] = {
        {4, 50, 60, 100, 50, 100}, {4, 0, 60, 100, 60, 100}, {4, 0x80000000, 60, 100, 60, 100},
        {2, 100, 80, 60, 60, 80},  {3, 100, 80, 60, 60, 80}, {3, 100, 60, 80, 60, 80},
        {4, 100, 60, 40, 60, 40},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct file file = {0};
        struct records records = {0, 0, NULL};
        struct netring_reader *reader;
        char what[64];
        int fd;

        snprintf(what, sizeof what, "version 2.%u, lengths %u and %u, snapshot length %u",
                 cases[i].minor, cases[i].first, cases[i].second, cases[i].snap_length);
        pcap_header(&file, &pcap_kinds[0], cases[i].snap_length, 1);
        file.bytes[6] = (uint8_t)cases[i].minor;
        pcap_packet(&file, &pcap_kinds[0], 1, 2, 60, 60);
        set_32(&file, 24 + 8, cases[i].first);
        set_32(&file, 24 + 12, cases[i].second);
        file.packets[0].caplen = cases[i].caplen;
        file.packets[0].len = cases[i].len;
        reader = file_reader(&file, NULL);
        is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "%s", what);
        are_packets(&records, &file, 0, what);
        netring_reader_close(reader);
        fd = file_fd(file.bytes, file.size);
        is_like_libpcap(fd, &records, what);
        close(fd);
        records_free(&records);
        file_free(&file);
    }
}

static void test_pcapng(void)
{
    struct file file = {0};
    struct records records = {0, 0, NULL};
    struct netring_reader_interface interface;
    struct netring_reader_info info;
    struct netring_reader *reader;

    pcapng_file(&file);
    reader = file_reader(&file, NULL);
    info = reader_info(reader);
    ok(info.format == NETRING_SAVEFILE_PCAPNG && info.byte_order == NETRING_BYTE_ORDER_LITTLE &&
           info.version_major == 1 && info.version_minor == 0 && info.link_type == 1 &&
           info.snap_length == 200,
       "pcapng: what its header and first interface say");
    is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "read to the end");
    are_packets(&records, &file, 0, "pcapng");
    info = reader_info(reader);
    is_int(info.byte_order, NETRING_BYTE_ORDER_BIG, "the second section's byte order");
    is_int(info.sections, 2, "sections");
    is_int(info.interfaces, 4, "interfaces");
    is_int(reader_stats(reader).blocks_delivered, 3, "a block for each run of a link type");

    is_int(netring_reader_interface(reader, 0, &interface, sizeof interface), 0, "the first");
    is_str(interface.name, "eth0", "its name");
    is_str(interface.description, "the uplink's", "its description");
    ok(interface.resolution == 1000000000 && interface.snap_length == 200 &&
           interface.section == 1 && interface.offset == 0,
       "its resolution");
    is_int(interface.valid, NETRING_READER_INTERFACE_RECEIVED | NETRING_READER_INTERFACE_DROPPED,
           "it has counters");
    is_int(interface.received, 1000, "received");
    is_int(interface.dropped, 17, "dropped");
    netring_reader_interface(reader, 1, &interface, sizeof interface);
    ok(interface.link_type == 101 && interface.valid == 0 && interface.resolution == 1000000 &&
           interface.number == 1,
       "the second");
    netring_reader_interface(reader, 2, &interface, sizeof interface);
    is_str(interface.name, "\xc3\xa4", "the third has a name beyond ASCII");
    ok(interface.resolution == 1 << 20 && interface.offset == 1700000000 && interface.section == 2,
       "a resolution that is a power of 2, and an offset");
    netring_reader_interface(reader, 3, &interface, sizeof interface);
    ok(interface.resolution == UINT64_C(1000000000000) && interface.offset == -5 &&
           interface.received == UINT64_C(1) << 40 && interface.dropped == 5,
       "the fourth: picoseconds, a negative offset, counters in big-endian");
    is_int(netring_reader_interface(reader, 4, &interface, sizeof interface), NETRING_EINVAL,
           "there is no fifth");
    netring_reader_close(reader);
    records_free(&records);
    file_free(&file);

    for (int big = 0; big < 2; big++) {
        int fd;

        plain_pcapng_file(&file, big);
        reader = file_reader(&file, NULL);
        is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "read to the end");
        are_packets(&records, &file, 0, big ? "pcapng, big-endian" : "pcapng, little-endian");
        netring_reader_close(reader);
        fd = file_fd(file.bytes, file.size);
        is_like_libpcap(fd, &records, big ? "pcapng, big-endian" : "pcapng, little-endian");
        close(fd);
        records_free(&records);
        file_free(&file);
    }
}

/* What the bytes tell: as a kernel would have. */
static void test_derived(void)
{
    struct file file = {0};
    struct netring_reader *reader;
    struct netring_packet packets[4];
    struct netring_block *block;
    struct netring_block_info info;
    uint8_t address[8];
    uint8_t *bytes;

    pcap_header(&file, &pcap_kinds[0], 0, 1);
    for (int i = 0; i < 3; i++)
        pcap_packet(&file, &pcap_kinds[0], 10 + (uint32_t)i, 0, 60, 60);
    bytes = file.bytes + file.packets[0].data;
    memcpy(bytes + 6, "\2\0\0\0\0\7\x86\xdd", 8);
    memcpy(file.bytes + file.packets[1].data + 12, "\0\x2e\xaa\xaa", 4);
    memcpy(file.bytes + file.packets[2].data + 12, "\x81\0\0\5\x08\0", 6);
    reader = file_reader(&file, NULL);
    is_int(netring_reader_next_block(reader, 0, &block), 1, "a block");
    is_int(netring_block_read(block, packets, sizeof *packets, 4), 3, "of three packets");
    ok(packets[0].protocol == 0x86dd && packets[0].net_offset == 14 &&
           (packets[0].status & NETRING_PACKET_PROTOCOL) &&
           (packets[0].status & NETRING_PACKET_NET_OFFSET),
       "protocol and network header of Ethernet");
    is_int(packets[1].protocol, 4, "802.2");
    ok(packets[2].protocol == 0x8100 && !(packets[2].status & NETRING_PACKET_VLAN),
       "a VLAN tag stays in the bytes");
    is_int(netring_block_address(block, packets[0].cookie, address, sizeof address), 6,
           "the source address");
    is_bytes(address, "\2\0\0\0\0\7", 6, "is that of the bytes");
    ok(((uintptr_t)packets[0].data + 14) % 16 == 0, "what follows the header is aligned");
    netring_block_info(block, &info, sizeof info);
    ok(info.count == 3 && info.sequence == 1 && info.first_ns == UINT64_C(10000000000) &&
           info.last_ns == UINT64_C(12000000000) && info.flags == 0 && info.ifindex == 1,
       "the block's info");
    netring_block_release(block);
    netring_reader_close(reader);
    file_free(&file);
}

/* A file with `count` packets of 60 to 1514 bytes. */
static void long_file(struct file *file, uint32_t count)
{
    pcap_header(file, &pcap_kinds[1], 262144, 1);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = (uint32_t)frame_mixed(i, 60, 1514);

        pcap_packet(file, &pcap_kinds[1], i, i, length, length);
        file->count = 0; /* too many to expect one by one */
        file->start_count = 0;
        memcpy(file->bytes + file->size - 20, &i, sizeof i);
    }
}

static uint32_t number_of(const struct netring_packet *packet)
{
    uint32_t number;

    memcpy(&number, packet->data + packet->caplen - 20, sizeof number);
    return number;
}

/* Read, inline walk and view agree; a writable block; held over the close. */
static void test_walks(void)
{
    struct file file = {0};
    struct netring_reader *reader;
    struct netring_block *blocks[64];
    struct netring_block_view view;
    size_t held = 0, unlike = 0, outside = 0, total = 0;
    uint32_t next = 0;
    int rc;

    long_file(&file, 3000);
    reader = file_reader(&file, NULL);
    while ((rc = netring_reader_next_block(reader, -1, &blocks[held])) == 1)
        if (++held == COUNT(blocks))
            break;
    is_int(rc, NETRING_ESHUTDOWN, "all blocks of a file are held");
    is_between(held, 2, 4, "so many");
    is_int(reader_stats(reader).blocks_held, held, "blocks_held says so");
    is_int(netring_reader_close(reader), 0, "the reader is closed");
    for (size_t i = 0; i < held; i++) {
        struct netring_packet a, b;
        struct netring_cursor cursor;

        netring_cursor_init(&cursor, blocks[i]);
        netring_block_view(blocks[i], &view, sizeof view);
        while (netring_block_read(blocks[i], &a, sizeof a, 1) == 1) {
            memset(&b, 0xa5, sizeof b);
            if (netring_cursor_next(&cursor))
                netring_cursor_packet(&cursor, &b);
            unlike += memcmp(&a, &b, sizeof a) != 0 || number_of(&a) != next++;
            outside += a.data < view.base || a.data + a.caplen > view.base + view.length;
            a.data[0] = 0xff;
            total++;
        }
        unlike += netring_cursor_next(&cursor) || netring_cursor_damaged(&cursor);
        unlike += view.layout != NETRING_LAYOUT_TPACKET3 || view.first != 48;
    }
    is_int(total, 3000, "and read afterwards");
    is_int(unlike, 0, "read and inline walk give the same packets");
    is_int(outside, 0, "inside of the view");
    for (size_t i = 0; i < held; i++)
        is_int(netring_block_release(blocks[i]), 0, "release after the close");
    is_int(netring_block_release(blocks[0]), NETRING_EBADF, "only once");
    file_free(&file);
}

static void test_next_packet(void)
{
    struct file file = {0};
    struct netring_reader *reader;
    struct netring_packet packet;
    uint32_t count = 0, wrong = 0;
    int rc;

    long_file(&file, 2000);
    reader = file_reader(&file, NULL);
    while ((rc = netring_reader_next_packet(reader, -1, &packet, sizeof packet)) == 1)
        wrong += number_of(&packet) != count++;
    is_int(rc, NETRING_ESHUTDOWN, "packet by packet to the end");
    is_int(count, 2000, "all of them");
    is_int(wrong, 0, "in order");
    netring_reader_close(reader);
    file_free(&file);
}

/* ---- memory ---- */

static void test_large_packet(void)
{
    struct netring_reader_config config = NETRING_READER_CONFIG_INIT;
    struct file file = {0};
    struct records records = {0, 0, NULL};
    struct netring_reader *reader;

    pcap_header(&file, &pcap_kinds[1], 0x7fffffff, 1);
    pcap_packet(&file, &pcap_kinds[1], 1, 0, 60, 60);
    pcap_packet(&file, &pcap_kinds[1], 1, 0, 3 * MIB, 3 * MIB);
    pcap_packet(&file, &pcap_kinds[1], 1, 0, 60, 60);
    for (int small = 0; small < 2; small++) {
        if (small)
            config.block_size = 4096;
        reader = file_reader(&file, &config);
        is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "a packet larger than a block");
        are_packets(&records, &file, 0, "a large packet");
        is_between(reader_info(reader).memory, 0, 5 * MIB, "the memory is as large");
        netring_reader_close(reader);
        records_free(&records);
    }
    config.packet_limit = 3 * MIB - 1;
    reader = file_reader(&file, &config);
    is_int(read_all(reader, &records), NETRING_EIO, "packet_limit refuses it");
    is_int(records.count, 1, "after what came before");
    netring_reader_close(reader);
    records_free(&records);
    file_free(&file);
}

struct wait {
    struct netring_reader *reader;
    pthread_t thread;
    int rc, timeout_ms;
    struct netring_block *block;
};

static void *wait_block(void *argument)
{
    struct wait *wait = argument;

    wait->rc = netring_reader_next_block(wait->reader, wait->timeout_ms, &wait->block);
    return NULL;
}

static void wait_start(struct wait *wait, struct netring_reader *reader, int timeout_ms)
{
    *wait = (struct wait){.reader = reader, .timeout_ms = timeout_ms, .rc = 77};
    if (pthread_create(&wait->thread, NULL, wait_block, wait) != 0)
        tap_bail("no thread");
}

/* All memory held: waits, and nothing is lost. */
static void test_memory_limit(void)
{
    struct netring_reader_config config = NETRING_READER_CONFIG_INIT;
    struct file file = {0};
    struct netring_reader *reader;
    struct netring_block *first, *second, *third = NULL;
    struct netring_packet packet;
    struct wait wait;
    uint32_t count = 0, wrong = 0;

    long_file(&file, 300);
    config.block_size = 4096;
    config.packet_limit = 2000;
    config.memory_limit = 8192;
    reader = file_reader(&file, &config);
    is_int(reader_info(reader).memory_limit, 8192, "a bound of two blocks");
    ok(readable(reader, 0), "a file is readable");
    is_int(netring_reader_next_block(reader, -1, &first), 1, "one");
    is_int(netring_reader_next_block(reader, -1, &second), 1, "two");
    is_int(netring_reader_next_block(reader, 0, &third), 0, "all memory is held: nothing");
    ok(!readable(reader, 0), "and it is not readable");
    is_int(netring_reader_next_block(reader, 20, &third), 0, "not after a while either");
    ok(!readable(reader, 0), "still");
    is_int(reader_stats(reader).freezes, 1, "counted once");
    is_int(reader_info(reader).memory, 8192, "the memory");
    wait_start(&wait, reader, -1);
    sleep_ms(30);
    netring_block_read(second, &packet, sizeof packet, 1);
    is_int(netring_block_release(second), 0, "a release");
    pthread_join(wait.thread, NULL);
    is_int(wait.rc, 1, "ends the wait");
    ok(!readable(reader, 0) || netring_reader_next_block(reader, 0, &third) == 0,
       "and again all is held");
    netring_block_release(first);
    ok(readable(reader, 2000), "a release makes it readable");
    netring_block_release(wait.block);
    netring_reader_close(reader);

    /* One at a time: the same memory again and again, and every packet. */
    config.memory_limit = 4096;
    reader = file_reader(&file, &config);
    while (netring_reader_next_block(reader, -1, &first) == 1) {
        while (netring_block_read(first, &packet, sizeof packet, 1) == 1)
            wrong += number_of(&packet) != count++;
        netring_block_release(first);
    }
    is_int(count, 300, "one block's memory is enough for a file");
    is_int(wrong, 0, "in order");
    is_int(reader_info(reader).memory, 4096, "and no more was taken");
    is_int(reader_stats(reader).freezes, 0, "nor waited for");
    netring_reader_close(reader);
    file_free(&file);
}

/* Link types that alternate cost no block's memory each. */
static void test_small_blocks(void)
{
    struct file file = {0};
    struct netring_reader *reader;
    struct netring_block *blocks[40];
    struct netring_cursor cursor;
    size_t held = 0, wrong = 0;

    section_block(&file, false);
    interface_block(&file, 1, 0, NULL, -1, 0);
    interface_block(&file, 113, 0, NULL, -1, 0);
    for (uint32_t i = 0; i < 40; i++)
        packet_block(&file, false, i % 2, i, 60, 60, 0);
    reader = file_reader(&file, NULL);
    while (held < 40 && netring_reader_next_block(reader, -1, &blocks[held]) == 1) {
        netring_cursor_init(&cursor, blocks[held]);
        wrong += !netring_cursor_next(&cursor) ||
                 netring_cursor_link_type(&cursor) != (held % 2 ? 113 : 1) ||
                 netring_cursor_ifindex(&cursor) != held % 2 + 1;
        held++;
    }
    is_int(held, 40, "a block for each change of the link type");
    is_int(wrong, 0, "each of its own");
    is_int(reader_info(reader).memory, 1 * MIB, "all in one piece of memory");
    for (size_t i = 0; i < held; i++)
        netring_block_release(blocks[i]);
    netring_reader_close(reader);
    file_free(&file);
}

/* ---- pipes ---- */

static struct netring_reader *pipe_reader(int *writer)
{
    struct netring_reader *reader;
    struct netring_error error;
    int pair[2];

    if (pipe2(pair, O_CLOEXEC) != 0)
        tap_bail("no pipe");
    if (netring_reader_open_fd(pair[0], NULL, &reader, &error) != 0)
        tap_bail("netring_reader_open_fd: %s", error.message);
    close(pair[0]);
    *writer = pair[1];
    return reader;
}

static void put(int fd, const void *bytes, size_t size)
{
    if (write(fd, bytes, size) != (ssize_t)size)
        tap_bail("write to a pipe");
}

/* Takes what is there without waiting; how many packets. */
static size_t take_now(struct netring_reader *reader, struct records *records)
{
    struct netring_block *block;
    size_t before = records->count;

    if (netring_reader_next_block(reader, 0, &block) == 1) {
        block_records(block, 8, records);
        netring_block_release(block);
    }
    return records->count - before;
}

static void test_pipe(void)
{
    struct file file = {0};
    struct records records = {0, 0, NULL};
    struct netring_block *block;
    struct netring_reader *reader;
    int writer, outer = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, got;

    pcap_file(&file, &pcap_kinds[1]);
    reader = pipe_reader(&writer);
    epoll_ctl(outer, EPOLL_CTL_ADD, netring_reader_fd(reader), &event);
    is_int(reader_info(reader).waits, 1, "a pipe may have to be waited for");
    is_int(reader_info(reader).format, 0, "nothing is known before it is read");
    ok(!readable(reader, 0), "an empty pipe is not readable");
    is_int(netring_reader_next_block(reader, 0, &block), 0, "and has nothing");
    is_int(netring_reader_next_block(reader, 20, &block), 0, "not after a while either");
    put(writer, file.bytes, 20);
    is_int(netring_reader_next_block(reader, 0, &block), 0, "part of the header is nothing");
    ok(!readable(reader, 0), "and leaves it not readable");
    put(writer, file.bytes + 20, file.packets[0].data + 10 - 20);
    is_int(netring_reader_next_block(reader, 0, &block), 0, "nor is part of a packet");
    ok(!readable(reader, 0), "nor readable");
    is_int(reader_info(reader).format, NETRING_SAVEFILE_PCAP, "the header is known now");
    put(writer, file.bytes + file.packets[0].data + 10, 50);
    ok(readable(reader, 2000), "the rest of it makes it readable");
    is_int(epoll_wait(outer, &got, 1, 2000), 1, "with an edge");
    is_int(take_now(reader, &records), 1, "it is had without waiting for more");
    ok(!readable(reader, 0), "that was all");
    put(writer, file.bytes + file.packets[0].end, file.packets[2].end - file.packets[0].end);
    is_int(epoll_wait(outer, &got, 1, 2000), 1, "another edge");
    is_int(take_now(reader, &records), 2, "what is there comes in one block");
    ok(!readable(reader, 0), "that was all");
    put(writer, file.bytes + file.packets[2].end, file.size - file.packets[2].end);
    close(writer);
    ok(readable(reader, 2000), "the rest");
    is_int(take_now(reader, &records), 2, "is read");
    ok(readable(reader, 0), "the end makes it readable");
    is_int(netring_reader_next_block(reader, -1, &block), NETRING_ESHUTDOWN, "and is told");
    is_int(netring_reader_next_block(reader, -1, &block), NETRING_ESHUTDOWN, "again");
    ok(readable(reader, 0), "it stays readable");
    are_packets(&records, &file, 0, "from a pipe");
    records_free(&records);
    netring_reader_close(reader);
    close(outer);

    /* No savefile: told by the wait, not by the open. */
    reader = pipe_reader(&writer);
    put(writer, "hello", 5);
    is_int(netring_reader_next_block(reader, -1, &block), NETRING_EIO, "no savefile in a pipe");
    close(writer);
    netring_reader_close(reader);
    file_free(&file);
}

struct slow {
    const struct file *file;
    int fd;
    size_t piece;
};

static void *write_slowly(void *argument)
{
    const struct slow *slow = argument;

    for (size_t at = 0; at < slow->file->size; at += slow->piece) {
        size_t left = slow->file->size - at;

        put(slow->fd, slow->file->bytes + at, left < slow->piece ? left : slow->piece);
        if (slow->piece < 50)
            usleep(50);
    }
    close(slow->fd);
    return NULL;
}

/* Level- and edge-triggered loops that take one block a turn come to the end. */
static void test_slow_writer(void)
{
    static const size_t pieces[] = {1, 7, 1000, 100000};
    struct file file = {0};

    pcapng_file(&file);
    for (size_t n = 0; n < 2 * COUNT(pieces); n++) {
        bool edge = n % 2;
        struct records records = {0, 0, NULL};
        struct slow slow = {.file = &file, .piece = pieces[n / 2]};
        struct netring_reader *reader = pipe_reader(&slow.fd);
        struct epoll_event event = {.events = EPOLLIN | (edge ? EPOLLET : 0)}, got;
        int outer = epoll_create1(EPOLL_CLOEXEC), rc = 0, idle = 0;
        pthread_t thread;

        epoll_ctl(outer, EPOLL_CTL_ADD, netring_reader_fd(reader), &event);
        pthread_create(&thread, NULL, write_slowly, &slow);
        while (rc >= 0 && epoll_wait(outer, &got, 1, (int)tap_patience(5000)) == 1) {
            struct netring_block *block;

            rc = netring_reader_next_block(reader, 0, &block);
            if (rc == 1) {
                block_records(block, 8, &records);
                netring_block_release(block);
            }
            idle += rc == 0;
        }
        pthread_join(thread, NULL);
        is_int(rc, NETRING_ESHUTDOWN, "pieces of %zu bytes, %s loop: to the end", slow.piece,
               edge ? "edge-triggered" : "level-triggered");
        are_packets(&records, &file, 0, "a slow writer");
        is_between(idle, 0, (long long)(file.size / slow.piece + 2),
                   "no more idle turns than pieces");
        records_free(&records);
        netring_reader_close(reader);
        close(outer);
    }
    file_free(&file);
}

/* A socket, a descriptor that is non-blocking, a file that is not at its start. */
static void test_descriptors(void)
{
    struct file file = {0};
    struct records records = {0, 0, NULL};
    struct netring_reader *reader;
    struct netring_error error;
    struct slow slow = {.file = &file, .piece = 777};
    pthread_t thread;
    int pair[2], fd;

    pcap_file(&file, &pcap_kinds[2]);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        tap_bail("no sockets");
    is_int(netring_reader_open_fd(pair[0], NULL, &reader, &error), 0, "a socket");
    close(pair[0]);
    slow.fd = pair[1];
    pthread_create(&thread, NULL, write_slowly, &slow);
    is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "read to the end");
    pthread_join(thread, NULL);
    are_packets(&records, &file, 0, "from a socket");
    records_free(&records);
    netring_reader_close(reader);

    fd = file_fd(file.bytes, file.size);
    lseek(fd, 24, SEEK_SET);
    is_int(netring_reader_open_fd(fd, NULL, &reader, &error), NETRING_EIO,
           "not at its start: no savefile");
    lseek(fd, 0, SEEK_SET);
    is_int(netring_reader_open_fd(fd, NULL, &reader, &error), 0, "at its start");
    is_int(fcntl(fd, F_GETFD) >= 0, 1, "the caller's descriptor stays open");
    close(fd);
    is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "and is not needed any more");
    records_free(&records);
    netring_reader_close(reader);
    file_free(&file);
}

struct opening {
    const char *path;
    struct netring_reader *reader;
    int rc;
    bool done;
};

static void *open_fifo(void *argument)
{
    struct opening *opening = argument;

    opening->rc = netring_reader_open(opening->path, NULL, &opening->reader, NULL);
    __atomic_store_n(&opening->done, true, __ATOMIC_RELEASE);
    return NULL;
}

static void ignore(int number)
{
    (void)number;
}

/* A FIFO that has no writer yet: signals do not end the wait for one. */
static void test_fifo(const char *directory)
{
    struct sigaction action = {.sa_handler = ignore}, before;
    struct opening opening = {.rc = 1};
    char path[64];
    pthread_t thread;
    int fd;

    snprintf(path, sizeof path, "%s/fifo", directory);
    if (mkfifo(path, 0600) != 0)
        tap_bail("%s: %s", path, strerror(errno));
    opening.path = path;
    sigaction(SIGUSR1, &action, &before);
    pthread_create(&thread, NULL, open_fifo, &opening);
    for (int i = 0; i < 20; i++) {
        sleep_ms(5);
        if (!__atomic_load_n(&opening.done, __ATOMIC_ACQUIRE))
            pthread_kill(thread, SIGUSR1);
    }
    ok(!__atomic_load_n(&opening.done, __ATOMIC_ACQUIRE), "a FIFO waits for its writer");
    /* Not open(2) alone: where nobody reads any more it would wait for ever. */
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    ok(fd >= 0, "which comes");
    if (fd < 0)
        fd = open(path, O_RDWR | O_CLOEXEC);
    pthread_join(thread, NULL);
    is_int(opening.rc, 0, "and opens it");
    close(fd);
    if (opening.rc == 0)
        netring_reader_close(opening.reader);
    sigaction(SIGUSR1, &before, NULL);
    unlink(path);
}

/* ---- waits ---- */

static struct netring_reader *signalled;

static void stop_signalled(int number)
{
    (void)number;
    netring_reader_stop(signalled);
}

static void nothing(int number)
{
    (void)number;
}

struct storm {
    pthread_t at;
    volatile bool over;
    unsigned signals;
};

static void *storming(void *user)
{
    struct storm *storm = user;

    for (; !storm->over; storm->signals++) {
        pthread_kill(storm->at, SIGUSR2);
        usleep(200);
    }
    return NULL;
}

/* A signal every 200 us, without SA_RESTART: no wait ends early or late, nothing is lost. */
static void test_signals(void)
{
    struct sigaction action = {.sa_handler = nothing};
    struct storm storm = {.at = pthread_self()};
    struct records records = {0, 0, NULL};
    struct slow slow = {.piece = 500};
    struct netring_reader *reader;
    struct netring_packet packet;
    struct netring_block *block;
    struct file file = {0};
    pthread_t thread, writing;
    int64_t begin;

    pcapng_file(&file);
    slow.file = &file;
    sigaction(SIGUSR2, &action, NULL);
    reader = pipe_reader(&slow.fd);
    pthread_create(&thread, NULL, storming, &storm);
    for (int i = 0; i < 2; i++) {
        begin = now_ms();
        is_int(i ? netring_reader_next_packet(reader, 200, &packet, sizeof packet)
                 : netring_reader_next_block(reader, 200, &block),
               0, "a storm of signals: nothing comes");
        is_between(now_ms() - begin, 199, 200 + tap_patience(400), "and the wait is as long");
    }
    pthread_create(&writing, NULL, write_slowly, &slow);
    is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "a storm of signals: to the end");
    pthread_join(writing, NULL);
    storm.over = true;
    pthread_join(thread, NULL);
    ok(storm.signals > 10, "there was a storm (%u signals)", storm.signals);
    are_packets(&records, &file, 0, "a storm of signals");
    records_free(&records);
    netring_reader_close(reader);
    file_free(&file);
}

static void test_waits(void)
{
    struct file file = {0};
    struct netring_block *block;
    struct netring_reader *reader;
    struct netring_error error;
    struct wait waits[3];
    int writer;

    pcap_file(&file, &pcap_kinds[0]);
    reader = pipe_reader(&writer);
    wait_start(&waits[0], reader, -1);
    sleep_ms(30);
    errno = ENOTTY;
    is_int(netring_reader_wakeup(reader), 0, "wakeup");
    is_int(errno, ENOTTY, "leaves errno alone");
    pthread_join(waits[0].thread, NULL);
    is_int(waits[0].rc, NETRING_EWAKEUP, "it ends a wait");
    netring_reader_last_error(reader, &error);
    is_str(error.option, "wakeup", "and is the last error");
    netring_reader_wakeup(reader);
    ok(readable(reader, 0), "a pending one makes it readable");
    netring_reader_wakeup(reader);
    is_int(netring_reader_next_block(reader, 0, &block), NETRING_EWAKEUP, "and is told");
    is_int(netring_reader_next_block(reader, 0, &block), 0, "once");
    netring_reader_wakeup(reader);
    is_int(netring_reader_wakeup_clear(reader), 0, "wakeup_clear");
    is_int(netring_reader_next_block(reader, 0, &block), 0, "forgets it");
    ok(!readable(reader, 0), "not readable any more");

    for (size_t i = 0; i < COUNT(waits); i++)
        wait_start(&waits[i], reader, -1);
    sleep_ms(30);
    signalled = reader;
    signal(SIGUSR1, stop_signalled);
    raise(SIGUSR1);
    for (size_t i = 0; i < COUNT(waits); i++) {
        pthread_join(waits[i].thread, NULL);
        is_int(waits[i].rc, NETRING_ESHUTDOWN, "a stop from a signal handler ends every wait");
    }
    put(writer, file.bytes, file.size);
    is_int(netring_reader_next_block(reader, -1, &block), NETRING_ESHUTDOWN,
           "and later ones, whatever comes");
    ok(readable(reader, 0), "readable for good");
    netring_reader_close(reader);
    close(writer);

    reader = pipe_reader(&writer);
    wait_start(&waits[0], reader, -1);
    sleep_ms(30);
    is_int(netring_reader_close(reader), 0, "a close during a wait");
    pthread_join(waits[0].thread, NULL);
    is_int(waits[0].rc, NETRING_EBADF, "ends it");
    is_int(netring_reader_fd(reader), NETRING_EBADF, "the handle is stale");
    close(writer);

    reader = file_reader(&file, NULL);
    netring_reader_wakeup(reader);
    is_int(netring_reader_next_block(reader, -1, &block), NETRING_EWAKEUP,
           "a file: a wakeup first");
    is_int(netring_reader_next_block(reader, 0, &block), 1, "then its block");
    netring_block_release(block);
    netring_reader_stop(reader);
    is_int(netring_reader_next_block(reader, -1, &block), NETRING_ESHUTDOWN, "then the stop");
    netring_reader_last_error(reader, &error);
    is_str(error.option, "stop", "by its name");
    netring_reader_close(reader);
    file_free(&file);
}

static void *wait_packet(void *argument)
{
    struct netring_packet packet;
    struct wait *wait = argument;

    /* The other thread may be in it. */
    do
        wait->rc = netring_reader_next_packet(wait->reader, -1, &packet, sizeof packet);
    while (wait->rc == NETRING_EBUSY);
    return NULL;
}

static void test_busy(void)
{
    struct wait wait = {.rc = 77};
    struct netring_packet packet;
    struct netring_error error;
    int writer, rc = 0;

    wait.reader = pipe_reader(&writer);
    pthread_create(&wait.thread, NULL, wait_packet, &wait);
    for (int64_t end = now_ms() + tap_patience(2000); rc == 0 && now_ms() < end; sleep_ms(1))
        rc = netring_reader_next_packet(wait.reader, 0, &packet, sizeof packet);
    is_int(rc, NETRING_EBUSY, "next_packet in two threads");
    netring_reader_last_error(wait.reader, &error);
    is_str(error.option, "reader", "is the reader's");
    close(writer);
    pthread_join(wait.thread, NULL);
    is_int(wait.rc, NETRING_EIO, "a pipe that ends before its header");
    netring_reader_close(wait.reader);
}

struct taker {
    struct netring_reader *reader;
    pthread_t thread;
    uint8_t *seen;
    uint32_t count, twice;
};

static void *take_blocks(void *argument)
{
    struct taker *taker = argument;
    struct netring_block *block;
    struct netring_packet packet;

    while (netring_reader_next_block(taker->reader, -1, &block) == 1) {
        while (netring_block_read(block, &packet, sizeof packet, 1) == 1) {
            taker->twice +=
                __atomic_fetch_add(&taker->seen[number_of(&packet)], 1, __ATOMIC_RELAXED);
            taker->count++;
        }
        netring_block_release(block);
    }
    return NULL;
}

/* Several threads share a file, with less memory than each of them would like. */
static void test_threads(void)
{
    struct netring_reader_config config = NETRING_READER_CONFIG_INIT;
    struct file file = {0};
    struct taker takers[4];
    struct netring_reader *reader;
    uint32_t count = 0, twice = 0;
    uint8_t *seen = calloc(3000, 1);

    long_file(&file, 3000);
    config.block_size = 4096;
    config.packet_limit = 2000;
    config.memory_limit = 8192;
    reader = file_reader(&file, &config);
    for (size_t i = 0; i < COUNT(takers); i++) {
        takers[i] = (struct taker){.reader = reader, .seen = seen};
        pthread_create(&takers[i].thread, NULL, take_blocks, &takers[i]);
    }
    for (size_t i = 0; i < COUNT(takers); i++) {
        pthread_join(takers[i].thread, NULL);
        count += takers[i].count;
        twice += takers[i].twice;
    }
    is_int(count, 3000, "four threads have every packet");
    is_int(twice, 0, "and none twice");
    is_int(reader_stats(reader).delivered, 3000, "as the counters say");
    netring_reader_close(reader);
    free(seen);
    file_free(&file);
}

/* ---- filters ---- */

static void *drain_reader(void *argument)
{
    struct netring_reader *reader = argument;
    struct netring_block *block;
    int rc;

    while ((rc = netring_reader_next_block(reader, -1, &block)) > 0)
        netring_block_release(block);
    return (void *)(intptr_t)rc;
}

static struct netring_reader *filtered(const struct file *file, const struct sock_filter *program,
                                       size_t count)
{
    struct netring_reader_config config = NETRING_READER_CONFIG_INIT;
    struct netring_reader *reader;

    if (netring_filter_new(program, count, &config.filter, NULL) != 0)
        tap_bail("netring_filter_new failed");
    reader = file_reader(file, &config);
    netring_filter_free(config.filter);
    return reader;
}

static void test_filter(void)
{
    /* Longer than 90 bytes: 40 of them. */
    static const struct sock_filter longer[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 90, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 40), BPF_STMT(BPF_RET | BPF_K, 0)};
    static const struct sock_filter beyond[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 80),
                                                BPF_STMT(BPF_RET | BPF_K, 0xffff)};
    static const struct sock_filter mark[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0xfffff014u),
                                              BPF_STMT(BPF_RET | BPF_K, 0xffff)};
    struct file file = {0};
    struct records records = {0, 0, NULL};
    struct netring_reader *reader;
    struct netring_stats stats;
    struct netring_error error;

    pcap_file(&file, &pcap_kinds[0]);
    reader = filtered(&file, longer, COUNT(longer));
    is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "with a filter");
    stats = reader_stats(reader);
    is_int(records.count, 2, "what it accepts");
    ok(records.v[0].packet.caplen == 40 && records.v[0].packet.len == 1514 &&
           records.v[1].packet.caplen == 40,
       "cut to what it returns");
    ok(stats.received == 5 && stats.delivered == 2 && stats.filtered_late == 3 &&
           stats.truncated == 2,
       "the rest is counted");
    records_free(&records);
    netring_reader_close(reader);

    reader = filtered(&file, beyond, COUNT(beyond));
    is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "a load behind what was captured");
    is_int(records.count, 2, "is no match");
    records_free(&records);
    netring_reader_close(reader);

    reader = filtered(&file, mark, COUNT(mark));
    is_int(read_all(reader, &records), NETRING_ENOTSUP, "a load of what no file has");
    netring_reader_last_error(reader, &error);
    is_str(error.option, "filter", "is the filter's fault");
    is_str_contains(error.message, "SKF_AD_MARK", "which is named");
    records_free(&records);
    netring_reader_close(reader);
    file_free(&file);
}

/* A filter that takes nothing: whoever asks how far it is does not wait for the end. */
static void test_asking_meanwhile(void)
{
    enum { PACKETS = 1000000, RECORD = 20, HEADER = 24 };
    static const struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct netring_reader_config config = NETRING_READER_CONFIG_INIT;
    const size_t size = HEADER + (size_t)PACKETS * RECORD;
    uint8_t *const bytes = calloc(1, size);
    struct file header = {0};
    struct netring_reader *reader;
    uint64_t offset;
    unsigned between = 0;
    pthread_t thread;
    void *rc;

    pcap_header(&header, &pcap_kinds[0], 262144, 1);
    if (!bytes || header.size != HEADER)
        tap_bail("no memory");
    memcpy(bytes, header.bytes, HEADER);
    for (size_t at = HEADER; at < size; at += RECORD)
        set_32(&(struct file){.big = pcap_kinds[0].big, .size = size, .bytes = bytes}, at + 8, 4);
    netring_filter_new(nothing, COUNT(nothing), &config.filter, NULL);
    if (reader_of(bytes, size, &config, &reader, NULL) != 0)
        tap_bail("a file of many packets cannot be read");
    netring_filter_free(config.filter);
    pthread_create(&thread, NULL, drain_reader, reader);
    while ((offset = reader_info(reader).offset) < size)
        between += offset > HEADER;
    pthread_join(thread, &rc);
    is_int((intptr_t)rc, NETRING_ESHUTDOWN, "nothing is accepted");
    is_int(reader_stats(reader).filtered_late, PACKETS, "all was looked at");
    ok(between > 0, "the place in the file was told %u times meanwhile", between);
    netring_reader_close(reader);
    file_free(&header);
    free(bytes);
}

/* ---- errors ---- */

static void open_refused(const char *path, int os_errno, const char *option, const char *words)
{
    struct netring_reader *reader = (void *)&path;
    struct netring_error error;
    const struct failure want = {NETRING_EIO, os_errno, option, {words, path}};
    struct footprint before = footprint_now();
    int rc, number;

    error_spoil(&error);
    errno = 0;
    rc = netring_reader_open(path, NULL, &reader, &error);
    number = errno;
    is_failure(rc, number, &error, &want, path);
    ok(reader == (void *)&path, "%s: nothing is handed out", path);
    is_footprint(before, path);
}

static void write_file(const char *path, const char *bytes, size_t size)
{
    FILE *file = fopen(path, "we");

    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
        tap_bail("%s cannot be written", path);
}

static void config_refused(struct netring_reader_config config, int code, const char *option,
                           const char *words)
{
    const struct failure want = {code, 0, option, {words}};
    struct netring_reader *reader;
    struct netring_error error;
    int rc;

    errno = 0;
    rc = netring_reader_open("/dev/null", &config, &reader, &error);
    is_failure(rc, errno, &error, &want, option);
}

static void test_errors(const char *directory)
{
    const struct netring_reader_config defaults = NETRING_READER_CONFIG_INIT;
    struct netring_reader_config config;
    struct netring_reader *reader;
    struct netring_error error;
    char path[256], name[5000];
    struct file file = {0};

    open_refused("/no/such/file", ENOENT, "open", "could not be opened: No such file");
    open_refused(directory, EISDIR, "read", "reading failed: Is a directory");
    open_refused("/dev/null", 0, "savefile", "byte 0: the file is empty");
    snprintf(path, sizeof path, "%s/file", directory);
    write_file(path, "no\n", 3);
    open_refused(path, 0, "savefile",
                 "not a savefile: neither pcap nor pcapng starts with 6e 6f 0a");
    write_file(path, "\x1f\x8b\x08\x00\x00", 5);
    open_refused(path, 0, "savefile", "compressed by gzip: read it through `zcat`");
    write_file(path, "\xd4\xc3\xb2\xa1\2\0", 6);
    open_refused(path, 0, "savefile", "byte 0: truncated: the header of 24 bytes");
    pcap_file(&file, &pcap_kinds[0]);
    write_file(path, (const char *)file.bytes, file.size);
    error_spoil(&error);
    is_int(netring_reader_open(path, NULL, &reader, &error), 0, "a file by its name");
    is_no_error(&error, "a file by its name");
    is_int(netring_reader_close(reader), 0, "close");
    is_int(netring_reader_close(reader), NETRING_EBADF, "only once");
    file_free(&file);
    unlink(path);

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    is_int(netring_reader_open(name, NULL, &reader, &error), NETRING_EIO, "a name too long");
    is_str_contains(error.message, "File name too long", "does not push out the reason");
    is_int(netring_reader_open_fd(-1, NULL, &reader, &error), NETRING_EINVAL, "no descriptor");
    is_str(error.option, "fd", "is a wrong argument");

    config = defaults;
    config.block_size = 4095;
    config_refused(config, NETRING_EINVAL, "block_size", "4096 to 1073741824");
    config = defaults;
    config.packet_limit = 0;
    config_refused(config, NETRING_EINVAL, "packet_limit", "out of range: 1 to");
    config = defaults;
    config.memory_limit = 4096;
    config_refused(config, NETRING_EINVAL, "memory_limit", "at least 16781312");
    config = defaults;
    config.flags = 4;
    config_refused(config, NETRING_EINVAL, "flags", "0x4");
    config = defaults;
    config.filter = (void *)0x1230;
    config_refused(config, NETRING_EBADF, "filter", "bad handle");
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config_refused(config, NETRING_EINVAL, "init", "never initialised");
    config = defaults;
    config.size = 8;
    config_refused(config, NETRING_EINVAL, "size", "config has size 8");
}

static void use_in_child(void *user)
{
    struct netring_block *block;

    is_int(netring_reader_next_block(user, 0, &block), NETRING_EBADF, "in a child: EBADF");
    is_int(netring_reader_close(user), NETRING_EBADF, "a close as well");
}

static void test_fork(void)
{
    struct file file = {0};
    struct netring_reader *reader;
    struct records records = {0, 0, NULL};

    pcap_file(&file, &pcap_kinds[0]);
    reader = file_reader(&file, NULL);
    child_run("a forked child", use_in_child, reader);
    is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "the parent reads on");
    is_int(records.count, file.count, "everything");
    netring_reader_close(reader);
    records_free(&records);
    file_free(&file);
}

/* ---- written again ---- */

static void *write_again(void *argument)
{
    struct taker *taker = argument;
    struct netring_writer *writer;
    struct netring_block *block;
    struct netring_error error;
    int fd = (int)taker->count, interface;

    if (netring_writer_open_fd(fd, NULL, &writer, &error) != 0)
        tap_bail("netring_writer_open_fd: %s", error.message);
    interface = netring_writer_add_interface(writer, NULL, NETRING_LINKTYPE_UNKNOWN, 0, &error);
    while (netring_reader_next_block(taker->reader, -1, &block) == 1) {
        if (netring_writer_write_block(writer, (uint32_t)interface, block) < 0)
            tap_bail("netring_writer_write_block failed");
        netring_block_release(block);
    }
    if (netring_writer_close(writer, &error) != 0)
        tap_bail("netring_writer_close: %s", error.message);
    close(fd);
    return NULL;
}

/* A reader's blocks go into the writer, through a pipe, and out of another reader. */
static void test_written_again(void)
{
    struct file file = {0};
    struct records records = {0, 0, NULL};
    struct taker taker = {0};
    struct netring_reader *again;
    int writer;

    pcapng_file(&file);
    taker.reader = file_reader(&file, NULL);
    again = pipe_reader(&writer);
    taker.count = (uint32_t)writer;
    pthread_create(&taker.thread, NULL, write_again, &taker);
    is_int(read_all(again, &records), NETRING_ESHUTDOWN, "written by the writer, read again");
    pthread_join(taker.thread, NULL);
    /* The writer numbers interfaces as their packets come. */
    for (size_t i = 0; i < file.count && i < records.count; i++)
        file.packets[i].ifindex = records.v[i].packet.ifindex;
    are_packets(&records, &file, 0, "written again");
    records_free(&records);
    netring_reader_close(again);
    netring_reader_close(taker.reader);
    file_free(&file);
}

/* ---- real files ---- */

static void test_corpus(void)
{
    const char *path = getenv("NETRING_CORPUS");
    struct records records = {0, 0, NULL};
    struct netring_reader *reader;
    struct netring_error error;
    int fd;

    path = path ? path : CORPUS;
    if (access(path, R_OK) != 0) {
        tap_skip("the corpus", "there is none (NETRING_CORPUS names one)");
        return;
    }
    if (!is_int(netring_reader_open(path, NULL, &reader, &error), 0, "the corpus opens"))
        return;
    is_int(read_all(reader, &records), NETRING_ESHUTDOWN, "the corpus is read to its end");
    tap_diag("%zu packets", records.count);
    netring_reader_close(reader);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    is_like_libpcap(fd, &records, "the corpus");
    close(fd);
    records_free(&records);
}

int main(void)
{
    char directory[] = "/tmp/netring-XXXXXX";
    struct footprint before;

    tap_begin(200);
    no_libpcap = libpcap_load();
    if (no_libpcap)
        tap_skip("the comparison with libpcap", no_libpcap);
    if (!mkdtemp(directory))
        tap_bail("no temporary directory");
    before = footprint_now();
    test_pcap();
    test_pcap_oddities();
    test_pcapng();
    test_derived();
    test_walks();
    test_next_packet();
    test_large_packet();
    test_memory_limit();
    test_small_blocks();
    test_pipe();
    test_slow_writer();
    test_descriptors();
    test_fifo(directory);
    test_signals();
    test_waits();
    test_busy();
    test_threads();
    test_filter();
    test_asking_meanwhile();
    test_errors(directory);
    test_fork();
    test_written_again();
    test_corpus();
    is_footprint(before, "everything is closed");
    rmdir(directory);
    return tap_end();
}
