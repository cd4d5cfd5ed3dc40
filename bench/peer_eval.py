"""The peers of bench/eval.py: average precision by scikit-learn, column by column, and NumPy's sort of the columns.

Works by lines on stdin: each `run` is answered by one line of JSON with `seconds`, `peak_rss_mb` and, of average
precision, `map`. `--make` writes the random tables instead. Needs numpy and scikit-learn.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np


def make(args):
    """Normal scores without ties to speak of; 1 % positive, 5 % unknown, the first label without positives."""
    rng = np.random.default_rng(1)
    with open(args.scores, "wb") as scores, open(args.labels, "wb") as labels:
        for first in range(0, args.images, 4096):
            rows = min(4096, args.images - first)
            rng.standard_normal((rows, args.columns), dtype=np.float32).tofile(scores)
            draw = rng.random((rows, args.columns), dtype=np.float32)
            block = np.where(draw < 0.01, 1, np.where(draw < 0.06, 0, -1)).astype(np.int8)
            block[:, 0] = np.minimum(block[:, 0], 0)
            block.tofile(labels)


def scikit_learn(scores, labels, columns):
    """AP per label as the methods' public code computes it, over the images where the label is known."""
    from sklearn.metrics import average_precision_score

    aps = []
    for c in range(columns):
        known = labels[:, c] != 0
        positive = labels[known, c] == 1
        aps.append(average_precision_score(positive, scores[known, c]) if positive.any() else 0.0)
    return float(np.mean(aps))


def sort(column):
    np.sort(column)  # A copy, dropped at once.


def numpy_sort(by_column, threads):
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(sort, by_column))


def peak_rss_mb():
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("scores", "labels"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("images", "columns", "threads", "measured"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--what", choices=["make", "scikit-learn", "sort"], required=True)
    args = parser.parse_args()
    if args.what == "make":
        make(args)
        return
    shape = (args.images, args.columns)
    scores = np.fromfile(args.scores, dtype=np.float32).reshape(shape)
    if args.what == "sort":
        scores = np.ascontiguousarray(scores.T)
        task = lambda: numpy_sort(scores, args.threads)  # noqa: E731
    else:
        import sklearn

        print(f"scikit-learn {sklearn.__version__}, NumPy {np.__version__}", file=sys.stderr)
        labels = np.fromfile(args.labels, dtype=np.int8).reshape(shape)
        task = lambda: scikit_learn(scores, labels, args.measured)  # noqa: E731
    for line in sys.stdin:
        if line.strip() != "run":
            sys.exit("expected `run`")
        start = time.perf_counter()
        figure = task()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "peak_rss_mb": peak_rss_mb(), "map": figure}), flush=True)


if __name__ == "__main__":
    main()
