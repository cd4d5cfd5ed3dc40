//! Work without Python's global lock that Ctrl-C stops: everything long in this package goes through [`work`].

use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use crate::errors::raise;
use crate::logging;
use crate::progress::{Far, Progress};

/// How often signals are looked at.
const WATCH: Duration = Duration::from_millis(50);

/// Whether work is to stop, because Ctrl-C was pressed or a callback raised an exception; and how far it is.
#[derive(Default)]
pub(crate) struct Stop {
    set: AtomicBool,
    far: Mutex<Option<Far>>,
}

impl Stop {
    /// Stops the work where it next asks.
    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Relaxed);
    }

    /// Whether it is to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    /// What an observer of the library answers.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        match self.is_set() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Notes how far the work is, for the thread that waits for it to tell.
    pub(crate) fn tell(&self, far: Far) {
        *self.far.lock().unwrap_or_else(PoisonError::into_inner) = Some(far);
    }

    fn take(&self) -> Option<Far> {
        let mut far = self.far.lock().unwrap_or_else(PoisonError::into_inner);
        far.take()
    }
}

/// Runs `task` in a thread of its own, without the global lock, while this one lets Python handle signals. An exception that a
/// handler raises, such as `KeyboardInterrupt`, stops the task where it next asks [`Stop`], and is raised once it has ended.
pub(crate) fn work<T, F>(py: Python<'_>, task: F) -> PyResult<T>
where
    T: Send,
    F: FnOnce(&Stop) -> T + Send,
{
    work_telling(py, None, task)
}

/// As [`work`], while a callback of Python's is told what the task [tells](Stop::tell), by this thread: threads that compute never
/// wait for the global lock.
pub(crate) fn work_telling<T, F>(
    py: Python<'_>,
    progress: Option<&Progress>,
    task: F,
) -> PyResult<T>
where
    T: Send,
    F: FnOnce(&Stop) -> T + Send,
{
    check_process()?;
    attended(py, progress, task)
}

/// As [`work`], for what computes nothing, such as reading from a store: processes that were forked may do it.
pub(crate) fn read<T, F>(py: Python<'_>, task: F) -> PyResult<T>
where
    T: Send,
    F: FnOnce(&Stop) -> T + Send,
{
    attended(py, None, task)
}

fn attended<T, F>(py: Python<'_>, progress: Option<&Progress>, task: F) -> PyResult<T>
where
    T: Send,
    F: FnOnce(&Stop) -> T + Send,
{
    logging::install();
    let stop = Stop::default();
    let (result, raised) = py.detach(|| {
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
                    raised = Python::attach(|py| watch(py, stop, progress)).err();
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
        (Ok(value), None) => {
            logging::deliver(py)?;
            if let (Some(progress), Some(far)) = (progress, stop.take()) {
                progress.tell(py, &far)?;
            }
            Ok(value)
        }
    }
}

/// Refuses to compute in a process that was forked from one which had: the threads that compute stayed there, and work would wait
/// for them without end.
fn check_process() -> PyResult<()> {
    static FIRST: OnceLock<u32> = OnceLock::new();
    match *FIRST.get_or_init(process::id) == process::id() {
        true => Ok(()),
        false => Err(raise(
            "EpsilonError",
            "this process was forked from one in which epsilon_zsl had computed, whose threads are not here: start processes by \
             'spawn' or 'forkserver' (multiprocessing.get_context), or use threads"
                .into(),
        )),
    }
}

/// Signals, messages and progress, on the thread that waits.
fn watch(py: Python<'_>, stop: &Stop, progress: Option<&Progress>) -> PyResult<()> {
    py.check_signals()?;
    logging::deliver(py)?;
    match progress {
        Some(progress) if progress.is_due() => match stop.take() {
            Some(far) => progress.tell(py, &far),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}
