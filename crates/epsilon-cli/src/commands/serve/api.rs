//! Routes, handlers and replies of the HTTP API.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State as Given};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use data_encoding::BASE64;
use epsilon::image::RgbImage;
use epsilon::labels::LabelVectors;
use epsilon::methods::LabelMap;
use epsilon::model::{Keep, Ranked};
use epsilon::{PredictError, Predictor};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::beside::beside;
use super::engine::Seen;
use super::gallery::{self, Gallery};
use super::guard;
use super::limits::patience;
use super::model::{About, Loaded};
use super::refusal::{Refusal, failed};
use super::request::{Photo, discard};
use super::state::{Begun, State};

/// All routes; those of a library where one is served.
pub(super) fn routes(state: Arc<State>, gallery: Option<Arc<Gallery>>) -> Router {
    let mut guarded = Router::new()
        .route("/v1/predict", post(predict))
        .route("/v1/explain", post(explain))
        .route("/v1/labels", get(labels))
        .route("/metrics", get(metrics));
    let mut pages = pages(if gallery.is_some() { "/single" } else { "/" });
    if let Some(gallery) = gallery {
        guarded = guarded.merge(gallery::routes(gallery));
        pages = pages.merge(gallery::pages());
    } else {
        pages = pages.route("/openapi.json", page(JSON, include_str!("openapi.json")));
    }
    let guarded = guarded.layer(middleware::from_fn_with_state(state.clone(), guard::token));
    Router::new()
        .merge(pages)
        .route(
            "/healthz",
            get(async |Given(state): Given<Arc<State>>| state.alive().map(well)),
        )
        .route(
            "/readyz",
            get(async |Given(state): Given<Arc<State>>| state.ready().map(well)),
        )
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

/// A file that is part of the program.
pub(super) fn page(kind: &'static str, text: &'static str) -> MethodRouter<Arc<State>> {
    get(async move || ([(CONTENT_TYPE, kind)], text))
}

/// The page that photographs are dropped on, at this place.
fn pages(place: &str) -> Router<Arc<State>> {
    Router::new()
        .route(place, page(HTML, include_str!("page.html")))
        .route("/page.css", page(CSS, include_str!("page.css")))
        .route("/page.js", page(SCRIPT, include_str!("page.js")))
}

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// One photograph in a reply.
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

/// A map, drawn.
#[derive(Serialize)]
pub(super) struct Map {
    #[serde(flatten)]
    map: LabelMap,
    /// The map over the photograph, as a data URL of a PNG.
    picture: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Labels(Vec<Ranked>),
    Error(serde_json::Value),
}

/// The answer about a server that is well.
fn well((): ()) -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
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

async fn labels(Given(state): Given<Arc<State>>) -> Result<Json<About>, Refusal> {
    let begun = state.begin()?;
    let model = begun.within(state.timeout, state.model.get()).await?;
    Ok(Json(model.about.clone()))
}

async fn predict(
    Given(state): Given<Arc<State>>,
    request: Request,
) -> Result<Json<Predicted>, Refusal> {
    let (begun, request) = begin(&state, request).await?;
    begun.within(state.timeout, state.predict(request)).await
}

async fn explain(
    Given(state): Given<Arc<State>>,
    request: Request,
) -> Result<Json<Explained>, Refusal> {
    let (begun, request) = begin(&state, request).await?;
    begun.within(state.timeout, state.explain(request)).await
}

/// Acquires a place for a request, or refuses it once its body has been read.
async fn begin(state: &State, request: Request) -> Result<(Begun<'_>, Request), Refusal> {
    match state.begin() {
        Ok(begun) => Ok((begun, request)),
        Err(refusal) => {
            let discarded = discard(request, state.max_body);
            // Who sends slowly is not waited for.
            let _ = tokio::time::timeout(patience(state.timeout), discarded).await;
            Err(refusal)
        }
    }
}

impl State {
    async fn predict(self: &Arc<Self>, request: Request) -> Result<Json<Predicted>, Refusal> {
        let asked = self.read(request).await?;
        let _held = asked.held;
        let model = self.model.get().await?;
        let keep = match asked.top {
            Some(0) => return Err(Refusal::unusable("top", "top = 0: give at least 1")),
            Some(top) => Keep::best(top),
            None => model.keep,
        };
        let labels = self.labels(&model, asked.labels.as_deref()).await?;
        let single = asked.photos.len() == 1;
        // All photographs are queued at once. Dropping the set, as when the client disconnects, cancels its tasks.
        let mut looks = JoinSet::new();
        for (place, photo) in asked.photos.into_iter().enumerate() {
            let (state, model, labels) = (self.clone(), model.clone(), labels.clone());
            looks.spawn(async move {
                let seen = state.look(&model, &photo, labels, false).await;
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

    async fn explain(&self, request: Request) -> Result<Json<Explained>, Refusal> {
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
        let (label, maps) = self.maps(photo, &label).await?;
        Ok(Json(Explained {
            name: photo.name.clone(),
            label,
            maps,
        }))
    }

    /// A label's score for a photograph, and where the model looked for it.
    pub(super) async fn maps(
        &self,
        photo: &Photo,
        label: &str,
    ) -> Result<(Ranked, Vec<Map>), Refusal> {
        let model = self.model.get().await?;
        let labels = self.vectors(&model, vec![label.trim().into()]).await?;
        let one_of_few = self.explanations.clone().acquire_owned().await;
        let one_of_few = one_of_few.map_err(failed)?;
        let (picture, seen) = self.look(&model, photo, labels.clone(), true).await?;
        let Seen { ranked, maps } = seen;
        let label = ranked.into_iter().next();
        let label = label.ok_or_else(|| failed("a label without a score"))?;
        let name = label.name.clone();
        let drawn = beside(one_of_few, move |wanted| {
            let maps = match maps.is_empty() && !model.predictor.is_trained() {
                true => occluded(&model.predictor, &picture, (&labels, &name), wanted)?,
                false => maps,
            };
            drawn(&model, &picture, maps, wanted)
        });
        Ok((label, drawn.await?))
    }
}

/// The maps of a network without training, beside the engine: they take many passes through it. None where there are none, and where
/// they are not wanted any more.
fn occluded(
    predictor: &Predictor,
    picture: &RgbImage,
    (labels, label): (&LabelVectors, &str),
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<LabelMap>, Refusal> {
    let ranker = predictor.ranker(labels.clone()).map_err(failed)?;
    match predictor.explain_while(picture, &ranker, label, wanted) {
        Err(PredictError::NoMap { .. } | PredictError::Stopped) => Ok(Vec::new()),
        explained => explained.map_err(failed),
    }
}

/// Maps with their pictures, as long as they are wanted.
fn drawn(
    model: &Loaded,
    picture: &RgbImage,
    maps: Vec<LabelMap>,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Map>, Refusal> {
    if maps.is_empty() {
        let method = model.about.method;
        let message =
            format!("the method `{method}` looks at an image as a whole: it has no map of a label");
        return Err(Refusal::unusable("map", message));
    }
    let maps = maps.into_iter().take_while(|_| wanted());
    let drawn = maps.map(|map| {
        let picture = data_url(&model.predictor, picture, &map).map_err(failed)?;
        Ok(Map { map, picture })
    });
    drawn.collect()
}

/// Draws a map over a photograph; returns a data URL of the PNG.
fn data_url(
    predictor: &Predictor,
    photo: &RgbImage,
    map: &LabelMap,
) -> Result<String, ::image::ImageError> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    predictor
        .draw(photo, map)
        .write_to(&mut bytes, ::image::ImageFormat::Png)?;
    Ok(format!(
        "data:image/png;base64,{}",
        BASE64.encode(bytes.get_ref())
    ))
}
