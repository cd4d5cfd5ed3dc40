"""(ML)2P-Encoder in PyTorch, written from the equations alone, with the framework's own convolutions.

    python make_ml2p.py

writes ../fixtures/{,learnt-labels-}ml2p-encoder.safetensors.
"""

import torch
from torch.nn import functional as F

from twin import batch, normal, rank_net, save, save_learnt

GROUPS, W_REG = 3, 0.4
b = batch(6, images=3, tokens=9, width=6, labels=6, label_width=4)
x, vectors = b["tokens"], b["label_vectors"]
images, tokens, width = x.shape
d = vectors.shape[1]
SIDE = 3


def linear(name, inputs, outputs):
    return {f"{name}.weight": normal(inputs, outputs, scale=inputs**-0.5), f"{name}.bias": normal(outputs, scale=0.1)}


weights = linear("groups", width, GROUPS * d)
weights |= {
    "attention.map": normal(GROUPS, d, 3 * d, scale=d**-0.5),
    "attention.window": normal(9, GROUPS * 3 * d, scale=1 / 3),
    "attention.temperature": 1 + normal(GROUPS, scale=0.3),
}
for name, size, hidden in (("mixer.tokens", tokens, 5), ("mixer.channels", d, 7), ("query", d, d), ("key", d, d)):
    weights |= linear(f"{name}.fc1", size, hidden) | linear(f"{name}.fc2", hidden, size)
for name in ("mixer.tokens.norm", "mixer.channels.norm"):
    weights |= {f"{name}.gamma": 1 + normal(d, scale=0.2), f"{name}.beta": normal(d, scale=0.2)}


def mlp(w, name, y):
    hidden = F.gelu(y @ w[f"{name}.fc1.weight"] + w[f"{name}.fc1.bias"])
    return hidden @ w[f"{name}.fc2.weight"] + w[f"{name}.fc2.bias"]


def norm(w, name, y):
    return F.layer_norm(y, (d,), w[f"{name}.gamma"], w[f"{name}.beta"], 1e-6)


def semantics(w):
    channels = x @ w["groups.weight"] + w["groups.bias"]
    # ShuffleNet's shuffle: channel (group, place) goes to (place, group).
    image = channels.transpose(1, 2).reshape(images, GROUPS, d, tokens)
    image = image.transpose(1, 2).reshape(images, GROUPS * d, SIDE, SIDE)
    mixed = []
    for g in range(GROUPS):
        part = image[:, g * d : (g + 1) * d]
        qkv = F.conv2d(part, w["attention.map"][g].T[:, :, None, None])
        window = w["attention.window"][:, g * 3 * d : (g + 1) * 3 * d].T.reshape(3 * d, 1, 3, 3)
        q, k, v = F.conv2d(qkv, window, padding=1, groups=3 * d).flatten(2).chunk(3, 1)
        q, k = F.normalize(q, dim=2), F.normalize(k, dim=2)
        y = (q @ k.transpose(1, 2) * w["attention.temperature"][g]).softmax(2) @ v
        y = y.transpose(1, 2)
        y = y + mlp(w, "mixer.tokens", norm(w, "mixer.tokens.norm", y).transpose(1, 2)).transpose(1, 2)
        y = y + mlp(w, "mixer.channels", norm(w, "mixer.channels.norm", y))
        mixed.append(y.amax(1).sigmoid())
    u = torch.stack(mixed, 1)
    return mlp(w, "query", u) @ mlp(w, "key", u).transpose(1, 2) @ u


def scores(w):
    return (semantics(w) @ w.get("learnt.vectors", vectors).T).amax(1)


def loss(w):
    return (rank_net(scores(w), b["labels"], "pairs") + W_REG * semantics(w).var(1).sum(1)).mean()


method = {"kind": "ml2p-encoder", "groups": GROUPS, "token-hidden": 5, "channel-hidden": 7, "regularisation": W_REG}
for write in (save, save_learnt):
    write("ml2p-encoder", method, b, weights, scores, loss)
