//! Families of published weight files: how each is told by its tensors' names, and how those become the engine's weights.

mod clip;
mod dinov2;
mod huggingface_vit;
mod open_clip;
mod part;
mod siglip;
mod source;
mod text;
mod timm;
mod vgg;
mod vision_transformer;

use std::path::Path;

use serde::Serialize;

use self::part::Kind;
use self::source::Source;
pub(super) use self::text::{TextKind, TextParts, read_pairing, read_text};
use super::settings::{Config, Settings, Tower, read_folder};
use super::tensors::{METADATA_KEY, Reader, Tensors};
use super::vgg::VggWeights;
use super::weights::VitWeights;
use super::{BackboneError, Global, Options, Tokens};

/// A family of weight files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Family {
    /// Short name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Tensors that tell it, after one of [`Family::prefixes`].
    pub recognised_by: &'static [&'static str],
    /// What may stand before all names.
    pub prefixes: &'static [&'static str],
    /// What the tokens are, and the global vector.
    pub tokens: &'static str,
    /// Tokens N x D of well-known members, and the global vector's width.
    pub widths: &'static str,
    /// Hub ids, or file names, of well-known members.
    pub typical: &'static [&'static str],
    /// Whether the network has a projection, so that projected tokens can be asked for.
    #[serde(skip)]
    pub projects: bool,
    /// Preprocessing where neither the file nor its folder says otherwise.
    pub preprocess: &'static str,
}

/// Reads a family's weights.
type ReadFamily = fn(&Source, Reader) -> Result<Network, BackboneError>;

/// Declares the families: one line each, in the order in which they are tried.
macro_rules! families {
    ($($module:ident),+ $(,)?) => {
        /// All families, in the order in which they are tried.
        pub const FAMILIES: [Family; [$($module::FAMILY),+].len()] = [$($module::FAMILY),+];

        /// How the weights of each of the [`FAMILIES`] are read.
        const READERS: [ReadFamily; FAMILIES.len()] = [$($module::read),+];
    };
}

families![timm, dinov2, huggingface_vit, clip, open_clip, siglip, vgg];

static ALL: [Family; FAMILIES.len()] = FAMILIES;

/// The weights of a network of any family.
pub enum Network {
    /// A Vision Transformer or a relative.
    Vit(Box<VitWeights>),
    /// A VGG.
    Vgg(Box<VggWeights>),
}

/// A weight file as `epsilon backbone check` shows it.
pub(super) struct Recognised {
    pub family: &'static Family,
    pub network: Network,
    /// Number of values of all tensors, unused ones included.
    pub values: u64,
}

/// Reads the network that the tensors in `path` (a file, an index or a folder) make up.
pub(super) fn read(path: &Path, options: &Options) -> Result<Recognised, BackboneError> {
    Ok(read_kept(path, options)?.0)
}

/// [`read`], with the tensors and the settings that it was made of.
pub(super) fn read_kept(
    path: &Path,
    options: &Options,
) -> Result<(Recognised, Tensors, Settings), BackboneError> {
    let mut tensors = Tensors::open(path)?;
    let kinds = FAMILIES.map(|family| Kind {
        name: family.name,
        recognised_by: family.recognised_by,
        prefixes: family.prefixes,
    });
    let found = part::choose(&mut tensors, &kinds, options.weights_key.as_deref())?;
    let found = found.ok_or_else(|| unknown(&tensors))?;
    let (family, read) = (&ALL[found.kind], READERS[found.kind]);
    let config = if path.is_dir() {
        read_folder(path, Tower::Image)?
    } else {
        Config::default()
    };
    let own = match &tensors.metadata {
        Some(text) => serde_json::from_str(text).map_err(|error| BackboneError::Config {
            path: tensors.path.clone(),
            reason: format!("metadata {METADATA_KEY}: {error}"),
        })?,
        None => Settings::default(),
    };
    let source = Source {
        tensors: &tensors,
        settings: own.or(config.settings.clone()),
        config: &config,
        name: name(path),
        family: family.name,
        weights_key: found.key,
        options,
    };
    let reader = Reader::new(&tensors, found.prefix);
    let projected = options.tokens == Tokens::Projected;
    if projected && !family.projects {
        return Err(source.bad(format!(
            "tokens = \"projected\" is for CLIP and SigLIP; this is {}",
            family.about
        )));
    }
    let network = read(&source, reader)?;
    if options.global == Global::Classes && network.classes().is_none() {
        return Err(source.bad(
            "the scores of its own classes were asked for, and it holds no classifier's head that fits: take weights with one, such \
             as timm's without its head removed"
                .into(),
        ));
    }
    let settings = source.settings;
    let recognised = Recognised {
        family,
        network,
        values: tensors.values(),
    };
    Ok((recognised, tensors, settings))
}

/// The weight file's or folder's name, for people. A hub snapshot's folder is named by its repository.
fn name(path: &Path) -> String {
    let stem = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    if !path.is_dir() {
        return stem(path);
    }
    let snapshots = path.parent().filter(|parent| parent.ends_with("snapshots"));
    let repository = snapshots.and_then(Path::parent).and_then(Path::file_name);
    match repository.and_then(|name| name.to_str()?.rsplit("--").next()) {
        Some(repository) => repository.into(),
        None => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    }
}

/// The error for tensors of no family: what the nearest one lacks.
fn unknown(tensors: &Tensors) -> BackboneError {
    let start = tensors.before_all();
    let lacking = |family: &'static Family, prefix: &str| -> Vec<String> {
        let names = family.recognised_by.iter();
        let names = names.map(|name| format!("{start}{prefix}{name}"));
        names.filter(|name| !tensors.has(name)).collect()
    };
    let candidates = ALL.iter().flat_map(|family| {
        let lacking = &lacking;
        let prefixes = family.prefixes.iter();
        prefixes.map(move |prefix| (family, lacking(family, prefix)))
    });
    let nearest =
        candidates.min_by_key(|(family, missing)| missing.len() * 100 / family.recognised_by.len());
    let (nearest, missing) = nearest.map_or(("none", Vec::new()), |(family, missing)| {
        (family.name, missing)
    });
    BackboneError::Unknown {
        path: tensors.path.clone(),
        tried: ALL.iter().map(|family| family.name).collect(),
        nearest,
        missing,
    }
}
