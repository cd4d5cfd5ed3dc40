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
        let count = labels as f64;
        let mean = row.iter().map(|&s| f64::from(s)).sum::<f64>() / count;
        let squares = row.iter().map(|&s| (f64::from(s) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        // Equal scores differ from their mean by 0, whatever the scale.
        let scale = if deviation > 0.0 {
            1.0 / deviation
        } else {
            1.0
        };
        row.iter_mut()
            .for_each(|s| *s = ((f64::from(*s) - mean) * scale) as f32);
    }
}
