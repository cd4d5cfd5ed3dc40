//! Sums over a data set, by which results that were kept are known to be of other data: a file may change in its place.

use epsilon_data::dataset::Split;
use epsilon_data::files::sha256;
use epsilon_data::labels::LabelVectors;
use epsilon_vision::tokens::TokenStore;

use super::{ExperimentError, Prepared};

/// SHA-256 of the training images' ids and seen labels, and of the seen labels' names and vectors.
pub(super) fn seen(prepared: &Prepared) -> String {
    of(prepared, &prepared.seen_vectors(), &[Split::Train])
}

/// The same with the test images, and with all labels.
pub(super) fn whole(prepared: &Prepared) -> String {
    let sum = of(prepared, &prepared.vectors, &[Split::Train, Split::Test]);
    format!("{sum} {}", prepared.dataset.seen)
}

/// SHA-256 of the unseen labels' names and vectors.
pub(super) fn unseen(prepared: &Prepared, vectors: &LabelVectors) -> String {
    sha256(&described(prepared.dataset.unseen_names(), vectors))
}

/// What a store's manifest says of its files, their own sums among it.
pub(super) fn shards(store: &TokenStore) -> Result<String, ExperimentError> {
    serde_json::to_string(&store.manifest().shards).map_err(ExperimentError::Json)
}

/// Labels' names and vectors as bytes.
fn described(names: &[String], vectors: &LabelVectors) -> Vec<u8> {
    let values = vectors.values().iter();
    let mut bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
    bytes.extend(names.join("\n").bytes());
    bytes
}

/// Of the labels that have these vectors.
fn of(prepared: &Prepared, vectors: &LabelVectors, splits: &[Split]) -> String {
    let dataset = &prepared.dataset;
    let mut sum = sha256(&described(&dataset.names[..vectors.len()], vectors));
    for row in splits.iter().flat_map(|&split| dataset.rows(split)) {
        let entries = dataset.labels.entries(row).iter();
        let known = entries.filter(|(label, _)| (*label as usize) < vectors.len());
        let known: Vec<String> = known
            .map(|(label, value)| format!("{label}:{value}"))
            .collect();
        let record = &dataset.records[row];
        let line = format!("{sum} {:?} {} {}", record.split, record.id, known.join(" "));
        sum = sha256(line.as_bytes());
    }
    sum
}
