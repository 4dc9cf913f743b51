/* Faults, each provoked for real: a storm of signals during everything, descriptors that run out,
 * and every system call that a call of the library makes, refused in turn. What must hold after
 * each: the documented code or, where the step is optional, success; nothing half-open, nothing
 * leaked; and the next call works.
 *
 * Elsewhere: each step of open with each errno that has its own words, ENOMEM of the ring and no
 * netlink (test_errors), MAP_LOCKED over the limit (test_log), close without copies (test_races).
 *
 * no-valgrind: its own system calls would be refused too
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "faults.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What a capture of one interface counts here. */
#define ALL_VALID (NETRING_STATS_INTERFACE | NETRING_STATS_SOFTNET | NETRING_STATS_FREEZES)

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static int sender; /* on va; what it sends arrives at vb */
static struct netring_filter *filter;

/* Every step that open knows. */
static struct netring_capture_config full_config(void)
{
    struct netring_capture_config config = small_config();

    config.block_size = 3 * (uint32_t)getpagesize();
    config.flags |= NETRING_CAPTURE_PROMISCUOUS | NETRING_CAPTURE_ALL_MULTICAST |
                    NETRING_CAPTURE_VNET_HEADER | NETRING_CAPTURE_RESTORE_VLAN |
                    NETRING_CAPTURE_IGNORE_OUTGOING | NETRING_CAPTURE_LOCK_MEMORY;
    config.busy_poll = 50;
    config.snap_length = 2000;
    config.filter = filter;
    return config;
}

/* ---- what a fault must not change ---- */

/* NULL, or what is wrong with a capture that must work: frames first..first+4 arrive. */
static const char *does_not_work(struct netring_capture *capture, uint32_t first)
{
    struct netring_block *block;
    struct netring_packet packets[8];
    uint32_t got = 0;
    int n;

    send_frames(sender, first, 5, 60);
    while (got < 5) {
        if (netring_capture_next_block(capture, 1000, &block) != 1)
            return "packets are missing";
        while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0) {
            for (int i = 0; i < n; i++, got++) {
                if (packets[i].len != 60 || frame_number(packets[i].data) != first + got)
                    return "packets are wrong";
            }
        }
        netring_block_release(block);
    }
    if (got != 5)
        return "there are more packets than were sent";
    if (capture_stats(capture).dropped != 0)
        return "packets were dropped";
    return NULL;
}

/* ---- one system call fails ---- */

static const int errors[] = {EPERM, ENOMEM, EINTR};

/* ---- open ---- */

struct opening {
    struct netring_capture_config config;
    struct netring_capture *capture;
    struct netring_error error;
    int rc, error_number;
};

static void opens(void *user)
{
    struct opening *opening = user;

    opening->capture = NULL;
    error_spoil(&opening->error);
    errno = 0;
    opening->rc = netring_capture_open("vb", &opening->config, &opening->capture, &opening->error);
    opening->error_number = errno;
}

/* What open says when this call fails; code 0: it goes on without. NULL: what call is this? */
static const struct failure *open_says(const struct injection *injection)
{
    static const struct failure goes_on = {0, 0, NULL, {0}};
    static struct failure failure;
    const struct seccomp_data *call = &injection->failed;
    bool netlink = injection->domain == AF_NETLINK;
    int option = (int)call->args[2], code = NETRING_ESOCKOPT;
    const char *step = NULL;

    switch (call->nr) {
    case SYS_socket:
        if (netlink)
            return &goes_on;
        code = injection->domain != AF_PACKET ? NETRING_EIO
               : injection->error == EPERM    ? NETRING_EPERM
                                              : NETRING_ESOCKET;
        step = injection->domain == AF_PACKET ? "socket" : "SIOCGIFINDEX";
        break;
    case SYS_ioctl: /* the others ask for the link's state */
        if (call->args[1] != SIOCGIFINDEX)
            return &goes_on;
        code = NETRING_EIO, step = "SIOCGIFINDEX";
        break;
    case SYS_setsockopt:
        if (netlink)
            return &goes_on;
        if (call->args[1] == SOL_SOCKET) {
            step = option == SO_BUSY_POLL       ? "SO_BUSY_POLL"
                   : option == SO_ATTACH_FILTER ? "SO_ATTACH_FILTER"
                                                : NULL;
        } else if (option == PACKET_RX_RING) {
            if (injection->error == ENOMEM) /* one more try, at a quarter */
                return &goes_on;
            step = "PACKET_RX_RING";
        } else {
            step = option == PACKET_VERSION           ? "PACKET_VERSION"
                   : option == PACKET_IGNORE_OUTGOING ? "PACKET_IGNORE_OUTGOING"
                   : option == PACKET_VNET_HDR        ? "PACKET_VNET_HDR"
                   : option == PACKET_RESERVE         ? "PACKET_RESERVE"
                   : option == PACKET_ADD_MEMBERSHIP  ? "PACKET_ADD_MEMBERSHIP"
                                                      : NULL;
        }
        break;
    case SYS_mmap:
        if (call->args[3] & MAP_LOCKED)
            return &goes_on;
        code = NETRING_EMMAP, step = "mmap";
        break;
    case SYS_epoll_create1:
    case SYS_epoll_ctl:
    case SYS_eventfd2:
        code = NETRING_EIO, step = "epoll";
        break;
    case SYS_bind:
    case SYS_getsockname:
        if (netlink)
            return &goes_on;
        code = NETRING_EBIND, step = "bind";
        break;
    case SYS_getsockopt: /* counters */
    case SYS_sendto:     /* netlink */
    case SYS_recvfrom:
    case SYS_sendmsg:
    case SYS_recvmsg:
    case SYS_madvise: /* MADV_DONTDUMP */
    case SYS_openat:  /* /proc and /sys */
    case SYS_read:
    case SYS_statx:
    case SYS_fstat:
    case SYS_newfstatat:
    case SYS_lseek:
#ifdef SYS_stat
    case SYS_stat:
#endif
    case SYS_fcntl:
    case SYS_uname:
        return &goes_on;
    default:
        break;
    }
    if (!step)
        return NULL;
    failure = (struct failure){code, injection->error, step, {0}};
    return &failure;
}

static bool reads_files(int number)
{
    return number == SYS_openat || number == SYS_read || number == SYS_statx ||
           number == SYS_fstat || number == SYS_newfstatat || number == SYS_lseek;
}

static const char *open_is_wrong(const struct injection *injection, struct opening *opening,
                                 const struct holdings *before)
{
    const struct failure *want = open_says(injection);
    const char *wrong;

    if (!want)
        return "no step of open is known to make this call";
    if (opening->rc != want->code)
        return opening->rc ? opening->error.message : "it succeeds";
    if (opening->rc == 0) {
        uint64_t valid = capture_stats(opening->capture).valid;

        wrong = reads_files(injection->failed.nr) ? NULL : does_not_work(opening->capture, 0);
        capture_close(opening->capture);
        if (wrong)
            return wrong;
        if (opening->error_number != 0)
            return "errno is set on success";
        /* An interrupted request is made again. */
        if (injection->error == EINTR &&
            (injection->failed.nr == SYS_sendto || injection->failed.nr == SYS_recvfrom) &&
            !(valid & NETRING_STATS_INTERFACE))
            return "a signal costs the interface's counters";
    } else if (opening->capture) {
        return "a handle is given out";
    } else if (opening->error.code != opening->rc || opening->error.os_errno != injection->error ||
               opening->error_number != injection->error) {
        return "errno is not the call's";
    } else if (strncmp(opening->error.option, want->option, strlen(want->option)) != 0) {
        return opening->error.option;
    } else if (!opening->error.message[0]) {
        return "there is no message";
    }
    return what_is_left(before);
}

/* True if the full configuration can be opened here. */
static bool test_open(void)
{
    struct opening opening = {.config = full_config()};
    struct injection injection = {.job = opens, .user = &opening, .at = -1};
    struct holdings before = holdings_now("vb");
    int calls, refused = 0;

    opens(&opening);
    if (opening.rc == NETRING_ESOCKOPT && strcmp(opening.error.option, "SO_BUSY_POLL") == 0) {
        opening.config.busy_poll = 0;
        opens(&opening);
    }
    if (opening.rc != 0)
        tap_bail("%s", opening.error.message);
    capture_close(opening.capture);
    if (!inject(&injection)) {
        tap_skip("a failing system call", "no seccomp listener here");
        return false;
    }
    calls = injection.calls;
    if (calls > (int)COUNT(injection.numbers))
        tap_bail("open makes %d calls", calls);
    is_int(opening.rc, 0, "open, no call fails (of %d)", calls);
    capture_close(opening.capture);
    ok(calls > 20, "open makes %d system calls", calls);
    for (int at = 0; at < calls; at++) {
        for (size_t i = 0; i < COUNT(errors); i++) {
            const char *wrong;

            /* Half of all calls read /proc, one line at a time: one errno for each of them. */
            if (reads_files(injection.numbers[at]) && i != (size_t)at % COUNT(errors))
                continue;
            injection.at = at;
            injection.error = errors[i];
            inject(&injection);
            refused++;
            if (injection.failed.nr != injection.numbers[at])
                ok(false, "open makes its calls in another order");
            wrong = open_is_wrong(&injection, &opening, &before);
            ok(!wrong, "open, call %d of %d (%s) fails with %s: %s %s", at + 1, calls,
               call_name(&injection.failed), strerror(errors[i]), netring_err_name(opening.rc),
               opening.rc ? opening.error.option : "");
            if (wrong)
                tap_diag("  %s", wrong);
        }
        if (reads_files(injection.numbers[at]))
            continue;
        opens(&opening);
        ok(opening.rc == 0, "open, after that");
        capture_close(opening.capture);
    }
    ok(refused >= calls, "each call of open was refused (%d)", refused);
    return true;
}

/* ---- calls on a capture ---- */

struct calling {
    struct netring_capture *capture;
    struct netring_block *block;
    struct netring_stats stats;
    int rc, error_number;
};

static void flushes(void *user)
{
    struct calling *calling = user;

    errno = 0;
    calling->rc = netring_capture_flush(calling->capture);
    calling->error_number = errno;
}

static void takes(void *user)
{
    struct calling *calling = user;

    errno = 0;
    calling->rc = netring_capture_next_block(calling->capture, 100, &calling->block);
    calling->error_number = errno;
}

static void reads_stats(void *user)
{
    struct calling *calling = user;

    errno = 0;
    calling->rc = netring_capture_stats(calling->capture, &calling->stats, sizeof calling->stats);
    calling->error_number = errno;
}

static void rebinds(void *user)
{
    struct calling *calling = user;

    errno = 0;
    calling->rc = netring_capture_rebind(calling->capture, "wb", 0, 0, NULL);
    calling->error_number = errno;
}

static void asks_for_events(void *user)
{
    struct calling *calling = user;
    struct netring_event event;

    errno = 0;
    calling->rc = netring_capture_next_event(calling->capture, 50, &event, sizeof event);
    calling->error_number = errno;
}

static void closes(void *user)
{
    struct calling *calling = user;

    errno = 0;
    calling->rc = netring_capture_close(calling->capture);
    calling->error_number = errno;
}

/* A flush that fails says so and captures on; packets come once, flushed or not. */
static const char *flush_is_wrong(const struct injection *injection, struct calling *calling)
{
    bool first_bind = injection->failed.nr == SYS_bind && calling->rc != 0;

    if (calling->rc != 0 && calling->rc != NETRING_EBIND)
        return netring_err_name(calling->rc);
    if (injection->failed.nr != SYS_bind && calling->rc != 0)
        return "it fails";
    if (first_bind && calling->error_number != injection->error)
        return "errno is not the call's";
    return NULL;
}

/* A wait that fails says so, or goes on; what was there is there for the next one. */
static const char *take_is_wrong(const struct injection *injection, struct calling *calling)
{
    if (calling->rc == 1)
        netring_block_release(calling->block);
    else if (calling->rc == 0)
        return NULL;
    else if (calling->rc != NETRING_EIO || injection->error == EINTR ||
             calling->error_number != injection->error)
        return netring_err_name(calling->rc);
    return NULL;
}

static const char *stats_are_wrong(const struct injection *injection, struct calling *calling)
{
    (void)injection;
    return calling->rc == 0 ? NULL : netring_err_name(calling->rc);
}

static const char *event_is_wrong(const struct injection *injection, struct calling *calling)
{
    if (calling->rc == 0)
        return NULL;
    if (calling->rc != NETRING_EIO || calling->error_number != injection->error ||
        injection->error == EINTR)
        return netring_err_name(calling->rc);
    return NULL;
}

/* Frames 0..2 are in the open block when the call is made. */
static void test_call(const char *name, void (*job)(void *user),
                      const char *(*is_wrong)(const struct injection *, struct calling *))
{
    struct netring_capture_config config = small_config();
    struct holdings before = holdings_now("vb");
    struct calling calling = {0};
    struct injection injection = {.job = job, .user = &calling, .at = -1};
    int calls = 1;

    for (int at = -1; at < calls; at++) {
        for (size_t i = 0; i < COUNT(errors); i++) {
            struct records records = {0, 0, NULL};
            const char *wrong;
            bool whole;

            /* Waits end by their timeout; nothing is handed out before the call. */
            config.block_timeout = 0;
            calling.capture = capture_open("vb", &config);
            send_frames(sender, 0, 3, 60);
            await_seen(calling.capture, 3);
            injection.at = at;
            injection.error = errors[i];
            inject(&injection);
            if (at == -1)
                calls = injection.calls;
            wrong = is_wrong(&injection, &calling);
            send_frames(sender, 3, 3, 60);
            await_seen(calling.capture, 6);
            netring_capture_stop(calling.capture);
            receive(calling.capture, 7, 1000, &records);
            whole = records.count == 6 || (calling.rc == 1 && records.count == 3);
            for (size_t n = 0; n < records.count; n++)
                whole = whole && frame_number(records.v[n].packet.data) == n + 6 - records.count;
            capture_close(calling.capture);
            records_free(&records);
            if (!wrong && !whole)
                wrong = "packets are missing, or there twice";
            if (!wrong)
                wrong = what_is_left(&before);
            ok(!wrong, "%s, call %d of %d (%s) fails with %s: %s", name, at + 1, calls,
               at < 0 ? "none" : call_name(&injection.failed), strerror(errors[i]),
               netring_err_name(calling.rc));
            if (wrong)
                tap_diag("  %s", wrong);
            if (at == -1)
                break;
        }
    }
    ok(calls > 0, "%s makes %d system calls", name, calls);
}

/* To another link: bound there, or still here, with the modes of exactly one of them. */
static void test_rebind(void)
{
    struct netring_capture_config config = full_config();
    struct holdings before = holdings_now("vb");
    struct calling calling = {0};
    struct injection injection = {.job = rebinds, .user = &calling, .at = -1};
    int here = sender, there = net_sender("wa"), calls = 1;

    before = holdings_now("vb");
    config.busy_poll = 0;
    for (int at = -1; at < calls; at++) {
        for (size_t i = 0; i < COUNT(errors); i++) {
            const char *wrong = NULL;
            bool moved, left;

            calling.capture = capture_open("vb", &config);
            injection.at = at;
            injection.error = errors[i];
            inject(&injection);
            if (at == -1)
                calls = injection.calls;
            moved = calling.rc == 0;
            /* No kernel refuses this one; refused here, the mode stays until the close. */
            left = injection.failed.nr == SYS_setsockopt &&
                   injection.failed.args[2] == PACKET_DROP_MEMBERSHIP;
            if (!left &&
                (net_promiscuity(moved ? "vb" : "wb") > 0 || net_allmulti(moved ? "vb" : "wb") > 0))
                wrong = "the modes of the other link are left";
            else if (net_promiscuity(moved ? "wb" : "vb") == 0 ||
                     net_promiscuity(moved ? "wb" : "vb") > 1)
                wrong = "promiscuous mode is lost, or there twice";
            sender = moved ? there : here;
            if (!wrong)
                wrong = does_not_work(calling.capture, 0);
            sender = here;
            capture_close(calling.capture);
            if (!wrong && net_promiscuity("wb") > 0)
                wrong = "promiscuous mode is left";
            if (!wrong)
                wrong = what_is_left(&before);
            ok(!wrong, "rebind, call %d of %d (%s) fails with %s: %s", at + 1, calls,
               at < 0 ? "none" : call_name(&injection.failed), strerror(errors[i]),
               netring_err_name(calling.rc));
            if (wrong)
                tap_diag("  %s", wrong);
            if (at == -1)
                break;
        }
    }
    ok(calls > 3, "rebind makes %d system calls", calls);
    close(there);
}

/* With a block held: what is to be copied cannot be, or is. The socket may then stay until the
 * release, but takes nothing in and holds no mode of the interface. */
static void test_close(void)
{
    struct netring_capture_config config = full_config();
    struct holdings before = holdings_now("vb");
    struct calling calling = {0};
    struct injection injection = {
        .job = closes, .user = &calling, .at = -1, .copy_length = config.block_size};
    int calls = 1;

    config.busy_poll = 0;
    config.block_timeout = 0; /* one block for all five */
    for (int at = -1; at < calls; at++) {
        struct records records = {0, 0, NULL};
        struct netring_block *block;
        const char *wrong = NULL;

        calling.capture = capture_open("vb", &config);
        block = block_of(calling.capture, sender, 0, 5, 60);
        injection.at = at;
        injection.error = ENOMEM;
        inject(&injection);
        if (at == -1)
            calls = injection.calls;
        if (calling.rc != 0)
            wrong = netring_err_name(calling.rc);
        else if (net_promiscuity("vb") != before.promiscuity)
            wrong = "promiscuous mode is left";
        else if (net_allmulti("vb") != before.allmulti)
            wrong = "all multicast is left";
        send_frames(sender, 100, 200, 60);
        block_records(block, 64, &records);
        is_frames(&records, 0, 5, 60, 60, "close: the block held");
        records_free(&records);
        netring_block_release(block);
        if (!wrong)
            wrong = what_is_left(&before);
        ok(!wrong, "close, call %d of %d (%s) fails", at + 1, calls,
           at < 0 ? "none" : call_name(&injection.failed));
        if (wrong)
            tap_diag("  %s", wrong);
    }
    ok(calls >= 2, "close makes %d system calls", calls);
}

/* ---- descriptors run out ---- */

static int next_descriptor(void)
{
    int fd = dup(STDIN_FILENO);

    close(fd);
    return fd;
}

/* One descriptor more each time, until the open has all it wants. */
static void descriptors_run_out(void *user)
{
    struct opening opening = {.config = small_config()};
    struct rlimit limit, all;
    int most = -1, failed = 0;

    (void)user;
    getrlimit(RLIMIT_NOFILE, &all);
    for (int more = 0; more < 32 && most < 0; more++) {
        struct holdings before = holdings_now("vb");
        const char *wrong = NULL;

        limit = (struct rlimit){(rlim_t)(next_descriptor() + more), all.rlim_max};
        setrlimit(RLIMIT_NOFILE, &limit);
        opens(&opening);
        setrlimit(RLIMIT_NOFILE, &all);
        if (opening.rc == 0) {
            uint64_t valid = capture_stats(opening.capture).valid;

            /* The last one is the counters', which an open can do without. */
            wrong = does_not_work(opening.capture, 0);
            if (valid == ALL_VALID)
                most = more;
            capture_close(opening.capture);
        } else {
            const char *option = opening.error.option;

            failed++;
            if (opening.rc != NETRING_EIO && opening.rc != NETRING_ESOCKET)
                wrong = netring_err_name(opening.rc);
            else if (opening.error.os_errno != EMFILE || opening.error_number != EMFILE)
                wrong = "errno is not EMFILE";
            else if (strcmp(option, "SIOCGIFINDEX") != 0 && strcmp(option, "socket") != 0 &&
                     strcmp(option, "epoll") != 0)
                wrong = option;
            else if (!strstr(opening.error.message, "ulimit -n"))
                wrong = "the message has no remedy";
        }
        if (!wrong)
            wrong = what_is_left(&before);
        ok(!wrong, "open with %d descriptors left: %s %s", more, netring_err_name(opening.rc),
           opening.rc ? opening.error.option : "");
        if (wrong)
            tap_diag("  %s", wrong);
    }
    ok(failed > 3 && most > failed, "open fails with up to %d descriptors left, and wants %d",
       failed - 1, most);
}

/* ---- a storm of signals ---- */

static volatile sig_atomic_t signals;

static void counts(int number)
{
    (void)number;
    signals++;
}

/* At the calling thread, every 200 microseconds, without SA_RESTART. */
static timer_t storm_begin(void)
{
    struct sigaction action = {.sa_handler = counts};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    long nanoseconds = 200000 * tap_patience(1);
    struct itimerspec every = {{0, nanoseconds}, {0, nanoseconds}};
    timer_t timer;

    sigaction(SIGUSR1, &action, NULL);
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
        timer_settime(timer, 0, &every, NULL) != 0)
        tap_bail("timer: %s", strerror(errno));
    return timer;
}

struct received {
    uint32_t packets, wrong;
};

static int in_order(void *user, const struct netring_packet *packets, size_t n, size_t size)
{
    struct received *received = user;
    uint8_t frame[FRAME_MAX];

    (void)size;
    for (size_t i = 0; i < n; i++, received->packets++) {
        uint32_t number = received->packets;
        size_t length = frame_make(frame, frame_mixed(number, 60, 200), number);

        received->wrong += packets[i].len != length || memcmp(packets[i].data, frame, length) != 0;
    }
    return 0;
}

/* Each takes what there is, after a wait without a time limit. */
static int storm_blocks(struct netring_capture *capture, struct received *received)
{
    struct netring_packet packets[16];
    struct netring_block *block;
    int n, rc = netring_capture_next_block(capture, -1, &block);

    if (rc != 1)
        return rc;
    while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0)
        in_order(received, packets, (size_t)n, sizeof *packets);
    return netring_block_release(block) == 0 && n == 0 ? rc : -1;
}

static int storm_packets(struct netring_capture *capture, struct received *received)
{
    struct netring_packet packet;
    int rc = netring_capture_next_packet(capture, -1, &packet, sizeof packet);

    if (rc == 1)
        in_order(received, &packet, 1, sizeof packet);
    return rc;
}

static int storm_dispatch(struct netring_capture *capture, struct received *received)
{
    return netring_capture_dispatch(capture, -1, 0, in_order, received);
}

enum { STORM_FRAMES = 2000 };

static void *sends_slowly(void *user)
{
    uint8_t frame[FRAME_MAX];

    (void)user;
    for (uint32_t i = 0; i < STORM_FRAMES; i++) {
        net_send(sender, frame, frame_make(frame, frame_mixed(i, 60, 200), i));
        if (i % 20 == 0)
            sleep_ms(1);
    }
    return NULL;
}

static void test_storm(void)
{
    static const struct {
        const char *name;
        int (*take)(struct netring_capture *, struct received *);
    } ways[] = {
        {"next_block", storm_blocks},
        {"next_packet", storm_packets},
        {"dispatch", storm_dispatch},
    };
    enum { OPENS = 20, FLUSHES = 10 };
    struct netring_capture_config config = full_config();
    struct holdings before = holdings_now("vb");
    timer_t storm = storm_begin();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    struct netring_block *block;
    unsigned blind = 0, strange = 0;

    config.busy_poll = 0;
    for (int i = 0; i < OPENS; i++) {
        capture = capture_open("vb", &config);
        blind += capture_stats(capture).valid != ALL_VALID;
        strange += netring_capture_close(capture) != 0;
    }
    is_int(blind, 0, "a storm: %d opens, each with all counters", OPENS);

    config = small_config();
    config.block_timeout = 1;
    /* A reader that gets no CPU for half a second loses nothing: each block lasts a timer's tick.
     */
    config.block_size = 4 * KIB;
    config.block_count = 512;
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct received received = {0, 0};
        struct netring_stats stats;
        pthread_t thread;

        capture = capture_open("vb", &config);
        pthread_create(&thread, NULL, sends_slowly, NULL);
        while (received.packets < STORM_FRAMES) {
            int rc = ways[i].take(capture, &received);

            if (rc <= 0) {
                is_str(netring_err_name(rc), "packets", "a storm: %s", ways[i].name);
                break;
            }
            if (received.packets % 64 == 0)
                blind += !(capture_stats(capture).valid & NETRING_STATS_INTERFACE);
        }
        pthread_join(thread, NULL);
        is_int(received.packets, STORM_FRAMES, "a storm: %s: every packet, once", ways[i].name);
        is_int(received.wrong, 0, "a storm: %s: in order, byte for byte", ways[i].name);
        for (size_t kind = 0; kind < COUNT(wait_kinds); kind++) {
            int64_t since = now_ms();

            is_int(wait_kinds[kind].call(capture, 200), 0, "a storm: %s ends by its time limit",
                   wait_kinds[kind].name);
            is_between(now_ms() - since, 199, 200 + tap_patience(1000),
                       "a storm: %s, the time limit", wait_kinds[kind].name);
        }
        stats = capture_stats(capture);
        ok(stats.seen == STORM_FRAMES && stats.delivered == STORM_FRAMES && stats.dropped == 0,
           "a storm: %s: the counters", ways[i].name);
        strange += netring_capture_close(capture) != 0;
    }
    is_int(blind, 0, "a storm: the interface's counters at every reading");

    config.block_timeout = 0;
    capture = capture_open("vb", &config);
    for (uint32_t i = 0; i < FLUSHES; i++) {
        send_frames(sender, 10 * i, 10, 60);
        await_seen(capture, 10 * i + 10);
        strange += netring_capture_flush(capture) != 0;
        receive(capture, 10 * i + 10, 1000, &records);
    }
    is_frames(&records, 0, 10 * FLUSHES, 60, 60, "a storm: flushes");
    records_free(&records);
    block = block_of(capture, sender, 0, 10, 60);
    strange += netring_capture_close(capture) != 0;
    block_records(block, 64, &records);
    is_frames(&records, 0, 10, 60, 60, "a storm: held at close");
    strange += netring_block_release(block) != 0;
    records_free(&records);
    is_int(strange, 0, "a storm: no other result");
    timer_delete(storm);
    ok(signals > 1000, "a storm: %d signals", (int)signals);
    ok(what_is_left(&before) == NULL, "a storm: nothing is left");
}

int main(void)
{
    const struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 0x40000)};

    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    net_veth("wa", "wb");
    sender = net_sender("va");
    if (netring_filter_new(all, 1, &filter, NULL) != 0)
        tap_bail("netring_filter_new failed");
    test_storm();
    child_run("descriptors run out", descriptors_run_out, NULL);
    if (test_open()) {
        test_call("flush", flushes, flush_is_wrong);
        test_call("next_block", takes, take_is_wrong);
        test_call("stats", reads_stats, stats_are_wrong);
        test_call("next_event", asks_for_events, event_is_wrong);
        test_rebind();
        test_close();
    }
    netring_filter_free(filter);
    close(sender);
    return tap_end();
}
