"""Times extraction, JPEG files to a token store, ours against PyTorch eager, in turn, in one run. See bench/README.md.

    python3 bench/extract.py [--images 512] [--rounds 9] [--threads 2] [--write]

Needs no third-party package itself; PyTorch's interpreter is $EPSILON_BENCH_PYTHON or what bench/setup_pytorch.sh made.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import turns

DATA = turns.ROOT.parent / "shared" / "data"
# Largest difference allowed between our tokens and those in double precision of the same pixels.
TOLERANCE = 1e-3


def check(ours, peer, folder):
    """Ours must make the tokens that the same pixels have in double precision; the rest is only reported."""
    ours.ask(f"check {folder}")
    found = peer.ask(f"check {folder}")
    line = (
        f"{found['images']} photographs compared. Tokens of the same pixels, largest difference from double precision "
        f"(values up to {found['size']:.0f}): ours {found['ours']:.1e}, PyTorch {found['peer']:.1e}. Pixels, two JPEG "
        f"decoders and two resizers: {found['pixels_mean']:.2f} of 255 in the mean, {found['pixels_max']:.0f} at most, "
        f"which moves the tokens by {found['files_mean']:.1e} in the mean."
    )
    if not found["ours"] <= TOLERANCE:
        raise SystemExit(f"{line}\nours differ by more than {TOLERANCE}")
    return line


def measure(args, example, photos):
    """The check's line and the answers of both programs, by name."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        photo_list = folder / "photos.txt"
        photo_list.write_text("".join(f"{path}\n" for path in photos))
        shared = ["--weights", str(args.weights), "--list", str(photo_list)]
        shared += ["--batch", str(args.batch), "--threads", str(args.threads), "--serve"]

        def turn(program):
            store = folder / program.name
            answer = program.ask(f"run {store}")
            shutil.rmtree(store)
            return answer

        ours = turns.Program("ours", [example, *shared])
        peer = turns.Program("PyTorch", [turns.interpreter(), str(turns.BENCH / "peer_extract.py"), *shared])
        with ours, peer:
            # Peaks are those of the timed work: they are read before the check, which holds pixels besides.
            turns.rounds([ours, peer], 1, turn)
            answers = turns.rounds([ours, peer], args.rounds, turn)
            return check(ours, peer, folder), answers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=DATA / "corel5k/train", help="folder of JPEG files")
    parser.add_argument("--weights", type=Path, default=DATA / "backbones/deit_tiny_patch16_224.safetensors")
    parser.add_argument("--images", type=int, default=512, help="photographs a round")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="keep the table in bench/results/extract.md")
    args = parser.parse_args()
    for path in (args.photos, args.weights):
        if not path.exists():
            print(f"skipped: {path} is missing")
            return
    photos = sorted(path.resolve() for path in args.photos.iterdir() if path.suffix in (".jpg", ".jpeg"))[: args.images]
    if len(photos) < args.images:
        sys.exit(f"{args.photos}: {args.images} JPEG files asked for, {len(photos)} found")
    before = turns.load()
    example = turns.build("bench_extract")
    turns.pin(args.threads)
    compared, answers = measure(args, example, photos)
    times = {name: [answer["seconds"] for answer in given] for name, given in answers.items()}
    peaks = {name: given[-1]["peak_rss_mb"] for name, given in answers.items()}
    header = ["backbone", "ours s", "PyTorch s", "ours / PyTorch", "ours peak MB", "PyTorch peak MB"]
    cells = [args.weights.stem, turns.seconds(times["ours"]), turns.seconds(times["PyTorch"])]
    cells += [turns.ratio(times["ours"], times["PyTorch"]), f"{peaks['ours']:.0f}", f"{peaks['PyTorch']:.0f}"]
    table = turns.table(header, [cells])
    print(table, compared, sep="\n\n")
    if args.write:
        facts = f"{turns.machine(answers['PyTorch'][-1]['torch'])}\n- load before the run: {before}"
        text = (
            f"# Extraction, JPEG to tokens\n\n{args.images} photographs, batch {args.batch}; {args.threads} threads, "
            f"{args.rounds} rounds. Written by `bench/extract.py`; `bench/README.md` says what is compared.\n\n"
            f"{table}\n\n{compared}\n\n{facts}\n"
        )
        turns.write("extract.md", text)


if __name__ == "__main__":
    main()
