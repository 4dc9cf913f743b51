#!/bin/sh
# The library from Zig: netring.h and the inline walk through @cImport. ZIG says which zig; the one
# that pip installs (ziglang) is found as well.
cd "$(dirname "$0")"
. ../common.sh

if [ -n "${ZIG:-}" ]; then
    :
elif command -v zig >/dev/null; then
    ZIG=zig
elif python3 -m ziglang version >/dev/null 2>&1; then
    ZIG="python3 -m ziglang"
else
    skip "zig is not installed"
fi
network
echo "# zig $($ZIG version)"
for mode in Debug ReleaseFast; do
    # shellcheck disable=SC2046,SC2086 # flags are words
    $ZIG build-exe main.zig -O $mode -lc $(pkg-config --cflags --libs netring) --name program \
        --cache-dir "$work/cache" -femit-bin="$work/program" || exit 1
    "$work/program" nr1 $peer
    unprivileged "$work/program" denied
done
