"""What the benches share: programs that take turns, ratios, Markdown tables, machine facts."""

import contextlib
import datetime
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).parent
ROOT = BENCH.parent
# A program's worker threads may spin for a moment after its turn.
PAUSE = 0.1


def numbers(text):
    """`16,96` as a list, for an argument."""
    return [int(part) for part in text.split(",")]


def interpreter():
    """The Python that has PyTorch."""
    default = Path(os.environ.get("EPSILON_BENCH_VENV", Path.home() / ".cache/epsilon-bench")) / "bin/python"
    path = Path(os.environ.get("EPSILON_BENCH_PYTHON", default))
    if not path.exists():
        raise SystemExit("no Python with PyTorch: run bench/setup_pytorch.sh, or name one in EPSILON_BENCH_PYTHON")
    return str(path)


def build(name, *where):
    """Builds a bench program (`bench/programs`, or where cargo's options say) and returns its path. `--workspace` chooses the
    features of dependencies that the tests have too, so that nothing is compiled twice."""
    where = where or ("--workspace", "--bin", name)
    command = ["cargo", "build", "--release", *where, "--message-format", "json-render-diagnostics"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    artifacts = [line for line in map(json.loads, lines) if line.get("target", {}).get("name") == name]
    return next(line["executable"] for line in artifacts if line.get("executable"))


def pin(threads):
    """Keeps this process and all it starts on `threads` cores, so that helper threads get no core of their own."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < threads:
            raise SystemExit(f"--threads {threads}: this machine offers {len(cores)} cores")
        os.sched_setaffinity(0, cores[:threads])


class Program:
    """A program that waits for lines on stdin and answers each with one line of JSON."""

    def __init__(self, name, command):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, text=True, **pipes)

    def ask(self, line, pause=PAUSE):
        time.sleep(pause)
        try:
            print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # What it wrote says more, below.
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(self.refusal(line))
        return json.loads(answer)

    def cpu_seconds(self):
        """Time that all its threads have had on a core: other work on the machine adds nothing to it, waiting in a loop does."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def refusal(self, line):
        """Why there was no answer, in the program's own words."""
        code = self.process.wait()
        self.errors.seek(0)
        words = self.errors.read().strip() or "no message"
        return f"{self.name}: ended with code {code} instead of answering `{line}`: {words}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
        with contextlib.suppress(BrokenPipeError):  # of a program that has ended
            self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def rounds(programs, count, turn):
    """`turn(program)` of every program `count` times in turn, the order reversed every other round; the answers by
    program name."""
    answers = {program.name: [] for program in programs}
    for index in range(count):
        for program in programs if index % 2 == 0 else reversed(programs):
            answers[program.name].append(turn(program))
    return answers


def ratio(ours, peer):
    """Median and quartiles of the rounds' ratios, as text."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"**{middle:.2f}** ({low:.2f} to {high:.2f})"


def seconds(values):
    return f"{statistics.median(values):.3f}"


def peak_rss_mb():
    """The largest resident size of this process so far, in 10^6 bytes. Linux carries ru_maxrss over from the process that
    started this one, so the kernel's own high-water mark of this address space is read where there is one."""
    try:
        kibibytes = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    except FileNotFoundError:
        # Bytes on macOS, KiB elsewhere.
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return kibibytes * 1024 / 1e6


def table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


LEVELS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def cpu():
    """The CPU's model and those of its instruction sets that matter here."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return model, [name for name in LEVELS if name in flags]


def machine(peer):
    """Machine and versions, one bullet each."""
    model, levels = cpu()
    if levels:
        model += f" ({', '.join(levels)})"
    if cap := os.environ.get("EPSILON_CPU"):
        model += f", capped by EPSILON_CPU={cap}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = [
        f"CPU: {model}, {os.cpu_count()} cores; {memory:.0f} GiB of memory; {platform.system()}",
        f"peer: {peer}",
        f"ours: {output('rustc', '--version')}, commit {output('git', 'describe', '--always', '--dirty')}",
        f"date: {datetime.date.today().isoformat()}",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def output(*command):
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def load():
    """Processes that were busy in the last minute, the benches' own included."""
    return f"{os.getloadavg()[0]:.1f}"


def write(name, text):
    path = BENCH / "results" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(f"written to {path.relative_to(ROOT)}")
