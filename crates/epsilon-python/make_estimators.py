"""Writes `python/epsilon_zsl/estimators.py`: a class for every method that is trained, from the library's table of methods.

Names and defaults are those that the installed native library has, what they mean are the comments in its sources:

    python crates/epsilon-python/make_estimators.py

`tests/test_estimators.py` says when the file is out of date.
"""

import json
import keyword
import re
import textwrap
from pathlib import Path

from epsilon_zsl import _native
from epsilon_zsl._estimator import Estimator

HERE = Path(__file__).parent
SOURCES = HERE.parent / "epsilon" / "src"
WRITTEN = HERE / "python" / "epsilon_zsl" / "estimators.py"
WIDTH = 116

#: The methods' names in the field, where they are not those of the table.
NAMES = {
    "Biam": "BiAM",
    "ClipProjection": "CLIPProjection",
    "ClipZeroShot": "CLIPZeroShot",
    "CnnRnn": "CNNRNN",
    "Conse": "CONSE",
    "GenMlzsl": "GenMLZSL",
    "LabelEm": "LabelEM",
    "Lesa": "LESA",
    "LesaPerCluster": "LESAPerCluster",
    "Ml2pEncoder": "ML2PEncoder",
    "Sdl": "SDL",
    "Warp": "WARP",
    "Wsabie": "WSABIE",
}
#: Sizes that make an example fast, and what else it needs.
EXAMPLES = {
    "biam": "channels=16",
    "cnn-rnn": "hidden=8",
    "epsilon": "groups=2, epochs=2",
    "fast0tag": "hidden=[16]",
    "gen-mlzsl": "unseen_vectors=others, hidden=8, epochs=1",
    "learnt-labels": "of=LabelEM()",
    "lesa-per-cluster": "clusters=2",
}
#: Methods that read tokens.
OF_TOKENS = ("biam", "bilinear-attention", "epsilon", "lesa", "lesa-per-cluster", "ml2p-encoder")
#: Methods that know but the labels of their training.
CLOSED = ("cnn-rnn", "gen-mlzsl", "learnt-labels", "logistic", "warp", "wsabie")
#: Of these those that have no use for label vectors.
WITHOUT_VECTORS = ("cnn-rnn", "logistic", "warp", "wsabie")
#: Methods whose labels lie in the space of the images.
ONE_SPACE = ("clip-projection", "clip-zero-shot")

COMMON = [
    ("seed", "int", "1", "Seed of all that is drawn: first weights, the order of images, dropout."),
    ("pooling", 'Literal["mean", "first"]', '"mean"', "What stands for an image as a whole where X is ``(n, N, D)``: the mean of its tokens, or its first token, such as a class token, which is then none of the tokens."),
    ("zeros", 'Literal["auto", "negative", "unknown"]', '"auto"', "What a 0 in y is: a label that is not there, or an unknown one; ``auto`` is unknown where y has a -1, else not there."),
    ("top_k", "int", "3", "How many labels of an image :meth:`~Estimator.predict` gives."),
    ("protocol", "str", '"epsilon"', "The rules of mAP, for :meth:`~Estimator.score` and for validation images."),
]
VECTORS = [
    ("label_vectors", "npt.ArrayLike | None", "None", "Vectors ``(L, V)`` of the labels that are trained on, in the order of the columns of y; their lengths do not matter."),
    ("unseen_vectors", "npt.ArrayLike | None", "None", "Vectors ``(U, V)`` of labels that no image is trained on, for :meth:`~Estimator.score_labels` without vectors."),
]


def sources():
    """The text of every source file of the library that may hold settings."""
    folders = ["methods", "training", "loss"]
    files = [path for folder in folders for path in sorted((SOURCES / folder).rglob("*.rs"))]
    return {path: path.read_text() for path in [*files, SOURCES / "batch.rs", SOURCES / "optimiser.rs"]}


TEXTS = sources()


def docs(lines):
    """The text of doc comments, in reStructuredText."""
    text = " ".join(line.split("//", 1)[1].lstrip("/!").strip() for line in lines)
    text = re.sub(r"\[`([^`]*)`\](\([^)]*\))?", r"`\1`", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = text.replace("\\", "\\\\")
    return re.sub(r"`([^`]+)`", r"``\1``", text)


def head(path):
    """What the head of a file says, up to its first empty line, and the lines behind it."""
    lines = [line for line in TEXTS[path].splitlines() if line.startswith("//!")]
    paragraphs, current = [], []
    for line in [*lines, "//!"]:
        if line.strip() == "//!":
            if current:
                paragraphs.append(current)
            current = []
        else:
            current.append(line)
    return [docs(paragraph) for paragraph in paragraphs]


def item(kind, name):
    """The file of a struct or enum, its doc comment and the lines of its body."""
    for path, text in TEXTS.items():
        found = re.search(rf"^pub {kind} {name}\b[^{{;(]*(\{{|\()", text, re.M)
        if not found:
            continue
        before = text[: found.start()].splitlines()
        comment = []
        while before and before[-1].lstrip().startswith(("///", "#[")):
            line = before.pop()
            if line.lstrip().startswith("///"):
                comment.insert(0, line)
        if found.group(1) == "(":
            return path, comment, text[found.end() :].split(")", 1)[0]
        body = text[found.end() :].split("\n}", 1)[0]
        return path, comment, body.splitlines()
    return None


def fields(name):
    """The fields of a struct: name, type, text."""
    path, _, body = item("struct", name)
    if isinstance(body, str):
        return fields(body.replace("pub", "").strip())
    found, comment = {}, []
    for line in body:
        line = line.strip()
        if line.startswith("///"):
            comment.append(line)
        elif field := re.match(r"pub (\w+): (.*),$", line):
            found[field.group(1).replace("_", "-")] = (field.group(2), docs(comment))
            comment = []
    return found


def python_type(rust):
    """The type of a parameter."""
    if rust in ("f32", "f64"):
        return "float"
    if rust in ("u64", "usize"):
        return "int"
    if rust == "bool":
        return "bool"
    if inner := re.fullmatch(r"Option<(.*)>", rust):
        return f"{python_type(inner.group(1))} | None"
    if inner := re.fullmatch(r"Vec<(.*)>", rust):
        return f"Sequence[{python_type(inner.group(1))}]"
    if rust in ("Box<Kind>",):
        return "Estimator | Mapping[str, Any] | str | None"
    found = item("enum", rust)
    if found:
        names = [re.fullmatch(r"(\w+),", line.strip()) for line in found[2]]
        variants = [name.group(1) for name in names if name]
        others = [line for line in found[2] if re.match(r"    \w+[ ({]", line)]
        if variants and not others:
            kebab = (re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() for name in variants)
            return f"Literal[{', '.join(json.dumps(name) for name in kebab)}]"
        return "str | Mapping[str, Any]"
    return "Mapping[str, Any]"


def python_name(setting):
    """The name of a parameter: none of Python's own words, and no method's."""
    name = setting.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) or hasattr(Estimator, name) else name


def python_value(value):
    """A default as Python source. A mapping that a caller could change is no default: `None` stands for it."""
    if isinstance(value, dict):
        return "None"
    if isinstance(value, list):
        inner = ", ".join(map(repr, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def wrapped(text, indent):
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def parameters(method, struct):
    """The settings among the parameters of a class: name, type, default, text, and whether it is one of the training's."""
    of_method, of_training = fields(struct), fields("TrainingSettings")
    all_of_it = []
    for setting, is_training, default in _native.estimator_settings(method):
        rust, text = (of_training if is_training else of_method)[setting]
        value = None if default is None else json.loads(default)
        kind = python_type(rust)
        if isinstance(value, dict):
            kind = f"{kind} | None"
            text = f"{text} None is ``{json.dumps(value)}``; a kind alone is one with its own defaults."
        all_of_it.append((python_name(setting), kind, python_value(value), text, is_training))
    return all_of_it


def example(method, name):
    """A program that runs."""
    tokens = "6, 4, 8" if method in OF_TOKENS else "6, 8"
    width = 8 if method in ONE_SPACE else 5
    given = [] if method in WITHOUT_VECTORS else ["label_vectors=vectors"]
    given += [EXAMPLES[method]] if method in EXAMPLES else []
    lines = [
        "import numpy as np",
        f"from epsilon_zsl.estimators import {name}{', LabelEM' if method == 'learnt-labels' else ''}",
        "rng = np.random.default_rng(0)",
        f"X, y = rng.normal(size=({tokens})), rng.integers(0, 2, size=(6, 4))",
    ]
    if given and method != "learnt-labels" or method in OF_TOKENS:
        if method not in WITHOUT_VECTORS:
            lines.append(f"vectors, others = rng.normal(size=(4, {width})), rng.normal(size=(2, {width}))")
    if method == "learnt-labels":
        lines.append("vectors = rng.normal(size=(4, 5))")
    lines.append(f"model = {name}({', '.join(given)}).fit(X, y)")
    said = [f">>> {line}" for line in lines]
    said += [">>> model.decision_function(X).shape", "(6, 4)"]
    if method == "gen-mlzsl":
        said += [">>> model.score_labels(X).shape", "(6, 2)"]
    elif method not in CLOSED:
        said += [">>> model.score_labels(X, others).shape", "(6, 2)"]
    return said


def knows(method):
    """What labels a method scores."""
    if method == "gen-mlzsl":
        return (
            "It scores the labels that it was trained with alone: those of ``label_vectors`` and of ``unseen_vectors``, which it "
            "needs. :meth:`~Estimator.score_labels` takes no vectors."
        )
    if method in CLOSED:
        more = "" if method in WITHOUT_VECTORS else ", whose vectors it starts from"
        return f"It scores the labels that it was trained on alone{more}: it is no zero-shot method."
    return "It scores any labels by their vectors: :meth:`~Estimator.score_labels`."


def one_class(method, struct):
    """The source of a class."""
    name = NAMES.get(struct, struct)
    path, comment, _ = item("struct", struct)
    first, *more = head(path)
    of_struct = docs(comment)
    settings = parameters(method, struct)
    shown = [*VECTORS, *settings, *COMMON]
    text = [wrapped(first, "    ").lstrip(), ""]
    for paragraph in more:
        text += [wrapped(paragraph, "    "), ""]
    text += [wrapped(of_struct, "    "), "", wrapped(knows(method), "    "), "", "    Parameters", "    ----------"]
    for parameter, kind, default, meaning, *_ in shown:
        if parameter == "label_vectors" and method in WITHOUT_VECTORS:
            meaning = f"{meaning} The method has no use for them."
        text += [f"    {parameter} : {kind.replace('npt.', '')}, default {default}", wrapped(meaning, "        ")]
    text += ["", "    Examples", "    --------", *(f"    {line}" for line in example(method, name))]

    lines = [f"class {name}(Estimator):", f'    """{text[0]}', *text[1:], '    """', ""]
    lines += [f'    _method = "{method}"']
    for attribute, training in (("_method_settings", False), ("_training_settings", True)):
        names = [f'"{p[0]}",' for p in settings if p[4] is training]
        lines += [wrapped(f"{attribute} = ({' '.join(names)})", "    ").replace("\n    ", "\n        ")]
    lines += ["", "    def __init__(", "        self,", "        *,"]
    lines += [f"        {parameter}: {kind} = {default}," for parameter, kind, default, *_ in shown]
    lines += ["    ) -> None:"]
    lines += [f"        self.{parameter} = {parameter}" for parameter, *_ in shown]
    return name, "\n".join(lines)


HEAD = '''"""Methods of multi-label zero-shot learning as estimators, in the way of scikit-learn, which is not needed.

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
'''


def module():
    """The source of the module."""
    table = (SOURCES / "methods" / "mod.rs").read_text()
    rows = re.findall(r'^    "([\w-]+)" => \w+::(\w+), \w+;', table, re.M)
    trained = _native.estimator_names()
    classes = [one_class(method, struct) for method, struct in rows if method in trained]
    assert len(classes) == len(trained), (rows, trained)
    names = sorted([name for name, _ in classes] + ["Estimator", "StoredFeatures"])
    listed = "\n".join(f'    "{name}",' for name in names)
    return "\n\n".join([f"{HEAD}\n__all__ = [\n{listed}\n]\n", *(f"{text}\n" for _, text in classes)])


if __name__ == "__main__":
    WRITTEN.write_text(module())
    print(WRITTEN)
