//! How the labels of each image are ranked: coverage error, ranking loss, ranking average precision of a whole table.

use crate::error::MetricsError;
use crate::images::{LabelSet, count_images};
use crate::protocol::TopKTies;
use crate::table::{Table, check_table};

/// Means over all images of a table, as scikit-learn's functions compute them of the labels that are known in each image.
///
/// ```rust
/// use epsilon_metrics::{InMemory, LabelRanking, Labels, Scores};
///
/// // Image 0: positive, negative, positive by descending score. Image 1 has no positive.
/// let scores = Scores::new(&[0.9, 0.8, 0.1, 0.2, 0.3, 0.4], 2, 3)?;
/// let table = InMemory::new(scores, Labels::new(&[1, -1, 1, -1, 0, -1], 2, 3)?)?;
/// let ranking = LabelRanking::new(&table)?;
/// assert_eq!(ranking.coverage_error, 3.0 / 2.0);
/// assert_eq!(ranking.ranking_loss, 0.5 / 2.0);
/// assert_eq!(ranking.average_precision, ((1.0 + 2.0 / 3.0) / 2.0 + 1.0) / 2.0);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LabelRanking {
    /// The rank of the lowest positive, where equal scores share the last of their ranks; 0 for an image without positives. In
    /// labels; `coverage_error`.
    pub coverage_error: f64,
    /// The share of pairs of a positive and a negative label in which the positive is not strictly higher; 0 for an image without
    /// such pairs; `label_ranking_loss`.
    pub ranking_loss: f64,
    /// The mean over the positives of (positives ranked up to it) / (labels ranked up to it); 1 for an image without positives;
    /// `label_ranking_average_precision_score`.
    pub average_precision: f64,
}

impl LabelRanking {
    /// Ranks the labels of each image.
    ///
    /// # Errors
    /// [`MetricsError::Empty`], [`MetricsError::TooLarge`], [`MetricsError::NotFinite`], [`MetricsError::LabelValue`] and
    /// [`MetricsError::Read`].
    pub fn new(table: &impl Table) -> Result<Self, MetricsError> {
        check_table(table)?;
        let columns: Vec<usize> = (0..table.labels()).collect();
        let set = LabelSet {
            columns: &columns,
            without_unknown: true,
            top_k_ties: TopKTies::default(),
            ks: Vec::new(),
        };
        let totals = count_images(table, &[set])?.remove(0);
        let images = table.images() as f64;
        Ok(Self {
            coverage_error: totals.coverage as f64 / images,
            ranking_loss: totals.ranking_loss / images,
            average_precision: totals.average_precision / images,
        })
    }
}
