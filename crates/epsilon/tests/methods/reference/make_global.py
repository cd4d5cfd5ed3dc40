"""Fast0Tag, SDL and CLIP in PyTorch, written from the equations alone: the twins of the methods that read one vector.

    python make_global.py

writes ../fixtures/{fast0tag,sdl,clip-zero-shot,clip-projection}.safetensors.
"""

import torch
from torch.nn import functional as F

from twin import batch, normal, rank_net, save


def input_of(kind, tokens, g):
    mean = tokens.mean(1)
    return {"global": g, "mean-token": mean, "both": torch.cat([g, mean], 1)}[kind]


def fast0tag(name, kind, seed):
    b = batch(seed)
    inputs = input_of(kind, b["tokens"], b["global"])
    widths = [inputs.shape[1], 11, 6, b["label_vectors"].shape[1]]
    names = ["hidden.0", "hidden.1", "direction"]
    weights = {}
    for layer, (a, c) in zip(names, zip(widths, widths[1:])):
        weights[f"{layer}.weight"] = normal(a, c, scale=a**-0.5)
        weights[f"{layer}.bias"] = normal(c, scale=0.1)

    def scores(w):
        x = inputs
        for layer in names[:2]:
            x = F.relu(x @ w[f"{layer}.weight"] + w[f"{layer}.bias"])
        return (x @ w["direction.weight"] + w["direction.bias"]) @ b["label_vectors"].T

    def loss(w):
        return rank_net(scores(w), b["labels"], "pairs").mean()

    method = {"kind": "fast0tag", "input": kind, "hidden": widths[1:3], "dropout": 0.0}
    save(name, method, b, weights, scores, loss)


def sdl():
    b = batch(3)
    rows, w_reg = 3, 0.3
    vectors = b["label_vectors"]
    weights = {"rows.weight": normal(b["global"].shape[1], rows * vectors.shape[1], scale=0.4)}

    def semantics(w):
        return (b["global"] @ w["rows.weight"]).view(len(b["global"]), rows, -1)

    def scores(w):
        return (semantics(w) @ vectors.T).amax(1)

    def omega():
        spread = [vectors[row == 1].var(0).sum() if (row == 1).sum() > 1 else torch.zeros(()) for row in b["labels"]]
        return 1 + torch.stack(spread)

    def loss(w):
        ranking = omega() * rank_net(scores(w), b["labels"], "positives")
        spread = semantics(w).var(1).sum(1)
        return (2 * ((1 - w_reg) * ranking + w_reg * spread)).mean()

    save("sdl", {"kind": "sdl", "rows": rows, "regularisation": w_reg}, b, weights, scores, loss)


def clip():
    b = batch(4, label_width=12)

    def zero_shot(_):
        return F.normalize(b["global"], dim=1) @ b["label_vectors"].T

    save("clip-zero-shot", {"kind": "clip-zero-shot"}, b, {}, zero_shot, None)

    weights = {"projection.weight": torch.eye(12) + normal(12, 12, scale=0.1)}

    def scores(w):
        return 5.0 * F.normalize(b["global"] @ w["projection.weight"], dim=1) @ b["label_vectors"].T

    def loss(w):
        return rank_net(scores(w), b["labels"], "pairs").mean()

    save("clip-projection", {"kind": "clip-projection", "scale": 5.0}, b, weights, scores, loss)


fast0tag("fast0tag", "global", 1)
fast0tag("fast0tag-both", "both", 2)
sdl()
clip()
