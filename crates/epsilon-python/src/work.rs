//! Work without Python's global lock that Ctrl-C stops: everything long in this package goes through [`work`].

use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

/// How often signals are looked at.
const WATCH: Duration = Duration::from_millis(50);

/// Whether work is to stop: Ctrl-C was pressed, or a callback raised an exception.
#[derive(Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    /// Stops the work where it next asks.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What an observer of the library answers.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        match self.is_set() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Runs `task` in a thread of its own, without the global lock, while this one lets Python handle signals. An exception that a
/// handler raises, such as `KeyboardInterrupt`, stops the task where it next asks [`Stop`], and is raised once it has ended.
pub(crate) fn work<T, F>(py: Python<'_>, task: F) -> PyResult<T>
where
    T: Send,
    F: FnOnce(&Stop) -> T + Send,
{
    let (result, raised) = py.detach(|| {
        let stop = Stop::default();
        thread::scope(|scope| {
            let (ended, end) = channel::<()>();
            let stop = &stop;
            let worker = scope.spawn(move || {
                // Dropped when the task has ended, also by a panic.
                let _ended = ended;
                task(stop)
            });
            let mut raised = None;
            while end.recv_timeout(WATCH) == Err(RecvTimeoutError::Timeout) {
                if raised.is_none() {
                    raised = Python::attach(|py| py.check_signals()).err();
                    if raised.is_some() {
                        stop.set();
                    }
                }
            }
            (worker.join(), raised)
        })
    });
    match (result, raised) {
        (Err(panic), _) => resume_unwind(panic),
        (_, Some(raised)) => Err(raised),
        (Ok(value), None) => Ok(value),
    }
}
