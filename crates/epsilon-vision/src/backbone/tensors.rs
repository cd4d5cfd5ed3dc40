//! Named tensors from weight files of every container: safetensors, whole or in shards, and PyTorch state dicts, whose
//! pickles are interpreted as data and never run. [`Reader`] takes them one by one and names all that do not fit.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use pytorch_reader::{DType, PickleValue, PytorchReader};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::pack::{IDENTITY, PART};
use super::values::Values;
use super::weights::{Linear, NormWeights};
use super::{BackboneError, torch_limits};
use epsilon_data::files::{Mapped, sha256};
use epsilon_data::formats::sealed::{self, SEAL, Tensor};
use epsilon_data::formats::stand_in;

/// Key of a safetensors file's metadata that may hold settings.
pub(super) const METADATA_KEY: &str = "epsilon.vit";

/// What a folder's weight file may be called, the first one there is taken.
pub(super) const FOLDER_NAMES: [&str; 7] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "pytorch_model.pth",
];

/// How the index of a sharded network ends.
const INDEX: &str = ".index.json";
/// How a file of PyTorch before 1.6 begins: a pickle of its magic number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Python types in a PyTorch file that are no tensors, but no reason to refuse it either: settings that
/// were saved beside the weights. With a dot at the end, all that begins so.
const HARMLESS: [&str; 10] = [
    "argparse.Namespace",
    "collections.OrderedDict",
    "collections.defaultdict",
    "int",
    "numpy.core.multiarray.",
    "numpy._core.multiarray.",
    "numpy.dtype",
    "pathlib.",
    "set",
    "torch.nn.",
];

/// Everything a weight file, or a folder of them, holds.
pub(super) struct Tensors {
    /// The weight file.
    pub path: PathBuf,
    /// SHA-256 of the weight file; of the lines "name hash" of all shards where there are several; what a packed network says.
    pub sha256: String,
    /// JSON under [`METADATA_KEY`].
    pub metadata: Option<String>,
    entries: BTreeMap<String, Entry>,
    /// Names that a [`Reader`] has found.
    looked_at: RefCell<BTreeSet<String>>,
}

struct Entry {
    shape: Vec<usize>,
    /// The element type, or the name of one that is no floating-point type.
    kind: Result<Float, String>,
    data: Data,
}

#[derive(Clone, Copy)]
enum Float {
    F16,
    BF16,
    F32,
    F64,
}

impl Float {
    /// Bytes of a value.
    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

enum Data {
    Mapped(Arc<Mapped>, Range<usize>),
    Torch(pytorch_reader::Tensor),
}

impl Tensors {
    /// Opens a weight file, the index of a sharded one, or a folder with one of both.
    pub(super) fn open(path: &Path) -> Result<Self, BackboneError> {
        let path = if path.is_dir() {
            in_folder(path)?
        } else {
            path.to_path_buf()
        };
        let mut tensors = Self {
            sha256: String::new(),
            metadata: None,
            entries: BTreeMap::new(),
            looked_at: RefCell::default(),
            path,
        };
        let file = tensors.path.clone();
        if file.extension().is_some_and(|ending| ending == "json") {
            let mut hashes = String::new();
            for shard in shards(&file)? {
                let hash = tensors.add(&file.with_file_name(&shard))?;
                hashes.push_str(&format!("{shard} {hash}\n"));
            }
            tensors.sha256 = sha256(hashes.as_bytes());
        } else {
            tensors.sha256 = tensors.add(&file)?;
        }
        Ok(tensors)
    }

    /// Adds the tensors of one file; returns its hash.
    fn add(&mut self, path: &Path) -> Result<String, BackboneError> {
        let map = Arc::new(map(path)?);
        let stated = if is_pytorch(&map) {
            self.add_pytorch(path, &map)?;
            None
        } else {
            self.add_safetensors(path, &map)?
        };
        Ok(stated.unwrap_or_else(|| map.sha256()))
    }

    /// Returns what a packed network says in place of its file's hash.
    fn add_safetensors(
        &mut self,
        path: &Path,
        map: &Arc<Mapped>,
    ) -> Result<Option<String>, BackboneError> {
        let failed = |error: safetensors::SafeTensorError| BackboneError::Format {
            path: path.into(),
            reason: error.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(map).map_err(failed)?;
        let metadata = header.metadata().as_ref();
        if let Some(text) = metadata.and_then(|all| all.get(METADATA_KEY)) {
            self.metadata = Some(text.clone());
        }
        let entry = |key: &str| metadata.and_then(|all| all.get(key));
        let packed = entry(IDENTITY).cloned();
        if packed.is_some() || entry(SEAL).is_some() {
            sealed::check(map).map_err(|reason| BackboneError::Damaged {
                path: path.into(),
                reason,
            })?;
            map.release(0..map.len());
        }
        for (name, tensor) in SafeTensors::deserialize(map).map_err(failed)?.tensors() {
            let start = tensor.data().as_ptr().addr() - map.as_ptr().addr();
            let kind = match tensor.dtype() {
                Dtype::F16 => Ok(Float::F16),
                Dtype::BF16 => Ok(Float::BF16),
                Dtype::F32 => Ok(Float::F32),
                Dtype::F64 => Ok(Float::F64),
                other => Err(other.to_string()),
            };
            let entry = Entry {
                shape: tensor.shape().to_vec(),
                kind,
                data: Data::Mapped(map.clone(), start..start + tensor.data().len()),
            };
            // Of a packed network's file the rest is something else.
            let name = match (&packed, name.strip_prefix(PART)) {
                (None, _) => name,
                (Some(_), Some(own)) => own.to_string(),
                (Some(_), None) => continue,
            };
            self.entries.insert(name, entry);
        }
        Ok(packed)
    }

    fn add_pytorch(&mut self, path: &Path, bytes: &[u8]) -> Result<(), BackboneError> {
        let failed = |reason: String| BackboneError::PyTorch {
            path: path.into(),
            reason,
        };
        torch_limits::check(bytes).map_err(failed)?;
        let content = PytorchReader::read_pickle_data(path, None)
            .map_err(|error| failed(error.to_string()))?;
        if let Some(name) = foreign(&content) {
            return Err(failed(format!(
                "it holds an object of {name}, which reading it would have to run: nothing but tensors is accepted; \
                 save the model's state_dict() alone"
            )));
        }
        let tensors = PytorchReader::new(path).map_err(|error| failed(error.to_string()))?;
        let sizes = tensors
            .tensors()
            .values()
            .map(|tensor| tensor.byte_len() as u64);
        let all = sizes.fold(0, u64::saturating_add);
        if all > torch_limits::MOST_SHARED.saturating_mul(bytes.len() as u64) {
            return Err(failed(format!(
                "its tensors would take {all} bytes, more than {} times its size: save them with contiguous() first",
                torch_limits::MOST_SHARED
            )));
        }
        for (name, tensor) in tensors.into_tensors() {
            let kind = match tensor.dtype() {
                DType::F16 => Ok(Float::F16),
                DType::BF16 => Ok(Float::BF16),
                DType::F32 => Ok(Float::F32),
                DType::F64 => Ok(Float::F64),
                other => Err(format!("{other:?}")),
            };
            let shape = tensor.shape().to_vec();
            let data = Data::Torch(tensor);
            self.entries.insert(name, Entry { shape, kind, data });
        }
        Ok(())
    }

    /// What stands before this name wherever it is: nothing, or keys that end in a dot.
    pub(super) fn before(&self, name: &str) -> impl Iterator<Item = &str> {
        let before = self.names().filter_map(move |full| full.strip_suffix(name));
        before.filter(|part| part.is_empty() || part.ends_with('.'))
    }

    /// What stands before all names: nothing, or keys that end in a dot.
    pub(super) fn before_all(&self) -> &str {
        // Names are sorted: what the first and the last have in common, all have.
        let (Some(first), Some(last)) = (self.entries.keys().next(), self.entries.keys().last())
        else {
            return "";
        };
        let pairs = first.bytes().zip(last.bytes());
        let common = pairs.take_while(|(a, b)| a == b).count();
        let end = first.as_bytes()[..common]
            .iter()
            .rposition(|&byte| byte == b'.');
        end.map_or("", |end| &first[..=end])
    }

    /// Keeps the tensors whose names begin with `part`, without it, but for those of other parts.
    pub(super) fn keep_part(&mut self, part: &str, others: &[&str]) {
        let within = |name: &str| {
            others
                .iter()
                .any(|other| other.len() > part.len() && name.starts_with(other))
        };
        let entries = std::mem::take(&mut self.entries).into_iter();
        let kept = entries.filter(|(name, _)| name.starts_with(part) && !within(name));
        self.entries = kept
            .map(|(name, entry)| (name[part.len()..].to_string(), entry))
            .collect();
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Names of the tensors that were found by those who read a network.
    pub(super) fn looked_at(&self) -> Vec<String> {
        self.looked_at.borrow().iter().cloned().collect()
    }

    /// A tensor under another name, and whether it was changed: with `rounded` a matrix in f32 becomes f16 where that keeps it.
    ///
    /// # Errors
    /// One that cannot be read, is missing, or is not of floating-point numbers.
    pub(super) fn export(
        &self,
        name: &str,
        as_name: String,
        rounded: bool,
    ) -> Result<(Tensor<'static>, bool), BackboneError> {
        let not_there = |problem: String| BackboneError::Tensors {
            path: self.path.clone(),
            family: "a network",
            problems: vec![problem],
        };
        let entry = self.entries.get(name);
        let entry = entry.ok_or_else(|| not_there(format!("{name}: missing")))?;
        let kind = entry.kind.as_ref();
        let kind = *kind.map_err(|found| not_there(format!("{name}: type {found}")))?;
        let bytes: Cow<'_, [u8]> = match &entry.data {
            Data::Mapped(map, range) => Cow::Borrowed(&map[range.clone()]),
            Data::Torch(tensor) => {
                let read = tensor.read().map_err(|error| BackboneError::PyTorch {
                    path: self.path.clone(),
                    reason: error.to_string(),
                })?;
                Cow::Owned(read)
            }
        };
        let shape = &entry.shape;
        let dtype = match kind {
            Float::F16 => Dtype::F16,
            Float::BF16 => Dtype::BF16,
            Float::F32 if !rounded || shape.len() < 2 => Dtype::F32,
            Float::F32 | Float::F64 => {
                let values = to_f32(kind, &bytes);
                let f16 = match rounded && shape.len() > 1 {
                    true => Tensor::of_f16(&as_name, shape, &values, values.len()),
                    false => None,
                };
                let changed = f16.is_some();
                let tensor = f16.unwrap_or_else(|| Tensor::of_f32(as_name, shape, &values));
                return Ok((tensor, changed));
            }
        };
        let tensor = Tensor {
            name: as_name,
            dtype,
            shape: shape.clone(),
            bytes: bytes.into_owned().into(),
        };
        Ok((tensor, false))
    }

    /// Number of values of all tensors.
    pub(super) fn values(&self) -> u64 {
        let count = |entry: &Entry| {
            entry
                .shape
                .iter()
                .fold(1u64, |all, &size| all.saturating_mul(size as u64))
        };
        self.entries.values().map(count).sum()
    }
}

/// The first object of a type that is none of tensors and settings.
fn foreign(value: &PickleValue) -> Option<&str> {
    match value {
        PickleValue::Unsupported(name) => (!is_harmless(name)).then_some(name),
        PickleValue::List(values) => values.iter().find_map(foreign),
        PickleValue::Dict(values) => values.values().find_map(foreign),
        _ => None,
    }
}

/// Whether a Python type is a tensor's, or only a setting's.
fn is_harmless(name: &str) -> bool {
    // torch.Tensor, torch.float32, torch.Size, torch.device, ...
    let torch = name.strip_prefix("torch.");
    let plain_torch = torch.is_some_and(|rest| !rest.contains('.'));
    let known = |known: &&str| name == *known || (known.ends_with('.') && name.starts_with(known));
    plain_torch || HARMLESS.iter().any(known)
}

/// Whether a file begins as one of `torch.save`'s containers: a zip, a tar or a bare pickle.
fn is_pytorch(bytes: &[u8]) -> bool {
    if bytes.get(8) == Some(&b'{') {
        return false;
    }
    bytes.starts_with(b"PK")
        || bytes.first() == Some(&0x80)
        || bytes.get(257..262) == Some(b"ustar")
}

/// Whether a file is of a network and of nothing else: the index of a sharded one, what PyTorch saves, or safetensors with a
/// tensor whose name `tells` it. No value is read; what cannot be read is none.
pub(super) fn is_network(path: &Path, tells: impl Fn(&str) -> bool) -> bool {
    if path.to_str().is_some_and(|path| path.ends_with(INDEX)) {
        return true;
    }
    let Ok(map) = map(path) else { return false };
    if saved_by_pytorch(&map) {
        return true;
    }
    let header = SafeTensors::read_metadata(&map);
    header.is_ok_and(|(_, header)| header.tensors().keys().any(|name| tells(name)))
}

/// Whether PyTorch wrote this, and not somebody else a pickle or an archive.
fn saved_by_pytorch(bytes: &[u8]) -> bool {
    // In an archive, the pickle is the first entry; a local header has the length of its name at 26, and the name at 30.
    let length = bytes
        .get(26..28)
        .map(|two| usize::from(u16::from_le_bytes([two[0], two[1]])));
    let name = length.and_then(|length| bytes.get(30..30 + length));
    let zip =
        bytes.starts_with(b"PK\x03\x04") && name.is_some_and(|name| name.ends_with(b"/data.pkl"));
    zip || bytes.starts_with(LEGACY) || bytes.get(257..262) == Some(b"ustar")
}

pub(super) fn map(path: &Path) -> Result<Mapped, BackboneError> {
    let map = Mapped::open(path).map_err(|reason| match reason.kind() {
        ErrorKind::NotFound => BackboneError::Missing { path: path.into() },
        _ => BackboneError::Read {
            path: path.into(),
            reason,
        },
    })?;
    match stand_in::told_by(&map) {
        Some(what) => Err(BackboneError::StandIn {
            path: path.into(),
            what,
        }),
        None => Ok(map),
    }
}

/// The weight file of a folder.
fn in_folder(folder: &Path) -> Result<PathBuf, BackboneError> {
    let usual = FOLDER_NAMES.iter().map(|name| folder.join(name));
    if let Some(path) = usual.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    let read = |reason| BackboneError::Read {
        path: folder.into(),
        reason,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("safetensors" | "pth" | "pt" | "bin")) {
            found.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([only]) => Ok(only),
        Err(found) => Err(BackboneError::Folder {
            path: folder.into(),
            found: found.len(),
            usual: FOLDER_NAMES.join(", "),
        }),
    }
}

/// File names of the shards that an index lists.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>, BackboneError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let failed = |reason: String| BackboneError::Format {
        path: index.into(),
        reason,
    };
    let index: Index = serde_json::from_slice(&map(index)?)
        .map_err(|error| failed(format!("not an index of weight files: {error}")))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards
        .iter()
        .find(|name| Path::new(name).components().count() != 1 || name.contains(['/', '\\']))
    {
        Some(outside) => Err(failed(format!("{outside} is not a file beside the index"))),
        None => Ok(shards),
    }
}

/// A matrix whose rows are read when they are asked for, so that a large one, such as the words of a text tower, is not held
/// in f32. The file must not be changed while it lives.
#[derive(Default)]
pub(super) struct Table {
    dim: usize,
    rows: Rows,
}

enum Rows {
    Mapped(Arc<Mapped>, Range<usize>, Float),
    Read(Vec<f32>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::Read(Vec::new())
    }
}

impl Table {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        let values = match &self.rows {
            Rows::Mapped(_, range, kind) => range.len() / kind.bytes(),
            Rows::Read(values) => values.len(),
        };
        values / self.dim.max(1)
    }

    /// One row, which must be there.
    pub(super) fn row(&self, index: usize) -> Vec<f32> {
        let values = index * self.dim..(index + 1) * self.dim;
        match &self.rows {
            Rows::Read(all) => all[values].to_vec(),
            Rows::Mapped(map, range, kind) => {
                let bytes = &map[range.clone()];
                to_f32(
                    *kind,
                    &bytes[values.start * kind.bytes()..values.end * kind.bytes()],
                )
            }
        }
    }
}

/// Takes tensors out of a file and remembers what was missing, misshapen and left over. After a problem it hands out empty
/// tensors; nothing may be built before [`Reader::finish`] has found none.
pub(super) struct Reader<'a> {
    tensors: &'a Tensors,
    prefix: &'a str,
    taken: BTreeSet<String>,
    problems: Vec<String>,
    failure: Option<BackboneError>,
}

impl<'a> Reader<'a> {
    /// Names are asked for without `prefix`.
    pub(super) fn new(tensors: &'a Tensors, prefix: &'a str) -> Self {
        Self {
            tensors,
            prefix,
            taken: BTreeSet::new(),
            problems: Vec::new(),
            failure: None,
        }
    }

    /// From here on names are asked for with what stands before them.
    pub(super) fn whole_names(mut self) -> Self {
        self.prefix = "";
        self
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        let full = format!("{}{name}", self.prefix);
        let entry = self.tensors.entries.get(&full)?;
        self.tensors.looked_at.borrow_mut().insert(full);
        Some(entry)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// The shape of a tensor; empty when it is missing.
    pub(super) fn shape(&self, name: &str) -> &'a [usize] {
        self.entry(name).map_or(&[], |entry| &entry.shape)
    }

    /// Size `axis` of a tensor, or 0.
    pub(super) fn size(&self, name: &str, axis: usize) -> usize {
        self.shape(name).get(axis).copied().unwrap_or(0)
    }

    /// How many different words follow `start` in the names, up to the next dot.
    pub(super) fn count(&self, start: &str) -> usize {
        let start = format!("{}{start}", self.prefix);
        let words: BTreeSet<&str> = self
            .tensors
            .names()
            .filter_map(|name| name.strip_prefix(&start)?.split('.').next())
            .collect();
        words.len()
    }

    /// A problem of the file that is no single tensor's.
    pub(super) fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// A tensor and its full name, marked as taken; `None` where it does not fit or something before it did not.
    fn take(&mut self, name: &str, shape: &[usize]) -> Option<(&'a Entry, Float, String)> {
        let Some(entry) = self.entry(name) else {
            self.problems
                .push(format!("{}{name}: missing", self.prefix));
            return None;
        };
        let full = format!("{}{name}", self.prefix);
        self.taken.insert(full.clone());
        if entry.shape != shape || shape.contains(&0) {
            let found = &entry.shape;
            self.problems
                .push(format!("{full}: shape {found:?}, expected {shape:?}"));
        }
        let kind = match &entry.kind {
            Ok(kind) => *kind,
            Err(found) => {
                let problem = format!("{full}: type {found}, expected F32, F16 or BF16");
                self.problems.push(problem);
                return None;
            }
        };
        if !self.problems.is_empty() || self.failure.is_some() {
            return None;
        }
        Some((entry, kind, full))
    }

    /// The values of a tensor in f32.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.values(name, shape).into()
    }

    /// The values of a tensor, which stay in a mapped file that holds them in f32.
    pub(super) fn values(&mut self, name: &str, shape: &[usize]) -> Values {
        let Some((entry, kind, full)) = self.take(name, shape) else {
            return Values::default();
        };
        let values = match &entry.data {
            Data::Mapped(map, range) => mapped_values(map, range.clone(), kind),
            Data::Torch(tensor) => match tensor.read() {
                Ok(bytes) => to_f32(kind, &bytes).into(),
                Err(error) => {
                    self.failure = Some(BackboneError::PyTorch {
                        path: self.tensors.path.clone(),
                        reason: error.to_string(),
                    });
                    return Values::default();
                }
            },
        };
        self.check_finite(full, values.are_finite());
        values
    }

    fn check_finite(&mut self, tensor: String, finite: bool) {
        if !finite {
            self.failure = Some(BackboneError::NotFinite {
                path: self.tensors.path.clone(),
                tensor,
            });
        }
    }

    /// A matrix of which single rows will be read; those of a mapped file stay there.
    pub(super) fn table(&mut self, name: &str, rows: usize, dim: usize) -> Table {
        let mapped = match self.entry(name).map(|entry| &entry.data) {
            Some(Data::Mapped(map, range)) => Some((map.clone(), range.clone())),
            _ => None,
        };
        let Some((map, range)) = mapped else {
            return Table {
                dim,
                rows: Rows::Read(self.tensor(name, &[rows, dim])),
            };
        };
        let Some((_, kind, full)) = self.take(name, &[rows, dim]) else {
            return Table::default();
        };
        // A multiple of every value's size.
        let mut parts = map[range.clone()].chunks(1 << 20);
        let finite = |part: &[u8]| to_f32(kind, part).iter().all(|value| value.is_finite());
        let finite = parts.all(finite);
        map.release(range.clone());
        self.check_finite(full, finite);
        Table {
            dim,
            rows: Rows::Mapped(map, range, kind),
        }
    }

    /// The values of a tensor if there is one.
    pub(super) fn maybe(&mut self, name: &str, shape: &[usize]) -> Option<Vec<f32>> {
        self.has(name).then(|| self.tensor(name, shape))
    }

    /// `NAME.weight` and, unless it is missing, which means zeros, `NAME.bias`.
    pub(super) fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Linear {
        self.linear_of(name, &[outputs, inputs])
    }

    /// [`Reader::linear`] with a weight of this shape, the outputs first.
    pub(super) fn linear_of(&mut self, name: &str, shape: &[usize]) -> Linear {
        let outputs = shape.first().copied().unwrap_or(0);
        Linear {
            weight: self.values(&format!("{name}.weight"), shape),
            bias: self
                .maybe(&format!("{name}.bias"), &[outputs])
                .unwrap_or_else(|| vec![0.0; outputs]),
        }
    }

    /// `NAME.weight` and `NAME.bias`, both needed.
    pub(super) fn biased(&mut self, name: &str, outputs: usize, inputs: usize) -> Linear {
        Linear {
            weight: self.values(&format!("{name}.weight"), &[outputs, inputs]),
            bias: self.tensor(&format!("{name}.bias"), &[outputs]),
        }
    }

    pub(super) fn norm(&mut self, name: &str, dim: usize) -> NormWeights {
        NormWeights {
            weight: self.tensor(&format!("{name}.weight"), &[dim]),
            bias: self.tensor(&format!("{name}.bias"), &[dim]),
        }
    }

    /// Accepts tensors that are not needed and whose full names pass `known`; then every problem is an error.
    pub(super) fn finish(
        mut self,
        family: &'static str,
        known: impl Fn(&str) -> bool,
    ) -> Result<(), BackboneError> {
        let names = self.tensors.names();
        let extra = names.filter(|name| !self.taken.contains(*name) && !known(name));
        let extra: Vec<String> = extra
            .map(|name| format!("{name}: not part of this network"))
            .collect();
        self.problems.extend(extra);
        if !self.problems.is_empty() {
            return Err(BackboneError::Tensors {
                path: self.tensors.path.clone(),
                family,
                problems: self.problems,
            });
        }
        self.failure.map_or(Ok(()), Err)
    }
}

/// The values of a part of a mapped file.
fn mapped_values(map: &Arc<Mapped>, range: Range<usize>, kind: Float) -> Values {
    if matches!(kind, Float::F32)
        && let Some(values) = Values::mapped(map.clone(), range.clone())
    {
        return values;
    }
    let values = to_f32(kind, &map[range.clone()]);
    map.release(range);
    values.into()
}

/// Little-endian values.
fn to_f32(kind: Float, bytes: &[u8]) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (parts, _) = bytes.as_chunks::<N>();
        parts.iter().map(|part| value(*part)).collect()
    }
    match kind {
        Float::F16 => each(bytes, |x| f16::from_le_bytes(x).to_f32()),
        Float::BF16 => each(bytes, |x| bf16::from_le_bytes(x).to_f32()),
        Float::F32 => each(bytes, f32::from_le_bytes),
        Float::F64 => each(bytes, |x| f64::from_le_bytes(x) as f32),
    }
}
