/* What the tests of AF_XDP share: sockets with little memory, their sums, XDP programs that owe
 * nothing to the library, and what the kernel tells about an interface's program. */
#ifndef XDP_H
#define XDP_H

#include "inject.h"

/* As net_enter; where bpf(2) is refused (a user namespace gives no right to it), or the kernel has
 * no AF_XDP, the program is skipped. */
void xdp_enter(void);
/* Whether the kernel is that one or later. */
bool xdp_kernel(unsigned major, unsigned minor);
/* Native (NETRING_MODE_COPY on veth) and SKB mode. */
struct xdp_mode {
    const char *name;
    uint32_t mode;
};
extern const struct xdp_mode xdp_modes[2];

/* ---- open and close ---- */
enum { XDP_RX_FRAMES = 1024, XDP_TX_FRAMES = 512 };
/* The defaults but for what is redirected, the mode, and 3 MiB of frames a queue. */
struct netring_xdp_config xdp_config(uint32_t redirect, uint32_t mode);
/* On these queues, or with `count` 0 on all. */
struct netring_xdp *xdp_open(const char *interface, const uint32_t *queues, size_t count,
                             const struct netring_xdp_config *config);
/* One check, if it fails: nothing that was committed is left. */
void xdp_close(struct netring_xdp *xdp);
struct netring_queue *xdp_queue(struct netring_xdp *xdp, uint32_t index);
/* One queue, number 0, of an interface. */
struct xdp_one {
    struct netring_xdp *xdp;
    struct netring_queue *queue;
};
struct xdp_one xdp_one(const char *interface, const struct netring_xdp_config *config);
/* netring_xdp_open must fail as said, with and without an error struct, leaving no file, no mapping
 * and no program behind. */
void xdp_open_fails(const char *what, const char *interface, const uint32_t *queues, size_t count,
                    const struct netring_xdp_config *config, const struct failure *want);

/* ---- what they tell ---- */
struct netring_xdp_info xdp_info(struct netring_xdp *xdp);
struct netring_stats queue_stats(struct netring_queue *queue);
struct netring_xdp_counters queue_counters(struct netring_queue *queue);
struct netring_injector_stats queue_sent(struct netring_queue *queue);
/* One check: every sum of the counters is right, of frames too. Nothing may be under way. */
bool queue_adds_up(struct netring_queue *queue, const char *what);
/* One check: all frames of the queue are back: none in blocks, forwarded, open or in flight. */
bool queue_is_idle(struct netring_queue *queue, const char *what);

/* ---- frames ---- */
/* Takes blocks until `want` packets are there or nothing came for `timeout_ms`. Returns the code of
 * the last next_block. */
int queue_receive(struct netring_queue *queue, size_t want, int timeout_ms,
                  struct records *records);
/* Waits until so many packets are in the ring, or ends the program after a second. */
void queue_await(struct netring_queue *queue, uint64_t pending);
/* The next block, which must have `count` packets. */
struct netring_block *queue_block(struct netring_queue *queue, uint32_t count);
/* NULL, or what is wrong with a packet that is to be frame `number` of the stream. */
const char *not_of_stream(const struct netring_packet *packet, uint32_t number);
/* One check: the next packets are frames first..first+count-1 of the stream (inject.h), in order
 * and byte for byte; each within a second. */
bool queue_is_stream(struct netring_queue *queue, uint32_t first, uint32_t count, const char *what);
/* One check: nothing more comes. */
bool queue_is_empty(struct netring_queue *queue, const char *what);
/* Sends frames first..first+count-1 of the stream from a packet socket. */
void send_stream(int sender, uint32_t first, uint32_t count);
/* Exactly `count` slots, at once, or the program ends. */
void queue_must_reserve(struct netring_queue *queue, struct netring_slot *slots, size_t count);
void queue_must_commit(struct netring_queue *queue, const struct netring_slot *slots, size_t count);
/* Reserves, writes and commits frames first..first+count-1 of the stream. */
void queue_commit_stream(struct netring_queue *queue, uint32_t first, uint32_t count);
/* One check: everything leaves within a few seconds. */
bool queue_drains(struct netring_queue *queue, const char *what);

/* ---- programs of somebody else ---- */
/* bpf(2); -1 with errno. */
int xdp_bpf(int command, void *attributes, size_t size);
/* A program that lets everything pass. */
int xdp_pass_program(void);
/* One that redirects everything to the socket that `map` has for its queue, and passes it on where
 * it has none. */
int xdp_redirect_program(int map);
/* An XSKMAP. */
int xdp_map(uint32_t entries);
/* Attaches by a link, which detaches when it is closed. */
int xdp_attach(int program, const char *interface, bool native);
/* The id of a program. */
uint32_t xdp_program_id(int program);
/* The program of an interface (as netlink tells); id 0: none. */
struct xdp_attached {
    uint32_t id;
    bool native;
};
struct xdp_attached xdp_attached(const char *interface);
/* One check: it has none, within a second. */
bool xdp_is_detached(const char *interface, const char *what);

#endif
