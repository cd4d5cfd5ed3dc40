"""An evaluation beside scikit-learn's loop over labels, and beside merely sorting the columns. See bench/README.md.

    python3 bench/eval.py [--images 107859] [--columns 1006] [--threads 2] [--rounds 3] [--write]

The interpreter that runs this needs no third-party package; the one of bench/setup_pytorch.sh has scikit-learn.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import turns

OURS = {
    "one": "ours: all labels, one protocol",
    "all": "ours: ZSL, seen and GZSL, seven protocols",
    "mapped": "ours: one protocol, tables memory-mapped",
    "sort": "only the sort of the columns, Rust",
}
PEERS = {"scikit-learn": "scikit-learn, label by label", "numpy-sort": "only the sort of the columns, NumPy"}


def programs(args, example, shared):
    sizes = ["--images", str(args.images), "--columns", str(args.columns), "--threads", str(args.threads)]
    peer = [turns.interpreter(), str(turns.BENCH / "peer_eval.py"), *shared, *sizes]
    peer += ["--measured", str(args.measured)]
    subprocess.run([*peer, "--what", "make"], check=True)
    commands = {what: [example, *shared, *sizes, "--what", what] for what in OURS}
    commands["scikit-learn"] = [*peer, "--what", "scikit-learn"]
    commands["numpy-sort"] = [*peer, "--what", "sort"]
    return commands


def measure(commands, rounds):
    """Each program's answers. One program is in memory at a time: six copies of the tables are more than many
    machines have. A program's first run warms it up."""
    answers = {what: [] for what in commands}
    for index in range(rounds):
        for what in commands if index % 2 == 0 else reversed(commands):
            with turns.Program(what, commands[what]) as program:
                # The loop of minutes needs no warming up.
                if what != "scikit-learn":
                    program.ask("run")
                answers[what].append(program.ask("run"))
            print(what, answers[what][-1], flush=True)
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=107_859)
    parser.add_argument("--columns", type=int, default=1006)
    parser.add_argument("--measured", type=int, help="columns that scikit-learn measures, its time scaled to all [all]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="also 125,436 x 7,586, values computed when read")
    parser.add_argument("--write", action="store_true", help="keep the table in bench/results/eval.md")
    args = parser.parse_args()
    args.measured = args.measured or args.columns
    before = turns.load()
    example = turns.build("bench_eval")
    turns.pin(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        shared = ["--scores", str(Path(folder) / "scores.f32"), "--labels", str(Path(folder) / "labels.i8")]
        answers = measure(programs(args, example, shared), args.rounds)
    if args.measured == args.columns:
        maps = {what: given[-1]["map"] for what, given in answers.items() if given[-1]["map"] is not None}
        if max(maps.values()) - min(maps.values()) > 1e-9:
            raise SystemExit(f"the mAP differ: {maps}")
    times = {what: [answer["seconds"] for answer in given] for what, given in answers.items()}
    times["scikit-learn"] = [seconds * args.columns / args.measured for seconds in times["scikit-learn"]]
    scores_mb = args.images * args.columns * 4 / 1e6
    rows = []
    for what, name in (OURS | PEERS).items():
        peak = max(answer["peak_rss_mb"] for answer in answers[what])
        row = [name, turns.seconds(times[what])]
        row += [turns.ratio(times[what], times[peer]) for peer in ("scikit-learn", "sort", "numpy-sort")]
        rows.append([*row, f"{peak:.0f}", f"{peak / scores_mb:.2f}"])
    header = ["", "s", "/ scikit-learn", "/ sort, Rust", "/ sort, NumPy", "peak MB", "peak / scores"]
    table = turns.table(header, rows)
    text = f"{args.images:,} x {args.columns:,} scores ({scores_mb:.0f} MB as f32)\n\n{table}\n"
    if args.large:
        text += f"\n{large(args, example)}\n"
    print(text)
    if args.write:
        facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
        scaled = "" if args.measured == args.columns else f", of {args.measured} columns, scaled to all"
        head = (
            f"# Evaluation\n\n{args.threads} threads (scikit-learn's loop has one{scaled}), {args.rounds} rounds. Written by "
            "`bench/eval.py`; `bench/README.md` says what is compared.\n\n"
        )
        turns.write("eval.md", f"{head}{text}\n{facts}\n- peer: {versions()}\n- load before the run: {before}\n")


def large(args, example):
    """The size of Open Images, streamed: one line."""
    images, columns = 125_436, 7586
    command = [example, "--images", str(images), "--columns", str(columns), "--threads", str(args.threads)]
    with turns.Program("made", [*command, "--what", "made"]) as program:
        answer = program.ask("run")
    scores = images * columns * 4 / 1e6
    return (
        f"{images:,} x {columns:,} scores ({scores:.0f} MB as f32), computed when read, never held whole: "
        f"{answer['seconds']:.1f} s, one run, peak {answer['peak_rss_mb']:.0f} MB."
    )


def versions():
    code = "import sklearn, numpy; print('scikit-learn', sklearn.__version__ + ', NumPy', numpy.__version__)"
    return turns.output(turns.interpreter(), "-c", code)


if __name__ == "__main__":
    main()
