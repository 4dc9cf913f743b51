/* Takes packets away from the host, in the driver, and counts or shows them: an AF_XDP socket on
 * each queue of an interface, a thread for each, and one program that the library makes of a
 * filter.
 *
 *   xdp_dump eth0 udp port 53     DNS comes here, and not to this host; all else goes on
 *   xdp_dump -p -c 10 eth0 arp    shows the first ten
 *   xdp_dump -q 2-3 eth1 all      everything that arrives at two of the queues
 *
 * It says which mode was granted and why it is no better one, which queues have no socket, and once
 * a second what each queue receives. What it takes nobody else gets, so `all` on an interface by
 * which this machine is reached has to be confirmed with -y.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage, 77 no privilege.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>
#include <netring_inline.h>

static const char help[] =
    "usage: xdp_dump [options] INTERFACE all | FILTER\n"
    "Takes the packets that FILTER (pcap-filter(7)) accepts away from this host, and counts them.\n"
    "\n"
    "  -p         show them, a line each\n"
    "  -c COUNT   end after so many\n"
    "  -q QUEUES  on these queues alone: 0,2-3\n"
    "  -m MODE    auto (default), zerocopy, copy, skb\n"
    "  -b         packets of several frames as well (an MTU beyond some 3500 bytes)\n"
    "  -e         one thread with an epoll, instead of a thread for each queue\n"
    "  -y         all, even where this machine is reached by this interface\n"
    "  -h         this text\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 no privilege.\n";

enum { EXIT_USAGE = 2, EXIT_SKIP = 77, MAX_QUEUES = 1024 };

static struct netring_xdp *xdp;
static struct netring_xdp_info granted;
static bool show_packets;
static uint64_t wanted = UINT64_MAX;
static _Atomic uint64_t taken; /* of the wanted */
static atomic_bool failed;

static struct worker {
    struct netring_queue *queue;
    struct netring_queue_info info;
    pthread_t thread;
    _Atomic uint64_t packets, bytes;
} * workers;

static void on_signal(int signal)
{
    (void)signal;
    netring_xdp_stop(xdp); /* safe here; what has arrived is still handed out */
}

/* ---- packets --------------------------------------------------------------------------------- */

static void show(const struct netring_packet *p)
{
    const time_t second = (time_t)(p->time_ns / 1000000000);
    const uint8_t *d = p->data;
    struct tm tm;
    char when[16];

    strftime(when, sizeof when, "%H:%M:%S", localtime_r(&second, &tm));
    flockfile(stdout); /* lines of several threads */
    printf("%s.%06u queue %u %" PRIu32 " bytes", when, (unsigned)(p->time_ns % 1000000000 / 1000),
           p->queue, p->len);
    if (p->caplen >= 14)
        printf(" %02x:%02x:%02x:%02x:%02x:%02x > %02x:%02x:%02x:%02x:%02x:%02x 0x%02x%02x", d[6],
               d[7], d[8], d[9], d[10], d[11], d[0], d[1], d[2], d[3], d[4], d[5], d[12], d[13]);
    for (uint32_t i = 14; i < p->caplen && i < 46; i++)
        printf(i % 8 == 6 ? " %02x" : "%02x", d[i]);
    printf(p->caplen > 46 ? "...\n" : "\n");
    funlockfile(stdout);
}

static void take(struct worker *w, struct netring_block *block)
{
    struct netring_cursor cursor;
    struct netring_packet packet;
    uint64_t packets = 0, bytes = 0;

    netring_cursor_init(&cursor, block);
    while (netring_cursor_next(&cursor)) {
        netring_cursor_packet(&cursor, &packet);
        packets++;
        bytes += packet.len;
        const uint64_t number = show_packets || wanted != UINT64_MAX ? taken++ : 0;
        if (show_packets && number < wanted)
            show(&packet);
        if (number + 1 == wanted)
            netring_xdp_stop(xdp);
    }
    netring_block_release(block);
    w->packets += packets;
    w->bytes += bytes;
}

/* What a wait returned; false: this queue has ended. */
static bool goes_on(struct worker *w, int rc)
{
    struct netring_error err;

    if (rc >= 0)
        return true;
    if (rc == NETRING_ESHUTDOWN || failed) /* the end we asked for */
        return false;
    netring_queue_last_error(w->queue, &err);
    fprintf(stderr, "xdp_dump: queue %u: %s\n", w->info.queue,
            err.code == rc ? err.message : netring_strerror(rc));
    failed = true;
    netring_xdp_stop(xdp);
    return false;
}

/* A thread for each queue. */
static void *serve(void *argument)
{
    struct worker *w = argument;
    struct netring_block *block;
    int rc;

    while (goes_on(w, rc = netring_queue_next_block(w->queue, -1, &block)))
        if (rc > 0)
            take(w, block);
    return NULL;
}

/* Or one for all. A descriptor is readable while its queue has something: one block a turn. */
static void *serve_all(void *argument)
{
    const int fd = epoll_create1(EPOLL_CLOEXEC);
    uint32_t open = granted.queue_count;
    struct epoll_event ready[64];
    struct netring_block *block;

    (void)argument;
    for (uint32_t i = 0; i < granted.queue_count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

        epoll_ctl(fd, EPOLL_CTL_ADD, netring_queue_fd(workers[i].queue), &event);
    }
    while (open > 0) {
        const int n = epoll_wait(fd, ready, 64, -1);

        for (int i = 0; i < n; i++) {
            struct worker *w = &workers[ready[i].data.u32];
            const int rc = netring_queue_next_block(w->queue, 0, &block);

            if (!goes_on(w, rc)) {
                epoll_ctl(fd, EPOLL_CTL_DEL, netring_queue_fd(w->queue), NULL);
                open--;
            } else if (rc > 0) {
                take(w, block);
            }
        }
    }
    close(fd);
    return NULL;
}

/* ---- what was granted ------------------------------------------------------------------------ */

static const char *mode_name(uint32_t mode)
{
    static const char *const names[] = {"auto", "zero-copy", "copy", "SKB"};

    return mode < sizeof names / sizeof *names ? names[mode] : "?";
}

static void tell_granted(void)
{
    struct netring_xdp_step steps[8];
    uint32_t missing[64];
    int n;

    fprintf(stderr, "%s: %s, %u of %u queues, %.1f MiB of frames, program %u\n", granted.interface,
            mode_name(granted.mode), granted.queue_count, granted.interface_queues,
            (double)granted.memory / 1048576, granted.program_id);
    n = netring_xdp_steps(xdp, steps, sizeof *steps, sizeof steps / sizeof *steps);
    for (int i = 0; i < n; i++)
        fprintf(stderr, "not %s: %s\n", mode_name(steps[i].mode), steps[i].message);
    n = netring_xdp_missing(xdp, missing, sizeof missing / sizeof *missing);
    if (n > 0)
        fprintf(stderr, "what arrives at these queues goes to the host, not here:");
    for (int i = 0; i < n && i < 64; i++)
        fprintf(stderr, " %u", missing[i]);
    if (n > 0)
        fprintf(stderr, n > 64 ? " ...\n" : "\n");
}

static void tell_rates(double passed)
{
    static struct netring_stats before;
    static uint64_t *packets, bytes;
    struct netring_stats now;
    uint64_t sum = 0, sum_bytes = 0;
    const char *between = "; by queue";

    if (packets == NULL)
        packets = calloc(granted.queue_count, sizeof *packets);
    if (packets == NULL || netring_xdp_stats(xdp, &now, sizeof now) < 0)
        return;
    for (uint32_t i = 0; i < granted.queue_count; i++) {
        sum += workers[i].packets - packets[i];
        sum_bytes += workers[i].bytes;
    }
    fprintf(stderr, "%.0f packets/s, %.1f Mbit/s, %" PRIu64 " dropped", (double)sum / passed,
            (double)(sum_bytes - bytes) * 8 / passed / 1e6, now.dropped - before.dropped);
    for (uint32_t i = 0; i < granted.queue_count; i++) {
        const uint64_t count = workers[i].packets;

        if (count != packets[i]) {
            fprintf(stderr, "%s %u: %.0f", between, workers[i].info.queue,
                    (double)(count - packets[i]) / passed);
            between = ",";
        }
        packets[i] = count;
    }
    fputc('\n', stderr);
    before = now;
    bytes = sum_bytes;
}

static void tell_the_end(void)
{
    struct netring_xdp_counters c;
    struct netring_stats s;

    if (netring_xdp_stats(xdp, &s, sizeof s) < 0 || netring_xdp_counters(xdp, &c, sizeof c) < 0)
        return;
    fprintf(stderr, "%" PRIu64 " packets delivered, %" PRIu64 " dropped\n", s.delivered, s.dropped);
    if (c.rx_dropped != 0)
        fprintf(stderr,
                "%" PRIu64 " of them were larger than a frame (-b takes those), or found none\n",
                c.rx_dropped);
    if (c.rx_ring_full != 0)
        fprintf(stderr, "the receive ring was full for %" PRIu64 " of them: too slow here\n",
                c.rx_ring_full);
    if (c.fill_empty != 0)
        fprintf(stderr, "the kernel found no frame to receive into %" PRIu64 " times\n",
                c.fill_empty);
    for (uint32_t i = 0; i < granted.queue_count; i++)
        if (workers[i].packets != 0)
            fprintf(stderr, "queue %u: %" PRIu64 " packets\n", workers[i].info.queue,
                    (uint64_t)workers[i].packets);
    if (s.delivered + s.dropped == 0)
        fprintf(stderr, "nothing arrived: xdp_probe %s tells where packets go\n",
                granted.interface);
}

/* ---- is this how the machine is reached? ----------------------------------------------------- */

static bool has_default_route(const char *interface)
{
    char line[512], name[32], destination[64];
    FILE *file = fopen("/proc/net/route", "r");
    bool found = false;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        found |= sscanf(line, "%31s %63s", name, destination) == 2 &&
                 strcmp(name, interface) == 0 && strcmp(destination, "00000000") == 0;
    if (file != NULL)
        fclose(file);
    file = fopen("/proc/net/ipv6_route", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        found |= sscanf(line, "%*32s 00 %*s %*s %*s %*s %*s %*s %*s %31s", name) == 1 &&
                 strcmp(name, interface) == 0 && strspn(line, "0") >= 32;
    if (file != NULL)
        fclose(file);
    return found;
}

/* SSH_CONNECTION: "client port server port"; does the interface have the server's address? */
static bool has_our_session(const char *interface)
{
    const char *connection = getenv("SSH_CONNECTION");
    char server[64] = "", text[64];
    struct ifaddrs *all = NULL;
    bool found = false;

    if (connection == NULL || sscanf(connection, "%*s %*s %63s", server) != 1 ||
        getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *a = all; a != NULL; a = a->ifa_next) {
        const void *address = NULL;

        if (a->ifa_addr != NULL && a->ifa_addr->sa_family == AF_INET)
            address = &((struct sockaddr_in *)a->ifa_addr)->sin_addr;
        else if (a->ifa_addr != NULL && a->ifa_addr->sa_family == AF_INET6)
            address = &((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr;
        found |= address != NULL && strcmp(a->ifa_name, interface) == 0 &&
                 inet_ntop(a->ifa_addr->sa_family, address, text, sizeof text) != NULL &&
                 strcmp(text, server) == 0;
    }
    freeifaddrs(all);
    return found;
}

static bool may_take_all(const char *interface)
{
    const bool session = has_our_session(interface), route = has_default_route(interface);

    if (session)
        fprintf(stderr, "xdp_dump: your SSH session comes in by %s: `all` would end it.\n",
                interface);
    if (route)
        fprintf(stderr,
                "xdp_dump: the default route leads to %s: `all` would cut this machine off.\n",
                interface);
    if (session || route)
        fprintf(stderr, "Give a filter instead, or -y if that is meant.\n");
    return !session && !route;
}

/* ---- the command line ------------------------------------------------------------------------ */

static int fail(const struct netring_error *err)
{
    fprintf(stderr, "xdp_dump: %s\n", err->message);
    return err->code == NETRING_EPERM ? EXIT_SKIP : EXIT_FAILURE;
}

/* "0,2-3". Returns how many, 0: that is none. */
static size_t parse_queues(const char *text, uint32_t *out)
{
    size_t count = 0;

    for (;;) {
        char *end;
        unsigned long first, last;

        if (!isdigit((unsigned char)*text))
            return 0;
        first = last = strtoul(text, &end, 10);
        if (*end == '-' && isdigit((unsigned char)end[1]))
            last = strtoul(end + 1, &end, 10);
        if (last < first || last - first >= MAX_QUEUES - count)
            return 0;
        for (; first <= last; first++)
            out[count++] = (uint32_t)first;
        if (*end == '\0')
            return count;
        if (*end != ',')
            return 0;
        text = end + 1;
    }
}

/* The words as one text; NULL: too long, or nothing: an empty filter is `all` by accident. */
static const char *join(char **words)
{
    static char text[65536];
    size_t used = 0;

    for (; *words != NULL; words++) {
        const size_t length = strlen(*words);

        if (length + 2 > sizeof text - used)
            return NULL;
        memcpy(text + used, *words, length);
        used += length;
        text[used++] = ' ';
    }
    return text[strspn(text, " \t\r\n")] == '\0' ? NULL : text;
}

/* Once a second, until all workers have ended. */
static void *tell_each_second(void *argument)
{
    struct timespec begun, now;

    (void)argument;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (;;) {
        sleep(1); /* where it is cancelled */
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        tell_rates((double)(now.tv_sec - begun.tv_sec) +
                   (double)(now.tv_nsec - begun.tv_nsec) / 1e9);
        if (show_packets)
            fflush(stdout);
        begun = now;
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"auto", "zerocopy", "copy", "skb"}; /* NETRING_MODE_* */
    struct netring_xdp_config config = NETRING_XDP_CONFIG_INIT;
    const struct sigaction action = {.sa_handler = on_signal};
    uint32_t queues[MAX_QUEUES];
    size_t queue_count = 0;
    struct netring_error err;
    bool one_thread = false, confirmed = false;
    pthread_t teller;
    int option;

    while ((option = getopt(argc, argv, "+pc:q:m:beyh")) != -1) {
        char *end = "";

        if (option == 'h')
            return fputs(help, stdout) == EOF;
        else if (option == 'p')
            show_packets = true;
        else if (option == 'c')
            wanted = isdigit((unsigned char)*optarg) ? strtoull(optarg, &end, 10) : 0;
        else if (option == 'q' && (queue_count = parse_queues(optarg, queues)) == 0)
            return fprintf(stderr, "xdp_dump: no queues: %s\n", optarg), EXIT_USAGE;
        else if (option == 'm') {
            while (config.mode < 4 && strcmp(optarg, modes[config.mode]) != 0)
                config.mode++;
            if (config.mode == 4)
                return fprintf(stderr, "xdp_dump: no such mode: %s\n", optarg), EXIT_USAGE;
        } else if (option == 'b')
            config.flags |= NETRING_XDP_MULTI_BUFFER;
        else if (option == 'e')
            one_thread = true;
        else if (option == 'y')
            confirmed = true;
        else if (option == '?')
            return fputs(help, stderr), EXIT_USAGE;
        if (*end != '\0' || wanted == 0)
            return fprintf(stderr, "xdp_dump: no count: %s\n", optarg), EXIT_USAGE;
    }
    if (argc - optind < 2)
        return fputs(help, stderr), EXIT_USAGE;
    const char *interface = argv[optind++];

    if (argc - optind == 1 && strcmp(argv[optind], "all") == 0) {
        config.redirect = NETRING_REDIRECT_ALL;
        if (!confirmed && !may_take_all(interface))
            return EXIT_FAILURE;
    } else {
        const char *text = join(argv + optind);

        if (text == NULL)
            return fprintf(stderr, "xdp_dump: no filter, or one of more than 64 KiB\n"), EXIT_USAGE;
        config.redirect = NETRING_REDIRECT_FILTER;
        if (netring_filter_compile(text, strlen(text), NULL, &config.filter, &err) < 0)
            return fail(&err);
    }
    config.flags |= NETRING_XDP_NO_TX;
    config.block_timeout_us = 100; /* nobody sees that, and it takes a third of the CPU time */
    if (netring_xdp_open(interface, queue_count == 0 ? NULL : queues, queue_count, &config, &xdp,
                         &err) < 0)
        return fail(&err);
    netring_filter_free(config.filter); /* the program is loaded */

    netring_xdp_info(xdp, &granted, sizeof granted);
    tell_granted();
    workers = calloc(granted.queue_count, sizeof *workers);
    for (uint32_t i = 0; workers != NULL && i < granted.queue_count; i++) {
        netring_xdp_queue(xdp, i, &workers[i].queue);
        netring_queue_info(workers[i].queue, &workers[i].info, sizeof workers[i].info);
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    const uint32_t threads = workers == NULL ? 0 : one_thread ? 1 : granted.queue_count;
    uint32_t running = 0;
    while (running < threads &&
           pthread_create(&workers[running].thread, NULL, one_thread ? serve_all : serve,
                          &workers[running]) == 0)
        running++;
    if (running < threads || threads == 0) {
        fprintf(stderr, "xdp_dump: no memory, or no more threads\n");
        failed = true;
        netring_xdp_stop(xdp);
    }
    const bool telling = pthread_create(&teller, NULL, tell_each_second, NULL) == 0;
    while (running > 0)
        pthread_join(workers[--running].thread, NULL);
    if (telling) {
        pthread_cancel(teller);
        pthread_join(teller, NULL);
    }
    if (workers != NULL)
        tell_the_end();
    netring_xdp_close(xdp); /* the program goes, and everything is the host's again */
    free(workers);
    return failed || fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS;
}
