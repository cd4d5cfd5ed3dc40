//! GloVe and word2vec text files: one `word v1 v2 .. vd` a line, word2vec with a header `count dim`.
//!
//! The file is read as a stream, one line held at a time; numbers are parsed only where a caller asks.

use super::rows::{Place, Row, Values, fields};
use super::{LabelError, LabelVectors, width_error};
use crate::formats::stand_in;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::files;

/// The longest line read, in bytes: far above any vector in use (4,096 values take about 50 kB), and a
/// bound on memory for a file that holds no line ends.
const LONGEST_LINE: usize = 1 << 20;

/// A header may be wrong by one vector, and by one in so many.
const MISCOUNTED: u64 = 1000;

/// Opens `path` with a buffer large enough that reading a vector file is not bound by system calls. What only stands in for
/// the file is refused.
pub(super) fn open(path: &Path) -> Result<BufReader<File>, LabelError> {
    let file = files::open(path, u64::MAX).map_err(|reason| LabelError::Read {
        path: path.into(),
        reason,
    })?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let start = files::held(&mut reader).map_err(|reason| LabelError::Read {
        path: path.into(),
        reason,
    })?;
    refuse_stand_in(path, start)?;
    Ok(reader)
}

/// Refuses what only stands in for a file, by its first bytes.
pub(super) fn refuse_stand_in(path: &Path, start: &[u8]) -> Result<(), LabelError> {
    match stand_in::told_by(start) {
        Some(what) => Err(LabelError::Form {
            path: path.into(),
            reason: what.into(),
        }),
        None => Ok(()),
    }
}

/// The lines of a UTF-8 text file with their numbers; byte order mark and line ends are removed.
pub(super) struct Lines<'p, R> {
    path: &'p Path,
    reader: R,
    buffer: Vec<u8>,
    line: u64,
    /// Whether the line that was read last has an end.
    is_whole: bool,
    /// Bytes read so far.
    read: u64,
}

/// A line of a text file.
pub(super) struct Line<'l> {
    /// Counted from 1.
    pub(super) number: u64,
    /// Where its text begins in the file.
    pub(super) at: u64,
    pub(super) text: &'l str,
}

impl<'p, R: BufRead> Lines<'p, R> {
    pub(super) fn new(path: &'p Path, reader: R) -> Self {
        Self {
            path,
            reader,
            buffer: Vec::new(),
            line: 0,
            is_whole: true,
            read: 0,
        }
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'_>>, LabelError> {
        self.buffer.clear();
        let mut limited = (&mut self.reader).take(LONGEST_LINE as u64 + 1);
        let length = limited
            .read_until(b'\n', &mut self.buffer)
            .map_err(|reason| LabelError::Read {
                path: self.path.into(),
                reason,
            })?;
        if length == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.is_whole = self.buffer.ends_with(b"\n");
        self.read += length as u64;
        if length > LONGEST_LINE {
            return Err(LabelError::LongLine {
                path: self.path.into(),
                line: self.line,
                limit: LONGEST_LINE,
            });
        }
        let text = std::str::from_utf8(&self.buffer).map_err(|_| LabelError::NotUtf8 {
            path: self.path.into(),
            line: self.line,
        })?;
        let text = match self.line {
            1 => text.strip_prefix('\u{feff}').unwrap_or(text),
            _ => text,
        };
        Ok(Some(Line {
            number: self.line,
            at: self.read - text.len() as u64,
            text: text.trim_end_matches(['\n', '\r']),
        }))
    }
}

/// Shows every line of a vector file to `visit`, in file order, and gives the width of the vectors.
///
/// The width is that of the header, or else of the first line, whose values must all be numbers. A word may
/// hold spaces (some published files have such words) if the width tells where the values begin.
///
/// # Errors
/// Unreadable or empty file, text that is not UTF-8, vectors of mixed width, a number of vectors that is far from the
/// header's, and whatever `visit` returns. Values are checked by [`Row::parse`] only.
pub(super) fn scan_text(
    path: &Path,
    reader: impl BufRead,
    visit: &mut impl FnMut(Row<'_>) -> Result<(), LabelError>,
) -> Result<usize, LabelError> {
    let mut lines = Lines::new(path, reader);
    let mut dim = None;
    let mut promised = None;
    let mut found = 0;
    while let Some(Line {
        number: line,
        at,
        text: whole,
    }) = lines.next_line()?
    {
        let text = whole.trim_matches([' ', '\t']);
        if text.is_empty() {
            continue;
        }
        if found == 0
            && promised.is_none()
            && let Some((count, width)) = header(text)
        {
            (promised, dim) = (Some(count), Some(width));
            continue;
        }
        let width = dim.unwrap_or_else(|| fields(text).count() - 1);
        if width == 0 {
            return Err(LabelError::NoValues {
                path: path.into(),
                line,
            });
        }
        let (key, values) = split(text, width)
            .ok_or_else(|| width_error(path, Place::Line(line), width, fields(text).count() - 1))?;
        let row = Row {
            path,
            place: Place::Line(line),
            key,
            values: Values::Text {
                text: values,
                at: at + (values.as_ptr() as usize - whole.as_ptr() as usize) as u64,
            },
            dim: width,
        };
        if dim.is_none() {
            row.parse()?;
            dim = Some(width);
        }
        visit(row)?;
        found += 1;
    }
    if let Some(promised) = promised {
        let cut = found < promised && !lines.is_whole;
        check_count(path, promised, found, cut)?;
    }
    match dim {
        Some(dim) if found > 0 => Ok(dim),
        _ => Err(LabelError::EmptyVectorFile { path: path.into() }),
    }
}

/// Holds a header's count against the vectors that were found. Published files miscount a few, which is told; a file that
/// breaks off does not end in a line end, or lacks more.
pub(super) fn check_count(
    path: &Path,
    promised: u64,
    found: u64,
    cut: bool,
) -> Result<(), LabelError> {
    let off = promised.abs_diff(found);
    if off == 0 {
        return Ok(());
    }
    if cut || off > 1 + promised / MISCOUNTED {
        return Err(LabelError::Count {
            path: path.into(),
            promised,
            found,
        });
    }
    log::warn!(
        "{}: its header promises {promised} vectors and it holds {found}; all that are there are read",
        path.display()
    );
    Ok(())
}

/// The word2vec header `count dim`: two whole numbers. (A vector of width 1 is told from it by its decimal point.)
fn header(text: &str) -> Option<(u64, usize)> {
    let mut fields = fields(text);
    let header = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (fields.next().is_none() && header.1 > 0).then_some(header)
}

/// Splits a trimmed line into its word and the text of its `dim` values; `None` where it has another width.
fn split(text: &str, dim: usize) -> Option<(&str, &str)> {
    let separators = text
        .bytes()
        .filter(|&byte| byte == b' ' || byte == b'\t')
        .count();
    if separators == dim {
        return text.split_once([' ', '\t']); // the common line, for which no field needs to be looked at
    }
    let fields: Vec<&str> = fields(text).collect();
    let first_value = fields.len().checked_sub(dim).filter(|&first| first > 0)?;
    if fields[1..first_value]
        .iter()
        .any(|field| field.parse::<f32>().is_ok())
    {
        return None; // not a word with spaces, but too many values
    }
    let start = fields[first_value].as_ptr() as usize - text.as_ptr() as usize;
    Some((text[..start].trim_end_matches([' ', '\t']), &text[start..]))
}

/// Writes `vectors` as a GloVe text file: `word v1 v2 ..` a line, the words of a name joined with `_`.
///
/// [`super::resolve()`] reads every value back exactly.
///
/// ```
/// use epsilon_data::labels::{LabelVectors, write_text_vectors};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("words.txt");
/// let vectors = LabelVectors::new(vec!["red flower".into()], 2, vec![0.5, -1.0])?;
/// write_text_vectors(&path, &vectors)?;
/// assert_eq!(std::fs::read_to_string(&path)?, "red_flower 0.5 -1.0\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Two names that become the same word; a file that cannot be written.
pub fn write_text_vectors(path: &Path, vectors: &LabelVectors) -> Result<(), LabelError> {
    let keys = keys(vectors)?;
    files::replace(path, |file| {
        let mut file = BufWriter::new(file);
        for (i, key) in keys.iter().enumerate() {
            file.write_all(key.as_bytes())?;
            for value in vectors.row(i) {
                // `{:?}` is the shortest text that reads back exactly, and never looks like a word2vec header.
                write!(file, " {value:?}")?;
            }
            file.write_all(b"\n")?;
        }
        file.flush()
    })
    .map_err(|reason| LabelError::Write {
        path: path.into(),
        reason,
    })
}

fn keys(vectors: &LabelVectors) -> Result<Vec<String>, LabelError> {
    let mut names: HashMap<String, &String> = HashMap::new();
    let mut keys = Vec::with_capacity(vectors.len());
    for name in vectors.names() {
        let key = name.split_whitespace().collect::<Vec<_>>().join("_");
        if let Some(first) = names.insert(key.clone(), name) {
            return Err(LabelError::SameKey {
                key,
                first: first.clone(),
                second: name.clone(),
            });
        }
        keys.push(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::*;
    use proptest::prelude::*;

    type Parsed = Vec<(String, Vec<f32>)>;

    fn parse(text: impl AsRef<[u8]>) -> Result<(usize, Parsed), LabelError> {
        let mut rows = Vec::new();
        let dim = scan_text(Path::new("v.txt"), text.as_ref(), &mut |row| {
            rows.push((row.key.to_string(), row.parse()?));
            Ok(())
        })?;
        Ok((dim, rows))
    }

    fn rows(rows: &[(&str, &[f32])]) -> Parsed {
        rows.iter()
            .map(|(key, values)| (key.to_string(), values.to_vec()))
            .collect()
    }

    #[test]
    fn glove_and_word2vec_text_are_read() {
        let expected = rows(&[("cat", &[1.0, -0.5]), ("ice_cream", &[2.0, 3e-2])]);
        assert_eq!(
            parse("cat 1 -0.5\nice_cream 2.0 3e-2\n").unwrap(),
            (2, expected.clone())
        );
        assert_eq!(
            parse("2 2\ncat 1 -0.5 \nice_cream 2.0 3e-2 \n").unwrap(),
            (2, expected.clone())
        );
        assert_eq!(
            parse("\u{feff}cat\t1\t-0.5\r\n\r\nice_cream  2.0  3e-2").unwrap(),
            (2, expected)
        );
    }

    #[test]
    fn words_with_spaces_are_told_by_the_width() {
        let text = "cat 1 2\n. . . 3 4\nat x@y.z 5 6\n";
        assert_eq!(
            parse(text).unwrap().1,
            rows(&[
                ("cat", &[1.0, 2.0]),
                (". . .", &[3.0, 4.0]),
                ("at x@y.z", &[5.0, 6.0])
            ])
        );
    }

    #[test]
    fn a_number_can_be_a_word() {
        assert_eq!(
            parse("2 1.0\n3 2.0\n").unwrap(),
            (1, rows(&[("2", &[1.0]), ("3", &[2.0])]))
        );
        assert_eq!(parse("1 1\n7 2\n").unwrap(), (1, rows(&[("7", &[2.0])])));
    }

    #[test]
    fn damage_is_named_with_file_and_line() {
        let message = |text: &[u8]| parse(text).unwrap_err().to_string();
        assert!(message(b"").contains("v.txt: holds no vector"));
        assert!(message(b"0 3\n").contains("v.txt: holds no vector"));
        assert_eq!(
            message(b"a 1 2\nb 1 2 3\n"),
            "v.txt, line 2: a word and 3 values, but the vectors above it (or the header) have 2 values"
        );
        assert!(message(b"a 1 2\nb 1\n").starts_with("v.txt, line 2: a word and 1 value,"));
        assert!(message(b"a 1 2\nb\n").starts_with("v.txt, line 2: a word without values,"));
        assert!(
            message(b"a 1 2\nb 1 x\n")
                .starts_with("v.txt, line 2: \"x\" is not a number (vector of `b`)")
        );
        assert!(
            message(b"a 1 2\nb nan 2\n")
                .starts_with("v.txt, line 2: \"nan\" is not a finite number")
        );
        assert!(message(b"a 1 2\nb 1 -inf\n").contains("\"-inf\" is not a finite"));
        assert!(message(b"a 1 2\nb 1 1e60\n").contains("\"1e60\" is not a finite"));
        assert!(message(b"a 1 2\nb 1  \xff\n").starts_with("v.txt, line 2: not UTF-8"));
        assert!(message(b"3 2\na 1 2\n").contains("promises 3 vectors but it holds 1"));
        assert!(
            message(b"Hello, this is prose.\n")
                .starts_with("v.txt, line 1: \"this\" is not a number")
        );
        assert!(message(b"word\n").starts_with("v.txt, line 1: a word without values"));
        assert!(message(&vec![b'a'; LONGEST_LINE + 1]).contains("line 1: longer than"));
    }

    #[test]
    fn values_of_words_nobody_asks_for_are_not_parsed() {
        let mut keys = Vec::new();
        scan_text(Path::new("v.txt"), &b"a 1 2\nb nan x\n"[..], &mut |row| {
            keys.push(row.key.to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(keys, ["a", "b"]);
    }

    #[test]
    fn names_that_become_one_word_are_refused() {
        let vectors =
            LabelVectors::new(vec!["a b".into(), "a_b".into()], 1, vec![1.0, 2.0]).unwrap();
        let error = write_text_vectors(Path::new("unused"), &vectors).unwrap_err();
        assert!(matches!(error, LabelError::SameKey { .. }), "{error}");
    }

    #[test]
    fn an_unwritable_file_is_named() {
        let vectors = LabelVectors::new(vec!["a".into()], 1, vec![1.0]).unwrap();
        let error = write_text_vectors(Path::new("no/such/folder/v.txt"), &vectors).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no/such/folder/v.txt: cannot be written"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn near_vector_text_never_panics(text in "([a-c .\t-]{0,4}( (-?[0-9.]{1,4}|nan|inf|é)){0,4}\r?\n){0,8}") {
            if let Ok((dim, rows)) = parse(&text) {
                prop_assert!(rows.iter().all(|(_, values)| values.len() == dim));
            }
        }

        #[test]
        fn written_vectors_read_back_exactly(
            names in proptest::collection::hash_set("[a-zA-Z0-9#.é]{1,4}( [a-z0-9]{1,4}){0,2}", 1..8),
            dim in 1_usize..5,
            seeds in proptest::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite() && *v != 0.0), 40),
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let values = seeds[..names.len() * dim].to_vec();
            let vectors = LabelVectors::new(names.clone(), dim, values).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            write_text_vectors(file.path(), &vectors).unwrap();
            prop_assert_eq!(resolve(file.path(), &names).unwrap().vectors, vectors);
        }
    }
}
