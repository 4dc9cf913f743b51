#!/bin/sh
# The first process of the guest: loads modules, runs the programs named in /tests, several at once
# (/tests/alone: one by one), and says on the second serial line what tests/qemu/run.sh reads:
#   :begin NAME / what the program said / :end NAME STATUS SECONDS / ... / :done
# Settings are in /tests/settings.
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp LC_ALL=C.UTF-8
. /tests/settings

if [ "${1-}" = one ]; then
    started=$(date +%s)
    timeout -k 5 "$LIMIT" "$PROGRAMS/test_$2" >"/tmp/$2.log" 2>&1 </dev/null
    status=$?
    seconds=$(($(date +%s) - started))
    { # one at a time, and nothing in between
        flock 9
        echo ":begin $2"
        cat "/tmp/$2.log"
        echo
        echo ":end $2 $status $seconds"
    } 9>/tmp/line >/dev/ttyS1
    rm -f "/tmp/$2.log"
    exit 0
fi

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm /dev/pts /run
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
chmod 1777 /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
ln -s /proc/self/fd /dev/fd
stty -F /dev/ttyS1 raw -echo
while read -r module; do
    insmod "/modules/$module" || echo "$module was not loaded"
done </modules/order
# shellcheck disable=SC3045 # busybox has it
ulimit -l 8192 # as it is where a machine has an init of its own
ip link set lo up
for link in eth0 eth1; do
    [ ! -e "/sys/class/net/$link" ] || ip link set "$link" up
done
xargs -r -P "$TOGETHER" -n 1 /init one </tests/together
xargs -r -n 1 /init one </tests/alone
echo ':done' >/dev/ttyS1
poweroff -f
