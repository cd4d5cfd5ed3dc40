//! A bundle: one file that holds a model, its backbone and the vectors of words, and needs nothing else.
//!
//! It is a model file, and a weight file, and a file of word vectors: every reader finds its own part. It is sealed, see
//! [`epsilon_data::formats::sealed`]; what its parts are and where they come from is JSON under the metadata key `epsilon.bundle`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::words::Origin;
use super::{PredictError, Predictor, WordVectors};
use crate::model::{BUNDLE, Model};
use epsilon_data::files;
use epsilon_data::formats::safetensors as format;
use epsilon_data::formats::sealed::{self, Tensor};
use epsilon_data::labels::{LabelVectors, VectorFile, WordTable, composed};
use epsilon_data::paths;
use epsilon_vision::backbone::{self, Download, HUB_PREFIX, MODELS, Packed};

const VERSION: u32 = 1;
/// Words that are taken out of a vector file where nobody says how many. Published files have the most common ones first.
const USUAL_WORDS: usize = 50_000;

/// What a bundle holds besides the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleOptions {
    /// The first words of the vector file, at most so many [default: 50,000].
    pub words: usize,
    /// Words to hold besides them. Where a text tower, which stays behind, makes the vectors, they and the model's own labels are all.
    pub labels: Vec<String>,
    /// Keeps the backbone and the words' vectors as they are. Otherwise matrices are rounded to f16, where that keeps them.
    pub exact: bool,
    /// The licence of the backbone's weights, where it is not known.
    pub licence: Option<String>,
}

impl Default for BundleOptions {
    fn default() -> Self {
        Self {
            words: USUAL_WORDS,
            labels: Vec::new(),
            exact: false,
            licence: None,
        }
    }
}

/// A bundle that was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bundled {
    /// Where it is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Method and labels.
    pub model: BundlePart,
    /// The network.
    pub backbone: BundlePart,
    /// The vectors of words beside those of the model's labels; none where it holds no others.
    pub words: Option<BundlePart>,
}

/// A part of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BundlePart {
    /// Its bytes.
    pub bytes: u64,
    /// What it is.
    pub what: String,
    /// Whether any of it was rounded to f16.
    pub rounded: bool,
    /// What it was made of: a file's name, or a hub id.
    pub from: Option<String>,
    /// Its licence, where it is known.
    pub licence: Option<String>,
}

/// What is kept of a bundle's making.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct About {
    version: u32,
    precision: String,
    backbone: Network,
    words: Words,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Network {
    from: String,
    /// Hash of the files that it was taken from.
    weights_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    licence: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Words {
    count: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Whether words were made by a text tower: then none is put together of its parts.
    listed: bool,
}

impl About {
    fn read(path: &Path) -> Result<Option<Self>, PredictError> {
        let Some(text) = entry(path)? else {
            return Ok(None);
        };
        let about: Self =
            serde_json::from_str(&text).map_err(|error| bad(path, format!("{BUNDLE}: {error}")))?;
        if about.version != VERSION {
            let version = about.version;
            return Err(bad(
                path,
                format!("a bundle of version {version}; this program reads version {VERSION}"),
            ));
        }
        for text in about.texts() {
            if !paths::is_plain(text) {
                let text = paths::plain(text);
                return Err(bad(path, format!("{BUNDLE}: control characters: {text}")));
            }
        }
        Ok(Some(about))
    }

    /// What of it is shown.
    fn texts(&self) -> impl Iterator<Item = &String> {
        let texts = [&self.backbone.licence, &self.words.from].into_iter();
        texts.flatten().chain([&self.backbone.from])
    }
}

fn bad(path: &Path, reason: impl Into<String>) -> PredictError {
    PredictError::Bundle {
        path: path.into(),
        reason: reason.into(),
    }
}

fn entry(path: &Path) -> Result<Option<String>, PredictError> {
    if path.is_dir() {
        return Ok(None);
    }
    format::metadata_at(path, BUNDLE).map_err(|error| bad(path, error.to_string()))
}

/// Whether a file is a bundle.
///
/// # Errors
/// [`PredictError::Bundle`] when it cannot be read.
pub fn is_bundle(path: &Path) -> Result<bool, PredictError> {
    Ok(entry(path)?.is_some())
}

/// The vectors of words in the file that a model was read from; none where it is no bundle.
pub(super) fn words(model: &Model, path: &Path) -> Result<Option<WordVectors>, PredictError> {
    let Some(about) = About::read(path)? else {
        return Ok(None);
    };
    let file = VectorFile::from(path);
    Ok(Some(match (about.words.count, about.words.listed) {
        (0, false) => WordVectors::of_labels(model),
        (0, true) => WordVectors::of_empty_list(model, file),
        (_, false) => WordVectors::of_file(model, file, Download::Refused),
        (_, true) => WordVectors::of_list(model, file)?,
    }))
}

impl Predictor {
    /// Writes the model, its backbone and vectors of words as one file, whole or not at all, from which [`Predictor::load`] needs
    /// nothing else.
    ///
    /// ```
    /// # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
    /// # use drawn::*;
    /// # let folder = drawn_model("ridge")?;
    /// # let (model, photo) = (folder.path().join("model.safetensors"), folder.path().join("data/test/000000.png"));
    /// # let alone = tempfile::tempdir()?;
    /// # let bundle = alone.path().join("out.epsilon");
    /// use epsilon::predictor::BundleOptions;
    ///
    /// let predictor = epsilon::Predictor::load(model)?;
    /// let options = BundleOptions { exact: true, ..Default::default() };
    /// predictor.bundle(&bundle, &options)?;
    /// let other = epsilon::Predictor::load(bundle)?;
    /// let words = ["plain circle", "striped circle"];
    /// let ranking = other.rank(&photo, &other.labels(words)?)?;
    /// assert_eq!(ranking, predictor.rank(&photo, &predictor.labels(words)?)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PredictError::Backbone`], [`PredictError::Labels`] for word vectors that cannot be read and words without one,
    /// [`PredictError::Bundle`] for a file that cannot be written, and for one that the bundle is made of.
    pub fn bundle(&self, out: &Path, options: &BundleOptions) -> Result<Bundled, PredictError> {
        self.check_place(out)?;
        if let Some(licence) = &options.licence
            && (licence.trim().is_empty() || !paths::is_plain(licence))
        {
            let reason = format!("a licence of {licence:?}: give a name or a line of text");
            return Err(bad(out, reason));
        }
        if self
            .model
            .anchor()
            .is_some_and(|anchor| anchor.card().settings.vectors.is_some())
        {
            let reason = "the model's anchor has a file of word vectors of its own, which a bundle does not hold";
            return Err(bad(out, reason));
        }
        let chosen = self.model.card().backbone().options();
        let packed = backbone::pack(&self.weights, &chosen, !options.exact);
        let packed = packed.map_err(PredictError::Backbone)?;
        let network = self.network(&packed, options)?;
        let (table, from, listed) = self.table(options)?;
        let words = table.tensors(!options.exact);
        let words_rounded = words.iter().any(|tensor| tensor.dtype == Dtype::F16);
        let (key, card) = (self.model.metadata(&packed.info))
            .map_err(|error| bad(out, format!("its card: {error}")))?;
        let about = About {
            version: VERSION,
            precision: if options.exact { "f32" } else { "f16" }.into(),
            backbone: network.clone(),
            words: Words {
                count: table.len(),
                from: from.clone(),
                listed,
            },
        };
        let about = serde_json::to_string(&about).map_err(|error| bad(out, error.to_string()))?;
        let mut metadata = BTreeMap::from([(key, card), (BUNDLE.to_string(), about)]);
        metadata.extend(packed.metadata.clone());
        let model = self.model.tensors().into_iter();
        let model: Vec<Tensor<'_>> = model
            .map(|(name, shape, values)| Tensor::of_f32(name, &shape, &values))
            .collect();
        let parts = [size(&model), size(&packed.tensors), size(&words)];
        let all = model.into_iter().chain(packed.tensors).chain(words);
        let all: Vec<Tensor<'_>> = all.collect();
        let bytes = sealed::write(out, &all, metadata);
        let bytes = bytes.map_err(|error| bad(out, error.to_string()))?;
        let card = self.model.card();
        let (method, labels) = (card.method().name(), card.labels().len());
        let seen = match card.seen_labels().len() {
            0 => String::new(),
            seen => format!(", {seen} of them seen"),
        };
        let dim = table.dim();
        Ok(Bundled {
            file: out.into(),
            bytes,
            model: BundlePart {
                bytes: parts[0],
                what: format!("{method}, {labels} labels{seen}"),
                rounded: false,
                from: file_name(&self.options.model),
                licence: None,
            },
            backbone: BundlePart {
                bytes: parts[1],
                what: format!("{} pixels", card.backbone().preprocess.size),
                rounded: packed.rounded,
                from: Some(network.from),
                licence: network.licence,
            },
            words: (!table.is_empty()).then(|| BundlePart {
                bytes: parts[2],
                what: format!("{} words, {dim} values each", table.len()),
                rounded: words_rounded,
                from,
                licence: None,
            }),
        })
    }

    /// Refuses to put a bundle in the place of what it is made of.
    fn check_place(&self, out: &Path) -> Result<(), PredictError> {
        let Ok(place) = out.canonicalize() else {
            return Ok(());
        };
        let parts = [&self.options.model, &self.weights];
        let vectors = match self.words.origin() {
            Origin::File(file) | Origin::Tower(file) | Origin::Listed(file) => Some(&file.path),
            Origin::Nothing => None,
        };
        let mut parts = parts.into_iter().chain(vectors);
        match parts.any(|part| part.canonicalize().is_ok_and(|part| part == place)) {
            true => Err(bad(
                out,
                "the bundle is made of this file: give it another name",
            )),
            false => Ok(()),
        }
    }

    /// Where the network comes from.
    fn network(&self, packed: &Packed, options: &BundleOptions) -> Result<Network, PredictError> {
        let before = About::read(&self.weights)?.map(|about| about.backbone);
        let named = match (&self.options.backbone, self.is_trained()) {
            (Some(named), _) => named,
            (None, true) => self.model.card().backbone_weights(),
            (None, false) => &self.options.model,
        };
        let id = named
            .to_str()
            .and_then(|text| text.strip_prefix(HUB_PREFIX));
        let id = id.map(|id| id.split('@').next().unwrap_or(id));
        let mut network = before.unwrap_or_else(|| Network {
            from: match id {
                Some(_) => named.to_string_lossy().into_owned(),
                None => file_name(&self.weights).unwrap_or_default(),
            },
            weights_sha256: packed.source_sha256.clone(),
            licence: match MODELS.iter().find(|model| Some(model.id) == id) {
                Some(model) => Some(model.licence.into()),
                None => licence_beside(&self.weights),
            },
        });
        if options.licence.is_some() {
            network.licence.clone_from(&options.licence);
        }
        Ok(network)
    }

    /// Words beside the model's own labels, the name of the file that they come from, and whether they are a mere list.
    fn table(
        &self,
        options: &BundleOptions,
    ) -> Result<(WordTable, Option<String>, bool), PredictError> {
        let width = self.model.card().dims().label_width;
        let first = |file: &VectorFile, most: usize| -> Result<_, PredictError> {
            if most == 0 {
                return Ok((WordTable::new(width), None));
            }
            let table = WordTable::first(file, most)?;
            Model::check_width(width, table.dim())?;
            Ok((table, file_name(&file.path)))
        };
        let ((mut table, from), listed) = match self.words.origin() {
            Origin::Nothing => ((WordTable::new(width), None), false),
            Origin::File(file) => (first(file, options.words)?, false),
            Origin::Tower(_) => ((WordTable::new(width), None), true),
            Origin::Listed(file) => {
                let before = About::read(&file.path)?.map_or(0, |about| about.words.count);
                (first(file, before)?, true)
            }
        };
        let own = self.model.own_labels();
        let own: HashSet<_> = own.names().iter().map(|name| composed(name)).collect();
        let words = options.labels.iter().map(|word| composed(word));
        let words = words.filter(|word| !own.contains(word) && table.get(word).is_none());
        let words: Vec<String> = words.map(Cow::into_owned).collect();
        if !words.is_empty() {
            let found: LabelVectors = self.words.find(&words)?;
            for (row, word) in words.iter().enumerate() {
                table.push(word, found.row(row));
            }
        }
        Ok((table, from, listed))
    }
}

fn size(tensors: &[Tensor<'_>]) -> u64 {
    let sizes = tensors.iter().map(|tensor| tensor.bytes.len() as u64);
    sizes.sum()
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// The licence that the description beside a network names, as the hub's do: `license: NAME` between two lines of dashes.
fn licence_beside(weights: &Path) -> Option<String> {
    let folder = match weights.is_dir() {
        true => weights,
        false => weights.parent()?,
    };
    let text = files::read_text(&folder.join("README.md"), files::DESCRIPTION).ok()?;
    let mut lines = text.lines();
    let head = (lines.next()?.trim_end() == "---").then_some(lines)?;
    let mut head = head.take_while(|line| line.trim_end() != "---");
    let licence = head.find_map(|line| line.strip_prefix("license:"))?.trim();
    (!licence.is_empty()).then(|| licence.trim_matches(['"', '\'']).into())
}
