//! Figures of a model: mAP and top-K of the unseen, the seen and all labels, under one or more protocols.

use std::fmt;

use epsilon_metrics::{
    Evaluation, MetricsError, Normalised, Protocol, Request, SplitEvaluation, Standardise, Table,
    TopK, bootstrap_table, evaluate_protocols, evaluate_table,
};
use serde::{Deserialize, Serialize};

use super::BackboneClasses;
use crate::recipe::EvaluationSettings;

/// Seed of every bootstrap: the same figures from the same scores.
pub(super) const BOOTSTRAP_SEED: u64 = 1;

/// What follows a protocol's name where an anchor is part of the scores.
const BACKBONE_CLASSES: &str = ", backbone classes known";

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

    /// The figures over label folds. ZSL rests on every label: its mAP is the mean of the labels' average precisions in the fold
    /// that each is unseen in, and it lists all of them, their columns counted on from fold to fold. The mAP of the seen labels and
    /// of all labels are the means over the folds, and so are all other figures, counts of images and labels rounded. The figures
    /// of each label are of ZSL alone, because in the other sets a label has one from each fold. `None` without folds.
    pub fn over_folds(folds: &[&Self]) -> Option<Self> {
        let parts = |set: LabelSet| -> Vec<&Evaluation> {
            let parts = folds.iter().filter_map(|fold| fold.part(set));
            parts.collect()
        };
        let mean = |set: LabelSet| mean_of(&parts(set));
        if folds.iter().any(|fold| fold.split().is_none()) {
            return Some(Self::Seen(Box::new(mean(LabelSet::Seen)?)));
        }
        let (seen, gzsl) = (mean(LabelSet::Seen)?, mean(LabelSet::All)?);
        let zsl = pooled(&parts(LabelSet::Unseen))?;
        let sum = seen.map + zsl.map;
        let split = SplitEvaluation {
            harmonic_map: match sum > 0.0 {
                true => 2.0 * seen.map * zsl.map / sum,
                false => 0.0,
            },
            zsl,
            seen,
            gzsl,
        };
        let classes = folds.iter().map(|fold| fold.backbone_classes());
        Some(match classes.collect::<Option<Vec<_>>>() {
            None => Self::Split(Box::new(split)),
            Some(classes) => Self::Anchored(Box::new(AnchoredSplit {
                split,
                backbone_classes: BackboneClasses::over_folds(&classes),
            })),
        })
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
            Self::Anchored(anchored) => {
                anchored.split.fmt(f)?;
                write!(f, "\n{}", anchored.backbone_classes)
            }
            Self::Split(split) => split.fmt(f),
            Self::Seen(seen) => seen.fmt(f),
        }
    }
}

/// The mean of evaluations, without figures of single labels and without a bootstrap.
fn mean_of(all: &[&Evaluation]) -> Option<Evaluation> {
    let mut mean = (*all.first()?).clone();
    let over = |of: &dyn Fn(&Evaluation) -> f64| {
        all.iter().map(|one| of(one)).sum::<f64>() / all.len() as f64
    };
    let top_k = |of: &dyn Fn(&Evaluation) -> &[TopK]| {
        let places = all.iter().map(|one| of(one).len()).min().unwrap_or(0);
        let at = |place: usize| {
            let mut top = of(all[0])[place];
            top.precision = over(&|one| of(one)[place].precision);
            top.recall = over(&|one| of(one)[place].recall);
            top.f1 = over(&|one| of(one)[place].f1);
            top
        };
        (0..places).map(at).collect::<Vec<TopK>>()
    };
    mean.top_k = top_k(&|one| &one.top_k);
    mean.top_k_by_label = top_k(&|one| &one.top_k_by_label);
    mean.map = over(&|one| one.map);
    mean.images_kept = over(&|one| one.images_kept as f64).round() as usize;
    mean.labels_averaged = over(&|one| one.labels_averaged as f64).round() as usize;
    mean.positives_per_image = over(&|one| one.positives_per_image);
    mean.coverage_error = over(&|one| one.coverage_error);
    mean.ranking_loss = over(&|one| one.ranking_loss);
    mean.bootstrap = None;
    mean.per_label = Vec::new();
    Some(mean)
}

/// [`mean_of`] for evaluations of disjoint sets of labels: the mAP is over all their labels, with the weights of the protocol.
fn pooled(all: &[&Evaluation]) -> Option<Evaluation> {
    let mut pooled = mean_of(all)?;
    let labels = all.iter().flat_map(|one| &one.per_label).cloned();
    pooled.per_label = labels.collect();
    for (column, label) in pooled.per_label.iter_mut().enumerate() {
        label.column = column;
    }
    pooled.labels_averaged = all.iter().map(|one| one.labels_averaged).sum();
    pooled.map = pooled.settings.mean.of(&pooled.per_label).unwrap_or(0.0);
    Some(pooled)
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

    fn columns(&self, set: LabelSet) -> &[usize] {
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
        let parts = all.iter_mut().flat_map(|figures| figures.parts_mut());
        parts.for_each(|(_, part)| part.scores = settings.normalisation());
        if settings.bootstrap > 0 {
            self.bootstrap(&mut all, protocols, settings.bootstrap)?;
        }
        Ok(all)
    }

    /// Each table with its label sets: what is asked of one table at once is computed once.
    pub(super) fn by_table(&self) -> Vec<(&Normalised<&'a T>, Vec<LabelSet>)> {
        let sets = self.sets();
        let Some(apart) = &self.apart else {
            return vec![(&self.together, sets.to_vec())];
        };
        let (all, parts) = sets.iter().partition(|set| **set == LabelSet::All);
        vec![(&self.together, all), (apart, parts)]
    }

    /// Requests for the mAP of these label sets, each by its rules.
    pub(super) fn requests<'r>(&'r self, rules: &'r [(LabelSet, Protocol)]) -> Vec<Request<'r>> {
        let request = |(set, protocol): &'r (LabelSet, Protocol)| Request {
            columns: self.columns(*set),
            protocol,
            ks: &[],
        };
        rules.iter().map(request).collect()
    }

    /// Gives every part its bootstrap.
    fn bootstrap(
        &self,
        all: &mut [Figures],
        protocols: &[Protocol],
        resamples: usize,
    ) -> Result<(), MetricsError> {
        for (table, sets) in self.by_table() {
            let (mut parts, mut own) = (Vec::new(), Vec::new());
            for (figures, protocol) in all.iter_mut().zip(protocols) {
                let of_table = figures.parts_mut().into_iter();
                for (set, part) in of_table.filter(|(set, _)| sets.contains(set)) {
                    parts.push(part);
                    own.push((set, rules(protocol, set)));
                }
            }
            let requests = self.requests(&own);
            let bootstraps = bootstrap_table(table, &requests, resamples, BOOTSTRAP_SEED)?;
            for (part, bootstrap) in parts.into_iter().zip(bootstraps) {
                part.bootstrap = Some(bootstrap);
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use epsilon_metrics::{InMemory, Labels, Scores};

    fn fold(scores: &[f32], seen: usize) -> Figures {
        let labels = scores.len() / 2;
        let targets: Vec<i8> = (0..2 * labels)
            .map(|n| if n % 2 == 0 { 1 } else { -1 })
            .collect();
        let table = InMemory::new(
            Scores::new(scores, 2, labels).unwrap(),
            Labels::new(&targets, 2, labels).unwrap(),
        );
        let settings = EvaluationSettings {
            k_zsl: vec![1],
            k_gzsl: vec![1],
            bootstrap: 0,
            ..EvaluationSettings::default()
        };
        let protocol = [Protocol::lesa_nus()];
        figures(&table.unwrap(), seen, &protocol, &settings)
            .unwrap()
            .remove(0)
    }

    #[test]
    fn zsl_over_folds_has_each_label_once_and_the_rest_is_a_mean() {
        // Label 0 is right in the first image, label 1 in the second, label 2 in the first, and so on: three labels each.
        // One unseen label with AP 1/2; then two, of AP 1 each.
        let first = fold(&[0.9, 0.1, 0.1, 0.1, 0.9, 0.9], 2);
        let second = fold(&[0.1, 0.1, 0.9, 0.9, 0.9, 0.1], 1);
        let zsl: Vec<f64> = [&first, &second]
            .map(|f| f.split().unwrap().zsl.map)
            .to_vec();
        let all = Figures::over_folds(&[&first, &second]).unwrap();
        let split = all.split().unwrap();
        assert_eq!(split.zsl.labels_averaged, 3);
        assert!((split.zsl.map - (zsl[0] + 2.0 * zsl[1]) / 3.0).abs() < 1e-12);
        let mean = |set| {
            [&first, &second]
                .map(|f| f.part(set).unwrap().map)
                .iter()
                .sum::<f64>()
                / 2.0
        };
        assert_eq!(split.seen.map, mean(LabelSet::Seen));
        assert_eq!(split.gzsl.map, mean(LabelSet::All));
        let columns: Vec<usize> = split
            .zsl
            .per_label
            .iter()
            .map(|label| label.column)
            .collect();
        assert_eq!(columns, [0, 1, 2]);
        assert!(split.seen.per_label.is_empty());
        assert!(Figures::over_folds(&[]).is_none());
    }
}
