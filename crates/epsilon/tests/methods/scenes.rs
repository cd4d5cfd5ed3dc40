//! Every method fits 64 drawn scenes, and its model file scores as it did.

use std::ops::ControlFlow::{self, Continue};
use std::path::Path;

use epsilon::backbone;
use epsilon::dataset::Split;
use epsilon::dataset::scenes::{SceneOptions, Scenes};
use epsilon::experiment::{self, Prepared, Training};
use epsilon::labels::LabelVectors;
use epsilon::methods::{Kind, Vocabulary};
use epsilon::model::Model;
use epsilon::recipe::{EvaluationSettings, Recipe};
use epsilon::tokens::TokenStore;
use epsilon::training::{Event, RunFolder};
use epsilon_metrics::{Labels, Protocol, Scores, evaluate};

use crate::device::device;

const IMAGES: u32 = 64;

/// How a method is shown to fit.
struct Fits {
    /// Its settings.
    method: &'static str,
    /// How it trains.
    training: &'static str,
    /// The most pairs of a label that is there and one that is not, in percent of the pairs of a training image, that it
    /// may rank the wrong way round. (Most losses rank the labels of an image, so this shows a fit and mAP does not.)
    pairs: f64,
}

const FITS: &[Fits] = &[
    Fits {
        method: "kind = 'epsilon'\n groups = 4\n lambda = 0.0\n alpha = 'positives'",
        training: "epochs = 80\n batch = 8\n learning-rate = 2e-3",
        pairs: 0.5,
    },
    Fits {
        method: "kind = 'fast0tag'\n hidden = [512, 256]\n dropout = 0.0\n input = 'both'\n alpha = 'positives'",
        training: "epochs = 250\n batch = 8\n learning-rate = 2e-3",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'sdl'\n regularisation = 0.0\n input = 'both'",
        training: "epochs = 250\n batch = 8\n learning-rate = 5e-3",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'ml2p-encoder'\n groups = 3\n regularisation = 0.0\n alpha = 'positives'",
        training: "epochs = 160\n batch = 8\n learning-rate = 4e-3",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'label-em'\n input = 'both'",
        training: "epochs = 900\n batch = 8\n learning-rate = 1e-1",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'bilinear-attention'\n rank = 64",
        training: "epochs = 120\n batch = 8\n learning-rate = 5e-3",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'lesa-per-cluster'",
        training: "epochs = 100\n batch = 8\n learning-rate = 3e-3",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'lesa'",
        training: "epochs = 80\n batch = 8\n learning-rate = 2e-3",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'biam'\n channels = 64",
        training: "epochs = 80\n batch = 8\n learning-rate = 2e-3",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'logistic'\n input = 'both'",
        training: "epochs = 250\n batch = 8\n learning-rate = 2e-2",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'warp'\n input = 'both'",
        training: "epochs = 250\n batch = 8\n learning-rate = 1e-2",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'wsabie'\n input = 'both'\n norm = 30.0",
        training: "epochs = 250\n batch = 8\n learning-rate = 2e-2",
        pairs: 1.0,
    },
    Fits {
        method: "kind = 'cnn-rnn'\n input = 'both'\n hidden = 64\n embedding = 32",
        training: "epochs = 400\n batch = 8\n learning-rate = 3e-3",
        pairs: 3.0,
    },
    Fits {
        method: "kind = 'learnt-labels'\n of = { kind = 'bilinear-attention', rank = 64 }",
        training: "epochs = 120\n batch = 8\n learning-rate = 5e-3",
        pairs: 1.0,
    },
    Fits {
        method: GEN_MLZSL,
        training: "",
        pairs: 1.0,
    },
];

/// Its own settings say how it trains.
const GEN_MLZSL: &str = "kind = 'gen-mlzsl'\n hidden = 32\n epochs = 3\n batch = 16\n samples = 4\n \
                         classifier-epochs = 400\n classifier-learning-rate = 3e-2";

/// Those that do not learn from the images or only a little; CLIP's projection starts from what it has, and CONSE's
/// classifier is fitted but ranks by the words that go with its own.
const NO_FIT: &[&str] = &[
    "ridge",
    "random",
    "clip-zero-shot",
    "class-words",
    "clip-projection",
    "conse",
];

#[test]
fn every_method_fits_64_scenes_and_round_trips_through_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = folder.join("data");
    let scenes = Scenes::new(SceneOptions::default()).unwrap();
    scenes.write(&data, IMAGES, 8).unwrap();
    std::fs::write(folder.join("backbone.safetensors"), backbone::BUILT_IN).unwrap();

    let mut store = None;
    let mut misfits = Vec::new();
    for fits in FITS {
        let recipe = recipe(folder, fits);
        let prepared = experiment::prepare(&recipe).unwrap();
        let store = store.get_or_insert_with(|| extract(folder, &recipe, &prepared));
        let training = Training {
            recipe: &recipe,
            prepared: &prepared,
            store,
            seed: 1,
            device: &device(),
            folder: None,
            resume: false,
            ranks: &epsilon::ranks::Alone,
        };
        let model = training.run(&mut |_| Continue(())).unwrap();
        let scores = scores(&model, &prepared, store);
        let wrong = 100.0 * wrong_pairs(&scores, &prepared);
        let name = recipe.method.name();
        if wrong > fits.pairs {
            misfits.push(format!("{name}: {wrong:.2} % of the pairs"));
        }

        let path = folder.join("model.safetensors");
        model.save(&path).unwrap();
        let read = Model::load(&path, &device()).unwrap();
        assert_eq!(
            scores,
            self::scores(&read, &prepared, store),
            "{}",
            fits.method
        );
        scores_new_labels(&read, &prepared);
    }
    assert!(misfits.is_empty(), "{misfits:?}");
    let store = store.unwrap();
    zsl_figures_come_from_the_unseen_labels_alone(folder, &store);
    a_training_in_stages_resumes_bit_for_bit(folder, &store);
    for name in Kind::NAMES {
        let kind = format!("kind = '{name}'");
        let fits = FITS.iter().any(|fits| fits.method.starts_with(&kind));
        assert!(
            fits || NO_FIT.contains(&name),
            "`{name}` is not shown to fit"
        );
    }
}

/// Where a method scores unseen labels otherwise when they are asked for alone.
fn zsl_figures_come_from_the_unseen_labels_alone(folder: &Path, store: &TokenStore) {
    let fits = FITS.iter().find(|fits| fits.method == GEN_MLZSL).unwrap();
    let recipe = recipe(folder, fits);
    let prepared = experiment::prepare(&recipe).unwrap();
    let training = Training {
        recipe: &recipe,
        prepared: &prepared,
        store,
        seed: 1,
        device: &device(),
        folder: None,
        resume: false,
        ranks: &epsilon::ranks::Alone,
    };
    let model = training.run(&mut |_| Continue(())).unwrap();
    let settings = EvaluationSettings {
        protocol: "lesa-nus".into(),
        k_zsl: vec![1],
        k_gzsl: vec![1],
        bootstrap: 0,
        ..Default::default()
    };
    let figures = experiment::measure(
        &model,
        &prepared,
        store,
        &settings,
        &device(),
        &mut |_, _| Continue(()),
    )
    .unwrap();

    let figures = figures.split().unwrap();
    let dataset = &prepared.dataset;
    let (seen, all) = (dataset.seen, dataset.names.len());
    let rows = dataset.rows(Split::Test);
    let mut targets = vec![0; rows.len() * all];
    for (&row, targets) in rows.iter().zip(targets.chunks_exact_mut(all)) {
        dataset.labels.dense_row(row, targets);
    }
    let map = |first: usize, asked: usize, last: usize| {
        let labels: Vec<usize> = (asked..all).collect();
        let vectors = prepared.vectors.select(&labels).unwrap();
        let scorer = model.scorer(&vectors, &device()).unwrap();
        let stored = rows.iter();
        let stored = stored.map(|&row| store.row_of(&dataset.records[row].id).unwrap());
        let stored: Vec<usize> = stored.collect();
        let scores = scorer.score_rows(store, &stored, &mut |_| Continue(()));
        let scores = scores.continue_value().unwrap();
        let targets: Vec<i8> = targets
            .chunks_exact(all)
            .flat_map(|row| row[asked..].to_vec())
            .collect();
        let scores = Scores::new(&scores, rows.len(), labels.len()).unwrap();
        let targets = Labels::new(&targets, rows.len(), labels.len()).unwrap();
        let columns: Vec<usize> = (first - asked..last - asked).collect();
        let figures = evaluate(scores, targets, &columns, &Protocol::lesa_nus(), &[]);
        figures.unwrap().map
    };
    assert_eq!(figures.zsl.map, map(seen, seen, all));
    assert_eq!(figures.seen.map, map(0, 0, seen));
    assert_eq!(figures.gzsl.map, map(0, 0, all));
    assert_ne!(figures.zsl.map, map(seen, 0, all), "another head among all");
    assert_eq!(figures.zsl.per_label[0].column, seen);
}

/// Cut in the generator's stage, in the first head's and in the second's.
fn a_training_in_stages_resumes_bit_for_bit(folder: &Path, store: &TokenStore) {
    let fits = Fits {
        method: "kind = 'gen-mlzsl'\n hidden = 16\n epochs = 2\n batch = 16\n samples = 8\n classifier-epochs = 2",
        training: "checkpoint-steps = 1",
        pairs: 100.0,
    };
    let recipe = recipe(folder, &fits);
    let prepared = experiment::prepare(&recipe).unwrap();
    let run = RunFolder::create(&folder.join("run")).unwrap();
    let train = |resume: bool, observe: &mut dyn FnMut(Event) -> ControlFlow<()>| {
        let training = Training {
            recipe: &recipe,
            prepared: &prepared,
            store,
            seed: 1,
            device: &device(),
            folder: Some(&run),
            resume,
            ranks: &epsilon::ranks::Alone,
        };
        scores(&training.run(observe).unwrap(), &prepared, store)
    };
    let (mut cuts, mut epochs) = (Vec::new(), 0);
    let unbroken = train(false, &mut |event| {
        match event {
            // The checkpoint of the step before.
            Event::Step { done, .. } if done > 1 => {
                cuts.push(std::fs::read(run.checkpoint()).unwrap());
            }
            Event::Epoch(_) => epochs += 1,
            _ => {}
        }
        Continue(())
    });
    assert_eq!(epochs, 6, "two of the generator, two of each head");
    for cut in [1, cuts.len() / 2, cuts.len() - 1] {
        std::fs::write(run.checkpoint(), &cuts[cut]).unwrap();
        let mut from = None;
        let resumed = train(true, &mut |event| {
            if let Event::Resumed { done, .. } = event {
                from = Some(done);
            }
            Continue(())
        });
        assert_eq!(from, Some(cut + 1));
        assert_eq!(resumed, unbroken, "cut after {cut} steps");
        let metrics = std::fs::read_to_string(run.metrics()).unwrap();
        assert_eq!(metrics.lines().count(), epochs);
    }
}

fn recipe(folder: &Path, fits: &Fits) -> Recipe {
    let Fits {
        method, training, ..
    } = fits;
    let text = format!(
        r#"
        [data]
        table = "data/labels.tsv"
        images = "data"
        seen = "data/seen.txt"
        unseen = "data/unseen.txt"
        vectors = "data/vectors.txt"
        [backbone]
        weights = "backbone.safetensors"
        [method]
        {method}
        [training]
        schedule = {{ kind = "cosine", floor = 0.05 }}
        optimiser = {{ kind = "adam", weight-decay = 0.0 }}
        {training}
        "#
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, text).unwrap();
    Recipe::read(&path).unwrap()
}

fn extract(folder: &Path, recipe: &Recipe, prepared: &Prepared) -> TokenStore {
    let backbone = backbone::load(&folder.join("backbone.safetensors")).unwrap();
    let dir = folder.join("tokens");
    experiment::extract(recipe, prepared, &*backbone, &dir, None, &mut |_| {
        Continue(())
    })
    .unwrap();
    TokenStore::open(&dir).unwrap()
}

/// Scores of the seen labels on the training images.
fn scores(model: &Model, prepared: &Prepared, store: &TokenStore) -> Vec<f32> {
    let seen: Vec<usize> = (0..prepared.dataset.seen).collect();
    let scorer = model
        .scorer(&prepared.vectors.select(&seen).unwrap(), &device())
        .unwrap();
    let rows = prepared.dataset.rows(Split::Train).into_iter();
    let rows = rows.map(|row| store.row_of(&prepared.dataset.records[row].id).unwrap());
    let rows: Vec<usize> = rows.collect();
    let scores = scorer.score_rows(store, &rows, &mut |_| Continue(()));
    scores.continue_value().unwrap()
}

fn wrong_pairs(scores: &[f32], prepared: &Prepared) -> f64 {
    let dataset = &prepared.dataset;
    let rows = dataset.rows(Split::Train);
    let mut labels = Vec::new();
    let mut row_labels = vec![0; dataset.names.len()];
    for &row in &rows {
        dataset.labels.dense_row(row, &mut row_labels);
        labels.extend_from_slice(&row_labels[..dataset.seen]);
    }
    let scores = Scores::new(scores, rows.len(), dataset.seen).unwrap();
    let labels = Labels::new(&labels, rows.len(), dataset.seen).unwrap();
    let columns: Vec<usize> = (0..dataset.seen).collect();
    let figures = evaluate(scores, labels, &columns, &Protocol::biam_oi(), &[]);
    figures.unwrap().ranking_loss
}

/// Labels that were never trained on are scored by their vectors, or refused by name.
fn scores_new_labels(model: &Model, prepared: &Prepared) {
    let dataset = &prepared.dataset;
    let unseen: Vec<usize> = (dataset.seen..dataset.names.len()).collect();
    let vectors = prepared.vectors.select(&unseen).unwrap();
    let scorer = model.scorer(&vectors, &device());
    match model.card().method().vocabulary() {
        Vocabulary::Open => assert!(scorer.is_ok()),
        Vocabulary::Seen => {
            let error = scorer.err().unwrap().to_string();
            assert!(error.contains(&dataset.names[dataset.seen]), "{error}");
            assert_eq!(model.own_labels().names(), dataset.seen_names());
        }
        Vocabulary::Closed => {
            assert!(scorer.is_ok());
            let (dim, names) = (vectors.dim(), vec!["nobody's".to_string()]);
            let strange = LabelVectors::new(names, dim, vec![1.0; dim]).unwrap();
            let error = model.scorer(&strange, &device()).err().unwrap().to_string();
            assert!(error.contains("nobody's"), "{error}");
        }
    }
}
