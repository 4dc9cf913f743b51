#!/bin/bash
# The frozen first client, built with the frozen header, runs with the library of today.
cd "$(dirname "$0")/../.." || exit 1
out=build/check/client_v0_1
mkdir -p build/check
if [ ! -f tests/abi/frozen/netring.h ]; then
    echo "no frozen header yet (tests/abi/frozen/netring.h)"
    exit 77
fi
${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -Werror -Itests/abi/frozen -o $out tests/abi/client_v0_1.c \
    -Lbuild/lib -lnetring -Wl,-rpath,"$PWD/build/lib" || exit 1
exec tests/ns.sh $out
