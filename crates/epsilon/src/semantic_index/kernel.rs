//! The scan's inner loop: rows of bytes against a query of 16-bit whole numbers, summed exactly.

use crate::kernels::vector::vectorised;

/// Values that are worked on at once: rows are filled up with zeros to a multiple of it.
pub const LANES: usize = 32;

vectorised! {
    /// The best match of every record: `out[i]` is the largest of `scale * (row . query)` over the record's rows, with its row's
    /// number. A record is `groups` scales (f32, little-endian), then `groups` rows as long as the query, a multiple of
    /// [`LANES`]. The query is small enough that no sum overflows.
    pub(crate) fn best_matches(
        records: &[u8],
        groups: usize,
        query: &[i16],
        out: &mut [(f32, u32)],
    ) {
        let width = query.len();
        for (record, out) in records.chunks_exact(groups * (4 + width)).zip(out) {
            let (scales, rows) = record.split_at(4 * groups);
            let scales = scales.chunks_exact(4);
            *out = (f32::NEG_INFINITY, 0);
            for ((group, scale), row) in (0..).zip(scales).zip(rows.chunks_exact(width)) {
                let mut sums = [0_i32; LANES / 2];
                for (row, query) in row.chunks_exact(LANES).zip(query.chunks_exact(LANES)) {
                    // Neighbours in pairs: one instruction multiplies and adds them.
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        let first = i32::from(row[2 * lane] as i8) * i32::from(query[2 * lane]);
                        let second = i32::from(row[2 * lane + 1] as i8) * i32::from(query[2 * lane + 1]);
                        *sum += first + second;
                    }
                }
                let sum: i32 = sums.iter().sum();
                let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
                let score = scale * sum as f32;
                if score > out.0 {
                    *out = (score, group);
                }
            }
        }
    }
}
