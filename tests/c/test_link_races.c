/* Link events and rebinds where something else happens in between: notices that were lost, errors
 * that another interface left, system calls refused later, other namespaces, other threads.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOON ((int)tap_patience(3000))

static struct netring_capture *open_with(const char *interface, uint64_t flags)
{
    struct netring_capture_config config = small_config();

    config.flags |= flags;
    return capture_open(interface, &config);
}

static bool readable(struct netring_capture *capture, int timeout_ms)
{
    struct pollfd set = {.fd = netring_capture_fd(capture), .events = POLLIN};

    return poll(&set, 1, timeout_ms) == 1;
}

/* ---- events ---- */

/* More than the kernel keeps, and at last v0 is down and called "x". */
static void change_much(void)
{
    for (int i = 0; i < 150; i++) {
        net_link_up("v0", false);
        net_link_up("v0", true);
    }
    net_link_up("v0", false);
    net_link_rename("v0", "x");
}

/* One event for each time that the descriptor reports: none stays behind, and no report is for
 * nothing. */
static void test_one_a_turn(bool edge)
{
    const char *what = edge ? "an event for each edge" : "an event while readable";
    struct netring_capture *capture;
    struct epoll_event report = {.events = EPOLLIN | (edge ? EPOLLET : 0)};
    struct netring_event event = {0};
    uint32_t state = NETRING_EVENT_UP, told = 0, nothing = 0;
    char name[16] = "v0";
    int outer = epoll_create1(EPOLL_CLOEXEC);

    net_veth("v0", "v1");
    capture = open_with("v0", NETRING_CAPTURE_EVENTS_ON_FD);
    if (outer < 0 || epoll_ctl(outer, EPOLL_CTL_ADD, netring_capture_fd(capture), &report) != 0)
        tap_bail("epoll: %s", strerror(errno));
    change_much();
    /* The link going down may be reported to those who wait for packets, too. */
    netring_capture_next_block(capture, 0, &(struct netring_block *){NULL});
    while (epoll_wait(outer, &report, 1, 100) == 1) {
        if (netring_capture_next_event(capture, 0, &event, sizeof event) != 1) {
            nothing++;
            continue;
        }
        told++;
        if (event.kind == NETRING_EVENT_RENAMED)
            memcpy(name, event.name, sizeof name);
        else
            state = event.kind;
    }
    is_str(name, "x", "%s: the name at last", what);
    is_int(state, NETRING_EVENT_DOWN, "%s: the state at last", what);
    is_between(nothing, 0, 1, "%s: only that some were lost is reported for itself", what);
    is_int(netring_capture_next_event(capture, 0, &event, sizeof event), 0, "%s: nothing is left",
           what);
    ok(told > 2, "%s: %u events", what, told);
    close(outer);
    capture_close(capture);
    net_link_delete("x");
}

/* A rebind forgets what nobody has read, also where the kernel has lost a part of it. */
static void test_forgotten(void)
{
    struct netring_capture *capture;
    struct netring_event event;

    net_veth("v0", "v1");
    capture = open_with("v0", NETRING_CAPTURE_EVENTS_ON_FD);
    change_much();
    is_int(netring_capture_rebind(capture, "x", 0, 0, NULL), 0, "forgotten: bound anew");
    is_int(netring_capture_next_event(capture, 0, &event, sizeof event), 0,
           "forgotten: what was before");
    netring_capture_next_block(capture, 0, &(struct netring_block *){NULL});
    ok(!readable(capture, 30), "forgotten: the descriptor, too");
    net_link_up("x", true);
    is_int(netring_capture_next_event(capture, SOON, &event, sizeof event), 1,
           "forgotten: what comes is told");
    is_int(event.kind, NETRING_EVENT_UP, "forgotten: what comes is told");
    capture_close(capture);
    net_link_delete("x");
}

/* Bound to where it is already: the block that was open has packets of one interface only. */
static void test_same_again(void)
{
    struct netring_capture_config config = page_config(8);
    uint32_t full = frames_per_page(60);
    struct netring_capture *capture;
    struct netring_block_info info;
    struct netring_block *block;
    int sender;

    net_veth("v0", "v1");
    sender = net_sender("v1");
    config.flags |= NETRING_CAPTURE_PROMISCUOUS;
    capture = capture_open("v0", &config);
    send_frames(sender, 0, 3, 60);
    await_seen(capture, 3);
    is_int(netring_capture_rebind(capture, NULL, 0, 0, NULL), 0, "the same again");
    is_int(net_promiscuity("v0"), 1, "the same again: promiscuous once");
    send_frames(sender, 3, full, 60);
    await_ready(capture, 1);
    is_int(netring_capture_next_block(capture, 0, &block), 1, "the same again: a block");
    netring_block_info(block, &info, sizeof info);
    is_int(info.ifindex, net_index("v0"), "the same again: the block's interface");
    is_int(info.count, full, "the same again: all of its packets");
    netring_block_release(block);
    close(sender);
    capture_close(capture);
    net_link_delete("v0");
}

static atomic_bool over;
static atomic_uint renamed[3];
static const char *const names[] = {"v0", "x", "y"};

static void *renames(void *user)
{
    (void)user;
    for (unsigned i = 0; i < 1500; i++) {
        net_link_rename(names[i % 3], names[(i + 1) % 3]);
        atomic_fetch_add(&renamed[(i + 1) % 3], 1);
    }
    atomic_store(&over, true);
    return NULL;
}

/* A name is not told more often than it was given, however the reader is interrupted. */
static void test_renames(void)
{
    unsigned told[3] = {0, 0, 0}, all = 0, excess = 0, broken = 0;
    struct netring_capture *capture;
    struct netring_event event;
    char last[16] = "v0";
    pthread_t thread;
    bool was_over;

    net_veth("v0", "v1");
    net_link_up("v0", false);
    capture = open_with("v0", 0);
    atomic_store(&over, false);
    pthread_create(&thread, NULL, renames, NULL);
    do {
        was_over = atomic_load(&over);
        while (netring_capture_next_event(capture, 10, &event, sizeof event) == 1) {
            broken += event.kind != NETRING_EVENT_RENAMED || strcmp(event.old_name, last) != 0;
            memcpy(last, event.name, sizeof last);
            for (unsigned i = 0; i < 3; i++)
                told[i] += strcmp(last, names[i]) == 0;
            all++;
        }
    } while (!was_over);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 3; i++)
        excess += told[i] > atomic_load(&renamed[i]) ? told[i] - atomic_load(&renamed[i]) : 0;
    tap_diag("%u of 1500 names told", all);
    is_int(broken, 0, "renames: each from where the one before led");
    is_int(excess, 0, "renames: none told twice");
    is_str(last, "v0", "renames: the last name");
    capture_close(capture);
    net_link_delete("v0");
}

/* By another of its names: what is no event does not make the descriptor readable. */
static void test_alternative_name(void)
{
    struct netring_capture *capture;
    struct netring_event event;

    net_veth("v0", "v1");
    capture = open_with("v0", 0);
    if (capture_info(capture).kernel_version < 0x050500) {
        tap_skip("an alternative name", "Linux 5.5");
        capture_close(capture);
        net_link_delete("v0");
        return;
    }
    capture_close(capture);
    net_link_alternative("v0", "also");
    capture = open_with("also", NETRING_CAPTURE_EVENTS_ON_FD);
    ok(!readable(capture, 30), "an alternative name: nothing there");
    net_link_mtu("v0", 1400);
    ok(!readable(capture, 100), "an alternative name: nor after what is no event");
    is_str(capture_info(capture).interface, "v0", "an alternative name: info has the first one");
    is_int(netring_capture_rebind(capture, NULL, 0, 0, NULL), 0, "an alternative name: bound anew");
    net_link_mtu("v0", 1300);
    ok(!readable(capture, 100), "an alternative name: nor after that");
    net_link_up("v0", false);
    net_link_rename("v0", "x");
    is_int(netring_capture_next_event(capture, SOON, &event, sizeof event), 1, "down");
    is_int(netring_capture_next_event(capture, SOON, &event, sizeof event), 1, "renamed");
    is_str(event.name, "x", "an alternative name: the first one is told");
    /* The name it was asked for by leads there still. */
    is_int(netring_capture_rebind(capture, NULL, 0, 0, NULL), 0, "an alternative name: and again");
    capture_close(capture);
    net_link_delete("x");
}

/* ---- NETRING_CAPTURE_DOWN_IS_ERROR ---- */

/* The error of a link that was left is not the next one's. */
static void test_left_while_down(void)
{
    struct netring_capture *capture;
    struct netring_block *block;
    int sender;

    net_veth("v0", "v1");
    net_veth("w0", "w1");
    sender = net_sender("v1");
    capture = open_with("v0", NETRING_CAPTURE_DOWN_IS_ERROR);
    net_link_up("v0", false);
    is_int(netring_capture_rebind(capture, "w0", 0, 0, NULL), 0, "down, and left");
    is_int(netring_capture_next_block(capture, 30, &block), 0, "down, and left: this one is up");
    ok(!readable(capture, 0), "down, and left: the descriptor");
    is_int(netring_capture_rebind(capture, "v0", 0, 0, NULL), 0, "down, and back");
    is_int(netring_capture_next_block(capture, SOON, &block), NETRING_ENETDOWN,
           "down, and back: it is down still");
    ok(readable(capture, 0), "down, and back: the descriptor");
    net_link_up("v0", true);
    net_await_carrier("v1");
    send_frames(sender, 0, 1, 60);
    is_int(netring_capture_next_block(capture, SOON, &block), 1, "up again: a block");
    netring_block_release(block);
    ok(!readable(capture, 30), "up again: and nothing else");
    close(sender);
    capture_close(capture);
    net_link_delete("v0");
    net_link_delete("w0");
}

static void *sends_slowly(void *user)
{
    for (uint32_t i = 0; i < 400; i++) {
        send_frames(*(int *)user, i, 1, 60);
        usleep(100);
    }
    return NULL;
}

/* Down and up again before anybody looked: nothing that comes then is lost over telling it. */
static void test_flap_unseen(void)
{
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;
    struct netring_block *block;
    pthread_t thread;
    int sender, rc;

    net_veth("v0", "v1");
    sender = net_sender("v1");
    capture = open_with("v0", NETRING_CAPTURE_DOWN_IS_ERROR);
    net_link_up("v0", false);
    net_link_up("v0", true);
    net_await_carrier("v1");
    pthread_create(&thread, NULL, sends_slowly, &sender);
    sleep_ms(10);
    do {
        rc = netring_capture_next_block(capture, 0, &block);
        if (rc == 1) {
            block_records(block, 64, &records);
            netring_block_release(block);
        }
    } while (rc == 1);
    receive(capture, 400, 200, &records);
    pthread_join(thread, NULL);
    receive(capture, 400, 300, &records);
    is_frames(&records, 0, 400, 60, 60, "down and up unseen");
    records_free(&records);
    close(sender);
    capture_close(capture);
    net_link_delete("v0");
}

/* Deleted while up: down, then gone, and never anything else. */
static void test_deleted_meanwhile(void)
{
    unsigned down = 0, other = 0;

    for (int i = 0; i < 40; i++) {
        struct netring_capture *capture;
        struct netring_block *block;
        struct waiter waiter;
        int rc;

        net_veth("v0", "v1");
        capture = open_with("v0", NETRING_CAPTURE_DOWN_IS_ERROR);
        waiter_start(&waiter, &wait_kinds[0], capture);
        if (i % 2)
            sleep_ms(1);
        net_link_delete("v0");
        pthread_join(waiter.thread, NULL);
        rc = waiter.rc;
        while (rc == NETRING_ENETDOWN || rc == 0) {
            down += rc == NETRING_ENETDOWN;
            rc = netring_capture_next_block(capture, SOON, &block);
        }
        if (rc != NETRING_ENODEV && other++ == 0)
            tap_diag("%s", netring_err_name(rc));
        capture_close(capture);
    }
    is_int(other, 0, "deleted while up: ENODEV at last (%u times down before)", down);
}

static void *flushes(void *user)
{
    int rc;

    while ((rc = netring_capture_flush(user)) == 0)
        ;
    return (void *)(intptr_t)rc;
}

/* Deleted while it is flushed: gone, and not a failure of the flush. */
static void test_flushed_meanwhile(void)
{
    unsigned other = 0;

    for (int i = 0; i < 20; i++) {
        struct netring_capture *capture;
        pthread_t thread;
        void *rc;

        net_veth("v0", "v1");
        if (i % 2)
            net_link_up("v0", false);
        capture = open_with("v0", 0);
        pthread_create(&thread, NULL, flushes, capture);
        usleep(2000);
        net_link_delete("v0");
        pthread_join(thread, &rc);
        if ((intptr_t)rc != NETRING_ENODEV && other++ == 0)
            tap_diag("%s", netring_err_name((int)(intptr_t)rc));
        capture_close(capture);
    }
    is_int(other, 0, "deleted while flushed: ENODEV");
}

/* ---- what is refused later ---- */

struct refused {
    struct netring_capture *capture;
    struct refusal refusal;
    int (*call)(struct netring_capture *capture);
    int rc, error_number;
};

static void *with_refusal(void *user)
{
    struct refused *refused = user;

    refuse(&refused->refusal);
    refused->rc = refused->call(refused->capture);
    refused->error_number = errno;
    return NULL;
}

/* The refusal is that thread's alone. */
static void run_refused(struct refused *refused)
{
    pthread_t thread;

    pthread_create(&thread, NULL, with_refusal, refused);
    pthread_join(thread, NULL);
}

static int asks_for_event(struct netring_capture *capture)
{
    struct netring_event event;

    return netring_capture_next_event(capture, SOON, &event, sizeof event);
}

static int asks_for_stats(struct netring_capture *capture)
{
    struct netring_stats stats;

    return netring_capture_stats(capture, &stats, sizeof stats);
}

static int binds_anew(struct netring_capture *capture)
{
    return netring_capture_rebind(capture, "w0", 0, 0, NULL);
}

static void refused_later(void *user)
{
    struct refused refused = {.refusal = {SYS_read, EPERM, 0, {{0}}}, .call = asks_for_event};
    struct netring_capture *capture;
    struct netring_error error;
    struct netring_event event;
    uint8_t frame[FRAME_MAX];
    int sender;

    (void)user;
    net_veth("v0", "v1");
    net_veth("w0", "w1");
    sender = net_sender("v1");
    refused.capture = capture = open_with("v0", 0);

    net_link_up("v0", false);
    run_refused(&refused);
    is_int(refused.rc, NETRING_EIO, "notices cannot be read: it says so");
    is_int(refused.error_number, EPERM, "notices cannot be read: why");
    is_int(netring_capture_next_event(capture, SOON, &event, sizeof event), 1,
           "notices can be read: there it is");
    is_int(event.kind, NETRING_EVENT_DOWN, "notices can be read: there it is");
    net_link_up("v0", true);
    net_await_carrier("v1");

    /* The answer that was not read is not taken for the next one's. */
    refused.refusal.call = SYS_recvfrom;
    refused.call = asks_for_stats;
    run_refused(&refused);
    is_int(refused.rc, 0, "counters cannot be read: the others are there");
    net_link_mtu("v0", 100);
    net_flood(sender, frame, frame_make(frame, 500, 0), 3);
    is_int(capture_stats(capture).interface_dropped, 3, "counters can be read: of now");
    /* Nor do many of them keep the next one from coming. */
    for (int i = 0; i < 300; i++)
        run_refused(&refused);
    is_int(capture_stats(capture).interface_dropped, 3, "counters can be read again");

    refused.refusal = (struct refusal){SYS_ioctl, EPERM, 1, {{1, ~0u, SIOCGIFINDEX, false}}};
    refused.call = binds_anew;
    run_refused(&refused);
    is_int(refused.rc, NETRING_EIO, "an index cannot be asked for: not \"no such interface\"");
    netring_capture_last_error(capture, &error);
    is_str(error.option, "SIOCGIFINDEX", "an index cannot be asked for: which step");
    is_int(error.os_errno, EPERM, "an index cannot be asked for: why");
    refused.refusal = (struct refusal){SYS_ioctl, EPERM, 1, {{1, ~0u, SIOCGIFNAME, false}}};
    run_refused(&refused);
    is_int(refused.rc, NETRING_EIO, "a name cannot be asked for: not \"no such interface\"");
    netring_capture_last_error(capture, &error);
    is_str(error.option, "SIOCGIFNAME", "a name cannot be asked for: which step");
    close(sender);
    capture_close(capture);
    net_link_delete("v0");
    net_link_delete("w0");
}

/* All of the process lacks recvfrom, as a program that confines itself after the open may. */
static void confined(void *user)
{
    struct netring_capture *capture;
    struct netring_block *block;
    struct netring_event event;
    int64_t cpu;

    (void)user;
    net_veth("v0", "v1");
    net_veth("w0", "w1");
    net_link_up("v0", false);
    capture = open_with("v0", 0);
    net_link_delete("v0");
    refuse(&(struct refusal){SYS_recvfrom, EPERM, 0, {{0}}});
    is_int(netring_capture_next_event(capture, SOON, &event, sizeof event), 1,
           "confined: an event");
    is_int(event.kind, NETRING_EVENT_REMOVED, "confined: which");
    is_int(netring_capture_next_block(capture, SOON, &block), NETRING_ENODEV, "confined: removed");
    is_int(netring_capture_rebind(capture, "w0", 0, 0, NULL), 0, "confined: bound anew");
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    is_int(netring_capture_next_block(capture, 500, &block), 0, "confined: a wait");
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    ok(cpu < tap_patience(60) * 1000000, "confined: that burns no time (%lld us)",
       (long long)cpu / 1000);
    capture_close(capture);
}

/* ---- from another network namespace ---- */

struct elsewhere {
    struct netring_capture *capture;
    int namespace;
    struct netring_event event;
    uint64_t dropped;
    int event_rc, stats_rc, info_rc, rebind_rc;
    char name[16];
    int64_t began, ended;
};

static void *from_elsewhere(void *user)
{
    struct elsewhere *elsewhere = user;
    struct netring_capture_info info;
    struct netring_stats stats;

    if (setns(elsewhere->namespace, CLONE_NEWNET) != 0)
        return NULL;
    elsewhere->event_rc = netring_capture_next_event(elsewhere->capture, SOON, &elsewhere->event,
                                                     sizeof elsewhere->event);
    elsewhere->stats_rc = netring_capture_stats(elsewhere->capture, &stats, sizeof stats);
    elsewhere->dropped = stats.interface_dropped;
    elsewhere->info_rc = netring_capture_info(elsewhere->capture, &info, sizeof info);
    memcpy(elsewhere->name, info.interface, sizeof elsewhere->name);
    elsewhere->rebind_rc = netring_capture_rebind(elsewhere->capture, "w0", 0, -1, NULL);
    elsewhere->ended = now_ms();
    return NULL;
}

/* A capture stays in the namespace it was opened in, wherever its threads go. */
static void test_elsewhere(void)
{
    struct elsewhere elsewhere = {.namespace = net_namespace_new(), .rebind_rc = -1};
    struct netring_capture *capture;
    struct netring_event event;
    uint8_t frame[FRAME_MAX];
    pthread_t thread;
    int sender;

    net_veth("v0", "v1");
    sender = net_sender("v1");
    elsewhere.capture = capture = open_with("v0", NETRING_CAPTURE_PROMISCUOUS);
    net_link_mtu("v0", 100);
    net_flood(sender, frame, frame_make(frame, 500, 0), 4);
    net_link_up("v0", false);
    net_link_rename("v0", "x");
    pthread_create(&thread, NULL, from_elsewhere, &elsewhere);
    sleep_ms(200);
    net_veth("w0", "w1");
    pthread_join(thread, NULL);
    is_int(elsewhere.event_rc, 1, "from elsewhere: an event");
    is_int(elsewhere.event.kind, NETRING_EVENT_DOWN, "from elsewhere: which");
    is_int(elsewhere.stats_rc, 0, "from elsewhere: counters");
    is_int(elsewhere.dropped, 4, "from elsewhere: those of the interface, too");
    is_int(elsewhere.info_rc, 0, "from elsewhere: info");
    is_str(elsewhere.name, "x", "from elsewhere: its name as it is now");
    is_int(elsewhere.rebind_rc, 0, "from elsewhere: bound anew");
    is_int(capture_info(capture).ifindex, net_index("w0"), "from elsewhere: to the one here");
    is_int(net_promiscuity("w0"), 1, "from elsewhere: promiscuous there");
    net_link_up("w0", false);
    is_int(netring_capture_next_event(capture, SOON, &event, sizeof event), 1,
           "from elsewhere: events of the next one");
    is_int(event.ifindex, net_index("w0"), "from elsewhere: events of the next one");
    close(sender);
    close(elsewhere.namespace);
    capture_close(capture);
    net_link_delete("x");
    net_link_delete("w0");
}

/* ---- other threads ---- */

static struct netring_capture *shared;
static atomic_uint read_all, wrong, rebound, absent;

static void complain(const char *call, int rc)
{
    if (atomic_fetch_add(&wrong, 1) == 0)
        tap_diag("%s: %s", call, netring_err_name(rc));
}

static void *takes_blocks(void *user)
{
    struct netring_block_info info;
    struct netring_packet packets[64];
    struct netring_block *block;
    int rc, n;

    (void)user;
    while ((rc = netring_capture_next_block(shared, 50, &block)) != NETRING_ESHUTDOWN) {
        if (rc == NETRING_ENODEV)
            usleep(200);
        if (rc != 1 && rc != 0 && rc != NETRING_ENODEV)
            complain("next_block", rc);
        if (rc != 1)
            continue;
        netring_block_info(block, &info, sizeof info);
        while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0) {
            atomic_fetch_add(&read_all, (unsigned)n);
            for (int i = 0; i < n; i++)
                if (info.ifindex != 0 && packets[i].ifindex != info.ifindex)
                    complain("the block's interface is not the packet's", 0);
        }
        netring_block_release(block);
    }
    return NULL;
}

static void *takes_events(void *user)
{
    struct netring_event event;
    uint32_t last = 0, ifindex = 0;
    int rc;

    (void)user;
    while ((rc = netring_capture_next_event(shared, 20, &event, sizeof event)) !=
           NETRING_ESHUTDOWN) {
        if (rc == NETRING_ENODEV)
            usleep(200);
        if (rc != 1 && rc != 0 && rc != NETRING_ENODEV)
            complain("next_event", rc);
        /* One is gone once, and down or up but in turns; a rebind may lie between. */
        if (rc == 1 && event.ifindex == ifindex && last == NETRING_EVENT_REMOVED)
            complain("an event after the removal", 0);
        if (rc == 1) {
            last = event.kind;
            ifindex = event.ifindex;
        }
    }
    return NULL;
}

static void *counts(void *user)
{
    struct netring_stats stats;
    int rc;

    (void)user;
    while (!atomic_load(&over)) {
        stats = capture_stats(shared);
        if (stats.seen != stats.received + stats.dropped)
            complain("seen is not received + dropped", 0);
        if (stats.delivered + stats.skipped > stats.seen)
            complain("more delivered than seen", 0);
        rc = netring_capture_flush(shared);
        if (rc != 0 && rc != NETRING_ENODEV)
            complain("flush", rc);
        usleep(3000);
    }
    return NULL;
}

static void *binds(void *user)
{
    const char *to[] = {"v0", "w0"};

    (void)user;
    for (unsigned i = 0; !atomic_load(&over); i++) {
        int rc = netring_capture_rebind(shared, to[i % 2], 0, 1, NULL);

        if (rc != 0 && rc != NETRING_ENODEV)
            complain("rebind", rc);
        atomic_fetch_add(rc == 0 ? &rebound : &absent, 1);
        usleep(1000);
    }
    return NULL;
}

/* Everything at once, while the other interface comes and goes. */
static void test_all_at_once(void)
{
    void *(*const jobs[])(void *) = {takes_blocks, takes_blocks, takes_events,
                                     takes_events, counts,       binds};
    pthread_t threads[COUNT(jobs)];
    struct netring_capture_config config = small_config();
    struct footprint before;
    struct netring_stats stats;
    uint8_t frame[FRAME_MAX];
    size_t length = frame_make(frame, 60, 1);
    int64_t end;
    int sender;

    net_veth("v0", "v1");
    sender = net_sender("v1");
    before = footprint_now();
    config.flags |= NETRING_CAPTURE_PROMISCUOUS | NETRING_CAPTURE_EVENTS_ON_FD;
    shared = capture_open("v0", &config);
    atomic_store(&over, false);
    for (size_t i = 0; i < COUNT(jobs); i++)
        pthread_create(&threads[i], NULL, jobs[i], NULL);
    end = now_ms() + tap_patience(2500);
    for (int i = 0; now_ms() < end; i++) {
        int other;

        net_veth("w0", "w1");
        other = net_sender("w1");
        for (int n = 0; n < 20; n++) {
            net_flood(sender, frame, length, 5);
            net_flood(other, frame, length, 5);
            usleep(500);
        }
        close(other);
        if (i % 2)
            net_link_up("w0", false);
        net_link_delete("w0");
    }
    atomic_store(&over, true);
    for (size_t i = 4; i < COUNT(jobs); i++)
        pthread_join(threads[i], NULL);
    is_int(netring_capture_rebind(shared, "v0", 0, 0, NULL), 0, "all at once: back");
    is_int(net_promiscuity("v0"), 1, "all at once: promiscuous once");
    netring_capture_stop(shared);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    stats = capture_stats(shared);
    tap_diag("bound anew %u times, absent %u times, %u packets", atomic_load(&rebound),
             atomic_load(&absent), atomic_load(&read_all));
    ok(atomic_load(&rebound) > 10, "all at once: bound anew often");
    is_int(atomic_load(&wrong), 0, "all at once: nothing unexpected");
    is_int(stats.delivered, atomic_load(&read_all), "all at once: delivered is what was read");
    is_int(stats.received, stats.delivered + stats.pending, "all at once: and what was received");
    is_int(stats.pending, 0, "all at once: nothing is left");
    is_int(stats.seen, stats.received + stats.dropped, "all at once: it adds up");
    is_int(stats.sequence_gaps, 0, "all at once: no gap");
    capture_close(shared);
    is_int(net_promiscuity("v0"), 0, "all at once: no mode is left");
    is_footprint(before, "all at once");
    close(sender);
    net_link_delete("v0");
}

int main(void)
{
    tap_begin(120);
    net_enter();

    test_one_a_turn(false);
    test_one_a_turn(true);
    test_forgotten();
    test_same_again();
    test_renames();
    test_alternative_name();
    test_left_while_down();
    test_flap_unseen();
    test_deleted_meanwhile();
    test_flushed_meanwhile();
    child_run("refused later", refused_later, NULL);
    test_elsewhere();
    child_run("confined", confined, NULL);
    net_link_delete("w0");
    test_all_at_once();
    return tap_end();
}
