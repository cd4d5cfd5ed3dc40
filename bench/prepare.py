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


def vector_files(folder):
    """A vector file of 2.2 GB as binary word2vec, as text and as .npy with a list; and a list of labels."""
    script = (
        "import sys, numpy as np\n"
        "folder, count, width, labels = sys.argv[1], *map(int, sys.argv[2:])\n"
        "random = np.random.default_rng(1)\n"
        "words = [f'word{i}' for i in range(count)]\n"
        "open(f'{folder}/words.txt', 'w').writelines(w + '\\n' for w in words)\n"
        "chosen = random.choice(count, labels, replace=False)\n"
        "open(f'{folder}/labels.txt', 'w').writelines(words[i] + '\\n' for i in chosen)\n"
        "matrix = np.lib.format.open_memmap(f'{folder}/vectors.npy', 'w+', np.float32, (count, width))\n"
        "binary, text = open(f'{folder}/vectors.bin', 'wb'), open(f'{folder}/vectors.txt', 'w')\n"
        "binary.write(f'{count} {width}\\n'.encode())\n"
        "for first in range(0, count, 10000):\n"
        "    block = random.standard_normal((min(10000, count - first), width), dtype=np.float32)\n"
        "    matrix[first : first + len(block)] = block\n"
        "    for word, row in zip(words[first:], block):\n"
        "        binary.write(word.encode() + b' ' + row.tobytes() + b'\\n')\n"
        "    if first < count * 2 // 5:\n"
        "        lines = np.char.mod('%.5f', block)\n"
        "        text.writelines(w + ' ' + ' '.join(row) + '\\n' for w, row in zip(words[first:], lines))\n"
    )
    subprocess.run([turns.interpreter(), "-c", script, str(folder), str(VECTORS), str(WIDTH), str(LABELS)], check=True)
    # The text file holds fewer words at the same size: only labels that it has are asked for.
    have = {line.split(" ", 1)[0] for line in (folder / "vectors.txt").open()}
    labels = [line for line in (folder / "labels.txt").read_text().splitlines() if line in have]
    spare = [word for word in sorted(have) if word not in set(labels)][: LABELS - len(labels)]
    (folder / "labels-text.txt").write_text("".join(f"{word}\n" for word in labels + spare))


def vectors(args, ours, folder):
    vector_files(folder)
    rows = []
    for kind, name, labels, names in [
        ("word2vec, binary", "vectors.bin", "labels.txt", []),
        ("GloVe, text", "vectors.txt", "labels-text.txt", []),
        (".npy and a list of words", "vectors.npy", "labels.txt", ["words.txt"]),
    ]:
        command = [ours, "resolve", *(str(folder / file) for file in [name, labels, *names])]
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
