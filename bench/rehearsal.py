"""A rehearsal of the paper's run at its full size: a data set in NUS-WIDE's or Open Images' layout with all of its numbers, drawn,
and every command from `prepare` to `report` on it, two of them killed on the way.

    python3 bench/rehearsal.py nus-wide [--share 0.01,1] [--folder FOLDER] [--write]
    python3 bench/rehearsal.py open-images [--share 0.01,1] [--folder FOLDER] [--write]

Pictures are PNG files of 64 x 64 pixels, each drawn anew: a label is a pattern in a colour, and its vector the sum of the two's, so
that unseen labels can be told by their parts. `--share` is of the images; the labels are always all. What the first share
took, times the images, is the prediction for the others. Finished shares are kept in FOLDER and not run again. The full
NUS-WIDE needs 12 GB there. Prints Markdown tables; with --write they are kept in bench/results/rehearsal-KIND.md. Linux; the
standard library is enough.
"""

import argparse
import array
import contextlib
import csv
import hashlib
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from pathlib import Path

import turns

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("EPSILON_PROGRAM", ROOT / "target/release/epsilon"))
BACKBONE = ROOT / "crates/epsilon-vision/assets/scenes_vit.safetensors"
SIDE, CELL = 64, 16
# Tokens of the built-in backbone in half precision: 64 patches and the global one.
TOKEN_BYTES = 65 * 128 * 2
WIDTH = 300
# Counted on the real lists (docs/protocols.md): images, those with one of the 81 concepts, and concepts an image that has one.
NUS_WIDE = {"Train": (161_789, 125_449, 2.403), "Test": (107_859, 83_898, 2.412)}
TAGS, SHARED, CONCEPTS = 1000, 75, 81
# Lists of Open Images V4 are this long; how its 100,000 images here are split and labelled is ours.
OPEN_IMAGES = {"train": 80_000, "test": 20_000}
SEEN, UNSEEN = 7_186, 400

RECIPE = """seeds = [1]

[data]
{data}
vectors = "vectors.txt"

[backbone]
weights = "{backbone}"

[method]
kind = "epsilon"
groups = 8
lambda = 0.3

[training]
epochs = 7
batch = 96
learning-rate = 1e-5
schedule = {{ kind = "step", epochs = [4], factor = 0.5 }}
optimiser = {{ kind = "adam", weight-decay = 4e-3 }}

[evaluation]
protocol = "epsilon"
k-zsl = [{k}]
k-gzsl = [{k}]
"""


class Pictures:
    """Draws pictures of 4 x 4 cells: labels in some, noise in the others."""

    def __init__(self, labels):
        draws = random.Random("pictures")
        self.colours = math.isqrt(labels) + 1
        colours = [bytes(draws.randrange(256) for _ in range(3)) for _ in range(self.colours)]
        patterns = [[draws.getrandbits(8) for _ in range(8)] for _ in range(self.colours)]
        self.labels = [tile(patterns[label // self.colours], colours[label % self.colours]) for label in range(labels)]
        self.noise = [[bytes(draws.randrange(90, 160) for _ in range(3 * CELL)) for _ in range(CELL)] for _ in range(256)]

    def vectors(self, names):
        """Lines of a text file of vectors: of a label's pattern, and of its colour, added."""
        draws = random.Random("vectors")
        parts = [[[draws.gauss(0, 0.3) for _ in range(WIDTH)] for _ in range(self.colours)] for _ in range(2)]
        for label, name in enumerate(names):
            pattern, colour = parts[0][label // self.colours], parts[1][label % self.colours]
            yield f"{name} " + " ".join(f"{a + b:.4f}" for a, b in zip(pattern, colour)) + "\n"

    def draw(self, draws, labels):
        cells = [draws.choice(self.noise) for _ in range(16)]
        for place, label in zip(draws.sample(range(16), min(16, len(labels))), labels):
            cells[place] = self.labels[label]
        rows = []
        for top in range(0, 16, 4):
            for row in zip(*cells[top : top + 4]):
                rows += (b"\0", *row)
        return png(b"".join(rows))


def tile(pattern, colour):
    ground = bytes(255 - value // 2 for value in colour)
    return [b"".join(colour if pattern[y // 2] >> x // 2 & 1 else ground for x in range(CELL)) for y in range(CELL)]


def png(rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


class Weighted:
    """Different positions of a list, those at its beginning more often: the weights are 1 / (place + 10)."""

    def __init__(self, first, end):
        self.places = range(first, end)
        self.weights = list(accumulate(1 / (place + 10) for place in range(end - first)))

    def some(self, draws, count):
        found = {}
        while len(found) < count:
            found.update(dict.fromkeys(draws.choices(self.places, cum_weights=self.weights, k=count - len(found))))
        return list(found)


def above_one(draws, mean):
    """A number from 1 to 12 with about this mean, small ones more often."""
    return min(12, 1 + int(math.log(1 - draws.random()) / math.log(1 - 1 / mean)))


# Processes that draw pictures have these as globals.
drawing = {}


def start_drawing(kind, folder):
    drawing.update(kind=kind, folder=Path(folder), pictures=Pictures(label_count(kind)))


def label_count(kind):
    return TAGS - SHARED + CONCEPTS if kind == "nus-wide" else SEEN + UNSEEN


def draw_pictures(images):
    """Writes pictures; gives short hashes of them."""
    hashes = []
    for path, labels in images:
        drawn = drawing["pictures"].draw(random.Random(path), labels)
        (drawing["folder"] / path).write_bytes(drawn)
        hashes.append(hashlib.blake2b(drawn, digest_size=8).digest())
    return hashes


def in_parts(images, size=500):
    part = []
    for image in images:
        part.append(image)
        if len(part) == size:
            yield part
            part = []
    yield part


def draw(kind, folder, share):
    """Fills a folder with a data set, and says how many pictures differ."""
    folder.mkdir(parents=True)
    names = nus_wide_names() if kind == "nus-wide" else [f"thing{label}" for label in range(SEEN + UNSEEN)]
    with (folder / "vectors.txt").open("w") as file:
        file.writelines(Pictures(label_count(kind)).vectors(names))
    images = nus_wide(folder, share) if kind == "nus-wide" else open_images(folder, share)
    with multiprocessing.Pool(os.cpu_count(), start_drawing, (kind, folder)) as pool:
        hashes = [found for part in pool.imap(draw_pictures, in_parts(images)) for found in part]
    data = DATA[kind]
    (folder / "recipe.toml").write_text(RECIPE.format(data=data, backbone=BACKBONE, k="3, 5" if kind == "nus-wide" else "10, 20"))
    return {"images": len(hashes), "distinct": len(set(hashes))}


DATA = {
    "nus-wide": 'kind = "nus-wide"\nfolder = "."\nimages = "Flickr"',
    "open-images": """kind = "open-images"
train = ["train-annotations-human-imagelabels.csv"]
test = ["test-annotations-human-imagelabels.csv"]
images = "images"
descriptions = "class-descriptions.csv"
seen = "classes-trainable.txt"
unseen = "unseen.txt"
max-positives = 40""",
}


def nus_wide_names():
    """Seen tags, then concepts."""
    return [f"tag{label}" for label in range(TAGS - SHARED)] + [f"concept{label}" for label in range(CONCEPTS)]


def nus_wide(folder, share):
    """NUS-WIDE's text files; gives path and labels of each image. An image has 0 to 8 tags: the real number is not known to us."""
    names, seen = nus_wide_names(), TAGS - SHARED
    for part in ("ImageList", "NUS_WID_Tags", "ConceptsList", "TrainTestLabels"):
        (folder / part).mkdir()
    # Tags that are concepts as well come last.
    (folder / "NUS_WID_Tags/TagList1k.txt").write_text("".join(f"{name}\n" for name in names[:TAGS]))
    (folder / "ConceptsList/Concepts81.txt").write_text("".join(f"{name}\n" for name in names[seen:]))
    for number in range(700):
        (folder / f"Flickr/class{number}").mkdir(parents=True)
    tags, concepts = Weighted(0, seen), Weighted(seen, seen + CONCEPTS)
    for part, (all_images, with_concept, mean) in NUS_WIDE.items():
        draws = random.Random(part)
        files = [(folder / f"TrainTestLabels/Labels_{name}_{part}.txt").open("w") for name in names[seen:]]
        with (folder / f"ImageList/{part}Imagelist.txt").open("w") as listed, (folder / f"NUS_WID_Tags/{part}_Tags1k.dat").open("wb") as table:
            for image in range(round(share * all_images)):
                name = f"class{image % 700}/{image:06}_{part}.jpg"
                listed.write(name.replace("/", "\\") + "\r\n")
                count = above_one(draws, mean) if draws.random() < with_concept / all_images else 0
                true, tagged = concepts.some(draws, count), tags.some(draws, draws.randrange(9))
                row = bytearray(b"0\t" * TAGS + b"\r\n")
                # Tags that are concepts as well are right in every second image.
                for label in tagged + (true if image % 2 else []):
                    if label < TAGS:
                        row[2 * label] = ord("1")
                table.write(row)
                for label, file in enumerate(files):
                    file.write("1\n" if seen + label in true else "0\n")
                yield f"Flickr/{name}", true + tagged
        for file in files:
            file.close()


def open_images(folder, share):
    """Open Images' text files; gives path and labels of each image. One training image in 200 has more than 40 positives, which drops it."""
    ids = [f"/m/0{label:05x}" for label in range(SEEN + UNSEEN)]
    (folder / "classes-trainable.txt").write_text("".join(f"{name}\n" for name in ids[:SEEN]))
    (folder / "unseen.txt").write_text("".join(f"{name}\n" for name in ids[SEEN:]))
    (folder / "class-descriptions.csv").write_text("".join(f"{name},thing{label}\n" for label, name in enumerate(ids)))
    seen, unseen = Weighted(0, SEEN), Weighted(SEEN, SEEN + UNSEEN)
    for part, all_images in OPEN_IMAGES.items():
        draws = random.Random(part)
        (folder / f"images/{part}").mkdir(parents=True)
        with (folder / f"{part}-annotations-human-imagelabels.csv").open("w") as file:
            file.write("ImageID,Source,LabelName,Confidence\n")
            for image in range(round(share * all_images)):
                name = f"{draws.getrandbits(64):016x}"
                count = 41 + draws.randrange(20) if part == "train" and image % 200 == 7 else above_one(draws, 3)
                labels = seen.some(draws, count + 3)
                true, false = labels[:count], labels[count:]
                if part == "test":
                    other = unseen.some(draws, 4)
                    true, false = other[:2] + true, other[2:] + false
                for label in true + false:
                    file.write(f"{name},verification,{ids[label]},{int(label in true)}\n")
                yield f"images/{part}/{name}.jpg", true


def size(folder):
    return sum(entry.stat().st_size for entry in Path(folder).rglob("*") if entry.is_file())


def memory(pid, field):
    try:
        found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 / 1e6 if found else 0


class Way:
    """The commands on one data set, and what each took; those that ended in an earlier run are not run again."""

    def __init__(self, place):
        self.place, self.kept = place, place / "steps.json"
        self.steps = json.loads(read(self.kept)) if self.kept.exists() else []

    def step(self, name, *command, kill_when=None):
        """Runs a command to its end, or until it is to be killed; what it printed."""
        out, errors = (self.place / f"{name}.{kind}" for kind in ("out", "err"))
        if any(row["name"] == name for row in self.steps):
            return out.read_text()
        start = time.monotonic()
        with out.open("w") as told, errors.open("w") as complained:
            process = subprocess.Popen([PROGRAM, *command], cwd=self.place, stdout=told, stderr=complained)
        ended = threading.Event()
        found = {"rss": 0, "own": 0}
        watcher = threading.Thread(target=watch, args=(process, ended, found, kill_when))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        said = errors.read_text()
        right = -9 if kill_when else 0
        if process.returncode != right or "panicked" in said:
            sys.exit(f"{name}: {process.returncode}, not {right}: {said[-2000:]}")
        disk = sum(size(self.place / run) for run in ("run", "calm")) / 1e6
        self.steps.append({"name": name, "seconds": time.monotonic() - start, "cpu": usage.ru_utime + usage.ru_stime, **found, "disk": disk})
        self.kept.write_text(json.dumps(self.steps))
        print(self.steps[-1], file=sys.stderr, flush=True)
        return out.read_text()


def watch(process, ended, found, kill_when):
    """Notes the most memory that a process has, its own and with the files that it maps, and kills it at the moment given."""
    turn = 0
    while not ended.wait(0.02):
        for key, field in (("rss", "VmHWM"), ("own", "RssAnon")):
            found[key] = max(found[key], memory(process.pid, field))
        # Looking at a folder costs more than looking at a process.
        turn += 1
        if kill_when and turn % 10 == 0 and kill_when():
            process.kill()
            return


def files_of(folder):
    """Hash of every file, but for those that say how long something took."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.suffix in (".bin", ".safetensors", ".tokens", ".jsonl"):
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "blake2b").hexdigest()
    return found


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


class HalfAnEpoch:
    """Whether a training is in the middle of its third epoch, going by the time of its second; of one of fewer than three epochs,
    whether it has written a checkpoint."""

    def __init__(self, folder, epochs):
        self.folder, self.epochs, self.ended = folder, epochs, []

    def __call__(self):
        epochs = len(lines(self.folder / "metrics.jsonl"))
        while len(self.ended) < epochs:
            self.ended.append(time.monotonic())
        if self.epochs < 3:
            return (self.folder / "checkpoints/last.safetensors").exists()
        return len(self.ended) >= 2 and time.monotonic() - self.ended[1] > 0.5 * (self.ended[1] - self.ended[0])


def rehearse(kind, place, options, twin):
    """All commands on a share of a data set; what they took and said."""
    if not (place / "drawn.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        start = time.monotonic()
        # In a process of its own: the memory of this one is copied into those that it starts.
        drawn = alone(draw, kind, place, options.share)
        drawn |= {"seconds": time.monotonic() - start, "data": size(place)}
        (place / "drawn.json").write_text(json.dumps(drawn))
        print(drawn, file=sys.stderr, flush=True)
    drawn = json.loads(read(place / "drawn.json"))
    recipe = place / "recipe.toml"
    recipe.write_text(re.sub(r"epochs = \d+\nbatch", f"epochs = {options.epochs}\nbatch", recipe.read_text()))
    way, run, model = Way(place), place / "run", "run/seed-1/model.safetensors"
    prepared = json.loads(way.step("prepare", "prepare", "recipe.toml", "--out", "run", "--json"))
    way.step("prepare, from its index", "prepare", "recipe.toml", "--out", "run", "--quick", "--json")
    half = drawn["images"] * TOKEN_BYTES * 0.4
    way.step("extract, killed", "extract", "recipe.toml", "--out", "run", kill_when=lambda: size_so_far(run / "tokens") > half)
    way.step("extract, resumed", "extract", "recipe.toml", "--out", "run")
    way.step("extract, checked", "extract", "recipe.toml", "--out", "run", "--verify")
    same = {}
    if twin:
        way.step("extract, undisturbed", "extract", "recipe.toml", "--out", "calm")
        same["tokens"] = files_of(run / "tokens") == files_of(place / "calm/tokens")
    seed = run / "seed-1"
    way.step("train, killed", "train", "recipe.toml", "--out", "run", kill_when=HalfAnEpoch(seed, options.epochs))
    way.step("train, resumed", "train", "recipe.toml", "--out", "run", "--resume")
    if twin:
        way.step("train, undisturbed", "train", "recipe.toml", "--out", "calm")
        same["model"] = all(read(seed / name) == read(place / "calm/seed-1" / name) for name in ("model.safetensors", "figures.json"))
    epochs = [json.loads(line) for line in lines(seed / "metrics.jsonl")]
    same["epochs"] = [epoch["epoch"] for epoch in epochs] == list(range(1, options.epochs + 1))
    figures = [brief(protocol) for protocol in json.loads(way.step("eval, every protocol", "eval", model, "--protocol", "all", "--json"))]
    way.step("eval, scores kept", "eval", model, "--protocol", "lesa-nus" if kind == "nus-wide" else "lesa-oi", "--bootstrap", "0", "--save-scores", "scores.npy", "--per-label", "labels.csv", "--json")
    same["average precisions"] = alone(check_figures, kind, place)
    way.step("report", "report", "run", "--out", "report.html")
    shutil.rmtree(place / "calm", ignore_errors=True)
    sizes = {"data": drawn["data"], "tokens": size(run / "tokens"), "run": size(run)}
    return {"share": options.share, "drawn": drawn, "prepared": prepared, "steps": way.steps, "same": same, "epochs": epochs, "figures": figures, "sizes": sizes}


def brief(protocol):
    """Figures without those of single labels."""
    return {part: {key: value for key, value in of.items() if key != "per_label"} for part, of in protocol.items() if isinstance(of, dict)}


def alone(work, *arguments):
    """The answer of a function, computed in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def read(path):
    return path.read_bytes()


def size_so_far(folder):
    """As `size`, of a folder whose files come and go."""
    found = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


def truth(kind, place, images):
    """Of every unseen label: the images it is known for, and whether it is true."""
    if kind == "nus-wide":
        for label in range(CONCEPTS):
            name = f"concept{label}"
            flags = (place / f"TrainTestLabels/Labels_{name}_Test.txt").read_text().split()
            yield name, [(image, flag == "1") for image, flag in enumerate(flags)]
        return
    row = {Path(name).stem: image for image, name in enumerate(images)}
    known = {}
    with (place / "test-annotations-human-imagelabels.csv").open() as file:
        next(file)
        for line in file:
            image, _, label, confidence = line.rstrip().split(",")
            known.setdefault(int(label.removeprefix("/m/0"), 16), []).append((row[image], confidence == "1"))
    for label in range(SEEN, SEEN + UNSEEN):
        yield f"thing{label}", known.get(label, [])


def average_precision(ranked):
    """Mean over the positives of the precision at their score: of pairs of score and truth."""
    ranked = sorted(ranked, reverse=True)
    positives, total, place = 0, 0.0, 0
    while place < len(ranked):
        end = place
        while end < len(ranked) and ranked[end][0] == ranked[place][0]:
            end += 1
        new = sum(true for _, true in ranked[place:end])
        positives += new
        total += new * positives / end
        place = end
    return total / positives if positives else 0.0


def check_figures(kind, place):
    """Whether the average precision of every unseen label is that of the scores that were kept and of the labels that were drawn."""
    images, names = (lines(place / f"scores.{what}.txt") for what in ("images", "labels"))
    scores = array.array("f")
    with (place / "scores.npy").open("rb") as file:
        file.seek(10 + int.from_bytes(file.read(10)[8:10], "little"))
        scores.fromfile(file, len(images) * len(names))
    with (place / "labels.csv").open(newline="") as file:
        said = {row["label"]: float(row["AP"]) for row in csv.DictReader(file) if row["part"] == "ZSL"}
    column = {name: index for index, name in enumerate(names)}
    checked = 0
    for name, known in truth(kind, place, images):
        found = average_precision([(scores[image * len(names) + column[name]], true) for image, true in known])
        if abs(found - said[name]) > 1e-9:
            sys.exit(f"{name}: average precision {said[name]}, computed again {found}")
        checked += 1
    return checked


def cells(row, first, scale, epochs):
    """A step beside what the first share predicts of it: times the images, and of training also times the epochs."""
    images, scale = scale, scale * (epochs if row["name"].startswith("train") else 1)
    found = [row["name"], f"{row['seconds']:.1f}", "", f"{row['cpu']:.1f}", "", "", f"{row['rss']:.0f}", f"{row['own']:.0f}", "", f"{row['disk']:.0f}"]
    before = next((other for other in first["steps"] if other["name"] == row["name"]), None)
    if before and images > 1:
        found[2], found[4] = f"{scale * before['seconds']:.0f}", f"{scale * before['cpu']:.0f}"
        found[5], found[8] = f"{row['cpu'] / before['cpu'] / scale:.2f}", f"{before['own']:.0f}"
    return found


def section(first, found):
    """A share's table, and what was compared."""
    scale, drawn = found["drawn"]["images"] / first["drawn"]["images"], found["drawn"]
    header = ["step", "s", "predicted", "processor, s", "predicted", "ratio", "peak MB", "own MB", "own MB of the first share", "run, MB"]
    table = turns.table(header, [cells(row, first, scale, len(found["epochs"]) / len(first["epochs"])) for row in found["steps"]])
    rates = ", ".join(f"{epoch['images_per_second']:.0f}" for epoch in found["epochs"])
    same, summary = found["same"], found["prepared"]["summary"]
    checks = []
    if "average precisions" in same:
        checks.append(f"average precisions of {same['average precisions']} unseen labels computed again from the kept scores")
    for name, what in (("tokens", "the tokens of the killed extraction are those of an undisturbed one"), ("model", "model and figures of the killed training are those of an undisturbed one"), ("epochs", f"{len(found['epochs'])} epochs, each once")):
        if name in same:
            checks.append(what if same[name] else f"NOT SO: {what}")
    figures = "; ".join(f"`{protocol['zsl']['protocol']}` {100 * protocol['zsl']['map']:.2f}, {100 * protocol['gzsl']['map']:.2f}" for protocol in found["figures"])
    return (
        f"## {100 * found['share']:g} % of the images: {drawn['images']:,}\n\n"
        f"{drawn['images']:,} pictures were drawn, of which {drawn['distinct']:,} differ: {found['sizes']['data'] / 1e6:,.0f} MB with lists and vectors, in {drawn['seconds'] / 60:.1f} minutes. "
        f"`prepare` counts {summary['train']['images']:,} training and {summary['test']['images']:,} test images, "
        f"{summary['train']['unseen_per_image']:.3f} and {summary['test']['unseen_per_image']:.3f} unseen labels an image, {summary['train']['seen_per_image']:.3f} and {summary['test']['seen_per_image']:.3f} seen ones.\n\n"
        f"{table}\n\n"
        f"Training: {len(found['epochs'])} of the paper's seven epochs, at {rates} images a second. Tokens: {found['sizes']['tokens'] / 1e6:,.0f} MB. Compared: {'; '.join(checks)}. ZSL and GZSL mAP (%): {figures}. "
        f"Busy processes before and after: {found['load'][0]}, {found['load'][1]}.\n"
    )


def page(kind, found):
    name = {"nus-wide": "NUS-WIDE", "open-images": "Open Images"}[kind]
    facts = "\n".join(fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:"))
    return (
        f"# A rehearsal of the run on {name}\n\n"
        f"Drawn pictures in the official layout, the built-in backbone, the paper's recipe. Written by `python3 bench/rehearsal.py {kind}`. "
        "Predicted: what the first share took, times the images, of training also times the epochs; when a training was killed is not the same. Processor: time that the program had on a core, to which other work on the machine adds nothing by itself; "
        "ratio: of it to what was predicted. Peak: all resident memory, with files that are mapped; own: without those. Run: the run folder after the step.\n\n"
        + "\n".join(section(found[0], share) for share in found)
        + f"\n{facts}\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["nus-wide", "open-images"])
    parser.add_argument("--share", default="0.01,1", help="shares of the images, one after the other")
    parser.add_argument("--epochs", type=int, default=7, help="of the training, where there is no time for the paper's seven; of the shares that are not finished yet")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "epsilon-rehearsal")
    parser.add_argument("--write", action="store_true", help="keep the tables in bench/results")
    options = parser.parse_args()
    shares = options.share.split(",")
    found = []
    for number, share in enumerate(shares):
        place = options.folder / f"{options.kind}-{share}"
        kept = place.with_suffix(f"{place.suffix}.json")
        if not kept.exists():
            before = turns.load()
            options.share = float(share)
            ended = rehearse(options.kind, place, options, twin=number == 0)
            ended["load"] = [before, turns.load()]
            kept.write_text(json.dumps(ended))
        found.append(json.loads(kept.read_text()))
    text = page(options.kind, found)
    print(text)
    if options.write:
        turns.write(f"rehearsal-{options.kind}.md", text)


if __name__ == "__main__":
    main()
