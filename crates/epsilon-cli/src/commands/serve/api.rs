//! Routes, requests and replies.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Query, Request, State as Given};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use epsilon::Predictor;
use epsilon::explain::{heat, overlay};
use epsilon::image::{self, Limits, Preprocess, RgbImage};
use epsilon::labels::LabelVectors;
use epsilon::methods::LabelMap;
use epsilon::model::{Keep, Model, Ranked};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::engine::{Engine, Seen};
use super::guard;
use super::metrics::{Metrics, Refused};

/// Photographs of a request.
const PHOTOS: usize = 32;
/// Bytes of a label.
const LONGEST: usize = 200;
/// Longest side of the pictures that show maps.
const SIDE: u32 = 640;

/// What all requests share.
pub struct State {
    pub engine: Engine,
    pub predictor: Arc<Predictor>,
    /// The model's own labels.
    pub own: Arc<LabelVectors>,
    pub about: About,
    pub keep: Keep,
    pub preprocess: Preprocess,
    pub metrics: Metrics,
    pub token: Option<String>,
    /// Where it listens, if on this machine alone.
    pub loopback: Option<IpAddr>,
    /// One for every request that may be worked on or wait.
    pub requests: Arc<Semaphore>,
    /// One for every photograph that may be decoded or wait for the engine.
    pub photos: Arc<Semaphore>,
    /// One for every picture that may be decoded at once.
    pub decoders: Arc<Semaphore>,
    pub max_body: usize,
    pub max_pixels: u64,
    pub max_labels: usize,
    pub timeout: Duration,
}

/// What the server tells of its model.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    method: &'static str,
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

/// What there is to tell of a model.
pub fn about(model: &Model) -> About {
    let (card, labels) = (model.card(), model.own_labels());
    let names = labels.names().iter().enumerate();
    About {
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

/// All routes.
pub fn routes(state: Arc<State>) -> Router {
    let guarded = Router::new()
        .route("/v1/predict", post(predict))
        .route("/v1/explain", post(explain))
        .route(
            "/v1/labels",
            get(async |Given(state): Given<Arc<State>>| Json(state.about.clone())),
        )
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(state.clone(), guard::token));
    let page =
        |kind: &'static str, text: &'static str| get(async move || ([(CONTENT_TYPE, kind)], text));
    Router::new()
        .route(
            "/",
            page("text/html; charset=utf-8", include_str!("page.html")),
        )
        .route(
            "/page.css",
            page("text/css; charset=utf-8", include_str!("page.css")),
        )
        .route(
            "/page.js",
            page("text/javascript; charset=utf-8", include_str!("page.js")),
        )
        .route(
            "/openapi.json",
            page("application/json", include_str!("openapi.json")),
        )
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .merge(guarded)
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "not so: see /openapi.json",
            )
        })
        .fallback(async || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "route",
                "nothing is here: see /openapi.json",
            )
        })
        .layer(DefaultBodyLimit::max(state.max_body))
        .layer(middleware::from_fn_with_state(state.clone(), guard::count))
        .with_state(state)
}

/// A request that is not answered as it was meant.
#[derive(Debug, Clone)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    fn unusable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    fn json(&self) -> serde_json::Value {
        json!({"code": self.code, "message": self.message})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.json()}))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
            .extensions_mut()
            .insert(Refused { code: self.code });
        response
    }
}

/// What a request asks for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    #[serde(skip)]
    photos: Vec<Photo>,
    /// Words, between commas or line ends.
    labels: Option<String>,
    top: Option<usize>,
    /// The one word of an explanation.
    label: Option<String>,
}

struct Photo {
    name: String,
    bytes: Bytes,
}

/// A photograph of a reply.
#[derive(Serialize)]
struct Ranking {
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The reply to a prediction.
#[derive(Serialize)]
struct Predicted {
    photos: Vec<Ranking>,
}

/// The reply to an explanation.
#[derive(Serialize)]
struct Explained {
    name: String,
    label: Ranked,
    maps: Vec<Map>,
}

#[derive(Serialize)]
struct Map {
    #[serde(flatten)]
    map: LabelMap,
    /// The photograph under the map, the address of a PNG.
    picture: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Labels(Vec<Ranked>),
    Error(serde_json::Value),
}

async fn metrics(Given(state): Given<Arc<State>>) -> Result<String, Refusal> {
    let failed = |_| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics",
            "cannot be written",
        )
    };
    state.metrics.text().map_err(failed)
}

async fn predict(
    Given(state): Given<Arc<State>>,
    request: Request,
) -> Result<Json<Predicted>, Refusal> {
    let begun = state.begin()?;
    begun.within(state.timeout, state.predict(request)).await
}

async fn explain(
    Given(state): Given<Arc<State>>,
    request: Request,
) -> Result<Json<Explained>, Refusal> {
    let begun = state.begin()?;
    begun.within(state.timeout, state.explain(request)).await
}

/// A request's place among those that may be worked on.
struct Begun<'a> {
    metrics: &'a Metrics,
    _place: OwnedSemaphorePermit,
}

impl Begun<'_> {
    async fn within<T>(
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
    /// Takes a place, before the body is read: what waits is bounded.
    fn begin(&self) -> Result<Begun<'_>, Refusal> {
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

    /// Reads a request, in a third of its time.
    async fn read(&self, request: Request) -> Result<Asked, Refusal> {
        let read = Asked::read(request, self.max_body);
        let slow = |_| {
            let message = "the request was sent too slowly";
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow", message)
        };
        tokio::time::timeout(self.timeout / 3, read)
            .await
            .map_err(slow)?
    }

    async fn predict(self: &Arc<Self>, request: Request) -> Result<Json<Predicted>, Refusal> {
        let asked = self.read(request).await?;
        let keep = match asked.top {
            Some(0) => return Err(Refusal::unusable("top", "top = 0: give at least 1")),
            Some(top) => Keep::best(top),
            None => self.keep,
        };
        let labels = self.labels(asked.labels.as_deref()).await?;
        let single = asked.photos.len() == 1;
        // All go into the queue at once. A set ends its tasks when it is dropped, as it is when the client goes away.
        let mut looks = JoinSet::new();
        for (place, photo) in asked.photos.into_iter().enumerate() {
            let (state, labels) = (self.clone(), labels.clone());
            looks.spawn(async move {
                let seen = state.look(&photo, labels, false).await;
                (
                    place,
                    photo.name,
                    seen.map(|(_, seen)| seen.ranked.keep(&keep)),
                )
            });
        }
        let mut ended = Vec::new();
        while let Some(look) = looks.join_next().await {
            ended.push(look.map_err(failed)?);
        }
        ended.sort_by_key(|(place, ..)| *place);
        let mut rankings = Vec::new();
        for (_, name, seen) in ended {
            let outcome = match seen {
                Ok(labels) => Outcome::Labels(labels),
                Err(refusal) if single => return Err(refusal),
                Err(refusal) => {
                    self.metrics.refuse(refusal.code);
                    Outcome::Error(refusal.json())
                }
            };
            rankings.push(Ranking { name, outcome });
        }
        Ok(Json(Predicted { photos: rankings }))
    }

    async fn explain(self: &Arc<Self>, request: Request) -> Result<Json<Explained>, Refusal> {
        let asked = self.read(request).await?;
        let Some(label) = asked.label else {
            return Err(Refusal::unusable(
                "label",
                "give the label to look for as `label`",
            ));
        };
        let [photo] = &asked.photos[..] else {
            return Err(Refusal::unusable("photo", "give one photograph"));
        };
        let labels = self.vectors(vec![label.trim().into()]).await?;
        let (picture, seen) = self.look(photo, labels, true).await?;
        let Seen { ranked, maps } = seen;
        let label = ranked.into_iter().next();
        let label = label.ok_or_else(|| failed("a label without a score"))?;
        if maps.is_empty() {
            let method = self.about.method;
            let message = format!(
                "the method `{method}` looks at an image as a whole: it has no map of a label"
            );
            return Err(Refusal::unusable("map", message));
        }
        let state = self.clone();
        let drawn =
            tokio::task::spawn_blocking(move || -> Result<Vec<Map>, ::image::ImageError> {
                let drawn = maps.into_iter().map(|map| {
                    let picture = state.picture(&picture, &map)?;
                    Ok(Map { map, picture })
                });
                drawn.collect()
            });
        let maps = drawn.await.map_err(failed)?.map_err(failed)?;
        Ok(Json(Explained {
            name: photo.name.clone(),
            label,
            maps,
        }))
    }

    /// The photograph under a map, as the address of a PNG.
    fn picture(&self, photo: &RgbImage, map: &LabelMap) -> Result<String, ::image::ImageError> {
        let (width, height) = photo.dimensions();
        let heat = heat(map, &self.preprocess, width, height);
        let mut bytes = std::io::Cursor::new(Vec::new());
        overlay(photo, &heat).write_to(&mut bytes, ::image::ImageFormat::Png)?;
        Ok(format!(
            "data:image/png;base64,{}",
            STANDARD.encode(bytes.into_inner())
        ))
    }

    /// The vectors of the words that are asked for, or of the model's own labels.
    async fn labels(self: &Arc<Self>, words: Option<&str>) -> Result<Arc<LabelVectors>, Refusal> {
        let words = words.unwrap_or_default().split([',', '\n']).map(str::trim);
        let words = words.filter(|word| !word.is_empty());
        // One more than it takes is enough to see that there are too many.
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

    async fn vectors(self: &Arc<Self>, words: Vec<String>) -> Result<Arc<LabelVectors>, Refusal> {
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

    /// What the model sees in a photograph; the photograph comes back, small enough to draw on, where maps are wanted.
    async fn look(
        self: &Arc<Self>,
        photo: &Photo,
        labels: Arc<LabelVectors>,
        maps: bool,
    ) -> Result<(RgbImage, Seen), Refusal> {
        // Held until it is answered, or thrown away unanswered: what waits for the engine is bounded, whoever goes away.
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
            let limits = Limits {
                max_pixels: state.max_pixels,
                ..Limits::default()
            };
            let picture = image::decode(Path::new(&name), &bytes, &limits);
            let picture = picture.map_err(|error| error.to_string())?;
            let mut pixels = vec![0.0; state.preprocess.len()];
            state.preprocess.apply(&picture, &mut pixels);
            let shown = if maps {
                small(&picture)
            } else {
                RgbImage::new(0, 0)
            };
            Ok::<_, String>((shown, pixels))
        });
        // A panic in a decoder costs its photograph, not the server.
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

/// A failure that is ours.
fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "server",
        error.to_string(),
    )
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

impl Asked {
    /// Reads a form of several parts, or a picture as it is.
    async fn read(request: Request, max_body: usize) -> Result<Self, Refusal> {
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > max_body as u64) {
            // Read to its end, so that its sender sees the answer; unless it is far too large.
            let mut sent = request.into_body();
            while length.is_some_and(|length| length <= 4 * max_body as u64)
                && let Some(Ok(_)) = sent.frame().await
            {}
            return Err(body(StatusCode::PAYLOAD_TOO_LARGE, "", max_body));
        }
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default()
            .to_string();
        let asked = if kind.starts_with("multipart/form-data") {
            Self::form(request, max_body).await?
        } else if kind.starts_with("image/") || kind == "application/octet-stream" {
            let query = Query::<Self>::try_from_uri(request.uri());
            let Query(mut asked) = query.map_err(|error| {
                Refusal::new(StatusCode::BAD_REQUEST, "query", error.body_text())
            })?;
            let bytes = Bytes::from_request(request, &()).await;
            let bytes =
                bytes.map_err(|error| body(error.status(), &error.body_text(), max_body))?;
            asked.photos.push(Photo {
                name: "photo".into(),
                bytes,
            });
            asked
        } else {
            let message = "send a form (multipart/form-data) with `photo`, or a picture as image/jpeg, image/png or image/webp";
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "type",
                message,
            ));
        };
        match asked.photos.len() {
            0 => Err(Refusal::unusable(
                "photo",
                "no photograph: send at least one as `photo`",
            )),
            count if count > PHOTOS => {
                let message = format!("{count} photographs; this server takes {PHOTOS} at once");
                Err(Refusal::unusable("photos", message))
            }
            _ => Ok(asked),
        }
    }

    async fn form(request: Request, max_body: usize) -> Result<Self, Refusal> {
        // All of the body is read first: a connection that is closed with something unread loses its answer.
        let (head, sent) = request.into_parts();
        let whole = Bytes::from_request(Request::from_parts(head.clone(), sent), &()).await;
        let whole = whole.map_err(|error| body(error.status(), &error.body_text(), max_body))?;
        let request = Request::from_parts(head, whole.into());
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|error| body(error.status(), &error.body_text(), max_body))?;
        let mut asked = Self::default();
        let broken = |error: axum::extract::multipart::MultipartError| {
            body(error.status(), &error.body_text(), max_body)
        };
        while let Some(field) = form.next_field().await.map_err(broken)? {
            let name = field.name().unwrap_or_default().to_string();
            if name == "photo" {
                let file = field.file_name().unwrap_or("photo").to_string();
                let bytes = field.bytes().await.map_err(broken)?;
                asked.photos.push(Photo { name: file, bytes });
                continue;
            }
            let text = field.text().await.map_err(broken)?;
            match name.as_str() {
                "labels" => asked.labels = Some(text),
                "label" => asked.label = Some(text),
                "top" => {
                    let top = text.trim().parse();
                    let wrong =
                        |_| Refusal::unusable("top", format!("top = {text:?}: give a number"));
                    asked.top = Some(top.map_err(wrong)?);
                }
                _ => {
                    let message = format!(
                        "the form has a part {name:?}; it may have photo, labels, label and top"
                    );
                    return Err(Refusal::unusable("form", message));
                }
            }
        }
        Ok(asked)
    }
}

/// A body that could not be read.
fn body(status: StatusCode, message: &str, max_body: usize) -> Refusal {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is larger than {} MB", max_body >> 20);
            Refusal::new(status, "body", message)
        }
        _ => Refusal::new(status, "body", message),
    }
}
