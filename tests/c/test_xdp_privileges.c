/* Rights are needed to open, not to work: a process without any, of another user, has its sockets
 * and its map from one that had them, and sends and receives; program and filter stay with the
 * other.
 */
#include "xdp.h"

#include <errno.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { QUEUES = 2, NOBODY = 65534, COUNT_SENT = 3000 };

struct given {
    const char *name;
    uint32_t mode;
    int map, sockets[QUEUES], spare;
    int senders[QUEUES]; /* packet sockets at the other end: they show what has arrived */
    struct sink *sink;
    int say, hear; /* pipes from and to the parent */
};

/* From here on this process may nothing. */
static void be_nobody(void)
{
    if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        tap_bail("being nobody: %s", strerror(errno));
    keep_capabilities(0);
}

static void may_not(uint32_t mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode);
    struct netring_xdp *xdp = NULL;
    struct netring_error error;

    is_int(netring_xdp_open("pa", NULL, 0, &config, &xdp, &error), NETRING_EPERM,
           "nobody may not open: %s", error.message);
    ok(xdp == NULL, "and has no handle");
}

static void turns(struct given *given, struct netring_xdp *xdp, uint32_t queue)
{
    struct netring_queue *one = xdp_queue(xdp, queue);
    char what[64];
    bool fine = true;

    snprintf(what, sizeof what, "%s: nobody on queue %u", given->name, queue);
    for (uint32_t i = 0; fine && i < COUNT_SENT; i += 100) {
        queue_commit_stream(one, i, 100);
        if (netring_queue_flush(one) < 0)
            tap_bail("flush");
        fine = sink_is_stream(given->sink, i, 100, what);
    }
    queue_drains(one, what);
    queue_adds_up(one, what);
}

static void as_nobody(void *user)
{
    struct given *given = user;
    const uint32_t queues[QUEUES] = {0, 1};
    struct netring_xdp_config config = xdp_config(0, given->mode);
    struct netring_xdp *xdp = NULL;
    struct netring_xdp_info info;
    struct netring_error error;
    char byte = 0;
    int rc;

    be_nobody();
    is_int(getuid(), NOBODY, "%s: another user", given->name);
    may_not(given->mode);
    config.flags |= NETRING_XDP_MAP_FD;
    config.map_fd = given->map;
    config.busy_poll = 20;
    rc = netring_xdp_adopt("pa", queues, &given->spare, 1, &config, &xdp, &error);
    is_int(rc, NETRING_ESOCKOPT, "%s: busy polling is not for nobody", given->name);
    is_int(error.os_errno, xdp_kernel(5, 11) ? EPERM : ENOPROTOOPT, "%s: it says why: %s",
           given->name, error.message);
    config.busy_poll = 0;
    config.rx_frames = 512; /* the user's limit of locked memory counts */
    config.tx_frames = 128;
    rc = netring_xdp_adopt("pa", queues, given->sockets, QUEUES, &config, &xdp, &error);
    if (rc != 0)
        tap_bail("%s: adopt: %s (%s: %s)", given->name, netring_err_name(rc), error.option,
                 error.message);
    is_no_error(&error, "adopt");
    info = xdp_info(xdp);
    is_int(info.queue_count, QUEUES, "%s: its queues", given->name);
    is_int(info.mode, given->mode, "%s: its mode", given->name);
    is_int(netring_xdp_fd(xdp, NETRING_XDP_FD_LINK), NETRING_EINVAL, "%s: the program is not its",
           given->name);
    is_int(netring_xdp_set_filter(xdp, NETRING_REDIRECT_NONE, NULL, NULL), NETRING_ENOTSUP,
           "%s: nor the filter", given->name);
    for (uint32_t i = 0; i < QUEUES; i++)
        turns(given, xdp, i);
    /* What a packet socket sends comes in by the first queue or the second. */
    for (uint32_t i = 0; i < COUNT_SENT; i += 50) {
        bool seen[50] = {false}, fine = true;
        struct records got = {0};

        send_stream(given->senders[0], i, 50);
        for (int k = 0; k < 100 && got.count < 50; k++)
            for (uint32_t queue = 0; queue < QUEUES; queue++)
                queue_receive(xdp_queue(xdp, queue), 50 - got.count, got.count ? 0 : 10, &got);
        for (size_t k = 0; k < got.count; k++) {
            uint32_t number = numbered_number(got.v[k].packet.data);

            fine = fine && number - i < 50 && !seen[number - i] &&
                   !not_of_stream(&got.v[k].packet, number);
            if (fine)
                seen[number - i] = true;
        }
        fine = fine && got.count == 50;
        if (!fine || i + 50 >= COUNT_SENT)
            ok(fine, "%s: nobody receives: %zu of 50 from %u on", given->name, got.count, i);
        records_free(&got);
        if (!fine)
            break;
    }
    /* The one with rights changes what is redirected, and this one does not notice but by it. */
    if (write(given->say, "f", 1) != 1 || read(given->hear, &byte, 1) != 1)
        tap_bail("the parent is gone");
    send_stream(given->senders[0], 0, 50);
    queue_is_empty(xdp_queue(xdp, 0), "nothing is redirected");
    if (write(given->say, "a", 1) != 1 || read(given->hear, &byte, 1) != 1)
        tap_bail("the parent is gone");
    send_stream(given->senders[0], 0, 10);
    for (int k = 0;
         k < 1000 &&
         queue_stats(xdp_queue(xdp, 0)).pending + queue_stats(xdp_queue(xdp, 1)).pending < 10;
         k++)
        sleep_ms(1);
    is_int(queue_stats(xdp_queue(xdp, 0)).pending + queue_stats(xdp_queue(xdp, 1)).pending, 10,
           "%s: everything is, again", given->name);
    xdp_close(xdp);
    for (int i = 0; i < QUEUES; i++) {
        int domain = 0;
        socklen_t size = sizeof domain;

        ok(getsockopt(given->sockets[i], SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
               domain == AF_XDP,
           "%s: the socket stays who gave it", given->name);
    }
}

static void test_nobody(const struct xdp_mode *mode)
{
    static struct sink sink;
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct given given = {.name = mode->name, .mode = mode->mode, .sink = &sink};
    struct netring_queue *queue = NULL;
    struct netring_xdp *xdp;
    int to[2], from[2], status;
    uint32_t id;
    char byte;
    pid_t pid;

    config.flags |= NETRING_XDP_PROGRAM_ONLY;
    xdp = xdp_open("pa", NULL, 0, &config);
    is_int(xdp_info(xdp).queue_count, 0, "%s: program only: no sockets", mode->name);
    is_int(netring_xdp_queue(xdp, 0, &queue), NETRING_EINVAL, "%s: nor queues", mode->name);
    id = xdp_attached("pa").id;
    ok(id != 0 && xdp_info(xdp).program_id == id, "%s: its program is attached", mode->name);
    given.map = netring_xdp_fd(xdp, NETRING_XDP_FD_MAP);
    ok(given.map >= 0, "%s: it has a map", mode->name);
    given.senders[0] = net_sender("pb");
    sink_open(&sink, "pb");
    for (int i = 0; i < QUEUES; i++) {
        given.sockets[i] = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
        if (given.sockets[i] < 0)
            tap_bail("socket(AF_XDP): %s", strerror(errno));
    }
    given.spare = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (pipe(to) != 0 || pipe(from) != 0)
        tap_bail("pipe: %s", strerror(errno));
    given.say = from[1], given.hear = to[0];
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        alarm((unsigned)(tap_patience(60000) / 1000));
        close(from[0]);
        close(to[1]);
        as_nobody(&given);
        fflush(stdout);
        _exit(0);
    }
    close(from[1]);
    close(to[0]);
    while (read(from[0], &byte, 1) == 1) {
        int rc = netring_xdp_set_filter(
            xdp, byte == 'f' ? NETRING_REDIRECT_NONE : NETRING_REDIRECT_ALL, NULL, NULL);

        is_int(rc, 0, "%s: the other changes what is redirected", mode->name);
        if (write(to[1], "y", 1) != 1)
            break;
    }
    waitpid(pid, &status, 0);
    is_int(status, 0, "%s: nobody comes to its end", mode->name);
    ok(xdp_attached("pa").id != 0, "%s: the program is there still", mode->name);
    /* The sockets are open here, and not in the map any more. */
    for (uint32_t i = 0; i < QUEUES; i++) {
        int other = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
        uint32_t entries = 64;
        union bpf_attr entry;

        /* Linux 7.3 wants something to receive into. */
        setsockopt(other, SOL_XDP, XDP_RX_RING, &entries, sizeof entries);
        memset(&entry, 0, sizeof entry);
        entry.map_fd = (uint32_t)given.map;
        entry.key = (uintptr_t)&i;
        entry.value = (uintptr_t)&other;
        entry.flags = BPF_NOEXIST;
        is_int(xdp_bpf(BPF_MAP_UPDATE_ELEM, &entry, sizeof entry), 0,
               "%s: entry %u of the map is free", mode->name, i);
        close(other);
    }
    /* The map has room for others again. */
    {
        const uint32_t queues[QUEUES] = {0, 1};
        struct netring_xdp *again = NULL;
        struct netring_xdp_config own = xdp_config(0, mode->mode);
        int sockets[QUEUES] = {socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0),
                               socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)};

        own.flags |= NETRING_XDP_MAP_FD;
        own.map_fd = given.map;
        for (int i = 0; i < QUEUES; i++)
            close(given.sockets[i]);
        is_int(netring_xdp_adopt("pa", queues, sockets, QUEUES, &own, &again, NULL), 0,
               "%s: the map is free for others", mode->name);
        xdp_close(again);
        close(sockets[0]), close(sockets[1]);
    }
    close(from[0]), close(to[1]), close(given.senders[0]), close(given.spare);
    sink_close(&sink);
    xdp_close(xdp);
    xdp_is_detached("pa", mode->name);
}

/* kernel.unprivileged_bpf_disabled: as Debian has it. */
static bool bpf_is_for_some(void)
{
    FILE *file = fopen("/proc/sys/kernel/unprivileged_bpf_disabled", "re");
    int disabled = 0;

    if (!file)
        return false;
    if (fscanf(file, "%d", &disabled) != 1)
        disabled = 1;
    fclose(file);
    return disabled != 0;
}

int main(void)
{
    struct rlimit limit;
    struct footprint before;

    tap_begin(100);
    xdp_enter();
    if (geteuid() != 0)
        tap_skip_all("only root can become another user");
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur < 4 * MIB)
        tap_skip_all("a locked-memory limit of 4 MiB is needed (ulimit -l)");
    if (kernel_version() < 0x051300 && bpf_is_for_some())
        tap_skip_all(
            "before Linux 5.19 kernel.unprivileged_bpf_disabled keeps all of bpf(2) from a "
            "process without capabilities");
    net_veth_queues("pa", "pb", QUEUES);
    before = footprint_now();
    for (size_t i = 0; i < COUNT(xdp_modes); i++)
        test_nobody(&xdp_modes[i]);
    is_footprint(before, "all of it");
    return tap_end();
}
