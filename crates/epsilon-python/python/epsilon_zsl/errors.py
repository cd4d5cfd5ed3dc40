"""What can go wrong: every exception of the package is an :class:`EpsilonError`.

Messages name the file or the argument, say what is wrong with it and what to do.
"""


class EpsilonError(Exception):
    """What all exceptions of this package are."""


class BackboneError(EpsilonError):
    """A network's weights that cannot be found, read or run."""


class ImageError(EpsilonError):
    """A photograph that cannot be read."""


class LabelError(EpsilonError):
    """Labels or word vectors that cannot be read, or a word without a vector."""


class LibraryError(EpsilonError):
    """A library of tagged photographs that cannot be read or written."""


class MetricsError(EpsilonError, ValueError):
    """Scores or labels that a metric is not defined for."""


class ModelError(EpsilonError):
    """A model that cannot be read, or labels that it cannot score."""


class PredictError(EpsilonError):
    """A model and its parts that do not fit each other."""


class RecipeError(EpsilonError):
    """A recipe that cannot be read, or a setting out of its range."""


class StoreError(EpsilonError):
    """A token store that cannot be read or written."""


class TrainingError(EpsilonError):
    """A training that cannot start or go on."""
