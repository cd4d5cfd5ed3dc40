//! One image in the ranking of one label, packed into an integer whose ascending order is the ranking.

use crate::score::{DIGIT, Key, Packed, Rankable};
use crate::table::Table;

/// What an [`Entry`] of a table is made of.
pub(crate) type PackedOf<T> = <<T as Table>::Score as Rankable>::Packed;

/// An image in a label's ranking as one integer, so that ranking is sorting integers. From the highest bit: the order of the
/// score; 30 bits of the image index; 2 bits of the label + 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry<P>(P);

impl<P: Packed> Entry<P> {
    /// `image` is below 2^30 and `label` in -1..=1; the checks of the tables ensure both.
    pub(crate) fn new<S: Rankable<Packed = P>>(image: usize, score: S, label: i8) -> Self {
        Self(score.pack((image as u32) << 2 | u32::from(label.wrapping_add(1).cast_unsigned())))
    }

    /// Index of the image.
    pub(crate) fn image(self) -> usize {
        (self.0.low() >> 2) as usize
    }

    /// A copy of the entry with another image index, below 2^30.
    pub(crate) fn with_image(self, image: u32) -> Self {
        Self(self.0.with_low(self.0.low() & 3 | image << 2))
    }

    pub(crate) fn is_positive(self) -> bool {
        self.0.low() & 3 == 2
    }

    pub(crate) fn is_unknown(self) -> bool {
        self.0.low() & 3 == 1
    }

    /// The order of the score: a higher score gives a smaller number.
    pub(crate) fn order(self) -> u64 {
        self.0.order()
    }
}

impl<P: Packed> Key for Entry<P> {
    const DIGITS: usize = P::DIGITS;

    fn digit(self, digit: usize) -> usize {
        // Below 64, so no shift needs a check.
        self.order().wrapping_shr(digit.wrapping_mul(DIGIT) as u32) as usize & ((1 << DIGIT) - 1)
    }
}
