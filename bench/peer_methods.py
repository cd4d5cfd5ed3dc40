"""Times a training step of six methods in PyTorch, the peer of bench_methods: forward, loss, backward and Adam.

Prints one JSON line: `seconds` (a list, one a step), `peak_rss_mb` (10^6 bytes, of the whole process), `torch`, `loss`
(of the last step). With `--serve`, after the warm-up, each line `run` on stdin makes one timed step and prints one such
line, until end of file.

Every method is the straight form of its equations in PyTorch's own modules: convolutions with channels last where that is
the faster layout, fused attention, an LSTM over whole sequences, Adam fused. A step of Gen-MLZSL is five steps of the
critic, the penalty's gradient by a second backward pass, and one of the generator.
`--check` compares loss and every gradient of all six with the twins' small cases, which the library's tests compare ours
with, and exits.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turns import peak_rss_mb

MAX_POSITIVES = 6
TWINS = Path(__file__).parents[1] / "crates/epsilon/tests/methods"


def image_of(tokens: Tensor) -> Tensor:
    """[B, N, D] on a square grid as [B, D, H, W] with channels last, without a copy."""
    return tokens.transpose(1, 2).unflatten(2, (math.isqrt(tokens.shape[1]), -1))


def tokens_of(image: Tensor) -> Tensor:
    return image.flatten(2).transpose(1, 2)


def positives(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Places [B, P] of the positive labels of each image, and which of these are some."""
    values, places = labels.topk(int((labels == 1).sum(1).max()), dim=1)
    return places, values == 1


def hinge(scores: Tensor, labels: Tensor) -> Tensor:
    places, there = positives(labels)
    pairs = there[:, :, None] & (labels == -1)[:, None, :]
    gaps = F.relu(1 + scores[:, None, :] - scores.gather(1, places)[:, :, None]) * pairs
    return (gaps.sum((1, 2)) / ((gaps > 0).sum((1, 2)) + 1e-8)).mean()


def rank_net(scores: Tensor, labels: Tensor) -> Tensor:
    places, there = positives(labels)
    pairs = there[:, :, None] & (labels != 1)[:, None, :]
    losses = F.softplus(scores[:, None, :] - scores.gather(1, places)[:, :, None]) * pairs
    return (losses.sum((1, 2)) / pairs.sum((1, 2))).mean()


class Mlp(nn.Sequential):
    def __init__(self, width: int, hidden: int, activation, out: int | None = None):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, out or width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Method(nn.Module):
    """One model; `loss(batch)` is the mean loss of a batch."""

    def optimisers(self):
        return [torch.optim.Adam(self.parameters(), lr=1e-5, weight_decay=4e-3, fused=True)]

    def step(self, batch, optimisers) -> float:
        optimisers[0].zero_grad()
        loss = self.loss(batch)
        loss.backward()
        optimisers[0].step()
        return loss.item()


class BilinearAttention(Method):
    def __init__(self, sizes, rank=512):
        super().__init__()
        self.tokens = nn.Linear(sizes.width, rank, bias=False)
        self.labels = nn.Linear(sizes.label_width, rank, bias=False)
        self.attention = nn.Linear(rank, 1, bias=False)
        self.score = nn.Linear(sizes.width, sizes.label_width, bias=False)

    def loss(self, b) -> Tensor:
        # The element-wise product [B, N, C, rank] of the equation would take gigabytes: h joins the labels' side.
        side = F.relu(self.labels(b.vectors)) * self.attention.weight
        shares = (F.relu(self.tokens(b.tokens)) @ side.T).softmax(1)
        features = shares.transpose(1, 2) @ b.tokens
        scores = (self.score(features) * b.vectors).sum(2)
        return hinge(scores, b.labels)


class Lesa(Method):
    def __init__(self, sizes, attentions=10, hidden=None):
        super().__init__()
        d = sizes.width
        self.convolution = nn.Conv2d(d, d, 2).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(d)
        self.attention = nn.ModuleDict(
            {"hidden": nn.Linear(d, hidden or d), "logits": nn.Linear(hidden or d, attentions)}
        )
        self.score = nn.Linear(d, sizes.label_width, bias=False)

    def loss(self, b) -> Tensor:
        r = tokens_of(self.norm(self.convolution(image_of(b.tokens))))
        logits = self.attention["logits"](self.attention["hidden"](r).tanh())
        f = logits.softmax(1).transpose(1, 2) @ r
        matches = self.score(f) @ b.vectors.T
        s = matches.amax(1)
        of_mean = self.score(r.mean(1)) @ b.vectors.T
        taken = (matches.softmax(1) * (b.labels == 1)[:, None, :]).sum(2)
        distribution = taken.square().mean(1).mean()
        lift = F.relu(b.labels * (of_mean - s)).sum(1).mean()
        unit = F.normalize(logits, dim=1)
        cosines = unit.transpose(1, 2) @ unit
        span = (cosines - torch.diag_embed(cosines.diagonal(dim1=1, dim2=2))).norm(dim=(1, 2)).mean()
        return hinge(s, b.labels) + 0.1 * distribution + 0.001 * lift + 0.01 * span


class Biam(Method):
    def __init__(self, sizes, channels=256, heads=8, best=6, dropout=0.1):
        super().__init__()
        c, d = channels, sizes.width
        self.heads, self.best, self.dropout = heads, best, dropout
        self.entry, self.entry_norm = nn.Conv2d(d, c, 3, padding=1), nn.BatchNorm2d(c)
        names = ("query", "key", "value", "output")
        self.region = nn.ModuleDict({name: nn.Linear(c, c) for name in names})
        self.region.update({"fc1": nn.Linear(c, 2 * c), "fc2": nn.Linear(2 * c, c)})
        self.scene = nn.ModuleDict({"value": nn.Linear(c, c), "gate": nn.Linear(sizes.global_width, c)})
        self.scene.update({"window": nn.Conv2d(c, c, 3, padding=1), "window_norm": nn.BatchNorm2d(c)})
        self.fuse, self.labels = nn.Linear(2 * c, c), nn.Linear(sizes.label_width, c)
        self.to(memory_format=torch.channels_last)

    def region_of(self, h: Tensor) -> Tensor:
        q, k, v = (self.region[n](h).unflatten(2, (self.heads, -1)).transpose(1, 2) for n in ("query", "key", "value"))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = h + F.dropout(self.region["output"](mixed), self.dropout)
        return x + F.dropout(self.region["fc2"](F.relu(self.region["fc1"](x))), self.dropout)

    def scene_of(self, h: Tensor, given: Tensor) -> Tensor:
        value = F.leaky_relu(self.scene["value"](h), 0.2)
        gate = torch.sigmoid(value.mean(1) * self.scene["gate"](F.dropout(given, 2 * self.dropout)))
        gated = gate[:, None] * value
        window = F.relu(self.scene["window"](image_of(gated)))
        return gated + tokens_of(self.scene["window_norm"](window))

    def loss(self, b) -> Tensor:
        h = tokens_of(self.entry_norm(F.relu(self.entry(image_of(b.tokens)))))
        e = F.leaky_relu(self.fuse(torch.cat([self.region_of(h), self.scene_of(h, b.given)], 2)), 0.2)
        matches = e @ self.labels(b.vectors).T
        return hinge(matches.topk(self.best, dim=1).values.mean(1), b.labels)


class Ml2pEncoder(Method):
    def __init__(self, sizes, groups=7, token_hidden=None, channel_hidden=None, regularisation=0.4):
        super().__init__()
        n, d = sizes.tokens, sizes.label_width
        self.regularisation = regularisation
        self.groups = nn.Linear(sizes.width, groups * d)
        self.attention = nn.Module()
        self.attention.map = nn.Conv2d(groups * d, 3 * groups * d, 1, groups=groups, bias=False)
        self.attention.window = nn.Conv2d(
            3 * groups * d, 3 * groups * d, 3, padding=1, groups=3 * groups * d, bias=False
        )
        self.attention.temperature = nn.Parameter(torch.ones(groups))
        self.mixer = nn.ModuleDict(
            {
                "tokens": Mlp(n, token_hidden or n, F.gelu),
                "channels": Mlp(d, channel_hidden or d, F.gelu),
                "tokens_norm": nn.LayerNorm(d, eps=1e-6),
                "channels_norm": nn.LayerNorm(d, eps=1e-6),
            }
        )
        self.query, self.key = Mlp(d, d, F.gelu), Mlp(d, d, F.gelu)

    def semantics(self, tokens: Tensor) -> Tensor:
        groups = len(self.attention.temperature)
        dealt = self.groups(tokens).unflatten(2, (groups, -1)).transpose(2, 3).flatten(2)
        mapped = self.attention.window(self.attention.map(image_of(dealt)))
        q, k, v = mapped.unflatten(1, (groups, 3, -1)).flatten(4).unbind(2)
        q, k = F.normalize(q, dim=3), F.normalize(k, dim=3)
        q = q * self.attention.temperature[:, None, None]
        y = F.scaled_dot_product_attention(q, k, v.contiguous(), scale=1.0).transpose(2, 3)
        y = y + self.mixer["tokens"](self.mixer["tokens_norm"](y).transpose(2, 3)).transpose(2, 3)
        y = y + self.mixer["channels"](self.mixer["channels_norm"](y))
        u = y.amax(2).sigmoid()
        return self.query(u) @ self.key(u).transpose(1, 2) @ u

    def loss(self, b) -> Tensor:
        semantics = self.semantics(b.tokens)
        scores = (semantics @ b.vectors.T).amax(1)
        spread = semantics.var(1).sum(1).mean()
        return rank_net(scores, b.labels) + self.regularisation * spread


class CnnRnn(Method):
    def __init__(self, sizes, embedding=64, hidden=512, beam=4, longest=8):
        super().__init__()
        self.longest = longest
        self.labels = nn.Embedding(sizes.labels + 1, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.output = nn.Linear(hidden, embedding, bias=False)
        self.image = nn.Linear(sizes.global_width, embedding)
        self.register_buffer("rank", torch.arange(sizes.labels).float())

    def loss(self, b) -> Tensor:
        end = len(self.rank)
        rows = [sorted((row == 1).nonzero()[:, 0].tolist(), key=self.rank.__getitem__) for row in b.labels]
        rows = [torch.tensor([*row[: self.longest], end]) for row in rows]
        target = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
        embedded = F.pad(self.labels(target[:, :-1].clamp(min=0)), (0, 0, 1, 0))
        seen = self.output(self.lstm(embedded)[0]) + self.image(b.given)[:, None]
        logits = F.relu(seen) @ self.labels.weight.T
        losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
        return (losses.sum(1) / (target >= 0).sum(1)).mean()


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class GenMlzsl(Method):
    """Global vectors in 0..1, whose generator and critic are trained in turn."""

    def __init__(self, sizes, hidden=4096, noise=None, heads=8, critic_steps=5, penalty=10.0, adversarial=10.0, batch=64):
        super().__init__()
        g, d, z = sizes.global_width, sizes.label_width, noise or sizes.label_width
        self.noise, self.heads, self.critic_steps = z, heads, critic_steps
        self.penalty, self.adversarial = penalty, adversarial
        cross = {name: nn.Linear(g, g) for name in ("query", "key", "value", "out")}
        cross |= {"fc1": nn.Linear(g, hidden), "fc2": nn.Linear(hidden, g)}
        encoder = {"fc1": nn.Linear(g + d, hidden), "mean": nn.Linear(hidden, z), "log-variance": nn.Linear(hidden, z)}
        self.generator = nn.ModuleDict(
            {
                "attribute": Mlp(z + d, hidden, leaky, g),
                "feature": Mlp(z + d, hidden, leaky, g),
                "cross": nn.ModuleDict(cross),
                "encoder": nn.ModuleDict(encoder),
            }
        )
        self.critic = nn.ModuleDict({"critic": Mlp(g + d, hidden, leaky, 1)})

    def logits(self, noise: Tensor, on) -> Tensor:
        cross = self.generator["cross"]
        attribute = self.generator["attribute"](torch.cat([noise, on.pooled], 1))
        feature = on.share @ self.generator["feature"](torch.cat([noise[on.owner], on.vectors], 1))
        levels = torch.stack([attribute, feature], 1)
        q, k, v = (cross[n](levels).unflatten(2, (self.heads, -1)).transpose(1, 2) for n in ("query", "key", "value"))
        levels = levels + cross["out"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        levels = levels + cross["fc2"](leaky(cross["fc1"](levels)))
        return levels.mean(1)

    def judge(self, x: Tensor, on) -> Tensor:
        return self.critic["critic"](torch.cat([x, on.pooled], 1))

    def critic_loss(self, real: Tensor, drawn: Tensor, share: Tensor, on) -> Tensor:
        between = (share * real + (1 - share) * drawn).requires_grad_()
        (slope,) = torch.autograd.grad(self.judge(between, on).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        return self.judge(drawn, on).mean() - self.judge(real, on).mean() + self.penalty * penalty

    def generator_loss(self, real: Tensor, noises, on) -> Tensor:
        encoder = self.generator["encoder"]
        hidden = leaky(encoder["fc1"](torch.cat([real, on.pooled], 1)))
        mean, log_variance = encoder["mean"](hidden), encoder["log-variance"](hidden)
        z = mean + (log_variance / 2).exp() * noises[0]
        rebuilt = F.binary_cross_entropy_with_logits(self.logits(z, on), real, reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
        drawn = self.logits(noises[1], on).sigmoid()
        return (rebuilt + divergence) / len(real) - self.adversarial * self.judge(drawn, on).mean()

    def optimisers(self):
        networks = (self.generator, self.critic)
        return [torch.optim.Adam(n.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=True) for n in networks]

    def step(self, batch, optimisers) -> float:
        for_generator, for_critic = optimisers
        for _ in range(self.critic_steps):
            on = conditions(batch)
            with torch.no_grad():
                drawn = self.logits(torch.randn(len(batch.given), self.noise), on).sigmoid()
            for_critic.zero_grad()
            self.critic_loss(batch.given, drawn, torch.rand(len(drawn), 1), on).backward()
            for_critic.step()
        self.critic.requires_grad_(False)
        for_generator.zero_grad()
        noises = torch.randn(2, len(batch.given), self.noise)
        loss = self.generator_loss(batch.given, noises, conditions(batch))
        loss.backward()
        for_generator.step()
        self.critic.requires_grad_(True)
        return loss.item()


def conditions(batch):
    """The vectors of all labels of a batch's images, the image of each, and their mean of each image."""
    owner, label = (batch.labels == 1).nonzero(as_tuple=True)
    share = F.one_hot(owner, len(batch.labels)).T.to(batch.vectors.dtype)
    share = share / share.sum(1, keepdim=True)
    vectors = batch.vectors[label]
    return SimpleNamespace(owner=owner, share=share, vectors=vectors, pooled=share @ vectors)


METHODS = {
    "biam": Biam,
    "ml2p-encoder": Ml2pEncoder,
    "lesa": Lesa,
    "bilinear-attention": BilinearAttention,
    "gen-mlzsl": GenMlzsl,
    "cnn-rnn": CnnRnn,
}


def build(method: dict, sizes) -> Method:
    settings = {key.replace("-", "_"): value for key, value in method.items() if key != "kind"}
    return METHODS[method["kind"]](sizes, **settings)


def draw_batch(args):
    labels = torch.full((args.batch, args.labels), -1)
    for row in labels:
        count = int(torch.randint(1, MAX_POSITIVES + 1, ()))
        row[torch.randperm(args.labels)[:count]] = 1
    tokens = torch.randn(args.batch, args.tokens, args.dim)
    vectors = F.normalize(torch.randn(args.labels, args.label_dim), dim=1)
    # In 0..1 for Gen-MLZSL, which brings its images there.
    given = torch.rand(args.batch, args.dim)
    return SimpleNamespace(tokens=tokens, given=given, vectors=vectors, labels=labels)


def report(model: Method, batch, optimisers, steps: int) -> None:
    """Makes `steps` timed steps and prints their line."""
    seconds, loss = [], float("nan")
    for _ in range(steps):
        start = time.perf_counter()
        loss = model.step(batch, optimisers)
        seconds.append(time.perf_counter() - start)
    line = {"seconds": seconds, "peak_rss_mb": peak_rss_mb(), "torch": torch.__version__, "loss": loss}
    print(json.dumps(line), flush=True)


def twin_values(module: nn.Module, parameter: str, name: str, read) -> Tensor:
    """A module's parameter in PyTorch's layout, from ours, which `read(name)` gives."""
    if isinstance(module, nn.LSTM):
        if parameter.startswith("bias"):
            return read(f"{name}.bias")
        return read(f"{name}.weight").T.split([module.input_size, module.hidden_size], 1)[parameter == "weight_hh_l0"]
    if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
        return read(name.replace("_norm", ".norm") + {"weight": ".gamma", "bias": ".beta"}[parameter])
    if name == "attention.map":
        return read(name).transpose(1, 2).flatten(0, 1)[:, :, None, None]
    if name == "attention.window":
        return read(name).T.reshape(module.weight.shape)
    value = read(f"{name}.{parameter}" if name else parameter)
    if isinstance(module, nn.Conv2d) and parameter == "weight":
        size = module.kernel_size[0]
        return value.T.reshape(len(module.weight), size, size, -1).permute(0, 3, 1, 2)
    if value.ndim == 1 and parameter == "weight":
        return value[None]
    return value.T if isinstance(module, nn.Linear) and parameter == "weight" else value


def owned(model: nn.Module):
    """Every parameter with its module, the module's name and its own."""
    for name, module in model.named_modules():
        for parameter, value in module.named_parameters(recurse=False):
            yield module, parameter, name, value


def compare(model: nn.Module, loss: Tensor, expected: Tensor, read, what: str) -> None:
    """`read` gives gradients in our layout by the parameters' names."""
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected.reshape(()), rtol=1e-5, atol=1e-6)
    for module, parameter, name, value in owned(model):
        theirs = twin_values(module, parameter, name, read)
        scale = float(theirs.abs().max())
        worst = float((value.grad - theirs).abs().max())
        assert worst <= max(1e-5 * scale, 1e-7), f"{what}: {name}.{parameter}: {worst} apart at scale {scale}"


def fill(model: nn.Module, read) -> None:
    with torch.no_grad():
        for module, parameter, name, value in owned(model):
            value.copy_(twin_values(module, parameter, name, read))
            if parameter == "bias_hh_l0":
                value.zero_()


def check() -> None:
    import safetensors.torch

    torch.set_default_dtype(torch.float64)
    for name in METHODS:
        if name == "gen-mlzsl":
            check_gen_mlzsl(safetensors.torch.load_file(TWINS / "parts/gen-mlzsl.safetensors"))
            continue
        path = TWINS / f"fixtures/{name}.safetensors"
        with safetensors.safe_open(path, "pt") as file:
            method = json.loads(file.metadata()["config"])["method"]
        twin = {key: value if key == "labels" else value.double() for key, value in safetensors.torch.load_file(path).items()}
        tokens, given, vectors = (twin[key] for key in ("tokens", "global", "label_vectors"))
        sizes = SimpleNamespace(
            tokens=tokens.shape[1], width=tokens.shape[2], global_width=given.shape[1],
            labels=len(vectors), label_width=vectors.shape[1],
        )
        model = build(method, sizes)
        fill(model, lambda key, twin=twin: twin[f"weight.{key}"])
        if name == "cnn-rnn":
            model.rank.copy_(twin["weight.labels.rank"])
        batch = SimpleNamespace(tokens=tokens, given=given, vectors=vectors, labels=twin["labels"].long())
        compare(model, model.loss(batch), twin["out.loss"], lambda key, twin=twin: twin[f"grad.{key}"], name)
    print("loss and gradients of all six methods agree with the twins", file=sys.stderr)


def check_gen_mlzsl(twin: dict[str, Tensor]) -> None:
    twin = {key: value.double() for key, value in twin.items()}
    real, vectors = twin["real"], twin["label_vectors"]
    sizes = SimpleNamespace(global_width=real.shape[1], label_width=vectors.shape[1])
    hidden, noise = twin["critic.critic.fc1.bias"].shape[0], twin["noise.generator"].shape[1]
    model = GenMlzsl(sizes, hidden=hidden, noise=noise, heads=2, adversarial=3.0)
    on = conditions(SimpleNamespace(labels=twin["labels"], vectors=vectors))
    for part, network in (("critic", model.critic), ("generator", model.generator)):
        fill(network, lambda key, part=part: twin[f"{part}.{key}"])
    losses = {
        "critic": (model.critic, model.critic_loss(real, twin["drawn.cross"], twin["share"], on)),
        "generator": (model.generator, model.generator_loss(real, [twin["noise.encoder"], twin["noise.generator"]], on)),
    }
    for part, (network, loss) in losses.items():
        model.zero_grad()
        compare(network, loss, twin[f"loss.{part}"], lambda key, part=part: twin[f"grad.{part}.{key}"], f"gen-mlzsl {part}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", type=json.loads, default={"kind": "biam"}, help="as in recipes, in JSON")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=196)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--labels", type=int, default=194)
    parser.add_argument("--label-dim", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed steps (without --serve)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the first timed one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true", help="one timed step for each line `run` on stdin")
    parser.add_argument("--check", action="store_true", help="compare with the twins and exit")
    args = parser.parse_args()
    if args.check:
        return check()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    sizes = SimpleNamespace(
        tokens=args.tokens, width=args.dim, global_width=args.dim, labels=args.labels, label_width=args.label_dim
    )
    model, batch = build(args.method, sizes), draw_batch(args)
    optimisers = model.optimisers()
    for _ in range(args.warmup):
        model.step(batch, optimisers)
    if not args.serve:
        return report(model, batch, optimisers, args.steps)
    for line in sys.stdin:
        if line.strip() != "run":
            sys.exit(f"stdin: expected the line `run`, read {line!r}")
        report(model, batch, optimisers, 1)


if __name__ == "__main__":
    main()
