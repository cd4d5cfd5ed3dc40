//! What all families share: the settings of a weight file and its folder, and the preprocessing that follows.

use super::super::settings::{Config, Settings};
use super::super::tensors::{METADATA_KEY, Tensors};
use super::super::weights::Activation;
use super::super::{BackboneError, Options};
use crate::image::{Filter, Fit, Preprocess};

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Preprocessing where nothing else is said.
#[derive(Clone, Copy)]
pub(super) struct Usual {
    pub(super) mean: [f32; 3],
    pub(super) std: [f32; 3],
    pub(super) fit: Fit,
    pub(super) filter: Filter,
    pub(super) epsilon: f32,
}

pub(super) const IMAGENET: Usual = Usual {
    mean: IMAGENET_MEAN,
    std: IMAGENET_STD,
    fit: Fit::Squash,
    filter: Filter::Bicubic,
    epsilon: 1e-6,
};

pub(super) const DINO: Usual = Usual {
    fit: Fit::ShorterSide { resize: 256 },
    ..IMAGENET
};

/// What is read, and all that is known about it besides its tensors.
pub(super) struct Source<'a> {
    pub(super) tensors: &'a Tensors,
    pub(super) settings: Settings,
    pub(super) config: &'a Config,
    pub(super) name: String,
    pub(super) family: &'static str,
    /// The part of the file that was read, where it holds several networks.
    pub(super) weights_key: Option<String>,
    pub(super) options: &'a Options,
}

impl Source<'_> {
    pub(super) fn bad(&self, reason: String) -> BackboneError {
        BackboneError::Config {
            path: self.tensors.path.clone(),
            reason,
        }
    }

    pub(super) fn heads(&self, dim: usize) -> Result<usize, BackboneError> {
        // SigLIP's so400m is the one common width that is not cut into heads of 64.
        let usual = if dim == 1152 { 16 } else { dim / 64 };
        let heads = self.settings.heads.unwrap_or(usual);
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(self.bad(format!(
                "{dim} values a token do not divide into {heads} heads: give \"heads\" in the metadata key \
                 {METADATA_KEY}, or \"num_attention_heads\" in the folder's config.json"
            )));
        }
        Ok(heads)
    }

    pub(super) fn epsilon(&self, usual: Usual) -> Result<f32, BackboneError> {
        let epsilon = self.settings.layer_norm_eps.unwrap_or(usual.epsilon);
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Err(self.bad("layer_norm_eps must be finite and not negative".into()));
        }
        Ok(epsilon)
    }

    pub(super) fn activation(
        &self,
        usual: Option<Activation>,
    ) -> Result<Activation, BackboneError> {
        self.settings.activation.or(usual).ok_or_else(|| {
            self.bad(format!(
                "the tensors do not tell whether this CLIP has GELU or quick GELU: give the folder with its \
                 open_clip_config.json, or \"activation\": \"gelu\" or \"quick-gelu\" in the metadata key {METADATA_KEY}"
            ))
        })
    }

    /// Holds what the folder's configuration says against what the tensors are.
    pub(super) fn check_claims(&self, found: &[(&str, usize)]) -> Result<(), BackboneError> {
        for (key, claimed) in &self.config.claims {
            let fact = found.iter().find(|(name, _)| name == key);
            if let Some((_, fact)) = fact
                && fact != claimed
            {
                return Err(BackboneError::Config {
                    path: self.config.path.clone(),
                    reason: format!("{key} is {claimed} there, but {fact} by the tensors"),
                });
            }
        }
        Ok(())
    }

    /// The preprocessing for a network made for `native` pixels.
    pub(super) fn preprocess(
        &self,
        native: u32,
        usual: Usual,
    ) -> Result<Preprocess, BackboneError> {
        let settings = &self.settings;
        let size = settings.image_size.unwrap_or(native);
        let fit = match (settings.fit, usual.fit) {
            (Some(fit), _) => fit,
            // Another input size keeps the share that is cut off.
            (None, Fit::ShorterSide { resize }) => Fit::ShorterSide {
                resize: (u64::from(resize) * u64::from(size) / 224).max(u64::from(size)) as u32,
            },
            (None, Fit::Squash) => Fit::Squash,
        };
        let preprocess = Preprocess {
            size,
            fit,
            filter: settings.filter.unwrap_or(usual.filter),
            mean: settings.mean.unwrap_or(usual.mean),
            std: settings.std.unwrap_or(usual.std),
        };
        let finite = preprocess.mean.iter().all(|x| x.is_finite());
        if !finite || !preprocess.std.iter().all(|x| x.is_finite() && *x > 0.0) {
            return Err(self.bad("mean must be finite, std finite and above zero".into()));
        }
        if let Fit::ShorterSide { resize } = preprocess.fit
            && resize < size
        {
            return Err(self.bad(format!(
                "fit resizes to {resize} pixels, less than the input"
            )));
        }
        // 16,384 pixels a side are already 3 GiB a picture.
        if size > 1 << 14 {
            return Err(self.bad(format!("an image size of {size} pixels is out of reach")));
        }
        Ok(preprocess)
    }
}
