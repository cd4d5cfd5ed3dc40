//! Sets of labels that are unseen in turn: label folds, whose unseen labels are measured on the test images, and the seen labels
//! that are left out to choose settings.

use epsilon_data::dataset::{Dataset, Split, Summary};
use epsilon_data::labels::LabelVectors;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{ExperimentError, Figures, Prepared};
use crate::recipe::Recipe;
use crate::training::TrainingSettings;

/// Seed of every division of labels: the same for every method and seed, so that their figures are comparable.
const DIVISION_SEED: u64 = 0xF01D;

/// The figures of a seed over all label folds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Folded {
    /// Over the folds together, see [`Figures::over_folds`].
    pub figures: Figures,
    /// Of each fold.
    pub folds: Vec<FoldFigures>,
}

/// The figures of one label fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoldFigures {
    /// The fold, from 1.
    pub fold: usize,
    /// Its unseen labels.
    pub unseen: Vec<String>,
    /// The figures of its model.
    pub figures: Figures,
}

impl Folded {
    /// The figures over these folds; `None` where there is none.
    pub fn of(folds: Vec<FoldFigures>) -> Option<Self> {
        let all: Vec<&Figures> = folds.iter().map(|fold| &fold.figures).collect();
        let figures = Figures::over_folds(&all)?;
        Some(Self { figures, folds })
    }
}

/// A data set with the labels of the recipe's `label-fold` unseen, if it names one.
pub(super) fn of_recipe(
    recipe: &Recipe,
    (dataset, summary): (Dataset, Summary),
) -> Result<(Dataset, Summary), ExperimentError> {
    let settings = &recipe.evaluation;
    let (Some(folds), Some(fold)) = (settings.label_folds, settings.label_fold) else {
        return Ok((dataset, summary));
    };
    let unseen = label_fold(&dataset, folds, fold)?;
    let all: Vec<usize> = (0..dataset.records.len()).collect();
    let (labels, seen) = with_last(dataset.names.len(), &unseen);
    let dataset = dataset.select(&all, &labels, seen)?;
    let summary = summary.recounted(&dataset);
    Ok((dataset, summary))
}

/// The labels of one of several disjoint sets of all labels, alike in frequency; `fold` counts from 1.
fn label_fold(dataset: &Dataset, folds: usize, fold: usize) -> Result<Vec<usize>, ExperimentError> {
    let labels = dataset.names.len();
    if folds > labels {
        return Err(ExperimentError::LabelFolds { folds, labels });
    }
    let sorted = by_frequency(dataset, labels);
    Ok(deal(sorted.chunks(folds), folds).swap_remove(fold - 1))
}

/// The first `count` labels, those of most training images first. Test images are not read.
fn by_frequency(dataset: &Dataset, count: usize) -> Vec<usize> {
    let mut images = vec![0_usize; dataset.names.len()];
    for row in dataset.rows(Split::Train) {
        for label in dataset.labels.positives(row) {
            images[label] += 1;
        }
    }
    let mut labels: Vec<usize> = (0..count).collect();
    labels.sort_by_key(|&label| std::cmp::Reverse(images[label]));
    labels
}

/// Deals the labels of each block at random to the first `sets` sets, at most one to a set.
fn deal<'a>(blocks: impl Iterator<Item = &'a [usize]>, sets: usize) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(DIVISION_SEED);
    let mut dealt = vec![Vec::new(); sets];
    for block in blocks {
        let mut block = block.to_vec();
        block.shuffle(&mut rng);
        for (set, label) in dealt.iter_mut().zip(block) {
            set.push(label);
        }
    }
    for set in &mut dealt {
        set.sort_unstable();
    }
    dealt
}

/// The labels of each of some disjoint sets that have a share of all: rounded up, they could be more than there are.
fn set_size(labels: usize, share: f64, sets: usize) -> usize {
    let size = (labels as f64 * share).round() as usize;
    size.min(labels / sets.max(1))
}

/// The labels below `count` with those of `last`, which ascend, at the end; and how many stand before them.
fn with_last(count: usize, last: &[usize]) -> (Vec<usize>, usize) {
    let first = (0..count).filter(|label| last.binary_search(label).is_err());
    let mut labels: Vec<usize> = first.collect();
    let seen = labels.len();
    labels.extend(last);
    (labels, seen)
}

impl Prepared {
    /// The same images with the labels of one of `folds` label folds unseen; `fold` counts from 1.
    pub(super) fn label_fold(&self, folds: usize, fold: usize) -> Result<Self, ExperimentError> {
        let unseen = label_fold(&self.dataset, folds, fold)?;
        let all: Vec<usize> = (0..self.dataset.records.len()).collect();
        let (labels, seen) = with_last(self.dataset.names.len(), &unseen);
        self.select(&all, &labels, seen)
    }

    /// The seen labels that each choosing training leaves out: disjoint sets, alike in frequency.
    pub(super) fn left_out(
        &self,
        settings: &TrainingSettings,
    ) -> Result<Vec<Vec<usize>>, ExperimentError> {
        let (share, folds) = (settings.validation_labels, settings.validation_folds);
        let seen = self.dataset.seen;
        let count = set_size(seen, share, folds);
        if count == 0 || count >= seen {
            return Err(ExperimentError::LeftOut { share, folds, seen });
        }
        let sorted = by_frequency(&self.dataset, seen);
        Ok(deal(sorted.chunks(seen / count).take(count), folds))
    }

    /// The training images alone with the seen labels alone, those of `left_out` unseen: neither a test image nor the name of an
    /// unseen label is in what settings are chosen by.
    pub(super) fn without(&self, left_out: &[usize]) -> Result<Self, ExperimentError> {
        let (labels, kept) = with_last(self.dataset.seen, left_out);
        self.select(&self.dataset.rows(Split::Train), &labels, kept)
    }

    pub(crate) fn select(
        &self,
        rows: &[usize],
        labels: &[usize],
        seen: usize,
    ) -> Result<Self, ExperimentError> {
        let dataset = self.dataset.select(rows, labels, seen)?;
        let vectors: LabelVectors = self.vectors.select(labels)?;
        let report = labels.iter().map(|&label| self.report[label].clone());
        Ok(Self {
            summary: self.summary.recounted(&dataset),
            vectors,
            report: report.collect(),
            anchors: self.anchors.clone(),
            dataset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_disjoint_whole_and_alike_in_frequency() {
        let labels: Vec<usize> = (0..17).collect();
        let sets = deal(labels.chunks(5), 5);
        let mut all = sets.concat();
        all.sort_unstable();
        assert_eq!(all, labels);
        for set in &sets {
            assert!(set.len() == 3 || set.len() == 4, "{sets:?}");
            // One of each block: the blocks are 0..5, 5..10, 10..15 and 15..17.
            assert!((0..3).all(|block| set[block] / 5 == block), "{sets:?}");
        }
        assert_eq!(sets, deal(labels.chunks(5), 5), "the same each time");
        // Two sets of a fifth of the labels: three labels each, one of each block.
        let sets = deal(labels.chunks(17 / 3).take(3), 2);
        assert!(sets.iter().all(|set| set.len() == 3), "{sets:?}");
        assert!(sets[0].iter().all(|label| !sets[1].contains(label)));
        let sizes = [(194, 0.2, 5), (194, 0.2, 1), (5, 0.5, 2), (4, 0.0, 1)];
        let sizes = sizes.map(|(labels, share, sets)| set_size(labels, share, sets));
        assert_eq!(sizes, [38, 39, 2, 0]);
        assert_eq!(with_last(5, &[1, 3]), (vec![0, 2, 4, 1, 3], 3));
    }
}
