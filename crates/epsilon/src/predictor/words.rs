//! Vectors of any words: a model's own labels, and those of its file of word vectors. The file can have gigabytes: it is read
//! through for the first word that is not known, and what was found since is kept, up to a number of words.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::PredictError;
use crate::model::Model;
use epsilon_data::labels::{LabelVectors, VectorFile, VectorIndex, composed};

/// Words of the file that are remembered; beyond it, all but those asked for are forgotten.
const REMEMBERED: usize = 20_000;

/// Finds the vectors of words for a model.
pub struct WordVectors {
    width: usize,
    file: Option<VectorFile>,
    /// Those of the model's own labels.
    own: HashMap<String, Vec<f32>>,
    found: Mutex<HashMap<String, Vec<f32>>>,
    /// Made when it is first needed; one caller at a time looks words up.
    index: Mutex<Option<VectorIndex>>,
}

impl WordVectors {
    /// Those of a model's own labels and of its recipe's file; or, where a file is given, those of this file alone.
    pub fn new(model: &Model, file: Option<VectorFile>) -> Self {
        let mut own = HashMap::new();
        if file.is_none() {
            let labels = model.own_labels();
            let rows = labels.names().iter().enumerate();
            own.extend(
                rows.map(|(row, name)| (composed(name).into_owned(), labels.row(row).to_vec())),
            );
        }
        Self {
            width: model.card().dims().label_width,
            file: file.or_else(|| model.card().vector_file()),
            own,
            found: Mutex::default(),
            index: Mutex::default(),
        }
    }

    /// The vectors of these words, in their order, under their [`composed`] names. Known words are found at once; the file is
    /// asked by one caller at a time, and read through by the first.
    ///
    /// # Errors
    /// [`PredictError::NoVectorFile`], [`PredictError::Labels`] for words without a vector and words given twice,
    /// [`PredictError::Model`] for a file of another width than the model's.
    pub fn find(&self, words: &[String]) -> Result<LabelVectors, PredictError> {
        let words = composed_words(words);
        self.find_composed(&words)
    }

    fn find_composed(&self, words: &[String]) -> Result<LabelVectors, PredictError> {
        if let Some(vectors) = self.known_composed(words) {
            return vectors;
        }
        let mut asking = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown: Vec<String> = {
            let found = self.found();
            let unknown = words.iter();
            let unknown =
                unknown.filter(|word| !self.own.contains_key(*word) && !found.contains_key(*word));
            unknown.cloned().collect()
        };
        // Empty where the caller before has found them.
        if let Some(first) = unknown.first() {
            let file = self.file.as_ref();
            let file = file.ok_or_else(|| PredictError::NoVectorFile {
                word: first.clone(),
            })?;
            let index = match &mut *asking {
                Some(index) => index,
                none => none.insert(VectorIndex::read(file)?),
            };
            let vectors = index.resolve(&unknown)?.vectors;
            Model::check_width(self.width, vectors.dim())?;
            let mut found = self.found();
            if found.len() + unknown.len() > REMEMBERED {
                found.retain(|word, _| words.contains(word));
            }
            let rows = unknown.into_iter().enumerate();
            found.extend(rows.map(|(row, word)| (word, vectors.row(row).to_vec())));
        }
        drop(asking);
        // Another caller's words may have come in place of these meanwhile.
        self.known_composed(words)
            .unwrap_or_else(|| self.find_composed(words))
    }

    /// The vectors of these words, if all of them are known: labels of the model, or words that were found before. The file
    /// is not asked.
    ///
    /// # Errors
    /// [`PredictError::Labels`] for words given twice.
    pub fn known(&self, words: &[String]) -> Option<Result<LabelVectors, PredictError>> {
        self.known_composed(&composed_words(words))
    }

    fn known_composed(&self, words: &[String]) -> Option<Result<LabelVectors, PredictError>> {
        let found = self.found();
        let rows = words.iter();
        let rows: Option<Vec<&Vec<f32>>> = rows
            .map(|word| self.own.get(word).or_else(|| found.get(word)))
            .collect();
        let values = rows?.into_iter().flatten().copied().collect();
        drop(found);
        let vectors = LabelVectors::new(words.to_vec(), self.width, values);
        Some(vectors.map_err(Into::into))
    }

    fn found(&self) -> MutexGuard<'_, HashMap<String, Vec<f32>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn composed_words(words: &[String]) -> Vec<String> {
    let words = words.iter();
    words.map(|word| composed(word).into_owned()).collect()
}
