//! The anchor against its twin in NumPy (`anchor/make.py`, which writes the files beside it), through a model file.

#[path = "common/device.rs"]
mod device;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use device::device;
use epsilon::backbone::BackboneInfo;
use epsilon::batch::Dims;
use epsilon::classes::ClassNames;
use epsilon::image::{Fit, Preprocess};
use epsilon::labels::{LabelVectors, VectorIndex, resolve};
use epsilon::methods::anchor::{Anchor, BETA, Head};
use epsilon::methods::{Input, Kind};
use epsilon::model::{Card, Model, ModelAnchor, ModelError, Provenance, Ranker, SemanticVectors};
use epsilon::parameters::Weights;
use epsilon::semantic_index::{Index, IndexInfo, IndexWriter};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

const OWN: [&str; 5] = ["bear", "cat", "school", "red bus", "shark"];
const OTHERS: [&str; 3] = ["cream", "tabby", "cat"];
const CLASSES: usize = 6;
const IMAGES: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/anchor")
}

fn tensor(name: &str) -> Vec<f32> {
    let bytes = fs::read(folder().join("fixture.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap();
    let values = view.data().chunks_exact(4);
    values
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn assert_close(what: &str, ours: &[f32], name: &str) {
    let theirs = tensor(name);
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() <= 2e-4 * b.abs().max(1.0), "{what}: {a} {b}");
    }
}

fn classes() -> ClassNames {
    ClassNames::read(Some(&folder().join("classes.txt")), CLASSES).unwrap()
}

fn head(words: &Path) -> Head {
    let index = VectorIndex::read(&words.into()).unwrap();
    let vectors = classes().vectors(&index).unwrap();
    assert_eq!(vectors.classes(), CLASSES - 1, "one has no vector");
    Head {
        input: Input::Global,
        weight: tensor("head"),
        bias: tensor("bias"),
        names: vectors.values,
        owners: vectors.owners,
    }
}

const DIMS: Dims = Dims {
    tokens: 1,
    width: 7,
    label_width: 3,
    labels: 4,
    unseen: 1,
    global: None,
};

/// A model of the fixture's labels, with an anchor of these settings and word vectors of its own in their file.
fn with_method(method: Kind, settings: Anchor, weights: Weights) -> Model {
    let backbone = BackboneInfo {
        name: "tiny".into(),
        weights_sha256: "ab".repeat(32),
        weights_key: None,
        preprocess: Preprocess {
            size: 8,
            fit: Fit::Squash,
            filter: epsilon::image::Filter::Bicubic,
            mean: [0.0; 3],
            std: [1.0; 3],
        },
        tokens: 1,
        dim: 7,
        grid: (1, 1),
        global: None,
        classes: None,
        projected: false,
        precision: Default::default(),
    };
    let provenance = Provenance {
        backbone,
        backbone_weights: "tiny.safetensors".into(),
        recipe: serde_json::json!({"data": {"vectors": "v.txt"}}),
        protocol: "epsilon".into(),
        seed: 1,
        cpu: None,
    };
    let card = Card::new(method, DIMS, names(&OWN), 4, provenance);
    let own = LabelVectors::new(names(&OWN), 3, tensor("own")).unwrap();
    let words = settings.vectors.clone().unwrap();
    let anchors = resolve(&words, &names(&OWN)).unwrap().vectors;
    let anchor = ModelAnchor::new(settings, classes(), head(&words), Some(anchors));
    Model::new(card, own, weights).with_anchor(anchor)
}

/// A linear map to the labels' vectors.
fn model(words: &Path, beta: Option<f32>) -> Model {
    let kind = r#"{"kind": "fast0tag", "hidden": [], "dropout": 0.0}"#;
    let method: Kind = serde_json::from_str(kind).unwrap();
    let settings = Anchor {
        trained: beta.is_some(),
        weight: 0.75,
        vectors: Some(words.into()),
        ..Anchor::default()
    };
    let specs = settings.specs(&*method, &DIMS).unwrap();
    let mut values = BTreeMap::from([
        ("direction.weight".to_string(), tensor("map")),
        ("direction.bias".to_string(), tensor("shift")),
    ]);
    values.extend(beta.map(|beta| (BETA.to_string(), vec![beta])));
    let weights = Weights::from_values(specs, values, &device()).unwrap();
    with_method(method, settings, weights)
}

/// Several semantic vectors of an image, by drawn weights.
fn of_rows(rows: usize, beta: Option<f32>, weight: f64, seed: u64) -> Model {
    let method: Kind =
        serde_json::from_str(&format!(r#"{{"kind": "sdl", "rows": {rows}}}"#)).unwrap();
    let settings = Anchor {
        trained: beta.is_some(),
        weight,
        vectors: Some(folder().join("words.txt")),
        ..Anchor::default()
    };
    let specs = settings.specs(&*method, &DIMS).unwrap();
    let device = device();
    let mut weights = Weights::draw(specs, &mut ChaCha8Rng::seed_from_u64(seed), &device);
    if let Some(beta) = beta {
        weights.set_host(BETA, vec![beta], &device);
    }
    with_method(method, settings, weights)
}

fn scores(model: &Model, labels: &LabelVectors) -> Vec<f32> {
    let scorer = model.scorer(labels, &device()).unwrap();
    scorer.score(IMAGES, vec![0.0; IMAGES * 7], tensor("x"))
}

fn others() -> LabelVectors {
    LabelVectors::new(names(&OTHERS), 3, tensor("others")).unwrap()
}

#[test]
fn the_anchors_scores_equal_the_twins() {
    let words = folder().join("words.txt");
    let vectors = resolve(&words, &names(&OWN)).unwrap().vectors;
    let device = device();
    let anchor = head(&words).on(&Anchor::default(), vectors.values(), &device);
    let on = Arc::new(vectors.unit());
    let batch = epsilon::batch::Batch {
        tokens: epsilon::burn::tensor::Tensor::zeros([IMAGES, 1, 7], &device),
        global: epsilon::burn::tensor::Tensor::from_data(
            epsilon::burn::tensor::TensorData::new(tensor("x"), [IMAGES, 7]),
            &device,
        ),
        label_vectors: epsilon::burn::tensor::Tensor::zeros([5, 5], &device),
        label_vectors_host: on,
        targets: Default::default(),
        columns: (0..5).collect(),
        precision: Default::default(),
        draws: Default::default(),
    };
    let found = anchor.of(&batch).into_data().try_to_vec().unwrap();
    assert_close("a", &found, "out.anchor");
}

#[test]
fn a_models_scores_equal_the_twins_before_and_after_its_file() {
    let words = folder().join("words.txt");
    let at_test = model(&words, None);
    assert_close("added", &scores(&at_test, at_test.vectors()), "out.test");
    let trained = model(&words, Some(1.3));
    assert_close(
        "trained",
        &scores(&trained, trained.vectors()),
        "out.trained",
    );
    // Labels that the model does not know have their vectors in the file, and the scores of its own ones as a measure.
    assert_close("others", &scores(&trained, &others()), "out.others");
    // With its own labels behind them, as a calibrated model asks, the scores are the same.
    let both = others().followed_by(trained.vectors()).unwrap();
    let all = scores(&trained, &both);
    let first: Vec<f32> = all.chunks(8).flat_map(|row| row[..3].to_vec()).collect();
    assert_close("followed", &first, "out.others");

    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("model.safetensors");
    trained.save(&file).unwrap();
    let read = Model::load(&file, &device()).unwrap();
    assert_eq!(read.card(), trained.card());
    assert_eq!(read.identity(), trained.identity());
    assert_ne!(read.identity(), at_test.identity());
    assert_eq!(scores(&read, &others()), scores(&trained, &others()));
}

/// The file of word vectors is needed for words that are none of the model's labels, and has to be the same.
#[test]
fn other_words_need_the_anchors_own_vectors() {
    let place = tempfile::tempdir().unwrap();
    let words = place.path().join("words.txt");
    let text = fs::read_to_string(folder().join("words.txt")).unwrap();
    fs::write(&words, &text).unwrap();
    let file = place.path().join("model.safetensors");
    model(&words, None).save(&file).unwrap();
    let said = |labels: &LabelVectors| {
        let model = Model::load(&file, &device()).unwrap();
        let refused = model.scorer(labels, &device()).err();
        assert!(matches!(refused, None | Some(ModelError::Anchor { .. })));
        refused.map(|error| error.to_string())
    };
    let strange = LabelVectors::new(names(&["ocean"]), 3, vec![1.0, 0.0, 0.0]).unwrap();
    assert!(said(&strange).unwrap().contains("ocean"));
    let others_bear = text.lines().map(|line| match line.starts_with("bear ") {
        true => "bear 1 2 3 4 5\n".to_string(),
        false => format!("{line}\n"),
    });
    fs::write(&words, others_bear.collect::<String>()).unwrap();
    let refused = said(&others()).unwrap();
    assert!(
        refused.contains("not the file") && refused.contains("bear"),
        "{refused}"
    );
    fs::remove_file(&words).unwrap();
    assert!(said(&others()).unwrap().contains("words.txt"));
    let own = LabelVectors::new(names(&OWN), 3, tensor("own")).unwrap();
    assert_eq!(said(&own), None);
}

#[test]
fn a_damaged_anchor_is_refused() {
    let words = folder().join("words.txt");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("model.safetensors");
    model(&words, None).save(&file).unwrap();
    let whole = fs::read(&file).unwrap();
    let cases = [
        ("anchor.owners", "anchor.ownerz", "anchor.owners"),
        ("sharpness\\\":8.0", "sharpness\\\":0.0", "sharpness = 0"),
        (
            "\"input\\\":\\\"global\\\"",
            "\"input\\\":\\\"globus\\\"",
            "globus",
        ),
    ];
    for (from, to, expected) in cases {
        let at = whole.windows(from.len());
        let at = at.into_iter().position(|w| w == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("{from}"));
        let mut damaged = whole.clone();
        damaged[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(&file, &damaged).unwrap();
        let said = Model::load(&file, &device()).err().unwrap().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

/// How far the index's rounding may take the score of a query `[v, e]` from that of a photograph's values `[S, p, b]`: vectors
/// have 8 bits, the anchor's row 16, and queries at least 14.
fn rounding(values: &[f32], groups: usize, query: &[f32]) -> f32 {
    let most = |of: &[f32]| of.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    let sum = |of: &[f32]| of.iter().map(|v| v.abs()).sum::<f32>();
    let (vectors, anchor) = values.split_at(groups * 3);
    let (v, e) = query.split_at(3);
    most(vectors) * sum(v) * 0.55 / 127.0 + sum(&anchor[..CLASSES]) * most(e) * 1e-4 + 1e-4
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A search gives the score that the model has, for its own labels and for others, whatever was ranked at the tagging.
    #[test]
    fn a_search_gives_the_models_score(
        rows in 1_usize..4, beta in proptest::option::of(-2.0_f32..3.0), weight in 0.0..2.0, size in 0.1_f32..3.0, seed: u64,
    ) {
        let model = of_rows(rows, beta, weight, seed);
        let device = device();
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let images: Vec<f32> = (0..8 * 7).map(|_| size * rng.random_range(-1.0..1.0)).collect();
        let mut kept: Vec<Vec<f32>> = Vec::new();
        for (labels, images) in [model.own_labels(), others()].into_iter().zip(images.chunks(4 * 7)) {
            let ranker = Ranker::new(&model, labels, &device).unwrap();
            let (_, vectors) = ranker.rank_with_vectors(4, vec![0.0; 4 * 7], images.to_vec());
            let SemanticVectors { groups, width, classes, values } = vectors.unwrap();
            prop_assert_eq!((groups, width, classes), (rows, 3, Some(CLASSES)));
            kept.extend(values.chunks(values.len() / 4).map(<[f32]>::to_vec));
        }
        let place = tempfile::tempdir().unwrap();
        let info = IndexInfo { model: model.identity(), groups: rows, width: 3, classes: Some(CLASSES) };
        let mut writer = IndexWriter::open(place.path(), &info).unwrap();
        for (image, values) in kept.iter().enumerate() {
            writer.push(&image.to_string(), values).unwrap();
        }
        writer.commit().unwrap();
        let index = Index::open(place.path()).unwrap();
        for labels in [model.own_labels(), others()] {
            let queries = model.queries(&labels, &device).unwrap();
            let exact = model.scorer(&labels, &device).unwrap().score(8, vec![0.0; 8 * 7], images.clone());
            for (label, query) in queries.chunks(3 + CLASSES).enumerate() {
                let hits = index.search(query, 8).unwrap();
                prop_assert_eq!(hits.len(), 8);
                for hit in hits {
                    let image: usize = hit.id.parse().unwrap();
                    let (score, exact) = (hit.score, exact[image * labels.len() + label]);
                    let error = rounding(&kept[image], rows, query);
                    prop_assert!((score - exact).abs() < error, "{score} {exact} {error}");
                }
            }
        }
    }
}
