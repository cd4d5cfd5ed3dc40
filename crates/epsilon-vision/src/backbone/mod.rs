//! Frozen networks that turn images into tokens, one file a network, behind one trait. Weights come from a file, a
//! folder or a model hub; their family is told by the tensors' names.

mod attention_pool;
mod clip_text;
mod families;
mod hub;
mod info;
mod models;
#[cfg(feature = "onnxruntime")]
mod onnx;
mod pack;
mod pairing;
mod precision;
mod sentencepiece;
mod settings;
mod siglip_text;
mod tensors;
mod text;
mod torch_limits;
mod values;
mod vgg;
mod vit;
mod weights;

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

pub use self::families::{FAMILIES, Family, Network};
pub use self::hub::{Download, HUB_PREFIX, HubError, is_hub_id, locate};
pub use self::info::{BackboneInfo, Difference, DifferenceKind, Engine, Global, Options, Tokens};
pub use self::models::{
    DEFAULT_MODEL, MODELS, ModelKind, PublishedModel, by_name, model, published,
};
#[cfg(feature = "onnxruntime")]
pub use self::onnx::{OnnxRuntime, Provider};
pub use self::pack::{Packed, pack};
pub use self::pairing::{Pairing, pairing};
pub use self::precision::Precision;
pub use self::text::TextTower;
pub use self::values::Values;
pub use self::vgg::{Convolution, Vgg, VggWeights};
pub use self::vit::Vit;
pub use self::weights::{
    Activation, BlockConfig, BlockWeights, HeadInput, HeadPart, Linear, NormWeights, PoolWeights,
    Resampling, VitConfig, VitWeights,
};

/// A network with fixed weights that makes `N` tokens and one global vector of every image.
pub trait Backbone: Send + Sync {
    /// What the network is and what it expects.
    fn info(&self) -> &BackboneInfo;

    /// Runs `count` preprocessed images (`[count, 3, size, size]`, see [`crate::image::Preprocess::apply`]) through the
    /// network. `out` is resized to fit; its memory is reused. The result of one image does not depend on
    /// the others in the batch.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Images`] when `images` has another length than `count` images have.
    fn forward(
        &self,
        images: &[f32],
        count: usize,
        out: &mut Features,
    ) -> Result<(), BackboneError>;

    /// Hands images over as [`forward`](Self::forward) does, without waiting for what a device makes of them: the next ones can be
    /// handed over before the features are fetched. `None` where they are in `out` already, as on the CPU.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    fn start(
        &self,
        images: &[f32],
        count: usize,
        out: &mut Features,
    ) -> Result<Option<Pending>, BackboneError> {
        self.forward(images, count, out).map(|()| None)
    }

    /// The most images of a batch by the memory of the device that computes them; `None` on the CPU.
    fn device_batch(&self) -> Option<usize> {
        None
    }
}

/// Waits for the features of images that were [started](Backbone::start), and puts them where it is told.
pub type Pending = Box<dyn FnOnce(&mut Features) -> Result<(), BackboneError>>;

/// What a backbone makes of `n` images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// `[n, N, D]`.
    pub tokens: Vec<f32>,
    /// `[n, D]`, or `[n, BackboneInfo::global_dim()]` where that differs.
    pub global: Vec<f32>,
}

/// Why a backbone could not be loaded or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackboneError {
    /// There is no file of that name.
    #[error("{}: no such weight file", path.display())]
    Missing {
        /// The file asked for.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is not whole, or of no container that is read.
    #[error("{}: not a complete safetensors file: {reason}", path.display())]
    Format {
        /// The weight file.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// A file that is not what its seal says.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The weight file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// Tensors are missing, left over, or of the wrong shape or type.
    #[error("{}: not the weights of {family}:\n  {}", path.display(), problems.join("\n  "))]
    Tensors {
        /// The weight file.
        path: PathBuf,
        /// What its names say it is.
        family: &'static str,
        /// One line a tensor.
        problems: Vec<String>,
    },
    /// The names are no known family's.
    #[error(
        "{}: of no family that this program knows ({}); nearest is {nearest}, which lacks:\n  {}",
        path.display(), tried.join(", "), missing.join("\n  ")
    )]
    Unknown {
        /// The weight file.
        path: PathBuf,
        /// The families that were tried.
        tried: Vec<&'static str>,
        /// The one with the most of its tensors there.
        nearest: &'static str,
        /// What is missing of those that tell it.
        missing: Vec<String>,
    },
    /// Several networks in one file.
    #[error(
        "{}: {}; weights-key chooses one of them:\n  {}", path.display(),
        wanted.as_ref().map_or("it holds several networks".into(), |key| format!("weights-key = \"{key}\" names none of its networks")),
        found.iter().map(|(key, kind)| format!("\"{key}\" ({kind})")).collect::<Vec<_>>().join("\n  ")
    )]
    Parts {
        /// The weight file.
        path: PathBuf,
        /// The key that was given.
        wanted: Option<String>,
        /// Key and kind of each.
        found: Vec<(String, &'static str)>,
    },
    /// Something that only stands in for the file.
    #[error("{}: {what}", path.display())]
    StandIn {
        /// The weight file.
        path: PathBuf,
        /// What it is and what to do.
        what: &'static str,
    },
    /// A PyTorch file that is not whole, or holds more than tensors.
    #[error("{}: cannot be read as a PyTorch state dict: {reason}", path.display())]
    PyTorch {
        /// The weight file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder without one weight file.
    #[error("{}: {found} weight files there and none of the usual names ({usual}): name the file", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Number of files with an ending of weights.
        found: usize,
        /// The usual names.
        usual: String,
    },
    /// The device does not compute in this precision, or not this network.
    #[error(
        "precision = \"{precision}\" is not to be had for {what} on this device: give \"f32\" or --device cpu"
    )]
    Device {
        /// The precision asked for.
        precision: Precision,
        /// The kind of network.
        what: &'static str,
    },
    /// ONNX Runtime cannot be had, or does not run the network.
    #[cfg(feature = "onnxruntime")]
    #[error("ONNX Runtime: {reason}")]
    OnnxRuntime {
        /// Why.
        reason: String,
    },
    /// The CPU, or the cap that `EPSILON_CPU` sets, lacks the instructions of a precision.
    #[error(
        "precision = \"{precision}\" needs {needs}; this CPU's instructions are `{level}`: give \"f32\""
    )]
    Precision {
        /// The precision asked for.
        precision: Precision,
        /// The instructions that it needs.
        needs: &'static str,
        /// Those that are used.
        level: epsilon_kernels::Level,
    },
    /// `EPSILON_CPU` asks for instructions that cannot be had.
    #[error(transparent)]
    Cpu(#[from] epsilon_kernels::cpu::CpuError),
    /// A tokenizer cannot be read or used.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A model hub's part.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A weight is infinite or not a number.
    #[error("{}: tensor {tensor} holds values that are not finite", path.display())]
    NotFinite {
        /// The weight file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// The settings in the file's metadata do not fit its tensors.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The weight file.
        path: PathBuf,
        /// What does not fit, and what would.
        reason: String,
    },
    /// A batch of the wrong length.
    #[error("{count} images need {expected} values, {found} were given")]
    Images {
        /// Number of images said to be there.
        count: usize,
        /// Values that many images have.
        expected: usize,
        /// Values given.
        found: usize,
    },
}

/// The classifier in a weight file as a linear map of what a token store keeps of an image; the classes' scores are the sum of
/// its parts, each `[classes, width]` with a bias.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// Of the global vector.
    pub global: Option<Linear>,
    /// Of the mean of the tokens.
    pub mean: Option<Linear>,
}

/// The built-in backbone's weight file, as `epsilon quickstart --train-backbone` writes it.
pub const BUILT_IN: &[u8] = include_bytes!("../../assets/scenes_vit.safetensors");

/// Loads a backbone of any of the [`FAMILIES`] from a weight file, the index of a sharded one, or a folder with its
/// configuration; it runs on the CPU. The files must not be changed while they are read.
///
/// Sizes follow from the tensors' shapes. What shapes do not tell (heads, epsilon, activation, preprocessing) is the
/// family's usual, unless a safetensors file says otherwise in its metadata under the key `epsilon.vit`, as JSON, or a
/// folder in its `config.json` and `preprocessor_config.json`:
///
/// ```json
/// {"heads": 3, "layer_norm_eps": 1e-6, "image_size": 224, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
///  "fit": {"shorter_side": {"resize": 248}}, "filter": "bicubic", "activation": "gelu"}
/// ```
///
/// An `image_size` other than the position embedding's resamples it ([`VitWeights::with_image_size`]).
///
/// ```
/// use epsilon_vision::backbone::{BUILT_IN, Features, load};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("vit.safetensors");
/// std::fs::write(&path, BUILT_IN)?;
/// let backbone = load(&path)?;
/// let info = backbone.info();
/// let images = vec![0.0; 2 * info.preprocess.len()]; // two of them, [2, 3, size, size]
/// let mut features = Features::default();
/// backbone.forward(&images, 2, &mut features)?;
/// assert_eq!(features.tokens.len(), 2 * info.tokens * info.dim);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// See [`BackboneError`]; every missing, extra or misshapen tensor is named.
pub fn load(path: &Path) -> Result<Box<dyn Backbone>, BackboneError> {
    load_with(path, &Options::default())
}

/// Loads a backbone as [`load`] does, with a choice of tokens, precision and engine.
///
/// ```
/// use epsilon_vision::backbone::{BUILT_IN, Options, Precision, load_with};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("vit.safetensors");
/// std::fs::write(&path, BUILT_IN)?;
/// let options = Options { precision: Precision::F32, ..Options::default() };
/// assert_eq!(load_with(&path, &options)?.info().precision, Precision::F32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// See [`BackboneError`].
pub fn load_with(path: &Path, options: &Options) -> Result<Box<dyn Backbone>, BackboneError> {
    let network = read(path, options)?;
    match options.engine {
        Engine::Own => network.on_cpu(options.precision),
        #[cfg(feature = "onnxruntime")]
        Engine::OnnxRuntime(provider) => network.on_onnx_runtime(options.precision, provider),
    }
}

/// The weights of a backbone, checked, before they are laid out for a device; [`load`] says what is read. Large ones stay in the
/// file, which must not be changed while they live.
///
/// # Errors
///
/// See [`BackboneError`].
pub fn read(path: &Path, options: &Options) -> Result<Network, BackboneError> {
    Ok(families::read(path, options)?.network)
}

impl Network {
    /// What the network is and what goes in and comes out, in f32.
    pub fn info(&self) -> BackboneInfo {
        match self {
            Network::Vit(weights) => weights.info(),
            Network::Vgg(weights) => weights.info(),
        }
    }

    /// Classes of the classifier in the file, if it has one ([`Global::Classes`]).
    pub fn classes(&self) -> Option<usize> {
        match self {
            Network::Vit(weights) => weights.classes(),
            Network::Vgg(weights) => weights.classes(),
        }
    }

    /// The classifier in the file, as [`Global::Features`] and the tokens reach it.
    ///
    /// ```
    /// use epsilon_vision::backbone::{BUILT_IN, Options, read};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("vit.safetensors");
    /// std::fs::write(&path, BUILT_IN)?;
    /// let network = read(&path, &Options::default())?;
    /// assert_eq!(network.classes(), None);
    /// assert!(network.classifier().unwrap_err().contains("no classifier"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A sentence where the file has none, or one that reads what is not kept, such as DeiT's distillation token.
    pub fn classifier(&self) -> Result<Classifier, &'static str> {
        let mut found = Classifier {
            global: None,
            mean: None,
        };
        match self {
            Network::Vgg(weights) => found.global = weights.head().cloned(),
            Network::Vit(weights) => {
                if weights.projection.is_some() || weights.pool.is_some() {
                    return Err("its classifier, if any, does not read the global vector");
                }
                for part in &weights.head {
                    let place = match part.input {
                        HeadInput::Token(0) => &mut found.global,
                        HeadInput::Mean => &mut found.mean,
                        HeadInput::Token(_) => {
                            return Err(
                                "its classifier reads a distillation token, which is not kept",
                            );
                        }
                    };
                    *place = Some(part.map.clone());
                }
            }
        }
        match found.global.is_some() || found.mean.is_some() {
            true => Ok(found),
            false => Err("it has no classifier"),
        }
    }

    /// The network on the engine of the CPU.
    ///
    /// # Errors
    ///
    /// [`BackboneError::Cpu`] and [`BackboneError::Precision`] where the instructions cannot be had.
    pub fn on_cpu(self, precision: Precision) -> Result<Box<dyn Backbone>, BackboneError> {
        Ok(match self {
            Network::Vit(weights) => Box::new(Vit::new(*weights, precision)?),
            Network::Vgg(weights) => Box::new(Vgg::new(*weights, precision)?),
        })
    }

    /// The network on ONNX Runtime.
    ///
    /// # Errors
    ///
    /// [`BackboneError::OnnxRuntime`] where that cannot be had, for a VGG, and in another precision than f32.
    #[cfg(feature = "onnxruntime")]
    pub fn on_onnx_runtime(
        self,
        precision: Precision,
        provider: Provider,
    ) -> Result<Box<dyn Backbone>, BackboneError> {
        let refused = |reason: String| Err(BackboneError::OnnxRuntime { reason });
        match self {
            _ if precision != Precision::F32 => refused(format!(
                "precision = \"{precision}\" is of this program's own engine: give \"f32\""
            )),
            Network::Vit(weights) => Ok(Box::new(OnnxRuntime::new(&weights, provider)?)),
            Network::Vgg(_) => refused("VGG runs on this program's own engine alone".into()),
        }
    }
}

/// The weights of a Vision Transformer or a relative from a file or folder, as [`load`] reads them.
///
/// # Errors
///
/// See [`BackboneError`].
pub fn load_weights(path: &Path) -> Result<VitWeights, BackboneError> {
    match read(path, &Options::default())? {
        Network::Vit(weights) => Ok(*weights),
        Network::Vgg(_) => Err(BackboneError::Config {
            path: path.into(),
            reason: "a VGG, where a Vision Transformer is needed".into(),
        }),
    }
}

/// What a weight file or folder is, without running it.
#[derive(Debug, Serialize)]
pub struct Check {
    /// The family.
    pub family: &'static Family,
    /// What goes in and comes out.
    pub info: BackboneInfo,
    /// Width of the global vector.
    pub global: usize,
    /// Classes of the classifier in the file, if it has one; their scores are what [`Global::Classes`] gives.
    pub classes: Option<usize>,
    /// Values of all tensors in the file, unused ones included.
    pub parameters: u64,
}

/// Reads and checks weights whole, as [`load`] does.
///
/// ```
/// use epsilon_vision::backbone::{BUILT_IN, Options, check};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("vit.safetensors");
/// std::fs::write(&path, BUILT_IN)?;
/// let found = check(&path, &Options::default())?;
/// assert_eq!((found.info.dim, found.global), (found.info.dim, found.info.global_dim()));
/// assert!(found.parameters > 100_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// See [`BackboneError`].
pub fn check(path: &Path, options: &Options) -> Result<Check, BackboneError> {
    let found = families::read(path, options)?;
    let info = found.network.info();
    Ok(Check {
        family: found.family,
        global: info.global_dim(),
        classes: found.network.classes(),
        info,
        parameters: found.values,
    })
}
