/* Who has a queue, a program, an interface: two processes that want the same queue, a holder that
 * is killed, programs of somebody else, links that go down, are deleted, or move away, with frames
 * under way. */
#include "xdp.h"

#include <errno.h>
#include <linux/if_xdp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Without a program of its own: then it is the queue alone that is in the way. */
static struct netring_xdp_config queue_only(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_COPY);

    config.flags |= NETRING_XDP_NO_PROGRAM;
    config.rx_frames = config.tx_frames = 64;
    return config;
}

/* ---- another process ---- */

struct holder {
    pid_t pid;
    int say, hear;
};

/* A child that has what `config` says, until it is told to close, or killed. */
static struct holder holder_start(const char *interface, const uint32_t *queue,
                                  const struct netring_xdp_config *config)
{
    int to[2], from[2];
    struct holder holder;
    char byte;

    if (pipe(to) != 0 || pipe(from) != 0)
        tap_bail("pipe: %s", strerror(errno));
    fflush(stdout);
    holder.pid = fork();
    if (holder.pid == 0) {
        struct netring_xdp *xdp = NULL;
        int rc = netring_xdp_open(interface, queue, queue != NULL, config, &xdp, NULL);
        char say = rc == 0 ? 'o' : 'x';
        unsigned ms = 0;

        close(to[1]); /* or it would outlive a parent that gives up */
        close(from[0]);
        if (write(from[1], &say, 1) != 1 || read(to[0], &ms, sizeof ms) != sizeof ms)
            _exit(1);
        usleep(ms * 1000);
        _exit(netring_xdp_close(xdp) != 0);
    }
    holder.say = to[1];
    holder.hear = from[0];
    close(to[0]);
    close(from[1]);
    if (holder.pid < 0 || read(holder.hear, &byte, 1) != 1 || byte != 'o')
        tap_bail("another process has no queue");
    return holder;
}

/* It closes after so long. */
static void holder_close(struct holder *holder, unsigned ms)
{
    if (write(holder->say, &ms, sizeof ms) != sizeof ms)
        tap_bail("telling the holder");
}

static int holder_end(struct holder *holder)
{
    int status = -1;

    waitpid(holder->pid, &status, 0);
    close(holder->say);
    close(holder->hear);
    return status;
}

static void test_contention(void)
{
    const uint32_t first = 0, second = 1;
    struct netring_xdp_config config = queue_only(), patient = config;
    struct holder holder;
    struct xdp_one a;
    struct netring_xdp *xdp;
    int64_t start;
    char number[16];

    holder = holder_start("qa", &first, &config);
    config.flags |= NETRING_XDP_NO_RETRY;
    snprintf(number, sizeof number, "queue 0");
    start = now_ms();
    xdp_open_fails("a queue in use", "qa", &first, 1, &config,
                   &(struct failure){NETRING_EBUSY, EBUSY, "queue", {number, "qa"}});
    xdp_open_fails("two queues, one in use", "qa", (const uint32_t[]){1, 0}, 2, &config,
                   &(struct failure){NETRING_EBUSY, EBUSY, "queue", {number, "qa"}});
    is_between(now_ms() - start, 0, tap_patience(3000), "without another try, at once");
    xdp = xdp_open("qa", &second, 1, &patient);
    xdp_close(xdp);
    ok(true, "the other queue is free");
    patient.bind_timeout = 100;
    start = now_ms();
    xdp_open_fails("a queue in use for longer", "qa", &first, 1, &patient,
                   &(struct failure){NETRING_EBUSY, EBUSY, "queue", {number, "qa"}});
    is_between(now_ms() - start, 199, tap_patience(3000), "after 100 ms, twice");
    /* By the same process, as well. */
    a = xdp_one("qb", &patient);
    xdp_open_fails("a queue of one's own", "qb", &first, 1, &config,
                   &(struct failure){NETRING_EBUSY, EBUSY, "queue", {number, "qb"}});
    xdp_close(a.xdp);
    /* In use, and closed while it is waited for. */
    patient.bind_timeout = (uint32_t)tap_patience(5000);
    holder_close(&holder, 200);
    start = now_ms();
    a = xdp_one("qa", &patient);
    is_between(now_ms() - start, 100, tap_patience(4000), "closed by its holder in the meantime");
    is_int(holder_end(&holder), 0, "who has closed it");
    xdp_close(a.xdp);
    /* Closed, and opened at once, again and again: the kernel takes its time. */
    start = now_ms();
    patient.bind_timeout = 0;
    for (int i = 0; i < 10; i++) {
        a = xdp_one("qa", &patient);
        xdp_close(a.xdp);
    }
    ok(true, "reopened 10 times, %lld ms each", (long long)(now_ms() - start) / 10);
}

/* Sockets that were handed over wait, too, and it is they that get the queue. */
static void test_adopted(void)
{
    const uint32_t first = 0;
    struct netring_xdp_config config = queue_only(), adopting = xdp_config(0, NETRING_MODE_COPY);
    struct holder holder = holder_start("qa", &first, &config);
    int map = xdp_map(1), fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), rc;
    struct netring_xdp *xdp = NULL;
    struct netring_error error;

    adopting.rx_frames = adopting.tx_frames = 64;
    adopting.flags |= NETRING_XDP_MAP_FD;
    adopting.map_fd = map;
    adopting.bind_timeout = (uint32_t)tap_patience(5000);
    holder_close(&holder, 200);
    rc = netring_xdp_adopt("qa", &first, &fd, 1, &adopting, &xdp, &error);
    is_int(rc, 0, "a socket that was handed over gets the queue in the end: %s", error.message);
    is_int(holder_end(&holder), 0, "who had it has closed it");
    /* A socket that is not bound says ENXIO. */
    rc = (int)sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
    ok(rc == 0 || errno != ENXIO, "and no other: %s", rc == 0 ? "bound" : strerror(errno));
    xdp_close(xdp);
    close(fd);
    close(map);
}

static void test_kill(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct holder holder = holder_start("va", NULL, &config);
    int sender = net_sender("vb");
    struct xdp_one a;
    uint32_t id = xdp_attached("va").id;
    char text[32];

    ok(id != 0, "%s: another process has a program", mode->name);
    snprintf(text, sizeof text, "program %u", id);
    xdp_open_fails("its program", "va", NULL, 0, &config,
                   &(struct failure){NETRING_EBUSY, EBUSY, "program", {text, "va"}});
    send_stream(sender, 0, 100);
    kill(holder.pid, SIGKILL);
    is_int(holder_end(&holder), SIGKILL, "%s: it is killed", mode->name);
    xdp_is_detached("va", mode->name);
    a = xdp_one("va", &config);
    send_stream(sender, 0, 100);
    queue_is_stream(a.queue, 0, 100, "after the kill");
    xdp_close(a.xdp);
    close(sender);
}

/* A fork without exec: the child's handles are stale, and its exit takes nothing away. */
/* ---- a step down ---- */

/* No interface here has zero-copy. The library binds through bind(2): while this is on, the queues
 * below this one have it, though what they get is copied, and the others have not. */
static uint32_t zero_copy_queues; /* 0: off */

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    struct sockaddr_xdp to;

    if (zero_copy_queues && length == sizeof to && address->sa_family == AF_XDP) {
        memcpy(&to, address, sizeof to);
        if ((to.sxdp_flags & XDP_ZEROCOPY) && to.sxdp_queue_id >= zero_copy_queues) {
            errno = EOPNOTSUPP;
            return -1;
        }
        if (to.sxdp_flags & XDP_ZEROCOPY)
            to.sxdp_flags ^= XDP_ZEROCOPY | XDP_COPY;
        return (int)syscall(SYS_bind, fd, &to, sizeof to);
    }
    return (int)syscall(SYS_bind, fd, address, length);
}

/* Where a later queue has no zero-copy, the earlier ones are closed and opened again without. Who
 * does not want to wait for others does not get in his own way by it. */
static void test_step_down(bool shared)
{
    const char *what = shared ? "a step down, one UMEM" : "a step down";
    struct netring_xdp_config config = queue_only();
    struct netring_umem_config memory;
    struct netring_umem *umem = NULL;
    struct netring_xdp_step step;
    struct footprint before = footprint_now();
    struct netring_xdp *xdp;

    config.mode = NETRING_MODE_AUTO;
    config.flags |= NETRING_XDP_NO_RETRY;
    if (shared) {
        /* There are no other frames than those that the first try had. */
        netring_umem_config_init(&memory, sizeof memory);
        memory.frame_size = config.frame_size;
        memory.frame_count = 2 * (config.rx_frames + config.tx_frames);
        if (netring_umem_new(&memory, &umem, NULL) != 0)
            tap_bail("netring_umem_new");
        config.umem = umem;
    }
    net_veth_queues("sa", "sb", 2);
    zero_copy_queues = 1;
    xdp = xdp_open("sa", NULL, 0, &config);
    zero_copy_queues = 0;
    is_int(xdp_info(xdp).mode, NETRING_MODE_COPY, "%s: granted", what);
    is_int(xdp_info(xdp).queue_count, 2, "%s: queues", what);
    is_int(netring_xdp_steps(xdp, &step, sizeof step, 1), 1, "%s: it is told", what);
    ok(step.mode == NETRING_MODE_ZEROCOPY && strstr(step.message, "queue 1"), "%s: because: %s",
       what, step.message);
    /* That of somebody else is not waited for. */
    config.umem = NULL;
    xdp_open_fails("a queue of somebody else, not tried again", "sa", NULL, 0, &config,
                   &(struct failure){NETRING_EBUSY, EBUSY, "queue", {"queue 0"}});
    xdp_close(xdp);
    if (umem)
        netring_umem_free(umem);
    net_link_delete("sa");
    is_footprint(before, what);
}

static struct netring_block *held;

static void in_child(void *user)
{
    struct xdp_one *a = user;
    struct netring_packet packet;
    struct netring_block *block;
    struct netring_slot slot;

    is_int(netring_queue_next_block(a->queue, 0, &block), NETRING_EBADF, "a child: next_block");
    is_int(netring_queue_reserve(a->queue, &slot, sizeof slot, 1, 0), NETRING_EBADF,
           "a child: reserve");
    is_int(netring_block_read(held, &packet, sizeof packet, 1), NETRING_EBADF, "a child: read");
    is_int(netring_block_release(held), NETRING_EBADF, "a child: release");
    is_int(netring_xdp_close(a->xdp), NETRING_EBADF, "a child: close");
}

static void test_fork(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    struct xdp_one a = xdp_one("va", &config);
    int sender = net_sender("vb");

    send_stream(sender, 0, 10);
    queue_await(a.queue, 10);
    held = queue_block(a.queue, 10);
    child_run("a child", in_child, &a);
    send_stream(sender, 10, 200);
    queue_is_stream(a.queue, 10, 200, "the parent");
    is_int(netring_block_release(held), 0, "the parent: release");
    queue_is_idle(a.queue, "the parent");
    xdp_close(a.xdp);
    close(sender);
}

/* A callback that forks, and returns in the child, too: what that has of the queue is not there. */
struct forking {
    struct xdp_one one;
    pid_t child;
    int calls, status;
};

static int forks(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    struct forking *forking = user;

    (void)packets, (void)count, (void)size;
    if (forking->calls++ > 0)
        return 0;
    fflush(stdout);
    forking->child = fork();
    if (forking->child != 0)
        waitpid(forking->child, &forking->status, 0);
    return 0;
}

static void test_fork_in_dispatch(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    struct forking forking = {.one = xdp_one("va", &config), .status = -1};
    int sender = net_sender("vb"), rc;

    send_stream(sender, 0, 100);
    queue_await(forking.one.queue, 100);
    rc = netring_queue_dispatch(forking.one.queue, 0, 0, forks, &forking);
    if (forking.child == 0)
        _exit(rc <= 0 ||
              netring_queue_dispatch(forking.one.queue, 0, 0, forks, &forking) != NETRING_EBADF);
    is_int(forking.status, 0, "fork in dispatch: the child's ends after the callback");
    while (rc > 0 && rc < 100) {
        int more = netring_queue_dispatch(forking.one.queue, 0, 0, forks, &forking);

        if (more <= 0)
            break;
        rc += more;
    }
    is_int(rc, 100, "fork in dispatch: the parent goes on");
    queue_is_empty(forking.one.queue, "fork in dispatch");
    queue_is_idle(forking.one.queue, "fork in dispatch");
    send_stream(sender, 0, 200);
    queue_is_stream(forking.one.queue, 0, 200, "after a fork in dispatch");
    xdp_close(forking.one.xdp);
    close(sender);
}

/* ---- programs of somebody else ---- */

static void test_foreign(void)
{
    int program = xdp_pass_program();
    char text[32];

    snprintf(text, sizeof text, "program %u", xdp_program_id(program));
    for (int theirs = 0; theirs < 2; theirs++) {
        int link = xdp_attach(program, "va", theirs == 0);

        if (link < 0)
            tap_bail("attaching: %s", strerror(errno));
        for (int i = 0; i < 3; i++) {
            static const uint32_t modes[] = {NETRING_MODE_AUTO, NETRING_MODE_COPY,
                                             NETRING_MODE_SKB};
            struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, modes[i]);
            struct netring_xdp *xdp = NULL;
            struct netring_error error;
            int rc = netring_xdp_open("va", NULL, 0, &config, &xdp, &error);

            ok(rc == NETRING_EBUSY && xdp == NULL, "a %s program: mode %u: %s",
               theirs ? "SKB" : "native", modes[i], netring_err_name(rc));
            is_str(error.option, "program", "which it names");
            is_str_contains(error.message, text, "by its number");
            is_int(xdp_attached("va").id, xdp_program_id(program), "it is as it was");
            ok(xdp_attached("va").native == !theirs, "where it was");
            if (rc == 0)
                xdp_close(xdp);
        }
        /* Who needs none of its own is not in its way. */
        {
            struct netring_xdp_config config = queue_only();
            struct xdp_one a = xdp_one("va", &config);

            is_int(xdp_attached("va").id, xdp_program_id(program), "beside it");
            xdp_close(a.xdp);
            is_int(xdp_attached("va").id, xdp_program_id(program), "and after");
        }
        close(link);
        xdp_is_detached("va", "theirs");
    }
    close(program);
}

/* The kernel lets no program be below another one. */
static void test_above(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, NETRING_MODE_AUTO);
    int program = xdp_pass_program(), link;

    if (!xdp_kernel(5, 15)) {
        tap_skip("a program above", "before Linux 5.15 it is in nobody's way");
        close(program);
        return;
    }
    net_veth("ua", "ub");
    if (!net_link_new("um", "macvlan", "ua")) {
        tap_skip("a program above", "no macvlan in this kernel");
        net_link_delete("ua");
        close(program);
        return;
    }
    link = xdp_attach(program, "um", false);
    for (uint32_t mode = NETRING_MODE_AUTO; mode <= NETRING_MODE_SKB; mode++) {
        config.mode = mode;
        xdp_open_fails(
            "a program above", "ua", NULL, 0, &config,
            &(struct failure){NETRING_EBUSY, EEXIST, "program", {"above ua", "macvlan"}});
    }
    close(link), close(program);
    xdp_close(xdp_one("ua", &config).xdp);
    net_link_delete("ua");
}

/* And who comes later does not replace the library's. */
static void test_later(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    struct xdp_one a = xdp_one("va", &config);
    int program = xdp_pass_program(), sender = net_sender("vb");

    is_int(xdp_attach(program, "va", true), -1, "another link");
    is_int(errno, EBUSY, "is busy");
    is_int(xdp_attach(program, "va", false), -1, "another mode");
    send_stream(sender, 0, 20);
    queue_is_stream(a.queue, 0, 20, "the library's stays");
    xdp_close(a.xdp);
    close(program);
    close(sender);
}

/* ---- links ---- */

static void test_down_and_up(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct xdp_one a = xdp_one("va", &config);
    int sender = net_sender("vb");
    struct netring_block *held;

    send_stream(sender, 0, 10);
    queue_await(a.queue, 10);
    held = queue_block(a.queue, 10);
    for (uint32_t i = 0; i < 3; i++) {
        net_link_up("va", false);
        queue_is_empty(a.queue, "down");
        net_link_up("va", true);
        net_await_carrier("va");
        net_await_carrier("vb");
        close(sender);
        sender = net_sender("vb");
        send_stream(sender, 100 * i, 100);
        queue_is_stream(a.queue, 100 * i, 100, "up again");
    }
    is_int(netring_block_release(held), 0, "%s: what was held", mode->name);
    send_stream(sender, 0, XDP_RX_FRAMES / 2);
    queue_is_stream(a.queue, 0, XDP_RX_FRAMES / 2, "all as before");
    queue_is_idle(a.queue, mode->name);
    queue_adds_up(a.queue, mode->name);
    xdp_close(a.xdp);
    close(sender);
    /* Opened while it is down. */
    net_link_up("va", false);
    a = xdp_one("va", &config);
    queue_is_empty(a.queue, "opened while it is down");
    net_link_up("va", true);
    net_await_carrier("va");
    net_await_carrier("vb");
    sender = net_sender("vb");
    send_stream(sender, 0, 100);
    queue_is_stream(a.queue, 0, 100, "opened while it was down");
    xdp_close(a.xdp);
    close(sender);
}

/* Traffic both ways without end, until the interface is away. */
struct load {
    struct netring_queue *queue;
    int stop; /* atomic */
    int received, sent, rc, sent_rc;
    pthread_t receiver, sender;
};

static void *receives(void *user)
{
    struct load *load = user;
    struct netring_block *block;

    while ((load->rc = netring_queue_next_block(load->queue, -1, &block)) == 1) {
        load->received++;
        netring_block_release(block);
    }
    return NULL;
}

static void *sends(void *user)
{
    struct load *load = user;

    while (!__atomic_load_n(&load->stop, __ATOMIC_ACQUIRE)) {
        struct netring_slot slots[8];
        int got = netring_queue_reserve(load->queue, slots, sizeof *slots, COUNT(slots), 100);

        load->sent_rc = got;
        if (got == NETRING_ENETDOWN) { /* on its way out it is down first */
            usleep(1000);
            continue;
        }
        if (got < 0)
            break;
        for (int i = 0; i < got; i++) {
            numbered_make(slots[i].data, 60, (uint32_t)load->sent++, false);
            slots[i].len = 60;
        }
        netring_queue_commit(load->queue, slots, sizeof *slots, (size_t)got);
        load->sent_rc = netring_queue_flush(load->queue);
        if (load->sent_rc < 0 && load->sent_rc != NETRING_ENETDOWN)
            break;
        usleep(50);
    }
    return NULL;
}

static void deletes(int other)
{
    (void)other;
    net_link_delete("ga");
}

static void moves(int other)
{
    net_link_move("ga", other);
}

static void test_away(const struct xdp_mode *mode, const char *what, void (*away)(int), int other)
{
    struct footprint before = footprint_now();
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct load load = {0};
    struct xdp_one a, b;
    struct netring_block *block, *held;
    uint8_t frame[60];
    int sender, rc;
    int64_t start;

    config.block_timeout_us = mode->mode == NETRING_MODE_SKB ? 100 : 0; /* both ways to wait */
    net_veth("ga", "gb");
    net_await_carrier("ga");
    a = xdp_one("ga", &config);
    b = xdp_one("gb", &config);
    sender = net_sender("gb");
    send_stream(sender, 0, 10);
    queue_await(a.queue, 10);
    held = queue_block(a.queue, 10);
    load.queue = a.queue;
    pthread_create(&load.receiver, NULL, receives, &load);
    pthread_create(&load.sender, NULL, sends, &load);
    numbered_make(frame, sizeof frame, 1, false);
    for (int i = 0; i < 200; i++) {
        send(sender, frame, sizeof frame, 0);
        usleep(100);
    }
    start = now_ms();
    away(other);
    pthread_join(load.receiver, NULL);
    is_int(load.rc, NETRING_ENODEV, "%s, %s: a wait ends (%d blocks)", mode->name, what,
           load.received);
    is_between(now_ms() - start, 0, tap_patience(5000), "%s, %s: soon", mode->name, what);
    pthread_join(load.sender, NULL);
    is_int(load.sent_rc, NETRING_ENODEV, "%s, %s: sending ends (%d frames)", mode->name, what,
           load.sent);
    is_int(netring_queue_next_block(a.queue, 0, &block), NETRING_ENODEV, "%s, %s: so it remains",
           mode->name, what);
    {
        struct netring_packet packet;
        bool same =
            netring_block_read(held, &packet, sizeof packet, 1) == 1 && !not_of_stream(&packet, 0);

        ok(same, "%s, %s: what is held is there", mode->name, what);
    }
    is_int(netring_block_release(held), 0, "%s, %s: and released", mode->name, what);
    rc = netring_xdp_close(a.xdp);
    ok(rc >= 0, "%s, %s: close: %d", mode->name, what, rc);
    rc = netring_xdp_close(b.xdp);
    ok(rc >= 0, "%s, %s: its peer, close: %d", mode->name, what, rc);
    close(sender);
    if (away == moves)
        net_link_delete("gb");
    is_footprint(before, what);
}

/* Opened in another network namespace; wakes and works from here. */
static void test_elsewhere(int other)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    int own = net_namespace(), sender;
    struct netring_filter *filter = NULL;
    struct xdp_one a;

    net_veth("na", "nb");
    net_link_move("nb", other);
    net_namespace_enter(other);
    net_link_up("nb", true);
    net_namespace_enter(own);
    net_await_carrier("na");
    config.flags |= NETRING_XDP_NETNS_FD;
    config.netns_fd = other;
    a = xdp_one("nb", &config);
    sender = net_sender("na");
    send_stream(sender, 0, 50);
    queue_is_stream(a.queue, 0, 50, "elsewhere");
    is_int(netring_xdp_set_filter(a.xdp, NETRING_REDIRECT_NONE, filter, NULL), 0,
           "changed from here");
    send_stream(sender, 0, 50);
    queue_is_empty(a.queue, "elsewhere, nothing redirected");
    xdp_close(a.xdp);
    net_namespace_enter(other);
    xdp_is_detached("nb", "elsewhere");
    net_namespace_enter(own);
    net_link_delete("na");
    close(sender);
    close(own);
}

int main(void)
{
    struct footprint before;
    int other;

    tap_begin(100);
    xdp_enter();
    net_veth("va", "vb");
    net_veth_queues("qa", "qb", 2);
    other = net_namespace_new();
    before = footprint_now();
    test_contention();
    test_step_down(false);
    test_step_down(true);
    test_adopted();
    test_foreign();
    test_above();
    test_later();
    test_fork();
    test_fork_in_dispatch();
    test_elsewhere(other);
    for (size_t i = 0; i < COUNT(xdp_modes); i++) {
        test_kill(&xdp_modes[i]);
        test_down_and_up(&xdp_modes[i]);
        test_away(&xdp_modes[i], "deleted", deletes, other);
        test_away(&xdp_modes[i], "moved", moves, other);
    }
    is_footprint(before, "all of it");
    return tap_end();
}
