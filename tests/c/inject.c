#include "inject.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- frames ---- */

/* 251 and 64 KiB of slots have no common factor: what an earlier lap left in a slot is no other
 * frame's bytes. */
enum { TEMPLATES = 251 };
static uint8_t templates[TEMPLATES][FRAME_MAX];

static void make_templates(void)
{
    struct dice dice = {2463534242};

    for (size_t i = 0; i < TEMPLATES; i++) {
        for (size_t place = 0; place < FRAME_MAX; place++)
            templates[i][place] = (uint8_t)dice_roll(&dice, 256);
    }
}

void numbered_make(uint8_t *frame, size_t length, uint32_t number, bool tagged)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const uint8_t head[] = {2,
                            0,
                            0,
                            0,
                            0,
                            2,
                            2,
                            1,
                            (uint8_t)(number >> 24),
                            (uint8_t)(number >> 16),
                            (uint8_t)(number >> 8),
                            (uint8_t)number};
    size_t type = tagged ? 16 : 12;

    pthread_once(&once, make_templates);
    if (length < type + 2 || length > FRAME_MAX)
        tap_bail("a frame of %zu bytes", length);
    memcpy(frame, templates[number % TEMPLATES], length);
    memcpy(frame, head, sizeof head);
    if (tagged) {
        uint16_t tag[2] = {htons(ETH_P_8021Q), htons((uint16_t)(1 + number % 4000))};

        memcpy(frame + 12, tag, sizeof tag);
    }
    frame[type] = ETHERTYPE_TEST >> 8;
    frame[type + 1] = ETHERTYPE_TEST & 0xff;
}

uint32_t numbered_number(const uint8_t *frame)
{
    const uint8_t *at = frame + 8;

    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

struct numbered stream_frame(uint32_t number)
{
    uint32_t hash = number * 2654435761u ^ number >> 15;
    struct numbered frame = {number, 0, false};

    switch (hash >> 28) {
    case 0:
        frame.length = 14;
        break;
    case 1:
        frame.length = 1514;
        break;
    case 2:
        frame.length = 1518;
        frame.tagged = true;
        break;
    case 3:
        frame.length = TAGGED_MIN + (hash >> 8) % (1518 - TAGGED_MIN + 1);
        frame.tagged = true;
        break;
    case 4:
        frame.length = 60;
        break;
    default:
        frame.length = 14 + (hash >> 8) % (1514 - 14 + 1);
        break;
    }
    return frame;
}

uint32_t stream_make(uint8_t *frame, uint32_t number)
{
    struct numbered what = stream_frame(number);

    numbered_make(frame, what.length, number, what.tagged);
    return what.length;
}

/* ---- the receiver ---- */

static void must(bool done, const char *step)
{
    if (!done)
        tap_bail("the receiver: %s: %s", step, strerror(errno));
}

void sink_open(struct sink *sink, const char *interface)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)net_index(interface)};
    /* All that a test sends at once, since its reader may have to wait for a CPU. */
    struct tpacket_req ring = {.tp_block_size = 64 * KIB, .tp_block_nr = 384};
    int version = TPACKET_V2;

    memset(sink, 0, sizeof *sink);
    /* In what MTUs of up to 1500 need, 12288 frames; 1536 otherwise. */
    ring.tp_frame_size = (size_t)net_mtu(interface) <= 1500 ? 2048 : 16 * KIB;
    ring.tp_frame_nr = ring.tp_block_size / ring.tp_frame_size * ring.tp_block_nr;
    sink->slot = ring.tp_frame_size;
    sink->count = ring.tp_frame_nr;
    sink->size = (size_t)ring.tp_block_size * ring.tp_block_nr;
    sink->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    must(sink->fd >= 0, "socket");
    must(setsockopt(sink->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0,
         "PACKET_VERSION");
    must(setsockopt(sink->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) == 0,
         "PACKET_RX_RING");
    sink->ring = mmap(NULL, sink->size, PROT_READ | PROT_WRITE, MAP_SHARED, sink->fd, 0);
    must(sink->ring != MAP_FAILED, "mmap");
    must(bind(sink->fd, (struct sockaddr *)&to, sizeof to) == 0, "bind");
}

static struct tpacket2_hdr *sink_head(const struct sink *sink)
{
    return (struct tpacket2_hdr *)(void *)(sink->ring + sink->next * sink->slot);
}

static bool sink_ready(const struct sink *sink)
{
    return __atomic_load_n(&sink_head(sink)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER;
}

/* Copies the frame at the front and gives its slot back; 0: it was sent by this interface. */
static size_t sink_take(struct sink *sink)
{
    struct tpacket2_hdr *head = sink_head(sink);
    const uint8_t *data = (uint8_t *)head + head->tp_mac;
    const struct sockaddr_ll *from =
        (struct sockaddr_ll *)(void *)((uint8_t *)head + TPACKET_ALIGN(sizeof *head));
    bool outgoing = from->sll_pkttype == PACKET_OUTGOING;
    size_t length = head->tp_snaplen;

    if (!outgoing) {
        if (length != head->tp_len || length < 12 || length > FRAME_MAX)
            tap_bail("the receiver: a frame of %zu bytes, %u on the wire", length, head->tp_len);
        memcpy(sink->frame, data, length);
        if (head->tp_status & TP_STATUS_VLAN_VALID)
            length = frame_tag(sink->frame, length, head->tp_vlan_tpid, head->tp_vlan_tci);
        sink->received++;
    }
    __atomic_store_n(&head->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    sink->next = (sink->next + 1) % sink->count;
    return outgoing ? 0 : length;
}

size_t sink_next(struct sink *sink, int timeout_ms)
{
    struct pollfd wait = {.fd = sink->fd, .events = POLLIN};
    int64_t end = 0;
    size_t length;

    for (;;) {
        while (sink_ready(sink)) {
            length = sink_take(sink);
            if (length)
                return length;
        }
        if (timeout_ms == 0)
            return 0;
        if (end == 0)
            end = now_ms() + timeout_ms;
        if (now_ms() >= end)
            return 0;
        poll(&wait, 1, (int)(end - now_ms()));
        if (wait.revents & POLLERR) { /* the link went down: read it, or poll returns at once */
            int error;
            socklen_t size = sizeof error;

            getsockopt(sink->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        }
    }
}

bool sink_is_empty(struct sink *sink, const char *what)
{
    size_t length = sink_next(sink, 30);

    return is_int(length, 0, "%s: nothing more arrives", what);
}

unsigned sink_drops(struct sink *sink)
{
    struct tpacket_stats stats;
    socklen_t size = sizeof stats;

    must(getsockopt(sink->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0,
         "PACKET_STATISTICS");
    return stats.tp_drops;
}

void sink_close(struct sink *sink)
{
    munmap(sink->ring, sink->size);
    close(sink->fd);
}

/* NULL, or what is wrong with the next frame. */
static const char *unlike(struct sink *sink, const struct numbered *want, uint8_t *frame)
{
    static char text[160];
    size_t length = sink_next(sink, (int)tap_patience(1000)), at = 0;

    if (length == 0)
        return "it does not arrive";
    numbered_make(frame, want->length, want->number, want->tagged);
    if (length == want->length && memcmp(frame, sink->frame, length) == 0)
        return NULL;
    while (at < length && at < want->length && frame[at] == sink->frame[at])
        at++;
    snprintf(text, sizeof text, "%zu bytes with number %u arrive for %u with %u, alike up to %zu",
             length, numbered_number(sink->frame), want->length, want->number, at);
    return text;
}

bool sink_is(struct sink *sink, const struct numbered *frames, size_t count, const char *what)
{
    uint8_t frame[FRAME_MAX];

    for (size_t i = 0; i < count; i++) {
        const char *wrong = unlike(sink, &frames[i], frame);

        if (wrong)
            return ok(false, "%s: frame %zu of %zu: %s", what, i, count, wrong);
    }
    return ok(true, "%s: %zu frames arrive in order, byte for byte", what, count);
}

bool sink_is_stream(struct sink *sink, uint32_t first, uint32_t count, const char *what)
{
    uint8_t frame[FRAME_MAX];

    for (uint32_t i = 0; i < count; i++) {
        struct numbered want = stream_frame(first + i);
        const char *wrong = unlike(sink, &want, frame);

        if (wrong)
            return ok(false, "%s: frame %u of %u: %s", what, i, count, wrong);
    }
    return ok(true, "%s: %u frames arrive in order, byte for byte", what, count);
}

/* ---- injectors ---- */

const struct method methods[3] = {
    {"tpacket2", NETRING_METHOD_TPACKET2},
    {"sendmmsg", NETRING_METHOD_SENDMMSG},
    {"auto", NETRING_METHOD_AUTO},
};

struct netring_injector_config inject_config(uint32_t method, uint32_t slots)
{
    struct netring_injector_config config;

    if (netring_injector_config_init(&config, sizeof config) != 0)
        tap_bail("netring_injector_config_init failed");
    config.method = method;
    config.slot_count = slots;
    return config;
}

struct netring_injector *injector_open(const char *interface,
                                       const struct netring_injector_config *config)
{
    struct netring_injector *injector = NULL;
    struct netring_error error;
    int rc;

    errno = ENOTTY;
    rc = netring_injector_open(interface, config, &injector, &error);
    if (rc < 0)
        tap_bail("an injector on %s: %s (%s: %s)", interface, netring_err_name(rc), error.option,
                 error.message);
    if (rc != 0 || !injector || errno != ENOTTY)
        ok(false, "opening %s returns 0 and a handle and leaves errno alone", interface);
    return injector;
}

void injector_close(struct netring_injector *injector)
{
    int rc = netring_injector_close(injector);

    if (rc != 0)
        is_int(rc, 0, "netring_injector_close");
}

struct netring_injector_stats injector_stats(struct netring_injector *injector)
{
    struct netring_injector_stats stats;
    int rc = netring_injector_stats(injector, &stats, sizeof stats);

    if (rc != 0)
        tap_bail("netring_injector_stats: %s", netring_err_name(rc));
    return stats;
}

struct netring_injector_info injector_info(struct netring_injector *injector)
{
    struct netring_injector_info info;
    int rc = netring_injector_info(injector, &info, sizeof info);

    if (rc != 0)
        tap_bail("netring_injector_info: %s", netring_err_name(rc));
    return info;
}

const char *not_adding_up(const struct netring_injector_stats *s)
{
    if (s->reserved != s->committed + s->discarded + s->open)
        return "reserved = committed + discarded + open";
    if (s->committed != s->handed + s->refused + s->dropped + s->waiting)
        return "committed = handed + refused + dropped + waiting";
    if (s->handed != s->completed + s->in_flight)
        return "handed = completed + in_flight";
    if (s->held_back > s->waiting)
        return "held_back is part of waiting";
    return NULL;
}

bool adds_up(struct netring_injector *injector, const char *what)
{
    struct netring_injector_stats s = injector_stats(injector);
    const char *wrong = not_adding_up(&s);

    if (wrong)
        tap_diag("reserved %llu committed %llu discarded %llu open %llu handed %llu refused %llu "
                 "dropped %llu "
                 "waiting %llu held_back %llu completed %llu in_flight %llu",
                 (unsigned long long)s.reserved, (unsigned long long)s.committed,
                 (unsigned long long)s.discarded, (unsigned long long)s.open,
                 (unsigned long long)s.handed, (unsigned long long)s.refused,
                 (unsigned long long)s.dropped, (unsigned long long)s.waiting,
                 (unsigned long long)s.held_back, (unsigned long long)s.completed,
                 (unsigned long long)s.in_flight);
    return ok(!wrong, "%s: the counters add up%s%s", what, wrong ? ", but for " : "",
              wrong ? wrong : "");
}

void must_reserve(struct netring_injector *injector, struct netring_slot *slots, size_t count)
{
    int rc = netring_injector_reserve(injector, slots, sizeof *slots, count, 0);

    if (rc != (int)count)
        tap_bail("reserving %zu slots: %d (%s)", count, rc, netring_err_name(rc));
}

void must_commit(struct netring_injector *injector, const struct netring_slot *slots, size_t count)
{
    int rc = netring_injector_commit(injector, slots, sizeof *slots, count);

    if (rc != (int)count)
        tap_bail("committing %zu slots: %d (%s)", count, rc, netring_err_name(rc));
}

void commit_stream(struct netring_injector *injector, uint32_t first, uint32_t count)
{
    struct netring_slot slots[64];

    for (uint32_t done = 0; done < count;) {
        uint32_t now = count - done < COUNT(slots) ? count - done : COUNT(slots);

        must_reserve(injector, slots, now);
        for (uint32_t i = 0; i < now; i++)
            slots[i].len = stream_make(slots[i].data, first + done + i);
        must_commit(injector, slots, now);
        done += now;
    }
}

bool drains(struct netring_injector *injector, const char *what)
{
    int rc = netring_injector_drain(injector, (int)tap_patience(5000));

    return is_str(rc == 1   ? "drained"
                  : rc == 0 ? "timeout"
                            : netring_err_name(rc),
                  "drained", "%s: everything leaves", what);
}

struct open_files open_files_now(void)
{
    struct open_files files;
    DIR *list = opendir("/proc/self/fd");
    struct dirent *entry;

    memset(&files, 0, sizeof files);
    if (!list)
        tap_bail("/proc/self/fd: %s", strerror(errno));
    while ((entry = readdir(list))) {
        unsigned long fd = strtoul(entry->d_name, NULL, 10);

        if (fd != (unsigned long)dirfd(list) && fd / 64 < COUNT(files.bits))
            files.bits[fd / 64] |= UINT64_C(1) << fd % 64;
    }
    closedir(list);
    return files;
}

int packet_socket_since(const struct open_files *before)
{
    struct open_files now = open_files_now();

    for (int fd = 0; fd < (int)COUNT(now.bits) * 64; fd++) {
        int domain = 0;
        socklen_t size = sizeof domain;

        if ((now.bits[fd / 64] & ~before->bits[fd / 64]) >> fd % 64 & 1 &&
            getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_PACKET)
            return fd;
    }
    tap_bail("no packet socket was opened");
}

void injector_open_fails(const char *what, const char *interface,
                         const struct netring_injector_config *config, const struct failure *want)
{
    struct footprint before = footprint_now();
    struct netring_injector *injector = NULL;
    struct netring_error error;
    int rc, error_number;

    error_spoil(&error);
    errno = 0;
    rc = netring_injector_open(interface, config, &injector, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, want, what);
    is_int(netring_injector_open(interface, config, &injector, NULL), want->code,
           "%s: without an error struct", what);
    ok(injector == NULL, "%s: no handle", what);
    is_footprint(before, what);
}

/* ---- random numbers ---- */

uint32_t dice_roll(struct dice *dice, uint32_t sides)
{
    dice->state ^= dice->state << 13;
    dice->state ^= dice->state >> 7;
    dice->state ^= dice->state << 17;
    return (uint32_t)(dice->state >> 16) % sides;
}
