//! The tokens of a library's photographs: kept from one time to the next, so that only those of new and changed photographs are
//! extracted. A store that is being made says what its photographs were from the beginning: what a killed run left is of use only
//! while they are the same.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use epsilon_data::files;
use epsilon_vision::backbone::{self, Backbone};
use epsilon_vision::tokens::{
    self, Earlier, ExtractOptions, ExtractReport, FeatureError, StoreError, TokenStore,
};

use super::error::io;
use super::gather::Known;
use super::recipe::backbone as backbone_settings;
use super::{LearnError, LearnEvent, Learner, Observe};

/// What a store's photographs were, beside it.
const STAMPS: &str = "photographs.json";

/// Bytes of each photograph's file, and when it was changed.
type Stamps = HashMap<String, (u64, u64)>;

/// Tokens of all photographs that can be read.
pub(super) struct Extracted {
    pub(super) tokens: TokenStore,
    /// Photographs whose tokens were made this time.
    pub(super) new: usize,
    /// Why the others have none.
    pub(super) failed: Vec<String>,
}

/// Extracts what is missing in the store of a library.
pub(super) fn extract(
    learner: &Learner,
    photos: &[Known],
    observe: &mut Observe<'_>,
) -> Result<Extracted, LearnError> {
    let place = Place::of(&learner.folder);
    place.settle()?;
    let settings = backbone_settings(&learner.network);
    let weights = backbone::locate(&settings.weights, learner.download())?;
    let options = backbone::Options {
        engine: learner.options.engine,
        ..settings.options()
    };
    let network = crate::tensor_vit::load_on(&weights, &options, &burn::tensor::Device::flex())?;
    let stamps = photos.iter().map(|known| {
        let photo = &known.photo;
        (photo.id.clone(), (photo.bytes, photo.modified))
    });
    let stamps: Stamps = stamps.collect();
    let earlier = place.earlier(&*network)?;
    if let Some((store, known)) = earlier.as_ref().filter(|(_, known)| *known == stamps) {
        let tokens = TokenStore::open(store.dir())?;
        let failed = reasons(&tokens, known);
        return Ok(Extracted {
            tokens,
            new: 0,
            failed,
        });
    }
    let items = photos
        .iter()
        .map(|known| (known.photo.id.clone(), known.photo.path.clone()));
    let items: Vec<(String, PathBuf)> = items.collect();
    let is_as_it_was = |id: &str| match &earlier {
        Some((_, known)) => known.contains_key(id) && known.get(id) == stamps.get(id),
        None => false,
    };
    let kept = earlier.as_ref().map(|(store, _)| store);
    place.begin(&stamps)?;
    let mut extract = || {
        let (options, to) = (ExtractOptions::default(), &*place.next);
        let tell = &mut |progress| observe(LearnEvent::Extracting(progress));
        let unchanged = &is_as_it_was;
        let earlier = kept.map(|store| Earlier { store, unchanged });
        tokens::extract_beyond(earlier, &items, &*network, to, &options, tell)
    };
    let report = match extract() {
        // Left by a run that was interrupted, by another network or in another order.
        Err(FeatureError::Store(StoreError::Other { .. })) => {
            place.begin_anew(&stamps)?;
            extract()
        }
        report => report,
    };
    let ExtractReport { failed, .. } = report?;
    let copied = kept.map_or(0, |store| {
        store.ids().iter().filter(|id| is_as_it_was(id)).count()
    });
    drop(earlier);
    place.replace()?;
    let tokens = TokenStore::open(&place.tokens)?;
    Ok(Extracted {
        new: tokens.len().saturating_sub(copied),
        failed: failed.into_iter().map(|failure| failure.reason).collect(),
        tokens,
    })
}

fn reasons(tokens: &TokenStore, known: &Stamps) -> Vec<String> {
    let failed = tokens.manifest().failed.iter();
    let failed = failed.filter(|failure| known.contains_key(&failure.id));
    failed.map(|failure| failure.reason.clone()).collect()
}

/// Where the store lies in a folder.
pub(super) fn place(folder: &Path) -> PathBuf {
    folder.join("tokens")
}

/// The store, the one that will take its place, and the one that it took the place of.
struct Place {
    tokens: PathBuf,
    next: PathBuf,
    old: PathBuf,
}

impl Place {
    fn of(folder: &Path) -> Self {
        Self {
            tokens: place(folder),
            next: folder.join("tokens.next"),
            old: folder.join("tokens.old"),
        }
    }

    /// Brings to an end what a killed run left half done.
    fn settle(&self) -> Result<(), LearnError> {
        if self.old.exists() && !self.tokens.exists() {
            fs::rename(&self.old, &self.tokens).map_err(io(&self.tokens))?;
        }
        remove(&self.old)
    }

    /// The store of an earlier time and its photographs, if it was made by this network.
    fn earlier(&self, network: &dyn Backbone) -> Result<Option<(TokenStore, Stamps)>, LearnError> {
        let Some(stamps) = stamps_in(&self.tokens)? else {
            return Ok(None);
        };
        let store = TokenStore::open(&self.tokens)?;
        let made_by = &store.manifest().header.backbone;
        Ok(made_by
            .difference(network.info())
            .is_none()
            .then_some((store, stamps)))
    }

    /// Makes the next store's folder ready for these photographs. What an interrupted run left there stays if they were the same
    /// then: tokens go by ids, and under an id may be another picture by now, or the rest of one that was half copied.
    fn begin(&self, stamps: &Stamps) -> Result<(), LearnError> {
        match stamps_in(&self.next)? {
            Some(then) if then == *stamps => Ok(()),
            _ => self.begin_anew(stamps),
        }
    }

    /// The same, without anything that was left there.
    fn begin_anew(&self, stamps: &Stamps) -> Result<(), LearnError> {
        let path = self.next.join(STAMPS);
        // First, so that a folder that is half removed is not taken for one to go on with.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(&path)(error)),
            _ => remove(&self.next)?,
        }
        files::folder(&self.next).map_err(io(&self.next))?;
        let text = serde_json::to_vec(stamps).map_err(|error| io(&path)(error.into()))?;
        files::write(&path, &text).map_err(io(&path))
    }

    /// Puts the next store in the place of the one that is there.
    fn replace(&self) -> Result<(), LearnError> {
        if self.tokens.exists() {
            fs::rename(&self.tokens, &self.old).map_err(io(&self.old))?;
        }
        fs::rename(&self.next, &self.tokens).map_err(io(&self.tokens))?;
        remove(&self.old)
    }
}

/// What the photographs of the store in a folder were; none where nothing says so.
fn stamps_in(store: &Path) -> Result<Option<Stamps>, LearnError> {
    let path = store.join(STAMPS);
    let text = match files::read(&path, files::LIST) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(&path)(error)),
    };
    let stamps = serde_json::from_slice(&text).map_err(|error| {
        let advice = format!("{error}; delete its folder to have the tokens made anew");
        io(&path)(std::io::Error::other(advice))
    })?;
    Ok(Some(stamps))
}

fn remove(folder: &Path) -> Result<(), LearnError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million photographs take more than a description may have.
    #[test]
    fn what_very_many_photographs_were_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut text = vec![b' '; files::DESCRIPTION as usize];
        text.extend_from_slice(br#"{"a.jpg":[3,4]}"#);
        files::write(&folder.path().join(STAMPS), &text).unwrap();
        let stamps = Stamps::from([("a.jpg".to_string(), (3, 4))]);
        assert_eq!(stamps_in(folder.path()).unwrap(), Some(stamps));
    }
}
