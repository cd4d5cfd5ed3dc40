"""One photograph to its labels, warm and cold: ours against PyTorch eager and ONNX Runtime, in turn. See bench/README.md.

    python3 bench/latency.py [--backbones deit-tiny,vit-b16] [--threads 2,1] [--rounds 7] [--cold-rounds 5] [--cpu LEVEL] [--write]

Needs no third-party package itself; the peers' interpreter is $EPSILON_BENCH_PYTHON or what bench/setup_pytorch.sh made.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import extract
import processor
import turns

DATA = extract.DATA
PEER = str(turns.BENCH / "peer_latency.py")
# Calls of a turn, so that one lasts about a second.
CALLS = {"deit-tiny": 40, "vit-b16": 6}
# Largest difference allowed between our scores and a peer's: theirs come from another JPEG decoder and resizer.
TOLERANCE = 0.05
# What a peer has to import before it can do anything.
IMPORTS = {"PyTorch": "torch, safetensors.torch", "ONNX Runtime": "onnxruntime"}
RECIPE = """
[data]
table = "labels.tsv"
images = "{data}/corel5k"
seen = "{data}/corel5k/seen.txt"
unseen = "{data}/corel5k/unseen.txt"
vectors = "{data}/words/glove.6B.300d.subset.txt"
[backbone]
weights = "{weights}"
[method]
kind = "ridge"
[evaluation]
protocol = "lesa-nus"
"""


def train(weights, folder, program):
    """A model of the method `ridge` on a few photographs: its map and label vectors are as large as any."""
    lines = (DATA / "corel5k/labels.tsv").read_text().splitlines(keepends=True)
    parts = [[line for line in lines if line.split("\t")[1] == part] for part in ("train", "test")]
    (folder / "labels.tsv").write_text("".join(parts[0][:48] + parts[1][:8]))
    (folder / "recipe.toml").write_text(RECIPE.format(data=DATA, weights=weights))
    command = [program, "train", folder / "recipe.toml", "--out", folder / "run"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "run/seed-1/model.safetensors"


class Case:
    """A backbone's files, and the commands of all programs that take turns, by name."""

    def __init__(self, backbone, cpu, photo, folder):
        self.backbone, self.photo, self.cpu = backbone, str(photo), cpu
        self.program = turns.build("epsilon")
        self.weights = extract.weight_file(argparse.Namespace(backbone=backbone), folder)
        self.onnx = folder / "model.onnx"
        export = [turns.interpreter(), extract.PEER, "--weights", self.weights, "--export", self.onnx]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
        self.model = train(self.weights, folder, self.program)

    def commands(self, threads, calls):
        shared = ["--model", str(self.model), "--photo", self.photo, "--threads", str(threads), "--calls", str(calls)]
        peer = [turns.interpreter(), PEER, *shared]
        return {
            "ours": [turns.build("bench_rank"), *shared],
            "PyTorch": [*peer, "--weights", str(self.weights)],
            self.cpu.onnx(): [*peer, "--weights", str(self.onnx), "--engine", "onnxruntime"],
        }

    def predict(self, threads):
        """The program itself, as a user calls it."""
        return [self.program, "predict", "--model", str(self.model), "--threads", str(threads), "--json", self.photo]


def warm(case, threads, rounds):
    """The answers of programs that are loaded, by name."""
    with ExitStack() as stack:
        commands = case.commands(threads, CALLS[case.backbone])
        programs = [stack.enter_context(turns.Program(name, command)) for name, command in commands.items()]

        def turn(program):
            before = program.cpu_seconds()
            answer = program.ask("run")
            return answer | {"cpu": program.cpu_seconds() - before}

        turns.rounds(programs, 1, turn)
        return turns.rounds(programs, rounds, turn)


def whole(command, line=None):
    """Seconds from a program's start to its end, its output, and its peak memory in 10^6 bytes."""
    time.sleep(turns.PAUSE)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if line:
        process.stdin.write(line)
    process.stdin.close()
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command[0]}: ended with code {process.returncode}")
    return {"seconds": seconds, "output": output, "peak": usage.ru_maxrss * 1024 / 1e6}


def ready(name, command):
    """Seconds from a program's start until it is loaded."""
    time.sleep(turns.PAUSE)
    start = time.perf_counter()
    with turns.Program(name, command) as program:
        program.ask("ready", pause=0)
        return time.perf_counter() - start


def cold(case, threads, rounds):
    """What `whole` says of each program, with `ready` and for the peers `import`, by name."""
    commands = case.commands(threads, 1)
    found = {name: [] for name in commands}
    for index in range(rounds + 1):
        for name in commands if index % 2 == 0 else reversed(commands):
            ours = name == "ours"
            answer = whole(case.predict(threads)) if ours else whole(commands[name], b"run\n")
            answer["ready"] = ready(name, commands[name])
            if not ours:
                modules = next(modules for peer, modules in IMPORTS.items() if name.startswith(peer))
                answer["import"] = whole([turns.interpreter(), "-c", f"import numpy, PIL.Image, {modules}"])["seconds"]
            # The first round is for the page cache.
            if index > 0:
                found[name].append(answer)
    return found


def agreement(answers, predicted):
    """The largest difference of the scores of the labels that are best everywhere; stops where it is too large."""
    labels = json.loads(predicted[-1]["output"])[0]["labels"]
    ours = sorted((label["score"] for label in labels), reverse=True)
    peers = {name: given[-1]["scores"] for name, given in answers.items() if name != "ours"}
    largest = max(abs(a - b) for scores in peers.values() for a, b in zip(ours, scores))
    if largest > TOLERANCE:
        raise SystemExit(f"the scores differ by {largest}: ours {ours}, {peers}")
    return largest


def rows(case, threads, warm_answers, cold_answers):
    """A row of the warm table and one of the cold for each program."""
    calls = CALLS[case.backbone]
    times = {name: [answer["seconds"] / calls for answer in given] for name, given in warm_answers.items()}
    peers = [name for name in times if name != "ours"]
    started = {name: [answer["seconds"] for answer in given] for name, given in cold_answers.items()}
    start = f"{case.backbone}, {threads} thread" + "s" * (threads > 1)
    first, second = [], []
    for name in times:
        ratios = [turns.ratio(times["ours"], times[peer]) if name == peer else "" for peer in peers]
        peak = f"{warm_answers[name][-1]['peak_rss_mb']:.0f}"
        cores = f"{1000 * statistics.median(answer['cpu'] for answer in warm_answers[name]) / calls:.1f}"
        first.append([start, name, f"{1000 * statistics.median(times[name]):.1f}", "".join(ratios), cores, peak])
        given = cold_answers[name]
        middle = lambda key: f"{1000 * statistics.median(answer[key] for answer in given):.0f}" if key in given[0] else ""
        ratio = "" if name == "ours" else turns.ratio(started["ours"], started[name])
        peak = f"{max(answer['peak'] for answer in given):.0f}"
        second.append([start, name, middle("seconds"), ratio, middle("ready"), middle("import"), peak])
    return first, second


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: text.split(",")
    parser.add_argument("--backbones", type=names, default=list(CALLS), help=", ".join(CALLS))
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[2, 1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold-rounds", type=int, default=5)
    parser.add_argument("--photo", type=Path, help="a JPEG file [the first of Corel5k's test photographs]")
    processor.add_argument(parser)
    parser.add_argument("--write", action="store_true", help="keep the tables in bench/results/latency-CPU.md")
    args = parser.parse_args()
    if not set(args.backbones) <= set(CALLS):
        sys.exit(f"--backbones: any of {', '.join(CALLS)}")
    if not (DATA / "corel5k").exists() or not (DATA / "backbones").exists():
        print("skipped: ../shared/data is missing")
        return
    before = turns.load()
    cpu = processor.Processor(args.cpu)
    photo = (args.photo or sorted((DATA / "corel5k/test").iterdir())[0]).resolve()
    tables, largest, peers = ([], []), 0.0, {}
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for backbone in args.backbones:
            (Path(folder) / backbone).mkdir()
            cases.append(Case(backbone, cpu, photo, Path(folder) / backbone))
        # From many cores to few: a process cannot take back those that it gave up.
        for threads in sorted(args.threads, reverse=True):
            turns.pin(threads)
            for case in cases:
                warm_answers = warm(case, threads, args.rounds)
                cold_answers = cold(case, threads, args.cold_rounds)
                largest = max(largest, agreement(warm_answers, cold_answers["ours"]))
                for table, more in zip(tables, rows(case, threads, warm_answers, cold_answers)):
                    table.extend(more)
                peers |= {name: given[-1]["version"] for name, given in warm_answers.items() if name != "ours"}
                print(f"{case.backbone}, {threads} threads: done", file=sys.stderr)
    text = report(tables, largest)
    print(text)
    if args.write:
        facts = f"{turns.machine(', '.join(peers.values()))}{cpu.facts()}\n- load before the run: {before}"
        head = (
            f"# Latency of one photograph\n\nFrom the bytes of a JPEG file to ranked labels, in f32; {args.rounds} rounds warm, "
            f"{args.cold_rounds} cold. Written by `bench/latency.py`; `bench/README.md` says what is compared.\n\n"
        )
        turns.write(f"latency-{cpu.slug()}.md", f"{head}{text}\n\n{facts}\n")


def report(tables, largest):
    warm_table = turns.table(["warm", "", "ms", "ours / it", "CPU ms", "peak MB"], tables[0])
    header = ["cold, the whole process", "", "ms", "ours / it", "until loaded, ms", "imports alone, ms", "peak MB"]
    cold_table = turns.table(header, tables[1])
    return (
        f"{warm_table}\n\n{cold_table}\n\nThe scores of the best labels differ by {largest:.4f} at most from a peer's, which decodes and "
        "resizes by Pillow."
    )


if __name__ == "__main__":
    main()
