//! `index.json`: what an index is, and how much of its other two files counts.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{IndexError, IndexInfo, failed, form};
use epsilon_data::files;

pub(super) const MANIFEST: &str = "index.json";

/// The version of its form: records with an anchor's row came later.
pub(super) fn version(info: &IndexInfo) -> u32 {
    1 + u32::from(info.classes.is_some())
}

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
        let (version, expected) = (manifest.version, version(&manifest.info));
        if version != expected {
            let reason =
                format!("format version {version}; this program reads version {expected} of it");
            return Err(form(&path, reason));
        }
        let records = manifest.records;
        let info = &manifest.info;
        if !info.fits() || records.checked_mul(info.record() as u64).is_none() {
            let IndexInfo { groups, width, .. } = info;
            let anchor = match info.classes {
                Some(classes) => format!(" and an anchor of {classes} classes"),
                None => String::new(),
            };
            let reason =
                format!("{records} photographs, each of {groups} vectors of width {width}{anchor}");
            return Err(form(&path, reason));
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
}
