//! Tables of photographs: TSV, CSV, JSONL or Parquet with path, split and labels, and lists of seen and unseen labels.
//!
//! A TSV or CSV table has the columns `path`, `split`, `labels` and, if wanted, `negative`; a first line with
//! these names is recognised and may order them freely. Labels in a cell are separated by `,`, `;` or `|`
//! (a CSV cell with commas is quoted). A JSONL table has one object a line:
//! `{"path": "a.jpg", "split": "train", "labels": ["cat"], "negative": ["dog"]}`. A Parquet table has columns of these
//! names, `labels` and `negative` lists of text or cells as above; its rows are counted as lines.
//!
//! Without `negative`, a label that an image does not list is negative; with it, unknown.

use super::columns;
use super::lines::{self, line_error};
use super::summary::{Notes, WordCounts};
use super::{Dataset, DatasetError, LineError, Record, SparseLabels, Split, Summary};
use crate::labels::{composed, read_names, read_seen_unseen};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The characters that separate labels in a cell.
const SEPARATORS: [char; 3] = [',', ';', '|'];

/// Where a table and its label lists lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {
    /// The table; its extension (`tsv`, `csv`, `jsonl`, `ndjson`, `parquet`) tells its kind.
    pub table: PathBuf,
    /// The folder that the paths of the table are relative to.
    pub images: PathBuf,
    /// The list of seen label names, one a line.
    pub seen: PathBuf,
    /// The list of unseen label names, one a line; left out where all labels are trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<PathBuf>,
    /// Whether images may lie outside their folder, where a path with `..` or from the root leads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
}

impl TableOptions {
    /// The usual layout of one folder: `labels.tsv`, `seen.txt`, `unseen.txt` and the images below it.
    ///
    /// ```
    /// use epsilon_data::dataset::table::TableOptions;
    /// use std::path::Path;
    ///
    /// let options = TableOptions::in_folder(Path::new("corel5k"));
    /// assert_eq!(options.table, Path::new("corel5k/labels.tsv"));
    /// ```
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            table: folder.join("labels.tsv"),
            images: folder.into(),
            seen: folder.join("seen.txt"),
            unseen: Some(folder.join("unseen.txt")),
            outside: false,
        }
    }
}

/// Reads a table and counts it. Words in neither list are ignored but counted; files that do not exist are
/// counted too, and stay in the data set.
///
/// A split without images is no error here: [`Summary`] shows it.
///
/// # Errors
/// Unreadable files, an unknown extension, lists as [`read_seen_unseen`] refuses them, an empty table, and, with
/// file and line: wrong columns, an unknown split, an empty or repeated path, one that leads out of the images' folder, a label that is both positive and negative.
pub fn read(options: &TableOptions) -> Result<(Dataset, Summary), DatasetError> {
    let (names, seen) = match &options.unseen {
        Some(unseen) => read_seen_unseen(&options.seen, unseen)?,
        None => {
            let names = read_names(&options.seen)?;
            let seen = names.len();
            (names, seen)
        }
    };
    let path = &options.table;
    let format = Format::of(path)?;
    if matches!(format, Format::Tsv | Format::Csv)
        && let Some(name) = names.iter().find(|name| name.contains(SEPARATORS))
    {
        return Err(DatasetError::NameHoldsSeparator {
            name: name.clone(),
            path: path.clone(),
        });
    }
    let mut table = Table::new(options, &names);
    format.read(path, &mut |line, row| table.push(line, row))?;
    let (records, labels, ignored, notes) = table.finish()?;
    let dataset = Dataset {
        records,
        labels,
        words: names.clone(),
        names,
        seen,
    };
    let summary = Summary::new(&dataset, ignored, notes);
    Ok((dataset, summary))
}

/// Rows of a row group that [`Writer`] makes.
const GROUP: usize = 4096;

/// Writes a Parquet table row by row.
pub struct Writer<W: std::io::Write + Send> {
    file: SerializedFileWriter<W>,
    negative: bool,
    rows: Vec<Row>,
}

impl<W: std::io::Write + Send> Writer<W> {
    /// A table with or without the column `negative`.
    pub fn new(file: W, negative: bool) -> Result<Self, ParquetError> {
        let list = |name: &str| {
            format!(
                "required group {name} (LIST) {{ repeated group list {{ required binary element (UTF8); }} }}"
            )
        };
        let mut schema = String::from("required binary path (UTF8); required binary split (UTF8);");
        schema += &list("labels");
        if negative {
            schema += &list("negative");
        }
        let schema = Arc::new(parse_message_type(&format!(
            "message table {{ {schema} }}"
        ))?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        Ok(Self {
            file: SerializedFileWriter::new(file, schema, Arc::new(properties))?,
            negative,
            rows: Vec::new(),
        })
    }

    /// Adds a row; `negative` is dropped where the table has no such column.
    pub fn push(
        &mut self,
        path: &str,
        split: Split,
        labels: Vec<String>,
        negative: Vec<String>,
    ) -> Result<(), ParquetError> {
        self.rows.push(Row {
            path: path.into(),
            split: match split {
                Split::Train => "train".into(),
                Split::Test => "test".into(),
            },
            labels,
            negative: self.negative.then_some(negative),
        });
        match self.rows.len() {
            GROUP => self.flush(),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.file.next_row_group()?;
        let mut column = 0;
        while let Some(mut writer) = group.next_column()? {
            let typed = writer.typed::<ByteArrayType>();
            let cells: [fn(&Row) -> &[String]; 4] = [
                |row| std::slice::from_ref(&row.path),
                |row| std::slice::from_ref(&row.split),
                |row| &row.labels,
                |row| row.negative.as_deref().unwrap_or_default(),
            ];
            let (mut values, mut present, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
            for row in &rows {
                let cells = cells[column](row);
                values.extend(cells.iter().map(|cell| ByteArray::from(cell.as_str())));
                let count = cells.len();
                present.extend(std::iter::repeat_n(i16::from(count > 0), count.max(1)));
                repeated.extend((0..count.max(1)).map(|i| i16::from(i > 0)));
            }
            let levels = column >= 2;
            typed.write_batch(
                &values,
                levels.then_some(&present),
                levels.then_some(&repeated),
            )?;
            writer.close()?;
            column += 1;
        }
        group.close()?;
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<(), ParquetError> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        self.file.close()?;
        Ok(())
    }
}

/// One row as written.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    path: String,
    split: String,
    labels: Vec<String>,
    negative: Option<Vec<String>>,
}

/// Receives each row with its line, counted from 1.
type Sink<'a> = dyn FnMut(u64, Row) -> Result<(), DatasetError> + 'a;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Tsv,
    Csv,
    Jsonl,
    Parquet,
}

impl Format {
    fn of(path: &Path) -> Result<Self, DatasetError> {
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        match extension.as_str() {
            "tsv" => Ok(Self::Tsv),
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "parquet" => Ok(Self::Parquet),
            _ => Err(DatasetError::Extension { path: path.into() }),
        }
    }

    fn read(self, path: &Path, sink: &mut Sink) -> Result<(), DatasetError> {
        match self {
            Self::Tsv => read_tsv(path, lines::open(path)?, sink),
            Self::Csv => read_csv(path, lines::open(path)?, sink),
            Self::Jsonl => read_jsonl(path, lines::open(path)?, sink),
            Self::Parquet => read_parquet(path, sink),
        }
    }
}

fn read_tsv(path: &Path, reader: impl BufRead, sink: &mut Sink) -> Result<(), DatasetError> {
    let mut columns = None;
    lines::for_each(path, reader, |line, text| {
        match cells(&mut columns, text.split('\t')) {
            Ok(Some(row)) => sink(line, row),
            Ok(None) => Ok(()),
            Err(problem) => Err(line_error(path, line, problem)),
        }
    })?;
    check_negatives(path, columns)
}

fn read_jsonl(path: &Path, reader: impl BufRead, sink: &mut Sink) -> Result<(), DatasetError> {
    lines::for_each(path, reader, |line, text| {
        let row = serde_json::from_str(text)
            .map_err(|error| line_error(path, line, LineError::Json(error)))?;
        sink(line, row)
    })
}

fn read_csv(path: &Path, mut reader: impl Read, sink: &mut Sink) -> Result<(), DatasetError> {
    let read_error = |reason| DatasetError::Read {
        path: path.into(),
        reason,
    };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(read_error)?;
    // A quote that nothing closes then holds a line end, too.
    bytes.push(b'\n');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes.as_slice());
    let mut record = csv::ByteRecord::new();
    let mut lines = LineCounter {
        bytes: &bytes,
        place: 0,
        line: 1,
    };
    let mut columns = None;
    while reader
        .read_byte_record(&mut record)
        .map_err(|error| read_error(error.into()))?
    {
        let line = lines.line_of(record.position().map_or(0, csv::Position::byte) as usize);
        let row = texts(&record).and_then(|texts| cells(&mut columns, texts.into_iter()));
        if let Some(row) = row.map_err(|problem| line_error(path, line, problem))? {
            sink(line, row)?;
        }
    }
    check_negatives(path, columns)
}

/// The cells of a record. None needs a line end: one that has some comes from a quote that swallows the lines behind it.
fn texts(record: &csv::ByteRecord) -> Result<Vec<&str>, LineError> {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if record.as_slice().iter().any(is_end) {
        return Err(LineError::Quotes);
    }
    let texts = record.iter().map(std::str::from_utf8);
    texts
        .collect::<Result<_, _>>()
        .map_err(|_| LineError::NotUtf8)
}

/// The columns of a Parquet table.
const PARQUET: [&str; 4] = ["path", "split", "labels", "negative"];

fn read_parquet(path: &Path, sink: &mut Sink) -> Result<(), DatasetError> {
    let found = columns::about(path)?.columns;
    // pandas keeps its row labels in a column of this name.
    let is_column = |name: &&String| !name.starts_with("__index_level_");
    let negative = found.iter().any(|name| name == "negative");
    let wanted = &PARQUET[..if negative { 4 } else { 3 }];
    let other = found
        .iter()
        .filter(is_column)
        .find(|name| !wanted.contains(&name.as_str()));
    if let Some(name) = other {
        let reason = format!(
            "unknown column {name:?}; a table has path, split, labels and, if wanted, negative"
        );
        return Err(DatasetError::Form {
            path: path.into(),
            reason,
        });
    }
    let mut line = 0;
    columns::read(path, wanted, &[], |rows| {
        for row in 0..rows.count {
            line += 1;
            let error = |problem| line_error(path, line, problem);
            // The same bytes may be many values.
            let values = rows.texts.iter().flat_map(|cells| cells.row(row));
            if values.map(|value| value.len() as u64).sum::<u64>() > lines::LONGEST as u64 {
                return Err(error(LineError::Long(lines::LONGEST)));
            }
            let text = |column: usize| match rows.texts[column].row(row) {
                [value] => columns::text(value).map(|text| text.trim().to_string()),
                _ => Ok(String::new()),
            };
            let names = |column: usize| {
                let cells = &rows.texts[column];
                let texts = cells.row(row).iter().map(columns::text);
                match cells.is_list {
                    true => texts.map(|text| text.map(str::to_string)).collect(),
                    false => texts
                        .map(|text| text.map(split_cell))
                        .collect::<Result<Vec<_>, _>>()
                        .map(|cells| cells.concat()),
                }
            };
            let written = Row {
                path: text(0).map_err(error)?,
                split: text(1).map_err(error)?,
                labels: names(2).map_err(error)?,
                negative: negative.then(|| names(3)).transpose().map_err(error)?,
            };
            sink(line, written)?;
        }
        Ok(())
    })
}

/// The labels of a cell.
fn split_cell(cell: &str) -> Vec<String> {
    let names = cell.split(SEPARATORS).map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(Into::into)
        .collect()
}

/// Tells on which line a record of a CSV file starts. The csv crate's own count starts at the blank lines
/// and line ends before the record.
struct LineCounter<'a> {
    bytes: &'a [u8],
    place: usize,
    line: u64,
}

impl LineCounter<'_> {
    /// The line, counted from 1, of the record that starts at or after `start`, which must not decrease.
    fn line_of(&mut self, start: usize) -> u64 {
        let blank = self.bytes[start..]
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        let passed = &self.bytes[self.place..start + blank];
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.place = start + blank;
        self.line
    }
}

/// Where the columns of a TSV or CSV table stand.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Columns {
    path: usize,
    split: usize,
    labels: usize,
    negative: Option<usize>,
    width: usize,
    /// Whether a fourth column was taken for negatives by its place alone and has been empty so far.
    doubtful: bool,
}

impl Columns {
    /// The columns of a header: `path`, `split`, `labels` and at most `negative`, in any order and case.
    fn from_header(cells: &[&str]) -> Option<Self> {
        let place = |name: &str| {
            cells
                .iter()
                .position(|cell| cell.eq_ignore_ascii_case(name))
        };
        let negative = place("negative");
        let (path, split, labels) = (place("path")?, place("split")?, place("labels")?);
        (cells.len() == 3 + usize::from(negative.is_some())).then_some(Self {
            path,
            split,
            labels,
            negative,
            width: cells.len(),
            doubtful: false,
        })
    }

    /// The columns of a table without header.
    fn from_width(width: usize) -> Option<Self> {
        let negative = (width == 4).then_some(3);
        (width == 3 || width == 4).then_some(Self {
            path: 0,
            split: 1,
            labels: 2,
            negative,
            width,
            doubtful: width == 4,
        })
    }
}

/// Refuses a table of which the fourth column, without a header's word for it, is empty on every line.
fn check_negatives(path: &Path, columns: Option<Columns>) -> Result<(), DatasetError> {
    match columns {
        Some(Columns { doubtful: true, .. }) => Err(DatasetError::NoNegative { path: path.into() }),
        _ => Ok(()),
    }
}

/// Reads the cells of one line; `None` for the header. The first line sets `columns`.
fn cells<'c>(
    columns: &mut Option<Columns>,
    cells: impl Iterator<Item = &'c str>,
) -> Result<Option<Row>, LineError> {
    let cells: Vec<&str> = cells.map(str::trim).collect();
    let found = cells.len();
    if columns.is_none() {
        *columns = Columns::from_header(&cells);
        if columns.is_some() {
            return Ok(None);
        }
        *columns = Columns::from_width(found);
    }
    let columns = columns.as_mut().ok_or_else(|| LineError::Columns {
        found,
        expected: "3 or 4".into(),
    })?;
    if found != columns.width {
        return Err(LineError::Columns {
            found,
            expected: columns.width.to_string(),
        });
    }
    let labels = |column: usize| split_cell(cells[column]);
    columns.doubtful &= columns
        .negative
        .is_none_or(|column| cells[column].is_empty());
    Ok(Some(Row {
        path: cells[columns.path].into(),
        split: cells[columns.split].into(),
        labels: labels(columns.labels),
        negative: columns.negative.map(labels),
    }))
}

/// The data set as it grows row by row.
struct Table<'a> {
    path: &'a Path,
    images: Arc<Path>,
    outside: bool,
    names: &'a [String],
    numbers: HashMap<&'a str, u32>,
    lines: HashMap<String, u64>,
    records: Vec<Record>,
    labels: Vec<Vec<(u32, i8)>>,
    ignored: WordCounts,
    notes: Notes,
    /// Whether rows list negatives; the first row decides.
    negatives: Option<bool>,
}

impl<'a> Table<'a> {
    fn new(options: &'a TableOptions, names: &'a [String]) -> Self {
        Self {
            path: &options.table,
            images: options.images.as_path().into(),
            outside: options.outside,
            names,
            numbers: names.iter().map(String::as_str).zip(0..).collect(),
            lines: HashMap::new(),
            records: Vec::new(),
            labels: Vec::new(),
            ignored: WordCounts::new(),
            notes: Notes::default(),
            negatives: None,
        }
    }

    fn push(&mut self, line: u64, row: Row) -> Result<(), DatasetError> {
        self.add(line, row)
            .map_err(|problem| line_error(self.path, line, problem))
    }

    fn add(&mut self, line: u64, mut row: Row) -> Result<(), LineError> {
        let split = match row.split.as_str() {
            "train" => Split::Train,
            "test" => Split::Test,
            _ => return Err(LineError::Split(row.split)),
        };
        if row.path.is_empty() {
            return Err(LineError::EmptyPath);
        }
        if !self.outside && !lines::is_inside(&row.path) {
            return Err(LineError::Outside(row.path));
        }
        if row.path.contains('\\') && !self.images.join(&row.path).exists() {
            // A table from a system that separates folders so.
            let path = row.path.replace('\\', "/");
            if self.images.join(&path).exists() {
                self.notes
                    .count("paths with \\ between folders, read as /", &row.path);
                row.path = path;
            }
        }
        if let Some(&first) = self.lines.get(&row.path) {
            return Err(LineError::DuplicatePath {
                path: row.path,
                first,
            });
        }
        if *self.negatives.get_or_insert(row.negative.is_some()) != row.negative.is_some() {
            return Err(LineError::NegativeNotEverywhere);
        }
        let mut entries = self.entries(&row.labels, 1);
        entries.extend(self.entries(row.negative.as_deref().unwrap_or_default(), -1));
        entries.sort_unstable();
        if let Some(pair) = entries
            .windows(2)
            .find(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1)
        {
            return Err(LineError::BothSigns(self.names[pair[0].0 as usize].clone()));
        }
        self.records.push(Record {
            folder: self.images.clone(),
            id: row.path.clone(),
            split,
        });
        self.labels.push(entries);
        self.lines.insert(row.path, line);
        Ok(())
    }

    /// The words that are labels, each with `value`; the others are counted as ignored.
    fn entries(&mut self, words: &[String], value: i8) -> Vec<(u32, i8)> {
        let mut entries = Vec::with_capacity(words.len());
        for word in words {
            match self.numbers.get(&*composed(word)) {
                Some(&label) => entries.push((label, value)),
                None => *self.ignored.entry(word.clone()).or_default() += 1,
            }
        }
        entries
    }

    fn finish(self) -> Result<(Vec<Record>, SparseLabels, WordCounts, Notes), DatasetError> {
        if self.records.is_empty() {
            return Err(DatasetError::EmptyTable {
                path: self.path.into(),
            });
        }
        let rest = if self.negatives == Some(true) { 0 } else { -1 };
        let labels = SparseLabels::new(self.names.len(), rest, self.labels)?;
        Ok((self.records, labels, self.ignored, self.notes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a table with the seen labels cat, dog, "ice cream" and the unseen label cow, and reads it.
    fn read_table(
        name: &str,
        content: impl AsRef<[u8]>,
    ) -> Result<(Dataset, Summary), DatasetError> {
        let dir = tempfile::tempdir().unwrap();
        let mut options = TableOptions::in_folder(dir.path());
        options.table = dir.path().join(name);
        std::fs::write(&options.table, content).unwrap();
        std::fs::write(&options.seen, "cat\ndog\nice cream\n").unwrap();
        std::fs::write(options.unseen.as_ref().unwrap(), "cow\n").unwrap();
        std::fs::write(dir.path().join("a.jpg"), "").unwrap();
        read(&options)
    }

    fn message(name: &str, content: impl AsRef<[u8]>) -> String {
        let text = read_table(name, content).unwrap_err().to_string();
        text.split_once(name)
            .map_or(text.clone(), |(_, rest)| rest.to_string())
    }

    fn dense(dataset: &Dataset) -> Vec<Vec<i8>> {
        (0..dataset.labels.rows())
            .map(|row| {
                let mut out = vec![9; dataset.labels.columns()];
                dataset.labels.dense_row(row, &mut out);
                out
            })
            .collect()
    }

    /// The same table in each format, twice in those of lines.
    const ALIKE: [(&str, &str); 5] = [
        (
            "t.tsv",
            "a.jpg\ttrain\tcat,ice cream,tree\nb.jpg\ttest\tcow,tree\nc.jpg\ttrain\t\n",
        ),
        (
            "t.TSV",
            "\u{feff}path\tsplit\tlabels\r\na.jpg\ttrain\tcat, ice cream;tree\r\n\r\nb.jpg\ttest\ttree|cow\r\nc.jpg\ttrain\t",
        ),
        (
            "t.csv",
            "a.jpg,train,\"cat,ice cream,tree\"\nb.jpg,test,cow;tree\nc.jpg,train,\n",
        ),
        (
            "t.csv",
            "\u{feff}Labels,path,split\r\ncat|ice cream|tree,\"a.jpg\",train\r\n\"tree,cow\",b.jpg,test\r\n,c.jpg,train\r\n",
        ),
        (
            "t.jsonl",
            r#"{"path":"a.jpg","split":"train","labels":["cat","ice cream","tree"]}

{"labels":["cow","cow","tree"],"path":"b.jpg","split":"test"}
{"path":"c.jpg","split":"train","labels":[]}"#,
        ),
    ];

    #[test]
    fn the_three_formats_read_alike() {
        for (name, content) in ALIKE {
            let (dataset, summary) = read_table(name, content).unwrap();
            assert_eq!((dataset.names.len(), dataset.seen), (4, 3), "{content}");
            assert_eq!(
                dense(&dataset),
                [[1, -1, 1, -1], [-1, -1, -1, 1], [-1; 4]],
                "{content}"
            );
            assert_eq!(
                (dataset.rows(Split::Train), dataset.rows(Split::Test)),
                (vec![0, 2], vec![1])
            );
            assert_eq!(dataset.records[1].id, "b.jpg");
            assert!(
                dataset.records[1].path().ends_with("b.jpg")
                    && dataset.records[1].path().is_absolute()
            );
            assert_eq!(
                (
                    summary.rows,
                    summary.seen,
                    summary.unseen,
                    summary.unlisted_is_negative
                ),
                (3, 3, 1, true)
            );
            let (train, test) = (&summary.train, &summary.test);
            assert_eq!(
                (
                    train.images,
                    train.with_seen,
                    train.with_unseen,
                    train.with_any
                ),
                (2, 1, 0, 1)
            );
            assert_eq!(
                (test.images, test.with_seen, test.with_unseen, test.with_any),
                (1, 0, 1, 1)
            );
            assert_eq!(
                (
                    train.seen_per_image,
                    train.unseen_per_image,
                    test.unseen_per_image
                ),
                (1.0, 0.0, 1.0)
            );
            assert_eq!(train.seen_without_positive, ["dog"]);
            assert_eq!(
                (
                    train.unseen_without_positive.len(),
                    test.unseen_without_positive.len()
                ),
                (1, 0)
            );
            assert_eq!((summary.ignored_words, summary.ignored_occurrences), (1, 2));
            assert_eq!(summary.most_ignored, [("tree".to_string(), 2)]);
            assert_eq!(summary.missing_examples, ["b.jpg", "c.jpg"]);
        }
    }

    #[test]
    fn negatives_make_the_rest_unknown() {
        let tables = [
            ("t.tsv", "a.jpg\ttrain\tcat\tdog,tree\nb.jpg\ttest\t\tcow\n"),
            (
                "t.csv",
                "path,split,negative,labels\na.jpg,train,dog,cat\nb.jpg,test,cow,\n",
            ),
            (
                "t.ndjson",
                r#"{"path":"a.jpg","split":"train","labels":["cat"],"negative":["dog"]}
{"path":"b.jpg","split":"test","labels":[],"negative":["cow"]}"#,
            ),
        ];
        for (name, content) in tables {
            let (dataset, summary) = read_table(name, content).unwrap();
            assert_eq!(dense(&dataset), [[1, -1, 0, 0], [0, 0, 0, -1]], "{content}");
            assert!(!summary.unlisted_is_negative);
        }
    }

    #[test]
    fn what_pandas_wrote_is_read() {
        let fixture = |name: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/published");
            std::fs::read(Path::new(folder).join(name)).unwrap()
        };
        let (dataset, summary) = read_table("t.parquet", fixture("table.parquet")).unwrap();
        assert_eq!(dense(&dataset), [[1, -1, 1, 0], [0; 4], [0, 0, 0, 1]]);
        assert_eq!(summary.most_ignored, [("tree".to_string(), 1)]);
        assert_eq!(dataset.rows(Split::Test), [1]);
        let (dataset, _) = read_table("t.parquet", fixture("cells.parquet")).unwrap();
        assert_eq!(dense(&dataset), [[1, -1, 1, -1], [-1, 1, -1, 1]]);
        assert_eq!(dataset.records[1].id, "c.jpg");
    }

    #[test]
    fn parquet_tables_that_do_not_fit() {
        let bytes = |schema: &str| {
            let schema = Arc::new(parse_message_type(schema).unwrap());
            let mut bytes = Vec::new();
            let file = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
            file.close().unwrap();
            bytes
        };
        let text = "binary path (UTF8); required binary split (UTF8)";
        let other = bytes(&format!(
            "message t {{ required {text}; required binary lables (UTF8); }}"
        ));
        assert!(message("t.parquet", other).contains("unknown column \"lables\""));
        let none = bytes(&format!(
            "message t {{ required {text}; required binary labels (UTF8); }}"
        ));
        assert!(message("t.parquet", none).contains("holds no row"));
        assert!(message("t.parquet", "path,split").contains("cannot be read as Parquet"));
    }

    #[test]
    fn errors_name_file_and_line() {
        assert!(message("t.txt", "").contains("unknown kind of table; its name must end in"));
        assert!(message("t.tsv", "").contains("holds no row"));
        assert!(message("t.csv", "path,split,labels\n").contains("holds no row"));
        assert!(
            message("t.tsv", "a.jpg\ttrain\tcat\nb.jpg\ttrain\n")
                .starts_with(", line 2: 2 columns instead of 3;")
        );
        assert!(
            message("t.tsv", "a.jpg train cat\n")
                .starts_with(", line 1: 1 columns instead of 3 or 4;")
        );
        assert!(
            message("t.csv", "\n\na.jpg,train,cat\n\r\n\nb.jpg,train,cat,dog\n")
                .starts_with(", line 6: 4 columns instead of 3;")
        );
        assert!(
            message("t.csv", "a.jpg,train,\"cat,dog\"\nb.jpg,val,cat\n")
                .starts_with(", line 2: unknown split \"val\"; it must be `train` or `test`")
        );
        // A quote that swallows the rows behind it, to the end of the file or to another quote.
        for (open, line) in [
            ("a.jpg,train,\"cat\nb.jpg,test,cow\nc.jpg,test,\n", 1),
            ("a.jpg,train,cat\nb.jpg,train,\"cat", 2),
            ("a.jpg,train,\"cat\nb.jpg,test,cow\nc.jpg,test,dog\"\n", 1),
            ("a.jpg,train,\"cat\rb.jpg,test,cow\"\n", 1),
        ] {
            let said = message("t.csv", open);
            assert!(
                said.starts_with(&format!(", line {line}: a quoted cell")),
                "{said}"
            );
        }
        assert!(message("t.tsv", "a.jpg\tTrain\tcat\n").contains("unknown split \"Train\""));
        assert!(
            message("t.tsv", "a.jpg\ttrain\tcat\n\na.jpg\ttest\t\n")
                .contains(", line 3: \"a.jpg\" stands on line 1 already")
        );
        assert!(
            message("t.tsv", "\ttrain\tcat\n").contains(", line 1: the path of the image is empty")
        );
        assert!(
            message("t.tsv", "a\ttrain\tcat\tdog,cat\n").contains(", line 1: `cat` is both among")
        );
        assert!(
            message("t.tsv", b"a\ttrain\tcat\nb\ttrain\t\xff\n").contains(", line 2: not UTF-8")
        );
        assert!(message("t.csv", b"a,train,cat\nb,train,\xff\n").contains(", line 2: not UTF-8"));
        assert!(
            message(
                "t.jsonl",
                "{\"path\":\"a\",\"split\":\"train\",\"labels\":[]}\n[1"
            )
            .starts_with(", line 2: ")
        );
        assert!(
            message(
                "t.jsonl",
                "{\"path\":\"a\",\"split\":\"train\",\"label\":[]}"
            )
            .contains("unknown field `label`")
        );
        assert!(
            message("t.jsonl", "{\"path\":\"a\",\"split\":\"train\"}")
                .contains("missing field `labels`")
        );
        let mixed = r#"{"path":"a","split":"train","labels":[]}
{"path":"b","split":"train","labels":[],"negative":[]}"#;
        assert!(message("t.jsonl", mixed).starts_with(", line 2: some lines have `negative`"));
    }

    #[test]
    fn a_label_no_cell_can_hold_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = TableOptions::in_folder(dir.path());
        std::fs::write(&options.seen, "rock, paper\n").unwrap();
        std::fs::write(options.unseen.as_ref().unwrap(), "cow\n").unwrap();
        std::fs::write(&options.table, "a\ttrain\tcow\n").unwrap();
        assert!(matches!(
            read(&options).unwrap_err(),
            DatasetError::NameHoldsSeparator { .. }
        ));
        options.table = dir.path().join("t.jsonl");
        std::fs::write(
            &options.table,
            r#"{"path":"a","split":"train","labels":["rock, paper"]}"#,
        )
        .unwrap();
        assert_eq!(read(&options).unwrap().0.labels.get(0, 0), 1);
    }

    #[test]
    fn bad_lists_and_missing_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let options = TableOptions::in_folder(dir.path());
        assert!(
            read(&options)
                .unwrap_err()
                .to_string()
                .contains("seen.txt: cannot be read")
        );
        std::fs::write(&options.seen, "cat\ncow\n").unwrap();
        std::fs::write(options.unseen.as_ref().unwrap(), "cow\n").unwrap();
        assert!(
            read(&options)
                .unwrap_err()
                .to_string()
                .contains("`cow` stands in both lists")
        );
        std::fs::write(options.unseen.as_ref().unwrap(), "# none\n").unwrap();
        assert!(
            read(&options)
                .unwrap_err()
                .to_string()
                .contains("unseen.txt: holds no label name")
        );
        std::fs::write(options.unseen.as_ref().unwrap(), "dog\n").unwrap();
        assert!(
            read(&options)
                .unwrap_err()
                .to_string()
                .contains("labels.tsv: cannot be read")
        );
    }

    #[test]
    fn the_summary_reads_well() {
        let (_, summary) =
            read_table("t.tsv", "a.jpg\ttrain\tcat,tree\nb.jpg\ttest\tcow,dog\n").unwrap();
        let expected = "\
rows read    2
labels       3 seen, 1 unseen; a label that is not listed is negative
                                              train      test
             images                               1         1
             with a seen label                    1         1
             with an unseen label                 0         1
             with any label                       1         1
             seen labels without image            2         2
             unseen labels without image          1         0
             seen labels per image             1.00      1.00
               of those with one               1.00      1.00
             unseen labels per image           0.00      1.00
               of those with one               0.00      1.00
             no train image has the seen labels: dog, ice cream
             no test image has the seen labels: cat, ice cream
ignored      1 words in neither list, 1 times; most often: tree 1
missing      1 images
             b.jpg";
        assert_eq!(summary.to_string(), expected);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(
            (&json["missing_images"], &json["missing_examples"][0]),
            (&1.into(), &"b.jpg".into())
        );
    }

    #[test]
    fn corel5k_is_counted() {
        let folder = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/data/corel5k"
        ));
        if !folder.exists() {
            println!("skipped: ../shared/data is missing");
            return;
        }
        let (dataset, summary) = read(&TableOptions::in_folder(folder)).unwrap();
        assert_eq!(
            (dataset.seen, dataset.names.len(), summary.rows),
            (194, 242, 4999)
        );
        assert_eq!((summary.train.images, summary.test.images), (4500, 499));
        assert_eq!(summary.ignored_words, 374 - 242);
        assert_eq!(summary.missing_images, 0);
        assert_eq!(summary.train.seen_without_positive, [""; 0]);
        let sky = dataset.names.iter().position(|name| name == "sky").unwrap();
        assert_eq!(dataset.labels.get(0, sky), 1); // train/1000.jpeg: city, mountain, sky, sun
        assert_eq!(dataset.labels.positives(0).count(), 4);
    }

    /// A page of one row that says how many values it has, all of them the same entry of its dictionary.
    #[test]
    fn a_parquet_row_has_no_values_without_end() {
        let said = message(
            "t.parquet",
            include_bytes!("../../../../fuzz/finds/table-parquet/repeated"),
        );
        assert!(said.contains("the lists of 1024 rows are longer"), "{said}");
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, false).unwrap();
        let names = vec!["x".repeat(1 << 20); 17];
        writer
            .push("a.jpg", Split::Train, names, Vec::new())
            .unwrap();
        writer.finish().unwrap();
        let said = message("t.parquet", bytes);
        assert!(
            said.starts_with(", line 1: longer than 16777216 bytes"),
            "{said}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            name in prop_oneof![Just("t.tsv"), Just("t.csv"), Just("t.jsonl"), Just("t.parquet")],
        ) {
            let _ = read_table(name, bytes);
        }

        #[test]
        fn near_tables_never_panic(
            text in "([ab]{0,2}[,\t](train|test|val|)[,\t]\"?(cat|cow|x|[,;|]){0,4}\"?([,\t]dog)?\r?\n){0,6}",
            name in prop_oneof![Just("t.tsv"), Just("t.csv")],
        ) {
            if let Ok((dataset, summary)) = read_table(name, text) {
                prop_assert_eq!(dataset.records.len(), dataset.labels.rows());
                prop_assert_eq!(summary.train.images + summary.test.images, summary.rows);
            }
        }

        #[test]
        fn parquet_tables_round_trip(
            rows in proptest::collection::vec(proptest::collection::vec(-1i8..=1, 4), 1..10),
            negative: bool,
        ) {
            let names = ["cat", "dog", "ice cream", "cow"];
            let words = |row: &[i8], sign: i8| -> Vec<String> {
                names.iter().zip(row).filter(|(_, value)| **value == sign).map(|(name, _)| name.to_string()).collect()
            };
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes, negative).unwrap();
            for (i, row) in rows.iter().enumerate() {
                let split = if i % 2 == 0 { Split::Train } else { Split::Test };
                writer.push(&format!("{i}.jpg"), split, words(row, 1), words(row, -1)).unwrap();
            }
            writer.finish().unwrap();
            let (dataset, summary) = read_table("t.parquet", &bytes).unwrap();
            prop_assert_eq!(summary.train.images, rows.len().div_ceil(2));
            for (row, values) in rows.iter().enumerate() {
                for (label, &value) in values.iter().enumerate() {
                    let expected = if negative || value == 1 { value } else { -1 };
                    prop_assert_eq!(dataset.labels.get(row, label), expected);
                }
            }
            let cut = read_table("t.parquet", &bytes[..bytes.len() / 2]).unwrap_err();
            prop_assert!(cut.to_string().contains("t.parquet: cannot be read as Parquet"));
        }

        #[test]
        fn tables_round_trip(rows in proptest::collection::vec(proptest::collection::btree_set(0_u32..4, 0..4), 1..10)) {
            let names = ["cat", "dog", "ice cream", "cow"];
            let words = |row: &std::collections::BTreeSet<u32>| -> Vec<&str> { row.iter().map(|&i| names[i as usize]).collect() };
            let mut tsv = String::new();
            let mut jsonl = String::new();
            for (i, row) in rows.iter().enumerate() {
                tsv += &format!("{i}.jpg\ttrain\t{}\n", words(row).join(","));
                jsonl += &format!("{}\n", serde_json::json!({"path": format!("{i}.jpg"), "split": "train", "labels": words(row)}));
            }
            let (one, two) = (read_table("t.tsv", tsv).unwrap().0, read_table("t.jsonl", jsonl).unwrap().0);
            prop_assert_eq!(&one.labels, &two.labels);
            for (i, row) in rows.iter().enumerate() {
                prop_assert_eq!(one.labels.positives(i).map(|label| label as u32).collect::<std::collections::BTreeSet<_>>(), row.clone());
            }
        }
    }
}
