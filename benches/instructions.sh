#!/bin/sh
# Instructions a packet, as a markdown table (see instructions.c); needs valgrind and `make hooks`.
#   instructions.sh           prints the table
#   instructions.sh --check   also compares it with instructions.expected: exit status 1 if any way
#                             takes more than it may
# Without valgrind it says so and exits 77; --check also where the figures do not apply.
cd "$(dirname "$0")/.." || exit 1
if [ "$1" = --check ] && [ "$(uname -m)" != x86_64 ]; then
    echo "instructions.expected is for x86-64"
    exit 77
fi
command -v valgrind >/dev/null 2>&1 || { echo "valgrind is not installed"; exit 77; }
out=build/bench
mkdir -p $out
rm -f $out/callgrind.*

# Fixed flags: the figures are those of -O2, whatever CFLAGS says.
${CC:-cc} -std=gnu11 -Wall -Wextra -O2 -g -Iinclude -o $out/instructions benches/instructions.c \
    -Lbuild/hooks -lnetring -Wl,-rpath,"$PWD/build/hooks" || exit 1
# A dump after each measured call: $out/callgrind.1, .2 and so on, in the order of the names.
if ! valgrind -q --tool=callgrind --callgrind-out-file=$out/callgrind --toggle-collect=bench_measure \
    --dump-after=bench_measure $out/instructions >$out/instructions.calls 2>$out/instructions.log; then
    cat $out/instructions.log
    exit 1
fi

# "way count instructions" of each call; two calls of a way, few packets and many, give its figure.
n=0
while read -r way count; do
    n=$((n + 1))
    echo "$way $count $(sed -n 's/^totals: *//p' $out/callgrind.$n)"
done <$out/instructions.calls | awk -v check="$1" '
    BEGIN {
        title["hand"] = "hand-written C loop"
        title["inline"] = "inline walk"
        title["inline+packet"] = "inline walk, `netring_cursor_packet`"
        title["read64"] = "`netring_block_read`, 64"
        title["read1"] = "`netring_block_read`, 1"
        title["array-inline"] = "AF_XDP: inline walk"
        title["array-inline+packet"] = "AF_XDP: inline walk, `netring_cursor_packet`"
        title["array-read64"] = "AF_XDP: `netring_block_read`, 64"
        while ((getline line < "benches/instructions.expected") > 0)
            if (line !~ /^#/ && split(line, field, " ") == 2)
                most[field[1]] = field[2]
    }
    $1 == way {
        cost[way] = ($3 - before) / ($2 - count)
        order[++ways] = way
    }
    { way = $1; count = $2; before = $3 }
    END {
        print "| instructions a packet | lengths only | first 8 bytes read |"
        print "|---|---|---|"
        for (i = 1; i <= ways; i++) {
            way = order[i]
            if (way in title)
                printf "| %s | %.1f | %s |\n", title[way], cost[way],
                    (way "+data") in cost ? sprintf("%.1f", cost[way "+data"]) : ""
            if (check != "--check")
                continue
            if (!(way in most) || cost[way] > most[way] || cost[way] < 1) {
                wrong = wrong sprintf("%s: %.1f instructions a packet, expected %s\n", way, cost[way],
                    way in most ? "at most " most[way] : "nothing")
            }
            delete most[way]
        }
        if (check == "--check")
            for (way in most)
                wrong = wrong way ": not measured\n"
        printf "%s", wrong
        exit wrong != ""
    }'
