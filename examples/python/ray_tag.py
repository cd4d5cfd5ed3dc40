"""Tags many photographs on a Ray cluster, from a folder or an object store into Parquet (pip install "ray[data]" epsilon-zsl).

    python ray_tag.py s3://bucket/photos --model model.bundle.safetensors --labels words.txt --to s3://bucket/tags --address auto

Every file under --to but `_run.json` is a part with a row for each photograph: `photo`, its path below PHOTOS, and `labels`, its
best --top labels, best first, with `name`, `score`, `seen` and, of a calibrated model, `probability` and `kept`. The scores are those
of `epsilon predict PHOTO`. Any Parquet reader reads the folder as one table. A part is written whole or not at all, and photographs that
are in one are not tagged again: a run that was killed goes on where it was. Photographs that cannot be read are named, and tried
again by the next run. The exit status is 1 where there were any.
"""

import argparse
import hashlib
import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from pyarrow import fs

PICTURES = (
    ".avif .bmp .dng .gif .heic .heif .jfif .jpe .jpeg .jpg .jxl .png .tif .tiff .webp".split()
)
LABEL = pa.struct(
    {
        "name": pa.string(),
        "score": pa.float32(),
        "seen": pa.bool_(),
        "probability": pa.float32(),
        "kept": pa.bool_(),
    }
)
SCHEMA = pa.schema({"photo": pa.string(), "labels": pa.list_(LABEL)})
RUN = "_run.json"  # readers of folders pass over what begins so


class Tagger:
    """A predictor of one actor, and where it reads and writes."""

    def __init__(self, source, target, model, options, words, top, threads):
        import epsilon_zsl

        self.source, self.target, self.top, self.threads = source, target, top, threads
        self.predictor = epsilon_zsl.Predictor.load(model, **options)
        self.labels = self.predictor.labels(words)
        self.node = ray.get_runtime_context().get_node_id()

    def __call__(self, batch):
        """Tags photographs, writes those that could be read as a part, and says what came of each."""
        names = batch["photo"].to_pylist()
        with ThreadPoolExecutor(self.threads) as pool:
            results = list(pool.map(self.rank, names))
        rows = [
            {"photo": name, "labels": [row(label) for label in result]}
            for name, result in zip(names, results)
            if not isinstance(result, Exception)
        ]
        if rows:
            # Ray may give a batch to another actor when a node is lost: it then writes the same file again.
            part = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            write(self.target, f"{part}.parquet", lambda out: pq.write_table(table, out))
        errors = [str(result) if isinstance(result, Exception) else None for result in results]
        return pa.table(
            {
                "photo": names,
                "error": pa.array(errors, pa.string()),
                "node": [self.node] * len(names),
            }
        )

    def rank(self, name):
        """The best labels of a photograph, or why there are none. It is ranked by itself, so that the result does not depend on others."""
        import epsilon_zsl

        files, folder = self.source
        try:
            with files.open_input_file(f"{folder}/{name}") as file:
                return self.predictor.rank(file.read(), self.labels, self.top)
        except (OSError, epsilon_zsl.errors.ImageError) as error:
            return error


def row(label):
    return {field.name: getattr(label, field.name) for field in LABEL}


def write(target, name, fill):
    """Writes a file beside its place, then moves it there."""
    files, folder = target
    beside = f"{folder}/.{name}.part"
    with files.open_output_stream(beside) as out:
        fill(out)
    files.move(beside, f"{folder}/{name}")


def place(where):
    """The file system of a folder or an address, and the path in it."""
    where = where if "://" in where else Path(where).absolute().as_uri()
    files, path = fs.FileSystem.from_uri(where)
    return files, path.rstrip("/")


def photographs(source):
    """The paths of all pictures below a folder."""
    files, folder = source
    below = files.get_file_info(fs.FileSelector(folder, recursive=True))
    paths = (PurePosixPath(info.path) for info in below if info.type == fs.FileType.File)
    return sorted(str(path.relative_to(folder)) for path in paths if path.suffix.lower() in PICTURES)


def begin(target, settings):
    """Makes the folder of parts, or finds it made for the same, and gives the photographs that are in it."""
    files, folder = target
    files.create_dir(folder, recursive=True)
    if files.get_file_info(f"{folder}/{RUN}").type == fs.FileType.NotFound:
        text = json.dumps(settings, indent=2).encode()
        write(target, RUN, lambda out: out.write(text))
    with files.open_input_file(f"{folder}/{RUN}") as file:
        made_for = json.loads(file.read())
    for key, value in settings.items():
        if made_for.get(key) != value:
            print(f"ray_tag: {folder}: holds parts of another {key}; name another folder, or the same {key}", file=sys.stderr)
            sys.exit(2)
    done = set()
    for info in files.get_file_info(fs.FileSelector(folder)):
        if info.base_name.endswith(".parquet"):
            done.update(pq.read_table(info.path, columns=["photo"], filesystem=files)["photo"].to_pylist())
    return done


def identity(model):
    """What tells a model from others: its content, or the name of one that is published."""
    path = Path(model)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else model


def words_of(labels):
    """A list of words, from a file or from between commas; none for the model's own."""
    if labels is None:
        return None
    path = Path(labels)
    words = path.read_text(encoding="utf-8").splitlines() if path.is_file() else labels.split(",")
    return [word.strip() for word in words if word.strip()]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="a folder that all nodes see, or an address such as s3://bucket/photos or fsspec+sftp://host/photos")
    parser.add_argument("--to", required=True, metavar="FOLDER", help="where the parts go, a folder or an address, too")
    parser.add_argument("--model", required=True, help="a model, best a bundle, at the same path on every node")
    parser.add_argument("--backbone", metavar="WEIGHTS", help="the backbone's weights, where the model's own place does not serve")
    parser.add_argument("--vectors", metavar="FILE", help="the words' vectors, likewise")
    parser.add_argument("--labels", metavar="WORDS|FILE", help="words between commas, or a file of them (default: the model's own)")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="labels of a photograph (default: 5)")
    parser.add_argument("--actors", type=int, metavar="N", help="predictors (default: as many as the cluster's CPUs allow)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads, and CPUs, of a predictor (default: 2)")
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="photographs of a part, at most (default: 64)")
    parser.add_argument("--address", help="the cluster: auto, or HOST:PORT (default: one is started here)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser.parse_args()


def tag(todo, tagger, args):
    """Tags photographs on the cluster; yields what came of each."""
    blocks = -(-len(todo) // args.batch)
    cpus = (int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    actors = args.actors or sum(count // args.threads for count in cpus)
    # All actors share the work from its beginning; a cluster that cannot hold them says so.
    ray.data.DataContext.get_current().wait_for_min_actors_s = 600
    photos = ray.data.from_items([{"photo": name} for name in todo], override_num_blocks=blocks)
    outcomes = photos.map_batches(
        Tagger,
        fn_constructor_kwargs=tagger,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=max(1, min(actors, blocks))),
        num_cpus=args.threads,
        runtime_env={"env_vars": {"RAYON_NUM_THREADS": str(args.threads)}},
    )
    yield from outcomes.iter_rows()


def main():
    args = arguments()
    source, target, words = place(args.photos), place(args.to), words_of(args.labels)
    settings = {"photos": args.photos, "model": identity(args.model), "labels": words, "top": args.top}
    names = photographs(source)
    done = begin(target, settings)
    todo = [name for name in names if name not in done]
    summary = {"photos": len(names), "before": len(names) - len(todo), "tagged": 0, "nodes": 0, "failed": []}
    if todo:
        ray.init(address=args.address, logging_level=logging.WARNING)
        options = {"backbone": args.backbone, "vectors": args.vectors}
        tagger = {
            "source": source,
            "target": target,
            "model": args.model,
            "options": {key: value for key, value in options.items() if value},
            "words": words,
            "top": args.top,
            "threads": args.threads,
        }
        nodes = set()
        for outcome in tag(todo, tagger, args):
            nodes.add(outcome["node"])
            if outcome["error"] is None:
                summary["tagged"] += 1
            else:
                summary["failed"].append({"photo": outcome["photo"], "error": outcome["error"]})
                print(f"failed: {outcome['photo']}: {outcome['error']}", file=sys.stderr)
        summary["nodes"] = len(nodes)
    if args.json:
        print(json.dumps(summary))
    else:
        print(
            "{photos} photographs: {tagged} tagged on {nodes} nodes, {before} were before".format(**summary)
            + f", {len(summary['failed'])} failed"
        )
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ImportError, pa.ArrowInvalid) as error:
        print(f"ray_tag: {error}", file=sys.stderr)
        sys.exit(2)
