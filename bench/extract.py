"""Times extraction, JPEG files to a token store, ours against PyTorch and ONNX Runtime, in turn, in one run. See
bench/README.md.

    python3 bench/extract.py [--backbone vit-b16|deit-tiny] [--precision f32,bf16,int8] [--cpu LEVEL] [--images 64] [--rounds 5] [--write]

Needs no third-party package itself; the peers' interpreter is $EPSILON_BENCH_PYTHON or what bench/setup_pytorch.sh made.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import processor
import turns

DATA = turns.ROOT.parent / "shared" / "data"
PEER = str(turns.BENCH / "peer_extract.py")
# Largest difference allowed between our f32 tokens and those in double precision of the same pixels.
TOLERANCE = 1e-3
# Smallest mean cosine allowed between our tokens and those in double precision of the same pixels.
COSINES = {"f32": 0.999999, "bf16": 0.999, "int8": 0.99}
# Width and depth, for the count of operations; 224 pixels, patches of 16, a hidden layer of four widths.
SHAPES = {"vit-b16": (768, 12), "deit-tiny": (192, 12)}


def operations(backbone):
    """Floating-point operations of the products of one image."""
    dim, depth = SHAPES[backbone]
    rows = 197
    block = rows * 12 * dim**2 + 2 * rows**2 * dim
    return 2 * (196 * 768 * dim + depth * block)


def weight_file(args, folder):
    """The backbone's weights: published ones where there are some, else drawn ones."""
    if args.backbone == "deit-tiny":
        return DATA / "backbones/deit_tiny_patch16_224.safetensors"
    path = folder / "vit-b16.safetensors"
    subprocess.run([turns.interpreter(), PEER, "--make", str(path)], check=True)
    return path


def programs(args, cpu, weights, photo_list, folder):
    """All that take turns: name to command."""
    shared = ["--list", str(photo_list), "--batch", str(args.batch), "--threads", str(args.threads), "--serve"]
    example = turns.build("bench_extract")
    found = {}
    for precision in args.precision:
        found[f"ours {precision}"] = [example, "--weights", str(weights), "--precision", precision, *shared]
    peer = [turns.interpreter(), PEER]
    for precision in ["f32"] + ["bf16"] * cpu.has_bf16():
        found[f"PyTorch {precision}"] = [*peer, "--weights", str(weights), "--precision", precision, *shared]
    model = folder / "model.onnx"
    subprocess.run([*peer, "--weights", str(weights), "--export", str(model)], check=True, stdout=subprocess.DEVNULL)
    found[cpu.onnx()] = [*peer, "--weights", str(model), "--engine", "onnxruntime", *shared]
    if "int8" in args.precision:
        quantized = folder / "model-int8.onnx"
        subprocess.run([*peer, "--weights", str(model), "--quantize", str(quantized)], check=True, stdout=subprocess.DEVNULL)
        found[cpu.onnx("int8")] = [*peer, "--weights", str(quantized), "--engine", "onnxruntime", *shared]
    return found


def measure(args, cpu, photos):
    """The check's answer, the rates of products, and the answers of all programs, by name."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        folder = Path(folder)
        photo_list = folder / "photos.txt"
        photo_list.write_text("".join(f"{path}\n" for path in photos))
        commands = programs(args, cpu, weight_file(args, folder), photo_list, folder)
        turns.pin(args.threads)
        started = {name: stack.enter_context(turns.Program(name, command)) for name, command in commands.items()}

        def turn(program):
            store = folder / program.name.replace(" ", "-")
            answer = program.ask(f"run {store}")
            shutil.rmtree(store)
            return answer

        # Peaks are those of the timed work: they are read before the check, which holds pixels besides.
        turns.rounds(list(started.values()), 1, turn)
        answers = turns.rounds(list(started.values()), args.rounds, turn)
        pair = [started["ours f32"], started["PyTorch f32"]]
        rates = turns.rounds(pair, 3, lambda program: program.ask("rate"))
        for name, program in started.items():
            if name.startswith("ours"):
                program.ask(f"check {folder}")
        if quantized := started.get(cpu.onnx("int8")):
            quantized.ask(f"tokens {folder}")
        return started["PyTorch f32"].ask(f"check {folder}"), rates, answers


def timing(args, answers, rates):
    """A row a program, and the sentence on the machine's rate."""
    times = {name: [answer["seconds"] for answer in given] for name, given in answers.items()}
    gflops = {name: max(rate["gflops"] for rate in given) for name, given in rates.items()}
    best = max(gflops.values())
    peers = [name for name in times if not name.startswith("ours")]
    rows = []
    for name, seconds in times.items():
        rate = args.images / statistics.median(seconds)
        share = rate * operations(args.backbone) / 1e9 / best
        row = [name, turns.seconds(seconds), f"{rate:.1f}", *(turns.ratio(seconds, times[peer]) for peer in peers)]
        rows.append([*row, f"{100 * share:.0f} %", f"{answers[name][-1]['peak_rss_mb']:.0f}"])
    header = ["", "s", "images/s", f"time / {peers[0]}", *(f"/ {peer}" for peer in peers[1:]), "of f32 products", "peak MB"]
    line = (
        f"f32 products of 2048 x 2048 matrices in the same run: {gflops['ours f32']:.0f} GFLOP/s through the `gemm` crate, "
        f"{gflops['PyTorch f32']:.0f} in PyTorch. `of f32 products` is the share of the higher that the products of the "
        f"network ({operations(args.backbone) / 1e9:.1f} GFLOP an image) reach over the whole time, decoding and "
        "writing included."
    )
    return f"{turns.table(header, rows)}\n\n{line}"


def agreement(args, found):
    """Cosines and differences; stops when ours are too far off."""
    rows = [
        [name, f"{mean:.6f}", f"{low:.6f}", f"{found['largest'][name]:.1e}"]
        for name, (mean, low) in found["cosine"].items()
    ]
    table = turns.table(["tokens against double precision", "mean cosine", "smallest", "largest difference"], rows)
    text = (
        f"{found['images']} photographs, the same pixels; values up to {found['size']:.0f}.\n\n{table}\n\n"
        f"Pixels, two JPEG decoders and two resizers: {found['pixels_mean']:.2f} of 255 in the mean, "
        f"{found['pixels_max']:.0f} at most, which moves the tokens by {found['files_mean']:.1e} in the mean."
    )
    for precision in args.precision:
        name = f"ours {precision}"
        if not found["cosine"][name][0] >= COSINES[precision]:
            raise SystemExit(f"{text}\n{name}: the mean cosine is below {COSINES[precision]}")
    if not found["largest"]["ours f32"] <= TOLERANCE:
        raise SystemExit(f"{text}\nours in f32 differ by more than {TOLERANCE}")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=SHAPES, default="vit-b16")
    parser.add_argument("--precision", type=lambda text: text.split(","), help="ours, f32 among them [all that this CPU has]")
    processor.add_argument(parser)
    parser.add_argument("--photos", type=Path, default=DATA / "corel5k/train", help="folder of JPEG files")
    parser.add_argument("--images", type=int, default=64, help="photographs a round")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the tables in bench/results/extract-BACKBONE-CPU.md")
    args = parser.parse_args()
    cpu = processor.Processor(args.cpu)
    args.precision = args.precision or cpu.precisions()
    cpu.check(args.precision)
    if not args.photos.exists() or not (DATA / "backbones").exists():
        print("skipped: ../shared/data is missing")
        return
    photos = sorted(path.resolve() for path in args.photos.iterdir() if path.suffix in (".jpg", ".jpeg"))[: args.images]
    if len(photos) < args.images:
        sys.exit(f"{args.photos}: {args.images} JPEG files asked for, {len(photos)} found")
    before = turns.load()
    found, rates, answers = measure(args, cpu, photos)
    text = f"{timing(args, answers, rates)}\n\n{agreement(args, found)}"
    print(text)
    if args.write:
        peers = [answers[name][-1]["version"] for name in ("PyTorch f32", cpu.onnx())]
        facts = f"{turns.machine(', '.join(peers))}{cpu.facts()}\n- load before the run: {before}"
        kind = "random weights" if args.backbone == "vit-b16" else "published weights"
        head = (
            f"# Extraction, JPEG to tokens: {args.backbone}, {kind}\n\n{args.images} photographs, batch {args.batch}; "
            f"{args.threads} threads, {args.rounds} rounds. Written by `bench/extract.py`; `bench/README.md` says what is "
            "compared.\n\n"
        )
        turns.write(f"extract-{args.backbone}-{cpu.slug()}.md", f"{head}{text}\n\n{facts}\n")


if __name__ == "__main__":
    main()
