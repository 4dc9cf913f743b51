//! A capture over veth from Zig, and the errors it gets. Arguments: interface, address that is
//! reached through it, or "denied" where capturing is not allowed.
//!
//! The inline walk is used as it is: Zig translates netring_inline.h.
const c = @cImport({
    @cInclude("arpa/inet.h");
    @cInclude("netinet/in.h");
    @cInclude("stdio.h");
    @cInclude("string.h");
    @cInclude("sys/socket.h");
    @cInclude("unistd.h");
    @cInclude("netring.h");
    @cInclude("netring_inline.h");
});

const datagrams = 500;
var failures: u32 = 0;

fn check(pass: bool, what: [*:0]const u8) void {
    _ = c.printf("%s - %s\n", @as([*:0]const u8, if (pass) "ok" else "not ok"), what);
    if (!pass) failures += 1;
}

/// Opening fails with this code, and the message mentions this.
fn refused(name: [*:0]const u8, config: ?*const c.struct_netring_capture_config, code: c_int, part: [*:0]const u8) void {
    var capture: ?*c.struct_netring_capture = null;
    var detail: c.struct_netring_error = undefined;
    const rc = c.netring_capture_open(name, config, &capture, &detail);
    _ = c.printf("# %s, %s: %s\n", c.netring_err_name(rc), &detail.option, &detail.message);
    check(rc == code and detail.code == code and c.strstr(&detail.message, part) != null, part);
}

fn send(address: [*:0]const u8) void {
    const fd = c.socket(c.AF_INET, c.SOCK_DGRAM, 0);
    defer _ = c.close(fd);
    var to: c.struct_sockaddr_in = undefined;
    _ = c.memset(&to, 0, @sizeOf(c.struct_sockaddr_in));
    to.sin_family = c.AF_INET;
    to.sin_port = 9 << 8; // network byte order
    if (@import("builtin").cpu.arch.endian() == .big) to.sin_port = 9;
    _ = c.inet_pton(c.AF_INET, address, &to.sin_addr);
    check(c.connect(fd, @ptrCast(&to), @sizeOf(c.struct_sockaddr_in)) == 0, "connect");
    var i: u16 = 0;
    while (i < datagrams) : (i += 1) {
        var text = [_]u8{ 'n', 'r', @truncate(i >> 8), @truncate(i) };
        _ = c.send(fd, &text, text.len, 0);
    }
}

fn receive(name: [*:0]const u8, address: [*:0]const u8) void {
    var capture: ?*c.struct_netring_capture = null;
    var detail: c.struct_netring_error = undefined;
    if (c.netring_capture_open(name, null, &capture, &detail) < 0)
        return check(false, @ptrCast(&detail.message));
    send(address);

    var seen: u32 = 0;
    var walked: u64 = 0;
    var block: ?*c.struct_netring_block = null;
    var rc = c.netring_capture_next_block(capture, 3000, &block);
    while (rc >= 0) : (rc = c.netring_capture_next_block(capture, 3000, &block)) {
        if (rc == 0) {
            _ = c.netring_capture_stop(capture);
            continue;
        }
        var cursor: c.struct_netring_cursor = undefined;
        _ = c.netring_cursor_init(&cursor, block);
        while (c.netring_cursor_next(&cursor) == 1) {
            const data = c.netring_cursor_data(&cursor)[0..c.netring_cursor_caplen(&cursor)];
            var packet: c.struct_netring_packet = undefined;
            c.netring_cursor_packet(&cursor, &packet);
            if (packet.data != data.ptr or packet.caplen != data.len) failures += 1;
            walked += 1;
            if (packet.protocol == 0x0800 and data.len == 46 and data[37] == 9 and
                data[44] == seen >> 8 and data[45] == seen & 0xff) seen += 1;
        }
        _ = c.netring_block_release(block);
        if (seen == datagrams) _ = c.netring_capture_stop(capture);
    }
    check(rc == c.NETRING_ESHUTDOWN, "ended by stop");
    check(seen == datagrams, "500 datagrams, in order");
    var stats: c.struct_netring_stats = undefined;
    rc = c.netring_capture_stats(capture, &stats, @sizeOf(c.struct_netring_stats));
    check(rc == 0 and stats.delivered == walked and stats.dropped == 0, "the counters say the same");
    check(c.netring_capture_close(capture) == 0, "close");
    check(c.netring_capture_flush(capture) == c.NETRING_EBADF, "a closed capture is refused");
}

/// The inline walk over AF_XDP's layout, an array of packets, made here.
fn array() void {
    var packets: [5]c.struct_netring_packet = undefined;
    var data = [_]u8{ 10, 11, 12, 13, 14 };
    _ = c.memset(&packets, 0, @sizeOf(@TypeOf(packets)));
    for (&packets, 0..) |*packet, i| {
        packet.data = &data[i];
        packet.caplen = 1;
        packet.len = @intCast(60 + i);
        packet.time_ns = 1000 + i;
        packet.queue = 3;
        packet.cookie = i;
    }
    var cursor: c.struct_netring_cursor = undefined;
    _ = c.memset(&cursor, 0, @sizeOf(c.struct_netring_cursor));
    cursor.layout = c.NETRING_LAYOUT_PACKETS;
    cursor.base = @ptrCast(&packets);
    cursor.next = cursor.base;
    cursor.end = cursor.base + @sizeOf(@TypeOf(packets));
    cursor.left = packets.len;
    cursor.link_type = c.NETRING_LINKTYPE_UNKNOWN;
    var seen: u32 = 0;
    while (c.netring_cursor_next(&cursor) == 1) {
        var packet: c.struct_netring_packet = undefined;
        c.netring_cursor_packet(&cursor, &packet);
        if (packet.data == &data[seen] and packet.len == 60 + seen and
            c.netring_cursor_data(&cursor)[0] == 10 + seen and c.netring_cursor_caplen(&cursor) == 1 and
            c.netring_cursor_len(&cursor) == 60 + seen and c.netring_cursor_time_ns(&cursor) == 1000 + seen and
            c.netring_cursor_queue(&cursor) == 3 and c.netring_cursor_cookie(&cursor) == seen) seen += 1;
    }
    check(seen == 5 and c.netring_cursor_damaged(&cursor) == 0, "5 packets of an array");
}

/// What is written into a savefile is read from it, by the inline walk.
fn savefile() void {
    var name: [64]u8 = undefined;
    _ = c.snprintf(&name, name.len, "/tmp/netring-zig-%d", c.getpid());
    const path: [*:0]const u8 = @ptrCast(&name);
    var detail: c.struct_netring_error = undefined;
    var writer: ?*c.struct_netring_writer = null;
    if (c.netring_writer_open(path, null, &writer, &detail) < 0)
        return check(false, @ptrCast(&detail.message));
    const id = c.netring_writer_add_interface(writer, null, c.NETRING_LINKTYPE_ETHERNET, 0, &detail);
    var data = [_]u8{'n'} ** 80;
    var packet: c.struct_netring_packet = undefined;
    _ = c.memset(&packet, 0, @sizeOf(c.struct_netring_packet));
    packet.data = &data;
    packet.caplen = data.len;
    packet.len = 90;
    packet.link_type = c.NETRING_LINKTYPE_ETHERNET;
    var written: c_int = 0;
    while (written < 100) : (packet.time_ns += 1) {
        data[79] = @intCast(written);
        const rc = c.netring_writer_write(writer, @intCast(id), &packet, @sizeOf(c.struct_netring_packet), 1);
        if (rc != 1) break;
        written += rc;
    }
    check(written == 100, "100 packets are written");
    check(c.netring_writer_close(writer, &detail) == 0, "the writer is closed");

    var reader: ?*c.struct_netring_reader = null;
    if (c.netring_reader_open(path, null, &reader, &detail) < 0)
        return check(false, @ptrCast(&detail.message));
    _ = c.unlink(path);
    var seen: u32 = 0;
    var block: ?*c.struct_netring_block = null;
    var rc = c.netring_reader_next_block(reader, -1, &block);
    while (rc > 0) : (rc = c.netring_reader_next_block(reader, -1, &block)) {
        var cursor: c.struct_netring_cursor = undefined;
        _ = c.netring_cursor_init(&cursor, block);
        while (c.netring_cursor_next(&cursor) == 1) {
            if (c.netring_cursor_caplen(&cursor) == 80 and c.netring_cursor_len(&cursor) == 90 and
                c.netring_cursor_time_ns(&cursor) == seen and
                c.netring_cursor_data(&cursor)[79] == seen) seen += 1;
        }
        _ = c.netring_block_release(block);
    }
    check(rc == c.NETRING_ESHUTDOWN and seen == 100, "and read as they were");
    check(c.netring_reader_close(reader) == 0, "the reader is closed");
}

/// Frames written in place at the other end of the wire arrive here, in order.
fn inject(name: [*:0]const u8) void {
    const count = 200;
    var detail: c.struct_netring_error = undefined;
    var capture: ?*c.struct_netring_capture = null;
    if (c.netring_capture_open(name, null, &capture, &detail) < 0)
        return check(false, @ptrCast(&detail.message));
    defer _ = c.netring_capture_close(capture);
    var config: c.struct_netring_injector_config = undefined;
    _ = c.netring_injector_config_init(&config, @sizeOf(c.struct_netring_injector_config));
    config.slot_count = 64;
    var injector: ?*c.struct_netring_injector = null;
    if (c.netring_injector_open("nr0", &config, &injector, &detail) < 0)
        return check(false, @ptrCast(&detail.message));

    var slots: [16]c.struct_netring_slot = undefined;
    var sent: u8 = 0;
    while (sent < count) {
        const n = c.netring_injector_reserve(injector, &slots, @sizeOf(c.struct_netring_slot), slots.len, 3000);
        if (n <= 0) return check(false, "reserve");
        for (slots[0..@intCast(n)]) |*slot| {
            slot.len = 0; // one that is too many is discarded
            if (sent == count) continue;
            const frame = slot.data[0..slot.capacity];
            @memset(frame[0..60], 0);
            frame[12] = 0x88;
            frame[13] = 0xb5;
            frame[14] = sent;
            slot.len = 60;
            sent += 1;
        }
        if (c.netring_injector_commit(injector, &slots, @sizeOf(c.struct_netring_slot), @intCast(n)) != n)
            return check(false, "commit");
        if (c.netring_injector_flush(injector) < 0) return check(false, "flush");
    }
    check(c.netring_injector_drain(injector, 3000) == 1, "200 frames have left");

    var seen: u32 = 0;
    var packet: c.struct_netring_packet = undefined;
    while (seen < count and c.netring_capture_next_packet(capture, 3000, &packet, @sizeOf(c.struct_netring_packet)) == 1) {
        if (packet.protocol == 0x88b5 and packet.caplen == 60 and packet.data[14] == seen) seen += 1;
    }
    check(seen == count, "and arrive, in order");
    var stats: c.struct_netring_injector_stats = undefined;
    const rc = c.netring_injector_stats(injector, &stats, @sizeOf(c.struct_netring_injector_stats));
    check(rc == 0 and stats.handed == count and stats.completed == count and stats.refused == 0, "the counters say the same");
    check(c.netring_injector_close(injector) == 0, "close, with nothing left");
    check(c.netring_injector_flush(injector) == c.NETRING_EBADF, "a closed injector is refused");
}

const Xdp = struct { xdp: ?*c.struct_netring_xdp = null, queue: ?*c.struct_netring_queue = null };

/// AF_XDP sockets on all queues; what arrives there is taken away from the host.
fn openXdp(name: [*:0]const u8, out: *Xdp, detail: *c.struct_netring_error) c_int {
    var config: c.struct_netring_xdp_config = undefined;
    _ = c.netring_xdp_config_init(&config, @sizeOf(c.struct_netring_xdp_config));
    config.redirect = c.NETRING_REDIRECT_ALL;
    config.rx_frames = 256;
    config.tx_frames = 64;
    const rc = c.netring_xdp_open(name, null, 0, &config, &out.xdp, detail);
    return if (rc < 0) rc else c.netring_xdp_queue(out.xdp, 0, &out.queue);
}

/// Frames sent by one AF_XDP socket arrive at another, in order, by the inline walk.
fn afXdp(name: [*:0]const u8) void {
    const count = 200;
    var detail: c.struct_netring_error = undefined;
    var here = Xdp{};
    var there = Xdp{};
    const opened = openXdp(name, &here, &detail);
    if (opened == c.NETRING_EPERM) { // XDP programs are not for user namespaces
        _ = c.printf("ok - AF_XDP # SKIP %s\n", &detail.message);
        return;
    }
    if (opened < 0) return check(false, @ptrCast(&detail.message));
    if (openXdp("nr0", &there, &detail) < 0) return check(false, @ptrCast(&detail.message));

    var slots: [16]c.struct_netring_slot = undefined;
    var sent: u8 = 0;
    while (sent < count) {
        const n = c.netring_queue_reserve(there.queue, &slots, @sizeOf(c.struct_netring_slot), slots.len, 3000);
        if (n <= 0) return check(false, "reserve on a queue");
        for (slots[0..@intCast(n)]) |*slot| {
            slot.len = 0; // one that is too many is discarded
            if (sent == count) continue;
            const frame = slot.data[0..slot.capacity];
            @memset(frame[0..60], 0);
            frame[12] = 0x88;
            frame[13] = 0xb5;
            frame[14] = sent;
            slot.len = 60;
            sent += 1;
        }
        if (c.netring_queue_commit(there.queue, &slots, @sizeOf(c.struct_netring_slot), @intCast(n)) != n)
            return check(false, "commit on a queue");
        if (c.netring_queue_flush(there.queue) < 0) return check(false, "flush of a queue");
    }
    check(c.netring_queue_drain(there.queue, 3000) == 1, "200 frames have left by AF_XDP");

    var seen: u32 = 0;
    var walked: u64 = 0;
    var block: ?*c.struct_netring_block = null;
    while (seen < count and c.netring_queue_next_block(here.queue, 3000, &block) == 1) {
        var cursor: c.struct_netring_cursor = undefined;
        _ = c.netring_cursor_init(&cursor, block);
        while (c.netring_cursor_next(&cursor) == 1) {
            const data = c.netring_cursor_data(&cursor)[0..c.netring_cursor_caplen(&cursor)];
            walked += 1;
            if (data.len == 60 and data[12] == 0x88 and data[13] == 0xb5 and data[14] == seen) seen += 1;
        }
        _ = c.netring_block_release(block);
    }
    check(seen == count, "and arrive by AF_XDP, in order");
    var stats: c.struct_netring_stats = undefined;
    var rc = c.netring_queue_stats(here.queue, &stats, @sizeOf(c.struct_netring_stats));
    check(rc == 0 and stats.delivered == walked and stats.dropped == 0, "the queue's counters say the same");
    _ = c.netring_xdp_stop(here.xdp);
    rc = c.netring_queue_next_block(here.queue, 3000, &block);
    while (rc > 0) : (rc = c.netring_queue_next_block(here.queue, 3000, &block)) {
        _ = c.netring_block_release(block);
    }
    check(rc == c.NETRING_ESHUTDOWN, "AF_XDP ended by stop");
    check(c.netring_xdp_close(here.xdp) == 0 and c.netring_xdp_close(there.xdp) == 0, "AF_XDP closed");
    check(c.netring_queue_flush(here.queue) == c.NETRING_EBADF, "a closed xdp's queue is refused");
}

pub export fn main(argc: c_int, argv: [*][*:0]const u8) c_int {
    if (argc == 2 and c.strcmp(argv[1], "denied") == 0) {
        refused("lo", null, c.NETRING_EPERM, "CAP_NET_RAW");
    } else {
        refused("nosuch0", null, c.NETRING_ENODEV, "nosuch0");
        var config: c.struct_netring_capture_config = undefined;
        _ = c.netring_capture_config_init(&config, @sizeOf(c.struct_netring_capture_config));
        config.block_count = 70000;
        refused("lo", &config, c.NETRING_EINVAL, "block_count");
        array();
        receive(argv[1], argv[2]);
        savefile();
        inject(argv[1]);
        afXdp(argv[1]);
    }
    _ = c.fflush(null);
    return @intFromBool(failures != 0);
}
