#!/bin/bash
# The capture example's --backend: AF_PACKET and AF_XDP show and write the same packets, auto takes what
# can do it and says why. In a network of its own. usage: xdp_capture.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
. tests/wire.sh
inject=$examples/inject
capture=$examples/capture
wire 2
needs_xdp
udp='4,40 0 0 12,21 0 1 2048,6 0 0 262144,6 0 0 0' # IPv4; needs no libpcap

# capturing ARGUMENTS...: in the background, ready.
program=
capturing() {
    : >"$work/err"
    "$capture" -i v1 "$@" >"$work/out" 2>"$work/err" &
    program=$!
    started "$program"
    until_true 20 eval "grep -qs 'AF_XDP on' '$work/err' || grep -q : /proc/net/packet || [ \$(grep -c . /proc/net/packet) -gt 1 ]" || cat "$work/err"
    sleep 0.2
}
ended() { # WHAT
    wait "$program"
    check $? "$1"
}
# The lines without time and direction, which AF_XDP does not tell.
lines() { sed 's,^[0-9:.]* v1/[a-z?]* ,,' "$work/out"; }

for backend in packet xdp auto; do
    capturing --backend $backend -c 30 "$udp"
    "$inject" -x '0200000000a10200000000a088b50102030405060708' -c 5 v0 >/dev/null
    "$inject" -c 30 v0 >/dev/null
    ended "$backend: it ends after 30"
    lines >"$work/lines.$backend"
    [ "$(grep -c '^60/60 IPv4 192.0.2.1:9 > 192.0.2.2:9 UDP' "$work/lines.$backend")" -eq 30 ]
    check $? "$backend: 30 lines"
    grep -q '^30 packets shown$' "$work/err" && ! grep -q 'do not add up' "$work/err"
    check $? "$backend: and the figures add up"
    cp "$work/err" "$work/err.$backend"
done
cmp -s "$work/lines.packet" "$work/lines.xdp" && cmp -s "$work/lines.packet" "$work/lines.auto"
check $? "the same lines"
grep -q '^AF_XDP on 2 queues of v1 (copy)' "$work/err.xdp" && grep -q '^AF_XDP on 2 queues' "$work/err.auto" &&
    ! grep -q AF_XDP "$work/err.packet"
check $? "it says which it is"

# The packets' bytes of a file that tcpdump reads; nothing where it cannot.
bytes_in() { tcpdump -n -t -xx -r "$work/$1.pcapng" 2>/dev/null | grep '^\s*0x'; }
# ---- into files -------------------------------------------------------------------
for backend in packet xdp; do
    capturing --backend $backend -c 500 -w "$work/$backend.pcapng" "$udp"
    "$inject" -c 700 -r 10k v0 >/dev/null
    ended "$backend -w"
    [ "$("$examples/savefile" "$work/$backend.pcapng" | grep -c 'link type 1, 60 of 60 bytes, ')" -eq 500 ]
    check $? "$backend -w: the savefile example reads them"
    if command -v capinfos >/dev/null; then
        [ "$(capinfos -M -c "$work/$backend.pcapng" | awk '/Number of packets:/ { print $NF }')" = 500 ] &&
            [ "$(capinfos -I "$work/$backend.pcapng" | grep -c 'Name = v1')" = 1 ]
        check $? "$backend -w: capinfos: 500 packets of v1"
    else
        echo "ok - $backend -w: capinfos # SKIP not installed"
    fi
done
cmp -s <(bytes_in packet) <(bytes_in xdp)
check $? "the same bytes in both"
capturing --backend xdp --take-all -w "$work/cut.pcapng" --rotate-size 4k
"$inject" -c 200 -r 5k v0 >/dev/null
sleep 0.5
kill -INT "$program"
ended "Ctrl-C ends it"
grep -q '^200 packets written$' "$work/err" && [ "$(find "$work" -name 'cut_0*' | wc -l)" -gt 2 ]
check $? "--take-all, rotated: 200 packets written"

# ---- auto, where AF_XDP is not the thing -----------------------------------------------
auto() { # WHY ARGUMENTS...
    local why=$1
    shift
    : >"$work/err"
    timeout -s INT 10 "$capture" --backend auto -c 5 "$@" >"$work/out" 2>"$work/err" &
    program=$!
    started "$program"
    until_true 10 grep -q "^AF_PACKET, not AF_XDP: .*$why" "$work/err"
    check $? "auto, $why: $(head -n 1 "$work/err")"
    sleep 0.3
    "$inject" -c 5 v0 >/dev/null
    "$inject" -c 5 lo >/dev/null
    ended "auto, $why: packets by AF_PACKET"
}
auto 'interface' "$udp"
auto 'filter' -i v1
auto 'snap\|-s' -i v1 -s 40 "$udp"
auto 'sends' -i v0 -d out "$udp"
auto 'driver' -i lo "$udp"

for wrong in '--backend none' '--backend xdp' '--backend xdp -i v1' '--backend xdp -i v1 -s 40 --take-all' \
    '--backend xdp -i v1 -d out --take-all' '--backend xdp --demo'; do
    # shellcheck disable=SC2086 # words are meant
    "$capture" $wrong >/dev/null 2>"$work/err"
    [ $? -eq 2 ] && [ -s "$work/err" ]
    check $? "wrong usage: $wrong"
done
for empty in '' ' '; do
    timeout 20 "$capture" --backend xdp -i v1 "$empty" >/dev/null 2>"$work/err"
    [ $? -eq 2 ] && grep -q 'take-all' "$work/err"
    check $? "an empty filter needs --take-all: \"$empty\""
    echo "$empty" >"$work/empty"
    timeout 20 "$capture" --backend xdp -i v1 -f "$work/empty" >/dev/null 2>"$work/err"
    [ $? -eq 1 ] && grep -q 'take-all' "$work/err"
    check $? "and of a file: \"$empty\""
done
if unshare -U true 2>/dev/null; then
    unshare -U "$capture" --backend xdp -i v1 "$udp" >"$work/out" 2>"$work/err"
    [ $? -eq 1 ] && grep -q 'cap_net_raw,cap_net_admin,cap_bpf' "$work/err"
    check $? "without the privilege it says what is missing"
fi
exit $rc
