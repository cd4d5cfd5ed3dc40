//! Files that results are written into, wherever a command has an option for one.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use epsilon_data::files;

/// An option's file, refused before anything is computed where none can be put.
pub(super) fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(checked)
}

fn checked(path: PathBuf) -> Result<PathBuf, String> {
    let problem = match path == Path::new("-") {
        true => "it stands for no file here".into(),
        false => match files::check_place(&path) {
            Ok(()) => return Ok(path),
            Err(problem) => problem.to_string(),
        },
    };
    Err(format!(
        "{problem}; name a regular file (--json, where a command has it, prints instead)"
    ))
}
