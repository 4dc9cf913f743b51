/* Sends back what comes in: each packet with its link-layer addresses swapped, on request its IP
 * addresses and ports too. The other end of a measurement, or a start for something that answers.
 *
 *   reflect eth0                what is addressed to this interface
 *   reflect -a eth0 udp port 7  UDP to port 7, with addresses and ports swapped: an echo server
 *
 * The packets are changed where the kernel put them and handed to netring_injector_send_packet,
 * which puts back what the kernel took out (a VLAN tag) or left open (a checksum). Swapping changes
 * no checksum. Immediate mode has each packet here as soon as it comes in.
 *
 * Only what is addressed to the interface is answered, never a broadcast or multicast packet: two
 * reflectors would keep one going for ever. The host's own protocols see the packets as well.
 *
 * Exit codes: 0 done (after Ctrl-C, or -c packets), 1 failed, 2 wrong usage, 77 no privilege.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>

static const char help[] =
    "usage: reflect [-a] [-c COUNT] [-m METHOD] INTERFACE [FILTER]\n"
    "Sends packets back to where they come from, until Ctrl-C: each with its MAC addresses "
    "swapped.\n"
    "\n"
    "  -a         swap the IP addresses too, and the ports of UDP, TCP and SCTP\n"
    "  -c COUNT   end after so many\n"
    "  -m METHOD  auto (default), ring, sendmmsg\n"
    "  -h         this text\n"
    "\n"
    "Of what is addressed to the interface, all packets that FILTER (pcap-filter(7)) accepts.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 no privilege.\n";

enum { EXIT_USAGE = 2, EXIT_SKIP = 77, BATCH = 64 };

static struct netring_capture *capture;
static struct netring_injector *injector;
static uint64_t reflected, too_large, left_out, no_room;
static struct netring_error why_left_out; /* the first one */

static void on_signal(int signal)
{
    (void)signal;
    netring_capture_stop(capture); /* safe here; what has come in is still reflected */
}

/* ---- in place -------------------------------------------------------------------------------- */

static void swap(uint8_t *one, uint8_t *other, size_t size)
{
    uint8_t kept[16];

    memcpy(kept, one, size);
    memcpy(one, other, size);
    memcpy(other, kept, size);
}

/* Addresses and ports of a network packet; whatever it is not sure of it leaves alone. */
static void swap_network(unsigned protocol, uint8_t *ip, size_t left)
{
    size_t header = 40;
    unsigned transport;
    bool fragment = false;

    if (protocol == 0x0800 && left >= 20 && ip[0] >> 4 == 4) {
        header = (size_t)(ip[0] & 0xf) * 4;
        transport = ip[9];
        fragment = (ip[6] & 0x1f) != 0 || ip[7] != 0;
        swap(ip + 12, ip + 16, 4);
    } else if (protocol == 0x86dd && left >= 40 && ip[0] >> 4 == 6) {
        transport = ip[6];
        swap(ip + 8, ip + 24, 16);
    } else {
        return;
    }
    if (!fragment && header >= 20 && left >= header + 4 &&
        (transport == 17 || transport == 6 || transport == 132))
        swap(ip + header, ip + header + 2, 2);
}

/* False: not to be answered. */
static bool turn_round(const struct netring_packet *p, bool addresses)
{
    uint8_t *frame = p->data;
    size_t network = 14;
    unsigned protocol;

    if (p->direction != NETRING_DIRECTION_HOST || p->caplen < network || (frame[0] & 1) != 0)
        return false;
    swap(frame, frame + 6, 6);
    if (!addresses)
        return true;
    protocol = (unsigned)frame[12] << 8 | frame[13];
    /* The outer tag is beside the bytes mostly, an inner one is in them. */
    while ((protocol == 0x8100 || protocol == 0x88a8) && p->caplen >= network + 4) {
        protocol = (unsigned)frame[network + 2] << 8 | frame[network + 3];
        network += 4;
    }
    swap_network(protocol, frame + network, p->caplen - network);
    return true;
}

/* ---- back ------------------------------------------------------------------------------------ */

/* False: it cannot go on, and has said why. */
static bool send_back(struct netring_block *block, const struct netring_packet *packets,
                      size_t count)
{
    struct netring_error err;
    size_t done = 0;

    while (done < count) {
        const int rc = netring_injector_send_packet(injector, block, packets + done,
                                                    sizeof *packets, count - done, 100);

        if (rc == NETRING_EMSGSIZE) { /* a super-packet: the receiving side joined several */
            too_large++;
            done++;
        } else if (rc == NETRING_EINVAL) { /* it was cut, or a checksum cannot be completed */
            if (left_out++ == 0)
                netring_injector_last_error(injector, &why_left_out);
            done++;
        } else if (rc == 0 || rc == NETRING_ENETDOWN) {
            /* No room, or no link. The next ones matter more than these. */
            no_room += count - done;
            return true;
        } else if (rc < 0) {
            netring_injector_last_error(injector, &err);
            fprintf(stderr, "reflect: %s\n", err.code == rc ? err.message : netring_strerror(rc));
            return false;
        } else {
            reflected += (uint64_t)rc;
            done += (size_t)rc;
        }
    }
    return true;
}

static bool reflect(struct netring_block *block, bool addresses, uint64_t *left)
{
    struct netring_packet packets[BATCH];
    int n;

    while ((n = netring_block_read(block, packets, sizeof *packets, BATCH)) > 0) {
        size_t kept = 0;

        for (int i = 0; i<n && * left> 0; i++)
            if (turn_round(&packets[i], addresses)) {
                packets[kept++] = packets[i];
                --*left;
            }
        if (!send_back(block, packets, kept))
            return false;
    }
    return true;
}

/* One line on a terminal, once a second. */
static void show(void)
{
    static struct timespec shown;
    static uint64_t before;
    struct netring_stats s;
    struct timespec now;
    double passed;

    clock_gettime(CLOCK_MONOTONIC, &now);
    passed = (double)(now.tv_sec - shown.tv_sec) + (double)(now.tv_nsec - shown.tv_nsec) / 1e9;
    if (!isatty(STDERR_FILENO) || passed < 1 || netring_capture_stats(capture, &s, sizeof s) < 0)
        return;
    fprintf(stderr,
            "\r\x1b[K%" PRIu64 " reflected, %.0f a second, %" PRIu64 " dropped; Ctrl-C ends",
            reflected, shown.tv_sec == 0 ? 0 : (double)(reflected - before) / passed, s.dropped);
    shown = now;
    before = reflected;
}

static void close_and_tell(void)
{
    struct netring_stats in;
    struct netring_injector_stats out;
    const bool told = netring_capture_stats(capture, &in, sizeof in) == 0 &&
                      netring_injector_stats(injector, &out, sizeof out) == 0;
    const int given_up = netring_injector_close(injector); /* which never reached the kernel */

    netring_capture_close(capture);
    if (isatty(STDERR_FILENO))
        fputs("\r\x1b[K", stderr);
    printf("%" PRIu64 " reflected\n", reflected);
    if (too_large != 0)
        printf("%" PRIu64 " larger than the interface sends\n", too_large);
    if (left_out != 0)
        printf("%" PRIu64 " could not leave as they came; the first one: %s\n", left_out,
               why_left_out.message);
    if (no_room != 0)
        printf("%" PRIu64 " found no room in 100 ms, or no link\n", no_room);
    if (given_up > 0)
        printf("%d were still waiting, and did not leave\n", given_up);
    if (told)
        printf("%" PRIu64 " received, %" PRIu64 " dropped; %" PRIu64 " refused by the kernel\n",
               in.received, in.dropped, out.refused);
}

/* ---- the command line ------------------------------------------------------------------------ */

static int fail(const struct netring_error *err)
{
    fprintf(stderr, "reflect: %s\n", err->message);
    return err->code == NETRING_EPERM ? EXIT_SKIP : EXIT_FAILURE;
}

/* The words as one text. */
static struct netring_filter *compile(char **words, struct netring_error *err)
{
    struct netring_filter *filter = NULL;
    char text[4096] = "";

    for (; *words != NULL; words++)
        if (strlen(text) + strlen(*words) + 2 < sizeof text)
            strcat(strcat(text, *words), " ");
    netring_filter_compile(text, strlen(text), NULL, &filter, err);
    return filter;
}

int main(int argc, char **argv)
{
    struct netring_capture_config receive = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_injector_config send = NETRING_INJECTOR_CONFIG_INIT;
    const struct sigaction action = {.sa_handler = on_signal};
    struct netring_interface interface;
    struct netring_block *block;
    struct netring_error err;
    uint64_t left = UINT64_MAX;
    bool addresses = false, goes = true;
    int option, rc = 0;

    while ((option = getopt(argc, argv, "+ac:m:h")) != -1) {
        char *end = "";

        if (option == 'h')
            return fputs(help, stdout) == EOF;
        else if (option == 'a')
            addresses = true;
        else if (option == 'c')
            left = isdigit((unsigned char)*optarg) ? strtoull(optarg, &end, 10) : 0;
        else if (option == 'm' && strcmp(optarg, "ring") == 0)
            send.method = NETRING_METHOD_TPACKET2;
        else if (option == 'm' && strcmp(optarg, "sendmmsg") == 0)
            send.method = NETRING_METHOD_SENDMMSG;
        else if (option != 'm' || strcmp(optarg, "auto") != 0)
            return fputs(help, stderr), EXIT_USAGE;
        if (*end != '\0' || left == 0)
            return fprintf(stderr, "reflect: no count: %s\n", optarg), EXIT_USAGE;
    }
    if (optind == argc)
        return fputs(help, stderr), EXIT_USAGE;

    if (netring_interface_info(argv[optind], &interface, sizeof interface, &err) < 0)
        return fail(&err);
    if (interface.flags & IFF_LOOPBACK) {
        fprintf(stderr,
                "reflect: %s gives back what it is given: a packet would go round for ever\n",
                interface.name);
        return EXIT_FAILURE;
    }
    if (interface.link_type != NETRING_LINKTYPE_ETHERNET) {
        fprintf(stderr, "reflect: %s has no MAC addresses to swap (link type %u)\n", interface.name,
                interface.link_type);
        return EXIT_FAILURE;
    }
    netring_capture_config_profile(&receive, NETRING_PROFILE_LOW_LATENCY);
    receive.flags |= NETRING_CAPTURE_IGNORE_OUTGOING; /* or it would see its own */
    receive.block_count = 16;
    receive.snap_length = interface.mtu + 64; /* what is larger cannot be sent in one piece */
    if (optind + 1 < argc && (receive.filter = compile(argv + optind + 1, &err)) == NULL)
        return fail(&err);
    if (netring_injector_open(interface.name, &send, &injector, &err) < 0 ||
        netring_capture_open(interface.name, &receive, &capture, &err) < 0)
        return fail(&err);
    netring_filter_free(receive.filter); /* the capture has its own copy */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    while (goes && left > 0 && (rc = netring_capture_next_block(capture, 1000, &block)) >= 0) {
        if (rc > 0) {
            goes = reflect(block, addresses, &left);
            netring_block_release(block);
        }
        show();
    }
    netring_injector_drain(injector, 1000);
    if (rc < 0 && rc != NETRING_ESHUTDOWN)
        fprintf(stderr, "reflect: %s\n", netring_strerror(rc));
    close_and_tell();
    return goes && (rc >= 0 || rc == NETRING_ESHUTDOWN) ? EXIT_SUCCESS : EXIT_FAILURE;
}
