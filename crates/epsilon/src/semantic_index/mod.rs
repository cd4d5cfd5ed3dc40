//! The semantic vectors of many photographs on disk, to rank them for any word: score = max_m S_m . v.
//!
//! A folder holds `index.json` (what it is and how much of the other two counts), `rows-G.bin` (a record for every photograph:
//! M scales in f32, then M rows of bytes, each filled up to a multiple of 32) and `ids-G.jsonl` (a line for every record: the
//! photograph's id; or the number of a record that does not count any more). Records are only ever appended, and count from
//! the moment that `index.json` says so, so that a reader and a killed writer never see half of something. G is a generation:
//! where half of the records are dead, the rest is written into new files.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use epsilon_data::files::{self, Mapped};
use epsilon_kernels::scan::{LANES, best_matches};

const VERSION: u32 = 1;
const MANIFEST: &str = "index.json";
/// Records that a thread scans at once.
const CHUNK: usize = 4096;

/// What can go wrong with an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {reason}; delete the folder to have it made anew", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An index of another model.
    #[error("{}: holds the vectors of another model; give another folder, or delete it", folder.display())]
    OtherModel {
        /// The folder.
        folder: PathBuf,
    },
    /// Rows or a query that are not of the index's sizes, or not finite.
    #[error("{0}")]
    Vectors(String),
}

/// What an index is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexInfo {
    /// [`crate::model::Model::identity`] of the model that made the vectors.
    pub model: String,
    /// M, vectors of a photograph.
    pub groups: usize,
    /// d_w, their width.
    pub width: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    #[serde(flatten)]
    info: IndexInfo,
    generation: u64,
    /// Records that count.
    records: u64,
    /// Bytes of the ids' file that count.
    ids_bytes: u64,
}

/// A line of the ids' file.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    /// The id of the next record.
    Id(String),
    /// A record that does not count any more.
    Dead(u64),
}

impl Manifest {
    fn read(folder: &Path) -> Result<Option<Self>, IndexError> {
        let path = folder.join(MANIFEST);
        let bytes = match files::read(&path, files::DESCRIPTION) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, error)),
        };
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| form(&path, error.to_string()))?;
        if manifest.version != VERSION {
            let reason = format!(
                "format version {}; this program reads version {VERSION}",
                manifest.version
            );
            return Err(form(&path, reason));
        }
        let IndexInfo { groups, width, .. } = manifest.info;
        let sizes = (1..=1024).contains(&groups) && (1..=1 << 16).contains(&width);
        let bytes = manifest
            .records
            .checked_mul(record_bytes(groups.min(1024), width.min(1 << 16)) as u64);
        if !sizes || bytes.is_none() {
            return Err(form(
                &path,
                format!("{groups} vectors of width {width} a photograph"),
            ));
        }
        Ok(Some(manifest))
    }

    fn write(&self, folder: &Path) -> Result<(), IndexError> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec(self).map_err(|error| form(&path, error.to_string()))?;
        files::write(&path, &text).map_err(|error| failed(&path, error))
    }

    fn rows(&self, folder: &Path) -> PathBuf {
        folder.join(format!("rows-{}.bin", self.generation))
    }

    fn ids(&self, folder: &Path) -> PathBuf {
        folder.join(format!("ids-{}.jsonl", self.generation))
    }

    fn record(&self) -> usize {
        record_bytes(self.info.groups, self.info.width)
    }
}

/// Bytes of a photograph's record.
fn record_bytes(groups: usize, width: usize) -> usize {
    groups * (4 + width.next_multiple_of(LANES))
}

/// Adds photographs to an index. One writer at a time.
pub struct IndexWriter {
    folder: PathBuf,
    manifest: Manifest,
    rows: File,
    ids: File,
    /// Places of the living records.
    places: HashMap<String, u64>,
    /// What waits for [`IndexWriter::commit`].
    new_rows: Vec<u8>,
    new_ids: Vec<u8>,
    new_records: u64,
}

impl IndexWriter {
    /// Opens the index in a folder for more, or begins one.
    ///
    /// # Errors
    /// [`IndexError::OtherModel`] for an index of something else than `info`, damaged files, and what cannot be written.
    pub fn open(folder: &Path, info: &IndexInfo) -> Result<Self, IndexError> {
        files::folder(folder)
            .and_then(|()| files::tidy(folder))
            .map_err(|error| failed(folder, error))?;
        let manifest = match Manifest::read(folder)? {
            Some(manifest) if manifest.info != *info => {
                return Err(IndexError::OtherModel {
                    folder: folder.into(),
                });
            }
            Some(manifest) => manifest,
            None => Manifest {
                version: VERSION,
                info: info.clone(),
                generation: 0,
                records: 0,
                ids_bytes: 0,
            },
        };
        let writer = Self::begin(folder, manifest)?;
        if 2 * writer.places.len() as u64 >= writer.manifest.records {
            return Ok(writer);
        }
        writer.compacted()
    }

    /// The files at the ends that count.
    fn begin(folder: &Path, manifest: Manifest) -> Result<Self, IndexError> {
        let open = |path: PathBuf, length: u64| -> Result<File, IndexError> {
            let file = files::own(&path).map_err(|error| failed(&path, error))?;
            let there = file.metadata().map_err(|error| failed(&path, error))?.len();
            if there < length {
                // Nothing is mended: what is missing cannot be known.
                return Err(form(&path, format!("{there} bytes of {length}")));
            }
            Ok(file)
        };
        let rows = manifest.records * manifest.record() as u64;
        let rows = open(manifest.rows(folder), rows)?;
        let ids = open(manifest.ids(folder), manifest.ids_bytes)?;
        let places = Ids::read(folder, &manifest)?.places()?;
        Ok(Self {
            folder: folder.into(),
            rows,
            ids,
            places,
            manifest,
            new_rows: Vec::new(),
            new_ids: Vec::new(),
            new_records: 0,
        })
    }

    /// Writes the living records into files of the next generation.
    fn compacted(self) -> Result<Self, IndexError> {
        let index = Index::open(&self.folder)?;
        let mut living: Vec<(&String, &u64)> = self.places.iter().collect();
        living.sort_by_key(|(_, place)| **place);
        let mut manifest = self.manifest.clone();
        manifest.generation += 1;
        manifest.records = living.len() as u64;
        let (rows, ids) = (manifest.rows(&self.folder), manifest.ids(&self.folder));
        files::replace(&rows, |file| {
            let mut out = io::BufWriter::new(file);
            for (_, place) in &living {
                out.write_all(index.record(**place))?;
            }
            out.flush()
        })
        .map_err(|error| failed(&rows, error))?;
        let mut text = Vec::new();
        for (id, _) in &living {
            line(&mut text, &Line::Id((*id).clone())).map_err(|error| failed(&ids, error))?;
        }
        files::write(&ids, &text).map_err(|error| failed(&ids, error))?;
        manifest.ids_bytes = text.len() as u64;
        manifest.write(&self.folder)?;
        for old in [
            self.manifest.rows(&self.folder),
            self.manifest.ids(&self.folder),
        ] {
            // What is left of an old generation only takes room.
            let _ = fs::remove_file(old);
        }
        Self::begin(&self.folder, manifest)
    }

    /// Whether it holds a photograph.
    pub fn contains(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// The photographs in it.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Adds a photograph's semantic vectors `[M, d_w]`, in place of those that it has.
    ///
    /// # Errors
    /// [`IndexError::Vectors`] for another number of values, or values that are not finite.
    pub fn push(&mut self, id: &str, rows: &[f32]) -> Result<(), IndexError> {
        let IndexInfo { groups, width, .. } = self.manifest.info;
        if rows.len() != groups * width {
            return Err(IndexError::Vectors(format!(
                "{id}: {} values, not {groups} vectors of width {width}",
                rows.len()
            )));
        }
        if rows.iter().any(|value| !value.is_finite()) {
            return Err(IndexError::Vectors(format!(
                "{id}: its vectors are not finite"
            )));
        }
        self.remove(id);
        let mut bytes = Vec::new();
        for row in rows.chunks_exact(width) {
            let (scale, quantised) = quantised(row);
            self.new_rows.extend(scale.to_le_bytes());
            bytes.extend(quantised.iter().map(|&value| value as u8));
            bytes.resize(
                bytes.len().next_multiple_of(width.next_multiple_of(LANES)),
                0,
            );
        }
        self.new_rows.extend(bytes);
        let place = self.manifest.records + self.new_records;
        self.new_records += 1;
        self.places.insert(id.into(), place);
        self.line(&Line::Id(id.into()))
    }

    /// Takes a photograph out.
    pub fn remove(&mut self, id: &str) {
        if let Some(place) = self.places.remove(id) {
            // A number has no form that could not be written.
            let _ = self.line(&Line::Dead(place));
        }
    }

    fn line(&mut self, text: &Line) -> Result<(), IndexError> {
        line(&mut self.new_ids, text)
            .map_err(|error| failed(&self.manifest.ids(&self.folder), error))
    }

    /// Makes what was added and taken out count, all of it at once; it is then on the disk.
    ///
    /// # Errors
    /// When it cannot be written; the index is then as it was at the commit before.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        if self.new_ids.is_empty() {
            return Ok(());
        }
        let mut next = self.manifest.clone();
        next.records += self.new_records;
        next.ids_bytes += self.new_ids.len() as u64;
        let before = &self.manifest;
        let rows = before.records * before.record() as u64;
        let files = [
            (
                &mut self.rows,
                rows,
                &self.new_rows,
                next.rows(&self.folder),
            ),
            (
                &mut self.ids,
                before.ids_bytes,
                &self.new_ids,
                next.ids(&self.folder),
            ),
        ];
        for (file, counts, bytes, path) in files {
            // Behind what counts: a commit that failed, or was killed, may have left more.
            let written = file.set_len(counts).and_then(|()| {
                file.seek(SeekFrom::Start(counts))?;
                file.write_all(bytes)?;
                file.sync_data()
            });
            written.map_err(|error| failed(&path, error))?;
        }
        next.write(&self.folder)?;
        self.manifest = next;
        self.new_rows.clear();
        self.new_ids.clear();
        self.new_records = 0;
        Ok(())
    }
}

/// A row as whole numbers of one scale, the largest of them 127.
fn quantised(row: &[f32]) -> (f32, Vec<i8>) {
    let most = row
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = most / 127.0;
    // A row too small for a scale is one of zeros.
    let factor = if scale.is_normal() { 1.0 / scale } else { 0.0 };
    let values = row.iter().map(|value| (value * factor).round() as i8);
    (scale, values.collect())
}

fn line(out: &mut Vec<u8>, text: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, text)?;
    out.push(b'\n');
    Ok(())
}

/// The ids of all records, as they stand in their file; they are read where they are asked for.
struct Ids {
    path: PathBuf,
    text: Vec<u8>,
    /// Of every record: where its line begins and ends; nothing of a dead one.
    lines: Vec<Range<usize>>,
}

impl Ids {
    fn read(folder: &Path, manifest: &Manifest) -> Result<Self, IndexError> {
        let path = manifest.ids(folder);
        let mut text = Vec::new();
        let file = files::open(&path, u64::MAX).map_err(|error| failed(&path, error))?;
        file.take(manifest.ids_bytes)
            .read_to_end(&mut text)
            .map_err(|error| failed(&path, error))?;
        let mut lines: Vec<Range<usize>> = Vec::new();
        let mut begin = 0;
        for (line, number) in text.split_inclusive(|byte| *byte == b'\n').zip(1..) {
            let place = begin..begin + line.len() - 1;
            begin += line.len();
            let wrong = |what: &str| form(&path, format!("line {number}: {what}"));
            match line {
                [b'"', .., b'"', b'\n'] => lines.push(place),
                _ => {
                    let dead: usize = serde_json::from_slice(line)
                        .map_err(|_| wrong("neither an id nor the number of a record"))?;
                    let living = lines.get_mut(dead).filter(|place| place.start < place.end);
                    *living.ok_or_else(|| wrong("no such record"))? = 0..0;
                }
            }
        }
        if lines.len() as u64 != manifest.records {
            let reason = format!("{} ids of {} records", lines.len(), manifest.records);
            return Err(form(&path, reason));
        }
        Ok(Self { path, text, lines })
    }

    fn is_living(&self, place: usize) -> bool {
        self.lines[place].start < self.lines[place].end
    }

    fn living(&self) -> impl Iterator<Item = usize> {
        (0..self.lines.len()).filter(|place| self.is_living(*place))
    }

    fn get(&self, place: usize) -> Result<String, IndexError> {
        let line = &self.text[self.lines[place].clone()];
        serde_json::from_slice(line).map_err(|error| form(&self.path, error.to_string()))
    }

    /// Where the living records are, by their ids.
    fn places(&self) -> Result<HashMap<String, u64>, IndexError> {
        let mut places = HashMap::new();
        for place in self.living() {
            let id = self.get(place)?;
            if let Some(first) = places.insert(id.clone(), place as u64) {
                let reason = format!("{id:?} is the id of the records {first} and {place}");
                return Err(form(&self.path, reason));
            }
        }
        Ok(places)
    }
}

/// A photograph that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// Its id.
    pub id: String,
    /// Its score.
    pub score: f32,
    /// Which of its M vectors scored, from 0.
    pub group: usize,
}

/// An index to search in.
pub struct Index {
    manifest: Manifest,
    /// A writer only appends to this file and never cuts below what the manifest counts.
    rows: Mapped,
    ids: Ids,
}

/// A candidate: the better one is greater.
#[derive(Clone, Copy, PartialEq)]
struct Candidate {
    score: f32,
    group: u32,
    place: usize,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    /// By score; of equal ones the earlier record is better.
    fn cmp(&self, other: &Self) -> Ordering {
        let scores = self.score.total_cmp(&other.score);
        scores.then(other.place.cmp(&self.place))
    }
}

impl Index {
    /// Opens the index in a folder.
    ///
    /// # Errors
    /// Damaged or missing files.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let Some(manifest) = Manifest::read(folder)? else {
            let path = folder.join(MANIFEST);
            return Err(failed(&path, io::ErrorKind::NotFound.into()));
        };
        let path = manifest.rows(folder);
        let length = manifest.records * manifest.record() as u64;
        let rows = Mapped::open(&path).map_err(|error| failed(&path, error))?;
        if (rows.len() as u64) < length {
            let reason = format!("{} bytes of {length}", rows.len());
            return Err(form(&path, reason));
        }
        Ok(Self {
            ids: Ids::read(folder, &manifest)?,
            manifest,
            rows,
        })
    }

    /// What it is of.
    pub fn info(&self) -> &IndexInfo {
        &self.manifest.info
    }

    /// Photographs in it.
    pub fn len(&self) -> usize {
        self.ids.living().count()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that a search reads.
    pub fn bytes(&self) -> usize {
        self.manifest.records as usize * self.manifest.record()
    }

    fn record(&self, place: u64) -> &[u8] {
        let size = self.manifest.record();
        let all: &[u8] = &self.rows;
        &all[place as usize * size..][..size]
    }

    /// The `top` photographs that match a label's unit vector best, best first; of equal ones the earlier. All are looked
    /// at, and the result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`IndexError::Vectors`] for a query of another width, or one that is not finite.
    pub fn search(&self, query: &[f32], top: usize) -> Result<Vec<Hit>, IndexError> {
        let width = self.manifest.info.width;
        if query.len() != width {
            return Err(IndexError::Vectors(format!(
                "a query of width {}; the index's vectors are {width} wide",
                query.len()
            )));
        }
        if query.iter().any(|value| !value.is_finite()) {
            return Err(IndexError::Vectors("the query is not finite".into()));
        }
        if top == 0 {
            return Ok(Vec::new());
        }
        let (scale, query) = quantised_query(query);
        let size = self.manifest.record();
        let all = &self.rows[..self.bytes()];
        let chunks = all.par_chunks(CHUNK * size).enumerate();
        let best = chunks
            .map(|(chunk, records)| {
                let mut matches = vec![(0.0, 0); records.len() / size];
                best_matches(records, self.manifest.info.groups, &query, &mut matches);
                let candidates = matches.into_iter().zip(chunk * CHUNK..);
                let living = candidates.filter(|(_, place)| self.ids.is_living(*place));
                best_of(
                    living.map(|((score, group), place)| Candidate {
                        score,
                        group,
                        place,
                    }),
                    top,
                )
            })
            .reduce(Vec::new, |mut a, b| {
                a.extend(b);
                best_of(a.into_iter(), top)
            });
        let hits = best.into_iter().map(|candidate| {
            Ok(Hit {
                id: self.ids.get(candidate.place)?,
                score: scale * candidate.score,
                group: candidate.group as usize,
            })
        });
        hits.collect()
    }
}

/// The best `top`, best first.
fn best_of(candidates: impl Iterator<Item = Candidate>, top: usize) -> Vec<Candidate> {
    let mut heap = BinaryHeap::new();
    for candidate in candidates {
        if heap.len() < top {
            heap.push(std::cmp::Reverse(candidate));
        } else if let Some(mut worst) = heap.peek_mut()
            && worst.0 < candidate
        {
            worst.0 = candidate;
        }
    }
    let best = heap.into_sorted_vec().into_iter();
    best.map(|std::cmp::Reverse(candidate)| candidate).collect()
}

/// A query as whole numbers of one scale, filled up to the rows' width: as fine as 16 bits and exact sums in 32 allow.
fn quantised_query(query: &[f32]) -> (f32, Vec<i16>) {
    let width = query.len().next_multiple_of(LANES);
    let largest = (i32::MAX as usize / (127 * width)).min(i16::MAX as usize) as f32;
    let most = query
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = most / largest;
    let factor = if scale.is_normal() { 1.0 / scale } else { 0.0 };
    let mut values: Vec<i16> = query
        .iter()
        .map(|value| (value * factor).round() as i16)
        .collect();
    values.resize(width, 0);
    (scale, values)
}

fn failed(path: &Path, source: io::Error) -> IndexError {
    IndexError::File {
        path: path.into(),
        source,
    }
}

fn form(path: &Path, reason: String) -> IndexError {
    IndexError::Form {
        path: path.into(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn info(groups: usize, width: usize) -> IndexInfo {
        IndexInfo {
            model: "m".into(),
            groups,
            width,
        }
    }

    fn vectors(count: usize, rng: &mut impl Rng) -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn names(hits: &[Hit]) -> Vec<&str> {
        hits.iter().map(|hit| hit.id.as_str()).collect()
    }

    #[test]
    fn a_small_index_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = IndexWriter::open(folder.path(), &info(2, 2)).unwrap();
        writer.push("a", &[1.0, 0.0, 0.0, 0.5]).unwrap();
        writer.push("b", &[0.0, 1.0, 0.0, -1.0]).unwrap();
        writer.push("c\n\"", &[-1.0, 0.0, 0.0, 0.0]).unwrap();
        assert!(writer.contains("b") && !writer.contains("z"));
        assert!(Index::open(folder.path()).is_err(), "nothing counts yet");
        writer.commit().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let found = index.search(&[0.0, 1.0], 2).unwrap();
        assert_eq!(names(&found), ["b", "a"]);
        assert!((found[0].score - 1.0).abs() < 1e-3 && found[0].group == 0);
        assert!((found[1].score - 0.5).abs() < 1e-3 && found[1].group == 1);
        assert_eq!(names(&index.search(&[-1.0, 0.0], 1).unwrap()), ["c\n\""]);
        assert_eq!(index.search(&[0.0, 1.0], 0).unwrap(), []);
        assert_eq!(index.search(&[0.0, 0.0], 9).unwrap().len(), 3);
        for query in [&[1.0][..], &[f32::NAN, 0.0]] {
            assert!(index.search(query, 1).is_err());
        }
        for rows in [&[1.0][..], &[f32::INFINITY, 0.0, 0.0, 0.0]] {
            assert!(writer.push("d", rows).is_err());
        }
    }

    /// Replaced, taken out, taken up again, and written anew when most is dead; what an older reader sees stays.
    #[test]
    fn records_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let open = || IndexWriter::open(folder.path(), &info(1, 3)).unwrap();
        let mut writer = open();
        for id in ["a", "b", "c", "d", "e"] {
            writer.push(id, &[1.0, 0.0, 0.0]).unwrap();
        }
        writer.commit().unwrap();
        let before = Index::open(folder.path()).unwrap();
        writer.push("b", &[0.0, 1.0, 0.0]).unwrap();
        writer.remove("c");
        writer.remove("nobody");
        writer.commit().unwrap();
        drop(writer);
        let mut writer = open();
        writer.remove("d");
        writer.push("lost", &[0.0, 0.0, 1.0]).unwrap();
        drop(writer);
        let search = || {
            let index = Index::open(folder.path()).unwrap();
            let hits = index.search(&[1.0, 0.5, 0.0], 9).unwrap();
            names(&hits).join(" ")
        };
        assert_eq!(search(), "a d e b", "what was not committed does not count");
        let mut writer = open();
        ["d", "e"].iter().for_each(|id| writer.remove(id));
        writer.commit().unwrap();
        let rows = |generation: u64| folder.path().join(format!("rows-{generation}.bin"));
        assert!(rows(0).exists());
        let mut writer = open();
        assert!(rows(1).exists() && !rows(0).exists());
        assert_eq!(search(), "a b");
        writer.push("f", &[2.0, 0.0, 0.0]).unwrap();
        writer.commit().unwrap();
        assert_eq!(search(), "f a b");
        assert_eq!(before.search(&[1.0, 0.0, 0.0], 9).unwrap().len(), 5);
        let other = IndexWriter::open(folder.path(), &info(2, 3)).err().unwrap();
        assert!(other.to_string().contains("another model"), "{other}");
    }

    #[test]
    fn damaged_files_are_errors_that_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = IndexWriter::open(folder.path(), &info(1, 2)).unwrap();
        for id in ["a", "b"] {
            writer.push(id, &[1.0, 0.0]).unwrap();
        }
        writer.commit().unwrap();
        let damages: [(&str, &[u8]); 8] = [
            ("index.json", b""),
            ("index.json", b"{\"version\":1}"),
            ("index.json", br#"{"version":9,"model":"m","groups":1,"width":2,"generation":0,"records":2,"ids_bytes":8}"#),
            ("index.json", br#"{"version":1,"model":"m","groups":1,"width":99999999999,"generation":0,"records":18446744073709551615,"ids_bytes":8}"#),
            ("rows-0.bin", b"short"),
            ("ids-0.jsonl", b"\"a\"\n"),
            ("ids-0.jsonl", b"\"a\"\nnull\n"),
            ("ids-0.jsonl", b"\"a\"\n77\n\"\""),
        ];
        for (name, bytes) in damages {
            let path = folder.path().join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            let error = Index::open(folder.path()).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
            fs::write(&path, whole).unwrap();
        }
        // A writer mends nothing either, however often it is tried.
        let path = folder.path().join("rows-0.bin");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..40]).unwrap();
        for _ in 0..2 {
            let error = IndexWriter::open(folder.path(), &info(1, 2)).err().unwrap();
            assert!(error.to_string().contains("40 bytes of"), "{error}");
            assert_eq!(fs::read(&path).unwrap().len(), 40);
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(Index::open(folder.path()).unwrap().len(), 2);
        fs::write(folder.path().join("ids-0.jsonl"), "\"a\"\n\"a\"\n").unwrap();
        let twice = IndexWriter::open(folder.path(), &info(1, 2)).err().unwrap();
        assert!(twice.to_string().contains("\"a\" is the id of"), "{twice}");
        fs::write(folder.path().join("ids-0.jsonl"), "\"a\"\n\"\\\"\n").unwrap();
        let index = Index::open(folder.path()).unwrap();
        assert!(
            index.search(&[1.0, 0.0], 2).is_err(),
            "an id that is no text"
        );
    }

    #[test]
    fn extreme_values_neither_overflow_nor_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let width = 2048;
        let mut writer = IndexWriter::open(folder.path(), &info(1, width)).unwrap();
        writer.push("large", &vec![1e30; width]).unwrap();
        writer.push("zero", &vec![0.0; width]).unwrap();
        writer.push("tiny", &vec![1e-44; width]).unwrap();
        writer.commit().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let query = vec![1.0 / (width as f32).sqrt(); width];
        let hits = index.search(&query, 3).unwrap();
        assert_eq!(names(&hits), ["large", "zero", "tiny"]);
        let exact = 1e30 * (width as f32).sqrt();
        assert!(
            (hits[0].score / exact - 1.0).abs() < 1e-2,
            "{}",
            hits[0].score
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Scores are near those of the vectors as they were, and the order is that of the scores, whatever the sizes.
        #[test]
        fn a_search_is_near_a_scan_of_the_vectors(
            groups in 1_usize..5, width in 1_usize..70, count in 0_usize..60, top in 1_usize..70, seed: u64,
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let folder = tempfile::tempdir().unwrap();
            let mut writer = IndexWriter::open(folder.path(), &info(groups, width)).unwrap();
            let rows = vectors(count * groups * width, &mut rng);
            for (place, rows) in rows.chunks(groups * width).enumerate() {
                writer.push(&place.to_string(), rows).unwrap();
            }
            writer.push("last", &vec![0.0; groups * width]).unwrap();
            writer.commit().unwrap();
            let query = vectors(width, &mut rng);
            let hits = Index::open(folder.path()).unwrap().search(&query, top).unwrap();
            prop_assert_eq!(hits.len(), top.min(count + 1));
            prop_assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let length = query.iter().map(|v| v.abs()).sum::<f32>();
            let score = |place: usize| -> f32 {
                let rows = rows[place * groups * width..][..groups * width].chunks(width);
                let products = rows.map(|row| row.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>());
                products.fold(f32::NEG_INFINITY, f32::max)
            };
            let error = 0.5 / 127.0 * length * 1.1 + 1e-5;
            for hit in &hits {
                let exact = hit.id.parse().map_or(0.0, score);
                prop_assert!((hit.score - exact).abs() <= error, "{} {exact}", hit.score);
            }
            let worst = hits.last().unwrap().score;
            let missed = (0..count).filter(|place| score(*place) > worst + 2.0 * error);
            prop_assert_eq!(missed.filter(|p| !names(&hits).contains(&p.to_string().as_str())).count(), 0);
        }
    }
}
