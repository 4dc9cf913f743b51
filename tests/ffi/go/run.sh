#!/bin/sh
# The library from Go, through cgo and pkg-config.
cd "$(dirname "$0")"
. ../common.sh

command -v go >/dev/null || skip "go is not installed"
command -v "${CC:-cc}" >/dev/null || skip "cgo needs a C compiler"
network
# Nothing from the network, nothing left in the source tree.
export CGO_ENABLED=1 GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local GO111MODULE=on
export GOCACHE="${GOCACHE:-$work/cache}" GOPATH="$work/go"
echo "# $(go version)"
go vet .
go build -o "$work/program" .
"$work/program" nr1 $peer
# Looks into every pointer that goes to C (Go 1.21 has it as a build-time experiment).
GODEBUG=cgocheck=2 "$work/program" nr1 $peer 2>"$work/err" ||
    { grep -q 'cgocheck' "$work/err" && echo "# no cgocheck=2 in this Go" || { cat "$work/err"; exit 1; }; }
unprivileged "$work/program" denied
