//! The tags of a library as a table for people.

use std::io;
use std::path::Path;

use super::{Corrections, Journal, Labelled, Outcome};
use epsilon_data::files;
use epsilon_metrics::files::text_cell;

/// Writes all tags with the owner's word applied, a line for every label of a photograph, whole or not at all. Names are guarded against spreadsheets that
/// would compute them ([`text_cell`]).
///
/// # Errors
/// When the table cannot be written, or the journal not read.
pub fn write(path: &Path, journal: &Journal, corrections: &Corrections) -> io::Result<()> {
    files::replace(path, |file| {
        let mut out = csv::Writer::from_writer(file);
        out.write_record([
            "photo",
            "label",
            "parents",
            "score",
            "probability",
            "seen",
            "state",
        ])?;
        for entry in journal.entries() {
            let entry = entry.map_err(io::Error::other)?.with(corrections);
            let Outcome::Labels(labels) = entry.outcome else {
                continue;
            };
            for Labelled { label, state } in labels {
                let number = |value: Option<f32>| value.map_or(String::new(), |v| v.to_string());
                out.write_record([
                    &*text_cell(&entry.photo),
                    &*text_cell(&label.name),
                    &*text_cell(&label.parents.join("|")),
                    &number(label.score),
                    &number(label.probability),
                    &label.seen.to_string(),
                    state.name(),
                ])?;
            }
        }
        out.flush()
    })
}
