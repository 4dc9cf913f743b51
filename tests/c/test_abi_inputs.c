/* Misuse of every function gets its documented error and errno, never undefined behaviour: handles
 * that are none, of another kind, stale or random; NULL for each pointer; sizes that are wrong. */
#include "calls.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct netring_capture *capture;
static struct netring_block *block;
static struct netring_filter *filter;
static struct netring_reader *reader;
static struct netring_writer *writer;
static struct netring_group *group;
static struct netring_injector *injector;
static struct netring_bridge *bridge;
static struct netring_xdp *xdp;
static struct netring_queue *queue;
static struct netring_umem *umem;
static const struct netring_injector_config few = {
    .size = sizeof few, .init = NETRING_INJECTOR_CONFIG_INIT_WORD, .slot_count = 4};
static const struct netring_bridge_config short_batches = {.size = sizeof short_batches,
                                                           .init = NETRING_BRIDGE_CONFIG_INIT_WORD,
                                                           .flags = NETRING_BRIDGE_NOT_PROMISCUOUS,
                                                           .batch = 2,
                                                           .receive_buffer = 65536};

/* Arguments that are right, so that one can be wrong at a time. */
static union {
    struct netring_capture_config config;
    struct netring_capture_info capture_info;
    struct netring_stats stats;
    struct netring_error error;
    struct netring_packet packets[4];
    struct netring_block_info block_info;
    struct netring_block_view view;
    struct netring_cursor cursor;
    struct netring_vnet vnet;
    struct netring_reader_config reader_config;
    struct netring_filter_config filter_config;
    struct netring_reader_info reader_info;
    struct netring_reader_interface reader_interface;
    struct netring_writer_config writer_config;
    struct netring_writer_info writer_info;
    struct netring_group_config group_config;
    struct netring_group_info group_info;
    struct netring_group_stats group_stats;
    uint8_t bytes[1024];
} out;
static struct netring_filter *out_filter;
static struct netring_capture *out_capture;
static struct netring_reader *out_reader;
static struct netring_writer *out_writer;
static struct netring_group *out_group;
static const struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 1)};

/* ---- handles ---- */

/* Numbers that look like anything, and the neighbours of real tokens. */
static unsigned not_refused(const struct call *call)
{
    void *real[HANDLE_KINDS] = {capture,  block,  filter, reader, writer, group,
                                injector, bridge, xdp,    queue,  umem};
    uint64_t random = 88172645463325252;
    unsigned wrong = 0;

    for (int i = 0; i < HANDLE_KINDS; i++)
        wrong += i != (int)call->kind && !call_refused(call, real[i]);
    for (int bit = 0; bit < 64; bit++) {
        uint64_t near = (uint64_t)(uintptr_t)real[call->kind] ^ UINT64_C(1) << bit;

        wrong += !call_refused(call, (void *)(uintptr_t)(UINT64_C(1) << bit));
        wrong += !call_refused(call, (void *)(uintptr_t)near);
    }
    for (int i = 0; i < 200; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        wrong += !call_refused(call, (void *)(uintptr_t)random);
    }
    wrong += !call_refused(call, (void *)(uintptr_t)UINT64_MAX);
    wrong += !call_refused(call, &out);
    return wrong;
}

static void test_handles(void)
{
    for (size_t i = 0; i < call_count; i++) {
        is_int(not_refused(&calls[i]), 0,
               "%s: handles of another kind, random and near ones are refused", calls[i].name);
        if (calls[i].null_is_fine)
            is_int(calls[i].call(NULL), 0, "%s: NULL is fine", calls[i].name);
        else
            ok(call_refused(&calls[i], NULL), "%s: NULL is refused", calls[i].name);
    }
}

static int read_packets(struct netring_block *from)
{
    return netring_block_read(from, out.packets, sizeof out.packets[0], COUNT(out.packets));
}

/* Of a savefile without packets. */
static void reader_open(void)
{
    static const uint8_t header[24] = {0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, [20] = 1};
    int pair[2];

    if (pipe(pair) != 0 || write(pair[1], header, sizeof header) != sizeof header ||
        close(pair[1]) != 0 || netring_reader_open_fd(pair[0], NULL, &reader, NULL) != 0 ||
        close(pair[0]) != 0)
        tap_bail("no reader");
}

static void xdp_open(void)
{
    struct netring_umem_config config = NETRING_UMEM_CONFIG_INIT;

    config.frame_count = 4;
    xdp = xdp_of_few("vb");
    if (netring_xdp_queue(xdp, 0, &queue) != 0 || netring_umem_new(&config, &umem, NULL) != 0)
        tap_bail("no queue, or no UMEM");
}

/* After all of them were closed, while others of their kind are open in the same places. */
static void test_stale(void)
{
    struct netring_capture_config config = page_config(4);
    void *stale[HANDLE_KINDS] = {capture,  block,  filter, reader, writer, group,
                                 injector, bridge, xdp,    queue,  umem};
    int sender = net_sender("va");

    is_int(netring_block_release(block), 0, "release");
    is_int(netring_capture_close(capture), 0, "close");
    is_int(netring_filter_free(filter), 0, "free");
    is_int(netring_reader_close(reader), 0, "close of the reader");
    is_int(netring_writer_close(writer, NULL), 0, "close of a writer");
    is_int(netring_group_free(group), 0, "free of a group");
    is_int(netring_injector_close(injector), 0, "close of an injector");
    is_int(netring_bridge_close(bridge), 0, "close of a bridge");
    is_int(netring_xdp_close(xdp), 0, "close of an xdp");
    is_int(netring_umem_free(umem), 0, "free of a UMEM");
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < call_count; i++)
            ok(call_refused(&calls[i], stale[calls[i].kind]), "%s: a stale handle%s", calls[i].name,
               turn ? " whose place is taken again" : "");
        if (turn == 0) {
            capture = capture_open("vb", &config);
            block = block_of(capture, sender, 0, 3, 60);
            netring_filter_new(all, 1, &filter, NULL);
            reader_open();
            netring_writer_open("/dev/null", NULL, &writer, NULL);
            netring_group_new(NULL, &group, NULL);
            netring_injector_open("vb", &few, &injector, NULL);
            netring_bridge_open("va", "vb", &short_batches, &bridge, NULL);
            xdp_open();
        }
    }
    is_int(read_packets(block), 3, "the new block is untouched");
    is_int(netring_filter_count(filter), 1, "the new filter is untouched");
    is_int(netring_writer_sync(writer), 0, "the new writer is untouched");
    close(sender);
}

/* ---- NULL and sizes ---- */

/* A call that must return EINVAL with errno EINVAL. */
#define INVALID(call)                                                                              \
    do {                                                                                           \
        errno = 0;                                                                                 \
        int rc = (call);                                                                           \
        ok(rc == NETRING_EINVAL && errno == EINVAL, "%s: EINVAL (got %d, errno %d)", #call, rc,    \
           errno);                                                                                 \
    } while (0)

static void test_arguments(void)
{
    struct netring_packet *const p = out.packets;
    const size_t whole = sizeof *p;

    memset(&out, 0, sizeof out);
    INVALID(netring_capture_open(NULL, NULL, &out_capture, NULL));
    INVALID(netring_capture_open("vb", NULL, NULL, NULL));
    INVALID(netring_capture_config_init(NULL, sizeof out.config));
    INVALID(netring_capture_config_init(&out.config, 0));
    INVALID(netring_capture_config_profile(NULL, NETRING_PROFILE_DEFAULT));

    INVALID(netring_capture_next_block(capture, 0, NULL));
    INVALID(netring_capture_next_packet(capture, 0, NULL, whole));
    INVALID(netring_capture_next_packet(capture, 0, p, 0));
    INVALID(netring_capture_next_packet(capture, 0, p, whole - 8));
    INVALID(netring_capture_dispatch(capture, 0, 1, NULL, NULL));
    INVALID(netring_capture_last_error(capture, NULL));
    INVALID(netring_capture_info(capture, NULL, sizeof out.capture_info));
    INVALID(netring_capture_info(capture, &out.capture_info, 0));
    INVALID(netring_capture_stats(capture, NULL, sizeof out.stats));
    INVALID(netring_capture_stats(capture, &out.stats, 0));
    INVALID(netring_stats_since(NULL, &out.stats, &out.stats, sizeof out.stats));
    INVALID(netring_stats_since(&out.stats, NULL, &out.stats, sizeof out.stats));
    INVALID(netring_stats_since(&out.stats, &out.stats, NULL, sizeof out.stats));
    INVALID(netring_stats_since(&out.stats, &out.stats, &out.stats, 0));

    INVALID(netring_block_read(block, NULL, whole, 1));
    INVALID(netring_block_read(block, p, 0, 1));
    INVALID(netring_block_read(block, p, whole - 8, 1));
    INVALID(netring_block_info(block, NULL, sizeof out.block_info));
    INVALID(netring_block_info(block, &out.block_info, 0));
    INVALID(netring_block_view(block, NULL, sizeof out.view));
    INVALID(netring_block_view(block, &out.view, 0));
    INVALID(netring_block_cursor(block, NULL, sizeof out.cursor));
    INVALID(netring_block_cursor(block, &out.cursor, 0));
    INVALID(netring_block_cursor(block, &out.cursor, sizeof out.cursor - 8));
    INVALID(netring_block_address(block, out.packets[0].cookie, NULL, 8));
    INVALID(netring_block_address(block, UINT64_MAX, out.bytes, 8));
    INVALID(netring_block_vnet(block, out.packets[0].cookie, NULL, 16));
    INVALID(netring_block_vnet(block, UINT64_MAX, &out.vnet, sizeof out.vnet));

    INVALID(netring_filter_new(NULL, 1, &out_filter, NULL));
    INVALID(netring_filter_new(all, 1, NULL, NULL));
    INVALID(netring_filter_new_ddd(NULL, 8, &out_filter, NULL));
    INVALID(netring_filter_new_ddd("1\n6 0 0 1", 9, NULL, NULL));
    INVALID(netring_filter_new_ebpf(0, NULL, NULL));
    INVALID(netring_filter_new_ebpf(-1, &out_filter, NULL));
    INVALID(netring_filter_new_ebpf(9999, &out_filter, NULL));
    is_int(netring_filter_new_ebpf(0, &out_filter, NULL), NETRING_EFILTER,
           "a descriptor that is no eBPF program");
    INVALID(netring_filter_compile(NULL, 0, NULL, &out_filter, NULL));
    INVALID(netring_filter_compile("ip", 2, NULL, NULL, NULL));
    INVALID(netring_filter_compile("ip", 2, &out.filter_config, &out_filter, NULL));
    INVALID(netring_filter_config_init(NULL, sizeof out.filter_config));
    INVALID(netring_filter_config_init(&out.filter_config, 0));
    INVALID(netring_filter_listing(filter, 1, NULL, 8));
    INVALID(netring_filter_match(filter, NULL, whole));
    INVALID(netring_filter_match(filter, p, 0));
    INVALID(netring_log_set(99, NULL, NULL));

    INVALID(netring_reader_open(NULL, NULL, &out_reader, NULL));
    INVALID(netring_reader_open("/dev/null", NULL, NULL, NULL));
    INVALID(netring_reader_open_fd(0, NULL, NULL, NULL));
    INVALID(netring_reader_config_init(NULL, sizeof out.reader_config));
    INVALID(netring_reader_config_init(&out.reader_config, 0));
    INVALID(netring_reader_next_block(reader, 0, NULL));
    INVALID(netring_reader_next_packet(reader, 0, NULL, whole));
    INVALID(netring_reader_next_packet(reader, 0, p, whole - 8));
    INVALID(netring_reader_info(reader, NULL, sizeof out.reader_info));
    INVALID(netring_reader_info(reader, &out.reader_info, 0));
    INVALID(netring_reader_interface(reader, 0, NULL, sizeof out.reader_interface));
    INVALID(
        netring_reader_interface(reader, 7, &out.reader_interface, sizeof(out.reader_interface)));
    INVALID(netring_reader_stats(reader, NULL, sizeof out.stats));
    INVALID(netring_reader_last_error(reader, NULL));
    INVALID(netring_group_config_init(NULL, sizeof out.group_config));
    INVALID(netring_group_config_init(&out.group_config, 8));
    INVALID(netring_group_new(NULL, NULL, NULL));
    INVALID(netring_group_new(&out.group_config, &out_group, NULL));
    INVALID(netring_group_join(group, NULL, NULL, &out_capture, NULL));
    INVALID(netring_group_join(group, "vb", NULL, NULL, NULL));
    INVALID(netring_group_open(group, "vb", NULL, NULL, NULL, 1, NULL));
    INVALID(netring_group_open(group, "vb", NULL, NULL, &out_capture, 0, NULL));
    INVALID(netring_group_open(group, "vb", NULL, NULL, &out_capture, SIZE_MAX, NULL));
    INVALID(netring_group_info(group, NULL, sizeof out.group_info));
    INVALID(netring_group_info(group, &out.group_info, 8));
    INVALID(netring_group_stats(group, NULL, NULL, sizeof out.group_stats));
    INVALID(netring_group_stats(group, NULL, &out.group_stats, 5000));
    INVALID(netring_group_stats(group, capture, &out.group_stats, sizeof out.group_stats));
    INVALID(netring_writer_open(NULL, NULL, &out_writer, NULL));
    INVALID(netring_writer_open("/dev/null", NULL, NULL, NULL));
    INVALID(netring_writer_open("/dev/null", &out.writer_config, &out_writer, NULL));
    INVALID(netring_writer_open_fd(1, NULL, NULL, NULL));
    INVALID(netring_writer_config_init(NULL, sizeof out.writer_config));
    INVALID(netring_writer_config_init(&out.writer_config, 0));
    INVALID(netring_writer_write(writer, 0, NULL, whole, 1));
    INVALID(netring_writer_write(writer, 0, p, whole - 8, 1));
    INVALID(netring_writer_statistics(writer, 0, NULL, sizeof out.stats));
    INVALID(netring_writer_statistics(writer, 0, &out.stats, 0));
    INVALID(netring_writer_info(writer, NULL, sizeof out.writer_info));
    INVALID(netring_writer_info(writer, &out.writer_info, 0));
    INVALID(netring_writer_path(writer, NULL, 8));
    INVALID(netring_writer_last_error(writer, NULL));
}

/* sizeof of a pointer, and sizeof of a whole array. */
static void test_mistaken_sizes(void)
{
    struct netring_packet *const p = out.packets;

    INVALID(netring_capture_config_init(&out.config, sizeof(void *)));
    INVALID(netring_capture_info(capture, &out.capture_info, sizeof(void *)));
    INVALID(netring_capture_stats(capture, &out.stats, sizeof(void *)));
    INVALID(netring_stats_since(&out.stats, &out.stats, &out.stats, sizeof(void *)));
    INVALID(netring_filter_config_init(&out.filter_config, sizeof(void *)));
    INVALID(netring_reader_config_init(&out.reader_config, sizeof(void *)));
    INVALID(netring_reader_info(reader, &out.reader_info, sizeof(void *)));
    INVALID(netring_reader_interface(reader, 0, &out.reader_interface, sizeof(void *)));
    INVALID(netring_reader_stats(reader, &out.stats, sizeof(void *)));
    INVALID(netring_block_info(block, &out.block_info, sizeof(void *)));
    INVALID(netring_block_view(block, &out.view, sizeof(void *)));
    INVALID(netring_block_read(block, p, sizeof(void *), 1));
    INVALID(netring_block_read(block, p, 64 * sizeof *p, 64));
    INVALID(netring_capture_next_packet(capture, 0, p, 64 * sizeof *p));
    INVALID(netring_writer_config_init(&out.writer_config, sizeof(void *)));
    INVALID(netring_writer_info(writer, &out.writer_info, sizeof(void *)));
    INVALID(netring_writer_write(writer, 0, p, 64 * sizeof *p, 64));
    is_int(netring_block_read(block, p, 256, 1), 1, "the largest packet a newer program can have");
    netring_block_rewind(block);
}

/* A length that no array can have, and pointers that no struct can have. */
static void test_odd_arguments(void)
{
    struct netring_packet *const odd = (struct netring_packet *)(void *)(out.bytes + 1);

    INVALID(netring_block_read(block, odd, sizeof *odd, 1));
    INVALID(netring_block_read(block, out.packets, sizeof out.packets[0] + 1, 1));
    INVALID(netring_block_read(block, out.packets, SIZE_MAX & ~(size_t)7, 1));
    INVALID(netring_filter_new(all, SIZE_MAX, &out_filter, NULL));
    is_int(netring_block_read(block, out.packets, sizeof out.packets[0], 0), 0,
           "reading into no room");
    is_int(netring_block_retain(block, 0), 0, "retaining for nobody");
}

/* Structs of older and newer programs: as much as there is room for, zeros behind what is known. */
static void test_sizes(void)
{
    static const struct {
        const char *name;
        size_t size, shorter;
    } structs[] = {
        {"capture_info", sizeof(struct netring_capture_info), 24},
        {"block_info", sizeof(struct netring_block_info), 16},
        {"block_view", sizeof(struct netring_block_view), 24},
        {"writer_info", sizeof(struct netring_writer_info), 24},
    };

    for (size_t i = 0; i < COUNT(structs); i++) {
        for (int longer = 0; longer < 2; longer++) {
            size_t size = longer ? structs[i].size + 32 : structs[i].shorter;
            unsigned rest = 0;
            uint32_t told;
            int rc;

            memset(&out, 0xa5, sizeof out);
            rc = i == 0   ? netring_capture_info(capture, &out.capture_info, size)
                 : i == 1 ? netring_block_info(block, &out.block_info, size)
                 : i == 2 ? netring_block_view(block, &out.view, size)
                          : netring_writer_info(writer, &out.writer_info, size);
            if (!is_int(rc, 0, "%s: size %zu", structs[i].name, size))
                continue;
            memcpy(&told, out.bytes, sizeof told);
            is_int(told, size, "%s: size %zu is told back", structs[i].name, size);
            is_int(out.bytes[size], 0xa5, "%s: size %zu: nothing behind it", structs[i].name, size);
            for (size_t n = structs[i].size; n < size; n++)
                rest += out.bytes[n] != 0;
            is_int(rest, 0, "%s: size %zu: zeros behind what is known", structs[i].name, size);
        }
    }
}

int main(void)
{
    struct netring_capture_config config;
    int sender;

    tap_begin(30);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");
    config = page_config(4);
    capture = capture_open("vb", &config);
    block = block_of(capture, sender, 0, 3, 60);
    if (netring_filter_new(all, 1, &filter, NULL) != 0)
        tap_bail("netring_filter_new failed");
    reader_open();
    if (netring_writer_open("/dev/null", NULL, &writer, NULL) != 0)
        tap_bail("netring_writer_open failed");
    if (netring_group_new(NULL, &group, NULL) != 0)
        tap_bail("netring_group_new failed");
    if (netring_injector_open("vb", &few, &injector, NULL) != 0)
        tap_bail("netring_injector_open failed");
    if (netring_bridge_open("va", "vb", &short_batches, &bridge, NULL) != 0)
        tap_bail("netring_bridge_open failed");
    xdp_open();

    test_handles();
    test_arguments();
    test_mistaken_sizes();
    test_odd_arguments();
    test_sizes();
    is_int(read_packets(block), 3, "after all that the block still reads");
    test_stale();
    capture_close(capture);
    netring_block_release(block);
    netring_filter_free(filter);
    netring_writer_close(writer, NULL);
    netring_group_free(group);
    netring_injector_close(injector);
    netring_bridge_close(bridge);
    return tap_end();
}
