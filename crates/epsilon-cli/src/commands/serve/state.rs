//! State shared by all requests: the model, the limits, and the semaphores that bound running and queued work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use epsilon::image::{self, ImageError, RgbImage};
use epsilon::labels::{self, LabelError, LabelVectors};
use epsilon::model::{Keep, Model};
use epsilon::{PredictError, Predictor};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::engine::{Engine, Seen};
use super::hosts::Hosts;
use super::limits::{Budget, LABEL_BYTES, MAP_SIDE, NAMED, patience};
use super::metrics::Metrics;
use super::refusal::{Refusal, failed};
use super::request::{Asked, Photo};

/// State shared by all requests.
pub(super) struct State {
    pub engine: Engine,
    pub predictor: Arc<Predictor>,
    /// The model's own labels.
    pub own: Arc<LabelVectors>,
    pub about: About,
    pub keep: Keep,
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
    pub explanations: Semaphore,
    pub look_ups: LookUps,
    /// Bytes of bodies that are held.
    pub bodies: Budget,
    /// Bytes of answers that are held.
    pub answers: Budget,
    pub max_body: usize,
    pub max_labels: usize,
    pub timeout: Duration,
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

/// Whether the engine lives.
pub(super) fn alive(engine: &Engine) -> Result<(), Refusal> {
    let dead = || {
        let message = "the engine has failed; the server ends";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "engine", message)
    };
    engine.is_alive().then_some(()).ok_or_else(dead)
}

/// Whether the engine lives and a place in the queue is free.
pub(super) fn ready(engine: &Engine, requests: &Semaphore) -> Result<(), Refusal> {
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
    /// Whether it can take a request.
    pub(super) fn ready(&self) -> Result<(), Refusal> {
        ready(&self.engine, &self.requests)
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
        let read = Asked::read(request, self.max_body, &self.bodies);
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
        self: &Arc<Self>,
        words: Option<&str>,
    ) -> Result<Arc<LabelVectors>, Refusal> {
        let words = labels::split_list(words.unwrap_or_default()).into_iter();
        let words = words.filter(|word| !word.is_empty());
        // One more than allowed is enough to detect too many.
        let words: Vec<String> = words.take(self.max_labels + 1).collect();
        match words.len() {
            0 => Ok(self.own.clone()),
            count if count > self.max_labels => {
                let message = format!("more labels than this server takes, {}", self.max_labels);
                Err(Refusal::unusable("labels", message))
            }
            _ => self.vectors(words).await,
        }
    }

    /// The vectors of these labels.
    pub(super) async fn vectors(
        self: &Arc<Self>,
        words: Vec<String>,
    ) -> Result<Arc<LabelVectors>, Refusal> {
        if words.iter().any(|word| word.len() > LABEL_BYTES) {
            let message = format!("a label longer than {LABEL_BYTES} bytes");
            return Err(Refusal::unusable("labels", message));
        }
        // Known words wait for nobody's unknown ones.
        let found = match self.predictor.words().known(&words) {
            Some(known) => known,
            None => {
                let turn = self.look_ups.turn().await?;
                let state = self.clone();
                let found = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    state.predictor.words().find(&words)
                });
                found.await.map_err(failed)?
            }
        };
        found.map(Arc::new).map_err(without_vectors)
    }

    /// Decodes a photograph and ranks the labels for it. With `maps`, also returns the maps and a small version of the photograph
    /// to draw them on.
    pub(super) async fn look(
        self: &Arc<Self>,
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
        let (state, name, bytes) = (self.clone(), photo.name.clone(), photo.bytes.clone());
        let decoded = tokio::task::spawn_blocking(move || {
            let _place = place;
            let decoded = decode(&state.predictor, Path::new(&name), &bytes, maps);
            decoded.map_err(|error| error.to_string())
        });
        // A panic in a decoder fails its photograph, not the server.
        let broken = |_| Refusal::unusable("photo", format!("{}: the decoder failed", photo.name));
        let decoded = decoded.await.map_err(broken)?;
        let (shown, pixels) = decoded.map_err(|reason| Refusal::unusable("photo", reason))?;
        let seen = self.engine.look(pixels, labels, maps, waits).await?;
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
        return Ok((small(&picture), predictor.preprocess(&picture)));
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

fn small(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= MAP_SIDE {
        return picture.clone();
    }
    let side =
        |length: u32| (u64::from(length) * u64::from(MAP_SIDE) / u64::from(longest)).max(1) as u32;
    ::image::imageops::thumbnail(picture, side(width), side(height))
}
