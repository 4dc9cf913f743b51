#include "savefile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- parsing: host order, as this library writes ---- */

static uint32_t u32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, 4);
    return value;
}

static uint16_t u16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, 2);
    return value;
}

static uint64_t u64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, 8);
    return value;
}

static uint64_t halves(const uint8_t *at)
{
    return (uint64_t)u32(at) << 32 | u32(at + 4);
}

static void *more(void *array, size_t count, size_t size)
{
    if ((count & (count - 1)) == 0)
        array = realloc(array, (count ? 2 * count : 1) * size);
    if (!array)
        tap_bail("out of memory");
    memset((char *)array + count * size, 0, size);
    return array;
}

static struct saved_packet *add_packet(struct savefile *file)
{
    file->packet = more(file->packet, file->packets, sizeof *file->packet);
    return &file->packet[file->packets++];
}

static struct saved_interface *add_interface(struct savefile *file)
{
    file->interface = more(file->interface, file->interfaces, sizeof *file->interface);
    return &file->interface[file->interfaces++];
}

static bool wrong(struct savefile *file, size_t at, const char *why)
{
    file->wrong = why;
    file->wrong_at = at;
    return false;
}

static void parse_pcap(struct savefile *file)
{
    const uint8_t *bytes = file->bytes;
    struct saved_interface *interface = add_interface(file);
    size_t at = 24;

    file->microseconds = u32(bytes) == 0xa1b2c3d4;
    if (file->size < 24 || u16(bytes + 4) != 2 || u16(bytes + 6) != 4 || halves(bytes + 8) != 0) {
        wrong(file, 0, "file header");
        return;
    }
    interface->snap_length = u32(bytes + 16);
    interface->link_type = (uint16_t)u32(bytes + 20);
    interface->resolution = file->microseconds ? 6 : 9;
    while (at < file->size) {
        struct saved_packet packet = {0};
        uint32_t fraction, scale = file->microseconds ? 1000 : 1;

        if (file->size - at < 16) {
            wrong(file, at, "record header cut");
            return;
        }
        fraction = u32(bytes + at + 4);
        packet.time_ns = u32(bytes + at) * UINT64_C(1000000000) + (uint64_t)fraction * scale;
        packet.caplen = u32(bytes + at + 8);
        packet.len = u32(bytes + at + 12);
        packet.data = bytes + at + 16;
        if (packet.caplen > file->size - at - 16 || packet.caplen > interface->snap_length ||
            packet.len < packet.caplen || fraction >= 1000000000 / scale) {
            wrong(file, at, "record");
            return;
        }
        at += 16 + packet.caplen;
        *add_packet(file) = packet;
    }
}

/* Calls `take` for each option of those between `at` and `end`. */
static bool options(struct savefile *file, const uint8_t *at, const uint8_t *end,
                    bool (*take)(void *user, uint16_t code, const uint8_t *value, uint16_t length),
                    void *user)
{
    const size_t place = (size_t)(at - file->bytes);

    if (at == end)
        return true;
    while (end - at >= 4) {
        uint16_t code = u16(at), length = u16(at + 2);
        size_t padded = (length + 3u) & ~3u;

        at += 4;
        if (code == 0)
            return at == end && length == 0 ? true : wrong(file, place, "end of options");
        if ((size_t)(end - at) < padded || !take(user, code, at, length))
            return wrong(file, place, "option");
        at += padded;
    }
    return wrong(file, place, "options without an end");
}

static bool text(char *out, size_t size, const uint8_t *value, uint16_t length)
{
    snprintf(out, size, "%.*s", length, (const char *)value);
    return length < size;
}

static bool section_option(void *user, uint16_t code, const uint8_t *value, uint16_t length)
{
    struct savefile *file = user;

    if (code == 3)
        return text(file->os, sizeof file->os, value, length);
    if (code == 4)
        return text(file->application, sizeof file->application, value, length);
    return code == 2;
}

static bool interface_option(void *user, uint16_t code, const uint8_t *value, uint16_t length)
{
    struct saved_interface *interface = user;

    if (code == 2)
        return text(interface->name, sizeof interface->name, value, length);
    if (code == 9) {
        interface->resolution = value[0];
        return length == 1;
    }
    return code == 12;
}

static bool packet_option(void *user, uint16_t code, const uint8_t *value, uint16_t length)
{
    struct saved_packet *packet = user;

    if (code == 2)
        packet->flags = u32(value);
    if (code == 6)
        packet->queue = u32(value);
    return (code == 2 || code == 6) && length == 4;
}

static bool statistics_option(void *user, uint16_t code, const uint8_t *value, uint16_t length)
{
    struct saved_interface *interface = user;
    uint64_t *const fields[] = {&interface->start_ns, &interface->end_ns,   &interface->received,
                                &interface->dropped,  &interface->accepted, &interface->os_dropped,
                                &interface->delivered};

    if (code < 2 || code > 8 || length != 8)
        return false;
    *fields[code - 2] = code < 4 ? halves(value) : u64(value);
    return true;
}

static bool parse_block(struct savefile *file, const uint8_t *at, uint32_t length)
{
    const size_t place = (size_t)(at - file->bytes);
    const uint8_t *end = at + length - 4;
    struct saved_interface *interface;
    struct saved_packet packet = {0};

    switch (u32(at)) {
    case 0x0a0d0d0a:
        if (place != 0 || length < 28 || u32(at + 8) != 0x1a2b3c4d || u16(at + 12) != 1 ||
            u16(at + 14) != 0 || u64(at + 16) != UINT64_MAX)
            return wrong(file, place, "section header");
        return options(file, at + 24, end, section_option, file);
    case 1:
        if (length < 20 || u16(at + 10) != 0)
            return wrong(file, place, "interface description");
        interface = add_interface(file);
        interface->link_type = u16(at + 8);
        interface->snap_length = u32(at + 12);
        interface->resolution = 6;
        return options(file, at + 16, end, interface_option, interface);
    case 5:
        if (length < 24 || u32(at + 8) >= file->interfaces)
            return wrong(file, place, "interface statistics");
        interface = &file->interface[u32(at + 8)];
        interface->statistics++;
        interface->taken_ns = halves(at + 12);
        return options(file, at + 20, end, statistics_option, interface);
    case 6:
        if (length < 32 || u32(at + 8) >= file->interfaces)
            return wrong(file, place, "packet of no interface");
        packet.interface = u32(at + 8);
        packet.time_ns = halves(at + 12);
        packet.caplen = u32(at + 20);
        packet.len = u32(at + 24);
        packet.data = at + 28;
        if (packet.caplen > length - 32 || packet.len < packet.caplen ||
            packet.caplen > file->interface[packet.interface].snap_length ||
            file->interface[packet.interface].resolution != 9)
            return wrong(file, place, "packet");
        if (!options(file, at + 28 + ((packet.caplen + 3) & ~3u), end, packet_option, &packet))
            return false;
        *add_packet(file) = packet;
        return true;
    default:
        return wrong(file, place, "block of a kind that is not written");
    }
}

static void parse_pcapng(struct savefile *file)
{
    size_t at = 0;

    file->pcapng = true;
    while (at < file->size) {
        const uint8_t *block = file->bytes + at;
        const size_t left = file->size - at;
        const uint32_t length = left < 12 ? 0 : u32(block + 4);

        if (length < 12 || length > left || length % 4 != 0 || u32(block + length - 4) != length) {
            wrong(file, at, "block length");
            return;
        }
        if (!parse_block(file, block, length))
            return;
        at += length;
    }
}

struct savefile savefile_parse(uint8_t *bytes, size_t size)
{
    struct savefile file = {.bytes = bytes, .size = size};

    if (size < 8)
        wrong(&file, 0, "empty");
    else if (u32(bytes) == 0xa1b2c3d4 || u32(bytes) == 0xa1b23c4d)
        parse_pcap(&file);
    else if (u32(bytes) == 0x0a0d0d0a)
        parse_pcapng(&file);
    else
        wrong(&file, 0, "magic");
    return file;
}

struct savefile savefile_read(const char *path)
{
    FILE *stream = fopen(path, "re");
    struct stat status;
    uint8_t *bytes;

    if (!stream || fstat(fileno(stream), &status) != 0)
        tap_bail("%s: %s", path, strerror(errno));
    /* Never less than a header: the parser looks at one. */
    bytes = calloc(1, (size_t)status.st_size + 32);
    if (!bytes || fread(bytes, 1, (size_t)status.st_size, stream) != (size_t)status.st_size)
        tap_bail("%s cannot be read", path);
    fclose(stream);
    return savefile_parse(bytes, (size_t)status.st_size);
}

void savefile_free(struct savefile *file)
{
    free(file->bytes);
    free(file->interface);
    free(file->packet);
    memset(file, 0, sizeof *file);
}

bool is_savefile(const struct savefile *file, size_t packets, const char *what)
{
    if (file->wrong)
        return ok(false, "%s: %s at offset %zu of %zu", what, file->wrong, file->wrong_at,
                  file->size);
    return is_int(file->packets, packets, "%s: a whole savefile with every packet", what);
}

/* ---- others ---- */

struct pcap_header {
    struct timeval ts;
    uint32_t caplen, len;
};

static struct {
    void *(*open)(const char *path, unsigned precision, char *error);
    int (*next_ex)(void *pcap, struct pcap_header **header, const uint8_t **data);
    int (*datalink)(void *pcap);
    void (*close)(void *pcap);
} pcap;

static const char *load_libpcap(void)
{
    void *library = libpcap_open();

    if (!library)
        return "libpcap is not installed";
    if (!library_find(library, "pcap_open_offline_with_tstamp_precision", &pcap.open) ||
        !library_find(library, "pcap_next_ex", &pcap.next_ex) ||
        !library_find(library, "pcap_datalink", &pcap.datalink) ||
        !library_find(library, "pcap_close", &pcap.close))
        return "this libpcap is too old";
    return NULL;
}

static void is_read_by_libpcap(const char *path, const struct savefile *file, const char *what)
{
    const char *reason = load_libpcap();
    char error[256] = "";
    struct pcap_header *header;
    const uint8_t *data;
    size_t count = 0, unlike = 0;
    void *handle;

    if (reason) {
        tap_skip(what, reason);
        return;
    }
    handle = pcap.open(path, 1, error);
    if (!handle) {
        ok(false, "%s: libpcap opens it: %s", what, error);
        return;
    }
    while (pcap.next_ex(handle, &header, &data) == 1) {
        const struct saved_packet *packet = &file->packet[count];

        if (++count > file->packets)
            break;
        unlike += header->caplen != packet->caplen || header->len != packet->len ||
                  (uint64_t)header->ts.tv_sec * 1000000000 + (uint64_t)header->ts.tv_usec !=
                      packet->time_ns ||
                  memcmp(data, packet->data, packet->caplen) != 0;
    }
    pcap.close(handle);
    ok(count == file->packets && unlike == 0,
       "%s: libpcap reads the same (%zu of %zu packets, %zu unlike)", what, count, file->packets,
       unlike);
}

static bool is_same(const struct netring_packet *got, const struct savefile *file, size_t number)
{
    const struct saved_packet *want;

    if (number >= file->packets)
        return false;
    want = &file->packet[number];
    return got->caplen == want->caplen && got->len == want->len && got->time_ns == want->time_ns &&
           got->ifindex == want->interface + 1 &&
           got->link_type == file->interface[want->interface].link_type &&
           memcmp(got->data, want->data, want->caplen) == 0;
}

void is_read_by_reader(const char *path, const struct savefile *file, const char *what)
{
    struct netring_reader *reader;
    struct netring_block *block;
    struct netring_packet packets[64];
    struct netring_error error;
    size_t count = 0, unlike = 0;
    int rc, n;

    if (netring_reader_open(path, NULL, &reader, &error) != 0) {
        ok(false, "%s: our reader opens it: %s", what, error.message);
        return;
    }
    while ((rc = netring_reader_next_block(reader, 1000, &block)) == 1) {
        while ((n = netring_block_read(block, packets, sizeof packets[0], COUNT(packets))) > 0)
            for (int i = 0; i < n; i++)
                unlike += !is_same(&packets[i], file, count++);
        netring_block_release(block);
    }
    netring_reader_last_error(reader, &error);
    ok(rc == NETRING_ESHUTDOWN && count == file->packets && unlike == 0,
       "%s: our reader reads the same (%zu of %zu packets, %zu unlike; %s)", what, count,
       file->packets, unlike, error.message);
    netring_reader_close(reader);
}

/* The first number that a command prints behind `word`; -1: it prints none, or fails. */
static long long asked(const char *command, const char *word)
{
    FILE *output = popen(command, "re");
    long long number = -1;
    char line[512];

    if (!output)
        return -1;
    while (fgets(line, sizeof line, output)) {
        const char *place = strstr(line, word);

        if (place)
            number = strtoll(place + strlen(word), NULL, 10);
    }
    return pclose(output) == 0 ? number : -1;
}

static bool installed(const char *program)
{
    char command[256];

    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    return system(command) == 0;
}

/* NULL, or why tcpdump cannot be asked: as root it becomes another user first, which it may not in
 * an ordinary user's namespace. */
static const char *no_tcpdump(void)
{
    FILE *setgroups = fopen("/proc/self/setgroups", "re");
    char word[16] = "";

    if (setgroups) {
        if (!fgets(word, sizeof word, setgroups))
            word[0] = '\0';
        fclose(setgroups);
    }
    if (!installed("tcpdump"))
        return "tcpdump is not installed";
    return strncmp(word, "deny", 4) == 0 ? "tcpdump does not run in this user namespace" : NULL;
}

/* What tcpdump makes of it, as a pcap file with nanoseconds. */
static void is_read_by_tcpdump(const char *path, const struct savefile *file, const char *what)
{
    uint8_t *bytes = NULL;
    size_t size = 0, room = 0, n, unlike = 0;
    char command[4608];
    struct savefile copy;
    FILE *output;

    snprintf(command, sizeof command,
             "tcpdump --time-stamp-precision=nano -r '%s' -w - 2>/dev/null", path);
    output = popen(command, "re");
    do {
        if (room - size < 65536)
            bytes = realloc(bytes, room = 2 * room + 131072);
        if (!bytes || !output)
            tap_bail("tcpdump: %s", strerror(errno));
        n = fread(bytes + size, 1, room - size - 32, output);
        size += n;
    } while (n > 0);
    pclose(output);
    copy = savefile_parse(bytes, size);
    if (is_savefile(&copy, file->packets, what))
        for (size_t i = 0; i < file->packets; i++) {
            const struct saved_packet *one = &file->packet[i], *other = &copy.packet[i];

            unlike += one->caplen != other->caplen || one->len != other->len ||
                      one->time_ns != other->time_ns ||
                      memcmp(one->data, other->data, one->caplen) != 0;
        }
    is_int(unlike, 0, "%s: the same packets", what);
    savefile_free(&copy);
}

void is_read_by_others(const char *path, const struct savefile *file, const char *what)
{
    char command[4608], name[128];

    is_read_by_reader(path, file, what);
    snprintf(name, sizeof name, "%s: libpcap", what);
    is_read_by_libpcap(path, file, name);
    snprintf(name, sizeof name, "%s: tcpdump", what);
    if (no_tcpdump())
        tap_skip(name, no_tcpdump());
    else
        is_read_by_tcpdump(path, file, name);
    snprintf(name, sizeof name, "%s: capinfos", what);
    if (installed("capinfos")) {
        snprintf(command, sizeof command, "capinfos -M -c '%s' 2>&1", path);
        is_int(asked(command, "Number of packets:"), file->packets, "%s reads as many", name);
    } else {
        tap_skip(name, "capinfos is not installed");
    }
}
