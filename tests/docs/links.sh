#!/bin/bash
# Links between the project's pages lead to files and headings that are there.
cd "$(dirname "$0")/../.." || exit 1
rc=0

# anchors FILE: what its headings are called in a link.
anchors() {
    sed -n 's/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' | sed -e 's/[^a-z0-9_ -]//g' -e 's/ /-/g'
}

# dead FILE...: links that lead nowhere.
dead() {
    local file link target anchor path
    for file in "$@"; do
        while IFS= read -r link; do
            case $link in http://* | https://* | mailto:*) continue ;; esac
            target=${link%%#*}
            anchor=
            [ "$link" = "$target" ] || anchor=${link#*#}
            if [ -n "$target" ]; then path=$(dirname "$file")/$target; else path=$file; fi
            if [ ! -e "$path" ]; then
                echo "$file: no file $target"
            elif [ -n "$anchor" ] && ! anchors "$path" | grep -qxF -- "$anchor"; then
                echo "$file: no heading $link"
            fi
        done < <(grep -o '](\([^) ]*\))' "$file" | sed 's/^](//; s/)$//')
    done
}

if [ $# -gt 0 ]; then
    dead "$@"
    [ -z "$(dead "$@")" ]
    exit
fi

pages=(*.md docs/*.md tests/*.md tests/c/*.md fuzz/*.md)
for page in "${pages[@]}"; do
    [ -f "$page" ] || continue
    found=$(dead "$page")
    if [ -z "$found" ]; then echo "ok - $page"; else echo "not ok - $page"; echo "$found"; rc=1; fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo 'see [this](no-such-file.md)' >"$work/file.md"
printf '# One\nsee [this](#two)\n' >"$work/heading.md"
for bad in "$work"/*.md; do
    if "$0" "$bad" >/dev/null; then
        echo "not ok - a dead $(basename "$bad" .md) is noticed"
        rc=1
    else
        echo "ok - a dead $(basename "$bad" .md) is noticed"
    fi
done
exit $rc
