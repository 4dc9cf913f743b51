/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Whether an injector with a rate keeps it, judged by when the packets arrive at the other end of a
 * veth pair: over any second within 2 % of the rate, and in no 10 ms more than 120 % of it and one
 * batch. A sender that gets no CPU keeps no rate: the kernel tells how long it was ready to run and
 * did not, and a rate that was not kept with more than 1 % of that is tried again.
 *
 * Makes a network namespace of its own. Exit status: 0, 1 (a rate was not kept, or the machine was
 * too busy to tell), 77 (not allowed to make one).
 */
#include "arrivals.h"

#include <net/ethernet.h>
#include <netring.h>
#include <sched.h>
#include <stdio.h>

#define IN "pace0"
#define OUT "pace1"

enum {
    TRIES = 3,
    MOST = 400000,
    RUN_MS = 1300,
    BLOCKS = 48,
    SECOND = 1000000000,
    WINDOW = 10000000
};

static const struct pace {
    uint64_t rate;
    uint32_t unit, batch;
    uint32_t shortest, longest; /* frames, each length as likely */
} paces[] = {
    {100, NETRING_RATE_PACKETS, 1, 64, 64},       {10000, NETRING_RATE_PACKETS, 1, 64, 64},
    {10000, NETRING_RATE_PACKETS, 64, 64, 1514},  {200000, NETRING_RATE_PACKETS, 64, 64, 64},
    {200000, NETRING_RATE_PACKETS, 256, 64, 64},  {1000000, NETRING_RATE_BITS, 1, 64, 64},
    {100000000, NETRING_RATE_BITS, 64, 64, 1514}, {1000000000, NETRING_RATE_BITS, 64, 1514, 1514},
};

/* Nanoseconds this thread was ready to run and did not (sched-stats). */
static int64_t without_cpu(void)
{
    FILE *file = fopen("/proc/thread-self/schedstat", "re");
    long long ran, waited = 0;

    if (file == NULL || fscanf(file, "%lld %lld", &ran, &waited) != 2)
        waited = 0; /* a kernel without: then it is not told */
    if (file)
        fclose(file);
    return waited;
}

static void send_for_a_while(const struct pace *pace, uint32_t method)
{
    struct netring_injector_config config = NETRING_INJECTOR_CONFIG_INIT;
    struct netring_injector *injector;
    struct netring_error error;
    int64_t end;

    config.method = method;
    config.rate = pace->rate;
    config.rate_unit = pace->unit;
    if (netring_injector_open(OUT, &config, &injector, &error) < 0)
        tap_bail("%s: %s", error.option, error.message);
    end = clock_ns(CLOCK_MONOTONIC) + RUN_MS * 1000000ll;
    while (clock_ns(CLOCK_MONOTONIC) < end) {
        struct netring_slot slots[256];
        int got = netring_injector_reserve(injector, slots, sizeof *slots, pace->batch, 100);

        if (got < 0)
            tap_bail("netring_injector_reserve: %s", netring_strerror(got));
        for (int i = 0; i < got; i++) {
            uint32_t spread = pace->longest - pace->shortest + 1;

            slots[i].len = pace->shortest + (uint32_t)rand() % spread;
            memset(slots[i].data, 0, slots[i].len);
            slots[i].data[0] = 2;
            slots[i].data[12] = ETHERTYPE_TEST >> 8;
            slots[i].data[13] = ETHERTYPE_TEST & 0xff;
            memcpy(slots[i].data + ARRIVALS_VALUE_AT, &slots[i].cookie, 8);
        }
        if (netring_injector_commit(injector, slots, sizeof *slots, (size_t)got) != got ||
            netring_injector_flush(injector) < 0)
            tap_bail("netring_injector_flush");
    }
    netring_injector_close(injector);
}

struct judgement {
    double slowest, fastest; /* second, by the rate */
    double busiest;          /* 10 ms but for one batch, by the rate */
    double waited;           /* for the CPU, of the time */
    bool kept;
};

static uint64_t weight(const struct pace *pace, const struct arrival *arrival)
{
    return pace->unit == NETRING_RATE_BITS ? arrival->length * 8ull : 1;
}

/* The least and the most in any window of `ns`, which begins with a packet. */
static void windows(const struct pace *pace, const struct arrival *arrivals, size_t count,
                    int64_t ns, uint64_t *least, uint64_t *most)
{
    uint64_t inside = 0;

    *least = UINT64_MAX;
    *most = 0;
    for (size_t from = 0, to = 0; from < count; from++) {
        while (to < count && arrivals[to].ns < arrivals[from].ns + ns)
            inside += weight(pace, &arrivals[to++]);
        if (to == count)
            break;
        if (inside > *most)
            *most = inside;
        if (inside < *least)
            *least = inside;
        inside -= weight(pace, &arrivals[from]);
    }
}

static struct judgement judge(const struct pace *pace, uint32_t method)
{
    static struct arrival arrivals[MOST];
    struct arrivals ring = arrivals_open(IN, BLOCKS);
    double rate = (double)pace->rate, batch = pace->batch;
    struct judgement judgement;
    int64_t waited = without_cpu();
    uint64_t least, most;
    size_t count;

    send_for_a_while(pace, method);
    judgement.waited = (double)(without_cpu() - waited) / (RUN_MS * 1e6);
    count = arrivals_take(&ring, arrivals, MOST);
    for (size_t i = 1; i < count; i++)
        if (arrivals[i].value != arrivals[i - 1].value + 1)
            tap_bail("a packet is missing before cookie %llu",
                     (unsigned long long)arrivals[i].value);
    if (pace->unit == NETRING_RATE_BITS)
        batch *= pace->longest * 8.0;
    windows(pace, arrivals, count, SECOND, &least, &most);
    judgement.slowest = least == UINT64_MAX ? 0 : (double)least / rate;
    judgement.fastest = (double)most / rate;
    windows(pace, arrivals, count, WINDOW, &least, &most);
    judgement.busiest = ((double)most - batch) / (rate * WINDOW / SECOND);
    judgement.kept =
        judgement.slowest >= 0.98 && judgement.fastest <= 1.02 && judgement.busiest <= 1.2;
    return judgement;
}

int main(void)
{
    static const struct {
        uint32_t method;
        const char *name;
    } methods[] = {{NETRING_METHOD_SENDMMSG, "sendmmsg"}, {NETRING_METHOD_TPACKET2, "ring"}};
    bool kept = true;
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET(1, &here);
    sched_setaffinity(0, sizeof here, &here);
    net_enter();
    net_veth(IN, OUT);
    net_await_carrier(OUT);
    printf("| rate | frames | batch | method | any second | busiest 10 ms, less one batch | |\n"
           "|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < COUNT(paces); i++) {
        for (size_t m = 0; m < COUNT(methods); m++) {
            const struct pace *pace = &paces[i];
            struct judgement judgement = {.waited = 1};

            for (int try = 0; try < TRIES && !judgement.kept && judgement.waited > 0.01; try++)
                judgement = judge(pace, methods[m].method);
            if (pace->unit == NETRING_RATE_BITS)
                printf("| %g Mbit/s |", (double)pace->rate / 1e6);
            else
                printf("| %llu/s |", (unsigned long long)pace->rate);
            if (pace->shortest == pace->longest)
                printf(" %u B |", pace->shortest);
            else
                printf(" %u to %u B |", pace->shortest, pace->longest);
            printf(" %u | %s | %.2f to %.2f %% | %.0f %% | %s |\n", pace->batch, methods[m].name,
                   100 * judgement.slowest, 100 * judgement.fastest, 100 * judgement.busiest,
                   judgement.kept             ? "kept"
                   : judgement.waited <= 0.01 ? "**not kept**"
                                              : "discard: the machine is busy");
            fflush(stdout);
            kept = kept && judgement.kept;
        }
    }
    return kept ? 0 : 1;
}
