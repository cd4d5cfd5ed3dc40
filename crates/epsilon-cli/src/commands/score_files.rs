//! Scores of any program with their ground truth, and which labels were seen, as `eval` and `compare` read them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use epsilon::dataset::{Split, table};
use epsilon::labels::read_list;
use epsilon_data::files;
use epsilon_metrics::files::{Joined, LabelTable, ScoreTable, Zero};
use epsilon_metrics::{Normalisation, Table};

/// Maximum number of names in a message.
const FEW: usize = 3;

/// What belongs to files of scores.
#[derive(Clone, Copy)]
pub(super) struct ScoreFiles<'a> {
    /// Ground truth: a matrix, or a data set's table, whose test images are evaluated.
    pub labels: &'a Path,
    /// Lists of the seen and the unseen labels.
    pub seen: Option<&'a Path>,
    pub unseen: Option<&'a Path>,
    /// `negative` or `unknown`.
    pub zero: Option<&'a str>,
    /// What will be done to the scores.
    pub normalisation: Normalisation,
}

impl ScoreFiles<'_> {
    /// A file of scores with its ground truth, the seen labels first, and their number.
    pub(super) fn read(&self, scores: &Path) -> anyhow::Result<(Joined, usize)> {
        let scores = ScoreTable::read_for(scores, self.normalisation)?;
        let zero = self.zero.map(|zero| match zero {
            "negative" => Zero::Negative,
            _ => Zero::Unknown,
        });
        let mut joined = match is_photo_table(self.labels)? {
            true => join_data_set(self, scores, zero)?,
            false => Joined::new(scores, &LabelTable::read(self.labels)?, zero)?,
        };
        let seen = split(self, &mut joined)?;
        let seen = seen.unwrap_or_else(|| joined.labels());
        Ok((joined, seen))
    }
}

/// Says how images and labels of scores and ground truth were matched.
pub(super) fn matched(joined: &Joined) -> String {
    let by = |by_name| if by_name { "name" } else { "place" };
    let all = joined.all_labels();
    format!(
        "{} images matched by {}, {all} labels matched by {}{}",
        joined.images(),
        by(joined.images_by_name()),
        by(joined.labels_by_name()),
        match all - joined.labels() {
            0 => String::new(),
            out => format!(", {out} in neither list left out"),
        }
    )
}

/// Whether a file of labels is a list of photographs (path, split, labels) and no matrix of images and labels.
fn is_photo_table(labels: &Path) -> anyhow::Result<bool> {
    let extension = labels.extension().unwrap_or_default().to_ascii_lowercase();
    match extension.to_str() {
        Some("tsv" | "jsonl" | "ndjson") => return Ok(true),
        Some("csv") => {}
        _ => return Ok(false),
    }
    let file = files::open(labels, u64::MAX).with_context(|| labels.display().to_string())?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(file);
    let (mut records, mut splits) = (0, 0);
    // A label may be called `train`, but the line below it then holds a number there.
    for (place, record) in reader.byte_records().take(2).enumerate() {
        let record = record.with_context(|| labels.display().to_string())?;
        let cells: Vec<&[u8]> = record.iter().map(<[u8]>::trim_ascii).collect();
        let named = |name: &[u8]| cells.iter().any(|cell| cell.eq_ignore_ascii_case(name));
        if place == 0
            && ["path", "split", "labels"]
                .iter()
                .all(|name| named(name.as_bytes()))
        {
            return Ok(true);
        }
        records += 1;
        splits += usize::from(matches!(cells.get(1), Some(&(b"train" | b"test"))));
    }
    Ok(splits > 0 && splits == records)
}

/// Joins scores with the test images of a data set's table, in which 0 is unknown where nothing else is said.
fn join_data_set(
    of: &ScoreFiles<'_>,
    scores: ScoreTable,
    zero: Option<Zero>,
) -> anyhow::Result<Joined> {
    let path = of.labels;
    let Some(seen) = of.seen else {
        bail!("{}: a data set's table needs --seen", path.display());
    };
    let (dataset, _) = table::read(&table::TableOptions {
        outside: true,
        table: path.into(),
        images: PathBuf::new(),
        seen: seen.into(),
        unseen: of.unseen.map(PathBuf::from),
    })?;
    let rows = dataset.rows(Split::Test);
    let ids = rows.iter().map(|&row| dataset.records[row].id.clone());
    let labels =
        LabelTable::from_rows(path, ids.collect(), dataset.names.clone(), |image, out| {
            dataset.labels.dense_row(rows[image], out);
        })?;
    let zero = zero.unwrap_or(Zero::Unknown);
    Ok(Joined::new(scores, &labels, Some(zero))?)
}

/// Moves the seen labels to the front and returns their number; `None` if no list was given.
fn split(of: &ScoreFiles<'_>, joined: &mut Joined) -> anyhow::Result<Option<usize>> {
    if of.seen.is_none() && of.unseen.is_none() {
        return Ok(None);
    }
    let Some(names) = joined.label_names().map(<[String]>::to_vec) else {
        bail!(
            "--seen and --unseen need the labels' names: put them beside the scores, one a line, in NAME.labels.txt"
        );
    };
    let columns = |list: Option<&Path>| -> anyhow::Result<Option<Vec<bool>>> {
        let Some(path) = list else { return Ok(None) };
        let listed = read_list(path)?;
        let strange = listed.iter().filter(|name| !names.contains(name));
        let strange: Vec<String> = strange.map(|name| format!("{name:?}")).collect();
        if !strange.is_empty() {
            bail!(
                "{}: {} names are no labels of the scores: {}{}",
                path.display(),
                strange.len(),
                strange[..strange.len().min(FEW)].join(", "),
                if strange.len() > FEW { ", ..." } else { "" }
            );
        }
        Ok(Some(
            names.iter().map(|name| listed.contains(name)).collect(),
        ))
    };
    let (seen, unseen) = (columns(of.seen)?, columns(of.unseen)?);
    let rest = |of: &[bool]| of.iter().map(|is| !is).collect::<Vec<bool>>();
    let (seen, unseen) = match (seen, unseen) {
        (Some(seen), Some(unseen)) => (seen, unseen),
        (Some(seen), None) => (seen.clone(), rest(&seen)),
        (None, Some(unseen)) => (rest(&unseen), unseen),
        (None, None) => return Ok(None),
    };
    if let Some(both) = (0..names.len()).find(|&column| seen[column] && unseen[column]) {
        bail!("{:?} is both seen and unseen", names[both]);
    }
    let places = |side: &[bool]| {
        (0..names.len())
            .filter(|&c| side[c])
            .collect::<Vec<usize>>()
    };
    let (mut chosen, unseen) = (places(&seen), places(&unseen));
    let count = chosen.len();
    chosen.extend(unseen);
    joined.choose(chosen);
    Ok(Some(count))
}
