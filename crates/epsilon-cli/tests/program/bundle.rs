//! Models with all that they need in one file: copied alone to another place, with everything else gone, they say what they said.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::backbones::put;
use crate::server::{Server, form};
use crate::untrained::{NET, run, with_classifier};
use crate::world::{Ended, World};

const MODEL: &str = "out/seed-1/model.safetensors";
const PHOTOS: [&str; 3] = ["test-0025.png", "test-0026.png", "test-0027.jpg"];

const QUESTIONS: [&str; 2] = [
    "predict photos/test-0025.png --top 20 --json",
    "predict photos/test-0026.png --labels purple,red,grey --top 20 --json",
];

/// An empty folder with a bundle, `m.epsilon`, and photographs, in `photos`.
struct Alone {
    folder: TempDir,
}

impl Alone {
    /// Copies the bundle and these photographs of a world, and deletes all that is in the world.
    fn of(world: &World, bundle: &str, photos: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("photos")).unwrap();
        for photo in photos {
            let to = folder.path().join("photos").join(photo);
            fs::copy(world.path(photo), to).unwrap();
        }
        fs::copy(world.path(bundle), folder.path().join("m.epsilon")).unwrap();
        for entry in fs::read_dir(world.path("")).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, world: &World, arguments: &str) -> Ended {
        let mut command = world.command(arguments);
        command
            .current_dir(self.folder.path())
            .env("XDG_CACHE_HOME", self.path("caches"));
        world.end(command, arguments)
    }
}

fn trained() -> World {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    fs::create_dir(world.path("photos")).unwrap();
    for photo in PHOTOS {
        fs::copy(world.path(photo), world.path("photos").join(photo)).unwrap();
    }
    world
}

/// Names and scores of a prediction, and those of a search without what stands before the photographs' names.
fn numbers(value: &Value) -> Vec<(String, f64)> {
    let items = value.as_array().unwrap().iter();
    let items = items.flat_map(|item| match item["labels"].as_array() {
        Some(labels) => labels.clone(),
        None => vec![item.clone()],
    });
    items
        .map(|item| {
            let name = item["name"].as_str().or(item["photo"].as_str()).unwrap();
            let name = name.rsplit('/').next().unwrap().to_string();
            (name, item["score"].as_f64().unwrap())
        })
        .collect()
}

fn far(a: &[(String, f64)], b: &[(String, f64)]) -> f64 {
    assert_eq!(a.len(), b.len());
    let of = |name: &str| b.iter().find(|(other, _)| other == name).unwrap().1;
    let differences = a.iter().map(|(name, score)| (score - of(name)).abs());
    differences.max_by(f64::total_cmp).unwrap_or_default()
}

#[test]
fn a_bundle_alone_says_what_its_model_said() {
    let world = trained();
    let ask = |question: &str| world.run(&format!("{question} --model {MODEL}")).json();
    let before = QUESTIONS.map(ask);
    world
        .run(&format!(
            "tag photos --model {MODEL} --top 3 --csv tags.csv"
        ))
        .done();
    let tags = world.text("tags.csv");
    let found = world.run("search photos brown --json").json();

    let bundle = format!("bundle {MODEL} -o m.epsilon --precision f32 --licence mine");
    let text = world.run(&bundle).done();
    for part in [
        "m.epsilon: ",
        "12 words, 4 values each, from vectors.txt",
        "licence mine",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let bytes = fs::read(world.path("m.epsilon")).unwrap();
    world.run(&bundle).done();
    assert!(
        fs::read(world.path("m.epsilon")).unwrap() == bytes,
        "another one"
    );
    let alone = Alone::of(&world, "m.epsilon", &PHOTOS);
    let ask = |question: &str| alone.run(&world, question).json();
    for (question, before) in QUESTIONS.iter().zip(&before) {
        assert_eq!(ask(&format!("{question} --model m.epsilon")), *before);
    }
    alone
        .run(
            &world,
            "tag photos --model m.epsilon --top 3 --csv tags.csv",
        )
        .done();
    let tagged = fs::read_to_string(alone.path("tags.csv")).unwrap();
    assert_eq!(tagged, tags);
    assert_eq!(numbers(&ask("search photos brown --json")), numbers(&found));
    let explained =
        ask("explain photos/test-0025.png --model m.epsilon --label purple --out maps --json");
    assert!(
        alone
            .path(explained[0]["pictures"][0]["file"].as_str().unwrap())
            .exists()
    );
    let unknown = "predict photos/test-0025.png --model m.epsilon --labels purpel";
    alone
        .run(&world, unknown)
        .refused(&["m.epsilon", "purpel", "nearest: `purple`"]);

    let server = Server::start(&world, alone.path("m.epsilon").to_str().unwrap());
    let photo = fs::read(alone.path("photos/test-0026.png")).unwrap();
    let asked = form(&[
        ("photo", "a.png", &photo),
        ("labels", "", b"purple,red,grey"),
    ]);
    let answer = server.post("/v1/predict", &asked);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["photos"][0]["labels"], before[1][0]["labels"]);
}

#[test]
fn half_the_bytes_give_nearly_the_same_scores() {
    let world = trained();
    let half = world.run(&format!("bundle --model {MODEL} -o half.epsilon --json"));
    let half = half.json();
    assert_eq!(half["backbone"]["rounded"], true);
    assert_eq!(half["backbone"]["from"], "backbone.safetensors");
    let size = |name: &str| fs::metadata(world.path(name)).unwrap().len();
    assert_eq!(half["bytes"], size("half.epsilon"));
    assert!(half["backbone"]["bytes"].as_u64().unwrap() < size("backbone.safetensors") * 6 / 10);
    for question in QUESTIONS {
        let ask = |model: &str| world.run(&format!("{question} --model {model}")).json();
        let far = far(&numbers(&ask("half.epsilon")), &numbers(&ask(MODEL)));
        assert!(far < 0.02, "{far}");
    }
}

#[test]
fn what_a_bundle_holds_is_chosen() {
    let world = trained();
    let bundle = |options: &str| world.run(&format!("bundle {MODEL} -o m.epsilon {options}"));
    let predict = |words: &str| {
        world.run(&format!(
            "predict test-0025.png --model m.epsilon --json --labels {words}"
        ))
    };
    bundle("--words 1").done();
    predict("red,green").done();
    predict("purple").refused(&["m.epsilon", "purple"]);
    // A word that is asked for, and one that is put together of two.
    world.write("list.txt", "purple\nred brown\n");
    bundle("--words 1 --labels list.txt").done();
    world.write("two.txt", "purple\nred brown\n");
    predict("two.txt").done();
    predict("brown").refused(&["brown"]);
    assert!(bundle("--words 0").done().contains("no words"));
    predict("red").done();
    predict("purple").refused(&["purple", "--vectors"]);
    world
        .run("predict test-0025.png --model m.epsilon --labels purple --vectors vectors.txt")
        .done();
    // A bundle is made of a bundle, too.
    bundle("--precision f32").done();
    let first = predict("purple,brown").json();
    world
        .run("bundle m.epsilon -o again.epsilon --precision f32")
        .done();
    world
        .run("bundle m.epsilon -o half.epsilon --words 2")
        .done();
    let again =
        world.run("predict test-0025.png --model again.epsilon --json --labels purple,brown");
    assert_eq!(again.json(), first);
    // What it is made of is not overwritten.
    for place in [MODEL, "backbone.safetensors", "vectors.txt"] {
        let before = fs::read(world.path(place)).unwrap();
        world
            .run(&format!("bundle {MODEL} -o {place}"))
            .refused(&[place, "another name"]);
        assert!(fs::read(world.path(place)).unwrap() == before);
    }
    world
        .run(&format!("bundle {MODEL} -o photos"))
        .refused(&["folder"]);
    fs::remove_file(world.path("vectors.txt")).unwrap();
    bundle("").refused(&["vectors.txt", "--vectors", "--words 0"]);
    bundle("--words 0").done();
}

#[test]
fn a_bundle_is_evaluated_and_calibrated_on_photographs() {
    let world = trained();
    let stored = world.run(&format!("eval {MODEL} --json")).json();
    world
        .run(&format!("bundle {MODEL} -o m.epsilon --precision f32"))
        .done();
    let looked = world.run("eval m.epsilon --data recipe.toml --json").json();
    assert_eq!(looked, stored);
    // Tokens of the backbone itself fit the one that is the same, and not the rounded one.
    let with_store = "--data recipe.toml --store out/tokens --json";
    let fitting = world.run(&format!("eval m.epsilon {with_store}"));
    assert_eq!(fitting.json(), stored);
    world.run(&format!("bundle {MODEL} -o half.epsilon")).done();
    world
        .run(&format!("eval half.epsilon {with_store}"))
        .refused(&["the backbone's weights"]);
    world
        .run(&format!(
            "calibrate {MODEL} --on recipe.toml --store out/tokens"
        ))
        .done();
    world.run("calibrate m.epsilon --on recipe.toml").done();
    let predict = |model: &str| {
        let question = "predict test-0025.png --labels purple,red --json --top 2 --model";
        world.run(&format!("{question} {model}")).json()
    };
    // The model's tokens were rounded in their store.
    let (expected, found) = (predict(MODEL), predict("m.epsilon"));
    for place in 0..2 {
        let of = |value: &Value| value[0]["labels"][place]["probability"].as_f64().unwrap();
        assert!(
            (of(&found) - of(&expected)).abs() < 1e-3,
            "{found} {expected}"
        );
    }
    world.write("test-0025.png", b"no picture");
    world
        .run("eval m.epsilon --data recipe.toml")
        .partly(&["test-0025.png"]);
    world
        .run("calibrate m.epsilon --on recipe.toml")
        .partly(&["test-0025.png"]);
}

#[test]
fn damage_is_seen() {
    let world = trained();
    world.run(&format!("bundle {MODEL} -o m.epsilon")).done();
    let bytes = fs::read(world.path("m.epsilon")).unwrap();
    for (place, bit) in [(3, 0), (40, 2), (bytes.len() / 2, 5), (bytes.len() - 1, 0)] {
        let mut other = bytes.clone();
        other[place] ^= 1 << bit;
        world.write("m.epsilon", other);
        world
            .run("predict test-0025.png --model m.epsilon")
            .refused(&["m.epsilon"]);
    }
    world.write("m.epsilon", &bytes[..bytes.len() * 2 / 3]);
    for command in [
        "predict test-0025.png --model",
        "eval --data recipe.toml",
        "calibrate",
    ] {
        world
            .run(&format!("{command} m.epsilon"))
            .refused(&["m.epsilon"]);
    }
}

#[test]
fn a_classifier_without_training_goes_into_one_file() {
    let world = with_classifier();
    let question = "predict test-0008.png --labels tent,castle,bridge --top 3 --json";
    let before = run(&world, &format!("{question} {NET}")).json();
    let own = run(
        &world,
        &format!("predict test-0008.png {NET} --json --top 5"),
    )
    .json();
    let made = run(
        &world,
        &format!("bundle {NET} -o m.epsilon --precision f32 --json"),
    )
    .json();
    assert_eq!(made["backbone"]["from"], "net.safetensors");
    let alone = Alone::of(&world, "m.epsilon", &[]);
    let other = World::of(8, 4);
    for photo in ["test-0008.png", "test-0010.png"] {
        fs::copy(other.path(photo), alone.path(photo)).unwrap();
        fs::copy(other.path(photo), alone.path("photos").join(photo)).unwrap();
    }
    let ask = |question: &str| alone.run(&world, question).json();
    assert_eq!(ask(&format!("{question} --model m.epsilon")), before);
    assert_eq!(
        ask("predict test-0008.png --model m.epsilon --json --top 5"),
        own
    );
    alone
        .run(
            &world,
            "tag photos --model m.epsilon --labels tent,castle --top 2",
        )
        .done();
    assert_eq!(
        ask("search photos bridge --json").as_array().unwrap().len(),
        2
    );
    let maps = "explain test-0008.png --model m.epsilon --label castle --out maps --json";
    assert_eq!(ask(maps)[0]["pictures"][0]["what"], "occlusion");
}

#[test]
fn two_towers_go_with_the_words_that_were_made() {
    let world = World::of(4, 4);
    put(&world, "clip", "clip");
    world.write(
        "clip/README.md",
        "---\nlicense: mit\ntags: []\n---\nA network.\n",
    );
    world.write("two.txt", "red flower\ndog\n");
    let question = "predict test-0004.png --top 3 --json";
    let before = run(&world, &format!("{question} --model clip --labels two.txt")).json();
    let own = run(&world, &format!("{question} --model clip")).json();
    let bundle = "bundle clip -o m.epsilon --precision f32 --labels two.txt --json";
    let made = run(&world, bundle).json();
    assert_eq!(made["backbone"]["licence"], "mit");
    // The dog is one of the built-in words.
    assert!(
        made["words"]["what"]
            .as_str()
            .unwrap()
            .starts_with("1 words"),
        "{made}"
    );
    let text = run(&world, "bundle clip -o half.epsilon").done();
    assert!(text.contains("no words beside"), "{text}");
    let photo = fs::read(world.path("test-0004.png")).unwrap();
    let half = fs::read(world.path("half.epsilon")).unwrap();
    let alone = Alone::of(&world, "m.epsilon", &[]);
    fs::write(alone.path("test-0004.png"), photo).unwrap();
    fs::write(alone.path("two.txt"), "red flower\ndog\n").unwrap();
    fs::write(alone.path("half.epsilon"), half).unwrap();
    let ask = |arguments: &str| alone.run(&world, &format!("{question} {arguments}"));
    assert_eq!(ask("--model m.epsilon --labels two.txt").json(), before);
    assert_eq!(ask("--model m.epsilon").json(), own);
    // No word is put together of its parts, as sentences about it would not be.
    ask("--model m.epsilon --labels dog,flower,snowplough").refused(&[
        "m.epsilon",
        "snowplough",
        "words",
    ]);
    ask("--model half.epsilon --labels two.txt").refused(&["half.epsilon", "red flower"]);
    let rounded = ask("--model half.epsilon --labels dog").json();
    assert!(
        far(
            &numbers(&rounded),
            &numbers(&before)[..]
                .iter()
                .filter(|(name, _)| name == "dog")
                .cloned()
                .collect::<Vec<_>>()
        ) < 0.01
    );
    assert!(
        !alone.path("caches/epsilon/words").exists(),
        "no tower was asked"
    );
}
