#!/bin/bash
# The follow example over everything that can befall an interface: what it says, and that it goes on.
# usage: follow.sh BUILD/examples
export PATH=$PATH:/usr/sbin:/sbin
command -v ip >/dev/null || { echo "ip (iproute2) is not installed"; exit 77; }
work=$(mktemp -d)
program=
trap '[ -z "$program" ] || kill -9 "$program" 2>/dev/null; rm -rf "$work"' EXIT
rc=0
# says TEXT: within a while, as a line of its own or at the end of one.
says() {
    for _ in {1..100}; do
        grep -q "$1\$" "$work/out" && { echo "ok - $1"; return; }
        sleep 0.1
    done
    echo "not ok - $1"
    sed 's/^/# /' "$work/out"
    rc=1
}

ip link add v0 type veth peer name v1 || { echo "no veth pairs here"; exit 77; }
ip link set v0 up && ip link set v1 up
"$1/follow" v0 >"$work/out" 2>&1 &
program=$!
says 'v0: capturing'
ip link set v0 down
says 'v0 is down'
ip link set v0 name x0
says 'x0 is the new name of v0'
ip link set x0 up
says 'x0 is up'
ip link del x0
says 'x0 was removed'
says 'waiting for the next v0'
ip link add v0 type veth peer name v1
says 'v0 is back'
ip link set v0 up
says 'v0 is up'
kill -INT $program
wait $program
status=$?
program=
if [ $status -eq 0 ]; then echo "ok - ends with Ctrl-C"; else echo "not ok - exit status $status"; rc=1; fi
says '0 dropped'
exit $rc
