#!/bin/bash
# The capture example's savefiles: complete after Ctrl-C, through a pipe, rotated; read back by the
# savefile example, and by tcpdump and capinfos where they are installed.
# usage: write.sh BUILD/examples
examples=$(cd "$1" && pwd) || exit 1
export PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
rc=0
check() { # STATUS WHAT
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}
written() { sed -n 's/^\([0-9]*\) packets written$/\1/p' "$1"; }
# How many packets each reader finds in files, in all.
savefile() { for f; do "$examples/savefile" "$f" || return 1; done | grep -c ', link type .* bytes, protocol'; }
has_all() { # COUNT WHAT FILE...
    local count=$1 what=$2 f n
    shift 2
    [ "$(savefile "$@")" = "$count" ]
    check $? "$what: the savefile example reads $count packets"
    if ! command -v tcpdump >/dev/null; then
        echo "ok - $what: tcpdump # SKIP not installed"
    elif grep -qs deny /proc/self/setgroups; then
        # As root it becomes another user first, which it may not here.
        echo "ok - $what: tcpdump # SKIP it does not run in this user namespace"
    else
        n=$(for f; do tcpdump -n -q -r "$f" 2>/dev/null || echo failed; done | wc -l)
        [ "$n" = "$count" ]
        check $? "$what: tcpdump reads $n of $count"
    fi
    if command -v capinfos >/dev/null; then
        n=$(capinfos -M -c "$@" | awk '/Number of packets:/ { n += $NF } END { print n + 0 }')
        [ "$n" = "$count" ]
        check $? "$what: capinfos reads $n of $count"
    else
        echo "ok - $what: capinfos # SKIP not installed"
    fi
}

# A number of packets, whatever the blocks are.
"$examples/capture" --demo -c 23 -w count.pcap 2>log
status=$?
[ $status -ne 77 ] || { cat log; exit 77; }
check $status "-c 23 -w count.pcap"
[ "$(od -An -tx4 -N4 count.pcap | tr -d ' ')" = a1b23c4d ]
check $? "a .pcap is one, with nanoseconds"
has_all 23 "pcap" count.pcap

# Ctrl-C.
timeout -s INT 2 "$examples/capture" --demo -w interrupted.pcapng 2>log
count=$(written log)
[ "${count:-0}" -gt 10 ]
check $? "interrupted after $count packets"
has_all "${count:-0}" "interrupted" interrupted.pcapng
if command -v capinfos >/dev/null; then
    capinfos -I interrupted.pcapng | grep -q 'Number of stat entries = 1'
    check $? "with statistics at its end"
fi

# Standard output.
"$examples/capture" --demo -c 11 -w - >stdout.pcapng 2>log
check $? "-w -"
has_all 11 "standard output" stdout.pcapng
"$examples/capture" --demo -w - 2>log | head -c 1000 >/dev/null
check "${PIPESTATUS[0]}" "a reader that has seen enough is no failure"

# Rotation.
"$examples/capture" --demo -c 150 -w size.pcapng --rotate-size 4k 2>log
check $? "--rotate-size"
files=(size_0*.pcapng)
[ ${#files[@]} -gt 2 ] && [ "$(find . -name 'size_0*' -size +4000c | wc -l)" -eq 0 ]
check $? "${#files[@]} files of 4000 bytes at most"
has_all 150 "by size" "${files[@]}"
"$examples/capture" --demo -c 100 -w time.pcap --rotate-time 1 --max-files 2 2>log
check $? "--rotate-time --max-files"
files=(time_0*.pcap)
[ ${#files[@]} -eq 2 ]
check $? "the last 2 files are kept (${files[*]})"

# What cannot be.
"$examples/capture" --demo -w missing/x 2>log
[ $? -eq 1 ] && grep -q 'missing/x could not be opened: No such file or directory' log
check $? "a directory that is not there"
if [ -w /dev/full ]; then
    "$examples/capture" --demo -w - >/dev/full 2>log
    [ $? -eq 1 ] && grep -q 'No space left on device' log
    check $? "a full disk"
fi
"$examples/capture" --demo -c 7 udp and not port 80 and len '>' 60 >words 2>log
if grep -q 'which cannot be opened' log; then
    echo "ok - a filter of several words # SKIP no libpcap"
else
    grep -q '^7 packets shown' log && [ "$(grep -c UDP words)" -eq 7 ]
    check $? "a filter of several words"
fi
"$examples/capture" --demo host nosuch >words 2>log
[ $? -eq 1 ] && grep -q 'byte 5: "nosuch"' log && [ ! -s words ]
check $? "a wrong filter"
for wrong in '--rotate-size 1M' '-w x --max-files 3' '-w x --rotate-size 10X' '-w x --rotate-time 0' \
    '-w - --rotate-time 3' '-w x --rotate-time 3 --max-files 1'; do
    # shellcheck disable=SC2086 # several words are meant
    "$examples/capture" $wrong >/dev/null 2>log
    [ $? -eq 2 ] && [ ! -e x ]
    check $? "wrong usage: $wrong"
done
exit $rc
