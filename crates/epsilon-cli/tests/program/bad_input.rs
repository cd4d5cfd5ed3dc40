//! Every kind of bad input: named with file, line, key or label; no panic; nothing written before is lost.

use std::fs;

use serde_json::Value;

use crate::world::{World, assert_same_files, backbone, network, shapes};

const MODEL: &str = "out/seed-1/model.safetensors";

/// All commands that begin with the recipe refuse it with these words.
fn refused_everywhere(world: &World, parts: &[&str]) {
    for verb in ["prepare", "extract", "train"] {
        let out = if verb == "prepare" {
            ""
        } else {
            "--out refused"
        };
        world
            .run(&format!("{verb} recipe.toml {out}"))
            .refused(parts);
    }
    assert!(!world.path("refused").exists(), "nothing was begun");
}

/// The image cannot be read: `prepare` names it, `extract` and `train` name it and go on without it, then and on every
/// later run; `predict` ranks the others.
fn skipped_everywhere(world: &World, image: &str, reason: &str) {
    let out = world.run("prepare recipe.toml").partly(&[image, reason]);
    assert!(
        out.contains("missing or unreadable: 1 of 36 images"),
        "{out}"
    );
    for _ in 0..2 {
        let out = world
            .run("extract recipe.toml --out out")
            .partly(&[image, reason]);
        assert!(
            out.contains("35 images") && out.contains("1 failed"),
            "{out}"
        );
    }
    let ended = world.run("extract recipe.toml --out out --json");
    let store: Value = serde_json::from_str(&ended.partly(&[image])).unwrap();
    assert_eq!(
        (&store["images"], &store["failed"][0]["id"]),
        (&35.into(), &image.into())
    );
    let out = world
        .run("train recipe.toml --out out")
        .partly(&[image, reason]);
    let measured = if image.starts_with("test") {
        "11 of 11"
    } else {
        "12 of 12"
    };
    assert!(out.contains(measured), "{out}");
    let ended = world.run(&format!(
        "predict --model {MODEL} {image} test-0025.png --json"
    ));
    let ranked: Value = serde_json::from_str(&ended.partly(&[image, reason])).unwrap();
    let [only] = ranked.as_array().unwrap().as_slice() else {
        panic!("one photograph: {ranked}")
    };
    assert_eq!(only["photo"], "test-0025.png");
}

#[test]
fn a_missing_image() {
    let world = World::new();
    fs::remove_file(world.path("train-0004.png")).unwrap();
    skipped_everywhere(&world, "train-0004.png", "no such file");
    world
        .run("prepare recipe.toml --quick")
        .partly(&["train-0004.png"]);
}

#[test]
fn a_truncated_jpeg() {
    let world = World::new();
    world.truncate("test-0024.jpg", 0.7);
    skipped_everywhere(&world, "test-0024.jpg", "truncated JPEG");
}

#[test]
fn a_text_file_named_jpg() {
    let world = World::new();
    world.write("train-0003.jpg", "I am no photograph.\n");
    skipped_everywhere(
        &world,
        "train-0003.jpg",
        "not a picture of a kind that is read",
    );
}

#[test]
fn no_image_can_be_read() {
    let world = World::new();
    for name in world
        .text("labels.tsv")
        .lines()
        .filter_map(|line| line.split('\t').next())
    {
        fs::remove_file(world.path(name)).unwrap();
    }
    world
        .run("prepare recipe.toml")
        .partly(&["train-0000.jpg", "16 more"]);
    let out = world
        .run("extract recipe.toml --out out")
        .partly(&["train-0000.jpg", "test-0035.png"]);
    assert!(out.contains(" 0 images"), "{out}");
    let ended = world.run("train recipe.toml --out out");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("none of the data set's train images"),
        "{ended:?}"
    );
}

#[test]
fn an_empty_label_list() {
    let world = World::new();
    world.write("unseen.txt", "\n# none yet\n");
    refused_everywhere(&world, &["unseen.txt", "holds no label name"]);
}

#[test]
fn a_label_in_both_lists() {
    let world = World::new();
    world.write("unseen.txt", world.text("unseen.txt") + "blue\n");
    refused_everywhere(&world, &["`blue`", "seen.txt", "unseen.txt", "both lists"]);
}

#[test]
fn a_label_twice_in_a_list() {
    let world = World::new();
    world.write("seen.txt", world.text("seen.txt") + "blue\n");
    refused_everywhere(&world, &["seen.txt, line 7", "`blue`", "line 3"]);
}

#[test]
fn an_unknown_word() {
    let world = World::new();
    world.edit("seen.txt", "yellow", "yelow");
    world.write("unseen.txt", world.text("unseen.txt") + "xylophone\n");
    refused_everywhere(
        &world,
        &[
            "vectors.txt",
            "`yelow`",
            "nearest: `yellow`",
            "`xylophone`",
            "no word of the file is near",
        ],
    );
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world.write("words.txt", "purple\nbrwon\n");
    world
        .run(&format!(
            "predict --model {MODEL} test-0025.png --labels words.txt"
        ))
        .refused(&["`brwon`", "nearest: `brown`"]);
    world
        .run("embed --labels words.txt --vectors vectors.txt")
        .refused(&["`brwon`", "nearest: `brown`"]);
}

#[test]
fn a_vector_with_nan() {
    let world = World::new();
    world.edit("vectors.txt", "blue 0.078", "blue NaN");
    refused_everywhere(&world, &["vectors.txt, line 3", "`blue`", "NaN"]);
}

#[test]
fn vectors_of_mixed_width() {
    let world = World::new();
    world.edit("vectors.txt", "blue 0.078 ", "blue ");
    refused_everywhere(&world, &["vectors.txt, line 3", "3 values", "4 values"]);
}

#[test]
fn vectors_of_another_width_than_the_models() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world.write("words.txt", "purple\n");
    world.write("wide.txt", "purple 1 2 3 4 5\n");
    let ended = world.run(&format!(
        "predict --model {MODEL} test-0025.png --labels words.txt --vectors wide.txt"
    ));
    ended.refused(&["5 wide", "4 wide"]);
}

#[test]
fn backbone_weights_of_a_wrong_shape() {
    let world = World::new();
    let mut wrong = shapes(64, 8, 17, 2, 128);
    let place = wrong
        .iter()
        .position(|(name, _)| name == "blocks.1.attn.qkv.weight")
        .unwrap();
    wrong[place].1 = vec![191, 64];
    wrong.retain(|(name, _)| name != "norm.bias");
    world.write("backbone.safetensors", network(1, &wrong));
    let parts = [
        "backbone.safetensors",
        "blocks.1.attn.qkv.weight",
        "[191, 64]",
        "[192, 64]",
        "norm.bias: missing",
    ];
    for verb in ["extract", "train"] {
        world
            .run(&format!("{verb} recipe.toml --out out"))
            .refused(&parts);
    }
    assert!(!world.path("out/tokens").exists());
}

#[test]
fn backbone_weights_that_are_none() {
    for (bytes, part) in [
        (&b""[..], "backbone.safetensors"),
        (b"just words", "not a complete safetensors file"),
    ] {
        let world = World::new();
        world.write("backbone.safetensors", bytes);
        world
            .run("extract recipe.toml --out out")
            .refused(&["backbone.safetensors", part]);
    }
    let world = World::new();
    world.truncate("backbone.safetensors", 0.9);
    world
        .run("extract recipe.toml --out out")
        .refused(&["backbone.safetensors", "not a complete safetensors file"]);
}

#[test]
fn a_mistyped_key() {
    for (key, wrong) in [
        ("epochs", "epcohs"),
        ("groups", "gruops"),
        ("vectors", "vectros"),
        ("[training]", "[trainning]"),
    ] {
        let world = World::new();
        world.edit("recipe.toml", key, wrong);
        let nearest = format!("did you mean `{}`?", key.trim_matches(['[', ']']));
        refused_everywhere(
            &world,
            &["recipe.toml", wrong.trim_matches(['[', ']']), &nearest],
        );
    }
}

#[test]
fn bad_values_in_a_recipe() {
    for (from, to, parts) in [
        ("epochs = 1", "epochs = 0", ["epochs = 0", "give 1 to"]),
        ("batch = 8", "batch = -1", ["recipe.toml", "-1"]),
        ("1e-3", "nan", ["learning-rate", "above 0"]),
        (
            "protocol = \"epsilon\"",
            "protocol = \"lesa\"",
            ["protocol", "lesa-nus"],
        ),
        ("seeds = [1]", "seeds = []", ["recipe.toml", "seeds"]),
        ("[data]", "[data", ["recipe.toml", "line 3"]),
        (
            "kind = \"epsilon\"",
            "kind = \"epsiln\"",
            ["recipe.toml", "epsiln"],
        ),
    ] {
        let world = World::new();
        world.edit("recipe.toml", from, to);
        refused_everywhere(&world, &parts);
    }
    for (from, to, part) in [
        ("groups = 2", "groups = 0", "groups = 0"),
        ("groups = 2", "groups = 2\nheads = 3", "heads = 3"),
    ] {
        let world = World::new();
        world.edit("recipe.toml", from, to);
        world.run("train recipe.toml --out out").refused(&[part]);
        assert!(
            !world.path("out/tokens").exists(),
            "found before anything is extracted"
        );
    }
}

#[test]
fn a_recipe_that_names_a_missing_file() {
    for (key, name) in [
        ("vectors", "vectors.txt"),
        ("weights", "backbone.safetensors"),
        ("table", "labels.tsv"),
        ("seen", "seen.txt"),
    ] {
        let world = World::new();
        fs::remove_file(world.path(name)).unwrap();
        refused_everywhere(&world, &["recipe.toml", key, name, "no such file"]);
    }
    let world = World::new();
    world.edit("recipe.toml", "vectors.txt", ".");
    world
        .run("prepare recipe.toml")
        .refused(&["no text tower there", "file of word vectors"]);
}

#[test]
fn bad_lines_of_a_table() {
    for (from, to, parts) in [
        (
            "\ttrain\t",
            "\tvalidation\t",
            ["labels.tsv, line 1", "validation"],
        ),
        (
            "train-0001.png",
            "train-0000.jpg",
            ["labels.tsv, line 2", "line 1"],
        ),
        (
            "train-0001.png\ttrain\t",
            "train-0001.png ",
            ["labels.tsv, line 2", "columns"],
        ),
    ] {
        let world = World::new();
        world.edit("labels.tsv", from, to);
        refused_everywhere(&world, &parts);
    }
    let world = World::new();
    world.write("labels.tsv", "");
    refused_everywhere(&world, &["labels.tsv", "no row"]);
}

#[test]
fn a_store_of_another_backbone() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let before = world.files("out");
    world.write("backbone.safetensors", backbone(2));
    for verb in ["extract", "train"] {
        world
            .run(&format!("{verb} recipe.toml --out out"))
            .refused(&["out/tokens", "another backbone"]);
    }
    assert_same_files(&world.files("out"), &before);
}

#[test]
fn a_store_of_other_images() {
    let world = World::new();
    world.run("extract recipe.toml --out out").done();
    let before = world.files("out");
    world.keep_lines("labels.tsv", |line| !line.starts_with("train-0002"));
    world
        .run("extract recipe.toml --out out")
        .refused(&["out/tokens", "another list of images"]);
    assert_same_files(&world.files("out"), &before);
}

#[test]
fn a_damaged_store() {
    let shard = "out/tokens/tokens-00000.safetensors";
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let good = fs::read(world.path(shard)).unwrap();
    world.truncate(shard, 0.5);
    for arguments in [
        "train recipe.toml --out out".into(),
        format!("eval {MODEL}"),
    ] {
        world.run(&arguments).refused(&[
            "tokens-00000.safetensors",
            "not a complete safetensors file",
        ]);
    }
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    world.write(shard, flipped);
    world
        .run("extract recipe.toml --out out --verify")
        .refused(&["tokens-00000.safetensors", "checksum"]);
    fs::remove_file(world.path(shard)).unwrap();
    world
        .run(&format!("eval {MODEL}"))
        .refused(&["tokens-00000.safetensors", "missing"]);
    world.write(shard, good);
    world.run(&format!("eval {MODEL}")).done();
    world.truncate("out/tokens/manifest.json", 0.5);
    world
        .run(&format!("eval {MODEL}"))
        .refused(&["manifest.json"]);
    world
        .run(&format!("eval {MODEL} --store nowhere"))
        .refused(&["nowhere", "--store"]);
}

#[test]
fn a_model_with_another_backbone() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world.write("other.safetensors", backbone(2));
    let ended = world.run(&format!(
        "predict --model {MODEL} test-0025.png --backbone other.safetensors"
    ));
    ended.refused(&["backbone's weights differ", "other", "backbone"]);

    world.write(
        "other.toml",
        world
            .text("recipe.toml")
            .replace("backbone.safetensors", "other.safetensors"),
    );
    world.run("extract other.toml --out other").done();
    world
        .run(&format!("eval {MODEL} --store other/tokens"))
        .refused(&["backbone's weights differ"]);

    fs::remove_file(world.path("backbone.safetensors")).unwrap();
    let ended = world.run(&format!("predict --model {MODEL} test-0025.png"));
    ended.refused(&["backbone.safetensors", "no such weight file", "--backbone"]);
}

#[test]
fn a_model_that_is_cut_off_or_none() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let good = fs::read(world.path(MODEL)).unwrap();
    let header = 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    for length in [0, 7, 8, header / 2, header, good.len() / 2, good.len() - 1] {
        world.write("cut.safetensors", &good[..length]);
        world
            .run("predict --model cut.safetensors test-0025.png")
            .refused(&["cut.safetensors"]);
        world
            .run("eval cut.safetensors --store out/tokens")
            .refused(&["cut.safetensors"]);
    }
    world
        .run("predict --model recipe.toml test-0025.png")
        .refused(&["recipe.toml", "not a complete safetensors file"]);
    world
        .run("predict --model . test-0025.png")
        .refused(&["weight files there"]);
    // A network that has neither a text tower nor a classifier.
    let ended = world.run("predict --model backbone.safetensors test-0025.png");
    ended.refused(&["backbone.safetensors", "classifier's head"]);
}

#[test]
fn a_model_whose_sizes_are_not_its_backbones() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let mut bytes = fs::read(world.path(MODEL)).unwrap();
    // The card is JSON within the header's JSON, so its quotes are escaped; the method's sizes come before the backbone's.
    let from = br#"\"tokens\":16"#;
    let place = bytes
        .windows(from.len())
        .position(|part| part == from)
        .unwrap();
    bytes[place + from.len() - 1] = b'7';
    world.write("lie.safetensors", bytes);
    world
        .run("predict --model lie.safetensors test-0025.png")
        .refused(&["16 of 64", "17 tokens of 64"]);
    world
        .run("eval lie.safetensors --store out/tokens")
        .refused(&["16 of 64", "17 tokens of 64"]);
}

#[test]
fn a_truncated_checkpoint() {
    let checkpoint = "out/seed-1/checkpoints/last.safetensors";
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let good = fs::read(world.path(checkpoint)).unwrap();
    let model = fs::read(world.path(MODEL)).unwrap();
    let metrics = world.text("out/seed-1/metrics.jsonl");
    for length in [0, 8, 100, good.len() / 2, good.len() - 1] {
        world.write(checkpoint, &good[..length]);
        world
            .run("train recipe.toml --out out --resume")
            .refused(&["last.safetensors"]);
        assert!(
            fs::read(world.path(MODEL)).unwrap() == model,
            "the model stays"
        );
        assert_eq!(world.text("out/seed-1/metrics.jsonl"), metrics);
    }
    world.write(checkpoint, &good);
    world.run("train recipe.toml --out out --resume").done();
    assert!(fs::read(world.path(MODEL)).unwrap() == model);
}

#[test]
fn a_checkpoint_of_another_training() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let before = world.files("out/seed-1/checkpoints");
    world.edit("recipe.toml", "1e-3", "2e-3");
    world.run("train recipe.toml --out out --resume").refused(&[
        "last.safetensors",
        "other settings",
        "training",
    ]);
    assert_same_files(&world.files("out/seed-1/checkpoints"), &before);
}

/// Two training images have each other's labels now: what was trained before is not this training.
#[test]
fn a_checkpoint_of_other_labels() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let before = world.files("out/seed-1/checkpoints");
    let table = world.text("labels.tsv");
    let labels = |line: &str| line.rsplit_once('\t').unwrap().1.to_string();
    let lines: Vec<&str> = table.lines().collect();
    let other = lines
        .iter()
        .position(|line| labels(line) != labels(lines[0]));
    let (one, other) = (lines[0], lines[other.unwrap()]);
    world.edit(
        "labels.tsv",
        one,
        &one.replace(&labels(one), &labels(other)),
    );
    world.edit(
        "labels.tsv",
        other,
        &other.replace(&labels(other), &labels(one)),
    );
    world
        .run("train recipe.toml --out out --resume")
        .refused(&["last.safetensors", "images, labels and vectors"]);
    assert_same_files(&world.files("out/seed-1/checkpoints"), &before);
    world.write("labels.tsv", table);
    world.run("train recipe.toml --out out --resume").done();
}

/// A method that learns from unseen labels' vectors is another training where these are others.
#[test]
fn a_checkpoint_of_other_unseen_labels() {
    let world = World::new();
    let generated = "kind = \"gen-mlzsl\"\nhidden = 8\nheads = 1\nepochs = 1\nsamples = 2";
    world.edit("recipe.toml", "kind = \"epsilon\"\ngroups = 2", generated);
    world.run("train recipe.toml --out out").done();
    world.edit("vectors.txt", "cyan 0.078", "cyan 0.778");
    let resumed = world.run("train recipe.toml --out out --resume");
    resumed.refused(&["last.safetensors", "unseen labels"]);
}

/// Early stopping by validation images of which there are none, or none with a label of the training, would never stop.
#[test]
fn early_stopping_by_nothing() {
    let world = World::new();
    world.edit(
        "recipe.toml",
        "epochs = 1",
        "epochs = 2\nvalidation = 0.01\npatience = 1",
    );
    world.run("train recipe.toml --out out").refused(&[
        "patience",
        "validation = 0.01",
        "greater share",
    ]);
}

#[test]
fn more_lists_than_fit() {
    let world = World::new();
    let lists = "kind = \"cnn-rnn\"\nbeam = 1001";
    world.edit("recipe.toml", "kind = \"epsilon\"\ngroups = 2", lists);
    let run = world.run("train recipe.toml --out out");
    run.refused(&["beam = 1001", "at most 1000"]);
}

#[test]
fn nothing_to_train_on() {
    let world = World::new();
    world.keep_lines("labels.tsv", |line| line.contains("\ttest\t"));
    world
        .run("train recipe.toml --out out")
        .refused(&["no training image"]);
    assert!(
        !world.path("out").exists(),
        "found before anything is extracted"
    );
    world.run("extract recipe.toml --out out").done();

    // Training images that hold no seen label.
    let world = World::new();
    let table = world.text("labels.tsv");
    let unlabelled = table
        .lines()
        .map(|line| match line.rsplit_once("\ttrain\t") {
            Some((name, _)) => format!("{name}\ttrain\tzebra\n"),
            None => format!("{line}\n"),
        });
    world.write("labels.tsv", unlabelled.collect::<String>());
    world
        .run("train recipe.toml --out out")
        .refused(&["no training image has a seen positive label"]);
}

#[test]
fn nothing_to_measure() {
    let world = World::new();
    world.keep_lines("labels.tsv", |line| line.contains("\ttrain\t"));
    world.run("train recipe.toml --out out").refused(&["test"]);
    assert!(
        !world.path("out").exists(),
        "found before anything is extracted"
    );

    // Test images, none of an unseen label.
    let world = World::new();
    let table = world
        .text("labels.tsv")
        .replace(",cyan", "")
        .replace(",magenta", "")
        .replace(",orange", "");
    world.write("labels.tsv", table);
    world
        .run("train recipe.toml --out out")
        .refused(&["ZSL", "positive"]);
    assert!(
        !world.path("out").exists(),
        "found before anything is extracted"
    );

    // More places than there are unseen labels.
    let world = World::new();
    world.edit("recipe.toml", "k-zsl = [1, 2]", "k-zsl = [1, 5]");
    world
        .run("train recipe.toml --out out")
        .refused(&["K = 5", "3 labels"]);
    assert!(
        !world.path("out").exists(),
        "found before anything is extracted"
    );
}
