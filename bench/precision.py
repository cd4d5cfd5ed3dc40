"""Runs a recipe once in each precision of its backbone, training in f32, and compares the figures. See bench/README.md.

    python3 bench/precision.py RECIPE [--seed 1] [--out runs/precision] [--write]

Needs no third-party package. Stores and models that an earlier run left in --out are used again.
"""

import argparse
import json
import re
import subprocess
import time
from pathlib import Path

import turns

PRECISIONS = ("f32", "bf16", "int8")
FIGURES = ("zsl", "seen", "gzsl")


def program():
    subprocess.run(["cargo", "build", "--release", "--workspace"], cwd=turns.ROOT, check=True)
    return str(turns.ROOT / "target/release/epsilon")


def with_precision(text, precision):
    """The recipe's text with another `precision` in its `[backbone]`."""
    head, found, rest = text.partition("[backbone]\n")
    if not found:
        raise SystemExit("the recipe has no line [backbone]")
    own, bracket, others = rest.partition("\n[")
    own = re.sub(r"(?m)^precision *=.*\n?", "", own)
    return f'{head}{found}precision = "{precision}"\n{own}{bracket}{others}'


def run(args, epsilon, precision):
    """mAP in percent by figure, and the seconds of extraction and of all."""
    # Beside the original, because a recipe's paths start from its folder.
    recipe = args.recipe.with_name(f".{args.recipe.stem}-{precision}.toml")
    recipe.write_text(with_precision(args.recipe.read_text(), precision))
    folder = args.out / precision
    try:
        begin = time.perf_counter()
        subprocess.run([epsilon, "extract", recipe, "--out", folder], check=True)
        extracted = time.perf_counter() - begin
        command = [epsilon, "train", recipe, "--seed", str(args.seed), "--json", "--out", folder]
        rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        whole = time.perf_counter() - begin
    finally:
        recipe.unlink()
    figures = {name: 100 * rows[0]["figures"][name]["map"] for name in FIGURES}
    return figures | {"extracted": extracted, "whole": whole}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--write", action="store_true", help="keep the table in bench/results/precision.md")
    args = parser.parse_args()
    epsilon = program()
    found = {precision: run(args, epsilon, precision) for precision in PRECISIONS}
    header = ["backbone in", "seen mAP", "GZSL mAP", "ZSL mAP", "seen - f32", "GZSL - f32", "extraction s", "all s"]
    rows = []
    for precision, figures in found.items():
        row = [precision, *(f"{figures[name]:.2f}" for name in ("seen", "gzsl", "zsl"))]
        row += [f"{figures[name] - found['f32'][name]:+.2f}" for name in ("seen", "gzsl")]
        rows.append([*row, f"{figures['extracted']:.0f}", f"{figures['whole']:.0f}"])
    text = turns.table(header, rows)
    print(text)
    if args.write:
        facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
        head = f"# The same training on tokens of every precision\n\n`{args.recipe}`, seed {args.seed}, training in f32; mAP "
        head += "in percent. Written by `bench/precision.py`.\n\n"
        turns.write("precision.md", f"{head}{text}\n\n{facts}\n")


if __name__ == "__main__":
    main()
