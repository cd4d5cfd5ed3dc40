//! Bilinear attention (Kim et al.), which is also "one attention per label": every label looks at the tokens for itself.
//!
//! Source: "Bilinear Attention Networks", NeurIPS 2018, in the form of the comparison of LESA (CVPR 2020):
//! `e_ic = h . (relu(U r_i) * relu(V v_c))`, `a_c = softmax_i(e_ic)`, `z_c = sum_i a_ic r_i`, `s_c = z_c' W v_c`.
//!
//! Both the logits and the scores are matches of something of the tokens with something of the labels, so `z_c`, a vector for
//! every label of every image, is never computed: `s_c = sum_i a_ic (r_i' W v_c)`, with whichever of `r_i' W` and `W v_c` takes
//! fewer operations.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use super::layers::{product, product_spec};
use super::{GradientMethod, LabelMap, Loss, Method, MethodError};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::fused::linear::leaky;
use crate::fused::pooled::{Pair, attended};
use crate::fused::scores;
use crate::loss::{self, Negatives};
use crate::parameters::{Spec, Start, Weights};

/// Bilinear attention's settings; the defaults are LESA's for this method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct BilinearAttention {
    /// Width of the space in which tokens and labels meet.
    pub rank: usize,
    /// Which labels count as negatives.
    pub negatives: Negatives,
}

impl Default for BilinearAttention {
    fn default() -> Self {
        Self {
            rank: 512,
            negatives: Negatives::Annotated,
        }
    }
}

impl Method for BilinearAttention {
    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        if self.rank == 0 {
            return Err(MethodError::Setting("rank = 0: give at least 1".into()));
        }
        Ok(vec![
            product_spec("tokens", dims.width, self.rank),
            product_spec("labels", dims.label_width, self.rank),
            Spec::new("attention.weight", &[self.rank], Start::linear(self.rank)),
            product_spec("score", dims.width, dims.label_width),
        ])
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let [images, tokens, width] = batch.tokens.dims();
        let [labels, label_width] = batch.label_vectors.dims();
        let value = match on_labels([images * tokens, width], [labels, label_width]) {
            true => Pair {
                tokens: batch.tokens.clone(),
                labels: batch
                    .label_vectors
                    .clone()
                    .matmul(weights.get::<2>("score.weight").transpose()),
            },
            false => Pair {
                tokens: product(weights, "score", batch.tokens.clone()),
                labels: batch.label_vectors.clone(),
            },
        };
        attended(value, logit(weights, batch))
    }

    /// The label's own attention.
    fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        let Pair { tokens, labels } = logit(weights, batch);
        let logits = scores::matches(tokens, &labels.narrow(0, label, 1));
        let shares = softmax(logits.narrow(0, 0, 1), 1);
        let map = LabelMap::new("attention", None, device::host(&shares));
        map.into_iter().collect()
    }
}

impl GradientMethod for BilinearAttention {
    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let scores = self.scores(weights, batch);
        Loss::ranking(loss::hinge(scores, &batch.targets, self.negatives), images)
    }

    fn live_values(&self, dims: &Dims) -> usize {
        dims.tokens * (4 * self.rank + 3 * dims.label_width) + 3 * dims.labels
    }
}

/// Whether `R (W V')` takes fewer operations than `(R W) V'`, of matrices R and V of these shapes.
fn on_labels([rows, width]: [usize; 2], [labels, label_width]: [usize; 2]) -> bool {
    labels * width * (label_width + rows) < rows * label_width * (width + labels)
}

/// What the attention's logits are the matches of.
fn logit(weights: &Weights, batch: &Batch) -> Pair {
    let attention: Tensor<1> = weights.get("attention.weight");
    let none = attention.clone().inner().zeros_like();
    let side = |x: Tensor<3>, name: &str| leaky(x, weights.get(name), none.clone(), 0.0);
    let labels = side(
        batch.label_vectors.clone().unsqueeze_dim(0),
        "labels.weight",
    );
    Pair {
        tokens: side(batch.tokens.clone(), "tokens.weight"),
        labels: labels.squeeze_dim::<2>(0) * attention.unsqueeze(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With 3 tokens of width 4 and labels of width 5: 7 labels cost 224 operations the one way, 165 the other.
    #[test]
    fn few_labels_take_the_map() {
        assert!(on_labels([3, 4], [3, 5]));
        assert!(!on_labels([3, 4], [7, 5]));
        // 16 images of 196 tokens.
        assert!(on_labels([3136, 768], [194, 300]));
        assert!(!on_labels([3136, 768], [7586, 300]));
    }
}
