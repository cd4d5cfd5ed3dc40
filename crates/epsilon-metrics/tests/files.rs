//! Tables in files: those that NumPy and safetensors wrote (`reference/make_files.py`) give scikit-learn's figures
//! whatever kind of file and number holds them; damaged and contradicting files are named.

use std::path::{Path, PathBuf};

use epsilon_metrics::files::{FileError, Joined, LabelTable, ScoreTable, Zero, write_scores};
use epsilon_metrics::{
    Evaluation, InMemory, Labels, Normalisation, Normalised, Protocol, Request, Scores,
    Standardise, Table, evaluate_table,
};
use proptest::prelude::*;
use serde::Deserialize;
use tempfile::TempDir;

#[derive(Deserialize)]
struct Expected {
    average_precision: Vec<f64>,
    map: f64,
    coverage_error: f64,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference/files")
        .join(name)
}

fn join(scores: &Path, labels: &Path, zero: Option<Zero>) -> Result<Joined, FileError> {
    Joined::new(ScoreTable::read(scores)?, &LabelTable::read(labels)?, zero)
}

fn measure(table: &impl Table) -> Evaluation {
    let columns: Vec<usize> = (0..table.labels()).collect();
    let request = Request {
        columns: &columns,
        protocol: &Protocol::lesa_nus(),
        ks: if columns.len() < 3 { &[1] } else { &[1, 3] },
    };
    evaluate_table(table, &[request]).unwrap().remove(0)
}

#[test]
fn every_kind_of_file_gives_scikit_learns_figures() {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    let expected: std::collections::HashMap<String, Expected> =
        serde_json::from_str(&text).unwrap();
    let cases = [
        ("f64.npy", "labels.npy", "f64"),
        ("f64_fortran.npy", "labels_fortran.npy", "f64"),
        ("f64.csv", "labels.csv", "f64"),
        ("f64.csv", "labels_shuffled.npy", "f64"),
        ("both.safetensors", "both.safetensors", "f64"),
        ("f32.npy", "labels_float.npy", "f32"),
        ("f32.npy", "labels_shuffled.npy", "f32"),
        ("f32_fortran.npy", "labels.npy", "f32"),
        ("f32.safetensors", "labels.csv", "f32"),
        ("f16.npy", "labels.npy", "f16"),
        ("f32.npy", "labels_truth.npy", "f32 truth"),
    ];
    for (scores, labels, key) in cases {
        let what = format!("{scores} with {labels}");
        let joined = join(&fixture(scores), &fixture(labels), None).unwrap();
        let (found, expected) = (measure(&joined), &expected[key]);
        assert!((found.map - expected.map).abs() < 1e-9, "{what}");
        assert!(
            (found.coverage_error - expected.coverage_error).abs() < 1e-9,
            "{what}"
        );
        for (label, ap) in found.per_label.iter().zip(&expected.average_precision) {
            assert!(
                (label.average_precision.unwrap() - ap).abs() < 1e-9,
                "{what}"
            );
        }
        let named = [scores, labels].iter().all(|name| {
            name.ends_with("csv") || name.starts_with("f32.") || name.contains("shuffled")
        });
        assert_eq!(joined.images_by_name(), named, "{what}");
        assert_eq!(joined.labels_by_name(), named, "{what}");
    }
}

/// A folder with a small table of scores and one of labels, which a test then damages.
struct World(TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        for name in [
            "f32.npy",
            "f32.images.txt",
            "f32.labels.txt",
            "labels.npy",
            "f64.csv",
            "labels.csv",
            "f32.safetensors",
        ] {
            std::fs::copy(fixture(name), world.path(name)).unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn edit(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        std::fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }

    fn refused(&self, scores: &str, labels: &str, parts: &[&str]) {
        let joined = join(&self.path(scores), &self.path(labels), None);
        let text = joined.err().unwrap().to_string();
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}

/// Images and labels of the table below.
const SHAPE: (usize, usize) = (25, 6);

/// Figures of a table that is written in double precision and normalised, the first labels apart where only the ranked ones count.
fn normalised(
    folder: &Path,
    how: Normalisation,
    score: &dyn Fn(usize, usize) -> f64,
) -> Evaluation {
    let row = |image: usize, cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = (0..SHAPE.1).map(cell).collect();
        format!("{image},{}\n", cells.join(","))
    };
    let table = |cell: &dyn Fn(usize, usize) -> String| {
        let rows = (0..SHAPE.0).map(|image| row(image, &|label| cell(image, label)));
        "image,a,b,c,d,e,f\n".to_string() + &rows.collect::<String>()
    };
    let (scores, labels) = (folder.join("scores.csv"), folder.join("labels.csv"));
    std::fs::write(
        &scores,
        table(&|image, label| format!("{:e}", score(image, label))),
    )
    .unwrap();
    let positive = |image: usize, label: usize| (image * 7 + label * 3) % 5 < 2;
    let truth = |image, label| if positive(image, label) { "1" } else { "-1" };
    std::fs::write(&labels, table(&|image, label| truth(image, label).into())).unwrap();
    let scores = ScoreTable::read_for(&scores, how).unwrap();
    let joined = Joined::new(scores, &LabelTable::read(&labels).unwrap(), None).unwrap();
    let split = (how.standardise == Standardise::Ranked).then_some(4);
    measure(&Normalised::new(joined, how, split).unwrap())
}

/// Whatever scale and offset scores in double precision have, their normalised figures are those of the scores themselves.
#[test]
fn figures_of_normalised_scores_know_no_scale() {
    let folder = tempfile::tempdir().unwrap();
    // Between -1 and 1, without a pattern that would make ties.
    let x = |image: usize, label: usize| {
        let noise = ((image * SHAPE.1 + label + 1) as f64).sin() * 43_758.545_3;
        noise.fract()
    };
    let how = |centre_labels, standardise| Normalisation {
        centre_labels,
        standardise,
    };
    let per_image = [Standardise::Table, Standardise::Ranked].map(|over| how(false, over));
    let centred = [Standardise::None, Standardise::Table].map(|over| how(true, over));
    let same = |how: Normalisation,
                of: &dyn Fn(usize, usize) -> f64,
                like: &dyn Fn(usize, usize) -> f64| {
        let (found, expected) = (
            normalised(folder.path(), how, of),
            normalised(folder.path(), how, like),
        );
        assert_eq!(found, expected, "{how}");
        assert!(found.map > 0.1 && found.map < 0.9);
    };
    for how in per_image.into_iter().chain(centred) {
        same(how, &|i, l| 1.0 + 1e-10 * x(i, l), &x);
        same(how, &|i, l| 1e-60 * x(i, l), &x);
        same(how, &|i, l| 1e6 + x(i, l), &x);
        same(how, &|i, l| 1e300 * x(i, l), &x);
    }
    for how in per_image {
        same(how, &|i, l| x(i, l) * 1e-80_f64.powi((i % 4) as i32), &x);
    }
    for how in centred {
        same(how, &|i, l| x(i, l) + 1e6 * l as f64, &x);
        // Sigmoids near 1: what is missing is the exponential.
        same(
            how,
            &|i, l| 1.0 / (1.0 + (-22.0 - x(i, l)).exp()),
            &|i, l| -(-x(i, l)).exp(),
        );
    }
}

#[test]
fn damaged_files_are_named() {
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    for (name, why) in [
        (
            "f32.npy",
            "cut short: a table of 30 x 8 needs 1088 bytes, the file has 544",
        ),
        ("f32.safetensors", "cut short or damaged"),
    ] {
        let world = World::new();
        world.edit(name, cut);
        world.refused(name, "labels.npy", &[name, why]);
    }
    let world = World::new();
    world.edit("f32.npy", |bytes| bytes.truncate(40));
    world.refused(
        "f32.npy",
        "labels.npy",
        &["f32.npy", "ends within its header"],
    );
    world.edit("f32.npy", Vec::clear);
    world.refused("f32.npy", "labels.npy", &["f32.npy"]);
    world.refused(
        "nothing.npy",
        "labels.npy",
        &["nothing.npy", "cannot be read"],
    );
    world.refused("labels.npy", "labels.npy", &["labels.npy", "I8", "f32"]);
    world.refused(
        "f32.images.txt",
        "labels.npy",
        &["f32.images.txt", ".npy, .safetensors or .csv"],
    );
}

#[test]
fn csv_errors_name_the_line() {
    let cases = [
        (
            "image-02.jpg,",
            "image-02.jpg,7,",
            "f64.csv, line 4: 10 cells, but the first line has 9",
        ),
        (
            "\nimage-02.jpg,",
            "\n\n\nimage-02.jpg,x",
            "f64.csv, line 6: label 0: \"x",
        ),
        ("image-03.jpg,", "image-03.jpg,nan\n", "line 5"),
        (
            "image-03.jpg",
            "image-02.jpg",
            "\"image-02.jpg\" stands twice, on places 3 and 4",
        ),
        (
            "label 3",
            "label 2",
            "the label \"label 2\" stands twice, on places 3 and 4",
        ),
        (
            "image-04.jpg",
            "\"image-04.jpg",
            "line 6: a quote is not closed",
        ),
    ];
    for (from, to, why) in cases {
        let world = World::new();
        world.replace("f64.csv", from, to);
        world.refused("f64.csv", "labels.csv", &["f64.csv", why]);
    }
    let world = World::new();
    world.replace("f64.csv", "image-05.jpg,", "image-05.jpg,inf,");
    world.replace("f64.csv", "label 0,", "label 0,label x,");
    world.refused(
        "f64.csv",
        "labels.csv",
        &["line 2: 9 cells, but the first line has 10"],
    );
    std::fs::write(world.path("f64.csv"), "image,a\nx,1\ny,inf\n").unwrap();
    world.refused(
        "f64.csv",
        "labels.csv",
        &["f64.csv, line 3: a: \"inf\" is no finite number"],
    );
    std::fs::write(world.path("labels.csv"), "image,a\r\nx,1\r\ny,2\r\n").unwrap();
    std::fs::write(
        world.path("f64.csv"),
        "\u{feff}image,a\r\nx,1\r\n\"y\",2\r\n",
    )
    .unwrap();
    world.refused(
        "f64.csv",
        "labels.csv",
        &["labels.csv, line 3: a: \"2\" is no label"],
    );
    std::fs::write(world.path("labels.csv"), "image,a\ny,-1\nx,1\n").unwrap();
    let joined = join(&world.path("f64.csv"), &world.path("labels.csv"), None).unwrap();
    assert_eq!(measure(&joined).map, 0.5);
    std::fs::write(world.path("f64.csv"), "").unwrap();
    world.refused("f64.csv", "labels.csv", &["f64.csv", "first line"]);
}

#[test]
fn what_disagrees_is_named() {
    // Shapes.
    let world = World::new();
    std::fs::remove_file(world.path("f32.images.txt")).unwrap();
    std::fs::write(world.path("labels.csv"), "image,a\nx,1\n").unwrap();
    world.refused(
        "f32.npy",
        "labels.csv",
        &["f32.npy has 30 images", "labels.csv has 1"],
    );
    // Names.
    let world = World::new();
    world.replace("f32.images.txt", "image-07.jpg", "image-99.jpg");
    world.refused(
        "f32.npy",
        "labels.csv",
        &[
            "do not name the same images",
            "1 only in the scores (\"image-99.jpg\"), 1 only in the labels (\"image-07.jpg\")",
        ],
    );
    let world = World::new();
    world.replace("labels.csv", "label 3", "label three");
    world.refused(
        "f32.npy",
        "labels.csv",
        &["the same labels", "\"label three\""],
    );
    let world = World::new();
    world.replace("f32.labels.txt", "label 3\n", "");
    world.refused(
        "f32.npy",
        "labels.npy",
        &["f32.labels.txt", "7 label names", "has 8"],
    );
    let world = World::new();
    world.replace("f32.labels.txt", "label 3\n", "\n");
    world.refused(
        "f32.npy",
        "labels.npy",
        &["f32.labels.txt, line 4: an empty name"],
    );
}

#[test]
fn labels_that_say_nothing_are_refused() {
    let world = World::new();
    world.edit("labels.npy", |bytes| bytes[128..].fill(0));
    world.refused("f32.npy", "labels.npy", &["labels.npy", "unknown"]);
    world.edit("labels.npy", |bytes| bytes[200] = 1);
    world.refused("f32.npy", "labels.npy", &["labels.npy", "--zero negative"]);
    let open = |zero| {
        join(
            &world.path("f32.npy"),
            &world.path("labels.npy"),
            Some(zero),
        )
        .unwrap()
    };
    assert_eq!(measure(&open(Zero::Unknown)).per_label[0].annotated, 1);
    assert_eq!(measure(&open(Zero::Negative)).per_label[0].annotated, 30);
    world.edit("labels.npy", |bytes| bytes[203] = 5);
    world.refused(
        "f32.npy",
        "labels.npy",
        &["labels.npy, row 9, column 3: the label is 5"],
    );
}

#[test]
fn scores_that_are_not_finite_are_named() {
    let world = World::new();
    world.edit("f32.npy", |bytes| {
        bytes[128 + 4 * 11..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let joined = join(&world.path("f32.npy"), &world.path("labels.npy"), None).unwrap();
    let columns = [2, 3];
    let request = Request {
        columns: &columns,
        protocol: &Protocol::epsilon(),
        ks: &[],
    };
    let error = evaluate_table(&joined, &[request]).unwrap_err();
    let text = joined.name(error).to_string();
    assert!(
        text.contains("f32.npy, row 1 (image-01.jpg), column 3 (label 3): the score is NaN"),
        "{text}"
    );
}

/// Scores with ties and labels, [images, labels], with a positive and a negative.
fn tables() -> impl Strategy<Value = (usize, usize, Vec<f32>, Vec<i8>)> {
    (2_usize..40, 1_usize..14).prop_flat_map(|(images, labels)| {
        let count = images * labels;
        let scores = prop::collection::vec((-9_i8..9).prop_map(|s| f32::from(s) / 3.0), count);
        let values = prop::collection::vec(-1_i8..=1, count).prop_map(|mut values| {
            (values[0], values[1]) = (1, -1);
            values
        });
        (Just(images), Just(labels), scores, values)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever file holds a table, and however its rows and columns are ordered there: the same bits as in memory.
    #[test]
    fn files_give_the_bits_of_memory(
        (images, labels, scores, values) in tables(),
        extension in prop::sample::select(vec!["npy", "safetensors", "csv"]),
        turn in 0_usize..40,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let image_names: Vec<String> = (0..images).map(|i| format!("a \"picture\", {i}")).collect();
        let label_names: Vec<String> = (0..labels).map(|i| format!("label {i}")).collect();
        let path = folder.path().join(format!("scores.{extension}"));
        write_scores(&path, &scores, &image_names, &label_names).unwrap();

        let (mut moved_images, mut moved_labels) = (image_names.clone(), label_names.clone());
        moved_images.rotate_left(turn % images);
        moved_labels.rotate_left(turn % labels);
        let of = |image: usize, label: usize| {
            values[(image + turn % images) % images * labels + (label + turn % labels) % labels]
        };
        let table = LabelTable::from_rows(&path, moved_images, moved_labels, |image, out| {
            for (label, out) in out.iter_mut().enumerate() {
                *out = of(image, label);
            }
        }).unwrap();
        let joined = Joined::new(ScoreTable::read(&path).unwrap(), &table, None).unwrap();
        let memory = InMemory::new(
            Scores::new(&scores, images, labels).unwrap(),
            Labels::new(&values, images, labels).unwrap(),
        ).unwrap();
        let columns: Vec<usize> = (0..labels).collect();
        let protocols = Protocol::all();
        let requests: Vec<Request<'_>> = protocols
            .iter()
            .map(|protocol| Request { columns: &columns, protocol, ks: &[1] })
            .collect();
        prop_assert_eq!(
            evaluate_table(&joined, &requests).unwrap(),
            evaluate_table(&memory, &requests).unwrap()
        );
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..300) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["f32.npy", "f32.safetensors", "f64.csv"] {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let _ = ScoreTable::read(&path);
            let mut whole = std::fs::read(fixture(name)).unwrap();
            let end = whole.len().min(at + bytes.len());
            let start = at.min(end);
            whole[start..end].copy_from_slice(&bytes[..end - start]);
            std::fs::write(&path, &whole).unwrap();
            if let Ok(scores) = ScoreTable::read(&path) {
                let labels = LabelTable::read(&fixture("labels.npy")).unwrap();
                if let Ok(joined) = Joined::new(scores, &labels, None) {
                    let request = Request { columns: &[0], protocol: &Protocol::sdl(), ks: &[] };
                    let _ = evaluate_table(&joined, &[request]);
                }
            }
        }
    }
}

/// A link to a device stays one.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.csv");
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let names = ["a".to_string()];
    let refused = write_scores(&path, &[0.5], &names, &names).unwrap_err();
    let message = refused.to_string();
    assert!(
        message.contains("scores.csv") && message.contains("no regular file"),
        "{message}"
    );
    assert_eq!(
        std::fs::read_link(&path).unwrap(),
        std::path::Path::new("/dev/zero")
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let refused = write_scores("/dev/scores.csv".as_ref(), &[0.5], &names, &names);
    assert!(refused.is_err() && !std::path::Path::new("/dev/scores.csv").exists());
}
