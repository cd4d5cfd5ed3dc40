//! Commands as they are typed: how this program was called, and paths that a shell takes as one word.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

/// This package's name.
const OWN: &str = env!("CARGO_PKG_NAME");

/// The word that the program was called by.
static CALLED: OnceLock<OsString> = OnceLock::new();

/// Keeps the word that the program was called by; the first one stays.
pub(crate) fn set_called(word: Option<OsString>) {
    if let Some(word) = word {
        let _ = CALLED.set(word);
    }
}

/// What starts this program again: `cargo run` where Cargo runs it, otherwise the word that it was called by.
pub(super) fn program() -> String {
    let package = std::env::var("CARGO_PKG_NAME").ok();
    program_of(package.as_deref(), CALLED.get().map(Path::new))
}

/// `package` is the one that Cargo says it runs, `called` the first word of the command.
fn program_of(package: Option<&str>, called: Option<&Path>) -> String {
    match (package, called) {
        (Some(OWN), _) if cfg!(debug_assertions) => "cargo run --".into(),
        (Some(OWN), _) => "cargo run --release --".into(),
        (_, Some(called)) => quoted(called),
        (_, None) => "epsilon".into(),
    }
}

/// A path in quotes where a shell would not take it as it is.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/\\.:_-+=,@%".contains(c);
    if text.chars().all(plain) && !text.is_empty() {
        text
    } else if cfg!(windows) {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_started_as_it_was() {
        let called = Some(Path::new("bin/epsilon"));
        assert!(program_of(Some("epsilon-cli"), called).starts_with("cargo run "));
        assert_eq!(program_of(Some("another"), called), "bin/epsilon");
        assert_eq!(program_of(None, called), "bin/epsilon");
        assert_eq!(program_of(None, None), "epsilon");
    }

    #[test]
    #[cfg(not(windows))]
    fn only_what_needs_it_is_quoted() {
        let quoted = |path: &str| super::quoted(Path::new(path));
        assert_eq!(
            quoted("runs/quickstart/a_b-1.png"),
            "runs/quickstart/a_b-1.png"
        );
        assert_eq!(quoted("my runs/$x"), "'my runs/$x'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
