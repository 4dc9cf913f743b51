#include "faults.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Everything but what no call of ours answers for: memory of the heap and of threads, locks, and
 * close(2), which gives a descriptor back whatever it says. */
static int listen_to_all(size_t copy_length)
{
    enum {
        LOAD = BPF_LD | BPF_W | BPF_ABS,
        EQUAL = BPF_JMP | BPF_JEQ | BPF_K,
        HIGH = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0,
        DONTDUMP = 16,
    };
    static const long spared[] = {
        SYS_brk,
        SYS_munmap,
        SYS_mprotect,
        SYS_futex,
        SYS_exit,
        SYS_close,
        SYS_sched_yield,
        SYS_getrandom,
        SYS_rt_sigprocmask,
        SYS_rt_sigreturn,
        SYS_gettid,
        SYS_tgkill,
        SYS_getpid,
        SYS_exit_group,
        SYS_set_robust_list,
        SYS_sched_getaffinity,
        SYS_clock_gettime,
        SYS_clock_nanosleep,
        SYS_nanosleep,
    };
    struct sock_filter code[64];
    size_t n = 0;

#define EMIT(...) code[n++] = (struct sock_filter)__VA_ARGS__
#define ARGUMENT(number) (offsetof(struct seccomp_data, args) + 8 * (number) + HIGH)
    EMIT(BPF_STMT(LOAD, offsetof(struct seccomp_data, nr)));
    for (size_t i = 0; i < COUNT(spared); i++) {
        EMIT(BPF_JUMP(EQUAL, (uint32_t)spared[i], 0, 1));
        EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
    /* Anonymous mappings only where they are a copy of a block. */
    EMIT(BPF_JUMP(EQUAL, SYS_mmap, 0, 7));
    EMIT(BPF_STMT(LOAD, ARGUMENT(4)));
    EMIT(BPF_JUMP(EQUAL, UINT32_MAX, 1, 0));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    EMIT(BPF_STMT(LOAD, ARGUMENT(1)));
    EMIT(BPF_JUMP(EQUAL, (uint32_t)copy_length, 0, 1));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    EMIT(BPF_JUMP(EQUAL, SYS_mremap, 0, 4));
    EMIT(BPF_STMT(LOAD, ARGUMENT(1)));
    EMIT(BPF_JUMP(EQUAL, (uint32_t)copy_length, 0, 1));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    EMIT(BPF_JUMP(EQUAL, SYS_madvise, 0, 3));
    EMIT(BPF_STMT(LOAD, ARGUMENT(2)));
    EMIT(BPF_JUMP(EQUAL, DONTDUMP, 1, 0));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    if (n > COUNT(code))
        tap_bail("the filter does not fit");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                        &(struct sock_fprog){.len = (unsigned short)n, .filter = code});
}

static void *runs_job(void *user)
{
    struct injection *injection = user;
    int listener = listen_to_all(injection->copy_length);

    __atomic_store_n(&injection->listener, listener < 0 ? -2 : listener, __ATOMIC_RELEASE);
    if (listener < 0)
        return NULL;
    syscall(SYS_getppid); /* from here on */
    injection->job(injection->user);
    syscall(SYS_getppid); /* up to here */
    return NULL;
}

static int domain_of(const struct seccomp_data *call)
{
    int domain = 0;
    socklen_t size = sizeof domain;

    switch (call->nr) {
    case SYS_bind:
    case SYS_sendto:
    case SYS_recvfrom:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_recvmsg:
    case SYS_setsockopt:
    case SYS_getsockopt:
    case SYS_getsockname:
        getsockopt((int)call->args[0], SOL_SOCKET, SO_DOMAIN, &domain, &size);
        return domain;
    case SYS_socket:
        return (int)call->args[0];
    default:
        return 0;
    }
}

/* Counts a call; tells whether it is the one to fail. */
static bool counted(struct injection *injection, int number)
{
    if (injection->at < 0 && injection->calls < (int)COUNT(injection->numbers))
        injection->numbers[injection->calls] = number;
    return injection->calls++ == injection->at;
}

bool inject(struct injection *injection)
{
    struct pollfd wait = {.events = POLLIN};
    pthread_t thread;
    int phase = 0;

    injection->listener = -1;
    injection->calls = 0;
    memset(&injection->failed, 0, sizeof injection->failed);
    if (pthread_create(&thread, NULL, runs_job, injection) != 0)
        tap_bail("pthread_create failed");
    while ((wait.fd = __atomic_load_n(&injection->listener, __ATOMIC_ACQUIRE)) == -1)
        usleep(50);
    /* To the thread's very end, whatever it does there. */
    while (pthread_tryjoin_np(thread, NULL) != 0) {
        struct seccomp_notif request;
        struct seccomp_notif_resp answer;

        memset(&request, 0, sizeof request);
        memset(&answer, 0, sizeof answer);
        if (poll(&wait, 1, 1) <= 0 || !(wait.revents & POLLIN) ||
            ioctl(wait.fd, SECCOMP_IOCTL_NOTIF_RECV, &request) != 0)
            continue;
        answer.id = request.id;
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        if (request.data.nr == SYS_getppid) {
            phase++;
        } else if (phase == 1 && counted(injection, request.data.nr)) {
            answer.flags = 0;
            answer.error = -injection->error;
            injection->failed = request.data;
            injection->domain = domain_of(&request.data);
        }
        ioctl(wait.fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    if (wait.fd < 0)
        return false;
    close(wait.fd);
    return true;
}

const char *call_name(const struct seccomp_data *call)
{
    static const struct {
        long number;
        const char *name;
    } names[] = {
        {SYS_socket, "socket"},
        {SYS_ioctl, "ioctl"},
        {SYS_setsockopt, "setsockopt"},
        {SYS_getsockopt, "getsockopt"},
        {SYS_getsockname, "getsockname"},
        {SYS_bind, "bind"},
        {SYS_mmap, "mmap"},
        {SYS_mremap, "mremap"},
        {SYS_madvise, "madvise"},
        {SYS_epoll_create1, "epoll_create1"},
        {SYS_epoll_ctl, "epoll_ctl"},
        {SYS_epoll_pwait, "epoll_pwait"},
        {SYS_eventfd2, "eventfd2"},
        {SYS_timerfd_create, "timerfd_create"},
        {SYS_timerfd_settime, "timerfd_settime"},
        {SYS_sendto, "sendto"},
        {SYS_recvfrom, "recvfrom"},
        {SYS_sendmsg, "sendmsg"},
        {SYS_sendmmsg, "sendmmsg"},
        {SYS_recvmsg, "recvmsg"},
        {SYS_openat, "openat"},
        {SYS_read, "read"},
        {SYS_write, "write"},
        {SYS_statx, "statx"},
        {SYS_fstat, "fstat"},
        {SYS_newfstatat, "newfstatat"},
        {SYS_lseek, "lseek"},
        {SYS_uname, "uname"},
        {SYS_fcntl, "fcntl"},
        {SYS_bpf, "bpf"},
#ifdef SYS_epoll_wait
        {SYS_epoll_wait, "epoll_wait"},
#endif
#ifdef SYS_stat
        {SYS_stat, "stat"},
#endif
    };
    static char number[32];

    for (size_t i = 0; i < COUNT(names); i++) {
        if (names[i].number == call->nr)
            return names[i].name;
    }
    snprintf(number, sizeof number, "call %d", call->nr);
    return number;
}

struct holdings holdings_now(const char *link)
{
    struct holdings now = {.footprint = footprint_now(), .link = link};
    FILE *list = fopen("/proc/net/packet", "re");
    char line[256];

    if (!list)
        tap_bail("/proc/net/packet: %s", strerror(errno));
    while (fgets(line, sizeof line, list))
        now.sockets++;
    fclose(list);
    if (link) {
        now.promiscuity = net_promiscuity(link);
        now.allmulti = net_allmulti(link);
    }
    return now;
}

const char *what_is_left(const struct holdings *before)
{
    struct holdings now = holdings_now(before->link);

    if (now.footprint.descriptors != before->footprint.descriptors)
        return "a descriptor is left";
    if (now.footprint.mappings != before->footprint.mappings)
        return "a mapping is left";
    if (now.sockets != before->sockets)
        return "a packet socket is left";
    if (now.promiscuity != before->promiscuity)
        return "promiscuous mode is left";
    if (now.allmulti != before->allmulti)
        return "all multicast is left";
    return NULL;
}
