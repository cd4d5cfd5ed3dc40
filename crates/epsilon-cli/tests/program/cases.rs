//! Cases that people met with the program, each with what is to come of it. (Those of the readers alone stand in the tests of
//! `epsilon-data` and `epsilon-vision`.)

use crate::world::World;

#[test]
fn d06_a_photo_table_as_csv_is_what_it_is_as_tsv() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world
        .run("eval out/seed-1/model.safetensors --k 1,3 --save-scores scores.npy")
        .done();
    let table = world.text("labels.tsv");
    let rows: Vec<String> = table
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            format!("{},{},\"{}\"\n", cells[0], cells[1], cells[2])
        })
        .collect();
    world.write("headless.csv", rows.concat());
    world.write("named.csv", format!("path,split,labels\n{}", rows.concat()));
    let of = |labels: &str| {
        let lists = "--seen seen.txt --unseen unseen.txt --k 1,3 --json";
        world
            .run(&format!(
                "eval --scores scores.npy --labels {labels} {lists}"
            ))
            .json()
    };
    let expected = of("labels.tsv");
    assert_eq!(of("headless.csv"), expected);
    assert_eq!(of("named.csv"), expected);
}

#[test]
fn d08_a_validation_share_that_leaves_nothing_is_named() {
    let world = World::new();
    world.edit(
        "recipe.toml",
        "[training]\n",
        "[training]\nvalidation = 0.999\n",
    );
    world
        .run("train recipe.toml --out out")
        .refused(&["validation = 0.999", "smaller share"]);
}

/// A folder that somebody hands over, with links in every place that a tagging writes to.
#[cfg(unix)]
#[test]
fn a02_planted_links_lead_nowhere() {
    use std::fs;
    use std::os::unix::fs::symlink;

    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let model = "out/seed-1/model.safetensors";
    let photos = |name: &str| world.path("photos").join(name);
    let clean = || {
        let _ = fs::remove_dir_all(world.path("photos"));
        fs::create_dir_all(photos(".epsilon")).unwrap();
        fs::copy(world.path("test-0025.png"), photos("a.png")).unwrap();
    };
    world.write("precious", "mine");
    let tag = format!("tag --model {model} photos --top 1 --xmp");
    for name in ["lock", "tags.jsonl", "sidecars.jsonl"] {
        clean();
        symlink(world.path("precious"), photos(".epsilon").join(name)).unwrap();
        world.run(&tag).refused(&[name, "it is a link"]);
        assert_eq!(world.text("precious"), "mine", "{name}");
    }
    // What is replaced is replaced in its place; what lies beside it under an old temporary name is not touched.
    for name in [
        ".epsilon/library.json",
        ".epsilon/library.json.tmp",
        "a.png.xmp.tmp",
    ] {
        clean();
        symlink(world.path("precious"), photos(name)).unwrap();
        world.run(&tag).done();
        assert_eq!(world.text("precious"), "mine", "{name}");
        assert!(photos("a.png.xmp").is_file());
    }
    clean();
    fs::remove_dir(photos(".epsilon")).unwrap();
    fs::create_dir(world.path("elsewhere")).unwrap();
    symlink(world.path("elsewhere"), photos(".epsilon")).unwrap();
    world.run(&tag).refused(&[".epsilon", "it is a link"]);
    assert_eq!(fs::read_dir(world.path("elsewhere")).unwrap().count(), 0);
}

/// Pipes in the places of files: nothing waits for their other ends.
#[cfg(unix)]
#[test]
fn a09_pipes_are_not_waited_for() {
    use std::fs;
    use std::process::Command;

    let world = World::new();
    world.run("train recipe.toml --out out").done();
    fs::create_dir_all(world.path("photos/.epsilon")).unwrap();
    fs::copy(world.path("test-0025.png"), world.path("photos/a.png")).unwrap();
    let pipe = |name: &str| {
        let made = Command::new("mkfifo").arg(world.path(name)).status();
        assert!(made.unwrap().success());
    };
    let model = "out/seed-1/model.safetensors";
    for name in ["lock", "tags.jsonl"] {
        let name = format!("photos/.epsilon/{name}");
        let _ = fs::remove_file(world.path(&name));
        pipe(&name);
        let tag = format!("tag --model {model} photos --top 1");
        world.run(&tag).refused(&[&name, "a pipe"]);
        fs::remove_file(world.path(&name)).unwrap();
    }
    pipe("weights");
    let predict = format!("predict --model {model} test-0025.png");
    world
        .run(&format!("{predict} --backbone weights"))
        .refused(&["weights", "a pipe"]);
    world
        .run("predict --model weights test-0025.png")
        .refused(&["weights", "a pipe"]);
    world.edit("recipe.toml", "seen.txt", "weights");
    world
        .run("prepare recipe.toml")
        .refused(&["weights", "a pipe"]);
}

/// As a shell makes one of `--labels <(command)`; its writer may be slower than the program.
#[cfg(unix)]
#[test]
fn a_list_that_is_named_in_a_call_may_be_a_pipe() {
    use std::fs;
    use std::process::Command;

    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let path = world.path("words");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let writer = std::thread::spawn(move || fs::write(path, "red\npurple\n"));
    let predict =
        "predict --model out/seed-1/model.safetensors test-0025.png --labels words --json";
    let said = world.run(predict).json();
    writer.join().unwrap().unwrap();
    let labels = said[0]["labels"].as_array().unwrap().iter();
    let mut names: Vec<&str> = labels
        .map(|label| label["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["purple", "red"]);
}
