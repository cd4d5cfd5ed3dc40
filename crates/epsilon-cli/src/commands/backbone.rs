//! `epsilon backbone`: lists the supported networks, and checks weight files.

use std::path::PathBuf;

use epsilon::backbone::{self, Check, Download, FAMILIES, Options, Tokens};

use crate::{Outcome, console};

/// List the supported backbones, or check a weight file.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the supported families: how each is recognised, its tokens, widths, hub ids and preprocessing.
    List {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Load a weight file and print what it contains.
    Check {
        /// Weights: a file, a folder, or hf:OWNER/NAME[@REVISION].
        weights: PathBuf,
        /// Tokens to output: after the final layer norm (plain), or also projected (CLIP, SigLIP).
        #[arg(long, default_value = "plain", value_parser = ["plain", "projected"])]
        tokens: String,
        /// Of a file that holds several networks, the key that the wanted one stands under.
        #[arg(long, value_name = "KEY")]
        weights_key: Option<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::List { json: true } => console::print_json(&FAMILIES)?,
        Command::List { json: false } => list()?,
        Command::Check {
            weights,
            tokens,
            weights_key,
            json,
        } => {
            let tokens = if tokens == "projected" {
                Tokens::Projected
            } else {
                Tokens::Plain
            };
            let path = backbone::locate(&weights, Download::shown(console::is_terminal()))?;
            let check = backbone::check(
                &path,
                &Options {
                    tokens,
                    weights_key,
                    ..Options::default()
                },
            )?;
            if json {
                console::print_json(&check)?;
            } else {
                show(&check)?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn list() -> anyhow::Result<()> {
    for family in &FAMILIES {
        console::print(format_args!("{}: {}", family.name, family.about))?;
        for (key, value) in [
            ("recognised by", family.recognised_by.join(", ")),
            ("tokens", family.tokens.into()),
            ("widths", family.widths.into()),
            ("such as", family.typical.join(", ")),
            ("preprocessing", family.preprocess.into()),
        ] {
            console::print(format_args!("  {key:<14} {value}"))?;
        }
    }
    Ok(())
}

fn show(check: &Check) -> anyhow::Result<()> {
    let info = &check.info;
    let preprocess = &info.preprocess;
    for (key, value) in [
        ("family", check.family.name.to_string()),
        ("input", format!("{0} x {0} pixels", preprocess.size)),
        ("tokens", format!("{} x {}", info.tokens, info.dim)),
        ("global", check.global.to_string()),
        (
            "own classes",
            check.classes.map_or("none".into(), |n| n.to_string()),
        ),
        ("parameters", check.parameters.to_string()),
        ("sha256", info.weights_sha256.clone()),
        (
            "preprocessing",
            format!(
                "{:?}, {:?}, mean {:?}, std {:?}",
                preprocess.fit, preprocess.filter, preprocess.mean, preprocess.std
            ),
        ),
    ] {
        console::print(format_args!("{key:<14} {value}"))?;
    }
    Ok(())
}
