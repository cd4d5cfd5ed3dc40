"""Load on `epsilon serve` over loopback, beside how fast the bare extraction of the same photographs is.

    python3 bench/serve.py MODEL PHOTOS [--seconds 60] [--write]
    python3 bench/serve.py MODEL PHOTOS --attack [--seconds 30] [--vectors-mb 624] [--write]

MODEL is a trained model, PHOTOS a folder of JPEG files, such as runs/corel5k-best/seed-1/model.safetensors and
../shared/data/corel5k/test. In turn: extraction, 16 clients as fast as they are answered, extraction, the same clients with 5
percent of broken or hostile requests, extraction. With --attack instead: silent, slow and unreading clients, and such as ask for
unknown words of a large file of made-up vectors (see attack.py), each against a server of its own; photographs with a side of
640 pixels or more make large answers. Prints a Markdown table; with --write it is kept in bench/results.
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

import attack

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


def serve(model, *more):
    """A server and its address."""
    server = subprocess.Popen(
        [RELEASE / "epsilon", "serve", "--model", model, "--listen", "127.0.0.1:0", *more], stdout=subprocess.PIPE, text=True
    )
    return server, server.stdout.readline().strip().removeprefix("listening on http://")


def load(model, photos, seconds, hostile):
    """What the clients saw, and the server's memory from 5 seconds on, a value every second."""
    server, address = serve(model)
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


def report(file, title, options, text, write):
    print(text)
    if write:
        head = f"# {title}\n\n`python3 bench/serve.py MODEL PHOTOS {options}--write`\n\n"
        (ROOT / f"bench/results/{file}.md").write_text(head + text)


def row(name, seen, rate):
    memory = seen["memory_mb"]
    third = max(1, len(memory) // 3)
    statuses = ", ".join(f"{count} x {status}" for status, count in seen["statuses"].items())
    return (
        f"| {name} | {seen['photos_per_second']:.1f} | {rate:.1f} | {seen['photos_per_second'] / rate:.2f} | {seen['p50_ms']:.0f} | "
        f"{seen['p99_ms']:.0f} | {statuses} | {seen['errors']} | {statistics.mean(memory[:third]):.0f} | "
        f"{statistics.mean(memory[-third:]):.0f} | {max(memory):.0f} |"
    )


def attacked(arguments, card, photos):
    """The report of the attacks."""
    photos = [path.read_bytes() for path in photos]
    words = card["labels"][:10]
    with tempfile.TemporaryDirectory() as folder:
        vectors = Path(folder) / "vectors.txt"
        attack.write_vectors(vectors, words, card["dims"]["label_width"], arguments.vectors_mb)
        rows = []
        for name in attack.NAMES:
            server, address = serve(arguments.model, "--vectors", vectors)
            host, port = address.split(":")
            rows.append(attack.run(name, (host, int(port)), photos, words, lambda: resident(server.pid), arguments.seconds))
            server.send_signal(signal.SIGTERM)
            if server.wait(60):
                raise SystemExit(f"{name}: the server ended with {server.returncode}")
    return (
        f"{arguments.seconds} s each, {os.cpu_count()} cores, shared with the attackers; method {card['method']['kind']}, backbone "
        f"{card['backbone']['name']}, a vector file of {arguments.vectors_mb} MB. An honest client asks for /healthz and another one "
        "ranks ten known words for a photograph, ten times a second, again and again where it is refused. Idle load is "
        "theirs alone, after a form of 32 photographs; it includes the index of the vector file. Who does not read has asked for the "
        "maps of the largest photograph. Closed connections are opened again at once; when an attack is over its connections "
        f"stay open.\n{attack.GOALS}\n\n{attack.table(rows)}"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("photos")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--attack", action="store_true")
    parser.add_argument("--vectors-mb", type=int, default=624)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    build = ["cargo", "build", "--quiet", "--release", "--workspace"]
    subprocess.run([*build, "--bin", "epsilon", "--bin", "bench_extract", "--bin", "load"], cwd=ROOT, check=True)
    with open(arguments.model, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        card = json.loads(json.loads(file.read(length))["__metadata__"]["epsilon.model"])
    weights = card["backbone_weights"]
    photos = sorted(path for path in Path(arguments.photos).resolve().iterdir() if path.suffix in (".jpg", ".jpeg"))
    if arguments.attack:
        report("serve-attack", "Attacks on `epsilon serve`", "--attack ", attacked(arguments, card, photos), arguments.write)
        return
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
    report("serve", "Load on `epsilon serve`", "", text, arguments.write)


if __name__ == "__main__":
    main()
