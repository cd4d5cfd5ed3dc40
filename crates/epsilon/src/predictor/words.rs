//! Vectors of any words: a model's own labels, and those of its file of word vectors. The file can have gigabytes and is read
//! through for words that are not known yet; what was found is kept, up to a number of words.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::PredictError;
use crate::model::Model;
use epsilon_data::labels::{LabelVectors, VectorFile, composed, resolve_words};

/// Words that are remembered; beyond it, all but those asked for are forgotten.
const REMEMBERED: usize = 20_000;

/// Finds the vectors of words for a model.
pub struct WordVectors {
    width: usize,
    file: Option<VectorFile>,
    known: Mutex<HashMap<String, Vec<f32>>>,
    /// One reader of the file at a time.
    reading: Mutex<()>,
}

impl WordVectors {
    /// Those of a model's own labels and of its recipe's file; or, where a file is given, those of this file alone.
    pub fn new(model: &Model, file: Option<VectorFile>) -> Self {
        let mut known = HashMap::new();
        if file.is_none() {
            let own = model.own_labels();
            let rows = own.names().iter().enumerate();
            known.extend(
                rows.map(|(row, name)| (composed(name).into_owned(), own.row(row).to_vec())),
            );
        }
        Self {
            width: model.card().dims().label_width,
            file: file.or_else(|| model.card().vector_file()),
            known: Mutex::new(known),
            reading: Mutex::new(()),
        }
    }

    /// The vectors of these words, in their order, under their [`composed`] names. Known words are found at once; the file is
    /// read by one caller at a time.
    ///
    /// # Errors
    /// [`PredictError::NoVectorFile`], [`PredictError::Labels`] for words without a vector and words given twice,
    /// [`PredictError::Model`] for a file of another width than the model's.
    pub fn find(&self, words: &[String]) -> Result<LabelVectors, PredictError> {
        let words: Vec<String> = words
            .iter()
            .map(|word| composed(word).into_owned())
            .collect();
        self.find_composed(&words)
    }

    fn find_composed(&self, words: &[String]) -> Result<LabelVectors, PredictError> {
        if let Some(vectors) = self.known_vectors(words) {
            return vectors;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown: Vec<String> = {
            let known = self.known();
            let unknown = words.iter().filter(|word| !known.contains_key(*word));
            unknown.cloned().collect()
        };
        // Empty where the reader before has found them.
        if let Some(first) = unknown.first() {
            let file = self.file.as_ref();
            let file = file.ok_or_else(|| PredictError::NoVectorFile {
                word: first.clone(),
            })?;
            let found = resolve_words(file, &unknown, &unknown)?.vectors;
            Model::check_width(self.width, found.dim())?;
            let mut known = self.known();
            if known.len() + unknown.len() > REMEMBERED {
                known.retain(|word, _| words.contains(word));
            }
            let rows = unknown.into_iter().enumerate();
            known.extend(rows.map(|(row, word)| (word, found.row(row).to_vec())));
        }
        // Who reads the file keeps the words asked for, and no other caller does meanwhile.
        self.known_vectors(words)
            .unwrap_or_else(|| self.find_composed(words))
    }

    /// The vectors of these words, if all of them are known.
    fn known_vectors(&self, words: &[String]) -> Option<Result<LabelVectors, PredictError>> {
        let known = self.known();
        let rows: Option<Vec<&Vec<f32>>> = words.iter().map(|word| known.get(word)).collect();
        let values = rows?.into_iter().flatten().copied().collect();
        let vectors = LabelVectors::new(words.to_vec(), self.width, values);
        Some(vectors.map_err(Into::into))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<f32>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
