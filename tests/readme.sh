#!/bin/bash
# The C programs in README.md compile as they stand there, and the first one is c-examples/minimal.c.
cd "$(dirname "$0")/.." || exit 1
[ -f README.md ] || { echo "no README.md yet"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0
awk -v dir="$work" '
    /^```c$/ { n++; file = sprintf("%s/%d.c", dir, n); next }
    /^```/ { file = "" }
    file != "" { print >file }' README.md
programs=0
for file in "$work"/*.c; do
    [ -f "$file" ] && grep -q 'int main' "$file" || continue
    programs=$((programs + 1))
    if ${CC:-cc} -std=gnu11 -Wall -Wextra -Werror -Iinclude -o "$work/program" "$file" \
        -Lbuild/lib -lnetring; then
        echo "ok - program $programs of README.md compiles"
    else
        echo "not ok - program $programs of README.md compiles"
        rc=1
    fi
    [ $programs -eq 1 ] || continue
    # Comments at the top of the file are its own; from the first #include on the two are one.
    if diff <(sed -n '/^#include/,$p' "$file") <(sed -n '/^#include/,$p' c-examples/minimal.c); then
        echo "ok - it is c-examples/minimal.c"
    else
        echo "not ok - it is c-examples/minimal.c"
        rc=1
    fi
done
[ $programs -gt 0 ] || { echo "README.md has no C program"; exit 1; }
exit $rc
