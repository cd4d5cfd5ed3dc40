"""What all estimators share: parameters as scikit-learn wants them, arrays in and out, and scores of labels.

scikit-learn is not needed, and not imported before one of its own functions asks for what only it has.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from epsilon_zsl import _native
from epsilon_zsl.errors import EstimatorError

Self = TypeVar("Self", bound="Estimator")

#: Parameters that are a mapping with a ``kind``, for which the kind alone may stand.
_KINDS = frozenset({"of", "optimiser", "schedule"})

#: What fitting and scoring take as features.
Features = Any


class StoredFeatures:
    """Images of a token store on disk as the ``X`` of an estimator; they are read as they are needed.

    Parameters
    ----------
    store
        The store, or its folder, as ``epsilon extract`` or ``epsilon train`` made it.
    rows
        The rows of the images, in the order of ``y``; all of them by default.

    It has a length and a ``shape`` of ``(n, N, D)``, and an index, slice or mask of its images gives others of the same store, so
    that scikit-learn can divide it into folds.

    Raises
    ------
    StoreError
        The folder holds no store that can be read.
    IndexError
        A row that is not there.
    """

    def __init__(
        self, store: _native.TokenStore | str | os.PathLike[str], rows: npt.ArrayLike | None = None
    ) -> None:
        self.store = store if isinstance(store, _native.TokenStore) else _native.TokenStore(store)
        count = len(self.store)
        self.rows: npt.NDArray[np.intp] = np.arange(count)
        if rows is not None:
            self.rows = np.arange(count)[np.asarray(rows)]

    @property
    def ids(self) -> list[str]:
        """The id of each image."""
        ids = self.store.ids
        return [ids[row] for row in self.rows]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, tokens of an image, width of a token."""
        return len(self.rows), self.store.tokens_per_image, self.store.width

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> StoredFeatures:
        if isinstance(index, tuple):
            index, *rest = index
            if any(part is not Ellipsis for part in rest):
                raise IndexError("stored features are divided by images alone")
        other = object.__new__(StoredFeatures)
        other.store = self.store
        other.rows = np.atleast_1d(self.rows[index])
        return other

    def __reduce__(self) -> tuple[type[StoredFeatures], tuple[_native.TokenStore, npt.NDArray[np.intp]]]:
        return StoredFeatures, (self.store, self.rows)

    def __repr__(self) -> str:
        return f"StoredFeatures({str(self.store.path)!r}, {len(self.rows)} images)"


class Estimator:
    """What the estimators of :mod:`epsilon_zsl.estimators` are; it is none itself."""

    #: The method's name in recipes.
    _method: ClassVar[str]
    #: The parameters that are settings of the method.
    _method_settings: ClassVar[tuple[str, ...]]
    #: Those that are settings of its training.
    _training_settings: ClassVar[tuple[str, ...]]

    label_vectors: npt.ArrayLike | None
    unseen_vectors: npt.ArrayLike | None
    seed: int
    pooling: str
    zeros: str
    top_k: int
    protocol: str

    # Parameters, as scikit-learn wants them.

    @classmethod
    def _parameters(cls) -> dict[str, inspect.Parameter]:
        return dict(list(inspect.signature(cls.__init__).parameters.items())[1:])

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by their names; with ``deep`` also those of estimators among them, as ``name__parameter``."""
        values = {name: getattr(self, name) for name in self._parameters()}
        if deep:
            for name, value in list(values.items()):
                if isinstance(value, Estimator):
                    values |= {f"{name}__{key}": inner for key, inner in value.get_params().items()}
        return values

    def set_params(self: Self, **params: Any) -> Self:
        """Sets parameters by their names.

        Raises
        ------
        EstimatorError
            A name that is no parameter.
        """
        known = self._parameters()
        for name, value in params.items():
            first, _, rest = name.partition("__")
            if first not in known:
                raise EstimatorError(f"{name}: {type(self).__name__} has the parameters {', '.join(known)}")
            if rest:
                getattr(self, first).set_params(**{rest: value})
            else:
                setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        def said(value: Any) -> str:
            return f"array{value.shape}" if isinstance(value, np.ndarray) else repr(value)

        def is_default(value: Any, default: Any) -> bool:
            return value is default or (type(value) is type(default) and bool(np.all(value == default)))

        given = [
            f"{name}={said(getattr(self, name))}"
            for name, parameter in self._parameters().items()
            if not is_default(getattr(self, name), parameter.default)
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            ClassifierTags,
            InputTags,
            Tags,
            TargetTags,
        )

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True, multi_output=True, single_output=False),
            classifier_tags=ClassifierTags(multi_class=False, multi_label=True),
            input_tags=InputTags(two_d_array=True, three_d_array=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_trained")

    # Pickles hold the weights as bytes.

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if "_trained" in state:
            state["_trained"] = state["_trained"].state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_trained" in state:
            self._trained = _native.TrainedEstimator.from_state(*state["_trained"])

    # Training.

    def fit(self: Self, X: Features, y: npt.ArrayLike) -> Self:
        """Trains the method.

        The same arrays, vectors, parameters and number of threads give the same weights bit for bit, and those of ``epsilon
        train`` with a recipe of the same. Ctrl-C stops the training. The arrays must not be changed meanwhile.

        Parameters
        ----------
        X
            Features of n images: ``(n, D)``, one vector an image, which is then its one token as well; ``(n, N, D)``, N tokens an
            image, from which ``pooling`` makes the vector of the whole image; :class:`StoredFeatures`; or a
            :class:`~epsilon_zsl.TokenStore`, all of it.
        y
            Labels ``(n, L)`` in {0, 1}, or in {-1, 0, 1}: 1 for a label that is there, -1 for one that is not; ``zeros`` says what 0
            is. An image without a 1 is not trained on.

        Raises
        ------
        EstimatorError
            Arguments or parameters that are out of their range or do not fit each other; it names them.
        TrainingError
            A training that cannot go on, such as one whose loss is not a number any more.
        """
        features = _features(X)
        labels = _labels(y, self.zeros)
        self._trained = _native.fit_estimator(
            self._method,
            self._settings(),
            seed=_whole("seed", self.seed),
            protocol=self.protocol,
            features=features,
            pooling=self.pooling,
            labels=labels,
            vectors=_vectors("label_vectors", self.label_vectors),
            unseen=_vectors("unseen_vectors", self.unseen_vectors),
        )
        self.n_features_in_ = self._trained.width
        self.classes_: npt.NDArray[np.intp] = np.arange(labels.shape[1])
        self.history_: list[dict[str, Any]] = json.loads(self._trained.history)
        self.best_epoch_: int | None = self._trained.best_epoch
        return self

    def _settings(self) -> str:
        """The settings that are given, as JSON."""
        return json.dumps(self._given(self._method_settings + self._training_settings))

    def _given(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Those of these parameters that are given, by their names in recipes; `None` is the library's own default."""
        values = ((name, getattr(self, name)) for name in names)
        return {
            name.rstrip("_").replace("_", "-"): _plain(name, value)
            for name, value in values
            if value is not None
        }

    def _as_setting(self) -> dict[str, Any]:
        """The method with its settings, as it stands in a recipe."""
        return {"kind": self._method, **self._given(self._method_settings)}

    # Scores.

    def decision_function(self, X: Features) -> npt.NDArray[np.float32]:
        """Scores ``(n, L)`` of the labels that it was trained on; only their order within a row means something.

        Raises
        ------
        EstimatorError
            Features of another shape than those of the training.
        """
        trained = self._fitted()
        return trained.score_known(_features(X), self.pooling, list(range(len(self.classes_))))

    def score_labels(
        self, X: Features, vectors: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float32]:
        """Scores ``(n, K)`` of any labels by their vectors ``(K, V)``, whose lengths do not matter.

        Without ``vectors`` the labels are those of ``unseen_vectors``. Scores of labels that it was trained on and of others can be
        compared.

        Raises
        ------
        EstimatorError
            Vectors or features of another width than those of the training; vectors for a method that knows but the labels of its
            training; no vectors where there are no ``unseen_vectors``.
        """
        trained = self._fitted()
        if vectors is not None:
            given = _vectors("vectors", vectors)
            assert given is not None
            return trained.score_vectors(_features(X), self.pooling, given)
        unseen = list(range(len(self.classes_), trained.known))
        if not unseen:
            raise EstimatorError("vectors: give those of the labels to score; it was trained without unseen_vectors")
        return trained.score_known(_features(X), self.pooling, unseen)

    def predict(self, X: Features) -> npt.NDArray[np.int64]:
        """The ``top_k`` best labels of each image, or all of them where there are fewer, as an indicator ``(n, L)`` of 0 and 1; of
        equal scores the first label counts.

        Raises
        ------
        EstimatorError
            As :meth:`decision_function`; ``top_k`` is below 1.
        """
        scores = self.decision_function(X)
        top = _whole("top_k", self.top_k)
        if top == 0:
            raise EstimatorError("top_k = 0: give at least 1")
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        indicator = np.zeros(scores.shape, dtype=np.int64)
        np.put_along_axis(indicator, best, 1, axis=1)
        return indicator

    def score(self, X: Features, y: npt.ArrayLike) -> float:
        """mAP, from 0 to 1, of the labels that it was trained on, under ``protocol``.

        The average precision of a label is over the images; their mean is over the labels. The protocols are those of
        ``epsilon metrics --help``; they differ in what an unknown label (0) and one without a positive image count.

        Raises
        ------
        EstimatorError
            Features or labels of another shape than those of the training.
        MetricsError
            Labels for which the protocol defines no figure.
        """
        trained = self._fitted()
        labels = _labels(y, self.zeros)
        return trained.mean_average_precision(_features(X), self.pooling, labels, self.protocol)

    def _fitted(self) -> _native.TrainedEstimator:
        if not hasattr(self, "_trained"):
            raise _not_fitted(f"this {type(self).__name__} is not trained: call fit first")
        trained: _native.TrainedEstimator = self._trained
        return trained


def _not_fitted(message: str) -> Exception:
    """scikit-learn's exception where there is scikit-learn."""
    try:
        from sklearn.exceptions import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            NotFittedError,
        )
    except ImportError:
        return EstimatorError(message)
    error: Exception = NotFittedError(message)
    return error


def _features(X: Features) -> Any:
    """Features as the native part takes them."""
    if isinstance(X, _native.TokenStore):
        X = StoredFeatures(X)
    if isinstance(X, StoredFeatures):
        return X.store, X.rows.tolist()
    if hasattr(X, "toarray"):
        raise EstimatorError("X: give a dense array, not a sparse one")
    array = np.asarray(X)
    if array.ndim not in (2, 3):
        raise EstimatorError(
            f"X: shape {array.shape}; give (n, D), a vector an image, or (n, N, D), N tokens an image"
        )
    return _floats("X", array)


def _vectors(name: str, given: npt.ArrayLike | None) -> npt.NDArray[np.float32] | None:
    """Vectors of labels."""
    if given is None:
        return None
    array = np.asarray(given)
    if array.ndim != 2:
        raise EstimatorError(f"{name}: shape {array.shape}; give (labels, V), a vector a label")
    return _floats(name, array)


def _floats(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """In single precision and C order; what is beyond its range becomes infinite, and is refused later."""
    # V: the extra types of ml_dtypes, such as bfloat16.
    if array.dtype.kind not in "fiubV" or array.dtype.names:
        raise EstimatorError(f"{name}: an array of {array.dtype}; give numbers")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def _labels(y: Any, zeros: str) -> npt.NDArray[np.int8]:
    """Labels in {-1, 0, 1}."""
    array = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    if array.ndim != 2:
        raise EstimatorError(f"y: shape {array.shape}; give (n, L), a column a label")
    if array.dtype.kind not in "fiub":
        raise EstimatorError(f"y: an array of {array.dtype}; give 1, 0 and -1")
    with np.errstate(invalid="ignore"):
        values = array.astype(np.int8)
    wrong = (values != array) | (values < -1) | (values > 1)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise EstimatorError(f"y: {array[row, column]} in row {row}, column {column}; give 1, 0 and -1")
    if zeros not in ("auto", "negative", "unknown"):
        raise EstimatorError(f"zeros = {zeros!r}: give 'auto', 'negative' or 'unknown'")
    if zeros == "negative" or (zeros == "auto" and not (values < 0).any()):
        values = np.where(values == 0, np.int8(-1), values)
    return np.ascontiguousarray(values)


def _whole(name: str, value: Any) -> int:
    """A whole number that is not negative."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__") or int(value) < 0:
        raise EstimatorError(f"{name} = {value!r}: give a whole number that is not negative")
    return int(value)


def _plain(name: str, value: Any) -> Any:
    """A parameter's value as JSON has it; names within it are those of recipes, with ``-``."""
    if isinstance(value, Estimator):
        return value._as_setting()
    if isinstance(value, str) and name in _KINDS:
        return {"kind": value}
    if isinstance(value, Mapping):
        return {str(key).replace("_", "-"): _plain("", inner) for key, inner in value.items()}
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(name, value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        raise EstimatorError(f"{name} = {value}: give a finite number")
    if isinstance(value, (str, bool, int, float, type(None))):
        return value
    if isinstance(value, Iterable):
        return [_plain(name, inner) for inner in value]
    raise EstimatorError(f"{name} = {value!r}: give a number, a name, or a sequence or mapping of them")
