//! Rounds without end: one at the start, and one each time photographs have come, changed or gone.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use epsilon::library::Walk;
use epsilon::tagger::{TagReport, Tagger};
use notify::{Event, RecursiveMode, Watcher};

use super::{name_others, round};

/// A photograph that was changed less than this ago may still be written.
const SETTLE: Duration = Duration::from_secs(2);
/// How long nothing must happen before a round begins.
const QUIET: Duration = Duration::from_millis(500);
/// A round begins after this long even where something happens without end, as in a folder that a camera or a download
/// writes to: otherwise nothing would be tagged until it is over.
const LONGEST: Duration = Duration::from_secs(10);

/// How often it is looked whether the folder and the library are still where they were. A folder that is moved away takes the
/// watch with it, and what is made anew in its place is not watched: that ends the program with an error that says so.
const CHECK: Duration = Duration::from_secs(2);

/// Rounds until the program is stopped; whatever it was doing then, the next run goes on from there.
pub(super) fn run(tagger: &mut Tagger<'_>, json: bool) -> anyhow::Result<TagReport> {
    let folder = tagger.folder().to_path_buf();
    let mut others = Default::default();
    let (sender, events) = channel();
    let mut watcher = notify::recommended_watcher(sender)?;
    watcher
        .watch(&folder, RecursiveMode::Recursive)
        .with_context(|| format!("{} cannot be watched", folder.display()))?;
    loop {
        let report = round(tagger, SETTLE, json)?;
        if report.others != others {
            name_others(&report);
            others.clone_from(&report.others);
        }
        let again = if report.fresh > 0 { Some(SETTLE) } else { None };
        if !wait(&events, tagger, again)? {
            return Ok(report);
        }
    }
}

/// Waits until something has happened to photographs and then nothing for a while, though not for ever, or until `again` is
/// over; false when nobody watches any more.
fn wait(
    events: &Receiver<notify::Result<Event>>,
    tagger: &Tagger<'_>,
    again: Option<Duration>,
) -> anyhow::Result<bool> {
    let pause = again.unwrap_or(CHECK);
    let mut end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // Events that do not concern us may come without end, too.
        if left.is_zero() {
            if again.is_some() {
                return Ok(true);
            }
            tagger.check()?;
            end = Instant::now() + pause;
        }
        match events.recv_timeout(left) {
            Ok(event) => {
                if concerns(&event?, tagger.walk(), tagger.library()) {
                    break;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
    }
    let end = Instant::now() + LONGEST;
    while Instant::now() < end {
        match events.recv_timeout(QUIET) {
            Ok(event) => drop(event?),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
    }
    Ok(true)
}

/// Whether an event may be about photographs: not a file that was only read, our own files, or sidecars. What has gone may
/// have been a folder of them, and so may what the system lost count of, which names no path.
fn concerns(event: &Event, walk: &Walk, library: &Path) -> bool {
    let about = |path: &PathBuf| !path.starts_with(library) && walk.concerns(path);
    event.need_rescan() || !event.kind.is_access() && event.paths.iter().any(about)
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, EventKind, Flag};

    use super::*;

    #[test]
    fn what_the_system_lost_count_of_concerns_us() {
        let walk = Walk::new(Path::new("photos"), &[] as &[&str]).unwrap();
        let library = Path::new("photos/.epsilon");
        let about = |kind, path: &str| Event::new(kind).add_path(PathBuf::from(path));
        let create = EventKind::Create(CreateKind::File);
        assert!(concerns(&about(create, "photos/a.jpg"), &walk, library));
        assert!(!concerns(
            &about(create, "photos/.epsilon/tags.jsonl"),
            &walk,
            library
        ));
        let read = EventKind::Access(AccessKind::Any);
        assert!(!concerns(&about(read, "photos/a.jpg"), &walk, library));
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(concerns(&lost, &walk, library));
    }
}
