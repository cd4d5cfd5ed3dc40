//! Extraction: decoding threads ahead of the backbone, shards written one by one, each recorded in a journal, so that
//! a run killed at any moment goes on where it stopped and ends with the same bytes.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::pipeline::{ReadItem, decode, decoded, usual_batch};
use super::store::{
    Failure, Header, JOURNAL, MANIFEST, Manifest, PartOf, Shard, StoreError, TokenType, VERSION,
    read_manifest, shard_name,
};
use crate::backbone::{Backbone, BackboneError, BackboneInfo, Features};
use crate::image::Limits;
use epsilon_data::files::{self, sha256};

/// One of several equal parts of a list of images, so that several machines can share an extraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    index: usize,
    of: usize,
}

impl Part {
    /// Which part, from 1.
    pub fn index(self) -> usize {
        self.index
    }

    /// Of how many.
    pub fn of(self) -> usize {
        self.of
    }

    /// Its own stretch of the list: the parts in their order are the whole.
    fn cut<T>(self, items: &[T]) -> &[T] {
        let border =
            |index: usize| (items.len() as u128 * index as u128 / self.of as u128) as usize;
        &items[border(self.index - 1)..border(self.index)]
    }
}

/// A part that is not written as `2/4`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no part: write it as I/N, such as 2/4 for the second of four, with I from 1 to N"
)]
pub struct NoPart(String);

impl FromStr for Part {
    type Err = NoPart;

    fn from_str(text: &str) -> Result<Self, NoPart> {
        let wrong = || NoPart(text.into());
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let number = |digits: &str| digits.parse::<usize>().map_err(|_| wrong());
        let (index, of) = (number(index)?, number(of)?);
        if index == 0 || index > of {
            return Err(wrong());
        }
        Ok(Self { index, of })
    }
}

/// How images are turned into tokens.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// Images the backbone is given at once; `None` for as many as [`usual_batch`] says.
    pub batch: Option<usize>,
    /// Threads that read and decode images.
    pub decoders: usize,
    /// Images of a shard; fixed once a store is begun.
    pub shard_size: usize,
    /// How values are kept; fixed once a store is begun.
    pub dtype: TokenType,
    /// Which image files are refused.
    pub limits: Limits,
    /// Extract only this part of the images.
    pub part: Option<Part>,
}

impl Default for ExtractOptions {
    /// A batch that fits the memory, a decoding thread a core, 128 images a shard, half precision, all images.
    fn default() -> Self {
        Self {
            batch: None,
            decoders: rayon::current_num_threads(),
            shard_size: 128,
            dtype: TokenType::F16,
            limits: Limits::default(),
            part: None,
        }
    }
}

/// How far an extraction is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Images with tokens, those of earlier runs included.
    pub done: usize,
    /// Images that could not be read.
    pub failed: usize,
    /// Images asked for.
    pub total: usize,
    /// Images a second in this run.
    pub rate: f64,
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
}

/// Why an extraction cannot start or go on. Images that cannot be read are no error: see
/// [`ExtractReport::failed`].
#[derive(Debug, Error)]
pub enum FeatureError {
    /// The folder holds a store that does not fit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backbone failed.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A file cannot be written, for instance because the disk is full.
    #[error("{}: cannot be written: {source}; what is finished is kept, and the same command goes on from there", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process is extracting into the same folder.
    #[error("{}: another process is extracting into this folder", dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// Two images have the same id.
    #[error("the image {id} is listed twice")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// A batch, a shard or the number of decoding threads is zero.
    #[error("batch, shard_size and decoders must be at least 1")]
    Options,
    /// A token has no finite value in the store's type.
    #[error("the tokens of {id} are not finite{hint}")]
    NotFinite {
        /// The image's id.
        id: String,
        /// What may help.
        hint: &'static str,
    },
}

/// Turns images into tokens with `backbone` and keeps them in the folder `dir` as a [`super::TokenStore`].
///
/// `items` are pairs of id and file. Images that cannot be read are recorded and skipped. The rows of the store keep
/// the order of `items`, and the bytes of the store depend on nothing else than `items`, the files, the backbone
/// and the options: not on the timing of threads, nor on how often the run was killed and started
/// again. When `dir` holds a part of the same store, the shards that are complete are kept; when it holds the whole,
/// nothing is done. Memory is bounded by one batch, one shard, and a few images a decoding thread.
///
/// `progress` is called once a batch.
///
/// # Errors
///
/// See [`FeatureError`]. What was written before an error is a valid beginning.
pub fn extract(
    items: &[(String, PathBuf)],
    backbone: &dyn Backbone,
    dir: &Path,
    options: &ExtractOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ExtractReport, FeatureError> {
    let preprocess = &backbone.info().preprocess;
    let read = |_: &str, path: &Path| decode(path, preprocess, &options.limits);
    extract_from(items, &read, backbone, dir, options, progress)
}

/// [`extract`] with another way of reading an item than decoding an image: `read` makes of id and file what `backbone`
/// takes as the pixels of one image, or says why it cannot.
///
/// # Errors
///
/// See [`FeatureError`].
pub fn extract_from(
    items: &[(String, PathBuf)],
    read: &ReadItem,
    backbone: &dyn Backbone,
    dir: &Path,
    options: &ExtractOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ExtractReport, FeatureError> {
    if options.batch == Some(0) || options.shard_size == 0 || options.decoders == 0 {
        return Err(FeatureError::Options);
    }
    let whole_sha256 = digest(items)?;
    let items = options.part.map_or(items, |part| part.cut(items));
    let header = Header {
        version: VERSION,
        backbone: backbone.info().clone(),
        dtype: options.dtype,
        shard_size: options.shard_size,
        items_sha256: digest(items)?,
        part: options.part.map(|Part { index, of }| PartOf {
            index,
            of,
            whole_sha256,
        }),
    };
    if dir.join(MANIFEST).exists() {
        return finished(dir, &header);
    }
    let mut writer = Writer::begin(dir, header)?;
    let start = Instant::now();
    let resumed = writer.manifest.ids.len();
    let earlier = writer.consumed;
    let rest = &items[earlier.min(items.len())..];
    let most = options
        .batch
        .unwrap_or_else(|| usual_batch(backbone.info()));
    decoded(rest, read, options.decoders, |images| {
        let mut batch = Batch::default();
        for (offset, (id, _)) in rest.iter().enumerate() {
            match images.next(offset) {
                Ok(pixels) => batch.push(id, &pixels),
                Err(reason) => writer.fail(id, reason),
            }
            let read = offset + 1;
            // A batch never reaches into the next shard: a resumed run then forms the same batches.
            let full = batch.ids.len() == most.min(writer.room());
            if full || read == rest.len() {
                writer.add(&mut batch, backbone, earlier + read)?;
                progress(Progress {
                    done: writer.done(),
                    failed: writer.failed(),
                    total: items.len(),
                    rate: read as f64 / start.elapsed().as_secs_f64().max(1e-9),
                });
            }
        }
        writer.finish(resumed)
    })
}

/// SHA-256 of the ids, which must differ from each other.
fn digest(items: &[(String, PathBuf)]) -> Result<String, FeatureError> {
    let list: String = items
        .iter()
        .flat_map(|(id, _)| [id.as_str(), "\n"])
        .collect();
    let mut known = HashSet::new();
    match items.iter().find(|(id, _)| !known.insert(id)) {
        Some((id, _)) => Err(FeatureError::Duplicate { id: id.clone() }),
        None => Ok(sha256(list.as_bytes())),
    }
}

/// The report of a store that is complete already.
fn finished(dir: &Path, header: &Header) -> Result<ExtractReport, FeatureError> {
    let manifest = read_manifest(dir)?;
    check_same(dir, &manifest.header, header)?;
    // Left by a run that was killed between its last two steps.
    let _ = std::fs::remove_file(dir.join(JOURNAL));
    Ok(ExtractReport {
        images: manifest.ids.len(),
        resumed: manifest.ids.len(),
        failed: manifest.failed,
    })
}

/// Says what differs between the store that is there and the one asked for.
pub(super) fn check_same(dir: &Path, found: &Header, wanted: &Header) -> Result<(), StoreError> {
    let (a, b) = (&found.backbone, &wanted.backbone);
    let backbone = |header: &Header| {
        let info = &header.backbone;
        format!("{}, weights {}", info.name, info.weights_sha256)
    };
    let shape = |info: &BackboneInfo| {
        let (tokens, dim, global) = (info.tokens, info.dim, info.global_dim());
        format!("{tokens} tokens of {dim}, global vectors of {global}")
    };
    let pairs = [
        (
            "backbone",
            a.weights_sha256 == b.weights_sha256,
            backbone(found),
            backbone(wanted),
        ),
        (
            "preprocessing",
            a.preprocess == b.preprocess,
            format!("{:?}", a.preprocess),
            format!("{:?}", b.preprocess),
        ),
        (
            "token shape",
            (a.tokens, a.dim, a.grid) == (b.tokens, b.dim, b.grid)
                && (a.global_dim(), a.projected) == (b.global_dim(), b.projected),
            shape(a),
            shape(b),
        ),
        (
            "precision",
            a.precision == b.precision,
            a.precision.to_string(),
            b.precision.to_string(),
        ),
        (
            "value type",
            found.dtype == wanted.dtype,
            format!("{:?}", found.dtype),
            format!("{:?}", wanted.dtype),
        ),
        (
            "shard size",
            found.shard_size == wanted.shard_size,
            found.shard_size.to_string(),
            wanted.shard_size.to_string(),
        ),
        (
            "part of the images",
            found.part == wanted.part,
            part_name(found),
            part_name(wanted),
        ),
        (
            "list of images",
            found.items_sha256 == wanted.items_sha256,
            format!("hash {}", found.items_sha256),
            wanted.items_sha256.clone(),
        ),
    ];
    match pairs.into_iter().find(|(_, same, _, _)| !same) {
        None => Ok(()),
        Some((what, _, found, wanted)) => Err(StoreError::Other {
            dir: dir.into(),
            what,
            found,
            wanted,
        }),
    }
}

fn part_name(header: &Header) -> String {
    match &header.part {
        Some(part) => format!("part {} of {}", part.index, part.of),
        None => "all of them".into(),
    }
}

/// Images that wait for the backbone.
#[derive(Default)]
struct Batch {
    ids: Vec<String>,
    pixels: Vec<f32>,
}

impl Batch {
    fn push(&mut self, id: &str, pixels: &[f32]) {
        self.ids.push(id.into());
        self.pixels.extend_from_slice(pixels);
    }
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

/// A store that is being written.
struct Writer {
    dir: PathBuf,
    journal: File,
    /// What is on disk and recorded.
    manifest: Manifest,
    /// Images of the list that the recorded shards account for.
    consumed: usize,
    /// The shard that is being filled.
    ids: Vec<String>,
    failed: Vec<Failure>,
    tokens: Values,
    global: Values,
    features: Features,
}

impl Writer {
    /// Opens the folder, with what an earlier run left of the same store.
    fn begin(dir: &Path, header: Header) -> Result<Self, FeatureError> {
        let path = dir.join(JOURNAL);
        let failed = |source| FeatureError::Write {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut journal = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        journal.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => FeatureError::Busy { dir: dir.into() },
            TryLockError::Error(source) => failed(source),
        })?;
        let mut text = Vec::new();
        journal.read_to_end(&mut text).map_err(failed)?;
        let (found, records, length) = parse_journal(dir, &text);
        let mut writer = Self {
            dir: dir.into(),
            journal,
            tokens: Values::new(header.dtype),
            global: Values::new(header.dtype),
            manifest: Manifest {
                header,
                shards: Vec::new(),
                failed: Vec::new(),
                ids: Vec::new(),
            },
            consumed: 0,
            ids: Vec::new(),
            failed: Vec::new(),
            features: Features::default(),
        };
        writer.cut_journal(length)?;
        match found {
            Some(found) => check_same(dir, &found, &writer.manifest.header)?,
            None => {
                let line = line(&writer.manifest.header);
                writer.append(&line)?;
            }
        }
        for record in records {
            writer.accept(record);
        }
        Ok(writer)
    }

    /// Takes over a recorded shard.
    fn accept(&mut self, record: Record) {
        self.manifest.shards.push(record.shard);
        self.manifest.ids.extend(record.ids);
        self.manifest.failed.extend(record.failed);
        self.consumed = record.consumed;
    }

    fn fail(&mut self, id: &str, reason: String) {
        self.failed.push(Failure {
            id: id.into(),
            reason,
        });
    }

    /// Images the current shard still lacks.
    fn room(&self) -> usize {
        self.manifest.header.shard_size - self.ids.len()
    }

    fn done(&self) -> usize {
        self.manifest.ids.len() + self.ids.len()
    }

    fn failed(&self) -> usize {
        self.manifest.failed.len() + self.failed.len()
    }

    /// Adds a batch to the current shard and writes the shard when it is full. `consumed` images of the list are
    /// accounted for then.
    fn add(
        &mut self,
        batch: &mut Batch,
        backbone: &dyn Backbone,
        consumed: usize,
    ) -> Result<(), FeatureError> {
        backbone.forward(&batch.pixels, batch.ids.len(), &mut self.features)?;
        let first = self.ids.len();
        self.ids.append(&mut batch.ids);
        batch.pixels.clear();
        for (values, added) in [
            (&mut self.tokens, &self.features.tokens),
            (&mut self.global, &self.features.global),
        ] {
            let count = self.ids.len() - first;
            if let Some(at) = values.extend(added) {
                return Err(FeatureError::NotFinite {
                    id: self.ids[first + at * count / added.len()].clone(),
                    hint: match self.manifest.header.dtype {
                        TokenType::F16 => " in half precision: keep them as f32",
                        TokenType::F32 => "",
                    },
                });
            }
        }
        if self.room() == 0 {
            self.write_shard(consumed)?;
        }
        Ok(())
    }

    /// Writes the current shard, then records it.
    fn write_shard(&mut self, consumed: usize) -> Result<(), FeatureError> {
        let file = shard_name(self.manifest.shards.len());
        let path = self.dir.join(&file);
        let bytes = self
            .shard_bytes()
            .map_err(|source| self.unwritten(&file, source))?;
        files::write(&path, &bytes).map_err(|source| self.unwritten(&file, source))?;
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
    fn finish(mut self, resumed: usize) -> Result<ExtractReport, FeatureError> {
        if !self.ids.is_empty() {
            self.write_shard(self.consumed + self.ids.len() + self.failed.len())?;
        }
        self.manifest.failed.append(&mut self.failed);
        let text = serde_json::to_vec_pretty(&self.manifest)
            .map_err(|error| self.unwritten(MANIFEST, error.into()))?;
        files::write(&self.dir.join(MANIFEST), &text)
            .map_err(|source| self.unwritten(MANIFEST, source))?;
        std::fs::remove_file(self.dir.join(JOURNAL))
            .map_err(|source| self.unwritten(JOURNAL, source))?;
        Ok(ExtractReport {
            images: self.manifest.ids.len(),
            resumed,
            failed: self.manifest.failed,
        })
    }

    /// Appends to the journal and syncs it. On failure the journal is what it was.
    fn append(&mut self, line: &[u8]) -> Result<(), FeatureError> {
        let failed = |source| self.unwritten(JOURNAL, source);
        let before = self.journal.metadata().map_err(failed)?.len();
        let mut journal = &self.journal;
        let written = journal
            .seek(SeekFrom::End(0))
            .and_then(|_| journal.write_all(line))
            .and_then(|()| journal.sync_all());
        written.map_err(|source| {
            // Half a line would be ignored by the next run anyway.
            let _ = self.journal.set_len(before);
            self.unwritten(JOURNAL, source)
        })
    }

    /// Cuts off what an interrupted run left of a line.
    fn cut_journal(&self, length: usize) -> Result<(), FeatureError> {
        let cut = self.journal.set_len(length as u64);
        cut.map_err(|source| self.unwritten(JOURNAL, source))
    }

    fn unwritten(&self, file: &str, source: io::Error) -> FeatureError {
        FeatureError::Write {
            path: self.dir.join(file),
            source,
        }
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::TokenStore;
    use super::*;
    use crate::backbone::Precision;
    use crate::image::{Fit, Preprocess, RgbImage};

    /// Two tokens of width 3: the mean of each channel's upper and lower half. Fails after `limit` images.
    struct Means {
        info: BackboneInfo,
        limit: AtomicUsize,
    }

    fn means() -> Means {
        Means {
            info: BackboneInfo {
                name: "means".into(),
                weights_sha256: "0".into(),
                preprocess: Preprocess {
                    size: 4,
                    fit: Fit::Squash,
                    filter: crate::image::Filter::Bicubic,
                    mean: [0.0; 3],
                    std: [1.0; 3],
                },
                tokens: 2,
                dim: 3,
                grid: (2, 1),
                global: None,
                projected: false,
                precision: Default::default(),
            },
            limit: AtomicUsize::new(usize::MAX),
        }
    }

    impl Backbone for Means {
        fn info(&self) -> &BackboneInfo {
            &self.info
        }

        fn forward(
            &self,
            images: &[f32],
            count: usize,
            out: &mut Features,
        ) -> Result<(), BackboneError> {
            if self.limit.fetch_sub(count, Ordering::Relaxed) < count {
                return Err(BackboneError::Images {
                    count,
                    expected: 0,
                    found: 0,
                });
            }
            let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
            out.tokens.clear();
            out.global.clear();
            for image in images.chunks_exact(48) {
                out.tokens
                    .extend(image.chunks_exact(16).map(|plane| mean(&plane[..8])));
                out.tokens
                    .extend(image.chunks_exact(16).map(|plane| mean(&plane[8..])));
                out.global.extend(image.chunks_exact(16).map(mean));
            }
            Ok(())
        }
    }

    /// `count` flat images; every seventh is no image.
    fn photos(folder: &Path, count: usize) -> Vec<(String, PathBuf)> {
        (0..count)
            .map(|index| {
                let path = folder.join(format!("{index}.png"));
                if index % 7 == 3 {
                    fs::write(&path, "words").unwrap();
                } else {
                    let level = index as u8;
                    let image = RgbImage::from_fn(4, 4, |_, y| {
                        [level, 2 * level, y as u8 / 2 * 255].into()
                    });
                    image.save(&path).unwrap();
                }
                (format!("photo {index}"), path)
            })
            .collect()
    }

    fn options() -> ExtractOptions {
        ExtractOptions {
            batch: Some(4),
            decoders: 3,
            shard_size: 10,
            ..ExtractOptions::default()
        }
    }

    fn run(
        items: &[(String, PathBuf)],
        backbone: &Means,
        dir: &Path,
    ) -> Result<ExtractReport, FeatureError> {
        extract(items, backbone, dir, &options(), &mut |_| {})
    }

    fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        files
            .map(|file| {
                (
                    file.file_name().into_string().unwrap(),
                    fs::read(file.path()).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 50);
        let dir = folder.path().join("store");
        let mut seen = Vec::new();
        let report = extract(&items, &means(), &dir, &options(), &mut |p| seen.push(p)).unwrap();
        assert_eq!(
            (report.images, report.resumed, report.failed.len()),
            (43, 0, 7)
        );
        assert!(report.failed[0].id == "photo 3" && report.failed[0].reason.contains("not a JPEG"));
        let last = seen.last().unwrap();
        assert_eq!((last.done, last.failed, last.total), (43, 7, 50));
        assert!(seen.windows(2).all(|pair| pair[0].done <= pair[1].done));

        let store = TokenStore::open(&dir).unwrap();
        store.verify().unwrap();
        assert_eq!(
            (store.len(), store.tokens_per_image(), store.dim()),
            (43, 2, 3)
        );
        assert_eq!(store.manifest().shards.len(), 5);
        assert_eq!(store.row_of("photo 3"), None);
        let (mut tokens, mut global) = ([0.0; 6], [0.0; 3]);
        for (row, id) in store.ids().iter().enumerate() {
            assert_eq!(store.row_of(id), Some(row));
            let index: f32 = id.strip_prefix("photo ").unwrap().parse().unwrap();
            store.read_tokens(row, &mut tokens);
            store.read_global(row, &mut global);
            let (red, green) = (index / 255.0, 2.0 * index / 255.0);
            let expected = [red, green, 0.0, red, green, 1.0];
            assert!(
                tokens
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 3e-4),
                "{id}: {tokens:?}"
            );
            assert!(
                global
                    .iter()
                    .zip([red, green, 0.5])
                    .all(|(a, b)| (a - b).abs() < 3e-4)
            );
        }
        assert!(!dir.join(JOURNAL).exists());
        // Asked again, nothing is left to do.
        let again = run(&items, &means(), &dir).unwrap();
        assert_eq!(
            (again.images, again.resumed, again.failed.len()),
            (43, 43, 7)
        );
    }

    #[test]
    fn single_precision_keeps_every_bit() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 3);
        let dir = folder.path().join("store");
        let options = ExtractOptions {
            dtype: TokenType::F32,
            ..options()
        };
        extract(&items, &means(), &dir, &options, &mut |_| {}).unwrap();
        let mut global = [0.0; 3];
        TokenStore::open(&dir).unwrap().read_global(2, &mut global);
        assert_eq!(global, [2.0 / 255.0, 4.0 / 255.0, 0.5]);
    }

    #[test]
    fn an_interrupted_run_goes_on_and_ends_with_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 60);
        let whole = folder.path().join("whole");
        run(&items, &means(), &whole).unwrap();
        for limit in [0, 3, 9, 10, 14, 25, 40, 50] {
            let dir = folder.path().join(format!("stopped after {limit}"));
            let backbone = means();
            backbone.limit.store(limit, Ordering::Relaxed);
            assert!(matches!(
                run(&items, &backbone, &dir),
                Err(FeatureError::Backbone(_))
            ));
            assert!(matches!(
                TokenStore::open(&dir),
                Err(StoreError::Unfinished { .. })
            ));
            // What a kill in the middle of a write leaves.
            let mut journal = OpenOptions::new()
                .append(true)
                .open(dir.join(JOURNAL))
                .unwrap();
            journal.write_all(br#"{"shard":{"file":"tokens-0"#).unwrap();
            fs::write(dir.join("tokens-00005.safetensors.tmp"), "half").unwrap();
            let report = run(&items, &means(), &dir).unwrap();
            assert_eq!(report.resumed, limit / 10 * 10);
            assert_eq!(contents(&dir), contents(&whole), "stopped after {limit}");
        }
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 40);
        let stores: Vec<_> = [1, 2, 7]
            .iter()
            .map(|&decoders| {
                let dir = folder.path().join(decoders.to_string());
                let options = ExtractOptions {
                    decoders,
                    ..options()
                };
                extract(&items, &means(), &dir, &options, &mut |_| {}).unwrap();
                contents(&dir)
            })
            .collect();
        assert!(stores[0] == stores[1] && stores[1] == stores[2]);
    }

    #[test]
    fn a_lost_shard_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 60);
        let (whole, dir) = (folder.path().join("whole"), folder.path().join("store"));
        run(&items, &means(), &whole).unwrap();
        let backbone = means();
        backbone.limit.store(40, Ordering::Relaxed);
        run(&items, &backbone, &dir).unwrap_err();
        fs::remove_file(dir.join(shard_name(1))).unwrap();
        assert_eq!(run(&items, &means(), &dir).unwrap().resumed, 10);
        assert_eq!(contents(&dir), contents(&whole));
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_finished() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 60);
        let (whole, dir) = (folder.path().join("whole"), folder.path().join("store"));
        run(&items, &means(), &whole).unwrap();
        // A folder in the place of the third shard.
        fs::create_dir_all(dir.join(shard_name(2)).join("x")).unwrap();
        let error = run(&items, &means(), &dir).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("tokens-00002.safetensors: cannot be written"),
            "{error}"
        );
        fs::remove_dir_all(dir.join(shard_name(2))).unwrap();
        assert_eq!(run(&items, &means(), &dir).unwrap().resumed, 20);
        assert_eq!(contents(&dir), contents(&whole));
    }

    #[test]
    fn a_store_made_otherwise_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 30);
        let (begun, complete) = (folder.path().join("begun"), folder.path().join("complete"));
        run(&items, &means(), &complete).unwrap();
        let backbone = means();
        backbone.limit.store(12, Ordering::Relaxed);
        run(&items, &backbone, &begun).unwrap_err();

        let mut weights = means();
        weights.info.weights_sha256 = "1".into();
        let mut preprocess = means();
        preprocess.info.preprocess.mean = [0.5; 3];
        let mut precision = means();
        precision.info.precision = Precision::Int8;
        for dir in [&begun, &complete] {
            let message =
                |backbone: &Means, options: &ExtractOptions, items: &[(String, PathBuf)]| {
                    let before = contents(dir);
                    let error = extract(items, backbone, dir, options, &mut |_| {}).unwrap_err();
                    assert_eq!(contents(dir), before);
                    error.to_string()
                };
            assert!(message(&weights, &options(), &items).contains("another backbone"));
            assert!(message(&preprocess, &options(), &items).contains("another preprocessing"));
            assert!(message(&precision, &options(), &items).contains("another precision"));
            assert!(message(&means(), &options(), &items[1..]).contains("another list of images"));
            let single = ExtractOptions {
                dtype: TokenType::F32,
                ..options()
            };
            assert!(message(&means(), &single, &items).contains("another value type"));
            let shards = ExtractOptions {
                shard_size: 11,
                ..options()
            };
            assert!(message(&means(), &shards, &items).contains("another shard size"));
        }
    }

    #[test]
    fn two_runs_at_once_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 30);
        let dir = folder.path().join("store");
        let mut tried = false;
        extract(&items, &means(), &dir, &options(), &mut |_| {
            assert!(matches!(
                run(&items, &means(), &dir),
                Err(FeatureError::Busy { .. })
            ));
            tried = true;
        })
        .unwrap();
        assert!(tried);
    }

    #[test]
    fn values_beyond_half_precision_name_their_image() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 3);
        let mut backbone = means();
        // The third image's green, 4 / 255, becomes 78,431.
        backbone.info.preprocess.std = [1.0, 2e-7, 1.0];
        let error = run(&items, &backbone, &folder.path().join("store")).unwrap_err();
        assert!(
            matches!(error, FeatureError::NotFinite { ref id, .. } if id == "photo 2"),
            "{error}"
        );
    }

    #[test]
    fn lists_that_make_no_sense() {
        let folder = tempfile::tempdir().unwrap();
        let mut items = photos(folder.path(), 5);
        items[4].0 = "photo 1".into();
        let dir = folder.path().join("store");
        assert!(
            matches!(run(&items, &means(), &dir), Err(FeatureError::Duplicate { id }) if id == "photo 1")
        );
        let none = ExtractOptions {
            batch: Some(0),
            ..options()
        };
        assert!(matches!(
            extract(&items, &means(), &dir, &none, &mut |_| {}),
            Err(FeatureError::Options)
        ));
        // No image, or none that can be read: an empty store.
        for list in [&items[..0], &items[3..4]] {
            let dir = folder.path().join(format!("{} images", list.len()));
            assert_eq!(run(list, &means(), &dir).unwrap().images, 0);
            assert!(TokenStore::open(&dir).unwrap().is_empty());
        }
    }

    #[test]
    fn parts_are_written_as_people_write_them() {
        for text in ["2/4", "1/1"] {
            let part: Part = text.parse().unwrap();
            assert_eq!(format!("{}/{}", part.index(), part.of()), text);
        }
        for text in ["0/4", "5/4", "4", "a/b", "-1/2", "1/0", "1/2/3", ""] {
            let error = text.parse::<Part>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    fn part(text: &str) -> ExtractOptions {
        ExtractOptions {
            part: Some(text.parse().unwrap()),
            ..options()
        }
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 37);
        let whole = folder.path().join("whole");
        run(&items, &means(), &whole).unwrap();
        let whole = TokenStore::open(&whole).unwrap();
        let parts: Vec<PathBuf> = (1..=3)
            .rev()
            .map(|index| {
                let dir = folder.path().join(format!("part {index}"));
                let options = part(&format!("{index}/3"));
                extract(&items, &means(), &dir, &options, &mut |_| {}).unwrap();
                dir
            })
            .collect();
        let dir = folder.path().join("merged");
        // What a killed merge may have left.
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(shard_name(1)), "half a shard").unwrap();
        super::super::merge(&parts, &dir).unwrap();
        let merged = TokenStore::open(&dir).unwrap();
        merged.verify().unwrap();
        assert_eq!(merged.ids(), whole.ids());
        assert_eq!(merged.manifest().failed, whole.manifest().failed);
        assert_eq!(merged.manifest().header, whole.manifest().header);
        let (mut ours, mut theirs) = ([0.0; 6], [0.0; 6]);
        for row in 0..whole.len() {
            merged.read_tokens(row, &mut ours);
            whole.read_tokens(row, &mut theirs);
            assert_eq!(ours, theirs, "row {row}");
        }
        // It is what the whole extraction would have made.
        let report = run(&items, &means(), &dir).unwrap();
        assert_eq!(report.resumed, whole.len());
    }

    #[test]
    fn parts_that_do_not_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 9);
        let make = |name: &str, items: &[(String, PathBuf)], options: &ExtractOptions| {
            let dir = folder.path().join(name);
            extract(items, &means(), &dir, options, &mut |_| {}).unwrap();
            dir
        };
        let first = make("first", &items, &part("1/2"));
        let second = make("second", &items, &part("2/2"));
        let again = make("again", &items, &part("1/2"));
        let third = make("third", &items, &part("3/3"));
        let other = make("other", &items[..8], &part("2/2"));
        let whole = make("whole", &items, &options());
        let single = ExtractOptions {
            dtype: TokenType::F32,
            ..part("2/2")
        };
        let single = make("single", &items, &single);
        let to = folder.path().join("to");
        let message = |parts: &[&PathBuf]| {
            let parts: Vec<PathBuf> = parts.iter().map(|dir| dir.to_path_buf()).collect();
            let text = super::super::merge(&parts, &to).unwrap_err().to_string();
            assert!(!to.exists(), "something was written: {text}");
            text
        };
        assert!(message(&[]).contains("no part"));
        assert!(message(&[&first]).contains("of 2 parts one is missing: 2"));
        assert!(message(&[&first, &second, &again]).contains("are both part 1"));
        assert!(message(&[&first, &third]).contains("different lists"));
        assert!(message(&[&first, &other]).contains("different lists"));
        assert!(message(&[&first, &whole]).contains("whole: holds a whole list"));
        assert!(message(&[&first, &single]).contains("value type"));
        assert!(message(&[&first, &folder.path().join("none")]).contains("no token store there"));

        let shard = second.join(shard_name(0));
        let mut bytes = fs::read(&shard).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&shard, bytes).unwrap();
        assert!(message(&[&first, &second]).contains("its checksum is not the manifest's"));
        let error = super::super::merge(&[first.clone(), again], &whole).unwrap_err();
        assert!(error.to_string().contains("are both part 1"), "{error}");
        // Another part than the one that is there.
        let error = extract(&items, &means(), &first, &part("2/2"), &mut |_| {}).unwrap_err();
        assert!(
            error.to_string().contains("part 1 of 2, not part 2 of 2"),
            "{error}"
        );
    }
}
