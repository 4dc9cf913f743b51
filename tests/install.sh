#!/bin/bash
# make install and uninstall, into a tree of the test's own: what lands there builds programs with
# pkg-config alone, shared and static, also after the tree has moved; nothing stays after uninstall.
cd "$(dirname "$0")/.." || exit 1
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0
check() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}
make() { command make --no-print-directory -s "$@"; }
files() { (cd "$1" && find . ! -type d | sort); }
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml)
pc=${PKG_CONFIG:-pkg-config}
# Only our tree counts.
unset PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR LD_LIBRARY_PATH

cat >"$work/version.c" <<'X'
#include <netring.h>
#include <stdio.h>
int main(void) {
    printf("%d.%d.%d\n%s\n", NETRING_VERSION_MAJOR, NETRING_VERSION_MINOR, NETRING_VERSION_PATCH,
           netring_version_string());
    return 0;
}
X
sources=("$work/version.c")
[ -f c-examples/minimal.c ] && sources+=("$root/c-examples/minimal.c")

# build PREFIX WHAT: every source, shared and static, from that tree.
build() {
    local prefix=$1 what=$2 source name flags
    shift 2
    for source in "${sources[@]}"; do
        name=$(basename "$source" .c)
        # shellcheck disable=SC2046 # flags are words
        (cd "$work" && ${CC:-cc} -Wall -Werror -o "$name" "$source" $("$pc" "$@" --cflags --libs netring)) &&
            readelf -d "$work/$name" | grep -q 'NEEDED.*libnetring.so.0'
        check $? "$what: $name, shared"
        # The archive alone: a directory without the shared library.
        flags=$("$pc" "$@" --static --cflags --libs netring)
        # shellcheck disable=SC2086
        (cd "$work" && ${CC:-cc} -Wall -Werror -o "$name-static" "$source" \
            -Wl,-Bstatic ${flags%%-lutil*} -Wl,-Bdynamic -lutil ${flags#*-lutil}) &&
            ! readelf -d "$work/$name-static" | grep -q libnetring
        check $? "$what: $name, with the archive"
        # shellcheck disable=SC2086
        (cd "$work" && ${CC:-cc} -static -Wall -Werror -o "$name-full" "$source" $flags) >"$work/out" 2>&1
        check $? "$what: $name, fully static"
    done
    [ "$(LD_LIBRARY_PATH=$prefix/lib "$work/version")" = "$version"$'\n'"$version" ] &&
        [ "$("$work/version-static")" = "$version"$'\n'"$version" ] &&
        [ "$("$work/version-full")" = "$version"$'\n'"$version" ]
    check $? "$what: they run, and all say version $version"
}

# 1. A prefix of its own, then the same tree elsewhere.
prefix=$work/one
make install PREFIX="$prefix" >"$work/out" 2>&1
check $? "make install PREFIX"
files "$prefix" | sed 's/^/# /'
[ "$(readlink "$prefix/lib/libnetring.so")" = libnetring.so.0 ] &&
    [ "$(readlink "$prefix/lib/libnetring.so.0")" = "libnetring.so.$version" ] &&
    [ -f "$prefix/lib/libnetring.so.$version" ] && [ ! -L "$prefix/lib/libnetring.so.$version" ]
check $? "one file and two names"
! readelf -S "$prefix/lib/libnetring.so" | grep -q debug_info && readelf -S build/lib/libnetring.so | grep -q debug_info
check $? "the copy is stripped of debug information, the original is not"
export PKG_CONFIG_LIBDIR=$prefix/lib/pkgconfig
[ "$($pc --modversion netring)" = "$version" ]
check $? "pkg-config knows the version"
! grep -q gcc_s "$prefix/lib/pkgconfig/netring.pc"
check $? "netring.pc asks for no libgcc_s, which -static does not have"
# What Rust's standard library needs is what netring.pc says (but for libgcc_s).
needs=$(echo | rustc --crate-type staticlib --print native-static-libs -o "$work/empty.a" - 2>&1 |
    sed -n 's/.*native-static-libs: //p')
for lib in $needs; do
    [ "$lib" = -lgcc_s ] && continue
    grep -q "^Libs.private:.* $lib\( \|\$\)" "$prefix/lib/pkgconfig/netring.pc"
    check $? "Libs.private has rustc's $lib"
done
[ -n "$needs" ]
check $? "rustc says what it needs"
build "$prefix" "in place"
if [ -x "$work/minimal" ]; then
    LD_LIBRARY_PATH=$prefix/lib "$work/minimal" --help >"$work/out" 2>&1
    [ $? -eq 2 ] && grep -q usage "$work/out"
    check $? "the example says its usage"
    LD_LIBRARY_PATH=$prefix/lib "$work/minimal" no-such-interface >"$work/out" 2>&1
    [ $? -eq 1 ] && grep -q . "$work/out"
    check $? "and that there is no such interface"
fi

cp -a "$prefix" "$work/two"
mv "$prefix" "$work/away"
PKG_CONFIG_LIBDIR=$work/two/lib/pkgconfig build "$work/two" "moved elsewhere" --define-prefix
mv "$work/away" "$prefix"

touch "$prefix/lib/foreign.so"
make uninstall PREFIX="$prefix" >"$work/out" 2>&1
[ "$(files "$prefix")" = ./lib/foreign.so ]
check $? "uninstall removes what install put there and nothing else"
[ ! -d "$prefix/share/doc/libnetring" ]
check $? "and its own directory"

# 2. A distribution's way: staging directory, library directory of the architecture.
stage=$work/stage
vars=(DESTDIR="$stage" PREFIX=/usr LIBDIR=lib/x86_64-linux-gnu STRIP=true)
make install "${vars[@]}" >"$work/out" 2>&1 &&
    [ -f "$stage/usr/lib/x86_64-linux-gnu/libnetring.so.$version" ] && [ -f "$stage/usr/include/netring.h" ]
check $? "make install DESTDIR PREFIX=/usr LIBDIR"
grep -q "^prefix=/usr$" "$stage/usr/lib/x86_64-linux-gnu/pkgconfig/netring.pc" &&
    grep -q '^libdir=${prefix}/lib/x86_64-linux-gnu$' "$stage/usr/lib/x86_64-linux-gnu/pkgconfig/netring.pc" &&
    ! grep -rq "$stage" "$stage/usr/lib/x86_64-linux-gnu/pkgconfig"
check $? "netring.pc says where it will be, not where it was put together"
readelf -S "$stage/usr/lib/x86_64-linux-gnu/libnetring.so" | grep -q debug_info
check $? "STRIP is the packager's"
make uninstall "${vars[@]}" >"$work/out" 2>&1
[ -z "$(files "$stage")" ]
check $? "uninstall leaves nothing"
make install DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib64 >"$work/out" 2>&1 &&
    grep -q '^libdir=${prefix}/lib64$' "$stage/usr/lib64/pkgconfig/netring.pc" &&
    make uninstall DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib64 >"$work/out" 2>&1 && [ -z "$(files "$stage")" ]
check $? "an absolute LIBDIR"
exit $rc
