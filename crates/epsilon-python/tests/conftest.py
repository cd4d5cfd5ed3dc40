"""What the tests share: the command, and a drawn data set with trained models."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EPSILON = Path(sys.executable).with_name("epsilon")


def run_epsilon(*arguments, check=True, **more):
    command = [str(EPSILON), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done


@pytest.fixture(scope="session")
def epsilon():
    """Runs the `epsilon` command and gives what it did; fails where it fails, unless `check=False`."""
    return run_epsilon


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder with thousands of drawn pictures in data, backbone.safetensors and trained models, of `epsilon quickstart`."""
    folder = tmp_path_factory.mktemp("pictures")
    run_epsilon("quickstart", "--out", folder)
    return folder


@pytest.fixture(scope="session")
def drawn(pictures, tmp_path_factory):
    """A folder with few drawn pictures and all that is made of them.

    data, backbone.safetensors, recipe.toml, ridge.toml, tokens (a store), epsilon (the run of recipe.toml), model.safetensors (its
    model), calibrated.safetensors, ridge.safetensors, photos (a folder of 12 pictures), photo.png.
    """
    folder = tmp_path_factory.mktemp("drawn")
    data = folder / "data"
    data.mkdir()
    for name in ["seen.txt", "unseen.txt", "vectors.txt"]:
        shutil.copy(pictures / "data" / name, data)
    shutil.copy(pictures / "backbone.safetensors", folder)
    lines = (pictures / "data/labels.tsv").read_text().splitlines()
    few = [line for line in lines if "\ttrain\t" in line][:240] + [line for line in lines if "\ttest\t" in line][:60]
    for split in ["train", "test"]:
        (data / split).mkdir()
    for line in few:
        picture = line.split("\t")[0]
        shutil.copy(pictures / "data" / picture, data / picture)
    (data / "labels.tsv").write_text("\n".join(few) + "\n")
    recipe = (pictures / "recipe.toml").read_text().replace("epochs = 24", "epochs = 4") + "bootstrap = 0\n"
    (folder / "recipe.toml").write_text(recipe)
    before, rest = recipe.split("[method]")
    ridge = f'{before}[method]\nkind = "ridge"\n[evaluation]{rest.split("[evaluation]")[1]}'
    (folder / "ridge.toml").write_text(ridge)
    run_epsilon("train", "recipe.toml", "--out", "epsilon", cwd=folder)
    shutil.copytree(folder / "epsilon/tokens", folder / "tokens")
    shutil.copy(folder / "epsilon/seed-1/model.safetensors", folder / "model.safetensors")
    shutil.copy(folder / "model.safetensors", folder / "calibrated.safetensors")
    run_epsilon("calibrate", "calibrated.safetensors", "--store", "tokens", cwd=folder)
    run_epsilon("train", "ridge.toml", "--out", "ridge", cwd=folder)
    shutil.copy(folder / "ridge/seed-1/model.safetensors", folder / "ridge.safetensors")
    (folder / "photos/2024").mkdir(parents=True)
    for at in range(12):
        shutil.copy(data / f"test/{at:06}.png", folder / ("photos/2024" if at < 4 else "photos") / f"{at}.png")
    shutil.copy(data / "test/000000.png", folder / "photo.png")
    return folder


@pytest.fixture(scope="session")
def model(drawn):
    """The trained model."""
    return drawn / "model.safetensors"


@pytest.fixture(scope="session")
def photos(drawn):
    """Drawn pictures that no model was trained on."""
    return sorted((drawn / "data/test").glob("*.png"))


@pytest.fixture(scope="session")
def predictor(drawn):
    """The predictor of model.safetensors."""
    import epsilon_zsl

    return epsilon_zsl.Predictor.load(drawn / "model.safetensors")
