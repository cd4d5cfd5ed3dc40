//! `epsilon eval` on anyone's scores, and a model's scores written for other tools.

use serde_json::Value;

use crate::world::World;

const MODEL: &str = "out/seed-1/model.safetensors";

/// Four images, two seen labels and two unseen ones.
const SCORES: &str = "\
image,cat,dog,owl,elk
a,0.9,0.2,0.3,0.1
b,0.1,0.7,0.6,0.6
c,0.4,0.6,0.5,0.2
d,0.2,0.1,0.8,0.7
";
/// The same images and labels in another order.
const LABELS: &str = "\
image,elk,owl,dog,cat
d,1,1,-1,-1
c,-1,1,0,1
b,-1,-1,1,-1
a,-1,-1,-1,1
";

fn world() -> World {
    let world = World::of(0, 0);
    world.write("scores.csv", SCORES);
    world.write("labels.csv", LABELS);
    world.write("cats.txt", "cat\ndog\n");
    world.write("birds.txt", "owl\nelk\n");
    world
}

#[test]
fn figures_of_anyones_scores() {
    let world = world();
    // All labels together.
    let text = world
        .run("eval --scores scores.csv --labels labels.csv --k 1")
        .done();
    assert!(
        text.starts_with("4 images matched by name, 4 labels matched by name\n"),
        "{text}"
    );
    assert!(text.contains("protocol epsilon\n"), "{text}");
    let figures = world
        .run("eval --scores scores.csv --labels labels.csv --protocol lesa-nus --k 1 --json --bootstrap 0")
        .json();
    // cat: + - + - by 0.9, 0.4, 0.2, 0.1; dog, c unknown: b first; owl: d, b, c; elk: d first.
    let ap = |column: usize| {
        figures["per_label"][column]["average_precision"]
            .as_f64()
            .unwrap()
    };
    assert_eq!([ap(0), ap(1), ap(3)], [1.0, 1.0, 1.0]);
    assert!((ap(2) - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
    // Best: cat +, dog +, dog unknown, owl +.
    assert_eq!(figures["top_k"][0]["precision"], 0.75);

    // Seen and unseen labels: both lists, or one and the rest.
    let base = "eval --scores scores.csv --labels labels.csv --protocol lesa-nus --json";
    let both = world
        .run(&format!("{base} --seen cats.txt --unseen birds.txt"))
        .json();
    assert_eq!(both["seen"]["map"], 1.0);
    assert_eq!(both["zsl"]["per_label"][0]["column"], 2);
    assert!((both["zsl"]["map"].as_f64().unwrap() - (ap(2) + 1.0) / 2.0).abs() < 1e-12);
    assert!(both["zsl"]["bootstrap"]["standard_error"].as_f64().unwrap() > 0.0);
    // The protocol's K are 3 and 5: four labels allow one of them, two none.
    assert_eq!(both["gzsl"]["top_k"].as_array().unwrap().len(), 1);
    assert_eq!(both["zsl"]["top_k"], Value::Array(vec![]));
    assert_eq!(world.run(&format!("{base} --seen cats.txt")).json(), both);
    assert_eq!(
        world.run(&format!("{base} --unseen birds.txt")).json(),
        both
    );
    // Labels in neither list are left out, and said to be.
    world.write("one.txt", "cat\n");
    let text = world
        .run("eval --scores scores.csv --labels labels.csv --seen one.txt --unseen birds.txt")
        .done();
    assert!(text.starts_with(
        "4 images matched by name, 4 labels matched by name, 1 in neither list left out\n"
    ));
}

#[test]
fn all_protocols_in_one_table() {
    let world = world();
    let arguments = "eval --scores scores.csv --labels labels.csv --seen cats.txt --protocol all --k 1 --per-label out.csv";
    let text = world.run(arguments).done();
    for part in ["ZSL ", "seen ", "GZSL "] {
        let rows = text.lines().skip_while(|line| !line.starts_with(part));
        let rows: Vec<&str> = rows.take_while(|line| !line.is_empty()).collect();
        assert_eq!(rows.len(), 10, "{text}");
        assert!(
            rows[2].starts_with("epsilon ") && rows[2].contains(" of 4 "),
            "{text}"
        );
        assert!(rows[9].starts_with("furthest apart"), "{text}");
    }
    let figures = world.run(&format!("{arguments} --json")).json();
    let names: Vec<&str> = figures
        .as_array()
        .unwrap()
        .iter()
        .map(|figures| figures["gzsl"]["protocol"].as_str().unwrap())
        .collect();
    assert_eq!(names, epsilon_metrics::Protocol::NAMES[..7]);

    // Figures of each label: 7 protocols, each label in GZSL and in its own part.
    let table = world.text("out.csv");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "protocol,part,label,positives,annotated,AP,P@1,R@1,F1@1"
    );
    assert_eq!(lines.len(), 1 + 7 * 8);
    assert!(
        lines.contains(&"lesa-nus,GZSL,dog,1,3,1,0.5,1,0.6666666666666666"),
        "{table}"
    );
    // Images a, b and c hold a seen label; dog is first in b, rightly, and in c, where it is unknown and so counts as absent.
    assert!(
        lines.contains(&"sdl,seen,dog,1,3,1,0.5,1,0.6666666666666666"),
        "{table}"
    );
}

#[test]
fn a_models_scores_serve_other_tools() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let text = world
        .run(&format!(
            "eval {MODEL} --protocol all --k 1,3 --per-label labels.csv"
        ))
        .done();
    assert!(text.contains("\nGZSL ") && text.contains("F1@3"), "{text}");
    assert_eq!(world.text("labels.csv").lines().count(), 1 + 7 * 18);
    for file in ["scores.npy", "scores.safetensors", "scores.csv"] {
        let of_model = world
            .run(&format!(
                "eval {MODEL} --protocol sdl --k 1,3 --json --save-scores {file}"
            ))
            .json();
        let arguments =
            "--labels labels.tsv --seen seen.txt --unseen unseen.txt --protocol sdl --k 1,3 --json";
        let of_scores = world
            .run(&format!("eval --scores {file} {arguments} --bootstrap 20"))
            .json();
        assert_eq!(of_model, of_scores, "{file}");
    }
    world
        .run(&format!(
            "eval {MODEL} --data recipe.toml --classes none.txt"
        ))
        .refused(&["--classes", "a model has its own"]);
    // What is done to the scores is done to their values, whatever the file holds them in.
    for how in [
        "--standardise table",
        "--standardise ranked",
        "--centre-labels",
    ] {
        let figures = |arguments: &str| {
            let more = format!("--protocol sdl --k 1,3 --bootstrap 0 --json {how}");
            world.run(&format!("eval {arguments} {more}")).json()
        };
        let of_model = figures(MODEL);
        for file in ["scores.npy", "scores.csv"] {
            let lists = "--labels labels.tsv --seen seen.txt --unseen unseen.txt";
            let of_scores = figures(&format!("--scores {file} {lists}"));
            for part in ["zsl", "seen", "gzsl"] {
                for figure in ["map", "top_k"] {
                    let (a, b) = (&of_model[part][figure], &of_scores[part][figure]);
                    assert_eq!(a, b, "{file} {how} {part} {figure}");
                }
            }
        }
    }
    assert_eq!(world.text("scores.labels.txt").lines().count(), 9);
    assert!(
        world
            .text("scores.images.txt")
            .starts_with("test-0024.jpg\n")
    );
}

#[test]
fn bad_scores_are_refused() {
    let run = |change: &dyn Fn(&World), arguments: &str, parts: &[&str]| {
        let world = world();
        change(&world);
        world
            .run(&format!(
                "eval --scores scores.csv --labels labels.csv {arguments}"
            ))
            .refused(parts);
    };
    let edit = |file: &'static str, from: &'static str, to: &'static str| {
        move |world: &World| world.edit(file, from, to)
    };
    let none = |_: &World| {};
    run(
        &edit("scores.csv", "0.7,0.6", "NaN,0.6"),
        "",
        &["scores.csv, line 3", "dog", "NaN"],
    );
    run(
        &edit("scores.csv", "0.7,0.6", "inf,0.6"),
        "",
        &["scores.csv, line 3", "inf"],
    );
    run(
        &edit("scores.csv", "c,0.4", "c,7,0.4"),
        "",
        &["scores.csv, line 4", "6 cells", "5"],
    );
    run(
        &edit("labels.csv", "d,1", "d,2"),
        "",
        &["labels.csv, line 2", "elk", "\"2\""],
    );
    run(
        &edit("labels.csv", "c,-1", "x,-1"),
        "",
        &["images", "\"c\"", "\"x\""],
    );
    run(
        &edit("labels.csv", "owl", "bat"),
        "",
        &["labels", "\"owl\"", "\"bat\""],
    );
    run(
        &edit("cats.txt", "dog", "cow"),
        "--seen cats.txt",
        &["cats.txt", "\"cow\""],
    );
    run(
        &edit("birds.txt", "elk", "dog"),
        "--seen cats.txt --unseen birds.txt",
        &["\"dog\"", "both"],
    );
    run(&none, "--k 5", &["K = 5", "4 labels"]);
    run(&none, "--k 3,1", &["[3, 1]", "ascending"]);
    run(&none, "--protocol ours", &["ours", "lesa-nus"]);
    run(&none, "--bootstrap 1", &["bootstrap"]);
    let all_unknown = |world: &World| {
        world.write(
            "labels.csv",
            "image,cat,dog,owl,elk\na,0,0,0,0\nb,0,0,0,0\nc,0,0,0,0\nd,0,0,0,0\n",
        );
    };
    run(&all_unknown, "", &["labels.csv", "unknown"]);
    run(&ones_and_zeros, "", &["labels.csv", "--zero negative"]);
    run(&ones_and_zeros, "--zero unknown --protocol ours", &["ours"]);
}

fn ones_and_zeros(world: &World) {
    world.write(
        "labels.csv",
        "image,cat,dog,owl,elk\na,1,0,0,0\nb,0,1,0,0\nc,0,0,1,0\nd,0,0,0,1\n",
    );
}

#[test]
fn scores_are_refused_without_what_tells_their_labels() {
    let world = world();
    ones_and_zeros(&world);
    world
        .run("eval --scores scores.csv --labels labels.csv --zero negative")
        .done();
    world.run("eval --scores scores.csv").refused(&["--labels"]);
    world.run("eval").refused(&["MODEL", "--scores"]);
    world
        .run("eval model.safetensors --scores scores.csv --labels labels.csv")
        .refused(&["cannot be used with"]);
    world
        .run("eval --scores scores.txt --labels labels.csv")
        .refused(&["scores.txt", ".npy, .safetensors or .csv"]);
    world
        .run("eval --scores scores.csv --labels labels.tsv")
        .refused(&["labels.tsv", "needs --seen"]);
    // Without names beside it, an npy file's columns cannot be told apart.
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }";
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend([0; 64]);
    world.write("scores.npy", &npy);
    let text = world
        .run("eval --scores scores.npy --labels labels.csv --zero negative")
        .done();
    assert!(
        text.starts_with("4 images matched by place, 4 labels matched by place\n"),
        "{text}"
    );
    world.write("scores.npy", &npy[..npy.len() - 1]);
    world
        .run("eval --scores scores.npy --labels labels.csv")
        .refused(&["scores.npy", "cut short"]);
    world.edit("labels.csv", "d,0,0,0,1\n", "");
    world.write("scores.npy", &npy);
    world
        .run("eval --scores scores.npy --labels labels.csv")
        .refused(&["scores.npy has 4 images", "labels.csv has 3"]);
}

#[test]
fn how_scores_are_normalised_is_named() {
    let world = world();
    let base = "eval --scores scores.csv --labels labels.csv --protocol lesa-nus --k 1 --bootstrap 0 --seen cats.txt";
    let map = |options: &str| {
        let figures = world.run(&format!("{base} --json {options}")).json();
        let how = figures["zsl"]["scores"]["standardise"].clone();
        (how, figures["zsl"]["map"].as_f64().unwrap())
    };
    assert_eq!(map("").0, "none");
    assert_eq!(map("--standardise").0, "table", "as it always meant");
    assert_eq!(map("--standardise table"), map("--standardise"));
    assert_eq!(map("--standardise none"), map(""));
    // Two labels that are ranked: the better one is +1 and the other -1 in every image, both 0 in b, which has a tie.
    // owl, true in c and d: both share the last of three ranks with a. elk, true in d: after b with a and c.
    let (how, ranked) = map("--standardise ranked");
    assert_eq!(how, "ranked");
    let (owl, elk) = (2.0 / 3.0, 1.0 / 4.0);
    assert!((ranked - (owl + elk) / 2.0).abs() < 1e-9, "{ranked}");
    assert_ne!(ranked, map("--standardise").1);
    let text = world.run(&format!("{base} --standardise ranked")).done();
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("scores standardised per image over the labels ranked"),
        "{text}"
    );
    let text = world.run(&format!("{base} --centre-labels")).done();
    assert!(text.contains("(transductive)"), "{text}");
    // In double precision neither what is small beside the scores nor how large they are changes a figure.
    for (file, of) in [("close.csv", "1.0000000000"), ("large.csv", "1e300")] {
        let cell = |cell: &str| match (cell.strip_prefix("0."), of) {
            (Some(digits), "1e300") => format!("{digits}e300"),
            (Some(digits), _) => format!("{of}{digits}"),
            (None, _) => cell.into(),
        };
        let row = |line: &str| line.split(',').map(cell).collect::<Vec<_>>().join(",") + "\n";
        world.write(file, SCORES.lines().map(row).collect::<String>());
        for how in [
            "--standardise table",
            "--standardise ranked",
            "--centre-labels",
        ] {
            let figures = |base: &str| world.run(&format!("{base} --json {how}")).json();
            assert_eq!(
                figures(&base.replace("scores.csv", file)),
                figures(base),
                "{file} {how}"
            );
        }
    }
    world
        .run(&format!("{base} --standardise all"))
        .refused(&["none, table, ranked"]);

    // b has a tie of owl and elk; neither is true. c and a have none.
    let text = world.run(&format!("{base} --top-k-ties last")).done();
    assert!(
        text.contains("lesa-nus, top-K ties to the last label"),
        "{text}"
    );
}

#[test]
fn rows_of_scores_are_compared() {
    let world = world();
    // The same scores in another order of images and labels, and scores that know nothing.
    world.write(
        "moved.csv",
        "image,elk,cat,dog,owl\nc,0.2,0.4,0.6,0.5\na,0.1,0.9,0.2,0.3\nd,0.7,0.2,0.1,0.8\nb,0.6,0.1,0.7,0.6\n",
    );
    world.write(
        "worse.csv",
        "image,cat,dog,owl,elk\na,0.1,0.2,0.9,0.9\nb,0.9,0.2,0.9,0.6\nc,0.4,0.6,0.5,0.2\nd,0.2,0.1,0.3,0.1\n",
    );
    let base = "compare scores.csv moved.csv worse.csv --labels labels.csv --seen cats.txt --protocol lesa-nus";
    let text = world.run(base).done();
    for part in [
        "paired bootstrap over test images, 1000 resamples",
        "ZSL mAP",
        "harmonic mean",
        "not told apart",
        "reference",
        "scores as given",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let said = world.run(&format!("{base} --json --csv out.csv")).json();
    assert_eq!(said["measures"].as_array().unwrap().len(), 4);
    for measure in said["measures"].as_array().unwrap() {
        let rows = &measure["rows"];
        assert_eq!(rows[0]["difference"], Value::Null);
        assert_eq!(rows[1]["value"], rows[0]["value"]);
        assert_eq!(rows[1]["difference"]["difference"], 0.0);
        assert_eq!(rows[1]["difference"]["p"], 1.0);
        assert!(
            rows[2]["difference"]["difference"].as_f64().unwrap() < 0.0,
            "{measure}"
        );
    }
    // The figure is that of `eval`.
    let eval = world
        .run("eval --scores worse.csv --labels labels.csv --seen cats.txt --protocol lesa-nus --json")
        .json();
    assert_eq!(said["measures"][0]["rows"][2]["value"], eval["zsl"]["map"]);
    let csv = world.text("out.csv");
    assert_eq!(csv.lines().count(), 1 + 4 * 3, "{csv}");

    let best = world
        .run(&format!(
            "{base} --against best --measure seen --over labels --bootstrap 50 --json"
        ))
        .json();
    assert_eq!(best["measures"][0]["reference"], "scores.csv");
    assert_eq!(
        (
            &best["resampling"]["over"],
            &best["resampling"]["resamples"]
        ),
        (&"labels".into(), &50.into())
    );
    assert_eq!(best["measures"].as_array().unwrap().len(), 1);

    // Without unseen labels there is one measure.
    let all = world
        .run("compare scores.csv worse.csv --labels labels.csv --json")
        .json();
    assert_eq!(all["measures"].as_array().unwrap().len(), 1);
    world
        .run("compare scores.csv worse.csv --labels labels.csv --measure zsl")
        .refused(&["--measure zsl", "not measured"]);
    world.write("other.csv", "image,cat,dog,owl,elk\na,0.1,0.2,0.9,0.9\nx,0.9,0.2,0.9,0.6\nc,0.4,0.6,0.5,0.2\nd,0.2,0.1,0.3,0.1\n");
    world
        .run("compare scores.csv other.csv --labels labels.csv")
        .refused(&["\"x\""]);
    world
        .run("compare scores.csv worse.csv")
        .refused(&["--labels"]);
    world
        .run("compare scores.csv --labels labels.csv")
        .refused(&["2"]);
}

/// Of the label dog, a has it, d does not, and of b and c, which score higher, nothing is known.
#[test]
fn what_a_zero_means_holds_for_every_kind_of_ground_truth() {
    let world = world();
    world.write("dogs.csv", "image,dog\na,0.2\nb,0.7\nc,0.6\nd,0.1\n");
    world.write("dogs.txt", "dog\n");
    world.write(
        "dogs.jsonl",
        r#"{"path":"a","split":"test","labels":["dog"],"negative":[]}
{"path":"b","split":"test","labels":[],"negative":[]}
{"path":"c","split":"test","labels":[],"negative":[]}
{"path":"d","split":"test","labels":[],"negative":["dog"]}
"#,
    );
    let header = "{'descr': '|b1', 'fortran_order': False, 'shape': (4, 1), }";
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend([1, 0, 0, 0]);
    world.write("dogs.npy", &npy);
    let precision = |labels: &str| {
        let options = "--protocol lesa-nus --k 1 --bootstrap 0 --json";
        let arguments = format!("eval --scores dogs.csv --labels {labels} {options}");
        let figures = world.run(&arguments).json();
        figures["per_label"][0]["average_precision"]
            .as_f64()
            .unwrap()
    };
    let third = 1.0 / 3.0;
    for (labels, usual) in [("dogs.jsonl --seen dogs.txt", 1.0), ("dogs.npy", third)] {
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
        assert!(close(precision(labels), usual), "{labels}");
        for (zero, expected) in [("unknown", 1.0), ("negative", third)] {
            let found = precision(&format!("{labels} --zero {zero}"));
            assert!(close(found, expected), "{labels} {zero}: {found}");
        }
    }
}

#[test]
fn options_that_would_change_nothing_are_refused() {
    let world = world();
    for option in ["--data", "--store"] {
        let arguments = format!("compare scores.csv scores.csv --labels labels.csv {option} none");
        world.run(&arguments).refused(&[option, "files of scores"]);
    }
}

/// As they are where programs read them, without what a terminal obeys where people do.
#[test]
fn names_of_compared_rows_are_those_of_their_files() {
    let world = world();
    std::fs::copy(world.path("scores.csv"), world.path("wo\u{1b}rse.csv")).unwrap();
    let rows = ["scores.csv", "wo\u{1b}rse.csv"];
    let named = |more: &[&str]| {
        let mut command = world.command("compare --labels labels.csv");
        command.args(rows).args(more);
        world.end(command, "compare names")
    };
    let said_of = named(&["--json", "--csv", "names.csv"]).json();
    assert_eq!(said_of["measures"][0]["rows"][1]["row"], rows[1]);
    assert!(world.text("names.csv").contains(rows[1]));
    let text = named(&[]).done();
    assert!(
        text.contains("wo\\u{1b}rse.csv") && !text.contains(rows[1]),
        "{text}"
    );
}

#[test]
fn models_are_compared_with_each_other_and_with_scores() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let other = crate::world::RECIPE.replace("seeds = [1]", "seeds = [2]");
    world.write("other.toml", other);
    world.run("train other.toml --out two").done();
    world
        .run(&format!("eval {MODEL} --bootstrap 0 --save-scores own.csv"))
        .done();
    let two = "two/seed-2/model.safetensors";
    let said = world
        .run(&format!(
            "compare {MODEL} own.csv {two} --bootstrap 100 --json"
        ))
        .json();
    for measure in said["measures"].as_array().unwrap() {
        let rows = &measure["rows"];
        assert_eq!(rows[0]["value"], rows[1]["value"], "{measure}");
        assert_eq!(rows[1]["difference"]["p"], 1.0, "{measure}");
    }
    let eval = world
        .run(&format!("eval {two} --bootstrap 0 --json"))
        .json();
    assert_eq!(said["measures"][2]["rows"][2]["value"], eval["gzsl"]["map"]);
    world
        .run(&format!("compare {MODEL} {two} --labels unseen.txt"))
        .refused(&["--labels"]);
    // Nor are rows the same whose unseen labels are others. What a model knows of its unseen labels is said.
    let exchanged = |list: &str, from: &str, to: &str| world.text(list).replace(from, to);
    world.write("seen-4.txt", exchanged("seen.txt", "red", "cyan"));
    world.write("unseen-4.txt", exchanged("unseen.txt", "cyan", "red"));
    let fold = crate::world::RECIPE.replace("seeds = [1]", "seeds = [4]");
    world.write("fold.toml", fold.replace("seen.txt", "seen-4.txt"));
    world.run("train fold.toml --out four").done();
    let four = "four/seed-4/model.safetensors";
    let said = world.run(&format!(
        "compare {MODEL} {two} --data fold.toml --store four/tokens"
    ));
    assert_eq!(said.code, Some(0), "{said:?}");
    for model in [MODEL, two] {
        let known =
            "the model was trained on 1 of the labels that count as unseen here, such as red";
        assert!(
            said.stderr.contains(&format!("{model}: {known}")),
            "{said:?}"
        );
    }
    world
        .run(&format!("compare {MODEL} {four}"))
        .refused(&[&format!(
            "label \"red\" is seen in {MODEL} and unseen in {four}"
        )]);
    // Without one of the test pictures the rows are not the same.
    let table = world.text("labels.tsv");
    let fewer: Vec<&str> = table
        .lines()
        .filter(|line| !line.starts_with("test-0030"))
        .collect();
    world.write("labels.tsv", fewer.join("\n") + "\n");
    let classes = crate::world::RECIPE.replace("seeds = [1]", "seeds = [3]");
    world.write("third.toml", classes);
    world.run("train third.toml --out three").done();
    world.write("labels.tsv", table);
    world
        .run(&format!("compare {MODEL} three/seed-3/model.safetensors"))
        .refused(&["cannot be compared", "test-0030"]);
}
