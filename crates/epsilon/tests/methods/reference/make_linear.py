"""CONSE, LabelEM and ridge regression in PyTorch, written from the equations alone.

    python make_linear.py

writes ../fixtures/{conse,label-em,ridge}.safetensors. LabelEM's loss is sampled; in its batch every image has one negative, which
every draw must find, so that no two generators need to agree.
"""

import torch
from torch.nn import functional as F

from twin import batch, normal, save


def conse():
    b = batch(21)
    g, v, y = b["global"], b["label_vectors"], b["labels"]
    weights = {
        "classifier.weight": normal(g.shape[1], len(v), scale=0.3),
        "classifier.bias": normal(len(v), scale=0.2),
        "seen.vectors": F.normalize(normal(*v.shape), dim=1),
    }
    top = 3

    def logits(w):
        return g @ w["classifier.weight"] + w["classifier.bias"]

    def scores(w):
        values, chosen = logits(w).sigmoid().topk(top, 1)
        f = (values[:, :, None] * w["seen.vectors"][chosen]).sum(1) / values.sum(1, keepdim=True)
        return F.cosine_similarity(f[:, None], v[None], dim=2)

    def loss(w):
        return F.binary_cross_entropy_with_logits(logits(w), (y == 1).double())

    save("conse", {"kind": "conse", "top": top}, b, weights, scores, loss, {}, ("seen.vectors",))


def label_em():
    b = batch(22)
    y = torch.ones_like(b["labels"])
    y[torch.arange(len(y)), torch.arange(len(y)) % y.shape[1]] = -1
    b["labels"] = y
    g, v = b["global"], b["label_vectors"]
    weights = {"compatibility.weight": normal(g.shape[1], v.shape[1], scale=0.5)}
    rank_weight = sum(1 / j for j in range(1, y.shape[1]))

    def scores(w):
        return F.normalize(g, dim=1) @ w["compatibility.weight"] @ v.T

    def loss(w):
        total = 0
        for s, labels in zip(scores(w), y):
            gaps = 1 + s[labels == -1] - s[labels == 1]
            total = total + rank_weight * F.relu(gaps).sum()
        return total / len(y)

    save("label-em", {"kind": "label-em"}, b, weights, scores, loss)


def ridge():
    """From standardised global vectors to the mean vector of the positive labels, as least squares with rows that pull to 0."""
    b = batch(23, images=9)
    g, v, y, penalty = b["global"], b["label_vectors"], (b["labels"] == 1).double(), 0.3
    mean, deviation = g.mean(0), g.std(0, unbiased=False)
    x, target = (g - mean) / deviation, y @ v / y.sum(1, keepdim=True)
    pull = (penalty * len(g)) ** 0.5 * torch.eye(g.shape[1]).double()
    stacked = torch.cat([target - target.mean(0), torch.zeros(g.shape[1], v.shape[1]).double()])
    solved = torch.linalg.lstsq(torch.cat([x, pull]), stacked).solution / deviation[:, None]
    weights = {"ridge.weight": solved, "ridge.bias": target.mean(0) - mean @ solved}
    scores = lambda w: (g @ w["ridge.weight"] + w["ridge.bias"]) @ v.T  # noqa: E731
    save("ridge", {"kind": "ridge", "penalty": penalty}, b, weights, scores, None)


conse()
label_em()
ridge()
