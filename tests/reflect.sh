#!/bin/bash
# The reflect example: what is addressed to it comes back with its addresses swapped, and nothing
# else. In a network of its own. usage: reflect.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
. tests/wire.sh
inject=$examples/inject
reflect=$examples/reflect
wire
me=0200000000a0 it=0200000000a1
# 192.0.2.1 port 0x1234 to 192.0.2.2 port 7, "netring!".
udp="080045000024000000004011 0000 c0000201c0000202 12340007001000006e657472696e6721"
turned="080045000024000000004011 0000 c0000202c0000201 00071234001000006e657472696e6721"
udp=${udp// /} turned=${turned// /}

# reflecting ARGUMENTS...: in the background, ready.
program=
reflecting() {
    local before
    before=$(grep -c . /proc/net/packet)
    "$reflect" "$@" >"$work/out" 2>"$work/err" &
    program=$!
    started "$program"
    for _ in {1..200}; do # the capture's socket and the injector's
        [ "$(grep -c . /proc/net/packet)" -ge $((before + 2)) ] && break
        sleep 0.05
    done
    sleep 0.2
}
ended() { # WHAT
    wait "$program"
    check $? "$1"
}
got() { bytes_of "$work/got.pcap" | sort | uniq -c | tr -s ' ' | tr '\n' ','; }

for method in ring sendmmsg; do
    listen v0 "$work/got.pcap"
    reflecting -m $method -c 20 v1
    "$inject" -x "$it$me$udp" -c 20 v0 >/dev/null
    ended "$method: it ends after 20"
    heard "$work/got.pcap" 20
    [ "$(got)" = " 20 $me$it$udp," ]
    check $? "$method: all come back, MAC addresses swapped"
    grep -q '^20 reflected$' "$work/out" && grep -q '^20 received, 0 dropped; 0 refused' "$work/out"
    check $? "$method: it says so"
done

listen v0 "$work/got.pcap"
reflecting -a -c 30 v1
"$inject" -x "ffffffffffff$me$udp" -c 5 v0 >/dev/null        # a broadcast
"$inject" -x "020000000099$me$udp" -c 5 v0 >/dev/null        # somebody else's
"$inject" -x "$it$me$udp" -c 10 v0 >/dev/null
"$inject" -x "$it${me}8100a064$udp" -c 10 v0 >/dev/null      # tagged
"$inject" -x "$it${me}88a8a0648100b065$udp" -c 9 v0 >/dev/null # twice
"$inject" -x "$it${me}88b50102030405060708" -c 1 v0 >/dev/null # not IP
ended "-a"
heard "$work/got.pcap" 30
[ "$(got)" = " 10 $me$it$turned, 10 $me${it}8100a064$turned, 9 $me${it}88a8a0648100b065$turned, 1 $me${it}88b50102030405060708," ]
check $? "-a: addresses and ports swapped, tags kept, others and broadcasts left alone"

# ask PORT SECONDS: what comes back to a socket that sends a datagram. dd reads all of one.
ask() {
    exec 5<>"/dev/udp/10.9.0.2/$1"
    echo "is $1 there" >&5
    timeout "$2" dd bs=1500 count=1 <&5 2>/dev/null
    exec 5>&-
}
# An echo server: checksums are judged by this host, which also left them to the device to fill in.
if ip address add 10.9.0.1/24 dev v0 && ip link set v0 arp on &&
    ip neighbour add 10.9.0.2 lladdr 02:00:00:00:00:a1 dev v0; then
    reflecting -a v1
    [ "$(ask 7 10)" = "is 7 there" ]
    check $? "an answer to a UDP socket"
    kill -INT "$program"
    ended "Ctrl-C ends it"
    if "$examples/capture" -h >/dev/null && "$reflect" -c 1 v1 not a filter 2>&1 | grep -q 'cannot be opened'; then
        echo "ok - a filter # SKIP no libpcap"
    else
        reflecting -a v1 udp port 7
        for port in 8 7; do
            [ "$(ask $port $((port == 7 ? 10 : 1)))" = "$([ $port -eq 8 ] || echo "is 7 there")" ]
            check $? "a filter: port $port"
        done
        kill -INT "$program"
        ended "with its figures"
        grep -q '^1 reflected$' "$work/out"
        check $? "one was reflected"
    fi
else
    echo "ok - an echo server # SKIP no address here"
fi

"$reflect" nosuch0 2>&1 | grep -q nosuch0
check $? "no such interface"
timeout 5 "$reflect" lo 2>&1 | grep -q 'for ever'
check $? "lo would never end"
"$reflect" v1 not a filter >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && [ -s "$work/err" ]
check $? "no such filter"
for wrong in '' '-c 0 v1' '-c x v1' '-m none v1' '-Z'; do
    # shellcheck disable=SC2086 # words are meant
    "$reflect" $wrong >/dev/null 2>"$work/err"
    [ $? -eq 2 ] && [ -s "$work/err" ]
    check $? "wrong usage: $wrong"
done
"$reflect" -h | grep -q '^usage: reflect'
check $? "-h"
if unshare -U true 2>/dev/null; then
    unshare -U "$reflect" v1 >"$work/out" 2>"$work/err"
    [ $? -eq 77 ] && grep -q CAP_NET_RAW "$work/err"
    check $? "without the privilege it says what is missing"
fi
exit $rc
