"""Methods of multi-label zero-shot learning as estimators, in the way of scikit-learn, which is not needed.

>>> import numpy as np
>>> from epsilon_zsl.estimators import Ridge
>>> rng = np.random.default_rng(0)
>>> X = rng.normal(size=(20, 6))               # 20 images, a vector each
>>> y = rng.integers(0, 2, size=(20, 4))       # of four labels which are there
>>> vectors = rng.normal(size=(4, 3))          # what the labels mean
>>> model = Ridge(label_vectors=vectors).fit(X, y)
>>> model.predict(X).shape                     # the best three of the four labels
(20, 4)
>>> model.score_labels(X, [[1.0, 0.0, 0.5]]).shape   # a label that no image was trained on
(20, 1)

Every class takes its parameters by name; ``None`` is the library's default. It can be cloned, pickled, put into a pipeline,
cross-validated, and searched for settings. docs/python.md is the guide.

Made by make_estimators.py from the library's table of methods: change the settings there.
"""

# fmt: off
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy.typing as npt

from epsilon_zsl._estimator import Estimator, StoredFeatures

__all__ = [
    "BiAM",
    "BilinearAttention",
    "CLIPProjection",
    "CLIPZeroShot",
    "CNNRNN",
    "CONSE",
    "Epsilon",
    "Estimator",
    "Fast0Tag",
    "GenMLZSL",
    "LESA",
    "LESAPerCluster",
    "LabelEM",
    "LearntLabels",
    "Logistic",
    "ML2PEncoder",
    "Random",
    "Ridge",
    "SDL",
    "StoredFeatures",
    "WARP",
    "WSABIE",
]


class Epsilon(Estimator):
    """Epsilon: group prompts aggregation (GPA), global forward propagation (GFP) and a fuser turn the tokens of a
    frozen backbone into M semantic vectors; a label's score is the best match of its vector among them.

    Source: "Epsilon: Exploring Comprehensive Visual-Semantic Projection for Multi-Label Zero-Shot Learning", AAAI
    2025 (arXiv 2408.12253). Equation numbers below are the paper's.

    Epsilon's settings; the defaults are the paper's.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    groups : int, default 8
        M, the number of groups.
    depth : int, default 1
        Encoder blocks over ``[prompts; tokens]``, 0 to 3.
    heads : int | None, default None
        Attention heads of the encoder; the default is one per 64 channels.
    with_cls : bool, default False
        Whether the backbone's global vector (its CLS token) joins the patch tokens.
    refinement_scale : Literal["sqrt", "none"], default "sqrt"
        Scale of the refinement's logits.
    refinement_softmax : Literal["tokens", "groups"], default "tokens"
        What the refinement's softmax runs over.
    global_source : Literal["split", "copies"], default "split"
        Where GFP's blocks come from.
    hidden : int | None, default None
        Hidden width of GFP's MLPs; the default is the token width.
    shared_mlp : bool, default False
        Whether all blocks of GFP share one MLP.
    modules : Literal["both", "gpa", "gfp", "none"], default "both"
        Which modules are present.
    token_dropout : float, default 0.0
        Share of the tokens that a training step leaves out, the same ones for all images of a batch's part; the
        paper has none. It is also what a step saves.
    dropout : float, default 0.0
        Share of what the fuser reads that a training step leaves out; the paper has none.
    fuser_rank : int | None, default None
        r, the width that the fuser's map passes through, ``U dropout(V x)`` with V to r values; the paper's is one
        map.
    global_branch : Mapping[str, Any] | None, default None
        A perceptron of the whole image beside the two modules; the paper has none.
    binary_offset : float | None, default None
        Trains by the binary cross-entropy of ``s_c`` less this, in place of ``omega (1 - lambda) L_r``: every label
        of an image is true or not, which also fixes the level of the scores, while a ranking leaves it free. The
        paper has no such loss.
    score_ : Literal["max", "log-sum-exp"], default "max"
        How M matches become one score.
    lambda_ : float, default 0.3
        Weight of the variance term; ``1 - lambda`` weighs the ranking loss.
    alpha : Literal["positives-negatives", "positives"], default "positives-negatives"
        Weight of a pair in the ranking loss.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import Epsilon
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 4, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = Epsilon(label_vectors=vectors, groups=2, epochs=2).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "epsilon"
    _method_settings = ("groups", "depth", "heads", "with_cls", "refinement_scale", "refinement_softmax",
        "global_source", "hidden", "shared_mlp", "modules", "token_dropout", "dropout", "fuser_rank", "global_branch",
        "binary_offset", "score_", "lambda_", "alpha", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        groups: int = 8,
        depth: int = 1,
        heads: int | None = None,
        with_cls: bool = False,
        refinement_scale: Literal["sqrt", "none"] = "sqrt",
        refinement_softmax: Literal["tokens", "groups"] = "tokens",
        global_source: Literal["split", "copies"] = "split",
        hidden: int | None = None,
        shared_mlp: bool = False,
        modules: Literal["both", "gpa", "gfp", "none"] = "both",
        token_dropout: float = 0.0,
        dropout: float = 0.0,
        fuser_rank: int | None = None,
        global_branch: Mapping[str, Any] | None = None,
        binary_offset: float | None = None,
        score_: Literal["max", "log-sum-exp"] = "max",
        lambda_: float = 0.3,
        alpha: Literal["positives-negatives", "positives"] = "positives-negatives",
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.groups = groups
        self.depth = depth
        self.heads = heads
        self.with_cls = with_cls
        self.refinement_scale = refinement_scale
        self.refinement_softmax = refinement_softmax
        self.global_source = global_source
        self.hidden = hidden
        self.shared_mlp = shared_mlp
        self.modules = modules
        self.token_dropout = token_dropout
        self.dropout = dropout
        self.fuser_rank = fuser_rank
        self.global_branch = global_branch
        self.binary_offset = binary_offset
        self.score_ = score_
        self.lambda_ = lambda_
        self.alpha = alpha
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class Ridge(Estimator):
    """Ridge regression, the linear control: from an image's global vector to the mean vector of its positive labels.

    ``W = argmin |X W - Y|^2 + penalty |W|^2`` over centred, standardised global vectors X and the mean positive
    label vectors Y (unit-length label vectors); an image's score for a label is ``(x W + b) . v_c``.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    penalty : float, default 0.1
        Penalty per image: the penalty of the sum is this times the number of images.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import Ridge
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = Ridge(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "ridge"
    _method_settings = ("penalty",)
    _training_settings = ()

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        penalty: float = 0.1,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.penalty = penalty
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class Random(Estimator):
    """Random scores: what a table's figures must be compared with.

    Scores drawn uniformly from [0, 1), a function of the seed and the image's global vector, so that an image keeps
    its scores whatever batch it is in.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import Random
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = Random(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "random"
    _method_settings = ()
    _training_settings = ()

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class Fast0Tag(Estimator):
    """Fast0Tag: a multilayer perceptron maps an image's vector to one principal direction, along which its labels'
    vectors rank ahead of the others.

    Source: "Fast Zero-Shot Image Tagging", CVPR 2016. ``f = W3 relu(W2 relu(W1 g))``, ``s_c = f . v_c``, RankNet
    loss: Epsilon's L_r with one semantic vector. The paper does not say how much dropout it trains with; 0.3 is the
    rate of the public code.

    Fast0Tag's settings; the defaults are the paper's.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    input : Literal["global", "mean-token", "both"], default "global"
        The vector of an image that it reads.
    hidden : Sequence[int], default (8192, 2048)
        Widths of the hidden layers.
    dropout : float, default 0.3
        Share of the hidden values that a training step leaves out.
    batch_norm : bool, default False
        Whether the hidden values are normalised over a batch before their ReLU; the paper does not.
    alpha : Literal["positives-negatives", "positives"], default "positives-negatives"
        Weight of a pair in the ranking loss.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import Fast0Tag
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = Fast0Tag(label_vectors=vectors, hidden=[16]).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "fast0tag"
    _method_settings = ("input", "hidden", "dropout", "batch_norm", "alpha", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        input: Literal["global", "mean-token", "both"] = "global",
        hidden: Sequence[int] = (8192, 2048),
        dropout: float = 0.3,
        batch_norm: bool = False,
        alpha: Literal["positives-negatives", "positives"] = "positives-negatives",
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.input = input
        self.hidden = hidden
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.alpha = alpha
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class SDL(Estimator):
    """SDL: a linear map gives K semantic vectors of an image, and a label's score is its best match among them.

    Source: "Semantic Diversity Learning for Zero-Shot Multi-Label Classification", ICCV 2021, and its public code:
    ``S = W g`` in K rows of d_w, ``s_c = max_k S_k . v_c``, loss ``2 ((1 - w) omega L_r + w L_reg)`` with Epsilon's
    omega (one plus the variance of the positive labels' vectors), L_r over the number of positives, and L_reg (the
    variance over the K rows).

    SDL's settings; the defaults are the paper's for NUS-WIDE.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    input : Literal["global", "mean-token", "both"], default "global"
        The vector of an image that it reads.
    rows : int, default 7
        K, the number of semantic vectors; the paper has 7 on NUS-WIDE and Open Images, 2 on COCO.
    regularisation : float, default 0.3
        ``w``, the weight of the variance over the rows.
    alpha : Literal["positives-negatives", "positives"], default "positives"
        Weight of a pair in the ranking loss.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import SDL
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = SDL(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "sdl"
    _method_settings = ("input", "rows", "regularisation", "alpha", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        input: Literal["global", "mean-token", "both"] = "global",
        rows: int = 7,
        regularisation: float = 0.3,
        alpha: Literal["positives-negatives", "positives"] = "positives",
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.input = input
        self.rows = rows
        self.regularisation = regularisation
        self.alpha = alpha
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class ML2PEncoder(Estimator):
    """(ML)2P-Encoder: the token grid becomes groups of channels, each as wide as a label vector; attention among the
    channels of a group and among the groups gives one semantic vector a group, and a label's score is its best
    match among them.

    Source: "(ML)2P-Encoder: On Exploration of Channel-Class Correlation for Multi-Label Zero-Shot Learning", CVPR
    2023; there is no public code. With X the tokens on their grid and G groups of d_w channels: 1. ``Z = shuffle(X
    W)``: a 1 x 1 convolution to ``G d_w`` channels, whose shuffle deals every group channels of all. 2. In each
    group q, k, v are 1 x 1 and depth-wise 3 x 3 convolutions of Z; q and k have unit length over the grid; ``Z <-
    softmax(t q k') v``, over channels, with a learnt temperature t. 3. One block of an MLP-Mixer over each group's
    grid: ``Z + MLP(norm(Z)')'``, then ``Z + MLP(norm(Z))``. 4. ``U = sigmoid(max over the grid)``, one vector a
    group; ``S = (q k') U`` with q and k MLPs of U, without softmax. 5. ``s_c = max_g S_g . v_c``; loss ``L_r + w
    L_reg``, Epsilon's L_r and L_reg.

    The mixer's hidden widths, whether blocks are shared by the groups, and the loss's pair weight are not told: the
    mixer's widths and the pair weight are settings, and the groups share the mixer and the MLPs of step 4.

    (ML)2P-Encoder's settings; the defaults are the paper's where it tells them.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    groups : int, default 7
        G, the number of groups.
    token_hidden : int | None, default None
        Hidden width of the mixer's MLP over the grid; the default is the number of tokens.
    channel_hidden : int | None, default None
        Hidden width of the mixer's MLP over channels; the default is the width of the label vectors.
    regularisation : float, default 0.4
        ``w``, the weight of the variance over the groups.
    alpha : Literal["positives-negatives", "positives"], default "positives-negatives"
        Weight of a pair in the ranking loss.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import ML2PEncoder
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 4, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = ML2PEncoder(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "ml2p-encoder"
    _method_settings = ("groups", "token_hidden", "channel_hidden", "regularisation", "alpha", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        groups: int = 7,
        token_hidden: int | None = None,
        channel_hidden: int | None = None,
        regularisation: float = 0.4,
        alpha: Literal["positives-negatives", "positives"] = "positives-negatives",
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.groups = groups
        self.token_hidden = token_hidden
        self.channel_hidden = channel_hidden
        self.regularisation = regularisation
        self.alpha = alpha
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class CONSE(Estimator):
    """CONSE: "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014. A logistic classifier of
    the seen labels; ``f = sum of its T largest probabilities times those labels' vectors / their sum``, ``s_c =
    cos(f, v_c)``.

    CONSE's settings; the defaults are the paper's.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    input : Literal["global", "mean-token", "both"], default "global"
        The vector of an image that is classified.
    top : int, default 10
        T, how many of the most probable seen labels are combined.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives of the classifier; a label that is neither is left out.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import CONSE
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = CONSE(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "conse"
    _method_settings = ("input", "top", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        input: Literal["global", "mean-token", "both"] = "global",
        top: int = 10,
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.input = input
        self.top = top
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class LabelEM(Estimator):
    """LabelEM, also ALE: "Label-Embedding for Image Classification", TPAMI 2016. ``s_c = theta' W v_c`` with theta the
    global vector at unit length, trained with the sampled ranking loss; W starts normal with variance 1 / (width of
    theta).

    LabelEM's settings.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    input : Literal["global", "mean-token", "both"], default "global"
        The vector of an image that is embedded.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import LabelEM
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = LabelEM(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "label-em"
    _method_settings = ("input", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        input: Literal["global", "mean-token", "both"] = "global",
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.input = input
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class BilinearAttention(Estimator):
    """Bilinear attention (Kim et al.), which is also "one attention per label": every label looks at the tokens for
    itself.

    Source: "Bilinear Attention Networks", NeurIPS 2018, in the form of the comparison of LESA (CVPR 2020): ``e_ic =
    h . (relu(U r_i) * relu(V v_c))``, ``a_c = softmax_i(e_ic)``, ``z_c = sum_i a_ic r_i``, ``s_c = z_c' W v_c``.

    Both the logits and the scores are matches of something of the tokens with something of the labels, so ``z_c``,
    a vector for every label of every image, is never computed: ``s_c = sum_i a_ic (r_i' W v_c)``, with whichever of
    ``r_i' W`` and ``W v_c`` takes fewer operations.

    Bilinear attention's settings; the defaults are LESA's for this method.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    rank : int, default 512
        Width of the space in which tokens and labels meet.
    negatives : Literal["not-positive", "annotated"], default "annotated"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import BilinearAttention
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 4, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = BilinearAttention(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "bilinear-attention"
    _method_settings = ("rank", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        rank: int = 512,
        negatives: Literal["not-positive", "annotated"] = "annotated",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.rank = rank
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class LESAPerCluster(Estimator):
    """LESA: a few attentions that all labels share, each label scored by the one that suits it best; and its control,
    one attention for each cluster of labels.

    Source: "A Shared Multi-Attention Framework for Multi-Label Zero-Shot Learning", CVPR 2020, and its public code.
    With R the tokens after a 2 x 2 convolution and batch normalisation: logits ``e = [tanh([r, 1] W1), 1] W2`` in T
    columns, ``a = softmax over tokens``, ``f_t = sum_i a_it r_i``, ``s_c = max_t f_t' W v_c``. Loss: the ranking
    hinge, and with the weights of ``Lesa`` distribution = ``mean_t (sum_p softmax_t(f_t' W v_p))^2`` over the
    positive labels p (no attention takes them all), global = ``sum_c relu(-y_c (s_c - s of the mean token))``, span
    = the Frobenius norm of the off-diagonal cosines between the attentions' logits.

    One attention per cluster: ``s_c = f_m(c)' W v_c`` on the tokens as they are, with m(c) the nearest of the
    centres of the seen labels' vectors (k-means); the paper does not say how its attention is computed, here as
    LESA's.

    Settings of one attention per cluster; the defaults are the paper's.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    clusters : int, default 10
        Number of clusters, and of attentions.
    hidden : int | None, default None
        Hidden width of the attentions; the default is the tokens' width.
    negatives : Literal["not-positive", "annotated"], default "annotated"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import LESAPerCluster
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 4, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = LESAPerCluster(label_vectors=vectors, clusters=2).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "lesa-per-cluster"
    _method_settings = ("clusters", "hidden", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        clusters: int = 10,
        hidden: int | None = None,
        negatives: Literal["not-positive", "annotated"] = "annotated",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.clusters = clusters
        self.hidden = hidden
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class LESA(Estimator):
    """LESA: a few attentions that all labels share, each label scored by the one that suits it best; and its control,
    one attention for each cluster of labels.

    Source: "A Shared Multi-Attention Framework for Multi-Label Zero-Shot Learning", CVPR 2020, and its public code.
    With R the tokens after a 2 x 2 convolution and batch normalisation: logits ``e = [tanh([r, 1] W1), 1] W2`` in T
    columns, ``a = softmax over tokens``, ``f_t = sum_i a_it r_i``, ``s_c = max_t f_t' W v_c``. Loss: the ranking
    hinge, and with the weights of ``Lesa`` distribution = ``mean_t (sum_p softmax_t(f_t' W v_p))^2`` over the
    positive labels p (no attention takes them all), global = ``sum_c relu(-y_c (s_c - s of the mean token))``, span
    = the Frobenius norm of the off-diagonal cosines between the attentions' logits.

    One attention per cluster: ``s_c = f_m(c)' W v_c`` on the tokens as they are, with m(c) the nearest of the
    centres of the seen labels' vectors (k-means); the paper does not say how its attention is computed, here as
    LESA's.

    LESA's settings; the defaults are the paper's.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    attentions : int, default 10
        T, the number of shared attentions.
    hidden : int | None, default None
        Hidden width of the attentions; the default is the tokens' width.
    distribution : float, default 0.1
        Weight of the distribution loss.
    global_ : float, default 0.001
        Weight of the global loss.
    span : float, default 0.01
        Weight of the span loss.
    negatives : Literal["not-positive", "annotated"], default "annotated"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import LESA
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 4, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = LESA(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "lesa"
    _method_settings = ("attentions", "hidden", "distribution", "global_", "span", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        attentions: int = 10,
        hidden: int | None = None,
        distribution: float = 0.1,
        global_: float = 0.001,
        span: float = 0.01,
        negatives: Literal["not-positive", "annotated"] = "annotated",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.attentions = attentions
        self.hidden = hidden
        self.distribution = distribution
        self.global_ = global_
        self.span = span
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class BiAM(Estimator):
    """BiAM: a region branch, in which the tokens attend to each other, and a scene branch, which the global vector
    gates, are fused into token features; a label's score is the mean of its best matches among them.

    Source: "Discriminative Region-based Multi-Label Zero-Shot Learning", ICCV 2021, and its public code. ``h =
    BN(relu(conv3x3 R))``. Region: h plus 8-head attention, then plus an MLP of twice the width, without LayerNorm.
    Scene: ``v = lrelu(conv1x1 h)``, ``c = sigmoid(mean(v) * W_g g) * v``, ``c + BN(relu(conv3x3 c))``. Both side by
    side through a 1 x 1 convolution and a leaky ReLU are e; ``w_c = P v_c + b``; ``s_c`` = mean of the 6 largest
    ``e_i . w_c``. Ranking hinge.

    BiAM's settings; the defaults are the paper's.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    channels : int, default 256
        Channels of both branches.
    heads : int, default 8
        Heads of the region branch's attention; they divide the channels.
    best : int, default 6
        How many of a label's best matches count.
    dropout : float, default 0.1
        Share of values that a training step leaves out: this of both steps of the region branch, twice this of the
        global vector (the paper's .1 and .2).
    negatives : Literal["not-positive", "annotated"], default "annotated"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import BiAM
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 4, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = BiAM(label_vectors=vectors, channels=16).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "biam"
    _method_settings = ("channels", "heads", "best", "dropout", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        channels: int = 256,
        heads: int = 8,
        best: int = 6,
        dropout: float = 0.1,
        negatives: Literal["not-positive", "annotated"] = "annotated",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.channels = channels
        self.heads = heads
        self.best = best
        self.dropout = dropout
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class CLIPZeroShot(Estimator):
    """Zero-shot CLIP: its image vector against its text vectors, untrained. It needs the tokens and label vectors of
    ``super::clip``.

    Zero-shot CLIP: ``s_c = cos(g, v_c)``. Nothing is trained.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import CLIPZeroShot
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 8)), rng.normal(size=(2, 8))
    >>> model = CLIPZeroShot(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "clip-zero-shot"
    _method_settings = ()
    _training_settings = ()

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class CLIPProjection(Estimator):
    """CLIP with the image's projection tuned. It needs the tokens and label vectors of ``super::clip``.

    CLIP projection FT: the image vector passes through a map that starts as the identity and is tuned by a ranking
    loss; the text vectors and the tower itself stay frozen. ``s_c = scale cos(W g, v_c)``.  The paper tunes "the
    projection"; here a map behind it is tuned, which reaches the same products and needs no other tokens. Which
    loss and which scale it used is not said; these are settings.

    It scores any labels by their vectors: :meth:`~Estimator.score_labels`.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    scale : float, default 100.0
        What cosines are multiplied by; 100 is the scale that CLIP's own training ends with.
    alpha : Literal["positives-negatives", "positives"], default "positives-negatives"
        Weight of a pair in the ranking loss.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import CLIPProjection
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 8)), rng.normal(size=(2, 8))
    >>> model = CLIPProjection(label_vectors=vectors).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X, others).shape
    (6, 2)
    """

    _method = "clip-projection"
    _method_settings = ("scale", "alpha", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        scale: float = 100.0,
        alpha: Literal["positives-negatives", "positives"] = "positives-negatives",
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.scale = scale
        self.alpha = alpha
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class GenMLZSL(Estimator):
    """Gen-MLZSL: a network learns to draw global vectors of images from the vectors of their labels; drawn images of
    unseen labels then join the real ones, and linear classifiers are trained on both.

    Source: "Generative Multi-Label Zero-Shot Learning", TPAMI 2023, as it is outlined; no code was read. With x an
    image's global vector (each channel brought to 0..1 over the training images), A the vectors of its labels and a
    their mean: 1. Generator ``G(z, A)``: one of three fusions. Attribute-level: a network of ``[z, a]``.
    Feature-level: a network of ``[z, a_j]`` for every label j, its features averaged. Cross-level: both, enriched
    by attention over the two (8 heads, residual; then a network of two layers, residual) and averaged. A sigmoid
    ends all three. 2. VAE: an encoder reads ``[x, a]`` and gives mean and variance of z; loss: the cross-entropy
    between x and ``G(z, A)``, and the divergence of z from a standard normal. 3. WGAN-GP: a critic D reads ``[x,
    a]``; it takes several steps down ``D(G) - D(x) + penalty (|dD/dx| - 1)^2``, the gradient taken between a drawn
    and a real image, for each step of generator and encoder down ``VAE - adversarial D(G)``. 4. Label sets are
    drawn for every unseen label, and images for them. One linear map with binary cross-entropy over the unseen
    labels is trained on these (ZSL), another over all labels on these and the real ones (GZSL).

    Not confirmed, and settings here: widths, ``adversarial``, the length of the trainings and their rates, how many
    images are drawn. Not confirmed either, and our reading: that both levels of the fusion have networks of their
    own, that one z serves all labels of an image, that the sigmoid comes after the fusion, that x is brought to
    0..1 and rebuilt by cross-entropy, and that a drawn image has as many labels as some training image, all of them
    unseen.

    Gen-MLZSL's settings; fusion, heads, critic steps and penalty are the paper's, the other defaults are not
    confirmed.

    It scores the labels that it was trained with alone: those of ``label_vectors`` and of ``unseen_vectors``, which
    it needs. :meth:`~Estimator.score_labels` takes no vectors.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    fusion : Literal["attribute", "feature", "cross"], default "cross"
        The generator's fusion.
    hidden : int, default 4096
        Hidden width of generator, encoder and critic.
    noise : int | None, default None
        Width of the noise z; the default is the width of the label vectors.
    heads : int, default 8
        Heads of the cross-level attention; must divide the global vector's width.
    epochs : int, default 50
        Passes of the generator over the training images.
    batch : int, default 64
        Images of a step, of generator, critic and classifiers.
    learning_rate : float, default 0.0001
        Adam's learning rate for generator, encoder and critic.
    critic_steps : int, default 5
        Steps of the critic for one of the generator.
    penalty : float, default 10.0
        Weight of the gradient penalty.
    adversarial : float, default 10.0
        Weight of the critic's judgement beside the VAE's loss.
    samples : int, default 100
        Images drawn for every unseen label; each has other unseen labels too.
    most_labels : int, default 10
        The most labels that a drawn image has.
    classifier_epochs : int, default 30
        Passes of the classifiers over their images.
    classifier_learning_rate : float, default 0.001
        Adam's learning rate for the classifiers.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        What an absent label of a real image is to the classifier of all labels: ``not-positive`` counts every label
        that is not positive as absent, unseen ones too; ``annotated`` leaves all but those annotated as absent out
        of the loss.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import GenMLZSL
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors, others = rng.normal(size=(4, 5)), rng.normal(size=(2, 5))
    >>> model = GenMLZSL(label_vectors=vectors, unseen_vectors=others, hidden=8, epochs=1).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    >>> model.score_labels(X).shape
    (6, 2)
    """

    _method = "gen-mlzsl"
    _method_settings = ("fusion", "hidden", "noise", "heads", "epochs", "batch", "learning_rate", "critic_steps",
        "penalty", "adversarial", "samples", "most_labels", "classifier_epochs", "classifier_learning_rate",
        "negatives",)
    _training_settings = ()

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        fusion: Literal["attribute", "feature", "cross"] = "cross",
        hidden: int = 4096,
        noise: int | None = None,
        heads: int = 8,
        epochs: int = 50,
        batch: int = 64,
        learning_rate: float = 0.0001,
        critic_steps: int = 5,
        penalty: float = 10.0,
        adversarial: float = 10.0,
        samples: int = 100,
        most_labels: int = 10,
        classifier_epochs: int = 30,
        classifier_learning_rate: float = 0.001,
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.fusion = fusion
        self.hidden = hidden
        self.noise = noise
        self.heads = heads
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.critic_steps = critic_steps
        self.penalty = penalty
        self.adversarial = adversarial
        self.samples = samples
        self.most_labels = most_labels
        self.classifier_epochs = classifier_epochs
        self.classifier_learning_rate = classifier_learning_rate
        self.negatives = negatives
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class Logistic(Estimator):
    """A logistic classifier for each label, trained with binary cross-entropy; its L2 penalty is the optimiser's
    ``weight-decay``. It knows the labels it was trained on and no others.

    A logistic classifier for each label, trained with binary cross-entropy.

    It scores the labels that it was trained on alone: it is no zero-shot method.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter. The method has no use for them.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    input : Literal["global", "mean-token", "both"], default "global"
        Which vector of an image it classifies.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import Logistic
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> model = Logistic().fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    """

    _method = "logistic"
    _method_settings = ("input", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        input: Literal["global", "mean-token", "both"] = "global",
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.input = input
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class WARP(Estimator):
    """WARP: "Deep Convolutional Ranking for Multilabel Image Annotation", ICLR 2014: linear scores ``x W + b`` and the
    sampled ranking loss. It knows the labels it was trained on and no others.

    A linear classifier trained with the sampled ranking loss.

    It scores the labels that it was trained on alone: it is no zero-shot method.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter. The method has no use for them.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    input : Literal["global", "mean-token", "both"], default "global"
        Which vector of an image it classifies.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import WARP
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> model = WARP().fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    """

    _method = "warp"
    _method_settings = ("input", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        input: Literal["global", "mean-token", "both"] = "global",
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.input = input
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class WSABIE(Estimator):
    """WSABIE: "WSABIE: Scaling Up To Large Vocabulary Image Annotation", IJCAI 2011: ``s_c = (x U) . w_c``, trained
    with the sampled ranking loss; the rows of U and the w_c are no longer than a bound after every step. It knows
    the labels it was trained on and no others.

    WSABIE's settings.

    It scores the labels that it was trained on alone: it is no zero-shot method.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter. The method has no use for them.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    input : Literal["global", "mean-token", "both"], default "global"
        The vector of an image that is embedded.
    rank : int, default 100
        Width of the space in which images and labels meet; papers take 100 to 300.
    norm : float, default 1.0
        The greatest length of a row of U and of a label's vector.
    negatives : Literal["not-positive", "annotated"], default "not-positive"
        Which labels count as negatives.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import WSABIE
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> model = WSABIE().fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    """

    _method = "wsabie"
    _method_settings = ("input", "rank", "norm", "negatives",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        input: Literal["global", "mean-token", "both"] = "global",
        rank: int = 100,
        norm: float = 1.0,
        negatives: Literal["not-positive", "annotated"] = "not-positive",
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.input = input
        self.rank = rank
        self.norm = norm
        self.negatives = negatives
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class CNNRNN(Estimator):
    """CNN-RNN: a recurrent network names an image's labels one after the other, the most frequent first.

    Source: "CNN-RNN: A Unified Framework for Multi-label Image Classification", CVPR 2016. With ``u_k`` the
    embedding of label k and ``o(t)`` the output of an LSTM that has read the embeddings of the labels before t
    (nothing but zeros at the start): ``x_t = relu(o(t) U_o + g U_I)``, and the next label is k with probability
    ``softmax_k(u_k . x_t)``; one more symbol ends the list. Training: cross-entropy along an image's positive
    labels in order of their frequency and the end, the mean over these steps. Scoring: a beam of the most probable
    lists.

    The paper does not say how a label's score comes from lists: here it is the greatest probability of a list of
    the beam with the label as its last, over all steps. A label that no list ends with cannot occur: every list of
    the beam is tried with every label that it does not hold. Not confirmed, and settings: the widths, the beam and
    the longest list.

    CNN-RNN's settings.

    It scores the labels that it was trained on alone: it is no zero-shot method.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter. The method has no use for them.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    input : Literal["global", "mean-token", "both"], default "global"
        The vector of an image that it reads.
    embedding : int, default 64
        Width of the labels' embeddings.
    hidden : int, default 512
        Width of the LSTM.
    beam : int, default 4
        Lists that are followed at once when an image is scored.
    longest : int, default 8
        The most labels of a list, in training and when an image is scored.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import CNNRNN
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> model = CNNRNN(hidden=8).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    """

    _method = "cnn-rnn"
    _method_settings = ("input", "embedding", "hidden", "beam", "longest",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        input: Literal["global", "mean-token", "both"] = "global",
        embedding: int = 64,
        hidden: int = 512,
        beam: int = 4,
        longest: int = 8,
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.input = input
        self.embedding = embedding
        self.hidden = hidden
        self.beam = beam
        self.longest = longest
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol


class LearntLabels(Estimator):
    """A zero-shot method as a classifier: the labels' vectors, which start as those of their names, are learnt with
    everything else, so it knows the labels it was trained on and no others. This is how LESA and what came after it
    are compared on the 81 concepts of NUS-WIDE.

    What depends on the names' own vectors stays with them: the weights of images by the spread of their labels, and
    which cluster a label belongs to.

    A method whose label vectors are learnt.

    It scores the labels that it was trained on alone, whose vectors it starts from: it is no zero-shot method.

    Parameters
    ----------
    label_vectors : ArrayLike | None, default None
        Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not
        matter.
    unseen_vectors : ArrayLike | None, default None
        Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without
        vectors.
    of : Estimator | Mapping[str, Any] | str | None, default None
        The method, with its settings: one that is trained step by step and scores labels by their vectors.
    epochs : int, default 7
        Passes over the training images. The last one is the model, unless ``patience`` is set.
    batch : int, default 96
        Images a step.
    learning_rate : float, default 1e-05
        The learning rate before the schedule.
    schedule : str | Mapping[str, Any] | None, default None
        How the learning rate changes. None is ``{"epochs": [4], "factor": 0.5, "kind": "step"}``; a kind alone is
        one with its own defaults.
    warm_up : float, default 0.0
        Epochs over which the learning rate rises from 0.
    optimiser : str | Mapping[str, Any] | None, default None
        The optimiser and its constants. None is ``{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "kind": "adam",
        "weight-decay": 0.004}``; a kind alone is one with its own defaults.
    clip : float | None, default None
        Greatest length of a step's gradient.
    precision : Literal["f32", "bf16"], default "f32"
        What the method's large products are computed in; scores are always computed in f32.
    validation : float, default 0.0
        Share of the training images that is kept for validation.
    patience : int | None, default None
        Early stopping: training ends after so many epochs without a better mAP on the validation images, and the
        epoch that was best is the model. Left out, the last epoch is.
    average : float | None, default None
        A running average of the weights over the steps, ``average * before + (1 - average) * now``, is validated
        and becomes the model; in the first steps it forgets faster. Left out, the weights of the last step are the
        model.
    label_dropout : float, default 0.0
        Share of the labels that a step leaves out of its loss; the papers have none.
    label_noise : float, default 0.0
        Length, about, of the random vector that a step adds to each label's unit vector, which is then brought back
        to unit length; the papers have none.
    image_ranking : float, default 0.0
        Weight of a loss that ranks the images of a label beside that of the labels of an image; the papers have
        none.
    seed : int, default 1
        Seed of all that is drawn: first weights, the order of images, dropout.
    pooling : Literal["mean", "first"], default "mean"
        What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token,
        such as a class token, which is then none of the tokens.
    zeros : Literal["auto", "negative", "unknown"], default "auto"
        What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else
        not there.
    top_k : int, default 3
        How many labels of an image :meth:`~Estimator.predict` gives.
    protocol : str, default "epsilon"
        The rules of mAP, for :meth:`~Estimator.score` and for validation images.

    Examples
    --------
    >>> import numpy as np
    >>> from epsilon_zsl.estimators import LearntLabels, LabelEM
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(6, 8)), rng.integers(0, 2, size=(6, 4))
    >>> vectors = rng.normal(size=(4, 5))
    >>> model = LearntLabels(label_vectors=vectors, of=LabelEM()).fit(X, y)
    >>> model.decision_function(X).shape
    (6, 4)
    """

    _method = "learnt-labels"
    _method_settings = ("of",)
    _training_settings = ("epochs", "batch", "learning_rate", "schedule", "warm_up", "optimiser", "clip",
        "precision", "validation", "patience", "average", "label_dropout", "label_noise", "image_ranking",)

    def __init__(
        self,
        *,
        label_vectors: npt.ArrayLike | None = None,
        unseen_vectors: npt.ArrayLike | None = None,
        of: Estimator | Mapping[str, Any] | str | None = None,
        epochs: int = 7,
        batch: int = 96,
        learning_rate: float = 1e-05,
        schedule: str | Mapping[str, Any] | None = None,
        warm_up: float = 0.0,
        optimiser: str | Mapping[str, Any] | None = None,
        clip: float | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        validation: float = 0.0,
        patience: int | None = None,
        average: float | None = None,
        label_dropout: float = 0.0,
        label_noise: float = 0.0,
        image_ranking: float = 0.0,
        seed: int = 1,
        pooling: Literal["mean", "first"] = "mean",
        zeros: Literal["auto", "negative", "unknown"] = "auto",
        top_k: int = 3,
        protocol: str = "epsilon",
    ) -> None:
        self.label_vectors = label_vectors
        self.unseen_vectors = unseen_vectors
        self.of = of
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warm_up = warm_up
        self.optimiser = optimiser
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.patience = patience
        self.average = average
        self.label_dropout = label_dropout
        self.label_noise = label_noise
        self.image_ranking = image_ranking
        self.seed = seed
        self.pooling = pooling
        self.zeros = zeros
        self.top_k = top_k
        self.protocol = protocol
