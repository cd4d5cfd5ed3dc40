//! `epsilon calibrate`, `tag` and `search` on a small library: what is tagged, kept, skipped, written into sidecars and found.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::World;

const MODEL: &str = "out/seed-1/model.safetensors";

/// A trained model and a folder `photos` with five pictures, two of them in a folder of their own, and a broken one.
fn world() -> World {
    let world = World::of(24, 60);
    world.run("train recipe.toml --out out").done();
    fs::create_dir_all(world.path("photos/sub")).unwrap();
    for (from, to) in [
        ("test-0024.jpg", "photos/a.jpg"),
        ("test-0025.png", "photos/b.png"),
        ("test-0026.png", "photos/c d.png"),
        ("test-0027.jpg", "photos/sub/e.JPG"),
        ("test-0028.png", "photos/sub/f.png"),
    ] {
        fs::copy(world.path(from), world.path(to)).unwrap();
    }
    world.write("photos/broken.png", b"\x89PNG\r\n\x1a\nno more");
    world
}

/// The lines of a library's `tags.jsonl` by their photographs.
fn tags(world: &World, library: &str) -> Vec<(String, Value)> {
    let text = world.text(&format!("{library}/tags.jsonl"));
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .map(|line: Value| (line["photo"].as_str().unwrap().to_string(), line))
        .collect()
}

fn labels(line: &Value) -> Vec<&str> {
    let labels = line["labels"].as_array().unwrap().iter();
    labels.map(|l| l["name"].as_str().unwrap()).collect()
}

#[test]
fn a_model_is_calibrated() {
    let world = world();
    let tag = format!("tag --model {MODEL} photos");
    world
        .run(&tag)
        .refused(&["no thresholds", "epsilon calibrate", "--top"]);
    world
        .run(&format!("tag --model {MODEL} nowhere"))
        .refused(&["nowhere: No such file"]);
    world
        .run(&format!(
            "predict --model {MODEL} test-0025.png --threshold 0.5"
        ))
        .refused(&["--threshold", "epsilon calibrate"]);
    let before = fs::metadata(world.path(MODEL)).unwrap().len();
    let said = world.run(&format!("calibrate {MODEL} --json")).json();
    assert!(fs::metadata(world.path(MODEL)).unwrap().len() > before);
    let calibration = &said["calibration"];
    assert_eq!(calibration["images"], 60);
    assert_eq!(calibration["rule"], "best-f1");
    assert_eq!(calibration["unseen"]["positives"], 60);
    // 60 pictures, of three unseen colours 20 each.
    let own = calibration["labels"].as_array().unwrap();
    let unseen = own.iter().filter(|own| own["seen"] == false);
    assert_eq!(
        unseen
            .map(|own| own["positives"].clone())
            .collect::<Vec<_>>(),
        [20, 20, 20]
    );
    let held = &said["held_out"]["unseen"];
    assert_eq!(
        held["hits"].as_u64().unwrap() + held["missed"].as_u64().unwrap(),
        60
    );
    world
        .run(&format!("calibrate {MODEL} --precision 0"))
        .refused(&["precision of 0"]);
    let text = world
        .run(&format!(
            "calibrate {MODEL} --on recipe.toml --precision 0.5"
        ))
        .done();
    assert!(text.contains("60 test images of recipe.toml") && text.contains("at least 50 %"));
}

/// Predictions are probabilities, in their order, and those above the thresholds are kept.
#[test]
fn a_calibrated_model_predicts_probabilities_and_tags_by_its_thresholds() {
    let world = world();
    world
        .run(&format!(
            "calibrate {MODEL} --on recipe.toml --precision 0.5"
        ))
        .done();
    let predict = |more: &str| {
        world
            .run(&format!(
                "predict --model {MODEL} test-0025.png --json {more}"
            ))
            .json()
    };
    let all = predict("--top 9");
    let all = all[0]["labels"].as_array().unwrap();
    let probability = |label: &Value| label["probability"].as_f64().unwrap();
    assert_eq!(all.len(), 9);
    assert!(
        all.windows(2)
            .all(|pair| probability(&pair[0]) >= probability(&pair[1]))
    );
    let kept = predict("");
    let expected: Vec<&Value> = all.iter().filter(|label| label["kept"] == true).collect();
    assert_eq!(
        kept[0]["labels"]
            .as_array()
            .unwrap()
            .iter()
            .collect::<Vec<_>>(),
        expected
    );
    let middle = probability(&all[4]);
    let above = predict(&format!("--threshold {middle} --top 3"));
    assert_eq!(above[0]["labels"].as_array().unwrap(), &all[..3]);
    world
        .run(&format!(
            "predict --model {MODEL} test-0025.png --threshold 2"
        ))
        .refused(&["0 to 1"]);
    let lines = world
        .run(&format!("predict --model {MODEL} test-0025.png --top 2"))
        .done();
    assert_eq!(lines.matches(" %").count(), 2);

    // The figures of the model are what they were, and its report tells of the calibration.
    world.run(&format!("eval {MODEL}")).done();
    world.run("report out --photos 2").done();
    let report = world.text("out/report.html");
    assert!(report.contains("Calibration") && report.contains("Reliability"));
    // A calibrated model tags without being told how.
    world
        .run(&format!("tag --model {MODEL} photos --csv tags.csv"))
        .partly(&["broken.png"]);
    assert!(
        world
            .text("tags.csv")
            .starts_with("photo,label,parents,score,probability,seen,state\n")
    );
}

#[test]
fn a_folder_is_tagged_once_and_what_changes_again() {
    let world = world();
    let tag = format!("tag --model {MODEL} photos --top 2 --csv tags.csv");
    let said = world.run(&tag).partly(&["failed: ", "photos/broken.png"]);
    let photos = ["a.jpg", "b.png", "c d.png", "sub/e.JPG", "sub/f.png"];
    assert_eq!(said.lines().count(), 5);
    for (line, photo) in said.lines().zip(photos) {
        assert!(line.starts_with(&format!("{photo}\t")), "{line}");
    }
    let library = "photos/.epsilon";
    let first = tags(&world, library);
    let ids: Vec<&str> = first.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids.len(), 6);
    assert!(
        first
            .iter()
            .any(|(id, line)| id == "broken.png" && line["error"].is_string())
    );
    assert_eq!(world.text("tags.csv").lines().count(), 1 + 5 * 2);
    // The same labels as those of `predict`.
    for (id, line) in first
        .iter()
        .filter(|(id, _)| id != "broken.png" && !id.contains(' '))
    {
        let predicted = world
            .run(&format!(
                "predict --model {MODEL} photos/{id} --top 2 --json"
            ))
            .json();
        let names = predicted[0]["labels"].as_array().unwrap().iter();
        let names: Vec<&str> = names.map(|l| l["name"].as_str().unwrap()).collect();
        assert_eq!(labels(line), names, "{id}");
    }

    // Again: nothing is done, and what failed is named again.
    let again = world.run(&tag).partly(&["photos/broken.png"]);
    assert_eq!(again, "");
    // One is new, one has changed, one is gone, and the broken one is mended.
    fs::copy(world.path("test-0030.jpg"), world.path("photos/new.jpg")).unwrap();
    fs::copy(world.path("test-0031.png"), world.path("photos/b.png")).unwrap();
    fs::copy(world.path("test-0032.png"), world.path("photos/broken.png")).unwrap();
    fs::remove_file(world.path("photos/sub/f.png")).unwrap();
    let said = world.run(&tag).done();
    let told: Vec<&str> = said
        .lines()
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    assert_eq!(told, ["b.png", "broken.png", "new.jpg"]);
    let ids: Vec<String> = tags(&world, library)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(
        ids,
        [
            "a.jpg",
            "b.png",
            "broken.png",
            "c d.png",
            "new.jpg",
            "sub/e.JPG"
        ]
    );
    let found = world.run("search photos red --json").json();
    assert_eq!(
        found.as_array().unwrap().len(),
        6,
        "what is gone is not found"
    );

    // One that can be read no more is found no more.
    world.write("photos/new.jpg", "no picture");
    world.run(&tag).partly(&["new.jpg"]);
    let found = world.run("search photos red").done();
    assert!(
        found.lines().count() == 5 && !found.contains("new.jpg"),
        "{found}"
    );
}

/// All anew, in JSON, into another place.
#[test]
fn a_folder_is_tagged_with_other_words() {
    let world = world();
    fs::remove_file(world.path("photos/broken.png")).unwrap();
    world
        .run(&format!("tag --model {MODEL} photos --top 2"))
        .done();
    world.write("words.txt", "purple\ncolour|dark|brown\n");
    let json = world
        .run(&format!(
            "tag --model {MODEL} photos --labels words.txt --top 1 --json --out lib"
        ))
        .done();
    assert_eq!(json.lines().count(), 5);
    let brown = tags(&world, "lib");
    let brown = brown.iter().find(|(_, line)| labels(line) == ["brown"]);
    if let Some((_, line)) = brown {
        assert_eq!(
            line["labels"][0]["parents"],
            serde_json::json!(["colour", "dark"])
        );
    }
    world.write("bad.txt", "animal||dog\n");
    world
        .run(&format!(
            "tag --model {MODEL} photos --labels bad.txt --top 1"
        ))
        .refused(&["bad.txt", "animal||dog"]);
    world
        .run(&format!("tag --model {MODEL} nowhere --top 1"))
        .refused(&["nowhere"]);
}

#[test]
fn a_library_is_searched_for_any_word() {
    let world = world();
    world
        .run(&format!("tag --model {MODEL} photos --top 1 --out lib"))
        .partly(&["broken"]);
    // The scores are those of `predict`, within the index's rounding.
    for word in ["red", "purple"] {
        let found = world.run(&format!("search lib {word} --json")).json();
        let found = found.as_array().unwrap();
        assert_eq!(found.len(), 5);
        world.write("word.txt", word);
        for hit in found {
            let photo = hit["photo"].as_str().unwrap();
            if photo.contains(' ') {
                continue;
            }
            let predict = format!("predict --model {MODEL} {photo} --labels word.txt --json");
            let exact = world.run(&predict).json()[0]["labels"][0]["score"]
                .as_f64()
                .unwrap();
            let score = hit["score"].as_f64().unwrap();
            assert!(
                (score - exact).abs() < 0.02 * exact.abs().max(0.1),
                "{photo} {score} {exact}"
            );
        }
        let scores: Vec<f64> = found
            .iter()
            .map(|hit| hit["score"].as_f64().unwrap())
            .collect();
        assert!(scores.is_sorted_by(|a, b| a >= b));
        let lines = world.run(&format!("search lib {word} --top 2")).done();
        assert_eq!(lines.lines().count(), 2);
    }
    world
        .run("search photos red")
        .refused(&["photos", "no tagged library", "epsilon tag"]);
    world
        .run("search lib zzzz")
        .refused(&["`zzzz`", "no vector"]);
    world.run("search lib red --top 0").refused(&["--top 0"]);
    // Calibration changes nothing of the vectors; another training does.
    world.run(&format!("calibrate {MODEL}")).done();
    world.run("search lib red").done();
    world.run("train recipe.toml --out out --seed 2").done();
    fs::rename(
        world.path("out/seed-2/model.safetensors"),
        world.path(MODEL),
    )
    .unwrap();
    world
        .run("search lib red")
        .refused(&["another model", "tag it again"]);
    let before = world.text("lib/tags.jsonl");
    world
        .run(&format!("tag --model {MODEL} photos --top 1 --out lib"))
        .partly(&["broken"]);
    assert_ne!(world.text("lib/tags.jsonl"), before);
    world.run("search lib red").done();

    // A method that scores by no vectors of the image tags, and says why it has no index.
    world.edit(
        "recipe.toml",
        "kind = \"epsilon\"\ngroups = 2",
        "kind = \"bilinear-attention\"",
    );
    world.run("train recipe.toml --out other").done();
    world
        .run("tag --model other/seed-1/model.safetensors photos --top 1 --out plain")
        .partly(&["broken"]);
    world
        .run("search plain red")
        .refused(&["bilinear-attention", "no index"]);

    world.write("lib/index/rows-0.bin", "");
    world.write("lib/library.json", "{");
    world.run("search lib red").refused(&["library.json"]);
}

type Fields = serde_json::Map<String, Value>;

fn exiftool(world: &World, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("exiftool");
    let output = command
        .args(arguments)
        .current_dir(world.path("."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// What exiftool finds in a sidecar.
fn xmp_fields(world: &World, file: &str) -> Fields {
    let said = exiftool(world, &["-j", "-G1", "-struct", "-XMP:all", file]);
    let said: Value = serde_json::from_slice(&said).unwrap();
    let mut fields = said[0].as_object().unwrap().clone();
    fields.retain(|name, _| name.starts_with("XMP-") && name != "XMP-x:XMPToolkit");
    fields
}

/// A field's values, of which exiftool writes one alone as no list.
fn list(fields: &Fields, name: &str) -> Vec<String> {
    let values = match fields.get(name) {
        Some(Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
        None => Vec::new(),
    };
    values
        .iter()
        .map(|v| v.as_str().unwrap().to_string())
        .collect()
}

/// Those that hold no labels.
fn beside_labels(fields: &Fields) -> Fields {
    let lists = [
        "XMP-dc:Subject",
        "XMP-lr:HierarchicalSubject",
        "XMP-digiKam:TagsList",
        "XMP-epsilon:Labels",
    ];
    let mut fields = fields.clone();
    fields.retain(|name, _| !lists.contains(&name.as_str()));
    fields
}

/// Somebody else's sidecar keeps all it holds; ours holds the labels and nothing else. Read back by exiftool where it is
/// installed.
#[test]
fn sidecars_are_read_by_other_programs() {
    let world = world();
    fs::remove_file(world.path("photos/broken.png")).unwrap();
    if Command::new("exiftool").arg("-ver").output().is_err() {
        println!("skipped: exiftool is not installed");
        return;
    }
    let read = |file: &str| xmp_fields(&world, file);
    let theirs = "photos/a.jpg.xmp";
    exiftool(
        &world,
        &[
            "-XMP-xmp:Rating=4",
            "-XMP-dc:Title=Us & them",
            "-XMP-dc:Creator=Somebody",
            "-XMP-dc:Subject=holiday",
            "-XMP-lr:HierarchicalSubject=trip|holiday",
            "-XMP-photoshop:City=Rome",
            theirs,
        ],
    );
    let (before, bytes) = (read(theirs), fs::read(world.path(theirs)).unwrap());
    world.write(
        "words.txt",
        "red\ncolour|cyan\ncolour|magenta\ncolour|orange\n",
    );
    let tag = format!("tag --model {MODEL} photos --labels words.txt --top 2 --xmp");
    world.run(&tag).done();
    for (id, line) in tags(&world, "photos/.epsilon") {
        let names = labels(&line);
        let fields = read(&format!("photos/{id}.xmp"));
        let list = |name: &str| list(&fields, name);
        let below = |between: &str| -> Vec<String> {
            let path = |name: &&str| match *name {
                "red" => name.to_string(),
                _ => format!("colour{between}{name}"),
            };
            names.iter().map(path).collect()
        };
        let mine = id == "a.jpg";
        let with = |first: &str, rest: Vec<String>| -> Vec<String> {
            let first = mine.then(|| first.to_string());
            first.into_iter().chain(rest).collect()
        };
        let flat = names.iter().map(ToString::to_string).collect();
        assert_eq!(list("XMP-dc:Subject"), with("holiday", flat), "{id}");
        assert_eq!(
            list("XMP-lr:HierarchicalSubject"),
            with("trip|holiday", below("|")),
            "{id}"
        );
        // Begun in front of their list it would hide that from digiKam.
        let tags = if mine { Vec::new() } else { below("/") };
        assert_eq!(list("XMP-digiKam:TagsList"), tags, "{id}");
        let others = beside_labels(&fields);
        if mine {
            assert_eq!(others, beside_labels(&before));
            assert_eq!(others.len(), 4, "rating, title, creator, city: {before:?}");
        } else {
            assert!(others.is_empty(), "{fields:?}");
        }
    }
    // Other labels: those of before go, and what somebody else wrote stays byte for byte when ours are gone.
    world.write("words.txt", "purple\n");
    world.run(&tag.replace("--top 2", "--top 1")).done();
    assert_eq!(
        read("photos/b.png.xmp")["XMP-dc:Subject"],
        serde_json::json!(["purple"])
    );
    // Every line of theirs is there, in their order.
    let text = fs::read_to_string(world.path(theirs)).unwrap();
    let mut lines = text.lines();
    for line in String::from_utf8(bytes).unwrap().lines() {
        assert!(
            lines.any(|found| found == line),
            "{line} is gone from\n{text}"
        );
    }
}

/// The photograph's tags are kept all the same.
#[test]
fn a_sidecar_that_is_no_xmp_is_named_and_left_alone() {
    let world = world();
    fs::remove_file(world.path("photos/broken.png")).unwrap();
    world.write("photos/b.png.xmp", "not XML");
    world.write("words.txt", "purple\nred\n");
    let tag = format!("tag --model {MODEL} photos --labels words.txt --top 2 --xmp");
    world.run(&tag).partly(&["b.png.xmp", "left as it is"]);
    assert_eq!(world.text("photos/b.png.xmp"), "not XML");
    fs::remove_file(world.path("photos/b.png.xmp")).unwrap();
    world.run(&tag).done();
    assert!(
        world.text("photos/b.png.xmp").contains("purple"),
        "tried again"
    );
    // The other name of sidecars.
    world
        .run(&tag.replace("--xmp", "--xmp=stem --out stem"))
        .done();
    assert!(world.path("photos/b.xmp").exists());
}

/// Where something happens without end there is never a quiet moment to begin in.
#[test]
fn a_watched_folder_that_is_never_still_is_tagged() {
    let world = world();
    let tag = format!("tag --model {MODEL} photos --top 1 --watch --out lib");
    let mut watching = world.command(&tag).spawn().unwrap();
    let start = Instant::now();
    let tags = || fs::read_to_string(world.path("lib/tags.jsonl")).unwrap_or_default();
    let (mut noise, mut added) = (0, false);
    while !tags().contains("late.png") {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", tags());
        if !added && tags().contains("sub/f.png") {
            fs::copy(world.path("test-0029.png"), world.path("photos/late.png")).unwrap();
            added = true;
        }
        noise += 1;
        world.write("photos/noise.txt", noise.to_string());
        std::thread::sleep(Duration::from_millis(100));
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn photographs_that_come_are_tagged_while_it_watches() {
    let world = world();
    let mut watching = world
        .command(&format!(
            "tag --model {MODEL} photos --top 1 --watch --out lib"
        ))
        .spawn()
        .unwrap();
    let wait = |what: &str, until: &dyn Fn(&str) -> bool| {
        let start = Instant::now();
        let tags = || fs::read_to_string(world.path("lib/tags.jsonl")).unwrap_or_default();
        while !until(&tags()) {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{what}: {}",
                tags()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait("those that are there", &|tags| tags.contains("sub/f.png"));
    world
        .run(&format!("tag --model {MODEL} photos --top 1 --out lib"))
        .refused(&["another process", "lib"]);
    fs::create_dir(world.path("photos/later")).unwrap();
    fs::copy(
        world.path("test-0029.png"),
        world.path("photos/later/g.png"),
    )
    .unwrap();
    wait("one in a new folder", &|tags| tags.contains("later/g.png"));
    fs::remove_file(world.path("photos/a.jpg")).unwrap();
    wait("one that is gone", &|tags| !tags.contains("a.jpg"));
    watching.kill().unwrap();
    watching.wait().unwrap();
    let said = world
        .run(&format!("tag --model {MODEL} photos --top 1 --out lib"))
        .partly(&["broken"]);
    assert_eq!(said, "", "all was done");
}

/// What is known of one folder's photographs is not said of another's, whose ids are the same.
#[test]
fn a_library_of_another_folder_is_not_taken_over() {
    let world = world();
    let tag = |folder: &str, more: &str| {
        let command = format!("tag --model {MODEL} {folder} --top 1 --out lib {more}");
        world.run(&command)
    };
    tag("photos", "").partly(&["broken"]);
    fs::create_dir(world.path("others")).unwrap();
    fs::copy(world.path("test-0030.jpg"), world.path("others/a.jpg")).unwrap();
    let before = world.files("lib");
    let parts = ["lib: this library is of", "/photos", "--out"];
    tag("others", "--xmp").refused(&parts);
    assert!(world.files("lib") == before && !world.path("others/a.jpg.xmp").exists());
    let learn = "learn others --library lib --model backbone.safetensors --vectors vectors.txt";
    world.run(learn).refused(&parts);
    assert!(!world.path("lib/learnt").exists());
    // The same folder by another name, and one that was moved.
    tag("photos/sub/..", "").partly(&["broken"]);
    fs::rename(world.path("photos"), world.path("moved")).unwrap();
    tag("moved", "").partly(&["broken"]);
    tag("others", "").refused(&["/moved"]);
}

/// A disk that is away comes back: what was said of its photographs is still said of them, and of a copy, too.
#[test]
fn corrections_stay_with_photographs_whose_disk_is_away() {
    let world = world();
    fs::remove_file(world.path("photos/broken.png")).unwrap();
    fs::create_dir(world.path("photos/disk")).unwrap();
    for number in 30..40 {
        let ending = if number % 3 == 0 { "jpg" } else { "png" };
        let name = format!("test-00{number}.{ending}");
        fs::copy(world.path(&name), world.path(format!("photos/disk/{name}"))).unwrap();
    }
    let tag = || world.run(&format!("tag --model {MODEL} photos --top 1"));
    tag().done();
    world.write(
        "photos/.epsilon/corrections.jsonl",
        "{\"photo\":\"disk/test-0030.jpg\",\"label\":\"dog\",\"verdict\":\"approved\",\"at\":1}\n",
    );
    tag().done();
    fs::rename(world.path("photos/disk"), world.path("away")).unwrap();
    fs::copy(world.path("test-0030.jpg"), world.path("photos/copy.jpg")).unwrap();
    tag().partly(&[
        "of 15 known photographs 5 are there",
        "nothing was forgotten",
    ]);
    fs::rename(world.path("away"), world.path("photos/disk")).unwrap();
    tag().done();
    let said = world.run("review photos --list").done();
    assert_eq!(
        said,
        "approved\tcopy.jpg\tdog\napproved\tdisk/test-0030.jpg\tdog\n"
    );
}
