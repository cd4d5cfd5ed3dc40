//! Open Images V4 (Kuznetsova et al., IJCV 2020) from its CSV files of image-level labels that people verified.
//!
//! A line `ImageID,Source,LabelName,Confidence` gives the label 2 x Confidence - 1: +1 or -1; what people left open
//! (a confidence between 0 and 1) and what no line says is unknown. As LESA and all after it split it, the trainable
//! classes are seen (7,186), and 400 of the others unseen.

use super::lines::{self, csv_cells, line_error};
use super::summary::{Notes, WordCounts};
use super::{Dataset, DatasetError, LineError, Record, SparseLabels, Split, Summary};
use crate::formats::pickle;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do with a line of a class that has no description.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownIds {
    /// Leave the line out and count it.
    #[default]
    Skip,
    /// An error with file and line.
    Refuse,
}

/// Where Open Images lies and how it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OpenImagesOptions {
    /// `train-annotations-human-imagelabels.csv`; several files are read as one.
    pub train: Vec<PathBuf>,
    /// `test-annotations-human-imagelabels.csv`; several files are read as one.
    pub test: Vec<PathBuf>,
    /// The folder of the images: `train/<ImageID>.jpg` and `test/<ImageID>.jpg`.
    pub images: PathBuf,
    /// `class-descriptions.csv`: machine id and name.
    pub descriptions: PathBuf,
    /// The machine ids of the seen classes, one a line (`classes-trainable.txt`).
    pub seen: PathBuf,
    /// The machine ids of the unseen classes, one a line; or their positions in `unseen-classes`, counted from 0
    /// (`top_400_unseen.csv`).
    pub unseen: PathBuf,
    /// The machine ids that positions in `unseen` count: a text file of one a line, or the published pickle
    /// (`unseen_labels.pkl`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen_classes: Option<PathBuf>,
    /// Training images with more positive seen labels are dropped.
    #[serde(default = "forty")]
    pub max_positives: usize,
    /// What to do with a line of a class that has no description.
    #[serde(default)]
    pub unknown_ids: UnknownIds,
    /// Whether images may lie outside their folder, where a path with `..` or from the root leads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
}

fn forty() -> usize {
    40
}

impl OpenImagesOptions {
    /// Every file that [`read`] reads.
    pub fn sources(&self) -> Vec<PathBuf> {
        let lists = [&self.descriptions, &self.seen, &self.unseen];
        let files = lists.into_iter().chain(&self.unseen_classes);
        files
            .chain(&self.train)
            .chain(&self.test)
            .cloned()
            .collect()
    }
}

/// Reads the data set and counts it. Classes that have a description but are neither seen nor unseen are ignored and
/// counted by name. Two lines that contradict each other about a label leave it unknown.
///
/// Of an image only its id and its labels are held: 8 bytes a label.
///
/// # Errors
/// Unreadable files, and with file and line: quotes that do not close, a wrong header, another number of cells, a
/// confidence outside [0, 1], a list that names a class without description, and where the options say so a line of one.
pub fn read(options: &OpenImagesOptions) -> Result<(Dataset, Summary), DatasetError> {
    let described = read_descriptions(&options.descriptions)?;
    let seen = read_ids(&options.seen, &options.descriptions, &described)?;
    let unseen = read_unseen(options, &described)?;
    let ids: Vec<&String> = seen.iter().chain(&unseen).collect();
    let words: Vec<String> = ids.iter().map(|id| described[*id].clone()).collect();
    let names = distinct(&words, &ids);
    let mut numbers: Classes = described
        .iter()
        .map(|(id, name)| (id.as_bytes(), Class::Other { name, lines: 0 }))
        .collect();
    for (number, id) in (0..).zip(&ids) {
        if let Some(Class::Label(_)) = numbers.insert(id.as_bytes(), Class::Label(number)) {
            return Err(DatasetError::Form {
                path: options.unseen.clone(),
                reason: format!("the class {id} is also seen; remove it from one list"),
            });
        }
    }
    let mut rows = Rows {
        options,
        classes: numbers,
        images: options.images.as_path().into(),
        records: Vec::new(),
        entries: Vec::new(),
        notes: Notes::default(),
        unknown: HashMap::new(),
    };
    let parts = [
        (Split::Train, "train", &options.train),
        (Split::Test, "test", &options.test),
    ];
    for (split, folder, files) in parts {
        for path in files {
            rows.read(path, split, folder)?;
        }
    }
    let (records, labels, ignored, notes) = rows.finish(names.len(), seen.len())?;
    let dataset = Dataset {
        records,
        labels,
        names,
        seen: seen.len(),
        words,
    };
    let summary = Summary::new(&dataset, ignored, notes);
    Ok((dataset, summary))
}

/// Machine ids and their names.
type Descriptions = HashMap<String, String>;

fn read_descriptions(path: &Path) -> Result<Descriptions, DatasetError> {
    let mut described = Descriptions::new();
    lines::for_each(path, lines::open(path)?, |line, text| {
        let cells = csv_cells(text).map_err(|problem| line_error(path, line, problem))?;
        let [id, name] = cells.as_slice() else {
            let (found, expected) = (cells.len(), "2 (machine id, name)".to_string());
            return Err(line_error(path, line, LineError::Cells { found, expected }));
        };
        described.insert(id.trim().into(), name.trim().into());
        Ok(())
    })?;
    match described.is_empty() {
        true => Err(DatasetError::Empty { path: path.into() }),
        false => Ok(described),
    }
}

/// A list of machine ids, each of which has a description.
fn read_ids(
    path: &Path,
    descriptions: &Path,
    described: &Descriptions,
) -> Result<Vec<String>, DatasetError> {
    let ids = lines::names(path)?;
    for (line, id) in lines::list(path)? {
        if !described.contains_key(&id) {
            return Err(line_error(path, line, unknown(&id, descriptions)));
        }
    }
    Ok(ids)
}

fn unknown(id: &str, descriptions: &Path) -> LineError {
    LineError::UnknownId {
        id: id.into(),
        descriptions: descriptions.into(),
    }
}

/// The unseen classes: a list of machine ids, or of positions in another one.
fn read_unseen(
    options: &OpenImagesOptions,
    described: &Descriptions,
) -> Result<Vec<String>, DatasetError> {
    let Some(list) = &options.unseen_classes else {
        return read_ids(&options.unseen, &options.descriptions, described);
    };
    let classes = match pickle::is_pickle(list).map_err(|e| lines::read_error(list, e))? {
        true => pickle::read_strings(list).map_err(crate::labels::LabelError::from)?,
        false => lines::names(list)?,
    };
    lines::names(&options.unseen)?;
    let mut ids = Vec::new();
    for (line, position) in lines::list(&options.unseen)? {
        let error = |problem| line_error(&options.unseen, line, problem);
        let id = position.parse().ok().and_then(|i: usize| classes.get(i));
        let id = id.ok_or_else(|| {
            error(LineError::Position {
                position: position.clone(),
                count: classes.len(),
                list: list.clone(),
            })
        })?;
        if !described.contains_key(id) {
            return Err(error(unknown(id, &options.descriptions)));
        }
        ids.push(id.clone());
    }
    Ok(ids)
}

/// Names by which labels can be told apart: the machine id stands behind those that several classes share.
fn distinct(words: &[String], ids: &[&String]) -> Vec<String> {
    let mut counts: HashMap<&String, usize> = HashMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let name = |(word, id): (&String, &&String)| match counts[word] {
        1 => word.clone(),
        _ => format!("{word} ({id})"),
    };
    words.iter().zip(ids).map(name).collect()
}

/// What each machine id stands for.
type Classes<'a> = HashMap<&'a [u8], Class<'a>, Keyed>;

/// The hash FNV-1a from a beginning that nobody knows: for machine ids of some ten bytes, one a line, several times as fast as the
/// standard one, and nobody can make ids that collide.
struct Keyed(u64);

impl Default for Keyed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Keyed {
    type Hasher = Fnv;

    fn build_hasher(&self) -> Fnv {
        Fnv(self.0)
    }
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// The low bits of the state, which tell the places in a map, depend on the low bits of the bytes alone: they get the high ones.
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    }
}

/// What a machine id stands for.
enum Class<'a> {
    /// A label of the data set.
    Label(u32),
    /// A class that is neither seen nor unseen, and how many lines name it.
    Other { name: &'a str, lines: usize },
}

/// A label that some line gives an image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    row: u32,
    label: u32,
    value: i8,
}

/// The data set as it grows line by line.
struct Rows<'a> {
    options: &'a OpenImagesOptions,
    classes: Classes<'a>,
    images: Arc<Path>,
    records: Vec<Record>,
    entries: Vec<Entry>,
    notes: Notes,
    /// Lines of each class without description.
    unknown: HashMap<String, usize>,
}

/// Bytes of a line of the published files, at the least: 16 digits, `verification`, a machine id, a confidence.
const SHORTEST_LINE: u64 = 36;

/// The columns that are needed, in any order among others.
const COLUMNS: [&str; 3] = ["ImageID", "LabelName", "Confidence"];

impl Rows<'_> {
    fn read(&mut self, path: &Path, split: Split, folder: &str) -> Result<(), DatasetError> {
        let mut columns = None;
        let mut last = Vec::new();
        // Room for as many images as there may be lines: what is not used is never touched, and to grow would need twice
        // the memory for a moment.
        let size = std::fs::metadata(path)
            .map_err(|e| lines::read_error(path, e))?
            .len();
        // Where there is no such room the list grows as it must.
        let _ = self.records.try_reserve((size / SHORTEST_LINE) as usize);
        lines::for_each_raw(path, lines::open(path)?, |line, text| {
            let error = |problem| line_error(path, line, problem);
            if text.trim_ascii().is_empty() {
                return Ok(());
            }
            let Some((places, width)) = columns else {
                columns = Some(header(text).map_err(error)?);
                return Ok(());
            };
            let quoted;
            let mut cells = [&b""[..]; 3];
            let found = if text.contains(&b'"') {
                quoted = std::str::from_utf8(text)
                    .map_err(|_| LineError::NotUtf8)
                    .and_then(csv_cells)
                    .map_err(error)?;
                pick(quoted.iter().map(String::as_bytes), places, &mut cells)
            } else {
                pick(text.split(|&byte| byte == b','), places, &mut cells)
            };
            if found != width {
                let expected = width.to_string();
                return Err(error(LineError::Cells { found, expected }));
            }
            let [image, class, confidence] = cells.map(<[u8]>::trim_ascii);
            let Some(value) = label(confidence).map_err(error)? else {
                self.notes.count(
                    "labels left open (confidence between 0 and 1)",
                    &text_of(text),
                );
                return Ok(());
            };
            if last != image || last.is_empty() {
                last.clear();
                last.extend_from_slice(image);
                self.records
                    .push(self.record(image, split, folder).map_err(error)?);
            }
            let row = self.records.len() as u32 - 1;
            match self.classes.get_mut(class) {
                Some(Class::Label(label)) => self.entries.push(Entry {
                    row,
                    label: *label,
                    value,
                }),
                Some(Class::Other { lines, .. }) => *lines += 1,
                None if self.options.unknown_ids == UnknownIds::Refuse => {
                    return Err(error(unknown(&text_of(class), &self.options.descriptions)));
                }
                None => *self.unknown.entry(text_of(class)).or_default() += 1,
            }
            Ok(())
        })?;
        match columns {
            Some(_) => Ok(()),
            None => Err(DatasetError::Empty { path: path.into() }),
        }
    }

    fn record(&self, image: &[u8], split: Split, folder: &str) -> Result<Record, LineError> {
        if image.is_empty() {
            return Err(LineError::EmptyPath);
        }
        let name = std::str::from_utf8(image).map_err(|_| LineError::NotUtf8)?;
        if !self.options.outside && !lines::is_inside(name) {
            return Err(LineError::Outside(name.into()));
        }
        // Made in one piece: there are millions of them.
        let mut id = String::with_capacity(folder.len() + name.len() + 5);
        for part in [folder, "/", name, ".jpg"] {
            id.push_str(part);
        }
        Ok(Record {
            id,
            folder: self.images.clone(),
            split,
        })
    }

    /// Joins the rows of images whose lines do not stand together; gives whether a row has lost its entries so. In the
    /// published files, which are sorted by image, there are none.
    fn join_rows(&mut self) -> Vec<bool> {
        let mut is_joined = vec![false; self.records.len()];
        let id = |row: &u32| &self.records[*row as usize].id;
        let mut order: Vec<u32> = (0..self.records.len() as u32).collect();
        let in_order = |pair: &[u32]| {
            let [a, b] = [pair[0], pair[1]].map(|row| self.records[row as usize].split);
            a != b || id(&pair[0]) < id(&pair[1])
        };
        if order.windows(2).all(in_order) {
            return is_joined;
        }
        order.par_sort_by(|a, b| id(a).cmp(id(b)));
        let mut first: Vec<u32> = (0..self.records.len() as u32).collect();
        for pair in order.windows(2) {
            if id(&pair[0]) == id(&pair[1]) {
                first[pair[1] as usize] = first[pair[0] as usize];
                is_joined[pair[1] as usize] = true;
            }
        }
        for entry in &mut self.entries {
            entry.row = first[entry.row as usize];
        }
        is_joined
    }

    /// Sorts the entries into rows and drops training images with too many positives.
    #[allow(
        clippy::type_complexity,
        reason = "taken apart at once by its one caller"
    )]
    fn finish(
        mut self,
        labels: usize,
        seen: usize,
    ) -> Result<(Vec<Record>, SparseLabels, WordCounts, Notes), DatasetError> {
        let is_joined = self.join_rows();
        self.entries.par_sort_unstable();
        self.entries.dedup();
        let mut starts = Vec::with_capacity(self.records.len() + 1);
        starts.push(0);
        let mut kept: Vec<(u32, i8)> = Vec::with_capacity(self.entries.len());
        let mut contradicting = 0;
        let mut place = 0;
        let mut row = 0;
        let crowded = format!(
            "training images with more than {} positive seen labels, dropped",
            self.options.max_positives
        );
        self.records.retain(|record| {
            let start = kept.len();
            while let Some(entry) = self.entries.get(place).filter(|entry| entry.row == row) {
                let next = self.entries.get(place + 1);
                if next.is_some_and(|next| (next.row, next.label) == (row, entry.label)) {
                    contradicting += 1;
                    place += 2;
                } else {
                    kept.push((entry.label, entry.value));
                    place += 1;
                }
            }
            row += 1;
            let is_positive = |&&(label, value): &&(u32, i8)| value > 0 && (label as usize) < seen;
            let positives = kept[start..].iter().filter(is_positive).count();
            if record.split == Split::Train && positives > self.options.max_positives {
                self.notes.count(&crowded, &record.id);
                kept.truncate(start);
                return false;
            }
            if is_joined[row as usize - 1] {
                return false;
            }
            starts.push(kept.len());
            true
        });
        self.entries = Vec::new();
        if contradicting > 0 {
            let what = "labels that two lines contradict, left unknown";
            self.notes.add(what, contradicting, Vec::new());
        }
        if !self.unknown.is_empty() {
            let mut unknown: Vec<(String, usize)> = self.unknown.into_iter().collect();
            unknown.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            let lines = unknown.iter().map(|(_, count)| count).sum();
            let shown = unknown.into_iter().take(3).map(|(id, _)| id).collect();
            self.notes.add(
                "lines of a class without description, left out",
                lines,
                shown,
            );
        }
        let mut ignored = WordCounts::new();
        for class in self.classes.into_values() {
            if let Class::Other { name, lines } = class
                && lines > 0
            {
                *ignored.entry(name.into()).or_default() += lines;
            }
        }
        let labels = SparseLabels::from_parts(labels, 0, starts, kept)?;
        Ok((self.records, labels, ignored, self.notes))
    }
}

/// Places of [`COLUMNS`] in the header, and its width.
fn header(text: &[u8]) -> Result<([usize; 3], usize), LineError> {
    let wanted = "ImageID, LabelName, Confidence";
    let text = std::str::from_utf8(text).map_err(|_| LineError::NotUtf8)?;
    let cells = csv_cells(text)?;
    let place = |name: &str| cells.iter().position(|cell| cell.trim() == name);
    match COLUMNS.map(place) {
        [Some(image), Some(class), Some(confidence)] => {
            Ok(([image, class, confidence], cells.len()))
        }
        _ => Err(LineError::Header(wanted)),
    }
}

/// Picks the cells at `places`; gives the number of all cells.
fn pick<'t>(
    cells: impl Iterator<Item = &'t [u8]>,
    places: [usize; 3],
    out: &mut [&'t [u8]; 3],
) -> usize {
    let mut count = 0;
    for cell in cells {
        for (place, out) in places.iter().zip(out.iter_mut()) {
            if *place == count {
                *out = cell;
            }
        }
        count += 1;
    }
    count
}

/// 2 x confidence - 1 where that is +1 or -1; `None` between.
fn label(confidence: &[u8]) -> Result<Option<i8>, LineError> {
    match confidence {
        b"1" => return Ok(Some(1)),
        b"0" => return Ok(Some(-1)),
        _ => {}
    }
    let text = text_of(confidence);
    match text.parse::<f64>() {
        Ok(1.0) => Ok(Some(1)),
        Ok(0.0) => Ok(Some(-1)),
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(None),
        _ => Err(LineError::Confidence(text)),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dataset::trees;
    use proptest::prelude::*;
    use std::collections::HashSet;

    pub(in crate::dataset) fn options(folder: &Path) -> OpenImagesOptions {
        let file = |name: &str| folder.join(name);
        OpenImagesOptions {
            outside: false,
            train: vec![file("train-annotations-human-imagelabels.csv")],
            test: vec![file("test-annotations-human-imagelabels.csv")],
            images: file("images"),
            descriptions: file("class-descriptions.csv"),
            seen: file("classes-trainable.txt"),
            unseen: file("top_unseen.csv"),
            unseen_classes: Some(file("unseen_labels.txt")),
            max_positives: 40,
            unknown_ids: UnknownIds::Skip,
        }
    }

    /// Two seen classes that share a name, one unseen, one other; the training file as given.
    fn read_train(
        csv: &[u8],
        change: impl Fn(&mut OpenImagesOptions),
    ) -> Result<(Dataset, Summary), DatasetError> {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path());
        let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
        write(&options.seen, b"/m/1\n/m/2\n");
        write(&options.unseen, b"\xef\xbb\xbf/m/3\r\n");
        options.unseen_classes = None;
        write(&options.descriptions, b"\xef\xbb\xbf/m/1,Kite\r\n/m/2,\"Kite\"\r\n/m/3,\"Pigs, in \"\"blankets\"\"\"\r\n/m/4,Bun\r\n");
        write(&options.train[0], csv);
        write(
            &options.test[0],
            b"ImageID,Source,LabelName,Confidence\nffff,verification,/m/3,1\n",
        );
        change(&mut options);
        read(&options)
    }

    fn message(line: &str) -> String {
        let csv = format!("ImageID,Source,LabelName,Confidence\n{line}\n");
        read_train(csv.as_bytes(), |_| {}).unwrap_err().to_string()
    }

    /// Ids of which the plain hash leaves the low bits as they were, which would stand in the same place of a map.
    #[test]
    fn ids_cannot_be_made_to_collide() {
        let hash = |start, bytes: &[u8]| {
            let mut hasher = Fnv(start);
            hasher.write(bytes);
            (hasher.0 & 0xffff, hasher.finish() & 0xffff)
        };
        let plain = 0xcbf2_9ce4_8422_2325;
        let ids = (0..1_u32 << 22).map(u32::to_le_bytes);
        let same: Vec<[u8; 4]> = ids.filter(|id| hash(plain, id).0 == 0).take(50).collect();
        assert_eq!(same.len(), 50);
        let start = Keyed::default().build_hasher().0;
        assert_ne!(start, Keyed::default().build_hasher().0);
        let places: HashSet<u64> = same.iter().map(|id| hash(start, id).1).collect();
        assert!(places.len() > 40, "{} of 50 places", places.len());
    }

    #[test]
    fn quotes_marks_and_windows_line_ends() {
        let csv = b"\xef\xbb\xbfImageID,Source,LabelName,Confidence\r\n\
            aa,verification,/m/1,1\r\n\r\n\"aa\",\"crowd, source\",\"/m/3\",\"0\"\r\n\
            bb,verification,/m/2,1.0\r\naa,verification,/m/4,1\r\naa,verification,/m/4,1\r\n\
            bb,verification,/m/9,1\r\nbb,verification,/m/1,0.7\r\n\
            cc,verification,/m/1,1\r\ncc,crowd,/m/1,0\r\ncc,crowd,/m/2,0\r\ncc,crowd,/m/2,0.0";
        let (dataset, summary) = read_train(csv, |_| {}).unwrap();
        assert_eq!(
            dataset.names,
            ["Kite (/m/1)", "Kite (/m/2)", "Pigs, in \"blankets\""]
        );
        assert_eq!(dataset.words[..2], ["Kite", "Kite"]);
        assert_eq!(dataset.seen, 2);
        let ids: Vec<&str> = dataset.records.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "train/aa.jpg",
                "train/bb.jpg",
                "train/cc.jpg",
                "test/ffff.jpg"
            ]
        );
        assert!(dataset.records[3].path().ends_with("images/test/ffff.jpg"));
        let entries: Vec<&[(u32, i8)]> = (0..4).map(|row| dataset.labels.entries(row)).collect();
        assert_eq!(
            entries,
            [&[(0, 1), (2, -1)][..], &[(1, 1)], &[(1, -1)], &[(2, 1)]]
        );
        assert_eq!(dataset.labels.rest(), 0);
        assert_eq!(summary.most_ignored, [("Bun".to_string(), 2)]);
        let counted: Vec<(&str, usize)> = summary
            .notes
            .iter()
            .map(|n| (n.what.as_str(), n.count))
            .collect();
        assert_eq!(
            counted,
            [
                ("labels left open (confidence between 0 and 1)", 1),
                ("labels that two lines contradict, left unknown", 1),
                ("lines of a class without description, left out", 1),
                (
                    "labels that are negative for no test image, so that any ranking of them is perfect",
                    1
                ),
            ]
        );
        assert_eq!(summary.notes[2].examples, ["/m/9"]);
    }

    #[test]
    fn damage_is_named_with_file_and_line() {
        let name = "train-annotations-human-imagelabels.csv, line 2: ";
        for (line, problem) in [
            (
                "aa,verification,/m/1,1.5",
                "confidence \"1.5\" is no number from 0 to 1",
            ),
            ("aa,verification,/m/1,-0.1", "confidence \"-0.1\""),
            ("aa,verification,/m/1,NaN", "confidence \"NaN\""),
            ("aa,verification,/m/1,", "confidence \"\""),
            ("aa,verification,/m/1", "3 cells instead of 4"),
            ("aa,verification,/m/1,1,1", "5 cells instead of 4"),
            (
                "aa,\"verification,/m/1,1",
                "a quoted cell that does not end on this line",
            ),
            (",verification,/m/1,1", "the path of the image is empty"),
        ] {
            let message = message(line);
            assert!(message.contains(&format!("{name}{problem}")), "{message}");
        }
        let error = read_train(b"aa,verification,/m/1,1\n", |_| {})
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 1: a header with the columns ImageID, LabelName, Confidence"),
            "{error}"
        );
        assert!(
            read_train(b"", |_| {})
                .unwrap_err()
                .to_string()
                .contains("holds no line")
        );
        let csv = b"ImageID,Source,LabelName,Confidence\naa,x,/m/1,1\naa,x,/m/9,1\n";
        let refuse = |options: &mut OpenImagesOptions| options.unknown_ids = UnknownIds::Refuse;
        let error = read_train(csv, refuse).unwrap_err().to_string();
        assert!(
            error.contains("line 3: the class `/m/9` is not in ")
                && error.contains("class-descriptions.csv"),
            "{error}"
        );
    }

    #[test]
    fn lists_that_do_not_fit() {
        let csv = b"ImageID,Source,LabelName,Confidence\n";
        let with = |name: &'static str, text: &'static str| {
            let change = move |options: &mut OpenImagesOptions| {
                let path = match name {
                    "seen" => &options.seen,
                    "descriptions" => &options.descriptions,
                    _ => &options.unseen,
                };
                std::fs::write(path, text).unwrap();
            };
            read_train(csv, change).unwrap_err().to_string()
        };
        assert!(
            with("seen", "/m/1\n/m/7\n")
                .contains("classes-trainable.txt, line 2: the class `/m/7`")
        );
        assert!(with("unseen", "/m/1\n").contains("the class /m/1 is also seen"));
        assert!(with("unseen", "17\n").contains("top_unseen.csv, line 1: the class `17`"));
        assert!(with("unseen", "").contains("top_unseen.csv: holds no line"));
        assert!(with("descriptions", "/m/1\n").contains("line 1: 1 cells instead of 2"));
        let positions = |options: &mut OpenImagesOptions| {
            let list = options.seen.with_file_name("classes.txt");
            std::fs::write(&list, "/m/3\n/m/4\n").unwrap();
            std::fs::write(&options.unseen, "1\n2\n").unwrap();
            options.unseen_classes = Some(list);
        };
        let error = read_train(csv, positions).unwrap_err().to_string();
        assert!(
            error.contains("top_unseen.csv, line 2: position 2 lies outside the 2 classes"),
            "{error}"
        );
    }

    #[test]
    fn crowded_training_images_are_dropped_and_counted() {
        let csv = b"ImageID,Source,LabelName,Confidence\naa,x,/m/1,1\naa,x,/m/2,1\nbb,x,/m/1,1\nbb,x,/m/2,0\n";
        let (dataset, summary) = read_train(csv, |options| options.max_positives = 1).unwrap();
        let ids: Vec<&str> = dataset.records.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["train/bb.jpg", "test/ffff.jpg"]);
        assert_eq!(dataset.labels.entries(0), [(0, 1), (1, -1)]);
        assert_eq!(
            (
                summary.notes[0].count,
                summary.notes[0].examples[0].as_str()
            ),
            (1, "train/aa.jpg")
        );
        assert!(summary.notes[0].what.contains("more than 1 positive"));
        assert_eq!(read_train(csv, |_| {}).unwrap().0.records.len(), 3);
    }

    #[test]
    fn the_real_lists_give_the_published_counts() {
        let real = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/data/open-images"
        ));
        if !real.exists() {
            println!("skipped: ../shared/data is missing");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        trees::open_images(dir.path(), [1, 1, 1], [3, 2], 2, 1);
        let mut options = options(dir.path());
        options.descriptions = real.join("class-descriptions.csv");
        options.seen = real.join("classes-trainable.txt");
        options.unseen = real.join("top_400_unseen.csv");
        // The published list of all classes that are not trainable is not among the files: another order of the same
        // kind serves to count.
        let described = read_descriptions(&options.descriptions).unwrap();
        let seen = lines::names(&options.seen).unwrap();
        let mut others: Vec<&String> = described.keys().filter(|id| !seen.contains(id)).collect();
        others.sort();
        let list: String = others.iter().map(|id| format!("{id}\n")).collect();
        std::fs::write(options.unseen_classes.as_ref().unwrap(), list).unwrap();
        let (dataset, _) = read(&options).unwrap();
        assert_eq!((described.len(), dataset.seen), (19_995, 7_186));
        assert_eq!(dataset.names.len() - dataset.seen, 400);
        let unique: std::collections::HashSet<&String> = dataset.names.iter().collect();
        assert_eq!(unique.len(), 7_586);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_tree_reads_back(train in 1usize..9, test in 1usize..9, rows in 1usize..6, seed in 0u64..1000) {
            let dir = tempfile::tempdir().unwrap();
            let tree = trees::open_images(dir.path(), [12, 4, 3], [train, test], rows, seed);
            let (dataset, summary) = read(&options(dir.path())).unwrap();
            prop_assert_eq!((summary.train.images, summary.test.images), (train, test));
            for (row, (id, labels)) in tree.iter().enumerate() {
                prop_assert_eq!(&dataset.records[row].id, id);
                let found: Vec<(usize, i8)> = dataset.labels.entries(row).iter().map(|&(c, v)| (c as usize, v)).collect();
                prop_assert_eq!(&found, labels);
            }
        }

        #[test]
        fn near_csv_never_panics(text in "(ImageID,Source,LabelName,Confidence\r?\n)?((a|b|\"a\"|\")?,x,/m/[1-9],(0|1|0\\.5|2|\"1\")\r?\n){0,5}") {
            let _ = read_train(text.as_bytes(), |_| {});
        }
    }
}
