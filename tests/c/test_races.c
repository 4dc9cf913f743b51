/* Moments that are hard to hit: a block taken while the kernel has lapped the ring, parts handed
 * out before the ring is full, a wakeup or a close in the middle of a dispatch, damage in the ring,
 * a release during a close that cannot copy.
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "support.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sender; /* on va; what it sends arrives at vb */

/* ---- a block is handed out only when the kernel has closed it ---- */

enum { LAPPED_BLOCKS = 3, QUEUE = 16 };

struct lapped {
    struct netring_capture *capture;
    struct netring_block *queue[QUEUE];
    unsigned put, released; /* counts of blocks, atomic */
    bool over;              /* atomic */
    unsigned open, strange; /* blocks of the kernel that were handed out; unexpected results */
};

static void *laps_sends(void *user)
{
    struct lapped *lapped = user;

    while (!__atomic_load_n(&lapped->over, __ATOMIC_RELAXED))
        send_frames(sender, 0, 8, 1000);
    return NULL;
}

static void *laps_releases(void *user)
{
    struct lapped *lapped = user;

    for (;;) {
        bool over = __atomic_load_n(&lapped->over, __ATOMIC_ACQUIRE);
        unsigned next = lapped->released;

        if (next != __atomic_load_n(&lapped->put, __ATOMIC_ACQUIRE)) {
            netring_block_release(lapped->queue[next % QUEUE]);
            __atomic_store_n(&lapped->released, next + 1, __ATOMIC_RELEASE);
        } else if (over) {
            return NULL;
        } else {
            usleep(0);
        }
    }
}

/* A ring that is always full, its blocks given back by another thread: while this one looks whether
 * the next block is ready, the kernel may get it back and open it again. Such a block is not ready.
 */
static void test_lapped(void)
{
    struct netring_capture_config config = page_config(LAPPED_BLOCKS);
    struct lapped lapped = {NULL, {NULL}, 0, 0, false, 0, 0};
    pthread_t sends, releases;
    int64_t end;

    config.block_timeout = 1;
    lapped.capture = capture_open("vb", &config);
    pthread_create(&sends, NULL, laps_sends, &lapped);
    pthread_create(&releases, NULL, laps_releases, &lapped);
    end = now_ms() + 3000;
    while (now_ms() < end) {
        struct netring_block *block;
        struct netring_block_view view;
        const struct tpacket_block_desc *header;
        unsigned put = lapped.put;
        int rc = netring_capture_next_block(lapped.capture, 0, &block);

        if (rc != 1) {
            lapped.strange += rc != 0;
            continue;
        }
        netring_block_view(block, &view, sizeof view);
        header = (const void *)view.base;
        if (!(__atomic_load_n(&header->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
            lapped.open++;
        lapped.queue[put % QUEUE] = block;
        __atomic_store_n(&lapped.put, put + 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&lapped.over, true, __ATOMIC_RELEASE);
    pthread_join(sends, NULL);
    pthread_join(releases, NULL);
    tap_diag("%u blocks", lapped.put);
    ok(lapped.put > LAPPED_BLOCKS, "a lapped ring: more blocks than it has");
    is_int(lapped.open, 0, "a lapped ring: no block that the kernel is filling");
    is_int(lapped.strange, 0, "a lapped ring: no other result");
    capture_close(lapped.capture);
}

/* ---- no record twice ---- */

/* A flush notes how much of the open block may be read. When all blocks of the ring have been taken
 * since, the reader is at that block again: what the flush noted is over, whether the block is
 * still held or has been given back. */
static void test_flush_then_a_lap(uint32_t count)
{
    enum { LENGTH = 60, PART = 3 };
    struct netring_capture_config config = page_config(count);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *blocks[4], *none = NULL;
    struct records records = {0, 0, NULL};
    uint32_t all = count * frames_per_page(LENGTH);
    struct netring_stats stats;

    send_frames(sender, 0, PART, LENGTH);
    await_seen(capture, PART);
    is_int(netring_capture_flush(capture), 0, "a flush, then a lap of %u: the flush", count);
    /* The one more, for which there is no room, makes the kernel close the last block. */
    send_frames(sender, PART, all - PART + 1, LENGTH);
    await_ready(capture, count);
    for (uint32_t i = 0; i < count; i++) {
        if (netring_capture_next_block(capture, 0, &blocks[i]) != 1)
            tap_bail("block %u of %u is not there", i, count);
        block_records(blocks[i], 64, &records);
    }
    is_frames(&records, 0, all, LENGTH, LENGTH, "a flush, then a lap");
    is_int(netring_capture_next_block(capture, 0, &none), 0,
           "a flush, then a lap of %u, all of it held: nothing more", count);
    for (uint32_t i = 0; i < count; i++) {
        netring_block_release(blocks[i]);
        is_int(netring_capture_next_block(capture, 0, &none), 0,
               "a flush, then a lap of %u, %u given back: nothing more", count, i + 1);
    }
    stats = capture_stats(capture);
    is_int(stats.delivered, all, "a flush, then a lap of %u: each packet delivered once", count);
    is_int(stats.pending, 0, "a flush, then a lap of %u: none pending", count);
    records_free(&records);
    capture_close(capture);
}

/* ---- dispatch and what happens in it ---- */

static int wakes(void *user, const struct netring_packet *packets, size_t n, size_t size)
{
    (void)packets, (void)n, (void)size;
    is_int(netring_capture_wakeup(user), 0, "a wakeup from the callback");
    return 0;
}

/* A dispatch that has packets to tell of tells nothing of the wakeup it meets then: the next wait
 * does, once. */
static void test_wakeup_in_dispatch(void)
{
    for (size_t i = 0; i < COUNT(wait_kinds); i++) {
        struct netring_capture_config config = page_config(4);
        struct netring_capture *capture = capture_open("vb", &config);

        send_frames(sender, 0, 3, 60);
        await_seen(capture, 3);
        netring_capture_flush(capture);
        is_int(netring_capture_dispatch(capture, 1000, 1000, wakes, capture), 3,
               "dispatch, woken from its callback: its packets");
        is_str(netring_err_name(wait_kinds[i].call(capture, 300)),
               netring_err_name(NETRING_EWAKEUP), "dispatch, woken from its callback: then %s",
               wait_kinds[i].name);
        is_int(wait_kinds[i].call(capture, 0), 0, "dispatch, woken from its callback: once (%s)",
               wait_kinds[i].name);
        capture_close(capture);
    }
}

struct ending {
    struct netring_capture *capture;
    uint8_t *data;  /* of the packet, atomic: set when dispatch is about to end */
    unsigned delay; /* turns before it does; 0: until the close has begun */
    int rc;
};

static int ends(void *user, const struct netring_packet *packets, size_t n, size_t size)
{
    struct ending *ending = user;
    struct netring_capture_info info;

    (void)n, (void)size;
    __atomic_store_n(&ending->data, packets->data, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < ending->delay; i++)
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    while (ending->delay == 0 &&
           netring_capture_info(ending->capture, &info, sizeof info) != NETRING_EBADF)
        usleep(10);
    return 0;
}

static void *dispatches_one(void *user)
{
    struct ending *ending = user;

    ending->rc = netring_capture_dispatch(ending->capture, 1000, 1, ends, ending);
    return NULL;
}

/* A dispatch ends with its block half read while another thread closes the capture: one of the two
 * releases the block, and its memory is gone. Where both leave it to the other is rarely met: a few
 * instructions at the end of dispatch. */
static void test_close_at_the_end_of_dispatch(void)
{
    enum { ROUNDS = 60 };
    struct netring_capture_config config = page_config(2);
    int before = footprint_now().mappings, left = 0, strange = 0, rounds = 0;
    int64_t end = now_ms() + tap_patience(1500);

    for (; rounds < ROUNDS && now_ms() < end; rounds++) {
        struct ending ending = {capture_open("vb", &config), NULL,
                                rounds % 2 ? 500u << rounds % 12 : 0, 0};
        pthread_t thread;

        send_frames(sender, 0, 3, 60);
        await_seen(ending.capture, 3);
        netring_capture_flush(ending.capture);
        pthread_create(&thread, NULL, dispatches_one, &ending);
        while (!__atomic_load_n(&ending.data, __ATOMIC_ACQUIRE))
            ;
        strange += netring_capture_close(ending.capture) != 0;
        pthread_join(thread, NULL);
        strange += ending.rc != 1;
        left += footprint_now().mappings - before;
    }
    ok(rounds > 0, "close at the end of dispatch: %d times", rounds);
    is_int(strange, 0, "close at the end of dispatch: both succeed");
    is_int(left, 0, "close at the end of dispatch: the block's memory is gone");
}

/* ---- damage in the ring ---- */

/* Overwrites the length of the record behind a packet's. */
static void damage_next(uint8_t *data)
{
    enum { MAC = 82 }; /* a packet's bytes behind its record, as the kernel places them */
    struct tpacket3_hdr *record = (void *)(data - MAC);

    if (record->tp_mac != MAC || record->tp_next_offset == 0)
        tap_bail("the record is not where it should be");
    record = (void *)((uint8_t *)record + record->tp_next_offset);
    record->tp_snaplen = 0x7fffffff;
}

static int damages(void *user, const struct netring_packet *packets, size_t n, size_t size)
{
    bool *damage = user;

    (void)n, (void)size;
    if (*damage)
        damage_next(packets->data);
    *damage = false;
    return 0;
}

static int next_packet(struct netring_capture *capture, bool *damage)
{
    struct netring_packet packet;
    int rc = netring_capture_next_packet(capture, 100, &packet, sizeof packet);

    if (rc == 1)
        damages(damage, &packet, 1, sizeof packet);
    return rc;
}

static int dispatch_one(struct netring_capture *capture, bool *damage)
{
    return netring_capture_dispatch(capture, 100, 1, damages, damage);
}

/* The caller has no handle to a block that next_packet or dispatch has begun: once it is found to
 * be damaged it is given up, said so once, and the next block follows. */
static void test_damage(const char *what, int (*call)(struct netring_capture *, bool *damage))
{
    struct netring_capture_config config = page_config(2);
    struct netring_capture *capture = capture_open("vb", &config);
    uint32_t whole = frames_per_page(60);
    bool damage = true;

    send_frames(sender, 0, whole + 1, 60);
    await_seen(capture, whole + 1);
    await_ready(capture, 1);
    netring_capture_flush(capture);
    is_int(call(capture, &damage), 1, "damage, %s: the packet before it", what);
    is_str(netring_err_name(call(capture, &damage)), netring_err_name(NETRING_EIO),
           "damage, %s: told", what);
    is_int(capture_stats(capture).blocks_held, 0, "damage, %s: the block is given up", what);
    is_int(call(capture, &damage), 1, "damage, %s: the next block's packet", what);
    is_int(call(capture, &damage), 0, "damage, %s: and no more", what);
    capture_close(capture);
}

/* ---- a close that cannot copy ---- */

struct later {
    struct netring_block *block;
    long delay; /* ms */
    int rc;
};

static void *releases_later(void *user)
{
    struct later *later = user;

    sleep_ms(later->delay);
    later->rc = netring_block_release(later->block);
    return NULL;
}

/* Held blocks cannot be copied, so that the ring stays until the last release, which may come at
 * any moment of the close. */
static void linger(void *user)
{
    static const long delays[] = {0, 1, 2, 3, 5, 8};
    const struct refusal no_copies = {SYS_mremap, ENOMEM, 0, {{0, 0, 0, false}}};
    struct netring_capture_config config = page_config(2);
    struct netring_capture *captures[COUNT(delays)];
    struct later later[COUNT(delays)];
    struct footprint before = footprint_now();

    (void)user;
    for (size_t i = 0; i < COUNT(delays); i++) {
        captures[i] = capture_open("vb", &config);
        later[i] = (struct later){block_of(captures[i], sender, 0, 3, 60), delays[i], -1};
    }
    refuse(&no_copies);
    for (size_t i = 0; i < COUNT(delays); i++) {
        pthread_t thread;

        pthread_create(&thread, NULL, releases_later, &later[i]);
        is_int(netring_capture_close(captures[i]), 0,
               "close without copies, a release after %ld ms: the close", delays[i]);
        pthread_join(thread, NULL);
        is_int(later[i].rc, 0, "close without copies, a release after %ld ms: the release",
               delays[i]);
    }
    is_footprint(before, "close without copies");
}

int main(void)
{
    tap_begin(12);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");
    test_flush_then_a_lap(1);
    test_flush_then_a_lap(4);
    test_wakeup_in_dispatch();
    test_damage("next_packet", next_packet);
    test_damage("dispatch", dispatch_one);
    child_run("close without copies", linger, NULL);
    test_close_at_the_end_of_dispatch();
    test_lapped();
    close(sender);
    return tap_end();
}
