//! A recipe with an anchor: the backbone's own classes as an additional score, from training to ranked words.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::backbones::put;
use crate::export::export_agrees;
use crate::world::World;

/// The classes of the network, in its order.
const CLASSES: &str = "cyan, light blue\nred\ndark-magenta\ngreen\nyellow\nblack\n";
const MODEL: &str = "out/seed-1/model.safetensors";

/// A world whose backbone is a classifier of six classes; one unseen colour is a class by name and one by a last word.
fn with_classes(anchor: &str) -> World {
    let world = World::of(16, 8);
    put(&world, "timm_gap.safetensors", "net.safetensors");
    world.write("classes.txt", CLASSES);
    world.edit("recipe.toml", "backbone.safetensors", "net.safetensors");
    world.edit(
        "recipe.toml",
        "kind = \"epsilon\"\ngroups = 2",
        "kind = \"fast0tag\"\nhidden = [8]",
    );
    let recipe = world.text("recipe.toml");
    world.write(
        "recipe.toml",
        format!("{recipe}\n[anchor]\nclasses = \"classes.txt\"\n{anchor}"),
    );
    world
}

/// Writes the anchor's own vectors, wider than the labels' vectors.
fn own_words(world: &World) {
    let wider = |line: &str| format!("{line} 0.25\n");
    let words: String = world.text("vectors.txt").lines().map(wider).collect();
    world.write("words.txt", words + "light 0 0 1 0 1\ndark 1 0 0 0 1\n");
}

/// The scores of each label for a photograph.
fn scores(world: &World, labels: &str) -> BTreeMap<String, f64> {
    let ranked = world.run(&format!(
        "predict test-0017.png --model {MODEL} {labels} --top 99 --json"
    ));
    let ranked = ranked.json();
    let labels = ranked[0]["labels"].as_array().unwrap().iter();
    let score = |label: &Value| {
        let name = label["name"].as_str().unwrap().to_string();
        (name, label["score"].as_f64().unwrap())
    };
    labels.map(score).collect()
}

#[test]
fn figures_say_that_the_backbones_classes_are_known() {
    let world = with_classes("weight = 1.0");
    let text = world.run("train recipe.toml --out out").done();
    let expected = "backbone classes known: 2 of 3 unseen labels are classes of the backbone (cyan, magenta); ZSL mAP of the 1 others";
    assert!(text.contains(expected), "{text}");
    assert!(
        text.contains("protocol epsilon, backbone classes known"),
        "{text}"
    );
    let figures = world.run(&format!("eval {MODEL} --json")).json();
    let classes = &figures["backbone-classes"];
    assert_eq!(classes["known"], serde_json::json!(["cyan", "magenta"]));
    let per_label = figures["zsl"]["per_label"].as_array().unwrap().iter();
    let orange = per_label.filter(|label| label["column"] == 8);
    let orange: Vec<&Value> = orange.map(|label| &label["average_precision"]).collect();
    assert_eq!(
        (&classes["others"], vec![&classes["others-map"]]),
        (&1.into(), orange)
    );
    let kept: Value = serde_json::from_str(&world.text("out/seed-1/figures.json")).unwrap();
    assert_eq!(kept, figures);
    let all = world.run(&format!("eval {MODEL} --protocol all")).done();
    assert_eq!(all.matches("2 of 3 unseen labels").count(), 7, "{all}");

    // A label's score does not depend on what else is asked for.
    let own = scores(&world, "");
    let asked = scores(&world, "--labels orange,purple,red");
    for name in ["orange", "red"] {
        assert!((own[name] - asked[name]).abs() < 1e-4, "{own:?} {asked:?}");
    }
    // Without the anchor's weight, or without an anchor, the figures say nothing of classes.
    world.edit("recipe.toml", "weight = 1.0", "weight = 0.0");
    world.run("train recipe.toml --out without").done();
    let without = world
        .run("eval without/seed-1/model.safetensors --json")
        .json();
    assert_ne!(without["gzsl"]["map"], figures["gzsl"]["map"]);
    assert!(
        without.get("backbone-classes").is_none(),
        "an anchor without weight adds nothing"
    );
    let recipe = world.text("recipe.toml");
    let (plain, _) = recipe.split_once("[anchor]").unwrap();
    world.write("recipe.toml", plain);
    let text = world.run("train recipe.toml --out plain").done();
    assert!(!text.contains("backbone classes"), "{text}");
}

/// A training along with an anchor is another one where the anchor's classes have other names.
#[test]
fn a_checkpoint_of_another_anchor() {
    let world = with_classes("trained = true\nweight = 1.0");
    world.run("train recipe.toml --out out").done();
    // How much it counts where images are scored has no part in the training.
    world.edit("recipe.toml", "weight = 1.0", "weight = 0.5");
    world.run("train recipe.toml --out out --resume").done();
    world.write("classes.txt", CLASSES.replace("red", "brown"));
    let resumed = world.run("train recipe.toml --out out --resume");
    resumed.refused(&["last.safetensors", "anchor's values"]);
}

/// A library is searched for words that it was tagged with and for others, and the scores are those of `predict`.
#[test]
fn a_library_of_an_anchored_model_is_searched() {
    let world = with_classes("trained = true\nweight = 1.0\nvectors = \"words.txt\"");
    world.write("words.txt", world.text("vectors.txt"));
    world.run("train recipe.toml --out out").done();
    fs::create_dir(world.path("photos")).unwrap();
    let table = world.text("labels.tsv");
    let tested = table.lines().filter(|line| line.contains("\ttest\t"));
    let photos: Vec<&str> = tested.filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(photos.len(), 8);
    for photo in &photos {
        fs::copy(world.path(photo), world.path(format!("photos/{photo}"))).unwrap();
    }
    let tag = format!("tag photos --model {MODEL} --labels red,orange,purple --top 2");
    world.run(&tag).done();
    assert!(!world.run(&tag).done().contains("test-"), "all are known");
    for word in ["red", "cyan", "brown"] {
        let found = world.run(&format!("search photos {word} --json")).json();
        let found: Vec<(&str, f64)> = (found.as_array().unwrap().iter())
            .map(|hit| {
                (
                    hit["photo"].as_str().unwrap(),
                    hit["score"].as_f64().unwrap(),
                )
            })
            .collect();
        assert_eq!(found.len(), photos.len());
        let exact = |photo: &str| {
            let ranked = world
                .run(&format!(
                    "predict {photo} --model {MODEL} --labels {word} --json"
                ))
                .json();
            ranked[0]["labels"][0]["score"].as_f64().unwrap()
        };
        let exact: Vec<f64> = found.iter().map(|(photo, _)| exact(photo)).collect();
        for ((photo, score), exact) in found.iter().zip(&exact) {
            assert!((score - exact).abs() < 0.03, "{photo} {score} {exact}");
        }
        assert!(exact.is_sorted_by(|a, b| a >= &(b - 0.06)), "{exact:?}");
    }
    // Another program finds the same by dot products.
    world.run("index export photos --to out.jsonl").done();
    let points = export_agrees(&world, "red cyan brown", |best| best);
    let width = points[0]["vector"][0].as_array().unwrap().len();
    assert_eq!(width, 4 + 6 + 1, "label vectors, classes, a constant");
    // Other words need the anchor's vectors.
    fs::remove_file(world.path("words.txt")).unwrap();
    world.run("search photos orange").done();
    world
        .run("search photos grey")
        .refused(&["anchor", "words.txt"]);
    let index = world.path("photos/.epsilon/index");
    assert!(index.is_dir(), "{index:?}");
}

#[test]
fn an_anchor_is_trained_along_and_the_model_needs_no_other_file() {
    let world = with_classes("trained = true\nweight = 0.0\nvectors = \"words.txt\"");
    own_words(&world);
    world.run("train recipe.toml --out out").done();
    let bytes = fs::read(world.path(MODEL)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let beta = tensors.tensor("weight.anchor.beta").unwrap();
    let beta = f32::from_le_bytes(beta.data().try_into().unwrap());
    assert!(beta.is_finite() && beta != 1.0, "{beta}");
    let before = scores(&world, "--labels orange,purple");
    // The classes and the own labels' vectors are in the file; other words need theirs.
    fs::remove_file(world.path("classes.txt")).unwrap();
    let words = fs::read(world.path("words.txt")).unwrap();
    fs::remove_file(world.path("words.txt")).unwrap();
    let own = scores(&world, "");
    assert!((own["orange"] - before["orange"]).abs() < 1e-4);
    world
        .run(&format!(
            "predict test-0017.png --model {MODEL} --labels purple"
        ))
        .refused(&["anchor", "words.txt"]);
    fs::write(world.path("words.txt"), words).unwrap();
    assert_eq!(scores(&world, "--labels orange,purple"), before);
    // Trained again with the same seed it is the same file.
    world.write("classes.txt", CLASSES);
    world.run("train recipe.toml --out again").done();
    let again = fs::read(world.path("again/seed-1/model.safetensors")).unwrap();
    assert!(again == bytes);
}

#[test]
fn a_table_marks_the_rows_and_lists_the_classes() {
    let world = with_classes("weight = 1.0");
    let recipe = world.text("recipe.toml");
    let (shared, _) = recipe.split_once("[anchor]").unwrap();
    let (before, rest) = shared.split_once("[method]").unwrap();
    let (_, rest) = rest.split_once("[training]").unwrap();
    let anchor = "anchor = { classes = \"classes.txt\", weight = 1.0 }";
    world.write(
        "table.toml",
        format!(
            "{before}[training]\nvalidation = 0.25{rest}\n[[row]]\nname = \"Alone\"\nmethod = {{ kind = \"ridge\" }}\n[[row]]\nname = \
             \"Anchored\"\nmethod = {{ kind = \"ridge\" }}\n{anchor}\ngrid = {{ \"anchor.weight\" = [0.5, 1.0] }}\n"
        ),
    );
    let ended = world.run("bench table.toml --out table");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let table = world.text("table/table.md");
    assert!(
        table.contains("| Anchored (backbone classes known) |"),
        "{table}"
    );
    assert!(table.contains("| Alone |"), "{table}");
    assert!(
        table.contains("2 of the 3 unseen labels are among them: cyan, magenta."),
        "{table}"
    );
    assert!(table.contains("ZSL mAP of the 1 other labels"), "{table}");
}

/// The vector of a label that no class is named by decides its scores alone.
#[test]
fn a_table_is_made_anew_where_a_labels_vector_in_the_anchors_file_changed() {
    let world = with_classes("");
    own_words(&world);
    let recipe = world.text("recipe.toml");
    let (shared, _) = recipe.split_once("[method]").unwrap();
    world.write(
        "table.toml",
        format!(
            "{shared}[anchor]\nclasses = \"classes.txt\"\nvectors = \"words.txt\"\nweight = 1.0\n[evaluation]\nk-zsl = [1]\nk-gzsl = [1]\n[[row]]\nname = \"Ridge\"\nmethod = \
             {{ kind = \"ridge\" }}\n"
        ),
    );
    let figures = |out: &str| {
        let lines = world
            .run(&format!("bench table.toml --out {out} --json"))
            .json();
        lines[0]["trained"][0]["figures"].clone()
    };
    let before = figures("out");
    let words = world.text("words.txt");
    let moved = words.lines().map(|line| match line.starts_with("orange ") {
        true => "orange 0.0 0.1 0.9 -0.5 0.3\n".into(),
        false => format!("{line}\n"),
    });
    world.write("words.txt", moved.collect::<String>());
    let (after, fresh) = (figures("out"), figures("fresh"));
    assert_ne!(before, after);
    assert_eq!(after, fresh);
}

#[test]
fn an_anchor_that_cannot_be_is_refused_before_anything_runs() {
    let world = with_classes("weight = 1.0");
    let refused = |from: &str, to: &str, parts: &[&str]| {
        let recipe = world.text("recipe.toml");
        world.edit("recipe.toml", from, to);
        world.run("train recipe.toml --out out").refused(parts);
        assert!(!world.path("out/tokens").exists(), "{to}");
        world.write("recipe.toml", recipe);
    };
    refused("weight = 1.0", "wieght = 1.0", &["wieght", "`weight`"]);
    refused(
        "weight = 1.0",
        "weight = -1.0",
        &["[anchor]", "weight = -1"],
    );
    refused(
        "classes = \"classes.txt\"",
        "",
        &["[anchor]", "6 classes", "`classes`"],
    );
    refused(
        "classes.txt",
        "unseen.txt",
        &["unseen.txt", "3 lines", "6 classes"],
    );
    refused(
        "classes.txt",
        "nowhere.txt",
        &["anchor.classes", "nowhere.txt"],
    );
    refused(
        "net.safetensors",
        "backbone.safetensors",
        &["[anchor]", "no classifier"],
    );
    let ridge = "kind = \"ridge\"";
    let with_ridge = world
        .text("recipe.toml")
        .replace("kind = \"fast0tag\"\nhidden = [8]", ridge);
    world.write(
        "ridge.toml",
        with_ridge.replace("weight = 1.0", "trained = true"),
    );
    world
        .run("train ridge.toml")
        .refused(&["trained = true", "ridge"]);
    world.write("others.txt", "bird\nfish\ncat\ndog\nhorse\ncow\n");
    refused(
        "classes.txt",
        "others.txt",
        &["[anchor]", "0 of the 6 classes", "`vectors`"],
    );

    // Tokens of one backbone and classes of another.
    world.run("extract recipe.toml --out out").done();
    let mut bytes = fs::read(world.path("net.safetensors")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    world.write("net.safetensors", bytes);
    world.edit(
        "recipe.toml",
        "[method]",
        "[features]\nstore = \"out/tokens\"\n\n[method]",
    );
    world
        .run("train recipe.toml --out other")
        .refused(&["[anchor]", "other weights"]);
}
