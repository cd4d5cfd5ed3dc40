//! Sources of scores and labels: a table in memory, or any type that reads blocks of one, so that a table larger than
//! memory is evaluated from a file.

use std::ops::Range;

use crate::error::MetricsError;
use crate::input::{LIMIT, Labels, Scores};
use crate::score::Score;

/// A table of scores and three-valued labels, [images, labels], read in blocks.
///
/// Several threads read blocks at the same time: first every row once (blocks of a few rows and all columns), then every
/// column once (blocks of a few columns and some thousand rows). A table must return the same values every time. The
/// values are checked in the first pass, so an implementation need not check them.
///
/// ```
/// use std::ops::Range;
///
/// use epsilon_metrics::{MetricsError, Protocol, Request, Table, evaluate_table};
///
/// /// Scores computed on demand: the table is never in memory as a whole.
/// struct Computed;
///
/// impl Table for Computed {
///     type Score = f32;
///
///     fn images(&self) -> usize {
///         1000
///     }
///
///     fn labels(&self) -> usize {
///         20
///     }
///
///     fn read(
///         &self,
///         rows: Range<usize>,
///         columns: Range<usize>,
///         scores: &mut [f32],
///         labels: &mut [i8],
///     ) -> Result<(), MetricsError> {
///         let cells = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
///         for ((row, column), (score, label)) in cells.zip(scores.iter_mut().zip(labels)) {
///             *score = (row * 7 % 11) as f32;
///             *label = if row % 20 == column { 1 } else { -1 };
///         }
///         Ok(())
///     }
/// }
///
/// let columns: Vec<usize> = (0..20).collect();
/// let protocol = Protocol::lesa_nus();
/// let request = Request { columns: &columns, protocol: &protocol, ks: &[3, 5] };
/// let figures = evaluate_table(&Computed, &[request])?;
/// assert_eq!(figures[0].positives_per_image, 1.0);
/// # Ok::<(), MetricsError>(())
/// ```
pub trait Table: Sync {
    /// The type of the scores, f32 or f64: they are ranked in it.
    type Score: Score;

    /// Number of images (rows).
    fn images(&self) -> usize;

    /// Number of labels (columns).
    fn labels(&self) -> usize;

    /// Reads a block into `scores` and `labels`, both row-major [rows, columns] of the block.
    ///
    /// # Errors
    /// [`MetricsError::Read`] with the cause when the block cannot be read.
    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [Self::Score],
        labels: &mut [i8],
    ) -> Result<(), MetricsError>;
}

impl<T: Table + ?Sized> Table for &T {
    type Score = T::Score;

    fn images(&self) -> usize {
        (**self).images()
    }

    fn labels(&self) -> usize {
        (**self).labels()
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [Self::Score],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        (**self).read(rows, columns, scores, labels)
    }
}

/// A [`Table`] of scores and labels in memory, of the same shape.
///
/// ```rust
/// use epsilon_metrics::{InMemory, Labels, Scores, Table};
///
/// let scores = Scores::new(&[0.9, 0.5, 0.1, 0.2, 0.8, 0.4], 2, 3)?;
/// let labels = Labels::new(&[1, -1, 0, -1, 1, 1], 2, 3)?;
/// let table = InMemory::new(scores, labels)?;
///
/// // Row 1, columns 1 and 2.
/// let (mut scores, mut labels) = ([0.0; 2], [0; 2]);
/// table.read(1..2, 1..3, &mut scores, &mut labels)?;
/// assert_eq!((scores, labels), ([0.8, 0.4], [1, 1]));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct InMemory<'a, S = f32> {
    scores: Scores<'a, S>,
    labels: Labels<'a>,
}

impl<'a, S: Score> InMemory<'a, S> {
    /// A table of these scores and labels.
    ///
    /// # Errors
    /// [`MetricsError::ShapesDiffer`].
    ///
    /// ```rust
    /// use epsilon_metrics::{InMemory, Labels, MetricsError, Scores};
    ///
    /// let scores = Scores::new(&[0.9, 0.5], 1, 2)?;
    /// let labels = Labels::new(&[1, -1], 2, 1)?;
    /// let error = InMemory::new(scores, labels).unwrap_err();
    /// assert!(matches!(error, MetricsError::ShapesDiffer { scores_images: 1, labels_images: 2, .. }));
    /// # Ok::<(), epsilon_metrics::MetricsError>(())
    /// ```
    pub fn new(scores: Scores<'a, S>, labels: Labels<'a>) -> Result<Self, MetricsError> {
        if (scores.images(), scores.labels()) != (labels.images(), labels.labels()) {
            return Err(MetricsError::ShapesDiffer {
                scores_images: scores.images(),
                scores_labels: scores.labels(),
                labels_images: labels.images(),
                labels_labels: labels.labels(),
            });
        }
        Ok(Self { scores, labels })
    }
}

impl<S: Score> Table for InMemory<'_, S> {
    type Score = S;

    fn images(&self) -> usize {
        self.scores.images()
    }

    fn labels(&self) -> usize {
        self.scores.labels()
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [Self::Score],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        let width = columns.len();
        let targets = scores
            .chunks_exact_mut(width)
            .zip(labels.chunks_exact_mut(width));
        for (row, (scores, labels)) in rows.zip(targets) {
            scores.copy_from_slice(&self.scores.row(row)[columns.clone()]);
            labels.copy_from_slice(&self.labels.row(row)[columns.clone()]);
        }
        Ok(())
    }
}

/// Checks that the shape of the table can be evaluated.
pub(crate) fn check_table(table: &impl Table) -> Result<(), MetricsError> {
    let (what, images, labels) = ("scores", table.images(), table.labels());
    if images == 0 || labels == 0 {
        return Err(MetricsError::Empty {
            what,
            images,
            labels,
        });
    }
    if images.max(labels) > LIMIT {
        return Err(MetricsError::TooLarge {
            what,
            images,
            labels,
            limit: LIMIT,
        });
    }
    Ok(())
}

/// The buffer of one thread for the blocks it reads.
#[derive(Default)]
pub(crate) struct Block<S> {
    scores: Vec<S>,
    labels: Vec<i8>,
}

impl<S: Score> Block<S> {
    /// Reads a block and returns its scores and labels, row-major [rows, columns].
    pub(crate) fn read(
        &mut self,
        table: &impl Table<Score = S>,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<(&[S], &[i8]), MetricsError> {
        let values = rows.len() * columns.len();
        self.scores.resize(values, S::default());
        self.labels.resize(values, 0);
        table.read(rows, columns, &mut self.scores, &mut self.labels)?;
        Ok((&self.scores, &self.labels))
    }
}

/// Checks that whole rows from `first` on hold only finite scores and labels of -1, 0 and 1.
pub(crate) fn check_rows<S: Score>(
    first: usize,
    columns: usize,
    scores: &[S],
    labels: &[i8],
) -> Result<(), MetricsError> {
    // No branch per value: the compiler vectorises the loops.
    let finite = scores.iter().fold(true, |ok, v| ok & v.finite());
    let known = labels.iter().fold(true, |ok, v| ok & (-1..=1).contains(v));
    let place = |at: usize| (first + at / columns, at % columns);
    if !finite && let Some(at) = scores.iter().position(|v| !v.finite()) {
        let (image, label) = place(at);
        let value = scores[at].into() as f32;
        return Err(MetricsError::NotFinite {
            image,
            label,
            value,
        });
    }
    if !known && let Some(at) = labels.iter().position(|v| !(-1..=1).contains(v)) {
        let (image, label) = place(at);
        let value = labels[at];
        return Err(MetricsError::LabelValue {
            image,
            label,
            value,
        });
    }
    Ok(())
}
