//! The micro-averaged precision-recall curve.

/// Points `(recall, precision)` of the micro-averaged precision-recall curve: the score threshold falls over all pairs of
/// an image and a label together.
///
/// `scores` and `labels` have the same length and order, whatever its shape. Labels are +1 (positive), -1 (negative) or
/// 0 (unknown, left out). Pairs with equal scores pass the threshold together. Both coordinates are fractions. At most
/// `points` points are returned, about evenly spaced in recall, the last at recall 1; none when no pair is positive.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use epsilon_metrics::precision_recall;
///
/// // Ranked: positive, negative, positive; the unknown pair is left out.
/// let curve = precision_recall(&[0.9, 0.8, 0.7, 0.1], &[1, -1, 1, 0], 10);
/// assert_eq!(curve, [(0.5, 1.0), (0.5, 0.5), (1.0, 2.0 / 3.0)]);
///
/// assert!(precision_recall(&[0.9, 0.8], &[-1, 0], 10).is_empty());
/// ```
pub fn precision_recall(scores: &[f32], labels: &[i8], points: usize) -> Vec<(f64, f64)> {
    assert_eq!(scores.len(), labels.len());
    let pairs = scores.iter().zip(labels).filter(|(_, label)| **label != 0);
    let mut pairs: Vec<(f32, bool)> = pairs.map(|(&score, &label)| (score, label > 0)).collect();
    pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let all = pairs.iter().filter(|(_, positive)| *positive).count() as f64;
    let mut found = 0.0;
    let mut curve = Vec::new();
    for (place, &(score, positive)) in pairs.iter().enumerate() {
        found += f64::from(u8::from(positive));
        let ends = pairs.get(place + 1).is_none_or(|next| next.0 < score);
        if ends && found > 0.0 {
            curve.push((found / all, found / (place + 1) as f64));
        }
        if found == all {
            // Past full recall only precision falls.
            if ends || all == 0.0 {
                break;
            }
        }
    }
    thin(curve, points)
}

/// Keeps at most `points` points, about evenly spaced in recall, and always the last.
fn thin(curve: Vec<(f64, f64)>, points: usize) -> Vec<(f64, f64)> {
    let Some(&(full, _)) = curve.last() else {
        return curve;
    };
    let step = full / points.max(1) as f64;
    let mut kept: Vec<(f64, f64)> = Vec::new();
    // From the end, so that the last one stays.
    for &point in curve.iter().rev() {
        if kept.last().is_none_or(|next| next.0 - point.0 >= step) || curve.len() <= points {
            kept.push(point);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_count_together_and_long_curves_are_thinned() {
        let curve = precision_recall(&[1.0, 1.0, 0.5, 0.4], &[1, -1, -1, 1], 10);
        assert_eq!(curve, [(0.5, 0.5), (0.5, 1.0 / 3.0), (1.0, 0.5)]);
        assert!(precision_recall(&[0.1, 0.2], &[-1, 0], 10).is_empty());
        let scores: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let labels: Vec<i8> = (0..1000).map(|i| if i % 2 == 0 { 1 } else { -1 }).collect();
        let curve = precision_recall(&scores, &labels, 50);
        assert!(curve.len() <= 50 && curve.last().unwrap().0 == 1.0);
    }
}
