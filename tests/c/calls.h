/* Every function that takes a handle, as one table: for what must hold for all of them (stale,
 * foreign and forked handles). tests/abi/symbols.sh compares calls.c with what the library exports,
 * so that a new function cannot be left out. */
#ifndef CALLS_H
#define CALLS_H

#include "support.h"

/* clang-format off */
enum handle_kind {
    HANDLE_CAPTURE, HANDLE_BLOCK, HANDLE_FILTER, HANDLE_READER, HANDLE_WRITER,
    HANDLE_GROUP, HANDLE_INJECTOR, HANDLE_BRIDGE, HANDLE_XDP, HANDLE_QUEUE, HANDLE_UMEM,
    HANDLE_KINDS
};
/* clang-format on */

struct call {
    const char *name; /* without netring_ */
    enum handle_kind kind;
    int (*call)(void *handle); /* with everything else right; waits for nothing */
    bool null_is_fine;
};
extern const struct call calls[];
extern const size_t call_count;

/* Whether the call refuses the handle: NETRING_EBADF, with errno. */
bool call_refused(const struct call *call, void *handle);

#endif
