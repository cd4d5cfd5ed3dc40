"""How often a photograph has a label in common with the ten that `epsilon search --like` finds most like it, beside ten drawn at
random. python3 bench/likeness.py LIBRARY TABLE [PROGRAM]: a tagged library, and a table of labels (a line for each photograph: path,
split, labels between commas), of which the photographs' names without folders count."""

import json
import pathlib
import random
import subprocess
import sys

TOP = 10

library, table = sys.argv[1:3]
program = sys.argv[3] if len(sys.argv) > 3 else "target/release/epsilon"


def name(path):
    return path.rsplit("/", 1)[-1]


def search(*arguments):
    command = [program, "search", library, "--json", "--threads", "1", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


rows = (line.split("\t") for line in pathlib.Path(table).read_text().splitlines())
labels = {name(row[0]): set(row[2].split(",")) for row in rows if len(row) > 2}
photos = [found["photo"] for found in search("--sort", "relevance", "--top", "1000000")]
random.seed(1)
alike, drawn = [], []
for photo in photos:
    own = labels[name(photo)]
    found = [found["photo"] for found in search("--like", photo, "--top", str(TOP))]
    assert photo not in found
    alike += [bool(own & labels[name(other)]) for other in found]
    others = [other for other in photos if other != photo]
    drawn += [bool(own & labels[name(other)]) for other in random.sample(others, TOP)]
print(f"{len(photos)} photographs: {100 * sum(alike) / len(alike):.1f} % of the {TOP} most alike have a label in common, "
      f"{100 * sum(drawn) / len(drawn):.1f} % of {TOP} drawn at random")
