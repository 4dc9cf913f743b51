#!/bin/bash
# Five lists are one: the functions of the header, the map, what the library exports (each with its
# version), tests/abi/exports.txt, and tests/c/calls.c (what the C suite tries with stale and forked
# handles: a new function has its line there).
#   symbols.sh             compare
#   symbols.sh --map       write the functions of the header that no earlier release had into the last
#                          node of netring.map (before its release only)
#   symbols.sh --write     write exports.txt from the library
# `make symbols` does both; look at the diff.
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C
so=build/lib/libnetring.so
list=tests/abi/exports.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0

# Prototypes are what is left of the header once it is preprocessed; a callback's name is followed
# by ")", a function's by "(".
functions() { ${CC:-cc} -E -P "$1" | grep -o 'netring_[a-z0-9_]*(' | tr -d '(' | sort -u; }
mapped() { sed -e 's/\/\*.*\*\///' "$1" | grep -o '^ *netring_[a-z0-9_]*;' | tr -d ' ;' | sort; }
called() { sed -n 's/^ *CALL(\([a-z0-9_]*\)[,)].*/netring_\1/p' tests/c/calls.c | sort; }
exports() { nm -D --defined-only --with-symbol-versions "$1" | awk '$2 != "A" { print $3 }' | sort; }

if [ "${1-}" = --map ]; then
    # Everything up to "global:" of the last node stays, and so does what follows its list.
    last=$(grep -n '^    global:' netring.map | tail -n 1 | cut -d: -f1)
    head -n "$last" netring.map >"$work/map"
    functions include/netring.h | comm -23 - <(mapped "$work/map") | sed 's/.*/        &;/' >>"$work/map"
    tail -n +"$last" netring.map | sed -n '/^    local:/,$p' >>"$work/map"
    cmp -s "$work/map" netring.map || cp "$work/map" netring.map
    exit
fi
[ -e $so ] || { echo "$so is not there: run make"; exit 1; }
if [ "${1-}" = --write ]; then
    exports $so >$list
    exit
fi

same() { # WHAT FILE FILE
    if diff -u "$2" "$3" >"$work/diff"; then
        echo "ok - $1"
    else
        sed 's/^/# /' "$work/diff"
        echo "not ok - $1"
        rc=1
    fi
}

functions include/netring.h >"$work/header"
mapped netring.map >"$work/map"
exports $so >"$work/exports"
sed 's/@@.*//' "$work/exports" >"$work/names"
grep -v '^#' $list | sort >"$work/list"
[ -s "$work/header" ] && [ -s "$work/exports" ] || { echo "a list is empty"; exit 1; }

same "header == map" "$work/header" "$work/map"
same "map == exports" "$work/map" "$work/names"
same "exports == tests/abi/exports.txt, versions included" "$work/exports" "$work/list"
called >"$work/calls"
same "exports == the calls of tests/c/calls.c" "$work/names" "$work/calls"
if grep -v '@@NETRING_[0-9][0-9.]*$' "$work/exports"; then
    echo "not ok - every export has a version"
    rc=1
else
    echo "ok - every export has a version"
fi
soname=$(readelf -d $so | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
if [ "$soname" = libnetring.so.0 ]; then echo "ok - soname"; else echo "not ok - soname: $soname"; rc=1; fi

# Each comparison notices one name too many.
echo netring_extra >>"$work/map"
if diff -q "$work/header" "$work/map" >/dev/null || diff -q "$work/map" "$work/names" >/dev/null ||
    diff -q "$work/map" "$work/calls" >/dev/null; then
    echo "not ok - self-test: an extra name is noticed"
    rc=1
else
    echo "ok - self-test: an extra name is noticed"
fi
exit $rc
