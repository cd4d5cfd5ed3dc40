"""Load on `epsilon serve` over loopback, beside how fast the bare extraction of the same photographs is.

    python3 bench/serve.py MODEL PHOTOS [--seconds 60] [--write]

MODEL is a trained model, PHOTOS a folder of JPEG files, such as runs/corel5k-best/seed-1/model.safetensors and
../shared/data/corel5k/test. In turn: extraction, 16 clients as fast as they are answered, extraction, the same clients with 5
percent of broken or hostile requests, extraction. Prints a Markdown table; with --write it is kept in bench/results.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target/release"


def extraction(weights, photos):
    """Photographs a second from files to a token store."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "list"
        names.write_text("".join(f"{path}\n" for path in photos))
        command = [RELEASE / "bench_extract", "--weights", weights, "--list", names, "--serve"]
        done = subprocess.run(command, input=f"run {folder}/store\n", capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        return result["images"] / result["seconds"]


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def load(model, photos, seconds, hostile):
    """What the clients saw, and the server's memory from 5 seconds on, a value every second."""
    server = subprocess.Popen(
        [RELEASE / "epsilon", "serve", model, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    address = server.stdout.readline().strip().removeprefix("listening on http://")
    memory, stop = [], threading.Event()

    def watch():
        time.sleep(5)
        while not stop.is_set():
            memory.append(resident(server.pid))
            time.sleep(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    command = [RELEASE / "load", "--address", address, "--photos", photos]
    command += ["--seconds", str(seconds), "--hostile", str(hostile)]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    stop.set()
    watcher.join()
    server.send_signal(signal.SIGTERM)
    seen["exit_code"] = server.wait(60)
    seen["memory_mb"] = memory
    return seen


def row(name, seen, rate):
    memory = seen["memory_mb"]
    third = max(1, len(memory) // 3)
    statuses = ", ".join(f"{count} x {status}" for status, count in seen["statuses"].items())
    return (
        f"| {name} | {seen['photos_per_second']:.1f} | {rate:.1f} | {seen['photos_per_second'] / rate:.2f} | {seen['p50_ms']:.0f} | "
        f"{seen['p99_ms']:.0f} | {statuses} | {seen['errors']} | {statistics.mean(memory[:third]):.0f} | "
        f"{statistics.mean(memory[-third:]):.0f} | {max(memory):.0f} |"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("photos")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    build = ["cargo", "build", "--quiet", "--release", "--workspace"]
    subprocess.run([*build, "--bin", "epsilon", "--bin", "bench_extract", "--bin", "load"], cwd=ROOT, check=True)
    with open(arguments.model, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        card = json.loads(json.loads(file.read(length))["__metadata__"]["epsilon.model"])
    weights = card["backbone_weights"]
    photos = sorted(path for path in Path(arguments.photos).resolve().iterdir() if path.suffix in (".jpg", ".jpeg"))
    rates = [extraction(weights, photos)]
    rows = []
    for name, hostile in [("photographs alone", 0), ("5 % broken or hostile", 5)]:
        seen = load(arguments.model, arguments.photos, arguments.seconds, hostile)
        rates.append(extraction(weights, photos))
        print(json.dumps(seen), file=sys.stderr)
        # Against the extraction just before and just after.
        rows.append(row(name, seen, statistics.mean(rates[-2:])))
    text = "\n".join(
        [
            f"{len(photos)} photographs in turn, 16 clients, {arguments.seconds} s each, {os.cpu_count()} cores; method {card['method']['kind']}, "
            f"backbone {card['backbone']['name']}. Latency of answered photographs; memory is the server's, "
            "the mean of the first and of the last third, and the most. Status 0: the client went away.",
            "",
            "| load | photographs/s | extraction/s | ratio | p50, ms | p99, ms | answers | errors | MB, first | MB, last | MB, most |",
            "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )
    print(text)
    if arguments.write:
        head = "# Load on `epsilon serve`\n\n`python3 bench/serve.py MODEL PHOTOS --write`\n\n"
        (ROOT / "bench/results/serve.md").write_text(head + text)


if __name__ == "__main__":
    main()
