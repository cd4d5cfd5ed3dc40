//! Methods that are one matrix over the global vector: CONSE and LabelEM.
//!
//! CONSE: "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014. A logistic classifier of the seen
//! labels; `f = sum of its T largest probabilities times those labels' vectors / their sum`, `s_c = cos(f, v_c)`.
//!
//! LabelEM, also ALE: "Label-Embedding for Image Classification", TPAMI 2016. `s_c = theta' W v_c` with theta the global vector at
//! unit length, trained with the sampled ranking loss WARP; W starts normal with variance 1 / (width of theta).

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::input::{Input, unit};
use super::{Loss, Method, MethodError, TrainedLabels};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::loss::{self, Negatives};
use crate::parameters::{self, Spec, Start, Weights};

/// CONSE's settings; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Conse {
    /// The vector of an image that it reads.
    pub input: Input,
    /// T, how many of the most probable seen labels are combined.
    pub top: usize,
    /// Which labels count as negatives of the classifier; a label that is neither is left out.
    pub negatives: Negatives,
}

impl Default for Conse {
    fn default() -> Self {
        Self {
            input: Input::Global,
            top: 10,
            negatives: Negatives::NotPositive,
        }
    }
}

impl Conse {
    fn logits(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let (weight, bias) = weights.linear("classifier");
        self.input.of(batch).matmul(weight) + bias.unsqueeze()
    }

    /// `f` of one image from its logits and the seen labels' vectors.
    fn combine(&self, logits: &[f32], vectors: &[f32], out: &mut [f32]) {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let mut sum = 0.0;
        for &label in order.iter().take(self.top) {
            let probability = 1.0 / (1.0 + (-logits[label]).exp());
            let vector = &vectors[label * out.len()..][..out.len()];
            out.iter_mut()
                .zip(vector)
                .for_each(|(out, v)| *out += probability * v);
            sum += probability;
        }
        out.iter_mut()
            .for_each(|out| *out /= sum.max(f32::MIN_POSITIVE));
    }

    /// `f` of the images at unit length, `[B, d_w]`.
    fn directions(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let vectors: Tensor<2> = weights.get("seen.vectors");
        let [labels, width] = vectors.dims();
        let logits = device::host(&self.logits(weights, batch));
        let vectors = device::host(&vectors);
        let images = logits.len() / labels.max(1);
        let mut combined = vec![0.0; images * width];
        let rows = logits.chunks_exact(labels.max(1));
        for (logits, out) in rows.zip(combined.chunks_exact_mut(width)) {
            self.combine(logits, &vectors, out);
        }
        let combined = TensorData::new(combined, [images, width]);
        let combined = Tensor::from_data(combined, &batch.label_vectors.device());
        unit(combined)
    }
}

impl Method for Conse {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        if self.top == 0 {
            return Err(MethodError::Setting("top = 0: give at least 1".into()));
        }
        let inputs = self.input.width(dims);
        let mut specs = parameters::linear("classifier", inputs, dims.labels).to_vec();
        let shape = [dims.labels, dims.label_width];
        specs.push(Spec::new("seen.vectors", &shape, Start::Constant(0.0)).kept());
        Ok(specs)
    }

    fn first_values(&self, _: &Dims, labels: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        [("seen.vectors".to_string(), labels.vectors.values().to_vec())].into()
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let logits = self.logits(weights, batch);
        Loss::ranking(
            loss::cross_entropy(logits, &batch.targets, self.negatives),
            images,
        )
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.input.width(dims) + 3 * dims.labels
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.directions(weights, batch)
            .matmul(batch.label_vectors.clone().transpose())
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(self.directions(weights, batch).unsqueeze_dim(1))
    }
}

/// LabelEM's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LabelEm {
    /// The vector of an image that it reads.
    pub input: Input,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for LabelEm {
    fn default() -> Self {
        Self {
            input: Input::Global,
            negatives: Negatives::NotPositive,
        }
    }
}

impl LabelEm {
    /// `theta' W` of the images, `[B, d_w]`.
    fn directions(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        unit(self.input.of(batch)).matmul(weights.get("compatibility.weight"))
    }
}

impl Method for LabelEm {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let inputs = self.input.width(dims);
        let start = Start::Normal(1.0 / (inputs as f32).sqrt());
        Ok(vec![Spec::new(
            "compatibility.weight",
            &[inputs, dims.label_width],
            start,
        )])
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let scores = self.scores(weights, batch);
        let mut rng = batch.draws.rng();
        Loss::ranking(
            loss::warp(scores, &batch.targets, self.negatives, &mut rng),
            images,
        )
    }

    fn live_values(&self, dims: &Dims) -> usize {
        2 * (self.input.width(dims) + dims.label_width + dims.labels)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.directions(weights, batch)
            .matmul(batch.label_vectors.clone().transpose())
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(self.directions(weights, batch).unsqueeze_dim(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_labels_are_combined_by_hand() {
        let conse = Conse {
            top: 2,
            ..Conse::default()
        };
        let mut out = [0.0; 2];
        // Probabilities 1/2, 0 and 3/4; the first and the last count.
        let logits = [0.0, -100.0, 3f32.ln()];
        conse.combine(&logits, &[1.0, 0.0, 9.0, 9.0, 0.0, 1.0], &mut out);
        assert!(
            (out[0] - 0.4).abs() < 1e-6 && (out[1] - 0.6).abs() < 1e-6,
            "{out:?}"
        );
    }
}
