//! What is written for other tools: scores as `.npy`, `.safetensors` or `.csv` with their names, figures of each label.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::error::FileError;
use super::format::Format;
use super::{csv, names, npy};
use crate::evaluation::Evaluation;
use crate::top_k::TopK;

/// Writes scores, row-major `[images, labels]`, and their names: into the table itself if it is a `.csv`, otherwise into
/// `NAME.images.txt` and `NAME.labels.txt` beside it. Every file is written beside its place and renamed.
///
/// # Errors
/// An unknown extension; a name with a line break, which a list cannot hold; files that cannot be written.
///
/// # Panics
/// If `scores` has another length than images times labels.
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

/// Writes the figures of each label as CSV, one label a line: of every evaluation, which stands beside the name of its
/// part. `label` names a column. What a protocol skips stays empty.
///
/// # Errors
/// A file that cannot be written.
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
                writer.write_field(label(figures.column))?;
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

/// Writes a file beside its place and renames it; on failure what was there stays.
fn replace(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let beside: PathBuf = path.with_file_name(name);
    let written = File::create(&beside).and_then(|file| {
        let mut file = BufWriter::new(file);
        fill(&mut file)?;
        file.into_inner()?.sync_all()
    });
    written
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|reason| {
            // The first error is the one to tell.
            let _ = std::fs::remove_file(&beside);
            FileError::Write {
                path: path.into(),
                reason,
            }
        })
}
