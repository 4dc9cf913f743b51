#!/bin/sh
# Says in one sentence what is missing to build, before anything is built.
# usage: toolchain.sh (CARGO, CC and PKG_CONFIG from the environment, as the Makefile sets them)
root=$(cd "$(dirname "$0")/.." && pwd)
cargo=${CARGO:-cargo}
rustc=${RUSTC:-rustc}
cc=${CC:-cc}
pkg_config=${PKG_CONFIG:-pkg-config}
need=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")

stop() {
    echo "libnetring: $*" >&2
    exit 1
}

# at_least 1.85 1.84.1: is the second at least the first?
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$1" ]
}

has() { command -v "$1" >/dev/null 2>&1; }

rustup="install Rust $need or newer, for example from https://rustup.rs"
[ "$(uname -s)" = Linux ] || stop "this is a library for Linux; $(uname -s) has no AF_PACKET."
has "$cargo" || stop "cargo was not found: $rustup."
found=$("$rustc" --version 2>/dev/null | cut -d' ' -f2)
[ -n "$found" ] || stop "rustc was not found or does not run: $rustup."
at_least "$need" "${found%%-*}" || stop "rustc $found is too old: $rustup."
# shellcheck disable=SC2086 # CC may carry arguments ("ccache gcc")
has ${cc%% *} || stop "no C compiler ($cc): install gcc or clang (Debian, Ubuntu: apt install gcc)."
has "$pkg_config" || stop "$pkg_config was not found: install it (Debian, Ubuntu: apt install pkg-config)."
exit 0
