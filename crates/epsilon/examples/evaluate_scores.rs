//! Measures anyone's scores under a published protocol: tables of scores and labels as .csv, .npy or .safetensors, the seen
//! labels first.
//!
//! `cargo run --release -p epsilon-zsl --example evaluate_scores -- SCORES LABELS SEEN PROTOCOL`

use std::error::Error;
use std::path::Path;

use epsilon_metrics::files::{Joined, LabelTable, ScoreTable};
use epsilon_metrics::{Protocol, SplitEvaluation, evaluate_protocols};

/// Figures of the unseen, of the seen and of all labels; the first `seen` columns are the seen labels.
pub(crate) fn evaluate(
    scores: &Path,
    labels: &Path,
    seen: usize,
    protocol: &str,
) -> Result<SplitEvaluation, Box<dyn Error>> {
    let protocol: Protocol = protocol.parse()?;
    let table = Joined::new(ScoreTable::read(scores)?, &LabelTable::read(labels)?, None)?;
    let mut figures = evaluate_protocols(&table, seen, &[protocol], &[1], &[1])?;
    Ok(figures.remove(0))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scores, labels, seen, protocol] = &arguments[..] else {
        return Err("usage: evaluate_scores SCORES LABELS SEEN PROTOCOL".into());
    };
    let figures = evaluate(scores.as_ref(), labels.as_ref(), seen.parse()?, protocol)?;
    println!("{figures}");
    Ok(())
}
