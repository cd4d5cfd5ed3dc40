//! Evaluation protocols: the rules of the metrics as one checked type, and the published protocols by name.

use crate::evaluation::LabelFigures;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::MetricsError;

/// Which images are evaluated.
///
/// ```rust
/// use epsilon_metrics::{Images, Labels, Protocol, Scores, Settings, evaluate};
///
/// // Image 1 has no positive, and label 1 has AP 0 for the same reason.
/// let scores = Scores::new(&[0.6, 0.5, 0.9, 0.1], 2, 2)?;
/// let labels = Labels::new(&[1, -1, -1, -1], 2, 2)?;
/// let map = |images| {
///     let settings = Settings { images, ..Protocol::epsilon().settings() };
///     let protocol = Protocol::new("own", settings, &[1])?;
///     Ok(evaluate(scores, labels, &[0, 1], &protocol, &[])?.map)
/// };
/// assert_eq!(map(Images::WithPositive)?, (1.0 + 0.0) / 2.0);
/// assert_eq!(map(Images::All)?, (0.5 + 0.0) / 2.0); // image 1 ranks first for label 0
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Images {
    /// Every image.
    All,
    /// Images with at least one positive among the evaluated labels.
    WithPositive,
}

/// How a label without a positive among the images kept enters the mAP.
///
/// ```rust
/// use epsilon_metrics::{EmptyLabel, Labels, MetricsError, Protocol, Scores, Settings, evaluate};
///
/// // Label 0 has AP 1/2, label 1 has no positive.
/// let scores = Scores::new(&[0.6, 0.5, 0.9, 0.1], 2, 2)?;
/// let labels = Labels::new(&[1, -1, -1, -1], 2, 2)?;
/// let map = |empty_label| {
///     let settings = Settings { empty_label, ..Protocol::lesa_nus().settings() };
///     let protocol = Protocol::new("own", settings, &[1])?;
///     Ok(evaluate(scores, labels, &[0, 1], &protocol, &[])?.map)
/// };
/// assert_eq!(map(EmptyLabel::Zero)?, 0.25);
/// assert_eq!(map(EmptyLabel::Skip)?, 0.5);
/// let error = map(EmptyLabel::Error).unwrap_err();
/// assert!(matches!(error, MetricsError::LabelWithoutPositives { column: 1, .. }));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyLabel {
    /// Its AP is 0 and enters the mean.
    Zero,
    /// It has no AP and is left out of the mean.
    Skip,
    /// Its AP is 0 and enters the mean if any image kept is annotated for it; otherwise it is left out. In
    /// [`evaluate_protocols`](crate::evaluate_protocols) what is left out depends on the labels that are ranked, as in
    /// BiAM's script for Open Images: among the unseen labels none is ([`Protocol::for_unseen`]); among the seen ones the
    /// labels left out do not compete in the top K either; among all labels they do.
    SkipUnannotated,
    /// The evaluation fails with [`MetricsError::LabelWithoutPositives`].
    Error,
}

/// How the AP of the labels are averaged to the mAP.
///
/// ```rust
/// use epsilon_metrics::{Labels, Mean, Protocol, Scores, Settings, evaluate};
///
/// // Label 0: AP 1/2 over 3 annotated images. Label 1: AP 1 over 1 annotated image.
/// let scores = Scores::new(&[0.2, 0.3, 0.9, 0.8, 0.1, 0.4], 3, 2)?;
/// let labels = Labels::new(&[1, 0, -1, 1, -1, 0], 3, 2)?;
/// let map = |mean| {
///     let settings = Settings { mean, ..Protocol::lesa_nus().settings() };
///     let protocol = Protocol::new("own", settings, &[1])?;
///     Ok(evaluate(scores, labels, &[0, 1], &protocol, &[])?.map)
/// };
/// assert_eq!(map(Mean::Plain)?, (0.5 + 1.0) / 2.0);
/// assert_eq!(map(Mean::ByAnnotated)?, (3.0 * 0.5 + 1.0 * 1.0) / 4.0);
/// assert_eq!(map(Mean::ByPositives)?, (1.0 * 0.5 + 1.0 * 1.0) / 2.0);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mean {
    /// Every label has the same weight.
    Plain,
    /// The weight of a label is its number of annotated (not unknown) images among those kept.
    ByAnnotated,
    /// The weight of a label is its number of positive images among those kept.
    ByPositives,
}

/// Images of a label that may be the weight of its AP.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counts {
    /// Not unknown.
    pub(crate) annotated: u32,
    pub(crate) positives: u32,
}

impl Mean {
    /// The mean AP of labels, such as those of several tables. `None` when no label has one and a weight.
    pub fn of<'a>(self, labels: impl IntoIterator<Item = &'a LabelFigures>) -> Option<f64> {
        let labels = labels.into_iter();
        self.over(labels.map(|label| (label.average_precision, label.counts())))
    }

    /// Mean of pairs of an AP and the counts of its label; labels without AP are left out. `None` when no label has one
    /// and a weight.
    pub(crate) fn over(self, values: impl Iterator<Item = (Option<f64>, Counts)>) -> Option<f64> {
        let (mut sum, mut total) = (0.0, 0.0);
        for (value, counts) in values {
            let weight = match self {
                Self::Plain => 1.0,
                Self::ByAnnotated => f64::from(counts.annotated),
                Self::ByPositives => f64::from(counts.positives),
            };
            if let Some(value) = value {
                sum += weight * value;
                total += weight;
            }
        }
        (total > 0.0).then(|| sum / total)
    }
}

/// How unknown labels (0) are treated.
///
/// ```rust
/// use epsilon_metrics::{Labels, Protocol, Scores, Settings, Unknown, evaluate};
///
/// // One label; its best image is unknown, the second positive, the third negative.
/// let scores = Scores::new(&[0.9, 0.8, 0.7], 3, 1)?;
/// let labels = Labels::new(&[0, 1, -1], 3, 1)?;
/// let figures = |unknown| {
///     let settings = Settings { unknown, ..Protocol::lesa_nus().settings() };
///     let protocol = Protocol::new("own", settings, &[1])?;
///     let evaluation = evaluate(scores, labels, &[0], &protocol, &[1])?;
///     Ok((evaluation.map, evaluation.top_k[0].precision))
/// };
/// assert_eq!(figures(Unknown::Miss)?, (1.0, 1.0 / 3.0));
/// assert_eq!(figures(Unknown::Negative)?, (0.5, 1.0 / 3.0));
/// assert_eq!(figures(Unknown::Ignore)?, (1.0, 1.0 / 2.0));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// Left out of the AP of the label; in the top K a miss.
    Miss,
    /// A negative, in the AP and in the top K.
    Negative,
    /// Left out of the AP and of the top K: the top K are the K best annotated labels of the image, or all of them if
    /// there are fewer, and precision divides by the number taken.
    Ignore,
}

/// How images with equal scores for a label rank in the AP. For the top K see [`TopKTies`].
///
/// ```rust
/// use epsilon_metrics::{Ties, average_precision};
///
/// let (scores, labels) = ([0.5, 0.5], [1, -1]);
/// assert_eq!(average_precision(&scores, &labels, Ties::Grouped)?, Some(0.5));
/// assert_eq!(average_precision(&scores, &labels, Ties::Stable)?, Some(1.0));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// Equal scores share the last of their ranks, as in scikit-learn's `average_precision_score`. The AP does not
    /// depend on the order of the images.
    Grouped,
    /// Equal scores rank in the order of the images, as after a stable sort.
    Stable,
}

/// Which of an image's labels with equal scores come first in its top K. Coverage error and ranking loss count all of
/// them.
///
/// ```rust
/// use epsilon_metrics::{Labels, Protocol, Scores, Settings, TopKTies, evaluate};
///
/// // One image whose two labels have the same score; the first is positive.
/// let scores = Scores::new(&[0.5, 0.5], 1, 2)?;
/// let labels = Labels::new(&[1, -1], 1, 2)?;
/// let precision = |top_k_ties| {
///     let settings = Settings { top_k_ties, ..Protocol::lesa_nus().settings() };
///     let protocol = Protocol::new("own", settings, &[1])?;
///     Ok(evaluate(scores, labels, &[0, 1], &protocol, &[1])?.top_k[0].precision)
/// };
/// assert_eq!(precision(TopKTies::FirstLabel)?, 1.0);
/// assert_eq!(precision(TopKTies::LastLabel)?, 0.0);
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopKTies {
    /// The one that is requested first, as after a stable sort by descending score. With seen labels before unseen ones,
    /// ties then favour the seen ones.
    #[default]
    FirstLabel,
    /// The one that is requested last, as in LESA's and (ML)2P-Encoder's code, which takes the last K of an ascending sort.
    LastLabel,
}

/// What is ranked for the average precision of a label.
///
/// ```rust
/// use epsilon_metrics::{Labels, Pool, Protocol, Scores, Settings, evaluate};
///
/// // Two images, two labels. Label 0 alone is ranked perfectly.
/// let scores = Scores::new(&[0.6, 0.9, 0.3, 0.8], 2, 2)?;
/// let labels = Labels::new(&[1, -1, -1, 1], 2, 2)?;
/// let of_first = |pool| {
///     let settings = Settings { pool, ..Protocol::lesa_nus().settings() };
///     let protocol = Protocol::new("own", settings, &[1])?;
///     Ok(evaluate(scores, labels, &[0, 1], &protocol, &[])?.per_label[0].average_precision)
/// };
/// assert_eq!(of_first(Pool::Label)?, Some(1.0));
/// // Ranked together: 0.9 -, 0.8 +, 0.6 +, 0.3 -.
/// assert_eq!(of_first(Pool::AnnotatedImages)?, Some((1.0 / 2.0 + 2.0 / 3.0) / 2.0));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// The images' scores for the label.
    #[default]
    Label,
    /// The scores of every label evaluated, in the images that are annotated for the label: the bug of BiAM's published
    /// script for Open Images, whose function takes the rows of a label and forgets to take its column. Labels with the
    /// same annotated images then have the same AP. Costs a sort of all annotated scores and 12 bytes for each.
    AnnotatedImages,
}

/// The rules of a [`Protocol`] as plain data. Printed as one sentence.
///
/// ```rust
/// use epsilon_metrics::{Protocol, Settings, Ties};
///
/// let settings = Settings { ties: Ties::Stable, ..Protocol::lesa_nus().settings() };
/// assert_eq!(
///     settings.to_string(),
///     "all images; labels without positives count as AP 0; plain mean over labels; \
///      unknown out of AP and a miss in the top K; ties in image order, in the top K to the first label"
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Which images are evaluated.
    pub images: Images,
    /// How a label without positives enters the mAP.
    pub empty_label: EmptyLabel,
    /// How the AP of the labels are averaged.
    pub mean: Mean,
    /// How unknown labels are treated.
    pub unknown: Unknown,
    /// How equal scores rank in the AP.
    pub ties: Ties,
    /// How equal scores rank in the top K.
    #[serde(default)]
    pub top_k_ties: TopKTies,
    /// What is ranked for the AP of a label.
    #[serde(default)]
    pub pool: Pool,
}

/// All the rules in one sentence.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images = match self.images {
            Images::All => "all images",
            Images::WithPositive => "images with a positive label",
        };
        let empty = match self.empty_label {
            EmptyLabel::Zero => "labels without positives count as AP 0",
            EmptyLabel::Skip => "labels without positives skipped",
            EmptyLabel::SkipUnannotated => {
                "labels without positives count as AP 0, those without annotation are skipped, but not in ZSL"
            }
            EmptyLabel::Error => "labels without positives are an error",
        };
        let mean = match self.mean {
            Mean::Plain => "plain mean over labels",
            Mean::ByAnnotated => "mean weighted by annotated images",
            Mean::ByPositives => "mean weighted by positive images",
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
        let top_k = match self.top_k_ties {
            TopKTies::FirstLabel => "first",
            TopKTies::LastLabel => "last",
        };
        write!(
            f,
            "{images}; {empty}; {mean}; {unknown}; {ties}, in the top K to the {top_k} label"
        )?;
        match self.pool {
            Pool::Label => Ok(()),
            Pool::AnnotatedImages => f.write_str(
                "; BiAM's bug: the AP of a label ranks all labels of the images annotated for it",
            ),
        }
    }
}

const BASE: Settings = Settings {
    images: Images::WithPositive,
    empty_label: EmptyLabel::Zero,
    mean: Mean::Plain,
    unknown: Unknown::Miss,
    ties: Ties::Grouped,
    top_k_ties: TopKTies::FirstLabel,
    pool: Pool::Label,
};
const ALL_IMAGES: Settings = Settings {
    images: Images::All,
    ..BASE
};
const BIAM: Settings = Settings {
    empty_label: EmptyLabel::SkipUnannotated,
    ..BASE
};
/// The bug's ranking is of BiAM's code, so its ties are too.
const BIAM_BUG: Settings = Settings {
    pool: Pool::AnnotatedImages,
    ties: Ties::Stable,
    ..BIAM
};
/// The K of the tables on NUS-WIDE and on Open Images.
const NUS_WIDE: [usize; 2] = [3, 5];
const OPEN_IMAGES: [usize; 2] = [10, 20];

/// An evaluation protocol: a name, rules, and the K of its published tables.
///
/// | name | images | empty label | mean | unknown | K |
/// |---|---|---|---|---|---|
/// | `epsilon` (Epsilon; (ML)2P-Encoder's function with `is_exclude=True`) | with a positive | AP 0, averaged | plain | out of AP, miss in top K | 3, 5 |
/// | `lesa-nus` (LESA, BiAM, Gen-MLZSL on NUS-WIDE) | all | AP 0, averaged | plain | out of AP, miss in top K | 3, 5 |
/// | `ml2p-nus` ((ML)2P-Encoder's test script: `is_exclude=False`) | all | AP 0, averaged | plain | out of AP, miss in top K | 3, 5 |
/// | `sdl` | with a positive | AP 0, averaged | plain | negative | 3, 5 |
/// | `lesa-oi` (LESA on Open Images) | all | AP 0, averaged | plain | out of AP, miss in top K | 10, 20 |
/// | `biam-oi` (BiAM on Open Images, its bug mended) | with a positive | AP 0; without annotation skipped, but not in ZSL | plain | out of AP, miss in top K | 10, 20 |
/// | `biam-oi-weighted` | the same | the same | by positive images | the same | 10, 20 |
/// | `biam-oi-bug` (BiAM's script as published, [`Pool::AnnotatedImages`]) | the same | the same | plain | the same | 10, 20 |
/// | `biam-oi-bug-weighted` | the same | the same | by positive images | the same | 10, 20 |
///
/// They use [`Ties::Grouped`], as scikit-learn does: the order of the images then does not change the AP, and a constant
/// score has the share of positives as its AP. The two with BiAM's bug break ties by order, as its code does; so does SDL's.
/// In the top K all use [`TopKTies::FirstLabel`].
///
/// ```
/// use epsilon_metrics::{Images, Protocol, Settings};
///
/// let protocol = Protocol::lesa_nus();
/// assert_eq!(Protocol::named("lesa-nus")?, protocol);
/// assert_eq!(protocol.settings().images, Images::All);
/// assert_eq!(protocol.ks(), [3, 5]);
///
/// // Other rules need another name.
/// let settings = Settings { images: Images::WithPositive, ..protocol.settings() };
/// let own = Protocol::new("ours", settings, &[1, 10])?;
/// assert_eq!(own.to_string(), "ours");
///
/// let error = Protocol::named("leza").unwrap_err().to_string();
/// assert!(error.contains("epsilon, lesa-nus, ml2p-nus, sdl, lesa-oi, biam-oi, biam-oi-weighted"));
/// # Ok::<(), epsilon_metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    name: String,
    settings: Settings,
    ks: Vec<usize>,
}

impl Protocol {
    /// Names of the published protocols, as [`Protocol::named`] takes them.
    pub const NAMES: [&str; 9] = [
        "epsilon",
        "lesa-nus",
        "ml2p-nus",
        "sdl",
        "lesa-oi",
        "biam-oi",
        "biam-oi-weighted",
        "biam-oi-bug",
        "biam-oi-bug-weighted",
    ];

    /// The protocol of Epsilon on NUS-WIDE, and of the (ML)2P-Encoder's evaluation function with `is_exclude=True`: images
    /// with a positive, K = 3 and 5.
    ///
    /// ```rust
    /// use epsilon_metrics::{Images, Protocol};
    ///
    /// let protocol = Protocol::epsilon();
    /// assert_eq!(protocol.settings().images, Images::WithPositive);
    /// assert_eq!(protocol.ks(), [3, 5]);
    /// ```
    pub fn epsilon() -> Self {
        Self::preset("epsilon", BASE, NUS_WIDE)
    }

    /// The protocol of LESA, BiAM and Gen-MLZSL on NUS-WIDE: all images, K = 3 and 5.
    ///
    /// ```rust
    /// use epsilon_metrics::{Images, Protocol, Settings};
    ///
    /// // Only the images differ from those of `epsilon`.
    /// let settings = Settings { images: Images::All, ..Protocol::epsilon().settings() };
    /// assert_eq!(Protocol::lesa_nus().settings(), settings);
    /// ```
    pub fn lesa_nus() -> Self {
        Self::preset("lesa-nus", ALL_IMAGES, NUS_WIDE)
    }

    /// The protocol of the (ML)2P-Encoder's test script on NUS-WIDE, which calls its function with `is_exclude=False`: the
    /// rules of [`Protocol::lesa_nus`].
    ///
    /// ```rust
    /// use epsilon_metrics::Protocol;
    ///
    /// assert_eq!(Protocol::ml2p_nus().settings(), Protocol::lesa_nus().settings());
    /// ```
    pub fn ml2p_nus() -> Self {
        Self::preset("ml2p-nus", ALL_IMAGES, NUS_WIDE)
    }

    /// The protocol of SDL on NUS-WIDE: unknown labels are negatives, K = 3 and 5.
    ///
    /// ```rust
    /// use epsilon_metrics::{Protocol, Settings, Unknown};
    ///
    /// let settings = Settings { unknown: Unknown::Negative, ..Protocol::epsilon().settings() };
    /// assert_eq!(Protocol::sdl().settings(), settings);
    /// ```
    pub fn sdl() -> Self {
        let settings = Settings {
            unknown: Unknown::Negative,
            ..BASE
        };
        Self::preset("sdl", settings, NUS_WIDE)
    }

    /// The protocol of LESA on Open Images: the rules of [`Protocol::lesa_nus`], K = 10 and 20.
    ///
    /// ```rust
    /// use epsilon_metrics::{Protocol};
    ///
    /// assert_eq!(Protocol::lesa_oi().settings(), Protocol::lesa_nus().settings());
    /// assert_eq!(Protocol::lesa_oi().ks(), [10, 20]);
    /// ```
    pub fn lesa_oi() -> Self {
        Self::preset("lesa-oi", ALL_IMAGES, OPEN_IMAGES)
    }

    /// The protocol of BiAM on Open Images as its paper means it, K = 10 and 20: that of its script with the AP of a label
    /// over the label's own scores. Labels that nobody annotated are skipped, but not in ZSL
    /// ([`EmptyLabel::SkipUnannotated`]).
    ///
    /// ```rust
    /// use epsilon_metrics::{EmptyLabel, Protocol};
    ///
    /// assert_eq!(Protocol::biam_oi().settings().empty_label, EmptyLabel::SkipUnannotated);
    /// assert_eq!(Protocol::biam_oi().ks(), [10, 20]);
    /// ```
    pub fn biam_oi() -> Self {
        Self::preset("biam-oi", BIAM, OPEN_IMAGES)
    }

    /// [`Protocol::biam_oi`] with labels weighted by their positive images.
    ///
    /// ```rust
    /// use epsilon_metrics::{Mean, Protocol, Settings};
    ///
    /// let settings = Settings { mean: Mean::ByPositives, ..Protocol::biam_oi().settings() };
    /// assert_eq!(Protocol::biam_oi_weighted().settings(), settings);
    /// ```
    pub fn biam_oi_weighted() -> Self {
        let settings = Settings {
            mean: Mean::ByPositives,
            ..BIAM
        };
        Self::preset("biam-oi-weighted", settings, OPEN_IMAGES)
    }

    /// The protocol of BiAM's script for Open Images as published, with its bug: see [`Pool::AnnotatedImages`].
    ///
    /// ```rust
    /// use epsilon_metrics::{Pool, Protocol};
    ///
    /// assert_eq!(Protocol::biam_oi_bug().settings().pool, Pool::AnnotatedImages);
    /// ```
    pub fn biam_oi_bug() -> Self {
        Self::preset("biam-oi-bug", BIAM_BUG, OPEN_IMAGES)
    }

    /// [`Protocol::biam_oi_bug`] with labels weighted by their positive images.
    ///
    /// ```rust
    /// use epsilon_metrics::{Mean, Protocol};
    ///
    /// assert_eq!(Protocol::biam_oi_bug_weighted().settings().mean, Mean::ByPositives);
    /// ```
    pub fn biam_oi_bug_weighted() -> Self {
        let settings = Settings {
            mean: Mean::ByPositives,
            ..BIAM_BUG
        };
        Self::preset("biam-oi-bug-weighted", settings, OPEN_IMAGES)
    }

    /// All published protocols but the two with BiAM's bug, which cost far more than the others together, in the order of
    /// [`Protocol::NAMES`].
    ///
    /// ```rust
    /// use epsilon_metrics::{Images, Protocol};
    ///
    /// let all = Protocol::all();
    /// let of_all_images = all.iter().filter(|p| p.settings().images == Images::All);
    /// let names: Vec<&str> = of_all_images.map(Protocol::name).collect();
    /// assert_eq!(names, ["lesa-nus", "ml2p-nus", "lesa-oi"]);
    /// ```
    pub fn all() -> [Self; 7] {
        [
            Self::epsilon(),
            Self::lesa_nus(),
            Self::ml2p_nus(),
            Self::sdl(),
            Self::lesa_oi(),
            Self::biam_oi(),
            Self::biam_oi_weighted(),
        ]
    }

    /// The published protocol of a name.
    ///
    /// # Errors
    /// [`MetricsError::UnknownProtocol`], whose message lists the known names.
    ///
    /// ```rust
    /// use epsilon_metrics::{MetricsError, Protocol};
    ///
    /// assert_eq!(Protocol::named("sdl"), Ok(Protocol::sdl()));
    ///
    /// let error = Protocol::named("SDL").unwrap_err(); // names are case-sensitive
    /// assert!(matches!(error, MetricsError::UnknownProtocol { name, .. } if name == "SDL"));
    /// ```
    pub fn named(name: &str) -> Result<Self, MetricsError> {
        let bugs = [Self::biam_oi_bug(), Self::biam_oi_bug_weighted()];
        let found = Self::all().into_iter().chain(bugs).find(|p| p.name == name);
        found.ok_or_else(|| MetricsError::UnknownProtocol {
            name: name.into(),
            known: &Self::NAMES,
        })
    }

    /// The rules for the unseen labels among themselves: no label is left out for want of annotation
    /// ([`EmptyLabel::SkipUnannotated`]).
    ///
    /// ```rust
    /// use epsilon_metrics::{EmptyLabel, Protocol};
    ///
    /// assert_eq!(Protocol::biam_oi().for_unseen().settings().empty_label, EmptyLabel::Zero);
    /// assert_eq!(Protocol::epsilon().for_unseen(), Protocol::epsilon());
    /// ```
    #[must_use]
    pub fn for_unseen(&self) -> Self {
        let mut protocol = self.clone();
        if protocol.settings.empty_label == EmptyLabel::SkipUnannotated {
            protocol.settings.empty_label = EmptyLabel::Zero;
        }
        protocol
    }

    /// The protocol with ties in the top K broken this way; the name says so where it is not the protocol's own way.
    ///
    /// ```rust
    /// use epsilon_metrics::{Protocol, TopKTies};
    ///
    /// let last = Protocol::sdl().with_top_k_ties(TopKTies::LastLabel);
    /// assert_eq!(last.name(), "sdl, top-K ties to the last label");
    /// assert_eq!(Protocol::sdl().with_top_k_ties(TopKTies::FirstLabel), Protocol::sdl());
    /// ```
    #[must_use]
    pub fn with_top_k_ties(mut self, ties: TopKTies) -> Self {
        if self.settings.top_k_ties != ties {
            self.name.push_str(match ties {
                TopKTies::FirstLabel => ", top-K ties to the first label",
                TopKTies::LastLabel => ", top-K ties to the last label",
            });
            self.settings.top_k_ties = ties;
        }
        self
    }

    fn preset(name: &str, settings: Settings, ks: [usize; 2]) -> Self {
        Self {
            name: name.into(),
            settings,
            ks: ks.to_vec(),
        }
    }

    /// A user-defined protocol. `ks` are the K to evaluate at, ascending, each at least 1.
    ///
    /// # Errors
    /// [`MetricsError::ProtocolName`] for an empty name or that of a published protocol, [`MetricsError::BadKs`] for a
    /// list that is not strictly ascending from at least 1.
    ///
    /// ```rust
    /// use epsilon_metrics::{MetricsError, Protocol, Settings, Ties};
    ///
    /// let settings = Settings { ties: Ties::Stable, ..Protocol::sdl().settings() };
    /// let protocol = Protocol::new("sdl-stable", settings, &[1, 5])?;
    /// assert_eq!((protocol.name(), protocol.ks()), ("sdl-stable", &[1, 5][..]));
    /// assert_eq!(protocol.settings().ties, Ties::Stable);
    ///
    /// let error = Protocol::new("sdl", settings, &[1, 5]).unwrap_err();
    /// assert!(matches!(error, MetricsError::ProtocolName { .. }));
    /// let error = Protocol::new("own", settings, &[5, 1]).unwrap_err();
    /// assert_eq!(error, MetricsError::BadKs { ks: vec![5, 1] });
    /// # Ok::<(), MetricsError>(())
    /// ```
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

    /// The name of the protocol.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rules of the protocol.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The K of its published tables, ascending. An evaluation may use others, such as smaller K for few labels.
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
        for name in Protocol::NAMES {
            assert_eq!(Protocol::named(name).unwrap().name(), name);
        }
        let all = Protocol::all();
        let names = all.each_ref().map(Protocol::name);
        assert_eq!(names, Protocol::NAMES[..names.len()]);
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
        use EmptyLabel::{SkipUnannotated, Zero};
        use Images::{All, WithPositive};
        use Mean::{ByPositives, Plain};
        use Unknown::{Miss, Negative};
        assert_eq!(row("epsilon"), (WithPositive, Zero, Plain, Miss));
        assert_eq!(row("lesa-nus"), (All, Zero, Plain, Miss));
        assert_eq!(row("sdl"), (WithPositive, Zero, Plain, Negative));
        assert_eq!(row("lesa-oi"), (All, Zero, Plain, Miss));
        assert_eq!(row("ml2p-nus"), row("lesa-nus"));
        let plain = (WithPositive, SkipUnannotated, Plain, Miss);
        let weighted = (WithPositive, SkipUnannotated, ByPositives, Miss);
        for (name, pool) in [
            ("biam-oi", Pool::Label),
            ("biam-oi-bug", Pool::AnnotatedImages),
        ] {
            assert_eq!(row(name), plain);
            assert_eq!(row(&format!("{name}-weighted")), weighted);
            assert_eq!(Protocol::named(name).unwrap().settings().pool, pool);
        }
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
