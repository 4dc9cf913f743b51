/* Shows the interfaces of this network namespace: a line each, or all that is known of one.
 *
 *   interfaces                  a table
 *   interfaces eth0             one, with its abilities
 *
 * Needs no privilege. Exit codes: 0 done, 1 failed, 2 wrong usage.
 */
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netring.h>

static const char help[] =
    "usage: interfaces [INTERFACE]\n"
    "Shows the interfaces of this network namespace, or all that is known of one.\n"
    "\n"
    "Columns: queues: receive/transmit, in use; type: LINKTYPE_ number of the packets (1: "
    "Ethernet).\n"
    "\"-\": neither the kernel nor the driver tells. Exit codes: 0 done, 1 failed, 2 wrong "
    "usage.\n";

static const char *state(const struct netring_interface *i)
{
    if (!(i->flags & IFF_UP))
        return "down";
    return i->carrier ? "up" : "no carrier";
}

static const char *driver(const struct netring_interface *i)
{
    return i->valid & NETRING_INTERFACE_DRIVER ? i->driver : "-";
}

/* "00:11:22:33:44:55", or "-". */
static const char *address(const struct netring_interface *i, char text[3 * 32])
{
    strcpy(text, "-");
    for (unsigned at = 0; at < i->address_length; at++)
        sprintf(text + 3 * at - (at > 0), "%s%02x", at > 0 ? ":" : "", i->address[at]);
    return text;
}

static void print_speed(const struct netring_interface *i)
{
    if (i->speed_mbps)
        printf(" %9" PRIu32, i->speed_mbps);
    else
        printf(" %9s", "-");
}

static void print_line(const struct netring_interface *i)
{
    char text[3 * 32];

    printf("%5" PRIu32 " %-15s %-10s %6" PRIu32, i->ifindex, i->name, state(i), i->mtu);
    print_speed(i);
    printf(" %3" PRIu32 "/%-3" PRIu32 " %4" PRIu32 " %-10s %s\n", i->rx_queues, i->tx_queues,
           i->link_type, driver(i), address(i, text));
}

static void print_bits(uint64_t bits, const char *const names[], size_t count)
{
    for (size_t bit = 0; bit < count; bit++)
        if (bits >> bit & 1)
            printf(" %s", names[bit]);
}

static void print_all(const struct netring_interface *i)
{
    static const char *const stamps[] = {"tx-hardware", "tx-software", "rx-hardware",
                                         "rx-software", "software",    "sys-hardware",
                                         "raw-hardware"};
    static const char *const abilities[] = {"basic",          "redirect", "redirect-target",
                                            "zero-copy",      "offload",  "rx-segments",
                                            "target-segments"};
    static const char *const modes[] = {"none", "in the driver", "generic", "in the device",
                                        "several"};
    char text[3 * 32];

    printf("%s: index %" PRIu32 ", %s, driver %s\n", i->name, i->ifindex, state(i), driver(i));
    printf("  mtu %" PRIu32 ", link type %" PRIu32 ", address %s\n", i->mtu, i->link_type,
           address(i, text));
    printf("  speed");
    print_speed(i);
    printf(" Mbit/s, %s duplex\n", i->duplex == 0 ? "half" : i->duplex == 1 ? "full" : "unknown");
    printf("  queues: receive %" PRIu32 " of %" PRIu32 ", transmit %" PRIu32 " of %" PRIu32 "\n",
           i->rx_queues, i->rx_queues_max, i->tx_queues, i->tx_queues_max);
    printf("  time stamps:");
    if (i->valid & NETRING_INTERFACE_TIMESTAMPING) {
        print_bits(i->timestamping, stamps, sizeof stamps / sizeof *stamps);
        if (i->clock >= 0)
            printf(", clock /dev/ptp%" PRId32, i->clock);
        printf("\n");
    } else {
        printf(" -\n");
    }
    printf("  XDP:");
    if (i->valid & NETRING_INTERFACE_XDP_FEATURES) {
        print_bits(i->xdp_features, abilities, sizeof abilities / sizeof *abilities);
        if (i->xdp_max_segments)
            printf(", up to %" PRIu32 " segments", i->xdp_max_segments);
    } else {
        printf(" -");
    }
    if (i->valid & NETRING_INTERFACE_XDP_PROGRAM)
        printf("; program: %s",
               i->xdp_mode < sizeof modes / sizeof *modes ? modes[i->xdp_mode] : "?");
    if (i->xdp_program)
        printf(", id %" PRIu32, i->xdp_program);
    printf("\n");
}

int main(int argc, char **argv)
{
    struct netring_interface one, *all = NULL;
    struct netring_error err;
    int count, room = 0;

    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        int asked = argc == 2 && strcmp(argv[1], "-h") == 0;
        fputs(help, asked ? stdout : stderr);
        return asked ? 0 : 2;
    }
    if (argc == 2) {
        if (netring_interface_info(argv[1], &one, sizeof one, &err) < 0)
            return fprintf(stderr, "interfaces: %s\n", err.message), 1;
        print_all(&one);
        return 0;
    }

    /* How many there are may change between the calls: until all have room. */
    while ((count = netring_interface_list(all, sizeof *all, (size_t)room, &err)) > room) {
        room = count + 8;
        free(all);
        all = malloc((size_t)room * sizeof *all);
        if (!all)
            return perror("interfaces"), 1;
    }
    if (count < 0)
        return fprintf(stderr, "interfaces: %s\n", err.message), 1;
    printf("%5s %-15s %-10s %6s %9s %7s %4s %-10s %s\n", "index", "name", "state", "mtu", "Mbit/s",
           "queues", "type", "driver", "address");
    for (int i = 0; i < count; i++)
        print_line(&all[i]);
    free(all);
    return 0;
}
