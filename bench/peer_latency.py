"""One photograph to its labels in PyTorch or ONNX Runtime: the peers of `bench/latency.py`.

    python bench/peer_latency.py --weights FILE --model FILE --photo FILE [--engine torch|onnxruntime] [--threads 2] [--calls 1]

Weights and engines are those of peer_extract.py; the model is one of the method `ridge`, whose map and label vectors make scores
of the global vector. A line `ready` on stdin is answered by an empty JSON object, each line `run` by one line of JSON: `seconds` of that many calls, decoding included,
`peak_rss_mb` (10^6 bytes, of the whole process), `labels` (the best, by number), `scores`, `version`.
"""

import argparse
import json
import sys
import time

import numpy as np
import safetensors.numpy
from PIL import Image, ImageOps

import peer_extract
from turns import peak_rss_mb

SHOWN = 10


class Latency:
    def __init__(self, args):
        self.args = args
        self.engine = {"torch": peer_extract.Torch, "onnxruntime": peer_extract.OnnxRuntime}[args.engine](args)
        model = safetensors.numpy.load_file(args.model)
        vectors = model["label_vectors"]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.weight, self.bias, self.vectors = model["weight.ridge.weight"], model["weight.ridge.bias"], vectors.T.copy()

    def rank(self):
        """The best labels and their scores."""
        image = ImageOps.exif_transpose(Image.open(self.args.photo)).convert("RGB")
        size = self.engine.size
        pixels = np.asarray(image.resize((size, size), Image.BICUBIC), np.float32)
        pixels = ((pixels / 255 - peer_extract.MEAN) / peer_extract.STD).transpose(2, 0, 1)[None]
        tokens = self.engine.tokens(np.ascontiguousarray(pixels))
        scores = (tokens[0, 0] @ self.weight + self.bias) @ self.vectors
        best = np.argsort(-scores)[:SHOWN]
        return best, scores[best]

    def run(self):
        start = time.perf_counter()
        for _ in range(self.args.calls):
            labels, scores = self.rank()
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "peak_rss_mb": peak_rss_mb(), "version": self.engine.version}
        return answer | {"labels": labels.tolist(), "scores": scores.tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--photo", required=True)
    parser.add_argument("--engine", choices=["torch", "onnxruntime"], default="torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=1)
    parser.set_defaults(precision="f32")
    latency = Latency(parser.parse_args())
    commands = {"ready": dict, "run": latency.run}
    for line in sys.stdin:
        if line.strip() not in commands:
            sys.exit(f"stdin: expected the line `ready` or `run`, read {line!r}")
        print(json.dumps(commands[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
