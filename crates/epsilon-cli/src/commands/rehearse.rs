//! `epsilon rehearse`: what reviews are worth, with a simulated owner of a labelled data set.

use std::fmt::Write;
use std::ops::ControlFlow::Continue;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use epsilon::learning::{Choice, Rehearsal, RehearsalEvent, Round};
use epsilon_data::files;
use serde::Serialize;

use super::{Place, output};
use crate::{Outcome, console};

/// Play the owner of a labelled data set who reviews photographs: mAP after each round against the number of clicks, by doubt and at
/// random.
///
/// Nothing is known at first but what the backbone's own classes say of the labels. In each round the owner reviews some training
/// photographs; labels that are shown are approved or rejected, others added, and the photograph is marked as reviewed, a click
/// each. A model is learnt as `epsilon learn` does and measured on the test photographs, by all labels.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recipe file (TOML): its data, backbone, tokens, anchor and seeds; method and training are those of `epsilon learn`.
    recipe: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Rounds of reviews.
    #[arg(long, value_name = "N", default_value_t = 12)]
    rounds: usize,
    /// Photographs of a round.
    #[arg(long, value_name = "N", default_value_t = 50)]
    reviews: usize,
    /// Also learn from all training photographs, at the end.
    #[arg(long)]
    all: bool,
    /// Write the table as Markdown.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    table: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What the two choices came to.
#[derive(Serialize)]
struct Curves {
    random: Vec<Point>,
    doubt: Vec<Point>,
    /// All training photographs.
    all: Option<Point>,
    /// Clicks by doubt at which the mAP of each random round is reached for the first time, as a share of its clicks.
    shares: Vec<Option<f64>>,
}

/// A round, as the mean over the seeds.
#[derive(Clone, Copy, Serialize)]
struct Point {
    reviewed: usize,
    clicks: f64,
    map: f64,
    /// Standard deviation of the mAP over the seeds.
    deviation: f64,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.rounds > 0, "--rounds 0: give at least 1");
    ensure!(args.reviews > 0, "--reviews 0: give at least 1");
    let mut experiment = args.place.experiment(&args.recipe)?;
    let failed = super::extract(&mut experiment)?;
    let seeds = experiment.recipe().seeds.clone();
    let mut curve = |choice: Choice, name: &str, rounds: usize, reviews: usize| {
        let runs = seeds.iter().map(|&seed| {
            let rehearsal = Rehearsal {
                choice,
                rounds,
                reviews,
                seed,
            };
            rehearsal.run(&mut experiment, &mut |event| {
                if let RehearsalEvent::Round(round) = event {
                    tell(name, seed, round);
                }
                Continue(())
            })
        });
        let runs: Vec<Vec<Round>> = runs.collect::<Result<_, _>>()?;
        anyhow::Ok(means(&runs))
    };
    let random = curve(Choice::Random, "at random", args.rounds, args.reviews)?;
    let doubt = curve(Choice::Doubt, "by doubt", args.rounds, args.reviews)?;
    let all = match args.all {
        true => curve(Choice::Random, "all", 1, usize::MAX)?.last().copied(),
        false => None,
    };
    let shares = random[1..].iter().map(|to| share(&doubt, to)).collect();
    let curves = Curves {
        random,
        doubt,
        all,
        shares,
    };
    let table = curves.table()?;
    if let Some(path) = &args.table {
        files::write(path, table.as_bytes()).with_context(|| path.display().to_string())?;
    }
    match args.json {
        true => console::print_json(&curves)?,
        false => console::print(table.trim_end())?,
    }
    Ok(match failed {
        true => Outcome::SomeFailed,
        false => Outcome::Done,
    })
}

fn tell(name: &str, seed: u64, round: &Round) {
    console::tell(format_args!(
        "{name}, seed {seed}: {} photographs, {} clicks: mAP {:.1} %",
        round.reviewed,
        round.clicks,
        100.0 * round.map
    ));
}

/// The rounds of several seeds, one by one.
fn means(runs: &[Vec<Round>]) -> Vec<Point> {
    let rounds = runs.iter().map(Vec::len).min().unwrap_or_default();
    let count = runs.len().max(1) as f64;
    (0..rounds)
        .map(|round| {
            let of = |value: fn(&Round) -> f64| runs.iter().map(move |run| value(&run[round]));
            let mean = |value: fn(&Round) -> f64| of(value).sum::<f64>() / count;
            let map = mean(|round| round.map);
            let squares = of(|round| round.map)
                .map(|value| (value - map).powi(2))
                .sum::<f64>();
            Point {
                reviewed: runs[0][round].reviewed,
                clicks: mean(|round| round.clicks as f64),
                map,
                deviation: (squares / (count - 1.0).max(1.0)).sqrt(),
            }
        })
        .collect()
}

/// The clicks at which a curve first has the mAP of a point, with straight lines between its rounds, as a share of the point's.
fn share(curve: &[Point], to: &Point) -> Option<f64> {
    let at = curve.iter().position(|point| point.map >= to.map)?;
    let end = &curve[at];
    let clicks = match at.checked_sub(1).map(|before| &curve[before]) {
        Some(start) if end.map > start.map => {
            let part = (to.map - start.map) / (end.map - start.map);
            start.clicks + part * (end.clicks - start.clicks)
        }
        _ => end.clicks,
    };
    (to.clicks > 0.0).then(|| clicks / to.clicks)
}

impl Curves {
    fn table(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        writeln!(
            out,
            "| photographs reviewed | clicks at random | mAP at random | clicks by doubt | mAP by doubt | clicks by doubt to the same mAP |"
        )?;
        writeln!(out, "| ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for (round, (random, doubt)) in self.random.iter().zip(&self.doubt).enumerate() {
            let share = match round.checked_sub(1).map(|round| self.shares[round]) {
                None => String::new(),
                Some(None) => "not reached".into(),
                Some(Some(share)) => format!("{:.0} %", 100.0 * share),
            };
            writeln!(
                out,
                "| {} | {:.0} | {} | {:.0} | {} | {share} |",
                random.reviewed,
                random.clicks,
                random.percent(),
                doubt.clicks,
                doubt.percent(),
            )?;
        }
        if let Some(all) = &self.all {
            writeln!(
                out,
                "| {} | {:.0} | {} | | | |",
                all.reviewed,
                all.clicks,
                all.percent()
            )?;
        }
        Ok(out)
    }
}

impl Point {
    fn percent(&self) -> String {
        format!("{:.1} ± {:.1}", 100.0 * self.map, 100.0 * self.deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clicks_to_the_same_figure_are_read_off_the_line_between_rounds() {
        let point = |clicks: f64, map: f64| Point {
            reviewed: 0,
            clicks,
            map,
            deviation: 0.0,
        };
        let curve = [point(0.0, 0.1), point(100.0, 0.3), point(200.0, 0.4)];
        for (to, expected) in [(point(100.0, 0.2), 0.5), (point(300.0, 0.35), 0.5)] {
            let share = share(&curve, &to).unwrap();
            assert!((share - expected).abs() < 1e-9, "{share}");
        }
        assert_eq!(share(&curve, &point(300.0, 0.5)), None);
        assert_eq!(share(&curve, &point(300.0, 0.1)), Some(0.0));
    }
}
