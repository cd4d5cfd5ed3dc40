//! Every long work ends where its observer breaks off, as stopped, and goes on from there to the same bits.

use std::fs;
use std::ops::ControlFlow::{self, Break, Continue};
use std::path::{Path, PathBuf};

use epsilon::dataset::scenes::{SceneOptions, Scenes};
use epsilon::experiment::{ExperimentError, RunEvent, score_photographs};
use epsilon::learning::{
    Choice, LearnError, LearnEvent, LearnOptions, LearnReport, Learner, Network, Observe,
    Rehearsal, RehearsalEvent,
};
use epsilon::pretraining::{self, PretrainingError};
use epsilon::recipe::Recipe;
use epsilon::training::Event;
use epsilon::{Experiment, Predictor, backbone};

/// Scenes of which 48 are trained on and 16 tested on, and a backbone.
fn drawn(folder: &Path) {
    let scenes = Scenes::new(SceneOptions::default()).unwrap();
    scenes.write(&folder.join("data"), 48, 16).unwrap();
    fs::write(folder.join("backbone.safetensors"), backbone::BUILT_IN).unwrap();
}

fn recipe(folder: &Path, backbone: &str, more: &str) -> Recipe {
    let text = format!(
        "[data]\ntable = \"data/labels.tsv\"\nimages = \"data\"\nseen = \"data/seen.txt\"\nunseen = \"data/unseen.txt\"\n\
         vectors = \"data/vectors.txt\"\n[backbone]\nweights = \"{backbone}\"\n{more}\n[evaluation]\nprotocol = \"lesa-nus\"\n\
         bootstrap = 0\n"
    );
    let path = folder.join("recipe.toml");
    fs::write(&path, text).unwrap();
    Recipe::read(&path).unwrap()
}

/// Batches of 16 and validation images, with early stopping and an average, so that all is kept that a checkpoint can keep.
const SDL: &str = "[method]\nkind = \"sdl\"\ninput = \"both\"\n[training]\nepochs = 2\nbatch = 16\nlearning-rate = 5e-3\n\
                   validation = 0.25\npatience = 2\naverage = 0.9";
const RIDGE: &str = "[method]\nkind = \"ridge\"\n[training]\nvalidation = 0.25";

/// Continues until it is asked for the `nth` time, and must not be asked again.
struct Stop {
    nth: usize,
    asked: usize,
}

impl Stop {
    fn at(nth: usize) -> Self {
        Self { nth, asked: 0 }
    }

    fn ask(&mut self) -> ControlFlow<()> {
        self.asked += 1;
        assert!(self.asked <= self.nth, "asked again after it was stopped");
        match self.asked == self.nth {
            true => Break(()),
            false => Continue(()),
        }
    }
}

/// Does a work that is stopped when it is asked for the first time, then one that is stopped at the second, and so on, until it
/// comes to its end; how often it was stopped.
fn at_every_event<E: std::fmt::Debug>(
    is_stopped: impl Fn(&E) -> bool,
    mut work: impl FnMut(&mut Stop) -> Result<(), E>,
) -> usize {
    for nth in 1.. {
        let mut stop = Stop::at(nth);
        match work(&mut stop) {
            Ok(()) => {
                assert!(stop.asked < nth, "went on after it was stopped");
                return nth - 1;
            }
            Err(error) => assert!(is_stopped(&error), "{error:?}"),
        }
        assert_eq!(stop.asked, nth);
    }
    unreachable!("it has an end");
}

fn stopped(error: &ExperimentError) -> bool {
    matches!(error, ExperimentError::Stopped)
}

/// The files that a run ends with, but for what its metrics say of time.
fn ended(seed: &Path) -> (Vec<u8>, Vec<u8>, Vec<serde_json::Value>) {
    let metrics = fs::read_to_string(seed.join("metrics.jsonl")).unwrap();
    let untimed = |line: &str| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["images_per_second", "waiting"] {
            record.as_object_mut().unwrap().remove(key);
        }
        record
    };
    let [model, figures] =
        ["model.safetensors", "figures.json"].map(|name| fs::read(seed.join(name)).unwrap());
    (model, figures, metrics.lines().map(untimed).collect())
}

/// Extraction, every step, validation, the ends of epochs and scoring: wherever a run is stopped, it goes on to the same bytes.
#[test]
fn a_run_goes_on_from_wherever_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drawn(folder);
    let recipe = recipe(folder, "backbone.safetensors", SDL);
    let run =
        |folder: &Path, resume: bool, observe: &mut dyn FnMut(RunEvent) -> ControlFlow<()>| {
            let experiment = Experiment::open(recipe.clone(), folder).unwrap();
            experiment.with_resume(resume).run(1, observe).map(drop)
        };
    let whole = folder.join("whole");
    run(&whole, false, &mut |_| Continue(())).unwrap();
    let whole = ended(&whole.join("seed-1"));

    let (mut extracting, mut measuring, mut steps, mut scored, mut epochs) = (0, 0, 0, 0, 0);
    at_every_event(stopped, |stop| {
        let folder = folder.join(stop.nth.to_string());
        let mut last = String::new();
        let first = run(&folder, false, &mut |event| {
            let (count, name) = match event {
                RunEvent::Extracting(_) => (&mut extracting, "extracting"),
                RunEvent::Measuring { .. } => (&mut measuring, "measuring"),
                RunEvent::Training(Event::Step { .. }) => (&mut steps, "step"),
                RunEvent::Training(Event::Validating { .. }) => (&mut scored, "validating"),
                RunEvent::Training(Event::Epoch(_)) => (&mut epochs, "epoch"),
                _ => panic!("something else happened"),
            };
            *count += 1;
            last = name.into();
            stop.ask()
        });
        let from = |event: &RunEvent| match event {
            RunEvent::Training(Event::Resumed { done, .. }) => Some(*done),
            _ => None,
        };
        let mut resumed = None;
        run(&folder, true, &mut |event| {
            resumed = resumed.or(from(&event));
            Continue(())
        })
        .unwrap();
        assert_eq!(ended(&folder.join("seed-1")), whole, "{}, {last}", stop.nth);
        let has_trained = ["step", "validating", "epoch"].contains(&&*last);
        assert!(!has_trained || resumed.is_some(), "{last}");
        first
    });
    for count in [extracting, measuring, steps, scored, epochs] {
        assert!(count > 0);
    }
}

/// Stopped again and again after three events, a training comes to the same end as in one go.
#[test]
fn a_training_can_be_stopped_as_often_as_one_likes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drawn(folder);
    let recipe = recipe(folder, "backbone.safetensors", SDL);
    let mut whole = Experiment::open(recipe.clone(), folder.join("whole")).unwrap();
    whole.run(1, &mut |_| Continue(())).unwrap();
    let mut often = whole.variant(recipe, folder.join("often")).unwrap();
    let mut stops = 0;
    loop {
        let mut stop = Stop::at(3);
        let ended = often.clone().with_resume(true);
        match ended.clone().run(1, &mut |_| stop.ask()) {
            Ok(_) => break,
            Err(error) => assert!(stopped(&error), "{error:?}"),
        }
        stops += 1;
        assert!(stops < 100, "it does not come on");
        often = ended;
    }
    assert!(stops >= 4, "stopped {stops} times");
    let [whole, often] = ["whole", "often"].map(|name| ended(&folder.join(name).join("seed-1")));
    assert_eq!(whole, often);
}

#[test]
fn a_choice_goes_on_from_wherever_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drawn(folder);
    let training = format!("{SDL}\nvalidation-labels = 0.2\nvalidation-folds = 2");
    let recipe = recipe(folder, "backbone.safetensors", &training);
    let mut base = Experiment::open(recipe.clone(), folder.join("base")).unwrap();
    let whole = base.choose(1, &mut |_| Continue(())).unwrap();
    let mut scored = 0;
    let stops = at_every_event(stopped, |stop| {
        let folder = folder.join(stop.nth.to_string());
        let mut experiment = base.variant(recipe.clone(), &folder).unwrap();
        let first = experiment.choose(1, &mut |event| {
            let RunEvent::Training(Event::Choosing { event, .. }) = event else {
                panic!("something else than choosing");
            };
            scored += usize::from(matches!(event, Event::Validating { .. }));
            stop.ask()
        });
        let mut experiment = experiment.with_resume(true);
        let choice = experiment.choose(1, &mut |_| Continue(())).unwrap();
        assert_eq!(choice, whole, "{}", stop.nth);
        first.map(drop)
    });
    assert!(stops > 10 && scored > 0, "{stops} {scored}");
}

#[test]
fn a_solution_and_scores_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drawn(folder);
    let recipe = recipe(folder, "backbone.safetensors", RIDGE);
    let mut experiment = Experiment::open(recipe.clone(), folder.join("run")).unwrap();
    experiment.tokens().unwrap();
    let mut stop = Stop::at(5);
    let error = experiment.train(1, &mut |event| {
        assert!(matches!(event, RunEvent::Training(Event::Solving)));
        stop.ask()
    });
    assert!(stopped(&error.err().unwrap()));
    let model = experiment.train(1, &mut |_| Continue(())).unwrap();
    let mut works = 0;
    let mut each = |work: &mut dyn FnMut(&mut Stop) -> Result<(), ExperimentError>| {
        assert!(at_every_event(stopped, work) > 0);
        works += 1;
    };
    each(&mut |stop| experiment.score(&model, &mut |_, _| stop.ask()).map(drop));
    each(&mut |stop| experiment.measure(&model, &mut |_, _| stop.ask()).map(drop));
    each(&mut |stop| {
        let map = experiment.validate(&model, &mut |_, _| stop.ask());
        map.map(drop)
    });
    let path = folder.join("run/seed-1/model.safetensors");
    let predictor = Predictor::load(&path).unwrap();
    each(&mut |stop| score_photographs(&predictor, &recipe, &mut |_, _| stop.ask()).map(drop));
    assert_eq!(works, 4);
}

/// A folder of drawn pictures in `folder`, their labels as keywords in sidecars.
fn keyworded(folder: &Path) -> PathBuf {
    let photos = folder.join("photos");
    drawn(folder);
    fs::create_dir(&photos).unwrap();
    let table = fs::read_to_string(folder.join("data/labels.tsv")).unwrap();
    for line in table.lines().take(24) {
        let cells: Vec<&str> = line.split('\t').collect();
        let name = Path::new(cells[0]).file_name().unwrap();
        let name = name.to_string_lossy().into_owned();
        fs::copy(folder.join("data").join(cells[0]), photos.join(&name)).unwrap();
        let keywords = cells[2].split(',');
        let keywords: String = keywords.map(|k| format!("<rdf:li>{k}</rdf:li>")).collect();
        let sidecar = format!(
            "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
             <rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:subject><rdf:Bag>{keywords}\
             </rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>\n"
        );
        fs::write(photos.join(format!("{name}.xmp")), sidecar).unwrap();
    }
    photos
}

/// Learns from the pictures of [`keyworded`], in a library folder.
fn learn(
    folder: &Path,
    library: &str,
    observe: &mut Observe<'_>,
) -> Result<LearnReport, LearnError> {
    let network = Network {
        vectors: Some(folder.join("data/vectors.txt").as_path().into()),
        ..Network::of(folder.join("backbone.safetensors"))
    };
    let options = LearnOptions {
        library: Some(folder.join(library)),
        ..LearnOptions::default()
    };
    let learner = Learner::open(&folder.join("photos"), network, options).unwrap();
    learner.learn(observe)
}

#[test]
fn a_library_that_is_learnt_from_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    keyworded(folder);
    let whole = learn(folder, "whole", &mut |_| Continue(())).unwrap();
    // Of hundreds of steps a few are enough.
    for nth in [1, 2, 3, 4, 5, 20] {
        let library = nth.to_string();
        let mut stop = Stop::at(nth);
        let ended = learn(folder, &library, &mut |_| stop.ask());
        assert!(matches!(ended, Err(LearnError::Stopped)), "{nth}");
        assert_eq!(stop.asked, nth);
        let report = learn(folder, &library, &mut |_| Continue(())).unwrap();
        assert_eq!(report.map, whole.map);
        assert_eq!(report.trained_on, whole.trained_on);
    }
}

/// What the system does not give is failed by name, once, though its keywords and its pixels are asked for.
#[test]
fn a_photograph_that_goes_while_it_is_learnt_from_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let photos = keyworded(folder);
    let mut names = fs::read_dir(&photos)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let gone = names.find(|path| path.extension().is_none_or(|ending| ending != "xmp"));
    let gone = gone.unwrap();
    let report = learn(folder, "library", &mut |event| {
        if let LearnEvent::Reading(_) = event {
            fs::remove_file(&gone).unwrap();
        }
        Continue(())
    });
    let failed = report.unwrap().failed;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains("no such file"), "{failed:?}");
}

#[test]
fn a_rehearsal_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drawn(folder);
    let network = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../epsilon-vision/tests/fixtures/backbones/timm_gap.safetensors"
    );
    fs::copy(network, folder.join("net.safetensors")).unwrap();
    let labels = fs::read_to_string(folder.join("data/seen.txt")).unwrap();
    let classes: Vec<&str> = labels.lines().take(6).collect();
    fs::write(folder.join("classes.txt"), classes.join("\n")).unwrap();
    let more = format!("{SDL}\n[anchor]\nclasses = \"classes.txt\"");
    let recipe = recipe(folder, "net.safetensors", &more);
    let mut experiment = Experiment::open(recipe, folder.join("run")).unwrap();
    experiment.tokens().unwrap();
    let rehearsal = Rehearsal {
        choice: Choice::Doubt,
        rounds: 1,
        reviews: 24,
        seed: 1,
    };
    let (mut all, mut rounds) = (0, Vec::new());
    let whole = rehearsal.run(&mut experiment, &mut |event| {
        all += 1;
        if let RehearsalEvent::Round(_) = event {
            rounds.push(all);
        }
        Continue(())
    });
    assert_eq!((whole.unwrap().len(), rounds.len()), (2, 2));
    for nth in [1, 2, rounds[0], rounds[0] + 1, all / 2, all - 1, all] {
        let mut stop = Stop::at(nth);
        let ended = rehearsal.run(&mut experiment, &mut |_| stop.ask());
        assert!(matches!(ended, Err(LearnError::Stopped)), "{nth} of {all}");
        assert_eq!(stop.asked, nth);
    }
}

#[test]
fn a_pretraining_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backbone.safetensors");
    let mut stop = Stop::at(2);
    let ended = pretraining::run(&path, 3, &mut |_| stop.ask());
    assert!(matches!(ended, Err(PretrainingError::Stopped)));
    assert_eq!(stop.asked, 2);
    assert!(!path.exists());
}
