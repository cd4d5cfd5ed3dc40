"""The native part of the package."""

import os
from collections.abc import Sequence
from typing import Final, TypeAlias, final

__all__ = ["Labels", "Predictor", "Ranked", "__version__", "run_program"]

__version__: Final[str]

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
