#!/bin/bash
# The xdp_send example: as many frames as asked for, in order from each queue, at the rate, and figures
# that are true. In a network of its own. usage: xdp_send.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
. tests/wire.sh
send=$examples/xdp_send
wire 2
needs_xdp

# The numbers at byte 42 of what was heard, in order of arrival.
numbers() { packets "$work/got.pcap" | awk -v bytes="$1" '$2 == bytes { print substr($3, 85, 16) }'; }
expected() { awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "%016x\n", i }'; }

for batch in 1 64; do
    for mode in auto skb; do
        listen v1 "$work/got.pcap"
        "$send" -q 0 -c 3001 -b $batch -m $mode -r 50000 v0 >"$work/out" 2>"$work/err"
        check $? "-b $batch -m $mode"
        heard "$work/got.pcap" 3001
        diff <(numbers 60) <(expected 3001) >/dev/null
        check $? "-b $batch -m $mode: 3001 frames, in order"
        grep -q '^3001 frames sent in ' "$work/out" && grep -q '^3001 completed, 0 did not leave, 0 still waiting' "$work/out"
        check $? "-b $batch -m $mode: it says so"
    done
done
listen v1 "$work/got.pcap"
"$send" -c 2000 -s 1514 -d 02:00:00:00:00:a1 -r 20000 v0 >"$work/out" 2>"$work/err"
check $? "two queues"
heard "$work/got.pcap" 2000
diff <(numbers 1514 | sort) <(expected 2000) >/dev/null
check $? "two queues: each number once"
[ "$(bytes_of "$work/got.pcap" | cut -c1-28 | sort -u)" = 0200000000a10200000000a00800 ]
check $? "-d: to whom they are addressed"
[ "$(awk '/^queue [01]: / { n += $3 } END { print n }' "$work/out")" = 2000 ]
check $? "two queues: it says how many from each"

listen v1 "$work/got.pcap"
"$send" -q 1 -b 1 -c 100 -r 200 v0 >"$work/out" 2>"$work/err"
heard "$work/got.pcap" 100
between "$(span "$work/got.pcap")" 0.4 5
check $? "-r 200: a hundred in $(span "$work/got.pcap") s"

"$send" -c 1 -s 1515 v0 >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q '1515 bytes; v0 takes 1514' "$work/err"
check $? "a frame that is too large"

# ---- the link -------------------------------------------------------------------
ip link set v1 down
"$send" -q 0 -c 500 -r 5000 v0 >"$work/out" 2>"$work/err" &
program=$!
started $program
until_true 10 grep -q 'the link is down; waiting' "$work/err"
check $? "a link that is down is waited for"
listen_after=$(sed -n 's/^ *v1: *[0-9]* *\([0-9]*\) .*/\1/p' /proc/self/net/dev)
ip link set v1 up
wait $program
check $? "and it goes on"
got=$(($(sed -n 's/^ *v1: *[0-9]* *\([0-9]*\) .*/\1/p' /proc/self/net/dev) - listen_after))
[ "$got" -eq 500 ]
check $? "all have arrived ($got)"

"$send" -r 100 v0 >"$work/out" 2>"$work/err" &
program=$!
started $program
sleep 1
kill -INT $program
wait $program
check $? "Ctrl-C ends it"
grep -q '^[1-9][0-9]* frames sent in ' "$work/out"
check $? "with its figures"
! ip -d link show v0 | grep -q prog/xdp
check $? "no program stays"
"$send" -r 1000 v0 >"$work/out" 2>"$work/err" &
program=$!
started $program
sleep 1
ip link del v0
wait $program
[ $? -eq 1 ] && [ -s "$work/err" ] && grep -q 'frames sent in' "$work/out"
check $? "an interface that is removed ends it, with its figures: $(tail -n 1 "$work/err")"
all_ended

for wrong in '' 'a b' '-s 49 lo' '-c 0 lo' '-r 0 lo' '-r x lo' '-b 0 lo' '-b 257 lo' '-m none lo' '-q x lo' '-d 02 lo' '-w x lo' '-Z'; do
    # shellcheck disable=SC2086 # words are meant
    "$send" $wrong >/dev/null 2>"$work/err"
    [ $? -eq 2 ] && [ -s "$work/err" ]
    check $? "wrong usage: $wrong"
done
"$send" nosuch0 2>&1 | grep -q nosuch0
check $? "no such interface"
"$send" -h | grep -q '^usage: xdp_send'
check $? "-h"
exit $rc
