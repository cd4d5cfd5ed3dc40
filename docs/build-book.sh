#!/usr/bin/env bash
# Builds the book: docs/build-book.sh [FOLDER], by default target/book. Needs mdbook.
# Pages link to recipes/ and bench/ where these stand in the repository, beside docs/. The book is built from a copy that
# has them below its first page, so that every link leads to a page or a file of the book.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-target/book}
mkdir -p "$out"
out=$(cd "$out" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/docs/bench"
cp book.toml "$work"
cp -r docs/*.md docs/figures docs/exiftool recipes "$work/docs"
cp bench/README.md "$work/docs/bench/index.md"
cp -r bench/results "$work/docs/bench"
cp CONTRIBUTING.md CHANGELOG.md "$work/docs"
for page in "$work"/docs/*.md; do
    sed 's#](\.\./#](#g; s#](docs/#](#g; s#](bench/README\.md#](bench/index.md#g' "$page" >"$work/page" && cp "$work/page" "$page"
done
for page in "$work"/docs/bench/*.md; do
    sed 's#](\.\./docs/#](../#g' "$page" >"$work/page" && cp "$work/page" "$page"
done
mdbook build "$work" --dest-dir "$out"
