//! `index.json`: what an index is, and how much of its other two files counts.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{IndexError, IndexInfo, failed, form};
use epsilon_data::files;
use epsilon_kernels::scan::LANES;

pub(super) const VERSION: u32 = 1;
pub(super) const MANIFEST: &str = "index.json";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    #[serde(flatten)]
    pub(super) info: IndexInfo,
    pub(super) generation: u64,
    /// Records that count.
    pub(super) records: u64,
    /// Bytes of the ids' file that count.
    pub(super) ids_bytes: u64,
}

impl Manifest {
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, IndexError> {
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

    pub(super) fn write(&self, folder: &Path) -> Result<(), IndexError> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec(self).map_err(|error| form(&path, error.to_string()))?;
        files::write(&path, &text).map_err(|error| failed(&path, error))
    }

    pub(super) fn rows(&self, folder: &Path) -> PathBuf {
        folder.join(format!("rows-{}.bin", self.generation))
    }

    pub(super) fn ids(&self, folder: &Path) -> PathBuf {
        folder.join(format!("ids-{}.jsonl", self.generation))
    }

    pub(super) fn record(&self) -> usize {
        record_bytes(self.info.groups, self.info.width)
    }
}

/// Bytes of a photograph's record.
fn record_bytes(groups: usize, width: usize) -> usize {
    groups * (4 + width.next_multiple_of(LANES))
}
