#!/bin/sh
# The C and C++ sources in the project's format (.clang-format).
#
#   scripts/format.sh           formats them
#   scripts/format.sh --check   names those that differ; 77 without the clang-format that is meant
#
# What clang-format makes of a file differs from one major version to the next: 14 is the project's.
set -u
cd "$(dirname "$0")/.." || exit 1
major=14

format=clang-format
if command -v clang-format-$major >/dev/null 2>&1; then format=clang-format-$major; fi
version=$($format --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p')
if [ "$version" != $major ]; then
    echo "clang-format $major is not installed${version:+ (but $version)}"
    [ "${1-}" = --check ] && exit 77
    exit 1
fi
if [ "${1-}" = --check ]; then
    set -- --dry-run -Werror
else
    set -- -i
fi
# Not what is generated, nor a header as it was released.
find c-examples include tests benches fuzz/src -name '*.c' -o -name '*.h' -o -name '*.hpp' -o -name '*.cpp' |
    grep -v -e '^include/netring\.h$' -e '^tests/abi/frozen/' | xargs $format "$@"
