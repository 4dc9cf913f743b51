/* Which packets, changed while the capture is open: another filter, none, a locked one, an eBPF
 * program; and the direction. Packets that were in the ring at the time of a change are seen
 * through the new filter, and none that both accept is lost, under a sender that does not stop.
 *
 * no-valgrind: system calls and numbers, which ASan and the Rust tests see as well */
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

__attribute__((unused)) static struct netring_filter *keeping(uint32_t bytes)
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

    is_int(stats.received,
           stats.delivered + stats.filtered_late + stats.looped + stats.pending,
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

        if (!(i & bits))
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

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    net_await_carrier("va");
    sender = net_sender("va");
    replier = net_sender("vb");
    test_older_packets();
    close(sender);
    close(replier);
    return tap_end();
}
