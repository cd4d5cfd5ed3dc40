//! Whole evaluations: every preset worked by hand, the identity of seen, unseen and GZSL mAP,
//! bounds of the top-K figures, hostile input.

use epsilon_metrics::{
    EmptyLabel, Evaluation, Images, Labels, MetricsError, Protocol, Scores, Settings, TopK,
    Unknown, evaluate, evaluate_splits,
};
use proptest::prelude::*;

const IMAGES: usize = 4;
const LABELS: usize = 3;
/// Image 1 has no positive; label 2 has none.
#[rustfmt::skip]
const VALUES: [i8; 12] = [
     1, -1, -1,
    -1,  0, -1,
     0,  1, -1,
     1, -1,  0,
];
#[rustfmt::skip]
const SCORES: [f32; 12] = [
    0.9, 0.75, 0.1,
    0.8, 0.9,  0.3,
    0.8, 0.7,  0.6,
    0.7, 0.2,  0.4,
];

fn tables() -> (Scores<'static>, Labels<'static>) {
    (
        Scores::new(&SCORES, IMAGES, LABELS).unwrap(),
        Labels::new(&VALUES, IMAGES, LABELS).unwrap(),
    )
}

fn run(protocol: &Protocol, ks: &[usize]) -> Evaluation {
    let (scores, labels) = tables();
    evaluate(scores, labels, &[0, 1, 2], protocol, ks).unwrap()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

/// (mAP, labels averaged, images kept, hits at K = 1, AP of label 0) by hand.
fn check(name: &str, map: f64, averaged: usize, kept: usize, hits: f64, first: f64) {
    let result = run(&Protocol::named(name).unwrap(), &[1]);
    assert!(close(result.map, map), "{name}: mAP {}", result.map);
    assert_eq!(result.protocol, name);
    assert_eq!(result.labels_averaged, averaged, "{name}");
    assert_eq!(
        (result.images_kept, result.images_total),
        (kept, 4),
        "{name}"
    );
    assert!(
        close(result.positives_per_image, 3.0 / kept as f64),
        "{name}"
    );
    let TopK {
        precision,
        recall,
        f1,
        ..
    } = result.top_k[0];
    assert!(close(precision, hits / kept as f64), "{name}: {precision}");
    assert!(close(recall, hits / 3.0), "{name}: {recall}");
    assert!(close(f1, 2.0 * hits / (kept as f64 + 3.0)), "{name}: {f1}");
    let ap = result.per_label[0].average_precision.unwrap();
    assert!(close(ap, first), "{name}: {ap}");
}

#[test]
fn presets_worked_by_hand() {
    // Label 1 has AP 1/2 in all. Label 0, all images: + - + (5/6); without image 1: + + (1); where
    // unknown is negative and without image 1: + - + (5/6). Best labels: +, unknown, unknown, +.
    check(
        "lesa-nus",
        (5.0 / 6.0 + 0.5 + 0.0) / 3.0,
        3,
        4,
        2.0,
        5.0 / 6.0,
    );
    check(
        "lesa-oi",
        (5.0 / 6.0 + 0.5 + 0.0) / 3.0,
        3,
        4,
        2.0,
        5.0 / 6.0,
    );
    check("epsilon", (1.0 + 0.5 + 0.0) / 3.0, 3, 3, 2.0, 1.0);
    check("sdl", (5.0 / 6.0 + 0.5 + 0.0) / 3.0, 3, 3, 2.0, 5.0 / 6.0);
    check(
        "ml2p-nus",
        (5.0 / 6.0 + 0.5 + 0.0) / 3.0,
        3,
        4,
        2.0,
        5.0 / 6.0,
    );
    // Label 2 is annotated, so it counts.
    check("biam-oi", (1.0 + 0.5 + 0.0) / 3.0, 3, 3, 2.0, 1.0);
    // Of the images kept two are positive for label 0, one for label 1.
    let weighted = (2.0 * 1.0 + 1.0 * 0.5) / 3.0;
    check("biam-oi-weighted", weighted, 3, 3, 2.0, 1.0);
    // Label 0 is annotated in images 0 and 3: 0.9 +, 0.75 -, 0.7 +, 0.2 -, 0.1 -. Label 2 in images 0 and 2: + - + - -. Label 1 in
    // all three: 0.9 +, 0.75 -, 0.7 + twice, then misses.
    let (two, three) = (5.0 / 6.0, (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0);
    check("biam-oi-bug", (two + three + two) / 3.0, 3, 3, 2.0, two);
    let weighted = (2.0 * two + 1.0 * three) / 3.0;
    check("biam-oi-bug-weighted", weighted, 3, 3, 2.0, two);
}

/// What BiAM's script leaves out depends on the part.
#[test]
fn labels_that_nobody_annotated() {
    // Labels 0 to 2 are seen; nobody annotated labels 1 and 4.
    let scores = [0.5, 0.9, 0.1, 0.3, 0.8, 0.4, 0.95, 0.6, 0.2, 0.1];
    let values = [1, 0, -1, 1, 0, -1, 0, 1, -1, 0];
    let scores = Scores::new(&scores, 2, 5).unwrap();
    let labels = Labels::new(&values, 2, 5).unwrap();
    let protocol = Protocol::biam_oi();
    let result = evaluate_splits(scores, labels, 3, &protocol, &[1], &[1, 3]).unwrap();
    let averaged = |e: &Evaluation| (e.labels_averaged, e.map, e.per_label.len());
    assert_eq!(averaged(&result.seen), (2, 1.0, 3));
    assert_eq!(averaged(&result.gzsl), (3, 1.0, 5));
    assert_eq!(averaged(&result.zsl), (2, 0.5, 2), "none is left out");
    assert_eq!(result.seen.per_label[1].average_precision, None);
    // Among the seen ones label 1 does not compete, among all it does. Three of two labels cannot be taken.
    assert_eq!(result.seen.top_k.len(), 1);
    assert_eq!(result.seen.top_k[0].precision, 1.0);
    assert_eq!(result.gzsl.top_k[0].precision, 0.0);
    assert!(
        result.to_string().contains("without annotation"),
        "{result}"
    );
}

#[test]
fn ignored_unknowns_leave_the_top_k() {
    let settings = Settings {
        unknown: Unknown::Ignore,
        ..Protocol::named("lesa-nus").unwrap().settings()
    };
    let result = run(&Protocol::new("ours", settings, &[1]).unwrap(), &[1, 3]);
    // Best annotated labels: +, -, +, +.
    assert!(close(result.top_k[0].precision, 3.0 / 4.0));
    assert!(close(result.top_k[0].recall, 1.0));
    // Only 3 + 2 + 2 + 2 labels are annotated.
    assert!(close(result.top_k[1].precision, 3.0 / 9.0));
}

#[test]
fn a_label_without_positives_can_be_an_error() {
    let settings = Settings {
        empty_label: EmptyLabel::Error,
        ..Protocol::named("epsilon").unwrap().settings()
    };
    let strict = Protocol::new("strict", settings, &[1]).unwrap();
    let (scores, labels) = tables();
    let error = evaluate(scores, labels, &[0, 1, 2], &strict, &[1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "column 2 has no positive among the images kept, and protocol \"strict\" makes that an \
         error: leave the label out or choose another protocol"
    );
    assert!(evaluate(scores, labels, &[1, 0], &strict, &[1]).is_ok());
}

#[test]
fn columns_are_ranked_among_themselves_in_any_order() {
    let (scores, labels) = tables();
    let protocol = Protocol::named("lesa-nus").unwrap();
    let result = evaluate(scores, labels, &[2, 1], &protocol, &[1]).unwrap();
    let columns: Vec<usize> = result.per_label.iter().map(|l| l.column).collect();
    assert_eq!(columns, [2, 1]);
    // Best of labels 1 and 2: -, unknown, +, unknown.
    assert!(close(result.top_k[0].precision, 0.25));
    assert!(close(result.top_k[0].recall, 1.0));
}

#[test]
fn equal_scores_fill_the_top_k_in_column_order() {
    let scores = Scores::new(&[0.5; 3], 1, 3).unwrap();
    let labels = Labels::new(&[-1, 1, 1], 1, 3).unwrap();
    let protocol = Protocol::named("epsilon").unwrap();
    let result = evaluate(scores, labels, &[0, 1, 2], &protocol, &[1, 2, 3]).unwrap();
    let hits: Vec<f64> = result
        .top_k
        .iter()
        .map(|t| t.precision * t.k as f64)
        .collect();
    assert_eq!(hits, [0.0, 1.0, 2.0]);
}

#[test]
fn splits_worked_by_hand() {
    let (scores, labels) = tables();
    // Unseen: labels 1 and 2; only image 2 has a positive among them.
    let protocol = Protocol::named("biam-oi").unwrap();
    let result = evaluate_splits(scores, labels, 1, &protocol, &[1, 2], &[1, 3]).unwrap();
    assert_eq!(result.zsl.images_kept, 1);
    assert!(close(result.zsl.map, 0.5));
    assert_eq!(result.zsl.top_k.len(), 2);
    assert_eq!(result.seen.images_kept, 2);
    assert!(close(result.seen.map, 1.0));
    // K = 3 exceeds the one seen label.
    assert_eq!(result.seen.top_k.len(), 1);
    assert_eq!(result.gzsl.top_k.len(), 2);
    assert!(close(result.gzsl.map, 0.5));
    assert!(close(result.harmonic_map, 2.0 / 3.0));
}

#[test]
fn results_survive_json() {
    let (scores, labels) = tables();
    let protocol = Protocol::named("biam-oi").unwrap();
    let result = evaluate_splits(scores, labels, 1, &protocol, &[1], &[1, 2]).unwrap();
    let json = serde_json::to_string(&result).unwrap();
    assert!(
        json.contains(r#""protocol":"biam-oi","settings":{"images":"with-positive""#),
        "{json}"
    );
    let back = serde_json::from_str(&json).unwrap();
    assert_eq!(result, back);
}

#[test]
fn hostile_input_is_named() {
    let (scores, labels) = tables();
    let protocol = Protocol::named("lesa-nus").unwrap();
    let error = |columns: &[usize], ks: &[usize]| {
        evaluate(scores, labels, columns, &protocol, ks).unwrap_err()
    };
    assert_eq!(error(&[], &[1]), MetricsError::NoColumns);
    assert_eq!(
        error(&[0, 3], &[1]),
        MetricsError::ColumnOutOfRange {
            column: 3,
            labels: 3
        }
    );
    assert_eq!(
        error(&[0, 1, 0], &[1]),
        MetricsError::ColumnTwice { column: 0 }
    );
    assert_eq!(
        error(&[0, 1], &[1, 3]),
        MetricsError::KTooLarge { k: 3, labels: 2 }
    );
    assert_eq!(error(&[0, 1], &[0]), MetricsError::BadKs { ks: vec![0] });
    assert_eq!(
        error(&[0, 1], &[2, 1]),
        MetricsError::BadKs { ks: vec![2, 1] }
    );
    assert_eq!(
        error(&[2], &[1]),
        MetricsError::NoPositives {
            images: 4,
            labels: 1
        }
    );

    let fewer = Labels::new(&VALUES[..9], 3, 3).unwrap();
    let error = evaluate(scores, fewer, &[0], &protocol, &[1]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("scores are 4 images x 3 labels, labels are 3 x 3")
    );

    let unknown = Labels::new(&[0; 12], 4, 3).unwrap();
    for name in Protocol::NAMES {
        let protocol = Protocol::named(name).unwrap();
        let error = evaluate(scores, unknown, &[0, 1, 2], &protocol, &[1]).unwrap_err();
        assert_eq!(
            error,
            MetricsError::NoPositives {
                images: 4,
                labels: 3
            }
        );
    }

    for seen in [0, 3, 4] {
        let error = evaluate_splits(scores, labels, seen, &protocol, &[1], &[1]).unwrap_err();
        assert_eq!(error, MetricsError::BadSplit { seen, labels: 3 });
    }
    let error = evaluate_splits(scores, labels, 2, &protocol, &[1], &[1]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("ZSL figures: none of the 4 images"),
        "{error}"
    );
}

/// Scores with ties and labels, [images, labels], with at least one positive in each half.
fn random() -> impl Strategy<Value = (usize, usize, Vec<f32>, Vec<i8>)> {
    (1_usize..30, 2_usize..24).prop_flat_map(|(images, labels)| {
        let count = images * labels;
        let scores = prop::collection::vec((-8_i8..8).prop_map(f32::from), count);
        let values = prop::collection::vec(-1_i8..=1, count).prop_map(move |mut values| {
            values[0] = 1;
            values[labels - 1] = 1;
            values
        });
        (Just(images), Just(labels), scores, values)
    })
}

fn any_protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(Protocol::NAMES.to_vec()).prop_map(|name| Protocol::named(name).unwrap())
}

proptest! {
    #[test]
    fn gzsl_map_is_the_mean_of_seen_and_unseen(
        (images, labels, scores, values) in random(),
        unknown in prop::sample::select(vec![Unknown::Miss, Unknown::Negative]),
    ) {
        // Under the same images, which "all" grants.
        let settings = Settings { unknown, ..Protocol::named("lesa-nus").unwrap().settings() };
        prop_assert_eq!(settings.images, Images::All);
        let protocol = Protocol::new("ours", settings, &[1]).unwrap();
        let scores = Scores::new(&scores, images, labels).unwrap();
        let values = Labels::new(&values, images, labels).unwrap();
        let seen = labels / 2;
        let result = evaluate_splits(scores, values, seen, &protocol, &[1], &[1]).unwrap();
        let sum = seen as f64 * result.seen.map + (labels - seen) as f64 * result.zsl.map;
        prop_assert!((result.gzsl.map - sum / labels as f64).abs() < 1e-12);
    }

    #[test]
    fn figures_keep_their_bounds(
        (images, labels, scores, values) in random(),
        protocol in any_protocol(),
    ) {
        let scores = Scores::new(&scores, images, labels).unwrap();
        let table = Labels::new(&values, images, labels).unwrap();
        let columns: Vec<usize> = (0..labels).collect();
        let ks: Vec<usize> = (1..=labels).collect();
        let result = evaluate(scores, table, &columns, &protocol, &ks).unwrap();
        prop_assert!((0.0..=1.0 + 1e-12).contains(&result.map));
        for t in &result.top_k {
            for figure in [t.precision, t.recall, t.f1] {
                prop_assert!((0.0..=1.0).contains(&figure));
            }
            // K places cannot hold more positives than an image has.
            prop_assert!(t.precision * t.k as f64 <= result.positives_per_image + 1e-12);
            prop_assert!(t.f1 <= t.precision.max(t.recall) + 1e-12);
            prop_assert!(t.f1 >= t.precision.min(t.recall) - 1e-12);
        }
        prop_assert!(result.top_k.windows(2).all(|pair| pair[0].recall <= pair[1].recall));
        prop_assert_eq!(result.top_k[labels - 1].recall, 1.0);
    }

    #[test]
    fn the_order_of_images_changes_nothing(
        (images, labels, scores, values) in random(),
        protocol in prop::sample::select(Protocol::all().to_vec()),
        turn in 0_usize..30,
    ) {
        let columns: Vec<usize> = (0..labels).collect();
        let run = |scores: &[f32], values: &[i8]| {
            let scores = Scores::new(scores, images, labels).unwrap();
            let values = Labels::new(values, images, labels).unwrap();
            evaluate(scores, values, &columns, &protocol, &[1, 2]).unwrap()
        };
        let (mut moved_scores, mut moved_values) = (scores.clone(), values.clone());
        moved_scores.rotate_left(turn % images * labels);
        moved_values.rotate_left(turn % images * labels);
        prop_assert_eq!(run(&scores, &values), run(&moved_scores, &moved_values));
    }

    #[test]
    fn threads_change_nothing((images, labels, scores, values) in random()) {
        let scores = Scores::new(&scores, images, labels).unwrap();
        let values = Labels::new(&values, images, labels).unwrap();
        let protocol = Protocol::named("biam-oi-weighted").unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| evaluate_splits(scores, values, 1, &protocol, &[1], &[1, 2]).unwrap())
        };
        prop_assert_eq!(run(1), run(4));
    }

    #[test]
    fn a_perfect_ranking_is_perfect((images, labels, _, values) in random()) {
        let scores: Vec<f32> = values.iter().map(|&v| f32::from(v)).collect();
        let scores = Scores::new(&scores, images, labels).unwrap();
        let values = Labels::new(&values, images, labels).unwrap();
        let columns: Vec<usize> = (0..labels).collect();
        let skip = Settings { empty_label: EmptyLabel::Skip, ..Protocol::epsilon().settings() };
        let protocol = Protocol::new("skip", skip, &[1]).unwrap();
        let result = evaluate(scores, values, &columns, &protocol, &[1]).unwrap();
        prop_assert!(close(result.map, 1.0));
        prop_assert_eq!(result.top_k[0].precision, 1.0);
    }
}
