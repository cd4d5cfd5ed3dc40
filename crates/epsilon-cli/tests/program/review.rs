//! `epsilon review` and what holds of it: over other words and runs, new names of photographs, and kills at any moment.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::Value;

use crate::kill::random;
use crate::world::{Ended, Random, World};

const MODEL: &str = "out/seed-1/model.safetensors";
const KILLS: usize = 200;

/// A trained model, the lists of words `A` and `B`, and a folder `p` with three photographs that were tagged with those of `A`.
fn world() -> World {
    let world = World::of(24, 60);
    world.run("train recipe.toml --out out").done();
    fs::create_dir_all(world.path("p/sub")).unwrap();
    for (from, to) in [
        ("test-0024.jpg", "p/a.jpg"),
        ("test-0025.png", "p/b c.png"),
        ("test-0027.jpg", "p/sub/d.jpg"),
    ] {
        fs::copy(world.path(from), world.path(to)).unwrap();
    }
    world.write("A", "red\ncyan\n");
    world.write("B", "purple\ncolour|red\n");
    tag(&world, "A", "").done();
    world
}

/// Tags `p` with all words of a list.
fn tag(world: &World, words: &str, more: &str) -> Ended {
    world.run(&format!(
        "tag --model {MODEL} p --labels {words} --top 2 {more}"
    ))
}

/// A review by these commands.
fn review(world: &World, commands: &str, more: &str) -> Ended {
    world.write("commands", commands);
    let arguments = format!("review p {more}");
    let mut command = world.command(&arguments);
    command.stdin(File::open(world.path("commands")).unwrap());
    world.end(command, &arguments)
}

/// The labels of a photograph in the table of all tags, with the first letters of their states.
fn table(world: &World, photo: &str) -> Vec<String> {
    let text = world.text("tags.csv");
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let rows = rows.records().map(Result::unwrap);
    let rows = rows.filter(|row| &row[0] == photo);
    let mut labels: Vec<String> = rows
        .map(|row| format!("{} {}", &row[1], &row[6][..2]))
        .collect();
    labels.sort();
    labels
}

fn journal(world: &World) -> String {
    fs::read_to_string(world.path("p/.epsilon/corrections.jsonl")).unwrap_or_default()
}

#[test]
fn what_was_said_holds_whatever_words_come() {
    let world = world();
    let said = review(
        &world,
        "reject a.jpg RED\nadd a.jpg animal|dog\n\napprove \"p/b c.png\" cyan\nreviewed sub/d.jpg\n",
        "",
    );
    assert_eq!(
        said.done(),
        "rejected\ta.jpg\tred\napproved\ta.jpg\tanimal|dog\napproved\tb c.png\tcyan\nreviewed\tsub/d.jpg\n"
    );
    let by: Value = serde_json::from_str(journal(&world).lines().nth(1).unwrap()).unwrap();
    assert_eq!(by["by"]["model"].as_str().unwrap().len(), 64, "{by}");
    // What was tagged is not tagged anew for it.
    assert_eq!(tag(&world, "A", "--csv tags.csv").done(), "");
    assert_eq!(table(&world, "a.jpg"), ["cyan au", "dog ap", "red re"]);
    assert_eq!(table(&world, "b c.png"), ["cyan ap", "red au"]);
    assert_eq!(table(&world, "sub/d.jpg"), ["cyan re", "red re"]);
    // Other words: the rejected one does not come back, the approved ones stay.
    let mut lines: Vec<String> = Vec::new();
    for line in tag(&world, "B", "--csv tags.csv").done().lines() {
        let (photo, labels) = line.split_once('\t').unwrap();
        let mut labels: Vec<&str> = labels.split(", ").collect();
        labels.sort_unstable();
        lines.push(format!("{photo}: {}", labels.join(" ")));
    }
    assert_eq!(
        lines,
        [
            "a.jpg: dog purple",
            "b c.png: cyan purple red",
            "sub/d.jpg: "
        ]
    );
    assert_eq!(table(&world, "a.jpg"), ["dog ap", "purple au", "red re"]);
    for line in tag(&world, "A", "--json").done().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for label in line["labels"].as_array().unwrap() {
            let added = label["name"] == "dog";
            assert_eq!(label["score"].is_number(), !added, "{label}");
            assert!(label["state"].is_string(), "{label}");
        }
    }
}

#[test]
fn what_is_unknown_is_named_and_changes_nothing() {
    let world = world();
    let commands = "reject a.jpg red\nreject nowhere.jpg red\napprove a.jpg dog\nadd a.jpg a||b\nfrown a.jpg red\nreject a.jpg\n\
                    undo\nundo\nadd a.jpg x\u{7}y\nreviewed sub\nreject p/sub/d.jpg cyan\n";
    let ended = review(&world, commands, "");
    let done = ended.partly(&[
        "line 2: nowhere.jpg: is no photograph of this library",
        "line 3: dog: is none of the labels of a.jpg",
        "line 4: \"a||b\": is no label",
        "line 5: \"frown a.jpg red\": is no command",
        "line 6: \"reject a.jpg\": reject PHOTO LABEL",
        "line 8: undo: nothing was said",
        "line 9: ",
        "is no name of a label",
        "line 10: sub: is no photograph",
    ]);
    assert_eq!(
        done,
        "rejected\ta.jpg\tred\nwithdrawn\ta.jpg\tred\nrejected\tsub/d.jpg\tcyan\n"
    );
    assert_eq!(journal(&world).matches("\"verdict\"").count(), 3);
    for place in ["out", "nowhere"] {
        let refused = world.run(&format!("review {place}"));
        refused.refused(&[place, "holds no tagged library"]);
    }
}

#[test]
fn a_line_that_is_not_utf8_is_named_and_the_others_are_done() {
    let world = world();
    world.write(
        "commands",
        b"reject a.jpg red\nreject caf\xe9.jpg red\n\nreviewed sub/d.jpg",
    );
    let mut command = world.command("review p");
    command.stdin(File::open(world.path("commands")).unwrap());
    let ended = world.end(command, "review p");
    let done = ended.partly(&["line 2: is not UTF-8", "\\xHH"]);
    assert_eq!(done, "rejected\ta.jpg\tred\nreviewed\tsub/d.jpg\n");
}

/// Also by `add`: a word without parents is the label of that name that stands there.
#[test]
fn a_label_keeps_its_parents_where_none_are_said() {
    let world = world();
    let commands = "add a.jpg animal|dog\nadd a.jpg DOG\nreject a.jpg Dog\nadd a.jpg dog\nadd a.jpg pet|dog\nadd sub/d.jpg dog\n";
    let animal = "a.jpg\tanimal|dog\n";
    assert_eq!(
        review(&world, commands, "").done(),
        format!(
            "approved\t{animal}approved\t{animal}rejected\t{animal}approved\t{animal}approved\ta.jpg\tpet|dog\napproved\tsub/d.jpg\tdog\n"
        )
    );
}

#[test]
fn decisions_are_listed_and_taken_back() {
    let world = world();
    assert_eq!(world.run("review p --list").done(), "");
    assert_eq!(journal(&world), "", "a list changes nothing");
    review(
        &world,
        "approve a.jpg red\nadd a.jpg dog\nreject a.jpg cyan\nreviewed a.jpg\nadd sub/d.jpg dog\n",
        "",
    )
    .done();
    let all = "rejected\ta.jpg\tcyan\napproved\ta.jpg\tdog\napproved\ta.jpg\tred\nreviewed\ta.jpg\napproved\tsub/d.jpg\tdog\n";
    assert_eq!(world.run("review p --list").done(), all);
    assert_eq!(
        world.run("review p --list --label DOG").done(),
        "approved\ta.jpg\tdog\napproved\tsub/d.jpg\tdog\n"
    );
    // A rejection that became an approval is one again after undo, and other commands come between.
    let said = review(
        &world,
        "approve a.jpg cyan\nunreviewed a.jpg\nwithdraw a.jpg dog\nundo\nundo\nundo\n",
        "--json",
    );
    let said: Vec<Value> = said
        .done()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(said.len(), 6);
    assert_eq!(said[5]["verdict"], "rejected");
    assert_eq!(world.run("review p --list").done(), all);
    let listed = world.run("review p --list --json").done();
    let last: Value = serde_json::from_str(listed.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["label"], &last["verdict"]),
        (&"dog".into(), &"approved".into())
    );
    // Every line that was acknowledged stands in the journal as it was printed.
    for line in said {
        let journal = journal(&world);
        let mut lines = journal
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert!(lines.any(|there| there == line), "{line}");
    }
}

#[test]
fn a_photograph_with_a_new_name_keeps_its_corrections() {
    let world = world();
    review(
        &world,
        "reject a.jpg red\nadd a.jpg dog\nreviewed \"b c.png\"\n",
        "",
    )
    .done();
    fs::rename(world.path("p/a.jpg"), world.path("p/sub/new name.jpg")).unwrap();
    // All of them at once, so that the folder looks as if a mount were away.
    fs::rename(world.path("p/b c.png"), world.path("p/sub/e.png")).unwrap();
    fs::rename(world.path("p/sub/d.jpg"), world.path("p/f.jpg")).unwrap();
    let tagged = tag(&world, "A", "--csv tags.csv");
    assert_ne!(tagged.code, Some(2), "{tagged:?}");
    assert_eq!(
        table(&world, "sub/new name.jpg"),
        ["cyan au", "dog ap", "red re"]
    );
    assert_eq!(table(&world, "sub/e.png"), ["cyan re", "red re"]);
    assert_eq!(table(&world, "f.jpg"), ["cyan au", "red au"]);
    assert_eq!(
        world.run("review p --list").done(),
        "reviewed\tsub/e.png\napproved\tsub/new name.jpg\tdog\nrejected\tsub/new name.jpg\tred\n"
    );
}

/// At a terminal, as `script` makes one.
#[cfg(target_os = "linux")]
#[test]
fn somebody_at_a_terminal_answers() {
    let world = world();
    let program = env!("CARGO_BIN_EXE_epsilon");
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{program} review p"), "/dev/null"]);
    world.write("answers", "1\n7\n+animal|dog\n\nu\n\n\nq\n");
    command
        .stdin(File::open(world.path("answers")).unwrap())
        .current_dir(world.path("."));
    let Ok(output) = command.output() else {
        println!("skipped: script is not installed");
        return;
    };
    let shown = String::from_utf8_lossy(&output.stdout);
    for part in ["approved", "7: there is no label", "2 of 3", "3 of 3"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let first = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("1 of 3  "));
    let first = first.unwrap().split("  (").next().unwrap().trim();
    let listed = world.run("review p --list").done();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 4, "{listed}");
    for line in [
        format!("approved\t{first}\tanimal|dog"),
        format!("reviewed\t{first}"),
    ] {
        assert!(lines.contains(&line.as_str()), "{line}: {listed}");
    }
    let reviewed = lines.iter().filter(|line| line.starts_with("reviewed\t"));
    assert_eq!(reviewed.count(), 2, "{listed}");
}

/// A command of a scripted review.
fn any_command(random: &mut Random) -> String {
    let photo = ["a.jpg", "\"b c.png\"", "sub/d.jpg"][random.below(3) as usize];
    let word = ["red", "cyan", "purple", "animal|dog", "Cyan"][random.below(5) as usize];
    match random.below(10) {
        0..=3 => format!("add {photo} {word}\n"),
        4..=6 => format!("reject {photo} {word}\n"),
        7 => "undo\n".into(),
        8 => format!("withdraw {photo} {word}\n"),
        _ => format!("reviewed {photo}\n"),
    }
}

/// Begins a review of endless commands and kills it after a while; gives what it had acknowledged, and whether it still ran.
fn killed(world: &World, random: &mut Random) -> (Vec<String>, bool) {
    let mut command = world.command("review p --json");
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let commands: Vec<String> = (0..5000).map(|_| any_command(random)).collect();
    let delay = Duration::from_micros(random.below(50_000));
    thread::scope(|scope| {
        scope.spawn(move || {
            let all = commands.iter();
            // Until nobody reads any more.
            let _ = all
                .map(|command| stdin.write_all(command.as_bytes()))
                .find(Result::is_err);
        });
        let acknowledged = scope.spawn(move || {
            let (mut reader, mut lines) = (BufReader::new(stdout), Vec::new());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
                lines.push(std::mem::take(&mut line));
            }
            lines
        });
        sleep(delay);
        let running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        (acknowledged.join().unwrap(), running)
    })
}

#[test]
fn corrections_survive_kills() {
    let world = world();
    let mut random = random("review");
    let (mut kills, mut acknowledged, mut place) = (0, 0, 0);
    for trial in 0..2 * KILLS {
        if trial % 25 == 0 {
            let words = ["A", "B"][trial / 25 % 2];
            tag(&world, words, "").done();
        }
        let (lines, hit) = killed(&world, &mut random);
        kills += usize::from(hit);
        acknowledged += lines.len();
        let text = journal(&world);
        let mut there = text[place..].split_inclusive('\n');
        for line in lines {
            assert!(there.any(|other| other == line), "lost: {line}");
        }
        // What follows was on its way, and at most one line is half written.
        let rest: Vec<&str> = there.collect();
        let whole = rest.iter().filter(|line| line.ends_with('\n')).count();
        assert!(rest.len() - whole <= 1, "{rest:?}");
        place = text.rfind('\n').map_or(0, |end| end + 1);
        if kills == KILLS {
            break;
        }
    }
    println!("{kills} kills, {acknowledged} decisions acknowledged");
    assert!(kills == KILLS && acknowledged > KILLS);
    // What is tagged then is what was said.
    tag(&world, "A", "--csv tags.csv").done();
    let listed = world.run("review p --list --json").done();
    let mut words = 0;
    for line in listed.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let photo = line["photo"].as_str().unwrap();
        let Some(label) = line["label"].as_str() else {
            continue;
        };
        words += 1;
        let row = |state: &str| table(&world, photo).contains(&format!("{label} {state}"));
        match line["verdict"].as_str().unwrap() {
            "approved" => assert!(row("ap"), "{line}"),
            _ => assert!(!row("ap") && !row("au"), "{line}"),
        }
    }
    assert!(words > 0, "{listed}");
}
