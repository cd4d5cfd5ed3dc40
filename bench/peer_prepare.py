"""The peer of bench/prepare.py: the same files read with pandas, as one would write it. Prints one line of JSON.

    python bench/peer_prepare.py nus-wide|open-images FOLDER INDEX

NUS-WIDE: dense tags and labels of both parts to one matrix of 1,006 columns an image, kept with numpy.savez. Open Images: the
CSV files to one table of image, label number and value, filtered as the readers of this project filter, kept as Parquet.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd


def nus_wide(folder, index):
    tags = pd.read_csv(folder / "NUS_WID_Tags/TagList1k.txt", header=None)[0]
    concepts = pd.read_csv(folder / "ConceptsList/Concepts81.txt", header=None)[0]
    seen = ~tags.isin(concepts).to_numpy()
    parts, images = [], []
    for part in ("Train", "Test"):
        names = pd.read_csv(folder / f"ImageList/{part}Imagelist.txt", header=None)[0].str.replace("\\", "/")
        table = pd.read_csv(folder / f"NUS_WID_Tags/{part}_Tags1k.dat", sep="\t", header=None, usecols=range(len(tags)), dtype=np.int8)
        labels = [
            pd.read_csv(folder / f"TrainTestLabels/Labels_{concept}_{part}.txt", header=None, dtype=np.int8)[0]
            for concept in concepts
        ]
        parts.append(np.concatenate([table.to_numpy()[:, seen], np.stack(labels, axis=1)], axis=1))
        images.append(names)
    images = pd.concat(images).to_numpy()
    matrix = np.concatenate(parts)
    rows, columns = np.nonzero(matrix)
    np.savez(index, images=images.astype(str), rows=rows.astype(np.int32), columns=columns.astype(np.int32))
    return len(images), len(rows)


def open_images(folder, index):
    descriptions = pd.read_csv(folder / "class-descriptions.csv", header=None, names=["id", "name"])
    seen = pd.read_csv(folder / "classes-trainable.txt", header=None)[0]
    others = pd.read_csv(folder / "unseen_labels.txt", header=None)[0]
    unseen = others[pd.read_csv(folder / "top_unseen.csv", header=None)[0]]
    number = pd.Series(range(len(seen) + len(unseen)), index=pd.concat([seen, unseen]))
    parts, images = [], 0
    for part in ("train", "test"):
        table = pd.read_csv(folder / f"{part}-annotations-human-imagelabels.csv", usecols=["ImageID", "LabelName", "Confidence"])
        table = table[table["LabelName"].isin(descriptions["id"])]
        images += table["ImageID"].nunique()
        table["label"] = table["LabelName"].map(number)
        table = table.dropna(subset="label")
        table["value"] = (2 * table["Confidence"] - 1).astype(np.int8)
        table["label"] = table["label"].astype(np.int32)
        table = table[["ImageID", "label", "value"]].drop_duplicates()
        if part == "train":
            positives = table[(table["value"] == 1) & (table["label"] < len(seen))].groupby("ImageID").size()
            crowded = positives[positives > 40].index
            images -= len(crowded)
            table = table[~table["ImageID"].isin(crowded)]
        parts.append(table)
    table = pd.concat(parts)
    table.to_parquet(index)
    return images, len(table)


def main():
    kind, folder, index = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    start = time.perf_counter()
    images, labels = (nus_wide if kind == "nus-wide" else open_images)(folder, index)
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024 / 1e6
    answer = {"seconds": seconds, "peak_rss_mb": peak, "images": images, "labels": labels, "pandas": pd.__version__}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
