#!/bin/bash
# The xdp_reflect example: what is addressed to it comes back with the MAC addresses swapped; between
# two interfaces everything crosses as it is. In a network of its own.
# usage: xdp_reflect.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
. tests/wire.sh
inject=$examples/inject
reflect=$examples/xdp_reflect
wire 2
needs_xdp
me=0200000000a0 it=0200000000a1
payload=88b50102030405060708

program=
reflecting() { # COUNT-OF-INTERFACES ARGUMENTS...
    local sides=$1
    shift
    : >"$work/err"
    "$reflect" "$@" >"$work/out" 2>"$work/err" &
    program=$!
    started "$program"
    until_true 20 eval "[ \$(grep -c ' queues\$' '$work/err') -eq $sides ]" || cat "$work/err"
    sleep 0.2
}
ended() { # WHAT
    wait "$program"
    check $? "$1"
}
got() { bytes_of "$work/got.pcap" | sort | uniq -c | tr -s ' ' | tr '\n' ','; }

# ---- one interface ------------------------------------------------------------------
for mode in auto skb; do
    listen v0 "$work/got.pcap"
    reflecting 1 -a -m $mode -c 2000 v1
    "$inject" -x "ffffffffffff$me$payload" -c 5 v0 >/dev/null # a broadcast
    "$inject" -x "020000000099$me$payload" -c 5 v0 >/dev/null # somebody else's
    "$inject" -x "$it$me$payload" -c 2000 -r 20k v0 >/dev/null
    ended "$mode: it ends after 2000"
    heard "$work/got.pcap" 2000
    [ "$(got)" = " 2000 $me$it$payload," ]
    check $? "$mode: all come back, MAC addresses swapped, and no others"
    grep -q '^2000 forwarded$' "$work/out" && grep -q '^10 were not to be sent on$' "$work/out" &&
        grep -q '^v1: 2010 received, 0 dropped$' "$work/out"
    check $? "$mode: it says so"
done

if "$reflect" -f 'not a filter' v1 2>&1 | grep -q 'cannot be opened'; then
    echo "ok - a filter # SKIP no libpcap"
else
    listen v0 "$work/got.pcap"
    listener_v0=$listener
    reflecting 1 -f 'ether proto 0x88b5' -c 10 v1
    "$inject" -x "$it${me}88b60102030405060708" -c 10 v0 >/dev/null
    "$inject" -x "$it$me$payload" -c 10 v0 >/dev/null
    ended "-f"
    listener=$listener_v0
    heard "$work/got.pcap" 10
    [ "$(got)" = " 10 $me$it$payload," ]
    check $? "-f: what it accepts comes back, and nothing else"
fi

# ---- two interfaces -------------------------------------------------------------------
# v0 - v1 [xdp_reflect] w0 - w1
# A socket can be had on its second queue, too, by which nothing comes.
if ip link add w0 numtxqueues 2 numrxqueues 1 type veth peer name w1; then
    ip link set w0 arp off up
    ip link set w1 arp off up
    listen w1 "$work/got.pcap"
    reflecting 2 -a v1 w0
    "$inject" -x "$it$me$payload" -c 3000 -r 20k v0 >/dev/null
    "$inject" -x "ffffffffffff${me}8100a064$payload" -c 7 v0 >/dev/null
    heard "$work/got.pcap" 3007
    [ "$(got)" = " 3000 $it$me$payload, 7 ffffffffffff${me}8100a064$payload," ]
    check $? "two interfaces: everything crosses, as it is"
    listen v0 "$work/got.pcap"
    "$inject" -x "$me$it$payload" -c 1000 -r 20k w1 >/dev/null
    heard "$work/got.pcap" 1000
    [ "$(got)" = " 1000 $me$it$payload," ]
    check $? "two interfaces: and the other way"
    kill -INT "$program"
    ended "Ctrl-C ends it"
    grep -q '^4007 forwarded$' "$work/out" && grep -q '^v1: 3007 received, 0 dropped$' "$work/out" &&
        grep -q '^w0: 1000 received, 0 dropped$' "$work/out"
    check $? "two interfaces: it says so"
    ! ip -d link show | grep -q prog/xdp
    check $? "no program stays"
else
    echo "ok - two interfaces # SKIP a second veth pair cannot be made"
fi

for wrong in '' v1 '-a' '-a a b c' '-c 0 -a v1' '-c x -a v1' '-m none -a v1' '-f ip -a v1' '-a -f ip v1' '-a v1 v1' '-Z'; do
    # shellcheck disable=SC2086 # words are meant
    "$reflect" $wrong >/dev/null 2>"$work/err"
    [ $? -eq 2 ] && [ -s "$work/err" ]
    check $? "wrong usage: $wrong"
done
timeout 20 "$reflect" -f ' ' v1 >/dev/null 2>"$work/err"
[ $? -eq 2 ] && grep -q empty "$work/err"
check $? "an empty filter is none"
"$reflect" -a nosuch0 2>&1 | grep -q nosuch0
check $? "no such interface"
"$reflect" -h | grep -q '^usage: xdp_reflect'
check $? "-h"
exit $rc
