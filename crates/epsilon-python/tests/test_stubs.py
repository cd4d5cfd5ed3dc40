"""The type stubs: complete, right, and enough for strict checking."""

import subprocess
import sys


def run(*arguments):
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stubs_are_those_of_the_library():
    run("mypy.stubtest", "epsilon_zsl")


def test_the_package_is_typed(tmp_path):
    run("mypy", "--strict", "--cache-dir", tmp_path, "-p", "epsilon_zsl")
