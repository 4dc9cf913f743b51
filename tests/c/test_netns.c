/* Captures in other network namespaces: opened by path, name, descriptor, process and pidfd while
 * the caller stays where it is, and all that a capture does later.
 *
 * no-archive: it takes long, and ASan has the archive too
 * no-valgrind: its own threads would be refused too */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOON ((int)tap_patience(3000))
#define NAME "netring-test"
#define NAMED "/run/netns/" NAME

static int here;
static bool names; /* this process may give namespaces names */

/* ---- namespaces ---- */

/* A namespace with v0 and v1 in it. */
static int namespace_with_links(void)
{
    int namespace = net_namespace_new();

    net_namespace_enter(namespace);
    net_veth("v0", "v1");
    net_namespace_enter(here);
    return namespace;
}

static int sender_in(int namespace, const char *link)
{
    int sender;

    net_namespace_enter(namespace);
    net_await_carrier(link);
    sender = net_sender(link);
    net_namespace_enter(here);
    return sender;
}

/* A process in that namespace, until it is killed. */
static pid_t process_in(int namespace)
{
    int ready[2];
    char byte;
    pid_t child;

    if (pipe(ready) != 0)
        tap_bail("pipe: %s", strerror(errno));
    fflush(stdout);
    child = fork();
    if (child == 0) {
        net_namespace_enter(namespace);
        if (write(ready[1], "x", 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    if (child < 0 || read(ready[0], &byte, 1) != 1)
        tap_bail("a process in the namespace: %s", strerror(errno));
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void end_process(pid_t process)
{
    kill(process, SIGKILL);
    waitpid(process, NULL, 0);
}

/* In a mount namespace of its own, so that nothing of it is left behind. */
static void prepare_names(void)
{
    names = unshare(CLONE_NEWNS) == 0 &&
            mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
            mount("none", "/run", "tmpfs", 0, NULL) == 0 && mkdir("/run/netns", 0755) == 0;
}

static void give_name(int namespace)
{
    char path[64];
    int file = open(NAMED, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    snprintf(path, sizeof path, "/proc/self/fd/%d", namespace);
    if (file < 0 || mount(path, NAMED, NULL, MS_BIND, NULL) != 0)
        tap_bail(NAMED ": %s", strerror(errno));
    close(file);
}

static void take_name(void)
{
    if (umount2(NAMED, MNT_DETACH) != 0 || unlink(NAMED) != 0)
        tap_bail(NAMED ": %s", strerror(errno));
}

static struct netring_capture_config config_in(int namespace)
{
    struct netring_capture_config config = small_config();

    config.flags |= NETRING_CAPTURE_NETNS_FD;
    config.netns_fd = namespace;
    return config;
}

static struct netring_capture *open_in(int namespace, const char *interface, uint64_t flags)
{
    struct netring_capture_config config = config_in(namespace);

    config.flags |= flags;
    return capture_open(interface, &config);
}

static void is_here(const char *what)
{
    struct stat own, now;

    ok(fstat(here, &own) == 0 && stat("/proc/thread-self/ns/net", &now) == 0 &&
           own.st_ino == now.st_ino,
       "%s: the caller is where it was", what);
}

/* ---- the ways to name one ---- */

/* Exactly the frames sent there come, and the counters are those of there. */
static void captures(struct netring_capture *capture, int sender, uint32_t first, const char *what)
{
    struct records records = {0, 0, NULL};
    struct netring_stats stats;

    send_frames(sender, first, 50, 100);
    receive(capture, 50, SOON, &records);
    is_frames(&records, first, 50, 100, 100, what);
    records_free(&records);
    is_int(netring_capture_next_block(capture, 20, &(struct netring_block *){NULL}), 0,
           "%s: and no others", what);
    stats = capture_stats(capture);
    is_int(stats.received, 50, "%s: counters", what);
    ok(stats.valid & NETRING_STATS_INTERFACE, "%s: counters of the interface", what);
    is_str(capture_info(capture).interface, "v0", "%s: its name", what);
}

/* Two namespaces whose links are called the same, both captured at once. */
static void both(int one, int other, int sender_one, int sender_other, const char *what)
{
    struct netring_capture *first = open_in(one, "v0", 0), *second = open_in(other, "v0", 0);

    is_here(what);
    captures(first, sender_one, 1000, what);
    captures(second, sender_other, 5000, what);
    is_int(capture_stats(first).received, 50, "%s: nothing of the other one", what);
    capture_close(first);
    capture_close(second);
}

static void test_ways(void)
{
    int one = namespace_with_links(), other = namespace_with_links();
    int sender_one = sender_in(one, "v1"), sender_other = sender_in(other, "v1");
    pid_t process = process_in(other);
    struct netring_error error;
    char path[64];
    int named, pidfd;

    both(one, other, sender_one, sender_other, "by descriptor");

    snprintf(path, sizeof path, "/proc/%d/ns/net", process);
    named = netring_netns_open(path, &error);
    ok(named >= 0, "by path: %s", error.message);
    is_no_error(&error, "by path");
    ok(fcntl(named, F_GETFD) & FD_CLOEXEC, "by path: closed by exec");
    both(one, named, sender_one, sender_other, "by path");
    close(named);

    named = netring_netns_open_pid(process, &error);
    ok(named >= 0, "by process: %s", error.message);
    is_no_error(&error, "by process");
    ok(fcntl(named, F_GETFD) & FD_CLOEXEC, "by process: closed by exec");
    both(one, named, sender_one, sender_other, "by process");
    close(named);

    pidfd = (int)syscall(SYS_pidfd_open, process, 0);
    if (pidfd < 0 || setns(pidfd, CLONE_NEWNET) != 0) {
        tap_skip("by pidfd", "this kernel's setns takes none");
    } else {
        net_namespace_enter(here);
        both(one, pidfd, sender_one, sender_other, "by pidfd");
    }
    end_process(process);
    if (pidfd >= 0) {
        const struct failure ended = {
            NETRING_EIO, ESRCH, "setns", {"could not be entered", "has ended"}};
        struct netring_capture_config config = config_in(pidfd);

        if (setns(pidfd, CLONE_NEWNET) != 0 && errno == ESRCH)
            open_fails("a pidfd whose process has ended", "v0", &config, &ended);
        close(pidfd);
    }

    if (names) {
        give_name(other);
        named = netring_netns_open(NAME, &error);
        ok(named >= 0, "by name: %s", error.message);
        both(one, named, sender_one, sender_other, "by name");
        take_name();
        close(named);
    } else {
        tap_skip("by name", "may not mount anything on /run here");
    }
    close(sender_one);
    close(sender_other);
    close(one);
    close(other);
}

/* ---- what comes later ---- */

static void is_event(struct netring_capture *capture, uint32_t kind, const char *name,
                     const char *what)
{
    struct netring_event event;
    int rc = netring_capture_next_event(capture, SOON, &event, sizeof event);

    ok(rc == 1 && event.kind == kind && strcmp(event.name, name) == 0,
       "%s: event %u (rc %d, event %u of %s)", what, kind, rc, event.kind, event.name);
}

struct creation {
    int namespace;
    const char *one, *other;
};

static void *creates_soon(void *user)
{
    struct creation *creation = user;

    sleep_ms(200);
    net_namespace_enter(creation->namespace);
    net_veth(creation->one, creation->other);
    return NULL;
}

static void test_later(void)
{
    struct creation creation = {namespace_with_links(), "w0", "w1"};
    int namespace = creation.namespace, sender = sender_in(namespace, "v1");
    struct netring_capture *capture =
        open_in(namespace, "v0", NETRING_CAPTURE_PROMISCUOUS | NETRING_CAPTURE_EVENTS_ON_FD);
    struct pollfd poller = {.fd = netring_capture_fd(capture), .events = POLLIN};
    struct netring_event event;
    struct netring_block *block;
    pthread_t thread;
    int64_t began;

    captures(capture, sender, 0, "later");
    is_int(poll(&poller, 1, 0), 0, "later: nothing to tell");
    net_namespace_enter(namespace);
    is_int(net_promiscuity("v0"), 1, "later: promiscuous there");
    net_link_up("v0", false);
    net_namespace_enter(here);
    is_int(poll(&poller, 1, SOON), 1, "later: an event on the descriptor");
    is_event(capture, NETRING_EVENT_DOWN, "v0", "later, down");
    net_namespace_enter(namespace);
    net_link_rename("v0", "x0");
    net_link_up("x0", true);
    net_namespace_enter(here);
    is_event(capture, NETRING_EVENT_RENAMED, "x0", "later, renamed");
    is_event(capture, NETRING_EVENT_UP, "x0", "later, up");
    is_str(capture_info(capture).interface, "x0", "later: called otherwise");
    net_namespace_enter(namespace);
    net_link_delete("x0");
    net_namespace_enter(here);
    is_event(capture, NETRING_EVENT_DOWN, "x0", "later, removed while up");
    is_event(capture, NETRING_EVENT_REMOVED, "x0", "later, removed");
    is_int(netring_capture_next_block(capture, SOON, &block), NETRING_ENODEV, "later: removed");
    close(sender);

    /* A link here must not do, whatever it is called. */
    net_veth("w0", "w1");
    is_int(netring_capture_rebind(capture, "w0", 0, 0, NULL), NETRING_ENODEV,
           "later: not the one here");
    pthread_create(&thread, NULL, creates_soon, &creation);
    began = now_ms();
    is_int(netring_capture_rebind(capture, "w0", 0, -1, NULL), 0, "later: bound anew");
    is_between(now_ms() - began, 0, tap_patience(900), "later: as soon as it is there");
    pthread_join(thread, NULL);
    sender = sender_in(namespace, "w1");
    {
        struct records records = {0, 0, NULL};

        send_frames(sender, 7, 30, 80);
        receive(capture, 30, SOON, &records);
        is_frames(&records, 7, 30, 80, 80, "later, bound anew");
        records_free(&records);
    }
    /* It may have come up before or after it was bound. */
    while (netring_capture_next_event(capture, 0, &event, sizeof event) == 1)
        ;
    net_namespace_enter(namespace);
    net_link_up("w0", false);
    net_namespace_enter(here);
    is_event(capture, NETRING_EVENT_DOWN, "w0", "later, bound anew");
    is_here("later");
    close(sender);
    capture_close(capture);
    net_link_delete("w0");
    close(namespace);
}

/* All of it without a privilege once it is open: no new socket is needed. */
static void unprivileged_later(void *user)
{
    int namespace = namespace_with_links(), sender = sender_in(namespace, "v1");
    struct netring_capture *capture = open_in(namespace, "v0", NETRING_CAPTURE_PROMISCUOUS);
    struct netring_capture *other = open_in(namespace, "any", 0);

    (void)user;
    keep_capabilities(0);
    captures(capture, sender, 0, "without privilege");
    is_int(capture_stats(other).received, 50 * 2, "without privilege: \"any\" there");
    is_int(netring_capture_rebind(capture, "v1", 0, SOON, NULL), 0, "without privilege: rebind");
    is_int(netring_capture_rebind(capture, "v0", 0, 0, NULL), 0, "without privilege: and back");
    is_int(netring_capture_rebind(capture, "w0", 0, 20, NULL), NETRING_ENODEV,
           "without privilege: none appears");
    ok(capture_stats(capture).valid & NETRING_STATS_INTERFACE, "without privilege: counters");
    capture_close(capture);
    capture_close(other);
}

/* The namespace lives as long as the capture, under no name any more. */
static void test_deleted(void)
{
    int namespace = namespace_with_links(), sender = sender_in(namespace, "v1");
    pid_t process = process_in(namespace);
    struct netring_capture *capture;
    struct netring_event event;

    if (names)
        give_name(namespace);
    capture = open_in(namespace, "v0", 0);
    if (names)
        take_name();
    end_process(process);
    close(namespace);
    captures(capture, sender, 0, "deleted");
    close(sender);
    is_int(netring_capture_next_event(capture, 20, &event, sizeof event), 0,
           "deleted: it goes on for the capture");
    capture_close(capture);
}

/* ---- the caller ---- */

static atomic_bool over;
static atomic_uint moved, strangers, handled;
static __thread bool known;
static ino_t home;

static void handler(int signal)
{
    (void)signal;
    atomic_fetch_add(known ? &handled : &strangers, 1);
}

static void *hammers(void *user)
{
    struct stat now;
    sigset_t mask;

    (void)user;
    known = true;
    sigemptyset(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    while (!atomic_load(&over)) {
        if (stat("/proc/thread-self/ns/net", &now) != 0 || now.st_ino != home)
            atomic_fetch_add(&moved, 1);
        kill(getpid(), SIGUSR1);
        usleep(100);
    }
    return NULL;
}

static void test_caller(void)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    int namespace = namespace_with_links(), wrong = 0;
    cpu_set_t before, after, one_cpu;
    sigset_t mask, mask_after;
    struct stat own;
    pthread_t threads[3];

    fstat(here, &own);
    home = own.st_ino;
    known = true;
    sigaction(SIGUSR1, &action, &old);
    sched_getaffinity(0, sizeof before, &before);
    CPU_ZERO(&one_cpu);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one_cpu) == 0; i++)
        if (CPU_ISSET(i, &before))
            CPU_SET(i, &one_cpu);
    sched_setaffinity(0, sizeof one_cpu, &one_cpu);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_create(&threads[i], NULL, hammers, NULL);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    for (int i = 0; i < 60; i++) {
        struct netring_capture *capture = open_in(namespace, i % 2 ? "v0" : "v1", 0);
        struct stat now;

        if (stat("/proc/thread-self/ns/net", &now) != 0 || now.st_ino != home)
            wrong++;
        capture_close(capture);
    }
    atomic_store(&over, true);
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    is_int(wrong, 0, "the caller stays where it is, 60 times");
    is_int(atomic_load(&moved), 0, "and so do the other threads");
    ok(atomic_load(&handled) > 100, "signals came meanwhile (%u)", atomic_load(&handled));
    is_int(atomic_load(&strangers), 0, "no handler ran on a thread of the library");
    sched_getaffinity(0, sizeof after, &after);
    ok(CPU_EQUAL(&one_cpu, &after), "the caller's affinity is what it was");
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    ok(sigismember(&mask_after, SIGUSR2) == 1 && sigismember(&mask_after, SIGUSR1) == 0 &&
           sigismember(&mask_after, SIGTERM) == 0,
       "the caller's signal mask is what it was");
    sigemptyset(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    sched_setaffinity(0, sizeof before, &before);
    sigaction(SIGUSR1, &old, NULL);
    close(namespace);
}

/* ---- errors ---- */

static void netns_fails(const char *what, const char *name, const struct failure *want)
{
    struct netring_error error;
    int rc, number;

    error_spoil(&error);
    errno = 0;
    rc = netring_netns_open(name, &error);
    number = errno;
    is_failure(rc, number, &error, want, what);
    is_int(netring_netns_open(name, NULL), want->code, "%s: without an error struct", what);
}

static void pid_fails(const char *what, int pid, const struct failure *want)
{
    struct netring_error error;
    int rc, number;

    error_spoil(&error);
    errno = 0;
    rc = netring_netns_open_pid(pid, &error);
    number = errno;
    is_failure(rc, number, &error, want, what);
    is_int(netring_netns_open_pid(pid, NULL), want->code, "%s: without an error struct", what);
}

static void test_opening_errors(void)
{
    const struct failure null = {NETRING_EINVAL, 0, "path_or_name", {"NULL"}};
    const struct failure empty = {NETRING_EINVAL, 0, "path_or_name", {"neither"}};
    const struct failure too_long = {NETRING_EINVAL, 0, "path_or_name", {"longer than 255"}};
    const struct failure missing = {
        NETRING_EIO, ENOENT, "open", {"/run/netns/no-such-name", "ip netns list"}};
    const struct failure no_file = {NETRING_EIO, ENOENT, "open", {"/no/such/path"}};
    const struct failure other = {NETRING_EINVAL, 0, "path_or_name", {"is no network namespace"}};
    const struct failure no_pid = {NETRING_EINVAL, 0, "pid", {"is no process"}};
    const struct failure ended = {NETRING_EIO, ESRCH, "pid", {"there is no such process"}};
    struct footprint before = footprint_now();
    char name[300];
    pid_t process;

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    netns_fails("no name", NULL, &null);
    netns_fails("an empty name", "", &empty);
    netns_fails("the name ..", "..", &empty);
    netns_fails("a long name", name, &too_long);
    netns_fails("a name that is not there", "no-such-name", &missing);
    netns_fails("a path that is not there", "/no/such/path", &no_file);
    netns_fails("a device", "/dev/null", &other);
    netns_fails("another kind of namespace", "/proc/self/ns/mnt", &other);
    pid_fails("process 0", 0, &no_pid);
    pid_fails("process -1", -1, &no_pid);
    process = process_in(here);
    end_process(process);
    pid_fails("a process that has ended", process, &ended);
    is_footprint(before, "names that lead nowhere");
}

static void without_admin(void *user)
{
    const struct failure failure = {
        NETRING_EIO, EPERM, "setns", {"CAP_SYS_ADMIN", "user namespace that owns it"}};

    keep_capabilities(CAPABILITY(CAP_NET_RAW) | CAPABILITY(CAP_NET_ADMIN));
    open_fails("without CAP_SYS_ADMIN", "v0", user, &failure);
    is_here("without CAP_SYS_ADMIN");
}

static void without_raw(void *user)
{
    const struct failure failure = {NETRING_EPERM, EPERM, "socket", {"CAP_NET_RAW"}};

    keep_capabilities(CAPABILITY(CAP_SYS_ADMIN));
    open_fails("without CAP_NET_RAW", "v0", user, &failure);
}

static void without_threads(void *user)
{
    const struct failure failure = {NETRING_EIO, EAGAIN, "thread", {"was refused", "ulimit -u"}};
    const struct refusal refusal = {.call = SYS_clone3, .error = EAGAIN};

    refuse(&refusal);
    open_fails("without another thread", "v0", user, &failure);
}

static void not_looked_at(void *user)
{
    const struct failure failure = {NETRING_EIO, EACCES, "pid", {"CAP_SYS_PTRACE"}};

    (void)user;
    if (setresuid(65534, 65534, 65534) != 0) {
        tap_skip("the namespace of somebody else's process", "uid 65534 is not mapped here");
        return;
    }
    pid_fails("the namespace of somebody else's process", getppid(), &failure);
}

static void test_errors(void)
{
    const struct failure closed = {NETRING_EINVAL, 0, "netns_fd", {"is not open"}};
    const struct failure other = {NETRING_EINVAL, 0, "netns_fd", {"is no network namespace"}};
    const struct failure negative = {NETRING_EINVAL, 0, "netns_fd", {"-5 is no descriptor"}};
    const struct failure unflagged = {NETRING_EINVAL, 0, "netns_fd", {"NETRING_CAPTURE_NETNS_FD"}};
    const struct failure two = {NETRING_EINVAL, 0, "flags", {"exclude each other"}};
    const struct failure absent = {
        NETRING_ENODEV, ENODEV, "interface", {"interface not found: here0"}};
    int namespace = namespace_with_links(), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct netring_capture_config config = config_in(1000);

    open_fails("a namespace that is not open", "v0", &config, &closed);
    config.netns_fd = -5;
    open_fails("no namespace at all", "v0", &config, &negative);
    config.netns_fd = null;
    open_fails("something else than a namespace", "v0", &config, &other);
    config.netns_fd = namespace;
    config.socket_fd = null;
    config.flags |= NETRING_CAPTURE_SOCKET_FD;
    open_fails("a namespace and a socket", "v0", &config, &two);
    config = config_in(namespace);
    config.flags &= ~NETRING_CAPTURE_NETNS_FD;
    open_fails("a namespace without its flag", "v0", &config, &unflagged);
    config.netns_fd = -1;
    net_veth("here0", "here1");
    capture_close(capture_open("here0", &config));
    config = config_in(namespace);
    open_fails("an interface that is here", "here0", &config, &absent);
    child_run("without CAP_SYS_ADMIN", without_admin, &config);
    child_run("without CAP_NET_RAW", without_raw, &config);
    child_run("without threads", without_threads, &config);
    child_run("somebody else's process", not_looked_at, NULL);
    net_link_delete("here0");
    close(namespace);
    close(null);
}

int main(void)
{
    tap_begin(60);
    net_enter();
    prepare_names();
    here = net_namespace();
    test_opening_errors();
    test_errors();
    test_ways();
    test_later();
    child_run("without privilege", unprivileged_later, NULL);
    test_deleted();
    test_caller();
    is_here("at the end");
    return tap_end();
}
