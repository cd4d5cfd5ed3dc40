//! `epsilon embed`: finds the vectors of a list of label names and says how, or makes them with a text tower: as a recipe does, or
//! from a sentence of one's own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use epsilon::backbone::{self, Download, TextTower, by_name};
use epsilon::labels::{self, Found, LabelVectors, VectorFile};
use epsilon::predictor::resolve_words;
use serde::Serialize;

use super::output;
use super::trained::with_option;
use crate::{Outcome, console};

/// Find the vectors of label names as `vectors` in a recipe does, and say how each was found: in a file of word vectors, or by a
/// network's text tower; or make them of one sentence with a text tower.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Label names, one a line.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The vector file; or a network whose text tower makes vectors from the usual sentences: a weight file, a folder, hf:OWNER/NAME
    /// or a name of `epsilon models`.
    #[arg(long, value_name = "FILE|NETWORK", required_unless_present = "text")]
    vectors: Option<PathBuf>,
    /// A list of the vector file's words, one a line, where it holds numbers alone; one for each of its arrays.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    vector_names: Vec<PathBuf>,
    /// Make the vectors with a text tower instead, from one sentence about each label (--template); the weights tell which tower it
    /// is.
    #[arg(long, value_name = "TOWER", value_parser = ["clip", "siglip"], conflicts_with = "vectors", requires_all = ["weights", "out"])]
    text: Option<String>,
    /// The text tower's weights: a folder with its tokenizer, a file beside it, or hf:OWNER/NAME.
    #[arg(long, value_name = "WEIGHTS", requires = "text")]
    weights: Option<PathBuf>,
    /// Of a weight file that holds several networks, the key that the wanted one stands under.
    #[arg(long, value_name = "KEY", requires = "weights")]
    weights_key: Option<String>,
    /// The sentence; {label} becomes the label.
    #[arg(
        long,
        value_name = "TEXT",
        requires = "text",
        default_value = "There is a {label} in the scene"
    )]
    template: String,
    /// Write the vectors that were found or made here, as text.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
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

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let names = labels::read_list(&args.labels)?;
    let Some(vectors) = &args.vectors else {
        return make(&args, names);
    };
    let file = VectorFile {
        path: by_name(vectors),
        names: args.vector_names.clone(),
    };
    let download = Download::shown(console::is_terminal());
    let resolved = resolve_words(&file, &names, &names, download).map_err(with_option)?;
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
        if !matches!(resolution.found, Found::Exact | Found::TextTower) {
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

/// Vectors from a text tower.
fn make(args: &Args, names: Vec<String>) -> anyhow::Result<Outcome> {
    anyhow::ensure!(
        args.template.contains("{label}"),
        "--template {:?} has no {{label}}: every label would get the same vector",
        args.template
    );
    let weights = args.weights.as_ref().context("--text needs --weights")?;
    let out = args.out.as_ref().context("--text needs --out")?;
    let weights = backbone::locate(weights, Download::shown(console::is_terminal()))?;
    let tower = TextTower::load(&weights, args.weights_key.as_deref())?;
    let texts: Vec<String> = names
        .iter()
        .map(|name| args.template.replace("{label}", name))
        .collect();
    let values = tower.embed(&texts)?.concat();
    let vectors = LabelVectors::new(names, tower.width(), values)?;
    labels::write_text_vectors(out, &vectors)?;
    if args.json {
        console::print_json(&serde_json::json!({
            "labels": vectors.len(),
            "width": vectors.dim(),
            "weights_sha256": tower.weights_sha256,
            "template": args.template,
            "out": out,
        }))?;
    } else {
        console::print(format_args!(
            "{}: {} labels, {} wide",
            out.display(),
            vectors.len(),
            vectors.dim()
        ))?;
    }
    Ok(Outcome::Done)
}

fn rule(found: &Found) -> &'static str {
    match found {
        Found::Exact => "exact",
        Found::LowerCase(_) => "in lower case",
        Found::Joined(_) => "joined",
        Found::Mean(_) => "mean of words",
        Found::TextTower => "by the text tower",
    }
}
