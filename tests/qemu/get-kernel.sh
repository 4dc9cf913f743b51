#!/bin/bash
# Fetches a Debian kernel and its modules and unpacks them; nothing is installed, and the machine's apt
# keeps its lists and its configuration.
#
#   tests/qemu/get-kernel.sh SUITE DIR     the "cloud" kernel of that Debian suite, e.g. bookworm
#
# NETRING_KERNEL_MIRROR: where from, e.g. http://archive.debian.org/debian. Otherwise the mirror that
# this machine's apt has, then Debian's own, then its archive of old releases.
# Exit 77: not to be had here, with the reason.
set -u
[ $# -eq 2 ] || { sed -n '2,/^set/p' "$0" | sed -e 's/^# \{0,1\}//' -e '$d' >&2; exit 2; }
suite=$1
keys=/usr/share/keyrings/debian-archive-keyring.gpg

for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
[ -f $keys ] || { echo "Debian's keys are not installed (debian-archive-keyring)"; exit 77; }
mkdir -p "$2" && into=$(cd "$2" && pwd) || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists,cache/archives}/partial

apt() {
    local tool=$1
    shift
    "$tool" -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Architecture=amd64 \
        -o APT::Architectures=amd64 -o APT::Sandbox::User=root -o Acquire::Languages=none \
        -o Acquire::Check-Valid-Until=false -o APT::Update::Error-Mode=any "$@"
}
mirrors() {
    if [ -n "${NETRING_KERNEL_MIRROR-}" ]; then
        echo "$NETRING_KERNEL_MIRROR"
        return
    fi
    # shellcheck disable=SC2016 # apt's own variable
    apt-get indextargets --format '$(SITE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 ~ /debian\/?$/ { print $2 }' | sort -u
    echo http://deb.debian.org/debian
    echo http://archive.debian.org/debian
}

for mirror in $(mirrors); do
    echo "deb [signed-by=$keys] $mirror $suite main" >"$work/sources.list"
    apt apt-get -qq update >"$work/said" 2>&1 || { from=; continue; }
    from=$mirror
    break
done
if [ -z "${from-}" ]; then
    grep -h '^E:' "$work/said" | head -n 3
    echo "no Debian mirror that has $suite can be reached"
    exit 77
fi
# What the newest kernel of that suite consists of: one package until 6.12, later the kernel and its
# modules apart.
read -r -a packages < <(apt apt-cache --recurse --no-recommends --no-suggests --no-breaks \
    --no-conflicts --no-replaces depends linux-image-cloud-amd64 |
    grep -E '^linux-(image|binary|modules)-[0-9].*-cloud-amd64$' | sort -u | tr '\n' ' ')
[ ${#packages[@]} -gt 0 ] || { echo "no kernel in $suite of $from"; exit 1; }
cd "$work" && apt apt-get -qq download "${packages[@]}" || exit 1
for package in *.deb; do
    dpkg-deb -x "$package" "$into" || exit 1
done
echo "${packages[*]} from $from"
