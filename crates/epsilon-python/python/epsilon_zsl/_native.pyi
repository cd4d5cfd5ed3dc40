"""The native part of the package."""

import os
from collections.abc import Sequence
from typing import Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "EstimatorStore",
    "Labels",
    "Predictor",
    "Ranked",
    "TrainedEstimator",
    "__version__",
    "estimator_names",
    "estimator_settings",
    "fit_estimator",
    "run_program",
]

__version__: Final[str]

_Photo: TypeAlias = str | os.PathLike[str] | bytes

_Features: TypeAlias = npt.NDArray[np.float32] | tuple[EstimatorStore, list[int]]

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
class EstimatorStore:
    @staticmethod
    def open(folder: str | os.PathLike[str]) -> EstimatorStore: ...
    @property
    def ids(self) -> list[str]: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...

@final
class TrainedEstimator:
    @property
    def known(self) -> int: ...
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
