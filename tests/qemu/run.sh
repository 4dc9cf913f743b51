#!/bin/bash
# The C suite on other kernels, in qemu's software emulation (make check-qemu). Each kernel is booted
# once with an initramfs of busybox and the programs that `make check` builds; what they say is counted
# as there, and kept in build/qemu/logs. Nothing of the guest can reach this machine.
#
#   tests/qemu/run.sh [-k "7 5.10"] [TEST...]     on those kernels, in that order (all of
#                 tests/qemu/kernels); the programs whose name matches: wait 'xdp*' (all)
#   -l           lists what would run
#   -t SECONDS   how long one kernel may take (1500): what has not ended then has failed
#   -b SECONDS   how much time there is for all: what has not ended then is skipped
#
# NETRING_KERNELS       where the kernels are, or are put (build/qemu/kernels)
# NETRING_KERNEL_MIRROR where they come from: tests/qemu/get-kernel.sh
# NETRING_TEST_SLOW     how patient the programs are (5)
# NETRING_QEMU_ACCEL    kvm, where there is one (tcg,thread=single)
# JOBS                  how many run at once (2)
# Exit 77: cannot run here, with the reason.
set -u
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin
unset MAKEFLAGS MFLAGS MAKELEVEL

chosen='' list='' budget='' limit=1500 each=300
while getopts b:k:lt: option; do
    case $option in
    b) budget=$OPTARG ;;
    k) chosen=$OPTARG ;;
    l) list=1 ;;
    t) limit=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
selected=("$@")

logs=build/qemu/logs
kernels=${NETRING_KERNELS:-build/qemu/kernels}
programs=$PWD/build/check/c/so
together=${JOBS:-2}
# What the programs make links and queues of, and what tells of sockets.
modules="veth tun ifb dummy macvlan bridge 8021q sch_tbf sch_ingress cls_bpf xsk_diag packet_diag"

# shellcheck source=tests/tally.sh
. tests/tally.sh

matches() {
    local pattern
    [ ${#selected[@]} -eq 0 ] && return 0
    for pattern in "${selected[@]}"; do
        # shellcheck disable=SC2053 # a glob is meant
        [[ $1 == $pattern ]] && return 0
    done
    return 1
}

# The programs of a kernel that runs these kinds (packet xdp zerocopy).
tests_of() {
    local source name kind
    for source in tests/c/test_*.c; do
        name=$(basename "$source" .c)
        name=${name#test_}
        case $name in
        xdp_zerocopy) kind=zerocopy ;;
        xdp*) kind=xdp ;;
        *) kind=packet ;;
        esac
        [[ " $1 " == *" $kind "* ]] && matches "$name" && echo "$name"
    done
}

# put FILE...: into the guest, at the same place, with the libraries it needs.
put() {
    local file library
    for file in "$@"; do
        [ -e "$root$file" ] && continue
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
        ldd "$file" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
            mkdir -p "$root$(dirname "$library")"
            cp -nL "$library" "$root$library"
        done
    done
}

# The guest's file system but for programs and modules, in `root`.
furnish() {
    local name file
    mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,etc,var/tmp,modules,tests}
    cp "$(command -v busybox)" "$root/bin/busybox"
    for name in $(busybox --list); do
        ln -s busybox "$root/bin/$name" 2>/dev/null
    done
    # busybox's shell takes its own programs before those in PATH; its timeout has a status of its own.
    rm -f "$root"/bin/{sh,ip,timeout,flock}
    put "$(command -v dash)" "$(command -v ip)" "$(command -v timeout)" "$(command -v flock)"
    ln -s "$(command -v dash)" "$root/bin/sh"
    for name in tcpdump capinfos ethtool; do # what the programs need besides, where it is installed
        file=$(command -v "$name") && put "$file"
    done
    file=$(ldconfig -p | awk '/libpcap\.so\.[0-9.]+ / { print $NF; exit }')
    [ -z "$file" ] || put "$file"
    { # tcpdump becomes a user of its own
        echo 'root:x:0:0::/tmp:/bin/sh'
        getent passwd tcpdump
    } >"$root/etc/passwd"
    { echo 'root:x:0:'; getent group tcpdump; } >"$root/etc/group"
    cp tests/qemu/init.sh "$root/init"
    chmod 755 "$root/init"
}

# The modules named, and what they need, from an unpacked kernel at `tree` of that version.
bring_modules() {
    local tree=$1 version=$2 name file
    depmod -b "$tree" "$version" 2>/dev/null
    for name in $modules; do
        modprobe -d "$tree" -S "$version" --show-depends "$name" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' | while read -r file; do
        name=$(basename "$file")
        name=${name%.ko*}.ko
        case $file in
        *.xz) xz -dc "$file" ;;
        *.zst) zstd -qdc "$file" ;;
        *) cat "$file" ;;
        esac >"$root/modules/$name"
        echo "$name"
    done >"$root/modules/order"
}

# Finds the kernel called $1, fetched from that suite if need be: sets image, version and tree.
find_kernel() {
    local dir=$kernels/$1 got
    image=$(find "$dir" -name 'vmlinuz*' -type f 2>/dev/null | head -n 1)
    if [ -z "$image" ]; then
        rm -rf "$dir.new"
        mkdir -p "$kernels"
        if ! got=$(tests/qemu/get-kernel.sh "$2" "$dir.new" 2>&1); then
            [ -z "$got" ] || why=$(echo "$got" | tail -n 1)
            return 1
        fi
        rm -rf "$dir"
        mv "$dir.new" "$dir"
        image=$(find "$dir" -name 'vmlinuz*' -type f | head -n 1)
    fi
    file=$(find "$dir" -type d -path '*/lib/modules/*' -prune | head -n 1)
    version=$(basename "$file")
    # kmod looks in lib/modules; newer packages have usr/lib/modules.
    tree=${file%/lib/modules/*}
    [ -n "$image" ] && [ -n "$version" ] || { why="no kernel in $dir"; return 1; }
}

# boot KERNEL KINDS NAME...: runs those programs there.
boot() {
    local kernel=$1 kinds=$2 name line current='' ended='' status seconds started=$SECONDS
    local nics=() work=$scratch/$1 limit=$limit left=
    if [ -n "$budget" ]; then
        left=$((budget - SECONDS))
        [ $left -ge "$limit" ] && left=
    fi
    shift 2
    root=$work/root
    mkdir -p "$root"
    furnish
    for name in "$@"; do
        put "$programs/test_$name"
        if grep -q '^ \* alone: ' "tests/c/test_$name.c"; then echo "$name" >&3; else echo "$name"; fi
    done >"$root/tests/together" 3>"$root/tests/alone"
    cat >"$root/tests/settings" <<EOF
PROGRAMS=$programs LIMIT=$each TOGETHER=$together
export NETRING_TEST_SLOW=${NETRING_TEST_SLOW:-5}
EOF
    if [[ " $kinds " == *" zerocopy "* ]]; then
        # Two devices on one hub. Zero-copy takes what the driver hands over as it is: no offloads.
        local way="disable-legacy=on,iommu_platform=on,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"
        nics=(-netdev "hubport,id=h0,hubid=0" -device "virtio-net-pci,netdev=h0,mac=52:54:00:00:00:01,$way"
            -netdev "hubport,id=h1,hubid=0" -device "virtio-net-pci,netdev=h1,mac=52:54:00:00:00:02,$way")
        echo "export NETRING_ZC_A=eth0 NETRING_ZC_B=eth1" >>"$root/tests/settings"
        modules="$modules virtio_net" bring_modules "$tree" "$version"
    else
        bring_modules "$tree" "$version"
    fi
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
    rm -rf "$root"

    # Without cmpxchg16b: qemu 7.2 gets its flags wrong, and the kernel's allocator depends on them. Both
    # CPUs on one thread: on two, one runs a breakpoint that the other has taken away again, where the
    # kernel patches itself (XDP's dispatcher).
    mkfifo "$work/said"
    timeout -k 5 "${left:-$limit}" "${QEMU:-qemu-system-x86_64}" -accel "${NETRING_QEMU_ACCEL:-tcg,thread=single}" -cpu max,-cx16 -smp 2 \
        -m 1536 -nic none "${nics[@]}" -display none -monitor none -no-reboot -serial "file:$logs/$kernel-console.log" \
        -serial "file:$work/said" -kernel "$image" -initrd "$work/initrd.gz" \
        -append "console=ttyS0 panic=-1 oops=panic loglevel=4 mitigations=off" >"$work/qemu.log" 2>&1 </dev/null &
    guest=$!
    while IFS= read -r line; do
        case $line in
        ':begin '*)
            current=${line#:begin }
            : >"$logs/$kernel-$current.log"
            ;;
        ':end '*)
            read -r _ current status seconds <<<"$line"
            ended="$ended $current "
            tell "$kernel-$current" "$status" "$each" "$seconds"
            current=
            ;;
        *) [ -z "$current" ] || printf '%s\n' "$line" >>"$logs/$kernel-$current.log" ;;
        esac
    done <"$work/said"
    wait $guest
    status=$?
    guest=
    for name in "$@"; do
        [[ $ended == *" $name "* ]] && continue
        if [ $status -eq 124 ] && [ -n "$left" ]; then
            no_time "$kernel-$name"
            continue
        fi
        {
            if [ $status -eq 124 ]; then echo "the guest was ended after $limit s"; fi
            cat "$work/qemu.log"
            echo "The end of what the guest's kernel said:"
            tail -n 20 "$logs/$kernel-console.log"
            echo "not ok - $name came to its end"
        } >>"$logs/$kernel-$name.log" 2>/dev/null
        tell "$kernel-$name" 1 "$each" $((SECONDS - started))
    done
    rm -rf "$work"
}

# no_time WHAT: there is none left for it.
no_time() {
    printf '%-6s %s\n' SKIP "$1"
    skips+=("$1: no time left of $budget s")
    skipped=$((skipped + 1))
}

cannot() {
    echo "$*"
    exit 77
}
wanted=()
for kernel in ${chosen:-$(sed 's/#.*//' tests/qemu/kernels | awk '{ print $1 }')}; do
    line=$(awk -v kernel="$kernel" '$1 == kernel' tests/qemu/kernels)
    [ -n "$line" ] || { echo "no such kernel in tests/qemu/kernels: $kernel"; exit 2; }
    wanted+=("$line")
done
if [ -n "$list" ]; then
    for line in "${wanted[@]}"; do
        read -r kernel _ kinds <<<"$line"
        for name in $(tests_of "$kinds"); do echo "$kernel-$name"; done
    done
    exit 0
fi
[ "$(uname -m)" = x86_64 ] || cannot "the kernels are for x86_64, this is $(uname -m)"
for tool in "${QEMU:-qemu-system-x86_64}" busybox cpio modprobe depmod ip dash xz zstd; do
    command -v "$tool" >/dev/null ||
        cannot "$tool is not installed (qemu-system-x86 busybox-static cpio kmod iproute2 dash xz-utils zstd)"
done
# A dynamic busybox would need its libraries, and some of them at odd places.
ldd "$(command -v busybox)" >/dev/null 2>&1 && cannot "busybox is not linked statically (busybox-static)"

mkdir -p "$logs"
rm -f "$logs"/*
if ! { make --no-print-directory -s lib hooks && make --no-print-directory -s -j"$together" -f tests/programs.mk so; } \
    >"$logs/build.log" 2>&1; then
    tail -n 40 "$logs/build.log"
    exit 1
fi
guest=
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap '[ -z "$guest" ] || kill $guest 2>/dev/null; exit 130' INT TERM
for line in "${wanted[@]}"; do
    read -r kernel suite kinds <<<"$line"
    read -r -a names < <(tests_of "$kinds" | tr '\n' ' ')
    [ ${#names[@]} -gt 0 ] || continue
    if [ -n "$budget" ] && [ $((budget - SECONDS)) -lt 60 ]; then
        no_time "$kernel"
        continue
    fi
    if ! find_kernel "$kernel" "$suite"; then
        printf '%-6s %s\n' SKIP "$kernel"
        skips+=("$kernel: $why")
        skipped=$((skipped + 1))
        continue
    fi
    echo "Linux $version"
    boot "$kernel" "$kinds" "${names[@]}"
done
summary
