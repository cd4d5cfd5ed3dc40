//! Agreement within 1e-9 with the NumPy / scikit-learn twin in `reference/make_reference.py`, on
//! random tables with ties, a constant score, unknown labels, empty labels and empty images.

use epsilon_metrics::{Evaluation, Labels, Protocol, Scores, Settings, TopK, evaluate_splits};
use std::collections::BTreeMap;

use serde::Deserialize;

const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Case {
    table: Table,
    seen: usize,
    ks_zsl: Vec<usize>,
    ks_gzsl: Vec<usize>,
    protocol: String,
    settings: Settings,
    expected: Splits,
}

/// Scores and values are given once, with the first case of each table.
#[derive(Deserialize, Clone)]
struct Table {
    images: usize,
    labels: usize,
    scores: Option<Vec<f32>>,
    values: Option<Vec<i8>>,
}

#[derive(Deserialize)]
struct Splits {
    zsl: Expected,
    seen: Expected,
    gzsl: Expected,
}

#[derive(Deserialize)]
struct Expected {
    columns: Vec<usize>,
    images_total: usize,
    images_kept: usize,
    positives_per_image: f64,
    labels_averaged: usize,
    map: f64,
    average_precision: Vec<Option<f64>>,
    annotated: Vec<usize>,
    top_k: Vec<TopK>,
    top_k_by_label: Vec<TopK>,
    /// [ks, columns].
    top_k_of_labels: Vec<Vec<TopK>>,
    coverage_error: f64,
    ranking_loss: f64,
}

#[test]
fn agrees_with_numpy_and_scikit_learn() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("reference/reference.json")).unwrap();
    let (mut scores, mut values) = (Vec::new(), Vec::new());
    for case in &cases {
        if let (Some(s), Some(v)) = (&case.table.scores, &case.table.values) {
            (scores, values) = (s.clone(), v.clone());
        }
        let Table { images, labels, .. } = case.table;
        let result = evaluate_splits(
            Scores::new(&scores, images, labels).unwrap(),
            Labels::new(&values, images, labels).unwrap(),
            case.seen,
            &protocol(case),
            &case.ks_zsl,
            &case.ks_gzsl,
        )
        .unwrap();
        let what = format!("{} on {images} x {labels}", case.protocol);
        compare(&result.zsl, &case.expected.zsl, &format!("{what}, ZSL"));
        compare(&result.seen, &case.expected.seen, &format!("{what}, seen"));
        compare(&result.gzsl, &case.expected.gzsl, &format!("{what}, GZSL"));
    }
    // Those of BiAM have rules of their own for each part, which `peers.json` has.
    for name in Protocol::NAMES
        .iter()
        .filter(|name| !name.starts_with("biam"))
    {
        assert!(cases.iter().any(|case| case.protocol == *name), "{name}");
    }
}

#[derive(Deserialize)]
struct Peers {
    images: usize,
    labels: usize,
    seen: usize,
    ks_zsl: Vec<usize>,
    ks_gzsl: Vec<usize>,
    scores: Vec<f32>,
    values: Vec<i8>,
    expected: BTreeMap<String, BTreeMap<String, PeerFigures>>,
}

#[derive(Deserialize)]
struct PeerFigures {
    map: f64,
    top_k: Vec<TopK>,
}

/// The compared methods' published functions, restated in `reference/make_peers.py`, BiAM's bug included.
#[test]
fn agrees_with_the_peers_published_functions() {
    let peers: Peers = serde_json::from_str(include_str!("reference/peers.json")).unwrap();
    let (images, labels) = (peers.images, peers.labels);
    let scores = Scores::new(&peers.scores, images, labels).unwrap();
    let values = Labels::new(&peers.values, images, labels).unwrap();
    for (name, expected) in &peers.expected {
        let protocol = Protocol::named(name.split(' ').next().unwrap()).unwrap();
        let (ks_zsl, ks_gzsl) = (&peers.ks_zsl, &peers.ks_gzsl);
        let found = evaluate_splits(scores, values, peers.seen, &protocol, ks_zsl, ks_gzsl);
        let found = found.unwrap();
        let parts = [
            ("zsl", &found.zsl),
            ("seen", &found.seen),
            ("gzsl", &found.gzsl),
        ];
        for (part, figures) in parts {
            let what = format!("{name}, {part}");
            close(figures.map, expected[part].map, &what);
            compare_top_k(&figures.top_k, &expected[part].top_k, &what);
        }
        // What is skipped is still listed.
        assert_eq!(found.seen.per_label.len(), peers.seen, "{name}");
    }
    for name in Protocol::NAMES {
        assert!(peers.expected.contains_key(name), "{name}");
    }
}

/// A preset by its name, whose rules must be those the twin used; else the twin's rules.
fn protocol(case: &Case) -> Protocol {
    if !Protocol::NAMES.contains(&case.protocol.as_str()) {
        return Protocol::new(&case.protocol, case.settings, &case.ks_gzsl).unwrap();
    }
    let preset = Protocol::named(&case.protocol).unwrap();
    assert_eq!(preset.settings(), case.settings, "{preset}");
    preset
}

fn compare(actual: &Evaluation, expected: &Expected, what: &str) {
    assert_eq!(actual.images_total, expected.images_total, "{what}");
    assert_eq!(actual.images_kept, expected.images_kept, "{what}");
    assert_eq!(actual.labels_averaged, expected.labels_averaged, "{what}");
    close(
        actual.positives_per_image,
        expected.positives_per_image,
        what,
    );
    close(actual.map, expected.map, what);
    assert_eq!(actual.per_label.len(), expected.columns.len(), "{what}");
    for (i, label) in actual.per_label.iter().enumerate() {
        let what = format!("{what}, column {}", label.column);
        assert_eq!(label.column, expected.columns[i], "{what}");
        assert_eq!(label.annotated, expected.annotated[i], "{what}");
        match (label.average_precision, expected.average_precision[i]) {
            (Some(a), Some(e)) => close(a, e, &what),
            (a, e) => assert_eq!(a, e, "{what}"),
        }
    }
    compare_top_k(&actual.top_k, &expected.top_k, what);
    compare_top_k(&actual.top_k_by_label, &expected.top_k_by_label, what);
    for (column, label) in actual.per_label.iter().enumerate() {
        let of_label = expected.top_k_of_labels.iter().map(|of_k| of_k[column]);
        let what = format!("{what}, column {}", label.column);
        compare_top_k(&label.top_k, &of_label.collect::<Vec<_>>(), &what);
    }
    close(actual.coverage_error, expected.coverage_error, what);
    close(actual.ranking_loss, expected.ranking_loss, what);
}

fn compare_top_k(actual: &[TopK], expected: &[TopK], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (a, e) in actual.iter().zip(expected) {
        let what = format!("{what}, K = {}", e.k);
        assert_eq!(a.k, e.k, "{what}");
        close(a.precision, e.precision, &what);
        close(a.recall, e.recall, &what);
        close(a.f1, e.f1, &what);
    }
}

fn close(actual: f64, expected: f64, what: &str) {
    assert!(
        (actual - expected).abs() < TOLERANCE,
        "{what}: {actual} instead of {expected}"
    );
}
