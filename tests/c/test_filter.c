/* Filters: from instructions and from the text of tcpdump -ddd, refused with the instruction or
 * line named, and run in user space with the verdict that the kernel gives. */
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AD(name) ((uint32_t)SKF_AD_OFF + SKF_AD_##name)
#define LD(size, mode, k) BPF_STMT(BPF_LD | (size) | (mode), (k))
#define JEQ(k, jt, jf) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (jt), (jf))
#define RET(k) BPF_STMT(BPF_RET | BPF_K, (k))

/* ---- making them ---- */

#define MOST 8

static const struct {
    const char *what;
    struct sock_filter code[MOST];
    size_t count;
    const char *words[2];
} wrong[] = {
    {"no instruction", {RET(0)}, 0, {"no instructions"}},
    {"no return", {LD(BPF_W, BPF_ABS, 0)}, 1, {"instruction 0", "ret"}},
    {"no return at the end", {RET(1), LD(BPF_W, BPF_ABS, 0)}, 2, {"instruction 1", "ret"}},
    {"a jump over the end", {JEQ(0, 0, 2), RET(1), RET(0)}, 3, {"instruction 0", "jumps to 3"}},
    {"a jump that wraps", {BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff), RET(0)}, 2, {"instruction 0"}},
    {"division by 0", {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0)}, 2, {"instruction 0"}},
    {"a shift too far",
     {RET(0), BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RET(0)},
     3,
     {"instruction 1", "32"}},
    {"memory that is not there", {BPF_STMT(BPF_ST, 16), RET(0)}, 2, {"instruction 0", "16"}},
    {"memory never written", {BPF_STMT(BPF_LD | BPF_MEM, 3), RET(0)}, 2, {"instruction 0", "M[3]"}},
    {"no such instruction", {RET(0), {0x0e, 0, 0, 0}, RET(0)}, 3, {"instruction 1"}},
    {"an eBPF instruction", {{0xb7, 0, 0, 0}, {0x95, 0, 0, 0}}, 2, {"instruction 0"}},
    {"an ancillary load that is not there",
     {LD(BPF_W, BPF_ABS, AD(VLAN_TPID) + 4), RET(0)},
     2,
     {"instruction 0"}},
};

static void test_new(void)
{
    static const struct sock_filter all[] = {RET(0x40000)};
    struct netring_filter *filter = NULL;
    struct sock_filter *longest = calloc(BPF_MAXINSNS + 1, sizeof *longest);
    struct netring_error error;

    error_spoil(&error);
    errno = ENOTTY;
    is_int(netring_filter_new(all, 1, &filter, &error), 0, "the shortest filter");
    is_int(errno, ENOTTY, "filter_new leaves errno alone");
    is_no_error(&error, "filter_new");
    is_int(netring_filter_count(filter), 1, "has one instruction");
    is_int(netring_filter_free(filter), 0, "and is freed");
    errno = 0;
    is_int(netring_filter_free(filter), NETRING_EBADF, "once");
    is_int(errno, EBADF, "once: errno");
    is_int(netring_filter_count(filter), NETRING_EBADF, "the count of a freed filter");
    is_int(netring_filter_free(NULL), 0, "freeing nothing");

    if (!longest)
        tap_bail("out of memory");
    for (size_t i = 0; i <= BPF_MAXINSNS; i++)
        longest[i] = all[0];
    is_int(netring_filter_new(longest, BPF_MAXINSNS, &filter, NULL), 0, "the longest filter");
    is_int(netring_filter_count(filter), BPF_MAXINSNS, "has 4096 instructions");
    netring_filter_free(filter);
    is_int(netring_filter_new(longest, BPF_MAXINSNS + 1, &filter, &error), NETRING_EFILTER,
           "one more is too many");
    is_str_contains(error.message, "4096", "one more is too many: the limit");
    free(longest);
}

static void test_wrong(void)
{
    for (size_t i = 0; i < COUNT(wrong); i++) {
        const struct failure failure = {
            NETRING_EFILTER, 0, "program", {wrong[i].words[0], wrong[i].words[1]}};
        struct netring_filter *filter = NULL;
        struct netring_error error;
        int rc;

        error_spoil(&error);
        errno = 0;
        rc = netring_filter_new(wrong[i].code, wrong[i].count, &filter, &error);
        is_failure(rc, errno, &error, &failure, wrong[i].what);
        ok(filter == NULL, "%s: no filter", wrong[i].what);
        is_int(netring_filter_new(wrong[i].code, wrong[i].count, &filter, NULL), NETRING_EFILTER,
               "%s: without an error struct", wrong[i].what);
    }
}

static const char ddd[] = "4\n40 0 0 12\n21 0 1 34997\n6 0 0 262144\n6 0 0 0\n";

static void test_ddd(void)
{
    static const char *const good[] = {
        ddd,
        "1\n6 0 0 4294967295",
        "1\r\n6 0 0 1\r\n",
        "4,40 0 0 12,21 0 1 34997,6 0 0 262144,6 0 0 0",
    };
    static const struct {
        const char *what, *text, *words;
    } bad[] = {
        {"nothing", "", "line 1"},
        {"no count", "ldh [12]", "line 1"},
        {"fewer lines than announced", "2\n6 0 0 1\n", "cut off"},
        {"more lines than announced", "1\n6 0 0 1\n6 0 0 0\n", "line 3"},
        {"a number missing", "1\n6 0 0\n", "line 2"},
        {"a number too many", "1\n6 0 0 1 1\n", "line 2"},
        {"a word", "1\n6 0 0 x\n", "line 2"},
        {"a negative number", "1\n6 0 0 -1\n", "line 2"},
        {"a jump that does not fit", "1\n6 256 0 1\n", "jt"},
        {"a value that does not fit", "1\n6 0 0 4294967296\n", "4294967296"},
        {"count 0", "0\n", "line 1"},
        {"a count too large", "4097\n", "4096"},
        {"a wrong program", "1\n40 0 0 12\n", "instruction 0"},
    };
    struct netring_filter *filter;
    struct netring_error error;

    for (size_t i = 0; i < COUNT(good); i++) {
        int rc = netring_filter_new_ddd(good[i], strlen(good[i]), &filter, &error);

        if (is_int(rc, 0, "text %zu", i))
            netring_filter_free(filter);
    }
    /* Without a NUL at the end: only `length` bytes are read. */
    is_int(netring_filter_new_ddd("1\n6 0 0 7x", 9, &filter, NULL), 0, "the length counts");
    netring_filter_free(filter);
    for (size_t i = 0; i < COUNT(bad); i++) {
        const struct failure failure = {NETRING_EFILTER, 0, NULL, {bad[i].words}};
        int rc;

        error_spoil(&error);
        filter = NULL;
        errno = 0;
        rc = netring_filter_new_ddd(bad[i].text, strlen(bad[i].text), &filter, &error);
        is_failure(rc, errno, &error, &failure, bad[i].what);
        ok(filter == NULL, "%s: no filter", bad[i].what);
    }
}

/* ---- user space ---- */

static int verdict(const struct sock_filter *code, size_t count,
                   const struct netring_packet *packet)
{
    struct netring_filter *filter;
    int rc = netring_filter_new(code, count, &filter, NULL);

    if (rc != 0)
        return rc;
    rc = netring_filter_match(filter, packet, sizeof *packet);
    netring_filter_free(filter);
    return rc;
}

static void test_match(void)
{
    static const struct {
        const char *what;
        struct sock_filter code[MOST];
        size_t count;
        int want;
    } cases[] = {
        {"keeps", {RET(100)}, 1, 100},
        {"keeps all", {RET(0xffffffff)}, 1, INT32_MAX},
        {"rejects", {RET(0)}, 1, 0},
        {"ethertype", {LD(BPF_H, BPF_ABS, 12), JEQ(ETHERTYPE_TEST, 0, 1), RET(9), RET(0)}, 4, 9},
        {"the last byte", {LD(BPF_B, BPF_ABS, 59), RET(9)}, 2, 9},
        {"behind the last byte", {LD(BPF_B, BPF_ABS, 60), RET(9)}, 2, 0},
        {"a word over the end", {LD(BPF_W, BPF_ABS, 57), RET(9)}, 2, 0},
        {"the length", {LD(BPF_W, BPF_LEN, 0), BPF_STMT(BPF_RET | BPF_A, 0)}, 2, 60},
        {"division by X = 0", {BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0), RET(9)}, 2, 0},
        {"the protocol",
         {LD(BPF_W, BPF_ABS, AD(PROTOCOL)), JEQ(ETHERTYPE_TEST, 0, 1), RET(9), RET(0)},
         4,
         9},
        {"the direction",
         {LD(BPF_W, BPF_ABS, AD(PKTTYPE)), JEQ(NETRING_DIRECTION_MULTICAST, 0, 1), RET(9), RET(0)},
         4,
         9},
        {"the interface", {LD(BPF_W, BPF_ABS, AD(IFINDEX)), JEQ(7, 0, 1), RET(9), RET(0)}, 4, 9},
        {"a tag", {LD(BPF_W, BPF_ABS, AD(VLAN_TAG_PRESENT)), JEQ(1, 0, 1), RET(9), RET(0)}, 4, 9},
        {"its TCI", {LD(BPF_W, BPF_ABS, AD(VLAN_TAG)), JEQ(0x6064, 0, 1), RET(9), RET(0)}, 4, 9},
        {"its TPID", {LD(BPF_W, BPF_ABS, AD(VLAN_TPID)), JEQ(0x88a8, 0, 1), RET(9), RET(0)}, 4, 9},
        {"behind the link layer", {LD(BPF_B, BPF_ABS, (uint32_t)SKF_NET_OFF + 4), RET(9)}, 2, 9},
        {"the CPU", {LD(BPF_W, BPF_ABS, AD(CPU)), RET(9)}, 2, NETRING_ENOTSUP},
        {"the kernel's mark", {LD(BPF_W, BPF_ABS, AD(MARK)), RET(9)}, 2, NETRING_ENOTSUP},
        {"a random number", {LD(BPF_W, BPF_ABS, AD(RANDOM)), RET(9)}, 2, NETRING_ENOTSUP},
        {"the CPU, on no way",
         {LD(BPF_H, BPF_ABS, 12), JEQ(0x800, 0, 1), LD(BPF_W, BPF_ABS, AD(CPU)), RET(9)},
         4,
         9},
    };
    uint8_t frame[60];
    struct netring_packet packet = {
        .data = frame,
        .caplen = sizeof frame,
        .len = sizeof frame,
        .status = NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID | NETRING_PACKET_PROTOCOL |
                  NETRING_PACKET_DIRECTION | NETRING_PACKET_NET_OFFSET,
        .vlan_tci = 0x6064,
        .vlan_tpid = 0x88a8,
        .protocol = ETHERTYPE_TEST,
        .net_offset = ETHER_HEADER,
        .ifindex = 7,
        .direction = NETRING_DIRECTION_MULTICAST,
    };

    frame_make(frame, sizeof frame, 1);
    for (size_t i = 0; i < COUNT(cases); i++)
        is_int(verdict(cases[i].code, cases[i].count, &packet), cases[i].want, "match: %s",
               cases[i].what);

    /* A packet that was cut: what is missing was there when the kernel looked. */
    packet.len = 500;
    is_int(verdict(cases[4].code, cases[4].count, &packet), 9, "match: what is left of a packet");
    is_int(verdict(cases[5].code, cases[5].count, &packet), NETRING_ENOTSUP,
           "match: what was cut off is not known");
}

static void test_match_arguments(void)
{
    static const struct sock_filter all[] = {RET(1)};
    struct netring_packet packet;
    struct netring_filter *filter;

    memset(&packet, 0, sizeof packet);
    netring_filter_new(all, 1, &filter, NULL);
    is_int(netring_filter_match(filter, &packet, sizeof packet), 1, "match: an empty packet");
    is_int(netring_filter_match(filter, NULL, sizeof packet), NETRING_EINVAL, "match: NULL");
    is_int(netring_filter_match(filter, &packet, sizeof packet - 1), NETRING_EINVAL,
           "match: size too small");
    packet.caplen = packet.len = 10;
    is_int(netring_filter_match(filter, &packet, sizeof packet), NETRING_EINVAL, "match: no data");
    netring_filter_free(filter);
    is_int(netring_filter_match(filter, &packet, sizeof packet), NETRING_EBADF,
           "match: a freed filter");
}

/* ---- the kernel's verdict and ours ---- */

static int sender; /* on va; what it sends arrives at vb */

enum { VARIETY = 90 };

/* Frames of all kinds: lengths, destinations, types, tags. */
static void send_variety(void)
{
    static const uint16_t tags[] = {0, 0x8100, 0x88a8};
    uint8_t frame[FRAME_MAX];

    for (uint32_t n = 0; n < VARIETY; n++) {
        size_t length = frame_make(frame, 20 + n * 7 % 200, n);

        if (n % 5 == 0)
            memset(frame, 0xff, 6);
        if (n % 2)
            frame[13] = 0xb6;
        if (tags[n % 3])
            length = frame_tag(frame, length, tags[n % 3], (uint16_t)(n % 4 * 0x1111));
        net_send(sender, frame, length);
    }
}

/* What a capture with this filter (or none) gets of them. */
static struct records variety(struct netring_filter *filter)
{
    struct netring_capture_config config = small_config();
    struct records records = {0, 0, NULL};
    struct netring_capture *witness = capture_open("vb", &config), *capture;

    config.filter = filter;
    config.block_timeout = 0;
    capture = capture_open("vb", &config);
    send_variety();
    await_seen(witness, VARIETY);
    capture_close(witness);
    netring_capture_stop(capture);
    receive(capture, SIZE_MAX, 0, &records);
    capture_close(capture);
    return records;
}

static void test_like_the_kernel(void)
{
    static const struct {
        const char *what;
        struct sock_filter code[MOST];
        size_t count;
    } cases[] = {
        {"ethertype", {LD(BPF_H, BPF_ABS, 12), JEQ(ETHERTYPE_TEST, 0, 1), RET(50), RET(0)}, 4},
        {"length",
         {LD(BPF_W, BPF_LEN, 0), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 100, 0, 1),
          BPF_STMT(BPF_RET | BPF_A, 0), RET(0)},
         4},
        {"a byte that is not in all",
         {LD(BPF_B, BPF_ABS, 100), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1), RET(0xffff),
          RET(0)},
         4},
        {"broadcast",
         {LD(BPF_W, BPF_ABS, AD(PKTTYPE)), JEQ(NETRING_DIRECTION_BROADCAST, 0, 1), RET(0xffff),
          RET(0)},
         4},
        {"tagged",
         {LD(BPF_W, BPF_ABS, AD(VLAN_TAG_PRESENT)), JEQ(1, 0, 1), RET(0xffff), RET(0)},
         4},
        {"TCI", {LD(BPF_W, BPF_ABS, AD(VLAN_TAG)), JEQ(0x1111, 0, 1), RET(0xffff), RET(0)}, 4},
        {"TPID", {LD(BPF_W, BPF_ABS, AD(VLAN_TPID)), JEQ(0x88a8, 0, 1), RET(0xffff), RET(0)}, 4},
        {"behind the link layer",
         {LD(BPF_B, BPF_ABS, (uint32_t)SKF_NET_OFF + 5),
          BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 99, 0, 1), RET(0xffff), RET(0)},
         4},
    };
    struct records all = variety(NULL);

    is_int(all.count, VARIETY, "a variety of frames");
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netring_filter *filter;
        struct records taken;
        unsigned unlike = 0, matched = 0;

        if (!is_int(netring_filter_new(cases[i].code, cases[i].count, &filter, NULL), 0, "%s",
                    cases[i].what))
            continue;
        taken = variety(filter);
        for (size_t n = 0; n < all.count; n++) {
            const struct netring_packet *packet = &all.v[n].packet, *next;
            int keep = netring_filter_match(filter, packet, sizeof *packet);

            if (keep == 0)
                continue;
            next = matched < taken.count ? &taken.v[matched].packet : NULL;
            matched++;
            unlike +=
                keep < 0 || !next || next->len != packet->len ||
                next->caplen != ((uint32_t)keep < packet->len ? (uint32_t)keep : packet->len) ||
                memcmp(next->data, packet->data, next->caplen) != 0;
        }
        is_int(unlike, 0, "%s: the kernel takes what user space takes, as much of it",
               cases[i].what);
        is_int(matched, taken.count, "%s: and nothing else", cases[i].what);
        ok(matched > 0 && matched < all.count, "%s: takes some and not all (%u)", cases[i].what,
           matched);
        netring_filter_free(filter);
        records_free(&taken);
    }
    records_free(&all);
}

int main(void)
{
    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");

    test_new();
    test_wrong();
    test_ddd();
    test_match();
    test_match_arguments();
    test_like_the_kernel();
    return tap_end();
}
