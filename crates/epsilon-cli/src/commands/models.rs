//! `epsilon models`: published networks that rank words without training, by short names.

use epsilon::backbone::{DEFAULT_MODEL, MODELS, ModelKind};
use epsilon::cpu::Level;

use crate::{Outcome, console};

/// List published networks that rank words without training, for `--model`: what each is, its download, licence, size, speed and
/// published accuracy.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if args.json {
        console::print_json(&MODELS)?;
        return Ok(Outcome::Done);
    }
    let line = |cells: [&str; 7]| {
        let [name, megabytes, licence, parameters, speed, imagenet, about] = cells;
        let row = format!(
            "{name:<14}{megabytes:>6}  {licence:<12}{parameters:>7}{speed:>10}{imagenet:>10}  {about}"
        );
        console::print(row.trim_end())
    };
    line([
        "name", "MB", "licence", "values", "photos/s", "ImageNet", "what",
    ])?;
    for model in &MODELS {
        let default = model.name == DEFAULT_MODEL;
        let mark = if default { " (the default)" } else { "" };
        line([
            model.name,
            &(model.bytes / 1_000_000).to_string(),
            model.licence,
            &format!("{:.0} M", model.parameters as f64 / 1e6),
            &format!("{:.0}", model.photographs_per_second),
            &format!(
                "{:.1} %{}",
                model.imagenet,
                match model.kind {
                    ModelKind::Classifier => "*",
                    ModelKind::ImageText => " ",
                }
            ),
            &format!("{}{mark}", model.about),
        ])?;
    }
    console::print(format_args!(
        "\nphotos/s: small ones, with random weights of the same shape, on 2 cores of an AMD EPYC with AVX-512, in f32.\n\
         ImageNet: published zero-shot accuracy, or (*) that of a trained classifier, which ranks other words by word vectors\n\
         (--vectors); `--json` has the sources. Each is downloaded once from the Hugging Face hub when it is first named.\n\
         This CPU's instructions: {}.",
        Level::current(),
    ))?;
    Ok(Outcome::Done)
}
