//! Ranks the images of every label by score: each column of the table is read and sorted once, however many metrics
//! use it.

use std::ops::Range;

use rayon::prelude::*;

use crate::entry::{Entry, PackedOf};
use crate::error::MetricsError;
use crate::score::{DIGIT, Key};
use crate::table::{Block, Table};

/// Most columns read in one pass over the rows: two cache lines of scores.
const WIDEST: usize = 32;
/// Rows of a block.
pub(crate) const ROWS: usize = 2048;
/// Below this number of entries a comparison sort is faster than the radix sort.
const FEW: usize = 2048;
const BUCKETS: usize = 1 << DIGIT;
/// Of a score in f64.
const MOST_DIGITS: usize = 6;

/// Calls `map` with the index and the ranking of every column for which `wanted` is true; the ranking is best first,
/// equal scores in image order. The result has one item per column, `None` where `wanted` is false.
///
/// Memory: the columns in memory at one time take at most an eighth of the scores, plus a few columns per thread.
pub(crate) fn map_rankings<T: Table, R: Send>(
    table: &T,
    wanted: &[bool],
    map: impl Fn(usize, &[Entry<PackedOf<T>>]) -> R + Sync,
) -> Result<Vec<Option<R>>, MetricsError> {
    map_blocks(
        table,
        Gatherer::default,
        |gatherer: &mut Gatherer<T>, columns| gatherer.map(table, columns, wanted, &map),
    )
}

/// Calls `map` with a few adjacent columns at a time, on all threads; what it returns for each column, in their order. `start`
/// makes the buffers of a thread.
pub(crate) fn map_blocks<B, R: Send>(
    table: &impl Table,
    start: impl Fn() -> B + Sync + Send,
    map: impl Fn(&mut B, Range<usize>) -> Result<Vec<R>, MetricsError> + Sync + Send,
) -> Result<Vec<R>, MetricsError> {
    let columns = table.labels();
    let width = (columns / (16 * rayon::current_num_threads())).clamp(1, WIDEST);
    let blocks: Vec<Range<usize>> = (0..columns)
        .step_by(width)
        .map(|first| first..columns.min(first + width))
        .collect();
    let mapped: Result<Vec<Vec<R>>, MetricsError> = blocks
        .into_par_iter()
        .with_max_len(1)
        .map_init(start, map)
        .collect();
    Ok(mapped?.into_iter().flatten().collect())
}

/// Buffers of one thread, reused from block to block.
struct Gatherer<T: Table> {
    columns: Vec<Vec<Entry<PackedOf<T>>>>,
    scratch: Vec<Entry<PackedOf<T>>>,
    block: Block<T::Score>,
}

impl<T: Table> Default for Gatherer<T> {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            scratch: Vec::new(),
            block: Block::default(),
        }
    }
}

impl<T: Table> Gatherer<T> {
    fn map<R>(
        &mut self,
        table: &T,
        columns: Range<usize>,
        wanted: &[bool],
        map: &impl Fn(usize, &[Entry<PackedOf<T>>]) -> R,
    ) -> Result<Vec<Option<R>>, MetricsError> {
        if !wanted[columns.clone()].contains(&true) {
            return Ok(columns.map(|_| None).collect());
        }
        self.gather(table, columns.clone())?;
        let gathered = self.columns.iter_mut().zip(columns);
        gathered
            .map(|(entries, column)| {
                let mapped = wanted[column].then(|| {
                    table.ask()?;
                    sort(entries, &mut self.scratch);
                    Ok(map(column, entries))
                });
                mapped.transpose()
            })
            .collect()
    }

    fn gather(&mut self, table: &T, columns: Range<usize>) -> Result<(), MetricsError> {
        let images = table.images();
        self.columns.resize_with(columns.len(), Vec::new);
        for column in &mut self.columns {
            column.clear();
            column.reserve_exact(images);
        }
        for first in (0..images).step_by(ROWS) {
            let rows = first..images.min(first + ROWS);
            let (scores, labels) = self.block.read(table, rows.clone(), columns.clone())?;
            for (place, entries) in self.columns.iter_mut().enumerate() {
                let scores = scores.iter().skip(place).step_by(columns.len());
                let labels = labels.iter().skip(place).step_by(columns.len());
                let cells = rows.clone().zip(scores.zip(labels));
                entries.extend(cells.map(|(image, (&s, &l))| Entry::new(image, s, l)));
            }
        }
        Ok(())
    }
}

/// Sorts entries that are in image order: best first, equal scores in image order.
///
/// A radix sort of the score bits, least significant digit first. It is stable, so images with equal scores stay in
/// order and the other bits need no pass.
///
/// Its counts go up to the number of entries, which an [`Entry`] holds in 32 bits; so they need none of the overflow checks that
/// the rest of the crate is compiled with, and that cost a fifth of an evaluation here.
pub(crate) fn sort<K: Key>(entries: &mut Vec<K>, scratch: &mut Vec<K>) {
    if entries.len() < FEW {
        entries.sort_unstable();
        return;
    }
    let mut counts = [[0_u32; BUCKETS]; MOST_DIGITS];
    let counts = &mut counts[..K::DIGITS];
    for &entry in entries.iter() {
        for (digit, counts) in (0..).zip(&mut *counts) {
            let count = &mut counts[entry.digit(digit)];
            *count = count.wrapping_add(1);
        }
    }
    scratch.resize(entries.len(), K::default());
    for (digit, starts) in (0..).zip(&mut *counts) {
        if starts.iter().any(|&count| count as usize == entries.len()) {
            continue; // All share this digit.
        }
        let mut next = 0;
        for start in starts.iter_mut() {
            next += std::mem::replace(start, next);
        }
        for &entry in entries.iter() {
            let place = &mut starts[entry.digit(digit)];
            scratch[*place as usize] = entry;
            *place = place.wrapping_add(1);
        }
        std::mem::swap(entries, scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_radix_sort_is_a_sort(
            scores in prop::collection::vec(
                prop_oneof![-3.0_f32..3.0, Just(0.0), Just(-0.0), -1e30_f32..1e30],
                FEW..FEW + 500,
            ),
            coarse in any::<bool>(),
        ) {
            let entry = |(image, &score): (usize, &f32)| {
                Entry::new(image, if coarse { score.round() } else { score }, -1)
            };
            let mut entries: Vec<Entry<u64>> = scores.iter().enumerate().map(entry).collect();
            let mut expected = entries.clone();
            expected.sort_unstable();
            sort(&mut entries, &mut Vec::new());
            prop_assert_eq!(entries, expected);
        }
    }
}
