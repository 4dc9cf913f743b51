/* A capture receives nothing from before it was bound to its interface: opened again and again on
 * an idle link while another one is flooded, it delivers not one packet. */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t start_flood(void)
{
    struct net_udp udp = net_udp_open();
    uint8_t data[64] = {0};
    pid_t child = fork();

    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm((unsigned)(tap_patience(60000) / 1000));
        for (;;)
            net_udp_send(&udp, data, sizeof data);
    }
    net_udp_close(&udp);
    return child;
}

/* The check can fail: a socket that has its protocol before it is bound gets the flood's packets.
 */
static unsigned foreign_packets_of_a_careless_open(void)
{
    int64_t end = now_ms() + tap_patience(3000);
    unsigned foreign = 0;

    while (foreign == 0 && now_ms() < end) {
        struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)net_index("vb")};
        int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
        uint8_t frame[2048];

        to.sll_protocol = htons(ETH_P_ALL);
        sleep_ms(2); /* what setting up a ring takes */
        if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof to) != 0)
            tap_bail("a plain packet socket: %s", strerror(errno));
        while (recv(fd, frame, sizeof frame, MSG_DONTWAIT) > 0)
            foreign++;
        close(fd);
    }
    return foreign;
}

/* Opens on the flooded link itself. Returns how many packets the kernel let in. */
static uint64_t seen_under_flood(const struct netring_capture_config *config, unsigned *outgoing)
{
    uint64_t seen = 0;

    for (int i = 0; i < 8; i++) {
        struct netring_capture *capture = capture_open("lo", config);
        struct records records = {0, 0, NULL};

        sleep_ms(5); /* the flood must have had a processor */
        netring_capture_stop(capture);
        receive(capture, SIZE_MAX, 0, &records);
        seen += capture_stats(capture).seen;
        for (size_t n = 0; n < records.count; n++)
            *outgoing += records.v[n].packet.direction == NETRING_DIRECTION_OUTGOING;
        capture_close(capture);
        records_free(&records);
    }
    return seen;
}

/* What the config asks for is in place before the first packet can arrive. */
static void test_config_comes_first(void)
{
    const struct sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct netring_capture_config config = small_config();
    unsigned outgoing = 0;

    config.flags |= NETRING_CAPTURE_KEEP_LOOPED;
    ok(seen_under_flood(&config, &outgoing) > 0 && outgoing > 0,
       "opened on the flooded link: packets, outgoing ones too");
    config.flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
    outgoing = 0;
    ok(seen_under_flood(&config, &outgoing) > 0, "outgoing ignored: packets");
    is_int(outgoing, 0, "outgoing ignored: from the first packet on");
    if (netring_filter_new(none, 1, &config.filter, NULL) != 0)
        tap_bail("netring_filter_new failed");
    is_int(seen_under_flood(&config, &outgoing), 0, "a filter that rejects all: not one packet");
    netring_filter_free(config.filter);
}

int main(void)
{
    struct netring_capture_config config;
    uint64_t delivered = 0, received = 0;
    pid_t flood;

    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    config = small_config();
    config.block_timeout = 1;
    flood = start_flood();
    sleep_ms(50);
    for (int i = 0; i < 50; i++) {
        struct netring_capture *capture = capture_open("vb", &config);
        struct records records = {0, 0, NULL};

        receive(capture, 1, 5, &records);
        netring_capture_stop(capture);
        receive(capture, SIZE_MAX, 0, &records);
        delivered += records.count;
        received += capture_stats(capture).seen;
        capture_close(capture);
        records_free(&records);
    }
    is_int(delivered, 0, "50 opens under a flood elsewhere: no packet delivered");
    is_int(received, 0, "and none received");
    test_config_comes_first();
    ok(foreign_packets_of_a_careless_open() > 0, "the flood would have been seen");
    is_int(kill(flood, 0), 0, "the flood went on all the time");
    kill(flood, SIGKILL);
    waitpid(flood, NULL, 0);
    return tap_end();
}
