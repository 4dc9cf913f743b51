#include "support.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <netring_inline.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- time ---- */

uint32_t kernel_version(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0, patch = 0;

    if (uname(&name) != 0 || sscanf(name.release, "%u.%u.%u", &major, &minor, &patch) < 2)
        tap_bail("uname");
    return major << 16 | minor << 8 | (patch > 255 ? 255 : patch);
}

int64_t clock_ns(int clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t now_ms(void)
{
    return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

void sleep_ms(long milliseconds)
{
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};

    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

/* ---- frames ---- */

static uint8_t pattern(uint32_t number, size_t place)
{
    return (uint8_t)((number * 131u + (uint32_t)place * 7u) ^ (place >> 5));
}

size_t frame_make(uint8_t *frame, size_t length, uint32_t number)
{
    static const uint8_t header[ETHER_HEADER] = {
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ETHERTYPE_TEST >> 8, ETHERTYPE_TEST & 0xff};

    for (size_t i = ETHER_HEADER; i < length; i++)
        frame[i] = pattern(number, i);
    memcpy(frame, header, ETHER_HEADER);
    if (length >= FRAME_NUMBERED) {
        for (int i = 0; i < 4; i++)
            frame[ETHER_HEADER + i] = (uint8_t)(number >> (24 - 8 * i));
    }
    return length;
}

uint32_t frame_number(const uint8_t *frame)
{
    const uint8_t *at = frame + ETHER_HEADER;

    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

size_t frame_mixed(uint32_t number, size_t low, size_t high)
{
    return low + number * 2654435761u % (high - low + 1);
}

size_t frame_tag(uint8_t *frame, size_t length, uint16_t tpid, uint16_t tci)
{
    uint8_t tag[4] = {(uint8_t)(tpid >> 8), (uint8_t)tpid, (uint8_t)(tci >> 8), (uint8_t)tci};

    memmove(frame + 16, frame + 12, length - 12);
    memcpy(frame + 12, tag, 4);
    return length + 4;
}

size_t frame_restore(const struct netring_packet *packet, uint8_t *frame)
{
    uint16_t tpid = packet->status & NETRING_PACKET_VLAN_TPID ? packet->vlan_tpid : 0x8100;

    memcpy(frame, packet->data, packet->caplen);
    if (!(packet->status & NETRING_PACKET_VLAN) || packet->caplen < 12)
        return packet->caplen;
    return frame_tag(frame, packet->caplen, tpid, packet->vlan_tci);
}

void send_frames(int sender, uint32_t first, uint32_t count, size_t length)
{
    uint8_t frame[FRAME_MAX];

    for (uint32_t i = 0; i < count; i++)
        net_send(sender, frame, frame_make(frame, length, first + i));
}

/* ---- captures ---- */

struct netring_capture_config small_config(void)
{
    struct netring_capture_config config;

    if (netring_capture_config_init(&config, sizeof config) != 0)
        tap_bail("netring_capture_config_init failed");
    config.block_size = 64 * KIB;
    config.block_count = 16;
    config.block_timeout = 10;
    return config;
}

struct netring_capture_config page_config(uint32_t count)
{
    struct netring_capture_config config = small_config();

    config.block_size = (uint32_t)getpagesize();
    config.block_count = count;
    config.block_timeout = 0;
    return config;
}

struct netring_capture *capture_open(const char *interface,
                                     const struct netring_capture_config *config)
{
    struct netring_capture *capture = NULL;
    struct netring_error error;
    int rc;

    errno = ENOTTY;
    rc = netring_capture_open(interface, config, &capture, &error);
    if (rc < 0)
        tap_bail("opening %s: %s (%s: %s)", interface, netring_err_name(rc), error.option,
                 error.message);
    if (rc != 0 || !capture || errno != ENOTTY)
        ok(false, "opening %s returns 0 and a handle and leaves errno alone", interface);
    return capture;
}

void capture_close(struct netring_capture *capture)
{
    int rc = netring_capture_close(capture);

    if (rc != 0)
        is_int(rc, 0, "netring_capture_close");
}

struct netring_stats capture_stats(struct netring_capture *capture)
{
    struct netring_stats stats;
    int rc = netring_capture_stats(capture, &stats, sizeof stats);

    if (rc != 0)
        tap_bail("netring_capture_stats: %s", netring_err_name(rc));
    return stats;
}

struct netring_capture_info capture_info(struct netring_capture *capture)
{
    struct netring_capture_info info;
    int rc = netring_capture_info(capture, &info, sizeof info);

    if (rc != 0)
        tap_bail("netring_capture_info: %s", netring_err_name(rc));
    return info;
}

uint32_t frames_per_page(size_t length)
{
    enum { BLOCK_HEADER = 48, RECORD_HEADER = 82 };
    size_t room = (size_t)getpagesize() - BLOCK_HEADER, need = (RECORD_HEADER + length + 7) / 8 * 8;
    uint32_t count = 0;

    /* The kernel wants a byte to spare after every record. */
    for (; room > need; room -= need)
        count++;
    return count;
}

struct netring_block *block_of(struct netring_capture *capture, int sender, uint32_t first,
                               uint32_t count, size_t length)
{
    struct netring_block *block = NULL;
    struct netring_block_info info;
    uint64_t before = capture_stats(capture).seen;
    int rc;

    send_frames(sender, first, count, length);
    await_seen(capture, before + count);
    rc = netring_capture_flush(capture);
    if (rc != 0)
        tap_bail("netring_capture_flush: %s", netring_err_name(rc));
    rc = netring_capture_next_block(capture, 1000, &block);
    if (rc != 1 || netring_block_info(block, &info, sizeof info) != 0 || info.count != count)
        tap_bail("no block with %u packets (%s)", count, netring_err_name(rc));
    return block;
}

void await_seen(struct netring_capture *capture, uint64_t count)
{
    int64_t end = now_ms() + tap_patience(1000);
    uint64_t seen;

    while ((seen = capture_stats(capture).seen) < count) {
        if (now_ms() > end)
            tap_bail("%llu of %llu packets seen", (unsigned long long)seen,
                     (unsigned long long)count);
        sleep_ms(1);
    }
}

void await_ready(struct netring_capture *capture, uint64_t count)
{
    int64_t end = now_ms() + tap_patience(1000);
    uint64_t ready;

    while ((ready = capture_stats(capture).blocks_ready) < count) {
        if (now_ms() > end)
            tap_bail("%llu of %llu blocks ready", (unsigned long long)ready,
                     (unsigned long long)count);
        sleep_ms(1);
    }
}

/* ---- waits ---- */

static int wait_next_block(struct netring_capture *capture, int timeout_ms)
{
    struct netring_block *block;

    return netring_capture_next_block(capture, timeout_ms, &block);
}

static int wait_next_packet(struct netring_capture *capture, int timeout_ms)
{
    struct netring_packet packet;

    return netring_capture_next_packet(capture, timeout_ms, &packet, sizeof packet);
}

static int ignore_packets(void *user, const struct netring_packet *packets, size_t count,
                          size_t size)
{
    (void)user, (void)packets, (void)count, (void)size;
    return 0;
}

static int wait_dispatch(struct netring_capture *capture, int timeout_ms)
{
    return netring_capture_dispatch(capture, timeout_ms, 0, ignore_packets, NULL);
}

const struct wait_kind wait_kinds[3] = {
    {"next_block", wait_next_block},
    {"next_packet", wait_next_packet},
    {"dispatch", wait_dispatch},
};

static void *waiting(void *user)
{
    struct waiter *waiter = user;

    errno = 0;
    waiter->rc = waiter->kind->call(waiter->capture, -1);
    waiter->error_number = errno;
    waiter->ended = now_ms();
    return NULL;
}

void waiter_start(struct waiter *waiter, const struct wait_kind *kind,
                  struct netring_capture *capture)
{
    waiter->kind = kind;
    waiter->capture = capture;
    if (pthread_create(&waiter->thread, NULL, waiting, waiter) != 0)
        tap_bail("pthread_create failed");
    sleep_ms(50); /* until it waits */
}

void waiter_ends(struct waiter *waiter, int code, int64_t since, const char *why)
{
    pthread_join(waiter->thread, NULL);
    is_str(netring_err_name(waiter->rc), netring_err_name(code), "%s while a thread is in %s", why,
           waiter->kind->name);
    is_int(waiter->error_number, code < 0 ? natural_errno(code) : 0, "%s, %s: errno", why,
           waiter->kind->name);
    is_between(waiter->ended - since, 0, tap_patience(5000), "%s, %s: soon", why,
               waiter->kind->name);
}

/* ---- copies of received packets ---- */

void records_add(struct records *records, const struct netring_packet *packet)
{
    struct record *record;

    if (records->count == records->room) {
        records->room = records->room ? 2 * records->room : 64;
        records->v = realloc(records->v, records->room * sizeof *records->v);
        if (!records->v)
            tap_bail("out of memory");
    }
    record = &records->v[records->count++];
    record->packet = *packet;
    record->packet.data = malloc(packet->caplen ? packet->caplen : 1);
    if (!record->packet.data)
        tap_bail("out of memory");
    memcpy(record->packet.data, packet->data, packet->caplen);
}

void records_free(struct records *records)
{
    for (size_t i = 0; i < records->count; i++)
        free(records->v[i].packet.data);
    free(records->v);
    memset(records, 0, sizeof *records);
}

void block_records(struct netring_block *block, size_t batch, struct records *records)
{
    struct netring_packet *packets = calloc(batch, sizeof *packets);
    int n;

    if (!packets)
        tap_bail("out of memory");
    errno = ENOTTY;
    while ((n = netring_block_read(block, packets, sizeof *packets, batch)) > 0) {
        for (int i = 0; i < n; i++)
            records_add(records, &packets[i]);
    }
    if (n != 0 || errno != ENOTTY)
        ok(false, "netring_block_read ends with 0 and leaves errno alone (%d, errno %d)", n, errno);
    free(packets);
}

static unsigned unlike_inline(struct netring_block *block)
{
    struct netring_cursor cursor;
    struct netring_packet read, walked;
    struct netring_vnet one, other;
    unsigned unlike = 0;

    netring_block_rewind(block);
    netring_cursor_init(&cursor, block);
    while (netring_cursor_next(&cursor)) {
        netring_cursor_packet(&cursor, &walked);
        unlike += netring_block_read(block, &read, sizeof read, 1) != 1 ||
                  memcmp(&read, &walked, sizeof read) != 0 ||
                  netring_block_vnet(block, read.cookie, &one, sizeof one) !=
                      netring_cursor_vnet(&cursor, &other) ||
                  memcmp(&one, &other, sizeof one) != 0;
    }
    return unlike + (netring_block_read(block, &read, sizeof read, 1) != 0);
}

void receive_both_ways(struct netring_capture *capture, size_t want, int timeout_ms,
                       struct records *records, const char *what)
{
    struct netring_block *block;
    unsigned unlike = 0;

    while (records->count < want && netring_capture_next_block(capture, timeout_ms, &block) == 1) {
        block_records(block, 64, records);
        unlike += unlike_inline(block);
        netring_block_release(block);
    }
    is_int(unlike, 0, "%s: the inline walk tells the same", what);
}

int receive(struct netring_capture *capture, size_t want, int timeout_ms, struct records *records)
{
    struct netring_block *block;
    int rc = 1, released;

    while (records->count < want) {
        rc = netring_capture_next_block(capture, timeout_ms, &block);
        if (rc != 1)
            break;
        block_records(block, 64, records);
        released = netring_block_release(block);
        if (released != 0)
            is_int(released, 0, "netring_block_release");
    }
    return rc;
}

bool is_frames(const struct records *records, uint32_t first, uint32_t count, size_t low,
               size_t high, const char *what)
{
    uint8_t frame[FRAME_MAX];

    if (records->count != count)
        return is_int(records->count, count, "%s: as many as were sent", what);
    for (uint32_t i = 0; i < count; i++) {
        const struct netring_packet *got = &records->v[i].packet;
        size_t length = frame_make(frame, frame_mixed(first + i, low, high), first + i);

        if (got->len != length || got->caplen != length || memcmp(got->data, frame, length) != 0)
            return ok(false, "%s: frame %u of %u (%u of %u bytes, sent %zu)", what, i, count,
                      got->caplen, got->len, length);
    }
    return ok(true, "%s: %u frames in order, byte for byte", what, count);
}

/* ---- children ---- */

static int child_status(void (*job)(void *user), void *user)
{
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child < 0)
        tap_bail("fork: %s", strerror(errno));
    if (child == 0) {
        alarm((unsigned)(tap_patience(10000) / 1000));
        job(user);
        fflush(stdout);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            tap_bail("waitpid: %s", strerror(errno));
    }
    return status;
}

int child_run(const char *what, void (*job)(void *user), void *user)
{
    int status = child_status(job, user);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        ok(false, "%s: the child came to its end (wait status 0x%x)", what, (unsigned)status);
    return status;
}

void child_killed(const char *what, int signal, void (*job)(void *user), void *user)
{
    int status = child_status(job, user);

    ok(WIFSIGNALED(status) && WTERMSIG(status) == signal, "%s: ended by %s (wait status 0x%x)",
       what, strsignal(signal), (unsigned)status);
}

void keep_capabilities(uint64_t mask)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    for (int i = 0; i < 2; i++) {
        data[i].effective = data[i].permitted = (uint32_t)(mask >> (32 * i));
        data[i].inheritable = 0;
    }
    if (syscall(SYS_capset, &head, data) != 0)
        tap_bail("capset: %s", strerror(errno));
}

static uint32_t low_half_of(int argument)
{
    size_t place = offsetof(struct seccomp_data, args) + (size_t)argument * 8;

    return (uint32_t)place + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0);
}

void refuse(const struct refusal *refusal)
{
    enum { LOAD = BPF_LD | BPF_W | BPF_ABS, EQUAL = BPF_JMP | BPF_JEQ | BPF_K };
    struct sock_filter code[3 + 3 * COUNT(refusal->conditions) + 2];
    size_t n = 0, allow = 2 + 3 * refusal->count + 1;
    struct sock_fprog program;

    code[n++] = (struct sock_filter)BPF_STMT(LOAD, offsetof(struct seccomp_data, nr));
    code[n++] = (struct sock_filter)BPF_JUMP(EQUAL, (uint32_t)refusal->call, 0, allow - 2);
    for (size_t i = 0; i < refusal->count; i++) {
        const struct condition *c = &refusal->conditions[i];
        uint8_t skip = (uint8_t)(allow - n - 3);

        code[n++] = (struct sock_filter)BPF_STMT(LOAD, low_half_of(c->argument));
        code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, c->mask);
        code[n++] = (struct sock_filter)BPF_JUMP(EQUAL, c->value, c->differs ? skip : 0,
                                                 c->differs ? 0 : skip);
    }
    code[n++] = (struct sock_filter)BPF_STMT(
        BPF_RET | BPF_K,
        refusal->error ? SECCOMP_RET_ERRNO | (uint32_t)refusal->error : SECCOMP_RET_KILL_PROCESS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    program = (struct sock_fprog){.len = (unsigned short)n, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        tap_bail("seccomp: %s", strerror(errno));
}

/* ---- what a process holds ---- */

struct footprint footprint_now(void)
{
    struct footprint footprint = {0, 0};
    DIR *files = opendir("/proc/self/fd");
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];

    if (!files || !maps)
        tap_bail("/proc/self: %s", strerror(errno));
    while (readdir(files))
        footprint.descriptors++;
    while (fgets(line, sizeof line, maps))
        footprint.mappings += strstr(line, "socket:") != NULL;
    closedir(files);
    fclose(maps);
#ifdef __SANITIZE_THREAD__
    footprint.descriptors = 0; /* the sanitizer opens its own at any time */
#endif
    return footprint;
}

void is_footprint(struct footprint before, const char *what)
{
    struct footprint now = footprint_now();

    ok(now.descriptors == before.descriptors && now.mappings == before.mappings,
       "%s: leaves no file and no mapping (files %d, were %d; mappings %d, were %d)", what,
       now.descriptors, before.descriptors, now.mappings, before.mappings);
}

/* ---- libpcap, for comparison ---- */

void *libpcap_open(void)
{
    static const char *const names[] = {"libpcap.so.1", "libpcap.so.0.8", "libpcap.so"};
    static void *library;

    for (size_t i = 0; i < COUNT(names) && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

bool library_find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);

    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* ---- errors ---- */

int natural_errno(int code)
{
    switch (code) {
    case NETRING_EWAKEUP:
        return EINTR;
    case NETRING_EFILTER:
    case NETRING_EXDP:
        return EINVAL;
    case NETRING_EPANIC:
        return EIO;
    default:
        return -code;
    }
}

static bool whole_text(const char *text, size_t size)
{
    const char *end = memchr(text, 0, size);

    for (; end && end < text + size; end++) {
        if (*end)
            return false;
    }
    return end != NULL;
}

static bool reserved_zero(const struct netring_error *error)
{
    for (size_t i = 0; i < COUNT(error->reserved); i++) {
        if (error->reserved[i])
            return false;
    }
    return true;
}

void error_spoil(struct netring_error *error)
{
    memset(error, 0xa5, sizeof *error);
}

void is_failure(int rc, int error_number, const struct netring_error *error,
                const struct failure *want, const char *what)
{
    is_str(netring_err_name(rc), netring_err_name(want->code), "%s: returned code", what);
    is_int(error_number, want->os_errno ? want->os_errno : natural_errno(want->code), "%s: errno",
           what);
    is_int(error->code, want->code, "%s: code", what);
    if (want->os_errno || (error->os_errno != 0 && error->os_errno != natural_errno(want->code)))
        is_int(error->os_errno, want->os_errno, "%s: os_errno", what);
    ok(whole_text(error->option, sizeof error->option) &&
           whole_text(error->message, sizeof error->message) && reserved_zero(error),
       "%s: the struct is written to its end", what);
    if (want->option)
        is_str(error->option, want->option, "%s: option", what);
    for (size_t i = 0; i < COUNT(want->words) && want->words[i]; i++)
        is_str_contains(error->message, want->words[i], "%s: message", what);
}

void is_no_error(const struct netring_error *error, const char *what)
{
    ok(error->code == 0 && error->os_errno == 0 && reserved_zero(error) &&
           whole_text(error->option, sizeof error->option) &&
           whole_text(error->message, sizeof error->message),
       "%s: success writes the whole error struct", what);
}

void open_fails(const char *what, const char *interface,
                const struct netring_capture_config *config, const struct failure *want)
{
    struct footprint before = footprint_now();
    struct netring_capture *capture = NULL;
    struct netring_error error;
    int rc, error_number;

    error_spoil(&error);
    errno = 0;
    rc = netring_capture_open(interface, config, &capture, &error);
    error_number = errno;
    is_failure(rc, error_number, &error, want, what);
    is_int(netring_capture_open(interface, config, &capture, NULL), want->code,
           "%s: without an error struct", what);
    ok(capture == NULL, "%s: no handle", what);
    is_footprint(before, what);
}

struct netring_xdp *xdp_of_few(const char *interface)
{
    struct netring_xdp_config config = NETRING_XDP_CONFIG_INIT;
    struct netring_xdp *xdp = NULL;
    struct netring_error err;
    uint32_t queue = 0;

    config.redirect = NETRING_REDIRECT_NONE;
    config.flags = NETRING_XDP_NO_PROGRAM;
    config.mode = NETRING_MODE_SKB;
    config.rx_frames = config.tx_frames = 64;
    if (netring_xdp_open(interface, &queue, 1, &config, &xdp, &err) != 0)
        tap_bail("no AF_XDP socket: %s", err.message);
    return xdp;
}
