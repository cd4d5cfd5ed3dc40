//! A request for the metrics of some columns of a table under one protocol.

use crate::error::MetricsError;
use crate::protocol::{Protocol, check_ks};

/// Metrics to compute of a table: the columns, the protocol, the K.
///
/// ```rust
/// use epsilon_metrics::{InMemory, Labels, Protocol, Request, Scores, evaluate_table};
///
/// // Label 0 ranks perfectly; the positive of label 1 ranks second.
/// let scores = Scores::new(&[0.9, 0.7, 0.2, 0.3], 2, 2)?;
/// let labels = Labels::new(&[1, -1, -1, 1], 2, 2)?;
/// let request = Request { columns: &[1], protocol: &Protocol::lesa_nus(), ks: &[] };
/// let evaluations = evaluate_table(&InMemory::new(scores, labels)?, &[request])?;
/// assert_eq!(evaluations[0].map, 0.5);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Columns to evaluate, each once, in any order. They are ranked only among themselves.
    pub columns: &'a [usize],
    /// The protocol.
    pub protocol: &'a Protocol,
    /// The K of the top K, strictly ascending, at most the number of columns; may be empty.
    pub ks: &'a [usize],
}

/// Checks a request against the number of labels of the table.
pub(crate) fn check_request(request: &Request<'_>, labels: usize) -> Result<(), MetricsError> {
    let Request { columns, ks, .. } = request;
    check_columns(columns, labels)?;
    check_ks(ks)?;
    match ks.last() {
        Some(&k) if k > columns.len() => Err(MetricsError::KTooLarge {
            k,
            labels: columns.len(),
        }),
        _ => Ok(()),
    }
}

/// Checks that there are columns, and each once.
pub(crate) fn check_columns(columns: &[usize], labels: usize) -> Result<(), MetricsError> {
    if columns.is_empty() {
        return Err(MetricsError::NoColumns);
    }
    let mut chosen = vec![false; labels];
    for &column in columns {
        match chosen.get_mut(column) {
            None => return Err(MetricsError::ColumnOutOfRange { column, labels }),
            Some(true) => return Err(MetricsError::ColumnTwice { column }),
            Some(seen) => *seen = true,
        }
    }
    Ok(())
}
