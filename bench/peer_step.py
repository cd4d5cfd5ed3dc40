"""Times Epsilon's training step in PyTorch, the peer of the Rust step bench: forward, loss, backward and Adam.

Prints one JSON line: `seconds` (a list, one a step), `peak_rss_mb` (10^6 bytes, of the whole process), `torch`, `loss`
(of the last step), and the settings. With `--serve`, after the warm-up, each line `run` on stdin makes one timed step
and prints one such line, until end of file: the first answer therefore also tells that the warm-up is over.

Forms: `straight` computes all N + M rows of the encoder block; `rows` only the M prompt rows that are used behind its
keys and values; `compile` is `straight` through torch.compile.
`--check` compares both eager forms with the reference twin on a small case, loss and every gradient, and exits.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turns import peak_rss_mb

MAX_POSITIVES = 6
LAMBDA = 0.3


class EncoderBlock(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, rows: int | None) -> Tensor:
        """The block's first `rows` rows, or all of them."""
        normed = self.norm1(x)
        if rows is None:
            q, k, v = self.qkv(normed).chunk(3, dim=-1)
        else:
            x, d = x[:, :rows], x.shape[-1]
            q = F.linear(normed[:, :rows], self.qkv.weight[:d], self.qkv.bias[:d])
            k, v = F.linear(normed, self.qkv.weight[d:], self.qkv.bias[d:]).chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(self.split_heads(q), self.split_heads(k), self.split_heads(v))
        x = x + self.proj(attended.transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class GroupPrompts(nn.Module):
    def __init__(self, dim: int, groups: int, heads: int, rows_only: bool):
        super().__init__()
        self.rows = groups if rows_only else None
        self.prompts = nn.Parameter(nn.init.trunc_normal_(torch.empty(groups, dim), std=0.02))
        self.blocks = nn.ModuleList([EncoderBlock(dim, heads)])
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.cat([self.prompts.expand(len(tokens), -1, -1), tokens], dim=1)
        prompts = self.blocks[0](x, self.rows)[:, : len(self.prompts)]
        return F.scaled_dot_product_attention(self.query(prompts), self.key(tokens), self.value(tokens))


class GlobalBlocks(nn.Module):
    def __init__(self, dim: int, groups: int, hidden: int):
        super().__init__()
        self.split = nn.Linear(dim, groups * dim)
        self.fc1 = nn.ModuleList(nn.Linear(dim, hidden) for _ in range(groups))
        self.fc2 = nn.ModuleList(nn.Linear(hidden, dim) for _ in range(groups))

    def forward(self, tokens: Tensor) -> Tensor:
        semantics = []
        for block, fc1, fc2 in zip(self.split(tokens).chunk(len(self.fc1), dim=-1), self.fc1, self.fc2):
            weights = fc2(F.gelu(fc1(block))).softmax(dim=1)
            semantics.append((block * weights).sum(dim=1))
        return torch.stack(semantics, dim=1)


class Epsilon(nn.Module):
    def __init__(self, dim: int, groups: int, hidden: int, label_dim: int, heads: int, rows_only: bool):
        super().__init__()
        self.gpa = GroupPrompts(dim, groups, heads, rows_only)
        self.gfp = GlobalBlocks(dim, groups, hidden)
        self.fuser = nn.Linear(2 * dim, label_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fuser(torch.cat([self.gfp(tokens), self.gpa(tokens)], dim=-1))


def loss_fn(semantics: Tensor, vectors: Tensor, labels: Tensor) -> Tensor:
    """Mean loss: semantics [B,M,L], unit label vectors [C,L], labels bool [B,C] with a positive in every row."""
    scores = (semantics @ vectors.T).amax(dim=1)
    rank = []
    for image_scores, positive in zip(scores, labels):
        differences = image_scores[~positive].unsqueeze(0) - image_scores[positive].unsqueeze(1)
        omega = 1.0
        if len(differences) > 1:
            omega = 1 + vectors[positive].var(dim=0).sum()
        rank.append(omega * F.softplus(differences).mean())
    spread = semantics.var(dim=1).sum(dim=-1)
    return ((1 - LAMBDA) * torch.stack(rank) + LAMBDA * spread).mean()


def draw_labels(batch: int, labels: int) -> Tensor:
    """1 to MAX_POSITIVES positives an image, bool [B, C]."""
    drawn = torch.zeros(batch, labels, dtype=torch.bool)
    for row in drawn:
        count = int(torch.randint(1, MAX_POSITIVES + 1, ()))
        row[torch.randperm(labels)[:count]] = True
    return drawn


class Step:
    """One model, one batch of frozen tokens, one optimiser; a call is a training step and returns its loss."""

    def __init__(self, args: argparse.Namespace):
        torch.manual_seed(args.seed)
        heads = max(1, args.dim // 64)
        self.model = Epsilon(args.dim, args.groups, args.hidden, args.label_dim, heads, rows_only=args.form == "rows")
        self.forward = torch.compile(self.model) if args.form == "compile" else self.model
        self.adam = torch.optim.Adam(self.model.parameters(), lr=1e-5, weight_decay=4e-3, fused=True)
        self.tokens = torch.randn(args.batch, args.tokens, args.dim)
        self.vectors = F.normalize(torch.randn(args.labels, args.label_dim), dim=1)
        self.labels = draw_labels(args.batch, args.labels)

    def __call__(self) -> float:
        self.adam.zero_grad()
        loss = loss_fn(self.forward(self.tokens), self.vectors, self.labels)
        loss.backward()
        self.adam.step()
        return loss.item()


def report(args: argparse.Namespace, step: Step, steps: int) -> None:
    """Makes `steps` timed steps and prints their line."""
    seconds, loss = [], float("nan")
    for _ in range(steps):
        start = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - start)
    settings = {name: value for name, value in vars(args).items() if name not in ("serve", "check", "steps", "warmup")}
    line = {"seconds": seconds, "peak_rss_mb": peak_rss_mb(), "torch": torch.__version__, "loss": loss} | settings
    print(json.dumps(line), flush=True)


def load_twin(model: Epsilon, values: dict[str, Tensor]) -> None:
    """Copies the twin's parameters ([in, out] weights, GFP's MLPs stacked) into the model."""
    for name, parameter in model.named_parameters():
        parameter.data.copy_(twin_tensor(name, values))


def twin_tensor(name: str, values: dict[str, Tensor]) -> Tensor:
    """The twin's tensor for the model's parameter `name`, in the model's layout."""
    index = None
    if stacked := re.fullmatch(r"(gfp\.fc[12])\.(\d+)\.(weight|bias)", name):
        name, index = f"{stacked[1]}.{stacked[3]}", int(stacked[2])
    name = re.sub(r"(norm[12])\.weight", r"\1.gamma", name)
    name = re.sub(r"(norm[12])\.bias", r"\1.beta", name)
    value = values[name] if index is None else values[name][index]
    return value.T if name.endswith(".weight") else value


def check() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "crates/epsilon/tests/reference"))
    import epsilon_twin as twin

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    config = twin.Config(dim=16, label_dim=10, groups=4, heads=2, hidden=8)
    start = twin.initial_parameters(config, torch.Generator().manual_seed(0))
    values = {name: (value + 0.3 * torch.randn_like(value)).requires_grad_() for name, value in start.items()}
    tokens = torch.randn(5, 7, config.dim)
    vectors = F.normalize(torch.randn(12, config.label_dim), dim=1)
    labels = draw_labels(5, 12)
    expected = twin.everything(values, config, tokens, vectors, labels.to(torch.int8))["loss"]
    expected.backward()
    expected_grads = {name: v.grad for name, v in values.items()}
    for rows_only in (False, True):
        model = Epsilon(config.dim, config.groups, config.hidden_width, config.label_dim, config.head_count, rows_only)
        load_twin(model, values)
        loss = loss_fn(model(tokens), vectors, labels)
        loss.backward()
        # Not to the last digit: softplus is linear above 20.
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
        for name, parameter in model.named_parameters():
            expected_grad = twin_tensor(name, expected_grads)
            torch.testing.assert_close(parameter.grad, expected_grad, rtol=1e-8, atol=1e-9, msg=name)
    print("both forms agree with the twin", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=("straight", "rows", "compile"), default="straight")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=196)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--hidden", type=int, help="width of GFP's MLPs (default: dim / 4)")
    parser.add_argument("--labels", type=int, default=925)
    parser.add_argument("--label-dim", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed steps (without --serve)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the first timed one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true", help="one timed step for each line `run` on stdin")
    parser.add_argument("--check", action="store_true", help="compare with the reference twin and exit")
    args = parser.parse_args()
    if args.check:
        return check()
    if args.hidden is None:
        args.hidden = args.dim // 4
    torch.set_num_threads(args.threads)
    step = Step(args)
    for _ in range(args.warmup):
        step()
    if not args.serve:
        return report(args, step, args.steps)
    for line in sys.stdin:
        if line.strip() != "run":
            sys.exit(f"stdin: expected the line `run`, read {line!r}")
        report(args, step, 1)


if __name__ == "__main__":
    main()
