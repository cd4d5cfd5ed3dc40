"""Whether extraction keeps its pace and its memory, however many images there are. See bench/README.md.

    python3 bench/flat.py [--images 1000,5000,20000,50000] [--threads 2] [--write]

Needs no third-party package.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import turns


def run(program, photos, images, threads):
    with tempfile.TemporaryDirectory() as store:
        command = [program, "--photos", str(photos), "--images", str(images), "--store", store]
        command += ["--threads", str(threads)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="1000,5000,20000,50000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the table in bench/results/flat.md")
    args = parser.parse_args()
    turns.pin(args.threads)
    counts = [int(count) for count in args.images.split(",")]
    program = turns.build("bench_flat")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "--draw", folder, "--images", str(max(counts))], check=True)
        for count in counts:
            found = run(program, Path(folder) / "train", count, args.threads)
            rates = found["rates"]
            cells = [found["images"], f"{found['seconds']:.1f}", f"{found['images'] / found['seconds']:.0f}"]
            cells += [f"{min(rates):.0f} to {max(rates):.0f}", f"{found['peak_rss_mb']:.0f}"]
            rows.append(cells)
            print(cells)
    header = ["images", "s", "images a second", "slowest to fastest tenth", "peak MB"]
    text = turns.table(header, rows)
    print(text)
    if args.write:
        facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
        head = "# Extraction from a thousand images to fifty thousand\n\n"
        head += f"Drawn pictures, the built-in backbone, {args.threads} threads. Written by `bench/flat.py`.\n\n"
        turns.write("flat.md", f"{head}{text}\n\n{facts}\n")


if __name__ == "__main__":
    main()
