/* A network of the test's own: a network namespace with veth pairs, made with plain rtnetlink, gone
 * when the process ends. Nothing outside of it is touched. Whatever fails here ends the program:
 * it is the test's ground, not its subject. */
#ifndef NET_H
#define NET_H

#include "tap.h"

#include <linux/if_link.h>
#include <stdint.h>

#define ETHER_HEADER 14
#define ETHERTYPE_TEST 0x88b5 /* "local experimental": no protocol stack answers it */

/* Moves this process (before it has threads) into a new network with lo up: as root, or inside a
 * user namespace of its own. Where neither is allowed the program is skipped. */
void net_enter(void);

/* Keeps this process on one CPU, and so what it sends in order: what waits in a queue is sent by a
 * timer, and what two CPUs send through a veth at once may overtake each other. */
void net_one_cpu(void);
/* Takes that back. */
void net_all_cpus(void);

/* Links. A pair is created up on both ends, without IPv6 and so without traffic of its own. */
void net_veth(const char *one, const char *other);
/* With so many queues for sending and receiving; 0: the kernel's choice. */
void net_veth_queues(const char *one, const char *other, uint32_t queues);
/* A link of a kind that needs no more than a lower link (macvlan) or none (bridge, ifb), up; false
 * where this kernel has no such kind. */
bool net_link_new(const char *name, const char *kind, const char *lower);
/* Makes a link a port of a bridge. */
void net_link_master(const char *name, const char *bridge);
/* A tun or tap device, up (IFF_TUN, IFF_TAP, IFF_VNET_HDR of <linux/if_tun.h>; IFF_NO_PI is added),
 * gone with its descriptor; -1 where there is none to be had. What is written arrives at it. */
int net_tun(const char *name, int flags);
void net_link_up(const char *name, bool up);
/* An IPv4 address, and the route to the network of its class. */
void net_ipv4(const char *name, const char *address);
/* Waits until a link sends: after its peer came up it takes the kernel up to a second. */
void net_await_carrier(const char *name);
/* Waits until it is known that the link does not send: its peer was set down. */
void net_await_no_carrier(const char *name);
void net_link_mtu(const char *name, uint32_t mtu);
uint32_t net_mtu(const char *name);
/* The id of a link's XDP program, 0: it has none; and how it is attached (XDP_ATTACHED_*). */
uint32_t net_xdp_program(const char *name, uint8_t *attached);
/* What a link sends waits here: first in, first out, at most `packets`; or as the token bucket lets
 * it, `rate` bytes a second, with room for `bytes` (tc-tbf(8)). Instead of what was there. */
void net_queue_fifo(const char *name, uint32_t packets);
void net_queue_slow(const char *name, uint32_t rate, uint32_t bytes);
/* Takes it away again, with what is in it. */
void net_queue_none(const char *name);
void net_link_rename(const char *name, const char *to);
/* Gives a link one more name (Linux 5.5). */
void net_link_alternative(const char *name, const char *also);
/* Moves a link to another network namespace, which has no name and ends with its descriptor. */
void net_link_move(const char *name, int namespace);
int net_namespace_new(void);
/* The namespace of the calling thread; moves that thread to another one. */
int net_namespace(void);
void net_namespace_enter(int namespace);
void net_link_delete(const char *name);
uint32_t net_index(const char *name);
void net_address(const char *name, uint8_t address[6]);
struct rtnl_link_stats64 net_counters(const char *name);
/* How many promiscuous (all-multicast) users the link has; -1 where the kernel does not tell. */
int net_promiscuity(const char *name);
int net_allmulti(const char *name);
/* Packets that this machine's CPUs dropped before any socket saw them. */
uint64_t net_softnet_dropped(void);

/* A sender of whole frames on one link (it captures nothing itself). Close with close(). */
int net_sender(const char *name);
void net_send(int sender, const void *frame, size_t length);
/* Sends one frame `count` times as fast as it can. Returns how many the link took: the others it
 * refused with ENOBUFS. */
size_t net_flood(int sender, const void *frame, size_t length, size_t count);

/* UDP over lo: a socket connected to another one, which swallows what it gets. */
struct net_udp {
    int from, to;
};
struct net_udp net_udp_open(void);
void net_udp_send(const struct net_udp *udp, const void *data, size_t length);
void net_udp_close(const struct net_udp *udp);

#endif
