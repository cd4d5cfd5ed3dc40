//! The README's first command: pictures drawn, labels ranked, no download. What it prints is what the README shows.

use std::fs;
use std::path::Path;

use crate::server::Server;
use crate::world::World;

/// How far figures in percent may lie from the README's: processors round differently, and a training goes on from there.
const POINTS: f64 = 2.0;
/// The same for scores of labels.
const SCORES: f64 = 0.4;

/// What the README shows of `quickstart`.
fn shown() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let blocks: Vec<&str> = readme.split("```").skip(1).step_by(2).collect();
    let first = blocks
        .iter()
        .position(|block| block.contains("-- quickstart"))
        .unwrap();
    blocks[first + 1].strip_prefix("text\n").unwrap().into()
}

/// A label among the best of a picture.
#[derive(Debug)]
struct Label<'a> {
    right: bool,
    name: &'a str,
    score: f64,
    unseen: bool,
}

/// Reads a line such as `  1 * striped circle         2.231  unseen`; `None` of other lines.
fn label(line: &str) -> Option<Label<'_>> {
    let line = line.strip_prefix("  ")?;
    let (rank, line) = line.split_once(' ')?;
    rank.parse::<usize>().ok()?;
    let (right, line) = (line.starts_with('*'), line.get(2..)?);
    let (name, rest) = line.split_once("  ")?;
    let mut rest = rest.split_whitespace();
    Some(Label {
        right,
        name,
        score: rest.next()?.parse().ok()?,
        unseen: rest.next() == Some("unseen"),
    })
}

/// Whether two lines say the same, but for numbers that may be a little apart.
fn alike(line: &str, other: &str) -> bool {
    let (words, others) = (line.split_whitespace(), other.split_whitespace());
    words.clone().count() == others.clone().count()
        && words
            .zip(others)
            .all(|(a, b)| match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => (a - b).abs() <= POINTS,
                _ => a == b,
            })
}

/// The best labels below each picture's line, in order.
fn pictures(said: &str) -> Vec<(&str, Vec<Label<'_>>)> {
    let mut pictures = Vec::new();
    for line in said.lines() {
        if line.starts_with("test/") {
            pictures.push((line, Vec::new()));
        } else if let (Some(label), Some((_, labels))) = (label(line), pictures.last_mut()) {
            labels.push(label);
        }
    }
    pictures
}

#[test]
fn quickstart_says_what_the_readme_shows_and_its_commands_work() {
    let world = World::new();
    let mut command = world.command("quickstart");
    // As `cargo run` sets it.
    command.env("CARGO_PKG_NAME", "epsilon-cli");
    let said = world.end(command, "quickstart").done();
    let readme = shown();

    let others = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| label(line).is_none());
        lines.map(String::from).collect()
    };
    let (ours, theirs) = (others(&said), others(&readme));
    assert_eq!(ours.len(), theirs.len(), "{said}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(alike(ours, theirs), "{ours:?} is not {theirs:?}");
    }
    let (ours, theirs) = (pictures(&said), pictures(&readme));
    assert_eq!(ours.len(), 4, "{said}");
    for ((picture, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        assert_eq!((ours.len(), theirs.len()), (5, 5), "{picture}");
        let last = theirs
            .iter()
            .map(|label| label.score)
            .fold(f64::INFINITY, f64::min);
        for theirs in theirs {
            match ours.iter().find(|label| label.name == theirs.name) {
                Some(ours) => {
                    assert_eq!((ours.right, ours.unseen), (theirs.right, theirs.unseen));
                    let apart = (ours.score - theirs.score).abs();
                    assert!(apart < SCORES, "{picture}: {ours:?}, {theirs:?}");
                }
                // What is about as good as the last one may be pushed off the list.
                None => assert!(theirs.score < last + SCORES, "{picture}: {theirs:?}"),
            }
        }
    }
    // Chance is 8: what a newcomer sees is worth having seen, and Epsilon is ahead of the linear control.
    let maps = |name: &str| -> Vec<f64> {
        let row = said.lines().find(|line| line.starts_with(name)).unwrap();
        let words = row.split_whitespace().filter_map(|word| word.parse().ok());
        words.step_by(2).take(3).collect()
    };
    let (epsilon, linear) = (maps("Epsilon"), maps("linear"));
    assert!(
        epsilon[0] >= 50.0 && epsilon[1] >= 65.0 && epsilon[2] >= 65.0,
        "{said}"
    );
    assert!(
        epsilon
            .iter()
            .zip(&linear)
            .all(|(ours, theirs)| ours > theirs),
        "{said}"
    );

    let page = world.text("runs/quickstart/report.html");
    assert!(page.contains("<th scope=\"row\">ridge</th>") && page.contains("data:image/jpeg"));
    let commands: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("  cargo run --release -- "))
        .collect();
    let [predict, explain, serve] = commands[..] else {
        panic!("{said}")
    };
    assert_eq!(world.run(predict).done().lines().count(), 11);
    world.run(explain).done();
    assert!(
        fs::read_dir(world.path("runs/quickstart/maps"))
            .unwrap()
            .count()
            > 0
    );
    let server = Server::start(&world, serve.strip_prefix("serve --model ").unwrap());
    assert_eq!(server.get("/readyz").status, 200);
}
