//! One image in the ranking of one label, packed into an integer whose order is the ranking's order.

/// An image in a label's ranking, as one number, so that ranking is sorting plain integers: the
/// score's bits turned so that better is smaller (32 bits), the image (30 bits), its label + 1 (2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u64);

impl Entry {
    /// `image` is below 2^30, which the tables' checks grant.
    pub(crate) fn new(image: usize, score: f32, label: i8) -> Self {
        let low = (image as u64) << 2 | (label + 1) as u64;
        Self(u64::from(descending(score)) << 32 | low)
    }

    /// The image.
    pub(crate) fn image(self) -> usize {
        (self.0 as u32 >> 2) as usize
    }

    /// The same entry as that of another image.
    pub(crate) fn with_image(self, image: usize) -> Self {
        Self(self.0 & !0xffff_fffc | (image as u64) << 2)
    }

    pub(crate) fn is_positive(self) -> bool {
        self.0 & 3 == 2
    }

    pub(crate) fn is_unknown(self) -> bool {
        self.0 & 3 == 1
    }

    /// The score, turned so that better is smaller.
    pub(crate) fn order(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Maps a finite score to an integer that is smaller the higher the score; -0 and 0 are equal.
pub(crate) fn descending(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    // Positive floats order as their bits; of negative ones all bits are turned round.
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
