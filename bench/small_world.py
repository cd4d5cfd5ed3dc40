"""A small world to run the program in, drawn from a seed: pictures of coloured squares, colours as labels, word vectors, a tiny
random Vision Transformer and a recipe. For `kills.py` and `fuzz/make_seeds.py`; the standard library is enough.
"""

import json
import random
import struct
import zlib
from math import prod

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 160, 20),
    "blue": (20, 20, 220),
    "yellow": (230, 230, 20),
    "black": (10, 10, 10),
    "white": (250, 250, 250),
    "cyan": (20, 220, 220),
    "magenta": (220, 20, 220),
    "orange": (250, 150, 10),
}
SEEN = 6
SIDE = 32

RECIPE = """seeds = [1]

[data]
table = "labels.tsv"
images = "."
seen = "seen.txt"
unseen = "unseen.txt"
vectors = "vectors.txt"

[backbone]
weights = "backbone.safetensors"

[method]
{method}

[training]
epochs = {epochs}
batch = 8
learning-rate = 1e-3
checkpoint-steps = 1

[evaluation]
protocol = "epsilon"
k-zsl = [1, 2]
k-gzsl = [1, 3]
bootstrap = 20
"""


def png(pixels):
    """A PNG of rows of RGB bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", len(pixels[0]) // 3, len(pixels), 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(row) for row in pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture(draws, colours):
    """A picture with a square of each colour, on grey."""
    pixels = [bytearray(value for x in range(SIDE) for value in (110 + x % 7, 120 + y % 5, 125)) for y in range(SIDE)]
    for place, name in enumerate(colours):
        left, top = SIDE // 2 * place + draws.randrange(4), draws.randrange(SIDE - 12)
        for y in range(top, top + 10):
            for x in range(left, left + 10):
                pixels[y][3 * x : 3 * x + 3] = bytes(COLOURS[name])
    return png(pixels)


def safetensors(tensors, metadata):
    """A file of f32 tensors: name to (shape, values)."""
    header, data = {"__metadata__": metadata}, b""
    for name, (shape, values) in tensors.items():
        start = len(data)
        data += struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def backbone(seed, dim=16, patch=8, depth=1):
    """Random weights of a Vision Transformer as timm names them, for pictures of `SIDE`."""
    draws = random.Random(seed)
    shapes = {
        "cls_token": [1, 1, dim],
        "pos_embed": [1, (SIDE // patch) ** 2 + 1, dim],
        "patch_embed.proj.weight": [dim, 3, patch, patch],
        "patch_embed.proj.bias": [dim],
        "norm.weight": [dim],
        "norm.bias": [dim],
    }
    for block in range(depth):
        for part, inputs, outputs in [
            ("attn.qkv", dim, 3 * dim),
            ("attn.proj", dim, dim),
            ("mlp.fc1", dim, 2 * dim),
            ("mlp.fc2", 2 * dim, dim),
        ]:
            shapes[f"blocks.{block}.{part}.weight"] = [outputs, inputs]
            shapes[f"blocks.{block}.{part}.bias"] = [outputs]
        for part in ["norm1", "norm2"]:
            shapes[f"blocks.{block}.{part}.weight"] = [dim]
            shapes[f"blocks.{block}.{part}.bias"] = [dim]
    tensors = {}
    for name, shape in shapes.items():
        middle, spread = (1.0, 0.1) if "norm" in name and name.endswith("weight") else (0.0, 0.25)
        tensors[name] = (shape, [middle + spread * draws.uniform(-1, 1) for _ in range(prod(shape))])
    return safetensors(tensors, {"epsilon.vit": '{"heads": 2, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}'})


def sidecar(keywords):
    """An XMP sidecar with keywords."""
    items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
        f"{items}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>\n"
    )


def draw(folder, train, test, seed=7, method='kind = "ridge"', epochs=1):
    """Fills a folder: the data set, `recipe.toml`, and in `photos` the training pictures with their labels as keywords."""
    draws, names, table = random.Random(seed), list(COLOURS), ""
    (folder / "photos").mkdir(parents=True)
    for index in range(train + test):
        first = draws.randrange(SEEN)
        # Every test picture holds an unseen colour, no training picture does.
        second = (first + 1 + draws.randrange(SEEN - 1)) % SEEN if index < train else SEEN + index % 3
        labels = [names[first], names[second]]
        split = "train" if index < train else "test"
        name, drawn = f"{split}-{index:04}.png", picture(draws, labels)
        (folder / name).write_bytes(drawn)
        table += f"{name}\t{split}\t{','.join(labels)}\n"
        if index < train:
            (folder / "photos" / name).write_bytes(drawn)
            (folder / "photos" / f"{name}.xmp").write_text(sidecar(labels))
    (folder / "labels.tsv").write_text(table)
    (folder / "seen.txt").write_text("".join(f"{name}\n" for name in names[:SEEN]))
    (folder / "unseen.txt").write_text("".join(f"{name}\n" for name in names[SEEN:]))
    vectors = {**COLOURS, "purple": (120, 10, 120), "grey": (128, 128, 128), "brown": (120, 70, 20)}
    lines = (f"{name} {r / 255:.3f} {g / 255:.3f} {b / 255:.3f} 0.5\n" for name, (r, g, b) in vectors.items())
    (folder / "vectors.txt").write_text("".join(lines))
    (folder / "backbone.safetensors").write_bytes(backbone(1))
    (folder / "recipe.toml").write_text(RECIPE.format(method=method, epochs=epochs))
