"""Searches a library's vectors with Qdrant, in this process (pip install qdrant-edge-py).

    epsilon index export ~/Pictures --to photos.jsonl
    epsilon index query ~/Pictures beach "red flower" > queries.jsonl
    python qdrant_search.py photos.jsonl queries.jsonl

The first run makes a shard beside the points, photos.shard; later ones open it, unless the points are newer. A search compares
the query with every photograph, so the scores are those of `epsilon search`, but for the owner's word: photographs for which the
words were rejected are left out here, too, but those for which they were approved do not come first.
"""

import argparse
import json
import shutil
from pathlib import Path

import qdrant_edge as qdrant

BATCH = 256  # points of an update


def create(points, shard):
    """A shard of the points in a file of JSON lines."""
    about = json.loads(points.with_suffix(".collection.json").read_text())["vectors"]
    assert about["distance"] == "Dot" and about["multivector_config"] == {"comparator": "max_sim"}
    vectors = qdrant.EdgeVectorParams(
        size=about["size"],
        distance=qdrant.Distance.Dot,
        multivector_config=qdrant.MultiVectorConfig(qdrant.MultiVectorComparator.MaxSim),
    )
    # Made beside its place, so that a run that was killed leaves no half of one.
    beside = shard.with_suffix(".part")
    shutil.rmtree(beside, ignore_errors=True)
    new = qdrant.EdgeShard.create(str(beside), qdrant.EdgeConfig(vectors=vectors))
    with points.open(encoding="utf-8") as lines:
        batch = []
        for line in lines:
            batch.append(qdrant.Point(**json.loads(line)))
            if len(batch) == BATCH:
                new.update(qdrant.UpdateOperation.upsert_points(batch))
                batch = []
        new.update(qdrant.UpdateOperation.upsert_points(batch))
    new.close()
    shutil.rmtree(shard, ignore_errors=True)
    beside.rename(shard)


def rejected(words):
    """Photographs whose owner says that this label is not there."""
    named = qdrant.FieldCondition("name", match=qdrant.MatchValue(words))
    state = qdrant.FieldCondition("state", match=qdrant.MatchValue("rejected"))
    return qdrant.NestedCondition("labels", qdrant.Filter(must=[named, state]))


def search(shard, query, top):
    """The best photographs for a line of `epsilon index query`."""
    request = qdrant.QueryRequest(
        limit=top,
        query=qdrant.Query.Nearest([query["vector"]]),
        filter=qdrant.Filter(must_not=[rejected(query["words"])]),
        with_payload=["path"],
        params=qdrant.SearchParams(exact=True),
    )
    return [{"photo": point.payload["path"], "score": point.score} for point in shard.query(request)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", type=Path, help="what `epsilon index export --to NAME.jsonl` wrote")
    parser.add_argument("queries", type=Path, help="what `epsilon index query` printed")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="photographs of a query (default: 10)")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each query")
    args = parser.parse_args()
    place = args.points.with_suffix(".shard")
    if not place.exists() or place.stat().st_mtime < args.points.stat().st_mtime:
        create(args.points, place)
    shard = qdrant.EdgeShard.load(str(place))
    for line in args.queries.read_text(encoding="utf-8").splitlines():
        query = json.loads(line)
        found = search(shard, query, args.top)
        if args.json:
            print(json.dumps({"words": query["words"], "found": found}))
            continue
        print(query["words"])
        for rank, hit in enumerate(found, 1):
            print(f"{rank:>4}  {hit['score']:>8.4f}  {hit['photo']}")
    shard.close()


if __name__ == "__main__":
    main()
