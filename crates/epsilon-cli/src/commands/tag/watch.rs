//! Rounds without end: one at the start, and one each time photographs have come, changed or gone. The system tells of most of that;
//! of what it does not tell (a disk that is mounted, a folder behind a new link, another machine's work on a network folder) a look
//! every minute does.

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

/// How often the folder is looked through though nothing was told of it.
const LOOK: Duration = Duration::from_secs(60);
/// Of a folder that takes long to look through, so that a look takes no more than a twentieth of the time.
const REST: u32 = 20;

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
        // As it was when the round began: what changed while it was under way is seen by the next look.
        let mut looked = Looked::of(tagger.seen());
        if report.others != others {
            name_others(&report);
            others.clone_from(&report.others);
        }
        let again = if report.fresh > 0 { Some(SETTLE) } else { None };
        let concerns = |event: &Event| concerns(event, tagger.walk(), tagger.library());
        let mut changed = || {
            tagger.check()?;
            Ok(looked.is_due() && looked.again(tagger.walk()))
        };
        if !wait(&events, again, concerns, &mut changed)? {
            return Ok(report);
        }
    }
}

/// What a folder held when it was looked through.
struct Looked {
    /// A hash of it.
    seen: u64,
    next: Instant,
}

impl Looked {
    fn of(seen: u64) -> Self {
        Self {
            seen,
            next: Instant::now() + LOOK,
        }
    }

    fn is_due(&self) -> bool {
        self.next <= Instant::now()
    }

    /// Looks again; whether it holds something else now.
    fn again(&mut self, walk: &Walk) -> bool {
        let start = Instant::now();
        let before = std::mem::replace(&mut self.seen, walk.scan().digest());
        self.next = Instant::now() + LOOK.max(start.elapsed() * REST);
        self.seen != before
    }
}

/// Waits until something has happened to photographs and then nothing for a while, though not for ever, or until `changed`, which is
/// asked now and then, says so, or until `again` is over; false when nobody watches any more.
fn wait(
    events: &Receiver<notify::Result<Event>>,
    again: Option<Duration>,
    concerns: impl Fn(&Event) -> bool,
    changed: &mut dyn FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let pause = again.unwrap_or(CHECK);
    let mut end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // Events that do not concern us may come without end, too.
        if left.is_zero() {
            if again.is_some() || changed()? {
                return Ok(true);
            }
            end = Instant::now() + pause;
        }
        match events.recv_timeout(left) {
            Ok(event) => {
                if concerns(&event?) {
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

    #[cfg(unix)]
    #[test]
    fn what_no_event_tells_of_is_seen_by_a_look() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| elsewhere.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        write("a.jpg", "a");
        let walk = Walk::new(folder.path(), &[] as &[&str]).unwrap();
        let mut looked = Looked::of(walk.scan().digest());
        assert!(!looked.is_due() && !looked.again(&walk));
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("link")).unwrap();
        assert!(looked.again(&walk), "a new link");
        assert!(!looked.again(&walk));
        write("a.jpg", "longer");
        assert!(looked.again(&walk), "a photograph behind it");
        write("b.jpg", "b");
        assert!(looked.again(&walk), "a new one");
        assert!(!looked.again(&walk));
    }

    #[test]
    fn a_look_begins_a_round_where_no_event_comes() {
        let (_sender, events) = channel();
        let mut looks = 0;
        let mut changed = || {
            looks += 1;
            Ok(looks == 2)
        };
        let begins = wait(&events, None, |_| false, &mut changed).unwrap();
        assert!(begins && looks == 2);
    }

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
