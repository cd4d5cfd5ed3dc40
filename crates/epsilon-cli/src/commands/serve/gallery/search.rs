//! What a library's index finds: photographs for words, and such as are like another.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::http::StatusCode;
use epsilon::library::Library;
use epsilon::model::Model;
use epsilon::predictor::WordVectors;
use epsilon::semantic_index::{Index, Searchers};

use crate::commands::serve::beside::{Kept, one_of};
use crate::commands::serve::refusal::{Refusal, failed};
use crate::commands::serve::state::State;
use crate::console;

/// The model without its backbone, and the vectors of words.
pub(in super::super) struct Words {
    model: Model,
    vectors: WordVectors,
}

impl AsRef<WordVectors> for Words {
    fn as_ref(&self) -> &WordVectors {
        &self.vectors
    }
}

/// What loads them.
pub(in super::super) type LoadWords =
    Box<dyn Fn() -> anyhow::Result<(Model, WordVectors)> + Send + Sync>;

/// An index, and when it was written.
type Opened = (SystemTime, Arc<Index>);

/// A search in a library.
pub(in super::super) struct Search {
    load: Arc<LoadWords>,
    words: Kept<Words>,
    folder: PathBuf,
    /// The index, and when the file was written that says what of it counts.
    index: Arc<Mutex<Option<Opened>>>,
    searchers: Arc<Searchers>,
}

impl Search {
    /// In the library of a folder, by all ranks of a job.
    pub(in super::super) fn new(folder: &Path, load: LoadWords, searchers: Arc<Searchers>) -> Self {
        Self {
            load: Arc::new(load),
            words: Kept::new(None),
            folder: Library::index(folder),
            index: Arc::default(),
            searchers,
        }
    }

    /// Whether there is something to search in.
    pub(super) fn has_index(&self) -> bool {
        Index::is_at(&self.folder)
    }

    /// Loads model and index, so that the first search need not wait for them. Whoever searches is told what is wrong.
    pub(super) async fn prepare(&self, server: &State) {
        if let Ok(index) = self.index(server).await {
            let _ = self.of(&index).await;
        }
    }

    /// The query of some words for an index.
    pub(super) async fn query(
        &self,
        server: &State,
        index: &Index,
        words: &str,
    ) -> Result<Vec<f32>, Refusal> {
        let loaded = self.of(index).await?;
        let vectors = server.vectors(&loaded, vec![words.into()]).await?;
        one_of(&server.readers, move || {
            let device = epsilon::device::device("cpu").map_err(failed)?;
            loaded.model.queries(&vectors, &device).map_err(failed)
        })
        .await
    }

    /// The model that made an index: the one that is loaded, or that of the library by now.
    async fn of(&self, index: &Index) -> Result<Arc<Words>, Refusal> {
        let refused =
            |message: &str| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "search", message);
        let (load, wanted) = (self.load.clone(), index.info().model.clone());
        let right = move |words: Option<Arc<Words>>| {
            let is_its = |words: &Arc<Words>| words.model.identity() == wanted;
            if let Some(words) = words.filter(is_its) {
                return Ok(words);
            }
            let (model, vectors) = load().map_err(|error| {
                console::complain(format_args!("the library's model cannot be loaded: {error:#}"));
                refused("the model that tagged this library cannot be loaded; the server's log says why. Labels and filters need no model")
            })?;
            let loaded = Arc::new(Words { model, vectors });
            match is_its(&loaded) {
                true => Ok(loaded),
                false => Err(refused(
                    "the model's file is another one now than that which tagged this library: tag it again (`epsilon tag`)",
                )),
            }
        };
        self.words.get(right).await
    }

    /// The index as it is now.
    pub(super) async fn index(&self, server: &State) -> Result<Arc<Index>, Refusal> {
        if !self.has_index() {
            let message = "this library has no index to search in: its model scores photographs otherwise than by semantic vectors, or none was tagged yet (`epsilon tag`)";
            return Err(Refusal::new(StatusCode::CONFLICT, "index", message));
        }
        let (folder, kept) = (self.folder.clone(), self.index.clone());
        let searchers = self.searchers.clone();
        one_of(&server.readers, move || {
            let written = Index::written(&folder).map_err(failed)?;
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                Some((at, index)) if *at == written => Ok(index.clone()),
                _ => {
                    let index = Index::open(&folder).map_err(failed)?;
                    let index = Arc::new(index.shared_with(searchers));
                    *kept = Some((written, index.clone()));
                    Ok(index)
                }
            }
        })
        .await
    }
}
