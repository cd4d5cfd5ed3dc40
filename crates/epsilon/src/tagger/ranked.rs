//! A folder tagged by several ranks: all of them look at photographs, and the first one keeps the library.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::predictor::{PredictError, Predictor};
use crate::ranks::Ranks;
use epsilon_vision::backbone::{BackboneError, Features};
use epsilon_vision::tokens::{self, Failure, FeatureBatch, Unread};

/// Photographs that each rank is given at once.
const GIVEN: usize = 32;

/// Photographs, pairs of id and file.
type Items = [(String, PathBuf)];

/// What a rank made of its photographs, but for the features.
#[derive(Serialize, Deserialize)]
struct Described {
    ids: Vec<String>,
    failed: Vec<(String, String, bool)>,
    flawed: Vec<Failure>,
    /// Values of tokens and of global vectors.
    values: [usize; 2],
}

/// Works for a tagging of the first rank until that is [over](dismiss): makes the features of the photographs that it is given.
///
/// # Errors
/// [`PredictError::Forward`] where the backbone fails.
pub fn assist(predictor: &Predictor, ranks: &dyn Ranks) -> Result<(), PredictError> {
    loop {
        let given = ranks.share(0, Vec::new());
        if given.is_empty() {
            return Ok(());
        }
        let items = items(&given);
        let own = &items[ranks.own(items.len())];
        let made = made(own, predictor).map_err(PredictError::Forward)?;
        ranks.bring(made);
    }
}

/// Lets those go that [assist].
pub fn dismiss(ranks: &dyn Ranks) {
    if ranks.size() > 1 {
        ranks.share(0, Vec::new());
    }
}

/// As [`tokens::run`] with the predictor's backbone, by all ranks; the others [assist].
pub(super) fn run(
    items: &Items,
    predictor: &Predictor,
    ranks: &dyn Ranks,
    take: &mut dyn FnMut(&FeatureBatch) -> ControlFlow<()>,
) -> Result<(), BackboneError> {
    if ranks.size() == 1 {
        return tokens::run(items, predictor.backbone(), predictor.limits(), take);
    }
    for part in items.chunks(GIVEN * ranks.size()) {
        ranks.share(0, bytes(part));
        let own = made(&part[ranks.own(part.len())], predictor)?;
        for brought in ranks.bring(own) {
            let mut rest = &brought[..];
            while !rest.is_empty() {
                let (batch, after) = batch(rest);
                rest = after;
                if take(&batch).is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// What the backbone makes of photographs, batch after batch, as [`batch`] reads it.
fn made(items: &Items, predictor: &Predictor) -> Result<Vec<u8>, BackboneError> {
    let mut all = Vec::new();
    let (backbone, limits) = (predictor.backbone(), predictor.limits());
    tokens::run(items, backbone, limits, &mut |batch| {
        let failed = batch.failed.iter();
        let failed = failed.map(|(id, unread)| (id.clone(), unread.reason.clone(), unread.content));
        let features = [&batch.features.tokens, &batch.features.global];
        let described = Described {
            ids: batch.ids.clone(),
            failed: failed.collect(),
            flawed: batch.flawed.clone(),
            values: features.map(Vec::len),
        };
        let described =
            serde_json::to_vec(&described).expect("strings and numbers are always JSON");
        all.extend((described.len() as u64).to_le_bytes());
        all.extend(described);
        for values in features {
            all.extend_from_slice(bytemuck::cast_slice(values));
        }
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

/// The first batch of what [`made`] wrote in a rank of this very program, and what stands behind it.
fn batch(bytes: &[u8]) -> (FeatureBatch, &[u8]) {
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
    let (described, mut rest) = rest.split_at(length as usize);
    let described: Described = serde_json::from_slice(described).expect("what `made` wrote");
    let mut floats = |count: usize| -> Vec<f32> {
        let (own, after) = rest.split_at(4 * count);
        rest = after;
        let values = own.chunks_exact(4);
        values.map(bytemuck::pod_read_unaligned).collect()
    };
    let mut batch = FeatureBatch::default();
    batch.features = Features {
        tokens: floats(described.values[0]),
        global: floats(described.values[1]),
    };
    batch.ids = described.ids;
    batch.flawed = described.flawed;
    let failed = described.failed.into_iter();
    let failed = failed.map(|(id, reason, content)| (id, Unread { reason, content }));
    batch.failed = failed.collect();
    (batch, rest)
}

/// Photographs as bytes; a path may hold anything but a zero.
fn bytes(items: &Items) -> Vec<u8> {
    let mut all = Vec::new();
    for (id, path) in items {
        for text in [id.as_bytes(), path.as_os_str().as_encoded_bytes()] {
            all.extend((text.len() as u64).to_le_bytes());
            all.extend_from_slice(text);
        }
    }
    all
}

/// What [`bytes`] wrote.
fn items(mut bytes: &[u8]) -> Vec<(String, PathBuf)> {
    let mut text = || {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (text, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        bytes = rest;
        Some(text.to_vec())
    };
    let mut items = Vec::new();
    while let (Some(id), Some(path)) = (text(), text()) {
        items.push((String::from_utf8_lossy(&id).into_owned(), path_of(path)));
    }
    items
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_pass_as_bytes_whatever_their_names_are() {
        let mut given = vec![
            ("a.png".to_string(), PathBuf::from("/photos/a.png")),
            (String::new(), PathBuf::from("x\n\"y")),
        ];
        #[cfg(unix)]
        given.push(("latin1".into(), path_of(b"/photos/\xe9.png".to_vec())));
        assert_eq!(items(&bytes(&given)), given);
        assert!(items(&bytes(&[])).is_empty());
    }
}
