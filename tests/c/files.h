/* Savefiles made byte by byte, in memory, with what they must read as; and libpcap, where it is. */
#ifndef FILES_H
#define FILES_H

#include "support.h"

/* Bytes in one byte order, and the packets that are in them. */
struct file {
    bool big;
    size_t size, room;
    uint8_t *bytes;
    struct expected {
        size_t end; /* the file must reach here for it to be read */
        uint64_t time_ns;
        uint32_t caplen, len, ifindex;
        uint16_t link_type;
        int direction; /* -1: the file does not say */
        size_t data;   /* place of its bytes */
    } packets[64];
    size_t count;
    /* Where headers, records and blocks start; the last is the end. */
    size_t starts[128];
    size_t start_count;
};

void file_free(struct file *file);
void put_8(struct file *file, uint8_t value);
void put_16(struct file *file, uint16_t value);
void put_32(struct file *file, uint32_t value);
void put_64(struct file *file, uint64_t value);
/* `length` bytes, each a function of its place and of `seed`. */
void put_bytes(struct file *file, size_t length, uint32_t seed);
void put_text(struct file *file, const char *text);
void put_padding(struct file *file);
/* Writes over what is there. */
void set_32(struct file *file, size_t at, uint32_t value);
/* Notes that something starts here, or that the file ends. */
void file_start(struct file *file);
struct expected *file_expect(struct file *file);

/* ---- pcap ---- */
struct pcap_kind {
    const char *name;
    bool big, nano, modified;
};
extern const struct pcap_kind pcap_kinds[6];
void pcap_header(struct file *file, const struct pcap_kind *kind, uint32_t snap_length,
                 uint32_t network);
void pcap_packet(struct file *file, const struct pcap_kind *kind, uint32_t seconds,
                 uint32_t fraction, uint32_t caplen, uint32_t len);
/* Five packets, one of them empty, one cut. */
void pcap_file(struct file *file, const struct pcap_kind *kind);

/* ---- pcapng ---- */
/* A block: what is put between the two belongs to it. Returns where it starts. */
size_t block_begin(struct file *file, uint32_t type);
void block_end(struct file *file, size_t start);
void put_option(struct file *file, uint16_t code, uint16_t length);
void section_block(struct file *file, bool big);
void interface_block(struct file *file, uint16_t link_type, uint32_t snap_length, const char *name,
                     int resolution, int64_t offset);
/* An enhanced packet block (or `obsolete`), with epb_flags unless 0. */
void packet_block(struct file *file, bool obsolete, uint32_t interface, uint64_t units,
                  uint32_t caplen, uint32_t len, uint32_t flags);
void simple_block(struct file *file, uint32_t caplen, uint32_t len);
void statistics_block(struct file *file, uint32_t interface, uint64_t received, uint64_t dropped);
/* Two sections in either byte order, four interfaces of two link types, every kind of block. */
void pcapng_file(struct file *file);
/* One section and link type: what libpcap can read as well. */
void plain_pcapng_file(struct file *file, bool big);

/* ---- reading ---- */
/* A descriptor of a file in memory with these bytes, at its start. */
int file_fd(const uint8_t *bytes, size_t size);
int reader_of(const uint8_t *bytes, size_t size, const struct netring_reader_config *config,
              struct netring_reader **reader, struct netring_error *error);
/* The same, or the program ends. */
struct netring_reader *file_reader(const struct file *file,
                                   const struct netring_reader_config *config);
/* Reads to what ends it, and returns that. */
int read_all(struct netring_reader *reader, struct records *records);

/* ---- libpcap ---- */
/* NULL, or why it cannot be had. */
const char *libpcap_load(void);
struct libpcap_result {
    struct records records;
    int link_type;     /* DLT_, -1: it was not opened */
    bool failed;       /* not at its end */
    char message[256]; /* its words for that */
};
void libpcap_read(int fd, struct libpcap_result *result);

#endif
