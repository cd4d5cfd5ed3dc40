//! How the figures of the labels of a table become one.

use std::str::FromStr;

use crate::error::MetricsError;

/// How figures of labels become one, by the names that scikit-learn and torchmetrics use.
///
/// ```rust
/// use epsilon_metrics::Average;
///
/// assert_eq!("weighted".parse::<Average>()?, Average::Weighted);
/// let error = "samples".parse::<Average>().unwrap_err();
/// assert!(error.to_string().contains("micro, macro, weighted, none"));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Average {
    /// All pairs of an image and a label are one label.
    Micro,
    /// The plain mean of the labels' figures.
    Macro,
    /// The mean of the labels' figures weighted by their positives; 0 where no label has any.
    Weighted,
    /// The figure of each label.
    None,
}

impl FromStr for Average {
    type Err = MetricsError;

    fn from_str(name: &str) -> Result<Self, MetricsError> {
        match name {
            "micro" => Ok(Self::Micro),
            "macro" => Ok(Self::Macro),
            "weighted" => Ok(Self::Weighted),
            "none" => Ok(Self::None),
            _ => Err(MetricsError::UnknownAverage { name: name.into() }),
        }
    }
}

/// A figure of all labels, or one of each.
///
/// ```rust
/// use epsilon_metrics::{Average, Figure, InMemory, Labels, Scores, multilabel_average_precision};
///
/// // Label 0 ranks perfectly; the positive of label 1 ranks second.
/// let scores = Scores::new(&[0.9, 0.7, 0.2, 0.3], 2, 2)?;
/// let table = InMemory::new(scores, Labels::new(&[1, -1, -1, 1], 2, 2)?)?;
/// let of = |average| multilabel_average_precision(&table, average);
/// assert_eq!(of(Average::Macro)?, Figure::One(0.75));
/// assert_eq!(of(Average::None)?, Figure::Each(vec![1.0, 0.5]));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// The average.
    One(f64),
    /// The figure of each label, in the order of the columns.
    Each(Vec<f64>),
}

impl Figure {
    /// Figures of labels with their weights. Under [`Average::Micro`] there is one label, and so nothing to average.
    pub(crate) fn of(values: Vec<f64>, weights: &[u64], average: Average) -> Self {
        let weight = |label: usize| match average {
            Average::Weighted => weights[label] as f64,
            _ => 1.0,
        };
        if average == Average::None {
            return Self::Each(values);
        }
        let total: f64 = (0..values.len()).map(weight).sum();
        let sum: f64 = values.iter().enumerate().map(|(l, v)| weight(l) * v).sum();
        Self::One(share(sum, total))
    }
}

/// `part / whole`, 0 where the whole is.
pub(crate) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
