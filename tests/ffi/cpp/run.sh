#!/bin/sh
# netring.hpp in use, as C++11 and as C++20, with each compiler that is here.
cd "$(dirname "$0")"
. ../common.sh

compilers=
for cxx in ${CXX:-g++ clang++}; do
    if command -v "$cxx" >/dev/null; then compilers="$compilers $cxx"; fi
done
[ -n "$compilers" ] || skip "no C++ compiler"
network
for cxx in $compilers; do
    for std in c++11 c++20; do
        echo "# $cxx -std=$std"
        # shellcheck disable=SC2046 # flags are words
        $cxx -std=$std -O2 -Wall -Wextra -Wpedantic -Wconversion -Wold-style-cast -Werror -pthread \
            -o "$work/program" main.cpp $(pkg-config --cflags --libs netring)
        "$work/program" nr1 $peer
        unprivileged "$work/program" denied
    done
done
