"""Metrics of multi-label classification and zero-shot learning, computed in Rust in double precision on all processor cores.

The functions ``multilabel_*`` have the names, arguments and results of torchmetrics_ (``torchmetrics.functional.classification``);
:func:`evaluate`, :func:`precision_recall_f1_at_k`, :func:`bootstrap` and :func:`paired_bootstrap` measure under a named
:class:`Protocol`, as the literature of zero-shot learning does.

**Arrays.** ``preds`` are scores ``[images, labels]`` in float16, float32 or float64, ``target`` labels of the same shape in bool or
integers. NumPy arrays of any strides are read where they lie, without a copy, and so are tensors of PyTorch, JAX and other libraries
on the CPU, by DLPack. (Copied are integers other than int8, uint8, int32 and int64, and arrays in another byte order.) Scores are
ranked in the type that they have, never rounded.

**Labels.** 1 is positive and 0 negative. As soon as ``target`` holds a -1, that is negative and 0 is unknown. ``ignore_index`` names
the value of unknown labels instead: with ``ignore_index=-1``, 0 is negative and -1 unknown; with ``ignore_index=0``, 0 is unknown even
where no -1 is present. Unknown labels are left out; what that means for the labels of an image is said where it matters.

**Thresholds.** Functions that compare scores with thresholds, and :func:`multilabel_precision_recall_curve`, follow torchmetrics: if
any score is outside 0 to 1, all are taken as logits and go through the sigmoid 1 / (1 + exp(-s)). Functions that only rank
(average precision and AUROC without ``thresholds``, and all of the labels within an image) take scores as they are. The sigmoid of
torchmetrics makes logits that differ, but are large, equal; here they stay different.

**Errors.** :class:`~epsilon_zsl.errors.MetricsError`, a ``ValueError`` that names the argument: for arrays of other shapes or types,
scores that are not finite, labels of other values, masked values, tensors on a GPU, and numbers out of their range. At most 100 000
resamples and 1 000 000 evenly spaced thresholds are computed.

.. _torchmetrics: https://lightning.ai/docs/torchmetrics
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from epsilon_zsl import _native
from epsilon_zsl._native import Bootstrap, Difference, Evaluation, Protocol, SplitEvaluation, TopK
from epsilon_zsl.errors import MetricsError

__all__ = [
    "PROTOCOLS",
    "Bootstrap",
    "Difference",
    "Evaluation",
    "MetricsError",
    "PrecisionRecallF1",
    "Protocol",
    "SplitEvaluation",
    "TopK",
    "bootstrap",
    "evaluate",
    "multilabel_accuracy",
    "multilabel_auroc",
    "multilabel_average_precision",
    "multilabel_coverage_error",
    "multilabel_exact_match",
    "multilabel_f1_score",
    "multilabel_fbeta_score",
    "multilabel_hamming_distance",
    "multilabel_precision",
    "multilabel_precision_recall_curve",
    "multilabel_ranking_average_precision",
    "multilabel_ranking_loss",
    "multilabel_recall",
    "paired_bootstrap",
    "precision_recall_f1_at_k",
]

Array: TypeAlias = Any
"""A NumPy array, a tensor that DLPack hands over, or nested lists of numbers."""

Average: TypeAlias = Literal["micro", "macro", "weighted", "none"] | None
Thresholds: TypeAlias = int | Sequence[float] | npt.NDArray[np.floating[Any]] | None
Columns: TypeAlias = Sequence[int] | Sequence[bool] | npt.NDArray[np.integer[Any] | np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]

PROTOCOLS: tuple[str, ...] = Protocol.names()
"""Names of the published protocols, as ``protocol`` takes them."""

_MOST_RESAMPLES = 100_000
_MOST_THRESHOLDS = 1_000_000
_MOST_K = 1 << 30

_READABLE = (1, 3, 11, 13)
"""DLPack's numbers of memory that the processor reads: its own, and that which it shares with a GPU."""


def __dir__() -> list[str]:
    return sorted(__all__)


def _restore(kind: str, values: str) -> Any:
    """A figure or a protocol that was pickled."""
    return _native.metrics_restore(kind, values)


def _whole(given: Any, argument: str, least: int, most: int) -> int:
    """The whole number of an argument, of which the range is checked."""
    try:
        if isinstance(given, bool):
            raise TypeError
        number = operator.index(given)
    except TypeError:
        raise MetricsError(f"{argument}: {given!r} is no whole number") from None
    if not least <= number <= most:
        raise MetricsError(f"{argument}: it is {number}: give a whole number from {least} to {most}")
    return number


def _unknown(ignore_index: int | None) -> int | None:
    return None if ignore_index is None else _whole(ignore_index, "ignore_index", -(1 << 63), (1 << 63) - 1)


def _resamples(resamples: int) -> int:
    return _whole(resamples, "resamples", 2, _MOST_RESAMPLES)


def _seed(seed: int) -> int:
    return _whole(seed, "seed", 0, (1 << 64) - 1)


def _is_masked(given: Array) -> bool:
    """Whether an array, or one of a list of rows, hides values behind a mask."""
    rows = given if isinstance(given, (list, tuple)) else [given]
    return any(isinstance(row, np.ma.MaskedArray) and np.ma.is_masked(row) for row in rows)


def _array(given: Array, argument: str) -> npt.NDArray[Any]:
    """The array of an argument, without a copy where the memory can be shared."""
    if _is_masked(given):
        raise MetricsError(
            f"{argument}: it is a masked array, and masks are not read: fill it (.filled(value)), and mark unknown labels in target by "
            "a value that ignore_index names"
        )
    if not isinstance(given, np.ndarray):
        given = _shared(given, argument)
    if not (given.dtype.isnative and given.flags.aligned):
        given = given.astype(given.dtype.newbyteorder("="))
    return cast("npt.NDArray[Any]", given)


def _shared(given: Array, argument: str) -> npt.NDArray[Any]:
    if not hasattr(given, "__dlpack_device__"):
        return np.asarray(given)
    try:
        device, _ = given.__dlpack_device__()
        if device not in _READABLE:
            where = getattr(given, "device", f"of DLPack's kind {int(device)}")
            raise MetricsError(f"{argument}: it is on the device {where}: copy it to the CPU first")
        # A tensor that requires a gradient hands over its values alone.
        given = given.detach() if hasattr(given, "detach") else given
        return cast("npt.NDArray[Any]", np.from_dlpack(given))
    except MetricsError:
        raise
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        kind = getattr(given, "dtype", type(given).__name__)
        raise MetricsError(f"{argument}: NumPy cannot share the memory of {kind}: {error}") from error


def _scores(preds: Array) -> npt.NDArray[Any]:
    return _array(preds, "preds")


def _labels(target: Array) -> npt.NDArray[Any]:
    labels = _array(target, "target")
    if labels.dtype.kind in "iu" and labels.dtype not in (np.int8, np.uint8, np.int32, np.int64):
        if labels.dtype == np.uint64 and labels.size and labels.max() > np.iinfo(np.int64).max:
            raise MetricsError(f"target: it holds {labels.max()}: the values are 1, 0, and -1 or ignore_index")
        labels = labels.astype(np.int64)
    return labels


def _arrays(preds: Array, target: Array, num_labels: int | None = None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    preds = _scores(preds)
    if num_labels is not None and preds.ndim == 2 and preds.shape[1] != num_labels:
        raise MetricsError(f"num_labels: it is {num_labels}, and preds has {preds.shape[1]} columns")
    return preds, _labels(target)


def _points(thresholds: Thresholds) -> int | list[float] | None:
    if thresholds is None:
        return None
    if isinstance(thresholds, (int, np.integer)):
        if thresholds < 2:
            raise MetricsError(f"thresholds: {thresholds} of them are no curve: give at least 2, or a list")
        return _whole(thresholds, "thresholds", 2, _MOST_THRESHOLDS)
    listed = _array(thresholds, "thresholds").ravel()
    if listed.dtype.kind not in "fiu":
        raise MetricsError(f"thresholds: these are of {listed.dtype}: give a number of them, or a list of numbers from 0 to 1")
    return listed.astype(np.float64).tolist()


def multilabel_average_precision(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    average: Average = "macro",
    thresholds: Thresholds = None,
    ignore_index: int | None = None,
) -> float | Floats:
    """Average precision (AP) of each label over the images for which it is known, or an average of them.

    AP = sum over the different scores of (R - R of the next higher score) P, where P and R are precision and recall of all images
    with at least that score: equal scores share a rank. A label without positives has 0 (scikit-learn's value, without its warning;
    torchmetrics' too) and enters the mean. Equal to scikit-learn's ``average_precision_score``.

    Args:
        preds: Scores ``[images, labels]``.
        target: Labels ``[images, labels]``.
        num_labels: Checked against the shape where given.
        average: ``"macro"`` for the mean over labels, ``"weighted"`` for the mean weighted by positives, ``"micro"`` for all pairs of
            an image and a label as one label, ``"none"`` or ``None`` for an array with the AP of each label.
        thresholds: ``None`` for the exact value; a number of evenly spaced thresholds from 0 to 1, or a list of them, for the value
            of the curve at these alone. Rounded to the type of the scores.
        ignore_index: The value of unknown labels.

    Returns:
        A fraction, or an array ``[labels]`` of them.

    Raises:
        MetricsError: For arrays, thresholds or an average that are not as above.

    >>> preds = [[0.75, 0.05, 0.35], [0.45, 0.75, 0.05], [0.05, 0.55, 0.75], [0.05, 0.65, 0.05]]
    >>> target = [[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]]
    >>> round(multilabel_average_precision(preds, target, num_labels=3), 4)
    0.75
    >>> multilabel_average_precision(preds, target, average=None).round(4).tolist()
    [0.75, 0.5833, 0.9167]
    """
    preds, target = _arrays(preds, target, num_labels)
    return _native.metrics_average_precision(preds, target, average, _points(thresholds), _unknown(ignore_index))


def multilabel_auroc(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    average: Average = "macro",
    thresholds: Thresholds = None,
    ignore_index: int | None = None,
) -> float | Floats:
    """Area under the ROC curve of each label over the images for which it is known, or an average of them.

    The share of pairs of a positive and a negative image in which the positive has the higher score, a tie counting half. A label
    without positives or without negatives has 0, as in torchmetrics (scikit-learn has NaN), and enters the mean.

    The arguments, the result and the errors are those of :func:`multilabel_average_precision`. With ``thresholds`` the area is that
    under the points of the thresholds alone, as in torchmetrics.

    >>> preds = [[0.75, 0.05, 0.35], [0.45, 0.75, 0.05], [0.05, 0.55, 0.75], [0.05, 0.65, 0.05]]
    >>> target = [[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]]
    >>> multilabel_auroc(preds, target, average=None).round(4).tolist()
    [0.625, 0.5, 0.8333]
    """
    preds, target = _arrays(preds, target, num_labels)
    return _native.metrics_auroc(preds, target, average, _points(thresholds), _unknown(ignore_index))


def multilabel_precision_recall_curve(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    thresholds: Thresholds = None,
    ignore_index: int | None = None,
) -> tuple[list[Floats], list[Floats], list[Floats]] | tuple[Floats, Floats, Floats]:
    """Precision and recall of each label at every threshold, over the images for which it is known.

    Scores outside 0 to 1 are logits (see the module). A label without positives has recall 1 at all thresholds, as in scikit-learn
    and torchmetrics; one that is never known has no threshold.

    Args:
        preds: Scores ``[images, labels]``.
        target: Labels ``[images, labels]``.
        num_labels: Checked against the shape where given.
        thresholds: ``None`` for those of the scores; a number of evenly spaced ones from 0 to 1; or a list.
        ignore_index: The value of unknown labels.

    Returns:
        ``(precision, recall, thresholds)``. Without ``thresholds``, lists with an array for each label, thresholds ascending; with
        them, arrays ``[labels, thresholds + 1]`` of precision (NaN where no score reaches the threshold) and recall (NaN without
        positives), and the thresholds. Precision ends with 1 and recall with 0, which have no threshold.

    Raises:
        MetricsError: For arrays or thresholds that are not as above.

    >>> precision, recall, thresholds = multilabel_precision_recall_curve([[0.1], [0.4], [0.35], [0.8]], [[0], [0], [1], [1]])
    >>> precision[0].round(4).tolist(), recall[0].tolist()
    ([0.5, 0.6667, 0.5, 1.0, 1.0], [1.0, 1.0, 0.5, 0.5, 0.0])
    >>> thresholds[0].tolist()
    [0.1, 0.35, 0.4, 0.8]
    """
    preds, target = _arrays(preds, target, num_labels)
    points = _points(thresholds)
    curves = _native.metrics_precision_recall_curve(preds, target, points, _unknown(ignore_index))
    precision, recall, at = map(list, zip(*curves, strict=True))
    if points is None:
        return precision, recall, at
    return np.stack(precision), np.stack(recall), at[0]


def multilabel_precision(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    threshold: float = 0.5,
    average: Average = "macro",
    *,
    ignore_index: int | None = None,
    zero_division: float = 0,
) -> float | Floats:
    """Precision TP / (TP + FP) of the labels whose probability is above a threshold.

    Args:
        preds: Scores ``[images, labels]``: probabilities, or logits if any is outside 0 to 1; or what is predicted as bool or
            integers 0 and 1.
        target: Labels ``[images, labels]``. Unknown ones count neither way.
        num_labels: Checked against the shape where given.
        threshold: Labels above it are predicted. A probability; rounded to the type of the scores.
        average: ``"macro"`` for the mean over all labels, ``"weighted"`` for the mean weighted by positives, ``"micro"`` for the
            sums over all labels, ``"none"`` or ``None`` for an array with the value of each label.
        ignore_index: The value of unknown labels.
        zero_division: The value where the denominator is 0.

    Returns:
        A fraction, or an array ``[labels]`` of them.

    Raises:
        MetricsError: For arrays, a threshold or an average that are not as above.

    >>> preds, target = [[0.11, 0.22, 0.84], [0.73, 0.33, 0.92]], [[0, 1, 0], [1, 0, 1]]
    >>> multilabel_precision(preds, target)
    0.5
    >>> multilabel_precision(preds, target, average=None).tolist()
    [1.0, 0.0, 0.5]
    """
    return _decision("precision", preds, target, num_labels, threshold, average, ignore_index, zero_division=zero_division)


def multilabel_recall(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    threshold: float = 0.5,
    average: Average = "macro",
    *,
    ignore_index: int | None = None,
    zero_division: float = 0,
) -> float | Floats:
    """Recall TP / (TP + FN) of the labels whose probability is above a threshold.

    The arguments, the result and the errors are those of :func:`multilabel_precision`.

    >>> preds, target = [[0.11, 0.22, 0.84], [0.73, 0.33, 0.92]], [[0, 1, 0], [1, 0, 1]]
    >>> multilabel_recall(preds, target, average=None).tolist()
    [1.0, 0.0, 1.0]
    """
    return _decision("recall", preds, target, num_labels, threshold, average, ignore_index, zero_division=zero_division)


def multilabel_f1_score(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    threshold: float = 0.5,
    average: Average = "macro",
    *,
    ignore_index: int | None = None,
    zero_division: float = 0,
) -> float | Floats:
    """F1 score 2 TP / (2 TP + FN + FP) of the labels whose probability is above a threshold.

    The arguments, the result and the errors are those of :func:`multilabel_precision`.

    >>> preds, target = [[0.11, 0.22, 0.84], [0.73, 0.33, 0.92]], [[0, 1, 0], [1, 0, 1]]
    >>> round(multilabel_f1_score(preds, target), 4)
    0.5556
    """
    return _decision("f-score", preds, target, num_labels, threshold, average, ignore_index, zero_division=zero_division)


def multilabel_fbeta_score(
    preds: Array,
    target: Array,
    beta: float,
    num_labels: int | None = None,
    threshold: float = 0.5,
    average: Average = "macro",
    *,
    ignore_index: int | None = None,
    zero_division: float = 0,
) -> float | Floats:
    """F-beta score (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP) of the labels whose probability is above a threshold.

    ``beta`` (b, above 0) is how many times as much recall counts as precision. The other arguments, the result and the errors are
    those of :func:`multilabel_precision`.

    >>> preds, target = [[0.11, 0.22, 0.84], [0.73, 0.33, 0.92]], [[0, 1, 0], [1, 0, 1]]
    >>> round(multilabel_fbeta_score(preds, target, beta=2.0), 4)
    0.6111
    """
    if not beta > 0:
        raise MetricsError(f"beta: it is {beta}: give a number above 0")
    more = {"beta": beta, "zero_division": zero_division}
    return _decision("f-score", preds, target, num_labels, threshold, average, ignore_index, **more)


def multilabel_accuracy(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    threshold: float = 0.5,
    average: Average = "macro",
    *,
    ignore_index: int | None = None,
) -> float | Floats:
    """Accuracy (TP + TN) / (TP + TN + FP + FN) of the labels whose probability is above a threshold.

    The arguments, the result and the errors are those of :func:`multilabel_precision`. A label that is never known has 0.

    >>> preds, target = [[0.11, 0.22, 0.84], [0.73, 0.33, 0.92]], [[0, 1, 0], [1, 0, 1]]
    >>> multilabel_accuracy(preds, target, average=None).tolist()
    [1.0, 0.5, 0.5]
    """
    return _decision("accuracy", preds, target, num_labels, threshold, average, ignore_index)


def multilabel_hamming_distance(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    threshold: float = 0.5,
    average: Average = "macro",
    *,
    ignore_index: int | None = None,
) -> float | Floats:
    """Hamming distance: 1 - :func:`multilabel_accuracy`, of which it has the arguments, the result and the errors.

    >>> preds, target = [[0.11, 0.22, 0.84], [0.73, 0.33, 0.92]], [[0, 1, 0], [1, 0, 1]]
    >>> multilabel_hamming_distance(preds, target, average=None).tolist()
    [0.0, 0.5, 0.5]
    """
    return _decision("hamming-distance", preds, target, num_labels, threshold, average, ignore_index)


def multilabel_exact_match(
    preds: Array,
    target: Array,
    num_labels: int | None = None,
    threshold: float = 0.5,
    *,
    ignore_index: int | None = None,
) -> float:
    """The share of images whose known labels are all predicted as they are (subset accuracy).

    The arguments and the errors are those of :func:`multilabel_precision`.

    >>> multilabel_exact_match([[0.11, 0.22, 0.84], [0.73, 0.33, 0.92]], [[0, 1, 0], [1, 0, 1]])
    0.5
    """
    share = _decision("exact-match", preds, target, num_labels, threshold, "micro", ignore_index)
    return cast("float", share)


def _decision(
    which: str,
    preds: Array,
    target: Array,
    num_labels: int | None,
    threshold: float,
    average: Average,
    ignore_index: int | None,
    *,
    beta: float = 1.0,
    zero_division: float = 0.0,
) -> float | Floats:
    preds, target = _arrays(preds, target, num_labels)
    if preds.dtype.kind in "biu":
        if preds.size and not (0 <= preds.min() and preds.max() <= 1):
            raise MetricsError(f"preds: it holds {preds.min()} to {preds.max()}: what is predicted is 0 or 1")
        preds = preds.astype(np.float32)
    return _native.metrics_decision(which, preds, target, threshold, average, _unknown(ignore_index), beta, zero_division)


def multilabel_coverage_error(
    preds: Array, target: Array, num_labels: int | None = None, ignore_index: int | None = None
) -> float:
    """How far down the ranked labels of an image one must go to have all its positives, in labels: the mean over images.

    Equal scores share the last of their ranks; an image without positives has 0. Equal to scikit-learn's ``coverage_error`` of the
    labels that are known in each image. Unknown labels are left out of the ranking. (torchmetrics ranks an ignored label last and asks
    for it too, so an image with one has as many as there are labels.)

    Args:
        preds: Scores ``[images, labels]``.
        target: Labels ``[images, labels]``.
        num_labels: Checked against the shape where given.
        ignore_index: The value of unknown labels.

    Raises:
        MetricsError: For arrays that are not as above.

    >>> multilabel_coverage_error([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4]], [[1, 0, 1], [0, 0, 1]])
    2.0
    """
    return _native.metrics_label_ranking(*_arrays(preds, target, num_labels), _unknown(ignore_index))[0]


def multilabel_ranking_loss(
    preds: Array, target: Array, num_labels: int | None = None, ignore_index: int | None = None
) -> float:
    """The share of pairs of a positive and a negative label of an image in which the positive is not higher: the mean over images.

    An image without such a pair has 0. Equal to scikit-learn's ``label_ranking_loss`` of the labels that are known in each image.
    (torchmetrics orders equal scores by place, and counts an ignored label as a negative below all others.) The arguments and
    the errors are those of :func:`multilabel_coverage_error`.

    >>> multilabel_ranking_loss([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4]], [[1, 0, 1], [0, 0, 1]])
    0.25
    """
    return _native.metrics_label_ranking(*_arrays(preds, target, num_labels), _unknown(ignore_index))[1]


def multilabel_ranking_average_precision(
    preds: Array, target: Array, num_labels: int | None = None, ignore_index: int | None = None
) -> float:
    """The mean over an image's positives of (positives ranked up to it) / (labels ranked up to it): the mean over images.

    Equal scores share the last of their ranks; an image without positives has 1. Equal to scikit-learn's
    ``label_ranking_average_precision_score`` of the labels that are known in each image. The arguments and the errors are those of
    :func:`multilabel_coverage_error`.

    >>> round(multilabel_ranking_average_precision([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4]], [[1, 0, 1], [0, 0, 1]]), 4)
    0.9167
    """
    return _native.metrics_label_ranking(*_arrays(preds, target, num_labels), _unknown(ignore_index))[2]


def evaluate(
    preds: Array,
    target: Array,
    *,
    protocol: str | Protocol = "epsilon",
    seen: Columns | None = None,
    unseen: Columns | None = None,
    k: int | Sequence[int] | None = None,
    bootstrap: int = 0,
    standardise: Literal["none", "table", "ranked"] = "none",
    centre_labels: bool = False,
    ignore_index: int | None = None,
) -> Evaluation | SplitEvaluation:
    """All figures under a protocol: those of the unseen (ZSL), the seen and all labels (GZSL) where columns are said to be unseen.

    What ``epsilon eval --scores`` computes, to the last bit. ``print`` shows a table that names the protocol and its rules.

    Args:
        preds: Scores ``[images, labels]``.
        target: Labels ``[images, labels]``. Each protocol says what unknown ones are.
        protocol: A :class:`Protocol`, or the name of a published one (:data:`PROTOCOLS`).
        seen: Columns of the seen labels, as numbers or as a mask with a bool for each label; where only ``unseen`` is given, all others.
        unseen: Columns of the unseen labels, in the same way; where only ``seen`` is given, all others.
        k: The K of the top-K figures, ascending; the protocol's, where there are as many labels. ZSL and seen figures have those that
            do not exceed their labels.
        bootstrap: Resamples for the standard error and the interval of each mAP, at most 100 000; 0 for none.
        standardise: Over which labels the scores of an image first get mean 0 and standard deviation 1: none, all of the table, or
            those that are ranked.
        centre_labels: Whether each label's scores first lose their mean over the images. Transductive.
        ignore_index: The value of unknown labels.

    Returns:
        An :class:`Evaluation` without ``seen`` and ``unseen``, else a :class:`SplitEvaluation`.

    Raises:
        MetricsError: For arrays or arguments that are not as above, a column that is named twice, and a table without positives.

    >>> preds = [[0.9, 0.2, 0.3], [0.1, 0.7, 0.6], [0.4, 0.6, 0.5]]
    >>> target = [[1, -1, 1], [-1, 1, -1], [0, 1, 1]]
    >>> figures = evaluate(preds, target, protocol="lesa-nus", unseen=[2], k=1)
    >>> round(figures.zsl.map, 4), figures.seen.map, round(figures.harmonic_map, 4)
    (0.5833, 1.0, 0.7368)
    >>> print(figures)  # doctest: +ELLIPSIS
    protocol lesa-nus
      all images; labels without positives count as AP 0; plain mean over labels;
    ...
    """
    preds, target = _arrays(preds, target)
    split = _split(preds, seen, unseen)
    given = None if k is None else _ks(k)
    resamples = _whole(bootstrap, "bootstrap", 0, _MOST_RESAMPLES)
    return _native.metrics_evaluate(
        preds, target, protocol, *split, given, resamples, standardise, centre_labels, _unknown(ignore_index)
    )


def _ks(k: int | Sequence[int]) -> list[int]:
    listed = k if isinstance(k, Iterable) and getattr(k, "ndim", None) != 0 and not isinstance(k, (str, bytes)) else [k]
    return [_whole(one, "k", 1, _MOST_K) for one in listed]


def _columns(columns: Columns | None, preds: npt.NDArray[Any], argument: str = "columns") -> list[int]:
    """Columns as a list, those from the end and those of a mask too; all where none are given."""
    labels = preds.shape[-1] if preds.ndim else 0
    if columns is None:
        return list(range(labels))
    if isinstance(columns, (str, bytes)) or not isinstance(columns, Iterable):
        raise MetricsError(f"{argument}: {columns!r} is no list: give the numbers of columns, or a bool for each label")
    given = (_array(columns, argument) if hasattr(columns, "__dlpack_device__") else np.asarray(list(columns))).ravel()
    if given.dtype == np.bool_:
        if len(given) != labels:
            raise MetricsError(f"{argument}: this mask has {len(given)} values, and there are {labels} labels")
        return [int(column) for column in np.flatnonzero(given)]
    listed = [_whole(column, argument, -_MOST_K, _MOST_K) for column in given]
    for column in listed:
        if not -labels <= column < labels:
            raise MetricsError(f"{argument}: there is no column {column} among {labels}")
    return [column % labels for column in listed]


def _split(
    preds: npt.NDArray[Any], seen: Columns | None, unseen: Columns | None
) -> tuple[list[int], list[int]]:
    """The columns of the seen and of the unseen labels; all seen where neither are named."""
    if seen is None and unseen is None:
        return _columns(None, preds), []
    of_seen = None if seen is None else _columns(seen, preds, "seen")
    of_unseen = None if unseen is None else _columns(unseen, preds, "unseen")

    def others(named: list[int]) -> list[int]:
        return [column for column in _columns(None, preds) if column not in set(named)]

    if of_seen is None:
        of_seen = others(of_unseen or [])
    if of_unseen is None:
        of_unseen = others(of_seen)
    for argument, columns in (("seen", of_seen), ("unseen", of_unseen)):
        if not columns:
            raise MetricsError(f"{argument}: there is no such column: both sides need at least one")
    return of_seen, of_unseen


class PrecisionRecallF1(NamedTuple):
    """Precision, recall and F1 as fractions: numbers, or arrays with one for each label."""

    precision: float | Floats
    recall: float | Floats
    f1: float | Floats


def precision_recall_f1_at_k(
    preds: Array,
    target: Array,
    k: int,
    average: Literal["micro", "macro", "none"] | None = "micro",
    *,
    protocol: str | Protocol = "epsilon",
    columns: Columns | None = None,
    ignore_index: int | None = None,
) -> PrecisionRecallF1:
    """Precision, recall and F1 when the K best labels of each image are predicted.

    Over all labels (``"micro"``): P = hits / (K x images), R = hits / positives. Of each label (``None``): P = hits / images with the
    label in their top K, R = hits / its positives; 0 where the denominator is. F1 = 2 P R / (P + R). Equal scores go to the first
    column, unless the protocol says otherwise.

    Args:
        preds: Scores ``[images, labels]``.
        target: Labels ``[images, labels]``.
        k: How many labels of each image are predicted.
        average: ``"micro"`` over all labels, ``"macro"`` for the means of precision and recall over labels and the F1 of these,
            ``"none"`` or ``None`` for arrays ``[columns]``.
        protocol: Says which images count, and what unknown labels are: in most a miss.
        columns: Labels to rank among themselves, as numbers or as a mask with a bool for each label; all.
        ignore_index: The value of unknown labels.

    Raises:
        MetricsError: For arrays or arguments that are not as above, and a table without positives.

    >>> precision_recall_f1_at_k([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4]], [[1, 0, 1], [0, 0, 1]], k=1)
    PrecisionRecallF1(precision=1.0, recall=0.6666666666666666, f1=0.8)
    """
    preds, target = _arrays(preds, target)
    chosen = _columns(columns, preds)
    figures = _native.metrics_evaluate_columns(preds, target, protocol, chosen, [_whole(k, "k", 1, _MOST_K)], _unknown(ignore_index))
    match average:
        case "micro" | "macro":
            (top,) = figures.top_k if average == "micro" else figures.top_k_by_label
            return PrecisionRecallF1(top.precision, top.recall, top.f1)
        case "none" | None:
            tops = [top for (top,) in figures.top_k_of_labels]
            precision, recall, f1 = np.array([(top.precision, top.recall, top.f1) for top in tops]).T
            return PrecisionRecallF1(precision, recall, f1)
    raise MetricsError(f"average: there is no {average!r}: choose one of micro, macro, none")


def bootstrap(
    preds: Array,
    target: Array,
    *,
    protocol: str | Protocol = "epsilon",
    columns: Columns | None = None,
    resamples: int = 1000,
    seed: int = 1,
    ignore_index: int | None = None,
) -> Bootstrap:
    """Standard error and 95 % interval of the mAP: images are drawn with replacement, as many as the protocol keeps.

    The same seed gives the same result on any machine. Memory: 1 byte for each image and resample.

    Args:
        preds: Scores ``[images, labels]``.
        target: Labels ``[images, labels]``.
        protocol: A :class:`Protocol` or the name of one.
        columns: Labels whose mAP it is, as numbers or as a mask; all.
        resamples: 2 to 100 000.
        seed: Of the draws.
        ignore_index: The value of unknown labels.

    Raises:
        MetricsError: For arrays or arguments that are not as above, and a table without positives.

    >>> bootstrap([[0.9], [0.8], [0.2], [0.1]], [[1], [1], [0], [0]], resamples=100, protocol="lesa-nus")
    Bootstrap(standard_error=0.0, low=1.0, high=1.0)
    """
    preds, target = _arrays(preds, target)
    chosen = _columns(columns, preds)
    return _native.metrics_bootstrap(
        preds, target, protocol, chosen, _resamples(resamples), _seed(seed), _unknown(ignore_index)
    )


@overload
def paired_bootstrap(
    preds: Mapping[str, Array],
    target: Array,
    *,
    reference: str | None = None,
    protocol: str | Protocol = "epsilon",
    columns: Columns | None = None,
    over: Literal["images", "labels"] = "images",
    resamples: int = 1000,
    seed: int = 1,
    ignore_index: int | None = None,
) -> dict[str, Difference]: ...
@overload
def paired_bootstrap(
    preds: Sequence[Array],
    target: Array,
    *,
    reference: int | None = None,
    protocol: str | Protocol = "epsilon",
    columns: Columns | None = None,
    over: Literal["images", "labels"] = "images",
    resamples: int = 1000,
    seed: int = 1,
    ignore_index: int | None = None,
) -> list[Difference]: ...
def paired_bootstrap(
    preds: Mapping[str, Array] | Sequence[Array],
    target: Array,
    *,
    reference: str | int | None = None,
    protocol: str | Protocol = "epsilon",
    columns: Columns | None = None,
    over: Literal["images", "labels"] = "images",
    resamples: int = 1000,
    seed: int = 1,
    ignore_index: int | None = None,
) -> dict[str, Difference] | list[Difference]:
    """Which of several models can be told apart from one of them: their mAP on the same resamples, and the differences.

    Each difference has a 95 % interval (``low``, ``high``), a two-sided p-value ``p``, and ``p_holm`` after Holm's correction for all
    that are compared; that of the reference from itself is 0.

    Args:
        preds: Scores ``[images, labels]`` of each of at least two models. Of a mapping from names the result is a ``dict`` of the same
            names; of a list, in which models have their places from 0 for names, it is a list in the same order.
        target: Labels ``[images, labels]``, the same for all.
        reference: The model that the others are compared with: its name, or of a list its place. Without it the first.
        protocol: A :class:`Protocol` or the name of one.
        columns: Labels whose mAP it is, as numbers or as a mask; all.
        over: What is drawn: ``"images"`` or ``"labels"``.
        resamples: 2 to 100 000. No p-value is below 2 / (resamples + 1).
        seed: Of the draws.
        ignore_index: The value of unknown labels.

    Raises:
        MetricsError: For arrays or arguments that are not as above, and a table without positives.

    >>> target = [[1], [1], [0], [0]] * 10
    >>> models = {"good": [[0.9], [0.8], [0.2], [0.1]] * 10, "bad": [[0.1], [0.2], [0.8], [0.9]] * 10}
    >>> found = paired_bootstrap(models, target, protocol="lesa-nus", resamples=200)["bad"]
    >>> found.difference < 0, found.p_holm < 0.05
    (True, True)
    """
    if over not in ("images", "labels"):
        raise MetricsError(f"over: there is no {over!r}: choose images or labels")
    names = list(preds) if isinstance(preds, Mapping) else None
    models = list(preds.values() if isinstance(preds, Mapping) else preds)
    if len(models) < 2:
        raise MetricsError(f"preds: it holds {len(models)} of the models to compare: give the scores of at least two")
    known: Sequence[str | int] = range(len(models)) if names is None else names
    labels = _labels(target)
    rows = [_row(row, f"preds[{name!r}]", labels) for name, row in zip(known, models, strict=True)]
    place = 0 if reference is None else next((i for i, name in enumerate(known) if name == reference), None)
    if place is None:
        raise MetricsError(f"reference: {reference!r} is none of {list(known)}")
    found = _native.metrics_paired_bootstrap(
        rows,
        labels,
        place,
        protocol,
        _columns(columns, rows[0]),
        over == "labels",
        _resamples(resamples),
        _seed(seed),
        _unknown(ignore_index),
    )
    return found if names is None else dict(zip(names, found, strict=True))


def _row(given: Array, argument: str, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The scores of one of several models, for labels that all of them share."""
    scores = _array(given, argument)
    if scores.dtype not in (np.float16, np.float32, np.float64):
        raise MetricsError(f"{argument}: this is an array of {scores.dtype}: give float16, float32 or float64")
    if scores.shape != labels.shape:
        raise MetricsError(f"{argument}: its shape {scores.shape} is not the {labels.shape} of target")
    return scores
