"""From image files to tokens in PyTorch or ONNX Runtime: the peers of the Rust extraction bench.

    python bench/peer_extract.py --weights FILE --list FILE [--engine torch|onnxruntime] [--precision f32|bf16]
                                 [--batch 32] [--threads 2] --serve
    python bench/peer_extract.py --make FILE
    python bench/peer_extract.py --weights FILE --export FILE
    python bench/peer_extract.py --weights FILE --quantize FILE

The weights are a safetensors file with timm's tensor names (64 values a head), or what `--export` made of one for ONNX
Runtime, or what `--quantize` made of that (dynamic int8, weights scaled by output); the list is a text file with one image path a line. `--make` writes a ViT-B/16 with random weights of a trained
network's size, always the same. Pillow decodes and resizes (bicubic, squashed), in as many threads as the forward pass
has. Reads lines on stdin: `run FOLDER` writes the tokens of all images there, in half precision and safetensors files
of 128 images, and prints one line of JSON: `seconds`, `peak_rss_mb` (10^6 bytes, of the whole process), `images`,
`version`. `rate` prints `gflops`, of f32 products. `tokens FOLDER` (ONNX Runtime in int8) writes `peer-int8.safetensors`
there, of the pixels that the Rust bench wrote. `check FOLDER` (PyTorch in f32) holds these, the `check-*.safetensors` that
the Rust bench wrote there, and this program's own tokens in f32 and bf16, against the same computation in double
precision on the same pixels, and prints the differences, the cosines of tokens, and the difference of the pixels.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image, ImageOps

from turns import peak_rss_mb

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
# Images of one file of the token store.
SHARD = 128


def random_vit(path, dim=768, depth=12, patch=16, size=224):
    """Weights of a ViT-B/16 drawn at the scale that training gives them: every linear map keeps its input's size."""
    draw = np.random.default_rng(1)

    def normal(*shape, scale):
        return (draw.standard_normal(shape) * scale).astype(np.float32)

    tensors = {}

    def linear(name, *shape):
        tensors[f"{name}.weight"] = normal(*shape, scale=np.prod(shape[1:]) ** -0.5)
        tensors[f"{name}.bias"] = normal(shape[0], scale=0.1)

    def norm(name):
        tensors[f"{name}.weight"] = np.exp(normal(dim, scale=0.3))
        tensors[f"{name}.bias"] = normal(dim, scale=0.1)

    tensors["cls_token"] = normal(1, 1, dim, scale=0.5)
    tensors["pos_embed"] = normal(1, 1 + (size // patch) ** 2, dim, scale=0.5)
    linear("patch_embed.proj", dim, 3, patch, patch)
    for block in (f"blocks.{index}." for index in range(depth)):
        norm(block + "norm1")
        linear(block + "attn.qkv", 3 * dim, dim)
        linear(block + "attn.proj", dim, dim)
        norm(block + "norm2")
        linear(block + "mlp.fc1", 4 * dim, dim)
        linear(block + "mlp.fc2", dim, 4 * dim)
    norm("norm")
    safetensors.numpy.save_file(tensors, path)


def forward(w, images):
    import torch
    import torch.nn.functional as F

    dim, _, patch, _ = w["patch_embed.proj.weight"].shape
    heads = dim // 64
    x = F.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(x.shape[0], -1, -1), x], 1) + w["pos_embed"]

    def norm(x, name):
        return F.layer_norm(x, (dim,), w[name + ".weight"], w[name + ".bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    depth = len({name.split(".")[1] for name in w if name.startswith("blocks.")})
    for block in (f"blocks.{index}." for index in range(depth)):
        qkv = linear(norm(x, block + "norm1"), block + "attn.qkv")
        qkv = qkv.reshape(x.shape[0], -1, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + linear(mixed.transpose(1, 2).reshape(x.shape), block + "attn.proj")
        hidden = F.gelu(linear(norm(x, block + "norm2"), block + "mlp.fc1"))
        x = x + linear(hidden, block + "mlp.fc2")
    return norm(x, "norm")


class Torch:
    def __init__(self, args):
        import torch
        from safetensors.torch import load_file

        torch.set_num_threads(args.threads)
        self.torch = torch
        self.version = f"PyTorch {torch.__version__}"
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.precision]
        self.weights = {name: weight.to(dtype) for name, weight in load_file(args.weights).items()}
        self.dtype = dtype
        patch = self.weights["patch_embed.proj.weight"].shape[2]
        self.size = patch * round((self.weights["pos_embed"].shape[1] - 1) ** 0.5)

    def tokens(self, pixels):
        with self.torch.inference_mode():
            return forward(self.weights, self.torch.from_numpy(pixels).to(self.dtype)).numpy()

    def __call__(self, pixels):
        with self.torch.inference_mode():
            return forward(self.weights, self.torch.from_numpy(pixels).to(self.dtype)).half().numpy()

    def rate(self):
        a, b = self.torch.randn(2048, 2048), self.torch.randn(2048, 2048)
        seconds = []
        with self.torch.inference_mode():
            for _ in range(6):
                start = time.perf_counter()
                a @ b
                seconds.append(time.perf_counter() - start)
        return 2 * 2048**3 / min(seconds) / 1e9

    def export(self, path):
        weights = self.weights

        class Module(self.torch.nn.Module):
            def forward(self, images):
                return forward(weights, images)

        images = self.torch.zeros(2, 3, self.size, self.size)
        batch = self.torch.export.Dim("batch")
        self.torch.onnx.export(
            Module(), (images,), path, dynamo=True, external_data=False, dynamic_shapes=({0: batch},), verbose=False
        )


def quantize(model, path):
    """Bytes for the weights, and for what goes in as it comes: the quantization that needs no photographs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model, path, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])


class OnnxRuntime:
    def __init__(self, args):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        self.session = onnxruntime.InferenceSession(args.weights, options, providers=["CPUExecutionProvider"])
        self.version = f"ONNX Runtime {onnxruntime.__version__}"
        self.input = self.session.get_inputs()[0]
        self.size = self.input.shape[2]

    def tokens(self, pixels):
        return self.session.run(None, {self.input.name: pixels})[0]

    def __call__(self, pixels):
        return self.tokens(pixels).astype(np.float16)


class Extraction:
    def __init__(self, args):
        self.batch = args.batch
        self.engine = {"torch": Torch, "onnxruntime": OnnxRuntime}[args.engine](args)
        self.paths = Path(args.list).read_text().splitlines()
        self.pool = ThreadPoolExecutor(args.threads)

    def read(self, path):
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        size = self.engine.size
        pixels = np.asarray(image.resize((size, size), Image.BICUBIC), np.float32)
        return ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)

    def pixels(self, paths):
        return np.stack(list(self.pool.map(self.read, paths)))

    def shard(self, paths):
        batches = (paths[first : first + self.batch] for first in range(0, len(paths), self.batch))
        rows = np.concatenate([self.engine(self.pixels(batch)) for batch in batches])
        return {"global": np.ascontiguousarray(rows[:, 0]), "tokens": np.ascontiguousarray(rows[:, 1:])}

    def run(self, folder):
        start = time.perf_counter()
        folder.mkdir()
        for index, first in enumerate(range(0, len(self.paths), SHARD)):
            shard = self.shard(self.paths[first : first + SHARD])
            safetensors.numpy.save_file(shard, folder / f"tokens-{index:05}.safetensors")
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "peak_rss_mb": peak_rss_mb(), "images": len(self.paths)}
        return answer | {"version": self.engine.version}

    def rate(self, _):
        return {"gflops": self.engine.rate()}

    def tokens(self, folder):
        pixels = safetensors.numpy.load_file(folder / "check-f32.safetensors")["pixels"]
        tokens = self.engine(pixels)[:, 1:].astype(np.float32)
        safetensors.numpy.save_file({"tokens": np.ascontiguousarray(tokens)}, folder / "peer-int8.safetensors")
        return {}

    def check(self, folder):
        torch = self.engine.torch
        files = sorted(folder.glob("check-*.safetensors"))
        theirs = {path.stem.split("-")[1]: safetensors.numpy.load_file(path) for path in files}
        shared = theirs["f32"]["pixels"]
        pixels = self.pixels(self.paths[: len(shared)])
        levels = np.abs(pixels - shared) * (STD * 255).reshape(3, 1, 1)
        cast = {name: {k: w.to(kind) for k, w in self.engine.weights.items()} for name, kind in (
            ("double", torch.float64), ("PyTorch f32", torch.float32), ("PyTorch bf16", torch.bfloat16))}
        tokens = {f"ours {name}": torch.from_numpy(file["tokens"]).double() for name, file in theirs.items()}
        for path in folder.glob("peer-int8.safetensors"):
            tokens["ONNX Runtime int8"] = torch.from_numpy(safetensors.numpy.load_file(path)["tokens"]).double()
        with torch.inference_mode():
            for name, weights in cast.items():
                images = torch.from_numpy(shared).to(weights["norm.weight"].dtype)
                parts = [forward(weights, part)[:, 1:].double() for part in images.split(4)]
                tokens[name] = torch.cat(parts)
            moved = torch.from_numpy(self.engine(pixels)[:, 1:].astype(np.float32)) - tokens["double"]
        exact = tokens.pop("double")
        cosines = {name: torch.cosine_similarity(found, exact, dim=-1) for name, found in tokens.items()}
        return {
            "images": len(shared),
            "size": float(exact.abs().max()),
            "largest": {name: float((found - exact).abs().max()) for name, found in tokens.items()},
            "cosine": {name: [float(c.mean()), float(c.min())] for name, c in cosines.items()},
            "pixels_mean": float(levels.mean()),
            "pixels_max": float(levels.max()),
            "files_mean": float(moved.abs().mean()),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--list")
    parser.add_argument("--engine", choices=["torch", "onnxruntime"], default="torch")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--make")
    parser.add_argument("--export")
    parser.add_argument("--quantize")
    args = parser.parse_args()
    if args.make:
        return random_vit(args.make)
    if args.export:
        return Torch(args).export(args.export)
    if args.quantize:
        return quantize(args.weights, args.quantize)
    extraction = Extraction(args)
    commands = {"run": extraction.run, "check": extraction.check, "rate": extraction.rate, "tokens": extraction.tokens}
    for line in sys.stdin:
        name, _, folder = line.strip().partition(" ")
        if name not in commands:
            sys.exit(f"stdin: expected `run FOLDER`, `tokens FOLDER`, `check FOLDER` or `rate`, read {line!r}")
        print(json.dumps(commands[name](Path(folder))), flush=True)


if __name__ == "__main__":
    main()
