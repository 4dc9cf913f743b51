#!/bin/bash
# Every C block in README.md, docs/*.md and man/* compiles. A block with a main is a program and stands
# for itself; one marked "c fragment" (in man pages: an indented display) is a piece of a function that
# has a capture, a block, an injector, an xdp, a queue, a config, an err and an rc.
# usage: snippets.sh [FILE...]
cd "$(dirname "$0")/../.." || exit 1
cc=${CC:-cc}
# shellcheck disable=SC2086 # CC may carry arguments
command -v ${cc%% *} >/dev/null || { echo "no C compiler ($cc)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=gnu11 -Wall -Wextra -Werror -Iinclude -fsyntax-only)
rc=0

# extract FILE DIR: DIR/NNN.c (a program) and DIR/NNN.fragment, NNN the line it starts at.
extract() {
    case $1 in
    *.[1-9])
        awk -v dir="$2" '
            /^\.Bd -literal -offset indent/ { file = sprintf("%s/%04d.fragment", dir, NR); next }
            /^\.Bd -literal/ { file = sprintf("%s/%04d.c", dir, NR); next }
            /^\.Ed/ { file = "" }
            file != "" { gsub(/\\&/, ""); gsub(/\\e/, "\\"); gsub(/\\-/, "-"); print >file }' "$1"
        # Other displays are synopses.
        grep -L 'int main' "$2"/*.c 2>/dev/null | xargs -r rm -f
        ;;
    *)
        awk -v dir="$2" '
            /^```c$/ { file = sprintf("%s/%04d.c", dir, NR); next }
            /^```c fragment$/ { file = sprintf("%s/%04d.fragment", dir, NR); next }
            /^```/ { file = "" }
            file != "" { print >file }' "$1"
        ;;
    esac
}

# wrap FRAGMENT: the body of a function.
wrap() {
    cat <<'X'
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <netring.h>
#include <netring_inline.h>
void use(const void *data, uint32_t length);
void handle(struct netring_block *block);
uint32_t make_frame(uint8_t *data, uint32_t capacity);
void swap_addresses(uint8_t *data);
void to_syslog(void *user, uint32_t level, const char *message);
int fragment(struct netring_capture *capture, struct netring_block *block, struct netring_error err,
             struct netring_injector *injector, struct netring_xdp *xdp,
             struct netring_queue *queue);
int fragment(struct netring_capture *capture, struct netring_block *block, struct netring_error err,
             struct netring_injector *injector, struct netring_xdp *xdp,
             struct netring_queue *queue)
{
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    int rc = 0;
    (void)capture, (void)block, (void)err, (void)config, (void)injector, (void)xdp, (void)queue;
    {
X
    cat "$1"
    echo '} return rc; }'
}

files=("$@")
[ $# -gt 0 ] || files=(README.md docs/*.md man/*.[37])
for file in "${files[@]}"; do
    [ -f "$file" ] || continue
    rm -rf "$work/x" && mkdir "$work/x"
    extract "$file" "$work/x"
    for block in "$work"/x/*; do
        [ -f "$block" ] || continue
        line=$(basename "$block" | sed 's/\..*//; s/^0*//')
        case $block in
        *.fragment)
            wrap "$block" >"$work/unit.c"
            kind=fragment
            ;;
        *)
            cp "$block" "$work/unit.c"
            kind=program
            grep -q 'int main' "$block" || { echo "not ok - $file:$line has a main, or is marked as a fragment"; rc=1; continue; }
            ;;
        esac
        # shellcheck disable=SC2086
        if $cc "${flags[@]}" "$work/unit.c"; then
            echo "ok - $file:$line: the $kind compiles"
        else
            echo "not ok - $file:$line: the $kind compiles"
            rc=1
        fi
    done
done

# The same on a page that must fail: a wrong name in each kind of block.
if [ $# -eq 0 ]; then
    mkdir "$work/bad"
    # shellcheck disable=SC2016 # backquotes are text
    printf '```c\n#include <netring.h>\nint main(void) { return netring_no_such(); }\n```\n' >"$work/bad/program.md"
    # shellcheck disable=SC2016
    printf '```c fragment\nnetring_no_such(capture);\n```\n' >"$work/bad/fragment.md"
    # shellcheck disable=SC2016
    printf '```c\nint no_program;\n```\n' >"$work/bad/neither.md"
    printf '.Bd -literal\nint main(void) { return netring_no_such(); }\n.Ed\n' >"$work/bad/page.7"
    for bad in "$work"/bad/*; do
        if "$0" "$bad" >/dev/null 2>&1; then
            echo "not ok - $(basename "$bad") with a wrong block is noticed"
            rc=1
        else
            echo "ok - $(basename "$bad") with a wrong block is noticed"
        fi
    done
fi
exit $rc
