"""Ctrl-C ends long work within a second, and the same call goes on from there."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

PROGRAM = """
import sys, time
import epsilon_zsl

def begun(done, total, what):
    if what == {what!r} and done >= {after}:
        print("begun", flush=True)

try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
print("ended", flush=True)
"""

# Everything that is long, and how far it is before it is interrupted.
CALLS = {
    "extract": ("extract", 200, "epsilon_zsl.extract(folder + '/data/train', folder + '/backbone.safetensors', out, progress=begun)"),
    "memory": ("extract", 200, "epsilon_zsl.extract(folder + '/data/train', folder + '/backbone.safetensors', progress=begun)"),
    "rank": ("rank", 100, "predictor.rank_all(photos, progress=begun)"),
    "tag": ("tag", 100, "epsilon_zsl.tag(folder + '/data/train', predictor, top=3, library=out, progress=begun)"),
    "run": ("train", 10, "recipe.run(out, resume=True, progress=begun)"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c(name, pictures, drawn, tmp_path):
    what, after, call = CALLS[name]
    out, train = str(tmp_path / "out"), pictures / "data/train"
    before = f"folder, out = {str(pictures)!r}, {out!r}\n"
    if "predictor" in call:
        before += f"import epsilon_zsl, glob\npredictor = epsilon_zsl.Predictor.load({str(drawn / 'model.safetensors')!r})\n"
        before += f"photos = sorted(glob.glob({str(train)!r} + '/*.png')) * 20\n"
    if "recipe" in call:
        text = (pictures / "recipe.toml").read_text().replace("epochs = 24", "epochs = 300")
        (pictures / "long.toml").write_text(text + "bootstrap = 0\n")
        before += f"import epsilon_zsl\nrecipe = epsilon_zsl.Recipe.read({str(pictures / 'long.toml')!r})\n"
    program = before + PROGRAM.format(what=what, after=after, call=call)
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "begun\n"
    asked = time.monotonic()
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    took = time.monotonic() - asked
    assert running.returncode == 7 and output.endswith("interrupted\n"), output
    assert took < 1, took
    if name == "extract":
        import epsilon_zsl

        made = epsilon_zsl.extract(pictures / "data/train", pictures / "backbone.safetensors", out)
        assert 0 < made.resumed < 3000 == len(made) and made.store.verify() is None
    if name == "tag":
        lines = (tmp_path / "out/tags.jsonl").read_text().splitlines()
        assert 100 <= len(lines) < 3000
    if name == "run":
        assert (tmp_path / "out/seed-1/checkpoints").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
def test_another_handler_than_pythons_is_heard(predictor, drawn):
    class Asked(Exception):
        pass

    def handler(*_):
        raise Asked

    before = signal.signal(signal.SIGTERM, handler)
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    try:
        with pytest.raises(Asked):
            predictor.rank_all([drawn / "photo.png"] * 100_000)
    finally:
        signal.signal(signal.SIGTERM, before)
