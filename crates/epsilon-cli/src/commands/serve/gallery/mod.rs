//! A library's page and its API: photographs listed, searched, shown and corrected. Nothing here keeps the library's lock, so a
//! program may tag it meanwhile.

mod changes;
mod listing;
mod pictures;
mod search;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Query, Request, State as Given};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use epsilon::image::Limits;
use epsilon::library::thumbnails::{Thumbnails, Version};
use epsilon::library::{Catalog, Corrections, Item, Library, Tag};
use epsilon::paths;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex as Turns;

use super::api::{CSS, HTML, Map, SCRIPT, page};
use super::beside::one_of;
use super::limits::LABEL_BYTES;
use super::refusal::{Refusal, failed};
use super::request::Photo;
use super::state::State;
use listing::Selections;
pub(super) use search::{LoadWords, Search};

/// A library that is served.
pub(super) struct Gallery {
    server: Arc<State>,
    library: Library,
    folder: PathBuf,
    catalog: Mutex<Catalog>,
    corrections: Mutex<Corrections>,
    selections: Mutex<Selections>,
    /// Held by whoever finds the photographs that teach most: once is enough for all who ask meanwhile.
    telling: Arc<Turns<()>>,
    search: Search,
    thumbnails: Thumbnails,
    limits: Limits,
    /// Whether thumbnails are being made, or have been.
    making: AtomicBool,
    /// Whether one could not be kept, which the log has been told.
    unkept: AtomicBool,
}

impl Gallery {
    /// The library in this folder.
    pub(super) fn open(
        library: Library,
        folder: PathBuf,
        search: Search,
        limits: Limits,
        server: Arc<State>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            catalog: Mutex::new(Catalog::read(&folder)?),
            corrections: Mutex::new(Corrections::open(&folder)?),
            selections: Mutex::default(),
            telling: Arc::default(),
            search,
            thumbnails: Thumbnails::of(&folder),
            limits,
            making: AtomicBool::new(false),
            unkept: AtomicBool::new(false),
            library,
            folder,
            server,
        })
    }

    /// Makes ready what a first search needs.
    pub(super) async fn prepare(self: Arc<Self>) {
        self.search.prepare(&self.server).await;
    }

    /// What is known of the library by now.
    fn catalog(&self) -> Result<MutexGuard<'_, Catalog>, Refusal> {
        let mut catalog = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        catalog.refresh().map_err(failed)?;
        Ok(catalog)
    }

    /// The photograph of an id, which it checks: no other file is ever opened.
    fn item(&self, id: &str) -> Result<Item, Refusal> {
        self.catalog()?.item(id).cloned().ok_or_else(unknown)
    }

    /// Where a photograph of the library lies: in its folder, as a catalog has no other ids.
    fn path(&self, item: &Item) -> PathBuf {
        self.library.photos.join(paths::path(&item.id))
    }
}

/// The refusal of an id that no photograph of the library has.
fn unknown() -> Refusal {
    let message = "the library has no such photograph";
    Refusal::new(StatusCode::NOT_FOUND, "photo", message)
}

fn version(item: &Item) -> Version {
    Version {
        bytes: item.bytes,
        modified: item.modified,
    }
}

/// The routes of a library, all of which want the server's token.
pub(super) fn routes(gallery: Arc<Gallery>) -> Router<Arc<State>> {
    Router::new()
        .route("/v1/library", get(about))
        .route("/v1/library/photos", get(listing::photos))
        .route("/v1/library/photo", get(photo))
        .route("/v1/library/labels", get(listing::labels))
        .route("/v1/library/folders", get(listing::folders))
        .route("/v1/library/thumb", get(pictures::thumb))
        .route("/v1/library/picture", get(pictures::picture))
        .route("/v1/library/explain", post(explain))
        .route("/v1/library/corrections", post(changes::correct))
        .with_state(gallery)
}

/// Its page, and the description of all routes. Who has no token sees the page, which asks for one.
pub(super) fn pages() -> Router<Arc<State>> {
    Router::new()
        .route("/", page(HTML, include_str!("library.html")))
        .route("/library.css", page(CSS, include_str!("library.css")))
        .route("/library.js", page(SCRIPT, include_str!("library.js")))
        .route("/openapi.json", get(async || Json(document())))
}

/// The description of the server's routes, a library's among them.
fn document() -> Value {
    let [mut document, library]: [Value; 2] = [
        include_str!("../openapi.json"),
        include_str!("openapi.json"),
    ]
    .map(|text| serde_json::from_str(text).unwrap_or_default());
    for place in ["/paths", "/components/schemas"] {
        if let (Some(Value::Object(all)), Some(Value::Object(more))) =
            (document.pointer_mut(place), library.pointer(place))
        {
            all.extend(more.clone());
        }
    }
    document
}

/// What the page needs to know of the library.
#[derive(Serialize)]
struct About {
    photographs: usize,
    reviewed: usize,
    broken: usize,
    /// Whether labels have probabilities.
    probabilities: bool,
    /// Whether it is known how sure the program is of a photograph's labels.
    doubt: bool,
    /// Whether it can be searched for words.
    search: bool,
}

async fn about(Given(gallery): Given<Arc<Gallery>>) -> Result<Json<About>, Refusal> {
    answered(gallery, |gallery| {
        let catalog = gallery.catalog()?;
        let items = || catalog.items().iter();
        let has_probability = |item: &Item| {
            let mut labels = item.labels.iter();
            labels.any(|label| label.probability().is_some())
        };
        Ok(About {
            photographs: items().count(),
            reviewed: items().filter(|item| item.reviewed).count(),
            broken: items().filter(|item| item.error.is_some()).count(),
            probabilities: items().any(has_probability),
            doubt: items().any(|item| item.doubt.is_some()),
            search: gallery.search.has_index(),
        })
    })
    .await
}

/// A photograph in a reply.
#[derive(Serialize)]
struct Shown {
    id: String,
    /// Stands in the addresses of its pictures: another one when the photograph has changed.
    version: String,
    /// Seconds since 1970 on the camera's clock.
    date: i64,
    labels: Box<[Tag]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<f32>,
    reviewed: bool,
}

impl Shown {
    fn of(item: &Item) -> Self {
        Self {
            id: item.id.clone(),
            version: named(version(item)),
            date: item.date,
            labels: item.labels.clone(),
            // What it says begins with the file's path.
            error: item.error.as_ref().map(|error| reason(error, &item.id)),
            doubt: item.doubt,
            reviewed: item.reviewed,
        }
    }

    /// One that has been taken out of the library since it was listed.
    fn gone(id: &str) -> Self {
        Self {
            id: id.into(),
            version: String::new(),
            date: 0,
            labels: Box::default(),
            error: Some("it is not in the library any more".into()),
            doubt: None,
            reviewed: false,
        }
    }
}

/// A version as it stands in an address.
fn named(version: Version) -> String {
    format!("{:x}-{:x}", version.bytes, version.modified)
}

/// An error without the folder in front of the photograph's name, which is nobody's business. The folder may be an earlier one, or named
/// like the photograph: the last place counts at which a path can end so.
fn reason(error: &str, id: &str) -> String {
    let named = format!("{id}: ");
    let mut places = error.rmatch_indices(&named).map(|(place, _)| place);
    let is_whole = |place: &usize| *place == 0 || error[..*place].ends_with('/');
    match places.find(is_whole) {
        Some(place) => error[place..].into(),
        None => format!("{named}cannot be read"),
    }
}

/// The photograph that is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    id: String,
}

async fn photo(
    Given(gallery): Given<Arc<Gallery>>,
    query: Result<Query<One>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Shown>, Refusal> {
    let one = given(query)?;
    answered(gallery, move |gallery| {
        Ok(Shown::of(&gallery.item(&one.id)?))
    })
    .await
}

/// A photograph and a label to look for in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Where {
    photo: String,
    label: String,
}

#[derive(Serialize)]
struct Explained {
    photo: String,
    maps: Vec<Map>,
}

async fn explain(
    Given(gallery): Given<Arc<Gallery>>,
    request: Request,
) -> Result<Json<Explained>, Refusal> {
    let server = gallery.server.clone();
    let begun = server.begin()?;
    let asked: Where = server.json(request).await?;
    let explained = async {
        let Where { photo, label } = asked;
        let (bytes, held) = gallery.clone().read(photo.clone()).await?;
        let name = photo.clone();
        let (_, maps) = server.maps(&Photo { name, bytes }, &label).await?;
        drop(held);
        Ok(Json(Explained { photo, maps }))
    };
    begun.within(server.timeout, explained).await
}

/// A query, or what is wrong with it.
fn given<T>(
    query: Result<Query<T>, axum::extract::rejection::QueryRejection>,
) -> Result<T, Refusal> {
    let wrong = |error: axum::extract::rejection::QueryRejection| {
        Refusal::new(StatusCode::BAD_REQUEST, "query", error.body_text())
    };
    Ok(query.map_err(wrong)?.0)
}

/// Checks a label that somebody has typed; without the spaces around it.
fn label(typed: &str) -> Result<String, Refusal> {
    let label = typed.trim();
    if label.is_empty() || label.len() > LABEL_BYTES || !paths::is_plain(label) {
        let message =
            format!("{typed:?} is no label: give 1 to {LABEL_BYTES} bytes of printable text");
        return Err(Refusal::unusable("labels", message));
    }
    Ok(label.into())
}

/// Checks a probability that somebody gives.
fn probability(given: f32) -> Result<f32, Refusal> {
    match (0.0..=1.0).contains(&given) {
        true => Ok(given),
        false => {
            let message = format!("probability = {given}: give a probability from 0 to 1");
            Err(Refusal::unusable("probability", message))
        }
    }
}

/// Answers a request by what `read` finds in the library.
async fn answered<T: Send + 'static>(
    gallery: Arc<Gallery>,
    read: impl FnOnce(&Gallery) -> Result<T, Refusal> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    let server = gallery.server.clone();
    let begun = server.begin()?;
    let read = one_of(&server.readers, move || read(&gallery));
    begun.within(server.timeout, read).await.map(Json)
}

#[cfg(test)]
mod tests;
