"""The `epsilon` command of the wheel."""

import signal
import subprocess
import time

import epsilon_zsl
from conftest import EPSILON


def test_the_command_is_the_program(epsilon):
    assert epsilon("--version").stdout == f"epsilon {epsilon_zsl.__version__}\n"
    wrong = epsilon("predict", "--no-such-option", check=False)
    assert wrong.returncode == 2
    assert "--no-such-option" in wrong.stderr


def test_an_error_names_the_file(epsilon, tmp_path):
    failed = epsilon("predict", "--model", "none.safetensors", "photo.jpg", check=False, cwd=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.startswith("epsilon: none.safetensors: ")


def test_the_command_ends_at_ctrl_c(tmp_path):
    command = [str(EPSILON), "quickstart", "--out", str(tmp_path / "quickstart")]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    asked = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=10) == -signal.SIGINT
    assert time.monotonic() - asked < 1
