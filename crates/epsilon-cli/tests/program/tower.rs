//! Recipes whose `vectors` name a network: its text tower makes the labels' vectors, and those of any other word afterwards.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::backbones::put;
use crate::untrained::{NET, run, with_classifier};
use crate::world::{Ended, World};

const MODEL: &str = "out/seed-1/model.safetensors";
const COMMIT: &str = "c0ffee5c0ffee5c0ffee5c0ffee5c0ffee5c0ffe";

/// A world with a tiny CLIP, from which the recipe takes tokens and label vectors.
fn with_clip() -> World {
    let world = World::of(8, 4);
    put(&world, "clip", "clip");
    world.edit("recipe.toml", "backbone.safetensors", "clip");
    world.edit("recipe.toml", "vectors.txt", "clip");
    fs::create_dir(world.path("photos")).unwrap();
    for name in ["test-0008.png", "test-0009.jpg", "test-0010.png"] {
        fs::copy(world.path(name), world.path("photos").join(name)).unwrap();
    }
    world
}

/// Puts another method, and another choice of tokens, into the recipe.
fn choose(world: &World, method: &str, tokens: &str) {
    let recipe = world.text("recipe.toml");
    let (before, rest) = recipe.split_once("[backbone]\n").unwrap();
    let weights = rest.lines().find(|line| line.starts_with("weights"));
    let (_, after) = rest.split_once("[training]").unwrap();
    let weights = weights.unwrap();
    world.write(
        "recipe.toml",
        format!(
            "{before}[backbone]\n{weights}\ntokens = \"{tokens}\"\n\n[method]\n{method}\n\n[training]{after}"
        ),
    );
}

/// What a model says of a photograph.
fn ranked(world: &World, arguments: &str) -> Value {
    run(world, &format!("predict test-0008.png {arguments} --json")).json()
}

fn names(ranked: &Value) -> Vec<&str> {
    let labels = ranked[0]["labels"].as_array().unwrap().iter();
    let mut names: Vec<&str> = labels
        .map(|label| label["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_text_tower_makes_the_vectors_for_training_and_for_any_word_afterwards() {
    let world = with_clip();
    run(&world, "prepare recipe.toml --out out").done();
    run(&world, "train recipe.toml --out out").done();
    let own = ranked(&world, &format!("--model {MODEL} --top 20"));
    assert_eq!(names(&own).len(), 9);
    let words = "--labels red,purple,grey";
    let found = ranked(&world, &format!("--model {MODEL} {words}"));
    assert_eq!(names(&found), ["grey", "purple", "red"]);

    // The same vectors in a file train the same model.
    let all = world.text("seen.txt") + &world.text("unseen.txt") + "purple\ngrey\n";
    world.write("all.txt", all);
    let made = run(
        &world,
        "embed --vectors clip --labels all.txt --out made.txt",
    );
    let said = made.done();
    assert_eq!(said.trim(), "11 labels, 16 wide: 11 by the text tower");
    let rules = run(&world, "embed --vectors clip --labels all.txt --json").json();
    assert_eq!(rules[0]["found"], "text-tower");
    world.edit(
        "recipe.toml",
        "vectors = \"clip\"",
        "vectors = \"made.txt\"",
    );
    run(&world, "train recipe.toml --out other").done();
    let other = MODEL.replace("out/", "other/");
    assert_eq!(ranked(&world, &format!("--model {other} --top 20")), own);
    assert_eq!(ranked(&world, &format!("--model {other} {words}")), found);

    // Wherever the network is, it is found when the model's own words are not enough.
    fs::rename(world.path("clip"), world.path("moved")).unwrap();
    let predict = format!("predict test-0008.png --model {MODEL} {words}");
    run(&world, &predict).refused(&["clip", "--backbone"]);
    for place in ["--backbone moved", "--backbone moved --vectors moved"] {
        assert_eq!(
            ranked(&world, &format!("--model {MODEL} {words} {place}")),
            found
        );
    }
    let known = format!("--model {MODEL} --labels red,cyan --backbone moved");
    assert_eq!(names(&ranked(&world, &known)), ["cyan", "red"]);
    run(
        &world,
        &format!("{predict} --backbone moved --vectors made.txt"),
    )
    .done();
    // Vectors of another width are no words of this model.
    run(
        &world,
        &format!("{predict} --backbone moved --vectors vectors.txt"),
    )
    .refused(&["4 wide", "16 wide"]);
}

#[test]
fn a_library_is_searched_by_the_tower_and_a_bundle_keeps_its_words() {
    let world = with_clip();
    run(&world, "train recipe.toml --out out").done();
    run(
        &world,
        &format!("tag photos --model {MODEL} --labels red,cyan --top 1"),
    )
    .done();
    let found = run(&world, "search photos purple --json").json();
    assert_eq!(found.as_array().unwrap().len(), 3);

    let bundle = format!("bundle {MODEL} -o m.epsilon --labels purple --precision f32");
    run(&world, &bundle).done();
    let words = "--labels red,purple";
    let before = ranked(&world, &format!("--model {MODEL} {words}"));

    // Another network at the tower's place is not taken for it.
    let file = world.path("clip/model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    run(&world, "search photos grey").refused(&["text tower", "trained with"]);

    fs::remove_dir_all(world.path("clip")).unwrap();
    assert_eq!(
        ranked(&world, &format!("--model m.epsilon {words}")),
        before
    );
    run(
        &world,
        "predict test-0008.png --model m.epsilon --labels grey",
    )
    .refused(&["m.epsilon", "grey", "text tower"]);
}

#[test]
fn every_method_of_two_towers_learns_from_one_network() {
    let world = with_clip();
    put(&world, "../siglip/siglip", "siglip");
    for (network, tokens) in [
        ("clip", "plain"),
        ("clip", "projected"),
        ("siglip", "projected"),
    ] {
        let recipe = world.text("recipe.toml");
        world.write(
            "recipe.toml",
            recipe.replace("clip\"", &format!("{network}\"")),
        );
        for method in ["epsilon", "clip-projection", "clip-zero-shot"] {
            choose(&world, &format!("kind = \"{method}\""), tokens);
            let out = format!("{network}-{tokens}-{method}");
            run(&world, &format!("train recipe.toml --out {out}")).done();
            let model = format!("{out}/seed-1/model.safetensors");
            let found = ranked(&world, &format!("--model {model} --labels red,purple"));
            assert_eq!(names(&found), ["purple", "red"], "{out}");
            let eval = run(&world, &format!("eval {model} --json")).json();
            assert_eq!(eval["gzsl"]["images_total"], 4, "{out}");
        }
    }
}

#[test]
fn what_is_no_tower_is_told() {
    let world = with_clip();
    put(&world, "vit", "vit");
    let vectors = |name: &str| {
        let recipe = world.text("recipe.toml");
        let line = recipe.lines().find(|line| line.starts_with("vectors = "));
        world.write(
            "recipe.toml",
            recipe.replace(line.unwrap(), &format!("vectors = \"{name}\"")),
        );
    };
    vectors("nowhere");
    run(&world, "prepare recipe.toml").refused(&["data.vectors", "nowhere", "no such file"]);
    vectors("photos");
    run(&world, "prepare recipe.toml").refused(&["photos", "text tower", "0 weight files"]);
    vectors("vit");
    run(&world, "prepare recipe.toml").refused(&["vit", "no text tower", "GloVe"]);
    vectors("clip\"\nvector-names = [\"seen.txt\"]\n#");
    run(&world, "prepare recipe.toml").refused(&["clip", "no list of words"]);

    let world = with_classifier();
    put(&world, "clip", "clip");
    let named = NET.replace("--vectors words.vec.txt", "--vectors clip");
    run(&world, &format!("predict test-0008.png {named}")).refused(&[
        "clip",
        "classifier",
        "file of word vectors",
    ]);
    world.edit("recipe.toml", "backbone.safetensors", "net.safetensors");
    world.edit(
        "recipe.toml",
        "vectors = \"vectors.txt\"",
        "vectors = \"clip\"",
    );
    let recipe = world.text("recipe.toml");
    world.write(
        "recipe.toml",
        recipe + "\n[anchor]\nclasses = \"classes.txt\"\n",
    );
    let ended = run(&world, "prepare recipe.toml");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for part in ["[anchor]", "clip", "file of word vectors"] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
}

/// The program with a hub that nobody answers for, and a cache of the world's own.
fn without_hub(world: &World, arguments: &str) -> Ended {
    let mut command: Command = world.command(arguments);
    for name in [
        "HF_HOME",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN",
    ] {
        command.env_remove(name);
    }
    command
        .env("XDG_CACHE_HOME", world.path("caches"))
        .env("HF_HUB_CACHE", world.path("hub"))
        .env("HF_ENDPOINT", "http://127.0.0.1:9");
    world.end(command, arguments)
}

/// A model, as a library, may come from anybody: no hub is asked for the tower that it names.
#[test]
fn the_hub_is_asked_for_a_tower_only_where_who_runs_the_program_names_it() {
    let world = with_clip();
    let recipe = world.text("recipe.toml");
    world.write(
        "recipe.toml",
        recipe.replace("\"clip\"", "\"hf:owner/net\""),
    );
    run_refused(
        &world,
        "train recipe.toml --out out",
        "cannot be had from the hub",
    );
    let kept = "hub/models--owner--net";
    put(&world, "clip", &format!("{kept}/snapshots/{COMMIT}"));
    fs::create_dir_all(world.path(kept).join("refs")).unwrap();
    world.write(&format!("{kept}/refs/main"), COMMIT);
    without_hub(&world, "train recipe.toml --out out").done();
    let words = "--labels red,purple";
    let predict = format!("predict test-0008.png --model {MODEL} {words}");
    let before = without_hub(&world, &format!("{predict} --json")).json();
    let tag = format!("tag photos --model {MODEL} --top 1 --labels red");
    without_hub(&world, &tag).done();
    without_hub(&world, "search photos purple").done();

    fs::remove_dir_all(world.path("hub")).unwrap();
    let not_asked = "hf:owner/net: a file names it, and it is not in the cache";
    let with_place = without_hub(&world, &format!("{predict} --backbone clip --json"));
    assert_eq!(
        with_place.json(),
        before,
        "the tower of the network that is given"
    );
    run_refused(&world, "search photos purple", not_asked);
    run_refused(
        &world,
        "search photos purple --vectors hf:owner/net",
        "cannot be had from the hub",
    );
    run_refused(&world, &format!("eval {MODEL}"), not_asked);
    let found = without_hub(&world, "search photos purple --vectors clip --json").json();
    assert_eq!(found.as_array().unwrap().len(), 3);
    // The library keeps what it was given, an id on the hub as it stands.
    put(&world, "clip", &format!("{kept}/snapshots/{COMMIT}"));
    fs::create_dir_all(world.path(kept).join("refs")).unwrap();
    world.write(&format!("{kept}/refs/main"), COMMIT);
    let given = format!("{tag},purple --vectors hf:owner/net");
    without_hub(&world, &given).done();
    let library = world.text("photos/.epsilon/library.json");
    assert!(library.contains("\"hf:owner/net\""), "{library}");
    without_hub(&world, "search photos grey").done();
}

fn run_refused(world: &World, arguments: &str, said: &str) {
    without_hub(world, arguments).refused(&[said]);
}
