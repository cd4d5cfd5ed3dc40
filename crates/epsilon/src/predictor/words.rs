//! Vectors of any words: a model's own labels, those of its file of word vectors, which may be the model's own file, or those that
//! a network's text tower makes. The file can have gigabytes, and so can the network: either is opened for the first word that is
//! not known. What was found is kept, up to a number of words.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::PredictError;
use super::source::Opened;
use crate::model::{Model, ModelError};
use epsilon_data::labels::{LabelVectors, VectorFile, WordTable, composed};
use epsilon_vision::backbone::{Download, TextTower};

/// Words that are remembered; beyond it, all but those asked for are forgotten.
const REMEMBERED: usize = 20_000;

/// Finds the vectors of words for a model.
pub struct WordVectors {
    width: usize,
    source: Source,
    /// Those of the model's own labels.
    own: HashMap<String, Vec<f32>>,
    found: Mutex<HashMap<String, Vec<f32>>>,
}

/// Where the vectors of words come from that are no labels of the model. One caller at a time asks it.
enum Source {
    /// From nowhere.
    Nothing,
    /// From a file or a text tower, which is opened when it is first needed.
    Named(Box<Named>),
    /// From nowhere: the tower stayed behind when this file was made, and those of its words are known.
    Listed(VectorFile),
}

/// A file of word vectors, or a network with a text tower.
struct Named {
    file: VectorFile,
    /// Whether the hub may be asked for the network.
    download: Download,
    /// SHA-256 of the weights that the network must have, where it is the model's own backbone.
    weights_sha256: Option<String>,
    opened: Mutex<Option<Opened>>,
}

/// Where a bundle takes its words from.
pub(super) enum Origin<'a> {
    /// There are but the model's own labels.
    Nothing,
    /// A file, of which any may be asked for.
    File(&'a VectorFile),
    /// A text tower, of which nothing but vectors of words can be kept.
    Tower(&'a VectorFile),
    /// A file of such vectors.
    Listed(&'a VectorFile),
}

impl Source {
    fn of(model: &Model, file: Option<VectorFile>, download: Download) -> Self {
        let Some(file) = file else {
            return Self::Nothing;
        };
        let card = model.card();
        let own = file.path == card.backbone_weights();
        Self::Named(Box::new(Named {
            weights_sha256: own.then(|| card.backbone().weights_sha256.clone()),
            file,
            download,
            opened: Mutex::default(),
        }))
    }
}

impl Named {
    /// The vectors of words, row-major `[words, width]`.
    fn vectors(
        &self,
        opened: &mut Option<Opened>,
        width: usize,
        words: &[String],
    ) -> Result<Vec<f32>, PredictError> {
        let source = match opened {
            Some(source) => source,
            none => {
                let source = Opened::open(&self.file, self.download)?;
                Model::check_width(width, source.width())?;
                if let (Some(found), Some(expected)) =
                    (source.weights_sha256(), &self.weights_sha256)
                    && found != expected
                {
                    return Err(PredictError::Model(ModelError::Mismatch {
                        what: "the text tower",
                        found: format!("of weights {found}"),
                        expected: format!("of the backbone's weights {expected}"),
                        remedy: "give the network that the model was trained with",
                    }));
                }
                none.insert(source)
            }
        };
        source.vectors(words)
    }
}

impl WordVectors {
    /// Those of a model's own labels and of its recipe's file of word vectors or text tower; or, where `file` names another, those
    /// of this one alone. `download` says whether the hub may be asked for a network.
    pub fn new(model: &Model, file: Option<VectorFile>, download: Download) -> Self {
        match file {
            Some(_) => Self {
                own: HashMap::new(),
                source: Source::of(model, file, download),
                ..Self::of_labels(model)
            },
            None => Self {
                source: Source::of(model, model.card().vector_file(), download),
                ..Self::of_labels(model)
            },
        }
    }

    /// Those of a model's own labels and of a file or a text tower, as it were the recipe's.
    pub(super) fn of_file(model: &Model, file: VectorFile, download: Download) -> Self {
        Self {
            source: Source::of(model, Some(file), download),
            ..Self::of_labels(model)
        }
    }

    /// Those of a model's own labels.
    pub(super) fn of_labels(model: &Model) -> Self {
        Self {
            width: model.card().dims().label_width,
            source: Source::Nothing,
            own: own_vectors(model),
            found: Mutex::default(),
        }
    }

    /// Those of a model's own labels and the words of a file, as they stand there, and no others.
    pub(super) fn of_list(model: &Model, file: VectorFile) -> Result<Self, PredictError> {
        let table = WordTable::first(&file, usize::MAX)?;
        Model::check_width(model.card().dims().label_width, table.dim())?;
        let mut words = Self::of_labels(model);
        for word in table.words() {
            let vector = table.get(word).unwrap_or_default();
            let word = composed(word).into_owned();
            words.own.entry(word).or_insert_with(|| vector.to_vec());
        }
        words.source = Source::Listed(file);
        Ok(words)
    }

    /// Those of a model's own labels and no others, for the file holds none.
    pub(super) fn of_empty_list(model: &Model, file: VectorFile) -> Self {
        Self {
            source: Source::Listed(file),
            ..Self::of_labels(model)
        }
    }

    /// Where the vectors of words come from that are no labels of the model.
    pub(super) fn origin(&self) -> Origin<'_> {
        match &self.source {
            Source::Nothing => Origin::Nothing,
            Source::Named(named) if TextTower::is_named(&named.file.path) => {
                Origin::Tower(&named.file)
            }
            Source::Named(named) => Origin::File(&named.file),
            Source::Listed(file) => Origin::Listed(file),
        }
    }

    /// Those of a model's own labels and of a file or a text tower that is open already.
    pub(super) fn of_opened(model: &Model, file: VectorFile, opened: Opened) -> Self {
        Self {
            source: Source::Named(Box::new(Named {
                file,
                download: Download::Refused,
                weights_sha256: None,
                opened: Mutex::new(Some(opened)),
            })),
            ..Self::of_labels(model)
        }
    }

    /// The vectors of these words, in their order, under their [`composed`] names. Known words are found at once; the source of
    /// others is asked by one caller at a time, and opened by the first: a file is read through, a network's text tower loaded.
    ///
    /// # Errors
    /// [`PredictError::NoVectorFile`], [`PredictError::NotListed`], [`PredictError::Labels`] for words without a vector and words given twice,
    /// [`PredictError::Model`] for vectors of another width than the model's, [`PredictError::NoTextTower`] and
    /// [`PredictError::TextTower`] for a text tower that cannot be had, and for words that its tokenizer cannot take.
    pub fn find(&self, words: &[String]) -> Result<LabelVectors, PredictError> {
        let words = composed_words(words);
        self.find_composed(&words)
    }

    fn find_composed(&self, words: &[String]) -> Result<LabelVectors, PredictError> {
        if let Some(vectors) = self.known_composed(words) {
            return vectors;
        }
        match &self.source {
            Source::Nothing => {
                if let Some(word) = self.unknown(words).into_iter().next() {
                    return Err(PredictError::NoVectorFile { word });
                }
            }
            Source::Listed(file) => {
                if let Some(word) = self.unknown(words).into_iter().next() {
                    return Err(PredictError::NotListed {
                        path: file.path.clone(),
                        word,
                        held: self.own.len(),
                    });
                }
            }
            Source::Named(named) => {
                let mut asking = named.opened.lock().unwrap_or_else(PoisonError::into_inner);
                // Empty where the caller before has found them.
                let unknown = self.unknown(words);
                if !unknown.is_empty() {
                    let values = named.vectors(&mut asking, self.width, &unknown)?;
                    self.remember(words, unknown, &values);
                }
            }
        }
        // Another caller's words may have come in place of these meanwhile.
        self.known_composed(words)
            .unwrap_or_else(|| self.find_composed(words))
    }

    /// Those words that have no vector yet.
    fn unknown(&self, words: &[String]) -> Vec<String> {
        let found = self.found();
        let unknown = words.iter();
        let unknown =
            unknown.filter(|word| !self.own.contains_key(*word) && !found.contains_key(*word));
        unknown.cloned().collect()
    }

    /// Keeps the vectors, row-major `[new, width]`, of words that were asked for among `words`.
    fn remember(&self, words: &[String], new: Vec<String>, values: &[f32]) {
        let mut found = self.found();
        if found.len() + new.len() > REMEMBERED {
            found.retain(|word, _| words.contains(word));
        }
        let rows = values.chunks_exact(self.width).map(<[f32]>::to_vec);
        found.extend(new.into_iter().zip(rows));
    }

    /// The vectors of these words, if all of them are known: labels of the model, or words that were found before. Their source
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

fn own_vectors(model: &Model) -> HashMap<String, Vec<f32>> {
    let labels = model.own_labels();
    let rows = labels.names().iter().enumerate();
    rows.map(|(row, name)| (composed(name).into_owned(), labels.row(row).to_vec()))
        .collect()
}

fn composed_words(words: &[String]) -> Vec<String> {
    let words = words.iter();
    words.map(|word| composed(word).into_owned()).collect()
}
