//! What is told of a tagging while it goes on and when it ends.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use super::TagError;
use crate::library::{Entry, Labelled};

/// What happens while a folder is tagged.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum TagEvent<'a> {
    /// So many photographs are new or have changed.
    Begin(usize),
    /// A photograph was tagged: its line, with the owner's word applied to its labels.
    Tagged(&'a Entry<Labelled>),
    /// A photograph, a sidecar or a folder failed; the message names it.
    Failed(&'a str),
    /// A photograph's file is not quite right, but it was read; the message names it.
    Flawed(&'a str),
    /// A sidecar, by its path in the folder as [`epsilon_data::paths::text`] writes it, that holds labels of ours while its photographs are gone; they stay there.
    Orphan(&'a str),
    /// So many more of the photographs are done, for better or worse, and on the disk.
    Done(usize),
}

/// Is told what happens, and can break a tagging off.
pub type Observe<'a> = dyn FnMut(TagEvent<'_>) -> ControlFlow<()> + 'a;

/// How a round over the folder went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TagReport {
    /// Photographs that were tagged.
    pub tagged: usize,
    /// Photographs that had their tags already.
    pub unchanged: usize,
    /// Photographs with corrections that were found under a new name, also where the old one may only be away.
    pub followed: usize,
    /// Photographs, sidecars and folders that failed.
    pub failed: usize,
    /// Of those that were tagged, photographs whose files are not quite right.
    pub flawed: usize,
    /// Pictures of kinds that are not decoded, by their usual endings.
    pub others: BTreeMap<String, usize>,
    /// Sidecars with labels of ours whose photographs are gone.
    pub orphans: usize,
    /// Of these, sidecars that the labels were taken out of, as [`TagOptions::prune`](super::TagOptions::prune) says.
    pub pruned: usize,
    /// Photographs that were left for the next round because they may still be written.
    pub fresh: usize,
}

/// A round that is under way.
pub(super) struct Round<'a, 'o> {
    pub report: TagReport,
    pub observe: &'a mut Observe<'o>,
}

impl Round<'_, '_> {
    pub(super) fn tell(&mut self, event: TagEvent<'_>) -> Result<(), TagError> {
        match (self.observe)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TagError::Stopped),
        }
    }

    pub(super) fn fail(&mut self, reason: &str) -> Result<(), TagError> {
        self.report.failed += 1;
        self.tell(TagEvent::Failed(reason))
    }
}
