//! Data sets as people really have them: files with the faults that were met, each with what is to come of it.

use std::fs;
use std::path::Path;

use epsilon_data::dataset::coco::{self, CocoOptions, CocoSplit};
use epsilon_data::dataset::table::{self, TableOptions};
use epsilon_data::dataset::voc::{self, VocOptions};
use epsilon_data::dataset::{Dataset, DatasetError, Split, Summary};

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn notes(summary: &Summary) -> Vec<(&str, usize)> {
    let notes = summary.notes.iter();
    notes.map(|note| (note.what.as_str(), note.count)).collect()
}

fn read_coco(
    folder: &Path,
    train: &str,
    test: &str,
    [train_images, test_images]: [&str; 2],
) -> Result<(Dataset, Summary), DatasetError> {
    write(folder, "train.json", train);
    write(folder, "test.json", test);
    write(folder, "seen.txt", "cat\n");
    write(folder, "unseen.txt", "dog\n");
    coco::read(&CocoOptions {
        outside: false,
        train: folder.join("train.json"),
        test: folder.join("test.json"),
        train_images: folder.join(train_images),
        test_images: folder.join(test_images),
        split: CocoSplit::Lists {
            seen: folder.join("seen.txt"),
            unseen: folder.join("unseen.txt"),
        },
        training_images: Default::default(),
    })
}

const CATEGORIES: &str = r#""categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]"#;

fn instances(images: &str, annotations: &str) -> String {
    format!(r#"{{"images": [{images}], "annotations": [{annotations}], {CATEGORIES}}}"#)
}

#[test]
fn d01_an_image_is_its_folder_and_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let train = instances(
        r#"{"id": 1, "file_name": "0001.jpg"}"#,
        r#"{"image_id": 1, "category_id": 1}"#,
    );
    let test = instances(
        r#"{"id": 1, "file_name": "0001.jpg"}, {"id": 2, "file_name": "0002.jpg"}"#,
        r#"{"image_id": 1, "category_id": 2}"#,
    );
    let (dataset, summary) = read_coco(folder.path(), &train, &test, ["train", "val"]).unwrap();
    let ids: Vec<&str> = dataset.records.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids, ["0001.jpg", "val/0001.jpg", "0002.jpg"]);
    let paths: Vec<_> = dataset
        .records
        .iter()
        .map(epsilon_data::dataset::Record::path)
        .collect();
    let expected = ["train/0001.jpg", "val/0001.jpg", "val/0002.jpg"];
    assert_eq!(paths, expected.map(|path| folder.path().join(path)));
    assert_eq!(notes(&summary), []);
    // The same folder for both: the same photograph, which must not be measured on.
    let (dataset, summary) = read_coco(folder.path(), &train, &test, ["all", "all"]).unwrap();
    assert_eq!(dataset.rows(Split::Test), [1]);
    let left = ("test images that are also training images, left out", 1);
    assert_eq!(notes(&summary), [left]);
}

fn tables(lines: &str, name: &str) -> Result<(Dataset, Summary), DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), name, lines);
    write(folder.path(), "seen.txt", "cat\n");
    write(folder.path(), "unseen.txt", "dog\n");
    write(folder.path(), "a/1.jpg", "");
    let mut options = TableOptions::in_folder(folder.path());
    options.table = folder.path().join(name);
    table::read(&options)
}

#[test]
fn d02_a_table_in_which_nothing_is_negative_is_asked_about() {
    for (name, lines) in [
        ("t.csv", "a.jpg,train,cat,\nb.jpg,test,dog,\n"),
        ("t.tsv", "a.jpg\ttrain\tcat\t\nb.jpg\ttest\tdog\t\n"),
    ] {
        let error = tables(lines, name).unwrap_err();
        assert!(matches!(error, DatasetError::NoNegative { .. }));
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains("lines end in a separator"),
            "{text}"
        );
    }
    // A header says that it is meant so; then the labels without a negative are counted.
    let header = "path,split,labels,negative\na.jpg,train,cat,\nb.jpg,test,dog,\n";
    let (_, summary) = tables(header, "t.csv").unwrap();
    assert_eq!(summary.notes[0].count, 1);
    // A label that is positive for test images and negative for none is counted.
    let lines = "a.jpg,train,cat,dog\nb.jpg,test,dog,cat\nc.jpg,test,cat,\n";
    let (_, summary) = tables(lines, "t.csv").unwrap();
    let [note] = &summary.notes[..] else {
        panic!("{:?}", summary.notes)
    };
    assert!(note.what.contains("negative for no test image"));
    assert_eq!(
        (note.count, &note.examples[..]),
        (1, &["dog".to_string()][..])
    );
}

fn voc_options(folder: &Path) -> VocOptions {
    write(folder, "seen.txt", "cat\n");
    write(folder, "unseen.txt", "dog\n");
    VocOptions {
        outside: false,
        folder: folder.into(),
        train_set: "trainval".into(),
        test_set: "test".into(),
        seen: folder.join("seen.txt"),
        unseen: folder.join("unseen.txt"),
        difficult: Default::default(),
    }
}

#[test]
fn d03_voc_images_under_their_own_names() {
    let folder = tempfile::tempdir().unwrap();
    let options = voc_options(folder.path());
    write(folder.path(), "ImageSets/Main/trainval.txt", "1\n2\n3\n");
    write(folder.path(), "ImageSets/Main/test.txt", "4\n5\n6\n");
    let object = "<object><name>cat</name></object>";
    for (id, file) in [
        ("1", "<filename>one.png</filename>"),
        ("2", "<filename>gone.png</filename>"),
        ("3", ""),
        ("4", "<filename>../secret.jpg</filename>"),
        ("5", ""),
        ("6", ""),
    ] {
        let xml = format!("<annotation>{file}{object}</annotation>");
        write(folder.path(), &format!("Annotations/{id}.xml"), xml);
    }
    write(folder.path(), "secret.jpg", "");
    for name in ["one.png", "2.JPG", "3.jpeg", "4.jpg", "5.PNG"] {
        write(folder.path(), &format!("JPEGImages/{name}"), "");
    }
    let (dataset, summary) = voc::read(&options).unwrap();
    let ids: Vec<&str> = dataset.records.iter().map(|r| r.id.as_str()).collect();
    let expected = ["one.png", "2.JPG", "3.jpeg", "4.jpg", "5.PNG", "6.jpg"];
    assert_eq!(ids, expected.map(|name| format!("JPEGImages/{name}")));
    assert_eq!(summary.missing_examples, ["JPEGImages/6.jpg"]);
}

#[test]
fn d04_difficult_that_says_nothing_is_no() {
    let folder = tempfile::tempdir().unwrap();
    let options = voc_options(folder.path());
    write(folder.path(), "ImageSets/Main/trainval.txt", "1\n2\n3\n");
    write(folder.path(), "ImageSets/Main/test.txt", "4\n");
    for (id, difficult) in [
        ("1", "<difficult/>"),
        (
            "2",
            "<pose>Unspecified</pose><difficult>Unspecified</difficult>",
        ),
        ("3", "<difficult>1</difficult>"),
        ("4", "<difficult>0</difficult>"),
    ] {
        let xml = format!("<annotation><object><name>cat</name>{difficult}</object></annotation>");
        write(folder.path(), &format!("Annotations/{id}.xml"), xml);
    }
    let (dataset, _) = voc::read(&options).unwrap();
    let cats: Vec<i8> = (0..4).map(|row| dataset.labels.get(row, 0)).collect();
    assert_eq!(cats, [1, 1, 0, 1]);
    let xml = "<annotation><object><name>cat</name><difficult>2</difficult></object></annotation>";
    write(folder.path(), "Annotations/2.xml", xml);
    let text = voc::read(&options).unwrap_err().to_string();
    assert!(text.contains("2.xml, line 1") && text.contains("\"2\", not 0 or 1"));
}

#[test]
fn d05_dirty_coco_files_are_read_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let train = instances(
        r#"{"id": "7", "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}"#,
        r#"{"image_id": 7, "category_id": "1"}, {"image_id": "8", "category_id": -1},
           {"image_id": 99, "category_id": 1}, {"image_id": 8, "category_id": 2}"#,
    );
    let train = format!("\u{feff}{train}");
    let test = instances(r#"{"id": 1, "file_name": "c.jpg"}"#, "");
    let (dataset, summary) = read_coco(folder.path(), &train, &test, ["t", "v"]).unwrap();
    let label = |row, column| dataset.labels.get(row, column);
    assert_eq!([label(0, 0), label(0, 1)], [1, -1]);
    assert_eq!([label(1, 0), label(1, 1)], [-1, 1]);
    let expected = [
        (
            "objects of categories that the file does not define, left out",
            1,
        ),
        ("objects of images that the file does not list, left out", 1),
    ];
    assert_eq!(notes(&summary), expected);
    // What breaks the structure stays an error.
    let twice = instances(
        r#"{"id": 7, "file_name": "a.jpg"}, {"id": "7", "file_name": "b.jpg"}"#,
        "",
    );
    let error = read_coco(folder.path(), &twice, &test, ["t", "v"]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the image 7 (b.jpg) stands there twice")
    );
    let cut = &train[..train.len() / 2];
    let error = read_coco(folder.path(), cut, &test, ["t", "v"]).unwrap_err();
    assert!(matches!(error, DatasetError::Json { .. }), "{error}");
}

#[test]
fn d07_folders_separated_by_a_backslash() {
    let lines = "a\\1.jpg\ttrain\tcat\na\\2.jpg\ttest\tdog\n";
    let (dataset, summary) = tables(lines, "t.tsv").unwrap();
    let ids: Vec<&str> = dataset.records.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids, ["a/1.jpg", "a\\2.jpg"]);
    assert_eq!(summary.missing_examples, ["a\\2.jpg"]);
    assert_eq!(
        notes(&summary),
        [("paths with \\ between folders, read as /", 1)]
    );
}
