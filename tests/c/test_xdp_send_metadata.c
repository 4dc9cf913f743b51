/* NETRING_XDP_TX_METADATA: a checksum that a slot asks for is filled in, byte for byte as it must
 * be on a wire, and every frame that was sent has a timestamp of its own. */
#include "segments.h"
#include "xdp.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { FRAMES = 300 };

static uint8_t packet[2048];

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct netring_xdp_config send_config(const struct xdp_mode *mode, uint64_t flags)
{
    struct netring_xdp_config config = xdp_config(NETRING_REDIRECT_NONE, mode->mode);

    config.flags = flags;
    return config;
}

/* Every kind of packet with a missing checksum, plain frames in between. */
static void test_checksums(const struct xdp_mode *mode, struct sink *sink)
{
    struct netring_xdp_config config = send_config(mode, NETRING_XDP_TX_METADATA);
    struct xdp_one a = xdp_one("va", &config);

    for (size_t k = 0; k < KINDS; k++) {
        struct netring_slot slot;
        size_t length = kind_make(packet, &kinds[k], 700 + k, (uint32_t)k);

        queue_must_reserve(a.queue, &slot, 1);
        is_int(slot.capacity, 2048 - 64, "%s: room for metadata", mode->name);
        memcpy(slot.data, packet, length);
        slot.len = (uint32_t)length;
        kind_vnet(&kinds[k], 0, &slot);
        slot.hdr_len = 0;
        queue_must_commit(a.queue, &slot, 1);
        queue_commit_stream(a.queue, (uint32_t)k, 1);
        is_int(netring_queue_flush(a.queue), 2, "%s: %s: handed over", mode->name, kinds[k].name);
        sink_is_cut(sink, packet, length, &kinds[k], 0, mode->name);
        sink_is_stream(sink, (uint32_t)k, 1, mode->name);
    }
    queue_adds_up(a.queue, mode->name);
    xdp_close(a.xdp);
}

static void test_timestamps(const struct xdp_mode *mode, struct sink *sink)
{
    struct netring_xdp_config config = send_config(mode, NETRING_XDP_TX_METADATA);
    struct xdp_one a = xdp_one("va", &config);
    static struct netring_timestamp stamps[FRAMES + 1];
    uint64_t before = now_ns(), after, last = 0;
    unsigned wrong = 0;
    int got;

    is_int(netring_queue_timestamps(a.queue, stamps, sizeof stamps[0], 1), 0,
           "%s: none before anything is sent", mode->name);
    for (uint32_t first = 0; first < FRAMES; first += 30) {
        queue_commit_stream(a.queue, first, 30);
        netring_queue_flush(a.queue);
        sink_is_stream(sink, first, 30, mode->name);
    }
    queue_drains(a.queue, mode->name);
    after = now_ns();
    got = netring_queue_timestamps(a.queue, stamps, sizeof stamps[0], FRAMES / 3);
    is_int(got, FRAMES / 3, "%s: a part of the timestamps", mode->name);
    got += netring_queue_timestamps(a.queue, stamps + got, sizeof stamps[0], FRAMES);
    is_int(got, FRAMES, "%s: a timestamp for each frame", mode->name);
    for (int i = 0; i < got; i++) {
        wrong += stamps[i].cookie != (uint64_t)i + 1 || stamps[i].clock != NETRING_CLOCK_SOFTWARE ||
                 stamps[i].reserved != 0;
        wrong +=
            stamps[i].time_ns < before || stamps[i].time_ns > after || stamps[i].time_ns < last;
        last = stamps[i].time_ns;
    }
    is_int(wrong, 0, "%s: in order, between first and last call (%llu, %llu ... %llu, %llu)",
           mode->name, (unsigned long long)before, (unsigned long long)stamps[0].time_ns,
           (unsigned long long)last, (unsigned long long)after);
    is_int(queue_sent(a.queue).timestamps_lost, 0, "%s: none is lost", mode->name);
    is_int(netring_queue_timestamps(a.queue, stamps, sizeof stamps[0], 1), 0, "%s: told once",
           mode->name);
    xdp_close(a.xdp);
}

/* Nobody fetches them: the newest are kept, and the others counted. */
static void test_kept(struct sink *sink)
{
    enum { KEPT = 4096, LOST = 50, BATCH = 41 };
    struct netring_xdp_config config = send_config(&xdp_modes[0], NETRING_XDP_TX_METADATA);
    struct xdp_one a = xdp_one("va", &config);
    static struct netring_timestamp stamps[KEPT + 1];

    for (uint32_t sent = 0; sent < KEPT + LOST;) {
        uint32_t now = KEPT + LOST - sent < BATCH ? KEPT + LOST - sent : BATCH;

        queue_commit_stream(a.queue, sent, now);
        netring_queue_flush(a.queue);
        if (!sink_is_stream(sink, sent, now, "not fetched"))
            break;
        sent += now;
    }
    queue_drains(a.queue, "not fetched");
    is_int(queue_sent(a.queue).timestamps_lost, LOST, "timestamps that nobody fetched are counted");
    is_int(netring_queue_timestamps(a.queue, stamps, sizeof stamps[0], KEPT + 1), KEPT,
           "the others are kept");
    is_int(stamps[0].cookie, LOST + 1, "from the oldest of these");
    is_int(stamps[KEPT - 1].cookie, KEPT + LOST, "to the newest");
    xdp_close(a.xdp);
}

static void refused(struct netring_queue *queue, struct netring_slot slot, const char *what)
{
    errno = 0;
    is_int(netring_queue_commit(queue, &slot, sizeof slot, 1), NETRING_EINVAL, "%s", what);
    is_int(errno, EINVAL, "%s: errno", what);
}

static void test_refused(void)
{
    struct netring_xdp_config config = send_config(&xdp_modes[0], NETRING_XDP_TX_METADATA);
    struct xdp_one a = xdp_one("va", &config);
    struct netring_timestamp stamp;
    struct netring_slot slot, wrong;

    queue_must_reserve(a.queue, &slot, 1);
    slot.len = (uint32_t)kind_make(slot.data, &kinds[0], 100, 0);
    kind_vnet(&kinds[0], 0, &slot);
    slot.hdr_len = 0;
    wrong = slot, wrong.csum_start = (uint16_t)slot.len;
    refused(a.queue, wrong, "a checksum that begins at the end");
    wrong = slot, wrong.gso_type = NETRING_GSO_TCPV4, wrong.gso_size = 100;
    refused(a.queue, wrong, "a super-packet");
    wrong = slot, wrong.vnet_flags = 2;
    refused(a.queue, wrong, "another flag");
    wrong = slot, wrong.reserved[0] = 1;
    refused(a.queue, wrong, "a reserved byte");
    queue_must_commit(a.queue, &slot, 1);
    netring_queue_flush(a.queue);
    queue_drains(a.queue, "the right one leaves");
    xdp_close(a.xdp);

    config.flags = 0;
    a = xdp_one("va", &config);
    queue_must_reserve(a.queue, &slot, 1);
    slot.len = (uint32_t)kind_make(slot.data, &kinds[0], 100, 0);
    kind_vnet(&kinds[0], 0, &slot);
    slot.hdr_len = 0;
    refused(a.queue, slot, "a checksum without the flag");
    is_int(netring_queue_timestamps(a.queue, &stamp, sizeof stamp, 1), NETRING_EINVAL,
           "timestamps without the flag");
    slot.len = 0;
    queue_must_commit(a.queue, &slot, 1);
    xdp_close(a.xdp);
}

static void test_umem(void)
{
    static const struct failure no_room = {
        .code = NETRING_EINVAL, .option = "umem", .words = {"NETRING_UMEM_TX_METADATA"}};
    struct netring_xdp_config config = send_config(&xdp_modes[0], NETRING_XDP_TX_METADATA);
    struct netring_umem_config memory = NETRING_UMEM_CONFIG_INIT;
    struct netring_umem *umem = NULL;
    struct xdp_one a;

    memory.frame_count = 2 * (XDP_RX_FRAMES + XDP_TX_FRAMES);
    memory.frame_size = config.frame_size;
    netring_umem_new(&memory, &umem, NULL);
    config.umem = umem;
    xdp_open_fails("a UMEM without room for metadata", "va", (const uint32_t[]){0}, 1, &config,
                   &no_room);
    netring_umem_free(umem);
    memory.flags = NETRING_UMEM_TX_METADATA;
    netring_umem_new(&memory, &umem, NULL);
    config.umem = umem;
    a = xdp_one("va", &config);
    netring_umem_free(umem);
    queue_commit_stream(a.queue, 0, 10);
    netring_queue_flush(a.queue);
    queue_drains(a.queue, "a UMEM with room");
    xdp_close(a.xdp);
}

int main(void)
{
    struct sink sink;

    tap_begin(60);
    xdp_enter();
    net_veth("va", "vb");
    net_await_carrier("va");
    offloads_off("va");
    if (kernel_version() < 0x060b00)
        tap_skip_all("metadata of frames to be sent need Linux 6.11");
    sink_open(&sink, "vb");
    for (size_t i = 0; i < COUNT(xdp_modes); i++) {
        test_checksums(&xdp_modes[i], &sink);
        test_timestamps(&xdp_modes[i], &sink);
    }
    test_kept(&sink);
    test_refused();
    test_umem();
    sink_close(&sink);
    return tap_end();
}
