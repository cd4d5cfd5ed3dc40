"""Images a second through a Vision Transformer and Epsilon's training step in PyTorch on a GPU: the peer of the Rust device bench.

    python bench/peer_device.py --weights FILE [--device cuda] [--precision bf16|f32] [--images 32] [--batch 96] [--rounds 10]

The weights are a safetensors file with timm's tensor names, such as `peer_extract.py --make` writes. Pixels and tokens are random
and in the host's memory, as those of the Rust bench; what comes out of the network goes back there. Prints one line of JSON with
the same names, for eager PyTorch and, where it can be had, torch.compile.
"""

import argparse
import json
import time

import torch
from safetensors.torch import load_file

import peer_extract
import peer_step


def times(device, rounds, work):
    """The first and the median of some runs of `work`, in seconds."""

    def run():
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first = run()
    rest = sorted(run() for _ in range(max(1, rounds)))
    return first, rest[len(rest) // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[args.precision]
    weights = {name: weight.to(args.device, dtype) for name, weight in load_file(args.weights).items()}
    patch = weights["patch_embed.proj.weight"].shape[2]
    size = patch * round((weights["pos_embed"].shape[1] - 1) ** 0.5)
    pixels = torch.randn(args.images, 3, size, size)

    for form in ("eager", "compile"):
        network = peer_extract.forward if form == "eager" else torch.compile(peer_extract.forward)

        def batch():
            with torch.inference_mode():
                network(weights, pixels.to(args.device, dtype)).float().cpu()

        settings = argparse.Namespace(
            form="rows" if form == "eager" else "compile", batch=args.batch, tokens=196, dim=768, groups=8, hidden=192,
            labels=925, label_dim=300, seed=0,
        )
        step = peer_step.Step(settings)
        step.model.to(args.device)
        step.tokens, step.vectors, step.labels = (x.to(args.device) for x in (step.tokens, step.vectors, step.labels))
        step.adam = torch.optim.Adam(step.model.parameters(), lr=1e-5, weight_decay=4e-3, fused=True)

        def train():
            with torch.autocast(args.device, dtype, enabled=dtype != torch.float32):
                step()

        first_batch, of_batch = times(args.device, args.rounds, batch)
        first_step, of_step = times(args.device, args.rounds, train)
        line = {
            "torch": torch.__version__, "form": form, "device": args.device, "precision": args.precision,
            "images": args.images, "rounds": args.rounds,
            "first_batch_seconds": first_batch, "images_per_second": args.images / of_batch,
            "first_step_seconds": first_step, "step_seconds": of_step,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
