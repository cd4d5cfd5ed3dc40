//! The number types of scores, f32 and f64, and how their values become integers that are ranked.

use std::fmt::Debug;

/// A type of scores: `f32` or `f64`. Scores are ranked as they are, never rounded to another type. (Scores in f16 are read as
/// f32, which holds all of them.)
///
/// ```rust
/// use epsilon_metrics::{Ties, average_precision};
///
/// // In f32 these two would be equal, and share a rank.
/// let scores = [0.1, 0.1 + 1e-12];
/// assert_eq!(average_precision(&scores, &[-1, 1], Ties::Grouped)?, Some(1.0));
/// assert_eq!(average_precision(&scores.map(|s| s as f32), &[-1, 1], Ties::Grouped)?, Some(0.5));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub trait Score: Rankable {}

impl Score for f32 {}
impl Score for f64 {}

/// What a score is ranked by. Outside of what the crate exports, so that nothing else is a [`Score`].
pub trait Rankable:
    Copy + Debug + Default + PartialOrd + Into<f64> + Send + Sync + 'static
{
    /// An integer that decreases as the score increases; -0 and 0 have the same.
    type Order: Key;
    /// That integer with 32 bits below it.
    type Packed: Packed;

    fn order(self) -> Self::Order;
    /// The score of an order.
    fn of_order(order: Self::Order) -> Self;
    fn pack(self, low: u32) -> Self::Packed;
    /// The nearest value of this type.
    fn nearest(value: f64) -> Self;
    fn finite(self) -> bool;
}

/// An integer that a radix sort can take.
pub trait Key: Copy + Debug + Ord + Default + Send + Sync {
    const DIGITS: usize;

    fn digit(self, digit: usize) -> usize;
}

/// An order, and 32 bits of something else below it.
pub trait Packed: Copy + Debug + Ord + Default + Send + Sync {
    const DIGITS: usize;

    fn order(self) -> u64;
    fn low(self) -> u32;
    fn with_low(self, low: u32) -> Self;
}

/// Bits of a digit of the radix sort.
pub(crate) const DIGIT: usize = 11;

const fn digits(bits: u32) -> usize {
    (bits as usize).div_ceil(DIGIT)
}

macro_rules! score {
    ($float:ty, $order:ty, $signed:ty, $packed:ty) => {
        impl Rankable for $float {
            type Order = $order;
            type Packed = $packed;

            fn order(self) -> $order {
                let bits = (self + 0.0).to_bits();
                // The bits of positive floats are ordered as the floats are; those of negative floats are inverted. (The shift
                // copies the sign to all bits.)
                let sign = 1 << (<$order>::BITS - 1);
                let negative = (bits.cast_signed() >> (<$order>::BITS - 1)).cast_unsigned();
                !(bits ^ (negative | sign))
            }

            fn of_order(order: $order) -> Self {
                let ascending = !order;
                let sign = 1 << (<$order>::BITS - 1);
                let bits = if ascending & sign == 0 {
                    !ascending
                } else {
                    ascending ^ sign
                };
                Self::from_bits(bits)
            }

            fn pack(self, low: u32) -> $packed {
                <$packed>::from(self.order()) << 32 | <$packed>::from(low)
            }

            #[allow(clippy::cast_lossless, reason = "one of the two types loses nothing")]
            fn nearest(value: f64) -> Self {
                value as $float
            }

            fn finite(self) -> bool {
                self.is_finite()
            }
        }

        impl Key for $order {
            const DIGITS: usize = digits(<$order>::BITS);

            fn digit(self, digit: usize) -> usize {
                // Fewer bits than there are, so no shift needs a check.
                self.wrapping_shr(digit.wrapping_mul(DIGIT) as u32) as usize & ((1 << DIGIT) - 1)
            }
        }

        impl Packed for $packed {
            const DIGITS: usize = digits(<$order>::BITS);

            fn order(self) -> u64 {
                (self >> 32) as u64
            }

            fn low(self) -> u32 {
                self as u32
            }

            fn with_low(self, low: u32) -> Self {
                self >> 32 << 32 | Self::from(low)
            }
        }
    };
}

score!(f32, u32, i32, u64);
score!(f64, u64, i64, u128);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<S: Score>(ordered: &[S]) {
        assert!(ordered.is_sorted_by(|a, b| a.order() < b.order()));
        for &score in ordered {
            assert_eq!(S::of_order(score.order()), score);
            let packed = score.pack(u32::MAX);
            assert_eq!((packed.low(), packed.with_low(7).low()), (u32::MAX, 7));
            assert_eq!(packed.with_low(7).order(), packed.order());
        }
    }

    #[test]
    fn extremes_keep_their_order() {
        let ordered = [
            f32::MAX,
            1.0,
            f32::MIN_POSITIVE,
            1e-45,
            0.0,
            -1e-45,
            -1.0,
            f32::MIN,
        ];
        check(&ordered);
        check(&ordered.map(f64::from));
        check(&[f64::MAX, 0.1 + 1e-12, 0.1, 5e-324, 0.0, -5e-324, f64::MIN]);
        assert_eq!((-0.0_f32).order(), 0.0_f32.order());
        assert_eq!((-0.0_f64).order(), 0.0_f64.order());
    }
}
