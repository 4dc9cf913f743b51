/* The log: silent unless asked, by a callback or by NETRING_LOG, with levels and the documented
 * words. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program; /* its own file */

#define SHRUNK "ring shrunk from 16 to 8 blocks of 65536 bytes by memory_limit"

static struct {
    char text[2048]; /* one message a line */
    unsigned count;
    uint32_t level; /* of the last one */
    void *user;
    struct netring_capture *capture; /* asked for stats from the callback */
} logged;

static void keep_message(void *user, uint32_t level, const char *message)
{
    size_t used = strlen(logged.text);

    snprintf(logged.text + used, sizeof logged.text - used, "%s\n", message);
    logged.count++;
    logged.level = level;
    logged.user = user;
    if (logged.capture)
        capture_stats(logged.capture);
}

static void log_to_callback(uint32_t level)
{
    memset(&logged, 0, sizeof logged);
    errno = ENOTTY;
    is_int(netring_log_set(level, keep_message, &logged.count), 0, "log_set level %u", level);
    is_int(errno, ENOTTY, "log_set leaves errno alone");
}

/* Logs one warning: the ring is half of what is asked for. */
static void open_shrunk(void)
{
    struct netring_capture_config config = small_config();

    config.memory_limit = MIB / 2;
    capture_close(capture_open("vb", &config));
}

static int closed_by_callback;

static void close_capture(void *user, uint32_t level, const char *message)
{
    (void)level, (void)message;
    errno = 0;
    closed_by_callback = netring_capture_close(user);
    is_int(errno, EBUSY, "closing a capture from the log callback: errno");
}

/* The close might wait for the very call that the message comes from. */
static void test_close_from_callback(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);

    netring_log_set(NETRING_LOG_WARN, close_capture, capture);
    open_shrunk();
    netring_log_set(NETRING_LOG_OFF, NULL, NULL);
    is_int(closed_by_callback, NETRING_EBUSY, "closing a capture from the log callback");
    is_int(capture_stats(capture).received, 0, "leaves it open");
    capture_close(capture);
}

static void test_callback(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;

    log_to_callback(NETRING_LOG_WARN);
    open_shrunk();
    is_int(logged.count, 1, "a shrunk ring: one message");
    is_int(logged.level, NETRING_LOG_WARN, "a shrunk ring: a warning");
    is_str_contains(logged.text, SHRUNK, "a shrunk ring: the words");
    ok(logged.user == &logged.count, "the user pointer is handed back");

    log_to_callback(NETRING_LOG_ERROR);
    open_shrunk();
    is_int(logged.count, 0, "level error: no warnings");

    log_to_callback(NETRING_LOG_OFF);
    open_shrunk();
    is_int(logged.count, 0, "level off: nothing");

    log_to_callback(NETRING_LOG_ERROR);
    netring_capture_open("nosuch0", &config, &capture, NULL);
    is_int(logged.count, 1, "an open that fails: one message");
    is_int(logged.level, NETRING_LOG_ERROR, "an open that fails: an error");
    is_str_contains(logged.text, "nosuch0: open: interface not found: nosuch0",
                    "an open that fails: the words");

    log_to_callback(NETRING_LOG_INFO);
    capture = capture_open("vb", &config);
    is_str_contains(logged.text, "vb: capture opened: 16 blocks of 65536 bytes", "info: open");
    netring_capture_flush(capture);
    is_int(logged.count, 1, "info: no details");
    capture_close(capture);
    is_str_contains(logged.text, "vb: capture closed", "info: close");

    log_to_callback(NETRING_LOG_DEBUG);
    logged.capture = capture = capture_open("vb", &config);
    netring_capture_flush(capture);
    is_str_contains(logged.text, "vb: flushed", "debug: flush");
    netring_capture_stop(capture);
    netring_capture_next_block(capture, 0, &(struct netring_block *){NULL});
    is_str_contains(logged.text, "vb: intake ended", "debug: stop");
    open_shrunk();
    is_str_contains(logged.text, SHRUNK, "debug: warnings too, and the callback calls the library");
    logged.capture = NULL;
    capture_close(capture);

    errno = 0;
    is_int(netring_log_set(NETRING_LOG_DEBUG + 1, keep_message, NULL), NETRING_EINVAL,
           "an unknown level");
    is_int(errno, EINVAL, "an unknown level: errno");

    log_to_callback(NETRING_LOG_DEBUG);
    is_int(netring_log_set(NETRING_LOG_OFF, NULL, NULL), 0, "no callback any more");
    open_shrunk();
    is_int(logged.count, 0, "no callback any more: no messages to it");
}

/* ---- the fallback of MAP_LOCKED ---- */

static void open_locked(const char *what)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;

    config.flags |= NETRING_CAPTURE_LOCK_MEMORY;
    log_to_callback(NETRING_LOG_WARN);
    capture = capture_open("vb", &config);
    is_str_contains(logged.text, "mmap with MAP_LOCKED failed, retrying without", "%s: the words",
                    what);
    is_int(logged.level, NETRING_LOG_WARN, "%s: a warning", what);
    ok(!(capture_info(capture).flags & NETRING_CAPTURE_LOCK_MEMORY), "%s: info tells", what);
    capture_close(capture);
}

/* The real cause: no CAP_IPC_LOCK and a low limit. */
static void locked_over_the_limit(void *user)
{
    const struct rlimit none = {0, 0};

    (void)user;
    setrlimit(RLIMIT_MEMLOCK, &none);
    keep_capabilities(UINT64_C(1) << CAP_NET_RAW);
    open_locked("MAP_LOCKED over the limit");
}

static void locked_refused(void *user)
{
    const struct refusal refusal = {SYS_mmap, EAGAIN, 1, {{3, MAP_LOCKED, MAP_LOCKED, false}}};

    (void)user;
    refuse(&refusal);
    open_locked("MAP_LOCKED refused");
}

static void test_locked_granted(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;

    config.flags |= NETRING_CAPTURE_LOCK_MEMORY;
    log_to_callback(NETRING_LOG_WARN);
    capture = capture_open("vb", &config);
    is_int((capture_info(capture).flags & NETRING_CAPTURE_LOCK_MEMORY) != 0, logged.count == 0,
           "MAP_LOCKED granted: info tells, and no warning");
    capture_close(capture);
    netring_log_set(NETRING_LOG_OFF, NULL, NULL);
}

/* ---- NETRING_LOG ---- */

/* Runs this program again, as `argument`, with NETRING_LOG=level (NULL: unset). Returns what it
 * wrote to stderr. */
static const char *stderr_of(const char *level, const char *argument)
{
    static char text[4096];
    size_t used = 0;
    ssize_t n;
    int ends[2], status;
    pid_t child;

    if (pipe(ends) != 0)
        tap_bail("pipe: %s", strerror(errno));
    fflush(stdout);
    child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);

        dup2(null, STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        if (level)
            setenv("NETRING_LOG", level, 1);
        else
            unsetenv("NETRING_LOG");
        execl(program, program, argument, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    while ((n = read(ends[0], text + used, sizeof text - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = 0;
    close(ends[0]);
    waitpid(child, &status, 0);
    is_int(status, 0, "a program with NETRING_LOG=%s ends well", level ? level : "(unset)");
    return text;
}

static void test_environment(void)
{
    is_str(stderr_of(NULL, "shrink"), "", "silent by default");
    is_str(stderr_of("", "shrink"), "", "NETRING_LOG empty: silent");
    is_str(stderr_of("off", "shrink"), "", "NETRING_LOG=off: silent");
    is_str(stderr_of("nonsense", "shrink"),
           "netring: WARNING: NETRING_LOG=nonsense: not one of off, error, warn, info, debug\n"
           "netring: WARNING: " SHRUNK "\n",
           "NETRING_LOG=nonsense: told, and warnings");
    is_str(stderr_of("error", "shrink"), "", "NETRING_LOG=error: no warnings");
    is_str(stderr_of("warn", "shrink"), "netring: WARNING: " SHRUNK "\n", "NETRING_LOG=warn");
    is_str_contains(stderr_of("info", "shrink"), SHRUNK, "NETRING_LOG=info");
    is_str_contains(stderr_of("debug", "shrink"), SHRUNK, "NETRING_LOG=debug");
    is_str(stderr_of("warn", "callback"), "", "a callback comes before NETRING_LOG");
    is_str(stderr_of("warn", "back"), "netring: WARNING: " SHRUNK "\n",
           "without the callback NETRING_LOG counts again");
}

/* What the program does when it runs itself. */
static int as_child(const char *what)
{
    if (strcmp(what, "shrink") != 0)
        netring_log_set(NETRING_LOG_DEBUG, keep_message, NULL);
    if (strcmp(what, "back") == 0)
        netring_log_set(NETRING_LOG_OFF, NULL, NULL);
    open_shrunk();
    return 0;
}

/* ---- sequence gaps ---- */

/* Drops cause none on any kernel; memory that was overwritten does. The kernel has numbered the
 * block it is filling, right behind the one that is held: a program that scribbles there. */
static void test_sequence_gap(void)
{
    enum { SEQUENCE = 24, EXPECTED = 2, GOT = 7 };
    struct netring_capture_config config = page_config(8);
    struct netring_capture *capture;
    struct netring_block *block = NULL, *next = NULL;
    struct netring_block_view view;
    struct netring_block_info info;
    uint64_t sequence;
    int sender = net_sender("va");
    uint32_t count = frames_per_page(1000);

    capture = capture_open("vb", &config);
    /* One more than a block takes opens the next. */
    send_frames(sender, 0, count + 1, 1000);
    if (netring_capture_next_block(capture, 3000, &block) != 1 ||
        netring_block_view(block, &view, sizeof view) != 0)
        tap_bail("no first block");
    memcpy(&sequence, view.base + view.length + SEQUENCE, sizeof sequence);
    is_int(sequence, EXPECTED, "the kernel has numbered the open block");
    sequence = GOT;
    memcpy(view.base + view.length + SEQUENCE, &sequence, sizeof sequence);
    log_to_callback(NETRING_LOG_WARN);
    send_frames(sender, count + 1, count, 1000);
    is_int(netring_capture_next_block(capture, 3000, &next), 1, "the block behind the gap");
    netring_block_info(next, &info, sizeof info);
    is_int(info.sequence, GOT, "has the number that was written");
    is_int(info.count, count, "and its packets");
    is_int(capture_stats(capture).sequence_gaps, 1, "the gap is counted");
    is_int(logged.count, 1, "and logged once");
    is_int(logged.level, NETRING_LOG_WARN, "as a warning");
    is_str_contains(logged.text, "block sequence gap: expected 2, got 7 (dropped 5 blocks)",
                    "in the documented words");
    netring_log_set(NETRING_LOG_OFF, NULL, NULL);
    netring_block_release(block);
    netring_block_release(next);
    capture_close(capture);
    close(sender);
}

int main(int argc, char **argv)
{
    tap_begin(30);
    if (argc > 1)
        return as_child(argv[1]);
    program = argv[0];
    net_enter();
    net_veth("va", "vb");

    test_callback();
    test_close_from_callback();
    test_locked_granted();
    child_run("MAP_LOCKED over the limit", locked_over_the_limit, NULL);
    child_run("MAP_LOCKED refused", locked_refused, NULL);
    test_environment();
    test_sequence_gap();
    return tap_end();
}
