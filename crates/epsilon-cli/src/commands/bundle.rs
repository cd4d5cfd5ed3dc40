//! `epsilon bundle`: a model, its backbone and words' vectors in one file.

use std::path::PathBuf;

use epsilon::PredictError;
use epsilon::labels::LabelError;
use epsilon::predictor::{BundleOptions, BundlePart, Bundled};

use super::trained::{ModelArgs, with_option};
use super::{output, words};
use crate::{Outcome, console};

/// Put a model, its backbone and the vectors of words into one file, with which `predict`, `tag`, `search`, `explain`, `serve`, and on
/// other data `eval` and `calibrate` need nothing else, on any machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model, as --model takes it.
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    named: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// The file to write.
    #[arg(short, long, value_name = "FILE", value_parser = output::file())]
    out: PathBuf,
    /// How many words of the vector file to keep, from its beginning, where published files have the most common ones; or `all`.
    #[arg(long, value_name = "N", default_value = "50000", value_parser = count)]
    words: usize,
    /// Words to keep besides, between commas, or a file with one a line. A text tower stays behind: of its words these and the built-in
    /// list are all.
    #[arg(long, value_name = "WORDS|FILE")]
    labels: Option<PathBuf>,
    /// What the backbone's matrices and the words' vectors are kept in: f16 is half as large, f32 gives the same scores to the bit.
    #[arg(long, default_value = "f16", value_parser = ["f16", "f32"])]
    precision: String,
    /// The licence of the backbone's weights, where none is known; it is kept in the file.
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn count(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(usize::MAX),
        number => number
            .parse()
            .map_err(|_| "give a number of words, or `all`".into()),
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let labels = args.labels.as_deref().map(words::read).transpose()?;
    let options = BundleOptions {
        words: args.words,
        labels: labels.unwrap_or_default(),
        exact: args.precision == "f32",
        licence: args.licence,
    };
    let predictor = args.model.options(args.named.as_deref())?;
    let predictor = predictor.load().map_err(with_option)?;
    let bundled = predictor.bundle(&args.out, &options);
    let bundled = bundled.map_err(|error| match error {
        PredictError::Labels(LabelError::Read { .. }) => {
            let help = "--vectors names another file of word vectors; --words 0 takes none along";
            anyhow::Error::new(error).context(help)
        }
        error => with_option(error),
    })?;
    match args.json {
        true => console::print_json(&bundled)?,
        false => print(&bundled)?,
    }
    Ok(Outcome::Done)
}

fn print(bundled: &Bundled) -> anyhow::Result<()> {
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let (file, size) = (bundled.file.display(), megabytes(bundled.bytes));
    console::print(format_args!("{file}: {size}"))?;
    let line = |name: &str, part: &BundlePart| {
        let from = part.from.as_deref().map(|from| format!(", from {from}"));
        let licence = part.licence.as_deref();
        console::print(format_args!(
            "  {name:<9} {:>10}  {}{}{}{}",
            megabytes(part.bytes),
            part.what,
            from.unwrap_or_default(),
            if part.rounded { ", rounded to f16" } else { "" },
            licence.map_or_else(String::new, |licence| format!(", licence {licence}")),
        ))
    };
    line("model", &bundled.model)?;
    line("backbone", &bundled.backbone)?;
    match &bundled.words {
        Some(words) => line("words", words)?,
        None => console::print("  no words beside the model's own labels")?,
    }
    if bundled.backbone.licence.is_none() {
        console::print(
            "the backbone's licence is not known: --licence keeps it in the file, for those whom you give it to",
        )?;
    }
    Ok(())
}
