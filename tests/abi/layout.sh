#!/bin/bash
# The layout of every public struct, as this header's compilers see it (the Rust side asserts its own).
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0
for compiler in 'gcc -x c -std=c11' 'clang -x c -std=c11' 'g++ -x c++ -std=c++11' 'clang++ -x c++ -std=c++11'; do
    if ! command -v "${compiler%% *}" >/dev/null; then
        echo "ok - ${compiler%% *} # SKIP it is not installed"
    elif $compiler -Wall -Wextra -Werror -Iinclude -fsyntax-only tests/abi/layout.c; then
        echo "ok - $compiler"
    else
        echo "not ok - $compiler"
        rc=1
    fi
done
sed 's/^    uint32_t caplen;/    uint64_t caplen;/' include/netring.h >"$work/netring.h"
if ${CC:-cc} -I"$work" -fsyntax-only tests/abi/layout.c 2>/dev/null; then
    echo "not ok - self-test: a changed struct is refused"
    rc=1
else
    echo "ok - self-test: a changed struct is refused"
fi
exit $rc
