"""Multi-label zero-shot learning: train on seen labels, rank labels that were never trained on.

The Rust library ``epsilon`` with NumPy arrays in and out; the command ``epsilon`` comes with it.

>>> import epsilon_zsl
>>> predictor = epsilon_zsl.Predictor.load("model.safetensors")
>>> for label in predictor.rank("photo.png", ["striped circle", "plain star"], top=1):
...     print(label.name, label.seen)
striped circle False
"""

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
    "extract",
    "learn",
    "models",
    "tag",
]
