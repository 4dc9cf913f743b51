/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the benchmarks share: clocks, medians, the consumer that all ways of reading feed, and the
 * hand-written loop over a TPACKET_V3 block that they are held against. */
#ifndef COMMON_H
#define COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <linux/if_packet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define KIB 1024u
#define MIB (1024u * 1024u)

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static inline void sleep_us(long microseconds)
{
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};

    nanosleep(&time, NULL);
}

static inline int compare_doubles(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;

    return (a > b) - (a < b);
}

/* The value below which `share` of them lie; sorts them. 0.5: the median. */
static inline double quantile(double *values, size_t count, double share)
{
    size_t at = (size_t)(share * (double)count);

    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, compare_doubles);
    return values[at < count ? at : count - 1];
}

/* The consumer: the length, and the packet's first `bytes` bytes in words of 8. */
static inline uint64_t consume(const uint8_t *data, uint32_t caplen, size_t bytes)
{
    uint64_t total = caplen;

    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;

        memcpy(&word, data + i, sizeof word);
        total += word;
    }
    return total;
}

/* What a careful programmer writes with <linux/if_packet.h>, with the checks of the inline walk:
 * record inside the block and aligned, filled, packet inside the block. */
static inline uint64_t walk_by_hand(const uint8_t *block, size_t length, size_t bytes,
                                    uint64_t *count)
{
    enum { HEADER = TPACKET_ALIGN(sizeof(struct tpacket3_hdr)) + sizeof(struct sockaddr_ll) };
    const struct tpacket_block_desc *head = (const void *)block;
    const uint8_t *at = block + head->hdr.bh1.offset_to_first_pkt;
    const uint8_t *const end = block + length;
    uint32_t left = head->hdr.bh1.num_pkts;
    uint64_t total = 0, seen = 0;

    for (; left != 0; left--) {
        const struct tpacket3_hdr *record = (const void *)at;
        uint32_t step;

        if ((uintptr_t)at > (uintptr_t)end - HEADER || ((uintptr_t)at & 7) != 0)
            break;
        step = record->tp_next_offset;
        if ((record->tp_status & TP_STATUS_USER) != 0) {
            if ((uintptr_t)at + record->tp_mac + record->tp_snaplen > (uintptr_t)end)
                break;
            total += consume(at + record->tp_mac, record->tp_snaplen, bytes);
            seen++;
        }
        if (step < HEADER && left != 1)
            break;
        at += step;
    }
    *count += seen;
    return total;
}

#endif
