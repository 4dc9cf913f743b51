/* Savefiles that end early, are damaged, or claim what cannot be: what came before is delivered,
 * the error tells the place, nothing crashes, memory stays bounded; and libpcap, where it is
 * installed, reads the same packets.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what must hold for every file ---- */

/* The byte that a message names, -1 without one. */
static long long byte_of(const char *message)
{
    const char *at = strstr(message, "byte ");

    return at ? atoll(at + 5) : -1;
}

struct outcome {
    int rc; /* of the open if that failed, else of what ended the reading */
    struct records records;
    struct netring_error error;
    uint64_t memory;
};

static struct outcome outcome_of(const uint8_t *bytes, size_t size)
{
    struct netring_reader_info info;
    struct netring_reader *reader;
    struct outcome o = {.memory = 0};

    o.rc = reader_of(bytes, size, NULL, &reader, &o.error);
    if (o.rc == 0) {
        o.rc = read_all(reader, &o.records);
        netring_reader_last_error(reader, &o.error);
        netring_reader_info(reader, &info, sizeof info);
        o.memory = info.memory;
        netring_reader_close(reader);
    }
    return o;
}

/* The end, or an error that names a byte of the file. */
static bool is_told(const struct outcome *o, size_t size)
{
    long long byte = byte_of(o->error.message);

    if (o->rc == NETRING_ESHUTDOWN)
        return o->error.code == o->rc && strcmp(o->error.option, "end") == 0;
    return o->rc == NETRING_EIO && o->error.code == o->rc &&
           strcmp(o->error.option, "savefile") == 0 && byte >= 0 && byte <= (long long)size;
}

/* libpcap's packets are the first of ours; where it reached the end, so did we, and both have as
 * many. */
static const char *unlike_libpcap(const struct outcome *o, const uint8_t *bytes, size_t size)
{
    struct libpcap_result theirs;
    const char *unlike = NULL;
    int fd = file_fd(bytes, size);

    libpcap_read(fd, &theirs);
    close(fd);
    if (!theirs.failed && (o->rc != NETRING_ESHUTDOWN || o->records.count != theirs.records.count))
        unlike = "libpcap comes to the end";
    else if (o->records.count < theirs.records.count)
        unlike = "libpcap has more packets";
    for (size_t i = 0; !unlike && i < theirs.records.count; i++) {
        const struct netring_packet *a = &o->records.v[i].packet;
        const struct netring_packet *b = &theirs.records.v[i].packet;

        if (a->caplen != b->caplen || a->len != b->len)
            unlike = "lengths differ from libpcap's";
        else if (memcmp(a->data, b->data, a->caplen) != 0)
            unlike = "bytes differ from libpcap's";
    }
    if (unlike)
        tap_diag("%s: we %zu packets, %s; libpcap %zu packets, %s", unlike, o->records.count,
                 o->error.message, theirs.records.count, theirs.message);
    records_free(&theirs.records);
    return unlike;
}

/* ---- files ---- */

static struct {
    const char *name;
    struct file file;
} files[10];
static size_t file_count;
static const char *no_libpcap;

static void make_files(void)
{
    for (size_t i = 0; i < COUNT(pcap_kinds); i++) {
        files[file_count].name = pcap_kinds[i].name;
        pcap_file(&files[file_count++].file, &pcap_kinds[i]);
    }
    files[file_count].name = "pcapng, little-endian";
    plain_pcapng_file(&files[file_count++].file, false);
    files[file_count].name = "pcapng, big-endian";
    plain_pcapng_file(&files[file_count++].file, true);
    files[file_count].name = "pcapng, several sections";
    pcapng_file(&files[file_count++].file);
}

/* ---- truncation ---- */

/* What a file that ends after `size` bytes must say. */
static bool is_cut(const struct file *file, size_t size, const struct outcome *o)
{
    size_t whole = 0, start = 0;
    bool between = false;

    while (whole < file->count && file->packets[whole].end <= size)
        whole++;
    for (size_t i = 0; i < file->start_count; i++) {
        if (file->starts[i] <= size)
            start = file->starts[i];
        between |= file->starts[i] == size && size != 0;
    }
    if (between)
        return o->rc == NETRING_ESHUTDOWN && o->records.count == whole;
    return o->rc == NETRING_EIO && o->records.count == whole &&
           byte_of(o->error.message) == (long long)start &&
           (strstr(o->error.message, "truncated") || size < 4);
}

static void test_truncation(void)
{
    for (size_t i = 0; i < file_count; i++) {
        const struct file *file = &files[i].file;
        size_t wrong = 0, unlike = 0;

        for (size_t size = 0; size <= file->size; size++) {
            struct outcome o = outcome_of(file->bytes, size);

            if (!is_cut(file, size, &o) && wrong++ < 3)
                tap_diag("after %zu bytes: %d, %zu packets, %s", size, o.rc, o.records.count,
                         o.error.message);
            /* It wants more of a section than its header. */
            if (!no_libpcap && i + 1 < file_count && size > 200 && size % 7 == 0)
                unlike += unlike_libpcap(&o, file->bytes, size) != NULL;
            records_free(&o.records);
        }
        is_int(wrong, 0, "%s, cut after every byte: what came before, then the place",
               files[i].name);
        is_int(unlike, 0, "%s, cut: as libpcap has it", files[i].name);
    }
}

/* ---- damage ---- */

static uint64_t state = 88172645463325252;

static uint32_t any(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

static void check_damaged(const uint8_t *bytes, size_t size, size_t *untold, size_t *unlike,
                          uint64_t *memory)
{
    struct outcome o = outcome_of(bytes, size);

    if (!is_told(&o, size) && (*untold)++ < 3)
        tap_diag("%d (%s): %s", o.rc, o.error.option, o.error.message);
    if (!no_libpcap && unlike)
        *unlike += unlike_libpcap(&o, bytes, size) != NULL;
    if (o.memory > *memory)
        *memory = o.memory;
    records_free(&o.records);
}

static void test_flips(void)
{
    /* Each takes a few hundred microseconds, more under valgrind. */
    uint32_t turns = tap_patience(1) > 1 ? 300 : 3000;

    for (size_t i = 0; i < file_count; i++) {
        const struct file *file = &files[i].file;
        size_t untold = 0, unlike = 0;
        uint8_t *bytes = malloc(file->size);
        uint64_t memory = 0;

        for (uint32_t turn = 0; bytes && turn < turns; turn++) {
            memcpy(bytes, file->bytes, file->size);
            for (uint32_t n = 1 + any(4); n > 0; n--) {
                uint32_t at = any((uint32_t)file->size);

                bytes[at] = any(2) ? bytes[at] ^ (uint8_t)(1 << any(8)) : (uint8_t)any(256);
            }
            check_damaged(bytes, file->size, &untold, i + 1 < file_count ? &unlike : NULL, &memory);
        }
        is_int(untold, 0, "%s, %u times damaged: read to the end or to a named byte", files[i].name,
               turns);
        is_int(unlike, 0, "%s, damaged: libpcap's packets are the first of ours", files[i].name);
        ok(memory <= 64 * MIB, "memory: %llu", (unsigned long long)memory);
        free(bytes);
    }
}

static long resident_pages(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        tap_bail("no /proc/self/statm");
    fclose(file);
    return pages;
}

/* Every word of every file, in turn, as each length that nobody should believe. */
static void test_lengths(void)
{
    static const uint32_t lengths[] = {0,          1,          3,          4,         11,
                                       12,         13,         16,         28,        0xffff,
                                       0x40000,    0x40001,    15u << 20,  16u << 20, 0x7fffffff,
                                       0x80000000, 0xfffffff0, 0xfffffffc, 0xffffffff};
    long before = resident_pages();
    uint64_t memory = 0;

    for (size_t i = 0; i < file_count; i++) {
        const struct file *file = &files[i].file;
        struct file damaged = *file;
        size_t untold = 0, unlike = 0;

        damaged.bytes = malloc(file->size);
        damaged.room = file->size;
        for (size_t at = 0; damaged.bytes && at + 4 <= file->size && at < 700; at += 4) {
            for (size_t n = 0; n < COUNT(lengths); n++) {
                memcpy(damaged.bytes, file->bytes, file->size);
                damaged.big = i == 2 || i == 3 || i == 5 || i == 7;
                set_32(&damaged, at, lengths[n]);
                check_damaged(damaged.bytes, file->size, &untold,
                              i + 1 < file_count ? &unlike : NULL, &memory);
            }
            if (tap_patience(1) > 1)
                at += 36;
        }
        is_int(untold, 0, "%s, with hostile lengths: read to the end or to a named byte",
               files[i].name);
        is_int(unlike, 0, "%s, with hostile lengths: libpcap's packets are the first of ours",
               files[i].name);
        free(damaged.bytes);
    }
    ok(memory <= 64 * MIB, "memory of blocks: %llu", (unsigned long long)memory);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
    is_between(resident_pages() - before, -100000, 64 * MIB / 4096, "pages of memory more");
#else
    (void)before;
#endif
}

/* ---- single cases, with their words ---- */

static void is_damage(struct file *file, size_t packets, size_t byte, const char *words,
                      const char *what)
{
    struct outcome o = outcome_of(file->bytes, file->size);

    is_int(o.rc, NETRING_EIO, "%s: EIO", what);
    is_int(o.records.count, packets, "%s: what came before", what);
    is_int(byte_of(o.error.message), byte, "%s: the place", what);
    is_str_contains(o.error.message, words, "%s: the words", what);
    records_free(&o.records);
    file_free(file);
}

static void test_words(void)
{
    struct file f = {0};
    size_t at;

    pcap_header(&f, &pcap_kinds[0], 100, 1);
    pcap_packet(&f, &pcap_kinds[0], 1, 1, 60, 60);
    at = f.size;
    pcap_packet(&f, &pcap_kinds[0], 1, 1, 0, 60);
    set_32(&f, at + 8, 300000);
    is_damage(&f, 1, at, "300000 captured bytes cannot be: the file's snapshot length is 100",
              "a captured length beyond sense");

    pcap_header(&f, &pcap_kinds[0], 0x7fffffff, 1);
    at = f.size;
    pcap_packet(&f, &pcap_kinds[0], 1, 1, 0, 60);
    set_32(&f, at + 8, 20000000);
    is_damage(&f, 0, at, "larger than packet_limit (16777216)", "a packet above the limit");

    pcap_header(&f, &pcap_kinds[0], 100, 1);
    f.bytes[6] = 5;
    is_damage(&f, 0, 0, "pcap version 2.5", "a version");

    plain_pcapng_file(&f, false);
    at = f.starts[4];
    set_32(&f, f.starts[5] - 4, 60);
    is_damage(&f, 1, at, "the two lengths of a block differ: ", "a block's second length");

    plain_pcapng_file(&f, false);
    at = f.starts[4];
    set_32(&f, at + 8, 9);
    is_damage(&f, 1, at, "interface 9, which its section does not describe", "an interface");

    plain_pcapng_file(&f, false);
    at = f.starts[4];
    set_32(&f, at + 20, 5000);
    is_damage(&f, 1, at, "5000 captured bytes does not fit its block", "a captured length");

    plain_pcapng_file(&f, false);
    at = f.starts[4];
    set_32(&f, at + 20, 300000);
    is_damage(&f, 1, at, "the snapshot length of its interface is 262144", "a captured length");

    plain_pcapng_file(&f, false);
    at = f.starts[4];
    set_32(&f, at + 4, 34);
    is_damage(&f, 1, at, "a multiple of 4", "a block's length");

    plain_pcapng_file(&f, false);
    at = f.starts[4];
    set_32(&f, at + 4, 0x40000000);
    is_damage(&f, 1, at, "packet_limit", "a block's length");

    section_block(&f, false);
    at = f.size;
    interface_block(&f, 1, 0, NULL, 0x80 | 64, 0);
    is_damage(&f, 0, at, "if_tsresol", "a resolution of 2^-64");

    section_block(&f, false);
    at = f.size;
    interface_block(&f, 1, 0, NULL, 6, 0);
    f.bytes[at + 18] = 200;
    is_damage(&f, 0, at, "option", "an option longer than its block");
    section_block(&f, false);
    at = f.size;
    f.starts[0] = at;
    section_block(&f, false);
    set_32(&f, at + 8, 0x12345678);
    is_damage(&f, 0, at, "byte-order magic is 0x12345678", "a byte order");

    section_block(&f, true);
    f.bytes[13] = 2;
    is_damage(&f, 0, 0, "pcapng version 2.0", "a version of pcapng");
}

/* A block of another type may be of any length, and costs no memory. */
static void test_large_unknown(void)
{
    struct file f = {0};
    struct outcome o;
    size_t start;

    section_block(&f, false);
    interface_block(&f, 1, 0, NULL, -1, 0);
    start = block_begin(&f, 0x12345);
    put_bytes(&f, 20 * MIB, 1);
    block_end(&f, start);
    packet_block(&f, false, 0, 0, 60, 60, 0);
    o = outcome_of(f.bytes, f.size);
    is_int(o.rc, NETRING_ESHUTDOWN, "20 MiB of an unknown block are passed over");
    is_int(o.records.count, 1, "and what follows is read");
    is_between(o.memory, 0, 1 * MIB, "its memory");
    records_free(&o.records);
    set_32(&f, f.starts[3] - 4, 8);
    o = outcome_of(f.bytes, f.size);
    is_int(byte_of(o.error.message), start, "its second length is looked at");
    records_free(&o.records);
    file_free(&f);
}

int main(void)
{
    tap_begin(500);
    no_libpcap = libpcap_load();
    if (no_libpcap)
        tap_skip("the comparison with libpcap", no_libpcap);
    make_files();
    test_words();
    test_truncation();
    test_flips();
    test_lengths();
    test_large_unknown();
    for (size_t i = 0; i < file_count; i++)
        file_free(&files[i].file);
    return tap_end();
}
