//! A zero-shot method as a classifier: the labels' vectors, which start as those of their names, are learnt with everything
//! else, so it knows the labels it was trained on and no others. This is how LESA and what came after it are compared on the
//! 81 concepts of NUS-WIDE.
//!
//! What depends on the names' own vectors stays with them: the weights of images by the spread of their labels, and which
//! cluster a label belongs to.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::input::numbers;
use super::{
    Fitting, GradientMethod, Kind, LabelMap, Loss, Method, MethodError, TrainedLabels, Vocabulary,
};
use crate::batch::{Batch, Dims};
use crate::parameters::{Spec, Start, Weights};

/// The learnt vectors, `[C, d_w]`.
const VECTORS: &str = "learnt.vectors";

/// A method whose label vectors are learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LearntLabels {
    /// The method, with its settings: one that is trained step by step and scores labels by their vectors.
    pub of: Box<Kind>,
}

impl LearntLabels {
    /// The method; `None` where it has no use for learnt vectors.
    fn inner(&self) -> Option<&dyn GradientMethod> {
        match (&*self.of, self.of.fitting()) {
            // Its classifier is trained without them.
            (Kind::Conse(_), _) => None,
            (of, Fitting::Gradient(method)) if of.vocabulary() == Vocabulary::Open => Some(method),
            _ => None,
        }
    }

    fn method(&self) -> &dyn GradientMethod {
        self.inner()
            .expect("`specs`, which comes before anything else, refuses it")
    }

    /// A batch whose label vectors are the learnt ones.
    fn learnt(weights: &Weights, batch: &Batch) -> Batch {
        let vectors: Tensor<2> = weights.get(VECTORS);
        let chosen = numbers(&batch.columns, &vectors.device().inner());
        Batch {
            label_vectors: vectors.select(0, chosen),
            ..batch.clone()
        }
    }
}

impl Method for LearntLabels {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Seen
    }

    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let Some(method) = self.inner() else {
            return Err(MethodError::Setting(format!(
                "of: {} learns nothing from label vectors; give a method that is trained on them",
                self.of.name()
            )));
        };
        let mut specs = method.specs(dims)?;
        let shape = [dims.labels, dims.label_width];
        specs.push(Spec::new(VECTORS, &shape, Start::Constant(0.0)));
        Ok(specs)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.method().scores(weights, &Self::learnt(weights, batch))
    }

    fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        let learnt = Self::learnt(weights, batch);
        self.method().maps(weights, &learnt, label)
    }
}

impl GradientMethod for LearntLabels {
    fn first_values(&self, dims: &Dims, labels: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        let mut values = self.method().first_values(dims, labels);
        values.insert(VECTORS.to_string(), labels.vectors.values().to_vec());
        values
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        self.method()
            .loss(weights, &Self::learnt(weights, batch), images)
    }

    fn trains_in_bf16(&self, dims: &Dims) -> bool {
        self.method().trains_in_bf16(dims)
    }

    fn needs_whole_batches(&self) -> bool {
        self.method().needs_whole_batches()
    }

    fn constrain(&self, weights: &mut Weights) {
        self.method().constrain(weights);
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.method().live_values(dims) + 2 * dims.labels
    }
}
