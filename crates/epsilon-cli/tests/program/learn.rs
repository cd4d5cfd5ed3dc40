//! `epsilon learn`: keywords and corrections to a model that tags, and `epsilon rehearse`.

use std::fs;

use serde_json::Value;

use crate::backbones::put;
use crate::untrained::run;
use crate::world::{Ended, World, assert_same_files};

pub(crate) const LEARN: &str = "learn p --model backbone.safetensors --vectors vectors.txt --json";

/// A sidecar with keywords.
fn sidecar(keywords: &[&str]) -> String {
    let items: String = keywords
        .iter()
        .map(|keyword| format!("<rdf:li>{keyword}</rdf:li>"))
        .collect();
    format!(
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
         <rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:subject><rdf:Bag>{items}</rdf:Bag>\
         </dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>\n"
    )
}

/// A world with a folder `p` of the first `count` training pictures, their labels as keywords in sidecars.
pub(crate) fn world(count: usize) -> World {
    let world = World::of(60, 6);
    fs::create_dir(world.path("p")).unwrap();
    for line in world.text("labels.tsv").lines().take(count) {
        take(&world, line);
    }
    world
}

/// Copies the picture of a line of the table into `p`, with its labels.
fn take(world: &World, line: &str) {
    let cells: Vec<&str> = line.split('\t').collect();
    fs::copy(world.path(cells[0]), world.path(format!("p/{}", cells[0]))).unwrap();
    let labels: Vec<&str> = cells[2].split(',').collect();
    world.write(&format!("p/{}.xmp", cells[0]), sidecar(&labels));
}

/// What was learnt, whatever was warned of.
pub(crate) fn learnt(ended: Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Photographs of each label.
fn labels(report: &Value) -> Vec<(String, u64)> {
    let labels = report["labels"].as_array().unwrap().iter();
    let mut labels: Vec<(String, u64)> = labels
        .map(|label| {
            let count = label["photographs"].as_u64().unwrap();
            (label["name"].as_str().unwrap().into(), count)
        })
        .collect();
    labels.sort();
    labels
}

/// How often each label stands in the first lines of the table.
fn counted(world: &World, count: usize) -> Vec<(String, u64)> {
    let mut counts = std::collections::BTreeMap::new();
    for line in world.text("labels.tsv").lines().take(count) {
        for label in line.split('\t').nth(2).unwrap().split(',') {
            *counts.entry(label.to_string()).or_insert(0) += 1;
        }
    }
    counts.into_iter().collect()
}

#[test]
fn a_library_is_learnt_from_its_keywords_and_goes_on_as_it_grows() {
    let world = world(40);
    let report = learnt(world.run(LEARN));
    assert_eq!(labels(&report), counted(&world, 40));
    assert_eq!(
        (&report["photographs"], &report["keyworded"]),
        (&40.into(), &40.into())
    );
    let (fit, held) = (&report["trained_on"], &report["held_out"]);
    assert_eq!(fit.as_u64().unwrap() + held.as_u64().unwrap(), 40);
    assert_eq!(report["extracted"], 40);
    // Neither classes of the backbone nor capture times: both are said.
    assert!(report["anchored"]["without"].is_string(), "{report}");
    assert_eq!(report["alone"], 40);

    // The model of the time before is what the next one learns with; only what is new is looked at.
    let report = learnt(world.run("learn p --json"));
    assert_eq!(report["extracted"], 0);
    for line in world.text("labels.tsv").lines().skip(40).take(3) {
        take(&world, line);
    }
    fs::remove_file(world.path("p/train-0000.jpg")).unwrap();
    let report = learnt(world.run("learn p --json"));
    assert_eq!(
        (&report["extracted"], &report["photographs"]),
        (&3.into(), &42.into())
    );

    // What comes out tags without being named, and ranks any other word.
    let tagged = world.run("tag p --top 2 --json").done();
    assert_eq!(tagged.lines().count(), 42);
    let first: Value = serde_json::from_str(tagged.lines().next().unwrap()).unwrap();
    assert_eq!(first["labels"][0]["seen"], true);
    let found = world.run("search p purple --top 3 --json").json();
    assert_eq!(found.as_array().unwrap().len(), 3);
}

#[test]
fn words_come_from_the_text_tower_where_the_network_has_one() {
    let world = world(30);
    put(&world, "clip", "clip");
    let learn = "learn p --model clip --json";
    let report = learnt(run(&world, learn));
    assert_eq!(labels(&report), counted(&world, 30));
    assert_eq!(report["wordless"], serde_json::json!([]));
    let report = learnt(run(&world, "learn p --json"));
    assert_eq!(report["extracted"], 0);
    assert_eq!(run(&world, "tag p --top 2").code, Some(0));
    // Any word, also one that no list has.
    let found = run(&world, "search p zeppelin --json").json();
    assert_eq!(found.as_array().unwrap().len(), 30);
}

#[test]
fn corrections_are_learnt_and_what_the_program_wrote_is_not() {
    let world = world(40);
    learnt(world.run(LEARN));
    world.run("tag p --top 4 --xmp").done();
    // More labels stand in the sidecars now, none of which anybody said.
    let report = learnt(world.run("learn p --json"));
    assert_eq!(labels(&report), counted(&world, 40));
    assert_eq!(report["corrected"], 0);

    let line = world.text("labels.tsv").lines().next().unwrap().to_string();
    let label = line.split('\t').nth(2).unwrap().split(',').next().unwrap();
    world.write(
        "said",
        format!(
            "add train-0000.jpg purple\nadd train-0001.png purple\nreject train-0000.jpg {label}\n"
        ),
    );
    let mut command = world.command("review p");
    command.stdin(fs::File::open(world.path("said")).unwrap());
    let said = world.end(command, "review p");
    if said.code != Some(0) {
        // The label may not be among the best four: then it is no label to be rejected.
        assert!(said.stderr.contains(label), "{said:?}");
    }
    let report = learnt(world.run("learn p --json"));
    assert_eq!(report["corrected"], 2);
    let purple = labels(&report)
        .into_iter()
        .find(|(name, _)| name == "purple");
    let rare = report["rare"].as_array().unwrap();
    assert!(
        purple == Some(("purple".into(), 2)) || rare.iter().any(|label| label[0] == "purple"),
        "{report}"
    );
}

#[test]
fn what_cannot_be_learnt_is_said() {
    let world = world(12);
    world
        .run("learn nowhere --model backbone.safetensors --vectors vectors.txt")
        .refused(&["nowhere"]);
    world
        .run("learn p --model backbone.safetensors")
        .refused(&["backbone.safetensors", "--vectors"]);
    world.run(&format!("{LEARN} --at-least 1000")).refused(&[
        "1000 photographs",
        "--at-least",
        "has ",
    ]);
    fs::create_dir(world.path("bare")).unwrap();
    fs::copy(world.path("test-0060.jpg"), world.path("bare/a.jpg")).unwrap();
    let bare = LEARN.replace("learn p", "learn bare");
    world
        .run(&bare)
        .refused(&["bare", "of 1 photographs none has a keyword", "--folders"]);
    world.write("bare/a.jpg.xmp", sidecar(&["xyzzy"]));
    world.run(&bare).refused(&["vectors.txt", "xyzzy"]);
    world.write("bare/a.jpg.xmp", sidecar(&["red"]));
    world.run(&bare).refused(&["1 photographs", "scenes"]);
    // Folders' names are keywords where they are asked for.
    fs::create_dir(world.path("bare/blue")).unwrap();
    fs::copy(world.path("test-0061.png"), world.path("bare/blue/b.png")).unwrap();
    let report = learnt(world.run(&format!("{bare} --folders")));
    assert_eq!(report["keyworded"], 2);
}

#[test]
fn a_killed_run_leaves_the_library_as_it_was() {
    let world = world(30);
    learnt(world.run(LEARN));
    let model = fs::read(world.path("p/.epsilon/model.safetensors")).unwrap();
    for line in world.text("labels.tsv").lines().skip(30) {
        take(&world, line);
    }
    for delay in [20, 60, 120, 200, 300, 450] {
        let mut run = world.command("learn p --json").spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let _ = run.kill();
        run.wait().unwrap();
        let now = fs::read(world.path("p/.epsilon/model.safetensors")).unwrap();
        assert!(now.len() >= model.len(), "the model is whole");
    }
    let report = learnt(world.run("learn p --json"));
    assert_eq!(report["photographs"], 66);
    // As if nothing had happened before.
    let fresh = World::of(60, 6);
    fs::create_dir(fresh.path("p")).unwrap();
    for line in fresh.text("labels.tsv").lines() {
        take(&fresh, line);
    }
    let other = learnt(fresh.run(LEARN));
    assert_eq!(labels(&report), labels(&other));
    assert_eq!(report["held_out"], other["held_out"]);
}

/// The tokens as a kill leaves them before they take their place.
#[test]
fn tokens_of_a_killed_run_are_of_the_same_pictures_or_none() {
    let world = world(40);
    let (tokens, next) = ("p/.epsilon/learnt/tokens", "p/.epsilon/learnt/tokens.next");
    let kill = || fs::rename(world.path(tokens), world.path(next)).unwrap();
    let shards = || {
        let mut files = world.files(tokens);
        files.retain(|name, _| name.extension().is_some_and(|end| end == "safetensors"));
        files
    };
    let shard = || {
        let path = world.path(tokens).join("tokens-00000.safetensors");
        path.metadata().unwrap().modified().unwrap()
    };
    learnt(world.run(LEARN));
    let (before, made) = (shards(), shard());
    kill();
    learnt(world.run(LEARN));
    assert_same_files(&shards(), &before);
    assert_eq!(shard(), made, "it went on from there");

    kill();
    fs::copy(world.path("train-0003.jpg"), world.path("p/train-0000.jpg")).unwrap();
    learnt(world.run(LEARN));
    let after = shards();
    assert!(after != before, "another picture");
    // As if there had been none.
    fs::remove_dir_all(world.path(tokens)).unwrap();
    learnt(world.run(LEARN));
    assert_same_files(&shards(), &after);

    // What is half removed, or was left by an earlier version, says nothing of its photographs.
    kill();
    fs::remove_file(world.path(next).join("photographs.json")).unwrap();
    fs::remove_file(world.path(next).join("tokens-00000.safetensors")).unwrap();
    learnt(world.run(LEARN));
    assert_same_files(&shards(), &after);
    assert!(!world.path(next).exists());
}

#[test]
fn an_owner_is_rehearsed() {
    let world = World::of(40, 12);
    put(&world, "timm_gap.safetensors", "net.safetensors");
    world.write(
        "classes.txt",
        "cyan, light blue\nred\ndark-magenta\ngreen\nyellow\nblack\n",
    );
    world.edit("recipe.toml", "backbone.safetensors", "net.safetensors");
    let recipe = world.text("recipe.toml");
    world.write(
        "recipe.toml",
        format!("{recipe}\n[anchor]\nclasses = \"classes.txt\"\n"),
    );
    let rehearse = "rehearse recipe.toml --rounds 2 --reviews 12 --all --json";
    let curves = world.run(rehearse).json();
    for name in ["random", "doubt"] {
        let rounds = curves[name].as_array().unwrap();
        let reviewed: Vec<&Value> = rounds.iter().map(|round| &round["reviewed"]).collect();
        assert_eq!(reviewed, [0, 12, 24], "{name}");
        assert!(rounds[1]["clicks"].as_f64() > rounds[0]["clicks"].as_f64());
        assert!(
            rounds
                .iter()
                .all(|round| round["map"].as_f64().unwrap() > 0.0)
        );
    }
    assert_eq!(curves["random"][0]["map"], curves["doubt"][0]["map"]);
    assert_eq!(curves["all"]["reviewed"], 40);
    assert_eq!(curves["shares"].as_array().unwrap().len(), 2);
    // The same again is the same, and the table says it, too.
    let table = world
        .run("rehearse recipe.toml --rounds 2 --reviews 12 --table t.md")
        .done();
    assert_eq!(world.text("t.md"), table);
    let map = 100.0 * curves["doubt"][2]["map"].as_f64().unwrap();
    assert!(table.contains(&format!("| {map:.1} ± 0.0 |")), "{table}");
    world
        .run("rehearse recipe.toml --rounds 0")
        .refused(&["--rounds 0"]);
    world.keep_lines("labels.tsv", |line| !line.contains("\ttrain\t"));
    world
        .run("rehearse recipe.toml --out nothing")
        .refused(&["none of the data set's train images"]);
}
