//! `epsilon licences`: whose work is in the program, and under which terms.

use crate::{Outcome, console};

/// What `.ci/licences` has gathered.
const TEXT: &str = include_str!("licences.txt");

/// Print the third-party crates in this program with their licences.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> anyhow::Result<Outcome> {
    console::print(TEXT.trim_end())?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_and_the_texts_are_there() {
        let (list, texts) = TEXT.split_once("\n====").unwrap();
        let lines: Vec<&str> = list
            .lines()
            .skip(2)
            .filter(|line| !line.is_empty())
            .collect();
        for known in ["axum ", "burn-core ", "clap ", "image ", "option-ext "] {
            assert!(lines.iter().any(|line| line.starts_with(known)), "{known}");
        }
        assert!(
            lines.iter().all(|line| line.split("  ").count() >= 2),
            "a licence each"
        );
        for known in [
            "Mozilla Public License",
            "Apache License",
            "Permission is hereby granted",
            "Copyright (c)",
        ] {
            assert!(texts.contains(known), "{known}");
        }
    }
}
