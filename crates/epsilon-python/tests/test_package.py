"""The package as a whole: types, documentation, and what an import costs."""

import doctest
import importlib
import pkgutil
import shutil
import subprocess
import sys

import pytest

import epsilon_zsl


def run(*arguments, **more):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_types_are_strict(tmp_path):
    program = """
import numpy as np
from PIL import Image

from epsilon_zsl import EpsilonError, Library, Predictor, Recipe, TokenStore, extract, tag


def show(done: int, total: int | None, what: str) -> None: ...


predictor = Predictor.load("model.safetensors", device="cpu")
labels = predictor.labels(["sea", "red flower"])
ranking = predictor.rank("photo.jpg", labels, top=3)
names: list[str] = [label.name for label in predictor.keep(ranking, top=2)]
for found in predictor.rank_all([b"", np.zeros((9, 9, 3), np.uint8), Image.new("RGB", (9, 9))], labels, progress=show):
    if isinstance(found, EpsilonError):
        raise found
scores = predictor.scores(np.zeros((2, 9, 9, 3), np.uint8), ["sea"])
mean: np.float32 = scores.mean()
store = TokenStore("tokens")
tokens, globals = store[0]
made = extract("photos", "backbone.safetensors", "tokens", progress=True)
report = tag("photos", predictor, top=3)
print(report.tagged, Library("photos").search("sea", since="2024"), Recipe.read("recipe.toml").run()[1].zsl.map)
"""
    (tmp_path / "program.py").write_text(program)
    run("-m", "mypy", "--strict", "program.py", cwd=tmp_path)
    (tmp_path / "wrong.py").write_text("import epsilon_zsl\nepsilon_zsl.Predictor.load(3)\n")
    with pytest.raises(AssertionError, match="arg-type"):
        run("-m", "mypy", "--strict", "wrong.py", cwd=tmp_path)


def modules():
    yield epsilon_zsl
    for found in pkgutil.iter_modules(epsilon_zsl.__path__, "epsilon_zsl."):
        yield importlib.import_module(found.name)


@pytest.fixture
def examples(drawn, tmp_path, monkeypatch):
    """The folder that the examples are written for."""
    for name in ["data", "photos", "tokens"]:
        shutil.copytree(drawn / name, tmp_path / name)
    for name in ["model.safetensors", "calibrated.safetensors", "backbone.safetensors", "ridge.toml", "photo.png"]:
        shutil.copy(drawn / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_run(examples):
    tried = 0
    for module in modules():
        finder = doctest.DocTestFinder(exclude_empty=True)
        natives = [of for of in vars(module).values() if getattr(of, "__module__", "").startswith("epsilon_zsl")]
        names = {**vars(epsilon_zsl), **vars(module)}
        tests = finder.find(module, globs=names)
        # The finder passes over what a native module holds.
        for native in natives:
            parser = doctest.DocTestParser()
            if native.__doc__:
                tests.append(parser.get_doctest(native.__doc__, names, native.__name__, None, 0))
        for test in tests:
            failed, attempted = doctest.DocTestRunner().run(test)
            assert failed == 0, test.name
            tried += attempted
    assert tried > 20


def test_everything_public_is_documented():
    for name in epsilon_zsl.__all__:
        of = getattr(epsilon_zsl, name)
        if name == "__version__":
            continue
        assert of.__doc__, name
        for member, value in vars(of).items() if isinstance(of, type) else []:
            if not member.startswith("_"):
                assert value.__doc__, f"{name}.{member}"


def test_only_what_is_public_is_listed():
    assert dir(epsilon_zsl) == sorted(epsilon_zsl.__all__)
    assert {"metrics", "estimators"} <= set(dir(epsilon_zsl))


def test_an_import_is_quick():
    program = "import time; begun = time.perf_counter(); import epsilon_zsl; print(time.perf_counter() - begun)"
    took = [float(run("-c", program).stdout) for _ in range(5)]
    assert min(took) < 0.1, took
    loaded = run("-c", "import sys, epsilon_zsl; print(*sys.modules)").stdout.split()
    assert not {"numpy", "PIL", "torch", "sklearn", "tqdm", "logging"} & set(loaded)


def test_every_error_has_the_packages_base():
    errors = vars(epsilon_zsl.errors).values()
    for error in errors:
        if isinstance(error, type):
            assert issubclass(error, epsilon_zsl.EpsilonError) and error.__doc__
