//! A network taken out of its files, to stand in another: the tensors that it uses, in f16 or as they are, and the settings that its
//! folder or its family's habit gave it. A sealed file with them is a weight file like any other.

use std::path::Path;

use epsilon_data::files::sha256;
use epsilon_data::formats::sealed::Tensor;

use super::settings::Settings;
use super::tensors::METADATA_KEY;
use super::{BackboneError, BackboneInfo, Network, Options, families};

/// What stands before the names of a packed network's tensors; the other tensors of its file are none of its own.
pub(super) const PART: &str = "backbone.";
/// Key of the metadata that says what a packed network has in place of its file's hash.
pub(super) const IDENTITY: &str = "epsilon.weights";

/// A network without its files.
#[derive(Debug)]
#[non_exhaustive]
pub struct Packed {
    /// Its tensors, under the names that their family knows behind `backbone.`.
    pub tensors: Vec<Tensor<'static>>,
    /// Keys and values for the metadata of the file that holds the tensors, which has to be sealed
    /// ([`epsilon_data::formats::sealed`]).
    pub metadata: [(String, String); 2],
    /// The hash of the files that it was taken from.
    pub source_sha256: String,
    /// Whether any tensor was rounded.
    pub rounded: bool,
    /// What it is once it is read from its new file, but for the name and the precision it then computes in.
    pub info: BackboneInfo,
}

/// Takes the network out of a weight file or a folder, as [`super::load_with`] reads it. With `rounded` its matrices are rounded from
/// f32 to f16, but for those with values that f16 cannot hold; vectors, such as biases and normalisations, are never rounded.
///
/// In its new file it has the hash of its old one if nothing was changed. Otherwise, where it was rounded or was one of several
/// networks in a file, it has the SHA-256 of the line `HASH [KEY] [f16]`.
///
/// ```
/// use epsilon_data::formats::sealed;
/// use epsilon_vision::backbone::{BUILT_IN, Options, load, pack};
///
/// let folder = tempfile::tempdir()?;
/// let (path, packed) = (folder.path().join("vit.safetensors"), folder.path().join("packed.safetensors"));
/// std::fs::write(&path, BUILT_IN)?;
/// let exact = pack(&path, &Options::default(), false)?;
/// sealed::write(&packed, &exact.tensors, exact.metadata.into())?;
/// assert_eq!(load(&packed)?.info().difference(load(&path)?.info()), None);
/// let rounded = pack(&path, &Options::default(), true)?;
/// sealed::write(&packed, &rounded.tensors, rounded.metadata.into())?;
/// assert_eq!(load(&packed)?.info().weights_sha256, rounded.info.weights_sha256);
/// assert!(!rounded.rounded); // the built-in weights are kept in f16 already
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`super::load_with`].
pub fn pack(path: &Path, options: &Options, rounded: bool) -> Result<Packed, BackboneError> {
    let (found, source, settings) = families::read_kept(path, options)?;
    let mut info = found.network.info();
    let settings = complete(settings, &found.network);
    drop(found);
    let mut tensors = Vec::new();
    let mut any = false;
    for name in source.looked_at() {
        let (tensor, changed) = source.export(&name, format!("{PART}{name}"), rounded)?;
        any |= changed;
        tensors.push(tensor);
    }
    let source_sha256 = info.weights_sha256.clone();
    let key = info.weights_key.take();
    let words = [Some(source_sha256.clone()), key, any.then(|| "f16".into())];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.len() > 1 {
        info.weights_sha256 = sha256(words.join(" ").as_bytes());
    }
    let settings = serde_json::to_string(&settings).map_err(|error| BackboneError::Config {
        path: path.into(),
        reason: format!("its settings: {error}"),
    })?;
    Ok(Packed {
        tensors,
        metadata: [
            (METADATA_KEY.into(), settings),
            (IDENTITY.into(), info.weights_sha256.clone()),
        ],
        source_sha256,
        rounded: any,
        info,
    })
}

/// The settings of a network that was read, none left to a family's habit.
fn complete(read: Settings, network: &Network) -> Settings {
    let preprocess = network.info().preprocess;
    let common = Settings {
        image_size: Some(preprocess.size),
        mean: Some(preprocess.mean),
        std: Some(preprocess.std),
        fit: Some(preprocess.fit),
        filter: Some(preprocess.filter),
        ..read
    };
    match network {
        Network::Vgg(_) => common,
        Network::Vit(weights) => {
            let blocks = &weights.config.blocks;
            Settings {
                heads: Some(blocks.heads),
                layer_norm_eps: Some(blocks.layer_norm_eps),
                activation: Some(blocks.activation),
                ..common
            }
        }
    }
}
