//! A small model by hand: its file, its scores, and cards that were changed field by field.

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde_json::{Value, json};

use super::*;
use crate::calibration::Preset;
use crate::methods::{Kind, Ridge};
use epsilon_data::formats::safetensors::write_tensors;
use epsilon_vision::image::{Fit, Preprocess};

fn model() -> Model {
    let values = [
        ("ridge.weight", vec![1.0, 0.0, 0.0, 0.0, 2.0, 0.0]),
        ("ridge.bias", vec![0.0, 0.0, 0.5]),
    ];
    let values = values.map(|(name, values)| (name.to_string(), values));
    model_of(Kind::Ridge(Ridge::default()), 2, Some(values.into()))
}

/// A model of one token, or four, of this width; its weights are all 0.25 where none are given.
fn model_of(method: Kind, width: usize, values: Option<BTreeMap<String, Vec<f32>>>) -> Model {
    let tokens: usize = if values.is_some() { 1 } else { 4 };
    let side = tokens.isqrt();
    let dims = Dims {
        tokens,
        width,
        label_width: 3,
        labels: 1,
        unseen: 1,
        global: None,
    };
    let specs = method.specs(&dims).unwrap();
    let values = values.unwrap_or_else(|| {
        let specs = specs.iter();
        specs
            .map(|spec| (spec.name.clone(), vec![0.25; spec.len()]))
            .collect()
    });
    let weights = Weights::from_values(specs, values, &Device::flex()).unwrap();
    let vectors = vec![2.0, 0.0, 0.0, 0.0, 3.0, 0.0];
    let names: Vec<String> = ["x", "y"].map(String::from).to_vec();
    let preprocess = Preprocess {
        size: 8,
        fit: Fit::Squash,
        filter: epsilon_vision::image::Filter::Bicubic,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let backbone = BackboneInfo {
        name: "tiny".into(),
        weights_sha256: "ab".repeat(32),
        weights_key: None,
        preprocess,
        tokens,
        dim: width,
        grid: (side, side),
        global: None,
        classes: None,
        projected: false,
        precision: Default::default(),
    };
    let recipe = json!({"data": {"vectors": "v.txt", "vector-names": ["n.txt"], "kind": "table"}});
    let card = Card::new(
        method,
        dims,
        names.clone(),
        1,
        Provenance {
            backbone,
            backbone_weights: "tiny.safetensors".into(),
            recipe,
            protocol: "epsilon".into(),
            seed: 7,
            cpu: Some("avx2".into()),
        },
    );
    Model::new(card, LabelVectors::new(names, 3, vectors).unwrap(), weights)
}

#[test]
fn a_model_round_trips_and_scores_labels_it_never_saw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model().save(&path).unwrap();
    let device = Device::flex();
    let read = Model::load(&path, &device).unwrap();
    assert_eq!(read.card, model().card);
    let new = LabelVectors::new(vec!["z".into()], 3, vec![0.0, 0.0, 4.0]).unwrap();
    let scorer = read.scorer(&new, &device).unwrap();
    assert_eq!(scorer.score(1, vec![0.0, 0.0], vec![1.0, 1.0]), vec![0.5]);
    let own = read.scorer(read.vectors(), &device).unwrap();
    assert_eq!(own.score(1, vec![0.0, 0.0], vec![1.0, 1.0]), vec![1.0, 2.0]);
    let wide = LabelVectors::new(vec!["z".into()], 2, vec![1.0, 0.0]).unwrap();
    assert!(read.scorer(&wide, &device).is_err());
}

#[test]
fn damaged_files_are_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model().save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 7, 40, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = Model::load(&path, &Device::flex())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn values_that_are_not_finite_and_rules_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let good = model();
    for strange in [f32::NAN, f32::INFINITY] {
        let mut values: BTreeMap<String, Vec<f32>> = good
            .card
            .method()
            .specs(&good.card.dims())
            .unwrap()
            .into_iter()
            .map(|spec| (spec.name.clone(), vec![0.25; spec.len()]))
            .collect();
        *values.first_entry().unwrap().get_mut().last_mut().unwrap() = strange;
        model_of(
            good.card.method().clone(),
            good.card.dims().width,
            Some(values),
        )
        .save(&path)
        .unwrap();
        let error = Model::load(&path, &Device::flex())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("not finite"), "{error}");
    }
    for (slope, offset, threshold) in [(-1e30, 0.0, 0.1), (1.0, 1e38, 0.1), (1.0, 0.0, -1e30)] {
        let preset = Preset::Prototypes {
            slope,
            offset,
            threshold,
        };
        assert!(preset.problem().is_some(), "{preset:?}");
    }
    assert_eq!(Preset::PROTOTYPES.problem(), None);
    assert_eq!(Preset::sigmoid(117.3, -12.9).problem(), None);
}

#[test]
fn no_image_has_no_scores_and_no_ranking() {
    let model = model();
    let device = Device::flex();
    let ranker = Ranker::new(&model, model.own_labels(), &device).unwrap();
    assert!(ranker.rank(0, Vec::new(), Vec::new()).is_empty());
    let (rankings, vectors) = ranker.rank_with_vectors(0, Vec::new(), Vec::new());
    assert!(rankings.is_empty() && vectors.is_none());
    let ranked = ranker.rank(1, vec![0.0; 2], vec![1.0, 1.0]);
    let names: Vec<&str> = ranked[0].top(9).iter().map(|label| &*label.name).collect();
    assert_eq!(names, ["y", "x"]);
    assert_eq!(ranked[0].top(1)[0].score, 2.0);
}

#[test]
fn the_card_names_the_recipes_vector_file() {
    let file = model().card().vector_file().unwrap();
    assert_eq!(file.path, PathBuf::from("v.txt"));
    assert_eq!(file.names, [PathBuf::from("n.txt")]);
}

/// Writes a model's file with another card.
fn save_with(model: &Model, card: &Value, path: &std::path::Path) {
    let weights = model.weights().to_host().into_iter();
    let weights = weights.map(|(spec, v)| (format!("weight.{}", spec.name), spec.shape, v));
    let vectors = model.vectors();
    let shape = vec![vectors.len(), vectors.dim()];
    let mut tensors: Vec<_> = weights.collect();
    tensors.push((file::VECTORS.into(), shape, vectors.values().to_vec()));
    let metadata = [(file::KEY.to_string(), card.to_string())];
    write_tensors(path, &tensors, metadata.into()).unwrap();
}

/// The pointer of every value below this one.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(i, v)| (i.to_string(), v))
            .collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let at = format!("{at}/{key}");
        pointers(child, &at, all);
        all.push(at);
    }
}

/// The reason why a card is refused; otherwise the model scores its labels.
fn refused(model: &Model, card: &Value, path: &std::path::Path) -> Option<String> {
    save_with(model, card, path);
    let device = Device::flex();
    let read = match Model::load(path, &device) {
        Ok(read) => read,
        Err(error) => return Some(error.to_string()),
    };
    let dims = read.card().dims();
    let features = (
        vec![0.5; dims.tokens * dims.width],
        vec![0.5; dims.global_width()],
    );
    let ranker = match Ranker::new(&read, read.own_labels(), &device) {
        Ok(ranker) => ranker,
        Err(error) => return Some(error.to_string()),
    };
    let ranked = ranker.rank(1, features.0, features.1);
    assert_eq!(ranked[0].len(), read.own_labels().len());
    None
}

/// A classifier that knows none of its labels has nothing to score with.
#[test]
fn a05_a_card_without_seen_labels_is_refused_when_it_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for name in ["logistic", "warp", "ridge", "epsilon"] {
        let kind: Kind = serde_json::from_value(json!({"kind": name})).unwrap();
        let model = model_of(kind, 4, None);
        let mut card = serde_json::to_value(model.card()).unwrap();
        card["seen"] = json!(0);
        for labels in [0, 1] {
            card["dims"]["labels"] = json!(labels);
            save_with(&model, &card, &path);
            let refused = Model::load(&path, &Device::flex()).err().unwrap();
            let refused = refused.to_string();
            assert!(
                refused.contains("its card: 0 seen labels of 2"),
                "{refused}"
            );
        }
    }
}

/// Methods of every kind of fitting and vocabulary whose weights are few at the sizes of these tests.
const SMALL: [&str; 10] = [
    "epsilon",
    "ridge",
    "random",
    "sdl",
    "conse",
    "label-em",
    "clip-zero-shot",
    "clip-projection",
    "logistic",
    "warp",
];

/// Whatever a field of the card is changed into, the file is refused or works.
#[test]
fn hostile_cards_are_refused_or_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut others = vec![json!(null), json!("text"), json!({}), json!(0.5)];
    others.extend([0_u64, 1, 3, 7, 1 << 40, u64::MAX].map(|n| json!(n)));
    others.extend([json!(-1), json!(1e300)]);
    for name in SMALL {
        let width = if name.starts_with("clip") { 3 } else { 2 };
        let method = serde_json::from_value(json!({"kind": name})).unwrap();
        let model = model_of(method, width, None);
        let card = serde_json::to_value(model.card()).unwrap();
        assert_eq!(refused(&model, &card, &path), None, "{name}");
        let mut all = Vec::new();
        pointers(&card, "", &mut all);
        // The rest of the card is the same for every method.
        all.retain(|at| name == "ridge" || at.starts_with("/method") || at.starts_with("/dims"));
        for at in all {
            for other in &others {
                let mut changed = card.clone();
                *changed.pointer_mut(&at).unwrap() = other.clone();
                refused(&model, &changed, &path);
            }
        }
    }
}

#[test]
fn counts_of_labels_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let logistic = serde_json::from_value(json!({"kind": "logistic"})).unwrap();
    for model in [model(), model_of(logistic, 2, None)] {
        let card = serde_json::to_value(model.card()).unwrap();
        let changes = [
            ("/seen", json!(0), "0 seen labels of 2"),
            ("/seen", json!(3), "3 seen labels of 2"),
            ("/seen", json!(2), "built for 1 seen and 1 unseen"),
            ("/dims/labels", json!(2), "built for 2 seen"),
            ("/dims/unseen", json!(0), ""),
            ("/dims/unseen", json!(4), "4 unseen labels"),
            ("/dims/label_width", json!(2), ""),
            ("/dims/tokens", json!(9), "9 tokens of 2 values"),
            ("/backbone/grid", json!([1, 7]), "on a grid of 1 x 7"),
            ("/backbone/grid", json!([u64::MAX, 2]), "on a grid"),
            ("/labels", json!(["x", "x"]), "two labels are named `x`"),
        ];
        for (at, value, reason) in changes {
            let mut changed = card.clone();
            *changed.pointer_mut(at).unwrap() = value.clone();
            let found = refused(&model, &changed, &path);
            // An open vocabulary needs no count of the unseen labels.
            if at == "/dims/unseen" && value == json!(0) {
                continue;
            }
            let found = found.unwrap_or_else(|| panic!("{at} = {value} is not refused"));
            assert!(found.contains(reason), "{at} = {value}: {found}");
        }
    }
}
