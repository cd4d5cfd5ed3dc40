//! The anchor of a model: a backbone's classifier with the names of its classes, and the vectors of words that labels are
//! compared with them by. A model file holds all of it but the vectors of other words than its own labels.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::batch::Dims;
use crate::classes::ClassNames;
use crate::methods::Input;
use crate::methods::anchor::{Anchor, AnchorScores, Head};
use epsilon_data::files::sha256;
use epsilon_data::formats::safetensors as format;
use epsilon_data::labels::{LabelVectors, VectorFile, VectorIndex, composed};

const HEAD: &str = "anchor.head";
const NAMES: &str = "anchor.names";
const OWNERS: &str = "anchor.owners";
const LABELS: &str = "anchor.label_vectors";

/// What a model's card says of its anchor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AnchorCard {
    /// Its settings.
    pub settings: Anchor,
    /// What the classifier reads of an image.
    pub input: Input,
    /// The names of the backbone's classes.
    pub classes: ClassNames,
}

/// A backbone's classifier as an additional score of any label.
pub struct ModelAnchor {
    card: AnchorCard,
    head: Head,
    /// Vectors of the model's own labels in the anchor's file of word vectors; none where it goes by the labels' own vectors.
    own: Option<LabelVectors>,
    /// That file, once it was asked for other words.
    index: Mutex<Option<Box<VectorIndex>>>,
}

impl ModelAnchor {
    /// An anchor of its parts. `own` has the vectors of a model's own labels in the anchor's file of word vectors, where it has
    /// one of its own.
    pub fn new(
        settings: Anchor,
        classes: ClassNames,
        head: Head,
        own: Option<LabelVectors>,
    ) -> Self {
        let card = AnchorCard {
            settings,
            input: head.input,
            classes,
        };
        Self {
            card,
            head,
            own,
            index: Mutex::default(),
        }
    }

    /// Settings and names.
    pub fn card(&self) -> &AnchorCard {
        &self.card
    }

    /// SHA-256 of its classifier, the vectors of its classes' names, and its own vectors of the model's first labels.
    pub(crate) fn sum(&self, labels: usize) -> String {
        let Head {
            weight,
            bias,
            names,
            owners,
            ..
        } = &self.head;
        let own = self
            .own
            .as_ref()
            .map(|own| &own.values()[..labels * own.dim()]);
        let values = weight.iter().chain(bias).chain(names);
        let values = values.chain(own.unwrap_or_default());
        let mut bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
        bytes.extend(owners.iter().flat_map(|owner| owner.to_le_bytes()));
        sha256(&bytes)
    }

    /// Its scores of labels on a device.
    ///
    /// # Errors
    /// [`ModelError::Anchor`] for labels without a vector in its file of word vectors, or such a file that is not there.
    pub fn on(&self, labels: &LabelVectors, device: &Device) -> Result<AnchorScores, ModelError> {
        let vectors = match &self.own {
            None => labels.values().to_vec(),
            Some(own) => self.words(own, labels.names())?,
        };
        Ok(self.head.on(&self.card.settings, &vectors, device))
    }

    /// The vectors of labels by name, row-major: those of the model's own labels, and others from the file.
    fn words(&self, own: &LabelVectors, names: &[String]) -> Result<Vec<f32>, ModelError> {
        let names: Vec<String> = names.iter().map(|n| composed(n).into_owned()).collect();
        let known = |name: &String| own.names().iter().position(|own| composed(own) == *name);
        let places: Vec<Option<usize>> = names.iter().map(known).collect();
        let mut others: Vec<String> = Vec::new();
        for (name, _) in names
            .iter()
            .zip(&places)
            .filter(|(_, place)| place.is_none())
        {
            if !others.contains(name) {
                others.push(name.clone());
            }
        }
        let found = match others.is_empty() {
            true => None,
            false => Some(self.find(own, &others)?),
        };
        let mut values = Vec::with_capacity(names.len() * own.dim());
        for (name, place) in names.iter().zip(places) {
            match (place, &found) {
                (Some(place), _) => values.extend(own.row(place)),
                (None, Some(found)) => {
                    let place = others.iter().position(|other| other == name);
                    values.extend(found.row(place.unwrap_or_default()));
                }
                (None, None) => {}
            }
        }
        Ok(values)
    }

    /// The vectors of words in the file, which must give the model's own first label the vector that it had.
    fn find(&self, own: &LabelVectors, words: &[String]) -> Result<LabelVectors, ModelError> {
        let settings = &self.card.settings;
        let file = VectorFile {
            path: settings.vectors.clone().unwrap_or_default(),
            names: settings.vector_names.clone(),
        };
        let failed = |reason: String| ModelError::Anchor {
            path: file.path.clone(),
            reason,
        };
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match &mut *index {
            Some(index) => index,
            none => {
                let read = VectorIndex::read(&file).map_err(|error| failed(error.to_string()))?;
                let first = own.first(1);
                let same = read.resolve(first.names());
                if !same.is_ok_and(|same| same.vectors == first) {
                    let label = &first.names()[0];
                    let reason = "is not the file that the model's anchor was made with";
                    return Err(failed(format!(
                        "{}: {reason}: it has another vector of {label:?}",
                        file.path.display()
                    )));
                }
                none.insert(Box::new(read))
            }
        };
        let found = index.resolve(words);
        Ok(found.map_err(|error| failed(error.to_string()))?.vectors)
    }

    /// The tensors of its file.
    pub(super) fn tensors(&self) -> Vec<format::Named> {
        let head = &self.head;
        let (classes, names) = (head.bias.len(), head.owners.len());
        let rows = |values: &[f32], rows: usize| vec![rows, values.len() / rows.max(1)];
        let owners = head.owners.iter().map(|&owner| owner as f32).collect();
        let mut tensors = vec![
            (
                format!("{HEAD}.weight"),
                vec![head.weight.len() / classes.max(1), classes],
                head.weight.clone(),
            ),
            (format!("{HEAD}.bias"), vec![classes], head.bias.clone()),
            (NAMES.into(), rows(&head.names, names), head.names.clone()),
            (OWNERS.into(), vec![names], owners),
        ];
        if let Some(own) = &self.own {
            let shape = vec![own.len(), own.dim()];
            tensors.push((LABELS.into(), shape, own.values().to_vec()));
        }
        tensors
    }

    /// Reads it from a model's file.
    pub(super) fn read(
        card: AnchorCard,
        tensors: &SafeTensors<'_>,
        dims: &Dims,
        labels: &[String],
    ) -> Result<Self, String> {
        card.settings.check().map_err(|error| error.to_string())?;
        let values = |name: &str| format::f32_values(tensors, name);
        let head = Head {
            input: card.input,
            weight: values(&format!("{HEAD}.weight"))?,
            bias: values(&format!("{HEAD}.bias"))?,
            names: values(NAMES)?,
            owners: values(OWNERS)?.into_iter().map(|v| v as usize).collect(),
        };
        let own = match &card.settings.vectors {
            None => None,
            Some(_) => {
                let own = values(LABELS)?;
                let width = own.len() / labels.len().max(1);
                let own = LabelVectors::new(labels.to_vec(), width, own);
                Some(own.map_err(|error| format!("{LABELS}: {error}"))?)
            }
        };
        let classes = card.classes.names().len();
        let width = own.as_ref().map_or(dims.label_width, LabelVectors::dim);
        let inputs = card.input.width(dims);
        let fits = classes > 0
            && !head.owners.is_empty()
            && head.bias.len() == classes
            && inputs.checked_mul(classes) == Some(head.weight.len())
            && head.owners.len().checked_mul(width) == Some(head.names.len())
            && head.owners.iter().all(|&owner| owner < classes);
        if !fits {
            return Err(format!(
                "the tensors of its anchor do not fit its {classes} classes and {} labels",
                labels.len()
            ));
        }
        let all = [&head.weight, &head.bias, &head.names].into_iter();
        if all.flatten().any(|value| !value.is_finite()) {
            return Err("the tensors of its anchor hold values that are not finite".into());
        }
        Ok(Self {
            card,
            head,
            own,
            index: Mutex::default(),
        })
    }

    /// What decides its scores, for [`Model::identity`](super::Model::identity).
    pub(super) fn identity(&self) -> Vec<u8> {
        let settings = &self.card.settings;
        let numbers = serde_json::json!([
            settings.trained,
            settings.weight,
            settings.temperature,
            settings.sharpness
        ]);
        let mut bytes = numbers.to_string().into_bytes();
        for (name, _, values) in self.tensors() {
            bytes.extend(name.as_bytes());
            bytes.extend_from_slice(bytemuck::cast_slice(&values));
        }
        bytes
    }

    /// The file of word vectors that it has besides the labels' own.
    pub fn vectors(&self) -> Option<&Path> {
        self.card.settings.vectors.as_deref()
    }
}
