//! Patience with a server: work on another thread that is given up once it has said nothing for a while. The hub's client has no
//! time-outs of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use hf_hub::api::Progress;
use indicatif::ProgressBar;

/// Signs of life.
#[derive(Clone, Default)]
pub(super) struct Beats(Arc<AtomicU64>);

impl Beats {
    /// Something has come.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What `work` gives, or `None` once it has not beaten for `patience`. Its thread cannot be stopped: it is left where it hangs.
pub(super) fn while_heard<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce(Beats) -> T + Send + 'static,
) -> Option<T> {
    let beats = Beats::default();
    let (sender, receiver) = mpsc::channel();
    let theirs = beats.clone();
    thread::spawn(move || {
        // Nobody waits any more after the patience is over.
        let _ = sender.send(work(theirs));
    });
    let (mut count, mut since) = (beats.count(), Instant::now());
    loop {
        match receiver.recv_timeout(patience / 20) {
            Ok(done) => return Some(done),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if beats.count() != count {
            (count, since) = (beats.count(), Instant::now());
        } else if since.elapsed() >= patience {
            return None;
        }
    }
}

/// A download that beats with every piece, with a bar on stderr if one is wanted.
pub(super) struct Heard {
    beats: Beats,
    bar: Option<ProgressBar>,
}

impl Heard {
    pub(super) fn new(beats: Beats, bar: bool) -> Self {
        Self {
            beats,
            bar: bar.then(|| ProgressBar::new(0)),
        }
    }
}

impl Progress for Heard {
    fn init(&mut self, size: usize, name: &str) {
        self.beats.beat();
        if let Some(bar) = &mut self.bar {
            Progress::init(bar, size, name);
        }
    }

    fn update(&mut self, size: usize) {
        self.beats.beat();
        if let Some(bar) = &mut self.bar {
            Progress::update(bar, size);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = &mut self.bar {
            Progress::finish(bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_says_nothing_is_given_up() {
        let patience = Duration::from_millis(100);
        let silent = while_heard(patience, |_| thread::sleep(Duration::from_secs(600)));
        assert_eq!(silent, None);
        // Longer than the patience in all, but never silent for so long.
        let busy = while_heard(patience, |beats| {
            for _ in 0..30 {
                thread::sleep(Duration::from_millis(10));
                beats.beat();
            }
            7
        });
        assert_eq!(busy, Some(7));
    }
}
