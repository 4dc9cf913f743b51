#!/bin/sh
# Runs the capture example and shows packets (make run).
#   IFACE=eth0   from that interface; without it from lo, with traffic the example makes itself
#   COUNT=20     how many packets; without it 20 when the output is no terminal, else until Ctrl-C
# usage: run.sh PROGRAM [ARGUMENTS...]
program=$1
shift
if [ -z "$COUNT" ] && [ ! -t 1 ]; then
    COUNT=20
fi
if [ -n "$COUNT" ]; then
    set -- -c "$COUNT" "$@"
fi

# CAP_NET_RAW is bit 13; the program's own file capabilities count as well.
may_capture() {
    caps=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
    [ $(((0x${caps:-0} >> 13) & 1)) -eq 1 ] && return 0
    PATH=$PATH:/usr/sbin:/sbin getcap "$program" 2>/dev/null | grep -q cap_net_raw
}

if [ -n "$IFACE" ]; then
    if ! may_capture; then
        echo "capturing on $IFACE needs CAP_NET_RAW." >&2
        echo "Run this as root, or grant the program the capability once:" >&2
        echo "  sudo setcap cap_net_raw+ep $program" >&2
        exit 77
    fi
    exec "$program" -i "$IFACE" "$@"
fi

# On lo; without the privilege the example makes a network namespace of its own, and where that is
# refused it says what to do and exits 77.
exec "$program" --demo "$@"
