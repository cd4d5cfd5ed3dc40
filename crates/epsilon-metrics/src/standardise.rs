//! Scores that compare across images.

/// Brings the scores of every image to mean 0 and standard deviation 1 over its labels, in place. `scores` are row-major,
/// `labels` values an image; an image whose scores are all equal gets zeros.
///
/// A loss that ranks the labels of one image leaves the level and the spread of an image's scores free, and the average
/// precision of a label compares images. The order of an image's labels stays as it was.
///
/// # Panics
/// When `scores` is no multiple of `labels`.
///
/// ```
/// let mut scores = [1.0, 3.0, 5.0, 5.0];
/// epsilon_metrics::standardise(&mut scores, 2);
/// assert_eq!(scores, [-1.0, 1.0, 0.0, 0.0]);
/// ```
pub fn standardise(scores: &mut [f32], labels: usize) {
    assert!(labels > 0 && scores.len().is_multiple_of(labels));
    for row in scores.chunks_exact_mut(labels) {
        let count = labels as f64;
        let mean = row.iter().map(|&s| f64::from(s)).sum::<f64>() / count;
        let squares = row.iter().map(|&s| (f64::from(s) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        // The difference of equal scores is 0, whatever it is divided by.
        let scale = if deviation > 0.0 {
            1.0 / deviation
        } else {
            1.0
        };
        row.iter_mut()
            .for_each(|s| *s = ((f64::from(*s) - mean) * scale) as f32);
    }
}
