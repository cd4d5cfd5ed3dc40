//! Three-valued labels of many images, held by their listed entries only.

use std::ops::Range;

use super::DatasetError;

/// A matrix of labels in {-1, 0, +1}, of shape [images, labels]. Each image lists some entries, +1 or -1;
/// every other entry has one value for the whole matrix, `rest`: -1 (negative) or 0 (unknown).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseLabels {
    columns: usize,
    rest: i8,
    /// Entries of row r: `entries[starts[r]..starts[r + 1]]`, sorted by label.
    starts: Vec<usize>,
    entries: Vec<(u32, i8)>,
}

impl SparseLabels {
    /// Builds the matrix from the listed (label, value) entries of each image, in any order.
    ///
    /// # Errors
    /// A `rest` other than 0 and -1, a value other than +1 and -1, a label not below `columns`, a label listed
    /// as both +1 and -1. Listing a label twice with one value is no error.
    pub fn new(columns: usize, rest: i8, rows: Vec<Vec<(u32, i8)>>) -> Result<Self, DatasetError> {
        let mut starts = vec![0];
        let mut entries = Vec::new();
        for mut listed in rows {
            listed.sort_unstable();
            listed.dedup();
            entries.append(&mut listed);
            starts.push(entries.len());
        }
        Self::from_parts(columns, rest, starts, entries)
    }

    /// Builds the matrix from the entries of all images one after the other, those of image r being
    /// `entries[starts[r]..starts[r + 1]]`, sorted by label.
    ///
    /// # Errors
    /// As [`SparseLabels::new`], and `starts` that do not ascend from 0 to the number of entries, and a label listed twice.
    pub fn from_parts(
        columns: usize,
        rest: i8,
        starts: Vec<usize>,
        entries: Vec<(u32, i8)>,
    ) -> Result<Self, DatasetError> {
        let error = |row, problem| Err(DatasetError::SparseLabels { row, problem });
        if rest != 0 && rest != -1 {
            return error(
                0,
                "what is not listed must count as unknown (0) or negative (-1)",
            );
        }
        if starts.first() != Some(&0)
            || starts.last() != Some(&entries.len())
            || !starts.is_sorted()
        {
            return error(0, "the entries are not divided into images");
        }
        for (row, range) in starts.windows(2).enumerate() {
            let listed = &entries[range[0]..range[1]];
            if listed.iter().any(|&(label, _)| label as usize >= columns) {
                return error(row, "a label lies outside the list of names");
            }
            if listed.iter().any(|&(_, value)| value != 1 && value != -1) {
                return error(row, "a listed value is neither +1 nor -1");
            }
            if listed.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return error(
                    row,
                    "a label is listed twice, or as both positive and negative",
                );
            }
            if !listed.is_sorted() {
                return error(row, "the labels are not in ascending order");
            }
        }
        Ok(Self {
            columns,
            rest,
            starts,
            entries,
        })
    }

    /// Builds the matrix from all its values, each +1, -1 or 0, row-major `[images, columns]`.
    ///
    /// ```
    /// use epsilon_data::dataset::SparseLabels;
    ///
    /// let labels = SparseLabels::from_dense(3, &[1, 0, -1, 0, 0, 1])?;
    /// assert_eq!((labels.rows(), labels.get(0, 2), labels.get(1, 1)), (2, -1, 0));
    /// assert!(SparseLabels::from_dense(3, &[2, 0, 0]).is_err());
    /// # Ok::<(), epsilon_data::dataset::DatasetError>(())
    /// ```
    ///
    /// # Errors
    /// Another value; values that are no whole number of rows.
    pub fn from_dense(columns: usize, values: &[i8]) -> Result<Self, DatasetError> {
        let error = |row, problem| Err(DatasetError::SparseLabels { row, problem });
        if columns == 0 || !values.len().is_multiple_of(columns) {
            return error(0, "the values are no whole number of rows of all labels");
        }
        if let Some(at) = values.iter().position(|value| !(-1..=1).contains(value)) {
            return error(at / columns, "a value is none of +1, -1 and 0");
        }
        // What is not listed is unknown where anything is: only +1 and -1 can be listed.
        let rest = if values.contains(&0) { 0 } else { -1 };
        let (mut starts, mut entries) = (vec![0], Vec::new());
        for row in values.chunks_exact(columns) {
            let listed = (0..).zip(row).filter(|&(_, &value)| value != rest);
            entries.extend(listed.map(|(label, &value)| (label, value)));
            starts.push(entries.len());
        }
        Self::from_parts(columns, rest, starts, entries)
    }

    /// Number of images.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of labels.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The value of every entry that is not listed: -1 (negative) or 0 (unknown).
    pub fn rest(&self) -> i8 {
        self.rest
    }

    /// The listed (label, value) entries of an image, sorted by label.
    ///
    /// # Panics
    /// If `row` is not below [`SparseLabels::rows`]; so do the methods below.
    pub fn entries(&self, row: usize) -> &[(u32, i8)] {
        &self.entries[self.starts[row]..self.starts[row + 1]]
    }

    /// The positive labels of an image, ascending.
    pub fn positives(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        self.entries(row)
            .iter()
            .filter(|(_, value)| *value > 0)
            .map(|&(label, _)| label as usize)
    }

    /// The value of one entry: +1, -1 or 0.
    ///
    /// # Panics
    /// If `row` or `column` lie outside the matrix.
    pub fn get(&self, row: usize, column: usize) -> i8 {
        assert!(column < self.columns, "label {column} of {}", self.columns);
        let entries = self.entries(row);
        match entries.binary_search_by_key(&column, |&(label, _)| label as usize) {
            Ok(place) => entries[place].1,
            Err(_) => self.rest,
        }
    }

    /// These rows and columns, in this order, of shape [rows, columns].
    ///
    /// # Errors
    /// [`DatasetError::SparseLabels`] for a column that is there twice.
    ///
    /// # Panics
    /// If a row or a column lies outside the matrix.
    pub fn select(&self, rows: &[usize], columns: &[usize]) -> Result<Self, DatasetError> {
        let mut place = vec![None; self.columns];
        for (new, &old) in columns.iter().enumerate() {
            if place[old].replace(new as u32).is_some() {
                let problem = "a column is selected twice";
                return Err(DatasetError::SparseLabels { row: 0, problem });
            }
        }
        let selected = rows.iter().map(|&row| {
            let entries = self.entries(row).iter();
            entries
                .filter_map(|&(label, value)| Some((place[label as usize]?, value)))
                .collect()
        });
        Self::new(columns.len(), self.rest, selected.collect())
    }

    /// Writes an image's labels, each +1, -1 or 0, into `out`, of shape `[columns]`.
    ///
    /// # Panics
    /// If `row` lies outside the matrix or `out` has another length.
    pub fn dense_row(&self, row: usize, out: &mut [i8]) {
        assert_eq!(out.len(), self.columns, "room for one value a label");
        self.dense_part(row, 0..self.columns, out);
    }

    /// As [`SparseLabels::dense_row`], of some neighbouring labels alone: its work grows with those and with the entries among them.
    ///
    /// ```
    /// use epsilon_data::dataset::SparseLabels;
    ///
    /// let labels = SparseLabels::new(4, -1, vec![vec![(0, 1), (2, 1)]])?;
    /// let mut part = [0; 2];
    /// labels.dense_part(0, 1..3, &mut part);
    /// assert_eq!(part, [-1, 1]);
    /// # Ok::<(), epsilon_data::dataset::DatasetError>(())
    /// ```
    ///
    /// # Panics
    /// If `row` or a label lies outside the matrix or `out` has another length.
    pub fn dense_part(&self, row: usize, labels: Range<usize>, out: &mut [i8]) {
        assert!(labels.end <= self.columns, "labels to {}", labels.end);
        assert_eq!(out.len(), labels.len(), "room for one value a label");
        out.fill(self.rest);
        let entries = self.entries(row);
        let first = entries.partition_point(|&(label, _)| (label as usize) < labels.start);
        for &(label, value) in &entries[first..] {
            let Some(place) = out.get_mut(label as usize - labels.start) else {
                break;
            };
            *place = value;
        }
    }

    /// The first `count` labels of some images, row-major `[rows, count]`.
    ///
    /// # Panics
    /// If a row or a label lies outside the matrix.
    pub fn dense(&self, rows: impl IntoIterator<Item = usize>, count: usize) -> Vec<i8> {
        let mut whole = vec![0; self.columns];
        let mut values = Vec::new();
        for row in rows {
            self.dense_row(row, &mut whole);
            values.extend_from_slice(&whole[..count]);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dense_values_come_back(columns in 1_usize..5, values in prop::collection::vec(-1_i8..=1, 0..30)) {
            let values = &values[..values.len() / columns * columns];
            let labels = SparseLabels::from_dense(columns, values).unwrap();
            let rows = values.len() / columns;
            prop_assert_eq!(labels.rows(), rows);
            prop_assert_eq!(labels.dense(0..rows, columns), values);
            for (row, values) in values.chunks_exact(columns).enumerate() {
                for (first, end) in (0..columns).flat_map(|first| (first..=columns).map(move |end| (first, end))) {
                    let mut part = vec![9; end - first];
                    labels.dense_part(row, first..end, &mut part);
                    prop_assert_eq!(&part, &values[first..end]);
                }
            }
        }
    }

    #[test]
    fn dense_values_that_are_no_labels_are_named() {
        let said = |columns, values: &[i8]| {
            SparseLabels::from_dense(columns, values)
                .unwrap_err()
                .to_string()
        };
        assert!(said(2, &[0, 1, 0, 3]).contains("image 1"));
        assert!(said(2, &[0, 1, 0]).contains("whole number of rows"));
        assert!(said(0, &[]).contains("whole number of rows"));
    }

    #[test]
    fn rows_and_columns_in_another_order() {
        let rows = vec![vec![(0, 1), (2, -1)], vec![(1, 1)], vec![(2, 1)]];
        let labels = SparseLabels::new(3, 0, rows).unwrap();
        let selected = labels.select(&[2, 0], &[2, 0]).unwrap();
        assert_eq!((selected.columns(), selected.rest()), (2, 0));
        assert_eq!(selected.entries(0), [(0, 1)]);
        assert_eq!(selected.entries(1), [(0, -1), (1, 1)]);
        assert!(labels.select(&[0], &[1, 1]).is_err());
    }

    #[test]
    fn entries_and_rest() {
        let labels = SparseLabels::new(4, 0, vec![vec![(2, 1), (0, -1), (2, 1)], vec![]]).unwrap();
        assert_eq!((labels.rows(), labels.columns(), labels.rest()), (2, 4, 0));
        assert_eq!(labels.entries(0), [(0, -1), (2, 1)]);
        assert_eq!(labels.positives(0).collect::<Vec<_>>(), [2]);
        let mut row = [9; 4];
        labels.dense_row(0, &mut row);
        assert_eq!(row, [-1, 0, 1, 0]);
        labels.dense_row(1, &mut row);
        assert_eq!(row, [0; 4]);
        let negative = SparseLabels::new(2, -1, vec![vec![(1, 1)]]).unwrap();
        assert_eq!((negative.get(0, 0), negative.get(0, 1)), (-1, 1));
    }

    #[test]
    fn unsound_entries_are_refused() {
        for (columns, rest, row) in [
            (2, 1, vec![]),
            (2, 0, vec![(2, 1)]),
            (2, 0, vec![(0, 0)]),
            (2, 0, vec![(1, 1), (1, -1)]),
        ] {
            let rows = vec![vec![], row];
            assert!(matches!(
                SparseLabels::new(columns, rest, rows),
                Err(DatasetError::SparseLabels { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn dense_and_sparse_agree(
            dense in proptest::collection::vec(proptest::collection::vec(-1_i8..=1, 5), 0..6),
        ) {
            let list = |row: &Vec<i8>| (0..).zip(row.iter().copied()).filter(|(_, value)| *value != 0).collect();
            let labels = SparseLabels::new(5, 0, dense.iter().map(list).collect()).unwrap();
            prop_assert_eq!(labels.rows(), dense.len());
            for (r, row) in dense.iter().enumerate() {
                let mut out = [9; 5];
                labels.dense_row(r, &mut out);
                prop_assert_eq!(&out[..], &row[..]);
                for (c, &value) in row.iter().enumerate() {
                    prop_assert_eq!(labels.get(r, c), value);
                }
            }
        }
    }
}
