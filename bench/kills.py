"""Kills the program, and has the system fail under it, at random: what is started again must end with the bytes of the run that
nobody disturbed.

    python3 bench/kills.py [--kills 1000] [--faults 1000] [--seed 1] [--only JOB,JOB] [--write]

Jobs are the commands that write, on a small drawn world. A trial disturbs a job up to four times in a row, then runs it to its
end, and compares all files with those of the calm run, but for what the clock decides (CLOCK). Kills are SIGKILL after a random
time or before a random system call. Faults are a system call's error (ENOSPC, EIO, EINTR; by strace) and reads and writes of
fewer bytes than were asked for (by short.c). A photograph that the system cannot read then is failed by name, which its store
keeps: such a trial is compared no further. A run that says 0 after a fault must have left all bytes of the calm run; an
EINTR and a short write must not be noticed at all; what was printed as decided must be on the disk; nothing may panic.
Needs Linux, strace and a C compiler. Prints a Markdown table; with --write it is kept in bench/results.
"""

import argparse
import csv
import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import small_world

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/epsilon"
# What the clock decides, in JSON.
CLOCK = {"at", "images_per_second", "peak MB", "peak_mb", "seconds", "waiting"}
# Logs of a library, and what a line is about.
LOGS = {
    "photos/.epsilon/tags.jsonl": ["photo"],
    "photos/.epsilon/sidecars.jsonl": ["sidecar", "photo"],
    "photos/.epsilon/corrections.jsonl": ["photo", "label", "parents", "reviewed"],
}
PLACES = ["write", "pwrite64", "openat", "read", "pread64", "fsync", "fdatasync", "rename", "renameat", "mkdir", "ftruncate", "unlink", "mmap", "statx"]
# Those that may be interrupted, and are to be called again.
INTERRUPTED = ["write", "pwrite64", "read", "pread64", "openat", "fsync", "fdatasync", "ftruncate"]
# Errors that can come of each.
FULL = ["write", "pwrite64", "openat", "fsync", "fdatasync", "rename", "mkdir", "ftruncate"]
LONGEST = 120

TABLE = """
[[row]]
name = "Ridge"
method = { kind = "ridge" }
grid = { "method.penalty" = [0.1, 1.0] }

[[row]]
name = "Fast0Tag"
method = { kind = "fast0tag", hidden = [4] }
"""


@dataclasses.dataclass
class Job:
    """A command that writes; `before` it are those that make what it needs."""

    name: str
    command: list
    before: list = dataclasses.field(default_factory=list)
    said: str = ""
    method: str = 'kind = "ridge"'
    epochs: int = 1


TRAIN = ["train", "recipe.toml", "--out", "out"]
MODEL = "out/seed-1/model.safetensors"
TAG = ["tag", "photos", "--model", MODEL, "--top", "2", "--xmp"]
PARTS = [["extract", "recipe.toml", "--out", "parts", "--shard", f"{part}/2"] for part in (1, 2)]
LEARN = ["learn", "photos", "--model", "backbone.safetensors", "--vectors", "vectors.txt"]
SAID = "".join(f"reviewed train-{index:04}.png\nadd train-{index:04}.png animal|dog\n" for index in range(12))
JOBS = [
    Job("extract", ["extract", "recipe.toml", "--out", "out"]),
    Job("train", [*TRAIN, "--resume"], method='kind = "fast0tag"\nhidden = [4]', epochs=6),
    Job("bench", ["bench", "table.toml", "--out", "out"]),
    Job("tag", TAG, [TRAIN]),
    Job("learn", LEARN, [TRAIN, TAG]),
    Job("review", ["review", "photos"], [TRAIN, TAG], said=SAID),
    Job("calibrate", ["calibrate", MODEL], [TRAIN]),
    Job("bundle", ["bundle", MODEL, "--out", "bundle.safetensors"], [TRAIN]),
    Job("merge", ["store", "merge", "parts/tokens-1-of-2", "parts/tokens-2-of-2", "--out", "all"], PARTS),
    Job("index", ["index", "export", "photos", "--to", "points.parquet"], [TRAIN, TAG]),
]


# Jobs that write files into folders whose lock they do not hold: what a killed one leaves half written there stays.
LEAVE = {"bench", "bundle", "calibrate", "index", "merge", "tag"}


class World:
    """A job's folder, always in the same place, because some files hold their own."""

    def __init__(self, job, place):
        self.job, self.at, self.base, self.runs = job, place / "world", place / "base", Counter()
        small_world.draw(self.at, 24, 12, method=job.method, epochs=job.epochs)
        head, rest = (self.at / "recipe.toml").read_text().split("[method]")
        training = "[training]" + rest.split("[training]")[1]
        (self.at / "table.toml").write_text(head + training.replace("[training]", "[training]\nvalidation = 0.25") + TABLE)
        for command in job.before:
            self.run(command)
        shutil.copytree(self.at, self.base)
        self.calm, self.length = [], []
        for _ in range(2):
            self.restore()
            start = time.monotonic()
            ended = self.run(job.command, said=job.said)
            self.length.append(time.monotonic() - start)
            if ended.returncode:
                sys.exit(f"{job.name}: {ended.stderr}")
            self.calm.append(self.files())
        differ = different(*self.calm)
        if differ:
            sys.exit(f"{job.name}: two calm runs differ in {differ}")
        self.restore()
        self.calls = self.count_calls()
        self.restore()

    def restore(self):
        shutil.rmtree(self.at)
        # With the times of the files: they are how a photograph is known again.
        shutil.copytree(self.base, self.at)

    def environment(self, **more):
        return {**os.environ, "XDG_CACHE_HOME": str(self.at.parent / "cache"), **more}

    def run(self, command, before=(), said="", **environment):
        """Runs the program to its end, or for LONGEST seconds."""
        return subprocess.run(
            [*before, PROGRAM, *command, "--threads", "1"], cwd=self.at, env=self.environment(**environment), input=said, capture_output=True, text=True, timeout=LONGEST, check=False
        )

    def count_calls(self):
        log = self.at.parent / "calls"
        self.run(self.job.command, ["strace", "-f", "-c", "-o", str(log)], self.job.said)
        lines = (line.split() for line in log.read_text().splitlines())
        found = {line[-1]: int(line[3]) for line in lines if len(line) >= 5 and line[3].isdigit()}
        return {name: found[name] for name in PLACES if found.get(name)}

    def files(self):
        found = {}
        for path in sorted(self.at.rglob("*")):
            # What a killed process has left half written: nobody believes it, and who holds the lock of its folder takes it away.
            left = path.name.startswith(".epsilon-") and path.suffix == ".tmp"
            if path.is_file() and not (left and self.job.name in LEAVE):
                found[str(path.relative_to(self.at))] = without_clock(path)
        return found


def without_clock(path):
    """The bytes of a file; of JSON and of a comparison's table, what the clock does not decide."""
    if path.name == "table.csv":
        with path.open(newline="") as file:
            return [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)]
    if path.name == "table.md":
        return re.sub("## What it took.*?##", "", path.read_text(), flags=re.DOTALL)
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()

    def kept(pairs):
        return {key: value for key, value in pairs if key not in CLOCK}

    text = path.read_text()
    try:
        parts = [text] if path.suffix == ".json" else text.splitlines()
        return [json.loads(part, object_pairs_hook=kept) for part in parts]
    except ValueError:
        return path.read_bytes()


def different(a, b):
    a, b = told(a), told(b)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def told(files):
    """What the files of a library say: the last line of its logs on each photograph, and each record of its indexes that counts."""
    said = dict(files)
    for name, keys in LOGS.items():
        if isinstance(files.get(name), list):
            said[name] = {json.dumps([line.get(key) for key in keys]): line for line in files[name]}
    for folder in ("photos/.epsilon/index", "photos/.epsilon/looks"):
        if f"{folder}/index.json" in files:
            [about] = said.pop(f"{folder}/index.json")
            rows, lines = (said.pop(f"{folder}/{name}-{about['generation']}.{end}") for name, end in (("rows", "bin"), ("ids", "jsonl")))
            size, records = len(rows) // len([line for line in lines if isinstance(line, str)]), {}
            for line in lines:
                if isinstance(line, str):
                    records[len(records)] = (line, rows[size * len(records) : size * (len(records) + 1)])
                else:
                    records[line] = None
            said[folder] = (about["model"], sorted(filter(None, records.values())))
    return said


class Trials:
    """Disturbs a job, and counts how."""

    def __init__(self, world, draws):
        self.world, self.draws, self.counts, self.wrong = world, draws, Counter(), []

    def complain(self, what):
        self.wrong.append(f"{self.world.job.name}: {what}")
        print(self.wrong[-1], file=sys.stderr, flush=True)

    def call(self, names=None):
        """A random system call of the job: its name, and which of them."""
        calls = {name: count for name, count in self.world.calls.items() if names is None or name in names}
        name = self.draws.choice(sorted(calls))
        # The first ones are the loader's.
        return name, self.draws.randint(1, calls[name])

    def kill_after(self):
        """SIGKILL after a random time."""
        world = self.world
        delay = self.draws.uniform(0, 1.1 * min(world.length))
        process = subprocess.Popen(
            [PROGRAM, *world.job.command, "--threads", "1"], cwd=world.at, env=world.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            told, _ = process.communicate(world.job.said, timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
        self.counts["kills"] += process.returncode == -9
        self.check_told(told)

    def kill_at(self):
        """SIGKILL before a random system call."""
        name, which = self.call()
        ended = self.strace(f"inject={name}:signal=KILL:when={which}", name)
        # Of strace: the signal that its program died of.
        self.counts["kills"] += ended.returncode in (-9, 137)
        self.check_told(ended.stdout)

    def fail(self):
        """An error of a random system call, or of all that follow."""
        error, names = self.draws.choice([("ENOSPC", FULL), ("EIO", None), ("EINTR", INTERRUPTED)])
        name, which = self.call(names)
        more = "+" if error == "ENOSPC" and self.draws.random() < 0.5 else ""
        what = f"{error} of {name} {which}{more}"
        ended = self.strace(f"inject={name}:error={error}:when={which}{more}", name)
        injected = [line for line in self.log.read_text(errors="replace").splitlines() if "(INJECTED)" in line]
        if not injected:
            return
        self.counts["faults"] += 1
        self.counts[error] += 1
        own = [line for line in injected if str(self.world.at) in line]
        # Without memory for a thread or a stack there is nobody to say so.
        if name == "mmap" and not own:
            return
        if "panicked" in ended.stderr:
            self.complain(f"{what}: {ended.stderr[-500:]}")
        # The standard library does not open a folder again.
        if error == "EINTR" and "Interrupted" in ended.stderr and own and "O_DIRECTORY" not in injected[0]:
            self.complain(f"{what} is noticed: {ended.returncode}, {ended.stderr[-300:]}, {injected[0]}")
        if ended.returncode == 0:
            differ = different(self.world.files(), self.world.calm[0])
            if differ and not self.world.job.said:
                self.complain(f"{what} is said to be done, but {differ} differ: {injected[0]}")
            if name in ("fsync", "fdatasync") and error != "EINTR" and own:
                self.complain(f"{what} is said to be done: {injected[0]}")
        elif ended.returncode > 2 and ended.returncode != 127:
            self.complain(f"{what}: exit code {ended.returncode}, {ended.stderr[-300:]}, {injected[0]}")
        elif ended.returncode == 2 and not ended.stderr.strip() and not more and not re.search(r"\((1|2)<", injected[0]):
            self.complain(f"{what} is not told: {injected[0]}")
        self.check_told(ended.stdout)

    def cut(self, preload):
        """Short reads and writes throughout."""
        world = self.world
        ended = world.run(world.job.command, said=world.job.said, LD_PRELOAD=str(preload), KILLS_SEED=str(self.draws.randrange(1 << 30)))
        self.counts["faults"] += 1
        self.counts["short"] += 1
        if ended.returncode:
            self.complain(f"short reads and writes are noticed: {ended.returncode}, {ended.stderr[-300:]}")
        elif not world.job.said and different(world.files(), world.calm[0]):
            self.complain(f"short reads and writes change {different(world.files(), world.calm[0])}")

    def strace(self, injection, name):
        self.log = self.world.at.parent / "injected"
        before = ["strace", "-f", "-y", "-o", str(self.log), "-e", f"trace={name}", "-e", "signal=none", "-e", injection]
        return self.world.run(self.world.job.command, before, self.world.job.said)

    def check_told(self, told):
        """What `review` has printed is on the disk."""
        if not self.world.job.said:
            return
        path = self.world.at / "photos/.epsilon/corrections.jsonl"
        kept = path.read_text(errors="replace") if path.exists() else ""
        for line in told.splitlines()[: told.count("\n")]:
            cells = line.split("\t")
            if len(cells) > 1 and f'"{cells[1]}"' not in kept:
                self.complain(f"it said {line!r}, which is not on the disk")

    def settle(self):
        """Runs the job to its end and compares."""
        world = self.world
        ended = world.run(world.job.command, said=world.job.said)
        # A whole store is not merged again.
        done = world.job.name == "merge" and "there is a token store already" in ended.stderr
        unread = ended.returncode == 1 and re.search(r"failed: .* cannot be read: .*os error (4|5|28)\)", ended.stderr)
        if unread:
            self.counts["trials"] += 1
            return world.restore()
        if ended.returncode and not done or "panicked" in ended.stderr:
            self.complain(f"does not go on: {ended.returncode}, {ended.stderr[-500:]}")
        differ = different(world.files(), world.calm[0])
        if differ:
            kept = Path(tempfile.mkdtemp(prefix="kills-"))
            shutil.copytree(world.at, kept / "found")
            self.complain(f"{differ} differ from the calm run; kept in {kept}")
        self.counts["trials"] += 1
        world.restore()


def preload(place):
    library = place / "short.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, ROOT / "bench/short.c", "-ldl"], check=True)
    return library


def disturb(trials, kills, faults, library):
    """Trials until the job has had its share of kills and of faults."""
    while trials.counts["kills"] < kills:
        for _ in range(trials.draws.randint(1, 4)):
            trials.draws.choice([trials.kill_after, trials.kill_at])()
        trials.settle()
    while trials.counts["faults"] < faults:
        if trials.draws.random() < 0.1:
            trials.cut(library)
        else:
            for _ in range(trials.draws.randint(1, 4)):
                trials.fail()
        trials.settle()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="in all jobs together")
    parser.add_argument("--faults", type=int, default=1000, help="in all jobs together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="these jobs, between commas")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    jobs = [job for job in JOBS if not options.only or job.name in options.only.split(",")]
    all_counts, wrong, rows = Counter(), [], []
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for number, job in enumerate(jobs):
        with tempfile.TemporaryDirectory(prefix="kills-", dir=memory) as folder:
            place, start = Path(folder), time.monotonic()
            trials = Trials(World(job, place), random.Random(options.seed * 1000 + number))
            share = [-(-count // len(jobs)) for count in (options.kills, options.faults)]
            disturb(trials, *share, preload(place))
            counts = trials.counts
            all_counts.update(counts)
            wrong += trials.wrong
            cells = [job.name, *(counts[key] for key in ("trials", "kills", "faults", "ENOSPC", "EIO", "EINTR", "short")), len(trials.wrong)]
            rows.append("| " + " | ".join(map(str, cells)) + " |")
            print(f"{rows[-1]} {time.monotonic() - start:.0f} s", flush=True)
    lines = ["| job | trials | kills | faults | ENOSPC | EIO | EINTR | short | wrong |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|", *rows]
    cells = [all_counts[key] for key in ("trials", "kills", "faults", "ENOSPC", "EIO", "EINTR", "short")]
    lines.append("| all | " + " | ".join(map(str, cells)) + f" | {len(wrong)} |")
    table = "\n".join(lines) + "\n"
    print(table)
    if options.write:
        head = f"# Kills and faults\n\n`python3 bench/kills.py --kills {options.kills} --faults {options.faults} --seed {options.seed}`. A trial is an end that was compared; several kills or faults may have gone before it. In a run of `short` every other read and write is cut. What is `wrong` breaks a promise of [docs/trust.md](../../docs/trust.md).\n\n"
        (ROOT / "bench/results/kills.md").write_text(head + table)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
