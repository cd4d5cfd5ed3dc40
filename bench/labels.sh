#!/bin/sh
# The memory of a training step and a scoring with Open Images' 7,586 labels, batch 32, for every method that is trained step
# by step: bench/labels.sh [ARGUMENTS OF THE PROGRAM]. One line of JSON a method; exit code 1 where one takes 4 GB or more.
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --workspace --bin bench_labels
status=0
for method in bilinear-attention lesa-per-cluster lesa biam epsilon ml2p-encoder fast0tag sdl conse label-em logistic warp \
    wsabie cnn-rnn; do
    line=$(target/release/bench_labels --method "{\"kind\":\"$method\"}" "$@")
    echo "$line"
    echo "$line" | grep -Eq '"peak_rss_mb":[0-3]?[0-9]{1,3}\.' || status=1
done
exit $status
