/* TCP and UDP packets as the kernel has them before a device: larger than the link takes, the
 * checksum still to come; and what they must be on the wire. */
#ifndef SEGMENTS_H
#define SEGMENTS_H

#include "inject.h"

enum { SUPER_MAX = 66 * 1024, KINDS = 8 };

/* A kind of packet. */
struct kind {
    const char *name;
    bool six;
    uint8_t protocol;         /* 6, 17 */
    uint16_t tpid[2], tci[2]; /* tags, outermost first; tpid 0: none */
    uint8_t gso_type;         /* NETRING_GSO_*, what a super-packet of it is */
};
/* TCP and UDP, each over IPv4 and IPv6; then such with tags. */
extern const struct kind kinds[KINDS];
/* Writes one with so many bytes behind its headers; its checksum field has the sum of the pseudo
 * header. TCP has every flag that only one segment keeps. Returns its length. */
size_t kind_make(uint8_t *frame, const struct kind *kind, size_t payload, uint32_t number);
/* Where the IP header and the one of TCP or UDP begin; bytes of all headers. */
size_t kind_network(const struct kind *kind);
size_t kind_transport(const struct kind *kind);
size_t kind_headers(const struct kind *kind);
/* What is to be said of it in a slot: its checksum, and with `gso_size` how it is cut. */
void kind_vnet(const struct kind *kind, uint16_t gso_size, struct netring_slot *slot);
/* One check: the next frames that arrive are those that a packet is cut into, `gso_size` 0: it as
 * it is; each with its headers and sums, and all bytes in order. */
bool sink_is_cut(struct sink *sink, const uint8_t *packet, size_t length, const struct kind *kind,
                 uint16_t gso_size, const char *what);
/* The link leaves nothing to its device: checksums and segments are made before it. */
void offloads_off(const char *link);

#endif
