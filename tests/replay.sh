#!/bin/bash
# The replay example: what it sends arrives byte for byte and in order, at the speed that was asked
# for, and what it cannot send it names. In a network of its own.
# usage: replay.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
. tests/wire.sh
replay=$examples/replay
corpus=${NETRING_CORPUS:-../shared/corpus/ethernet.pcap}
wire
# What was received took so many seconds, give or take how late the program says that it was.
takes() {
    packets "$work/got.pcap" | awk -v wanted="$1" -v late="$(latest)" '
        NR == 1 { first = $1 }
        { span = $1 - first }
        END { exit !(span > wanted - late - 0.01 && span < wanted + late + 0.2) }'
}
latest() { awk '/^the latest one left/ { print $5 / 1000 }' "$work/out"; }

# ---- every frame, by every method, in pcap and pcapng -------------------------
if [ -f "$corpus" ]; then
    count=$(packets "$corpus" | wc -l)
    [ "$count" -gt 100 ]
    check $? "the corpus has $count frames"
    bytes_of "$corpus" >"$work/wanted"
    for how in '-t -m ring' '-t -m sendmmsg' '-t -b 1' '-r 20k' '-x 1'; do
        listen v1 "$work/got.pcap"
        # shellcheck disable=SC2086 # words are meant
        "$replay" $how "$corpus" v0 >"$work/out" 2>"$work/err"
        check $? "$how: exit status 0"
        heard "$work/got.pcap" "$count"
        bytes_of "$work/got.pcap" | cmp - "$work/wanted"
        check $? "$how: the corpus arrives byte for byte, in order"
        grep -q "^$count sent on v0 in " "$work/out" && [ ! -s "$work/err" ]
        check $? "$how: it says so, and nothing else"
    done
    takes 0.2691
    check $? "-x 1: it took $(span "$work/got.pcap") s"
    # What would not be noticed: one byte, two frames exchanged.
    sed '100s/0/1/' "$work/wanted" | cmp -s - "$work/wanted"
    [ $? -eq 1 ] && sed '100{h;d};101G' "$work/wanted" | cmp -s - "$work/wanted"
    [ $? -eq 1 ]
    check $? "a difference would be noticed"

    "$examples/capture" -i v1 -d in --profile low-memory -c "$count" -w "$work/got.pcapng" 2>"$work/err" &
    listener=$!
    for _ in {1..200}; do [ -s "$work/got.pcapng" ] && break; sleep 0.05; done
    "$replay" -t "$corpus" v0 >"$work/out"
    wait $listener
    listen v1 "$work/got.pcap"
    "$replay" -t "$work/got.pcapng" v0 >"$work/out"
    heard "$work/got.pcap" "$count"
    bytes_of "$work/got.pcap" | cmp - "$work/wanted"
    check $? "as pcapng, too"
else
    echo "ok - the corpus # SKIP there is none (NETRING_CORPUS names one)"
fi

# ---- by time ------------------------------------------------------------------
for i in {0..8}; do echo "$((i * 100000)) $(frame "$i" 60)"; done | to_pcap 1 >"$work/steps.pcap"
[ "$(packets "$work/steps.pcap" | wc -l)" -eq 9 ] && [ "$(span "$work/steps.pcap")" = 0.800000 ]
check $? "a file of nine packets in 0.8 s"
# Each one of the nine at its time, give or take that.
on_time() { # SPEED
    packets "$work/got.pcap" | awk -v speed="$1" -v late="$(latest)" '
        NR == 1 { first = $1 }
        { off = $1 - first - (NR - 1) * 0.1 / speed; if (off < -late - 0.01 || off > late + 0.1) exit wrong = 1 }
        END { exit wrong || NR != 9 }'
}
listen v1 "$work/got.pcap"
"$replay" "$work/steps.pcap" v0 >"$work/out"
check $? "as fast as it was"
heard "$work/got.pcap" 9
cmp -s <(bytes_of "$work/steps.pcap") <(bytes_of "$work/got.pcap")
check $? "as fast as it was: all of them"
on_time 1
check $? "as fast as it was: each at its time ($(span "$work/got.pcap") s)"
grep -q '^the latest one left [0-9.]* ms after its time$' "$work/out"
check $? "it says how late"
on_time 0.5
[ $? -eq 1 ]
check $? "a wrong speed would be noticed"
listen v1 "$work/got.pcap"
"$replay" -x 4 "$work/steps.pcap" v0 >"$work/out"
heard "$work/got.pcap" 9
on_time 4
check $? "-x 4: each at its time ($(span "$work/got.pcap") s)"
listen v1 "$work/got.pcap"
"$replay" -x 0.5 "$work/steps.pcap" v0 >"$work/out"
heard "$work/got.pcap" 9
on_time 0.5
check $? "-x 0.5: each at its time ($(span "$work/got.pcap") s)"
{ echo "0 $(frame 1 60)"; echo "500000000 $(frame 2 60)"; echo "400000000 $(frame 3 60)"; } | to_pcap 1 >"$work/gap.pcap"
listen v1 "$work/got.pcap"
timeout 20 "$replay" -g 0.2 "$work/gap.pcap" v0 >"$work/out"
check $? "-g: a gap of 500 s, and back in time"
heard "$work/got.pcap" 3
takes 0.2
check $? "-g 0.2: it took $(span "$work/got.pcap") s"

# ---- at a rate ----------------------------------------------------------------
for i in {0..99}; do echo "0 $(frame "$i" 125)"; done | to_pcap 1 >"$work/many.pcap"
for rate in 200 200kbit; do # 1000 bits each
    listen v1 "$work/got.pcap"
    "$replay" -b 1 -r $rate "$work/many.pcap" v0 >"$work/out"
    heard "$work/got.pcap" 100
    cmp -s <(bytes_of "$work/many.pcap") <(bytes_of "$work/got.pcap") && between "$(span "$work/got.pcap")" 0.4 5
    check $? "-r $rate: a hundred in $(span "$work/got.pcap") s"
done

# ---- again and again ------------------------------------------------------------
listen v1 "$work/got.pcap"
"$replay" -t -l 3 "$work/many.pcap" v0 >"$work/out"
check $? "-l 3"
heard "$work/got.pcap" 300
for _ in 1 2 3; do bytes_of "$work/many.pcap"; done | cmp -s - <(bytes_of "$work/got.pcap")
check $? "-l 3: three times, in order"
grep -q '^300 packets read, 37500 bytes; 3 full passes$' "$work/out"
check $? "-l 3: it says so"
listen v1 "$work/got.pcap"
"$replay" -x 4 -l 2 "$work/steps.pcap" v0 >"$work/out"
heard "$work/got.pcap" 18
takes 0.4
check $? "-x 4 -l 2: the second pass begins where the first ends ($(span "$work/got.pcap") s)"
"$replay" -x 0.2 -l 0 "$work/steps.pcap" v0 >"$work/out" 2>"$work/err" &
program=$!
started $program
sleep 1
kill -INT $program
wait $program
check $? "-l 0: Ctrl-C ends it"
all_ended
grep -q '^[1-9][0-9]* sent on v0 in ' "$work/out" && ! grep -q $'\r' "$work/err"
check $? "with its figures; and no bar where there is no terminal"

# ---- what cannot be sent --------------------------------------------------------
{ echo "0 $(frame 1 60)"; echo "1 $(frame 2 3000)"; echo "2 $(frame 3 1514)"; echo "3 0200000000"
    echo "4 $(frame 5 1515)"; echo "5 $(frame 6 60)"; } | to_pcap 1 >"$work/odd.pcap"
for how in '-t' '-t -b 1' '-t -m ring' '-t -m sendmmsg' '-x 1'; do
    listen v1 "$work/got.pcap"
    # shellcheck disable=SC2086 # words are meant
    "$replay" $how "$work/odd.pcap" v0 >"$work/out" 2>"$work/err"
    check $? "$how: too large ones are no failure"
    heard "$work/got.pcap" 3
    bytes_of "$work/odd.pcap" | sed -n '1p;3p;6p' | cmp -s - <(bytes_of "$work/got.pcap")
    check $? "$how: the others arrive"
    grep -q '^replay: packet 2, 3000 bytes: too large$' "$work/err" && grep -q '^replay: packet 5, 1515 bytes: too large$' "$work/err" &&
        grep -q '^replay: packet 4, 5 bytes: too short$' "$work/err" && grep -q '^2 left out: too large, v0 takes 1514 bytes$' "$work/out"
    check $? "$how: they are named and counted"
done
echo "1000000 45000014000000004001000c0a0000010a000002" | to_pcap 101 >"$work/ip.pcap"
if command -v mergecap >/dev/null; then
    mergecap -w "$work/mixed.pcapng" "$work/many.pcap" "$work/ip.pcap"
    "$replay" -t "$work/mixed.pcapng" v0 >"$work/out" 2>"$work/err"
    check $? "a pcapng file of two link types"
    grep -q ', 20 bytes: of another link type$' "$work/err" && grep -q '^100 sent on v0' "$work/out" &&
        grep -q '^1 left out: of another link type' "$work/out"
    check $? "what does not fit is named and left out"
else
    echo "ok - a pcapng file of two link types # SKIP mergecap is not installed"
fi
: | to_pcap 1 >"$work/empty.pcap"
timeout 10 "$replay" -l 0 "$work/empty.pcap" v0 >"$work/out"
check $? "a file without packets comes to its end, however often"
"$replay" "$work/ip.pcap" v0 >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q 'packets of link type 101, and v0 takes those of 1' "$work/err" && grep -q '^0 sent' "$work/out"
check $? "packets of another link type are refused"

# ---- from where, and where to -----------------------------------------------------
listen v1 "$work/got.pcap"
# shellcheck disable=SC2002 # a pipe is meant
cat "$work/many.pcap" | "$replay" -t - v0 >"$work/out"
check $? "from a pipe"
heard "$work/got.pcap" 100
cmp -s <(bytes_of "$work/many.pcap") <(bytes_of "$work/got.pcap")
check $? "from a pipe: all of them"
listen v1 "$work/got.pcap"
head -c 3000 "$work/many.pcap" >"$work/cut.pcap"
"$replay" -t "$work/cut.pcap" v0 >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q 'cut.pcap' "$work/err"
check $? "a file that ends within a packet is a failure with words"
heard "$work/got.pcap" 21
cmp -s <(bytes_of "$work/many.pcap" | head -n 21) <(bytes_of "$work/got.pcap")
check $? "after what came before it"
if command -v script >/dev/null; then
    script -qec "$replay -x 2 $work/steps.pcap v0" /dev/null </dev/null >"$work/out" 2>&1
    grep -q '\[#* *\] *[0-9]* %  [0-9]* packets  [0-9.]* MB' "$work/out"
    check $? "a bar on a terminal"
else
    echo "ok - a bar on a terminal # SKIP script is not installed"
fi
"$replay" "$work/many.pcap" nosuch0 2>&1 | grep -q 'nosuch0'
check $? "no such interface"
"$replay" "$work/nosuch.pcap" v0 2>&1 | grep -q 'nosuch.pcap'
check $? "no such file"
for wrong in '' 'x' 'x v0 y' '-x 0 x v0' '-x 1 -t x v0' '-r 5q x v0' '-b 257 x v0' '-m none x v0' '-l 2 - v0'; do
    # shellcheck disable=SC2086 # words are meant
    "$replay" $wrong >/dev/null 2>"$work/err" </dev/null
    [ $? -eq 2 ] && [ -s "$work/err" ]
    check $? "wrong usage: $wrong"
done
"$replay" -h | grep -q '^usage: replay'
check $? "-h"
if unshare -U true 2>/dev/null; then
    unshare -U "$replay" "$work/many.pcap" v0 >"$work/out" 2>"$work/err"
    [ $? -eq 77 ] && grep -q CAP_NET_RAW "$work/err"
    check $? "without the privilege it says what is missing"
fi
exit $rc
