#!/usr/bin/env bash
# Checks the links between the repository's Markdown pages: docs/check-links.sh
# A relative link must lead to a file or folder, an #anchor to a heading of its page, and every page of docs/ must be in
# the book's table of contents. Code is skipped, and web addresses are not visited. Exit code 1: something is broken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pages=$(ls ./*.md && find docs bench crates .github -name '*.md' | sort)

# Prints `broken <message>` for anchors, and `path <page:line> <path>` for every file that is linked to.
links=$(awk '
    function normal(path,    parts, count, i, out, depth) {
        count = split(path, parts, "/")
        for (i = 1; i <= count; i++) {
            if (parts[i] == ".." && depth > 0) depth--
            else if (parts[i] != "." && parts[i] != "") out[++depth] = parts[i]
        }
        path = depth ? out[1] : "."
        for (i = 2; i <= depth; i++) path = path "/" out[i]
        return path
    }
    # A heading as the anchor that code hosts and mdBook give it; a repeated one is numbered.
    function slug(text) {
        sub(/^#+ +/, "", text)
        while (match(text, /\]\([^)]*\)/)) text = substr(text, 1, RSTART) substr(text, RSTART + RLENGTH)
        text = tolower(text)
        gsub(/[^a-z0-9 _-]/, "", text)
        sub(/ +$/, "", text)
        gsub(/ /, "-", text)
        return text
    }
    function link(target) {
        if (target !~ /^[a-z]+:/) {
            count++
            from[count] = page; line[count] = FNR; to[count] = target; folders[count] = folder
        }
    }
    FNR == 1 { page = normal(FILENAME); known[page] = 1; folder = page; if (!sub(/\/[^\/]*$/, "", folder)) folder = "."; fenced = 0 }
    /^[ >]*(```|~~~)/ { fenced = !fenced; next }
    fenced { next }
    /^#+ / {
        name = slug($0)
        anchor = repeated[page, name] ? name "-" repeated[page, name] : name
        repeated[page, name]++
        anchors[page, anchor] = 1
    }
    {
        text = $0
        gsub(/`[^`]*`/, "", text)
        while (match(text, /\]\([^) ]+|^ *\[[^]]+\]: *[^ ]+|(href|src)="[^"]+/)) {
            target = substr(text, RSTART, RLENGTH)
            text = substr(text, RSTART + RLENGTH)
            sub(/^\]\(<?|^ *\[[^]]+\]: *<?|^(href|src)="/, "", target)
            sub(/>$/, "", target)
            link(target)
        }
    }
    END {
        for (i = 1; i <= count; i++) {
            path = to[i]; anchor = ""
            if (match(path, /#/)) { anchor = substr(path, RSTART + 1); path = substr(path, 1, RSTART - 1) }
            path = path == "" ? from[i] : normal(folders[i] "/" path)
            print "path\t" from[i] ":" line[i] "\t" path
            if (anchor != "" && known[path] && !anchors[path, anchor])
                print "broken\t" from[i] ":" line[i] ": no heading of " path " has the anchor #" anchor
        }
    }
' $pages)

broken=0
checked=0
report() {
    echo "$1" >&2
    broken=$((broken + 1))
}
while IFS=$'\t' read -r kind first second; do
    if [ "$kind" = broken ]; then
        report "$first"
    else
        checked=$((checked + 1))
        [ -e "$second" ] || report "$first: there is no $second"
    fi
done <<<"$links"
for page in docs/*.md; do
    name=${page#docs/}
    if [ "$name" != SUMMARY.md ] && ! grep -qF "]($name)" docs/SUMMARY.md; then
        report "$page: not in docs/SUMMARY.md"
    fi
done

if [ "$checked" -eq 0 ]; then
    report "no link was found"
fi
if [ "$broken" -gt 0 ]; then
    echo "docs/check-links.sh: $broken broken" >&2
    exit 1
fi
echo "$checked links lead somewhere"
