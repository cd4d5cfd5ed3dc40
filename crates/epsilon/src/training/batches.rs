//! Mini-batches: which images, in which order, read ahead of the step that wants them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::batch::{Batch, Dims, LabelsOn, Targets};
use epsilon_data::dataset::SparseLabels;
use epsilon_data::labels::LabelVectors;
use epsilon_vision::tokens::TokenStore;

/// One training image: where its tokens and its labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// Row of the token store.
    pub store_row: usize,
    /// Row of the labels.
    pub label_row: usize,
}

/// Training images, every one with a positive among the labels it is trained on.
pub struct Examples<'a> {
    store: &'a TokenStore,
    labels: &'a SparseLabels,
    items: Vec<Example>,
    vectors: Arc<LabelVectors>,
}

impl<'a> Examples<'a> {
    /// Keeps those of `items` that have a positive among the first `vectors.len()` labels (the seen ones); `vectors`
    /// are those labels' vectors, unit length.
    pub fn new(
        store: &'a TokenStore,
        labels: &'a SparseLabels,
        items: impl IntoIterator<Item = Example>,
        vectors: Arc<LabelVectors>,
    ) -> Self {
        let seen = vectors.len();
        let items = items
            .into_iter()
            .filter(|item| labels.positives(item.label_row).any(|label| label < seen))
            .collect();
        Self {
            store,
            labels,
            items,
            vectors,
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
        Dims {
            tokens: self.store.tokens_per_image(),
            width: self.store.dim(),
            label_width: self.vectors.dim(),
            labels: self.vectors.len(),
            unseen: self.labels.columns() - self.vectors.len(),
            global: self.store.manifest().header.backbone.global,
        }
    }

    /// All labels of all images, and their global vectors row-major, for methods that are solved in one go.
    pub fn whole(&self) -> (Targets, Vec<f32>) {
        let width = self.store.global_dim();
        let mut global = vec![0.0; self.items.len() * width];
        for (item, out) in self.items.iter().zip(global.chunks_exact_mut(width)) {
            self.store.read_global(item.store_row, out);
        }
        (self.targets(&self.items), global)
    }

    fn targets(&self, items: &[Example]) -> Targets {
        let seen = self.vectors.len();
        let mut row = vec![0; self.labels.columns()];
        let mut values = Vec::with_capacity(items.len() * seen);
        for item in items {
            self.labels.dense_row(item.label_row, &mut row);
            values.extend_from_slice(&row[..seen]);
        }
        Targets::new(values, seen)
    }

    fn load(&self, items: &[Example]) -> HostBatch {
        let rows: Vec<usize> = items.iter().map(|item| item.store_row).collect();
        let (tokens, global) = self.store.read_rows(&rows);
        HostBatch {
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

    /// Reads an epoch's batches from `first_batch` on in a thread of `scope`, two ahead, each in parts of at most
    /// `part` images.
    pub(super) fn read_ahead<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        epoch: Epoch,
    ) -> Receiver<Vec<HostBatch>> {
        let (send, receive) = sync_channel(2);
        scope.spawn(move || {
            let order = self.order(epoch.seed, epoch.index);
            for batch in order.chunks(epoch.batch).skip(epoch.first_batch) {
                let parts = batch
                    .chunks(epoch.part)
                    .map(|part| self.load(part))
                    .collect();
                // The receiver is gone when training stopped early: nothing left to read for.
                if send.send(parts).is_err() {
                    return;
                }
            }
        });
        receive
    }
}

/// Which batches of which epoch to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch {
    pub seed: u64,
    pub index: usize,
    pub batch: usize,
    pub part: usize,
    pub first_batch: usize,
}

/// A batch before it is on the device.
pub(super) struct HostBatch {
    images: usize,
    tokens: Vec<f32>,
    global: Vec<f32>,
    targets: Targets,
}

impl HostBatch {
    pub(super) fn onto(self, dims: &Dims, labels: &LabelsOn) -> Batch {
        labels.batch(dims, self.images, self.tokens, self.global, self.targets)
    }
}
