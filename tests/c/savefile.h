/* Savefiles as the tests read them: a small parser of its own, strict about every length, and what
 * this library's reader, libpcap, tcpdump and capinfos make of the same file. */
#ifndef SAVEFILE_H
#define SAVEFILE_H

#include "support.h"

struct saved_interface {
    uint16_t link_type;
    uint32_t snap_length;
    char name[64];
    uint8_t resolution;  /* 9: nanoseconds */
    unsigned statistics; /* how many blocks of them */
    uint64_t taken_ns, start_ns, end_ns, received, dropped, accepted, os_dropped, delivered;
};

struct saved_packet {
    uint32_t interface;
    uint64_t time_ns;
    uint32_t caplen, len, flags, queue;
    const uint8_t *data;
};

struct savefile {
    uint8_t *bytes;
    size_t size;
    bool pcapng, microseconds;
    char os[64], application[64];
    size_t interfaces, packets;
    struct saved_interface *interface;
    struct saved_packet *packet;
    /* NULL, or where it is no savefile. */
    const char *wrong;
    size_t wrong_at;
};

/* Reads a file whole. Ends the program where it cannot be read; what is wrong in it, it tells. */
struct savefile savefile_read(const char *path);
/* The same of memory that it takes over. */
struct savefile savefile_parse(uint8_t *bytes, size_t size);
void savefile_free(struct savefile *file);
/* One check: it was read to its end, and has so many packets. */
bool is_savefile(const struct savefile *file, size_t packets, const char *what);
/* One check: netring_reader_* reads the same packets from it. */
void is_read_by_reader(const char *path, const struct savefile *file, const char *what);
/* Checks: netring_reader_*, libpcap and tcpdump read the same packets from it, capinfos as many;
 * skips what is not installed. One link type only. */
void is_read_by_others(const char *path, const struct savefile *file, const char *what);

#endif
