//! Epsilon against its PyTorch twin (`reference/epsilon_twin.py`): every intermediate, every gradient, and the loss
//! over twenty Adam steps, for every setting.

#[path = "common/device.rs"]
mod device;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use device::device;
use epsilon::batch::{Batch, Dims, Draws, Targets, TrainingPrecision};
use epsilon::labels::LabelVectors;
use epsilon::loss::{self, Negatives, PairWeight};
use epsilon::methods::epsilon::{
    Epsilon, GlobalSource, GroupScore, Modules, RefinementScale, RefinementSoftmax,
};
use epsilon::methods::{GradientMethod, Method};
use epsilon::optimiser::{Optimiser, OptimiserSettings};
use epsilon::parameters::Weights;
use safetensors::{Dtype, SafeTensors};

const SETTINGS: [&str; 14] = [
    "base",
    "hidden_default",
    "one_group",
    "depth_0",
    "depth_2",
    "unscaled",
    "softmax_over_groups",
    "copies",
    "shared_mlp",
    "log_sum_exp",
    "alpha_positives",
    "labelled_negatives",
    "gpa_only",
    "gfp_only",
];

struct Fixture {
    config: serde_json::Value,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    labels: Vec<i8>,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/reference/fixtures")
            .join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = &header.metadata().as_ref().unwrap()["config"];
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = BTreeMap::new();
        let mut labels = Vec::new();
        for (name, view) in file.tensors() {
            if view.dtype() == Dtype::I8 {
                labels = view.data().iter().map(|&b| b as i8).collect();
                continue;
            }
            let values = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            tensors.insert(name.clone(), (view.shape().to_vec(), values.collect()));
        }
        Self {
            config: serde_json::from_str(config).unwrap(),
            tensors,
            labels,
        }
    }

    fn size(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap() as usize
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.config[key] == value
    }

    fn settings(&self) -> Epsilon {
        Epsilon {
            groups: self.size("groups"),
            depth: self.size("depth"),
            heads: Some(self.size("heads")),
            with_cls: false,
            token_dropout: 0.0,
            dropout: 0.0,
            fuser_rank: None,
            binary_offset: None,
            global_branch: None,
            refinement_scale: if self.config["scaled"] == true {
                RefinementScale::Sqrt
            } else {
                RefinementScale::None
            },
            refinement_softmax: if self.is("softmax_over", "tokens") {
                RefinementSoftmax::Tokens
            } else {
                RefinementSoftmax::Groups
            },
            global_source: if self.is("global_blocks", "split") {
                GlobalSource::Split
            } else {
                GlobalSource::Copies
            },
            hidden: Some(self.size("hidden")),
            shared_mlp: self.config["shared_mlp"] == true,
            modules: match self.config["parts"].as_str().unwrap() {
                "gpa" => Modules::Gpa,
                "gfp" => Modules::Gfp,
                _ => Modules::Both,
            },
            score: if self.is("score", "max") {
                GroupScore::Max
            } else {
                GroupScore::LogSumExp
            },
            lambda: self.config["lambda"].as_f64().unwrap(),
            alpha: if self.is("alpha", "pairs") {
                PairWeight::PositivesNegatives
            } else {
                PairWeight::Positives
            },
            negatives: if self.is("negatives", "not_positive") {
                Negatives::NotPositive
            } else {
                Negatives::Annotated
            },
        }
    }

    fn dims(&self) -> Dims {
        Dims {
            tokens: self.tensors["tokens"].0[1],
            width: self.size("dim"),
            label_width: self.size("label_dim"),
            labels: self.tensors["label_vectors"].0[0],
            unseen: 0,
            global: None,
        }
    }

    /// Values of `param.NAME` or `grad.NAME` in the shape of our weight of that name: the twin keeps GFP's split as
    /// one linear map `[D, M D]`, we keep a map `[D, D]` a group.
    fn weight(&self, kind: &str, name: &str) -> Vec<f32> {
        let (shape, values) = &self.tensors[&format!("{kind}.{name}")];
        if name != "gfp.split.weight" {
            return values.clone();
        }
        let (width, groups) = (shape[0], shape[1] / shape[0]);
        let mut out = Vec::with_capacity(values.len());
        for group in 0..groups {
            for row in values.chunks_exact(groups * width) {
                out.extend_from_slice(&row[group * width..][..width]);
            }
        }
        out
    }

    fn weights(&self, settings: &Epsilon) -> Weights {
        let specs = settings.specs(&self.dims()).unwrap();
        let values = specs
            .iter()
            .map(|s| (s.name.clone(), self.weight("param", &s.name)))
            .collect();
        Weights::from_values(specs, values, &device()).unwrap()
    }

    fn tensor<const R: usize>(&self, name: &str) -> Tensor<R> {
        let (shape, values) = &self.tensors[name];
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), &device())
    }

    fn label_vectors(&self) -> Arc<LabelVectors> {
        let (shape, values) = &self.tensors["label_vectors"];
        let names = (0..shape[0]).map(|c| format!("label {c}")).collect();
        Arc::new(LabelVectors::new(names, shape[1], values.clone()).unwrap())
    }

    /// All images, or only those with a positive label.
    fn batch(&self, kept: bool) -> Batch {
        let tokens: Tensor<3> = self.tensor("tokens");
        let labels = self.tensors["label_vectors"].0[0];
        let rows: Vec<&[i8]> = self.labels.chunks_exact(labels).collect();
        let chosen: Vec<usize> = (0..rows.len())
            .filter(|&i| !kept || rows[i].iter().any(|&l| l > 0))
            .collect();
        let tokens = Tensor::cat(
            chosen
                .iter()
                .map(|&i| tokens.clone().narrow(0, i, 1))
                .collect(),
            0,
        );
        let targets = chosen
            .iter()
            .flat_map(|&i| rows[i].iter().copied())
            .collect();
        Batch {
            global: tokens.clone().narrow(1, 0, 1).squeeze_dim(1),
            tokens,
            label_vectors: self.tensor("label_vectors"),
            label_vectors_host: self.label_vectors(),
            targets: Targets::new(targets, labels),
            columns: (0..labels).collect(),
            precision: TrainingPrecision::F32,
            draws: Draws::default(),
        }
    }

    #[track_caller]
    fn close<const R: usize>(&self, name: &str, ours: Tensor<R>, relative: f32) {
        let (shape, theirs) = &self.tensors[name];
        assert_eq!(&ours.dims()[..], &shape[..], "{name}");
        let ours: Vec<f32> = ours.to_data().try_to_vec().unwrap();
        assert_close(name, &ours, theirs, relative);
    }
}

#[track_caller]
fn assert_close(name: &str, ours: &[f32], theirs: &[f32], relative: f32) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let scale = theirs.iter().fold(0.0f32, |top, v| top.max(v.abs()));
    // A gradient that cancels exactly is about 1e-17 there; rounding is all that is left of it here.
    let tolerance = if scale < 1e-12 {
        1e-6
    } else {
        relative * scale
    };
    let worst = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .max_by(f32::total_cmp)
        .unwrap_or_default();
    assert!(worst <= tolerance, "{name}: {worst} apart at scale {scale}");
}

#[test]
fn every_intermediate_within_1e_5() {
    for name in SETTINGS {
        let fixture = Fixture::read(name);
        let settings = fixture.settings();
        let weights = fixture.weights(&settings);
        let batch = fixture.batch(false);
        let semantics = settings.semantics(&weights, &batch);
        if let Some(refined) = semantics.refined {
            let [images, ..] = semantics.vectors.dims();
            let [_, groups, width] = refined.prompts.dims();
            let prompts = refined.prompts.expand([images, groups, width]);
            fixture.close("out.prompts_encoded", prompts, 1e-5);
            fixture.close("out.attention", refined.attention, 1e-5);
            fixture.close("out.grs", refined.semantics, 1e-5);
        }
        if let Some(global) = semantics.global {
            fixture.close("out.gos", global, 1e-5);
        }
        let scores = settings.match_labels(&semantics.vectors, &batch.label_vectors);
        fixture.close("out.semantics", semantics.vectors, 1e-5);
        fixture.close("out.scores", scores, 1e-5);
    }
}

#[test]
fn loss_and_every_gradient_within_1e_4() {
    for name in SETTINGS {
        let fixture = Fixture::read(name);
        let settings = fixture.settings();
        let weights = fixture.weights(&settings).tracked();
        let batch = fixture.batch(true);
        let images = batch.tokens.dims()[0];

        let omega = loss::omega(&batch.targets, &batch.label_vectors_host);
        assert_close("out.omega", &omega, &fixture.tensors["out.omega"].1, 1e-5);
        let semantics = settings.semantics(&weights, &batch).vectors.inner();
        fixture.close("out.reg_loss", loss::group_variance(semantics), 1e-5);

        let loss = settings.loss(&weights, &batch, images);
        let total = [(loss.ranking + loss.regularisation) as f32];
        assert_close("out.loss", &total, &fixture.tensors["out.loss"].1, 1e-5);
        let mut gradients = loss.total.backward();
        for (spec, ours) in weights
            .specs()
            .iter()
            .zip(weights.gradients(&mut gradients))
        {
            let ours: Vec<f32> = ours.to_data().try_to_vec().unwrap();
            let label = format!("{name}: gradient of {}", spec.name);
            assert_close(&label, &ours, &fixture.weight("grad", &spec.name), 1e-4);
        }
    }
}

#[test]
fn losses_over_twenty_adam_steps_within_1e_3() {
    let fixture = Fixture::read("base");
    let settings = fixture.settings();
    let mut weights = fixture.weights(&settings);
    let batch = fixture.batch(true);
    let images = batch.tokens.dims()[0];
    let mut adam = Optimiser::new(OptimiserSettings::default(), &weights);
    for (step, &theirs) in fixture.tensors["out.adam_losses"].1.iter().enumerate() {
        let tracked = weights.tracked();
        let loss = settings.loss(&tracked, &batch, images);
        let ours = (loss.ranking + loss.regularisation) as f32;
        assert!(
            (ours - theirs).abs() <= 1e-3 * theirs.abs(),
            "step {step}: {ours} and {theirs}"
        );
        let gradients = tracked.gradients(&mut loss.total.backward());
        adam.step(&mut weights, gradients, 1e-3);
    }
}

/// The parts of a batch give the whole's loss and gradients.
#[test]
fn parts_of_a_batch_add_up() {
    let fixture = Fixture::read("base");
    let settings = fixture.settings();
    let batch = fixture.batch(true);
    let gradients = |parts: &[Batch]| {
        let mut sum: Option<Vec<Tensor<1>>> = None;
        for part in parts {
            let weights = fixture.weights(&settings).tracked();
            let loss = settings.loss(&weights, part, 2);
            let more = weights.gradients(&mut loss.total.backward());
            sum = Some(match sum {
                None => more,
                Some(sum) => sum.into_iter().zip(more).map(|(a, b)| a + b).collect(),
            });
        }
        sum.unwrap()
    };
    let rows: Vec<Vec<i8>> = batch.targets.rows().map(<[i8]>::to_vec).collect();
    let parts: Vec<Batch> = (0..2)
        .map(|i| Batch {
            tokens: batch.tokens.clone().narrow(0, i, 1),
            global: batch.global.clone().narrow(0, i, 1),
            targets: Targets::new(rows[i].clone(), rows[i].len()),
            ..batch.clone()
        })
        .collect();
    let values = |parts: &[Batch]| -> Vec<Vec<f32>> {
        let gradients = gradients(parts).into_iter();
        gradients
            .map(|gradient| gradient.to_data().try_to_vec().unwrap())
            .collect()
    };
    let size = |gradient: &[f32]| gradient.iter().fold(0.0f32, |top, v| top.max(v.abs()));
    let whole = values(std::slice::from_ref(&batch));
    let largest = whole
        .iter()
        .map(|gradient| size(gradient))
        .fold(0.0, f32::max);
    for (mut whole, parts) in whole.into_iter().zip(values(&parts)) {
        // One that cancels exactly, as that of the keys' bias does, leaves rounding on both sides.
        if size(&whole) < 1e-7 * largest {
            whole.fill(0.0);
        }
        assert_close("gradient", &parts, &whole, 1e-4);
    }
}

#[test]
fn permuting_tokens_leaves_the_semantics_unchanged() {
    let fixture = Fixture::read("base");
    let settings = fixture.settings();
    let weights = fixture.weights(&settings);
    let batch = fixture.batch(false);
    let turned = Batch {
        tokens: batch.tokens.clone().flip([1]),
        ..batch.clone()
    };
    let turned = settings.semantics(&weights, &turned).vectors;
    fixture.close("out.semantics", turned, 1e-5);
}

/// Worked out again from the scores; labels that are 0 count as negative.
#[test]
fn binary_cross_entropy_takes_the_place_of_the_ranking() {
    const OFFSET: f64 = 1.5;
    let fixture = Fixture::read("base");
    let settings = Epsilon {
        binary_offset: Some(OFFSET),
        ..fixture.settings()
    };
    assert_eq!(settings.negatives, Negatives::NotPositive);
    let weights = fixture.weights(&settings);
    let batch = fixture.batch(true);
    let images = batch.tokens.dims()[0];
    let scores = settings.scores(&weights, &batch);
    let scores: Vec<f32> = scores.to_data().try_to_vec().unwrap();
    let labels = batch.targets.tensor(&device());
    let labels: Vec<f32> = labels.to_data().try_to_vec().unwrap();
    let cross_entropy = |(&score, &label): (&f32, &f32)| {
        let sign = if label > 0.0 { -1.0 } else { 1.0 };
        (sign * (f64::from(score) - OFFSET)).exp().ln_1p()
    };
    let sum: f64 = scores.iter().zip(&labels).map(cross_entropy).sum();
    let expected = sum / scores.len() as f64;
    let loss = settings.loss(&weights.tracked(), &batch, images);
    assert!(
        (loss.ranking - expected).abs() < 1e-5,
        "{} and {expected}",
        loss.ranking
    );
    let ranked = fixture.settings().loss(&weights.tracked(), &batch, images);
    assert_eq!(ranked.regularisation, loss.regularisation);
}
