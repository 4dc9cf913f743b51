/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the profiles grant, cost and give: geometry and memory, the time it takes to open one, how
 * much a slow or pausing reader loses of a fixed stream, and how long a single packet takes to the
 * reader. And the time to open a ring of 64 MiB by the size of its blocks, which the defaults
 * follow.
 *
 * Makes a network namespace of its own with a veth pair; a child sends, so that the loss is that of
 * the reader. Exit status: 0, 77 (not allowed to make a namespace).
 */
#include "common.h"

#include <errno.h>
#include <netring.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tests/c/net.h"

#define IN "bench0"
#define OUT "bench1"

enum { OPENS = 9 };
/* The stream: about 1.2 Gbit/s, 160 MB of ring memory a second. */
enum { LENGTH = 1514, RATE = 100000, PACKETS = 100000, BURST = 64 };
/* The readers: one that takes 1 ms for every block, whatever is in it, and one that keeps up but
 * for one pause. */
enum { BLOCK_US = 1000, PAUSE_MS = 600 };
/* Single packets: mostly further apart than the timer of a fast profile. */
enum { SINGLES = 200, GAP_US = 15000 };

static const struct profile {
    const char *name;
    uint32_t number;
} profiles[] = {
    {"default", NETRING_PROFILE_DEFAULT},
    {"high throughput", NETRING_PROFILE_HIGH_THROUGHPUT},
    {"low latency", NETRING_PROFILE_LOW_LATENCY},
    {"low memory", NETRING_PROFILE_LOW_MEMORY},
    {"jumbo", NETRING_PROFILE_JUMBO},
};

static struct netring_capture *capture_open(const struct netring_capture_config *config)
{
    struct netring_capture *capture;
    struct netring_error error;

    if (netring_capture_open(IN, config, &capture, &error) < 0)
        tap_bail("%s: %s", error.option, error.message);
    return capture;
}

static struct netring_capture_config profile_config(const struct profile *profile)
{
    struct netring_capture_config config;

    netring_capture_config_init(&config, sizeof config);
    netring_capture_config_profile(&config, profile->number);
    config.flags |= NETRING_CAPTURE_EXACT;
    return config;
}

static double open_ms(const struct netring_capture_config *config)
{
    double times[OPENS];

    for (int i = 0; i < OPENS; i++) {
        int64_t before = clock_ns(CLOCK_MONOTONIC);
        struct netring_capture *capture = capture_open(config);

        times[i] = (double)(clock_ns(CLOCK_MONOTONIC) - before) / 1e6;
        netring_capture_close(capture);
    }
    return quantile(times, OPENS, 0.5);
}

/* ---- the sender ---- */

static pid_t spawn(void (*job)(void))
{
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child < 0)
        tap_bail("fork: %s", strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        job();
        _exit(0);
    }
    return child;
}

static void reap(pid_t child)
{
    int status;

    if (waitpid(child, &status, 0) != child || status != 0)
        tap_bail("the sender failed");
}

static void sleep_until(int64_t time)
{
    int64_t left = time - clock_ns(CLOCK_MONOTONIC);

    if (left > 0)
        sleep_us(left / 1000);
}

/* In bursts of 64, at the stream's rate; where the machine is too slow, as fast as it can. */
static void send_stream(void)
{
    int sender = net_sender(OUT);
    int64_t start = clock_ns(CLOCK_MONOTONIC);
    uint8_t frame[LENGTH];

    memset(frame, 0xff, sizeof frame);
    frame[12] = ETHERTYPE_TEST >> 8;
    frame[13] = ETHERTYPE_TEST & 0xff;
    for (int64_t sent = 0; sent < PACKETS; sent += BURST) {
        sleep_until(start + sent * 1000000000ll / RATE);
        if (net_flood(sender, frame, sizeof frame, BURST) != BURST)
            tap_bail("veth refused packets");
    }
}

/* Each packet carries the time at which it was sent; the gaps vary, so that they do not march in
 * step with the kernel's timer. */
static void send_singles(void)
{
    int sender = net_sender(OUT);
    uint8_t frame[60];

    memset(frame, 0xff, sizeof frame);
    frame[12] = ETHERTYPE_TEST >> 8;
    frame[13] = ETHERTYPE_TEST & 0xff;
    srand(1);
    for (int i = 0; i < SINGLES; i++) {
        int64_t now;

        sleep_us(GAP_US / 2 + rand() % GAP_US);
        now = clock_ns(CLOCK_MONOTONIC);
        memcpy(frame + 14, &now, sizeof now);
        net_send(sender, frame, sizeof frame);
    }
}

/* ---- the readers ---- */

/* The share of the stream that was dropped. */
static double loss(const struct netring_capture_config *config, long block_us, long pause_ms)
{
    struct netring_capture *capture = capture_open(config);
    pid_t child = spawn(send_stream);
    struct netring_block *block;
    struct netring_stats stats;
    bool paused = pause_ms == 0;

    /* The longest gap in the stream is shorter than this, the longest timeout as well. */
    while (netring_capture_next_block(capture, 500, &block) > 0) {
        if (!paused)
            sleep_us(pause_ms * 1000);
        paused = true;
        if (block_us != 0)
            sleep_us(block_us);
        netring_block_release(block);
    }
    reap(child);
    netring_capture_stats(capture, &stats, sizeof stats);
    netring_capture_close(capture);
    if (stats.seen < PACKETS / BURST * BURST)
        tap_bail("of %d packets the socket saw %llu", PACKETS, (unsigned long long)stats.seen);
    return (double)stats.dropped / (double)stats.seen;
}

struct latency {
    double p50, p99;
};

/* From just before send to the return of next_block, milliseconds. */
static struct latency latency(const struct netring_capture_config *config)
{
    struct netring_capture *capture = capture_open(config);
    pid_t child = spawn(send_singles);
    double times[SINGLES];
    struct netring_block *block;
    size_t got = 0;
    struct latency result;

    while (got < SINGLES && netring_capture_next_block(capture, 1000, &block) > 0) {
        int64_t now = clock_ns(CLOCK_MONOTONIC);
        struct netring_packet packets[64];
        int count;

        while ((count = netring_block_read(block, packets, sizeof *packets, 64)) > 0) {
            for (int i = 0; i < count && got < SINGLES; i++) {
                int64_t sent;

                memcpy(&sent, packets[i].data + 14, sizeof sent);
                times[got++] = (double)(now - sent) / 1e6;
            }
        }
        netring_block_release(block);
    }
    reap(child);
    netring_capture_close(capture);
    if (got != SINGLES)
        tap_bail("%zu of %d single packets arrived", got, SINGLES);
    result.p50 = quantile(times, got, 0.5);
    result.p99 = quantile(times, got, 0.99);
    return result;
}

/* ---- tables ---- */

static const char *size_text(uint64_t bytes, char *text, size_t size)
{
    if (bytes >= MIB)
        snprintf(text, size, "%g MiB", (double)bytes / MIB);
    else
        snprintf(text, size, "%g KiB", (double)bytes / KIB);
    return text;
}

static void print_profile(const struct profile *profile)
{
    struct netring_capture_config config = profile_config(profile);
    struct netring_capture *capture = capture_open(&config);
    struct netring_capture_info info;
    struct latency single;
    char block[32], memory[32];

    netring_capture_info(capture, &info, sizeof info);
    netring_capture_close(capture);
    single = latency(&config);
    printf("| %s | %u x %s | %u ms | %s | %.0f ms |", profile->name, info.block_count,
           size_text(info.block_size, block, sizeof block), info.timer_ms,
           size_text(info.memory, memory, sizeof memory), open_ms(&config));
    printf(" %.1f %% | %.1f %% |", 100 * loss(&config, BLOCK_US, 0),
           100 * loss(&config, 0, PAUSE_MS));
    printf(" %.1f ms | %.1f ms |\n", single.p50, single.p99);
}

int main(void)
{
    static const uint32_t sizes[] = {64 * KIB, 256 * KIB, MIB, 2 * MIB, 4 * MIB};

    setvbuf(stdout, NULL, _IOLBF, 0);
    net_enter();
    net_veth(IN, OUT);

    printf("| profile | blocks | timeout | memory | open | lost, %d ms a block | "
           "lost, one pause of %d ms | latency p50 | p99 |\n",
           BLOCK_US / 1000, PAUSE_MS);
    printf("|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < COUNT(profiles); i++)
        print_profile(&profiles[i]);

    printf("\n| blocks of a 64 MiB ring | open |\n|---|---|\n");
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct netring_capture_config config = profile_config(&profiles[0]);
        char block[32];

        config.block_size = sizes[i];
        config.block_count = 64 * MIB / sizes[i];
        printf("| %u x %s | %.0f ms |\n", config.block_count,
               size_text(config.block_size, block, sizeof block), open_ms(&config));
    }
    printf("\n");
    return 0;
}
