"""Multi-label zero-shot learning: train on seen labels, rank labels that were never trained on.

The Rust library ``epsilon`` with NumPy arrays in and out; the command ``epsilon`` comes with it.

>>> import epsilon_zsl
>>> predictor = epsilon_zsl.Predictor.load("model.safetensors")
>>> for label in predictor.rank("photo.png", ["striped circle", "plain star"], top=1):
...     print(label.name, label.seen)
striped circle False
"""

import importlib
from typing import TYPE_CHECKING, Any

from epsilon_zsl import errors
from epsilon_zsl._native import (
    Backbone,
    Extraction,
    HeatMap,
    Labels,
    Library,
    Model,
    Predictor,
    Ranked,
    Recipe,
    TokenStore,
    __version__,
    extract,
    learn,
    models,
    tag,
)
from epsilon_zsl._record import Record
from epsilon_zsl.errors import EpsilonError

if TYPE_CHECKING:
    from epsilon_zsl import estimators, metrics

__all__ = [
    "Backbone",
    "EpsilonError",
    "Extraction",
    "HeatMap",
    "Labels",
    "Library",
    "Model",
    "Predictor",
    "Ranked",
    "Recipe",
    "Record",
    "TokenStore",
    "__version__",
    "errors",
    "estimators",
    "extract",
    "learn",
    "metrics",
    "models",
    "tag",
]


_LATER = ("estimators", "metrics")
"""Modules that import NumPy, which takes longer than all of this package: imported where they are asked for."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"epsilon_zsl.{name}")
    raise AttributeError(f"module 'epsilon_zsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
