#!/bin/bash
# What became of test programs, counted one check at a time: TAP lines (ok, not ok, # SKIP) and cargo's
# "test result:" lines; output without either counts as one check. To be sourced (tests/run.sh,
# tests/qemu/run.sh), with `logs` set.

passed=0 failed=0 skipped=0
skips=() failures=()

# tell NAME RC LIMIT SECONDS: counts a program that ended, whose output is in NAME.log, and says how.
tell() {
    local name=$1 log=$logs/$1.log rc=$2 limit=$3 seconds=$4 p f s planned word

    # TAP, and cargo's summary lines.
    read -r p f s planned < <(awk '
        /^ok/     { if (toupper($0) ~ /# *SKIP/) s++; else p++ }
        /^not ok/ { if (toupper($0) ~ /# *TODO/) s++; else f++ }
        /^1\.\.[0-9]+/ { split($1, a, /\.\./); n += a[2]; plan = 1 } # several programs may report
        /^test result:/ {
            for (i = 1; i < NF; i++) {
                if ($(i+1) ~ /^passed/) p += $i
                if ($(i+1) ~ /^failed/) f += $i
                if ($(i+1) ~ /^ignored/) s += $i
            }
        }
        END { print p+0, f+0, s+0, plan ? n : -1 }' "$log")
    if [ "$planned" -gt 0 ] && [ "$rc" -eq 0 ] && [ "$planned" -ne $((p + f + s)) ]; then
        echo "planned $planned checks, saw $((p + f + s))" >>"$log"
        rc=1
    fi
    [ "$rc" -eq 124 ] && echo "ended after its time limit of $limit s" >>"$log"
    if [ "$rc" -ne 0 ] && [ "$rc" -ne 77 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ "$f" -eq 0 ] && [ $((p + s)) -eq 0 ]; then
        if [ "$rc" -eq 77 ]; then s=1; else p=1; fi
    elif [ "$rc" -eq 77 ] && [ "$s" -eq 0 ]; then
        s=1
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))

    word=ok
    if [ "$f" -gt 0 ]; then
        word=FAILED
        failures+=("$name")
    elif [ "$rc" -eq 77 ]; then
        word=SKIP
    fi
    printf '%-6s %s (%d s)%s\n' "$word" "$name" "$seconds" "$(detail "$p" "$f" "$s")"
    if [ "$f" -gt 0 ]; then
        grep -q '^not ok' "$log" && grep -A 8 '^not ok' "$log" | head -n 60 | sed 's/^/    | /'
        echo "    : the end of $log:"
        tail -n 40 "$log" | sed 's/^/    | /'
    fi
    if [ "$s" -gt 0 ]; then
        reasons "$name" "$rc" "$log"
    fi
}

detail() {
    [ $(($1 + $2 + $3)) -gt 1 ] || return 0
    printf ': %d checks' $(($1 + $2 + $3))
    [ "$2" -gt 0 ] && printf ', %d failed' "$2"
    [ "$3" -gt 0 ] && printf ', %d skipped' "$3"
}

# Notes why something was skipped: per TAP line, and for a skipped suite its last line.
reasons() {
    local name=$1 rc=$2 log=$3 line
    while IFS= read -r line; do
        skips+=("$name: $line")
    done < <(sed -n -e 's/^ok[ 0-9]*-* *\(.*[^ ]\) *# *[Ss][Kk][Ii][Pp] */\1: /p' \
        -e 's/^test \(.*\) \.\.\. ignored,* */\1: ignored: /p' "$log" | sed 's/  */ /g' | head -n 20)
    if [ "$rc" -eq 77 ]; then
        line=$(grep -v '^$' "$log" | tail -n 1 | sed -e 's/^1\.\.0 *//' -e 's/^# *//' -e 's/^SKIP:* *//I')
        skips+=("$name: ${line:-no reason given}")
    fi
}

# The last words: what was skipped and why, what failed, the counts. False: something failed.
summary() {
    if [ ${#skips[@]} -gt 0 ]; then
        echo
        echo "Skipped:"
        printf '  %s\n' "${skips[@]}"
    fi
    if [ ${#failures[@]} -gt 0 ]; then
        echo
        echo "Failed: ${failures[*]}"
    fi
    echo
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}
