/* Checksums and segmentation by the caller: super-packets of 64 KiB leave as the segments they must
 * be, each with its sums, and every byte in order; a missing checksum is filled in; what the kernel
 * refuses has a result and holds back nothing. The link leaves nothing to its device, so what
 * arrives is what a wire would have. */
#include "segments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t packet[SUPER_MAX];
static uint32_t kernel;

/* NULL, or why this kernel cannot cut it (linux/virtio_net.h). */
static const char *impossible(const struct kind *kind)
{
    if (kind->gso_type == NETRING_GSO_UDP_L4 && kernel < 0x060200)
        return "Linux 6.2";
    return NULL;
}

static struct netring_injector *open_vnet(const struct method *method)
{
    struct netring_injector_config config = inject_config(method->method, 16);

    config.flags = NETRING_INJECTOR_VNET_HEADER;
    return injector_open("va", &config);
}

/* The most that fits an IP packet, and sizes around the segments'. */
static void test_super(const struct method *method, struct sink *sink)
{
    struct netring_injector *injector = open_vnet(method);

    for (size_t k = 0; k < KINDS; k++) {
        const struct kind *kind = &kinds[k];
        size_t headers = kind_headers(kind);
        size_t most = 65535 - (headers - (kind->six ? kind_transport(kind) : kind_network(kind)));
        const size_t payloads[] = {most, 3 * 1400, 3 * 1400 + 1, 1401, 2 * 1400 - 1};

        if (impossible(kind)) {
            tap_skip(kind->name, impossible(kind));
            continue;
        }
        for (size_t i = 0; i < COUNT(payloads); i++) {
            struct netring_slot slot;
            size_t length = kind_make(packet, kind, payloads[i], (uint32_t)(k * 10 + i));
            uint16_t gso_size = i == 0 ? 1360 : 1400;

            must_reserve(injector, &slot, 1);
            memcpy(slot.data, packet, length);
            slot.len = (uint32_t)length;
            kind_vnet(kind, gso_size, &slot);
            if (i % 2)
                slot.hdr_len = 0; /* a hint */
            must_commit(injector, &slot, 1);
            is_int(netring_injector_flush(injector), 1, "%s: %s: handed over", method->name,
                   kind->name);
            sink_is_cut(sink, packet, length, kind, gso_size, method->name);
        }
    }
    sink_is_empty(sink, method->name);
    drains(injector, method->name);
    is_int(injector_stats(injector).refused, 0, "%s: none was refused", method->name);
    adds_up(injector, method->name);
    injector_close(injector);
}

/* CWR stays with the first segment. */
static void test_ecn(const struct method *method, struct sink *sink)
{
    struct netring_injector *injector = open_vnet(method);
    struct netring_slot slot;
    size_t length = kind_make(packet, &kinds[0], 5000, 3);

    packet[kind_transport(&kinds[0]) + 13] |= 0x80;
    must_reserve(injector, &slot, 1);
    memcpy(slot.data, packet, length);
    slot.len = (uint32_t)length;
    kind_vnet(&kinds[0], 1000, &slot);
    slot.gso_type |= NETRING_GSO_ECN;
    must_commit(injector, &slot, 1);
    netring_injector_flush(injector);
    sink_is_cut(sink, packet, length, &kinds[0], 1000, "ECN");
    injector_close(injector);
}

/* Packets as large as on the wire, by copy and in one batch; some with nothing left to do. */
static void test_checksum(const struct method *method, struct sink *sink)
{
    struct netring_injector *injector = open_vnet(method);
    static uint8_t frames[KINDS][1600];
    struct netring_frame batch[KINDS];

    memset(batch, 0, sizeof batch);
    for (size_t k = 0; k < KINDS; k++) {
        struct netring_slot slot = {.len = 0};

        kind_vnet(&kinds[k], 0, &slot);
        batch[k].data = frames[k];
        batch[k].len = (uint32_t)kind_make(frames[k], &kinds[k], 100 * k + k % 2, (uint32_t)k);
        batch[k].vnet_flags = slot.vnet_flags;
        batch[k].csum_start = slot.csum_start;
        batch[k].csum_offset = slot.csum_offset;
    }
    is_int(netring_injector_send_batch(injector, batch, sizeof *batch, COUNT(batch), 1000),
           COUNT(batch), "%s: a batch", method->name);
    for (size_t k = 0; k < KINDS; k++)
        sink_is_cut(sink, frames[k], batch[k].len, &kinds[k], 0, method->name);
    for (uint32_t i = 0; i < 20; i++) {
        uint8_t frame[FRAME_MAX];
        uint32_t length = stream_make(frame, i);

        is_int(netring_injector_send(injector, frame, length, 1000), 1, "%s: as it is",
               method->name);
    }
    sink_is_stream(sink, 0, 20, method->name);
    injector_close(injector);
}

/* What only the kernel can judge. */
static void test_refused(const struct method *method, struct sink *sink)
{
    struct netring_injector *injector = open_vnet(method);
    struct netring_slot slots[9];
    struct netring_result results[9];
    uint8_t frame[2000];
    size_t length = kind_make(frame, &kinds[0], 1300, 1);
    int got;

    must_reserve(injector, slots, COUNT(slots));
    for (size_t i = 0; i < COUNT(slots); i++) {
        memcpy(slots[i].data, frame, length);
        slots[i].len = (uint32_t)length;
        kind_vnet(&kinds[0], 500, &slots[i]);
    }
    slots[1].gso_type = 0x66;              /* no such kind */
    slots[2].gso_type = NETRING_GSO_ECN;   /* nor that alone */
    slots[4].gso_type = NETRING_GSO_TCPV6; /* that is another protocol */
    slots[4].data[12] = 0x86;
    slots[4].data[13] = 0xdd;
    slots[4].csum_start = 1300; /* and no place for its header */
    slots[4].csum_offset = 0;
    slots[4].len = 1302;
    slots[7].gso_type = 0x7f;
    must_commit(injector, slots, COUNT(slots));
    netring_injector_flush(injector);
    for (size_t i = 0; i < COUNT(slots); i++) {
        if (i == 0 || i == 3 || i == 5 || i == 6 || i == 8)
            sink_is_cut(sink, frame, length, &kinds[0], 500, "between refused ones");
    }
    sink_is_empty(sink, "refused");
    drains(injector, "refused");
    got = netring_injector_results(injector, results, sizeof *results, COUNT(results));
    if (is_int(got, 4, "%s: results", method->name)) {
        static const size_t which[] = {1, 2, 4, 7};

        for (size_t i = 0; i < 4; i++) {
            is_int(results[i].cookie, slots[which[i]].cookie, "%s: of the refused", method->name);
            is_int(results[i].code, NETRING_EINVAL, "%s: the code", method->name);
            is_int(results[i].os_errno, 22, "%s: the kernel's words", method->name);
        }
    }
    adds_up(injector, "refused");
    injector_close(injector);
}

/* What can be judged before, names what is wrong. */
static void test_commit(void)
{
    struct netring_injector *injector = open_vnet(&methods[2]);
    struct netring_slot good, slot;
    struct netring_error error;
    const struct {
        const char *words;
        uint8_t flags, gso_type;
        uint16_t hdr_len, gso_size, csum_start, csum_offset;
    } bad[] = {
        {"vnet_flags 0x4", 4, 0, 0, 0, 0, 0},
        {"csum_start 90 and csum_offset 9", 1, 0, 0, 0, 90, 9},
        {"hdr_len 101", 0, 1, 101, 10, 0, 0},
        {"gso_size 10", 0, 0, 0, 10, 0, 0},
        {"gso_type 1", 0, 1, 0, 0, 0, 0},
    };

    must_reserve(injector, &good, 1);
    frame_make(good.data, 100, 1);
    good.len = 100;
    for (size_t i = 0; i < COUNT(bad); i++) {
        slot = good;
        slot.vnet_flags = bad[i].flags;
        slot.gso_type = bad[i].gso_type;
        slot.hdr_len = bad[i].hdr_len;
        slot.gso_size = bad[i].gso_size;
        slot.csum_start = bad[i].csum_start;
        slot.csum_offset = bad[i].csum_offset;
        is_int(netring_injector_commit(injector, &slot, sizeof slot, 1), NETRING_EINVAL, "%s",
               bad[i].words);
        netring_injector_last_error(injector, &error);
        is_str(error.option, "vnet", "%s: the option", bad[i].words);
        is_str_contains(error.message, bad[i].words, "the message");
    }
    must_commit(injector, &good, 1);
    injector_close(injector);
}

int main(void)
{
    struct netring_injector *injector;
    struct sink sink;

    tap_begin(60);
    net_enter();
    net_veth("va", "vb");
    net_await_carrier("va");
    offloads_off("va");
    sink_open(&sink, "vb");
    injector = open_vnet(&methods[2]);
    kernel = injector_info(injector).kernel_version;
    is_int(injector_info(injector).method, NETRING_METHOD_SENDMMSG, "on veth they are copied");
    ok(injector_info(injector).slot_size >= SUPER_MAX - 2048, "a slot holds 64 KiB and headers");
    injector_close(injector);
    for (size_t i = 0; i < 2; i++) {
        test_super(&methods[i], &sink);
        test_ecn(&methods[i], &sink);
        test_checksum(&methods[i], &sink);
        test_refused(&methods[i], &sink);
    }
    test_commit();
    is_int(sink_drops(&sink), 0, "the receiver had room");
    sink_close(&sink);
    return tap_end();
}
