#!/bin/bash
# The bridge example: a host here and one in another namespace find each other through it, what the
# filter matches does not cross, and the totals say so. In a network namespace of its own (ns.sh).
# usage: bridge.sh BUILD/examples
cd "$(dirname "$0")/.." || exit 1
example=$1/bridge
work=$(mktemp -d)
rc=0
check() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}
until_says() { # FILE TEXT
    for _ in $(seq 300); do grep -q "$2" "$1" && return 0; sleep 0.1; done
    return 1
}
number() { # FILE WORDS: the number before them in the totals from va to vb
    sed -n "s/^va -> vb: [0-9]* received.*, \([0-9]*\) $2.*/\1/p" "$1"
}

# 10.8.0.1 on wa, which leads to va; 10.8.0.2 on wb, in a namespace of its own, which leads to vb.
unshare -n sleep 300 &
there=$!
trap 'kill $there; rm -rf "$work"' EXIT
until [ "$(readlink /proc/$there/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
inside() { nsenter -n -t $there "$@"; }
quiet=(sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1)
{
    "${quiet[@]}"
    inside "${quiet[@]}" # neither exists without IPv6
    ip link add wa type veth peer name va && ip link add wb type veth peer name vb &&
        ip link set wb netns $there && ip link set wa up && ip link set va up && ip link set vb up &&
        inside ip link set wb up && ip address add 10.8.0.1/24 dev wa &&
        inside ip address add 10.8.0.2/24 dev wb
} >"$work/links" 2>&1 || {
    cat "$work/links"
    echo "no links to bridge"
    exit 77
}

"$example" -d 'udp port 9' va vb >"$work/out" 2>&1 &
bridge=$!
until_says "$work/out" 'are bridged'
check $? "it says that it runs"
# Whether they have found each other is in the table of neighbours.
for _ in $(seq 100); do
    echo x >/dev/udp/10.8.0.2/10
    ip neighbour show 10.8.0.2 | grep -q lladdr && break
    sleep 0.1
done
ip neighbour show 10.8.0.2 | grep -q lladdr
check $? "ARP crosses it, both ways"
for _ in 1 2 3 4 5; do
    echo x >/dev/udp/10.8.0.2/9
    echo x >/dev/udp/10.8.0.2/10
done
until_says "$work/out" '^va -> vb: .* 5 by filter'
check $? "live counters: five datagrams were dropped by the filter"
kill -INT $bridge
wait $bridge
check $? "Ctrl-C is an end"
[ "$(number "$work/out" 'by filter')" = 5 ]
check $? "the totals have the five"
[ "$(sed -n 's/^va -> vb: [0-9]* received, \([0-9]*\) forwarded.*/\1/p' "$work/out")" -ge 7 ]
check $? "the others were forwarded"

ip neighbour flush dev wa
"$example" -B /proc/$there/ns/net va wb >"$work/out" 2>&1 &
bridge=$!
until_says "$work/out" 'are bridged'
check $? "an interface of another namespace"
ip link delete wa
wait $bridge
[ $? -eq 1 ] && grep -q 'va was removed' "$work/out"
check $? "an interface that is removed ends it, and is named"

"$example" -s 0.2 -o vb nosuch >"$work/none" 2>&1
[ $? -eq 1 ] && grep -q 'interface not found: nosuch' "$work/none"
check $? "an interface that is not there"
"$example" -d 'no such thing' vb lo >"$work/none" 2>&1
[ $? -eq 1 ] && grep -q '^bridge: -d: ' "$work/none"
check $? "an expression that is none"
"$example" vb >/dev/null 2>&1
[ $? -eq 2 ]
check $? "one interface alone: usage"
[ $rc -eq 0 ] || head -n 20 "$work"/*
exit $rc
