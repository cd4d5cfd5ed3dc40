//! Words of requests and their vectors. A file of word vectors can have gigabytes and is read through for words that are not
//! known yet; what was found is kept, up to a number of words.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use epsilon::labels::{LabelVectors, VectorFile, resolve_words};

use crate::commands::trained::Trained;

/// Words that are remembered; beyond it, all are forgotten.
const REMEMBERED: usize = 20_000;

/// The vectors of any words.
pub struct Words {
    own: Arc<LabelVectors>,
    file: Option<VectorFile>,
    found: Mutex<HashMap<String, Vec<f32>>>,
    /// One reader of the file at a time.
    reading: Mutex<()>,
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
            own: Arc::new(own),
            file: trained.vector_file(),
            found: Mutex::new(found),
            reading: Mutex::new(()),
        }
    }

    /// The model's own labels.
    pub fn own(&self) -> &Arc<LabelVectors> {
        &self.own
    }

    /// The vectors of these words. Who asks for known words waits for nobody; others wait for one reader of the file at a time.
    pub fn vectors(&self, words: &[String]) -> anyhow::Result<LabelVectors> {
        if let Some(known) = self.known(words) {
            return known;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // The reader before may have found them.
        if let Some(known) = self.known(words) {
            return known;
        }
        let file = self.file.as_ref();
        let file = file.context("the server has no word vectors: start it with --vectors")?;
        let unknown: Vec<String> = {
            let found = self.found();
            let unknown = words.iter().filter(|word| !found.contains_key(*word));
            unknown.cloned().collect()
        };
        let resolved = resolve_words(file, &unknown, &unknown)?.vectors;
        let mut found = self.found();
        if found.len() + unknown.len() > REMEMBERED {
            found.retain(|word, _| words.contains(word));
        }
        let rows = unknown.into_iter().enumerate();
        found.extend(rows.map(|(row, word)| (word, resolved.row(row).to_vec())));
        drop(found);
        self.known(words)
            .context("words were forgotten at once: ask again")?
    }

    /// The vectors of these words, if all of them are known.
    fn known(&self, words: &[String]) -> Option<anyhow::Result<LabelVectors>> {
        let found = self.found();
        let rows: Option<Vec<&Vec<f32>>> = words.iter().map(|word| found.get(word)).collect();
        let values = rows?.into_iter().flatten().copied().collect();
        let vectors = LabelVectors::new(words.to_vec(), self.own.dim(), values);
        Some(vectors.map_err(Into::into))
    }

    fn found(&self) -> MutexGuard<'_, HashMap<String, Vec<f32>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
