//! `epsilon formats`: which pictures this build reads.

use epsilon::image::{FORMATS, Format, Part};
use serde::Serialize;

use crate::{Outcome, console};

/// List the formats of pictures: what is read of each, and which need another build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// A line of the list.
#[derive(Serialize)]
struct Line {
    format: &'static str,
    endings: &'static [&'static str],
    /// What is taken of its files.
    part: &'static str,
    /// Whether this build reads them.
    read: bool,
    /// The cargo feature that they need, if any.
    feature: Option<&'static str>,
}

impl From<&Format> for Line {
    fn from(format: &Format) -> Self {
        Self {
            format: format.name,
            endings: format.endings,
            part: match format.part {
                Part::Picture => "picture",
                Part::FirstFrame => "first frame",
                Part::Preview => "embedded JPEG",
            },
            read: format.is_built(),
            feature: format.feature,
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let lines: Vec<Line> = FORMATS.iter().map(Line::from).collect();
    if args.json {
        console::print_json(&lines)?;
        return Ok(Outcome::Done);
    }
    console::print(format_args!("format    what is read   usual endings"))?;
    for line in &lines {
        let part = match (line.read, line.feature) {
            (false, Some(_)) => "not built in",
            _ => line.part,
        };
        let mut endings = line.endings.join(" ");
        if let (false, Some(feature)) = (line.read, line.feature) {
            endings += &format!(" (needs a build with the cargo feature `{feature}`)");
        }
        console::print(format_args!("{:<9} {part:<14} {endings}", line.format))?;
    }
    Ok(Outcome::Done)
}
