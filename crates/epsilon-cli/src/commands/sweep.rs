//! `epsilon sweep`: a recipe over a grid of settings, as one table.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use epsilon::comparison::Comparison;
use toml::Value;

use super::Place;
use super::bench::Job;
use crate::Outcome;

/// Maximum number of values of a range; more are taken for a typing error.
const MOST: usize = 1000;

/// Train and evaluate a recipe over a grid of settings, and write the table.
///
/// With `validation-labels` in the recipe the best combination is chosen by trainings that leave seen labels out. Finished
/// trainings are reused: run it again to resume, or with more values.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recipe file (TOML).
    recipe: PathBuf,
    #[command(flatten)]
    place: Place,
    /// A key and its values, such as groups=2,4,8 or learning-rate=1e-4,1e-3; may be given several times. A range such as
    /// lambda=0.1..0.9 steps by one unit of its last decimal place, 0.1..0.9:0.2 by 0.2.
    #[arg(long, required = true, value_name = "KEY=VALUES", value_parser = setting)]
    set: Vec<(String, Vec<Value>)>,
    /// Maximum number of concurrent trainings; reduced to what fits in memory.
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: usize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.jobs > 0, "--jobs 0: give at least 1");
    ensure!(
        args.jobs == 1 || crate::ranks::of_job().size() == 1,
        "--jobs {}: each of the job's processes makes one training at a time; start more of them",
        args.jobs
    );
    let comparison = Comparison::sweep(&args.recipe, &args.set)?;
    let folder = args.place.folder(&args.recipe);
    let wanted: Vec<usize> = (0..comparison.rows.len()).collect();
    Job {
        comparison: &comparison,
        wanted: &wanted,
        place: &args.place,
        folder: &folder,
        results: &folder.join("sweep"),
        jobs: args.jobs,
        compares_rows: true,
        json: args.json,
    }
    .run()
}

fn setting(text: &str) -> anyhow::Result<(String, Vec<Value>)> {
    let (key, values) = text.split_once('=').context("give KEY=VALUE,VALUE")?;
    let values = match values.split_once("..") {
        Some((first, rest)) => range(first, rest)?,
        None => apart(values).into_iter().map(value).collect(),
    };
    Ok((key.trim().into(), values))
}

/// Splits at commas outside brackets.
fn apart(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c| {
        depth += match c {
            '[' | '{' => 1,
            ']' | '}' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    })
    .collect()
}

/// Parses a TOML value; anything else is a string.
fn value(text: &str) -> Value {
    let text = text.trim();
    let parsed: Result<toml::Table, _> = format!("value = {text}").parse();
    let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.into()))
}

/// The numbers from `first` to at most the end of the range.
fn range(first: &str, rest: &str) -> anyhow::Result<Vec<Value>> {
    let (last, step) = match rest.split_once(':') {
        Some((last, step)) => (last, Some(step)),
        None => (rest, None),
    };
    let places = |text: &str| text.split_once('.').map_or(0, |(_, after)| after.len());
    let given = [Some(first), Some(last), step];
    let places = given.iter().flatten().map(|text| places(text)).max();
    let places = places.unwrap_or(0);
    let scale = 10_f64.powi(i32::try_from(places)?);
    // Counted in whole steps of the last decimal place, so that 0.3 is 0.3.
    let number = |text: &str| -> anyhow::Result<i64> {
        let number: f64 = text
            .trim()
            .parse()
            .with_context(|| format!("{text:?} is no number"))?;
        Ok((number * scale).round() as i64)
    };
    let (first, last) = (number(first)?, number(last)?);
    let step = step.map_or(Ok(1), number)?;
    if step <= 0 || last < first {
        bail!("a range rises by a step above 0: 0.1..0.9 or 0.1..0.9:0.2");
    }
    let count = ((last - first) / step) as usize + 1;
    ensure!(count <= MOST, "{count} values; give at most {MOST}");
    let values = (0..count).map(|n| first + n as i64 * step);
    Ok(values
        .map(|value| match places {
            0 => Value::Integer(value),
            _ => Value::Float(value as f64 / scale),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        let floats = |text: &str| -> Vec<f64> {
            let (_, values) = setting(text).unwrap();
            values.iter().filter_map(Value::as_float).collect()
        };
        assert_eq!(floats("lambda=0.1..0.5"), [0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(floats("lambda=0.1..0.9:0.25"), [0.1, 0.35, 0.6, 0.85]);
        assert_eq!(floats("learning-rate=1e-4, 1e-3"), [1e-4, 1e-3]);
        let (key, values) = setting("groups=2..4").unwrap();
        assert_eq!(
            (key.as_str(), values),
            ("groups", vec![2.into(), 3.into(), 4.into()])
        );
        let (_, values) = setting("hidden=[1,2],[3]").unwrap();
        assert_eq!(values.len(), 2);
        let (_, values) = setting("modules=gpa,gfp").unwrap();
        assert_eq!(values, ["gpa", "gfp"].map(|v| Value::String(v.into())));
        for wrong in [
            "groups",
            "lambda=0.9..0.1",
            "lambda=0.1..0.9:0",
            "a=1..x",
            "a=0..9999",
        ] {
            assert!(setting(wrong).is_err(), "{wrong}");
        }
    }
}
