//! Networks and losses against their twin in PyTorch; scaling by hand; a world in which unseen labels can be learnt.

use std::collections::BTreeMap;

use safetensors::SafeTensors;

use rand::SeedableRng;

use super::*;
use crate::batch::Targets;
use crate::device::host;
use crate::ranks::Alone;
use epsilon_data::labels::LabelVectors;

/// What the twin wrote (`tests/methods/reference/make_gen_mlzsl.py`).
struct Twin(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Twin {
    fn read() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/methods/parts/gen-mlzsl.safetensors"
        );
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let read = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let values = view.data().chunks_exact(4);
            let values = values.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            (name, (view.shape().to_vec(), values.collect()))
        };
        Self(file.tensors().into_iter().map(read).collect())
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.0.get(name).unwrap_or_else(|| panic!("{name}")).1
    }

    fn tensor(&self, name: &str) -> Tensor<2> {
        let (shape, values) = &self.0[name];
        let data = TensorData::new(values.clone(), shape.clone());
        Tensor::from_data(data, &Device::flex())
    }

    fn weights(&self, part: &str, specs: Vec<Spec>) -> Weights {
        let value = |spec: &Spec| {
            let (shape, values) = &self.0[&format!("{part}.{}", spec.name)];
            assert_eq!(shape, &spec.shape, "{part}.{}", spec.name);
            (spec.name.clone(), values.clone())
        };
        let values = specs.iter().map(value).collect();
        Weights::from_values(specs, values, &Device::flex()).unwrap()
    }

    fn conditions(&self) -> Conditions {
        let (shape, values) = &self.0["label_vectors"];
        let names = (0..shape[0]).map(|label| label.to_string()).collect();
        let vectors = LabelVectors::new(names, shape[1], values.clone()).unwrap();
        let sets = self.values("labels").chunks_exact(shape[0]);
        let sets: Vec<Vec<usize>> = sets
            .map(|row| (0..row.len()).filter(|&c| row[c] > 0.0).collect())
            .collect();
        let sets: Vec<&[usize]> = sets.iter().map(Vec::as_slice).collect();
        Conditions::new(&sets, &vectors, &Device::flex())
    }

    fn networks(&self, fusion: Fusion) -> Networks {
        Networks {
            fusion,
            heads: 2,
            features: self.0["real"].0[1],
            label_width: self.0["label_vectors"].0[1],
            noise: self.0["noise.generator"].0[1],
            hidden: self.0["critic.critic.fc1.bias"].0[0],
        }
    }

    #[track_caller]
    fn assert_gradients(&self, part: &str, weights: &Weights, loss: Tensor<1>) {
        let gradients = weights.gradients(&mut loss.backward());
        for (spec, gradient) in weights.specs().iter().zip(gradients) {
            let name = format!("grad.{part}.{}", spec.name);
            assert_close(&name, &host(&gradient), self.values(&name), 1e-4);
        }
    }
}

#[track_caller]
fn assert_close(name: &str, ours: &[f32], theirs: &[f32], relative: f32) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let scale = theirs.iter().fold(0f32, |top, v| top.max(v.abs()));
    // A gradient that cancels exactly, as that of the keys' bias does, leaves only rounding.
    let tolerance = if scale < 1e-12 {
        1e-6
    } else {
        relative * scale
    };
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= tolerance, "{name}: {a} and {b}");
    }
}

#[test]
fn drawn_images_equal_the_twins_at_every_level() {
    let twin = Twin::read();
    for (fusion, name) in [
        (Fusion::Attribute, "attribute"),
        (Fusion::Feature, "feature"),
        (Fusion::Cross, "cross"),
    ] {
        let networks = twin.networks(fusion);
        let weights = twin.weights("generator", networks.generator_specs());
        let drawn = networks.draw(&weights, twin.tensor("noise.generator"), &twin.conditions());
        let theirs = twin.values(&format!("drawn.{name}"));
        assert_close(name, &host(&drawn), theirs, 1e-5);
    }
}

/// The twin differentiates the critic by PyTorch's own double backward pass.
#[test]
fn the_critics_loss_and_gradients_equal_the_twins() {
    let twin = Twin::read();
    let weights = twin.weights("critic", twin.networks(Fusion::Cross).critic_specs());
    let weights = weights.tracked();
    let [real, drawn, share] = ["real", "drawn.cross", "share"].map(|name| twin.tensor(name));
    let pooled = twin.conditions().pooled;
    let loss = networks::critic_loss(&weights, real, drawn, share, pooled, 10.0);
    let value: f32 = loss.clone().inner().into_scalar();
    assert_close("loss", &[value], twin.values("loss.critic"), 1e-5);
    twin.assert_gradients("critic", &weights, loss);
}

#[test]
fn the_generators_loss_and_gradients_equal_the_twins() {
    let twin = Twin::read();
    let networks = twin.networks(Fusion::Cross);
    let critic = twin.weights("critic", networks.critic_specs());
    let weights = twin.weights("generator", networks.generator_specs());
    let weights = weights.tracked();
    let noise = ["noise.encoder", "noise.generator"].map(|name| twin.tensor(name));
    let (real, on) = (twin.tensor("real"), twin.conditions());
    let loss = networks.generator_loss(&weights, &critic, &real, &on, &noise, 3.0);
    let value: f32 = loss.clone().inner().into_scalar();
    assert_close("loss", &[value], twin.values("loss.generator"), 1e-5);
    twin.assert_gradients("generator", &weights, loss);
}

/// A world of labels with vectors on a sphere, in which an image is a fixed linear map of the mean vector of its labels,
/// with noise.
struct World {
    seen: LabelVectors,
    unseen: LabelVectors,
    map: Vec<f32>,
    rng: ChaCha8Rng,
}

const WIDTH: usize = 16;
const LABEL_WIDTH: usize = 4;

impl World {
    fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut vectors = |count: usize, kind: &str| {
            let names = (0..count).map(|label| format!("{kind} {label}")).collect();
            let values = (0..count * LABEL_WIDTH).map(|_| standard_normal(&mut rng));
            LabelVectors::new(names, LABEL_WIDTH, values.collect())
                .unwrap()
                .unit()
        };
        let (seen, unseen) = (vectors(14, "seen"), vectors(6, "unseen"));
        let map = (0..LABEL_WIDTH * WIDTH).map(|_| standard_normal(&mut rng));
        Self {
            map: map.collect(),
            seen,
            unseen,
            rng,
        }
    }

    /// Global vectors and labels of images with one or two labels each.
    fn images(&mut self, unseen: bool, count: usize) -> (Vec<f32>, Targets) {
        let vectors = if unseen { &self.unseen } else { &self.seen };
        let mut global = Vec::new();
        let mut targets = vec![-1; count * vectors.len()];
        for (image, targets) in targets.chunks_exact_mut(vectors.len()).enumerate() {
            let set = rand::seq::index::sample(&mut self.rng, vectors.len(), 1 + image % 2);
            let set = set.into_vec();
            set.iter().for_each(|&label| targets[label] = 1);
            for channel in 0..WIDTH {
                let part = |&label: &usize| -> f32 {
                    let row = vectors.row(label).iter();
                    let map = self.map[channel..].iter().step_by(WIDTH);
                    row.zip(map).map(|(v, m)| v * m).sum()
                };
                let mean = set.iter().map(part).sum::<f32>() / set.len() as f32;
                global.push(5.0 + mean + 0.1 * standard_normal(&mut self.rng));
            }
        }
        (global, Targets::new(targets, vectors.len()))
    }

    fn dims(&self) -> Dims {
        Dims {
            tokens: 1,
            width: WIDTH,
            label_width: LABEL_WIDTH,
            labels: self.seen.len(),
            unseen: self.unseen.len(),
            global: None,
        }
    }

    fn batch(&self, global: &[f32], columns: std::ops::Range<usize>) -> Batch {
        let images = global.len() / WIDTH;
        let data = TensorData::new(global.to_vec(), [images, WIDTH]);
        let global: Tensor<2> = Tensor::from_data(data, &Device::flex());
        Batch {
            tokens: global.clone().unsqueeze_dim(1),
            global,
            label_vectors: Tensor::zeros([columns.len(), LABEL_WIDTH], &Device::flex()),
            label_vectors_host: self.unseen.clone().into(),
            targets: Targets::default(),
            columns: columns.collect(),
            precision: Default::default(),
            draws: Default::default(),
        }
    }
}

fn small(fusion: Fusion) -> GenMlzsl {
    GenMlzsl {
        fusion,
        hidden: 64,
        heads: 4,
        epochs: 100,
        batch: 32,
        learning_rate: 1e-3,
        samples: 40,
        classifier_epochs: 100,
        classifier_learning_rate: 5e-2,
        ..GenMlzsl::default()
    }
}

/// The whole training, without the loop around it.
fn solve(method: &GenMlzsl, dims: &Dims, whole: &Whole<'_>) -> Weights {
    let mut stages = method.stages(dims, whole, &Device::flex()).unwrap();
    let mut learners = stages.learners();
    for (epoch, steps) in stages.steps().into_iter().enumerate() {
        for step in 0..steps {
            let loss = stages.step(&mut learners, epoch, step).loss;
            assert!(loss.is_finite());
        }
    }
    stages.weights(&learners).unwrap()
}

/// Share of the pairs of a label that is there and one that is not that are ranked right.
fn right_pairs(scores: &[f32], targets: &Targets) -> f64 {
    let (mut right, mut all) = (0, 0);
    for (scores, row) in scores.chunks_exact(targets.labels()).zip(targets.rows()) {
        for p in (0..row.len()).filter(|&c| row[c] > 0) {
            for n in (0..row.len()).filter(|&c| row[c] < 0) {
                right += usize::from(scores[p] > scores[n]);
                all += 1;
            }
        }
    }
    f64::from(right as u32) / f64::from(all)
}

#[test]
fn unseen_labels_are_learnt_from_drawn_images() {
    let mut world = World::new();
    let (global, targets) = world.images(false, 192);
    let (unseen_global, unseen_targets) = world.images(true, 100);
    let whole = Whole {
        global: &global,
        targets: &targets,
        labels: &world.seen,
        unseen: &world.unseen,
        seed: 1,
        ranks: &Alone,
    };
    for fusion in [Fusion::Attribute, Fusion::Feature, Fusion::Cross] {
        let method = small(fusion);
        let weights = solve(&method, &world.dims(), &whole);
        let scores =
            |global: &[f32], columns| host(&method.scores(&weights, &world.batch(global, columns)));
        let unseen = right_pairs(&scores(&unseen_global, 14..20), &unseen_targets);
        let seen = right_pairs(&scores(&global, 0..14), &targets);
        assert!(unseen > 0.9, "{fusion:?}: unseen {unseen}");
        assert!(seen > 0.9, "{fusion:?}: seen {seen}");
        // Unseen labels alone and among all are scored by different heads.
        let alone = scores(&unseen_global, 14..20);
        let among: Vec<f32> = scores(&unseen_global, 13..20)
            .chunks_exact(7)
            .flat_map(|row| row[1..].to_vec())
            .collect();
        assert_ne!(alone, among);
        // An image's scores do not depend on the others.
        let one = scores(&unseen_global[..WIDTH], 14..20);
        assert_close("alone", &one, &alone[..6], 1e-6);
    }
}

/// Two labels, the second unseen, of images of one channel: `2 x + 1` where it is asked for alone, otherwise `3 x` and `5 x`.
#[test]
fn an_unseen_label_has_a_head_of_its_own() {
    let dims = Dims {
        tokens: 1,
        width: 1,
        label_width: LABEL_WIDTH,
        labels: 1,
        unseen: 1,
        global: None,
    };
    let method = small(Fusion::Attribute);
    let values = [
        ("zsl.weight", vec![2.0]),
        ("zsl.bias", vec![1.0]),
        ("gzsl.weight", vec![3.0, 5.0]),
        ("gzsl.bias", vec![0.0, 0.0]),
    ];
    let values = values.map(|(name, values)| (name.to_string(), values));
    let specs = method.specs(&dims).unwrap();
    let weights = Weights::from_values(specs, values.into(), &Device::flex()).unwrap();
    let world = World::new();
    let scores = |columns: &[usize]| {
        let global: Tensor<2> = Tensor::ones([1, 1], &Device::flex()) * 10.0;
        let batch = Batch {
            global,
            columns: columns.into(),
            ..world.batch(&[0.0; WIDTH], 0..1)
        };
        host(&method.scores(&weights, &batch))
    };
    assert_eq!(scores(&[1]), [21.0]);
    assert_eq!(scores(&[0]), [30.0]);
    assert_eq!(scores(&[1, 0]), [50.0, 30.0]);
}

#[test]
fn the_seed_decides() {
    let mut world = World::new();
    let (global, targets) = world.images(false, 40);
    let solve = |seed: u64| {
        let whole = Whole {
            global: &global,
            targets: &targets,
            labels: &world.seen,
            unseen: &world.unseen,
            seed,
            ranks: &Alone,
        };
        let method = GenMlzsl {
            epochs: 1,
            classifier_epochs: 1,
            ..small(Fusion::Cross)
        };
        host(&super::tests::solve(&method, &world.dims(), &whole).get_flat("zsl.weight"))
    };
    assert_eq!(solve(1), solve(1));
    assert_ne!(solve(1), solve(2));
}

#[test]
fn labels_that_are_not_annotated_are_left_out() {
    let world = World::new();
    let global = vec![0.5; 2 * WIDTH];
    let mut targets = vec![0; 2 * 14];
    targets[0] = 1;
    targets[3] = -1;
    targets[14 + 1] = 1;
    let targets = Targets::new(targets, 14);
    let whole = Whole {
        global: &global,
        targets: &targets,
        labels: &world.seen,
        unseen: &world.unseen,
        seed: 1,
        ranks: &Alone,
    };
    let images = Images::new(&whole, WIDTH);
    let counts = |image: usize| {
        let mut counts = vec![1.0; 20];
        images.annotated(image, &mut counts);
        let counted = (0..20).filter(|&label| counts[label] > 0.0);
        counted.collect::<Vec<_>>()
    };
    assert_eq!(counts(0), [0, 3]);
    assert_eq!(counts(1), [1]);
}

#[test]
fn channels_are_brought_to_0_and_1_and_a_constant_one_to_0() {
    let world = World::new();
    let mut targets = vec![-1; 3 * 14];
    targets[2] = 1;
    targets[28] = 1;
    let targets = Targets::new(targets, 14);
    // The second image has no label and counts for nothing.
    let global = [2.0, 7.0, 90.0, -90.0, 6.0, 7.0];
    let whole = Whole {
        global: &global,
        targets: &targets,
        labels: &world.seen,
        unseen: &world.unseen,
        seed: 1,
        ranks: &Alone,
    };
    let images = Images::new(&whole, 2);
    assert_eq!(images.rows, [0, 2]);
    assert_eq!(images.positives, [[2], [0]]);
    let mut values = Vec::new();
    images.append(0, &mut values);
    images.append(1, &mut values);
    assert_eq!(values, [0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn settings_out_of_range_are_named() {
    let dims = World::new().dims();
    let said = |method: GenMlzsl, dims: &Dims| method.specs(dims).unwrap_err().to_string();
    let wrong = GenMlzsl {
        critic_steps: 0,
        ..small(Fusion::Cross)
    };
    assert!(said(wrong, &dims).contains("critic-steps = 0"));
    let wrong = GenMlzsl {
        penalty: f64::NAN,
        ..small(Fusion::Cross)
    };
    assert!(said(wrong, &dims).contains("penalty = NaN"));
    let wrong = GenMlzsl {
        heads: 5,
        ..small(Fusion::Cross)
    };
    assert!(said(wrong.clone(), &dims).contains("heads = 5"));
    let without = GenMlzsl {
        fusion: Fusion::Feature,
        ..wrong
    };
    assert!(without.specs(&dims).is_ok());
    for (method, expected) in [
        (
            GenMlzsl {
                epochs: usize::MAX,
                ..small(Fusion::Cross)
            },
            "give at most 1000000",
        ),
        (
            GenMlzsl {
                classifier_epochs: usize::MAX,
                ..small(Fusion::Cross)
            },
            "give at most 1000000",
        ),
        (
            GenMlzsl {
                critic_steps: usize::MAX,
                ..small(Fusion::Cross)
            },
            "give at most 1000",
        ),
        (
            GenMlzsl {
                samples: usize::MAX,
                ..small(Fusion::Cross)
            },
            "held in memory",
        ),
    ] {
        let error = said(method, &dims);
        assert!(error.contains(expected), "{error}");
    }
    let none = Dims { unseen: 0, ..dims };
    assert!(said(small(Fusion::Cross), &none).contains("unseen"));
}
