/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * netring_inline.h: walk the packets of a block without a library call per packet.
 *
 *     struct netring_cursor c;
 *     netring_cursor_init(&c, block);
 *     while (netring_cursor_next(&c))
 *         use(netring_cursor_data(&c), netring_cursor_caplen(&c));
 *     netring_block_release(block);
 *
 * netring_cursor_init is the only call into the library, once a block; everything else is inlined
 * into your loop and reads the records where the kernel wrote them, or the packets where the
 * library has them (AF_XDP). It gives the same packets, in the same order and with the same values,
 * as netring_block_read.
 *
 * What to know:
 *  - The block must be held: after its last netring_block_release, and with it the pointers that
 *    netring_cursor_data returned, the cursor means nothing. Nothing here can check that; the
 *    library calls can (NETRING_EBADF).
 *  - A cursor is plain memory of its owner: one thread at a time, no locks, no atomics. A block is
 *    complete before it is handed out. Any number of threads may walk one block, each with a cursor
 *    of its own; copying the structure copies the position, and nothing needs to be freed.
 *  - netring_block_read has its own position in the block; a cursor does not move it.
 *  - The accessors are valid after netring_cursor_next returned 1, until it is called again. Before
 *    that, and after it returned 0, do not call them.
 *  - Packet bytes may be overwritten in place until the release: only within [data, data + caplen).
 *
 * Every offset and length found in the ring is checked against the block before use, with the
 * checks of netring_block_read: a damaged record ends the walk, it never leads out of the block.
 *
 * Plain C99 and later, C++11 and later, no system header of the kernel. Also usable from languages
 * that import C headers.
 */
#ifndef NETRING_INLINE_H
#define NETRING_INLINE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "netring.h"

#ifdef __cplusplus
#define NETRING_INLINE_CAST(type, value) static_cast<type>(value)
#define NETRING_INLINE_ADDRESS(pointer) reinterpret_cast<uintptr_t>(pointer)
#define NETRING_INLINE_POINTER(address) reinterpret_cast<uint8_t *>(address)
#define NETRING_INLINE_NULL nullptr
extern "C" {
#else
#define NETRING_INLINE_CAST(type, value) ((type)(value))
#define NETRING_INLINE_ADDRESS(pointer) ((uintptr_t)(pointer))
#define NETRING_INLINE_POINTER(address) ((uint8_t *)(address))
#define NETRING_INLINE_NULL NULL
#endif

/* The kernel's records are the case that is made fast: more happens there for each packet. */
#if defined(__GNUC__)
#define NETRING_INLINE_RARELY(condition) (__builtin_expect((condition), 0) != 0)
#else
#define NETRING_INLINE_RARELY(condition) (condition)
#endif

/* Where things are in a record of NETRING_LAYOUT_TPACKET3: the kernel's struct tpacket3_hdr (48
 * bytes) and the struct sockaddr_ll that follows it. Part of the kernel's ABI; in the byte order of
 * the machine, but for the protocol. The packet starts MAC bytes after the start of the record. */
#define NETRING_RECORD_NEXT 0      /* u32: bytes to the next record; 0 in the last one */
#define NETRING_RECORD_SEC 4       /* u32 */
#define NETRING_RECORD_NSEC 8      /* u32 */
#define NETRING_RECORD_CAPLEN 12   /* u32 */
#define NETRING_RECORD_LEN 16      /* u32 */
#define NETRING_RECORD_STATUS 20   /* u32: NETRING_RECORD_STATUS_*, the kernel's NETRING_PACKET_* */
#define NETRING_RECORD_MAC 24      /* u16: offset of the packet */
#define NETRING_RECORD_NET 26      /* u16: offset of the network header */
#define NETRING_RECORD_RXHASH 28   /* u32 */
#define NETRING_RECORD_VLAN_TCI 32 /* u32, 16 bits used */
#define NETRING_RECORD_VLAN_TPID 36 /* u16 */
/* With NETRING_PACKET_VNET the fields of struct netring_vnet, else 0. */
#define NETRING_RECORD_VNET_FLAGS 38       /* u8 */
#define NETRING_RECORD_VNET_GSO_TYPE 39    /* u8 */
#define NETRING_RECORD_VNET_HDR_LEN 40     /* u16 */
#define NETRING_RECORD_VNET_GSO_SIZE 42    /* u16 */
#define NETRING_RECORD_VNET_CSUM_START 44  /* u16 */
#define NETRING_RECORD_VNET_CSUM_OFFSET 46 /* u16 */
#define NETRING_RECORD_PROTOCOL 50         /* u16, big-endian */
#define NETRING_RECORD_IFINDEX 52          /* u32 */
#define NETRING_RECORD_HATYPE 56           /* u16: the interface's ARPHRD_ number */
#define NETRING_RECORD_PKTTYPE 58          /* u8: NETRING_DIRECTION_* */
#define NETRING_RECORD_HALEN 59            /* u8 */
#define NETRING_RECORD_ADDRESS 60          /* 8 bytes */
#define NETRING_RECORD_SIZE 68

/* Bytes from packet to packet of NETRING_LAYOUT_PACKETS. */
#define NETRING_PACKET_STRIDE 64

/* A record without this bit holds no packet: the kernel never filled it, or the library took the
 * packet out (outgoing copies on lo). */
#define NETRING_RECORD_STATUS_USER 0x1u
#define NETRING_RECORD_STATUS_TS_SOFTWARE 0x20000000u
#define NETRING_RECORD_STATUS_TS_RAW_HARDWARE 0x80000000u
/* Not from a kernel: the packet is one of a savefile, which does not say who stamped it. */
#define NETRING_RECORD_STATUS_TS_UNKNOWN 0x40000000u
/* What a kernel knows of every packet. In a record these bits say the opposite (savefiles). */
#define NETRING_RECORD_STATUS_CERTAIN                                                              \
    (NETRING_PACKET_NET_OFFSET | NETRING_PACKET_PROTOCOL | NETRING_PACKET_DIRECTION)
/* The bits that netring_packet.status passes on: the kernel's, and the library's
 * NETRING_PACKET_VNET. */
#define NETRING_RECORD_STATUS_PACKET                                                               \
    (NETRING_PACKET_CSUM_NOT_READY | NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID |              \
     NETRING_PACKET_CSUM_VALID | NETRING_PACKET_GSO_TCP | NETRING_PACKET_VNET)

/* Loads from the ring: any alignment, no aliasing rule broken, one move each once optimised. */
static inline uint32_t netring_record_u32(const uint8_t *record, size_t offset)
{
    uint32_t value;
    memcpy(&value, record + offset, sizeof value);
    return value;
}

static inline uint64_t netring_record_u64(const uint8_t *record, size_t offset)
{
    uint64_t value;
    memcpy(&value, record + offset, sizeof value);
    return value;
}

static inline uint16_t netring_record_u16(const uint8_t *record, size_t offset)
{
    uint16_t value;
    memcpy(&value, record + offset, sizeof value);
    return value;
}

/* Sets a cursor up before the first packet of a held block. Returns 0, or NETRING_EBADF (not a
 * block, or released already), NETRING_EINVAL (NULL), NETRING_ENOTSUP (a block of a kind that came
 * after this header: use netring_block_read, or recompile). After a failure the cursor is empty: a
 * walk with it finds no packet. Start over by calling it again.
 *
 * The copy is deliberate: the compiler sees that nobody else knows your cursor, and keeps it in
 * registers. */
static inline int netring_cursor_init(struct netring_cursor *cursor, struct netring_block *block)
{
    struct netring_cursor fresh;
    int code = netring_block_cursor(block, &fresh, sizeof fresh);

    if (code >= 0 && fresh.layout != NETRING_LAYOUT_TPACKET3 &&
        fresh.layout != NETRING_LAYOUT_PACKETS)
        code = NETRING_ENOTSUP;
    if (code < 0)
        memset(cursor, 0, sizeof *cursor);
    else
        *cursor = fresh;
    return code;
}

/* Whether the block is an array of packets. */
static inline int netring_cursor_has_packets(const struct netring_cursor *cursor)
{
    return NETRING_INLINE_RARELY(cursor->layout == NETRING_LAYOUT_PACKETS);
}

/* Where a field of the current packet is: in a record, or in struct netring_packet. */
static inline size_t netring_cursor_field(const struct netring_cursor *cursor, size_t in_record,
                                          size_t in_packet)
{
    return netring_cursor_has_packets(cursor) ? in_packet : in_record;
}

/* netring_cursor_next, of an array. It is the library's own memory: nothing to check. */
static inline int netring_cursor_next_packet(struct netring_cursor *cursor)
{
    uint8_t *const current = cursor->next;
    uint8_t *data;

    if (cursor->left == 0 || cursor->layout != NETRING_LAYOUT_PACKETS)
        return 0;
    --cursor->left;
    cursor->next = NETRING_INLINE_POINTER(NETRING_INLINE_ADDRESS(current) + NETRING_PACKET_STRIDE);
    cursor->record = current;
    memcpy(&data, current + offsetof(struct netring_packet, data), sizeof data);
    cursor->data = data;
    cursor->caplen = netring_record_u32(current, offsetof(struct netring_packet, caplen));
    return 1;
}

/* Moves on to the next packet of the block. Returns 1 with a packet, 0 at the end and from then
 * on. */
static inline int netring_cursor_next(struct netring_cursor *cursor)
{
    const uintptr_t end = NETRING_INLINE_ADDRESS(cursor->end);
    uint8_t *record = cursor->next;
    uint32_t left = cursor->left;

    if (NETRING_INLINE_RARELY(cursor->layout != NETRING_LAYOUT_TPACKET3))
        return netring_cursor_next_packet(cursor);
    /* Records are counted: the next-offset of the last one means nothing. */
    while (left != 0) {
        uint8_t *const current = record;
        uintptr_t data;
        uint32_t caplen, step;

        if (NETRING_INLINE_ADDRESS(current) > end - NETRING_RECORD_SIZE)
            return 0;
        --left;
        step = netring_record_u32(current, NETRING_RECORD_NEXT);
        record = NETRING_INLINE_POINTER(NETRING_INLINE_ADDRESS(current) + step);
        /* In one go: below 72, no multiple of 8, 2 GiB and more. Whether a good one stays in the
         * block is seen above, at the next record. */
        if (((step - 72) & 0x80000007u) != 0 && left != 0)
            record = cursor->end;
        /* Only a filled record says where its packet is: others may hold old bytes. */
        if ((netring_record_u32(current, NETRING_RECORD_STATUS) & NETRING_RECORD_STATUS_USER) == 0)
            continue;
        /* Read once: what was checked is what netring_cursor_data and _caplen give. */
        data = NETRING_INLINE_ADDRESS(current) + netring_record_u16(current, NETRING_RECORD_MAC);
        caplen = netring_record_u32(current, NETRING_RECORD_CAPLEN);
        if (data + caplen > end)
            return 0;
        cursor->record = current;
        cursor->data = NETRING_INLINE_POINTER(data);
        cursor->caplen = caplen;
        cursor->next = record;
        cursor->left = left;
        return 1;
    }
    cursor->left = 0;
    return 0;
}

/* A hint, after netring_cursor_next returned 1: a packet further on, so many behind the current
 * one, will be looked at soon. Whether it pays depends on the machine and on what is done with a
 * packet: measure it, 8 ahead over a block of AF_XDP. In a packet ring the place is guessed by the
 * length of the current record. Without effect on what the walk finds, and with compilers that know
 * no such hint. */
static inline void netring_cursor_prefetch(const struct netring_cursor *cursor, uint32_t ahead)
{
#if defined(__GNUC__)
    const uintptr_t next = NETRING_INLINE_ADDRESS(cursor->next);
    uintptr_t at = NETRING_INLINE_ADDRESS(cursor->record) +
                   (next - NETRING_INLINE_ADDRESS(cursor->record)) * ahead;
    uint8_t *data;

    if (netring_cursor_has_packets(cursor)) {
        if (ahead > cursor->left)
            return;
        memcpy(&data, NETRING_INLINE_POINTER(at) + offsetof(struct netring_packet, data),
               sizeof data);
        at = NETRING_INLINE_ADDRESS(data);
    }
    __builtin_prefetch(NETRING_INLINE_POINTER(at));
#else
    (void)cursor;
    (void)ahead;
#endif
}

/* After netring_cursor_next returned 0: whether a damaged record ended the walk and the rest of the
 * block is lost. Where netring_block_read says NETRING_EIO; no kernel writes such a block. */
static inline int netring_cursor_damaged(const struct netring_cursor *cursor)
{
    return cursor->left != 0;
}

/* The first byte of the packet (its link-layer header), caplen bytes long; writable until the
 * block's release. */
static inline uint8_t *netring_cursor_data(const struct netring_cursor *cursor)
{
    return cursor->data;
}

/* Bytes captured: what may be read at netring_cursor_data. Of a packet in several pieces
 * (netring_cursor_segments) those of the first. */
static inline uint32_t netring_cursor_caplen(const struct netring_cursor *cursor)
{
    return cursor->caplen;
}

/* Bytes the packet had; more than caplen where a snap length or a filter cut it
 * (NETRING_PACKET_TRUNCATED), or where it is in several pieces. A VLAN tag that the kernel took out
 * (netring_cursor_vlan) counts in neither. */
static inline uint32_t netring_cursor_len(const struct netring_cursor *cursor)
{
    return netring_record_u32(
        cursor->record,
        netring_cursor_field(cursor, NETRING_RECORD_LEN, offsetof(struct netring_packet, len)));
}

/* Nanoseconds since the epoch (CLOCK_REALTIME). */
static inline uint64_t netring_cursor_time_ns(const struct netring_cursor *cursor)
{
    if (netring_cursor_has_packets(cursor))
        return netring_record_u64(cursor->record, offsetof(struct netring_packet, time_ns));
    return NETRING_INLINE_CAST(uint64_t, netring_record_u32(cursor->record, NETRING_RECORD_SEC)) *
               1000000000u +
           netring_record_u32(cursor->record, NETRING_RECORD_NSEC);
}

/* The VLAN tag that the kernel took out of the frame, and NETRING_CAPTURE_RESTORE_VLAN has not put
 * back: 1 and the tag (tci: priority, DEI and VLAN id; tpid: 0x8100, 0x88a8) in host byte order, or
 * 0 and zeros. A tag of 0 is a valid priority tag: go by the return value. Both pointers may be
 * NULL. */
static inline int netring_cursor_vlan(const struct netring_cursor *cursor, uint16_t *tci,
                                      uint16_t *tpid)
{
    const uint8_t *const record = cursor->record;
    const int packets = netring_cursor_has_packets(cursor);

    if (tci != NETRING_INLINE_NULL)
        *tci = packets ? netring_record_u16(record, offsetof(struct netring_packet, vlan_tci))
                       : NETRING_INLINE_CAST(uint16_t,
                                             netring_record_u32(record, NETRING_RECORD_VLAN_TCI));
    if (tpid != NETRING_INLINE_NULL)
        *tpid = netring_record_u16(
            record, netring_cursor_field(cursor, NETRING_RECORD_VLAN_TPID,
                                         offsetof(struct netring_packet, vlan_tpid)));
    return (netring_record_u32(record,
                               netring_cursor_field(cursor, NETRING_RECORD_STATUS,
                                                    offsetof(struct netring_packet, status))) &
            NETRING_PACKET_VLAN) != 0;
}

/* NETRING_DIRECTION_*: whom the packet was for, or that this machine sent it. */
static inline uint8_t netring_cursor_direction(const struct netring_cursor *cursor)
{
    return cursor->record[netring_cursor_field(cursor, NETRING_RECORD_PKTTYPE,
                                               offsetof(struct netring_packet, direction))];
}

/* The EtherType as the kernel understood it, in host byte order: behind a tag that it took out,
 * 0x0004 for 802.3 frames. */
static inline uint16_t netring_cursor_protocol(const struct netring_cursor *cursor)
{
    const uint8_t *const bytes = cursor->record + NETRING_RECORD_PROTOCOL;

    if (netring_cursor_has_packets(cursor))
        return netring_record_u16(cursor->record, offsetof(struct netring_packet, protocol));
    return NETRING_INLINE_CAST(uint16_t, bytes[0] << 8 | bytes[1]);
}

/* The interface that the packet was captured on. */
static inline uint32_t netring_cursor_ifindex(const struct netring_cursor *cursor)
{
    return netring_record_u32(cursor->record,
                              netring_cursor_field(cursor, NETRING_RECORD_IFINDEX,
                                                   offsetof(struct netring_packet, ifindex)));
}

/* The kernel's flow hash, never 0; 0 where the capture was opened without NETRING_CAPTURE_RXHASH.
 */
static inline uint32_t netring_cursor_rxhash(const struct netring_cursor *cursor)
{
    return netring_record_u32(cursor->record,
                              netring_cursor_field(cursor, NETRING_RECORD_RXHASH,
                                                   offsetof(struct netring_packet, rxhash)));
}

/* LINKTYPE_ number of the bytes at netring_cursor_data (1: Ethernet), or NETRING_LINKTYPE_UNKNOWN.
 */
static inline uint16_t netring_cursor_link_type(const struct netring_cursor *cursor)
{
    if (cursor->link_type != NETRING_LINKTYPE_UNKNOWN)
        return cursor->link_type;
    if (netring_cursor_has_packets(cursor))
        return netring_record_u16(cursor->record, offsetof(struct netring_packet, link_type));
    /* A capture of every interface: by the ARPHRD_ number (linux/if_arp.h) of this one. */
    switch (netring_record_u16(cursor->record, NETRING_RECORD_HATYPE)) {
    case 1:   /* Ethernet */
    case 772: /* loopback */
        return NETRING_LINKTYPE_ETHERNET;
    case 512:   /* PPP */
    case 519:   /* raw IP */
    case 768:   /* IP over IP */
    case 769:   /* IPv6 over IP */
    case 776:   /* sit */
    case 778:   /* GRE */
    case 823:   /* GRE over IPv6 */
    case 65534: /* none: tun */
        return NETRING_LINKTYPE_RAW;
    case 280:
        return 227; /* CAN */
    case 801:
        return 105; /* 802.11 */
    case 802:
        return 119; /* 802.11 with Prism header */
    case 803:
        return 127; /* 802.11 with radiotap */
    case 824:
        return 253; /* netlink */
    default:
        return NETRING_LINKTYPE_UNKNOWN;
    }
}

/* NETRING_PACKET_* bits, those of netring_packet.status. */
static inline uint32_t netring_cursor_status(const struct netring_cursor *cursor)
{
    const uint8_t *const record = cursor->record;
    uint32_t status =
        netring_record_u32(record, NETRING_RECORD_STATUS) &
        NETRING_INLINE_CAST(uint32_t, NETRING_RECORD_STATUS_PACKET | NETRING_RECORD_STATUS_CERTAIN);

    if (netring_cursor_has_packets(cursor))
        return netring_record_u32(record, offsetof(struct netring_packet, status));
    status ^= NETRING_RECORD_STATUS_CERTAIN;
    if (cursor->caplen < netring_record_u32(record, NETRING_RECORD_LEN))
        status |= NETRING_PACKET_TRUNCATED;
    if (netring_record_u32(record, NETRING_RECORD_RXHASH) != 0)
        status |= NETRING_PACKET_RXHASH;
    return status;
}

/* Bytes of payload in each segment of a super-packet; 0 of a plain packet, and where the capture
 * was opened without NETRING_CAPTURE_VNET_HEADER. */
static inline uint16_t netring_cursor_gso_size(const struct netring_cursor *cursor)
{
    return netring_record_u16(cursor->record,
                              netring_cursor_field(cursor, NETRING_RECORD_VNET_GSO_SIZE,
                                                   offsetof(struct netring_packet, gso_size)));
}

/* NETRING_GSO_*, as netring_cursor_gso_size. */
static inline uint8_t netring_cursor_gso_type(const struct netring_cursor *cursor)
{
    return cursor->record[netring_cursor_field(cursor, NETRING_RECORD_VNET_GSO_TYPE,
                                               offsetof(struct netring_packet, gso_type))];
}

/* Pieces of the packet behind the first, which data and caplen are; netring_block_segments gives
 * them all. */
static inline uint8_t netring_cursor_segments(const struct netring_cursor *cursor)
{
    if (!netring_cursor_has_packets(cursor))
        return 0;
    return cursor->record[offsetof(struct netring_packet, segments)];
}

/* The receive queue, of AF_XDP; else 0. */
static inline uint16_t netring_cursor_queue(const struct netring_cursor *cursor)
{
    if (!netring_cursor_has_packets(cursor))
        return 0;
    return netring_record_u16(cursor->record, offsetof(struct netring_packet, queue));
}

/* Names the packet to netring_block_segments, netring_block_address and netring_block_vnet. */
static inline uint64_t netring_cursor_cookie(const struct netring_cursor *cursor)
{
    if (netring_cursor_has_packets(cursor))
        return netring_record_u64(cursor->record, offsetof(struct netring_packet, cookie));
    return NETRING_INLINE_CAST(uint64_t, cursor->record - cursor->base);
}

/* The state of checksum and segmentation, as netring_block_vnet: 1, or 0 and zeros where the packet
 * lacks NETRING_PACKET_VNET. */
static inline int netring_cursor_vnet(const struct netring_cursor *cursor, struct netring_vnet *out)
{
    const uint8_t *const record = cursor->record;

    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    if (netring_cursor_has_packets(cursor) ||
        (netring_record_u32(record, NETRING_RECORD_STATUS) & NETRING_PACKET_VNET) == 0)
        return 0;
    out->flags = record[NETRING_RECORD_VNET_FLAGS];
    out->gso_type = record[NETRING_RECORD_VNET_GSO_TYPE];
    out->hdr_len = netring_record_u16(record, NETRING_RECORD_VNET_HDR_LEN);
    out->gso_size = netring_record_u16(record, NETRING_RECORD_VNET_GSO_SIZE);
    out->csum_start = netring_record_u16(record, NETRING_RECORD_VNET_CSUM_START);
    out->csum_offset = netring_record_u16(record, NETRING_RECORD_VNET_CSUM_OFFSET);
    return 1;
}

/* The packet as netring_block_read gives it, all fields. */
static inline void netring_cursor_packet(const struct netring_cursor *cursor,
                                         struct netring_packet *out)
{
    const uint8_t *const record = cursor->record;
    const uint32_t kernel = netring_record_u32(record, NETRING_RECORD_STATUS);
    const uint16_t mac = netring_record_u16(record, NETRING_RECORD_MAC);

    if (netring_cursor_has_packets(cursor)) {
        memcpy(out, record, sizeof *out);
        return;
    }
    out->data = cursor->data;
    out->caplen = netring_cursor_caplen(cursor);
    out->len = netring_cursor_len(cursor);
    out->time_ns = netring_cursor_time_ns(cursor);
    out->status = netring_cursor_status(cursor);
    out->rxhash = netring_cursor_rxhash(cursor);
    netring_cursor_vlan(cursor, &out->vlan_tci, &out->vlan_tpid);
    out->protocol = netring_cursor_protocol(cursor);
    out->net_offset =
        NETRING_INLINE_CAST(uint16_t, netring_record_u16(record, NETRING_RECORD_NET) - mac);
    out->ifindex = netring_cursor_ifindex(cursor);
    out->link_type = netring_cursor_link_type(cursor);
    out->direction = netring_cursor_direction(cursor);
    out->clock = (kernel & NETRING_RECORD_STATUS_TS_RAW_HARDWARE) != 0 ? NETRING_CLOCK_RAW_HARDWARE
                 : (kernel & NETRING_RECORD_STATUS_TS_SOFTWARE) != 0   ? NETRING_CLOCK_SOFTWARE
                 : (kernel & NETRING_RECORD_STATUS_TS_UNKNOWN) != 0    ? NETRING_CLOCK_UNKNOWN
                                                                       : NETRING_CLOCK_COPY;
    /* From queue to reserved in one store, and two over it. */
    memset(NETRING_INLINE_POINTER(NETRING_INLINE_ADDRESS(out) +
                                  offsetof(struct netring_packet, queue)),
           0, 8);
    out->gso_size = netring_record_u16(record, NETRING_RECORD_VNET_GSO_SIZE);
    out->gso_type = record[NETRING_RECORD_VNET_GSO_TYPE];
    out->cookie = netring_cursor_cookie(cursor);
}

#ifdef __cplusplus
}
#endif

#undef NETRING_INLINE_CAST
#undef NETRING_INLINE_ADDRESS
#undef NETRING_INLINE_POINTER
#undef NETRING_INLINE_NULL
#undef NETRING_INLINE_RARELY

#endif /* NETRING_INLINE_H */
