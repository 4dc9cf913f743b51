#include "calls.h"

#include <errno.h>
#include <string.h>

/* Room for what the calls write. */
static _Thread_local union {
    struct netring_capture_info capture_info;
    struct netring_stats stats;
    struct netring_error error;
    struct netring_event event;
    struct netring_packet packets[4];
    struct netring_block_info block_info;
    struct netring_block_view view;
    struct netring_segment segment;
    struct netring_cursor cursor;
    struct netring_vnet vnet;
    struct netring_reader_info reader_info;
    struct netring_reader_interface reader_interface;
    struct netring_writer_info writer_info;
    struct netring_group_info group_info;
    struct netring_group_stats group_stats;
    struct netring_slot slots[4];
    struct netring_result results[4];
    struct netring_timestamp timestamps[4];
    struct netring_injector_info injector_info;
    struct netring_injector_stats injector_stats;
    struct netring_bridge_info bridge_info;
    struct netring_bridge_stats bridge_stats;
    struct netring_xdp_info xdp_info;
    struct netring_xdp_step steps[1];
    struct netring_xdp_counters counters;
    struct netring_queue_info queue_info;
    struct netring_umem_info umem_info;
    struct netring_queue *queue;
    uint32_t number;
    struct netring_capture *capture;
    struct netring_block *block;
    uint8_t bytes[1024];
} out;

/* A frame to nobody. */
static const uint8_t bytes[60] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
static const struct netring_frame frame = {.data = bytes, .len = sizeof bytes};

static int ignore(void *user, const struct netring_packet *packets, size_t count, size_t size)
{
    (void)user, (void)packets, (void)count, (void)size;
    return 0;
}

/* Name, kind, whether NULL is fine, the arguments behind the handle: a line each. */
/* clang-format off */
#define CALLS(CALL) \
    CALL(capture_close, CAPTURE, true) \
    CALL(capture_next_block, CAPTURE, false, 0, &out.block) \
    CALL(capture_next_packet, CAPTURE, false, 0, out.packets, sizeof out.packets[0]) \
    CALL(capture_dispatch, CAPTURE, false, 0, 1, ignore, NULL) \
    CALL(capture_fd, CAPTURE, false) \
    CALL(capture_wakeup, CAPTURE, false) \
    CALL(capture_wakeup_clear, CAPTURE, false) \
    CALL(capture_stop, CAPTURE, false) \
    CALL(capture_flush, CAPTURE, false) \
    CALL(capture_next_event, CAPTURE, false, 0, &out.event, sizeof out.event) \
    CALL(capture_rebind, CAPTURE, false, NULL, 0, 0, &out.error) \
    CALL(capture_join_multicast, CAPTURE, false, out.bytes, 6, NULL) \
    CALL(capture_leave_multicast, CAPTURE, false, out.bytes, 6, NULL) \
    CALL(capture_set_filter, CAPTURE, false, NULL, NULL, &out.error) \
    CALL(capture_lock_filter, CAPTURE, false, &out.error) \
    CALL(capture_last_error, CAPTURE, false, &out.error) \
    CALL(capture_info, CAPTURE, false, &out.capture_info, sizeof out.capture_info) \
    CALL(capture_stats, CAPTURE, false, &out.stats, sizeof out.stats) \
    CALL(block_read, BLOCK, false, out.packets, sizeof out.packets[0], COUNT(out.packets)) \
    CALL(block_rewind, BLOCK, false) \
    CALL(block_retain, BLOCK, false, 1) \
    CALL(block_release, BLOCK, true) \
    CALL(block_info, BLOCK, false, &out.block_info, sizeof out.block_info) \
    CALL(block_view, BLOCK, false, &out.view, sizeof out.view) \
    CALL(block_address, BLOCK, false, 0, out.bytes, 8) \
    CALL(block_cursor, BLOCK, false, &out.cursor, sizeof out.cursor) \
    CALL(block_vnet, BLOCK, false, 0, &out.vnet, sizeof out.vnet) \
    CALL(block_segments, BLOCK, false, 0, &out.segment, sizeof out.segment, 1) \
    CALL(filter_count, FILTER, false) \
    CALL(filter_match, FILTER, false, out.packets, sizeof out.packets[0]) \
    CALL(filter_listing, FILTER, false, 1, (char *)out.bytes, sizeof out.bytes) \
    CALL(filter_free, FILTER, true) \
    CALL(reader_close, READER, true) \
    CALL(reader_next_block, READER, false, 0, &out.block) \
    CALL(reader_next_packet, READER, false, 0, out.packets, sizeof out.packets[0]) \
    CALL(reader_fd, READER, false) \
    CALL(reader_wakeup, READER, false) \
    CALL(reader_wakeup_clear, READER, false) \
    CALL(reader_stop, READER, false) \
    CALL(reader_info, READER, false, &out.reader_info, sizeof out.reader_info) \
    CALL(reader_interface, READER, false, 0, &out.reader_interface, sizeof out.reader_interface) \
    CALL(reader_stats, READER, false, &out.stats, sizeof out.stats) \
    CALL(reader_last_error, READER, false, &out.error) \
    CALL(writer_add_interface, WRITER, false, "name", 1, 0, &out.error) \
    CALL(writer_add_capture, WRITER, false, NULL, &out.error) \
    CALL(writer_write, WRITER, false, 0, out.packets, sizeof out.packets[0], 0) \
    CALL(writer_write_block, WRITER, false, 0, NULL) \
    CALL(writer_statistics, WRITER, false, 0, &out.stats, sizeof out.stats) \
    CALL(writer_sync, WRITER, false) \
    CALL(writer_info, WRITER, false, &out.writer_info, sizeof out.writer_info) \
    CALL(writer_path, WRITER, false, (char *)out.bytes, sizeof out.bytes) \
    CALL(writer_last_error, WRITER, false, &out.error) \
    CALL(writer_close, WRITER, true, &out.error) \
    CALL(group_join, GROUP, false, "", NULL, &out.capture, &out.error) \
    CALL(group_open, GROUP, false, "", NULL, NULL, &out.capture, 1, &out.error) \
    CALL(group_info, GROUP, false, &out.group_info, sizeof out.group_info) \
    CALL(group_stats, GROUP, false, NULL, &out.group_stats, sizeof out.group_stats) \
    CALL(group_free, GROUP, true) \
    CALL(injector_close, INJECTOR, true) \
    CALL(injector_reserve, INJECTOR, false, out.slots, sizeof out.slots[0], COUNT(out.slots), 0) \
    CALL(injector_commit, INJECTOR, false, out.slots, sizeof out.slots[0], COUNT(out.slots)) \
    CALL(injector_flush, INJECTOR, false) \
    CALL(injector_drain, INJECTOR, false, 0) \
    CALL(injector_send, INJECTOR, false, bytes, sizeof bytes, 0) \
    CALL(injector_send_batch, INJECTOR, false, &frame, sizeof frame, 1, 0) \
    CALL(injector_send_packet, INJECTOR, false, NULL, out.packets, sizeof out.packets[0], 1, 0) \
    CALL(injector_results, INJECTOR, false, out.results, sizeof out.results[0], 4) \
    CALL(injector_timestamps, INJECTOR, false, out.timestamps, sizeof out.timestamps[0], 4) \
    CALL(injector_stats, INJECTOR, false, &out.injector_stats, sizeof out.injector_stats) \
    CALL(injector_info, INJECTOR, false, &out.injector_info, sizeof out.injector_info) \
    CALL(injector_fd, INJECTOR, false) \
    CALL(injector_wakeup, INJECTOR, false) \
    CALL(injector_wakeup_clear, INJECTOR, false) \
    CALL(injector_stop, INJECTOR, false) \
    CALL(injector_last_error, INJECTOR, false, &out.error) \
    CALL(bridge_close, BRIDGE, true) \
    CALL(bridge_run, BRIDGE, false, NETRING_BRIDGE_BOTH, NULL, NULL) \
    CALL(bridge_stop, BRIDGE, false) \
    CALL(bridge_stats, BRIDGE, false, NETRING_BRIDGE_A_TO_B, &out.bridge_stats, \
         sizeof out.bridge_stats) \
    CALL(bridge_info, BRIDGE, false, &out.bridge_info, sizeof out.bridge_info) \
    CALL(bridge_last_error, BRIDGE, false, &out.error) \
    CALL(umem_info, UMEM, false, &out.umem_info, sizeof out.umem_info) \
    CALL(umem_free, UMEM, true) \
    CALL(xdp_close, XDP, true) \
    CALL(xdp_queue, XDP, false, 0, &out.queue) \
    CALL(xdp_info, XDP, false, &out.xdp_info, sizeof out.xdp_info) \
    CALL(xdp_steps, XDP, false, out.steps, sizeof out.steps[0], COUNT(out.steps)) \
    CALL(xdp_missing, XDP, false, &out.number, 1) \
    CALL(xdp_set_filter, XDP, false, NETRING_REDIRECT_NONE, NULL, &out.error) \
    CALL(xdp_detach, XDP, false, &out.error) \
    CALL(xdp_fd, XDP, false, NETRING_XDP_FD_MAP) \
    CALL(xdp_stats, XDP, false, &out.stats, sizeof out.stats) \
    CALL(xdp_counters, XDP, false, &out.counters, sizeof out.counters) \
    CALL(xdp_stop, XDP, false) \
    CALL(xdp_last_error, XDP, false, &out.error) \
    CALL(queue_info, QUEUE, false, &out.queue_info, sizeof out.queue_info) \
    CALL(queue_next_block, QUEUE, false, 0, &out.block) \
    CALL(queue_next_packet, QUEUE, false, 0, out.packets, sizeof out.packets[0]) \
    CALL(queue_dispatch, QUEUE, false, 0, 1, ignore, NULL) \
    CALL(queue_fd, QUEUE, false) \
    CALL(queue_wakeup, QUEUE, false) \
    CALL(queue_wakeup_clear, QUEUE, false) \
    CALL(queue_stop, QUEUE, false) \
    CALL(queue_stats, QUEUE, false, &out.stats, sizeof out.stats) \
    CALL(queue_counters, QUEUE, false, &out.counters, sizeof out.counters) \
    CALL(queue_last_error, QUEUE, false, &out.error) \
    CALL(queue_reserve, QUEUE, false, out.slots, sizeof out.slots[0], COUNT(out.slots), 0) \
    CALL(queue_commit, QUEUE, false, out.slots, sizeof out.slots[0], COUNT(out.slots)) \
    CALL(queue_flush, QUEUE, false) \
    CALL(queue_drain, QUEUE, false, 0) \
    CALL(queue_send, QUEUE, false, bytes, sizeof bytes, 0) \
    CALL(queue_send_batch, QUEUE, false, &frame, sizeof frame, 1, 0) \
    CALL(queue_send_packet, QUEUE, false, NULL, out.packets, sizeof out.packets[0], 1, 0) \
    CALL(queue_forward, QUEUE, false, NULL, out.packets, sizeof out.packets[0], 1) \
    CALL(queue_timestamps, QUEUE, false, out.timestamps, sizeof out.timestamps[0], 4) \
    CALL(queue_results, QUEUE, false, out.results, sizeof out.results[0], 4) \
    CALL(queue_transmit_stats, QUEUE, false, &out.injector_stats, sizeof out.injector_stats)

/* The others, for the comparison: what makes handles or needs none. */
#define NO_HANDLE(CALL) \
    CALL(bridge_config_init) \
    CALL(bridge_open) \
    CALL(capture_open) \
    CALL(capture_config_init) \
    CALL(capture_config_profile) \
    CALL(err_name) \
    CALL(filter_compile) \
    CALL(filter_config_init) \
    CALL(filter_new) \
    CALL(filter_new_ddd) \
    CALL(filter_new_ebpf) \
    CALL(group_config_init) \
    CALL(group_new) \
    CALL(injector_config_init) \
    CALL(injector_open) \
    CALL(interface_info) \
    CALL(interface_list) \
    CALL(log_set) \
    CALL(netns_open) \
    CALL(netns_open_pid) \
    CALL(reader_config_init) \
    CALL(reader_open) \
    CALL(reader_open_fd) \
    CALL(stats_since) \
    CALL(strerror) \
    CALL(umem_config_init) \
    CALL(umem_new) \
    CALL(version) \
    CALL(version_string) \
    CALL(writer_config_init) \
    CALL(writer_open) \
    CALL(writer_open_fd) \
    CALL(xdp_adopt) \
    CALL(xdp_config_init) \
    CALL(xdp_open) \
    CALL(xdp_probe) \
    CALL(xdp_try_filter)
/* clang-format on */

#define FUNCTION(name, kind, null_is_fine, ...)                                                    \
    static int call_##name(void *handle)                                                           \
    {                                                                                              \
        return netring_##name(handle, ##__VA_ARGS__);                                              \
    }
CALLS(FUNCTION)

#define LINE(name, kind, null_is_fine, ...) {#name, HANDLE_##kind, call_##name, null_is_fine},
const struct call calls[] = {CALLS(LINE)};
const size_t call_count = COUNT(calls);

bool call_refused(const struct call *call, void *handle)
{
    bool bad;

    memset(&out, 0, sizeof out);
    errno = 0;
    bad = call->call(handle) == NETRING_EBADF && errno == EBADF;
    if (!bad)
        tap_diag("%s: handle %p is not refused", call->name, handle);
    return bad;
}
