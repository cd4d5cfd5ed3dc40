//! Arguments of all commands that rank labels for photographs: the model, its backbone and the vectors of words.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use epsilon::backbone::{
    self, BackboneError, DEFAULT_MODEL, Download, HUB_PREFIX, HubError, ModelKind, PublishedModel,
    by_name, is_hub_id, published,
};
use epsilon::finder::words_of;
use epsilon::image::Limits;
use epsilon::labels::VectorFile;
use epsilon::learning::{LearnError, Network};
use epsilon::library::Library;
use epsilon::methods::Kind;
use epsilon::model::{Model, Ranker};
use epsilon::paths::shown;
use epsilon::predictor::{PredictorOptions, WordVectors};
use epsilon::{PredictError, Predictor};

use super::EngineArgs;
use super::limits::LimitArgs;
use crate::console;

/// Which model, and where its backbone and the words' vectors are.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// The model: a file that this program trained or bundled; or a network that ranks words without training, a weight file, a
    /// folder, hf:OWNER/NAME or a name of `epsilon models` [default: the default of `epsilon models`, which is downloaded once].
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Download the default model without asking.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    vectors: VectorArgs,
    /// The backbone's weights: a file, a folder or a hub id [default: where the model's recipe found them].
    #[arg(long, value_name = "WEIGHTS")]
    backbone: Option<PathBuf>,
    /// The names of a classifier's classes, where its weights take the place of a model: a line for each class in the order of its
    /// head, its names between commas [default: ImageNet's 1,000].
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Ask the hub for a backbone, or a text tower, that the model file names and that is not in the hub's cache.
    #[arg(long)]
    allow_download: bool,
}

/// [`ModelArgs`], and where and within which limits to compute.
#[derive(Args)]
pub(super) struct TrainedArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Where to compute.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Where the vectors of words are.
#[derive(Args)]
pub(super) struct VectorArgs {
    /// The words' vectors, of the kind that the model was trained with: a file of word vectors; or a network whose text tower makes
    /// them, a weight file, a folder, hf:OWNER/NAME or a name of `epsilon models` [default: what the recipe names].
    #[arg(long, value_name = "FILE|NETWORK")]
    vectors: Option<PathBuf>,
    /// A list of the vector file's words, where it holds numbers alone; one for each of its arrays.
    #[arg(long, value_name = "FILE", requires = "vectors")]
    vector_names: Vec<PathBuf>,
}

impl VectorArgs {
    /// The file that was given.
    pub(super) fn path(&self) -> Option<&Path> {
        self.vectors.as_deref()
    }

    fn file(&self) -> Option<VectorFile> {
        self.vectors.as_ref().map(|path| VectorFile {
            path: by_name(path),
            names: self.vector_names.clone(),
        })
    }

    /// The model of a library, without its backbone, and the vectors of words.
    pub(super) fn load_words(
        &self,
        library: &Library,
        words: &[String],
    ) -> anyhow::Result<(Model, WordVectors)> {
        let words = words_of(library, words, self.file(), console::is_terminal());
        words.map_err(with_option)
    }
}

impl TrainedArgs {
    /// Loads the model and its backbone. `words` are those that will be ranked, where they are known.
    pub(super) fn load(&self, words: Option<&[String]>) -> anyhow::Result<Predictor> {
        self.load_named(None, words)
    }

    /// As [`TrainedArgs::load`]; where no model is named, the one that was learnt from a library is taken, if there is one.
    pub(super) fn load_learnt(
        &self,
        library: &Path,
        words: Option<&[String]>,
    ) -> anyhow::Result<Predictor> {
        let learnt = Library::model_file(library);
        let learnt = (self.model.model.is_none() && learnt.exists()).then_some(learnt);
        if let Some(learnt) = &learnt {
            console::tell(format_args!("with what was learnt: {}", shown(learnt)));
        }
        self.load_named(learnt.as_deref(), words)
    }

    fn load_named(
        &self,
        named: Option<&Path>,
        words: Option<&[String]>,
    ) -> anyhow::Result<Predictor> {
        let mut options = (self.model.options(named)?)
            .device(epsilon::device::device(&self.device)?)
            .engine(self.engine.get())
            .limits(self.limits.limits());
        if let Some(words) = words {
            options = options.labels(words.to_vec());
        }
        options.load().map_err(with_option)
    }

    /// Loads the model of a library, which is the one that tagged it, and its backbone.
    pub(super) fn load_of(&self, library: &Library) -> anyhow::Result<Predictor> {
        let mut options = (self.model.options(Some(&library.model))?)
            .device(epsilon::device::device(&self.device)?)
            .engine(self.engine.get())
            .limits(self.limits.limits());
        if let (None, Some(file)) = (self.model.vectors.file(), &library.vectors) {
            options = options.vectors(file.clone());
        }
        if let (None, Some(classes)) = (&self.model.classes, &library.classes) {
            options = options.classes(classes);
        }
        let predictor = options.load().map_err(with_option)?;
        ensure!(
            predictor.model().identity() == library.identity,
            "{}: is another model now than the one that tagged this library: tag it again",
            library.model.display()
        );
        Ok(predictor)
    }

    /// The model of a library without its backbone, and the vectors of words.
    pub(super) fn load_words(
        &self,
        library: &Library,
        words: &[String],
    ) -> anyhow::Result<(Model, WordVectors)> {
        self.model.vectors.load_words(library, words)
    }

    /// The largest photographs that are read.
    pub(super) fn limits(&self) -> Limits {
        self.limits.limits()
    }

    /// Refuses what would change nothing: what [`check_parts`] refuses, and a vector file for a model file of which no words are
    /// asked.
    pub(super) fn check_words(
        &self,
        predictor: &Predictor,
        words: Option<&[String]>,
    ) -> anyhow::Result<()> {
        let vectors = self.model.vectors.path();
        check_parts(predictor, self.model.classes.as_deref(), vectors)?;
        match vectors {
            Some(file) if words.is_none() && !predictor.is_network() => bail!(
                "{}: vectors of which words? Name the words, too",
                file.display()
            ),
            _ => Ok(()),
        }
    }
}

impl ModelArgs {
    /// The network to learn with, with the words' vectors: one that is named, that of a trained model that is named, that of an
    /// earlier time, or the default.
    pub(super) fn network(
        &self,
        earlier: impl FnOnce() -> Result<Option<Network>, LearnError>,
    ) -> anyhow::Result<Network> {
        let mut network = match &self.model {
            None => match earlier()? {
                Some(network) => network,
                None => Network::of(self.default_model()?),
            },
            Some(named) => {
                let path = self.named(named)?;
                match !is_hub_id(&path) && Model::is_at(&path)? {
                    true => Network::of_model(&path)?,
                    false => Network::of(path),
                }
            }
        };
        if let Some(weights) = &self.backbone {
            network.weights.clone_from(weights);
        }
        network.vectors = self.vectors.file().or(network.vectors);
        network.classes = self.classes.clone().or(network.classes);
        Ok(network)
    }

    /// What is asked for; `model` is another way to name it.
    pub(super) fn options(&self, model: Option<&Path>) -> anyhow::Result<PredictorOptions> {
        let model = match model.or(self.model.as_deref()) {
            Some(named) => self.named(named)?,
            None => self.default_model()?,
        };
        let mut options = Predictor::options(model)
            .progress(console::is_terminal())
            .allow_download(self.allow_download);
        if let Some(weights) = &self.backbone {
            options = options.backbone(weights);
        }
        if let Some(file) = self.vectors.file() {
            options = options.vectors(file);
        }
        if let Some(classes) = &self.classes {
            options = options.classes(classes);
        }
        Ok(options)
    }

    /// What a name on the command line stands for, once it is sure that a download of it would serve.
    fn named(&self, named: &Path) -> anyhow::Result<PathBuf> {
        let path = by_name(named);
        if !is_hub_id(&path) {
            ensure!(
                path.exists(),
                "{}: no such file or folder, and `epsilon models` has no model of that name",
                path.display()
            );
            return Ok(path);
        }
        let Some(model) = published(named) else {
            return Ok(path);
        };
        if model.kind == ModelKind::Classifier && self.vectors.vectors.is_none() {
            return Err(with_option(PredictError::NeedsVectors {
                path: named.into(),
            }));
        }
        if backbone::locate(&path, Download::Refused).is_err() {
            console::complain(offer(model));
        }
        Ok(path)
    }

    /// The default model, once it is there or may be downloaded.
    fn default_model(&self) -> anyhow::Result<PathBuf> {
        let model = backbone::model(DEFAULT_MODEL).context("the table of models has no default")?;
        let id = PathBuf::from(format!("{HUB_PREFIX}{}", model.id));
        let Err(error) = backbone::locate(&id, Download::Refused) else {
            return Ok(id);
        };
        if !matches!(error, BackboneError::Hub(HubError::NotAllowed { .. })) {
            return Err(with_option(PredictError::Network(error)));
        }
        let offer = format!("no --model was named; the default is {}", offer(model));
        if !self.yes {
            let asked = console::ask(&format!("{offer}. Download it?"))?;
            let help = "--yes downloads it; `epsilon models` lists others";
            ensure!(asked == Some(true), "{offer}; {help}");
        } else {
            console::complain(&offer);
        }
        Ok(id)
    }
}

/// A download, in words.
fn offer(model: &PublishedModel) -> String {
    format!(
        "{} ({}): {} MB from the Hugging Face hub, licence {}",
        model.name,
        model.about,
        model.bytes / 1_000_000,
        model.licence
    )
}

/// Refuses names of classes and vectors of words that would change nothing: only a classifier's weights take the names, and a
/// network that has a text tower takes no vectors.
pub(super) fn check_parts(
    predictor: &Predictor,
    classes: Option<&Path>,
    vectors: Option<&Path>,
) -> anyhow::Result<()> {
    let is_network = predictor.is_network();
    let has_classes = matches!(predictor.model().card().method(), Kind::ClassWords(_));
    match (classes, vectors) {
        (Some(classes), _) if !(is_network && has_classes) => bail!(
            "{}: names of whose classes? The model is no classifier's weight file",
            classes.display()
        ),
        (_, Some(vectors)) if is_network && !has_classes => bail!(
            "{}: vectors of words are for a classifier or a trained model; this network's text tower makes its own",
            vectors.display()
        ),
        _ => Ok(()),
    }
}

/// The words to rank, or the model's own labels where none are given.
pub(super) fn ranker(predictor: &Predictor, words: Option<&[String]>) -> anyhow::Result<Ranker> {
    match words {
        Some(words) => predictor.labels(words).map_err(with_option),
        None => Ok(predictor.own_labels()?),
    }
}

/// The error, with the option that helps.
pub(super) fn with_option(error: PredictError) -> anyhow::Error {
    match &error {
        PredictError::Backbone(BackboneError::Hub(HubError::NotAllowed { .. })) => {
            let help = "--allow-download asks the hub for it; --backbone names another place";
            anyhow::Error::new(error).context(help)
        }
        PredictError::Backbone(BackboneError::Hub(_)) => error.into(),
        PredictError::TextTower(BackboneError::Hub(HubError::NotAllowed { id, .. })) => {
            let help = format!("--vectors {id} asks the hub for it, --vectors PLACE names another");
            anyhow::Error::new(error).context(help)
        }
        PredictError::TextTower(BackboneError::Tokenizer { .. } | BackboneError::Hub(_)) => {
            error.into()
        }
        PredictError::TextTower(_) | PredictError::NoTextTower { .. } => {
            anyhow::Error::new(error).context("--vectors names another place")
        }
        PredictError::Network(BackboneError::Hub(HubError::NotAllowed { id, .. })) => {
            let help = format!(
                "the library was tagged with it: `epsilon tag PHOTOS --model {id}` fetches it"
            );
            anyhow::Error::new(error).context(help)
        }
        PredictError::Backbone(_) => {
            anyhow::Error::new(error).context("--backbone names another place")
        }
        PredictError::NoVectorFile { .. } | PredictError::NeedsVectors { .. } => {
            anyhow::Error::new(error).context("give the words' vectors with --vectors")
        }
        PredictError::NeedsClasses { .. } => {
            anyhow::Error::new(error).context("give the list with --classes")
        }
        _ => error.into(),
    }
}
