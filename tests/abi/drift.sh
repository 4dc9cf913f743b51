#!/bin/bash
# include/netring.h is what the sources say. And the check can fail: a changed copy is refused.
cd "$(dirname "$0")/../.." || exit 1
export CARGO_TARGET_DIR=$PWD/build/tools
manifest=tools/header/Cargo.toml
if ! cargo fetch --quiet --locked --manifest-path $manifest 2>"${TMPDIR:-/tmp}/fetch.$$"; then
    sed 's/^/# /' "${TMPDIR:-/tmp}/fetch.$$"
    rm -f "${TMPDIR:-/tmp}/fetch.$$"
    echo "1..0 # SKIP cbindgen cannot be had here (no network?), so the header was not compared"
    exit 77
fi
rm -f "${TMPDIR:-/tmp}/fetch.$$"
cargo build --quiet --locked --manifest-path $manifest || exit 1
tool=$CARGO_TARGET_DIR/debug/netring-header
rc=0
check() { # WHAT STATUS
    if [ "$2" -eq 0 ]; then echo "ok - $1"; else echo "not ok - $1"; rc=1; fi
}

echo 1..4
$tool . --check
check "the checked-in header is what the sources say" $?

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r src cbindgen.toml "$copy"
mkdir "$copy/include"
sed 's/^uint32_t netring_version(void)/uint64_t netring_version(void)/' include/netring.h >"$copy/include/netring.h"
$tool "$copy" --check >/dev/null 2>&1
[ $? -eq 1 ]
check "self-test: a changed header is refused" $?
printf '/// x\npub const NETRING_SHIFTED: u64 = 1 << 40;\n' >>"$copy/src/ffi/version.rs"
$tool "$copy" --check >/dev/null 2>&1
[ $? -eq 2 ]
check "self-test: a shift in a constant is refused" $?
cp -r src "$copy"
printf '/// x\n#[unsafe(no_mangle)]\npub extern "C" fn netring_x(x: *mut Core) {}\n' >>"$copy/src/ffi/version.rs"
$tool "$copy" --check >/dev/null 2>&1
[ $? -eq 2 ]
check "self-test: a type of the core is refused" $?
exit $rc
