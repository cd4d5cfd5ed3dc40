//! What can be wrong with scores, labels, columns or a protocol; every message says where and what
//! to do about it. Rows and columns are counted from 0.

use thiserror::Error;

/// An input that cannot be measured.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A table has no rows or no columns.
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
    /// A score is NaN or infinite, so it has no place in a ranking.
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
    /// A label is none of the three values.
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
    /// A [`Table`](crate::Table) could not give a block.
    #[error("the scores and labels could not be read: {reason}")]
    Read {
        /// Why not.
        reason: String,
    },
    /// No column is to be evaluated.
    #[error("no column was chosen for evaluation: name at least one label")]
    NoColumns,
    /// A chosen column does not exist.
    #[error("column {column} was chosen, but there are only {labels} labels (the first is 0)")]
    ColumnOutOfRange {
        /// The column asked for.
        column: usize,
        /// Columns present.
        labels: usize,
    },
    /// A column was chosen twice.
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
    /// Neither side of the split may be empty.
    #[error(
        "{seen} of {labels} labels are seen: seen and unseen figures need at least one label on each side"
    )]
    BadSplit {
        /// Seen labels stated.
        seen: usize,
        /// All labels.
        labels: usize,
    },
    /// No image is positive for any evaluated label, so nothing can be measured.
    #[error(
        "none of the {images} images is positive for any of the {labels} labels evaluated: check that labels and scores list the same images and labels"
    )]
    NoPositives {
        /// All images.
        images: usize,
        /// Labels evaluated.
        labels: usize,
    },
    /// A label has no positive image and the protocol forbids that.
    #[error(
        "column {column} has no positive among the images kept, and protocol {protocol:?} makes that an error: leave the label out or choose another protocol"
    )]
    LabelWithoutPositives {
        /// Column of the label.
        column: usize,
        /// Name of the protocol.
        protocol: String,
    },
    /// A named protocol does not exist.
    #[error("there is no protocol {name:?}: choose one of {}", known.join(", "))]
    UnknownProtocol {
        /// The name asked for.
        name: String,
        /// The names of the published protocols.
        known: &'static [&'static str],
    },
    /// A protocol of one's own has an unusable name.
    #[error("a protocol cannot be named {name:?}: {reason}")]
    ProtocolName {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Too few bootstrap resamples for a standard error.
    #[error(
        "{resamples} usable bootstrap resamples give no standard error: ask for more, at least 2"
    )]
    TooFewResamples {
        /// Number asked for, or left after those without a positive.
        resamples: usize,
    },
    /// The draws of the resamples do not fit in memory.
    #[error(
        "{resamples} bootstrap resamples of {images} images do not fit in memory: ask for fewer"
    )]
    TooManyResamples {
        /// Images that the protocol keeps.
        images: usize,
        /// Number asked for.
        resamples: usize,
    },
    /// What went wrong in one of the figures of a split evaluation.
    #[error("{split} figures: {reason}")]
    InSplit {
        /// `ZSL`, `seen` or `GZSL`.
        split: &'static str,
        /// The error.
        reason: Box<MetricsError>,
    },
}
