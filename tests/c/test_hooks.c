/* What no kernel does: blocks that lie about themselves, and a panic inside the library. Only with
 * the library that has the test hooks. */
#include "inject.h"

#ifndef NETRING_TEST_HOOKS

int main(void)
{
    tap_skip_all("built without the test hooks");
}

#else

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <netring_inline.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A call that panics inside. */
int netring_test_panic(struct netring_capture *capture);
int netring_test_injector_panic(struct netring_injector *injector);
/* A block over the caller's memory, laid out as the kernel does a TPACKET_V3 block. */
int netring_test_block(void *memory, size_t length, struct netring_block **out);

/* ---- blocks that lie ---- */

enum {
    HEADER = 48,  /* struct tpacket_block_desc */
    MAC = 82,     /* a packet's bytes behind its record, as the kernel places them */
    FRAME = 100,  /* bytes of a packet */
    RECORD = 184, /* ALIGN8(MAC + FRAME) */
    PACKETS = 3,
    WHOLE = HEADER + PACKETS * RECORD,
};

#define BLOCK_FIELD(name) offsetof(struct tpacket_block_desc, hdr.bh1.name)
#define FIELD(record, name) (HEADER + (record)*RECORD + offsetof(struct tpacket3_hdr, name))
#define WIDTH(name) sizeof(((struct tpacket3_hdr *)NULL)->name)

static void put(uint8_t *memory, size_t at, const void *value, size_t width)
{
    memcpy(memory + at, value, width);
}

/* A valid block of three packets, in memory that ends with it. */
static uint8_t *make_block(void)
{
    struct tpacket_block_desc block;
    uint8_t *memory = calloc(1, WHOLE);

    if (!memory)
        tap_bail("out of memory");
    memset(&block, 0, sizeof block);
    block.version = TPACKET_V3;
    block.offset_to_priv = HEADER;
    block.hdr.bh1.block_status = TP_STATUS_USER;
    block.hdr.bh1.num_pkts = PACKETS;
    block.hdr.bh1.offset_to_first_pkt = HEADER;
    block.hdr.bh1.blk_len = WHOLE;
    block.hdr.bh1.seq_num = 1;
    put(memory, 0, &block, sizeof block);
    for (int i = 0; i < PACKETS; i++) {
        struct tpacket3_hdr record;
        struct sockaddr_ll address;
        uint8_t *at = memory + HEADER + i * RECORD;

        memset(&record, 0, sizeof record);
        record.tp_next_offset = i < PACKETS - 1 ? RECORD : 0;
        record.tp_sec = 1000 + (uint32_t)i;
        record.tp_snaplen = record.tp_len = FRAME;
        record.tp_status = TP_STATUS_USER;
        record.tp_mac = MAC;
        record.tp_net = MAC + ETHER_HEADER;
        memset(&address, 0, sizeof address);
        address.sll_family = 17;
        address.sll_ifindex = 1;
        address.sll_hatype = 1;
        address.sll_halen = 6;
        put(at, 0, &record, sizeof record);
        put(at, sizeof record, &address, sizeof address);
        frame_make(at + MAC, FRAME, (uint32_t)i);
    }
    return memory;
}

struct lie {
    const char *what;
    size_t at, width; /* where the lie goes; width 0: none */
    uint64_t value;
    size_t length; /* of the memory, 0: all */
    int good;      /* packets before the walk ends */
    bool damaged;  /* whether it ends early */
};

#define BLOCK_LIE(what, name, value, good, damaged)                                                \
    {                                                                                              \
        what, BLOCK_FIELD(name), 4, value, 0, good, damaged                                        \
    }
#define LIE(what, record, name, value, good, damaged)                                              \
    {                                                                                              \
        what, FIELD(record, name), WIDTH(name), value, 0, good, damaged                            \
    }
#define CUT(what, length, good)                                                                    \
    {                                                                                              \
        what, 0, 0, 0, length, good, true                                                          \
    }

static const struct lie lies[] = {
    {"no lie", 0, 0, 0, 0, 3, false},
    BLOCK_LIE("no packets", num_pkts, 0, 0, false),
    BLOCK_LIE("fewer packets than there are", num_pkts, 2, 2, false),
    BLOCK_LIE("a packet more than there is", num_pkts, 4, 3, true),
    BLOCK_LIE("four billion packets", num_pkts, 0xffffffff, 3, true),
    BLOCK_LIE("first packet behind the end", offset_to_first_pkt, WHOLE, 0, true),
    BLOCK_LIE("first packet without room", offset_to_first_pkt, WHOLE - 64, 0, true),
    BLOCK_LIE("first packet in the block's own header", offset_to_first_pkt, 0, 0, true),
    BLOCK_LIE("first packet in the rest of that header", offset_to_first_pkt, 40, 0, true),
    BLOCK_LIE("first packet at an odd place", offset_to_first_pkt, HEADER + 1, 0, true),
    BLOCK_LIE("first packet at an unaligned place", offset_to_first_pkt, HEADER + 4, 0, true),
    BLOCK_LIE("first packet far away", offset_to_first_pkt, 0xfffffff8, 0, true),
    LIE("next packet at itself", 1, tp_next_offset, 0, 2, true),
    LIE("next packet inside of itself", 1, tp_next_offset, 8, 2, true),
    LIE("next packet inside of its address", 1, tp_next_offset, 64, 2, true),
    LIE("next packet at an odd place", 1, tp_next_offset, RECORD + 1, 2, true),
    LIE("next packet at an unaligned place", 1, tp_next_offset, RECORD - 4, 2, true),
    LIE("next packet behind the end", 1, tp_next_offset, 2 * RECORD, 2, true),
    LIE("next packet far away", 1, tp_next_offset, 0x7ffffff8, 2, true),
    LIE("next packet before this one", 1, tp_next_offset, UINT32_MAX - RECORD + 1, 2, true),
    LIE("next packet, wrapping to the start", 1, tp_next_offset, UINT32_MAX - HEADER - RECORD + 1,
        2, true),
    LIE("bytes far away", 1, tp_mac, 0xffff, 1, true),
    LIE("bytes over the end", 2, tp_mac, RECORD - FRAME + 1, 2, true),
    LIE("bytes up to the end", 2, tp_mac, RECORD - FRAME, 3, false),
    LIE("four billion bytes", 1, tp_snaplen, 0xffffffff, 1, true),
    LIE("a length that wraps", 1, tp_snaplen, UINT32_MAX - MAC + 1, 1, true),
    LIE("a byte too many", 2, tp_snaplen, RECORD - MAC + 1, 2, true),
    LIE("as many bytes as there are", 2, tp_snaplen, RECORD - MAC, 3, false),
    LIE("a slot that was never filled", 1, tp_status, 0, 2, false),
    LIE("a last packet that says where the next one is", 2, tp_next_offset, RECORD, 3, false),
    CUT("memory that ends in the last packet", WHOLE - 8, 2),
    CUT("memory that ends in the last record", HEADER + 2 * RECORD + 64, 2),
    {"an unfilled slot without room for its record", FIELD(2, tp_status), WIDTH(tp_status), 0,
     HEADER + 2 * RECORD + 64, 2, true},
    CUT("memory that ends before the last record", HEADER + 2 * RECORD, 2),
    CUT("memory that ends in the first record", HEADER + 64, 0),
    CUT("memory that ends with the block's header", HEADER, 0),
};

static uint8_t *make_lie(const struct lie *lie, size_t *length)
{
    uint8_t *memory = make_block();
    uint32_t word = (uint32_t)lie->value;
    uint16_t half = (uint16_t)lie->value;

    put(memory, lie->at, lie->width == 2 ? (void *)&half : (void *)&word, lie->width);
    *length = lie->length ? lie->length : WHOLE;
    memory = realloc(memory, *length);
    if (!memory)
        tap_bail("out of memory");
    return memory;
}

/* Every byte that the packet claims, so that a memory checker sees them. */
static unsigned touch(const uint8_t *data, uint32_t caplen)
{
    unsigned sum = 0;

    for (uint32_t i = 0; i < caplen; i++)
        sum += data[i];
    return sum;
}

static bool inside(const uint8_t *memory, size_t length, const uint8_t *data, uint32_t caplen)
{
    return data >= memory && caplen <= length && (size_t)(data - memory) <= length - caplen;
}

static void test_lie(const struct lie *lie)
{
    struct netring_packet packets[PACKETS + 2], walked;
    struct netring_cursor cursor;
    struct netring_block *block = NULL;
    size_t length;
    uint8_t *memory = make_lie(lie, &length);
    int n = 0, rc, walk = 0, outside = 0, unlike = 0;

    if (!is_int(netring_test_block(memory, length, &block), 0, "%s: a block", lie->what))
        goto out;
    /* One packet a call: nothing may come after the damage. */
    while (n < (int)COUNT(packets) &&
           (rc = netring_block_read(block, &packets[n], sizeof packets[n], 1)) == 1)
        n++;
    is_int(n, lie->good, "%s: packets read", lie->what);
    is_str(netring_err_name(rc), netring_err_name(lie->damaged ? NETRING_EIO : 0), "%s: and then",
           lie->what);
    for (int i = 0; i < n; i++) {
        if (!inside(memory, length, packets[i].data, packets[i].caplen))
            outside++;
        else
            touch(packets[i].data, packets[i].caplen);
    }
    is_int(outside, 0, "%s: all of them inside of the block", lie->what);

    netring_cursor_init(&cursor, block);
    while (walk < (int)COUNT(packets) && netring_cursor_next(&cursor)) {
        netring_cursor_packet(&cursor, &walked);
        unlike += walk >= n || memcmp(&walked, &packets[walk], sizeof walked) != 0;
        walk++;
    }
    is_int(walk, n, "%s: the inline cursor finds as many", lie->what);
    is_int(unlike, 0, "%s: the same ones", lie->what);
    is_int(netring_cursor_damaged(&cursor), lie->damaged, "%s: and says how it ended", lie->what);

    netring_block_rewind(block);
    memset(packets, 0, sizeof packets);
    rc = netring_block_read(block, packets, sizeof *packets, COUNT(packets));
    is_int(rc, n || !lie->damaged ? n : NETRING_EIO, "%s: read at once", lie->what);
    is_int(netring_block_release(block), 0, "%s: released", lie->what);
out:
    free(memory);
}

static void test_memory(void)
{
    struct netring_block *block = NULL;
    uint8_t *memory = make_block();

    is_int(netring_test_block(NULL, WHOLE, &block), NETRING_EINVAL, "no memory");
    is_int(netring_test_block(memory, WHOLE, NULL), NETRING_EINVAL, "nowhere to put the block");
    is_int(netring_test_block(memory, HEADER - 8, &block), NETRING_EINVAL,
           "memory without room for the block's header");
    free(memory);
}

/* ---- a panic ---- */

static void test_panic(void)
{
    struct netring_capture_config config = page_config(4);
    int sender = net_sender("va");
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *block = block_of(capture, sender, 0, 3, 60), *none;
    struct netring_capture *other = capture_open("vb", &config);
    struct netring_packet packets[4];
    struct netring_stats stats;
    struct netring_packet packet;
    struct footprint before = footprint_now(), after;

    errno = 0;
    is_int(netring_test_panic(capture), NETRING_EPANIC, "a panic is caught");
    is_int(errno, EIO, "a panic: errno");
    errno = 0;
    is_int(netring_capture_next_block(capture, 0, &none), NETRING_EPANIC,
           "the handle is poisoned: next_block");
    is_int(errno, EIO, "the handle is poisoned: errno");
    is_int(netring_capture_stats(capture, &stats, sizeof stats), NETRING_EPANIC,
           "the handle is poisoned: stats");
    is_int(netring_capture_flush(capture), NETRING_EPANIC, "the handle is poisoned: flush");
    is_int(netring_capture_next_packet(capture, 0, &packet, sizeof packet), NETRING_EPANIC,
           "the handle is poisoned: next_packet");
    is_int(netring_capture_fd(capture), NETRING_EPANIC, "the handle is poisoned: fd");

    is_int(netring_block_read(block, packets, sizeof *packets, 4), 3,
           "a block of it can still be read");
    is_int(netring_block_release(block), 0, "and released");
    netring_block_release(block_of(other, sender, 3, 3, 60));
    is_int(capture_stats(other).delivered, 3, "another capture goes on");
    is_int(netring_capture_close(capture), 0, "the poisoned handle is closed");
    is_int(netring_capture_close(capture), NETRING_EBADF, "once");
    after = footprint_now();
    ok(after.descriptors < before.descriptors && after.mappings == before.mappings - 1,
       "which ends its socket and its mapping");
    capture_close(other);
    close(sender);
}

static void *panics(void *user)
{
    return (void *)(intptr_t)netring_test_panic(user);
}

static void *closes(void *user)
{
    return (void *)(intptr_t)netring_capture_close(user);
}

/* A call that panics while its capture is being closed spoils that capture, not the next one, which
 * gets its place. The panic's message goes into a full pipe: it waits until the close has begun. */
static void test_panic_during_close(void)
{
    struct netring_capture_config config = page_config(2);
    struct netring_capture *capture = capture_open("vb", &config), *next;
    struct netring_capture_info info;
    int64_t end = now_ms() + tap_patience(2000);
    int ends[2], standard_error = dup(STDERR_FILENO);
    pthread_t panic, close_call;
    void *panicked, *closed;
    char bytes[4096];

    memset(bytes, '.', sizeof bytes);
    if (standard_error < 0 || pipe(ends) != 0)
        tap_bail("pipe: %s", strerror(errno));
    for (int i = 0; i < 2; i++)
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
    while (write(ends[1], bytes, sizeof bytes) > 0)
        ;
    fcntl(ends[1], F_SETFL, 0);
    dup2(ends[1], STDERR_FILENO);
    pthread_create(&panic, NULL, panics, capture);
    sleep_ms(tap_patience(50));
    pthread_create(&close_call, NULL, closes, capture);
    while (netring_capture_info(capture, &info, sizeof info) != NETRING_EBADF && now_ms() < end)
        sleep_ms(1);
    while (read(ends[0], bytes, sizeof bytes) > 0)
        ;
    pthread_join(panic, &panicked);
    pthread_join(close_call, &closed);
    dup2(standard_error, STDERR_FILENO);
    close(standard_error);
    close(ends[0]);
    close(ends[1]);
    ok(now_ms() < end, "a panic during the close: the close had begun");
    is_int((intptr_t)panicked, NETRING_EPANIC, "a panic during the close: caught");
    is_int((intptr_t)closed, 0, "a panic during the close: closed");
    next = capture_open("vb", &config);
    is_int(netring_capture_info(next, &info, sizeof info), 0,
           "a panic during the close: the next capture is sound");
    capture_close(next);
}

/* With a slot open and a frame committed, which the close still hands over. */
static void test_injector_panic(const struct method *method)
{
    struct netring_injector_config config = inject_config(method->method, 16);
    struct footprint before = footprint_now();
    struct netring_injector *injector = injector_open("va", &config), *other;
    struct netring_injector_stats stats;
    struct netring_slot slots[3];
    struct sink sink;
    int rc;

    sink_open(&sink, "vb");
    other = injector_open("va", &config);
    must_reserve(injector, slots, 3);
    for (uint32_t i = 0; i < 3; i++)
        slots[i].len = stream_make(slots[i].data, i);
    must_commit(injector, slots, 2);
    errno = 0;
    is_int(netring_test_injector_panic(injector), NETRING_EPANIC, "%s: a panic is caught",
           method->name);
    is_int(errno, EIO, "%s: a panic: errno", method->name);
    is_int(netring_injector_commit(injector, slots + 2, sizeof *slots, 1), NETRING_EPANIC,
           "%s: the handle is poisoned: commit", method->name);
    is_int(netring_injector_reserve(injector, slots, sizeof *slots, 1, -1), NETRING_EPANIC,
           "%s: the handle is poisoned: reserve", method->name);
    is_int(netring_injector_flush(injector), NETRING_EPANIC, "%s: the handle is poisoned: flush",
           method->name);
    is_int(netring_injector_drain(injector, -1), NETRING_EPANIC,
           "%s: the handle is poisoned: drain", method->name);
    is_int(netring_injector_stats(injector, &stats, sizeof stats), NETRING_EPANIC,
           "%s: the handle is poisoned: stats", method->name);
    commit_stream(other, 100, 5);
    is_int(netring_injector_flush(other), 5, "%s: another injector goes on", method->name);
    sink_is_stream(&sink, 100, 5, "another injector");
    rc = netring_injector_close(injector);
    ok(rc == 0 || rc == 2, "%s: the poisoned handle is closed (%d)", method->name, rc);
    if (rc == 0)
        sink_is_stream(&sink, 0, 2, "handed over by the close");
    is_int(netring_injector_close(injector), NETRING_EBADF, "%s: once", method->name);
    injector_close(other);
    sink_close(&sink);
    is_footprint(before, method->name);
}

int main(void)
{
    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    for (size_t i = 0; i < COUNT(lies); i++)
        test_lie(&lies[i]);
    test_memory();
    test_panic();
    test_panic_during_close();
    for (size_t i = 0; i < COUNT(methods); i++)
        test_injector_panic(&methods[i]);
    return tap_end();
}

#endif
