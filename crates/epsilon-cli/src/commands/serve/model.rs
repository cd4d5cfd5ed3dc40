//! The model that ranks, with its engine: loaded before the server starts, or, where a library is served, when it is first needed,
//! and again when the library has been tagged by another one.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use axum::http::StatusCode;
use epsilon::Predictor;
use epsilon::labels::LabelVectors;
use epsilon::model::{Keep, Model};
use epsilon::predictor::WordVectors;
use serde::Serialize;
use tokio::sync::watch;

use super::beside::Kept;
use super::engine::Engine;
use super::metrics::Metrics;
use super::refusal::Refusal;
use crate::commands::keep::KeepArgs;
use crate::commands::serve::limits;
use crate::console;

/// A model that is ready.
pub(super) struct Loaded {
    pub engine: Engine,
    pub predictor: Arc<Predictor>,
    /// The model's own labels.
    pub own: Arc<LabelVectors>,
    pub about: About,
    pub keep: Keep,
}

impl AsRef<WordVectors> for Loaded {
    fn as_ref(&self) -> &WordVectors {
        self.predictor.words()
    }
}

/// The engine, once there is one. Its channel ends with the server's state.
pub(super) type Came = watch::Receiver<Option<Engine>>;
/// The engine's thread, once there is one.
pub(super) type Worker = Arc<Mutex<Option<JoinHandle<()>>>>;
/// What loads the model.
pub(super) type Load = Box<dyn Fn() -> anyhow::Result<Predictor> + Send + Sync>;
/// What says whether this model is still the right one.
pub(super) type IsRight = Box<dyn Fn(&Model) -> bool + Send + Sync>;

/// The model, loaded or not.
pub(super) struct Lazy {
    source: Arc<Source>,
    loaded: Kept<Loaded>,
    engine: watch::Sender<Option<Engine>>,
}

struct Source {
    load: Load,
    is_right: IsRight,
    keep: KeepArgs,
    metrics: Metrics,
    worker: Worker,
}

impl Source {
    /// The model as it should be now: the one that is loaded, or another.
    fn now(&self, loaded: Option<Arc<Loaded>>) -> anyhow::Result<Arc<Loaded>> {
        match loaded {
            Some(loaded) if (self.is_right)(loaded.predictor.model()) => Ok(loaded),
            _ => self.load().map(Arc::new),
        }
    }

    fn load(&self) -> anyhow::Result<Loaded> {
        let predictor = Arc::new((self.load)()?);
        let keep = self.keep.of(predictor.model(), Some(limits::TOP))?;
        let (engine, worker) = Engine::start(predictor.clone(), self.metrics.clone());
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
        Ok(Loaded {
            engine,
            own: Arc::new(predictor.model().own_labels()),
            about: About::of(predictor.model()),
            keep,
            predictor,
        })
    }
}

impl Lazy {
    /// One that is loaded when it is first needed.
    pub(super) fn new(load: Load, is_right: IsRight, keep: KeepArgs, metrics: Metrics) -> Self {
        let worker = Worker::default();
        Self {
            source: Arc::new(Source {
                load,
                is_right,
                keep,
                metrics,
                worker,
            }),
            loaded: Kept::new(None),
            engine: watch::channel(None).0,
        }
    }

    /// Loads it now.
    pub(super) fn load(&mut self) -> anyhow::Result<()> {
        let loaded = self.source.now(None)?;
        self.engine.send_replace(Some(loaded.engine.clone()));
        self.loaded = Kept::new(Some(loaded));
        Ok(())
    }

    /// The model; loads it where that has not been done, or another one is the right one now.
    pub(super) async fn get(&self) -> Result<Arc<Loaded>, Refusal> {
        let (source, engine) = (self.source.clone(), self.engine.clone());
        let right = move |before: Option<Arc<Loaded>>| {
            let now = source.now(before.clone()).map_err(|error| {
                console::complain(format_args!("the model cannot be loaded: {error:#}"));
                let message = "the model cannot be loaded; the server's log says why";
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "model", message)
            })?;
            if !before.is_some_and(|before| Arc::ptr_eq(&before, &now)) {
                engine.send_replace(Some(now.engine.clone()));
            }
            Ok(now)
        };
        self.loaded.get(right).await
    }

    /// Tells of the engine when there is one.
    pub(super) fn engine(&self) -> Came {
        self.engine.subscribe()
    }

    pub(super) fn worker(&self) -> Worker {
        self.source.worker.clone()
    }
}

/// Waits until the engine has ended without another in its place; for ever where there is none.
pub(super) async fn ended(mut engine: Came) {
    loop {
        let came = engine.wait_for(Option::is_some).await;
        let Ok(Some(ended)) = came.map(|engine| engine.as_ref().map(Engine::ended)) else {
            return std::future::pending().await;
        };
        ended.await;
        if !engine.borrow().as_ref().is_some_and(Engine::is_alive) {
            return;
        }
    }
}

/// The description of the model at `/v1/labels`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct About {
    pub method: &'static str,
    backbone: String,
    protocol: String,
    calibrated: bool,
    labels: Vec<Label>,
}

#[derive(Debug, Clone, Serialize)]
struct Label {
    name: String,
    seen: bool,
}

impl About {
    /// The description of a model.
    pub(super) fn of(model: &Model) -> Self {
        let (card, labels) = (model.card(), model.own_labels());
        let names = labels.names().iter().enumerate();
        Self {
            method: card.method().name(),
            backbone: card.backbone().name.clone(),
            protocol: card.protocol().to_string(),
            calibrated: card.has_probabilities(),
            labels: names
                .map(|(place, name)| Label {
                    name: name.clone(),
                    seen: place < card.seen_labels().len(),
                })
                .collect(),
        }
    }
}
