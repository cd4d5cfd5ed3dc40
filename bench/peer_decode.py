"""Reads large photographs with Pillow: the peer of the Rust bench of decoding.

    python bench/peer_decode.py --list FILE --serve

Reads lines on stdin: `run draft` and `run full` read all files of the list, upright, resize them (bicubic, the shorter
side to 248, the centre of 224 x 224 cut out: what DeiT takes) and normalise them, and print one line of JSON: `seconds`
of each file, `peak_rss_mb`, `version`. With `draft` libjpeg decodes at a fraction of the size, but no less than twice
what is asked for.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps

from turns import peak_rss_mb

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SIZE, SHORT = 224, 248


def pixels(path, draft):
    image = Image.open(path)
    if draft:
        image.draft("RGB", (2 * SHORT, 2 * SHORT))
    image = ImageOps.exif_transpose(image).convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (SHORT, SHORT * height // width) if width == short else (SHORT * width // height, SHORT)
    image = image.resize(size, Image.BICUBIC)
    left, top = (round((side - SIZE) / 2) for side in size)
    image = image.crop((left, top, left + SIZE, top + SIZE))
    return ((np.asarray(image, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--serve", action="store_true", required=True)
    args = parser.parse_args()
    photos = args.list.read_text().splitlines()
    for line in sys.stdin:
        way = line.split()[1]
        seconds = []
        for path in photos:
            start = time.perf_counter()
            pixels(path, way == "draft")
            seconds.append(time.perf_counter() - start)
        answer = {"seconds": seconds, "peak_rss_mb": peak_rss_mb(), "version": PIL.__version__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
