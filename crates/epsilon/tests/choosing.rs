//! Choosing settings on drawn scenes: by labels that are left out it is done without a look at what is tested on, and it finds
//! the better setting for unseen labels where the seen labels find another.

use std::ops::ControlFlow::Continue;
use std::path::Path;

use epsilon::Experiment;
use epsilon::backbone;
use epsilon::dataset::scenes::{SceneOptions, Scenes};
use epsilon::experiment::{Choice, Figures};
use epsilon::recipe::Recipe;
use epsilon::training::Choose;

/// Scenes of which 240 are trained on and 120 tested on, and a backbone.
fn drawn(folder: &Path) {
    let scenes = Scenes::new(SceneOptions::default()).unwrap();
    scenes.write(&folder.join("data"), 240, 120).unwrap();
    std::fs::write(folder.join("backbone.safetensors"), backbone::BUILT_IN).unwrap();
}

fn recipe(folder: &Path, method: &str, training: &str) -> Recipe {
    let text = format!(
        "[data]\ntable = \"data/labels.tsv\"\nimages = \"data\"\nseen = \"data/seen.txt\"\nunseen = \"data/unseen.txt\"\n\
         vectors = \"data/vectors.txt\"\n[backbone]\nweights = \"backbone.safetensors\"\n[method]\n{method}\n\
         [training]\n{training}\n[evaluation]\nprotocol = \"lesa-nus\"\nbootstrap = 0\n"
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, text).unwrap();
    Recipe::read(&path).unwrap()
}

const SEEN: &str = "validation = 0.25";
const LEFT_OUT: &str = "validation = 0.25\nvalidation-labels = 0.2\nvalidation-folds = 3";

#[test]
fn labels_left_out_choose_another_setting_than_seen_ones_and_the_better_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drawn(folder);
    // The more semantic vectors an image has, the better it can know the seen labels by heart.
    let rows = |rows: usize| format!("kind = \"sdl\"\ninput = \"both\"\nrows = {rows}");
    let recipe = |method: &str, choosing: &str| {
        let training = "epochs = 20\nbatch = 16\nlearning-rate = 5e-4\nschedule = { kind = \"constant\" }\n\
                        optimiser = { kind = \"adam\", weight-decay = 0.0 }";
        recipe(folder, method, &format!("{choosing}\n{training}"))
    };
    let run = folder.join("run");
    let mut base = Experiment::open(recipe(&rows(1), SEEN), &run).unwrap();
    base.tokens().unwrap();

    let (mut by_seen, mut by_left_out, mut tested) = (Vec::new(), Vec::new(), Vec::new());
    for value in [1, 15] {
        let at = run.join(format!("rows-{value}"));
        let mut plain = base.variant(recipe(&rows(value), SEEN), &at).unwrap();
        let model = plain.train(1, &mut |_| Continue(())).unwrap();
        by_seen.push(
            plain
                .validate(&model, &mut |_, _| Continue(()))
                .unwrap()
                .unwrap(),
        );
        let mut choosing = base.variant(recipe(&rows(value), LEFT_OUT), &at).unwrap();
        let choice = choosing.choose(1, &mut |_| Continue(())).unwrap();
        by_left_out.push(choice.value(Choose::Harmonic).unwrap());
        // The model is trained on all seen labels either way.
        let same = choosing.train(1, &mut |_| Continue(())).unwrap();
        assert_eq!(same.card().seen_labels(), model.card().seen_labels());
        let figures = choosing.measure(&same, &mut |_, _| Continue(())).unwrap();
        assert_eq!(
            figures,
            plain.measure(&model, &mut |_, _| Continue(())).unwrap()
        );
        tested.push(figures);
    }
    assert!(by_seen[1] > by_seen[0] + 0.02, "{by_seen:?}");
    assert!(by_left_out[0] > by_left_out[1] + 0.05, "{by_left_out:?}");
    let zsl = |figures: &Figures| figures.split().unwrap().zsl.map;
    let harmonic = |figures: &Figures| figures.split().unwrap().harmonic_map;
    for figure in [zsl as fn(&Figures) -> f64, harmonic] {
        let [few, many] = [0, 1].map(|place| figure(&tested[place]));
        assert!(few > many + 0.05, "{few} {many}");
    }
}

/// The choice of an experiment whose files are in `folder`.
fn choice(folder: &Path, method: &str, training: &str) -> Choice {
    let recipe = recipe(folder, method, training);
    let mut experiment = Experiment::open(recipe, folder.join("run")).unwrap();
    experiment.choose(1, &mut |_| Continue(())).unwrap()
}

/// Other test images, other unseen labels with other vectors: nothing of it reaches the choice, be it of a method that is given
/// the unseen labels' vectors, of one with early stopping, or of one in closed form.
#[test]
fn neither_test_images_nor_unseen_labels_are_read_while_choosing() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, other] = ["whole", "other"].map(|name| folder.path().join(name));
    drawn(&whole);
    std::fs::create_dir(&other).unwrap();
    let scenes = Scenes::new(SceneOptions::default()).unwrap();
    scenes.write(&other.join("data"), 240, 4).unwrap();
    std::fs::write(other.join("backbone.safetensors"), backbone::BUILT_IN).unwrap();
    // The test images lie among the training images, are fewer, and hold labels of other names.
    let table = std::fs::read_to_string(other.join("data/labels.tsv")).unwrap();
    let (test, train): (Vec<&str>, Vec<&str>) =
        table.lines().partition(|line| line.contains("\ttest\t"));
    let mut lines: Vec<String> = train.into_iter().map(str::to_string).collect();
    for (place, line) in test.iter().enumerate() {
        let path = line.split('\t').next().unwrap();
        lines.insert(3 * place, format!("{path}\ttest\tgrue,bleen,striped star"));
    }
    std::fs::write(other.join("data/labels.tsv"), lines.join("\n")).unwrap();
    std::fs::write(other.join("data/unseen.txt"), "grue\nbleen\n").unwrap();
    let unseen = std::fs::read_to_string(whole.join("data/unseen.txt")).unwrap();
    let vectors = std::fs::read_to_string(whole.join("data/vectors.txt")).unwrap();
    let is_unseen =
        |line: &&str| (unseen.lines()).any(|name| line.starts_with(&name.replace(' ', "_")));
    let mut kept: Vec<String> = (vectors.lines().filter(|line| !is_unseen(line)))
        .map(str::to_string)
        .collect();
    assert_eq!(kept.len(), vectors.lines().count() - 9, "{vectors}");
    for word in ["grue", "bleen"] {
        kept.push(format!("{word} {}", ["0.7"; 32].join(" ")));
    }
    std::fs::write(other.join("data/vectors.txt"), kept.join("\n")).unwrap();

    let stopping =
        format!("{LEFT_OUT}\npatience = 1\nepochs = 3\nbatch = 32\nlearning-rate = 5e-3");
    let closed = "kind = \"gen-mlzsl\"\nhidden = 8\nheads = 1\nepochs = 1\nsamples = 2\nclassifier-epochs = 2";
    for (method, training) in [
        ("kind = \"ridge\"", LEFT_OUT),
        ("kind = \"sdl\"\ninput = \"both\"", &stopping),
        (closed, LEFT_OUT),
    ] {
        let [mine, others] = [&whole, &other].map(|folder| choice(folder, method, training));
        assert_eq!(mine, others, "{method}");
        let left_out: Vec<&String> = mine.folds.iter().flat_map(|fold| &fold.left_out).collect();
        assert_eq!(left_out.len(), 15);
        assert!(
            left_out
                .iter()
                .all(|name| !unseen.lines().any(|u| u == *name))
        );
        for fold in &mine.folds {
            let figures = fold.figures.split().unwrap();
            assert_eq!(figures.zsl.per_label.len(), 5);
            assert_eq!(figures.seen.per_label.len(), 22);
            assert_eq!(
                figures.gzsl.images_total, 60,
                "a quarter of the training images"
            );
        }
    }
}

/// Early stopping by labels left out: the model is trained for the epochs that they chose, on all seen labels, and a second run
/// reads the choice.
#[test]
fn labels_left_out_choose_the_number_of_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drawn(folder);
    let training =
        format!("{LEFT_OUT}\npatience = 2\nepochs = 6\nbatch = 32\nlearning-rate = 2e-2");
    let recipe = recipe(folder, "kind = \"sdl\"\ninput = \"both\"", &training);
    let mut experiment = Experiment::open(recipe, folder.join("run")).unwrap();
    let mut choosing = Vec::new();
    experiment
        .run(1, &mut |event| {
            use epsilon::experiment::RunEvent;
            use epsilon::training::Event;
            if let RunEvent::Training(Event::Choosing { fold, .. }) = event {
                choosing.push(fold);
            }
            Continue(())
        })
        .unwrap();
    choosing.dedup();
    assert_eq!(choosing, [1, 2, 3]);
    let choice = experiment.choose(1, &mut |_| panic!("kept")).unwrap();
    let epochs = choice.epochs().unwrap();
    assert!((1..=6).contains(&epochs));
    let seed = folder.join("run/seed-1");
    let metrics = std::fs::read_to_string(seed.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), epochs, "{metrics}");
    for fold in 1..=3 {
        let folder = seed.join(format!("choosing-{fold}"));
        assert!(folder.join("metrics.jsonl").exists());
        assert!(!folder.join("checkpoints/last.safetensors").exists());
        assert!(!folder.join("model.safetensors").exists());
    }
}
