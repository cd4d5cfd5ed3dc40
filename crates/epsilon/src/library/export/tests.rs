//! An export of a small library, read back.

use std::fs;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Value, json};

use super::*;
use crate::semantic_index::{IndexInfo, IndexWriter};

/// A library of three photographs, one of which could not be tagged, and of one that is in the index alone.
fn library(folder: &Path, classes: Option<usize>) -> Library {
    let line = |photo: &str, rest: Value| {
        let mut line =
            json!({"photo": photo, "bytes": 7, "modified": 0, "settings": "s", "taken": 86_400});
        let line = line.as_object_mut().unwrap();
        line.extend(rest.as_object().unwrap().clone());
        format!("{}\n", json!(line))
    };
    let label = json!({"name": "red", "score": 0.5, "probability": 0.75, "seen": true});
    let lines = [
        line(
            "a/é.jpg",
            json!({"labels": [label, {"name": "blue", "seen": false}]}),
        ),
        line("b.jpg", json!({"labels": []})),
        line("broken.jpg", json!({"error": "no picture"})),
    ];
    fs::write(folder.join("tags.jsonl"), lines.concat()).unwrap();
    let info = IndexInfo {
        model: "m".into(),
        groups: 2,
        width: 2,
        classes,
    };
    let mut writer = IndexWriter::open(&Library::index(folder), &info).unwrap();
    let anchor: &[f32] = if classes.is_some() {
        &[0.5, 0.0, -3.0]
    } else {
        &[]
    };
    // Rows that 8 bits hold as they are.
    for (id, rows) in [
        ("b.jpg", [1.27, 0.01, 127.0, -2.0]),
        ("gone.jpg", [0.0; 4]),
        ("a/é.jpg", [0.0, 0.0, -127.0, 0.0]),
    ] {
        writer.push(id, &[&rows, anchor].concat()).unwrap();
    }
    writer.commit().unwrap();
    Library::new("model.safetensors".into(), "m".into(), "/photos".into())
}

/// What `export` gives of the library with these classes.
fn with<T>(classes: Option<usize>, export: impl FnOnce(&Export<'_>, &Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), classes);
    let catalog = Catalog::read(folder.path()).unwrap();
    let index = Index::open(&Library::index(folder.path())).unwrap();
    let made = Export::new(&library, &catalog, &index).unwrap();
    assert_eq!((made.len(), made.is_empty()), (2, false));
    assert_eq!(made.missing(), [("broken.jpg", "no picture".to_string())]);
    export(&made, folder.path())
}

/// A row as JSON.
fn read(row: &Row) -> Value {
    row.get_column_iter()
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Str(text) => json!(text),
        Field::Float(number) => json!(number),
        Field::TimestampMillis(time) => json!(time),
        Field::Group(row) => read(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn parquet_is_read_back() {
    with(None, |export, folder| {
        let (path, mut told) = (folder.join("out.parquet"), Vec::new());
        export
            .write_parquet(&path, &mut |count| told.push(count))
            .unwrap();
        assert_eq!(told, [2]);
        let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
        let metadata = reader
            .metadata()
            .file_metadata()
            .key_value_metadata()
            .unwrap();
        let about = metadata.iter().find(|entry| entry.key == "epsilon.vectors");
        let about: Value = serde_json::from_str(about.unwrap().value.as_ref().unwrap()).unwrap();
        assert_eq!(
            about,
            json!({"model": "m", "groups": 2, "width": 2, "anchor": 0, "metric": "dot", "comparator": "max", "normalised": false})
        );
        let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
        let rows: Vec<Value> = rows.map(|row| read(&row)).collect();
        let near = |value: &Value, expected: f64| {
            assert!((value.as_f64().unwrap() - expected).abs() < 1e-6, "{value}");
        };
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (&rows[0]["photo"], &rows[0]["path"]),
            (&json!("b.jpg"), &json!("/photos/b.jpg"))
        );
        for (value, expected) in [
            ([0, 0], 1.27),
            ([0, 1], 0.01),
            ([1, 0], 127.0),
            ([1, 1], -2.0),
        ] {
            near(&rows[0]["vectors"][value[0]][value[1]], expected);
        }
        assert_eq!(rows[0]["labels"], json!([]));
        assert_eq!(rows[1]["photo"], "a/é.jpg");
        assert_eq!(
            rows[1]["labels"],
            json!([
                {"name": "red", "state": "automatic", "score": 0.5, "probability": 0.75},
                {"name": "blue", "state": "automatic", "score": null, "probability": null},
            ])
        );
        assert_eq!(rows[1]["date"], 86_400_000);
    });
}

#[test]
fn points_are_read_back() {
    with(Some(2), |export, folder| {
        let path = folder.join("out.jsonl");
        export.write_points(&path, &mut |_| {}).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let points: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(points.len(), 2);
        assert_eq!(
            points[1]["vector"],
            json!([[0.0, 0.0, 0.5, 0.0, -3.0], [-127.0, 0.0, 0.5, 0.0, -3.0]])
        );
        assert_eq!(
            points[0]["payload"],
            json!({"photo": "b.jpg", "path": "/photos/b.jpg", "date": "1970-01-02T00:00:00", "labels": []})
        );
        assert_eq!(points[1]["payload"]["labels"][0]["state"], "automatic");
        assert_eq!(points[0]["id"].as_str().unwrap().len(), 36);
        assert_ne!(points[0]["id"], points[1]["id"]);
        let size = &export.collection()["vectors"]["size"];
        assert_eq!((size, export.vectors().anchor), (&json!(5), 3));
    });
}

#[test]
fn nothing_is_left_of_what_cannot_be_written() {
    with(None, |export, folder| {
        let nowhere = folder.join("nowhere/out.parquet");
        let said = export
            .write_parquet(&nowhere, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("nowhere/out.parquet") && said.contains("no folder"),
            "{said}"
        );
        let said = export
            .write_points(&folder.join("index"), &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(said.contains("a folder"), "{said}");
    });
}

#[test]
fn an_index_of_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut library = library(folder.path(), None);
    library.identity = "other".into();
    let catalog = Catalog::read(folder.path()).unwrap();
    let index = Index::open(&Library::index(folder.path())).unwrap();
    let refused = Export::new(&library, &catalog, &index).err().unwrap();
    assert!(matches!(refused, ExportError::OtherModel), "{refused}");
}
