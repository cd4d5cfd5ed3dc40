//! Writing a token store row by row: shards one by one, each recorded in a journal, so that a run killed at any moment
//! goes on where it stopped and ends with the same bytes.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use epsilon_data::files::{self, sha256};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use super::error::FeatureError;
use super::part::Part;
use super::store::{
    Failure, Header, JOURNAL, MANIFEST, Manifest, PartOf, Shard, TokenType, VERSION, read_manifest,
    shard_name,
};
use crate::backbone::{BackboneInfo, Features};

/// How a store is laid out; fixed once it is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// How values are kept.
    pub dtype: TokenType,
    /// Images of a shard, at least 1.
    pub shard_size: usize,
    /// Keep only this part of the list.
    pub part: Option<Part>,
}

impl Default for StoreSettings {
    /// Half precision, 128 images a shard, all images.
    fn default() -> Self {
        Self {
            dtype: TokenType::F16,
            shard_size: 128,
            part: None,
        }
    }
}

/// What an extraction has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractReport {
    /// Images with tokens.
    pub images: usize,
    /// Of these, how many an earlier run had left.
    pub resumed: usize,
    /// Images that could not be read, and why.
    pub failed: Vec<Failure>,
    /// Images of this run whose files are not quite right, and what is wrong.
    pub flawed: Vec<Failure>,
}

/// One line of the journal: a shard that is on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    shard: Shard,
    ids: Vec<String>,
    /// Images that failed since the shard before.
    failed: Vec<Failure>,
    /// Images of the list, failed ones included, up to the end of this shard.
    consumed: usize,
}

/// Writes a [`super::TokenStore`]: takes the images of a list in their order, each with its rows or the reason why it has
/// none.
///
/// ```
#[doc = include_str!("example.rs")]
/// ```
#[derive(Debug)]
pub struct StoreWriter {
    dir: PathBuf,
    /// Locked while the store is written; none where it is complete.
    journal: Option<File>,
    /// What is on disk and recorded.
    manifest: Manifest,
    /// Images of the list that the recorded shards account for.
    consumed: usize,
    /// Rows that an earlier run left.
    resumed: usize,
    /// The shard that is being filled.
    ids: Vec<String>,
    failed: Vec<Failure>,
    tokens: Values,
    global: Values,
}

impl StoreWriter {
    /// Opens the folder `dir` for the images `ids` (the whole list, also where a part of it is kept) and what `backbone`
    /// makes of them. What an earlier run left of the same store is kept: the first [`StoreWriter::consumed`] images must
    /// not be given again. A complete store takes no more rows, and [`StoreWriter::finish`] gives its report.
    ///
    /// # Errors
    ///
    /// [`FeatureError::Duplicate`] of an id, [`FeatureError::Options`] for shards of no image, [`FeatureError::Busy`]
    /// where another process writes, [`FeatureError::Store`] where the folder holds another store,
    /// [`FeatureError::Write`].
    pub fn open<S: AsRef<str>>(
        dir: &Path,
        ids: &[S],
        backbone: &BackboneInfo,
        settings: &StoreSettings,
    ) -> Result<Self, FeatureError> {
        if settings.shard_size == 0 {
            return Err(FeatureError::Options);
        }
        let whole_sha256 = digest(ids)?;
        let header = Header {
            version: VERSION,
            backbone: backbone.clone(),
            dtype: settings.dtype,
            shard_size: settings.shard_size,
            items_sha256: digest(settings.part.map_or(ids, |part| part.cut(ids)))?,
            part: settings.part.map(|part| PartOf {
                index: part.index(),
                of: part.of(),
                whole_sha256,
            }),
        };
        if dir.join(MANIFEST).exists() {
            return Self::complete(dir, &header);
        }
        Self::begin(dir, header)
    }

    /// Nothing is left to do.
    fn complete(dir: &Path, wanted: &Header) -> Result<Self, FeatureError> {
        let manifest = read_manifest(dir)?;
        manifest.header.check_same(dir, wanted)?;
        // Left by a run that was killed between its last two steps.
        let path = dir.join(JOURNAL);
        match std::fs::remove_file(&path) {
            Err(reason) if !is_of_no_matter(reason.kind()) => {
                Err(FeatureError::Write { path, reason })
            }
            _ => Ok(Self::with(dir, manifest, None)),
        }
    }

    fn with(dir: &Path, manifest: Manifest, journal: Option<File>) -> Self {
        Self {
            dir: dir.into(),
            journal,
            consumed: manifest.ids.len() + manifest.failed.len(),
            resumed: manifest.ids.len(),
            ids: Vec::new(),
            failed: Vec::new(),
            tokens: Values::new(manifest.header.dtype),
            global: Values::new(manifest.header.dtype),
            manifest,
        }
    }

    /// Opens the journal, with what an earlier run left of the same store.
    fn begin(dir: &Path, header: Header) -> Result<Self, FeatureError> {
        let path = dir.join(JOURNAL);
        let failed = |reason| FeatureError::Write {
            path: path.clone(),
            reason,
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut journal = files::own(&path).map_err(failed)?;
        journal.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => FeatureError::Busy { dir: dir.into() },
            TryLockError::Error(reason) => failed(reason),
        })?;
        files::tidy(dir).map_err(failed)?;
        let mut text = Vec::new();
        journal.read_to_end(&mut text).map_err(failed)?;
        let (found, records, length) = parse_journal(dir, &text);
        // What an interrupted run left of a line.
        journal.set_len(length as u64).map_err(failed)?;
        let first_line = match found {
            Some(found) => found.check_same(dir, &header).map(|()| None)?,
            None => Some(line(&header)),
        };
        let manifest = Manifest {
            header,
            shards: Vec::new(),
            failed: Vec::new(),
            ids: Vec::new(),
        };
        let mut writer = Self::with(dir, manifest, Some(journal));
        if let Some(line) = first_line {
            writer.append(&line)?;
        }
        for record in records {
            writer.accept(record);
        }
        writer.resumed = writer.manifest.ids.len();
        Ok(writer)
    }

    /// Takes over a recorded shard.
    fn accept(&mut self, record: Record) {
        self.manifest.shards.push(record.shard);
        self.manifest.ids.extend(record.ids);
        self.manifest.failed.extend(record.failed);
        self.consumed = record.consumed;
    }

    /// How many images of the list, or of its part, are accounted for.
    pub fn consumed(&self) -> usize {
        self.consumed + self.ids.len() + self.failed.len()
    }

    /// Images the current shard still lacks, at least 1.
    pub fn room(&self) -> usize {
        self.manifest.header.shard_size - self.ids.len()
    }

    /// Images with rows, those of earlier runs included.
    pub fn done(&self) -> usize {
        self.manifest.ids.len() + self.ids.len()
    }

    /// Images without rows, those of earlier runs included.
    pub fn failed(&self) -> usize {
        self.manifest.failed.len() + self.failed.len()
    }

    /// Takes the next image, which has no rows, and why.
    pub fn push_failed(&mut self, id: &str, reason: &str) {
        self.failed.push(Failure {
            id: id.into(),
            reason: reason.into(),
        });
    }

    /// Takes the rows of the next images, at most [`StoreWriter::room`], and writes the shard when it is full.
    ///
    /// # Errors
    ///
    /// [`FeatureError::Length`], [`FeatureError::NotFinite`], [`FeatureError::Write`].
    pub fn push<S: AsRef<str>>(
        &mut self,
        ids: &[S],
        features: &Features,
    ) -> Result<(), FeatureError> {
        let info = &self.manifest.header.backbone;
        let length = |what, wanted: Option<usize>, values: &[f32]| {
            let expected = wanted.and_then(|width| width.checked_mul(ids.len()));
            match expected == Some(values.len()) {
                true => Ok(()),
                false => Err(FeatureError::Length {
                    what,
                    rows: ids.len(),
                    expected: expected.unwrap_or(usize::MAX),
                    found: values.len(),
                }),
            }
        };
        let most = self.room();
        if ids.len() > most {
            return Err(FeatureError::Length {
                what: "rows for the shard",
                rows: ids.len(),
                expected: most,
                found: ids.len(),
            });
        }
        length(
            "tokens",
            info.tokens.checked_mul(info.dim),
            &features.tokens,
        )?;
        length("global vectors", Some(info.global_dim()), &features.global)?;
        for (values, added) in [
            (&mut self.tokens, &features.tokens),
            (&mut self.global, &features.global),
        ] {
            if let Some(at) = values.extend(added) {
                return Err(FeatureError::NotFinite {
                    id: ids[at / (added.len() / ids.len())].as_ref().into(),
                    hint: match self.manifest.header.dtype {
                        TokenType::F16 => " in half precision: keep them as f32",
                        TokenType::F32 => "",
                    },
                });
            }
        }
        self.ids
            .extend(ids.iter().map(|id| id.as_ref().to_string()));
        if self.room() == 0 {
            self.write_shard()?;
        }
        Ok(())
    }

    /// Writes the current shard, then records it.
    fn write_shard(&mut self) -> Result<(), FeatureError> {
        let file = shard_name(self.manifest.shards.len());
        let path = self.dir.join(&file);
        let bytes = self
            .shard_bytes()
            .map_err(|reason| self.unwritten(&file, reason))?;
        files::write(&path, &bytes).map_err(|reason| self.unwritten(&file, reason))?;
        let consumed = self.consumed();
        let record = Record {
            shard: Shard {
                file,
                rows: self.ids.len(),
                sha256: sha256(&bytes),
            },
            ids: std::mem::take(&mut self.ids),
            failed: std::mem::take(&mut self.failed),
            consumed,
        };
        self.append(&line(&record))?;
        self.accept(record);
        self.tokens.clear();
        self.global.clear();
        Ok(())
    }

    /// The current shard as a safetensors file.
    fn shard_bytes(&self) -> io::Result<Vec<u8>> {
        let info = &self.manifest.header.backbone;
        let rows = self.ids.len();
        let tensors = [
            ("global", self.global.view(vec![rows, info.global_dim()])?),
            (
                "tokens",
                self.tokens.view(vec![rows, info.tokens, info.dim])?,
            ),
        ];
        safetensors::serialize(tensors, None).map_err(io::Error::other)
    }

    /// Writes what is left and the manifest, which makes the store complete.
    ///
    /// # Errors
    ///
    /// [`FeatureError::Write`].
    pub fn finish(mut self) -> Result<ExtractReport, FeatureError> {
        if self.journal.is_some() {
            if !self.ids.is_empty() {
                self.write_shard()?;
            }
            self.manifest.failed.append(&mut self.failed);
            let text = serde_json::to_vec_pretty(&self.manifest)
                .map_err(|error| self.unwritten(MANIFEST, error.into()))?;
            files::write(&self.dir.join(MANIFEST), &text)
                .map_err(|reason| self.unwritten(MANIFEST, reason))?;
            std::fs::remove_file(self.dir.join(JOURNAL))
                .map_err(|reason| self.unwritten(JOURNAL, reason))?;
        }
        Ok(ExtractReport {
            images: self.manifest.ids.len(),
            resumed: self.resumed,
            failed: self.manifest.failed,
            flawed: Vec::new(),
        })
    }

    /// Appends to the journal and syncs it. On failure the journal is what it was.
    fn append(&self, line: &[u8]) -> Result<(), FeatureError> {
        let failed = |reason| self.unwritten(JOURNAL, reason);
        let Some(mut journal) = self.journal.as_ref() else {
            return Err(failed(io::Error::other("the store is complete")));
        };
        let before = journal.metadata().map_err(failed)?.len();
        let written = journal
            .seek(SeekFrom::End(0))
            .and_then(|_| journal.write_all(line))
            .and_then(|()| journal.sync_all());
        written.map_err(|reason| {
            // Half a line would be ignored by the next run anyway.
            let _ = journal.set_len(before);
            self.unwritten(JOURNAL, reason)
        })
    }

    fn unwritten(&self, file: &str, reason: io::Error) -> FeatureError {
        FeatureError::Write {
            path: self.dir.join(file),
            reason,
        }
    }
}

/// Whether a complete store is as good with the journal that could not be removed: there is none, or it may only be read.
fn is_of_no_matter(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(kind, NotFound | PermissionDenied | ReadOnlyFilesystem)
}

/// SHA-256 of the ids, which must differ from each other.
fn digest<S: AsRef<str>>(ids: &[S]) -> Result<String, FeatureError> {
    let list: String = ids.iter().flat_map(|id| [id.as_ref(), "\n"]).collect();
    let mut known = HashSet::new();
    for id in ids {
        if !known.insert(id.as_ref()) {
            return Err(FeatureError::Duplicate {
                id: id.as_ref().into(),
            });
        }
    }
    Ok(sha256(list.as_bytes()))
}

/// A line of the journal.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings and numbers are always JSON");
    line.push(b'\n');
    line
}

/// The header and the records of a journal whose shards are there, and the length of the text they take: an
/// interrupted run may have left half a line.
fn parse_journal(dir: &Path, text: &[u8]) -> (Option<Header>, Vec<Record>, usize) {
    let mut lines = text
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"));
    let Some(first) = lines.next() else {
        return (None, Vec::new(), 0);
    };
    let Ok(header) = serde_json::from_slice(first) else {
        return (None, Vec::new(), 0);
    };
    let mut length = first.len();
    let mut records: Vec<Record> = Vec::new();
    for line in lines {
        match serde_json::from_slice::<Record>(line) {
            Ok(record)
                if record.shard.file == shard_name(records.len())
                    && dir.join(&record.shard.file).exists() =>
            {
                length += line.len();
                records.push(record);
            }
            _ => break,
        }
    }
    (Some(header), records, length)
}

/// Values in the store's type.
#[derive(Debug)]
enum Values {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Values {
    fn new(dtype: TokenType) -> Self {
        match dtype {
            TokenType::F16 => Self::F16(Vec::new()),
            TokenType::F32 => Self::F32(Vec::new()),
        }
    }

    /// Adds values; the index of the first that has no finite value in this type is an error.
    fn extend(&mut self, added: &[f32]) -> Option<usize> {
        match self {
            Self::F16(values) => {
                let from = values.len();
                values.resize(from + added.len(), f16::ZERO);
                values[from..].convert_from_f32_slice(added);
                values[from..].iter().position(|value| !value.is_finite())
            }
            Self::F32(values) => {
                values.extend_from_slice(added);
                added.iter().position(|value| !value.is_finite())
            }
        }
    }

    fn view(&self, shape: Vec<usize>) -> io::Result<TensorView<'_>> {
        let (dtype, bytes) = match self {
            Self::F16(values) => (safetensors::Dtype::F16, bytemuck::cast_slice(values)),
            Self::F32(values) => (safetensors::Dtype::F32, bytemuck::cast_slice(values)),
        };
        TensorView::new(dtype, shape, bytes).map_err(io::Error::other)
    }

    fn clear(&mut self) {
        match self {
            Self::F16(values) => values.clear(),
            Self::F32(values) => values.clear(),
        }
    }
}
