"""`examples/python/ray_tag.py` on a cluster of two nodes: the rankings of `epsilon predict`, and a killed run that goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "examples" / "python" / "ray_tag.py"
WORDS = ["striped circle", "plain star", "dotted square"]

# Other people's warnings.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def cluster():
    """The address of a local cluster of two nodes of one CPU each."""
    pytest.importorskip("ray.data", reason="skipped: ray[data] is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def folder(photos, tmp_path):
    """Photographs in two folders, one of which cannot be read, and a file that is none."""
    for place, photo in enumerate(photos[:20]):
        to = tmp_path / "photos" / ("a" if place % 2 else "b/c")
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, to)
    (tmp_path / "photos/a/broken.png").write_bytes(b"no picture")
    (tmp_path / "photos/list.txt").write_text("no photograph")
    return tmp_path / "photos"


def command(cluster, folder, model, out, *more):
    options = ["--to", out, "--model", model, "--labels", ",".join(WORDS), "--top", "2"]
    cpus = ["--threads", "1", "--batch", "4", "--address", cluster, "--json"]
    return [str(part) for part in (sys.executable, SCRIPT, folder, *options, *cpus, *more)]


def rows(out):
    import pyarrow.parquet as pq

    parts = [pq.read_table(part).to_pylist() for part in sorted(out.glob("*.parquet"))]
    return [row for part in parts for row in part]


def test_photographs_are_tagged_on_two_nodes(cluster, folder, model, epsilon, tmp_path):
    out = tmp_path / "tags"
    tagged = subprocess.run(command(cluster, folder, model, out), capture_output=True, text=True)
    assert tagged.returncode == 1, tagged.stderr
    summary = json.loads(tagged.stdout)
    failed = summary.pop("failed")
    assert summary == {"photos": 21, "before": 0, "tagged": 20, "nodes": 2}
    assert [failure["photo"] for failure in failed] == ["a/broken.png"]
    assert "failed: a/broken.png: " in tagged.stderr
    found = {row["photo"]: row["labels"] for row in rows(out)}
    assert len(found) == len(rows(out)) == 20
    # The very scores of the program.
    options = ["--model", model, "--labels", ",".join(WORDS), "--top", "2", "--json"]
    for photo, labels in sorted(found.items())[::3]:
        (expected,) = json.loads(epsilon("predict", folder / photo, *options).stdout)
        for label, other in zip(labels, expected["labels"], strict=True):
            assert (label["name"], label["seen"]) == (other["name"], other["seen"])
            assert np.float32(label["score"]) == np.float32(other["score"])
    # Only the one that failed is tried again, and with other words nothing is.
    shutil.copy(next(folder.glob("a/0*.png")), folder / "a/broken.png")
    again = subprocess.run(command(cluster, folder, model, out), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == {"photos": 21, "before": 20, "tagged": 1, "nodes": 1, "failed": []}
    other = subprocess.run(
        command(cluster, folder, model, out, "--top", "3"), capture_output=True, text=True
    )
    assert other.returncode == 2 and "of another top" in other.stderr and len(rows(out)) == 21
    nowhere = subprocess.run(
        command(cluster, folder / "nowhere", model, tmp_path / "no"), capture_output=True, text=True
    )
    assert nowhere.returncode == 2 and "nowhere" in nowhere.stderr and not (tmp_path / "no").exists()


def test_a_killed_run_goes_on(cluster, photos, model, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "tags"
    folder.mkdir()
    for place in range(600):
        shutil.copy(photos[place % len(photos)], folder / f"{place}.png")
    run = command(cluster, f"fsspec+file://{folder}", model, f"file://{out}", "--actors", "1")
    killed = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if list(out.glob("*.parquet")) or killed.poll() is not None:
            break
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    # Its actors end with it.
    time.sleep(3)
    before = {part.name: part.read_bytes() for part in out.glob("*.parquet")}
    count = len(rows(out))
    assert 0 < count < 600
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = {"photos": 600, "before": count, "tagged": 600 - count, "nodes": 1, "failed": []}
    assert json.loads(done.stdout) == expected
    assert sorted(row["photo"] for row in rows(out)) == sorted(f"{place}.png" for place in range(600))
    for name, content in before.items():
        assert (out / name).read_bytes() == content
