//! The argument for words: a list between commas, or a file with one a line.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use epsilon::labels;
use epsilon::library::ownership::Subject;
use epsilon::tagger;

/// Which words are ranked.
#[derive(Args)]
pub(super) struct WordArgs {
    /// Words to rank, between commas, such as beach,dog,"red flower"; or a file with one a line [default: the model's own labels;
    /// of a model without training, a built-in list of everyday words]. Where a file of that name is there, it is the file.
    #[arg(long, value_name = "WORDS|FILE")]
    labels: Option<PathBuf>,
}

impl WordArgs {
    /// The words, if any are named; what is a file is read.
    pub(super) fn read(&self) -> anyhow::Result<Option<Vec<String>>> {
        self.labels.as_deref().map(read).transpose()
    }

    /// Words to tag with: `animal|dog` is the word dog below animal.
    pub(super) fn subjects(&self, words: Vec<String>) -> anyhow::Result<Vec<Subject>> {
        let named = self.labels.as_deref().unwrap_or(Path::new("--labels"));
        Ok(tagger::subjects(words, named)?)
    }
}

/// Words between commas, or those of a file.
pub(super) fn read(named: &Path) -> anyhow::Result<Vec<String>> {
    let Some(text) = named.to_str().filter(|text| !is_file(named, text)) else {
        return Ok(labels::read_list(named)?);
    };
    let words = labels::split_list(text);
    if words.iter().any(String::is_empty) {
        bail!("--labels {text:?}: a word is missing beside a comma");
    }
    for (place, word) in words.iter().enumerate() {
        if words[..place].contains(word) {
            bail!("--labels: {word:?} stands twice");
        }
    }
    Ok(words)
}

/// Whether a file is meant: one that is there, or a name as only files have them.
fn is_file(named: &Path, text: &str) -> bool {
    let ending = named.extension().and_then(|ending| ending.to_str());
    let like_a_file = text.contains(std::path::MAIN_SEPARATOR)
        || ending.is_some_and(|ending| matches!(ending, "txt" | "tsv" | "csv" | "lst"));
    (named.exists() && !named.is_dir()) || (like_a_file && !text.contains(','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        std::fs::write(&file, "sea\nred flower\n").unwrap();
        assert_eq!(read(&file).unwrap(), ["sea", "red flower"]);
        let words = |text: &str| read(Path::new(text)).map_err(|error| error.to_string());
        assert_eq!(words("dog, red flower").unwrap(), ["dog", "red flower"]);
        assert_eq!(words("dog,\"red flower\"").unwrap(), ["dog", "red flower"]);
        assert_eq!(words("animal|dog").unwrap(), ["animal|dog"]);
        // A folder of that name is none.
        let here = std::env::current_dir().unwrap();
        assert!(here.join("src").is_dir());
        assert_eq!(words("src").unwrap(), ["src"]);
        assert!(words("dog,,cat").unwrap_err().contains("missing"));
        assert!(words("dog,cat,dog").unwrap_err().contains("twice"));
        for missing in ["words.txt", "lists/words"] {
            assert!(words(missing).unwrap_err().contains(missing));
        }
    }
}
