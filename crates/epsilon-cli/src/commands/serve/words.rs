//! Words of requests and their vectors. A file of word vectors can have gigabytes and is read through for words that are not
//! known yet; what was found is kept, up to a number of words.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use epsilon::labels::{LabelVectors, VectorFile, resolve_words};

use crate::commands::trained::Trained;

/// Words that are remembered; beyond it, all are forgotten.
const REMEMBERED: usize = 20_000;

/// The vectors of any words.
pub struct Words {
    own: LabelVectors,
    file: Option<VectorFile>,
    found: Mutex<HashMap<String, Vec<f32>>>,
}

impl Words {
    /// Those of a model: its own labels, unless the command line names a file, and those of the file.
    pub fn new(trained: &Trained) -> Self {
        let own = trained.model.own_labels();
        let mut found = HashMap::new();
        if !trained.names_vectors() {
            let rows = own.names().iter().enumerate();
            found.extend(rows.map(|(row, name)| (name.clone(), own.row(row).to_vec())));
        }
        Self {
            own,
            file: trained.vector_file(),
            found: Mutex::new(found),
        }
    }

    /// The model's own labels.
    pub fn own(&self) -> &LabelVectors {
        &self.own
    }

    /// The vectors of these words. One reader of the file at a time: others wait for it.
    pub fn vectors(&self, words: &[String]) -> anyhow::Result<LabelVectors> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = words.iter().filter(|word| !found.contains_key(*word));
        let unknown: Vec<String> = unknown.cloned().collect();
        if !unknown.is_empty() {
            let file = self.file.as_ref();
            let file = file.context("the server has no word vectors: start it with --vectors")?;
            let resolved = resolve_words(file, &unknown, &unknown)?.vectors;
            if found.len() + unknown.len() > REMEMBERED {
                found.retain(|word, _| words.contains(word));
            }
            let rows = resolved.names().iter().enumerate();
            found.extend(rows.map(|(row, name)| (name.clone(), resolved.row(row).to_vec())));
        }
        let values = words.iter().flat_map(|word| found[word].iter().copied());
        let width = self.own.dim();
        Ok(LabelVectors::new(words.to_vec(), width, values.collect())?)
    }
}
