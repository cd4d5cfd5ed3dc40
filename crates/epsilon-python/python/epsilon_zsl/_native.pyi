"""The native part of the package."""

import os
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypedDict, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Unpack

from epsilon_zsl._record import Record

__all__ = [
    "Backbone",
    "Bootstrap",
    "Difference",
    "Evaluation",
    "Extraction",
    "HeatMap",
    "Labels",
    "Library",
    "Model",
    "Predictor",
    "Protocol",
    "Ranked",
    "Recipe",
    "SplitEvaluation",
    "TokenStore",
    "TopK",
    "TrainedEstimator",
    "__version__",
    "estimator_names",
    "estimator_settings",
    "extract",
    "fit_estimator",
    "learn",
    "metrics_auroc",
    "metrics_average_precision",
    "metrics_bootstrap",
    "metrics_decision",
    "metrics_evaluate",
    "metrics_evaluate_columns",
    "metrics_label_ranking",
    "metrics_paired_bootstrap",
    "metrics_precision_recall_curve",
    "metrics_restore",
    "models",
    "run_program",
    "tag",
]

__version__: Final[str]

class _PillowImage(typing.Protocol):
    """What is looked at of an image of Pillow's."""

    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def tobytes(self) -> bytes: ...

_Path: TypeAlias = str | os.PathLike[str]
_Vectors: TypeAlias = _Path | tuple[_Path, _Path]
_Photo: TypeAlias = _Path | bytes | bytearray | memoryview | npt.NDArray[np.uint8] | _PillowImage
_Photos: TypeAlias = Iterable[_Photo] | npt.NDArray[np.uint8]
_Progress: TypeAlias = bool | Callable[[int, int | None, str], object]
_Rows: TypeAlias = slice | Iterable[int] | npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]
_Floats: TypeAlias = npt.NDArray[np.float32]
_Array: TypeAlias = npt.NDArray[Any]
_Doubles: TypeAlias = npt.NDArray[np.float64]
_Integers: TypeAlias = npt.NDArray[np.int64]
_Sort: TypeAlias = Literal["relevance", "date", "doubt"]

class _Criteria(TypedDict, total=False):
    """Which photographs of a library."""

    label: str | None
    threshold: float | None
    since: str | None
    until: str | None
    folder: _Path | None
    unreviewed: bool
    broken: bool

_Features: TypeAlias = npt.NDArray[np.float32] | tuple[TokenStore, list[int]]

def estimator_names() -> list[str]: ...
def estimator_settings(method: str) -> list[tuple[str, bool, str | None]]: ...
def fit_estimator(
    method: str,
    given: str,
    *,
    seed: int,
    protocol: str,
    features: _Features,
    pooling: str,
    labels: npt.NDArray[np.int8],
    vectors: npt.NDArray[np.float32] | None,
    unseen: npt.NDArray[np.float32] | None,
) -> TrainedEstimator: ...
@final
class TrainedEstimator:
    @property
    def known(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def best_epoch(self) -> int | None: ...
    @property
    def history(self) -> str: ...
    def score_vectors(
        self, features: _Features, pooling: str, vectors: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]: ...
    def score_known(
        self, features: _Features, pooling: str, labels: list[int]
    ) -> npt.NDArray[np.float32]: ...
    def mean_average_precision(
        self, features: _Features, pooling: str, labels: npt.NDArray[np.int8], protocol: str
    ) -> float: ...
    def state(self) -> tuple[bytes, str]: ...
    @staticmethod
    def from_state(state: bytes, history: str) -> TrainedEstimator: ...

def run_program(arguments: Sequence[str]) -> int: ...
def models() -> list[Record]: ...
def extract(
    images: _Path | _Photos,
    backbone: Backbone | _Path,
    out: _Path | None = None,
    *,
    ids: Sequence[str] | None = None,
    dtype: Literal["f16", "f32"] = "f16",
    shard_size: int = 128,
    max_megapixels: int | None = None,
    progress: _Progress | None = None,
) -> Extraction: ...
def tag(
    folder: _Path,
    model: Predictor | _Path | None = None,
    words: Iterable[str] | None = None,
    *,
    threshold: float | None = None,
    top: int | None = None,
    library: _Path | None = None,
    xmp: Literal["full", "stem"] | None = None,
    csv: _Path | None = None,
    exclude: Sequence[str] = ...,
    forget_missing: bool = False,
    prune: bool = False,
    progress: _Progress | None = None,
) -> Record: ...
def learn(
    folder: _Path,
    network: _Path | None = None,
    *,
    vectors: _Vectors | None = None,
    classes: _Path | None = None,
    library: _Path | None = None,
    out: _Path | None = None,
    at_least: int = ...,
    folders: bool = False,
    exclude: Sequence[str] = ...,
    progress: _Progress | None = None,
) -> Record: ...
@final
class Backbone:
    @staticmethod
    def load(
        weights: _Path,
        *,
        tokens: Literal["plain", "projected"] = "plain",
        global_vector: Literal["features", "classes"] = "features",
        precision: Literal["f32", "bf16", "f16", "int8"] = "f32",
        weights_key: str | None = None,
        device: str = "cpu",
    ) -> Backbone: ...
    @property
    def name(self) -> str: ...
    @property
    def tokens(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def global_width(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int]: ...
    @property
    def size(self) -> int: ...
    def features(self, images: _Path | _Photos, progress: _Progress | None = None) -> tuple[_Floats, _Floats]: ...

@final
class Extraction:
    @property
    def ids(self) -> list[str]: ...
    @property
    def failed(self) -> list[tuple[str, str]]: ...
    @property
    def flawed(self) -> list[tuple[str, str]]: ...
    @property
    def resumed(self) -> int: ...
    @property
    def tokens(self) -> _Floats: ...
    @property
    def globals(self) -> _Floats: ...
    @property
    def store(self) -> TokenStore | None: ...
    def __len__(self) -> int: ...

@final
class TokenStore:
    def __new__(cls, path: _Path) -> TokenStore: ...
    @property
    def path(self) -> Path: ...
    @property
    def ids(self) -> list[str]: ...
    @property
    def tokens_per_image(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def global_width(self) -> int: ...
    @property
    def manifest(self) -> Record: ...
    def row_of(self, id: str) -> int: ...
    def tokens(self, rows: _Rows | None = None) -> _Floats: ...
    def globals(self, rows: _Rows | None = None) -> _Floats: ...
    def verify(self) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, row: int | np.integer[Any] | _Rows, /) -> tuple[_Floats, _Floats]: ...
    def __reduce__(self) -> tuple[type[TokenStore], tuple[str]]: ...

@final
class Predictor:
    @staticmethod
    def load(
        model: _Path,
        *,
        backbone: _Path | None = None,
        vectors: _Vectors | None = None,
        classes: _Path | None = None,
        labels: Iterable[str] | None = None,
        device: str = "cpu",
        allow_download: bool = False,
        max_megapixels: int | None = None,
    ) -> Predictor: ...
    @property
    def model(self) -> Model: ...
    def labels(self, words: Iterable[str] | None = None) -> Labels: ...
    def rank(
        self, photo: _Photo, labels: Labels | Iterable[str] | None = None, top: int | None = None
    ) -> list[Ranked]: ...
    def rank_all(
        self,
        photos: _Photos,
        labels: Labels | Iterable[str] | None = None,
        top: int | None = None,
        progress: _Progress | None = None,
    ) -> list[list[Ranked] | Exception]: ...
    def scores(
        self,
        photos: _Photos,
        labels: Labels | Iterable[str] | None = None,
        progress: _Progress | None = None,
    ) -> _Floats: ...
    def keep(
        self, ranking: Sequence[Ranked], *, threshold: float | None = None, top: int | None = None
    ) -> list[Ranked]: ...
    def features(self, photo: _Photo) -> tuple[_Floats, _Floats]: ...
    def semantic_vectors(self, photo: _Photo) -> _Floats | None: ...
    def explain(
        self, photo: _Photo, label: str, labels: Labels | Iterable[str] | None = None
    ) -> list[HeatMap]: ...
    def bundle(
        self,
        out: _Path,
        *,
        words: int | None = None,
        labels: Iterable[str] | None = None,
        exact: bool = False,
        licence: str | None = None,
    ) -> Record: ...
    def write_sidecar(
        self, photo: _Path, labels: Sequence[Ranked], name: Literal["full", "stem"] = "full"
    ) -> Path: ...

@final
class Labels:
    @property
    def names(self) -> list[str]: ...
    def __len__(self) -> int: ...

@final
class Ranked:
    def __new__(
        cls, name: str, score: float, seen: bool, probability: float | None = None, kept: bool | None = None
    ) -> Ranked: ...
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
    def __reduce__(self) -> tuple[type[Ranked], tuple[str, float, bool, float | None, bool | None]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Model:
    @property
    def labels(self) -> list[str]: ...
    @property
    def seen_labels(self) -> list[str]: ...
    @property
    def method(self) -> str: ...
    @property
    def backbone(self) -> str: ...
    @property
    def calibrated(self) -> bool: ...
    @property
    def identity(self) -> str: ...

@final
class HeatMap:
    @property
    def what(self) -> str: ...
    @property
    def group(self) -> int | None: ...
    @property
    def values(self) -> _Floats: ...
    def picture(self) -> npt.NDArray[np.uint8]: ...

@final
class Recipe:
    @staticmethod
    def read(path: _Path) -> Recipe: ...
    @staticmethod
    def parse(text: str) -> Recipe: ...
    @staticmethod
    def from_dict(settings: dict[str, Any]) -> Recipe: ...
    @property
    def method(self) -> str: ...
    @property
    def seeds(self) -> list[int]: ...
    def to_dict(self) -> Record: ...
    def to_toml(self) -> str: ...
    def run(
        self,
        folder: _Path | None = None,
        seeds: Sequence[int] | None = None,
        *,
        device: str = "cpu",
        resume: bool = False,
        progress: _Progress | None = None,
    ) -> dict[int, Record]: ...

@final
class Library:
    def __new__(cls, folder: _Path) -> Library: ...
    @property
    def photos(self) -> Path: ...
    def search(
        self,
        words: str,
        top: int = 50,
        *,
        sort: _Sort = "relevance",
        predictor: Predictor | None = None,
        vectors: _Vectors | None = None,
        **criteria: Unpack[_Criteria],
    ) -> list[Record]: ...
    def like(self, photo: _Path, top: int = 50, *, sort: _Sort = "relevance", **criteria: Unpack[_Criteria]) -> list[Record]: ...
    def items(self, top: int = ..., *, sort: _Sort = "relevance", **criteria: Unpack[_Criteria]) -> list[Record]: ...
    def corrections(self) -> Record: ...
    def approve(self, photo: _Path, label: str) -> None: ...
    def reject(self, photo: _Path, label: str) -> None: ...
    def withdraw(self, photo: _Path, label: str) -> None: ...
    def review(self, photo: _Path, reviewed: bool = True) -> None: ...
    def __len__(self) -> int: ...

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
    def average_precision(self) -> _Doubles: ...
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
) -> float | _Doubles: ...
def metrics_auroc(
    preds: _Array,
    target: _Array,
    average: str | None,
    thresholds: int | Sequence[float] | None,
    ignore_index: int | None,
) -> float | _Doubles: ...
def metrics_precision_recall_curve(
    preds: _Array, target: _Array, thresholds: int | Sequence[float] | None, ignore_index: int | None
) -> list[tuple[_Doubles, _Doubles, _Doubles]]: ...
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
) -> float | _Doubles: ...
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
def metrics_restore(kind: str, values: str) -> Any: ...
