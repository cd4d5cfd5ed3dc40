//! Converts f64 scores to f32 without changing any metric: metrics depend only on the order of the scores and on which
//! are equal, so any f32 values with the same order and the same ties give the same metrics.

use rayon::prelude::*;

use super::error::FileError;
use super::frame::Frame;

/// The values rounded to f32. Neighbours may become ties.
pub(super) fn round(frame: &Frame, values: Vec<f64>) -> Result<Vec<f32>, FileError> {
    let rounded: Vec<f32> = values.par_iter().map(|&value| value as f32).collect();
    match rounded
        .par_iter()
        .position_first(|value| !value.is_finite())
    {
        Some(at) => Err(not_finite(frame, &values, at)),
        None => Ok(rounded),
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
pub(super) fn narrow(frame: &Frame, values: Vec<f64>) -> Result<Vec<f32>, FileError> {
    if let Some(at) = values.par_iter().position_first(|value| !value.is_finite()) {
        return Err(not_finite(frame, &values, at));
    }
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
        narrow(&frame, values.to_vec()).unwrap()
    }

    #[test]
    fn rounded_values_keep_their_distances() {
        let images = (0..3).map(|i| i.to_string()).collect();
        let frame = Frame::named("x".as_ref(), images, vec!["only".into()]).unwrap();
        assert_eq!(round(&frame, vec![0.1, 0.2, 9.3]).unwrap(), [0.1, 0.2, 9.3]);
        assert!(round(&frame, vec![0.1, 1e300, 0.0]).is_err());
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
