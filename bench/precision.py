"""Runs recipes/tables/corel5k-precision.toml on tokens of every precision of its backbone, training in f32, and compares figures
seed by seed, and the tokens. See bench/README.md.

    python3 bench/precision.py [--out runs/precision] [--program FILE] [--write]

Needs numpy and safetensors. Stores and models that an earlier run left in --out are used again.
"""

import argparse
import json
import subprocess
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import turns
from safetensors.numpy import load_file

PRECISIONS = ("f32", "bf16", "int8")
FIGURES = ("zsl", "seen", "gzsl")
COMPARISON = turns.ROOT / "recipes/tables/corel5k-precision.toml"
# Photographs whose tokens are compared.
COMPARED = 64


def run(args, precision):
    """mAP in percent, by method, figure and seed."""
    # Beside the original, because a comparison's paths start from its folder.
    comparison = COMPARISON.with_name(f".{COMPARISON.stem}-{precision}.toml")
    comparison.write_text(COMPARISON.read_text().replace("[backbone]\n", f'[backbone]\nprecision = "{precision}"\n'))
    try:
        command = [args.program, "bench", comparison, "--out", args.out / precision]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    finally:
        comparison.unlink()
    found = {}
    for path in sorted((args.out / precision).glob("*/seed-*/result.json")):
        figures = json.loads(path.read_text())["figures"]
        # A classifier knows the seen labels alone.
        figures = {name: figures[name] for name in FIGURES if name in figures} or {"seen": figures}
        for name, figure in figures.items():
            seeds = found.setdefault(path.parts[-3], {}).setdefault(name, {})
            seeds[path.parts[-2]] = 100 * figure["map"]
    return found


def spread(values):
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def figures_table(found):
    """A row a method and figure: f32's mAP, and what the others differ from it at the same seed."""
    rows = []
    differences = {(precision, name): [] for precision in PRECISIONS[1:] for name in FIGURES}
    for method, figures in found["f32"].items():
        for name, seeds in figures.items():
            row = [method, name, spread(list(seeds.values()))]
            for precision in PRECISIONS[1:]:
                others = found[precision][method][name]
                paired = [others[seed] - seeds[seed] for seed in seeds]
                differences[precision, name] += paired
                row += [f"{mean(paired):+.2f} ± {stdev(paired):.2f}", " ".join(f"{x:+.2f}" for x in paired)]
            rows.append(row)
    for name in FIGURES:
        row = ["all methods", name, ""]
        for precision in PRECISIONS[1:]:
            values = differences[precision, name]
            row += [f"{mean(values):+.2f} ± {stdev(values):.2f}", ""]
        rows.append(row)
    header = ["method", "mAP of", "f32"]
    for precision in PRECISIONS[1:]:
        header += [f"{precision} - f32", "by seed"]
    return turns.table(header, rows)


def tokens(folder):
    """Tokens of photographs at equal distances, `[n, N, D]`."""
    shards = [load_file(path)["tokens"] for path in sorted(folder.glob("tokens/*.safetensors"))]
    count = sum(map(len, shards))
    wanted = np.arange(COMPARED) * (count // COMPARED)
    starts = np.cumsum([0, *map(len, shards)])
    parts = [shard[wanted[(wanted >= start) & (wanted < start + len(shard))] - start] for shard, start in zip(shards, starts)]
    return np.concatenate(parts).astype(np.float64)


def tokens_table(args):
    exact = tokens(args.out / "f32")
    rows = []
    for precision in PRECISIONS[1:]:
        ours = tokens(args.out / precision)
        lengths = np.sqrt((exact**2).sum(-1) * (ours**2).sum(-1))
        cosines = (exact * ours).sum(-1) / lengths
        relative = np.sqrt(((ours - exact) ** 2).sum() / (exact**2).sum())
        rows.append([precision, f"{cosines.mean():.5f}", f"{cosines.min():.3f}", f"{100 * relative:.1f} %", f"{abs(ours - exact).max():.2f}"])
    header = [f"tokens of {COMPARED} photographs", "mean cosine to f32", "smallest", "root mean square difference", "largest difference"]
    return f"{turns.table(header, rows)}\n\nf32 tokens are up to {abs(exact).max():.1f}."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--program", help="an `epsilon` that is built [default: built first]")
    parser.add_argument("--write", action="store_true", help="keep the tables in bench/results/precision.md")
    args = parser.parse_args()
    args.program = args.program or turns.build("epsilon")
    found = {precision: run(args, precision) for precision in PRECISIONS}
    text = f"{figures_table(found)}\n\n{tokens_table(args)}"
    print(text)
    if args.write:
        facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
        head = f"# The same training on tokens of every precision\n\n`{COMPARISON.relative_to(turns.ROOT)}`, training in f32; mAP in percent, mean and "
        head += "standard deviation over the seeds, of the differences at the same seed. Written by `bench/precision.py`.\n\n"
        turns.write("precision.md", f"{head}{text}\n\n{facts}\n")


if __name__ == "__main__":
    main()
