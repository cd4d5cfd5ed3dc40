//! Sources of scores and labels: a table in memory, or any type that reads blocks of one, so that a table larger than
//! memory is evaluated from a file.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::MetricsError;
use crate::input::{LIMIT, Labels, Scores};
use crate::request::check_columns;
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

    /// Whether to go on: an error ends whatever evaluates or resamples the table. Asked on several threads, many times a second.
    ///
    /// # Errors
    /// [`MetricsError::Stopped`].
    fn ask(&self) -> Result<(), MetricsError> {
        Ok(())
    }
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

    fn ask(&self) -> Result<(), MetricsError> {
        (**self).ask()
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

/// A [`Table`] with which whatever evaluates or resamples it can be stopped, and ends with [`MetricsError::Stopped`] within a second.
///
/// ```rust
/// use epsilon_metrics::{
///     InMemory, Labels, MetricsError, Protocol, Request, Scores, Stoppable, bootstrap_table,
/// };
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let table = InMemory::new(Scores::new(&[0.9, 0.1], 2, 1)?, Labels::new(&[1, -1], 2, 1)?)?;
/// let request = Request { columns: &[0], protocol: &Protocol::lesa_nus(), ks: &[] };
/// // Set by another thread, or by a signal.
/// let stopped = AtomicBool::new(false);
/// let stop = || stopped.load(Ordering::Relaxed);
/// assert!(bootstrap_table(&Stoppable::new(&table, &stop), &[request], 100, 1).is_ok());
/// stopped.store(true, Ordering::Relaxed);
/// let ended = bootstrap_table(&Stoppable::new(&table, &stop), &[request], 100, 1);
/// assert_eq!(ended, Err(MetricsError::Stopped));
/// # Ok::<(), MetricsError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Stoppable<'a, T> {
    table: T,
    stop: &'a (dyn Fn() -> bool + Sync),
}

impl<'a, T: Table> Stoppable<'a, T> {
    /// Wraps a table. `stop` says whether to stop; it is called on many threads.
    pub fn new(table: T, stop: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { table, stop }
    }
}

impl<T: Table> Table for Stoppable<'_, T> {
    type Score = T::Score;

    fn images(&self) -> usize {
        self.table.images()
    }

    fn labels(&self) -> usize {
        self.table.labels()
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [Self::Score],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        self.table.read(rows, columns, scores, labels)
    }

    fn ask(&self) -> Result<(), MetricsError> {
        match (self.stop)() {
            true => Err(MetricsError::Stopped),
            false => self.table.ask(),
        }
    }
}

/// Some columns of another table, in an order of their own: the seen labels first, for instance.
///
/// ```rust
/// use epsilon_metrics::{Chosen, InMemory, Labels, Scores, Table};
///
/// let table = InMemory::new(
///     Scores::new(&[0.9, 0.5, 0.1, 0.2, 0.8, 0.4], 2, 3)?,
///     Labels::new(&[1, -1, 0, -1, 1, 1], 2, 3)?,
/// )?;
/// let chosen = Chosen::new(table, vec![2, 0])?;
/// let (mut scores, mut labels) = ([0.0; 2], [0; 2]);
/// chosen.read(1..2, 0..2, &mut scores, &mut labels)?;
/// assert_eq!((scores, labels), ([0.4, 0.2], [1, -1]));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Chosen<T> {
    table: T,
    columns: Vec<usize>,
}

impl<T: Table> Chosen<T> {
    /// These columns of a table.
    ///
    /// # Errors
    /// [`MetricsError::NoColumns`], [`MetricsError::ColumnOutOfRange`] and [`MetricsError::ColumnTwice`].
    pub fn new(table: T, columns: Vec<usize>) -> Result<Self, MetricsError> {
        check_columns(&columns, table.labels())?;
        Ok(Self { table, columns })
    }
}

impl<T: Table> Table for Chosen<T> {
    type Score = T::Score;

    fn images(&self) -> usize {
        self.table.images()
    }

    fn labels(&self) -> usize {
        self.columns.len()
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [T::Score],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        let (width, mut place) = (columns.len(), 0);
        let mut block = Block::default();
        // Adjacent columns are read in one piece.
        for run in self.columns[columns].chunk_by(|a, b| *b == a + 1) {
            let of_run = run[0]..run[0] + run.len();
            if run.len() == width {
                return self.table.read(rows, of_run, scores, labels);
            }
            let (some, values) = block.read(&self.table, rows.clone(), of_run)?;
            let to = scores
                .chunks_exact_mut(width)
                .zip(labels.chunks_exact_mut(width));
            let from = some
                .chunks_exact(run.len())
                .zip(values.chunks_exact(run.len()));
            for ((scores, labels), (some, values)) in to.zip(from) {
                scores[place..place + run.len()].copy_from_slice(some);
                labels[place..place + run.len()].copy_from_slice(values);
            }
            place += run.len();
        }
        Ok(())
    }

    fn ask(&self) -> Result<(), MetricsError> {
        self.table.ask()
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
        table.ask()?;
        let values = rows.len() * columns.len();
        self.scores.resize(values, S::default());
        self.labels.resize(values, 0);
        table.read(rows, columns, &mut self.scores, &mut self.labels)?;
        Ok((&self.scores, &self.labels))
    }
}

/// Values of a block of whole rows.
pub(crate) const BLOCK_VALUES: usize = 1 << 17;

/// Folds all rows of a table, a block of them at a time, on all threads: one value for each piece of the table, in the order of the
/// rows. `fold` gets the first row of the block, its scores and its labels, which have been checked.
pub(crate) fn fold_rows<T: Table, A: Send>(
    table: &T,
    start: impl Fn() -> A + Sync,
    fold: impl Fn(&mut A, usize, &[T::Score], &[i8]) + Sync,
) -> Result<Vec<A>, MetricsError> {
    let (images, columns) = (table.images(), table.labels());
    // A few pieces per thread: enough to balance the work, few enough that what is folded stays small.
    let piece = images.div_ceil(4 * rayon::current_num_threads());
    let step = (BLOCK_VALUES / columns).max(1);
    let of_piece = |start_row: usize| {
        let (mut folded, mut block) = (start(), Block::default());
        let end = images.min(start_row + piece);
        for first in (start_row..end).step_by(step) {
            let rows = first..end.min(first + step);
            let (scores, labels) = block.read(table, rows, 0..columns)?;
            check_block(first, &(0..columns), scores, labels)?;
            fold(&mut folded, first, scores, labels);
        }
        Ok(folded)
    };
    let pieces: Vec<usize> = (0..images).step_by(piece).collect();
    pieces
        .into_par_iter()
        .with_max_len(1)
        .map(of_piece)
        .collect()
}

/// Checks that a block of some columns of the rows from `first` on holds only finite scores and labels of -1, 0 and 1.
pub(crate) fn check_block<S: Score>(
    first: usize,
    columns: &Range<usize>,
    scores: &[S],
    labels: &[i8],
) -> Result<(), MetricsError> {
    // No branch per value: the compiler vectorises the loops.
    let finite = scores.iter().fold(true, |ok, v| ok & v.finite());
    let known = labels.iter().fold(true, |ok, v| ok & (-1..=1).contains(v));
    let place = |at: usize| {
        let width = columns.len();
        (first + at / width, columns.start + at % width)
    };
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
