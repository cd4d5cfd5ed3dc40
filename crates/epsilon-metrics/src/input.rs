//! The inputs of every metric: scores and three-valued labels, borrowed, dense and row-major [images, labels], checked
//! once on construction.

use crate::error::MetricsError;
use crate::score::Score;

/// Most images or labels that can be ranked: an index in a ranking has 30 bits.
pub(crate) const LIMIT: usize = 1 << 30;

/// Scores of every label for every image, row-major [images, labels]. Finite, in any unit; a higher score ranks first.
///
/// ```rust
/// use epsilon_metrics::Scores;
///
/// let scores = Scores::new(&[0.9, 0.5, 0.1, 0.2, 0.8, 0.4], 2, 3)?;
/// assert_eq!((scores.images(), scores.labels()), (2, 3));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a, S = f32> {
    values: &'a [S],
    images: usize,
    labels: usize,
}

impl<'a, S: Score> Scores<'a, S> {
    /// Borrows `values`, row-major [images, labels].
    ///
    /// # Errors
    /// [`MetricsError::Empty`] without rows or columns, [`MetricsError::TooLarge`] above 2^30 rows or columns,
    /// [`MetricsError::Length`] for a length other than `images * labels`, [`MetricsError::NotFinite`] with row and
    /// column for a NaN or infinite score.
    ///
    /// ```rust
    /// use epsilon_metrics::{MetricsError, Scores};
    ///
    /// let error = Scores::new(&[0.9, 0.5, 0.1, 0.2, 0.8], 2, 3).unwrap_err();
    /// assert!(matches!(error, MetricsError::Length { images: 2, labels: 3, found: 5, .. }));
    ///
    /// let error = Scores::new(&[0.9, 0.5, f32::NAN, 0.2], 2, 2).unwrap_err();
    /// assert!(matches!(error, MetricsError::NotFinite { image: 1, label: 0, .. }));
    /// ```
    pub fn new(values: &'a [S], images: usize, labels: usize) -> Result<Self, MetricsError> {
        check_shape("scores", values.len(), images, labels)?;
        if let Some(at) = values.iter().position(|v| !v.finite()) {
            return Err(MetricsError::NotFinite {
                image: at / labels,
                label: at % labels,
                value: values[at].into() as f32,
            });
        }
        Ok(Self {
            values,
            images,
            labels,
        })
    }

    /// Number of images (rows).
    pub fn images(&self) -> usize {
        self.images
    }

    /// Number of labels (columns).
    pub fn labels(&self) -> usize {
        self.labels
    }

    pub(crate) fn row(&self, image: usize) -> &'a [S] {
        &self.values[image * self.labels..(image + 1) * self.labels]
    }
}

/// Annotations of every label for every image, row-major [images, labels]: +1 (positive), -1 (negative) or 0 (unknown).
///
/// ```rust
/// use epsilon_metrics::Labels;
///
/// let labels = Labels::new(&[1, -1, 0, -1, 1, 1], 3, 2)?;
/// assert_eq!((labels.images(), labels.labels()), (3, 2));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    values: &'a [i8],
    images: usize,
    labels: usize,
}

impl<'a> Labels<'a> {
    /// Borrows `values`, row-major [images, labels].
    ///
    /// # Errors
    /// [`MetricsError::Empty`] without rows or columns, [`MetricsError::TooLarge`] above 2^30 rows or columns,
    /// [`MetricsError::Length`] for a length other than `images * labels`, [`MetricsError::LabelValue`] with row and
    /// column for a value other than -1, 0 and 1.
    ///
    /// ```rust
    /// use epsilon_metrics::{Labels, MetricsError};
    ///
    /// let error = Labels::new(&[1, -1, 0, 3], 2, 2).unwrap_err();
    /// assert_eq!(error, MetricsError::LabelValue { image: 1, label: 1, value: 3 });
    /// ```
    pub fn new(values: &'a [i8], images: usize, labels: usize) -> Result<Self, MetricsError> {
        check_shape("labels", values.len(), images, labels)?;
        if let Some(at) = values.iter().position(|v| !(-1..=1).contains(v)) {
            return Err(MetricsError::LabelValue {
                image: at / labels,
                label: at % labels,
                value: values[at],
            });
        }
        Ok(Self {
            values,
            images,
            labels,
        })
    }

    /// Number of images (rows).
    pub fn images(&self) -> usize {
        self.images
    }

    /// Number of labels (columns).
    pub fn labels(&self) -> usize {
        self.labels
    }

    pub(crate) fn row(&self, image: usize) -> &'a [i8] {
        &self.values[image * self.labels..(image + 1) * self.labels]
    }
}

fn check_shape(
    what: &'static str,
    found: usize,
    images: usize,
    labels: usize,
) -> Result<(), MetricsError> {
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
    if images.checked_mul(labels) != Some(found) {
        return Err(MetricsError::Length {
            what,
            images,
            labels,
            found,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked() {
        assert!(matches!(
            Scores::<f32>::new(&[], 0, 3),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            Scores::new(&[0.0; 5], 2, 3),
            Err(MetricsError::Length { found: 5, .. })
        ));
        assert!(matches!(
            Labels::new(&[0; 5], 1 << 30, 1 << 30),
            Err(MetricsError::Length { .. })
        ));
        assert!(matches!(
            Labels::new(&[0; 5], usize::MAX, 1),
            Err(MetricsError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_bad_value_is_named_by_row_and_column() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Scores::new(&[0.0, 0.0, 0.0, 0.0, value, 0.0], 2, 3).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("image 1 (row), label 1 (column)"),
                "unexpected: {text}"
            );
        }
        let error = Labels::new(&[1, 0, -1, 2], 2, 2).unwrap_err();
        assert_eq!(
            error,
            MetricsError::LabelValue {
                image: 1,
                label: 1,
                value: 2
            }
        );
    }
}
