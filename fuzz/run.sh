#!/bin/bash
# Fuzzes one target with libFuzzer: fuzz/run.sh TARGET SECONDS [libFuzzer's options]
# What it learns is kept in build/fuzz/corpus/TARGET, what it finds in build/fuzz/found.
set -eu
cd "$(dirname "$0")/.."
target=${1:?which target?} seconds=${2:-180}
shift $(($# < 2 ? $# : 2))
cargo=${CARGO:-cargo}
# Of the host, named: flags then hold for the targets alone, not for build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')

# Coverage for libFuzzer (llvm's SanitizerCoverage), which stable has.
flags="-Cpasses=sancov-module --cfg fuzzing"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags="$flags -Cllvm-args=-sanitizer-coverage-$option"
done
# AddressSanitizer is said to be for nightly (-Z), but the library for it comes with stable.
sanitizer=none
if ls "$(rustc --print sysroot)/lib/rustlib/$host"/lib/librustc-*_rt.asan.a >/dev/null 2>&1; then
    sanitizer=address
    export RUSTC_BOOTSTRAP=1
    flags="$flags -Zsanitizer=address"
fi
# The walk in C as well, where clang is there.
if command -v clang >/dev/null; then
    export CC=clang CFLAGS="-g -fsanitize=fuzzer-no-link"
    [ $sanitizer = none ] || CFLAGS="$CFLAGS,address"
fi
RUSTFLAGS=$flags CARGO_TARGET_DIR=build/fuzz "$cargo" build --quiet --release --locked --manifest-path fuzz/Cargo.toml \
    --features libfuzzer --bin "$target" --target "$host"

mkdir -p "build/fuzz/corpus/$target" build/fuzz/found
options=(-max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
    -artifact_prefix="build/fuzz/found/$target-")
[ ! -f "fuzz/$target.dict" ] || options+=(-dict="fuzz/$target.dict")
exec "build/fuzz/$host/release/$target" "${options[@]}" "$@" "build/fuzz/corpus/$target" "fuzz/seeds/$target"
