//! A library's photographs as a browser shows them: thumbnails, made once, and larger ones, made when they are looked at.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Given};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use epsilon::image::ImageError;
use epsilon::library::Item;
use epsilon::library::thumbnails::{Version, small_jpeg};
use serde::Deserialize;

use super::{Gallery, given, named, unknown, version};
use crate::commands::serve::beside::one_of;
use crate::commands::serve::limits::{self, Held};
use crate::commands::serve::refusal::{Refusal, failed};
use crate::console;

/// The picture that is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    id: String,
    /// As it stands beside the id in a list.
    #[serde(default)]
    version: String,
}

pub(super) async fn thumb(
    gallery: Given<Arc<Gallery>>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    answer(gallery, query, Gallery::thumbnail).await
}

pub(super) async fn picture(
    gallery: Given<Arc<Gallery>>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    answer(gallery, query, Gallery::large).await
}

/// A JPEG of a photograph that `make` makes. One that is asked for by its version does not change any more.
async fn answer(
    Given(gallery): Given<Arc<Gallery>>,
    query: Result<Query<Asked>, QueryRejection>,
    make: fn(&Gallery, &Item, Version) -> Result<Vec<u8>, Refusal>,
) -> Result<Response, Refusal> {
    let asked = given(query)?;
    let server = gallery.server.clone();
    let begun = server.begin()?;
    let made = one_of(&server.decoders, move || {
        let item = gallery.item(&asked.id)?;
        let now = there(&gallery.path(&item))?;
        let keeps = named(now) == asked.version;
        Ok((make(&gallery, &item, now)?, keeps))
    });
    let (bytes, keeps) = begun.within(server.timeout, made).await?;
    let cache = match keeps {
        true => "private, max-age=31536000, immutable",
        false => "no-store",
    };
    Ok((
        [(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, cache)],
        bytes,
    )
        .into_response())
}

/// Which version of a photograph's file is there now.
fn there(path: &Path) -> Result<Version, Refusal> {
    // What is no file is refused when it is opened.
    let about = path.metadata().map_err(|_| gone())?;
    let modified = about.modified().map_err(failed)?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Version {
        bytes: about.len(),
        modified: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    })
}

fn gone() -> Refusal {
    let message = "the photograph's file is not there any more, or cannot be looked at";
    Refusal::new(StatusCode::NOT_FOUND, "gone", message)
}

/// Why a picture was not read: without its folder.
fn unreadable(item: &Item, error: &ImageError) -> Refusal {
    match error {
        ImageError::Missing { .. } => gone(),
        error => Refusal::unusable("photo", super::reason(&error.to_string(), &item.id)),
    }
}

impl Gallery {
    fn thumbnail(&self, item: &Item, version: Version) -> Result<Vec<u8>, Refusal> {
        if let Some(kept) = self.thumbnails.read(&item.id, version) {
            return Ok(kept);
        }
        let file = self.path(item);
        let made = self.thumbnails.make(&item.id, &file, version, &self.limits);
        let made = made.map_err(|error| unreadable(item, &error))?;
        let is_unkept = made.unkept.is_some();
        let was_unkept = self.unkept.swap(is_unkept, Ordering::Relaxed);
        if let Some(error) = made.unkept
            && !was_unkept
        {
            console::complain(format_args!(
                "thumbnails cannot be kept and are made anew each time: {error}"
            ));
        }
        Ok(made.picture)
    }

    fn large(&self, item: &Item, _: Version) -> Result<Vec<u8>, Refusal> {
        let (side, quality) = (limits::PICTURE_SIDE, limits::PICTURE_QUALITY);
        let picture = small_jpeg(&self.path(item), side, quality, &self.limits);
        picture.map_err(|error| unreadable(item, &error))
    }

    /// Starts to make all thumbnails that are missing, one after the other, unless that was done: whoever looks at a photograph
    /// meanwhile waits for one at most.
    pub(super) fn make_thumbnails(self: &Arc<Self>) {
        if self.making.swap(true, Ordering::Relaxed) {
            return;
        }
        let gallery = self.clone();
        tokio::spawn(async move {
            // Of one that cannot be made somebody is told who looks at it.
            if let Err(error) = gallery.make_all().await {
                console::complain(format_args!("thumbnails: {}", error.json()));
            }
        });
    }

    async fn make_all(self: Arc<Self>) -> Result<(), Refusal> {
        let gallery = self.clone();
        let all = one_of(&self.server.readers, move || {
            let catalog = gallery.catalog()?;
            let items = catalog.items().iter();
            let all: Vec<(String, Version)> = items
                .filter(|item| item.error.is_none())
                .map(|item| (item.id.clone(), version(item)))
                .collect();
            drop(catalog);
            let kept = all.iter().map(|(id, _)| id.as_str());
            gallery.thumbnails.keep(kept).map_err(failed)?;
            Ok(all)
        });
        for (id, version) in all.await? {
            // It would be made in vain; whoever asks for one tries again.
            if self.unkept.load(Ordering::Relaxed) {
                self.making.store(false, Ordering::Relaxed);
                break;
            }
            let gallery = self.clone();
            one_of(&self.server.decoders, move || {
                if gallery.thumbnails.read(&id, version).is_none()
                    && let Ok(item) = gallery.item(&id)
                    && let Ok(now) = there(&gallery.path(&item))
                {
                    let _ = gallery.thumbnail(&item, now);
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// A photograph's file, within what may be held.
    pub(super) async fn read(self: Arc<Self>, id: String) -> Result<(Bytes, Held), Refusal> {
        let server = self.server.clone();
        one_of(&server.readers, move || {
            let item = self.item(&id)?;
            let path = self.path(&item);
            let full = || {
                let message =
                    "the server holds as many bytes of photographs as it takes: try again";
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "bodies", message)
            };
            let size = usize::try_from(there(&path)?.bytes).unwrap_or(usize::MAX);
            let held = self.server.bodies.take(size).ok_or_else(full)?;
            let limit = self.limits.max_file_bytes;
            let bytes = epsilon_data::files::read(&path, limit);
            let bytes = bytes.map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => unknown(),
                _ => Refusal::unusable("photo", format!("{id}: {error}")),
            })?;
            Ok((bytes.into(), held))
        })
        .await
    }
}
