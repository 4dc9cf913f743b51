#!/bin/bash
# The latency example on lo: every way to wait gets its packets and a histogram of them.
# usage: latency.sh BUILD/examples
rc=0
result() { # WHAT STATUS
    if [ "$2" -eq 0 ]; then echo "ok - $1"; else echo "not ok - $1"; rc=1; fi
}
out=$("$1/latency" -n 100)
result "exit status 0" $?
for mode in blocks waiting spinning; do
    grep -q "^$mode: 100 packets, p50 [0-9.]* us, p99 [0-9.]* us, longest [0-9.]* us\$" <<<"$out"
    result "$mode: a line" $?
done
counted=$(awk '$2 == "us" && NF >= 3 && $1 ~ /^[0-9]+$/ { n += $3 } END { print n }' <<<"$out")
[ "$counted" = 300 ]
result "every packet is in a histogram ($counted)" $?
out=$("$1/latency" -n 5 -m waiting lo & for _ in {1..200}; do printf x >/dev/udp/127.0.0.1/9; sleep 0.01; done; wait)
[ "$(grep -c packets, <<<"$out")" = 1 ] && grep -q '^waiting: 5 packets' <<<"$out"
result "one mode, the traffic of others" $?
"$1/latency" -m none >/dev/null 2>&1
[ $? = 2 ]
result "no such mode" $?
"$1/latency" nosuch0 2>&1 | grep -q 'interface not found: nosuch0'
result "no such interface" $?
"$1/latency" -m waiting -n 1000000 >/dev/null &
program=$!
until [ "$(grep -c . /proc/net/packet)" -gt 1 ]; do sleep 0.05; done
kill -INT $program
wait $program
result "ends with Ctrl-C" $?
exit $rc
