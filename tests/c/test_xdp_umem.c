/* The memory of frames: one UMEM under two interfaces, whose packets go from one to the other
 * without a copy, with every frame accounted for at the end; hugepages, unaligned chunks, headroom,
 * chunks of other sizes; and packets of several frames. */
#include "xdp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* vb -- va (queue) and vc (queue) -- vd */
static int sender_b, sender_d;
static struct sink sink_b, sink_d;

static struct netring_umem_config umem_config(uint32_t frames)
{
    struct netring_umem_config config;

    if (netring_umem_config_init(&config, sizeof config) != 0)
        tap_bail("netring_umem_config_init failed");
    config.frame_size = 2048;
    config.frame_count = frames;
    return config;
}

static struct netring_umem *umem_new(const struct netring_umem_config *config)
{
    struct netring_umem *umem = NULL;
    struct netring_error error;
    int rc = netring_umem_new(config, &umem, &error);

    if (rc != 0 || !umem)
        tap_bail("a UMEM: %s (%s: %s)", netring_err_name(rc), error.option, error.message);
    return umem;
}

static struct netring_umem_info umem_info(struct netring_umem *umem)
{
    struct netring_umem_info info;

    if (netring_umem_info(umem, &info, sizeof info) != 0)
        tap_bail("netring_umem_info failed");
    return info;
}

/* Both ends of the reflector. */
struct pair {
    struct netring_umem *umem;
    struct xdp_one a, c;
};

static struct netring_xdp_config pair_config(const struct xdp_mode *mode, struct netring_umem *umem)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);

    config.frame_size = 0;
    config.umem = umem;
    config.rx_frames = 512;
    config.tx_frames = 64;
    return config;
}

static struct pair pair_open(const struct xdp_mode *mode)
{
    struct netring_umem_config memory = umem_config(2048);
    struct pair pair = {.umem = umem_new(&memory)};
    struct netring_xdp_config config = pair_config(mode, pair.umem);

    pair.a = xdp_one("va", &config);
    pair.c = xdp_one("vc", &config);
    return pair;
}

/* One check: every frame of the UMEM is free again. */
static void pair_close(struct pair *pair, const char *what)
{
    xdp_close(pair->a.xdp);
    xdp_close(pair->c.xdp);
    is_int(umem_info(pair->umem).frames_free, 2048, "%s: all frames of the UMEM are free", what);
    is_int(netring_umem_free(pair->umem), 0, "%s: the UMEM", what);
    is_int(netring_umem_free(pair->umem), NETRING_EBADF, "%s: once", what);
}

/* Takes one block and forwards all of it, or as much as goes; releases it. How many. */
static int forward_block(struct netring_queue *from, struct netring_queue *to, int timeout,
                         const void **data, size_t *count)
{
    struct netring_packet packets[64];
    struct netring_block *block;
    int rc = netring_queue_next_block(from, timeout, &block), n, forwarded = 0;

    if (rc != 1)
        return rc;
    n = netring_block_read(block, packets, sizeof *packets, COUNT(packets));
    for (int i = 0; data && i < n && *count < 4096; i++)
        data[(*count)++] = packets[i].data;
    while (forwarded < n) {
        rc = netring_queue_forward(to, block, packets + forwarded, sizeof *packets,
                                   (size_t)(n - forwarded));
        if (rc < 0)
            tap_bail("forward: %s", netring_err_name(rc));
        forwarded += rc;
        if (netring_queue_flush(to) < 0)
            tap_bail("flush");
    }
    if (netring_block_release(block) != 0)
        tap_bail("release");
    return forwarded;
}

/* ---- forward ---- */

static void test_forward(const struct xdp_mode *mode)
{
    struct pair p = pair_open(mode);
    struct netring_umem_info info = umem_info(p.umem);
    struct netring_packet packets[64];
    struct netring_xdp_counters a, c;
    struct netring_block *block;
    struct numbered want[20];
    uint8_t first;
    int n;

    ok(info.frame_size == 2048 && info.frame_count == 2048 && info.frames_free == 2048 - 2 * 576,
       "%s: a UMEM of %u frames of %u, %u of them free", mode->name, info.frame_count,
       info.frame_size, info.frames_free);
    ok(info.memory >= 2048 * 2048, "%s: %llu bytes", mode->name, (unsigned long long)info.memory);
    send_stream(sender_b, 0, 20);
    queue_await(p.a.queue, 20);
    block = queue_block(p.a.queue, 20);
    n = netring_block_read(block, packets, sizeof *packets, COUNT(packets));
    is_int(n, 20, "%s: a block of packets", mode->name);
    /* Written in place: that is what leaves. */
    first = packets[5].data[0];
    packets[5].data[0] = 6;
    is_int(netring_queue_forward(p.c.queue, block, packets, sizeof *packets, 20), 20,
           "%s: forwarded", mode->name);
    sink_is_empty(&sink_d, "before the flush");
    a = queue_counters(p.a.queue);
    c = queue_counters(p.c.queue);
    ok(a.rx_forwarded == 20 && a.rx_held == 0 && a.rx_kernel == a.rx_frames - 20,
       "%s: the frames are away", mode->name);
    is_int(c.forwarded, 20, "%s: counted where they leave", mode->name);
    is_int(netring_queue_forward(p.c.queue, block, packets, sizeof *packets, 20), NETRING_EINVAL,
           "%s: twice", mode->name);
    is_int(netring_queue_forward(p.c.queue, block, packets + 7, sizeof *packets, 1), NETRING_EINVAL,
           "%s: one of them twice", mode->name);
    is_int(netring_queue_flush(p.c.queue), 20, "%s: flushed", mode->name);
    queue_drains(p.c.queue, mode->name);
    for (uint32_t i = 0; i < 20; i++)
        want[i] = stream_frame(i);
    for (uint32_t i = 0; i < 20; i++) {
        uint8_t frame[FRAME_MAX];
        size_t got = sink_next(&sink_d, (int)tap_patience(1000));

        stream_make(frame, i);
        frame[0] = i == 5 ? 6 : frame[0];
        if (got != want[i].length || memcmp(frame, sink_d.frame, got) != 0) {
            ok(false, "%s: packet %u leaves as it is in its frame", mode->name, i);
            break;
        }
    }
    ok(first == 2, "%s: one as it was written there", mode->name);
    sink_is_empty(&sink_d, mode->name);
    is_int(netring_block_release(block), 0, "%s: released as ever", mode->name);
    queue_is_idle(p.a.queue, "the source");
    queue_is_idle(p.c.queue, "the way out");
    queue_adds_up(p.a.queue, "the source");
    queue_adds_up(p.c.queue, "the way out");
    pair_close(&p, mode->name);
}

/* Some of a block; the others are read, held, and forwarded later, the way back too. */
static void test_partly(const struct xdp_mode *mode)
{
    struct pair p = pair_open(mode);
    struct netring_packet packets[64];
    struct netring_block *block;
    const char *wrong = NULL;
    struct netring_slot slot;

    send_stream(sender_b, 0, 30);
    queue_await(p.a.queue, 30);
    block = queue_block(p.a.queue, 30);
    netring_block_read(block, packets, sizeof *packets, COUNT(packets));
    is_int(netring_queue_forward(p.c.queue, block, packets + 10, sizeof *packets, 10), 10,
           "%s: ten of thirty", mode->name);
    is_int(netring_queue_forward(p.c.queue, block, packets + 5, sizeof *packets, 10), 5,
           "%s: up to one that is away", mode->name);
    netring_queue_flush(p.c.queue);
    queue_drains(p.c.queue, mode->name);
    sink_is_stream(&sink_d, 10, 10, "these");
    sink_is_stream(&sink_d, 5, 5, "and these");
    sink_is_empty(&sink_d, "and no more");
    for (uint32_t i = 0; i < 30 && !wrong; i++) {
        if (i < 5 || i >= 20)
            wrong = not_of_stream(&packets[i], i);
    }
    ok(!wrong, "%s: the others stay%s%s", mode->name, wrong ? ": " : "", wrong ? wrong : "");
    is_int(queue_counters(p.a.queue).rx_held, 15, "%s: they are held", mode->name);
    /* Back where they came from, in line with slots. */
    queue_must_reserve(p.a.queue, &slot, 1);
    is_int(netring_queue_forward(p.a.queue, block, packets + 20, sizeof *packets, 10), 10,
           "%s: back", mode->name);
    slot.len = stream_make(slot.data, 19);
    queue_must_commit(p.a.queue, &slot, 1);
    netring_queue_flush(p.a.queue);
    sink_is_stream(&sink_b, 19, 11, "behind the slot reserved before");
    queue_drains(p.a.queue, mode->name);
    netring_block_release(block);
    queue_is_idle(p.a.queue, mode->name);
    queue_adds_up(p.a.queue, mode->name);
    pair_close(&p, mode->name);
}

/* More than the transmit ring has room for. */
static void test_no_room(const struct xdp_mode *mode)
{
    struct netring_umem_config memory = umem_config(2048);
    struct netring_umem *umem = umem_new(&memory);
    struct netring_xdp_config config = pair_config(mode, umem);
    struct netring_packet packets[256];
    struct netring_block *block;
    struct xdp_one a, c;
    int first, second;

    config.block_packets = 256;
    a = xdp_one("va", &config);
    config.tx_ring = 64;
    config.tx_frames = 64;
    c = xdp_one("vc", &config);
    send_stream(sender_b, 0, 200);
    queue_await(a.queue, 200);
    block = queue_block(a.queue, 200);
    netring_block_read(block, packets, sizeof *packets, COUNT(packets));
    first = netring_queue_forward(c.queue, block, packets, sizeof *packets, 200);
    ok(first > 0 && first < 200, "%s: %d of 200 have room", mode->name, first);
    is_int(netring_queue_forward(c.queue, block, packets + first, sizeof *packets, 1), 0,
           "%s: then none", mode->name);
    queue_drains(c.queue, mode->name);
    sink_is_stream(&sink_d, 0, (uint32_t)first, "these leave");
    second = netring_queue_forward(c.queue, block, packets + first, sizeof *packets,
                                   (size_t)(200 - first));
    ok(second > 0, "%s: then there is room for %d", mode->name, second);
    /* The others are dropped by the release. */
    netring_block_release(block);
    queue_drains(c.queue, mode->name);
    sink_is_stream(&sink_d, (uint32_t)first, (uint32_t)second, "they leave, too");
    sink_is_empty(&sink_d, "and no more");
    queue_is_idle(a.queue, mode->name);
    queue_is_idle(c.queue, mode->name);
    xdp_close(a.xdp);
    xdp_close(c.xdp);
    is_int(umem_info(umem).frames_free, 2048, "%s: all frames are free", mode->name);
    netring_umem_free(umem);
}

static void test_forward_misuse(void)
{
    struct pair p = pair_open(&xdp_modes[0]);
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    struct xdp_one other;
    struct netring_packet packets[8], bad;
    struct netring_block *block, *second;

    net_veth("ea", "eb");
    other = xdp_one("ea", &config);
    send_stream(sender_b, 0, 4);
    queue_await(p.a.queue, 4);
    block = queue_block(p.a.queue, 4);
    send_stream(sender_b, 4, 4);
    queue_await(p.a.queue, 4);
    second = queue_block(p.a.queue, 4);
    netring_block_read(block, packets, sizeof *packets, 4);
    is_int(netring_queue_forward(other.queue, block, packets, sizeof *packets, 4), NETRING_EINVAL,
           "to a queue of another UMEM");
    bad = packets[0];
    bad.cookie = 4;
    is_int(netring_queue_forward(p.c.queue, block, &bad, sizeof bad, 1), NETRING_EINVAL,
           "a packet that the block does not have");
    bad = packets[0];
    bad.caplen = bad.len = 13;
    is_int(netring_queue_forward(p.c.queue, block, &bad, sizeof bad, 1), NETRING_EINVAL,
           "a packet without a header");
    bad.caplen = bad.len = 4000;
    is_int(netring_queue_forward(p.c.queue, block, &bad, sizeof bad, 1), NETRING_EMSGSIZE,
           "a packet longer than its frame");
    is_int(netring_queue_forward(p.c.queue, block, packets, 8, 4), NETRING_EINVAL, "a size");
    is_int(netring_queue_forward(p.c.queue, block, NULL, sizeof *packets, 4), NETRING_EINVAL,
           "NULL");
    is_int(netring_queue_forward(p.c.queue, NULL, packets, sizeof *packets, 4), NETRING_EBADF,
           "no block");
    is_int(netring_queue_forward(p.c.queue, block, packets, sizeof *packets, 0), NETRING_EINVAL,
           "none");
    netring_block_release(block);
    is_int(netring_queue_forward(p.c.queue, block, packets, sizeof *packets, 4), NETRING_EBADF,
           "a block that is released");
    netring_block_read(second, packets, sizeof *packets, 4);
    is_int(netring_queue_forward(p.c.queue, second, packets, sizeof *packets, 4), 4,
           "the other one is as it was");
    netring_block_release(second);
    queue_drains(p.c.queue, "misuse");
    sink_is_stream(&sink_d, 4, 4, "the other one");
    sink_is_empty(&sink_d, "misuse");
    is_int(queue_counters(p.c.queue).tx_invalid, 0, "the kernel has seen nothing wrong");
    queue_adds_up(p.c.queue, "misuse");
    queue_is_idle(p.a.queue, "misuse");
    xdp_close(other.xdp);
    net_link_delete("ea");
    pair_close(&p, "misuse");
}

/* Headers taken away, or put in front: what leaves begins where `data` says, inside the frame. */
static void test_moved(const struct xdp_mode *mode)
{
    struct netring_umem_config memory = umem_config(2048);
    struct netring_xdp_config config;
    struct netring_umem *umem;
    struct netring_packet packets[4], one;
    struct netring_block *block;
    struct xdp_one a, c;
    uint8_t frame[FRAME_MAX], shorter[96], longer[104];

    memory.headroom = 64;
    umem = umem_new(&memory);
    config = pair_config(mode, umem);
    a = xdp_one("va", &config);
    c = xdp_one("vc", &config);
    numbered_make(frame, 100, 1, false);
    for (int i = 0; i < 4; i++)
        net_send(sender_b, frame, 100);
    queue_await(a.queue, 4);
    block = queue_block(a.queue, 4);
    netring_block_read(block, packets, sizeof *packets, 4);
    one = packets[0];
    one.data += 4;
    one.caplen = one.len = 96;
    memcpy(shorter, frame + 4, sizeof shorter);
    is_int(netring_queue_forward(c.queue, block, &one, sizeof one, 1), 1, "%s: shorter",
           mode->name);
    one = packets[1];
    one.data -= 4;
    one.caplen = one.len = 104;
    memcpy(one.data, "head", 4);
    memcpy(longer, "head", 4);
    memcpy(longer + 4, frame, 100);
    is_int(netring_queue_forward(c.queue, block, &one, sizeof one, 1), 1, "%s: longer", mode->name);
    one = packets[2];
    one.data -= 2048;
    is_int(netring_queue_forward(c.queue, block, &one, sizeof one, 1), NETRING_EINVAL,
           "%s: out of its frame", mode->name);
    one.data = frame;
    is_int(netring_queue_forward(c.queue, block, &one, sizeof one, 1), NETRING_EINVAL,
           "%s: out of any", mode->name);
    one = packets[2];
    one.data += 2048 - 256 - 64 - 50; /* 50 bytes are left in the frame */
    is_int(netring_queue_forward(c.queue, block, &one, sizeof one, 1), NETRING_EMSGSIZE,
           "%s: beyond its frame", mode->name);
    netring_queue_flush(c.queue);
    ok(sink_next(&sink_d, (int)tap_patience(1000)) == 96 &&
           memcmp(sink_d.frame, shorter, sizeof shorter) == 0,
       "%s: a header is away", mode->name);
    ok(sink_next(&sink_d, (int)tap_patience(1000)) == 104 &&
           memcmp(sink_d.frame, longer, sizeof longer) == 0,
       "%s: one is in front", mode->name);
    sink_is_empty(&sink_d, mode->name);
    netring_block_release(block);
    queue_drains(c.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    is_int(queue_counters(c.queue).tx_invalid, 0, "%s: the kernel has seen nothing wrong",
           mode->name);
    xdp_close(a.xdp);
    xdp_close(c.xdp);
    netring_umem_free(umem);
}

/* With room for metadata in front of frames the kernel wants it in front of each, asked for or not:
 * a packet that was moved into it is refused here, not there, where nobody would be told. */
static void test_moved_to_the_front(const struct xdp_mode *mode)
{
    enum { METADATA = 24 };
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct netring_packet packets[2], one;
    struct netring_block *block;
    uint32_t inside;
    struct xdp_one a;

    if (!xdp_kernel(6, 11)) {
        tap_skip("metadata of frames to be sent", "of Linux 6.11");
        return;
    }
    config.flags |= NETRING_XDP_TX_METADATA;
    a = xdp_one("va", &config);
    send_stream(sender_b, 0, 2);
    queue_await(a.queue, 2);
    block = queue_block(a.queue, 2);
    netring_block_read(block, packets, sizeof *packets, 2);
    inside = (uint32_t)((uintptr_t)packets[0].data % 2048);
    one = packets[0];
    for (uint32_t at = 0; at < METADATA; at += METADATA - 1) {
        one.data = packets[0].data - inside + at;
        is_int(netring_queue_forward(a.queue, block, &one, sizeof one, 1), NETRING_EINVAL,
               "%s: %u bytes into its frame", mode->name, at);
    }
    one.data++;
    memmove(one.data, packets[0].data, one.caplen);
    is_int(netring_queue_forward(a.queue, block, &one, sizeof one, 1), 1, "%s: behind the room",
           mode->name);
    is_int(netring_queue_forward(a.queue, block, packets + 1, sizeof one, 1), 1,
           "%s: where it came", mode->name);
    netring_block_release(block);
    queue_drains(a.queue, mode->name);
    sink_is_stream(&sink_b, 0, 2, mode->name);
    is_int(queue_counters(a.queue).tx_invalid, 0, "%s: the kernel has seen nothing wrong",
           mode->name);
    queue_is_idle(a.queue, mode->name);
    xdp_close(a.xdp);
}

/* One queue, memory of its own: what it receives goes back out of it. */
static void test_reflect(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    struct xdp_one a = xdp_one("va", &config);

    for (uint32_t i = 0; i < 50; i++) {
        send_stream(sender_b, i * 50, 50);
        queue_await(a.queue, 50);
        is_int(forward_block(a.queue, a.queue, 0, NULL, NULL), 50, "%s: reflected", mode->name);
        sink_is_stream(&sink_b, i * 50, 50, mode->name);
    }
    queue_drains(a.queue, mode->name);
    queue_is_idle(a.queue, mode->name);
    queue_adds_up(a.queue, mode->name);
    is_int(queue_counters(a.queue).forwarded, 2500, "%s: forwarded", mode->name);
    xdp_close(a.xdp);
}

/* ---- for a while ---- */

static int by_address(const void *one, const void *other)
{
    const uint8_t *a = *(uint8_t *const *)one, *b = *(uint8_t *const *)other;

    return a < b ? -1 : a > b;
}

/* Both directions through both interfaces, and frames of the program's own between them, for some
 * seconds (NETRING_TEST_SECONDS): exactly all of them arrive, and every frame is back. */
static void test_for_a_while(const struct xdp_mode *mode)
{
    const char *given = getenv("NETRING_TEST_SECONDS");
    int64_t seconds = given ? atoi(given) : 3, end = now_ms() + seconds * 1000;
    struct pair p = pair_open(mode);
    uint32_t there = 0, back = 0, own = 0, rounds = 0;
    static const void *data[4096];
    size_t count = 0, distinct = 0;
    struct netring_block *held = NULL;
    const char *wrong = NULL;
    uint8_t frame[FRAME_MAX];
    struct dice dice = {88172645463325252};

    while (now_ms() < end && !wrong) {
        uint32_t out = 1 + dice_roll(&dice, 40), in = 1 + dice_roll(&dice, 40), got_d = 0,
                 got_b = 0, own_out = dice_roll(&dice, 8);

        for (uint32_t i = 0; i < out; i++)
            net_send(sender_b, frame, stream_make(frame, there + i));
        for (uint32_t i = 0; i < in; i++)
            net_send(sender_d, frame, stream_make(frame, back + i));
        queue_await(p.a.queue, out);
        queue_await(p.c.queue, in);
        forward_block(p.a.queue, p.c.queue, 0, data, &count);
        forward_block(p.c.queue, p.a.queue, 0, NULL, NULL);
        queue_commit_stream(p.c.queue, 1u << 30 | own, own_out);
        if (netring_queue_flush(p.c.queue) < 0)
            tap_bail("flush");
        while (got_d < out + own_out && !wrong) {
            uint32_t want = got_d < out ? there + got_d : (1u << 30 | own) + got_d - out;
            size_t length = sink_next(&sink_d, (int)tap_patience(1000));

            if (length != stream_make(frame, want) || memcmp(frame, sink_d.frame, length) != 0)
                wrong = "a packet does not come out there";
            got_d++;
        }
        while (got_b < in && !wrong) {
            size_t length = sink_next(&sink_b, (int)tap_patience(1000));

            if (length != stream_make(frame, back + got_b) ||
                memcmp(frame, sink_b.frame, length) != 0)
                wrong = "a packet does not come back";
            got_b++;
        }
        there += out, back += in, own += own_out;
        /* A block that is held for a round or two. */
        if (rounds++ % 16 == 0) {
            if (held)
                netring_block_release(held);
            send_stream(sender_d, 7, 3);
            queue_await(p.c.queue, 3);
            held = queue_block(p.c.queue, 3);
        }
    }
    ok(!wrong, "%s: %u packets there, %u back, %u of its own in %lld s%s%s", mode->name, there,
       back, own, (long long)seconds, wrong ? ": " : "", wrong ? wrong : "");
    netring_block_release(held);
    queue_drains(p.a.queue, mode->name);
    queue_drains(p.c.queue, mode->name);
    is_int(queue_counters(p.c.queue).forwarded, there, "%s: forwarded there", mode->name);
    is_int(queue_counters(p.a.queue).forwarded, back, "%s: forwarded back", mode->name);
    is_int(queue_sent(p.c.queue).completed, there + own, "%s: completed there", mode->name);
    is_int(queue_sent(p.a.queue).completed, back, "%s: completed back", mode->name);
    is_int(queue_stats(p.a.queue).dropped + queue_stats(p.c.queue).dropped, 0, "%s: none dropped",
           mode->name);
    for (int i = 0; i < 2; i++) {
        struct netring_queue *queue = i ? p.a.queue : p.c.queue;

        queue_is_idle(queue, mode->name);
        queue_adds_up(queue, mode->name);
    }
    /* The frames go round: no more of them than the queue was given. */
    qsort(data, count, sizeof *data, by_address);
    for (size_t i = 0; i < count; i++)
        distinct += i == 0 || (uintptr_t)data[i] / 2048 != (uintptr_t)data[i - 1] / 2048;
    ok(count > 0 && distinct <= 512, "%s: %zu packets in %zu frames", mode->name, count, distinct);
    pair_close(&p, mode->name);
}

/* Closed while the other interface has its frames. */
static void test_close_order(const struct xdp_mode *mode)
{
    struct footprint before = footprint_now();
    struct netring_umem_config memory = umem_config(2048);

    for (int order = 0; order < 4; order++) {
        struct netring_umem *umem = umem_new(&memory);
        struct netring_xdp_config config = pair_config(mode, umem);
        struct xdp_one a = xdp_one("va", &config), c = xdp_one("vc", &config);
        struct netring_packet packets[16];
        struct netring_block *block;

        send_stream(sender_b, 0, 10);
        queue_await(a.queue, 10);
        block = queue_block(a.queue, 10);
        netring_block_read(block, packets, sizeof *packets, COUNT(packets));
        is_int(netring_queue_forward(c.queue, block, packets, sizeof *packets, 6), 6,
               "%s: order %d: forwarded", mode->name, order);
        if (order & 1)
            is_int(netring_umem_free(umem), 0, "%s: the UMEM's object first", mode->name);
        if (order & 2) {
            is_int(netring_xdp_close(c.xdp), 0, "%s: offered once more by the close", mode->name);
            sink_is_stream(&sink_d, 0, 6, "by the close");
            xdp_close(a.xdp);
        } else {
            xdp_close(a.xdp);
            netring_queue_flush(c.queue);
            queue_drains(c.queue, "after the close of their source");
            sink_is_stream(&sink_d, 0, 6, "after the close of their source");
            xdp_close(c.xdp);
        }
        ok(!not_of_stream(&packets[9], 9), "%s: what is held is there", mode->name);
        if (!(order & 1))
            is_int(umem_info(umem).frames_free, 2048 - 512,
                   "%s: all but those of the queue that has held ones", mode->name);
        netring_block_release(block);
        if (!(order & 1)) {
            is_int(umem_info(umem).frames_free, 2048, "%s: all frames are free", mode->name);
            netring_umem_free(umem);
        }
        is_footprint(before, "closed in some order");
    }
    sink_is_empty(&sink_d, mode->name);
}

/* The way out ends, or its interface is gone, with frames of the source: they come back to it. */
static void test_way_out_ends(const struct xdp_mode *mode, bool deleted)
{
    const char *what = deleted ? "the way out is deleted" : "the way out is closed";
    struct netring_umem_config memory = umem_config(2048);
    struct netring_umem *umem = umem_new(&memory);
    struct netring_xdp_config config = pair_config(mode, umem);
    struct netring_packet packets[20];
    struct netring_xdp_counters counters;
    struct netring_block *block;
    struct netring_slot slot;
    struct xdp_one a, c;
    int rc;

    net_veth("ea", "eb");
    net_await_carrier("ea");
    a = xdp_one("va", &config);
    c = xdp_one("ea", &config);
    for (uint32_t round = 0; round < 3; round++) {
        send_stream(sender_b, round * 20, 20);
        queue_await(a.queue, 20);
        block = queue_block(a.queue, 20);
        netring_block_read(block, packets, sizeof *packets, COUNT(packets));
        if (round == 1)
            queue_must_reserve(c.queue, &slot, 1); /* the others cannot leave */
        is_int(netring_queue_forward(c.queue, block, packets, sizeof *packets, 12), 12,
               "%s: forwarded", what);
        netring_queue_flush(c.queue);
        netring_block_release(block);
    }
    queue_adds_up(a.queue, what);
    if (deleted) {
        net_link_delete("ea");
        /* With nothing that could leave it looks now and then. */
        for (int i = 0; (rc = netring_queue_flush(c.queue)) == 0 && i < 200; i++)
            sleep_ms(10);
        is_int(rc, NETRING_ENODEV, "%s: flush", what);
        slot.len = 0;
        queue_must_commit(c.queue, &slot, 1);
        counters = queue_counters(c.queue);
        is_int(counters.tx_free + counters.tx_in_flight, counters.tx_frames,
               "%s: only its own frames are its own", what);
    }
    rc = netring_xdp_close(c.xdp);
    ok(rc >= 0 && rc <= 24, "%s: %d have not left", what, rc);
    /* The kernel may read what it has not given back for a while. */
    for (int i = 0; i < 200 && queue_counters(a.queue).rx_forwarded > 0; i++)
        sleep_ms(10);
    queue_is_idle(a.queue, what);
    queue_adds_up(a.queue, what);
    is_int(queue_counters(a.queue).rx_forwarded, 0, "%s: none is away", what);
    send_stream(sender_b, 0, 512);
    queue_is_stream(a.queue, 0, 512, what);
    is_int(queue_stats(a.queue).dropped, 0, "%s: all frames take part", what);
    xdp_close(a.xdp);
    is_int(umem_info(umem).frames_free, 2048, "%s: all frames are free", what);
    netring_umem_free(umem);
    if (!deleted)
        net_link_delete("ea");
}

/* Closed one after the other while threads forward between them, look at their counters, and hold
 * blocks: every call ends, and every frame is free once the last block is released. */
struct mover {
    struct netring_queue *from, *to;
    struct netring_block *held;
    int forwarded, rc;
    pthread_t thread;
};

static void *moves(void *user)
{
    struct mover *m = user;
    struct netring_packet packets[64];
    struct netring_block *block;
    int n;

    while ((m->rc = netring_queue_next_block(m->from, -1, &block)) == 1) {
        n = netring_block_read(block, packets, sizeof *packets, COUNT(packets));
        n = netring_queue_forward(m->to, block, packets, sizeof *packets, (size_t)n);
        m->forwarded += n > 0 ? n : 0;
        netring_queue_flush(m->to);
        if (!m->held && m->forwarded > 100)
            m->held = block;
        else
            netring_block_release(block);
    }
    return NULL;
}

static void *looks(void *user)
{
    struct mover *m = user;
    struct netring_xdp_counters counters;
    struct netring_injector_stats sent;
    struct netring_stats stats;

    do {
        m->rc = netring_queue_counters(m->from, &counters, sizeof counters);
        netring_queue_transmit_stats(m->from, &sent, sizeof sent);
        netring_queue_stats(m->from, &stats, sizeof stats);
        netring_queue_counters(m->to, &counters, sizeof counters);
    } while (m->rc == 0);
    return NULL;
}

static void test_close_under_load(const struct xdp_mode *mode)
{
    struct footprint before = footprint_now();
    struct netring_umem_config memory = umem_config(2048);
    int rounds = tap_patience(1) > 1 ? 4 : 10, wrong = 0, forwarded = 0;
    uint64_t free = 0;

    for (int round = 0; round < rounds; round++) {
        struct netring_umem *umem = umem_new(&memory);
        struct netring_xdp_config config = pair_config(mode, umem);
        struct xdp_one a = xdp_one("va", &config), c = xdp_one("vc", &config);
        struct mover movers[4] = {
            {.from = a.queue, .to = c.queue},
            {.from = c.queue, .to = a.queue},
            {.from = a.queue, .to = a.queue},
            {.from = c.queue, .to = a.queue},
        };

        for (size_t i = 0; i < COUNT(movers); i++)
            pthread_create(&movers[i].thread, NULL, i < 3 ? moves : looks, &movers[i]);
        for (uint32_t i = 0; i < 5; i++) {
            send_stream(sender_b, i * 100, 100);
            send_stream(sender_d, i * 100, 100);
        }
        /* One may tell of frames that have not left. */
        wrong += netring_xdp_close(round & 1 ? c.xdp : a.xdp) < 0;
        send_stream(round & 1 ? sender_b : sender_d, 0, 50);
        wrong += netring_xdp_close(round & 1 ? a.xdp : c.xdp) < 0;
        for (size_t i = 0; i < COUNT(movers); i++) {
            pthread_join(movers[i].thread, NULL);
            wrong += movers[i].rc != NETRING_EBADF;
            forwarded += movers[i].forwarded;
            netring_block_release(movers[i].held);
        }
        free += umem_info(umem).frames_free;
        netring_umem_free(umem);
    }
    is_int(wrong, 0, "%s: closed under load: every call ends (%d forwarded)", mode->name,
           forwarded);
    is_int(free, (uint64_t)rounds * 2048, "%s: and all frames are free", mode->name);
    is_footprint(before, "closed under load");
    while (sink_next(&sink_b, 20) > 0)
        ;
    while (sink_next(&sink_d, 20) > 0)
        ;
}

/* ---- all frames are away ---- */

static bool readable(struct netring_queue *queue, int64_t timeout)
{
    struct pollfd wait = {.fd = netring_queue_fd(queue), .events = POLLIN};

    return poll(&wait, 1, (int)timeout) == 1;
}

/* Forwards all frames that `from` has, 64, in blocks of 32, out of `to`. */
static void forward_all(struct netring_queue *from, struct netring_queue *to)
{
    struct netring_packet packets[32];

    send_stream(sender_b, 0, 64);
    queue_await(from, 64);
    for (int i = 0; i < 2; i++) {
        struct netring_block *block = queue_block(from, 32);

        netring_block_read(block, packets, sizeof *packets, 32);
        is_int(netring_queue_forward(to, block, packets, sizeof *packets, 32), 32, "forwarded");
        netring_block_release(block);
    }
}

/* One check: a loop that does nothing but poll the descriptor and take what is there, or does
 * nothing but wait, sees a packet again, though every frame of the queue was sent on and nobody
 * asks the sending side any more. */
static void goes_on(struct netring_queue *queue, bool polls, const char *what)
{
    int64_t end = now_ms() + tap_patience(3000);
    uint8_t frame[FRAME_MAX];
    struct netring_block *block;
    int rc = 0, empty = 0;

    while (rc == 0 && now_ms() < end) {
        /* Dropped as long as there is no frame for it. */
        net_send(sender_b, frame, stream_make(frame, 64));
        if (polls)
            rc = readable(queue, 20) ? netring_queue_next_block(queue, 0, &block) : 0;
        else
            rc = netring_queue_next_block(queue, 20, &block);
        empty++;
    }
    if (ok(rc == 1, "%s, %s: goes on after %d packets: %s", what, polls ? "polled" : "waited for",
           empty, netring_err_name(rc)))
        netring_block_release(block);
}

static struct netring_xdp_config few_frames(const struct xdp_mode *mode, struct netring_umem *umem)
{
    struct netring_xdp_config config = pair_config(mode, umem);

    config.rx_frames = config.tx_frames = 64;
    config.block_packets = 32;
    return config;
}

static void test_all_away(const struct xdp_mode *mode, bool polls)
{
    struct netring_umem_config memory = umem_config(512);
    struct netring_umem *umem = umem_new(&memory);
    struct netring_xdp_config config = few_frames(mode, umem);
    struct xdp_one a = xdp_one("va", &config), c = xdp_one("vc", &config);
    struct netring_block *block;

    for (int i = 0; i < 2; i++) {
        struct netring_queue *to = i ? c.queue : a.queue;

        forward_all(a.queue, to);
        netring_queue_flush(to);
        goes_on(a.queue, polls, i ? "forwarded to another queue" : "sent back");
        sink_is_stream(i ? &sink_d : &sink_b, 0, 64, mode->name);
        queue_drains(to, mode->name);
        while (netring_queue_next_block(a.queue, 20, &block) == 1)
            netring_block_release(block);
        queue_is_idle(a.queue, mode->name);
        queue_adds_up(a.queue, mode->name);
        ok(!readable(a.queue, 0), "%s: and nothing more", mode->name);
    }
    /* Behind an open slot they never leave; the queue is closed with them. */
    {
        struct netring_slot slot;

        queue_must_reserve(c.queue, &slot, 1);
        forward_all(a.queue, c.queue);
        netring_queue_flush(c.queue);
        is_int(netring_xdp_close(c.xdp), 64, "%s: they have not left", mode->name);
        goes_on(a.queue, polls, "the way out is closed");
    }
    xdp_close(a.xdp);
    is_int(umem_info(umem).frames_free, 512, "%s: all frames are free", mode->name);
    netring_umem_free(umem);
}

/* ---- kinds of memory ---- */

/* Traffic both ways. */
static void works(const struct netring_xdp_config *config, uint32_t modulus, uint32_t offset,
                  const char *what)
{
    struct footprint before = footprint_now();
    struct xdp_one a = xdp_one("va", config);
    struct records got = {0};
    struct netring_block *block;
    struct netring_packet packet;

    /* Every frame several times. */
    for (uint32_t i = 0; i < 6; i++) {
        send_stream(sender_b, i * 100, 100);
        queue_is_stream(a.queue, i * 100, 100, what);
        queue_commit_stream(a.queue, i * 100, 60);
        netring_queue_flush(a.queue);
        sink_is_stream(&sink_b, i * 100, 60, what);
        queue_drains(a.queue, what);
    }
    send_stream(sender_b, 0, 1);
    queue_await(a.queue, 1);
    block = queue_block(a.queue, 1);
    if (netring_block_read(block, &packet, sizeof packet, 1) == 1 && modulus)
        is_int((uintptr_t)packet.data % modulus, offset, "%s: where the packet begins", what);
    netring_block_release(block);
    queue_is_idle(a.queue, what);
    queue_adds_up(a.queue, what);
    records_free(&got);
    xdp_close(a.xdp);
    is_footprint(before, what);
}

static void test_sizes(const struct xdp_mode *mode)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);

    config.rx_frames = config.tx_frames = 256;
    works(&config, 2048, 256, "frames of 2048");
    config.headroom = 128;
    works(&config, 2048, 256 + 128, "headroom");
    config.headroom = 0;
    config.frame_size = 4096;
    works(&config, 4096, 256, "frames of 4096");
    config.headroom = 1000;
    works(&config, 4096, 256 + 1000, "headroom in 4096");
    config.headroom = 0;
    config.frame_size = 3072;
    config.flags |= NETRING_XDP_UNALIGNED;
    works(&config, 0, 0, "unaligned");
    config.frame_size = 2056;
    works(&config, 0, 0, "unaligned, 2056");
}

/* vm.nr_hugepages; -1: cannot be told. */
static long hugepages(long set)
{
    char text[32] = "";
    int fd = open("/proc/sys/vm/nr_hugepages", (set < 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
    ssize_t done;

    if (fd < 0)
        return -1;
    if (set < 0) {
        done = read(fd, text, sizeof text - 1);
        set = atol(text);
    } else {
        snprintf(text, sizeof text, "%ld", set);
        done = write(fd, text, strlen(text));
    }
    close(fd);
    return done > 0 ? set : -1;
}

static long free_hugepages(void)
{
    FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
    long pages = -1;

    if (file) {
        if (fscanf(file, "%ld", &pages) != 1)
            pages = -1;
        fclose(file);
    }
    return pages;
}

static void test_hugepages(const struct xdp_mode *mode)
{
    enum { PAGES = 4 };
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    long before = hugepages(-1);
    struct netring_umem_config memory = umem_config(1024);

    config.rx_frames = config.tx_frames = 256;
    config.flags |= NETRING_XDP_HUGEPAGES;
    if (before == 0) {
        struct netring_umem *umem = NULL;
        struct netring_error error;

        memory.flags |= NETRING_UMEM_HUGEPAGES;
        is_int(netring_umem_new(&memory, &umem, &error), NETRING_EMMAP, "none reserved: no UMEM");
        is_int(error.os_errno, ENOMEM, "for want of memory");
        is_str_contains(error.message, "vm.nr_hugepages", "the remedy");
        xdp_open_fails("none reserved", "va", NULL, 0, &config,
                       &(struct failure){NETRING_EMMAP, ENOMEM, error.option, {"vm.nr_hugepages"}});
    }
    if (before < 0 || hugepages(before + PAGES) < 0) {
        tap_skip("hugepages", "vm.nr_hugepages cannot be set here");
        return;
    }
    if (hugepages(-1) < before + PAGES) {
        tap_skip("hugepages", "no contiguous memory is left for them");
    } else {
        long free = free_hugepages();
        struct xdp_one a = xdp_one("va", &config);

        ok(free_hugepages() < free, "%s: a hugepage is in use", mode->name);
        is_int(xdp_info(a.xdp).flags & NETRING_XDP_HUGEPAGES, NETRING_XDP_HUGEPAGES, "%s: it tells",
               mode->name);
        xdp_close(a.xdp);
        /* The kernel lets go of the pages some time after the close. */
        for (int i = 0; i < 200 && free_hugepages() < free; i++)
            sleep_ms(10);
        is_int(free_hugepages(), free, "%s: and free again", mode->name);
        works(&config, 2048, 256, "hugepages");
        config.frame_size = 3072;
        config.flags |= NETRING_XDP_UNALIGNED;
        works(&config, 0, 0, "hugepages, unaligned");
    }
    if (hugepages(before) < 0)
        tap_bail("vm.nr_hugepages cannot be set back");
}

/* ---- packets of several frames ---- */

static const uint32_t lengths[] = {60, 1514, 1792, 1793, 3000, 3584, 3585, 4000, 5000, 8000, 9014};

static const char *not_these_segments(struct netring_block *block,
                                      const struct netring_packet *packet, uint32_t number,
                                      uint32_t length, uint32_t frame_size)
{
    struct netring_segment segments[16], one;
    uint8_t frame[FRAME_MAX];
    uint32_t at = 0;
    int count =
        netring_block_segments(block, packet->cookie, segments, sizeof *segments, COUNT(segments));

    numbered_make(frame, length, number, false);
    if (packet->len != length)
        return "its length";
    if (count < 1 || count != packet->segments + 1)
        return "how many segments";
    if ((packet->segments > 0) != ((packet->status & NETRING_PACKET_SEGMENTED) != 0))
        return "its status";
    if (segments[0].data != packet->data || segments[0].len != packet->caplen)
        return "the first piece is the packet's";
    for (int i = 0; i < count; i++) {
        if (segments[i].len == 0 || segments[i].len > frame_size || at + segments[i].len > length)
            return "the length of a piece";
        if (memcmp(segments[i].data, frame + at, segments[i].len) != 0)
            return "the bytes of a piece";
        at += segments[i].len;
    }
    if (at != length)
        return "the sum of its pieces";
    if (netring_block_segments(block, packet->cookie, &one, sizeof one, 1) != count ||
        one.data != packet->data)
        return "with room for one piece";
    if (netring_block_segments(block, packet->cookie, NULL, sizeof one, 0) != count)
        return "with room for none";
    return NULL;
}

static void test_segments(const struct xdp_mode *mode, bool linear)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, mode->mode);
    const char *kind = linear ? "in one piece" : "in pieces";
    const char *wrong = NULL;
    uint32_t seen = 0, pieces = 0;
    uint8_t frame[FRAME_MAX];
    struct netring_stats stats;
    struct xdp_one a;

    if (!xdp_kernel(6, 6)) {
        tap_skip(kind, "packets of several frames are of Linux 6.6");
        return;
    }
    config.flags |= NETRING_XDP_MULTI_BUFFER | (linear ? NETRING_XDP_LINEAR : 0);
    config.rx_frames = 256;
    if (kernel_version() < 0x060600) {
        static const struct failure no_program = {NETRING_EXDP, EINVAL, "BPF_PROG_LOAD", {"5.18"}};
        static const struct failure no_socket = {NETRING_EBIND, EINVAL, "bind", {"6.6"}};

        xdp_open_fails("segments before Linux 6.6", "ja", NULL, 0, &config,
                       kernel_version() < 0x051200 ? &no_program : &no_socket);
        return;
    }
    a = xdp_one("ja", &config);
    for (uint32_t round = 0; round < 30 && !wrong; round++) {
        int sender = net_sender("jb");
        uint32_t first = seen;

        for (uint32_t i = 0; i < COUNT(lengths); i++) {
            numbered_make(frame, lengths[i], first + i, false);
            net_send(sender, frame, lengths[i]);
        }
        close(sender);
        /* Packets, not pieces, also before they are taken. */
        queue_await(a.queue, COUNT(lengths));
        stats = queue_stats(a.queue);
        if (stats.pending != COUNT(lengths) || stats.received != first + COUNT(lengths) ||
            stats.blocks_ready != 1)
            wrong = "what is told of it";
        while (seen < first + COUNT(lengths) && !wrong) {
            struct netring_packet packet;
            struct netring_block *block;

            if (netring_queue_next_block(a.queue, (int)tap_patience(1000), &block) != 1) {
                wrong = "it does not come";
                break;
            }
            while (!wrong && netring_block_read(block, &packet, sizeof packet, 1) == 1) {
                uint32_t length = lengths[seen % COUNT(lengths)];

                numbered_make(frame, length, seen, false);
                if (!linear)
                    wrong = not_these_segments(block, &packet, seen, length, 2048);
                else if (packet.caplen != length || packet.len != length || packet.segments != 0 ||
                         packet.status & NETRING_PACKET_SEGMENTED ||
                         memcmp(packet.data, frame, length) != 0)
                    wrong = "it is not in one piece as it was sent";
                pieces += packet.segments;
                seen++;
            }
            if (netring_block_release(block) != 0)
                wrong = "its release";
        }
    }
    ok(!wrong, "%s, %s: %u packets%s%s", mode->name, kind, seen, wrong ? ": " : "",
       wrong ? wrong : "");
    ok(linear ? pieces == 0 : pieces > seen, "%s, %s: %u further pieces", mode->name, kind, pieces);
    is_int(queue_stats(a.queue).delivered, seen, "%s, %s: a packet each", mode->name, kind);
    is_int(queue_stats(a.queue).dropped, 0, "%s, %s: none dropped", mode->name, kind);
    queue_is_idle(a.queue, kind);
    queue_adds_up(a.queue, kind);
    xdp_close(a.xdp);
}

/* Without it, large packets do not fit: refused by the driver, or dropped and counted. */
static void test_without_segments(void)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_ALL, NETRING_MODE_COPY);
    int sender = net_sender("jb");
    uint8_t frame[FRAME_MAX];
    struct xdp_one a;
    struct records got = {0};

    xdp_open_fails(
        "native, an MTU of 9000", "ja", NULL, 0, &config,
        &(struct failure){NETRING_EXDP, ERANGE, "attach", {"MULTI_BUFFER", "of its peer"}});
    config.mode = NETRING_MODE_SKB;
    a = xdp_one("ja", &config);
    for (uint32_t i = 0; i < COUNT(lengths); i++) {
        numbered_make(frame, lengths[i], i, false);
        net_send(sender, frame, lengths[i]);
    }
    queue_receive(a.queue, SIZE_MAX, 200, &got);
    is_int(got.count, 3, "SKB: what fits into a frame arrives");
    is_int(queue_stats(a.queue).dropped, COUNT(lengths) - 3, "SKB: the others are counted");
    records_free(&got);
    xdp_close(a.xdp);
    close(sender);
}

int main(void)
{
    const char *seconds = getenv("NETRING_TEST_SECONDS");
    struct footprint before;

    tap_begin(120 + 2 * (seconds ? (unsigned)atoi(seconds) : 0));
    xdp_enter();
    net_veth("va", "vb");
    net_veth("vc", "vd");
    net_veth("ja", "jb");
    net_link_mtu("ja", 9000);
    net_link_mtu("jb", 9000);
    sender_b = net_sender("vb");
    sender_d = net_sender("vd");
    sink_open(&sink_b, "vb");
    sink_open(&sink_d, "vd");
    before = footprint_now();
    for (size_t i = 0; i < COUNT(xdp_modes); i++) {
        test_forward(&xdp_modes[i]);
        test_partly(&xdp_modes[i]);
        test_no_room(&xdp_modes[i]);
        test_moved(&xdp_modes[i]);
        test_moved_to_the_front(&xdp_modes[i]);
        test_reflect(&xdp_modes[i]);
        test_close_order(&xdp_modes[i]);
        test_close_under_load(&xdp_modes[i]);
        test_way_out_ends(&xdp_modes[i], false);
        test_way_out_ends(&xdp_modes[i], true);
        test_all_away(&xdp_modes[i], true);
        test_all_away(&xdp_modes[i], false);
        test_sizes(&xdp_modes[i]);
        test_segments(&xdp_modes[i], false);
        test_segments(&xdp_modes[i], true);
        test_for_a_while(&xdp_modes[i]);
    }
    test_forward_misuse();
    test_without_segments();
    test_hugepages(&xdp_modes[0]);
    is_footprint(before, "all of it");
    return tap_end();
}
