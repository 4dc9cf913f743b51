/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * When packets arrived on an interface, by the kernel's clock, and the 8 bytes each carries: a ring
 * large enough for all of them, which nobody reads while they come, so that reading disturbs
 * nothing. By hand, with nothing of the library. */
#ifndef ARRIVALS_H
#define ARRIVALS_H

#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../tests/c/net.h"

enum { ARRIVALS_VALUE_AT = 14, ARRIVALS_FRAME = 128, ARRIVALS_BLOCK = 1 << 20 };
enum { ARRIVALS_IN_A_BLOCK = ARRIVALS_BLOCK / ARRIVALS_FRAME };

struct arrival {
    int64_t ns; /* CLOCK_REALTIME */
    uint64_t value;
    uint32_t length;
};

struct arrivals {
    int fd;
    uint32_t blocks;
    uint8_t *ring;
};

/* Has room for 8192 packets a block. */
static inline struct arrivals arrivals_open(const char *name, uint32_t blocks)
{
    /* ETHERTYPE_TEST: the Ethernet header and the 8 bytes; else nothing. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETHERTYPE_TEST, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, ARRIVALS_VALUE_AT + 8),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {.len = COUNT(code), .filter = code};
    struct tpacket_req request = {
        .tp_block_size = ARRIVALS_BLOCK,
        .tp_block_nr = blocks,
        .tp_frame_size = ARRIVALS_FRAME,
        .tp_frame_nr = ARRIVALS_IN_A_BLOCK * blocks,
    };
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETHERTYPE_TEST), /* received only */
        .sll_ifindex = (int)net_index(name),
    };
    struct arrivals arrivals = {
        .fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), .blocks = blocks, .ring = MAP_FAILED};
    int version = TPACKET_V2, fd = arrivals.fd;

    if (fd >= 0 && setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0 &&
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0 &&
        bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        arrivals.ring =
            mmap(NULL, (size_t)ARRIVALS_BLOCK * blocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (arrivals.ring == MAP_FAILED)
        tap_bail("a ring on %s: %s", name, strerror(errno));
    return arrivals;
}

/* All that arrived since the open, once, in order; then it is closed. None may have been lost. */
static inline size_t arrivals_take(struct arrivals *arrivals, struct arrival *out, size_t most)
{
    struct tpacket_stats stats;
    socklen_t size = sizeof stats;
    size_t count = 0;

    sleep_us(2000);
    for (size_t i = 0; i < (size_t)arrivals->blocks * ARRIVALS_IN_A_BLOCK && count < most; i++) {
        const struct tpacket2_hdr *frame = (const void *)(arrivals->ring + i * ARRIVALS_FRAME);

        if ((__atomic_load_n(&frame->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) == 0)
            break;
        out[count].ns = frame->tp_sec * 1000000000ll + frame->tp_nsec;
        out[count].length = frame->tp_len;
        memcpy(&out[count++].value, (const uint8_t *)frame + frame->tp_mac + ARRIVALS_VALUE_AT, 8);
    }
    if (getsockopt(arrivals->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) != 0 ||
        stats.tp_drops != 0)
        tap_bail("the receiver lost %u packets", stats.tp_drops);
    munmap(arrivals->ring, (size_t)ARRIVALS_BLOCK * arrivals->blocks);
    close(arrivals->fd);
    return count;
}

#endif
