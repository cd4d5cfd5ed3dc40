//! Errors of scores, labels, columns and protocols. A message says where the error is and what to do about it; rows and
//! columns are counted from 0.

use thiserror::Error;

/// An input that cannot be evaluated. Rows (images) and columns (labels) are counted from 0.
///
/// ```rust
/// use epsilon_metrics::{Labels, MetricsError};
///
/// // Two images, two labels; the value 2 stands in row 1, column 0.
/// let error = Labels::new(&[1, -1, 2, 0], 2, 2).unwrap_err();
/// assert!(matches!(error, MetricsError::LabelValue { image: 1, label: 0, value: 2 }));
/// assert_eq!(
///     error.to_string(),
///     "the label of image 1 (row), label 0 (column) is 2: \
///      use 1 (positive), -1 (negative) or 0 (unknown)"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The table has no rows or no columns.
    #[error("the {what} table is {images} images x {labels} labels: give at least one of each")]
    Empty {
        /// `scores` or `labels`.
        what: &'static str,
        /// Rows stated.
        images: usize,
        /// Columns stated.
        labels: usize,
    },
    /// The length of a table does not fit its stated shape.
    #[error(
        "the {what} table holds {found} values, but {images} images x {labels} labels were stated: check its shape"
    )]
    Length {
        /// `scores` or `labels`.
        what: &'static str,
        /// Rows stated.
        images: usize,
        /// Columns stated.
        labels: usize,
        /// Values present.
        found: usize,
    },
    /// More rows or columns than a ranking can number.
    #[error(
        "the {what} table is {images} images x {labels} labels, and at most {limit} of each can be ranked: evaluate a part"
    )]
    TooLarge {
        /// `scores` or `labels`.
        what: &'static str,
        /// Rows stated.
        images: usize,
        /// Columns stated.
        labels: usize,
        /// The most that can be ranked.
        limit: usize,
    },
    /// A score is NaN or infinite, so it cannot be ranked.
    #[error(
        "the score of image {image} (row), label {label} (column) is {value}: scores must be finite"
    )]
    NotFinite {
        /// Row of the score.
        image: usize,
        /// Column of the score.
        label: usize,
        /// The score.
        value: f32,
    },
    /// A label is not one of +1, -1 and 0.
    #[error(
        "the label of image {image} (row), label {label} (column) is {value}: use 1 (positive), -1 (negative) or 0 (unknown)"
    )]
    LabelValue {
        /// Row of the value.
        image: usize,
        /// Column of the value.
        label: usize,
        /// The value.
        value: i8,
    },
    /// Scores and labels differ in shape.
    #[error(
        "scores are {scores_images} images x {scores_labels} labels, labels are {labels_images} x {labels_labels}: both must list the same images and labels in the same order"
    )]
    ShapesDiffer {
        /// Rows of the scores.
        scores_images: usize,
        /// Columns of the scores.
        scores_labels: usize,
        /// Rows of the labels.
        labels_images: usize,
        /// Columns of the labels.
        labels_labels: usize,
    },
    /// A [`Table`](crate::Table) could not read a block.
    #[error("the scores and labels could not be read: {reason}")]
    Read {
        /// The cause.
        reason: String,
    },
    /// The caller has broken off, see [`Stoppable`](crate::Stoppable).
    #[error("the figures were stopped: the same call begins them anew")]
    Stopped,
    /// The list of columns to evaluate is empty.
    #[error("no column was chosen for evaluation: name at least one label")]
    NoColumns,
    /// A column to evaluate does not exist.
    #[error("column {column} was chosen, but there are only {labels} labels (the first is 0)")]
    ColumnOutOfRange {
        /// The column requested.
        column: usize,
        /// Columns of the table.
        labels: usize,
    },
    /// A column to evaluate is listed twice.
    #[error("column {column} was chosen twice: choose each label once")]
    ColumnTwice {
        /// The column.
        column: usize,
    },
    /// The list of K is not strictly ascending from 1.
    #[error("the list of K is {ks:?}: give numbers of at least 1 in ascending order, each once")]
    BadKs {
        /// The list.
        ks: Vec<usize>,
    },
    /// A K exceeds the number of labels evaluated.
    #[error("K = {k} is more than the {labels} labels evaluated: choose a smaller K")]
    KTooLarge {
        /// The K.
        k: usize,
        /// Number of labels evaluated.
        labels: usize,
    },
    /// All labels or none are seen, so that one side of the split is empty.
    #[error(
        "{seen} of {labels} labels are seen: seen and unseen figures need at least one label on each side"
    )]
    BadSplit {
        /// Seen labels.
        seen: usize,
        /// All labels.
        labels: usize,
    },
    /// No image is positive for any evaluated label, so no metric is defined.
    #[error(
        "none of the {images} images is positive for any of the {labels} labels evaluated: check that labels and scores list the same images and labels"
    )]
    NoPositives {
        /// All images.
        images: usize,
        /// Labels evaluated.
        labels: usize,
    },
    /// A label has no positive image, which is an error under [`EmptyLabel::Error`](crate::EmptyLabel::Error).
    #[error(
        "column {column} has no positive among the images kept, and protocol {protocol:?} makes that an error: leave the label out or choose another protocol"
    )]
    LabelWithoutPositives {
        /// Column of the label.
        column: usize,
        /// Name of the protocol.
        protocol: String,
    },
    /// No [`Average`](crate::Average) has this name.
    #[error("there is no average {name:?}: choose one of micro, macro, weighted, none")]
    UnknownAverage {
        /// The name.
        name: String,
    },
    /// A threshold is no probability.
    #[error("the threshold is {value}: give a probability, between 0 and 1")]
    Threshold {
        /// The threshold.
        value: f64,
    },
    /// The list of thresholds is empty.
    #[error("no threshold was given: give at least one, between 0 and 1")]
    NoThresholds,
    /// More thresholds than are counted at once.
    #[error(
        "{thresholds} thresholds of {labels} labels are more than the {limit} that are counted at once: give fewer"
    )]
    TooManyThresholds {
        /// Thresholds given.
        thresholds: usize,
        /// Columns of the table.
        labels: usize,
        /// The most of all labels together.
        limit: usize,
    },
    /// No published protocol has this name.
    #[error("there is no protocol {name:?}: choose one of {}", known.join(", "))]
    UnknownProtocol {
        /// The name requested.
        name: String,
        /// The names of the published protocols.
        known: &'static [&'static str],
    },
    /// A user-defined protocol cannot have this name.
    #[error("a protocol cannot be named {name:?}: {reason}")]
    ProtocolName {
        /// The name.
        name: String,
        /// The cause.
        reason: &'static str,
    },
    /// Too few bootstrap resamples for a standard error.
    #[error(
        "{resamples} usable bootstrap resamples give no standard error: ask for more, at least 2"
    )]
    TooFewResamples {
        /// Number requested, or number left after those without any positive.
        resamples: usize,
    },
    /// The draws of the resamples do not fit in memory.
    #[error(
        "{resamples} bootstrap resamples of {images} images do not fit in memory: ask for fewer"
    )]
    TooManyResamples {
        /// Images that the protocol keeps.
        images: usize,
        /// Number requested.
        resamples: usize,
    },
    /// Rows to compare were not resampled alike, or not over the same images and labels.
    #[error("row {row} cannot be compared with row {reference}: they differ in {what}")]
    NotPaired {
        /// The row, counted from 0.
        row: usize,
        /// The row that it was to be compared with.
        reference: usize,
        /// What differs.
        what: &'static str,
    },
    /// One part of a split evaluation failed.
    #[error("{split} figures: {reason}")]
    InSplit {
        /// `ZSL`, `seen` or `GZSL`.
        split: &'static str,
        /// The cause.
        reason: Box<MetricsError>,
    },
}
