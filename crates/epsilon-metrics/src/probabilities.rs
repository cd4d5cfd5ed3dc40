//! Scores as probabilities, which thresholds are compared with.

use std::ops::Range;

use crate::error::MetricsError;
use crate::score::Rankable;
use crate::table::{Table, check_table, fold_rows};

/// A [`Table`] whose scores are probabilities, by torchmetrics' rule: where any score of the table is outside 0..=1, all of them are
/// taken as logits and go through the sigmoid 1 / (1 + exp(-s)), computed in f64 and rounded to the type of the scores; otherwise
/// they are left as they are.
///
/// ```rust
/// use epsilon_metrics::{InMemory, Labels, Probabilities, Scores, Table};
///
/// let read = |scores: &[f64; 2]| {
///     let table = InMemory::new(Scores::new(scores, 1, 2)?, Labels::new(&[1, -1], 1, 2)?)?;
///     let (mut probabilities, mut labels) = ([0.0; 2], [0; 2]);
///     Probabilities::new(&table)?.read(0..1, 0..2, &mut probabilities, &mut labels)?;
///     Ok(probabilities)
/// };
/// assert_eq!(read(&[0.25, 1.0])?, [0.25, 1.0]);
/// assert_eq!(read(&[0.0, 3.0_f64.ln()])?, [0.5, 0.75]);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug)]
pub struct Probabilities<T> {
    table: T,
    logits: bool,
}

impl<T: Table> Probabilities<T> {
    /// Wraps a table, and reads it once to see whether its scores are logits.
    ///
    /// # Errors
    /// [`MetricsError::Empty`], [`MetricsError::TooLarge`], [`MetricsError::NotFinite`], [`MetricsError::LabelValue`] and
    /// [`MetricsError::Read`].
    pub fn new(table: T) -> Result<Self, MetricsError> {
        check_table(&table)?;
        let (zero, one) = (T::Score::nearest(0.0), T::Score::nearest(1.0));
        let outside = fold_rows(
            &table,
            || false,
            |outside, _, scores, _| {
                *outside |= scores
                    .iter()
                    .fold(false, |any, &s| any | (s < zero) | (s > one));
            },
        )?;
        Ok(Self {
            table,
            logits: outside.contains(&true),
        })
    }
}

impl<T: Table> Table for Probabilities<T> {
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
        scores: &mut [T::Score],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        self.table.read(rows, columns, scores, labels)?;
        if self.logits {
            for score in scores {
                let logit: f64 = (*score).into();
                *score = T::Score::nearest(1.0 / (1.0 + (-logit).exp()));
            }
        }
        Ok(())
    }

    fn ask(&self) -> Result<(), MetricsError> {
        self.table.ask()
    }
}
