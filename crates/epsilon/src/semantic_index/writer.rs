//! Adding photographs to an index and taking them out, so that a reader and a killed writer never see half of something.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::ids::{Ids, Line, line};
use super::manifest::{MANIFEST, Manifest, version};
use super::search::Index;
use super::{IndexError, IndexInfo, failed, form};
use epsilon_data::files;

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
                version: version(info),
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
        let rows = manifest.records * manifest.info.record() as u64;
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
        let next = manifest.generation.checked_add(1);
        manifest.generation = next.ok_or_else(|| {
            let reason = format!("generation {}, the last there can be", manifest.generation);
            form(&self.folder.join(MANIFEST), reason)
        })?;
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

    /// Adds a photograph's [semantic vectors](crate::model::SemanticVectors) `[M, d_w]`, with an anchor `p [classes]` and the
    /// constant behind them, in place of those that it has.
    ///
    /// # Errors
    /// [`IndexError::Vectors`] for another number of values, or values that are not finite.
    pub fn push(&mut self, id: &str, values: &[f32]) -> Result<(), IndexError> {
        let info = &self.manifest.info;
        if values.len() != info.values() {
            let anchor = match info.classes {
                Some(classes) => format!(" and {classes} of an anchor with a constant"),
                None => String::new(),
            };
            return Err(IndexError::Vectors(format!(
                "{id}: {} values, not {} vectors of width {}{anchor}",
                values.len(),
                info.groups,
                info.width
            )));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(IndexError::Vectors(format!(
                "{id}: its vectors are not finite"
            )));
        }
        self.new_rows.extend(info.bytes_of(values));
        self.remove(id);
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
        let rows = before.records * before.info.record() as u64;
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
