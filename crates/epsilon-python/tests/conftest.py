"""What the tests share: the command, and a drawn data set with a trained model."""

import os
import shutil
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
