#!/bin/sh
# The page of a library of 50,000 drawn photographs in headless Chromium: first paint, search, scrolling. bench/library_page.sh
# prints a Markdown table; with --write it is kept in bench/results.
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = --write ]; then
    EPSILON_BENCH_RESULT="$PWD/bench/results/library-page.md"
    export EPSILON_BENCH_RESULT
fi
exec cargo test --quiet --release -p epsilon-cli --test browser -- --ignored --nocapture a_library_of_50_000_photographs
