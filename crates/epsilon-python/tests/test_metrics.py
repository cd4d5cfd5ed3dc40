"""`epsilon_zsl.metrics`: equal to scikit-learn and torchmetrics, to values by hand, and to the program's own figures."""

import doctest
import json
import os
import pickle
import signal
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn

from epsilon_zsl import metrics
from epsilon_zsl.errors import EpsilonError, MetricsError

try:
    import torch
    import torchmetrics.functional.classification as peer
except ImportError:
    torch = peer = None
needs_torchmetrics = pytest.mark.skipif(peer is None, reason="torchmetrics is not installed")

# Of the computation in double precision, and of torchmetrics' in single precision.
CLOSE = 1e-9
SINGLE = 2e-6
AVERAGES = ["micro", "macro", "weighted", None]


def tables(unknown, count=25, dtype=np.float64):
    """Random tables with ties, a label and an image without positives; labels 1, -1 and, where `unknown`, 0; else 1 and 0."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        shape = rng.integers(2, 60), rng.integers(2, 12)
        scores = rng.random(shape)
        if seed % 3:
            scores = np.round(scores * rng.integers(2, 8)) / 8
        target = rng.choice([1, -1, 0] if unknown else [1, 0], shape, p=[0.3, 0.4, 0.3] if unknown else [0.3, 0.7])
        target[:, 0] = np.minimum(target[:, 0], 0)
        target[0] = np.minimum(target[0], 0)
        if unknown:
            target[-1, -1] = -1
        yield scores.astype(dtype), target


def known(scores, target, unknown):
    """Scores and truth of each label over the images for which it is known."""
    for score, label in zip(scores.T, target.T, strict=True):
        keep = label != 0 if unknown else np.full(label.shape, True)
        yield score[keep], label[keep] == 1


def quiet(function, *arguments, **more):
    """scikit-learn without its warnings about labels of one kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **more)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_average_precision_is_scikit_learns(unknown, dtype):
    for scores, target in tables(unknown, dtype=dtype):
        labels = list(known(scores, target, unknown))
        each = [quiet(sklearn.average_precision_score, truth, score) if len(truth) else 0.0 for score, truth in labels]
        found = metrics.multilabel_average_precision(scores, target, average=None)
        np.testing.assert_allclose(found, each, atol=CLOSE, rtol=0)
        assert metrics.multilabel_average_precision(scores, target) == pytest.approx(np.mean(each), abs=CLOSE)
        positives = [truth.sum() for _, truth in labels]
        weighted = np.average(each, weights=positives) if sum(positives) else 0.0
        assert metrics.multilabel_average_precision(scores, target, average="weighted") == pytest.approx(weighted, abs=CLOSE)
        score, truth = (np.concatenate(part) for part in zip(*labels, strict=True))
        micro = quiet(sklearn.average_precision_score, truth, score)
        assert metrics.multilabel_average_precision(scores, target, average="micro") == pytest.approx(micro, abs=CLOSE)


@pytest.mark.parametrize("unknown", [False, True])
def test_the_area_under_the_roc_curve_is_scikit_learns(unknown):
    for scores, target in tables(unknown):
        each = metrics.multilabel_auroc(scores, target, average=None)
        for found, (score, truth) in zip(each, known(scores, target, unknown), strict=True):
            both = 0 < truth.sum() < len(truth)
            assert found == (pytest.approx(sklearn.roc_auc_score(truth, score), abs=CLOSE) if both else 0.0)


@pytest.mark.parametrize("unknown", [False, True])
def test_curves_are_scikit_learns(unknown):
    for scores, target in tables(unknown):
        curves = zip(*metrics.multilabel_precision_recall_curve(scores, target), strict=True)
        for found, (score, truth) in zip(curves, known(scores, target, unknown), strict=True):
            expected = quiet(sklearn.precision_recall_curve, truth, score) if len(truth) else ([1.0], [0.0], [])
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("unknown", [False, True])
def test_decisions_are_scikit_learns(unknown):
    functions = {
        metrics.multilabel_precision: sklearn.precision_score,
        metrics.multilabel_recall: sklearn.recall_score,
        metrics.multilabel_f1_score: sklearn.f1_score,
        metrics.multilabel_accuracy: sklearn.accuracy_score,
    }
    for scores, target in tables(unknown):
        for ours, theirs in functions.items():
            zero = {} if theirs is sklearn.accuracy_score else {"zero_division": 0}
            each = [
                theirs(truth, score > 0.5, **zero) if len(truth) else 0.0
                for score, truth in known(scores, target, unknown)
            ]
            np.testing.assert_allclose(ours(scores, target, average=None), each, atol=CLOSE, rtol=0)
            assert ours(scores, target) == pytest.approx(np.mean(each), abs=CLOSE)
        if not unknown:
            exact = sklearn.accuracy_score(target == 1, scores > 0.5)
            assert metrics.multilabel_exact_match(scores, target) == pytest.approx(exact, abs=CLOSE)
            micro = sklearn.f1_score(target == 1, scores > 0.5, average="micro", zero_division=0)
            assert metrics.multilabel_f1_score(scores, target, average="micro") == pytest.approx(micro, abs=CLOSE)


@pytest.mark.parametrize("unknown", [False, True])
def test_the_labels_of_images_are_ranked_as_by_scikit_learn(unknown):
    functions = {
        metrics.multilabel_coverage_error: (sklearn.coverage_error, 0.0),
        metrics.multilabel_ranking_loss: (sklearn.label_ranking_loss, 0.0),
        metrics.multilabel_ranking_average_precision: (sklearn.label_ranking_average_precision_score, 1.0),
    }
    for scores, target in tables(unknown):
        for ours, (theirs, empty) in functions.items():
            values = []
            for score, truth in known(scores.T, target.T, unknown):
                # scikit-learn wants two labels: one below all others changes nothing but the pairs of the loss.
                alone = len(truth) < 2 or not truth.any()
                values.append(quiet(theirs, truth[None], score[None]) if not alone else None)
                if alone:
                    values[-1] = float(truth.sum()) if theirs is sklearn.coverage_error else empty
            assert ours(scores, target) == pytest.approx(np.mean(values), abs=CLOSE)


@needs_torchmetrics
@pytest.mark.parametrize("ignore_index", [None, -1])
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", ["average_precision", "auroc", "precision", "recall", "f1_score", "accuracy", "hamming_distance"])
def test_figures_are_those_of_torchmetrics(name, average, logits, ignore_index):
    ours, theirs = getattr(metrics, f"multilabel_{name}"), getattr(peer, f"multilabel_{name}")
    curves = name in ("average_precision", "auroc")
    for scores, target in tables(unknown=False, dtype=np.float32):
        scores, target = of_torchmetrics(scores, target, logits, ignore_index)
        both = torch.from_numpy(scores), torch.from_numpy(target)
        for thresholds in ({}, {"thresholds": 7}, {"thresholds": [0.25, 0.5, 0.75]}) if curves else ({},):
            arguments = {"num_labels": target.shape[1], "average": average, "ignore_index": ignore_index, **thresholds}
            expected = quiet(theirs, *both, **arguments).numpy()
            np.testing.assert_allclose(ours(scores, target, **arguments), expected, atol=SINGLE, rtol=0)


def of_torchmetrics(scores, target, logits, ignore_index):
    """A table as torchmetrics takes it: with logits, and with some labels ignored, but none everywhere, of which it makes an error."""
    if logits:
        scores = 4 * scores - 2
    if ignore_index is not None:
        ignored = np.random.default_rng(1).random(target.shape) < 0.3
        ignored[:2] = False
        target = np.where(ignored, ignore_index, target)
    return scores, target


@needs_torchmetrics
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("thresholds", [None, 9])
def test_curves_are_those_of_torchmetrics(logits, thresholds):
    for scores, target in tables(unknown=False, dtype=np.float32):
        scores, target = of_torchmetrics(scores, target, logits, -1)
        arguments = {"num_labels": target.shape[1], "thresholds": thresholds, "ignore_index": -1}
        theirs = quiet(peer.multilabel_precision_recall_curve, torch.from_numpy(scores), torch.from_numpy(target), **arguments)
        ours = metrics.multilabel_precision_recall_curve(scores, target, **arguments)
        for one, other in zip(ours, theirs, strict=True):
            for found, expected in zip(one, other, strict=True):
                np.testing.assert_allclose(found, expected.numpy(), atol=SINGLE, rtol=0)


@needs_torchmetrics
def test_the_rest_is_that_of_torchmetrics():
    for scores, target in tables(unknown=False, dtype=np.float32):
        both, labels = (torch.from_numpy(scores), torch.from_numpy(target)), target.shape[1]
        for name in ("coverage_error", "ranking_average_precision", "exact_match"):
            ours, theirs = getattr(metrics, f"multilabel_{name}"), getattr(peer, f"multilabel_{name}")
            assert ours(scores, target, labels) == pytest.approx(float(theirs(*both, labels)), abs=SINGLE)
        expected = float(peer.multilabel_fbeta_score(*both, 2.0, labels))
        assert metrics.multilabel_fbeta_score(scores, target, 2.0, labels) == pytest.approx(expected, abs=SINGLE)
        if len(np.unique(scores)) == scores.size:
            expected = float(peer.multilabel_ranking_loss(*both, labels))
            assert metrics.multilabel_ranking_loss(scores, target, labels) == pytest.approx(expected, abs=SINGLE)


def test_zero_division_is_the_value_of_nothing():
    nothing = [[0.1], [0.2]], [[0], [0]]
    for function in (metrics.multilabel_precision, metrics.multilabel_recall, metrics.multilabel_f1_score):
        assert (function(*nothing), function(*nothing, zero_division=1)) == (0.0, 1.0)


def test_what_zero_means():
    scores = [[0.9], [0.8], [0.7]]
    average_precision = metrics.multilabel_average_precision
    assert average_precision(scores, [[0], [1], [0]]) == 0.5
    assert average_precision(scores, [[0], [1], [-1]]) == 1.0
    assert average_precision(scores, [[0], [1], [-1]], ignore_index=-1) == 0.5
    assert average_precision(scores, [[0], [1], [0]], ignore_index=0) == 1.0
    assert average_precision(scores, [[0], [255], [1]], ignore_index=255) == 0.5
    assert average_precision(scores, np.array([[False], [True], [False]])) == 0.5


def test_double_precision_is_not_rounded():
    scores = np.array([[0.1], [0.1 + 1e-12]])
    assert metrics.multilabel_average_precision(scores, [[0], [1]]) == 1.0
    assert metrics.multilabel_average_precision(scores.astype(np.float32), [[0], [1]]) == 0.5
    assert metrics.evaluate(scores, [[0], [1]], protocol="lesa-nus", k=1).map == 1.0


LAYOUTS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "backwards": lambda array: np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1],
    "every other": lambda array: np.repeat(np.repeat(array, 2, 0), 3, 1)[::2, ::3],
    "another byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "not aligned": lambda array: np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape),
    "dlpack": lambda array: Shared(array),
}


class Shared:
    """An array of another library."""

    def __init__(self, array, device=None):
        self.array, self.on = array, device

    def __dlpack_device__(self):
        return self.on or self.array.__dlpack_device__()

    def __dlpack__(self, **more):
        return self.array.__dlpack__(**more)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_layouts_and_types_change_nothing(layout, dtype):
    scores, target = next(tables(unknown=True, dtype=dtype))
    expected = [metrics.multilabel_average_precision(scores, target, average=None), metrics.multilabel_ranking_loss(scores, target)]
    for integers in (np.int8, np.int16, np.int32, np.int64):
        lay = LAYOUTS[layout]
        given = lay(scores), lay(target.astype(integers))
        found = metrics.multilabel_average_precision(*given, average=None)
        np.testing.assert_array_equal(found, expected[0])
        assert metrics.multilabel_ranking_loss(*given) == expected[1]
        assert metrics.evaluate(*given, k=1).map == metrics.evaluate(scores, target, k=1).map


def test_a_constant_row_of_scores_may_be_one_number():
    scores = np.broadcast_to(np.float32(0.5), (4, 2))
    assert metrics.multilabel_average_precision(scores, [[1, 0]] * 2 + [[0, 1]] * 2) == 0.5


def test_memory_is_shared():
    scores = np.random.default_rng(1).random((2000, 500), dtype=np.float32)
    target = (scores > 0.9).astype(np.int64)
    for given in ((scores, target), (scores[::-1], target[::-1]), (Shared(scores), Shared(target))):
        tracemalloc.start()
        metrics.multilabel_average_precision(*given)
        metrics.evaluate(*given, unseen=range(100), k=3)
        metrics.multilabel_f1_score(*given)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < scores.nbytes / 4


@pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
def test_tensors_are_read_where_they_lie():
    scores = torch.rand(30, 7, dtype=torch.float32)
    target = (torch.rand(30, 7) > 0.7).long()
    expected = metrics.multilabel_average_precision(scores.numpy(), target.numpy())
    wanting = scores.clone().requires_grad_()
    for given in (scores, scores.T.contiguous().T, wanting):
        assert metrics.multilabel_average_precision(given, target) == expected
    with pytest.raises(MetricsError, match="preds: .*bfloat16"):
        metrics.multilabel_average_precision(scores.bfloat16(), target)
    with pytest.raises(MetricsError, match="preds: .*meta"):
        metrics.multilabel_average_precision(scores.to("meta"), target)


def test_a_tensor_elsewhere_is_refused():
    scores = np.zeros((2, 2), np.float32)
    with pytest.raises(MetricsError, match="target: it is on the device .* copy it to the CPU"):
        metrics.multilabel_average_precision(scores, Shared(scores, device=(2, 0)))


REFUSED = {
    "preds: this is an array of shape \\(4,\\)": lambda f: f(np.zeros(4), np.zeros((4, 1), int)),
    "preds: .* of int64": lambda f: f(np.zeros((4, 1), int), np.zeros((4, 1), int)),
    "target: .* of float64: give .* bool or integers": lambda f: f(np.zeros((4, 1)), np.zeros((4, 1))),
    "target: its shape \\(3, 1\\) is not the \\(4, 1\\)": lambda f: f(np.zeros((4, 1)), np.zeros((3, 1), int)),
    "num_labels: it is 3, and preds has 1": lambda f: f(np.zeros((4, 1)), np.zeros((4, 1), int), 3),
    "target: image 0 .* label 1 .* is 2": lambda f: f(np.zeros((1, 2)), np.array([[1, 2]])),
    "target: image 0 .* label 0 .* is -1.* 255 .ignore_index.": lambda f: f(np.zeros((1, 2)), [[-1, 0]], ignore_index=255),
    "ignore_index: 1 is the value of positives": lambda f: f(np.zeros((1, 1)), [[1]], ignore_index=1),
    "image 1 \\(row\\), label 0 \\(column\\) is NaN": lambda f: f([[0.0], [np.nan]], [[1], [0]]),
    "0 images x 3 labels": lambda f: f(np.zeros((0, 3)), np.zeros((0, 3), int)),
    "no average \"samples\"": lambda f: f([[0.0]], [[1]], average="samples"),
    "thresholds: 1 of them": lambda f: f([[0.0]], [[1]], thresholds=1),
    "target: .* of float64.*target.astype\\(int\\)": lambda f: f(np.zeros((4, 1)), np.zeros((4, 1))),
    "preds: .* of int64.*preds.astype": lambda f: f(np.zeros((4, 1), int), np.zeros((4, 1), int)),
    "thresholds: it is 1000000000000: .* to 1000000": lambda f: f([[0.0]], [[1]], thresholds=10**12),
    "thresholds: it is 10000000000000000000:": lambda f: f([[0.0]], [[1]], thresholds=10**19),
    "thresholds: these are of <U1": lambda f: f([[0.0]], [[1]], thresholds=["a"]),
    "1000000 thresholds of 9 labels": lambda f: f(np.zeros((1, 9)), np.ones((1, 9), int), thresholds=10**6),
    "ignore_index: 'a' is no whole number": lambda f: f([[0.0]], [[1]], ignore_index="a"),
    "ignore_index: 0.5 is no whole number": lambda f: f([[0.0]], [[1]], ignore_index=0.5),
    "ignore_index: it is 1000000000000000000000000000000:": lambda f: f([[0.0]], [[1]], ignore_index=10**30),
    "preds: it is a masked array.*fill": lambda f: f(np.ma.masked_less([[0.5, -1.0]], 0), [[1, 0]]),
    "target: it is a masked array.*ignore_index": lambda f: f([[0.5, 0.1]], np.ma.masked_equal([[1, 0]], 0)),
    "target: it is a masked array": lambda f: f([[0.5, 0.1]], [np.ma.masked_equal([1, 0], 0)]),
    "the threshold is 1.5": lambda f: f([[0.0]], [[1]], thresholds=[0.5, 1.5]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_errors_name_the_argument(message):
    with pytest.raises(MetricsError, match=message) as raised:
        REFUSED[message](metrics.multilabel_average_precision)
    assert isinstance(raised.value, ValueError) and isinstance(raised.value, EpsilonError)


def test_errors_of_evaluations_name_the_argument():
    table = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[1, 0], [0, 1]])
    refused = {
        "leza.*epsilon, lesa-nus": lambda: metrics.evaluate(*table, protocol="leza"),
        "unseen: there is no column 2": lambda: metrics.evaluate(*table, unseen=[2]),
        "column 0 was chosen twice": lambda: metrics.evaluate(*table, seen=[0], unseen=[0]),
        "seen: there is no such column": lambda: metrics.evaluate(*table, unseen=[0, 1]),
        "K = 3 is more than the 2 labels": lambda: metrics.evaluate(*table, k=3),
        "all.* is no way to standardise": lambda: metrics.evaluate(*table, standardise="all"),
        "no average|there is no 'weighted'": lambda: metrics.precision_recall_f1_at_k(*table, 1, "weighted"),
        "resamples: it is 1: .* from 2 to 100000": lambda: metrics.bootstrap(*table, resamples=1),
        "1 usable bootstrap resamples": lambda: metrics.evaluate(*table, bootstrap=1),
        "bootstrap: it is -1:": lambda: metrics.evaluate(*table, bootstrap=-1),
        "bootstrap: 1.5 is no whole": lambda: metrics.evaluate(*table, bootstrap=1.5),
        "bootstrap: it is 1000000000000:": lambda: metrics.evaluate(*table, bootstrap=10**12),
        "resamples: it is -5:": lambda: metrics.bootstrap(*table, resamples=-5),
        "resamples: it is 100001:": lambda: metrics.paired_bootstrap([table[0]] * 2, table[1], resamples=100_001),
        "seed: it is -1:": lambda: metrics.bootstrap(*table, seed=-1),
        "k: it is -1:": lambda: metrics.evaluate(*table, k=-1),
        "k: it is 1000000000000000000000000000000:": lambda: metrics.evaluate(*table, k=[1, 10**30]),
        "k: 1.5 is no whole": lambda: metrics.precision_recall_f1_at_k(*table, 1.5),
        "k: '12' is no whole": lambda: metrics.evaluate(*table, k="12"),
        "k: .*-1.* is no list of whole numbers": lambda: metrics.Protocol("own", k=[-1]),
        "unseen: '1' is no list": lambda: metrics.evaluate(*table, unseen="1"),
        "unseen: 1 is no list": lambda: metrics.evaluate(*table, unseen=1),
        "unseen: .*0.5.* is no whole": lambda: metrics.evaluate(*table, unseen=[0.5]),
        "seen: this mask has 3 values, and there are 2": lambda: metrics.evaluate(*table, seen=[True, False, False]),
        "preds: it holds 1 of": lambda: metrics.paired_bootstrap({"a": table[0]}, table[1]),
        "preds: it holds 0 of": lambda: metrics.paired_bootstrap([], table[1]),
        "preds.'b'.: its shape": lambda: metrics.paired_bootstrap({"a": table[0], "b": table[0][:1]}, table[1]),
        "preds.1.: .* of int64": lambda: metrics.paired_bootstrap([table[0], table[1]], table[1]),
        "reference: 'c' is none": lambda: metrics.paired_bootstrap({"a": table[0], "b": table[0]}, table[1], reference="c"),
        "over: there is no 'rows'": lambda: metrics.paired_bootstrap([table[0]], table[1], over="rows"),
        "protocol \"own\": .*unknown variant": lambda: metrics.Protocol("own", images="some"),
        "protocol \"own\": .*unknown field": lambda: metrics.Protocol("own", pictures="all"),
    }
    for message, call in refused.items():
        with pytest.raises(MetricsError, match=message):
            call()


@pytest.mark.parametrize("zero", ["unknown", "negative"])
@pytest.mark.parametrize("standardise", ["none", "table", "ranked"])
def test_an_evaluation_is_the_programs(epsilon, tmp_path, standardise, zero):
    rng = np.random.default_rng(3)
    scores = np.round(rng.standard_normal((200, 12)), 1).astype(np.float32)
    target = rng.choice([1, -1, 0] if zero == "unknown" else [1, 0], scores.shape).astype(np.int8)
    names = [f"label {column}" for column in range(12)]
    np.save(tmp_path / "scores.npy", scores)
    np.save(tmp_path / "truth.npy", target)
    (tmp_path / "scores.labels.txt").write_text("\n".join(names))
    unseen = [2, 5, 11]
    (tmp_path / "unseen.txt").write_text("\n".join(names[column] for column in unseen))
    files = ["--scores", tmp_path / "scores.npy", "--labels", tmp_path / "truth.npy", "--unseen", tmp_path / "unseen.txt"]
    how = ["--zero", zero, "--standardise", standardise, "--bootstrap", 20, "--k", "1,3", "--json"]
    arguments = {"unseen": unseen, "k": [1, 3], "standardise": standardise, "bootstrap": 20}
    for protocol in metrics.PROTOCOLS:
        printed = json.loads(epsilon("eval", *files, *how, "--protocol", protocol).stdout)
        figures = metrics.evaluate(scores, target, protocol=protocol, **arguments)
        seen = [column for column in range(12) if column not in unseen]
        of_program = [*seen, *unseen]
        for part in ("zsl", "seen", "gzsl"):
            for label in printed[part]["per_label"]:
                label["column"] = of_program[label["column"]]
        assert json.loads(figures.to_json()) == printed
        assert figures.zsl.columns.tolist() == unseen


def test_the_table_is_the_programs(epsilon, tmp_path):
    scores, target = next(tables(unknown=True, dtype=np.float32))
    np.save(tmp_path / "scores.npy", scores)
    np.save(tmp_path / "truth.npy", target.astype(np.int8))
    printed = epsilon("eval", "--scores", tmp_path / "scores.npy", "--labels", tmp_path / "truth.npy", "--bootstrap", 0)
    figures = metrics.evaluate(scores, target)
    assert str(figures) in printed.stdout
    assert str(figures).startswith("protocol epsilon\n")
    assert "Evaluation(protocol=\"epsilon\", map=" in repr(figures)


def test_top_k_by_hand():
    # Image 0 ranks + - +, image 1 - + -; image 2 has no positive, so `epsilon` leaves it out.
    preds = [[0.9, 0.8, 0.1], [0.9, 0.8, 0.1], [0.9, 0.8, 0.1]]
    target = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    at_1 = metrics.precision_recall_f1_at_k(preds, target, 1)
    assert at_1 == (1 / 2, 1 / 3, 2 / 5)
    everything = metrics.precision_recall_f1_at_k(preds, target, 1, protocol="lesa-nus")
    assert everything.precision == pytest.approx(1 / 3)
    each = metrics.precision_recall_f1_at_k(preds, target, 1, average=None)
    assert [part.tolist() for part in each] == [[0.5, 0.0, 0.0], [1.0, 0.0, 0.0], [2 / 3, 0.0, 0.0]]
    macro = metrics.precision_recall_f1_at_k(preds, target, 1, average="macro")
    assert macro.precision == pytest.approx(0.5 / 3)
    assert macro.recall == pytest.approx(1 / 3)
    figures = metrics.evaluate(preds, target, k=[1, 2])
    assert [top.k for top in figures.top_k] == [1, 2]
    assert (figures.top_k[0].precision, figures.images_kept, figures.images_total) == (0.5, 2, 3)


def test_a_protocol_of_ones_own():
    mine = metrics.Protocol("mine", base="lesa-nus", images="with-positive", empty_label="skip", k=[1])
    assert (mine.name, mine.k) == ("mine", [1])
    assert "labels without positives skipped" in mine.rules
    figures = metrics.evaluate([[0.9, 0.1], [0.2, 0.3]], [[1, 0], [0, 0]], protocol=mine)
    assert (figures.protocol, figures.images_kept, figures.labels_averaged) == ("mine", 1, 1)
    assert np.isnan(figures.average_precision[1])
    assert metrics.Protocol("sdl") == metrics.Protocol("sdl") != metrics.Protocol("epsilon")
    assert metrics.PROTOCOLS[0] == "epsilon"


def test_models_are_compared_on_the_same_resamples():
    rng = np.random.default_rng(5)
    target = (rng.random((300, 6)) < 0.3).astype(np.int8)
    noise = rng.standard_normal((3, *target.shape))
    models = {"good": target + noise[0], "like it": target + noise[1], "worse": 0.2 * target + noise[2]}
    found = metrics.paired_bootstrap(models, target, resamples=400)
    assert (found["good"].difference, found["good"].p_holm) == (0.0, 1.0)
    for name, scores in models.items():
        alone = metrics.evaluate(scores, target).map
        assert found[name].map == alone
        assert found[name].difference == alone - found["good"].map
    assert found["worse"].p_holm == min(1.0, 2 * found["worse"].p) < 0.05
    assert found["worse"].high < 0
    assert found == metrics.paired_bootstrap(models, target, resamples=400)
    listed = metrics.paired_bootstrap(list(models.values()), target, reference=2, over="labels", resamples=100)
    assert listed[0].difference > 0
    spread = metrics.bootstrap(models["good"], target, resamples=400, seed=7)
    assert spread.low < found["good"].map < spread.high
    assert (spread.resamples, spread.seed) == (400, 7)


def test_a_mask_names_columns_as_numbers_do():
    scores, target = next(tables(unknown=True))
    mask = np.arange(target.shape[1]) % 2 == 1
    numbers = np.flatnonzero(mask)
    expected = metrics.evaluate(scores, target, unseen=numbers, k=1).to_json()
    for given in ({"unseen": mask}, {"unseen": mask.tolist()}, {"seen": ~mask}, {"unseen": range(1, len(mask), 2)}):
        assert metrics.evaluate(scores, target, k=1, **given).to_json() == expected
    by_mask, by_number = (metrics.bootstrap(scores, target, columns=columns, resamples=9) for columns in (mask, numbers))
    assert by_mask == by_number


def test_a_masked_array_without_masked_values_is_an_array():
    scores, target = next(tables(unknown=False))
    expected = metrics.multilabel_average_precision(scores, target)
    assert metrics.multilabel_average_precision(np.ma.asarray(scores), np.ma.asarray(target)) == expected


def test_many_thresholds_take_seconds():
    scores = np.random.default_rng(1).random((20_000, 5))
    target = (scores > 0.9).astype(np.int8)
    begun = time.monotonic()
    found = metrics.multilabel_average_precision(scores, target, thresholds=100_000)
    assert time.monotonic() - begun < 3
    assert found == pytest.approx(metrics.multilabel_average_precision(scores, target), abs=1e-3)


@pytest.mark.skipif(os.name == "nt", reason="signals are sent")
def test_ctrl_c_stops_figures():
    scores = np.random.default_rng(1).random((20_000, 50))
    target = (scores > 0.9).astype(np.int8)
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        metrics.bootstrap(scores, target, resamples=10_000)
    assert time.monotonic() - begun < 3


def test_plain_values_pickle():
    scores, target = next(tables(unknown=True))
    own = metrics.Protocol("mine", base="lesa-nus", images="with-positive", empty_label="skip", k=[1])
    whole = metrics.evaluate(scores, target, k=1, bootstrap=9, protocol=own)
    split = metrics.evaluate(scores, target, unseen=[1], k=1)
    spread = metrics.bootstrap(scores, target, resamples=9)
    found = metrics.paired_bootstrap([scores, -scores], target, resamples=9)
    for value in (own, metrics.Protocol("sdl"), whole.top_k[0], spread, *found):
        assert pickle.loads(pickle.dumps(value)) == value
    assert pickle.loads(pickle.dumps(own)).k == [1]
    for figures in (whole, split):
        again = pickle.loads(pickle.dumps(figures))
        assert type(again) is type(figures)
        assert (again.to_json(), str(again)) == (figures.to_json(), str(figures))


def test_the_module_lists_what_it_offers():
    assert dir(metrics) == sorted(metrics.__all__)


def test_the_examples_of_the_documentation():
    failed, tried = doctest.testmod(metrics)
    assert tried > 20
    assert failed == 0
