/* Ends that are not a plain close: a close while threads work, a close with blocks held, forks
 * (handles that end there, handles that are kept), exec, exit and kill without a close. Stale
 * handles: test_abi_inputs. Held blocks' packets and their address: test_capture. */
#include "calls.h"

#include <dirent.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int sender; /* on va; what it sends arrives at vb */
static const struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 0x40000)};

/* ---- what the kernel has of a capture ---- */

static int packet_sockets(void)
{
    FILE *list = fopen("/proc/net/packet", "re");
    char line[256];
    int count = -1; /* the heading */

    if (!list)
        tap_bail("/proc/net/packet: %s", strerror(errno));
    while (fgets(line, sizeof line, list))
        count++;
    fclose(list);
    return count;
}

struct traces {
    int sockets, promiscuity, allmulti;
};

static struct traces traces_now(void)
{
    return (struct traces){packet_sockets(), net_promiscuity("vb"), net_allmulti("vb")};
}

static void is_traces(struct traces want, const char *what)
{
    struct traces now = traces_now();

    is_int(now.sockets, want.sockets, "%s: packet sockets", what);
    is_int(now.promiscuity, want.promiscuity, "%s: promiscuous users", what);
    is_int(now.allmulti, want.allmulti, "%s: all-multicast users", what);
}

/* A capture that leaves every trace there is. */
static struct netring_capture_config traced_config(void)
{
    struct netring_capture_config config = small_config();

    config.flags |= NETRING_CAPTURE_PROMISCUOUS | NETRING_CAPTURE_ALL_MULTICAST;
    config.block_timeout = 100; /* what block_of sends fits into one, on a busy machine too */
    return config;
}

static struct traces with_capture(struct traces before)
{
    /* -1: this kernel does not tell. */
    return (struct traces){before.sockets + 1, before.promiscuity + (before.promiscuity >= 0),
                           before.allmulti + (before.allmulti >= 0)};
}

/* ---- close while four threads work ---- */

struct worker {
    struct netring_capture *capture;
    pthread_t thread;
    unsigned blocks, packets, strange;
    int rc, error_number;
};

static void read_all(struct worker *worker, struct netring_block *block)
{
    struct netring_packet packets[16];
    uint8_t frame[FRAME_MAX];
    int n;

    while ((n = netring_block_read(block, packets, sizeof *packets, COUNT(packets))) > 0) {
        for (int i = 0; i < n; i++, worker->packets++) {
            size_t length = frame_make(frame, packets[i].len, frame_number(packets[i].data));

            worker->strange += memcmp(packets[i].data, frame, length) != 0;
        }
    }
    worker->strange += n != 0;
}

/* Waits, reads and releases, always one block behind, until the close. */
static void *works(void *user)
{
    struct worker *worker = user;
    struct netring_block *held = NULL, *block;

    errno = 0;
    while ((worker->rc = netring_capture_next_block(worker->capture, -1, &block)) == 1) {
        worker->blocks++;
        if (held) {
            read_all(worker, held);
            worker->strange += netring_block_release(held) != 0;
        }
        held = block;
    }
    worker->error_number = errno;
    if (held) {
        read_all(worker, held);
        worker->strange += netring_block_release(held) != 0;
    }
    return NULL;
}

static void test_close_while_four_work(void)
{
    enum { WORKERS = 4, ROUNDS = 12 };
    struct netring_capture_config config = traced_config();
    struct traces before = traces_now();
    struct footprint footprint = footprint_now();
    unsigned blocks = 0, packets = 0, strange = 0, other = 0;

    config.block_size = (uint32_t)getpagesize();
    config.block_count = 32;
    config.block_timeout = 1;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct netring_capture *capture = capture_open("vb", &config);
        struct worker workers[WORKERS];

        for (int i = 0; i < WORKERS; i++) {
            workers[i] = (struct worker){.capture = capture};
            pthread_create(&workers[i].thread, NULL, works, &workers[i]);
        }
        for (uint32_t i = 0; i < 20 + round; i++)
            send_frames(sender, i * 40, 40, 60 + i);
        strange += netring_capture_close(capture) != 0;
        for (int i = 0; i < WORKERS; i++) {
            pthread_join(workers[i].thread, NULL);
            other += workers[i].rc != NETRING_EBADF || workers[i].error_number != EBADF;
            blocks += workers[i].blocks;
            packets += workers[i].packets;
            strange += workers[i].strange;
        }
    }
    tap_diag("%u blocks, %u packets", blocks, packets);
    ok(blocks > ROUNDS && packets > ROUNDS, "close while four work: there was work");
    is_int(other, 0, "close while four work: each of them is told EBADF");
    is_int(strange, 0, "close while four work: blocks read and released, whatever they held");
    is_footprint(footprint, "close while four work");
    is_traces(before, "close while four work");
}

/* ---- close with blocks held ---- */

struct image {
    uint8_t *base, *copy;
    size_t length;
};

static struct image image_of(struct netring_block *block)
{
    struct netring_block_view view;
    struct image image;

    if (netring_block_view(block, &view, sizeof view) != 0)
        tap_bail("netring_block_view failed");
    image = (struct image){view.base, malloc(view.length), view.length};
    if (!image.copy)
        tap_bail("out of memory");
    memcpy(image.copy, image.base, image.length);
    return image;
}

/* A whole block with two users, a part of one, and one that next_packet has begun. */
static void test_held_at_close(void)
{
    enum { WHOLE = 2 };
    struct netring_capture_config config = traced_config();
    struct traces before = traces_now();
    struct netring_capture *capture;
    struct netring_block *blocks[WHOLE + 1];
    struct image images[COUNT(blocks)];
    struct netring_packet packet;
    const uint32_t whole = frames_per_page(60);

    config.block_size = (uint32_t)getpagesize();
    config.block_count = 6;
    config.block_timeout = 0;
    capture = capture_open("vb", &config);
    is_traces(with_capture(before), "held at close: while open");
    send_frames(sender, 0, (WHOLE + 1) * whole + 5, 60);
    await_ready(capture, WHOLE + 1);
    is_int(netring_capture_next_packet(capture, 0, &packet, sizeof packet), 1,
           "held at close: a block begun by next_packet");
    for (int i = 0; i < WHOLE; i++) {
        if (netring_capture_next_block(capture, 0, &blocks[i]) != 1)
            tap_bail("no block");
    }
    netring_capture_flush(capture);
    is_int(netring_capture_next_block(capture, 1000, &blocks[WHOLE]), 1, "held at close: a part");
    is_int(netring_block_retain(blocks[0], 1), 0, "held at close: two users");
    for (size_t i = 0; i < COUNT(blocks); i++)
        images[i] = image_of(blocks[i]);
    capture_close(capture);
    is_traces(before, "held at close: at once");
    is_int(footprint_now().mappings, 0, "held at close: no mapping of the socket");
    /* For whoever might still write there. */
    send_frames(sender, 1000, 6 * whole, 60);
    for (size_t i = 0; i < COUNT(blocks); i++) {
        is_bytes(images[i].base, images[i].copy, images[i].length,
                 "held at close: block %zu, all of its memory", i);
        is_int(netring_block_release(blocks[i]), 0, "held at close: released");
        free(images[i].copy);
    }
    is_int(netring_block_rewind(blocks[0]), 0, "held at close: its other user has it still");
    is_int(netring_block_release(blocks[0]), 0, "held at close: who releases it too");
    is_int(netring_block_rewind(blocks[0]), NETRING_EBADF, "held at close: then it is gone");
}

/* ---- fork ---- */

/* A handle of every kind, and one that was closed, of every kind. */
struct handles {
    void *open[HANDLE_KINDS], *stale[HANDLE_KINDS];
};

static struct netring_filter *filter_of_all(void)
{
    struct netring_filter *filter = NULL;

    if (netring_filter_new(all, 1, &filter, NULL) != 0)
        tap_bail("netring_filter_new failed");
    return filter;
}

/* Of an empty pcap savefile in a pipe. */
static struct netring_reader *reader_of_nothing(void)
{
    static const uint8_t header[24] = {0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, [20] = 1};
    struct netring_reader *reader = NULL;
    int ends[2];

    if (pipe(ends) != 0 || write(ends[1], header, sizeof header) != sizeof header ||
        netring_reader_open_fd(ends[0], NULL, &reader, NULL) != 0)
        tap_bail("no reader");
    close(ends[0]);
    close(ends[1]);
    return reader;
}

static struct netring_writer *writer_to_nowhere(void)
{
    struct netring_writer *writer = NULL;

    if (netring_writer_open("/dev/null", NULL, &writer, NULL) != 0)
        tap_bail("no writer");
    return writer;
}

static struct netring_group *group_of_none(void)
{
    struct netring_group *group = NULL;

    if (netring_group_new(NULL, &group, NULL) != 0)
        tap_bail("no group");
    return group;
}

static struct netring_injector *injector_of_few(void)
{
    struct netring_injector_config config = NETRING_INJECTOR_CONFIG_INIT;
    struct netring_injector *injector = NULL;

    config.slot_count = 4;
    if (netring_injector_open("vb", &config, &injector, NULL) != 0)
        tap_bail("no injector");
    return injector;
}

static struct netring_bridge *bridge_of_two(void)
{
    struct netring_bridge_config config = NETRING_BRIDGE_CONFIG_INIT;
    struct netring_bridge *bridge = NULL;

    config.batch = 2;
    config.flags = NETRING_BRIDGE_NOT_PROMISCUOUS;
    if (netring_bridge_open("va", "vb", &config, &bridge, NULL) != 0)
        tap_bail("no bridge");
    return bridge;
}

static struct netring_queue *queue_of(struct netring_xdp *xdp)
{
    struct netring_queue *queue = NULL;

    if (netring_xdp_queue(xdp, 0, &queue) != 0)
        tap_bail("no queue");
    return queue;
}

static struct netring_umem *umem_of_few(void)
{
    struct netring_umem_config config = NETRING_UMEM_CONFIG_INIT;
    struct netring_umem *umem = NULL;

    config.frame_count = 4;
    if (netring_umem_new(&config, &umem, NULL) != 0)
        tap_bail("no UMEM");
    return umem;
}

/* The block has frames first..first+4. A queue has one socket: a child uses another interface. */
static struct handles handles_open(const struct netring_capture_config *config, uint32_t first,
                                   const char *xdp_on)
{
    struct netring_capture *capture = capture_open("vb", config);
    struct netring_filter *filter = filter_of_all();
    struct netring_reader *reader = reader_of_nothing();
    struct netring_writer *writer = writer_to_nowhere();
    struct netring_group *group = group_of_none();
    struct netring_injector *injector = injector_of_few();
    struct netring_bridge *bridge = bridge_of_two();
    struct netring_xdp *xdp = xdp_of_few(xdp_on);
    struct netring_umem *umem = umem_of_few();
    struct handles handles = {.stale = {capture, block_of(capture, sender, 0, 1, 60), filter,
                                        reader, writer, group, injector, bridge, xdp, queue_of(xdp),
                                        umem}};

    capture_close(capture);
    netring_block_release(handles.stale[HANDLE_BLOCK]);
    netring_filter_free(filter);
    netring_reader_close(reader);
    netring_writer_close(writer, NULL);
    netring_group_free(group);
    netring_injector_close(injector);
    netring_bridge_close(bridge);
    netring_xdp_close(xdp);
    netring_umem_free(umem);
    capture = capture_open("vb", config);
    handles.open[HANDLE_CAPTURE] = capture;
    handles.open[HANDLE_BLOCK] = block_of(capture, sender, first, 5, 60);
    handles.open[HANDLE_FILTER] = filter_of_all();
    handles.open[HANDLE_READER] = reader_of_nothing();
    handles.open[HANDLE_WRITER] = writer_to_nowhere();
    handles.open[HANDLE_GROUP] = group_of_none();
    handles.open[HANDLE_INJECTOR] = injector_of_few();
    handles.open[HANDLE_BRIDGE] = bridge_of_two();
    handles.open[HANDLE_XDP] = xdp_of_few(xdp_on);
    handles.open[HANDLE_QUEUE] = queue_of(handles.open[HANDLE_XDP]);
    handles.open[HANDLE_UMEM] = umem_of_few();
    for (int i = 0; i < HANDLE_KINDS; i++) {
        if (!handles.open[i] || !handles.stale[i])
            tap_bail("handles of kind %d are missing here", i);
    }
    return handles;
}

static void handles_close(const struct handles *handles)
{
    is_int(netring_block_release(handles->open[HANDLE_BLOCK]), 0, "the parent's release");
    capture_close(handles->open[HANDLE_CAPTURE]);
    is_int(netring_filter_free(handles->open[HANDLE_FILTER]), 0, "the parent's free");
    is_int(netring_reader_close(handles->open[HANDLE_READER]), 0, "the parent's reader");
    is_int(netring_writer_close(handles->open[HANDLE_WRITER], NULL), 0, "the parent's writer");
    is_int(netring_group_free(handles->open[HANDLE_GROUP]), 0, "the parent's group");
    is_int(netring_injector_close(handles->open[HANDLE_INJECTOR]), 0, "the parent's injector");
    is_int(netring_bridge_close(handles->open[HANDLE_BRIDGE]), 0, "the parent's bridge");
    is_int(netring_xdp_close(handles->open[HANDLE_XDP]), 0, "the parent's xdp");
    is_int(netring_umem_free(handles->open[HANDLE_UMEM]), 0, "the parent's UMEM");
}

static void all_refused(const struct handles *handles, const char *what)
{
    for (size_t i = 0; i < call_count; i++)
        ok(call_refused(&calls[i], handles->open[calls[i].kind]) &&
               call_refused(&calls[i], handles->stale[calls[i].kind]),
           "%s: %s", what, calls[i].name);
}

static struct handles inherited;

static void at_exit(void)
{
    all_refused(&inherited, "an exit handler of a forked child");
}

static void child_returns(void *user)
{
    all_refused(user, "a forked child");
}

static void child_exits(void *user)
{
    inherited = *(struct handles *)user;
    atexit(at_exit);
    all_refused(user, "a forked child that exits");
    fflush(stdout);
    exit(0);
}

static void child_dies(void *user)
{
    all_refused(user, "a forked child that is killed");
    raise(SIGKILL);
}

/* It makes what its parent has, and its own child refuses that too. */
static void child_has_children(void *user)
{
    struct netring_capture_config config = page_config(4);
    struct handles own = handles_open(&config, 0, "va");

    all_refused(user, "a forked child with handles of its own");
    child_run("a grandchild", child_returns, &own);
    child_run("a grandchild, its grandparent's handles", child_returns, user);
    handles_close(&own);
}

static void test_fork(void)
{
    enum { ENDS = 4 };
    struct netring_capture_config config = page_config(8);
    struct traces before = traces_now();
    struct handles handles = handles_open(&config, 0, "vb");
    struct netring_capture *capture = handles.open[HANDLE_CAPTURE];
    struct records records = {0, 0, NULL}, held = {0, 0, NULL};
    struct netring_stats stats;

    for (uint32_t i = 0; i < ENDS; i++) {
        /* What the child must not take. */
        send_frames(sender, 100 + 20 * i, 10, 60);
        if (i == 0)
            child_run("a forked child", child_returns, &handles);
        else if (i == 1)
            child_run("a forked child that exits", child_exits, &handles);
        else if (i == 2)
            child_killed("a forked child that is killed", SIGKILL, child_dies, &handles);
        else
            child_run("a forked child with handles of its own", child_has_children, &handles);
        send_frames(sender, 110 + 20 * i, 10, 60);
        await_seen(capture, 5 + (i < 3 ? 20 * (i + 1) : 20 * i + 20 + 6));
        is_int(netring_capture_flush(capture), 0, "fork: the parent's flush");
        if (i < 3) {
            receive(capture, 20, 1000, &records);
            is_frames(&records, 100 + 20 * i, 20, 60, 60, "fork: the parent captures on");
        } else {
            /* The child's own six frames (one and five) lie between. */
            receive(capture, 26, 1000, &records);
            is_int(records.count, 26, "fork: the parent captures on");
        }
        records_free(&records);
    }
    block_records(handles.open[HANDLE_BLOCK], 64, &held);
    is_frames(&held, 0, 5, 60, 60, "fork: the block that the parent held");
    stats = capture_stats(capture);
    is_int(stats.seen, 5 + 20 * ENDS + 6, "fork: the parent's counters: seen");
    is_int(stats.delivered, stats.seen, "fork: the parent's counters: delivered");
    is_int(stats.pending, 0, "fork: the parent's counters: pending");
    is_int(stats.dropped, 0, "fork: the parent's counters: dropped");
    is_int(stats.blocks_held, 1, "fork: the parent's counters: held");
    records_free(&held);
    handles_close(&handles);
    is_traces(before, "fork");
}

/* In the middle of a walk over blocks. */
static void test_fork_in_a_loop(void)
{
    enum { BLOCKS = 4 };
    struct netring_capture_config config = page_config(BLOCKS + 2);
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records = {0, 0, NULL};
    const uint32_t whole = frames_per_page(60);
    struct netring_block *block;

    send_frames(sender, 0, BLOCKS * whole + 1, 60);
    await_ready(capture, BLOCKS);
    while (netring_capture_next_block(capture, 0, &block) == 1) {
        pid_t child;
        int status;

        fflush(stdout);
        child = fork();
        if (child == 0) {
            struct netring_packet packet;
            struct netring_block *next;
            bool refused = netring_block_read(block, &packet, sizeof packet, 1) == NETRING_EBADF &&
                           netring_block_release(block) == NETRING_EBADF &&
                           netring_capture_next_block(capture, -1, &next) == NETRING_EBADF &&
                           netring_capture_close(capture) == NETRING_EBADF;

            _exit(!refused);
        }
        waitpid(child, &status, 0);
        is_int(status, 0, "fork in a loop over blocks: the child's is at its end");
        block_records(block, 64, &records);
        netring_block_release(block);
    }
    is_frames(&records, 0, BLOCKS * whole, 60, 60, "fork in a loop over blocks: the parent's");
    is_int(capture_stats(capture).dropped, 0, "fork in a loop over blocks: nothing dropped");
    records_free(&records);
    capture_close(capture);
}

/* ---- fork inside a call ---- */

struct forking {
    struct netring_capture *capture;
    pid_t parent, child;
    unsigned calls, packets, wrong;
    int status;
    bool kernels; /* the block was given to the kernel while the parent had it */
};

/* The block that a packet at its beginning lies in. */
static const struct tpacket_block_desc *header_of(const struct netring_packet *packet)
{
    enum { FIRST = 48 + 82 };
    const uint8_t *base = packet->data - FIRST;

    if ((uintptr_t)base % (size_t)getpagesize() != 0)
        tap_bail("the first packet is not where it should be");
    return (const void *)base;
}

static int forks(void *user, const struct netring_packet *packets, size_t n, size_t size)
{
    struct forking *forking = user;

    (void)size;
    for (size_t i = 0; i < n; i++, forking->packets++)
        forking->wrong += frame_number(packets[i].data) != forking->packets;
    if (forking->calls++ > 0)
        return 0;
    fflush(stdout);
    forking->child = fork();
    if (forking->child != 0) {
        waitpid(forking->child, &forking->status, 0);
        forking->kernels =
            !(__atomic_load_n(&header_of(packets)->hdr.bh1.block_status, __ATOMIC_ACQUIRE) &
              TP_STATUS_USER);
    }
    return 0; /* the child goes back into dispatch */
}

static void test_fork_in_dispatch(void)
{
    enum { PACKETS = 1000 }; /* more than a block takes, which is more than one call's */
    struct netring_capture_config config = small_config();
    struct forking forking = {.parent = getpid()};
    int rc;

    config.block_timeout = 0;
    forking.capture = capture_open("vb", &config);
    send_frames(sender, 0, PACKETS, 60);
    await_ready(forking.capture, 1);
    rc = netring_capture_dispatch(forking.capture, 1000, 0, forks, &forking);
    if (getpid() != forking.parent) {
        bool over =
            rc == (int)forking.packets && forking.calls == 1 &&
            netring_capture_dispatch(forking.capture, 0, 0, forks, &forking) == NETRING_EBADF &&
            netring_capture_close(forking.capture) == NETRING_EBADF;

        _exit(!over);
    }
    is_between(rc, 65, PACKETS, "fork in dispatch: the parent goes on");
    is_int(forking.packets, rc, "fork in dispatch: each packet once");
    is_int(forking.wrong, 0, "fork in dispatch: in order");
    is_int(forking.status, 0, "fork in dispatch: the child's ends after the callback");
    ok(!forking.kernels, "fork in dispatch: the child does not give back the parent's block");
    is_int(capture_stats(forking.capture).dropped, 0, "fork in dispatch: nothing dropped");
    capture_close(forking.capture);
}

static pid_t handlers_child = -1;

static void forks_once(int number)
{
    (void)number;
    if (handlers_child < 0)
        handlers_child = fork();
}

static void *interrupts_reader(void *user)
{
    sleep_ms(50);
    pthread_kill(*(pthread_t *)user, SIGUSR1);
    return NULL;
}

/* The same in a reader's wait: what comes through its pipe is the parent's. */
static void test_fork_in_a_readers_wait(void)
{
    static const uint8_t header[24] = {0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, [18] = 4, [20] = 1};
    static const uint8_t record[16 + 4] = {[8] = 4, [12] = 4, [16] = 1, 2, 3, 4};
    struct sigaction action = {.sa_handler = forks_once};
    pthread_t self = pthread_self(), thread;
    struct netring_reader *reader = NULL;
    struct netring_block *block = NULL;
    struct netring_packet packet;
    int ends[2], rc, status;

    if (pipe(ends) != 0 || write(ends[1], header, sizeof header) != sizeof header ||
        netring_reader_open_fd(ends[0], NULL, &reader, NULL) != 0)
        tap_bail("no reader");
    handlers_child = -1;
    sigaction(SIGUSR1, &action, NULL);
    fflush(stdout);
    pthread_create(&thread, NULL, interrupts_reader, &self);
    rc = netring_reader_next_block(reader, 300, &block);
    if (handlers_child == 0)
        _exit(!(rc == NETRING_EBADF && errno == EBADF));
    pthread_join(thread, NULL);
    waitpid(handlers_child, &status, 0);
    is_int(status, 0, "fork in a signal handler during a reader's wait: EBADF in the child");
    is_int(rc, 0, "fork in a signal handler during a reader's wait: the parent's goes on");
    if (write(ends[1], record, sizeof record) != sizeof record)
        tap_bail("write: %s", strerror(errno));
    close(ends[1]);
    is_int(netring_reader_next_block(reader, 1000, &block), 1, "which gets what comes");
    is_int(netring_block_read(block, &packet, sizeof packet, 1), 1, "its packet");
    is_bytes(packet.data, record + 16, 4, "and its bytes");
    netring_block_release(block);
    netring_reader_close(reader);
    close(ends[0]);
}

static void *interrupts(void *user)
{
    sleep_ms(50);
    pthread_kill(*(pthread_t *)user, SIGUSR1);
    sleep_ms(50);
    send_frames(sender, 0, 20, 60);
    return NULL;
}

/* A child that comes out of the signal handler is inside its parent's wait. */
static void test_fork_in_a_wait(void)
{
    struct sigaction action = {.sa_handler = forks_once};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records = {0, 0, NULL};
    pthread_t self = pthread_self(), thread;
    struct netring_block *block = NULL;
    int rc, status;

    sigaction(SIGUSR1, &action, NULL);
    fflush(stdout);
    pthread_create(&thread, NULL, interrupts, &self);
    rc = netring_capture_next_block(capture, 5000, &block);
    if (handlers_child == 0)
        _exit(!(rc == NETRING_EBADF && errno == EBADF));
    waitpid(handlers_child, &status, 0);
    is_int(status, 0, "fork in a signal handler during a wait: EBADF in the child");
    is_int(rc, 1, "fork in a signal handler during a wait: the parent's goes on");
    pthread_join(thread, NULL);
    block_records(block, 64, &records);
    netring_block_release(block);
    receive(capture, 20, 1000, &records);
    is_frames(&records, 0, 20, 60, 60, "fork in a signal handler during a wait");
    records_free(&records);
    capture_close(capture);
}

/* The same in a rebind's wait: the child leaves the parent's socket where it is. */
static void test_fork_in_a_rebind(void)
{
    struct sigaction action = {.sa_handler = forks_once};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    pthread_t self = pthread_self(), thread;
    int rc, status;

    handlers_child = -1;
    sigaction(SIGUSR1, &action, NULL);
    fflush(stdout);
    pthread_create(&thread, NULL, interrupts_reader, &self);
    rc = netring_capture_rebind(capture, "none", 0, 300, NULL);
    if (handlers_child == 0)
        _exit(!(rc == NETRING_EBADF && errno == EBADF));
    pthread_join(thread, NULL);
    waitpid(handlers_child, &status, 0);
    is_int(status, 0, "fork in a signal handler during a rebind: EBADF in the child");
    is_int(rc, NETRING_ENODEV, "fork in a signal handler during a rebind: the parent's goes on");
    capture_close(capture);
}

/* The same in a queue's waits: its rings are not there in a child. */
static void test_fork_in_a_queues_wait(bool sends)
{
    struct sigaction action = {.sa_handler = forks_once};
    struct netring_xdp *xdp = xdp_of_few("vb");
    struct netring_queue *queue = queue_of(xdp);
    const char *what = sends ? "reserve" : "next_block";
    pthread_t self = pthread_self(), thread;
    struct netring_block *block = NULL;
    struct netring_slot slots[64], slot;
    int rc, status;

    if (netring_queue_reserve(queue, slots, sizeof *slots, COUNT(slots), 0) != COUNT(slots))
        tap_bail("no slots");
    handlers_child = -1;
    sigaction(SIGUSR1, &action, NULL);
    fflush(stdout);
    pthread_create(&thread, NULL, interrupts_reader, &self);
    rc = sends ? netring_queue_reserve(queue, &slot, sizeof slot, 1, 300)
               : netring_queue_next_block(queue, 300, &block);
    if (handlers_child == 0)
        _exit(!(rc == NETRING_EBADF && errno == EBADF));
    pthread_join(thread, NULL);
    waitpid(handlers_child, &status, 0);
    is_int(status, 0, "fork in a signal handler during a queue's %s: EBADF in the child", what);
    is_int(rc, 0, "fork in a signal handler during a queue's %s: the parent's goes on", what);
    netring_xdp_close(xdp);
}

/* ---- fork with NETRING_CAPTURE_KEEP_ON_FORK ---- */

struct kept {
    struct netring_capture *capture;
    struct netring_block *block; /* of frames 0..4 */
    struct netring_filter *filter;
    int done;     /* written when the child is done */
    int go;       /* read before the child goes on */
    bool to_stop; /* stopped by the child */
};

static struct kept kept_open(void)
{
    struct netring_capture_config config = traced_config();
    struct kept kept = {NULL, NULL, filter_of_all(), -1, -1, false};

    config.flags |= NETRING_CAPTURE_KEEP_ON_FORK;
    kept.capture = capture_open("vb", &config);
    ok(capture_info(kept.capture).flags & NETRING_CAPTURE_KEEP_ON_FORK, "kept: info tells");
    kept.block = block_of(kept.capture, sender, 0, 5, 60);
    return kept;
}

static bool readable(struct netring_capture *capture)
{
    struct pollfd poll_fd = {.fd = netring_capture_fd(capture), .events = POLLIN};

    return poll(&poll_fd, 1, 0) > 0;
}

/* What a child does with a capture it keeps. */
static void goes_on(struct kept *kept, const char *what)
{
    struct netring_stats before = capture_stats(kept->capture), after;
    struct records held = {0, 0, NULL}, records = {0, 0, NULL};
    struct waiter waiters[2];
    struct netring_block *block;
    int64_t since;

    block_records(kept->block, 64, &held);
    is_frames(&held, 0, 5, 60, 60, what);
    is_int(netring_block_release(kept->block), 0, "%s: releases the block held before", what);
    is_int(netring_filter_count(kept->filter), NETRING_EBADF, "%s: filters are not kept", what);
    /* What the other process did last may have made it readable once. */
    if (readable(kept->capture))
        is_int(netring_capture_next_block(kept->capture, 0, &block), 0, "%s: no block yet", what);
    ok(!readable(kept->capture), "%s: nothing there yet", what);
    send_frames(sender, 10, 500, 60);
    receive(kept->capture, 500, 1000, &records);
    is_frames(&records, 10, 500, 60, 60, what);
    after = capture_stats(kept->capture);
    is_int(after.seen - before.seen, 500, "%s: counters: seen", what);
    is_int(after.delivered, after.seen, "%s: counters: delivered", what);
    is_int(after.dropped, 0, "%s: counters: dropped", what);
    is_int(after.blocks_held, 0, "%s: counters: held", what);
    /* Threads of its own, woken and sent home. */
    for (size_t i = 0; i < COUNT(waiters); i++)
        waiter_start(&waiters[i], &wait_kinds[0], kept->capture);
    since = now_ms();
    is_int(netring_capture_stop(kept->capture), 0, "%s: stop", what);
    for (size_t i = 0; i < COUNT(waiters); i++)
        waiter_ends(&waiters[i], NETRING_ESHUTDOWN, since, what);
    is_int(netring_capture_next_block(kept->capture, -1, &block), NETRING_ESHUTDOWN, "%s: stopped",
           what);
    capture_close(kept->capture);
    is_int(netring_capture_close(kept->capture), NETRING_EBADF, "%s: closed", what);
    is_int(footprint_now().mappings, 0, "%s: its mapping is gone", what);
    records_free(&held);
    records_free(&records);
}

static void kept_goes_on(void *user)
{
    goes_on(user, "kept");
}

/* The child goes on and closes first. */
static void test_kept(void)
{
    struct traces before = traces_now();
    struct footprint footprint = footprint_now();
    struct kept kept = kept_open();

    child_run("kept", kept_goes_on, &kept);
    is_traces(with_capture(before), "kept: closed by the child, not by the parent");
    capture_close(kept.capture);
    /* It is the child's: released there, its memory is a copy here. */
    is_int(netring_block_release(kept.block), 0, "kept: the parent's handle of the block");
    netring_filter_free(kept.filter);
    is_traces(before, "kept: closed by both");
    is_footprint(footprint, "kept: closed by both");
}

/* The parent closes first, and the child notices nothing of it. */
static void kept_after_the_close(void *user)
{
    struct kept *kept = user;
    char byte;

    if (read(kept->go, &byte, 1) != 1)
        tap_bail("the parent does not answer");
    goes_on(kept, "kept, closed by the parent first");
}

static void test_kept_closed_first(void)
{
    struct traces before = traces_now();
    struct kept kept = kept_open();
    int go[2], status;
    pid_t child;

    if (pipe(go) != 0)
        tap_bail("pipe: %s", strerror(errno));
    kept.go = go[0];
    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm((unsigned)(tap_patience(10000) / 1000));
        kept_after_the_close(&kept);
        is_traces(before, "kept, closed by the parent first: closed by both");
        fflush(stdout);
        _exit(0);
    }
    capture_close(kept.capture);
    is_int(footprint_now().mappings, 0, "kept: the parent's mapping is gone");
    is_traces(with_capture(before), "kept: closed by the parent, not by the child");
    if (write(go[1], "g", 1) != 1)
        tap_bail("write: %s", strerror(errno));
    waitpid(child, &status, 0);
    is_int(status, 0, "kept, closed by the parent first: the child's end");
    is_int(netring_block_release(kept.block), 0, "kept: the parent's handle of the block");
    netring_filter_free(kept.filter);
    close(go[0]);
    close(go[1]);
    is_traces(before, "kept, closed by the parent first");
}

/* What nobody had counted yet when the parent closed is counted by the child. */
static void test_kept_counters(void)
{
    struct netring_capture_config config = page_config(8);
    struct records records = {0, 0, NULL};
    struct netring_capture *capture;
    struct netring_stats stats;
    struct pollfd set = {.events = POLLIN};
    int go[2], status;
    pid_t child;
    char byte;

    if (pipe(go) != 0)
        tap_bail("pipe: %s", strerror(errno));
    config.flags |= NETRING_CAPTURE_KEEP_ON_FORK;
    capture = capture_open("vb", &config);
    set.fd = netring_capture_fd(capture);
    send_frames(sender, 0, frames_per_page(60) + 1, 60);
    if (poll(&set, 1, (int)tap_patience(3000)) != 1)
        tap_bail("nothing arrives");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm((unsigned)(tap_patience(10000) / 1000));
        if (read(go[0], &byte, 1) != 1)
            _exit(2);
        receive(capture, frames_per_page(60), 1000, &records);
        stats = capture_stats(capture);
        _exit(stats.seen != stats.delivered + stats.pending || stats.delivered != records.count);
    }
    capture_close(capture);
    if (write(go[1], "g", 1) != 1)
        tap_bail("write: %s", strerror(errno));
    waitpid(child, &status, 0);
    is_int(status, 0, "kept: what the parent had not counted, the child does");
    close(go[0]);
    close(go[1]);
}

/* Closed by a child that has no memory left for the block it holds. */
static void kept_without_memory(void *user)
{
    struct kept *kept = user;

    refuse(&(struct refusal){SYS_mremap, ENOMEM, 0, {{0}}});
    is_int(netring_capture_close(kept->capture), 0, "kept, no memory: closed by the child");
}

static void test_kept_without_memory(void)
{
    struct records records = {0, 0, NULL};
    struct kept kept = kept_open();

    child_run("kept, no memory", kept_without_memory, &kept);
    send_frames(sender, 10, 20, 60);
    receive(kept.capture, 20, 1000, &records);
    is_frames(&records, 10, 20, 60, 60, "kept, no memory: the parent goes on");
    netring_block_release(kept.block);
    netring_filter_free(kept.filter);
    capture_close(kept.capture);
    records_free(&records);
}

/* daemon(3) itself: what goes on is a child, whose parent has left. */
static void becomes_a_daemon(void *user)
{
    struct kept *kept = user;
    struct kept opened = kept_open();
    pid_t before = getpid();

    opened.done = kept->done;
    if (daemon(1, 1) != 0)
        tap_bail("daemon: %s", strerror(errno));
    alarm((unsigned)(tap_patience(10000) / 1000));
    ok(getpid() != before, "a daemon: another process");
    goes_on(&opened, "a daemon");
    fflush(stdout);
    if (write(opened.done, "d", 1) != 1)
        tap_bail("write: %s", strerror(errno));
    _exit(0);
}

static void test_daemon(void)
{
    struct traces before = traces_now();
    struct kept kept = {.done = -1};
    struct pollfd wait;
    int done[2];
    char byte = 0;

    if (pipe(done) != 0)
        tap_bail("pipe: %s", strerror(errno));
    kept.done = done[1];
    child_run("daemon(3)", becomes_a_daemon, &kept);
    close(done[1]);
    wait = (struct pollfd){.fd = done[0], .events = POLLIN};
    poll(&wait, 1, (int)tap_patience(10000));
    is_int(read(done[0], &byte, 1), 1, "a daemon: it came to its end");
    close(done[0]);
    is_traces(before, "a daemon");
}

/* ---- exec ---- */

static int inherited_files(void)
{
    DIR *files = opendir("/proc/self/fd");
    int count = 0;

    if (!files)
        return 0;
    while (readdir(files))
        count++;
    closedir(files);
    return count;
}

static char program[4096]; /* this one; valgrind answers for it */

/* How many files this program has when it is executed anew. */
static int files_after_exec(void)
{
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        execl(program, "test_lifetime", "--files", NULL);
        _exit(126);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Neither our descriptors nor the socket survive an exec, kept on fork or not. */
static void test_exec(void)
{
    struct netring_capture_config config = traced_config();
    struct traces before = traces_now();
    int files = files_after_exec(), ready[2], stay[2];
    char byte;

    ok(files > 3 && files < 100, "exec: %d files", files);
    for (int kept = 0; kept < 2; kept++) {
        struct netring_capture *capture;
        pid_t child;

        config.flags |= kept ? NETRING_CAPTURE_KEEP_ON_FORK : 0;
        capture = capture_open("vb", &config);
        is_int(files_after_exec(), files, "exec: none of a capture's files");
        if (pipe(ready) != 0 || pipe(stay) != 0)
            tap_bail("pipe: %s", strerror(errno));
        fflush(stdout);
        child = fork();
        if (child == 0) {
            dup2(stay[0], STDIN_FILENO);
            dup2(ready[1], STDOUT_FILENO);
            close(stay[1]);
            execl(program, "test_lifetime", "--stay", NULL);
            _exit(126);
        }
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1)
            tap_bail("the executed child does not answer");
        capture_close(capture);
        is_traces(before, "exec: a close while the executed child lives");
        close(stay[0]);
        close(stay[1]);
        waitpid(child, NULL, 0);
        close(ready[0]);
    }
}

/* ---- no close at all ---- */

static void *waits(void *user)
{
    struct netring_block *block;

    netring_capture_next_block(user, -1, &block);
    return NULL;
}

/* A capture with a block held and a thread in a wait; `user`: the flags. */
static struct netring_capture *left_open(uint64_t flags)
{
    struct netring_capture_config config = traced_config();
    struct traces before = traces_now();
    struct netring_capture *capture;
    pthread_t thread;

    config.flags |= flags;
    capture = capture_open("vb", &config);
    block_of(capture, sender, 0, 5, 60);
    pthread_create(&thread, NULL, waits, capture);
    pthread_detach(thread);
    sleep_ms(20);
    is_traces(with_capture(before), "left open");
    return capture;
}

static void leaves_by__exit(void *user)
{
    left_open(*(uint64_t *)user);
}

static void leaves_by_exit(void *user)
{
    left_open(*(uint64_t *)user);
    fflush(stdout);
    exit(0);
}

static void leaves_by_kill(void *user)
{
    left_open(*(uint64_t *)user);
    fflush(stdout);
    raise(SIGKILL);
}

static void leaves_by_abort(void *user)
{
    left_open(*(uint64_t *)user);
    signal(SIGABRT, SIG_DFL);
    fflush(stdout);
    abort();
}

static void leaves_by_exec(void *user)
{
    left_open(*(uint64_t *)user);
    fflush(stdout);
    execl("/bin/true", "true", NULL);
    _exit(126);
}

static void test_no_close(void)
{
    static uint64_t flags[] = {0, NETRING_CAPTURE_KEEP_ON_FORK};
    struct traces before = traces_now();

    for (size_t i = 0; i < COUNT(flags); i++) {
        child_run("_exit without close", leaves_by__exit, &flags[i]);
        is_traces(before, "_exit without close");
        child_run("exit without close", leaves_by_exit, &flags[i]);
        is_traces(before, "exit without close");
        child_killed("kill -9 without close", SIGKILL, leaves_by_kill, &flags[i]);
        is_traces(before, "kill -9 without close");
        child_killed("abort without close", SIGABRT, leaves_by_abort, &flags[i]);
        is_traces(before, "abort without close");
        child_run("exec without close", leaves_by_exec, &flags[i]);
        is_traces(before, "exec without close");
    }
}

int main(int argc, char **argv)
{
    char byte;

    if (argc > 1 && strcmp(argv[1], "--files") == 0)
        return inherited_files();
    if (argc > 1 && strcmp(argv[1], "--stay") == 0)
        return write(STDOUT_FILENO, "r", 1) != 1 || read(STDIN_FILENO, &byte, 1) != 0;
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        tap_skip_all("no /proc/self/exe");
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");
    test_close_while_four_work();
    test_held_at_close();
    test_fork();
    test_fork_in_a_loop();
    test_fork_in_dispatch();
    test_fork_in_a_wait();
    test_fork_in_a_readers_wait();
    test_fork_in_a_rebind();
    test_fork_in_a_queues_wait(false);
    test_fork_in_a_queues_wait(true);
    test_kept();
    test_kept_closed_first();
    test_kept_counters();
    test_kept_without_memory();
    test_daemon();
    test_exec();
    test_no_close();
    close(sender);
    return tap_end();
}
