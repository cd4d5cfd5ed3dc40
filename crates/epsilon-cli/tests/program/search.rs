//! `epsilon search` on a small library: by criteria, by likeness, with its owner's word, and what is refused.

use std::fs::{self, File};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::world::{Ended, World};

const MODEL: &str = "out/seed-1/model.safetensors";
/// Photographs from the oldest to the latest: where their pictures are from, and when they were changed (`date -u -d DATE +%s`).
const PHOTOS: [(&str, &str, u64); 6] = [
    ("test-0024.jpg", "a.jpg", 1_583_064_000), // 2020-03-01T12:00
    ("test-0025.png", "b.png", 1_623_715_200), // 2021-06-15
    ("test-0026.png", "cd.png", 1_625_097_600), // 2021-07-01
    ("test-0027.jpg", "sub/e.JPG", 1_672_531_199), // 2022-12-31T23:59:59
    ("test-0028.png", "sub/f.png", 1_672_531_200), // 2023-01-01
    ("", "broken.png", 1_704_067_200),         // 2024-01-01
];

/// A library of these, of a calibrated model, with two labels each.
fn world() -> World {
    let world = World::of(24, 60);
    world.run("train recipe.toml --out out").done();
    world.run(&format!("calibrate {MODEL}")).done();
    fs::create_dir_all(world.path("photos/sub")).unwrap();
    for (from, to, date) in PHOTOS {
        let path = format!("photos/{to}");
        match from {
            "" => world.write(&path, b"\x89PNG\r\n\x1a\nno more"),
            from => {
                fs::copy(world.path(from), world.path(&path)).unwrap();
            }
        }
        let file = File::options().write(true).open(world.path(&path)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(date))
            .unwrap();
    }
    world
        .run(&format!("tag --model {MODEL} photos --top 2"))
        .partly(&["broken"]);
    world
}

/// A search from a folder of the world.
fn search_in(world: &World, folder: &str, arguments: &str) -> Ended {
    let mut command = world.command(&format!("search {arguments}"));
    command.current_dir(world.path(folder));
    world.end(command, arguments)
}

fn search(world: &World, arguments: &str) -> Vec<Value> {
    let found = search_in(world, ".", &format!("photos {arguments} --json")).json();
    found.as_array().unwrap().clone()
}

/// The ids of what was found.
fn ids(found: &[Value]) -> Vec<&str> {
    let photos = found.iter().map(|found| found["photo"].as_str().unwrap());
    photos
        .map(|photo| photo.rsplit_once("/photos/").unwrap().1)
        .collect()
}

fn correct(world: &World, lines: &[Value]) {
    let lines = lines.iter().map(|line| format!("{line}\n"));
    world.write(
        "photos/.epsilon/corrections.jsonl",
        lines.collect::<String>(),
    );
}

#[test]
fn a_library_is_listed_by_criteria() {
    let world = world();
    let all = [
        "broken.png",
        "sub/f.png",
        "sub/e.JPG",
        "cd.png",
        "b.png",
        "a.jpg",
    ];
    let listed = search_in(&world, ".", "photos --sort date").done();
    let lines: Vec<&str> = listed.lines().collect();
    assert!(
        lines[0].starts_with("   1  2024-01-01T00:00:00  /"),
        "{listed}"
    );
    assert!(
        lines[0].contains("/photos/broken.png  ") && lines[0].contains("PNG"),
        "why: {listed}"
    );
    assert!(
        lines[5].starts_with("   6  2020-03-01T12:00:00  ") && lines[5].ends_with("/photos/a.jpg")
    );
    for (criteria, expected) in [
        ("--sort date", &all[..]),
        ("--sort date --top 2", &all[..2]),
        ("--sort date --since 2021-06-15 --until 2022", &all[2..5]),
        (
            "--sort date --since 2021-06-15T00:01 --until 2021",
            &all[3..4],
        ),
        ("--since 2024", &all[..1]),
        ("--since 1d", &[]),
        ("--until 1d --sort date", &all),
        ("--broken", &all[..1]),
        ("--folder sub --sort date", &all[1..3]),
        ("--folder photos/sub --until 2022", &all[2..3]),
        ("--folder sub/ --broken", &[]),
        (
            "--unreviewed --folder photos",
            &[
                "a.jpg",
                "b.png",
                "broken.png",
                "cd.png",
                "sub/e.JPG",
                "sub/f.png",
            ],
        ),
    ] {
        assert_eq!(ids(&search(&world, criteria)), expected, "{criteria}");
    }
    for (folder, arguments) in [
        ("photos/sub", ".. --folder . --sort date"),
        ("photos/sub", ".. --folder ../sub --sort date"),
        ("photos", ". --folder ./sub --sort date"),
    ] {
        let found = search_in(&world, folder, &format!("{arguments} --json")).done();
        // The way to the photographs is that to the library.
        let found: Value = serde_json::from_str(&found.replace("/sub/../", "/")).unwrap();
        assert_eq!(ids(found.as_array().unwrap()), &all[1..3], "{arguments}");
    }
}

#[test]
fn a_library_is_listed_by_labels_and_doubt() {
    let world = world();
    let found = search(&world, "--sort doubt");
    let doubts: Vec<f64> = found
        .iter()
        .filter_map(|found| found["doubt"].as_f64())
        .collect();
    // Those first that teach most, which are not those of the greatest doubt; what cannot be read is last.
    assert_eq!(doubts.len(), 5, "{doubts:?}");
    assert!(
        doubts.iter().all(|doubt| (0.0..=9.0).contains(doubt)),
        "nine labels: {doubts:?}"
    );
    assert_eq!(
        (&found[5]["doubt"], ids(&found)[5]),
        (&Value::Null, "broken.png")
    );
    assert!(found[5]["error"].as_str().unwrap().contains("broken.png"));
    let label = found[0]["labels"][0]["name"].as_str().unwrap();
    assert_eq!(found[0]["labels"][0]["state"], "automatic");
    let with = search(&world, &format!("--label {}", label.to_uppercase()));
    let probability = |found: &Value| {
        let labels = found["labels"].as_array().unwrap().iter();
        let mut named = labels.filter(|l| l["name"] == label);
        named.next().map(|l| l["probability"].as_f64().unwrap())
    };
    let probabilities: Vec<f64> = with
        .iter()
        .map(|found| probability(found).unwrap())
        .collect();
    assert!(
        probabilities.is_sorted_by(|a, b| a >= b),
        "{probabilities:?}"
    );
    assert_eq!(
        with.len(),
        found
            .iter()
            .filter(|found| probability(found).is_some())
            .count()
    );
    let surest = probabilities[0];
    assert!(
        !search(
            &world,
            &format!("--label {label} --threshold {}", surest - 1e-4)
        )
        .is_empty()
    );
    assert!(
        search(
            &world,
            &format!("--label {label} --threshold {}", surest + 1e-4)
        )
        .is_empty()
    );
    assert!(search(&world, "--label nothing").is_empty());
}

#[test]
fn photographs_like_one_are_found() {
    let world = world();
    let found = search(&world, "--like a.jpg");
    assert_eq!(
        found.len(),
        4,
        "neither itself nor what could not be tagged"
    );
    assert!(!ids(&found).contains(&"a.jpg"));
    let scores: Vec<f64> = found
        .iter()
        .map(|found| found["score"].as_f64().unwrap())
        .collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert!(
        scores.iter().all(|score| (-1.0..=1.0).contains(score)),
        "{scores:?}"
    );
    assert!(found[0].get("group").is_none() && found[0]["labels"].is_array());
    // By its path, whole or from the current folder; a copy is most like it.
    let whole = world.path("photos/a.jpg").canonicalize().unwrap();
    for (folder, photo) in [
        (".", "photos/a.jpg"),
        ("photos", "./a.jpg"),
        ("photos/sub", "../a.jpg"),
        (".", whole.to_str().unwrap()),
    ] {
        let library = world.path("photos");
        let arguments = format!("{} --like {photo} --json", library.display());
        assert_eq!(
            search_in(&world, folder, &arguments)
                .json()
                .as_array()
                .unwrap(),
            &found,
            "{photo}"
        );
    }
    fs::copy(
        world.path("photos/a.jpg"),
        world.path("photos/sub/copy.jpg"),
    )
    .unwrap();
    world
        .run(&format!("tag --model {MODEL} photos --top 2"))
        .partly(&["broken"]);
    let like = search(&world, "--like a.jpg --top 1");
    assert_eq!(ids(&like), ["sub/copy.jpg"]);
    assert!(like[0]["score"].as_f64().unwrap() > 0.9999, "{like:?}");
    let line = search_in(&world, ".", "photos --like a.jpg --top 1").done();
    assert!(line.starts_with("   1    1.0000  /"), "{line}");
    // Of the most alike the latest first; and among those that meet criteria.
    let like = search(&world, "--like a.jpg --top 3 --sort date");
    let dates: Vec<&str> = like
        .iter()
        .map(|found| found["date"].as_str().unwrap())
        .collect();
    assert!(
        dates.len() == 3 && dates.is_sorted_by(|a, b| a >= b),
        "{dates:?}"
    );
    assert_eq!(
        ids(&search(&world, "--like a.jpg --until 2021-06")),
        ["b.png"]
    );
    search_in(&world, ".", "photos --like no.jpg").refused(&[
        "--like no.jpg",
        "no photograph of this library",
        "/photos",
    ]);
    search_in(&world, ".", "photos --like broken.png").refused(&["broken.png", "no vectors"]);
    search_in(&world, ".", "photos red --like a.jpg").refused(&["--like", "cannot be used with"]);
}

/// Criteria hold before the best are chosen, not after.
#[test]
fn a_search_among_few_photographs_finds_them() {
    let world = world();
    let all = search(&world, "red");
    assert_eq!(all.len(), 5);
    for (criteria, passing) in [
        ("--folder sub", &["sub/e.JPG", "sub/f.png"][..]),
        ("--until 2020", &["a.jpg"]),
        ("--broken", &[]),
    ] {
        let mut expected: Vec<&Value> = all.iter().collect();
        expected.retain(|found| passing.contains(&ids(&[(*found).clone()])[0]));
        let found = search(&world, &format!("red {criteria}"));
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{criteria}");
        let first = search(&world, &format!("red {criteria} --top 1"));
        assert_eq!(
            first.iter().collect::<Vec<_>>(),
            expected[..expected.len().min(1)],
            "{criteria}"
        );
    }
    let by_date = search(&world, "red --top 3 --sort date");
    let mut best: Vec<Value> = all[..3].to_vec();
    best.sort_by_key(|found| std::cmp::Reverse(found["date"].as_str().unwrap().to_string()));
    assert_eq!(by_date, best);
}

#[test]
fn what_the_owner_says_holds_in_a_search() {
    let world = world();
    let all = search(&world, "red");
    let all = ids(&all);
    let word = |photo: &str, verdict: &str| json!({"photo": photo, "label": "Red", "verdict": verdict, "at": 1});
    correct(
        &world,
        &[
            word(all[4], "approved"),
            word(all[0], "rejected"),
            word("broken.png", "approved"),
        ],
    );
    let found = search(&world, "red");
    assert_eq!(ids(&found), [all[4], all[1], all[2], all[3]]);
    let states = found[0]["labels"].as_array().unwrap().iter();
    let states: Vec<&Value> = states
        .filter(|l| l["name"] == "Red")
        .map(|l| &l["state"])
        .collect();
    assert_eq!(states, ["approved"]);
    assert_eq!(ids(&search(&world, "red --top 1")), [all[4]]);
    assert_eq!(ids(&search(&world, "red --top 2")), [all[4], all[1]]);
    assert_eq!(search(&world, "green").len(), 5, "another word");
    let labelled = search(&world, "--label red");
    assert!(ids(&labelled).contains(&all[4]) && !ids(&labelled).contains(&all[0]));
    assert!(ids(&labelled).contains(&"broken.png"), "the owner sees it");

    // One that was looked at keeps no label that was not approved; other words find it as before.
    let seen = search(&world, "--folder sub --top 1");
    let (photo, label) = (
        ids(&seen)[0].to_string(),
        seen[0]["labels"][0]["name"].as_str().unwrap(),
    );
    correct(
        &world,
        &[json!({"photo": photo, "reviewed": true, "at": 1})],
    );
    assert!(!ids(&search(&world, "--unreviewed")).contains(&&*photo));
    assert!(!ids(&search(&world, &format!("--label {label}"))).contains(&&*photo));
    assert!(!ids(&search(&world, label)).contains(&&*photo));
    assert!(ids(&search(&world, "purple")).contains(&&*photo));
    let found = search(&world, "--folder sub --top 1");
    assert_eq!(
        (&found[0]["reviewed"], &found[0]["labels"][0]["state"]),
        (&json!(true), &json!("rejected"))
    );
    world.write("photos/.epsilon/corrections.jsonl", "no JSON\n");
    search_in(&world, ".", "photos red").refused(&["corrections.jsonl", "line 1"]);
}

#[test]
fn a_search_for_nothing_is_refused() {
    let world = world();
    for (arguments, parts) in [
        (
            "photos",
            &["what to look for?", "--like PHOTO", "--since"][..],
        ),
        ("photos --json --top 3", &["what to look for?"]),
        (
            "photos --since yesterday",
            &["--since", "\"yesterday\"", "YYYY-MM-DD"],
        ),
        ("photos --until 2021-02-29", &["--until", "\"2021-02-29\""]),
        (
            "photos --folder nowhere",
            &[
                "--folder nowhere",
                "no photographs in such a folder",
                "/photos",
            ],
        ),
        ("photos --folder out", &["--folder out"]),
        ("photos --folder a.jpg", &["--folder a.jpg"]),
        (
            "photos --label red --threshold 2",
            &["--threshold 2", "0 to 1"],
        ),
        ("photos --sort name", &["--sort", "relevance"]),
        (
            "photos --broken --vectors vectors.txt",
            &["vectors.txt", "which words"],
        ),
        ("out --broken", &["no tagged library"]),
    ] {
        search_in(&world, ".", arguments).refused(parts);
    }
    // A library without an index, and one whose model is gone, can be listed.
    fs::remove_dir_all(world.path("photos/.epsilon/index")).unwrap();
    for what in ["red", "--like a.jpg"] {
        search_in(&world, ".", &format!("photos {what}")).refused(&["no index", "epsilon tag"]);
    }
    fs::remove_file(world.path(MODEL)).unwrap();
    search_in(&world, ".", "photos red").refused(&["model.safetensors"]);
    assert_eq!(search(&world, "--sort relevance").len(), 6);
    world.write("photos/.epsilon/tags.jsonl", "{}\n");
    search_in(&world, ".", "photos --broken").refused(&["tags.jsonl", "line 1", "mend the line"]);
}

/// An index that another model left is no answer to any question.
#[test]
fn an_index_of_another_model_is_not_searched() {
    let world = world();
    let index = world.path("photos/.epsilon/index");
    let recipe = world.text("recipe.toml");
    let other = recipe.replace("groups = 2", "groups = 2\nscore = \"log-sum-exp\"");
    world.write("other.toml", other);
    world.run("train other.toml --out other").done();
    assert!(index.exists());
    let tag = "tag --model other/seed-1/model.safetensors photos --top 2";
    world.run(tag).partly(&["broken"]);
    for what in ["red", "--like a.jpg"] {
        search_in(&world, ".", &format!("photos {what}")).refused(&["no index"]);
    }
    assert!(!index.exists());
    // With vectors again, all of it.
    world
        .run(&format!("tag --model {MODEL} photos --top 2"))
        .partly(&["broken"]);
    assert_eq!(search(&world, "red").len(), 5);
    // An index that was left all the same.
    let library = world.text("photos/.epsilon/library.json");
    let library: Value = serde_json::from_str(&library).unwrap();
    let identity = library["identity"].as_str().unwrap();
    world.edit("photos/.epsilon/library.json", identity, &"0".repeat(64));
    let parts = ["photos/.epsilon/index", "another model", "search again"];
    search_in(&world, ".", "photos --like a.jpg").refused(&parts);
    world
        .run("index export photos --to a.parquet")
        .refused(&parts);
    assert_eq!(search(&world, "--sort date").len(), 6, "it can be listed");
}

/// As after a tagging that was stopped: the index of the time before holds three of five photographs.
#[test]
fn photographs_that_are_not_in_the_index_yet_are_counted() {
    let world = world();
    let index = world.path("photos/.epsilon/index");
    let tag = format!("tag --model {MODEL} photos --top 2");
    for name in ["sub/e.JPG", "sub/f.png"] {
        fs::rename(world.path("photos").join(name), world.path(&name[4..])).unwrap();
    }
    world.run(&tag).partly(&["broken"]);
    let few = world.files("photos/.epsilon/index");
    for name in ["sub/e.JPG", "sub/f.png"] {
        fs::rename(world.path(&name[4..]), world.path("photos").join(name)).unwrap();
    }
    world.run(&tag).partly(&["broken"]);
    assert_eq!(search(&world, "red").len(), 5);
    fs::remove_dir_all(&index).unwrap();
    fs::create_dir(&index).unwrap();
    for (name, content) in few {
        fs::write(index.join(name), content).unwrap();
    }
    for (arguments, found, warned) in [
        (
            "red",
            3,
            "warning: 2 of 5 photographs are not in the index yet",
        ),
        ("--like a.jpg", 2, "warning: 2 of 5 photographs"),
        ("red --folder sub", 0, "warning: 2 of 2 photographs"),
        ("red --until 2021-12", 3, ""),
        ("--sort date", 6, ""),
    ] {
        let ended = search_in(&world, ".", &format!("photos {arguments} --json"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let json: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(json.as_array().unwrap().len(), found, "{arguments}");
        assert!(ended.stderr.starts_with(warned), "{ended:?}");
        assert_eq!(ended.stderr.is_empty(), warned.is_empty(), "{ended:?}");
    }
}
