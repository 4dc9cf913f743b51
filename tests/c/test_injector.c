/* Slots, their order, and what becomes of them: reserved by several threads and committed in any
 * order, frames leave in the order of reserve; what is discarded or refused leaves no gap that
 * anything waits behind; a slot is given to one at a time; what cannot be sent is told, at the
 * commit where that is known, else in the results, and every frame behind it leaves, once. */
#include "inject.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sink sink; /* at vb, what is sent on va arrives there */

/* Slots as many as the ring has, or the program ends. */
enum { SLOTS = 64 };

struct ground {
    const char *name;
    struct netring_injector *injector;
    size_t slots;
    uint32_t next; /* number of the next frame */
};

static struct ground ground_new(const struct method *method)
{
    struct netring_injector_config config = inject_config(method->method, SLOTS);
    struct ground ground = {.name = method->name, .injector = injector_open("va", &config)};

    ground.slots = injector_info(ground.injector).slot_count;
    if (ground.slots < SLOTS || ground.slots > 4 * SLOTS)
        tap_bail("%zu slots", ground.slots);
    return ground;
}

/* One check: it ends with nothing left and nothing more to receive. */
static void ground_end(struct ground *ground, const char *what)
{
    struct netring_injector_stats stats;
    char name[128];

    snprintf(name, sizeof name, "%s: %s", ground->name, what);
    drains(ground->injector, name);
    adds_up(ground->injector, name);
    stats = injector_stats(ground->injector);
    ok(stats.open + stats.waiting + stats.in_flight == 0, "%s: nothing is left", name);
    sink_is_empty(&sink, name);
    injector_close(ground->injector);
}

static void flushes(const struct ground *ground, int count, const char *what)
{
    is_int(netring_injector_flush(ground->injector), count, "%s: %s: flush", ground->name, what);
}

/* ---- what suits which device ---- */

static void is_suited(const char *interface, uint32_t method)
{
    struct netring_injector *injector = injector_open(interface, NULL);

    is_int(injector_info(injector).method, method, "auto on %s", interface);
    is_int(netring_injector_close(injector), 0, "auto on %s: close", interface);
}

/* Kernels of old know no driver of a link without hardware that does not name one itself. */
static bool has_driver(const char *interface)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq request = {.ifr_data = (void *)&info};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool has;

    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
    has = ioctl(fd, SIOCETHTOOL, &request) == 0;
    close(fd);
    return has;
}

/* Only Ethernet may have a tag besides. */
static void test_tag_on_lo(void)
{
    struct netring_injector_config config = inject_config(NETRING_METHOD_SENDMMSG, 4);
    struct netring_injector *injector;
    static uint8_t frame[70000];
    uint32_t limit;

    config.slot_size = sizeof frame;
    injector = injector_open("lo", &config);
    limit = injector_info(injector).frame_limit;
    frame[12] = 0x81;
    is_int(netring_injector_send(injector, frame, limit + 4, 0), NETRING_EMSGSIZE,
           "a tag makes no frame longer on lo");
    is_int(netring_injector_close(injector), 0, "a tag on lo: close");
}

static void test_suited(void)
{
    is_suited("lo", NETRING_METHOD_SENDMMSG);
    is_suited("va", NETRING_METHOD_SENDMMSG);
    if (net_link_new("ifb7", "ifb", NULL)) {
        const uint32_t method =
            has_driver("ifb7") ? NETRING_METHOD_TPACKET2 : NETRING_METHOD_SENDMMSG;

        is_suited("ifb7", method);
        if (net_link_new("mi", "macvlan", "ifb7")) {
            is_suited("mi", method);
            net_link_delete("mi");
        } else {
            tap_skip("auto on what is stacked on ifb", "no macvlan here");
        }
        net_link_delete("ifb7");
    } else {
        tap_skip("auto on ifb", "no ifb here");
    }
    if (net_link_new("mv", "macvlan", "va")) {
        is_suited("mv", NETRING_METHOD_SENDMMSG);
        net_link_delete("mv");
    }
}

/* ---- info ---- */

static void test_info(const struct method *method)
{
    struct netring_injector_config config = inject_config(method->method, SLOTS);
    struct netring_injector *injector = injector_open("va", &config);
    struct netring_injector_info info = injector_info(injector);
    struct netring_slot slot;

    is_int(info.size, sizeof info, "%s: info: size", method->name);
    if (method->method == NETRING_METHOD_AUTO)
        ok(info.method == NETRING_METHOD_TPACKET2 || info.method == NETRING_METHOD_SENDMMSG,
           "auto: info: the method in use (%u)", info.method);
    else
        is_int(info.method, method->method, "%s: info: method", method->name);
    is_int(info.ifindex, net_index("va"), "%s: info: ifindex", method->name);
    is_str(info.interface, "va", "%s: info: interface", method->name);
    is_int(info.link_type, NETRING_LINKTYPE_ETHERNET, "%s: info: link type", method->name);
    is_int(info.mtu, 1500, "%s: info: MTU", method->name);
    is_int(info.frame_limit, 1514, "%s: info: the largest frame", method->name);
    is_int(info.requested_slot_count, SLOTS, "%s: info: slots asked for", method->name);
    ok(info.slot_size >= 1518, "%s: info: a slot has room for a full frame with a tag (%u)",
       method->name, info.slot_size);
    ok(info.memory >= (uint64_t)info.slot_count * info.slot_size && info.memory <= 16 * MIB,
       "%s: info: memory (%llu)", method->name, (unsigned long long)info.memory);
    ok(info.memory <= info.memory_bound, "%s: info: within the bound", method->name);
    ok(info.kernel_version >= 0x40e00 && info.send_buffer > 0,
       "%s: info: kernel 0x%x, send buffer %u", method->name, info.kernel_version,
       info.send_buffer);
    net_link_mtu("va", 1000);
    info = injector_info(injector);
    is_int(info.mtu, 1000, "%s: info: MTU, once it was lowered", method->name);
    is_int(info.frame_limit, 1014, "%s: info: the largest frame then", method->name);
    net_link_mtu("va", 1500);
    must_reserve(injector, &slot, 1);
    ok(slot.capacity >= 1518 && slot.data, "%s: a slot of %u bytes", method->name, slot.capacity);
    is_int((uintptr_t)slot.data % 2, 0, "%s: at an even place", method->name);
    ok(slot.vnet_flags + slot.gso_type + slot.hdr_len + slot.gso_size + slot.csum_start +
               slot.csum_offset ==
           0,
       "%s: its checksum and GSO fields are zero", method->name);
    injector_close(injector);
}

/* ---- exhaustion ---- */

struct reserving {
    struct netring_injector *injector;
    struct netring_slot slots[4 * SLOTS];
    size_t count;
    int rc, error_number;
    pthread_t thread;
    bool done; /* atomic */
};

static void *reserves(void *user)
{
    struct reserving *r = user;

    errno = 0;
    r->rc = netring_injector_reserve(r->injector, r->slots, sizeof *r->slots, r->count, -1);
    r->error_number = errno;
    __atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
    return NULL;
}

static void reserve_starts(struct reserving *r, struct netring_injector *injector, size_t count)
{
    memset(r, 0, sizeof *r);
    r->injector = injector;
    r->count = count;
    pthread_create(&r->thread, NULL, reserves, r);
    sleep_ms(50);
}

static void test_exhaustion(const struct method *method)
{
    struct ground g = ground_new(method);
    struct netring_slot slots[4 * SLOTS + 8];
    struct reserving waiting;
    int64_t start;

    memset(slots, 0, sizeof slots);
    is_int(netring_injector_reserve(g.injector, slots, sizeof *slots, g.slots + 8, 0), g.slots,
           "%s: all slots at once", g.name);
    for (size_t i = 1; i < g.slots; i++) {
        if (slots[i].cookie != slots[i - 1].cookie + 1)
            ok(false, "%s: cookie %zu counts up by 1", g.name, i);
        for (size_t j = 0; j < i; j++) {
            size_t apart = slots[i].data > slots[j].data ? (size_t)(slots[i].data - slots[j].data)
                                                         : (size_t)(slots[j].data - slots[i].data);

            if (apart < slots[i].capacity)
                ok(false, "%s: slots %zu and %zu do not overlap", g.name, i, j);
        }
        memset(slots[i].data, 0xee, slots[i].capacity);
    }
    errno = ENOTTY;
    is_int(netring_injector_reserve(g.injector, slots + g.slots, sizeof *slots, 1, 0), 0,
           "%s: none left: 0", g.name);
    is_int(errno, ENOTTY, "%s: none left: errno stays", g.name);
    start = now_ms();
    is_int(netring_injector_reserve(g.injector, slots + g.slots, sizeof *slots, 1, 60), 0,
           "%s: none left for 60 ms: 0", g.name);
    is_between(now_ms() - start, 59, 60 + tap_patience(2000), "%s: after 60 ms", g.name);
    is_int(netring_injector_send(g.injector, slots->data, 60, 0), 0,
           "%s: send finds no slot either", g.name);
    is_int(injector_stats(g.injector).open, g.slots, "%s: all are open", g.name);

    reserve_starts(&waiting, g.injector, 3);
    ok(!__atomic_load_n(&waiting.done, __ATOMIC_ACQUIRE), "%s: a reserve waits", g.name);
    for (size_t i = 0; i < g.slots; i++)
        slots[i].len = 0;
    must_commit(g.injector, slots, g.slots / 2);
    must_commit(g.injector, slots + g.slots / 2, g.slots - g.slots / 2);
    pthread_join(waiting.thread, NULL);
    is_int(waiting.rc, 3, "%s: until slots are discarded", g.name);
    is_int(waiting.slots[0].cookie, slots[g.slots - 1].cookie + 1,
           "%s: a discarded cookie is not used again", g.name);
    for (int i = 0; i < waiting.rc; i++)
        waiting.slots[i].len = stream_make(waiting.slots[i].data, (uint32_t)i);
    must_commit(g.injector, waiting.slots, 3);
    flushes(&g, 3, "behind the discards");
    sink_is_stream(&sink, 0, 3, g.name);

    /* A wait hands over what is due, so that it ends. */
    must_reserve(g.injector, slots, g.slots);
    for (uint32_t i = 0; i < g.slots; i++)
        slots[i].len = stream_make(slots[i].data, i);
    must_commit(g.injector, slots, g.slots);
    reserve_starts(&waiting, g.injector, 1);
    pthread_join(waiting.thread, NULL);
    is_int(waiting.rc, 1, "%s: a reserve without a flush before it waits for no one", g.name);
    waiting.slots[0].len = 0;
    must_commit(g.injector, waiting.slots, 1);
    drains(g.injector, "a full ring");
    sink_is_stream(&sink, 0, (uint32_t)g.slots, g.name);
    ground_end(&g, "exhaustion");
}

/* ---- order ---- */

static void test_order(const struct method *method)
{
    struct ground g = ground_new(method);
    struct netring_slot a[4], b[4];
    struct netring_injector_stats stats;

    must_reserve(g.injector, a, 4);
    must_reserve(g.injector, b, 4);
    is_int(b[0].cookie, a[3].cookie + 1, "%s: cookies count up", g.name);
    for (uint32_t i = 0; i < 4; i++) {
        a[i].len = stream_make(a[i].data, i);
        b[i].len = stream_make(b[i].data, 4 + i);
    }
    must_commit(g.injector, b, 4);
    flushes(&g, 0, "behind open reservations");
    stats = injector_stats(g.injector);
    is_int(stats.held_back, 4, "%s: held back", g.name);
    is_int(stats.waiting, 4, "%s: waiting", g.name);
    is_int(stats.open, 4, "%s: open", g.name);
    is_int(netring_injector_drain(g.injector, (int)tap_patience(1000)), 1,
           "%s: drain does not wait for an open reservation", g.name);
    must_commit(g.injector, a + 2, 2);
    flushes(&g, 0, "still behind two");
    is_int(injector_stats(g.injector).held_back, 6, "%s: held back by two", g.name);
    must_commit(g.injector, a, 1);
    flushes(&g, 1, "the first");
    is_int(injector_stats(g.injector).held_back, 6, "%s: held back by one", g.name);
    a[1].len = 0;
    must_commit(g.injector, a + 1, 1);
    is_int(injector_stats(g.injector).held_back, 0, "%s: held back by none", g.name);
    flushes(&g, 6, "the others");
    sink_is_stream(&sink, 0, 1, g.name);
    sink_is_stream(&sink, 2, 6, g.name);
    stats = injector_stats(g.injector);
    ok(stats.reserved == 8 && stats.committed == 7 && stats.discarded == 1 && stats.handed == 7 &&
           stats.refused == 0,
       "%s: the counters of all that", g.name);
    ground_end(&g, "order");
}

/* ---- discards ---- */

/* A letter a slot: s is sent, d discarded; slots are committed in the order of the digits where
 * there are some (the others first). */
static const struct pattern {
    const char *what, *slots, *turns;
} patterns[] = {
    {"a discard at the start", "dssss", NULL},
    {"discards at the start", "ddddsss", NULL},
    {"a discard in the middle", "sssdsss", NULL},
    {"discards in the middle", "ssdddsss", NULL},
    {"a discard at the end", "ssssd", NULL},
    {"discards at the end", "ssddd", NULL},
    {"every second one", "sdsdsdsdsdsds", NULL},
    {"all but the last", "dddddds", NULL},
    {"all but the first", "sdddddd", NULL},
    {"all", "dddddddd", NULL},
    {"a discard first, then what is before it", "sssdsss", "1110000"},
    {"what is behind a discard first", "ssdss", "11200"},
    {"the discards last", "dsdsds", "101010"},
    {"the discards first", "dsdsds", "010101"},
    {"from the end", "sdssdsd", "6543210"},
};

static void test_patterns(const struct method *method)
{
    struct ground g = ground_new(method);
    uint32_t number = 0;

    /* Several laps, so that the holes lie everywhere in the ring. */
    for (size_t lap = 0; lap < 6; lap++) {
        for (size_t i = 0; i < COUNT(patterns); i++) {
            const struct pattern *p = &patterns[i];
            size_t count = strlen(p->slots), sent = 0;
            struct netring_injector_stats before = injector_stats(g.injector), after;
            struct netring_slot slots[16];
            char what[128];

            snprintf(what, sizeof what, "%s: %s", g.name, p->what);
            must_reserve(g.injector, slots, count);
            for (size_t j = 0; j < count; j++) {
                bool send = p->slots[j] == 's';

                slots[j].len = send ? stream_make(slots[j].data, number + (uint32_t)sent) : 0;
                sent += send;
            }
            for (char turn = '0'; turn <= '9'; turn++) {
                for (size_t j = 0; j < count; j++) {
                    if ((p->turns ? p->turns[j] : '0') == turn)
                        must_commit(g.injector, &slots[j], 1);
                }
                /* Sometimes it is in the middle of it all. */
                if (lap % 2)
                    netring_injector_flush(g.injector);
            }
            netring_injector_flush(g.injector);
            if (!sink_is_stream(&sink, number, (uint32_t)sent, what))
                return;
            number += (uint32_t)sent;
            after = injector_stats(g.injector);
            ok(after.handed - before.handed == sent &&
                   after.discarded - before.discarded == count - sent && after.waiting == 0 &&
                   after.open == 0,
               "%s: counted", what);
        }
    }
    ground_end(&g, "discards");
}

/* ---- several threads ---- */

enum { THREADS = 4, THREAD_FRAMES = 3000 };

struct sending {
    struct netring_injector *injector;
    uint64_t first; /* the cookie of frame 0 */
    uint32_t left;  /* atomic: frames still to be sent */
    unsigned bad;   /* atomic */
};

static bool takes_one(struct sending *s)
{
    uint32_t left = __atomic_load_n(&s->left, __ATOMIC_RELAXED);

    while (left > 0 && !__atomic_compare_exchange_n(&s->left, &left, left - 1, false,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    return left > 0;
}

/* Frames are numbered by their cookies: the receiver knows the order whatever the threads do. */
static void *sends(void *user)
{
    struct sending *s = user;
    struct dice dice = {(uint64_t)(uintptr_t)&dice | 1};

    while (takes_one(s)) {
        struct netring_slot slots[3];
        size_t count = 1;
        int rc;

        while (count < COUNT(slots) && takes_one(s))
            count++;
        for (size_t done = 0; done < count; done += (size_t)rc) {
            rc = netring_injector_reserve(s->injector, slots, sizeof *slots, count - done,
                                          (int)tap_patience(5000));
            if (rc <= 0) {
                __atomic_add_fetch(&s->bad, 1, __ATOMIC_RELAXED);
                return NULL;
            }
            for (int i = 0; i < rc; i++)
                slots[i].len = stream_make(slots[i].data, (uint32_t)(slots[i].cookie - s->first));
            if (dice_roll(&dice, 16) == 0)
                sched_yield();
            if (dice_roll(&dice, 2)) { /* the last one first */
                netring_injector_commit(s->injector, &slots[rc - 1], sizeof *slots, 1);
                netring_injector_commit(s->injector, slots, sizeof *slots, (size_t)rc - 1);
            } else {
                netring_injector_commit(s->injector, slots, sizeof *slots, (size_t)rc);
            }
            if (netring_injector_flush(s->injector) < 0)
                __atomic_add_fetch(&s->bad, 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

static void test_threads(const struct method *method)
{
    struct ground g = ground_new(method);
    struct sending sending = {g.injector, 0, THREADS * THREAD_FRAMES, 0};
    struct netring_slot slot;
    pthread_t threads[THREADS];
    char what[64];

    snprintf(what, sizeof what, "%s: %d threads", g.name, THREADS);
    must_reserve(g.injector, &slot, 1);
    slot.len = 0;
    must_commit(g.injector, &slot, 1);
    sending.first = slot.cookie + 1;
    if (tap_patience(1) > 1)
        sending.left /= 10;
    g.next = sending.left;
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, sends, &sending);
    sink_is_stream(&sink, 0, g.next, what);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    is_int(sending.bad, 0, "%s: no call fails", what);
    is_int(injector_stats(g.injector).handed, g.next, "%s: handed", what);
    ground_end(&g, "threads");
}

/* ---- bad commits ---- */

/* One slot of three is spoilt: what is before it is taken, it is told, it stays reserved. */
static void spoilt(struct ground *g, struct netring_slot *bad, int code, const char *word,
                   const char *what)
{
    struct netring_slot slots[3], right;
    struct netring_injector_stats stats;
    struct netring_error error;
    int rc, error_number;

    must_reserve(g->injector, slots, 3);
    for (uint32_t i = 0; i < 3; i++)
        slots[i].len = stream_make(slots[i].data, g->next + i);
    right = slots[1];
    slots[1].data = bad->data ? bad->data : right.data;
    slots[1].len = bad->len ? bad->len : right.len;
    slots[1].cookie += bad->cookie;
    slots[1].vnet_flags = bad->vnet_flags;
    slots[1].gso_type = bad->gso_type;
    slots[1].gso_size = bad->gso_size;
    slots[1].hdr_len = bad->hdr_len;
    slots[1].csum_start = bad->csum_start;
    slots[1].csum_offset = bad->csum_offset;
    is_int(netring_injector_commit(g->injector, slots, sizeof *slots, 3), 1,
           "%s: %s: the one before it is taken", g->name, what);
    errno = 0;
    rc = netring_injector_commit(g->injector, slots + 1, sizeof *slots, 2);
    error_number = errno;
    error_spoil(&error);
    netring_injector_last_error(g->injector, &error);
    is_failure(rc, error_number, &error, &(struct failure){code, 0, NULL, {word}}, what);
    stats = injector_stats(g->injector);
    is_int(stats.open, 2, "%s: %s: it and the next stay reserved", g->name, what);
    slots[1] = right;
    must_commit(g->injector, slots + 1, 2);
    flushes(g, 3, what);
    sink_is_stream(&sink, g->next, 3, what);
    g->next += 3;
}

static void test_bad_commits(const struct method *method)
{
    struct ground g = ground_new(method);
    struct netring_slot slots[4], copy[4];
    uint8_t elsewhere[2048] = {0};

    spoilt(&g, &(struct netring_slot){.len = 1515}, NETRING_EMSGSIZE, "MTU 1500",
           "a byte too long");
    spoilt(&g, &(struct netring_slot){.len = 0x10000}, NETRING_EMSGSIZE, "MTU of 1500",
           "too long for a slot, and for the interface");
    spoilt(&g, &(struct netring_slot){.len = UINT32_MAX}, NETRING_EMSGSIZE, "4294967295",
           "four billion bytes");
    spoilt(&g, &(struct netring_slot){.len = 13}, NETRING_EINVAL, "14",
           "shorter than its link-layer header");
    spoilt(&g, &(struct netring_slot){.len = 1}, NETRING_EINVAL, "14", "one byte");
    spoilt(&g, &(struct netring_slot){.data = elsewhere}, NETRING_EINVAL, NULL,
           "bytes that lie elsewhere");
    spoilt(&g, &(struct netring_slot){.cookie = UINT64_MAX}, NETRING_EINVAL, "cookie",
           "a cookie that was committed");
    spoilt(&g, &(struct netring_slot){.cookie = 1000}, NETRING_EINVAL, "cookie",
           "a cookie that nobody was given");
    spoilt(&g, &(struct netring_slot){.cookie = UINT64_MAX - 1000}, NETRING_EINVAL, "cookie",
           "a cookie of long ago, or of never");
    spoilt(&g, &(struct netring_slot){.cookie = UINT64_C(1) << 63}, NETRING_EINVAL, "cookie",
           "a cookie far away");
    spoilt(&g, &(struct netring_slot){.vnet_flags = 1}, NETRING_EINVAL, "VNET_HEADER",
           "a checksum to be computed, without the flag");
    spoilt(&g, &(struct netring_slot){.gso_type = 1, .gso_size = 100}, NETRING_EINVAL,
           "VNET_HEADER", "GSO without the flag");

    /* A tag makes room for 4 bytes more, and for no more than that. */
    must_reserve(g.injector, slots, 2);
    numbered_make(slots[0].data, 1518, g.next, true);
    slots[0].len = 1518;
    must_commit(g.injector, slots, 1);
    numbered_make(slots[1].data, 1518, g.next + 1, true);
    slots[1].len = 1519;
    is_int(netring_injector_commit(g.injector, slots + 1, sizeof *slots, 1), NETRING_EMSGSIZE,
           "%s: 1519 bytes with a tag", g.name);
    numbered_make(slots[1].data, 1518, g.next + 1, false);
    slots[1].len = 1518;
    is_int(netring_injector_commit(g.injector, slots + 1, sizeof *slots, 1), NETRING_EMSGSIZE,
           "%s: 1518 bytes without a tag", g.name);
    slots[1].len = 0;
    must_commit(g.injector, slots + 1, 1);
    flushes(&g, 1, "1518 bytes with a tag");
    sink_is(&sink, &(struct numbered){g.next, 1518, true}, 1, "1518 bytes with a tag");

    /* Twice: also when it has left, and its slot has another frame. */
    must_reserve(g.injector, slots, 3);
    for (uint32_t i = 0; i < 3; i++)
        slots[i].len = stream_make(slots[i].data, i);
    memcpy(copy, slots, sizeof copy);
    must_commit(g.injector, slots, 3);
    is_int(netring_injector_commit(g.injector, copy, sizeof *copy, 1), NETRING_EINVAL,
           "%s: committed twice", g.name);
    copy[1].len = 0;
    is_int(netring_injector_commit(g.injector, copy + 1, sizeof *copy, 1), NETRING_EINVAL,
           "%s: committed, then discarded", g.name);
    flushes(&g, 3, "committed twice");
    sink_is_stream(&sink, 0, 3, "committed twice");
    drains(g.injector, "committed twice");
    is_int(netring_injector_commit(g.injector, copy, sizeof *copy, 1), NETRING_EINVAL,
           "%s: committed when it has left", g.name);
    must_reserve(g.injector, slots, g.slots > 4 ? 4 : g.slots);
    is_int(netring_injector_commit(g.injector, copy, sizeof *copy, 1), NETRING_EINVAL,
           "%s: committed when another reservation is open", g.name);
    for (int i = 0; i < 4; i++)
        slots[i].len = 0;
    memcpy(copy, slots, sizeof copy);
    must_commit(g.injector, slots, 4);
    is_int(netring_injector_commit(g.injector, copy, sizeof *copy, 1), NETRING_EINVAL,
           "%s: discarded twice", g.name);

    /* Too long to be copied, too. */
    is_int(netring_injector_send(g.injector, elsewhere, 1515, 0), NETRING_EMSGSIZE,
           "%s: send: a byte too long", g.name);
    is_int(netring_injector_send(g.injector, elsewhere, 13, 0), NETRING_EINVAL,
           "%s: send: too short", g.name);
    is_int(netring_injector_send(g.injector, elsewhere, 0, 0), NETRING_EINVAL, "%s: send: no bytes",
           g.name);
    is_int(netring_injector_send(g.injector, elsewhere, SIZE_MAX, 0), NETRING_EMSGSIZE,
           "%s: send: more bytes than there are", g.name);
    is_int(injector_stats(g.injector).open, 0, "%s: which leaves no slot open", g.name);
    ground_end(&g, "bad commits");
}

/* By copy: up to the first bad one. */
static void test_bad_copies(const struct method *method)
{
    struct ground g = ground_new(method);
    static uint8_t bytes[5][2048];
    struct netring_frame frames[5];

    memset(frames, 0, sizeof frames);
    for (uint32_t i = 0; i < 5; i++) {
        frames[i].data = bytes[i];
        frames[i].len = stream_make(bytes[i], i);
    }
    frames[3].len = 2000;
    is_int(netring_injector_send_batch(g.injector, frames, sizeof *frames, 5, 0), 3,
           "%s: a batch up to a bad frame", g.name);
    is_int(netring_injector_send_batch(g.injector, frames + 3, sizeof *frames, 2, 0),
           NETRING_EMSGSIZE, "%s: a batch that begins with it", g.name);
    frames[3].data = NULL;
    frames[3].len = 60;
    is_int(netring_injector_send_batch(g.injector, frames + 3, sizeof *frames, 2, 0),
           NETRING_EINVAL, "%s: a frame at NULL", g.name);
    is_int(netring_injector_send_batch(g.injector, frames + 4, sizeof *frames, 1, 0), 1,
           "%s: the one behind it", g.name);
    sink_is_stream(&sink, 0, 3, g.name);
    sink_is_stream(&sink, 4, 1, g.name);
    is_int(injector_stats(g.injector).open, 0, "%s: a bad batch leaves no slot open", g.name);
    ground_end(&g, "bad copies");
}

/* ---- refused by the kernel ---- */

/* The MTU is lowered once the frames are committed: those that are too long now are refused when
 * their turn comes; the others leave. `mask` says which are long. */
static void refused_late(const struct method *method, uint32_t mask, uint32_t count,
                         const char *pattern)
{
    struct ground g = ground_new(method);
    struct netring_slot slots[16], further[4];
    struct netring_result results[17];
    struct numbered sent[24];
    struct netring_injector_stats stats;
    size_t leave = 0, bad = 0;
    char what[128];
    int rc;

    snprintf(what, sizeof what, "%s: refused late: %s", g.name, pattern);
    must_reserve(g.injector, slots, count);
    for (uint32_t i = 0; i < count; i++) {
        bool is_long = mask >> i & 1;
        struct numbered frame = {i, is_long ? 1400 : 100 + i, false};

        numbered_make(slots[i].data, frame.length, i, false);
        slots[i].len = frame.length;
        if (is_long)
            bad++;
        else
            sent[leave++] = frame;
    }
    must_commit(g.injector, slots, count);
    net_link_mtu("va", 1000);
    rc = netring_injector_flush(g.injector);
    is_int(rc, leave, "%s: as many leave in one flush", what);
    stats = injector_stats(g.injector);
    is_int(stats.refused, bad, "%s: refused", what);
    is_int(stats.handed, leave, "%s: handed", what);
    is_int(stats.waiting, 0, "%s: nothing waits behind it", what);
    adds_up(g.injector, what);
    memset(results, 0xa5, sizeof results);
    rc = netring_injector_results(g.injector, results, sizeof *results, COUNT(results));
    if (is_int(rc, bad, "%s: results", what)) {
        size_t at = 0, unlike = 0;

        for (uint32_t i = 0; i < count; i++) {
            if (!(mask >> i & 1))
                continue;
            unlike += results[at].cookie != slots[i].cookie ||
                      results[at].code != NETRING_EMSGSIZE || results[at].os_errno != EMSGSIZE;
            at++;
        }
        is_int(unlike, 0, "%s: each with its cookie, EMSGSIZE and errno, in order", what);
    }
    is_int(netring_injector_results(g.injector, results, sizeof *results, 1), 0, "%s: told once",
           what);
    /* And it goes on. */
    must_reserve(g.injector, further, 4);
    for (uint32_t i = 0; i < 4; i++) {
        struct numbered frame = {100 + i, 60 + i, false};

        numbered_make(further[i].data, frame.length, frame.number, false);
        further[i].len = frame.length;
        sent[leave++] = frame;
    }
    must_commit(g.injector, further, 4);
    is_int(netring_injector_flush(g.injector), 4, "%s: and on it goes", what);
    sink_is(&sink, sent, leave, what);
    net_link_mtu("va", 1500);
    ground_end(&g, pattern);
}

static void test_refused_late(const struct method *method)
{
    refused_late(method, 0x001, 8, "the first");
    refused_late(method, 0x010, 8, "one in the middle");
    refused_late(method, 0x080, 8, "the last");
    refused_late(method, 0x01c, 8, "three in the middle");
    refused_late(method, 0x555, 12, "every second");
    refused_late(method, 0xaaa, 12, "every other");
    refused_late(method, 0x0ff, 8, "all");
    refused_late(method, 0x001, 1, "the only one");
}

/* What nobody fetches is counted; the queue of results has an end, the newest are lost or the
 * oldest: their sum is right. */
static void test_results_lost(const struct method *method)
{
    struct ground g = ground_new(method);
    struct netring_result results[64];
    struct netring_injector_stats stats;
    uint64_t refused = 0, fetched = 0;
    int rc;

    while (refused < 40000 && injector_stats(g.injector).results_lost == 0) {
        struct netring_slot slots[SLOTS];

        must_reserve(g.injector, slots, SLOTS);
        for (uint32_t i = 0; i < SLOTS; i++) {
            numbered_make(slots[i].data, 1400, i, false);
            slots[i].len = 1400;
        }
        must_commit(g.injector, slots, SLOTS);
        net_link_mtu("va", 1000);
        netring_injector_flush(g.injector);
        net_link_mtu("va", 1500);
        refused += SLOTS;
    }
    stats = injector_stats(g.injector);
    is_int(stats.refused, refused, "%s: refused, and nobody looks", g.name);
    ok(stats.results_lost > 0, "%s: some results are lost, after %llu", g.name,
       (unsigned long long)refused);
    while ((rc = netring_injector_results(g.injector, results, sizeof *results, 64)) > 0) {
        for (int i = 1; i < rc; i++) {
            if (results[i].cookie != results[i - 1].cookie + 1)
                ok(false, "%s: results are in order", g.name);
        }
        fetched += (uint64_t)rc;
    }
    is_int(fetched + injector_stats(g.injector).results_lost, refused,
           "%s: results fetched and lost are all", g.name);
    ok(fetched >= g.slots, "%s: %llu are kept", g.name, (unsigned long long)fetched);
    ground_end(&g, "results lost");
}

int main(void)
{
    struct footprint before;

    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    sink_open(&sink, "vb");
    before = footprint_now();
    test_suited();
    test_tag_on_lo();
    for (size_t i = 0; i < COUNT(methods); i++) {
        test_info(&methods[i]);
        test_exhaustion(&methods[i]);
        test_order(&methods[i]);
        test_patterns(&methods[i]);
        test_threads(&methods[i]);
        test_bad_commits(&methods[i]);
        test_bad_copies(&methods[i]);
        test_refused_late(&methods[i]);
        test_results_lost(&methods[i]);
    }
    is_int(sink_drops(&sink), 0, "the receiver drops nothing");
    is_footprint(before, "all of it");
    sink_close(&sink);
    return tap_end();
}
