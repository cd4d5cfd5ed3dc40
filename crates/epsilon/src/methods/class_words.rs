//! A classifier's own classes and word vectors, without training (CONSE's idea, over a network's classes): an image is as
//! near to a label as the classes are that the network gives it. With logits z of the network's classes, their vectors v_i and
//! a label's vector v_c, all of unit length: `p = softmax(z / T)`, `s_c = ln sum_i p_i exp(b v_i . v_c)`.

use std::collections::BTreeMap;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::fused::scores::best_match;
use crate::parameters::{Spec, Start, Weights};
use epsilon_data::labels::LabelVectors;

/// The name of the classes' vectors among the weights.
const CLASSES: &str = "class.vectors";
/// Probabilities that vanish altogether would leave a logarithm of zero.
const LEAST: f32 = f32::MIN_POSITIVE;
/// What an image that shows one class alone leaves to all classes together, see [`Method::prototypes`].
const REST: f32 = 0.3;
/// Most prototypes: of a network of many more classes every so many-th has one, for each is as long as there are classes.
const PROTOTYPES: usize = 1000;

/// A classifier's classes and word vectors. The global vector of an image is the network's logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ClassWords {
    /// T, which flattens the network's probabilities.
    pub temperature: f32,
    /// b, how much nearer classes count more than farther ones.
    pub sharpness: f32,
}

impl Default for ClassWords {
    fn default() -> Self {
        Self {
            temperature: 2.0,
            sharpness: 8.0,
        }
    }
}

impl ClassWords {
    /// The weights: vectors `[classes, d_w]` of the classes, of unit length.
    ///
    /// # Errors
    /// [`MethodError`] for settings out of range, and vectors that are not as many and as wide as `dims` says.
    pub fn weights(
        &self,
        dims: &Dims,
        classes: &[f32],
        device: &Device,
    ) -> Result<Weights, MethodError> {
        let values = BTreeMap::from([(CLASSES.to_string(), classes.to_vec())]);
        Ok(Weights::from_values(self.specs(dims)?, values, device)?)
    }
}

impl Method for ClassWords {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        for (name, value) in [
            ("temperature", self.temperature),
            ("sharpness", self.sharpness),
        ] {
            if !(value > 0.0 && value <= 50.0) {
                let setting = format!("{name} = {value}: give more than 0 and at most 50");
                return Err(MethodError::Setting(setting));
            }
        }
        let shape = [dims.global_width(), dims.label_width];
        Ok(vec![
            Spec::new(CLASSES, &shape, Start::Constant(0.0)).kept(),
        ])
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let vectors = self.probabilities(batch).unsqueeze_dim(1);
        self.match_scores(weights, vectors, &batch.label_vectors)
    }

    fn semantic_vectors(&self, _: &Weights, batch: &Batch) -> Option<Tensor<3>> {
        Some(self.probabilities(batch).unsqueeze_dim(1))
    }

    /// `exp(b v_i . v_c)`, `[C, classes]`.
    fn queries(&self, weights: &Weights, labels: &Tensor<2>) -> Tensor<2> {
        let classes: Tensor<2> = weights.get(CLASSES);
        (labels.clone().matmul(classes.transpose()) * self.sharpness).exp()
    }

    fn match_scores(&self, weights: &Weights, vectors: Tensor<3>, labels: &Tensor<2>) -> Tensor<2> {
        let matches = best_match(vectors, &self.queries(weights, labels));
        matches.clamp_min(LEAST).log()
    }

    fn score_of_match(&self, best: f32) -> f32 {
        best.max(LEAST).ln()
    }

    /// For each class, or each of at most 1,000 spread over them, an image that shows it: the network is sure of it but for
    /// a share that all classes have alike.
    fn prototypes(&self, weights: &Weights, _: &LabelVectors) -> Option<Vec<f32>> {
        let [classes, _] = weights.get::<2>(CLASSES).dims();
        let rest = REST / classes as f32;
        let logits = [1.0 - REST + rest, rest].map(|share| self.temperature * share.ln());
        let shown = (0..classes).step_by(classes.div_ceil(PROTOTYPES).max(1));
        let mut rows = vec![logits[1]; shown.len() * classes];
        for (row, class) in rows.chunks_exact_mut(classes).zip(shown) {
            row[class] = logits[0];
        }
        Some(rows)
    }
}

impl ClassWords {
    fn probabilities(&self, batch: &Batch) -> Tensor<2> {
        softmax(batch.global.clone() / self.temperature, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::LabelsOn;
    use crate::batch::Targets;
    use std::sync::Arc;

    #[test]
    fn two_classes_and_two_labels_by_hand() {
        let device = Device::flex();
        let dims = Dims {
            tokens: 1,
            width: 1,
            label_width: 2,
            labels: 0,
            unseen: 0,
            global: Some(2),
        };
        let method = ClassWords {
            temperature: 2.0,
            sharpness: 3.0,
        };
        let weights = method
            .weights(&dims, &[1.0, 0.0, 0.0, 1.0], &device)
            .unwrap();
        let names = ["first".to_string(), "between".to_string()];
        let labels = LabelVectors::new(names.to_vec(), 2, vec![1.0, 0.0, 0.6, 0.8]).unwrap();
        let columns = Arc::new([0, 1]);
        let on = LabelsOn::known_as(Arc::new(labels.clone()), columns, &device);
        // Logits 2 ln 3 and 0 at temperature 2: probabilities 3/4 and 1/4.
        let logits = vec![2.0 * 3.0_f32.ln(), 0.0];
        let batch = on.batch(&dims, 1, vec![0.0], logits, Targets::default());
        let scores: Vec<f32> = method
            .scores(&weights, &batch)
            .into_data()
            .try_to_vec()
            .unwrap();
        let expected = [
            (0.75 * 3.0_f64.exp() + 0.25).ln(),
            (0.75 * 1.8_f64.exp() + 0.25 * 2.4_f64.exp()).ln(),
        ];
        for (score, expected) in scores.iter().zip(expected) {
            assert!((f64::from(*score) - expected).abs() < 1e-5, "{scores:?}");
        }
        // What an index finds is the sum alone, never below 0 but for rounding.
        assert_eq!(method.score_of_match(2.0), 2.0_f32.ln());
        assert_eq!(method.score_of_match(-1e-9), LEAST.ln());
        // Of many classes every third has one.
        let many = 2 * PROTOTYPES + 1;
        let wide = Dims {
            global: Some(many),
            ..dims
        };
        let of_many = method.weights(&wide, &vec![1.0; 2 * many], &device);
        let rows = method.prototypes(&of_many.unwrap(), &labels).unwrap();
        assert_eq!(rows.len(), many / 3 * many);
        for (row, values) in rows.chunks_exact(many).enumerate() {
            assert!(values[3 * row] > values[3 * row + 1], "{row}");
        }
        // The first prototype is nearly the first class: 0.7 + 0.3 / 2 of it.
        let prototypes = method.prototypes(&weights, &labels).unwrap();
        let batch = on.batch(&dims, 2, vec![0.0; 2], prototypes, Targets::default());
        let shares: Vec<f32> = method
            .probabilities(&batch)
            .into_data()
            .try_to_vec()
            .unwrap();
        for (share, expected) in shares.iter().zip([0.85, 0.15, 0.15, 0.85]) {
            assert!((share - expected).abs() < 1e-6, "{shares:?}");
        }
    }
}
