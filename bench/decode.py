"""Times reading large JPEGs, files to preprocessed pixels (224), ours against Pillow, in turn, in one run and one thread. See
bench/README.md.

    python3 bench/decode.py [--images 4] [--rounds 7] [--write]

Photographs of Corel5k are enlarged to 12 and 48 megapixels, with fine detail added, and saved as a camera does (4:2:0,
quality 90). Needs no third-party package itself; the peer's interpreter is $EPSILON_BENCH_PYTHON or what
bench/setup_pytorch.sh made.
"""

import argparse
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import turns

DATA = turns.ROOT.parent / "shared" / "data"
WEIGHTS = DATA / "backbones/deit_tiny_patch16_224.safetensors"
SIZES = {"12": (4000, 3000), "48": (8000, 6000)}
# Smallest mean cosine allowed between the tokens of reduced and of whole pictures.
COSINE = 0.999

MAKE = """
import sys
import numpy as np
from PIL import Image
source, to, width, height, seed = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
image = Image.open(source).convert("RGB").resize((width, height), Image.BICUBIC)
draw = np.random.default_rng(seed)
coarse = draw.standard_normal((height // 2, width // 2), np.float32)
detail = np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC)) * 6
detail = detail + 2 * draw.standard_normal((height, width), np.float32)
pixels = np.clip(np.asarray(image) + detail[..., None], 0, 255).astype(np.uint8)
Image.fromarray(pixels).save(to, quality=90, subsampling="4:2:0")
"""


def make(folder, count):
    """Lists of files, by megapixels."""
    sources = sorted((DATA / "corel5k/test").glob("*.jpeg"))
    sources = sources[:: max(1, len(sources) // count)][:count]
    lists = {}
    for name, (width, height) in SIZES.items():
        files = []
        for seed, source in enumerate(sources):
            path = folder / f"{name}-{seed}.jpg"
            command = [turns.interpreter(), "-c", MAKE, source, path, width, height, seed]
            subprocess.run(list(map(str, command)), check=True)
            files.append(path)
        lists[name] = folder / f"{name}.txt"
        lists[name].write_text("".join(f"{path}\n" for path in files))
    return lists


def measure(args, photos):
    """The answers of all ways, by name, and what the check says."""
    ours = [turns.build("bench_decode"), "--weights", str(WEIGHTS), "--list", str(photos), "--serve"]
    peer = [turns.interpreter(), str(turns.BENCH / "peer_decode.py"), "--list", str(photos), "--serve"]
    ways = {
        "ours": (ours, "reduced"),
        "ours, whole": (ours, "full"),
        "Pillow, draft": (peer, "draft"),
        "Pillow, whole": (peer, "full"),
        "ours with DeiT-Tiny": (ours, "tokens"),
    }
    turns.pin(1)
    with ExitStack() as stack:
        programs = [stack.enter_context(turns.Program(name, command)) for name, (command, _) in ways.items()]
        turn = lambda program: program.ask(f"run {ways[program.name][1]}")
        turns.rounds(programs, 1, turn)
        answers = turns.rounds(programs, args.rounds, turn)
        return answers, programs[0].ask("check")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if not WEIGHTS.exists():
        raise SystemExit(f"{WEIGHTS} is missing")
    load = turns.load()
    parts, differ = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, photos in make(Path(folder), args.images).items():
            megabytes = [Path(path).stat().st_size / 1e6 for path in photos.read_text().splitlines()]
            answers, check = measure(args, photos)
            times = {way: [statistics.mean(answer["seconds"]) for answer in given] for way, given in answers.items()}
            rows = []
            for way, seconds in times.items():
                row = [way, f"{1000 * statistics.median(seconds):.1f}"]
                row += [turns.ratio(seconds, times[peer]) for peer in ("Pillow, draft", "Pillow, whole")]
                rows.append([*row, f"{answers[way][-1]['peak_rss_mb']:.0f}"])
            header = [f"{name} megapixels", "ms a file", "time / Pillow, draft", "/ Pillow, whole", "peak MB"]
            if check["cosine"] < COSINE:
                differ.append(f"{name} megapixels: mean cosine {check['cosine']:.6f}")
            line = (
                f"Files of {min(megabytes):.1f} to {max(megabytes):.1f} MB. Tokens of DeiT-Tiny of the picture decoded at a "
                f"smaller size against those of the whole one: mean cosine {check['cosine']:.6f}, smallest {check['smallest']:.4f}."
            )
            parts.append(f"{turns.table(header, rows)}\n\n{line}")
    version = answers["Pillow, draft"][-1]["version"]
    text = (
        "# Reading large photographs\n\n"
        f"JPEG files to preprocessed pixels (224); {args.images} photographs, {args.rounds} rounds, one thread. Written by "
        "`bench/decode.py`; `bench/README.md` says what is compared.\n\n"
        + "\n\n".join(parts)
        + f"\n\n{turns.machine(f'Pillow {version}')}\n- load before the run: {load}\n"
    )
    print(text)
    if args.write:
        turns.write("decode.md", text)
    if differ:
        raise SystemExit(f"tokens differ, {COSINE} is asked for: {'; '.join(differ)}")


if __name__ == "__main__":
    main()
