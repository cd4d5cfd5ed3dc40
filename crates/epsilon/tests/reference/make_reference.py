"""Writes the fixtures of the Epsilon tests: `python make_reference.py [folder]` (default: `fixtures` beside it).

One safetensors file a setting. Metadata: `config` (JSON of `epsilon_twin.Config`, resolved). Tensors: `tokens` [B,N,D],
`label_vectors` [C,L], `labels` i8 [B,C], `param.*`, `grad.*` (of the loss), `out.*`. `out.omega`, `out.rank_loss` and
`out.reg_loss` have one entry for each image with a positive, in order. Parameters and inputs are exact in f32;
everything else is computed from them in f64 and stored as f32, except `out.adam_losses` (file `base`), which is f32
throughout: entry i is the loss before step i + 1.
The checks at the bottom run first: no fixture is written from a twin that fails them.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import epsilon_twin as twin
from epsilon_twin import Config

IMAGES, TOKENS, LABELS = 3, 7, 12
ADAM_STEPS = 20
Data = tuple[Tensor, Tensor, Tensor]  # tokens, label vectors, labels

BASE = Config(dim=16, label_dim=10, groups=4, heads=2, hidden=8)
FIXTURES = {
    "base": BASE,
    "hidden_default": replace(BASE, hidden=None),
    "one_group": replace(BASE, groups=1),
    "depth_0": replace(BASE, depth=0),
    "depth_2": replace(BASE, depth=2),
    "unscaled": replace(BASE, scaled=False),
    "softmax_over_groups": replace(BASE, softmax_over="groups"),
    "copies": replace(BASE, global_blocks="copies"),
    "shared_mlp": replace(BASE, shared_mlp=True),
    "log_sum_exp": replace(BASE, score="log_sum_exp"),
    "alpha_positives": replace(BASE, alpha="positives"),
    "labelled_negatives": replace(BASE, negatives="labelled"),
    "gpa_only": replace(BASE, parts="gpa"),
    "gfp_only": replace(BASE, parts="gfp"),
}


def parameters(config: Config, generator: torch.Generator) -> dict[str, Tensor]:
    """Start values moved away from 0 and 1, so that every gradient is well scaled; exact in f32."""
    values = twin.initial_parameters(config, generator)
    for name, value in values.items():
        if not name.endswith(".weight"):
            value += 0.3 * torch.randn(value.shape, dtype=value.dtype, generator=generator)
    return {name: value.float().double() for name, value in values.items()}


def inputs(config: Config, generator: torch.Generator) -> Data:
    """Tokens, unit label vectors (both exact in f32) and labels: image 0 has 3 positives, image 1 none, image 2 one."""
    tokens = torch.randn(IMAGES, TOKENS, config.dim, generator=generator).double()
    vectors = torch.randn(LABELS, config.label_dim, generator=generator, dtype=torch.float64)
    vectors = (vectors / vectors.norm(dim=1, keepdim=True)).float().double()
    labels = torch.randint(-1, 1, (IMAGES, LABELS), generator=generator, dtype=torch.int8)
    labels[0, [1, 4, 9]] = 1
    labels[2, 6] = 1
    return tokens, vectors, labels


def gradients(config: Config, values: dict[str, Tensor], data: Data) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every output, and the loss's gradient with respect to every parameter."""
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    out = twin.everything(leaves, config, *data)
    out["loss"].backward()
    return {name: value.detach() for name, value in out.items()}, {name: leaf.grad for name, leaf in leaves.items()}


def adam_losses(config: Config, values: dict[str, Tensor], data: Data) -> Tensor:
    """The losses of Adam with coupled L2 (the decay is added to the gradient, for every parameter), in f32."""
    tokens, vectors, labels = data
    leaves = {name: value.float().requires_grad_() for name, value in values.items()}
    adam = torch.optim.Adam(leaves.values(), lr=1e-3, weight_decay=4e-3, eps=1e-8)
    history = []
    for _ in range(ADAM_STEPS):
        adam.zero_grad()
        loss = twin.everything(leaves, config, tokens.float(), vectors.float(), labels)["loss"]
        loss.backward()
        adam.step()
        history.append(loss.detach())
    return torch.stack(history)


def fixture(config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    generator = torch.Generator().manual_seed(seed)
    values = parameters(config, generator)
    data = inputs(config, generator)
    out, grads = gradients(config, values, data)
    tensors = dict(zip(("tokens", "label_vectors", "labels"), data))
    tensors |= {f"param.{name}": value for name, value in values.items()}
    tensors |= {f"grad.{name}": value for name, value in grads.items()}
    tensors |= {f"out.{name}": value for name, value in out.items()}
    if config == BASE:
        tensors["out.adam_losses"] = adam_losses(config, values, data)
    tensors = {name: (t if t.dtype == torch.int8 else t.float()).contiguous() for name, t in tensors.items()}
    resolved = asdict(replace(config, heads=config.head_count, hidden=config.hidden_width))
    resolved["lambda"] = resolved.pop("lambda_")
    return tensors, {"config": json.dumps(resolved)}


# Checks ------------------------------------------------------------------------------


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def check_invariants(config: Config, values: dict[str, Tensor], data: Data) -> None:
    tokens, vectors, labels = data
    out, grads = gradients(config, values, data)
    permuted = tokens[:, torch.randperm(TOKENS, generator=torch.Generator().manual_seed(0))]
    assert close(twin.forward(values, config, permuted)["semantics"], out["semantics"])
    assert all(torch.isfinite(g).all() for g in grads.values())
    assert (out["omega"][1] == 1) and (out["omega"][0] > 1)  # image 2, the second kept, has one positive
    if config.groups == 1:
        assert (out["reg_loss"] == 0).all()
    # Biases that add the same to every logit of a softmax.
    zero = []
    if config.parts != "gpa":
        zero.append("gfp.fc2.bias")
    if config.parts != "gfp" and config.softmax_over == "tokens":
        zero.append("gpa.key.bias")
    if config.parts != "gfp" and config.softmax_over == "groups":
        zero += ["gpa.query.bias", f"gpa.blocks.{config.depth - 1}.fc2.bias"]
    assert all(grads[name].abs().max() < 1e-15 for name in zero)
    for name, grad in grads.items():
        assert name in zero or grad.abs().max() > 1e-4, f"{name}: gradient too small to test with"
    # No tie near the maximum: f32 must pick the same group.
    if config.groups > 1 and config.score == "max":
        best = (out["semantics"] @ vectors.T).topk(2, dim=1).values
        assert (best[:, 0] - best[:, 1]).min() > 1e-4, "a near tie between groups"


def check_free_cases() -> None:
    equal = torch.full((4, 10), 0.7, dtype=torch.float64)
    assert twin.regularisation(equal) == 0
    s = torch.full((9,), 0.3, dtype=torch.float64)
    assert close(twin.rank_loss(BASE, s[:3], s[3:]), torch.tensor(2.0).double().log())
    assert twin.rank_loss(BASE, s[:3], s[:0]) == 0
    # By hand: the unbiased variance of {0, 2} is 2, of {1, 1} is 0.
    assert twin.omega(torch.tensor([[0.0, 1.0], [2.0, 1.0]])) == 3
    assert Config(dim=32, label_dim=1).head_count == 1 and Config(dim=768, label_dim=1).head_count == 12


def check_encoder_against_torch(values: dict[str, Tensor], tokens: Tensor) -> None:
    """The encoder block equals PyTorch's own pre-norm layer."""
    d, block = BASE.dim, "gpa.blocks.0"
    options = {"activation": "gelu", "layer_norm_eps": 1e-6, "batch_first": True, "norm_first": True}
    layer = torch.nn.TransformerEncoderLayer(d, BASE.heads, BASE.mlp_ratio * d, dropout=0.0, **options).double()
    names = {
        "self_attn.in_proj_weight": "qkv.weight",
        "self_attn.in_proj_bias": "qkv.bias",
        "self_attn.out_proj.weight": "proj.weight",
        "self_attn.out_proj.bias": "proj.bias",
        "linear1.weight": "fc1.weight",
        "linear1.bias": "fc1.bias",
        "linear2.weight": "fc2.weight",
        "linear2.bias": "fc2.bias",
        "norm1.weight": "norm1.gamma",
        "norm1.bias": "norm1.beta",
        "norm2.weight": "norm2.gamma",
        "norm2.bias": "norm2.beta",
    }
    state = {theirs: values[f"{block}.{ours}"] for theirs, ours in names.items()}
    layer.load_state_dict({name: value.T if value.dim() == 2 else value for name, value in state.items()})
    assert close(twin.encoder_block(values, block, BASE.heads, tokens), layer(tokens))


def check_gfp_by_loops(values: dict[str, Tensor], tokens: Tensor) -> None:
    """GFP, one image, one block and one channel at a time."""
    d = BASE.dim
    blocks = twin.global_blocks(values, BASE, tokens)
    expected = twin.global_semantics(blocks, twin.global_weights(values, blocks))
    for image, f in enumerate(tokens):
        for m in range(BASE.groups):
            channels = slice(m * d, (m + 1) * d)
            block = f @ values["gfp.split.weight"][:, channels] + values["gfp.split.bias"][channels]
            hidden = torch.nn.functional.gelu(block @ values["gfp.fc1.weight"][m] + values["gfp.fc1.bias"][m])
            logits = hidden @ values["gfp.fc2.weight"][m] + values["gfp.fc2.bias"][m]
            for c in range(d):
                assert close((block[:, c] * logits[:, c].softmax(0)).sum(), expected[image, m, c])


def check_finite_differences(values: dict[str, Tensor], data: Data) -> None:
    """Directional derivative of the whole loss along every parameter against central differences."""
    _, grads = gradients(BASE, values, data)
    generator = torch.Generator().manual_seed(1)
    step = 1e-6
    for name, grad in grads.items():
        direction = torch.randn(grad.shape, dtype=grad.dtype, generator=generator)
        moved = (values | {name: values[name] + sign * step * direction} for sign in (1, -1))
        ahead, behind = (twin.everything(point, BASE, *data)["loss"] for point in moved)
        slope = (ahead - behind) / (2 * step)
        assert abs(slope - (grad * direction).sum()) < 1e-7 * max(1.0, slope.abs().item()), name


def check() -> None:
    check_free_cases()
    for seed, config in enumerate(FIXTURES.values()):
        generator = torch.Generator().manual_seed(seed)
        values = parameters(config, generator)
        data = inputs(config, generator)
        assert values.keys() == twin.parameter_shapes(config).keys()
        check_invariants(config, values, data)
        if config == BASE:
            check_encoder_against_torch(values, data[0])
            check_gfp_by_loops(values, data[0])
            check_finite_differences(values, data)


def main() -> None:
    check()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "fixtures"
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for seed, (name, config) in enumerate(FIXTURES.items()):
        tensors, metadata = fixture(config, seed)
        path = folder / f"{name}.safetensors"
        save_file(tensors, path, metadata=metadata)
        size = path.stat().st_size
        assert size < 200_000, f"{path}: {size} bytes"
        total += size
        print(f"{name}: {size} bytes, loss {tensors['out.loss'].item():.6f}")
    assert total < 1_500_000, f"{total} bytes in all"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
