//! Files of word vectors: what kind a file is, told by how it begins, and its vectors one after the other, values not
//! yet read.
//!
//! Text (GloVe, word2vec, fastText's `.vec`) and binary word2vec files hold words and are read as a stream. NumPy arrays
//! and safetensors hold numbers alone; the words stand in a list of one a line, and only the rows of words that somebody
//! asks for are read; but for safetensors that hold the list as well, see [`super::WordTable`]. Pickles of label vectors: see
//! [`crate::formats::pickle`].

use super::LabelError;
use super::rows::{Place, Row, Values, read_error};
use super::text_vectors::{Lines, check_count, open, scan_text};
use super::word_table::{VECTORS, WORDS};
use crate::files;
use crate::formats::npy;
use crate::formats::numbers::Number;
use crate::formats::pickle::{self, Pickle, Vectors};
use crate::formats::stand_in;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes looked at to tell the kind of a file.
const START: usize = 1 << 16;
/// The longest header of a safetensors file read.
const LONGEST_HEADER: u64 = 100 << 20;
/// The widest vectors of a pickle, in which many words may share one.
const WIDEST: usize = 1 << 16;
/// The longest word of a binary file, in bytes.
const LONGEST_WORD: u64 = 1 << 16;

/// A file of word vectors. It must not be changed while it is read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VectorFile {
    /// The file.
    pub path: PathBuf,
    /// Lists of words, one a line: needed where the file holds numbers alone, one list for each array.
    pub names: Vec<PathBuf>,
}

impl From<&Path> for VectorFile {
    fn from(path: &Path) -> Self {
        Self {
            path: path.into(),
            names: Vec::new(),
        }
    }
}

/// The kinds of vector files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Word2Vec,
    Npy,
    Safetensors,
    Pickle,
}

impl VectorFile {
    /// Shows every word of the file to `visit`, in file order, and gives the width of the vectors.
    ///
    /// # Errors
    /// An unreadable, empty or damaged file, one of another kind, lists of words that do not fit, vectors of mixed width,
    /// and whatever `visit` returns. Values are checked by [`Row::parse`] only.
    pub(super) fn scan(
        &self,
        mut visit: impl FnMut(Row<'_>) -> Result<(), LabelError>,
    ) -> Result<usize, LabelError> {
        let kind = self.kind()?;
        let needs_names = match kind {
            Kind::Safetensors if self.names.is_empty() => {
                let header = Header::read(&self.path)?;
                if let Some(words) = header.words()? {
                    return self.scan_words(&words, &header.matrix(VECTORS)?, &mut visit);
                }
                true
            }
            Kind::Npy | Kind::Safetensors => true,
            Kind::Text | Kind::Word2Vec => false,
            Kind::Pickle => return self.scan_pickle(&mut visit),
        };
        if needs_names != (self.names.len() == 1) {
            return Err(self.wrong_lists(usize::from(needs_names)));
        }
        match kind {
            Kind::Word2Vec => scan_word2vec(&self.path, open(&self.path)?, &mut visit),
            Kind::Npy => self.scan_matrix(&npy(&self.path)?, &mut visit),
            Kind::Safetensors => {
                let header = Header::read(&self.path)?;
                let only = header.only_matrix()?;
                self.scan_matrix(&header.matrix(&only)?, &mut visit)
            }
            _ => scan_text(&self.path, open(&self.path)?, &mut visit),
        }
    }

    fn wrong_lists(&self, wanted: usize) -> LabelError {
        LabelError::Lists {
            path: self.path.clone(),
            wanted,
            found: self.names.len(),
        }
    }

    fn form(&self, reason: impl Into<String>) -> LabelError {
        form(&self.path, reason)
    }

    /// The kind of the file, by its first bytes.
    fn kind(&self) -> Result<Kind, LabelError> {
        let failed = |reason| read_error(&self.path, reason);
        let file = files::open(&self.path, u64::MAX).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut start = Vec::new();
        file.take(START as u64)
            .read_to_end(&mut start)
            .map_err(failed)?;
        if let Some(what) = stand_in::told_by(&start) {
            return Err(self.form(what));
        }
        let refused = [
            (&b"\x1f\x8b"[..], "is compressed with gzip; unpack it first"),
            (
                b"PK\x03\x04",
                "is a zip archive; unpack it first (of an .npz file, the array with the vectors)",
            ),
            (
                b"\xba\x16\x4f\x2f",
                "is a fastText model; use the .vec file beside it",
            ),
        ];
        if let Some((_, reason)) = refused.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Err(self.form(*reason));
        }
        Ok(if start.starts_with(b"\x93NUMPY") {
            Kind::Npy
        } else if pickle::is_start(&start) {
            Kind::Pickle
        } else if is_safetensors(&start, size) {
            Kind::Safetensors
        } else if is_word2vec(&start) {
            Kind::Word2Vec
        } else {
            Kind::Text
        })
    }

    /// Words of a list and the rows of a matrix, side by side.
    fn scan_matrix(
        &self,
        matrix: &Matrix,
        visit: &mut impl FnMut(Row<'_>) -> Result<(), LabelError>,
    ) -> Result<usize, LabelError> {
        self.scan_list(&self.names[0], matrix.rows, |list, line, key| {
            visit(Row {
                path: list,
                place: Place::Line(line),
                key,
                values: matrix.row(line),
                dim: matrix.dim,
            })
        })?;
        Ok(matrix.dim)
    }

    /// Words and the rows of a matrix of one file.
    fn scan_words(
        &self,
        words: &str,
        matrix: &Matrix,
        visit: &mut impl FnMut(Row<'_>) -> Result<(), LabelError>,
    ) -> Result<usize, LabelError> {
        let count = words.split('\n').count();
        if count != matrix.rows {
            let rows = matrix.rows;
            return Err(self.form(format!("{count} words, but {rows} vectors: it is damaged")));
        }
        for (number, key) in (1..).zip(words.split('\n')) {
            visit(Row {
                path: &self.path,
                place: Place::Vector(number),
                key,
                values: matrix.row(number),
                dim: matrix.dim,
            })?;
        }
        Ok(matrix.dim)
    }

    /// Every line of a list, which must have as many as there are vectors.
    fn scan_list(
        &self,
        list: &Path,
        vectors: usize,
        mut visit: impl FnMut(&Path, u64, &str) -> Result<(), LabelError>,
    ) -> Result<(), LabelError> {
        let mut lines = Lines::new(list, open(list)?);
        let mut found = 0;
        while let Some(line) = lines.next_line()? {
            found = line.number;
            if found > vectors as u64 {
                continue;
            }
            visit(list, found, line.text.trim())?;
        }
        match found == vectors as u64 {
            true => Ok(()),
            false => Err(LabelError::ListLength {
                list: list.into(),
                found,
                path: self.path.clone(),
                vectors: vectors as u64,
            }),
        }
    }

    fn scan_pickle(
        &self,
        visit: &mut impl FnMut(Row<'_>) -> Result<(), LabelError>,
    ) -> Result<usize, LabelError> {
        let pickle = Pickle::read(&self.path)?;
        let vectors = pickle.vectors()?;
        let first = match &vectors {
            Vectors::Named(named) => named.first().map(|(_, place)| *place),
            Vectors::Matrices(matrices) => matrices.iter().flatten().next().copied(),
        };
        let first = first.ok_or_else(|| LabelError::EmptyVectorFile {
            path: self.path.clone(),
        })?;
        let dim = pickle.numbers(first)?.len();
        if dim == 0 {
            return Err(self.form("holds vectors without values"));
        }
        if dim > WIDEST {
            return Err(self.form(format!("vectors of width {dim} are not read")));
        }
        match vectors {
            Vectors::Named(named) => {
                if !self.names.is_empty() {
                    return Err(self.wrong_lists(0));
                }
                for (number, (key, at)) in (1..).zip(&named) {
                    visit(Row {
                        path: &self.path,
                        place: Place::Vector(number),
                        key,
                        values: Values::Pickle(&pickle, *at),
                        dim,
                    })?;
                }
            }
            Vectors::Matrices(matrices) => {
                if self.names.len() != matrices.len() {
                    return Err(self.wrong_lists(matrices.len()));
                }
                for (list, rows) in self.names.iter().zip(&matrices) {
                    self.scan_list(list, rows.len(), |list, line, key| {
                        visit(Row {
                            path: list,
                            place: Place::Line(line),
                            key,
                            values: Values::Pickle(&pickle, rows[line as usize - 1]),
                            dim,
                        })
                    })?;
                }
            }
        }
        Ok(dim)
    }
}

fn form(path: &Path, reason: impl Into<String>) -> LabelError {
    LabelError::Form {
        path: path.into(),
        reason: reason.into(),
    }
}

/// A header's length and an opening brace.
fn is_safetensors(start: &[u8], size: u64) -> bool {
    let Some((length, rest)) = start.split_first_chunk::<8>() else {
        return false;
    };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= size.saturating_sub(8)
}

/// A line of two whole numbers, and then what is no text.
fn is_word2vec(start: &[u8]) -> bool {
    let Some(end) = start.iter().take(64).position(|&byte| byte == b'\n') else {
        return false;
    };
    let Some((count, _)) = header(&start[..end]) else {
        return false;
    };
    let rest = &start[end + 1..];
    let is_text = match std::str::from_utf8(rest) {
        Ok(_) => true,
        // The last letter may be cut where we stopped reading.
        Err(error) => error.error_len().is_none() && start.len() == START,
    };
    count > 0 && !(is_text && rest.iter().all(|&byte| byte >= b'\t'))
}

/// The word2vec header `count dim`.
fn header(line: &[u8]) -> Option<(u64, usize)> {
    let text = std::str::from_utf8(line).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let header = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (fields.next().is_none() && header.1 > 0).then_some(header)
}

/// word2vec's binary form: a header, and for every word the word, a space, its values, and perhaps a line end.
fn scan_word2vec(
    path: &Path,
    mut reader: impl BufRead,
    visit: &mut impl FnMut(Row<'_>) -> Result<(), LabelError>,
) -> Result<usize, LabelError> {
    let failed = |reason| read_error(path, reason);
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(64)
        .read_until(b'\n', &mut line)
        .map_err(failed)?;
    let (promised, dim) = header(&line).ok_or_else(|| form(path, "not a word2vec file"))?;
    let length = dim.checked_mul(4).filter(|&length| length <= 1 << 24);
    let length =
        length.ok_or_else(|| form(path, format!("vectors of width {dim} are not read")))?;
    let (mut word, mut bytes) = (Vec::new(), vec![0; length]);
    let mut at = line.len() as u64;
    for number in 1..=promised {
        let short = |found| LabelError::Count {
            path: path.into(),
            promised,
            found,
        };
        word.clear();
        reader
            .by_ref()
            .take(LONGEST_WORD)
            .read_until(b' ', &mut word)
            .map_err(failed)?;
        let text = match word.as_slice() {
            [] if number > 1 => {
                check_count(path, promised, number - 1, false)?;
                return Ok(dim);
            }
            [text @ .., b' '] => text.trim_ascii_start(),
            _ if word.len() as u64 == LONGEST_WORD => {
                let reason = format!(
                    "vector {number}: a word longer than {LONGEST_WORD} bytes; the file is damaged"
                );
                return Err(form(path, reason));
            }
            _ => return Err(short(number - 1)),
        };
        // Published files hold some words that are cut within a letter; nobody can ask for those.
        let key = String::from_utf8_lossy(text);
        match reader.read_exact(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(short(number - 1));
            }
            other => other.map_err(failed)?,
        }
        at += word.len() as u64;
        visit(Row {
            path,
            place: Place::Vector(number),
            key: &key,
            values: Values::Bytes { bytes: &bytes, at },
            dim,
        })?;
        at += length as u64;
    }
    let mut rest = Vec::new();
    reader.take(2).read_to_end(&mut rest).map_err(failed)?;
    if !rest.trim_ascii().is_empty() {
        return Err(form(
            path,
            format!("goes on after the {promised} vectors that its header promises"),
        ));
    }
    match promised {
        0 => Err(LabelError::EmptyVectorFile { path: path.into() }),
        _ => Ok(dim),
    }
}

/// A matrix of numbers in a file, one vector a row.
struct Matrix {
    file: File,
    offset: u64,
    rows: usize,
    dim: usize,
    number: Number,
    /// Whether the file has the first values of all vectors, then the second ones, and so on.
    by_columns: bool,
}

impl Matrix {
    /// Checks the shape against the file's size.
    fn new(
        path: &Path,
        file: File,
        offset: u64,
        shape: &[usize],
        number: Number,
    ) -> Result<Self, LabelError> {
        let &[rows, dim] = shape else {
            return Err(form(
                path,
                format!("an array of shape {shape:?}; vectors are a matrix, one a row"),
            ));
        };
        if rows == 0 || dim == 0 {
            return Err(LabelError::EmptyVectorFile { path: path.into() });
        }
        let size = file
            .metadata()
            .map_err(|reason| read_error(path, reason))?
            .len();
        let needed = (rows as u64)
            .checked_mul(dim as u64)
            .and_then(|count| count.checked_mul(number.bytes() as u64))
            .and_then(|bytes| bytes.checked_add(offset));
        if needed.is_none_or(|needed| needed > size) {
            let reason = format!("too short for {rows} vectors of width {dim}; it is cut off");
            return Err(form(path, reason));
        }
        Ok(Self {
            file,
            offset,
            rows,
            dim,
            number,
            by_columns: false,
        })
    }

    /// The values of a vector, counted from 1. [`Matrix::new`] has checked that all of them lie within the file.
    fn row(&self, number: u64) -> Values<'_> {
        let bytes = self.number.bytes() as u64;
        let (width, step) = match self.by_columns {
            true => (bytes, self.rows as u64 * bytes),
            false => (self.dim as u64 * bytes, bytes),
        };
        Values::File {
            file: &self.file,
            offset: self.offset + (number - 1) * width,
            step,
            number: self.number,
        }
    }
}

/// Opens an `.npy` file: its matrix.
fn npy(path: &Path) -> Result<Matrix, LabelError> {
    let mut file = files::open(path, u64::MAX).map_err(|reason| read_error(path, reason))?;
    let header = npy::read_header(&mut file).map_err(|reason| form(path, reason))?;
    Ok(Matrix {
        by_columns: header.fortran,
        ..Matrix::new(path, file, header.offset, &header.shape, header.number)?
    })
}

/// What a safetensors file says of its tensors.
struct Header<'a> {
    path: &'a Path,
    /// Where the tensors begin.
    start: u64,
    tensors: HashMap<String, TensorInfo>,
}

impl<'a> Header<'a> {
    fn read(path: &'a Path) -> Result<Self, LabelError> {
        let failed = |reason| read_error(path, reason);
        let mut file = files::open(path, u64::MAX).map_err(failed)?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(failed)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER {
            return Err(form(path, "a safetensors file with a damaged header"));
        }
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| form(path, format!("not a safetensors file ({error})")))?;
        let tensors = metadata.tensors().into_iter();
        Ok(Self {
            path,
            start: 8 + length,
            tensors: tensors.map(|(name, info)| (name, info.clone())).collect(),
        })
    }

    /// The words that it holds, one a line, if it holds some.
    fn words(&self) -> Result<Option<String>, LabelError> {
        let Some(info) = self.tensors.get(WORDS) else {
            return Ok(None);
        };
        let failed = |reason| read_error(self.path, reason);
        let (from, to) = info.data_offsets;
        let length = (to - from.min(to)) as u64;
        if info.dtype != Dtype::U8 || length > files::LIST {
            return Err(form(
                self.path,
                format!("the tensor {WORDS} is no list of words"),
            ));
        }
        let mut file = files::open(self.path, u64::MAX).map_err(failed)?;
        let start = self.start.saturating_add(from as u64);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut words = Vec::new();
        file.take(length).read_to_end(&mut words).map_err(failed)?;
        if words.len() as u64 != length {
            return Err(form(self.path, "its words are cut off"));
        }
        let words = String::from_utf8(words);
        let words = words.map_err(|_| form(self.path, "its words are no UTF-8: it is damaged"))?;
        Ok(Some(words))
    }

    /// The name of its only matrix.
    fn only_matrix(&self) -> Result<String, LabelError> {
        let names = self.tensors.iter();
        let mut matrices = names.filter(|(_, info)| info.shape.len() == 2);
        match (matrices.next(), matrices.next()) {
            (Some((name, _)), None) => Ok(name.clone()),
            _ => Err(form(
                self.path,
                "it must hold one matrix of vectors, and no other matrix",
            )),
        }
    }

    fn matrix(&self, name: &str) -> Result<Matrix, LabelError> {
        let Some(info) = self.tensors.get(name) else {
            return Err(form(self.path, format!("the tensor {name} is missing")));
        };
        let number = match info.dtype {
            Dtype::F16 => Number::F16,
            Dtype::BF16 => Number::Bf16,
            Dtype::F32 => Number::F32,
            Dtype::F64 => Number::F64,
            other => {
                return Err(form(
                    self.path,
                    format!("the tensor {name} is {other:?}; F16, BF16, F32 and F64 are read"),
                ));
            }
        };
        let failed = |reason| read_error(self.path, reason);
        let file = files::open(self.path, u64::MAX).map_err(failed)?;
        let offset = self.start.saturating_add(info.data_offsets.0 as u64);
        Matrix::new(self.path, file, offset, &info.shape, number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{VectorIndex, resolve, resolve_words};
    use super::*;
    use proptest::prelude::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/published"
        ))
        .join(name)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// What make.py writes at place i.
    fn value(i: usize) -> f32 {
        (i as f32 * 37.0 % 101.0 - 50.0) / 16.0
    }

    fn row(first: usize) -> Vec<f32> {
        (first..first + 3).map(value).collect()
    }

    /// A folder with a vector file and lists of words.
    struct World {
        dir: tempfile::TempDir,
    }

    impl World {
        fn new(file: impl AsRef<[u8]>, lists: &[&str]) -> (Self, VectorFile) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("vectors");
            std::fs::write(&path, file).unwrap();
            let lists = (0..).zip(lists).map(|(i, text)| {
                let path = dir.path().join(format!("words-{i}.txt"));
                std::fs::write(&path, text).unwrap();
                path
            });
            let names = lists.collect();
            (Self { dir }, VectorFile { path, names })
        }
    }

    fn found(file: impl AsRef<[u8]>, lists: &[&str], wanted: &[&str]) -> Result<Vec<f32>, String> {
        let (world, file) = World::new(file, lists);
        let resolved =
            resolve_words(&file, &names(wanted), &names(wanted)).map_err(|error| error.to_string());
        let index = VectorIndex::read(&file).and_then(|index| index.resolve(&names(wanted)));
        // Of several faults either may be met first.
        assert_eq!(
            index.ok(),
            resolved.as_ref().ok().cloned(),
            "an index finds what reading finds"
        );
        drop(world.dir);
        Ok(resolved?.vectors.values().to_vec())
    }

    fn bytes(name: &str) -> Vec<u8> {
        std::fs::read(fixture(name)).unwrap()
    }

    const WORDS: &str = "cat\r\ndog\r\nice cream\r\n#pig\r\n";

    fn word2vec(words: &[(&str, Vec<f32>)], line_ends: bool) -> Vec<u8> {
        let mut file = format!("{} {}\n", words.len(), words[0].1.len()).into_bytes();
        for (word, vector) in words {
            file.extend(format!("{word} ").bytes());
            file.extend(vector.iter().flat_map(|v| v.to_le_bytes()));
            file.extend(line_ends.then_some(b'\n'));
        }
        file
    }

    fn safetensors(tensors: &[(&str, Vec<usize>)]) -> Vec<u8> {
        let data: Vec<u8> = (0..12).flat_map(|i| value(i).to_le_bytes()).collect();
        let views = tensors.iter().map(|(name, shape)| {
            let length = 4 * shape.iter().product::<usize>();
            let view =
                safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), &data[..length]);
            (*name, view.unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn arrays_with_a_list_of_words() {
        let wanted = ["ice cream", "cat", "#pig"];
        let expected = [row(6), row(0), row(9)].concat();
        assert_eq!(
            found(bytes("tags.npy"), &[WORDS], &wanted).unwrap(),
            expected
        );
        for other in ["half.npy", "fortran.npy"] {
            let found = found(bytes(other), &[WORDS], &wanted).unwrap();
            assert_eq!(found, expected, "{other}");
        }
        let tensor = safetensors(&[("vectors", vec![4, 3]), ("bias", vec![3])]);
        assert_eq!(found(tensor, &[WORDS], &wanted).unwrap(), expected);
    }

    #[test]
    fn arrays_that_do_not_fit() {
        let message = |file: Vec<u8>, lists: &[&str]| found(file, lists, &["cat"]).unwrap_err();
        assert!(message(bytes("tags.npy"), &[]).contains("holds numbers alone; give one list"));
        assert!(message(bytes("tags.npy"), &[WORDS, WORDS]).contains("not 2"));
        let short = message(bytes("tags.npy"), &["cat\ndog\n"]);
        assert!(
            short.contains("words-0.txt: 2 words, but ")
                && short.contains("vectors holds 4 vectors"),
            "{short}"
        );
        assert!(message(bytes("tags.npy"), &[&format!("{WORDS}x\n")]).contains("5 words, but"));
        assert!(
            message(bytes("tags.npy"), &["cat\ndog\ncat\ncow\n"])
                .contains("words-0.txt, line 3: `cat` has a vector on line 1 already")
        );
        let mut cut = bytes("tags.npy");
        cut.pop();
        assert!(message(cut, &[WORDS]).contains("too short for 4 vectors of width 3"));
        let two = safetensors(&[("a", vec![2, 3]), ("b", vec![2, 3])]);
        assert!(message(two, &[WORDS]).contains("must hold one matrix"));
        let header =
            b"\x93NUMPY\x01\x00\x40\x00{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1), }";
        assert!(
            message([&header[..], &[b' '; 8], &[0; 4]].concat(), &["cat"])
                .contains("values of type <i4")
        );
        let header = b"\x93NUMPY\x01\x00\x80\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }";
        assert!(message(header.to_vec(), &["cat"]).contains("cut"));
        assert!(message(b"\x1f\x8b\x08".to_vec(), &[]).contains("compressed with gzip"));
        assert!(message(b"PK\x03\x04".to_vec(), &[]).contains("zip archive"));
        assert!(message(b"\xba\x16\x4f\x2f".to_vec(), &[]).contains("use the .vec file"));
        assert!(message(b"cat 1 2\n".to_vec(), &[WORDS]).contains("holds its own words"));
    }

    #[test]
    fn binary_word2vec() {
        let words = [("cat", row(0)), ("polar_bear", row(3)), ("dog", row(6))];
        for line_ends in [false, true] {
            let file = word2vec(&words, line_ends);
            let expected = [row(6), row(3)].concat();
            assert_eq!(found(&file, &[], &["dog", "polar bear"]).unwrap(), expected);
            let message = |file: &[u8]| found(file, &[], &["dog"]).unwrap_err();
            for cut in [1 + usize::from(line_ends), 9, 14, 40] {
                let short = message(&file[..file.len() - cut]);
                assert!(short.contains("promises 3 vectors but it holds"), "{short}");
            }
            let long = message(&[&file[..], b"cow "].concat());
            assert!(long.contains("goes on after the 3 vectors"), "{long}");
            assert!(
                found(&file, &[], &["dgo"])
                    .unwrap_err()
                    .contains("nearest: `dog`")
            );
        }
        let broken = [
            ("cat", vec![f32::NAN, 1.0]),
            ("dog", vec![0.0, 0.0]),
            ("dog", vec![1.0, 2.0]),
        ];
        let message = |words: &[(&str, Vec<f32>)], wanted: &str| {
            found(word2vec(words, true), &[], &[wanted]).unwrap_err()
        };
        assert!(message(&broken, "cat").contains("vector 1: \"NaN\" is not a finite number"));
        assert!(message(&broken, "dog").contains("vector 2: the vector of `dog` is all zeros"));
        let twice = [("dog", vec![1.0, 2.0]), ("dog", vec![1.0, 2.0])];
        assert!(
            message(&twice, "dog").contains("vector 2: `dog` has a vector on vector 1 already")
        );
    }

    #[test]
    fn fasttext_and_word2vec_text_are_still_text() {
        assert_eq!(
            found("2 3\ncat 1 2 3\ndog 4 5 6\n", &[], &["dog"]).unwrap(),
            [4.0, 5.0, 6.0]
        );
        assert_eq!(
            found("2 3\nété 1 2 3\ndog 4 5 6\n", &[], &["été"]).unwrap(),
            [1.0, 2.0, 3.0]
        );
    }

    #[test]
    fn the_published_pickle_in_every_protocol() {
        // As NUS-WIDE's: vectors of all tags and of all concepts, two lists that share a word.
        for protocol in 2..=5 {
            let pickle = bytes(&format!("pair-{protocol}.pkl"));
            let lists = ["cat\ndog\ncow\npig\n", "hen\nfox\n"];
            let expected = [row(15), row(3), row(12)].concat();
            assert_eq!(
                found(&pickle, &lists, &["fox", "dog", "hen"]).unwrap(),
                expected
            );
            assert!(
                found(&pickle, &lists[..1], &["fox"])
                    .unwrap_err()
                    .contains("holds 2 arrays; give a list")
            );
            let other = ["cat\ndog\ncow\npig\n", "hen\ndog\n"];
            assert!(
                found(&pickle, &other, &["dog"])
                    .unwrap_err()
                    .contains("words-1.txt, line 2: `dog` has a vector")
            );
            for cut in 1..pickle.len() {
                found(&pickle[..cut], &lists, &["dog"]).unwrap_err();
            }
        }
    }

    #[test]
    fn pickles_with_their_own_words() {
        let expected = [row(3), row(6), row(0)].concat();
        assert_eq!(
            found(bytes("words.pkl"), &[], &["dog", "ice cream", "cat"]).unwrap(),
            expected
        );
        let fortran = found(bytes("fortran.pkl"), &[], &["pig", "cat"]).unwrap();
        assert_eq!(fortran, [row(9), row(0)].concat());
        assert!(
            found(bytes("words.pkl"), &["cat\n"], &["cat"])
                .unwrap_err()
                .contains("holds its own words")
        );
    }

    #[test]
    fn a_pickle_runs_nothing() {
        let message = found(bytes("harmful.pkl"), &[], &["cat"]).unwrap_err();
        assert!(
            message.contains("it asks to run `builtins.print`; nothing of a pickle is run"),
            "{message}"
        );
        let system = b"\x80\x02cos\nsystem\nU\x02ls\x85R.";
        assert!(
            found(system, &[], &["cat"])
                .unwrap_err()
                .contains("byte 13: it asks to run `os.system`")
        );
        // Lists of lists of lists: no depth that a stack would have to follow.
        let deep = [
            &b"\x80\x04"[..],
            &b"]".repeat(100_000),
            &b"a".repeat(99_999),
            b".",
        ]
        .concat();
        assert!(
            found(deep, &[], &["cat"])
                .unwrap_err()
                .contains("holds no label vectors")
        );
        // A list that holds itself.
        let own = b"\x80\x04]\x94h\x00a.";
        assert!(
            found(own, &[], &["cat"])
                .unwrap_err()
                .contains("holds no label vectors")
        );
    }

    #[test]
    fn pickled_lists_of_names() {
        for protocol in 2..=5 {
            let path = fixture(&format!("names-{protocol}.pkl"));
            assert_eq!(
                pickle::read_strings(&path).unwrap(),
                ["/m/03", "/m/01", "/m/02"]
            );
        }
        let error = pickle::read_strings(&fixture("pair-4.pkl")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("pair-4.pkl: holds no list of names")
        );
    }

    #[test]
    fn labels_that_share_a_word() {
        let (world, file) = World::new("cat 1 2\n", &[]);
        let resolved = resolve_words(
            &file,
            &names(&["cat (1)", "cat (2)"]),
            &names(&["cat", "cat"]),
        )
        .unwrap();
        assert_eq!(resolved.vectors.values(), [1.0, 2.0, 1.0, 2.0]);
        let error = resolve(&file.path, &names(&["category"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`category`"), "{error}");
        drop(world.dir);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn arbitrary_pickles_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            spoilt in 0usize..5000, byte: u8, protocol in 2u8..=5,
        ) {
            let _ = found([&[0x80, protocol][..], &bytes].concat(), &["cat"], &["cat"]);
            let mut pickle = super::tests::bytes(&format!("pair-{protocol}.pkl"));
            let place = spoilt % pickle.len();
            pickle[place] = byte;
            let _ = found(pickle, &["cat\n", "dog\n"], &["cat"]);
        }

        #[test]
        fn arbitrary_starts_never_panic(
            start in prop_oneof![
                Just(b"\x93NUMPY\x01\x00".to_vec()), Just(b"2 3\ncat \x00".to_vec()), Just(b"\x40\0\0\0\0\0\0\0{".to_vec()), Just(b"".to_vec()),
            ],
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = found([&start[..], &bytes].concat(), &["cat"], &["cat"]);
            let _ = found([&start[..], &bytes].concat(), &[], &["cat"]);
        }

        #[test]
        fn binary_vectors_round_trip(
            words in proptest::collection::btree_map("[a-zé]{1,6}", proptest::collection::vec(0.5f32..2.0, 4), 1..8),
            line_ends: bool,
        ) {
            let words: Vec<(&str, Vec<f32>)> = words.iter().map(|(w, v)| (w.as_str(), v.clone())).collect();
            let wanted: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let expected: Vec<f32> = words.iter().flat_map(|(_, vector)| vector.clone()).collect();
            prop_assert_eq!(found(word2vec(&words, line_ends), &[], &wanted).unwrap(), expected);
        }
    }
}
