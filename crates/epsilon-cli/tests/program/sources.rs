//! Files are opened in one place: `epsilon_data::files` reads regular files up to a size, and writes whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

/// The files that open others by themselves, and why.
const ALLOWED: [(&str, &str); 12] = [
    ("epsilon-cli/src/ranks.rs", "/sys of the kernel"),
    ("epsilon-data/src/files/read.rs", "the place"),
    ("epsilon-data/src/files/own.rs", "the place"),
    ("epsilon-data/src/files/write.rs", "the place"),
    ("epsilon-data/src/files/mapped.rs", "the place"),
    (
        "epsilon-metrics/src/files/mod.rs",
        "likewise, in the crate that knows no other",
    ),
    (
        "epsilon-metrics/src/files/write.rs",
        "likewise, in the crate that knows no other",
    ),
    (
        "epsilon-metrics/src/files/numbers.rs",
        "maps what that place has opened",
    ),
    (
        "epsilon/src/published_features.rs",
        "the HDF5 library opens what the place has looked at",
    ),
    (
        "epsilon-data/src/dataset/scenes.rs",
        "drawn again from the start by every run",
    ),
    (
        "epsilon-cli/src/tensorboard.rs",
        "a new file under a name of its own, written on and on",
    ),
    ("epsilon-cli/src/memory.rs", "files of the kernel"),
];

/// What opens a file, or reads or writes it whole.
const OPENS: [&str; 8] = [
    "fs::write(",
    "fs::read(",
    "fs::read_to_string(",
    "fs::copy(",
    "File::open(",
    "File::create",
    "OpenOptions",
    "Mmap::map",
];

/// Sources that are compiled for tests alone.
const TESTS: [&str; 3] = ["tests.rs", "trees.rs", "sequences.rs"];

#[test]
fn a02_files_are_opened_in_one_place() {
    let crates = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut sources = Vec::new();
    for entry in fs::read_dir(crates).unwrap() {
        collect(&entry.unwrap().path().join("src"), &mut sources);
    }
    assert!(sources.len() > 100, "{} sources", sources.len());
    let by_themselves = sources.iter().filter(|path| {
        let text = fs::read_to_string(path).unwrap();
        // Tests stand at the end of a file, or in files of their own.
        let tests = ["mod tests {", "pub(super) mod tests {"];
        let begins = |module: &&str| {
            let conditions = ["#[cfg(test)]", "#[cfg(all(test, unix))]"];
            let begin = |condition| text.find(&format!("{condition}\n{module}"));
            conditions.into_iter().filter_map(begin).min()
        };
        let code = &text[..tests.iter().filter_map(begins).min().unwrap_or(text.len())];
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let opens = |line: &str| OPENS.iter().any(|call| line.contains(call));
        lines.into_iter().any(opens)
    });
    let strange: Vec<String> = by_themselves
        .map(|path| path.strip_prefix(crates).unwrap().display().to_string())
        .filter(|name| !ALLOWED.iter().any(|(allowed, _)| name == allowed))
        .collect();
    assert_eq!(strange, Vec::<String>::new(), "use epsilon_data::files");
}

/// The Rust files below a folder, those of tests apart.
fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            collect(&path, sources);
        } else if name.ends_with(".rs") && !TESTS.contains(&&*name) {
            sources.push(path);
        }
    }
}
