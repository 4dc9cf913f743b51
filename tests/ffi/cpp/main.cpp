// A capture over veth from C++, and the errors it gets. Arguments: interface, address that is
// reached through it, or "denied" where capturing is not allowed.
#include <arpa/inet.h>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <utility>

#include <netring.hpp>

static int failures;

static void check(bool pass, const std::string &what)
{
    std::printf("%s - %s\n", pass ? "ok" : "not ok", what.c_str());
    failures += pass ? 0 : 1;
}

static_assert(!std::is_copy_constructible<netring::block>::value, "a block has one owner");
static_assert(!std::is_copy_constructible<netring::capture>::value, "a capture has one owner");
static_assert(std::is_nothrow_move_constructible<netring::block>::value, "moving is free");
static_assert(sizeof(netring::block) == sizeof(void *), "nothing but the handle");

template <class Call> static void fails(int code, const std::string &text, Call call)
{
    try {
        call();
        check(false, text + ": no error");
    } catch (const netring::error &e) {
        std::printf("# %s, errno %d, %s: %s\n", e.name(), e.os_errno(), e.option(), e.what());
        check(e.code() == code && std::strstr(e.what(), text.c_str()) != nullptr,
              std::string(e.name()) + " about " + text);
    }
}

static void send_datagrams(const char *address, int count)
{
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {};

    to.sin_family = AF_INET;
    to.sin_port = htons(9);
    inet_pton(AF_INET, address, &to.sin_addr);
    for (int i = 0; i < count; i++) {
        const std::string text = "netring " + std::to_string(i);
        const void *const where = &to;
        if (sendto(fd, text.data(), text.size(), 0, static_cast<const struct sockaddr *>(where),
                   sizeof to) < 0)
            std::perror("sendto");
    }
    close(fd);
}

// The payload of a UDP datagram to port 9, "" of anything else.
static std::string payload(const netring::packet &p)
{
    const std::uint8_t *d = p.data();
    if (p.protocol() != 0x0800 || p.caplen() < 42 || d[23] != 17 || d[36] != 0 || d[37] != 9)
        return std::string();
    return std::string(p.begin() + 42, p.end());
}

static void receive(const char *interface, const char *address)
{
    const int count = 500;
    int seen = 0, packets = 0;
    bool in_order = true, same = true;
    netring::config config(NETRING_PROFILE_LOW_MEMORY);
    config.snap_length = 50;
    netring::capture capture(interface, config);
    netring::block block, kept;

    check(capture.next_block(block, 0) == netring::wait::timeout && !block, "nothing yet");
    send_datagrams(address, count);
    netring::wait how;
    bool stopping = false;
    while ((how = capture.next_block(block, 3000)) != netring::wait::stopped) {
        for (const netring::packet &p : block) {
            const std::string text = payload(p);
            const struct netring_packet fields = p.fields();
            packets++;
            same = same && fields.data == p.data() && fields.caplen == p.caplen() &&
                   fields.len == p.len() && fields.time_ns == p.time_ns() &&
                   fields.status == p.status() && fields.cookie == p.cookie() &&
                   fields.segments == p.segments() && fields.queue == p.queue() && p.caplen() <= 50;
            const std::vector<struct netring_segment> pieces = block.segments(p);
            same = same && pieces.size() == 1 && pieces[0].data == p.data() &&
                   pieces[0].len == p.caplen();
            if (text.empty())
                continue;
            in_order = in_order && text == ("netring " + std::to_string(seen)).substr(0, 8);
            in_order =
                in_order && p.direction() == NETRING_DIRECTION_HOST && p.truncated() && !p.vlan();
            seen++;
        }
        if (block)
            kept = block.share();
        /* All there, or no more to come: what is open then comes before the end. */
        if (!stopping && (seen >= count || how == netring::wait::timeout)) {
            std::thread([&capture] { capture.stop(); }).join();
            stopping = true;
        }
    }
    check(how == netring::wait::stopped, "stopped from another thread");
    check(seen == count, std::to_string(seen) + " of " + std::to_string(count) + " datagrams");
    check(in_order, "as they were sent, cut at 50 bytes");
    check(same, "accessors agree with the whole packet");
    const struct netring_stats stats = capture.stats();
    check(stats.delivered == static_cast<std::uint64_t>(packets) && stats.dropped == 0,
          "the counters say the same");
    check(capture.info().snap_length == 50 && capture.fd() >= 0, "info and fd");

    // A block outlives its capture; a capture can be moved.
    netring::capture other(std::move(capture));
    const struct netring_block_info info = kept.info();
    {
        netring::capture gone(std::move(other));
    }
    unsigned again = 0;
    for (const netring::packet &p : kept)
        again += p.caplen() > 0;
    check(again == info.count, "a kept block stays readable after the capture is closed");
    struct netring_block *const handle = kept.get();
    kept.reset();
    check(!kept && kept.begin() == kept.end(), "a block given back is empty");
    fails(NETRING_EBADF, "", [handle] { netring::packet_iterator begin(handle); });
    fails(NETRING_EBADF, "", [&other] { other.flush(); });
}

static void check_link()
{
    netring::capture capture("lo", netring::config(NETRING_PROFILE_LOW_MEMORY));
    struct netring_event event;

    check(!capture.next_event(event), "no event");
    capture.rebind("lo");
    capture.rebind();
    fails(NETRING_ENODEV, "2147418112", [&capture] { capture.rebind_index(0x7fff0000); });
}

// What was captured comes out of a savefile as it was; read again, written again, read again.
static void savefiles(const char *interface, const char *address, std::uint32_t format)
{
    const std::string path = std::string("/tmp/netring-cpp-") + std::to_string(getpid());
    netring::writer writer(path, netring::writer_config(format));
    netring::block block;
    std::string sent, read, copied;
    int written = 0;

    {
        netring::capture capture(interface, netring::config(NETRING_PROFILE_LOW_MEMORY));
        const std::uint32_t id = writer.add(capture);

        send_datagrams(address, 20);
        for (int seen = 0; seen < 20 && capture.next_block(block, 3000) == netring::wait::block;) {
            written += writer.write(id, block);
            for (const netring::packet &p : block) {
                const std::string text = payload(p);
                sent += text + "\n";
                seen += !text.empty();
            }
        }
        block.reset();
        check(writer.statistics(id, capture.stats()) == (format == NETRING_SAVEFILE_PCAPNG),
              "statistics, where the format has them");
    }
    writer.sync();
    check(writer.path() == path && written >= 20 &&
              writer.info().packets == static_cast<std::uint64_t>(written),
          std::to_string(written) + " packets are written");
    fails(NETRING_EINVAL, "interface 9", [&writer] {
        const struct netring_packet packet = {};
        writer.write(9, &packet, 1);
    });
    netring::writer moved(std::move(writer));
    moved.close();
    moved.close(); // of nothing
    fails(NETRING_EBADF, "", [&moved] { moved.sync(); });

    netring::reader reader(path);
    int pipe_fds[2];
    if (pipe(pipe_fds) != 0)
        std::perror("pipe");
    netring::writer copy = netring::writer::descriptor(pipe_fds[1]);
    close(pipe_fds[1]);
    const std::uint32_t id = copy.add("copy", NETRING_LINKTYPE_ETHERNET);
    while (reader.next_block(block) == netring::wait::block) {
        for (const netring::packet &p : block) {
            const struct netring_packet fields = p.fields();
            read += payload(p) + "\n";
            copy.write(id, &fields, 1);
        }
    }
    check(copy.path().empty(), "a descriptor has no path");
    copy.close();
    check(!sent.empty() && read == sent, "the reader reads what was captured");
    check(reader.stats().delivered == static_cast<std::uint64_t>(written) && reader.fd() >= 0 &&
              reader.info().format == format && reader.interface(0).link_type == 1,
          "and tells about it");
    fails(NETRING_EINVAL, "interface 1", [&reader] { reader.interface(1); });

    netring::filter nothing = netring::filter::ddd("1\n6 0 0 0\n");
    netring::reader_config config;
    config.filter = nothing.get();
    netring::reader none(path, config);
    check(none.next_block(block) == netring::wait::stopped && !block, "a filter");

    netring::reader piped = netring::reader::descriptor(pipe_fds[0]);
    close(pipe_fds[0]);
    while (piped.next_block(block) == netring::wait::block)
        for (const netring::packet &p : block)
            copied += payload(p) + "\n";
    check(copied == sent, "through a pipe");
    check(std::string(piped.interface(0).name) == "copy", "with its name");
    unlink(path.c_str());
}

// Two members, in turn.
static void fanout(const char *interface, const char *address)
{
    netring::group_config config(NETRING_FANOUT_LB);
    netring::config small(NETRING_PROFILE_LOW_MEMORY);

    config.members = 2;
    netring::group group(config);
    netring::capture one = group.join(interface, small);
    check((group.info().state & NETRING_GROUP_DELIVERING) == 0, "a group that waits for members");
    netring::capture other = group.join(interface, small);
    check((group.info().state & NETRING_GROUP_DELIVERING) != 0 && group.info().joined == 2,
          "a group that has them");
    fails(NETRING_EINVAL, "2 members", [&group, interface] { group.join(interface); });
    send_datagrams(address, 20);
    // Whatever else is on the wire, they take turns.
    std::uint64_t seen[2] = {0, 0};
    for (int i = 0; i < 200 && seen[0] + seen[1] < 20; i++) {
        usleep(10000);
        seen[0] = one.stats().seen;
        seen[1] = other.stats().seen;
    }
    check(seen[0] + seen[1] >= 20 && seen[0] <= seen[1] + 1 && seen[1] <= seen[0] + 1,
          "they share what comes");
    check(group.stats().members == 2 && group.stats(one).members == 1 && group.stats().valid == 0,
          "and count");
    netring::group moved(std::move(group));
    {
        netring::capture leaves(std::move(other));
    }
    check(moved.info().joined == 1 && moved.get() != nullptr, "one that leaves");
    fails(NETRING_EINVAL, "no fanout mode", [] { netring::group g(netring::group_config(99)); });
}

// Frames written in place on one end come in at the other, those by copy behind them.
static void inject(const char *interface)
{
    static_assert(!std::is_copy_constructible<netring::injector>::value,
                  "an injector has one owner");
    static_assert(std::is_nothrow_move_constructible<netring::slots>::value, "moving is free");
    netring::capture capture(interface, netring::config(NETRING_PROFILE_LOW_MEMORY));
    netring::injector_config config;
    config.slot_count = 64;
    netring::injector opened("nr0", config), injector(std::move(opened));
    netring::slots slots(7);
    const unsigned count = 100;
    unsigned sent = 0, seen = 0;

    while (sent < count && injector.reserve(slots, 3000) == netring::wait::ready) {
        for (struct netring_slot &slot : slots) {
            if (sent == count)
                break; // the rest is discarded
            std::memset(slot.data, 0, 60);
            slot.data[12] = 0x88;
            slot.data[13] = 0xb5;
            slot.data[14] = static_cast<std::uint8_t>(sent++);
            slot.len = 60;
        }
        slots.commit();
        injector.flush();
    }
    check(injector.drain(3000) == netring::wait::ready, "all of them have left");

    // One that is too large: it alone is given back.
    check(injector.reserve(slots, 3000) == netring::wait::ready && slots.size() > 1, "slots");
    const std::uint64_t cookie = slots[0].cookie;
    slots[0].len = 1515;
    std::memset(slots[1].data, 0, 60);
    slots[1].data[12] = 0x88;
    slots[1].data[13] = 0xb5;
    slots[1].data[14] = count;
    slots[1].len = 60;
    fails(NETRING_EMSGSIZE, "MTU 1500", [&slots] { slots.commit(); });
    check(slots.size() > 1 && slots[0].cookie == cookie, "it is the first that is left");
    slots[0].len = 0;
    netring::slots moved(std::move(slots));
    moved.commit(2);
    moved = netring::slots(1); // and the rest is discarded
    check(slots.empty() && injector.stats().open == 0, "no slot is left open");

    std::uint8_t bytes[60] = {};
    bytes[12] = 0x88;
    bytes[13] = 0xb5;
    bytes[14] = count + 1;
    check(injector.send(bytes, sizeof bytes), "one by copy");
    struct netring_frame frames[2] = {};
    frames[0].data = frames[1].data = bytes;
    frames[0].len = frames[1].len = sizeof bytes;
    check(injector.send(frames, 2) == 2 && injector.drain(3000) == netring::wait::ready, "two");
    const struct netring_injector_stats stats = injector.stats();
    check(stats.handed == count + 4 && stats.refused == 0 &&
              stats.reserved == stats.committed + stats.discarded,
          "the counters say so");

    netring::block block;
    bool in_order = true;
    while (seen < count + 4 && capture.next_block(block, 3000) == netring::wait::block)
        for (const netring::packet &p : block)
            if (p.caplen() == 60 && p.data()[12] == 0x88 && p.data()[13] == 0xb5) {
                in_order = in_order && p.data()[14] == (seen > count + 1 ? count + 1 : seen);
                seen++;
            }
    check(seen == count + 4 && in_order, std::to_string(seen) + " arrive, in order");

    // What has come in goes on: the datagrams by the other end, where another capture sees them.
    netring::capture other("nr0", netring::config(NETRING_PROFILE_LOW_MEMORY));
    netring::injector back(interface);
    unsigned forwarded = 0, returned = 0;
    for (const netring::packet &p : block)
        if (p.caplen() == 60 && p.data()[12] == 0x88 && p.data()[13] == 0xb5)
            forwarded += back.send(block, p);
    check(back.drain(3000) == netring::wait::ready && forwarded > 0, "received packets are sent");
    while (returned < forwarded && other.next_block(block, 3000) == netring::wait::block)
        for (const netring::packet &p : block)
            returned += p.caplen() == 60 && p.data()[12] == 0x88 && p.data()[13] == 0xb5 &&
                        p.direction() != NETRING_DIRECTION_OUTGOING;
    check(returned == forwarded, std::to_string(returned) + " come back");

    struct netring_result result;
    check(injector.results(&result, 1) == 0, "nothing was refused");
    struct netring_timestamp stamp;
    fails(NETRING_EINVAL, "opened without", [&] { injector.timestamps(&stamp, 1); });
    check(injector.info().mtu == 1500 && injector.fd() >= 0, "info and fd");
    injector.wakeup();
    check(injector.drain(3000) == netring::wait::woken || injector.drain(0) == netring::wait::ready,
          "a wakeup");
    injector.stop();
    check(injector.reserve(moved, 3000) == netring::wait::stopped, "a stop");
    check(injector.close() == 0 && injector.close() == 0, "closed, and again");
    fails(NETRING_EBADF, "", [&injector] { injector.flush(); });
    fails(NETRING_ENODEV, "nosuch0", [] { netring::injector i("nosuch0"); });
    fails(NETRING_EINVAL, "slot_count", [] {
        netring::injector_config wrong;
        wrong.slot_count = 1u << 31;
        netring::injector i("lo", wrong);
    });
}

// nr0 and nr1 are two ends of one wire, so nothing may cross.
static void bridged(const char *interface)
{
    static_assert(!std::is_copy_constructible<netring::bridge>::value, "a bridge has one owner");
    netring::bridge_config config;
    config.batch = 4;
    netring::bridge opened("nr0", interface, config), bridge(std::move(opened));
    netring::injector injector(interface);
    std::atomic<bool> over(false);
    std::thread sender([&injector, &over] {
        std::uint8_t bytes[60] = {};
        bytes[12] = 0x88;
        bytes[13] = 0xb5;
        while (!over) {
            injector.send(bytes, sizeof bytes);
            usleep(5000);
        }
    });
    unsigned seen = 0;
    const bool ended = bridge.run(
        NETRING_BRIDGE_A_TO_B, [&seen](std::uint32_t direction, struct netring_packet *packets,
                                       std::uint8_t *verdicts, std::size_t count) {
            for (std::size_t i = 0; i < count; i++, seen++)
                verdicts[i] = packets[i].caplen >= 60 && direction == NETRING_BRIDGE_A_TO_B
                                  ? NETRING_VERDICT_DROP
                                  : 99;
            return seen < 3;
        });
    check(ended && seen >= 3, "a callback that ends the run");
    const struct netring_bridge_stats stats = bridge.stats(NETRING_BRIDGE_A_TO_B);
    check(stats.received == seen && stats.dropped == seen && stats.forwarded == 0,
          "what it dropped is counted");
    fails(NETRING_EWAKEUP, "", [&bridge] {
        bridge.run(NETRING_BRIDGE_A_TO_B,
                   [](std::uint32_t, struct netring_packet *, std::uint8_t *verdicts,
                      std::size_t count) -> bool {
                       std::memset(verdicts, NETRING_VERDICT_DROP, count);
                       throw netring::error(NETRING_EWAKEUP);
                   });
    });
    over = true;
    sender.join();
    check(bridge.info().batch == 4, "info");
    bridge.stop();
    bridge.run();
    check(true, "a stop is no error");
    fails(NETRING_EINVAL, "directions 4", [&bridge] { bridge.run(4); });
    fails(NETRING_ENODEV, "nosuch0", [] { netring::bridge b("lo", "nosuch0"); });
}

// What is sent at one end is taken away from the host at the other, and comes back without a copy.
static void xdp(const char *interface)
{
    static_assert(!std::is_copy_constructible<netring::xdp>::value, "an xdp has one owner");
    static_assert(std::is_copy_constructible<netring::queue>::value, "a queue is the xdp's");
    netring::xdp_config config(NETRING_REDIRECT_ALL);
    config.frame_size = 2048;
    config.rx_frames = 256;
    config.tx_frames = 64;
    netring::umem_config memory;
    memory.frame_size = 2048;
    memory.frame_count = 1024;
    netring::umem shared(memory);
    config.umem = shared.get();
    try {
        netring::xdp(interface, config).close();
    } catch (const netring::error &e) {
        if (e.code() != NETRING_EPERM)
            throw;
        std::printf("ok - AF_XDP # SKIP %s\n",
                    e.what()); // XDP programs are not for user namespaces
        return;
    }
    netring::xdp opened(interface, config, {0}), there(std::move(opened));
    config.mode = NETRING_MODE_COPY;
    netring::xdp here("nr0", config);
    netring::queue to = here.queue(0), from = there.queue(0);
    netring::slots slots(7);
    netring::block block;
    const unsigned count = 100;
    unsigned sent = 0, seen = 0, returned = 0;

    check(there.info().queue_count == 1 &&
              there.missing().size() == there.info().interface_queues - 1,
          "one queue, the others are named");
    check(!there.steps().empty() && there.steps()[0].mode == NETRING_MODE_ZEROCOPY,
          "why it is not zero-copy");
    while (sent < count && to.reserve(slots, 3000) == netring::wait::ready) {
        for (struct netring_slot &slot : slots) {
            if (sent == count)
                break; // the rest is discarded
            std::memset(slot.data, 0, 60);
            slot.data[12] = 0x88;
            slot.data[13] = 0xb5;
            slot.data[14] = static_cast<std::uint8_t>(sent++);
            slot.len = 60;
        }
        slots.commit();
        to.flush();
    }
    check(to.drain(3000) == netring::wait::ready, "all of them have left");
    bool in_order = true;
    while (seen < count && from.next_block(block, 3000) == netring::wait::block) {
        for (const netring::packet &p : block) {
            if (p.caplen() != 60 || p.data()[12] != 0x88 || p.data()[13] != 0xb5)
                continue;
            in_order = in_order && p.data()[14] == seen && p.fields().queue == 0;
            seen++;
            p.data()[15] = 1;
            in_order = in_order && from.forward(block, p);
        }
        from.flush();
    }
    check(seen == count && in_order, std::to_string(seen) + " arrive, in order");
    block.reset();
    while (returned < count && to.next_block(block, 3000) == netring::wait::block)
        for (const netring::packet &p : block)
            returned += p.caplen() == 60 && p.data()[14] == returned && p.data()[15] == 1;
    check(returned == count, std::to_string(returned) + " come back, without a copy");
    returned = 0; // block has the last of them: back once more, by copy
    for (const netring::packet &p : block)
        returned += to.send(block, p, 3000);
    check(returned > 0 && to.drain(3000) == netring::wait::ready, "received packets are sent");
    block.reset();
    while (returned > 0 && from.next_block(block, 3000) == netring::wait::block)
        for (const netring::packet &p : block)
            returned -= p.caplen() == 60 && p.data()[15] == 1;
    check(returned == 0, "and arrive");
    block.reset();
    check(from.drain(3000) == netring::wait::ready && there.counters().forwarded >= count &&
              to.transmit_stats().handed >= count && here.stats().dropped == 0,
          "the counters say so");
    slots = netring::slots(1);
    check(to.reserve(slots, 3000) == netring::wait::ready, "a slot");
    slots[0].len = 60000;
    fails(NETRING_EMSGSIZE, "", [&slots] { slots.commit(); });
    slots.discard();
    there.set_redirect(NETRING_REDIRECT_NONE);
    there.detach();
    from.wakeup();
    check(from.next_block(block, 3000) == netring::wait::woken, "a wakeup");
    there.stop();
    check(from.next_block(block, 3000) == netring::wait::stopped, "a stop");
    check(shared.info().frame_count == 1024, "the memory");
    struct netring_timestamp stamp;
    fails(NETRING_EINVAL, "opened without", [&] { from.timestamps(&stamp, 1); });
    there.close();
    fails(NETRING_EBADF, "", [&from] { from.flush(); });
    fails(NETRING_EINVAL, "redirect", [] { netring::xdp x("lo", netring::xdp_config(0)); });
    fails(NETRING_ENODEV, "nosuch0",
          [] { netring::xdp x("nosuch0", netring::xdp_config(NETRING_REDIRECT_NONE)); });
}

int main(int argc, char **argv)
{
    if (argc == 2 && std::strcmp(argv[1], "denied") == 0) {
        fails(NETRING_EPERM, "CAP_NET_RAW", [] { netring::capture c("lo"); });
        fails(NETRING_EPERM, "CAP_NET_RAW", [] { netring::injector i("lo"); });
        return failures != 0;
    }
    if (argc != 3)
        return 2;
    fails(NETRING_ENODEV, "nosuch0", [] { netring::capture c("nosuch0"); });
    fails(NETRING_EINVAL, "block_count", [] {
        netring::config config;
        config.block_count = 70000;
        netring::capture c("lo", config);
    });
    fails(NETRING_EFILTER, "", [] { netring::filter::ddd("1\n255 0 0 0\n"); });
    fails(NETRING_EFILTER, "byte 5", [] { netring::filter::expression("host nosuch"); });
    fails(NETRING_EINVAL, "0x80000000", [] { netring::filter::expression("ip", 0x80000000); });
    fails(NETRING_EINVAL, "", [] { netring::config config(999); });
    receive(argv[1], argv[2]);
    check_link();
    fanout(argv[1], argv[2]);
    fails(NETRING_EIO, "/nosuch/x", [] { netring::writer w("/nosuch/x"); });
    fails(NETRING_EIO, "/nosuch/x", [] { netring::reader r("/nosuch/x"); });
    fails(NETRING_EINVAL, "fd -1", [] { netring::writer::descriptor(-1); });
    savefiles(argv[1], argv[2], NETRING_SAVEFILE_PCAP);
    savefiles(argv[1], argv[2], NETRING_SAVEFILE_PCAPNG);
    inject(argv[1]);
    bridged(argv[1]);
    xdp(argv[1]);
    return failures != 0;
}
