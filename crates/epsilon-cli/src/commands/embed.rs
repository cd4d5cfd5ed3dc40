//! `epsilon embed`: finds the vectors of a list of label names and says how.

use std::collections::BTreeMap;
use std::path::PathBuf;

use epsilon::labels::{self, Found, VectorFile};
use serde::Serialize;

use crate::{Outcome, console};

/// Find the vectors of label names in a file of word vectors, and say how each was found.
#[derive(clap::Args)]
pub struct Args {
    /// Label names, one a line.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The vector file.
    #[arg(long, value_name = "FILE")]
    vectors: PathBuf,
    /// A list of the vector file's words, one a line, where it holds numbers alone; one for each of its arrays.
    #[arg(long, value_name = "FILE")]
    vector_names: Vec<PathBuf>,
    /// Write the vectors that were found here, as text.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    found: &'a Found,
}

pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let names = labels::read_names(&args.labels)?;
    let file = VectorFile {
        path: args.vectors,
        names: args.vector_names,
    };
    let resolved = labels::resolve_words(&file, &names, &names)?;
    if let Some(out) = &args.out {
        labels::write_text_vectors(out, &resolved.vectors)?;
    }
    if args.json {
        let rows: Vec<Row> = resolved
            .report
            .iter()
            .map(|r| Row {
                name: &r.name,
                found: &r.found,
            })
            .collect();
        console::print_json(&rows)?;
        return Ok(Outcome::Done);
    }
    let mut counts = BTreeMap::new();
    for resolution in &resolved.report {
        if !matches!(resolution.found, Found::Exact) {
            console::print(resolution)?;
        }
        *counts.entry(rule(&resolution.found)).or_insert(0) += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(rule, count)| format!("{count} {rule}"))
        .collect();
    let vectors = &resolved.vectors;
    console::print(format_args!(
        "{} labels, {} wide: {}",
        vectors.len(),
        vectors.dim(),
        counts.join(", ")
    ))?;
    Ok(Outcome::Done)
}

fn rule(found: &Found) -> &'static str {
    match found {
        Found::Exact => "exact",
        Found::LowerCase(_) => "in lower case",
        Found::Joined(_) => "joined",
        Found::Mean(_) => "mean of words",
    }
}
