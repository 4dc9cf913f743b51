#!/bin/bash
# tsan.sh NAME: tests/c/test_NAME.c under ThreadSanitizer, the test and the library instrumented;
# tsan.sh --build: the library alone.
# rustc has the sanitizer and its runtime, on the stable toolchain only for who asks like this; where
# it does not, 77. The standard library is not instrumented: what of it is compiled into ours is.
set -u
cd "$(dirname "$0")/.." || exit 1
name=$1
out=build/tsan
target=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p')
runtime=$(echo "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$target/lib"/librustc*_rt.tsan.a)
[ -f "$runtime" ] || { echo "rustc comes without the runtime of ThreadSanitizer"; exit 77; }
mkdir -p $out

# Several of these may run at once.
exec 9>$out/lock
flock 9
RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$out/cargo \
    RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
    cargo rustc --quiet --release --locked --lib --crate-type staticlib --target "$target" \
    >$out/cargo.log 2>&1 9>&- || {
    grep -q -e 'unknown codegen option' -e 'sanitizer is not supported' $out/cargo.log || { cat $out/cargo.log; exit 1; }
    echo "this rustc cannot instrument for ThreadSanitizer"
    exit 77
}
[ "$name" != --build ] || exit 0
cat >$out/suppressions <<'END'
# Arc's last drop has a fence, which the sanitizer does not know (std has another way when it is
# instrumented itself).
race:alloc::sync::Arc*drop_slow
END
objects=()
for source in tests/c/test_"$name".c tests/c/[!t]*.c tests/c/tap.c; do
    object=$out/$(basename "$source" .c).o
    ${CC:-cc} -std=gnu11 -g -O1 -fsanitize=thread -pthread -Iinclude -c -o "$object" "$source" || exit 1
    objects+=("$object")
done
# The runtime is rustc's: the compiler's own may be older.
${CC:-cc} -pthread -o $out/test_"$name" "${objects[@]}" $out/cargo/"$target"/release/libnetring.a \
    -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive -Wl,--export-dynamic \
    -lutil -lrt -lpthread -lm -ldl -lresolv -lc || exit 1
flock -u 9
# A child forked by a thread ends without the thread being joined: no leak.
TSAN_OPTIONS="suppressions=$out/suppressions halt_on_error=0 exitcode=66 report_thread_leaks=0" \
    NETRING_TEST_SLOW=${NETRING_TEST_SLOW:-5} $out/test_"$name" 9>&- 2>&1 | tee $out/"$name".log
rc=${PIPESTATUS[0]}
if grep -q 'WARNING: ThreadSanitizer' $out/"$name".log; then
    echo "not ok - no report of ThreadSanitizer"
    exit 1
fi
exit "$rc"
