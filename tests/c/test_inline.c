/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The inline walk over blocks laid out in memory, good and hostile. Needs no privilege: the one
 * function that the header calls is replaced here. Blocks are malloc'ed to their exact size, so
 * that ASan or valgrind sees a read that leaves one.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define netring_block_cursor fake_block_cursor
#include "netring_inline.h"

/* What the library would have handed out. */
struct netring_block {
    uint8_t *base;
    size_t length;
    uint32_t first, count, layout;
    int code;
    uint16_t link_type;
};

int netring_block_cursor(struct netring_block *block, struct netring_cursor *out, size_t size)
{
    if (block->code < 0)
        return block->code;
    memset(out, 0xee, size);
    out->size = sizeof *out;
    out->layout = block->layout;
    out->base = block->base;
    out->next = block->base + block->first;
    out->record = NULL;
    out->end = block->base + block->length;
    out->left = block->count;
    out->link_type = block->link_type;
    out->reserved = 0;
    return 0;
}

enum { FIRST = 48, MAC = 82, NET = 96 };

static void put16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}
static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

/* A record as the kernel writes it. */
static void record(uint8_t *at, uint32_t step, uint32_t caplen)
{
    memset(at, 0, NETRING_RECORD_SIZE);
    put32(at + NETRING_RECORD_NEXT, step);
    put32(at + NETRING_RECORD_SEC, 1700000000);
    put32(at + NETRING_RECORD_NSEC, 123456789);
    put32(at + NETRING_RECORD_CAPLEN, caplen);
    put32(at + NETRING_RECORD_LEN, caplen);
    put32(at + NETRING_RECORD_STATUS, NETRING_RECORD_STATUS_USER);
    put16(at + NETRING_RECORD_MAC, MAC);
    put16(at + NETRING_RECORD_NET, NET);
}

enum { CAPLEN = 60, STEP = (MAC + CAPLEN + 7) / 8 * 8 };

/* `count` packets of CAPLEN bytes, numbered in their first byte; the block ends with the last. */
static struct netring_block make(uint32_t count)
{
    struct netring_block b = {NULL, 0, FIRST, count, NETRING_LAYOUT_TPACKET3, 0, 1};

    b.length = FIRST + (size_t)STEP * (count - 1) + MAC + CAPLEN;
    b.base = malloc(b.length);
    if (b.base == NULL)
        abort();
    memset(b.base, 0xaa, b.length);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = b.base + FIRST + (size_t)STEP * i;
        record(at, i + 1 < count ? STEP : 0, CAPLEN);
        memset(at + MAC, (int)i, CAPLEN);
    }
    return b;
}

static uint8_t *at(struct netring_block *b, uint32_t i)
{
    return b->base + FIRST + STEP * i;
}

/* Walks it, reads every byte it is offered; the packets' numbers as text, "012", and a "!" where a
 * damaged record ended it. Frees the block. */
static const char *walk(struct netring_block *b)
{
    static char seen[64];
    static volatile uint8_t sink;
    size_t n = 0;
    struct netring_cursor c;

    netring_cursor_init(&c, b);
    while (netring_cursor_next(&c) && n < sizeof seen - 2) {
        const uint8_t *data = netring_cursor_data(&c);
        for (uint32_t i = 0; i < netring_cursor_caplen(&c); i++)
            sink = data[i];
        seen[n++] = netring_cursor_caplen(&c) == 0 ? '-' : (char)('0' + data[0]);
    }
    (void)sink;
    if (netring_cursor_damaged(&c))
        seen[n++] = '!';
    seen[n] = '\0';
    if (netring_cursor_next(&c) != 0)
        return "went on after the end";
    free(b->base);
    return seen;
}

static void walks(struct netring_block b, const char *expected, const char *what)
{
    is_str(walk(&b), expected, "%s", what);
}

static void test_walk(void)
{
    struct netring_block b;

    walks(make(1), "0", "one packet");
    walks(make(5), "01234", "five packets, the last ends with the block");
    b = make(3);
    b.count = 0;
    walks(b, "", "an empty block");
    b = make(3);
    b.count = 2;
    walks(b, "01", "num_pkts decides, not the chain of offsets");
    b = make(4);
    b.layout = NETRING_LAYOUT_TPACKET3 + 1;
    walks(b, "", "an unknown layout has no packets");
    b = make(3);
    b.code = NETRING_EBADF;
    walks(b, "", "a refused block has no packets");
    b = make(3);
    put32(at(&b, 1) + NETRING_RECORD_CAPLEN, 0);
    walks(b, "0-2", "a packet of no bytes");
}

static void test_skipped(void)
{
    struct netring_block b = make(4);

    put32(at(&b, 1) + NETRING_RECORD_STATUS, NETRING_PACKET_VLAN);
    walks(b, "023", "a record without the USER bit is skipped");
    b = make(4);
    put32(at(&b, 1) + NETRING_RECORD_STATUS, 0);
    put32(at(&b, 1) + NETRING_RECORD_CAPLEN, 0xffffffff);
    put16(at(&b, 1) + NETRING_RECORD_MAC, 0xffff);
    walks(b, "023", "old bytes in a record never filled do not end the walk");
    b = make(4);
    for (uint32_t i = 0; i < 4; i++)
        put32(at(&b, i) + NETRING_RECORD_STATUS, 0);
    walks(b, "", "all skipped");
    b = make(2);
    put32(at(&b, 1) + NETRING_RECORD_STATUS, 0);
    walks(b, "0", "the last one skipped");
}

static void test_hostile(void)
{
    static const uint32_t steps[] = {0,          1,          8,         64,         67,
                                     68,         STEP + 1,   STEP + 4,  0x7ffffff8, 0x80000000,
                                     0x80000048, 0xfffffff8, 0xffffffff};
    struct netring_block b;

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char what[64];
        b = make(4);
        put32(at(&b, 1) + NETRING_RECORD_NEXT, steps[i]);
        snprintf(what, sizeof what, "next-offset 0x%x in the second of four", steps[i]);
        walks(b, "01!", what);
    }
    b = make(4);
    put32(at(&b, 1) + NETRING_RECORD_NEXT, STEP + 4);
    record(at(&b, 2) + 4, STEP - 4, 1);
    walks(b, "01!", "a good record where no kernel puts one");
    b = make(4);
    put32(at(&b, 1) + NETRING_RECORD_NEXT, 8 * STEP);
    walks(b, "01!", "a next-offset behind the block");
    b = make(2);
    b.length = FIRST + STEP + NETRING_RECORD_SIZE - 1;
    walks(b, "0!", "a second header that does not fit by one byte");
    b = make(2);
    b.length = FIRST + STEP + NETRING_RECORD_SIZE;
    put16(at(&b, 1) + NETRING_RECORD_MAC, 0);
    put32(at(&b, 1) + NETRING_RECORD_CAPLEN, 0);
    walks(b, "0-", "a second header that just fits");
    b = make(1);
    b.first = (uint32_t)b.length - NETRING_RECORD_SIZE + 1;
    walks(b, "!", "a first record that does not fit");
    b = make(1);
    b.length = 16;
    b.first = 0;
    walks(b, "!", "a block smaller than a record");
    b = make(3);
    put32(at(&b, 2) + NETRING_RECORD_CAPLEN, CAPLEN + 1);
    walks(b, "01!", "a last packet one byte too long");
    b = make(3);
    put16(at(&b, 2) + NETRING_RECORD_MAC, MAC + 1);
    walks(b, "01!", "a last packet one byte too far");
    b = make(3);
    put32(at(&b, 1) + NETRING_RECORD_CAPLEN, 0xffffffff);
    walks(b, "0!", "a packet of 4 GiB in the middle");
    b = make(3);
    put32(at(&b, 0) + NETRING_RECORD_CAPLEN, 0xffffffff);
    put16(at(&b, 0) + NETRING_RECORD_MAC, 0xffff);
    walks(b, "!", "no sum of offset and length wraps");
    b = make(3);
    b.count = 0xffffffff;
    walks(b, "012!", "a num_pkts larger than the block");
}

static void test_fields(void)
{
    struct netring_block b = make(2);
    uint8_t *r = at(&b, 1);
    struct netring_cursor c;
    struct netring_packet p, q;
    uint16_t tci = 1, tpid = 1;
    static const uint8_t protocol[2] = {0x86, 0xdd};

    put32(r + NETRING_RECORD_LEN, 1514);
    put32(r + NETRING_RECORD_STATUS, NETRING_RECORD_STATUS_USER | NETRING_PACKET_VLAN |
                                         NETRING_PACKET_VLAN_TPID | NETRING_PACKET_CSUM_VALID |
                                         NETRING_RECORD_STATUS_TS_SOFTWARE | 0x200);
    put32(r + NETRING_RECORD_RXHASH, 0xdeadbeef);
    put32(r + NETRING_RECORD_VLAN_TCI, 0xe064);
    put16(r + NETRING_RECORD_VLAN_TPID, 0x88a8);
    memcpy(r + NETRING_RECORD_PROTOCOL, protocol, 2);
    put32(r + NETRING_RECORD_IFINDEX, 42);
    r[NETRING_RECORD_PKTTYPE] = NETRING_DIRECTION_OUTGOING;

    netring_cursor_init(&c, &b);
    ok(c.record == NULL && c.next == at(&b, 0), "the cursor starts before the first");
    ok(netring_cursor_next(&c) == 1, "the first");
    ok(netring_cursor_vlan(&c, &tci, &tpid) == 0 && tci == 0 && tpid == 0, "no tag");
    ok(netring_cursor_rxhash(&c) == 0 &&
           netring_cursor_status(&c) ==
               (NETRING_PACKET_PROTOCOL | NETRING_PACKET_DIRECTION | NETRING_PACKET_NET_OFFSET),
       "status of a plain packet");
    netring_cursor_packet(&c, &p);
    ok(p.clock == NETRING_CLOCK_COPY && p.direction == NETRING_DIRECTION_HOST, "plain clock");

    ok(netring_cursor_next(&c) == 1, "the second");
    ok(netring_cursor_data(&c) == r + MAC, "data");
    ok(netring_cursor_caplen(&c) == CAPLEN && netring_cursor_len(&c) == 1514, "lengths");
    ok(netring_cursor_time_ns(&c) == 1700000000123456789u, "time");
    ok(netring_cursor_vlan(&c, &tci, &tpid) == 1 && tci == 0xe064 && tpid == 0x88a8, "tag");
    ok(netring_cursor_vlan(&c, NULL, NULL) == 1, "tag, only whether");
    ok(netring_cursor_direction(&c) == NETRING_DIRECTION_OUTGOING, "direction");
    ok(netring_cursor_protocol(&c) == 0x86dd, "protocol, host byte order");
    ok(netring_cursor_ifindex(&c) == 42, "ifindex");
    ok(netring_cursor_rxhash(&c) == 0xdeadbeef, "rxhash");
    ok(netring_cursor_segments(&c) == 0 && netring_cursor_queue(&c) == 0,
       "in one piece, of no queue");
    ok(netring_cursor_cookie(&c) == FIRST + STEP, "the cookie");
    netring_cursor_prefetch(&c, 4);
    netring_cursor_prefetch(&c, UINT32_MAX);
    ok(netring_cursor_status(&c) ==
           (NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID | NETRING_PACKET_CSUM_VALID |
            NETRING_PACKET_TRUNCATED | NETRING_PACKET_RXHASH | NETRING_PACKET_NET_OFFSET |
            NETRING_PACKET_PROTOCOL | NETRING_PACKET_DIRECTION),
       "status passes known bits only");

    memset(&p, 0xff, sizeof p);
    netring_cursor_packet(&c, &p);
    memset(&q, 0, sizeof q);
    q.data = r + MAC;
    q.caplen = CAPLEN;
    q.len = 1514;
    q.time_ns = 1700000000123456789u;
    q.status = netring_cursor_status(&c);
    q.rxhash = 0xdeadbeef;
    q.vlan_tci = 0xe064;
    q.vlan_tpid = 0x88a8;
    q.protocol = 0x86dd;
    q.net_offset = NET - MAC;
    q.ifindex = 42;
    q.link_type = 1;
    q.direction = NETRING_DIRECTION_OUTGOING;
    q.clock = NETRING_CLOCK_SOFTWARE;
    q.cookie = FIRST + STEP;
    ok(memcmp(&p, &q, sizeof p) == 0, "all 64 bytes of the packet");

    put32(r + NETRING_RECORD_STATUS,
          NETRING_RECORD_STATUS_USER | NETRING_PACKET_VLAN | NETRING_RECORD_STATUS_TS_RAW_HARDWARE);
    put16(r + NETRING_RECORD_VLAN_TPID, 0);
    put32(r + NETRING_RECORD_VLAN_TCI, 0);
    ok(netring_cursor_vlan(&c, &tci, &tpid) == 1 && tci == 0 && tpid == 0,
       "a priority tag of 0 is a tag; a tpid not told is 0");
    netring_cursor_packet(&c, &p);
    ok(p.clock == NETRING_CLOCK_RAW_HARDWARE, "hardware clock");
    ok(netring_cursor_next(&c) == 0, "the end");
    free(b.base);
}

static void test_common(void)
{
    static const struct {
        uint16_t hatype, link_type;
    } types[] = {{1, NETRING_LINKTYPE_ETHERNET},
                 {772, NETRING_LINKTYPE_ETHERNET},
                 {65534, NETRING_LINKTYPE_RAW},
                 {803, 127},
                 {4711, NETRING_LINKTYPE_UNKNOWN}};
    struct netring_block b = make(1);
    struct netring_cursor c;
    struct netring_packet p;

    b.link_type = 127;
    netring_cursor_init(&c, &b);
    netring_cursor_next(&c);
    netring_cursor_packet(&c, &p);
    is_int(p.link_type, 127, "the link type of the capture");
    b.link_type = NETRING_LINKTYPE_UNKNOWN;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        put16(at(&b, 0) + NETRING_RECORD_HATYPE, types[i].hatype);
        netring_cursor_init(&c, &b);
        netring_cursor_next(&c);
        netring_cursor_packet(&c, &p);
        is_int(p.link_type, types[i].link_type, "the link type of hardware type %d",
               types[i].hatype);
    }
    free(b.base);
}

int main(void)
{
    tap_begin(30);
    test_walk();
    test_skipped();
    test_hostile();
    test_fields();
    test_common();
    return tap_end();
}
