"""The anchor in NumPy, from the equations: writes words.txt, classes.txt and fixture.safetensors into this folder.

    python make.py

a_c = sum_i p_i exp(b max_{n in names(i)} n.v_c), p = softmax((H x + h) / T); a class goes by every name's mean vector and its
last word's. Scores are z(s + beta z(a)) + w z(a) with z by the scores of the model's own labels.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).parent
T, B, W, BETA = 2.0, 8.0, 0.75, 1.3
CLASSES = [
    ["brown bear", "bruin"],
    ["tabby", "tabby cat"],
    ["ice-cream"],
    ["school bus"],
    ["Ursus ignotus"],  # neither word has a vector
    ["great white shark", "white shark"],
]
OWN = ["bear", "cat", "school", "red bus", "shark"]
OTHERS = ["cream", "tabby", "cat"]
IMAGES, WIDTH, D_WORDS, D_LABELS = 4, 7, 5, 3


def main():
    rng = np.random.default_rng(4)
    words = "brown bear bruin tabby cat ice cream school bus great white shark red".split()
    vectors = {w: np.round(rng.normal(size=D_WORDS), 4) for w in words}
    (HERE / "words.txt").write_text(
        "".join(f"{w} {' '.join(f'{v:.4f}' for v in x)}\n" for w, x in vectors.items())
    )
    (HERE / "classes.txt").write_text("".join(", ".join(c) + "\n" for c in CLASSES))

    def parts(name):
        return name.replace("_", " ").replace("-", " ").split()

    def mean(name):
        found = [vectors[w] for w in parts(name) if w in vectors]
        return unit(np.mean(found, axis=0)) if found else None

    def unit(x):
        return x / np.linalg.norm(x)

    def near(label):
        v = mean(label)
        rows = []
        for names in CLASSES:
            of_class = [mean(n) for n in names] + [mean(parts(n)[-1]) for n in names]
            of_class = [n @ v for n in of_class if n is not None]
            rows.append(max(of_class) if of_class else 0.0)
        return np.array(rows)

    def softmax(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    f32 = lambda *shape: rng.normal(size=shape).astype(np.float32)
    x, head, bias = f32(IMAGES, WIDTH), f32(WIDTH, len(CLASSES)), f32(len(CLASSES))
    map_, shift = f32(WIDTH, D_LABELS), f32(D_LABELS)
    own, others = f32(len(OWN), D_LABELS), f32(len(OTHERS), D_LABELS)
    # The same label has the same vector.
    others[2] = own[1]

    p = softmax((x.astype(float) @ head + bias) / T)
    direction = x.astype(float) @ map_ + shift

    def both(names, label_vectors):
        affinities = np.stack([np.exp(B * near(n)) for n in names], axis=1)
        v = label_vectors / np.linalg.norm(label_vectors.astype(float), axis=1, keepdims=True)
        return direction @ v.T, p @ affinities

    s_own, a_own = both(OWN, own)

    def z(rows, by):
        return (rows - by.mean(axis=1, keepdims=True)) / by.std(axis=1, keepdims=True)

    def joined(s, a, beta):
        trained, trained_own = s + beta * z(a, a_own), s_own + beta * z(a_own, a_own)
        return z(trained, trained_own) + W * z(a, a_own)

    s_others, a_others = both(OTHERS, others)
    out = {
        "x": x,
        "head": head,
        "bias": bias,
        "map": map_,
        "shift": shift,
        "own": own,
        "others": others,
        "out.anchor": a_own,
        "out.test": joined(s_own, a_own, 0.0),
        "out.trained": joined(s_own, a_own, BETA),
        "out.others": joined(s_others, a_others, BETA),
    }
    save_file({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in out.items()}, HERE / "fixture.safetensors")


if __name__ == "__main__":
    main()
