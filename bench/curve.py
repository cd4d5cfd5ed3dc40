"""Trains a recipe with the framework's own operations, the fused ones, and those in bf16. See bench/README.md.

    python3 bench/curve.py RECIPE STORE [--epochs N] [--threads 2] [--write]

STORE is the folder of the recipe's tokens, such as runs/corel5k/tokens. Needs no third-party package itself; with
--write the plot is drawn in the interpreter that has matplotlib, as growth.py's are.
"""

import argparse
import json
import subprocess
import sys

import turns
from growth import ask_matplotlib

# Steps whose losses are compared one by one; further on, rounding has grown into another path to the same place.
COMPARED = 200
SHOWN = (1, 10, 50, 100, 150, 200)


def train(args, example):
    command = [example, "--recipe", args.recipe, "--store", args.store, "--threads", str(args.threads)]
    if args.epochs:
        command += ["--epochs", str(args.epochs)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {answer["name"]: answer for answer in map(json.loads, lines)}


def apart(found, name):
    """The largest relative difference from the framework's losses over the first steps."""
    pairs = zip(found[name]["losses"][:COMPARED], found["framework"]["losses"][:COMPARED])
    return max(abs(ours - theirs) / abs(theirs) for ours, theirs in pairs)


def tables(found, epochs):
    header = ["step", *found]
    rows = [[step, *(f"{run['losses'][step - 1]:.5f}" for run in found.values())] for step in SHOWN]
    losses = turns.table(header, rows)
    header = ["", f"largest relative difference over {COMPARED} steps", "ZSL", "seen", "GZSL", "s", "waiting for tokens"]
    rows = []
    for name, run in found.items():
        cells = [name, f"{apart(found, name):.1e}", *(f"{value:.2f}" for value in run["map"])]
        rows.append(cells + [f"{run['seconds']:.0f}", f"{100 * run['waiting']:.2f} %"])
    return f"Loss of a step's batch:\n\n{losses}\n\nThe whole training, {epochs}, mAP in percent:\n\n{turns.table(header, rows)}\n"


def plot():
    """Draws the runs given on stdin, in the interpreter with matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "epsilon", "svg.fonttype": "none", "font.size": 9})
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, run), style in zip(json.load(sys.stdin).items(), ("-", "-.", "--", ":")):
        axes.plot(range(1, COMPARED + 1), run["losses"][:COMPARED], style, linewidth=1, label=name)
    axes.set(xlabel="step", ylabel="loss of the step's batch", yscale="log")
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    path = turns.BENCH / "results" / "curve.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    print(f"written to {path.relative_to(turns.ROOT)}")


def main():
    if sys.argv[1:] == ["--plot"]:
        return plot()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("store")
    parser.add_argument("--epochs", type=int, help="in place of the recipe's, where the first steps are what matters")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep tables and plot in bench/results/curve.*")
    args = parser.parse_args()
    if args.write:
        ask_matplotlib("-c", "import matplotlib")
    found = train(args, turns.build("bench_curve"))
    text = tables(found, f"{args.epochs} epochs" if args.epochs else "as many epochs as the recipe says")
    print(text)
    if args.write:
        ask_matplotlib(__file__, "--plot", input=json.dumps(found))
        facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
        head = "# The same training with the framework's operations, fused, and in bf16\n\n"
        head += f"`{args.recipe}`, first seed. Written by `bench/curve.py`.\n\n![Loss](curve.svg)\n\n"
        turns.write("curve.md", f"{head}{text}\n{facts}\n")


if __name__ == "__main__":
    main()
