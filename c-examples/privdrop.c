/* Captures without any privilege: the program makes the packet socket while it may, hands it to a
 * worker that gives everything up, and only then builds filter, ring and bind on it. Whatever a
 * hostile packet does to the worker, it is nobody, in a process of its own.
 *
 *   sudo privdrop eth0          as nobody, until Ctrl-C
 *   sudo privdrop -u www eth0   as another user
 *   privdrop                    on lo, with traffic of its own; in a network namespace of its own
 *                               where there is no privilege to begin with
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed, 2 wrong usage, 77 not possible here.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <net/if.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <netring.h>

static const char help[] =
    "usage: privdrop [-u USER] [-c COUNT] [INTERFACE]\n"
    "Captures in a worker without any privilege, until Ctrl-C. Without an interface: ten packets\n"
    "on lo, which it sends itself.\n"
    "\n"
    "  -u USER   who the worker is (default: nobody)\n"
    "  -c COUNT  end after so many packets\n"
    "  -h        this text\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 not possible here.\n";

enum { EXIT_USAGE = 2, EXIT_SKIP = 77, UNMAPPED = 65534 };

static struct netring_capture *capture;

static void stop(int signal)
{
    (void)signal;
    netring_capture_stop(capture);
}

static void die(const char *what)
{
    fprintf(stderr, "privdrop: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

/* ---- the parent, with the privilege ---------------------------------------------------------- */

static void lo_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags |= IFF_UP;
        ioctl(fd, SIOCSIFFLAGS, &request);
    }
    if (fd >= 0)
        close(fd);
}

/* All that needs CAP_NET_RAW. Protocol 0: it receives nothing yet. */
static int make_socket(bool demo)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    if (fd < 0 && errno == EPERM && demo && unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) {
        printf("no privilege here: in a network namespace of our own\n");
        lo_up();
        fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    }
    if (fd >= 0)
        return fd;
    fprintf(stderr, "privdrop: socket(AF_PACKET): %s: run it as root, or setcap cap_net_raw+ep\n",
            strerror(errno));
    exit(demo && errno == EPERM ? EXIT_SKIP : EXIT_FAILURE);
}

/* ---- the worker ------------------------------------------------------------------------------ */

/* False: whoever it is does not exist here, in a user namespace that knows one user. */
static bool become(uid_t uid, gid_t gid)
{
    if (setgroups(0, NULL) != 0 && errno != EPERM)
        die("setgroups");
    if (setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0)
        return true;
    if (errno != EINVAL)
        die("becoming somebody else");
    return false;
}

/* The order matters: each step needs what a later one takes away. Returns whether it is somebody
 * else now. */
static bool drop_everything(uid_t uid, gid_t gid)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];

    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); /* not even by executing something */
    const bool somebody_else = geteuid() == 0 && become(uid, gid);
    memset(none, 0, sizeof none);
    if (syscall(SYS_capset, &head, none) != 0) /* those of setcap, or of a user namespace */
        die("capset");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        die("PR_SET_NO_NEW_PRIVS");
    return somebody_else;
}

static bool refused(const char *what, bool done)
{
    printf("  %-28s %s\n", what, done ? "still possible!" : strerror(errno));
    return !done;
}

static bool show_what_is_gone(pid_t parent, bool somebody_else)
{
    bool gone = true;
    int fd;

    printf("worker %d, uid %u, can no longer:\n", (int)getpid(), (unsigned)getuid());
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    gone &= refused("make a packet socket", fd >= 0);
    fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    gone &= refused("make a raw socket", fd >= 0);
    gone &= refused("make a network namespace", unshare(CLONE_NEWNET) == 0);
    if (somebody_else) {
        gone &= refused("be root again", setuid(0) == 0);
        gone &= refused("read /etc/shadow", open("/etc/shadow", O_RDONLY | O_CLOEXEC) >= 0);
        gone &= refused("signal its parent", kill(parent, 0) == 0);
    }
    return gone;
}

/* Ten datagrams over lo, which need no privilege. */
static void send_some(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    socklen_t size = sizeof to;
    const int receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (receiver < 0 || sender < 0 || bind(receiver, (struct sockaddr *)&to, sizeof to) != 0 ||
        getsockname(receiver, (struct sockaddr *)&to, &size) != 0)
        die("a UDP socket");
    for (size_t i = 0; i < 10; i++)
        if (sendto(sender, help, 50 * i, 0, (struct sockaddr *)&to, sizeof to) < 0)
            die("sendto");
    close(sender);
    close(receiver);
}

static int work(int fd, const char *interface, uint64_t count, bool demo)
{
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_error err;
    struct netring_block *block;
    struct netring_stats stats;
    uint64_t seen = 0;
    int rc;

    netring_capture_config_profile(&config, NETRING_PROFILE_LOW_MEMORY);
    config.flags |= NETRING_CAPTURE_SOCKET_FD;
    config.socket_fd = fd;
    if (!demo && strcmp(interface, "any") != 0)
        config.flags |= NETRING_CAPTURE_PROMISCUOUS; /* needs no privilege either */
    if (netring_capture_open(interface, &config, &capture, &err) < 0) {
        fprintf(stderr, "privdrop: %s\n", err.message);
        return EXIT_FAILURE;
    }
    close(fd); /* the capture has its own; with the parent's closed it ends with this process */
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("and captures on %s:\n", interface);
    if (demo)
        send_some();
    while ((count == 0 || seen < count) &&
           (rc = netring_capture_next_block(capture, demo ? 5000 : -1, &block)) > 0) {
        struct netring_packet p[64];
        int n;

        while ((n = netring_block_read(block, p, sizeof *p, 64)) > 0)
            for (int i = 0; i < n && (count == 0 || seen < count); i++, seen++)
                printf("  %" PRIu64 ".%09" PRIu64 " %" PRIu32 " bytes\n", p[i].time_ns / 1000000000,
                       p[i].time_ns % 1000000000, p[i].len);
        netring_block_release(block);
        fflush(stdout);
    }
    if (netring_capture_stats(capture, &stats, sizeof stats) == 0)
        printf("%" PRIu64 " packets; %" PRIu64 " received, %" PRIu64
               " of them second copies on lo; %" PRIu64 " dropped\n",
               seen, stats.received, stats.looped, stats.dropped);
    netring_capture_close(capture);
    return demo && seen < count ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    const char *user = "nobody", *interface = "lo";
    uint64_t count = 0;
    int option, status;

    while ((option = getopt(argc, argv, "u:c:h")) != -1) {
        char *end = "";

        if (option == 'u')
            user = optarg;
        else if (option == 'c')
            count = strtoull(optarg, &end, 10);
        else if (option == 'h')
            return fputs(help, stdout) == EOF;
        else
            return fputs(help, stderr), EXIT_USAGE;
        if (*end != '\0')
            return fprintf(stderr, "privdrop: -c %s is no number\n", optarg), EXIT_USAGE;
    }
    if (argc > optind + 1)
        return fputs(help, stderr), EXIT_USAGE;
    const bool demo = optind == argc;
    if (!demo)
        interface = argv[optind];
    else if (count == 0)
        count = 10;

    const struct passwd *entry = getpwnam(user);
    if (entry == NULL && strcmp(user, "nobody") != 0)
        return fprintf(stderr, "privdrop: there is no user %s\n", user), EXIT_FAILURE;
    const uid_t uid = entry != NULL ? entry->pw_uid : UNMAPPED;
    const gid_t gid = entry != NULL ? entry->pw_gid : UNMAPPED;
    if (uid == 0)
        return fprintf(stderr, "privdrop: root is no user to become\n"), EXIT_USAGE;

    const int fd = make_socket(demo);
    const pid_t parent = getpid();
    fflush(NULL);
    const pid_t worker = fork();
    if (worker < 0)
        die("fork");
    if (worker == 0) {
        const bool somebody_else = drop_everything(uid, gid);

        if (!show_what_is_gone(parent, somebody_else))
            return EXIT_FAILURE;
        return work(fd, interface, count, demo);
    }
    /* A copy here would keep the socket, and promiscuous mode, beyond a worker that is killed. */
    close(fd);
    signal(SIGINT, SIG_IGN); /* Ctrl-C goes to both; the worker ends */
    while (waitpid(worker, &status, 0) < 0)
        if (errno != EINTR)
            die("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
