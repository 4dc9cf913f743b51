#include "tap.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct tap_counters {
    int run, failed;
};

static struct tap_counters *counters;

static void out_of_time(int signal)
{
    static const char text[] = "\nBail out! out of time\n";

    (void)signal;
    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
        _exit(2);
    _exit(1);
}

void tap_begin(unsigned seconds)
{
    counters =
        mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counters == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGALRM, out_of_time);
    alarm((unsigned)(tap_patience(1000L * (long)seconds) / 1000));
}

int tap_end(void)
{
    printf("1..%d\n", counters->run);
    if (counters->failed)
        printf("# %d of %d checks failed\n", counters->failed, counters->run);
    fflush(stdout);
    return counters->failed || !counters->run ? 1 : 0;
}

int tap_failures(void)
{
    return __atomic_load_n(&counters->failed, __ATOMIC_SEQ_CST);
}

long tap_patience(long milliseconds)
{
    const char *factor = getenv("NETRING_TEST_SLOW");
    long times = factor ? strtol(factor, NULL, 10) : 1;

    return milliseconds * (times > 1 ? times : 1);
}

static void say(const char *prefix, const char *format, va_list args)
{
    flockfile(stdout);
    fputs(prefix, stdout);
    vprintf(format, args);
    putchar('\n');
    funlockfile(stdout);
}

void tap_skip_all(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("1..0 # SKIP ", format, args);
    va_end(args);
    exit(77);
}

void tap_bail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("Bail out! ", format, args);
    va_end(args);
    fflush(stdout);
    _exit(1);
}

void tap_diag(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("# ", format, args);
    va_end(args);
}

/* Prints the line of a check; errno stays as the code under test left it. */
static void report(bool pass, const char *name, const char *directive)
{
    int saved = errno;

    printf("%sok %d - %s%s\n", pass ? "" : "not ",
           __atomic_add_fetch(&counters->run, 1, __ATOMIC_SEQ_CST), name, directive);
    if (!pass)
        __atomic_add_fetch(&counters->failed, 1, __ATOMIC_SEQ_CST);
    errno = saved;
}

void tap_skip(const char *what, const char *reason)
{
    char directive[256];

    snprintf(directive, sizeof directive, " # SKIP %s", reason);
    report(true, what, directive);
}

/* The shared part of all checks: formats the name, prints the line. Returns with stdout locked when
 * the check failed, for the details. */
static bool check(bool pass, const char *format, va_list args)
{
    char name[256];

    vsnprintf(name, sizeof name, format, args);
    flockfile(stdout);
    report(pass, name, "");
    if (pass)
        funlockfile(stdout);
    return pass;
}

#define CHECK(pass, format)                                                                        \
    do {                                                                                           \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        bool passed = check((pass), format, args);                                                 \
        va_end(args);                                                                              \
        if (passed)                                                                                \
            return true;                                                                           \
        printf("#   at %s:%d\n", file, line);                                                      \
    } while (0)

bool tap_ok(const char *file, int line, bool pass, const char *expression, const char *format, ...)
{
    CHECK(pass, format);
    printf("#   false: %s\n", expression);
    funlockfile(stdout);
    return false;
}

bool tap_int(const char *file, int line, long long got, long long want, const char *format, ...)
{
    CHECK(got == want, format);
    printf("#   got %lld (0x%llx)\n#   expected %lld (0x%llx)\n", got, (unsigned long long)got,
           want, (unsigned long long)want);
    funlockfile(stdout);
    return false;
}

bool tap_range(const char *file, int line, long long got, long long low, long long high,
               const char *format, ...)
{
    CHECK(got >= low && got <= high, format);
    printf("#   got %lld\n#   expected %lld to %lld\n", got, low, high);
    funlockfile(stdout);
    return false;
}

bool tap_str(const char *file, int line, const char *got, const char *want, const char *format, ...)
{
    CHECK(got && want && strcmp(got, want) == 0, format);
    printf("#   got \"%s\"\n#   expected \"%s\"\n", got ? got : "(null)", want ? want : "(null)");
    funlockfile(stdout);
    return false;
}

bool tap_contains(const char *file, int line, const char *got, const char *part, const char *format,
                  ...)
{
    CHECK(got && part && strstr(got, part), format);
    printf("#   got \"%s\"\n#   expected in it \"%s\"\n", got ? got : "(null)",
           part ? part : "(null)");
    funlockfile(stdout);
    return false;
}

bool tap_bytes(const char *file, int line, const void *got, const void *want, size_t size,
               const char *format, ...)
{
    const unsigned char *a = got, *b = want;
    size_t i = 0;

    while (i < size && a[i] == b[i])
        i++;
    CHECK(i == size, format);
    printf("#   byte %zu of %zu: got %02x, expected %02x\n", i, size, a[i], b[i]);
    funlockfile(stdout);
    return false;
}
