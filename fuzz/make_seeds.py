"""Makes the seeds that are not made by hand: python3 fuzz/make_seeds.py, with target/release/epsilon built.

The program itself makes them, of the small world that bench/small_world.py draws.
"""

import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import small_world  # noqa: E402

SEEDS = ROOT / "fuzz/seeds"
BETWEEN = b"\n=====\n"
SEEN, UNSEEN = b"red\ngreen\nblue\n", b"black\nwhite\n"


def seed(target, name, *parts):
    parts = [part.encode() if isinstance(part, str) else part for part in parts]
    (SEEDS / target).mkdir(parents=True, exist_ok=True)
    (SEEDS / target / name).write_bytes(BETWEEN.join(parts))


def tables():
    seed("table-tsv", "small", "a.png\ttrain\tred,green\nb/c.png\ttest\tblack\nd.png\tval\tred,-blue,white\n", SEEN, UNSEEN)
    seed("table-tsv", "marks", "\ufeffa.png\ttrain\tred, -black\r\nb.png\ttest\t\r\n", SEEN, UNSEEN)
    seed("table-csv", "small", 'path,split,labels\na.png,train,"red,green"\n"b,c.png",test,black\n', SEEN, UNSEEN)
    seed("table-csv", "plain", 'a.png,train,"red,-green"\nb.png,test,\n', SEEN, UNSEEN)
    lines = '{"path": "a.png", "split": "train", "labels": ["red", "-green"]}\n{"path": "b.png", "split": "test", "positive": ["black"], "negative": ["white"]}\n'
    seed("table-jsonl", "small", lines, SEEN, UNSEEN)


def published():
    images = '"images": [{"id": 1, "file_name": "a.jpg", "height": 3}, {"id": 2, "file_name": "b.jpg"}]'
    boxes = '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1.5, 2, 3, 4], "id": 7}, {"image_id": 2, "category_id": 3, "segmentation": {"counts": [1, 2], "size": [3, 4]}, "iscrowd": 1, "id": 8}]'
    kinds = '"categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog", "supercategory": "x"}]'
    whole = f'{{"info": {{"year": 2014}}, {images}, {boxes}, {kinds}}}'
    seed("coco", "small", whole, whole, "cat\n", "dog\n")
    seed("coco", "turned", f"{{{kinds}, {boxes}, {images}}}", f"{{{boxes}, {kinds}, {images}}}", "dog\n", "cat\n")
    xml = "<annotation>\n<folder>VOC2007</folder><filename>000001.jpg</filename>\n<object><name>cat</name><difficult>0</difficult><part><name>head</name></part></object>\n<object><name>dog</name><difficult>1</difficult></object>\n</annotation>\n"
    seed("voc", "small", "000001\n", "000002\n", xml, xml.replace("cat", "cow"), "cat\ncow\n", "dog\n")
    seed("voc", "named", "000001  1\n000002 -1\n", "000002\n", xml, "<?xml version='1.0'?><annotation/>", "cat\n", "dog\n")
    train = "ImageID,Source,LabelName,Confidence\n0001eeaf4aed83f9,verification,/m/0,1\n0001eeaf4aed83f9,machine,/m/1,0\n00075905539074f2,verification,/m/2,0.7\n"
    classes = '/m/0,cat\n/m/1,"dog, old"\n/m/2,cow\n/m/3,tree\n'
    seed("open-images", "small", train, train.replace("0001", "0002"), classes, "/m/0\n/m/1\n", "/m/2\n/m/3\n", "/m/2\n/m/3\n")
    seed("open-images", "places", train, train, classes, "/m/0\n", "\ufeff1\r\n0\r\n", "/m/2\n/m/3\n")
    parts = ["a\r\nb\r\ncat\r\n", "cat\r\n", "x\\1.jpg\r\nx\\2.jpg\r\n", "x\\3.jpg\r\n", "0\t1\t0\t\r\n1\t0\t1\t\r\n", "0\t0\t1\t\r\n", "1\n0\n", "1\n"]
    seed("nus-wide", "small", *parts)


def vectors():
    seed("vectors-text", "glove", "red 0.5 1 -1e-3\ngreen 1 0 0\nred_flower 0 0 1\ncat 1 2 3\na 1 1 1\nb 1 1 0\n\u00e4 1 0 1\n")
    seed("vectors-text", "word2vec", "3 2\nred 0.5 1\ngreen 1 0\ncat 1 1\n")
    seed("vectors-text", "tabs", "red\t0.5\t1\r\ncat\t1\t1\r\n")
    words = [("red", (0.5, 1.0)), ("cat", (1.0, -1.0)), ("\u00e4", (1.0, 0.0))]
    binary = b"3 2\n" + b"".join(word.encode() + b" " + struct.pack("<2f", *values) + b"\n" for word, values in words)
    seed("vectors-word2vec", "lines", binary)
    seed("vectors-word2vec", "packed", binary.replace(b"\ncat", b"cat"))
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"
    header += " " * (118 - 1 - len(header)) + "\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + struct.pack("<4f", 1, 2, 3, 4)
    seed("vectors-npy", "named", array, "red\ncat\n")
    tensors = {"vectors": ([2, 2], [1, 2, 3, 4])}
    seed("vectors-safetensors", "listed", small_world.safetensors(tensors, {}), "red\ncat\n")


def sidecars():
    seed("sidecar", "keywords", small_world.sidecar(["red", "a &amp; b", "&#228;"]))
    head = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    inner = '<rdf:Description rdf:about="" xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:digiKam="http://www.digikam.org/ns/1.0/" xmlns:epsilon="urn:epsilon-zsl:xmp:1.0/"><lr:hierarchicalSubject><rdf:Bag><rdf:li>animal|dog</rdf:li></rdf:Bag></lr:hierarchicalSubject><digiKam:TagsList><rdf:Seq><rdf:li>animal/dog</rdf:li></rdf:Seq></digiKam:TagsList><epsilon:Labels><rdf:Bag><rdf:li epsilon:Name="dog" epsilon:Parents="animal" epsilon:State="proposed" epsilon:Probability="0.5"/><rdf:li rdf:parseType="Resource"><epsilon:Name>cat</epsilon:Name><epsilon:State>approved</epsilon:State></rdf:li></rdf:Bag></epsilon:Labels></rdf:Description></rdf:RDF>'
    seed("sidecar", "labels", head + small_world.sidecar(["red"]).replace("</rdf:RDF>", inner) + '<?xpacket end="w"?>')
    seed("sidecar", "attributes", '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="3" /></rdf:RDF></x:xmpmeta>')


def http(png):
    def whole(head, body, kind):
        lines = f"POST {head} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return lines.encode() + body

    def form(*parts):
        body = b"".join(b'--line\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n" for name, value in parts)
        return body + b"--line--\r\n"

    def get(path):
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

    multipart = "multipart/form-data; boundary=line"
    photo = (b'photo"; filename="a.png', png)
    for target in ["http", "http-library"]:
        seed(target, "form", whole("/v1/predict", form(photo, (b"labels", b"red, purple"), (b"top", b"2")), multipart))
        seed(target, "picture", whole("/v1/predict?labels=red,blue&top=1", png, "image/png"))
        seed(target, "explain", whole("/v1/explain", form(photo, (b"label", b"red")), multipart))
        for path in ["/", "/v1/labels", "/metrics", "/healthz", "/readyz", "/openapi.json"]:
            seed(target, path.replace("/", "get_"), get(path))
    body = b"4\r\nabcd\r\n3;a=b\r\nefg\r\n0\r\nX: y\r\n\r\n"
    seed("http", "chunked", b"POST /v1/predict?top=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    asked = ["photos?sort=doubt&label=red&threshold=0.5&since=2020-01&until=30d&top=5", "photos?words=purple", "photo?id=train-0000.png", "labels", "folders", "thumb?id=train-0001.png", "picture?id=train-0001.png", "photos?like=train-0000.png&folder=."]
    for number, path in enumerate(asked):
        seed("http-library", f"library_{number}", get(f"/v1/library/{path}"))
    said = b'{"photo": "train-0000.png", "decisions": [{"label": "red", "verdict": "approve"}], "corrections": [{"name": "red", "verdict": "approved", "parents": []}]}'
    seed("http-library", "corrections", whole("/v1/library/corrections", said, "application/json"))
    seed("http-library", "explain", whole("/v1/library/explain", b'{"id": "train-0000.png", "label": "red"}', "application/json"))


def made(folder):
    """What the program makes of a small world."""

    def run(*arguments):
        subprocess.run([ROOT / "target/release/epsilon", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    def bytes_of(*names):
        return [(folder / name).read_bytes() for name in names]

    small_world.draw(folder, 8, 12)
    recipe = (folder / "recipe.toml").read_text()
    run("train", "recipe.toml", "--out", "out")
    model = "out/seed-1/model.safetensors"
    seed("model", "ridge.safetensors", *bytes_of(model))
    run("bundle", model, "--out", "bundle.safetensors")
    seed("model", "bundle.safetensors", *bytes_of("bundle.safetensors"))
    run("calibrate", model)
    seed("model", "calibrated.safetensors", *bytes_of(model))
    seed("store", "small", *bytes_of("out/tokens/manifest.json", "out/tokens/tokens-00000.safetensors"))
    seed("recipe", "ridge.toml", recipe)
    run("tag", "photos", "--model", model, "--top", "2", "--xmp")
    subprocess.run(
        [ROOT / "target/release/epsilon", "review", "photos"], cwd=folder, input=b"approve train-0000.png red\nadd train-0001.png animal|dog\nreviewed train-0002.png\n", check=False, stdout=subprocess.DEVNULL
    )
    known = [name for name in ["library.json", "tags.jsonl", "corrections.jsonl", "sidecars.jsonl"] if (folder / "photos/.epsilon" / name).exists()]
    seed("library", "small", *bytes_of(*(f"photos/.epsilon/{name}" for name in known)))
    seed("index", "small", *bytes_of(*(f"photos/.epsilon/index/{name}" for name in ["index.json", "rows-0.bin", "ids-0.jsonl"])))
    drawn = [f"train-000{number}.png" for number in range(3)]
    (SEEDS / "photos").mkdir(parents=True, exist_ok=True)
    for name in drawn:
        shutil.copy(folder / name, SEEDS / "photos")
    http((folder / drawn[0]).read_bytes())


def main():
    (SEEDS).mkdir(parents=True, exist_ok=True)
    (SEEDS / "seen.txt").write_bytes(SEEN)
    (SEEDS / "unseen.txt").write_bytes(UNSEEN)
    tables()
    published()
    vectors()
    sidecars()
    seed("scores-csv", "small", "image,cat,dog\na.jpg,0.75,-1e-3\n\"b,c\",0.25,0.125\n", "image,dog,cat\n\"b,c\",1,-1\na.jpg,-1,0\n")
    seed("weights-settings", "vit", *((ROOT / "crates/epsilon-vision/tests/fixtures/backbones/vit" / name).read_bytes() for name in ["config.json", "preprocessor_config.json"]))
    seed("recipe", "table.toml", (ROOT / "recipes/tables/corel5k.toml").read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder) / "world")


if __name__ == "__main__":
    main()
