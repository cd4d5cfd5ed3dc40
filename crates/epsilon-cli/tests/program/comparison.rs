//! `epsilon bench`: a small comparison to its end, in three forms; gone on with; and what is wrong with one.

use std::collections::BTreeSet;
use std::path::Path;

use epsilon::recipe::Recipe;
use serde_json::Value;

use crate::world::{RECIPE, World, assert_same_files};

/// The world's recipe as a comparison of two methods, one of them tuned.
pub(crate) fn table(training: &str) -> String {
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
    // The finished rows stay in the table, which an unfinished one does not enter.
    assert_eq!(world.text("out/table.md"), markdown);
    assert_eq!(world.text("out/table.csv"), csv);
    std::fs::remove_file(world.path(format!("out/epsilon/{chosen}/seed-2/result.json"))).unwrap();
    world
        .run("bench table.toml --out out --only chance-more")
        .done();
    let rows = world.text("out/table.csv");
    assert!(
        rows.contains("Chance") && !rows.contains("Epsilon"),
        "{rows}"
    );
}

#[test]
fn rows_are_named_by_names_with_commas() {
    let world = World::of(8, 4);
    let shared = table("");
    let shared = shared.split("[[row]]").next().unwrap().to_string();
    let row = |name: &str, penalty: f64| {
        format!(
            "[[row]]\nname = \"{name}\"\nmethod = {{ kind = \"ridge\", penalty = {penalty:?} }}\n"
        )
    };
    let rows = [("Ridge", 0.1), ("Ridge, 1", 1.0), ("Ridge, 9", 9.0)]
        .map(|(name, penalty)| row(name, penalty));
    world.write("table.toml", shared + &rows.concat());
    let names = |only: &[&str]| -> Vec<String> {
        let mut command = world.command("bench table.toml --out out --json");
        only.iter().for_each(|list| {
            command.args(["--only", list]);
        });
        let lines = world.end(command, &format!("bench --only {only:?}")).json();
        let lines = lines.as_array().unwrap().iter();
        lines
            .map(|line| line["name"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(names(&["Ridge, 9"]), ["Ridge, 9"]);
    assert_eq!(names(&["ridge-1,Ridge"]), ["Ridge", "Ridge, 1"]);
    assert_eq!(
        names(&["Ridge, 1, Ridge, 9", "Ridge"]),
        ["Ridge", "Ridge, 1", "Ridge, 9"]
    );
    let mut command = world.command("bench table.toml --out out");
    command.args(["--only", "Ridge, 2"]);
    world
        .end(command, "bench --only")
        .refused(&["--only 2", "Ridge, 1, Ridge, 9"]);
}

/// What cannot be told apart from the best is marked, in the table and in the report.
#[test]
fn the_best_row_and_those_like_it_are_marked() {
    let world = World::new();
    world.write("table.toml", table("validation = 0.25"));
    let text = world.run("bench table.toml --out out").done();
    for part in ["scores as given", "Bold: the best mAP.", "| **"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let resamples = world.text("out/chance-more/seed-1/resamples.json");
    let resamples: Value = serde_json::from_str(&resamples).unwrap();
    assert_eq!(resamples["zsl"]["maps"].as_array().unwrap().len(), 1000);
    let csv = world.text("out/table.csv");
    let best = csv
        .lines()
        .next()
        .unwrap()
        .split(',')
        .position(|name| name == "ZSL mAP to the best");
    let marks: Vec<&str> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(best.unwrap()).unwrap())
        .collect();
    assert!(
        marks.contains(&"best")
            && marks
                .iter()
                .all(|mark| ["best", "same", "apart"].contains(mark)),
        "{csv}"
    );
    world
        .run("report out/chance-more out/chance-more --photos 0 --store out/tokens --out r.html")
        .done();
    assert!(
        world.text("r.html").contains("cannot be told apart"),
        "the report shows the marks"
    );
}

/// Small forms of every method of the tables, but for CLIP's, which need a tower of its own.
const METHODS: [&str; 18] = [
    r#"kind = "random""#,
    r#"kind = "ridge""#,
    r#"kind = "conse""#,
    r#"kind = "label-em""#,
    r#"kind = "fast0tag", hidden = [8]"#,
    r#"kind = "sdl""#,
    r#"kind = "bilinear-attention", rank = 4"#,
    r#"kind = "lesa-per-cluster", clusters = 2"#,
    r#"kind = "lesa", attentions = 2"#,
    r#"kind = "biam", channels = 8, heads = 2, best = 2"#,
    r#"kind = "ml2p-encoder", groups = 2"#,
    r#"kind = "gen-mlzsl", hidden = 8, heads = 1, epochs = 1, samples = 2"#,
    r#"kind = "epsilon", groups = 2, token-dropout = 0.5, dropout = 0.2, global-branch = { hidden = [8] }"#,
    r#"kind = "logistic""#,
    r#"kind = "warp""#,
    r#"kind = "wsabie", rank = 4"#,
    r#"kind = "cnn-rnn", hidden = 4, embedding = 4"#,
    r#"kind = "learnt-labels", of = { kind = "lesa", attentions = 2 }"#,
];

/// The keys of a table and of all in it.
fn keys(value: &toml::Value, found: &mut BTreeSet<String>) {
    if let toml::Value::Table(table) = value {
        for (key, value) in table {
            found.insert(key.clone());
            keys(value, found);
        }
    }
}

#[test]
fn every_key_of_a_recipe_is_documented() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (data, rest) = RECIPE.split_once("[method]").unwrap();
    let (_, rest) = rest.split_once("[training]").unwrap();
    let mut found = BTreeSet::new();
    for method in METHODS {
        let text = format!(
            "method = {{ {method} }}\n{data}[training]\naverage = 0.99\nvalidation = 0.25\npatience = 2\nclip = 1.0{rest}"
        );
        let recipe = Recipe::parse(Path::new("recipe.toml"), &text).unwrap();
        let table = recipe.to_toml().unwrap().parse().unwrap();
        keys(&toml::Value::Table(table), &mut found);
    }
    assert!(
        found.len() > 40 && found.contains("batch-norm"),
        "{found:?}"
    );
    let strange = found.iter().filter(|key| {
        let forms = [format!("`{key}`"), format!("{key} = "), format!("[{key}]")];
        !forms.iter().any(|form| docs.contains(form))
    });
    assert_eq!(
        strange.collect::<Vec<_>>(),
        [""; 0],
        "not in docs/recipes.md"
    );
}

#[test]
fn every_method_goes_into_a_table_and_its_model_tags_a_picture() {
    let world = World::new();
    let (shared, _) = table("validation = 0.25")
        .split_once("[[row]]")
        .map(|(shared, _)| (shared.replace("seeds = [1, 2]", "seeds = [1]"), ()))
        .unwrap();
    let rows = METHODS.iter().enumerate();
    let rows: Vec<String> = rows
        .map(|(n, method)| format!("[[row]]\nname = \"m{n}\"\nmethod = {{ {method} }}\n"))
        .collect();
    world.write("table.toml", shared + &rows.concat());
    let text = world.run("bench table.toml --out out").done();
    let unseen = text
        .split("## ")
        .find(|part| part.starts_with("Unseen labels"));
    let cells = |name: &str| {
        let line = unseen.unwrap().lines();
        let line = line
            .into_iter()
            .find(|line| line.starts_with(&format!("| {name} |")));
        // The marks of the best and of those that are like it.
        let marks = [' ', '*', '\u{2020}'];
        line.unwrap()
            .split('|')
            .nth(2)
            .unwrap()
            .trim_matches(marks)
            .to_string()
    };
    // Classifiers have no figure for labels that they do not know.
    assert!(cells("m12").parse::<f64>().is_ok(), "{text}");
    assert_eq!(["m13", "m14", "m15", "m16", "m17"].map(cells), ["-"; 5]);
    for (n, method) in METHODS.iter().enumerate() {
        let model = format!("out/m{n}/seed-1/model.safetensors");
        let said = world
            .run(&format!("predict --model {model} test-0025.png --json"))
            .json();
        let labels = said[0]["labels"].as_array().unwrap();
        let unseen = labels.iter().filter(|label| label["seen"] == false).count();
        assert_eq!(unseen > 0, n < 13, "{method}: {said}");
        let explain = world.run(&format!(
            "explain --model {model} test-0025.png --out m{n} --json"
        ));
        let looks = ["attention", "lesa", "biam", "epsilon"];
        match looks.iter().any(|name| method.contains(name)) {
            true => assert_eq!(explain.json().as_array().unwrap().len(), 3, "{method}"),
            false => explain.refused(&["no map"]),
        }
    }
    let strange = world
        .run("predict --model out/m13/seed-1/model.safetensors test-0025.png --labels unseen.txt");
    strange.refused(&["logistic", "cyan"]);
}

/// A grid is not chosen from by validation images that cannot tell its settings apart.
#[test]
fn a_grid_with_no_validation_image() {
    let world = World::new();
    world.write("table.toml", table("validation = 0.01"));
    world.run("bench table.toml --out out").refused(&[
        "Epsilon",
        "validation = 0.01",
        "nothing to choose by",
    ]);
}

/// One row of one training, with this learning rate.
pub(crate) fn one_row(rate: &str, seeds: &str, bootstrap: usize) -> String {
    let shared = table("validation = 0.25");
    let shared = shared.split("[[row]]").next().unwrap();
    let row = format!(
        "[[row]]\nname = \"Row\"\nmethod = {{ kind = \"epsilon\", groups = 2 }}\ntraining = {{ learning-rate = {rate} }}\n"
    );
    let shared = shared.replace("seeds = [1, 2]", &format!("seeds = {seeds}"));
    shared.replace("bootstrap = 20", &format!("bootstrap = {bootstrap}")) + &row
}

/// A seed that is added leaves what the others gave as it is.
#[test]
fn a_seed_is_added() {
    let world = World::new();
    let trained = |seeds: &str| -> Vec<Value> {
        world.write("table.toml", one_row("1e-3", seeds, 20));
        let lines = world.run("bench table.toml --out out --json").json();
        lines[0]["trained"].as_array().unwrap().clone()
    };
    let (before, model) = (trained("[1]"), world.files("out/row/seed-1"));
    let after = trained("[2, 1]");
    assert_eq!((after.len(), &after[1]), (2, &before[0]));
    assert_same_files(&world.files("out/row/seed-1"), &model);
}

/// A row's model may be one of another recipe, whose training was stopped before its result was written: it is never measured as
/// the row's.
#[test]
fn a_model_of_another_recipe_is_not_measured_as_the_rows() {
    let world = World::new();
    let row = |rate: &str, bootstrap: usize, out: &str| -> Value {
        world.write("table.toml", one_row(rate, "[1]", bootstrap));
        let run = world.run(&format!("bench table.toml --out {out} --json"));
        run.json()[0]["trained"][0]["figures"].clone()
    };
    let model = |out: &str| format!("{out}/row/seed-1/model.safetensors");
    let (here, other) = (row("1e-3", 20, "here"), row("1e-1", 20, "other"));
    assert_ne!(here, other);
    std::fs::copy(world.path(model("other")), world.path(model("here"))).unwrap();
    let fresh = row("1e-3", 0, "fresh");
    assert_eq!(row("1e-3", 0, "here"), fresh);
    // Trained by the other recipe in the same folder, it is the other row, and the checkpoint of the first is not gone on with.
    assert_eq!(row("1e-1", 20, "here"), other);
}

/// Nothing is trained again where only the measuring differs.
#[test]
fn a_table_measured_otherwise_takes_the_models_that_are_there() {
    let world = World::new();
    let raw = table("validation = 0.25");
    world.write("table.toml", &raw);
    let before = world.run("bench table.toml --out out --json").json();
    world.write(
        "table.toml",
        raw.replace("bootstrap = 20", "bootstrap = 0\nstandardise = true"),
    );
    let after = world.run("bench table.toml --out out --json").json();
    let of = |lines: &Value, key: &str| lines[0]["trained"][0][key].clone();
    assert_eq!(of(&before, "seconds"), of(&after, "seconds"));
    let zsl = of(&after, "figures")["zsl"].clone();
    assert_eq!(
        (&zsl["protocol"], &zsl["scores"]["standardise"]),
        (&"epsilon".into(), &"table".into())
    );
    let top = |lines: &Value| of(lines, "figures")["gzsl"]["top_k"].clone();
    assert_eq!(top(&before), top(&after), "an image's order is as it was");

    // The tokens lie with the comparison, two folders above the row's setting.
    let model = "out/epsilon/learning-rate=0.001/seed-1/model.safetensors";
    let said = world
        .run(&format!("eval {model} --standardise --bootstrap 0 --json"))
        .json();
    let expected = after[0]["trained"].as_array().unwrap().iter();
    let chosen = after[0]["chosen"] == "learning-rate=0.001";
    let found = expected
        .clone()
        .any(|t| t["figures"]["zsl"]["map"] == said["zsl"]["map"]);
    assert!(found || !chosen, "{said}");
}

#[test]
fn a_table_is_made_anew_where_its_data_changed_in_place() {
    let world = World::new();
    world.write("table.toml", table("validation = 0.25"));
    let before = world.run("bench table.toml --out out --json").json();
    let labels = world.text("labels.tsv");
    let (first, second) = (labels.replace("red", "@@"), ["blue", "red"]);
    world.write(
        "labels.tsv",
        first.replace(second[0], second[1]).replace("@@", second[0]),
    );
    let after = world.run("bench table.toml --out out --json").json();
    let fresh = world.run("bench table.toml --out fresh --json").json();
    let figures = |lines: &Value| {
        let trained = lines.as_array().unwrap().iter();
        let trained = trained.flat_map(|line| line["trained"].as_array().unwrap());
        let figures = trained.map(|trained| trained["figures"].clone());
        figures.collect::<Vec<Value>>()
    };
    assert_ne!(figures(&before), figures(&after));
    assert_eq!(figures(&after), figures(&fresh));
}

#[test]
fn labels_that_are_all_trained_on_are_classified() {
    let world = World::new();
    let classes = RECIPE
        .replace("unseen = \"unseen.txt\"\n", "")
        .replace("seeds = [1]", "seeds = [1, 2]");
    world.write("recipe.toml", &classes);
    let text = world.run("train recipe.toml --out out").done();
    assert!(text.starts_with("seed      seen mAP\n1 "), "{text}");
    assert!(!text.contains("ZSL"), "{text}");
    let model = "out/seed-1/model.safetensors";
    let figures = world.run(&format!("eval {model} --json")).json();
    assert_eq!(figures["per_label"].as_array().unwrap().len(), 6);
    let protocols = world.run(&format!("eval {model} --protocol all")).done();
    assert!(
        protocols.contains("biam-oi-weighted") && !protocols.contains("harmonic"),
        "{protocols}"
    );

    let (shared, _) = classes.split_once("[method]").unwrap();
    let table = format!(
        "{shared}[evaluation]\nk-gzsl = [1, 3]\n[training]\nepochs = 1\n[[row]]\nname = \"WARP\"\nmethod = {{ kind = \"warp\" }}\n\
         published = {{ map = 3.1, f1 = [54.4, 49.4] }}\n"
    );
    world.write("table.toml", table);
    let text = world.run("bench table.toml --out bench").done();
    assert!(
        text.contains("## Labels") && !text.contains("Unseen"),
        "{text}"
    );
    assert!(
        text.contains("F1@3") && text.contains("54.4, 49.4"),
        "{text}"
    );
    assert!(world.text("bench/table.tex").contains("F1@3"));
}

#[test]
fn a_sweep_is_trained_two_at_a_time_and_gone_on_with() {
    let world = World::new();
    let text = world
        .run("sweep recipe.toml --out out --set groups=2,3 --set lambda=0.1..0.3:0.2 --jobs 2")
        .done();
    for row in ["| groups=2, lambda=0.1 |", "| groups=3, lambda=0.3 |"] {
        assert!(text.contains(row), "{text}");
    }
    let model = "out/sweep/groups=3-lambda=0.3/seed-1/model.safetensors";
    let at = || {
        std::fs::metadata(world.path(model))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = at();
    let more = "sweep recipe.toml --out out --set groups=2,3,4 --set lambda=0.3 --json";
    let lines = world.run(more).json();
    assert_eq!(lines.as_array().unwrap().len(), 3);
    assert_eq!(lines[2]["trained"][0]["recipe"]["method"]["groups"], 4);
    assert_eq!(at(), before);
    world
        .run("sweep recipe.toml --set grups=2")
        .refused(&["grups", "groups"]);
    world
        .run("sweep recipe.toml --set groups=8..2")
        .refused(&["rises"]);
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
    // Nor is a first method trained before a second one is found to be none.
    let second = "\n[[row]]\nname = \"B\"\nmethod = { kind = \"learnt-labels\", of = { kind = \"ridge\" } }\n";
    world.write("second.toml", table("validation = 0.25") + second);
    let ended = world.run("bench second.toml --out other");
    ended.refused(&["B", "ridge learns nothing from label vectors"]);
    assert!(!world.path("other/epsilon").exists());
    let twice = format!(
        "{}\n[[row]]\nname = \"epsilon\"\nmethod = {{ kind = \"ridge\" }}",
        table("validation = 0.25")
    );
    says(&twice, "", &["a name of its own"]);
}

/// A table with label folds whose settings are chosen in each fold by labels left out, to its end; and its folds' models.
#[test]
fn label_folds_and_labels_left_out_go_into_one_table() {
    let world = World::new();
    let keys = "validation = 0.25\nvalidation-labels = 0.34";
    let text = table(keys).replace("k-zsl", "label-folds = 3\nk-zsl");
    world.write("table.toml", text);
    let text = world.run("bench table.toml --out out").done();
    for part in [
        "3 label folds",
        "## Label folds: mAP of the label sets, ZSL / seen / GZSL",
        "| method | fold 1 | fold 2 | fold 3 |",
        "harmonic mean of the mAP",
        "2 seeds",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let lines = world.run("bench table.toml --out out --json").json();
    let epsilon = &lines[0];
    assert_eq!(epsilon["choose"], "harmonic");
    for trained in epsilon["trained"].as_array().unwrap() {
        let zsl = &trained["figures"]["zsl"];
        assert_eq!(zsl["per_label"].as_array().unwrap().len(), 9);
        let folds = trained["folds"].as_array().unwrap();
        let mean = |set: &str| {
            let maps = folds
                .iter()
                .map(|f| f["figures"][set]["map"].as_f64().unwrap());
            maps.sum::<f64>() / 3.0
        };
        for set in ["seen", "gzsl"] {
            assert_eq!(trained["figures"][set]["map"], mean(set), "{set}");
        }
    }
    // Of a fold's two points only the chosen one is trained with all seeds, and no training that chose leaves a model.
    for fold in 1..=3 {
        let folder = |rate: &str| format!("out/epsilon/fold-{fold}/learning-rate={rate}");
        let [a, b] = ["0.0001", "0.001"].map(folder);
        for point in [&a, &b] {
            assert!(world.path(format!("{point}/seed-1/choosing.json")).exists());
            assert!(
                !world
                    .path(format!("{point}/seed-1/choosing-1/model.safetensors"))
                    .exists()
            );
        }
        let models = [&a, &b].map(|p| world.path(format!("{p}/seed-2/model.safetensors")).exists());
        assert_eq!(models.iter().filter(|&&there| there).count(), 1);
        let chosen = if models[0] { a } else { b };
        // The model of a fold is measured as any model is, on its own unseen labels.
        let measured = world
            .run(&format!("eval {chosen}/seed-2/model.safetensors --json"))
            .json();
        let kept = &epsilon["trained"][1]["folds"][fold - 1]["figures"];
        assert_eq!(
            measured.get("zsl").unwrap_or(&measured[0]["zsl"])["map"],
            kept["zsl"]["map"]
        );
        world
            .run(&format!("report {chosen} --out report.html --photos 1"))
            .done();
    }
    let again = world.run("bench table.toml --out out --json").json();
    assert_eq!(again, lines);
}

#[test]
fn a_sweep_tells_the_setting_that_labels_left_out_choose() {
    let world = World::new();
    let keys = "[training]\nvalidation = 0.25\nvalidation-labels = 0.34";
    world.write("recipe.toml", RECIPE.replace("[training]", keys));
    let text = world
        .run("sweep recipe.toml --out out --set groups=1,2")
        .done();
    assert!(text.contains("## What was tried: harmonic"), "{text}");
    let (_, tried) = text.split_once("## What was tried").unwrap();
    let marked = tried.lines().filter(|line| line.contains("**")).count();
    assert_eq!(marked, 1, "{text}");
    // Figures of two kinds choose nothing between them.
    world
        .run("sweep recipe.toml --out other --set choose=seen,harmonic")
        .refused(&["choose=harmonic", "different figures", "seen"]);
    assert!(!world.path("other").exists());
}

#[test]
fn a_recipe_is_trained_on_every_label_fold() {
    let world = World::new();
    world.write(
        "recipe.toml",
        RECIPE.replace("k-zsl", "label-folds = 3\nk-zsl"),
    );
    let text = world.run("train recipe.toml --out out").done();
    assert!(text.contains("fold 3: ZSL mAP"), "{text}");
    let folds = world.text("out/folds-seed-1.json");
    let folds: Value = serde_json::from_str(&folds).unwrap();
    let mut unseen: Vec<&str> = (folds["folds"].as_array().unwrap().iter())
        .flat_map(|fold| fold["unseen"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    unseen.sort_unstable();
    unseen.dedup();
    assert_eq!(unseen.len(), 9);
    world.run("eval out/fold-2/seed-1/model.safetensors").done();
    let recipe = RECIPE.replace("k-zsl", "label-folds = 10\nk-zsl");
    world.write("recipe.toml", recipe);
    let ended = world.run("train recipe.toml --out out");
    ended.refused(&["label-folds = 10", "9 labels"]);
    let prepared = world.run("prepare recipe.toml --quick");
    assert_eq!(prepared.code, Some(2), "{prepared:?}");
    assert!(prepared.stderr.contains("label-folds = 10"), "{prepared:?}");
}
