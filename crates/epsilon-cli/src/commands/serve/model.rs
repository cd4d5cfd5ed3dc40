//! The model that ranks, with its engine: loaded before the server starts, or, where a library is served, when it is first needed.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::anyhow;
use axum::http::StatusCode;
use epsilon::Predictor;
use epsilon::labels::LabelVectors;
use epsilon::model::{Keep, Model};
use epsilon::predictor::WordVectors;
use serde::Serialize;
use tokio::sync::{OnceCell, watch};

use super::engine::Engine;
use super::metrics::Metrics;
use super::refusal::{Refusal, failed};
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

/// The model, loaded or not.
pub(super) struct Lazy {
    source: Arc<Source>,
    loaded: OnceCell<Arc<Loaded>>,
    engine: watch::Sender<Option<Engine>>,
}

struct Source {
    load: Load,
    keep: KeepArgs,
    metrics: Metrics,
    worker: Worker,
}

impl Source {
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
    pub(super) fn new(load: Load, keep: KeepArgs, metrics: Metrics) -> Self {
        let worker = Worker::default();
        Self {
            source: Arc::new(Source {
                load,
                keep,
                metrics,
                worker,
            }),
            loaded: OnceCell::new(),
            engine: watch::channel(None).0,
        }
    }

    /// Loads it now.
    pub(super) fn load(&self) -> anyhow::Result<()> {
        let loaded = Arc::new(self.source.load()?);
        self.came(&loaded);
        let twice = |_| anyhow!("a model is loaded once");
        self.loaded.set(loaded).map_err(twice)
    }

    fn came(&self, loaded: &Loaded) {
        self.engine.send_replace(Some(loaded.engine.clone()));
    }

    /// The model; loads it where that has not been done.
    pub(super) async fn get(&self) -> Result<Arc<Loaded>, Refusal> {
        let load = async || {
            let source = self.source.clone();
            let loaded = tokio::task::spawn_blocking(move || source.load()).await;
            let loaded = loaded.map_err(failed)?.map_err(|error| {
                console::complain(format_args!("the model cannot be loaded: {error:#}"));
                let message = "the model cannot be loaded; the server's log says why";
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "model", message)
            })?;
            self.came(&loaded);
            Ok(Arc::new(loaded))
        };
        self.loaded.get_or_try_init(load).await.cloned()
    }

    /// Tells of the engine when there is one.
    pub(super) fn engine(&self) -> Came {
        self.engine.subscribe()
    }

    pub(super) fn worker(&self) -> Worker {
        self.source.worker.clone()
    }
}

/// Waits until the engine has ended; for ever where there is none.
pub(super) async fn ended(mut engine: Came) {
    let Ok(engine) = engine.wait_for(Option::is_some).await.map(|it| it.clone()) else {
        return std::future::pending().await;
    };
    if let Some(engine) = engine {
        engine.ended().await;
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
