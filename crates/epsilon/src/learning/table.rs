//! The table that a model is trained on, as `epsilon train` reads it: photographs with labels, some held out as test images.

use std::path::{Path, PathBuf};

use epsilon_data::dataset::Split;
use epsilon_data::dataset::table::{TableOptions, Writer};
use epsilon_data::files;

use super::error::io;
use super::gather::{Gathered, Known};
use super::scenes::Held;
use super::store::Extracted;
use super::vocabulary::{Vocabulary, has};
use super::{LearnError, Learner};

const TABLE: &str = "photographs.parquet";
const LABELS: &str = "labels.txt";

/// One photograph.
struct Row {
    id: String,
    held: bool,
    present: Vec<String>,
    absent: Vec<String>,
}

/// The photographs that have tokens, with what is known of their labels.
pub(super) struct Table {
    names: Vec<String>,
    rows: Vec<Row>,
    /// Whether of some photographs some labels are not known.
    three_valued: bool,
}

impl Table {
    pub(super) fn of(
        gathered: &Gathered,
        vocabulary: &Vocabulary,
        held: &Held,
        store: &Extracted,
    ) -> Self {
        let mut table = Self {
            names: vocabulary.names.clone(),
            rows: Vec::new(),
            three_valued: false,
        };
        for (known, &held) in gathered.photos.iter().zip(&held.out) {
            if store.tokens.row_of(&known.photo.id).is_some() {
                table.push(known, held, gathered, vocabulary);
            }
        }
        table
    }

    fn push(&mut self, known: &Known, held: bool, gathered: &Gathered, vocabulary: &Vocabulary) {
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for (key, name) in vocabulary.keys.iter().zip(&vocabulary.names) {
            match value(known, key, gathered.keywords.contains(key)) {
                1 => present.push(name.clone()),
                -1 => absent.push(name.clone()),
                _ => self.three_valued = true,
            }
        }
        self.rows.push(Row {
            id: known.photo.id.clone(),
            held,
            present,
            absent,
        });
    }

    /// Photographs that are trained on.
    pub(super) fn trained_on(&self) -> usize {
        self.rows.iter().filter(|row| !row.held).count()
    }

    /// Photographs that are held out.
    pub(super) fn held_out(&self) -> usize {
        self.rows.len() - self.trained_on()
    }

    /// Labels that are learnt.
    pub(super) fn labels(&self) -> usize {
        self.names.len()
    }

    /// Writes it, and the list of its labels, into a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<(), LearnError> {
        let list = folder.join(LABELS);
        let text: String = self.names.iter().map(|name| format!("{name}\n")).collect();
        files::write(&list, text.as_bytes()).map_err(io(&list))?;
        let path = folder.join(TABLE);
        let written = files::replace(&path, |file| {
            let mut table = Writer::new(file, self.three_valued).map_err(std::io::Error::other)?;
            for row in &self.rows {
                let split = match row.held {
                    true => Split::Test,
                    false => Split::Train,
                };
                let (present, absent) = (row.present.clone(), row.absent.clone());
                let pushed = table.push(&row.id, split, present, absent);
                pushed.map_err(std::io::Error::other)?;
            }
            table.finish().map_err(std::io::Error::other)
        });
        written.map_err(io(&path))
    }
}

/// Where a learner's table lies.
pub(super) fn options(learner: &Learner) -> TableOptions {
    let at = |name: &str| -> PathBuf { learner.folder.join(name) };
    TableOptions {
        table: at(TABLE),
        images: learner.photos.clone(),
        seen: at(LABELS),
        unseen: None,
        outside: false,
    }
}

/// +1 for a label that a photograph has, -1 for one that it has not, and 0 where nobody knows: a label that is the owner's word
/// alone was in nobody's mind who wrote keywords.
fn value(known: &Known, key: &str, is_keyword: bool) -> i8 {
    match has(known, key) {
        true => 1,
        false if known.absent.contains(key) || known.reviewed => -1,
        false if known.keyworded && is_keyword => -1,
        false => 0,
    }
}
