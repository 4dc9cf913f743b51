/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Instructions a packet, for callgrind (instructions.sh): each way through a block is run over a
 * block of few and a block of many packets in memory; what the many cost more, divided by how many
 * more they are, is the cost of a packet. No privilege, no clock, and the same result on every run.
 *
 * Prints the name of each measured call, in order. Linked with the library that has the test hooks:
 * a block over memory of one's own is only to be had there.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common.h"

#include <netring.h>
#include <netring_inline.h>

int netring_test_block(uint64_t *memory, size_t length, struct netring_block **out);
int netring_test_packets_block(const struct netring_packet *packets, size_t count,
                               const void *pieces, size_t piece_count, uint32_t *returned,
                               struct netring_block **out);

enum { FEW = 512, MANY = 512 + 4096 };
enum { FIRST = 48, MAC = 82, NET = 96, CAPLEN = 64, STEP = (MAC + CAPLEN + 7) / 8 * 8 };
enum { BATCH = 64, BYTES = 8 };
#define LENGTH (FIRST + (size_t)STEP * MANY)

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- a block as the kernel writes it (af_packet.c tpacket_rcv, prb_close_block) ---- */

static uint8_t *memory;

static void lay_out(uint32_t count)
{
    struct tpacket_block_desc *head = (void *)memory;

    memset(memory, 0, LENGTH);
    head->version = TPACKET_V3;
    head->hdr.bh1.block_status = TP_STATUS_USER;
    head->hdr.bh1.num_pkts = count;
    head->hdr.bh1.offset_to_first_pkt = FIRST;
    head->hdr.bh1.seq_num = 1;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = memory + FIRST + (size_t)STEP * i;
        struct tpacket3_hdr *record = (void *)at;
        struct sockaddr_ll *from = (void *)(at + TPACKET_ALIGN(sizeof *record));

        record->tp_next_offset = i + 1 < count ? STEP : 0;
        record->tp_sec = 1700000000;
        record->tp_nsec = i;
        record->tp_snaplen = CAPLEN;
        record->tp_len = CAPLEN;
        record->tp_status = TP_STATUS_USER | TP_STATUS_CSUM_VALID;
        record->tp_mac = MAC;
        record->tp_net = NET;
        record->hv1.tp_rxhash = i + 1;
        from->sll_protocol = 0x0008;
        from->sll_ifindex = 2;
        from->sll_hatype = 1;
        from->sll_halen = 6;
        memset(at + MAC, (int)i, CAPLEN);
    }
}

/* The packets of that block as an AF_XDP queue has them. */
static void describe(struct netring_packet *packets, uint32_t count)
{
    memset(packets, 0, count * sizeof *packets);
    for (uint32_t i = 0; i < count; i++) {
        packets[i].data = memory + FIRST + (size_t)STEP * i + MAC;
        packets[i].caplen = packets[i].len = CAPLEN;
        packets[i].time_ns = 1700000000000000000;
        packets[i].link_type = NETRING_LINKTYPE_ETHERNET;
    }
}

/* ---- the ways through it ---- */

static uint64_t sum; /* what the consumers add up; the same for every way */

static void hand(struct netring_block *block)
{
    uint64_t count = 0;

    (void)block;
    sum += walk_by_hand(memory, LENGTH, 0, &count);
}

static void hand_data(struct netring_block *block)
{
    uint64_t count = 0;

    (void)block;
    sum += walk_by_hand(memory, LENGTH, BYTES, &count);
}

static inline uint64_t by_cursor(struct netring_block *block, size_t bytes)
{
    struct netring_cursor cursor;
    uint64_t total = 0;

    netring_cursor_init(&cursor, block);
    while (netring_cursor_next(&cursor))
        total += consume(netring_cursor_data(&cursor), netring_cursor_caplen(&cursor), bytes);
    return total;
}

static void walk(struct netring_block *block)
{
    sum += by_cursor(block, 0);
}

static void walk_data(struct netring_block *block)
{
    sum += by_cursor(block, BYTES);
}

/* Somebody who wants the whole struct: the compiler may leave no field out. */
static void walk_packet(struct netring_block *block)
{
    struct netring_cursor cursor;
    struct netring_packet packet;

    netring_cursor_init(&cursor, block);
    while (netring_cursor_next(&cursor)) {
        netring_cursor_packet(&cursor, &packet);
        __asm__ volatile("" : : "r"(&packet) : "memory");
        sum += packet.caplen;
    }
}

static inline uint64_t by_read(struct netring_block *block, size_t batch, size_t bytes)
{
    struct netring_packet packets[BATCH];
    uint64_t total = 0;
    int count;

    while ((count = netring_block_read(block, packets, sizeof *packets, batch)) > 0) {
        for (int i = 0; i < count; i++)
            total += consume(packets[i].data, packets[i].caplen, bytes);
    }
    return total;
}

static void read_batch(struct netring_block *block)
{
    sum += by_read(block, BATCH, 0);
}

static void read_batch_data(struct netring_block *block)
{
    sum += by_read(block, BATCH, BYTES);
}

static void read_one(struct netring_block *block)
{
    sum += by_read(block, 1, 0);
}

static void read_one_data(struct netring_block *block)
{
    sum += by_read(block, 1, BYTES);
}

/* ---- what callgrind counts ---- */

typedef void way(struct netring_block *block);

/* Collection is on inside of this function alone, and dumped when it returns. */
__attribute__((noinline)) void bench_measure(way *volatile go, struct netring_block *block);

void bench_measure(way *volatile go, struct netring_block *block)
{
    go(block);
}

int main(void)
{
    static const struct {
        const char *name;
        way *go;
        bool array;
    } ways[] = {
        {"hand", hand, false},
        {"hand+data", hand_data, false},
        {"inline", walk, false},
        {"inline+data", walk_data, false},
        {"inline+packet", walk_packet, false},
        {"read64", read_batch, false},
        {"read64+data", read_batch_data, false},
        {"read1", read_one, false},
        {"read1+data", read_one_data, false},
        {"array-inline", walk, true},
        {"array-inline+data", walk_data, true},
        {"array-inline+packet", walk_packet, true},
        {"array-read64", read_batch, true},
        {"array-read64+data", read_batch_data, true},
    };
    static const uint32_t counts[] = {FEW, MANY};
    static struct netring_packet packets[MANY];
    uint32_t returned = 0;
    uint64_t expected[2][2] = {{0, 0}, {0, 0}}; /* by size and by whether data is read */

    memory = aligned_alloc(4096, (LENGTH + 4095) / 4096 * 4096);
    if (memory == NULL)
        fail("memory");
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        bool data = strstr(ways[w].name, "+data") != NULL;

        for (size_t n = 0; n < 2; n++) {
            struct netring_block *block;

            lay_out(counts[n]);
            describe(packets, counts[n]);
            if (ways[w].array
                    ? netring_test_packets_block(packets, counts[n], NULL, 0, &returned, &block) < 0
                    : netring_test_block((uint64_t *)(void *)memory, LENGTH, &block) < 0)
                fail("a block");
            sum = 0;
            bench_measure(ways[w].go, block);
            if (netring_block_release(block) < 0)
                fail("netring_block_release");
            if (expected[n][data] == 0)
                expected[n][data] = sum;
            if (sum == 0 || sum != expected[n][data]) {
                fprintf(stderr, "%s: saw other packets than the hand-written loop\n", ways[w].name);
                return 1;
            }
            printf("%s %u\n", ways[w].name, counts[n]);
        }
    }
    free(memory);
    return 0;
}
