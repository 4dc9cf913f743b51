#include "xdp.h"

#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

const struct xdp_mode xdp_modes[2] = {{"native", NETRING_MODE_COPY}, {"SKB", NETRING_MODE_SKB}};

void xdp_enter(void)
{
    int fd;

    net_enter();
    fd = xdp_map(1);
    if (fd < 0)
        tap_skip_all("no XSKMAP: %s (bpf needs CAP_BPF and CAP_NET_ADMIN outside of a user "
                     "namespace)",
                     strerror(errno));
    close(fd);
    fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        tap_skip_all("no AF_XDP socket: %s", strerror(errno));
    close(fd);
}

bool xdp_kernel(unsigned major, unsigned minor)
{
    unsigned is[2] = {0, 0};
    struct utsname name;

    return uname(&name) == 0 && sscanf(name.release, "%u.%u", &is[0], &is[1]) == 2 &&
           (is[0] > major || (is[0] == major && is[1] >= minor));
}

/* ---- open and close ---- */

struct netring_xdp_config xdp_config(uint32_t redirect, uint32_t mode)
{
    struct netring_xdp_config config;

    if (netring_xdp_config_init(&config, sizeof config) != 0)
        tap_bail("netring_xdp_config_init failed");
    config.redirect = redirect;
    config.mode = mode;
    config.frame_size = 2048;
    config.rx_frames = XDP_RX_FRAMES;
    config.tx_frames = XDP_TX_FRAMES;
    config.bind_timeout = (uint32_t)tap_patience(10000);
    return config;
}

struct netring_xdp *xdp_open(const char *interface, const uint32_t *queues, size_t count,
                             const struct netring_xdp_config *config)
{
    struct netring_xdp *xdp = NULL;
    struct netring_error error;
    int rc;

    errno = ENOTTY;
    rc = netring_xdp_open(interface, queues, count, config, &xdp, &error);
    if (rc < 0)
        tap_bail("AF_XDP on %s: %s (%s: %s)", interface, netring_err_name(rc), error.option,
                 error.message);
    if (rc != 0 || !xdp || errno != ENOTTY)
        ok(false, "opening %s returns 0 and a handle and leaves errno alone", interface);
    return xdp;
}

void xdp_close(struct netring_xdp *xdp)
{
    int rc = netring_xdp_close(xdp);

    if (rc != 0)
        is_int(rc, 0, "netring_xdp_close");
}

struct netring_queue *xdp_queue(struct netring_xdp *xdp, uint32_t index)
{
    struct netring_queue *queue = NULL;
    int rc = netring_xdp_queue(xdp, index, &queue);

    if (rc != 0 || !queue)
        tap_bail("netring_xdp_queue: %s", netring_err_name(rc));
    return queue;
}

struct xdp_one xdp_one(const char *interface, const struct netring_xdp_config *config)
{
    const uint32_t first = 0;
    struct xdp_one one = {xdp_open(interface, &first, 1, config), NULL};

    one.queue = xdp_queue(one.xdp, 0);
    return one;
}

void xdp_open_fails(const char *what, const char *interface, const uint32_t *queues, size_t count,
                    const struct netring_xdp_config *config, const struct failure *want)
{
    bool there = interface && if_nametoindex(interface);
    uint32_t attached = there ? xdp_attached(interface).id : 0;
    struct footprint before = footprint_now();
    struct netring_xdp *xdp = NULL;
    struct netring_error error;
    int rc, error_number;

    error_spoil(&error);
    errno = 0;
    rc = netring_xdp_open(interface, queues, count, config, &xdp, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, want, what);
    is_int(netring_xdp_open(interface, queues, count, config, &xdp, NULL), want->code,
           "%s: without an error struct", what);
    ok(xdp == NULL, "%s: no handle", what);
    is_footprint(before, what);
    if (there)
        is_int(xdp_attached(interface).id, attached, "%s: the interface's program is as before",
               what);
}

/* ---- what they tell ---- */

#define TOLD(call, ...)                                                                            \
    do {                                                                                           \
        int told_ = call(__VA_ARGS__);                                                             \
        if (told_ != 0)                                                                            \
            tap_bail(#call ": %s", netring_err_name(told_));                                       \
    } while (0)

struct netring_xdp_info xdp_info(struct netring_xdp *xdp)
{
    struct netring_xdp_info info;

    TOLD(netring_xdp_info, xdp, &info, sizeof info);
    return info;
}

struct netring_stats queue_stats(struct netring_queue *queue)
{
    struct netring_stats stats;

    TOLD(netring_queue_stats, queue, &stats, sizeof stats);
    return stats;
}

struct netring_xdp_counters queue_counters(struct netring_queue *queue)
{
    struct netring_xdp_counters counters;

    TOLD(netring_queue_counters, queue, &counters, sizeof counters);
    return counters;
}

struct netring_injector_stats queue_sent(struct netring_queue *queue)
{
    struct netring_injector_stats stats;

    TOLD(netring_queue_transmit_stats, queue, &stats, sizeof stats);
    return stats;
}

static const char *wrong_sum(struct netring_queue *queue)
{
    struct netring_injector_stats sent = queue_sent(queue);
    struct netring_xdp_counters frames = queue_counters(queue);
    struct netring_stats stats = queue_stats(queue);

    if (not_adding_up(&sent))
        return not_adding_up(&sent);
    if (frames.rx_frames != frames.rx_kernel + frames.rx_held + frames.rx_forwarded)
        return "rx_frames = rx_kernel + rx_held + rx_forwarded";
    if (frames.tx_frames !=
        frames.tx_free + frames.tx_open + frames.tx_committed + frames.tx_in_flight)
        return "tx_frames = tx_free + tx_open + tx_committed + tx_in_flight";
    if (stats.received != stats.delivered + stats.filtered_late + stats.pending)
        return "received = delivered + filtered_late + pending";
    return NULL;
}

bool queue_adds_up(struct netring_queue *queue, const char *what)
{
    const char *wrong = wrong_sum(queue);
    struct netring_xdp_counters c = queue_counters(queue);

    if (wrong)
        tap_diag("rx %llu: kernel %llu held %llu forwarded %llu; tx %llu: free %llu open %llu "
                 "committed %llu in flight %llu",
                 (unsigned long long)c.rx_frames, (unsigned long long)c.rx_kernel,
                 (unsigned long long)c.rx_held, (unsigned long long)c.rx_forwarded,
                 (unsigned long long)c.tx_frames, (unsigned long long)c.tx_free,
                 (unsigned long long)c.tx_open, (unsigned long long)c.tx_committed,
                 (unsigned long long)c.tx_in_flight);
    return ok(!wrong, "%s: the counters add up%s%s", what, wrong ? ", but for " : "",
              wrong ? wrong : "");
}

bool queue_is_idle(struct netring_queue *queue, const char *what)
{
    struct netring_xdp_counters c = queue_counters(queue);

    return ok(c.rx_kernel == c.rx_frames && c.tx_free == c.tx_frames,
              "%s: all frames are back (%llu of %llu, %llu of %llu)", what,
              (unsigned long long)c.rx_kernel, (unsigned long long)c.rx_frames,
              (unsigned long long)c.tx_free, (unsigned long long)c.tx_frames);
}

/* ---- frames ---- */

int queue_receive(struct netring_queue *queue, size_t want, int timeout_ms, struct records *records)
{
    size_t first = records->count;
    struct netring_block *block;
    int rc = 1;

    while (records->count - first < want &&
           (rc = netring_queue_next_block(queue, (int)tap_patience(timeout_ms), &block)) == 1) {
        block_records(block, 16, records);
        netring_block_release(block);
    }
    return rc;
}

void queue_await(struct netring_queue *queue, uint64_t pending)
{
    int64_t end = now_ms() + tap_patience(1000);

    while (queue_stats(queue).pending < pending) {
        if (now_ms() > end)
            tap_bail("%llu of %llu packets have come",
                     (unsigned long long)queue_stats(queue).pending, (unsigned long long)pending);
        sleep_ms(1);
    }
}

struct netring_block *queue_block(struct netring_queue *queue, uint32_t count)
{
    struct netring_block *block = NULL;
    struct netring_block_info info;
    int rc = netring_queue_next_block(queue, (int)tap_patience(2000), &block);

    if (rc != 1 || netring_block_info(block, &info, sizeof info) != 0)
        tap_bail("a block of %u packets: %s", count, rc == 0 ? "timeout" : netring_err_name(rc));
    if (info.count != count)
        tap_bail("a block of %u packets has %u", count, info.count);
    return block;
}

const char *not_of_stream(const struct netring_packet *packet, uint32_t number)
{
    static _Thread_local char text[160];
    uint8_t frame[FRAME_MAX];
    uint32_t length = stream_make(frame, number);

    if (packet->caplen == length && packet->len == length &&
        memcmp(packet->data, frame, length) == 0)
        return NULL;
    snprintf(text, sizeof text, "%u bytes (%u there) with number %u for %u with %u", packet->len,
             packet->caplen, packet->caplen >= 14 ? numbered_number(packet->data) : 0, length,
             number);
    return text;
}

bool queue_is_stream(struct netring_queue *queue, uint32_t first, uint32_t count, const char *what)
{
    uint32_t done = 0;
    char wrong[200] = "";

    while (done < count && !*wrong) {
        struct netring_block *block;
        struct netring_packet packet;
        int rc = netring_queue_next_block(queue, (int)tap_patience(1000), &block);

        if (rc != 1) {
            snprintf(wrong, sizeof wrong, "%s", rc == 0 ? "timeout" : netring_err_name(rc));
            break;
        }
        while (netring_block_read(block, &packet, sizeof packet, 1) == 1 && !*wrong) {
            const char *other =
                done < count ? not_of_stream(&packet, first + done) : "there are more";

            if (other)
                snprintf(wrong, sizeof wrong, "%s", other);
            done++;
        }
        netring_block_release(block);
    }
    return ok(!*wrong, "%s: %u of %u frames arrive in order, byte for byte%s%s", what, done, count,
              *wrong ? ": " : "", wrong);
}

bool queue_is_empty(struct netring_queue *queue, const char *what)
{
    struct netring_block *block;
    int rc = netring_queue_next_block(queue, 30, &block);

    if (rc == 1)
        netring_block_release(block);
    return is_int(rc, 0, "%s: nothing more arrives", what);
}

void send_stream(int sender, uint32_t first, uint32_t count)
{
    uint8_t frame[FRAME_MAX];

    for (uint32_t i = 0; i < count; i++)
        net_send(sender, frame, stream_make(frame, first + i));
}

void queue_must_reserve(struct netring_queue *queue, struct netring_slot *slots, size_t count)
{
    int rc = netring_queue_reserve(queue, slots, sizeof *slots, count, 0);

    if (rc != (int)count)
        tap_bail("reserving %zu slots: %d (%s)", count, rc, netring_err_name(rc));
}

void queue_must_commit(struct netring_queue *queue, const struct netring_slot *slots, size_t count)
{
    int rc = netring_queue_commit(queue, slots, sizeof *slots, count);

    if (rc != (int)count)
        tap_bail("committing %zu slots: %d (%s)", count, rc, netring_err_name(rc));
}

void queue_commit_stream(struct netring_queue *queue, uint32_t first, uint32_t count)
{
    struct netring_slot slots[64];

    for (uint32_t done = 0; done < count;) {
        uint32_t now = count - done < COUNT(slots) ? count - done : COUNT(slots);

        queue_must_reserve(queue, slots, now);
        for (uint32_t i = 0; i < now; i++)
            slots[i].len = stream_make(slots[i].data, first + done + i);
        queue_must_commit(queue, slots, now);
        done += now;
    }
}

bool queue_drains(struct netring_queue *queue, const char *what)
{
    int rc = netring_queue_drain(queue, (int)tap_patience(5000));

    return is_str(rc == 1   ? "drained"
                  : rc == 0 ? "timeout"
                            : netring_err_name(rc),
                  "drained", "%s: everything leaves", what);
}

/* ---- programs of somebody else ---- */

int xdp_bpf(int command, void *attributes, size_t size)
{
    return (int)syscall(SYS_bpf, command, attributes, size);
}

static int load(const struct bpf_insn *program, uint32_t count)
{
    union bpf_attr attributes;

    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.insns = (uintptr_t)program;
    attributes.insn_cnt = count;
    attributes.license = (uintptr_t) "GPL";
    return xdp_bpf(BPF_PROG_LOAD, &attributes, sizeof attributes);
}

int xdp_pass_program(void)
{
    const struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    int fd = load(program, COUNT(program));

    if (fd < 0)
        tap_bail("loading a program that passes: %s", strerror(errno));
    return fd;
}

int xdp_redirect_program(int map)
{
    const struct bpf_insn program[] = {
        /* r2 = ctx->rx_queue_index; r1 = map; r3 = XDP_PASS */
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 16},
        {.code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
        {.imm = 0},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
        {.code = BPF_JMP | BPF_EXIT},
    };
    int fd = load(program, COUNT(program));

    if (fd < 0)
        tap_bail("loading a program that redirects: %s", strerror(errno));
    return fd;
}

int xdp_map(uint32_t entries)
{
    union bpf_attr attributes;

    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = BPF_MAP_TYPE_XSKMAP;
    attributes.key_size = 4;
    attributes.value_size = 4;
    attributes.max_entries = entries;
    return xdp_bpf(BPF_MAP_CREATE, &attributes, sizeof attributes);
}

int xdp_attach(int program, const char *interface, bool native)
{
    union bpf_attr attributes;

    memset(&attributes, 0, sizeof attributes);
    attributes.link_create.prog_fd = (uint32_t)program;
    attributes.link_create.target_ifindex = net_index(interface);
    attributes.link_create.attach_type = BPF_XDP;
    attributes.link_create.flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
    return xdp_bpf(BPF_LINK_CREATE, &attributes, sizeof attributes);
}

uint32_t xdp_program_id(int program)
{
    struct bpf_prog_info info;
    union bpf_attr attributes;

    memset(&info, 0, sizeof info);
    memset(&attributes, 0, sizeof attributes);
    attributes.info.bpf_fd = (uint32_t)program;
    attributes.info.info_len = sizeof info;
    attributes.info.info = (uintptr_t)&info;
    if (xdp_bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes) != 0)
        tap_bail("BPF_OBJ_GET_INFO_BY_FD: %s", strerror(errno));
    return info.id;
}

struct xdp_attached xdp_attached(const char *interface)
{
    struct xdp_attached attached = {0, false};
    uint8_t how = 0;

    attached.id = net_xdp_program(interface, &how);
    attached.native = how == XDP_ATTACHED_DRV;
    return attached;
}

bool xdp_is_detached(const char *interface, const char *what)
{
    uint32_t id = 0;

    for (int i = 0; i < 100; i++) {
        id = xdp_attached(interface).id;
        if (id == 0)
            break;
        sleep_ms(10);
    }
    return is_int(id, 0, "%s: no program is left on %s", what, interface);
}
