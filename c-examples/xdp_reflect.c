/* Sends back what comes in, from the memory it was received in: no copy between the two. With a
 * second interface it is a wire: what comes in on one leaves on the other, both ways.
 *
 *   xdp_reflect -f 'udp port 7' eth1   UDP to port 7 back to its sender, MAC addresses swapped
 *   xdp_reflect -a eth1 eth2           everything across, as it is
 *
 * A queue has a thread of its own, which takes a block, changes it in place, and forwards it. Two
 * interfaces have one netring_umem: frames of one are then frames of the other, too.
 *
 * On one interface only what is addressed to it is answered, never broadcasts: two reflectors would
 * keep one going for ever. What is taken and not sent on is gone, since the host does not see it.
 *
 * Exit codes: 0 done (after Ctrl-C, or -c packets), 1 failed, 2 wrong usage, 77 no privilege.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netring.h>

static const char help[] =
    "usage: xdp_reflect -f FILTER | -a [-c COUNT] [-m MODE] INTERFACE [INTERFACE]\n"
    "Sends packets back without a copy, each with its MAC addresses swapped; between two\n"
    "interfaces across, as they are. Until Ctrl-C.\n"
    "\n"
    "  -f FILTER  those that it accepts (pcap-filter(7)); all others stay the host's\n"
    "  -a         all that arrive. Where this machine is reached by the interface that ends it\n"
    "  -c COUNT   end after so many\n"
    "  -m MODE    auto (default), zerocopy, copy, skb\n"
    "  -h         this text\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 no privilege.\n";

enum { EXIT_USAGE = 2, EXIT_SKIP = 77, BATCH = 64, RX_FRAMES = 4096 };

static struct side {
    struct netring_xdp *xdp;
    struct netring_xdp_info info;
    struct netring_interface interface;
} sides[2];
static int side_count;
static _Atomic uint64_t left = UINT64_MAX; /* of COUNT */
static atomic_bool failed;
static volatile sig_atomic_t ending;

static struct worker {
    struct netring_queue *from, *to;
    const uint8_t *address; /* answer what is addressed to this; NULL: pass all on */
    uint32_t number;        /* of the queue */
    const char *interface;
    pthread_t thread;
    uint64_t forwarded, left_out, no_room;
} * workers;
static uint32_t worker_count;

/* Ends the waits, and leaves the sending to be drained. Safe in a signal handler. */
static void end_all(void)
{
    ending = 1;
    for (uint32_t i = 0; i < worker_count; i++)
        netring_queue_wakeup(workers[i].from);
}

static void on_signal(int signal)
{
    (void)signal;
    end_all();
}

/* ---- one queue ------------------------------------------------------------------------------- */

/* False: not to be answered. */
static bool turn_round(const struct netring_packet *p, const uint8_t *address)
{
    uint8_t kept[6];

    if (p->caplen < 14 || memcmp(p->data, address, 6) != 0)
        return false;
    memcpy(kept, p->data, 6);
    memcpy(p->data, p->data + 6, 6);
    memcpy(p->data + 6, kept, 6);
    return true;
}

/* One of COUNT; false: there were enough. */
static bool take_one(void)
{
    uint64_t n = left;

    while (n != UINT64_MAX && n != 0 && !atomic_compare_exchange_weak(&left, &n, n - 1))
        ;
    return n != 0;
}

/* False: it cannot go on, and has said why. */
static bool goes_on(struct worker *w, struct netring_queue *queue, int rc)
{
    struct netring_error err;

    if (rc >= 0 || rc == NETRING_ENETDOWN || rc == NETRING_EWAKEUP)
        return true;
    if (!atomic_exchange(&failed, true)) {
        netring_queue_last_error(queue, &err);
        fprintf(stderr, "xdp_reflect: %s queue %u: %s\n", w->interface, w->number,
                err.code == rc ? err.message : netring_strerror(rc));
        end_all();
    }
    return false;
}

static bool forward(struct worker *w, struct netring_block *block, struct netring_packet *packets,
                    size_t count)
{
    size_t done = 0;

    while (done < count) {
        const int rc =
            netring_queue_forward(w->to, block, packets + done, sizeof *packets, count - done);

        if (rc == NETRING_EMSGSIZE) { /* the other interface takes no such large ones */
            w->left_out++;
            done++;
        } else if (rc == 0 || rc == NETRING_ENETDOWN) {
            /* No room, or no link. The next ones matter more than these. */
            w->no_room += count - done;
            done = count;
        } else if (!goes_on(w, w->to, rc)) {
            return false;
        } else {
            w->forwarded += (uint64_t)rc;
            done += (size_t)rc;
        }
    }
    return goes_on(w, w->to, netring_queue_flush(w->to));
}

static bool reflect(struct worker *w, struct netring_block *block)
{
    struct netring_packet packets[BATCH];
    int n;

    while ((n = netring_block_read(block, packets, sizeof *packets, BATCH)) > 0) {
        size_t kept = 0;

        for (int i = 0; i < n; i++) {
            if (w->address != NULL && !turn_round(&packets[i], w->address))
                w->left_out++;
            else if (take_one())
                packets[kept++] = packets[i];
        }
        if (kept > 0 && !forward(w, block, packets, kept))
            return false;
    }
    return true;
}

static void *serve(void *argument)
{
    struct worker *w = argument;
    struct netring_block *block;
    int rc;

    while (!ending && goes_on(w, w->from, rc = netring_queue_next_block(w->from, -1, &block))) {
        if (rc <= 0)
            continue;
        const bool more = reflect(w, block);
        netring_block_release(block); /* what was forwarded is the sending side's */
        if (!more)
            break;
        if (left == 0)
            end_all();
    }
    goes_on(w, w->to, netring_queue_drain(w->to, 1000));
    return NULL;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static const char *mode_name(uint32_t mode)
{
    static const char *const names[] = {"auto", "zero-copy", "copy", "SKB"};

    return mode < sizeof names / sizeof *names ? names[mode] : "?";
}

/* A worker for each queue of each side; what comes in on queue i leaves on queue i, or where the
 * other interface has fewer, on one of those. */
static bool make_workers(void)
{
    uint32_t count = 0;

    for (int s = 0; s < side_count; s++)
        count += sides[s].info.queue_count;
    workers = calloc(count, sizeof *workers);
    if (workers == NULL)
        return false;
    struct worker *w = workers;
    for (int s = 0; s < side_count; s++) {
        const struct side *here = &sides[s], *there = &sides[side_count - 1 - s];

        for (uint32_t i = 0; i < here->info.queue_count; i++, w++) {
            struct netring_queue_info info;

            netring_xdp_queue(here->xdp, i, &w->from);
            netring_xdp_queue(there->xdp, i % there->info.queue_count, &w->to);
            netring_queue_info(w->from, &info, sizeof info);
            w->number = info.queue;
            w->interface = here->info.interface;
            w->address = side_count == 1 ? here->interface.address : NULL;
        }
    }
    worker_count = count;
    return true;
}

static void tell_the_end(void)
{
    uint64_t forwarded = 0, left_out = 0, no_room = 0;

    for (uint32_t i = 0; i < worker_count; i++) {
        forwarded += workers[i].forwarded;
        left_out += workers[i].left_out;
        no_room += workers[i].no_room;
    }
    printf("%" PRIu64 " forwarded\n", forwarded);
    if (left_out != 0)
        printf("%" PRIu64 " were not to be sent on\n", left_out);
    if (no_room != 0)
        printf("%" PRIu64 " found no room, or no link\n", no_room);
    for (int s = 0; s < side_count; s++) {
        struct netring_stats stats;

        if (netring_xdp_stats(sides[s].xdp, &stats, sizeof stats) == 0)
            printf("%s: %" PRIu64 " received, %" PRIu64 " dropped\n", sides[s].info.interface,
                   stats.received, stats.dropped);
    }
}

/* ---- the command line ------------------------------------------------------------------------ */

static int fail(const struct netring_error *err)
{
    fprintf(stderr, "xdp_reflect: %s\n", err->message);
    return err->code == NETRING_EPERM ? EXIT_SKIP : EXIT_FAILURE;
}

/* Sockets on all queues of an interface; 0, or the exit code. */
static int open_side(struct side *side, const struct netring_xdp_config *config)
{
    struct netring_xdp_step steps[8];
    struct netring_error err;

    if (netring_xdp_open(side->interface.name, NULL, 0, config, &side->xdp, &err) < 0)
        return fail(&err);
    netring_xdp_info(side->xdp, &side->info, sizeof side->info);
    fprintf(stderr, "%s: %s, %u queues\n", side->info.interface, mode_name(side->info.mode),
            side->info.queue_count);
    const int n = netring_xdp_steps(side->xdp, steps, sizeof *steps, sizeof steps / sizeof *steps);
    for (int i = 0; i < n; i++)
        fprintf(stderr, "not %s: %s\n", mode_name(steps[i].mode), steps[i].message);
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"auto", "zerocopy", "copy", "skb"}; /* NETRING_MODE_* */
    struct netring_xdp_config config = NETRING_XDP_CONFIG_INIT;
    struct netring_umem_config memory = NETRING_UMEM_CONFIG_INIT;
    const struct sigaction action = {.sa_handler = on_signal};
    const char *filter = NULL;
    struct netring_error err;
    bool all = false;
    int option, status;

    while ((option = getopt(argc, argv, "f:ac:m:h")) != -1) {
        char *end = "";

        if (option == 'h')
            return fputs(help, stdout) == EOF;
        else if (option == 'f')
            filter = optarg;
        else if (option == 'a')
            all = true;
        else if (option == 'c')
            left = isdigit((unsigned char)*optarg) ? strtoull(optarg, &end, 10) : 0;
        else if (option == 'm') {
            while (config.mode < 4 && strcmp(optarg, modes[config.mode]) != 0)
                config.mode++;
            if (config.mode == 4)
                return fprintf(stderr, "xdp_reflect: no such mode: %s\n", optarg), EXIT_USAGE;
        } else
            return fputs(help, stderr), EXIT_USAGE;
        if (*end != '\0' || left == 0)
            return fprintf(stderr, "xdp_reflect: no count: %s\n", optarg), EXIT_USAGE;
    }
    side_count = argc - optind;
    if (all == (filter != NULL) || side_count < 1 || side_count > 2)
        return fputs(help, stderr), EXIT_USAGE;
    if (filter != NULL && filter[strspn(filter, " \t\r\n")] == '\0') /* -a by accident */
        return fprintf(stderr, "xdp_reflect: -f: an empty filter\n"), EXIT_USAGE;
    if (side_count == 2 && strcmp(argv[optind], argv[optind + 1]) == 0)
        return fprintf(stderr, "xdp_reflect: twice the same interface: once is back\n"), EXIT_USAGE;
    config.redirect = all ? NETRING_REDIRECT_ALL : NETRING_REDIRECT_FILTER;

    uint32_t queues = 0;
    for (int s = 0; s < side_count; s++) {
        if (netring_interface_info(argv[optind + s], &sides[s].interface, sizeof sides[s].interface,
                                   &err) < 0)
            return fail(&err);
        if (sides[s].interface.link_type != NETRING_LINKTYPE_ETHERNET) {
            fprintf(stderr, "xdp_reflect: %s is no Ethernet\n", sides[s].interface.name);
            return EXIT_FAILURE;
        }
        /* Sockets can be had on as many as there are of either kind. */
        const uint32_t rx = sides[s].interface.rx_queues, tx = sides[s].interface.tx_queues;
        queues += rx > tx ? rx : tx > 0 ? tx : 1;
    }
    if (filter != NULL &&
        netring_filter_compile(filter, strlen(filter), NULL, &config.filter, &err) < 0)
        return fail(&err);
    if (side_count == 2) { /* frames of one side are frames of the other */
        memory.frame_count = queues * (RX_FRAMES + 64);
        if (netring_umem_new(&memory, &config.umem, &err) < 0)
            return fail(&err);
    }
    config.rx_frames = RX_FRAMES;
    config.tx_frames = 64; /* only received frames are sent, but they need room in the rings */
    config.tx_ring = config.completion_ring = RX_FRAMES;
    for (int s = 0; s < side_count; s++)
        if ((status = open_side(&sides[s], &config)) != 0)
            return status; /* the end of the process closes the other one */
    netring_filter_free(config.filter);
    netring_umem_free(config.umem); /* the sockets keep the memory */

    const bool made = make_workers();
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    uint32_t running = 0;
    if (made)
        while (running < worker_count &&
               pthread_create(&workers[running].thread, NULL, serve, &workers[running]) == 0)
            running++;
    if (running < worker_count || running == 0) {
        fprintf(stderr, "xdp_reflect: no memory, or no more threads\n");
        failed = true;
        end_all();
    }
    while (running > 0)
        pthread_join(workers[--running].thread, NULL);
    tell_the_end();
    for (int s = 0; s < side_count; s++)
        netring_xdp_close(sides[s].xdp);
    free(workers);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
