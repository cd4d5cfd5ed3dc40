//! Matrices laid out for the products: panels of 32 columns side by side, row by row along the summed dimension.

use std::ops::Range;

/// Columns of a panel: two AVX-512 registers, four of AVX.
pub(crate) const PANEL: usize = 32;

/// Steps that are filled column by column at once, so that a long panel's part stays in L1.
const STEPS: usize = 64;

/// One row of a panel, on a cache line's boundary.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(crate) struct Step<W>(pub [W; PANEL]);

/// A matrix `[steps, columns]` of words, one f32 or several shorter values that follow each other along the summed
/// dimension; the last panel is filled up with zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels<W> {
    steps: usize,
    columns: usize,
    rows: Vec<Step<W>>,
}

/// The columns of a panel, at most `width` at a time, each with its first one's place in the panel.
#[inline(always)]
pub(crate) fn parts(
    columns: Range<usize>,
    width: usize,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..columns.len()).step_by(width).map(move |first| {
        let start = columns.start + first;
        (first, start..columns.end.min(start + width))
    })
}

impl<W> Panels<W> {
    /// Nothing, to be filled.
    pub(crate) const EMPTY: Self = Self {
        steps: 0,
        columns: 0,
        rows: Vec::new(),
    };
}

impl<W: Copy + Default> Panels<W> {
    /// Words along the summed dimension.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// Columns of the matrix.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The panels with the columns they hold.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[Step<W>])> {
        (0..self.columns).step_by(PANEL).map(|first| {
            let rows = &self.rows[first / PANEL * self.steps..][..self.steps];
            (first..self.columns.min(first + PANEL), rows)
        })
    }

    /// All words: word `s` of column `c` stands at `(c / 32 * steps + s) * 32 + c % 32`.
    pub(crate) fn words(&self) -> &[W] {
        let rows = &self.rows[..self.steps * self.columns.div_ceil(PANEL)];
        const { assert!(size_of::<Step<W>>() == PANEL * size_of::<W>()) };
        // SAFETY: a `Step` is 32 words and, as was just asserted, nothing more; all of them are initialised.
        unsafe { std::slice::from_raw_parts(rows.as_ptr().cast(), rows.len() * PANEL) }
    }

    /// Replaces the content row by row: `row` writes the words of a step's given columns.
    pub(crate) fn fill_rows(
        &mut self,
        steps: usize,
        columns: usize,
        row: impl Fn(usize, Range<usize>, &mut [W]),
    ) {
        self.shape(steps, columns);
        for first in (0..columns).step_by(PANEL) {
            let panel = &mut self.rows[first / PANEL * steps..][..steps];
            let range = first..columns.min(first + PANEL);
            for (step, words) in panel.iter_mut().enumerate() {
                row(step, range.clone(), &mut words.0[..range.len()]);
            }
        }
    }

    /// Replaces the content column by column: `column` gives the words of a column at the given steps.
    pub(crate) fn fill_columns<I: Iterator<Item = W>>(
        &mut self,
        steps: usize,
        columns: usize,
        column: impl Fn(usize, Range<usize>) -> I,
    ) {
        self.shape(steps, columns);
        for first in (0..columns).step_by(PANEL) {
            let panel = &mut self.rows[first / PANEL * steps..][..steps];
            for (part, start) in panel.chunks_mut(STEPS).zip((0..).step_by(STEPS)) {
                let range = start..start + part.len();
                for place in 0..PANEL.min(columns - first) {
                    for (row, word) in part.iter_mut().zip(column(first + place, range.clone())) {
                        row.0[place] = word;
                    }
                }
            }
        }
    }

    /// The panels to be filled, in parallel perhaps, each with the columns it will hold.
    pub(crate) fn panels_mut(
        &mut self,
        steps: usize,
        columns: usize,
    ) -> impl Iterator<Item = (Range<usize>, &mut [Step<W>])> {
        self.shape(steps, columns);
        let panels = self.rows.chunks_mut(steps.max(1));
        (0..columns)
            .step_by(PANEL)
            .map(move |first| first..columns.min(first + PANEL))
            .zip(panels)
    }

    fn shape(&mut self, steps: usize, columns: usize) {
        self.steps = steps;
        self.columns = columns;
        let rows = steps.checked_mul(columns.div_ceil(PANEL));
        let rows = rows.expect("a matrix that fits in memory");
        // What is there stays: all words are written, but those of columns that the last panel has to spare.
        if rows > self.rows.len() {
            self.rows.resize(rows, Step([W::default(); PANEL]));
        }
        let spare = columns % PANEL;
        if spare > 0 {
            for step in &mut self.rows[rows - steps..rows] {
                step.0[spare..].fill(W::default());
            }
        }
    }
}

/// The words of some steps, one step's after the other's.
pub(crate) fn words_mut<W>(steps: &mut [Step<W>]) -> &mut [W] {
    const { assert!(size_of::<Step<W>>() == PANEL * size_of::<W>()) };
    // SAFETY: a `Step` is 32 words and, as was just asserted, nothing more; the slice is borrowed as long as the result.
    unsafe { std::slice::from_raw_parts_mut(steps.as_mut_ptr().cast(), steps.len() * PANEL) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Both ways to fill write the same words, and a used buffer leaves nothing behind.
        #[test]
        fn every_word_has_its_place(steps in 0usize..200, columns in 0usize..80) {
            let word = |step: usize, column: usize| (1000 * column + step + 1) as u32;
            let mut panels = Panels::default();
            panels.fill_rows(70, 90, |_, _, words| words.fill(7));
            panels.fill_columns(steps, columns, |column, steps| steps.map(move |step| word(step, column)));
            let mut by_rows = Panels::default();
            by_rows.fill_rows(steps, columns, |step, columns, words: &mut [u32]| {
                words.iter_mut().zip(columns).for_each(|(to, column)| *to = word(step, column));
            });
            prop_assert_eq!(panels.words(), by_rows.words());
            prop_assert_eq!(panels.iter().map(|(columns, _)| columns.len()).sum::<usize>(), columns);
            for (at, &found) in panels.words().iter().enumerate() {
                let (step, column) = (at / PANEL % steps, at / PANEL / steps * PANEL + at % PANEL);
                prop_assert_eq!(found, if column < columns { word(step, column) } else { 0 });
            }
        }
    }
}
