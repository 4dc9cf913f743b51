/* Sends a frame again and again, and says what became of each: how many left, how many the kernel
 * refused and why, how often it was full, which rate was reached.
 *
 *   inject                          a thousand frames on lo, as a demonstration
 *   inject -c 1000000 eth0          a million made-up UDP frames, as fast as they leave
 *   inject -s 1514 -r 100Mbit eth0  large ones, 100 Mbit/s, until Ctrl-C
 *   inject -f frame.hex -c 1 eth0   one of your own
 *
 * The frames are written where the kernel takes them from (reserve, commit), a batch at a time, and
 * handed over with one system call (flush). The pace is the injector's: with a rate it lets go of
 * as many as are due.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage, 77 no privilege.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>

static const char help[] =
    "usage: inject [options] [INTERFACE]\n"
    "Sends a frame again and again, until Ctrl-C. Without an interface: 1000 frames on lo.\n"
    "\n"
    "  -s BYTES   a made-up UDP frame of so many bytes, 42 or more (default: 60). It is addressed\n"
    "             to nobody (02:00:00:00:00:02, 192.0.2.2 port 9), and numbered from byte 42 on\n"
    "  -x HEX     another frame, from its link-layer header on: 'ffffffffffff 020000000001 "
    "0806...'\n"
    "  -f FILE    the same from a file (-: standard input)\n"
    "  -c COUNT   end after so many\n"
    "  -r RATE    so many packets a second (5000, 10k, 1M), or bits (100Mbit, 1Gbit): those of "
    "the\n"
    "             frames, without preamble, gap, and check sequence\n"
    "  -b BATCH   frames handed over together, 1 to 256 (default: 64)\n"
    "  -m METHOD  auto (default), ring, sendmmsg\n"
    "  -q         past the queueing discipline, straight to the driver\n"
    "  -h         this text\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 no privilege.\n";

enum { EXIT_USAGE = 2, EXIT_SKIP = 77, MAX_BATCH = 256, MAX_FRAME = 1 << 18 };
enum { UDP_HEADERS = 42, NUMBER = 8 };

static struct netring_injector *injector;
static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
    netring_injector_wakeup(injector); /* safe here */
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- what to send ---------------------------------------------------------------------------- */

/* Hex digits, with blanks, colons and line ends wherever they like. Returns how many bytes, or -1.
 */
static long parse_hex(const char *text, uint8_t *out)
{
    static const char digits[] = "0123456789abcdef";
    size_t nibbles = 0;

    for (; *text != '\0'; text++) {
        const char *digit = strchr(digits, tolower((unsigned char)*text));

        if (isspace((unsigned char)*text) || *text == ':')
            continue;
        if (digit == NULL || nibbles == 2 * (size_t)MAX_FRAME)
            return -1;
        if (nibbles % 2 == 0)
            out[nibbles / 2] = (uint8_t)((digit - digits) << 4);
        else
            out[nibbles / 2] |= (uint8_t)(digit - digits);
        nibbles++;
    }
    return nibbles % 2 == 0 ? (long)(nibbles / 2) : -1;
}

static long read_hex(const char *path, uint8_t *out)
{
    static char text[4 * MAX_FRAME];
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    size_t n;

    if (file == NULL)
        return -1;
    n = fread(text, 1, sizeof text - 1, file);
    text[n] = '\0';
    if (file != stdin)
        fclose(file);
    return memchr(text, '\0', n) != NULL ? -1 : parse_hex(text, out);
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* From the interface's own address, so that switches learn nothing new, to addresses that nobody
 * has (RFC 5737). */
static void make_udp(uint8_t *frame, uint32_t len, const struct netring_interface *from)
{
    static const uint8_t to[6] = {2, 0, 0, 0, 0, 2};
    static const uint8_t addresses[8] = {192, 0, 2, 1, 192, 0, 2, 2};
    uint32_t sum = 0;

    memset(frame, 0, len);
    memcpy(frame, to, 6);
    memcpy(frame + 6, from->address, 6);
    put16(frame + 12, 0x0800);
    frame[14] = 0x45;
    put16(frame + 16, len - 14);
    frame[22] = 64; /* time to live */
    frame[23] = 17; /* UDP */
    memcpy(frame + 26, addresses, sizeof addresses);
    for (int i = 14; i < 34; i += 2)
        sum += (uint32_t)frame[i] << 8 | frame[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    put16(frame + 24, ~(sum + (sum >> 16)));
    put16(frame + 34, 9); /* discard */
    put16(frame + 36, 9);
    put16(frame + 38, len - 34); /* and a checksum of 0: none */
}

/* ---- what became of it ----------------------------------------------------------------------- */

/* Frames that did not leave, by reason. */
static struct {
    int code, os_errno;
    uint64_t count;
} reasons[16];

static void collect_results(void)
{
    struct netring_result results[64];
    int n;

    while ((n = netring_injector_results(injector, results, sizeof *results, 64)) > 0)
        for (int i = 0; i < n; i++)
            for (size_t r = 0; r < sizeof reasons / sizeof *reasons; r++) {
                if (reasons[r].count != 0 && (reasons[r].code != results[i].code ||
                                              reasons[r].os_errno != results[i].os_errno))
                    continue;
                reasons[r].code = results[i].code;
                reasons[r].os_errno = results[i].os_errno;
                reasons[r].count++;
                break;
            }
}

/* One line on a terminal, twice a second. */
static void show(double begun)
{
    static double shown;
    static struct netring_injector_stats before;
    struct netring_injector_stats now;

    if (!isatty(STDERR_FILENO) || seconds() - shown < 0.5 ||
        netring_injector_stats(injector, &now, sizeof now) < 0)
        return;
    if (shown != 0)
        fprintf(stderr,
                "\r\x1b[K%.0f s: %" PRIu64 " frames, %.0f a second, %" PRIu64 " refused, %" PRIu64
                " waiting; Ctrl-C ends",
                seconds() - begun, now.handed,
                (double)(now.handed - before.handed) / (seconds() - shown),
                now.refused + now.dropped, now.waiting);
    shown = seconds();
    before = now;
}

/* Closes the injector and tells what became of everything. */
static void close_and_tell(double took, const struct netring_injector_info *info)
{
    struct netring_injector_stats s;
    const int rc = netring_injector_stats(injector, &s, sizeof s);
    const int given_up = netring_injector_close(injector); /* which never reached the kernel */

    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\x1b[K");
    if (rc < 0)
        return;
    s.handed += s.waiting - (uint64_t)(given_up > 0 ? given_up : 0);
    printf("%" PRIu64 " frames sent on %s in %.3f s: %.0f packets/s, %.3f Mbit/s (%s, %" PRIu64
           " system calls)\n",
           s.handed, info->interface, took, took > 0 ? (double)s.handed / took : 0,
           took > 0 ? (double)s.handed_bytes * 8 / took / 1e6 : 0,
           info->method == NETRING_METHOD_SENDMMSG ? "sendmmsg" : "ring", s.kicks);
    printf("%" PRIu64 " refused by the kernel, %" PRIu64 " dropped by a full queue\n", s.refused,
           s.dropped);
    for (size_t r = 0; r < sizeof reasons / sizeof *reasons && reasons[r].count != 0; r++)
        printf("  %" PRIu64 " %s: %s\n", reasons[r].count, netring_err_name(reasons[r].code),
               reasons[r].os_errno != 0 ? strerror(reasons[r].os_errno)
                                        : netring_strerror(reasons[r].code));
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

/* ---- sending --------------------------------------------------------------------------------- */

static bool told_down;

/* False: it cannot go on, and has said why. A link that is down is waited for. */
static bool goes_on(int rc)
{
    struct netring_error err;

    if (rc >= 0 || rc == NETRING_EWAKEUP)
        return true;
    if (rc == NETRING_ENETDOWN) {
        const struct timespec while_down = {.tv_nsec = 100000000};

        if (!told_down)
            fprintf(stderr, "inject: the link is down; waiting for it\n");
        told_down = true;
        nanosleep(&while_down, NULL);
        return true;
    }
    if (netring_injector_last_error(injector, &err) < 0 || err.code != rc)
        snprintf(err.message, sizeof err.message, "%s", netring_strerror(rc));
    fprintf(stderr, "inject: %s\n", err.message);
    return false;
}

/* COUNT frames, 0: until Ctrl-C. With `numbered` each has its number, from 0, at byte 42. */
static bool send_frames(const uint8_t *frame, uint32_t len, uint64_t count, size_t batch,
                        bool numbered, double begun)
{
    struct netring_slot slots[MAX_BATCH];
    uint64_t next = 0;
    int rc;

    while (!interrupted && (count == 0 || next < count)) {
        const size_t want = count != 0 && count - next < batch ? count - next : batch;
        const int n = netring_injector_reserve(injector, slots, sizeof *slots, want, 500);

        if (!goes_on(n))
            return false;
        for (int i = 0; i < n; i++) {
            memcpy(slots[i].data, frame, len);
            slots[i].len = len;
            for (int b = 0; numbered && b < NUMBER; b++)
                slots[i].data[UDP_HEADERS + b] = (uint8_t)((next + (uint64_t)i) >> (56 - 8 * b));
        }
        if (n > 0) {
            /* All of them are alike: where one is bad, the first is. */
            rc = netring_injector_commit(injector, slots, sizeof *slots, (size_t)n);
            if (!goes_on(rc))
                return false;
            next += (uint64_t)rc;
            rc = netring_injector_flush(injector);
            told_down = told_down && rc < 0;
            if (!goes_on(rc))
                return false;
        }
        collect_results();
        show(begun);
    }

    /* What the kernel or the rate has not let go yet; after Ctrl-C for a second at most. */
    netring_injector_wakeup_clear(injector);
    const double end = seconds() + 1;
    do {
        rc = netring_injector_drain(injector, 500);
        collect_results();
        if (!goes_on(rc))
            return false;
        show(begun);
    } while (rc != 1 && (!interrupted || seconds() < end));
    return true;
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

static int usage(const char *what, const char *value)
{
    fprintf(stderr, "inject: %s %s; -h tells more\n", what, value);
    return EXIT_USAGE;
}

/* A network namespace of our own, with lo up: there everybody may send. */
static bool own_network(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd;

    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags |= IFF_UP;
        ioctl(fd, SIOCSIFFLAGS, &request);
    }
    if (fd >= 0)
        close(fd);
    return true;
}

int main(int argc, char **argv)
{
    struct netring_injector_config config = NETRING_INJECTOR_CONFIG_INIT;
    const struct sigaction action = {.sa_handler = on_signal};
    static uint8_t frame[MAX_FRAME];
    struct netring_injector_info info;
    struct netring_interface from;
    struct netring_error err;
    uint64_t count = 0, batch = 64, size = 60;
    const char *interface = "lo";
    long given = 0; /* bytes of the frame on the command line */
    int option;

    while ((option = getopt(argc, argv, "s:x:f:c:r:b:m:qh")) != -1) {
        if (option == 'h')
            return fputs(help, stdout) == EOF;
        else if (option == 's' && !parse_number(optarg, UDP_HEADERS, 65535 + 14, &size))
            return usage("no size of a UDP frame:", optarg);
        else if (option == 'x' && (given = parse_hex(optarg, frame)) <= 0)
            return usage("no frame in hex:", optarg);
        else if (option == 'f' && (given = read_hex(optarg, frame)) <= 0)
            return usage("no frame in hex in the file", optarg);
        else if (option == 'c' && !parse_number(optarg, 1, UINT64_MAX, &count))
            return usage("no count:", optarg);
        else if (option == 'r' && !parse_rate(optarg, &config))
            return usage("no rate:", optarg);
        else if (option == 'b' && !parse_number(optarg, 1, MAX_BATCH, &batch))
            return usage("no batch from 1 to 256:", optarg);
        else if (option == 'm' && strcmp(optarg, "ring") == 0)
            config.method = NETRING_METHOD_TPACKET2;
        else if (option == 'm' && strcmp(optarg, "sendmmsg") == 0)
            config.method = NETRING_METHOD_SENDMMSG;
        else if (option == 'm' && strcmp(optarg, "auto") != 0)
            return usage("no such method:", optarg);
        else if (option == 'q')
            config.flags |= NETRING_INJECTOR_QDISC_BYPASS;
        else if (option == '?')
            return fputs(help, stderr), EXIT_USAGE;
    }
    if (argc - optind > 1)
        return fputs(help, stderr), EXIT_USAGE;
    if (optind < argc)
        interface = argv[optind];
    else if (count == 0)
        count = 1000;

    /* Slots for a tenth of a second: what is in them when it is interrupted does not leave. */
    if (config.rate_unit != NETRING_RATE_NONE) {
        const uint64_t bits =
            config.rate_unit == NETRING_RATE_BITS ? 8 * (given > 0 ? (uint64_t)given : size) : 1;
        const uint64_t frames = config.rate / bits / 10 + 1;

        config.slot_count = frames < 1024 ? (uint32_t)frames : 1024;
    }
    int rc = netring_injector_open(interface, &config, &injector, &err);
    if (rc == NETRING_EPERM && optind == argc) {
        if (!own_network())
            return fprintf(stderr, "inject: %s\n", err.message), EXIT_SKIP;
        printf("no privilege here: in a network namespace of our own\n");
        rc = netring_injector_open(interface, &config, &injector, &err);
    }
    if (rc < 0 || (rc = netring_interface_info(interface, &from, sizeof from, &err)) < 0 ||
        (rc = netring_injector_info(injector, &info, sizeof info)) < 0) {
        fprintf(stderr, "inject: %s\n", rc == err.code ? err.message : netring_strerror(rc));
        return rc == NETRING_EPERM ? EXIT_SKIP : EXIT_FAILURE;
    }
    if (given == 0 && info.link_type != NETRING_LINKTYPE_ETHERNET) {
        fprintf(stderr, "inject: %s takes no Ethernet frames (link type %u): give one with -x\n",
                interface, info.link_type);
        return EXIT_FAILURE;
    }
    const uint32_t len = (uint32_t)(given > 0 ? (uint64_t)given : size);
    if (len > info.slot_size) { /* what the interface takes beyond that, commit tells */
        fprintf(stderr, "inject: a frame of %u bytes; %s takes %u\n", len, interface,
                info.frame_limit);
        return EXIT_FAILURE;
    }
    if (given == 0)
        make_udp(frame, len, &from);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    const double begun = seconds();
    const bool done =
        send_frames(frame, len, count, batch, given == 0 && len >= UDP_HEADERS + NUMBER, begun);
    close_and_tell(seconds() - begun, &info);
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
