"""Several processes under `mpirun` beside one: time, kills, and hosts on a slow network. See docs/scaling.md.

    python3 bench/ranks.py speed [--backbone tiny|small] [--images 5000] [--rounds 3] [--write]
    python3 bench/ranks.py kills [--count 30] [--seed 1]
    python3 bench/ranks.py hosts [--write]        # needs root: network namespaces, `ip` and `tc`
    python3 bench/ranks.py model --step 3.964     # the tables of docs/scaling.md

Builds the program with MPI. `speed` takes photographs of Corel5k (EPSILON_DATA, `../shared/data` where it is not set) and DeiT-Tiny, or a
backbone of DeiT-Small's shape (D = 384) with random weights; the others draw pictures.
"""

import argparse
import array
import json
import math
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import processor
import turns

DATA = Path(os.environ.get("EPSILON_DATA", turns.ROOT / "../shared/data")).resolve()
BACKBONES = {"tiny": "DeiT-Tiny (D = 192)", "small": "a backbone of DeiT-Small's shape (D = 384)"}
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
RESULTS = turns.BENCH / "results"
# Values of Epsilon's gradients at D = 384 and 768 and label vectors of 300 (`parameters` of `epsilon bench`).
SIZES = (1, 1_000, 100_000, 1_000_000, 4_000_000, 16_000_000)

RECIPE = """seeds = [1]
[data]
table = "labels.tsv"
images = "{images}"
seen = "{seen}"
unseen = "{unseen}"
vectors = "{vectors}"
[backbone]
weights = "{weights}"
[method]
kind = "{method}"
[training]
epochs = {epochs}
batch = {batch}
learning-rate = 1e-3
checkpoint-steps = {checkpoints}
[evaluation]
protocol = "lesa-nus"
bootstrap = 0
"""


def program():
    where = ("-p", "epsilon-cli", "--features", "mpi", "--bin", "epsilon")
    return turns.build("epsilon", *where)


def command(ranks, *arguments):
    """The program as one process of two threads, or as so many ranks of one."""
    threads = ["--threads", "2" if ranks == 1 else "1"]
    return ([] if ranks == 1 else [*MPIRUN, "-n", str(ranks)]) + [str(part) for part in arguments] + threads


def timed(line):
    start = time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - start


def small_backbone(path):
    """Random weights of DeiT-Small's shape, from the header of DeiT-Tiny's file: widths are doubled."""
    with open(DATA / "backbones/deit_tiny_patch16_224.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    wider = {192: 384, 576: 1152, 768: 1536}
    source = random.Random(1)
    normal = [source.gauss(0, 0.02) for _ in range(1 << 16)]
    shapes, values, end = {}, [], 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        shape = [wider.get(side, side) for side in tensor["shape"]]
        count = 1
        for side in shape:
            count *= side
        if "norm" in name:
            data = array.array("f", [1.0 if name.endswith("weight") else 0.0]) * count
        else:
            data = array.array("f", map(normal.__getitem__, memoryview(source.randbytes(2 * count)).cast("H")))
        shapes[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * count]}
        values.append(data.tobytes())
        end += 4 * count
    head = json.dumps(shapes).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(values))


def corel(folder, images, backbone):
    """A recipe of some of Corel5k's photographs."""
    if not DATA.exists():
        raise SystemExit(f"{DATA}: no photographs: name their folder in EPSILON_DATA")
    lines = (DATA / "corel5k/labels.tsv").read_text().splitlines(keepends=True)
    every = max(1, len(lines) // images)
    (folder / "labels.tsv").write_text("".join(lines[::every][:images]))
    weights = DATA / "backbones/deit_tiny_patch16_224.safetensors"
    if backbone == "small":
        weights = folder / "backbone.safetensors"
        small_backbone(weights)
    text = RECIPE.format(
        images=DATA / "corel5k", seen=DATA / "corel5k/seen.txt", unseen=DATA / "corel5k/unseen.txt",
        vectors=DATA / "words/glove.6B.300d.subset.txt", weights=weights, method="epsilon", epochs=1, batch=96,
        checkpoints=1000,
    )  # fmt: skip
    (folder / "recipe.toml").write_text(text)


def one_way(epsilon, folder, ranks):
    """Seconds of an extraction, of an image of training, and of an evaluation."""
    out = folder / f"run-{ranks}"
    shutil.rmtree(out, ignore_errors=True)
    recipe = folder / "recipe.toml"
    extraction = timed(command(ranks, epsilon, "extract", recipe, "--out", out))
    timed(command(ranks, epsilon, "train", recipe, "--out", out))
    metrics = json.loads((out / "seed-1/metrics.jsonl").read_text().splitlines()[-1])
    evaluation = timed(command(ranks, epsilon, "eval", out / "seed-1/model.safetensors"))
    figures = json.loads((out / "seed-1/figures.json").read_text())
    return [extraction, 1 / metrics["images_per_second"], evaluation], figures["gzsl"]["map"], metrics["loss"]


def measured(epsilon, folder, ranks):
    """What is said of the model that one process has trained."""
    line = command(ranks, epsilon, "eval", folder / "run-1/seed-1/model.safetensors", "--json")
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def speed(args):
    epsilon = program()
    counts = (1, 2, 4)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        corel(folder, args.images, args.backbone)
        runs = {ranks: [] for ranks in counts}
        for index in range(args.rounds):
            for ranks in counts if index % 2 == 0 else reversed(counts):
                runs[ranks].append(one_way(epsilon, folder, ranks))
                print(index, ranks, runs[ranks][-1][0], flush=True)
        said = {measured(epsilon, folder, ranks) for ranks in counts}
    maps = [100 * figure for all_runs in runs.values() for _, figure, _ in all_runs]
    losses = {loss for all_runs in runs.values() for _, _, loss in all_runs}
    rows = []
    for place, what in enumerate(("extraction, s", "training, s an image", "evaluation, s")):
        times = {ranks: [times[place] for times, _, _ in runs[ranks]] for ranks in counts}
        efficiencies = [turns.ratio(times[1], times[ranks]) for ranks in counts[1:]]
        rows.append([what, *(f"{statistics.median(times[ranks]):.4g}" for ranks in counts), *efficiencies])
    header = ["", "1 process", "2 ranks", "4 ranks", "efficiency of 2", "of 4"]
    text = turns.table(header, rows) + (
        f"\n\n{args.images} photographs of Corel5k, {BACKBONES[args.backbone]}, batch 96, {args.rounds} rounds. One process has two threads, a "
        f"rank one, on two cores. What `eval` says of one model: {'the same' if len(said) == 1 else 'different'}. The models of all runs: loss of "
        f"the epoch within {(max(losses) - min(losses)) / min(losses):.0e}, GZSL mAP {min(maps):.3f} to {max(maps):.3f} percent.\n"
    )
    print(text)
    if args.write:
        name = f"ranks-{args.backbone}-{processor.Processor(None).slug()}.md"
        command = f"python3 bench/ranks.py speed --backbone {args.backbone} --images {args.images} --rounds {args.rounds}"
        (RESULTS / name).write_text(f"# Ranks beside one process\n\n`{command}`, {turns.cpu()[0]}\n\n{text}")
    if len(said) > 1:
        raise SystemExit("ranks say something else of a model than one process")


def drawn(epsilon, folder, method="epsilon", epochs=3):
    """A recipe of drawn scenes."""
    subprocess.run([epsilon, "quickstart", "--out", folder / "drawn"], check=True, capture_output=True)
    found = folder / "drawn/data"
    lines = (found / "labels.tsv").read_text().splitlines(keepends=True)
    (folder / "labels.tsv").write_text("".join(lines[::3]))
    text = RECIPE.format(
        images=found, seen=found / "seen.txt", unseen=found / "unseen.txt", vectors=found / "vectors.txt",
        weights=folder / "drawn/backbone.safetensors", method=method, epochs=epochs, batch=32, checkpoints=2,
    )  # fmt: skip
    (folder / "recipe.toml").write_text(text)


def losses(out):
    lines = (out / "seed-1/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def store(out):
    return {path.name: path.read_bytes() for path in sorted((out / "tokens").iterdir())}


def apart(ours, theirs):
    """The largest relative difference of two courses."""
    assert len(ours) == len(theirs), (ours, theirs)
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def below(pid):
    """The processes that `mpirun` has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def kills(args):
    epsilon = program()
    source = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        drawn(epsilon, folder)
        line = lambda out, ranks: command(ranks, epsilon, "train", folder / "recipe.toml", "--resume", "--out", folder / out)
        whole = timed(line("whole", 2))
        expected, tokens = losses(folder / "whole"), store(folder / "whole")
        stages, worst = {"extraction": 0, "training": 0, "end": 0}, 0.0
        for number in range(args.count):
            out = folder / f"killed-{number}"
            job = subprocess.Popen(line(out.name, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(source.uniform(0.05, whole))
            stage = "extraction" if not (out / "seed-1").exists() else "training"
            ranks = below(job.pid)
            if ranks and job.poll() is None:
                os.kill(source.choice(ranks), signal.SIGKILL)
            else:
                stage = "end"
            job.wait(timeout=60)
            stages[stage] += 1
            # By the same number of ranks, which sum in the same order; three sum in another, which the tests look at.
            subprocess.run(line(out.name, 2), check=True, capture_output=True)
            worst = max(worst, apart(losses(out), expected))
            if store(out) != tokens:
                raise SystemExit(f"{out}: other tokens")
            shutil.rmtree(out)
    said = ", ".join(f"{count} in {stage}" for stage, count in stages.items())
    print(f"{args.count} kills ({said}): the tokens are the same bytes, the losses at most {worst:.1e} apart")
    if worst > 1e-5:
        raise SystemExit("the losses are further apart than 1e-5")


# Hosts that are network namespaces, on a bridge, each with a link of so many bits a second.
AGENT = '#!/bin/sh\nhost=$1\nshift\nexec ip netns exec "epsilon${host##*.}" /bin/sh -c "$*"\n'
HOSTS = range(1, 5)


def ip(*arguments, **options):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, **options)


def take_down():
    for host in HOSTS:
        # A namespace takes its links along only after a while.
        subprocess.run(["ip", "link", "del", f"epsilon-v{host}"], capture_output=True)
        subprocess.run(["ip", "netns", "del", f"epsilon{host}"], capture_output=True)
    subprocess.run(["ip", "link", "del", "epsilon-br"], capture_output=True)


def put_up(rate):
    take_down()
    ip("link", "add", "epsilon-br", "type", "bridge")
    ip("link", "set", "epsilon-br", "up")
    for host in HOSTS:
        space, link = f"epsilon{host}", f"epsilon-v{host}"
        ip("netns", "add", space)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", link, "master", "epsilon-br", "up")
        ip("-n", space, "addr", "add", f"10.77.0.{host}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", space, "link", "set", "lo", "up")
        shaping = ["root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"]
        subprocess.run(["tc", "qdisc", "add", "dev", link, *shaping], check=True)
        subprocess.run(["ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", "eth0", *shaping], check=True)


def across(folder, hosts, *arguments):
    """A command line of one rank on each of the hosts."""
    names = ",".join(f"10.77.0.{host}" for host in hosts)
    settings = {
        "plm_rsh_agent": folder / "agent.sh", "orte_keep_fqdn_hostnames": 1, "btl": "tcp,self", "btl_tcp_if_include": "eth0",
        "oob_tcp_if_include": "eth0", "oob_tcp_keepalive_time": 10, "oob_tcp_keepalive_intvl": 5, "oob_tcp_keepalive_probes": 6,
    }  # fmt: skip
    mca = [str(part) for name, value in settings.items() for part in ("--mca", name, value)]
    first = ["ip", "netns", "exec", f"epsilon{hosts[0]}", *MPIRUN, *mca, "--host", names, "-n", str(len(hosts))]
    return first + [str(part) for part in arguments]


def sums(line):
    lines = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout.splitlines()
    return [json.loads(line)["seconds"] for line in lines]


def network(folder):
    """How long sums take, on one machine's memory and between hosts."""
    where = ("-p", "epsilon-zsl", "--features", "mpi", "--example", "allreduce")
    allreduce = turns.build("allreduce", *where)
    rows = []
    for ranks in (2, 4):
        rows.append([f"{ranks} ranks, shared memory", *sums([*MPIRUN, "-n", str(ranks), allreduce, *map(str, SIZES)])])
    for rate in ("1gbit", "10gbit"):
        put_up(rate)
        for hosts in ([1, 2], [1, 2, 3, 4]):
            rows.append([f"{len(hosts)} hosts, {rate}", *sums(across(folder, hosts, allreduce, *SIZES))])
            print(*rows[-1], flush=True)
    milliseconds = [[name, *(f"{1000 * value:.3g}" for value in values)] for name, *values in rows]
    return turns.table(["ms for so many values", *(f"{size:,}" for size in SIZES)], milliseconds)


def cut(epsilon, folder):
    """A job across four hosts, one of which is cut off while it trains; then the rest of it on three."""
    drawn(epsilon, folder, epochs=40)
    train = lambda out: [epsilon, "train", folder / "recipe.toml", "--resume", "--threads", "1", "--out", folder / out]
    put_up("1gbit")
    subprocess.run(across(folder, [1, 2, 3, 4], *train("whole")), check=True, capture_output=True)
    job = subprocess.Popen(across(folder, [1, 2, 3, 4], *train("cut")), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    metrics = folder / "cut/seed-1/metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
        if job.poll() is not None:
            raise SystemExit(f"the job ended before it was cut: {job.stderr.read()}")
        time.sleep(0.02)
    ip("link", "set", "epsilon-v3", "down")
    start = time.monotonic()
    _, said = job.communicate(timeout=120)
    seconds = time.monotonic() - start
    for pid in subprocess.run(["ip", "netns", "pids", "epsilon3"], capture_output=True, text=True).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    done = len(metrics.read_text().splitlines())
    subprocess.run(across(folder, [1, 2, 4], *train("cut")), check=True, capture_output=True)
    difference = apart(losses(folder / "cut"), losses(folder / "whole"))
    message = next((line for line in said.splitlines() if "lost" in line or "not answered" in line), said)
    return (
        f"One of four hosts was cut off after epoch {done} of 40: the job ended {seconds:.0f} s later, with exit status "
        f"{job.returncode} and \"{message.strip()}\". Resumed on the other three it came to its end, with losses within "
        f"{difference:.1e} of those of the undisturbed job."
    )


def hosts(args):
    epsilon = program()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "agent.sh").write_text(AGENT)
        (folder / "agent.sh").chmod(0o755)
        try:
            text = network(folder) + "\n\n" + cut(epsilon, folder) + "\n"
        finally:
            take_down()
    print(text)
    if args.write:
        (RESULTS / f"hosts-{processor.Processor(None).slug()}.md").write_text(f"# Sums over ranks\n\n`python3 bench/ranks.py hosts`\n\n{text}")


# What a step of Epsilon's head at D = 768 has to sum: M = 8 groups, hidden width D/4, label vectors of 300 values.
WIDTH, GROUPS, LABEL = 768, 8, 300
GRADIENTS = (
    GROUPS * (WIDTH * WIDTH + 2 * WIDTH * WIDTH // 4)  # GFP's split and its two layers
    + (3 + 1 + 8) * WIDTH * WIDTH  # the encoder's block
    + 3 * WIDTH * WIDTH  # GPA's query, key and value
    + 2 * WIDTH * LABEL  # the fuser
)
BATCH = 96
MACHINES = (1, 2, 4, 8, 16, 32, 64, 96, 256, 1000)
# Tokens of an image in half precision, 196 and the class token.
IMAGE = 197 * WIDTH * 2


def step_seconds(machines, batch, args, gigabits):
    """A step of `batch` images on a machine each: compute, then a ring's sum of the gradients."""
    compute = args.step * batch / BATCH
    link = gigabits * 1e9 / 8 * args.link
    messages = 2 * (machines - 1) / machines * 4 * GRADIENTS / link
    return compute + messages + 2 * args.latency * math.ceil(math.log2(machines))


def model(args):
    rates = (1, 10, 100)
    print(f"{GRADIENTS:,} gradients, {4 * GRADIENTS / 1e6:.0f} MB a step; {IMAGE / 1e3:.0f} kB of tokens an image\n")
    one = args.step
    fixed, growing = [], []
    for machines in MACHINES:
        row = [machines]
        for rate in rates:
            seconds = step_seconds(machines, BATCH / machines, args, rate)
            row += [f"{seconds:.2f}", f"{one / seconds / machines:.2f}"]
        if machines <= BATCH:
            fixed.append(row)
        row = [machines]
        for rate in rates:
            seconds = step_seconds(machines, BATCH, args, rate)
            row += [f"{machines * BATCH / seconds:,.0f}", f"{one / seconds:.2f}"]
        growing.append([*row, f"{machines * BATCH / one * IMAGE / 1e9:.2f}"])
    def columns(what):
        return [text for rate in rates for text in (f"{what}, {rate} Gbit/s", "efficiency")]

    print(turns.table(["machines", *columns("s a step")], fixed))
    print()
    print(turns.table(["machines", *columns("images/s"), "tokens read, GB/s"], growing))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "kills", "hosts", "model"))
    parser.add_argument("--backbone", choices=BACKBONES, default="tiny")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=float, help="seconds of a step of 96 images at D = 768 on one machine")
    parser.add_argument("--link", type=float, default=1.0, help="share of a link's rate that a sum of many values gets")
    parser.add_argument("--latency", type=float, default=1e-4, help="seconds of a message between two machines")
    parser.add_argument("--write", action="store_true", help="write the page in bench/results")
    args = parser.parse_args()
    {"speed": speed, "kills": kills, "hosts": hosts, "model": model}[args.what](args)


if __name__ == "__main__":
    main()
