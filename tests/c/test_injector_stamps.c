/* Transmit timestamps: each frame that left gets its own, and no other does. The other end of the
 * link stamps what arrives, too: what is sent is stamped, arrives and is stamped before the next
 * frame is sent, so the two rows of stamps interleave, and one that went to the wrong frame shows.
 */
#include "inject.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 6000 };

/* What was sent, and what became of it. */
static struct {
    struct netring_injector *injector;
    struct netring_capture *capture;
    uint64_t cookies[MOST]; /* of frame i; 0: it does not leave */
    uint64_t sent[MOST];    /* its stamp */
    uint64_t arrived[MOST];
    uint32_t count;
} run;

static uint64_t real_ns(void)
{
    return (uint64_t)clock_ns(CLOCK_REALTIME);
}

/* Received packets are stamped when they come in as long as somebody asks for that. */
static int stamp_arrivals(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0)
        tap_bail("SO_TIMESTAMPNS: %s", strerror(errno));
    return fd;
}

static void begin(uint32_t method, uint64_t flags, uint32_t slots)
{
    struct netring_injector_config config = inject_config(method, slots);
    struct netring_capture_config receiver = small_config();

    memset(&run, 0, sizeof run);
    config.flags = NETRING_INJECTOR_TIMESTAMPS | flags;
    receiver.block_timeout = 100; /* slow queues would fill it with blocks of a few frames */
    run.injector = injector_open("va", &config);
    run.capture = capture_open("vb", &receiver);
    ok(injector_info(run.injector).flags & NETRING_INJECTOR_TIMESTAMPS, "the info tells");
}

static void end(const char *what)
{
    adds_up(run.injector, what);
    injector_close(run.injector);
    capture_close(run.capture);
}

/* Waits for room, and commits frames of `length` bytes; every `discard`th slot is given back
 * unused. */
static void commit_frames(uint32_t count, size_t length, uint32_t discard)
{
    for (uint32_t done = 0; done < count;) {
        struct netring_slot slots[16];
        uint32_t want = count - done < COUNT(slots) ? count - done : COUNT(slots);
        int got = netring_injector_reserve(run.injector, slots, sizeof *slots, want,
                                           (int)tap_patience(5000));

        if (got <= 0)
            tap_bail("no room: %s", netring_err_name(got));
        for (int i = 0; i < got; i++) {
            if (discard && slots[i].cookie % discard == 0)
                continue;
            run.cookies[run.count] = slots[i].cookie;
            slots[i].len = (uint32_t)frame_make(slots[i].data, length, run.count++);
        }
        must_commit(run.injector, slots, (size_t)got);
        done += (uint32_t)got;
    }
}

/* Frames that were refused do not leave: their results say so. */
static uint32_t fetch_results(void)
{
    struct netring_result results[64];
    uint32_t count = 0;
    int got;

    while ((got = netring_injector_results(run.injector, results, sizeof *results, 64)) > 0) {
        for (int i = 0; i < got; i++) {
            for (uint32_t k = 0; k < run.count; k++) {
                if (run.cookies[k] == results[i].cookie)
                    run.cookies[k] = 0;
            }
        }
        count += (uint32_t)got;
    }
    return count;
}

/* Stamps of frames that were sent, each once; how many. */
static uint32_t fetch(const char *what, uint64_t since)
{
    struct netring_timestamp stamps[50];
    uint64_t until = real_ns(), before = 0;
    uint32_t count = 0, wrong = 0, at = 0;
    int got;

    while ((got = netring_injector_timestamps(run.injector, stamps, sizeof *stamps, 50)) > 0) {
        for (int i = 0; i < got; i++, count++) {
            while (at < run.count && run.cookies[at] < stamps[i].cookie)
                at++;
            if (at == run.count || run.cookies[at] != stamps[i].cookie || run.sent[at] != 0) {
                wrong++;
                at = 0;
                continue;
            }
            run.sent[at] = stamps[i].time_ns;
            wrong += stamps[i].clock != NETRING_CLOCK_SOFTWARE || stamps[i].reserved != 0 ||
                     stamps[i].time_ns < since || stamps[i].time_ns > until ||
                     stamps[i].time_ns < before;
            before = stamps[i].time_ns;
        }
    }
    is_int(got, 0, "%s: the last fetch", what);
    is_int(wrong, 0, "%s: each once, in order, and of the time in between", what);
    return count;
}

/* What arrives, by number. */
static uint32_t receive_all(const char *what)
{
    struct netring_block *block;
    struct netring_packet p;
    uint32_t count = 0, copied = 0;

    while (netring_capture_next_block(run.capture, 250, &block) == 1) {
        while (netring_block_read(block, &p, sizeof p, 1) == 1) {
            uint32_t number = frame_number(p.data);

            if (number >= run.count)
                tap_bail("frame %u arrives", number);
            run.arrived[number] = p.time_ns;
            copied += p.clock != NETRING_CLOCK_SOFTWARE;
            count++;
        }
        netring_block_release(block);
    }
    is_int(copied, 0, "%s: all were stamped when they came in", what);
    return count;
}

/* The checks: everything that was not refused arrives, and each stamp is that frame's. */
static void judge(const char *what, uint64_t since)
{
    uint32_t left = 0, stamps, wrong = 0, first = 0;
    uint64_t before = 0;

    is_int(netring_injector_drain(run.injector, (int)tap_patience(10000)), 1, "%s: drained", what);
    stamps = fetch(what, since);
    fetch_results();
    for (uint32_t i = 0; i < run.count; i++)
        left += run.cookies[i] != 0;
    is_int(stamps, left, "%s: a stamp for each frame that left", what);
    is_int(receive_all(what), left, "%s: they arrive", what);
    is_int(injector_stats(run.injector).timestamps_lost, 0, "%s: none is lost", what);
    for (uint32_t i = 0; i < run.count; i++) {
        if (run.cookies[i] == 0)
            continue;
        if (run.sent[i] > run.arrived[i] || run.sent[i] < before) {
            first = wrong++ ? first : i;
        }
        before = run.arrived[i];
    }
    is_int(wrong, 0, "%s: sent before it arrived, and after the one before (first %u)", what,
           first);
}

static void test_slots(const struct method *method)
{
    uint64_t since = real_ns();

    begin(method->method, 0, 64);
    commit_frames(700, 100, 7);
    judge(method->name, since);
    end(method->name);
}

static void test_copies(const struct method *method)
{
    uint64_t since = real_ns();
    uint8_t bytes[3][60];
    struct netring_frame frames[3];

    begin(method->method, NETRING_INJECTOR_QDISC_BYPASS, 4);
    memset(frames, 0, sizeof frames);
    for (uint32_t i = 0; i < 99; i += 3) {
        for (uint32_t k = 0; k < 3; k++) {
            run.cookies[run.count] = run.count + 1;
            frames[k].len = (uint32_t)frame_make(bytes[k], sizeof bytes[k], run.count++);
            frames[k].data = bytes[k];
        }
        if (netring_injector_send_batch(run.injector, frames, sizeof *frames, 3, 5000) != 3)
            tap_bail("send_batch");
    }
    judge("copies, past the qdisc", since);
    end("copies");
}

/* A full queue drops frames, each of which has had a number; they are offered again. */
static void test_full_queue(const struct method *method)
{
    uint64_t since = real_ns();

    net_queue_slow("va", 400000, 2500);
    begin(method->method, 0, 32);
    commit_frames(600, 150, 5);
    judge("a full queue", since);
    ok(injector_stats(run.injector).full_queue > 3, "%s: it was full", method->name);
    ok(injector_stats(run.injector).valid & NETRING_INJECTOR_STATS_QDISC, "its drops are known");
    is_int(injector_stats(run.injector).qdisc_drops, injector_stats(run.injector).full_queue,
           "%s: and each was a refusal", method->name);
    end("a full queue");
    net_queue_none("va");
}

/* A full send buffer takes no number. */
static void test_full_socket(const struct method *method)
{
    struct open_files files = open_files_now();
    uint64_t since = real_ns();
    int buffer = 4096;

    net_queue_slow("va", 400000, 100000);
    begin(method->method, 0, 64);
    setsockopt(packet_socket_since(&files), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    commit_frames(300, 150, 0);
    judge("a full send buffer", since);
    ok(injector_stats(run.injector).full_socket > 3, "%s: it was full", method->name);
    end("a full send buffer");
    net_queue_none("va");
}

/* Of a refused frame it depends on where it was refused: with sendmmsg one that could have had a
 * VLAN tag later than a larger one. Others are on their way meanwhile. */
static void test_refused(const struct method *method)
{
    static const size_t lengths[] = {1416, 1514, 1418, 1419};
    uint64_t since = real_ns();
    uint32_t refused;

    net_queue_slow("va", 2000000, 100000);
    begin(method->method, 0, 64);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        commit_frames(10, 300, 0);
        commit_frames(1, lengths[i], 0);
        commit_frames(5, 300, 2);
        commit_frames(2, lengths[i], 0);
        commit_frames(8, 300, 0);
        net_link_mtu("va", 1400);
        netring_injector_flush(run.injector);
        is_int(netring_injector_drain(run.injector, (int)tap_patience(5000)), 1, "drained");
        net_link_mtu("va", 1500);
    }
    refused = (uint32_t)injector_stats(run.injector).refused;
    is_int(refused, 3 * COUNT(lengths), "%s: refused", method->name);
    judge("refused frames", since);
    end("refused frames");
    net_queue_none("va");
}

/* What the kernel makes no packet of for its vnet header's sake. */
static void test_refused_vnet(const struct method *method)
{
    uint64_t since = real_ns();

    begin(method->method, NETRING_INJECTOR_VNET_HEADER, 32);
    for (int round = 0; round < 5; round++) {
        struct netring_slot slot;

        commit_frames(6, 100, 0);
        must_reserve(run.injector, &slot, 1);
        slot.len = (uint32_t)frame_make(slot.data, 100, 0);
        slot.gso_type = 0x77; /* there is none */
        slot.gso_size = 50;
        must_commit(run.injector, &slot, 1);
        commit_frames(6, 100, 0);
        netring_injector_flush(run.injector);
    }
    is_int(netring_injector_drain(run.injector, (int)tap_patience(5000)), 1, "drained");
    is_int(injector_stats(run.injector).refused, 5, "%s: refused", method->name);
    judge("refused vnet headers", since);
    end("refused vnet headers");
}

/* A link that is set down: frames stay, and have their stamps later. */
static void test_link_down(const struct method *method)
{
    uint64_t since = real_ns();

    begin(method->method, NETRING_INJECTOR_IGNORE_LINK_STATE, 64);
    commit_frames(10, 100, 0);
    netring_injector_flush(run.injector);
    net_link_up("va", false);
    commit_frames(10, 100, 0);
    netring_injector_flush(run.injector);
    net_link_up("va", true);
    net_await_carrier("va");
    commit_frames(10, 100, 0);
    judge("a link down and up", since);
    end("a link down and up");
}

/* Nobody fetches: the newest are kept. */
static void test_lost(const struct method *method)
{
    enum { FRAMES = 4096 + 900 };
    struct netring_timestamp stamp;

    begin(method->method, 0, 128);
    for (uint32_t i = 0; i < FRAMES; i += 100) {
        commit_frames(FRAMES - i < 100 ? FRAMES - i : 100, 60, 0);
        netring_injector_drain(run.injector, (int)tap_patience(2000));
    }
    is_int(injector_stats(run.injector).timestamps_lost, 900, "%s: lost for want of a fetch",
           method->name);
    is_int(netring_injector_timestamps(run.injector, &stamp, sizeof stamp, 1), 1, "the oldest");
    is_int(stamp.cookie, run.cookies[900], "%s: is the one behind those", method->name);
    is_int(netring_injector_timestamps(run.injector, &stamp, sizeof stamp, 1), 1, "the next");
    is_int(stamp.cookie, run.cookies[901], "%s: is the next", method->name);
    end("lost");
}

/* A device that gives none. */
static void test_without(void)
{
    struct netring_injector_config config = inject_config(NETRING_METHOD_AUTO, 16);
    struct netring_timestamp stamp;

    if (!net_link_new("ifb9", "ifb", NULL)) {
        tap_skip("a device without stamps", "no ifb here");
        return;
    }
    config.flags = NETRING_INJECTOR_TIMESTAMPS;
    run.injector = injector_open("ifb9", &config);
    for (int i = 0; i < 100; i++) {
        uint8_t frame[60];

        frame_make(frame, sizeof frame, (uint32_t)i);
        if (netring_injector_send(run.injector, frame, sizeof frame, 2000) != 1)
            tap_bail("send to ifb");
    }
    is_int(netring_injector_drain(run.injector, 2000), 1, "ifb: drained");
    is_int(netring_injector_timestamps(run.injector, &stamp, sizeof stamp, 1), 0, "ifb: no stamp");
    is_int(injector_stats(run.injector).timestamps_lost, 100, "ifb: all are lost");
    injector_close(run.injector);
}

/* Stamps that nobody has fetched are nothing to wake for. */
static void test_descriptor(const struct method *method)
{
    struct netring_slot slots[16];
    struct pollfd poller;

    begin(method->method, 0, 16);
    is_int(netring_injector_timestamps(run.injector, NULL, 24, 1), NETRING_EINVAL, "NULL");
    commit_frames(8, 100, 0);
    netring_injector_flush(run.injector);
    is_int(netring_injector_drain(run.injector, 2000), 1, "drained");
    must_reserve(run.injector, slots, 16);
    poller = (struct pollfd){.fd = netring_injector_fd(run.injector), .events = POLLIN};
    is_int(netring_injector_reserve(run.injector, slots, sizeof *slots, 1, 0), 0, "no slot");
    is_int(poll(&poller, 1, 50), 0, "%s: the descriptor rests", method->name);
    for (int i = 0; i < 16; i++)
        slots[i].len = 0;
    must_commit(run.injector, slots, 16);
    is_int(poll(&poller, 1, 2000), 1, "%s: until a slot is free", method->name);
    end("descriptor");
}

static void test_call(void)
{
    struct netring_injector_config config = inject_config(NETRING_METHOD_AUTO, 16);
    struct netring_timestamp stamp;
    struct netring_error error;
    struct netring_injector *injector = injector_open("va", &config);

    is_int(netring_injector_timestamps(injector, &stamp, sizeof stamp, 1), NETRING_EINVAL,
           "without the flag");
    netring_injector_last_error(injector, &error);
    is_str(error.option, "flags", "the option");
    is_str_contains(error.message, "NETRING_INJECTOR_TIMESTAMPS", "the words");
    is_int(netring_injector_timestamps(injector, &stamp, 16, 1), NETRING_EINVAL, "size 16");
    is_int(netring_injector_timestamps(injector, &stamp, sizeof stamp, 0), NETRING_EINVAL,
           "count 0");
    injector_close(injector);
}

/* The kernel switches it on in its own time. */
static void await_stamping(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    int from = net_sender("va");
    bool stamped = false;

    for (int i = 0; i < 200 && !stamped; i++) {
        struct netring_block *block;
        struct netring_packet p;

        send_frames(from, 0, 1, 60);
        if (netring_capture_next_block(capture, (int)tap_patience(1000), &block) != 1)
            continue;
        if (netring_block_read(block, &p, sizeof p, 1) == 1)
            stamped = p.clock == NETRING_CLOCK_SOFTWARE;
        netring_block_release(block);
    }
    if (!stamped)
        tap_bail("nothing stamps what comes in");
    close(from);
    capture_close(capture);
}

int main(void)
{
    int stamping;

    tap_begin(120);
    net_enter();
    net_veth("va", "vb");
    net_await_carrier("va");
    stamping = stamp_arrivals();
    await_stamping();
    for (size_t i = 0; i < 2; i++) {
        test_slots(&methods[i]);
        test_copies(&methods[i]);
        test_full_queue(&methods[i]);
        test_full_socket(&methods[i]);
        test_refused(&methods[i]);
        test_refused_vnet(&methods[i]);
        test_link_down(&methods[i]);
        test_lost(&methods[i]);
        test_descriptor(&methods[i]);
    }
    test_without();
    test_call();
    close(stamping);
    return tap_end();
}
