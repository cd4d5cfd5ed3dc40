//! Tables as CSV: the first line holds the names of the labels, the first column those of the images. Read line by line,
//! so that every message names its line; a quoted cell must not contain a line break.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::error::FileError;
use super::names;

/// A table with its names; the values are row-major.
pub(super) struct Table<T> {
    pub(super) images: Vec<String>,
    pub(super) labels: Vec<String>,
    pub(super) values: Vec<T>,
}

/// Parses a finite number.
pub(super) fn score(cell: &str) -> Result<f64, String> {
    let wrong = || format!("{cell:?} is no finite number");
    let value: f64 = cell.parse().map_err(|_| wrong())?;
    value.is_finite().then_some(value).ok_or_else(wrong)
}

/// Parses a label: +1, -1 or 0.
pub(super) fn label(cell: &str) -> Result<i8, String> {
    match cell.parse() {
        Ok(1.0) => Ok(1),
        Ok(-1.0) => Ok(-1),
        Ok(0.0) => Ok(0),
        _ => Err(format!(
            "{cell:?} is no label: use 1 (positive), -1 (negative) or 0 (unknown)"
        )),
    }
}

pub(super) fn read<T>(
    path: &Path,
    value: impl Fn(&str) -> Result<T, String>,
) -> Result<Table<T>, FileError> {
    let mut lines = Lines::open(path)?;
    let headless = || FileError::Format {
        path: path.into(),
        problem:
            "the first line must name the images' column and then the labels, separated by commas"
                .into(),
    };
    let labels = match lines.next()? {
        Some((_, cells)) if cells.len() > 1 => cells[1..].to_vec(),
        _ => return Err(headless()),
    };
    let (mut images, mut values) = (Vec::new(), Vec::new());
    while let Some((line, cells)) = lines.next()? {
        let wrong = |problem| line_error(path, line, problem);
        let expected = labels.len() + 1;
        if cells.len() != expected {
            let problem = format!("{} cells, but the first line has {expected}", cells.len());
            return Err(wrong(problem));
        }
        for (cell, label) in cells[1..].iter().zip(&labels) {
            let value = value(cell).map_err(|problem| wrong(format!("{label}: {problem}")))?;
            values.push(value);
        }
        images.extend(cells.into_iter().next());
    }
    names::check(path, "image", &images)?;
    names::check(path, "label", &labels)?;
    Ok(Table {
        images,
        labels,
        values,
    })
}

fn line_error(path: &Path, line: u64, problem: String) -> FileError {
    FileError::Line {
        path: path.into(),
        line,
        problem,
    }
}

/// The cells of every line that is not blank, with the line number, counted from 1.
struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    line: u64,
    bytes: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self, FileError> {
        let read = |reason| FileError::Read {
            path: path.into(),
            reason,
        };
        Ok(Self {
            path,
            reader: BufReader::new(super::open(path).map_err(read)?),
            line: 0,
            bytes: Vec::new(),
        })
    }

    fn next(&mut self) -> Result<Option<(u64, Vec<String>)>, FileError> {
        loop {
            self.bytes.clear();
            let length = self.reader.read_until(b'\n', &mut self.bytes);
            let read = |reason| FileError::Read {
                path: self.path.into(),
                reason,
            };
            if length.map_err(read)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let wrong = |problem: String| line_error(self.path, self.line, problem);
            let text = str::from_utf8(&self.bytes).map_err(|_| wrong("is not UTF-8".into()))?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            if !text.trim().is_empty() {
                let cells = cells(text.trim_end_matches(['\n', '\r'])).map_err(wrong)?;
                return Ok(Some((self.line, cells)));
            }
        }
    }
}

fn cells(line: &str) -> Result<Vec<String>, String> {
    if !line.contains('"') {
        return Ok(line.split(',').map(|cell| cell.trim().into()).collect());
    }
    if line.matches('"').count() % 2 == 1 {
        return Err("a quote is not closed on its line".into());
    }
    let mut reader = ::csv::ReaderBuilder::new()
        .terminator(::csv::Terminator::Any(b'\n'))
        .has_headers(false)
        .trim(::csv::Trim::All)
        .from_reader(line.as_bytes());
    let mut record = ::csv::StringRecord::new();
    reader
        .read_record(&mut record)
        .map_err(|error| error.to_string())?;
    Ok(record.iter().map(Into::into).collect())
}

/// Writes a table with its names.
pub(super) fn write(
    file: &mut impl io::Write,
    scores: &[f32],
    images: &[String],
    labels: &[String],
) -> io::Result<()> {
    let mut writer = ::csv::Writer::from_writer(file);
    writer.write_record(std::iter::once("image").chain(labels.iter().map(String::as_str)))?;
    for (image, scores) in images.iter().zip(scores.chunks(labels.len().max(1))) {
        writer.write_field(image)?;
        // The shortest decimal that parses to the same number.
        scores
            .iter()
            .try_for_each(|score| writer.write_field(score.to_string()))?;
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_line_with_quotes_are_all_of_it() {
        assert_eq!(
            cells("\"a, b\", c\rd ,\"e\"\"f\"").unwrap(),
            ["a, b", "c\rd", "e\"f"]
        );
        assert!(cells("\"a,b").is_err());
    }
}
