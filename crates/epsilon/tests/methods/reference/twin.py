"""What the twins share: a small random batch, the ranking loss by its definition, and the file the Rust tests read."""

import json
from pathlib import Path

import safetensors.torch
import torch
from torch.nn import functional as F

FIXTURES = Path(__file__).parent.parent / "fixtures"
GENERATOR = torch.Generator()


def normal(*shape, scale=1.0):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64).to(torch.float32).double() * scale


def batch(seed, images=4, tokens=9, width=8, global_width=12, labels=7, label_width=5):
    """Everything in double precision but exactly representable in single, so that both sides start from the same numbers.
    Every image has a positive, and some of its other labels are unknown (0)."""
    GENERATOR.manual_seed(seed)
    values = torch.randint(-1, 1, (images, labels), generator=GENERATOR)
    for image in range(images):
        chosen = torch.randperm(labels, generator=GENERATOR)
        values[image, chosen[: 1 + image % 3]] = 1
        values[image, chosen[-1]] = -1
    return {
        "tokens": normal(images, tokens, width),
        "global": normal(images, global_width),
        "label_vectors": F.normalize(normal(labels, label_width), dim=1).float().double(),
        "labels": values,
    }


def rank_net(scores, labels, alpha):
    """L_r of each image: log(1 + exp(s_n - s_p)) over pairs of a positive and a label that is not positive."""
    losses = []
    for s, y in zip(scores, labels):
        positive, others = s[y == 1], s[y != 1]
        pairs = F.softplus(others[None, :] - positive[:, None])
        count = pairs.numel() if alpha == "pairs" else len(positive)
        losses.append(pairs.sum() / count)
    return torch.stack(losses)


def save(name, method, batch, weights, scores, loss, kept=None, buffers=(), extra=None, maps=None):
    """Writes a fixture: `scores(w)` and `loss(w)` are functions of a dictionary of weights; `loss` is None for a method that
    is not trained, `kept` maps weights that no gradient changes (`buffers`) to their values after the loss; `extra` joins
    the configuration. `maps` is a function of the weights too: by what they show, maps `[images, labels, tokens]`."""
    single = {key: value.float().double() for key, value in weights.items()}
    tensors = {key: batch[key].float() for key in ("tokens", "global", "label_vectors")}
    tensors["labels"] = batch["labels"].to(torch.int8)
    tensors |= {f"weight.{key}": value.float() for key, value in single.items()}
    tensors["out.scores"] = scores(single).float()
    if loss is not None:
        leaves = {key: v.clone().requires_grad_(key not in buffers) for key, v in single.items()}
        value = loss(leaves)
        value.backward()
        tensors["out.loss"] = value.detach().float().reshape(1)
        for key, leaf in leaves.items():
            if key not in buffers:
                grad = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
                tensors[f"grad.{key}"] = grad.float()
    tensors |= {f"maps.{key}": value.float() for key, value in (maps(single) if maps else {}).items()}
    tensors |= {f"kept.{key}": value.float() for key, value in (kept or {}).items()}
    tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
    FIXTURES.mkdir(exist_ok=True)
    config = json.dumps({"method": method} | (extra or {}))
    safetensors.torch.save_file(tensors, FIXTURES / f"{name}.safetensors", metadata={"config": config})
    print(name, sum(v.numel() for v in tensors.values()), "values")


def save_learnt(name, method, batch, weights, scores, loss, kept=None, buffers=(), maps=None):
    """The same as a classifier: `scores` and `loss` take the labels' vectors from `learnt.vectors` where it is there."""
    weights = weights | {"learnt.vectors": normal(*batch["label_vectors"].shape, scale=0.7)}
    save(f"learnt-labels-{name}", {"kind": "learnt-labels", "of": method}, batch, weights, scores, loss, kept, buffers, None, maps)
