/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <stdlib.h>

#include "netring_inline.h"

/* Walks a block inline and gives the packets; `each`: every record says its own link type. */
size_t fuzz_walk(struct netring_block *block, int each, struct netring_packet *out, size_t room,
                 int *damaged)
{
    struct netring_cursor cursor;
    size_t count = 0;

    if (netring_cursor_init(&cursor, block) != 0)
        abort();
    if (each)
        cursor.link_type = NETRING_LINKTYPE_UNKNOWN;
    while (netring_cursor_next(&cursor)) {
        if (count == room)
            abort();
        netring_cursor_packet(&cursor, &out[count++]);
    }
    *damaged = netring_cursor_damaged(&cursor);
    /* And stays there. */
    if (netring_cursor_next(&cursor) || netring_cursor_damaged(&cursor) != *damaged)
        abort();
    return count;
}
