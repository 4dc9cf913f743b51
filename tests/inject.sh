#!/bin/bash
# The inject example: as many frames as asked for, each as it was given, at the rate, and figures that
# are true. In a network of its own. usage: inject.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
. tests/wire.sh
inject=$examples/inject
wire

"$inject" >"$work/out" 2>&1
check $? "without an interface"
grep -q '^1000 frames sent on lo in ' "$work/out" && grep -q '^0 refused by the kernel, 0 dropped' "$work/out"
check $? "it sends a thousand on lo"

# ---- exactly, in order ----------------------------------------------------------
# The number at byte 42 counts from 0.
in_order() { # COUNT BYTES
    packets "$work/got.pcap" | awk -v count="$1" -v bytes="$2" '
        $2 != bytes || substr($3, 85, 16) != sprintf("%016x", NR - 1) { exit wrong = 1 }
        END { exit wrong || NR != count }'
}
for method in auto ring sendmmsg; do
    for batch in 1 64; do
        listen v1 "$work/got.pcap"
        "$inject" -c 3001 -m $method -b $batch -r 50k v0 >"$work/out" 2>"$work/err"
        check $? "-m $method -b $batch"
        heard "$work/got.pcap" 3001
        in_order 3001 60
        check $? "-m $method -b $batch: 3001 frames, in order"
        grep -q '^3001 frames sent on v0 in ' "$work/out" && grep -q '^0 refused by the kernel, 0 dropped' "$work/out" && [ ! -s "$work/err" ]
        check $? "-m $method -b $batch: it says so"
    done
done
in_order 3000 60
[ $? -eq 1 ]
check $? "another number would be noticed"
grep -q '(sendmmsg, ' "$work/out"
check $? "the method is told"
listen v1 "$work/got.pcap"
"$inject" -c 10 -s 1514 -q v0 >"$work/out"
heard "$work/got.pcap" 10
in_order 10 1514
check $? "-s 1514 -q"
# Nobody's address, a checksum that is right: the header's words add up to ffff.
packets "$work/got.pcap" | awk '
    NR == 1 {
        digits = "0123456789abcdef"
        for (at = 29; at < 69; at += 4) {
            n = 0
            for (i = 0; i < 4; i++) n = n * 16 + index(digits, substr($3, at + i, 1)) - 1
            sum += n
        }
        good = substr($3, 1, 28) == "0200000000020200000000a00800" && sum % 65535 == 0 && sum > 0
    }
    END { exit !good }'
check $? "a good IP header, from the interface's address"

# ---- frames of one's own --------------------------------------------------------
own='ffffffffffff 02:00:00:00:00:01 88b5 01 02 03 AB'
listen v1 "$work/got.pcap"
"$inject" -x "$own" -c 3 v0 >"$work/out"
check $? "-x"
printf '%s\n\n' "$own" | "$inject" -f - -c 2 v0 >"$work/out"
check $? "-f -"
heard "$work/got.pcap" 5
[ "$(bytes_of "$work/got.pcap" | sort | uniq -c | tr -s ' ')" = " 5 ffffffffffff02000000000188b5010203ab" ]
check $? "they arrive as given"

# ---- at a rate ------------------------------------------------------------------
for rate in 200 200kbit; do # 1000 bits each
    listen v1 "$work/got.pcap"
    "$inject" -b 1 -s 125 -c 100 -r $rate v0 >"$work/out"
    heard "$work/got.pcap" 100
    in_order 100 125 && between "$(span "$work/got.pcap")" 0.4 5
    check $? "-r $rate: a hundred in $(span "$work/got.pcap") s"
    took=$(sed -n 's/^100 frames sent on v0 in \([0-9.]*\) s.*/\1/p' "$work/out")
    between "$took" 0.4 5
    check $? "-r $rate: it says $took s"
done

# ---- what cannot be sent ----------------------------------------------------------
"$inject" -c 1 -s 1515 v0 >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q "MTU 1500" "$work/err"
check $? "a frame that is too large, and what the limit is"
"$inject" -c 1 -x 0102 v0 >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && [ -s "$work/err" ]
check $? "a frame that is none"
"$inject" nosuch0 2>&1 | grep -q nosuch0
check $? "no such interface"

received() { sed -n 's/^ *v1: *[0-9]* *\([0-9]*\) .*/\1/p' /proc/self/net/dev; }
# ---- the link -------------------------------------------------------------------
ip link set v1 down
"$inject" -c 2000 v0 >"$work/out" 2>"$work/err" &
program=$!
started $program
for _ in {1..200}; do grep -q waiting "$work/err" && break; sleep 0.05; done
grep -q 'the link is down; waiting' "$work/err"
check $? "a link that is down is waited for"
before=$(received)
ip link set v1 up
wait $program
check $? "and it goes on"
[ "$(grep -c waiting "$work/err")" -eq 1 ]
check $? "it was said once"
grep -q '^2000 frames sent' "$work/out" && grep -q '^0 refused by the kernel, 0 dropped' "$work/out"
check $? "with all of them"
[ $(($(received) - before)) -eq 2000 ]
check $? "all have arrived"
all_ended

"$inject" -r 100 v0 >"$work/out" 2>"$work/err" &
program=$!
started $program
sleep 0.5
kill -INT $program
wait $program
check $? "Ctrl-C ends it"
grep -q '^[1-9][0-9]* frames sent on v0' "$work/out" && ! grep -q $'\r' "$work/err"
check $? "with its figures; and no live line where there is no terminal"
if command -v script >/dev/null; then
    script -qec "$inject -r 50 -c 60 v0" /dev/null </dev/null >"$work/out" 2>&1
    grep -q 'frames, [0-9]* a second' "$work/out" && grep -q '^60 frames sent' <(tr '\r' '\n' <"$work/out" | sed 's/.*\x1b\[K//')
    check $? "a live line on a terminal"
else
    echo "ok - a live line on a terminal # SKIP script is not installed"
fi
"$inject" -r 1000 v0 >"$work/out" 2>"$work/err" &
program=$!
started $program
sleep 0.5
ip link del v0
wait $program
[ $? -eq 1 ] && [ -s "$work/err" ] && grep -q 'frames sent on v0' "$work/out"
check $? "an interface that is removed ends it, with its figures"
all_ended

# ---- usage ------------------------------------------------------------------------
for wrong in 'a b' '-s 41 lo' '-x 0g lo' '-x 123 lo' '-c 0 lo' '-r 0 lo' '-r 10x lo' '-b 0 lo' '-b 257 lo' '-m none lo' '-Z'; do
    # shellcheck disable=SC2086 # words are meant
    "$inject" $wrong >/dev/null 2>"$work/err"
    [ $? -eq 2 ] && [ -s "$work/err" ]
    check $? "wrong usage: $wrong"
done
"$inject" -h | grep -q '^usage: inject'
check $? "-h"
if unshare -Un true 2>/dev/null; then
    # Nobody in a user namespace, who may make one of his own.
    unshare -U "$inject" >"$work/out" 2>&1
    { [ $? -eq 0 ] && grep -q 'a network namespace of our own' "$work/out"; } || grep -q CAP_NET_RAW "$work/out"
    check $? "without the privilege, in a network of its own"
    unshare -U "$inject" lo >"$work/out" 2>&1
    [ $? -ne 0 ] && grep -q CAP_NET_RAW "$work/out"
    check $? "or it says what is missing"
fi
exit $rc
