//! CONSE: "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014. A logistic classifier of the seen
//! labels; `f = sum of its T largest probabilities times those labels' vectors / their sum`, `s_c = cos(f, v_c)`.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::input::{Input, unit};
use super::{Classifier, GradientMethod, Loss, Method, MethodError, TrainedLabels};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::loss::Negatives;
use crate::parameters::{Spec, Start, Weights};

/// CONSE's settings; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Conse {
    /// The vector of an image that is classified.
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
    fn classifier(&self) -> Classifier {
        Classifier {
            input: self.input,
            negatives: self.negatives,
        }
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
        let logits = device::host(&self.classifier().logits(weights, batch));
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
        let mut specs = self.classifier().specs(dims);
        let shape = [dims.labels, dims.label_width];
        specs.push(Spec::new("seen.vectors", &shape, Start::Constant(0.0)).kept());
        Ok(specs)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.directions(weights, batch)
            .matmul(batch.label_vectors.clone().transpose())
    }

    fn semantic_vectors(&self, weights: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(self.directions(weights, batch).unsqueeze_dim(1))
    }
}

impl GradientMethod for Conse {
    fn first_values(&self, _: &Dims, labels: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        [("seen.vectors".to_string(), labels.vectors.values().to_vec())].into()
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        self.classifier().cross_entropy(weights, batch, images)
    }

    fn ranks_its_scores(&self) -> bool {
        false
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.classifier().live_values(dims)
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
