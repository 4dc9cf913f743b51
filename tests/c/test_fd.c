/* The descriptor for event loops is readable exactly while netring_capture_next_block(capture, 0)
 * would return something. With K blocks ready and one taken at every event there are exactly K
 * events, none while all are held, and no block waits for more traffic: with poll, level and edge
 * epoll, io_uring, and several threads.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FRAME 1000 /* a few of them fill a page */
#define QUIET 60   /* milliseconds without an event, to believe that there is none */

static int sender; /* on va; what it sends arrives at vb */

/* ---- ways to watch a descriptor ---- */

struct uring {
    int fd;
    uint8_t *sq, *cq;
    struct io_uring_sqe *sqes;
    struct io_uring_params p;
    bool armed;
};

struct watcher {
    int fd, epoll;
    struct uring uring;
};

struct watch {
    const char *name;
    /* Returns NULL, or why it cannot be used here. */
    const char *(*open)(struct watcher *watcher, int fd);
    /* Returns whether there was an event. */
    bool (*wait)(struct watcher *watcher, int timeout_ms);
    void (*close)(struct watcher *watcher);
};

static const char *poll_open(struct watcher *watcher, int fd)
{
    watcher->fd = fd;
    return NULL;
}

static bool poll_wait(struct watcher *watcher, int timeout_ms)
{
    struct pollfd set = {.fd = watcher->fd, .events = POLLIN};

    return poll(&set, 1, timeout_ms) == 1 && set.revents & POLLIN;
}

static void poll_close(struct watcher *watcher)
{
    (void)watcher;
}

static const char *epoll_open(struct watcher *watcher, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};

    watcher->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (watcher->epoll < 0 || epoll_ctl(watcher->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        tap_bail("epoll: %s", strerror(errno));
    return NULL;
}

static const char *level_open(struct watcher *watcher, int fd)
{
    return epoll_open(watcher, fd, EPOLLIN);
}

static const char *edge_open(struct watcher *watcher, int fd)
{
    return epoll_open(watcher, fd, EPOLLIN | EPOLLET);
}

static bool any_epoll_wait(struct watcher *watcher, int timeout_ms)
{
    struct epoll_event event;

    return epoll_wait(watcher->epoll, &event, 1, timeout_ms) == 1;
}

static void epoll_close(struct watcher *watcher)
{
    close(watcher->epoll);
}

static void *uring_map(int fd, size_t size, uint64_t what)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)what);

    if (map == MAP_FAILED)
        tap_bail("io_uring: %s", strerror(errno));
    return map;
}

static size_t uring_cq_size(const struct uring *u)
{
    return u->p.cq_off.cqes + u->p.cq_entries * sizeof(struct io_uring_cqe);
}

static size_t uring_sq_size(const struct uring *u)
{
    return u->p.sq_off.array + u->p.sq_entries * sizeof(uint32_t);
}

static const char *uring_open(struct watcher *watcher, int fd)
{
    struct uring *u = &watcher->uring;

    memset(u, 0, sizeof *u);
    watcher->fd = fd;
    u->fd = (int)syscall(SYS_io_uring_setup, 4, &u->p);
    if (u->fd < 0)
        return strerror(errno);
    u->sq = uring_map(u->fd, uring_sq_size(u), IORING_OFF_SQ_RING);
    u->cq = uring_map(u->fd, uring_cq_size(u), IORING_OFF_CQ_RING);
    u->sqes = uring_map(u->fd, u->p.sq_entries * sizeof *u->sqes, IORING_OFF_SQES);
    return NULL;
}

static uint32_t *at(uint8_t *ring, uint32_t offset)
{
    return (uint32_t *)(void *)(ring + offset);
}

/* One poll request, answered once. */
static void uring_arm(struct watcher *watcher)
{
    struct uring *u = &watcher->uring;
    uint32_t tail = *at(u->sq, u->p.sq_off.tail), slot = tail & (u->p.sq_entries - 1);
    struct io_uring_sqe *sqe = &u->sqes[slot];

    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = watcher->fd;
    sqe->poll_events = POLLIN;
    at(u->sq, u->p.sq_off.array)[slot] = slot;
    __atomic_store_n(at(u->sq, u->p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, u->fd, 1, 0, 0, NULL, 0) != 1)
        tap_bail("io_uring_enter: %s", strerror(errno));
    u->armed = true;
}

static bool uring_wait(struct watcher *watcher, int timeout_ms)
{
    struct uring *u = &watcher->uring;
    struct pollfd set = {.fd = u->fd, .events = POLLIN};
    uint32_t head;

    if (!u->armed)
        uring_arm(watcher);
    if (poll(&set, 1, timeout_ms) != 1)
        return false;
    head = *at(u->cq, u->p.cq_off.head);
    if (head == __atomic_load_n(at(u->cq, u->p.cq_off.tail), __ATOMIC_ACQUIRE))
        return false;
    __atomic_store_n(at(u->cq, u->p.cq_off.head), head + 1, __ATOMIC_RELEASE);
    u->armed = false;
    return true;
}

static void uring_close(struct watcher *watcher)
{
    struct uring *u = &watcher->uring;

    munmap(u->sqes, u->p.sq_entries * sizeof *u->sqes);
    munmap(u->cq, uring_cq_size(u));
    munmap(u->sq, uring_sq_size(u));
    close(u->fd);
}

static const struct watch watches[] = {
    {"poll", poll_open, poll_wait, poll_close},
    {"level epoll", level_open, any_epoll_wait, epoll_close},
    {"edge epoll", edge_open, any_epoll_wait, epoll_close},
    {"io_uring", uring_open, uring_wait, uring_close},
};

/* ---- one thread ---- */

enum { READY = 5 };

struct taken {
    struct netring_block *blocks[4 * READY];
    unsigned count, events, in_vain;
};

/* One block at every event, held, until there is no event. */
static void take_at_events(struct netring_capture *capture, const struct watch *watch,
                           struct watcher *watcher, struct taken *taken)
{
    int timeout_ms = 1000;

    while (taken->count < COUNT(taken->blocks) && taken->in_vain < 100 &&
           watch->wait(watcher, timeout_ms)) {
        taken->events++;
        if (netring_capture_next_block(capture, 0, &taken->blocks[taken->count]) == 1)
            taken->count++;
        else
            taken->in_vain++;
        timeout_ms = QUIET;
    }
}

static void release_taken(struct taken *taken)
{
    for (unsigned i = 0; i < taken->count; i++)
        netring_block_release(taken->blocks[i]);
    memset(taken, 0, sizeof *taken);
}

static void is_taken(const struct taken *taken, unsigned want, const char *watch, const char *when)
{
    is_int(taken->count, want, "%s, %s: no block lost", watch, when);
    is_int(taken->events, want, "%s, %s: one event a block, none besides", watch, when);
}

static void fill_blocks(uint32_t count)
{
    send_frames(sender, 0, count * frames_per_page(FRAME), FRAME);
}

static void test_events(const struct watch *watch)
{
    struct netring_capture_config config = page_config(4 * READY);
    struct netring_capture *capture = capture_open("vb", &config);
    struct taken taken = {{0}, 0, 0, 0};
    struct watcher watcher;
    const char *reason;
    int fd = netring_capture_fd(capture);

    send_frames(sender, 0, 1, FRAME); /* from here on a full block is ready at once */
    fill_blocks(READY);
    await_ready(capture, READY);
    reason = watch->open(&watcher, fd);
    if (reason) {
        tap_skip(watch->name, reason);
        capture_close(capture);
        return;
    }
    take_at_events(capture, watch, &watcher, &taken);
    is_taken(&taken, READY, watch->name, "ready before watching");
    ok(!watch->wait(&watcher, QUIET), "%s: no event while all are held", watch->name);

    fill_blocks(1);
    await_ready(capture, 1);
    take_at_events(capture, watch, &watcher, &taken);
    is_taken(&taken, READY + 1, watch->name, "one more while the others are held");
    release_taken(&taken);
    ok(!watch->wait(&watcher, QUIET), "%s: no event after all are released", watch->name);

    fill_blocks(READY);
    await_ready(capture, READY);
    take_at_events(capture, watch, &watcher, &taken);
    is_taken(&taken, READY, watch->name, "ready at once while watching");
    release_taken(&taken);

    for (int i = 0; i < READY; i++) {
        fill_blocks(1);
        await_ready(capture, 1);
        take_at_events(capture, watch, &watcher, &taken);
    }
    is_taken(&taken, READY, watch->name, "one after another");
    release_taken(&taken);

    fill_blocks(READY);
    await_ready(capture, READY);
    for (int i = 0; i < READY - 1; i++)
        netring_capture_next_block(capture, 0, &taken.blocks[taken.count++]);
    ok(watch->wait(&watcher, 1000), "%s: an event for the one that was left", watch->name);
    netring_capture_next_block(capture, 0, &taken.blocks[taken.count++]);
    is_int(capture_stats(capture).blocks_held, READY, "%s: all are held", watch->name);
    ok(!watch->wait(&watcher, QUIET), "%s: and then none", watch->name);
    release_taken(&taken);
    is_int(capture_stats(capture).dropped, 0, "%s: no drops", watch->name);
    watch->close(&watcher);
    capture_close(capture);
}

/* ---- several threads ---- */

enum { THREADS = 4, MANY = 40 };

struct crowd {
    struct netring_capture *capture;
    const struct watch *watch;
    struct watcher *shared; /* one for all, or NULL: each has its own */
    unsigned taken, packets;
    volatile bool over;
};

static void *takes_at_events(void *user)
{
    struct crowd *crowd = user;
    struct watcher own, *watcher = crowd->shared ? crowd->shared : &own;
    struct netring_block *block;
    struct netring_block_info info;

    if (!crowd->shared)
        crowd->watch->open(&own, netring_capture_fd(crowd->capture));
    while (!crowd->over) {
        if (!crowd->watch->wait(watcher, 20) ||
            netring_capture_next_block(crowd->capture, 0, &block) != 1)
            continue;
        netring_block_info(block, &info, sizeof info);
        __atomic_add_fetch(&crowd->packets, info.count, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&crowd->taken, 1, __ATOMIC_SEQ_CST);
        netring_block_release(block);
    }
    if (!crowd->shared)
        crowd->watch->close(&own);
    return NULL;
}

static void test_crowd(const struct watch *watch, bool shares)
{
    struct netring_capture_config config = page_config(2 * MANY);
    struct crowd crowd = {capture_open("vb", &config), watch, NULL, 0, 0, false};
    const char *how = shares ? "shared by 4 threads" : "in each of 4 threads";
    pthread_t threads[THREADS];
    struct watcher watcher;
    const char *reason = watch->open(&watcher, netring_capture_fd(crowd.capture));
    int64_t end = now_ms() + tap_patience(3000);
    struct netring_stats stats;

    if (reason) {
        tap_skip(watch->name, reason);
        capture_close(crowd.capture);
        return;
    }
    crowd.shared = shares ? &watcher : NULL;
    send_frames(sender, 0, 1, FRAME);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, takes_at_events, &crowd);
    for (int i = 0; i < MANY; i += 8) {
        fill_blocks(8);
        sleep_ms(5);
    }
    while (__atomic_load_n(&crowd.taken, __ATOMIC_SEQ_CST) < MANY && now_ms() < end)
        sleep_ms(5);
    sleep_ms(QUIET);
    crowd.over = true;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    stats = capture_stats(crowd.capture);
    is_int(stats.dropped, 0, "%s %s: no drops", watch->name, how);
    is_int(crowd.taken, MANY, "%s %s: every block taken", watch->name, how);
    is_int(crowd.packets, MANY * frames_per_page(FRAME), "%s %s: with every packet", watch->name,
           how);
    watch->close(&watcher);
    capture_close(crowd.capture);
}

/* ---- what else makes it readable ---- */

static void test_states(const struct watch *watch)
{
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture = capture_open("vb", &config);
    struct watcher watcher;
    struct netring_block *block;
    const char *reason = watch->open(&watcher, netring_capture_fd(capture));

    if (reason) {
        tap_skip(watch->name, reason);
        capture_close(capture);
        return;
    }
    ok(!watch->wait(&watcher, QUIET), "%s: nothing there", watch->name);
    netring_capture_wakeup(capture);
    ok(watch->wait(&watcher, 1000), "%s: a wakeup", watch->name);
    is_int(netring_capture_next_block(capture, 0, &block), NETRING_EWAKEUP, "%s: is told",
           watch->name);
    ok(!watch->wait(&watcher, QUIET), "%s: once", watch->name);
    netring_capture_wakeup(capture);
    netring_capture_wakeup_clear(capture);
    /* An edge that was there already may still be reported. */
    watch->wait(&watcher, 0);
    ok(!watch->wait(&watcher, QUIET), "%s: a cleared wakeup", watch->name);

    send_frames(sender, 0, 2, 60);
    ok(!watch->wait(&watcher, QUIET), "%s: an open block is not ready", watch->name);
    await_seen(capture, 2);
    netring_capture_flush(capture);
    ok(watch->wait(&watcher, 1000), "%s: a flushed block is", watch->name);
    is_int(netring_capture_next_block(capture, 0, &block), 1, "%s: and handed out", watch->name);
    netring_block_release(block);
    ok(!watch->wait(&watcher, QUIET), "%s: and that was all", watch->name);

    send_frames(sender, 0, 2, 60);
    await_seen(capture, 4);
    netring_capture_stop(capture);
    ok(watch->wait(&watcher, 1000), "%s: stop", watch->name);
    is_int(netring_capture_next_block(capture, 0, &block), 1, "%s: the open block first",
           watch->name);
    netring_block_release(block);
    ok(watch->wait(&watcher, 1000), "%s: stopped", watch->name);
    is_int(netring_capture_next_block(capture, 0, &block), NETRING_ESHUTDOWN, "%s: is told",
           watch->name);
    watch->close(&watcher);
    watch->open(&watcher, netring_capture_fd(capture));
    ok(watch->wait(&watcher, 1000), "%s: stopped for good", watch->name);
    watch->close(&watcher);
    capture_close(capture);
}

static void test_removal(const struct watch *watch, bool down_before)
{
    const char *what = down_before ? "removed while down" : "removed";
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture;
    struct watcher watcher;
    struct netring_block *block;

    net_veth("gone", "peer");
    capture = capture_open("gone", &config);
    if (down_before) {
        net_link_up("gone", false);
        netring_capture_next_block(capture, 0, &block);
    }
    if (watch->open(&watcher, netring_capture_fd(capture)) == NULL) {
        net_link_delete("gone");
        ok(watch->wait(&watcher, (int)tap_patience(2000)), "%s: the interface was %s", watch->name,
           what);
        is_int(netring_capture_next_block(capture, 0, &block), NETRING_ENODEV, "%s: %s: is told",
               watch->name, what);
        watch->close(&watcher);
    } else {
        net_link_delete("gone");
    }
    capture_close(capture);
}

static void test_descriptor(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    int fd = netring_capture_fd(capture);
    struct pollfd set = {.fd = fd, .events = POLLIN};

    ok(fd >= 0, "the descriptor (%d)", fd);
    is_int(netring_capture_fd(capture), fd, "is the same every time");
    ok(fcntl(fd, F_GETFD) & FD_CLOEXEC, "and closed by exec");
    capture_close(capture);
    is_int(poll(&set, 1, 0), 1, "and with the capture");
    is_int(set.revents, POLLNVAL, "and with the capture");
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");

    test_descriptor();
    for (size_t i = 0; i < COUNT(watches); i++) {
        test_events(&watches[i]);
        test_states(&watches[i]);
        test_removal(&watches[i], false);
        test_removal(&watches[i], true);
        test_crowd(&watches[i], false);
    }
    test_crowd(&watches[1], true);
    test_crowd(&watches[2], true);
    return tap_end();
}
