"""`tag`, `Library` and `learn`."""

import json
import os
import shutil

import pytest

from epsilon_zsl import Library, Predictor, learn, tag
from epsilon_zsl.errors import EpsilonError, LabelError, LearnError, LibraryError, ModelError, SearchIndexError, TagError


@pytest.fixture
def photos(drawn, tmp_path):
    shutil.copytree(drawn / "photos", tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def library(photos, predictor):
    tag(photos, predictor, top=3)
    return Library(photos)


def test_a_folder_is_tagged(photos, predictor, epsilon):
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff words")
    told = []
    report = tag(photos, predictor, ["shape|plain star", "striped circle"], top=1, xmp="full", progress=lambda *far: told.append(far))
    assert (report.tagged, report.unchanged, report.failed) == (12, 0, 1)
    assert "bad.jpg" in report.failures[0] and told[-1] == (13, 13, "tag")
    again = tag(photos, predictor, ["shape|plain star", "striped circle"], top=1, xmp="full")
    assert (again.tagged, again.unchanged) == (0, 12)
    lines = [json.loads(line) for line in (photos / ".epsilon/tags.jsonl").read_text().splitlines()]
    assert {line["photo"] for line in lines} >= {"2024/0.png", "11.png"}
    assert (photos / "2024/0.png.xmp").exists()
    # The command finds the same library, and has nothing to do.
    done = epsilon("tag", photos, "--model", "../model.safetensors", check=False, cwd=photos)
    assert done.returncode == 2


def test_tagging_says_what_is_wrong(photos, predictor, tmp_path):
    with pytest.raises(ModelError, match="no thresholds"):
        tag(photos, predictor)
    with pytest.raises(LibraryError, match="name a model"):
        tag(photos)
    with pytest.raises(TagError, match="beside a |"):
        tag(photos, predictor, ["a||b"], top=1)
    with pytest.raises(LabelError, match="zebra"):
        tag(photos, predictor, ["zebra"], top=1)
    with pytest.raises(TagError, match="none"):
        tag(tmp_path / "none", predictor, top=1)
    with pytest.raises(TypeError, match="a Predictor, or the file"):
        tag(photos, 3)
    with pytest.raises(ValueError, match="full"):
        tag(photos, predictor, top=1, xmp="half")


def test_a_library_is_searched_as_the_command_does(library, photos, predictor, epsilon):
    def said(*arguments):
        return json.loads(epsilon("search", photos, "--json", *arguments).stdout)

    assert (library.photos, len(library)) == (photos, 12)
    assert "12 photographs" in repr(library)
    for found in [library.search("striped circle", 5), library.search("striped circle", 5, predictor=predictor)]:
        assert found == said("striped circle", "--top", 5)
        assert found[0].score >= found[-1].score and found[0].labels[0].state == "automatic"
    assert library.like(photos / "5.png", 4) == said("--like", photos / "5.png", "--top", 4)
    assert library.like("5.png", folder="2024") == said("--like", "5.png", "--folder", "2024")
    assert library.items(sort="date") == said("--sort", "date")
    assert len(library.items()) == 12
    label = library.items()[0].labels[0].name
    assert library.items(label=label) == said("--label", label)
    assert library.items(since="2020", until="2100", unreviewed=True) == said("--since", "2020", "--until", "2100", "--unreviewed")
    assert library.items(broken=True) == []


def test_a_search_says_what_is_wrong(library, photos, drawn, tmp_path):
    for wrong, error, part in [
        ({"since": "tomorrow"}, LibraryError, "since: "),
        ({"folder": "none"}, LibraryError, "no photographs in such a folder"),
        ({"threshold": 2}, LibraryError, "from 0 to 1"),
        ({"colour": "red"}, TypeError, "no criterion"),
        ({"sort": "size"}, ValueError, "relevance"),
        ({"top": 0}, ValueError, "top = 0"),
    ]:
        with pytest.raises(error, match=part):
            library.items(**wrong)
    with pytest.raises(LibraryError, match="is no photograph"):
        library.like("none.png")
    with pytest.raises(LabelError, match="zebra"):
        library.search("zebra")
    with pytest.raises(ModelError, match="another model"):
        library.search("plain star", predictor=Predictor.load(drawn / "ridge.safetensors"))
    shutil.rmtree(photos / ".epsilon/index")
    with pytest.raises(SearchIndexError, match="no index"):
        library.search("plain star")
    with pytest.raises(LibraryError, match="holds no tagged library"):
        Library(tmp_path)
    with pytest.raises(LibraryError, match="epsilon_zsl.tag"):
        Library(tmp_path / "missing")
    for top in [-1, 10**30]:
        with pytest.raises(ValueError, match="top: negative or too large"):
            library.items(top)


def test_an_owners_word_is_noted_as_review_does(library, photos, predictor, epsilon):
    given = library.items()[0].labels[0].name
    photo = library.items()[0].photo
    library.reject(photo, given.upper())
    library.approve(photos / "5.png", "plant|tree")
    library.review("5.png")
    said = library.corrections()
    assert said["5.png"] == {"labels": {"tree": "approved"}, "reviewed": True}
    assert list(said[photo.removeprefix(f"{photos}/")].labels.values()) == ["rejected"]
    lines = [json.loads(line) for line in (photos / ".epsilon/corrections.jsonl").read_text().splitlines()]
    rejected = next(line for line in lines if line.get("verdict") == "rejected")
    assert rejected["by"]["model"] == predictor.model.identity
    # It holds for the search at once, here and in the command.
    assert photo not in [found.photo for found in library.search(given)]
    assert library.items(label="tree")[0].photo.endswith("5.png")
    assert json.loads(epsilon("search", photos, "--label", "tree", "--json").stdout) == library.items(label="tree")
    library.withdraw(photo, given)
    assert photo in [found.photo for found in library.search(given)]
    with pytest.raises(LibraryError, match="is no photograph"):
        library.approve("none.png", "tree")
    with pytest.raises(EpsilonError):
        library.approve("5.png", "a||b")


def test_a_label_keeps_its_parents_where_none_are_said(photos, predictor):
    tag(photos, predictor, ["shape|plain star", "striped circle"], top=2)
    library = Library(photos)

    def noted():
        line = json.loads((photos / ".epsilon/corrections.jsonl").read_text().splitlines()[-1])
        return line["label"], line.get("parents", []), line["verdict"]

    library.approve("5.png", "Plain Star")
    assert noted() == ("plain star", ["shape"], "approved")
    library.reject("5.png", "plain star")
    assert noted() == ("plain star", ["shape"], "rejected")
    # Parents that are said hold, also of a label that no model gave.
    library.approve("5.png", "figure|plain star")
    assert noted() == ("plain star", ["figure"], "approved")
    library.reject("5.png", "plant|tree")
    library.approve("5.png", "TREE")
    assert noted() == ("tree", ["plant"], "approved")
    assert [found.photo for found in library.items(label="plant")] == [str(photos / "5.png")]
    library.approve("6.png", "tree")
    assert noted() == ("tree", [], "approved")


def test_names_that_are_not_utf_8_can_be_opened(photos, predictor):
    odd = os.fsencode(photos) + b"/\xfe.png"
    try:
        shutil.copy(os.fsencode(photos / "5.png"), odd)
    except OSError:
        pytest.skip("this file system takes names of UTF-8 alone")
    tag(photos, predictor, top=2)
    library = Library(photos)
    (photo,) = [found.photo for found in library.items() if os.fsencode(found.photo) == odd]
    with open(photo, "rb") as file:
        assert file.read() == (photos / "5.png").read_bytes()
    library.approve(photo, "tree")
    assert [found.photo for found in library.items(label="tree")] == [photo]
    assert library.like(photo)[0].photo == str(photos / "5.png")
    assert photo in [found.photo for found in library.search("plain star")]


def test_a_folder_without_photographs_is_warned_of(predictor, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="holds no photographs"):
        assert tag(tmp_path / "empty", predictor, top=1).tagged == 0


def test_a_search_with_a_list_of_words(library, photos, drawn, tmp_path):
    import numpy as np

    lines = [line.split() for line in (drawn / "data/vectors.txt").read_text().splitlines()]
    lines = [line for line in lines if len(line) > 2]
    np.save(tmp_path / "vectors.npy", np.array([line[1:] for line in lines], np.float32))
    (tmp_path / "names.txt").write_text("".join(f"{line[0]}\n" for line in lines))
    pair = (tmp_path / "vectors.npy", tmp_path / "names.txt")
    assert library.search("striped circle", 5, vectors=pair) == library.search("striped circle", 5)


def test_a_model_is_learnt(photos, drawn, epsilon):
    with pytest.raises(LearnError, match="name a network"):
        learn(photos)
    with pytest.raises(LearnError, match="keywords"):
        learn(photos, drawn / "model.safetensors")
    # 120 pictures whose folders are their keywords, of scenes a day each.
    shutil.rmtree(photos)
    words = ["plain star", "striped circle"]
    table = [line.split("\t") for line in (drawn / "data/labels.tsv").read_text().splitlines()]
    for picture, _, labels in table:
        for word in words:
            if word in labels.split(","):
                (photos / word).mkdir(parents=True, exist_ok=True)
                shutil.copy(drawn / "data" / picture, photos / word)
    told = []
    report = learn(photos, drawn / "model.safetensors", folders=True, progress=lambda *far: told.append(far[2]))
    assert {label.name for label in report.labels} == set(words) and report.trained_on > report.held_out > 0
    assert told and set(told) <= {"read", "extract", "train", "measure"}
    assert json.loads(epsilon("learn", photos, "--folders", "--json").stdout)["labels"] == report.labels
    assert tag(photos, top=1).tagged == report.photographs
    with pytest.raises(ValueError, match="at_least = 0"):
        learn(photos, at_least=0)
