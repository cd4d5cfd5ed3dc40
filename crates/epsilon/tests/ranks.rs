//! What several ranks do together is what one process does: extraction, training, resuming, scoring.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;
use std::sync::Arc;

use epsilon::Experiment;
use epsilon::dataset::scenes::{SceneOptions, Scenes};
use epsilon::experiment::{ExperimentError, Figures, RunEvent};
use epsilon::ranks::{Alone, Ranks, Threads};
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenSource;
use epsilon::training::{Event, TrainingError};

/// Scenes of which some are trained on and 20 tested on; one picture is broken.
fn drawn(folder: &Path, train: u32) {
    let scenes = Scenes::new(SceneOptions::default()).unwrap();
    scenes.write(&folder.join("data"), train, 20).unwrap();
    let table = fs::read_to_string(folder.join("data/labels.tsv")).unwrap();
    let broken = table.lines().nth(3).unwrap().split('\t').next().unwrap();
    fs::write(folder.join("data").join(broken), "words").unwrap();
    let weights = folder.join("backbone.safetensors");
    fs::write(weights, epsilon::backbone::BUILT_IN).unwrap();
}

fn recipe(folder: &Path, more: &str) -> Recipe {
    let text = format!(
        "[data]\ntable = \"data/labels.tsv\"\nimages = \"data\"\nseen = \"data/seen.txt\"\nunseen = \"data/unseen.txt\"\n\
         vectors = \"data/vectors.txt\"\n[backbone]\nweights = \"backbone.safetensors\"\n{more}\n\
         [evaluation]\nprotocol = \"lesa-nus\"\nbootstrap = 0\n"
    );
    let path = folder.join("recipe.toml");
    fs::write(&path, text).unwrap();
    Recipe::read(&path).unwrap()
}

/// Losses of all steps, and the figures.
type Course = (Vec<f64>, Figures);

/// Trains in a folder; `stop` steps are taken in this call, if so many are left.
fn train(
    recipe: &Recipe,
    run: &Path,
    ranks: Arc<dyn Ranks>,
    resume: bool,
    stop: usize,
) -> Result<Course, ExperimentError> {
    let experiment = Experiment::open(recipe.clone(), run)?;
    let mut experiment = experiment.with_ranks(ranks).with_resume(resume);
    let mut losses = Vec::new();
    let figures = experiment.run(1, &mut |event| {
        if let RunEvent::Training(Event::Step { loss, .. }) = event {
            losses.push(loss);
        }
        match losses.len() < stop {
            true => Continue(()),
            false => Break(()),
        }
    });
    Ok((losses, figures?))
}

fn close(what: &str, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (step, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (a - b).abs() < 1e-5 * b.abs().max(1.0),
            "{what}, step {step}: {a} {b}"
        );
    }
}

/// Methods that draw: dropout of tokens, of prompts and in the branch, labels of a batch, samples of a loss; the last batch of an
/// epoch has fewer images than there are ranks.
const METHODS: [(&str, &str); 4] = [
    (
        "epsilon",
        "kind = \"epsilon\"\ngroups = 2\ntoken-dropout = 0.3\ndropout = 0.2\n[method.global-branch]\nhidden = [16]\ndropout = 0.4\nbatch-norm = false",
    ),
    ("sdl", "kind = \"sdl\"\ninput = \"both\""),
    ("label-em", "kind = \"label-em\""),
    ("ridge", "kind = \"ridge\""),
];

#[test]
fn several_ranks_train_what_one_process_trains() {
    let folder = tempfile::tempdir().unwrap();
    drawn(folder.path(), 96);
    for (name, method) in METHODS {
        let more = format!(
            "[method]\n{method}\n[training]\nepochs = 10\nbatch = 17\nlearning-rate = 1e-3\nvalidation = 0.1\nclip = 1.0\naverage = 0.9\n"
        );
        let recipe = recipe(folder.path(), &more);
        let run = |size: usize| folder.path().join(format!("{name}-{size}"));
        let (losses, figures) =
            train(&recipe, &run(1), Arc::new(Alone), false, usize::MAX).unwrap();
        assert!(
            name == "ridge" || losses.len() >= 50,
            "{name}: {} steps",
            losses.len()
        );
        for size in [2, 3] {
            let courses = Threads::run(size, |rank| {
                train(
                    &recipe,
                    &run(size),
                    Arc::new(rank.clone()),
                    false,
                    usize::MAX,
                )
                .unwrap()
            });
            for (ours, their) in courses {
                close(&format!("{name} by {size}"), &ours, &losses);
                let apart = (seen_map(&their) - seen_map(&figures)).abs();
                assert!(apart < 1e-3, "{name} by {size}: mAP {apart} apart");
            }
            assert!(run(size).join("seed-1/model.safetensors").exists());
            assert!(run(size).join("seed-1/figures.json").exists());
        }
    }
}

fn seen_map(figures: &Figures) -> f64 {
    figures.seen().map
}

#[test]
fn a_training_is_resumed_by_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    drawn(folder.path(), 96);
    let more = "[method]\nkind = \"sdl\"\n[training]\nepochs = 4\nbatch = 17\ncheckpoint-steps = 3\nvalidation = 0.1\n";
    let recipe = recipe(folder.path(), more);
    let (whole, _) = train(
        &recipe,
        &folder.path().join("whole"),
        Arc::new(Alone),
        false,
        usize::MAX,
    )
    .unwrap();
    let run = folder.path().join("run");
    let stopped = Threads::run(2, |rank| {
        train(&recipe, &run, Arc::new(rank.clone()), false, 8).err()
    });
    for error in stopped {
        assert!(matches!(error, Some(ExperimentError::Stopped)), "{error:?}");
    }
    let stopped = Threads::run(3, |rank| {
        train(&recipe, &run, Arc::new(rank.clone()), true, 5).err()
    });
    assert!(stopped.iter().all(Option::is_some));
    let (rest, _) = train(&recipe, &run, Arc::new(Alone), true, usize::MAX).unwrap();
    close("resumed", &rest, &whole[whole.len() - rest.len()..]);
    assert_eq!(rest.len(), whole.len() - 13);
}

#[test]
fn a_method_that_looks_at_whole_batches_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    drawn(folder.path(), 96);
    for method in [
        "kind = \"fast0tag\"\nbatch-norm = true",
        "kind = \"gen-mlzsl\"",
    ] {
        let recipe = recipe(
            folder.path(),
            &format!("[method]\n{method}\n[training]\nepochs = 1\n"),
        );
        let run = folder.path().join(method.replace(['"', '\n', ' '], ""));
        let refused = Threads::run(2, |rank| {
            train(&recipe, &run, Arc::new(rank.clone()), false, usize::MAX).err()
        });
        for error in refused {
            let error = error.unwrap();
            assert!(
                matches!(error, ExperimentError::Training(TrainingError::OneProcess)),
                "{error:?}"
            );
        }
    }
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let read = |file: fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        (name, fs::read(file.path()).unwrap())
    };
    files.map(read).collect()
}

#[test]
fn the_store_does_not_depend_on_the_ranks_that_extract_nor_on_how_often_they_were_stopped() {
    let folder = tempfile::tempdir().unwrap();
    drawn(folder.path(), 500); // five parts
    let recipe = recipe(folder.path(), "[method]\nkind = \"ridge\"\n");
    let extract = |run: &Path, ranks: Arc<dyn Ranks>, stop: usize| {
        let mut experiment = Experiment::open(recipe.clone(), run)
            .unwrap()
            .with_ranks(ranks);
        experiment.extract(&mut |at| {
            assert!(at.done <= at.total);
            match at.done < stop {
                true => Continue(()),
                false => Break(()),
            }
        })
    };
    let one = folder.path().join("one");
    let alone = extract(&one, Arc::new(Alone), usize::MAX).unwrap();
    let mut stores = Vec::new();
    for (size, stop) in [(2, usize::MAX), (3, usize::MAX), (4, 250)] {
        let run = folder.path().join(format!("by {size}"));
        // Where one stops, a rank that deals may leave others asking: the first is not stopped, as an MPI job ends as a whole.
        if stop < usize::MAX {
            let stopped = Threads::run(1, |rank| {
                extract(&run, Arc::new(Two(rank.clone())), stop).err()
            });
            assert!(matches!(stopped[0], Some(ExperimentError::Stopped)));
            assert!(run.join("tokens-parts").exists());
        }
        let reports = Threads::run(size, |rank| {
            extract(&run, Arc::new(rank.clone()), usize::MAX).unwrap()
        });
        for report in reports {
            assert_eq!(
                (report.images, &report.failed),
                (alone.images, &alone.failed)
            );
            assert_eq!(report.resumed > 0, stop < usize::MAX);
        }
        assert!(!run.join("tokens-parts").exists());
        stores.push(contents(&run.join("tokens")));
    }
    assert_eq!(alone.failed.len(), 1);
    assert!(stores.windows(2).all(|pair| pair[0] == pair[1]));
    // One process packs its shards without regard to parts; the rows are the same.
    let [ours, theirs] = ["one", "by 2"].map(|run| {
        let store =
            epsilon::tokens::TokenStore::open(&folder.path().join(run).join("tokens")).unwrap();
        let rows: Vec<usize> = (0..store.len()).collect();
        (store.ids().to_vec(), store.read_rows(&rows))
    });
    assert_eq!(ours, theirs);
}

#[test]
fn a_rank_that_does_not_see_the_firsts_store_is_named() {
    let folder = tempfile::tempdir().unwrap();
    drawn(folder.path(), 20);
    let recipe = recipe(folder.path(), "[method]\nkind = \"ridge\"\n");
    let extract = |run: &str, ranks: Arc<dyn Ranks>| {
        let experiment = Experiment::open(recipe.clone(), folder.path().join(run)).unwrap();
        let extracted = experiment.with_ranks(ranks).extract(&mut |_| Continue(()));
        extracted.err()
    };
    assert!(extract("whole", Arc::new(Alone)).is_none());
    let runs = ["whole", "elsewhere"];
    for error in Threads::run(2, |rank| extract(runs[rank.rank()], Arc::new(rank.clone()))) {
        let named = matches!(error, Some(ExperimentError::NotShared { rank: 1, .. }));
        assert!(named, "{error:?}");
    }
    assert!(
        !folder.path().join("elsewhere").exists(),
        "nothing is begun there"
    );
}

/// Says that there are two ranks where there is one, so that an extraction is dealt.
#[derive(Debug)]
struct Two(Threads);

impl Ranks for Two {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        2
    }

    fn sum(&self, values: &mut [f32]) {
        self.0.sum(values);
    }

    fn sum_f64(&self, values: &mut [f64]) {
        self.0.sum_f64(values);
    }

    fn share(&self, _: usize, bytes: Vec<u8>) -> Vec<u8> {
        self.0.share(0, bytes)
    }

    fn bring(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        self.0.bring(bytes)
    }

    fn wait(&self) {
        self.0.wait();
    }

    /// The other one has the same.
    fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        vec![bytes; 2]
    }

    fn deal(&self, count: usize) -> Box<dyn epsilon::ranks::Deal + Send + '_> {
        self.0.deal(count)
    }
}
