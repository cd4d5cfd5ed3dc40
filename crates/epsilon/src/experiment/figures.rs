//! Figures of a model: mAP and top-K of the unseen, the seen and all labels, under one or more protocols.

use std::fmt;

use epsilon_metrics::{
    Evaluation, MetricsError, Normalised, Protocol, Request, SplitEvaluation, Standardise, Table,
    bootstrap_table, evaluate_protocols, evaluate_table,
};
use serde::{Deserialize, Serialize};

use crate::recipe::EvaluationSettings;

/// Seed of every bootstrap: the same figures from the same scores.
pub(super) const BOOTSTRAP_SEED: u64 = 1;

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
    /// Of seen and unseen labels.
    Split(Box<SplitEvaluation>),
    /// Of the labels it was trained on, where the data set has no others or the method knows no others.
    Seen(Box<Evaluation>),
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
        match (self, set) {
            (Self::Split(split), LabelSet::Unseen) => Some(&split.zsl),
            (Self::Split(split), LabelSet::Seen) => Some(&split.seen),
            (Self::Split(split), LabelSet::All) => Some(&split.gzsl),
            (Self::Seen(seen), LabelSet::Seen) => Some(seen),
            (Self::Seen(_), _) => None,
        }
    }

    /// The figures of the seen labels among themselves, which are always measured.
    pub fn seen(&self) -> &Evaluation {
        match self {
            Self::Split(split) => &split.seen,
            Self::Seen(seen) => seen,
        }
    }

    /// All of them, if unseen labels were measured.
    pub fn split(&self) -> Option<&SplitEvaluation> {
        match self {
            Self::Split(split) => Some(split),
            Self::Seen(_) => None,
        }
    }

    fn parts_mut(&mut self) -> Vec<(LabelSet, &mut Evaluation)> {
        match self {
            Self::Split(split) => vec![
                (LabelSet::Unseen, &mut split.zsl),
                (LabelSet::Seen, &mut split.seen),
                (LabelSet::All, &mut split.gzsl),
            ],
            Self::Seen(seen) => vec![(LabelSet::Seen, seen)],
        }
    }

    /// These figures of all labels with the others' figures of the seen and of the unseen ones.
    fn with_parts(self, apart: Self) -> Self {
        match (self, apart) {
            (Self::Split(all), Self::Split(apart)) => {
                let gzsl = all.gzsl;
                Self::Split(Box::new(SplitEvaluation { gzsl, ..*apart }))
            }
            (all, _) => all,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split(split) => split.fmt(f),
            Self::Seen(seen) => seen.fmt(f),
        }
    }
}

/// Figures of a table whose first `seen` labels are the seen ones under each of these protocols, with the normalisation of the
/// scores, the top-K sizes and the bootstrap of `settings`.
///
/// # Errors
/// As [`evaluate_protocols`], [`evaluate_table`] and [`bootstrap_table`].
pub fn figures(
    table: &impl Table,
    seen: usize,
    protocols: &[Protocol],
    settings: &EvaluationSettings,
) -> Result<Vec<Figures>, MetricsError> {
    Parts::new(table, None, seen, settings)?.figures(protocols, settings)
}

/// A table with its scores normalised for each label set.
pub(super) struct Parts<'a, T> {
    seen: usize,
    columns: Vec<usize>,
    /// For the figures of all labels, and for the others too where `apart` is none.
    together: Normalised<&'a T>,
    apart: Option<Normalised<&'a T>>,
}

impl<'a, T: Table> Parts<'a, T> {
    /// `alone` is the table with the unseen labels scored on their own, where that makes a difference.
    pub(super) fn new(
        table: &'a T,
        alone: Option<&'a T>,
        seen: usize,
        settings: &EvaluationSettings,
    ) -> Result<Self, MetricsError> {
        let (labels, how) = (table.labels(), settings.normalisation());
        let is_split = seen < labels;
        let by_part = is_split && how.standardise == Standardise::Ranked;
        let apart = match alone.is_some() || by_part {
            true => {
                let split = by_part.then_some(seen);
                Some(Normalised::new(alone.unwrap_or(table), how, split)?)
            }
            false => None,
        };
        Ok(Self {
            seen,
            columns: (0..labels).collect(),
            together: Normalised::new(table, how, None)?,
            apart,
        })
    }

    /// The label sets that can be measured.
    pub(super) fn sets(&self) -> &'static [LabelSet] {
        match self.seen == self.columns.len() {
            true => &[LabelSet::Seen],
            false => &LabelSet::ALL,
        }
    }

    pub(super) fn table(&self, set: LabelSet) -> &Normalised<&'a T> {
        match (set, &self.apart) {
            (LabelSet::Unseen | LabelSet::Seen, Some(apart)) => apart,
            _ => &self.together,
        }
    }

    pub(super) fn columns(&self, set: LabelSet) -> &[usize] {
        match set {
            LabelSet::Unseen => &self.columns[self.seen..],
            LabelSet::Seen => &self.columns[..self.seen],
            LabelSet::All => &self.columns,
        }
    }

    pub(super) fn figures(
        &self,
        protocols: &[Protocol],
        settings: &EvaluationSettings,
    ) -> Result<Vec<Figures>, MetricsError> {
        let mut all = self.evaluate(&self.together, protocols, settings)?;
        if let Some(apart) = &self.apart {
            let apart = self.evaluate(apart, protocols, settings)?;
            let both = all.into_iter().zip(apart);
            all = both.map(|(all, apart)| all.with_parts(apart)).collect();
        }
        for (figures, protocol) in all.iter_mut().zip(protocols) {
            for (set, part) in figures.parts_mut() {
                part.scores = settings.normalisation();
                if settings.bootstrap > 0 {
                    let protocol = rules(protocol, set);
                    let request = Request {
                        columns: self.columns(set),
                        protocol: &protocol,
                        ks: &[],
                    };
                    let (table, resamples) = (self.table(set), settings.bootstrap);
                    let bootstrap = bootstrap_table(table, request, resamples, BOOTSTRAP_SEED)?;
                    part.bootstrap = Some(bootstrap);
                }
            }
        }
        Ok(all)
    }

    fn evaluate(
        &self,
        table: &Normalised<&T>,
        protocols: &[Protocol],
        settings: &EvaluationSettings,
    ) -> Result<Vec<Figures>, MetricsError> {
        let (k_zsl, k_gzsl) = (&settings.k_zsl, &settings.k_gzsl);
        if self.seen < self.columns.len() {
            let figures = evaluate_protocols(table, self.seen, protocols, k_zsl, k_gzsl)?;
            return Ok(figures
                .into_iter()
                .map(|f| Figures::Split(Box::new(f)))
                .collect());
        }
        let request = |protocol| Request {
            columns: &self.columns,
            protocol,
            ks: k_gzsl,
        };
        let requests: Vec<Request<'_>> = protocols.iter().map(request).collect();
        let figures = evaluate_table(table, &requests)?.into_iter();
        Ok(figures.map(|f| Figures::Seen(Box::new(f))).collect())
    }
}

/// The rules of a protocol for a label set.
pub(super) fn rules(protocol: &Protocol, set: LabelSet) -> Protocol {
    match set {
        LabelSet::Unseen => protocol.for_unseen(),
        LabelSet::Seen | LabelSet::All => protocol.clone(),
    }
}
