# Sourced by the run.sh of each language.
#
# Each builds one program against an installed tree (NETRING_PREFIX, or whatever pkg-config finds)
# and runs it twice in a network of its own: with a veth pair, where UDP datagrams sent to $peer
# arrive at the interface nr1, and once more without the privilege to capture.
# Run by hand:  make install PREFIX=/tmp/tree && NETRING_PREFIX=/tmp/tree tests/ns.sh tests/ffi/go/run.sh
set -eu
PATH=$PATH:/usr/sbin:/sbin
peer=10.77.0.2

skip() {
    echo "1..0 # SKIP $*"
    exit 77
}

prefix=${NETRING_PREFIX:-${PREFIX:-}}
if [ -n "$prefix" ]; then
    pc=$(find "$prefix" -name netring.pc 2>/dev/null | head -n 1)
    [ -n "$pc" ] || { echo "no netring.pc below $prefix: make install PREFIX=$prefix"; exit 1; }
    PKG_CONFIG_PATH=$(dirname "$pc")
    export PKG_CONFIG_PATH
fi
command -v pkg-config >/dev/null || skip "pkg-config is not installed"
pkg-config --exists netring || { echo "pkg-config does not find netring: set NETRING_PREFIX"; exit 1; }
LD_LIBRARY_PATH=$(pkg-config --variable=libdir netring)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A veth pair, nr0 and nr1: what is sent to $peer leaves by nr0 and arrives at nr1. Only ever in a
# network that has nothing in it but lo.
network() {
    command -v ip >/dev/null || skip "ip (iproute2) is not installed"
    # A new network has lo, and on some kernels tunnel devices that are down.
    if ip -o link show up | grep -qv ': lo:'; then
        skip "not in a network of its own: run it under tests/ns.sh"
    fi
    ip link set lo up
    ip link add nr0 type veth peer name nr1 || skip "no veth pairs on this kernel"
    ip link set nr1 address 02:00:00:00:00:02 up
    ip link set nr0 up
    ip address add 10.77.0.1/24 dev nr0
    ip neighbour add $peer lladdr 02:00:00:00:00:02 dev nr0
    tries=0
    until ip link show nr0 | grep -q 'state UP'; do
        tries=$((tries + 1))
        [ $tries -lt 50 ] || { echo "nr0 does not come up"; exit 1; }
        sleep 0.1
    done
}

# Without CAP_NET_RAW over this network: in a user namespace below the one that owns it.
unprivileged() {
    if unshare -U true 2>/dev/null; then
        unshare -U "$@"
    elif command -v setpriv >/dev/null && [ "$(id -u)" = 0 ]; then
        setpriv --reuid=65534 --clear-groups --bounding-set=-all --inh-caps=-all "$@"
    else
        echo "ok - without the privilege # SKIP no way to give it up here"
    fi
}
