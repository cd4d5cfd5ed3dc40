"""Simulates DeiT-Tiny with linear maps in bytes, in NumPy, to compare ways to scale them: how far are its tokens from those in f32, on
training photographs of Corel5k. See docs/performance.md.

    python3 bench/int8.py [--images 24]

Needs numpy, pillow and safetensors, and ../shared/data.
"""

import argparse
from math import erf, sqrt

import numpy as np
import turns
from PIL import Image
from safetensors.numpy import load_file

DATA = turns.ROOT.parent / "shared/data"
DIM, HEADS, BLOCKS = 192, 3, 12


def photographs(count):
    """Training photographs at equal distances, as the network reads them, `[count, 3, 224, 224]`."""
    lines = [line.split("\t") for line in (DATA / "corel5k/labels.tsv").read_text().splitlines()]
    names = [name for name, split, *_ in lines if split == "train"]
    pixels = []
    for name in names[:: len(names) // count][:count]:
        with Image.open(DATA / "corel5k" / name) as image:
            image = image.convert("RGB")
            scale = 256 / min(image.size)
            image = image.resize([round(side * scale) for side in image.size], Image.BICUBIC)
            left, top = ((side - 224) // 2 for side in image.size)
            pixels.append(np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255)
    mean, std = (np.array(values, np.float32) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return ((np.stack(pixels) - mean) / std).transpose(0, 3, 1, 2)


def standardised(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


# x Phi(x) between the values of a table, which is far more exact than a byte.
GRID = np.linspace(-12, 12, 48001).astype(np.float32)
GELU = np.array([x / 2 * (1 + erf(x / sqrt(2))) for x in GRID.tolist()], np.float32)


def gelu(x):
    return np.interp(x, GRID, GELU, right=0).astype(np.float32) + np.where(x > 12, x, 0)


def in_parts(x, parts):
    return x.reshape(*x.shape[:-1], parts, -1)


def row_bytes(x, parts=1):
    """Rows rounded to 255 steps from the smallest value to the largest, of each of some parts."""
    split = in_parts(x, parts)
    low = split.min(-1, keepdims=True)
    step = np.maximum((split.max(-1, keepdims=True) - low) / 255, 1e-30)
    return (np.round((split - low) / step) * step + low).reshape(x.shape)


def weight_bytes(w, parts=1):
    """Weights rounded to 127 steps to either side of 0, by output and part."""
    split = in_parts(w, parts)
    step = np.maximum(abs(split).max(-1, keepdims=True) / 127, 1e-30)
    return (np.round(split / step) * step).reshape(w.shape)


def mixed(x):
    """As `mix` of epsilon-kernels, made orthogonal."""
    parts, width = 1, x.shape[-1]
    while width % (16 * parts) == 0 and width >= 32 * parts:
        parts *= 2
        halves = x.reshape(*x.shape[:-1], parts // 2, 2, -1)
        a, b = halves[..., 0, :], halves[..., 1, :]
        x = (np.stack([a + b, a - b], -2) * np.float32(sqrt(0.5))).reshape(x.shape)
    return x


def plain(x, w):
    return row_bytes(x) @ weight_bytes(w).T


def scales(parts):
    return lambda x, w: row_bytes(x, parts) @ weight_bytes(w, parts).T


def mixing(x, w):
    return row_bytes(mixed(x)) @ weight_bytes(mixed(w)).T


def centred(x, w):
    """The mean of an image's rows in f32, with the rounded weights."""
    mean, w = x.mean(1, keepdims=True), weight_bytes(w)
    return row_bytes(x - mean) @ w.T + mean @ w.T


def folded(power):
    """A power of the normalisation's gain moves to the weights, and its bias to the map's."""
    return lambda gain, w: abs(gain) ** power


def smooth(gain, w):
    """SmoothQuant's balance (Xiao et al., 2023), the gain for the range of an input."""
    scale = np.sqrt(abs(gain) / np.maximum(abs(w).max(0), 1e-6))
    return scale / np.exp(np.log(scale).mean())


def tokens(weights, x, product, first, fold=None):
    """All tokens of the network, its maps from block `first` on through `product`."""

    def linear(block, name, x, norm=None):
        w, bias = (weights[f"blocks.{block}.{name}.{part}"] for part in ("weight", "bias"))
        if norm:
            gain, shift = (weights[f"blocks.{block}.{norm}.{part}"] for part in ("weight", "bias"))
            if fold is None or block < first:
                x = x * gain + shift
            else:
                bias = bias + w @ shift
                scale = fold(gain, w)
                x, w = x * (gain / scale), w * scale
        return (x @ w.T if block < first else product(x, w)) + bias

    count, rows, _ = x.shape
    for block in range(BLOCKS):
        qkv = linear(block, "attn.qkv", standardised(x), "norm1").reshape(count, rows, 3, HEADS, -1)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        scores = query @ key.transpose(0, 1, 3, 2) / 8
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        found = scores / scores.sum(-1, keepdims=True) @ value
        x = x + linear(block, "attn.proj", found.transpose(0, 2, 1, 3).reshape(count, rows, DIM))
        x = x + linear(block, "mlp.fc2", gelu(linear(block, "mlp.fc1", standardised(x), "norm2")))
    return standardised(x) * weights["norm.weight"] + weights["norm.bias"]


def embedded(weights, images):
    count = len(images)
    patches = images.reshape(count, 3, 14, 16, 14, 16).transpose(0, 2, 4, 1, 3, 5).reshape(count, 196, 768)
    x = patches @ weights["patch_embed.proj.weight"].reshape(DIM, 768).T + weights["patch_embed.proj.bias"]
    classes = np.broadcast_to(weights["cls_token"], (count, 1, DIM))
    return np.concatenate([classes, x], 1) + weights["pos_embed"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    args = parser.parse_args()
    weights = load_file(DATA / "backbones/deit_tiny_patch16_224.safetensors")
    x = embedded(weights, photographs(args.images))
    exact = tokens(weights, x, None, BLOCKS)
    ways = {
        "a scale by row and output": (plain, 2),
        "three scales": (scales(3), 2),
        "twelve scales": (scales(12), 2),
        "the rows' mean apart": (centred, 2),
        "the gain in the weights": (plain, 2, folded(1)),
        "its square root in the weights": (plain, 2, folded(0.5)),
        "SmoothQuant": (plain, 2, smooth),
        "mixed": (mixing, 2),
        "mixed, one block not in bytes": (mixing, 1),
        "mixed, all blocks in bytes": (mixing, 0),
    }
    rows = []
    for name, way in ways.items():
        ours = tokens(weights, x, *way)
        cosines = (ours * exact).sum(-1) / np.sqrt((ours**2).sum(-1) * (exact**2).sum(-1))
        relative = np.sqrt(((ours - exact) ** 2).sum() / (exact**2).sum())
        rows.append([name, f"{100 * relative:.1f} %", f"{cosines.mean():.5f}", f"{cosines.min():.3f}"])
    print(turns.table(["maps from the third block on", "root mean square difference", "mean cosine to f32", "smallest"], rows))


if __name__ == "__main__":
    main()
