//! Which figures of a table are computed: a set of columns, a protocol, and the K.

use crate::error::MetricsError;
use crate::protocol::{Protocol, check_ks};

/// One set of figures wanted of a table.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The labels, each column once, in any order. They compete only with each other.
    pub columns: &'a [usize],
    /// The rules.
    pub protocol: &'a Protocol,
    /// Top-K at each of these, ascending; may be empty.
    pub ks: &'a [usize],
}

/// Whether a request fits a table of so many labels.
pub(crate) fn check_request(request: &Request<'_>, labels: usize) -> Result<(), MetricsError> {
    let Request { columns, ks, .. } = request;
    if columns.is_empty() {
        return Err(MetricsError::NoColumns);
    }
    let mut chosen = vec![false; labels];
    for &column in *columns {
        match chosen.get_mut(column) {
            None => return Err(MetricsError::ColumnOutOfRange { column, labels }),
            Some(true) => return Err(MetricsError::ColumnTwice { column }),
            Some(seen) => *seen = true,
        }
    }
    check_ks(ks)?;
    match ks.last() {
        Some(&k) if k > columns.len() => Err(MetricsError::KTooLarge {
            k,
            labels: columns.len(),
        }),
        _ => Ok(()),
    }
}
