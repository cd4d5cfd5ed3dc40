"""Makes reference.json: figures of random tables by NumPy and scikit-learn, for tests/reference.rs.

Written from the definitions in the crate's documentation, independently of its code:

    python make_reference.py          # needs numpy and scikit-learn

Average precision with grouped ties, coverage error and ranking loss are scikit-learn's; all else is NumPy.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, coverage_error, label_ranking_loss

BASE = {"images": "with-positive", "empty-label": "zero", "mean": "plain", "unknown": "miss", "ties": "grouped"}
PROTOCOLS = {
    "epsilon": BASE,
    "lesa-nus": BASE | {"images": "all"},
    "ml2p-nus": BASE | {"images": "all"},
    "sdl": BASE | {"unknown": "negative"},
    "lesa-oi": BASE | {"images": "all"},
    # No preset has these choices. Those of BiAM are in make_peers.py.
    "own-skip": BASE | {"empty-label": "skip"},
    "own-weighted": BASE | {"empty-label": "skip", "mean": "by-annotated"},
    "own-last": BASE | {"top-k-ties": "last-label", "mean": "by-positives"},
    "own-ignore": BASE | {"images": "all", "unknown": "ignore", "mean": "by-annotated"},
    "own-stable": BASE | {"ties": "stable", "empty-label": "skip"},
    "own-stable-negative": BASE | {"ties": "stable", "unknown": "negative", "images": "all"},
}


def stable_average_precision(positive, scores):
    order = np.argsort(-scores, kind="stable")
    hit = positive[order]
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return precision[hit].mean()


def list_figures(scores, labels, settings):
    """Coverage error and ranking loss. scikit-learn knows no unknown labels: an image without those that leave its
    list is measured alone, and as one that has no positive where nothing is left."""
    coverage, loss = [], []
    for score, label in zip(scores, labels):
        listed = label != 0 if settings["unknown"] == "ignore" else np.ones(len(label), dtype=bool)
        truth, score = (label[listed] == 1)[None], score[listed][None]
        # Of a single column scikit-learn would take the target for a binary one: a negative below all changes neither.
        truth, score = np.pad(truth, ((0, 0), (0, 2))), np.pad(score, ((0, 0), (0, 2)), constant_values=-1e9)
        coverage.append(coverage_error(truth, score))
        pairs, padded = truth.sum() * (listed.sum() - truth.sum()), truth.sum() * (listed.sum() + 2 - truth.sum())
        # The padding's pairs are never wrong: take them out of the denominator.
        loss.append(label_ranking_loss(truth, score) * padded / pairs if pairs else 0.0)
    if settings["unknown"] != "ignore" and labels.shape[1] > 1:
        truth = labels == 1
        assert np.isclose(np.mean(coverage), coverage_error(truth, scores), rtol=0, atol=1e-12)
        assert np.isclose(np.mean(loss), label_ranking_loss(truth, scores), rtol=0, atol=1e-12)
        return float(coverage_error(truth, scores)), float(label_ranking_loss(truth, scores))
    return float(np.mean(coverage)), float(np.mean(loss))


def harmonic(p, r):
    return 2 * p * r / (p + r) if p + r else 0.0


def evaluate(scores, labels, columns, settings, ks):
    scores, labels = scores[:, columns], labels[:, columns]
    total = len(labels)
    if settings["images"] == "with-positive":
        kept = (labels == 1).any(axis=1)
        scores, labels = scores[kept], labels[kept]
    known = np.ones_like(labels, dtype=bool) if settings["unknown"] == "negative" else labels != 0

    aps, weights = [], []
    for c in range(labels.shape[1]):
        positive, score = labels[known[:, c], c] == 1, scores[known[:, c], c]
        if not positive.any():
            ap = 0.0 if settings["empty-label"] == "zero" else None
        elif settings["ties"] == "stable":
            ap = float(stable_average_precision(positive, score))
        else:
            ap = float(average_precision_score(positive, score))
        aps.append(ap)
        counts = {"plain": 1, "by-annotated": known[:, c].sum(), "by-positives": (labels[:, c] == 1).sum()}
        weights.append(int(counts[settings["mean"]]))
    averaged = [c for c, ap in enumerate(aps) if ap is not None]
    mean = np.average([aps[c] for c in averaged], weights=[weights[c] for c in averaged])

    ranked = scores.astype(np.float64).copy()
    if settings["unknown"] == "ignore":
        ranked[labels == 0] = -np.inf
    if settings.get("top-k-ties") == "last-label":
        order = np.argsort(ranked, axis=1, kind="stable")[:, ::-1]
    else:
        order = np.argsort(-ranked, axis=1, kind="stable")
    top_k, top_k_by_label, top_k_of_labels = [], [], []
    for k in ks:
        taken = np.take_along_axis(labels, order[:, :k], axis=1)
        filled = np.isfinite(np.take_along_axis(ranked, order[:, :k], axis=1))
        p = float((taken == 1).sum() / filled.sum())
        r = float((taken == 1).sum() / (labels == 1).sum())
        top_k.append({"k": k, "precision": p, "recall": r, "f1": harmonic(p, r)})
        listed = np.zeros(labels.shape, dtype=bool)
        np.put_along_axis(listed, order[:, :k], np.isfinite(np.take_along_axis(ranked, order[:, :k], axis=1)), axis=1)
        hits, positives = (listed & (labels == 1)).sum(axis=0), (labels == 1).sum(axis=0)
        precision, recall = hits / np.maximum(listed.sum(axis=0), 1), hits / np.maximum(positives, 1)
        of_k = zip(precision.tolist(), recall.tolist(), strict=True)
        top_k_of_labels.append([{"k": k, "precision": p, "recall": r, "f1": harmonic(p, r)} for p, r in of_k])
        chosen = [weights[c] for c in averaged]
        p, r = (float(np.average(x[averaged], weights=chosen)) for x in (precision, recall))
        top_k_by_label.append({"k": k, "precision": p, "recall": r, "f1": harmonic(p, r)})
    coverage, loss = list_figures(scores, labels, settings)
    return {
        "columns": columns,
        "images_total": total,
        "images_kept": len(labels),
        "positives_per_image": float((labels == 1).sum(axis=1).mean()),
        "labels_averaged": len(averaged),
        "map": float(mean),
        "average_precision": aps,
        "annotated": [int(n) for n in known.sum(axis=0)],
        "top_k": top_k,
        "top_k_by_label": top_k_by_label,
        "top_k_of_labels": top_k_of_labels,
        "coverage_error": coverage,
        "ranking_loss": loss,
    }


def table(rng, images, labels):
    """Few distinct scores, so ties abound; a constant score, empty labels, empty and unknown images."""
    scores = rng.integers(-8, 9, size=(images, labels)) / 8
    values = rng.choice([1, -1, 0], p=[0.2, 0.55, 0.25], size=(images, labels))
    scores[:, 0] = 0.25  # a constant score
    values[:, 1] = rng.choice([-1, 0], size=images)  # a label without positives
    values[:, 2] = 0  # a label nobody knows
    values[0] = np.minimum(values[0], 0)  # an image without positives
    values[1] = 0  # an image nobody knows
    return scores, values


def rounded(value):
    """To 12 decimals, far below the tolerance, to keep the file small."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 12) if isinstance(value, float) else value


def main():
    rng = np.random.default_rng(20250101)
    cases = []
    for images, labels, seen in [(12, 7, 4), (50, 12, 8), (100, 16, 10)]:
        scores, values = table(rng, images, labels)
        ks_zsl, ks_gzsl = [1, 3], [1, 3, seen]
        for protocol, settings in PROTOCOLS.items():
            every = list(range(labels))
            splits = {"zsl": (every[seen:], ks_zsl), "seen": (every[:seen], ks_gzsl), "gzsl": (every, ks_gzsl)}
            cases.append({
                "table": {"images": images, "labels": labels},
                "seen": seen,
                "ks_zsl": ks_zsl,
                "ks_gzsl": ks_gzsl,
                "protocol": protocol,
                "settings": settings,
                "expected": {name: evaluate(scores, values, c, settings, ks) for name, (c, ks) in splits.items()},
            })
        # The tables are stored once, with their first case.
        first = cases[-len(PROTOCOLS)]["table"]
        first["scores"], first["values"] = scores.ravel().tolist(), values.ravel().tolist()
    path = Path(__file__).with_name("reference.json")
    path.write_text(json.dumps(rounded(cases), separators=(",", ":")) + "\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
