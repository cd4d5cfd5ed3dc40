//! Models without training: a network with an image and a text tower (CLIP, SigLIP), or a classifier with the names of its
//! classes and a file of word vectors. Either becomes a [`Model`] like a trained one, but that it has seen no label.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::sentences::Sentences;
use super::source::{Opened, index_of_words};
use super::words::WordVectors;
use super::{PredictError, PredictorOptions};
use crate::batch::Dims;
use crate::calibration::Preset;
use crate::classes::{ClassNames, ClassesError, too_few};
use crate::methods::{ClassWords, ClipZeroShot, Kind};
use crate::model::{Card, Model, Provenance};
use crate::parameters::Weights;
use epsilon_data::labels::{LabelVectors, VectorFile, VectorIndex};
use epsilon_vision::backbone::{
    self, Backbone, BackboneError, BackboneInfo, Download, Global, Options, Pairing, TextTower,
};

/// Words of everyday photographs: what such a model ranks where nobody asks for others, and the words over which the scores of
/// an image are standardised.
const EVERYDAY: &str = include_str!("../../assets/everyday.txt");
/// Fewest words that scores can be standardised over.
const FEWEST: usize = 50;

/// A model without training and what belongs to it.
pub(super) struct Untrained {
    pub(super) model: Model,
    pub(super) words: WordVectors,
    pub(super) backbone: Box<dyn Backbone>,
    /// The network's file or folder.
    pub(super) weights: PathBuf,
}

impl Untrained {
    /// Finds the network that `options` name, and makes a model of it.
    pub(super) fn load(
        options: &PredictorOptions,
        download: Download,
    ) -> Result<Self, PredictError> {
        let named = &options.model;
        let path = backbone::locate(named, download).map_err(PredictError::Network)?;
        match TextTower::load(&path, None) {
            Ok(tower) => Self::of_towers(&path, tower, options),
            // A network without a text tower.
            Err(BackboneError::Unknown { .. }) => Self::of_classes(&path, options),
            Err(error) => Err(PredictError::Network(error)),
        }
    }

    fn of_towers(
        path: &Path,
        tower: TextTower,
        options: &PredictorOptions,
    ) -> Result<Self, PredictError> {
        let backbone = load_backbone(path, Global::Features, options)?;
        let preset = match tower.pairing {
            Some(Pairing {
                scale,
                bias: Some(bias),
            }) => Preset::sigmoid(scale.into(), bias.into()),
            _ => Preset::PROTOTYPES,
        };
        let mut sentences = Sentences::new(tower);
        // Where a label's probability rests on nothing but the label, no vectors are made that nobody asks for.
        let own = match &options.labels {
            Some(labels) if !preset.is_standardised() => labels.clone(),
            _ => everyday(),
        };
        let values = sentences.vectors(&own)?;
        let own = LabelVectors::new(own, sentences.width(), values)?;
        let method = Kind::ClipZeroShot(ClipZeroShot {});
        let recipe = serde_json::Value::Null;
        let card = card(method, &*backbone, &own, recipe, options).with_preset(preset);
        let specs = card.method().specs(&card.dims()).map_err(unfit(path))?;
        let weights = Weights::from_values(specs, Default::default(), &options.device);
        let weights = weights.map_err(|error| unfit(path)(error.into()))?;
        let model = Model::new(card, own, weights);
        Ok(Self {
            words: WordVectors::of_opened(&model, path.into(), Opened::Tower(Box::new(sentences))),
            model,
            backbone,
            weights: path.into(),
        })
    }

    fn of_classes(path: &Path, options: &PredictorOptions) -> Result<Self, PredictError> {
        let backbone = load_backbone(path, Global::Classes, options)?;
        let file = options.vectors.clone();
        let file = file.ok_or_else(|| PredictError::NeedsVectors { path: path.into() })?;
        let count = backbone.info().global_dim();
        let classes = classes(options.classes.as_deref(), count, path)?;
        let index = index_of_words(&file)?;
        let vectors = class_vectors(classes.names(), &index, &file)?;
        let own = known(everyday(), &index, &file)?;
        let method = ClassWords::default();
        let names = json!({ "vectors": file.path, "vector-names": file.names });
        let recipe = json!({ "data": names });
        let kind = Kind::ClassWords(method.clone());
        let card = card(kind, &*backbone, &own, recipe, options).with_preset(Preset::PROTOTYPES);
        let weights = method.weights(&card.dims(), &vectors, &options.device);
        let model = Model::new(card, own, weights.map_err(unfit(path))?);
        Ok(Self {
            words: WordVectors::of_opened(&model, file, Opened::Index(Box::new(index))),
            model,
            backbone,
            weights: path.into(),
        })
    }
}

fn load_backbone(
    path: &Path,
    global: Global,
    options: &PredictorOptions,
) -> Result<Box<dyn Backbone>, PredictError> {
    let chosen = Options {
        global,
        engine: options.engine,
        ..Options::default()
    };
    crate::tensor_vit::load_on(path, &chosen, &options.device).map_err(PredictError::Network)
}

fn card(
    method: Kind,
    backbone: &dyn Backbone,
    own: &LabelVectors,
    recipe: serde_json::Value,
    options: &PredictorOptions,
) -> Card {
    let BackboneInfo {
        tokens,
        dim,
        global,
        ..
    } = *backbone.info();
    let dims = Dims {
        tokens,
        width: dim,
        label_width: own.dim(),
        labels: 0,
        unseen: 0,
        global,
    };
    let provenance = Provenance {
        backbone: backbone.info().clone(),
        backbone_weights: options.model.clone(),
        recipe,
        protocol: "none".into(),
        seed: 0,
        cpu: None,
    };
    Card::new(method, dims, own.names().to_vec(), 0, provenance)
}

fn unfit(path: &Path) -> impl Fn(crate::methods::MethodError) -> PredictError {
    move |source| {
        PredictError::Model(crate::model::ModelError::Method {
            path: path.into(),
            source,
        })
    }
}

fn everyday() -> Vec<String> {
    EVERYDAY.lines().map(String::from).collect()
}

/// Those words that a file has vectors of.
fn known(
    words: Vec<String>,
    index: &VectorIndex,
    file: &VectorFile,
) -> Result<LabelVectors, PredictError> {
    let found = index.approximate(&words)?;
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (word, vector) in words.into_iter().zip(found) {
        if let Some(vector) = vector {
            names.push(word);
            values.extend(vector);
        }
    }
    if names.len() < FEWEST {
        return Err(PredictError::FewWords {
            path: file.path.clone(),
            found: names.len(),
            needed: FEWEST,
        });
    }
    Ok(LabelVectors::new(names, index.dim(), values)?)
}

/// The names of a network's classes, several a class.
fn classes(file: Option<&Path>, count: usize, weights: &Path) -> Result<ClassNames, PredictError> {
    ClassNames::read(file, count).map_err(|error| match error {
        ClassesError::Unnamed { count } => PredictError::NeedsClasses {
            path: weights.into(),
            count,
        },
        other => PredictError::Classes(other),
    })
}

/// Unit vectors of the classes, row-major `[classes, d_w]`: the mean of a class's names. One without a vector has zeros, and is
/// as near to any label as to another.
fn class_vectors(
    classes: &[Vec<String>],
    index: &VectorIndex,
    file: &VectorFile,
) -> Result<Vec<f32>, PredictError> {
    let names: Vec<String> = classes.iter().flatten().cloned().collect();
    let mut found = index.approximate(&names)?.into_iter();
    let mut values = Vec::with_capacity(classes.len() * index.dim());
    let mut without = 0;
    for class in classes {
        let vectors: Vec<Vec<f32>> = found.by_ref().take(class.len()).flatten().collect();
        let mut mean = vec![0.0; index.dim()];
        for vector in &vectors {
            mean.iter_mut().zip(vector).for_each(|(sum, v)| *sum += v);
        }
        let length = mean.iter().map(|v| v * v).sum::<f32>().sqrt();
        without += usize::from(length == 0.0);
        values.extend(mean.iter().map(|v| v / length.max(f32::MIN_POSITIVE)));
    }
    if too_few(classes.len() - without, classes.len()) {
        return Err(PredictError::FewClasses {
            path: file.path.clone(),
            found: classes.len() - without,
            needed: classes.len(),
        });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::Predictor;
    use super::*;
    use epsilon_vision::backbone::Features;
    use epsilon_vision::image::RgbImage;

    /// A network that counts its passes.
    struct Counting(Box<dyn Backbone>, Arc<AtomicUsize>);

    impl Backbone for Counting {
        fn info(&self) -> &BackboneInfo {
            self.0.info()
        }

        fn forward(
            &self,
            images: &[f32],
            count: usize,
            out: &mut Features,
        ) -> Result<(), BackboneError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.forward(images, count, out)
        }
    }

    fn clip(passes: Arc<AtomicUsize>) -> Predictor {
        let fixtures = "/../epsilon-vision/tests/fixtures/backbones/clip";
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR").to_string() + fixtures);
        let options = Predictor::options(&path);
        let backbone = load_backbone(&path, Global::Features, &options).unwrap();
        let width = backbone.info().global_dim();
        let values = (0..2 * width).map(|at| (at as f32).sin()).collect();
        let own = LabelVectors::new(vec!["sun".into(), "moon".into()], width, values).unwrap();
        let method = Kind::ClipZeroShot(ClipZeroShot {});
        let card = card(method, &*backbone, &own, json!(null), &options);
        let specs = card.method().specs(&card.dims()).unwrap();
        let weights = Weights::from_values(specs, Default::default(), &options.device).unwrap();
        let model = Model::new(card, own, weights);
        Predictor {
            words: WordVectors::of_labels(&model),
            model,
            backbone: Box::new(Counting(backbone, passes)),
            weights: path,
            network: true,
            options,
        }
    }

    /// A pass for the picture and one for each of seven rows of places; no row is begun when nobody wants it any more.
    #[test]
    fn a_map_that_is_not_wanted_is_not_computed_on() {
        let passes = Arc::new(AtomicUsize::new(0));
        let predictor = clip(passes.clone());
        let labels = predictor.own_labels().unwrap();
        let picture = RgbImage::from_fn(9, 9, |x, y| [20 * x as u8, 20 * y as u8, 99].into());
        let explain = |rows: usize| {
            let before = passes.load(Ordering::Relaxed);
            let passed = || passes.load(Ordering::Relaxed) - before;
            let maps = predictor.explain_while(&picture, &labels, "moon", &|| passed() <= rows);
            (maps, passed())
        };
        let (maps, passed) = explain(7);
        assert_eq!((maps.unwrap().len(), passed), (1, 8));
        for rows in [0, 3] {
            let (maps, passed) = explain(rows);
            assert!(matches!(maps, Err(PredictError::Stopped)));
            assert_eq!(passed, 1 + rows);
        }
    }
}
