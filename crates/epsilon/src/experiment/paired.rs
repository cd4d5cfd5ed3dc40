//! Resamples of a model's mAP, the same for all models of a data set: what a paired comparison of them needs.

use std::collections::BTreeMap;
use std::fmt;

use epsilon_metrics::{MetricsError, Over, Protocol, Resampled, Resampling, Table, resample_table};
use serde::{Deserialize, Serialize};

use super::LabelSet;
use super::figures::{BOOTSTRAP_SEED, Parts, rules};
use crate::recipe::EvaluationSettings;

/// What two models are compared by. Prints as tables name it.
///
/// ```
/// use epsilon::experiment::Measure;
///
/// let names = Measure::ALL.map(|measure| measure.to_string());
/// assert_eq!(names, ["ZSL mAP", "seen mAP", "GZSL mAP", "harmonic mean"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// mAP of the unseen labels.
    Zsl,
    /// mAP of the seen labels.
    Seen,
    /// mAP of all labels.
    Gzsl,
    /// Harmonic mean of the seen and the ZSL mAP.
    Harmonic,
}

impl Measure {
    /// All of them, in the order in which tables show them.
    pub const ALL: [Self; 4] = [Self::Zsl, Self::Seen, Self::Gzsl, Self::Harmonic];

    /// Its name on the command line: `zsl`, `seen`, `gzsl` or `harmonic`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zsl => "zsl",
            Self::Seen => "seen",
            Self::Gzsl => "gzsl",
            Self::Harmonic => "harmonic",
        }
    }

    /// The measure of a label set's mAP.
    pub fn of(set: LabelSet) -> Self {
        match set {
            LabelSet::Unseen => Self::Zsl,
            LabelSet::Seen => Self::Seen,
            LabelSet::All => Self::Gzsl,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Zsl => "ZSL mAP",
            Self::Seen => "seen mAP",
            Self::Gzsl => "GZSL mAP",
            Self::Harmonic => "harmonic mean",
        })
    }
}

/// The resamples of what was measured of a model.
pub type Resamples = BTreeMap<Measure, Resampled>;

/// So many resamples of images or labels, with the seed of every bootstrap: the same draws for all models of a data set.
///
/// ```
/// use epsilon::experiment::resampling;
/// use epsilon_metrics::Over;
///
/// assert_eq!(resampling(Over::Images, 999), resampling(Over::Images, 999));
/// ```
pub fn resampling(over: Over, resamples: usize) -> Resampling {
    Resampling {
        over,
        resamples,
        seed: BOOTSTRAP_SEED,
    }
}

/// The resamples of a table whose first `seen` labels are the seen ones, with the normalisation of the scores of `settings`.
///
/// # Errors
/// As [`resample_table`].
pub fn resamples(
    table: &impl Table,
    seen: usize,
    protocol: &Protocol,
    settings: &EvaluationSettings,
    resampling: &Resampling,
) -> Result<Resamples, MetricsError> {
    of_parts(
        &Parts::new(table, None, seen, settings)?,
        protocol,
        resampling,
    )
}

pub(super) fn of_parts<T: Table>(
    parts: &Parts<'_, T>,
    protocol: &Protocol,
    resampling: &Resampling,
) -> Result<Resamples, MetricsError> {
    let mut all = Resamples::new();
    for (table, sets) in parts.by_table() {
        let rules: Vec<_> = sets
            .into_iter()
            .map(|set| (set, rules(protocol, set)))
            .collect();
        let resampled = resample_table(table, &parts.requests(&rules), resampling)?;
        let measures = rules.iter().map(|(set, _)| Measure::of(*set));
        all.extend(measures.zip(resampled));
    }
    if let (Some(seen), Some(unseen)) = (all.get(&Measure::Seen), all.get(&Measure::Zsl)) {
        let harmonic = Resampled::harmonic(seen, unseen)?;
        all.insert(Measure::Harmonic, harmonic);
    }
    Ok(all)
}
