#!/bin/bash
# Runs every test this machine can run, says what it skipped and why, and ends with
# "N passed, N failed, N skipped". Exit status 0 only if nothing failed.
#
#   tests/run.sh            everything (make check)
#   tests/run.sh NAME...    the suites whose name matches (globs: 'c-so-*' abi)
#   tests/run.sh -l         lists the suites
#   JOBS=4 tests/run.sh     how many suites run side by side (6), and compilers (2)
#
# A suite is a command. Exit 0 is a pass, 77 a skip (its last line says why), anything else a
# failure. Checks in its output are counted one by one: TAP lines (ok, not ok, # SKIP) and cargo's
# "test result:" lines; a suite without either counts as one. Output goes to build/check/NAME.log and
# is shown when something failed. C programs: see tests/programs.mk and tests/c/README.md.
set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C.UTF-8
# What make told us about its own jobs is not for the makes and cargos below.
unset MAKEFLAGS MFLAGS MAKELEVEL

jobs=${JOBS:-2}
# Suites that run at once: most of them mostly wait.
together=${JOBS:-6}
logs=build/check
list=
[ "${1-}" = -l ] && list=1 && shift
selected=("$@")
# shellcheck source=tests/tally.sh
. tests/tally.sh
export CARGO_TARGET_DIR=$PWD/build/cargo
export PATH=$PATH:/usr/sbin:/sbin

# Each suite runs as a job, and its timeout has a process group of its own: Ctrl-C has to be passed on.
declare -A running=() # pid by name
queue=() alone=()     # those that wait for their turn, as words for eval
computes=none         # which of the queue was started last
end_jobs() {
    trap '' INT TERM
    [ ${#running[@]} -eq 0 ] || kill "${running[@]}" 2>/dev/null
    wait
    exit 130
}
trap end_jobs INT TERM

has() { command -v "$1" >/dev/null 2>&1; }

wanted() {
    local pattern
    [ ${#selected[@]} -eq 0 ] && return 0
    for pattern in "${selected[@]}"; do
        # shellcheck disable=SC2053 # a glob is meant
        [[ $1 == $pattern ]] && return 0
    done
    return 1
}

# listed NAME: true for one that is not to run: it is not wanted, or all that is wanted is its name.
listed() {
    wanted "$1" || return 0
    [ -n "$list" ] && echo "$1"
}

# suite NAME TIMEOUT COMMAND...: now, while nothing else runs. False: it failed.
suite() {
    local before=$failed
    listed "$1" && return 0
    until_fewer 1
    start "$@"
    until_fewer 1
    [ "$failed" -eq "$before" ]
}

# apart NAME TIMEOUT COMMAND...: at the end, while nothing else runs.
apart() {
    listed "$1" || alone+=("$(printf '%q ' "$@")")
}

# beside NAME TIMEOUT COMMAND...: beside others, as soon as there is room.
beside() {
    listed "$1" && return 0
    compute
    until_fewer "$together"
    start "$@"
}

# computing NAME TIMEOUT COMMAND...: one of those that need a core all the time. They wait in a
# queue, and one at a time runs beside those that mostly wait.
computing() {
    listed "$1" || queue+=("$(printf '%q ' "$@")")
}

# Starts the next of the queue unless one of them is running.
compute() {
    local words
    [ ${#queue[@]} -gt 0 ] && [ -z "${running[$computes]-}" ] || return 0
    until_fewer "$together"
    eval "words=(${queue[0]})"
    queue=("${queue[@]:1}")
    computes=${words[0]}
    start "${words[@]}"
}

# Waits for all of them, those in the queue too.
until_over() {
    while [ ${#queue[@]} -gt 0 ]; do
        compute
        until_fewer ${#running[@]}
    done
    until_fewer 1
}

start() { # NAME TIMEOUT COMMAND...
    rm -f "$logs/$1.end"
    job "$@" &
    running[$1]=$!
}

# Leaves what became of it, and after how long, in NAME.end.
job() {
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    running=()
    trap end_jobs INT TERM
    timeout -k 10 "$limit" "$@" >"$logs/$name.log" 2>&1 </dev/null &
    running[$name]=$!
    wait $!
    echo $? $limit $((SECONDS - start)) >"$logs/$name.new"
    mv "$logs/$name.new" "$logs/$name.end"
}

# Waits until fewer suites than that are running; tells of those that ended.
until_fewer() {
    local name rc limit seconds
    while :; do
        for name in "${!running[@]}"; do
            [ -f "$logs/$name.end" ] || continue
            read -r rc limit seconds <"$logs/$name.end"
            rm -f "$logs/$name.end"
            unset "running[$name]"
            tell "$name" "$rc" "$limit" "$seconds"
        done
        [ ${#running[@]} -ge "$1" ] || return 0
        wait -n
        if [ $? -eq 127 ]; then # no jobs: what has no end was killed with its job
            for name in "${!running[@]}"; do
                [ -f "$logs/$name.end" ] || echo 137 0 0 >"$logs/$name.end"
            done
        fi
    done
}

# skip NAME REASON: without running anything.
skip() {
    wanted "$1" || return 0
    if [ -n "$list" ]; then
        echo "$1"
        return 0
    fi
    printf '%-6s %s\n' SKIP "$1"
    skips+=("$1: $2")
    skipped=$((skipped + 1))
}

[ -n "$list" ] || mkdir -p "$logs"

# ---- the sources ------------------------------------------------------------
fmt() {
    cargo fmt --version >/dev/null 2>&1 || { echo "rustfmt is not installed"; exit 77; }
    cargo fmt --check && cargo fmt --manifest-path tools/header/Cargo.toml --check &&
        cargo fmt --manifest-path fuzz/Cargo.toml --check
}
clippy() {
    cargo clippy --version >/dev/null 2>&1 || { echo "clippy is not installed"; exit 77; }
    cargo clippy --quiet --locked --all-targets -- -D warnings &&
        cargo clippy --quiet --locked --all-targets --features test-hooks -- -D warnings
}
# Most of the crate is private, and its pages are for those who work on it.
rustdoc() { RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --quiet --locked --no-deps --document-private-items; }
rust() {
    cargo test --quiet --locked --no-run && tests/ns.sh cargo test --locked
}
# The walk over a block in memory; Miri knows none of the system calls that the rest makes.
miri() {
    local cargo
    for cargo in "cargo" "cargo +nightly"; do
        $cargo miri --version >/dev/null 2>&1 || continue
        $cargo miri setup || { echo "cargo miri cannot build its standard library (component rust-src?)"; exit 77; }
        CARGO_TARGET_DIR=$PWD/build/miri $cargo miri test --locked --lib -- afpacket::record block::packets
        return
    done
    echo "cargo miri is not installed (rustup +nightly component add miri)"
    exit 77
}
fuzz_seeds() {
    export CARGO_TARGET_DIR=$PWD/build/fuzz
    local fetched
    if ! fetched=$(cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml 2>&1); then
        echo "$fetched"
        case $fetched in *"lock file"*)
            echo "the library needs other crates now: cargo update --workspace --manifest-path fuzz/Cargo.toml"
            exit 1 ;;
        esac
        echo "what fuzz/Cargo.toml needs cannot be had here (no network?)"
        exit 77
    fi
    cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml --bin seeds &&
        "$CARGO_TARGET_DIR/release/seeds" --seconds 1.5
}
scripts() {
    local f rc=0
    for f in $(git ls-files -co --exclude-standard 2>/dev/null | grep -e '\.sh$' -e '^\.ci/run$'); do
        [ -f "$f" ] || continue
        if head -n 1 "$f" | grep -q bash; then bash -n "$f" || rc=1; else sh -n "$f" || rc=1; fi
        if has shellcheck; then shellcheck -S warning -e SC2148,SC2154,SC2164 "$f" || rc=1; fi
    done
    return $rc
}
# The suites run in a process of their own, under timeout: the functions go along.
export -f has fmt clippy rustdoc rust scripts miri fuzz_seeds
in_bash() { suite "$1" "$2" bash -c "$3"; }
bash_beside() { beside "$1" "$2" bash -c "$3"; }
bash_computing() { computing "$1" "$2" bash -c "$3"; }

# A program of the C suite that says "alone: reason" in a comment comes last, and alone.
c_suite() { # SOURCE NAME TIMEOUT COMMAND...
    local source=$1
    shift
    if grep -q '^ \* alone: ' "$source"; then
        apart "$@"
    else
        beside "$@"
    fi
}

build() { make --no-print-directory -j"$jobs" lib hooks; }
examples() {
    local cc file rc=0
    for cc in gcc clang; do
        has $cc || continue
        for file in c-examples/*.c; do
            $cc -std=gnu11 -Wall -Wextra -Werror -Iinclude -fsyntax-only "$file" || rc=1
        done
    done
    make --no-print-directory -k -j"$jobs" examples && [ $rc -eq 0 ]
}
export -f build examples
export jobs
built=1
if [ -n "$list" ] || wanted build; then
    in_bash build 900 build || built=
else
    build >"$logs/build.log" 2>&1 || { tail -n 40 "$logs/build.log"; exit 1; }
fi
[ -z "$built" ] || in_bash examples 120 examples # which others run
# What computes, the long ones first.
computing tsan 400 tests/tsan.sh --build
bash_computing fuzz-seeds 300 fuzz_seeds
bash_computing rust 600 rust
bash_computing clippy 600 clippy
computing header-drift 600 tests/abi/drift.sh
computing header-compiles 300 tests/abi/headers.sh
bash_computing rustdoc 300 rustdoc
bash_computing miri 900 miri
bash_computing scripts 60 scripts
computing snippets 60 tests/docs/snippets.sh
computing manpages 60 tests/docs/man.sh
# Threads under ThreadSanitizer, the library's as well as the tests'.
for name in stress races lifetime wait immediate fanout injector injector_wait; do
    if [ -n "$built" ]; then
        computing "c-tsan-$name" 400 tests/tsan.sh "$name"
    else
        skip "c-tsan-$name" "the build failed"
    fi
done
bash_beside fmt 60 fmt
beside format 60 scripts/format.sh --check
beside errors 60 tests/docs/errors.sh
beside links 60 tests/docs/links.sh

# ---- the header and the ABI -------------------------------------------------
beside layout 60 tests/abi/layout.sh
if [ -n "$built" ]; then
    beside symbols 60 tests/abi/symbols.sh
    beside instructions 60 benches/instructions.sh --check
    beside config-init 60 tests/abi/config_init.sh
    beside abi 120 tests/abi/abidiff.sh
    beside old-client 60 tests/abi/client.sh
    beside install 300 tests/install.sh
    beside readme 60 tests/readme.sh
    beside write 120 tests/ns.sh tests/write.sh build/examples
    beside follow 120 tests/ns.sh tests/follow.sh build/examples
    beside fanout-example 60 tests/ns.sh tests/fanout.sh build/examples
    beside options 90 tests/ns.sh tests/options.sh build/examples
    beside privdrop 60 tests/ns.sh tests/privdrop.sh build/examples
    beside bridge 120 tests/ns.sh tests/bridge.sh build/examples
    beside inject 120 tests/ns.sh tests/inject.sh build/examples
    beside reflect 90 tests/ns.sh tests/reflect.sh build/examples
    beside xdp-dump 120 tests/ns.sh tests/xdp_dump.sh build/examples
    beside xdp-send 120 tests/ns.sh tests/xdp_send.sh build/examples
    beside xdp-reflect 120 tests/ns.sh tests/xdp_reflect.sh build/examples
    beside xdp-capture 120 tests/ns.sh tests/xdp_capture.sh build/examples
    beside xdp-probe 60 tests/ns.sh tests/xdp_probe.sh build/examples
    # These measure time.
    apart run 60 tests/ns.sh env IFACE= COUNT= scripts/run.sh build/examples/capture
    apart latency 60 tests/ns.sh tests/latency.sh build/examples
    apart replay 180 tests/ns.sh tests/replay.sh build/examples
else
    for name in symbols instructions config-init abi old-client install examples readme run write follow options privdrop latency bridge inject replay reflect xdp-dump xdp-send xdp-reflect xdp-capture xdp-probe; do
        skip $name "the build failed"
    done
fi

# ---- the C suite, four ways ---------------------------------------------------
# As users link it, and with what finds errors of memory.
# .so and .a as users link them; ASan + UBSan around the tests' own code, with the .a; valgrind on
# the programs linked with the .so. A program that says "no-valgrind: reason" in a comment is spared;
# one that says "no-archive: reason" meets the .a with ASan alone.
program() { # VARIANT NAME
    make --no-print-directory -s -f tests/programs.mk "build/check/c/$1/$2" || exit 1
    case $1 in
    asan)
        nm "build/check/c/asan/$2" | grep -q __asan_init || { echo "no ASan in this program"; exit 1; }
        export NETRING_TEST_SLOW=${NETRING_TEST_SLOW:-3}
        ;;
    esac
    exec "build/check/c/$1/$2"
}
memory() { # NAME
    local reason
    reason=$(sed -n 's/.*no-valgrind: *\(.*[^ */]\).*/\1/p' "tests/c/$1.c" | head -n 1)
    [ -z "$reason" ] || { echo "$reason"; exit 77; }
    make --no-print-directory -s -f tests/programs.mk "build/check/c/so/$1" || exit 1
    NETRING_TEST_SLOW=${NETRING_TEST_SLOW:-10} exec valgrind -q --error-exitcode=9 --leak-check=full \
        --errors-for-leak-kinds=definite --fair-sched=yes --trace-children=no "build/check/c/so/$1"
}
export -f program memory
if [ -n "$built" ]; then
    if [ -z "$list" ]; then
        make --no-print-directory -s -k -j"$jobs" -f tests/programs.mk all >"$logs/programs.log" 2>&1
    fi
    for variant in so a asan; do
        for source in tests/c/test_*.c; do
            [ -f "$source" ] || continue
            [ $variant = a ] && grep -q 'no-archive:' "$source" && continue
            name=$(basename "$source" .c)
            c_suite "$source" "c-$variant-${name#test_}" "${TEST_TIMEOUT:-120}" bash -c "program $variant $name"
        done
    done
    if has valgrind; then
        for source in tests/c/test_*.c; do
            [ -f "$source" ] || continue
            name=$(basename "$source" .c)
            c_suite "$source" "c-valgrind-${name#test_}" "${TEST_TIMEOUT:-240}" bash -c "memory $name"
        done
    else
        skip c-valgrind "valgrind is not installed"
    fi
else
    skip c "the build failed"
fi

until_over
for words in "${alone[@]}"; do
    eval "suite $words"
done

# ---- other languages ----------------------------------------------------------
# tests/ffi/<language>/run.sh, in a network of its own, with PKG_CONFIG_PATH and LD_LIBRARY_PATH of an
# installed tree; 77 without the toolchain.
if [ -n "$built" ]; then
    tree=$PWD/build/check/tree
    if [ -z "$list" ]; then
        make --no-print-directory -s install DESTDIR= PREFIX="$tree" >"$logs/tree.log" 2>&1 || cat "$logs/tree.log"
    fi
    for script in tests/ffi/*/run.sh; do
        [ -x "$script" ] || continue
        suite "ffi-$(basename "$(dirname "$script")")" 240 env PKG_CONFIG_PATH="$tree/lib/pkgconfig" \
            LD_LIBRARY_PATH="$tree/lib" NETRING_PREFIX="$tree" tests/ns.sh "$script"
    done
fi

[ -z "$list" ] || exit 0
summary
