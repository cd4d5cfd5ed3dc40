//! `epsilon compare`: which of several models, or files of scores, can be told apart on the same test images.

use std::collections::HashMap;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use epsilon::burn::tensor::Device;
use epsilon::experiment::{self, Measure, Resamples, Scored, resampling};
use epsilon::model::Model;
use epsilon::paths::{plain, text};
use epsilon::recipe::EvaluationSettings;
use epsilon_data::files;
use epsilon_metrics::files::{Joined, LabelTable, ScoreTable, Zero, text_cell};
use epsilon_metrics::{
    Difference, Normalisation, Over, Protocol, Resampled, Resampling, Settings, Table, differences,
};
use serde::Serialize;

use super::bench::marks::{LEVEL, RESAMPLES, best};
use super::eval::NormaliseArgs;
use super::output;
use super::score_files::ScoreFiles;
use crate::{Outcome, console};

/// Compare models, or the scores of any program, on the same test images: differences with intervals, by the paired bootstrap.
///
/// All rows are resampled alike, each is compared with one of them, and the p-values are corrected for their number (Holm).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model files (.safetensors), scored on their recipe's test images as `epsilon eval` does; or files of scores, .npy,
    /// .safetensors or .csv, images x labels. At least two, all over the same images and labels.
    #[arg(required = true, num_args = 2.., value_name = "ROW")]
    rows: Vec<PathBuf>,
    /// Ground truth of files of scores, as for `epsilon eval`; that of the models where there are any.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// List of the seen labels, one per line [default: all that are not unseen].
    #[arg(long, value_name = "LIST", requires = "labels")]
    seen: Option<PathBuf>,
    /// List of the unseen labels, one per line [default: all that are not seen].
    #[arg(long, value_name = "LIST", requires = "labels")]
    unseen: Option<PathBuf>,
    /// Meaning of 0 in the ground truth; needed unless it also contains -1, where 0 is unknown.
    #[arg(long, value_parser = ["negative", "unknown"], requires = "labels")]
    zero: Option<String>,
    /// Score models on the test images of this recipe instead of their own.
    #[arg(long, value_name = "RECIPE")]
    data: Option<PathBuf>,
    /// Token store of the models [default: `tokens` in each model's run folder].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// Evaluation protocol [default: that of the first model's recipe; `epsilon` for scores].
    #[arg(long, value_parser = Protocol::NAMES)]
    protocol: Option<String>,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// What to compare [default: all that is measured].
    #[arg(long, value_name = "WHAT,WHAT", value_delimiter = ',', value_parser = Measure::ALL.map(Measure::name))]
    measure: Vec<String>,
    /// What is drawn with replacement.
    #[arg(long, default_value = "images", value_parser = ["images", "labels"])]
    over: String,
    /// Number of resamples; no p-value is below 2 / (N + 1).
    #[arg(long, default_value_t = RESAMPLES, value_name = "N")]
    bootstrap: usize,
    /// The row that the others are compared with: the first one, or the best one of each measure.
    #[arg(long, default_value = "first", value_parser = ["first", "best"])]
    against: String,
    /// Device to compute on.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
    /// Write the comparison to this CSV file.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    csv: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let comparison = compare(&args)?;
    if let Some(path) = &args.csv {
        files::write(path, &comparison.csv()?).with_context(|| path.display().to_string())?;
    }
    match args.json {
        true => console::print_json(&comparison)?,
        false => console::print(comparison.text())?,
    }
    Ok(Outcome::Done)
}

/// Every measure of every row against the reference.
#[derive(Serialize)]
struct Comparison {
    protocol: String,
    settings: Settings,
    scores: Normalisation,
    resampling: Resampling,
    measures: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    measure: Measure,
    reference: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    row: String,
    value: f64,
    standard_error: f64,
    /// None of the reference itself.
    difference: Option<Difference>,
}

/// Images and labels that all rows are over, in the order of the first row that is read.
struct Truth {
    of: PathBuf,
    images: Option<Vec<String>>,
    labels: Vec<String>,
    seen: usize,
    /// Of models: row-major `[images, labels]`.
    targets: Vec<i8>,
}

fn compare(args: &Args) -> anyhow::Result<Comparison> {
    let is_model = |path: &PathBuf| -> anyhow::Result<bool> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        Ok(extension != "csv" && extension != "npy" && Model::is_at(path)?)
    };
    let are_models: Vec<bool> = args.rows.iter().map(is_model).collect::<Result<_, _>>()?;
    let any_model = are_models.contains(&true);
    ensure!(
        !any_model || args.labels.is_none(),
        "--labels: the ground truth is that of the models' recipe"
    );
    for (given, name) in [(&args.data, "--data"), (&args.store, "--store")] {
        ensure!(
            any_model || given.is_none(),
            "{name}: is of models, and all rows are files of scores"
        );
    }
    let mut rows = Rows::new(args)?;
    // The models first: they bring the ground truth.
    let places = (0..args.rows.len()).filter(|&place| are_models[place]);
    for place in places {
        rows.add_model(place)?;
    }
    let places = (0..args.rows.len()).filter(|&place| !are_models[place]);
    for place in places {
        rows.add_scores(place)?;
    }
    rows.compare()
}

/// The rows read so far.
struct Rows<'a> {
    args: &'a Args,
    device: Device,
    resampling: Resampling,
    protocol: Protocol,
    settings: EvaluationSettings,
    truth: Option<Truth>,
    /// In the order of the command line.
    resamples: Vec<Option<Resamples>>,
    /// Names of the rows in tables.
    names: Vec<String>,
}

impl<'a> Rows<'a> {
    fn new(args: &'a Args) -> anyhow::Result<Self> {
        let over = match args.over.as_str() {
            "labels" => Over::Labels,
            _ => Over::Images,
        };
        let mut rows = Self {
            args,
            device: epsilon::device::device(&args.device)?,
            resampling: resampling(over, args.bootstrap),
            protocol: Protocol::epsilon(),
            settings: EvaluationSettings::default(),
            truth: None,
            resamples: args.rows.iter().map(|_| None).collect(),
            names: args.rows.iter().map(|row| text(row)).collect(),
        };
        rows.rules(EvaluationSettings::default())?;
        Ok(rows)
    }

    /// Measures all rows by these settings, but where the command line says otherwise.
    fn rules(&mut self, mut settings: EvaluationSettings) -> anyhow::Result<()> {
        self.args.normalise.put_into(&mut settings);
        let protocol = self.args.protocol.as_ref().unwrap_or(&settings.protocol);
        self.protocol = protocol.parse()?;
        self.settings = settings;
        Ok(())
    }

    fn add_model(&mut self, place: usize) -> anyhow::Result<()> {
        let (args, path) = (self.args, &self.args.rows[place]);
        let model = Model::load(path, &self.device)?;
        let (other, store) = (args.data.as_deref(), args.store.as_deref());
        let mut experiment =
            super::of_model(&model, path, other, store)?.with_device(self.device.clone());
        let scored = super::measuring(|progress| experiment.score(&model, progress))?;
        if scored.backbone_classes_known() {
            self.names[place].push_str(" (backbone classes known)");
        }
        match &self.truth {
            Some(truth) => truth.check(path, &scored)?,
            None => {
                self.rules(experiment.recipe().evaluation.clone())?;
                self.truth = Some(Truth {
                    of: path.clone(),
                    images: Some(scored.images.clone()),
                    labels: scored.labels.clone(),
                    seen: scored.seen,
                    targets: scored.targets().to_vec(),
                });
            }
        }
        super::warn_of_known(path, &model, &scored.labels[scored.seen..]);
        let resamples = scored.resample(
            &self.protocol,
            &self.settings,
            &self.resampling,
            &mut || Continue(()),
        );
        self.resamples[place] = Some(resamples.with_context(|| path.display().to_string())?);
        Ok(())
    }

    fn add_scores(&mut self, place: usize) -> anyhow::Result<()> {
        let path = &self.args.rows[place];
        let (mut joined, seen) = self.join(path)?;
        match &self.truth {
            Some(truth) => truth.arrange(path, &mut joined)?,
            None => {
                self.truth = Some(Truth {
                    of: path.clone(),
                    images: joined.image_names().map(<[String]>::to_vec),
                    labels: (0..joined.labels()).map(|c| joined.label(c)).collect(),
                    seen,
                    targets: Vec::new(),
                });
            }
        }
        let resamples = experiment::resamples(
            &joined,
            seen,
            &self.protocol,
            &self.settings,
            &self.resampling,
        );
        self.resamples[place] = Some(resamples.map_err(|error| joined.name(error))?);
        Ok(())
    }

    /// Scores with the models' ground truth, or that of the command line.
    fn join(&self, path: &Path) -> anyhow::Result<(Joined, usize)> {
        if let (Some(labels), args) = (&self.args.labels, self.args) {
            let files = ScoreFiles {
                labels,
                seen: args.seen.as_deref(),
                unseen: args.unseen.as_deref(),
                zero: args.zero.as_deref(),
                normalisation: self.settings.normalisation(),
            };
            return files.read(path);
        }
        let Some(truth) = &self.truth else {
            bail!("files of scores need their ground truth: give it with --labels");
        };
        let width = truth.labels.len();
        let images = truth.images.clone().unwrap_or_default();
        let rows = |image: usize, out: &mut [i8]| {
            out.copy_from_slice(&truth.targets[image * width..][..width]);
        };
        let scores = ScoreTable::read_for(path, self.settings.normalisation())?;
        let labels = LabelTable::from_rows(&truth.of, images, truth.labels.clone(), rows)?;
        let joined = Joined::new(scores, &labels, Some(Zero::Unknown))?;
        Ok((joined, truth.seen))
    }

    fn compare(self) -> anyhow::Result<Comparison> {
        let of_rows: Vec<Resamples> = self.resamples.into_iter().flatten().collect();
        let rows = self.names;
        let measured = |measure: &Measure| of_rows.iter().all(|row| row.contains_key(measure));
        let mut chosen: Vec<Measure> = Measure::ALL.into_iter().filter(measured).collect();
        for name in &self.args.measure {
            ensure!(
                chosen.iter().any(|measure| measure.name() == name),
                "--measure {name}: not measured of every row, as there are no unseen labels"
            );
        }
        if !self.args.measure.is_empty() {
            chosen.retain(|measure| self.args.measure.iter().any(|name| name == measure.name()));
        }
        let measures = chosen.into_iter().map(|measure| {
            let resampled: Vec<&Resampled> = of_rows.iter().map(|row| &row[&measure]).collect();
            let reference = match self.args.against.as_str() {
                "best" => best(&resampled),
                _ => 0,
            };
            measured_of(measure, &rows, &resampled, reference)
        });
        Ok(Comparison {
            protocol: self.protocol.name().into(),
            settings: self.protocol.settings(),
            scores: self.settings.normalisation(),
            resampling: self.resampling,
            measures: measures.collect::<Result<_, _>>()?,
        })
    }
}

fn measured_of(
    measure: Measure,
    names: &[String],
    rows: &[&Resampled],
    reference: usize,
) -> anyhow::Result<Measured> {
    let found = differences(rows, reference)?;
    let rows = names.iter().zip(rows).zip(found).enumerate();
    let rows = rows.map(|(place, ((name, row), difference))| Row {
        row: name.clone(),
        value: row.map,
        standard_error: row.standard_error(),
        difference: (place != reference).then_some(difference),
    });
    Ok(Measured {
        measure,
        reference: names[reference].clone(),
        rows: rows.collect(),
    })
}

impl Truth {
    /// Checks that a model's scores are over the same images and labels.
    fn check(&self, path: &Path, scored: &Scored) -> anyhow::Result<()> {
        let differs = |what: &str| {
            format!(
                "{} and {} cannot be compared: {what}",
                path.display(),
                self.of.display()
            )
        };
        let images = self.images.as_deref().unwrap_or_default();
        if let Some(problem) = different("test image", images, &scored.images) {
            bail!(differs(&problem));
        }
        if let Some((label, is_ours)) =
            other_side((&self.labels, self.seen), (&scored.labels, scored.seen))
        {
            let [ours, theirs] = [&self.of, path].map(Path::display);
            let (seen, unseen) = match is_ours {
                true => (ours, theirs),
                false => (theirs, ours),
            };
            bail!(differs(&format!(
                "label {label:?} is seen in {seen} and unseen in {unseen}"
            )));
        }
        if let Some(problem) = different("label", &self.labels, &scored.labels) {
            bail!(differs(&problem));
        }
        let width = self.labels.len();
        let targets = self.targets.iter().zip(scored.targets());
        if let Some(at) = targets.into_iter().position(|(a, b)| a != b) {
            let (image, label) = (&images[at / width], &self.labels[at % width]);
            bail!(differs(&format!(
                "another ground truth of {image:?}, label {label:?}"
            )));
        }
        Ok(())
    }

    /// Reads a file's images and labels in this order.
    fn arrange(&self, path: &Path, joined: &mut Joined) -> anyhow::Result<()> {
        let order =
            |what: &str, wanted: &[String], found: &[String]| -> anyhow::Result<Vec<usize>> {
                let places: HashMap<&String, usize> = found.iter().zip(0..).collect();
                let places: Option<Vec<usize>> = wanted
                    .iter()
                    .map(|name| places.get(name).copied())
                    .collect();
                match places {
                    Some(places) if places.len() == found.len() => Ok(places),
                    _ => bail!(
                        "{} and {} cannot be compared: {}",
                        path.display(),
                        self.of.display(),
                        different(what, wanted, found).unwrap_or_default()
                    ),
                }
            };
        if let (Some(wanted), Some(found)) = (&self.images, joined.image_names()) {
            let rows = order("image", wanted, found)?;
            joined.order_images(rows);
        }
        if let Some(names) = joined.label_names().map(<[String]>::to_vec) {
            let selected: Vec<String> = (0..joined.labels()).map(|c| joined.label(c)).collect();
            order("label", &self.labels, &selected)?;
            let place = |label: &String| names.iter().position(|name| name == label);
            joined.choose(self.labels.iter().filter_map(place).collect());
        }
        Ok(())
    }
}

/// A label that is seen in one of two rows and unseen in the other, and whether it is seen in the first. Each has its labels, the seen
/// ones first, and their number.
fn other_side<'a>(
    first: (&'a [String], usize),
    second: (&[String], usize),
) -> Option<(&'a str, bool)> {
    let side: HashMap<&String, bool> = (second.0.iter().enumerate())
        .map(|(place, name)| (name, place < second.1))
        .collect();
    let sides = first
        .0
        .iter()
        .enumerate()
        .map(|(place, name)| (name, place < first.1));
    let mut other =
        sides.filter(|(name, is_seen)| side.get(name).is_some_and(|there| there != is_seen));
    other.next().map(|(name, is_seen)| (name.as_str(), is_seen))
}

/// What distinguishes the names of a row from those of the first: one that either lacks, or the order.
fn different(what: &str, first: &[String], names: &[String]) -> Option<String> {
    if first == names {
        return None;
    }
    let lacks = |of: &[String], these: &[String]| {
        let there: std::collections::HashSet<&String> = of.iter().collect();
        these.iter().find(|name| !there.contains(name)).cloned()
    };
    Some(match (lacks(names, first), lacks(first, names)) {
        (Some(name), _) => format!(
            "{what} {name:?} is missing ({} instead of {})",
            names.len(),
            first.len()
        ),
        (None, Some(name)) => format!(
            "{what} {name:?} is too much ({} instead of {})",
            names.len(),
            first.len()
        ),
        (None, None) => format!("their {what}s have another order"),
    })
}

impl Comparison {
    fn text(&self) -> String {
        let over = match self.resampling.over {
            Over::Images => "test images",
            Over::Labels => "labels",
        };
        let mut text = format!(
            "protocol {}: {}; {}\npaired bootstrap over {over}, {} resamples; p-values corrected for the number of rows (Holm)\n",
            self.protocol, self.settings, self.scores, self.resampling.resamples
        );
        let is_split = self.measures.iter().any(|m| m.measure != Measure::Seen);
        for measured in &self.measures {
            let name = match is_split {
                true => measured.measure.to_string(),
                false => "mAP".into(),
            };
            text.push('\n');
            text.push_str(&measured.text(&name));
        }
        text.trim_end().into()
    }

    fn csv(&self) -> anyhow::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record([
            "protocol",
            "measure",
            "row",
            "value",
            "standard error",
            "reference",
            "difference",
            "difference low",
            "difference high",
            "p",
            "p Holm",
        ])?;
        for measured in &self.measures {
            for row in &measured.rows {
                let of = |value: fn(&Difference) -> f64| {
                    row.difference
                        .as_ref()
                        .map_or(String::new(), |d| value(d).to_string())
                };
                writer.write_record([
                    self.protocol.clone(),
                    measured.measure.name().into(),
                    text_cell(&row.row).into_owned(),
                    row.value.to_string(),
                    row.standard_error.to_string(),
                    text_cell(&measured.reference).into_owned(),
                    of(|d| d.difference),
                    of(|d| d.low),
                    of(|d| d.high),
                    of(|d| d.p),
                    of(|d| d.p_holm),
                ])?;
            }
        }
        Ok(writer.into_inner()?)
    }
}

impl Measured {
    /// A table with its heading; a line for each row.
    fn text(&self, name: &str) -> String {
        let percent = |value: f64| format!("{:.1}", 100.0 * value);
        let signed = |value: f64| format!("{:+.1}", 100.0 * value);
        let head = [
            name,
            "value, %",
            "difference",
            "95 % interval",
            "p",
            "p Holm",
            "",
        ];
        let mut table = vec![head.map(String::from)];
        for row in &self.rows {
            let value = [row.value, row.standard_error]
                .map(percent)
                .join(" \u{b1} ");
            let of_difference = match &row.difference {
                None => ["-", "", "", "", "reference"].map(String::from),
                Some(d) => [
                    signed(d.difference),
                    format!("{} to {}", signed(d.low), signed(d.high)),
                    format!("{:.4}", d.p),
                    format!("{:.4}", d.p_holm),
                    match d.is_significant(LEVEL) {
                        true => "differs".into(),
                        false => "not told apart".into(),
                    },
                ],
            };
            let [a, b, c, d, e] = of_difference;
            table.push([plain(&row.row).to_string(), value, a, b, c, d, e]);
        }
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; 7] = std::array::from_fn(|column| width(column).unwrap_or(0));
        let mut text = String::new();
        for (number, row) in table.iter().enumerate() {
            let mut line = format!("{:<width$}", row[0], width = widths[0]);
            for column in 1..row.len() {
                line += &match column == row.len() - 1 {
                    true => format!("  {}", row[column]),
                    false => format!("  {:>width$}", row[column], width = widths[column]),
                };
            }
            text += line.trim_end();
            text.push('\n');
            if number == 0 {
                text += &"-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let names = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let said = |a: &str, b: &str| different("label", &names(a), &names(b));
        assert_eq!(said("a b", "a b"), None);
        assert_eq!(
            said("a b", "a").unwrap(),
            "label \"b\" is missing (1 instead of 2)"
        );
        assert_eq!(
            said("a", "a c").unwrap(),
            "label \"c\" is too much (2 instead of 1)"
        );
        assert_eq!(
            said("a b", "b a").unwrap(),
            "their labels have another order"
        );
    }
}
