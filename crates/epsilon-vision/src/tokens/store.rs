//! The token store: a folder of safetensors shards with `tokens` [n, N, D] and `global` [n, D or its own width], read
//! through memory maps, and a `manifest.json` that says what made them. Python's safetensors reads the shards.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use epsilon_data::files;
use epsilon_data::files::{Mapped, sha256};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::backbone::{BackboneInfo, DifferenceKind};

/// Version of the folder's layout; another one is refused.
pub(super) const VERSION: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
/// Present while an extraction is not finished: what `manifest.json` will hold, one line a shard.
pub(super) const JOURNAL: &str = "journal.jsonl";

/// How a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// IEEE half precision, 2 bytes: about three decimal digits, up to 65,504.
    F16,
    /// IEEE single precision, 4 bytes.
    F32,
}

impl TokenType {
    fn safetensors(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// What a store was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the folder's layout.
    pub version: u32,
    /// The network, the hash of its weights, and the preprocessing.
    pub backbone: BackboneInfo,
    /// How a value is kept.
    pub dtype: TokenType,
    /// The most images of a shard. All but the last hold as many, and in a merged store the last one of each part.
    pub shard_size: usize,
    /// SHA-256 of the ids of all images asked for, each followed by a line feed; failed ones included.
    pub items_sha256: String,
    /// Set where the store holds a part of a larger list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartOf>,
}

impl Header {
    /// Whether the tokens of a store in `dir` with this header are those that `backbone` makes.
    pub(super) fn check_backbone(
        &self,
        dir: &Path,
        backbone: &BackboneInfo,
    ) -> Result<(), StoreError> {
        let Some(difference) = self.backbone.difference(backbone) else {
            return Ok(());
        };
        let what = match difference.kind {
            DifferenceKind::Weights => "backbone",
            DifferenceKind::Preprocess => "preprocessing",
            DifferenceKind::Precision => "precision",
            DifferenceKind::Shape => "token shape",
        };
        Err(StoreError::Other {
            dir: dir.into(),
            what,
            found: difference.found,
            wanted: difference.wanted,
        })
    }

    /// Whether a store in `dir` with this header may go on as one with the header `wanted`.
    pub(super) fn check_same(&self, dir: &Path, wanted: &Self) -> Result<(), StoreError> {
        let other = |what, found, wanted| {
            Err(StoreError::Other {
                dir: dir.into(),
                what,
                found,
                wanted,
            })
        };
        self.check_backbone(dir, &wanted.backbone)?;
        let part = |header: &Self| match &header.part {
            Some(part) => format!("part {} of {}", part.index, part.of),
            None => "all of them".into(),
        };
        if self.dtype != wanted.dtype {
            let [found, wanted] = [self, wanted].map(|header| format!("{:?}", header.dtype));
            other("value type", found, wanted)
        } else if self.shard_size != wanted.shard_size {
            let [found, wanted] = [self, wanted].map(|header| header.shard_size.to_string());
            other("shard size", found, wanted)
        } else if self.part != wanted.part {
            other("part of the images", part(self), part(wanted))
        } else if self.items_sha256 != wanted.items_sha256 {
            let found = format!("hash {}", self.items_sha256);
            other("list of images", found, wanted.items_sha256.clone())
        } else {
            Ok(())
        }
    }
}

/// Which part of a list of images a store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOf {
    /// Which one, from 1.
    pub index: usize,
    /// Into how many the list was cut.
    pub of: usize,
    /// `items_sha256` of the whole list.
    pub whole_sha256: String,
}

/// One file of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// File name within the folder.
    pub file: String,
    /// Number of images.
    pub rows: usize,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// An image without tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The image's id.
    pub id: String,
    /// Why it could not be read.
    pub reason: String,
}

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the store was made with.
    #[serde(flatten)]
    pub header: Header,
    /// The files, in order.
    pub shards: Vec<Shard>,
    /// Images that could not be read.
    pub failed: Vec<Failure>,
    /// Ids of the images that have tokens, in the order of the rows of the shards.
    pub ids: Vec<String>,
}

/// Why a token store cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store in the folder.
    #[error("{}: no token store there (manifest.json is missing)", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// An extraction into the folder was begun and not finished.
    #[error("{}: its extraction was not finished: run it again, it goes on where it stopped", dir.display())]
    Unfinished {
        /// The folder.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file that the manifest lists is missing.
    #[error("{}: this shard of the token store is missing: extract into an empty folder again", path.display())]
    MissingShard {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store was made with something else than what is asked for now.
    #[error("{}: this token store was made with another {what} ({found}, not {wanted}): choose another folder", dir.display())]
    Other {
        /// The folder.
        dir: PathBuf,
        /// What differs.
        what: &'static str,
        /// As it is in the store.
        found: String,
        /// As it is wanted.
        wanted: String,
    },
}

/// A finished token store, memory-mapped. Its files must not be changed while it is open: see
/// [`Mapped`](epsilon_data::files::Mapped).
///
/// ```
#[doc = include_str!("example.rs")]
/// ```
#[derive(Debug)]
pub struct TokenStore {
    dir: PathBuf,
    manifest: Manifest,
    rows: HashMap<String, usize>,
    shards: Vec<MappedShard>,
}

/// A shard in memory, its first row, and where its tensors lie.
#[derive(Debug)]
struct MappedShard {
    map: Mapped,
    first: usize,
    tokens: usize,
    global: usize,
}

impl TokenStore {
    /// Opens the store in `dir`. The manifest and the shapes and types of all shards are checked; their content is
    /// checked by [`TokenStore::verify`].
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let manifest = read_manifest(dir)?;
        let damaged = |reason: String| StoreError::Damaged {
            path: dir.join(MANIFEST),
            reason,
        };
        let rows = rows(&manifest).map_err(damaged)?;
        let mut first = 0;
        let mut shards = Vec::with_capacity(manifest.shards.len());
        for shard in &manifest.shards {
            shards.push(open_shard(dir, &manifest.header, shard, first)?);
            first += shard.rows;
        }
        Ok(Self {
            dir: dir.into(),
            manifest,
            rows,
            shards,
        })
    }

    /// The folder it is in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.manifest.ids.len()
    }

    /// Whether there is no image in it.
    pub fn is_empty(&self) -> bool {
        self.manifest.ids.is_empty()
    }

    /// Tokens of an image, `N`.
    pub fn tokens_per_image(&self) -> usize {
        self.manifest.header.backbone.tokens
    }

    /// Width of a token, `D`.
    pub fn dim(&self) -> usize {
        self.manifest.header.backbone.dim
    }

    /// Width of a global vector.
    pub fn global_dim(&self) -> usize {
        self.manifest.header.backbone.global_dim()
    }

    /// Ids of the images, one a row.
    pub fn ids(&self) -> &[String] {
        &self.manifest.ids
    }

    /// What `manifest.json` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The row of an image.
    pub fn row_of(&self, id: &str) -> Option<usize> {
        self.rows.get(id).copied()
    }

    /// Reads the tokens of one image, `[N, D]`.
    ///
    /// # Panics
    ///
    /// When there is no such row or `out` has another length than `N * D`.
    pub fn read_tokens(&self, row: usize, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            self.tokens_per_image() * self.dim(),
            "one image is [N, D]"
        );
        self.read(row, |shard| shard.tokens, out);
    }

    /// Reads the global vector of one image, [`TokenStore::global_dim`] values.
    ///
    /// # Panics
    ///
    /// When there is no such row or `out` has another length.
    pub fn read_global(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.global_dim(), "one global vector");
        self.read(row, |shard| shard.global, out);
    }

    fn read(&self, row: usize, tensor: impl Fn(&MappedShard) -> usize, out: &mut [f32]) {
        assert!(row < self.len(), "row {row} of {}", self.len());
        let dtype = self.manifest.header.dtype;
        let shard = self.shards.partition_point(|shard| shard.first <= row) - 1;
        let shard = &self.shards[shard];
        let length = out.len() * dtype.bytes();
        let from = tensor(shard) + (row - shard.first) * length;
        let bytes = &shard.map[from..from + length];
        // `open_shard` has checked the alignment.
        match dtype {
            TokenType::F16 => bytemuck::cast_slice::<u8, f16>(bytes).convert_to_f32_slice(out),
            TokenType::F32 => out.copy_from_slice(bytemuck::cast_slice(bytes)),
        }
    }

    /// Reads every shard and compares its checksum with the manifest's.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] names the first shard that differs.
    pub fn verify(&self) -> Result<(), StoreError> {
        (0..self.shards.len()).try_for_each(|shard| self.verify_shard(shard))
    }

    /// As [`TokenStore::verify`], one of the shards in the manifest's order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`].
    ///
    /// # Panics
    ///
    /// When there is no such shard.
    pub fn verify_shard(&self, shard: usize) -> Result<(), StoreError> {
        let (shard, mapped) = (&self.manifest.shards[shard], &self.shards[shard]);
        if sha256(&mapped.map) != shard.sha256 {
            return Err(StoreError::Damaged {
                path: self.dir.join(&shard.file),
                reason: "its checksum is not the manifest's: extract into an empty folder again"
                    .into(),
            });
        }
        Ok(())
    }
}

/// Name of a shard's file.
pub(super) fn shard_name(index: usize) -> String {
    format!("tokens-{index:05}.safetensors")
}

pub(super) fn read_manifest(dir: &Path) -> Result<Manifest, StoreError> {
    let path = dir.join(MANIFEST);
    let text = files::read(&path, u64::MAX).map_err(|reason| match reason.kind() {
        ErrorKind::NotFound if dir.join(JOURNAL).exists() => {
            StoreError::Unfinished { dir: dir.into() }
        }
        ErrorKind::NotFound => StoreError::Missing { dir: dir.into() },
        _ => StoreError::Read {
            path: path.clone(),
            reason,
        },
    })?;
    check_version(&path, &text)?;
    serde_json::from_slice(&text).map_err(|error| StoreError::Damaged {
        path,
        reason: format!("not the manifest of a token store: {error}"),
    })
}

/// Refuses another version before anything else of it is interpreted.
fn check_version(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let damaged = |reason| StoreError::Damaged {
        path: path.into(),
        reason,
    };
    let found: Versioned = serde_json::from_slice(text)
        .map_err(|error| damaged(format!("not the manifest of a token store: {error}")))?;
    if found.version == VERSION {
        return Ok(());
    }
    Err(damaged(format!(
        "token store of version {}, this program reads version {VERSION}: extract into an empty folder again",
        found.version
    )))
}

/// Checks that ids and shards belong together, and gives the row of every id.
fn rows(manifest: &Manifest) -> Result<HashMap<String, usize>, String> {
    let Manifest {
        header,
        shards,
        ids,
        ..
    } = manifest;
    if header.backbone.tokens == 0
        || header.backbone.dim == 0
        || header.backbone.global == Some(0)
        || header.shard_size == 0
    {
        return Err("tokens, dim and shard_size must be above zero".into());
    }
    let global = header.backbone.global_dim();
    if let Some(classes) = header.backbone.classes
        && classes != global
    {
        return Err(format!(
            "{classes} classes, but global vectors of {global} values"
        ));
    }
    for (index, shard) in shards.iter().enumerate() {
        let fits = (1..=header.shard_size).contains(&shard.rows);
        if !fits || shard.file != shard_name(index) {
            return Err(format!(
                "shard {index} is {} with {} images, expected {} with 1 to {}",
                shard.file,
                shard.rows,
                shard_name(index),
                header.shard_size
            ));
        }
    }
    let held = shards
        .iter()
        .try_fold(0usize, |sum, shard| sum.checked_add(shard.rows))
        .ok_or("the shards hold more images than fit in memory")?;
    if held != ids.len() {
        return Err(format!(
            "{} shards hold {held} images, {} are listed",
            shards.len(),
            ids.len()
        ));
    }
    let mut rows = HashMap::with_capacity(ids.len());
    for (row, id) in ids.iter().enumerate() {
        if rows.insert(id.clone(), row).is_some() {
            return Err(format!("the id {id} is there twice"));
        }
    }
    Ok(rows)
}

fn open_shard(
    dir: &Path,
    header: &Header,
    shard: &Shard,
    first: usize,
) -> Result<MappedShard, StoreError> {
    let path = dir.join(&shard.file);
    let failed = |reason: io::Error| match reason.kind() {
        ErrorKind::NotFound => StoreError::MissingShard { path: path.clone() },
        _ => StoreError::Read {
            path: path.clone(),
            reason,
        },
    };
    let map = Mapped::open(&path).map_err(failed)?;
    let BackboneInfo { tokens, dim, .. } = header.backbone;
    let place = |name: &str, shape: &[usize]| {
        find_tensor(&map, name, header.dtype, shape).map_err(|reason| StoreError::Damaged {
            path: path.clone(),
            reason,
        })
    };
    let (tokens, global) = (
        place("tokens", &[shard.rows, tokens, dim])?,
        place("global", &[shard.rows, header.backbone.global_dim()])?,
    );
    Ok(MappedShard {
        map,
        first,
        tokens,
        global,
    })
}

/// Where the bytes of a tensor begin in a safetensors file.
fn find_tensor(
    file: &[u8],
    name: &str,
    dtype: TokenType,
    shape: &[usize],
) -> Result<usize, String> {
    let tensors = SafeTensors::deserialize(file)
        .map_err(|error| format!("not a complete safetensors file: {error}"))?;
    let tensor = tensors.tensor(name).map_err(|error| error.to_string())?;
    let wanted = dtype.safetensors();
    if tensor.shape() != shape || tensor.dtype() != wanted {
        let (found, kind) = (tensor.shape(), tensor.dtype());
        return Err(format!(
            "{name} is {kind} {found:?}, expected {wanted} {shape:?}"
        ));
    }
    let start = tensor.data().as_ptr().addr() - file.as_ptr().addr();
    if !start.is_multiple_of(dtype.bytes()) {
        return Err(format!(
            "{name} does not begin on a boundary of {} bytes",
            dtype.bytes()
        ));
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use half::f16;
    use proptest::prelude::*;
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::image::{Fit, Preprocess};

    fn manifest() -> Manifest {
        Manifest {
            header: Header {
                version: VERSION,
                backbone: BackboneInfo {
                    name: "net".into(),
                    weights_sha256: "ab".into(),
                    weights_key: None,
                    preprocess: Preprocess {
                        size: 32,
                        fit: Fit::Squash,
                        filter: crate::image::Filter::Bicubic,
                        mean: [0.485, 0.456, 0.406],
                        std: [0.229, 0.224, 0.225],
                    },
                    tokens: 2,
                    dim: 3,
                    grid: (1, 2),
                    global: None,
                    classes: None,
                    projected: false,
                    precision: Default::default(),
                },
                dtype: TokenType::F16,
                shard_size: 2,
                items_sha256: String::new(),
                part: None,
            },
            shards: Vec::new(),
            failed: Vec::new(),
            ids: ["a", "b", "c"].map(String::from).to_vec(),
        }
    }

    /// A store of three images in two shards; value `i` of the tokens is `i`, of the global vectors `-i`.
    fn write(dir: &Path) -> Manifest {
        let mut manifest = manifest();
        for (index, rows) in [2usize, 1].into_iter().enumerate() {
            let half = |values: std::ops::Range<usize>, sign: f32| -> Vec<u8> {
                values
                    .flat_map(|i| f16::from_f32(sign * i as f32).to_le_bytes())
                    .collect()
            };
            let tokens = half(index * 12..index * 12 + rows * 6, 1.0);
            let global = half(index * 6..index * 6 + rows * 3, -1.0);
            let bytes = safetensors::serialize(
                [
                    (
                        "tokens",
                        TensorView::new(Dtype::F16, vec![rows, 2, 3], &tokens).unwrap(),
                    ),
                    (
                        "global",
                        TensorView::new(Dtype::F16, vec![rows, 3], &global).unwrap(),
                    ),
                ],
                None,
            )
            .unwrap();
            fs::write(dir.join(shard_name(index)), &bytes).unwrap();
            manifest.shards.push(Shard {
                file: shard_name(index),
                rows,
                sha256: sha256(&bytes),
            });
        }
        put(dir, &manifest);
        manifest
    }

    fn put(dir: &Path, manifest: &Manifest) {
        fs::write(dir.join(MANIFEST), serde_json::to_vec(manifest).unwrap()).unwrap();
    }

    fn message(dir: &Path) -> String {
        TokenStore::open(dir).unwrap_err().to_string()
    }

    #[test]
    fn rows_run_through_the_shards() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = write(dir.path());
        let store = TokenStore::open(dir.path()).unwrap();
        assert_eq!(*store.manifest(), manifest);
        let (mut tokens, mut global) = ([0.0; 6], [0.0; 3]);
        store.read_tokens(1, &mut tokens);
        assert_eq!(tokens, [6., 7., 8., 9., 10., 11.]);
        store.read_tokens(2, &mut tokens);
        assert_eq!(tokens, [12., 13., 14., 15., 16., 17.]);
        store.read_global(2, &mut global);
        assert_eq!(global, [-6., -7., -8.]);
    }

    #[test]
    #[should_panic(expected = "row 3 of 3")]
    fn a_row_beyond_the_end_panics() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        TokenStore::open(dir.path())
            .unwrap()
            .read_tokens(3, &mut [0.0; 6]);
    }

    #[test]
    fn a_folder_without_a_store() {
        let dir = tempfile::tempdir().unwrap();
        assert!(message(dir.path()).contains("no token store there"));
        fs::write(dir.path().join(JOURNAL), "").unwrap();
        assert!(message(dir.path()).contains("not finished"));
        fs::write(dir.path().join(MANIFEST), "words").unwrap();
        assert!(message(dir.path()).contains("not the manifest of a token store"));
        fs::write(dir.path().join(MANIFEST), r#"{"version": 9}"#).unwrap();
        assert!(message(dir.path()).contains("version 9"));
    }

    #[test]
    fn shards_that_do_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let good = write(dir.path());
        let spoil = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = good.clone();
            change(&mut manifest);
            put(dir.path(), &manifest);
            message(dir.path())
        };
        assert!(spoil(&|m| m.header.backbone.tokens = 4).contains("tokens is F16 [2, 2, 3]"));
        assert!(spoil(&|m| m.header.dtype = TokenType::F32).contains("expected F32"));
        assert!(spoil(&|m| m.header.shard_size = 0).contains("above zero"));
        assert!(spoil(&|m| m.ids.push("d".into())).contains("hold 3 images, 4 are listed"));
        assert!(spoil(&|m| m.shards[1].rows = 3).contains("with 3 images, expected"));
        assert!(spoil(&|m| m.ids[2] = "a".into()).contains("the id a is there twice"));
        assert!(
            spoil(&|m| m.shards[1].file = "../../passwd".into())
                .contains("shard 1 is ../../passwd")
        );
        assert!(spoil(&|m| m.shards.truncate(1)).contains("1 shards hold 2 images, 3 are listed"));

        put(dir.path(), &good);
        let path = dir.path().join(shard_name(1));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(
            message(dir.path())
                .contains("tokens-00001.safetensors: not a complete safetensors file")
        );
        fs::write(&path, "").unwrap();
        TokenStore::open(dir.path()).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert!(
            message(dir.path())
                .contains("tokens-00001.safetensors: this shard of the token store is missing")
        );
    }

    #[test]
    fn a_changed_value_is_found() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        TokenStore::open(dir.path()).unwrap().verify().unwrap();
        let path = dir.path().join(shard_name(0));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = TokenStore::open(dir.path()).unwrap().verify().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("tokens-00000.safetensors: its checksum"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn damage_never_panics(file in 0usize..3, position in 0usize..4000, value: u8) {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path());
            let path = dir.path().join([MANIFEST.into(), shard_name(0), shard_name(1)][file].clone());
            let mut bytes = fs::read(&path).unwrap();
            let position = position % bytes.len();
            bytes[position] = value;
            fs::write(&path, bytes).unwrap();
            if let Ok(store) = TokenStore::open(dir.path()) {
                let mut tokens = vec![0.0; store.tokens_per_image() * store.dim()];
                for row in 0..store.len() {
                    store.read_tokens(row, &mut tokens);
                }
                let _ = store.verify();
            }
        }
    }
}
