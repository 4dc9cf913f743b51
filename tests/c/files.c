#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- bytes ---- */

void file_free(struct file *file)
{
    free(file->bytes);
    memset(file, 0, sizeof *file);
}

void put_8(struct file *file, uint8_t value)
{
    if (file->size == file->room) {
        file->room = file->room ? 2 * file->room : 4096;
        file->bytes = realloc(file->bytes, file->room);
        if (!file->bytes)
            tap_bail("out of memory");
    }
    file->bytes[file->size++] = value;
}

static void put_number(struct file *file, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        put_8(file, (uint8_t)(value >> 8 * (file->big ? bytes - 1 - i : i)));
}

void put_16(struct file *file, uint16_t value)
{
    put_number(file, value, 2);
}

void put_32(struct file *file, uint32_t value)
{
    put_number(file, value, 4);
}

void put_64(struct file *file, uint64_t value)
{
    put_number(file, value, 8);
}

void put_bytes(struct file *file, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++)
        put_8(file, (uint8_t)(seed * 31 + i * 7 + (i >> 8)));
}

void put_text(struct file *file, const char *text)
{
    while (*text)
        put_8(file, (uint8_t)*text++);
}

void put_padding(struct file *file)
{
    while (file->size % 4)
        put_8(file, 0);
}

void set_32(struct file *file, size_t at, uint32_t value)
{
    size_t size = file->size;

    file->size = at;
    put_32(file, value);
    file->size = size;
}

void file_start(struct file *file)
{
    if (file->start_count == COUNT(file->starts))
        tap_bail("too many starts");
    file->starts[file->start_count++] = file->size;
}

struct expected *file_expect(struct file *file)
{
    if (file->count == COUNT(file->packets))
        tap_bail("too many packets");
    return &file->packets[file->count++];
}

/* ---- pcap ---- */

const struct pcap_kind pcap_kinds[6] = {
    {"little-endian, microseconds", false, false, false},
    {"little-endian, nanoseconds", false, true, false},
    {"big-endian, microseconds", true, false, false},
    {"big-endian, nanoseconds", true, true, false},
    {"little-endian, modified", false, false, true},
    {"big-endian, modified", true, false, true},
};

void pcap_header(struct file *file, const struct pcap_kind *kind, uint32_t snap_length,
                 uint32_t network)
{
    file->big = kind->big;
    file_start(file);
    put_32(file, kind->modified ? 0xa1b2cd34 : kind->nano ? 0xa1b23c4d : 0xa1b2c3d4);
    put_16(file, 2);
    put_16(file, 4);
    put_32(file, 0);
    put_32(file, 0);
    put_32(file, snap_length);
    put_32(file, network);
}

void pcap_packet(struct file *file, const struct pcap_kind *kind, uint32_t seconds,
                 uint32_t fraction, uint32_t caplen, uint32_t len)
{
    struct expected *expected = file_expect(file);

    file_start(file);
    put_32(file, seconds);
    put_32(file, fraction);
    put_32(file, caplen);
    put_32(file, len);
    if (kind->modified)
        put_bytes(file, 8, 99);
    *expected = (struct expected){
        .time_ns =
            seconds * UINT64_C(1000000000) + fraction * UINT64_C(1) * (kind->nano ? 1 : 1000),
        .caplen = caplen,
        .len = len,
        .ifindex = 1,
        .link_type = 1,
        .direction = -1,
        .data = file->size,
    };
    put_bytes(file, caplen, (uint32_t)file->count);
    expected->end = file->size;
}

void pcap_file(struct file *file, const struct pcap_kind *kind)
{
    /* With a length of the frame check sequence above the link type. */
    pcap_header(file, kind, 65535, 0x24000001);
    pcap_packet(file, kind, 1700000000, 123456, 60, 60);
    pcap_packet(file, kind, 1700000000, 999999, 0, 60);
    pcap_packet(file, kind, 1700000001, 0, 96, 1514);
    pcap_packet(file, kind, 0, 1, 13, 13);
    pcap_packet(file, kind, 2000000000, 7, 1514, 1514);
    file_start(file);
}

/* ---- pcapng ---- */

size_t block_begin(struct file *file, uint32_t type)
{
    size_t start = file->size;

    file_start(file);
    put_32(file, type);
    put_32(file, 0);
    return start;
}

void block_end(struct file *file, size_t start)
{
    uint32_t total;

    put_padding(file);
    total = (uint32_t)(file->size - start + 4);
    put_32(file, total);
    set_32(file, start + 4, total);
}

void put_option(struct file *file, uint16_t code, uint16_t length)
{
    put_16(file, code);
    put_16(file, length);
}

void section_block(struct file *file, bool big)
{
    size_t start;

    file->big = big;
    start = block_begin(file, 0x0a0d0d0a);
    put_32(file, 0x1a2b3c4d);
    put_16(file, 1);
    put_16(file, 0);
    put_64(file, UINT64_MAX);
    put_option(file, 4, 5);
    put_text(file, "tests");
    put_padding(file);
    put_option(file, 0, 0);
    block_end(file, start);
}

void interface_block(struct file *file, uint16_t link_type, uint32_t snap_length, const char *name,
                     int resolution, int64_t offset)
{
    size_t start = block_begin(file, 1);

    put_16(file, link_type);
    put_16(file, 0);
    put_32(file, snap_length);
    if (name) {
        put_option(file, 2, (uint16_t)strlen(name));
        put_text(file, name);
        put_padding(file);
        put_option(file, 3, 12);
        put_text(file, "the uplink's");
    }
    if (resolution >= 0) {
        put_option(file, 9, 1);
        put_8(file, (uint8_t)resolution);
        put_padding(file);
    }
    if (offset) {
        put_option(file, 14, 8);
        put_64(file, (uint64_t)offset);
    }
    if (name || resolution >= 0 || offset)
        put_option(file, 0, 0);
    block_end(file, start);
}

static struct expected *expect_packet(struct file *file, uint32_t caplen, uint32_t len)
{
    struct expected *expected = file_expect(file);

    *expected = (struct expected){
        .caplen = caplen, .len = len, .ifindex = 1, .link_type = 1, .direction = -1};
    expected->data = file->size;
    put_bytes(file, caplen, (uint32_t)file->count);
    put_padding(file);
    return expected;
}

void packet_block(struct file *file, bool obsolete, uint32_t interface, uint64_t units,
                  uint32_t caplen, uint32_t len, uint32_t flags)
{
    size_t start = block_begin(file, obsolete ? 2 : 6);
    struct expected *expected;

    if (obsolete) {
        put_16(file, (uint16_t)interface);
        put_16(file, 0xffff);
    } else {
        put_32(file, interface);
    }
    put_32(file, (uint32_t)(units >> 32));
    put_32(file, (uint32_t)units);
    put_32(file, caplen);
    put_32(file, len);
    expected = expect_packet(file, caplen, len);
    if (flags) {
        put_option(file, 1, 3); /* a comment, first */
        put_text(file, "hey");
        put_padding(file);
        put_option(file, 2, 4);
        put_32(file, flags);
        put_option(file, 0, 0);
    }
    block_end(file, start);
    expected->end = file->size;
}

void simple_block(struct file *file, uint32_t caplen, uint32_t len)
{
    size_t start = block_begin(file, 3);
    struct expected *expected;

    put_32(file, len);
    expected = expect_packet(file, caplen, len);
    block_end(file, start);
    expected->end = file->size;
}

void statistics_block(struct file *file, uint32_t interface, uint64_t received, uint64_t dropped)
{
    size_t start = block_begin(file, 5);

    put_32(file, interface);
    put_64(file, 0);
    put_option(file, 4, 8);
    put_64(file, received);
    put_option(file, 5, 8);
    put_64(file, dropped);
    put_option(file, 0, 0);
    block_end(file, start);
}

/* A block that a reader passes over. */
static void other_block(struct file *file, uint32_t type, size_t length)
{
    size_t start = block_begin(file, type);

    put_bytes(file, length, type);
    block_end(file, start);
}

#define LAST(file) (&(file)->packets[(file)->count - 1])

void pcapng_file(struct file *file)
{
    section_block(file, false);
    other_block(file, 4, 20);     /* name resolution */
    other_block(file, 0x0bad, 8); /* custom */
    interface_block(file, 1, 200, "eth0", 9, 0);
    interface_block(file, 101, 0, NULL, -1, 0);
    packet_block(file, false, 0, UINT64_C(1700000000123456789), 60, 60, 1 | 3 << 2);
    LAST(file)->time_ns = UINT64_C(1700000000123456789);
    LAST(file)->direction = NETRING_DIRECTION_BROADCAST;
    packet_block(file, false, 1, UINT64_C(1700000001000001), 41, 1500, 2);
    LAST(file)->time_ns = UINT64_C(1700000001000001000);
    LAST(file)->direction = NETRING_DIRECTION_OUTGOING;
    LAST(file)->ifindex = 2;
    LAST(file)->link_type = 101;
    simple_block(file, 200, 300); /* cut to the first interface's 200 */
    packet_block(file, true, 0, UINT64_C(1700000002000000003), 14, 14, 1 | 4 << 2);
    LAST(file)->time_ns = UINT64_C(1700000002000000003);
    LAST(file)->direction = NETRING_DIRECTION_OTHERHOST;
    other_block(file, 0x80000bad, 4000);
    packet_block(file, false, 0, 0, 0, 0, 0);
    statistics_block(file, 0, 1000, 17);
    statistics_block(file, 7, 1, 1); /* of no interface */

    section_block(file, true);
    interface_block(file, 1, 0, "\xc3\xa4", 0x80 | 20, 1700000000);
    interface_block(file, 1, 0, NULL, 12, -5);
    packet_block(file, false, 0, (UINT64_C(3) << 20) + (1 << 19), 77, 77, 1);
    LAST(file)->time_ns = UINT64_C(1700000003500000000);
    LAST(file)->direction = NETRING_DIRECTION_HOST;
    LAST(file)->ifindex = 3;
    packet_block(file, false, 1, UINT64_C(7000000001999), 33, 33, 1 | 2 << 2);
    LAST(file)->time_ns = UINT64_C(2000000001);
    LAST(file)->direction = NETRING_DIRECTION_MULTICAST;
    LAST(file)->ifindex = 4;
    packet_block(file, true, 1, 0, 33, 40, 0); /* before 1970 */
    LAST(file)->ifindex = 4;
    simple_block(file, 61, 61);
    LAST(file)->ifindex = 3;
    statistics_block(file, 1, UINT64_C(1) << 40, 5);
    file_start(file);
}

void plain_pcapng_file(struct file *file, bool big)
{
    section_block(file, big);
    interface_block(file, 1, 262144, "eth0", 9, 0);
    other_block(file, 0x0a, 64); /* secrets */
    for (uint32_t i = 0; i < 4; i++) {
        packet_block(file, false, 0, UINT64_C(1700000000000000001) + i, 60 + i, 100, i);
        LAST(file)->time_ns = UINT64_C(1700000000000000001) + i;
        LAST(file)->direction = i == 1   ? NETRING_DIRECTION_HOST
                                : i == 2 ? NETRING_DIRECTION_OUTGOING
                                         : -1;
    }
    interface_block(file, 1, 262144, NULL, 0x80 | 10, 1000);
    packet_block(file, false, 1, 1536, 99, 99, 0);
    LAST(file)->time_ns = UINT64_C(1001500000000);
    LAST(file)->ifindex = 2;
    packet_block(file, true, 0, 5, 10, 20, 0);
    LAST(file)->time_ns = 5;
    simple_block(file, 44, 44);
    statistics_block(file, 0, 5, 6);
    file_start(file);
}

/* ---- reading ---- */

int file_fd(const uint8_t *bytes, size_t size)
{
    int fd = memfd_create("savefile", MFD_CLOEXEC);

    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
        tap_bail("no file in memory");
    return fd;
}

int reader_of(const uint8_t *bytes, size_t size, const struct netring_reader_config *config,
              struct netring_reader **reader, struct netring_error *error)
{
    int fd = file_fd(bytes, size);
    int rc = netring_reader_open_fd(fd, config, reader, error);

    close(fd);
    return rc;
}

struct netring_reader *file_reader(const struct file *file,
                                   const struct netring_reader_config *config)
{
    struct netring_reader *reader;
    struct netring_error error;

    if (reader_of(file->bytes, file->size, config, &reader, &error) != 0)
        tap_bail("netring_reader_open_fd: %s", error.message);
    return reader;
}

int read_all(struct netring_reader *reader, struct records *records)
{
    struct netring_block *block;
    int rc;

    while ((rc = netring_reader_next_block(reader, -1, &block)) == 1) {
        struct netring_packet packets[16];
        int n;

        while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0)
            for (int i = 0; i < n; i++)
                records_add(records, &packets[i]);
        if (n != 0 || netring_block_release(block) != 0)
            tap_bail("a block of a savefile: %d", n);
    }
    return rc;
}

/* ---- libpcap ---- */

/* As in <pcap/pcap.h>, which need not be installed. */
struct packet_header {
    struct timeval time;
    uint32_t caplen, len;
};

static struct {
    void *(*open)(const char *path, unsigned precision, char *error);
    int (*datalink)(void *pcap);
    int (*next_ex)(void *pcap, struct packet_header **header, const uint8_t **data);
    char *(*geterr)(void *pcap);
    void (*close)(void *pcap);
} libpcap;

const char *libpcap_load(void)
{
    void *library = libpcap_open();

    if (!library)
        return "libpcap is not installed";
    if (!library_find(library, "pcap_open_offline_with_tstamp_precision", &libpcap.open) ||
        !library_find(library, "pcap_datalink", &libpcap.datalink) ||
        !library_find(library, "pcap_next_ex", &libpcap.next_ex) ||
        !library_find(library, "pcap_geterr", &libpcap.geterr) ||
        !library_find(library, "pcap_close", &libpcap.close))
        return "this libpcap is too old";
    return NULL;
}

void libpcap_read(int fd, struct libpcap_result *result)
{
    struct packet_header *header;
    const uint8_t *data;
    char path[32];
    void *pcap;
    int rc;

    memset(result, 0, sizeof *result);
    result->link_type = -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    pcap = libpcap.open(path, 1 /* nanoseconds */, result->message);
    if (!pcap) {
        result->failed = true;
        return;
    }
    result->link_type = libpcap.datalink(pcap);
    while ((rc = libpcap.next_ex(pcap, &header, &data)) == 1) {
        struct netring_packet packet = {
            .caplen = header->caplen,
            .len = header->len,
            .time_ns = (uint64_t)header->time.tv_sec * 1000000000 + (uint64_t)header->time.tv_usec,
        };

        memcpy(&packet.data, &data, sizeof data);
        records_add(&result->records, &packet);
    }
    result->failed = rc != -2;
    if (result->failed)
        snprintf(result->message, sizeof result->message, "%s", libpcap.geterr(pcap));
    libpcap.close(pcap);
}
