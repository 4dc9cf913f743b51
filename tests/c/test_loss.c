/* The line of the log that says why packets were dropped: each cause provoked for real, and the
 * numbers held against the counters.
 *
 * no-archive: it takes long, and ASan has the archive too
 * alone: where a reader gets no CPU for 100 ms, the block it holds is the cause indeed */
#include "support.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BLOCKS = 8, LINES = 64 };

static int sender; /* on va; what it sends arrives at vb */

/* ---- the log ---- */

static struct {
    pthread_mutex_t lock;
    struct {
        char text[400];
        int64_t time_ms;
        uint32_t level;
    } line[LINES];
    unsigned count;
    struct netring_capture *capture; /* asked for stats from the callback */
} logged = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep_line(void *user, uint32_t level, const char *message)
{
    (void)user;
    pthread_mutex_lock(&logged.lock);
    if (logged.count < LINES) {
        snprintf(logged.line[logged.count].text, sizeof logged.line->text, "%s", message);
        logged.line[logged.count].time_ms = now_ms();
        logged.line[logged.count].level = level;
    }
    logged.count++;
    pthread_mutex_unlock(&logged.lock);
    if (logged.capture)
        capture_stats(logged.capture);
}

static unsigned lines(void)
{
    unsigned count;

    pthread_mutex_lock(&logged.lock);
    count = logged.count;
    pthread_mutex_unlock(&logged.lock);
    return count;
}

static void log_anew(void)
{
    logged.count = 0;
    memset(logged.line, 0, sizeof logged.line);
    netring_log_set(NETRING_LOG_WARN, keep_line, NULL);
}

/* "17 held 2.3 s" or "17 held 12 ms" behind "block "; 0 where there is none. */
static unsigned long long held_block(const char *line, unsigned long long *milliseconds)
{
    const char *at = strstr(line, "ring full: block ");
    unsigned long long block, whole, tenth;
    char unit[3] = "";

    if (!at)
        return 0;
    if (sscanf(at, "ring full: block %llu held %llu.%llu s by the program", &block, &whole,
               &tenth) == 3)
        *milliseconds = whole * 1000 + tenth * 100;
    else if (sscanf(at, "ring full: block %llu held %llu %2s by the program", &block, &whole,
                    unit) == 3 &&
             strcmp(unit, "ms") == 0)
        *milliseconds = whole;
    else
        return 0;
    return block;
}

static unsigned long long dropped_in(const char *line)
{
    unsigned long long dropped = 0;

    return sscanf(line, "vb: %llu packet", &dropped) == 1 ? dropped : 0;
}

/* The line ends in what the counters say. */
static void is_total(const char *line, const struct netring_stats *stats, const char *what)
{
    char end[100];

    snprintf(end, sizeof end, " (%llu dropped, %llu %s since the open)",
             (unsigned long long)stats->dropped, (unsigned long long)stats->freezes,
             stats->freezes == 1 ? "freeze" : "freezes");
    is_str_contains(line, end, "%s: the totals are those of the counters", what);
}

/* ---- rings in the state that is wanted ---- */

static uint32_t whole; /* frames of 60 bytes that fill a page */

static uint64_t sequence_of(struct netring_block *block)
{
    struct netring_block_info info;

    netring_block_info(block, &info, sizeof info);
    return info.sequence;
}

static struct netring_block *take(struct netring_capture *capture)
{
    struct netring_block *block = NULL;

    if (netring_capture_next_block(capture, 3000, &block) != 1)
        tap_bail("no block comes");
    return block;
}

/* All blocks are full, the first is held, the others were read and released: the kernel, at its
 * next packet, waits for the one that is held. Nothing was dropped yet. */
static struct netring_block *hold_the_first(struct netring_capture *capture)
{
    struct netring_block *first;

    send_frames(sender, 0, BLOCKS * whole, 60);
    await_seen(capture, BLOCKS * whole);
    first = take(capture);
    for (int i = 2; i < BLOCKS; i++)
        netring_block_release(take(capture));
    return first;
}

/* Sends more than fits. Returns without a call of the library. */
static void overfill(uint32_t count)
{
    uint64_t before = net_counters("vb").rx_packets;
    int64_t end = now_ms() + tap_patience(2000);

    send_frames(sender, 0, count, 60);
    while (net_counters("vb").rx_packets - before < count && now_ms() < end)
        sleep_ms(1);
}

static struct netring_capture *open_pages(uint32_t block_timeout)
{
    struct netring_capture_config config = page_config(BLOCKS);

    config.block_timeout = block_timeout;
    return capture_open("vb", &config);
}

/* ---- held blocks ---- */

/* Told by whichever call looks while the block is held. */
static void test_held(void)
{
    struct netring_capture *capture = open_pages(0);
    struct netring_block *first = hold_the_first(capture), *other;
    unsigned long long block, milliseconds = 0;
    struct netring_stats stats;
    int64_t since = now_ms();

    log_anew();
    overfill(10);
    sleep_ms(1100);
    stats = capture_stats(capture);
    is_int(stats.dropped, 10, "held: dropped");
    is_int(stats.freezes, 1, "held: one freeze");
    is_int(stats.blocks_held, 1, "held: one block");
    if (is_int(lines(), 1, "held: one line")) {
        const char *line = logged.line[0].text;

        tap_diag("%s", line);
        is_int(logged.line[0].level, NETRING_LOG_WARN, "held: a warning");
        is_str_contains(line, "vb: 10 packets dropped, ring full: block ", "held: how many");
        block = held_block(line, &milliseconds);
        is_int(block, sequence_of(first), "held: which block");
        is_between(milliseconds, 1100, now_ms() - since + 100, "held: for how long");
        is_between(stats.oldest_held_ns / 1000000, milliseconds, milliseconds + 500,
                   "held: the age is the counter's");
        is_str_contains(line,
                        " by the program; release blocks sooner, copy what is kept, or make the "
                        "ring larger (",
                        "held: what to do");
        is_total(line, &stats, "held");
    }
    for (int i = 0; i < 20; i++)
        capture_stats(capture);
    netring_block_release(take(capture));
    is_int(lines(), 1, "held: told once");

    /* The same freeze goes on. What it costs within the second is told with the next line. */
    overfill(5);
    capture_stats(capture);
    overfill(5);
    is_int(netring_capture_next_block(capture, 1500, &other), 0, "held: nothing comes");
    stats = capture_stats(capture);
    is_int(stats.dropped, 20, "held on: dropped");
    if (is_int(lines(), 2, "held on: a second line, after a second")) {
        is_str_contains(logged.line[1].text, "vb: 10 packets dropped, ring full: block ",
                        "held on: the drops since the first line");
        is_total(logged.line[1].text, &stats, "held on");
        ok(logged.line[1].time_ms - logged.line[0].time_ms >= 990, "held on: a second later");
    }
    netring_block_release(first);
    capture_close(capture);
    is_int(lines(), 2, "held: nothing more at the close");
}

/* Nobody looked while it was held. */
static void test_released(void)
{
    struct netring_capture *capture = open_pages(0);
    struct netring_block *first = hold_the_first(capture);
    unsigned long long milliseconds = 0;
    uint64_t sequence = sequence_of(first);

    log_anew();
    overfill(7);
    sleep_ms(150);
    netring_block_release(first);
    is_int(lines(), 0, "released: a release does not log");
    netring_block_release(take(capture));
    if (is_int(lines(), 1, "released: told when the next block is taken")) {
        is_int(held_block(logged.line[0].text, &milliseconds), sequence, "released: which block");
        ok(milliseconds >= 150, "released: for how long (%llu ms)", milliseconds);
        is_int(dropped_in(logged.line[0].text), capture_stats(capture).dropped,
               "released: how many");
        tap_diag("%s", logged.line[0].text);
    }
    capture_close(capture);
}

/* A block that the kernel does not wait for is not the cause, however long it was held. */
static void test_held_before(void)
{
    struct netring_capture *capture = open_pages(0);
    struct netring_block *first, *second;
    unsigned long long milliseconds;

    send_frames(sender, 0, 3 * whole, 60);
    await_seen(capture, 3 * whole);
    first = take(capture);
    second = take(capture);
    sleep_ms(200);
    netring_block_release(second);
    netring_block_release(first);
    log_anew();
    send_frames(sender, 0, 2 * BLOCKS * whole, 60);
    await_ready(capture, BLOCKS);
    if (ok(lines() >= 1, "held before: told")) {
        is_int(held_block(logged.line[0].text, &milliseconds), 0, "held before: not the cause");
        is_str_contains(logged.line[0].text, "ring full: reader ",
                        "held before: the cause is the reader");
    }
    capture_close(capture);
}

/* All but the oldest are read and released by other threads, as by workers: one is named. */
static void test_second_of_two(void)
{
    struct netring_capture *capture = open_pages(0);
    struct netring_block *first, *second;
    unsigned long long milliseconds;
    uint64_t sequence;

    send_frames(sender, 0, BLOCKS * whole, 60);
    await_seen(capture, BLOCKS * whole);
    first = take(capture);
    second = take(capture);
    sequence = sequence_of(second);
    for (int i = 3; i < BLOCKS; i++)
        netring_block_release(take(capture));
    netring_block_release(first);
    log_anew();
    /* Fills the last block and the first; the kernel's next is the second. */
    overfill(whole + 6);
    netring_block_release(take(capture));
    if (is_int(lines(), 1, "the second: told"))
        is_int(held_block(logged.line[0].text, &milliseconds), sequence,
               "the second: the block that the kernel waits for");
    is_int(capture_stats(capture).dropped, 6, "the second: dropped");
    netring_block_release(second);
    capture_close(capture);
}

/* The one reader waits for a block that cannot come. */
static void *waiting(void *user)
{
    struct netring_block *block = NULL;

    if (netring_capture_next_block(user, -1, &block) == 1)
        netring_block_release(block);
    return NULL;
}

static void test_waiting_reader(void)
{
    struct netring_capture *capture = open_pages(0);
    struct netring_block *first = hold_the_first(capture);
    unsigned long long milliseconds;
    pthread_t thread;
    int64_t end;

    overfill(3);
    netring_block_release(take(capture));
    log_anew();
    pthread_create(&thread, NULL, waiting, capture);
    overfill(3);
    for (end = now_ms() + tap_patience(8000); lines() == 0 && now_ms() < end;)
        sleep_ms(10);
    if (is_int(lines(), 1, "a waiting reader: told without any other call"))
        is_int(held_block(logged.line[0].text, &milliseconds), sequence_of(first),
               "a waiting reader: which block");
    netring_block_release(first);
    netring_capture_stop(capture);
    pthread_join(thread, NULL);
    capture_close(capture);
}

/* ---- slow readers ---- */

static atomic_bool over;

static void *slow_reader(void *user)
{
    struct netring_block *block;

    while (!over)
        if (netring_capture_next_block(user, 10, &block) == 1) {
            sleep_ms(5);
            netring_block_release(block);
        }
    return NULL;
}

static void test_slow_reader(void)
{
    struct netring_capture *capture = open_pages(10);
    struct netring_stats stats;
    unsigned long long told = 0, held = 0, near = 0;
    unsigned early = 0, count, before_close;
    uint8_t frame[60];
    pthread_t thread;
    int64_t end;

    log_anew();
    over = false;
    pthread_create(&thread, NULL, slow_reader, capture);
    frame_make(frame, sizeof frame, 1);
    /* Three lines, so that there are two seconds between. */
    for (end = now_ms() + tap_patience(10000); lines() < 3 && now_ms() < end;)
        net_flood(sender, frame, sizeof frame, 64);
    over = true;
    pthread_join(thread, NULL);
    sleep_ms(20);
    stats = capture_stats(capture);
    before_close = lines();
    capture_close(capture);
    count = lines();
    ok(before_close >= 3 && count < LINES, "slow reader: lines (%u)", before_close);
    ok(count <= before_close + 1, "slow reader: at most one at the close");
    for (unsigned i = 0; i < count && i < LINES; i++) {
        const char *line = logged.line[i].text;
        const char *at = strstr(line, "ring full: reader ");
        unsigned long long behind = 0, milliseconds;

        told += dropped_in(line);
        held += held_block(line, &milliseconds) != 0;
        if (!at ||
            sscanf(at, "ring full: reader %llu blocks behind (of 8); read faster", &behind) != 1 ||
            behind < BLOCKS - 1)
            near++;
        if (i > 0 && i < before_close)
            early += logged.line[i].time_ms - logged.line[i - 1].time_ms < 990;
    }
    tap_diag("%s", logged.line[0].text);
    is_int(near, 0, "slow reader: each line says how far behind");
    is_int(held, 0, "slow reader: no block is to blame");
    is_int(early, 0, "slow reader: a second between the lines");
    ok(stats.dropped > 0 && told == stats.dropped, "slow reader: all drops are told (%llu of %llu)",
       told, (unsigned long long)stats.dropped);
    is_total(logged.line[count - 1].text, &stats, "slow reader");
}

/* ---- who looks, and who listens ---- */

/* A program that never calls anything but close. */
static void test_close_tells(void)
{
    struct netring_capture *capture = open_pages(0);

    log_anew();
    overfill((BLOCKS + 2) * whole);
    is_int(lines(), 0, "close: nobody looked before");
    capture_close(capture);
    if (is_int(lines(), 1, "close: told"))
        is_str_contains(logged.line[0].text, "packets dropped, ring full: reader 8 blocks behind",
                        "close: the cause");
}

/* What one interface lost is not the next one's. */
static void test_rebind_tells(void)
{
    struct netring_capture *capture = open_pages(0);

    net_veth("wa", "wb");
    log_anew();
    overfill((BLOCKS + 2) * whole);
    is_int(netring_capture_rebind(capture, "wb", 0, 0, NULL), 0, "rebind: bound anew");
    if (is_int(lines(), 1, "rebind: told"))
        is_str_contains(logged.line[0].text, "vb: ", "rebind: by the name of then");
    capture_close(capture);
    is_int(lines(), 1, "rebind: once");
    net_link_delete("wa");
}

/* The timer closes the last block: full, and nothing is lost yet. */
static void test_freeze_alone(void)
{
    struct netring_capture *capture = open_pages(20);
    struct netring_stats stats;

    log_anew();
    send_frames(sender, 0, (BLOCKS - 1) * whole + 1, 60);
    await_ready(capture, BLOCKS);
    stats = capture_stats(capture);
    is_int(stats.dropped, 0, "a freeze alone: nothing dropped");
    is_int(stats.freezes, 1, "a freeze alone: counted");
    if (is_int(lines(), 1, "a freeze alone: told")) {
        is_str_contains(logged.line[0].text,
                        "vb: nothing dropped, ring full: reader 8 blocks behind (of 8); read ",
                        "a freeze alone: the words");
        is_total(logged.line[0].text, &stats, "a freeze alone");
    }
    capture_close(capture);
}

/* Drops while the ring is being emptied: the line comes with the drain, for all of them, and what
 * is read later is not marked as losing. */
static void test_drained(void)
{
    struct netring_capture *capture = open_pages(0);
    struct netring_block *block;
    struct netring_block_info info;
    struct netring_stats stats;

    netring_log_set(NETRING_LOG_OFF, keep_line, NULL);
    overfill(BLOCKS * whole);
    block = take(capture);
    overfill(30);
    netring_block_release(block);
    log_anew();
    for (int i = 1; i < BLOCKS; i++)
        netring_block_release(take(capture));
    if (is_int(lines(), 1, "drained: told by then")) {
        stats = capture_stats(capture);
        is_int(stats.dropped, 30, "drained: dropped");
        is_int(dropped_in(logged.line[0].text), 30, "drained: how many");
        is_total(logged.line[0].text, &stats, "drained");
    }
    send_frames(sender, 0, 3 * whole, 60);
    netring_block_release(take(capture));
    block = take(capture);
    netring_block_info(block, &info, sizeof info);
    is_int(info.flags & NETRING_BLOCK_LOSING, 0, "drained: a later block is not marked");
    netring_block_release(block);
    capture_close(capture);
    is_int(lines(), 1, "drained: told once");
}

static void test_silence(void)
{
    struct netring_capture *capture = open_pages(0);
    struct netring_stats stats;

    log_anew();
    netring_log_set(NETRING_LOG_ERROR, keep_line, NULL);
    overfill((BLOCKS + 1) * whole);
    stats = capture_stats(capture);
    ok(stats.dropped > 0, "no warnings asked for: dropped");
    is_int(lines(), 0, "no warnings asked for: silence");
    netring_log_set(NETRING_LOG_WARN, keep_line, NULL);
    capture_stats(capture);
    if (is_int(lines(), 1, "asked for later: told at the next call"))
        is_total(logged.line[0].text, &stats, "asked for later");
    capture_close(capture);

    capture = open_pages(0);
    log_anew();
    send_frames(sender, 0, 4 * whole, 60);
    await_ready(capture, 3);
    netring_block_release(take(capture));
    capture_close(capture);
    is_int(lines(), 0, "no losses: silence");
}

/* What the callback's own calls find is kept for later, and nothing waits for itself. */
static void test_callback_calls_back(void)
{
    struct netring_capture *capture = open_pages(0), *other = open_pages(0);

    log_anew();
    logged.capture = capture;
    overfill((BLOCKS + 1) * whole);
    /* Told by `other`, whose callback finds the drops of `capture`. */
    capture_stats(other);
    is_int(lines(), 1, "in the callback: what it finds is not logged there");
    logged.capture = NULL;
    capture_stats(capture);
    is_int(lines(), 2, "in the callback: but at the next call");
    capture_close(capture);
    capture_close(other);
    is_int(lines(), 2, "in the callback: each once");
}

/* ---- before the ring ---- */

/* The interface's own losses: a tun device drops what has no IP version. */
static void test_interface_drops(void)
{
    enum { JUNK = 9 };
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    struct ifreq request = {.ifr_name = "lossy"};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_stats before, stats, since;
    uint8_t junk[60] = {0};
    unsigned refused = 0;

    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) != 0) {
        if (tun >= 0)
            close(tun);
        tap_skip("drops by the interface", "no tun device here");
        return;
    }
    net_link_up("lossy", true);
    for (int i = 0; i < 3; i++)
        refused += write(tun, junk, sizeof junk) < 0;
    capture = capture_open("lossy", &config);
    before = capture_stats(capture);
    is_int(before.interface_dropped, 0, "drops by the interface: those before do not count");
    for (int i = 0; i < JUNK; i++)
        refused += write(tun, junk, sizeof junk) < 0;
    is_int(refused, JUNK + 3, "drops by the interface: provoked");
    stats = capture_stats(capture);
    is_int(stats.interface_dropped, JUNK, "drops by the interface: counted");
    is_int(net_counters("lossy").rx_dropped, JUNK + 3, "drops by the interface: as the kernel has");
    is_int(stats.dropped + stats.seen, 0, "drops by the interface: the ring saw nothing");
    netring_stats_since(&stats, &before, &since, sizeof since);
    is_int(since.interface_dropped, JUNK, "drops by the interface: since");
    capture_close(capture);
    close(tun);
}

int main(void)
{
    tap_begin(90);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");
    whole = frames_per_page(60);

    test_held();
    test_released();
    test_held_before();
    test_second_of_two();
    test_waiting_reader();
    test_slow_reader();
    test_close_tells();
    test_rebind_tells();
    test_freeze_alone();
    test_drained();
    test_silence();
    test_callback_calls_back();
    netring_log_set(NETRING_LOG_OFF, NULL, NULL);
    test_interface_drops();
    close(sender);
    return tap_end();
}
