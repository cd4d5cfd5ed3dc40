"""Times reading NUS-WIDE's and Open Images' text files at full scale, with generated content, against a pandas script on
the same files, in turn; reading the index again; and finding 7,586 labels in a large vector file. See bench/README.md.

    python3 bench/prepare.py [--rounds 3] [--threads 2] [--folder FOLDER] [--write]

Needs some 5 GB below --folder; what is written there is removed at the end.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import turns

# Images of the official lists of NUS-WIDE; images of Open Images that make about 9 million lines, two each.
NUS_WIDE = (161_789, 107_859)
OPEN_IMAGES = (4_400_000, 125_436, 2)
LABELS = 7_586
VECTORS, WIDTH = 1_850_000, 300

# What the interpreter with NumPy runs: vectors of `count` words as binary word2vec, .npy and, of the first words, text of
# about the same size; and a list of labels among those.
VECTOR_FILES = r"""
import sys
import numpy as np
folder, (count, width, labels) = sys.argv[1], map(int, sys.argv[2:])
random = np.random.default_rng(1)
words = [f"word{i}" for i in range(count)]
in_text = count * 9 // 20
open(f"{folder}/words.txt", "w").writelines(word + "\n" for word in words)
chosen = random.choice(in_text, labels, replace=False)
open(f"{folder}/labels.txt", "w").writelines(words[i] + "\n" for i in chosen)
tails = [" ".join(f"{value:.5f}" for value in row) + "\n" for row in random.standard_normal((2000, width))]
with open(f"{folder}/vectors.txt", "w") as text:
    text.writelines(f"{words[i]} {tails[i % 2000]}" for i in range(in_text))
matrix = np.lib.format.open_memmap(f"{folder}/vectors.npy", "w+", np.float32, (count, width))
with open(f"{folder}/vectors.bin", "wb") as binary:
    binary.write(f"{count} {width}\n".encode())
    for first in range(0, count, 10000):
        block = random.standard_normal((min(10000, count - first), width), dtype=np.float32)
        matrix[first : first + len(block)] = block
        for word, row in zip(words[first : first + 10000], block):
            binary.write(word.encode() + b" " + row.tobytes() + b"\n")
"""


def ask(command, threads):
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output) if output.strip() else None


def compare(args, ours, folder, kind):
    """Rows of the table for one data set."""
    answers = {"ours": [], "pandas": [], "again": []}
    index, peer_index = folder / "index.parquet", folder / ("peer.npz" if kind == "nus-wide" else "peer.parquet")
    peer = [turns.interpreter(), str(turns.BENCH / "peer_prepare.py"), kind, str(folder), str(peer_index)]
    for number in range(args.rounds):
        index.unlink(missing_ok=True)
        order = ["ours", "pandas"] if number % 2 == 0 else ["pandas", "ours"]
        for name in order:
            command = [ours, "read", kind, str(folder), str(index)] if name == "ours" else peer
            answers[name].append(ask(command, args.threads))
        answers["again"].append(ask([ours, "read", kind, str(folder), str(index)], args.threads))
    same = {(answer["images"], answer["labels"]) for given in answers.values() for answer in given}
    if len(same) != 1:
        raise SystemExit(f"{kind}: not the same images and labels: {same}")
    images, labels = same.pop()
    seconds = {name: [answer["seconds"] for answer in given] for name, given in answers.items()}
    peak = {name: max(answer["peak_rss_mb"] for answer in given) for name, given in answers.items()}
    return [
        f"{kind}: {images:,} images, {labels:,} labels",
        *(f"{statistics.median(seconds[name]):.1f}" for name in ("ours", "pandas")),
        turns.ratio(seconds["ours"], seconds["pandas"]),
        *(f"{peak[name]:,.0f}" for name in ("ours", "pandas")),
        f"{peak['ours'] / peak['pandas']:.2f}",
        f"{statistics.median(seconds['again']):.1f}",
        f"{peak['again']:,.0f}",
    ], answers["pandas"][0]["pandas"]


def vectors(args, ours, folder):
    sizes = map(str, (VECTORS, WIDTH, LABELS))
    subprocess.run([turns.interpreter(), "-c", VECTOR_FILES, str(folder), *sizes], check=True)
    rows = []
    for kind, name, names in [
        ("word2vec, binary", "vectors.bin", []),
        ("GloVe, text", "vectors.txt", []),
        (".npy and a list of words", "vectors.npy", ["words.txt"]),
    ]:
        command = [ours, "resolve", *(str(folder / file) for file in [name, "labels.txt", *names])]
        answers = [ask(command, args.threads) for _ in range(args.rounds)]
        size = (folder / name).stat().st_size / 1e9
        seconds = statistics.median(answer["seconds"] for answer in answers)
        peak = max(answer["peak_rss_mb"] for answer in answers)
        rows.append([kind, f"{size:.1f}", answers[0]["images"], f"{seconds:.1f}", f"{peak:.0f}"])
    return turns.table(["vector file", "GB", "labels found", "s", "peak MB"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to write the generated files [default: the system's]")
    parser.add_argument("--skip-vectors", action="store_true", help="leave the vector files out")
    parser.add_argument("--write", action="store_true", help="keep the tables in bench/results/prepare.md")
    args = parser.parse_args()
    before = turns.load()
    ours = turns.build("bench_prepare")
    turns.pin(args.threads)
    rows = []
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        for kind, sizes in [("nus-wide", NUS_WIDE), ("open-images", OPEN_IMAGES)]:
            ask([ours, "tree", kind, str(folder / kind), *map(str, sizes)], args.threads)
            row, pandas = compare(args, ours, folder / kind, kind)
            rows.append(row)
            shutil.rmtree(folder / kind)
        header = ["files", "ours s", "pandas s", "ours / pandas", "ours peak MB", "pandas peak MB", "ratio", "index read s", "index peak MB"]
        table = turns.table(header, rows)
        print(table)
        if not args.skip_vectors:
            found = vectors(args, ours, folder)
            print(found)
            table += f"\n\n{found}"
    finally:
        shutil.rmtree(folder)
    if args.write:
        facts = turns.machine("none").replace("peer: PyTorch none", f"peer: pandas {pandas}")
        text = (
            f"# Published text files to an index\n\nFull-scale files of random content; {args.threads} threads, "
            f"{args.rounds} rounds. Written by `bench/prepare.py`; `bench/README.md` says what is compared.\n\n"
            f"{table}\n\n{facts}\n- load before the run: {before}\n"
        )
        turns.write("prepare.md", text)


if __name__ == "__main__":
    main()
