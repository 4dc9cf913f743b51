#!/bin/bash
# The fanout example, on lo with traffic of its own: its threads share it, and an end by a signal is
# an end.
# usage: fanout.sh BUILD-OF-THE-EXAMPLES
cd "$(dirname "$0")/.." || exit 1
example=$1/fanout
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rc=0
check() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}

timeout 30 "$example" -t 3 -m lb -s 1 >"$work/lb" 2>&1
check $? "lb: it comes to its end"
# In turn: the shares differ by one at most.
awk '/^thread/ { n++; if (min == "" || $5 < min) min = $5; if ($5 > max) max = $5 }
    END { exit !(n == 3 && min > 0 && max - min <= 1) }' "$work/lb"
check $? "lb: three threads have the same share"
grep -q '^packets/s ' "$work/lb"
check $? "lb: rates are printed"

"$example" -t 2 >"$work/hash" 2>&1 &
pid=$!
for _ in $(seq 300); do grep -q 'fanout group' "$work/hash" && break; sleep 0.1; done
kill -INT $pid
wait $pid
check $? "hash: an end by a signal"
grep -q '^together: ' "$work/hash"
check $? "hash: the totals are printed"

"$example" no-such-link >"$work/none" 2>&1
[ $? -eq 1 ] && grep -q 'interface not found' "$work/none"
check $? "an interface that is not there"
"$example" -m sideways >/dev/null 2>&1
[ $? -eq 2 ]
check $? "a mode that is not there"
[ $rc -eq 0 ] || head -n 20 "$work"/*
exit $rc
