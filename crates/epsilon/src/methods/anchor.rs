//! The anchor: what a backbone's own classes say of any word, as an additional score for any method (ours; no paper has it).
//!
//! A backbone with a classifier's head knows its classes by name. With the names' unit vectors n, a label's unit vector v' of the
//! same file of word vectors, and what the head reads of an image, x:
//! `a_c = sum_i p_i exp(b max_{n in names(i)} n . v'_c)`, `p = softmax((H x + h) / T)`. It is standardised over the labels of an
//! image, z(a), and trained along with a method's scores, `s_c + beta z(a)_c` with beta learnt from 1, or added to them where
//! images are scored, `z(s) + w z(a)`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::input::{Input, columns, unit};
use super::{GradientMethod, LabelMap, Loss, Method, MethodError, TrainedLabels, Vocabulary};
use crate::batch::{Batch, Dims};
use crate::device;
use crate::parameters::{Spec, Start, Weights};

/// The name of beta among the weights of a method that is trained with an anchor.
pub const BETA: &str = "anchor.beta";
/// Labels whose products with all names of classes are held at once.
const LABELS: usize = 256;
/// The largest weight and the largest temperature and sharpness.
const LARGEST: f64 = 50.0;

/// Settings of an anchor, `[anchor]` in a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Anchor {
    /// Whether it is trained along: beta times the anchor is part of the scores that the loss ranks.
    pub trained: bool,
    /// w, its weight where images are scored; 0 for none but what was trained along.
    pub weight: f64,
    /// T, which flattens the network's probabilities.
    pub temperature: f32,
    /// b, how much nearer classes count more than farther ones.
    pub sharpness: f32,
    /// The names of the network's classes, a line for each with its names between commas; ImageNet's 1,000 are built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<PathBuf>,
    /// The file of word vectors that classes and labels are compared by, where it is not that of the labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vectors: Option<PathBuf>,
    /// The words of such a file that contains only numbers: one list per array.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vector_names: Vec<PathBuf>,
}

impl Default for Anchor {
    fn default() -> Self {
        Self {
            trained: false,
            weight: 0.5,
            temperature: 2.0,
            sharpness: 8.0,
            classes: None,
            vectors: None,
            vector_names: Vec::new(),
        }
    }
}

impl Anchor {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`MethodError::Setting`].
    pub fn check(&self) -> Result<(), MethodError> {
        let positive = [
            ("temperature", self.temperature),
            ("sharpness", self.sharpness),
        ];
        for (name, value) in positive {
            if !(value > 0.0 && f64::from(value) <= LARGEST) {
                let setting = format!("{name} = {value}: give more than 0 and at most {LARGEST}");
                return Err(MethodError::Setting(setting));
            }
        }
        if !(0.0..=LARGEST).contains(&self.weight) {
            let setting = format!("weight = {}: give 0 to {LARGEST}", self.weight);
            return Err(MethodError::Setting(setting));
        }
        if self.vectors.is_none() && !self.vector_names.is_empty() {
            let setting = "vector-names: they are the words of `vectors`, which is not given";
            return Err(MethodError::Setting(setting.into()));
        }
        Ok(())
    }

    /// The weights of a method with this anchor: its own, and beta where it is trained along.
    ///
    /// # Errors
    /// Those of [`Method::specs`].
    pub fn specs(&self, method: &dyn Method, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        let mut specs = method.specs(dims)?;
        if self.trained {
            specs.push(Spec::new(BETA, &[1], Start::Constant(1.0)));
        }
        Ok(specs)
    }
}

/// A backbone's classifier and the vectors of its classes' names.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// x, what the classifier reads of an image.
    pub input: Input,
    /// H transposed, row-major `[width of x, classes]`.
    pub weight: Vec<f32>,
    /// h, `[classes]`.
    pub bias: Vec<f32>,
    /// Unit vectors of the classes' names, row-major `[names, d']`.
    pub names: Vec<f32>,
    /// The class of each name.
    pub owners: Vec<usize>,
}

impl Head {
    /// The anchor's scores of labels with these vectors, row-major `[labels, d']`, of any length but 0.
    pub fn on(&self, settings: &Anchor, labels: &[f32], device: &Device) -> AnchorScores {
        let classes = self.bias.len();
        let affinities = self.affinities(settings.sharpness, labels, device);
        let labels = affinities.len() / classes.max(1);
        let inputs = self.weight.len() / classes.max(1);
        let tensor = |values: Vec<f32>, shape: [usize; 2]| {
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        AnchorScores {
            input: self.input,
            temperature: settings.temperature,
            weight: tensor(self.weight.clone(), [inputs, classes]),
            bias: tensor(self.bias.clone(), [1, classes]),
            affinities: tensor(affinities, [labels, classes]).transpose(),
        }
    }

    /// `exp(b max_n n . v')`, row-major `[labels, classes]`. A class without a name that has a vector is as near to every label
    /// as one at a right angle to it.
    fn affinities(&self, sharpness: f32, labels: &[f32], device: &Device) -> Vec<f32> {
        let (classes, names) = (self.bias.len(), self.owners.len());
        if names == 0 {
            return Vec::new();
        }
        let width = self.names.len() / names;
        let tensor = |values: &[f32], rows: usize| -> Tensor<2> {
            Tensor::from_data(TensorData::new(values.to_vec(), [rows, width]), device)
        };
        let of_names = tensor(&self.names, names).transpose();
        let mut affinities = Vec::with_capacity(labels.len() / width * classes);
        for part in labels.chunks(LABELS * width) {
            let part = unit(tensor(part, part.len() / width));
            let products = device::host(&part.matmul(of_names.clone()));
            for row in products.chunks_exact(names) {
                let mut nearest = vec![f32::NEG_INFINITY; classes];
                for (&owner, &product) in self.owners.iter().zip(row) {
                    nearest[owner] = nearest[owner].max(product);
                }
                let nearest = nearest.into_iter();
                let nearest = nearest.map(|near| if near.is_finite() { near } else { 0.0 });
                affinities.extend(nearest.map(|near| (sharpness * near).exp()));
            }
        }
        affinities
    }
}

/// The anchor's scores of a fixed list of labels, on a device.
#[derive(Debug, Clone)]
pub struct AnchorScores {
    input: Input,
    temperature: f32,
    weight: Tensor<2>,
    bias: Tensor<2>,
    /// `[classes, C]`.
    affinities: Tensor<2>,
}

impl AnchorScores {
    /// `a` of the images of a batch, `[B, C]`.
    pub fn of(&self, batch: &Batch) -> Tensor<2> {
        self.probabilities(batch).matmul(self.affinities.clone())
    }

    /// `p` of the images of a batch, `[B, classes]`.
    pub fn probabilities(&self, batch: &Batch) -> Tensor<2> {
        let logits = self.input.of(batch).matmul(self.weight.clone()) + self.bias.clone();
        softmax(logits / self.temperature, 1)
    }

    /// `exp(b max_n n . v')`, `[C, classes]`: a label's product with an image's `p` is its `a`.
    pub fn queries(&self) -> Tensor<2> {
        self.affinities.clone().transpose()
    }
}

/// Every row to mean 0 and standard deviation 1; one of equal values to zeros.
fn standardised(rows: Tensor<2>) -> Tensor<2> {
    let centred = rows.clone() - rows.mean_dim(1);
    let deviation = centred.clone().powf_scalar(2.0).mean_dim(1).sqrt();
    centred / deviation.clamp_min(f32::MIN_POSITIVE)
}

/// A method that is trained along with an anchor: its loss ranks `s + beta z(a)`.
pub struct Anchored<'a> {
    method: &'a dyn GradientMethod,
    anchor: AnchorScores,
    settings: &'a Anchor,
}

impl<'a> Anchored<'a> {
    /// A method with the anchor's scores of the labels that it is trained on.
    pub fn new(method: &'a dyn GradientMethod, settings: &'a Anchor, anchor: AnchorScores) -> Self {
        Self {
            method,
            anchor,
            settings,
        }
    }

    /// `beta z(a)` of the labels of a batch, `[B, C]`, standardised over all labels that are trained on.
    fn added(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        let beta: Tensor<1> = weights.get(BETA);
        let all = standardised(self.anchor.of(batch));
        let of_batch = match all.dims()[1] == batch.columns.len() {
            true => all,
            false => columns(all, batch),
        };
        of_batch * beta.reshape([1, 1])
    }
}

impl Method for Anchored<'_> {
    fn vocabulary(&self) -> Vocabulary {
        self.method.vocabulary()
    }

    fn reads_label_vectors(&self) -> bool {
        self.method.reads_label_vectors()
    }

    fn specs(&self, dims: &Dims) -> Result<Vec<Spec>, MethodError> {
        self.settings.specs(self.method, dims)
    }

    /// Of the labels that it is trained on.
    fn scores(&self, weights: &Weights, batch: &Batch) -> Tensor<2> {
        self.method.scores(weights, batch) + self.added(weights, batch)
    }

    fn maps(&self, weights: &Weights, batch: &Batch, label: usize) -> Vec<LabelMap> {
        self.method.maps(weights, batch, label)
    }
}

impl GradientMethod for Anchored<'_> {
    fn first_values(&self, dims: &Dims, labels: &TrainedLabels<'_>) -> BTreeMap<String, Vec<f32>> {
        self.method.first_values(dims, labels)
    }

    fn loss(&self, weights: &Weights, batch: &Batch, images: usize) -> Loss {
        let added = self.added(weights, batch);
        let batch = Batch {
            targets: batch.targets.ranked_with(added),
            ..batch.clone()
        };
        self.method.loss(weights, &batch, images)
    }

    fn ranks_its_scores(&self) -> bool {
        self.method.ranks_its_scores()
    }

    fn trains_in_bf16(&self, dims: &Dims) -> bool {
        self.method.trains_in_bf16(dims)
    }

    fn needs_whole_batches(&self) -> bool {
        self.method.needs_whole_batches()
    }

    fn constrain(&self, weights: &mut Weights) {
        self.method.constrain(weights);
    }

    fn live_values(&self, dims: &Dims) -> usize {
        self.method.live_values(dims) + 2 * dims.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{LabelsOn, Targets};
    use crate::methods::Kind;
    use epsilon_data::labels::LabelVectors;
    use std::sync::Arc;

    const DIMS: Dims = Dims {
        tokens: 1,
        width: 2,
        label_width: 2,
        labels: 3,
        unseen: 0,
        global: None,
    };

    fn head() -> Head {
        Head {
            input: Input::Global,
            // Logits: the global vector itself.
            weight: vec![1.0, 0.0, 0.0, 1.0],
            bias: vec![0.0, 0.0],
            // Two names of the first class, one of the second.
            names: vec![1.0, 0.0, 0.6, 0.8, 0.0, -1.0],
            owners: vec![0, 0, 1],
        }
    }

    fn labels() -> LabelVectors {
        let names = ["a", "b", "c"].map(String::from).to_vec();
        LabelVectors::new(names, 2, vec![1.0, 0.0, 0.0, 1.0, 0.0, -1.0]).unwrap()
    }

    fn batch(targets: Vec<i8>) -> Batch {
        let on = LabelsOn::new(Arc::new(labels()), &Device::flex());
        // Probabilities 3/4 and 1/4 at temperature 2, then even ones.
        let global = vec![2.0 * 3.0_f32.ln(), 0.0, 1.0, 1.0];
        on.batch(&DIMS, 2, vec![0.5; 4], global, Targets::new(targets, 3))
    }

    fn anchor() -> Anchor {
        Anchor {
            trained: true,
            sharpness: 2.0,
            ..Anchor::default()
        }
    }

    #[test]
    fn scores_by_hand() {
        // Any length of a label's vector will do.
        let vectors: Vec<f32> = labels().values().iter().map(|v| 3.0 * v).collect();
        let scores = head().on(&anchor(), &vectors, &Device::flex());
        let found = device::host(&scores.of(&batch(vec![1, -1, -1, 1, -1, -1])));
        // The first class is 1, 0.8 and 0 from the labels by its nearest name, the second 0, -1 and 1.
        let near = [[1.0, 0.8, 0.0], [0.0, -1.0, 1.0]].map(|row| row.map(|c: f64| (2.0 * c).exp()));
        for (image, p) in [[0.75, 0.25], [0.5, 0.5]].iter().enumerate() {
            for label in 0..3 {
                let expected = p[0] * near[0][label] + p[1] * near[1][label];
                let apart = f64::from(found[3 * image + label]) - expected;
                assert!(apart.abs() < 1e-5, "{found:?}");
            }
        }
        let z = device::host(&standardised(scores.of(&batch(vec![1, -1, -1, 1, -1, -1]))));
        assert!((z[..3].iter().sum::<f32>()).abs() < 1e-5);
        assert!((z[..3].iter().map(|v| v * v).sum::<f32>() - 3.0).abs() < 1e-4);
        let equal = Tensor::<2>::from_data([[2.0, 2.0]], &Device::flex());
        assert_eq!(device::host(&standardised(equal)), [0.0, 0.0]);
    }

    /// Every ranking loss adds the anchor's scores, so that beta has the gradient of each.
    #[test]
    fn betas_gradient_by_finite_differences() {
        let kinds = [
            r#"{"kind": "fast0tag", "hidden": [4], "dropout": 0.0}"#,
            r#"{"kind": "sdl", "rows": 2}"#,
            r#"{"kind": "bilinear-attention", "rank": 4}"#,
            r#"{"kind": "logistic"}"#,
            r#"{"kind": "label-em"}"#,
        ];
        let settings = anchor();
        for kind in kinds {
            let kind: Kind = serde_json::from_str(kind).unwrap();
            let crate::methods::Fitting::Gradient(method) = kind.fitting() else {
                panic!("trained step by step");
            };
            let scores = head().on(&settings, labels().values(), &Device::flex());
            let anchored = Anchored::new(method, &settings, scores);
            let mut rng = crate::batch::Draws::of(1, 0, 0).rng();
            let specs = anchored.specs(&DIMS).unwrap();
            let weights = Weights::draw(specs, &mut rng, &Device::flex());
            let batch = batch(vec![-1, 1, -1, 1, -1, 1]);
            let loss = |beta: f32| {
                let mut weights = weights.clone();
                weights.set_host(BETA, vec![beta], &Device::flex());
                let loss = anchored.loss(&weights.tracked(), &batch, 2);
                loss.ranking + loss.regularisation
            };
            let tracked = weights.tracked();
            let mut gradients = anchored.loss(&tracked, &batch, 2).total.backward();
            let gradient = tracked.gradients(&mut gradients).pop().unwrap();
            let gradient = f64::from(device::host(&gradient)[0]);
            let slope = (loss(1.01) - loss(0.99)) / 0.02;
            let name = kind.name();
            assert!(gradient.abs() > 1e-3, "{name}: {gradient}");
            assert!(
                (slope - gradient).abs() < 1e-2 * gradient.abs(),
                "{name}: {slope} {gradient}"
            );
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let wrong = |anchor: Anchor| anchor.check().unwrap_err().to_string();
        let default = Anchor::default;
        assert!(
            wrong(Anchor {
                weight: -1.0,
                ..default()
            })
            .contains("weight = -1")
        );
        assert!(
            wrong(Anchor {
                temperature: 0.0,
                ..default()
            })
            .contains("temperature")
        );
        assert!(
            wrong(Anchor {
                sharpness: f32::NAN,
                ..default()
            })
            .contains("sharpness")
        );
        let names = vec!["words.txt".into()];
        assert!(
            wrong(Anchor {
                vector_names: names,
                ..default()
            })
            .contains("vector-names")
        );
        assert!(default().check().is_ok());
    }
}
