/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * An AF_XDP socket as one writes it by hand: with libxdp, and where that is not installed with
 * rings of one's own under the same names. One queue, frames of 2048 bytes, the first half of them
 * to receive into and the others to send from. */
#ifndef XSK_H
#define XSK_H

#include "common.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../tests/c/net.h"

enum { XSK_FRAME = 2048, XSK_FRAMES = 4096 /* each way */, XSK_BATCH = 64 };
/* Instead of a map: libxdp loads its program; none, it is to send only. */
enum { XSK_OWN_PROGRAM = -1, XSK_NO_MAP = -2 };
#define XSK_AREA (2ul * XSK_FRAMES * XSK_FRAME)

#ifdef HAVE_LIBXDP
#include <bpf/libbpf.h>
#include <xdp/libxdp.h>
#include <xdp/xsk.h>
#else

struct xsk_ring {
    uint32_t cached_prod, cached_cons, mask, size;
    uint32_t *producer, *consumer, *flags;
    void *ring, *map;
    size_t bytes;
};
#define xsk_ring_prod xsk_ring
#define xsk_ring_cons xsk_ring

static inline uint32_t xsk_ring_cons__peek(struct xsk_ring *cons, uint32_t count, uint32_t *at)
{
    if (cons->cached_prod == cons->cached_cons)
        cons->cached_prod = __atomic_load_n(cons->producer, __ATOMIC_ACQUIRE);
    if (cons->cached_prod - cons->cached_cons < count)
        count = cons->cached_prod - cons->cached_cons;
    *at = cons->cached_cons;
    cons->cached_cons += count;
    return count;
}

static inline void xsk_ring_cons__release(struct xsk_ring *cons, uint32_t count)
{
    __atomic_store_n(cons->consumer, *cons->consumer + count, __ATOMIC_RELEASE);
}

static inline uint32_t xsk_ring_prod__reserve(struct xsk_ring *prod, uint32_t count, uint32_t *at)
{
    if (prod->cached_cons + prod->size - prod->cached_prod < count) {
        prod->cached_cons = __atomic_load_n(prod->consumer, __ATOMIC_ACQUIRE);
        if (prod->cached_cons + prod->size - prod->cached_prod < count)
            return 0;
    }
    *at = prod->cached_prod;
    prod->cached_prod += count;
    return count;
}

static inline void xsk_ring_prod__submit(struct xsk_ring *prod, uint32_t count)
{
    __atomic_store_n(prod->producer, *prod->producer + count, __ATOMIC_RELEASE);
}

static inline int xsk_ring_prod__needs_wakeup(const struct xsk_ring *prod)
{
    return *(volatile uint32_t *)prod->flags & XDP_RING_NEED_WAKEUP;
}

static inline const struct xdp_desc *xsk_ring_cons__rx_desc(const struct xsk_ring *rx, uint32_t at)
{
    return (const struct xdp_desc *)rx->ring + (at & rx->mask);
}

static inline struct xdp_desc *xsk_ring_prod__tx_desc(struct xsk_ring *tx, uint32_t at)
{
    return (struct xdp_desc *)tx->ring + (at & tx->mask);
}

static inline uint64_t *xsk_ring_prod__fill_addr(struct xsk_ring *fill, uint32_t at)
{
    return (uint64_t *)fill->ring + (at & fill->mask);
}

static inline const uint64_t *xsk_ring_cons__comp_addr(const struct xsk_ring *comp, uint32_t at)
{
    return (const uint64_t *)comp->ring + (at & comp->mask);
}
#endif

struct xsk {
    struct xsk_ring_prod fill, tx;
    struct xsk_ring_cons rx, comp;
    uint8_t *area;
    int fd;
#ifdef HAVE_LIBXDP
    struct xsk_umem *umem;
    struct xsk_socket *socket;
#endif
    uint64_t free[XSK_FRAMES]; /* frames to send from */
    uint32_t free_count;
};

static inline void xsk_must(bool done, const char *what)
{
    if (!done)
        tap_bail("%s: %s", what, strerror(errno));
}

/* In the XSKMAP of a program that is attached. */
static inline void xsk_into_map(int map, int fd)
{
    union bpf_attr attr;
    uint32_t key = 0;

    memset(&attr, 0, sizeof attr);
    attr.map_fd = (uint32_t)map;
    attr.key = (uintptr_t)&key;
    attr.value = (uintptr_t)&fd;
    xsk_must(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof attr) == 0, "XSKMAP");
}

#ifdef HAVE_LIBXDP
static inline void xsk_open_socket(struct xsk *xsk, const char *name, int map, bool skb)
{
    const struct xsk_umem_config umem = {
        .fill_size = XSK_FRAMES,
        .comp_size = XSK_FRAMES,
        .frame_size = XSK_FRAME,
    };
    const struct xsk_socket_config config = {
        .rx_size = XSK_FRAMES,
        .tx_size = XSK_FRAMES,
        .libxdp_flags = map == XSK_OWN_PROGRAM ? 0 : XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
        .xdp_flags = skb ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE,
        .bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
    };
    int rc = -EBUSY;

    errno = -xsk_umem__create(&xsk->umem, xsk->area, XSK_AREA, &xsk->fill, &xsk->comp, &umem);
    xsk_must(errno == 0, "xsk_umem__create");
    /* A queue stays in use for a while after its socket was closed. */
    for (int try = 0; try < 500 && rc == -EBUSY; try++) {
        rc = xsk_socket__create(&xsk->socket, name, 0, xsk->umem, &xsk->rx, &xsk->tx, &config);
        if (rc == -EBUSY)
            sleep_us(2000);
    }
    errno = -rc;
    xsk_must(rc == 0, "xsk_socket__create");
    xsk->fd = xsk_socket__fd(xsk->socket);
}

static inline void xsk_close(struct xsk *xsk)
{
    xsk_socket__delete(xsk->socket);
    xsk_umem__delete(xsk->umem);
    munmap(xsk->area, XSK_AREA);
}
#else
static inline void xsk_map_ring(struct xsk *xsk, struct xsk_ring *ring, int option, off_t page,
                                const struct xdp_ring_offset *offset, size_t entry)
{
    const uint32_t size = XSK_FRAMES;

    xsk_must(setsockopt(xsk->fd, SOL_XDP, option, &size, sizeof size) == 0, "ring size");
    memset(ring, 0, sizeof *ring);
    ring->bytes = offset->desc + size * entry;
    ring->map =
        mmap(NULL, ring->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, xsk->fd, page);
    xsk_must(ring->map != MAP_FAILED, "mmap of a ring");
    ring->producer = (uint32_t *)((uint8_t *)ring->map + offset->producer);
    ring->consumer = (uint32_t *)((uint8_t *)ring->map + offset->consumer);
    ring->flags = (uint32_t *)((uint8_t *)ring->map + offset->flags);
    ring->ring = (uint8_t *)ring->map + offset->desc;
    ring->size = size;
    ring->mask = size - 1;
}

static inline void xsk_open_socket(struct xsk *xsk, const char *name, int map, bool skb)
{
    struct xdp_umem_reg memory = {
        .addr = (uintptr_t)xsk->area,
        .len = XSK_AREA,
        .chunk_size = XSK_FRAME,
    };
    struct sockaddr_xdp address = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
        .sxdp_ifindex = net_index(name),
    };
    struct xdp_mmap_offsets offsets;
    socklen_t length = sizeof offsets;
    int rc = -1;

    (void)map;
    (void)skb;
    xsk->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    xsk_must(xsk->fd >= 0, "socket(AF_XDP)");
    xsk_must(setsockopt(xsk->fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof memory) == 0,
             "XDP_UMEM_REG");
    xsk_must(getsockopt(xsk->fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) == 0,
             "XDP_MMAP_OFFSETS");
    xsk_map_ring(xsk, &xsk->rx, XDP_RX_RING, XDP_PGOFF_RX_RING, &offsets.rx,
                 sizeof(struct xdp_desc));
    xsk_map_ring(xsk, &xsk->tx, XDP_TX_RING, XDP_PGOFF_TX_RING, &offsets.tx,
                 sizeof(struct xdp_desc));
    xsk_map_ring(xsk, &xsk->fill, XDP_UMEM_FILL_RING, (off_t)XDP_UMEM_PGOFF_FILL_RING, &offsets.fr,
                 sizeof(uint64_t));
    xsk_map_ring(xsk, &xsk->comp, XDP_UMEM_COMPLETION_RING, (off_t)XDP_UMEM_PGOFF_COMPLETION_RING,
                 &offsets.cr, sizeof(uint64_t));
    /* A queue stays in use for a while after its socket was closed. */
    for (int try = 0; try < 500 && rc != 0; try++) {
        rc = bind(xsk->fd, (struct sockaddr *)&address, sizeof address);
        if (rc != 0 && errno != EBUSY)
            break;
        if (rc != 0)
            sleep_us(2000);
    }
    xsk_must(rc == 0, "bind(AF_XDP)");
}

static inline void xsk_close(struct xsk *xsk)
{
    munmap(xsk->rx.map, xsk->rx.bytes);
    munmap(xsk->tx.map, xsk->tx.bytes);
    munmap(xsk->fill.map, xsk->fill.bytes);
    munmap(xsk->comp.map, xsk->comp.bytes);
    close(xsk->fd);
    munmap(xsk->area, XSK_AREA);
}
#endif

/* With all of its frames to receive into in the fill ring, and in that map unless negative. */
static inline void xsk_open(struct xsk *xsk, const char *name, int map, bool skb)
{
    uint32_t at = 0;

    memset(xsk, 0, sizeof *xsk);
    xsk->area = mmap(NULL, XSK_AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    xsk_must(xsk->area != MAP_FAILED, "mmap of frames");
    xsk_open_socket(xsk, name, map, skb);
    xsk_must(xsk_ring_prod__reserve(&xsk->fill, XSK_FRAMES, &at) == XSK_FRAMES, "fill ring");
    for (uint64_t i = 0; i < XSK_FRAMES; i++) {
        *xsk_ring_prod__fill_addr(&xsk->fill, at++) = i * XSK_FRAME;
        xsk->free[xsk->free_count++] = (2 * XSK_FRAMES - 1 - i) * XSK_FRAME;
    }
    xsk_ring_prod__submit(&xsk->fill, XSK_FRAMES);
    if (map >= 0)
        xsk_into_map(map, xsk->fd);
}

/* Takes what is there, up to a batch, and gives the frames back; how many. `ahead`: that many
 * packets further on are fetched meanwhile. */
static inline uint32_t xsk_take(struct xsk *xsk, size_t bytes, uint32_t ahead, uint64_t *sum)
{
    uint32_t rx = 0, fill = 0, count = xsk_ring_cons__peek(&xsk->rx, XSK_BATCH, &rx);

    if (count == 0)
        return 0;
    /* It has room for all frames, as soon as the kernel says that it has taken these: that comes
     * after their packets. */
    while (xsk_ring_prod__reserve(&xsk->fill, count, &fill) != count)
        ;
    for (uint32_t i = 0; i < count; i++) {
        const struct xdp_desc *packet = xsk_ring_cons__rx_desc(&xsk->rx, rx + i);

        if (ahead != 0 && i + ahead < count)
            __builtin_prefetch(xsk->area + xsk_ring_cons__rx_desc(&xsk->rx, rx + i + ahead)->addr);
        *sum += consume(xsk->area + packet->addr, packet->len, bytes);
        *xsk_ring_prod__fill_addr(&xsk->fill, fill + i) = packet->addr;
    }
    xsk_ring_prod__submit(&xsk->fill, count);
    xsk_ring_cons__release(&xsk->rx, count);
    if (xsk_ring_prod__needs_wakeup(&xsk->fill))
        recvfrom(xsk->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
    return count;
}

/* Has the kernel take what is in the transmit ring: 32 frames a call. */
static inline void xsk_kick(struct xsk *xsk)
{
    if (!xsk_ring_prod__needs_wakeup(&xsk->tx))
        return;
    while (sendto(xsk->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0)
        xsk_must(errno == EAGAIN || errno == EBUSY || errno == ENOBUFS, "sendto(AF_XDP)");
}

/* Takes back the frames that are sent. */
static inline void xsk_reclaim(struct xsk *xsk)
{
    uint32_t at = 0, count = xsk_ring_cons__peek(&xsk->comp, XSK_FRAMES, &at);

    for (uint32_t i = 0; i < count; i++)
        xsk->free[xsk->free_count++] = *xsk_ring_cons__comp_addr(&xsk->comp, at + i);
    xsk_ring_cons__release(&xsk->comp, count);
}

/* Sends so many frames of that length, each written by `write`. */
static inline void xsk_send(struct xsk *xsk, uint32_t count, uint32_t length,
                            void (*write)(uint8_t *to))
{
    uint32_t at = 0;

    while (xsk->free_count < count) {
        xsk_reclaim(xsk);
        if (xsk->free_count < count)
            xsk_kick(xsk);
    }
    while (xsk_ring_prod__reserve(&xsk->tx, count, &at) != count)
        xsk_kick(xsk);
    for (uint32_t i = 0; i < count; i++) {
        struct xdp_desc *packet = xsk_ring_prod__tx_desc(&xsk->tx, at + i);

        packet->addr = xsk->free[--xsk->free_count];
        packet->len = length;
        packet->options = 0;
        write(xsk->area + packet->addr);
    }
    xsk_ring_prod__submit(&xsk->tx, count);
    xsk_kick(xsk);
}

#endif
