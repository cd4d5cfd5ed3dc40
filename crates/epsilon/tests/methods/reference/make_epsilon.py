"""Epsilon with its addition, the global branch, and as a classifier, on the twin of ../../reference/epsilon_twin.py.

    python make_epsilon.py

writes ../fixtures/{epsilon-global-branch,learnt-labels-epsilon}.safetensors.
"""

import sys
from pathlib import Path

import torch
from torch.nn import functional as F

from twin import batch, normal, save, save_learnt

sys.path.insert(0, str(Path(__file__).parents[2] / "reference"))
import epsilon_twin as twin  # noqa: E402

GROUPS, HIDDEN = 3, 7
NORM = "global-branch.norm"


def epsilon(with_branch):
    b = batch(41, global_width=8)
    x, g, v, y = b["tokens"], b["global"], b["label_vectors"], b["labels"]
    config = twin.Config(dim=x.shape[2], label_dim=v.shape[1], groups=GROUPS, heads=2, hidden=6)
    weights = {
        name: normal(*shape, scale=shape[-2] ** -0.5 if name.endswith(".weight") else 0.3) + float(name.endswith(".gamma"))
        for name, shape in twin.parameter_shapes(config).items()
    }
    # The model file holds the split one block after the other, [M, D, D] and [M, D].
    weights["gfp.split.weight"] = weights["gfp.split.weight"].unflatten(1, (GROUPS, -1)).transpose(0, 1).contiguous()
    weights["gfp.split.bias"] = weights["gfp.split.bias"].unflatten(0, (GROUPS, -1))
    method = {"kind": "epsilon", "groups": GROUPS, "heads": 2, "hidden": 6}
    whole = torch.cat([g, x.mean(1)], 1)
    if with_branch:
        sizes = [("hidden.0", whole.shape[1], HIDDEN), ("output", HIDDEN, GROUPS * v.shape[1])]
        for name, inputs, outputs in sizes:
            weights[f"global-branch.{name}.weight"] = normal(inputs, outputs, scale=inputs**-0.5)
            weights[f"global-branch.{name}.bias"] = normal(outputs, scale=0.1)
        inputs = whole.shape[1]
        weights |= {
            f"{NORM}.gamma": 1 + normal(inputs, scale=0.2),
            f"{NORM}.beta": normal(inputs, scale=0.2),
            f"{NORM}.mean": normal(inputs, scale=0.2),
            f"{NORM}.variance": 1 + normal(inputs, scale=0.2).abs(),
        }
        method["global-branch"] = {"input": "both", "hidden": [HIDDEN], "dropout": 0.0, "batch-norm": True}
    running = {}

    def normed(w, training):
        mean, variance = w[f"{NORM}.mean"].detach().clone(), w[f"{NORM}.variance"].detach().clone()
        out = F.batch_norm(whole, mean, variance, w[f"{NORM}.gamma"], w[f"{NORM}.beta"], training, 0.1, 1e-5)
        if training:
            running.update({f"{NORM}.mean": mean, f"{NORM}.variance": variance})
        return out

    def twins(w):
        """The weights as the twin has them."""
        split = {
            "gfp.split.weight": w["gfp.split.weight"].transpose(0, 1).flatten(1),
            "gfp.split.bias": w["gfp.split.bias"].flatten(),
        }
        return w | split

    def semantics(w, training=False):
        s = twin.forward(twins(w), config, x)["semantics"]
        if with_branch:
            hidden = F.relu(twin.linear(w, "global-branch.hidden.0", normed(w, training)))
            s = s + twin.linear(w, "global-branch.output", hidden).unflatten(1, (GROUPS, -1))
        return s

    def maps(w):
        winner = (semantics(w) @ w.get("learnt.vectors", v).T).argmax(1)
        attention = twin.forward(twins(w), config, x)["attention"]
        shares = twin.global_weights(w, twin.global_blocks(twins(w), config, x)).mean(3)
        of_winner = lambda values: torch.stack([a[chosen] for a, chosen in zip(values, winner)])  # noqa: E731
        return {"attention": of_winner(attention), "global weights": of_winner(shares)}

    def scores(w, training=False):
        return twin.scores(config, semantics(w, training), w.get("learnt.vectors", v))

    def loss(w):
        return twin.losses(config, semantics(w, True), scores(w, True), v, y)["loss"]

    buffers = (f"{NORM}.mean", f"{NORM}.variance") if with_branch else ()
    return (method, b, weights, scores, loss, running, buffers), maps


for write, name, with_branch in ((save, "epsilon-global-branch", True), (save_learnt, "epsilon", False)):
    parts, maps = epsilon(with_branch)
    write(name, *parts, maps=maps)
