//! The model file: reading, with every size and name checked against the others, and writing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use epsilon_data::files;
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AnchorCard, Model, ModelAnchor, ModelError};
use crate::batch::Dims;
use crate::calibration::{Calibration, Preset};
use crate::methods::{Fitting, Kind, Vocabulary};
use crate::parameters::{Spec, Weights};
use epsilon_data::formats::safetensors as format;
use epsilon_data::formats::sealed::{self, SEAL, Tensor};
use epsilon_data::labels::{LabelVectors, VectorFile};
use epsilon_vision::backbone::BackboneInfo;

pub(super) const KEY: &str = "epsilon.model";
const VERSION: u32 = 1;
pub(crate) const VECTORS: &str = "label_vectors";
/// Key of the metadata that makes a model file a bundle: the file is sealed then, and holds the backbone and words as well.
pub(crate) const BUNDLE: &str = "epsilon.bundle";
/// The largest size and the largest whole number among a method's settings that a card may hold.
const LARGEST: usize = 1 << 24;

/// Everything of a model but its tensors: what it is and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    version: u32,
    method: Kind,
    pub(super) dims: Dims,
    pub(super) labels: Vec<String>,
    seen: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) anchor: Option<AnchorCard>,
    #[serde(flatten)]
    provenance: Provenance,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) calibration: Option<Calibration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The backbone that made its tokens, preprocessing included.
    pub backbone: BackboneInfo,
    /// Where the backbone's weights were found.
    pub backbone_weights: PathBuf,
    /// The resolved recipe, see [`Card::recipe`].
    pub recipe: serde_json::Value,
    /// The protocol its figures are measured under.
    pub protocol: String,
    /// Seed of its training.
    pub seed: u64,
    /// The [level](epsilon_kernels::Level) of the CPU's instructions that its training used. Older files do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
}

/// The part of a recipe that names the vector file.
#[derive(Deserialize)]
struct NamesVectors {
    data: VectorSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct VectorSettings {
    vectors: PathBuf,
    #[serde(default)]
    vector_names: Vec<PathBuf>,
}

impl Card {
    /// The card of a model of this version of the format. The first `seen` of `labels` are those it was trained on.
    pub fn new(
        method: Kind,
        dims: Dims,
        labels: Vec<String>,
        seen: usize,
        provenance: Provenance,
    ) -> Self {
        Self {
            version: VERSION,
            method,
            dims,
            labels,
            seen,
            anchor: None,
            provenance,
            calibration: None,
            preset: None,
        }
    }

    /// The same with probabilities that hold until it is calibrated.
    #[must_use]
    pub fn with_preset(self, preset: Preset) -> Self {
        let preset = Some(preset);
        Self { preset, ..self }
    }

    /// The method and its settings.
    pub fn method(&self) -> &Kind {
        &self.method
    }

    /// Sizes it was built for.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// Names of the labels it was trained and measured with, the seen ones first.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Names of the labels it was trained on.
    pub fn seen_labels(&self) -> &[String] {
        &self.labels[..self.seen]
    }

    /// The backbone that made its tokens, preprocessing included.
    pub fn backbone(&self) -> &BackboneInfo {
        &self.provenance.backbone
    }

    /// Where the backbone's weights were found: a file, a folder or `hf:OWNER/NAME`.
    pub fn backbone_weights(&self) -> &Path {
        &self.provenance.backbone_weights
    }

    /// The protocol its figures are measured under.
    pub fn protocol(&self) -> &str {
        &self.provenance.protocol
    }

    /// Seed of its training.
    pub fn seed(&self) -> u64 {
        self.provenance.seed
    }

    /// The level of the CPU's instructions that its training used, a name of `EPSILON_CPU`; older files do not say. On another
    /// level the same training differs by rounding.
    pub fn cpu(&self) -> Option<&str> {
        self.provenance.cpu.as_deref()
    }

    /// Probabilities and thresholds, once it is calibrated.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// The probabilities that hold until it is calibrated; a trained model has none.
    pub fn preset(&self) -> Option<Preset> {
        self.preset
    }

    /// Whether its labels have probabilities and thresholds.
    pub fn has_probabilities(&self) -> bool {
        self.calibration.is_some() || self.preset.is_some()
    }

    /// The recipe it was trained with, with the defaults filled in: a [`crate::recipe::Recipe`].
    ///
    /// # Errors
    /// Says what is missing or unknown, for a recipe of another version of the program.
    pub fn recipe<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.provenance.recipe)
    }

    /// The file of word vectors that its recipe names, or the network whose text tower makes them.
    pub fn vector_file(&self) -> Option<VectorFile> {
        let VectorSettings {
            vectors,
            vector_names,
        } = self.recipe::<NamesVectors>().ok()?.data;
        Some(VectorFile {
            path: vectors,
            names: vector_names,
        })
    }

    /// Whether its sizes fit each other; what does not is told.
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!(
                "format version {}; this program reads version {VERSION}",
                self.version
            ));
        }
        if let Some(reason) = self.preset.and_then(|preset| preset.problem()) {
            return Err(reason);
        }
        if self.anchor.is_some() && matches!(self.method.fitting(), Fitting::Given) {
            let name = self.method.name();
            return Err(format!(
                "an anchor beside the method `{name}`, which is not trained"
            ));
        }
        let (all, seen) = (self.labels.len(), self.seen);
        // A model that nobody trained has seen no label, and scores any.
        let untrained = self.preset.is_some() && self.method.vocabulary() == Vocabulary::Open;
        let none_seen = seen == 0 && !untrained;
        if all == 0 || none_seen || seen > all {
            return Err(format!("{seen} seen labels of {all}"));
        }
        check_sizes(&self.method, &self.dims)?;
        let Dims {
            tokens,
            width,
            labels,
            unseen,
            ..
        } = self.dims;
        // Older files do not count their labels; only methods that score a closed list need the counts.
        let vocabulary = self.method.vocabulary();
        let counted =
            |count: usize, of: usize, needed: bool| count == of || (count == 0 && !needed);
        if !counted(labels, seen, vocabulary != Vocabulary::Open)
            || !counted(unseen, all - seen, vocabulary == Vocabulary::Closed)
        {
            return Err(format!(
                "built for {labels} seen and {unseen} unseen labels, and holds {seen} and {}",
                all - seen
            ));
        }
        let backbone = self.backbone();
        let (rows, columns) = backbone.grid;
        if (backbone.tokens, backbone.dim, backbone.global_dim())
            != (tokens, width, self.dims.global_width())
            || rows.checked_mul(columns) != Some(tokens)
        {
            return Err(format!(
                "{tokens} tokens of {width} values, from a backbone that makes {} of {} on a grid of {rows} x {columns}",
                backbone.tokens, backbone.dim
            ));
        }
        Ok(())
    }
}

/// Whether a file's sizes and settings are such as some model has, so that its weights can be asked for; what is not is told.
pub(crate) fn check_sizes(method: &Kind, dims: &Dims) -> Result<(), String> {
    let sizes = [
        dims.tokens,
        dims.width,
        dims.label_width,
        dims.global_width(),
    ];
    let values = dims.tokens.checked_mul(dims.width);
    if sizes.iter().any(|size| !(1..=LARGEST).contains(size))
        || values.is_none_or(|n| n > 16 * LARGEST)
    {
        return Err(format!("sizes that no model has: {dims:?}"));
    }
    let settings = serde_json::to_value(method).map_err(|error| error.to_string())?;
    match settings.as_object().and_then(|settings| {
        let mut settings = settings.iter();
        settings.find(|(name, value)| *name != "seed" && is_too_large(value))
    }) {
        Some((name, value)) => Err(format!("{name} = {value} is more than any model has")),
        None => Ok(()),
    }
}

/// The tensors of a file: weights under their own names, and label vectors.
pub(crate) fn tensors_of(weights: &Weights, vectors: &LabelVectors) -> Vec<format::Named> {
    let weights = weights.to_host().into_iter();
    let weights =
        weights.map(|(spec, values)| (format!("weight.{}", spec.name), spec.shape, values));
    let mut tensors: Vec<_> = weights.collect();
    let shape = vec![vectors.len(), vectors.dim()];
    tensors.push((VECTORS.into(), shape, vectors.values().to_vec()));
    tensors
}

/// The weights of a file, onto a device; what does not fit their specification is told.
pub(crate) fn read_weights(
    specs: Vec<Spec>,
    tensors: &SafeTensors,
    device: &Device,
) -> Result<Weights, String> {
    let mut values = BTreeMap::new();
    for Spec { name, shape, .. } in &specs {
        let found = format::f32_values(tensors, &format!("weight.{name}"))?;
        let wanted = shape
            .iter()
            .try_fold(1_usize, |n, &side| n.checked_mul(side));
        if wanted != Some(found.len()) {
            let length = found.len();
            return Err(format!("weight.{name}: {length} values, not {shape:?}"));
        }
        if !found.iter().all(|value| value.is_finite()) {
            return Err(format!("weight.{name}: a value that is not finite"));
        }
        values.insert(name.clone(), found);
    }
    Weights::from_values(specs, values, device).map_err(|error| error.to_string())
}

/// Writes a bundle's content with another card; what is wrong with the content is told.
fn with_card(
    path: &Path,
    bytes: &[u8],
    card: String,
    still: impl FnOnce() -> io::Result<()>,
) -> Result<io::Result<()>, String> {
    sealed::check(bytes)?;
    let read = |error: safetensors::SafeTensorError| error.to_string();
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(read)?;
    let all = SafeTensors::deserialize(bytes).map_err(read)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let mut metadata: BTreeMap<String, String> = metadata.into_iter().collect();
    metadata.insert(KEY.into(), card);
    let tensors = all.tensors().into_iter().map(|(name, tensor)| Tensor {
        name,
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        bytes: tensor.data().into(),
    });
    let tensors: Vec<_> = tensors.collect();
    Ok(sealed::write_if(path, &tensors, metadata, still).map(|_| ()))
}

fn is_too_large(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Array(values) => values.iter().any(is_too_large),
        _ => value.as_u64().is_some_and(|value| value > LARGEST as u64),
    }
}

impl Model {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`ModelError::File`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let file = |reason: String| ModelError::File {
            path: path.into(),
            reason,
        };
        let card = serde_json::to_string(&self.card).map_err(|e| file(e.to_string()))?;
        format::write_tensors(path, &self.tensors(), [(KEY.to_string(), card)].into())
            .map_err(|e| file(e.to_string()))
    }

    /// The tensors of its file.
    pub(crate) fn tensors(&self) -> Vec<format::Named> {
        let mut tensors = tensors_of(&self.weights, &self.vectors);
        tensors.extend(self.anchor().into_iter().flat_map(ModelAnchor::tensors));
        tensors
    }

    /// Key and value of its file's metadata, with the hash of the backbone's weights given here.
    pub(crate) fn metadata(&self, backbone: &BackboneInfo) -> serde_json::Result<(String, String)> {
        let mut card = self.card.clone();
        let own = &mut card.provenance.backbone;
        own.weights_sha256.clone_from(&backbone.weights_sha256);
        own.weights_key.clone_from(&backbone.weights_key);
        Ok((KEY.into(), serde_json::to_string(&card)?))
    }

    /// Writes its card into the file that it was read from, in place of the one there, whole or not at all: of a bundle the other
    /// parts stay as they are. `sha256` is [that of the file](files::sha256_of) when it was read: where somebody has put another
    /// one in its place meanwhile, that one stays.
    ///
    /// # Errors
    /// [`ModelError::Replaced`], and [`ModelError::File`] when it cannot be read or written.
    pub fn update(&self, path: &Path, sha256: &str) -> Result<(), ModelError> {
        let file = |reason: String| ModelError::File {
            path: path.into(),
            reason,
        };
        let replaced = || ModelError::Replaced { path: path.into() };
        let bytes = files::read(path, u64::MAX).map_err(|e| file(e.to_string()))?;
        if files::sha256(&bytes) != sha256 {
            return Err(replaced());
        }
        let is_still_there = Cell::new(true);
        let still = || {
            is_still_there.set(files::sha256_of(path)? == sha256);
            match is_still_there.get() {
                true => Ok(()),
                false => Err(io::Error::other("replaced")),
            }
        };
        let card = serde_json::to_string(&self.card).map_err(|e| file(e.to_string()))?;
        let written = match format::metadata(&bytes, SEAL) {
            Ok(_) => with_card(path, &bytes, card, still).map_err(file)?,
            Err(_) => {
                let bytes = format::to_bytes(&self.tensors(), [(KEY.to_string(), card)].into());
                let bytes = bytes.map_err(|e| file(e.to_string()))?;
                files::replace_if(path, |out| out.write_all(&bytes), still)
            }
        };
        written.map_err(|error| match is_still_there.get() {
            true => file(error.to_string()),
            false => replaced(),
        })
    }

    /// Whether the file at this path is a model, and not weights of a network or anything else. A folder is none.
    ///
    /// # Errors
    /// [`ModelError::File`] when it cannot be read.
    pub fn is_at(path: &Path) -> Result<bool, ModelError> {
        if path.is_dir() {
            return Ok(false);
        }
        let found = format::metadata_at(path, KEY);
        let found = found.map_err(|reason| ModelError::File {
            path: path.into(),
            reason: reason.to_string(),
        })?;
        Ok(found.is_some())
    }

    /// Reads a model onto a device.
    ///
    /// # Errors
    /// [`ModelError`] says what is missing or does not fit.
    pub fn load(path: &Path, device: &Device) -> Result<Self, ModelError> {
        let file = |reason: String| ModelError::File {
            path: path.into(),
            reason,
        };
        let method = |source| ModelError::Method {
            path: path.into(),
            source,
        };
        let bytes = files::read(path, u64::MAX).map_err(|e| file(e.to_string()))?;
        let card = format::metadata(&bytes, KEY).map_err(file)?;
        // Either alone is a sign of damage, too.
        let mut signs = [SEAL, BUNDLE].into_iter();
        if signs.any(|key| format::metadata(&bytes, key).is_ok()) {
            sealed::check(&bytes).map_err(file)?;
        }
        let card: Card = serde_json::from_str(&card).map_err(|e| file(format!("its card: {e}")))?;
        card.check()
            .map_err(|reason| file(format!("its card: {reason}")))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| file(e.to_string()))?;
        let vectors = format::f32_values(&tensors, VECTORS).map_err(file)?;
        let vectors = LabelVectors::new(card.labels.clone(), card.dims.label_width, vectors)
            .map_err(|source| ModelError::Labels {
                path: path.into(),
                source,
            })?;
        let specs = match &card.anchor {
            Some(anchor) => anchor.settings.specs(&*card.method, &card.dims),
            None => card.method.specs(&card.dims),
        };
        let specs = specs.map_err(method)?;
        let weights = read_weights(specs, &tensors, device).map_err(file)?;
        let anchor = card.anchor.clone();
        let anchor = anchor.map(|anchor| {
            let anchor = ModelAnchor::read(anchor, &tensors, &card.dims, &card.labels);
            anchor.map_err(file)
        });
        let anchor = anchor.transpose()?;
        Ok(Self {
            anchor: anchor.map(Arc::new),
            ..Self::new(card, vectors, weights)
        })
    }
}
