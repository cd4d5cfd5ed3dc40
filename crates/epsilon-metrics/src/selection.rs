//! What a protocol leaves of the tables: the images kept, the columns evaluated, and the value each
//! label counts as. Everything downstream reads scores and labels through it.

use rayon::prelude::*;

use crate::average_precision::Ranking;
use crate::error::MetricsError;
use crate::input::{Labels, Scores};
use crate::protocol::{Images, Settings, Unknown};

/// Columns gathered in one pass over the rows: 16 neighbouring f32 fill a cache line.
const COLUMNS_A_PASS: usize = 16;

/// Scores and labels under the rules of a protocol.
pub(crate) struct Selection<'a> {
    scores: Scores<'a>,
    labels: Labels<'a>,
    columns: &'a [usize],
    settings: Settings,
    /// Rows kept, ascending.
    rows: Vec<usize>,
    /// Positive labels over all images kept.
    positives: u64,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(
        scores: Scores<'a>,
        labels: Labels<'a>,
        columns: &'a [usize],
        settings: Settings,
    ) -> Result<Self, MetricsError> {
        check_shapes(scores, labels)?;
        check_columns(columns, scores.labels())?;
        let counts: Vec<u32> = (0..labels.images())
            .into_par_iter()
            .map(|image| positives_of(labels.row(image), columns))
            .collect();
        let positives = counts.iter().map(|&n| u64::from(n)).sum();
        if positives == 0 {
            return Err(MetricsError::NoPositives {
                images: labels.images(),
                labels: columns.len(),
            });
        }
        let keep = |image: &usize| match settings.images {
            Images::All => true,
            Images::WithPositive => counts[*image] > 0,
        };
        let rows = (0..labels.images()).filter(keep).collect();
        Ok(Self {
            scores,
            labels,
            columns,
            settings,
            rows,
            positives,
        })
    }

    /// Number of images before the protocol's choice.
    pub(crate) fn images_total(&self) -> usize {
        self.labels.images()
    }

    /// Rows of the images kept, ascending.
    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }

    pub(crate) fn columns(&self) -> &'a [usize] {
        self.columns
    }

    /// Positive labels over all images kept.
    pub(crate) fn positives(&self) -> u64 {
        self.positives
    }

    /// (score, value) of one row for each evaluated column, in the order of the columns.
    pub(crate) fn entries(&self, row: usize) -> impl Iterator<Item = (f32, i8)> {
        let (scores, labels) = (self.scores.row(row), self.labels.row(row));
        self.columns
            .iter()
            .map(move |&column| (scores[column], self.counts_as(labels[column])))
    }

    /// Ranks the annotated images of every evaluated label and maps each ranking, in the order of
    /// the columns. Works through the columns in passes, so only a few rankings exist at a time.
    pub(crate) fn map_rankings<T: Send>(&self, map: impl Fn(Ranking) -> T + Sync) -> Vec<T> {
        let map = &map;
        self.columns
            .par_chunks(COLUMNS_A_PASS)
            .flat_map_iter(|columns| self.rankings(columns).into_iter().map(map))
            .collect()
    }

    fn rankings(&self, columns: &[usize]) -> Vec<Ranking> {
        let mut rankings: Vec<Ranking> = columns
            .iter()
            .map(|_| Ranking::with_capacity(self.rows.len()))
            .collect();
        for (image, &row) in self.rows.iter().enumerate() {
            let (scores, labels) = (self.scores.row(row), self.labels.row(row));
            for (ranking, &column) in rankings.iter_mut().zip(columns) {
                match self.counts_as(labels[column]) {
                    0 => {}
                    value => ranking.push(image, scores[column], value > 0),
                }
            }
        }
        rankings.iter_mut().for_each(Ranking::sort);
        rankings
    }

    fn counts_as(&self, value: i8) -> i8 {
        match (value, self.settings.unknown) {
            (0, Unknown::Negative) => -1,
            _ => value,
        }
    }
}

fn positives_of(labels: &[i8], columns: &[usize]) -> u32 {
    columns.iter().map(|&c| u32::from(labels[c] > 0)).sum()
}

fn check_shapes(scores: Scores<'_>, labels: Labels<'_>) -> Result<(), MetricsError> {
    if (scores.images(), scores.labels()) == (labels.images(), labels.labels()) {
        return Ok(());
    }
    Err(MetricsError::ShapesDiffer {
        scores_images: scores.images(),
        scores_labels: scores.labels(),
        labels_images: labels.images(),
        labels_labels: labels.labels(),
    })
}

fn check_columns(columns: &[usize], labels: usize) -> Result<(), MetricsError> {
    if columns.is_empty() {
        return Err(MetricsError::NoColumns);
    }
    let mut chosen = vec![false; labels];
    for &column in columns {
        match chosen.get_mut(column) {
            None => return Err(MetricsError::ColumnOutOfRange { column, labels }),
            Some(true) => return Err(MetricsError::ColumnTwice { column }),
            Some(seen) => *seen = true,
        }
    }
    Ok(())
}
