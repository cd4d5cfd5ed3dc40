//! Writes scores with their names as `.npy`, `.safetensors` or `.csv`, and the metrics of each label as CSV.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::error::FileError;
use super::format::Format;
use super::spreadsheet::text_cell;
use super::{csv, names, npy};
use crate::evaluation::Evaluation;
use crate::top_k::TopK;

/// Writes scores, row-major `[images, labels]`, and their names as the file that the extension of `path` names. The names
/// of a CSV file are in the file itself; those of a `.npy` or `.safetensors` file are written to `NAME.images.txt` and
/// `NAME.labels.txt` in the same folder. Every file is written under a temporary name and renamed.
///
/// # Errors
/// [`FileError::Extension`]; [`FileError::Format`] for a name with a line break or with white space at its ends;
/// [`FileError::Write`].
///
/// # Panics
/// If the length of `scores` is not images times labels.
///
/// ```rust
/// use epsilon_metrics::files::write_scores;
///
/// let folder = tempfile::tempdir()?;
/// let (images, labels) = (["a.jpg"].map(String::from), ["cat", "dog"].map(String::from));
/// let path = folder.path().join("scores.csv");
/// write_scores(&path, &[0.25, 0.5], &images, &labels)?;
/// assert_eq!(std::fs::read_to_string(&path)?, "image,cat,dog\na.jpg,0.25,0.5\n");
///
/// write_scores(&folder.path().join("scores.npy"), &[0.25, 0.5], &images, &labels)?;
/// assert_eq!(std::fs::read_to_string(folder.path().join("scores.labels.txt"))?, "cat\ndog\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_scores(
    path: &Path,
    scores: &[f32],
    images: &[String],
    labels: &[String],
) -> Result<(), FileError> {
    assert_eq!(scores.len(), images.len() * labels.len(), "one score each");
    let format = Format::of(path)?;
    for (what, names) in [("image", images), ("label", labels)] {
        if let Some(name) = names
            .iter()
            .find(|n| n.contains(['\n', '\r']) || n.trim() != **n)
        {
            return Err(FileError::Format {
                path: path.into(),
                problem: format!("the {what} name {name:?} cannot stand on a line"),
            });
        }
        if format != Format::Csv {
            replace(&names::file(path, what), |file| {
                names.iter().try_for_each(|name| writeln!(file, "{name}"))
            })?;
        }
    }
    replace(path, |file| match format {
        Format::Npy => {
            file.write_all(&npy::header("<f4", images.len(), labels.len()))?;
            scores
                .iter()
                .try_for_each(|score| file.write_all(&score.to_le_bytes()))
        }
        Format::Safetensors => safetensors(file, scores, images.len(), labels.len()),
        Format::Csv => csv::write(file, scores, images, labels),
    })
}

/// Writes the metrics of each label as CSV: one line per label of every `(part, evaluation)`. `label` gives the name of a
/// column, guarded by [`text_cell`]. AP, precision, recall and F1 are fractions; the AP of a skipped label and the metrics at a K that an evaluation
/// does not have are empty. The file is written under a temporary name and renamed.
///
/// # Errors
/// [`FileError::Write`].
///
/// ```rust
/// use epsilon_metrics::files::write_per_label;
/// use epsilon_metrics::{Labels, Protocol, Scores, evaluate};
///
/// // The positive of the only label ranks second of two images.
/// let scores = Scores::new(&[0.9, 0.8], 2, 1)?;
/// let labels = Labels::new(&[-1, 1], 2, 1)?;
/// let evaluation = evaluate(scores, labels, &[0], &Protocol::lesa_nus(), &[1])?;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("labels.csv");
/// write_per_label(&path, &[("ZSL", &evaluation)], |_| "cat".to_string())?;
/// let text = std::fs::read_to_string(&path)?;
/// assert_eq!(
///     text.lines().collect::<Vec<_>>(),
///     [
///         "protocol,part,label,positives,annotated,AP,P@1,R@1,F1@1",
///         "lesa-nus,ZSL,cat,1,2,0.5,0.5,1,0.6666666666666666",
///     ]
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_per_label(
    path: &Path,
    evaluations: &[(&str, &Evaluation)],
    label: impl Fn(usize) -> String,
) -> Result<(), FileError> {
    replace(path, |file| {
        let mut writer = ::csv::Writer::from_writer(file);
        let mut ks: Vec<usize> = evaluations
            .iter()
            .flat_map(|(_, e)| e.top_k.iter().map(|t| t.k))
            .collect();
        ks.sort_unstable();
        ks.dedup();
        let fixed = ["protocol", "part", "label", "positives", "annotated", "AP"];
        let mut head: Vec<String> = fixed.map(String::from).to_vec();
        for k in &ks {
            head.extend(["P", "R", "F1"].map(|figure| format!("{figure}@{k}")));
        }
        writer.write_record(head)?;
        for (part, evaluation) in evaluations {
            for figures in &evaluation.per_label {
                let ap = figures.average_precision;
                writer.write_field(&evaluation.protocol)?;
                writer.write_field(part)?;
                writer.write_field(&*text_cell(&label(figures.column)))?;
                writer.write_field(figures.positives.to_string())?;
                writer.write_field(figures.annotated.to_string())?;
                writer.write_field(ap.map_or_else(String::new, |ap| ap.to_string()))?;
                for k in &ks {
                    let at = figures.top_k.iter().find(|t| t.k == *k);
                    let figures = at.map(|t: &TopK| [t.precision, t.recall, t.f1]);
                    for place in 0..3 {
                        let cell = figures.map_or_else(String::new, |f| f[place].to_string());
                        writer.write_field(cell)?;
                    }
                }
                writer.write_record(None::<&[u8]>)?;
            }
        }
        writer.flush()
    })
}

fn safetensors(
    file: &mut impl Write,
    scores: &[f32],
    images: usize,
    labels: usize,
) -> io::Result<()> {
    let bytes: Vec<u8> = scores
        .iter()
        .flat_map(|score| score.to_le_bytes())
        .collect();
    let view =
        TensorView::new(Dtype::F32, vec![images, labels], &bytes).map_err(io::Error::other)?;
    let whole = safetensors::serialize([("scores", view)], None).map_err(io::Error::other)?;
    file.write_all(&whole)
}

/// Writes a file under a temporary name and renames it; on failure an existing file stays as it was. What is there and is no
/// file, such as `/dev/stdout`, is not replaced.
fn replace(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), FileError> {
    let write = || {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new("."));
        let is_special = path.metadata().is_ok_and(|there| !there.is_file());
        // Where output goes into a file, `/dev/stdout` is a link to a regular one.
        let among_devices = parent.canonicalize().is_ok_and(|p| p == Path::new("/dev"));
        if is_special || among_devices {
            let problem = "what is there is no regular file, and is not replaced";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".epsilon-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What any new file has, less what the user masks.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let beside = builder.tempfile_in(parent)?;
        let mut file = BufWriter::new(beside.as_file());
        fill(&mut file)?;
        file.flush()?;
        drop(file);
        beside.as_file().sync_all()?;
        beside.persist(path)?;
        Ok(())
    };
    write().map_err(|reason| FileError::Write {
        path: path.into(),
        reason,
    })
}
