/* Real frames: every frame of a savefile is sent over veth and must arrive byte for byte, once the
 * VLAN tags that the kernel took out are put back, whether plain sends or an injector sent it;
 * where libpcap is installed, as libpcap's own capture of the same traffic has it; and written to
 * savefiles again as it was. NETRING_CORPUS names the savefile. */
#include "inject.h"
#include "savefile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define CORPUS "../shared/corpus/ethernet.pcap"

/* ---- the savefile ---- */

struct frames {
    size_t count, room;
    struct frame {
        size_t length;
        uint8_t *data;
    } * v;
};

static uint32_t little(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t big(const uint8_t *at)
{
    return at[3] | (uint32_t)at[2] << 8 | (uint32_t)at[1] << 16 | (uint32_t)at[0] << 24;
}

static bool is_magic(uint32_t number)
{
    return number == 0xa1b2c3d4 || number == 0xa1b23c4d;
}

static void add_frame(struct frames *frames, FILE *file, size_t length)
{
    struct frame *frame;

    if (frames->count == frames->room) {
        frames->room = frames->room ? 2 * frames->room : 1024;
        frames->v = realloc(frames->v, frames->room * sizeof *frames->v);
        if (!frames->v)
            tap_bail("out of memory");
    }
    frame = &frames->v[frames->count++];
    frame->length = length;
    frame->data = malloc(length + 1);
    if (!frame->data || fread(frame->data, 1, length, file) != length)
        tap_bail("frame %zu of the savefile cannot be read", frames->count);
}

static struct frames read_savefile(const char *path)
{
    struct frames frames = {0, 0, NULL};
    FILE *file = fopen(path, "re");
    uint8_t header[24], record[16];
    uint32_t (*number)(const uint8_t *);

    if (!file)
        tap_skip_all("no savefile %s: %s (NETRING_CORPUS names another)", path, strerror(errno));
    if (fread(header, sizeof header, 1, file) != 1)
        tap_bail("%s is no savefile", path);
    number = is_magic(little(header)) ? little : big;
    if (!is_magic(number(header)) || number(header + 20) != 1)
        tap_bail("%s is no savefile of Ethernet frames", path);
    while (fread(record, sizeof record, 1, file) == 1)
        add_frame(&frames, file, number(record + 8));
    fclose(file);
    return frames;
}

static void frames_free(struct frames *frames)
{
    for (size_t i = 0; i < frames->count; i++)
        free(frames->v[i].data);
    free(frames->v);
}

/* ---- libpcap, where it is ---- */

/* As in <pcap/pcap.h>, which need not be installed. */
struct pcap_header {
    struct timeval time;
    uint32_t caplen, len;
};

static struct {
    void *(*create)(const char *interface, char *error);
    int (*set_snaplen)(void *pcap, int bytes);
    int (*set_timeout)(void *pcap, int milliseconds);
    int (*set_buffer_size)(void *pcap, int bytes);
    int (*activate)(void *pcap);
    int (*next_ex)(void *pcap, struct pcap_header **header, const uint8_t **data);
    void (*close)(void *pcap);
} pcap;

static const char *load_libpcap(void)
{
    void *library = libpcap_open();

    if (!library)
        return "libpcap is not installed";
    if (!library_find(library, "pcap_create", &pcap.create) ||
        !library_find(library, "pcap_set_snaplen", &pcap.set_snaplen) ||
        !library_find(library, "pcap_set_timeout", &pcap.set_timeout) ||
        !library_find(library, "pcap_set_buffer_size", &pcap.set_buffer_size) ||
        !library_find(library, "pcap_activate", &pcap.activate) ||
        !library_find(library, "pcap_next_ex", &pcap.next_ex) ||
        !library_find(library, "pcap_close", &pcap.close))
        return "this libpcap is too old";
    return NULL;
}

static void *open_libpcap(const char **reason)
{
    char error[256];
    void *handle;

    *reason = load_libpcap();
    if (*reason)
        return NULL;
    handle = pcap.create("vb", error);
    if (!handle || pcap.set_snaplen(handle, 65535) != 0 || pcap.set_timeout(handle, 20) != 0 ||
        pcap.set_buffer_size(handle, 8 * MIB) != 0 || pcap.activate(handle) < 0)
        *reason = "libpcap cannot capture here";
    return *reason ? NULL : handle;
}

/* One check: libpcap's packets are the frames. */
static void is_like_libpcap(void *handle, const struct frames *frames)
{
    struct pcap_header *header;
    const uint8_t *data;
    size_t count = 0, unlike = 0;
    int64_t end = now_ms() + tap_patience(2000);
    int rc = 0;

    while (count < frames->count && now_ms() < end &&
           (rc = pcap.next_ex(handle, &header, &data)) >= 0) {
        const struct frame *frame = &frames->v[count];

        if (rc == 0)
            continue;
        unlike += header->caplen != frame->length || header->len != frame->length ||
                  memcmp(data, frame->data, frame->length) != 0;
        count++;
    }
    is_int(count, frames->count, "libpcap captures as many");
    is_int(unlike, 0, "and the same bytes");
}

/* ---- the comparison ---- */

static void is_like_sent(const struct records *records, const struct frames *frames)
{
    size_t unlike = 0, tagged = 0;

    if (!is_int(records->count, frames->count, "all frames arrive"))
        return;
    for (size_t i = 0; i < frames->count; i++) {
        const struct netring_packet *packet = &records->v[i].packet;
        const struct frame *frame = &frames->v[i];
        uint8_t restored[FRAME_MAX];
        bool tag = packet->status & NETRING_PACKET_VLAN;

        tagged += tag;
        if (packet->caplen != packet->len || packet->len + (tag ? 4 : 0) != frame->length ||
            frame_restore(packet, restored) != frame->length ||
            memcmp(restored, frame->data, frame->length) != 0) {
            if (unlike++ == 0)
                tap_diag("frame %zu: %u bytes received, %zu sent", i + 1, packet->len,
                         frame->length);
        }
    }
    is_int(unlike, 0, "byte for byte, in order");
    tap_diag("%zu frames, %zu of them with a VLAN tag", frames->count, tagged);
}

/* Written again: the file's frames, in both formats. */
static void is_written_again(const struct records *records, const struct frames *frames)
{
    char path[] = "/tmp/netring-corpus-XXXXXX";
    struct netring_packet *packets = calloc(records->count + 1, sizeof *packets);
    int fd = mkstemp(path);

    if (fd < 0 || !packets)
        tap_bail("%s: %s", path, strerror(errno));
    for (size_t i = 0; i < records->count; i++)
        packets[i] = records->v[i].packet;
    for (uint32_t format = 1; format <= 2; format++) {
        const char *name = format == NETRING_SAVEFILE_PCAP ? "pcap" : "pcapng";
        struct netring_writer_config config = NETRING_WRITER_CONFIG_INIT;
        struct netring_writer *writer;
        struct savefile file;
        size_t unlike = 0;

        config.format = format;
        if (netring_writer_open(path, &config, &writer, NULL) != 0 ||
            netring_writer_add_interface(writer, "vb", NETRING_LINKTYPE_ETHERNET, 0, NULL) != 0)
            tap_bail("no writer");
        is_int(netring_writer_write(writer, 0, packets, sizeof *packets, records->count),
               records->count, "%s: all are written", name);
        is_int(netring_writer_close(writer, NULL), 0, "%s: and the end", name);
        file = savefile_read(path);
        if (is_savefile(&file, frames->count, name))
            for (size_t i = 0; i < frames->count; i++)
                unlike += file.packet[i].caplen != frames->v[i].length ||
                          file.packet[i].len != frames->v[i].length ||
                          memcmp(file.packet[i].data, frames->v[i].data, frames->v[i].length) != 0;
        is_int(unlike, 0, "%s: the frames as they were", name);
        is_read_by_others(path, &file, name);
        savefile_free(&file);
    }
    close(fd);
    unlink(path);
    free(packets);
}

/* In batches of any size, every fourth by copy. A window of them, so that no ring overflows. */
static void sent_by_injector(const struct method *method, const struct frames *frames)
{
    struct netring_injector_config config = inject_config(method->method, 128);
    struct netring_injector *injector = injector_open("va", &config);
    struct netring_capture_config receiver = small_config();
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    size_t sent = 0, batch = 1;

    receiver.block_count = 64;
    capture = capture_open("vb", &receiver);
    for (; sent < frames->count; batch = batch % 57 + 8) {
        struct netring_slot slots[64];
        size_t want = frames->count - sent < batch ? frames->count - sent : batch;
        int got = 1;

        if (batch % 4 == 0) {
            got = netring_injector_send(injector, frames->v[sent].data, frames->v[sent].length,
                                        (int)tap_patience(2000));
        } else {
            got = netring_injector_reserve(injector, slots, sizeof *slots, want,
                                           (int)tap_patience(2000));
            for (int i = 0; i < got; i++) {
                const struct frame *frame = &frames->v[sent + (size_t)i];

                memcpy(slots[i].data, frame->data, frame->length);
                slots[i].len = (uint32_t)frame->length;
            }
            if (got > 0)
                must_commit(injector, slots, (size_t)got);
            netring_injector_flush(injector);
        }
        if (got <= 0)
            tap_bail("%s: frame %zu: %s", method->name, sent, netring_err_name(got));
        sent += (size_t)got;
        if (netring_injector_drain(injector, (int)tap_patience(5000)) != 1)
            tap_bail("%s: frame %zu does not leave", method->name, sent);
        await_seen(capture, sent);
    }
    receive(capture, frames->count, 1000, &records);
    is_like_sent(&records, frames);
    is_int(injector_stats(injector).handed, frames->count, "%s: the corpus, frame by frame",
           method->name);
    adds_up(injector, method->name);
    capture_close(capture);
    injector_close(injector);
    records_free(&records);
}

int main(void)
{
    const char *path = getenv("NETRING_CORPUS"), *reason;
    struct netring_capture_config config;
    struct netring_capture *capture;
    struct records records = {0, 0, NULL};
    struct frames frames;
    void *handle;
    int sender;

    tap_begin(30);
    frames = read_savefile(path ? path : CORPUS);
    net_enter();
    net_veth("va", "vb");
    sender = net_sender("va");
    handle = open_libpcap(&reason);
    config = small_config();
    config.block_count = 64;
    capture = capture_open("vb", &config);
    for (size_t i = 0; i < frames.count; i++)
        net_send(sender, frames.v[i].data, frames.v[i].length);
    receive(capture, frames.count, 1000, &records);
    is_like_sent(&records, &frames);
    is_int(capture_stats(capture).dropped, 0, "none dropped");
    if (handle) {
        is_like_libpcap(handle, &frames);
        pcap.close(handle);
    } else {
        tap_skip("libpcap's capture of the same", reason);
    }
    capture_close(capture);
    is_written_again(&records, &frames);
    for (size_t i = 0; i < COUNT(methods); i++)
        sent_by_injector(&methods[i], &frames);
    records_free(&records);
    frames_free(&frames);
    return tap_end();
}
