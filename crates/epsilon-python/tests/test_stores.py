"""`extract`, `Backbone` and `TokenStore`."""

import io
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from epsilon_zsl import Backbone, TokenStore, extract
from epsilon_zsl.errors import BackboneError, ExtractionError, ImageError, StoreError


@pytest.fixture(scope="module")
def backbone(drawn):
    return Backbone.load(drawn / "backbone.safetensors")


@pytest.fixture(scope="module")
def store(drawn):
    return TokenStore(drawn / "tokens")


def test_a_backbone(backbone, drawn):
    assert backbone.name == "backbone" and backbone.tokens == backbone.grid[0] * backbone.grid[1]
    assert "backbone" in repr(backbone)
    photos = sorted((drawn / "photos").glob("*.png"))
    tokens, globals = backbone.features(photos)
    assert tokens.shape == (len(photos), backbone.tokens, backbone.width)
    assert globals.shape == (len(photos), backbone.global_width)
    with pytest.raises(ImageError, match="1: not a picture"):
        backbone.features([photos[0], b"words"])
    with pytest.raises(BackboneError, match="none"):
        Backbone.load(drawn / "none")
    with pytest.raises(ValueError, match="precision.*fp16"):
        Backbone.load(drawn / "backbone.safetensors", precision="fp16")


def test_photographs_of_every_kind(backbone, drawn):
    photo = drawn / "photo.png"
    picture = Image.open(io.BytesIO(photo.read_bytes()))
    kinds = [photo, str(photo), photo.read_bytes(), picture, np.asarray(picture.convert("RGB"))]
    made = extract(kinds, backbone)
    # Files have their paths as ids, so that the same one twice is one too many in a store.
    assert made.ids == [str(photo), str(photo), "2", "3", "4"] and len(made) == 5 and made.failed == []
    for tokens in made.tokens[1:]:
        np.testing.assert_allclose(tokens, made.tokens[0], atol=1e-4)
    assert made.store is None and made.tokens.dtype == made.globals.dtype == np.float32
    named = extract(kinds, backbone, ids=list("abcde"))
    assert named.ids == list("abcde")
    np.testing.assert_array_equal(named.tokens, made.tokens)
    with pytest.raises(ValueError, match="2 ids for 5"):
        extract(kinds, backbone, ids=["a", "b"])
    with pytest.raises(TypeError, match="int"):
        extract([photo, 3], backbone)
    for one in [photo, photo.read_bytes(), kinds[-1], 3]:
        with pytest.raises(TypeError, match="not one"):
            extract(one, backbone)
    with pytest.raises(TypeError, match="a Backbone, or the weights"):
        extract([photo], 3)
    with pytest.raises(ImageError, match="no such folder"):
        extract(drawn / "none", backbone)


def test_what_cannot_be_read_is_named(backbone, drawn, tmp_path):
    photos = [drawn / "photo.png", b"words", np.zeros((9, 9, 2), np.uint8), drawn / "none.png"]
    made_ids = [str(drawn / "photo.png"), "1", "2", str(drawn / "none.png")]
    for out, given in [(None, None), (tmp_path / "store", list("abcd"))]:
        made = extract(photos, backbone, out, ids=given)
        first, *others = given or made_ids
        assert made.ids == [first] and made.tokens.shape[0] == 1
        ids, reasons = zip(*made.failed, strict=True)
        assert list(ids) == others
        assert "not a picture" in reasons[0] and "shape" in reasons[1] and "no such file" in reasons[2]


def test_a_store_does_not_number_what_is_no_file(backbone, drawn, tmp_path):
    black, white = np.zeros((9, 9, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8)
    for images in [[black], np.stack([black]), [drawn / "photo.png", (drawn / "photo.png").read_bytes()]]:
        with pytest.raises(ValueError, match="ids: give one for each photograph"):
            extract(images, backbone, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    extract([black], backbone, tmp_path / "store", ids=["black"], dtype="f32")
    with pytest.raises(StoreError, match="another list of images"):
        extract([white], backbone, tmp_path / "store", ids=["white"], dtype="f32")
    made = extract([white], backbone, tmp_path / "other", ids=["white"], dtype="f32")
    np.testing.assert_array_equal(made.tokens, backbone.features([white])[0])
    # Files are known by their paths.
    assert extract([drawn / "photo.png"], backbone, tmp_path / "files").ids == [str(drawn / "photo.png")]


def test_every_id_is_of_one_photograph(backbone, drawn, tmp_path, monkeypatch):
    black, white = np.zeros((9, 9, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8)
    for images in [[black, white], [black, drawn / "photo.png"], drawn / "photos"]:
        with pytest.raises(ValueError, match='"a" stands there twice'):
            extract(images, backbone, ids=["a"] * (12 if images == drawn / "photos" else 2))
    # A file may be called as a photograph in memory is numbered.
    monkeypatch.chdir(tmp_path)
    for name in ["0", "1"]:
        shutil.copy(drawn / "photo.png", name)
    expected = backbone.features([black, drawn / "photo.png"])[0]
    np.testing.assert_array_equal(extract([black, "0"], backbone).tokens, expected)
    np.testing.assert_array_equal(extract([black, "0"], backbone, ids=["a", "0"]).tokens, expected)
    np.testing.assert_array_equal(extract(["1", black], backbone).tokens, expected[::-1])
    np.testing.assert_array_equal(extract(["1", black], backbone, ids=["0", "1"]).tokens, expected[::-1])


def test_a_folder_without_photographs_is_warned_of(backbone, tmp_path):
    with pytest.warns(UserWarning, match="holds no photographs"):
        assert extract(tmp_path, backbone).ids == []


def test_a_store_of_a_folder_goes_on_where_it_stopped(backbone, drawn, tmp_path):
    told = []
    made = extract(drawn / "photos", backbone, tmp_path / "store", dtype="f32", progress=lambda *far: told.append(far))
    assert sorted(made.ids)[0] == "10.png" and "2024/0.png" in made.ids and told[-1] == (12, 12, "extract")
    assert "12 photographs" in repr(made)
    memory = extract(drawn / "photos", str(drawn / "backbone.safetensors"))
    assert memory.ids == made.ids
    np.testing.assert_array_equal(made.tokens, memory.tokens)
    np.testing.assert_array_equal(made.store.globals(), memory.globals)
    again = extract(drawn / "photos", backbone, tmp_path / "store", dtype="f32")
    assert again.resumed == 12
    with pytest.raises(StoreError, match="another value type"):
        extract(drawn / "photos", backbone, tmp_path / "store", dtype="f16")
    with pytest.raises(ExtractionError, match="listed twice"):
        extract([drawn / "photo.png"] * 2, backbone, tmp_path / "twice")


def test_rows_of_a_store(store, drawn):
    assert len(store) == len(store.ids) == 300 and store.path == drawn / "tokens"
    shape, width = (store.tokens_per_image, store.width), store.global_width
    tokens, global_vector = store[3]
    assert tokens.shape == shape and global_vector.shape == (width,) and tokens.dtype == np.float32
    for row in [np.int64(3), -297]:
        np.testing.assert_array_equal(store[row][0], tokens)
    some, globals = store[2:8:2]
    assert some.shape == (3, *shape) and globals.shape == (3, width)
    np.testing.assert_array_equal(store[3:4][1][0], global_vector)
    np.testing.assert_array_equal(store[::-1][0], store.tokens()[::-1])
    np.testing.assert_array_equal(store.tokens(np.array([7, 3]))[1], tokens)
    np.testing.assert_array_equal(store.globals([3])[0], global_vector)
    assert store.tokens([]).shape == (0, *shape)
    for row in [300, -301]:
        with pytest.raises(IndexError, match=f"row {row} of 300"):
            store[row]
    with pytest.raises(TypeError):
        store["a"]
    for row in [10**30, -(10**30)]:
        with pytest.raises(IndexError, match="of 300|the 300"):
            store[row]
    assert store.row_of(store.ids[5]) == 5
    with pytest.raises(KeyError, match="none"):
        store.row_of("none")
    assert sum(1 for _ in store) == 300
    assert store.manifest.backbone.tokens == shape[0] and store.manifest["dtype"] == "f16"
    assert "300 photographs" in repr(store)


def test_a_mask_of_booleans_chooses_rows(store):
    chosen = np.zeros(len(store), bool)
    chosen[[3, 7]] = True
    expected = store.tokens([3, 7])
    for mask in [chosen, chosen.tolist()]:
        np.testing.assert_array_equal(store[mask][0], expected)
        np.testing.assert_array_equal(store.tokens(mask), expected)
        np.testing.assert_array_equal(store.globals(mask), store.globals([3, 7]))
    for wrong in [[True, False], chosen[:30]]:
        with pytest.raises(IndexError, match="a mask of .* for 300 rows"):
            store[wrong]
    for wrong in [True, np.bool_(True), [0, True]]:
        with pytest.raises(TypeError, match="not a boolean"):
            store[wrong]
    # An iterable is read once.
    tokens, globals = store[(row for row in [3, 7])]
    assert len(tokens) == len(globals) == 2


def test_a_store_is_checked(store, drawn, tmp_path):
    store.verify()
    shutil.copytree(drawn / "tokens", tmp_path / "store")
    shard = next((tmp_path / "store").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match="checksum"):
        TokenStore(tmp_path / "store").verify()
    with pytest.raises(StoreError, match="no token store there"):
        TokenStore(tmp_path)


def test_a_store_is_a_dataset_for_workers(store, monkeypatch):
    monkeypatch.chdir("/")
    other = pickle.loads(pickle.dumps(store))
    assert other.ids == store.ids
    # What PyTorch's DataLoader does: indices are drawn, items are fetched by workers, and put together.
    batches = np.random.default_rng(1).permutation(len(store)).reshape(-1, 60)
    with ThreadPoolExecutor(4) as pool:
        for batch in batches:
            tokens = np.stack([item[0] for item in pool.map(other.__getitem__, batch)])
            np.testing.assert_array_equal(tokens, store.tokens(batch))


def test_a_store_in_pytorchs_loader(store):
    data = pytest.importorskip("torch.utils.data")
    loader = data.DataLoader(store, batch_size=64, num_workers=2, multiprocessing_context="spawn")
    globals = np.concatenate([batch[1].numpy() for batch in loader])
    np.testing.assert_array_equal(globals, store.globals())
