//! Variations of a training step that every method by label vectors can have; the papers have none. Labels are left out at
//! random, and label vectors are moved, so that a method cannot know the labels that it is trained on by heart; and beside the
//! labels of an image the images of a label are ranked, because average precision ranks those.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::input::{numbers, unit};
use super::{GradientMethod, LabelMap, Loss, Method, MethodError, TrainedLabels, Vocabulary};
use crate::batch::{Batch, Dims};
use crate::parameters::{Spec, Weights, standard_normal};

/// Fewest labels that label dropout leaves.
const FEWEST: usize = 2;

/// What varies in a training step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Variation {
    /// Share of the labels that a step leaves out of its loss.
    pub label_dropout: f64,
    /// Length, about, of the random vector that is added in a step to each label's unit vector, which is then brought back to
    /// unit length.
    pub label_noise: f64,
    /// Weight of the loss that ranks the images of a label, see [`crate::batch::Targets::ranking_images`].
    pub image_ranking: f64,
}

/// A method whose training steps vary.
pub struct Varied<'a> {
    method: &'a dyn GradientMethod,
    variation: Variation,
}

impl Variation {
    /// Whether nothing varies.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// A sentence that names the value.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.label_dropout) {
            let share = self.label_dropout;
            return Err(format!(
                "label-dropout = {share}: give a share from 0 to below 1"
            ));
        }
        for (name, value) in [
            ("label-noise", self.label_noise),
            ("image-ranking", self.image_ranking),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(format!("{name} = {value}: give 0 or more"));
            }
        }
        Ok(())
    }
}

impl<'a> Varied<'a> {
    /// A method with this variation.
    ///
    /// # Errors
    /// [`MethodError::Setting`] for a method whose loss does not rank scores by label vectors.
    pub fn new(method: &'a dyn GradientMethod, variation: Variation) -> Result<Self, MethodError> {
        if method.vocabulary() == Vocabulary::Open && method.ranks_its_scores() {
            return Ok(Self { method, variation });
        }
        let reason = "label-dropout, label-noise, image-ranking: the loss of this method does not rank labels by their vectors";
        Err(MethodError::Setting(reason.into()))
    }

    /// The batch of a step with what varies.
    fn varied(&self, batch: &Batch) -> Batch {
        let mut rng = batch.draws.apart().rng();
        let mut varied = batch.clone();
        if self.variation.label_dropout > 0.0 {
            varied = self.thinned(&varied, &mut rng);
        }
        if self.variation.label_noise > 0.0 {
            varied.label_vectors = self.moved(varied.label_vectors, &mut rng);
        }
        varied.targets = varied.targets.ranking_images(self.variation.image_ranking);
        varied
    }

    /// Some of the labels alone.
    fn thinned(&self, batch: &Batch, rng: &mut ChaCha8Rng) -> Batch {
        let count = batch.columns.len();
        let kept = ((1.0 - self.variation.label_dropout) * count as f64).round() as usize;
        let kept = kept.max(FEWEST.min(count));
        let mut kept = rand::seq::index::sample(rng, count, kept).into_vec();
        kept.sort_unstable();
        let chosen = numbers(&kept, &batch.label_vectors.device());
        let host = batch.label_vectors_host.select(&kept);
        Batch {
            label_vectors: batch.label_vectors.clone().select(0, chosen),
            label_vectors_host: host.map_or_else(|_| batch.label_vectors_host.clone(), Into::into),
            columns: kept.iter().map(|&label| batch.columns[label]).collect(),
            targets: batch.targets.select(&kept),
            ..batch.clone()
        }
    }

    /// Unit vectors `[C, d_w]` near these.
    fn moved(&self, vectors: Tensor<2>, rng: &mut ChaCha8Rng) -> Tensor<2> {
        let [labels, width] = vectors.dims();
        let scale = (self.variation.label_noise / (width as f64).sqrt()) as f32;
        let noise = (0..labels * width).map(|_| scale * standard_normal(rng));
        let noise = TensorData::new(noise.collect::<Vec<f32>>(), [labels, width]);
        unit(vectors.clone() + Tensor::from_data(noise, &vectors.device()))
    }
}

impl Method for Varied<'_> {
    fn vocabulary(&self) -> Vocabulary {
        self.method.vocabulary()
    }

    fn reads_label_vectors(&self) -> bool {
        self.method.reads_label_vectors()
    }

    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        self.method.specs(dims)
    }

    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.method.scores(weights, batch)
    }

    fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        self.method.maps(weights, batch, label)
    }
}

impl GradientMethod for Varied<'_> {
    fn first_values(&self, dims: &Dims, labels: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        self.method.first_values(dims, labels)
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        self.method.loss(weights, &self.varied(batch), images)
    }

    fn trains_in_bf16(&self, dims: &Dims) -> bool {
        self.method.trains_in_bf16(dims)
    }

    /// Images are ranked among those of a batch.
    fn needs_whole_batches(&self) -> bool {
        self.variation.image_ranking > 0.0 || self.method.needs_whole_batches()
    }

    fn constrain(&self, weights: &mut Weights) {
        self.method.constrain(weights);
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.method.live_values(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Draws, LabelsOn, Targets};
    use crate::device;
    use crate::methods::{Fitting, Kind};
    use burn::tensor::Device;
    use epsilon_data::labels::LabelVectors;
    use std::sync::Arc;

    const LABELS: usize = 10;
    const IMAGES: usize = 3;

    fn dims() -> Dims {
        Dims {
            tokens: 1,
            width: 4,
            label_width: 3,
            labels: LABELS,
            unseen: 0,
            global: None,
        }
    }

    fn batch() -> Batch {
        let names = (0..LABELS).map(|label| format!("label {label}"));
        let mut rng = Draws::of(5, 0, 0).rng();
        let mut draw =
            |count: usize| -> Vec<f32> { (0..count).map(|_| standard_normal(&mut rng)).collect() };
        let vectors = LabelVectors::new(names.collect(), 3, draw(LABELS * 3)).unwrap();
        let on = LabelsOn::new(Arc::new(vectors.unit()), &Device::flex());
        let targets = (0..IMAGES * LABELS).map(|at| if at % 4 == 0 { 1 } else { -1 });
        let targets = Targets::new(targets.collect(), LABELS);
        let (tokens, global) = (draw(IMAGES * 4), draw(IMAGES * 4));
        on.batch(&dims(), IMAGES, tokens, global, targets)
    }

    fn kind() -> Kind {
        serde_json::from_str(r#"{"kind": "fast0tag", "hidden": [], "dropout": 0.0}"#).unwrap()
    }

    fn varied(kind: &Kind, variation: Variation) -> Varied<'_> {
        let Fitting::Gradient(method) = kind.fitting() else {
            panic!("trained step by step");
        };
        Varied::new(method, variation).unwrap()
    }

    #[test]
    fn labels_are_left_out_with_their_targets_and_what_is_added() {
        let kind = kind();
        let of = varied(
            &kind,
            Variation {
                label_dropout: 0.4,
                ..Variation::default()
            },
        );
        let mut batch = batch();
        let added: Vec<f32> = (0..IMAGES * LABELS).map(|at| at as f32).collect();
        let added = Tensor::from_data(TensorData::new(added, [IMAGES, LABELS]), &Device::flex());
        batch.targets = batch.targets.ranked_with(added);
        let thin = of.varied(&batch);
        assert_eq!(thin.columns.len(), 6);
        let zeros = Tensor::zeros([IMAGES, 6], &Device::flex());
        let added = device::host(&thin.targets.ranked(zeros));
        for (place, &label) in thin.columns.iter().enumerate() {
            assert_eq!(
                thin.label_vectors_host.row(place),
                batch.label_vectors_host.row(label)
            );
            for image in 0..IMAGES {
                assert_eq!(
                    thin.targets.row(image)[place],
                    batch.targets.row(image)[label]
                );
                assert_eq!(added[image * 6 + place], (image * LABELS + label) as f32);
            }
        }
        let kept = thin.columns.clone();
        assert_eq!(
            of.varied(&batch).columns,
            kept,
            "the same step draws the same"
        );
        batch.draws = Draws::of(1, 1, 0);
        assert_ne!(of.varied(&batch).columns, kept);
    }

    #[test]
    fn noise_keeps_the_length_and_moves_as_far_as_it_says() {
        let kind = kind();
        let of = varied(
            &kind,
            Variation {
                label_noise: 0.1,
                ..Variation::default()
            },
        );
        let batch = batch();
        let moved = device::host(&of.varied(&batch).label_vectors);
        let before = batch.label_vectors_host.values();
        let apart = moved.chunks(3).zip(before.chunks(3)).map(|(a, b)| {
            assert!((a.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
            a.iter()
                .zip(b)
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f32>()
                .sqrt()
        });
        let apart: Vec<f32> = apart.collect();
        let mean = apart.iter().sum::<f32>() / apart.len() as f32;
        assert!((0.03..0.2).contains(&mean), "{apart:?}");
    }

    /// The loss with images ranked beside labels is the sum of both, and its gradient that of both.
    #[test]
    fn images_are_ranked_beside_labels() {
        let kind = kind();
        let with = |weight: f64| {
            let variation = Variation {
                image_ranking: weight,
                ..Variation::default()
            };
            let method = varied(&kind, variation);
            assert_eq!(method.needs_whole_batches(), weight > 0.0);
            let specs = method.specs(&dims()).unwrap();
            let weights = Weights::draw(specs, &mut Draws::of(2, 0, 0).rng(), &Device::flex());
            let loss = move |weights: &Weights| method.loss(weights, &batch(), IMAGES);
            (weights, loss)
        };
        let value = |weight: f64| {
            let (weights, loss) = with(weight);
            loss(&weights.tracked()).ranking
        };
        let (none, one, two) = (value(0.0), value(1.0), value(2.0));
        assert!(one > none && (two - none - 2.0 * (one - none)).abs() < 1e-6);

        let (weights, loss) = with(1.0);
        let tracked = weights.tracked();
        let gradients = tracked.gradients(&mut loss(&tracked).total.backward());
        let names: Vec<String> = weights.specs().iter().map(|s| s.name.clone()).collect();
        let moved = |by: f32| {
            let mut weights = weights.clone();
            for (name, gradient) in names.iter().zip(&gradients) {
                let value = weights.get_flat(name) + gradient.clone() * by;
                weights.set(name, value);
            }
            loss(&weights.tracked()).ranking
        };
        let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
        let squares = gradients.iter().flat_map(device::host);
        let squares: f64 = squares.map(|g| f64::from(g).powi(2)).sum();
        assert!(
            (slope - squares).abs() < 1e-2 * squares,
            "{slope} {squares}"
        );
    }

    #[test]
    fn methods_that_go_by_no_vectors_and_values_out_of_range_are_refused() {
        let kind: Kind = serde_json::from_str(r#"{"kind": "logistic"}"#).unwrap();
        let Fitting::Gradient(method) = kind.fitting() else {
            panic!("trained step by step");
        };
        assert!(Varied::new(method, Variation::default()).is_err());
        let wrong = |variation: Variation| variation.check().unwrap_err();
        let none = Variation::default();
        assert!(
            wrong(Variation {
                label_dropout: 1.0,
                ..none
            })
            .contains("label-dropout = 1")
        );
        assert!(
            wrong(Variation {
                label_noise: -1.0,
                ..none
            })
            .contains("label-noise = -1")
        );
        assert!(
            wrong(Variation {
                image_ranking: f64::NAN,
                ..none
            })
            .contains("image-ranking")
        );
    }
}
