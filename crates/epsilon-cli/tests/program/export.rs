//! `epsilon index`: a library's vectors in other programs' forms give the scores of `epsilon search`.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::world::World;

/// A photograph's score by dot products.
fn best(point: &Value, query: &[f64]) -> f64 {
    let rows = point["vector"].as_array().unwrap().iter();
    let products = rows.map(|row| {
        let row: Vec<f64> = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(row.len(), query.len());
        row.iter().zip(query).map(|(a, b)| a * b).sum::<f64>()
    });
    products.fold(f64::NEG_INFINITY, f64::max)
}

/// The lines of a text as JSON.
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// Points and queries of the library `photos` give what a search gives, word by word; `score` is made of the best product.
pub(crate) fn export_agrees(world: &World, words: &str, score: impl Fn(f64) -> f64) -> Vec<Value> {
    let points = lines(&world.text("out.jsonl"));
    let queries = world.run(&format!("index query photos {words}")).done();
    let queries = lines(&queries);
    assert_eq!(queries.len(), words.split(' ').count());
    for (query, words) in queries.iter().zip(words.split(' ')) {
        assert_eq!(query["words"], words);
        let vector: Vec<f64> = serde_json::from_value(query["vector"].clone()).unwrap();
        let scores: BTreeMap<&str, f64> = points
            .iter()
            .map(|point| {
                let path = point["payload"]["path"].as_str().unwrap();
                (path, score(best(point, &vector)))
            })
            .collect();
        let found = world.run(&format!("search photos {words} --json")).json();
        let found = found.as_array().unwrap();
        assert_eq!(found.len(), scores.len());
        for photo in found {
            let (expected, path) = (
                photo["score"].as_f64().unwrap(),
                photo["photo"].as_str().unwrap(),
            );
            let difference = (scores[path] - expected).abs();
            assert!(
                difference <= 1e-5 * expected.abs().max(1.0),
                "{photo} {scores:?}"
            );
        }
    }
    points
}

#[test]
fn a_library_is_exported() {
    let world = World::new();
    let model = "out/seed-1/model.safetensors";
    world.run("train recipe.toml --out out").done();
    fs::create_dir_all(world.path("photos/sub")).unwrap();
    for (from, to) in [(24, "a.jpg"), (27, "sub/e.jpg"), (30, "sub/f.jpg")] {
        let from = world.path(format!("test-00{from}.jpg"));
        fs::copy(from, world.path(format!("photos/{to}"))).unwrap();
    }
    world.write("photos/broken.png", b"\x89PNG\r\n\x1a\nno more");
    let tag = format!("tag --model {model} photos --top 2");
    world.run(&tag).partly(&["broken"]);
    let said = world
        .run("index export photos --to out.jsonl")
        .partly(&["failed: broken.png: "]);
    assert_eq!(
        said,
        "out.jsonl: 3 photographs of 2 vectors each, 4 wide; 1 without vectors\nout.collection.json: the collection\n"
    );
    let points = export_agrees(&world, "red purple", |best| best);
    let labels = points[0]["payload"]["labels"].as_array().unwrap();
    assert!(
        labels.len() == 2 && labels[0]["state"] == "automatic",
        "{labels:?}"
    );
    let collection: Value = serde_json::from_str(&world.text("out.collection.json")).unwrap();
    assert_eq!(collection["vectors"]["size"], 4);
    // The same again, and of a library that is named by its own folder.
    let before = world.text("out.jsonl");
    world
        .run("index export photos/.epsilon --to out.jsonl")
        .partly(&["broken"]);
    assert_eq!(
        world.text("out.jsonl"),
        before.replace("photos/.epsilon/../", "photos/")
    );

    let json = world.run("index export photos --to out.parquet --json");
    let json: Value = serde_json::from_str(&json.partly(&["broken.png"])).unwrap();
    assert_eq!(
        (&json["photos"], &json["missing"][0]["photo"]),
        (&3.into(), &"broken.png".into())
    );
    assert_eq!(json["vectors"]["metric"], "dot");
    let bytes = fs::read(world.path("out.parquet")).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    world
        .run("index export photos --to other.data --format parquet")
        .partly(&["broken"]);
    assert!(fs::read(world.path("other.data")).unwrap() == bytes);

    for (arguments, parts) in [
        (
            "export photos --to out.csv",
            &["out.csv", ".parquet", ".jsonl", "--format"][..],
        ),
        ("export photos", &["--to"]),
        ("export photos --to photos", &["photos", "folder"]),
        ("export out --to a.parquet", &["no tagged library"]),
        ("query photos", &["WORDS"]),
        ("query photos heliotrope", &["heliotrope"]),
    ] {
        world.run(&format!("index {arguments}")).refused(parts);
    }
    fs::remove_dir_all(world.path("photos/.epsilon/index")).unwrap();
    world
        .run("index export photos --to a.parquet")
        .refused(&["no index", "epsilon tag"]);
    assert!(!world.path("a.parquet").exists());
}
