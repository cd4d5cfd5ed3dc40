#!/bin/sh
# A search over a million photographs (M = 8, 300-d: 2.6 GB on disk, which stay in target/bench-search) beside how fast the
# machine reads the same bytes: bench/search.sh [ARGUMENTS OF THE PROGRAM]. One line of JSON.
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --workspace --bin bench_search
exec target/release/bench_search "$@"
