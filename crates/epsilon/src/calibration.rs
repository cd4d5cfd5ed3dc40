//! From scores to probabilities, and to the labels that are kept.
//!
//! A ranking loss leaves the level and the spread of an image's scores free. A score is therefore first standardised over
//! the image's scores of the model's own labels, z_c = (s_c - mean) / deviation, whatever labels are asked for. The
//! probability of label c is then 1 / (1 + exp(-(a z_c + b_c))), fitted by maximum likelihood: a slope a for the seen and one
//! for the unseen labels, an offset b_c for every label with enough positives, one offset for the others of its side.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Positives that a label needs for an offset and a threshold of its own.
pub const ENOUGH: usize = 10;
/// Standard deviation of the labels' offsets around that of their side, which few positives cannot leave far.
const SPREAD: f64 = 2.0;
/// Rounds of Newton's method; it converges in less.
const ROUNDS: usize = 50;

/// What can go wrong with a calibration.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum CalibrationError {
    /// Not a precision.
    #[error("a precision of {0}: give a value above 0 and below 1")]
    Precision(f64),
    /// The images show too little.
    #[error(
        "{positives} positives among the images and labels, of {pairs} pairs that are known: calibration needs at least {ENOUGH}, \
         and as many negatives"
    )]
    TooFew {
        /// Pairs of an image and a label that is true of it.
        positives: usize,
        /// Pairs whose truth is known.
        pairs: usize,
    },
}

/// How a threshold is chosen among the probabilities of labelled images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Where F1, the harmonic mean of precision and recall, is best.
    BestF1,
    /// The lowest one at which precision is at least this.
    Precision(f64),
}

/// What is known of the labels of one side, seen or unseen, that have no threshold of their own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// a, for all labels of the side.
    pub slope: f64,
    /// b of labels without one of their own.
    pub offset: f64,
    /// The probability from which on such a label is kept; none when no threshold met the rule.
    pub threshold: Option<f64>,
    /// Labels of the side that the images show.
    pub labels: usize,
    /// Pairs of an image and a label of the side that is true of it.
    pub positives: usize,
}

/// A label with enough positives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfLabel {
    /// The label.
    pub label: String,
    /// Whether the model was trained on it.
    pub seen: bool,
    /// b.
    pub offset: f64,
    /// The probability from which on it is kept; none when no threshold met the rule.
    pub threshold: Option<f64>,
    /// Images that it is true of.
    pub positives: usize,
}

/// A model's calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How thresholds were chosen.
    pub rule: Rule,
    /// The images it rests on, in words.
    pub on: String,
    /// Their number.
    pub images: usize,
    /// The labels that the model was trained on.
    pub seen: Side,
    /// All others. That of the seen ones where the images show too few.
    pub unseen: Side,
    /// Labels with their own offset and threshold.
    pub labels: Vec<OfLabel>,
}

/// The probabilities of a model that nobody has shown a labelled image: a calibration takes their place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum Preset {
    /// Scores are cosines, and the network was trained to say so: `p = 1 / (1 + exp(-(scale s + bias)))`, as SigLIP's.
    Sigmoid {
        /// What a cosine is multiplied by.
        scale: f64,
        /// What is added then.
        bias: f64,
        /// The probability from which on a label is kept.
        threshold: f64,
    },
    /// By how far a label's standardised score z lies above the same label's scores on
    /// [prototypes](crate::methods::Method::prototypes), the images of one thing each: with their mean m and their standard
    /// deviation d, `p = 1 / (1 + exp(-(slope (z - m) / d + offset)))`.
    Prototypes {
        /// Slope.
        slope: f64,
        /// Offset.
        offset: f64,
        /// The probability from which on a label is kept.
        threshold: f64,
    },
}

impl Preset {
    /// The rule with the constants that fit best where the training images of Corel5k and of a part of COCO, the two alike,
    /// were judged by DeiT-Tiny's classes and GloVe's vectors of 50 values; the threshold is that of the best mean F1.
    /// `docs/models-without-training.md` says what it keeps of their test images.
    pub const PROTOTYPES: Self = Self::Prototypes {
        slope: 1.05,
        offset: -4.32,
        threshold: 0.077,
    };

    /// The rule for scores of a network with a sigmoid of its own.
    pub fn sigmoid(scale: f64, bias: f64) -> Self {
        Self::Sigmoid {
            scale,
            bias,
            threshold: 0.5,
        }
    }

    /// What no rule of ours says, in a file from elsewhere.
    pub(crate) fn problem(&self) -> Option<String> {
        let (Self::Sigmoid {
            scale: slope,
            bias: offset,
            threshold,
        }
        | Self::Prototypes {
            slope,
            offset,
            threshold,
        }) = *self;
        let usual = |value: f64| value.abs() <= 1e4;
        let fits = usual(slope) && slope > 0.0 && usual(offset) && (0.0..=1.0).contains(&threshold);
        (!fits).then(|| format!("probabilities by a rule that cannot be: {self:?}"))
    }

    /// Whether it judges standardised scores.
    pub fn is_standardised(&self) -> bool {
        matches!(self, Self::Prototypes { .. })
    }

    /// How a label with these scores on prototypes is judged; only [`Preset::Prototypes`] asks for any.
    pub fn judge(&self, on_prototypes: &[f64]) -> LabelCalibration {
        match *self {
            Self::Sigmoid {
                scale,
                bias,
                threshold,
            } => LabelCalibration {
                slope: scale,
                offset: bias,
                threshold: Some(threshold),
            },
            Self::Prototypes {
                slope,
                offset,
                threshold,
            } => {
                let count = on_prototypes.len().max(1) as f64;
                let mean = on_prototypes.iter().sum::<f64>() / count;
                let squares = on_prototypes.iter().map(|score| (score - mean).powi(2));
                // A label that scores all of them alike lies nowhere above them.
                let deviation = (squares.sum::<f64>() / count).sqrt().max(1e-6);
                LabelCalibration {
                    slope: slope / deviation,
                    offset: offset - slope * mean / deviation,
                    threshold: Some(threshold),
                }
            }
        }
    }
}

/// How one label is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelCalibration {
    slope: f64,
    offset: f64,
    threshold: Option<f64>,
}

impl LabelCalibration {
    /// The probability of a standardised score.
    pub fn probability(&self, score: f64) -> f64 {
        sigmoid(self.slope * score + self.offset)
    }

    /// Whether a label of this probability is kept.
    pub fn keeps(&self, probability: f64) -> bool {
        self.threshold
            .is_some_and(|threshold| probability >= threshold)
    }
}

/// Standardised scores of labelled images.
#[derive(Debug, Clone, Copy)]
pub struct LabelledScores<'a> {
    /// z, row-major `[images, labels]`.
    pub scores: &'a [f32],
    /// +1, -1 or 0 (unknown), likewise.
    pub truths: &'a [i8],
    /// The labels' names.
    pub labels: &'a [String],
    /// Whether the model was trained on each.
    pub seen: &'a [bool],
}

/// Labels that were kept, by their truth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Kept and true.
    pub hits: usize,
    /// Kept and false.
    pub false_alarms: usize,
    /// True and not kept.
    pub missed: usize,
}

impl Kept {
    /// Share of what was kept that is true; none where nothing was kept.
    pub fn precision(&self) -> Option<f64> {
        share(self.hits, self.hits + self.false_alarms)
    }

    /// Share of what is true that was kept; none where nothing is true.
    pub fn recall(&self) -> Option<f64> {
        share(self.hits, self.hits + self.missed)
    }

    /// Their harmonic mean.
    pub fn f1(&self) -> Option<f64> {
        share(
            2 * self.hits,
            2 * self.hits + self.false_alarms + self.missed,
        )
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            false_alarms: self.false_alarms + other.false_alarms,
            missed: self.missed + other.missed,
        }
    }

    fn add(&mut self, kept: bool, truth: bool) {
        match (kept, truth) {
            (true, true) => self.hits += 1,
            (true, false) => self.false_alarms += 1,
            (false, true) => self.missed += 1,
            (false, false) => {}
        }
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What thresholds kept of the seen and of the unseen labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BothSides {
    /// Of the seen labels.
    pub seen: Kept,
    /// Of the unseen ones.
    pub unseen: Kept,
}

impl BothSides {
    /// Of what was kept of each label, and whether it is seen.
    pub fn of(labels: &[Kept], seen: &[bool]) -> Self {
        let sum = |wanted: bool| {
            let both = labels.iter().zip(seen);
            let side = both.filter(|(_, seen)| **seen == wanted);
            side.fold(Kept::default(), |sum, (kept, _)| sum.plus(*kept))
        };
        Self {
            seen: sum(true),
            unseen: sum(false),
        }
    }
}

impl Calibration {
    /// Fits probabilities and thresholds to labelled images, which `on` names.
    ///
    /// # Errors
    /// [`CalibrationError`].
    pub fn fit(judged: &LabelledScores, rule: Rule, on: String) -> Result<Self, CalibrationError> {
        if let Rule::Precision(precision) = rule
            && !(precision > 0.0 && precision < 1.0)
        {
            return Err(CalibrationError::Precision(precision));
        }
        let columns: Vec<Column> = (0..judged.labels.len())
            .into_par_iter()
            .map(|label| judged.column(label))
            .collect();
        let of_side = |seen: bool| -> Option<FittedSide> {
            let mine = (0..columns.len()).filter(|&label| judged.seen[label] == seen);
            FittedSide::fit(mine.map(|label| (label, &columns[label])).collect(), rule)
        };
        let (seen, unseen) = (of_side(true), of_side(false));
        let either = seen.as_ref().or(unseen.as_ref()).map(|fitted| fitted.side);
        let Some(either) = either else {
            let positives = columns.iter().map(Column::positives).sum();
            let pairs = columns.iter().map(|column| column.0.len()).sum();
            return Err(CalibrationError::TooFew { positives, pairs });
        };
        let side = |fitted: &Option<FittedSide>| fitted.as_ref().map_or(either, |of| of.side);
        let labels = [&seen, &unseen].into_iter().flatten();
        let labels = labels.flat_map(|fitted| {
            fitted.labels.iter().map(|of| OfLabel {
                label: judged.labels[of.label].clone(),
                seen: judged.seen[of.label],
                offset: of.offset,
                threshold: of.threshold,
                positives: columns[of.label].positives(),
            })
        });
        Ok(Self {
            rule,
            on,
            images: judged.images(),
            seen: side(&seen),
            unseen: side(&unseen),
            labels: labels.collect(),
        })
    }

    /// How labels are judged, in their order; `seen` tells of each whether the model was trained on it.
    pub fn judges(&self, labels: &[String], seen: &[bool]) -> Vec<LabelCalibration> {
        // Of two of a name, which only a damaged file has, the first holds.
        let own = self.labels.iter().rev();
        let own: HashMap<&str, &OfLabel> = own.map(|own| (own.label.as_str(), own)).collect();
        let judge = |(label, &seen): (&String, &bool)| {
            let side = if seen { self.seen } else { self.unseen };
            let own = own.get(label.as_str());
            LabelCalibration {
                slope: side.slope,
                offset: own.map_or(side.offset, |own| own.offset),
                threshold: own.map_or(side.threshold, |own| own.threshold),
            }
        };
        labels.iter().zip(seen).map(judge).collect()
    }

    /// Probabilities of all known pairs of the seen or of the unseen labels, with their truth.
    pub fn predictions(&self, judged: &LabelledScores, seen: bool) -> Vec<(f64, bool)> {
        let judges = self.judges(judged.labels, judged.seen).into_iter();
        let labels = judges.enumerate();
        let labels = labels.filter(|(label, _)| judged.seen[*label] == seen);
        let pairs = labels.flat_map(|(label, judge)| {
            let pairs = judged.column(label).0.into_iter();
            pairs.map(move |(score, truth)| (judge.probability(score), truth))
        });
        pairs.collect()
    }

    /// What its thresholds keep of labelled images, label by label.
    pub fn kept(&self, judged: &LabelledScores) -> Vec<Kept> {
        let of_label = |(label, judge): (usize, LabelCalibration)| {
            let mut kept = Kept::default();
            for (score, truth) in judged.column(label).0 {
                kept.add(judge.keeps(judge.probability(score)), truth);
            }
            kept
        };
        let judges = self.judges(judged.labels, judged.seen);
        judges.into_iter().enumerate().map(of_label).collect()
    }
}

/// What thresholds keep of images that they were not chosen on, label by label: fitted to every second image, counted on the
/// others, and the other way round. None where half of the images show too little.
pub fn held_out_by_label(judged: &LabelledScores, rule: Rule) -> Option<Vec<Kept>> {
    let halves = [0, 1].map(|first| judged.every_second(first));
    let of = |fitted: usize, counted: usize| {
        let calibration = Calibration::fit(&halves[fitted].as_judged(judged), rule, String::new());
        Some(calibration.ok()?.kept(&halves[counted].as_judged(judged)))
    };
    let both = of(0, 1)?.into_iter().zip(of(1, 0)?);
    Some(both.map(|(a, b)| a.plus(b)).collect())
}

/// [`held_out_by_label`], of the seen and of the unseen labels together.
pub fn held_out(judged: &LabelledScores, rule: Rule) -> Option<BothSides> {
    let labels = held_out_by_label(judged, rule)?;
    Some(BothSides::of(&labels, judged.seen))
}

/// Scores and truths of some of the images.
struct Half {
    scores: Vec<f32>,
    truths: Vec<i8>,
}

impl Half {
    fn as_judged<'a>(&'a self, whole: &LabelledScores<'a>) -> LabelledScores<'a> {
        LabelledScores {
            scores: &self.scores,
            truths: &self.truths,
            ..*whole
        }
    }
}

impl LabelledScores<'_> {
    fn images(&self) -> usize {
        self.scores.len() / self.labels.len().max(1)
    }

    /// A label's known pairs.
    fn column(&self, label: usize) -> Column {
        let step = self.labels.len();
        let scores = self.scores.iter().skip(label).step_by(step);
        let truths = self.truths.iter().skip(label).step_by(step);
        let pairs = scores.zip(truths).filter(|(_, truth)| **truth != 0);
        Column(
            pairs
                .map(|(&z, &truth)| (f64::from(z), truth > 0))
                .collect(),
        )
    }

    fn every_second(&self, first: usize) -> Half {
        let labels = self.labels.len();
        let scores = self.scores.chunks_exact(labels).skip(first).step_by(2);
        let truths = self.truths.chunks_exact(labels).skip(first).step_by(2);
        Half {
            scores: scores.flatten().copied().collect(),
            truths: truths.flatten().copied().collect(),
        }
    }
}

/// A label's standardised scores with their truths.
struct Column(Vec<(f64, bool)>);

impl Column {
    fn positives(&self) -> usize {
        self.0.iter().filter(|(_, truth)| *truth).count()
    }

    /// Whether it shows enough of both truths.
    fn is_enough(&self) -> bool {
        let positives = self.positives();
        positives >= ENOUGH && self.0.len() - positives >= ENOUGH
    }
}

/// One side, fitted.
struct FittedSide {
    side: Side,
    labels: Vec<FittedLabel>,
}

struct FittedLabel {
    label: usize,
    offset: f64,
    threshold: Option<f64>,
}

impl FittedSide {
    /// `None` where the columns show too little.
    fn fit(columns: Vec<(usize, &Column)>, rule: Rule) -> Option<Self> {
        let pairs = columns.iter().flat_map(|(_, column)| &column.0);
        let all = Column(pairs.copied().collect());
        if !all.is_enough() {
            return None;
        }
        let (slope, offset) = line(&all);
        let side = Side {
            slope,
            offset,
            threshold: all.threshold(slope, offset, rule),
            labels: columns.iter().filter(|(_, c)| c.positives() > 0).count(),
            positives: all.positives(),
        };
        let enough = columns.into_par_iter().filter(|(_, c)| c.is_enough());
        let labels = enough.map(|(label, column)| {
            let offset = column.offset(slope, offset);
            FittedLabel {
                label,
                offset,
                threshold: column.threshold(slope, offset, rule),
            }
        });
        Some(Self {
            side,
            labels: labels.collect(),
        })
    }
}

/// Slope and offset of the logistic curve through all pairs, by Newton's method.
fn line(pairs: &Column) -> (f64, f64) {
    let truths = pairs.positives() as f64;
    let mut at = [0.0, (truths / (pairs.0.len() as f64 - truths)).ln()];
    let mut loss = pairs.loss(at);
    for _ in 0..ROUNDS {
        // A prior of the slope, N(0, 100), keeps it finite where scores part the truths without an error.
        let mut gradient = [at[0] / 100.0, 0.0];
        let mut curve = [1.0 / 100.0, 0.0, 0.0];
        for &(z, truth) in &pairs.0 {
            let p = sigmoid(at[0] * z + at[1]);
            let (error, weight) = (p - f64::from(truth), p * (1.0 - p));
            gradient[0] += error * z;
            gradient[1] += error;
            curve[0] += weight * z * z;
            curve[1] += weight * z;
            curve[2] += weight;
        }
        let determinant = curve[0] * curve[2] - curve[1] * curve[1];
        if determinant <= 0.0 {
            break;
        }
        let full = [
            (curve[2] * gradient[0] - curve[1] * gradient[1]) / determinant,
            (curve[0] * gradient[1] - curve[1] * gradient[0]) / determinant,
        ];
        // A whole step may overshoot far from the optimum: it is halved until the loss falls.
        let steps = (0..ROUNDS as i32).map(|halvings| {
            let step = 0.5_f64.powi(halvings);
            [at[0] - step * full[0], at[1] - step * full[1]]
        });
        let better = steps
            .map(|next| (next, pairs.loss(next)))
            .find(|(_, next)| *next < loss);
        let Some((next, next_loss)) = better else {
            break;
        };
        (at, loss) = (next, next_loss);
    }
    (at[0], at[1])
}

impl Column {
    /// Negative logarithm of the likelihood of slope and offset, and of the slope's prior.
    fn loss(&self, [slope, offset]: [f64; 2]) -> f64 {
        let of_pair = |&(z, truth): &(f64, bool)| {
            let logit = slope * z + offset;
            softplus(if truth { -logit } else { logit })
        };
        self.0.iter().map(of_pair).sum::<f64>() + slope * slope / 200.0
    }

    /// The label's own offset: most likely by its pairs, and not far from its side's. The gradient grows with the offset, so
    /// the root is found by halving.
    fn offset(&self, slope: f64, side: f64) -> f64 {
        let gradient = |offset: f64| {
            let errors = self.0.iter();
            let errors = errors.map(|&(z, truth)| sigmoid(slope * z + offset) - f64::from(truth));
            errors.sum::<f64>() + (offset - side) / (SPREAD * SPREAD)
        };
        let (mut low, mut high) = (side - 50.0, side + 50.0);
        for _ in 0..ROUNDS {
            let middle = 0.5 * (low + high);
            match gradient(middle) > 0.0 {
                true => high = middle,
                false => low = middle,
            }
        }
        0.5 * (low + high)
    }

    /// The probability from which on a label is kept by the rule; none where no threshold meets it.
    fn threshold(&self, slope: f64, offset: f64, rule: Rule) -> Option<f64> {
        let pairs = self.0.iter();
        let pairs = pairs.map(|&(z, truth)| (sigmoid(slope * z + offset), truth));
        let mut pairs: Vec<(f64, bool)> = pairs.collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut kept = Kept {
            missed: self.positives(),
            ..Kept::default()
        };
        let mut best: Option<(f64, f64)> = None;
        for (place, &(probability, truth)) in pairs.iter().enumerate() {
            match truth {
                true => {
                    kept.hits += 1;
                    kept.missed -= 1;
                }
                false => kept.false_alarms += 1,
            }
            let next = pairs.get(place + 1).map_or(0.0, |next| next.0);
            // Equal probabilities are kept or left together.
            if next == probability {
                continue;
            }
            let between = 0.5 * (probability + next);
            let (precision, f1) = (kept.precision()?, kept.f1()?);
            let better = match rule {
                Rule::BestF1 => best.is_none_or(|(_, before)| f1 > before),
                Rule::Precision(wanted) => precision >= wanted,
            };
            if better {
                best = Some((between, f1));
            }
        }
        best.map(|(threshold, _)| threshold)
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// log(1 + exp(x)), finite for every finite x.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(pairs: &[(f64, bool)], times: usize) -> Column {
        Column(
            pairs
                .iter()
                .copied()
                .cycle()
                .take(pairs.len() * times)
                .collect(),
        )
    }

    /// At z = 0 one of four is true, at z = 1 three of four: b = ln(1/3), a + b = ln 3.
    #[test]
    fn a_line_by_hand() {
        let zero = [true, false, false, false].map(|truth| (0.0, truth));
        let one = [true, true, true, false].map(|truth| (1.0, truth));
        let pairs = column(&[zero, one].concat(), 1000);
        let (slope, offset) = line(&pairs);
        assert!((offset - (1.0_f64 / 3.0).ln()).abs() < 1e-3, "{offset}");
        assert!((slope - 9.0_f64.ln()).abs() < 1e-3, "{slope}");
        // The offset alone, by the same pairs, is the line's.
        assert!((pairs.offset(slope, offset) - offset).abs() < 1e-3);
    }

    #[test]
    fn scores_without_an_error_have_a_finite_line() {
        let (slope, offset) = line(&column(&[(-1.0, false), (1.0, true)], 50));
        assert!(
            slope > 1.0 && slope.is_finite() && offset.abs() < 1e-6,
            "{slope} {offset}"
        );
        let constant = column(&[(0.0, false), (0.0, true)], 50);
        assert_eq!(line(&constant), (0.0, 0.0));
    }

    /// In falling order: true, false, true, true, false, with probabilities of the logistic curve itself.
    #[test]
    fn thresholds_by_hand() {
        let truths = [true, false, true, true, false];
        let z = [4.0, 3.0, 2.0, 1.0, 0.0];
        let column = Column(z.into_iter().zip(truths).collect());
        let between = |a: f64, b: f64| Some(0.5 * (sigmoid(a) + sigmoid(b)));
        // F1: 1/2, 2/5, 2/3, 6/7, 3/4.
        assert_eq!(column.threshold(1.0, 0.0, Rule::BestF1), between(1.0, 0.0));
        // Precision: 1, 1/2, 2/3, 3/4, 3/5.
        let precision = |wanted| column.threshold(1.0, 0.0, Rule::Precision(wanted));
        assert_eq!(precision(0.9), between(4.0, 3.0));
        assert_eq!(precision(0.7), between(1.0, 0.0));
        assert_eq!(precision(0.1), Some(0.5 * sigmoid(0.0)));
        let hopeless = Column(vec![(2.0, false), (1.0, true)]);
        assert_eq!(hopeless.threshold(1.0, 0.0, Rule::Precision(0.6)), None);
        let equal = Column(vec![(1.0, true), (1.0, false)]);
        let all = equal.threshold(1.0, 0.0, Rule::BestF1);
        assert_eq!(all, Some(0.5 * sigmoid(1.0)));
    }

    /// Two seen labels and an unseen one; the second seen label has too few positives for a threshold of its own.
    #[test]
    fn labels_with_little_data_go_by_their_side() {
        let labels = ["often", "rare", "new"].map(String::from);
        let seen = [true, true, false];
        let (mut scores, mut truths) = (Vec::new(), Vec::new());
        for image in 0..120 {
            let often = image % 3 == 0;
            let (rare, new) = (image % 40 == 1, image % 4 == 1);
            let noise = 0.1 * f32::from((image % 7) as u8);
            scores.extend([often, rare, new].map(|is| f32::from(u8::from(is)) + noise));
            truths.extend([often, rare, new].map(|is| if is { 1 } else { -1 }));
        }
        let judged = LabelledScores {
            scores: &scores,
            truths: &truths,
            labels: &labels,
            seen: &seen,
        };
        let fitted = Calibration::fit(&judged, Rule::BestF1, "here".into()).unwrap();
        let own: Vec<&str> = fitted.labels.iter().map(|own| own.label.as_str()).collect();
        assert_eq!(own, ["often", "new"]);
        assert_eq!((fitted.seen.labels, fitted.seen.positives), (2, 43));
        assert_eq!((fitted.unseen.labels, fitted.unseen.positives), (1, 30));
        let names = ["rare", "never heard of", "often"].map(String::from);
        let [rare, other, often] = fitted.judges(&names, &[true, false, true])[..] else {
            unreachable!()
        };
        assert_eq!(rare.threshold, fitted.seen.threshold);
        assert_eq!(other.slope, fitted.unseen.slope);
        assert_eq!(often.offset, fitted.labels[0].offset);
        let kept = BothSides::of(&fitted.kept(&judged), judged.seen);
        assert_eq!(kept.seen.f1(), Some(1.0));
        assert_eq!(kept.unseen.recall(), Some(1.0));
        let held_out = held_out(&judged, Rule::BestF1).unwrap();
        assert_eq!(held_out.seen.hits + held_out.seen.missed, 43);
        assert!(held_out.seen.f1().unwrap() > 0.9);

        // Without a known unseen pair the unseen side is the seen one.
        let truths: Vec<i8> = truths
            .chunks(3)
            .flat_map(|row| [row[0], row[1], 0])
            .collect();
        let judged = LabelledScores {
            truths: &truths,
            ..judged
        };
        let fitted = Calibration::fit(&judged, Rule::Precision(0.9), "here".into()).unwrap();
        assert_eq!(fitted.unseen, fitted.seen);
        let none = LabelledScores {
            truths: &vec![0; truths.len()],
            ..judged
        };
        let error = Calibration::fit(&none, Rule::BestF1, String::new()).unwrap_err();
        assert!(matches!(
            error,
            CalibrationError::TooFew {
                positives: 0,
                pairs: 0
            }
        ));
        let wrong = Calibration::fit(&judged, Rule::Precision(1.0), String::new()).unwrap_err();
        assert_eq!(wrong, CalibrationError::Precision(1.0));
    }
}
