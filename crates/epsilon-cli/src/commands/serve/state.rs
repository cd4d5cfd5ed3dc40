//! State shared by all requests: the model, the limits, and the semaphores that bound running and queued work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use epsilon::image::{self, ImageError, RgbImage};
use epsilon::labels::{self, LabelError, LabelVectors};
use epsilon::predictor::WordVectors;
use epsilon::{PredictError, Predictor};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::engine::{Engine, Seen};
use super::hosts::Hosts;
use super::limits::{Budget, LABEL_BYTES, MAP_SIDE, NAMED, patience};
use super::metrics::Metrics;
use super::model::{Lazy, Loaded};
use super::refusal::{Refusal, failed};
use super::request::{self, Asked, Photo};

/// State shared by all requests.
pub(super) struct State {
    pub model: Lazy,
    pub metrics: Metrics,
    pub token: Option<String>,
    pub hosts: Hosts,
    /// One permit per running or queued request.
    pub requests: Arc<Semaphore>,
    /// One permit per photograph that is decoded or queued for the engine.
    pub photos: Arc<Semaphore>,
    /// One permit per concurrent decoder.
    pub decoders: Arc<Semaphore>,
    /// One permit per explanation that is computed and drawn: each holds its picture and its maps meanwhile, and predictions
    /// do not wait behind many of them.
    pub explanations: Arc<Semaphore>,
    /// One permit per piece of work that reads a library's catalog or index.
    pub readers: Arc<Semaphore>,
    pub look_ups: LookUps,
    /// Bytes of bodies that are held.
    pub bodies: Budget,
    /// Bytes of answers that are held.
    pub answers: Budget,
    pub max_body: usize,
    pub max_labels: usize,
    pub timeout: Duration,
}

/// The permit of a running request.
pub(super) struct Begun<'a> {
    metrics: &'a Metrics,
    _place: OwnedSemaphorePermit,
}

impl Begun<'_> {
    /// Runs the work, or refuses it after the time limit.
    pub(super) async fn within<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let late = |_| {
            let seconds = timeout.as_secs();
            let message = format!("not done within {seconds} seconds");
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
        };
        tokio::time::timeout(timeout, work).await.map_err(late)?
    }
}

/// Whether the engine lives, or is not needed yet.
pub(super) fn alive(engine: Option<&Engine>) -> Result<(), Refusal> {
    let dead = || {
        let message = "the engine has failed; the server ends";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "engine", message)
    };
    engine
        .is_none_or(Engine::is_alive)
        .then_some(())
        .ok_or_else(dead)
}

/// Whether the engine lives and a place in the queue is free.
pub(super) fn ready(engine: Option<&Engine>, requests: &Semaphore) -> Result<(), Refusal> {
    alive(engine)?;
    match requests.available_permits() {
        0 => Err(full()),
        _ => Ok(()),
    }
}

/// The refusal where the queue is full.
fn full() -> Refusal {
    let message = "as many requests as the server takes are being worked on: try again";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "queue", message)
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.metrics.in_work.dec();
    }
}

/// The requests whose words are looked up in the vector file: a short queue, and one at a time, beside all others.
pub(super) struct LookUps {
    /// One permit per request that waits or is looked up.
    queue: Arc<Semaphore>,
    /// One permit for the one that is looked up.
    turn: Arc<Semaphore>,
}

impl LookUps {
    pub(super) fn new(queue: usize) -> Self {
        Self {
            queue: Arc::new(Semaphore::new(queue)),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Waits for its turn, which lasts until what is returned is dropped.
    async fn turn(&self) -> Result<[OwnedSemaphorePermit; 2], Refusal> {
        let full = |_| {
            let message =
                "as many requests with new words as the server takes are waiting: try again";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "words", message)
        };
        let place = self.queue.clone().try_acquire_owned().map_err(full)?;
        let turn = self.turn.clone().acquire_owned().await.map_err(failed)?;
        Ok([place, turn])
    }
}

impl State {
    /// Whether the engine lives, where it is needed.
    pub(super) fn alive(&self) -> Result<(), Refusal> {
        alive(self.model.engine().borrow().as_ref())
    }

    /// Whether it can take a request.
    pub(super) fn ready(&self) -> Result<(), Refusal> {
        ready(self.model.engine().borrow().as_ref(), &self.requests)
    }

    /// Acquires a permit, before the body is read, so that queued work is bounded.
    pub(super) fn begin(&self) -> Result<Begun<'_>, Refusal> {
        let place = self.requests.clone().try_acquire_owned();
        let place = place.map_err(|_| full())?;
        self.metrics.in_work.inc();
        Ok(Begun {
            metrics: &self.metrics,
            _place: place,
        })
    }

    /// Parses a request, within the time for sending it.
    pub(super) async fn read(&self, request: Request) -> Result<Asked, Refusal> {
        self.sent(Asked::read(request, self.max_body, &self.bodies))
            .await
    }

    /// Parses a request of JSON, within the time for sending it.
    pub(super) async fn json<T: DeserializeOwned>(&self, request: Request) -> Result<T, Refusal> {
        self.sent(request::json(request, self.max_body, &self.bodies))
            .await
    }

    async fn sent<T>(&self, read: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let slow = |_| {
            let message = "the request was sent too slowly";
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow", message)
        };
        tokio::time::timeout(patience(self.timeout), read)
            .await
            .map_err(slow)?
    }

    /// The vectors of the requested labels, or of the model's own.
    pub(super) async fn labels(
        &self,
        model: &Arc<Loaded>,
        words: Option<&str>,
    ) -> Result<Arc<LabelVectors>, Refusal> {
        let words = labels::split_list(words.unwrap_or_default()).into_iter();
        let words = words.filter(|word| !word.is_empty());
        // One more than allowed is enough to detect too many.
        let words: Vec<String> = words.take(self.max_labels + 1).collect();
        match words.len() {
            0 => Ok(model.own.clone()),
            count if count > self.max_labels => {
                let message = format!("more labels than this server takes, {}", self.max_labels);
                Err(Refusal::unusable("labels", message))
            }
            _ => self.vectors(model, words).await,
        }
    }

    /// The vectors of these labels, of what finds them.
    pub(super) async fn vectors<S>(
        &self,
        source: &Arc<S>,
        words: Vec<String>,
    ) -> Result<Arc<LabelVectors>, Refusal>
    where
        S: AsRef<WordVectors> + Send + Sync + 'static,
    {
        if words.iter().any(|word| word.len() > LABEL_BYTES) {
            let message = format!("a label longer than {LABEL_BYTES} bytes");
            return Err(Refusal::unusable("labels", message));
        }
        // Known words wait for nobody's unknown ones.
        let found = match (**source).as_ref().known(&words) {
            Some(known) => known,
            None => {
                let turn = self.look_ups.turn().await?;
                let source = source.clone();
                let found = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    (*source).as_ref().find(&words)
                });
                found.await.map_err(failed)?
            }
        };
        found.map(Arc::new).map_err(without_vectors)
    }

    /// Decodes a photograph and ranks the labels for it. With `maps`, also returns the maps and a small version of the photograph
    /// to draw them on.
    pub(super) async fn look(
        &self,
        model: &Arc<Loaded>,
        photo: &Photo,
        labels: Arc<LabelVectors>,
        maps: bool,
    ) -> Result<(RgbImage, Seen), Refusal> {
        // Held until the engine has replied or dropped the work, so that its queue stays bounded if clients disconnect.
        let waits = self.photos.clone().acquire_owned().await.map_err(failed)?;
        let place = self
            .decoders
            .clone()
            .acquire_owned()
            .await
            .map_err(failed)?;
        let (loaded, name, bytes) = (model.clone(), photo.name.clone(), photo.bytes.clone());
        let decoded = tokio::task::spawn_blocking(move || {
            let _place = place;
            let decoded = decode(&loaded.predictor, Path::new(&name), &bytes, maps);
            decoded.map_err(|error| error.to_string())
        });
        // A panic in a decoder fails its photograph, not the server.
        let broken = |_| Refusal::unusable("photo", format!("{}: the decoder failed", photo.name));
        let decoded = decoded.await.map_err(broken)?;
        let (shown, pixels) = decoded.map_err(|reason| Refusal::unusable("photo", reason))?;
        let seen = model.engine.look(pixels, labels, maps, waits).await?;
        Ok((shown, seen))
    }
}

/// A photograph as the network takes it; where maps are drawn on it, a small version of it, too.
fn decode(
    predictor: &Predictor,
    name: &Path,
    bytes: &[u8],
    maps: bool,
) -> Result<(RgbImage, Vec<f32>), ImageError> {
    if maps {
        let picture = image::decode(name, bytes, predictor.limits())?;
        let pixels = predictor.preprocess(&picture);
        return Ok((image::fit_within(picture, MAP_SIDE), pixels));
    }
    let preprocess = &predictor.backbone().info().preprocess;
    let pixels = image::decode_for(name, bytes, preprocess, predictor.limits())?;
    Ok((RgbImage::new(0, 0), pixels.values))
}

/// Why words have no vectors, in words for the client: what is wrong with the server's files is for its log alone.
fn without_vectors(error: PredictError) -> Refusal {
    match error {
        PredictError::NoVectorFile { .. }
        | PredictError::Labels(
            LabelError::Name { .. }
            | LabelError::RepeatedName { .. }
            | LabelError::NotFiniteVector { .. }
            | LabelError::ZeroVector { .. },
        ) => Refusal::unusable("labels", error.to_string()),
        PredictError::Labels(LabelError::Unresolved { labels, .. }) => {
            let count = labels.len();
            let named = labels.iter().take(NAMED).map(ToString::to_string);
            let mut message = named.collect::<Vec<_>>().join("\n");
            if count > NAMED {
                message += &format!("\nand {} more", count - NAMED);
            }
            Refusal::unusable("labels", format!("words without a vector:\n{message}"))
        }
        other => failed(other),
    }
}
