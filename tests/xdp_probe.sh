#!/bin/bash
# The xdp_probe example: its table and its details, on links whose values the test has chosen.
# In a network of its own. usage: xdp_probe.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
. tests/wire.sh
probe=$examples/xdp_probe
wire

# Of who may not load XDP programs it says so; the rest is the same.
"$probe" lo >"$work/out" 2>&1
case $? in
0) may=yes ;;
3) may=no ;;
*) may=broken ;;
esac
[ $may != broken ] && grep -q '^lo: index 1, driver -, ' "$work/out"
check $? "lo in detail"

# mode NAME: of the table.
mode() { "$probe" | awk -v name="$1" '$1 == name { print $3 }'; }
"$probe" >"$work/out" 2>"$work/err"
[ $? -eq 0 ] && [ ! -s "$work/err" ] && head -n 1 "$work/out" | grep -q '^interface  *driver  *open '
check $? "a table"
[ "$(sed 1d "$work/out" | awk '{ print $1 }' | sort)" = "$(ip -o link show | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | sort)" ]
check $? "a line for each interface"
if [ $may = yes ]; then
    [ "$(mode v0)" = native ] && [ "$(mode lo)" = skb ]
    check $? "a veth is native, lo is not"
    ip link set v1 mtu 9000
    [ "$(mode v0)" = skb ]
    check $? "not with a peer of MTU 9000"
    "$probe" v0 >"$work/out"
    [ $? -eq 0 ] && grep -q '^  open: skb$' "$work/out" && grep -q '^  no better mode: .*the MTU$' "$work/out" &&
        grep -q '^  advice: .*NETRING_XDP_MULTI_BUFFER' "$work/out"
    check $? "in detail: why, and what to do"
    ip link set v1 mtu 1500
    "$probe" v0 >"$work/out"
    grep -q '^  open: native$' "$work/out" && ! grep -q advice "$work/out"
    check $? "in detail: native again, and nothing to say"
else
    [ "$(mode v0)" = no: ]
    check $? "it says what is in the way"
    "$probe" v0 >"$work/out"
    [ $? -eq 3 ] && grep -q '^  open: would fail (privilege); otherwise native$' "$work/out" &&
        grep -q '^  advice: XDP programs need CAP_BPF' "$work/out"
    check $? "in detail: what it would be otherwise"
fi
ip link set v0 down
"$probe" v0 >"$work/out"
grep -q '^v0: index .* down, ' "$work/out" && grep -q '`ip link set v0 up`' "$work/out"
check $? "a link that is down"
"$probe" nosuch0 >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q '^xdp_probe: interface not found: nosuch0' "$work/err"
check $? "no such interface"
"$probe" -x >"$work/out" 2>"$work/err"
[ $? -eq 2 ] && grep -q '^usage: xdp_probe' "$work/err"
check $? "a wrong option"
"$probe" -h >"$work/out" 2>"$work/err"
[ $? -eq 0 ] && grep -q '^usage: xdp_probe' "$work/out"
check $? "-h"
[ $rc -eq 0 ] || cat "$work/out" "$work/err"
exit $rc
