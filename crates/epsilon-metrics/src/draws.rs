//! Draws of images with replacement, and the average precision of a ranking in each of them: the ranking is sorted once and
//! reweighted.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::entry::Entry;
use crate::error::MetricsError;
use crate::protocol::{Counts, Ties};
use crate::score::Packed;

/// Resamples whose counts of one image are adjacent: two cache lines, and sums that fit in the registers of any processor.
const LANES: usize = 128;

/// Number of times each image was drawn, [resamples / 128, images, 128]; resamples after the last one draw nothing.
///
/// A ranking reads the counts in an order of its own, so that the time of a bootstrap is the memory's. So a count is a byte: it
/// has a mean of 1, and is above 255 with a chance below 1e-500. And whole cache lines are read, of as little memory as one pass
/// needs.
pub(crate) struct Draws {
    counts: Vec<[u8; LANES]>,
    images: usize,
    resamples: usize,
    /// Images whose counts have sums that fit in a byte, whichever they are; at least 1.
    images_in_a_byte: usize,
}

impl Draws {
    /// Draws of different streams are independent. `ask` says before each resample whether to go on.
    pub(crate) fn new(
        images: usize,
        resamples: usize,
        seed: u64,
        stream: u64,
        ask: impl Fn() -> Result<(), MetricsError>,
    ) -> Result<Self, MetricsError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let too_many = || MetricsError::TooManyResamples { images, resamples };
        let rows = resamples.div_ceil(LANES).checked_mul(images);
        let rows = rows.ok_or_else(too_many)?;
        let mut counts = Vec::new();
        counts.try_reserve_exact(rows).map_err(|_| too_many())?;
        counts.resize(rows, [0_u8; LANES]);
        let mut drawn = vec![0_u8; images];
        let mut most = 1;
        for resample in 0..resamples {
            ask()?;
            drawn.fill(0);
            for _ in 0..images {
                let count = &mut drawn[rng.random_range(0..images)];
                *count = count.saturating_add(1);
                most = most.max(*count);
            }
            let first = resample / LANES * images;
            for (row, &count) in counts[first..first + images].iter_mut().zip(&drawn) {
                row[resample % LANES] = count;
            }
        }
        Ok(Self {
            counts,
            images,
            resamples,
            images_in_a_byte: usize::from(u8::MAX / most),
        })
    }

    pub(crate) fn resamples(&self) -> usize {
        self.resamples
    }

    /// How often one image was drawn in a resample.
    pub(crate) fn of(&self, image: usize, resample: usize) -> usize {
        let row = resample / LANES * self.images + image;
        usize::from(self.counts[row][resample % LANES])
    }

    /// Adds the counts of `images` to `totals`, one for each resample of a block of [`LANES`].
    fn add(&self, block: usize, images: &[u32], totals: &mut [u32; LANES]) {
        let rows = &self.counts[block * self.images..][..self.images];
        for images in images.chunks(self.images_in_a_byte) {
            // Neither these sums overflow, by the size of the chunk, nor those of all images, which are as many as were drawn: a
            // checked addition is not made for many numbers at once.
            let mut sums = [0_u8; LANES];
            for &image in images {
                for (sum, &count) in sums.iter_mut().zip(&rows[image as usize]) {
                    *sum = sum.wrapping_add(count);
                }
            }
            for (total, &sum) in totals.iter_mut().zip(&sums) {
                *total = total.wrapping_add(u32::from(sum));
            }
        }
    }
}

/// What a resampled AP needs of a ranking.
struct Ranking {
    /// Images in the order of their ranks.
    images: Vec<u32>,
    positives: Vec<u32>,
    /// Of each run of images that share a rank, positives among them: where it ends in `images`, and where in `positives`.
    ends: Vec<(usize, usize)>,
}

impl Ranking {
    fn new<P: Packed>(entries: &[Entry<P>], ties: Ties) -> Self {
        let image = |entry: &Entry<P>| entry.image() as u32;
        let mut ranking = Self {
            images: entries.iter().map(image).collect(),
            positives: Vec::new(),
            ends: Vec::new(),
        };
        let mut end = 0;
        for run in entries.chunk_by(|a, b| ties == Ties::Grouped && a.order() == b.order()) {
            end += run.len();
            let before = ranking.positives.len();
            let positives = run.iter().filter(|entry| entry.is_positive());
            ranking.positives.extend(positives.map(image));
            if ranking.positives.len() > before {
                ranking.ends.push((end, ranking.positives.len()));
            }
        }
        ranking
    }

    /// AP (`None` where no positive was drawn) and counts in the resamples of one block: the running counts of
    /// `Measured::new`, one of each per resample.
    fn figures(&self, draws: &Draws, block: usize) -> impl Iterator<Item = Figure> {
        let (mut ranked, mut found, mut sums) = ([0; LANES], [0_u32; LANES], [0.0; LANES]);
        let (mut start, mut first) = (0, 0);
        for &(end, last) in &self.ends {
            draws.add(block, &self.images[start..end], &mut ranked);
            let mut positives = [0; LANES];
            draws.add(block, &self.positives[first..last], &mut positives);
            (start, first) = (end, last);
            for lane in 0..LANES {
                found[lane] = found[lane].wrapping_add(positives[lane]);
                // Where nothing was drawn yet the sum gains 0 / 1.
                sums[lane] += f64::from(positives[lane]) * f64::from(found[lane])
                    / f64::from(ranked[lane].max(1));
            }
        }
        draws.add(block, &self.images[start..], &mut ranked);
        (0..LANES).map(move |lane| {
            let ap = (found[lane] > 0).then(|| sums[lane] / f64::from(found[lane]));
            let counts = Counts {
                annotated: ranked[lane],
                positives: found[lane],
            };
            (ap, counts)
        })
    }
}

/// AP, `None` where it is left out, and counts of one label in one resample.
pub(crate) type Figure = (Option<f64>, Counts);

/// The figures of one ranking in each resample.
pub(crate) fn resampled<P: Packed>(entries: &[Entry<P>], ties: Ties, draws: &Draws) -> Vec<Figure> {
    let ranking = Ranking::new(entries, ties);
    let blocks = 0..draws.resamples.div_ceil(LANES);
    let figures = blocks.flat_map(|block| ranking.figures(draws, block));
    figures.take(draws.resamples).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::average_precision::average_precision;

    #[test]
    fn reweighting_equals_copying_images() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let scores: Vec<f32> = (0..40).map(|_| rng.random_range(0..20) as f32).collect();
        let labels: Vec<i8> = (0..40)
            .map(|_| [1, -1, -1, 0][rng.random_range(0..4)])
            .collect();
        let draws = Draws::new(40, 25, 3, 0, || Ok(())).unwrap();
        let known = (0..40).filter(|&i| labels[i] != 0);
        let mut entries: Vec<Entry<u64>> = known
            .map(|image| Entry::new(image, scores[image], labels[image]))
            .collect();
        entries.sort_unstable();
        let figures = resampled(&entries, Ties::Grouped, &draws);
        for (resample, (ap, counts)) in figures.into_iter().enumerate() {
            let copies: Vec<usize> = (0..40)
                .flat_map(|i| std::iter::repeat_n(i, draws.of(i, resample)))
                .collect();
            assert_eq!(copies.len(), 40);
            let s: Vec<f32> = copies.iter().map(|&i| scores[i]).collect();
            let l: Vec<i8> = copies.iter().map(|&i| labels[i]).collect();
            let expected = average_precision(&s, &l, Ties::Grouped).unwrap().unwrap();
            assert!((ap.unwrap() - expected).abs() < 1e-12);
            let of = |values: &[i8]| l.iter().filter(|l| values.contains(l)).count() as u32;
            assert_eq!(
                (counts.annotated, counts.positives),
                (of(&[1, -1]), of(&[1]))
            );
        }
    }
}
