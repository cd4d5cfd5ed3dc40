//! The tags of a library as a table for people.

use std::io;
use std::path::Path;

use super::{Journal, Outcome};
use epsilon_data::files;
use epsilon_metrics::files::text_cell;

/// Writes all tags, a line for every label of a photograph, whole or not at all. Names are guarded against spreadsheets that
/// would compute them ([`text_cell`]).
///
/// # Errors
/// When the table cannot be written, or the journal not read.
pub fn write(path: &Path, journal: &Journal) -> io::Result<()> {
    files::replace(path, |file| {
        let mut out = csv::Writer::from_writer(file);
        out.write_record(["photo", "label", "parents", "score", "probability", "seen"])?;
        for entry in journal.entries() {
            let entry = entry.map_err(io::Error::other)?;
            let Outcome::Labels(labels) = entry.outcome else {
                continue;
            };
            for label in labels {
                let number = |value: Option<f32>| value.map_or(String::new(), |v| v.to_string());
                out.write_record([
                    &*text_cell(&entry.photo),
                    &*text_cell(&label.name),
                    &*text_cell(&label.parents.join("|")),
                    &number(label.score),
                    &number(label.probability),
                    &label.seen.to_string(),
                ])?;
            }
        }
        out.flush()
    })
}
