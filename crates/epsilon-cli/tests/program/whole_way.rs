//! From photographs to ranked labels with every command, in text and in JSON.

use serde_json::Value;

use crate::world::World;

const MODEL: &str = "out/seed-1/model.safetensors";

#[test]
fn every_command_in_turn() {
    let world = World::new();

    let text = world.run("prepare recipe.toml").done();
    assert!(
        text.contains("missing or unreadable: 0 of 36 images"),
        "{text}"
    );
    let counts = world.run("prepare recipe.toml --json").json();
    assert_eq!(counts["bad_images"], Value::Array(vec![]));
    let summary = &counts["summary"];
    assert_eq!(
        (&summary["rows"], &summary["seen"], &summary["unseen"]),
        (&36.into(), &6.into(), &3.into())
    );
    assert_eq!(
        (
            &summary["train"]["with_unseen"],
            &summary["test"]["with_unseen"]
        ),
        (&0.into(), &12.into())
    );

    let text = world.run("extract recipe.toml --out out --verify").done();
    assert!(
        text.contains("36 images, 16 tokens of 64 values each, 0 failed"),
        "{text}"
    );
    let store = world
        .run("extract recipe.toml --out out --verify --json")
        .json();
    assert_eq!(
        (&store["images"], &store["tokens"], &store["dim"]),
        (&36.into(), &16.into(), &64.into())
    );
    assert_eq!(store["failed"], Value::Array(vec![]));

    let text = world.run("train recipe.toml --out out").done();
    let rows = world.run("train recipe.toml --out out --json").json();
    let [row] = rows.as_array().unwrap().as_slice() else {
        panic!("one seed: {rows}")
    };
    assert_eq!((&row["seed"], &row["model"]), (&1.into(), &MODEL.into()));
    assert_figures(&text, &row["figures"], "epsilon");
    assert!(
        text.trim_end().ends_with(&format!("model: {MODEL}")),
        "{text}"
    );
    assert_eq!(world.text("out/seed-1/metrics.jsonl").lines().count(), 1);
    let kept: Value = serde_json::from_str(&world.text("out/seed-1/figures.json")).unwrap();
    assert_eq!(kept, row["figures"]);

    let text = world.run(&format!("eval {MODEL} --protocol sdl")).done();
    let figures = world
        .run(&format!("eval {MODEL} --protocol sdl --json"))
        .json();
    assert_figures(&text, &figures, "sdl");
    let again = world.run(&format!("eval {MODEL} --json")).json();
    assert_eq!(
        again, row["figures"],
        "the recipe's protocol gives the training's figures"
    );
}

/// Protocol and counts of the JSON, and its mAP, stand in the text.
fn assert_figures(text: &str, figures: &Value, protocol: &str) {
    assert!(text.contains(&format!("protocol {protocol}\n")), "{text}");
    let row = |name: &str| {
        text.lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap_or_else(|| panic!("no {name}: {text}"))
    };
    for (part, labels) in [("zsl", 3), ("seen", 6), ("gzsl", 9)] {
        let part = &figures[part];
        assert_eq!(part["protocol"], protocol);
        assert_eq!(part["per_label"].as_array().unwrap().len(), labels);
        let count = |key: &str| part[key].as_u64().unwrap();
        let kept = format!("{} of {}", count("images_kept"), count("images_total"));
        assert!(row("images kept").contains(&kept), "{kept}: {text}");
        let map = format!("{:.1}", 100.0 * part["map"].as_f64().unwrap());
        assert!(row("mAP").contains(&map), "{map}: {text}");
    }
}

#[test]
fn photographs_are_ranked_for_own_and_for_new_words() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let photos = "test-0024.jpg test-0025.png";

    // The model's own labels, seen and unseen ones.
    let text = world
        .run(&format!("predict --model {MODEL} {photos} --top 9"))
        .done();
    let ranked = world
        .run(&format!("predict --model {MODEL} {photos} --top 9 --json"))
        .json();
    assert_predictions(&text, &ranked, &["test-0024.jpg", "test-0025.png"], 9);
    let marked: Vec<&str> = unseen(&ranked[0]);
    assert_eq!(marked.len(), 3);
    assert!(
        ["cyan", "magenta", "orange"]
            .iter()
            .all(|name| marked.contains(name)),
        "{marked:?}"
    );

    // Words it never heard of, in upper case, joined from words, and one it was trained on.
    world.write("words.txt", "# a comment\npurple\nBrown\ndark grey\nred\n");
    world.write(
        "vectors-too.txt",
        world.text("vectors.txt") + "dark 0.1 0.1 0.1 0.4\n",
    );
    let arguments = format!(
        "predict --model {MODEL} test-0026.png --labels words.txt --vectors vectors-too.txt"
    );
    let text = world.run(&arguments).done();
    let ranked = world.run(&format!("{arguments} --json")).json();
    assert_predictions(&text, &ranked, &["test-0026.png"], 4);
    let mut marked = unseen(&ranked[0]);
    marked.sort_unstable();
    assert_eq!(marked, ["Brown", "dark grey", "purple"]);

    // Without --vectors the recipe's file serves; --top cuts.
    world.write("words.txt", "purple\ngrey\nbrown\n");
    let ranked = world
        .run(&format!(
            "predict --model {MODEL} test-0026.png --labels words.txt --top 2 --json"
        ))
        .json();
    assert_eq!(ranked[0]["labels"].as_array().unwrap().len(), 2);

    // How a word finds its vector.
    world.write("words.txt", "purple\nDark grey\n");
    let text = world
        .run("embed --labels words.txt --vectors vectors-too.txt --out found.txt")
        .done();
    assert!(
        text.contains("Dark grey: mean of `dark`, `grey`") && text.contains("2 labels, 4 wide"),
        "{text}"
    );
    let rows = world
        .run("embed --labels words.txt --vectors vectors-too.txt --json")
        .json();
    assert_eq!(rows[0]["found"], "exact");
    assert_eq!(
        rows[1]["found"]["mean"],
        serde_json::json!(["dark", "grey"])
    );
    assert_eq!(world.text("found.txt").lines().count(), 2);
}

/// Text and JSON tell the same ranking, scores descending.
fn assert_predictions(text: &str, ranked: &Value, photos: &[&str], labels: usize) {
    let mut lines = text.lines();
    let ranked = ranked.as_array().unwrap();
    assert_eq!(ranked.len(), photos.len());
    for (prediction, photo) in ranked.iter().zip(photos) {
        assert_eq!(prediction["photo"], *photo);
        assert_eq!(lines.next(), Some(*photo));
        let entries = prediction["labels"].as_array().unwrap();
        assert_eq!(entries.len(), labels);
        let mut last = f64::INFINITY;
        for entry in entries {
            let (name, score) = (
                entry["name"].as_str().unwrap(),
                entry["score"].as_f64().unwrap(),
            );
            assert!(score <= last);
            last = score;
            let line = lines.next().unwrap();
            assert!(
                line.contains(&format!(" {name} ")) && line.contains(&format!("{score:.4}")),
                "{name} {score}: {line}"
            );
            assert_eq!(line.ends_with("  unseen"), entry["seen"] == false, "{line}");
        }
    }
    assert_eq!(lines.next(), None);
}

/// Names of a photograph's labels that are marked unseen.
fn unseen(prediction: &Value) -> Vec<&str> {
    let entries = prediction["labels"].as_array().unwrap().iter();
    entries
        .filter(|entry| entry["seen"] == false)
        .map(|entry| entry["name"].as_str().unwrap())
        .collect()
}

/// Several machines share an extraction: the merged parts train to the model of the whole.
#[test]
fn parts_extracted_apart_train_as_the_whole() {
    let world = World::new();
    world.run("train recipe.toml --out whole").done();
    for part in ["2/3", "1/3", "3/3"] {
        let extract = format!("extract recipe.toml --out parts --shard {part}");
        world.run(&extract).done();
    }
    let parts = |which: &[usize]| {
        let folders = which.iter().map(|i| format!("parts/tokens-{i}-of-3 "));
        let folders: String = folders.collect();
        world.run(&format!("store merge {folders}--out parts/tokens"))
    };
    parts(&[1, 3]).refused(&["of 3 parts one is missing: 2"]);
    let merged = parts(&[3, 1, 2]).done();
    assert_eq!(merged, "parts/tokens: 36 images of 3 parts, 0 failed\n");
    world.run("train recipe.toml --out parts").done();
    let model =
        |out: &str| std::fs::read(world.path(out).join("seed-1/model.safetensors")).unwrap();
    assert!(model("parts") == model("whole"));
    let wrong = world.run("extract recipe.toml --shard 4/3");
    wrong.refused(&["`4/3` is no part"]);
}
