/* The layout of every public struct: what programs compiled with an older header rely on.
 * Compiling this is the test; C and C++. */
#include <netring.h>

#ifdef __cplusplus
#define CHECK(what) static_assert(what, #what)
#else
#define CHECK(what) _Static_assert(what, #what)
#endif
#define SIZE(type, bytes) CHECK(sizeof(struct type) == (bytes))
#define FIELD(type, field, offset, bytes)                                                          \
    CHECK(offsetof(struct type, field) == (offset));                                               \
    CHECK(sizeof(((struct type *)0)->field) == (bytes))

SIZE(netring_error, 640);
FIELD(netring_error, code, 0, 4);
FIELD(netring_error, os_errno, 4, 4);
FIELD(netring_error, option, 8, 64);
FIELD(netring_error, message, 72, 512);
FIELD(netring_error, reserved, 584, 56);

SIZE(netring_packet, 64);
FIELD(netring_packet, data, 0, 8);
FIELD(netring_packet, caplen, 8, 4);
FIELD(netring_packet, len, 12, 4);
FIELD(netring_packet, time_ns, 16, 8);
FIELD(netring_packet, status, 24, 4);
FIELD(netring_packet, rxhash, 28, 4);
FIELD(netring_packet, vlan_tci, 32, 2);
FIELD(netring_packet, vlan_tpid, 34, 2);
FIELD(netring_packet, protocol, 36, 2);
FIELD(netring_packet, net_offset, 38, 2);
FIELD(netring_packet, ifindex, 40, 4);
FIELD(netring_packet, link_type, 44, 2);
FIELD(netring_packet, direction, 46, 1);
FIELD(netring_packet, clock, 47, 1);
FIELD(netring_packet, queue, 48, 2);
FIELD(netring_packet, gso_size, 50, 2);
FIELD(netring_packet, gso_type, 52, 1);
FIELD(netring_packet, segments, 53, 1);
FIELD(netring_packet, reserved, 54, 2);
FIELD(netring_packet, cookie, 56, 8);

SIZE(netring_capture_config, 72);
FIELD(netring_capture_config, size, 0, 4);
FIELD(netring_capture_config, init, 4, 4);
FIELD(netring_capture_config, block_size, 8, 4);
FIELD(netring_capture_config, block_count, 12, 4);
FIELD(netring_capture_config, frame_size, 16, 4);
FIELD(netring_capture_config, snap_length, 20, 4);
FIELD(netring_capture_config, block_timeout, 24, 4);
FIELD(netring_capture_config, busy_poll, 28, 4);
FIELD(netring_capture_config, flags, 32, 8);
FIELD(netring_capture_config, memory_limit, 40, 8);
FIELD(netring_capture_config, filter, 48, 8);
FIELD(netring_capture_config, cpu, 56, 4);
FIELD(netring_capture_config, clock, 60, 4);
FIELD(netring_capture_config, netns_fd, 64, 4);
FIELD(netring_capture_config, socket_fd, 68, 4);

SIZE(netring_capture_info, 112);
FIELD(netring_capture_info, size, 0, 4);
FIELD(netring_capture_info, method, 4, 4);
FIELD(netring_capture_info, block_size, 8, 4);
FIELD(netring_capture_info, block_count, 12, 4);
FIELD(netring_capture_info, frame_size, 16, 4);
FIELD(netring_capture_info, frame_count, 20, 4);
FIELD(netring_capture_info, requested_block_size, 24, 4);
FIELD(netring_capture_info, requested_block_count, 28, 4);
FIELD(netring_capture_info, shrinks, 32, 4);
FIELD(netring_capture_info, shrunk_by, 36, 4);
FIELD(netring_capture_info, snap_length, 40, 4);
FIELD(netring_capture_info, block_timeout, 44, 4);
FIELD(netring_capture_info, timer_ms, 48, 4);
FIELD(netring_capture_info, ifindex, 52, 4);
FIELD(netring_capture_info, kernel_version, 56, 4);
FIELD(netring_capture_info, link_type, 60, 4);
FIELD(netring_capture_info, flags, 64, 8);
FIELD(netring_capture_info, memory, 72, 8);
FIELD(netring_capture_info, memory_bound, 80, 8);
FIELD(netring_capture_info, interface, 88, 16);
FIELD(netring_capture_info, clock, 104, 4);
FIELD(netring_capture_info, reserved, 108, 4);

SIZE(netring_event, 64);
FIELD(netring_event, size, 0, 4);
FIELD(netring_event, kind, 4, 4);
FIELD(netring_event, time_ns, 8, 8);
FIELD(netring_event, ifindex, 16, 4);
FIELD(netring_event, new_ifindex, 20, 4);
FIELD(netring_event, flags, 24, 4);
FIELD(netring_event, netns_id, 28, 4);
FIELD(netring_event, name, 32, 16);
FIELD(netring_event, old_name, 48, 16);

SIZE(netring_stats, 192);
FIELD(netring_stats, time_ns, 0, 8);
FIELD(netring_stats, received, 8, 8);
FIELD(netring_stats, delivered, 16, 8);
FIELD(netring_stats, pending, 24, 8);
FIELD(netring_stats, seen, 32, 8);
FIELD(netring_stats, dropped, 40, 8);
FIELD(netring_stats, freezes, 48, 8);
FIELD(netring_stats, blocks_delivered, 56, 8);
FIELD(netring_stats, blocks_ready, 64, 8);
FIELD(netring_stats, blocks_ready_max, 72, 8);
FIELD(netring_stats, blocks_held, 80, 8);
FIELD(netring_stats, oldest_held_ns, 88, 8);
FIELD(netring_stats, blocks_empty, 96, 8);
FIELD(netring_stats, skipped, 104, 8);
FIELD(netring_stats, filtered_late, 112, 8);
FIELD(netring_stats, truncated, 120, 8);
FIELD(netring_stats, looped, 128, 8);
FIELD(netring_stats, sequence_gaps, 136, 8);
FIELD(netring_stats, interface_missed, 144, 8);
FIELD(netring_stats, interface_dropped, 152, 8);
FIELD(netring_stats, interface_fifo, 160, 8);
FIELD(netring_stats, softnet_dropped, 168, 8);
FIELD(netring_stats, softnet_squeezed, 176, 8);
FIELD(netring_stats, valid, 184, 8);

SIZE(netring_filter_config, 24);
FIELD(netring_filter_config, size, 0, 4);
FIELD(netring_filter_config, init, 4, 4);
FIELD(netring_filter_config, flags, 8, 8);
FIELD(netring_filter_config, netmask, 16, 4);
FIELD(netring_filter_config, reserved, 20, 4);

SIZE(netring_group_config, 40);
FIELD(netring_group_config, size, 0, 4);
FIELD(netring_group_config, init, 4, 4);
FIELD(netring_group_config, mode, 8, 4);
FIELD(netring_group_config, members, 12, 4);
FIELD(netring_group_config, flags, 16, 8);
FIELD(netring_group_config, max_members, 24, 4);
FIELD(netring_group_config, id, 28, 4);
FIELD(netring_group_config, program, 32, 8);

SIZE(netring_group_info, 48);
FIELD(netring_group_info, size, 0, 4);
FIELD(netring_group_info, mode, 4, 4);
FIELD(netring_group_info, flags, 8, 8);
FIELD(netring_group_info, state, 16, 8);
FIELD(netring_group_info, id, 24, 4);
FIELD(netring_group_info, members, 28, 4);
FIELD(netring_group_info, joined, 32, 4);
FIELD(netring_group_info, max_members, 36, 4);
FIELD(netring_group_info, ifindex, 40, 4);
FIELD(netring_group_info, reserved, 44, 4);

SIZE(netring_group_stats, 40);
FIELD(netring_group_stats, size, 0, 4);
FIELD(netring_group_stats, members, 4, 4);
FIELD(netring_group_stats, valid, 8, 8);
FIELD(netring_group_stats, rollover, 16, 8);
FIELD(netring_group_stats, rollover_huge, 24, 8);
FIELD(netring_group_stats, rollover_failed, 32, 8);

SIZE(netring_reader_config, 40);
FIELD(netring_reader_config, size, 0, 4);
FIELD(netring_reader_config, init, 4, 4);
FIELD(netring_reader_config, block_size, 8, 4);
FIELD(netring_reader_config, packet_limit, 12, 4);
FIELD(netring_reader_config, memory_limit, 16, 8);
FIELD(netring_reader_config, flags, 24, 8);
FIELD(netring_reader_config, filter, 32, 8);

SIZE(netring_reader_info, 72);
FIELD(netring_reader_info, size, 0, 4);
FIELD(netring_reader_info, format, 4, 4);
FIELD(netring_reader_info, byte_order, 8, 4);
FIELD(netring_reader_info, version_major, 12, 4);
FIELD(netring_reader_info, version_minor, 16, 4);
FIELD(netring_reader_info, interfaces, 20, 4);
FIELD(netring_reader_info, sections, 24, 4);
FIELD(netring_reader_info, link_type, 28, 4);
FIELD(netring_reader_info, snap_length, 32, 4);
FIELD(netring_reader_info, block_size, 36, 4);
FIELD(netring_reader_info, packet_limit, 40, 4);
FIELD(netring_reader_info, waits, 44, 4);
FIELD(netring_reader_info, offset, 48, 8);
FIELD(netring_reader_info, memory, 56, 8);
FIELD(netring_reader_info, memory_limit, 64, 8);

SIZE(netring_reader_interface, 400);
FIELD(netring_reader_interface, size, 0, 4);
FIELD(netring_reader_interface, number, 4, 4);
FIELD(netring_reader_interface, section, 8, 4);
FIELD(netring_reader_interface, link_type, 12, 4);
FIELD(netring_reader_interface, snap_length, 16, 4);
FIELD(netring_reader_interface, valid, 20, 4);
FIELD(netring_reader_interface, resolution, 24, 8);
FIELD(netring_reader_interface, offset, 32, 8);
FIELD(netring_reader_interface, received, 40, 8);
FIELD(netring_reader_interface, dropped, 48, 8);
FIELD(netring_reader_interface, accepted, 56, 8);
FIELD(netring_reader_interface, os_dropped, 64, 8);
FIELD(netring_reader_interface, delivered, 72, 8);
FIELD(netring_reader_interface, name, 80, 64);
FIELD(netring_reader_interface, description, 144, 256);

SIZE(netring_block_info, 40);
FIELD(netring_block_info, size, 0, 4);
FIELD(netring_block_info, count, 4, 4);
FIELD(netring_block_info, sequence, 8, 8);
FIELD(netring_block_info, first_ns, 16, 8);
FIELD(netring_block_info, last_ns, 24, 8);
FIELD(netring_block_info, flags, 32, 4);
FIELD(netring_block_info, ifindex, 36, 4);

SIZE(netring_segment, 16);
FIELD(netring_segment, data, 0, 8);
FIELD(netring_segment, len, 8, 4);
FIELD(netring_segment, reserved, 12, 4);

SIZE(netring_block_view, 40);
FIELD(netring_block_view, size, 0, 4);
FIELD(netring_block_view, layout, 4, 4);
FIELD(netring_block_view, base, 8, 8);
FIELD(netring_block_view, length, 16, 8);
FIELD(netring_block_view, first, 24, 4);
FIELD(netring_block_view, count, 28, 4);
FIELD(netring_block_view, stride, 32, 4);
FIELD(netring_block_view, reserved, 36, 4);

SIZE(netring_cursor, 64);
FIELD(netring_cursor, size, 0, 4);
FIELD(netring_cursor, layout, 4, 4);
FIELD(netring_cursor, next, 8, 8);
FIELD(netring_cursor, record, 16, 8);
FIELD(netring_cursor, data, 24, 8);
FIELD(netring_cursor, end, 32, 8);
FIELD(netring_cursor, base, 40, 8);
FIELD(netring_cursor, caplen, 48, 4);
FIELD(netring_cursor, left, 52, 4);
FIELD(netring_cursor, link_type, 56, 2);
FIELD(netring_cursor, reserved, 58, 2);
FIELD(netring_cursor, reserved2, 60, 4);

SIZE(netring_vnet, 16);
FIELD(netring_vnet, size, 0, 4);
FIELD(netring_vnet, flags, 4, 1);
FIELD(netring_vnet, gso_type, 5, 1);
FIELD(netring_vnet, hdr_len, 6, 2);
FIELD(netring_vnet, gso_size, 8, 2);
FIELD(netring_vnet, csum_start, 10, 2);
FIELD(netring_vnet, csum_offset, 12, 2);
FIELD(netring_vnet, reserved, 14, 2);

SIZE(netring_writer_config, 40);
FIELD(netring_writer_config, size, 0, 4);
FIELD(netring_writer_config, init, 4, 4);
FIELD(netring_writer_config, format, 8, 4);
FIELD(netring_writer_config, max_files, 12, 4);
FIELD(netring_writer_config, flags, 16, 8);
FIELD(netring_writer_config, rotate_bytes, 24, 8);
FIELD(netring_writer_config, rotate_ns, 32, 8);

SIZE(netring_writer_info, 72);
FIELD(netring_writer_info, size, 0, 4);
FIELD(netring_writer_info, format, 4, 4);
FIELD(netring_writer_info, interfaces, 8, 4);
FIELD(netring_writer_info, reserved, 12, 4);
FIELD(netring_writer_info, packets, 16, 8);
FIELD(netring_writer_info, bytes, 24, 8);
FIELD(netring_writer_info, files, 32, 8);
FIELD(netring_writer_info, files_removed, 40, 8);
FIELD(netring_writer_info, file_packets, 48, 8);
FIELD(netring_writer_info, file_bytes, 56, 8);
FIELD(netring_writer_info, last_written, 64, 8);

SIZE(netring_interface, 192);
FIELD(netring_interface, size, 0, 4);
FIELD(netring_interface, ifindex, 4, 4);
FIELD(netring_interface, valid, 8, 8);
FIELD(netring_interface, name, 16, 16);
FIELD(netring_interface, driver, 32, 32);
FIELD(netring_interface, flags, 64, 4);
FIELD(netring_interface, mtu, 68, 4);
FIELD(netring_interface, link_type, 72, 4);
FIELD(netring_interface, hardware_type, 76, 4);
FIELD(netring_interface, speed_mbps, 80, 4);
FIELD(netring_interface, duplex, 84, 1);
FIELD(netring_interface, operstate, 85, 1);
FIELD(netring_interface, carrier, 86, 1);
FIELD(netring_interface, address_length, 87, 1);
FIELD(netring_interface, address, 88, 32);
FIELD(netring_interface, rx_queues, 120, 4);
FIELD(netring_interface, tx_queues, 124, 4);
FIELD(netring_interface, rx_queues_max, 128, 4);
FIELD(netring_interface, tx_queues_max, 132, 4);
FIELD(netring_interface, timestamping, 136, 4);
FIELD(netring_interface, clock, 140, 4);
FIELD(netring_interface, tx_types, 144, 4);
FIELD(netring_interface, rx_filters, 148, 4);
FIELD(netring_interface, xdp_mode, 152, 4);
FIELD(netring_interface, xdp_program, 156, 4);
FIELD(netring_interface, xdp_features, 160, 8);
FIELD(netring_interface, xdp_rx_metadata, 168, 8);
FIELD(netring_interface, xsk_features, 176, 8);
FIELD(netring_interface, xdp_max_segments, 184, 4);
FIELD(netring_interface, reserved, 188, 4);

SIZE(netring_slot, 40);
FIELD(netring_slot, data, 0, 8);
FIELD(netring_slot, capacity, 8, 4);
FIELD(netring_slot, len, 12, 4);
FIELD(netring_slot, cookie, 16, 8);
FIELD(netring_slot, vnet_flags, 24, 1);
FIELD(netring_slot, gso_type, 25, 1);
FIELD(netring_slot, hdr_len, 26, 2);
FIELD(netring_slot, gso_size, 28, 2);
FIELD(netring_slot, csum_start, 30, 2);
FIELD(netring_slot, csum_offset, 32, 2);
FIELD(netring_slot, reserved, 34, 6);

SIZE(netring_frame, 24);
FIELD(netring_frame, data, 0, 8);
FIELD(netring_frame, len, 8, 4);
FIELD(netring_frame, vnet_flags, 12, 1);
FIELD(netring_frame, gso_type, 13, 1);
FIELD(netring_frame, hdr_len, 14, 2);
FIELD(netring_frame, gso_size, 16, 2);
FIELD(netring_frame, csum_start, 18, 2);
FIELD(netring_frame, csum_offset, 20, 2);
FIELD(netring_frame, reserved, 22, 2);

SIZE(netring_injector_config, 56);
FIELD(netring_injector_config, size, 0, 4);
FIELD(netring_injector_config, init, 4, 4);
FIELD(netring_injector_config, flags, 8, 8);
FIELD(netring_injector_config, memory_limit, 16, 8);
FIELD(netring_injector_config, rate, 24, 8);
FIELD(netring_injector_config, rate_unit, 32, 4);
FIELD(netring_injector_config, method, 36, 4);
FIELD(netring_injector_config, slot_size, 40, 4);
FIELD(netring_injector_config, slot_count, 44, 4);
FIELD(netring_injector_config, netns_fd, 48, 4);
FIELD(netring_injector_config, reserved, 52, 4);

SIZE(netring_injector_info, 88);
FIELD(netring_injector_info, size, 0, 4);
FIELD(netring_injector_info, method, 4, 4);
FIELD(netring_injector_info, slot_size, 8, 4);
FIELD(netring_injector_info, slot_count, 12, 4);
FIELD(netring_injector_info, requested_slot_count, 16, 4);
FIELD(netring_injector_info, shrunk_by, 20, 4);
FIELD(netring_injector_info, ifindex, 24, 4);
FIELD(netring_injector_info, link_type, 28, 4);
FIELD(netring_injector_info, mtu, 32, 4);
FIELD(netring_injector_info, frame_limit, 36, 4);
FIELD(netring_injector_info, kernel_version, 40, 4);
FIELD(netring_injector_info, send_buffer, 44, 4);
FIELD(netring_injector_info, flags, 48, 8);
FIELD(netring_injector_info, memory, 56, 8);
FIELD(netring_injector_info, memory_bound, 64, 8);
FIELD(netring_injector_info, interface, 72, 16);

SIZE(netring_injector_stats, 176);
FIELD(netring_injector_stats, time_ns, 0, 8);
FIELD(netring_injector_stats, reserved, 8, 8);
FIELD(netring_injector_stats, committed, 16, 8);
FIELD(netring_injector_stats, discarded, 24, 8);
FIELD(netring_injector_stats, handed, 32, 8);
FIELD(netring_injector_stats, handed_bytes, 40, 8);
FIELD(netring_injector_stats, completed, 48, 8);
FIELD(netring_injector_stats, refused, 56, 8);
FIELD(netring_injector_stats, dropped, 64, 8);
FIELD(netring_injector_stats, results_lost, 72, 8);
FIELD(netring_injector_stats, timestamps_lost, 80, 8);
FIELD(netring_injector_stats, kicks, 88, 8);
FIELD(netring_injector_stats, full_socket, 96, 8);
FIELD(netring_injector_stats, full_queue, 104, 8);
FIELD(netring_injector_stats, open, 112, 8);
FIELD(netring_injector_stats, waiting, 120, 8);
FIELD(netring_injector_stats, held_back, 128, 8);
FIELD(netring_injector_stats, in_flight, 136, 8);
FIELD(netring_injector_stats, interface_errors, 144, 8);
FIELD(netring_injector_stats, interface_dropped, 152, 8);
FIELD(netring_injector_stats, qdisc_drops, 160, 8);
FIELD(netring_injector_stats, valid, 168, 8);

SIZE(netring_result, 16);
FIELD(netring_result, cookie, 0, 8);
FIELD(netring_result, code, 8, 4);
FIELD(netring_result, os_errno, 12, 4);

SIZE(netring_bridge_config, 48);
FIELD(netring_bridge_config, size, 0, 4);
FIELD(netring_bridge_config, init, 4, 4);
FIELD(netring_bridge_config, flags, 8, 8);
FIELD(netring_bridge_config, memory_limit, 16, 8);
FIELD(netring_bridge_config, batch, 24, 4);
FIELD(netring_bridge_config, packet_size, 28, 4);
FIELD(netring_bridge_config, receive_buffer, 32, 4);
FIELD(netring_bridge_config, patience_us, 36, 4);
FIELD(netring_bridge_config, netns_fd_a, 40, 4);
FIELD(netring_bridge_config, netns_fd_b, 44, 4);

SIZE(netring_bridge_info, 96);
FIELD(netring_bridge_info, size, 0, 4);
FIELD(netring_bridge_info, link_type, 4, 4);
FIELD(netring_bridge_info, flags, 8, 8);
FIELD(netring_bridge_info, memory, 16, 8);
FIELD(netring_bridge_info, ifindex_a, 24, 4);
FIELD(netring_bridge_info, ifindex_b, 28, 4);
FIELD(netring_bridge_info, frame_limit_a, 32, 4);
FIELD(netring_bridge_info, frame_limit_b, 36, 4);
FIELD(netring_bridge_info, receive_buffer_a, 40, 4);
FIELD(netring_bridge_info, receive_buffer_b, 44, 4);
FIELD(netring_bridge_info, batch, 48, 4);
FIELD(netring_bridge_info, capacity, 52, 4);
FIELD(netring_bridge_info, patience_us, 56, 4);
FIELD(netring_bridge_info, kernel_version, 60, 4);
FIELD(netring_bridge_info, interface_a, 64, 16);
FIELD(netring_bridge_info, interface_b, 80, 16);

SIZE(netring_bridge_stats, 128);
FIELD(netring_bridge_stats, size, 0, 4);
FIELD(netring_bridge_stats, direction, 4, 4);
FIELD(netring_bridge_stats, time_ns, 8, 8);
FIELD(netring_bridge_stats, received, 16, 8);
FIELD(netring_bridge_stats, received_bytes, 24, 8);
FIELD(netring_bridge_stats, forwarded, 32, 8);
FIELD(netring_bridge_stats, forwarded_bytes, 40, 8);
FIELD(netring_bridge_stats, modified, 48, 8);
FIELD(netring_bridge_stats, dropped, 56, 8);
FIELD(netring_bridge_stats, too_large, 64, 8);
FIELD(netring_bridge_stats, ring_full, 72, 8);
FIELD(netring_bridge_stats, link_down, 80, 8);
FIELD(netring_bridge_stats, refused, 88, 8);
FIELD(netring_bridge_stats, waiting, 96, 8);
FIELD(netring_bridge_stats, kernel_dropped, 104, 8);
FIELD(netring_bridge_stats, unreadable, 112, 8);
FIELD(netring_bridge_stats, batches, 120, 8);

SIZE(netring_timestamp, 24);
FIELD(netring_timestamp, cookie, 0, 8);
FIELD(netring_timestamp, time_ns, 8, 8);
FIELD(netring_timestamp, clock, 16, 4);
FIELD(netring_timestamp, reserved, 20, 4);
