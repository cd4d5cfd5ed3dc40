"""Where our training step's time goes, stage by stage, beside what the machine could do. See bench/README.md.

    python3 bench/roofline.py [--batch 16] [--dims 192,384,768] [--steps 20] [--threads 2] [--precision f32] [--write]

Needs no third-party package.
"""

import argparse
import json
import subprocess

import processor
import turns
from growth import LABEL_WIDTH, Point, operations

# Stages of bench_roofline, and the operations of growth.py that belong to each.
STAGES = {
    "encoder": ("encoder, queries", "encoder, attention to tokens", "encoder, prompt rows"),
    "refinement": ("refinement, maps", "refinement, attention"),
    "split": ("GFP split",),
    "mlp": ("GFP MLP",),
    "softmax-sum": (),
    "fuser": ("fuser",),
    "scores": ("scores",),
    "loss": (),
    "optimiser": (),
}


def traffic(point, weights):
    """Bytes that each stage reads and writes if every operand passes once: f32 values, forward and backward."""
    b, n, m, d, c = point.batch, point.tokens, point.groups, point.dim, point.labels
    h, w, rows = point.hidden(), LABEL_WIDTH, point.batch * point.tokens
    values = {
        # The tokens are standardised, matched and averaged; both products again backwards.
        "encoder": 6 * rows * d + 3 * 12 * d * d,
        "refinement": 4 * rows * d + 3 * 3 * d * d,
        # X and G; X and dG; W and dW.
        "split": m * (4 * rows * d + 2 * d * d),
        # G, Z twice, gelu(Z) twice, L; dL twice, dZ four times, Z, gelu(Z), G, dG twice.
        "mlp": m * (rows * (7 * d + 9 * h) + 4 * d * h),
        # G, L, A; A, G, dL, dG.
        "softmax-sum": m * rows * 7 * d,
        "fuser": 3 * (b * m * (2 * d + w) + 2 * d * w),
        "scores": 2 * (b * m * w + c * w + b * c),
        "loss": 3 * b * c,
        # Weight, gradient and two moments in; all but the gradient out.
        "optimiser": 7 * weights,
    }
    return {name: 4 * count for name, count in values.items()}


def measure(args, example, point):
    command = [example, *point.arguments(), "--threads", str(args.threads), "--steps", str(args.steps)]
    command += ["--precision", args.precision]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def section(args, example, dim):
    """One width as a table: what each stage took, and the least that the machine's limits allow it."""
    point = Point(dim=dim, batch=args.batch)
    found = measure(args, example, point)
    seconds, moved = found["seconds"], traffic(point, found["weights"])
    counted = operations(point, found["parts"])
    rows = []
    for name, parts in STAGES.items():
        flop = sum(counted[part] for part in parts)
        least = max(flop / found["gflops"], moved[name] / found["gbs"]) / 1e9
        rows.append(line(name, flop, moved[name], seconds[name], seconds["step"], least))
    named = sum(seconds[name] for name in STAGES)
    rows.append(["what is left", "", "", *times(seconds["step"] - named, seconds["step"]), "", "", ""])
    flop, least = sum(counted.values()), sum(counted.values()) / found["gflops"] / 1e9
    rows.append(line("step", flop, sum(moved.values()), seconds["step"], seconds["step"], least))
    header = ["stage", "GFLOP", "MB", "ms", "share", "GFLOP/s", "least ms", "least / ms"]
    limits = f"products {found['gflops']:.0f} GFLOP/s, copies {found['gbs']:.1f} GB/s"
    return f"## {point}\n\nThis machine, {args.threads} threads: {limits}.\n\n{turns.table(header, rows)}\n"


def times(seconds, whole):
    return [f"{1e3 * seconds:.2f}", f"{100 * seconds / whole:.1f} %"]


def line(name, flop, moved, seconds, whole, least):
    cells = [name, f"{1e-9 * flop:.2f}", f"{1e-6 * moved:.1f}", *times(seconds, whole)]
    return cells + [f"{1e-9 * flop / seconds:.0f}", f"{1e3 * least:.2f}", f"{least / seconds:.2f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--dims", type=turns.numbers, default=[192, 384, 768], help="token widths D")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each stage")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--threads", type=int, default=2)
    processor.add_argument(parser)
    parser.add_argument("--write", action="store_true", help="keep the tables in bench/results/roofline*.md")
    args = parser.parse_args()
    before = turns.load()
    cpu = processor.Processor(args.cpu)
    example = turns.build("bench_roofline")
    turns.pin(args.threads)
    tables = "\n".join(section(args, example, dim) for dim in args.dims)
    print(tables)
    if args.write:
        facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
        text = (
            f"# Where a training step's time goes, {args.precision}\n\nMeans over {args.steps} steps. Written by "
            f"`bench/roofline.py`; `bench/README.md` says what is shown.\n\n{tables}\n{facts}\n"
            f"{cpu.facts().lstrip()}\n- load before the run: {before}\n"
        )
        turns.write(f"roofline-{args.precision}-{cpu.slug()}.md", text)


if __name__ == "__main__":
    main()
