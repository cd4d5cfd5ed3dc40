//! Every method trained on arrays in memory, held against the same training of a recipe from a store.

use std::ops::ControlFlow;
use std::path::Path;

use epsilon::burn::tensor::Device;
use epsilon::dataset::{SparseLabels, Split};
use epsilon::estimator::{Estimator, EstimatorError, FittedEstimator, TrainingData};
use epsilon::experiment::{self, Prepared, Training};
use epsilon::labels::LabelVectors;
use epsilon::methods::{Fitting, Kind, Vocabulary};
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::tokens::{TokenArrays, TokenRows, TokenSource, TokenStore};
use epsilon::training::Event;

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
        "hidden = 16\n epochs = 1\n batch = 16\n samples = 2\n classifier-epochs = 2",
    ),
    ("cnn-rnn", "hidden = 16\n embedding = 8"),
    ("random", "seed = 1"),
];

/// Drawn pictures and their tokens.
struct Drawn {
    folder: tempfile::TempDir,
    store: TokenStore,
}

impl Drawn {
    fn new() -> Self {
        let folder = drawn_model("ridge").unwrap();
        let store = TokenStore::open(&folder.path().join("tokens")).unwrap();
        Self { folder, store }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The drawn recipe with another method and training.
    fn recipe(&self, method: &str, settings: &str, training: &str) -> Recipe {
        let text = std::fs::read_to_string(self.path().join("recipe.toml")).unwrap();
        let text = text
            .replace(
                "kind = \"ridge\"",
                &format!("kind = \"{method}\"\n{settings}"),
            )
            .replace("epochs = 1", training);
        let path = self.path().join("other.toml");
        std::fs::write(&path, text).unwrap();
        Recipe::read(&path).unwrap()
    }

    fn model(&self, recipe: &Recipe, prepared: &Prepared) -> Model {
        let training = Training {
            recipe,
            prepared,
            store: &self.store,
            seed: 3,
            device: &Device::flex(),
            folder: None,
            resume: false,
            ranks: &epsilon::ranks::Alone,
        };
        training.run(&mut |_| ControlFlow::Continue(())).unwrap()
    }
}

/// The training images of a recipe in memory, and its labels.
struct Arrays {
    images: usize,
    tokens: Vec<f32>,
    global: Vec<f32>,
    labels: Vec<i8>,
    seen: LabelVectors,
    unseen: LabelVectors,
}

impl Arrays {
    fn new(prepared: &Prepared, store: &TokenStore) -> Self {
        let dataset = &prepared.dataset;
        let rows = dataset.rows(Split::Train);
        let stored = |&row: &usize| store.row_of(&dataset.records[row].id).unwrap();
        let stored: Vec<usize> = rows.iter().map(stored).collect();
        assert!(stored.is_sorted());
        let (tokens, global) = store.read_rows(&stored);
        let unseen: Vec<usize> = (dataset.seen..dataset.names.len()).collect();
        Self {
            images: rows.len(),
            tokens,
            global,
            labels: dataset.labels.dense(rows, dataset.seen),
            seen: prepared.vectors.first(dataset.seen),
            unseen: prepared.vectors.select(&unseen).unwrap(),
        }
    }

    fn source(&self, store: &TokenStore) -> TokenArrays<'_> {
        let shape = [self.images, store.tokens_per_image(), store.dim()];
        TokenArrays::new(&self.tokens, shape, &self.global, store.global_dim()).unwrap()
    }

    fn fit(&self, recipe: &Recipe, source: &dyn TokenSource) -> FittedEstimator {
        let estimator = Estimator {
            training: recipe.training.clone(),
            seed: 3,
            protocol: recipe.evaluation.protocol.parse().unwrap(),
            ..Estimator::new(recipe.method.clone())
        };
        let labels = SparseLabels::from_dense(self.seen.len(), &self.labels).unwrap();
        let data = TrainingData {
            images: source,
            labels: &labels,
            vectors: recipe.method.reads_label_vectors().then_some(&self.seen),
            unseen: (recipe.method.vocabulary() == Vocabulary::Closed).then_some(&self.unseen),
        };
        let mut steps = 0;
        let fitted = estimator.fit(&data, &Device::flex(), &mut |event| {
            if let Event::Step { .. } = event {
                steps += 1;
            }
            ControlFlow::Continue(())
        });
        let in_steps = !matches!(recipe.method.fitting(), Fitting::Solved(_));
        assert_eq!(steps > 0, in_steps);
        fitted.unwrap()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Names and bits of all weights.
fn weights(of: &epsilon::parameters::Weights) -> Vec<(String, Vec<u32>)> {
    let host = of.to_host().into_iter();
    host.map(|(spec, values)| (spec.name, bits(&values)))
        .collect()
}

#[test]
fn every_method_is_trained_on_arrays_as_from_a_store() {
    let drawn = Drawn::new();
    let device = Device::flex();
    for method in Kind::NAMES
        .into_iter()
        .filter(|&name| name != "class-words")
    {
        let small = SMALL.iter().find(|(name, _)| *name == method);
        let recipe = drawn.recipe(
            method,
            small.map_or("", |(_, settings)| settings),
            "epochs = 1",
        );
        let prepared = experiment::prepare(&recipe).unwrap();
        if method == "clip-zero-shot" || method == "clip-projection" {
            // The drawn vectors are of another width than the tokens.
            assert!(
                recipe
                    .method
                    .specs(&prepared.dims(&drawn.store.manifest().header.backbone))
                    .is_err()
            );
            continue;
        }
        let model = drawn.model(&recipe, &prepared);
        let arrays = Arrays::new(&prepared, &drawn.store);
        let source = arrays.source(&drawn.store);
        let fitted = arrays.fit(&recipe, &source);
        assert_eq!(
            weights(fitted.weights()),
            weights(model.weights()),
            "{method}"
        );

        // Its own labels' scores are the model's, and those of its bytes too.
        let own = model.own_labels();
        let seen = arrays.seen.len();
        let scorer = model.scorer(&own.first(seen), &device).unwrap();
        let scores = scorer.score(arrays.images, arrays.tokens.clone(), arrays.global.clone());
        let known: Vec<usize> = (0..seen).collect();
        let mine = fitted
            .score_known(&source, &known, &device, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        if method != "random" {
            assert_eq!(bits(&mine), bits(&scores), "{method}");
        }
        let again = FittedEstimator::from_bytes(&fitted.to_bytes().unwrap(), &device).unwrap();
        let other = again
            .score_known(&source, &known, &device, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        assert_eq!(bits(&other), bits(&mine), "{method}");

        let unseen = fitted.score(&source, &arrays.unseen, &device, &mut |_| {
            ControlFlow::Continue(())
        });
        match recipe.method.vocabulary() {
            Vocabulary::Open => {
                let unseen = unseen.unwrap();
                assert_eq!(unseen.len(), arrays.images * arrays.unseen.len());
                assert!(unseen.iter().all(|score| score.is_finite()), "{method}");
            }
            vocabulary => {
                let said = unseen.unwrap_err().to_string();
                assert!(
                    said.contains(method) && said.contains("by their numbers"),
                    "{said}"
                );
                let all = arrays.seen.len() + arrays.unseen.len();
                let knows = if vocabulary == Vocabulary::Closed {
                    all
                } else {
                    seen
                };
                assert_eq!(fitted.known(), knows, "{method}");
                let beyond = fitted.score_known(&source, &[knows], &device, &mut |_| {
                    ControlFlow::Continue(())
                });
                assert!(matches!(beyond, Err(EstimatorError::NoSuchLabel { .. })));
            }
        }
    }
}

#[test]
fn validation_images_and_early_stopping_are_those_of_a_recipe() {
    let drawn = Drawn::new();
    let training = "epochs = 4\nvalidation = 0.25\npatience = 1\nlearning-rate = 1e-3";
    let recipe = drawn.recipe("sdl", "", training);
    let prepared = experiment::prepare(&recipe).unwrap();
    let model = drawn.model(&recipe, &prepared);
    let arrays = Arrays::new(&prepared, &drawn.store);
    let fitted = arrays.fit(&recipe, &arrays.source(&drawn.store));
    assert_eq!(weights(fitted.weights()), weights(model.weights()));
    assert!(fitted.best_epoch().is_some());

    // Rows of the store itself are as good as arrays of them.
    let rows = prepared.dataset.rows(Split::Train);
    let stored = |&row: &usize| {
        drawn
            .store
            .row_of(&prepared.dataset.records[row].id)
            .unwrap()
    };
    let rows = TokenRows::new(&drawn.store, rows.iter().map(stored).collect()).unwrap();
    let from_store = arrays.fit(&recipe, &rows);
    assert_eq!(weights(from_store.weights()), weights(model.weights()));
}

/// Four images of two values, two labels.
const FEATURES: [f32; 8] = [1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.9];
const LABELS: [i8; 8] = [1, -1, 1, -1, -1, 1, -1, 1];

fn refused(method: &str, settings: &str, labels: &[i8], vectors: Option<&[f32]>) -> String {
    let images = TokenArrays::global(&FEATURES, [4, 2]).unwrap();
    let labels = SparseLabels::from_dense(2, labels).unwrap();
    let vectors = vectors.map(|values| LabelVectors::numbered(2, values.to_vec()).unwrap());
    let settings = serde_json::from_str(settings).unwrap();
    let data = TrainingData {
        images: &images,
        labels: &labels,
        vectors: vectors.as_ref(),
        unseen: None,
    };
    let estimator = Estimator::with_settings(method, &settings, 1).unwrap();
    let fitted = estimator.fit(&data, &Device::flex(), &mut |_| ControlFlow::Continue(()));
    match fitted {
        Ok(_) => panic!("{method} was fitted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let two = Some(&[1.0, 0.0, 0.0, 1.0][..]);
    let ridge = |labels: &[i8], vectors| refused("ridge", "{}", labels, vectors);
    assert!(ridge(&LABELS, None).contains("give the label vectors"));
    assert!(ridge(&LABELS, Some(&[1.0, 0.0])).contains("there are 2 labels"));
    assert!(ridge(&LABELS[..6], two).contains("the features are of 4 images"));
    assert!(ridge(&[-1; 8], two).contains("no image has a positive label"));
    let sdl = |settings: &str| refused("sdl", settings, &LABELS, two);
    assert!(sdl(r#"{ "epochs": 0 }"#).contains("epochs = 0"));
    assert!(sdl(r#"{ "rows": 0 }"#).contains("rows"));
    assert!(sdl(r#"{ "validation": 0.99 }"#).contains("smaller share"));
    assert!(refused("gen-mlzsl", r#"{ "heads": 1 }"#, &LABELS, two).contains("unseen"));
    assert!(refused("class-words", "{}", &LABELS, two).contains("not trained"));
}

#[test]
fn training_and_scoring_can_be_stopped() {
    let device = Device::flex();
    let images = TokenArrays::global(&FEATURES, [4, 2]).unwrap();
    let labels = SparseLabels::from_dense(2, &LABELS).unwrap();
    let vectors = LabelVectors::numbered(2, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
    let data = TrainingData {
        images: &images,
        labels: &labels,
        vectors: Some(&vectors),
        unseen: None,
    };
    for method in ["ridge", "sdl"] {
        let estimator = Estimator::with_settings(method, &Default::default(), 1).unwrap();
        let stopped = estimator.fit(&data, &device, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(EstimatorError::Stopped)), "{method}");
        let fitted = estimator
            .fit(&data, &device, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        let stopped = fitted.score(&images, &vectors, &device, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(EstimatorError::Stopped)), "{method}");
    }
}

#[test]
fn damaged_bytes_are_refused() {
    let device = Device::flex();
    let images = TokenArrays::global(&FEATURES, [4, 2]).unwrap();
    let labels = SparseLabels::from_dense(2, &LABELS).unwrap();
    let vectors = LabelVectors::numbered(2, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
    let data = TrainingData {
        images: &images,
        labels: &labels,
        vectors: Some(&vectors),
        unseen: None,
    };
    let ridge = Estimator::with_settings("ridge", &Default::default(), 1).unwrap();
    let fitted = ridge
        .fit(&data, &device, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    let bytes = fitted.to_bytes().unwrap();
    for end in 0..bytes.len() {
        assert!(FittedEstimator::from_bytes(&bytes[..end], &device).is_err());
    }
    // One byte after the other is another, in the header too.
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x11;
        if let Ok(other) = FittedEstimator::from_bytes(&bytes, &device) {
            let _ = other.score_known(&images, &[0], &device, &mut |_| ControlFlow::Continue(()));
        }
    }
    let wide = TokenArrays::global(&FEATURES, [2, 4]).unwrap();
    let said = fitted
        .score(&wide, &vectors, &device, &mut |_| ControlFlow::Continue(()))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("features") && said.contains("1 tokens of 2"),
        "{said}"
    );
    let long = LabelVectors::numbered(3, vec![1.0; 3]).unwrap();
    let said = fitted
        .score(&images, &long, &device, &mut |_| ControlFlow::Continue(()))
        .unwrap_err()
        .to_string();
    assert!(said.contains("3 wide") && said.contains("2 wide"), "{said}");
}
