"""Bilinear attention, LESA, one attention per cluster, and BiAM in PyTorch, written from the equations alone, with the
framework's own convolutions and batch normalisation.

    python make_attention.py

writes ../fixtures/{,learnt-labels-}{bilinear-attention,lesa,lesa-per-cluster,biam}.safetensors.
"""

import torch
from torch.nn import functional as F

from twin import batch, normal, save, save_learnt


def hinge(scores, labels):
    losses = []
    for s, y in zip(scores, labels):
        gaps = F.relu(1 + s[y == -1][None, :] - s[y == 1][:, None])
        losses.append(gaps.sum() / ((gaps > 0).sum() + 1e-8))
    return torch.stack(losses).mean()


def linear(name, inputs, outputs):
    return {f"{name}.weight": normal(inputs, outputs, scale=inputs**-0.5), f"{name}.bias": normal(outputs, scale=0.1)}


def norm(name, channels):
    return {
        f"{name}.gamma": 1 + normal(channels, scale=0.2),
        f"{name}.beta": normal(channels, scale=0.2),
        f"{name}.mean": normal(channels, scale=0.2),
        f"{name}.variance": 1 + normal(channels, scale=0.2).abs(),
    }


def apply(w, name, x):
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def image_of(tokens):
    side = int(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


def convolve(w, name, tokens, size, padding):
    """A weight [size * size * inputs, outputs], windows row by row, as PyTorch's [outputs, inputs, size, size]."""
    weight = w[f"{name}.weight"]
    kernel = weight.T.reshape(weight.shape[1], size, size, -1).permute(0, 3, 1, 2)
    return F.conv2d(image_of(tokens), kernel, w[f"{name}.bias"], padding=padding).flatten(2).transpose(1, 2)


def batch_norm(w, name, tokens, running=None):
    """With the batch's statistics, new running ones into `running`; without it by those that are kept."""
    mean, variance = w[f"{name}.mean"].detach().clone(), w[f"{name}.variance"].detach().clone()
    out = F.batch_norm(
        tokens.transpose(1, 2), mean, variance, w[f"{name}.gamma"], w[f"{name}.beta"], running is not None, 0.1, 1e-5
    )
    if running is not None:
        running |= {f"{name}.mean": mean, f"{name}.variance": variance}
    return out.transpose(1, 2)


def bilinear_attention():
    b = batch(11)
    x, v = b["tokens"], b["label_vectors"]
    rank = 6
    weights = {
        "tokens.weight": normal(x.shape[2], rank, scale=0.4),
        "labels.weight": normal(v.shape[1], rank, scale=0.6),
        "attention.weight": normal(rank),
        "score.weight": normal(x.shape[2], v.shape[1], scale=0.4),
    }

    def attention(w):
        v = w.get("learnt.vectors", b["label_vectors"])
        meet = F.relu(x @ w["tokens.weight"])[:, :, None] * F.relu(v @ w["labels.weight"])
        return (meet @ w["attention.weight"]).softmax(1)

    def maps(w):
        return {"attention": attention(w).transpose(1, 2)}

    def scores(w):
        v = w.get("learnt.vectors", b["label_vectors"])
        z = torch.einsum("bnc,bnd->bcd", attention(w), x)
        return torch.einsum("bcd,de,ce->bc", z, w["score.weight"], v)

    method = {"kind": "bilinear-attention", "rank": rank}
    for write in (save, save_learnt):
        loss = lambda w: hinge(scores(w), b["labels"])  # noqa: E731
        write("bilinear-attention", method, b, weights, scores, loss, maps=maps)


def attention(w, tokens):
    logits = apply(w, "attention.logits", torch.tanh(apply(w, "attention.hidden", tokens)))
    return logits, logits.softmax(1).transpose(1, 2) @ tokens


def lesa():
    b = batch(12)
    x, v, y = b["tokens"], b["label_vectors"], b["labels"]
    d, count = x.shape[2], 3
    weights = linear("convolution", 4 * d, d) | norm("norm", d)
    weights |= linear("attention.hidden", d, 7) | linear("attention.logits", 7, count)
    weights["score.weight"] = normal(d, v.shape[1], scale=0.5)

    def tokens(w, running=None):
        return batch_norm(w, "norm", convolve(w, "convolution", x, 2, 0), running)

    def scores(w):
        _, f = attention(w, tokens(w))
        return (f @ w["score.weight"] @ w.get("learnt.vectors", v).T).amax(1)

    def maps(w):
        """Each window's share, a quarter to each of its four tokens."""
        logits, f = attention(w, tokens(w))
        best = (f @ w["score.weight"] @ w.get("learnt.vectors", v).T).argmax(1)
        windows = image_of(logits.softmax(1))
        spread = F.conv_transpose2d(windows, torch.ones(count, 1, 2, 2).double() / 4, groups=count).flatten(2)
        return {"attention": torch.stack([s[chosen] for s, chosen in zip(spread, best)])}

    running = {}

    def loss(w):
        r = tokens(w, running)
        logits, f = attention(w, r)
        labels = w.get("learnt.vectors", v)
        matches = f @ w["score.weight"] @ labels.T
        s = matches.amax(1)
        of_mean = r.mean(1) @ w["score.weight"] @ labels.T
        taken = (matches.softmax(1) * (y == 1)[:, None, :]).sum(2)
        distribution = (taken**2).mean(1).mean()
        lift = F.relu(-y * (s - of_mean)).sum(1).mean()
        unit = F.normalize(logits, dim=1)
        cosines = unit.transpose(1, 2) @ unit
        span = torch.stack([(c - torch.diag(torch.diag(c))).norm() for c in cosines]).mean()
        return hinge(s, y) + 0.1 * distribution + 0.001 * lift + 0.01 * span

    method = {"kind": "lesa", "attentions": count, "hidden": 7}
    for write in (save, save_learnt):
        write("lesa", method, b, weights, scores, loss, running, ("norm.mean", "norm.variance"), maps=maps)


def lesa_per_cluster():
    b = batch(13)
    x, v = b["tokens"], b["label_vectors"]
    count = 3
    weights = linear("attention.hidden", x.shape[2], 7) | linear("attention.logits", 7, count)
    weights["score.weight"] = normal(x.shape[2], v.shape[1], scale=0.5)
    weights["clusters.centres"] = normal(count, v.shape[1], scale=0.4)

    def scores(w):
        _, f = attention(w, x)
        matches = f @ w["score.weight"] @ w.get("learnt.vectors", v).T
        nearest = torch.cdist(v, w["clusters.centres"]).argmin(1)
        return matches[:, nearest, torch.arange(len(v))]

    def maps(w):
        nearest = torch.cdist(v, w["clusters.centres"]).argmin(1)
        return {"attention": attention(w, x)[0].softmax(1).transpose(1, 2)[:, nearest]}

    method = {"kind": "lesa-per-cluster", "clusters": count, "hidden": 7}
    loss = lambda w: hinge(scores(w), b["labels"])  # noqa: E731
    for write in (save, save_learnt):
        write("lesa-per-cluster", method, b, weights, scores, loss, {}, ("clusters.centres",), maps=maps)


def biam():
    b = batch(14)
    x, v, g = b["tokens"], b["label_vectors"], b["global"]
    c, heads, best = 6, 2, 4
    maps = [("entry", 9 * x.shape[2], c), ("region.query", c, c), ("region.key", c, c), ("region.value", c, c)]
    maps += [("region.output", c, c), ("region.fc1", c, 2 * c), ("region.fc2", 2 * c, c), ("scene.value", c, c)]
    maps += [("scene.gate", g.shape[1], c), ("scene.window", 9 * c, c), ("fuse", 2 * c, c), ("labels", v.shape[1], c)]
    weights = {}
    for name, inputs, outputs in maps:
        weights |= linear(name, inputs, outputs)
    weights |= norm("entry.norm", c) | norm("scene.window.norm", c)

    def matches(w, running=None):
        h = batch_norm(w, "entry.norm", F.relu(convolve(w, "entry", x, 3, 1)), running)
        q, k, value = (
            apply(w, f"region.{part}", h).unflatten(2, (heads, -1)).transpose(1, 2) for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(q, k, value).transpose(1, 2).flatten(2)
        region = h + apply(w, "region.output", mixed)
        region = region + apply(w, "region.fc2", F.relu(apply(w, "region.fc1", region)))
        value = F.leaky_relu(apply(w, "scene.value", h), 0.2)
        gate = torch.sigmoid(value.mean(1) * apply(w, "scene.gate", g))
        scene = gate[:, None] * value
        scene = scene + batch_norm(w, "scene.window.norm", F.relu(convolve(w, "scene.window", scene, 3, 1)), running)
        e = F.leaky_relu(apply(w, "fuse", torch.cat([region, scene], 2)), 0.2)
        labels = apply(w, "labels", w.get("learnt.vectors", v))
        return e @ labels.T

    def scores(w, running=None):
        return matches(w, running).topk(best, 1).values.mean(1)

    def maps(w):
        m = matches(w)
        above = F.relu(m - m.mean(1, keepdim=True)).transpose(1, 2)
        return {"matches": above / above.sum(2, keepdim=True)}

    running = {}
    loss = lambda w: hinge(scores(w, running), b["labels"])  # noqa: E731
    method = {"kind": "biam", "channels": c, "heads": heads, "best": best, "dropout": 0.0}
    buffers = tuple(f"{name}.{part}" for name in ("entry.norm", "scene.window.norm") for part in ("mean", "variance"))
    for write in (save, save_learnt):
        write("biam", method, b, weights, scores, loss, running, buffers, maps=maps)


bilinear_attention()
lesa()
lesa_per_cluster()
biam()
