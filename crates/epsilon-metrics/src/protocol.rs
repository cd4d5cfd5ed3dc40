//! The rules a figure is measured under, as one checked type, and the published sets of rules by
//! name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::MetricsError;

/// Which images are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Images {
    /// Every image.
    All,
    /// Images with at least one positive among the evaluated labels.
    WithPositive,
}

/// What becomes of a label that has no positive among the images kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyLabel {
    /// Its AP is 0 and enters the mean.
    Zero,
    /// It has no AP and stays out of the mean.
    Skip,
    /// It is an error.
    Error,
}

/// How the labels' AP become one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mean {
    /// Every label counts the same.
    Plain,
    /// A label counts as often as it has annotated (not unknown) images among those kept.
    ByAnnotated,
}

impl Mean {
    /// Mean of pairs of an AP and the number of annotated images of its label; labels without AP are left out. `None`
    /// when no label has one.
    pub(crate) fn over(self, values: impl Iterator<Item = (Option<f64>, f64)>) -> Option<f64> {
        let (mut sum, mut total) = (0.0, 0.0);
        for (value, annotated) in values {
            let weight = match self {
                Self::Plain => 1.0,
                Self::ByAnnotated => annotated,
            };
            if let Some(value) = value {
                sum += weight * value;
                total += weight;
            }
        }
        (total > 0.0).then(|| sum / total)
    }
}

/// What an unknown label (0) is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// Left out of the label's AP; where it reaches the top K, a miss.
    Miss,
    /// A negative, in both.
    Negative,
    /// Left out of both: the top K are the K best among the annotated labels of the image, all of
    /// them where there are fewer than K, and precision counts the places so filled.
    Ignore,
}

/// How AP treats images with equal scores for a label.
///
/// The top K always holds exactly K labels: equal scores there go by column order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// Equal scores share one rank, the last of theirs, as scikit-learn's
    /// `average_precision_score`. Does not depend on the order of the images.
    Grouped,
    /// Equal scores rank in the order of the images, as a stable sort leaves them.
    Stable,
}

/// The rules of a [`Protocol`], as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Which images are measured.
    pub images: Images,
    /// What becomes of a label without positives.
    pub empty_label: EmptyLabel,
    /// How the labels' AP become one figure.
    pub mean: Mean,
    /// What an unknown label is taken for.
    pub unknown: Unknown,
    /// How AP treats equal scores.
    pub ties: Ties,
}

/// One sentence that says all the rules.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images = match self.images {
            Images::All => "all images",
            Images::WithPositive => "images with a positive label",
        };
        let empty = match self.empty_label {
            EmptyLabel::Zero => "labels without positives count as AP 0",
            EmptyLabel::Skip => "labels without positives skipped",
            EmptyLabel::Error => "labels without positives are an error",
        };
        let mean = match self.mean {
            Mean::Plain => "plain mean over labels",
            Mean::ByAnnotated => "mean weighted by annotated images",
        };
        let unknown = match self.unknown {
            Unknown::Miss => "unknown out of AP and a miss in the top K",
            Unknown::Negative => "unknown is negative",
            Unknown::Ignore => "unknown out of AP and of the top K",
        };
        let ties = match self.ties {
            Ties::Grouped => "ties grouped",
            Ties::Stable => "ties in image order",
        };
        write!(f, "{images}; {empty}; {mean}; {unknown}; {ties}")
    }
}

const BASE: Settings = Settings {
    images: Images::WithPositive,
    empty_label: EmptyLabel::Zero,
    mean: Mean::Plain,
    unknown: Unknown::Miss,
    ties: Ties::Grouped,
};
const ALL_IMAGES: Settings = Settings {
    images: Images::All,
    ..BASE
};
const SKIP_EMPTY: Settings = Settings {
    empty_label: EmptyLabel::Skip,
    ..BASE
};
/// The K of the tables on NUS-WIDE and on Open Images.
const NUS_WIDE: [usize; 2] = [3, 5];
const OPEN_IMAGES: [usize; 2] = [10, 20];

/// A named, checked set of rules, and the K its published tables print.
///
/// | name | images | empty label | mean | unknown | K |
/// |---|---|---|---|---|---|
/// | `epsilon` (Epsilon, (ML)2P-Encoder) | with a positive | AP 0, averaged | plain | out of AP, miss in top K | 3, 5 |
/// | `lesa-nus` (LESA, BiAM, Gen-MLZSL on NUS-WIDE) | all | AP 0, averaged | plain | out of AP, miss in top K | 3, 5 |
/// | `sdl` | with a positive | AP 0, averaged | plain | negative | 3, 5 |
/// | `lesa-oi` (LESA on Open Images) | all | AP 0, averaged | plain | out of AP, miss in top K | 10, 20 |
/// | `biam-oi` (BiAM on Open Images) | with a positive | skipped | plain | out of AP, miss in top K | 10, 20 |
/// | `biam-oi-weighted` | with a positive | skipped | by annotated images | out of AP, miss in top K | 10, 20 |
///
/// Ties are [`Ties::Grouped`] in every preset: the order in which images are listed must not change
/// a figure (a constant score then has as AP the share of positives), and scikit-learn agrees.
///
/// ```
/// use epsilon_metrics::{Images, Protocol, Settings};
///
/// let protocol = Protocol::lesa_nus();
/// assert_eq!(Protocol::named("lesa-nus")?, protocol);
/// assert_eq!(protocol.settings().images, Images::All);
/// assert_eq!(protocol.ks(), [3, 5]);
///
/// // Rules of one's own need a name of their own.
/// let settings = Settings { images: Images::WithPositive, ..protocol.settings() };
/// let own = Protocol::new("ours", settings, &[1, 10])?;
/// assert_eq!(own.to_string(), "ours");
///
/// let error = Protocol::named("leza").unwrap_err().to_string();
/// assert!(error.contains("epsilon, lesa-nus, sdl, lesa-oi, biam-oi, biam-oi-weighted"));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    name: String,
    settings: Settings,
    ks: Vec<usize>,
}

impl Protocol {
    /// The names [`Protocol::named`] knows.
    pub const NAMES: [&str; 6] = [
        "epsilon",
        "lesa-nus",
        "sdl",
        "lesa-oi",
        "biam-oi",
        "biam-oi-weighted",
    ];

    /// Epsilon and the (ML)2P-Encoder, on NUS-WIDE.
    pub fn epsilon() -> Self {
        Self::preset("epsilon", BASE, NUS_WIDE)
    }

    /// LESA, BiAM and Gen-MLZSL, on NUS-WIDE.
    pub fn lesa_nus() -> Self {
        Self::preset("lesa-nus", ALL_IMAGES, NUS_WIDE)
    }

    /// SDL.
    pub fn sdl() -> Self {
        let settings = Settings {
            unknown: Unknown::Negative,
            ..BASE
        };
        Self::preset("sdl", settings, NUS_WIDE)
    }

    /// LESA, on Open Images.
    pub fn lesa_oi() -> Self {
        Self::preset("lesa-oi", ALL_IMAGES, OPEN_IMAGES)
    }

    /// BiAM, on Open Images.
    pub fn biam_oi() -> Self {
        Self::preset("biam-oi", SKIP_EMPTY, OPEN_IMAGES)
    }

    /// BiAM, on Open Images, labels weighted by their annotated images.
    pub fn biam_oi_weighted() -> Self {
        let settings = Settings {
            mean: Mean::ByAnnotated,
            ..SKIP_EMPTY
        };
        Self::preset("biam-oi-weighted", settings, OPEN_IMAGES)
    }

    /// Every published protocol, in the order of [`Protocol::NAMES`].
    pub fn all() -> [Self; 6] {
        [
            Self::epsilon(),
            Self::lesa_nus(),
            Self::sdl(),
            Self::lesa_oi(),
            Self::biam_oi(),
            Self::biam_oi_weighted(),
        ]
    }

    /// A published protocol by its name.
    ///
    /// # Errors
    /// An unknown name; the message lists the known ones.
    pub fn named(name: &str) -> Result<Self, MetricsError> {
        let found = Self::all().into_iter().find(|p| p.name == name);
        found.ok_or_else(|| MetricsError::UnknownProtocol {
            name: name.into(),
            known: &Self::NAMES,
        })
    }

    fn preset(name: &str, settings: Settings, ks: [usize; 2]) -> Self {
        Self {
            name: name.into(),
            settings,
            ks: ks.to_vec(),
        }
    }

    /// Rules of one's own under a name of their own.
    ///
    /// # Errors
    /// An empty name, the name of a published protocol, or a list of K that does not ascend
    /// strictly from at least 1.
    pub fn new(name: &str, settings: Settings, ks: &[usize]) -> Result<Self, MetricsError> {
        let reason = if name.trim().is_empty() {
            Some("a name has at least one character")
        } else if Self::NAMES.contains(&name) {
            Some("that is a published protocol, whose rules are fixed")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(MetricsError::ProtocolName {
                name: name.into(),
                reason,
            });
        }
        check_ks(ks)?;
        Ok(Self {
            name: name.into(),
            settings,
            ks: ks.to_vec(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The K its tables print, ascending. What is evaluated may differ: few labels need smaller K.
    pub fn ks(&self) -> &[usize] {
        &self.ks
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl FromStr for Protocol {
    type Err = MetricsError;

    fn from_str(name: &str) -> Result<Self, MetricsError> {
        Self::named(name)
    }
}

pub(crate) fn check_ks(ks: &[usize]) -> Result<(), MetricsError> {
    if ks.contains(&0) || !ks.is_sorted_by(|a, b| a < b) {
        return Err(MetricsError::BadKs { ks: ks.to_vec() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_and_prints_itself() {
        let all = Protocol::all();
        assert_eq!(all.each_ref().map(Protocol::name), Protocol::NAMES);
        for protocol in all {
            assert_eq!(protocol.name().parse(), Ok(protocol));
        }
    }

    #[test]
    fn presets_follow_the_published_rules() {
        let row = |name: &str| {
            let s = Protocol::named(name).unwrap().settings();
            (s.images, s.empty_label, s.mean, s.unknown)
        };
        use EmptyLabel::{Skip, Zero};
        use Images::{All, WithPositive};
        use Mean::{ByAnnotated, Plain};
        use Unknown::{Miss, Negative};
        assert_eq!(row("epsilon"), (WithPositive, Zero, Plain, Miss));
        assert_eq!(row("lesa-nus"), (All, Zero, Plain, Miss));
        assert_eq!(row("sdl"), (WithPositive, Zero, Plain, Negative));
        assert_eq!(row("lesa-oi"), (All, Zero, Plain, Miss));
        assert_eq!(row("biam-oi"), (WithPositive, Skip, Plain, Miss));
        let weighted = (WithPositive, Skip, ByAnnotated, Miss);
        assert_eq!(row("biam-oi-weighted"), weighted);
    }

    #[test]
    fn own_protocols_are_checked() {
        let settings = Protocol::named("sdl").unwrap().settings();
        for name in ["", " ", "epsilon"] {
            assert!(matches!(
                Protocol::new(name, settings, &[3]),
                Err(MetricsError::ProtocolName { .. })
            ));
        }
        for ks in [&[0, 1][..], &[3, 3], &[5, 3]] {
            assert!(matches!(
                Protocol::new("ours", settings, ks),
                Err(MetricsError::BadKs { .. })
            ));
        }
    }
}
