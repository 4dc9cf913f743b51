#!/bin/sh
# make soak: the soak test (soak.c says what it does) for MINUTES, 15 by default. As root, or in a
# user namespace; exit 77 where neither is allowed.
cd "$(dirname "$0")/../.." || exit 1
out=build/soak
mkdir -p $out
${CC:-cc} -std=gnu11 -Wall -Wextra -Werror -O2 -g -pthread -Iinclude -o $out/soak tests/soak/soak.c \
    tests/c/net.c tests/c/tap.c tests/c/support.c -Lbuild/lib -lnetring \
    -ldl -Wl,-rpath,"$PWD/build/lib" || exit 1
# Without malloc's per-thread caches, whose content counts as in use: so the heap is exact.
GLIBC_TUNABLES=glibc.malloc.tcache_count=0 exec $out/soak
