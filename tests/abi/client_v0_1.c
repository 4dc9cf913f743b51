/* The first client: written for libnetring 0.1, compiled with the header of that day
 * (frozen/netring.h), linked with the library of today. It must go on building from that header and
 * go on running.
 *
 * On lo, in a network namespace of its own (the script makes it) or as root: opens a capture, sends
 * itself one UDP packet, receives it; then the same with a shorter (older) and a longer (newer)
 * configuration. TAP; 77: cannot run here. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netring.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char payload[] = "libnetring 0.1, the first client";
static int number, failed;

static void check(int good, const char *what)
{
    printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
    failed += !good;
}

static void lo_up(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    if (ioctl(fd, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
        request.ifr_flags |= IFF_UP;
        ioctl(fd, SIOCSIFFLAGS, &request);
    }
    close(fd);
}

/* One UDP packet from this process to itself over lo. */
static int send_one(void)
{
    struct sockaddr_in to;
    socklen_t size = sizeof to;
    int in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int good =
        bind(in, (struct sockaddr *)&to, size) == 0 &&
        getsockname(in, (struct sockaddr *)&to, &size) == 0 &&
        sendto(out, payload, sizeof payload, 0, (struct sockaddr *)&to, size) == sizeof payload;
    close(in);
    close(out);
    return good;
}

/* Waits up to two seconds for the packet. Returns how often it came. */
static int receive(struct netring_capture *capture)
{
    int found = 0;
    for (int tries = 0; tries < 20 && !found; tries++) {
        struct netring_block *block;
        int rc = netring_capture_next_block(capture, 100, &block);
        if (rc < 0) {
            printf("# next_block: %s\n", netring_err_name(rc));
            return -1;
        }
        if (rc == 0)
            continue;
        struct netring_packet packets[8];
        int n;
        while ((n = netring_block_read(block, packets, sizeof packets[0], 8)) > 0)
            for (int i = 0; i < n; i++)
                if (packets[i].caplen >= sizeof payload &&
                    memcmp(packets[i].data + packets[i].caplen - sizeof payload, payload,
                           sizeof payload) == 0)
                    found++;
        if (netring_block_release(block) != 0)
            return -1;
    }
    return found;
}

static int round_trip(const struct netring_capture_config *config)
{
    struct netring_capture *capture;
    struct netring_error error;
    int rc = netring_capture_open("lo", config, &capture, &error);
    if (rc < 0) {
        printf("# open: %s: %s (errno %d)\n", error.option, error.message, error.os_errno);
        return rc;
    }
    int found = send_one() ? receive(capture) : -1;
    struct netring_stats stats;
    if (netring_capture_stats(capture, &stats, sizeof stats) != 0 || stats.received < 1)
        found = -1;
    rc = netring_capture_close(capture);
    return rc < 0 ? rc : found;
}

int main(void)
{
    /* What a newer header would have: more at the end. */
    struct {
        struct netring_capture_config known;
        uint64_t later[4];
    } newer;
    struct netring_capture_config config, older;

    setvbuf(stdout, NULL, _IOLBF, 0);
    lo_up();
    printf("# header %d.%d.%d, library %s\n", NETRING_VERSION_MAJOR, NETRING_VERSION_MINOR,
           NETRING_VERSION_PATCH, netring_version_string());

    int rc = round_trip(NULL);
    if (rc == NETRING_EPERM) {
        printf("1..0 # SKIP needs CAP_NET_RAW\n");
        return 77;
    }
    check(rc == 1, "the defaults (NULL): one packet sent, one received");

    rc = netring_capture_config_init(&config, sizeof config);
    config.block_size = 65536;
    config.block_count = 4;
    check(rc == 0 && round_trip(&config) == 1, "a configuration of this header");

    /* memory_limit and filter did not exist yet; what lies there is not read. */
    memset(&older, 0xff, sizeof older);
    memcpy(&older, &config, offsetof(struct netring_capture_config, memory_limit));
    older.size = offsetof(struct netring_capture_config, memory_limit);
    check(round_trip(&older) == 1, "a shorter configuration: the rest is the defaults");

    memset(&newer, 0, sizeof newer);
    newer.known = config;
    newer.known.size = sizeof newer;
    check(round_trip(&newer.known) == 1,
          "a longer configuration with zeros beyond what the library knows");

    newer.later[3] = 1;
    errno = 0;
    check(round_trip(&newer.known) == NETRING_EINVAL && errno == EINVAL,
          "a longer configuration that asks for something unknown is refused");
    printf("1..%d\n", number);
    return failed != 0;
}
