/* Blocks that are an array of packets, as AF_XDP queues hand them out, without a queue: every way
 * to read one gives the same, pieces of packets come whole wherever they go (a savefile, a wire),
 * and the frames go back once, with the last release. Only with the library that has the test
 * hooks. */
#include "inject.h"
#include "savefile.h"

#ifndef NETRING_TEST_HOOKS

int main(void)
{
    tap_skip_all("built without the test hooks");
}

#else

#include <errno.h>
#include <linux/filter.h>
#include <netring_inline.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A piece behind the first, of the packet with this index. */
struct netring_test_piece {
    uint32_t packet, len;
    uint8_t *data;
};

/* A block of these packets and pieces, which stay the caller's; at its last release their number is
 * added to `returned`. */
int netring_test_packets_block(const struct netring_packet *packets, size_t count,
                               const struct netring_test_piece *pieces, size_t piece_count,
                               uint32_t *returned, struct netring_block **out);

enum {
    PACKETS = 300,
    WIRE = 200,       /* of them sent */
    MOST_PIECES = 17, /* behind the first: MAX_SKB_FRAGS */
};

/* ---- the block ---- */

/* What was put into it. */
static struct made {
    struct netring_packet packets[PACKETS];
    struct netring_test_piece pieces[PACKETS * MOST_PIECES];
    size_t piece_count;
    uint8_t whole[PACKETS][FRAME_MAX]; /* the bytes of each packet, pieces joined */
    uint32_t lengths[PACKETS];         /* of all pieces */
    uint32_t returned;
    /* Each piece is an allocation of its own, so that a checker sees every byte beyond. */
    uint8_t *memory[PACKETS * (MOST_PIECES + 1)];
    size_t allocations;
} made;

static uint8_t *piece(const uint8_t *bytes, uint32_t length)
{
    uint8_t *data = malloc(length);

    if (!data)
        tap_bail("out of memory");
    memcpy(data, bytes, length);
    made.memory[made.allocations++] = data;
    return data;
}

/* Packet `i`, every field of it from the dice; a third of them of several pieces. */
static void make_packet(struct dice *dice, uint32_t i)
{
    static const uint32_t bits = NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID |
                                 NETRING_PACKET_RXHASH | NETRING_PACKET_CSUM_VALID |
                                 NETRING_PACKET_PROTOCOL;
    struct netring_packet *p = &made.packets[i];
    uint32_t further = dice_roll(dice, 3) == 0 ? 1 + dice_roll(dice, MOST_PIECES) : 0;
    uint32_t length = 60 + dice_roll(dice, 400), at = length;
    uint8_t *whole = made.whole[i];

    frame_make(whole, FRAME_MAX, i);
    memset(p, 0, sizeof *p);
    p->data = piece(whole, length);
    p->caplen = length;
    for (uint32_t n = 0; n < further; n++) {
        length = dice_roll(dice, 8) == 0 ? 1 : 1 + dice_roll(dice, 500);
        made.pieces[made.piece_count++] =
            (struct netring_test_piece){i, length, piece(whole + at, length)};
        at += length;
    }
    made.lengths[i] = p->len = at;
    p->time_ns = 1700000000000000000u + i;
    p->status = dice_roll(dice, UINT32_MAX) & bits;
    if (p->status & NETRING_PACKET_RXHASH)
        p->rxhash = dice_roll(dice, UINT32_MAX);
    if (p->status & NETRING_PACKET_VLAN)
        p->vlan_tci = (uint16_t)dice_roll(dice, 0x10000);
    if (p->status & NETRING_PACKET_VLAN_TPID)
        p->vlan_tpid = dice_roll(dice, 2) ? 0x8100 : 0x88a8;
    if (p->status & NETRING_PACKET_PROTOCOL)
        p->protocol = ETHERTYPE_TEST;
    p->ifindex = 7;
    p->link_type = NETRING_LINKTYPE_ETHERNET;
    p->clock = NETRING_CLOCK_TAKEN;
    p->queue = 3;
    p->direction = NETRING_DIRECTION_OTHERHOST;
    p->net_offset = 14;
    p->gso_size = 1448;
    p->gso_type = NETRING_GSO_TCPV4;
    /* What the block makes of it. */
    p->segments = (uint8_t)further;
    p->cookie = i;
    if (further)
        p->status |= NETRING_PACKET_SEGMENTED;
}

static struct netring_block *make_block(uint32_t count, uint64_t seed)
{
    struct dice dice = {seed};
    struct netring_block *block = NULL;
    struct netring_packet given[PACKETS];

    memset(&made, 0, sizeof made);
    for (uint32_t i = 0; i < count; i++) {
        make_packet(&dice, i);
        given[i] = made.packets[i];
        given[i].segments = 0;
        given[i].status &= ~NETRING_PACKET_SEGMENTED;
    }
    if (netring_test_packets_block(given, count, made.pieces, made.piece_count, &made.returned,
                                   &block) != 0)
        tap_bail("no block");
    return block;
}

/* The last release. */
static void release(struct netring_block *block, uint32_t count, const char *what)
{
    is_int(made.returned, 0, "%s: nothing was given back before", what);
    is_int(netring_block_release(block), 0, "%s: released", what);
    is_int(made.returned, count, "%s: all frames were given back, once", what);
    is_int(netring_block_release(block), NETRING_EBADF, "%s: and not again", what);
    for (size_t i = 0; i < made.allocations; i++)
        free(made.memory[i]);
}

/* One check: it is packet `i` in all fields and bytes. Quiet where it is. */
static bool is_packet(const struct netring_packet *got, uint32_t i, const char *what)
{
    if (memcmp(got, &made.packets[i], sizeof *got) != 0)
        return ok(false, "%s: packet %u, every field", what, i);
    if (memcmp(got->data, made.whole[i], got->caplen) != 0)
        return ok(false, "%s: packet %u, its bytes", what, i);
    return true;
}

/* ---- reading ---- */

static void test_read(void)
{
    static const size_t batches[] = {1, 7, 64, PACKETS, PACKETS + 5};
    static const size_t sizes[] = {64, 72, 256};
    struct netring_block *block = make_block(PACKETS, 1);
    uint8_t *array = malloc(256 * (PACKETS + 5));

    if (!array)
        tap_bail("out of memory");
    for (size_t b = 0; b < COUNT(batches); b++) {
        for (size_t s = 0; s < COUNT(sizes); s++) {
            uint32_t seen = 0;
            bool same = true, zero = true;
            int n;

            netring_block_rewind(block);
            memset(array, 0xee, 256 * (PACKETS + 5));
            while ((n = netring_block_read(block, (void *)array, sizes[s], batches[b])) > 0) {
                for (int i = 0; i < n; i++, seen++) {
                    const uint8_t *element = array + sizes[s] * (size_t)i;

                    same = same && seen < PACKETS && is_packet((const void *)element, seen, "read");
                    for (size_t at = 64; at < sizes[s]; at++)
                        zero = zero && element[at] == 0;
                }
            }
            ok(n == 0 && seen == PACKETS && same && zero,
               "read %zu at a time, elements of %zu bytes: %u packets as they are", batches[b],
               sizes[s], seen);
            is_int(netring_block_read(block, (void *)array, 64, 1), 0, "and then the end");
        }
    }
    free(array);
    release(block, PACKETS, "read");
}

static void test_info(void)
{
    struct netring_block *block = make_block(PACKETS, 2);
    struct netring_block_info info;
    struct netring_block_view view;
    uint32_t same = 0;

    netring_block_info(block, &info, sizeof info);
    ok(info.count == PACKETS && info.ifindex == 7 && info.first_ns == made.packets[0].time_ns &&
           info.last_ns == made.packets[PACKETS - 1].time_ns,
       "the info: %u packets", info.count);
    is_int(netring_block_view(block, &view, sizeof view), 0, "a view");
    ok(view.layout == NETRING_LAYOUT_PACKETS && view.stride == sizeof(struct netring_packet) &&
           view.count == PACKETS && view.first == 0 &&
           view.length == PACKETS * sizeof(struct netring_packet),
       "the view is an array");
    for (uint32_t i = 0; i < view.count; i++) {
        const uint8_t *at = view.base + view.first + (size_t)view.stride * i;

        same += is_packet((const void *)at, i, "view");
    }
    is_int(same, PACKETS, "of the same packets");
    release(block, PACKETS, "info");
}

/* Every accessor says what the struct says. */
static bool is_walked(const struct netring_cursor *cursor, const struct netring_packet *want)
{
    struct netring_vnet vnet = {.flags = 1, .gso_size = 2};
    uint16_t tci = 1, tpid = 1;
    int tagged = netring_cursor_vlan(cursor, &tci, &tpid);

    return netring_cursor_data(cursor) == want->data &&
           netring_cursor_caplen(cursor) == want->caplen &&
           netring_cursor_len(cursor) == want->len &&
           netring_cursor_time_ns(cursor) == want->time_ns &&
           netring_cursor_status(cursor) == want->status &&
           netring_cursor_rxhash(cursor) == want->rxhash &&
           tagged == ((want->status & NETRING_PACKET_VLAN) != 0) && tci == want->vlan_tci &&
           tpid == want->vlan_tpid && netring_cursor_protocol(cursor) == want->protocol &&
           netring_cursor_ifindex(cursor) == want->ifindex &&
           netring_cursor_link_type(cursor) == want->link_type &&
           netring_cursor_direction(cursor) == want->direction &&
           netring_cursor_gso_size(cursor) == want->gso_size &&
           netring_cursor_gso_type(cursor) == want->gso_type &&
           netring_cursor_segments(cursor) == want->segments &&
           netring_cursor_queue(cursor) == want->queue &&
           netring_cursor_cookie(cursor) == want->cookie &&
           netring_cursor_vnet(cursor, &vnet) == 0 && vnet.size == sizeof vnet && vnet.flags == 0 &&
           vnet.gso_size == 0;
}

static void test_walk(void)
{
    struct netring_block *block = make_block(PACKETS, 3);
    struct netring_cursor cursor, slow, none;
    struct netring_packet packet;
    static const uint32_t aheads[] = {0, 1, 8, PACKETS, UINT32_MAX};
    uint32_t seen = 0, same = 0, fields = 0;

    is_int(netring_cursor_init(&cursor, block), 0, "a cursor");
    is_int(netring_cursor_init(&slow, block), 0, "another one");
    while (netring_cursor_next(&cursor)) {
        if (seen % 3 == 0)
            same += netring_cursor_next(&slow) &&
                    netring_cursor_data(&slow) == made.packets[seen / 3].data;
        for (size_t i = 0; i < COUNT(aheads); i++)
            netring_cursor_prefetch(&cursor, aheads[i]); /* nothing to see, but to a checker */
        memset(&packet, 0xee, sizeof packet);
        netring_cursor_packet(&cursor, &packet);
        if (seen < PACKETS) {
            same += is_packet(&packet, seen, "walk");
            fields += is_walked(&cursor, &made.packets[seen]);
        }
        seen++;
    }
    is_int(seen, PACKETS, "it finds every packet");
    is_int(same, PACKETS + PACKETS / 3, "the same ones, and so does one that goes slowly");
    is_int(fields, PACKETS, "the accessors say what the struct says");
    is_int(netring_cursor_next(&cursor), 0, "the end stays the end");
    is_int(netring_cursor_damaged(&cursor), 0, "which is no damage");
    release(block, PACKETS, "walk");
    is_int(netring_cursor_init(&none, block), NETRING_EBADF, "no cursor of a released block");
    is_int(netring_cursor_next(&none), 0, "it finds nothing");
}

static void test_empty(void)
{
    struct netring_block *block = make_block(0, 4);
    struct netring_packet packet;
    struct netring_cursor cursor;

    is_int(netring_block_read(block, &packet, sizeof packet, 1), 0, "an empty block: read");
    is_int(netring_cursor_init(&cursor, block), 0, "an empty block: a cursor");
    is_int(netring_cursor_next(&cursor), 0, "an empty block: a walk");
    is_int(netring_block_segments(block, 0, NULL, 0, 0), NETRING_EINVAL,
           "an empty block: no packet");
    release(block, 0, "an empty block");
}

/* ---- pieces ---- */

/* The pieces of packet `i` are its bytes. */
static bool is_whole(struct netring_block *block, uint32_t i)
{
    struct netring_segment pieces[MOST_PIECES + 1];
    const uint32_t want = made.packets[i].segments + 1u;
    uint32_t at = 0;
    int n = netring_block_segments(block, i, pieces, sizeof *pieces, COUNT(pieces));

    if (n != (int)want || netring_block_segments(block, i, NULL, 0, 0) != n)
        return ok(false, "packet %u has %d of %u pieces", i, n, want);
    for (int k = 0; k < n; k++) {
        if (pieces[k].reserved != 0 || at + pieces[k].len > made.lengths[i] ||
            memcmp(pieces[k].data, made.whole[i] + at, pieces[k].len) != 0)
            return ok(false, "packet %u, piece %d", i, k);
        at += pieces[k].len;
    }
    if (pieces[0].data != made.packets[i].data || pieces[0].len != made.packets[i].caplen)
        return ok(false, "packet %u: the first piece", i);
    return at == made.lengths[i] || ok(false, "packet %u: all of its bytes", i);
}

static void test_segments(void)
{
    struct netring_block *block = make_block(PACKETS, 5);
    struct {
        struct netring_segment segment;
        uint64_t more;
    } large[MOST_PIECES + 1];
    struct netring_segment two[3];
    uint32_t whole = 0, several = 0, most = 0;
    int n;

    for (uint32_t i = 0; i < PACKETS; i++) {
        whole += is_whole(block, i);
        several += made.packets[i].segments != 0;
        if (made.packets[i].segments > made.packets[most].segments)
            most = i;
    }
    is_int(whole, PACKETS, "the pieces are the packet");
    ok(several > PACKETS / 5 && made.packets[most].segments > 2, "%u packets have several",
       several);

    memset(two, 0xee, sizeof two);
    n = netring_block_segments(block, most, two, sizeof *two, 2);
    is_int(n, made.packets[most].segments + 1, "room for two: how many there are");
    ok(two[1].len > 0 && two[1].reserved == 0 && two[2].len == 0xeeeeeeee, "and two are written");
    memset(large, 0xee, sizeof large);
    n = netring_block_segments(block, most, &large[0].segment, sizeof *large, COUNT(large));
    ok(n > 2 && large[2].segment.len != 0 && large[2].more == 0 &&
           large[n - 1].segment.reserved == 0,
       "elements that have grown");

    is_int(netring_block_segments(block, PACKETS, two, sizeof *two, 2), NETRING_EINVAL,
           "a cookie behind the last one");
    is_int(netring_block_segments(block, UINT64_C(1) << 32, two, sizeof *two, 2), NETRING_EINVAL,
           "a cookie of more than 32 bits");
    is_int(netring_block_segments(block, 0, NULL, sizeof *two, 1), NETRING_EINVAL, "no array");
    is_int(netring_block_segments(block, 0, (void *)((uintptr_t)two + 1), sizeof *two, 1),
           NETRING_EINVAL, "a misaligned array");
    is_int(netring_block_segments(block, 0, two, 8, 1), NETRING_EINVAL, "elements of 8 bytes");
    is_int(netring_block_segments(block, 0, two, 20, 1), NETRING_EINVAL, "elements of 20 bytes");
    is_int(netring_block_segments(block, 0, two, 264, 1), NETRING_EINVAL, "elements of 264 bytes");
    is_int(netring_block_segments(NULL, 0, two, sizeof *two, 1), NETRING_EBADF, "no block");
    release(block, PACKETS, "segments");
    is_int(netring_block_segments(block, 0, two, sizeof *two, 2), NETRING_EBADF,
           "a released block");
}

/* Of a packet ring, too: one piece. */
static void test_segments_of_a_ring(void)
{
    struct netring_capture_config config = page_config(4);
    struct netring_capture *capture = capture_open("vb", &config);
    int sender = net_sender("va");
    struct netring_block *block = block_of(capture, sender, 0, 3, 100);
    struct netring_packet packet;
    struct netring_segment segment;
    uint32_t seen = 0;

    while (netring_block_read(block, &packet, sizeof packet, 1) == 1)
        seen += packet.segments == 0 && !(packet.status & NETRING_PACKET_SEGMENTED) &&
                netring_block_segments(block, packet.cookie, &segment, sizeof segment, 1) == 1 &&
                segment.data == packet.data && segment.len == packet.caplen;
    is_int(seen, 3, "a packet of a ring is in one piece");
    is_int(netring_block_segments(block, packet.cookie + 1, &segment, sizeof segment, 1),
           NETRING_EINVAL, "a cookie that is none");
    netring_block_release(block);
    capture_close(capture);
    close(sender);
}

static void test_accessors(void)
{
    struct netring_block *block = make_block(10, 6);
    struct netring_vnet vnet = {.flags = 1};
    uint8_t address[8] = {0};

    is_int(netring_block_address(block, 4, address, sizeof address), 6, "an address");
    is_bytes(address, made.whole[4] + 6, 6, "of Ethernet: the second one in the bytes");
    is_int(netring_block_address(block, 10, address, sizeof address), NETRING_EINVAL,
           "of no packet");
    is_int(netring_block_vnet(block, 4, &vnet, sizeof vnet), 0, "nothing is left to do");
    is_int(vnet.flags, 0, "and zeros say so");
    is_int(netring_block_vnet(block, 10, &vnet, sizeof vnet), NETRING_EINVAL, "for no packet");
    release(block, 10, "accessors");
}

/* ---- users ---- */

static void *reads_and_releases(void *user)
{
    struct netring_block *block = user;
    struct netring_cursor cursor;
    intptr_t bytes = 0;

    netring_cursor_init(&cursor, block);
    while (netring_cursor_next(&cursor))
        bytes += netring_cursor_data(&cursor)[netring_cursor_caplen(&cursor) - 1] != 0xff;
    netring_block_release(block);
    return (void *)bytes;
}

static void test_users(void)
{
    struct netring_block *block = make_block(PACKETS, 7);
    pthread_t threads[4];
    void *bytes[4];

    is_int(netring_block_retain(block, 4), 0, "four more users");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, reads_and_releases, block);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], &bytes[i]);
    ok(bytes[0] && bytes[0] == bytes[1] && bytes[1] == bytes[2] && bytes[2] == bytes[3],
       "four threads walked it");
    release(block, PACKETS, "the last user");
}

static void in_the_child(void *user)
{
    struct netring_packet packet;
    struct netring_segment segment;

    is_int(netring_block_read(user, &packet, sizeof packet, 1), NETRING_EBADF,
           "in a forked child: read");
    is_int(netring_block_segments(user, 0, &segment, sizeof segment, 1), NETRING_EBADF,
           "in a forked child: segments");
    is_int(netring_block_release(user), NETRING_EBADF, "in a forked child: release");
    is_int(made.returned, 0, "in a forked child: nothing is given back");
}

static void test_fork(void)
{
    struct netring_block *block = make_block(20, 8);

    child_run("a child with a block of packets", in_the_child, block);
    release(block, 20, "after the fork");
}

/* ---- where the bytes go ---- */

/* Packet `i` as a savefile or a wire has it: with its tag. Returns its length. */
static uint32_t on_the_wire(uint32_t i, uint8_t *out)
{
    const struct netring_packet *p = &made.packets[i];
    uint32_t length = made.lengths[i];

    memcpy(out, made.whole[i], length);
    if (!(p->status & NETRING_PACKET_VLAN))
        return length;
    return (uint32_t)frame_tag(
        out, length, p->status & NETRING_PACKET_VLAN_TPID ? p->vlan_tpid : 0x8100, p->vlan_tci);
}

static struct netring_writer *open_writer(uint32_t format, uint32_t snap_length, int *fd)
{
    struct netring_writer_config config = NETRING_WRITER_CONFIG_INIT;
    struct netring_writer *writer = NULL;
    struct netring_error error;

    config.format = format;
    *fd = memfd_create("netring", MFD_CLOEXEC);
    if (*fd < 0 || netring_writer_open_fd(*fd, &config, &writer, &error) != 0 ||
        netring_writer_add_interface(writer, "x", NETRING_LINKTYPE_ETHERNET, snap_length, &error) !=
            0)
        tap_bail("no writer: %s", error.message);
    return writer;
}

/* What is in the file, which is closed. */
static struct savefile written(struct netring_writer *writer, int fd)
{
    off_t size;
    uint8_t *bytes;

    is_int(netring_writer_close(writer, NULL), 0, "the writer is closed");
    size = lseek(fd, 0, SEEK_END);
    bytes = malloc((size_t)size);
    if (!bytes || pread(fd, bytes, (size_t)size, 0) != size)
        tap_bail("the file cannot be read");
    close(fd);
    return savefile_parse(bytes, (size_t)size);
}

static void test_writer(uint32_t format, uint32_t snap_length)
{
    struct netring_block *block = make_block(PACKETS, 9 + snap_length);
    uint32_t same = 0, cut = snap_length ? snap_length : 262144;
    struct netring_writer *writer;
    struct savefile file;
    uint8_t want[FRAME_MAX + 4];
    int fd;

    writer = open_writer(format, snap_length, &fd);
    is_int(netring_writer_write_block(writer, 0, block), PACKETS, "format %u: a block is written",
           format);
    file = written(writer, fd);
    is_savefile(&file, PACKETS, "blocks of packets");
    for (uint32_t i = 0; i < file.packets && i < PACKETS; i++) {
        const struct saved_packet *got = &file.packet[i];
        uint32_t length = on_the_wire(i, want), caplen = length < cut ? length : cut;

        if (got->len == length && got->caplen == caplen && memcmp(got->data, want, caplen) == 0 &&
            got->time_ns == made.packets[i].time_ns)
            same++;
        else
            ok(false, "packet %u in the file: %u of %u bytes, %u of %u expected", i, got->caplen,
               got->len, caplen, length);
    }
    is_int(same, PACKETS, "format %u, snap length %u: whole, all pieces and the tag", format,
           snap_length);
    savefile_free(&file);
    release(block, PACKETS, "writer");
}

/* Without its block nobody knows the further pieces. */
static void test_writer_of_packets(void)
{
    struct netring_block *block = make_block(PACKETS, 20);
    struct netring_error error;
    struct netring_packet packet;
    struct netring_writer *writer;
    struct savefile file;
    uint32_t i = 0;
    int fd;

    while (!made.packets[i].segments)
        i++;
    packet = made.packets[i];
    packet.status &= ~(NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID);
    writer = open_writer(NETRING_SAVEFILE_PCAPNG, 0, &fd);
    is_int(netring_writer_write(writer, 0, &packet, sizeof packet, 1), NETRING_EINVAL,
           "a packet of several pieces without its block");
    netring_writer_last_error(writer, &error);
    is_str(error.option, "packets", "the option");
    is_str_contains(error.message, "netring_writer_write_block", "and what to do");
    packet.status &= ~NETRING_PACKET_SEGMENTED;
    is_int(netring_writer_write(writer, 0, &packet, sizeof packet, 1), 1,
           "its first piece alone, where that is wanted");
    file = written(writer, fd);
    is_savefile(&file, 1, "the first piece");
    ok(file.packets == 1 && file.packet[0].caplen == packet.caplen &&
           file.packet[0].len == packet.len &&
           memcmp(file.packet[0].data, made.whole[i], packet.caplen) == 0,
       "is there, and how long the packet was");
    savefile_free(&file);
    release(block, PACKETS, "writer of packets");
}

static void test_injector(const struct method *method)
{
    struct netring_block *block = make_block(WIRE, 30);
    struct netring_injector_config config = inject_config(method->method, 32);
    struct netring_injector *injector = injector_open("va", &config);
    struct netring_error error;
    struct netring_packet packet;
    struct sink sink;
    uint8_t want[FRAME_MAX + 4];
    uint32_t same = 0, sent = 0, several = 0, one = 0;

    sink_open(&sink, "vb");
    for (uint32_t i = 0; i < WIRE; i++) {
        uint32_t length = on_the_wire(i, want);
        int rc =
            netring_injector_send_packet(injector, block, &made.packets[i], sizeof packet, 1, 1000);

        /* At the MTU of 1500 the larger ones are too large. */
        if (made.lengths[i] > 1514) {
            same += rc == NETRING_EMSGSIZE;
            continue;
        }
        if (rc != 1) {
            ok(false, "%s: packet %u: %s", method->name, i, netring_err_name(rc));
            break;
        }
        sent++;
        several += made.packets[i].segments != 0;
        if (made.packets[i].segments)
            one = i;
        netring_injector_flush(injector);
        same += sink_next(&sink, (int)tap_patience(2000)) == length &&
                memcmp(sink.frame, want, length) == 0;
    }
    is_int(same, WIRE, "%s: whole on the wire, or refused as too large", method->name);
    ok(several > 3, "%s: %u of %u have several pieces", method->name, several, sent);

    /* Cut by the caller: in front all of it leaves but that, at the end nothing does. */
    packet = made.packets[one];
    packet.status &= ~(NETRING_PACKET_VLAN | NETRING_PACKET_VLAN_TPID);
    packet.data += 20, packet.caplen -= 20, packet.len -= 20;
    is_int(netring_injector_send_packet(injector, block, &packet, sizeof packet, 1, 1000), 1,
           "%s: without its first bytes", method->name);
    netring_injector_flush(injector);
    is_int(sink_next(&sink, (int)tap_patience(2000)), made.lengths[one] - 20,
           "%s: the rest arrives", method->name);
    is_bytes(sink.frame, made.whole[one] + 20, made.lengths[one] - 20, "%s: byte for byte",
             method->name);
    packet.caplen--;
    is_int(netring_injector_send_packet(injector, block, &packet, sizeof packet, 1, 1000),
           NETRING_EINVAL, "%s: without a byte of its middle", method->name);
    netring_injector_last_error(injector, &error);
    is_str(error.option, "packets", "%s: the option", method->name);
    packet.status &= ~NETRING_PACKET_SEGMENTED;
    is_int(netring_injector_send_packet(injector, block, &packet, sizeof packet, 1, 1000), 1,
           "%s: the first piece alone", method->name);
    netring_injector_flush(injector);
    is_int(sink_next(&sink, (int)tap_patience(2000)), packet.caplen, "%s: arrives", method->name);
    packet = made.packets[one];
    packet.cookie = WIRE;
    is_int(netring_injector_send_packet(injector, block, &packet, sizeof packet, 1, 1000),
           NETRING_EINVAL, "%s: a packet that is not of the block", method->name);
    injector_close(injector);
    sink_close(&sink);
    release(block, WIRE, method->name);
}

/* A filter runs over the first piece, and knows the length of all. */
static void test_filter(void)
{
    struct netring_block *block = make_block(PACKETS, 40);
    struct netring_packet packet;
    uint32_t i = 0;

    while (made.packets[i].segments < 2)
        i++;
    packet = made.packets[i];
    {
        struct sock_filter length[] = {BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
                                       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, packet.len, 0, 1),
                                       BPF_STMT(BPF_RET | BPF_K, 1), BPF_STMT(BPF_RET | BPF_K, 0)};
        struct sock_filter inside[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, packet.caplen - 1),
                                       BPF_STMT(BPF_RET | BPF_K, 7)};
        struct sock_filter behind[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, packet.caplen),
                                       BPF_STMT(BPF_RET | BPF_K, 7)};
        struct netring_filter *filters[3];

        if (netring_filter_new(length, COUNT(length), &filters[0], NULL) ||
            netring_filter_new(inside, COUNT(inside), &filters[1], NULL) ||
            netring_filter_new(behind, COUNT(behind), &filters[2], NULL))
            tap_bail("no filters");
        is_int(netring_filter_match(filters[0], &packet, sizeof packet), 1, "len is that of all");
        is_int(netring_filter_match(filters[1], &packet, sizeof packet), 7, "the first piece");
        is_int(netring_filter_match(filters[2], &packet, sizeof packet), NETRING_ENOTSUP,
               "behind it there is no verdict");
        for (int k = 0; k < 3; k++)
            netring_filter_free(filters[k]);
    }
    release(block, PACKETS, "filter");
}

int main(void)
{
    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    test_read();
    test_info();
    test_walk();
    test_empty();
    test_segments();
    test_segments_of_a_ring();
    test_accessors();
    test_users();
    test_fork();
    test_writer(NETRING_SAVEFILE_PCAPNG, 0);
    test_writer(NETRING_SAVEFILE_PCAP, 0);
    test_writer(NETRING_SAVEFILE_PCAPNG, 333);
    test_writer(NETRING_SAVEFILE_PCAPNG, 14);
    test_writer_of_packets();
    for (size_t i = 0; i < COUNT(methods); i++)
        test_injector(&methods[i]);
    test_filter();
    return tap_end();
}

#endif
