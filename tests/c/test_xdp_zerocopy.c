/* Zero-copy for real, which no veth has: over two devices on one wire, named by NETRING_ZC_A and
 * NETRING_ZC_B (`make check-qemu` brings two virtio-net). What is sent on either arrives at the
 * other, each frame once and byte for byte; packets go on from one device to the other inside one
 * UMEM.
 *
 * These are links of the namespace it is started in, and all that arrives there is redirected: not
 * to be run on links that somebody uses. */
#include "xdp.h"

#include <errno.h>
#include <linux/if_xdp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

enum { MANY = 100000, FEW = 10000, BATCH = 64, HOP = FRAME_NUMBERED, LEAST = 60, MOST = 1514 };

static const char *names[2];
static uint8_t addresses[2][6];

/* One end: its socket, what it has sent and what has come. */
struct end {
    struct xdp_one one;
    int side; /* in names */
    uint32_t sent, come;
};

static size_t frame_to(uint8_t *frame, int side, uint32_t number)
{
    size_t length = frame_make(frame, frame_mixed(number, LEAST, MOST), number);

    memcpy(frame, addresses[side], 6);
    return length;
}

/* Sends as many of `count` frames to the other end as there are slots for, up to a batch. */
static void send_some(struct end *end, uint32_t count)
{
    struct netring_slot slots[BATCH];
    uint32_t want = count - end->sent < BATCH ? count - end->sent : BATCH;
    int got = want == 0 ? 0 : netring_queue_reserve(end->one.queue, slots, sizeof *slots, want, 0);

    if (got < 0)
        tap_bail("reserve: %s", netring_err_name(got));
    for (int i = 0; i < got; i++)
        slots[i].len = (uint32_t)frame_to(slots[i].data, !end->side, end->sent++);
    if (got > 0) {
        queue_must_commit(end->one.queue, slots, (size_t)got);
        if (netring_queue_flush(end->one.queue) < 0)
            tap_bail("flush");
    }
}

/* NULL, or what is wrong with a packet that is to be frame `number` for this end, after so many
 * hops. */
static const char *not_frame(const struct netring_packet *packet, int side, uint32_t number,
                             uint8_t hops)
{
    uint8_t want[MOST];
    size_t length = frame_to(want, side, number);

    want[HOP] = (uint8_t)(want[HOP] + hops);
    return packet->len != length || packet->caplen != length ? "its length"
           : memcmp(packet->data, want, length) != 0         ? "its bytes"
                                                             : NULL;
}

/* Takes a block. False: none came for a while, or a packet is wrong. What others send on the wire
 * (a neighbour's solicitation) is passed over. */
static bool take_some(struct end *end, int timeout_ms)
{
    struct netring_block *block;
    struct netring_packet packets[BATCH];
    const char *wrong = NULL;
    int rc = netring_queue_next_block(end->one.queue, timeout_ms, &block), n;

    if (rc < 0)
        tap_bail("next_block: %s", netring_err_name(rc));
    if (rc == 0)
        return false;
    while (!wrong && (n = netring_block_read(block, packets, sizeof *packets, BATCH)) > 0) {
        for (int i = 0; i < n && !wrong; i++) {
            if (packets[i].data[12] != ETHERTYPE_TEST >> 8)
                continue;
            wrong = not_frame(&packets[i], end->side, end->come, 0);
            if (!wrong)
                end->come++;
            else
                tap_diag("%s, frame %u: %s (number %u)", names[end->side], end->come, wrong,
                         frame_number(packets[i].data));
        }
    }
    netring_block_release(block);
    return !wrong;
}

/* Both ends send `count` frames, with no more than a few batches on the wire: the devices have
 * rings of 256, and nobody else loses frames here. */
static void exchange(struct end ends[2], uint32_t count, const char *what)
{
    const int64_t begin = now_ms();
    bool good = true;

    while (good && (ends[0].come < count || ends[1].come < count)) {
        for (int side = 0; side < 2; side++) {
            if (ends[side].sent - ends[!side].come <= BATCH)
                send_some(&ends[side], count);
        }
        for (int side = 0; side < 2 && good; side++) {
            if (ends[side].come < ends[!side].sent)
                good = take_some(&ends[side], (int)tap_patience(2000));
        }
    }
    for (int side = 0; side < 2; side++)
        is_int(ends[side].come, count, "%s: %s to %s", what, names[!side], names[side]);
    tap_diag("%s: %u frames each way in %lld ms", what, count, (long long)(now_ms() - begin));
}

/* What the kernel says of the socket, asked past the library: of every AF_XDP socket this process
 * has, how many are zero-copy. */
static void kernel_says(unsigned sockets, unsigned zero_copy, const char *what)
{
    unsigned all = 0, zero = 0;

    for (int fd = 0; fd < 256; fd++) {
        struct xdp_options options = {0};
        socklen_t size = sizeof options;

        if (getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &size) != 0)
            continue;
        all++;
        zero += (options.flags & XDP_OPTIONS_ZEROCOPY) != 0;
    }
    is_int(all, sockets, "%s: sockets", what);
    is_int(zero, zero_copy, "%s: of them zero-copy, as the kernel has it", what);
}

static struct netring_xdp_config zero_config(uint32_t mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode);

    config.frame_size = 4096;
    config.carrier_timeout = (uint32_t)tap_patience(5000);
    return config;
}

static void open_both(struct end ends[2], const struct netring_xdp_config *config)
{
    for (int side = 0; side < 2; side++)
        ends[side] = (struct end){.one = xdp_one(names[side], config), .side = side};
    for (int side = 0; side < 2; side++)
        net_await_carrier(names[side]);
}

static void close_both(struct end ends[2], const char *what)
{
    for (int side = 0; side < 2; side++) {
        queue_drains(ends[side].one.queue, what);
        queue_adds_up(ends[side].one.queue, what);
        queue_is_idle(ends[side].one.queue, what);
    }
    for (int side = 0; side < 2; side++)
        xdp_close(ends[side].one.xdp);
}

static void test_mode(const char *what, uint32_t mode, uint32_t granted, uint32_t count)
{
    struct netring_xdp_config config = zero_config(mode);
    struct end ends[2];

    open_both(ends, &config);
    for (int side = 0; side < 2; side++) {
        struct netring_xdp_info info = xdp_info(ends[side].one.xdp);

        is_int(info.mode, granted, "%s: %s: the mode", what, names[side]);
        is_int(info.steps, 0, "%s: %s: no step down", what, names[side]);
    }
    kernel_says(2, granted == NETRING_MODE_ZEROCOPY ? 2 : 0, what);
    exchange(ends, count, what);
    for (int side = 0; side < 2; side++) {
        struct netring_stats stats = queue_stats(ends[side].one.queue);
        struct netring_injector_stats sent = queue_sent(ends[side].one.queue);

        is_int(stats.dropped, 0, "%s: %s: dropped", what, names[side]);
        is_int(sent.handed, count, "%s: %s: handed over", what, names[side]);
        is_int(sent.refused + sent.dropped, 0, "%s: %s: refused", what, names[side]);
    }
    close_both(ends, what);
}

/* In one UMEM: what arrives at B goes out of A again without a copy, one hop more, and comes to B
 * once more. */
static void test_forward(void)
{
    struct netring_umem_config memory;
    struct netring_xdp_config config = zero_config(NETRING_MODE_ZEROCOPY);
    struct netring_error err;
    struct end ends[2];
    struct end *a = &ends[0], *b = &ends[1];
    uint32_t forwarded = 0, again = 0;
    bool good = true;

    if (netring_umem_config_init(&memory, sizeof memory) != 0)
        tap_bail("netring_umem_config_init");
    memory.frame_count = 8192;
    if (netring_umem_new(&memory, &config.umem, &err) != 0)
        tap_bail("netring_umem_new: %s", err.message);
    open_both(ends, &config);
    kernel_says(2, 2, "forward");
    while (good && again < FEW) {
        struct netring_packet packets[BATCH], go[BATCH];
        struct netring_block *block;
        int n, gone = 0, count = 0;

        if (a->sent - again <= BATCH)
            send_some(a, FEW);
        if (netring_queue_next_block(b->one.queue, (int)tap_patience(2000), &block) != 1)
            break;
        while (good && (n = netring_block_read(block, packets, sizeof *packets, BATCH)) > 0) {
            count = 0;
            for (int i = 0; i < n && good; i++) {
                if (packets[i].data[12] != ETHERTYPE_TEST >> 8)
                    continue;
                if (frame_number(packets[i].data) == again && again < forwarded) {
                    good = !not_frame(&packets[i], 1, again, 1);
                    again++;
                } else {
                    good = !not_frame(&packets[i], 1, forwarded + (uint32_t)count, 0);
                    packets[i].data[HOP]++;
                    go[count++] = packets[i];
                }
            }
            for (gone = 0; good && gone < count;) {
                int rc = netring_queue_forward(a->one.queue, block, go + gone, sizeof *go,
                                               (size_t)(count - gone));

                if (rc < 0)
                    tap_bail("forward: %s", netring_err_name(rc));
                gone += rc;
                if (netring_queue_flush(a->one.queue) < 0)
                    tap_bail("flush of what is forwarded");
            }
            forwarded += (uint32_t)gone;
        }
        netring_block_release(block);
    }
    ok(good, "forward: every frame is the next one, with its hops (%u and %u)", forwarded, again);
    is_int(forwarded, FEW, "forward: each was forwarded");
    is_int(again, FEW, "forward: and came once more");
    queue_drains(a->one.queue, "forward");
    is_int(queue_counters(a->one.queue).forwarded, FEW, "forward: counted where they leave");
    is_int(queue_counters(b->one.queue).rx_forwarded, 0, "forward: none is under way");
    close_both(ends, "forward");
    is_int(netring_umem_free(config.umem), 0, "forward: the memory");
}

/* All frames of B go out of A: a loop that only polls B's descriptor goes on, though nobody asks A
 * what it has sent. */
static void test_all_away(void)
{
    enum { FRAMES = 64 };
    struct netring_umem_config memory;
    struct netring_xdp_config config = zero_config(NETRING_MODE_ZEROCOPY);
    uint32_t forwarded = 0, more = 0, sent = 0;
    struct netring_packet packets[BATCH];
    struct netring_error err;
    struct netring_block *block;
    int sender, rc = 0, n;
    struct end ends[2];
    struct pollfd wait;
    int64_t end;

    if (netring_umem_config_init(&memory, sizeof memory) != 0)
        tap_bail("netring_umem_config_init");
    memory.frame_count = 4096;
    config.rx_frames = FRAMES;
    if (netring_umem_new(&memory, &config.umem, &err) != 0)
        tap_bail("netring_umem_new: %s", err.message);
    open_both(ends, &config);
    sender = net_sender(names[0]);
    wait = (struct pollfd){.fd = netring_queue_fd(ends[1].one.queue), .events = POLLIN};
    for (end = now_ms() + tap_patience(5000); more == 0 && now_ms() < end;) {
        uint8_t frame[MOST];

        /* Dropped by the device as long as there is no frame for it. */
        net_send(sender, frame, frame_to(frame, 1, sent++));
        if (poll(&wait, 1, 5) != 1 ||
            (rc = netring_queue_next_block(ends[1].one.queue, 0, &block)) != 1)
            continue;
        n = netring_block_read(block, packets, sizeof *packets, BATCH);
        if (forwarded < FRAMES) {
            n = netring_queue_forward(ends[0].one.queue, block, packets, sizeof *packets,
                                      (size_t)n);
            forwarded += n > 0 ? (uint32_t)n : 0;
            if (forwarded >= FRAMES)
                netring_queue_flush(ends[0].one.queue);
        } else {
            more += (uint32_t)n;
        }
        netring_block_release(block);
    }
    ok(forwarded >= FRAMES && more > 0,
       "all away: of %u, %u were forwarded, and %u come after that (%s)", sent, forwarded, more,
       netring_err_name(rc));
    queue_drains(ends[0].one.queue, "all away");
    while (netring_queue_next_block(ends[1].one.queue, 200, &block) == 1)
        netring_block_release(block);
    while (netring_queue_next_block(ends[0].one.queue, 0, &block) == 1)
        netring_block_release(block);
    close(sender);
    close_both(ends, "all away");
    is_int(netring_umem_free(config.umem), 0, "all away: the memory");
}

int main(void)
{
    struct footprint before;

    names[0] = getenv("NETRING_ZC_A");
    names[1] = getenv("NETRING_ZC_B");
    tap_begin(250);
    if (!names[0] || !names[1])
        tap_skip_all("it takes two devices on one wire whose drivers have zero-copy, named by "
                     "NETRING_ZC_A and NETRING_ZC_B (make check-qemu has such)");
    for (int side = 0; side < 2; side++)
        net_address(names[side], addresses[side]);
    before = footprint_now();
    test_mode("zero-copy", NETRING_MODE_ZEROCOPY, NETRING_MODE_ZEROCOPY, MANY);
    test_mode("auto", NETRING_MODE_AUTO, NETRING_MODE_ZEROCOPY, FEW);
    test_mode("copy", NETRING_MODE_COPY, NETRING_MODE_COPY, FEW);
    test_forward();
    test_all_away();
    is_footprint(before, "all of it");
    return tap_end();
}
