//! Which part of a file holds a network. Training programs keep the weights under a key of their checkpoint, beside the
//! optimiser's, and sometimes several networks in one file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::super::BackboneError;
use super::super::tensors::Tensors;

/// What tells a kind of network.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Tensors that it has, after one of the prefixes.
    pub(super) recognised_by: &'static [&'static str],
    pub(super) prefixes: &'static [&'static str],
}

/// A network that was found.
pub(super) struct Found {
    /// Its place among the kinds.
    pub(super) kind: usize,
    /// What stands before its names within its part.
    pub(super) prefix: &'static str,
    /// What stands before all names of its part in the file.
    part: String,
    /// Its key, where the file holds several networks.
    pub(super) key: Option<String>,
}

/// Finds the network of one of these kinds and leaves its part alone in `tensors`; `None` where there is none.
///
/// # Errors
/// [`BackboneError::Parts`] for several networks of which `key` names none.
pub(super) fn choose(
    tensors: &mut Tensors,
    kinds: &[Kind],
    key: Option<&str>,
) -> Result<Option<Found>, BackboneError> {
    let mut all = find(tensors, kinds);
    let several = all.len() > 1;
    let chosen = match key {
        Some(key) => all.iter().position(|found| shown(&found.part) == key),
        None => (!several).then_some(0),
    };
    let Some(chosen) = chosen else {
        if all.is_empty() {
            return Ok(None);
        }
        let one = |found: &Found| (shown(&found.part).to_string(), kinds[found.kind].name);
        return Err(BackboneError::Parts {
            path: tensors.path.clone(),
            wanted: key.map(String::from),
            found: all.iter().map(one).collect(),
        });
    };
    if all.is_empty() {
        return Ok(None);
    }
    let mut found = all.swap_remove(chosen);
    let others: Vec<&str> = all.iter().map(|other| other.part.as_str()).collect();
    tensors.keep_part(&found.part, &others);
    found.key = several.then(|| shown(&found.part).to_string());
    Ok(Some(found))
}

/// A part as people name it: without the dot at its end, and the file itself as a dot.
fn shown(part: &str) -> &str {
    match part.trim_end_matches('.') {
        "" => ".",
        name => name,
    }
}

/// Every network, in the order of the names; of one that fits several kinds the first.
fn find(tensors: &Tensors, kinds: &[Kind]) -> Vec<Found> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for (number, kind) in kinds.iter().enumerate() {
        for &prefix in kind.prefixes {
            let Some(first) = kind.recognised_by.first() else {
                continue;
            };
            for part in tensors.before(&format!("{prefix}{first}")) {
                let at = format!("{part}{prefix}");
                let mut names = kind.recognised_by.iter();
                if !names.all(|name| tensors.has(&format!("{at}{name}"))) {
                    continue;
                }
                let found = Found {
                    kind: number,
                    prefix,
                    part: part.into(),
                    key: None,
                };
                match all.entry(at) {
                    Entry::Vacant(place) => {
                        place.insert(found);
                    }
                    // A prefix that the family knows is no part of a checkpoint.
                    Entry::Occupied(mut place) if place.get().kind == number => {
                        if place.get().part.len() > part.len() {
                            place.insert(found);
                        }
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
    }
    all.into_values().collect()
}
