//! The anchor against its twin in NumPy (`anchor/make.py`, which writes the files beside it), through a model file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use epsilon::backbone::BackboneInfo;
use epsilon::batch::Dims;
use epsilon::burn::tensor::Device;
use epsilon::classes::ClassNames;
use epsilon::image::{Fit, Preprocess};
use epsilon::labels::{LabelVectors, VectorIndex, resolve};
use epsilon::methods::anchor::{Anchor, BETA, Head};
use epsilon::methods::{Input, Kind};
use epsilon::model::{Card, Model, ModelAnchor, ModelError, Provenance};
use epsilon::parameters::Weights;
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

/// A linear map to the labels' vectors, with an anchor of word vectors of its own in this file.
fn model(words: &Path, beta: Option<f32>) -> Model {
    let kind = r#"{"kind": "fast0tag", "hidden": [], "dropout": 0.0}"#;
    let method: Kind = serde_json::from_str(kind).unwrap();
    let dims = Dims {
        tokens: 1,
        width: 7,
        label_width: 3,
        labels: 4,
        unseen: 1,
        global: None,
    };
    let settings = Anchor {
        trained: beta.is_some(),
        weight: 0.75,
        vectors: Some(words.into()),
        ..Anchor::default()
    };
    let specs = settings.specs(&*method, &dims).unwrap();
    let mut values = BTreeMap::from([
        ("direction.weight".to_string(), tensor("map")),
        ("direction.bias".to_string(), tensor("shift")),
    ]);
    values.extend(beta.map(|beta| (BETA.to_string(), vec![beta])));
    let weights = Weights::from_values(specs, values, &Device::flex()).unwrap();
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
    };
    let card = Card::new(method, dims, names(&OWN), 4, provenance);
    let own = LabelVectors::new(names(&OWN), 3, tensor("own")).unwrap();
    let anchors = resolve(words, &names(&OWN)).unwrap().vectors;
    let anchor = ModelAnchor::new(settings, classes(), head(words), Some(anchors));
    Model::new(card, own, weights).with_anchor(anchor)
}

fn scores(model: &Model, labels: &LabelVectors) -> Vec<f32> {
    let scorer = model.scorer(labels, &Device::flex()).unwrap();
    scorer.score(IMAGES, vec![0.0; IMAGES * 7], tensor("x"))
}

fn others() -> LabelVectors {
    LabelVectors::new(names(&OTHERS), 3, tensor("others")).unwrap()
}

#[test]
fn the_anchors_scores_equal_the_twins() {
    let words = folder().join("words.txt");
    let vectors = resolve(&words, &names(&OWN)).unwrap().vectors;
    let device = Device::flex();
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
    let read = Model::load(&file, &Device::flex()).unwrap();
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
        let model = Model::load(&file, &Device::flex()).unwrap();
        let refused = model.scorer(labels, &Device::flex()).err();
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
        let said = Model::load(&file, &Device::flex())
            .err()
            .unwrap()
            .to_string();
        assert!(said.contains(expected), "{said}");
    }
}
