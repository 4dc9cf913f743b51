/* Every system call that a call on an xdp or a queue makes, refused in turn, with errnos that
 * matter. What must hold after each: the documented code or success; nothing half-open, nothing
 * leaked, no program left on the interface; and the next call works: frames go both ways, each
 * once.
 *
 * no-valgrind: its own system calls would be refused too
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "faults.h"
#include "xdp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

enum { FRAMES = 10 };

/* Taken in turn: a queue stays in use for a while after its socket was closed. */
static struct pair {
    char near[8], far[8];
    struct sink sink;
    int sender;
} pairs[4], *pair = pairs;

static const int errors[] = {EPERM, ENOMEM, EINTR, EAGAIN, ENOBUFS, EIO, EINVAL, ENETDOWN};

struct calling {
    struct netring_xdp_config config;
    struct xdp_one one;
    struct netring_error error;
    int rc, error_number;
    uint64_t told; /* results so far */
};

static const char *left(struct footprint before, bool attached)
{
    struct footprint now = footprint_now();

    return now.descriptors != before.descriptors            ? "a descriptor is left"
           : now.mappings != before.mappings                ? "a mapping is left"
           : (xdp_attached(pair->near).id != 0) != attached ? "the program is not as it was"
                                                            : NULL;
}

/* NULL, or what is wrong: frames go out and come in. */
static const char *works(struct calling *c)
{
    struct netring_injector_stats sent;
    struct netring_queue *queue = c->one.queue;
    struct records got = {0};
    const char *wrong = NULL;

    queue_commit_stream(queue, 0, FRAMES);
    if (netring_queue_drain(queue, (int)tap_patience(3000)) != 1)
        return "it does not drain";
    for (uint32_t i = 0; i < FRAMES; i++) {
        if (sink_next(&pair->sink, (int)tap_patience(1000)) != stream_frame(i).length)
            return "a frame is missing, or another";
    }
    if (sink_next(&pair->sink, 0) != 0)
        return "there are more frames than were sent";
    sent = queue_sent(queue);
    if (not_adding_up(&sent))
        return not_adding_up(&sent);
    send_stream(pair->sender, 0, FRAMES);
    queue_receive(queue, FRAMES, 1000, &got);
    if (got.count != FRAMES)
        wrong = "a packet is missing";
    for (uint32_t i = 0; !wrong && i < FRAMES; i++)
        wrong = not_of_stream(&got.v[i].packet, i);
    records_free(&got);
    return wrong;
}

/* ---- open ---- */

static void opens(void *user)
{
    struct calling *c = user;
    const uint32_t first = 0;

    c->one.xdp = NULL;
    error_spoil(&c->error);
    errno = 0;
    c->rc = netring_xdp_open(pair->near, &first, 1, &c->config, &c->one.xdp, &c->error);
    c->error_number = errno;
}

static const char *open_is_wrong(const struct injection *injection, struct calling *c,
                                 struct footprint before)
{
    const char *wrong = NULL;

    if (c->rc == 0) {
        c->one.queue = xdp_queue(c->one.xdp, 0);
        wrong = c->error_number != 0 ? "errno is set on success" : works(c);
        netring_xdp_close(c->one.xdp);
    } else if (c->one.xdp) {
        wrong = "a handle is given out";
    } else if (c->error.code != c->rc || c->error.os_errno != injection->error ||
               c->error_number != injection->error) {
        wrong = "errno is not the call's";
    } else if (!c->error.option[0] || !c->error.message[0]) {
        wrong = "it does not say what failed";
    }
    return wrong ? wrong : left(before, false);
}

/* Calls that make something. */
static bool is_step(int number)
{
    return number == SYS_socket || number == SYS_setsockopt || number == SYS_bind ||
           number == SYS_mmap || number == SYS_bpf || number == SYS_epoll_create1 ||
           number == SYS_eventfd2;
}

static bool test_open(const struct xdp_mode *mode)
{
    struct calling c = {.config = xdp_config(NETRING_REDIRECT_ALL, mode->mode)};
    struct injection injection = {.job = opens, .user = &c, .at = -1};
    struct footprint before = footprint_now();
    int calls, failures = 0;
    bool slow = tap_patience(1) > 1;
    size_t turn = 0;

    c.config.rx_frames = c.config.tx_frames = 64;
    if (!inject(&injection)) {
        tap_skip("a failing system call", "no seccomp listener here");
        return false;
    }
    calls = injection.calls;
    if (c.rc != 0 || calls > (int)COUNT(injection.numbers))
        tap_bail("open: %s, after %d calls", netring_err_name(c.rc), calls);
    xdp_close(c.one.xdp);
    for (int at = 0; at < calls; at++) {
        for (size_t i = 0; i < 3; i++) {
            const char *wrong;

            /* One errno for those that only ask, and in SKB mode, which differs in little. */
            if ((!is_step(injection.numbers[at]) || mode->mode == NETRING_MODE_SKB) &&
                (i != (size_t)at % 3 || (slow && at % 4 != 0)))
                continue;
            pair = &pairs[turn++ % COUNT(pairs)];
            injection.at = at;
            injection.error = errors[i];
            inject(&injection);
            failures += c.rc != 0;
            wrong = open_is_wrong(&injection, &c, before);
            ok(!wrong, "%s: open, call %d of %d (%s) fails with %s: %s %s", mode->name, at + 1,
               calls, call_name(&injection.failed), strerror(errors[i]), netring_err_name(c.rc),
               c.rc ? c.error.option : "");
            if (wrong)
                tap_diag("  %s: %s", wrong, c.rc ? c.error.message : "");
        }
    }
    ok(calls > 20 && failures > (slow ? 5 : 20),
       "%s: open makes %d system calls; %d failures are told", mode->name, calls, failures);
    return true;
}

/* ---- the others ---- */

static void flushes(void *user)
{
    struct calling *c = user;

    queue_commit_stream(c->one.queue, 0, FRAMES);
    errno = 0;
    c->rc = netring_queue_flush(c->one.queue);
    c->error_number = errno;
}

static void drains_it(void *user)
{
    struct calling *c = user;

    queue_commit_stream(c->one.queue, 0, FRAMES);
    errno = 0;
    c->rc = netring_queue_drain(c->one.queue, 30);
    c->error_number = errno;
}

static void waits(void *user)
{
    struct calling *c = user;
    struct netring_block *block;

    errno = 0;
    c->rc = netring_queue_next_block(c->one.queue, 20, &block);
    c->error_number = errno;
    if (c->rc == 1)
        netring_block_release(block);
}

static void reads_stats(void *user)
{
    struct calling *c = user;
    struct netring_stats stats;
    struct netring_xdp_counters counters;

    errno = 0;
    c->rc = netring_queue_stats(c->one.queue, &stats, sizeof stats);
    if (c->rc == 0)
        c->rc = netring_queue_counters(c->one.queue, &counters, sizeof counters);
    c->error_number = errno;
}

static void reads_info(void *user)
{
    struct calling *c = user;
    struct netring_xdp_info info;
    struct netring_queue_info queue;

    errno = 0;
    c->rc = netring_xdp_info(c->one.xdp, &info, sizeof info);
    if (c->rc == 0)
        c->rc = netring_queue_info(c->one.queue, &queue, sizeof queue);
    c->error_number = errno;
}

static void changes(void *user)
{
    struct calling *c = user;

    errno = 0;
    c->rc = netring_xdp_set_filter(c->one.xdp, NETRING_REDIRECT_ALL, NULL, NULL);
    c->error_number = errno;
}

static void wakes(void *user)
{
    struct calling *c = user;

    errno = 0;
    c->rc = netring_queue_wakeup(c->one.queue);
    if (c->rc == 0)
        c->rc = netring_queue_wakeup_clear(c->one.queue);
    c->error_number = errno;
}

static const struct {
    const char *name;
    void (*job)(void *user);
    bool sends;
} jobs[] = {
    {"flush", flushes, true},      {"drain", drains_it, true},  {"next_block", waits, false},
    {"stats", reads_stats, false}, {"info", reads_info, false}, {"set_filter", changes, false},
    {"wakeup", wakes, false},
};

/* NULL, or what is wrong after the call: what was committed is on its way, once. */
static const char *call_is_wrong(struct calling *c, bool sends)
{
    struct netring_result results[FRAMES];
    uint32_t arrived = 0;
    int told;

    if (c->rc >= 0 && c->error_number != 0)
        return "errno is set on success";
    if (c->rc < 0 && c->error_number == 0)
        return "errno is not set";
    if (sends) {
        if (netring_queue_drain(c->one.queue, (int)tap_patience(3000)) != 1)
            return "it does not drain";
        told = netring_queue_results(c->one.queue, results, sizeof *results, COUNT(results));
        while (arrived + (uint32_t)told < FRAMES &&
               sink_next(&pair->sink, (int)tap_patience(1000)) != 0)
            arrived++;
        if (arrived + (uint32_t)told != FRAMES)
            return "a frame is lost";
    }
    netring_queue_wakeup_clear(c->one.queue);
    return works(c);
}

static void test_calls(const struct xdp_mode *mode)
{
    struct calling c = {.config = xdp_config(NETRING_REDIRECT_ALL, mode->mode)};
    struct footprint before;
    int failures = 0;

    c.config.rx_frames = c.config.tx_frames = 64;
    c.config.block_timeout_us = mode->mode == NETRING_MODE_SKB ? 100 : 0; /* both ways to wait */
    c.one = xdp_one(pair->near, &c.config);
    before = footprint_now();
    for (size_t job = 0; job < COUNT(jobs); job++) {
        struct injection injection = {.job = jobs[job].job, .user = &c, .at = -1};
        int calls;
        const char *wrong;

        inject(&injection);
        calls = injection.calls;
        wrong = call_is_wrong(&c, jobs[job].sends);
        ok(!wrong, "%s: %s makes %d system calls: %s", mode->name, jobs[job].name, calls,
           wrong ? wrong : netring_err_name(c.rc));
        for (int at = 0; at < calls && at < 40; at++) {
            for (size_t i = 0; i < COUNT(errors); i++) {
                injection.at = at;
                injection.error = errors[i];
                inject(&injection);
                failures += c.rc < 0;
                wrong = call_is_wrong(&c, jobs[job].sends);
                wrong = wrong ? wrong : left(before, true);
                ok(!wrong, "%s: %s, call %d of %d (%s) fails with %s: %s", mode->name,
                   jobs[job].name, at + 1, calls, call_name(&injection.failed), strerror(errors[i]),
                   c.rc < 0 ? netring_err_name(c.rc) : "done");
                if (wrong)
                    tap_diag("  %s", wrong);
            }
        }
    }
    ok(failures > 5, "%s: %d failures are told", mode->name, failures);
    queue_drains(c.one.queue, mode->name);
    queue_is_idle(c.one.queue, mode->name);
    xdp_close(c.one.xdp);
    xdp_is_detached(pair->near, mode->name);
}

int main(void)
{
    struct footprint before;

    tap_begin(100);
    xdp_enter();
    for (size_t i = 0; i < COUNT(pairs); i++) {
        snprintf(pairs[i].near, sizeof pairs[i].near, "va%zu", i);
        snprintf(pairs[i].far, sizeof pairs[i].far, "vb%zu", i);
        net_veth(pairs[i].near, pairs[i].far);
        sink_open(&pairs[i].sink, pairs[i].far);
        pairs[i].sender = net_sender(pairs[i].far);
    }
    before = footprint_now();
    for (size_t i = 0; i < COUNT(xdp_modes); i++) {
        if (test_open(&xdp_modes[i]))
            test_calls(&xdp_modes[i]);
    }
    is_footprint(before, "all of it");
    return tap_end();
}
