//! Figures of a model: mAP and top-K of the unseen, the seen and all labels, under one or more protocols.

use std::fmt;

use epsilon_metrics::{
    Evaluation, MetricsError, Protocol, Request, SplitEvaluation, Table, bootstrap_table,
    evaluate_protocols, evaluate_table,
};
use serde::{Deserialize, Serialize};

use super::BackboneClasses;
use crate::recipe::EvaluationSettings;

/// Seed of every bootstrap: the same figures from the same scores.
const BOOTSTRAP_SEED: u64 = 1;

/// What follows a protocol's name where an anchor is part of the scores.
const BACKBONE_CLASSES: &str = ", backbone classes known";

/// What follows a protocol's name where the scores were standardised.
const STANDARDISED: &str = ", scores standardised per image";

/// The labels among which images are ranked. Prints as the literature calls the setting: `ZSL`, `seen` or `GZSL`.
///
/// ```
/// use epsilon::experiment::LabelSet;
///
/// assert_eq!(LabelSet::ALL.map(|set| set.to_string()), ["ZSL", "seen", "GZSL"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabelSet {
    /// The unseen labels among themselves: zero-shot learning.
    Unseen,
    /// The seen labels among themselves.
    Seen,
    /// Seen and unseen labels together: generalised zero-shot learning.
    All,
}

impl LabelSet {
    /// All three, in the order in which tables show them.
    pub const ALL: [Self; 3] = [Self::Unseen, Self::Seen, Self::All];

    /// `ZSL`, `seen` or `GZSL`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unseen => "ZSL",
            Self::Seen => "seen",
            Self::All => "GZSL",
        }
    }
}

impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Figures of a model on the test images. Prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Figures {
    /// Of seen and unseen labels, where the backbone's own classes are part of the scores.
    Anchored(Box<AnchoredSplit>),
    /// Of seen and unseen labels.
    Split(Box<SplitEvaluation>),
    /// Of the labels it was trained on, where the data set has no others or the method knows no others.
    Seen(Box<Evaluation>),
}

/// Figures of seen and unseen labels of scores that the backbone's own classes are part of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnchoredSplit {
    /// The figures.
    #[serde(flatten)]
    pub split: SplitEvaluation,
    /// Which unseen labels are no strangers to the backbone, and the mAP of the others.
    #[serde(rename = "backbone-classes")]
    pub backbone_classes: BackboneClasses,
}

impl Figures {
    /// The label sets that were measured, with their figures: ZSL, seen and GZSL, or seen alone where there are no unseen
    /// labels.
    ///
    /// ```
    /// use epsilon::experiment::{LabelSet, figures};
    /// use epsilon::recipe::EvaluationSettings;
    /// use epsilon_metrics::{InMemory, Labels, Protocol, Scores};
    ///
    /// // Two images, a seen and an unseen label, ranked without a mistake.
    /// let table = InMemory::new(
    ///     Scores::new(&[0.9, 0.1, 0.2, 0.8], 2, 2)?,
    ///     Labels::new(&[1, -1, -1, 1], 2, 2)?,
    /// )?;
    /// let settings = EvaluationSettings { k_zsl: vec![1], k_gzsl: vec![1], ..Default::default() };
    /// let all = figures(&table, 1, &[Protocol::epsilon()], &settings)?;
    /// let maps: Vec<(LabelSet, f64)> = all[0].parts().map(|(set, part)| (set, part.map)).collect();
    /// assert_eq!(maps, [(LabelSet::Unseen, 1.0), (LabelSet::Seen, 1.0), (LabelSet::All, 1.0)]);
    ///
    /// // Without unseen labels there is one set.
    /// let seen = figures(&table, 2, &[Protocol::epsilon()], &settings)?;
    /// assert_eq!(seen[0].parts().count(), 1);
    /// # Ok::<(), epsilon_metrics::MetricsError>(())
    /// ```
    pub fn parts(&self) -> impl Iterator<Item = (LabelSet, &Evaluation)> {
        let sets = LabelSet::ALL.into_iter();
        sets.filter_map(|set| Some((set, self.part(set)?)))
    }

    /// The figures of one label set, if it was measured.
    pub fn part(&self, set: LabelSet) -> Option<&Evaluation> {
        match (self.split(), self, set) {
            (Some(split), _, LabelSet::Unseen) => Some(&split.zsl),
            (Some(split), _, LabelSet::Seen) => Some(&split.seen),
            (Some(split), _, LabelSet::All) => Some(&split.gzsl),
            (None, Self::Seen(seen), LabelSet::Seen) => Some(seen),
            (None, ..) => None,
        }
    }

    /// The figures of the seen labels among themselves, which are always measured.
    pub fn seen(&self) -> &Evaluation {
        match self {
            Self::Anchored(anchored) => &anchored.split.seen,
            Self::Split(split) => &split.seen,
            Self::Seen(seen) => seen,
        }
    }

    /// All of them, if unseen labels were measured.
    pub fn split(&self) -> Option<&SplitEvaluation> {
        match self {
            Self::Anchored(anchored) => Some(&anchored.split),
            Self::Split(split) => Some(split),
            Self::Seen(_) => None,
        }
    }

    /// The unseen labels that are classes of the backbone, where its classes are part of the scores.
    pub fn backbone_classes(&self) -> Option<&BackboneClasses> {
        match self {
            Self::Anchored(anchored) => Some(&anchored.backbone_classes),
            Self::Split(_) | Self::Seen(_) => None,
        }
    }

    /// Whether the backbone's own classes are part of the scores.
    pub fn backbone_classes_known(&self) -> bool {
        self.seen().protocol.contains(BACKBONE_CLASSES)
    }

    /// The same with the GZSL figures of others: those rank all labels, so they take the scores of all labels together.
    pub(super) fn with_gzsl_of(self, together: Self) -> Self {
        match (together, self) {
            (Self::Split(together), Self::Split(apart)) => {
                let gzsl = together.gzsl;
                Self::Split(Box::new(SplitEvaluation { gzsl, ..*apart }))
            }
            (together, _) => together,
        }
    }

    /// Says that the backbone's classes are part of the scores: beside the protocol's name, and which unseen labels are among
    /// them. `classes` says so of each of the `labels`.
    pub(super) fn of_backbone_classes(mut self, labels: &[String], classes: &[bool]) -> Self {
        for (_, part) in self.parts_mut() {
            part.protocol.push_str(BACKBONE_CLASSES);
        }
        match self {
            Self::Split(split) => {
                let backbone_classes = BackboneClasses::of(&split.zsl, labels, classes);
                let split = *split;
                Self::Anchored(Box::new(AnchoredSplit {
                    split,
                    backbone_classes,
                }))
            }
            other => other,
        }
    }

    fn parts_mut(&mut self) -> Vec<(LabelSet, &mut Evaluation)> {
        let split = match self {
            Self::Anchored(anchored) => &mut anchored.split,
            Self::Split(split) => split,
            Self::Seen(seen) => return vec![(LabelSet::Seen, seen)],
        };
        vec![
            (LabelSet::Unseen, &mut split.zsl),
            (LabelSet::Seen, &mut split.seen),
            (LabelSet::All, &mut split.gzsl),
        ]
    }

    /// Says beside the protocol's name that the scores were standardised.
    pub(super) fn of_standardised(mut self) -> Self {
        for (_, part) in self.parts_mut() {
            part.protocol.push_str(STANDARDISED);
        }
        self
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anchored(anchored) => {
                anchored.split.fmt(f)?;
                write!(f, "\n{}", anchored.backbone_classes)
            }
            Self::Split(split) => split.fmt(f),
            Self::Seen(seen) => seen.fmt(f),
        }
    }
}

/// Figures of a table whose first `seen` labels are the seen ones under each of these protocols, with the top-K sizes and
/// the bootstrap of `settings`.
///
/// # Errors
/// As [`evaluate_protocols`], [`evaluate_table`] and [`bootstrap_table`].
pub fn figures(
    table: &impl Table,
    seen: usize,
    protocols: &[Protocol],
    settings: &EvaluationSettings,
) -> Result<Vec<Figures>, MetricsError> {
    let columns: Vec<usize> = (0..table.labels()).collect();
    let mut all: Vec<Figures> = if seen == columns.len() {
        let request = |protocol| Request {
            columns: &columns,
            protocol,
            ks: &settings.k_gzsl,
        };
        let requests: Vec<Request<'_>> = protocols.iter().map(request).collect();
        let figures = evaluate_table(table, &requests)?.into_iter();
        figures.map(|f| Figures::Seen(Box::new(f))).collect()
    } else {
        let (k_zsl, k_gzsl) = (&settings.k_zsl, &settings.k_gzsl);
        let figures = evaluate_protocols(table, seen, protocols, k_zsl, k_gzsl)?.into_iter();
        figures.map(|f| Figures::Split(Box::new(f))).collect()
    };
    if settings.bootstrap == 0 {
        return Ok(all);
    }
    for (figures, protocol) in all.iter_mut().zip(protocols) {
        for (set, part) in figures.parts_mut() {
            let columns = match set {
                LabelSet::Unseen => &columns[seen..],
                LabelSet::Seen => &columns[..seen],
                LabelSet::All => &columns[..],
            };
            let request = Request {
                columns,
                protocol,
                ks: &[],
            };
            let resamples = settings.bootstrap;
            part.bootstrap = Some(bootstrap_table(table, request, resamples, BOOTSTRAP_SEED)?);
        }
    }
    Ok(all)
}
