//! The anchor of a recipe: the classifier in its backbone's weight file, the names of its classes, and the vectors of words that
//! labels are compared with them by.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use epsilon_data::labels::{LabelError, LabelVectors, VectorFile};
use epsilon_metrics::{Evaluation, LabelFigures};
use epsilon_vision::backbone::{self, BackboneInfo, Classifier, Download, Linear};
use epsilon_vision::tokens::TokenStore;
use serde::{Deserialize, Serialize};

use super::{ExperimentError, Prepared};
use crate::classes::{ClassNames, ClassesError, too_few};
use crate::methods::Input;
use crate::methods::anchor::{Anchor, Head};
use crate::model::ModelAnchor;
use crate::predictor::index_of_words;
use crate::recipe::Recipe;

/// What can go wrong with the anchor of a recipe.
#[derive(Debug, thiserror::Error)]
#[error("[anchor]: {}", self.said())]
#[non_exhaustive]
pub enum AnchorError {
    /// The backbone's weights have no classifier that can be used.
    Classifier {
        /// The weights.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The names of the classes.
    Classes(ClassesError),
    /// The file of word vectors.
    Vectors(LabelError),
    /// A file of word vectors that lacks most classes.
    FewClasses {
        /// The file.
        path: PathBuf,
        /// Classes with a vector.
        found: usize,
        /// Classes of the network.
        classes: usize,
    },
    /// Tokens of another backbone.
    OtherBackbone {
        /// Hash of the weights that the classifier is in.
        weights: String,
        /// Hash of the weights that made the tokens.
        tokens: String,
    },
}

impl AnchorError {
    fn said(&self) -> String {
        match self {
            Self::Classifier { path, reason } => format!("{}: {reason}", path.display()),
            Self::Classes(error @ ClassesError::Unnamed { .. }) => {
                format!("{error}: give a list of them as `classes`")
            }
            Self::Classes(error) => error.to_string(),
            Self::Vectors(error) => error.to_string(),
            Self::FewClasses {
                path,
                found,
                classes,
            } => format!(
                "{}: holds vectors of the names of {found} of the {classes} classes: give a file of more words as `vectors`",
                path.display()
            ),
            Self::OtherBackbone { weights, tokens } => format!(
                "the tokens were made with other weights ({tokens}) than the [backbone] that its classes are taken from ({weights})"
            ),
        }
    }
}

/// What anchors are made of, kept between the trainings of one data set: reading a network and a file of word vectors takes as long
/// as a small head's training.
pub(super) type Kept = Arc<Mutex<Option<Arc<Source>>>>;

/// A network's classifier with the names of its classes, and the vectors of a data set's labels in the anchor's own file.
pub(super) struct Source {
    /// The settings that it follows from.
    key: serde_json::Value,
    network: BackboneInfo,
    classes: ClassNames,
    head: Head,
    own: Option<LabelVectors>,
}

/// A recipe's anchor, if it has one, for the tokens of a store where there is one already.
///
/// # Errors
/// [`ExperimentError::Anchor`], and [`ExperimentError::Backbone`] for weights that cannot be read.
pub(super) fn anchor(
    recipe: &Recipe,
    prepared: &Prepared,
    store: Option<&TokenStore>,
) -> Result<Option<ModelAnchor>, ExperimentError> {
    let Some(settings) = &recipe.anchor else {
        return Ok(None);
    };
    let key = serde_json::json!([
        recipe.backbone,
        settings.classes,
        settings.vectors,
        settings.vector_names,
        recipe.data.vector_file().path,
        recipe.data.vector_file().names,
    ]);
    let names = &prepared.dataset.names;
    let mut kept = prepared
        .anchors
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let known = kept.clone().filter(|source| source.key == key);
    let source = match known.filter(|source| source.places(names).is_some()) {
        Some(source) => source,
        None => kept
            .insert(Source::read(recipe, settings, prepared, key)?.into())
            .clone(),
    };
    drop(kept);
    if let Some(store) = store {
        check_store(&source.network, store)?;
    }
    let places = source.places(names).unwrap_or_default();
    let own = source.own.as_ref().map(|own| own.select(&places));
    let own = own.transpose().map_err(AnchorError::Vectors)?;
    let (classes, head) = (source.classes.clone(), source.head.clone());
    Ok(Some(ModelAnchor::new(settings.clone(), classes, head, own)))
}

impl Source {
    fn read(
        recipe: &Recipe,
        settings: &Anchor,
        prepared: &Prepared,
        key: serde_json::Value,
    ) -> Result<Self, ExperimentError> {
        let backbone = recipe.backbone.as_ref();
        let backbone = backbone.ok_or(ExperimentError::NoBackbone)?;
        let path = backbone::locate(&backbone.weights, Download::shown(false))?;
        let network = backbone::read(&path, &backbone.options())?;
        let found = network.classifier();
        let found = found.map_err(|reason| AnchorError::Classifier { path, reason })?;
        let count = network.classes().unwrap_or_default();
        let classes = ClassNames::read(settings.classes.as_deref(), count);
        let classes = classes.map_err(AnchorError::Classes)?;
        let file = match &settings.vectors {
            Some(path) => VectorFile {
                path: path.clone(),
                names: settings.vector_names.clone(),
            },
            None => recipe.data.vector_file(),
        };
        let index = index_of_words(&file).map_err(AnchorError::Vectors)?;
        let names = classes.vectors(&index).map_err(AnchorError::Vectors)?;
        let with_vectors = names.classes();
        if too_few(with_vectors, count) {
            return Err(AnchorError::FewClasses {
                path: file.path,
                found: with_vectors,
                classes: count,
            }
            .into());
        }
        let dataset = &prepared.dataset;
        let own = settings
            .vectors
            .is_some()
            .then(|| index.resolve_as(&dataset.names, &dataset.words));
        let own = own.transpose().map_err(AnchorError::Vectors)?;
        let (input, weight, bias) = joined(found);
        Ok(Self {
            key,
            network: network.info(),
            classes,
            head: Head {
                input,
                weight,
                bias,
                names: names.values,
                owners: names.owners,
            },
            own: own.map(|own| own.vectors),
        })
    }

    /// Where its vectors of these labels are; `None` where it lacks one.
    fn places(&self, names: &[String]) -> Option<Vec<usize>> {
        let Some(own) = &self.own else {
            return Some(Vec::new());
        };
        let places: HashMap<&String, usize> = own.names().iter().zip(0..).collect();
        names.iter().map(|name| places.get(name).copied()).collect()
    }
}

/// Whether the tokens of a store come from this network.
fn check_store(network: &BackboneInfo, store: &TokenStore) -> Result<(), AnchorError> {
    let stored = &store.manifest().header.backbone;
    let same = network.weights_sha256 == stored.weights_sha256;
    match same && network.weights_key == stored.weights_key {
        true => Ok(()),
        false => Err(AnchorError::OtherBackbone {
            weights: network.weights_sha256.clone(),
            tokens: stored.weights_sha256.clone(),
        }),
    }
}

/// What a classifier reads, its map `[inputs, classes]` and its bias; a classifier has at least one part.
fn joined(classifier: Classifier) -> (Input, Vec<f32>, Vec<f32>) {
    let Classifier { global, mean } = classifier;
    let input = match (&global, &mean) {
        (Some(_), Some(_)) => Input::Both,
        (None, Some(_)) => Input::MeanToken,
        (_, None) => Input::Global,
    };
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for part in [global, mean].into_iter().flatten() {
        weight.extend(transposed(&part));
        if bias.is_empty() {
            bias = part.bias;
        } else {
            bias.iter_mut()
                .zip(part.bias)
                .for_each(|(sum, b)| *sum += b);
        }
    }
    (input, weight, bias)
}

/// `[outputs, inputs]` to `[inputs, outputs]`.
fn transposed(map: &Linear) -> Vec<f32> {
    let outputs = map.bias.len();
    let inputs = map.weight.len() / outputs.max(1);
    let rows = 0..inputs;
    rows.flat_map(|input| (0..outputs).map(move |output| map.weight[output * inputs + input]))
        .collect()
}

/// The unseen labels that are classes of the backbone, beside figures that an anchor is part of.
///
/// A label is among them when [`ClassNames::among`] says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackboneClasses {
    /// The unseen labels that are classes of the backbone.
    pub known: Vec<String>,
    /// How many unseen labels are not.
    pub others: usize,
    /// The ZSL mAP of those that are not, as a fraction; none where every label is known or the protocol averages none of them.
    pub others_map: Option<f64>,
}

impl BackboneClasses {
    /// From the figures of the unseen labels among themselves; `classes` says of each of the `labels` whether it is a class.
    pub(super) fn of(zsl: &Evaluation, labels: &[String], classes: &[bool]) -> Self {
        let (known, others): (Vec<&LabelFigures>, Vec<&LabelFigures>) = zsl
            .per_label
            .iter()
            .partition(|figures| classes[figures.column]);
        Self {
            known: known.iter().map(|f| labels[f.column].clone()).collect(),
            others: others.len(),
            others_map: zsl.settings.mean.of(others.iter().copied()),
        }
    }

    /// Over label folds: the labels of all, and the mAP of the others as the mean of the folds' by their numbers.
    pub(super) fn over_folds(folds: &[&Self]) -> Self {
        let maps = folds.iter();
        let maps = maps.filter_map(|fold| Some((fold.others_map?, fold.others as f64)));
        let (sum, labels) = maps.fold((0.0, 0.0), |(sum, labels), (map, others)| {
            (sum + map * others, labels + others)
        });
        Self {
            known: folds.iter().flat_map(|fold| fold.known.clone()).collect(),
            others: folds.iter().map(|fold| fold.others).sum(),
            others_map: (labels > 0.0).then(|| sum / labels),
        }
    }
}

impl fmt::Display for BackboneClasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (known, all) = (self.known.len(), self.known.len() + self.others);
        write!(
            f,
            "backbone classes known: {known} of {all} unseen labels are classes of the backbone"
        )?;
        if known > 0 {
            write!(f, " ({})", self.known.join(", "))?;
        }
        match self.others_map {
            Some(map) => write!(
                f,
                "; ZSL mAP of the {} others (%): {:.1}",
                self.others,
                100.0 * map
            ),
            None => Ok(()),
        }
    }
}
