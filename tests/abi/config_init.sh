#!/bin/bash
# The initialiser macro and the function agree, seen from C and from C++.
cd "$(dirname "$0")/../.." || exit 1
out=build/check/config_init
mkdir -p build/check
for compiler in "${CC:-cc} -x c -std=c11" "${CXX:-c++} -x c++ -std=c++11"; do
    if ! command -v "${compiler%% *}" >/dev/null; then
        echo "ok - ${compiler%% *} # SKIP it is not installed"
        continue
    fi
    $compiler -Wall -Wextra -Werror -Iinclude -o $out tests/abi/config_init.c -x none \
        -Lbuild/lib -lnetring -Wl,-rpath,"$PWD/build/lib" && $out | grep -v '^1\.\.'
    [ "${PIPESTATUS[0]}" -eq 0 ] || exit 1
done
