/* What the programs share beyond TAP and the network: frames that can be recognised, captures with
 * small rings, copies of what was received, children, refused system calls, expected errors.
 * As in net.h, a failing preparation ends the program. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include "net.h"

#include <linux/filter.h> /* struct sock_filter, BPF_STMT, BPF_JUMP */
/* Where a test does not look at a result, it checks the effect. */
#define NETRING_MUST_USE
#include <netring.h>
#include <pthread.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define KIB 1024u
#define MIB (1024u * 1024u)

/* The running kernel, as in netring_capture_info: 0x060c00 is Linux 6.12. */
uint32_t kernel_version(void);

/* ---- time ---- */
int64_t clock_ns(int clock);
int64_t now_ms(void); /* CLOCK_MONOTONIC */
void sleep_ms(long milliseconds);

/* ---- frames ---- */
#define FRAME_MAX 9018
#define FRAME_NUMBERED 18 /* the shortest frame that carries its number */
/* Writes frame `number`: to nobody in particular, of ETHERTYPE_TEST, every byte a function of the
 * number and its place. Returns `length`. */
size_t frame_make(uint8_t *frame, size_t length, uint32_t number);
uint32_t frame_number(const uint8_t *frame);
/* The length of frame `number` in a stream of mixed sizes between the two given. */
size_t frame_mixed(uint32_t number, size_t low, size_t high);
/* Puts a VLAN tag behind the addresses; `length` is without it. Returns the new length. */
size_t frame_tag(uint8_t *frame, size_t length, uint16_t tpid, uint16_t tci);
/* Copies a received packet as it was on the wire: with the tag that the kernel took out. */
size_t frame_restore(const struct netring_packet *packet, uint8_t *frame);
/* Sends frames first..first+count-1, all of one length. */
void send_frames(int sender, uint32_t first, uint32_t count, size_t length);

/* ---- captures ---- */
/* The defaults but for a small ring (64 KiB blocks, 1 MiB in all) and 10 ms blocks. */
struct netring_capture_config small_config(void);
/* A socket of AF_XDP on queue 0 with the fewest frames, that sends and has no program: needs no
 * bpf(2). */
struct netring_xdp *xdp_of_few(const char *interface);

/* As small_config, with `count` blocks of one page each that are handed over only when full. */
struct netring_capture_config page_config(uint32_t count);
struct netring_capture *capture_open(const char *interface,
                                     const struct netring_capture_config *config);
void capture_close(struct netring_capture *capture);
struct netring_stats capture_stats(struct netring_capture *capture);
struct netring_capture_info capture_info(struct netring_capture *capture);
/* How many frames of one length go into a one-page block. */
uint32_t frames_per_page(size_t length);
/* Frames first..first+count-1, of one length, as one block of a page_config capture that has none:
 * they must fit. */
struct netring_block *block_of(struct netring_capture *capture, int sender, uint32_t first,
                               uint32_t count, size_t length);
/* Waits until the capture has seen `count` packets since its open (what was sent may take a
 * moment), or ends the program after a second. */
void await_seen(struct netring_capture *capture, uint64_t count);
/* Ends the program unless `count` blocks become ready within a second. */
void await_ready(struct netring_capture *capture, uint64_t count);

/* ---- waits ---- */
/* A wait for a block, a packet, or packets, that ends with what the library says. */
typedef int (*wait_call)(struct netring_capture *capture, int timeout_ms);
struct wait_kind {
    const char *name;
    wait_call call;
};
extern const struct wait_kind wait_kinds[3];
/* One of them, without a time limit, on a thread of its own. */
struct waiter {
    const struct wait_kind *kind;
    struct netring_capture *capture;
    pthread_t thread;
    int rc, error_number;
    int64_t ended; /* now_ms() */
};
void waiter_start(struct waiter *waiter, const struct wait_kind *kind,
                  struct netring_capture *capture);
/* Joins it. The checks: it ended with `code` and its errno, soon after `since`. */
void waiter_ends(struct waiter *waiter, int code, int64_t since, const char *why);

/* ---- copies of received packets ---- */
struct record {
    struct netring_packet packet; /* its data points to the copy */
};
struct records {
    size_t count, room;
    struct record *v;
};
void records_add(struct records *records, const struct netring_packet *packet);
void records_free(struct records *records);
/* Reads a block to its end, `batch` packets a call. */
void block_records(struct netring_block *block, size_t batch, struct records *records);
/* As receive, and every block is read a second time, by the inline walk. One check: that tells the
 * same of each packet, netring_block_vnet included. */
void receive_both_ways(struct netring_capture *capture, size_t want, int timeout_ms,
                       struct records *records, const char *what);
/* Takes blocks until `want` packets are there or nothing came for `timeout_ms`. Returns the code
 * of the last next_block. */
int receive(struct netring_capture *capture, size_t want, int timeout_ms, struct records *records);
/* One check: the records are frames first..first+count-1, of lengths frame_mixed(low, high), in
 * order and byte for byte. */
bool is_frames(const struct records *records, uint32_t first, uint32_t count, size_t low,
               size_t high, const char *what);

/* ---- children ---- */
/* Runs job(user) in a forked child with a time limit; its checks count here. One check: that it
 * came to its end. Returns the wait status. */
int child_run(const char *what, void (*job)(void *user), void *user);
/* As child_run for a child that is expected to be ended by `signal`. */
void child_killed(const char *what, int signal, void (*job)(void *user), void *user);
#define CAPABILITY(number) (UINT64_C(1) << (number))
/* Keeps only the capabilities of the mask (numbers as in <linux/capability.h>), for good. */
void keep_capabilities(uint64_t mask);

/* From here on a system call is refused whose arguments meet all conditions. */
struct condition {
    int argument;         /* 0..5 */
    uint32_t mask, value; /* the low half of it, masked, equals (or, `differs`, does not) */
    bool differs;
};
struct refusal {
    long call;
    int error; /* 0: the process is killed by SIGSYS instead */
    size_t count;
    struct condition conditions[4];
};
void refuse(const struct refusal *refusal);

/* ---- what a process holds ---- */
struct footprint {
    int descriptors, mappings; /* open files; mappings of sockets */
};
struct footprint footprint_now(void);
void is_footprint(struct footprint before, const char *what);

/* ---- libpcap, for comparison ---- */
/* The library, opened at run time; NULL: not installed. */
void *libpcap_open(void);
/* Writes the address of a function of it to the pointer at `function`; false: it has none. */
bool library_find(void *library, const char *name, void *function);

/* ---- errors ---- */
struct failure {
    int code;
    int os_errno; /* the kernel's reason; 0 where there is none: errno is the code's own number */
    const char *option;
    const char *words[4]; /* all of these are in the message */
};
/* The errno of a code without a kernel's reason. */
int natural_errno(int code);
/* Checks everything an error tells: returned code, errno (as the call left it) and the struct. */
void is_failure(int rc, int error_number, const struct netring_error *error,
                const struct failure *want, const char *what);
/* The struct as it must be after success, whatever was in it before. */
void is_no_error(const struct netring_error *error, const char *what);
/* Fills it with what no call may leave there. */
void error_spoil(struct netring_error *error);
/* netring_capture_open must fail as said, with and without an error struct, leaving no file and no
 * mapping behind. */
void open_fails(const char *what, const char *interface,
                const struct netring_capture_config *config, const struct failure *want);

#endif
