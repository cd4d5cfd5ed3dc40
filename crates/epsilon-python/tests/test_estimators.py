"""`epsilon_zsl.estimators`: every method on arrays, held against the program's own training, and in scikit-learn's hands."""

import copy
import csv
import importlib.util
import inspect
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import epsilon_zsl
from epsilon_zsl import _native, estimators
from epsilon_zsl._estimator import _labels
from epsilon_zsl.errors import EpsilonError, EstimatorError, MetricsError, TrainingError

IMAGES, TOKENS, WIDTH, LABELS, VECTOR = 40, 4, 8, 6, 8
CLASSES = [getattr(estimators, name) for name in estimators.__all__ if name not in ("Estimator", "StoredFeatures")]
#: Small ones of those whose published sizes take long.
SMALL = {
    "biam": {"channels": 16},
    "cnn-rnn": {"hidden": 8, "embedding": 4},
    "epsilon": {"groups": 2},
    "fast0tag": {"hidden": (16, 8)},
    "gen-mlzsl": {"hidden": 8, "epochs": 1, "batch": 8, "samples": 2, "classifier_epochs": 2},
    "lesa-per-cluster": {"clusters": 2},
    "learnt-labels": {"of": {"kind": "bilinear-attention", "rank": 8}},
    "wsabie": {"rank": 4},
}


@pytest.fixture(scope="module")
def data():
    """Images of four tokens, three-valued labels, vectors of six labels and of three others."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(IMAGES, TOKENS, WIDTH)).astype(np.float32)
    y = rng.integers(-1, 2, size=(IMAGES, LABELS))
    return X, y, rng.normal(size=(LABELS, VECTOR)), rng.normal(size=(3, VECTOR))


def small(method, data, **more):
    """An estimator that is quickly trained."""
    _, _, vectors, others = data
    settings = {"label_vectors": vectors, "unseen_vectors": others, **SMALL.get(method._method, {})}
    if "epochs" in method._training_settings:
        settings |= {"epochs": 2, "batch": 16}
    return method(**(settings | more))


def is_open(method):
    return method._method not in ("cnn-rnn", "gen-mlzsl", "learnt-labels", "logistic", "warp", "wsabie")


@pytest.mark.parametrize("method", CLASSES, ids=lambda method: method.__name__)
def test_every_method_fits_and_scores(method, data):
    X, y, _, others = data
    model = small(method, data).fit(X, y)
    scores = model.decision_function(X)
    assert scores.shape == (IMAGES, LABELS) and scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (model.predict(X).sum(axis=1) == 3).all()
    assert 0 <= model.score(X, y) <= 1
    assert (model.n_features_in_, list(model.classes_)) == (WIDTH, list(range(LABELS)))
    if is_open(method):
        unseen = model.score_labels(X, others)
        assert unseen.shape == (IMAGES, 3) and np.isfinite(unseen).all()
        np.testing.assert_array_equal(unseen, model.score_labels(X))
        np.testing.assert_array_equal(scores, model.score_labels(X, model.label_vectors))
    else:
        with pytest.raises(EstimatorError, match=method._method):
            model.score_labels(X, others)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(scores, again.decision_function(X))
    np.testing.assert_array_equal(scores, copy.deepcopy(model).decision_function(X))
    assert again.history_ == model.history_
    untrained = clone(model)
    assert not hasattr(untrained, "classes_")
    np.testing.assert_array_equal(scores, untrained.fit(X, y).decision_function(X))


def test_gen_mlzsl_scores_its_unseen_labels(data):
    X, y, _, _ = data
    model = small(estimators.GenMLZSL, data).fit(X, y)
    assert model.score_labels(X).shape == (IMAGES, 3)
    with pytest.raises(EstimatorError, match="unseen"):
        small(estimators.GenMLZSL, data).set_params(unseen_vectors=None).fit(X, y)


# The program's own training.


@pytest.fixture(scope="module")
def table(drawn):
    """Ids, split and labels of the drawn pictures, their seen and unseen labels, and vectors by label."""
    folder = drawn / "data"
    with open(folder / "labels.tsv", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if row and not row[0].startswith("#")]
    names = {part: (folder / f"{part}.txt").read_text().split("\n") for part in ("seen", "unseen")}
    names = {part: [name for name in given if name] for part, given in names.items()}
    found = {}
    for line in (folder / "vectors.txt").read_text().splitlines():
        name, *values = line.split(" ")
        found[name.replace("_", " ")] = np.array(values, dtype=np.float32)
    return rows, names["seen"], names["unseen"], found


TRAINING = {"epochs": 2, "batch": 32, "learning_rate": 1e-3, "validation": 0.2, "patience": 1}
RECIPE = """
seeds = [3]
[data]
table = "data/labels.tsv"
images = "data"
seen = "data/seen.txt"
unseen = "data/unseen.txt"
vectors = "data/vectors.txt"
[features]
store = "{store}"
[method]
kind = "{method}"
{settings}
[training]
{training}
[evaluation]
protocol = "lesa-nus"
bootstrap = 0
"""


@pytest.mark.parametrize(
    ("method", "settings", "given"),
    [
        (estimators.Ridge, "", {}),
        (estimators.SDL, "rows = 3", {"rows": 3}),
        (estimators.Epsilon, "groups = 2\nlambda = 0.1", {"groups": 2, "lambda_": 0.1}),
        (estimators.BilinearAttention, "rank = 16", {"rank": 16}),
    ],
    ids=["ridge", "sdl", "epsilon", "bilinear-attention"],
)
def test_it_is_the_programs_training_bit_for_bit(epsilon, drawn, table, tmp_path, method, settings, given):
    rows, seen, unseen, found = table
    store = drawn / "tokens"
    # Its paths are from its own folder; the recipes that other tests read are not its own.
    recipe = drawn / f"trained-{method._method}.toml"
    training = TRAINING if method._training_settings else {}
    lines = "\n".join(f"{name.replace('_', '-')} = {value}" for name, value in training.items())
    recipe.write_text(RECIPE.format(store=store, method=method._method, settings=settings, training=lines))
    run = tmp_path / "run"
    epsilon("train", recipe, "--out", run)
    (trained,) = run.rglob("model.safetensors")
    epsilon("eval", trained, "--data", recipe, "--save-scores", tmp_path / "scores.npy")
    expected = np.load(tmp_path / "scores.npy")

    images = estimators.StoredFeatures(store)
    row_of = {name: row for row, name in enumerate(images.ids)}
    labels = {row[0]: row[2].split(",") for row in rows}
    ids = [row[0] for row in rows if row[1] == "train"]
    train = images[[row_of[name] for name in ids]]
    y = np.array([[1 if name in labels[image] else -1 for name in seen] for image in ids])
    model = method(
        label_vectors=[found[name] for name in seen],
        unseen_vectors=[found[name] for name in unseen],
        seed=3,
        protocol="lesa-nus",
        **given,
        **training,
    ).fit(train, y)
    test = images[[row_of[name] for name in (tmp_path / "scores.images.txt").read_text().split()]]
    mine = model.score_labels(test, [found[name] for name in seen + unseen])
    np.testing.assert_array_equal(mine, expected)
    # Of other labels beside them they are the same but for rounding.
    apart = np.hstack([model.decision_function(test), model.score_labels(test)])
    np.testing.assert_allclose(apart, expected, rtol=1e-4, atol=1e-5)


# Arrays.


def test_features_of_any_kind_and_layout(data):
    X, y, vectors, _ = data
    half = X.astype(np.float16)
    model = estimators.Ridge(label_vectors=vectors)
    expected = model.fit(half.astype(np.float32), y).decision_function(half.astype(np.float32))
    wide = np.zeros((IMAGES, TOKENS, 2 * WIDTH), dtype=np.float16)
    wide[:, :, ::2] = half
    read_only = half.astype(np.float32)
    read_only.flags.writeable = False
    for other in (half, half.astype(np.float64), wide[:, :, ::2], np.asfortranarray(half), half.astype(">f4"), read_only):
        scores = clone(model).fit(other, y).decision_function(other)
        np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(clone(model).fit(half.tolist(), y.tolist()).decision_function(half), expected)


def test_what_stands_for_an_image(data):
    X, y, vectors, _ = data
    mean = estimators.Ridge(label_vectors=vectors).fit(X, y).decision_function(X)
    by_hand = X.astype(np.float64).mean(axis=1)
    alone = estimators.Ridge(label_vectors=vectors).fit(by_hand, y).decision_function(by_hand)
    np.testing.assert_array_equal(mean, alone)
    first = estimators.Ridge(label_vectors=vectors, pooling="first").fit(X, y).decision_function(X)
    alone = estimators.Ridge(label_vectors=vectors).fit(X[:, 0], y).decision_function(X[:, 0])
    np.testing.assert_array_equal(first, alone)


def test_what_a_zero_is():
    two, three = np.array([[0, 1], [1, 1]]), np.array([[0, 1], [-1, 1]])
    assert _labels(two, "auto").tolist() == [[-1, 1], [1, 1]]
    assert _labels(two.astype(bool), "auto").tolist() == [[-1, 1], [1, 1]]
    assert _labels(two, "unknown").tolist() == two.tolist()
    assert _labels(three, "auto").tolist() == three.tolist()
    assert _labels(three, "negative").tolist() == [[-1, 1], [-1, 1]]


def test_images_of_a_store(drawn):
    store = drawn / "tokens"
    images = estimators.StoredFeatures(store)
    assert len(images) == images.shape[0] == len(images.ids)
    odd = images[1::2]
    assert odd.ids == images.ids[1::2]
    assert images[np.arange(len(images)) % 2 == 1].ids == odd.ids
    assert odd[[-1, 0], ...].ids == [odd.ids[-1], odd.ids[0]]
    assert pickle.loads(pickle.dumps(odd)).ids == odd.ids
    opened = epsilon_zsl.TokenStore(store)
    y = np.eye(3)[np.arange(len(images)) % 3]
    fitted = estimators.Ridge(label_vectors=np.eye(3)).fit(opened, y)
    assert fitted.n_features_in_ == opened.width
    by_rows = estimators.StoredFeatures(opened, [1, 0])
    np.testing.assert_array_equal(fitted.decision_function(by_rows), fitted.decision_function(images[:2])[::-1])
    for call in [fitted.decision_function, fitted.predict, lambda X: fitted.score_labels(X, np.eye(3))]:
        with pytest.raises(EstimatorError, match="X: .*at least one image"):
            call(images[[]])
    with pytest.raises(IndexError):
        images[[len(images)]]
    with pytest.raises(epsilon_zsl.errors.StoreError, match="nowhere"):
        estimators.StoredFeatures("nowhere")


# Errors.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"X": np.zeros(3)}, r"X: shape \(3,\)"),
        ({"X": np.full((IMAGES, WIDTH), np.nan)}, "X: .*image 0"),
        ({"X": np.full((IMAGES, WIDTH), 1e300)}, "X: .*image 0"),
        ({"X": np.full((IMAGES, WIDTH), "a")}, "X: an array of <U1"),
        ({"X": np.zeros((0, WIDTH)), "y": np.zeros((0, LABELS))}, "X: .*at least one image"),
        ({"X": np.zeros((3, WIDTH))}, "y: 40 rows.*3 images"),
        ({"y": np.zeros(IMAGES)}, r"y: shape \(40,\)"),
        ({"y": np.full((IMAGES, LABELS), 2)}, "y: 2 in row 0, column 0"),
        ({"y": np.full((IMAGES, LABELS), 0.5)}, "y: 0.5 in row 0"),
        ({"y": np.full((IMAGES, LABELS), np.nan)}, "y: nan in row 0"),
        ({"y": np.zeros((IMAGES, LABELS))}, "y: no image has a positive label"),
        ({"label_vectors": None}, "label_vectors: .*give the label vectors"),
        ({"label_vectors": np.ones((2, VECTOR))}, "label_vectors: 2 vectors.*6 labels"),
        ({"label_vectors": np.zeros((LABELS, VECTOR))}, "label_vectors: .*0"),
        ({"label_vectors": np.ones(3)}, r"label_vectors: shape \(3,\)"),
        ({"unseen_vectors": np.ones((2, 3))}, "unseen_vectors: 3 wide.*8 wide"),
        ({"learning_rate": "fast"}, "learning-rate = "),
        ({"learning_rate": -1.0}, "learning-rate = -1"),
        ({"learning_rate": float("inf")}, "learning_rate = inf"),
        ({"rows": 0}, "rows"),
        ({"schedule": "never"}, "schedule = "),
        ({"optimiser": {"kind": "sgd", "friction": 1}}, "optimiser = "),
        ({"epochs": object()}, "epochs = "),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"pooling": "max"}, 'pooling: "max"'),
        ({"zeros": "nothing"}, "zeros = 'nothing'"),
        ({"protocol": "mine"}, "protocol: "),
        ({"validation": 0.99, "patience": 1}, "validation = 0.99"),
    ],
)
def test_what_is_wrong_is_named(data, change, said):
    X, y, *_ = data
    X, y = change.pop("X", X), change.pop("y", y)
    model = small(estimators.SDL, data, **change)
    with pytest.raises(EstimatorError, match=said) as caught:
        model.fit(X, y)
    assert isinstance(caught.value, (EpsilonError, ValueError))


def test_a_training_that_diverges_is_told(data):
    X, y, *_ = data
    with pytest.raises(TrainingError, match="learning rate"):
        small(estimators.SDL, data, learning_rate=1e30, optimiser="sgd", epochs=20).fit(X, y)


def test_what_does_not_fit_a_trained_one_is_named(data):
    X, y, vectors, others = data
    model = estimators.SDL(label_vectors=vectors, epochs=1).fit(X, y)
    with pytest.raises(EstimatorError, match="X: "):
        model.decision_function(X[:, :, :4])
    with pytest.raises(EstimatorError, match="vectors: 3 wide"):
        model.score_labels(X, others[:, :3])
    with pytest.raises(EstimatorError, match="without unseen_vectors"):
        model.score_labels(X)
    with pytest.raises(EstimatorError, match="y: 3 a row"):
        model.score(X, y[:, :3])
    with pytest.raises(MetricsError):
        model.score(X, np.zeros((IMAGES, LABELS)))
    assert model.set_params(top_k=LABELS + 1).predict(X).all()
    with pytest.raises(EstimatorError, match="top_k = 0"):
        model.set_params(top_k=0).predict(X)
    with pytest.raises(EstimatorError, match="nothing: SDL has the parameters label_vectors"):
        model.set_params(nothing=1)
    with pytest.raises(TypeError):
        estimators.SDL(vectors)


def test_one_that_is_not_trained_says_so(data):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError, match="Ridge is not trained"):
        estimators.Ridge().predict(data[0])


# In scikit-learn's hands.


def test_it_is_searched_and_cross_validated_in_a_pipeline(data):
    X, y, vectors, _ = data
    flat = X[:, 0]
    pipeline = make_pipeline(StandardScaler(), estimators.Ridge(label_vectors=vectors))
    search = GridSearchCV(pipeline, {"ridge__penalty": np.logspace(-2, 1, 3)}, cv=2, n_jobs=2).fit(flat, y)
    assert search.best_params_["ridge__penalty"] in np.logspace(-2, 1, 3)
    assert search.predict(flat).shape == y.shape
    scores = cross_val_score(small(estimators.SDL, data), X, y, cv=3)
    assert scores.shape == (3,) and np.isfinite(scores).all()
    shown = (y > 0).astype(int)
    ranked = cross_val_score(estimators.Ridge(label_vectors=vectors), flat, shown, cv=2, scoring="average_precision")
    assert np.isfinite(ranked).all()


def test_folds_of_a_store(drawn, table):
    rows, seen, _, found = table
    store = drawn / "tokens"
    images = estimators.StoredFeatures(store)[:60]
    labels = {row[0]: row[2].split(",") for row in rows}
    y = np.array([[name in labels[image] for name in seen] for image in images.ids])
    model = estimators.Ridge(label_vectors=[found[name] for name in seen])
    assert np.isfinite(cross_val_score(model, images, y, cv=3)).all()


def test_parameters_are_those_of_the_signature(data):
    model = small(estimators.Epsilon, data, lambda_=0.25)
    assert model.get_params()["lambda_"] == 0.25
    assert list(model.get_params()) == list(inspect.signature(estimators.Epsilon).parameters)
    assert repr(estimators.Ridge(penalty=2.0, label_vectors=data[2])) == "Ridge(label_vectors=array(6, 8), penalty=2.0)"
    inner = estimators.LearntLabels(of=estimators.BilinearAttention(rank=8), label_vectors=data[2], epochs=1)
    assert inner.set_params(of__rank=4).get_params()["of__rank"] == 4
    assert inner.fit(*data[:2]).decision_function(data[0]).shape == (IMAGES, LABELS)
    by_name = estimators.SDL(label_vectors=data[2], epochs=1, optimiser="sgd", schedule={"kind": "cosine", "floor": 0.1})
    assert by_name.fit(*data[:2]).history_[0]["epoch"] == 1


def test_it_works_in_threads(data):
    X, y, vectors, _ = data
    expected = estimators.SDL(label_vectors=vectors, epochs=2).fit(X, y).decision_function(X)

    def trained(_):
        return estimators.SDL(label_vectors=vectors, epochs=2).fit(X, y).decision_function(X)

    with ThreadPoolExecutor(4) as threads:
        for scores in threads.map(trained, range(8)):
            np.testing.assert_array_equal(scores, expected)


def test_ctrl_c_stops_a_training():
    program = """
import numpy as np, sys
from epsilon_zsl.estimators import SDL
rng = np.random.default_rng(0)
X, y, vectors = rng.normal(size=(500, 64)), rng.integers(0, 2, size=(500, 50)), rng.normal(size=(50, 50))
print("training", flush=True)
try:
    SDL(label_vectors=vectors, epochs=100_000).fit(X, y)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "training\n"
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    asked = time.monotonic()
    assert running.communicate(timeout=20)[0] == "stopped\n"
    assert time.monotonic() - asked < 2


def test_scikit_learn_is_not_imported():
    program = "import sys, epsilon_zsl.estimators; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_it_is_trained_without_scikit_learn():
    program = """
import sys
sys.modules["sklearn"] = None
import numpy as np
from epsilon_zsl.estimators import Ridge
try:
    Ridge().predict(np.ones((2, 2)))
except ValueError as error:
    assert "not trained" in str(error), error
Ridge(label_vectors=np.eye(2)).fit(np.eye(2), np.eye(2)).predict
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


# The source of the classes.


def test_the_module_is_that_of_the_library():
    script = Path(__file__).parent.parent / "make_estimators.py"
    spec = importlib.util.spec_from_file_location("make_estimators", script)
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.WRITTEN.read_text() == make.module(), f"out of date: run python {script}"
    assert sorted(method._method for method in CLASSES) == sorted(_native.estimator_names())


def test_a_network_that_no_memory_holds_is_refused():
    rows, vectors = np.eye(4, 8, dtype=np.float32), np.eye(4, 6, dtype=np.float32)
    with pytest.raises(EpsilonError, match="choose a smaller network"):
        estimators.Fast0Tag(label_vectors=vectors, hidden=[10**13]).fit(rows, np.eye(4, dtype=int))
    with pytest.raises(EpsilonError, match="choose a smaller network"):
        estimators.Fast0Tag(label_vectors=vectors, hidden=[2**62, 2**62]).fit(rows, np.eye(4, dtype=int))
