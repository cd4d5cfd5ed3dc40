//! What was learnt, for people and programs.

use std::path::PathBuf;

use serde::Serialize;

use super::gather::Gathered;
use super::scenes::Held;
use super::store::Extracted;
use super::table::Table;
use super::vocabulary::Vocabulary;
use crate::calibration::Kept;

/// What was learnt.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct LearnReport {
    /// The model's file.
    pub model: PathBuf,
    /// Photographs that were looked at.
    pub photographs: usize,
    /// Of these, with keywords.
    pub keyworded: usize,
    /// Of these, whose owner has looked at all of them, or has said something of a label.
    pub corrected: usize,
    /// Photographs that were trained on.
    pub trained_on: usize,
    /// Photographs that were held out: probabilities, thresholds and all figures rest on them.
    pub held_out: usize,
    /// Scenes that the photographs are of: those each taken less than ten minutes after the one before.
    pub scenes: usize,
    /// Photographs without a capture time or folders to divide them by.
    pub alone: usize,
    /// Photographs whose tokens were made this time.
    pub extracted: usize,
    /// Why others, what stands beside them, or whole folders could not be read.
    pub failed: Vec<String>,
    /// mAP of the labels on the photographs that were held out, as a fraction; none where none of these has one.
    pub map: Option<f64>,
    /// What the backbone's own classes add to the scores.
    pub anchored: Anchored,
    /// Why the model has no probabilities and thresholds; none where it has.
    pub uncalibrated: Option<String>,
    /// What the thresholds keep of all labels, of photographs that they were not chosen on; none where there are too few.
    pub kept: Option<KeptLabels>,
    /// The labels, those of most photographs first.
    pub labels: Vec<LearntLabel>,
    /// Labels that too few photographs have, with their number, most first.
    pub rare: Vec<(String, usize)>,
    /// Labels without a word vector.
    pub wordless: Vec<String>,
}

/// What the backbone's own classes add to the scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchored {
    /// This weight.
    Weight(f64),
    /// Nothing, and why.
    Without(String),
}

impl Default for Anchored {
    fn default() -> Self {
        Self::Weight(0.0)
    }
}

/// A label that was learnt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearntLabel {
    /// Its name.
    pub name: String,
    /// Photographs that have it.
    pub photographs: usize,
    /// What its threshold keeps of photographs that it was not chosen on.
    pub kept: Option<KeptLabels>,
}

/// Counts of kept labels, with precision and recall.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KeptLabels {
    /// Kept and true, kept and false, true and not kept.
    #[serde(flatten)]
    pub counts: Kept,
    /// Share of what was kept that is true.
    pub precision: Option<f64>,
    /// Share of what is true that was kept.
    pub recall: Option<f64>,
}

impl KeptLabels {
    fn of(counts: Kept) -> Self {
        Self {
            counts,
            precision: counts.precision(),
            recall: counts.recall(),
        }
    }
}

/// What became of probabilities and thresholds.
pub(super) enum Judged {
    /// What the thresholds keep of each label; nothing where there are too few photographs to tell.
    Kept(Vec<Kept>),
    /// There are too few photographs for any.
    TooFew(String),
}

/// All but the model, its anchor and its mAP.
pub(super) fn of(
    gathered: &Gathered,
    vocabulary: &Vocabulary,
    held: &Held,
    table: &Table,
    store: &Extracted,
    judged: Judged,
) -> LearnReport {
    let (kept, uncalibrated) = match judged {
        Judged::Kept(kept) => (kept, None),
        Judged::TooFew(reason) => (Vec::new(), Some(reason)),
    };
    let both = vocabulary.names.iter().zip(&vocabulary.counts).enumerate();
    let labels = both.map(|(at, (name, &photographs))| LearntLabel {
        name: name.clone(),
        photographs,
        kept: kept.get(at).copied().map(KeptLabels::of),
    });
    // A picture that the system does not give is asked for twice: for its keywords and for its tokens.
    let again = store.failed.iter();
    let again = again.filter(|reason| !gathered.unread.contains(reason));
    let failed = gathered.unread.iter().chain(again).cloned().collect();
    let sum = kept.iter().copied().reduce(Kept::plus);
    let photos = gathered.photos.iter();
    LearnReport {
        photographs: gathered.looked_at,
        keyworded: photos.clone().filter(|known| known.keyworded).count(),
        corrected: photos.filter(|known| known.corrected).count(),
        trained_on: table.trained_on(),
        held_out: table.held_out(),
        scenes: held.scenes,
        alone: held.alone,
        extracted: store.new,
        failed,
        uncalibrated,
        kept: sum.map(KeptLabels::of),
        labels: labels.collect(),
        rare: vocabulary.rare.clone(),
        wordless: vocabulary.wordless.clone(),
        ..LearnReport::default()
    }
}
