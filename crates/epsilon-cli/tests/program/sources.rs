//! Files are written whole or not at all: through `epsilon_data::files`, not in place.

use std::fs;
use std::path::{Path, PathBuf};

/// The files that may write in place, and why.
const ALLOWED: [(&str, &str); 5] = [
    (
        "epsilon-data/src/files.rs",
        "it is what writes beside the place and renames",
    ),
    (
        "epsilon-metrics/src/files/write.rs",
        "likewise, in the crate that knows no other",
    ),
    (
        "epsilon-data/src/dataset/scenes.rs",
        "drawn again from the start by every run",
    ),
    ("epsilon/src/library/mod.rs", "an empty file to lock"),
    ("epsilon-cli/src/memory.rs", "a file of the kernel"),
];

#[test]
fn files_are_written_whole_or_not_at_all() {
    let crates = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut sources = Vec::new();
    for entry in fs::read_dir(crates).unwrap() {
        collect(&entry.unwrap().path().join("src"), &mut sources);
    }
    assert!(sources.len() > 100, "{} sources", sources.len());
    let in_place = sources.iter().filter(|path| {
        let text = fs::read_to_string(path).unwrap();
        // Tests stand at the end of a file, or in files of their own.
        let tests = ["mod tests {", "pub(super) mod tests {"];
        let tests = tests.map(|module| text.find(&format!("#[cfg(test)]\n{module}")));
        let code = &text[..tests.into_iter().flatten().min().unwrap_or(text.len())];
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let writes = |line: &str| line.contains("fs::write(") || line.contains("File::create(");
        lines.into_iter().any(writes)
    });
    let strange: Vec<String> = in_place
        .map(|path| path.strip_prefix(crates).unwrap().display().to_string())
        .filter(|name| !ALLOWED.iter().any(|(allowed, _)| name == allowed))
        .collect();
    assert_eq!(
        strange,
        Vec::<String>::new(),
        "use files::write or files::replace"
    );
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
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "trees.rs" {
            sources.push(path);
        }
    }
}
