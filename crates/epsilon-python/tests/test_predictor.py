"""`Predictor`: what the command says, from Python."""

import io
import json
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import epsilon_zsl
from epsilon_zsl import Predictor
from epsilon_zsl.errors import EpsilonError, ImageError, LabelError, LibraryError, ModelError, PredictError

WORDS = ["striped circle", "plain star", "dotted heart"]


def pixels(photo):
    with Image.open(photo) as opened:
        return np.asarray(opened.convert("RGB"))


def as_dict(label):
    entry = {"name": label.name, "score": label.score, "seen": label.seen}
    if label.probability is not None:
        entry |= {"probability": label.probability, "kept": label.kept}
    return entry


def as_float32(entries):
    """JSON has the shortest digits that tell a float32; Python reads them as doubles."""
    return [{key: np.float32(of) if type(of) is float else of for key, of in entry.items()} for entry in entries]


@pytest.mark.parametrize("model", ["model", "calibrated"])
def test_the_same_ranking_as_the_command_bit_for_bit(epsilon, drawn, model):
    model = drawn / f"{model}.safetensors"
    photos = sorted((drawn / "photos").rglob("*.png"))
    predictor = Predictor.load(model)
    for options, words in [(["--labels", ",".join(WORDS)], WORDS), ([], None)]:
        done = epsilon("predict", *photos, "--model", model, "--json", "--top", 100, *options)
        said = [as_float32(photo["labels"]) for photo in json.loads(done.stdout)]
        all_at_once = predictor.rank_all(photos, words)
        one_by_one = [predictor.rank(photo, words) for photo in photos]
        for found in [all_at_once, one_by_one]:
            assert [as_float32(map(as_dict, ranking)) for ranking in found] == said


def test_labels_are_ready_for_many_photographs(predictor, drawn):
    labels = predictor.labels(WORDS)
    assert (labels.names, len(labels), repr(labels)) == (WORDS, 3, "Labels(3 words)")
    assert predictor.rank(drawn / "photo.png", labels) == predictor.rank(drawn / "photo.png", tuple(WORDS))
    assert len(predictor.rank(drawn / "photo.png", labels, top=2)) == 2
    assert len(predictor.labels()) == len(predictor.model.labels) == len(predictor.rank(drawn / "photo.png"))
    with pytest.raises(LabelError, match="zebra"):
        predictor.labels(["zebra"])
    with pytest.raises(LabelError, match="two labels are named"):
        predictor.labels(["plain star", "plain star"])
    with pytest.raises(TypeError, match="list of words"):
        predictor.rank(drawn / "photo.png", "plain star")
    with pytest.raises(ValueError, match="top = 0"):
        predictor.rank(drawn / "photo.png", labels, top=0)
    with pytest.raises(ValueError, match="another predictor's"):
        Predictor.load(drawn / "model.safetensors").rank(drawn / "photo.png", labels)


def test_wrong_arguments_are_named(predictor, drawn):
    photo = drawn / "photo.png"
    for top in [-1, 10**30]:
        for call in [
            lambda top=top: predictor.rank(photo, WORDS, top),
            lambda top=top: predictor.rank_all([photo], WORDS, top),
            lambda top=top: predictor.keep(predictor.rank(photo, WORDS), top=top),
        ]:
            with pytest.raises(ValueError, match="top: negative or too large"):
                call()
    with pytest.raises(ValueError, match="max_megapixels: negative"):
        Predictor.load(drawn / "model.safetensors", max_megapixels=-1)
    for words in ["plain star", [1], 3]:
        with pytest.raises(TypeError, match="a list of words, not"):
            predictor.labels(words)
    with pytest.raises(LabelError, match="words: give at least one"):
        predictor.labels([])
    assert set(predictor.labels(set(WORDS)).names) == set(WORDS)
    with pytest.raises(LabelError) as raised:
        predictor.labels(["dog" * 100_000])
    assert "dogdog" in str(raised.value) and len(str(raised.value)) < 2000


def test_word_vectors_with_a_list_of_their_words(predictor, drawn, tmp_path):
    lines = [line.split() for line in (drawn / "data/vectors.txt").read_text().splitlines()]
    lines = [line for line in lines if len(line) > 2]
    file, names = tmp_path / "vectors.npy", tmp_path / "vectors.names"
    np.save(file, np.array([line[1:] for line in lines], np.float32))
    names.write_text("".join(f"{line[0]}\n" for line in lines))
    model, photo = drawn / "model.safetensors", drawn / "photo.png"
    other = Predictor.load(model, vectors=(file, str(names)))
    single = [line[0] for line in lines[:3]]
    for words in [WORDS, single]:
        assert other.rank(photo, words) == predictor.rank(photo, words)
    with pytest.raises(LabelError, match=r"vectors=\(file, names\)"):
        Predictor.load(model, vectors=file).labels(["zebra"])
    with pytest.raises(TypeError, match="vectors.*a pair"):
        Predictor.load(model, vectors=[1, 2, 3])


def test_a_ranking_crosses_processes(predictor, drawn):
    ranking = predictor.rank(drawn / "photo.png", WORDS)
    calibrated = Predictor.load(drawn / "calibrated.safetensors").rank(drawn / "photo.png")
    assert calibrated[0].probability is not None
    for labels in [ranking, calibrated]:
        assert pickle.loads(pickle.dumps(labels)) == labels


def test_a_photograph_that_cannot_be_read_costs_the_others_nothing(predictor, drawn):
    good = drawn / "photo.png"
    picture = Image.open(io.BytesIO(good.read_bytes()))
    photos = [good, b"words", np.zeros((9, 9, 2), np.uint8), drawn / "none.png", picture, pixels(good)]
    first, *bad, pillow, array = predictor.rank_all(iter(photos), WORDS)
    assert first == pillow and [label.name for label in array] == [label.name for label in first]
    assert all(type(error) is ImageError for error in bad), bad
    with pytest.raises(ImageError, match="not a picture"):
        predictor.scores(photos, WORDS)
    assert predictor.rank_all([], WORDS) == []
    with pytest.raises(TypeError, match="int"):
        predictor.rank_all([good, 3], WORDS)
    for one in [good, str(good), good.read_bytes(), np.zeros((9, 9, 3), np.uint8), 3]:
        with pytest.raises(TypeError, match="not one"):
            predictor.rank_all(one, WORDS)


def test_an_error_of_the_iterable_is_raised(predictor, drawn):
    def photos():
        yield drawn / "photo.png"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        predictor.rank_all(photos(), WORDS)


def test_scores_stand_in_the_labels_order(predictor, drawn):
    photos = sorted((drawn / "photos").rglob("*.png"))
    scores = predictor.scores(photos, WORDS)
    assert (scores.shape, scores.dtype) == ((12, 3), np.float32)
    for row, ranking in zip(scores, predictor.rank_all(photos, WORDS), strict=True):
        assert {label.name: np.float32(label.score) for label in ranking} == dict(zip(WORDS, row, strict=True))
    assert predictor.scores([], WORDS).shape == (0, 3)
    stack = np.stack([pixels(photo) for photo in photos])
    np.testing.assert_allclose(predictor.scores(stack, WORDS), scores, atol=1e-4)


def test_features_and_semantic_vectors(predictor, drawn):
    tokens, global_vector = predictor.features(drawn / "photo.png")
    assert tokens.ndim == 2 and global_vector.ndim == 1 and tokens.flags.writeable
    vectors = predictor.semantic_vectors(drawn / "photo.png")
    assert vectors.ndim == 2 and vectors.dtype == np.float32 and np.isfinite(vectors).all()


def test_heat_maps(predictor, drawn):
    maps = predictor.explain(drawn / "photo.png", "striped circle")
    assert maps and "HeatMap" in repr(maps[0])
    height, width, _ = pixels(drawn / "photo.png").shape
    for map in maps:
        assert map.values.sum() == pytest.approx(1, abs=1e-5)
        picture = map.picture()
        assert (picture.shape, picture.dtype) == ((height, width, 3), np.uint8)
    of_bytes = predictor.explain((drawn / "photo.png").read_bytes(), "striped circle", WORDS)
    np.testing.assert_array_equal(of_bytes[0].values, maps[0].values)
    with pytest.raises(PredictError, match="not among the labels"):
        predictor.explain(drawn / "photo.png", "striped circle", ["plain star"])


def test_labels_are_kept_as_the_command_keeps_them(epsilon, drawn, predictor):
    calibrated = Predictor.load(drawn / "calibrated.safetensors")
    assert calibrated.model.calibrated and not predictor.model.calibrated
    ranking = calibrated.rank(drawn / "photo.png")
    for keep, options in [
        ({}, []),
        ({"threshold": 0.2}, ["--threshold", 0.2]),
        ({"threshold": 0.01, "top": 3}, ["--threshold", 0.01, "--top", 3]),
        ({"top": 2}, ["--top", 2]),
    ]:
        done = epsilon("predict", drawn / "photo.png", "--model", drawn / "calibrated.safetensors", "--json", *options)
        said = [label["name"] for label in json.loads(done.stdout)[0]["labels"]]
        assert [label.name for label in calibrated.keep(ranking, **keep)] == said
    with pytest.raises(ModelError, match="no thresholds"):
        predictor.keep(ranking)
    with pytest.raises(ModelError, match="not calibrated"):
        predictor.keep(ranking, threshold=0.5)
    with pytest.raises(ModelError, match="from 0 to 1"):
        calibrated.keep(ranking, threshold=1.5)
    with pytest.raises(ModelError, match="at least 1"):
        calibrated.keep(ranking, top=0)


def test_facts_of_a_model(predictor):
    model = predictor.model
    assert model.method == "epsilon" and model.backbone == "backbone"
    assert set(model.seen_labels) < set(model.labels) and len(model.seen_labels) == 27
    assert "27 of them seen" in repr(model) and "epsilon" in repr(predictor)


def test_a_bundle_needs_nothing_else(predictor, drawn, tmp_path):
    written = predictor.bundle(tmp_path / "all.epsilon", exact=True)
    assert written.file == str(tmp_path / "all.epsilon") and written.bytes > 0
    other = Predictor.load(tmp_path / "all.epsilon")
    assert other.rank(drawn / "photo.png", WORDS) == predictor.rank(drawn / "photo.png", WORDS)
    with pytest.raises(PredictError, match="another name"):
        other.bundle(tmp_path / "all.epsilon")


def test_errors_of_loading(tmp_path, drawn):
    with pytest.raises(EpsilonError, match="none.safetensors"):
        Predictor.load(tmp_path / "none.safetensors")
    with pytest.raises(epsilon_zsl.errors.DeviceError, match="abacus"):
        Predictor.load(drawn / "model.safetensors", device="abacus")
    (tmp_path / "bad.safetensors").write_bytes(b"words")
    with pytest.raises(EpsilonError, match="bad.safetensors"):
        Predictor.load(tmp_path / "bad.safetensors")
    for wrong in [3, b"x"]:
        with pytest.raises(TypeError, match="model"):
            Predictor.load(wrong)
    with pytest.raises(ModelError, match=r"nope: no such file.*epsilon_zsl.models\(\) lists the names"):
        Predictor.load("nope")
    with pytest.raises(ImageError, match="pixels"):
        Predictor.load(drawn / "model.safetensors", max_megapixels=0).rank(drawn / "photo.png")


def test_published_models_are_listed(epsilon):
    assert epsilon_zsl.models() == json.loads(epsilon("models", "--json").stdout)
    assert epsilon_zsl.models()[0].name == "siglip-b16"


def test_threads_share_a_predictor(predictor, drawn):
    photos = sorted((drawn / "data/test").glob("*.png"))
    labels = predictor.labels(WORDS)
    expected = predictor.rank_all(photos, labels)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda photo: predictor.rank(photo, labels), photos))
        many = list(pool.map(lambda _: predictor.rank_all(photos, labels), range(4)))
    assert found == expected and all(each == expected for each in many)


def test_python_goes_on_while_it_works(predictor, drawn):
    counted, ended = [], threading.Event()

    def count():
        while not ended.is_set():
            counted.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    begun = time.perf_counter()
    predictor.rank_all(sorted((drawn / "data/train").glob("*.png")) * 4, WORDS)
    took = time.perf_counter() - begun
    ended.set()
    thread.join()
    meanwhile = [at for at in counted if begun < at < begun + took]
    longest = max(np.diff([begun, *meanwhile, begun + took]))
    assert longest < max(0.2, took / 4), (longest, took)


def test_progress_is_told_and_can_end_the_work(predictor, drawn):
    photos = sorted((drawn / "data/train").glob("*.png"))
    told = []
    predictor.rank_all(photos, WORDS, progress=lambda *far: told.append(far))
    assert told[-1] == (240, 240, "rank")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    told.clear()
    predictor.rank_all(iter(photos), WORDS, progress=lambda *far: told.append(far))
    assert told[-1] == (240, 240, "rank") and all(total is None for _, total, _ in told[:-1])

    def stop(done, total, what):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        predictor.scores(photos, WORDS, progress=stop)
    with pytest.raises(TypeError, match="function of"):
        predictor.scores(photos, WORDS, progress=3)


def test_a_bar_is_shown(predictor, drawn, capsys):
    photos = [drawn / "photo.png"] * 3
    predictor.rank_all(photos, WORDS, progress=True)
    shown = capsys.readouterr()
    assert "3/3" in shown.err and shown.out == ""
    predictor.rank_all(photos, WORDS, progress=False)
    assert capsys.readouterr().err == ""


def test_a_sidecar_as_tag_writes_it(predictor, drawn, tmp_path, epsilon):
    photo = tmp_path / "a.png"
    photo.write_bytes((drawn / "photo.png").read_bytes())
    kept = predictor.keep(predictor.rank(photo), top=3)
    sidecar = predictor.write_sidecar(photo, kept)
    assert sidecar == tmp_path / "a.png.xmp"
    ours = sidecar.read_text()
    sidecar.unlink()
    epsilon("tag", tmp_path, "--model", drawn / "model.safetensors", "--top", 3, "--xmp")
    assert sidecar.read_text() == ours
    assert predictor.write_sidecar(photo, kept, "stem") == tmp_path / "a.xmp"
    with pytest.raises(ValueError, match="full"):
        predictor.write_sidecar(photo, kept, "half")
    with pytest.raises(LibraryError, match="nope.jpg: no such photograph"):
        predictor.write_sidecar(tmp_path / "nope.jpg", kept)
    assert not (tmp_path / "nope.jpg.xmp").exists()


def test_a_flaw_of_a_file_is_logged(predictor, drawn, caplog):
    whole = (drawn / "photo.png").read_bytes()
    predictor.rank(whole[:-6], WORDS)
    assert [(record.name, record.levelname) for record in caplog.records] == [("epsilon_zsl", "WARNING")]
    assert "the file's end is missing" in caplog.text
