//! State shared by all requests: the model, the limits, and the semaphores that bound running and queued work.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use epsilon::Predictor;
use epsilon::image::{self, ImageError, RgbImage};
use epsilon::labels::LabelVectors;
use epsilon::model::{Keep, Model};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::engine::{Engine, Seen};
use super::metrics::Metrics;
use super::refusal::{Refusal, failed};
use super::request::{Asked, Photo};

/// Maximum length of a label in bytes.
const LONGEST: usize = 200;
/// Longest side of the pictures that maps are drawn on, in pixels.
const SIDE: u32 = 640;

/// State shared by all requests.
pub struct State {
    pub engine: Engine,
    pub predictor: Arc<Predictor>,
    /// The model's own labels.
    pub own: Arc<LabelVectors>,
    pub about: About,
    pub keep: Keep,
    pub metrics: Metrics,
    pub token: Option<String>,
    /// The address it listens on, if that is a loopback address.
    pub loopback: Option<IpAddr>,
    /// One permit per running or queued request.
    pub requests: Arc<Semaphore>,
    /// One permit per photograph that is decoded or queued for the engine.
    pub photos: Arc<Semaphore>,
    /// One permit per concurrent decoder.
    pub decoders: Arc<Semaphore>,
    pub max_body: usize,
    pub max_labels: usize,
    pub timeout: Duration,
}

/// The description of the model at `/v1/labels`.
#[derive(Debug, Clone, Serialize)]
pub struct About {
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
    pub fn of(model: &Model) -> Self {
        let (card, labels) = (model.card(), model.own_labels());
        let names = labels.names().iter().enumerate();
        Self {
            method: card.method().name(),
            backbone: card.backbone().name.clone(),
            protocol: card.protocol().to_string(),
            calibrated: card.calibration().is_some(),
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
pub struct Begun<'a> {
    metrics: &'a Metrics,
    _place: OwnedSemaphorePermit,
}

impl Begun<'_> {
    /// Runs the work, or refuses it after the time limit.
    pub async fn within<T>(
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

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.metrics.in_work.dec();
    }
}

impl State {
    /// Acquires a permit, before the body is read, so that queued work is bounded.
    pub fn begin(&self) -> Result<Begun<'_>, Refusal> {
        let place = self.requests.clone().try_acquire_owned();
        let full = |_| {
            let message = "as many requests as the server takes are being worked on: try again";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "queue", message)
        };
        let place = place.map_err(full)?;
        self.metrics.in_work.inc();
        Ok(Begun {
            metrics: &self.metrics,
            _place: place,
        })
    }

    /// Parses a request, within a third of the time limit.
    pub async fn read(&self, request: Request) -> Result<Asked, Refusal> {
        let read = Asked::read(request, self.max_body);
        let slow = |_| {
            let message = "the request was sent too slowly";
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow", message)
        };
        tokio::time::timeout(self.timeout / 3, read)
            .await
            .map_err(slow)?
    }

    /// The vectors of the requested labels, or of the model's own.
    pub async fn labels(
        self: &Arc<Self>,
        words: Option<&str>,
    ) -> Result<Arc<LabelVectors>, Refusal> {
        let words = words.unwrap_or_default().split([',', '\n']).map(str::trim);
        let words = words.filter(|word| !word.is_empty());
        // One more than allowed is enough to detect too many.
        let words: Vec<String> = words.map(String::from).take(self.max_labels + 1).collect();
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
    pub async fn vectors(
        self: &Arc<Self>,
        words: Vec<String>,
    ) -> Result<Arc<LabelVectors>, Refusal> {
        if words.iter().any(|word| word.len() > LONGEST) {
            let message = format!("a label longer than {LONGEST} bytes");
            return Err(Refusal::unusable("labels", message));
        }
        let state = self.clone();
        let found = tokio::task::spawn_blocking(move || state.predictor.words().find(&words));
        let found = found.await.map_err(failed)?;
        let found = found.map_err(|error| Refusal::unusable("labels", error.to_string()))?;
        Ok(Arc::new(found))
    }

    /// Decodes a photograph and ranks the labels for it. With `maps`, also returns the maps and a small version of the photograph
    /// to draw them on.
    pub async fn look(
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
        let seen = self
            .engine
            .look(pixels, labels, maps, waits)
            .await
            .map_err(failed)?;
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

fn small(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= SIDE {
        return picture.clone();
    }
    let side =
        |length: u32| (u64::from(length) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
    ::image::imageops::thumbnail(picture, side(width), side(height))
}
