//! One image in the ranking of one label, packed into an integer whose ascending order is the ranking.

/// An image in a label's ranking as one integer, so that ranking is sorting integers. From the highest bit: 32 bits of
/// the score, mapped by [`descending`]; 30 bits of the image index; 2 bits of the label + 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u64);

impl Entry {
    /// `image` is below 2^30 and `label` in -1..=1; the checks of the tables ensure both.
    pub(crate) fn new(image: usize, score: f32, label: i8) -> Self {
        let low = (image as u64) << 2 | label.wrapping_add(1) as u64;
        Self(u64::from(descending(score)) << 32 | low)
    }

    /// Index of the image.
    pub(crate) fn image(self) -> usize {
        (self.0 as u32 >> 2) as usize
    }

    /// A copy of the entry with another image index, below 2^30.
    pub(crate) fn with_image(self, image: usize) -> Self {
        Self(self.0 & !0xffff_fffc | (image as u64) << 2)
    }

    pub(crate) fn is_positive(self) -> bool {
        self.0 & 3 == 2
    }

    pub(crate) fn is_unknown(self) -> bool {
        self.0 & 3 == 1
    }

    /// The score mapped by [`descending`]: a higher score gives a smaller number.
    pub(crate) fn order(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Maps a finite score to an integer that decreases as the score increases; -0 and 0 map to the same integer.
pub(crate) fn descending(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    // The bits of positive floats are ordered as the floats are; those of negative floats are inverted.
    let ascending = if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    };
    !ascending
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(ordered.is_sorted_by(|a, b| descending(*a) < descending(*b)));
    }
}
