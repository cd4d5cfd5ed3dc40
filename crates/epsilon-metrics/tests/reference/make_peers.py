"""Makes peers.json: the figures of one random table by the compared methods' published evaluation code, for tests/reference.rs.

What each function computes is restated here in NumPy, with the mistakes that it makes:

    python make_peers.py          # needs numpy and scikit-learn

- LESA, core/utils.py: `compute_AP`, `compute_F1`, `is_exclude`. (ML)2P-Encoder calls the same with is_exclude=False.
- BiAM, util_nus.py and evaluate_nus.py; util_openimages.py and evaluate_openimages.py, whose `compute_AP` takes the rows that are
  annotated for a class and forgets to take its column.
- SDL, src/helper_functions/helper_functions.py: `mAP`, `calc_F1`.

No two scores are equal: the code breaks ties by order, or leaves them to the library's sort.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

IMAGES, SEEN, UNSEEN = 120, 9, 6
KS = {"zsl": [1, 3], "seen": [1, 3, 5], "gzsl": [1, 3, 5]}


def f1(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def overall(scores, labels, k):
    """LESA's and BiAM's `compute_F1(.., 'overall')`."""
    taken = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(taken, np.argsort(scores, axis=1)[:, -k:], True, axis=1)
    hits = (labels[taken] == 1).sum()
    precision, recall = hits / taken.sum(), hits / (labels == 1).sum()
    return {"k": k, "precision": float(precision), "recall": float(recall), "f1": float(f1(precision, recall))}


def with_positive(scores, labels):
    kept = (labels == 1).sum(axis=1) > 0
    return scores[kept], labels[kept]


def by_rank(scores, positive):
    """AP in BiAM's way: the precision at each positive of a descending sort."""
    hit = positive[np.argsort(-scores, kind="stable")].astype(float)
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return (hit * precision).sum() / hit.sum()


def lesa(scores, labels, ks, exclude):
    if exclude:
        scores, labels = with_positive(scores, labels)
    ap = np.zeros(scores.shape[1])
    for c in range(scores.shape[1]):
        known = np.abs(labels[:, c]) == 1
        if (labels[:, c] > 0).sum() > 0:
            ap[c] = average_precision_score(np.clip(labels[known, c], 0, 1), scores[known, c])
    return {"map": float(ap.mean()), "top_k": [overall(scores, labels, k) for k in ks]}


def biam_nus(scores, labels, ks):
    ap = np.zeros(scores.shape[1])
    for c in range(scores.shape[1]):
        known = np.abs(labels[:, c]) == 1
        if (labels[:, c] > 0).sum() > 0:
            ap[c] = by_rank(scores[known, c], labels[known, c] == 1)
    return {"map": float(ap.mean()), "top_k": [overall(scores, labels, k) for k in ks]}


def biam_oi(scores, labels, ks, part, weighted, bug):
    scores, labels = with_positive(scores, labels)
    annotated = (labels != 0).any(axis=0)
    ap_scores, ap_labels = scores, labels
    if part != "zsl":
        ap_scores, ap_labels = scores[:, annotated], labels[:, annotated]
    ap = np.zeros(ap_scores.shape[1])
    for c in range(ap_scores.shape[1]):
        rows = ap_labels[:, c] != 0
        s, l = ap_scores[rows], ap_labels[rows]
        if not bug:
            s, l = s[:, c : c + 1], l[:, c : c + 1]
        if (l > 0).sum() > 0:
            known = np.abs(l) == 1
            ap[c] = by_rank(s[known], l[known] == 1)
    weights = (ap_labels == 1).sum(axis=0)
    value = (weights * ap).sum() / weights.sum() if weighted else ap.mean()
    if part == "seen":
        scores, labels = ap_scores, ap_labels
    return {"map": float(value), "top_k": [overall(scores, labels, k) for k in ks]}


def sdl(scores, labels, ks):
    scores, labels = with_positive(scores, labels)
    ap = []
    for c in range(scores.shape[1]):
        hit = labels[np.argsort(-scores[:, c], kind="stable"), c] == 1
        precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
        ap.append((precision * hit).sum() / (hit.sum() + 1e-8))
    top_k = []
    for k in ks:
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        hits = sum(labels[i, c] == 1 for i, row in enumerate(best) for c in row)
        precision, recall = hits / best.size, hits / (labels == 1).sum()
        top_k.append({"k": k, "precision": float(precision), "recall": float(recall), "f1": float(f1(precision, recall))})
    return {"map": float(np.mean(ap)), "top_k": top_k}


def table(rng):
    labels = SEEN + UNSEEN
    # Multiples of 1/64: exact as f32.
    scores = (rng.permutation(IMAGES * labels).reshape(IMAGES, labels) - 500) / 64
    values = rng.choice([1, -1, 0], p=[0.3, 0.45, 0.25], size=(IMAGES, labels))
    scores += np.where(values == 1, 300 / 64, 0)
    order = np.argsort(scores, axis=None, kind="stable")
    scores.ravel()[order] = (np.arange(scores.size) - 500) / 64  # again without ties
    values[0] = np.minimum(values[0], 0)  # no positive
    values[1, SEEN:] = np.minimum(values[1, SEEN:], 0)  # no unseen positive
    values[2, :SEEN] = 0  # no seen annotation
    values[:, 1] = np.minimum(values[:, 1], 0)  # annotated, without positives
    values[:, 2] = 0  # annotated nowhere
    values[:, 3] = 0  # annotated only in an image without positives
    values[0, 3] = -1
    values[:, SEEN] = np.minimum(values[:, SEEN], 0)
    values[:, SEEN + 1] = 0
    values[values[:, 0] == 0, 4] = 0  # annotated in no other images than label 0
    return scores, values


def main():
    rng = np.random.default_rng(20261128)
    scores, values = table(rng)
    parts = {"zsl": slice(SEEN, None), "seen": slice(0, SEEN), "gzsl": slice(None)}

    def of(function):
        return {name: function(scores[:, part], values[:, part], KS[name], name) for name, part in parts.items()}

    expected = {
        "lesa-nus": of(lambda s, v, ks, _: lesa(s, v, ks, exclude=False)),
        "lesa-nus by BiAM": of(lambda s, v, ks, _: biam_nus(s, v, ks)),
        "lesa-oi": of(lambda s, v, ks, _: lesa(s, v, ks, exclude=False)),
        "ml2p-nus": of(lambda s, v, ks, _: lesa(s, v, ks, exclude=False)),
        "epsilon": of(lambda s, v, ks, _: lesa(s, v, ks, exclude=True)),
        "sdl": of(lambda s, v, ks, _: sdl(s, v, ks)),
        "biam-oi": of(lambda s, v, ks, part: biam_oi(s, v, ks, part, weighted=False, bug=False)),
        "biam-oi-weighted": of(lambda s, v, ks, part: biam_oi(s, v, ks, part, weighted=True, bug=False)),
        "biam-oi-bug": of(lambda s, v, ks, part: biam_oi(s, v, ks, part, weighted=False, bug=True)),
        "biam-oi-bug-weighted": of(lambda s, v, ks, part: biam_oi(s, v, ks, part, weighted=True, bug=True)),
    }
    case = {
        "images": IMAGES,
        "labels": SEEN + UNSEEN,
        "seen": SEEN,
        "ks_zsl": KS["zsl"],
        "ks_gzsl": KS["gzsl"],
        "scores": scores.ravel().tolist(),
        "values": values.ravel().tolist(),
        "expected": expected,
    }
    path = Path(__file__).with_name("peers.json")
    path.write_text(json.dumps(case, separators=(",", ":")) + "\n")
    for name, figures in expected.items():
        print(f"{name:22}", *(f"{part} {figures[part]['map']:.4f}" for part in figures))
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
