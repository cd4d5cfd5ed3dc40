"""`Recipe`: experiments from Python."""

import json

import pytest

from epsilon_zsl import Recipe, Record
from epsilon_zsl.errors import RecipeError, StoreError


def test_a_recipe_is_run_to_the_commands_figures(epsilon, drawn, tmp_path):
    recipe = Recipe.read(drawn / "ridge.toml")
    told = []
    figures = recipe.run(tmp_path / "run", progress=lambda *far: told.append(far))
    assert list(figures) == [1] and list(recipe.run(tmp_path / "run", seeds=[2, 3])) == [2, 3]
    for seed, of in figures.items():
        assert of == json.loads((tmp_path / f"run/seed-{seed}/figures.json").read_text())
        assert of.zsl.map == of["zsl"]["map"] and 0 <= of.gzsl.map <= 1
    assert told[0][2] == "extract" and told[-1][2] == "measure"
    epsilon("train", drawn / "ridge.toml", "--out", tmp_path / "command")
    assert json.loads((tmp_path / "command/seed-1/figures.json").read_text()) == figures[1]
    model = (tmp_path / "run/seed-1/model.safetensors").read_bytes()
    assert model == (tmp_path / "command/seed-1/model.safetensors").read_bytes()


def test_a_recipe_in_and_out(drawn, tmp_path, monkeypatch):
    read = Recipe.read(drawn / "ridge.toml")
    assert (read.method, read.seeds) == ("ridge", [1]) and "ridge.toml" in repr(read)
    parsed = Recipe.parse(read.to_toml())
    assert parsed.to_dict() == read.to_dict() == Recipe.from_dict(read.to_dict()).to_dict()
    assert isinstance(read.to_dict(), Record) and read.to_dict().method.kind == "ridge"
    changed = Recipe.from_dict({**read.to_dict(), "seeds": [7], "anchor": None})
    assert changed.seeds == [7] and list(changed.run(tmp_path / "run")) == [7]
    with pytest.raises(ValueError, match="name the folder"):
        changed.run()
    monkeypatch.chdir(tmp_path)
    read.run()
    assert (tmp_path / "runs/ridge/seed-1/model.safetensors").exists()


def test_label_folds_are_run(drawn, tmp_path):
    settings = Recipe.read(drawn / "ridge.toml").to_dict()
    settings["evaluation"]["label-folds"] = 4
    figures = Recipe.from_dict(settings).run(tmp_path)
    assert 0 <= figures[1].zsl.map <= 1 and (tmp_path / "fold-4").is_dir()


def test_wrong_recipes(drawn, tmp_path):
    text = (drawn / "ridge.toml").read_text()
    with pytest.raises(RecipeError, match="did you mean `vectors`"):
        Recipe.parse(text.replace("vectors =", "vektors ="))
    with pytest.raises(RecipeError, match="none.toml"):
        Recipe.read(tmp_path / "none.toml")
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(RecipeError, match="data.table"):
        Recipe.read(tmp_path / "recipe.toml")
    with pytest.raises(TypeError):
        Recipe.from_dict({"data": object()})
    settings = Recipe.read(drawn / "ridge.toml").to_dict()
    settings["features"]["store"] = str(tmp_path)
    with pytest.raises(StoreError, match="no token store"):
        Recipe.from_dict(settings).run(tmp_path / "run")
