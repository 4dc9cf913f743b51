#!/bin/bash
# The xdp_dump example: what its filter accepts comes to it and not to the host, all else to the host;
# from all queues or some; and it says what was granted. In a network of its own.
# usage: xdp_dump.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
. tests/wire.sh
inject=$examples/inject
dump=$examples/xdp_dump
wire 2
needs_xdp
if "$dump" -c 1 v1 not a filter 2>&1 | grep -q 'cannot be opened'; then
    echo "filters need libpcap, which is not installed"
    exit 77
fi
me=0200000000a0 it=0200000000a1

# dumping ARGUMENTS...: in the background, attached.
program=
dumping() {
    : >"$work/err"
    "$dump" "$@" >"$work/out" 2>"$work/err" &
    program=$!
    started "$program"
    until_true 20 grep -q ' queues, .* of frames, program ' "$work/err" || cat "$work/err"
}
ended() { # WHAT
    wait "$program"
    check $? "$1"
}
attached() { ip -d link show v1 | grep -q 'prog/xdp'; }

# ---- a filter ---------------------------------------------------------------------
# The host's side of v1: what the program leaves to it.
for threads in '' -e; do
    listen v1 "$work/host.pcap"
    dumping -p $threads -c 20 v1 udp port 9
    "$inject" -x "$it${me}88b50102030405060708" -c 5 v0 >/dev/null
    "$inject" -c 20 v0 >/dev/null
    "$inject" -x "$it${me}88b50102030405060708" -c 5 v0 >/dev/null
    ended "${threads:-threads}: it ends after 20"
    [ "$(grep -c ' bytes 02:00:00:00:00:a0 > 02:00:00:00:00:02 0x0800 4500' "$work/out")" -eq 20 ]
    check $? "${threads:-threads}: 20 lines of packets"
    grep -q '^20 packets delivered, 0 dropped$' "$work/err"
    check $? "${threads:-threads}: it says so"
    heard "$work/host.pcap" 10
    [ "$(bytes_of "$work/host.pcap" | sort | uniq -c | tr -s ' ')" = " 10 $it${me}88b50102030405060708" ]
    check $? "${threads:-threads}: the host has all others and none of these"
    ! attached
    check $? "${threads:-threads}: no program stays"
done
grep -q '^v1: copy, 2 of 2 queues' "$work/err" && grep -q '^not zero-copy: ' "$work/err"
check $? "the mode, and why it is no better one: $(sed -n 's/^not zero-copy: //p' "$work/err")"

# ---- queues ------------------------------------------------------------------------
# xdp_send says by which queue; on veth it is the receiver's of that number.
dumping -y v1 all
"$examples/xdp_send" -q 0 -c 300 v0 >/dev/null 2>&1
"$examples/xdp_send" -q 1 -c 200 v0 >/dev/null 2>&1
until_true 10 grep -q 'packets/s.* 1: ' "$work/err"
check $? "a line a second, with each queue"
kill -INT "$program"
ended "Ctrl-C ends it"
grep -q '^500 packets delivered' "$work/err" && grep -q '^queue 0: 300 packets$' "$work/err" &&
    grep -q '^queue 1: 200 packets$' "$work/err"
check $? "packets of both queues"
listen v1 "$work/host.pcap"
dumping -y -q 1 -c 50 v1 all
grep -q '^v1: copy, 1 of 2 queues' "$work/err" && grep -q 'go to the host, not here: 0$\|goes to the host, not here: 0$' "$work/err"
check $? "-q 1: queue 0 is named"
"$examples/xdp_send" -q 0 -c 30 v0 >/dev/null 2>&1
"$examples/xdp_send" -q 1 -c 50 v0 >/dev/null 2>&1
ended "-q 1: fifty from there"
heard "$work/host.pcap" 30
[ "$(packets "$work/host.pcap" | wc -l)" -eq 30 ]
check $? "-q 1: what arrives at queue 0 is the host's"

# ---- modes ---------------------------------------------------------------------------
"$dump" -m zerocopy v1 arp >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && [ -s "$work/err" ]
check $? "-m zerocopy: $(head -n 1 "$work/err")"
for mode in copy skb; do
    dumping -m $mode -c 5 v1 udp
    grep -qi "^v1: $mode, 2 of 2" "$work/err"
    check $? "-m $mode"
    "$inject" -c 5 v0 >/dev/null
    ended "-m $mode: five packets"
done
dumping v1 udp
"$dump" v1 arp >"$work/out" 2>"$work/second"
[ $? -eq 1 ] && grep -q "$(sed -n 's/.*program \([0-9]*\)$/\1/p' "$work/err")" "$work/second"
check $? "a second one is told whose program is there: $(head -n 1 "$work/second")"
kill -9 "$program"
wait "$program" 2>/dev/null
until_true 5 eval '! attached'
check $? "kill -9 leaves no program"
dumping -c 3 v1 udp
"$inject" -c 3 v0 >/dev/null
ended "and the next one works at once"

# ---- packets of several frames -----------------------------------------------------------
if ip link set v0 mtu 9000 && ip link set v1 mtu 9000; then
    "$dump" -m copy v1 arp >"$work/out" 2>"$work/err"
    [ $? -eq 1 ] && grep -q 'MTU 9000' "$work/err"
    check $? "an MTU of 9000 without -b: $(head -n 1 "$work/err")"
    dumping -b -p -m copy -c 4 v1 udp port 9
    "$inject" -s 8000 -c 4 v0 >/dev/null
    ended "-b: four packets"
    [ "$(grep -c 'queue [01] 8000 bytes' "$work/out")" -eq 4 ]
    check $? "-b: of 8000 bytes"
    dumping -m skb -y v1 all
    "$inject" -s 8000 -c 4 v0 >/dev/null
    until_true 10 grep -q ' 4 dropped' "$work/err"
    kill -INT "$program"
    ended "without -b"
    grep -q '^0 packets delivered, 4 dropped$' "$work/err" && grep -q '^4 of them were larger' "$work/err"
    check $? "without -b they are dropped, and it says so"
    ip link set v0 mtu 1500 && ip link set v1 mtu 1500
else
    echo "ok - packets of several frames # SKIP no such MTU here"
fi

# ---- all -------------------------------------------------------------------------------
if ip address add 10.9.0.2/24 dev v1 && ip route add default dev v1; then
    "$dump" v1 all >"$work/out" 2>"$work/err"
    [ $? -eq 1 ] && grep -q 'default route leads to v1' "$work/err" && ! attached
    check $? "all on the interface of the default route is refused"
    SSH_CONNECTION='10.9.0.1 1234 10.9.0.2 22' "$dump" v1 all >"$work/out" 2>"$work/err"
    [ $? -eq 1 ] && grep -q 'SSH session comes in by v1' "$work/err"
    check $? "all on the interface of the SSH session is refused"
    dumping -y -c 2 v1 all
    "$inject" -c 2 v0 >/dev/null
    ended "-y: it was meant"
    ip route del default dev v1
else
    echo "ok - all on the interface of the default route # SKIP no address here"
fi

# ---- usage -------------------------------------------------------------------------------
"$dump" nosuch0 arp 2>&1 | grep -q nosuch0
check $? "no such interface"
"$dump" v1 not a filter >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && [ -s "$work/err" ]
check $? "no such filter"
"$dump" -q 7 v1 arp >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q 7 "$work/err"
check $? "no such queue: $(head -n 1 "$work/err")"
for wrong in '' v1 '-c 0 v1 arp' '-c x v1 arp' '-q x v1 arp' '-q 3-1 v1 arp' '-m none v1 arp' '-Z'; do
    # shellcheck disable=SC2086 # words are meant
    "$dump" $wrong >/dev/null 2>"$work/err"
    [ $? -eq 2 ] && [ -s "$work/err" ]
    check $? "wrong usage: $wrong"
done
# An empty filter accepts everything.
for empty in '' ' '; do
    timeout 20 "$dump" v1 "$empty" >/dev/null 2>"$work/err"
    [ $? -eq 2 ] && grep -q 'no filter' "$work/err"
    check $? "an empty filter is none: \"$empty\""
done
dumping -c 3 v1 udp port 9 and greater "$(printf '%06000d' 1)"
"$inject" -c 3 v0 >/dev/null
ended "a filter of 6000 bytes"
"$dump" -h | grep -q '^usage: xdp_dump'
check $? "-h"
if unshare -U true 2>/dev/null; then
    unshare -U "$dump" v1 arp >"$work/out" 2>"$work/err"
    [ $? -eq 77 ] && grep -q CAP_ "$work/err"
    check $? "without the privilege it says what is missing: $(head -n 1 "$work/err")"
fi
exit $rc
