#!/bin/bash
# Options of the capture example by what they do: direction, immediate, another network namespace.
# In a network of its own. usage: options.sh BUILD/examples
capture=$1/capture
export PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
rc=0
senders=()
trap '[ ${#senders[@]} -eq 0 ] || kill "${senders[@]}"; rm -rf "$work"' EXIT
check() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}
lines() { grep -c "$1" "$work/out"; }
# Datagrams to that address, until the end.
send() {
    while :; do
        echo x >"/dev/udp/$1/9"
        sleep 0.02
    done 2>/dev/null
}
export -f send

# What goes out of v0 comes in at v1.
if ip link add v0 type veth peer name v1 && ip address add 10.9.0.1/24 dev v0 && ip link set v0 up &&
    ip link set v1 up && ip neighbour add 10.9.0.2 lladdr 02:00:00:00:00:02 dev v0; then
    send 10.9.0.2 &
    senders+=($!)
    udp='4,48 0 0 23,21 0 1 17,6 0 0 262144,6 0 0 0' # nothing but what is sent here
    timeout 20 "$capture" -i v1 -d in -c 5 "$udp" >"$work/out" 2>"$work/err"
    check $? "-d in, where packets come in"
    [ "$(lines ' v1/.*10\.9\.0\.2:9 UDP')" -eq 5 ]
    check $? "-d in: five of them"
    timeout -s INT 2 "$capture" -i v0 -d in "$udp" >"$work/out" 2>"$work/err"
    [ ! -s "$work/out" ] && grep -q '^0 seen by the kernel' "$work/err"
    check $? "-d in, where they go out: the kernel leaves them out"
    timeout 20 "$capture" -i v0 -d both -c 5 "$udp" >"$work/out" 2>"$work/err"
    [ "$(lines ' v0/out .*10\.9\.0\.2:9 UDP')" -eq 5 ]
    check $? "-d both: they are shown"
    timeout 20 "$capture" -i v0 -d out -c 5 "$udp" >"$work/out" 2>"$work/err"
    [ "$(lines ' v0/out .*10\.9\.0\.2:9 UDP')" -eq 5 ]
    check $? "-d out: they are shown on the sender's side"
    timeout -s INT 2 "$capture" -i v1 -d out "$udp" >"$work/out" 2>"$work/err"
    [ ! -s "$work/out" ] && grep -q '^0 seen by the kernel' "$work/err"
    check $? "-d out: and not on the other one"
    timeout 20 "$capture" -i v1 --immediate --profile low-memory -c 5 "$udp" >"$work/out" 2>"$work/err"
    [ "$(lines '10\.9\.0\.2:9 UDP')" -eq 5 ]
    check $? "--immediate"
else
    echo "ok - a veth pair # SKIP cannot be made here"
fi

# A process in another network, which is all that is known of it.
unshare -n bash -c 'ip link set lo up; exec 3<&-; send 127.0.0.1' &
senders+=($!)
other=$!
for _ in $(seq 100); do
    [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break
    sleep 0.05
done
timeout 20 "$capture" --netns $other -i lo -c 5 >"$work/out" 2>"$work/err"
check $? "--netns by process"
[ "$(lines ' lo/.*127\.0\.0\.1')" -eq 5 ]
check $? "--netns by process: five packets of there"
timeout 20 "$capture" --netns /proc/$other/ns/net -i lo -c 5 >"$work/out" 2>"$work/err"
check $? "--netns by path"
timeout -s INT 2 "$capture" -i lo >"$work/out" 2>"$work/err"
[ ! -s "$work/out" ]
check $? "here there are none"
"$capture" --netns no-such-name -i lo >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q 'run/netns/no-such-name.*ip netns list' "$work/err"
check $? "a name that is not there: what to do"
"$capture" -d sideways >"$work/out" 2>"$work/err"
[ $? -eq 2 ]
check $? "a wrong direction: usage"
[ $rc -eq 0 ] || cat "$work/out" "$work/err"
exit $rc
