//! A photograph's record in bytes, and the scores of many records for a query.
//!
//! A record is M scales in f32, then M rows of bytes, each filled up to a multiple of 32. With an anchor two more rows follow, each
//! behind its scale, whose sum is the anchor's row: where few classes are probable, 8 bits would round the sum of all others away.
//! Its end is then the constant, in f32.

use super::IndexInfo;
use epsilon_kernels::scan::{LANES, best_matches, cosines};

/// Rows whose sum is the anchor's.
const PARTS: usize = 2;

/// Whole numbers of one scale.
type Scaled<T> = (f32, Vec<T>);

/// A label's query as whole numbers.
pub(super) struct Query {
    vector: Scaled<i16>,
    /// What the anchor's row is multiplied by, where that is part of the score.
    classes: Option<Scaled<i16>>,
}

impl Query {
    /// What a scan takes the query for, as [`super::Index::dot_query`] has it: rounded values.
    pub(super) fn dots(&self, info: &IndexInfo) -> Vec<f32> {
        let rounded = |(scale, values): &Scaled<i16>, width: usize| -> Vec<f32> {
            let values = values[..width].iter();
            values.map(|&value| scale * f32::from(value)).collect()
        };
        let mut dots = rounded(&self.vector, info.width);
        if let (Some(row), Some(classes)) = (&self.classes, info.classes) {
            dots.extend(rounded(row, classes));
            dots.push(1.0);
        }
        dots
    }
}

impl IndexInfo {
    /// E, the width of the vectors and queries of an index's [form as dot products](super::Index::dot_vectors).
    pub fn dot_width(&self) -> usize {
        self.width + self.classes.map_or(0, |classes| classes + 1)
    }

    /// Whether its sizes are such that a record can be that large.
    pub(super) fn fits(&self) -> bool {
        let classes = self.classes.is_none_or(is_width);
        (1..=1024).contains(&self.groups) && is_width(self.width) && classes
    }

    /// Values of a photograph: its vectors, and with an anchor the anchor's row and a constant.
    pub(super) fn values(&self) -> usize {
        self.groups * self.width + self.classes.map_or(0, |classes| classes + 1)
    }

    /// Values of a query.
    pub(super) fn query_width(&self) -> usize {
        self.width + self.classes.unwrap_or(0)
    }

    /// Bytes of a record.
    pub(super) fn record(&self) -> usize {
        let anchor = |classes| PARTS * rows(1, classes) + 4;
        self.vectors() + self.classes.map_or(0, anchor)
    }

    /// The record of a photograph's [`IndexInfo::values`].
    pub(super) fn bytes_of(&self, values: &[f32]) -> Vec<u8> {
        let (vectors, anchor) = values.split_at(self.groups * self.width);
        let vectors: Vec<Scaled<i8>> = vectors.chunks_exact(self.width).map(quantised).collect();
        let mut bytes = Vec::with_capacity(self.record());
        bytes.extend(vectors.iter().flat_map(|(scale, _)| scale.to_le_bytes()));
        bytes.extend(vectors.iter().flat_map(|(_, row)| filled(row)));
        if let Some((constant, row)) = anchor.split_last() {
            let (scale, first) = quantised(row);
            let both = row.iter().zip(&first);
            let rest: Vec<f32> = both.map(|(v, &q)| v - scale * f32::from(q)).collect();
            for (scale, row) in [(scale, first), quantised(&rest)] {
                bytes.extend(scale.to_le_bytes());
                bytes.extend(filled(&row));
            }
            bytes.extend(constant.to_le_bytes());
        }
        bytes
    }

    /// The vectors of a record, row-major `[groups, width]`.
    pub(super) fn vectors_of(&self, record: &[u8]) -> Vec<f32> {
        values(&record[..self.vectors()], self.groups, self.width)
    }

    /// What an anchor adds to each vector of a record in [its form as dot products](super::Index::dot_vectors): the anchor's row
    /// and the constant; nothing without an anchor.
    pub(super) fn anchor_of(&self, record: &[u8]) -> Vec<f32> {
        let parts = record[self.vectors()..].split_last_chunk();
        let (Some(classes), Some((parts, constant))) = (self.classes, parts) else {
            return Vec::new();
        };
        let mut row = vec![0.0; classes];
        for part in parts.chunks_exact(rows(1, classes)) {
            for (sum, value) in row.iter_mut().zip(values(part, 1, classes)) {
                *sum += value;
            }
        }
        row.push(f32::from_le_bytes(*constant));
        row
    }

    /// A query of [`IndexInfo::query_width`] values.
    pub(super) fn query(&self, values: &[f32]) -> Query {
        let (vector, classes) = values.split_at(self.width);
        Query {
            vector: quantised_query(vector),
            classes: self.classes.map(|_| quantised_query(classes)),
        }
    }

    /// The score of every record, and which of its vectors it comes from.
    pub(super) fn scores(&self, records: &[u8], query: &Query, scores: &mut [(f32, u32)]) {
        let (scale, vector) = &query.vector;
        self.on_vectors(records, scores, |records, scores| {
            best_matches(records, self.groups, vector, scores);
        });
        for (record, score) in records.chunks_exact(self.record()).zip(scores) {
            score.0 *= scale;
            let anchor = record[self.vectors()..].split_last_chunk();
            if let (Some((scale, classes)), Some((rows, constant))) = (&query.classes, anchor) {
                let mut parts = [(0.0, 0); PARTS];
                best_matches(rows, 1, classes, &mut parts);
                let sum: f32 = parts.iter().map(|(part, _)| part).sum();
                score.0 += scale * sum + f32::from_le_bytes(*constant);
            }
        }
    }

    /// How alike every record's vectors are to those of one, as [`cosines`].
    pub(super) fn cosines(&self, records: &[u8], one: &[u8], found: &mut [f32]) {
        let one = &one[..self.vectors()];
        self.on_vectors(records, found, |records, found| {
            cosines(records, self.groups, one, found);
        });
    }

    /// Runs a kernel on the vectors of records: at once where nothing lies between them.
    fn on_vectors<T>(&self, records: &[u8], out: &mut [T], kernel: impl Fn(&[u8], &mut [T])) {
        let (size, vectors) = (self.record(), self.vectors());
        if size == vectors {
            return kernel(records, out);
        }
        for (record, out) in records.chunks_exact(size).zip(out) {
            kernel(&record[..vectors], std::slice::from_mut(out));
        }
    }

    /// Bytes of a record's vectors, which come first.
    fn vectors(&self) -> usize {
        rows(self.groups, self.width)
    }
}

fn is_width(width: usize) -> bool {
    (1..=1 << 16).contains(&width)
}

/// Bytes of rows with their scales.
fn rows(count: usize, width: usize) -> usize {
    count * (4 + width.next_multiple_of(LANES))
}

/// The values of rows with their scales, row-major `[count, width]`.
fn values(rows: &[u8], count: usize, width: usize) -> Vec<f32> {
    let (scales, rows) = rows.split_at(4 * count);
    let (scales, _) = scales.as_chunks();
    let rows = rows.chunks_exact(width.next_multiple_of(LANES));
    let both = scales
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .zip(rows);
    let values = both.flat_map(|(scale, row)| {
        let row = row[..width].iter();
        row.map(move |&byte| scale * f32::from(byte as i8))
    });
    values.collect()
}

/// A row's bytes, filled up.
fn filled(row: &[i8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = row.iter().map(|&value| value as u8).collect();
    bytes.resize(row.len().next_multiple_of(LANES), 0);
    bytes
}

/// A row as whole numbers of one scale, the largest of them 127.
fn quantised(row: &[f32]) -> Scaled<i8> {
    let most = row
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = most / 127.0;
    // A row too small for a scale is one of zeros.
    let factor = if scale.is_normal() { 1.0 / scale } else { 0.0 };
    let values = row.iter().map(|value| (value * factor).round() as i8);
    (scale, values.collect())
}

/// A query as whole numbers of one scale, filled up to the rows' width: as fine as 16 bits and exact sums in 32 allow.
fn quantised_query(query: &[f32]) -> Scaled<i16> {
    let width = query.len().next_multiple_of(LANES);
    let largest = (i32::MAX as usize / (127 * width)).min(i16::MAX as usize) as f32;
    let most = query
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = most / largest;
    let factor = if scale.is_normal() { 1.0 / scale } else { 0.0 };
    let mut values: Vec<i16> = query
        .iter()
        .map(|value| (value * factor).round() as i16)
        .collect();
    values.resize(width, 0);
    (scale, values)
}
