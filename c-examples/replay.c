/* Sends the packets of a savefile, pcap or pcapng, and says what became of each.
 *
 *   replay file.pcap eth0             at the times at which they were captured
 *   replay -x 10 file.pcap eth0       ten times as fast
 *   replay -r 100Mbit file.pcap eth0  at a steady rate
 *   replay -t -l 100 file.pcap eth0   flat out, a hundred times
 *
 * Each packet has a time to leave, counted from the first: start + (its time - the first's) /
 * speed. So one that leaves late makes no other one late. Packets that are due go into slots, one
 * after the other, and to the kernel together as soon as the next one has to wait; with a rate, or
 * flat out, in batches, and the injector keeps the pace.
 *
 * What cannot leave is left out, counted, and named by its number in the file: packets larger than
 * the interface takes (super-packets of an offloading interface, jumbo frames), or of another link
 * type. While the link is down everything waits, time included.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage, 77 no privilege.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>

static const char help[] =
    "usage: replay [options] FILE INTERFACE\n"
    "Sends the packets of a savefile (pcap, pcapng; -: standard input), by default at the times "
    "at\n"
    "which they were captured.\n"
    "\n"
    "  -x N       N times as fast (0.5: half as fast)\n"
    "  -g SECONDS a longer gap between two packets is as long as this\n"
    "  -r RATE    not by time: so many packets a second (5000, 10k, 1M), or bits (100Mbit, "
    "1Gbit):\n"
    "             those of the frames, without preamble, gap, and check sequence\n"
    "  -t         not by time: as fast as they leave\n"
    "  -l LOOPS   the file so many times (0: until Ctrl-C)\n"
    "  -b BATCH   packets handed over together at most, 1 to 256 (default: 64)\n"
    "  -m METHOD  auto (default), ring, sendmmsg\n"
    "  -q         past the queueing discipline, straight to the driver\n"
    "  -v         name every packet that is left out, not only the first ten\n"
    "  -h         this text\n"
    "\n"
    "Packets that were cut when they were captured are sent as they are in the file.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 no privilege.\n";

enum { EXIT_USAGE = 2, EXIT_SKIP = 77, MAX_BATCH = 256, NAMED = 10 };

/* Nanoseconds from now that nobody waits for: 73 years, and sums do not overflow. */
#define NEVER (INT64_MAX / 4)

static struct options {
    const char *file, *interface;
    double speed; /* 0: not by time */
    int64_t longest_gap;
    uint64_t loops; /* 0: no end */
    size_t batch;
    bool verbose;
} options = {.speed = 1, .longest_gap = NEVER, .loops = 1, .batch = 64};

static struct netring_injector *injector;
static struct netring_injector_info link_info;
static volatile sig_atomic_t interrupted;

static struct {
    uint64_t packets, bytes; /* read */
    uint64_t in_file;        /* packets of one pass, once that is known */
    uint64_t passes;
    uint64_t too_large, too_short, other_link, cut, refused;
    int64_t latest; /* nanoseconds that a packet left after its time, at most */
} total;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
    netring_injector_wakeup(injector); /* safe here */
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- what is shown --------------------------------------------------------------------------- */

static int64_t begun;      /* when the first packet was there; 0: not yet */
static double done_of_all; /* part of the file, or of all its passes; less than 0: not known */

static void clear_line(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\x1b[K", stderr);
}

/* The bar, on a terminal, ten times a second. */
static void show_progress(void)
{
    static const char full[] = "##################################################";
    static int64_t shown;
    const int64_t now = now_ns();
    struct winsize window;
    char text[160];
    int n = 0;

    if (!isatty(STDERR_FILENO) || now - shown < 100000000)
        return;
    shown = now;
    if (done_of_all >= 0)
        n = snprintf(text, sizeof text, "[%-30.*s] %3.0f %%  ", (int)(30 * done_of_all), full,
                     100 * done_of_all);
    snprintf(text + n, sizeof text - (size_t)n, "%" PRIu64 " packets  %.1f MB  %.0f s",
             total.packets, (double)total.bytes / 1e6, (double)(now - begun) / 1e9);
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) < 0 || window.ws_col < 2)
        window.ws_col = 80;
    fprintf(stderr, "\r\x1b[K%.*s", (int)window.ws_col - 1, text);
}

/* A packet that is not sent: a line for the first ones. */
static void leave_out(uint64_t *counter, uint64_t packet, uint32_t len, const char *why)
{
    static uint64_t named;

    ++*counter;
    if (named++ >= NAMED && !options.verbose)
        return;
    clear_line();
    fprintf(stderr, "replay: packet %" PRIu64, packet);
    if (len != 0)
        fprintf(stderr, ", %u bytes", len);
    fprintf(stderr, ": %s\n", why);
    if (named == NAMED && !options.verbose)
        fprintf(stderr, "replay: any others are only counted (-v names them all)\n");
}

/* ---- sending --------------------------------------------------------------------------------- */

static int64_t paused; /* nanoseconds that the link was down */
static bool told_down;

/* False: it cannot go on, and has said why. A link that is down is waited for. */
static bool goes_on(int rc)
{
    struct netring_error err;

    if (rc >= 0 || rc == NETRING_EWAKEUP)
        return true;
    clear_line();
    if (rc == NETRING_ENETDOWN) {
        const struct timespec while_down = {.tv_nsec = 50000000};
        const int64_t from = now_ns();

        if (!told_down)
            fprintf(stderr, "replay: the link of %s is down; waiting for it\n", options.interface);
        told_down = true;
        nanosleep(&while_down, NULL);
        paused += now_ns() - from;
        return true;
    }
    if (netring_injector_last_error(injector, &err) < 0 || err.code != rc)
        snprintf(err.message, sizeof err.message, "%s", netring_strerror(rc));
    fprintf(stderr, "replay: %s\n", err.message);
    return false;
}

/* Slots are reserved in batches and filled in order, one for each packet of the file, so that a
 * cookie tells which packet it was: they count up by one. */
static struct {
    struct netring_slot slots[MAX_BATCH];
    size_t reserved, filled, committed;
    uint64_t first_cookie;
    bool begun;
} batch;

/* The number, as Wireshark has it, of the packet with this cookie. */
static uint64_t packet_number(uint64_t cookie)
{
    const uint64_t since = cookie - batch.first_cookie;

    return (total.in_file == 0 ? since : since % total.in_file) + 1;
}

static void collect_results(void)
{
    struct netring_result results[64];
    int n;

    while ((n = netring_injector_results(injector, results, sizeof *results, 64)) > 0)
        for (int i = 0; i < n; i++)
            leave_out(&total.refused, packet_number(results[i].cookie), 0,
                      results[i].os_errno != 0 ? strerror(results[i].os_errno)
                                               : netring_strerror(results[i].code));
}

/* Hands over what is filled. */
static bool send_filled(void)
{
    while (batch.committed < batch.filled) {
        struct netring_slot *slot = &batch.slots[batch.committed];
        const int rc =
            netring_injector_commit(injector, slot, sizeof *slot, batch.filled - batch.committed);

        if ((rc == NETRING_EMSGSIZE || rc == NETRING_EINVAL) && slot->len != 0) {
            /* This one stays reserved; those behind it are waiting for it. */
            if (rc == NETRING_EMSGSIZE)
                leave_out(&total.too_large, packet_number(slot->cookie), slot->len, "too large");
            else
                leave_out(&total.too_short, packet_number(slot->cookie), slot->len, "too short");
            slot->len = 0; /* discards it */
            continue;
        }
        if (!goes_on(rc))
            return false;
        batch.committed += (size_t)rc;
    }
    const int rc = netring_injector_flush(injector);
    told_down = told_down && rc < 0;
    const bool fine = goes_on(rc);
    collect_results();
    return fine;
}

/* The next slot. NULL: there will be none, the reason was told; or interrupted. */
static struct netring_slot *next_slot(void)
{
    while (batch.filled == batch.reserved) {
        int n;

        if (!send_filled())
            return NULL;
        n = netring_injector_reserve(injector, batch.slots, sizeof *batch.slots, options.batch,
                                     500);
        if (!goes_on(n) || interrupted)
            return NULL;
        show_progress();
        if (n <= 0)
            continue;
        batch.reserved = (size_t)n;
        batch.filled = batch.committed = 0;
        if (!batch.begun)
            batch.first_cookie = batch.slots[0].cookie;
        batch.begun = true;
    }
    return &batch.slots[batch.filled++];
}

/* Nanoseconds from the first packet of the first pass to this one, in the time of the file. One
 * without a time goes with the one before it. */
static int64_t place_in_time(uint64_t time_ns, bool first_of_pass)
{
    static uint64_t before;
    static int64_t place;

    if (time_ns == 0)
        return place;
    if (!first_of_pass && before != 0) { /* a pass begins where the last one ended */
        const int64_t gap = (int64_t)(time_ns - before);

        if (place < NEVER)
            place += gap > options.longest_gap ? options.longest_gap : gap;
    }
    before = time_ns;
    return place;
}

/* Returns when the packet at that place is due, or false if it shall not be sent any more. What is
 * filled leaves before that. */
static bool wait_until_due(int64_t place)
{
    const double scaled = (double)place / options.speed;
    const int64_t offset = scaled < (double)NEVER ? (int64_t)scaled : NEVER;

    while (now_ns() < begun + paused + offset) {
        int64_t left;

        if (!send_filled() || interrupted)
            return false;
        show_progress();
        /* What the kernel did not take at once is offered again, by drain, while there is time. */
        left = begun + paused + offset - now_ns();
        if (left > 5000000 && !goes_on(netring_injector_drain(
                                  injector, left > 100000000 ? 100 : (int)(left / 2000000))))
            return false;
        left = begun + paused + offset - now_ns();
        if (left > 100000000) /* a signal may have come before the sleep */
            left = 100000000;
        if (left > 0) {
            const struct timespec sleep = {.tv_nsec = left};

            clock_nanosleep(CLOCK_MONOTONIC, 0, &sleep, NULL);
        }
    }
    const int64_t late = now_ns() - (begun + paused + offset);
    total.latest = late > total.latest ? late : total.latest;
    return true;
}

static bool send_packet(const struct netring_packet *p, bool first_of_pass)
{
    struct netring_slot *slot;

    if (total.packets++ == 0)
        begun = now_ns();
    total.bytes += p->caplen;
    total.cut += p->caplen < p->len;
    if (options.speed != 0 && !wait_until_due(place_in_time(p->time_ns, first_of_pass)))
        return false;
    slot = next_slot();
    if (slot == NULL)
        return false;
    if (p->link_type != link_info.link_type) {
        leave_out(&total.other_link, packet_number(slot->cookie), p->caplen,
                  "of another link type");
        return true; /* len is 0, which discards the slot */
    }
    if (p->caplen == 0) {
        leave_out(&total.too_short, packet_number(slot->cookie), 0, "empty");
        return true;
    }
    if (p->caplen <= slot->capacity)
        memcpy(slot->data, p->data, p->caplen);
    slot->len = p->caplen; /* a larger one is refused by commit */
    return true;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* One pass over the file. False: no further one. */
static bool pass(struct netring_reader *reader, off_t size, int *failed)
{
    struct netring_reader_info place;
    struct netring_block *block;
    struct netring_error err;
    uint64_t before = total.packets;
    bool goes = true;
    int rc;

    while (goes && !interrupted && (rc = netring_reader_next_block(reader, 500, &block)) >= 0) {
        struct netring_packet p[64];
        int n;

        if (rc == 0) /* a pipe; signals do not end the wait */
            continue;
        done_of_all = -1;
        if (size > 0 && options.loops > 0 && netring_reader_info(reader, &place, sizeof place) == 0)
            done_of_all = ((double)total.passes + (double)place.offset / (double)size) /
                          (double)options.loops;
        while (goes && (n = netring_block_read(block, p, sizeof *p, 64)) > 0) {
            if (total.packets == 0 && p[0].link_type != link_info.link_type) {
                fprintf(stderr,
                        "replay: %s has packets of link type %u, and %s takes those of %u (1 is "
                        "Ethernet)\n",
                        options.file, p[0].link_type, options.interface, link_info.link_type);
                *failed = EXIT_FAILURE;
                goes = false;
            }
            for (int i = 0; goes && i < n; i++)
                goes = send_packet(&p[i], total.packets == before);
        }
        netring_block_release(block);
    }
    if (!goes || interrupted) {
        if (!interrupted)
            *failed = EXIT_FAILURE;
        return false;
    }
    if (rc != NETRING_ESHUTDOWN) { /* that is the end of the file */
        netring_reader_last_error(reader, &err);
        clear_line();
        fprintf(stderr, "replay: %s\n", err.message);
        *failed = EXIT_FAILURE;
        return false;
    }
    total.passes++;
    total.in_file = total.packets - before;
    return total.in_file != 0;
}

static int replay(void)
{
    const bool from_stdin = strcmp(options.file, "-") == 0;
    struct netring_reader *reader;
    struct netring_error err;
    struct stat file;
    int failed = EXIT_SUCCESS;
    bool more = true;

    while (more && (options.loops == 0 || total.passes < options.loops)) {
        const int rc = from_stdin ? netring_reader_open_fd(STDIN_FILENO, NULL, &reader, &err)
                                  : netring_reader_open(options.file, NULL, &reader, &err);
        if (rc < 0) {
            fprintf(stderr, "replay: %s\n", err.message);
            return EXIT_FAILURE;
        }
        if (from_stdin || stat(options.file, &file) < 0 || !S_ISREG(file.st_mode))
            file.st_size = 0;
        more = pass(reader, file.st_size, &failed);
        netring_reader_close(reader);
    }

    /* What is in slots still has to leave; after Ctrl-C within a second. */
    netring_injector_wakeup_clear(injector);
    const int64_t end = now_ns() + 1000000000;
    bool fine = send_filled();
    for (int rc = 0; fine && rc != 1 && (!interrupted || now_ns() < end);) {
        rc = netring_injector_drain(injector, 100);
        fine = goes_on(rc);
        collect_results();
        show_progress();
    }
    return fine ? failed : EXIT_FAILURE;
}

/* Closes the injector and tells what became of everything. */
static void close_and_tell(void)
{
    const double took = begun == 0 ? 0 : (double)(now_ns() - begun) / 1e9;
    struct netring_injector_stats s;
    const int rc = netring_injector_stats(injector, &s, sizeof s);
    const int given_up = netring_injector_close(injector); /* which never reached the kernel */

    clear_line();
    if (rc < 0)
        return;
    s.handed += s.waiting - (uint64_t)(given_up > 0 ? given_up : 0);
    printf("%" PRIu64 " packets read, %" PRIu64 " bytes; %" PRIu64 " full passes\n", total.packets,
           total.bytes, total.passes);
    printf("%" PRIu64 " sent on %s in %.3f s: %.0f packets/s, %.3f Mbit/s (%s, %" PRIu64
           " system calls)\n",
           s.handed, link_info.interface, took, took > 0 ? (double)s.handed / took : 0,
           took > 0 ? (double)s.handed_bytes * 8 / took / 1e6 : 0,
           link_info.method == NETRING_METHOD_SENDMMSG ? "sendmmsg" : "ring", s.kicks);
    if (options.speed != 0)
        printf("the latest one left %.3f ms after its time\n", (double)total.latest / 1e6);
    if (total.cut != 0)
        printf("%" PRIu64 " had been cut when they were captured\n", total.cut);
    if (total.too_large != 0)
        printf("%" PRIu64 " left out: too large, %s takes %u bytes\n", total.too_large,
               link_info.interface, link_info.frame_limit);
    if (total.too_short != 0)
        printf("%" PRIu64 " left out: shorter than a link-layer header\n", total.too_short);
    if (total.other_link != 0)
        printf("%" PRIu64 " left out: of another link type\n", total.other_link);
    if (s.refused + s.dropped != 0)
        printf("%" PRIu64 " refused by the kernel, %" PRIu64 " dropped by a full queue\n",
               s.refused, s.dropped);
    if (given_up > 0)
        printf("%d were still waiting, and did not leave\n", given_up);
    printf("back-pressure: the socket was full %" PRIu64 " times, the interface's queue %" PRIu64
           " times\n",
           s.full_socket, s.full_queue);
    if (s.interface_dropped + s.interface_errors != 0)
        printf("meanwhile the interface dropped %" PRIu64
               " frames, whoever sent them, and failed to send %" PRIu64 "\n",
               s.interface_dropped, s.interface_errors);
}

/* ---- the command line ------------------------------------------------------------------------ */

/* "10k": packets a second; "100Mbit": bits. */
static bool parse_rate(const char *text, struct netring_injector_config *config)
{
    static const char units[] = "kMG";
    char *end;
    double value = strtod(text, &end);
    const char *unit = *end == '\0' ? NULL : strchr(units, *end);

    if (unit != NULL) {
        for (long thousands = unit - units + 1; thousands > 0; thousands--)
            value *= 1000;
        end++;
    }
    config->rate_unit = strcmp(end, "bit") == 0 ? NETRING_RATE_BITS : NETRING_RATE_PACKETS;
    if ((*end != '\0' && config->rate_unit != NETRING_RATE_BITS) || !(value >= 1 && value < 1e15))
        return false;
    config->rate = (uint64_t)value;
    return true;
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return isdigit((unsigned char)*text) && *end == '\0' && errno == 0 && *out >= min &&
           *out <= max;
}

static bool parse_positive(const char *text, double max, double *out)
{
    char *end;

    *out = strtod(text, &end);
    return *end == '\0' && *out > 0 && *out <= max;
}

static int usage(const char *what, const char *value)
{
    fprintf(stderr, "replay: %s %s; -h tells more\n", what, value);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct netring_injector_config config = NETRING_INJECTOR_CONFIG_INIT;
    const struct sigaction action = {.sa_handler = on_signal};
    struct netring_error err;
    bool by_time = false, steady = false;
    uint64_t number;
    double seconds;
    int option, rc;

    while ((option = getopt(argc, argv, "x:g:r:tl:b:m:qvh")) != -1) {
        if (option == 'h')
            return fputs(help, stdout) == EOF;
        if (option == 'x') {
            by_time = true;
            if (!parse_positive(optarg, 1e9, &options.speed))
                return usage("no speed:", optarg);
        } else if (option == 'g') {
            by_time = true;
            if (!parse_positive(optarg, 1e9, &seconds))
                return usage("no number of seconds:", optarg);
            options.longest_gap = (int64_t)(seconds * 1e9);
        } else if (option == 'r') {
            steady = true;
            if (!parse_rate(optarg, &config))
                return usage("no rate:", optarg);
        } else if (option == 't') {
            steady = true;
        } else if (option == 'l') {
            if (!parse_number(optarg, 0, UINT64_MAX, &options.loops))
                return usage("no number of loops:", optarg);
        } else if (option == 'b') {
            if (!parse_number(optarg, 1, MAX_BATCH, &number))
                return usage("no batch from 1 to 256:", optarg);
            options.batch = (size_t)number;
        } else if (option == 'm' && strcmp(optarg, "ring") == 0) {
            config.method = NETRING_METHOD_TPACKET2;
        } else if (option == 'm' && strcmp(optarg, "sendmmsg") == 0) {
            config.method = NETRING_METHOD_SENDMMSG;
        } else if (option == 'm' && strcmp(optarg, "auto") != 0) {
            return usage("no such method:", optarg);
        } else if (option == 'q') {
            config.flags |= NETRING_INJECTOR_QDISC_BYPASS;
        } else if (option == 'v') {
            options.verbose = true;
        } else if (option == '?') {
            return fputs(help, stderr), EXIT_USAGE;
        }
    }
    if (argc - optind != 2)
        return fputs(help, stderr), EXIT_USAGE;
    if (by_time && steady)
        return usage("by time (-x, -g) or not by time (-r, -t):", "not both");
    if (steady)
        options.speed = 0;
    options.file = argv[optind];
    options.interface = argv[optind + 1];
    if (strcmp(options.file, "-") == 0 && options.loops != 1)
        return usage("standard input is there once, not", "-l");

    /* Slots for a tenth of a second: what is in them when it is interrupted does not leave. */
    if (config.rate_unit != NETRING_RATE_NONE) {
        const uint64_t bits = config.rate_unit == NETRING_RATE_BITS ? 8 * 1500 : 1;
        const uint64_t packets = config.rate / bits / 10 + 1;

        config.slot_count = packets < 1024 ? (uint32_t)packets : 1024;
    }
    rc = netring_injector_open(options.interface, &config, &injector, &err);
    if (rc < 0) {
        fprintf(stderr, "replay: %s\n", err.message);
        return rc == NETRING_EPERM ? EXIT_SKIP : EXIT_FAILURE;
    }
    netring_injector_info(injector, &link_info, sizeof link_info);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1000ul); /* sleeps end within 1 us, if there is a CPU, and not 50 */

    rc = replay();
    close_and_tell();
    return rc;
}
