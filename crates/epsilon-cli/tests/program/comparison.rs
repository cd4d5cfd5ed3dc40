//! `epsilon bench`: a small comparison to its end, in three forms; gone on with; and what is wrong with one.

use serde_json::Value;

use crate::world::{RECIPE, World};

/// The world's recipe as a comparison of two methods, one of them tuned.
fn table(training: &str) -> String {
    let (shared, rest) = RECIPE.split_once("[method]").unwrap();
    let (_, rest) = rest.split_once("[training]").unwrap();
    format!(
        r#"{}
[training]
{training}{rest}
[[row]]
name = "Epsilon"
method = {{ kind = "epsilon", groups = 2 }}
grid = {{ "training.learning-rate" = [1e-4, 1e-3] }}
published = {{ map = 33.2, f1 = [35.6, 33.8] }}

[[row]]
name = "Chance & more"
method = {{ kind = "random" }}
"#,
        shared.replace("seeds = [1]", "seeds = [1, 2]")
    )
}

#[test]
fn a_comparison_is_trained_tuned_written_and_gone_on_with() {
    let world = World::new();
    world.write("table.toml", table("validation = 0.25"));
    let text = world.run("bench table.toml --out out").done();
    for part in [
        "## Unseen labels",
        "| Epsilon |",
        "| Chance & more |",
        "33.2",
        "learning-rate=0.001",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let markdown = world.text("out/table.md");
    assert!(text.starts_with(&markdown), "{text}");
    let latex = world.text("out/table.tex");
    assert!(
        latex.contains("Chance \\& more") && latex.contains("\\bottomrule"),
        "{latex}"
    );
    let csv = world.text("out/table.csv");
    let lines: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(lines.len(), 3, "{csv}");

    // The better of the two points has a second seed, and only it.
    let lines = world.run("bench table.toml --out out --json").json();
    let epsilon = &lines[0];
    let chosen = epsilon["chosen"].as_str().unwrap();
    let map = |point: &Value| point[1].as_f64().unwrap();
    let tuned = epsilon["tuned"].as_array().unwrap();
    let best = tuned
        .iter()
        .max_by(|a, b| map(a).total_cmp(&map(b)))
        .unwrap();
    assert_eq!(
        map(best),
        tuned.iter().find(|p| p[0] == chosen).map(map).unwrap()
    );
    let seeds = |line: &Value| -> Vec<u64> {
        let trained = line["trained"].as_array().unwrap().iter();
        trained.map(|t| t["seed"].as_u64().unwrap()).collect()
    };
    assert_eq!(seeds(epsilon), [1, 2]);
    let folders = ["learning-rate=0.0001", "learning-rate=0.001"];
    let with_two = folders.map(|f| world.path(format!("out/epsilon/{f}/seed-2")).exists());
    assert_eq!(with_two.iter().filter(|&&two| two).count(), 1);

    // A finished training is not made again: its seconds stay what they were.
    let again = world.run("bench table.toml --out out --json").json();
    assert_eq!(again, lines);
    let chance = world
        .run("bench table.toml --out out --only chance-more --json")
        .json();
    assert_eq!(chance.as_array().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_said_before_anything_starts() {
    let world = World::new();
    let says = |text: &str, arguments: &str, expected: &[&str]| {
        world.write("table.toml", text);
        let ended = world.run(&format!("bench table.toml --out out {arguments}"));
        ended.refused(expected);
        assert!(!world.path("out/tokens").exists());
    };
    says(&table(""), "", &["Epsilon", "validation = 0.1"]);
    says(
        &table("validation = 0.25"),
        "--only nobody",
        &["nobody", "Epsilon, Chance & more"],
    );
    says(RECIPE, "", &["[[row]]"]);
    let twice = format!(
        "{}\n[[row]]\nname = \"epsilon\"\nmethod = {{ kind = \"ridge\" }}",
        table("validation = 0.25")
    );
    says(&twice, "", &["a name of its own"]);
}
