//! Standardises the scores of each image, so that scores of different images are comparable.

/// Standardises the scores of every image, in place, to mean 0 and population standard deviation 1 over its labels.
/// `scores` is row-major [images, labels]; an image whose scores are all equal gets zeros.
///
/// A loss that ranks the labels within an image determines neither location nor scale of the image's scores, while the
/// average precision of a label compares images. The ranking of the labels of an image does not change.
///
/// # Panics
/// If `labels` is 0 or the length of `scores` is not a multiple of it.
///
/// ```
/// // Image 0 has mean 2 and standard deviation 1, image 1 equal scores.
/// let mut scores = [1.0, 3.0, 5.0, 5.0];
/// epsilon_metrics::standardise(&mut scores, 2);
/// assert_eq!(scores, [-1.0, 1.0, 0.0, 0.0]);
/// ```
pub fn standardise(scores: &mut [f32], labels: usize) {
    assert!(labels > 0 && scores.len().is_multiple_of(labels));
    for row in scores.chunks_exact_mut(labels) {
        let standard = Standard::of(row);
        row.iter_mut().for_each(|s| *s = standard.score(*s) as f32);
    }
}

/// Mean and standard deviation of the scores of one image, to standardise these and other scores by.
///
/// ```
/// use epsilon_metrics::Standard;
///
/// // Mean 2, population standard deviation 1.
/// let standard = Standard::of(&[1.0, 3.0]);
/// assert_eq!([1.0, 3.0, 7.0].map(|s| standard.score(s)), [-1.0, 1.0, 5.0]);
/// // Nothing to divide by: 0 for every score.
/// assert_eq!(Standard::of(&[5.0, 5.0]).score(7.0), 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standard {
    mean: f64,
    /// 1 / standard deviation, 0 if that is 0.
    scale: f64,
}

impl Standard {
    /// The mean and population standard deviation of these scores.
    pub fn of(scores: &[f32]) -> Self {
        let count = scores.len() as f64;
        let mean = scores.iter().map(|&s| f64::from(s)).sum::<f64>() / count;
        let squares = scores.iter().map(|&s| (f64::from(s) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        let scale = if deviation > 0.0 {
            1.0 / deviation
        } else {
            0.0
        };
        Self { mean, scale }
    }

    /// The standardised score, (score - mean) / standard deviation; 0 if all scores were equal.
    pub fn score(self, score: f32) -> f64 {
        (f64::from(score) - self.mean) * self.scale
    }
}
