/* A capture that is left running: minutes of mixed traffic, overload, held blocks, flaps, removals,
 * other captures opened and closed beside it. What was sent, delivered and dropped adds up after
 * every phase, and memory, descriptors and mappings are at the end what they were after the first
 * round. `make soak` runs it; MINUTES=15.
 *
 * One capture ("the lasting one", on vb) is open all the time. Everything else is opened, used and
 * closed again in every round; one capture is saved to files that are rotated, and read again. */
#include "../c/support.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { READERS = 2, LOW = 60, HIGH = 1514 };

/* ---- the lasting capture and its readers ---- */

static struct netring_capture *lasting;
static atomic_ullong packets_read, blocks_read, damaged;
/* How long a reader keeps each block, in microseconds: the overload phase raises it. */
static atomic_uint hold_us;

/* Blocks go to a thread that only releases: any thread, any order. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct netring_block *blocks[64];
    unsigned count;
    bool over;
} released = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {NULL}, 0, false};

static void *releases(void *user)
{
    (void)user;
    pthread_mutex_lock(&released.lock);
    while (!released.over || released.count > 0) {
        struct netring_block *block;

        if (released.count == 0) {
            pthread_cond_wait(&released.change, &released.lock);
            continue;
        }
        block = released.blocks[(unsigned)rand() % released.count];
        for (unsigned i = 0; i < released.count; i++)
            if (released.blocks[i] == block)
                released.blocks[i] = released.blocks[--released.count];
        pthread_mutex_unlock(&released.lock);
        if (netring_block_release(block) != 0)
            atomic_fetch_add(&damaged, 1);
        pthread_mutex_lock(&released.lock);
    }
    pthread_mutex_unlock(&released.lock);
    return NULL;
}

static void release_elsewhere(struct netring_block *block)
{
    pthread_mutex_lock(&released.lock);
    if (released.count < COUNT(released.blocks)) {
        released.blocks[released.count++] = block;
        block = NULL;
        pthread_cond_signal(&released.change);
    }
    pthread_mutex_unlock(&released.lock);
    if (block != NULL)
        netring_block_release(block);
}

/* Every packet is a frame that was sent, byte for byte, and they come in order. */
static void check_block(struct netring_block *block)
{
    struct netring_packet packets[64];
    uint8_t frame[FRAME_MAX];
    bool first = true;
    uint32_t last = 0;
    int n;

    while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0) {
        for (int i = 0; i < n; i++) {
            uint32_t number = frame_number(packets[i].data);
            size_t length = frame_make(frame, frame_mixed(number, LOW, HIGH), number);

            if (packets[i].caplen != length || packets[i].len != length ||
                memcmp(packets[i].data, frame, length) != 0 || (!first && number <= last))
                atomic_fetch_add(&damaged, 1);
            first = false;
            last = number;
        }
        atomic_fetch_add(&packets_read, (unsigned)n);
    }
    if (n < 0)
        atomic_fetch_add(&damaged, 1);
    atomic_fetch_add(&blocks_read, 1);
}

static void *reads(void *user)
{
    struct netring_block *block;
    int rc;

    (void)user;
    while ((rc = netring_capture_next_block(lasting, -1, &block)) == 1) {
        unsigned pause = atomic_load(&hold_us);

        check_block(block);
        if (pause > 0)
            usleep(pause);
        release_elsewhere(block);
    }
    if (rc != NETRING_ESHUTDOWN)
        atomic_fetch_add(&damaged, 1);
    return NULL;
}

/* ---- traffic ---- */

static int sender;
static uint32_t number;             /* of the next frame */
static uint64_t dropped_while_down; /* by the link, as it should */

/* Sends `count` frames, `batch` at a time with a pause between; how many the link took. */
static uint64_t send_mixed(uint32_t count, uint32_t batch, unsigned pause_us)
{
    uint8_t frame[FRAME_MAX];
    uint64_t sent = 0;

    for (uint32_t i = 0; i < count; i++) {
        size_t length = frame_make(frame, frame_mixed(number, LOW, HIGH), number);

        sent += net_flood(sender, frame, length, 1);
        number++;
        if (pause_us > 0 && i % batch == batch - 1)
            usleep(pause_us);
    }
    return sent;
}

/* Waits until nothing is under way; then everything adds up. */
static struct netring_stats settled(uint64_t sent, const char *phase)
{
    struct netring_stats stats = capture_stats(lasting), before;

    for (int quiet = 0; quiet < 5;) {
        before = stats;
        sleep_ms(30);
        stats = capture_stats(lasting);
        quiet = stats.seen == before.seen && stats.pending == 0 && stats.blocks_held == 0
                    ? quiet + 1
                    : 0;
    }
    is_int(stats.seen, sent, "%s: seen is what was sent", phase);
    is_int(stats.seen, stats.received + stats.dropped, "%s: seen = received + dropped", phase);
    is_int(stats.received, stats.delivered + stats.pending, "%s: received = delivered", phase);
    is_int(stats.delivered, atomic_load(&packets_read), "%s: delivered is what was read", phase);
    is_int(stats.sequence_gaps, 0, "%s: no gap", phase);
    is_int(stats.truncated + stats.skipped + stats.looped, 0, "%s: nothing cut or skipped", phase);
    is_int(atomic_load(&damaged), 0, "%s: every packet byte for byte, in order", phase);
    is_int(stats.interface_dropped - dropped_while_down, 0, "%s: nor by the host", phase);
    is_int(stats.interface_missed + stats.interface_fifo, 0, "%s: nor by the device", phase);
    return stats;
}

/* ---- what goes on beside ---- */

static atomic_bool round_over;
static atomic_ullong reopened, rebound, events_told;

/* Opens, reads, holds over the close, and closes, again and again. */
static void *reopens(void *user)
{
    unsigned seed = 1;

    (void)user;
    while (!atomic_load(&round_over)) {
        struct netring_capture_config config = small_config();
        struct netring_block *held[3] = {NULL, NULL, NULL};
        struct netring_packet packet;
        struct netring_capture *capture;
        unsigned count = 0;
        bool any;

        config.block_size = 4096u << (rand_r(&seed) % 5);
        config.block_count = 4 + (uint32_t)rand_r(&seed) % 12;
        config.snap_length = rand_r(&seed) % 2 ? 0 : 200;
        any = rand_r(&seed) % 4 == 0;
        if (!any)
            config.flags |=
                rand_r(&seed) % 2 ? NETRING_CAPTURE_PROMISCUOUS : NETRING_CAPTURE_EVENTS_ON_FD;
        capture = capture_open(any ? "any" : "vb", &config);
        for (int i = 0; i < 20 && count < COUNT(held); i++)
            if (netring_capture_next_block(capture, 20, &held[count]) == 1)
                count++;
        if (rand_r(&seed) % 2)
            netring_capture_flush(capture);
        capture_close(capture);
        for (unsigned i = 0; i < count; i++) {
            while (netring_block_read(held[i], &packet, sizeof packet, 1) == 1)
                ;
            if (netring_block_release(held[i]) != 0)
                atomic_fetch_add(&damaged, 1);
        }
        atomic_fetch_add(&reopened, 1);
    }
    return NULL;
}

/* Follows an interface that comes and goes. */
static void *follows(void *user)
{
    struct netring_capture *capture = user;
    struct netring_block *block;
    struct netring_event event;
    int rc;

    for (;;) {
        rc = netring_capture_next_block(capture, -1, &block);
        if (rc == 1)
            netring_block_release(block);
        while (netring_capture_next_event(capture, 0, &event, sizeof event) == 1)
            atomic_fetch_add(&events_told, 1);
        if (rc == NETRING_ENODEV)
            rc = netring_capture_rebind(capture, NULL, 0, -1, NULL);
        if (rc == NETRING_ESHUTDOWN)
            return NULL;
        if (rc < 0)
            atomic_fetch_add(&damaged, 1);
        atomic_fetch_add(&rebound, rc == 0);
    }
}

/* Writes what arrives into files that are rotated, and reads the files that are left: what the last
 * of them say is what was written last. */
static atomic_ullong written, read_again;
static char directory[] = "/tmp/netring-soak-XXXXXX";

static void *writes(void *user)
{
    struct netring_writer_config config = NETRING_WRITER_CONFIG_INIT;
    struct netring_capture *capture = user;
    struct netring_writer_info info;
    struct netring_writer *writer;
    struct netring_block *block;
    struct netring_stats stats;
    char path[128], last[512];
    uint64_t in_last = 0;
    int id, rc;

    snprintf(path, sizeof path, "%s/soak.pcapng", directory);
    config.rotate_bytes = 2 * MIB;
    config.max_files = 2;
    rc = netring_writer_open(path, &config, &writer, NULL);
    id = netring_writer_add_capture(writer, capture, NULL);
    if (rc < 0 || id < 0)
        tap_bail("the writer: %s", netring_err_name(rc < 0 ? rc : id));
    while ((rc = netring_capture_next_block(capture, -1, &block)) == 1) {
        rc = netring_writer_write_block(writer, id, block);
        if (rc < 0)
            atomic_fetch_add(&damaged, 1);
        else
            atomic_fetch_add(&written, (unsigned)rc);
        netring_block_release(block);
    }
    stats = capture_stats(capture);
    if (rc != NETRING_ESHUTDOWN || stats.pending != 0 ||
        netring_writer_statistics(writer, id, &stats, sizeof stats) < 0 ||
        netring_writer_info(writer, &info, sizeof info) < 0 || info.packets != stats.delivered ||
        netring_writer_path(writer, last, sizeof last) < 0 ||
        netring_writer_close(writer, NULL) < 0)
        atomic_fetch_add(&damaged, 1);

    {
        struct netring_reader *reader;

        if (netring_reader_open(last, NULL, &reader, NULL) < 0)
            tap_bail("the reader: %s", last);
        while ((rc = netring_reader_next_block(reader, -1, &block)) == 1) {
            struct netring_packet packets[64];
            int n;

            while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0)
                in_last += (unsigned)n;
            netring_block_release(block);
        }
        if (rc != NETRING_ESHUTDOWN || in_last != info.file_packets)
            atomic_fetch_add(&damaged, 1);
        netring_reader_close(reader);
        atomic_fetch_add(&read_again, in_last);
    }
    return NULL;
}

/* ---- what the process holds ---- */

struct holdings {
    size_t heap;
    long resident_kib;
    struct footprint footprint;
};

static struct holdings holdings_now(void)
{
    struct holdings holdings = {mallinfo2().uordblks, 0, footprint_now()};
    FILE *file = fopen("/proc/self/statm", "re");
    long pages = 0;

    if (file != NULL && fscanf(file, "%*d %ld", &pages) == 1)
        holdings.resident_kib = pages * (sysconf(_SC_PAGESIZE) / 1024);
    if (file != NULL)
        fclose(file);
    return holdings;
}

/* ---- rounds ---- */

static uint64_t sent_before; /* as the lasting capture should have seen it */

static struct netring_stats one_round(unsigned n)
{
    struct netring_capture_config config = page_config(8);
    struct netring_capture *follower, *saved;
    pthread_t reopener, followers[2], saver;
    struct netring_stats stats;
    struct netring_event event;
    char what[64];

    atomic_store(&round_over, false);
    net_veth("comes", "goes");
    follower = capture_open("comes", &config);
    config = small_config();
    saved = capture_open("vb", &config);
    pthread_create(&saver, NULL, writes, saved);
    pthread_create(&reopener, NULL, reopens, NULL);
    for (size_t i = 0; i < COUNT(followers); i++)
        pthread_create(&followers[i], NULL, follows, follower);

    /* Sparse, steady, bursts. */
    sent_before += send_mixed(300, 1, 3000);
    sent_before += send_mixed(60000, 20, 1000);
    for (int i = 0; i < 10; i++) {
        sent_before += send_mixed(3000, 1, 0);
        sleep_ms(100);
    }
    snprintf(what, sizeof what, "round %u, traffic", n);
    stats = settled(sent_before, what);

    /* Overload: each block is kept, the ring fills up, packets are dropped and counted. */
    atomic_store(&hold_us, 60000);
    sent_before += send_mixed(60000, 1, 0);
    atomic_store(&hold_us, 0);
    snprintf(what, sizeof what, "round %u, overload", n);
    stats = settled(sent_before, what);

    /* Flaps, with frames that may or may not arrive. */
    for (int i = 0; i < 5; i++) {
        net_link_up("vb", false);
        send_mixed(50, 1, 0);
        net_link_up("vb", true);
        net_await_carrier("va");
        if (netring_capture_next_event(lasting, 1000, &event, sizeof event) != 1 ||
            event.kind != NETRING_EVENT_DOWN ||
            netring_capture_next_event(lasting, 1000, &event, sizeof event) != 1 ||
            event.kind != NETRING_EVENT_UP)
            ok(false, "round %u: down and up are told", n);
        atomic_fetch_add(&events_told, 2);
        net_link_delete("comes");
        sleep_ms(50);
        net_veth("comes", "goes");
    }
    stats = capture_stats(lasting);
    sent_before = stats.seen; /* what of it arrived */
    dropped_while_down = stats.interface_dropped;
    sent_before += send_mixed(2000, 10, 1000);
    snprintf(what, sizeof what, "round %u, after flaps", n);
    stats = settled(sent_before, what);

    atomic_store(&round_over, true);
    netring_capture_stop(follower);
    netring_capture_stop(saved);
    pthread_join(reopener, NULL);
    for (size_t i = 0; i < COUNT(followers); i++)
        pthread_join(followers[i], NULL);
    pthread_join(saver, NULL);
    capture_close(follower);
    capture_close(saved);
    net_link_delete("comes");
    is_int(net_promiscuity("vb"), 0, "round %u: no promiscuous mode left", n);
    return stats;
}

int main(void)
{
    const char *asked = getenv("MINUTES");
    double minutes = asked != NULL && *asked != '\0' ? atof(asked) : 15;
    struct netring_capture_config config = small_config();
    struct footprint at_first;
    struct holdings base = {0, 0, {0, 0}}, now;
    struct netring_stats stats;
    pthread_t readers[READERS], releaser;
    int64_t begin, end;
    unsigned round = 0;
    struct rusage usage;

    setvbuf(stdout, NULL, _IOLBF, 0);
    tap_begin((unsigned)(minutes * 60) + 300);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");
    if (mkdtemp(directory) == NULL)
        tap_bail("%s: %s", directory, strerror(errno));
    capture_close(capture_open("vb", &config)); /* what the first open keeps for ever */
    at_first = footprint_now();

    config.block_size = 256 * KIB;
    config.block_count = 32;
    lasting = capture_open("vb", &config);
    pthread_create(&releaser, NULL, releases, NULL);
    for (int i = 0; i < READERS; i++)
        pthread_create(&readers[i], NULL, reads, NULL);
    begin = now_ms();
    end = begin + (int64_t)(minutes * 60000);
    do {
        stats = one_round(++round);
        now = holdings_now();
        if (round == 2) /* by then every buffer has had its size once */
            base = now;
        tap_diag("%lld s: %llu packets sent, %llu read, %llu dropped in %llu freezes; heap %zu, "
                 "resident %ld KiB, %d descriptors, %d mappings of sockets; reopened %llu times, "
                 "bound anew %llu times, %llu events, %llu packets written, %llu read again",
                 (long long)(now_ms() - begin) / 1000, (unsigned long long)stats.seen,
                 (unsigned long long)stats.delivered, (unsigned long long)stats.dropped,
                 (unsigned long long)stats.freezes, now.heap, now.resident_kib,
                 now.footprint.descriptors, now.footprint.mappings,
                 (unsigned long long)atomic_load(&reopened),
                 (unsigned long long)atomic_load(&rebound),
                 (unsigned long long)atomic_load(&events_told),
                 (unsigned long long)atomic_load(&written),
                 (unsigned long long)atomic_load(&read_again));
    } while (now_ms() < end || round < 3);

    ok(stats.dropped > 0 && stats.freezes > 0, "there was overload");
    /* To a kilobyte: a free chunk too small to split is given out whole. */
    is_between(now.heap, 0, base.heap + KIB, "heap in use: as after the second round");
    is_int(now.footprint.descriptors, base.footprint.descriptors, "descriptors: the same");
    is_int(now.footprint.mappings, base.footprint.mappings, "mappings: the same");
    is_between(now.resident_kib, 0, base.resident_kib + 1024, "resident memory: the same, or less");
    netring_capture_stop(lasting);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    pthread_mutex_lock(&released.lock);
    released.over = true;
    pthread_cond_signal(&released.change);
    pthread_mutex_unlock(&released.lock);
    pthread_join(releaser, NULL);
    stats = capture_stats(lasting);
    is_int(stats.delivered, atomic_load(&packets_read), "delivered at last is what was read");
    is_int(stats.pending, 0, "nothing is left");
    is_int(atomic_load(&damaged), 0, "nothing was damaged");
    capture_close(lasting);
    is_footprint(at_first, "after everything is closed");
    close(sender);
    {
        char command[sizeof directory + 16];

        snprintf(command, sizeof command, "rm -r %s", directory);
        ok(system(command) == 0, "the files are removed");
    }
    getrusage(RUSAGE_SELF, &usage);
    tap_diag("%u rounds in %lld s; CPU %ld s user, %ld s system", round,
             (long long)(now_ms() - begin) / 1000, usage.ru_utime.tv_sec, usage.ru_stime.tv_sec);
    return tap_end();
}
