#!/bin/bash
# The public headers compile without a warning: alone, twice, in two units of one program, and beside
# the system headers they must get along with (each before and after), for every compiler and standard.
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common='-Wall -Wextra -Wpedantic -Wpadded -Wundef -Werror'
rc=0

neighbours=()
for header in netpacket/packet.h linux/if_packet.h linux/filter.h pcap.h; do
    if echo "#include <$header>" | ${CC:-cc} -E -o /dev/null - 2>/dev/null; then
        neighbours+=("$header")
    else
        echo "ok - beside <$header> # SKIP it is not installed"
    fi
done

# units EXTENSION HEADER: one file per situation.
units() {
    local ext=$1 header=$2 dir=$work/$1-$2 neighbour name
    mkdir -p "$dir"
    echo "#include <$header>" >"$dir/alone.$ext"
    printf '#include <%s>\n#include <%s>\n' "$header" "$header" >"$dir/twice.$ext"
    # What the C++ wrapper meets is what netring.h, which it includes, meets.
    case $header in *.hpp) return ;; esac
    for neighbour in "${neighbours[@]}"; do
        name=${neighbour//[\/.]/_}
        # <pcap.h> wants u_int and friends.
        printf '#define _DEFAULT_SOURCE 1\n#include <%s>\n#include <%s>\n' "$header" "$neighbour" >"$dir/before_$name.$ext"
        printf '#define _DEFAULT_SOURCE 1\n#include <%s>\n#include <%s>\n' "$neighbour" "$header" >"$dir/after_$name.$ext"
    done
}
for header in include/netring*.h; do
    units c "$(basename "$header")"
    units cpp "$(basename "$header")"
done
for header in include/netring*.hpp; do
    [ -f "$header" ] && units cpp "$(basename "$header")"
done
# The initialiser in both languages (compared with the function by config_init.c).
if grep -q 'struct netring_capture_config {' include/netring.h; then
    for ext in c cpp; do
        cat >"$work/$ext-netring.h/initialiser.$ext" <<'X'
#include <netring.h>
struct netring_capture_config initialised(void);
struct netring_capture_config initialised(void) {
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    return config;
}
X
    done
fi

# Every struct's size asked for: clang looks for holes only then.
sizes() { # HEADER
    echo '#include "netring.h"'
    sed -n 's/^struct \(netring_[a-z_]*\) {.*/extern char sizeof_\1[sizeof(struct \1)];/p' "$1"
}
for ext in c cpp; do sizes include/netring.h >"$work/$ext-netring.h/sizes.$ext"; done

# one COMPILER STANDARD EXTENSION INCLUDE-DIR FILE
one() {
    local flags=$common
    [ "$3" = c ] && flags="$flags -Wstrict-prototypes -Wc++-compat"
    # shellcheck disable=SC2086
    "$1" $flags -std="$2" -I"$4" -fsyntax-only "$5" >"$work/out" 2>&1 && return 0
    echo "# $1 -std=$2: ${5#"$work"/}"
    grep -e error -e warning "$work/out" | head -n 5 | sed 's/^/# /'
    return 1
}

# compile COMPILER STANDARD EXTENSION: everything of that language.
compile() {
    local file
    for file in "$work/$3"-*/*."$3"; do
        # The C++ wrapper asks for C++17.
        case $2:$file in c++11:*.hpp/* | c++14:*.hpp/*) continue ;; esac
        one "$1" "$2" "$3" include "$file" || return 1
    done
}

report() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}

mkdir "$work/bad"
{ echo '#include <stdint.h>'; echo 'struct netring_bad {'; echo 'char a; int b; };'; } >"$work/bad/netring.h"
sizes "$work/bad/netring.h" >"$work/bad/sizes.c"

for cc in gcc clang; do
    if ! command -v $cc >/dev/null; then
        echo "ok - $cc # SKIP it is not installed"
        continue
    fi
    for std in c99 c11 c17 c2x; do
        compile $cc $std c
        report $? "$cc -std=$std"
    done
    ! one $cc c11 c "$work/bad" "$work/bad/sizes.c" >/dev/null
    report $? "$cc self-test: a struct with a hole is refused"
done
for cc in g++ clang++; do
    if ! command -v $cc >/dev/null || ! echo '#include <stdint.h>' | $cc -x c++ -fsyntax-only - 2>/dev/null; then
        echo "ok - $cc # SKIP it is not installed"
        continue
    fi
    for std in c++11 c++14 c++17 c++20; do
        compile $cc $std cpp
        report $? "$cc -std=$std"
    done
done

# Two units of one program: nothing is defined twice.
for language in c c++; do
    cc=${CC:-cc}
    [ $language = c++ ] && cc=${CXX:-c++}
    command -v "$cc" >/dev/null || continue
    for header in include/netring*.h; do
        { echo "#include <$(basename "$header")>"; } >>"$work/two"
    done
    cp "$work/two" "$work/one.$language"
    { cat "$work/two"; echo 'int main(void) { return 0; }'; } >"$work/other.$language"
    {
        "$cc" -x $language -Wall -Werror -Iinclude -c -o "$work/one.o" "$work/one.$language" &&
            "$cc" -x $language -Wall -Werror -Iinclude -c -o "$work/other.o" "$work/other.$language" &&
            "$cc" -o "$work/program" "$work/one.o" "$work/other.o" &&
            "$work/program"
    } >"$work/out" 2>&1
    status=$?
    [ $status -eq 0 ] || head -n 20 "$work/out" | sed 's/^/# /'
    report $status "two units of one $language program"
done
exit $rc
