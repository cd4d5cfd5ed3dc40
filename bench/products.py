"""Products with packed weights in f32, bf16 and int8 at every level of instructions that this CPU has. See bench/README.md.

    python3 bench/products.py [--rounds 7] [--threads 2] [--write]

Needs no PyTorch.
"""

import argparse
import os
import subprocess
from statistics import median

import turns

HEAD = """# Products in f32, bf16 and int8, by level of instructions

Products of ViT-B/16's maps at 8 images, of DeiT-Tiny's, and of 8 rows, with weights packed once, the encoding of the left side
included: milliseconds on {threads} threads, the median over {rounds} rounds of the fastest run, and in brackets the median of the
rounds' ratios to f32 at the same level. Written by `bench/products.py`; `bench/README.md` says what is shown.
"""


def measure(program, levels, count, threads):
    """Milliseconds of each round, by level, shape and arithmetic; the levels take turns, the order reversed every other round."""
    found = {}
    for index in range(count):
        for level in levels if index % 2 == 0 else reversed(levels):
            command = [program, str(threads)]
            environment = {**os.environ, "EPSILON_CPU": level}
            lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
            for line in lines[1:]:
                shape, arithmetic, milliseconds = line.split("\t")
                found.setdefault((level, shape, arithmetic), []).append(float(milliseconds))
    return found


def cell(found, level, shape, arithmetic):
    times = found.get((level, shape, arithmetic))
    if times is None:
        return "-"
    ratio = median(a / b for a, b in zip(times, found[level, shape, "f32"], strict=True))
    text = f"{median(times):.2f}"
    return text if arithmetic == "f32" else f"{text} ({ratio:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the table in bench/results/products.md")
    args = parser.parse_args()
    before = turns.load()
    program, names = (turns.build(name, "-p", "epsilon-kernels", "--example", name) for name in ("products", "levels"))
    levels = subprocess.run([names], check=True, capture_output=True, text=True).stdout.split()
    turns.pin(args.threads)
    found = measure(program, levels, args.rounds, args.threads)
    shapes = list(dict.fromkeys(shape for _, shape, _ in found))
    rows = [
        [shape, f"`{level}`", *(cell(found, level, shape, arithmetic) for arithmetic in ("f32", "bf16", "int8"))]
        for shape in shapes
        for level in levels
    ]
    table = turns.table(["rows x inputs x outputs", "level", "f32", "bf16", "int8"], rows)
    print(table)
    if args.write:
        facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
        head = HEAD.format(threads=args.threads, rounds=args.rounds)
        turns.write("products.md", f"{head}\n{table}\n\n{facts}\n- load before the run: {before}\n")


if __name__ == "__main__":
    main()
