#!/bin/bash
# docs/errors.md and the sources agree: each code of netring.h is in its table with that number, and
# the other way round; each option it names is one that the library writes.
cd "$(dirname "$0")/../.." || exit 1
page=${1:-docs/errors.md}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0
check() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}

sed -n 's/^#define \(NETRING_E[A-Z]*\) (\(-[0-9]*\))$/\1 \2/p' include/netring.h | sort >"$work/header"
sed -n 's/^| \(NETRING_E[A-Z]*\) | \(-[0-9]*\) |.*/\1 \2/p' "$page" | sort >"$work/page"
[ -s "$work/header" ]
check $? "the header has codes"
diff "$work/header" "$work/page"
check $? "the table has the header's $(wc -l <"$work/header") codes with their numbers"

# Any other code that the page uses exists.
grep -o 'NETRING_E[A-Z]*' "$page" | sort -u | grep -vx -e NETRING_EXACT >"$work/used"
cut -d' ' -f1 "$work/header" | sort -u | comm -13 - <(sort -u "$work/used") >"$work/unknown"
[ ! -s "$work/unknown" ]
check $? "no other code is named $(tr '\n' ' ' <"$work/unknown")"

# Options stand in the third column of the table of open, in the second of that of the other calls.
awk -F'|' '
    /^These do not fail/ { column = 0 }
    /^## / { column = /step by step/ ? 4 : /Other calls/ ? 3 : 0 }
    column && NF > 4 { print $column }' "$page" | grep -o '`[^`]*`' | tr -d '`' | sort -u >"$work/options"
[ "$(wc -l <"$work/options")" -gt 20 ]
check $? "the tables name options"
while read -r option; do
    grep -rqF "\"$option\"" src
    check $? "the library writes the option $option"
done <"$work/options"

# The same with a wrong number, a missing code, a foreign option: each must be noticed.
if [ $# -eq 0 ]; then
    sed 's/| NETRING_EBIND | -4098 |/| NETRING_EBIND | -4097 |/' "$page" >"$work/number.md"
    grep -v '^| NETRING_EXDP |' "$page" >"$work/missing.md"
    sed 's/^| NETRING_EXDP |/&x|\n| NETRING_EEXTRA | -4999 |/' "$page" >"$work/extra.md"
    sed 's/`PACKET_VERSION`/`PACKET_NO_SUCH`/' "$page" >"$work/option.md"
    for bad in number missing extra option; do
        if cmp -s "$page" "$work/$bad.md" || "$0" "$work/$bad.md" >/dev/null 2>&1; then
            check 1 "a page with a wrong $bad is noticed"
        else
            check 0 "a page with a wrong $bad is noticed"
        fi
    done
fi
exit $rc
