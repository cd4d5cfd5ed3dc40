"""Logistic classifier, WARP, WSABIE and CNN-RNN in PyTorch, written from the equations alone, the last with the framework's
LSTM cell.

    python make_classifiers.py

writes ../fixtures/{logistic,warp,wsabie,cnn-rnn}.safetensors. In the batches of the sampled loss every image has one
negative, which every draw must find, so that no two generators need to agree.
"""

import math

import torch
from torch.nn import functional as F

from twin import batch, normal, save


def linear(name, inputs, outputs):
    return {f"{name}.weight": normal(inputs, outputs, scale=inputs**-0.5), f"{name}.bias": normal(outputs, scale=0.1)}


def with_one_negative(seed):
    b = batch(seed)
    y = torch.ones_like(b["labels"])
    y[torch.arange(len(y)), torch.arange(len(y)) % y.shape[1]] = -1
    b["labels"] = y
    return b


def warp_loss(scores, y):
    rank_weight = sum(1 / j for j in range(1, y.shape[1]))
    total = 0
    for s, labels in zip(scores, y):
        total = total + rank_weight * F.relu(1 + s[labels == -1] - s[labels == 1]).sum()
    return total / len(y)


def logistic():
    b = batch(31)
    g, y = b["global"], b["labels"]
    weights = linear("classifier", g.shape[1], y.shape[1])

    def scores(w):
        return g @ w["classifier.weight"] + w["classifier.bias"]

    def loss(w):
        return F.binary_cross_entropy_with_logits(scores(w), (y == 1).double())

    save("logistic", {"kind": "logistic"}, b, weights, scores, loss)


def warp():
    b = with_one_negative(32)
    g, y = b["global"], b["labels"]
    weights = linear("classifier", g.shape[1], y.shape[1])

    def scores(w):
        return g @ w["classifier.weight"] + w["classifier.bias"]

    save("warp", {"kind": "warp"}, b, weights, scores, lambda w: warp_loss(scores(w), y))


def wsabie():
    b = with_one_negative(33)
    g, y = b["global"], b["labels"]
    rank = 4
    weights = {
        "embedding.weight": normal(g.shape[1], rank, scale=0.4),
        "labels.weight": normal(y.shape[1], rank, scale=0.5),
    }

    def scores(w):
        return g @ w["embedding.weight"] @ w["labels.weight"].T

    save("wsabie", {"kind": "wsabie", "rank": rank}, b, weights, scores, lambda w: warp_loss(scores(w), y))


def cnn_rnn():
    b = batch(34)
    g, y = b["global"], b["labels"]
    count, embedding, hidden, beam, longest = y.shape[1], 5, 6, 2, 3
    weights = {"labels.weight": normal(count + 1, embedding, scale=0.8)}
    weights |= linear("lstm", embedding + hidden, 4 * hidden)
    weights["output.weight"] = normal(hidden, embedding, scale=0.8)
    weights |= linear("image", g.shape[1], embedding)
    weights["labels.rank"] = torch.randperm(count, generator=torch.Generator().manual_seed(34)).double()

    def read(w, symbol, state):
        """PyTorch's cell takes the two halves of the weight apart, as [outputs, inputs]."""
        embedded = torch.zeros(embedding).double() if symbol is None else w["labels.weight"][symbol]
        halves = w["lstm.weight"].T.split([embedding, hidden], dim=1)
        no_bias = torch.zeros(4 * hidden).double()
        state = torch._VF.lstm_cell(embedded[None], state, *halves, w["lstm.bias"], no_bias)
        return state

    def start():
        return (torch.zeros(1, hidden).double(), torch.zeros(1, hidden).double())

    def next_symbol(w, image, state):
        x = F.relu(state[0][0] @ w["output.weight"] + g[image] @ w["image.weight"] + w["image.bias"])
        return (w["labels.weight"] @ x).log_softmax(0)

    def loss(w):
        total = 0
        for image, row in enumerate(y):
            labels = sorted((row == 1).nonzero().flatten().tolist(), key=lambda c: w["labels.rank"][c])[:longest]
            state, last, steps = start(), None, []
            for symbol in [*labels, count]:
                state = read(w, last, state)
                steps.append(-next_symbol(w, image, state)[symbol])
                last = symbol
            total = total + torch.stack(steps).mean()
        return total / len(y)

    def scores(w):
        out = torch.full((len(g), count), -math.inf).double()
        for image in range(len(g)):
            lists = [([], 0.0, read(w, None, start()))]
            for _ in range(longest):
                longer = []
                for labels, log_p, state in lists:
                    following = next_symbol(w, image, state)
                    for c in range(count):
                        if c not in labels:
                            p = log_p + following[c]
                            out[image, c] = torch.maximum(out[image, c], p)
                            longer.append((labels + [c], p, state))
                best = sorted(longer, key=lambda item: -item[1])[:beam]
                lists = [(labels, p, read(w, labels[-1], state)) for labels, p, state in best]
        return out

    method = {"kind": "cnn-rnn", "embedding": embedding, "hidden": hidden, "beam": beam, "longest": longest}
    save("cnn-rnn", method, b, weights, scores, loss, {}, ("labels.rank",))


logistic()
warp()
wsabie()
cnn_rnn()
