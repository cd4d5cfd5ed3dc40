"""Times one training step of Epsilon, ours against PyTorch eager, in turn, in one run. See bench/README.md.

    python3 bench/step.py [--batch 96] [--dims 192,384,768] [--rounds 9] [--threads 2] [--cpu LEVEL] [--compile] [--write]

Needs no third-party package itself; PyTorch's interpreter is $EPSILON_BENCH_PYTHON or what bench/setup_pytorch.sh made.
"""

import argparse
import contextlib
import sys

import processor
import turns


def measure(args, example, batch, dim):
    """The answers of every program, by name."""
    shared = ["--batch", batch, "--dim", dim, "--tokens", args.tokens, "--groups", args.groups, "--labels", args.labels]
    shared += ["--threads", args.threads, "--warmup", args.warmup, "--serve"]
    shared = [str(word) for word in shared]
    commands = {"ours": [example, *shared]}
    for form in args.forms:
        commands[form] = [turns.interpreter(), str(turns.BENCH / "peer_step.py"), "--form", form, *shared]
    with contextlib.ExitStack() as stack:
        programs = []
        for name, command in commands.items():
            program = stack.enter_context(turns.Program(name, command))
            # The answer to the first line says that the warm-up is over, so no two programs ever work at once.
            program.ask("run")
            programs.append(program)
        return turns.rounds(programs, args.rounds, lambda program: program.ask("run"))


def row(args, batch, dim, answers):
    times = {name: [answer["seconds"][0] for answer in given] for name, given in answers.items()}
    cells = [f"{batch}, {dim}", turns.seconds(times["ours"])]
    for form in args.forms:
        cells += [turns.seconds(times[form]), turns.ratio(times["ours"], times[form])]
    return cells + [f"{given[-1]['peak_rss_mb']:.0f}" for given in answers.values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=turns.numbers, default=[96], help="images a step, such as 16,96")
    parser.add_argument("--dims", type=turns.numbers, default=[192, 384, 768], help="token widths D")
    parser.add_argument("--tokens", type=int, default=196, help="tokens an image")
    parser.add_argument("--groups", type=int, default=8, help="groups M")
    parser.add_argument("--labels", type=int, default=925, help="seen labels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2, help="steps of each program before the first round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    processor.add_argument(parser)
    parser.add_argument("--write", action="store_true", help="keep the table in bench/results/step-CPU.md")
    args = parser.parse_args()
    args.forms = ["straight", "rows"] + ["compile"] * args.compile
    before = turns.load()
    cpu = processor.Processor(args.cpu)
    example = turns.build("bench_step")
    turns.pin(args.threads)

    rows = []
    for batch in args.batch:
        for dim in args.dims:
            answers = measure(args, example, batch, dim)
            rows.append(row(args, batch, dim, answers))
            losses = ", ".join(f"{name} {given[-1]['loss']:.3f}" for name, given in answers.items())
            print(f"batch {batch}, D {dim}: losses {losses}", file=sys.stderr)
    torch = answers["straight"][-1]["torch"]
    header = ["batch, D", "ours s"]
    for form in args.forms:
        header += [f"{form} s", f"ours / {form}"]
    header += [f"{name} peak MB" for name in ("ours", *args.forms)]
    table = turns.table(header, rows)
    print(table)
    if args.write:
        settings = f"N = {args.tokens}, M = {args.groups}, hidden width D/4, {args.labels} labels"
        facts = f"{turns.machine(f'PyTorch {torch}')}{cpu.facts()}\n- load before the run: {before}"
        text = (
            f"# Training step\n\n{settings}; {args.threads} threads, {args.rounds} rounds. Written by `bench/step.py`; "
            f"`bench/README.md` says what is compared.\n\n{table}\n\n{facts}\n"
        )
        turns.write(f"step-{cpu.slug()}.md", text)


if __name__ == "__main__":
    main()
