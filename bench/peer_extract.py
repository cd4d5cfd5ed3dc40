"""From image files to tokens in PyTorch eager, f32: the peer of the Rust extraction bench.

    python bench/peer_extract.py --weights FILE --list FILE [--batch 32] [--threads 2] --serve

The weights are a safetensors file with timm's tensor names (64 values a head), the list a text file with one image path
a line. Pillow decodes and resizes (bicubic, squashed), in as many threads as the forward pass has. Reads lines on stdin:
`run FOLDER` writes the tokens of all images there, in half precision and safetensors files of 128 images, and prints
one line of JSON: `seconds`, `peak_rss_mb` (10^6 bytes, of the whole process), `images`, `torch`. `check FOLDER`
compares with the `check.safetensors` that the Rust bench wrote there and prints the differences: of the Rust bench's
tokens and of this program's from the same computation in double precision, on the same pixels, and of the pixels.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from peer_step import peak_rss_mb

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
# Images of one file of the token store.
SHARD = 128


def forward(w, images):
    dim, _, patch, _ = w["patch_embed.proj.weight"].shape
    heads = dim // 64
    x = F.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1) + w["pos_embed"]

    def norm(x, name):
        return F.layer_norm(x, (dim,), w[name + ".weight"], w[name + ".bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    depth = len({name.split(".")[1] for name in w if name.startswith("blocks.")})
    for block in (f"blocks.{index}." for index in range(depth)):
        qkv = linear(norm(x, block + "norm1"), block + "attn.qkv")
        qkv = qkv.reshape(len(x), -1, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + linear(mixed.transpose(1, 2).reshape(x.shape), block + "attn.proj")
        hidden = F.gelu(linear(norm(x, block + "norm2"), block + "mlp.fc1"))
        x = x + linear(hidden, block + "mlp.fc2")
    return norm(x, "norm")


class Extraction:
    def __init__(self, args):
        self.batch = args.batch
        self.weights = load_file(args.weights)
        patch = self.weights["patch_embed.proj.weight"].shape[2]
        self.size = patch * round((self.weights["pos_embed"].shape[1] - 1) ** 0.5)
        self.paths = Path(args.list).read_text().splitlines()
        self.pool = ThreadPoolExecutor(args.threads)

    def read(self, path):
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        pixels = np.asarray(image.resize((self.size, self.size), Image.BICUBIC), np.float32)
        return torch.from_numpy(((pixels / 255 - MEAN) / STD).transpose(2, 0, 1))

    def pixels(self, paths):
        return torch.stack(list(self.pool.map(self.read, paths)))

    def shard(self, paths):
        batches = (paths[first : first + self.batch] for first in range(0, len(paths), self.batch))
        rows = torch.cat([forward(self.weights, self.pixels(batch)).half() for batch in batches])
        return {"global": rows[:, 0].contiguous(), "tokens": rows[:, 1:].contiguous()}

    def run(self, folder):
        start = time.perf_counter()
        folder.mkdir()
        for index, first in enumerate(range(0, len(self.paths), SHARD)):
            save_file(self.shard(self.paths[first : first + SHARD]), folder / f"tokens-{index:05}.safetensors")
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "peak_rss_mb": peak_rss_mb(), "images": len(self.paths)}
        return answer | {"torch": torch.__version__}

    def check(self, folder):
        theirs = load_file(folder / "check.safetensors")
        count = len(theirs["pixels"])
        pixels = self.pixels(self.paths[:count])
        levels = ((pixels - theirs["pixels"]).abs() * torch.from_numpy(STD * 255).view(3, 1, 1)).double()
        doubles = {name: weight.double() for name, weight in self.weights.items()}
        exact = forward(doubles, theirs["pixels"].double())[:, 1:]
        single = forward(self.weights, theirs["pixels"])[:, 1:]
        answer = {"ours": (theirs["tokens"] - exact).abs().max(), "peer": (single - exact).abs().max()}
        answer |= {"size": exact.abs().max(), "pixels_mean": levels.mean(), "pixels_max": levels.max()}
        answer["files_mean"] = (forward(self.weights, pixels)[:, 1:] - theirs["tokens"]).abs().mean()
        return {name: float(value) for name, value in answer.items()} | {"images": count}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", action="store_true", required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    extraction = Extraction(args)
    commands = {"run": extraction.run, "check": extraction.check}
    with torch.inference_mode():
        for line in sys.stdin:
            name, _, folder = line.strip().partition(" ")
            if name not in commands or not folder:
                sys.exit(f"stdin: expected `run FOLDER` or `check FOLDER`, read {line!r}")
            print(json.dumps(commands[name](Path(folder))), flush=True)


if __name__ == "__main__":
    main()
