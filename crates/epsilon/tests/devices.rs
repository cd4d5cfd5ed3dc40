//! A GPU against the CPU: twenty steps of every method on drawn pictures, the models that come of them, and what a checkpoint
//! brings back. Run by `.ci/devices`, with `EPSILON_TEST_DEVICE`; on the CPU alone there is nothing to compare.

#[path = "common/device.rs"]
mod device;

use std::ops::ControlFlow::{Break, Continue};
use std::time::Instant;

use device::device;
use epsilon::burn::tensor::Device;
use epsilon::dataset::Split;
use epsilon::experiment::{self, Prepared, Training};
use epsilon::methods::Kind;
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;
use epsilon::training::{Event, RunFolder};

include!("common/drawn.rs");

/// Small ones of those methods whose published sizes take long.
const SMALL: &[(&str, &str)] = &[
    ("fast0tag", "hidden = [32, 16]"),
    ("biam", "channels = 16"),
    (
        "learnt-labels",
        "of = { kind = 'bilinear-attention', rank = 8 }",
    ),
    (
        "gen-mlzsl",
        "hidden = 16\n epochs = 5\n batch = 16\n samples = 2\n classifier-epochs = 2",
    ),
    ("cnn-rnn", "hidden = 16\n embedding = 8"),
    ("random", "seed = 1"),
];

/// Drawn pictures with their tokens.
struct Drawn {
    folder: tempfile::TempDir,
    store: TokenStore,
}

impl Drawn {
    fn new() -> Self {
        let folder = drawn_recipe("epsilon").unwrap();
        let recipe = Recipe::read(&folder.path().join("recipe.toml")).unwrap();
        let prepared = experiment::prepare(&recipe).unwrap();
        let backbone =
            epsilon::backbone::load(&folder.path().join("backbone.safetensors")).unwrap();
        let tokens = folder.path().join("tokens");
        experiment::extract(&recipe, &prepared, &*backbone, &tokens, None, &mut |_| {
            Continue(())
        })
        .unwrap();
        let store = TokenStore::open(&tokens).unwrap();
        // CLIP's methods want label vectors of the images' width: each several times over.
        let vectors = std::fs::read_to_string(folder.path().join("data/vectors.txt")).unwrap();
        let wide: String = vectors
            .lines()
            .filter_map(|line| line.split_once(' '))
            .flat_map(|(name, values)| [name.into(), format!(" {values}").repeat(4), "\n".into()])
            .collect();
        std::fs::write(folder.path().join("data/wide.txt"), wide).unwrap();
        Self { folder, store }
    }

    /// The recipe of a method with five epochs of four steps.
    fn recipe(&self, method: &str, training: &str) -> Recipe {
        let small = SMALL.iter().find(|(name, _)| *name == method);
        let settings = small.map_or("", |(_, settings)| settings);
        let text = std::fs::read_to_string(self.folder.path().join("recipe.toml")).unwrap();
        let wide = method.starts_with("clip-");
        // The training's epochs first: the methods' own may stand in their settings.
        let text = text
            .replace("epochs = 1", &format!("epochs = 5\n {training}"))
            .replace("vectors.txt", if wide { "wide.txt" } else { "vectors.txt" })
            .replace(
                "kind = \"epsilon\"",
                &format!("kind = '{method}'\n{settings}"),
            );
        let path = self.folder.path().join(format!("{method}.toml"));
        std::fs::write(&path, text).unwrap();
        Recipe::read(&path).unwrap()
    }

    /// The model and the loss of every step.
    fn train(&self, recipe: &Recipe, device: &Device) -> (Model, Vec<f64>, Prepared) {
        let prepared = experiment::prepare(recipe).unwrap();
        let training = self.training(recipe, &prepared, device);
        let mut losses = Vec::new();
        let model = training.run(&mut |event| {
            if let Event::Step { loss, .. } = event {
                losses.push(loss);
            }
            Continue(())
        });
        (model.unwrap(), losses, prepared)
    }

    fn training<'a>(
        &'a self,
        recipe: &'a Recipe,
        prepared: &'a Prepared,
        device: &'a Device,
    ) -> Training<'a> {
        Training {
            recipe,
            prepared,
            store: &self.store,
            seed: 1,
            device,
            folder: None,
            resume: false,
            ranks: &epsilon::ranks::Alone,
        }
    }

    /// Scores of the seen labels on the test images.
    fn scores(&self, model: &Model, prepared: &Prepared, device: &Device) -> Vec<f32> {
        let seen: Vec<usize> = (0..prepared.dataset.seen).collect();
        let vectors = prepared.vectors.select(&seen).unwrap();
        let scorer = model.scorer(&vectors, device).unwrap();
        let rows = prepared.dataset.rows(Split::Test).into_iter();
        let rows = rows.map(|row| {
            self.store
                .row_of(&prepared.dataset.records[row].id)
                .unwrap()
        });
        let rows: Vec<usize> = rows.collect();
        let scores = scorer.score_rows(&self.store, &rows, &mut |_| Continue(()));
        scores.continue_value().unwrap()
    }
}

/// The largest gap, of the largest value; no number is further away than any.
fn gap(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs
        .iter()
        .fold(1e-12f32, |top, value| top.max(value.abs()));
    let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / scale);
    apart.max_by(f32::total_cmp).unwrap_or_default()
}

/// Losses within 1e-3 over twenty steps; a model that the CPU has trained scores alike on both, also through its file.
#[test]
fn every_method_trains_and_scores_as_on_the_cpu() {
    let (device, cpu) = (device(), Device::flex());
    if device == cpu {
        return println!("skipped: EPSILON_TEST_DEVICE names no other device");
    }
    let drawn = Drawn::new();
    let mut problems = Vec::new();
    for name in Kind::NAMES {
        let started = Instant::now();
        // Never trained, nor in a recipe.
        if name == "class-words" {
            continue;
        }
        let rate = match name {
            // Their rounding grows from step to step: at a higher rate the CPU's fused and straight forms are further apart.
            "biam" | "ml2p-encoder" => "1e-4",
            _ => "1e-3",
        };
        let recipe = drawn.recipe(name, &format!("learning-rate = {rate}"));
        let (model, expected, prepared) = drawn.train(&recipe, &cpu);
        let (_, losses, _) = drawn.train(&recipe, &device);
        assert_eq!(losses.len(), expected.len(), "{name}");
        let pairs = losses.iter().zip(&expected);
        let worst = pairs
            .map(|(ours, theirs)| (ours - theirs).abs() / theirs.abs())
            .max_by(f64::total_cmp)
            .unwrap_or_default();

        let file = drawn.folder.path().join("model.safetensors");
        model.save(&file).unwrap();
        let expected = drawn.scores(&model, &prepared, &cpu);
        let model = Model::load(&file, &device).unwrap();
        let scores = gap(&drawn.scores(&model, &prepared, &device), &expected);
        println!(
            "{name}: {} steps, losses {worst:.1e} apart, scores {scores:.1e} apart, {:.1} s",
            losses.len(),
            started.elapsed().as_secs_f32()
        );
        if worst > 1e-3 || scores > 1e-3 {
            problems.push(format!("{name}: losses {worst}, scores {scores}"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Stopped in its second epoch and resumed, a training goes on as an unbroken one.
#[test]
fn a_training_resumes_on_the_device() {
    let drawn = Drawn::new();
    let device = device();
    let recipe = drawn.recipe(
        "epsilon",
        "checkpoint-steps = 1\n clip = 1.0\n average = 0.9",
    );
    let (_, unbroken, prepared) = drawn.train(&recipe, &device);
    let run = RunFolder::create(&drawn.folder.path().join("run")).unwrap();
    let mut losses = Vec::new();
    let mut training = drawn.training(&recipe, &prepared, &device);
    training.folder = Some(&run);
    let stopped = training.run(&mut |event| {
        if let Event::Step { loss, done, .. } = event {
            losses.push(loss);
            return if done == 6 { Break(()) } else { Continue(()) };
        }
        Continue(())
    });
    assert!(stopped.is_err());
    training.resume = true;
    let resumed = training.run(&mut |event| {
        if let Event::Step { loss, .. } = event {
            losses.push(loss);
        }
        Continue(())
    });
    resumed.unwrap();
    assert_eq!(losses.len(), unbroken.len());
    for (step, (ours, theirs)) in losses.iter().zip(&unbroken).enumerate() {
        assert!(
            (ours - theirs).abs() <= 1e-5 * theirs.abs(),
            "step {step}: {ours}, {theirs}"
        );
    }
}
