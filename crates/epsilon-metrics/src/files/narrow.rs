//! Converts f64 scores to f32 without changing any figure. Metrics of scores as they are depend on their order and their ties
//! alone; those of normalised scores, on what the normalisation keeps.

use rayon::prelude::*;

use super::error::FileError;
use super::frame::Frame;
use crate::standardise::{Normalisation, Standardise};

/// f32 values for what will be done to them.
pub(super) fn narrow(
    frame: &Frame,
    values: Vec<f64>,
    normalisation: Normalisation,
) -> Result<Vec<f32>, FileError> {
    if let Some(at) = values.par_iter().position_first(|value| !value.is_finite()) {
        return Err(not_finite(frame, &values, at));
    }
    match normalisation == Normalisation::default() {
        true => by_order(frame, values),
        false => Ok(by_distance(frame.labels, values, normalisation)),
    }
}

/// Values that a normalisation brings to the same figures, by what it takes from them itself: a scale of all scores, the mean of
/// each label, or location and scale of each image. Taken in f64, because what is left may be small beside it.
fn by_distance(labels: usize, mut values: Vec<f64>, normalisation: Normalisation) -> Vec<f32> {
    let size = |value: &f64| value.abs();
    let greatest = values.par_iter().map(size).reduce(|| 0.0, f64::max);
    let scale = power_of_two(greatest);
    values.par_iter_mut().for_each(|value| *value /= scale);
    if normalisation.centre_labels {
        centre(&mut values, labels);
    } else if normalisation.standardise != Standardise::None {
        values.par_chunks_exact_mut(labels).for_each(standardise);
    }
    values.into_par_iter().map(|value| value as f32).collect()
}

/// The greatest power of two up to a positive number, by which division is exact; at least the least normal number.
fn power_of_two(number: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff << 52;
    f64::from_bits(number.to_bits() & EXPONENT).max(f64::MIN_POSITIVE)
}

/// Takes from each column its mean.
fn centre(values: &mut [f64], labels: usize) {
    let mut means = vec![0.0; labels];
    let images = values.len() as f64 / labels as f64;
    for row in values.chunks_exact(labels) {
        let of_row = means.iter_mut().zip(row);
        of_row.for_each(|(mean, value)| *mean += value / images);
    }
    let take = |row: &mut [f64]| row.iter_mut().zip(&means).for_each(|(v, mean)| *v -= mean);
    values.par_chunks_exact_mut(labels).for_each(take);
}

/// Brings a row to mean 0 and deviation 1; one of equal values to zeros.
fn standardise(row: &mut [f64]) {
    let (first, count) = (row[0], row.len() as f64);
    // From the first value, so that equal ones have deviation 0 exactly.
    row.iter_mut().for_each(|value| *value -= first);
    let mean = row.iter().sum::<f64>() / count;
    row.iter_mut().for_each(|value| *value -= mean);
    let greatest = row
        .iter()
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    if greatest > 0.0 {
        row.iter_mut().for_each(|value| *value /= greatest);
        let squares: f64 = row.iter().map(|value| value * value).sum();
        let deviation = (squares / count).sqrt();
        row.iter_mut().for_each(|value| *value /= deviation);
    }
}

fn not_finite(frame: &Frame, values: &[f64], at: usize) -> FileError {
    FileError::NotFinite {
        path: frame.path.clone(),
        image: frame.row(at / frame.labels),
        label: frame.column(at % frame.labels),
        value: values[at],
    }
}

/// The values as f32 if f32 represents all of them exactly, otherwise f32 values with the same order and ties.
fn by_order(frame: &Frame, values: Vec<f64>) -> Result<Vec<f32>, FileError> {
    if values
        .par_iter()
        .all(|&value| f64::from(value as f32) == value)
    {
        return Ok(values.into_iter().map(|value| value as f32).collect());
    }
    if u32::try_from(values.len()).is_err() {
        return Err(FileError::Format {
            path: frame.path.clone(),
            problem: "is too large for double precision: save the scores as f32".into(),
        });
    }
    let mut sorted: Vec<(f64, u32)> = values.into_iter().zip(0..).collect();
    sorted.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranked = vec![0.0; sorted.len()];
    // The positive normal numbers: 2 130 706 432 values, in ascending order of their bits.
    let mut representable = f32::MIN_POSITIVE.to_bits()..=f32::MAX.to_bits();
    for run in sorted.chunk_by(|a, b| a.0 == b.0) {
        let Some(bits) = representable.next() else {
            return Err(FileError::Format {
                path: frame.path.clone(),
                problem: "has more distinct scores than f32 has: save the scores as f32".into(),
            });
        };
        run.iter()
            .for_each(|&(_, at)| ranked[at as usize] = f32::from_bits(bits));
    }
    Ok(ranked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Vec<f32> {
        let images = (0..values.len()).map(|i| i.to_string()).collect();
        let frame = Frame::named("x".as_ref(), images, vec!["only".into()]).unwrap();
        narrow(&frame, values.to_vec(), Normalisation::default()).unwrap()
    }

    #[test]
    fn what_is_taken_from_scores_leaves_what_is_small_beside_it() {
        let of = |values: &[f64], centre_labels, standardise| {
            let normalisation = Normalisation {
                centre_labels,
                standardise,
            };
            by_distance(2, values.to_vec(), normalisation)
        };
        // Columns of means 3 and 1e-200: f32 knows no difference in either.
        let step = 2.0_f64.powi(-40);
        let centred = of(&[3.0, 0.0, 3.0 + step, 2e-200], true, Standardise::None);
        assert_eq!(centred[0], -centred[2]);
        assert_eq!(centred[2], 2.0_f32.powi(-42));
        // Rows of all magnitudes, one of them equal.
        let rows = [1e308, -1e308, 1.0, 1.0 + step, 1e-320, 3e-320, 0.1, 0.1];
        let expected = [1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 0.0, 0.0];
        for standardise in [Standardise::Table, Standardise::Ranked] {
            let of_rows = of(&rows[..4], false, standardise);
            assert_eq!(of_rows, expected[..4]);
            let small = of(&rows[4..6], false, standardise);
            assert_eq!(small, expected[4..6]);
            assert_eq!(of(&rows[6..], false, standardise), expected[6..]);
        }
        assert_eq!(of(&[0.0; 4], true, Standardise::Table), [0.0; 4]);
    }

    #[test]
    fn what_fits_stays() {
        assert_eq!(of(&[0.5, -0.0, 3.0]), [0.5, 0.0, 3.0]);
    }

    proptest! {
        #[test]
        fn order_and_ties_stay(
            values in prop::collection::vec(
                prop_oneof![-1.0_f64..1.0, -1e300_f64..1e300, Just(0.1), Just(0.0), Just(-0.0)],
                1..80,
            )
        ) {
            let narrow = of(&values);
            for (a, b) in values.iter().zip(&narrow) {
                for (c, d) in values.iter().zip(&narrow) {
                    prop_assert!(b.is_finite());
                    prop_assert_eq!(a.partial_cmp(c), b.partial_cmp(d));
                }
            }
        }
    }
}
