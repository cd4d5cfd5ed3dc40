"""Epsilon in PyTorch, written from the equations alone: the reference that the Rust implementation is tested against.

Plain functions over a dictionary of named parameters, one function a module, so that every intermediate can be stored.
Clarity comes before speed here. Linear weights are [in, out] (y = x @ w + b), as in the model files.

Notation: B images, N tokens, D token width, M groups, H hidden width of GFP's MLPs, L label-vector width, C labels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-6
PROMPT_STD = 0.02


@dataclass(frozen=True)
class Config:
    """Every setting of the method; the defaults are the paper's."""

    dim: int  # D
    label_dim: int  # L
    groups: int = 8  # M
    depth: int = 1  # encoder blocks of GPA, 0 to 3
    heads: int | None = None  # attention heads of the encoder; None: max(1, D / 64)
    mlp_ratio: int = 4
    hidden: int | None = None  # H; None: D
    parts: str = "both"  # "both", "gpa" (no global blocks) or "gfp" (no group prompts)
    scaled: bool = True  # eq. 3's logits times 1 / sqrt(D)
    softmax_over: str = "tokens"  # eq. 3: "tokens" or "groups"
    global_blocks: str = "split"  # "split" (one Linear D -> M*D) or "copies" (of F)
    shared_mlp: bool = False  # one MLP for all global blocks
    score: str = "max"  # over the groups: "max" or "log_sum_exp"
    alpha: str = "pairs"  # "pairs": 1 / (|P| |n|), "positives": 1 / |P|
    negatives: str = "not_positive"  # "not_positive", or "labelled": only -1
    lambda_: float = 0.3

    @property
    def head_count(self) -> int:
        return self.heads if self.heads is not None else max(1, self.dim // 64)

    @property
    def hidden_width(self) -> int:
        return self.hidden if self.hidden is not None else self.dim


# Parameters ------------------------------------------------------------------


def parameter_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter the configuration has."""
    d, m, h = config.dim, config.groups, config.hidden_width
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"] = (inputs, outputs)
        shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}.gamma"] = (d,)
        shapes[f"{name}.beta"] = (d,)

    if config.parts != "gfp":
        shapes["gpa.prompts"] = (m, d)
        for i in range(config.depth):
            block = f"gpa.blocks.{i}"
            norm(f"{block}.norm1")
            linear(f"{block}.qkv", d, 3 * d)
            linear(f"{block}.proj", d, d)
            norm(f"{block}.norm2")
            linear(f"{block}.fc1", d, config.mlp_ratio * d)
            linear(f"{block}.fc2", config.mlp_ratio * d, d)
        for name in ("query", "key", "value"):
            linear(f"gpa.{name}", d, d)
    if config.parts != "gpa":
        if config.global_blocks == "split":
            linear("gfp.split", d, m * d)
        mlps = 1 if config.shared_mlp else m
        shapes["gfp.fc1.weight"] = (mlps, d, h)
        shapes["gfp.fc1.bias"] = (mlps, h)
        shapes["gfp.fc2.weight"] = (mlps, h, d)
        shapes["gfp.fc2.bias"] = (mlps, d)
    linear("fuser", 2 * d if config.parts == "both" else d, config.label_dim)
    return shapes


def initial_parameters(config: Config, generator: torch.Generator) -> dict[str, Tensor]:
    """Start values, f64: prompts trunc-normal(0.02), weights N(0, 1 / fan-in), biases 0, norms 1 and 0."""
    parameters = {}
    for name, shape in parameter_shapes(config).items():
        value = torch.zeros(shape, dtype=torch.float64)
        if name == "gpa.prompts":
            torch.nn.init.trunc_normal_(value, std=PROMPT_STD, generator=generator)
        elif name.endswith(".weight"):
            value.normal_(std=shape[-2] ** -0.5, generator=generator)
        elif name.endswith(".gamma"):
            value.fill_(1.0)
        parameters[name] = value
    return parameters


def linear(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def layer_norm(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], p[f"{name}.gamma"], p[f"{name}.beta"], LAYER_NORM_EPS)


# GPA: group prompts and their refinement ---------------------------------------


def self_attention(p: dict[str, Tensor], block: str, heads: int, x: Tensor) -> Tensor:
    """Multi-head self-attention with its output projection, [B, R, D] -> [B, R, D]."""
    b, r, d = x.shape
    # q, k, v: [B, heads, R, D / heads]
    q, k, v = linear(p, f"{block}.qkv", x).view(b, r, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / math.sqrt(d // heads)).softmax(dim=-1)
    return linear(p, f"{block}.proj", (weights @ v).transpose(1, 2).reshape(b, r, d))


def encoder_block(p: dict[str, Tensor], block: str, heads: int, x: Tensor) -> Tensor:
    """A pre-LN transformer block."""
    x = x + self_attention(p, block, heads, layer_norm(p, f"{block}.norm1", x))
    hidden = F.gelu(linear(p, f"{block}.fc1", layer_norm(p, f"{block}.norm2", x)))  # exact: erf
    return x + linear(p, f"{block}.fc2", hidden)


def encode_prompts(p: dict[str, Tensor], config: Config, tokens: Tensor) -> Tensor:
    """GT^Q = Encoder([GT; F])[:M], [B, N, D] -> [B, M, D]. No position is added, no norm follows the last block."""
    prompts = p["gpa.prompts"].expand(tokens.shape[0], -1, -1)
    x = torch.cat([prompts, tokens], dim=1)
    for i in range(config.depth):
        x = encoder_block(p, f"gpa.blocks.{i}", config.head_count, x)
    return x[:, : config.groups]


def refinement_attention(p: dict[str, Tensor], config: Config, prompts: Tensor, tokens: Tensor) -> Tensor:
    """The softmax of eq. 3, [B, M, N]."""
    logits = linear(p, "gpa.query", prompts) @ linear(p, "gpa.key", tokens).transpose(-2, -1)
    if config.scaled:
        logits = logits / math.sqrt(config.dim)
    return logits.softmax(dim={"tokens": 2, "groups": 1}[config.softmax_over])


def refine(p: dict[str, Tensor], attention: Tensor, tokens: Tensor) -> Tensor:
    """GrS of eq. 3, [B, M, D]: the weights always sum values over the N tokens."""
    return attention @ linear(p, "gpa.value", tokens)


# GFP: global blocks --------------------------------------------------------------


def global_blocks(p: dict[str, Tensor], config: Config, tokens: Tensor) -> Tensor:
    """FG^1..FG^M, [B, N, D] -> [B, M, N, D]. Block m takes the split's output channels m*D .. (m+1)*D."""
    b, n, d = tokens.shape
    if config.global_blocks == "copies":
        return tokens.unsqueeze(1).expand(b, config.groups, n, d)
    return linear(p, "gfp.split", tokens).view(b, n, config.groups, d).transpose(1, 2)


def global_weights(p: dict[str, Tensor], blocks: Tensor) -> Tensor:
    """A^m = softmax(MLP^m(FG^m)) over the tokens, per channel, [B, M, N, D]. A shared MLP broadcasts over M."""
    hidden = F.gelu(blocks @ p["gfp.fc1.weight"] + p["gfp.fc1.bias"].unsqueeze(1))
    # The second bias is the same for every token, so it cancels in the softmax: its gradient is zero.
    logits = hidden @ p["gfp.fc2.weight"] + p["gfp.fc2.bias"].unsqueeze(1)
    return logits.softmax(dim=2)


def global_semantics(blocks: Tensor, weights: Tensor) -> Tensor:
    """GoS: S^m = sum_n FG^m * A^m, [B, M, D]."""
    return (blocks * weights).sum(dim=2)


# Semantics and scores ------------------------------------------------------------


def forward(p: dict[str, Tensor], config: Config, tokens: Tensor) -> dict[str, Tensor]:
    """Tokens [B, N, D] -> `semantics` [B, M, L] and every intermediate that the configuration has."""
    out = {}
    features = []  # in the fuser's order
    if config.parts != "gpa":
        blocks = global_blocks(p, config, tokens)
        out["gos"] = global_semantics(blocks, global_weights(p, blocks))
        features.append(out["gos"])
    if config.parts != "gfp":
        out["prompts_encoded"] = encode_prompts(p, config, tokens)
        out["attention"] = refinement_attention(p, config, out["prompts_encoded"], tokens)
        out["grs"] = refine(p, out["attention"], tokens)
        features.append(out["grs"])
    out["semantics"] = linear(p, "fuser", torch.cat(features, dim=-1))
    return out


def scores(config: Config, semantics: Tensor, label_vectors: Tensor) -> Tensor:
    """s_c = max_m S_m . v_c, [B, M, L] and [C, L] -> [B, C]."""
    by_group = semantics @ label_vectors.T
    return by_group.logsumexp(dim=1) if config.score == "log_sum_exp" else by_group.amax(dim=1)


# Loss ------------------------------------------------------------------------------


def rank_loss(config: Config, positive: Tensor, negative: Tensor) -> Tensor:
    """L_r = alpha * sum_{p, n} log(1 + exp(s_n - s_p)) of one image; 0 when it has no negative."""
    if len(negative) == 0:
        return negative.sum()
    differences = negative.unsqueeze(0) - positive.unsqueeze(1)
    total = torch.logaddexp(differences, torch.zeros_like(differences)).sum()
    pairs = len(positive) * len(negative) if config.alpha == "pairs" else len(positive)
    return total / pairs


def unbiased_variance_sum(rows: Tensor) -> Tensor:
    """Sum over the columns of their variance over the rows, divided by rows - 1 (UNBIASED); 0 for a single row."""
    if len(rows) == 1:
        return rows.new_zeros(())
    return rows.var(dim=0, unbiased=True).sum()


def omega(positive_vectors: Tensor) -> Tensor:
    """1 + the summed unbiased variance of the positive labels' vectors [|P|, L]; 1 for one positive."""
    return 1 + unbiased_variance_sum(positive_vectors)


def regularisation(semantics: Tensor) -> Tensor:
    """L_reg of one image: the summed unbiased variance of its semantics [M, L] over the groups; 0 for one group."""
    return unbiased_variance_sum(semantics)


def kept_images(labels: Tensor) -> list[int]:
    """Images with at least one positive label; the others are dropped."""
    return (labels == 1).any(dim=1).nonzero().flatten().tolist()


def losses(
    config: Config, semantics: Tensor, image_scores: Tensor, label_vectors: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """`omega`, `rank_loss` and `reg_loss` of every kept image, and `loss`, the mean over the kept images of
    omega * (1 - lambda) * L_r + lambda * L_reg."""
    omegas, ranks, regs = [], [], []
    for i in kept_images(labels):
        positive = labels[i] == 1
        negative = labels[i] == -1 if config.negatives == "labelled" else ~positive
        omegas.append(omega(label_vectors[positive]))
        ranks.append(rank_loss(config, image_scores[i, positive], image_scores[i, negative]))
        regs.append(regularisation(semantics[i]))
    out = {"omega": torch.stack(omegas), "rank_loss": torch.stack(ranks), "reg_loss": torch.stack(regs)}
    lambda_ = config.lambda_
    out["loss"] = (out["omega"] * (1 - lambda_) * out["rank_loss"] + lambda_ * out["reg_loss"]).mean()
    return out


def everything(
    p: dict[str, Tensor], config: Config, tokens: Tensor, label_vectors: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Forward, scores and losses in one dictionary."""
    out = forward(p, config, tokens)
    out["scores"] = scores(config, out["semantics"], label_vectors)
    return out | losses(config, out["semantics"], out["scores"], label_vectors, labels)
