//! A model that ranks labels for photographs: the model file, its backbone and the vectors of words, found and checked; or a network
//! that ranks labels without any training.

mod bundle;
mod photo;
mod sentences;
mod source;
mod untrained;
mod words;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use rayon::prelude::*;

use crate::classes::ClassesError;
use crate::device::DeviceError;
use crate::explain::{heat, overlay};
use crate::methods::LabelMap;
use crate::model::{Model, ModelError, Ranker, Ranking};
use epsilon_data::labels::{LabelError, LabelVectors, VectorFile, composed, short};
use epsilon_vision::backbone::{
    self, Backbone, BackboneError, Download, Engine, Features, Options, is_hub_id,
};
use epsilon_vision::image::{self, Flaw, ImageError, Limits, Pixels, RgbImage};
use epsilon_vision::tokens::usual_batch;

use untrained::Untrained;

pub use bundle::{BundleOptions, BundlePart, Bundled, is_bundle};
pub use photo::Photo;
pub(crate) use source::index_of_words;
pub use source::resolve_words;
pub use words::WordVectors;

/// Rows and columns of the grid that an occlusion map stands on.
const PLACES: usize = 7;
/// Rows and columns of the grid that are covered at once.
const WINDOW: usize = 3;

/// What can go wrong with a prediction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// The model file cannot be read, or what it is used with does not fit it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device is not known in this build.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model's backbone cannot be found or loaded.
    #[error("the model's backbone: {0}")]
    Backbone(BackboneError),
    /// The network that was named in place of a model cannot be found or loaded.
    #[error(transparent)]
    Network(BackboneError),
    /// The network whose text tower makes the words' vectors cannot be found or loaded, or its tokenizer cannot take a word.
    #[error("the words' text tower: {0}")]
    TextTower(BackboneError),
    /// A network without a text tower, where one is to make vectors of words.
    #[error(
        "{}: no text tower there: vectors of words come from the text tower of a network such as CLIP or SigLIP, or from a file of \
         word vectors, such as GloVe's", path.display()
    )]
    NoTextTower {
        /// The network.
        path: PathBuf,
    },
    /// The backbone failed on a photograph.
    #[error(transparent)]
    Forward(BackboneError),
    /// Words without a vector, or words given twice.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// A word that the model has no vector of, and no file to look it up in.
    #[error(
        "{:?} is none of the model's labels, and no file of word vectors is known",
        short(word)
    )]
    NoVectorFile {
        /// The word.
        word: String,
    },
    /// A word that a bundle of a network with a text tower has no vector of.
    #[error(
        "{}: holds vectors of {held} words, and {:?} is none of them: the text tower is not part of a bundle; bundle again \
         with the words that are needed, or give the network with the tower as word vectors", path.display(), short(word)
    )]
    NotListed {
        /// The bundle.
        path: PathBuf,
        /// The word.
        word: String,
        /// Words that it holds.
        held: usize,
    },
    /// A bundle that cannot be made, or one of another version.
    #[error("{}: {reason}", path.display())]
    Bundle {
        /// The bundle.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A classifier in place of a model, without vectors of words.
    #[error(
        "{}: a classifier without a text tower: it ranks words by a file of word vectors, such as GloVe's, and none was given",
        path.display()
    )]
    NeedsVectors {
        /// The weights.
        path: PathBuf,
    },
    /// A classifier whose classes have no names.
    #[error(
        "{}: a classifier of {count} classes, whose names are not known: give a list of them, a line for each class in the \
         order of its head, with its names between commas", path.display()
    )]
    NeedsClasses {
        /// The weights.
        path: PathBuf,
        /// Classes of the network.
        count: usize,
    },
    /// A list of the names of classes that cannot be used.
    #[error(transparent)]
    Classes(ClassesError),
    /// A file of word vectors that lacks most of the words that a model without training needs.
    #[error(
        "{}: holds vectors of {found} of the {needed} words that a model without training needs at least: give a file of more \
         words", path.display()
    )]
    FewWords {
        /// The vector file.
        path: PathBuf,
        /// Words that were found.
        found: usize,
        /// Words that are needed.
        needed: usize,
    },
    /// A file of word vectors that lacks too many of a classifier's classes.
    #[error(
        "{}: holds vectors of the names of {found} of the network's {needed} classes, and four in five are needed: give a file of \
         more words, or the right names of the classes", path.display()
    )]
    FewClasses {
        /// The vector file.
        path: PathBuf,
        /// Classes with a vector.
        found: usize,
        /// All classes.
        needed: usize,
    },
    /// The photograph cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Features of another size than the model's.
    #[error(
        "features of {tokens} token values and {global} global ones; the model's backbone makes {expected:?} an image"
    )]
    Features {
        /// Values in the tokens given.
        tokens: usize,
        /// Values in the global vector given.
        global: usize,
        /// Values that the model takes, of both.
        expected: [usize; 2],
    },
    /// A label that is not in the list it was looked for in.
    #[error("{label:?} is not among the labels that are ranked")]
    NotRanked {
        /// The label.
        label: String,
    },
    /// The model's method has no heat maps.
    #[error("the method `{method}` looks at the image as a whole: it has no map of a label")]
    NoMap {
        /// The method.
        method: &'static str,
    },
    /// It was not wanted any more, see [`Predictor::explain_while`].
    #[error("stopped before it was done")]
    Stopped,
}

/// Settings of a [`Predictor`] other than its model.
///
/// ```no_run
/// use epsilon::Predictor;
/// use epsilon::image::Limits;
///
/// let predictor = Predictor::options("model.safetensors")
///     .backbone("weights/dinov2")
///     .vectors("glove.6B.300d.txt".as_ref())
///     .limits(Limits { max_pixels: 20_000_000, ..Limits::default() })
///     .load()?;
/// # Ok::<(), epsilon::PredictError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PredictorOptions {
    model: PathBuf,
    backbone: Option<PathBuf>,
    vectors: Option<VectorFile>,
    classes: Option<PathBuf>,
    labels: Option<Vec<String>>,
    device: Device,
    engine: Engine,
    progress: bool,
    allow_download: bool,
    limits: Limits,
}

impl PredictorOptions {
    /// The backbone's weights, a file, a folder or `hf:OWNER/NAME`, where they are not at the place that the model names.
    #[must_use]
    pub fn backbone(mut self, weights: impl Into<PathBuf>) -> Self {
        self.backbone = Some(weights.into());
        self
    }

    /// A file of word vectors, or a network whose text tower makes them (a file, a folder or `hf:OWNER/NAME`), in place of the
    /// model's; it has to be of the kind that the model was trained with.
    #[must_use]
    pub fn vectors(mut self, file: impl Into<VectorFile>) -> Self {
        self.vectors = Some(file.into());
        self
    }

    /// The names of a classifier's classes, where weights take the place of a model: a line for each class in the order of its head,
    /// its names between commas [default: ImageNet's 1,000].
    #[must_use]
    pub fn classes(mut self, file: impl Into<PathBuf>) -> Self {
        self.classes = Some(file.into());
        self
    }

    /// The words that will be ranked, where they are known beforehand: they are the own labels of a model without training that
    /// needs no others, so that a text tower makes vectors of these alone.
    #[must_use]
    pub fn labels(mut self, words: Vec<String>) -> Self {
        self.labels = Some(words);
        self
    }

    /// Where to compute, see [`crate::device::device`] [default: the CPU].
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// What runs the backbone [default: this program's own engine, on the [`device`](Self::device)].
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Whether a download of the backbone shows a bar on stderr [default: no].
    #[must_use]
    pub fn progress(mut self, shown: bool) -> Self {
        self.progress = shown;
        self
    }

    /// Whether the hub may be asked for a backbone, and for a network whose text tower makes the words' vectors, that the model file
    /// names and its cache lacks [default: no, for the file may come from anybody]. What [`PredictorOptions::backbone`] and
    /// [`PredictorOptions::vectors`] name is asked for in any case.
    #[must_use]
    pub fn allow_download(mut self, allowed: bool) -> Self {
        self.allow_download = allowed;
        self
    }

    /// The largest files and pictures that are decoded.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Loads the model and its backbone, or the network that takes the place of both.
    ///
    /// # Errors
    /// [`PredictError::Model`] for a damaged model file and for a backbone that is not the model's,
    /// [`PredictError::Backbone`] for one that cannot be loaded.
    pub fn load(self) -> Result<Predictor, PredictError> {
        if self.is_untrained()? {
            let Untrained {
                model,
                words,
                backbone,
                weights,
            } = Untrained::load(&self, Download::shown(self.progress))?;
            return Ok(Predictor {
                words,
                model,
                backbone,
                weights,
                network: true,
                options: self,
            });
        }
        let (model, words) = self.trained(Download::shown(self.progress))?;
        let card = model.card();
        let weights = self.backbone.as_deref();
        let weights = match weights {
            None if is_bundle(&self.model)? => Ok(self.model.clone()),
            _ => {
                let download = match weights {
                    Some(_) => Download::shown(self.progress),
                    None => self.download_of_files(),
                };
                backbone::locate(weights.unwrap_or(card.backbone_weights()), download)
            }
        };
        let weights = weights.map_err(PredictError::Backbone)?;
        let options = Options {
            engine: self.engine,
            ..card.backbone().options()
        };
        let backbone = crate::tensor_vit::load_on(&weights, &options, &self.device);
        // Nobody can name another place for a bundle's own.
        let backbone = backbone.map_err(match weights == self.model {
            true => PredictError::Network,
            false => PredictError::Backbone,
        })?;
        model.check_backbone(backbone.info())?;
        Ok(Predictor {
            words,
            model,
            backbone,
            weights,
            network: false,
            options: self,
        })
    }

    /// Whether the hub may be asked for what a file names.
    fn download_of_files(&self) -> Download {
        match self.allow_download {
            true => Download::shown(self.progress),
            false => Download::Refused,
        }
    }

    /// The model of a file, a bundle or not, and the vectors of words. `given` says whether the hub may be asked for a network that
    /// is given for them.
    fn trained(&self, given: Download) -> Result<(Model, WordVectors), PredictError> {
        let model = Model::load(&self.model, &self.device)?;
        if let Some(file) = &self.vectors {
            let words = WordVectors::new(&model, Some(file.clone()), given);
            return Ok((model, words));
        }
        if let Some(words) = bundle::words(&model, &self.model)? {
            return Ok((model, words));
        }
        let card = model.card();
        let own = card.vector_file();
        let words = match (&self.backbone, own) {
            // The text tower is where the model's own network is.
            (Some(network), Some(own)) if own.path == card.backbone_weights() => {
                WordVectors::of_file(&model, network.as_path().into(), given)
            }
            _ => WordVectors::new(&model, None, self.download_of_files()),
        };
        Ok((model, words))
    }

    /// Loads the model without its backbone, which only photographs need, and the vectors of words. The hub is not asked, unless
    /// [allowed](Self::allow_download): a library, which may come from anybody, names the model and the words' vectors. It is never
    /// asked for a network in place of a model.
    ///
    /// # Errors
    /// As [`PredictorOptions::load`].
    pub fn load_words(self) -> Result<(Model, WordVectors), PredictError> {
        if self.is_untrained()? {
            let Untrained { model, words, .. } = Untrained::load(&self, Download::Refused)?;
            return Ok((model, words));
        }
        self.trained(self.download_of_files())
    }

    /// Whether a network without training takes the place of a model.
    fn is_untrained(&self) -> Result<bool, PredictError> {
        Ok(is_hub_id(&self.model) || !Model::is_at(&self.model)?)
    }
}

/// Ranks labels for photographs.
///
/// ```
/// # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
/// # use drawn::*;
/// # let folder = drawn_model("ridge")?;
/// # let (model, photo) = (folder.path().join("model.safetensors"), folder.path().join("data/test/000000.png"));
/// let predictor = epsilon::Predictor::load(model)?;
/// // "striped circle" is a label that the model was not trained on.
/// let labels = predictor.labels(["plain circle", "striped circle", "dotted star"])?;
/// let ranking = predictor.rank(&photo, &labels)?;
/// assert_eq!(ranking.len(), 3);
/// assert!(ranking[0].score >= ranking[1].score);
/// let circle = ranking.iter().find(|label| label.name == "striped circle");
/// assert_eq!(circle.map(|label| label.seen), Some(false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Predictor {
    model: Model,
    backbone: Box<dyn Backbone>,
    words: WordVectors,
    /// Where the backbone's weights were found.
    weights: PathBuf,
    /// Whether these took the place of a model file.
    network: bool,
    options: PredictorOptions,
}

impl Predictor {
    /// Loads a model and its backbone, with the settings that the model names, on the CPU. In place of a model it takes the weights
    /// of a network that ranks labels without training: a file, a folder or `hf:OWNER/NAME` of an image and a text tower (CLIP,
    /// SigLIP), or of a classifier with [word vectors](PredictorOptions::vectors).
    ///
    /// # Errors
    /// As [`PredictorOptions::load`].
    pub fn load(model: impl Into<PathBuf>) -> Result<Self, PredictError> {
        Self::options(model).load()
    }

    /// Settings to choose before loading.
    pub fn options(model: impl Into<PathBuf>) -> PredictorOptions {
        PredictorOptions {
            model: model.into(),
            backbone: None,
            vectors: None,
            classes: None,
            labels: None,
            device: Device::flex(),
            engine: Engine::Own,
            progress: false,
            allow_download: false,
            limits: Limits::default(),
        }
    }

    /// The model's file, or the weights that take its place: a file, a folder or `hf:OWNER/NAME`.
    pub fn path(&self) -> &Path {
        &self.options.model
    }

    /// The words' vectors that were given beside the model.
    pub fn vectors(&self) -> Option<&VectorFile> {
        self.options.vectors.as_ref()
    }

    /// The classes' names that were given beside the model.
    pub fn classes(&self) -> Option<&Path> {
        self.options.classes.as_deref()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether it was trained: otherwise none of its labels is a seen one.
    pub fn is_trained(&self) -> bool {
        !self.model.card().seen_labels().is_empty()
    }

    /// Whether a network's weights took the place of a model file.
    pub fn is_network(&self) -> bool {
        self.network
    }

    /// Its backbone.
    pub fn backbone(&self) -> &dyn Backbone {
        &*self.backbone
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.options.device
    }

    /// The largest files and pictures that it decodes.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// A list of words to rank: labels of the model, or any that its file of word vectors knows or its text tower reads. Ready
    /// once, it serves for any number of photographs.
    ///
    /// # Errors
    /// As [`WordVectors::find`]; [`PredictError::Model`] for words that a method with a closed list of labels cannot score.
    pub fn labels<I>(&self, words: I) -> Result<Ranker, PredictError>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        self.ranker(self.words.find(&words)?)
    }

    /// The labels that the model ranks where nobody asks for others, as [`Model::own_labels`].
    ///
    /// # Errors
    /// None that a model file which was read can cause.
    pub fn own_labels(&self) -> Result<Ranker, PredictError> {
        self.ranker(self.model.own_labels())
    }

    /// A list of labels whose vectors are at hand.
    ///
    /// # Errors
    /// As [`Model::scorer`].
    pub fn ranker(&self, labels: LabelVectors) -> Result<Ranker, PredictError> {
        Ok(Ranker::new(&self.model, labels, &self.options.device)?)
    }

    /// The vectors of words.
    pub fn words(&self) -> &WordVectors {
        &self.words
    }

    /// All labels for a photograph, best first.
    ///
    /// # Errors
    /// [`PredictError::Image`] for one that cannot be read, [`PredictError::Features`] for features of another size.
    pub fn rank<'p>(
        &self,
        photo: impl Into<Photo<'p>>,
        labels: &Ranker,
    ) -> Result<Ranking, PredictError> {
        let input = self.input(photo.into())?;
        let flaw = input.flaw();
        let Features { tokens, global } = self.features_of(input)?.into_owned();
        let mut ranking = labels.rank(1, tokens, global).remove(0);
        ranking.flaw = flaw;
        Ok(ranking)
    }

    /// As [`Predictor::rank`], of many photographs, which are decoded on all threads and go through the backbone and the model
    /// several at a time. A photograph that cannot be read costs the others nothing; [`Ranking::flaw`] says what was wrong with
    /// one that could. A ranking does not depend on the other photographs.
    ///
    /// ```
    /// # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
    /// # let folder = drawn::drawn_model("epsilon")?;
    /// # let model = folder.path().join("model.safetensors");
    /// # let photos: Vec<_> = (0..8).map(|at| folder.path().join(format!("data/test/00000{at}.png"))).collect();
    /// let predictor = epsilon::Predictor::load(model)?;
    /// let labels = predictor.own_labels()?;
    /// for (photo, ranking) in photos.iter().zip(predictor.rank_all(&photos, &labels)?) {
    ///     assert_eq!(ranking?, predictor.rank(photo, &labels)?); // to the last bit
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What is wrong with all of them: the backbone fails, or features of another size were given.
    pub fn rank_all<'p, P: Into<Photo<'p>>>(
        &self,
        photos: impl IntoIterator<Item = P>,
        labels: &Ranker,
    ) -> Result<Vec<Result<Ranking, ImageError>>, PredictError> {
        let photos: Vec<Photo<'p>> = photos.into_iter().map(Into::into).collect();
        let mut all = Vec::with_capacity(photos.len());
        if photos.is_empty() {
            return Ok(all);
        }
        for part in photos.chunks(usual_batch(&*self.backbone)) {
            all.extend(self.rank_batch(part, labels)?);
        }
        Ok(all)
    }

    fn rank_batch(
        &self,
        photos: &[Photo<'_>],
        labels: &Ranker,
    ) -> Result<Vec<Result<Ranking, ImageError>>, PredictError> {
        let inputs: Vec<Result<Input<'_>, ImageError>> =
            photos.par_iter().map(|photo| self.input(*photo)).collect();
        let pixels = inputs.iter().flatten().filter_map(|input| match input {
            Input::Pixels(pixels) => Some(&pixels.values[..]),
            Input::Features(_) => None,
        });
        let pixels: Vec<&[f32]> = pixels.collect();
        let made = self.forward(&pixels.concat(), pixels.len())?;
        let [tokens, global] = self.sizes();
        let mut made = made.tokens.chunks(tokens).zip(made.global.chunks(global));
        let (mut batch, mut count) = (Features::default(), 0);
        for input in inputs.iter().flatten() {
            let one = match input {
                Input::Pixels(_) => made.next(),
                Input::Features(features) => {
                    self.check_sizes(features)?;
                    Some((&features.tokens[..], &features.global[..]))
                }
            };
            if let Some((tokens, global)) = one {
                batch.tokens.extend(tokens);
                batch.global.extend(global);
                count += 1;
            }
        }
        let rankings = labels.rank(count, batch.tokens, batch.global);
        let mut rankings = rankings.into_iter();
        let ranked = inputs.into_iter().filter_map(|input| {
            let ranking = input.map(|input| {
                let mut ranking = rankings.next()?;
                ranking.flaw = input.flaw();
                Some(ranking)
            });
            ranking.transpose()
        });
        Ok(ranked.collect())
    }

    /// What the backbone makes of a photograph: tokens `[N, D]` and one global vector.
    ///
    /// # Errors
    /// As [`Predictor::rank`].
    pub fn features<'p>(
        &self,
        photo: impl Into<Photo<'p>>,
    ) -> Result<Cow<'p, Features>, PredictError> {
        self.features_of(self.input(photo.into())?)
    }

    fn features_of<'p>(&self, input: Input<'p>) -> Result<Cow<'p, Features>, PredictError> {
        match input {
            Input::Pixels(pixels) => Ok(Cow::Owned(self.forward(&pixels.values, 1)?)),
            Input::Features(features) => {
                self.check_sizes(features)?;
                Ok(Cow::Borrowed(features))
            }
        }
    }

    /// Heat maps of a label for a photograph: the shares of the places of the token grid in the label's score.
    /// [`Predictor::draw`] lays one over the picture.
    ///
    /// ```
    /// # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
    /// # use drawn::*;
    /// # let folder = drawn_model("epsilon")?;
    /// # let (model, photo) = (folder.path().join("model.safetensors"), folder.path().join("data/test/000000.png"));
    /// let predictor = epsilon::Predictor::load(model)?;
    /// let labels = predictor.labels(["striped circle"])?;
    /// let picture = epsilon::image::open(&photo, predictor.limits())?;
    /// let maps = predictor.explain(&picture, &labels, "striped circle")?;
    /// let sum: f32 = maps[0].values.iter().sum();
    /// assert!((sum - 1.0).abs() < 1e-5);
    /// assert_eq!(predictor.draw(&picture, &maps[0]).dimensions(), picture.dimensions());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Predictor::rank`]; [`PredictError::NotRanked`], [`PredictError::NoMap`].
    pub fn explain<'p>(
        &self,
        photo: impl Into<Photo<'p>>,
        labels: &Ranker,
        label: &str,
    ) -> Result<Vec<LabelMap>, PredictError> {
        self.explain_while(photo, labels, label, &|| true)
    }

    /// As [`Predictor::explain`], as long as `wanted` says so. It is asked time and again where maps take many passes through the
    /// network, as those of a network without training do.
    ///
    /// # Errors
    /// As [`Predictor::explain`]; [`PredictError::Stopped`] once they are not wanted.
    pub fn explain_while<'p>(
        &self,
        photo: impl Into<Photo<'p>>,
        labels: &Ranker,
        label: &str,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<LabelMap>, PredictError> {
        let names = labels.labels().names();
        let label = &*composed(label);
        let place = names.iter().position(|name| composed(name) == label);
        let place = place.ok_or_else(|| PredictError::NotRanked {
            label: label.into(),
        })?;
        let input = self.input(photo.into())?;
        let pixels = match &input {
            Input::Pixels(pixels) if !self.is_trained() => Some(pixels.values.clone()),
            _ => None,
        };
        let Features { tokens, global } = self.features_of(input)?.into_owned();
        let mut maps = labels.maps(tokens, global, place);
        if let (true, Some(pixels)) = (maps.is_empty(), pixels) {
            maps.extend(self.occlusion(&pixels, (labels, place), wanted)?);
        }
        if maps.is_empty() {
            let method = self.model.card().method().name();
            return Err(PredictError::NoMap { method });
        }
        Ok(maps)
    }

    /// Where a label's score falls when a part of the picture is covered (Zeiler and Fergus, "Visualizing and Understanding
    /// Convolutional Networks", 2014): a window of [`WINDOW`] by [`WINDOW`] places, grey, is moved over a grid of [`PLACES`] by
    /// [`PLACES`]. It costs a pass through the network for each place, a row of them at once. None where no part matters.
    fn occlusion(
        &self,
        pixels: &[f32],
        (labels, place): (&Ranker, usize),
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<LabelMap>, PredictError> {
        let size = self.backbone.info().preprocess.size as usize;
        let span = |at: usize| {
            let from = (at + 1).saturating_sub(WINDOW.div_ceil(2));
            let to = (at + 1 + WINDOW / 2).min(PLACES);
            from * size / PLACES..to * size / PLACES
        };
        let mut scores = Vec::with_capacity(PLACES * PLACES);
        for row in 0..PLACES {
            if !wanted() {
                return Err(PredictError::Stopped);
            }
            let covered = (0..PLACES).flat_map(|column| {
                let mut covered = pixels.to_vec();
                for channel in covered.chunks_exact_mut(size * size) {
                    for line in span(row) {
                        // The mean of the pixels that the network was trained on.
                        channel[line * size..][span(column)].fill(0.0);
                    }
                }
                covered
            });
            let Features { tokens, global } = self.forward(&covered.collect::<Vec<_>>(), PLACES)?;
            scores.extend(labels.scores_of(PLACES, tokens, global, place));
        }
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let falls = scores.into_iter().map(|score| highest - score);
        Ok(LabelMap::new("occlusion", None, falls.collect()))
    }

    /// The photograph with a heat map laid over it, from none over yellow to red.
    pub fn draw(&self, photo: &RgbImage, map: &LabelMap) -> RgbImage {
        let (width, height) = photo.dimensions();
        let preprocess = &self.backbone.info().preprocess;
        overlay(photo, &heat(map, preprocess, width, height))
    }

    /// A picture as the backbone takes it: `[3, size, size]`, resized and normalised.
    pub fn preprocess(&self, picture: &RgbImage) -> Vec<f32> {
        let preprocess = &self.backbone.info().preprocess;
        let mut pixels = vec![0.0; preprocess.len()];
        preprocess.apply(picture, &mut pixels);
        pixels
    }

    fn input<'p>(&self, photo: Photo<'p>) -> Result<Input<'p>, ImageError> {
        let (to, limits) = (&self.backbone.info().preprocess, &self.options.limits);
        Ok(match photo {
            Photo::File(path) => Input::Pixels(image::open_for(path, to, limits)?),
            Photo::Bytes(bytes) => {
                Input::Pixels(image::decode_for("photograph".as_ref(), bytes, to, limits)?)
            }
            Photo::Image(picture) => Input::Pixels(Pixels {
                values: self.preprocess(picture),
                flaw: None,
            }),
            Photo::Features(features) => Input::Features(features),
        })
    }

    /// What the backbone makes of `count` preprocessed photographs, side by side.
    fn forward(&self, pixels: &[f32], count: usize) -> Result<Features, PredictError> {
        let mut features = Features::default();
        if count > 0 {
            let forward = self.backbone.forward(pixels, count, &mut features);
            forward.map_err(PredictError::Forward)?;
        }
        Ok(features)
    }

    /// Values of an image's tokens and of its global vector.
    fn sizes(&self) -> [usize; 2] {
        let dims = self.model.card().dims();
        [dims.tokens * dims.width, dims.global_width()]
    }

    fn check_sizes(&self, features: &Features) -> Result<(), PredictError> {
        let expected = self.sizes();
        let (tokens, global) = (features.tokens.len(), features.global.len());
        match [tokens, global] == expected {
            true => Ok(()),
            false => Err(PredictError::Features {
                tokens,
                global,
                expected,
            }),
        }
    }
}

/// A photograph as the backbone takes it, or as it leaves it.
enum Input<'p> {
    /// Preprocessed, `[3, size, size]`.
    Pixels(Pixels),
    /// Tokens and global vector.
    Features(&'p Features),
}

impl Input<'_> {
    fn flaw(&self) -> Option<Flaw> {
        match self {
            Self::Pixels(pixels) => pixels.flaw,
            Self::Features(_) => None,
        }
    }
}
