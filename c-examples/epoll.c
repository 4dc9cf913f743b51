/* A capture in an event loop: its fd beside a timer, standard input and signals, one thread.
 *
 *   epoll eth0                  type "stats" or "quit" and Enter; Ctrl-C ends it too
 *
 * netring_capture_fd is readable exactly while netring_capture_next_block(capture, 0, ...) would
 * return something. So one block a turn is enough: if there are more, epoll reports the fd again,
 * and nothing else in the loop starves under load. The fd belongs to the capture: only wait for it.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <netring.h>
#include <netring_inline.h>

static const char help[] =
    "usage: epoll INTERFACE\n"
    "Counts packets and bytes in an event loop and tells once a second.\n"
    "Type \"stats\" for the counters, \"quit\" to end; Ctrl-C and end of input end it too.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

struct totals {
    uint64_t packets, bytes, blocks;
};

static struct netring_capture *capture;

/* stop makes the fd readable, so the loop needs nothing more (no self-pipe). */
static void on_signal(int signal)
{
    (void)signal;
    netring_capture_stop(capture);
}

/* The capture's turn: at most one block. 0 to go on, otherwise the end. */
static int on_capture(struct totals *totals)
{
    struct netring_block *block;
    struct netring_cursor cursor;
    const int rc = netring_capture_next_block(capture, 0, &block);

    if (rc <= 0)
        return rc;
    netring_cursor_init(&cursor, block);
    while (netring_cursor_next(&cursor)) {
        totals->packets++;
        totals->bytes += netring_cursor_len(&cursor);
    }
    totals->blocks++;
    netring_block_release(block);
    return 0;
}

static void on_timer(int timer, const struct totals *totals)
{
    static struct totals before;
    uint64_t expirations;

    if (read(timer, &expirations, sizeof expirations) != sizeof expirations)
        return;
    printf("%" PRIu64 " packets, %" PRIu64 " bytes, %" PRIu64 " blocks\n",
           totals->packets - before.packets, totals->bytes - before.bytes,
           totals->blocks - before.blocks);
    fflush(stdout);
    before = *totals;
}

static void print_stats(void)
{
    struct netring_stats s;

    if (netring_capture_stats(capture, &s, sizeof s) == 0)
        printf("seen %" PRIu64 ", received %" PRIu64 ", delivered %" PRIu64 ", dropped %" PRIu64
               ", blocks ready %" PRIu64 "\n",
               s.seen, s.received, s.delivered, s.dropped, s.blocks_ready);
    fflush(stdout);
}

/* false: no more input. */
static bool on_input(void)
{
    char line[256];
    const ssize_t n = read(STDIN_FILENO, line, sizeof line - 1);

    if (n <= 0)
        return n < 0 && (errno == EINTR || errno == EAGAIN);
    line[n] = '\0';
    if (strncmp(line, "quit", 4) == 0)
        netring_capture_stop(capture);
    else if (strncmp(line, "stats", 5) == 0)
        print_stats();
    else
        printf("\"stats\" or \"quit\"\n");
    return true;
}

static int watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int loop(int epoll, int timer)
{
    const int capture_fd = netring_capture_fd(capture);
    struct totals totals = {0, 0, 0};
    int rc = 0;

    while (rc == 0) {
        struct epoll_event events[8];
        const int n = epoll_wait(epoll, events, 8, -1);

        for (int i = 0; i < n && rc == 0; i++) {
            const int fd = events[i].data.fd;
            if (fd == capture_fd) {
                rc = on_capture(&totals);
            } else if (fd == timer) {
                on_timer(timer, &totals);
            } else if (!on_input()) {
                epoll_ctl(epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                netring_capture_stop(capture);
            }
        }
        if (n < 0 && errno != EINTR)
            return NETRING_EIO;
    }
    printf("in all: %" PRIu64 " packets, %" PRIu64 " bytes, %" PRIu64 " blocks\n", totals.packets,
           totals.bytes, totals.blocks);
    return rc;
}

int main(int argc, char **argv)
{
    const struct itimerspec second = {{1, 0}, {1, 0}};
    struct netring_error err;
    int rc = NETRING_EIO;

    if (argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        fputs(help, stdout);
        return EXIT_SUCCESS;
    }
    if (argc != 2 || argv[1][0] == '-') {
        fputs(help, stderr);
        return 2;
    }
    if (netring_capture_open(argv[1], NULL, &capture, &err) < 0) {
        fprintf(stderr, "epoll: %s\n", err.message);
        return EXIT_FAILURE;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);

    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (epoll >= 0 && timer >= 0 && timerfd_settime(timer, 0, &second, NULL) == 0 &&
        watch(epoll, timer) == 0 && watch(epoll, netring_capture_fd(capture)) == 0) {
        /* A plain file cannot be waited for (EPERM): then there is no input. */
        (void)watch(epoll, STDIN_FILENO);
        rc = loop(epoll, timer);
    }
    if (rc != NETRING_ESHUTDOWN) { /* that one is the end after netring_capture_stop */
        netring_capture_last_error(capture, &err);
        fprintf(stderr, "epoll: %s\n", err.code == rc ? err.message : netring_strerror(rc));
    }
    netring_capture_close(capture);
    close(timer);
    close(epoll);
    return rc == NETRING_ESHUTDOWN ? EXIT_SUCCESS : EXIT_FAILURE;
}
