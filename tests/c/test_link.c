/* What becomes of the captured interface: events, waits that go on, captures bound anew.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "support.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
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

/* One check: the next event is this one. */
static struct netring_event is_event(struct netring_capture *capture, uint32_t kind,
                                     const char *what)
{
    struct netring_event event;
    int rc = netring_capture_next_event(capture, SOON, &event, sizeof event);

    if (rc != 1)
        memset(&event, 0, sizeof event);
    ok(rc == 1 && event.kind == kind, "%s: event %u (rc %d, event %u)", what, kind, rc, event.kind);
    return event;
}

static void no_event(struct netring_capture *capture, int code, const char *what)
{
    struct netring_event event;

    is_int(netring_capture_next_event(capture, 30, &event, sizeof event), code,
           "%s: no other event", what);
}

static int64_t cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* Frames from v1 arrive, all of them. */
static void still_captures(struct netring_capture *capture, int sender, const char *what)
{
    struct records records = {0, 0, NULL};

    net_await_carrier("v1");
    send_frames(sender, 100, 10, 60);
    is_int(receive(capture, 10, SOON, &records), 1, "%s: packets come", what);
    is_frames(&records, 100, 10, 60, 60, what);
    records_free(&records);
}

/* ---- events ---- */

static void test_events(void)
{
    struct netring_capture *capture;
    struct netring_event event;
    int64_t before = clock_ns(CLOCK_REALTIME);
    uint32_t index;
    int sender;

    net_veth("v0", "v1");
    sender = net_sender("v1");
    index = net_index("v0");
    capture = open_with("v0", 0);
    no_event(capture, 0, "after the open");

    net_link_up("v0", false);
    event = is_event(capture, NETRING_EVENT_DOWN, "down");
    is_int(event.size, sizeof event, "the size passed in");
    is_int(event.ifindex, index, "the interface's index");
    is_int(event.flags & IFF_UP, 0, "its flags");
    is_str(event.name, "v0", "its name");
    is_str(event.old_name, "v0", "its name before");
    is_int(event.new_ifindex, 0, "no other index");
    is_int(event.netns_id, -1, "no other namespace");
    is_between(event.time_ns, before, clock_ns(CLOCK_REALTIME), "the time");
    no_event(capture, 0, "down");

    net_link_rename("v0", "other");
    event = is_event(capture, NETRING_EVENT_RENAMED, "renamed");
    is_str(event.name, "other", "the new name");
    is_str(event.old_name, "v0", "the old name");
    is_str(capture_info(capture).interface, "other", "info knows the new name");
    net_link_rename("other", "v0");
    event = is_event(capture, NETRING_EVENT_RENAMED, "renamed back");
    is_str(event.name, "v0", "the old name again");
    no_event(capture, 0, "renamed");

    net_link_up("v0", true);
    event = is_event(capture, NETRING_EVENT_UP, "up");
    is_int(event.flags & IFF_UP, IFF_UP, "its flags");
    no_event(capture, 0, "up");
    still_captures(capture, sender, "after down, renamed, up");

    /* Nobody asks meanwhile. */
    for (int i = 0; i < 5; i++) {
        net_link_up("v0", false);
        net_link_rename("v0", i % 2 ? "x" : "y");
        net_link_rename(i % 2 ? "x" : "y", "v0");
        net_link_up("v0", true);
    }
    for (int i = 0; i < 5; i++) {
        is_event(capture, NETRING_EVENT_DOWN, "unread");
        if (i == 0) {
            /* A name that came and went unread may be told once or not at all. */
            event = is_event(capture, NETRING_EVENT_RENAMED, "unread");
            is_str(event.name, "y", "unread: the first new name");
        }
        do {
            if (netring_capture_next_event(capture, SOON, &event, sizeof event) != 1)
                tap_bail("no event");
        } while (event.kind == NETRING_EVENT_RENAMED);
        is_int(event.kind, NETRING_EVENT_UP, "unread: up");
    }
    while (netring_capture_next_event(capture, 0, &event, sizeof event) == 1)
        is_int(event.kind, NETRING_EVENT_RENAMED, "unread: the name at last");
    is_str(event.name, "v0", "unread: the name at last");
    still_captures(capture, sender, "after flaps");

    /* Changes that are no events. */
    net_link_mtu("v0", 1400);
    net_link_up("v1", false);
    net_link_up("v1", true);
    no_event(capture, 0, "another MTU, and the carrier lost and back");

    net_link_delete("v0");
    is_event(capture, NETRING_EVENT_DOWN, "deleting what is up");
    event = is_event(capture, NETRING_EVENT_REMOVED, "deleted");
    is_str(event.name, "v0", "which one");
    no_event(capture, NETRING_ENODEV, "deleted");
    close(sender);
    capture_close(capture);
}

static void test_removed_while_down(void)
{
    struct netring_capture *capture;
    struct netring_block *block;

    net_veth("v0", "v1");
    net_link_up("v0", false);
    capture = open_with("v0", 0);
    no_event(capture, 0, "opened while down");
    net_link_delete("v0");
    is_event(capture, NETRING_EVENT_REMOVED, "deleted while down");
    no_event(capture, NETRING_ENODEV, "deleted while down");
    is_int(netring_capture_next_block(capture, -1, &block), NETRING_ENODEV,
           "deleted while down: the wait ends");
    capture_close(capture);
}

static void test_moved(void)
{
    int other = net_namespace_new();
    struct netring_capture *capture;
    struct netring_event event;
    struct netring_block *block;

    net_veth("v0", "v1");
    capture = open_with("v0", 0);
    net_link_move("v0", other);
    is_event(capture, NETRING_EVENT_DOWN, "moving what is up");
    event = is_event(capture, NETRING_EVENT_MOVED, "moved to another namespace");
    ok(event.netns_id >= 0, "the namespace has an id here (%d)", event.netns_id);
    ok(event.new_ifindex > 0, "and the interface an index there (%u)", event.new_ifindex);
    no_event(capture, NETRING_ENODEV, "moved");
    is_int(netring_capture_next_block(capture, -1, &block), NETRING_ENODEV, "moved: the wait ends");
    capture_close(capture);
    net_link_delete("v1"); /* and with it the other end */
    close(other);
}

/* More than the kernel keeps: what is told adds up to how it is at last. */
static void test_too_many(void)
{
    struct netring_capture *capture;
    struct netring_event event;
    uint32_t last = 0, count = 0;
    bool alternate = true;

    net_veth("v0", "v1");
    capture = open_with("v0", 0);
    for (int i = 0; i < 150; i++) {
        net_link_up("v0", false);
        net_link_up("v0", true);
    }
    net_link_up("v0", false);
    while (netring_capture_next_event(capture, 0, &event, sizeof event) == 1) {
        alternate = alternate && event.kind != last && event.kind <= NETRING_EVENT_UP;
        last = event.kind;
        count++;
    }
    ok(alternate, "up and down take turns");
    is_int(last, NETRING_EVENT_DOWN, "and the last one is how it is");
    is_between(count, 3, 301, "events of 301 changes unread");
    net_link_delete("v0");
    is_event(capture, NETRING_EVENT_REMOVED, "after many");
    capture_close(capture);
}

struct asker {
    pthread_t thread;
    struct netring_capture *capture;
    struct netring_event event;
    int rc, error_number;
};

static void *asks(void *user)
{
    struct asker *asker = user;

    asker->rc = netring_capture_next_event(asker->capture, -1, &asker->event, sizeof asker->event);
    asker->error_number = errno;
    return NULL;
}

static void ignore(int number)
{
    (void)number;
}

static void test_waits(void)
{
    struct sigaction action = {.sa_handler = ignore};
    struct netring_capture *capture;
    struct netring_event event;
    struct asker askers[3];
    int64_t begin, cpu;

    net_veth("v0", "v1");
    capture = open_with("v0", 0);
    begin = now_ms();
    is_int(netring_capture_next_event(capture, 150, &event, sizeof event), 0, "times out");
    is_between(now_ms() - begin, 149, 150 + tap_patience(400), "after 150 ms");

    sigaction(SIGUSR1, &action, NULL);
    askers[0].capture = capture;
    pthread_create(&askers[0].thread, NULL, asks, &askers[0]);
    cpu = cpu_ns();
    for (int i = 0; i < 20; i++) {
        sleep_ms(5);
        pthread_kill(askers[0].thread, SIGUSR1);
    }
    netring_capture_wakeup(capture);
    sleep_ms(30);
    ok(cpu_ns() - cpu < tap_patience(100) * 1000000, "signals and wakeups cost nothing");
    net_link_up("v0", false);
    pthread_join(askers[0].thread, NULL);
    is_int(askers[0].rc, 1, "the wait ends with an event");
    is_int(askers[0].event.kind, NETRING_EVENT_DOWN, "the event");
    is_int(netring_capture_next_block(capture, 0, &(struct netring_block *){NULL}), NETRING_EWAKEUP,
           "the wakeup was for those who wait for packets");

    for (size_t i = 0; i < COUNT(askers); i++) {
        askers[i].capture = capture;
        pthread_create(&askers[i].thread, NULL, asks, &askers[i]);
    }
    sleep_ms(20);
    netring_capture_stop(capture);
    for (size_t i = 0; i < COUNT(askers); i++) {
        pthread_join(askers[i].thread, NULL);
        is_int(askers[i].rc, NETRING_ESHUTDOWN, "stop ends every wait");
        is_int(askers[i].error_number, ESHUTDOWN, "stop: errno");
    }
    net_link_up("v0", true);
    is_event(capture, NETRING_EVENT_UP, "after a stop");
    no_event(capture, NETRING_ESHUTDOWN, "after a stop");
    capture_close(capture);

    capture = open_with("v0", 0);
    for (size_t i = 0; i < COUNT(askers); i++) {
        askers[i].capture = capture;
        pthread_create(&askers[i].thread, NULL, asks, &askers[i]);
    }
    sleep_ms(20);
    capture_close(capture);
    for (size_t i = 0; i < COUNT(askers); i++) {
        pthread_join(askers[i].thread, NULL);
        is_int(askers[i].rc, NETRING_EBADF, "close ends every wait");
    }
    net_link_delete("v0");
}

static void test_arguments(void)
{
    struct netring_capture *any = open_with("any", 0), *one = open_with("lo", 0);
    struct netring_capture_config config = small_config();
    struct netring_error error;
    struct netring_event event;
    struct {
        char bytes[24];
    } _Alignas(8) small;

    is_int(netring_capture_next_event(any, 0, &event, sizeof event), NETRING_ENOTSUP,
           "any has no events");
    netring_capture_last_error(any, &error);
    is_str_contains(error.message, "any", "and says so");
    is_int(netring_capture_next_event(one, 0, NULL, sizeof event), NETRING_EINVAL, "no place");
    is_int(netring_capture_next_event(one, 0, &event, 15), NETRING_EINVAL, "no room");
    is_int(netring_capture_next_event(one, 0, &event, 4097), NETRING_EINVAL, "too much room");
    net_link_up("lo", false);
    memset(&small, 0x5a, sizeof small);
    is_int(netring_capture_next_event(one, SOON, (struct netring_event *)(void *)&small, 16), 1,
           "an older, shorter struct");
    is_int(((uint32_t *)(void *)&small)[0], 16, "its size");
    is_int(((uint32_t *)(void *)&small)[1], NETRING_EVENT_DOWN, "what it has room for");
    is_int(small.bytes[16], 0x5a, "and no more");
    net_link_up("lo", true);
    capture_close(one);
    capture_close(any);

    for (int i = 0; i < 2; i++) {
        struct netring_capture *none = NULL;

        config.flags = i ? NETRING_CAPTURE_DOWN_IS_ERROR : NETRING_CAPTURE_EVENTS_ON_FD;
        is_int(netring_capture_open("any", &config, &none, &error), NETRING_EINVAL,
               "flags of one interface, on any");
        is_str(error.option, "flags", "names the field");
    }
}

/* ---- waits for packets ---- */

static void test_no_spinning(void)
{
    static const char *const when[] = {"down", "opened while down", "removed",
                                       "removed while down"};

    for (size_t i = 0; i < COUNT(when); i++) {
        struct netring_capture *capture;
        struct netring_block *block;
        struct netring_event event;
        struct waiter waiter;
        int64_t cpu, since;
        int sender;

        net_veth("v0", "v1");
        sender = net_sender("v1");
        if (i == 1)
            net_link_up("v0", false);
        capture = open_with("v0", 0);
        if (i == 0 || i == 3)
            net_link_up("v0", false);
        cpu = cpu_ns();
        if (i < 2) {
            is_int(netring_capture_next_block(capture, 500, &block), 0, "%s: the wait goes on",
                   when[i]);
        } else {
            net_link_delete("v0");
            while (netring_capture_next_event(capture, 200, &event, sizeof event) == 1)
                ;
            since = now_ms();
            waiter_start(&waiter, &wait_kinds[0], capture);
            waiter_ends(&waiter, NETRING_ENODEV, since, when[i]);
            sleep_ms(300);
        }
        ok(cpu_ns() - cpu < tap_patience(60) * 1000000, "%s: no time is burnt (%lld us)", when[i],
           (long long)(cpu_ns() - cpu) / 1000);
        if (i < 2) {
            net_link_up("v0", true);
            still_captures(capture, sender, when[i]);
            net_link_delete("v0");
        }
        close(sender);
        capture_close(capture);
    }
}

static bool readable(struct netring_capture *capture, int timeout_ms)
{
    struct pollfd set = {.fd = netring_capture_fd(capture), .events = POLLIN};

    return poll(&set, 1, timeout_ms) == 1;
}

static void test_events_on_fd(void)
{
    struct netring_capture *capture;
    struct netring_block *block;
    struct netring_event event;
    struct waiter waiter;
    int64_t since;
    int sender;

    net_veth("v0", "v1");
    sender = net_sender("v1");
    capture = open_with("v0", NETRING_CAPTURE_EVENTS_ON_FD);
    ok(!readable(capture, 30), "nothing yet");
    net_link_mtu("v0", 1400);
    net_link_up("v1", false);
    net_link_up("v1", true);
    ok(!readable(capture, 200), "a change that is no event");
    for (int i = 0; i < 2; i++) {
        net_link_up("v0", i);
        ok(readable(capture, SOON), "an event");
        is_int(netring_capture_next_block(capture, 0, &block), 0, "which is no block");
        ok(readable(capture, 0), "and stays until it is read");
        is_event(capture, i ? NETRING_EVENT_UP : NETRING_EVENT_DOWN, "on the descriptor");
        ok(!readable(capture, 30), "then no more");
    }
    /* Who waits for packets is not woken by it. */
    waiter_start(&waiter, &wait_kinds[0], capture);
    sleep_ms(20);
    net_link_up("v0", false);
    net_link_up("v0", true);
    sleep_ms(50);
    since = now_ms();
    netring_capture_stop(capture);
    waiter_ends(&waiter, NETRING_ESHUTDOWN, since, "flaps, then stop");
    capture_close(capture);

    capture = open_with("v0", NETRING_CAPTURE_EVENTS_ON_FD);
    send_frames(sender, 0, 3, 60);
    ok(readable(capture, SOON), "a block");
    is_int(netring_capture_next_block(capture, 0, &block), 1, "and there it is");
    netring_block_release(block);
    is_int(netring_capture_next_event(capture, 0, &event, sizeof event), 0, "and no event");
    ok(!readable(capture, 30), "nor anything else");
    close(sender);
    capture_close(capture);
    net_link_delete("v0");
}

static void test_down_is_error(void)
{
    struct netring_capture_config config = small_config();
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;
    struct netring_error error;
    struct netring_block *block;
    struct waiter waiters[3];
    int64_t since;
    int sender;

    net_veth("v0", "v1");
    sender = net_sender("v1");
    config.flags |= NETRING_CAPTURE_DOWN_IS_ERROR;
    config.block_timeout = 0; /* only full blocks: what came must be handed out all the same */
    capture = capture_open("v0", &config);
    send_frames(sender, 0, 20, 60);
    await_seen(capture, 20);
    net_link_up("v0", false);
    is_int(receive(capture, 21, SOON, &records), NETRING_ENETDOWN, "down: packets first");
    is_frames(&records, 0, 20, 60, 60, "down: packets first");
    netring_capture_last_error(capture, &error);
    is_int(error.os_errno, ENETDOWN, "down: the reason");
    is_str_contains(error.message, "v0", "down: which one");
    is_int(netring_capture_next_block(capture, -1, &block), NETRING_ENETDOWN, "down: and again");
    ok(readable(capture, 0), "down: the descriptor says so");
    net_link_up("v0", true);
    is_int(netring_capture_next_block(capture, 50, &block), 0, "up: the wait goes on");
    ok(!readable(capture, 30), "up: the descriptor says so");
    capture_close(capture);

    config.block_timeout = 10;
    capture = capture_open("v0", &config);
    for (size_t i = 0; i < COUNT(waiters); i++)
        waiter_start(&waiters[i], &wait_kinds[i], capture);
    sleep_ms(30);
    since = now_ms();
    net_link_up("v0", false);
    for (size_t i = 0; i < COUNT(waiters); i++) {
        /* Two of them may have refused each other: one thread at a time. */
        pthread_join(waiters[i].thread, NULL);
        ok(waiters[i].rc == NETRING_ENETDOWN || (i > 0 && waiters[i].rc == NETRING_EBUSY),
           "down: %s ends with %d", waiters[i].kind->name, waiters[i].rc);
    }
    is_between(now_ms() - since, 0, SOON, "down: all of them at once");
    net_link_up("v0", true);
    still_captures(capture, sender, "up again");
    capture_close(capture);

    net_link_up("v0", false);
    capture = capture_open("v0", &config);
    is_int(netring_capture_next_block(capture, SOON, &block), NETRING_ENETDOWN,
           "opened while down: is told");
    net_link_up("v0", true);
    still_captures(capture, sender, "opened while down, then up");
    net_link_delete("v0");
    is_int(netring_capture_next_block(capture, SOON, &block), NETRING_ENODEV,
           "deleted: not merely down");
    records_free(&records);
    close(sender);
    capture_close(capture);
}

/* ---- without netlink ---- */

struct opener {
    struct netring_capture *capture;
    uint64_t flags;
};

/* The refusal is this thread's alone. */
static void *opens_without_netlink(void *user)
{
    struct opener *opener = user;

    refuse(&(struct refusal){
        SYS_socket, EPERM, 1, {{.argument = 0, .mask = UINT32_MAX, .value = AF_NETLINK}}});
    opener->capture = open_with("v0", opener->flags);
    return NULL;
}

static void without_netlink(void *user)
{
    struct opener opener = {NULL, NETRING_CAPTURE_EVENTS_ON_FD};
    struct netring_event event;
    pthread_t thread;

    (void)user;
    pthread_create(&thread, NULL, opens_without_netlink, &opener);
    pthread_join(thread, NULL);
    is_int(capture_info(opener.capture).flags & NETRING_CAPTURE_EVENTS_ON_FD, 0,
           "without netlink: the descriptor cannot tell of events, and info says so");
    net_link_up("v0", false);
    is_event(opener.capture, NETRING_EVENT_DOWN, "without netlink");
    net_link_rename("v0", "other");
    event = is_event(opener.capture, NETRING_EVENT_RENAMED, "without netlink");
    is_str(event.name, "other", "without netlink");
    net_link_up("other", true);
    is_event(opener.capture, NETRING_EVENT_UP, "without netlink");
    net_link_delete("other");
    is_event(opener.capture, NETRING_EVENT_REMOVED, "without netlink");
    no_event(opener.capture, NETRING_ENODEV, "without netlink");
    net_veth("v0", "v1");
    is_int(netring_capture_rebind(opener.capture, NULL, 0, SOON, NULL), 0,
           "without netlink: bound anew");
    capture_close(opener.capture);
}

static void test_without_netlink(void)
{
    net_veth("v0", "v1");
    child_run("without netlink", without_netlink, NULL);
    net_link_delete("v0");
}

/* ---- rebind ---- */

static void is_rebound(struct netring_capture *capture, const char *name, const char *what)
{
    struct netring_capture_info info = capture_info(capture);

    is_str(info.interface, name, "%s: the name", what);
    is_int(info.ifindex, net_index(name), "%s: the index", what);
}

static void *creates_soon(void *user)
{
    sleep_ms(150);
    net_veth(user, "v1");
    return NULL;
}

static void test_rebind(void)
{
    struct netring_capture_config config = small_config();
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;
    struct netring_error error;
    struct netring_block *block;
    struct netring_event event;
    struct netring_stats stats;
    struct waiter waiter;
    pthread_t thread;
    int64_t begin, cpu;
    int sender;

    net_veth("v0", "v1");
    sender = net_sender("v1");
    config.flags |= NETRING_CAPTURE_PROMISCUOUS | NETRING_CAPTURE_EVENTS_ON_FD;
    capture = capture_open("v0", &config);
    send_frames(sender, 0, 5, 60);
    await_seen(capture, 5);
    net_link_delete("v0");
    close(sender);
    begin = now_ms();
    is_int(netring_capture_rebind(capture, NULL, 0, 0, &error), NETRING_ENODEV, "no next one yet");
    is_str(error.option, "interface", "no next one: names the step");
    is_str_contains(error.message, "v0", "no next one: names it");
    is_int(netring_capture_rebind(capture, NULL, 0, 100, &error), NETRING_ENODEV, "nor soon");
    is_between(now_ms() - begin, 99, 100 + tap_patience(400), "after 100 ms");

    /* One is waiting for packets meanwhile; ENODEV is what it gets until then. */
    pthread_create(&thread, NULL, creates_soon, (void *)"v0");
    cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    is_int(netring_capture_rebind(capture, NULL, 0, -1, &error), 0, "the next one");
    ok(clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu < tap_patience(80) * 1000000,
       "waited for without spinning");
    is_no_error(&error, "the next one");
    pthread_join(thread, NULL);
    is_rebound(capture, "v0", "the next one");
    is_int(net_promiscuity("v0"), 1, "promiscuous there");
    sender = net_sender("v1");
    send_frames(sender, 5, 15, 60);
    is_int(receive(capture, 20, SOON, &records), 1, "packets of both");
    is_frames(&records, 0, 20, 60, 60, "packets of both, in order");
    stats = capture_stats(capture);
    is_int(stats.received, 20, "counters go on");
    is_int(stats.sequence_gaps, 0, "and so does the ring");
    records_free(&records);

    while (netring_capture_next_event(capture, 0, &event, sizeof event) == 1)
        ok(event.ifindex == net_index("v0"), "no events of the old one");
    net_link_up("v0", false);
    event = is_event(capture, NETRING_EVENT_DOWN, "the next one's events");
    is_int(event.ifindex, net_index("v0"), "are the new one's");
    netring_capture_next_block(capture, 0, &block); /* a link gone down may make it readable once */
    ok(!readable(capture, 30), "and its descriptor");
    net_link_up("v0", true);
    is_event(capture, NETRING_EVENT_UP, "the next one's events");
    net_await_carrier("v1");

    /* To one that is there as well, by name and by index, while a thread waits. */
    net_veth("w0", "w1");
    waiter_start(&waiter, &wait_kinds[0], capture);
    is_int(netring_capture_rebind(capture, "w0", 0, 0, &error), 0, "another one, by name");
    is_rebound(capture, "w0", "another one, by name");
    is_int(net_promiscuity("v0"), 0, "no longer promiscuous here");
    is_int(net_promiscuity("w0"), 1, "but there");
    send_frames(sender, 0, 5, 60);
    {
        int other = net_sender("w1");

        send_frames(other, 100, 1, 60);
        close(other);
    }
    pthread_join(waiter.thread, NULL);
    is_int(waiter.rc, 1, "the wait goes on over the change");
    is_int(netring_capture_next_block(capture, 50, &block), 0, "nothing of the old one");
    is_int(netring_capture_rebind(capture, NULL, net_index("v0"), 0, &error), 0, "back, by index");
    is_rebound(capture, "v0", "back, by index");
    still_captures(capture, sender, "back, by index");

    /* What is refused changes nothing. */
    is_int(netring_capture_rebind(capture, "none", 0, 0, &error), NETRING_ENODEV, "none such");
    is_int(netring_capture_rebind(capture, NULL, 0x7fff0000, 0, &error), NETRING_ENODEV,
           "no such index");
    is_str(error.option, "ifindex", "no such index: names it");
    is_int(netring_capture_rebind(capture, "any", 0, 0, &error), NETRING_EINVAL, "any");
    is_int(netring_capture_rebind(capture, "", 0, 0, &error), NETRING_EINVAL, "an empty name");
    is_int(netring_capture_rebind(capture, "v0", 3, 0, &error), NETRING_EINVAL, "both");
    is_str(error.option, "ifindex", "both: names it");
    is_rebound(capture, "v0", "after refusals");
    is_int(net_promiscuity("v0"), 1, "after refusals");
    still_captures(capture, sender, "after refusals");

    /* Renamed, and the next one has the name it had. */
    net_link_up("v0", false);
    net_link_rename("v0", "old");
    net_link_delete("w0");
    net_veth("v0", "w1");
    is_int(netring_capture_rebind(capture, NULL, 0, 0, &error), 0, "the name it was bound by");
    is_rebound(capture, "v0", "the name it was bound by");
    net_link_delete("old");
    close(sender);

    /* A stop ends the wait for one. */
    net_link_delete("v0");
    netring_capture_stop(capture);
    is_int(netring_capture_rebind(capture, "none", 0, -1, &error), NETRING_ESHUTDOWN, "stopped");
    is_int(netring_capture_rebind(capture, "lo", 0, 0, &error), NETRING_ESHUTDOWN, "stopped");
    capture_close(capture);

    capture = open_with("any", 0);
    is_int(netring_capture_rebind(capture, "lo", 0, 0, &error), NETRING_EINVAL, "from any");
    is_str(error.option, "interface", "from any: names it");
    capture_close(capture);
}

static void *rebinds_to_none(void *user)
{
    netring_capture_rebind(user, "none", 0, 400, NULL);
    return NULL;
}

/* While one thread waits for an interface, another asks for events of the one there is; and the
 * next one's removal is noticed like the first one's. */
static void test_rebind_watches(void)
{
    struct netring_capture *capture;
    struct netring_event event;
    struct waiter waiter;
    pthread_t thread;
    int64_t since;

    net_veth("v0", "v1");
    capture = open_with("v0", 0);
    pthread_create(&thread, NULL, rebinds_to_none, capture);
    sleep_ms(100);
    net_veth("w0", "w1");
    net_link_up("w0", false);
    net_link_up("w0", true);
    is_int(netring_capture_next_event(capture, 100, &event, sizeof event), 0,
           "other interfaces are nobody's business");
    net_link_up("v0", false);
    is_event(capture, NETRING_EVENT_DOWN, "the one there is");
    pthread_join(thread, NULL);
    net_link_up("v0", true);
    is_event(capture, NETRING_EVENT_UP, "and so after the wait");

    is_int(netring_capture_rebind(capture, "w0", 0, 0, NULL), 0, "bound anew");
    net_link_delete("v0");
    net_link_up("w0", false);
    is_event(capture, NETRING_EVENT_DOWN, "the next one");
    waiter_start(&waiter, &wait_kinds[0], capture);
    sleep_ms(30);
    since = now_ms();
    net_link_delete("w0");
    waiter_ends(&waiter, NETRING_ENODEV, since, "the next one is removed while down");
    is_event(capture, NETRING_EVENT_REMOVED, "the next one");
    capture_close(capture);
}

/* The notices' filter cannot be changed: the waits look for themselves. */
static void rebinds_unwatched(void *user)
{
    struct netring_capture *capture = open_with("v0", 0);
    struct waiter waiter;
    int64_t since;

    (void)user;
    refuse(&(struct refusal){SYS_setsockopt,
                             ENOMEM,
                             2,
                             {{.argument = 1, .mask = UINT32_MAX, .value = SOL_SOCKET},
                              {.argument = 2, .mask = UINT32_MAX, .value = SO_ATTACH_FILTER}}});
    is_int(netring_capture_rebind(capture, "w0", 0, 0, NULL), 0, "no memory for a filter");
    net_link_up("w0", false);
    waiter_start(&waiter, &wait_kinds[0], capture);
    sleep_ms(100);
    since = now_ms();
    net_link_delete("w0");
    waiter_ends(&waiter, NETRING_ENODEV, since, "unwatched, the next one is removed while down");
    capture_close(capture);
}

static void test_rebind_unwatched(void)
{
    net_veth("v0", "v1");
    net_veth("w0", "w1");
    child_run("no memory for a filter", rebinds_unwatched, NULL);
    net_link_delete("v0");
}

/* Blocks still in the ring know the interface they came through, and so does each packet of the
 * block that was open during the change. */
static void test_rebind_blocks(void)
{
    struct netring_capture_config config = page_config(8);
    uint32_t full = frames_per_page(60), before, after;
    struct netring_capture *capture;
    struct netring_block_info info;
    struct netring_packet packets[128];
    struct netring_block *block;
    struct netring_error error;
    int first, second, count;

    net_veth("v0", "v1");
    net_veth("w0", "w1");
    first = net_sender("v1");
    second = net_sender("w1");
    before = net_index("v0");
    after = net_index("w0");
    capture = capture_open("v0", &config);
    send_frames(first, 0, full + 3, 60); /* a block, and a part of the next */
    await_ready(capture, 1);
    await_seen(capture, full + 3);
    is_int(netring_capture_rebind(capture, "w0", 0, 0, &error), 0, "bound anew");
    send_frames(second, full + 3, 2 * full - 2, 60);
    await_ready(capture, 3);
    for (uint32_t n = 0; n < 3; n++) {
        uint32_t wrong = 0;

        if (netring_capture_next_block(capture, 0, &block) != 1)
            tap_bail("no block");
        netring_block_info(block, &info, sizeof info);
        is_int(info.ifindex, n == 0 ? before : n == 1 ? 0 : after, "block %u: its interface", n);
        count = netring_block_read(block, packets, sizeof *packets, COUNT(packets));
        is_int(count, full, "block %u: its packets", n);
        for (int i = 0; i < count; i++) {
            uint32_t number = n * full + (uint32_t)i;

            wrong += frame_number(packets[i].data) != number ||
                     packets[i].ifindex != (number < full + 3 ? before : after) ||
                     packets[i].link_type != NETRING_LINKTYPE_ETHERNET;
        }
        is_int(wrong, 0, "block %u: each packet tells", n);
        netring_block_release(block);
    }
    is_int(capture_stats(capture).sequence_gaps, 0, "without a gap");
    close(first);
    close(second);
    capture_close(capture);
    net_link_delete("v0");
    net_link_delete("w0");
}

/* lo is special: what it sends comes twice, and once is enough there. */
static void test_rebind_to_loopback(void)
{
    uint8_t data[40] = "twice?";
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;
    struct netring_stats stats;
    struct net_udp udp = net_udp_open();

    net_veth("v0", "v1");
    capture = open_with("v0", 0);
    is_int(netring_capture_rebind(capture, "lo", 0, 0, NULL), 0, "from a veth to lo");
    for (int i = 0; i < 5; i++)
        net_udp_send(&udp, data, sizeof data);
    is_int(receive(capture, 5, SOON, &records), 1, "packets come");
    is_int(records.count, 5, "each once");
    stats = capture_stats(capture);
    is_int(stats.looped, 5, "the others are counted");
    is_int(stats.delivered + stats.looped + stats.pending, stats.received, "and it adds up");
    records_free(&records);
    net_udp_close(&udp);
    capture_close(capture);
    net_link_delete("v0");
}

/* What the interfaces lost adds up, and what the next one had lost before is not ours. */
static void test_rebind_counters(void)
{
    struct netring_capture *capture;
    uint8_t frame[FRAME_MAX];
    int first, second;

    net_veth("v0", "v1");
    net_veth("w0", "w1");
    first = net_sender("v1");
    second = net_sender("w1");
    capture = open_with("v0", 0);
    send_frames(first, 0, 3, 60);
    await_seen(capture, 3);
    /* The host drops what is too long for the receiving link (dev.c is_skb_forwardable). */
    net_link_mtu("v0", 100);
    net_link_mtu("w0", 100);
    net_flood(second, frame, frame_make(frame, 500, 0), 4); /* refused, but it got there */
    net_flood(first, frame, frame_make(frame, 500, 0), 5);
    is_int(net_counters("w0").rx_dropped, 4, "the other one loses something too");
    is_int(capture_stats(capture).interface_dropped, 5, "lost here");
    is_int(netring_capture_rebind(capture, "w0", 0, 0, NULL), 0, "bound anew");
    is_int(capture_stats(capture).interface_dropped, 5, "lost before stays counted");
    is_int(capture_stats(capture).received, 3, "and so does what was received");
    net_flood(second, frame, frame_make(frame, 500, 0), 2);
    is_int(capture_stats(capture).interface_dropped, 7, "and what the next one loses is added");
    close(first);
    close(second);
    capture_close(capture);
    net_link_delete("v0");
    net_link_delete("w0");
}

int main(void)
{
    tap_begin(120);
    net_enter();

    test_events();
    test_removed_while_down();
    test_moved();
    test_too_many();
    test_waits();
    test_arguments();
    test_no_spinning();
    test_events_on_fd();
    test_down_is_error();
    test_without_netlink();
    test_rebind();
    test_rebind_watches();
    test_rebind_unwatched();
    test_rebind_blocks();
    test_rebind_to_loopback();
    test_rebind_counters();
    return tap_end();
}
