#!/bin/bash
# The library's ABI, as its debug information tells it, against the one of the release
# (netring-0.1.abi). New functions pass; a changed or removed one is a failure.
# usage: abidiff.sh | abidiff.sh --baseline (writes the file)
cd "$(dirname "$0")/../.." || exit 1
so=build/lib/libnetring.so.$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml)
baseline=tests/abi/netring-0.1.abi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0

for tool in abidw abidiff; do
    command -v $tool >/dev/null || { echo "$tool is not installed (Debian, Ubuntu: abigail-tools)"; exit 77; }
done
[ -f "$so" ] || { echo "$so is not there: run make"; exit 1; }

# Only what C can see: no paths and places of sources, no Rust modules (an item may move between
# them), only the units that have an exported function (with others beside them abidiff overlooks
# changed structs).
abidw --no-corpus-path --no-comp-dir-path --no-show-locs --drop-undefined-syms --no-elf-needed \
    --out-file "$work/raw" "$so" || exit 1
sed -E -e '/^ *<\/?namespace-decl/d' -e "s/(<abi-instr address-size='64') path='[^']*'/\1 path='libnetring'/" "$work/raw" |
    awk '/^  <abi-instr/ { unit = $0; keep = 0; next }
        unit == "" { print; next }
        { unit = unit "\n" $0 }
        /elf-symbol-id=.netring_/ { keep = 1 }
        /^  <\/abi-instr>/ { if (keep) print unit; unit = "" }' >"$work/now"
grep -o "type-id='[^']*'" "$work/now" | cut -d"'" -f2 | sort -u >"$work/used"
grep -o " id='[^']*'" "$work/now" | cut -d"'" -f2 | sort -u >"$work/known"
if comm -23 "$work/used" "$work/known" | grep .; then
    echo "not ok - every type is described"
    rc=1
fi
for struct in netring_error netring_packet; do
    # Without these the comparison would be one of names alone.
    grep -q "struct $struct {" include/netring.h || continue
    grep -A 1 "<class-decl name='$struct' size-in-bits" "$work/now" | grep -q data-member || {
        echo "not ok - the debug information has struct $struct (debug = 2 in Cargo.toml?)"
        rc=1
    }
done
if [ "${1-}" = --baseline ]; then
    [ $rc -eq 0 ] || exit 1
    cp "$work/now" $baseline
    echo "wrote $baseline"
    exit
fi
[ -f $baseline ] || { echo "no baseline yet ($baseline): run make abi-baseline"; exit 77; }

# The status is bits: 1 and 2 are abidiff's own errors, 4 a change, 8 an incompatible one.
abidiff --no-added-syms $baseline "$work/now" >"$work/out" 2>&1
status=$?
if [ $status -eq 0 ]; then
    echo "ok - same as $baseline"
else
    sed 's/^/# /' "$work/out" | head -n 80
    echo "not ok - same as $baseline (abidiff: $status)"
    rc=1
fi

# The check can fail. A struct with a member 2 bytes further on:
awk '/<data-member/ { held = $0; next }
        held != "" { if (/name=.os_errno./) sub(/bits=.32./, "bits=\x2748\x27", held); print held; held = "" }
        { print }' "$work/now" >"$work/moved"
# a function that returns something else, and one that is gone:
other=$(sed -n "s/.*<type-decl name='u64' .* id='\([^']*\)'.*/\1/p" "$work/now" | head -n 1)
sed "/<function-decl name='netring_version'/,/<\/function-decl>/s/<return type-id='[^']*'/<return type-id='$other'/" \
    "$work/now" >"$work/other"
sed -e "/<elf-symbol name='netring_version_string'/d" \
    -e "/<function-decl name='netring_version_string'/,/<\/function-decl>/d" "$work/now" >"$work/gone"
for change in moved other gone; do
    if cmp -s "$work/now" "$work/$change"; then
        echo "not ok - self-test: nothing to change for '$change'"
        rc=1
        continue
    fi
    abidiff --no-added-syms "$work/now" "$work/$change" >"$work/out" 2>&1
    if [ $(($? & 4)) -ne 0 ]; then
        echo "ok - self-test: '$change' is reported"
    else
        sed 's/^/# /' "$work/out"
        echo "not ok - self-test: '$change' is reported"
        rc=1
    fi
done
exit $rc
