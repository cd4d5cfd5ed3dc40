//! Text files line by line: byte order mark and line ends removed, lines counted, memory bounded by one line.

use super::{DatasetError, LineError};
use crate::files;
use crate::formats::stand_in;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The longest line read, in bytes: far above a row of a thousand tags, and a bound on memory for a file without line
/// ends.
pub(super) const LONGEST: usize = 1 << 24;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Opens a file with a buffer large enough that reading is not bound by system calls. What only stands in for the file is
/// refused.
pub(super) fn open(path: &Path) -> Result<BufReader<File>, DatasetError> {
    let failed = |reason| read_error(path, reason);
    let file = files::open(path, u64::MAX).map_err(failed)?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    match stand_in::told_by(files::held(&mut reader).map_err(failed)?) {
        Some(what) => Err(DatasetError::Form {
            path: path.into(),
            reason: what.into(),
        }),
        None => Ok(reader),
    }
}

/// [`open`] for a text file that is not read line by line: a byte order mark is passed over.
pub(super) fn open_text(path: &Path) -> Result<BufReader<File>, DatasetError> {
    let mut reader = open(path)?;
    let start = files::held(&mut reader).map_err(|reason| read_error(path, reason))?;
    if start.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    Ok(reader)
}

pub(super) fn read_error(path: &Path, reason: std::io::Error) -> DatasetError {
    DatasetError::Read {
        path: path.into(),
        reason,
    }
}

pub(super) fn line_error(path: &Path, line: u64, problem: LineError) -> DatasetError {
    DatasetError::Line {
        path: path.into(),
        line,
        problem,
    }
}

/// Whether a path leads nowhere but below the folder that it starts from, on any system.
pub(super) fn is_inside(path: &str) -> bool {
    let drive = path.as_bytes().get(1) == Some(&b':');
    let mut depth = 0_usize;
    let parts = path.split(['/', '\\']);
    let stays = parts.into_iter().all(|part| match part {
        "" | "." => true,
        ".." => match depth.checked_sub(1) {
            Some(above) => {
                depth = above;
                true
            }
            None => false,
        },
        _ => {
            depth += 1;
            true
        }
    });
    stays && !drive && !path.starts_with(['/', '\\'])
}

/// Hands over every line, blank ones too, as bytes with its number, counted from 1. (A line end at the end of the file
/// starts no further line.)
pub(super) fn for_each_raw(
    path: &Path,
    mut reader: impl BufRead,
    mut sink: impl FnMut(u64, &[u8]) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let mut buffer = Vec::new();
    for line in 1.. {
        buffer.clear();
        let length = (&mut reader)
            .take(LONGEST as u64 + 1)
            .read_until(b'\n', &mut buffer)
            .map_err(|reason| read_error(path, reason))?;
        if length == 0 {
            break;
        }
        if length > LONGEST {
            return Err(line_error(path, line, LineError::Long(LONGEST)));
        }
        let mut text = buffer.as_slice();
        if line == 1 {
            text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        }
        while let [rest @ .., b'\n' | b'\r'] = text {
            text = rest;
        }
        sink(line, text)?;
    }
    Ok(())
}

/// Hands over every line that is not blank as text.
pub(super) fn for_each(
    path: &Path,
    reader: impl BufRead,
    mut sink: impl FnMut(u64, &str) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    for_each_raw(path, reader, |line, bytes| {
        let text =
            std::str::from_utf8(bytes).map_err(|_| line_error(path, line, LineError::NotUtf8))?;
        if text.trim().is_empty() {
            return Ok(());
        }
        sink(line, text)
    })
}

/// The lines of a small list that are not blank, trimmed, with their numbers.
pub(super) fn list(path: &Path) -> Result<Vec<(u64, String)>, DatasetError> {
    let mut lines = Vec::new();
    for_each(path, open(path)?, |line, text| {
        lines.push((line, text.trim().to_string()));
        Ok(())
    })?;
    Ok(lines)
}

/// [`list`] of names: none twice, at least one.
pub(super) fn names(path: &Path) -> Result<Vec<String>, DatasetError> {
    let mut first = std::collections::HashMap::new();
    let mut names = Vec::new();
    for (line, name) in list(path)? {
        if let Some(first) = first.insert(name.clone(), line) {
            return Err(line_error(path, line, LineError::Twice { name, first }));
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(DatasetError::Empty { path: path.into() });
    }
    Ok(names)
}

/// The cells of one line of a CSV file in which no cell runs over several lines.
pub(super) fn csv_cells(text: &str) -> Result<Vec<String>, LineError> {
    if !text.contains('"') {
        return Ok(text.split(',').map(str::to_string).collect());
    }
    // A quote that is not closed would take in the line's end, which is the only line end here: one byte alone (CR) is of a cell.
    let mut quotes = csv::ReaderBuilder::new()
        .terminator(csv::Terminator::Any(b'\n'))
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let closed = text.bytes().filter(|&byte| byte == b'"').count() % 2 == 0;
    match quotes.read_record(&mut record) {
        Ok(true) if closed => Ok(record.iter().map(str::to_string).collect()),
        _ => Err(LineError::Quotes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        for_each_raw(Path::new("l"), bytes, |line, text| {
            found.push((line, String::from_utf8(text.to_vec()).unwrap()));
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn cells_of_a_line_with_quotes_are_all_of_it() {
        let cells = csv_cells("\"a, b\",c\rd,\"e\"\"f\"").unwrap();
        assert_eq!(cells, ["a, b", "c\rd", "e\"f"]);
        assert!(matches!(csv_cells("\"a,b"), Err(LineError::Quotes)));
    }

    #[test]
    fn marks_and_line_ends_are_removed_and_blank_lines_counted() {
        let found = lines(b"\xef\xbb\xbfa\r\n\r\nb\n\xef\xbb\xbfc");
        let expected = ["a", "", "b", "\u{feff}c"];
        assert_eq!(
            found,
            (1..)
                .zip(expected.map(String::from))
                .collect::<Vec<(u64, String)>>()
        );
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a14_paths_that_lead_out() {
        for inside in [
            "a.jpg",
            "a/b.jpg",
            "./a.jpg",
            "a/../b.jpg",
            "a..b.jpg",
            "..a/b.jpg",
            "a//b.jpg",
        ] {
            assert!(is_inside(inside), "{inside}");
        }
        for outside in [
            "../a.jpg",
            "a/../../b.jpg",
            "/etc/passwd",
            "..\\a.jpg",
            "\\\\server\\a",
            "C:\\a.jpg",
            "..",
        ] {
            assert!(!is_inside(outside), "{outside}");
        }
    }

    #[test]
    fn a_file_without_line_ends_is_refused_before_it_fills_memory() {
        let endless = std::io::repeat(b'x').take(LONGEST as u64 * 2);
        let error = for_each_raw(Path::new("l"), BufReader::new(endless), |_, _| Ok(()));
        assert!(error.unwrap_err().to_string().contains("l, line 1: longer"));
    }

    #[test]
    fn cells_of_a_line() {
        assert_eq!(csv_cells("a,,b").unwrap(), ["a", "", "b"]);
        assert_eq!(
            csv_cells(r#"/m/1,"Pigs, in ""blankets""",x"#).unwrap(),
            ["/m/1", r#"Pigs, in "blankets""#, "x"]
        );
        assert!(matches!(csv_cells(r#"a,"b"#), Err(LineError::Quotes)));
    }
}
