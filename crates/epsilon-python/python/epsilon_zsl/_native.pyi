"""The native part of the package."""

import os
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Bootstrap",
    "Difference",
    "Evaluation",
    "Labels",
    "Predictor",
    "Protocol",
    "Ranked",
    "SplitEvaluation",
    "TopK",
    "__version__",
    "metrics_auroc",
    "metrics_average_precision",
    "metrics_bootstrap",
    "metrics_decision",
    "metrics_evaluate",
    "metrics_evaluate_columns",
    "metrics_label_ranking",
    "metrics_paired_bootstrap",
    "metrics_precision_recall_curve",
    "run_program",
]

__version__: Final[str]

_Array: TypeAlias = npt.NDArray[Any]
_Floats: TypeAlias = npt.NDArray[np.float64]
_Integers: TypeAlias = npt.NDArray[np.int64]
_Photo: TypeAlias = str | os.PathLike[str] | bytes

def run_program(arguments: Sequence[str]) -> int: ...
@final
class Predictor:
    @staticmethod
    def load(model: str | os.PathLike[str]) -> Predictor: ...
    def labels(self, words: Sequence[str] | None = None) -> Labels: ...
    def rank(self, photo: _Photo, labels: Labels, top: int | None = None) -> list[Ranked]: ...

@final
class Labels:
    @property
    def names(self) -> list[str]: ...
    def __len__(self) -> int: ...

@final
class Ranked:
    @property
    def name(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def seen(self) -> bool: ...
    @property
    def probability(self) -> float | None: ...
    @property
    def kept(self) -> bool | None: ...

# What `epsilon_zsl.metrics` is made of.

@final
class Protocol:
    """The rules of an evaluation under a name."""

    def __new__(
        cls, name: str, *, base: str | None = None, k: Sequence[int] | None = None, **rules: str
    ) -> Protocol: ...
    @staticmethod
    def names() -> tuple[str, ...]: ...
    @property
    def name(self) -> str: ...
    @property
    def rules(self) -> str: ...
    @property
    def k(self) -> list[int]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class TopK:
    """Precision, recall and F1 of the top K, as fractions."""

    @property
    def k(self) -> int: ...
    @property
    def precision(self) -> float: ...
    @property
    def recall(self) -> float: ...
    @property
    def f1(self) -> float: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Bootstrap:
    """Standard error and 95 % interval of an mAP, as fractions."""

    @property
    def resamples(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def standard_error(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Difference:
    """An mAP, and how far it is from that of the reference; fractions."""

    @property
    def map(self) -> float: ...
    @property
    def difference(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def p(self) -> float: ...
    @property
    def p_holm(self) -> float: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Evaluation:
    """Figures of one set of labels under a protocol; `str` is a table. Shares are fractions."""

    @property
    def protocol(self) -> str: ...
    @property
    def rules(self) -> str: ...
    @property
    def images_total(self) -> int: ...
    @property
    def images_kept(self) -> int: ...
    @property
    def positives_per_image(self) -> float: ...
    @property
    def labels_averaged(self) -> int: ...
    @property
    def map(self) -> float: ...
    @property
    def bootstrap(self) -> Bootstrap | None: ...
    @property
    def top_k(self) -> list[TopK]: ...
    @property
    def top_k_by_label(self) -> list[TopK]: ...
    @property
    def coverage_error(self) -> float: ...
    @property
    def ranking_loss(self) -> float: ...
    @property
    def columns(self) -> _Integers: ...
    @property
    def positives(self) -> _Integers: ...
    @property
    def annotated(self) -> _Integers: ...
    @property
    def average_precision(self) -> _Floats: ...
    @property
    def top_k_of_labels(self) -> list[list[TopK]]: ...
    def to_json(self) -> str: ...

@final
class SplitEvaluation:
    """Figures of the unseen labels (ZSL), the seen and all (GZSL) under a protocol; `str` is a table."""

    @property
    def zsl(self) -> Evaluation: ...
    @property
    def seen(self) -> Evaluation: ...
    @property
    def gzsl(self) -> Evaluation: ...
    @property
    def harmonic_map(self) -> float: ...
    def to_json(self) -> str: ...

def metrics_average_precision(
    preds: _Array,
    target: _Array,
    average: str | None,
    thresholds: int | Sequence[float] | None,
    ignore_index: int | None,
) -> float | _Floats: ...
def metrics_auroc(
    preds: _Array,
    target: _Array,
    average: str | None,
    thresholds: int | Sequence[float] | None,
    ignore_index: int | None,
) -> float | _Floats: ...
def metrics_precision_recall_curve(
    preds: _Array, target: _Array, thresholds: int | Sequence[float] | None, ignore_index: int | None
) -> list[tuple[_Floats, _Floats, _Floats]]: ...
def metrics_label_ranking(preds: _Array, target: _Array, ignore_index: int | None) -> tuple[float, float, float]: ...
def metrics_decision(
    which: str,
    preds: _Array,
    target: _Array,
    threshold: float,
    average: str | None,
    ignore_index: int | None,
    beta: float,
    zero_division: float,
) -> float | _Floats: ...
def metrics_evaluate(
    preds: _Array,
    target: _Array,
    protocol: str | Protocol,
    seen: Sequence[int],
    unseen: Sequence[int],
    k: Sequence[int] | None,
    bootstrap: int,
    standardise: str,
    centre_labels: bool,
    ignore_index: int | None,
) -> Evaluation | SplitEvaluation: ...
def metrics_evaluate_columns(
    preds: _Array,
    target: _Array,
    protocol: str | Protocol,
    columns: Sequence[int],
    k: Sequence[int],
    ignore_index: int | None,
) -> Evaluation: ...
def metrics_bootstrap(
    preds: _Array,
    target: _Array,
    protocol: str | Protocol,
    columns: Sequence[int],
    resamples: int,
    seed: int,
    ignore_index: int | None,
) -> Bootstrap: ...
def metrics_paired_bootstrap(
    preds: Sequence[_Array],
    target: _Array,
    reference: int,
    protocol: str | Protocol,
    columns: Sequence[int],
    labels: bool,
    resamples: int,
    seed: int,
    ignore_index: int | None,
) -> list[Difference]: ...
