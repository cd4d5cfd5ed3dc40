//! Mini-batches: which images, in which order, read ahead of the step that wants them, from a store or from memory.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::batch::{Batch, Dims, LabelsOn, Targets};
use crate::ranks::Ranks;
use epsilon_data::dataset::SparseLabels;
use epsilon_data::labels::LabelVectors;
use epsilon_vision::tokens::TokenSource;

/// Seed of the validation split: the same for every seed of a training, so that their figures are comparable.
const VALIDATION_SEED: u64 = 0x5EED;

/// One training image: where its tokens and its labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// Row of the source of tokens.
    pub store_row: usize,
    /// Row of the labels.
    pub label_row: usize,
}

/// Divides images into those to train on and a share that is kept for validation: the same ones for every seed. Those to train on
/// are in the order of the source.
pub fn split(mut items: Vec<Example>, share: f64) -> (Vec<Example>, Vec<Example>) {
    let kept = (items.len() as f64 * share).round() as usize;
    items.shuffle(&mut ChaCha8Rng::seed_from_u64(VALIDATION_SEED));
    let validation = items.split_off(items.len() - kept);
    items.sort_by_key(|item| item.store_row);
    (items, validation)
}

/// Training images, every one with a positive among the labels it is trained on.
pub struct Examples<'a> {
    source: &'a dyn TokenSource,
    labels: &'a SparseLabels,
    items: Vec<Example>,
    vectors: Arc<LabelVectors>,
    unseen: usize,
}

impl<'a> Examples<'a> {
    /// Keeps those of `items` that have a positive among the first `vectors.len()` labels (the seen ones); `vectors`
    /// are those labels' vectors, unit length. Of the `unseen` labels that are known but their number matters.
    pub fn new(
        source: &'a dyn TokenSource,
        labels: &'a SparseLabels,
        items: impl IntoIterator<Item = Example>,
        vectors: Arc<LabelVectors>,
        unseen: usize,
    ) -> Self {
        let seen = vectors.len();
        let items = items
            .into_iter()
            .filter(|item| labels.positives(item.label_row).any(|label| label < seen))
            .collect();
        Self {
            source,
            labels,
            items,
            vectors,
            unseen,
        }
    }

    /// The images.
    pub fn items(&self) -> &[Example] {
        &self.items
    }

    /// The labels' vectors.
    pub fn vectors(&self) -> &Arc<LabelVectors> {
        &self.vectors
    }

    /// Images that are positive for each label.
    pub fn positives(&self) -> Vec<usize> {
        let seen = self.vectors.len();
        let mut counts = vec![0; seen];
        for item in &self.items {
            let positives = self.labels.positives(item.label_row);
            for label in positives.filter(|&label| label < seen) {
                counts[label] += 1;
            }
        }
        counts
    }

    /// Sizes of the tokens and label vectors.
    pub fn dims(&self) -> Dims {
        let (width, global) = (self.source.dim(), self.source.global_dim());
        Dims {
            tokens: self.source.tokens_per_image(),
            width,
            label_width: self.vectors.dim(),
            labels: self.vectors.len(),
            unseen: self.unseen,
            global: (global != width).then_some(global),
        }
    }

    /// All labels of all images, and their global vectors row-major, for methods that are solved in one go.
    pub fn whole(&self) -> (Targets, Vec<f32>) {
        self.stretch(0..self.items.len())
    }

    /// Of [`whole`](Self::whole) the labels and global vectors of some images alone.
    pub(super) fn stretch(&self, images: Range<usize>) -> (Targets, Vec<f32>) {
        let items = &self.items[images];
        let width = self.source.global_dim();
        let mut global = vec![0.0; items.len() * width];
        for (item, out) in items.iter().zip(global.chunks_exact_mut(width)) {
            self.source.read_global(item.store_row, out);
        }
        (self.targets(items), global)
    }

    fn targets(&self, items: &[Example]) -> Targets {
        let seen = self.vectors.len();
        let rows = items.iter().map(|item| item.label_row);
        Targets::new(self.labels.dense(rows, seen), seen)
    }

    /// Images whose place in their batch begins at `first`.
    fn load(&self, items: &[Example], first: usize) -> HostBatch {
        let rows: Vec<usize> = items.iter().map(|item| item.store_row).collect();
        let (tokens, global) = self.source.read_rows(&rows);
        HostBatch {
            first,
            images: items.len(),
            tokens,
            global,
            targets: self.targets(items),
        }
    }

    /// The order of the images in an epoch: a function of seed and epoch alone.
    fn order(&self, seed: u64, epoch: usize) -> Vec<Example> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1 + epoch as u64);
        let mut order = self.items.clone();
        order.shuffle(&mut rng);
        order
    }

    /// Reads an epoch's batches from `first_batch` on in a thread of `scope`, two ahead: of each the rank's own images, in parts of
    /// at most `part`.
    pub(super) fn read_ahead<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        epoch: Epoch<'scope>,
    ) -> Receiver<Shared> {
        let (send, receive) = sync_channel(2);
        scope.spawn(move || {
            let order = self.order(epoch.seed, epoch.index);
            for batch in order.chunks(epoch.batch).skip(epoch.first_batch) {
                let own = epoch.ranks.own(batch.len());
                let (first, images) = (own.start, batch.len());
                let parts = batch[own]
                    .chunks(epoch.part)
                    .enumerate()
                    .map(|(number, part)| self.load(part, first + number * epoch.part));
                let parts = parts.collect();
                // The receiver is gone when training stopped early: nothing left to read for.
                if send.send(Shared { images, parts }).is_err() {
                    return;
                }
            }
        });
        receive
    }
}

/// Which batches of which epoch to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch<'a> {
    pub seed: u64,
    pub index: usize,
    pub batch: usize,
    pub part: usize,
    pub first_batch: usize,
    /// Who share every batch.
    pub ranks: &'a dyn Ranks,
}

/// A batch, of which a rank has its own images alone.
pub(super) struct Shared {
    /// How many it has in all.
    pub images: usize,
    pub parts: Vec<HostBatch>,
}

/// A batch before it is on the device.
pub(super) struct HostBatch {
    first: usize,
    images: usize,
    tokens: Vec<f32>,
    global: Vec<f32>,
    targets: Targets,
}

impl HostBatch {
    /// Where its images stand in their batch.
    pub(super) fn place(&self) -> Range<usize> {
        self.first..self.first + self.images
    }

    pub(super) fn onto(self, dims: &Dims, labels: &LabelsOn) -> Batch {
        labels.batch(dims, self.images, self.tokens, self.global, self.targets)
    }
}
