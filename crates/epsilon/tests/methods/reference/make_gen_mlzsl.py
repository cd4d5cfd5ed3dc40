"""Gen-MLZSL in PyTorch, written from the equations alone.

    python make_gen_mlzsl.py

writes ../fixtures/gen-mlzsl.safetensors, the scores of its two heads, and ../parts/gen-mlzsl.safetensors: the networks, what
they draw from fixed noise, and both losses with their gradients. The critic is differentiated twice by the framework.
"""

from pathlib import Path

import safetensors.torch
import torch
from torch.nn import functional as F

from twin import batch, normal, save

UNSEEN = 3


def heads():
    b = batch(8)
    width, labels = b["global"].shape[1], b["labels"].shape[1]
    weights = {}
    for name, count in (("zsl", UNSEEN), ("gzsl", labels)):
        weights |= {f"{name}.weight": normal(width, count), f"{name}.bias": normal(count)}

    def scores(w):
        # All labels are asked for, so the head of all labels answers.
        return b["global"] @ w["gzsl.weight"] + w["gzsl.bias"]

    save("gen-mlzsl", {"kind": "gen-mlzsl", "heads": 4}, b, weights, scores, None, extra={"unseen": UNSEEN})


HIDDEN, HEADS, NOISE, PENALTY, ADVERSARIAL = 9, 2, 4, 10.0, 3.0
b = batch(9, images=4, global_width=6, labels=7, label_width=5)
vectors = b["label_vectors"]
features, d = b["global"].shape[1], vectors.shape[1]
sets = [row.eq(1).nonzero()[:, 0] for row in b["labels"]]
pooled = torch.stack([vectors[s].mean(0) for s in sets])
torch.manual_seed(10)
real = torch.rand(4, features, dtype=torch.float64).float().double()


def layers(*shapes):
    weights = {}
    for name, inputs, outputs in shapes:
        weights |= {f"{name}.weight": normal(inputs, outputs, scale=inputs**-0.5), f"{name}.bias": normal(outputs, scale=0.2)}
    return {key: value.float().double().requires_grad_() for key, value in weights.items()}


generator = layers(
    ("attribute.fc1", NOISE + d, HIDDEN),
    ("attribute.fc2", HIDDEN, features),
    ("feature.fc1", NOISE + d, HIDDEN),
    ("feature.fc2", HIDDEN, features),
    *((f"cross.{name}", features, features) for name in ("query", "key", "value", "out")),
    ("cross.fc1", features, HIDDEN),
    ("cross.fc2", HIDDEN, features),
    ("encoder.fc1", features + d, HIDDEN),
    ("encoder.mean", HIDDEN, NOISE),
    ("encoder.log-variance", HIDDEN, NOISE),
)
critic = layers(("critic.fc1", features + d, HIDDEN), ("critic.fc2", HIDDEN, 1))


def linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"].T, w[f"{name}.bias"])


def two_layers(w, name, x):
    return linear(w, f"{name}.fc2", F.leaky_relu(linear(w, f"{name}.fc1", x), 0.2))


def one(w, fusion, z, labels):
    """The logits of one image, from its noise and the vectors of its labels."""
    attribute = two_layers(w, "attribute", torch.cat([z, labels.mean(0)]))
    if fusion == "attribute":
        return attribute
    feature = torch.stack([two_layers(w, "feature", torch.cat([z, v])) for v in labels]).mean(0)
    if fusion == "feature":
        return feature
    levels = torch.stack([attribute, feature])
    part = features // HEADS
    out = []
    for head in range(HEADS):
        channels = slice(head * part, (head + 1) * part)
        q, k, v = (linear(w, f"cross.{name}", levels)[:, channels] for name in ("query", "key", "value"))
        out.append(torch.softmax(q @ k.T / part**0.5, 1) @ v)
    levels = levels + linear(w, "cross.out", torch.cat(out, 1))
    levels = levels + two_layers(w, "cross", levels)
    return levels.mean(0)


def logits(w, fusion, noise):
    return torch.stack([one(w, fusion, z, vectors[s]) for z, s in zip(noise, sets)])


def judge(w, x):
    return two_layers(w, "critic", torch.cat([x, pooled], 1))


def critic_loss(w, drawn, share):
    between = (share * real + (1 - share) * drawn).requires_grad_()
    (slope,) = torch.autograd.grad(judge(w, between).sum(), between, create_graph=True)
    penalty = (slope.norm(dim=1) - 1).square().mean()
    return judge(w, drawn).mean() - judge(w, real).mean() + PENALTY * penalty


def generator_loss(w, noise_encoder, noise_generator):
    hidden = F.leaky_relu(linear(w, "encoder.fc1", torch.cat([real, pooled], 1)), 0.2)
    code = torch.distributions.Normal(
        linear(w, "encoder.mean", hidden), (linear(w, "encoder.log-variance", hidden) / 2).exp()
    )
    z = code.loc + code.scale * noise_encoder
    rebuilt = F.binary_cross_entropy_with_logits(logits(w, "cross", z), real, reduction="sum")
    standard = torch.distributions.Normal(torch.zeros_like(z), torch.ones_like(z))
    divergence = torch.distributions.kl_divergence(code, standard).sum()
    drawn = logits(w, "cross", noise_generator).sigmoid()
    return (rebuilt + divergence) / len(real) - ADVERSARIAL * judge(critic, drawn).mean()


def parts():
    noise = {name: normal(4, NOISE) for name in ("encoder", "generator")}
    share = torch.rand(4, 1, dtype=torch.float64).float().double()
    drawn = {
        fusion: logits(generator, fusion, noise["generator"]).sigmoid().detach().float().double()
        for fusion in ("attribute", "feature", "cross")
    }
    out = {"real": real, "share": share, "label_vectors": vectors, "labels": b["labels"]}
    out |= {f"noise.{name}": value for name, value in noise.items()}
    out |= {f"drawn.{name}": value for name, value in drawn.items()}
    losses = {
        "critic": (critic, critic_loss(critic, drawn["cross"], share)),
        "generator": (generator, generator_loss(generator, noise["encoder"], noise["generator"])),
    }
    for name, (weights, loss) in losses.items():
        gradients = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        out[f"loss.{name}"] = loss.reshape(1)
        out |= {f"{name}.{key}": value for key, value in weights.items()}
        out |= {f"grad.{name}.{key}": value for key, value in zip(weights, gradients)}
    out = {key: value.detach().float().contiguous() for key, value in out.items()}
    path = Path(__file__).parent.parent / "parts" / "gen-mlzsl.safetensors"
    safetensors.torch.save_file(out, path)
    print(path.name, sum(value.numel() for value in out.values()), "values")


parts()
heads()
