#!/bin/bash
# The man pages: mandoc has nothing to say against them, every function of netring.h has one (and no
# page describes a function that is not there), and the synopses are the header's declarations.
cd "$(dirname "$0")/../.." || exit 1
command -v mandoc >/dev/null || { echo "mandoc is not installed"; exit 77; }
man=${1:-man}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0
check() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}

# Pages of one function of a group are links to the group's page.
pages=() links=()
for page in "$man"/*.[37]; do
    if head -n 1 "$page" | grep -q '^\.so '; then links+=("$page"); else pages+=("$page"); fi
done

mandoc -T lint -W warning "${pages[@]}"
check $? "mandoc: ${#pages[@]} pages"

# One line each, to a page that names it; no process a link, as there are hundreds.
declare -A names=()
while read -r page name; do
    names[$page:$name]=1
done < <(awk 'FNR == 1 { n = split(FILENAME, path, "/") } /^\.Nm / { print path[n], $2 }' "${pages[@]}")
for link in "${links[@]}"; do
    mapfile -t lines <"$link"
    target=${lines[0]#.so man3/}
    name=${link##*/}
    [ ${#lines[@]} -eq 1 ] && [ -n "${names[$target:${name%.3}]-}" ] ||
        check 1 "$link leads to a page that names it"
done
check 0 "${#links[@]} links"

sed -n 's/^[^ *].*[ *]\(netring_[a-z_]*\)(.*/\1/p' include/netring.h | sort -u >"$work/header"
[ "$(wc -l <"$work/header")" -gt 30 ]
check $? "the header has functions"
for page in "$man"/*.3; do basename "$page" .3; done | sort >"$work/pages"
diff "$work/header" "$work/pages"
check $? "each of the header's $(wc -l <"$work/header") functions has a page, and no others have"

for page in "${pages[@]}"; do
    sed -n 's/^\.Xr \(netring[a-z_]*\) \([37]\).*/\1.\2/p' "$page" | while read -r reference; do
        [ -f "$man/$reference" ] || echo "$page: no page $reference"
    done
done >"$work/dead"
[ ! -s "$work/dead" ]
check $? "references between the pages lead somewhere $(cat "$work/dead")"

# The synopses as C: declared again after the header, whatever differs is an error.
if command -v "${CC:-cc}" >/dev/null; then
    {
        echo '#include <netring.h>'
        echo '#include <netring_inline.h>'
        cat "${pages[@]}" | awk '
            function arguments(text,    n, i, out, parts) {
                n = split(text, parts, /" *"/)
                for (i = 1; i <= n; i++) {
                    gsub(/"/, "", parts[i])
                    out = out (i > 1 ? ", " : "") parts[i]
                }
                return out
            }
            function declare(name, args) {
                inside = name ~ /^netring_cursor_/ ? "static inline " : ""
                print inside type " " name "(" args ");"
            }
            /^\.Sh / { synopsis = /SYNOPSIS/ }
            !synopsis { next }
            /^\.Ft / { type = substr($0, 5); gsub(/"/, "", type) }
            /^\.Fn / { name = $2; rest = $0; sub(/^\.Fn [^ ]* */, "", rest); declare(name, arguments(rest)) }
            /^\.Fo / { name = $2; args = "" }
            /^\.Fa / { one = substr($0, 5); gsub(/"/, "", one); args = args (args == "" ? "" : ", ") one }
            /^\.Fc/ { declare(name, args) }'
    } >"$work/synopsis.c"
    [ "$(grep -c 'netring_' "$work/synopsis.c")" -gt 40 ] &&
        ${CC:-cc} -std=gnu11 -Wall -Werror -Wno-unused-function -Iinclude -fsyntax-only "$work/synopsis.c"
    check $? "the synopses are the header's declarations"
fi

# The same with a page missing, a dead link, a wrong declaration, a mistake: each must be noticed.
if [ $# -eq 0 ]; then
    spoil() { # WHAT COMMAND...
        local what=$1
        shift
        rm -rf "$work/bad" && cp -r man "$work/bad" && (cd "$work/bad" && "$@")
        if diff -rq man "$work/bad" >/dev/null || "$0" "$work/bad" >/dev/null 2>&1; then
            check 1 "$what is noticed"
        else
            check 0 "$what is noticed"
        fi
    }
    spoil "a missing page" rm netring_block_view.3
    spoil "a link that leads nowhere" sed -i 's/read/reed/' netring_block_view.3
    spoil "a page for nothing" cp netring_block_view.3 netring_block_of_wood.3
    spoil "a wrong declaration" sed -i 's/uint32_t count/uint64_t count/' netring_block_read.3
    spoil "a dead reference" sed -i 's/^\.Xr netring_capture_stats 3/.Xr netring_capture_state 3/' netring_capture_open.3
    spoil "a mistake in the markup" sed -i '/^\.El/d' netring_capture_open.3
fi
exit $rc
