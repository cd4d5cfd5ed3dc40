"""What can go wrong: every exception of the package is an :class:`EpsilonError`.

Messages name the file or the argument, say what is wrong with it and what to do. A wrong type of an argument is a
``TypeError`` and a wrong value a ``ValueError``, as usual.
"""


class EpsilonError(Exception):
    """What all exceptions of this package are."""


class BackboneError(EpsilonError):
    """A network's weights that cannot be found, read or run."""


class DatasetError(EpsilonError):
    """A data set that cannot be read, or that contradicts itself."""


class DeviceError(EpsilonError):
    """A device that this build does not know."""


class EstimatorError(EpsilonError, ValueError):
    """Arguments of an estimator that are out of their range or do not fit each other."""


class ExperimentError(EpsilonError):
    """An experiment that cannot be run: what its recipe asks for and its data set do not fit each other."""


class ExtractionError(EpsilonError):
    """Tokens that cannot be made or written."""


class ImageError(EpsilonError):
    """A photograph that cannot be read."""


class LabelError(EpsilonError):
    """Labels or word vectors that cannot be read, or a word without a vector."""


class LearnError(EpsilonError):
    """A folder of photographs that nothing can be learnt from."""


class LibraryError(EpsilonError):
    """A library of tagged photographs that cannot be read or written."""


class MethodError(EpsilonError):
    """A method whose settings do not fit its data."""


class MetricsError(EpsilonError, ValueError):
    """Scores or labels that a metric is not defined for."""


class ModelError(EpsilonError):
    """A model that cannot be read, or labels that it cannot score."""


class PredictError(EpsilonError):
    """A model and its parts that do not fit each other."""


class RecipeError(EpsilonError):
    """A recipe that cannot be read, or a setting out of its range."""


class SearchIndexError(EpsilonError):
    """The index of a library's photographs that cannot be read or written, or does not hold what is looked for."""


class StoreError(EpsilonError):
    """A token store that cannot be read or written."""


class TagError(EpsilonError):
    """A folder that cannot be tagged."""


class TrainingError(EpsilonError):
    """A training that cannot start or go on."""
