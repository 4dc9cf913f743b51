/* Reads a savefile, pcap or pcapng, and prints its packets and what its interfaces carried:
 *
 *     savefile FILE            a file
 *     tcpdump -w - | savefile  a pipe, as it comes
 *     savefile -q FILE         only the summary
 *
 * Exit codes: 0 done, 1 failed, 2 wrong usage.
 */
#include <inttypes.h>
#include <netring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
    "usage: savefile [-q] [FILE]\n"
    "Shows the packets of a savefile, pcap or pcapng, one line each, and what its interfaces\n"
    "carried. Without FILE, or with -, from standard input: tcpdump -w - | savefile\n"
    "\n"
    "  -q  only the summary\n"
    "  -h  this text\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

/* Bytes and packets of each interface. */
static struct count {
    uint64_t packets, bytes;
} * counts;
static uint32_t count_size;

static void count(const struct netring_packet *packet)
{
    if (packet->ifindex > count_size) {
        struct count *more = realloc(counts, packet->ifindex * sizeof *counts);

        if (!more)
            return;
        memset(more + count_size, 0, (packet->ifindex - count_size) * sizeof *more);
        counts = more;
        count_size = packet->ifindex;
    }
    counts[packet->ifindex - 1].packets++;
    counts[packet->ifindex - 1].bytes += packet->len;
}

static void print(const struct netring_packet *packet)
{
    time_t seconds = (time_t)(packet->time_ns / 1000000000);
    struct tm utc;
    char when[32];

    gmtime_r(&seconds, &utc);
    strftime(when, sizeof when, "%F %T", &utc);
    printf("%s.%09u  interface %u, link type %u, %u of %u bytes", when,
           (unsigned)(packet->time_ns % 1000000000), packet->ifindex - 1, packet->link_type,
           packet->caplen, packet->len);
    if (packet->status & NETRING_PACKET_PROTOCOL)
        printf(", protocol 0x%04x", packet->protocol);
    if (packet->status & NETRING_PACKET_DIRECTION)
        printf(", %s", packet->direction == NETRING_DIRECTION_OUTGOING ? "sent" : "received");
    putchar('\n');
}

static void summary(struct netring_reader *reader)
{
    struct netring_reader_info info;

    if (netring_reader_info(reader, &info, sizeof info) < 0 || info.format == 0)
        return;
    printf("%s %u.%u, %s-endian, %" PRIu64 " bytes\n",
           info.format == NETRING_SAVEFILE_PCAP ? "pcap" : "pcapng", info.version_major,
           info.version_minor, info.byte_order == NETRING_BYTE_ORDER_BIG ? "big" : "little",
           info.offset);
    for (uint32_t i = 0; i < info.interfaces; i++) {
        struct netring_reader_interface interface;
        struct count total = {0, 0};

        if (netring_reader_interface(reader, i, &interface, sizeof interface) < 0)
            break;
        if (i < count_size)
            total = counts[i];
        printf("interface %u %s: link type %u, %" PRIu64 " packets, %" PRIu64 " bytes", i,
               interface.name, interface.link_type, total.packets, total.bytes);
        if (interface.valid & NETRING_READER_INTERFACE_DROPPED)
            printf(", %" PRIu64 " dropped when captured", interface.dropped);
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    int quiet = argc > 1 && strcmp(argv[1], "-q") == 0;
    const char *path = argc > 1 + quiet ? argv[1 + quiet] : "-";
    struct netring_reader *reader;
    struct netring_block *block;
    struct netring_error error;
    int rc;

    if (argc > 2 + quiet || (path[0] == '-' && path[1] != '\0')) {
        int asked = strcmp(path, "-h") == 0 || strcmp(path, "--help") == 0;
        fputs(help, asked ? stdout : stderr);
        return asked ? 0 : 2;
    }
    if (strcmp(path, "-") == 0)
        rc = netring_reader_open_fd(0, NULL, &reader, &error);
    else
        rc = netring_reader_open(path, NULL, &reader, &error);
    if (rc < 0) {
        fprintf(stderr, "savefile: %s\n", error.message);
        return 1;
    }
    while ((rc = netring_reader_next_block(reader, -1, &block)) > 0) {
        struct netring_packet packets[64];
        int n;

        while ((n = netring_block_read(block, packets, sizeof *packets, 64)) > 0)
            for (int i = 0; i < n; i++) {
                count(&packets[i]);
                if (!quiet)
                    print(&packets[i]);
            }
        netring_block_release(block);
    }
    summary(reader);
    if (rc != NETRING_ESHUTDOWN) { /* not the end of the file */
        netring_reader_last_error(reader, &error);
        fprintf(stderr, "savefile: %s\n", error.message);
    }
    netring_reader_close(reader);
    free(counts);
    return rc == NETRING_ESHUTDOWN ? 0 : 1;
}
