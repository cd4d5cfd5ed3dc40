//! `ids-G.jsonl`: the id of every record, and which records do not count any more.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::manifest::Manifest;
use super::{IndexError, failed, form};
use epsilon_data::files;

/// A line of the ids' file.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Line {
    /// The id of the next record.
    Id(String),
    /// A record that does not count any more.
    Dead(u64),
}

pub(super) fn line(out: &mut Vec<u8>, text: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, text)?;
    out.push(b'\n');
    Ok(())
}

/// The ids of all records, as they stand in their file; they are read where they are asked for.
pub(super) struct Ids {
    path: PathBuf,
    text: Vec<u8>,
    /// Of every record: where its line begins and ends; nothing of a dead one.
    lines: Vec<Range<usize>>,
}

impl Ids {
    pub(super) fn read(folder: &Path, manifest: &Manifest) -> Result<Self, IndexError> {
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

    pub(super) fn is_living(&self, place: usize) -> bool {
        self.lines[place].start < self.lines[place].end
    }

    pub(super) fn living(&self) -> impl Iterator<Item = usize> {
        (0..self.lines.len()).filter(|place| self.is_living(*place))
    }

    /// The id of a record.
    pub(super) fn text(&self, place: usize) -> Result<Cow<'_, str>, IndexError> {
        let line = &self.text[self.lines[place].clone()];
        // Most hold nothing that has to be written otherwise.
        if let Ok(text) = serde_json::from_slice::<&str>(line) {
            return Ok(Cow::Borrowed(text));
        }
        let text: serde_json::Result<String> = serde_json::from_slice(line);
        match text {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(error) => Err(form(&self.path, error.to_string())),
        }
    }

    /// Where a photograph's living record is.
    pub(super) fn place(&self, id: &str) -> Result<Option<usize>, IndexError> {
        for place in self.living() {
            if self.text(place)? == id {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Where the living records are, by their ids.
    pub(super) fn places(&self) -> Result<HashMap<String, u64>, IndexError> {
        let mut places = HashMap::new();
        for place in self.living() {
            let id = self.text(place)?.into_owned();
            if let Some(first) = places.insert(id.clone(), place as u64) {
                let reason = format!("{id:?} is the id of the records {first} and {place}");
                return Err(form(&self.path, reason));
            }
        }
        Ok(places)
    }
}
