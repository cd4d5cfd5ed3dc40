"""What the tests share: the command, and a drawn data set with a trained model."""

import subprocess
import sys
from pathlib import Path

import pytest

EPSILON = Path(sys.executable).with_name("epsilon")


@pytest.fixture(scope="session")
def epsilon():
    """Runs the `epsilon` command and gives what it did; fails where it fails, unless `check=False`."""

    def run(*arguments, check=True, **more):
        command = [str(EPSILON), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def drawn(epsilon, tmp_path_factory):
    """The folder of a quickstart: drawn pictures in `data`, and a model that was trained on them."""
    folder = tmp_path_factory.mktemp("drawn") / "quickstart"
    epsilon("quickstart", "--out", folder)
    return folder


@pytest.fixture(scope="session")
def model(drawn):
    """The trained model."""
    (path,) = drawn.glob("epsilon/seed-1/model.safetensors")
    return path


@pytest.fixture(scope="session")
def photos(drawn):
    """Drawn pictures that no model was trained on."""
    return sorted((drawn / "data" / "test").glob("*.png"))
