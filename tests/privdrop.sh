#!/bin/sh
# privdrop.sh DIRECTORY: the privdrop example without arguments: a worker that has nothing left
# captures what was sent. In a network of its own.
rc=0
check() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}

output=$("$1/privdrop" 2>&1)
status=$?
echo "$output" | sed 's/^/# /'
[ $status -ne 77 ] || { echo "no privilege and no network namespace"; exit 77; }
[ $status -eq 0 ]
check $? "exit status $status"
echo "$output" | grep -q 'make a packet socket  *Operation not permitted'
check $? "the worker could not have made the socket"
! echo "$output" | grep -q 'still possible'
check $? "nothing that it should not do is possible"
[ "$(echo "$output" | grep -c '^  [0-9.]* [0-9]* bytes$')" -eq 10 ]
check $? "it shows ten packets"
# 14 bytes of Ethernet, 20 of IP, 8 of UDP, and 50 more each.
[ "$(echo "$output" | sed -n 's/^  [0-9.]* \([0-9]*\) bytes$/\1/p' | tr '\n' ' ')" = "42 92 142 192 242 292 342 392 442 492 " ]
check $? "those that were sent"
if [ "$(id -u)" = 0 ] && grep -q ' 4294967295$' /proc/self/uid_map; then
    echo "$output" | grep -q 'be root again  *Operation not permitted'
    check $? "and is no longer root"
fi
exit $rc
