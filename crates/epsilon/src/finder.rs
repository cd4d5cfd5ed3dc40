//! Finds photographs of a tagged library: those that match any words best, are like one of them, or meet criteria.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::device::{DeviceError, device};
use crate::library::{
    Catalog, DateError, Filter, Item, Library, LibraryError, Match, Order, Tag, dates, now,
    photo_ids,
};
use crate::model::{Model, ModelError};
use crate::predictor::{PredictError, Predictor, WordVectors};
use crate::semantic_index::{Index, IndexError, Searchers};
use epsilon_data::labels::VectorFile;
use epsilon_data::paths::{self, shown};

/// What can go wrong with a search.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The library's own files.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The index of semantic vectors.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The words' vectors.
    #[error(transparent)]
    Predict(#[from] Box<PredictError>),
    /// Words that the model cannot score.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device of the search.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The earliest date.
    #[error("since: {0}")]
    Since(DateError),
    /// The latest date.
    #[error("until: {0}")]
    Until(DateError),
    /// No probability.
    #[error("{0}: give a probability from 0 to 1")]
    Probability(f32),
    /// A folder without photographs that are known.
    #[error(
        "{}: the library knows no photographs in such a folder of {}",
        shown(folder),
        shown(photos)
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The folder of all photographs.
        photos: PathBuf,
    },
    /// A photograph that is not known.
    #[error(
        "{}: is no photograph of this library, which is of {}: give its path, or its id as in tags.jsonl",
        shown(photo),
        shown(photos)
    )]
    Photo {
        /// What was given.
        photo: PathBuf,
        /// The folder of all photographs.
        photos: PathBuf,
    },
    /// The model is not the one that tagged the library.
    #[error(
        "{}: is another model now than the one that tagged this library: tag it again", model.display()
    )]
    Changed {
        /// The model's file.
        model: PathBuf,
    },
    /// The library's index is not of the model that tagged the library.
    #[error(
        "{}: holds the vectors of another model than the one that this library was tagged with: search again where it is being tagged \
         just now, tag it again otherwise", folder.display()
    )]
    OtherIndex {
        /// The index's folder.
        folder: PathBuf,
    },
    /// A library without an index.
    #[error(
        "{}: holds no index of photographs: {method} scores photographs otherwise than by semantic vectors, or none was tagged yet \
         (`epsilon tag PHOTOS`)", folder.display()
    )]
    NoIndex {
        /// The library's folder.
        folder: PathBuf,
        /// The model's method, as far as it is known.
        method: String,
    },
}

impl From<PredictError> for FindError {
    fn from(error: PredictError) -> Self {
        Self::Predict(Box::new(error))
    }
}

/// Which photographs, as people say it; those that meet all that is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Criteria {
    /// As [`Filter::label`].
    pub label: Option<String>,
    /// As [`Filter::probability`].
    pub probability: Option<f32>,
    /// Taken then or later, as [`dates::span`] reads it.
    pub since: Option<String>,
    /// Taken then or earlier: a year, month or day counts to its end.
    pub until: Option<String>,
    /// In this folder of the library and the folders in it: its path, from the folder of photographs or as it is.
    pub folder: Option<PathBuf>,
    /// As [`Filter::unreviewed`].
    pub unreviewed: bool,
    /// As [`Filter::broken`].
    pub broken: bool,
}

/// A photograph that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found<'a> {
    /// Its path.
    pub photo: String,
    /// How well it matches, where something was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// As [`Match::group`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// When it was taken, as [`dates::text`] writes it.
    pub date: String,
    /// Its labels.
    pub labels: &'a [Tag],
    /// Why it could not be tagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    /// As [`Item::doubt`].
    pub doubt: Option<f32>,
    /// Whether its owner has looked at all of it.
    pub reviewed: bool,
}

/// A tagged library to search in.
///
/// ```
/// # mod drawn { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drawn.rs")); }
/// # use drawn::*;
/// # let made = drawn_model("epsilon")?;
/// # let (model, photos) = (made.path().join("model.safetensors"), made.path().join("data/test"));
/// use epsilon::finder::{Criteria, Finder};
/// use epsilon::library::Order;
/// use epsilon::model::Keep;
/// use epsilon::tagger::TagOptions;
/// use std::ops::ControlFlow;
///
/// let predictor = epsilon::Predictor::load(model)?;
/// let mut tagger = epsilon::Tagger::open(&predictor, &photos, TagOptions::new(Keep::best(3)))?;
/// tagger.tag(&mut |_| ControlFlow::Continue(()))?;
///
/// let finder = Finder::open(&photos)?;
/// let filter = finder.filter(&Criteria { since: Some("2020".into()), ..Criteria::default() })?;
/// let words = (predictor.model(), predictor.words());
/// let found = finder.matching("striped circle", words, &filter, (Order::Relevance, 3))?;
/// assert_eq!(found.len(), 3);
/// assert!(found[0].score >= found[1].score);
/// assert_eq!(finder.like("000000.png".as_ref(), &filter, (Order::Relevance, 50))?.len(), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Finder {
    library: Library,
    folder: PathBuf,
    catalog: Catalog,
    searchers: Option<Arc<Searchers>>,
}

impl Finder {
    /// The library in a folder, or in [`Library::beside`] it.
    ///
    /// # Errors
    /// [`FindError::Library`].
    pub fn open(folder: &Path) -> Result<Self, FindError> {
        let (library, folder) = Library::read(folder)?;
        Ok(Self {
            catalog: Catalog::read(&folder)?,
            library,
            folder,
            searchers: None,
        })
    }

    /// Searches the index together with the other ranks of a job, which
    /// [assist](crate::semantic_index::assist).
    #[must_use]
    pub fn shared_with(mut self, searchers: Arc<Searchers>) -> Self {
        self.searchers = Some(searchers);
        self
    }

    /// The library.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The library's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its photographs.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Reads what other programs have done meanwhile.
    ///
    /// # Errors
    /// [`FindError::Library`].
    pub fn refresh(&mut self) -> Result<(), FindError> {
        if self.catalog.refresh()? {
            self.library = Library::read(&self.folder)?.0;
        }
        Ok(())
    }

    /// As [`Catalog::find_telling`], for [`Order::Doubt`].
    ///
    /// # Errors
    /// [`FindError::Index`].
    pub fn find_telling(&mut self) -> Result<(), FindError> {
        Ok(self.catalog.find_telling(&self.folder)?)
    }

    /// The filter of criteria.
    ///
    /// # Errors
    /// [`FindError::Since`], [`FindError::Until`], [`FindError::Probability`], [`FindError::Folder`].
    pub fn filter(&self, criteria: &Criteria) -> Result<Filter, FindError> {
        if let Some(p) = criteria.probability.filter(|p| !(0.0..=1.0).contains(p)) {
            return Err(FindError::Probability(p));
        }
        let now = i64::try_from(now()).unwrap_or(i64::MAX);
        let span = |text: &Option<String>| text.as_ref().map(|text| dates::span(text, now));
        let since = span(&criteria.since).transpose();
        let until = span(&criteria.until).transpose();
        let folder = criteria.folder.as_ref().map(|folder| {
            let mut known = photo_ids(&self.library.photos, folder).into_iter();
            let known = known.find(|id| self.catalog.has_folder(id));
            known.ok_or_else(|| FindError::Folder {
                folder: folder.clone(),
                photos: self.library.photos.clone(),
            })
        });
        Ok(Filter {
            label: criteria.label.clone(),
            probability: criteria.probability,
            since: since.map_err(FindError::Since)?.map(|span| span.start),
            until: until.map_err(FindError::Until)?.map(|span| span.end),
            folder: folder.transpose()?,
            unreviewed: criteria.unreviewed,
            broken: criteria.broken,
        })
    }

    /// The id of a photograph that somebody means, by its path or its id.
    ///
    /// # Errors
    /// [`FindError::Photo`].
    pub fn photo_id(&self, meant: &Path) -> Result<String, FindError> {
        let mut ids = photo_ids(&self.library.photos, meant).into_iter();
        let known = ids.find(|id| self.catalog.item(id).is_some());
        known.ok_or_else(|| FindError::Photo {
            photo: meant.into(),
            photos: self.library.photos.clone(),
        })
    }

    /// The model that tagged the library, without its backbone, and the vectors of words; see [`words_of`].
    ///
    /// # Errors
    /// [`FindError::Predict`].
    pub fn load_words(
        &self,
        words: &[String],
        given: Option<VectorFile>,
        progress: bool,
    ) -> Result<(Model, WordVectors), FindError> {
        Ok(words_of(&self.library, words, given, progress)?)
    }

    /// The `top` photographs that match words best, as [`Catalog::search`] finds them; model and vectors are those of
    /// [`Finder::load_words`] or of the [`Predictor`] that tagged the library.
    ///
    /// # Errors
    /// [`FindError::Changed`], those of the words, and those of [`Finder::index`].
    pub fn matching(
        &self,
        words: &str,
        (model, vectors): (&Model, &WordVectors),
        filter: &Filter,
        order: (Order, usize),
    ) -> Result<Vec<Found<'_>>, FindError> {
        let query = self.queries(&[words.to_string()], (model, vectors))?;
        let index = self.index(Some(model))?;
        let found = self.catalog.search(&index, &query, words, filter, order)?;
        let score = |best| model.card().method().score_of_match(best);
        Ok(self.found(found, score))
    }

    /// The [queries](Model::queries) of words, one after the other, with the model and vectors of [`Finder::matching`].
    ///
    /// # Errors
    /// [`FindError::Changed`], and those of the words.
    pub fn queries(
        &self,
        words: &[String],
        (model, vectors): (&Model, &WordVectors),
    ) -> Result<Vec<f32>, FindError> {
        if model.identity() != self.library.identity {
            return Err(FindError::Changed {
                model: self.library.model.clone(),
            });
        }
        Ok(model.queries(&vectors.find(words)?, &device("cpu")?)?)
    }

    /// The `top` photographs most like one, which is given by its path or its id.
    ///
    /// # Errors
    /// [`FindError::Photo`], and those of [`Finder::index`].
    pub fn like(
        &self,
        photo: &Path,
        filter: &Filter,
        order: (Order, usize),
    ) -> Result<Vec<Found<'_>>, FindError> {
        let index = self.index(None)?;
        let id = self.photo_id(photo)?;
        let found = self.catalog.like(&index, &id, filter, order)?;
        Ok(self.found(found, |cosine| cosine))
    }

    /// The first `top` photographs that pass a filter, in an order.
    pub fn listed(&self, filter: &Filter, (order, top): (Order, usize)) -> Vec<Found<'_>> {
        let selected = self.catalog.select(filter, order).into_iter().take(top);
        let photo = |item: usize| self.photo(&self.catalog.items()[item]);
        selected.map(photo).collect()
    }

    fn found(&self, matches: Vec<Match>, score: impl Fn(f32) -> f32) -> Vec<Found<'_>> {
        let found = matches.into_iter().map(|found| Found {
            score: Some(score(found.score)),
            group: found.group,
            ..self.photo(&self.catalog.items()[found.item])
        });
        found.collect()
    }

    fn photo<'a>(&self, item: &'a Item) -> Found<'a> {
        Found {
            photo: format!("{}/{}", paths::text(&self.library.photos), item.id),
            score: None,
            group: None,
            date: dates::text(item.date),
            labels: &item.labels,
            error: item.error.as_deref(),
            doubt: item.doubt,
            reviewed: item.reviewed,
        }
    }

    /// As [`Catalog::unindexed`], of the library's index.
    ///
    /// # Errors
    /// Those of [`Finder::index`].
    pub fn unindexed(&self, filter: &Filter) -> Result<(usize, usize), FindError> {
        Ok(self.catalog.unindexed(&self.index(None)?, filter)?)
    }

    /// The library's index; a `model` that is known is named where there is none.
    ///
    /// # Errors
    /// [`FindError::NoIndex`], [`FindError::OtherIndex`], [`FindError::Index`].
    pub fn index(&self, model: Option<&Model>) -> Result<Index, FindError> {
        let place = Library::index(&self.folder);
        if Index::is_at(&place) {
            let index = Index::open(&place)?;
            // Another model may have begun to tag the library since it was opened.
            if index.info().model != self.library.identity {
                return Err(FindError::OtherIndex { folder: place });
            }
            return Ok(match &self.searchers {
                Some(searchers) => index.shared_with(searchers.clone()),
                None => index,
            });
        }
        let method = match model {
            Some(model) => format!("the method `{}`", model.card().method().name()),
            None => "its model's method".to_string(),
        };
        Err(FindError::NoIndex {
            folder: self.folder.clone(),
            method,
        })
    }
}

/// The model of a library, without its backbone, and the vectors of words: of the file or the network `given`, or as the library was
/// tagged. The hub is asked only for what is given.
///
/// # Errors
/// As [`PredictorOptions::load_words`](crate::predictor::PredictorOptions::load_words).
pub fn words_of(
    library: &Library,
    words: &[String],
    given: Option<VectorFile>,
    progress: bool,
) -> Result<(Model, WordVectors), PredictError> {
    let mut options = (Predictor::options(&library.model).labels(words.to_vec()))
        .allow_download(given.is_some())
        .progress(progress);
    if let Some(file) = given.or_else(|| library.vectors.clone()) {
        options = options.vectors(file);
    }
    if let Some(classes) = &library.classes {
        options = options.classes(classes);
    }
    options.load_words()
}
