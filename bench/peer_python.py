"""The programs of bench/python.py: the Python package and its peers, one task each.

Works by lines on stdin: each `run` is answered by one line of JSON with `seconds`, `peak_rss_mb` and, of average precision, `map`.
Needs epsilon_zsl and NumPy; scikit-learn, torchmetrics and Pillow for the tasks that are named after them.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import turns


def tables(args):
    """The tables that `peer_eval.py --what make` wrote, labels as 0 and 1: the peers know no unknown ones."""
    shape = (args.images, args.columns)
    scores = np.fromfile(args.scores, dtype=np.float32).reshape(shape)
    labels = np.fromfile(args.labels, dtype=np.int8).reshape(shape)
    np.maximum(labels, 0, out=labels)
    return scores, labels


def warm(figure, scores, labels):
    """The task of a figure of tables, which has been computed once of a small part of them: imports and threads are there."""
    figure(scores[:200, :5], labels[:200, :5])
    return lambda: figure(scores, labels)


def ours(args, labels_as):
    import epsilon_zsl

    scores, labels = tables(args)
    return warm(epsilon_zsl.metrics.multilabel_average_precision, scores, labels.astype(labels_as, copy=False))


def scikit_learn(args):
    from sklearn.metrics import average_precision_score

    return warm(lambda scores, labels: float(average_precision_score(labels, scores, average="macro")), *tables(args))


def torchmetrics(args, checked):
    import torch
    from torchmetrics.functional.classification import multilabel_average_precision

    torch.set_num_threads(args.threads)
    scores, labels = (torch.from_numpy(table) for table in tables(args))

    def figure(scores, labels):
        return float(multilabel_average_precision(scores, labels, scores.shape[1], validate_args=checked))

    # The integers that torchmetrics computes with.
    return warm(figure, scores, labels.long())


def rank(args):
    import epsilon_zsl

    predictor = epsilon_zsl.Predictor.load(args.model)
    labels = predictor.labels()
    photo = args.photo.read_bytes()

    def task():
        for _ in range(args.calls):
            predictor.rank(photo, labels)

    return task


def extract(args, opened):
    import epsilon_zsl
    from PIL import Image

    files = sorted(args.photos.iterdir())

    def task():
        images = [Image.open(file) for file in files] if opened else files
        epsilon_zsl.extract(images, backbone=args.backbone)

    return task


TASKS = {
    "ours": lambda args: ours(args, np.int8),
    "ours-int64": lambda args: ours(args, np.int64),
    "scikit-learn": scikit_learn,
    "torchmetrics": lambda args: torchmetrics(args, True),
    "torchmetrics-unchecked": lambda args: torchmetrics(args, False),
    "rank": rank,
    "extract-files": lambda args: extract(args, False),
    "extract-pillow": lambda args: extract(args, True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=TASKS, required=True)
    for name in ("scores", "labels", "model", "photo", "photos"):
        parser.add_argument(f"--{name}", type=Path)
    for name in ("images", "columns", "calls"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--backbone")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    task = TASKS[args.what](args)
    for line in sys.stdin:
        if line.strip() != "run":
            sys.exit("expected `run`")
        start = time.perf_counter()
        figure = task()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "peak_rss_mb": turns.peak_rss_mb(), "map": figure}), flush=True)


if __name__ == "__main__":
    main()
