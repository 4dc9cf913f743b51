#!/bin/bash
# Sourced by inject.sh, replay.sh, reflect.sh and xdp_*.sh: a wire, who listens at its end, savefiles as text,
# and savefiles from text. Bash; $examples is where the programs are.
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
work=$(mktemp -d)
# shellcheck disable=SC2034 # the exit status of who sources this
rc=0
background=()
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    [ ${#background[@]} -eq 0 ] || kill -9 "${background[@]}" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
# What is to be killed should this end before it does.
started() { background+=("$1"); }
all_ended() { background=(); }

check() { # STATUS WHAT
    # shellcheck disable=SC2034
    if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi
}

# At least, and at most: numbers with a decimal point.
between() { awk -v x="$1" -v low="$2" -v high="$3" 'BEGIN { exit !(x + 0 >= low && x + 0 <= high) }'; }

# v0 and v1, on which nothing is said but by us; each with so many queues (1).
wire() {
    local tries queues=${1:-1}
    command -v ip >/dev/null || { echo "ip (iproute2) is not installed"; exit 77; }
    echo 1 2>/dev/null >/proc/sys/net/ipv6/conf/all/disable_ipv6
    echo 1 2>/dev/null >/proc/sys/net/ipv6/conf/default/disable_ipv6
    ip link add v0 numtxqueues "$queues" numrxqueues "$queues" type veth \
        peer name v1 numtxqueues "$queues" numrxqueues "$queues" 2>/dev/null || { echo "no veth pairs here"; exit 77; }
    ip link set v0 address 02:00:00:00:00:a0 arp off up && ip link set v1 address 02:00:00:00:00:a1 arp off up
    for tries in {1..100}; do
        ip link show v0 | grep -q 'state U' && return
        sleep 0.05
    done
    echo "v0 does not come up after $tries tries"
    exit 1
}

# Where XDP programs are not allowed, as in a user namespace, nothing of AF_XDP can be tested.
needs_xdp() {
    "$examples/xdp_send" -c 1 lo >"$work/out" 2>"$work/err"
    [ $? -ne 77 ] || { cat "$work/err"; exit 77; }
}
# until SECONDS COMMAND...: does it come true?
until_true() {
    local tries=$(($1 * 20))
    shift
    for _ in $(seq "$tries"); do
        "$@" && return
        sleep 0.05
    done
    return 1
}

# listen INTERFACE FILE: writes what comes in there, until `heard`. tcpdump, or where it is not or may
# not become who it wants to be, our own.
listener=
listen() {
    : >"$work/listener"
    rm -f "$2"
    if command -v tcpdump >/dev/null && ! grep -qs deny /proc/self/setgroups; then
        tcpdump -i "$1" -Q in -U --immediate-mode -B 16384 -s 2048 -Z root -w "$2" 2>"$work/listener" &
        listener=$!
        started "$listener"
        for _ in {1..200}; do
            grep -q 'listening on' "$work/listener" && return
            sleep 0.05
        done
    else
        "$examples/capture" -i "$1" -d in --profile low-memory -w "$2" 2>"$work/listener" &
        listener=$!
        started "$listener"
        for _ in {1..200}; do
            [ -s "$2" ] && return
            sleep 0.05
        done
    fi
    cat "$work/listener"
    check 1 "somebody listens on $1"
}

# heard FILE COUNT: waits until so many have come, and a little for what should not, and ends it.
heard() {
    for _ in {1..100}; do
        [ "$(packets "$1" | wc -l)" -ge "$2" ] && break
        sleep 0.1
    done
    sleep 0.1
    kill -INT "$listener"
    wait "$listener"
    all_ended
    [ "$(packets "$1" | wc -l)" -eq "$2" ] || sed 's/^/# /' "$work/listener"
}

# A pcap file as lines: seconds, bytes, the bytes in hex.
packets() {
    [ -s "$1" ] || return 0
    od -An -v -tx1 -w65536 "$1" | tr -d ' \n' | awk '
        function number(at,    n, i, k) { # 4 bytes
            n = 0
            for (i = 0; i < 4; i++) {
                k = big ? i : 3 - i
                n = n * 256 + (index(digits, substr($0, at + 2 * k, 1)) - 1) * 16 \
                    + index(digits, substr($0, at + 2 * k + 1, 1)) - 1
            }
            return n
        }
        {
            digits = "0123456789abcdef"
            magic = substr($0, 1, 8)
            big = magic ~ /^a1/
            fraction = magic ~ /4d/ && magic ~ /3c/ ? 1e9 : 1e6
            for (at = 49; at + 32 <= length($0); at += 32 + 2 * caplen) {
                caplen = number(at + 16)
                if (at + 32 + 2 * caplen > length($0) + 1) break
                printf "%.6f %d %s\n", number(at) + number(at + 8) / fraction, caplen, \
                    substr($0, at + 32, 2 * caplen)
            }
        }'
}
bytes_of() { packets "$1" | cut -d' ' -f3; }
# Seconds from the first to the last.
span() { packets "$1" | awk 'NR == 1 { first = $1 } { last = $1 } END { printf "%.6f\n", last - first }'; }

# Lines of "microseconds hex" as a pcap file of that link type (1: Ethernet).
le32() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
to_pcap() { # LINKTYPE
    local us hex
    # shellcheck disable=SC2059 # the escapes are in the format
    printf "\\xd4\\xc3\\xb2\\xa1\\x02\\x00\\x04\\x00$(le32 0)$(le32 0)$(le32 262144)$(le32 "$1")"
    while read -r us hex; do
        printf "$(le32 $((1700000000 + us / 1000000)))$(le32 $((us % 1000000)))$(le32 $((${#hex} / 2)))$(le32 $((${#hex} / 2)))"
        # shellcheck disable=SC2001 # two characters at a time
        printf "$(sed 's/../\\x&/g' <<<"$hex")"
    done
}
# A frame of so many bytes that says who it is: frame NUMBER BYTES.
frame() { printf '020000000002020000000001%04x%04x%0*d' 34997 "$1" $((2 * $2 - 32)) 0; }
