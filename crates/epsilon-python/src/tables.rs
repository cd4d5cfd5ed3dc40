//! Arrays of scores and labels as tables of the metrics, read in blocks where they lie: of any layout, without a copy.

use std::ops::Range;

use epsilon_metrics::{MetricsError, Score, Table};
use half::f16;
use numpy::PyReadonlyArray2;
use numpy::ndarray::{ArrayView1, ArrayView2, s};
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::errors::raise;
use crate::work::Stop;

/// A two-dimensional array of scores that Python handed in.
pub(crate) enum Scores<'py> {
    Half(PyReadonlyArray2<'py, f16>),
    Single(PyReadonlyArray2<'py, f32>),
    Double(PyReadonlyArray2<'py, f64>),
}

/// A two-dimensional array of labels that Python handed in.
pub(crate) enum Labels<'py> {
    Bool(PyReadonlyArray2<'py, bool>),
    Byte(PyReadonlyArray2<'py, u8>),
    Tiny(PyReadonlyArray2<'py, i8>),
    Short(PyReadonlyArray2<'py, i32>),
    Long(PyReadonlyArray2<'py, i64>),
}

impl<'py> FromPyObject<'_, 'py> for Scores<'py> {
    type Error = PyErr;

    fn extract(array: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        None.or_else(|| array.extract().ok().map(Self::Half))
            .or_else(|| array.extract().ok().map(Self::Single))
            .or_else(|| array.extract().ok().map(Self::Double))
            .ok_or_else(|| refuse(array, "preds", "float16, float32 or float64"))
    }
}

impl<'py> FromPyObject<'_, 'py> for Labels<'py> {
    type Error = PyErr;

    fn extract(array: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        None.or_else(|| array.extract().ok().map(Self::Bool))
            .or_else(|| array.extract().ok().map(Self::Byte))
            .or_else(|| array.extract().ok().map(Self::Tiny))
            .or_else(|| array.extract().ok().map(Self::Short))
            .or_else(|| array.extract().ok().map(Self::Long))
            .ok_or_else(|| refuse(array, "target", "bool or integers"))
    }
}

/// The error of an argument that is no such array.
fn refuse(array: Borrowed<'_, '_, PyAny>, argument: &str, numbers: &str) -> PyErr {
    let shape = array.getattr("shape").map(|shape| shape.to_string());
    let kind = array.getattr("dtype").map(|dtype| dtype.to_string());
    let kind_is = |numbers: &str| matches!(&kind, Ok(kind) if numbers.split(' ').any(|n| kind.starts_with(n)));
    let cast = match argument {
        "target" if kind_is("float") => "; where it holds 0.0 and 1.0 alone, target.astype(int)",
        "preds" if kind_is("int uint bool") => ", such as preds.astype(numpy.float32)",
        _ => "",
    };
    let what = match (shape, kind) {
        (Ok(shape), Ok(kind)) => format!("an array of shape {shape} of {kind}"),
        _ => format!("{}", array.get_type()),
    };
    raise(
        "MetricsError",
        format!("{argument}: this is {what}: give an array [images, labels] of {numbers}{cast}"),
    )
}

/// What the values of an array of labels mean.
#[derive(Clone, Copy)]
enum Meaning {
    /// 1 positive, 0 negative.
    Two,
    /// 1 positive, -1 negative, 0 unknown.
    Three,
    /// 1 positive, 0 negative, this one unknown.
    Ignored(i64),
}

impl Meaning {
    /// The meaning of an array's values, of which each is looked at. Without `ignore_index`, 0 is unknown as soon as there is a -1.
    fn of<E: Copy + Into<i64> + Sync>(
        array: ArrayView2<'_, E>,
        ignore_index: Option<i64>,
        stop: &Stop,
    ) -> Result<Self, String> {
        let candidates: &[Self] = match ignore_index {
            None => &[Self::Two, Self::Three],
            Some(0) => &[Self::Three],
            Some(1) => return Err("ignore_index: 1 is the value of positives: give another".into()),
            Some(unknown) => &[Self::Ignored(unknown)],
        };
        // Nothing is made of a table that is not wanted any more.
        let fits = |meaning: &&Self| {
            (0..array.nrows())
                .into_par_iter()
                .all(|row| stop.is_set() || meaning.knows_all(array.row(row)))
        };
        let last = candidates[candidates.len() - 1];
        candidates
            .iter()
            .find(fits)
            .copied()
            .ok_or_else(|| last.refuse(array))
    }

    fn knows(self, value: i64) -> bool {
        match self {
            Self::Two => value & !1 == 0,
            Self::Three => (-1..=1).contains(&value),
            Self::Ignored(unknown) => value & !1 == 0 || value == unknown,
        }
    }

    /// Without a branch per value.
    fn knows_all<E: Copy + Into<i64>>(self, row: ArrayView1<'_, E>) -> bool {
        row.iter()
            .fold(true, |all, &value| all & self.knows(value.into()))
    }

    /// The error of an array that holds another value.
    fn refuse<E: Copy + Into<i64>>(self, array: ArrayView2<'_, E>) -> String {
        let strange = |&(_, value): &(_, &E)| !self.knows((*value).into());
        let found = array.indexed_iter().find(strange);
        let what = found.map_or_else(String::new, |((image, label), &value)| {
            let value: i64 = value.into();
            format!("image {image} (row), label {label} (column) is {value}: ")
        });
        let values = match self {
            Self::Two | Self::Three => {
                "1 (positive) and 0 (negative), or 1, -1 (negative) and 0 (unknown)".into()
            }
            Self::Ignored(unknown) => {
                format!("1 (positive), 0 (negative) and {unknown} (ignore_index)")
            }
        };
        format!("target: {what}the values are {values}")
    }
}

/// Rows and columns of an array of Python, of which blocks are read as another type.
trait Cells<T>: Send + Sync {
    fn read(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [T]);
}

/// An array whose values become those of a table.
struct Converted<'a, E, F> {
    array: ArrayView2<'a, E>,
    convert: F,
}

impl<E: Copy + Sync, T, F: Fn(E) -> T + Send + Sync> Cells<T> for Converted<'_, E, F> {
    fn read(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [T]) {
        let width = columns.len();
        let part = self.array.slice(s![rows, columns]);
        for (row, out) in part.rows().into_iter().zip(out.chunks_exact_mut(width)) {
            match row.as_slice() {
                Some(row) => fill(out, row.iter(), &self.convert),
                None => fill(out, row.iter(), &self.convert),
            }
        }
    }
}

fn fill<'a, E: Copy + 'a, T>(
    out: &mut [T],
    values: impl Iterator<Item = &'a E>,
    convert: impl Fn(E) -> T,
) {
    out.iter_mut()
        .zip(values)
        .for_each(|(out, &value)| *out = convert(value));
}

/// Scores and labels of arrays. Their figures end where the work is to stop.
pub(crate) struct Arrays<'a, S> {
    shape: (usize, usize),
    scores: Box<dyn Cells<S> + 'a>,
    labels: Box<dyn Cells<i8> + 'a>,
    stop: &'a Stop,
}

impl<S: Score> Table for Arrays<'_, S> {
    type Score = S;

    fn images(&self) -> usize {
        self.shape.0
    }

    fn labels(&self) -> usize {
        self.shape.1
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [S],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        self.scores.read(rows.clone(), columns.clone(), scores);
        self.labels.read(rows, columns, labels);
        Ok(())
    }

    fn ask(&self) -> Result<(), MetricsError> {
        match self.stop.is_set() {
            true => Err(MetricsError::Stopped),
            false => Ok(()),
        }
    }
}

/// A table of either type of scores. (f32 holds all scores in f16.)
pub(crate) enum AnyTable<'a> {
    Single(Arrays<'a, f32>),
    Double(Arrays<'a, f64>),
}

/// Evaluates an expression for a table of either type of scores.
macro_rules! with_table {
    ($any:expr, $table:ident => $value:expr) => {
        match $any {
            $crate::tables::AnyTable::Single($table) => $value,
            $crate::tables::AnyTable::Double($table) => $value,
        }
    };
}
pub(crate) use with_table;

/// Labels whose values have not been looked at yet: what they mean is known then, or what is wrong with them.
type Unread<'a> = Box<dyn FnOnce(&Stop) -> Result<Box<dyn Cells<i8> + 'a>, String> + Send + 'a>;

/// Scores of either type.
enum AnyScores<'a> {
    Single(Box<dyn Cells<f32> + 'a>),
    Double(Box<dyn Cells<f64> + 'a>),
}

/// Two arrays of the same shape, for a thread without the global lock to make a table of.
pub(crate) struct Given<'a> {
    shape: (usize, usize),
    scores: AnyScores<'a>,
    labels: Unread<'a>,
}

impl<'a> Given<'a> {
    /// The arrays as Python handed them in. `ignore_index` is the value of unknown labels.
    pub(crate) fn new(
        scores: &'a Scores<'_>,
        labels: &'a Labels<'_>,
        ignore_index: Option<i64>,
    ) -> PyResult<Self> {
        let (shape, of_labels) = (scores.shape(), labels.shape());
        if shape != of_labels {
            let message = format!("target: its shape {of_labels:?} is not the {shape:?} of preds");
            return Err(raise("MetricsError", message));
        }
        Ok(Self {
            shape,
            scores: scores.cells(),
            labels: labels.unread(ignore_index),
        })
    }

    /// The table, once all labels were looked at; or what is wrong with one.
    pub(crate) fn table<'s>(self, stop: &'s Stop) -> Result<AnyTable<'s>, String>
    where
        'a: 's,
    {
        let (shape, labels) = (self.shape, (self.labels)(stop)?);
        Ok(match self.scores {
            AnyScores::Single(scores) => AnyTable::Single(Arrays {
                shape,
                scores,
                labels,
                stop,
            }),
            AnyScores::Double(scores) => AnyTable::Double(Arrays {
                shape,
                scores,
                labels,
                stop,
            }),
        })
    }
}

impl Scores<'_> {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Half(array) => array.as_array().dim(),
            Self::Single(array) => array.as_array().dim(),
            Self::Double(array) => array.as_array().dim(),
        }
    }

    fn cells(&self) -> AnyScores<'_> {
        match self {
            Self::Half(array) => AnyScores::Single(cells(array.as_array(), f16::to_f32)),
            Self::Single(array) => AnyScores::Single(cells(array.as_array(), |score| score)),
            Self::Double(array) => AnyScores::Double(cells(array.as_array(), |score| score)),
        }
    }
}

impl Labels<'_> {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Bool(array) => array.as_array().dim(),
            Self::Byte(array) => array.as_array().dim(),
            Self::Tiny(array) => array.as_array().dim(),
            Self::Short(array) => array.as_array().dim(),
            Self::Long(array) => array.as_array().dim(),
        }
    }

    fn unread(&self, ignore_index: Option<i64>) -> Unread<'_> {
        match self {
            Self::Bool(array) => unread(array.as_array(), ignore_index),
            Self::Byte(array) => unread(array.as_array(), ignore_index),
            Self::Tiny(array) => unread(array.as_array(), ignore_index),
            Self::Short(array) => unread(array.as_array(), ignore_index),
            Self::Long(array) => unread(array.as_array(), ignore_index),
        }
    }
}

fn cells<'a, E: Copy + Sync, T>(
    array: ArrayView2<'a, E>,
    convert: impl Fn(E) -> T + Send + Sync + 'a,
) -> Box<dyn Cells<T> + 'a> {
    Box::new(Converted { array, convert })
}

/// 1 of 1 and -1 of 0. Written so that the loop around it is vectorised.
fn two(value: i64) -> i8 {
    (value as i8).wrapping_mul(2).wrapping_sub(1)
}

fn unread<'a, E: Copy + Into<i64> + Sync>(
    array: ArrayView2<'a, E>,
    ignore_index: Option<i64>,
) -> Unread<'a> {
    Box::new(move |stop| {
        // One loop for each meaning. The values have been checked, so they fit.
        Ok(match Meaning::of(array, ignore_index, stop)? {
            Meaning::Two => cells(array, |value: E| two(value.into())),
            Meaning::Three => cells(array, |value: E| value.into() as i8),
            Meaning::Ignored(unknown) => cells(array, move |value: E| match value.into() {
                value if value == unknown => 0,
                value => two(value),
            }),
        })
    })
}
