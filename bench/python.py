"""The Python package beside scikit-learn, torchmetrics, the Rust library and Pillow. See bench/README.md.

    python3 bench/python.py [--images 107859] [--columns 1006] [--threads 2] [--rounds 3] [--model MODEL --photos FOLDER] [--write]

Builds the package's wheel and installs it in the environment of bench/setup_pytorch.sh, unless `--installed` says that it is there.
The parts about photographs need a model and a folder of photographs, such as `epsilon quickstart` makes.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import turns

AVERAGE_PRECISION = {
    "ours": "ours, labels in int8",
    "ours-int64": "ours, labels in int64",
    "scikit-learn": "scikit-learn, labels in int8",
    "torchmetrics": "torchmetrics, labels in int64",
    "torchmetrics-unchecked": "torchmetrics, `validate_args=False`",
}


def install():
    """Builds the wheel and installs it."""
    with tempfile.TemporaryDirectory() as folder:
        crate = turns.ROOT / "crates/epsilon-python/Cargo.toml"
        build = ["-m", "maturin", "build", "--release", "--locked", "--manifest-path", str(crate), "--out", folder]
        subprocess.run([turns.interpreter(), *build], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(wheel)]
        subprocess.run([turns.interpreter(), *pip], check=True)


def peer(args, what, *more):
    return [turns.interpreter(), str(turns.BENCH / "peer_python.py"), "--threads", str(args.threads), "--what", what, *map(str, more)]


def measure(commands, rounds):
    """Each program's answers, one program in memory at a time; the order is reversed every other round."""
    answers = {what: [] for what in commands}
    for index in range(rounds):
        for what in commands if index % 2 == 0 else reversed(commands):
            with turns.Program(what, commands[what]) as program:
                # The others warm up on a part of the tables: the whole takes them minutes.
                if what not in AVERAGE_PRECISION:
                    program.ask("run")
                answers[what].append(program.ask("run"))
            print(what, answers[what][-1], flush=True)
    return answers


def rows(answers, names, peers):
    """A row for each program: its time, its ratio to each peer, the peak of its memory."""
    seconds = {what: [answer["seconds"] for answer in given] for what, given in answers.items()}
    for what, name in names.items():
        ratios = [turns.ratio(seconds[what], seconds[peer]) for peer in peers]
        peak = max(answer["peak_rss_mb"] for answer in answers[what])
        yield [name, turns.seconds(seconds[what]), *ratios, f"{peak:.0f}"]


def average_precision(args):
    with tempfile.TemporaryDirectory() as folder:
        shared = ["--scores", Path(folder) / "scores.f32", "--labels", Path(folder) / "labels.i8"]
        shared += ["--images", args.images, "--columns", args.columns]
        make = [turns.interpreter(), str(turns.BENCH / "peer_eval.py"), "--what", "make", "--threads", str(args.threads)]
        subprocess.run([*make, *map(str, shared), "--measured", str(args.columns)], check=True)
        answers = measure({what: peer(args, what, *shared) for what in AVERAGE_PRECISION}, args.rounds)
    maps = {what: given[-1]["map"] for what, given in answers.items()}
    exact = {what: value for what, value in maps.items() if not what.startswith("torchmetrics")}
    # torchmetrics sums in single precision.
    if max(exact.values()) - min(exact.values()) > 1e-9 or max(maps.values()) - min(maps.values()) > 1e-4:
        raise SystemExit(f"the mAP differ: {maps}")
    peers = ["scikit-learn", "torchmetrics", "torchmetrics-unchecked"]
    head = ["", "s", "/ scikit-learn", "/ torchmetrics", "/ torchmetrics, unchecked", "peak MB"]
    scores = args.images * args.columns * 4 / 1e6
    return (
        f"## Average precision\n\n`multilabel_average_precision` (macro) of {args.images:,} x {args.columns:,} scores in f32 "
        f"({scores:.0f} MB), 1 % positive, from NumPy arrays and tensors in memory.\n\n"
        f"{turns.table(head, rows(answers, AVERAGE_PRECISION, peers))}\n"
    )


def photographs(args):
    """One call of `Predictor.rank` beside that of Rust, and extraction of opened pictures beside that of files."""
    photo = sorted(args.photos.iterdir())[0]
    shared = ["--model", args.model, "--photo", photo, "--calls", args.calls]
    rust = [turns.build("bench_rank"), *map(str, shared), "--threads", str(args.threads)]
    names = {"python": "`Predictor.rank`, Python", "rust": "`Predictor::rank`, Rust"}
    answers = measure({"python": peer(args, "rank", *shared), "rust": rust}, args.rounds)
    head = ["", "s", "/ Rust", "peak MB"]
    text = (
        f"\n## One call\n\n{args.calls} calls of `rank` with one photograph's bytes and the model's own labels, one after the other.\n\n"
        f"{turns.table(head, rows(answers, names, ['rust']))}\n"
    )
    names = {"extract-pillow": "pictures that Pillow opened", "extract-files": "files"}
    shared = ["--photos", args.photos, "--backbone", args.backbone]
    answers = measure({what: peer(args, what, *shared) for what in names}, args.rounds)
    head = ["", "s", "/ files", "peak MB"]
    text += (
        f"\n## Extraction\n\n{len(list(args.photos.iterdir()))} photographs with {args.backbone}; Pillow decodes within the time.\n\n"
        f"{turns.table(head, rows(answers, names, ['extract-files']))}\n"
    )
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=107_859)
    parser.add_argument("--columns", type=int, default=1006)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a model; with --photos also the parts about photographs")
    parser.add_argument("--photos", type=Path, help="a folder of photographs and nothing else")
    parser.add_argument("--backbone", default="scenes-vit", help="the backbone that extracts them")
    parser.add_argument("--calls", type=int, default=200, help="calls of rank in a turn")
    parser.add_argument("--installed", action="store_true", help="take the package that the environment has")
    parser.add_argument("--write", action="store_true", help="keep the tables in bench/results/python.md")
    args = parser.parse_args()
    if (args.model is None) != (args.photos is None):
        parser.error("--model and --photos go together")
    before = turns.load()
    if not args.installed:
        install()
    turns.pin(args.threads)
    text = average_precision(args)
    if args.model is not None:
        text += photographs(args)
    print(text)
    if args.write:
        facts = turns.machine(versions())
        head = (
            f"# The Python package\n\n{args.threads} threads, {args.rounds} rounds. Written by `bench/python.py`; "
            "`bench/README.md` says what is compared.\n\n"
        )
        turns.write("python.md", f"{head}{text}\n{facts}\n- load before the run: {before}\n")


def versions():
    code = (
        "import numpy, sklearn, torch, torchmetrics; print(f'scikit-learn {sklearn.__version__}, torchmetrics "
        "{torchmetrics.__version__}, PyTorch {torch.__version__}, NumPy {numpy.__version__}')"
    )
    return turns.output(turns.interpreter(), "-c", code)


if __name__ == "__main__":
    main()
