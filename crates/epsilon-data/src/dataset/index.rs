//! The index of a data set: images and labels as they were read, in one Parquet file, so that text files of gigabytes are
//! read once. It is used while the options and the size and time of every source file are what they were.
//!
//! Columns: `id` of each image, the number of its `folder`, `split` (0 train, 1 test), and the numbers of its `positive` and
//! `negative` labels. Folders, label names and counts are in the file's metadata, under `epsilon.index`.

use super::columns::{self, Rows};
use super::{Dataset, DatasetError, Record, SparseLabels, Split, Summary};
use crate::files;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the layout and of what readers make of the sources; part of the key.
const VERSION: u32 = 3;
const METADATA: &str = "epsilon.index";
const SCHEMA: &str = "message index {
    required binary id (UTF8);
    required int32 folder;
    required int32 split;
    repeated int32 positive;
    repeated int32 negative;
}";
/// Images of a row group: a bound on memory while writing.
const GROUP: usize = 1 << 16;

/// What the file holds besides the images.
#[derive(Serialize, Deserialize)]
struct Header {
    key: String,
    folders: Vec<PathBuf>,
    names: Vec<String>,
    words: Vec<String>,
    seen: usize,
    rest: i8,
    summary: Summary,
}

/// The key of an index: a hash of what the data set is read from and how.
///
/// # Errors
/// A source file that is not there.
pub fn key(options: &impl Serialize, sources: &[PathBuf]) -> Result<String, DatasetError> {
    let mut facts = Vec::new();
    for path in sources {
        let failed = |reason| super::lines::read_error(path, reason);
        let about = std::fs::metadata(path).map_err(failed)?;
        let changed = about.modified().map_err(failed)?;
        let since = changed
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        facts.push((path, about.len(), since.as_nanos() as u64));
    }
    let text = serde_json::json!([VERSION, options, facts]).to_string();
    Ok(files::sha256(text.as_bytes()))
}

/// The data set of the index at `path` if it has this key; else what `read` gives, of which an index is made there.
/// Whether image files are missing is looked up in both cases.
///
/// An index that is damaged is made anew.
///
/// # Errors
/// Whatever `read` returns; an index that cannot be written.
pub fn cached(
    path: &Path,
    key: &str,
    read: impl FnOnce() -> Result<(Dataset, Summary), DatasetError>,
) -> Result<(Dataset, Summary), DatasetError> {
    match load(path, key) {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => {}
        Err(error) => log::warn!("{error}; the sources are read again"),
    }
    let (dataset, summary) = read()?;
    save(path, key, &dataset, &summary)?;
    Ok((dataset, summary))
}

/// Reads an index; `None` where there is none, or one with another key.
fn load(path: &Path, key: &str) -> Result<Option<(Dataset, Summary)>, DatasetError> {
    if !path.exists() {
        return Ok(None);
    }
    let damaged = |reason: String| DatasetError::Form {
        path: path.into(),
        reason,
    };
    let about = columns::about(path)?;
    let header = about.entries.iter().find(|(name, _)| name == METADATA);
    let (_, header) = header.ok_or_else(|| damaged("not an index of a data set".into()))?;
    let header: Header = serde_json::from_str(header)
        .map_err(|error| damaged(format!("not an index of a data set: {error}")))?;
    if header.key != key {
        return Ok(None);
    }
    // A damaged file may claim any number.
    let mut records = Vec::with_capacity(about.rows.min(1 << 24));
    let mut starts = vec![0];
    let mut entries: Vec<(u32, i8)> = Vec::new();
    let folders: Vec<Arc<Path>> = header.folders.iter().map(|f| f.as_path().into()).collect();
    let numbers = ["folder", "split", "positive", "negative"];
    columns::read(path, &["id"], &numbers, |rows| {
        for row in 0..rows.count {
            records.push(
                record(&rows, row, &folders)
                    .ok_or_else(|| damaged("a row without a value".into()))?,
            );
            let start = entries.len();
            for (column, value) in [(2, 1), (3, -1)] {
                let labels = rows.numbers[column].row(row).iter();
                entries.extend(labels.map(|&label| (label as u32, value)));
            }
            entries[start..].sort_unstable();
            starts.push(entries.len());
        }
        Ok(())
    })?;
    if header.seen > header.names.len() || header.words.len() != header.names.len() {
        return Err(damaged("the names do not fit".into()));
    }
    let labels = SparseLabels::from_parts(header.names.len(), header.rest, starts, entries)
        .map_err(|error| damaged(error.to_string()))?;
    let dataset = Dataset {
        records,
        labels,
        names: header.names,
        seen: header.seen,
        words: header.words,
    };
    let mut summary = header.summary;
    summary.find_missing(&dataset);
    Ok(Some((dataset, summary)))
}

fn record(rows: &Rows, row: usize, folders: &[Arc<Path>]) -> Option<Record> {
    let [id] = rows.texts[0].row(row) else {
        return None;
    };
    let ([folder], [split]) = (rows.numbers[0].row(row), rows.numbers[1].row(row)) else {
        return None;
    };
    Some(Record {
        id: columns::text(id).ok()?.to_string(),
        folder: folders.get(usize::try_from(*folder).ok()?)?.clone(),
        split: match split {
            0 => Split::Train,
            1 => Split::Test,
            _ => return None,
        },
    })
}

/// Writes the index, beside its place first.
fn save(path: &Path, key: &str, dataset: &Dataset, summary: &Summary) -> Result<(), DatasetError> {
    let mut folders: Vec<Arc<Path>> = Vec::new();
    for record in &dataset.records {
        if !folders.contains(&record.folder) {
            folders.push(record.folder.clone());
        }
    }
    let header = Header {
        key: key.into(),
        folders: folders.iter().map(|folder| folder.to_path_buf()).collect(),
        names: dataset.names.clone(),
        words: dataset.words.clone(),
        seen: dataset.seen,
        rest: dataset.labels.rest(),
        summary: Summary {
            missing_images: 0,
            missing_examples: Vec::new(),
            ..summary.clone()
        },
    };
    let failed = |reason| DatasetError::Write {
        path: path.into(),
        reason,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let header = serde_json::to_string(&header).map_err(|error| failed(error.into()))?;
    files::replace(path, |file| {
        write(
            BufWriter::with_capacity(1 << 18, file),
            header,
            &folders,
            dataset,
        )
        .map_err(std::io::Error::other)
    })
    .map_err(failed)
}

fn write(
    file: impl std::io::Write + Send,
    header: String,
    folders: &[Arc<Path>],
    dataset: &Dataset,
) -> Result<(), ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(vec![KeyValue::new(METADATA.into(), header)]))
        .build();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
    let rows = dataset.records.len();
    for first in (0..rows).step_by(GROUP) {
        let rows = first..rows.min(first + GROUP);
        let records = &dataset.records[rows.clone()];
        let mut group = writer.next_row_group()?;
        // One buffer for all ids, of which each is a piece.
        let all = ByteArray::from(
            records
                .iter()
                .map(|r| r.id.as_str())
                .collect::<String>()
                .into_bytes(),
        );
        let mut place = 0;
        let piece = |record: &Record| {
            place += record.id.len();
            all.slice(place - record.id.len(), record.id.len())
        };
        let ids: Vec<ByteArray> = records.iter().map(piece).collect();
        let mut column = next(&mut group)?;
        column
            .typed::<ByteArrayType>()
            .write_batch(&ids, None, None)?;
        column.close()?;
        let folder = |record: &Record| folders.iter().position(|f| *f == record.folder);
        let numbers: [Vec<i32>; 2] = [
            records
                .iter()
                .map(|r| folder(r).unwrap_or(0) as i32)
                .collect(),
            records
                .iter()
                .map(|r| i32::from(r.split == Split::Test))
                .collect(),
        ];
        for values in numbers {
            let mut column = next(&mut group)?;
            column
                .typed::<Int32Type>()
                .write_batch(&values, None, None)?;
            column.close()?;
        }
        for sign in [1, -1] {
            let (mut values, mut present, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
            for row in rows.clone() {
                let before = values.len();
                let entries = dataset.labels.entries(row).iter();
                values.extend(
                    entries
                        .filter(|(_, v)| *v == sign)
                        .map(|&(label, _)| label as i32),
                );
                let count = values.len() - before;
                // An empty list is one level without a value.
                present.extend(std::iter::repeat_n(i16::from(count > 0), count.max(1)));
                repeated.extend((0..count.max(1)).map(|i| i16::from(i > 0)));
            }
            let mut column = next(&mut group)?;
            let typed = column.typed::<Int32Type>();
            typed.write_batch(&values, Some(&present), Some(&repeated))?;
            column.close()?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

/// The writer of the schema's next column.
fn next<'a, W: std::io::Write + Send>(
    group: &'a mut parquet::file::writer::SerializedRowGroupWriter<'_, W>,
) -> Result<parquet::file::writer::SerializedColumnWriter<'a>, ParquetError> {
    let column = group.next_column()?;
    column.ok_or_else(|| ParquetError::General("the schema has no further column".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Source, nus_wide, open_images, trees};
    use proptest::prelude::*;

    fn source(folder: &Path) -> Source {
        trees::small_nus_wide(folder, 5, 3, 1);
        Source::NusWide(nus_wide::NusWideOptions {
            outside: false,
            folder: folder.into(),
            images: folder.join("Flickr"),
            labels: nus_wide::NusWideLabels::default(),
        })
    }

    #[test]
    fn what_was_read_is_kept_and_read_again_when_a_source_changes() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(dir.path());
        let path = dir.path().join("run/index.parquet");
        let fresh = source.read().unwrap();
        assert_eq!(source.read_cached(&path).unwrap(), fresh);
        let written = std::fs::read(&path).unwrap();
        let never = || panic!("the index serves");
        let key = key(&source, &source.sources().unwrap()).unwrap();
        assert_eq!(cached(&path, &key, never).unwrap(), fresh);
        // Images that come later are found without the index being made anew.
        std::fs::create_dir_all(dir.path().join("Flickr/cat")).unwrap();
        std::fs::write(fresh.0.records[0].path(), "").unwrap();
        let (_, summary) = source.read_cached(&path).unwrap();
        assert_eq!(summary.missing_images, fresh.1.missing_images - 1);
        assert_eq!(std::fs::read(&path).unwrap(), written);
        // Another label file, another index.
        let file = dir.path().join("TrainTestLabels/Labels_cat_Train.txt");
        std::fs::write(&file, "1\n".repeat(5)).unwrap();
        let (dataset, _) = source.read_cached(&path).unwrap();
        let cat = dataset.names.iter().position(|name| name == "cat").unwrap();
        assert!(
            dataset
                .rows(Split::Train)
                .iter()
                .all(|&row| dataset.labels.get(row, cat) == 1)
        );
        assert_ne!(std::fs::read(&path).unwrap(), written);
    }

    #[test]
    fn a_damaged_index_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(dir.path());
        let path = dir.path().join("index.parquet");
        let fresh = source.read_cached(&path).unwrap();
        let written = std::fs::read(&path).unwrap();
        for spoilt in [
            &written[..written.len() / 2],
            b"",
            b"PAR1 of some other kind PAR1",
        ] {
            std::fs::write(&path, spoilt).unwrap();
            assert_eq!(source.read_cached(&path).unwrap(), fresh);
            assert_eq!(std::fs::read(&path).unwrap(), written);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn three_valued_labels_round_trip(train in 1usize..20, test in 1usize..20, seed in 0u64..1000) {
            let dir = tempfile::tempdir().unwrap();
            trees::open_images(dir.path(), [12, 4, 3], [train, test], 4, seed);
            let (dataset, summary) = open_images::read(&open_images::tests::options(dir.path())).unwrap();
            let path = dir.path().join("index.parquet");
            save(&path, "k", &dataset, &summary).unwrap();
            prop_assert_eq!(load(&path, "k").unwrap().unwrap(), (dataset, summary));
            prop_assert!(load(&path, "other").unwrap().is_none());
        }

        #[test]
        fn spoilt_bytes_are_no_panic(place in 0usize..3000, byte: u8) {
            let dir = tempfile::tempdir().unwrap();
            let source = source(dir.path());
            let path = dir.path().join("index.parquet");
            let (dataset, summary) = source.read().unwrap();
            save(&path, "k", &dataset, &summary).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let place = place % bytes.len();
            bytes[place] = byte;
            std::fs::write(&path, bytes).unwrap();
            let _ = load(&path, "k");
        }
    }
}
