"""A library's exported vectors are searched by other programs with the scores of `epsilon search`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "python"
WORDS = ["striped circle", "plain star", "dotted square", "ringed heart"]
# Sums of products in f32, in another order.
NEAR = {"rel": 1e-5, "abs": 1e-5}


@pytest.fixture(scope="module")
def library(epsilon, model, photos, tmp_path_factory):
    """A tagged folder with one photograph that cannot be read."""
    folder = tmp_path_factory.mktemp("library") / "photos"
    folder.mkdir()
    for photo in photos:
        shutil.copy(photo, folder)
    (folder / "broken.png").write_bytes(b"no picture")
    tagged = epsilon("tag", folder, "--model", model, "--top", 3, check=False)
    assert tagged.returncode == 1, tagged.stderr
    return folder


def export(epsilon, library, place):
    """What an export says; the photograph without vectors is named."""
    done = epsilon("index", "export", library, "--to", place, "--json", check=False)
    assert done.returncode == 1 and "failed: broken.png: " in done.stderr
    return json.loads(done.stdout)


def queries(epsilon, library):
    printed = epsilon("index", "query", library, *WORDS).stdout
    return [json.loads(line) for line in printed.splitlines()]


def search(epsilon, library, words):
    """The score of every photograph, best first."""
    found = json.loads(epsilon("search", library, words, "--json", "--top", 100_000).stdout)
    return {hit["photo"]: hit["score"] for hit in found}


def assert_same(found, expected):
    """The best photographs of another program are ours; those whose scores are as good as equal may change places."""
    for (photo, score), (ours, best) in zip(found.items(), expected.items(), strict=False):
        assert score == pytest.approx(expected[photo], **NEAR)
        if photo != ours:
            assert expected[photo] == pytest.approx(best, **NEAR)
            print(f"as good as equal: {photo} {ours} {best}")


def test_parquet_gives_the_scores_of_a_search(epsilon, library, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="skipped: pyarrow is not installed")
    said = export(epsilon, library, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    vectors = json.loads(table.schema.metadata[b"epsilon.vectors"])
    assert vectors == said["vectors"] and said["photos"] == len(table)
    assert (vectors["metric"], vectors["comparator"]) == ("dot", "max")
    shape = (len(table), vectors["groups"], vectors["width"])
    values = table["vectors"].combine_chunks().flatten().flatten().to_numpy().reshape(shape)
    assert values.dtype == np.float32
    paths = table["path"].to_pylist()
    for query in queries(epsilon, library):
        scores = (values @ np.array(query["vector"], np.float32)).max(axis=1)
        # A stable order: of equal scores the earlier row comes first, as in a search.
        order = np.argsort(-scores, kind="stable")
        expected = search(epsilon, library, query["words"])
        assert len(expected) == len(order)
        assert_same({paths[row]: float(scores[row]) for row in order}, expected)
    tags = [json.loads(line) for line in (library / ".epsilon/tags.jsonl").read_text().splitlines()]
    names = {tag["photo"]: [label["name"] for label in tag["labels"]] for tag in tags if "labels" in tag}
    rows = table.select(["photo", "labels"]).to_pylist()
    assert {row["photo"]: [label["name"] for label in row["labels"]] for row in rows} == names


def test_qdrant_finds_the_same(epsilon, library, tmp_path):
    pytest.importorskip("qdrant_edge", reason="skipped: qdrant-edge-py is not installed")
    points = tmp_path / "out.jsonl"
    export(epsilon, library, points)
    asked = queries(epsilon, library)
    (tmp_path / "queries.jsonl").write_text("".join(f"{json.dumps(query)}\n" for query in asked))

    def found():
        command = [EXAMPLES / "qdrant_search.py", points, tmp_path / "queries.jsonl", "--json"]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    for line, words in zip(found(), WORDS, strict=True):
        assert line["words"] == words and len(line["found"]) == 10
        hits = {hit["photo"]: hit["score"] for hit in line["found"]}
        assert_same(hits, search(epsilon, library, words))
    # What the owner rejected is not found there either, once the points are exported anew.
    best = next(iter(search(epsilon, library, WORDS[0])))
    word = {"photo": Path(best).name, "label": WORDS[0], "verdict": "rejected", "at": 1}
    with (library / ".epsilon/corrections.jsonl").open("a") as corrections:
        corrections.write(f"{json.dumps(word)}\n")
    export(epsilon, library, points)
    expected = search(epsilon, library, WORDS[0])
    hits = {hit["photo"]: hit["score"] for hit in found()[0]["found"]}
    assert best not in expected and best not in hits
    assert_same(hits, expected)
