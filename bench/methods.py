"""Times a training step of six methods, ours against PyTorch eager, in turn, in one run. See bench/README.md.

    python3 bench/methods.py [--methods lesa,cnn-rnn] [--batch 16] [--dims 192,384] [--rounds 9] [--threads 2] [--cpu avx2] [--write]
    python3 bench/methods.py --roofline [the same]       # beside the least time that this machine's products allow
    python3 bench/methods.py --check                     # loss and gradients of the PyTorch side, against the twins

Needs no third-party package itself; PyTorch's interpreter is $EPSILON_BENCH_PYTHON or what bench/setup_pytorch.sh made.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
from dataclasses import dataclass

import processor
import turns

METHODS = ("biam", "ml2p-encoder", "lesa", "bilinear-attention", "gen-mlzsl", "cnn-rnn")
# Labels of an image, on average, and the most: those of the random batches.
POSITIVES, MOST_POSITIVES = 3.5, 6
CRITIC_STEPS = 5


@dataclass(frozen=True)
class Sizes:
    batch: int
    tokens: int
    dim: int
    labels: int
    label_dim: int

    def arguments(self, kind):
        # Gen-MLZSL has a batch of its own; the others take the training's.
        method = {"kind": kind} | ({"batch": self.batch} if kind == "gen-mlzsl" else {})
        named = {"--method": json.dumps(method), "--batch": self.batch, "--tokens": self.tokens, "--dim": self.dim}
        named |= {"--labels": self.labels, "--label-dim": self.label_dim}
        return [str(word) for pair in named.items() for word in pair]


def trained(m, k, n):
    """A product `[m, k] [k, n]` whose factors both have a gradient, forward and backward."""
    return 6 * m * k * n


def frozen(m, k, n):
    """One of whose factors only one has a gradient."""
    return 4 * m * k * n


def operations(kind, s):
    """Floating-point operations of the matrix products and convolutions of a step, stage by stage, none computed twice."""
    b, n, d, c, w = s.batch, s.tokens, s.dim, s.labels, s.label_dim
    rows = b * n
    if kind == "biam":
        channels, best = 256, 6
        return {
            "entry convolution": frozen(rows, 9 * d, channels),
            "region, four maps": 4 * trained(rows, channels, channels),
            "region, attention": 2 * trained(rows, channels, n),
            "region, MLP": 2 * trained(rows, channels, 2 * channels),
            "scene, value and gate": trained(rows, channels, channels) + frozen(b, d, channels),
            "scene, convolution": trained(rows, 9 * channels, channels),
            "fusion": trained(rows, 2 * channels, channels),
            # Only the best matches have a gradient.
            "labels and matches": frozen(c, w, channels) + 2 * rows * channels * c + 4 * b * best * channels * c,
        }
    if kind == "ml2p-encoder":
        groups = 7
        return {
            "groups": frozen(rows, d, groups * w),
            "attention, map": groups * trained(rows, w, 3 * w),
            "attention, window": trained(rows, 9, groups * 3 * w),
            "attention of channels": 2 * b * groups * trained(w, n, w),
            "mixer, tokens": 2 * b * groups * trained(w, n, n),
            "mixer, channels": 2 * groups * trained(rows, w, w),
            "query, key, scores": 4 * b * trained(groups, w, w) + frozen(b * groups, w, c),
        }
    if kind == "lesa":
        attentions, windows = 10, (int(n**0.5) - 1) ** 2
        return {
            "convolution": frozen(b * windows, 4 * d, d),
            "attention, hidden": trained(b * windows, d, d),
            "attention, logits and sums": 2 * trained(b * windows, d, attentions),
            "scores": trained(b * (attentions + 1), d, w) + frozen(b * (attentions + 1), w, c),
        }
    if kind == "bilinear-attention":
        rank = 512
        apart, folded = frozen(rows, d, w) + frozen(rows, w, c), frozen(c, w, d) + frozen(rows, d, c)
        return {
            "tokens and labels": frozen(rows, d, rank) + frozen(c, w, rank),
            "logits": trained(rows, rank, c),
            "values": min(apart, folded),
        }
    if kind == "gen-mlzsl":
        hidden, t = 4096, POSITIVES * b
        # Forward, of one image drawn: the two networks, the four maps and the network of the fusion.
        drawn = 2 * (b + t) * (2 * w * hidden + hidden * d) + 2 * (2 * b) * (4 * d * d + 2 * hidden * d)
        encoder = 2 * b * ((d + w) * hidden + 2 * hidden * w)
        judged = 2 * b * (d + w) * hidden
        return {
            "critic, images drawn": CRITIC_STEPS * drawn,
            # Three judgements, of which two have a gradient, and the penalty's product with both of its gradients.
            "critic": CRITIC_STEPS * (5 * judged + 3 * 2 * b * hidden * d),
            "generator, two draws": 2 * 3 * drawn,
            "generator, encoder": 3 * encoder,
            "generator, judgement": 2 * judged,
        }
    embedding, hidden, steps = 64, 512, (POSITIVES + 1) * b
    return {
        "lstm": trained(steps, embedding + hidden, 4 * hidden),
        "output and image": trained(steps, hidden, embedding) + frozen(b, d, embedding),
        "symbols": trained(steps, embedding, c + 1),
    }


def updates(kind, s, weights):
    """Weights that a step's optimisers move, each of them as often as it is."""
    if kind != "gen-mlzsl":
        return weights
    critic = (s.dim + s.label_dim + 2) * 4096 + 1
    heads = (s.dim + 1) * (s.labels + 2 * 48)
    return weights - heads + (CRITIC_STEPS - 1) * critic


def started(stack, name, command):
    """A program after its warm-up, which its first answer tells, so that no two programs ever work at once."""
    program = stack.enter_context(turns.Program(name, command))
    program.ask("run")
    return program


def turn(program):
    """The second of two steps in a row, as in a training: allocators give memory back while a program waits for its turn."""
    program.ask("run")
    return program.ask("run", pause=0)


def measure(args, example, kind, sizes):
    """The answers of both programs, by name."""
    words = [*sizes.arguments(kind), "--threads", str(args.threads), "--warmup", str(args.warmup), "--serve"]
    with contextlib.ExitStack() as stack:
        peer = [turns.interpreter(), str(turns.BENCH / "peer_methods.py"), *words]
        programs = [started(stack, "ours", [example, *words]), started(stack, "PyTorch", peer)]
        return turns.rounds(programs, args.rounds, turn)


def compared(args, example, kinds, points):
    rows, torch = [], ""
    for kind in kinds:
        for sizes in points:
            answers = measure(args, example, kind, sizes)
            ours, peer = ([answer["seconds"][0] for answer in given] for given in answers.values())
            rate = [f"{sizes.batch / statistics.median(times):.0f}" for times in (ours, peer)]
            memory = [f"{given[-1]['peak_rss_mb']:.0f}" for given in answers.values()]
            name = f"{kind}, {sizes.batch}, {sizes.dim}"
            rows.append([name, turns.seconds(ours), turns.seconds(peer), turns.ratio(ours, peer), *rate, *memory])
            torch = answers["PyTorch"][-1]["torch"]
    header = ["method, batch, D", "ours s", "PyTorch s", "ours / PyTorch", "ours images/s", "PyTorch images/s"]
    return turns.table(header + ["ours peak MB", "PyTorch peak MB"], rows), torch


def alone(args, example, kind, sizes):
    """Median seconds of our step, the weights it moves, and the limits that the process found."""
    words = [*sizes.arguments(kind), "--threads", str(args.threads), "--warmup", str(args.warmup), "--serve"]
    with contextlib.ExitStack() as stack:
        ours = started(stack, "ours", [example, *words])
        answers = [turn(ours) for _ in range(args.rounds)]
        limits = ours.ask("limits")
    return statistics.median(answer["seconds"][0] for answer in answers), answers[0]["weights"], limits


def roofline(args, example, kinds, points):
    """A table of the steps, each beside the least time, and one of their operations."""
    found = {(kind, sizes): alone(args, example, kind, sizes) for kind in kinds for sizes in points}
    # Other work on the machine only ever slows it down.
    products, copies = (max(limits[name] for *_, limits in found.values()) for name in ("gflops", "gbs"))
    steps, stages = [], []
    for (kind, sizes), (seconds, weights, _) in found.items():
        name, counted = f"{kind}, {sizes.batch}, {sizes.dim}", operations(kind, sizes)
        flop = sum(counted.values())
        # Adam reads a weight, its gradient and two moments, and writes three of them.
        least = [flop / products / 1e9, 4 * 7 * updates(kind, sizes, weights) / copies / 1e9]
        cells = [f"{1e-9 * flop:.2f}", f"{1e3 * seconds:.1f}", f"{1e-9 * flop / seconds:.0f}"]
        steps.append([name, *cells, *(f"{1e3 * part:.1f}" for part in least), f"{sum(least) / seconds:.2f}"])
        stages.append([name, ", ".join(f"{stage} {1e-9 * flop:.2f}" for stage, flop in counted.items())])
    header = ["method, batch, D", "GFLOP", "ms", "GFLOP/s", "least ms, products", "least ms, Adam", "least / ms"]
    limits = f"Limits: products {products:.0f} GFLOP/s, copies {copies:.1f} GB/s."
    by_stage = "\n".join(f"- {name}: {line}" for name, line in stages)
    return f"{limits}\n\n{turns.table(header, steps)}\n\nGFLOP by stage:\n\n{by_stage}"


def texts(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=texts, default=METHODS, help="some of " + ",".join(METHODS))
    parser.add_argument("--batch", type=turns.numbers, default=[16], help="images a step, such as 16,96")
    parser.add_argument("--dims", type=turns.numbers, default=[192, 384], help="token widths D")
    parser.add_argument("--tokens", type=int, default=196, help="tokens an image, a square number")
    parser.add_argument("--labels", type=int, default=194, help="seen labels")
    parser.add_argument("--label-dim", type=int, default=300, help="width of their vectors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2, help="steps of each program before the first round")
    parser.add_argument("--rounds", type=int, default=9)
    processor.add_argument(parser)
    parser.add_argument("--roofline", action="store_true", help="ours alone, beside the least time")
    parser.add_argument("--check", action="store_true", help="compare the PyTorch side with the twins and exit")
    parser.add_argument("--write", action="store_true", help="keep the table in bench/results/methods[-roofline]-CPU.md")
    args = parser.parse_args()
    if args.check:
        peer = [turns.interpreter(), str(turns.BENCH / "peer_methods.py"), "--check"]
        raise SystemExit(subprocess.run(peer).returncode)
    if unknown := set(args.methods) - set(METHODS):
        parser.error(f"--methods {','.join(sorted(unknown))}: some of {','.join(METHODS)}")
    before = turns.load()
    cpu = processor.Processor(args.cpu)
    example = turns.build("bench_methods")
    turns.pin(args.threads)
    points = [Sizes(batch, args.tokens, dim, args.labels, args.label_dim) for batch in args.batch for dim in args.dims]
    if args.roofline:
        table, peer = roofline(args, example, args.methods, points), "none"
    else:
        table, torch = compared(args, example, args.methods, points)
        peer = f"PyTorch {torch}"
    print(table)
    if args.write:
        settings = f"N = {args.tokens}, {args.labels} labels of {args.label_dim} values, the methods' default settings"
        facts = f"{turns.machine(peer)}{cpu.facts()}\n- load before the run: {before}"
        title = "Training steps of six methods" + (", beside the least time" if args.roofline else "")
        text = (
            f"# {title}\n\n{settings}; {args.threads} threads, {args.rounds} rounds. Written by `bench/methods.py"
            f"{' --roofline' * args.roofline}`; `bench/README.md` says what is compared.\n\n{table}\n\n{facts}\n"
        )
        turns.write(f"methods-{'roofline-' * args.roofline}{cpu.slug()}.md", text)


if __name__ == "__main__":
    main()
