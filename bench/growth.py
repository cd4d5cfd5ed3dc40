"""Shows how time and peak memory of our training step grow, beside the count of its operations. See bench/README.md.

    python3 bench/growth.py [--dim 384,192,768] [--rounds 9] [--threads 2] [--write]

Needs no third-party package itself; with --write it has its plots drawn by a second process of this file, in the
interpreter that has matplotlib: $EPSILON_BENCH_PYTHON or what bench/setup_pytorch.sh made.
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys

import turns

LABEL_WIDTH = 300
AXES = {"batch": "images a step", "groups": "groups M", "tokens": "tokens an image N", "labels": "seen labels C"}


@dataclasses.dataclass(frozen=True)
class Point:
    """What is timed; the defaults are the base point, of which each sweep varies one value."""

    dim: int = 384
    batch: int = 16
    tokens: int = 196
    groups: int = 8
    labels: int = 925

    def hidden(self):
        return self.dim // 4

    def heads(self):
        return max(1, self.dim // 64)

    def arguments(self):
        values = dataclasses.asdict(self) | {"hidden": self.hidden(), "label-dim": LABEL_WIDTH}
        return [word for name, value in values.items() for word in (f"--{name}", str(value))]

    def __str__(self):
        return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(self).items())


def operations(point, parts):
    """Floating-point operations of a step's matrix products by stage; a multiply and an add are two.

    Element-wise work (softmax, GELU, LayerNorm, the loss, Adam) is not counted. Letters are those of
    `crates/epsilon/src/kernels/gfp.rs` and `methods/epsilon/gpa.rs`, k is the heads. Backwards a product costs its
    forward count once for each factor that needs a gradient: tokens and label vectors are frozen and need none.
    """
    b, n, m, d, c = point.batch, point.tokens, point.groups, point.dim, point.labels
    h, k, w = point.hidden(), point.heads(), LABEL_WIDTH
    learnt, frozen = 3, 2  # Forward and backward, in forward counts: two factors need a gradient, or one.
    return {
        # G = X W, and dW.
        "GFP split": b * n * m * (2 * d * d + 2 * d * d),
        # Z = G W1, L = gelu(Z) W2; d gelu(Z), dW2, dW1, and the MLP's share of dG.
        "GFP MLP": b * n * m * (2 * d * h + 2 * h * d + 4 * 2 * h * d),
        # The same for all images: the query map, the key map folded in, the prompts' own logits.
        "encoder, queries": parts * learnt * (2 * m * d * d + 2 * m * d * d + 2 * k * m * m * d),
        # Logits of the tokens, and their mean.
        "encoder, attention to tokens": b * frozen * (2 * k * m * n * d + 2 * k * m * n * d),
        # The prompts' mean, the value map, the output projection, the MLP 4 D wide.
        "encoder, prompt rows": b * learnt * (2 * k * m * m * d + 2 * m * d * d + 2 * m * d * d + 16 * m * d * d),
        # The query map, the key map folded in, the value map.
        "refinement, maps": b * learnt * (2 * m * d * d + 2 * m * d * d + 2 * m * d * d),
        # Logits of the tokens, and their mean.
        "refinement, attention": b * frozen * (2 * m * n * d + 2 * m * n * d),
        # 2 D -> w.
        "fuser": b * learnt * 2 * m * 2 * d * w,
        # Every group's match with every label; backwards only the group that won.
        "scores": b * (2 * m * c * w + 2 * c * w),
    }


def measure(args, example, points):
    """The answers at every point, each of a process of its own, so that the peak memory is that point's."""
    shared = ["--threads", str(args.threads), "--warmup", str(args.warmup), "--serve"]
    with contextlib.ExitStack() as stack:
        programs = []
        for point in points:
            command = [example, *point.arguments(), *shared]
            program = stack.enter_context(turns.Program(str(point), command))
            # The answer to the first line says that the warm-up is over, so no two programs ever work at once.
            program.ask("run")
            programs.append(program)
        answers = turns.rounds(programs, args.rounds, lambda program: program.ask("run"))
    return [answers[str(point)] for point in points]


def quartiles(values):
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def figures(point, answers, images):
    """Figures of one point: time and operations of the step's share for `images` of its images."""
    share, last = images / point.batch, answers[-1]
    return {
        "parts": last["parts"],
        "ms": [1e3 * share * value for value in quartiles([answer["seconds"][0] for answer in answers])],
        "mb": last["peak_rss_mb"],
        "step_gflop": 1e-9 * sum(operations(point, last["parts"]).values()),
        "gflop": 1e-9 * share * sum(operations(point, last["parts"]).values()),
    }


def line(args, example, axis, base):
    """Figures along one axis through the base point, which is always among them."""
    values = sorted({*getattr(args, axis), getattr(base, axis)})
    print(f"{axis} {values} at {base}", file=sys.stderr)
    points = [dataclasses.replace(base, **{axis: value}) for value in values]
    answers = measure(args, example, points)
    rows = [figures(*pair, images=1 if axis == "batch" else base.batch) for pair in zip(points, answers)]
    return {"name": f"D = {base.dim}", "values": values, "base": values.index(getattr(base, axis)), "rows": rows}


def sweep(args, example, axis):
    """One table and one plot: the batch at every width, the rest at the first."""
    dims = args.dim if axis == "batch" else args.dim[:1]
    lines = [line(args, example, axis, Point(dim=dim)) for dim in dims]
    per = "an image" if axis == "batch" else "a step"
    return {"axis": axis, "title": AXES[axis], "per": per, "ticks": getattr(args, axis), "lines": lines}


def row(found, index):
    """Cells of one point, each figure with its multiple of the base point's."""
    here, base = found["rows"][index], found["rows"][found["base"]]
    low, middle, high = here["ms"]
    return [
        f"{found['values'][index]}",
        f"{middle:.1f} ({low:.1f} to {high:.1f})",
        f"{middle / base['ms'][1]:.2f}",
        f"{here['gflop']:.3f}",
        f"{here['gflop'] / base['gflop']:.2f}",
        f"{here['gflop'] / middle * 1e3:.0f}",
        f"{here['mb']:.0f}",
        f"{here['mb'] / base['mb']:.2f}",
        here["parts"],
    ]


def section(found):
    """A sweep as Markdown, its plot included."""
    axis, title, per = found["axis"], found["title"], found["per"]
    header = [title, f"ms {per}", "x base", f"GFLOP {per}", "x base", "GFLOP/s", "peak MB", "x base", "parts"]
    text = f"## {title[0].upper()}{title[1:]}\n\n![Time and memory against {title}](growth-{axis}.svg)\n"
    for line in found["lines"]:
        rows = [row(line, index) for index in range(len(line["rows"]))]
        text += f"\n{line['name']}:\n\n{turns.table(header, rows)}\n"
    return text


def stages(point, parts):
    """The count of one point by stage, as a table."""
    counts = operations(point, parts)
    total = sum(counts.values())
    rows = [[name, f"{1e-9 * count:.3f}", f"{100 * count / total:.1f} %"] for name, count in counts.items()]
    return turns.table(["stage", "GFLOP", "share"], [*rows, ["step", f"{1e-9 * total:.3f}", "100 %"]])


def ask_matplotlib(*words, **settings):
    """Runs the interpreter that has matplotlib; a failure there ends this program too."""
    if subprocess.run([turns.interpreter(), *words], text=True, **settings).returncode:
        raise SystemExit(f"`{words[0]} {words[1]}` failed in the benches' Python; bench/setup_pytorch.sh makes one")


def plot():
    """Draws the sweeps given on stdin: run by `--write` in the interpreter with matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same bytes, and text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "epsilon", "svg.fonttype": "none", "font.size": 9})
    for found in json.load(sys.stdin):
        figure = draw(found)
        path = turns.BENCH / "results" / f"growth-{found['axis']}.svg"
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        print(f"written to {path.relative_to(turns.ROOT)}")


def draw(found):
    """Time and peak memory side by side, both beside the operations, each axis logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for index, line in enumerate(found["lines"]):
        rows = line["rows"]
        low, middle, high = zip(*(row["ms"] for row in rows))
        bars = [[b - a for a, b in zip(low, middle)], [b - a for a, b in zip(middle, high)]]
        panel(time, line, f"C{index}", middle, [row["gflop"] for row in rows], bars)
        panel(memory, line, f"C{index}", [row["mb"] for row in rows], [row["step_gflop"] for row in rows])
    finish(time, found, f"time {found['per']} (ms)")
    finish(memory, found, "peak memory ($10^6$ bytes)")
    return figure


def panel(axes, line, colour, values, counts, bars=None):
    """One measured line, and its operations scaled to its value at the base point."""
    scale = values[line["base"]] / counts[line["base"]]
    scaled = [scale * count for count in counts]
    name = line["name"]
    axes.errorbar(line["values"], values, bars, color=colour, marker="o", markersize=4, capsize=2, label=name)
    axes.plot(line["values"], scaled, color=colour, linestyle="--", linewidth=1, label=f"{name}, operations (scaled)")


def finish(axes, found, label):
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set(xscale="log", yscale="log", xlabel=found["title"], ylabel=label)
    axes.minorticks_off()
    axes.set_xticks(found["ticks"], found["ticks"])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    # Room for the legend, and a flat line is not stretched until its noise fills the plot.
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.5, high * 2 ** (1 + len(found["lines"]) / 2))
    axes.grid(color="0.9")
    axes.legend(loc="upper left", fontsize=7, frameon=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    widths = "token widths D: the batch is varied at each, the rest at the first"
    parser.add_argument("--dim", type=turns.numbers, default=[384], help=widths)
    parser.add_argument("--batch", type=turns.numbers, default=[16, 32, 64, 128, 256], help="images a step")
    parser.add_argument("--groups", type=turns.numbers, default=[2, 4, 8, 16, 32], help="groups M")
    parser.add_argument("--tokens", type=turns.numbers, default=[49, 100, 196, 400, 784], help="tokens an image")
    parser.add_argument("--labels", type=turns.numbers, default=[100, 300, 1000, 3000, 10000], help="seen labels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2, help="steps of each process before the first round")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each process")
    parser.add_argument("--write", action="store_true", help="keep tables and plots in bench/results/growth*")
    parser.add_argument("--plot", action="store_true", help="only draw, from JSON on stdin: what --write runs")
    args = parser.parse_args()
    if args.plot:
        return plot()
    if args.write:
        ask_matplotlib("-c", "import matplotlib")
    before = turns.load()
    example = turns.build("bench_step")
    turns.pin(args.threads)

    sweeps = [sweep(args, example, axis) for axis in AXES]
    base = Point(dim=args.dim[0])
    groups = next(found["lines"][0] for found in sweeps if found["axis"] == "groups")
    parts = groups["rows"][groups["base"]]["parts"]
    tables = "\n".join(map(section, sweeps))
    tables += f"\n## Operations at the base point\n\n{stages(base, parts)}\n"
    print(tables)
    if args.write:
        ask_matplotlib(__file__, "--plot", input=json.dumps(sweeps))
        # There is no peer here.
        facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
        text = (
            f"# Growth of a training step\n\nBase point: {base}; hidden width D/4; {args.threads} threads, "
            f"{args.rounds} steps a point. Written by `bench/growth.py`; `bench/README.md` says what is shown.\n\n"
            f"{tables}\n{facts}\n- load before the run: {before}\n"
        )
        turns.write("growth.md", text)


if __name__ == "__main__":
    main()
