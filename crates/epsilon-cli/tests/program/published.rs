//! Published data sets and features, by the real program: what `prepare` says, the index it keeps, and the way to figures.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::world::{RECIPE, World};

#[path = "../../../epsilon-data/src/dataset/trees.rs"]
#[allow(dead_code, reason = "shared with the benchmarks")]
mod trees;

/// A recipe for another data set, given the keys of `[data]`.
fn recipe(world: &World, data: &str, k: &str) {
    let start = RECIPE.find("table = ").unwrap();
    let end = RECIPE.find("[backbone]").unwrap();
    let text = format!(
        "{}{data}\nvectors = \"words.txt\"\n\n{}",
        &RECIPE[..start],
        &RECIPE[end..]
    );
    let text = text
        .replace("k-zsl = [1, 2]", k)
        .replace("k-gzsl = [1, 3]", "k-gzsl = [1]");
    world.write("recipe.toml", text);
}

fn vectors(world: &World, words: &[&str]) {
    let line = |(i, word): (usize, &&str)| format!("{word} {}.5 {}.25 -1.5 0.5\n", i % 3, i % 4);
    world.write(
        "words.txt",
        words.iter().enumerate().map(line).collect::<String>(),
    );
}

/// NUS-WIDE's files with a picture for every image.
fn nus_wide() -> World {
    let world = World::new();
    let folder = world.path("nus");
    trees::small_nus_wide(&folder, 16, 8, 3);
    for part in ["Train", "Test"] {
        for line in world
            .text(&format!("nus/ImageList/{part}Imagelist.txt"))
            .lines()
        {
            let path = folder.join("Flickr").join(line.trim().replace('\\', "/"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(world.path("train-0001.png"), path).unwrap();
        }
    }
    recipe(
        &world,
        "kind = \"nus-wide\"\nfolder = \"nus\"\nimages = \"nus/Flickr\"",
        "k-zsl = [1]",
    );
    vectors(
        &world,
        &["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "cat", "dog"],
    );
    world
}

#[test]
fn nus_wide_from_its_files_to_figures() {
    let world = nus_wide();
    let said = world.run("prepare recipe.toml").done();
    for part in [
        "8 seen, 2 unseen",
        "human labels: 1",
        "seen labels per image",
        "missing or unreadable: 0 of 24",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let index = world.path("runs/recipe/index.parquet");
    let kept = fs::read(&index).unwrap();
    assert_eq!(world.run("prepare recipe.toml").done(), said);
    world.run("train recipe.toml").done();
    assert_eq!(fs::read(&index).unwrap(), kept, "the index serves");
    let figures: Value = world
        .run("eval runs/recipe/seed-1/model.safetensors --json")
        .json();
    assert!(figures["gzsl"]["map"].is_number(), "{figures}");
}

#[test]
fn a_label_file_one_line_short() {
    let world = nus_wide();
    let file = "nus/TrainTestLabels/Labels_dog_Train.txt";
    world.write(
        file,
        world.text(file).trim_end().rsplit_once('\n').unwrap().0,
    );
    let parts = [
        "Labels_dog_Train.txt, line 16: 15 lines",
        "TrainImagelist.txt lists 16 images",
    ];
    for command in ["prepare recipe.toml", "train recipe.toml"] {
        world.run(command).refused(&parts);
    }
}

#[test]
fn duplicated_and_missing_images_are_counted() {
    let world = nus_wide();
    let list = "nus/ImageList/TrainImagelist.txt";
    world.edit(list, "dog\\0001_Train.jpg", "cat\\0000_Train.jpg");
    fs::remove_file(world.path("nus/Flickr/cat/0002_Train.jpg")).unwrap();
    let said = world
        .run("prepare recipe.toml")
        .partly(&["cat/0002_Train.jpg"]);
    assert!(
        said.contains("images listed again, left out: 1 (cat/0000_Train.jpg)"),
        "{said}"
    );
    assert!(said.contains("missing      1 images"), "{said}");
}

#[test]
fn a_category_without_a_vector() {
    let world = World::new();
    let categories = ["cat", "dog", "cow", "tree"];
    fs::create_dir(world.path("images")).unwrap();
    for (name, seed) in [("train", 1), ("val", 2)] {
        trees::coco(
            &world.path(format!("instances_{name}2014.json")),
            &categories,
            24,
            seed,
        );
    }
    world.write("seen.txt", "cat\ndog\n");
    world.write("unseen.txt", "cow\n");
    recipe(
        &world,
        "kind = \"coco\"\ntrain = \"instances_train2014.json\"\ntest = \"instances_val2014.json\"\n\
         train-images = \"images\"\ntest-images = \"images\"\nsplit = { seen = \"seen.txt\", unseen = \"unseen.txt\" }",
        "k-zsl = [1]",
    );
    vectors(&world, &["cat", "dog", "cows"]);
    world
        .run("prepare recipe.toml --quick")
        .refused(&["words.txt", "`cow`", "nearest: `cows`"]);
    vectors(&world, &["cat", "dog", "cow"]);
    let said = world.run("prepare recipe.toml --quick").partly(&["images"]);
    assert!(
        said.contains("2 seen, 1 unseen") && said.contains("tree"),
        "{said}"
    );
    for (split, part) in [
        ("split = \"65-15\"", "\"65-15\""),
        ("split = 65", "`65`"),
        ("split = { seen = \"seen.txt\" }", "`unseen`"),
        (
            "split = { seen = \"seen.txt\", unseen = \"unseen.txt\", test = \"x\" }",
            "`test`",
        ),
    ] {
        let before = world.text("recipe.toml");
        let own = "split = { seen = \"seen.txt\", unseen = \"unseen.txt\" }";
        world.edit("recipe.toml", own, split);
        let allowed = match split.contains('{') {
            true => vec![part],
            false => vec![part, "\"48/17\"", "\"65/15\"", "seen = "],
        };
        world.run("prepare recipe.toml --quick").refused(&allowed);
        world.write("recipe.toml", before);
    }
    world.truncate("instances_train2014.json", 0.5);
    world
        .run("prepare recipe.toml")
        .refused(&["instances_train2014.json", "line 1 column"]);
}

#[test]
fn what_voc_does_not_list_is_negative() {
    let world = World::new();
    trees::voc(&world.path("voc"), &["cat", "dog", "cow"], [6, 4], 1);
    world.write("seen.txt", "cat\ndog\n");
    world.write("unseen.txt", "cow\n");
    recipe(
        &world,
        "kind = \"voc\"\nfolder = \"voc\"\nseen = \"seen.txt\"\nunseen = \"unseen.txt\"",
        "k-zsl = [1]",
    );
    vectors(&world, &["cat", "dog", "cow"]);
    // Read, and then from the index.
    for _ in 0..2 {
        let said = world.run("prepare recipe.toml --quick").partly(&["000001"]);
        assert!(
            said.contains("a label that is not listed is negative"),
            "{said}"
        );
    }
}

#[test]
fn a_folder_without_its_images_is_not_told_image_by_image() {
    let world = World::of(60, 4);
    for index in 0..60 {
        let ending = if index % 3 == 0 { "jpg" } else { "png" };
        fs::remove_file(world.path(format!("train-{index:04}.{ending}"))).unwrap();
    }
    for how in ["", " --quick"] {
        let ended = world.run(&format!("prepare recipe.toml{how}"));
        let lines: Vec<String> = ended.stderr.lines().map(String::from).collect();
        let said = ended.partly(&["train-0000.jpg", "40 more"]);
        assert!(said.contains(": 60 of 64 images"), "{said}");
        assert_eq!(lines.len(), 21, "{lines:?}");
    }
    let ended = world.run("prepare recipe.toml --quick --json");
    let all: Value = serde_json::from_str(&ended.partly(&["40 more"])).unwrap();
    assert_eq!(all["bad_images"].as_array().unwrap().len(), 60);
}

/// `prepare` says what `train` would say hours later.
#[test]
fn what_cannot_be_measured_does_not_pass_prepare() {
    let world = World::of(6, 4);
    world.edit("recipe.toml", "k-zsl = [1, 2]", "k-zsl = [1, 4]");
    let ended = world.run("prepare recipe.toml");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stdout.contains("6 seen, 3 unseen"), "{ended:?}");
    let train = world.run("train recipe.toml --out out");
    assert_eq!((train.code, &train.stderr), (Some(2), &ended.stderr));
    assert!(ended.stderr.contains("4"), "{ended:?}");
}

#[test]
fn published_features_train_without_an_image() {
    let world = World::new();
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../epsilon-data/tests/fixtures/published");
    for name in ["train.h5", "test.h5"] {
        fs::copy(fixtures.join(name), world.path(name)).unwrap();
    }
    world.write("seen.txt", "cat\ndog\nice cream\n");
    world.write("unseen.txt", "cow\npig\n");
    let lists = "--seen seen.txt --unseen unseen.txt";
    let said = world
        .run(&format!(
            "store import-h5 train.h5 --test test.h5 {lists} --out features"
        ))
        .done();
    assert!(
        said.contains("4 images, 4 tokens of 6 values each, 0 failed"),
        "{said}"
    );
    assert!(said.contains("7 labels of +1, 3 of 0, 10 of -1"), "{said}");
    recipe(
        &world,
        "table = \"features/labels.parquet\"\nimages = \"nowhere\"\nseen = \"seen.txt\"\nunseen = \"unseen.txt\"",
        "k-zsl = [1]",
    );
    world.edit(
        "recipe.toml",
        "[backbone]\nweights = \"backbone.safetensors\"",
        "[features]\nstore = \"features/tokens\"",
    );
    vectors(&world, &["cat", "dog", "ice_cream", "cow", "pig"]);
    let said = world.run("prepare recipe.toml").done();
    assert!(said.contains("without tokens: 0 of 4 images"), "{said}");
    world.run("train recipe.toml --out out").done();
    world.run("eval out/seed-1/model.safetensors").done();
    assert!(!world.path("out/tokens").exists());
    world.truncate("train.h5", 0.5);
    world
        .run(&format!("store import-h5 train.h5 {lists} --out other"))
        .refused(&["train.h5"]);
}

#[test]
fn labels_find_their_vectors_in_a_pickle() {
    let world = World::new();
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../epsilon-data/tests/fixtures/published");
    fs::copy(fixtures.join("pair-2.pkl"), world.path("vectors.pkl")).unwrap();
    world.write("tags.txt", "cat\ndog\ncow\npig\n");
    world.write("concepts.txt", "hen\nfox\n");
    world.write("words.txt", "fox\ncat\n");
    let command = "embed --labels words.txt --vectors vectors.pkl";
    let said = world
        .run(&format!(
            "{command} --vector-names tags.txt --vector-names concepts.txt"
        ))
        .done();
    assert!(said.contains("2 labels, 3 wide: 2 exact"), "{said}");
    world
        .run(command)
        .refused(&["vectors.pkl", "holds 2 arrays"]);
}
