/* Multicast groups of a capture, as the kernel lists them and as an interface that filters takes
 * packets (a macvlan): joined, left, taken along by a rebind, gone with the capture and with the
 * process. Promiscuous and all-multicast mode on the same interface.
 *
 * no-archive: it is about what the kernel is asked, and ASan has the archive */
#include "support.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const uint8_t group[6] = {0x01, 0x00, 0x5e, 0x01, 0x02, 0x03};
static const uint8_t other_group[6] = {0x33, 0x33, 0x00, 0x00, 0xab, 0xcd};
static const uint8_t nobody[6] = {0x02, 0x12, 0x34, 0x56, 0x78, 0x9a};

/* How many have joined a group on a link (/proc/net/dev_mcast). */
static int members(const char *link, const uint8_t address[6])
{
    char line[256], name[64], text[64], want[13];
    int users, count = 0, most = 0;
    FILE *file = fopen("/proc/self/net/dev_mcast", "re");

    if (!file)
        tap_bail("/proc/self/net/dev_mcast: %s", strerror(errno));
    for (int i = 0; i < 6; i++)
        snprintf(want + 2 * i, 3, "%02x", address[i]);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%*d %63s %d %*d %63s", name, &users, text) == 3 &&
            strcmp(name, link) == 0 && strcmp(text, want) == 0)
            count = users;
        most++;
    }
    fclose(file);
    return most ? count : -1;
}

static int join(struct netring_capture *capture, const uint8_t *address, size_t length)
{
    return netring_capture_join_multicast(capture, address, length, NULL);
}

static int leave(struct netring_capture *capture, const uint8_t *address, size_t length)
{
    return netring_capture_leave_multicast(capture, address, length, NULL);
}

static void test_listed(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_block *block = NULL;
    struct netring_error error;
    int sender = net_sender("va");

    is_int(members("vb", group), 0, "before");
    error_spoil(&error);
    is_int(netring_capture_join_multicast(capture, group, 6, &error), 0, "join");
    is_no_error(&error, "join");
    is_int(members("vb", group), 1, "joined");
    is_int(members("vb", other_group), 0, "and no other");
    is_int(join(capture, other_group, 6), 0, "join another");
    is_int(members("vb", other_group), 1, "joined both");
    is_int(join(capture, group, 6), 0, "join twice");
    is_int(leave(capture, group, 6), 0, "leave once");
    is_int(members("vb", group), 1, "still joined");
    is_int(leave(capture, group, 6), 0, "leave twice");
    is_int(members("vb", group), 0, "left");
    is_int(leave(capture, group, 6), NETRING_EINVAL, "leave three times");
    is_int(members("vb", other_group), 1, "the other stays");

    /* Taken along. */
    is_int(netring_capture_rebind(capture, "vc", 0, 0, NULL), 0, "rebind");
    is_int(members("vb", other_group), 0, "rebound: left there");
    is_int(members("vc", other_group), 1, "rebound: joined here");
    is_int(join(capture, group, 6), 0, "rebound: join another");
    is_int(members("vc", group), 1, "rebound: it is here");
    is_int(netring_capture_rebind(capture, "vb", 0, 0, NULL), 0, "back");
    is_int(members("vb", group) + members("vb", other_group), 2, "back: joined both");
    is_int(members("vc", group) + members("vc", other_group), 0, "back: left there");

    /* Ends with the capture, while a block is held. */
    send_frames(sender, 0, 1, 60);
    is_int(netring_capture_next_block(capture, 1000, &block), 1, "a block");
    capture_close(capture);
    is_int(members("vb", group) + members("vb", other_group), 0, "closed: left");
    netring_block_release(block);
    close(sender);
}

/* A rebind that fails leaves the groups where they are. */
static void test_rebind_refused(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    int tun = net_tun("tun0", IFF_TUN);
    struct netring_error error;
    const struct failure want = {NETRING_ESOCKOPT,
                                 EINVAL,
                                 "PACKET_ADD_MEMBERSHIP (multicast)",
                                 {"addresses of tun0 are not 6 bytes long"}};
    int rc;

    is_int(join(capture, group, 6), 0, "join");
    if (tun < 0) {
        tap_skip("an interface without addresses", "no tun device here");
    } else {
        errno = 0;
        rc = netring_capture_rebind(capture, "tun0", 0, 0, &error);
        is_failure(rc, errno, &error, &want, "rebind to an interface without addresses");
        is_int(members("vb", group), 1, "the group is where it was");
        close(tun);
    }
    capture_close(capture);
}

static void test_refused(void)
{
    static const uint8_t longest[33] = {1};
    static const struct {
        const char *name;
        const uint8_t *address;
        size_t length;
        struct failure want;
    } cases[] = {
        {"no address", NULL, 6, {NETRING_EINVAL, 0, "address", {"address is NULL"}}},
        {"no length", group, 0, {NETRING_EINVAL, 0, "length", {"length 0 is out of range"}}},
        {"too long", longest, 33, {NETRING_EINVAL, 0, "length", {"length 33 is out of range"}}},
        {"one host's",
         nobody,
         6,
         {NETRING_EINVAL, 0, "address", {"02:12:34:56:78:9a is not that of a multicast group"}}},
        {"shorter than the link's",
         group,
         5,
         {NETRING_ESOCKOPT,
          EINVAL,
          "PACKET_ADD_MEMBERSHIP (multicast)",
          {"addresses of vb are not 5 bytes long"}}},
        {"longer than the link's",
         longest,
         32,
         {NETRING_ESOCKOPT,
          EINVAL,
          "PACKET_ADD_MEMBERSHIP (multicast)",
          {"addresses of vb are not 32 bytes long"}}},
    };
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config), *any;
    struct netring_error error;
    uint8_t many[6] = {0x01, 0x00, 0x5e, 0, 0, 0};
    unsigned joined = 0;
    int rc;

    for (size_t i = 0; i < COUNT(cases); i++) {
        errno = 0;
        rc = netring_capture_join_multicast(capture, cases[i].address, cases[i].length, &error);
        is_failure(rc, errno, &error, &cases[i].want, cases[i].name);
    }
    is_int(leave(capture, NULL, 6), NETRING_EINVAL, "leave no address");
    is_int(leave(capture, nobody, 6), NETRING_EINVAL, "leave one host's");

    any = capture_open("any", &config);
    errno = 0;
    rc = netring_capture_join_multicast(any, group, 6, &error);
    is_failure(rc, errno, &error,
               &(struct failure){NETRING_EINVAL, 0, "interface", {"not on \"any\""}}, "any");
    capture_close(any);

    for (; joined < 1024; joined++) {
        many[4] = (uint8_t)(joined >> 8);
        many[5] = (uint8_t)joined;
        if (join(capture, many, 6) != 0)
            break;
    }
    is_int(joined, 1024, "many groups");
    errno = 0;
    rc = netring_capture_join_multicast(capture, group, 6, &error);
    is_failure(rc, errno, &error,
               &(struct failure){
                   NETRING_EINVAL, 0, "address", {"1024 groups", "NETRING_CAPTURE_ALL_MULTICAST"}},
               "one more");
    capture_close(capture);
    is_int(members("vb", many), 0, "and all are left");
}

static void no_memory(void *user)
{
    static const struct refusal refusal = {
        SYS_setsockopt,
        ENOBUFS,
        2,
        {{1, ~0u, SOL_PACKET, false}, {2, ~0u, PACKET_ADD_MEMBERSHIP, false}}};
    static const struct failure want = {
        NETRING_ESOCKOPT, ENOBUFS, "PACKET_ADD_MEMBERSHIP (multicast)", {"was refused"}};
    struct netring_capture_config config = small_config();
    struct netring_capture *capture = capture_open("vb", &config);
    struct netring_error error;
    int rc;

    (void)user;
    refuse(&refusal);
    errno = 0;
    rc = netring_capture_join_multicast(capture, group, 6, &error);
    is_failure(rc, errno, &error, &want, "no memory");
    is_int(leave(capture, group, 6), NETRING_EINVAL, "no memory: not joined");
    capture_close(capture);
}

static void killed(void *user)
{
    struct netring_capture_config config = small_config();

    (void)user;
    is_int(join(capture_open("vb", &config), group, 6), 0, "join, and be killed");
    is_int(members("vb", group), 1, "joined");
    raise(SIGKILL);
}

static void test_killed(void)
{
    int64_t end = now_ms() + tap_patience(5000);

    child_killed("killed with a group joined", SIGKILL, killed, NULL);
    while (members("vb", group) != 0 && now_ms() < end)
        sleep_ms(5);
    is_int(members("vb", group), 0, "killed: left");
}

/* The interface goes: what was joined is left without a word. */
static void test_gone(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    struct netring_block *block;

    net_veth("vd", "ve");
    capture = capture_open("ve", &config);
    is_int(join(capture, group, 6), 0, "gone: join before");
    net_link_delete("ve");
    is_int(netring_capture_next_block(capture, 1000, &block), NETRING_ENODEV, "gone");
    is_int(join(capture, other_group, 6), NETRING_ENODEV, "gone: join");
    is_int(netring_capture_rebind(capture, "vb", 0, 0, NULL), 0, "gone: rebound");
    is_int(members("vb", group), 1, "gone: joined on the next");
    is_int(leave(capture, group, 6), 0, "gone: and left");
    is_int(members("vb", group), 0, "gone: there");
    capture_close(capture);
}

/* ---- packets ---- */

static unsigned received(struct netring_capture *capture, int sender, const uint8_t to[6])
{
    struct records records = {0, 0, NULL};
    static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint8_t frame[60];
    unsigned count = 0;

    /* A broadcast behind it tells that it would have come. */
    for (int i = 0; i < 2; i++) {
        frame_make(frame, sizeof frame, 1);
        memcpy(frame, i == 0 ? to : everybody, 6);
        net_send(sender, frame, sizeof frame);
    }
    while (count == records.count || memcmp(records.v[records.count - 1].packet.data, everybody, 6))
        if (receive(capture, records.count + 1, 1000, &records) < 1)
            tap_bail("no broadcast");
    for (size_t i = 0; i < records.count; i++)
        count += memcmp(records.v[i].packet.data, to, 6) == 0;
    records_free(&records);
    return count;
}

static void test_filtering(void)
{
    struct netring_capture_config config = small_config();
    struct netring_capture *capture;
    int sender = net_sender("va");

    if (!net_link_new("mv0", "macvlan", "vb")) {
        tap_skip("an interface that filters", "no macvlan here");
        close(sender);
        return;
    }
    capture = capture_open("mv0", &config);
    is_int(received(capture, sender, group), 0, "filtered: a group that nobody joined");
    is_int(join(capture, group, 6), 0, "filtered: join");
    is_int(received(capture, sender, group), 1, "filtered: it comes");
    is_int(leave(capture, group, 6), 0, "filtered: leave");
    /* macvlan forgets a group at the next change (macvlan_set_mac_lists counts, then removes). */
    is_int(join(capture, other_group, 6), 0, "filtered: join another");
    is_int(received(capture, sender, group), 0, "filtered: it does not come any more");
    is_int(received(capture, sender, other_group), 1, "filtered: the other does");
    capture_close(capture);

    config.flags |= NETRING_CAPTURE_ALL_MULTICAST;
    capture = capture_open("mv0", &config);
    is_int(received(capture, sender, group), 1, "all multicast: it comes");
    is_int(received(capture, sender, other_group), 1, "all multicast: and any other");
    capture_close(capture);
    config.flags &= ~(uint64_t)NETRING_CAPTURE_ALL_MULTICAST;
    capture = capture_open("mv0", &config);
    is_int(received(capture, sender, group), 0, "all multicast: over with the capture");
    capture_close(capture);
    close(sender);
}

int main(void)
{
    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    net_veth("vc", "vf");

    if (members("vb", group) < 0) {
        tap_skip("groups", "this kernel does not list them");
        return tap_end();
    }
    test_listed();
    test_rebind_refused();
    test_refused();
    child_run("no memory", no_memory, NULL);
    test_killed();
    test_gone();
    test_filtering();
    return tap_end();
}
