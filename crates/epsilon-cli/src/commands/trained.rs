//! A trained model, its backbone and the vectors of words: what all commands share that look at photographs.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use epsilon::backbone::{self, Backbone, Features};
use epsilon::burn::tensor::Device;
use epsilon::image::RgbImage;
use epsilon::labels::{LabelVectors, VectorFile, resolve_words};
use epsilon::model::Model;

use crate::console;

/// Which model, where its backbone and the words' vectors are, and where to compute.
#[derive(Args)]
pub struct TrainedArgs {
    /// The model.
    model: PathBuf,
    #[command(flatten)]
    vectors: VectorArgs,
    /// The backbone's weights: a file, a folder or a hub id [default: where the model's recipe found them].
    #[arg(long, value_name = "WEIGHTS")]
    backbone: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, default_value = "cpu", value_parser = epsilon::device::NAMES.to_vec())]
    device: String,
}

/// Where the vectors of words are.
#[derive(Args)]
pub struct VectorArgs {
    /// The words' vectors, of the kind that the model was trained with [default: the recipe's file].
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// A list of the vector file's words, where it holds numbers alone; one for each of its arrays.
    #[arg(long, value_name = "FILE", requires = "vectors")]
    vector_names: Vec<PathBuf>,
}

impl VectorArgs {
    fn file(&self) -> Option<VectorFile> {
        self.vectors.as_ref().map(|path| VectorFile {
            path: path.clone(),
            names: self.vector_names.clone(),
        })
    }

    /// The vectors of these words for a model: its own where it has them all and no file is named, otherwise those of the file.
    pub fn words(&self, model: &Model, words: &[String]) -> anyhow::Result<LabelVectors> {
        words_of(model, self.file().as_ref(), words)
    }
}

/// A model that can look at photographs.
pub struct Trained {
    pub model: Model,
    pub backbone: Box<dyn Backbone>,
    pub device: Device,
    /// The file that the command line names.
    vectors: Option<VectorFile>,
}

impl TrainedArgs {
    /// Loads the model and its backbone.
    pub fn load(&self) -> anyhow::Result<Trained> {
        let device = epsilon::device::device(&self.device)?;
        let model = Model::load(&self.model, &device)?;
        let weights = self.backbone.as_ref();
        let weights = weights.unwrap_or(&model.card.backbone_weights);
        let backbone = backbone::locate(weights, console::is_terminal())
            .and_then(|path| {
                epsilon::tensor_vit::load_on(&path, &model.card.backbone.options(), &device)
            })
            .context("the model's backbone; --backbone names another place")?;
        model.check_backbone(backbone.info())?;
        Ok(Trained {
            model,
            backbone,
            device,
            vectors: self.vectors.file(),
        })
    }
}

impl TrainedArgs {
    /// The model's file.
    pub fn model(&self) -> &Path {
        &self.model
    }
}

impl Trained {
    /// The vectors of these words, or of the model's own labels where none are given.
    pub fn wanted(&self, words: Option<&[String]>) -> anyhow::Result<LabelVectors> {
        match (words, &self.vectors) {
            (Some(words), file) => words_of(&self.model, file.as_ref(), words),
            (None, None) => Ok(self.model.own_labels()),
            (None, Some(file)) => bail!(
                "{}: vectors of which words? Name the words, too",
                file.path.display()
            ),
        }
    }

    /// Whether the command line names a file of vectors, which then goes before the model's own.
    pub fn names_vectors(&self) -> bool {
        self.vectors.is_some()
    }

    /// The file that words are looked up in: that of the command line, or the recipe's.
    pub fn vector_file(&self) -> Option<VectorFile> {
        self.vectors.clone().or_else(|| own_vectors(&self.model))
    }

    /// What the backbone makes of a picture.
    pub fn features(&self, picture: &RgbImage) -> anyhow::Result<Features> {
        let preprocess = &self.backbone.info().preprocess;
        let mut pixels = vec![0.0; preprocess.len()];
        preprocess.apply(picture, &mut pixels);
        let mut features = Features::default();
        self.backbone.forward(&pixels, 1, &mut features)?;
        Ok(features)
    }
}

fn words_of(
    model: &Model,
    file: Option<&VectorFile>,
    words: &[String],
) -> anyhow::Result<LabelVectors> {
    let own = model.own_labels();
    let place = |word| own.names().iter().position(|name| name == word);
    let places: Option<Vec<usize>> = words.iter().map(place).collect();
    if let (Some(places), None) = (places, file) {
        return Ok(own.select(&places)?);
    }
    let file = match file {
        Some(file) => file.clone(),
        None => own_vectors(model).context("give the words' vectors with --vectors")?,
    };
    Ok(resolve_words(&file, words, words)?.vectors)
}

/// The vector file of a model's recipe.
fn own_vectors(model: &Model) -> Option<VectorFile> {
    let data = &model.card.recipe["data"];
    let names = data["vector-names"].as_array().into_iter().flatten();
    Some(VectorFile {
        path: data["vectors"].as_str()?.into(),
        names: names
            .filter_map(|name| name.as_str().map(PathBuf::from))
            .collect(),
    })
}
