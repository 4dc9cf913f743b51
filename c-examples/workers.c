/* One thread takes the blocks of an interface, a pool of threads works on them and gives them back.
 *
 *   workers eth0                four workers, until Ctrl-C
 *   workers -t 8 -n 100000 eth0
 *
 * A block is handed from thread to thread like any pointer, through a queue: nothing is copied.
 * Whoever is done releases it, in any order. The queue is bounded, because a held block is one that
 * the kernel cannot fill: when every worker is busy the reader waits, the ring fills, and what does
 * not fit is counted as dropped. The work here is a checksum over every byte.
 *
 * Exit codes: 0 done (also after Ctrl-C), 1 failed or the totals do not add up, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netring.h>
#include <netring_inline.h>

static const char help[] =
    "usage: workers [-t THREADS] [-n PACKETS] INTERFACE\n"
    "Hands blocks of received packets to a pool of threads, until Ctrl-C.\n"
    "\n"
    "  -t THREADS  how many workers (default: 4, at most 64)\n"
    "  -n PACKETS  end after at least so many\n"
    "  -h          this text\n"
    "Exit codes: 0 done, 1 failed or the totals do not add up, 2 wrong usage.\n";

enum { QUEUE = 8, MAX_WORKERS = 64 };

/* Blocks on their way to a worker. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    struct netring_block *blocks[QUEUE];
    unsigned head, count;
    bool closed;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .filled = PTHREAD_COND_INITIALIZER,
           .emptied = PTHREAD_COND_INITIALIZER};

struct worker {
    pthread_t thread;
    uint64_t blocks, packets, bytes, refused;
    uint32_t checksum;
};

static struct netring_capture *capture;

static void on_signal(int signal)
{
    (void)signal;
    netring_capture_stop(capture);
}

static void queue_put(struct netring_block *block)
{
    pthread_mutex_lock(&queue.lock);
    while (queue.count == QUEUE)
        pthread_cond_wait(&queue.emptied, &queue.lock);
    queue.blocks[(queue.head + queue.count++) % QUEUE] = block;
    pthread_mutex_unlock(&queue.lock);
    pthread_cond_signal(&queue.filled);
}

static void queue_close(void)
{
    pthread_mutex_lock(&queue.lock);
    queue.closed = true;
    pthread_mutex_unlock(&queue.lock);
    pthread_cond_broadcast(&queue.filled);
}

/* The next block, NULL when there will be none. */
static struct netring_block *queue_take(void)
{
    struct netring_block *block = NULL;

    pthread_mutex_lock(&queue.lock);
    while (queue.count == 0 && !queue.closed)
        pthread_cond_wait(&queue.filled, &queue.lock);
    if (queue.count != 0) {
        block = queue.blocks[queue.head];
        queue.head = (queue.head + 1) % QUEUE;
        queue.count--;
    }
    pthread_mutex_unlock(&queue.lock);
    pthread_cond_signal(&queue.emptied);
    return block;
}

static void *work(void *argument)
{
    struct worker *self = argument;
    struct netring_block *block;

    while ((block = queue_take()) != NULL) {
        struct netring_cursor cursor;

        netring_cursor_init(&cursor, block);
        while (netring_cursor_next(&cursor)) {
            const uint8_t *data = netring_cursor_data(&cursor);
            const uint32_t length = netring_cursor_caplen(&cursor);
            for (uint32_t i = 0; i < length; i++)
                self->checksum = self->checksum * 31 + data[i];
            self->packets++;
            self->bytes += length;
        }
        self->blocks++;
        if (netring_block_release(block) < 0)
            self->refused++;
    }
    return NULL;
}

/* The reader's loop. `packets` 0: until stopped. */
static int read_blocks(uint64_t packets)
{
    struct netring_block *block;
    uint64_t taken = 0;
    int rc;

    while ((rc = netring_capture_next_block(capture, -1, &block)) >= 0) {
        struct netring_block_info info = {0};
        if (rc == 0)
            continue;
        netring_block_info(block, &info, sizeof info);
        queue_put(block); /* from here on it is the worker's */
        taken += info.count;
        if (packets != 0 && taken >= packets)
            netring_capture_stop(capture);
    }
    return rc;
}

static bool print_totals(const struct worker *workers, int count)
{
    struct worker all = {0};
    struct netring_stats stats;

    for (int i = 0; i < count; i++) {
        printf("worker %2d: %" PRIu64 " blocks, %" PRIu64 " packets, %" PRIu64 " bytes\n", i + 1,
               workers[i].blocks, workers[i].packets, workers[i].bytes);
        all.blocks += workers[i].blocks;
        all.packets += workers[i].packets;
        all.bytes += workers[i].bytes;
        all.refused += workers[i].refused;
        all.checksum ^= workers[i].checksum;
    }
    printf("together:  %" PRIu64 " blocks, %" PRIu64 " packets, %" PRIu64 " bytes (%08" PRIx32
           ")\n",
           all.blocks, all.packets, all.bytes, all.checksum);
    if (netring_capture_stats(capture, &stats, sizeof stats) < 0)
        return false;
    printf("library:   %" PRIu64 " blocks, %" PRIu64 " packets delivered, %" PRIu64
           " dropped (ring full), %" PRIu64 " blocks held\n",
           stats.blocks_delivered, stats.delivered, stats.dropped, stats.blocks_held);
    if (stats.blocks_delivered == all.blocks && stats.delivered == all.packets &&
        stats.blocks_held == 0 && all.refused == 0)
        return true;
    fprintf(stderr, "workers: the totals do not add up (%" PRIu64 " releases refused)\n",
            all.refused);
    return false;
}

int main(int argc, char **argv)
{
    static struct worker workers[MAX_WORKERS];
    struct netring_error err;
    unsigned long long packets = 0;
    long threads = 4;
    int option, started = 0;

    while ((option = getopt(argc, argv, "t:n:h")) != -1) {
        switch (option) {
        case 't':
            threads = strtol(optarg, NULL, 10);
            break;
        case 'n':
            packets = strtoull(optarg, NULL, 10);
            break;
        case 'h':
            fputs(help, stdout);
            return EXIT_SUCCESS;
        default:
            threads = 0;
        }
    }
    if (optind != argc - 1 || threads < 1 || threads > MAX_WORKERS) {
        fputs(help, stderr);
        return 2;
    }
    if (netring_capture_open(argv[optind], NULL, &capture, &err) < 0) {
        fprintf(stderr, "workers: %s\n", err.message);
        return EXIT_FAILURE;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);

    while (started < threads &&
           pthread_create(&workers[started].thread, NULL, work, &workers[started]) == 0)
        started++;
    if (started < threads)
        fprintf(stderr, "workers: only %d threads could be started\n", started);
    const int rc = started > 0 ? read_blocks(packets) : NETRING_EIO;
    queue_close();
    for (int i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);

    const bool adds_up = print_totals(workers, started);
    if (rc != NETRING_ESHUTDOWN) { /* that one is the end after netring_capture_stop */
        netring_capture_last_error(capture, &err);
        fprintf(stderr, "workers: %s\n", err.code == rc ? err.message : netring_strerror(rc));
    }
    netring_capture_close(capture);
    return adds_up && rc == NETRING_ESHUTDOWN ? EXIT_SUCCESS : EXIT_FAILURE;
}
