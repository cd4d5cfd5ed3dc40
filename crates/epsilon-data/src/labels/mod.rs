//! Label names and their vectors.
//!
//! A vocabulary is a list of names; [`resolve()`] finds each name's vector in a [`VectorFile`] and reports how. A name without a vector is an error, never a silent zero vector.

mod index;
mod names;
mod resolve;
mod rows;
mod text_vectors;
mod vector_file;
mod word_table;

pub use index::VectorIndex;
pub use names::{composed, read_list, read_names, read_seen_unseen, split_list};
pub use resolve::{Found, Resolution, Resolved, Unresolved, resolve, resolve_words};
pub use rows::Place;
pub use text_vectors::write_text_vectors;
pub use vector_file::VectorFile;
pub use word_table::WordTable;

use crate::formats::pickle::PickleError;
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Everything that can go wrong with label names and their vectors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// A file could not be read.
    #[error("{path}: cannot be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A file could not be written.
    #[error("{path}: cannot be written: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A line is not UTF-8 text.
    #[error(
        "{path}, line {line}: not UTF-8 text; convert the file to UTF-8 (a word2vec file must be in its text form)"
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
    },
    /// A line is so long that the file cannot be a text file of the expected kind.
    #[error(
        "{path}, line {line}: longer than {limit} bytes; this is no text file of one entry a line"
    )]
    LongLine {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// The longest line accepted, in bytes.
        limit: usize,
    },
    /// A list of names holds no name.
    #[error("{path}: holds no label name; write one name a line")]
    EmptyList {
        /// The list.
        path: PathBuf,
    },
    /// A line of a list holds characters that cannot stand in a name.
    #[error(
        "{path}, line {line}: {:?} holds a control character; remove it",
        short(name)
    )]
    ListedName {
        /// The list.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// The name as read.
        name: String,
    },
    /// A name stands twice in a list.
    #[error(
        "{path}, line {line}: `{}` stands on line {first} already; keep one of the two",
        short(name)
    )]
    ListedTwice {
        /// The list.
        path: PathBuf,
        /// Line of the second appearance, counted from 1.
        line: u64,
        /// Line of the first appearance, counted from 1.
        first: u64,
        /// The name.
        name: String,
    },
    /// A name stands in the list of seen and in the list of unseen labels.
    #[error(
        "`{}` stands in both lists, {seen} (seen) and {unseen} (unseen); a label is one or the other, remove it from one list",
        short(name)
    )]
    SeenAndUnseen {
        /// The name.
        name: String,
        /// The list of seen labels.
        seen: PathBuf,
        /// The list of unseen labels.
        unseen: PathBuf,
    },
    /// A vector file holds no vector.
    #[error("{path}: holds no vector; write one `word v1 v2 ..` a line")]
    EmptyVectorFile {
        /// The vector file.
        path: PathBuf,
    },
    /// The first line of a vector file holds a word and nothing else.
    #[error(
        "{path}, line {line}: a word without values; a vector file holds one `word v1 v2 ..` a line"
    )]
    NoValues {
        /// The vector file.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
    },
    /// A vector has another number of values than the vectors before it.
    #[error(
        "{path}, {place}: {found}, but the vectors above it (or the header) have {expected} values"
    )]
    Width {
        /// The vector file.
        path: PathBuf,
        /// Where it stands.
        place: Place,
        /// Values a line must have.
        expected: usize,
        /// What stands there, such as "a word and 3 values".
        found: String,
    },
    /// A value is not a number.
    #[error(
        "{path}, {place}: {:?} is not a number (vector of `{}`)",
        short(text),
        short(key)
    )]
    Number {
        /// The vector file.
        path: PathBuf,
        /// Where it stands.
        place: Place,
        /// The word of that line.
        key: String,
        /// What stands where a number should.
        text: String,
    },
    /// A value is NaN, infinite, or too large for 32 bits.
    #[error(
        "{path}, {place}: {:?} is not a finite number (vector of `{}`); repair or remove the line",
        short(text),
        short(key)
    )]
    NotFinite {
        /// The vector file.
        path: PathBuf,
        /// Where it stands.
        place: Place,
        /// The word of that line.
        key: String,
        /// The value as written.
        text: String,
    },
    /// A word that is wanted has a vector of zeros.
    #[error(
        "{path}, {place}: the vector of `{}` is all zeros and has no direction; remove the line",
        short(key)
    )]
    ZeroRow {
        /// The vector file.
        path: PathBuf,
        /// Where it stands.
        place: Place,
        /// The word.
        key: String,
    },
    /// A word that is wanted has two vectors.
    #[error(
        "{path}, {place}: `{}` has a vector on {first} already; remove one of the two",
        short(key)
    )]
    DuplicateKey {
        /// The vector file.
        path: PathBuf,
        /// Where the second vector stands.
        place: Place,
        /// Where the first vector stands.
        first: Place,
        /// The word.
        key: String,
    },
    /// A word2vec header promises another number of vectors than the file holds.
    #[error(
        "{path}: its header promises {promised} vectors but it holds {found}; the file is cut off or damaged"
    )]
    Count {
        /// The vector file.
        path: PathBuf,
        /// Vectors the header promises.
        promised: u64,
        /// Vectors read.
        found: u64,
    },
    /// A file of word vectors, or a pickle, that does not hold what it should.
    #[error("{path}: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A pickle that cannot be read.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// Another number of lists of words than a vector file needs.
    #[error("{path}: {}", lists_message(*wanted, *found))]
    Lists {
        /// The vector file.
        path: PathBuf,
        /// Lists it needs.
        wanted: usize,
        /// Lists given.
        found: usize,
    },
    /// A list of words of another length than there are vectors.
    #[error(
        "{list}: {found} words, but {path} holds {vectors} vectors; the list must have one line for each"
    )]
    ListLength {
        /// The list.
        list: PathBuf,
        /// Its lines.
        found: u64,
        /// The vector file.
        path: PathBuf,
        /// Its vectors.
        vectors: u64,
    },
    /// Labels without a vector.
    #[error("{}", resolve::unresolved_message(path, labels))]
    Unresolved {
        /// The vector file.
        path: PathBuf,
        /// Every label without a vector, in the order of the names asked for.
        labels: Vec<Unresolved>,
    },
    /// A set of label vectors without a label or without a dimension.
    #[error(
        "label vectors need at least one label and one dimension, got {names} labels of width {dim}"
    )]
    NoVectors {
        /// Number of names.
        names: usize,
        /// Width.
        dim: usize,
    },
    /// The number of values is not names times width.
    #[error("{names} labels of width {dim} need {} values, got {values}", names.saturating_mul(*dim))]
    Shape {
        /// Number of names.
        names: usize,
        /// Width.
        dim: usize,
        /// Number of values.
        values: usize,
    },
    /// A name is empty, has space around it or holds a control character.
    #[error(
        "{:?} is no label name: it must be non-empty, without space around it and without control characters",
        short(name)
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Two labels have the same name.
    #[error("two labels are named `{}`; names must differ", short(name))]
    RepeatedName {
        /// The name.
        name: String,
    },
    /// A label's vector holds NaN or an infinity.
    #[error("the vector of `{}` holds a value that is not finite", short(name))]
    NotFiniteVector {
        /// The name.
        name: String,
    },
    /// A label's vector is zero everywhere and so has no direction.
    #[error(
        "the vector of `{}` is all zeros and has no direction; give the label another vector or leave it out",
        short(name)
    )]
    ZeroVector {
        /// The name.
        name: String,
    },
    /// There is no label of that number.
    #[error("label {index} was asked for, of {labels} labels counted from 0")]
    NoSuchLabel {
        /// The number asked for.
        index: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Labels of different widths cannot stand in one matrix.
    #[error("label vectors of width {dim} cannot be joined with others of width {other}")]
    OtherWidth {
        /// Width of the first.
        dim: usize,
        /// Width of the others.
        other: usize,
    },
    /// Two names would be written as the same word of a vector file.
    #[error(
        "`{}` and `{}` would both be written as the word `{}`; rename one of them",
        short(first),
        short(second),
        short(key)
    )]
    SameKey {
        /// The word in the file.
        key: String,
        /// One name.
        first: String,
        /// The other name.
        second: String,
    },
}

/// Characters of a word that a message holds.
const SHOWN: usize = 80;

/// A word as messages have it: the beginning of one that is too long for them.
///
/// ```
/// use epsilon_data::labels::short;
///
/// assert_eq!(short("red flower"), "red flower");
/// assert_eq!(short(&"a".repeat(100_000)).chars().count(), 81);
/// ```
pub fn short(word: &str) -> Cow<'_, str> {
    match word.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &word[..end]).into(),
        None => word.into(),
    }
}

fn lists_message(wanted: usize, found: usize) -> String {
    match wanted {
        0 => "holds its own words; give no list of words".into(),
        1 => format!(
            "holds numbers alone; give one list of its words (--vector-names, or vector-names in a recipe), not {found}"
        ),
        _ => format!(
            "holds {wanted} arrays; give a list of words (vector-names) for each, not {found}"
        ),
    }
}

/// A vector of another width.
fn width_error(path: &Path, place: Place, expected: usize, values: usize) -> LabelError {
    let found = match values {
        0 => "a word without values".to_string(),
        1 => "a word and 1 value".to_string(),
        n => format!("a word and {n} values"),
    };
    LabelError::Width {
        path: path.into(),
        place,
        expected,
        found,
    }
}

/// Names and one raw (not normalised) vector for each: a matrix of shape [len, dim].
///
/// Every row is finite and not all zeros, and names are unique, but for a set joined by [`LabelVectors::followed_by`].
/// [`LabelVectors::new`] asks for a label; a selection may hold none.
///
/// ```
/// use epsilon_data::labels::LabelVectors;
///
/// let names = vec!["sun".into(), "red moon".into()];
/// let vectors = LabelVectors::new(names, 2, vec![3.0, 4.0, 0.0, -2.0])?;
/// assert_eq!((vectors.len(), vectors.dim()), (2, 2));
/// assert_eq!(vectors.row(1), [0.0, -2.0]);
/// assert_eq!(vectors.unit().row(0), [0.6, 0.8]);
/// # Ok::<(), epsilon_data::labels::LabelError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LabelVectors {
    names: Vec<String>,
    dim: usize,
    values: Vec<f32>,
}

impl LabelVectors {
    /// Joins `names` with `values`, row-major of shape [names.len(), dim].
    ///
    /// # Errors
    /// No name or width 0, a wrong number of values, a name that [`read_names`] could not give, a repeated
    /// name, a value that is not finite, a row of zeros.
    pub fn new(names: Vec<String>, dim: usize, values: Vec<f32>) -> Result<Self, LabelError> {
        if names.is_empty() || dim == 0 {
            return Err(LabelError::NoVectors {
                names: names.len(),
                dim,
            });
        }
        if names.len().checked_mul(dim) != Some(values.len()) {
            return Err(LabelError::Shape {
                names: names.len(),
                dim,
                values: values.len(),
            });
        }
        let mut known = HashSet::new();
        for (name, row) in names.iter().zip(values.chunks_exact(dim)) {
            if !names::is_name(name) {
                return Err(LabelError::Name { name: name.clone() });
            }
            if !known.insert(name) {
                return Err(LabelError::RepeatedName { name: name.clone() });
            }
            if row.iter().any(|value| !value.is_finite()) {
                return Err(LabelError::NotFiniteVector { name: name.clone() });
            }
            if row.iter().all(|&value| value == 0.0) {
                return Err(LabelError::ZeroVector { name: name.clone() });
            }
        }
        Ok(Self { names, dim, values })
    }

    /// Vectors of labels without names, row-major `[labels, dim]`: they are named by their numbers from 0.
    ///
    /// ```
    /// use epsilon_data::labels::LabelVectors;
    ///
    /// let vectors = LabelVectors::numbered(2, vec![3.0, 4.0, 0.0, 1.0])?;
    /// assert_eq!(vectors.names(), ["0", "1"]);
    /// # Ok::<(), epsilon_data::labels::LabelError>(())
    /// ```
    ///
    /// # Errors
    /// No label or width 0, a wrong number of values, a value that is not finite, a row of zeros.
    pub fn numbered(dim: usize, values: Vec<f32>) -> Result<Self, LabelError> {
        let count = values.len().checked_div(dim).unwrap_or(0);
        Self::new(
            (0..count).map(|label| label.to_string()).collect(),
            dim,
            values,
        )
    }

    /// The names, in row order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Width d_w of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether it holds no label, as a selection of none does.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The vector of label `i`, of shape `[dim]`.
    ///
    /// # Panics
    /// If `i` is not below [`LabelVectors::len`].
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// All vectors, row-major of shape [len, dim].
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The same labels with every row scaled to Euclidean length 1.
    #[must_use]
    pub fn unit(&self) -> Self {
        let mut values = self.values.clone();
        for row in values.chunks_exact_mut(self.dim) {
            let length = row
                .iter()
                .map(|&v| f64::from(v).powi(2))
                .sum::<f64>()
                .sqrt();
            for value in row {
                *value = (f64::from(*value) / length) as f32;
            }
        }
        Self {
            names: self.names.clone(),
            dim: self.dim,
            values,
        }
    }

    /// The labels at `indices`, in that order; none where there is no index.
    ///
    /// ```
    /// use epsilon_data::labels::LabelVectors;
    ///
    /// let names = vec!["sun".into(), "moon".into()];
    /// let vectors = LabelVectors::new(names, 2, vec![1.0, 2.0, 3.0, 4.0])?;
    /// let moon = vectors.select(&[1])?;
    /// assert_eq!(moon.names(), ["moon"]);
    /// assert_eq!(moon.values(), [3.0, 4.0]);
    /// assert!(vectors.select(&[1, 1]).is_err());
    /// assert!(vectors.select(&[2]).is_err());
    /// # Ok::<(), epsilon_data::labels::LabelError>(())
    /// ```
    ///
    /// # Errors
    /// An index that is not below [`LabelVectors::len`], and one that is there twice: names are unique.
    pub fn select(&self, indices: &[usize]) -> Result<Self, LabelError> {
        let mut known = HashSet::new();
        for &index in indices {
            let Some(name) = self.names.get(index) else {
                return Err(LabelError::NoSuchLabel {
                    index,
                    labels: self.len(),
                });
            };
            if !known.insert(index) {
                return Err(LabelError::RepeatedName { name: name.clone() });
            }
        }
        Ok(Self {
            names: indices.iter().map(|&i| self.names[i].clone()).collect(),
            dim: self.dim,
            values: indices.iter().flat_map(|&i| self.row(i)).copied().collect(),
        })
    }

    /// The first `count` labels, or all of them where there are fewer.
    ///
    /// ```
    /// use epsilon_data::labels::LabelVectors;
    ///
    /// let names = vec!["sun".into(), "moon".into()];
    /// let vectors = LabelVectors::new(names, 1, vec![1.0, 2.0])?;
    /// assert_eq!(vectors.first(1).names(), ["sun"]);
    /// # Ok::<(), epsilon_data::labels::LabelError>(())
    /// ```
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let count = count.min(self.len());
        Self {
            names: self.names[..count].to_vec(),
            dim: self.dim,
            values: self.values[..count * self.dim].to_vec(),
        }
    }

    /// These labels and then others of the same width, to be scored together. Only here may a name stand twice: once
    /// among these, once among the others.
    ///
    /// # Errors
    /// [`LabelError::OtherWidth`] when the widths differ.
    pub fn followed_by(&self, others: &Self) -> Result<Self, LabelError> {
        if self.dim != others.dim {
            return Err(LabelError::OtherWidth {
                dim: self.dim,
                other: others.dim,
            });
        }
        Ok(Self {
            names: [&self.names[..], &others.names].concat(),
            dim: self.dim,
            values: [&self.values[..], &others.values].concat(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_units_and_selection() {
        let vectors = LabelVectors::new(names(&["a", "b"]), 2, vec![3.0, 4.0, 0.0, -2.0]).unwrap();
        assert_eq!(vectors.len(), 2);
        assert_eq!(vectors.row(1), [0.0, -2.0]);
        assert_eq!(vectors.unit().values(), [0.6, 0.8, 0.0, -1.0]);
        let swapped = vectors.select(&[1, 0]).unwrap();
        assert_eq!(swapped.names(), ["b", "a"]);
        assert_eq!(swapped.values(), [0.0, -2.0, 3.0, 4.0]);
        assert!(vectors.select(&[]).unwrap().is_empty());
        assert_eq!(vectors.first(5), vectors);
        let both = vectors.followed_by(&swapped).unwrap();
        assert_eq!(both.names(), ["a", "b", "b", "a"]);
    }

    #[test]
    fn selections_that_break_the_promises_are_refused() {
        let vectors = LabelVectors::new(names(&["a", "b"]), 1, vec![3.0, 4.0]).unwrap();
        assert!(matches!(
            vectors.select(&[0, 1, 0]),
            Err(LabelError::RepeatedName { name }) if name == "a"
        ));
        assert!(matches!(
            vectors.select(&[2]),
            Err(LabelError::NoSuchLabel {
                index: 2,
                labels: 2
            })
        ));
        let wide = LabelVectors::new(names(&["c"]), 2, vec![1.0, 0.0]).unwrap();
        assert!(matches!(
            vectors.followed_by(&wide),
            Err(LabelError::OtherWidth { dim: 1, other: 2 })
        ));
    }

    #[test]
    fn unit_length_survives_extreme_values() {
        let vectors = LabelVectors::new(
            names(&["big", "small"]),
            2,
            vec![f32::MAX, f32::MAX, 1e-45, 0.0],
        )
        .unwrap();
        let unit = vectors.unit();
        assert!((unit.row(0)[0] - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6);
        assert_eq!(unit.row(1), [1.0, 0.0]);
    }

    #[test]
    fn unsound_vectors_are_refused() {
        use LabelError::*;
        let new = |n: &[&str], dim, values: &[f32]| {
            LabelVectors::new(names(n), dim, values.to_vec()).unwrap_err()
        };
        assert!(matches!(new(&[], 2, &[]), NoVectors { .. }));
        assert!(matches!(new(&["a"], 0, &[]), NoVectors { .. }));
        assert!(matches!(new(&["a"], 2, &[1.0]), Shape { .. }));
        assert!(matches!(
            new(&["a", "a"], 1, &[1.0, 2.0]),
            RepeatedName { .. }
        ));
        assert!(matches!(
            new(&["a", "b"], 1, &[1.0, f32::NAN]),
            NotFiniteVector { .. }
        ));
        assert!(matches!(new(&["a"], 2, &[0.0, -0.0]), ZeroVector { .. }));
        for bad in ["", " a", "a\n", "a\tb"] {
            assert!(matches!(new(&[bad], 1, &[1.0]), Name { .. }), "{bad:?}");
        }
        let huge = LabelVectors::new(names(&["a", "b"]), usize::MAX, vec![]).unwrap_err();
        assert!(huge.to_string().contains("got 0"));
    }
}
