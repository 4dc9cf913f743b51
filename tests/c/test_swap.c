/* Which packets, changed while the capture is open: another filter, none, a locked one, an eBPF
 * program; and the direction. Packets that were in the ring at the time of a change are seen
 * through the new filter, and none that both accept is lost, under a sender that does not stop.
 *
 * no-valgrind: system calls and numbers, which ASan and the Rust tests see as well
 *
 * no-archive: it takes long, and ASan has the archive too */
#include "support.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define AD(name) ((uint32_t)SKF_AD_OFF + SKF_AD_##name)
#define LD(size, mode, k) BPF_STMT(BPF_LD | (size) | (mode), (k))
#define JEQ(k, jt, jf) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (jt), (jf))
#define JSET(k, jt, jf) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (k), (jt), (jf))
#define RET(k) BPF_STMT(BPF_RET | BPF_K, (k))
#define ALL 0x40000
#define NUMBER ETHER_HEADER /* where a frame has its number */

enum { LENGTH = 100 };

static int sender;  /* on va; what it sends arrives at vb */
static int replier; /* on vb */

static struct netring_filter *filter_of(const struct sock_filter *code, size_t count)
{
    struct netring_filter *filter = NULL;
    struct netring_error error;

    if (netring_filter_new(code, count, &filter, &error) != 0)
        tap_bail("netring_filter_new: %s", error.message);
    return filter;
}

/* Packets whose number has one of these bits; so much of each. */
static struct netring_filter *with_bits(uint32_t bits, uint32_t keep)
{
    const struct sock_filter code[] = {LD(BPF_W, BPF_ABS, NUMBER), JSET(bits, 0, 1), RET(keep),
                                       RET(0)};

    return filter_of(code, COUNT(code));
}

static struct netring_filter *keeping(uint32_t bytes)
{
    const struct sock_filter code[] = {RET(bytes)};

    return filter_of(code, COUNT(code));
}

/* Swaps and frees. Returns from_block. */
static uint64_t swap(struct netring_capture *capture, struct netring_filter *filter,
                     const char *what)
{
    struct netring_error error;
    uint64_t from = UINT64_MAX;

    error_spoil(&error);
    errno = ENOTTY;
    if (!is_int(netring_capture_set_filter(capture, filter, &from, &error), 0, "%s: swapped", what))
        tap_diag("%s", error.message);
    is_int(errno, ENOTTY, "%s: errno is left alone", what);
    is_no_error(&error, what);
    if (filter)
        netring_filter_free(filter);
    return from;
}

static void adds_up(struct netring_capture *capture, const char *what)
{
    struct netring_stats stats = capture_stats(capture);

    is_int(stats.received, stats.delivered + stats.filtered_late + stats.looped + stats.pending,
           "%s: received = delivered + filtered_late + looped + pending", what);
}

/* Everything there is, the open block too. */
static struct records drain(struct netring_capture *capture)
{
    struct records records = {0, 0, NULL};

    if (netring_capture_flush(capture) != 0)
        tap_bail("flush failed");
    receive(capture, SIZE_MAX, 0, &records);
    return records;
}

/* One check: they are the frames first..first+count-1 that have one of the bits, in order, with
 * `caplen` bytes each. */
static void are(const struct records *records, uint32_t first, uint32_t count, uint32_t bits,
                uint32_t caplen, const char *what)
{
    size_t n = 0;

    for (uint32_t i = first; i < first + count; i++) {
        const struct netring_packet *got;

        if (bits != ~0u && !(i & bits))
            continue;
        if (n == records->count) {
            ok(false, "%s: frame %u and what follows is missing", what, i);
            return;
        }
        got = &records->v[n++].packet;
        if (frame_number(got->data) != i || got->caplen != caplen || got->len != LENGTH) {
            ok(false, "%s: frame %u, got %u with %u of %u bytes", what, i, frame_number(got->data),
               got->caplen, got->len);
            return;
        }
    }
    is_int(records->count, n, "%s: %zu frames in order", what, n);
}

/* ---- packets that were in the ring ---- */

static void test_older_packets(void)
{
    struct netring_capture_config config = page_config(64);
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records;
    struct netring_stats stats;

    send_frames(sender, 0, 200, LENGTH);
    await_seen(capture, 200);
    is_int(swap(capture, with_bits(1, ALL), "a filter"), 0, "a filter: it holds at once");
    send_frames(sender, 200, 200, LENGTH);
    await_seen(capture, 300);
    records = drain(capture);
    are(&records, 0, 400, 1, LENGTH, "a filter, packets of before and after");
    stats = capture_stats(capture);
    is_int(stats.filtered_late, 100, "a filter: what it rejected of the ring is counted");
    is_int(stats.delivered, 200, "a filter: the others are delivered");
    is_int(stats.truncated, 0, "a filter: nothing is cut");
    adds_up(capture, "a filter");
    records_free(&records);

    /* It keeps less. */
    send_frames(sender, 400, 50, LENGTH);
    await_seen(capture, 325);
    is_int(swap(capture, with_bits(3, 20), "less of each"), 0, "less of each: it holds at once");
    send_frames(sender, 450, 50, LENGTH);
    records = drain(capture);
    for (size_t i = 0; i < records.count; i++) {
        if (records.v[i].packet.caplen != 20)
            ok(false, "less of each: packet %zu has %u bytes", i, records.v[i].packet.caplen);
    }
    stats = capture_stats(capture);
    is_int(stats.truncated, records.count, "less of each: all are cut, and counted so");
    /* Of the first 50 only those with bit 1 had been received. */
    is_int(records.count, 25 + 38, "less of each: as many as both let through");
    adds_up(capture, "less of each");
    records_free(&records);

    /* Two changes between two looks: the last one decides. */
    is_int(swap(capture, NULL, "detached"), 0, "detached: the ring is empty");
    send_frames(sender, 500, 60, LENGTH);
    await_seen(capture, 363 + 60);
    swap(capture, with_bits(1, ALL), "the first of two");
    is_int(swap(capture, with_bits(2, ALL), "the second of two"), 0, "two changes: at once");
    records = drain(capture);
    are(&records, 500, 60, 2, LENGTH, "two changes, judged by the second alone");
    records_free(&records);
    swap(capture, NULL, "detached again");
    send_frames(sender, 600, 30, LENGTH);
    swap(capture, with_bits(1, ALL), "taken back");
    is_int(swap(capture, NULL, "taken back"), 0, "a filter that is taken back: at once");
    records = drain(capture);
    are(&records, 600, 30, ~0u, LENGTH, "a filter that is taken back rejects nothing");
    adds_up(capture, "a filter that is taken back");
    records_free(&records);
    capture_close(capture);
}

/* ---- where it cannot be told ---- */

/* Blocks to the end: those before `from` and those from there on. */
static void drain_around(struct netring_capture *capture, uint64_t from, struct records *before,
                         struct records *behind)
{
    struct netring_block *block;
    struct netring_block_info info;

    if (netring_capture_flush(capture) != 0)
        tap_bail("flush failed");
    while (netring_capture_next_block(capture, 0, &block) == 1) {
        netring_block_info(block, &info, sizeof info);
        block_records(block, 64, info.sequence < from ? before : behind);
        netring_block_release(block);
    }
}

static void test_from_block(void)
{
    static const struct sock_filter by_cpu[] = {
        LD(BPF_W, BPF_ABS, AD(CPU)), LD(BPF_W, BPF_ABS, NUMBER), JSET(1, 0, 1), RET(ALL), RET(0)};
    static const struct sock_filter deep[] = {LD(BPF_B, BPF_ABS, 60), LD(BPF_W, BPF_ABS, NUMBER),
                                              JSET(1, 0, 1), RET(40), RET(0)};
    const struct {
        const char *what;
        const struct sock_filter *code;
        size_t count;
        uint32_t old_keeps, older, keeps; /* numbers of older packets that come: any, or odd */
    } cases[] = {
        {"it asks for the CPU", by_cpu, COUNT(by_cpu), ALL, ~0u, LENGTH},
        {"it looks behind the cut", deep, COUNT(deep), 40, ~0u, 40},
        {"it keeps more", NULL, 0, 40, 1, LENGTH},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *what = cases[i].what;
        struct netring_capture_config config = page_config(64);
        struct netring_capture *capture;
        struct netring_filter *filter = keeping(cases[i].old_keeps);
        struct records before = {0, 0, NULL}, behind = {0, 0, NULL};
        uint64_t from;
        uint32_t cut = cases[i].old_keeps < LENGTH ? cases[i].old_keeps : LENGTH;
        size_t odd = 0;

        config.filter = filter;
        capture = capture_open("vb", &config);
        netring_filter_free(filter);
        send_frames(sender, 0, 100, LENGTH);
        await_seen(capture, 100);
        filter = cases[i].code ? filter_of(cases[i].code, cases[i].count) : with_bits(1, ALL);
        from = swap(capture, filter, what);
        ok(from > 1, "%s: it holds from block %llu on", what, (unsigned long long)from);
        send_frames(sender, 100, 200, LENGTH);
        await_seen(capture, 200);
        drain_around(capture, from, &before, &behind);
        /* The block that was open has newer packets as well. */
        for (size_t k = 0; k < before.count; k++)
            odd += frame_number(before.v[k].packet.data) < 100;
        is_int(odd, cases[i].older == 1 ? 50 : 100, "%s: the older packets are there", what);
        ok(behind.count > 0, "%s: there are newer blocks", what);
        odd = 0;
        for (size_t k = 0; k < behind.count; k++)
            odd += (frame_number(behind.v[k].packet.data) & 1) &&
                   behind.v[k].packet.caplen == cases[i].keeps;
        is_int(odd, behind.count, "%s: from there on all passed the new one", what);
        odd = 0;
        for (size_t k = 0; k < before.count; k++) {
            uint32_t number = frame_number(before.v[k].packet.data);

            odd += number < 100 ? before.v[k].packet.caplen != cut : !(number & 1);
        }
        is_int(odd, 0, "%s: before that, each as its own filter left it", what);
        adds_up(capture, what);
        records_free(&before);
        records_free(&behind);
        is_int(swap(capture, keeping(ALL), "all taken"), 0, "%s: in an empty ring any holds", what);
        capture_close(capture);
    }
}

/* What a filter says of a packet in the ring is what it says of the packet that comes in. */
static void test_same_verdicts(void)
{
    const struct {
        const char *what;
        struct sock_filter code[8];
        size_t count;
    } cases[] = {
        {"EtherType", {LD(BPF_H, BPF_ABS, 12), JEQ(ETHERTYPE_TEST, 0, 1), RET(ALL), RET(0)}, 4},
        {"length",
         {BPF_STMT(BPF_LD | BPF_LEN, 0), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 200, 0, 1), RET(64),
          RET(0)},
         4},
        {"protocol",
         {LD(BPF_W, BPF_ABS, AD(PROTOCOL)), JEQ(ETHERTYPE_TEST, 0, 1), RET(ALL), RET(0)},
         4},
        {"direction",
         {LD(BPF_W, BPF_ABS, AD(PKTTYPE)), JEQ(PACKET_OUTGOING, 0, 1), RET(ALL), RET(0)},
         4},
        {"hardware", {LD(BPF_W, BPF_ABS, AD(HATYPE)), JEQ(1, 0, 1), RET(ALL), RET(0)}, 4},
        {"tag present",
         {LD(BPF_B, BPF_ABS, AD(VLAN_TAG_PRESENT)), JEQ(1, 0, 1), RET(ALL), RET(0)},
         4},
        {"tag", {LD(BPF_H, BPF_ABS, AD(VLAN_TAG)), JEQ(100, 0, 1), RET(ALL), RET(0)}, 4},
        {"tag's EtherType",
         {LD(BPF_H, BPF_ABS, AD(VLAN_TPID)), JEQ(0x88a8, 0, 1), RET(ALL), RET(0)},
         4},
        {"network header",
         {LD(BPF_B, BPF_ABS, (uint32_t)SKF_NET_OFF + 3), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 3),
          JEQ(1, 0, 1), RET(ALL), RET(0)},
         5},
        {"link header",
         {LD(BPF_H, BPF_ABS, (uint32_t)SKF_LL_OFF + 12), JEQ(ETHERTYPE_TEST, 0, 1), RET(ALL),
          RET(0)},
         4},
        {"behind X",
         {BPF_STMT(BPF_LDX | BPF_MSH | BPF_B, 17), LD(BPF_B, BPF_IND, 14),
          BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 7), JEQ(2, 0, 1), RET(ALL), RET(0)},
         6},
        {"behind the end", {LD(BPF_B, BPF_ABS, 300), RET(ALL)}, 2},
        {"length as kept", {LD(BPF_B, BPF_ABS, 17), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
    };
    struct netring_capture_config config = small_config();

    config.block_timeout = 0;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct records got[2] = {{0, 0, NULL}, {0, 0, NULL}};
        size_t different = 0;

        for (int late = 0; late < 2; late++) {
            struct netring_filter *filter = filter_of(cases[i].code, cases[i].count);
            struct netring_capture *capture;
            uint8_t frame[FRAME_MAX];

            config.filter = late ? NULL : filter;
            capture = capture_open("vb", &config);
            for (uint32_t n = 0; n < 60; n++) {
                size_t length = frame_make(frame, frame_mixed(n, 60, 400), n);

                if (n % 3 == 1)
                    length = frame_tag(frame, length, n % 2 ? ETHERTYPE_TEST : 0x8100, 100);
                if (n % 5 == 0)
                    length = frame_tag(frame, length, 0x88a8, n % 2 ? 100 : 7);
                net_send(n % 4 ? sender : replier, frame, length);
            }
            if (late) {
                await_seen(capture, 60);
                is_int(netring_capture_set_filter(capture, filter, NULL, NULL), 0, "%s: swapped",
                       cases[i].what);
            }
            netring_filter_free(filter);
            got[late] = drain(capture);
            adds_up(capture, cases[i].what);
            capture_close(capture);
        }
        for (size_t n = 0; n < got[0].count && n < got[1].count; n++) {
            const struct netring_packet *one = &got[0].v[n].packet, *other = &got[1].v[n].packet;

            different += one->len != other->len || one->caplen != other->caplen ||
                         memcmp(one->data, other->data, one->caplen) != 0;
        }
        ok(got[0].count == got[1].count && different == 0,
           "%s: the kernel's %zu packets, and late %zu, %zu of them different", cases[i].what,
           got[0].count, got[1].count, different);
        ok(got[0].count > 0 && got[0].count <= 60, "%s: some of them", cases[i].what);
        records_free(&got[0]);
        records_free(&got[1]);
    }
}

/* ---- beside the capture's other calls ---- */

static void test_with_other_calls(void)
{
    struct netring_capture_config config = page_config(64);
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *block = NULL;
    struct records records = {0, 0, NULL};
    struct netring_error error;

    /* A part that was handed out stays as it is, the rest of its block does not. */
    send_frames(sender, 0, 6, LENGTH);
    await_seen(capture, 6);
    netring_capture_flush(capture);
    is_int(netring_capture_next_block(capture, 0, &block), 1, "a part of a block");
    send_frames(sender, 6, 6, LENGTH);
    await_seen(capture, 12);
    swap(capture, with_bits(1, ALL), "behind a part");
    block_records(block, 64, &records);
    are(&records, 0, 6, ~0u, LENGTH, "the part in hand is as it was");
    netring_block_release(block);
    records_free(&records);
    records = drain(capture);
    are(&records, 6, 6, 1, LENGTH, "the rest of that block is judged");
    adds_up(capture, "behind a part");
    records_free(&records);

    /* A capture that is stopped hands out what it has through the last filter. */
    swap(capture, NULL, "before a stop");
    send_frames(sender, 20, 40, LENGTH);
    await_seen(capture, 12 + 40);
    netring_capture_stop(capture);
    swap(capture, with_bits(2, ALL), "after a stop");
    memset(&records, 0, sizeof records);
    is_int(receive(capture, SIZE_MAX, 100, &records), NETRING_ESHUTDOWN, "stopped");
    are(&records, 20, 40, 2, LENGTH, "stopped: judged");
    adds_up(capture, "stopped");
    records_free(&records);
    capture_close(capture);

    /* Removal and the next interface of the name. */
    net_veth("ra", "rb");
    net_await_carrier("ra");
    capture = capture_open("rb", &config);
    int other = net_sender("ra");
    send_frames(other, 0, 20, LENGTH);
    await_seen(capture, 20);
    close(other);
    net_link_delete("ra");
    swap(capture, with_bits(1, ALL), "of a removed interface");
    net_veth("ra", "rb");
    net_await_carrier("ra");
    is_int(netring_capture_rebind(capture, NULL, 0, 1000, &error), 0, "bound anew");
    other = net_sender("ra");
    send_frames(other, 20, 20, LENGTH);
    await_seen(capture, 30);
    swap(capture, with_bits(2, ALL), "of the next interface");
    records = drain(capture);
    is_int(records.count, 10 + 5, "of one interface the last filter's, of the next both's");
    for (size_t n = 0; n < records.count; n++)
        if (!(frame_number(records.v[n].packet.data) & (n < 10 ? 2 : 3)))
            ok(false, "packet %zu is %u", n, frame_number(records.v[n].packet.data));
    adds_up(capture, "removed");
    records_free(&records);
    close(other);
    capture_close(capture);
    net_link_delete("ra");

    /* "any", and immediate mode. */
    config = small_config();
    config.flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
    for (int k = 0; k < 2; k++) {
        const char *what = k ? "immediate" : "any";

        if (k)
            config.flags |= NETRING_CAPTURE_IMMEDIATE;
        config.snap_length = k ? LENGTH : 0; /* small frames, many of them */
        config.block_timeout = 0;
        capture = capture_open(k ? "vb" : "any", &config);
        send_frames(sender, 0, 50, LENGTH);
        await_seen(capture, 50);
        is_int(swap(capture, with_bits(1, ALL), what), 0, "%s: at once", what);
        send_frames(sender, 50, 50, LENGTH);
        await_seen(capture, 75);
        swap(capture, with_bits(2, 30), what);
        send_frames(sender, 100, 40, LENGTH);
        await_seen(capture, 95);
        records = drain(capture);
        size_t right = 0;
        for (size_t n = 0; n < records.count; n++) {
            uint32_t number = frame_number(records.v[n].packet.data);

            right += records.v[n].packet.caplen == 30 && (number & 2) &&
                     (number < 50 || number >= 100 || (number & 1));
        }
        /* Of 0-49 25 have bit 1, of 50-99 12 have both, of 100-139 20. */
        is_int(right, records.count, "%s: all are as the last filter wants them", what);
        is_int(records.count, 24 + 13 + 20, "%s: and none is missing", what);
        adds_up(capture, what);
        records_free(&records);
        capture_close(capture);
    }
}

static void no_membarrier(void *user)
{
    struct netring_capture_config config = page_config(64);
    struct netring_capture *capture = capture_open("vb", &config);
    struct records records;

    (void)user;
    refuse(&(struct refusal){SYS_membarrier, EINVAL, 0, {{0, 0, 0, false}}});
    send_frames(sender, 0, 50, LENGTH);
    await_seen(capture, 50);
    is_int(swap(capture, with_bits(1, ALL), "no membarrier"), 0, "no membarrier: at once");
    send_frames(sender, 50, 50, LENGTH);
    await_seen(capture, 75);
    swap(capture, with_bits(2, ALL), "no membarrier, again");
    swap(capture, NULL, "no membarrier, detached");
    send_frames(sender, 100, 50, LENGTH);
    swap(capture, with_bits(3, ALL), "no membarrier, at last");
    send_frames(sender, 150, 50, LENGTH);
    records = drain(capture);
    /* 0-49 and 100-199 with either bit, of 50-99 those that were received: odd ones. */
    is_int(records.count, 37 + 25 + 38 + 37, "no membarrier: all that passed are there");
    adds_up(capture, "no membarrier");
    records_free(&records);
    capture_close(capture);
}

/* ---- locked, too large, wrong ---- */

static void swap_fails(struct netring_capture *capture, struct netring_filter *filter,
                       const struct failure *want, const char *what)
{
    struct netring_error error;
    uint64_t from = 77;
    int rc, error_number;

    error_spoil(&error);
    errno = 0;
    rc = netring_capture_set_filter(capture, filter, &from, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, want, what);
    is_int(from, 77, "%s: from_block is not written", what);
}

static void test_refused(void)
{
    static const struct failure locked = {
        NETRING_ESOCKOPT, EPERM, "SO_ATTACH_FILTER", {"locked", "open another capture"}};
    static const struct failure still = {
        NETRING_ESOCKOPT, EPERM, "SO_DETACH_FILTER", {"locked", "open another capture"}};
    static const struct failure large = {NETRING_ESOCKOPT,
                                         ENOMEM,
                                         "SO_ATTACH_FILTER",
                                         {"4001", "net.core.optmem_max", "detach it first"}};
    static const struct failure computed = {NETRING_EINVAL, 0, "snap_length", {"ret a"}};
    static const struct failure foreign = {NETRING_EBADF, 0, "filter", {"bad handle"}};
    static const struct sock_filter ret_a[] = {LD(BPF_W, BPF_LEN, 0), BPF_STMT(BPF_RET | BPF_A, 0)};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_filter *filter = with_bits(1, ALL), *second;
    struct netring_error error;
    struct records records;
    struct sock_filter *code = calloc(4001, sizeof *code);

    /* The old one stays after each refusal. */
    config.block_timeout = 0;
    config.snap_length = 50;
    config.filter = filter;
    capture = capture_open("vb", &config);
    for (int i = 0; i < 4000; i++)
        code[i] = (struct sock_filter)LD(BPF_W, BPF_ABS, 0);
    code[4000] = (struct sock_filter)RET(ALL);
    second = filter_of(code, 4001);
    swap_fails(capture, second, &large, "a large program");
    netring_filter_free(second);
    second = filter_of(ret_a, COUNT(ret_a));
    swap_fails(capture, second, &computed, "ret a with a snap length");
    netring_filter_free(second);
    swap_fails(capture, second, &foreign, "a filter that was freed");
    send_frames(sender, 0, 40, LENGTH);
    await_seen(capture, 20);
    records = drain(capture);
    are(&records, 0, 40, 1, 50, "after refusals: the old filter");
    records_free(&records);

    /* What the configuration says outlives every filter. */
    swap(capture, NULL, "detached");
    send_frames(sender, 0, 10, LENGTH);
    await_seen(capture, 30);
    records = drain(capture);
    are(&records, 0, 10, ~0u, 50, "detached: the snap length stays");
    records_free(&records);

    /* Locked later, and at the open. */
    is_int(netring_capture_lock_filter(capture, &error), 0, "locked");
    is_no_error(&error, "locked");
    is_int(netring_capture_lock_filter(capture, NULL), 0, "locked twice");
    ok(capture_info(capture).flags & NETRING_CAPTURE_LOCK_FILTER, "locked: the info says so");
    swap_fails(capture, filter, &locked, "a locked filter");
    capture_close(capture);
    config.snap_length = 0;
    config.flags |= NETRING_CAPTURE_LOCK_FILTER;
    capture = capture_open("vb", &config);
    swap_fails(capture, NULL, &still, "locked at the open");
    netring_filter_free(filter);
    send_frames(sender, 0, 40, LENGTH);
    await_seen(capture, 20);
    records = drain(capture);
    are(&records, 0, 40, 1, LENGTH, "locked: the filter");
    records_free(&records);
    capture_close(capture);
    free(code);
}

/* Each step, refused for a reason of our choice. */
static void refused_steps(void *user)
{
    static const struct {
        const char *what;
        int option, error;
        struct failure want;
    } steps[] = {
        {"attach, EINVAL",
         SO_ATTACH_FILTER,
         EINVAL,
         {NETRING_EFILTER, EINVAL, "SO_ATTACH_FILTER", {"does not accept"}}},
        {"attach, EIO",
         SO_ATTACH_FILTER,
         EIO,
         {NETRING_ESOCKOPT, EIO, "SO_ATTACH_FILTER", {"refused"}}},
        {"detach, EIO",
         SO_DETACH_FILTER,
         EIO,
         {NETRING_ESOCKOPT, EIO, "SO_DETACH_FILTER", {"could not be detached"}}},
        {"lock, ENOPROTOOPT",
         SO_LOCK_FILTER,
         ENOPROTOOPT,
         {NETRING_ESOCKOPT, ENOPROTOOPT, "SO_LOCK_FILTER", {"Linux 3.9"}}},
    };
    size_t i = *(size_t *)user;
    struct netring_capture_config config = small_config();
    struct netring_filter *filter = keeping(ALL);
    struct netring_capture *capture;

    config.filter = filter;
    capture = capture_open("vb", &config);
    refuse(&(struct refusal){
        SYS_setsockopt,
        steps[i].error,
        2,
        {{1, UINT32_MAX, SOL_SOCKET, false}, {2, UINT32_MAX, (uint32_t)steps[i].option, false}}});
    if (steps[i].option == SO_LOCK_FILTER) {
        struct netring_error error;
        int rc = netring_capture_lock_filter(capture, &error), error_number = errno;

        is_failure(rc, error_number, &error, &steps[i].want, steps[i].what);
        config.flags |= NETRING_CAPTURE_LOCK_FILTER;
        open_fails("lock at the open", "vb", &config, &steps[i].want);
    } else {
        swap_fails(capture, steps[i].option == SO_DETACH_FILTER ? NULL : filter, &steps[i].want,
                   steps[i].what);
    }
    netring_filter_free(filter);
    capture_close(capture);
}

/* ---- eBPF ---- */

static int bpf(int command, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

/* return keep if the byte at `offset` of the packet has the bit, else 0 */
static int ebpf_load(enum bpf_prog_type type, int offset, int bit, int keep)
{
    const struct bpf_insn code[] = {
        {BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0},   /* r6 = ctx */
        {BPF_LD | BPF_ABS | BPF_B, 0, 0, 0, offset}, /* r0 = byte */
        {BPF_JMP | BPF_JSET | BPF_K, 0, 0, 2, bit},
        {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
        {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, keep},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    union bpf_attr attr = {.prog_type = type,
                           .insn_cnt = COUNT(code),
                           .insns = (uintptr_t)code,
                           .license = (uintptr_t) "GPL"};

    return bpf(BPF_PROG_LOAD, &attr);
}

static void test_ebpf(void)
{
    static const struct failure not_one = {
        NETRING_EFILTER, EINVAL, "SO_ATTACH_BPF", {"BPF_PROG_TYPE_SOCKET_FILTER"}};
    static const struct failure not_open = {NETRING_EINVAL, 0, "prog_fd", {"9999 is not open"}};
    static const struct failure snapped = {NETRING_EINVAL, 0, "snap_length", {"eBPF", "64"}};
    static const struct failure incoming = {
        NETRING_EINVAL, 0, "flags", {"NETRING_CAPTURE_IGNORE_INCOMING", "eBPF", "pkt_type"}};
    struct netring_capture_config config = page_config(64);
    struct netring_filter *filter = NULL;
    struct netring_capture *capture;
    struct netring_packet packet;
    struct netring_error error;
    struct records records, behind = {0, 0, NULL};
    uint64_t from;
    int rc, error_number, odd, other;

    rc = netring_filter_new_ebpf(9999, &filter, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &not_open, "no descriptor");
    rc = netring_filter_new_ebpf(sender, &filter, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &not_one, "a socket");
    odd = ebpf_load(BPF_PROG_TYPE_SOCKET_FILTER, NUMBER + 3, 1, ALL);
    if (odd < 0) {
        tap_skip("eBPF programs", "bpf(2) is not allowed here");
        return;
    }
    other = ebpf_load(BPF_PROG_TYPE_SCHED_CLS, NUMBER + 3, 1, ALL);
    rc = netring_filter_new_ebpf(other, &filter, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, &not_one, "a program of another type");
    close(other);
    ok(!filter, "no handle for any of these");

    is_int(netring_filter_new_ebpf(odd, &filter, &error), 0, "an eBPF filter");
    is_no_error(&error, "an eBPF filter");
    close(odd);
    memset(&packet, 0, sizeof packet);
    is_int(netring_filter_count(filter), NETRING_ENOTSUP, "it has no count");
    is_int(netring_filter_match(filter, &packet, sizeof packet), NETRING_ENOTSUP, "nor a match");
    config.filter = filter;
    config.snap_length = 64;
    open_fails("eBPF with a snap length", "vb", &config, &snapped);
    config.snap_length = 0;
    config.flags |= NETRING_CAPTURE_IGNORE_INCOMING;
    open_fails("eBPF for outgoing packets", "vb", &config, &incoming);
    config.flags &= ~(uint64_t)NETRING_CAPTURE_IGNORE_INCOMING;
    {
        struct netring_reader_config reading;
        struct netring_reader *reader;

        netring_reader_config_init(&reading, sizeof reading);
        reading.filter = filter;
        is_int(netring_reader_open("/dev/null", &reading, &reader, NULL), NETRING_ENOTSUP,
               "a reader has no use for it");
    }

    /* At the open, and in the place of a classic one. */
    capture = capture_open("vb", &config);
    send_frames(sender, 0, 40, LENGTH);
    await_seen(capture, 20);
    records = drain(capture);
    are(&records, 0, 40, 1, LENGTH, "eBPF at the open");
    records_free(&records);
    is_int(swap(capture, with_bits(2, ALL), "eBPF, then classic"), 0, "an empty ring: at once");
    send_frames(sender, 40, 100, LENGTH);
    await_seen(capture, 70);
    is_int(netring_capture_set_filter(capture, filter, &from, &error), 0, "classic, then eBPF");
    ok(from > 1, "classic, then eBPF: from a block on");
    send_frames(sender, 140, 100, LENGTH);
    await_seen(capture, 120);
    memset(&records, 0, sizeof records);
    drain_around(capture, from, &records, &behind);
    is_int(records.count + behind.count, 100, "classic, then eBPF: nothing is lost");
    ok(behind.count > 0, "classic, then eBPF: newer blocks");
    odd = 0;
    for (size_t i = 0; i < behind.count; i++)
        odd += !(frame_number(behind.v[i].packet.data) & 1);
    is_int(odd, 0, "classic, then eBPF: from that block on all passed it");
    records_free(&records);
    records_free(&behind);
    adds_up(capture, "eBPF");
    netring_filter_free(filter);
    capture_close(capture);
}

/* ---- direction ---- */

static uint64_t direction_count(struct netring_capture *capture, int direction, bool bits)
{
    struct records records = drain(capture);
    uint64_t count = 0;

    for (size_t i = 0; i < records.count; i++)
        count += (records.v[i].packet.direction == NETRING_DIRECTION_OUTGOING) == direction &&
                 (!bits || (frame_number(records.v[i].packet.data) & 1));
    if (count != records.count)
        tap_diag("%zu packets, %llu of them right", records.count, (unsigned long long)count);
    count = count == records.count ? count : UINT64_MAX;
    records_free(&records);
    return count;
}

static void both_ways(void)
{
    send_frames(sender, 0, 30, LENGTH); /* comes in at vb */
    send_frames(replier, 0, 20, LENGTH);
}

static void direction_of(uint64_t flag, const char *name, const char *interface)
{
    int outgoing = flag == NETRING_CAPTURE_IGNORE_INCOMING;
    uint64_t all = outgoing ? 20 : 30;
    /* On "any" both ends are seen: what one sends comes in at the other. */
    uint64_t ends = strcmp(interface, "any") == 0 ? 2 : 1;
    struct netring_capture_config config = small_config();
    struct netring_filter *filter = with_bits(1, ALL);
    struct netring_capture *capture;

    if (ends == 2)
        all = 50;
    config.flags |= flag;
    config.block_timeout = 0;
    capture = capture_open(interface, &config);
    both_ways();
    await_seen(capture, all);
    is_int(direction_count(capture, outgoing, false), all, "%s on %s", name, interface);
    swap(capture, with_bits(1, 60), "with a filter");
    both_ways();
    await_seen(capture, all + all / 2);
    is_int(direction_count(capture, outgoing, true), all / 2, "%s on %s, a filter later", name,
           interface);
    swap(capture, NULL, "detached");
    both_ways();
    await_seen(capture, 2 * all + all / 2);
    is_int(swap(capture, with_bits(1, ALL), "a filter again"), 0, "%s: at once", name);
    is_int(direction_count(capture, outgoing, true), all / 2, "%s on %s, judged late", name,
           interface);
    adds_up(capture, name);
    capture_close(capture);
    config.filter = filter;
    config.snap_length = 33;
    capture = capture_open(interface, &config);
    both_ways();
    await_seen(capture, all / 2);
    is_int(direction_count(capture, outgoing, true), all / 2, "%s on %s, with a filter", name,
           interface);
    is_int(capture_stats(capture).truncated, all / 2, "%s on %s: cut", name, interface);
    capture_close(capture);
    netring_filter_free(filter);
}

static void test_direction(void)
{
    static const struct failure both = {
        NETRING_EINVAL, 0, "flags", {"IGNORE_OUTGOING", "IGNORE_INCOMING", "nothing"}};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct net_udp udp;
    struct netring_stats stats;
    struct records records;

    direction_of(NETRING_CAPTURE_IGNORE_INCOMING, "outgoing only", "vb");
    direction_of(NETRING_CAPTURE_IGNORE_OUTGOING, "incoming only", "vb");
    direction_of(NETRING_CAPTURE_IGNORE_INCOMING, "outgoing only", "any");
    config.flags |= NETRING_CAPTURE_IGNORE_INCOMING | NETRING_CAPTURE_IGNORE_OUTGOING;
    open_fails("neither direction", "vb", &config, &both);

    /* On lo the outgoing copy is the only one, and is no double. */
    config.flags &= ~(uint64_t)NETRING_CAPTURE_IGNORE_OUTGOING;
    for (int immediate = 0; immediate < 2; immediate++) {
        const char *mode = immediate ? "immediate" : "blocks";

        config.flags |= immediate ? NETRING_CAPTURE_IMMEDIATE : 0;
        config.snap_length = LENGTH;
        capture = capture_open("lo", &config);
        udp = net_udp_open();
        for (int i = 0; i < 25; i++)
            net_udp_send(&udp, "hello", 5);
        await_seen(capture, 25);
        records = drain(capture);
        stats = capture_stats(capture);
        is_int(records.count, 25, "lo, %s: each packet once", mode);
        is_int(records.count && records.v[0].packet.direction == NETRING_DIRECTION_OUTGOING, 1,
               "lo, %s: going out", mode);
        is_int(stats.looped, 0, "lo, %s: none is a double", mode);
        records_free(&records);
        net_udp_close(&udp);
        capture_close(capture);
    }
}

/* A kernel whose version is below 4.20, as far as it says. */
static void old_kernel(void *user)
{
    static const struct failure missing = {
        NETRING_ESOCKOPT, ENOPROTOOPT, "PACKET_IGNORE_OUTGOING", {"4.20"}};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    int program;

    (void)user;
    if (personality(0x0020000 /* UNAME26 */) < 0)
        tap_bail("personality: %s", strerror(errno));
    refuse(&(struct refusal){
        SYS_setsockopt,
        ENOPROTOOPT,
        2,
        {{1, UINT32_MAX, SOL_PACKET, false}, {2, UINT32_MAX, PACKET_IGNORE_OUTGOING, false}}});
    config.flags |= NETRING_CAPTURE_IGNORE_OUTGOING;
    capture = capture_open("vb", &config);
    ok(capture_info(capture).kernel_version < 0x041400, "an old kernel says so");
    ok(capture_info(capture).flags & NETRING_CAPTURE_IGNORE_OUTGOING, "and the flag is in force");
    capture_close(capture);
    direction_of(NETRING_CAPTURE_IGNORE_OUTGOING, "incoming only, by instructions", "vb");
    program = ebpf_load(BPF_PROG_TYPE_SOCKET_FILTER, NUMBER + 3, 1, ALL);
    if (program < 0) {
        tap_skip("eBPF on an old kernel", "bpf(2) is not allowed here");
        return;
    }
    netring_filter_new_ebpf(program, &config.filter, NULL);
    open_fails("eBPF on an old kernel", "vb", &config, &missing);
    netring_filter_free(config.filter);
    close(program);
}

/* ---- under a flood ---- */

enum { COMMON = 4, WINDOW = 3000 };

static volatile bool flood_over;
static _Atomic uint32_t flood_seen; /* the last number that was read */
static uint32_t flood_sent;

/* Frames numbered on, as fast as the reader reads: none is dropped. */
static void *flooding(void *user)
{
    uint8_t frame[LENGTH];

    (void)user;
    while (!flood_over) {
        if (flood_sent - flood_seen > WINDOW) {
            sleep_ms(1);
            continue;
        }
        frame_make(frame, sizeof frame, flood_sent);
        if (net_flood(sender, frame, sizeof frame, 1) == 1)
            flood_sent++;
    }
    return NULL;
}

/* Every filter takes the numbers with bit COMMON, and those with another bit of its own. */
static void flood(const char *what, uint64_t flags, int most)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_filter *filters[3];
    struct netring_stats stats;
    pthread_t thread;
    uint64_t from = 0, wrong = 0, doubled = 0, common = 0, want = 0, unsure = 0;
    uint32_t bits[3] = {COMMON | 1, COMMON | 2, COMMON | 8}, next = 0;
    int64_t stop = now_ms() + tap_patience(20000);
    size_t now = 0;
    int swaps = 0;

    config.block_size = 32 * KIB;
    config.block_count = 256;
    config.block_timeout = 5;
    config.snap_length = LENGTH;
    config.flags |= flags;
    for (size_t i = 0; i < 3; i++) {
        /* The last one asks for what is not known later. */
        const struct sock_filter code[] = {LD(BPF_W, BPF_ABS, i == 2 ? AD(CPU) : NUMBER),
                                           LD(BPF_W, BPF_ABS, NUMBER), JSET(bits[i], 0, 1),
                                           RET(ALL), RET(0)};

        filters[i] = filter_of(code, COUNT(code));
    }
    config.filter = filters[0];
    capture = capture_open("vb", &config);
    flood_over = false;
    flood_sent = 0;
    flood_seen = 0;
    pthread_create(&thread, NULL, flooding, NULL);
    for (int rest = 0; rest < 2;) {
        struct netring_block *block;
        struct netring_packet packets[64];
        struct netring_block_info info;
        int n;

        if (swaps < most && now_ms() < stop) {
            size_t to = (now + 1 + (size_t)(swaps / 3 % 2)) % 3;

            if (netring_capture_set_filter(capture, filters[to], &from, NULL) != 0)
                wrong++;
            now = to;
            unsure += from != 0;
            swaps++;
        } else if (!flood_over) {
            flood_over = true;
            pthread_join(thread, NULL);
            sleep_ms(50);
            netring_capture_flush(capture);
        }
        for (int k = 0; k < 4; k++) {
            if (netring_capture_next_block(capture, flood_over ? 50 : 0, &block) != 1) {
                rest += flood_over;
                break;
            }
            netring_block_info(block, &info, sizeof info);
            while ((n = netring_block_read(block, packets, sizeof packets[0], 64)) > 0) {
                for (int i = 0; i < n; i++) {
                    uint32_t number = frame_number(packets[i].data);

                    doubled += number < next;
                    next = number + 1;
                    common += (number & COMMON) != 0;
                    wrong += info.sequence >= from && !(number & bits[now]);
                }
            }
            flood_seen = next;
            netring_block_release(block);
        }
    }
    for (uint32_t i = 0; i < flood_sent; i++)
        want += (i & COMMON) != 0;
    stats = capture_stats(capture);
    tap_diag("%s: %u frames, %d swaps, %llu of them not at once; filtered late: %llu", what,
             flood_sent, swaps, (unsigned long long)unsure,
             (unsigned long long)stats.filtered_late);
    is_int(stats.dropped, 0, "%s: the ring was never full", what);
    is_int(common, want, "%s: every packet that all filters accept is there", what);
    is_int(doubled, 0, "%s: once, and in order", what);
    is_int(wrong, 0, "%s: none that the filter in force rejects", what);
    ok(stats.filtered_late > 0, "%s: some were rejected late", what);
    ok(unsure > 0 && unsure < (uint64_t)swaps, "%s: swaps of both kinds", what);
    ok(swaps > 20, "%s: swaps", what);
    adds_up(capture, what);
    capture_close(capture);
    for (size_t i = 0; i < 3; i++)
        netring_filter_free(filters[i]);
}

int main(void)
{
    tap_begin(90);
    net_enter();
    net_veth("va", "vb");
    net_await_carrier("va");
    sender = net_sender("va");
    replier = net_sender("vb");
    test_older_packets();
    test_from_block();
    test_same_verdicts();
    test_with_other_calls();
    child_run("without membarrier", no_membarrier, NULL);
    test_refused();
    for (size_t i = 0; i < 4; i++)
        child_run("a refused step", refused_steps, &i);
    test_ebpf();
    test_direction();
    child_run("an old kernel", old_kernel, NULL);
    flood("flood", 0, 200);
    flood("flood, immediate", NETRING_CAPTURE_IMMEDIATE, 40);
    close(sender);
    close(replier);
    return tap_end();
}
