//! The arrows between the rooms of the library, read from the paths in its sources: a room knows only the rooms named for
//! it here. The compiler guards the arrows between crates; their manifests are held to the plan as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of this crate from the ground up, and what each knows besides the tools. Rooms of other crates are written
/// with their crate.
const ROOMS: &[(&str, &[&str])] = &[
    ("calibration", &[]),
    ("classes", &["data::files", "data::labels"]),
    ("coverage", &[]),
    ("batch", &["data::labels"]),
    ("optimiser", &["kernels"]),
    ("fused", &["batch", "kernels"]),
    ("loss", &["batch", "data::labels", "kernels"]),
    (
        "methods",
        &["batch", "optimiser", "fused", "loss", "data::labels"],
    ),
    ("tensor_vgg", &["vision::backbone"]),
    ("tensor_vit", &["fused", "tensor_vgg", "vision::backbone"]),
    (
        "training",
        &[
            "batch",
            "optimiser",
            "methods",
            "data::dataset",
            "data::files",
            "data::formats",
            "data::labels",
            "kernels",
            "vision::tokens",
        ],
    ),
    (
        "model",
        &[
            "batch",
            "calibration",
            "classes",
            "fused",
            "methods",
            "data::files",
            "data::formats",
            "data::labels",
            "metrics",
            "vision::backbone",
            "vision::image",
            "vision::tokens",
        ],
    ),
    (
        "estimator",
        &[
            "batch",
            "methods",
            "model",
            "training",
            "data::dataset",
            "data::formats",
            "data::labels",
            "metrics",
            "vision::tokens",
        ],
    ),
    ("explain", &["methods", "vision::image"]),
    ("semantic_index", &["data::files", "kernels"]),
    (
        "library",
        &[
            "coverage",
            "model",
            "semantic_index",
            "data::files",
            "data::formats",
            "data::labels",
            "data::paths",
            "metrics",
            "vision::image",
        ],
    ),
    (
        "predictor",
        &[
            "batch",
            "calibration",
            "classes",
            "data::files",
            "data::formats",
            "explain",
            "methods",
            "model",
            "tensor_vit",
            "data::labels",
            "data::paths",
            "vision::backbone",
            "vision::image",
            "vision::tokens",
        ],
    ),
    (
        "tagger",
        &[
            "calibration",
            "coverage",
            "library",
            "model",
            "predictor",
            "semantic_index",
            "data::files",
            "data::labels",
            "data::paths",
            "vision::backbone",
            "vision::tokens",
        ],
    ),
    (
        "finder",
        &[
            "library",
            "model",
            "predictor",
            "semantic_index",
            "data::labels",
            "data::paths",
        ],
    ),
    (
        "pretraining",
        &[
            "optimiser",
            "tensor_vit",
            "data::dataset",
            "data::formats",
            "vision::backbone",
            "vision::image",
        ],
    ),
    (
        "published_features",
        &[
            "data::dataset",
            "data::files",
            "vision::backbone",
            "vision::image",
            "vision::tokens",
        ],
    ),
    (
        "recipe",
        &[
            "methods",
            "training",
            "data::dataset",
            "data::files",
            "data::labels",
            "metrics",
            "vision::backbone",
            "vision::image",
            "vision::tokens",
        ],
    ),
    ("comparison", &["methods", "recipe", "data::files"]),
    (
        "experiment",
        &[
            "batch",
            "calibration",
            "classes",
            "methods",
            "model",
            "predictor",
            "recipe",
            "tensor_vit",
            "training",
            "data::dataset",
            "data::files",
            "data::labels",
            "kernels",
            "metrics",
            "vision::backbone",
            "vision::tokens",
        ],
    ),
    (
        "learning",
        &[
            "calibration",
            "coverage",
            "experiment",
            "library",
            "methods",
            "model",
            "predictor",
            "recipe",
            "tensor_vit",
            "training",
            "data::dataset",
            "data::files",
            "data::labels",
            "data::paths",
            "vision::backbone",
            "vision::image",
            "vision::tokens",
        ],
    ),
];

/// Rooms that every room may know: they know none.
const TOOLS: &[&str] = &["device", "fields", "profile", "parameters", "ranks"];

/// The crates of the house, and those of them that each depends on.
const CRATES: &[(&str, &[&str])] = &[
    ("epsilon-kernels", &[]),
    ("epsilon-metrics", &[]),
    ("epsilon-data", &[]),
    ("epsilon-vision", &["epsilon-data", "epsilon-kernels"]),
    (
        "epsilon",
        &[
            "epsilon-data",
            "epsilon-kernels",
            "epsilon-metrics",
            "epsilon-vision",
        ],
    ),
];

/// What the sources of crates without a tensor framework must not name.
const FRAMEWORK: &str = "burn";

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file, without its comments and without its tests, which may know more.
fn code(text: &str) -> String {
    let code = match text.find("#[cfg(test)]\nmod tests {") {
        Some(tests) => &text[..tests],
        None => text,
    };
    let lines = code.lines().map(|line| match line.find("//") {
        Some(comment) => &line[..comment],
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The first names that follow `path::` in the code, be it `path::a`, or `path::{a, b::c}`.
fn names_after(code: &str, path: &str) -> BTreeSet<String> {
    let identifier = |text: &str| -> String {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_string()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(path) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + path.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(identifier(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    names.insert(identifier(&group[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// The rooms that the code of a file knows, which stands `depth` modules below the crate's root.
fn known(code: &str, depth: usize) -> BTreeSet<String> {
    let mut known = names_after(code, "crate::");
    known.extend(names_after(code, &"super::".repeat(depth)));
    for house in ["data", "vision"] {
        let path = format!("epsilon_{house}::");
        known.extend(
            names_after(code, &path)
                .into_iter()
                .map(|room| format!("{house}::{room}")),
        );
    }
    for house in ["kernels", "metrics"] {
        if !names_after(code, &format!("epsilon_{house}::")).is_empty() {
            known.insert(house.to_string());
        }
    }
    known
}

/// The room that a source file below `src` belongs to.
fn room_of(src: &Path, file: &Path) -> String {
    let first = file.strip_prefix(src).unwrap().components().next().unwrap();
    let name = first.as_os_str().to_str().unwrap();
    name.trim_end_matches(".rs").to_string()
}

/// How many modules a source file below `src` stands below the crate's root.
fn depth(src: &Path, file: &Path) -> usize {
    let parts = file.strip_prefix(src).unwrap().components().count();
    match file.ends_with("mod.rs") || file.ends_with("lib.rs") {
        true => parts - 1,
        false => parts,
    }
}

/// Arrows that the plan does not have, one line each.
fn wrong(room: &str, known: &BTreeSet<String>, allowed: &[&str]) -> Vec<String> {
    let is_allowed =
        |other: &str| other == room || TOOLS.contains(&other) || allowed.contains(&other);
    let wrong = known.iter().filter(|other| !is_allowed(other));
    wrong.map(|other| format!("{room} -> {other}")).collect()
}

#[test]
fn rooms_know_only_rooms_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let plan: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let room = room_of(&src, &file);
        seen.insert(room.clone());
        let depth = depth(&src, &file);
        let known = known(&code(&fs::read_to_string(&file).unwrap()), depth);
        let found = if let Some(allowed) = plan.get(room.as_str()) {
            wrong(&room, &known, allowed)
        } else if TOOLS.contains(&room.as_str()) {
            wrong(&room, &known, &["data::files", "data::formats"])
        } else if room == "lib" {
            Vec::new()
        } else {
            vec![format!("{room} is no room of the plan")]
        };
        problems.extend(
            found
                .into_iter()
                .map(|arrow| format!("{}: {arrow}", file.display())),
        );
    }
    for room in plan.keys().chain(TOOLS) {
        assert!(seen.contains(*room), "the plan names {room}, which is gone");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn arrows_are_found_however_they_are_written() {
    for (code, depth) in [
        ("use crate::experiment::Experiment;", 1),
        (
            "pub(crate) use crate::{batch, experiment::{self, train}};",
            1,
        ),
        ("fn f() { crate::experiment::run() }", 2),
        ("use super::experiment::Experiment;", 1),
        ("use super::super::experiment::Experiment;", 2),
    ] {
        assert!(known(code, depth).contains("experiment"), "{code}");
    }
    assert!(!known("use super::experiment::Experiment;", 2).contains("experiment"));
    let below = "#[cfg(test)]\nmod tests;\nuse crate::experiment::train;";
    assert!(known(&code(below), 1).contains("experiment"));
    let src = Path::new("src");
    let depths = ["src/a.rs", "src/a/mod.rs", "src/a/b.rs", "src/a/b/mod.rs"];
    assert_eq!(depths.map(|file| depth(src, Path::new(file))), [1, 1, 2, 2]);
}

/// In the plan itself a room knows only what stands above it in the list, so there is no circle.
#[test]
fn the_plan_has_no_circle() {
    let mut below: BTreeSet<&str> = TOOLS.iter().copied().collect();
    for (room, allowed) in ROOMS {
        for other in *allowed {
            let elsewhere = other.contains("::") || ["kernels", "metrics"].contains(other);
            assert!(elsewhere || below.contains(other), "{room} -> {other}");
        }
        below.insert(room);
    }
}

#[test]
fn crates_depend_on_crates_below_them() {
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(crates().join(name).join("Cargo.toml")).unwrap();
        let start = manifest.find("[dependencies]").unwrap();
        let section = &manifest[start + 1..];
        let section = &section[..section.find("\n[").unwrap_or(section.len())];
        for line in section.lines() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            let ours = dependency.starts_with("epsilon");
            assert!(
                !ours || allowed.contains(&dependency),
                "{name} -> {dependency}"
            );
            let framework = dependency.starts_with(FRAMEWORK);
            assert!(!framework || *name == "epsilon", "{name} -> {dependency}");
        }
    }
}

#[test]
fn a_wrong_arrow_is_found() {
    let code = code(
        "use crate::{batch::Batch, training::{fit, RunFolder}};\n\
         use epsilon_data::dataset::Dataset; // use crate::experiment\n\
         fn f() { epsilon_kernels::vector::gelu(); }\n\
         #[cfg(test)]\nmod tests { use crate::model; }",
    );
    let known = known(&code, 1);
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(names, ["batch", "data::dataset", "kernels", "training"]);
    let found = wrong("methods", &known, &["batch", "kernels"]);
    assert_eq!(found, ["methods -> data::dataset", "methods -> training"]);
}
