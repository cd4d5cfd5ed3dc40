#!/bin/sh
# A library of 50,000 drawn photographs (M = 8, 300-d; in target/bench-catalog): its catalog is read, brought up to date and
# selected from, and searched with criteria; then the program itself: bench/catalog.sh [ARGUMENTS OF THE PROGRAM].
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --workspace --bin bench_catalog --bin epsilon
target/release/bench_catalog "$@"
search() {
    begin=$(date +%s%N)
    target/release/epsilon search target/bench-catalog "$@" >/dev/null
    echo "epsilon search $*: $((($(date +%s%N) - begin) / 1000000)) ms"
}
for turn in 1 2 3; do
    search --like 0/000/000003.jpg
    search --like 0/000/000003.jpg --since 2017 --folder 1
    search --label "label 0007" --sort date
    search --sort doubt --unreviewed
done
