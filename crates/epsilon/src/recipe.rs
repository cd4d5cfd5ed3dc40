//! Recipes: one TOML file with the data, backbone, method, training and evaluation of an experiment. A recipe is validated
//! completely before anything long starts.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use epsilon_data::files;
use epsilon_metrics::{Normalisation, Protocol, Standardise};
use serde::{Deserialize, Serialize};

use crate::methods::anchor::Anchor;
use crate::methods::varied::Varied;
use crate::methods::{Fitting, Kind, MethodError, Vocabulary};
use crate::training::{Choose, TrainingError, TrainingSettings};
use epsilon_data::dataset::Source;
use epsilon_data::dataset::coco::TrainingImages;
use epsilon_data::labels::VectorFile;
use epsilon_vision::backbone::{self, Options, Precision, Tokens};
use epsilon_vision::image::Limits;
use epsilon_vision::tokens::{ExtractOptions, TokenType};

/// The most resamples of a bootstrap: one has a byte for each of them and of the test images in memory.
const MOST_RESAMPLES: usize = 100_000;

/// What can be wrong with a recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {reason}")]
    Read {
        /// The recipe.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// Not TOML, or not of a recipe's form.
    #[error("{path}: {reason}")]
    Form {
        /// The recipe.
        path: PathBuf,
        /// What is wrong and what comes near it.
        reason: String,
    },
    /// A training setting is out of range.
    #[error("{path}: [training] {reason}")]
    Training {
        /// The recipe.
        path: PathBuf,
        /// Which one.
        reason: TrainingError,
    },
    /// A file that the recipe names does not exist.
    #[error("{path}: {key} = \"{named}\": no such file or folder")]
    Missing {
        /// The recipe.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it names, made absolute from the recipe's folder.
        named: PathBuf,
    },
}

/// Where images, labels and label vectors come from. Paths are relative to the recipe's folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataSettings {
    /// Images and labels: the key `kind`, `table` where it is left out, and the keys of that kind.
    #[serde(flatten)]
    pub source: Source,
    /// The file with the labels' vectors, or the network whose text tower makes them: a weight file, a folder, or
    /// `hf:owner/name[@revision]` on the model hub.
    pub vectors: PathBuf,
    /// The words of a vector file that contains only numbers: one list per array.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vector_names: Vec<PathBuf>,
}

impl DataSettings {
    /// The vector file with its lists of words, or the network with a text tower.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use epsilon::recipe::DataSettings;
    ///
    /// let data: DataSettings = toml::from_str(
    ///     "kind = 'voc'\nfolder = 'VOC2007'\nseen = 'seen.txt'\nunseen = 'unseen.txt'\n\
    ///      vectors = 'bert.npy'\nvector-names = ['words.txt']",
    /// )?;
    /// assert_eq!(data.vector_file().path, Path::new("bert.npy"));
    /// assert_eq!(data.vector_file().names, [Path::new("words.txt")]);
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    pub fn vector_file(&self) -> VectorFile {
        VectorFile {
            path: self.vectors.clone(),
            names: self.vector_names.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for DataSettings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut keys = toml::Table::deserialize(deserializer)?;
        let kind = match keys.remove("kind") {
            Some(kind) => kind.try_into().map_err(D::Error::custom)?,
            None => String::from("table"),
        };
        let vectors = keys.remove("vectors");
        let vector_names = keys.remove("vector-names");
        let source = source(&kind, keys).map_err(D::Error::custom)?;
        let vectors = vectors.ok_or_else(|| D::Error::missing_field("vectors"))?;
        Ok(Self {
            source,
            vectors: vectors.try_into().map_err(D::Error::custom)?,
            vector_names: match vector_names {
                Some(names) => names.try_into().map_err(D::Error::custom)?,
                None => Vec::new(),
            },
        })
    }
}

/// The data set of a kind from its keys.
fn source(kind: &str, keys: toml::Table) -> Result<Source, String> {
    let source = match kind {
        "table" => keys.try_into().map(Source::Table),
        "nus-wide" => keys.try_into().map(Source::NusWide),
        "open-images" => keys.try_into().map(Source::OpenImages),
        "coco" => keys.try_into().map(Source::Coco),
        "voc" => keys.try_into().map(Source::Voc),
        _ => {
            let known = Source::KINDS.join("`, `");
            return Err(format!(
                "[data] kind = {kind:?}: it must be one of `{known}`"
            ));
        }
    };
    source.map_err(|error| {
        let message = error.to_string();
        let message = message.trim_end();
        // A second line names the table that the field stands in.
        match message.starts_with("unknown field") && !message.contains('\n') {
            // These keys are common to all kinds.
            true => format!("{message}, `vectors`, `vector-names`, `kind`"),
            false => message.to_string(),
        }
    })
}

/// The frozen network, `[backbone]` in a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackboneSettings {
    /// A weight file, a folder with its configuration, or `hf:owner/name[@revision]` on the model hub.
    pub weights: PathBuf,
    /// Which tokens a network with a projection (CLIP) gives.
    #[serde(default)]
    pub tokens: Tokens,
    /// Precision of the network's matrix products.
    #[serde(default)]
    pub precision: Precision,
    /// Of a file that holds several networks, the key that the wanted one stands under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_key: Option<String>,
}

impl BackboneSettings {
    /// The options that the network is loaded with.
    ///
    /// ```
    /// use epsilon::backbone::Precision;
    /// use epsilon::recipe::BackboneSettings;
    ///
    /// let settings: BackboneSettings =
    ///     toml::from_str("weights = 'hf:timm/vit_small_patch16_224'\nprecision = 'bf16'")?;
    /// assert_eq!(settings.options().precision, Precision::Bf16);
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    pub fn options(&self) -> Options {
        Options {
            tokens: self.tokens,
            precision: self.precision,
            weights_key: self.weights_key.clone(),
            ..Options::default()
        }
    }
}

/// How tokens are extracted and stored, `[features]` in a recipe.
///
/// ```
/// use epsilon::recipe::FeatureSettings;
/// use epsilon::tokens::TokenType;
///
/// let settings: FeatureSettings = toml::from_str("dtype = 'f32'")?;
/// assert_eq!(settings.dtype, TokenType::F32);
/// assert_eq!(settings.store, None); // tokens are extracted
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FeatureSettings {
    /// Element type of the token store.
    pub dtype: TokenType,
    /// Batch size of the backbone; chosen by the network's size if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// The largest photograph that is read, in millions of pixels, where it is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_megapixels: Option<u32>,
    /// A finished token store to use instead of extracting, such as an imported one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
}

impl Default for FeatureSettings {
    fn default() -> Self {
        let usual = ExtractOptions::default();
        Self {
            dtype: usual.dtype,
            batch: usual.batch,
            max_megapixels: None,
            store: None,
        }
    }
}

/// How a model is evaluated, `[evaluation]` in a recipe.
///
/// ```
/// use epsilon::recipe::EvaluationSettings;
///
/// let settings: EvaluationSettings = toml::from_str("protocol = 'lesa-nus'\nk-gzsl = [5, 10]")?;
/// assert_eq!(settings.k_gzsl, [5, 10]);
/// assert_eq!(settings.k_zsl, [3, 5]); // the default
/// assert_eq!(settings.bootstrap, 200);
/// let ranked: EvaluationSettings = toml::from_str("standardise = 'ranked'")?;
/// assert_eq!(ranked.standardise, epsilon_metrics::Standardise::Ranked);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct EvaluationSettings {
    /// Name of a [`Protocol`].
    pub protocol: String,
    /// K of the top-K figures among the unseen labels.
    pub k_zsl: Vec<usize>,
    /// K of the top-K figures among all labels.
    pub k_gzsl: Vec<usize>,
    /// Resamples of the test images for the bootstrap error of the mAP; 0 for none.
    pub bootstrap: usize,
    /// Over which labels the scores of every image are first standardised to mean 0 and standard deviation 1. `true` is read as
    /// `table`, `false` as `none`.
    #[serde(skip_serializing_if = "is_none")]
    pub standardise: Standardise,
    /// Whether every label's scores first lose their mean over the test images, which makes the figures transductive.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub centre_labels: bool,
    /// Disjoint sets that the seen and unseen labels together are divided into, each unseen in turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_folds: Option<usize>,
    /// Of these sets the only one, from 1, that is unseen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_fold: Option<usize>,
}

fn is_none(standardise: &Standardise) -> bool {
    *standardise == Standardise::None
}

impl EvaluationSettings {
    /// What is done to the scores before they are ranked.
    pub fn normalisation(&self) -> Normalisation {
        Normalisation {
            centre_labels: self.centre_labels,
            standardise: self.standardise,
        }
    }

    /// The label folds that the recipe is to be run on; none where its own lists, or one fold, say what is unseen.
    ///
    /// ```
    /// use epsilon::recipe::EvaluationSettings;
    ///
    /// let settings: EvaluationSettings = toml::from_str("label-folds = 3")?;
    /// assert_eq!(settings.folds().collect::<Vec<_>>(), [1, 2, 3]);
    /// let one: EvaluationSettings = toml::from_str("label-folds = 3\nlabel-fold = 2")?;
    /// assert_eq!(one.folds().count(), 0);
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    pub fn folds(&self) -> std::ops::Range<usize> {
        let end = match (self.label_folds, self.label_fold) {
            (Some(folds), None) => folds + 1,
            _ => 1,
        };
        1..end
    }

    /// Without top-K sizes and resamples, for figures that choose.
    pub(crate) fn map_alone(&self) -> Self {
        Self {
            k_zsl: Vec::new(),
            k_gzsl: Vec::new(),
            bootstrap: 0,
            ..self.clone()
        }
    }

    /// What is wrong with the label folds.
    fn wrong_folds(&self, source: &Source) -> Option<String> {
        let without_unseen = matches!(source, Source::Coco(options) if options.training_images == TrainingImages::WithoutUnseen);
        match (self.label_folds, self.label_fold) {
            (None, None) => None,
            (None, Some(fold)) => Some(format!(
                "label-fold = {fold}: of how many? Give label-folds, too"
            )),
            (Some(folds), _) if folds < 2 => {
                Some(format!("label-folds = {folds}: give at least 2"))
            }
            (Some(folds), Some(fold)) if fold == 0 || fold > folds => {
                Some(format!("label-fold = {fold}: give 1 to {folds}"))
            }
            (Some(_), _) if without_unseen => Some(
                "label-folds: training-images = \"without-unseen\" leaves out images by the labels of one split: give \"all\""
                    .into(),
            ),
            (Some(_), _) => None,
        }
    }
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self {
            protocol: "epsilon".into(),
            k_zsl: vec![3, 5],
            k_gzsl: vec![3, 5],
            bootstrap: 200,
            standardise: Standardise::None,
            centre_labels: false,
            label_folds: None,
            label_fold: None,
        }
    }
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// Images, labels and label vectors.
    pub data: DataSettings,
    /// The frozen network; may be left out where `features.store` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<BackboneSettings>,
    /// How tokens are extracted and stored.
    #[serde(default)]
    pub features: FeatureSettings,
    /// The method and its settings.
    pub method: Kind,
    /// What the backbone's own classes add to the scores of the method, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor>,
    /// How to train; ignored by methods with a closed-form solution.
    #[serde(default)]
    pub training: TrainingSettings,
    /// How the model is evaluated.
    #[serde(default)]
    pub evaluation: EvaluationSettings,
    /// One training per seed.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
}

fn one_seed() -> Vec<u64> {
    vec![1]
}

impl Recipe {
    /// Reads a recipe, resolves its paths from its folder, and checks every range and that every file exists.
    ///
    /// # Errors
    /// [`RecipeError`] names the key, and for a mistyped one the nearest.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let text =
            files::read_text(path, files::DESCRIPTION).map_err(|reason| RecipeError::Read {
                path: path.into(),
                reason,
            })?;
        Self::resolve(path, &text)
    }

    /// [`Recipe::read`] with the text of the recipe at `path`, possibly modified.
    pub(crate) fn resolve(path: &Path, text: &str) -> Result<Self, RecipeError> {
        let mut recipe = Self::parse(path, text)?;
        let absolute = std::path::absolute(path).map_err(|reason| RecipeError::Read {
            path: path.into(),
            reason,
        })?;
        let folder = absolute.parent().unwrap_or(Path::new("")).to_path_buf();
        for (_, place) in recipe.paths() {
            if !backbone::is_hub_id(place) {
                *place = folder.join(&place);
            }
        }
        recipe.check_files(path)?;
        Ok(recipe)
    }

    /// Reads a recipe from text and checks every range; paths stay as they are. `path` is for messages.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use epsilon::recipe::Recipe;
    ///
    /// let text = r#"
    ///     seeds = [1, 2, 3]
    ///     [data]
    ///     kind = "coco"
    ///     train = "train.json"
    ///     test = "val.json"
    ///     train-images = "train2017"
    ///     test-images = "val2017"
    ///     split = "65/15"
    ///     vectors = "glove.txt"
    ///     [backbone]
    ///     weights = "vit.safetensors"
    ///     [method]
    ///     kind = "epsilon"
    ///     groups = 4
    /// "#;
    /// let recipe = Recipe::parse(Path::new("coco.toml"), text)?;
    /// assert_eq!(recipe.seeds, [1, 2, 3]);
    /// assert_eq!(recipe.method.name(), "epsilon");
    /// assert_eq!(recipe.evaluation.protocol, "epsilon"); // not said, so the default
    ///
    /// // A mistyped key is refused with the nearest one.
    /// let error = Recipe::parse(Path::new("coco.toml"), &text.replace("groups", "gruops"));
    /// assert!(error.unwrap_err().to_string().ends_with("did you mean `groups`?"));
    /// # Ok::<(), epsilon::recipe::RecipeError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Recipe::read`], missing files apart.
    pub fn parse(path: &Path, text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(|e| RecipeError::Form {
            path: path.into(),
            reason: with_nearest(e.to_string().trim_end()),
        })?;
        recipe.check(path)?;
        Ok(recipe)
    }

    /// Whether every value is in its range; `path` is for messages.
    pub(crate) fn check(&self, path: &Path) -> Result<(), RecipeError> {
        let form = |reason: String| RecipeError::Form {
            path: path.into(),
            reason,
        };
        self.training
            .check()
            .map_err(|reason| RecipeError::Training {
                path: path.into(),
                reason,
            })?;
        let evaluation = &self.evaluation;
        evaluation
            .protocol
            .parse::<Protocol>()
            .map_err(|e| form(format!("[evaluation] protocol: {e}")))?;
        if evaluation.k_zsl.contains(&0) || evaluation.k_gzsl.contains(&0) {
            return Err(form("[evaluation] K = 0: give at least 1".into()));
        }
        if evaluation.bootstrap == 1 || evaluation.bootstrap > MOST_RESAMPLES {
            return Err(form(format!(
                "[evaluation] bootstrap = {}: give 2 to {MOST_RESAMPLES}, or 0 for none",
                evaluation.bootstrap
            )));
        }
        if let Some(reason) = evaluation.wrong_folds(&self.data.source) {
            return Err(form(format!("[evaluation] {reason}")));
        }
        if self.method.vocabulary() == Vocabulary::Seen && self.training.figure() != Choose::Seen {
            let (figure, kind) = (self.training.figure(), self.method.name());
            return Err(form(format!(
                "[training] choose = \"{figure}\": `{kind}` scores only the labels it is trained on: give choose = \"seen\""
            )));
        }
        if self.features.batch == Some(0) {
            return Err(form("[features] batch = 0: give at least 1".into()));
        }
        if self.backbone.is_none() && self.features.store.is_none() {
            let needed = "[backbone] is missing: name its weights, or finished tokens as `store` in [features]";
            return Err(form(needed.into()));
        }
        if matches!(self.method.fitting(), Fitting::Given) {
            let (kind, reason) = (self.method.name(), MethodError::NotTrained);
            return Err(form(format!("[method] kind = \"{kind}\": {reason}")));
        }
        self.check_anchor().map_err(form)?;
        let variation = self.training.variation();
        if let (false, Fitting::Gradient(method)) = (variation.is_none(), self.method.fitting()) {
            let checked = Varied::new(method, variation);
            checked.map_err(|error| form(format!("[training] {error}")))?;
        }
        if self.seeds.is_empty() {
            return Err(form("seeds is empty: give at least one".into()));
        }
        let mut seeds = HashSet::new();
        if let Some(twice) = self.seeds.iter().find(|seed| !seeds.insert(*seed)) {
            return Err(form(format!(
                "seeds: {twice} is there twice: give each once"
            )));
        }
        Ok(())
    }

    /// Whether there can be such an anchor with this method.
    fn check_anchor(&self) -> Result<(), String> {
        let Some(anchor) = &self.anchor else {
            return Ok(());
        };
        let setting = |error: MethodError| format!("[anchor] {error}");
        anchor.check().map_err(setting)?;
        if self.backbone.is_none() {
            return Err("[anchor] needs [backbone], whose weights hold the classifier".into());
        }
        let along = match self.method.fitting() {
            Fitting::Gradient(method) => method.ranks_its_scores(),
            Fitting::Staged(_) | Fitting::Solved(_) | Fitting::Given => false,
        };
        if anchor.trained && !along {
            let kind = self.method.name();
            return Err(format!(
                "[anchor] trained = true: the loss of `{kind}` does not rank its scores, so nothing can be trained along with \
                 them; give `weight` alone"
            ));
        }
        Ok(())
    }

    /// The recipe as TOML, every default written out.
    ///
    /// # Errors
    /// [`RecipeError::Form`] for a value that TOML cannot hold, such as an integer above `i64::MAX`.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        toml::to_string(self).map_err(|e| RecipeError::Form {
            path: "recipe".into(),
            reason: e.to_string(),
        })
    }

    fn paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut paths = self.data.source.paths();
        paths.push(("data.vectors", &mut self.data.vectors));
        let names = self.data.vector_names.iter_mut();
        paths.extend(names.map(|path| ("data.vector-names", path)));
        if let Some(anchor) = &mut self.anchor {
            let classes = anchor.classes.iter_mut();
            paths.extend(classes.map(|path| ("anchor.classes", path)));
            let vectors = anchor.vectors.iter_mut();
            paths.extend(vectors.map(|path| ("anchor.vectors", path)));
            let names = anchor.vector_names.iter_mut();
            paths.extend(names.map(|path| ("anchor.vector-names", path)));
        }
        let backbone = self.backbone.iter_mut();
        paths.extend(backbone.map(|b| ("backbone.weights", &mut b.weights)));
        let store = self.features.store.iter_mut();
        paths.extend(store.map(|path| ("features.store", path)));
        paths
    }

    fn check_files(&mut self, path: &Path) -> Result<(), RecipeError> {
        // With a finished token store the images are not needed.
        let needed = self.features.store.is_none();
        let missing = self.paths().into_iter().find(|(key, place)| {
            !backbone::is_hub_id(place) && !place.exists() && (needed || !key.ends_with("images"))
        });
        match missing {
            Some((key, named)) => Err(RecipeError::Missing {
                path: path.into(),
                key,
                named: named.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The options that tokens are extracted with.
    pub fn extract_options(&self) -> ExtractOptions {
        ExtractOptions {
            batch: self.features.batch,
            dtype: self.features.dtype,
            limits: self.limits(),
            ..ExtractOptions::default()
        }
    }

    /// The largest photographs that are read.
    pub fn limits(&self) -> Limits {
        let most = self.features.max_megapixels;
        most.map_or_else(Limits::default, Limits::megapixels)
    }
}

/// Adds the nearest known key to a message about an unknown one.
pub(crate) fn with_nearest(message: &str) -> String {
    let mut quoted = message
        .split("unknown field")
        .nth(1)
        .into_iter()
        .flat_map(|m| m.split('`'))
        .skip(1)
        .step_by(2);
    // No key is nearly as long as this, and a distance takes the product of both lengths.
    let Some(unknown) = quoted.next().filter(|unknown| unknown.len() <= 100) else {
        return message.into();
    };
    let nearest = quoted
        .map(|known| (strsim::osa_distance(unknown, known), known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 2)
        .min();
    match nearest {
        Some((_, known)) => format!("{message}\ndid you mean `{known}`?"),
        None => message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        seeds = [1, 2]
        [data]
        table = "labels.tsv"
        images = "."
        seen = "seen.txt"
        unseen = "unseen.txt"
        vectors = "glove.txt"
        [backbone]
        weights = "vit.safetensors"
        [method]
        kind = "epsilon"
        groups = 4
        [training]
        epochs = 3
        schedule = { kind = "cosine", floor = 0.1 }
    "#;

    fn parse(text: &str) -> Result<Recipe, String> {
        Recipe::parse(Path::new("test.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_papers() {
        let recipe = parse(TEXT).unwrap();
        assert_eq!(recipe.training.batch, 96);
        assert_eq!(recipe.training.epochs, 3);
        let Kind::Epsilon(epsilon) = recipe.method else {
            panic!("epsilon")
        };
        assert_eq!((epsilon.groups, epsilon.depth, epsilon.lambda), (4, 1, 0.3));
    }

    #[test]
    fn what_cannot_be_counted_or_is_there_twice() {
        for (from, to, said) in [
            (
                "epochs = 3",
                "epochs = 10000000000",
                "epochs = 10000000000: give 1 to 1000000",
            ),
            ("seeds = [1, 2]", "seeds = [1, 2, 1]", "1 is there twice"),
            (
                "[training]",
                "[evaluation]\nbootstrap = 1\n[training]",
                "bootstrap = 1: give 2",
            ),
            (
                "[training]",
                "[evaluation]\nbootstrap = 100001\n[training]",
                "or 0 for none",
            ),
        ] {
            let error = parse(&TEXT.replace(from, to)).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_backbones_precision() {
        assert_eq!(
            parse(TEXT).unwrap().backbone.unwrap().precision,
            Precision::F32
        );
        let with = |value: &str| {
            parse(&TEXT.replace(
                "[backbone]",
                &format!("[backbone]\nprecision = \"{value}\""),
            ))
        };
        assert_eq!(
            with("int8").unwrap().backbone.unwrap().precision,
            Precision::Int8
        );
        assert_eq!(
            with("bf16").unwrap().backbone.unwrap().options().precision,
            Precision::Bf16
        );
        let error = with("fp16").unwrap_err();
        assert!(error.contains("fp16") && error.contains("int8"), "{error}");
    }

    #[test]
    fn mistyped_keys_name_the_nearest() {
        let error = parse(&TEXT.replace("groups", "gruops")).unwrap_err();
        assert!(
            error.contains("gruops") && error.contains("did you mean `groups`?"),
            "{error}"
        );
        let error = parse(&TEXT.replace("epochs", "epoch")).unwrap_err();
        assert!(error.contains("did you mean `epochs`?"), "{error}");
        let error = parse(&TEXT.replace("[backbone]", "[backbome]")).unwrap_err();
        assert!(error.contains("backbome"), "{error}");
    }

    #[test]
    fn every_kind_of_data_is_read_and_written_back() {
        let data = |keys: &str| {
            let start = TEXT.find("table = ").unwrap();
            let end = TEXT.find("vectors = ").unwrap();
            let text = format!("{}{keys}\n{}", &TEXT[..start], &TEXT[end..]);
            let recipe = parse(&text)?;
            let written = toml::to_string(&recipe).unwrap();
            assert_eq!(parse(&written).unwrap(), recipe, "{written}");
            let json = serde_json::to_value(&recipe).unwrap();
            assert_eq!(serde_json::from_value::<Recipe>(json).unwrap(), recipe);
            Ok::<_, String>(recipe.data)
        };
        let table = "table = \"t.tsv\"\nimages = \".\"\nseen = \"s\"\nunseen = \"u\"";
        assert_eq!(data(table), data(&format!("kind = \"table\"\n{table}")));
        let kinds = [
            "kind = \"nus-wide\"\nfolder = \"n\"\nimages = \"i\"",
            "kind = \"open-images\"\ntrain = [\"a.csv\"]\ntest = [\"b.csv\"]\nimages = \"i\"\n\
             descriptions = \"d\"\nseen = \"s\"\nunseen = \"u\"\nunseen-classes = \"c\"\nunknown-ids = \"refuse\"",
            "kind = \"coco\"\ntrain = \"a\"\ntest = \"b\"\ntrain-images = \"c\"\ntest-images = \"d\"\nsplit = \"65/15\"",
            "kind = \"coco\"\ntrain = \"a\"\ntest = \"b\"\ntrain-images = \"c\"\ntest-images = \"d\"\n\
             split = { seen = \"s\", unseen = \"u\" }\ntraining-images = \"without-unseen\"",
            "kind = \"voc\"\nfolder = \"v\"\nseen = \"s\"\nunseen = \"u\"\ndifficult = \"negative\"",
        ];
        for keys in kinds {
            let mut settings = data(keys).unwrap();
            assert!(!settings.source.paths().is_empty(), "{keys}");
            let error = data(&format!("{keys}\nimagse = \"x\"")).unwrap_err();
            assert!(
                error.contains("imagse") && error.contains("unknown field"),
                "{error}"
            );
        }
        let error = data("kind = \"nuswide\"").unwrap_err();
        assert!(
            error.contains("nuswide") && error.contains("`nus-wide`"),
            "{error}"
        );
        let error = data("kind = \"nus-wide\"\nfolder = \"n\"").unwrap_err();
        assert!(error.contains("missing field `images`"), "{error}");
        let error = parse(&TEXT.replace("vectors = ", "vectros = ")).unwrap_err();
        assert!(error.contains("did you mean `vectors`?"), "{error}");
    }

    #[test]
    fn what_varies_in_training_needs_a_method_by_label_vectors() {
        let with = |keys: &str, kind: &str| {
            let text = TEXT.replace(
                "kind = \"epsilon\"\n        groups = 4",
                &format!("kind = \"{kind}\""),
            );
            parse(&text.replace("epochs = 3", &format!("epochs = 3\n{keys}")))
        };
        let recipe = with(
            "label-dropout = 0.3\nlabel-noise = 0.1\nimage-ranking = 0.5",
            "epsilon",
        )
        .unwrap();
        let written = toml::to_string(&recipe).unwrap();
        assert_eq!(parse(&written).unwrap(), recipe, "{written}");
        let error = with("label-dropout = 1.0", "epsilon").unwrap_err();
        assert!(
            error.contains("[training]") && error.contains("label-dropout = 1"),
            "{error}"
        );
        let error = with("image-ranking = 0.5", "logistic").unwrap_err();
        assert!(error.contains("image-ranking"), "{error}");
    }

    #[test]
    fn an_anchor_is_checked_with_the_method_and_the_backbone() {
        let with = |keys: &str| parse(&format!("{TEXT}\n[anchor]\n{keys}"));
        let recipe = with("trained = true\nvectors = \"glove.50d.txt\"").unwrap();
        let written = toml::to_string(&recipe).unwrap();
        assert_eq!(parse(&written).unwrap(), recipe, "{written}");
        assert_eq!(recipe.anchor.unwrap().weight, 0.5);
        let error = with("weigth = 1.0").unwrap_err();
        assert!(error.contains("did you mean `weight`?"), "{error}");
        let error = with("temperature = 0.0").unwrap_err();
        assert!(
            error.contains("[anchor]") && error.contains("temperature = 0"),
            "{error}"
        );
        for kind in ["ridge", "conse", "cnn-rnn"] {
            let text = TEXT.replace(
                "kind = \"epsilon\"\n        groups = 4",
                &format!("kind = \"{kind}\""),
            );
            let error = parse(&format!("{text}\n[anchor]\ntrained = true")).unwrap_err();
            assert!(
                error.contains(kind) && error.contains("trained = true"),
                "{error}"
            );
            assert!(parse(&format!("{text}\n[anchor]\nweight = 1.0")).is_ok());
        }
        let text = TEXT.replace(
            "[backbone]\n        weights = \"vit.safetensors\"",
            "[features]\nstore = \"tokens\"",
        );
        let error = parse(&format!("{text}\n[anchor]")).unwrap_err();
        assert!(error.contains("[backbone]"), "{error}");
    }

    #[test]
    fn vectors_are_a_file_a_folder_or_an_id_on_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "labels.tsv",
            "seen.txt",
            "unseen.txt",
            "glove.txt",
            "vit.safetensors",
        ] {
            std::fs::write(at(name), "").unwrap();
        }
        std::fs::create_dir(at("clip")).unwrap();
        let read = |vectors: &str| {
            let text = TEXT.replace("glove.txt", vectors);
            Recipe::resolve(&at("recipe.toml"), &text).map_err(|error| error.to_string())
        };
        for name in ["glove.txt", "clip"] {
            assert_eq!(read(name).unwrap().data.vectors, at(name));
        }
        let hub = read("hf:owner/name").unwrap();
        assert_eq!(hub.data.vectors, Path::new("hf:owner/name"));
        assert_eq!(hub.data.vector_file().path, Path::new("hf:owner/name"));
        let error = read("clop").unwrap_err();
        assert!(
            error.contains("data.vectors") && error.contains("clop"),
            "{error}"
        );
    }

    #[test]
    fn tokens_that_are_there_need_no_backbone() {
        let without = TEXT
            .replace("[backbone]", "")
            .replace("weights = \"vit.safetensors\"", "");
        assert!(
            parse(&without)
                .unwrap_err()
                .contains("[backbone] is missing")
        );
        let recipe = parse(&format!("{without}\n[features]\nstore = \"tokens\"")).unwrap();
        assert_eq!(
            (recipe.backbone, recipe.features.store),
            (None, Some("tokens".into()))
        );
    }

    #[test]
    fn the_recipes_of_the_project_parse() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes"));
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // The comparisons have a test of their own.
            if path.is_dir() {
                continue;
            }
            Recipe::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
            count += 1;
        }
        assert!(count >= 4);
    }

    #[test]
    fn bad_values_are_refused_before_anything_runs() {
        let error = parse(&TEXT.replace("epochs = 3", "epochs = 0")).unwrap_err();
        assert!(error.contains("epochs = 0"), "{error}");
        let error = parse(&format!("{TEXT}\n[evaluation]\nprotocol = \"sdll\"")).unwrap_err();
        assert!(error.contains("sdll"), "{error}");
        for (keys, said) in [
            ("label-folds = 1", "at least 2"),
            ("label-fold = 1", "label-folds, too"),
            ("label-folds = 3\nlabel-fold = 4", "give 1 to 3"),
        ] {
            let error = parse(&format!("{TEXT}\n[evaluation]\n{keys}")).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let classifier = TEXT.replace("\"epsilon\"\n        groups = 4", "\"logistic\"");
        let keys = "epochs = 3\nvalidation = 0.1\nvalidation-labels = 0.2";
        let with = |keys: &str| parse(&classifier.replace("epochs = 3", keys));
        let error = with(keys).unwrap_err();
        assert!(error.contains("choose = \"seen\""), "{error}");
        assert!(with(&format!("{keys}\nchoose = \"seen\"")).is_ok());
        assert!(
            parse(&TEXT.replace("[1, 2]", "[]"))
                .unwrap_err()
                .contains("seeds")
        );
    }
}
