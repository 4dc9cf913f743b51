/* Each profile is told apart by what it does: how long a lone packet waits, how much a paused
 * reader may miss, how much goes into one block.
 *
 * alone: the rings are the largest there are, and times are told apart */
#include "support.h"

#include <stdlib.h>
#include <unistd.h>

static const struct profile {
    const char *name;
    uint32_t number;
    int low_ms, high_ms;   /* how long a lone packet waits */
    uint32_t holds, loses; /* MiB of packets that a paused reader does not, and does, lose of */
} profiles[] = {
    {"default", NETRING_PROFILE_DEFAULT, 30, 110, 40, 80},
    {"high throughput", NETRING_PROFILE_HIGH_THROUGHPUT, 60, 200, 80, 160},
    {"low latency", NETRING_PROFILE_LOW_LATENCY, 0, 20, 8, 40},
    {"low memory", NETRING_PROFILE_LOW_MEMORY, 30, 110, 1, 8},
    {"jumbo", NETRING_PROFILE_JUMBO, 30, 110, 40, 80},
};

static int sender; /* on va; what it sends arrives at vb */

static struct netring_capture_config profile_config(const struct profile *profile)
{
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;

    is_int(netring_capture_config_profile(&config, profile->number), 0, "%s: config_profile",
           profile->name);
    config.flags |= NETRING_CAPTURE_EXACT;
    return config;
}

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The median wait of a lone packet. Each is sent right after the one before was handed out, that
 * is, right after a tick of the block timer. */
static int latency_ms(struct netring_capture *capture)
{
    int waits[7];

    for (size_t i = 0; i < COUNT(waits); i++) {
        struct netring_block *block;
        int64_t begin = now_ms();

        send_frames(sender, 0, 1, 60);
        if (netring_capture_next_block(capture, 2000, &block) == 1)
            netring_block_release(block);
        waits[i] = (int)(now_ms() - begin);
    }
    qsort(waits, COUNT(waits), sizeof *waits, by_value);
    return waits[COUNT(waits) / 2];
}

static uint64_t lost_of(const struct netring_capture_config *config, uint32_t mib)
{
    struct netring_capture *capture = capture_open("vb", config);
    uint8_t frame[FRAME_MAX];
    uint64_t lost;

    frame_make(frame, 9014, 1);
    net_flood(sender, frame, 9014, (size_t)mib * MIB / 9014);
    lost = capture_stats(capture).dropped;
    capture_close(capture);
    return lost;
}

static void test_profile(const struct profile *profile)
{
    struct netring_capture_config config = profile_config(profile);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_capture_info info = capture_info(capture);
    int wait = latency_ms(capture);

    capture_close(capture);
    is_int(info.memory, (uint64_t)config.block_size * config.block_count,
           "%s: granted as asked, %llu MiB", profile->name,
           (unsigned long long)(info.memory / MIB));
    is_int(info.block_timeout, config.block_timeout, "%s: block timeout", profile->name);
    is_between(wait, profile->low_ms, tap_patience(profile->high_ms),
               "%s: a lone packet waits %d ms", profile->name, wait);
    is_int(lost_of(&config, profile->holds), 0, "%s: holds %u MiB", profile->name, profile->holds);
    ok(lost_of(&config, profile->loses) > 0, "%s: does not hold %u MiB", profile->name,
       profile->loses);
}

/* The most packets of 60,000 bytes that go into one block. */
static uint32_t super_packets_a_block(uint32_t profile)
{
    static const uint8_t data[60000];
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_capture *capture;
    struct netring_block *block;
    struct net_udp udp = net_udp_open();
    uint32_t most = 0;

    netring_capture_config_profile(&config, profile);
    config.flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
    config.block_timeout = 1000;
    capture = capture_open("lo", &config);
    for (int i = 0; i < 80; i++)
        net_udp_send(&udp, data, sizeof data);
    while (netring_capture_next_block(capture, 0, &block) == 1) {
        struct netring_block_info info;

        netring_block_info(block, &info, sizeof info);
        most = info.count > most ? info.count : most;
        netring_block_release(block);
    }
    capture_close(capture);
    net_udp_close(&udp);
    return most;
}

static void test_super_packets(void)
{
    uint32_t plain = super_packets_a_block(NETRING_PROFILE_DEFAULT);
    uint32_t jumbo = super_packets_a_block(NETRING_PROFILE_JUMBO);
    uint32_t small = super_packets_a_block(NETRING_PROFILE_LOW_MEMORY);

    ok(jumbo > plain && plain > small,
       "super-packets to a block: jumbo %u, default %u, low memory %u", jumbo, plain, small);
}

/* A profile writes its values only; what is assigned later wins. */
static void test_assignments(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;

    config.snap_length = 77;
    config.flags |= NETRING_CAPTURE_KEEP_LOOPED;
    is_int(netring_capture_config_profile(&config, NETRING_PROFILE_LOW_MEMORY), 0, "a profile");
    is_int(config.snap_length, 77, "leaves the snap length");
    ok(config.flags & NETRING_CAPTURE_KEEP_LOOPED, "leaves the flags");
    config.block_count = 3;
    capture = capture_open("vb", &config);
    is_int(capture_info(capture).block_count, 3, "later assignments win");
    capture_close(capture);
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    net_link_mtu("va", 9000);
    net_link_mtu("vb", 9000);
    sender = net_sender("va");

    for (size_t i = 0; i < COUNT(profiles); i++)
        test_profile(&profiles[i]);
    test_super_packets();
    test_assignments();
    return tap_end();
}
