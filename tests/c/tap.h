/* Checks that print TAP (https://testanything.org). No dependency.
 *
 * The counters live in shared memory, so that checks made by a forked child count too (the parent
 * waits for it, see child_run), and every check may be made from any thread. A failing check prints
 * its place and what it got. A program that cannot run at all prints its reason and exits 77. */
#ifndef TAP_H
#define TAP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>

#define TAP_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* First call of a program: the checks are over within `seconds`, or the program ends as failed. */
void tap_begin(unsigned seconds);
/* Last call of a program: prints the plan, returns the exit status. */
int tap_end(void);
/* Ends the program as skipped (exit 77). */
void tap_skip_all(const char *format, ...) TAP_PRINTF(1, 2) __attribute__((noreturn));
/* Ends the program as failed: nothing after this point would mean anything. */
void tap_bail(const char *format, ...) TAP_PRINTF(1, 2) __attribute__((noreturn));
/* One check that cannot be made here, with the reason. */
void tap_skip(const char *what, const char *reason);
/* A line for the reader. */
void tap_diag(const char *format, ...) TAP_PRINTF(1, 2);
/* How many checks failed so far. */
int tap_failures(void);
/* `milliseconds`, stretched by NETRING_TEST_SLOW=<factor> (valgrind, sanitizers, busy machines). */
long tap_patience(long milliseconds);

bool tap_ok(const char *file, int line, bool pass, const char *expression, const char *format, ...)
    TAP_PRINTF(5, 6);
bool tap_int(const char *file, int line, long long got, long long want, const char *format, ...)
    TAP_PRINTF(5, 6);
bool tap_range(const char *file, int line, long long got, long long low, long long high,
               const char *format, ...) TAP_PRINTF(6, 7);
bool tap_str(const char *file, int line, const char *got, const char *want, const char *format, ...)
    TAP_PRINTF(5, 6);
bool tap_contains(const char *file, int line, const char *got, const char *part, const char *format,
                  ...) TAP_PRINTF(5, 6);
bool tap_bytes(const char *file, int line, const void *got, const void *want, size_t size,
               const char *format, ...) TAP_PRINTF(6, 7);

/* Each takes a printf format and its arguments last, and returns whether the check passed. */
#define ok(pass, ...) tap_ok(__FILE__, __LINE__, (pass), #pass, __VA_ARGS__)
#define is_int(got, want, ...)                                                                     \
    tap_int(__FILE__, __LINE__, (long long)(got), (long long)(want), __VA_ARGS__)
#define is_between(got, low, high, ...)                                                            \
    tap_range(__FILE__, __LINE__, (long long)(got), (long long)(low), (long long)(high),           \
              __VA_ARGS__)
#define is_str(got, want, ...) tap_str(__FILE__, __LINE__, (got), (want), __VA_ARGS__)
#define is_str_contains(got, part, ...) tap_contains(__FILE__, __LINE__, (got), (part), __VA_ARGS__)
#define is_bytes(got, want, size, ...)                                                             \
    tap_bytes(__FILE__, __LINE__, (got), (want), (size), __VA_ARGS__)

#endif
