/* Shows what AF_XDP sockets would be granted on the interfaces of this network namespace: a line
 * each, or all that is known of one, with what to do about it.
 *
 *   xdp_probe                   a table
 *   xdp_probe eth0              one, in detail
 *
 * Needs no privilege, but tells what this user may do: as root it shows what root gets. Exit codes:
 * 0 done, 1 failed, 2 wrong usage, 3 an open of this interface would fail.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netring.h>

static const char help[] =
    "usage: xdp_probe [INTERFACE]\n"
    "Shows what AF_XDP sockets would be granted on the interfaces of this network namespace, or\n"
    "on one in detail.\n"
    "\n"
    "Columns: open: the mode that all queues would get (\"?\" behind it: unless the driver has\n"
    "something against it), or what is in the way; queues: receive/transmit, in use; frame: bytes\n"
    "of a frame that every packet fits. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 an open of\n"
    "this interface would fail.\n";

static const char *mode_name(uint32_t mode)
{
    switch (mode) {
    case NETRING_MODE_ZEROCOPY:
        return "zero-copy";
    case NETRING_MODE_COPY:
        return "native";
    case NETRING_MODE_SKB:
        return "skb";
    default:
        return "unknown";
    }
}

/* The first thing that is in the way. */
static const char *obstacle(uint32_t blocked_by)
{
    static const char *const names[] = {"program", "program above", "privilege", "privilege",
                                        "kernel",  "queues taken",  "ulimit -l"};

    for (size_t bit = 0; bit < sizeof names / sizeof *names; bit++)
        if (blocked_by >> bit & 1)
            return names[bit];
    return "-";
}

static const char *driver(const struct netring_xdp_probe *p)
{
    return p->valid & NETRING_PROBE_DRIVER ? p->driver : "-";
}

static const char *doubt(const struct netring_xdp_probe *p)
{
    return p->valid & NETRING_PROBE_MODE ? "" : "?";
}

static void print_line(const struct netring_xdp_probe *p)
{
    char open[32];

    if (p->blocked_by)
        snprintf(open, sizeof open, "no: %s", obstacle(p->blocked_by));
    else
        snprintf(open, sizeof open, "%s%s", mode_name(p->mode), doubt(p));
    printf("%-15s %-12s %-18s %4" PRIu32 "/%-4" PRIu32 " %6" PRIu32 " %6" PRIu32 "\n", p->interface,
           driver(p), open, p->rx_queues, p->tx_queues, p->mtu, p->frame_size_needed);
}

static void print_bits(uint64_t bits, const char *const names[], size_t count)
{
    for (size_t bit = 0; bit < count; bit++)
        if (bits >> bit & 1)
            printf(" %s", names[bit]);
}

static void print_number(const char *name, uint64_t valid, uint32_t number)
{
    printf(", %s ", name);
    if (valid)
        printf("%" PRIu32, number);
    else
        printf("unknown");
}

static const char *yes(uint32_t flag)
{
    return flag ? "yes" : "no";
}

static void print_queues(const struct netring_xdp_probe *p)
{
    printf("  queues: receive %" PRIu32 " of %" PRIu32 ", transmit %" PRIu32 " of %" PRIu32 "%s\n",
           p->rx_queues, p->rx_queues_max, p->tx_queues, p->tx_queues_max,
           p->valid & NETRING_PROBE_QUEUES ? "" : " (at most)");
    if (p->valid & NETRING_PROBE_TAKEN && p->taken_queues)
        printf("  taken by other sockets: %" PRIu32 ", the first is queue %" PRIu32 "\n",
               p->taken_queues, p->taken_first);
    if (p->valid & NETRING_PROBE_RSS)
        printf("  RSS: over %" PRIu32 " queues, from queue %" PRIu32 "\n", p->rss_queues,
               p->rss_first);
    if (p->valid & NETRING_PROBE_RULES)
        printf("  steering rules: %" PRIu32 "\n", p->steering_rules);
}

static void print_all(const struct netring_xdp_probe *p)
{
    static const char *const abilities[] = {"basic",          "redirect", "redirect-target",
                                            "zero-copy",      "offload",  "rx-segments",
                                            "target-segments"};
    static const char *const limits[] = {"no zero copy in the driver", "no XDP in the driver",
                                         "the MTU", "the peer's queues"};
    static const char *const places[] = {"none", "in the driver", "generic", "in the device",
                                         "several"};

    printf("%s: index %" PRIu32 ", driver %s, %s, Linux %" PRIu32 ".%" PRIu32 ".%" PRIu32 "\n",
           p->interface, p->ifindex, driver(p),
           !p->up        ? "down"
           : !p->carrier ? "no carrier"
                         : "up",
           p->kernel_version >> 16, p->kernel_version >> 8 & 255, p->kernel_version & 255);
    if (p->blocked_by)
        printf("  open: would fail (%s); otherwise %s%s\n", obstacle(p->blocked_by),
               mode_name(p->best_mode), doubt(p));
    else
        printf("  open: %s%s\n", mode_name(p->mode), doubt(p));
    if (p->limited_by) {
        printf("  no better mode:");
        for (size_t bit = 0, n = 0; bit < sizeof limits / sizeof *limits; bit++)
            if (p->limited_by >> bit & 1)
                printf("%s %s", n++ ? "," : "", limits[bit]);
        printf("\n");
    }
    printf("  features:");
    if (p->valid & NETRING_PROBE_FEATURES) {
        print_bits(p->features, abilities, sizeof abilities / sizeof *abilities);
        if (p->max_segments)
            printf(", up to %" PRIu32 " segments", p->max_segments);
        if (!p->features)
            printf(" none");
    } else {
        printf(" unknown");
    }
    printf("\n  program:");
    if (p->valid & NETRING_PROBE_PROGRAM)
        printf(" %s",
               p->attach_mode < sizeof places / sizeof *places ? places[p->attach_mode] : "?");
    else
        printf(" unknown");
    if (p->program_id)
        printf(", id %" PRIu32, p->program_id);
    printf("\n");
    print_queues(p);
    printf("  mtu %" PRIu32, p->mtu);
    print_number("that counts for the driver", p->valid & NETRING_PROBE_NATIVE_MTU, p->native_mtu);
    print_number("largest of one buffer", p->valid & NETRING_PROBE_MTU_LIMIT, p->mtu_limit);
    printf("\n  frames: %" PRIu32 " bytes for every packet; %" PRIu64 " bytes in all by default",
           p->frame_size_needed, p->frame_memory);
    if (p->locked_limit != UINT64_MAX)
        printf(", %" PRIu64 " may be locked", p->locked_limit);
    printf("\n");
    if (p->valid & NETRING_PROBE_OFFLOADS)
        printf("  VLAN tags taken out: %s; LRO: %s; GRO: %s\n", yes(p->strips_tags), yes(p->lro),
               yes(p->gro));
    if (p->advice[0])
        printf("  advice: %s\n", p->advice);
}

static int print_table(void)
{
    struct netring_interface *all = NULL;
    struct netring_error err;
    int count, room = 0;

    /* How many there are may change between the calls: until all have room. */
    while ((count = netring_interface_list(all, sizeof *all, (size_t)room, &err)) > room) {
        room = count + 8;
        free(all);
        all = malloc((size_t)room * sizeof *all);
        if (!all)
            return perror("xdp_probe"), 1;
    }
    if (count < 0)
        return fprintf(stderr, "xdp_probe: %s\n", err.message), 1;
    printf("%-15s %-12s %-18s %9s %6s %6s\n", "interface", "driver", "open", "queues ", "mtu",
           "frame");
    for (int i = 0; i < count; i++) {
        struct netring_xdp_probe probe;

        /* One that is gone by now is left out. */
        if (netring_xdp_probe(all[i].name, &probe, sizeof probe, NULL) == 0)
            print_line(&probe);
    }
    free(all);
    return 0;
}

int main(int argc, char **argv)
{
    struct netring_xdp_probe probe;
    struct netring_error err;

    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        int asked = argc == 2 && strcmp(argv[1], "-h") == 0;
        fputs(help, asked ? stdout : stderr);
        return asked ? 0 : 2;
    }
    if (argc == 1)
        return print_table();
    if (netring_xdp_probe(argv[1], &probe, sizeof probe, &err) < 0)
        return fprintf(stderr, "xdp_probe: %s\n", err.message), 1;
    print_all(&probe);
    return probe.blocked_by ? 3 : 0;
}
