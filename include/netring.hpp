// SPDX-License-Identifier: MIT OR Apache-2.0
//
// netring.hpp: netring.h for C++11 and later. Header only; nothing to link but libnetring.
//
//     netring::capture capture("eth0");
//     netring::block block;
//     while (capture.next_block(block) != netring::wait::stopped)
//         for (const netring::packet &packet : block)
//             use(packet.data(), packet.caplen());
//
// What it adds to C: captures are closed and blocks released by their destructors, failures are
// exceptions of type netring::error, and range-for walks a block. What it costs: nothing per
// packet; the loop above is the inline walk of netring_inline.h, no call, no allocation.
//
// Objects are movable, not copyable. Units, validity and the threads that may call are those of the
// functions of netring.h named beside each member. get() hands out the handle for whatever is not
// wrapped here.
#ifndef NETRING_HPP
#define NETRING_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iterator>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "netring.h"
#include "netring_inline.h"

#if defined(__cplusplus) && __cplusplus >= 202002L && defined(__has_include)
#if __has_include(<span>)
#include <span>
#endif
#endif

namespace netring
{

// A failed call: the code, the kernel's reason, the step or field, and what to do about it.
class error : public std::exception
{
  public:
    explicit error(const struct netring_error &detail) noexcept : detail_(detail)
    {
        terminate_text();
    }

    // A code alone, with its standard text.
    explicit error(int code, int os_errno = 0) noexcept
    {
        std::memset(&detail_, 0, sizeof detail_);
        detail_.code = code;
        detail_.os_errno = os_errno;
        std::strncpy(detail_.message, netring_strerror(code), sizeof detail_.message - 1);
    }

    const char *what() const noexcept override
    {
        return detail_.message;
    }
    const char *message() const noexcept
    {
        return detail_.message;
    }
    const char *option() const noexcept
    {
        return detail_.option;
    }
    const char *name() const noexcept
    {
        return netring_err_name(detail_.code);
    }
    int code() const noexcept
    {
        return detail_.code;
    } // NETRING_E...
    int os_errno() const noexcept
    {
        return detail_.os_errno;
    }

  private:
    void terminate_text() noexcept
    {
        detail_.option[sizeof detail_.option - 1] = '\0';
        detail_.message[sizeof detail_.message - 1] = '\0';
    }

    struct netring_error detail_;
};

// A classic BPF program, an expression, or an eBPF program. A capture keeps its own copy: it may go
// once the capture is open.
class filter
{
  public:
    filter(const struct sock_filter *program, std::size_t count)
    {
        struct netring_error detail;
        if (netring_filter_new(program, count, &handle_, &detail) < 0)
            throw error(detail);
    }

    // The text that tcpdump -ddd prints.
    static filter ddd(const std::string &text)
    {
        struct netring_error detail;
        struct netring_filter *handle = nullptr;
        if (netring_filter_new_ddd(text.data(), text.size(), &handle, &detail) < 0)
            throw error(detail);
        return filter(handle);
    }

    // An eBPF program of type BPF_PROG_TYPE_SOCKET_FILTER; its descriptor stays the caller's.
    static filter ebpf(int prog_fd)
    {
        struct netring_error detail;
        struct netring_filter *handle = nullptr;
        if (netring_filter_new_ebpf(prog_fd, &handle, &detail) < 0)
            throw error(detail);
        return filter(handle);
    }

    // "tcp port 443 and not host 10.0.0.1", compiled by libpcap; flags: NETRING_FILTER_...
    static filter expression(const std::string &text, std::uint64_t flags = 0,
                             std::uint32_t netmask = 0)
    {
        struct netring_filter_config config = NETRING_FILTER_CONFIG_INIT;
        struct netring_error detail;
        struct netring_filter *handle = nullptr;
        config.flags = flags;
        config.netmask = netmask;
        if (netring_filter_compile(text.data(), text.size(), &config, &handle, &detail) < 0)
            throw error(detail);
        return filter(handle);
    }

    filter(filter &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    filter &operator=(filter &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    filter(const filter &) = delete;
    filter &operator=(const filter &) = delete;
    ~filter()
    {
        static_cast<void>(netring_filter_free(handle_));
    }

    struct netring_filter *get() const noexcept
    {
        return handle_;
    }

  private:
    explicit filter(struct netring_filter *handle) noexcept : handle_(handle)
    {
    }

    struct netring_filter *handle_ = nullptr;
};

// The fields of struct netring_capture_config, set to a profile's values; assign what differs:
//
//     netring::config config(NETRING_PROFILE_LOW_LATENCY);
//     config.snap_length = 128;
//     config.flags |= NETRING_CAPTURE_PROMISCUOUS;
struct config : netring_capture_config {
    explicit config(std::uint32_t profile = NETRING_PROFILE_DEFAULT)
    {
        netring_capture_config *const fields = this;
        int code = netring_capture_config_init(fields, sizeof *fields);
        if (code >= 0)
            code = netring_capture_config_profile(fields, profile);
        if (code < 0)
            throw error(code);
    }
};

// The VLAN tag that the kernel took out of a frame. A tag of 0 is a valid priority tag.
struct vlan_tag {
    std::uint16_t tci, tpid;
    bool valid, dei;

    explicit operator bool() const noexcept
    {
        return valid;
    }
    std::uint16_t id() const noexcept
    {
        return tci & 0xfff;
    }
    std::uint8_t priority() const noexcept
    {
        return static_cast<std::uint8_t>(tci >> 13);
    }
};

// One packet of a block, looked at where the kernel put it; of AF_XDP, where the library has it.
// Refers to its block: gone with it.
class packet
{
  public:
    // caplen() bytes, the link-layer header first; writable. Of a packet in several pieces the
    // first one: block::segments.
    std::uint8_t *data() const noexcept
    {
        return netring_cursor_data(&cursor_);
    }
    std::uint32_t caplen() const noexcept
    {
        return netring_cursor_caplen(&cursor_);
    }
    std::uint8_t *begin() const noexcept
    {
        return data();
    }
    std::uint8_t *end() const noexcept
    {
        return data() + caplen();
    }
#ifdef __cpp_lib_span
    std::span<std::uint8_t> bytes() const noexcept
    {
        return {data(), caplen()};
    }
#endif
    // Bytes on the wire; more than caplen() where it was cut, or is in several pieces.
    std::uint32_t len() const noexcept
    {
        return netring_cursor_len(&cursor_);
    }
    bool truncated() const noexcept
    {
        return (status() & NETRING_PACKET_TRUNCATED) != 0;
    }
    // How many pieces there are behind the first.
    std::uint8_t segments() const noexcept
    {
        return netring_cursor_segments(&cursor_);
    }

    std::uint64_t time_ns() const noexcept
    {
        return netring_cursor_time_ns(&cursor_);
    }
    std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>
    time() const noexcept
    {
        return std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>(
            std::chrono::nanoseconds(static_cast<std::chrono::nanoseconds::rep>(time_ns())));
    }

    vlan_tag vlan() const noexcept
    {
        vlan_tag tag = {0, 0, false, false};
        tag.valid = netring_cursor_vlan(&cursor_, &tag.tci, &tag.tpid) != 0;
        tag.dei = (tag.tci & 0x1000) != 0;
        return tag;
    }
    std::uint8_t direction() const noexcept
    {
        return netring_cursor_direction(&cursor_);
    }
    std::uint16_t protocol() const noexcept
    {
        return netring_cursor_protocol(&cursor_);
    }
    std::uint32_t ifindex() const noexcept
    {
        return netring_cursor_ifindex(&cursor_);
    }
    std::uint32_t rxhash() const noexcept
    {
        return netring_cursor_rxhash(&cursor_);
    }
    std::uint32_t status() const noexcept
    {
        return netring_cursor_status(&cursor_);
    }
    // The receive queue, of AF_XDP.
    std::uint16_t queue() const noexcept
    {
        return netring_cursor_queue(&cursor_);
    }
    // Names the packet to what takes a block and a cookie.
    std::uint64_t cookie() const noexcept
    {
        return netring_cursor_cookie(&cursor_);
    }

    // All of it as C has it.
    struct netring_packet fields() const noexcept
    {
        struct netring_packet all;
        netring_cursor_packet(&cursor_, &all);
        return all;
    }

  private:
    friend class packet_iterator;

    packet() noexcept
    {
        std::memset(&cursor_, 0, sizeof cursor_);
    }

    struct netring_cursor cursor_;
};

// Walks a block. A single-pass iterator: the packet that * gives is replaced by ++.
class packet_iterator
{
  public:
    using iterator_category = std::input_iterator_tag;
    using value_type = packet;
    using difference_type = std::ptrdiff_t;
    using pointer = const packet *;
    using reference = const packet &;

    packet_iterator() noexcept : more_(0)
    {
    } // the end

    explicit packet_iterator(struct netring_block *block)
    {
        const int code = netring_cursor_init(&packet_.cursor_, block);
        if (code < 0)
            throw error(code);
        step();
    }

    reference operator*() const noexcept
    {
        return packet_;
    }
    pointer operator->() const noexcept
    {
        return &packet_;
    }
    // NETRING_EIO where a damaged record ends the walk before the end of the block.
    packet_iterator &operator++()
    {
        step();
        return *this;
    }
    void operator++(int)
    {
        step();
    }

    friend bool operator==(const packet_iterator &a, const packet_iterator &b) noexcept
    {
        return a.more_ == b.more_; // only ever compared with the end
    }
    friend bool operator!=(const packet_iterator &a, const packet_iterator &b) noexcept
    {
        return a.more_ != b.more_;
    }

  private:
    void step()
    {
        more_ = netring_cursor_next(&packet_.cursor_);
        if (more_ == 0 && netring_cursor_damaged(&packet_.cursor_))
            throw error(NETRING_EIO);
    }

    packet packet_;
    std::intptr_t more_; // 0 or 1; as wide as what is before it
};

// Packets received together; back to the kernel when it goes. May outlive its capture, may be moved
// to another thread.
class block
{
  public:
    block() noexcept = default;
    // Takes the handle over.
    explicit block(struct netring_block *handle) noexcept : handle_(handle)
    {
    }
    block(block &&other) noexcept : handle_(other.detach())
    {
    }
    block &operator=(block &&other) noexcept
    {
        if (this != &other) {
            reset();
            handle_ = other.detach();
        }
        return *this;
    }
    block(const block &) = delete;
    block &operator=(const block &) = delete;
    ~block()
    {
        reset();
    }

    explicit operator bool() const noexcept
    {
        return handle_ != nullptr;
    }
    struct netring_block *get() const noexcept
    {
        return handle_;
    }

    // netring_block_release
    void reset() noexcept
    {
        static_cast<void>(netring_block_release(detach()));
    }

    // Gives the handle away: the caller releases it.
    struct netring_block *detach() noexcept
    {
        struct netring_block *const handle = handle_;
        handle_ = nullptr;
        return handle;
    }

    // netring_block_retain: a further user, who releases it on its own. The packets go back to the
    // kernel with the last one.
    block share() const
    {
        check(netring_block_retain(handle_, 1));
        return block(handle_);
    }

    struct netring_block_info info() const
    {
        struct netring_block_info out;
        check(netring_block_info(handle_, &out, sizeof out));
        return out;
    }

    // netring_block_segments: all pieces of a packet of this block, one for most.
    std::vector<struct netring_segment> segments(const packet &of) const
    {
        std::vector<struct netring_segment> pieces(of.segments() + std::size_t(1));
        check(netring_block_segments(handle_, of.cookie(), pieces.data(), sizeof pieces[0],
                                     pieces.size()));
        return pieces;
    }

    // Each begin() starts at the first packet. An empty block object has none.
    packet_iterator begin() const
    {
        return handle_ == nullptr ? packet_iterator() : packet_iterator(handle_);
    }
    packet_iterator end() const noexcept
    {
        return packet_iterator();
    }

  private:
    static void check(int code)
    {
        if (code < 0)
            throw error(code);
    }

    struct netring_block *handle_ = nullptr;
};

// How a wait ended.
enum class wait {
    block,        // there is a block
    timeout,      // there is none yet
    stopped,      // stop(), and everything received before it has been handed out; a savefile's end
    woken,        // wakeup()
    ready = block // of an injector or queue: there are slots, everything has left
};

class capture
{
  public:
    // netring_capture_open. "any" is every interface.
    explicit capture(const std::string &interface)
    {
        open(interface.c_str(), nullptr);
    }
    capture(const std::string &interface, const struct netring_capture_config &config)
    {
        open(interface.c_str(), &config);
    }
    capture(capture &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    capture &operator=(capture &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    capture(const capture &) = delete;
    capture &operator=(const capture &) = delete;
    ~capture()
    {
        static_cast<void>(netring_capture_close(handle_));
    }

    // Releases what `out` holds, then waits: milliseconds, 0 not at all, -1 for ever. Throws on
    // failures, such as NETRING_ENODEV when the interface is removed.
    wait next_block(block &out, int timeout_ms = -1)
    {
        struct netring_block *handle = nullptr;

        out.reset();
        const int code = netring_capture_next_block(handle_, timeout_ms, &handle);
        if (code > 0) {
            out = block(handle);
            return wait::block;
        }
        if (code == 0)
            return wait::timeout;
        if (code == NETRING_ESHUTDOWN)
            return wait::stopped;
        if (code == NETRING_EWAKEUP)
            return wait::woken;
        fail(code);
        return wait::timeout; // not reached
    }

    // The next link event; false after `timeout_ms`. Throws NETRING_ENODEV once the last was told.
    bool next_event(struct netring_event &out, int timeout_ms = 0)
    {
        return check(netring_capture_next_event(handle_, timeout_ms, &out, sizeof out)) > 0;
    }
    // Goes on with the next interface of the same name, or with one by name or by index, waiting
    // for it for so long. Throws NETRING_ENODEV where it did not come, NETRING_ESHUTDOWN after
    // stop().
    void rebind(int timeout_ms = -1)
    {
        rebind(nullptr, 0, timeout_ms);
    }
    void rebind(const std::string &interface, int timeout_ms = 0)
    {
        rebind(interface.c_str(), 0, timeout_ms);
    }
    void rebind_index(unsigned ifindex, int timeout_ms = 0)
    {
        rebind(nullptr, ifindex, timeout_ms);
    }

    // Goes on with another filter. Returns the number of the block from which on it holds; 0: at
    // once.
    std::uint64_t set_filter(const filter &with)
    {
        return set_filter(with.get());
    }
    // Every packet, as far as the configuration goes.
    std::uint64_t detach_filter()
    {
        return set_filter(nullptr);
    }
    // The filter stays as it is.
    void lock_filter()
    {
        struct netring_error detail;
        if (netring_capture_lock_filter(handle_, &detail) < 0)
            throw error(detail);
    }

    int fd() const
    {
        return check(netring_capture_fd(handle_));
    }
    // Ends every wait, now and later. Also from a signal handler, as is wakeup().
    void stop() const noexcept
    {
        static_cast<void>(netring_capture_stop(handle_));
    }
    void wakeup() const noexcept
    {
        static_cast<void>(netring_capture_wakeup(handle_));
    }
    void wakeup_clear() const
    {
        check(netring_capture_wakeup_clear(handle_));
    }
    void flush() const
    {
        check(netring_capture_flush(handle_));
    }

    struct netring_stats stats() const
    {
        struct netring_stats out;
        check(netring_capture_stats(handle_, &out, sizeof out));
        return out;
    }

    struct netring_capture_info info() const
    {
        struct netring_capture_info out;
        check(netring_capture_info(handle_, &out, sizeof out));
        return out;
    }

    struct netring_capture *get() const noexcept
    {
        return handle_;
    }

  private:
    void open(const char *interface, const struct netring_capture_config *config)
    {
        struct netring_error detail;
        if (netring_capture_open(interface, config, &handle_, &detail) < 0)
            throw error(detail);
    }

    std::uint64_t set_filter(struct netring_filter *with)
    {
        struct netring_error detail;
        std::uint64_t from = 0;
        if (netring_capture_set_filter(handle_, with, &from, &detail) < 0)
            throw error(detail);
        return from;
    }

    void rebind(const char *interface, unsigned ifindex, int timeout_ms)
    {
        struct netring_error detail;
        if (netring_capture_rebind(handle_, interface, ifindex, timeout_ms, &detail) < 0)
            throw error(detail);
    }

    int check(int code) const
    {
        if (code < 0)
            fail(code);
        return code;
    }

    // The story of the failure where the capture still knows it.
    void fail(int code) const
    {
        struct netring_error detail;
        if (netring_capture_last_error(handle_, &detail) >= 0 && detail.code == code)
            throw error(detail);
        throw error(code);
    }

    // A member of a group, which opens it.
    explicit capture(struct netring_capture *handle) noexcept : handle_(handle)
    {
    }

    friend class group;

    struct netring_capture *handle_ = nullptr;
};

// The fields of struct netring_group_config, set to the defaults; assign what differs.
struct group_config : netring_group_config {
    explicit group_config(std::uint32_t fanout_mode = NETRING_FANOUT_HASH)
    {
        netring_group_config *const fields = this;
        const int code = netring_group_config_init(fields, sizeof *fields);
        if (code < 0)
            throw error(code);
        mode = fanout_mode;
    }
};

// A fanout group: captures that share an interface's packets, and outlive it.
class group
{
  public:
    // netring_group_new.
    explicit group(const struct netring_group_config &config = group_config())
    {
        struct netring_error detail;
        if (netring_group_new(&config, &handle_, &detail) < 0)
            throw error(detail);
    }
    group(group &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    group &operator=(group &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    group(const group &) = delete;
    group &operator=(const group &) = delete;
    ~group()
    {
        static_cast<void>(netring_group_free(handle_));
    }

    // netring_group_join, on the thread that will read.
    capture join(const std::string &interface,
                 const struct netring_capture_config &config = netring::config())
    {
        struct netring_error detail;
        struct netring_capture *member = nullptr;
        if (netring_group_join(handle_, interface.c_str(), &config, &member, &detail) < 0)
            throw error(detail);
        return capture(member);
    }

    struct netring_group_info info() const
    {
        struct netring_group_info out;
        check(netring_group_info(handle_, &out, sizeof out));
        return out;
    }

    // Of all members, or of one.
    struct netring_group_stats stats() const
    {
        struct netring_group_stats out;
        check(netring_group_stats(handle_, nullptr, &out, sizeof out));
        return out;
    }
    struct netring_group_stats stats(const capture &member) const
    {
        struct netring_group_stats out;
        check(netring_group_stats(handle_, member.get(), &out, sizeof out));
        return out;
    }

    struct netring_group *get() const noexcept
    {
        return handle_;
    }

  private:
    static void check(int code)
    {
        if (code < 0)
            throw error(code);
    }

    struct netring_group *handle_ = nullptr;
};

// The fields of struct netring_writer_config, set to the defaults; assign what differs.
struct writer_config : netring_writer_config {
    explicit writer_config(std::uint32_t savefile_format = NETRING_SAVEFILE_PCAPNG)
    {
        netring_writer_config *const fields = this;
        const int code = netring_writer_config_init(fields, sizeof *fields);
        if (code < 0)
            throw error(code);
        format = savefile_format;
    }
};

// A savefile being written, or a series of them:
//
//     netring::writer writer("eth0.pcapng");
//     const std::uint32_t id = writer.add(capture);
//     while (capture.next_block(block) == netring::wait::block)
//         writer.write(id, block);
//     writer.statistics(id, capture.stats());
//     writer.close();
class writer
{
  public:
    // netring_writer_open
    explicit writer(const std::string &path)
    {
        open(path.c_str(), nullptr);
    }
    writer(const std::string &path, const struct netring_writer_config &config)
    {
        open(path.c_str(), &config);
    }
    // netring_writer_open_fd: `fd` stays the caller's.
    static writer descriptor(int fd, const struct netring_writer_config &config = writer_config())
    {
        struct netring_error detail;
        writer out;
        if (netring_writer_open_fd(fd, &config, &out.handle_, &detail) < 0)
            throw error(detail);
        return out;
    }
    writer(writer &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    writer &operator=(writer &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    writer(const writer &) = delete;
    writer &operator=(const writer &) = delete;
    // Says nothing of an end that could not be written: close() does.
    ~writer()
    {
        static_cast<void>(netring_writer_close(handle_, nullptr));
    }

    // netring_writer_close. The handle is gone, also where it throws.
    void close()
    {
        struct netring_error detail;
        struct netring_writer *const handle = handle_;
        handle_ = nullptr;
        if (netring_writer_close(handle, &detail) < 0)
            throw error(detail);
    }

    // netring_writer_add_capture, _add_interface: the interface's number.
    std::uint32_t add(const capture &from)
    {
        struct netring_error detail;
        const int number = netring_writer_add_capture(handle_, from.get(), &detail);
        if (number < 0)
            throw error(detail);
        return static_cast<std::uint32_t>(number);
    }
    std::uint32_t add(const std::string &name, std::uint32_t link_type,
                      std::uint32_t snap_length = 0)
    {
        struct netring_error detail;
        const int number =
            netring_writer_add_interface(handle_, name.c_str(), link_type, snap_length, &detail);
        if (number < 0)
            throw error(detail);
        return static_cast<std::uint32_t>(number);
    }

    // How many packets. After a failure the same call may be made again, for a block; for an array
    // info().last_written tells where to go on.
    int write(std::uint32_t interface, const block &packets)
    {
        return check(netring_writer_write_block(handle_, interface, packets.get()));
    }
    int write(std::uint32_t interface, const struct netring_packet *packets, std::size_t count)
    {
        return check(netring_writer_write(handle_, interface, packets, sizeof *packets, count));
    }

    // For the end of each file; false: the format has no place for them.
    bool statistics(std::uint32_t interface, const struct netring_stats &stats)
    {
        return check(netring_writer_statistics(handle_, interface, &stats, sizeof stats)) > 0;
    }
    void sync() const
    {
        check(netring_writer_sync(handle_));
    }
    struct netring_writer_info info() const
    {
        struct netring_writer_info out;
        check(netring_writer_info(handle_, &out, sizeof out));
        return out;
    }
    // Of the present file; empty for a descriptor.
    std::string path() const
    {
        std::string out(4096, '\0'); // PATH_MAX, with the NUL
        const int length = check(netring_writer_path(handle_, &out[0], out.size()));
        out.resize(std::min(static_cast<std::size_t>(length), out.size() - 1));
        return out;
    }

    struct netring_writer *get() const noexcept
    {
        return handle_;
    }

  private:
    writer() noexcept = default;

    void open(const char *path, const struct netring_writer_config *config)
    {
        struct netring_error detail;
        if (netring_writer_open(path, config, &handle_, &detail) < 0)
            throw error(detail);
    }

    int check(int code) const
    {
        struct netring_error detail;
        if (code >= 0)
            return code;
        if (netring_writer_last_error(handle_, &detail) >= 0 && detail.code == code)
            throw error(detail);
        throw error(code);
    }

    struct netring_writer *handle_ = nullptr;
};

// The fields of struct netring_reader_config, set to the defaults; assign what differs.
struct reader_config : netring_reader_config {
    reader_config()
    {
        netring_reader_config *const fields = this;
        const int code = netring_reader_config_init(fields, sizeof *fields);
        if (code < 0)
            throw error(code);
    }
};

// A savefile, as blocks of packets:
//
//     netring::reader reader("eth0.pcapng");
//     while (reader.next_block(block) == netring::wait::block)
//         for (const netring::packet &p : block)
//             use(p.data(), p.caplen());
class reader
{
  public:
    // netring_reader_open
    explicit reader(const std::string &path)
    {
        open(path.c_str(), nullptr);
    }
    reader(const std::string &path, const struct netring_reader_config &config)
    {
        open(path.c_str(), &config);
    }
    // netring_reader_open_fd: `fd` stays the caller's.
    static reader descriptor(int fd, const struct netring_reader_config &config = reader_config())
    {
        struct netring_error detail;
        reader out;
        if (netring_reader_open_fd(fd, &config, &out.handle_, &detail) < 0)
            throw error(detail);
        return out;
    }
    reader(reader &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    reader &operator=(reader &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    reader(const reader &) = delete;
    reader &operator=(const reader &) = delete;
    ~reader()
    {
        static_cast<void>(netring_reader_close(handle_));
    }

    // As capture::next_block; wait::stopped is the end of the file, too. Throws NETRING_EIO where
    // the file is damaged, after everything before that.
    wait next_block(block &out, int timeout_ms = -1)
    {
        struct netring_block *handle = nullptr;

        out.reset();
        const int code = netring_reader_next_block(handle_, timeout_ms, &handle);
        if (code > 0) {
            out = block(handle);
            return wait::block;
        }
        if (code == 0)
            return wait::timeout;
        if (code == NETRING_ESHUTDOWN)
            return wait::stopped;
        if (code == NETRING_EWAKEUP)
            return wait::woken;
        check(code);
        return wait::timeout; // not reached
    }

    int fd() const
    {
        return check(netring_reader_fd(handle_));
    }
    // Ends every wait, now and later. Also from a signal handler, as is wakeup().
    void stop() const noexcept
    {
        static_cast<void>(netring_reader_stop(handle_));
    }
    void wakeup() const noexcept
    {
        static_cast<void>(netring_reader_wakeup(handle_));
    }
    void wakeup_clear() const
    {
        check(netring_reader_wakeup_clear(handle_));
    }

    struct netring_stats stats() const
    {
        struct netring_stats out;
        check(netring_reader_stats(handle_, &out, sizeof out));
        return out;
    }
    struct netring_reader_info info() const
    {
        struct netring_reader_info out;
        check(netring_reader_info(handle_, &out, sizeof out));
        return out;
    }
    // By its number, 0 and up: of a packet's, ifindex() less 1.
    struct netring_reader_interface interface(std::uint32_t number) const
    {
        struct netring_reader_interface out;
        check(netring_reader_interface(handle_, number, &out, sizeof out));
        return out;
    }

    struct netring_reader *get() const noexcept
    {
        return handle_;
    }

  private:
    reader() noexcept = default;

    void open(const char *path, const struct netring_reader_config *config)
    {
        struct netring_error detail;
        if (netring_reader_open(path, config, &handle_, &detail) < 0)
            throw error(detail);
    }

    int check(int code) const
    {
        struct netring_error detail;
        if (code >= 0)
            return code;
        if (netring_reader_last_error(handle_, &detail) >= 0 && detail.code == code)
            throw error(detail);
        throw error(code);
    }

    struct netring_reader *handle_ = nullptr;
};

// The difference of two readings of one capture, for rates (netring_stats_since).
inline struct netring_stats since(const struct netring_stats &now,
                                  const struct netring_stats &before)
{
    struct netring_stats out;
    const int code = netring_stats_since(&now, &before, &out, sizeof out);
    if (code < 0)
        throw error(code);
    return out;
}

// The fields of struct netring_injector_config, set to the defaults; assign what differs.
struct injector_config : netring_injector_config {
    injector_config()
    {
        netring_injector_config *const fields = this;
        const int code = netring_injector_config_init(fields, sizeof *fields);
        if (code < 0)
            throw error(code);
    }
};

// Slots that were reserved together, each a struct netring_slot: write a frame to its data, and its
// length to len. What was not committed is discarded when they go, so that nothing waits for it;
// they must not outlive their injector or queue.
class slots
{
  public:
    // Room for so many; kept from one reserve to the next.
    explicit slots(std::size_t count = 64) : slots_(count)
    {
    }
    slots(slots &&other) noexcept
        : injector_(other.injector_), queue_(other.queue_), slots_(std::move(other.slots_)),
          first_(other.first_), end_(other.end_)
    {
        other.forget();
    }
    slots &operator=(slots &&other) noexcept
    {
        if (this != &other) {
            discard();
            injector_ = other.injector_;
            queue_ = other.queue_;
            slots_ = std::move(other.slots_);
            first_ = other.first_;
            end_ = other.end_;
            other.forget();
        }
        return *this;
    }
    slots(const slots &) = delete;
    slots &operator=(const slots &) = delete;
    ~slots()
    {
        discard();
    }

    // Those that are not committed yet.
    std::size_t size() const noexcept
    {
        return end_ - first_;
    }
    bool empty() const noexcept
    {
        return first_ == end_;
    }
    struct netring_slot *begin() noexcept
    {
        return slots_.data() + first_;
    }
    struct netring_slot *end() noexcept
    {
        return slots_.data() + end_;
    }
    struct netring_slot &operator[](std::size_t index) noexcept
    {
        return slots_[first_ + index];
    }

    // netring_injector_commit, or netring_queue_commit, of all of them, or of the first `count`; a
    // len of 0 discards. Where
    // one is bad it throws, NETRING_EMSGSIZE where that is too large: begin() is the bad one then,
    // which may be changed, or discarded, before the next commit.
    void commit()
    {
        commit(size());
    }
    void commit(std::size_t count)
    {
        for (const std::size_t last = first_ + std::min(count, size()); first_ < last;) {
            const int taken = give_back(last - first_);
            if (taken < 0)
                fail(taken);
            first_ += static_cast<std::size_t>(taken);
        }
    }
    // Gives them back without frames.
    void discard() noexcept
    {
        for (; first_ < end_; first_++) {
            slots_[first_].len = 0;
            static_cast<void>(give_back(1));
        }
    }

  private:
    friend class injector;
    friend class queue;

    void forget() noexcept
    {
        injector_ = nullptr;
        queue_ = nullptr;
        first_ = end_ = 0;
    }

    int give_back(std::size_t count) noexcept
    {
        if (queue_ != nullptr)
            return netring_queue_commit(queue_, begin(), sizeof *begin(), count);
        return netring_injector_commit(injector_, begin(), sizeof *begin(), count);
    }

    void fail(int code) const
    {
        struct netring_error detail;
        const int told = queue_ != nullptr ? netring_queue_last_error(queue_, &detail)
                                           : netring_injector_last_error(injector_, &detail);
        if (told >= 0 && detail.code == code)
            throw error(detail);
        throw error(code);
    }

    struct netring_injector *injector_ = nullptr; // one of the two
    struct netring_queue *queue_ = nullptr;
    std::vector<struct netring_slot> slots_;
    std::size_t first_ = 0, end_ = 0;
};

// Sends frames on an interface:
//
//     netring::injector injector("eth0");
//     netring::slots slots;
//     while (injector.reserve(slots) == netring::wait::ready) {
//         for (struct netring_slot &slot : slots)
//             slot.len = make_frame(slot.data, slot.capacity);
//         slots.commit();
//         injector.flush();
//     }
//
// All members throw NETRING_ENETDOWN while the link is down (nothing is lost: call again) and
// NETRING_ENODEV once the interface is gone.
class injector
{
  public:
    // netring_injector_open
    explicit injector(const std::string &interface)
    {
        open(interface.c_str(), nullptr);
    }
    injector(const std::string &interface, const struct netring_injector_config &config)
    {
        open(interface.c_str(), &config);
    }
    injector(injector &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    injector &operator=(injector &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    injector(const injector &) = delete;
    injector &operator=(const injector &) = delete;
    // Does not wait for what has not left: drain() does.
    ~injector()
    {
        static_cast<void>(netring_injector_close(handle_));
    }

    // netring_injector_close: how many committed frames never reached the kernel.
    int close()
    {
        struct netring_injector *const handle = handle_;
        handle_ = nullptr;
        const int left = netring_injector_close(handle);
        if (left < 0)
            throw error(left);
        return left;
    }

    // Discards what `out` holds, then fills it with as many free slots as there are, up to its
    // room; waits where there is none.
    wait reserve(slots &out, int timeout_ms = -1)
    {
        out.discard();
        out.forget();
        const int count = netring_injector_reserve(handle_, out.slots_.data(), sizeof *out.begin(),
                                                   out.slots_.size(), timeout_ms);
        if (count > 0) {
            out.injector_ = handle_;
            out.end_ = static_cast<std::size_t>(count);
        }
        return waited(count);
    }
    // How many frames the kernel took.
    int flush() const
    {
        return check(netring_injector_flush(handle_));
    }
    // wait::ready: everything has left.
    wait drain(int timeout_ms = -1) const
    {
        return waited(netring_injector_drain(handle_, timeout_ms));
    }

    // By copy. Whether, or how many of them, were taken.
    bool send(const void *data, std::size_t len, int timeout_ms = -1) const
    {
        return check(netring_injector_send(handle_, data, len, timeout_ms)) > 0;
    }
    std::size_t send(const struct netring_frame *frames, std::size_t count,
                     int timeout_ms = -1) const
    {
        return static_cast<std::size_t>(
            check(netring_injector_send_batch(handle_, frames, sizeof *frames, count, timeout_ms)));
    }
    // Received packets, as they came or changed in place.
    bool send(const block &from, const packet &one, int timeout_ms = -1) const
    {
        const struct netring_packet fields = one.fields();
        return send(from, &fields, 1, timeout_ms) > 0;
    }
    std::size_t send(const block &from, const struct netring_packet *packets, std::size_t count,
                     int timeout_ms = -1) const
    {
        return static_cast<std::size_t>(check(netring_injector_send_packet(
            handle_, from.get(), packets, sizeof *packets, count, timeout_ms)));
    }

    // What did not leave: how many were written.
    std::size_t results(struct netring_result *out, std::size_t count) const
    {
        return static_cast<std::size_t>(
            check(netring_injector_results(handle_, out, sizeof *out, count)));
    }
    // When frames were sent, as far as that is known by now: how many were written.
    std::size_t timestamps(struct netring_timestamp *out, std::size_t count) const
    {
        return static_cast<std::size_t>(
            check(netring_injector_timestamps(handle_, out, sizeof *out, count)));
    }

    int fd() const
    {
        return check(netring_injector_fd(handle_));
    }
    // Ends every wait, now and later. Also from a signal handler, as is wakeup().
    void stop() const noexcept
    {
        static_cast<void>(netring_injector_stop(handle_));
    }
    void wakeup() const noexcept
    {
        static_cast<void>(netring_injector_wakeup(handle_));
    }
    void wakeup_clear() const
    {
        check(netring_injector_wakeup_clear(handle_));
    }

    struct netring_injector_stats stats() const
    {
        struct netring_injector_stats out;
        check(netring_injector_stats(handle_, &out, sizeof out));
        return out;
    }
    struct netring_injector_info info() const
    {
        struct netring_injector_info out;
        check(netring_injector_info(handle_, &out, sizeof out));
        return out;
    }

    struct netring_injector *get() const noexcept
    {
        return handle_;
    }

  private:
    void open(const char *interface, const struct netring_injector_config *config)
    {
        struct netring_error detail;
        if (netring_injector_open(interface, config, &handle_, &detail) < 0)
            throw error(detail);
    }

    int check(int code) const
    {
        struct netring_error detail;
        if (code >= 0)
            return code;
        if (netring_injector_last_error(handle_, &detail) >= 0 && detail.code == code)
            throw error(detail);
        throw error(code);
    }

    wait waited(int code) const
    {
        if (code == NETRING_ESHUTDOWN)
            return wait::stopped;
        if (code == NETRING_EWAKEUP)
            return wait::woken;
        return check(code) > 0 ? wait::ready : wait::timeout;
    }

    struct netring_injector *handle_ = nullptr;
};

// The fields of struct netring_bridge_config, set to the defaults; assign what differs.
struct bridge_config : netring_bridge_config {
    bridge_config()
    {
        netring_bridge_config *const fields = this;
        const int code = netring_bridge_config_init(fields, sizeof *fields);
        if (code < 0)
            throw error(code);
    }
};

// Two interfaces, and packets between them:
//
//     netring::bridge bridge("eth1", "eth2");
//     bridge.run([](std::uint32_t direction, struct netring_packet *packets,
//                   std::uint8_t *verdicts, std::size_t count) {
//         ...                  // NETRING_VERDICT_DROP where one is not to cross
//         return true;         // go on
//     });
class bridge
{
  public:
    // netring_bridge_open.
    bridge(const std::string &a, const std::string &b,
           const struct netring_bridge_config &config = bridge_config())
    {
        struct netring_error detail;
        if (netring_bridge_open(a.c_str(), b.c_str(), &config, &handle_, &detail) < 0)
            throw error(detail);
    }
    bridge(bridge &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    bridge &operator=(bridge &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    bridge(const bridge &) = delete;
    bridge &operator=(const bridge &) = delete;
    // Not in a callback of its own.
    ~bridge()
    {
        static_cast<void>(netring_bridge_close(handle_));
    }

    // Forwards everything until stop(). Other ends throw, such as NETRING_ENODEV when an interface
    // is removed.
    void run(std::uint32_t directions = NETRING_BRIDGE_BOTH) const
    {
        run(directions, nullptr, nullptr);
    }
    // Has `judge` judge each batch until it returns false (true is returned) or stop() (false).
    // What it throws ends the run after its batch, and is thrown here.
    template <class Judge> bool run(std::uint32_t directions, Judge &&judge) const
    {
        judging<Judge> call = {judge, nullptr};
        const int code = run(directions, judging<Judge>::batch, &call);

        if (call.thrown)
            std::rethrow_exception(call.thrown);
        return code == 0;
    }
    template <class Judge, class = typename std::enable_if<!std::is_integral<
                               typename std::remove_reference<Judge>::type>::value>::type>
    bool run(Judge &&judge) const
    {
        return run(NETRING_BRIDGE_BOTH, std::forward<Judge>(judge));
    }
    // Ends every run, now and later. Also from a signal handler.
    void stop() const noexcept
    {
        static_cast<void>(netring_bridge_stop(handle_));
    }

    // Of NETRING_BRIDGE_A_TO_B or NETRING_BRIDGE_B_TO_A.
    struct netring_bridge_stats stats(std::uint32_t direction) const
    {
        struct netring_bridge_stats out;
        check(netring_bridge_stats(handle_, direction, &out, sizeof out));
        return out;
    }

    struct netring_bridge_info info() const
    {
        struct netring_bridge_info out;
        check(netring_bridge_info(handle_, &out, sizeof out));
        return out;
    }

    struct netring_bridge *get() const noexcept
    {
        return handle_;
    }

  private:
    // A callback, and what it threw: no exception may leave it through C.
    template <class Judge> struct judging {
        Judge &judge;
        std::exception_ptr thrown;

        static int batch(void *user, std::uint32_t direction, struct netring_packet *packets,
                         std::uint8_t *verdicts, std::size_t count, std::size_t)
        {
            judging *const self = static_cast<judging *>(user);
            try {
                return self->judge(direction, packets, verdicts, count) ? 0 : 1;
            } catch (...) {
                self->thrown = std::current_exception();
                return 1;
            }
        }
    };

    int run(std::uint32_t directions, netring_bridge_callback callback, void *user) const
    {
        const int code = netring_bridge_run(handle_, directions, callback, user);
        return code == NETRING_ESHUTDOWN ? code : check(code);
    }

    int check(int code) const
    {
        struct netring_error detail;
        if (code >= 0)
            return code;
        if (netring_bridge_last_error(handle_, &detail) >= 0 && detail.code == code)
            throw error(detail);
        throw error(code);
    }

    struct netring_bridge *handle_ = nullptr;
};

// The fields of struct netring_umem_config, set to the defaults; assign what differs.
struct umem_config : netring_umem_config {
    umem_config()
    {
        netring_umem_config *const fields = this;
        const int code = netring_umem_config_init(fields, sizeof *fields);
        if (code < 0)
            throw error(code);
    }
};

// Memory of frames under several AF_XDP sockets, between which packets then go without a copy. The
// sockets keep the memory: the object may go once they are open.
class umem
{
  public:
    // netring_umem_new
    explicit umem(const struct netring_umem_config &config = umem_config())
    {
        struct netring_error detail;
        if (netring_umem_new(&config, &handle_, &detail) < 0)
            throw error(detail);
    }
    umem(umem &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    umem &operator=(umem &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    umem(const umem &) = delete;
    umem &operator=(const umem &) = delete;
    ~umem()
    {
        static_cast<void>(netring_umem_free(handle_));
    }

    struct netring_umem_info info() const
    {
        struct netring_umem_info out;
        const int code = netring_umem_info(handle_, &out, sizeof out);
        if (code < 0)
            throw error(code);
        return out;
    }

    struct netring_umem *get() const noexcept
    {
        return handle_;
    }

  private:
    struct netring_umem *handle_ = nullptr;
};

// The fields of struct netring_xdp_config, set to the defaults but for what is taken from the host,
// which has to be said: NETRING_REDIRECT_ALL or _NONE, or a filter, which must live until the open.
struct xdp_config : netring_xdp_config {
    explicit xdp_config(std::uint32_t what)
    {
        init_fields();
        redirect = what;
    }
    explicit xdp_config(const netring::filter &with)
    {
        init_fields();
        redirect = NETRING_REDIRECT_FILTER;
        filter = with.get();
    }

  private:
    void init_fields()
    {
        netring_xdp_config *const fields = this;
        const int code = netring_xdp_config_init(fields, sizeof *fields);
        if (code < 0)
            throw error(code);
    }
};

// A queue of an xdp: received blocks like a capture's, slots like an injector's. It is the xdp's
// and ends with it; copies are the same queue.
class queue
{
  public:
    queue() noexcept = default;

    // As capture::next_block.
    wait next_block(block &out, int timeout_ms = -1) const
    {
        struct netring_block *handle = nullptr;

        out.reset();
        const wait how = waited(netring_queue_next_block(handle_, timeout_ms, &handle));
        if (how == wait::block)
            out = block(handle);
        return how;
    }

    // As injector::reserve and so on.
    wait reserve(slots &out, int timeout_ms = -1) const
    {
        out.discard();
        out.forget();
        const int count = netring_queue_reserve(handle_, out.slots_.data(), sizeof *out.begin(),
                                                out.slots_.size(), timeout_ms);
        if (count > 0) {
            out.queue_ = handle_;
            out.end_ = static_cast<std::size_t>(count);
        }
        return waited(count);
    }
    int flush() const
    {
        return check(netring_queue_flush(handle_));
    }
    wait drain(int timeout_ms = -1) const
    {
        return waited(netring_queue_drain(handle_, timeout_ms));
    }
    bool send(const void *data, std::size_t len, int timeout_ms = -1) const
    {
        return check(netring_queue_send(handle_, data, len, timeout_ms)) > 0;
    }
    std::size_t send(const struct netring_frame *frames, std::size_t count,
                     int timeout_ms = -1) const
    {
        return static_cast<std::size_t>(
            check(netring_queue_send_batch(handle_, frames, sizeof *frames, count, timeout_ms)));
    }
    bool send(const block &from, const packet &one, int timeout_ms = -1) const
    {
        const struct netring_packet fields = one.fields();
        return send(from, &fields, 1, timeout_ms) > 0;
    }
    std::size_t send(const block &from, const struct netring_packet *packets, std::size_t count,
                     int timeout_ms = -1) const
    {
        return static_cast<std::size_t>(check(netring_queue_send_packet(
            handle_, from.get(), packets, sizeof *packets, count, timeout_ms)));
    }
    // Received packets of this queue, or of one with the same umem, without a copy: how many of the
    // first were taken, whose bytes must not be written any more. flush() sends them.
    std::size_t forward(const block &from, const struct netring_packet *packets,
                        std::size_t count) const
    {
        return static_cast<std::size_t>(
            check(netring_queue_forward(handle_, from.get(), packets, sizeof *packets, count)));
    }
    bool forward(const block &from, const packet &one) const
    {
        const struct netring_packet fields = one.fields();
        return forward(from, &fields, 1) > 0;
    }
    // What did not leave: how many were written.
    std::size_t results(struct netring_result *out, std::size_t count) const
    {
        return static_cast<std::size_t>(
            check(netring_queue_results(handle_, out, sizeof *out, count)));
    }
    // When frames were sent, as far as that is known by now: how many were written.
    std::size_t timestamps(struct netring_timestamp *out, std::size_t count) const
    {
        return static_cast<std::size_t>(
            check(netring_queue_timestamps(handle_, out, sizeof *out, count)));
    }

    // Readable while next_block(block, 0) would give something.
    int fd() const
    {
        return check(netring_queue_fd(handle_));
    }
    // Ends every wait, now and later. Also from a signal handler, as is wakeup().
    void stop() const noexcept
    {
        static_cast<void>(netring_queue_stop(handle_));
    }
    void wakeup() const noexcept
    {
        static_cast<void>(netring_queue_wakeup(handle_));
    }
    void wakeup_clear() const
    {
        check(netring_queue_wakeup_clear(handle_));
    }

    struct netring_stats stats() const
    {
        struct netring_stats out;
        check(netring_queue_stats(handle_, &out, sizeof out));
        return out;
    }
    struct netring_xdp_counters counters() const
    {
        struct netring_xdp_counters out;
        check(netring_queue_counters(handle_, &out, sizeof out));
        return out;
    }
    struct netring_injector_stats transmit_stats() const
    {
        struct netring_injector_stats out;
        check(netring_queue_transmit_stats(handle_, &out, sizeof out));
        return out;
    }
    struct netring_queue_info info() const
    {
        struct netring_queue_info out;
        check(netring_queue_info(handle_, &out, sizeof out));
        return out;
    }

    struct netring_queue *get() const noexcept
    {
        return handle_;
    }

  private:
    friend class xdp;

    explicit queue(struct netring_queue *handle) noexcept : handle_(handle)
    {
    }

    int check(int code) const
    {
        struct netring_error detail;
        if (code >= 0)
            return code;
        if (netring_queue_last_error(handle_, &detail) >= 0 && detail.code == code)
            throw error(detail);
        throw error(code);
    }

    wait waited(int code) const
    {
        if (code == NETRING_ESHUTDOWN)
            return wait::stopped;
        if (code == NETRING_EWAKEUP)
            return wait::woken;
        return check(code) > 0 ? wait::ready : wait::timeout;
    }

    struct netring_queue *handle_ = nullptr;
};

// AF_XDP sockets on the queues of an interface, and the program that takes packets from the host:
//
//     const netring::filter dns = netring::filter::expression("udp port 53");
//     netring::xdp xdp("eth0", netring::xdp_config(dns));
//     netring::queue queue = xdp.queue(0);
//     while (queue.next_block(block) != netring::wait::stopped)
//         for (const netring::packet &packet : block)
//             use(packet.data(), packet.caplen());
class xdp
{
  public:
    // netring_xdp_open, on all queues or on these.
    xdp(const std::string &interface, const struct netring_xdp_config &config,
        const std::vector<std::uint32_t> &queues = std::vector<std::uint32_t>())
    {
        struct netring_error detail;
        if (netring_xdp_open(interface.c_str(), queues.empty() ? nullptr : queues.data(),
                             queues.size(), &config, &handle_, &detail) < 0)
            throw error(detail);
    }
    // netring_xdp_adopt: with AF_XDP sockets that were handed over, which stay the caller's.
    static xdp adopt(const std::string &interface, const std::vector<std::uint32_t> &queues,
                     const std::vector<int> &sockets, const struct netring_xdp_config &config)
    {
        struct netring_error detail;
        xdp out;
        if (queues.size() != sockets.size())
            throw error(NETRING_EINVAL);
        if (netring_xdp_adopt(interface.c_str(), queues.data(), sockets.data(), queues.size(),
                              &config, &out.handle_, &detail) < 0)
            throw error(detail);
        return out;
    }
    xdp(xdp &&other) noexcept : handle_(other.handle_)
    {
        other.handle_ = nullptr;
    }
    xdp &operator=(xdp &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    xdp(const xdp &) = delete;
    xdp &operator=(const xdp &) = delete;
    // Does not wait for what has not left: queue::drain() does.
    ~xdp()
    {
        static_cast<void>(netring_xdp_close(handle_));
    }

    // netring_xdp_close: how many committed frames never left.
    int close()
    {
        struct netring_xdp *const handle = handle_;
        handle_ = nullptr;
        const int left = netring_xdp_close(handle);
        if (left < 0)
            throw error(left);
        return left;
    }

    // By its index, 0 to info().queue_count - 1: in the order in which they were given.
    netring::queue queue(std::uint32_t index) const
    {
        struct netring_queue *out = nullptr;
        check(netring_xdp_queue(handle_, index, &out));
        return netring::queue(out);
    }

    // Goes on with another filter, or with NETRING_REDIRECT_ALL or _NONE.
    void set_filter(const filter &with)
    {
        change(NETRING_REDIRECT_FILTER, with.get());
    }
    void set_redirect(std::uint32_t what)
    {
        change(what, nullptr);
    }
    // Takes the program off the interface.
    void detach()
    {
        struct netring_error detail;
        if (netring_xdp_detach(handle_, &detail) < 0)
            throw error(detail);
    }
    // NETRING_XDP_FD_...: the library's, to be duplicated.
    int fd(std::uint32_t which) const
    {
        return check(netring_xdp_fd(handle_, which));
    }

    // Why the mode is not a better one.
    std::vector<struct netring_xdp_step> steps() const
    {
        std::vector<struct netring_xdp_step> out(16);
        out.resize(static_cast<std::size_t>(
            check(netring_xdp_steps(handle_, out.data(), sizeof *out.data(), out.size()))));
        return out;
    }
    // The interface's queues that have no socket here.
    std::vector<std::uint32_t> missing() const
    {
        std::vector<std::uint32_t> out(
            static_cast<std::size_t>(check(netring_xdp_missing(handle_, nullptr, 0))));
        const int now = check(netring_xdp_missing(handle_, out.data(), out.size()));
        out.resize(std::min(out.size(), static_cast<std::size_t>(now)));
        return out;
    }

    // Ends every wait of every queue, now and later. Also from a signal handler.
    void stop() const noexcept
    {
        static_cast<void>(netring_xdp_stop(handle_));
    }
    // Of all queues together.
    struct netring_stats stats() const
    {
        struct netring_stats out;
        check(netring_xdp_stats(handle_, &out, sizeof out));
        return out;
    }
    struct netring_xdp_counters counters() const
    {
        struct netring_xdp_counters out;
        check(netring_xdp_counters(handle_, &out, sizeof out));
        return out;
    }
    struct netring_xdp_info info() const
    {
        struct netring_xdp_info out;
        check(netring_xdp_info(handle_, &out, sizeof out));
        return out;
    }

    struct netring_xdp *get() const noexcept
    {
        return handle_;
    }

  private:
    xdp() noexcept = default;

    void change(std::uint32_t redirect, struct netring_filter *with)
    {
        struct netring_error detail;
        if (netring_xdp_set_filter(handle_, redirect, with, &detail) < 0)
            throw error(detail);
    }

    int check(int code) const
    {
        struct netring_error detail;
        if (code >= 0)
            return code;
        if (netring_xdp_last_error(handle_, &detail) >= 0 && detail.code == code)
            throw error(detail);
        throw error(code);
    }

    struct netring_xdp *handle_ = nullptr;
};

} // namespace netring

#endif // NETRING_HPP
