/* Random calls against a model of the injector that is a list: reserve, commit and discard in any
 * order, bad commits, frames that turn out too long when their turn comes, flush, drain, results,
 * sending by copy. After every call the counters are exactly the model's, and what arrives is
 * exactly what the model says left, in its order. Each run is the same for its seed. */
#include "inject.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SLOTS = 32, MOST = 4 * SLOTS, LONG = 1400, LOW_MTU = 1000 };

/* A slot that was reserved and is still the injector's. */
struct entry {
    struct netring_slot slot;
    enum { OPEN, FRAME, HOLE } state;
    struct numbered frame;
};

struct model {
    struct netring_injector *injector;
    struct dice dice;
    size_t slots;
    struct entry entries[2 * MOST]; /* in order of reserve; the first is open, or has a frame */
    size_t count;
    size_t used; /* at most so many slots are in use */
    uint64_t next_cookie, reserved, committed, discarded, handed, bytes, refused;
    uint32_t next; /* number of the next frame */
    bool mtu_is_low;
    struct numbered left[MOST]; /* what left and has not been received */
    size_t left_count;
    struct netring_result refusals[4096]; /* that were not fetched */
    size_t refusal_count;
    struct sink sink;
    char wrong[256];
};

#define WRONG(m, ...) (snprintf((m)->wrong, sizeof(m)->wrong, __VA_ARGS__), false)

static size_t open_count(const struct model *m)
{
    size_t count = 0;

    for (size_t i = 0; i < m->count; i++)
        count += m->entries[i].state == OPEN;
    return count;
}

static size_t frames_before(const struct model *m, size_t end)
{
    size_t count = 0;

    for (size_t i = 0; i < end; i++)
        count += m->entries[i].state == FRAME;
    return count;
}

static size_t first_open(const struct model *m)
{
    size_t at = 0;

    while (at < m->count && m->entries[at].state != OPEN)
        at++;
    return at;
}

/* What is in front of the first open slot and no frame is nothing any more. */
static void settle(struct model *m)
{
    size_t keep = 0, end = first_open(m);

    for (size_t i = 0; i < m->count; i++) {
        if (i >= end || m->entries[i].state == FRAME)
            m->entries[keep++] = m->entries[i];
    }
    m->count = keep;
    if (open_count(m) == 0)
        m->used = m->count;
}

static bool too_long(const struct model *m, const struct numbered *frame)
{
    return m->mtu_is_low && frame->length == LONG;
}

/* Of the frames that can leave, `handed` left, and those among them that are too long are refused;
 * `all`: none is there any more. */
static bool leaves(struct model *m, size_t handed, bool all)
{
    size_t end = first_open(m), at = 0;

    for (; at < end; at++) {
        const struct entry *e = &m->entries[at];

        if (e->state != FRAME)
            continue;
        if (too_long(m, &e->frame)) {
            if (handed == 0 && !all)
                break;
            m->refused++;
            if (m->refusal_count < COUNT(m->refusals))
                m->refusals[m->refusal_count++] =
                    (struct netring_result){e->slot.cookie, NETRING_EMSGSIZE, EMSGSIZE};
            continue;
        }
        if (handed == 0)
            break;
        handed--;
        m->used--;
        m->handed++;
        m->bytes += e->frame.length;
        m->left[m->left_count++] = e->frame;
    }
    memmove(m->entries, m->entries + at, (m->count - at) * sizeof *m->entries);
    m->count -= at;
    settle(m);
    if (handed > 0)
        return WRONG(m, "more frames left than there were");
    if (all && frames_before(m, first_open(m)) > 0)
        return WRONG(m, "frames that could leave did not");
    return true;
}

static bool receives(struct model *m)
{
    uint8_t frame[FRAME_MAX];

    for (size_t i = 0; i < m->left_count; i++) {
        const struct numbered *want = &m->left[i];
        size_t length = sink_next(&m->sink, (int)tap_patience(2000));

        numbered_make(frame, want->length, want->number, want->tagged);
        if (length == 0)
            return WRONG(m, "frame %u does not arrive", want->number);
        if (length != want->length || memcmp(frame, m->sink.frame, length) != 0)
            return WRONG(m, "frame %u arrives (%zu bytes) for %u (%u bytes)",
                         numbered_number(m->sink.frame), length, want->number, want->length);
    }
    m->left_count = 0;
    return true;
}

/* The counters, all of them. */
static bool counts(struct model *m)
{
    struct netring_injector_stats s = injector_stats(m->injector);
    const char *sum = not_adding_up(&s);
    size_t open = open_count(m), frames = frames_before(m, m->count);
    size_t held_back = frames - frames_before(m, first_open(m));

    if (sum)
        return WRONG(m, "not: %s", sum);
#define SAME(field, value)                                                                         \
    do {                                                                                           \
        if (s.field != (value))                                                                    \
            return WRONG(m, #field " is %llu, not %llu", (unsigned long long)s.field,              \
                         (unsigned long long)(value));                                             \
    } while (0)
    SAME(reserved, m->reserved);
    SAME(committed, m->committed);
    SAME(discarded, m->discarded);
    SAME(handed, m->handed);
    SAME(handed_bytes, m->bytes);
    SAME(refused, m->refused);
    SAME(dropped, 0u);
    SAME(open, open);
    SAME(waiting, frames);
    SAME(held_back, held_back);
    SAME(results_lost, 0u);
    return true;
}

/* ---- the calls ---- */

static struct numbered next_frame(struct model *m)
{
    struct numbered frame = stream_frame(m->next);

    if (dice_roll(&m->dice, 8) == 0)
        frame = (struct numbered){m->next, LONG, false};
    else if (frame.length > LOW_MTU) /* only those of LONG are affected by the MTU */
        frame = (struct numbered){m->next, LOW_MTU, false};
    m->next++;
    return frame;
}

/* A wait may hand over what is due: it is flushed before, so that there is nothing. */
static bool flushes(struct model *m)
{
    struct netring_injector_stats before = injector_stats(m->injector), after;
    int rc = netring_injector_flush(m->injector);

    if (rc < 0)
        return WRONG(m, "flush: %s", netring_err_name(rc));
    after = injector_stats(m->injector);
    return leaves(m, (size_t)rc,
                  after.full_socket == before.full_socket && after.full_queue == before.full_queue);
}

static bool drains_all(struct model *m)
{
    struct netring_injector_stats s;
    int rc = netring_injector_drain(m->injector, (int)tap_patience(5000));

    if (rc != 1)
        return WRONG(m, "drain: %d", rc);
    s = injector_stats(m->injector);
    if (s.in_flight != 0)
        return WRONG(m, "drained, with %llu in flight", (unsigned long long)s.in_flight);
    return leaves(m, s.handed - m->handed, true);
}

static bool reserves(struct model *m)
{
    struct netring_slot slots[MOST];
    size_t want = 1 + dice_roll(&m->dice, dice_roll(&m->dice, 10) ? 8 : SLOTS), least;
    int rc;

    if (!drains_all(m))
        return false;
    rc = netring_injector_reserve(m->injector, slots, sizeof *slots, want, 0);
    if (rc < 0 || (size_t)rc > want)
        return WRONG(m, "reserve: %d for %zu", rc, want);
    least = want < m->slots - m->used ? want : m->slots - m->used;
    if ((size_t)rc < least)
        return WRONG(m, "reserve: %d of %zu, where %zu of %zu are in use at most", rc, want,
                     m->used, m->slots);
    if (open_count(m) + frames_before(m, m->count) + (size_t)rc > m->slots)
        return WRONG(m, "reserve: %d more than there are", rc);
    for (int i = 0; i < rc; i++) {
        struct entry *e = &m->entries[m->count++];

        if (slots[i].cookie != m->next_cookie++)
            return WRONG(m, "cookie %llu for %llu", (unsigned long long)slots[i].cookie,
                         (unsigned long long)m->next_cookie - 1);
        e->slot = slots[i];
        e->state = OPEN;
        memset(e->slot.data, 0xdd, e->slot.capacity);
    }
    m->used += (size_t)rc;
    m->reserved += (uint64_t)rc;
    return true;
}

/* Some of the open slots, in any order, some of them without a frame; at the end one that is bad.
 */
static bool commits(struct model *m)
{
    struct entry *chosen[MOST];
    struct netring_slot slots[MOST + 1];
    size_t count = 0, bad = 0;
    int rc, code = 0;

    for (size_t i = 0; i < m->count; i++) {
        if (m->entries[i].state == OPEN && dice_roll(&m->dice, 3) > 0) {
            size_t to = dice_roll(&m->dice, (uint32_t)count + 1);

            chosen[count++] = chosen[to];
            chosen[to] = &m->entries[i];
        }
    }
    if (count == 0)
        return true;
    for (size_t i = 0; i < count; i++) {
        struct entry *e = chosen[i];

        slots[i] = e->slot;
        slots[i].len = 0;
        if (dice_roll(&m->dice, 4) > 0) {
            e->frame = next_frame(m);
            numbered_make(e->slot.data, e->frame.length, e->frame.number, e->frame.tagged);
            slots[i].len = e->frame.length;
            if (too_long(m, &e->frame)) { /* it is known already: this one is the bad one */
                count = i + 1;
                bad = 1;
                code = NETRING_EMSGSIZE;
            }
        }
    }
    if (!bad && dice_roll(&m->dice, 4) == 0) {
        bad = 1;
        switch (dice_roll(&m->dice, 5)) {
        case 0:
            slots[count - 1].len = 1600;
            code = NETRING_EMSGSIZE;
            break;
        case 1:
            slots[count - 1].len = 5;
            code = NETRING_EINVAL;
            break;
        case 2:
            slots[count - 1].cookie += MOST;
            code = NETRING_EINVAL;
            break;
        case 3:
            slots[count - 1].data++;
            slots[count - 1].len = 60;
            code = NETRING_EINVAL;
            break;
        default: /* one that is good, once more */
            slots[count] = slots[0];
            count++;
            code = NETRING_EINVAL;
            break;
        }
    }
    rc = netring_injector_commit(m->injector, slots, sizeof *slots, count);
    if (bad && count == 1) {
        if (rc != code)
            return WRONG(m, "a bad commit: %d, not %d", rc, code);
    } else if (rc != (int)(count - bad)) {
        return WRONG(m, "commit: %d of %zu with %zu bad", rc, count, bad);
    } else if (bad && (rc = netring_injector_commit(m->injector, slots + count - 1, sizeof *slots,
                                                    1)) != code) {
        return WRONG(m, "a bad commit at the front: %d, not %d", rc, code);
    }
    for (size_t i = 0; i < count - bad; i++) {
        chosen[i]->state = slots[i].len ? FRAME : HOLE;
        m->committed += slots[i].len != 0;
        m->discarded += slots[i].len == 0;
    }
    settle(m);
    return true;
}

/* Only where no wait for a slot is needed; the calls flush. */
static bool copies(struct model *m)
{
    static uint8_t bytes[6][FRAME_MAX];
    struct netring_frame frames[6];
    struct numbered made[6];
    size_t count = 1 + dice_roll(&m->dice, 6);
    struct netring_injector_stats s;
    int rc;

    if (!drains_all(m) || m->slots - m->used < count || m->mtu_is_low)
        return !*m->wrong;
    memset(frames, 0, sizeof frames);
    for (size_t i = 0; i < count; i++) {
        made[i] = next_frame(m);
        numbered_make(bytes[i], made[i].length, made[i].number, made[i].tagged);
        frames[i].data = bytes[i];
        frames[i].len = made[i].length;
    }
    if (count == 1)
        rc = netring_injector_send(m->injector, frames[0].data, frames[0].len, 0);
    else
        rc = netring_injector_send_batch(m->injector, frames, sizeof *frames, count, 0);
    if (rc != (int)count)
        return WRONG(m, "by copy: %d of %zu", rc, count);
    for (size_t i = 0; i < count; i++) {
        m->entries[m->count++] =
            (struct entry){.slot = {.cookie = m->next_cookie++}, .state = FRAME, .frame = made[i]};
        m->used++;
    }
    m->reserved += count;
    m->committed += count;
    s = injector_stats(m->injector);
    return leaves(m, s.handed - m->handed, s.full_socket + s.full_queue == 0);
}

static bool fetches(struct model *m)
{
    struct netring_result results[8];
    size_t want = 1 + dice_roll(&m->dice, 8), have;
    int rc = netring_injector_results(m->injector, results, sizeof *results, want);

    have = want < m->refusal_count ? want : m->refusal_count;
    if (rc != (int)have)
        return WRONG(m, "results: %d, not %zu", rc, have);
    for (size_t i = 0; i < have; i++) {
        if (memcmp(&results[i], &m->refusals[i], sizeof results[i]) != 0)
            return WRONG(m, "result of %llu (%d), not of %llu",
                         (unsigned long long)results[i].cookie, results[i].code,
                         (unsigned long long)m->refusals[i].cookie);
    }
    m->refusal_count -= have;
    memmove(m->refusals, m->refusals + have, m->refusal_count * sizeof *m->refusals);
    return true;
}

static bool changes_mtu(struct model *m)
{
    m->mtu_is_low = !m->mtu_is_low;
    net_link_mtu("va", m->mtu_is_low ? LOW_MTU : 1500);
    /* Which looks at it. A commit or a flush alone may have looked a millisecond ago. */
    return injector_info(m->injector).mtu == (m->mtu_is_low ? LOW_MTU : 1500u) ||
           WRONG(m, "the MTU in info");
}

static bool step(struct model *m)
{
    switch (dice_roll(&m->dice, 64)) {
    case 0:
        return changes_mtu(m);
    case 1 ... 3:
        return fetches(m);
    case 4 ... 8:
        return copies(m);
    case 9 ... 14:
        return drains_all(m);
    case 15 ... 28:
        return flushes(m);
    case 29 ... 44:
        return reserves(m);
    default:
        return commits(m);
    }
}

static void run(const struct method *method, uint64_t seed, uint32_t steps)
{
    static struct model model;
    struct netring_injector_config config = inject_config(method->method, SLOTS);
    struct model *m = &model;
    struct netring_slot first;
    uint32_t at = 0;
    bool good = true;

    memset(m, 0, sizeof *m);
    m->injector = injector_open("va", &config);
    m->slots = injector_info(m->injector).slot_count;
    m->dice.state = seed;
    sink_open(&m->sink, "vb");
    if (m->slots > MOST)
        tap_bail("%zu slots", m->slots);
    must_reserve(m->injector, &first, 1);
    first.len = 0;
    must_commit(m->injector, &first, 1);
    m->next_cookie = first.cookie + 1;
    m->reserved = m->discarded = 1;
    for (; at < steps && good; at++)
        good = step(m) && counts(m) && receives(m);
    /* The rest is discarded, and there is nothing left. */
    for (size_t i = 0; good && i < m->count; i++) {
        if (m->entries[i].state == OPEN) {
            m->entries[i].slot.len = 0;
            good = netring_injector_commit(m->injector, &m->entries[i].slot,
                                           sizeof(struct netring_slot), 1) == 1;
            m->entries[i].state = HOLE;
            m->discarded++;
        }
    }
    settle(m);
    good = good && drains_all(m) && counts(m) && receives(m) &&
           (m->count == 0 || WRONG(m, "something is left"));
    ok(good, "%s, seed %llu: %u calls, %llu frames, %llu refused%s%s", method->name,
       (unsigned long long)seed, at, (unsigned long long)m->handed, (unsigned long long)m->refused,
       good ? "" : ": ", m->wrong);
    sink_is_empty(&m->sink, method->name);
    ok(m->handed > steps / 8 && m->discarded > steps / 32 && (steps < 1000 || m->refused > 0),
       "%s, seed %llu: it was not idle", method->name, (unsigned long long)seed);
    if (m->mtu_is_low)
        net_link_mtu("va", 1500);
    injector_close(m->injector);
    sink_close(&m->sink);
}

int main(void)
{
    uint32_t steps = tap_patience(1) > 1 ? 400 : 4000;

    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    for (size_t i = 0; i < COUNT(methods); i++) {
        for (uint64_t seed = 1; seed <= 5; seed++)
            run(&methods[i], seed * 7777777777777777777u, steps);
    }
    return tap_end();
}
