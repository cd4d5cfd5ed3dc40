"""Photographs of every kind give what their files give."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from epsilon_zsl import Predictor, extract
from epsilon_zsl.errors import ImageError


@pytest.fixture(scope="module")
def features(predictor):
    def of(photo):
        tokens, globals = predictor.features(photo)
        assert tokens.dtype == globals.dtype == np.float32
        return np.concatenate([tokens.ravel(), globals])

    return of


def noise(mode, size=(97, 61)):
    """A smooth picture of some mode, so that small differences of decoders stay small."""
    y, x = np.mgrid[: size[1], : size[0]]
    waves = [np.sin(x / 9 + k) * np.cos(y / (7 + k)) * 120 + 128 for k in range(4)]
    rgb = np.stack(waves[:3], axis=-1).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((waves[0] * 257).astype(np.uint16))
    if mode == "RGBA":
        return Image.fromarray(np.dstack([rgb, waves[3].astype(np.uint8)]))
    return Image.fromarray(rgb).convert(mode)


def saved(image, kind, **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


KINDS = [
    ("L", "PNG"),
    ("LA", "PNG"),
    ("1", "PNG"),
    ("P", "PNG"),
    ("P", "GIF"),
    ("RGB", "PNG"),
    ("RGB", "JPEG"),
    ("RGB", "WEBP"),
    ("RGB", "BMP"),
    ("RGB", "TIFF"),
    ("RGBA", "PNG"),
    ("I;16", "PNG"),
    ("CMYK", "JPEG"),
]


@pytest.mark.parametrize(("mode", "kind"), KINDS)
def test_an_image_of_pillows_is_its_file(features, mode, kind):
    file = saved(noise(mode), kind)
    expected = features(file)
    lazy = Image.open(io.BytesIO(file))
    # Its file's bytes are decoded: the same values, and it can still be read afterwards.
    np.testing.assert_array_equal(features(lazy), expected)
    loaded = Image.open(io.BytesIO(file))
    loaded.load()
    lazy.load()
    assert lazy.tobytes() == loaded.tobytes()
    # Pillow's own decoders differ by a step of 255 where a file is lossy or of 16 bits.
    exact = (kind != "JPEG" and kind != "WEBP") and mode != "I;16"
    np.testing.assert_allclose(features(loaded), expected, rtol=0, atol=1e-5 if exact else 0.08)


def test_orientation_is_applied_as_for_files(features, tmp_path):
    upright = noise("RGB")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = saved(upright, "PNG", exif=exif)
        expected = features(file)
        np.testing.assert_array_equal(features(Image.open(io.BytesIO(file))), expected)
        loaded = Image.open(io.BytesIO(file))
        loaded.load()
        np.testing.assert_allclose(features(loaded), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(features(ImageOps.exif_transpose(loaded)), expected, rtol=0, atol=1e-5)
        path = tmp_path / f"{orientation}.png"
        path.write_bytes(file)
        with Image.open(path) as opened:
            np.testing.assert_array_equal(features(opened), expected)
        if orientation > 1:
            assert not np.allclose(features(upright), expected, atol=1e-3)


def test_a_later_frame_and_an_unknown_format_are_their_pixels(features):
    frames = [noise("RGB"), noise("RGB").rotate(90)]
    file = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    opened = Image.open(io.BytesIO(file))
    opened.seek(1)
    np.testing.assert_allclose(features(opened), features(frames[1]), rtol=0, atol=1e-5)
    # PPM is a format of Pillow's, and none of ours.
    opened = Image.open(io.BytesIO(saved(frames[0], "PPM")))
    np.testing.assert_allclose(features(opened), features(frames[0]), rtol=0, atol=1e-5)


def test_what_pillow_cannot_give_is_said(features):
    half = saved(noise("RGB"), "PPM")[:2000]
    with pytest.raises(ImageError, match="photograph: .*truncated"):
        features(Image.open(io.BytesIO(half)))
    with pytest.raises(ImageError, match="mode F"):
        features(Image.fromarray(np.zeros((9, 9), np.float32)))
    with pytest.raises(ImageError, match="beyond 16 bits"):
        features(Image.fromarray(np.full((9, 9), 70000, np.int32)))
    with pytest.raises(ImageError):
        features(Image.new("RGB", (0, 5)))


def test_an_image_of_32_bits_is_scaled_as_one_of_16(features):
    grey = np.asarray(noise("I;16"))
    as_long = Image.fromarray(grey.astype(np.int32))
    np.testing.assert_array_equal(features(as_long), features(noise("I;16")))


def test_arrays_of_any_strides(features):
    rgb = np.asarray(noise("RGB"))
    expected = features(saved(noise("RGB"), "PNG"))
    padded = np.zeros((rgb.shape[0] * 2, rgb.shape[1] + 3, 4), np.uint8)
    padded[::2, 3:, :3] = rgb
    backwards = np.ascontiguousarray(rgb[::-1, ::-1, ::-1])
    read_only = rgb.copy()
    read_only.flags.writeable = False
    arrays = [
        rgb,
        read_only,
        np.asfortranarray(rgb),
        padded[::2, 3:, :3],
        padded[::2, 3:],
        backwards[::-1, ::-1, ::-1],
        np.ascontiguousarray(rgb.transpose(2, 0, 1)).transpose(1, 2, 0),
    ]
    for array in arrays:
        np.testing.assert_allclose(features(array), expected, rtol=0, atol=1e-5)
    grey = np.asarray(noise("L"))
    expected = features(saved(noise("L"), "PNG"))
    for array in [grey, grey[..., None], np.asfortranarray(grey), np.dstack([grey] * 3)]:
        np.testing.assert_allclose(features(array), expected, rtol=0, atol=1e-5)


def test_bytes_in_any_form(features, drawn):
    file = (drawn / "photo.png").read_bytes()
    expected = features(drawn / "photo.png")
    for photo in [file, bytearray(file), memoryview(file), str(drawn / "photo.png")]:
        np.testing.assert_array_equal(features(photo), expected)


def test_wrong_photographs_are_told_what_is_wrong(features, tmp_path):
    for photo, part in [
        (np.zeros((4, 4, 3)), "uint8 from 0 to 255, not float64"),
        (3, "not <class 'int'>"),
        (None, "NoneType"),
        ([b"a"], "list"),
    ]:
        with pytest.raises(TypeError, match=part):
            features(photo)
    for photo, part in [
        (np.zeros((3, 9, 9), np.uint8), r"\[3, 9, 9\].*transpose"),
        (np.zeros((9, 9, 2), np.uint8), "shape"),
        (np.zeros(9, np.uint8), "shape"),
        (np.zeros((0, 9, 3), np.uint8), "9 x 0 pixels"),
        (b"words", "photograph: not a picture"),
        (tmp_path / "none.jpg", "none.jpg: no such file"),
    ]:
        with pytest.raises(ImageError, match=part):
            features(photo)


def test_a_picture_is_measured_before_it_is_copied(predictor, drawn, monkeypatch):
    """Arrays that stand for far more memory than there is, and an image of Pillow's whose pixels must not be asked for."""
    for side in [20_000, 10**6]:
        array = np.broadcast_to(np.uint8(0), (side, side, 3))
        for call in [
            lambda array=array: predictor.rank(array),
            lambda array=array: predictor.features(array),
            lambda array=array: predictor.scores([array]),
        ]:
            with pytest.raises(ImageError, match=f"{side} x {side} pixels, above the limit of 100000000"):
                call()
        (error,) = predictor.rank_all([array])
        assert type(error) is ImageError
        made = extract([array, drawn / "photo.png"], drawn / "backbone.safetensors")
        assert len(made.ids) == 1 and "above the limit of 100000000" in made.failed[0][1]
    small = np.zeros((1001, 1000, 3), np.uint8)
    least = Predictor.load(drawn / "model.safetensors", max_megapixels=1)
    assert predictor.rank(small)
    picture = Image.fromarray(small)
    for photo in [small, small[:, :, 0], picture]:
        with pytest.raises(ImageError, match="1000 x 1001 pixels, above the limit of 1000000"):
            least.rank(photo)
    monkeypatch.setattr(type(picture), "load", lambda self: pytest.fail("its pixels were asked for"))
    with pytest.raises(ImageError, match="above the limit"):
        least.rank(picture)


def test_pillow_is_not_imported_by_the_package(drawn):
    program = (
        "import sys, epsilon_zsl, numpy\n"
        f"predictor = epsilon_zsl.Predictor.load({str(drawn / 'model.safetensors')!r})\n"
        "predictor.rank(numpy.zeros((9, 9, 3), numpy.uint8))\n"
        "assert not any(name.split('.')[0] == 'PIL' for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


