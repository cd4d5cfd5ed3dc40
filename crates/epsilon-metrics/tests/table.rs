//! Tables read by blocks: the same bits as in memory, several requests at once the same as one by
//! one, and the errors of a table that cannot be read or holds what cannot be measured.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use epsilon_metrics::{
    Average, InMemory, Labels, MetricsError, Over, Protocol, Request, Resampling, Scores, Settings,
    SplitEvaluation, Stoppable, Table, Ties, Unknown, bootstrap, bootstrap_table, evaluate,
    evaluate_protocols, evaluate_splits, evaluate_table, multilabel_average_precision, resample,
};
use proptest::prelude::*;

/// A column-major table, as far from the one in memory as can be; counts the values it gave.
struct Columns {
    images: usize,
    scores: Vec<Vec<f32>>,
    labels: Vec<Vec<i8>>,
    given: AtomicUsize,
    largest: AtomicUsize,
}

impl Columns {
    fn new(images: usize, scores: &[f32], labels: &[i8]) -> Self {
        let columns = scores.len() / images;
        let column = |c: usize| scores.iter().skip(c).step_by(columns).copied().collect();
        let values = |c: usize| labels.iter().skip(c).step_by(columns).copied().collect();
        Self {
            images,
            scores: (0..columns).map(column).collect(),
            labels: (0..columns).map(values).collect(),
            given: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
        }
    }
}

impl Table for Columns {
    type Score = f32;

    fn images(&self) -> usize {
        self.images
    }

    fn labels(&self) -> usize {
        self.scores.len()
    }

    fn read(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        scores: &mut [f32],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        assert_eq!(scores.len(), rows.len() * columns.len());
        assert_eq!(labels.len(), scores.len());
        self.given.fetch_add(scores.len(), Ordering::Relaxed);
        self.largest.fetch_max(scores.len(), Ordering::Relaxed);
        let width = columns.len();
        for (x, column) in columns.enumerate() {
            for (y, row) in rows.clone().enumerate() {
                scores[y * width + x] = self.scores[column][row];
                labels[y * width + x] = self.labels[column][row];
            }
        }
        Ok(())
    }
}

/// Scores with ties and labels, [images, labels], the same on every call.
fn random(images: usize, labels: usize) -> (Vec<f32>, Vec<i8>) {
    let mut state = 7_u64;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let count = images * labels;
    let scores = (0..count).map(|_| draw(500) as f32 / 8.0 - 30.0).collect();
    let values = (0..count).map(|_| [1, -1, -1, -1, 0][draw(5) as usize]);
    (scores, values.collect())
}

fn own() -> Vec<Protocol> {
    let base = Protocol::lesa_nus().settings();
    let ignore = Settings {
        unknown: Unknown::Ignore,
        ..base
    };
    let stable = Settings {
        ties: Ties::Stable,
        ..base
    };
    vec![
        Protocol::new("ignore", ignore, &[]).unwrap(),
        Protocol::new("stable", stable, &[]).unwrap(),
    ]
}

fn protocols() -> Vec<Protocol> {
    Protocol::all().into_iter().chain(own()).collect()
}

/// Scores that differ in f64 alone give what their ranks in f32 give.
#[test]
fn scores_in_f64_are_not_rounded() {
    let (images, labels) = (2500, 30);
    let (scores, values) = random(images, labels);
    let fine: Vec<f64> = (0..)
        .zip(&scores)
        .map(|(i, &s)| f64::from(s) + f64::from(i % 3) * 1e-12)
        .collect();
    let mut distinct = fine.clone();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct.dedup();
    let rank = |s: &f64| distinct.partition_point(|d| d < s) as f32;
    let ranks: Vec<f32> = fine.iter().map(rank).collect();
    let values = Labels::new(&values, images, labels).unwrap();
    let protocols: Vec<Protocol> = protocols()
        .into_iter()
        .chain([Protocol::biam_oi_bug()])
        .collect();
    let fine = InMemory::new(Scores::new(&fine, images, labels).unwrap(), values).unwrap();
    let ranks = InMemory::new(Scores::new(&ranks, images, labels).unwrap(), values).unwrap();
    let rounded = InMemory::new(Scores::new(&scores, images, labels).unwrap(), values).unwrap();
    fn figures(table: &impl Table, protocols: &[Protocol]) -> Vec<SplitEvaluation> {
        evaluate_protocols(table, 20, protocols, &[3], &[3, 5]).unwrap()
    }
    let expected = figures(&ranks, &protocols);
    assert_eq!(figures(&fine, &protocols), expected);
    assert_ne!(figures(&rounded, &protocols), expected);
    let columns: Vec<usize> = (0..labels).collect();
    let request = Request {
        columns: &columns,
        protocol: &protocols[0],
        ks: &[],
    };
    assert_eq!(
        bootstrap_table(&fine, &[request], 5, 1),
        bootstrap_table(&ranks, &[request], 5, 1)
    );
    for average in [Average::Micro, Average::Macro] {
        let of = multilabel_average_precision(&fine, average);
        assert_eq!(of, multilabel_average_precision(&ranks, average));
    }
}

/// Above the sizes at which columns are sorted by digits and read in several blocks.
#[test]
fn a_streamed_table_gives_the_bits_of_one_in_memory() {
    let (images, labels) = (5000, 150);
    let (scores, values) = random(images, labels);
    let table = Columns::new(images, &scores, &values);
    let scores = Scores::new(&scores, images, labels).unwrap();
    let values = Labels::new(&values, images, labels).unwrap();
    let streamed = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
            .install(|| evaluate_protocols(&table, 130, &protocols(), &[3, 5], &[3, 150]).unwrap())
    };
    let first = streamed(1);
    assert_eq!(first, streamed(3));
    for (protocol, streamed) in protocols().iter().zip(&first) {
        let whole = evaluate_splits(scores, values, 130, protocol, &[3, 5], &[3, 150]).unwrap();
        assert_eq!(&whole, streamed, "{protocol}");
    }
    let largest = table.largest.load(Ordering::Relaxed);
    assert!(largest < images * labels / 4, "a block of {largest} values");
}

#[test]
fn any_number_of_requests_reads_a_table_twice() {
    let (images, labels) = (300, 40);
    let (scores, values) = random(images, labels);
    let table = Columns::new(images, &scores, &values);
    evaluate_protocols(&table, 30, &protocols(), &[1], &[1, 2]).unwrap();
    assert_eq!(table.given.into_inner(), 2 * images * labels);
}

#[test]
fn the_radix_sort_agrees_with_the_single_label_function() {
    let images = 4000;
    let (mut scores, values) = random(images, 1);
    for score in &mut scores[..images / 2] {
        *score *= 1e-20; // Other exponents, so that every digit counts.
    }
    for ties in [Ties::Grouped, Ties::Stable] {
        let fast = epsilon_metrics::average_precision(&scores, &values, ties).unwrap();
        let mut known: Vec<usize> = (0..images).filter(|&i| values[i] != 0).collect();
        known.sort_by(|&a, &b| scores[b].total_cmp(&scores[a])); // stable
        let (mut found, mut sum) = (0.0, 0.0);
        for (rank, &image) in known.iter().enumerate().filter(|(_, i)| values[**i] == 1) {
            let tied = known[rank..]
                .iter()
                .take_while(|&&i| scores[i] == scores[image]);
            let tied: Vec<usize> = tied.copied().collect();
            found += 1.0;
            sum += match ties {
                Ties::Stable => found / (rank + 1) as f64,
                Ties::Grouped => {
                    let positives = tied[1..].iter().filter(|&&i| values[i] == 1).count();
                    (found + positives as f64) / (rank + tied.len()) as f64
                }
            };
        }
        assert!((fast.unwrap() - sum / found).abs() < 1e-12, "{ties:?}");
    }
}

#[test]
fn the_bootstrap_streams_too_and_gives_all_requests_at_once_what_each_has_alone() {
    let (mut scores, mut values) = random(200, 12);
    // A label that is known everywhere, one without positives, one without images, and scores that tie.
    for (place, (score, value)) in scores.iter_mut().zip(&mut values).enumerate() {
        match place % 12 {
            3 => *value = [1, -1][place % 2],
            5 => *value = (*value).min(0),
            7 => *score = (4.0 * *score).round(),
            9 => *value = 0,
            _ => {}
        }
    }
    let table = Columns::new(200, &scores, &values);
    let scores = Scores::new(&scores, 200, 12).unwrap();
    let values = Labels::new(&values, 200, 12).unwrap();
    let sets: [&[usize]; 3] = [&[7, 3, 11], &[0, 1, 2, 4, 5, 9], &[3, 9, 5, 7]];
    let protocols = protocols();
    let of_protocol = |protocol| {
        sets.map(|columns| Request {
            columns,
            protocol,
            ks: &[],
        })
    };
    let requests: Vec<Request<'_>> = protocols.iter().flat_map(of_protocol).collect();
    let streamed = bootstrap_table(&table, &requests, 140, 9).unwrap();
    assert_eq!(streamed.len(), requests.len());
    for (streamed, request) in streamed.into_iter().zip(&requests) {
        let (columns, protocol) = (request.columns, request.protocol);
        let whole = bootstrap(scores, values, columns, protocol, 140, 9).unwrap();
        assert_eq!(streamed, whole, "{protocol}, {columns:?}");
    }
    assert_eq!(bootstrap_table(&table, &[], 140, 9).unwrap(), []);
}

#[test]
fn coverage_and_ranking_loss_by_hand() {
    // Image 0: + at ranks 1 and 3 of 4, one negative above one positive: 1 of 2 * 2 pairs.
    // Image 1: the positive ties with a negative below an unknown label. Image 2: no positive.
    #[rustfmt::skip]
    let (scores, values) = (
        [0.9, 0.8, 0.7, 0.1,  0.9, 0.5, 0.5, 0.1,  0.1, 0.2, 0.3, 0.4],
        [1, -1, 1, -1,        0, 1, -1, -1,        -1, -1, 0, -1],
    );
    let scores = Scores::new(&scores, 3, 4).unwrap();
    let values = Labels::new(&values, 3, 4).unwrap();
    let run = |protocol: &Protocol| {
        let figures = evaluate(scores, values, &[0, 1, 2, 3], protocol, &[1]).unwrap();
        (figures.coverage_error, figures.ranking_loss)
    };
    let [ignore, _] = &own()[..] else { panic!() };
    assert_eq!(
        run(&Protocol::lesa_nus()),
        (6.0 / 3.0, (1.0 / 4.0 + 2.0 / 3.0) / 3.0)
    );
    assert_eq!(
        run(&Protocol::epsilon()),
        (6.0 / 2.0, (1.0 / 4.0 + 2.0 / 3.0) / 2.0)
    );
    assert_eq!(run(ignore), (5.0 / 3.0, (1.0 / 4.0 + 1.0 / 2.0) / 3.0));
}

#[test]
fn figures_of_each_label_by_hand() {
    let scores = Scores::new(&[0.9, 0.5, 0.1, 0.8, 0.2, 0.4], 2, 3).unwrap();
    let values = Labels::new(&[1, -1, 1, -1, 1, -1], 2, 3).unwrap();
    let figures = evaluate(scores, values, &[0, 1, 2], &Protocol::lesa_nus(), &[1, 2]).unwrap();
    let found = figures.per_label.iter().map(|label| {
        let [one, two] = &label.top_k[..] else {
            panic!()
        };
        [one.precision, one.recall, two.precision, two.recall]
    });
    // Best two: 0, 1 of image 0 and 0, 2 of image 1. Positive: 0 and 2 of image 0, 1 of image 1.
    let expected = [[0.5, 1.0, 0.5, 1.0], [0.0; 4], [0.0; 4]];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let mean = figures.top_k_by_label[0];
    assert_eq!((mean.precision, mean.recall), (0.5 / 3.0, 1.0 / 3.0));
    assert!((mean.f1 - 2.0 / 9.0).abs() < 1e-15);
}

#[test]
fn what_a_table_holds_is_checked_as_it_is_read() {
    let (scores, values) = random(400, 6);
    let run = |change: &dyn Fn(&mut Columns)| {
        let mut table = Columns::new(400, &scores, &values);
        change(&mut table);
        let columns = [0, 1, 2, 3, 4, 5];
        let protocol = Protocol::sdl();
        let request = Request {
            columns: &columns,
            protocol: &protocol,
            ks: &[1],
        };
        evaluate_table(&table, &[request]).map(|_| ()).unwrap_err()
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = run(&|table| table.scores[4][321] = bad);
        let text = error.to_string();
        assert!(
            matches!(
                error,
                MetricsError::NotFinite {
                    image: 321,
                    label: 4,
                    ..
                }
            ),
            "{text}"
        );
    }
    let error = run(&|table| table.labels[5][99] = 3);
    assert_eq!(
        error,
        MetricsError::LabelValue {
            image: 99,
            label: 5,
            value: 3
        }
    );
    let error = run(&|table| table.labels.iter_mut().for_each(|column| column.fill(0)));
    assert_eq!(
        error,
        MetricsError::NoPositives {
            images: 400,
            labels: 6
        }
    );
    let error = run(&|table| table.images = 0);
    assert!(matches!(error, MetricsError::Empty { .. }));
    let error = run(&|table| table.images = usize::MAX);
    assert!(matches!(error, MetricsError::TooLarge { .. }));
}

/// A file that ends too soon.
struct Truncated;

impl Table for Truncated {
    type Score = f32;

    fn images(&self) -> usize {
        10_000
    }

    fn labels(&self) -> usize {
        50
    }

    fn read(
        &self,
        rows: Range<usize>,
        _: Range<usize>,
        scores: &mut [f32],
        labels: &mut [i8],
    ) -> Result<(), MetricsError> {
        if rows.end > 9_000 {
            let reason = format!("scores.bin ends before row {}", rows.end);
            return Err(MetricsError::Read { reason });
        }
        scores.fill(0.0);
        labels.fill(1);
        Ok(())
    }
}

#[test]
fn a_table_that_cannot_be_read_says_so() {
    let error = evaluate_protocols(&Truncated, 25, &[Protocol::epsilon()], &[3], &[3]);
    let text = error.unwrap_err().to_string();
    assert!(
        text.starts_with("the scores and labels could not be read: scores.bin ends"),
        "{text}"
    );
}

#[test]
fn shapes_must_agree() {
    let scores = Scores::new(&[0.0; 6], 2, 3).unwrap();
    let labels = Labels::new(&[0; 6], 3, 2).unwrap();
    let error = InMemory::new(scores, labels).unwrap_err();
    assert!(matches!(error, MetricsError::ShapesDiffer { .. }));
}

fn small() -> impl Strategy<Value = (usize, usize, Vec<f32>, Vec<i8>)> {
    (1_usize..40, 2_usize..20).prop_flat_map(|(images, labels)| {
        let count = images * labels;
        let scores = prop::collection::vec((-8_i8..8).prop_map(f32::from), count);
        let values = prop::collection::vec(-1_i8..=1, count).prop_map(|mut values| {
            values[0] = 1;
            values
        });
        (Just(images), Just(labels), scores, values)
    })
}

proptest! {
    #[test]
    fn streaming_changes_nothing((images, labels, scores, values) in small()) {
        let table = Columns::new(images, &scores, &values);
        let scores = Scores::new(&scores, images, labels).unwrap();
        let values = Labels::new(&values, images, labels).unwrap();
        let columns: Vec<usize> = (0..labels).rev().collect();
        let protocols = protocols();
        let requests: Vec<Request<'_>> = protocols
            .iter()
            .map(|protocol| Request { columns: &columns, protocol, ks: &[1, 2] })
            .collect();
        let streamed = evaluate_table(&table, &requests).unwrap();
        for (request, streamed) in requests.iter().zip(streamed) {
            let whole = evaluate(scores, values, &columns, request.protocol, &[1, 2]).unwrap();
            prop_assert_eq!(whole, streamed);
        }
    }

    #[test]
    fn the_order_of_labels_changes_no_label(
        ((images, labels, scores, values), order) in small().prop_flat_map(|table| {
            let order: Vec<usize> = (0..table.1).collect();
            (Just(table), Just(order).prop_shuffle())
        }),
        which in 0..8_usize,
    ) {
        // Ties at the border of the top K go by column, so scores differ within an image here.
        let scores: Vec<f32> = scores
            .iter()
            .enumerate()
            .map(|(i, s)| s + (i % labels) as f32 / 64.0)
            .collect();
        let scores = Scores::new(&scores, images, labels).unwrap();
        let values = Labels::new(&values, images, labels).unwrap();
        let protocol = &protocols()[which];
        let every: Vec<usize> = (0..labels).collect();
        let straight = evaluate(scores, values, &every, protocol, &[1, labels]).unwrap();
        let mut moved = evaluate(scores, values, &order, protocol, &[1, labels]).unwrap();
        prop_assert!((straight.map - moved.map).abs() < 1e-12);
        prop_assert_eq!(&straight.top_k, &moved.top_k);
        prop_assert_eq!(straight.coverage_error, moved.coverage_error);
        prop_assert_eq!(straight.ranking_loss, moved.ranking_loss);
        moved.per_label.sort_by_key(|label| label.column);
        prop_assert_eq!(straight.per_label, moved.per_label);
    }

    #[test]
    fn figures_of_a_list_keep_their_bounds((images, labels, scores, values) in small(), which in 0..8_usize) {
        let scores = Scores::new(&scores, images, labels).unwrap();
        let values = Labels::new(&values, images, labels).unwrap();
        let every: Vec<usize> = (0..labels).collect();
        let figures = evaluate(scores, values, &every, &protocols()[which], &[labels]).unwrap();
        prop_assert!((0.0..=1.0).contains(&figures.ranking_loss));
        prop_assert!(figures.coverage_error <= labels as f64);
        prop_assert!(figures.coverage_error >= figures.positives_per_image - 1e-12);
        for label in &figures.per_label {
            prop_assert!(label.average_precision.is_none_or(|ap| (0.0..=1.0 + 1e-12).contains(&ap)));
            // Every list holds every label that it may.
            let all = label.positives > 0;
            prop_assert_eq!(label.top_k[0].recall, f64::from(u8::from(all)));
        }
    }
}

/// What reads a table that can be stopped.
type Work<'a> = dyn Fn(&Stoppable<'_, &Columns>) -> Result<(), MetricsError> + 'a;

/// Stopped when it is asked for the n-th time, whatever is computed then: nothing else comes back, and nothing is read any more.
#[test]
fn what_is_evaluated_or_resampled_stops_when_it_is_told_to() {
    let (images, labels) = (400, 60);
    let (scores, values) = random(images, labels);
    let table = Columns::new(images, &scores, &values);
    let columns: Vec<usize> = (0..labels).collect();
    let how = |over| Resampling {
        over,
        resamples: 10,
        seed: 1,
    };
    for protocol in [Protocol::lesa_nus(), Protocol::biam_oi()] {
        let protocol = &protocol;
        let request = Request {
            columns: &columns,
            protocol,
            ks: &[1],
        };
        let works: [&Work; 5] = [
            &|table| evaluate_table(table, &[request]).map(drop),
            &|table| {
                evaluate_protocols(table, 30, std::slice::from_ref(protocol), &[1], &[1]).map(drop)
            },
            &|table| bootstrap_table(table, &[request], 10, 1).map(drop),
            &|table| resample(table, request, &how(Over::Images)).map(drop),
            &|table| resample(table, request, &how(Over::Labels)).map(drop),
        ];
        for work in works {
            let asked = AtomicUsize::new(0);
            let never = || asked.fetch_add(1, Ordering::Relaxed) == usize::MAX;
            work(&Stoppable::new(&table, &never)).unwrap();
            let all = asked.load(Ordering::Relaxed);
            assert!(all > labels, "asked {all} times");
            for stop_at in [0, 1, all / 2, all - 1] {
                asked.store(0, Ordering::Relaxed);
                let stop = || asked.fetch_add(1, Ordering::Relaxed) >= stop_at;
                let ended = work(&Stoppable::new(&table, &stop));
                assert_eq!(ended, Err(MetricsError::Stopped), "{stop_at} of {all}");
            }
        }
    }
}
