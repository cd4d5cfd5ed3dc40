//! The figure by which settings and the number of epochs are chosen.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A figure on the validation images. Where labels are left out of the training, the labels that are kept are its seen labels
/// and those left out its unseen ones. Prints as recipes name it.
///
/// ```
/// use epsilon::training::{Choose, TrainingSettings};
///
/// let settings: TrainingSettings =
///     toml::from_str("validation = 0.1\nvalidation-labels = 0.2\nchoose = 'gzsl'")?;
/// assert_eq!(settings.figure(), Choose::Gzsl);
/// assert_eq!(settings.figure().to_string(), "gzsl");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choose {
    /// The harmonic mean `2 S U / (S + U)` of the mAP `S` of the labels trained on, ranked among themselves, and the mAP `U` of
    /// those left out, ranked among themselves; 0 where both are 0.
    Harmonic,
    /// The mAP of all of them, ranked together.
    Gzsl,
    /// The mAP of the labels trained on, ranked among themselves.
    Seen,
}

impl Choose {
    /// What it is, in words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Harmonic => {
                "harmonic mean of the mAP of the labels trained on and of those left out"
            }
            Self::Gzsl => "mAP of the labels trained on and those left out, ranked together",
            Self::Seen => "mAP of the labels trained on",
        }
    }
}

impl fmt::Display for Choose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Harmonic => "harmonic",
            Self::Gzsl => "gzsl",
            Self::Seen => "seen",
        })
    }
}
