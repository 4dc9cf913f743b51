/* Every system call that a call on an injector makes, refused in turn, with each of the errnos that
 * matter. What must hold after each: the documented code or success; nothing half-open, nothing
 * leaked; and the next call works: every frame then arrives or is in the results, in order, once.
 *
 * no-valgrind: its own system calls would be refused too
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "faults.h"
#include "inject.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

enum { SLOTS = 64, FRAMES = 10, LENGTH = 100 };

static struct sink sink; /* at vb */

static const int errors[] = {EPERM, ENOMEM, EINTR, EAGAIN, ENOBUFS, EIO, EINVAL, ENETDOWN};

struct calling {
    struct netring_injector_config config;
    struct netring_injector *injector;
    struct netring_error error;
    int rc, error_number;
    uint64_t first;   /* cookie of the first frame */
    uint64_t refused; /* so far */
    struct netring_slot others[SLOTS];
    size_t other_count;
};

static void commits(struct calling *c)
{
    struct netring_slot slots[FRAMES];

    must_reserve(c->injector, slots, FRAMES);
    for (uint32_t i = 0; i < FRAMES; i++) {
        numbered_make(slots[i].data, LENGTH, i, false);
        slots[i].len = LENGTH;
    }
    must_commit(c->injector, slots, FRAMES);
    c->first = slots[0].cookie;
}

/* NULL, or what is wrong: the frames have arrived or are refused, in order, once. */
static const char *all_told(struct calling *c)
{
    struct netring_injector_stats stats;
    struct netring_result results[FRAMES + 1];
    int told = netring_injector_results(c->injector, results, sizeof *results, COUNT(results));
    int at = 0;

    for (uint32_t i = 0; i < FRAMES; i++) {
        if (at < told && results[at].cookie == c->first + i) {
            if (results[at].code >= 0)
                return "a result without a code";
            at++;
            continue;
        }
        if (sink_next(&sink, (int)tap_patience(1000)) != LENGTH)
            return "a frame is missing";
        if (numbered_number(sink.frame) != i)
            return "a frame is out of order, or there twice";
    }
    if (at != told)
        return "results of no frame";
    if (sink_next(&sink, 0) != 0)
        return "there are more frames than were sent";
    stats = injector_stats(c->injector);
    if (not_adding_up(&stats))
        return not_adding_up(&stats);
    c->refused += (uint64_t)told;
    if (stats.refused != c->refused || stats.handed + stats.refused != stats.committed)
        return "the counters are of something else";
    return NULL;
}

static const char *works(struct calling *c)
{
    commits(c);
    if (netring_injector_drain(c->injector, (int)tap_patience(3000)) != 1)
        return "it does not drain";
    return all_told(c);
}

/* ---- open ---- */

static void opens(void *user)
{
    struct calling *c = user;

    c->injector = NULL;
    error_spoil(&c->error);
    errno = 0;
    c->rc = netring_injector_open("va", &c->config, &c->injector, &c->error);
    c->error_number = errno;
}

static const char *open_is_wrong(const struct injection *injection, struct calling *c,
                                 const struct holdings *before)
{
    const char *wrong = NULL;

    if (c->rc == 0) {
        if (c->error_number != 0)
            wrong = "errno is set on success";
        else
            wrong = works(c);
        netring_injector_close(c->injector);
    } else if (c->injector) {
        wrong = "a handle is given out";
    } else if (c->error.code != c->rc || c->error.os_errno != injection->error ||
               c->error_number != injection->error) {
        wrong = "errno is not the call's";
    } else if (!c->error.option[0] || !c->error.message[0]) {
        wrong = "it does not say what failed";
    }
    return wrong ? wrong : what_is_left(before);
}

static bool test_open(const struct method *method)
{
    struct calling c = {.config = inject_config(method->method, SLOTS)};
    struct injection injection = {.job = opens, .user = &c, .at = -1};
    struct holdings before = holdings_now(NULL);
    int calls, failures = 0;

    c.config.flags |= NETRING_INJECTOR_QDISC_BYPASS;
    if (!inject(&injection)) {
        tap_skip("a failing system call", "no seccomp listener here");
        return false;
    }
    calls = injection.calls;
    if (c.rc != 0 || calls > (int)COUNT(injection.numbers))
        tap_bail("open: %s, after %d calls", netring_err_name(c.rc), calls);
    netring_injector_close(c.injector);
    for (int at = 0; at < calls; at++) {
        for (size_t i = 0; i < 3; i++) {
            const char *wrong;

            /* Half of all calls read /proc, one line at a time: one errno for each of them. */
            if ((injection.numbers[at] == SYS_read || injection.numbers[at] == SYS_openat) &&
                i != (size_t)at % 3)
                continue;
            injection.at = at;
            injection.error = errors[i];
            inject(&injection);
            failures += c.rc != 0;
            wrong = open_is_wrong(&injection, &c, &before);
            ok(!wrong, "%s: open, call %d of %d (%s) fails with %s: %s %s", method->name, at + 1,
               calls, call_name(&injection.failed), strerror(errors[i]), netring_err_name(c.rc),
               c.rc ? c.error.option : "");
            if (wrong)
                tap_diag("  %s", wrong);
        }
    }
    ok(calls > 10 && failures > 20, "%s: open makes %d system calls; %d failures are told",
       method->name, calls, failures);
    return true;
}

/* ---- the others ---- */

static void ends(struct calling *c, int rc)
{
    c->rc = rc;
    c->error_number = errno;
}

static void flushes(void *user)
{
    struct calling *c = user;

    errno = 0;
    ends(c, netring_injector_flush(c->injector));
}

static void drains_it(void *user)
{
    struct calling *c = user;

    errno = 0;
    ends(c, netring_injector_drain(c->injector, 30));
}

/* The frames have the last slots: there is one to be had once they have left. */
static void reserves(void *user)
{
    struct calling *c = user;
    struct netring_slot slot;

    errno = 0;
    ends(c, netring_injector_reserve(c->injector, &slot, sizeof slot, 1, 30));
    if (c->rc > 0)
        c->others[c->other_count++] = slot;
}

static void reads_stats(void *user)
{
    struct calling *c = user;
    struct netring_injector_stats stats;

    errno = 0;
    ends(c, netring_injector_stats(c->injector, &stats, sizeof stats));
}

static void reads_info(void *user)
{
    struct calling *c = user;
    struct netring_injector_info info;

    errno = 0;
    ends(c, netring_injector_info(c->injector, &info, sizeof info));
}

static void must_reserve_all(struct calling *c)
{
    if (c->other_count > 0)
        must_reserve(c->injector, c->others, c->other_count);
}

static void discard_all(struct calling *c)
{
    for (size_t i = 0; i < c->other_count; i++)
        c->others[i].len = 0;
    if (c->other_count > 0)
        must_commit(c->injector, c->others, c->other_count);
    c->other_count = 0;
}

static void test_call(const struct method *method, const char *name, void (*job)(void *user),
                      int least)
{
    struct holdings before = holdings_now(NULL);
    struct calling c = {.config = inject_config(method->method, SLOTS)};
    struct injection injection = {.job = job, .user = &c, .at = -1};
    int calls = 1;

    for (int at = -1; at < calls; at++) {
        for (size_t i = 0; i < COUNT(errors); i++) {
            const char *wrong = NULL;

            c.injector = injector_open("va", &c.config);
            c.refused = 0;
            sleep_ms(2); /* the last look at the link is old */
            commits(&c);
            c.other_count = job == reserves ? injector_info(c.injector).slot_count - FRAMES : 0;
            must_reserve_all(&c);
            injection.at = at;
            injection.error = errors[i];
            inject(&injection);
            if (at == -1)
                calls = injection.calls;
            if (c.rc < 0) {
                if (at == -1)
                    wrong = netring_err_name(c.rc);
                else if (c.error_number == 0)
                    wrong = "errno is not set";
                netring_injector_last_error(c.injector, &c.error);
                if (c.error.code != c.rc || !c.error.message[0])
                    wrong = "last_error is of something else";
            } else if (c.error_number != 0) {
                wrong = "errno is set on success";
            }
            if (netring_injector_drain(c.injector, (int)tap_patience(3000)) != 1 && !wrong)
                wrong = "it does not drain then";
            discard_all(&c);
            if (!wrong)
                wrong = all_told(&c);
            if (!wrong)
                wrong = works(&c);
            netring_injector_close(c.injector);
            while (wrong && sink_next(&sink, 20) > 0)
                ;
            if (!wrong)
                wrong = what_is_left(&before);
            ok(!wrong, "%s: %s, call %d of %d (%s) fails with %s: %s", method->name, name, at + 1,
               calls, at < 0 ? "none" : call_name(&injection.failed), strerror(errors[i]),
               netring_err_name(c.rc));
            if (wrong)
                tap_diag("  %s", wrong);
            if (at == -1)
                break;
        }
    }
    ok(calls >= least, "%s: %s makes %d system calls", method->name, name, calls);
}

static void closes(void *user)
{
    struct calling *c = user;

    errno = 0;
    ends(c, netring_injector_close(c->injector));
}

/* What it says did not leave, did not; the rest did. Nothing is left open. */
static void test_close(const struct method *method)
{
    struct holdings before = holdings_now(NULL);
    struct calling c = {.config = inject_config(method->method, SLOTS)};
    struct injection injection = {.job = closes, .user = &c, .at = -1};
    int calls = 1;

    for (int at = -1; at < calls; at++) {
        for (size_t i = 0; i < COUNT(errors); i++) {
            const char *wrong;
            int got = 0;

            c.injector = injector_open("va", &c.config);
            sleep_ms(2);
            commits(&c);
            injection.at = at;
            injection.error = errors[i];
            inject(&injection);
            if (at == -1)
                calls = injection.calls;
            for (uint32_t next = 0; got < FRAMES - c.rc; got++) {
                if (sink_next(&sink, (int)tap_patience(1000)) != LENGTH ||
                    numbered_number(sink.frame) < next)
                    break;
                next = numbered_number(sink.frame) + 1;
            }
            wrong = c.rc < 0                   ? netring_err_name(c.rc)
                    : got != FRAMES - c.rc     ? "frames are missing"
                    : sink_next(&sink, 5) != 0 ? "frames left that it says did not"
                    : at == -1 && c.rc != 0    ? "frames did not leave"
                                               : what_is_left(&before);
            ok(!wrong, "%s: close, call %d of %d (%s) fails with %s: %d", method->name, at + 1,
               calls, at < 0 ? "none" : call_name(&injection.failed), strerror(errors[i]), c.rc);
            if (wrong)
                tap_diag("  %s", wrong);
            while (wrong && sink_next(&sink, 20) > 0)
                ;
            if (at == -1)
                break;
        }
    }
    ok(calls >= 1, "%s: close makes %d system calls", method->name, calls);
}

int main(void)
{
    tap_begin(100);
    net_enter();
    net_veth("va", "vb");
    net_await_carrier("va");
    sink_open(&sink, "vb");
    for (size_t i = 0; i < 2; i++) {
        if (!test_open(&methods[i]))
            break;
        test_call(&methods[i], "flush", flushes, 2);
        test_call(&methods[i], "drain", drains_it, 2);
        test_call(&methods[i], "reserve", reserves, 1);
        test_call(&methods[i], "stats", reads_stats, 0);
        test_call(&methods[i], "info", reads_info, 0);
        test_close(&methods[i]);
    }
    is_int(sink_drops(&sink), 0, "the receiver drops nothing");
    sink_close(&sink);
    return tap_end();
}
