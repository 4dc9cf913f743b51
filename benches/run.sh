#!/bin/sh
# The benchmarks (make bench), their tables in markdown as docs/benchmarks.md has them. Takes about
# eight minutes; the machine should have nothing else to do. Exit status 1 if a control failed:
# some table is to be thrown away.
cd "$(dirname "$0")/.." || exit 1
out=build/bench
mkdir -p $out
: "${CC:=cc}"
failed=0

has_pcap=
if echo 'int main(void) { return pcap_lib_version() == 0; }' |
    $CC -include pcap.h -o $out/pcap -x c - -lpcap 2>/dev/null; then
    has_pcap=1
fi

# The benchmark of AF_XDP is held against libxdp; without it against rings by hand.
has_libxdp=
if echo 'int main(void) { libxdp_set_print(NULL); libbpf_set_print(NULL); return 0; }' |
    $CC -include bpf/libbpf.h -include xdp/libxdp.h -o $out/libxdp -x c - -lxdp -lbpf 2>/dev/null; then
    has_libxdp=1
fi

build() { # NAME [LIBRARIES]
    name=$1
    shift
    # shellcheck disable=SC2086 # libraries and flags are several words
    $CC -std=gnu11 -Wall -Wextra -O2 -g -pthread -Iinclude ${has_pcap:+-DHAVE_PCAP} -o "$out/$name" \
        "benches/$name.c" tests/c/net.c tests/c/tap.c -Lbuild/lib -lnetring \
        -Wl,-rpath,"$PWD/build/lib" "$@" || exit 1
}
build drain ${has_pcap:+-lpcap}
build profiles
build latency ${has_pcap:+-lpcap}
build transmit ${has_pcap:+-lpcap}
build pacing
build forward
build xdp ${has_libxdp:+-DHAVE_LIBXDP -lxdp -lbpf}

echo "$(date -u +%Y-%m-%d), Linux $(uname -r), $(nproc) CPUs of" \
    "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1), $($CC --version | head -n 1)," \
    "$(${CARGO:-cargo} rustc -- --version 2>/dev/null || rustc --version 2>/dev/null), libpcap" \
    "$([ -n "$has_pcap" ] && pkg-config --modversion libpcap 2>/dev/null || echo '-'), libxdp" \
    "$([ -n "$has_libxdp" ] && pkg-config --modversion libxdp 2>/dev/null || echo '-')"

# Each makes a network namespace of its own, as root or in a user namespace; 77: not allowed to.
part() { # HEADING COMMAND...
    printf '\n%s\n\n' "$1"
    shift
    "$@"
    case $? in
    0) ;;
    77) echo "skipped" ;;
    *) failed=1 ;;
    esac
}
part "Instructions" benches/instructions.sh
part "Drain" $out/drain
part "Latency" $out/latency
part "Profiles" $out/profiles
part "Transmit" $out/transmit
part "Pacing" $out/pacing
part "Bridge" $out/forward
part "AF_XDP" $out/xdp
if [ $failed -ne 0 ]; then
    echo "A benchmark failed or its control did: see above."
fi
exit $failed
