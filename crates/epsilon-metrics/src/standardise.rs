//! Normalisation of scores before they are ranked: standardised per image, so that scores of different images are comparable,
//! or centred per label. Named by [`Normalisation`], applied to a table by [`Normalised`].

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::MetricsError;
use crate::score::{Rankable, Score};
use crate::table::{BLOCK_VALUES, Block, Table, check_block, check_table};

/// Over which labels the scores of an image are standardised to mean 0 and standard deviation 1 before they are ranked.
///
/// Reads `none`, `table` and `ranked`; also `false` as `none`, and `true` as `table`.
///
/// ```rust
/// use epsilon_metrics::Standardise;
///
/// let read = |text| serde_json::from_str::<Standardise>(text).ok();
/// assert_eq!(read("\"ranked\""), Some(Standardise::Ranked));
/// assert_eq!((read("true"), read("false")), (Some(Standardise::Table), Some(Standardise::None)));
/// assert_eq!("table".parse(), Ok(Standardise::Table));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standardise {
    /// Scores are ranked as they are.
    #[default]
    None,
    /// Over all labels of the table, whichever of them are ranked.
    Table,
    /// Over the labels that are ranked: for ZSL the unseen ones, for the seen figures the seen ones, for GZSL all.
    Ranked,
}

impl Standardise {
    /// The names that are read, in the order of the variants.
    pub const NAMES: [&str; 3] = ["none", "table", "ranked"];
}

impl std::str::FromStr for Standardise {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Self::None),
            "table" => Ok(Self::Table),
            "ranked" => Ok(Self::Ranked),
            _ => Err(format!(
                "{name:?} is no way to standardise scores: choose one of {}",
                Self::NAMES.join(", ")
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Standardise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Switch(bool),
            Name(String),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Switch(false)) => Ok(Self::None),
            Ok(Written::Switch(true)) => Ok(Self::Table),
            Ok(Written::Name(name)) => name.parse().map_err(serde::de::Error::custom),
            Err(_) => Err(serde::de::Error::custom(format!(
                "expected one of {}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

/// What is done to scores before they are ranked. Displayed as what follows the rules of a protocol.
///
/// ```rust
/// use epsilon_metrics::{Normalisation, Standardise};
///
/// assert_eq!(Normalisation::default().to_string(), "scores as given");
/// let ranked = Normalisation { standardise: Standardise::Ranked, ..Default::default() };
/// assert_eq!(ranked.to_string(), "scores standardised per image over the labels ranked");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Normalisation {
    /// Whether each label's scores first lose their mean over the images evaluated. Transductive: the figure of an image then
    /// depends on the other test images. Changes no AP by itself, but the top K.
    pub centre_labels: bool,
    /// How each image's scores are then standardised.
    pub standardise: Standardise,
}

impl fmt::Display for Normalisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_image = match self.standardise {
            Standardise::None => "",
            Standardise::Table => "standardised per image over all labels of the table",
            Standardise::Ranked => "standardised per image over the labels ranked",
        };
        match (self.centre_labels, per_image) {
            (false, "") => f.write_str("scores as given"),
            (false, per_image) => write!(f, "scores {per_image}"),
            (true, "") => {
                f.write_str("scores centred per label over the test images (transductive)")
            }
            (true, per_image) => write!(
                f,
                "scores centred per label over the test images (transductive), then {per_image}"
            ),
        }
    }
}

/// A [`Table`] whose scores are normalised when they are read.
///
/// ```rust
/// use epsilon_metrics::{
///     InMemory, Labels, Normalisation, Normalised, Scores, Standardise, Table,
/// };
///
/// let table = InMemory::new(
///     Scores::new(&[1.0, 3.0, 5.0, 9.0], 1, 4)?,
///     Labels::new(&[1, -1, 1, -1], 1, 4)?,
/// )?;
/// let normalisation = Normalisation { standardise: Standardise::Ranked, ..Default::default() };
/// // The first two labels are seen: each part over its own labels.
/// let apart = Normalised::new(table, normalisation, Some(2))?;
/// let (mut scores, mut labels) = ([0.0; 4], [0; 4]);
/// apart.read(0..1, 0..4, &mut scores, &mut labels)?;
/// assert_eq!(scores, [-1.0, 1.0, -1.0, 1.0]);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
pub struct Normalised<T> {
    table: T,
    /// Mean of each label; empty if labels are not centred.
    means: Vec<f64>,
    /// Part of each column; empty if images are not standardised.
    part_of: Vec<usize>,
    /// [images, 2]; the second part may have no column.
    standards: Vec<Standard>,
}

impl<T: Table> Normalised<T> {
    /// Wraps a table. An image's scores are standardised over all labels; or, where `split` is given, over the labels before this
    /// column and over those from it on, each on their own. Reads the table once for each of the two normalisations that is asked
    /// for.
    ///
    /// # Errors
    /// [`MetricsError::Empty`], [`MetricsError::NotFinite`], [`MetricsError::LabelValue`] and [`MetricsError::Read`].
    pub fn new(
        table: T,
        normalisation: Normalisation,
        split: Option<usize>,
    ) -> Result<Self, MetricsError> {
        let labels = table.labels();
        let split = split.unwrap_or(labels).min(labels);
        let mut normalised = Self {
            table,
            means: Vec::new(),
            part_of: Vec::new(),
            standards: Vec::new(),
        };
        if normalisation == Normalisation::default() {
            return Ok(normalised);
        }
        check_table(&normalised.table)?;
        if normalisation.centre_labels {
            let sums = normalised.rows(|sums: &mut Vec<f64>, row| {
                sums.resize(row.len(), 0.0);
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(sum, &s)| *sum += s.into());
            })?;
            let total = |label| sums.iter().map(|sums| sums[label]).sum::<f64>();
            let images = normalised.table.images() as f64;
            normalised.means = (0..labels).map(|label| total(label) / images).collect();
        }
        if normalisation.standardise != Standardise::None {
            let standards = normalised.rows(|standards: &mut Vec<Standard>, row| {
                let (first, second) = row.split_at(split);
                standards.extend([Standard::of(first), Standard::of(second)]);
            })?;
            normalised.standards = standards.concat();
            normalised.part_of = (0..labels)
                .map(|label| usize::from(label >= split))
                .collect();
        }
        Ok(normalised)
    }

    /// Folds all rows into one value a block of rows; the blocks depend on the shape alone, so the result does not depend on the
    /// threads.
    fn rows<A: Default + Send>(
        &self,
        fold: impl Fn(&mut A, &[T::Score]) + Sync,
    ) -> Result<Vec<A>, MetricsError> {
        let (images, labels) = (self.table.images(), self.table.labels());
        let step = (BLOCK_VALUES / labels).max(1);
        let firsts: Vec<usize> = (0..images).step_by(step).collect();
        let of_block = |block: &mut Block<T::Score>, first: usize| {
            let rows = first..images.min(first + step);
            let (scores, values) = block.read(self, rows, 0..labels)?;
            check_block(first, &(0..labels), scores, values)?;
            let mut folded = A::default();
            scores
                .chunks_exact(labels)
                .for_each(|row| fold(&mut folded, row));
            Ok(folded)
        };
        firsts
            .into_par_iter()
            .map_init(Block::default, of_block)
            .collect()
    }
}

impl<T: Table> Table for Normalised<T> {
    type Score = T::Score;

    fn images(&self) -> usize {
        self.table.images()
    }

    fn labels(&self) -> usize {
        self.table.labels()
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [T::Score],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        self.table
            .read(rows.clone(), columns.clone(), scores, labels)?;
        if !self.means.is_empty() {
            for row in scores.chunks_exact_mut(columns.len()) {
                let means = &self.means[columns.clone()];
                row.iter_mut()
                    .zip(means)
                    .for_each(|(s, mean)| *s = T::Score::nearest((*s).into() - mean));
            }
        }
        if !self.standards.is_empty() {
            let part_of = &self.part_of[columns.clone()];
            for (image, row) in rows.zip(scores.chunks_exact_mut(columns.len())) {
                let of_parts = &self.standards[2 * image..][..2];
                for (score, &part) in row.iter_mut().zip(part_of) {
                    *score = T::Score::nearest(of_parts[part].score(*score));
                }
            }
        }
        Ok(())
    }

    fn ask(&self) -> Result<(), MetricsError> {
        self.table.ask()
    }
}

/// Standardises the scores of every image, in place, to mean 0 and population standard deviation 1 over its labels.
/// `scores` is row-major [images, labels]; an image whose scores are all equal gets zeros.
///
/// A loss that ranks the labels within an image determines neither location nor scale of the image's scores, while the
/// average precision of a label compares images. The ranking of the labels of an image does not change.
///
/// # Panics
/// If `labels` is 0 or the length of `scores` is not a multiple of it.
///
/// ```
/// // Image 0 has mean 2 and standard deviation 1, image 1 equal scores.
/// let mut scores = [1.0, 3.0, 5.0, 5.0];
/// epsilon_metrics::standardise(&mut scores, 2);
/// assert_eq!(scores, [-1.0, 1.0, 0.0, 0.0]);
/// ```
pub fn standardise(scores: &mut [f32], labels: usize) {
    assert!(labels > 0 && scores.len().is_multiple_of(labels));
    for row in scores.chunks_exact_mut(labels) {
        let standard = Standard::of(row);
        row.iter_mut().for_each(|s| *s = standard.score(*s) as f32);
    }
}

/// Mean and standard deviation of the scores of one image, to standardise these and other scores by.
///
/// ```
/// use epsilon_metrics::Standard;
///
/// // Mean 2, population standard deviation 1.
/// let standard = Standard::of(&[1.0, 3.0]);
/// assert_eq!([1.0, 3.0, 7.0].map(|s| standard.score(s)), [-1.0, 1.0, 5.0]);
/// // Nothing to divide by: 0 for every score.
/// assert_eq!(Standard::of(&[5.0, 5.0]).score(7.0), 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standard {
    mean: f64,
    /// 1 / standard deviation, 0 if that is 0.
    scale: f64,
}

impl Standard {
    /// The mean and population standard deviation of these scores.
    pub fn of<S: Score>(scores: &[S]) -> Self {
        let count = scores.len() as f64;
        // From the first score, so that equal ones have deviation 0 exactly.
        let first = scores.first().map_or(0.0, |&s| s.into());
        let above = scores.iter().map(|&s| s.into() - first);
        let mean_above = above.clone().sum::<f64>() / count;
        let squares = above.map(|s| (s - mean_above).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        match deviation > 0.0 && deviation.is_finite() {
            true => Self {
                mean: first + mean_above,
                scale: 1.0 / deviation,
            },
            // Nothing to divide by.
            false => Self {
                mean: 0.0,
                scale: 0.0,
            },
        }
    }

    /// The standardised score, (score - mean) / standard deviation; 0 if all scores were equal.
    pub fn score<S: Score>(self, score: S) -> f64 {
        (score.into() - self.mean) * self.scale
    }

    /// Slope and intercept of the standardised score as a line over the score.
    ///
    /// ```
    /// use epsilon_metrics::Standard;
    ///
    /// assert_eq!(Standard::of(&[1.0, 5.0]).line(), (0.5, -1.5));
    /// ```
    pub fn line(self) -> (f64, f64) {
        (self.scale, -self.mean * self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Labels, Scores};
    use crate::table::InMemory;

    const SCORES: [f32; 12] = [0.5, 2.0, -1.0, 4.0, 3.0, 3.5, 0.25, 9.0, 1.0, 1.0, 1.0, 1.0];

    fn normalised(normalisation: Normalisation, split: Option<usize>) -> Vec<f32> {
        let table = InMemory::new(
            Scores::new(&SCORES, 3, 4).unwrap(),
            Labels::new(&[1; 12], 3, 4).unwrap(),
        );
        let table = Normalised::new(table.unwrap(), normalisation, split).unwrap();
        let (mut scores, mut labels) = (vec![0.0; 12], vec![0; 12]);
        table.read(0..3, 0..4, &mut scores, &mut labels).unwrap();
        // A part of it reads the same.
        let (mut some, mut values) = ([0.0; 4], [0; 4]);
        table.read(1..3, 1..3, &mut some, &mut values).unwrap();
        assert_eq!(some, [scores[5], scores[6], scores[9], scores[10]]);
        scores
    }

    #[test]
    fn a_table_is_standardised_as_its_scores_are() {
        let of = |standardise| Normalisation {
            standardise,
            centre_labels: false,
        };
        let mut expected = SCORES;
        standardise(&mut expected, 4);
        assert_eq!(normalised(of(Standardise::Table), None), expected);
        assert_eq!(normalised(of(Standardise::None), None), SCORES);
        let apart = normalised(of(Standardise::Ranked), Some(1));
        let standard = Standard::of(&SCORES[1..4]);
        assert_eq!(apart[0], 0.0, "a label alone");
        assert_eq!(apart[1], standard.score(SCORES[1]) as f32);
    }

    /// The sum of three 0.1 is no 0.3, so that their mean is another number.
    #[test]
    fn equal_scores_are_zeros_in_double_precision_too() {
        assert_ne!((0.1_f64 + 0.1 + 0.1) / 3.0, 0.1);
        let standard = Standard::of(&[0.1_f64; 3]);
        assert_eq!([0.1; 3].map(|s| standard.score(s)), [0.0; 3]);
        let table = InMemory::new(
            Scores::new(&[0.1_f64; 3], 1, 3).unwrap(),
            Labels::new(&[1; 3], 1, 3).unwrap(),
        );
        let normalisation = Normalisation {
            standardise: Standardise::Table,
            centre_labels: false,
        };
        let table = Normalised::new(table.unwrap(), normalisation, None).unwrap();
        let (mut scores, mut labels) = ([1.0_f64; 3], [0; 3]);
        table.read(0..1, 0..3, &mut scores, &mut labels).unwrap();
        assert_eq!(scores, [0.0; 3]);
    }

    #[test]
    fn a_centred_label_has_mean_zero() {
        let normalisation = Normalisation {
            standardise: Standardise::None,
            centre_labels: true,
        };
        let centred = normalised(normalisation, None);
        for label in 0..4 {
            let mean: f32 = (0..3).map(|image| centred[image * 4 + label]).sum();
            assert!(mean.abs() < 1e-5, "{mean}");
        }
        assert!(normalisation.to_string().contains("transductive"));
    }

    #[test]
    fn strange_names_are_refused() {
        for text in ["\"all\"", "3", "null"] {
            let error = serde_json::from_str::<Standardise>(text).unwrap_err();
            assert!(error.to_string().contains("none, table, ranked"), "{error}");
        }
    }
}
