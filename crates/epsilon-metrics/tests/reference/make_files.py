"""Makes files/: tables as NumPy and safetensors write them, and their figures by scikit-learn, for tests/files.rs.

    python make_files.py          # needs numpy, safetensors and scikit-learn
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.metrics import average_precision_score, coverage_error

FOLDER = Path(__file__).with_name("files")
IMAGES, LABELS = 30, 8


def figures(scores, labels):
    """Under `lesa-nus`: AP of each label over its known images, and the coverage error over all images."""
    aps = []
    for column in range(LABELS):
        known = labels[:, column] != 0
        positive = labels[known, column] == 1
        ap = average_precision_score(positive, scores[known, column]) if positive.any() else 0.0
        aps.append(float(ap))
    return {
        "average_precision": aps,
        "map": float(np.mean(aps)),
        "coverage_error": float(coverage_error(labels == 1, scores)),
    }


def names(stem, images, labels):
    (FOLDER / f"{stem}.images.txt").write_text("".join(f"{name}\n" for name in images))
    (FOLDER / f"{stem}.labels.txt").write_text("".join(f"{name}\n" for name in labels))


def csv(name, table, images, labels):
    lines = [",".join(["image", *labels])]
    lines += [",".join([image, *map(str, row)]) for image, row in zip(images, table.tolist(), strict=True)]
    (FOLDER / name).write_text("\n".join(lines) + "\n")


def main():
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(20250607)
    # Many scores lie so close that f32 holds them as equal; some are equal.
    f64 = rng.integers(0, 6, (IMAGES, LABELS)) / 7 + rng.integers(0, 4, (IMAGES, LABELS)) * 1e-12
    f32 = rng.standard_normal((IMAGES, LABELS)).astype(np.float32).round(1)
    f16 = f32.astype(np.float16)
    labels = rng.choice([1, -1, 0], p=[0.25, 0.5, 0.25], size=(IMAGES, LABELS)).astype(np.int8)
    labels[:, 3] = np.minimum(labels[:, 3], 0)
    labels[4] = 0
    images = [f"image-{i:02}.jpg" for i in range(IMAGES)]
    columns = [f"label {i}" for i in range(LABELS)]

    np.save(FOLDER / "f64.npy", f64)
    np.save(FOLDER / "f64_fortran.npy", np.asfortranarray(f64))
    np.save(FOLDER / "f32.npy", f32)
    np.save(FOLDER / "f32_fortran.npy", np.asfortranarray(f32))
    np.save(FOLDER / "f16.npy", f16)
    save_file({"scores": f32}, FOLDER / "f32.safetensors")
    save_file({"scores": f64, "labels": labels.astype(np.int32)}, FOLDER / "both.safetensors")
    csv("f64.csv", f64, images, columns)
    names("f32", images, columns)

    np.save(FOLDER / "labels.npy", labels)
    np.save(FOLDER / "labels_fortran.npy", np.asfortranarray(labels.astype(np.int64)))
    np.save(FOLDER / "labels_float.npy", labels.astype(np.float32))
    np.save(FOLDER / "labels_truth.npy", labels == 1)
    csv("labels.csv", labels, images, columns)
    rows, order = rng.permutation(IMAGES), rng.permutation(LABELS)
    np.save(FOLDER / "labels_shuffled.npy", labels[rows][:, order])
    names("labels_shuffled", [images[i] for i in rows], [columns[i] for i in order])

    truth = np.where(labels == 1, 1, -1)
    expected = {
        "f64": figures(f64, labels),
        "f32": figures(f32, labels),
        "f16": figures(f16.astype(np.float64), labels),
        "f32 truth": figures(f32, truth),
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(f"{FOLDER.name}: {sum(path.stat().st_size for path in FOLDER.iterdir())} bytes")


if __name__ == "__main__":
    main()
