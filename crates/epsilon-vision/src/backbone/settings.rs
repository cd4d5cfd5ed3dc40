//! What shapes cannot tell about a network: from a weight file's metadata, and from the `config.json` and
//! `preprocessor_config.json` of a Hugging Face, timm or open_clip folder.

use std::path::{Path, PathBuf};

use epsilon_data::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::BackboneError;
use super::weights::Activation;
use crate::image::{Filter, Fit};

/// Why DINOv2 giant is refused.
pub(super) const SWIGLU: &str = "its MLPs are SwiGLU (DINOv2 giant), which this program does not have: \
    take the small, base or large one";

/// Settings of a network; what is not there is the family's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub heads: Option<usize>,
    pub layer_norm_eps: Option<f32>,
    pub activation: Option<Activation>,
    pub image_size: Option<u32>,
    pub mean: Option<[f32; 3]>,
    pub std: Option<[f32; 3]>,
    pub fit: Option<Fit>,
    pub filter: Option<Filter>,
    /// What a classifier reads, where that is not the class token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
}

/// What a classifier reads, in timm's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Pooling {
    /// The class token.
    Token,
    /// The mean of the patch tokens.
    Avg,
}

/// Settings, and sizes that the tensors must agree with.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub settings: Settings,
    /// Key of the file, and value.
    pub claims: Vec<(&'static str, usize)>,
    /// Where they come from.
    pub path: PathBuf,
}

impl Settings {
    /// These, and where they say nothing, the others.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            heads: self.heads.or(other.heads),
            layer_norm_eps: self.layer_norm_eps.or(other.layer_norm_eps),
            activation: self.activation.or(other.activation),
            image_size: self.image_size.or(other.image_size),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
            fit: self.fit.or(other.fit),
            filter: self.filter.or(other.filter),
            pooling: self.pooling.or(other.pooling),
        }
    }
}

/// Which part of a CLIP folder's configuration is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tower {
    Image,
    Text,
}

/// Reads the configuration files beside a weight file in `folder`; one that is missing says nothing.
pub(super) fn read_folder(folder: &Path, tower: Tower) -> Result<Config, BackboneError> {
    let mut config = Config {
        path: folder.join("config.json"),
        ..Config::default()
    };
    if let Some(open_clip) = read_json(&folder.join("open_clip_config.json"))? {
        config.path = folder.join("open_clip_config.json");
        open_clip_config(&open_clip, tower, &mut config)?;
        return Ok(config);
    }
    if let Some(json) = read_json(&config.path.clone())? {
        let part = match tower {
            Tower::Image => json.get("vision_config"),
            Tower::Text => json.get("text_config"),
        };
        match json.get("architecture").and_then(Value::as_str) {
            Some(architecture) => timm_config(&json, architecture, &mut config)?,
            None => hugging_face_config(part.unwrap_or(&json), &mut config)?,
        }
    }
    let path = folder.join("preprocessor_config.json");
    if tower == Tower::Image
        && let Some(json) = read_json(&path)?
    {
        preprocessor(&json, &path, &mut config.settings)?;
    }
    Ok(config)
}

fn bad(path: &Path, reason: String) -> BackboneError {
    BackboneError::Config {
        path: path.into(),
        reason,
    }
}

fn read_json(path: &Path) -> Result<Option<Value>, BackboneError> {
    match files::read(path, files::DESCRIPTION) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| bad(path, format!("not JSON: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(BackboneError::Read {
            path: path.into(),
            reason,
        }),
    }
}

/// A key's value as `T`; `None` when the key is missing or null.
fn get<T: for<'a> Deserialize<'a>>(
    json: &Value,
    key: &str,
    path: &Path,
) -> Result<Option<T>, BackboneError> {
    match json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value)
            .map(Some)
            .map_err(|error| bad(path, format!("{key}: {error}"))),
    }
}

fn activation(name: &str, path: &Path) -> Result<Activation, BackboneError> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::TanhGelu),
        other => Err(bad(
            path,
            format!("activation {other}: this program has gelu, quick_gelu and gelu_pytorch_tanh"),
        )),
    }
}

fn hugging_face_config(json: &Value, config: &mut Config) -> Result<(), BackboneError> {
    let path = config.path.clone();
    if get::<bool>(json, "use_swiglu_ffn", &path)? == Some(true) {
        return Err(bad(&path, SWIGLU.into()));
    }
    let settings = &mut config.settings;
    settings.heads = get(json, "num_attention_heads", &path)?;
    settings.layer_norm_eps = get(json, "layer_norm_eps", &path)?;
    // transformers leaves what equals its default out; CLIP's is quick_gelu, the others' gelu.
    settings.activation = match get::<String>(json, "hidden_act", &path)? {
        Some(name) => Some(activation(&name, &path)?),
        None => None,
    };
    for key in [
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "patch_size",
        "image_size",
    ] {
        if let Some(value) = get(json, key, &path)? {
            config.claims.push((key, value));
        }
    }
    Ok(())
}

fn timm_config(json: &Value, architecture: &str, config: &mut Config) -> Result<(), BackboneError> {
    let path = config.path.clone();
    let settings = &mut config.settings;
    settings.pooling = match get::<String>(json, "global_pool", &path)?.as_deref() {
        Some("avg") => Some(Pooling::Avg),
        Some("token") => Some(Pooling::Token),
        _ => None,
    };
    // Older folders keep the keys at the top.
    let json = json.get("pretrained_cfg").unwrap_or(json);
    let quick = architecture.contains("quickgelu");
    settings.activation = Some(if quick {
        Activation::QuickGelu
    } else {
        Activation::Gelu
    });
    settings.mean = get(json, "mean", &path)?;
    settings.std = get(json, "std", &path)?;
    let size: Option<[u32; 3]> = get(json, "input_size", &path)?;
    settings.image_size = size.map(|[_, height, _]| height);
    let share: f64 = get(json, "crop_pct", &path)?.unwrap_or(0.875);
    if !(share > 0.0 && share <= 1.0) {
        return Err(bad(&path, format!("crop_pct {share} is not in 0..1")));
    }
    let squash = get::<String>(json, "crop_mode", &path)?.as_deref() == Some("squash");
    settings.fit = match settings.image_size {
        _ if squash => Some(Fit::Squash),
        Some(size) => Some(Fit::ShorterSide {
            resize: (f64::from(size) / share).floor() as u32,
        }),
        None => None,
    };
    settings.filter = match get::<String>(json, "interpolation", &path)?.as_deref() {
        None | Some("bicubic") => None,
        Some("bilinear") => Some(Filter::Bilinear),
        Some(other) => {
            return Err(bad(
                &path,
                format!("interpolation {other}: this program has bicubic and bilinear"),
            ));
        }
    };
    Ok(())
}

fn open_clip_config(json: &Value, tower: Tower, config: &mut Config) -> Result<(), BackboneError> {
    let path = config.path.clone();
    let model = json.get("model_cfg").unwrap_or(json);
    let settings = &mut config.settings;
    let quick = get::<bool>(model, "quick_gelu", &path)?.unwrap_or(false);
    settings.activation = Some(if quick {
        Activation::QuickGelu
    } else {
        Activation::Gelu
    });
    match tower {
        Tower::Text => {
            if let Some(text) = model.get("text_cfg") {
                settings.heads = get(text, "heads", &path)?;
            }
        }
        Tower::Image => {
            if let Some(vision) = model.get("vision_cfg") {
                let width: Option<usize> = get(vision, "width", &path)?;
                let head = get(vision, "head_width", &path)?.unwrap_or(64);
                settings.heads = width.and_then(|width| width.checked_div(head));
                for key in ["patch_size", "image_size"] {
                    if let Some(value) = get(vision, key, &path)? {
                        config.claims.push((key, value));
                    }
                }
            }
            if let Some(pre) = json.get("preprocess_cfg") {
                settings.mean = get(pre, "mean", &path)?;
                settings.std = get(pre, "std", &path)?;
            }
        }
    }
    Ok(())
}

/// A length, however transformers wrote it: `224`, `{"height": 224, "width": 224}` or `{"shortest_edge": 224}`.
fn length(json: &Value, key: &str, path: &Path) -> Result<Option<u32>, BackboneError> {
    let Some(value) = json.get(key).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let one = |key: &str| value.get(key).and_then(Value::as_u64);
    let found = value
        .as_u64()
        .or_else(|| one("shortest_edge"))
        .or_else(|| one("height").filter(|height| one("width") == Some(*height)));
    match found.and_then(|length| u32::try_from(length).ok()) {
        Some(length) if length > 0 => Ok(Some(length)),
        _ => Err(bad(path, format!("{key}: {value} is not one length"))),
    }
}

fn preprocessor(json: &Value, path: &Path, settings: &mut Settings) -> Result<(), BackboneError> {
    settings.mean = get(json, "image_mean", path)?;
    settings.std = get(json, "image_std", path)?;
    settings.filter = match get::<u32>(json, "resample", path)? {
        None => None,
        Some(2) => Some(Filter::Bilinear),
        Some(3) => Some(Filter::Bicubic),
        Some(other) => {
            return Err(bad(
                path,
                format!("resample {other}: this program has 2 (bilinear) and 3 (bicubic)"),
            ));
        }
    };
    let (size, crop) = (
        length(json, "size", path)?,
        length(json, "crop_size", path)?,
    );
    let cropped = get::<bool>(json, "do_center_crop", path)? == Some(true);
    match (size, crop) {
        (Some(resize), Some(crop)) if cropped => {
            settings.fit = Some(Fit::ShorterSide { resize });
            settings.image_size = Some(crop);
        }
        (Some(size), _) => {
            settings.fit = Some(Fit::Squash);
            settings.image_size = Some(size);
        }
        _ => {}
    }
    Ok(())
}
