/* What the tests of sending share: frames that carry their number whatever their length, a receiver
 * that owes nothing to the library, injectors with small rings, and the sums that their counters
 * must keep. */
#ifndef INJECT_H
#define INJECT_H

#include "support.h"

/* ---- frames ---- */
#define TAGGED_MIN 20 /* the kernel drops shorter ones when it takes the tag out */
/* Writes frame `number` of `length` bytes, at least 14: its number is in the source address, and
 * every other byte is a function of number and place. From TAGGED_MIN bytes on it may have a VLAN
 * tag, which is part of `length`. */
void numbered_make(uint8_t *frame, size_t length, uint32_t number, bool tagged);
uint32_t numbered_number(const uint8_t *frame);
/* A stream of mixed sizes: what frame `number` of it looks like. Runts, full frames, tags. */
struct numbered {
    uint32_t number, length;
    bool tagged;
};
struct numbered stream_frame(uint32_t number);
/* Writes it; returns its length. */
uint32_t stream_make(uint8_t *frame, uint32_t number);

/* ---- the receiver: a TPACKET_V2 ring ---- */
struct sink {
    int fd;
    uint8_t *ring;
    size_t size, slot, count, next;
    uint64_t received; /* by sink_next */
    uint8_t frame[FRAME_MAX + 4];
};
/* Frames of at most FRAME_MAX bytes; frames sent by the interface itself are not for it. */
void sink_open(struct sink *sink, const char *interface);
/* The next frame as it was on the wire, in sink->frame; its length, or 0: none within that time. */
size_t sink_next(struct sink *sink, int timeout_ms);
/* One check: nothing more comes. */
bool sink_is_empty(struct sink *sink, const char *what);
/* How many it had no room for. */
unsigned sink_drops(struct sink *sink);
void sink_close(struct sink *sink);
/* One check: the next frames are those, byte for byte, and in that order; each within a second. */
bool sink_is(struct sink *sink, const struct numbered *frames, size_t count, const char *what);
/* The same for frames first..first+count-1 of the stream. */
bool sink_is_stream(struct sink *sink, uint32_t first, uint32_t count, const char *what);

/* ---- injectors ---- */
struct method {
    const char *name;
    uint32_t method;
};
extern const struct method methods[3]; /* TPACKET2, SENDMMSG, AUTO */
/* The defaults but for the method and so many slots. */
struct netring_injector_config inject_config(uint32_t method, uint32_t slots);
struct netring_injector *injector_open(const char *interface,
                                       const struct netring_injector_config *config);
/* One check, if it fails: nothing that was committed is left. */
void injector_close(struct netring_injector *injector);
struct netring_injector_stats injector_stats(struct netring_injector *injector);
struct netring_injector_info injector_info(struct netring_injector *injector);
/* NULL, or which sum of the counters is wrong. */
const char *not_adding_up(const struct netring_injector_stats *stats);
/* One check: they add up. */
bool adds_up(struct netring_injector *injector, const char *what);
/* Exactly `count` slots, at once, or the program ends. */
void must_reserve(struct netring_injector *injector, struct netring_slot *slots, size_t count);
void must_commit(struct netring_injector *injector, const struct netring_slot *slots, size_t count);
/* Reserves, writes and commits frames first..first+count-1 of the stream. */
void commit_stream(struct netring_injector *injector, uint32_t first, uint32_t count);
/* One check: everything leaves within a few seconds. */
bool drains(struct netring_injector *injector, const char *what);
/* The packet socket of the last injector that was opened: the one descriptor that /proc/self/fd has
 * and `before` has not. */
struct open_files {
    uint64_t bits[16];
};
struct open_files open_files_now(void);
int packet_socket_since(const struct open_files *before);
/* netring_injector_open must fail as said, with and without an error struct, leaving no file and no
 * mapping behind. */
void injector_open_fails(const char *what, const char *interface,
                         const struct netring_injector_config *config, const struct failure *want);

/* ---- random numbers, the same in every run ---- */
struct dice {
    uint64_t state;
};
/* From 0 to below `sides`. */
uint32_t dice_roll(struct dice *dice, uint32_t sides);

#endif
