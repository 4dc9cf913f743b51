/* Threads that use one capture in every way at once, while it is closed and another one takes its
 * place: each call gets a documented result, and each packet read is one that was sent. */
#include "support.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static _Atomic(struct netring_capture *) shared;
static _Atomic bool over;
static int sender; /* on va; what it sends arrives at vb */
static unsigned strange_results, strange_packets, packets_read, blocks_read;

static void count(unsigned *counter, unsigned more)
{
    __atomic_add_fetch(counter, more, __ATOMIC_RELAXED);
}

/* What a call on a capture that others use, stop and close may return. */
static int expected(int rc, const char *call)
{
    switch (rc) {
    case NETRING_EBADF:
    case NETRING_EBUSY:
    case NETRING_ESHUTDOWN:
    case NETRING_EWAKEUP:
        return rc;
    default:
        if (rc < 0 && __atomic_add_fetch(&strange_results, 1, __ATOMIC_RELAXED) < 5)
            tap_diag("%s: %s (errno %d)", call, netring_err_name(rc), errno);
        return rc;
    }
}

static void look_at(const struct netring_packet *packet)
{
    uint8_t frame[FRAME_MAX];

    frame_make(frame, packet->len, frame_number(packet->data));
    count(&strange_packets,
          packet->caplen != packet->len || memcmp(frame, packet->data, packet->len) != 0);
    count(&packets_read, 1);
}

static int look_at_all(void *user, const struct netring_packet *packets, size_t n, size_t size)
{
    (void)user, (void)size;
    for (size_t i = 0; i < n; i++)
        look_at(&packets[i]);
    return 0;
}

static void read_and_release(struct netring_block *block)
{
    struct netring_packet packets[16];
    int n;

    while ((n = expected(netring_block_read(block, packets, sizeof *packets, COUNT(packets)),
                         "block_read")) > 0)
        look_at_all(NULL, packets, (size_t)n, sizeof *packets);
    expected(netring_block_release(block), "block_release");
    count(&blocks_read, 1);
}

static void *takes_blocks(void *user)
{
    struct netring_block *held[4] = {NULL};
    unsigned turn = 0;

    (void)user;
    while (!over) {
        struct netring_block *block;

        if (expected(netring_capture_next_block(shared, 2, &block), "next_block") != 1)
            continue;
        /* Some are held for a while, beyond their capture's close. */
        turn = (turn + 1) % COUNT(held);
        if (held[turn])
            read_and_release(held[turn]);
        held[turn] = block;
        if (turn == 0) {
            expected(netring_block_retain(block, 1), "block_retain");
            expected(netring_block_release(block), "block_release");
        }
    }
    for (size_t i = 0; i < COUNT(held); i++) {
        if (held[i])
            read_and_release(held[i]);
    }
    return NULL;
}

static void *takes_packets(void *user)
{
    struct netring_packet packet;

    (void)user;
    while (!over) {
        /* The packet is valid until the close, which another thread may be in: it is not read. */
        expected(netring_capture_next_packet(shared, 2, &packet, sizeof packet), "next_packet");
        expected(netring_capture_dispatch(shared, 2, 0, look_at_all, NULL), "dispatch");
    }
    return NULL;
}

static void *asks(void *user)
{
    (void)user;
    while (!over) {
        struct netring_capture_info info;
        struct netring_stats stats;
        struct netring_error error;

        expected(netring_capture_stats(shared, &stats, sizeof stats), "stats");
        expected(netring_capture_info(shared, &info, sizeof info), "info");
        expected(netring_capture_last_error(shared, &error), "last_error");
        expected(netring_capture_fd(shared), "fd");
    }
    return NULL;
}

static void *disturbs(void *user)
{
    (void)user;
    for (unsigned n = 0; !over; n++) {
        expected(netring_capture_wakeup(shared), "wakeup");
        sleep_ms(1);
        if (n % 5 == 0)
            expected(netring_capture_flush(shared), "flush");
        if (n % 11 == 0)
            expected(netring_capture_wakeup_clear(shared), "wakeup_clear");
        if (n % 31 == 0)
            expected(netring_capture_stop(shared), "stop");
    }
    return NULL;
}

static void *sends(void *user)
{
    uint32_t number = 0;

    (void)user;
    while (!over) {
        uint8_t frame[FRAME_MAX];

        for (int i = 0; i < 8; i++, number++)
            net_send(sender, frame, frame_make(frame, frame_mixed(number, 60, 600), number));
        sleep_ms(1);
    }
    return NULL;
}

static bool is_enough(unsigned closes)
{
    return closes > 5 && __atomic_load_n(&blocks_read, __ATOMIC_RELAXED) > 20 &&
           __atomic_load_n(&packets_read, __ATOMIC_RELAXED) > 100;
}

int main(void)
{
    static void *(*const jobs[])(void *) = {takes_blocks, takes_blocks, takes_packets,
                                            asks,         disturbs,     sends};
    struct netring_capture_config config;
    pthread_t threads[COUNT(jobs)];
    struct footprint before;
    unsigned closes = 0;
    int64_t end;

    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");
    config = small_config();
    config.block_size = 2 * (uint32_t)getpagesize();
    config.block_timeout = 1;
    before = footprint_now();
    shared = capture_open("vb", &config);
    for (size_t i = 0; i < COUNT(jobs); i++)
        pthread_create(&threads[i], NULL, jobs[i], NULL);
    end = now_ms() + 2000;
    while (now_ms() < end || (!is_enough(closes) && now_ms() < end + tap_patience(10000))) {
        struct netring_capture *old = shared;

        sleep_ms(20);
        shared = capture_open("vb", &config);
        capture_close(old);
        closes++;
    }
    over = true;
    for (size_t i = 0; i < COUNT(jobs); i++)
        pthread_join(threads[i], NULL);
    capture_close(shared);
    tap_diag("%u closes, %u blocks, %u packets", closes, blocks_read, packets_read);
    ok(is_enough(closes), "there was something to do");
    is_int(strange_results, 0, "documented results only");
    is_int(strange_packets, 0, "only packets that were sent");
    is_footprint(before, "all of it");
    return tap_end();
}
