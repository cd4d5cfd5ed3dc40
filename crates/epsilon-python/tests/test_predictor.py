"""`Predictor`: the program's own rankings."""

import json

import numpy as np
import pytest

import epsilon_zsl
from epsilon_zsl.errors import ImageError, LabelError, ModelError

WORDS = ["striped circle", "plain star", "dotted square"]


@pytest.fixture(scope="module")
def predictor(model):
    return epsilon_zsl.Predictor.load(model)


def test_a_ranking_is_the_programs(epsilon, predictor, model, photos):
    printed = epsilon("predict", "--model", model, *photos[:3], "--labels", ",".join(WORDS), "--json")
    labels = predictor.labels(WORDS)
    for photo, expected in zip(photos[:3], json.loads(printed.stdout), strict=True):
        for given in (photo, str(photo), photo.read_bytes()):
            ranked = predictor.rank(given, labels)
            assert [(label.name, label.score, label.seen) for label in ranked] == [
                (label["name"], np.float32(label["score"]), label["seen"])
                for label in expected["labels"]
            ]


def test_the_best_labels_come_first(predictor, photos):
    labels = predictor.labels()
    assert len(labels) == len(labels.names) > 3
    best = predictor.rank(photos[0], labels, top=3)
    assert len(best) == 3
    assert best[0].score >= best[1].score >= best[2].score


def test_errors_name_what_is_wrong(predictor, tmp_path):
    with pytest.raises(ModelError, match="none.safetensors"):
        epsilon_zsl.Predictor.load(tmp_path / "none.safetensors")
    with pytest.raises(LabelError, match="xyzzy"):
        predictor.labels(["xyzzy"])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="broken.png"):
        predictor.rank(broken, predictor.labels())
    with pytest.raises(TypeError, match="int"):
        predictor.rank(3, predictor.labels())
