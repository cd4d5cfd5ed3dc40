"""Multi-label zero-shot learning: train on seen labels, rank labels that were never trained on.

The Rust library ``epsilon`` with NumPy arrays in and out; the command ``epsilon`` comes with it.
"""

from epsilon_zsl import errors
from epsilon_zsl._native import Labels, Predictor, Ranked, __version__
from epsilon_zsl.errors import EpsilonError

__all__ = ["EpsilonError", "Labels", "Predictor", "Ranked", "__version__", "errors"]
