//! The library's warnings, for Python's `logging`.
//!
//! Threads that compute put them into a queue, and the thread that waits for them hands them over: nobody who computes ever waits
//! for Python's global lock.

use std::sync::{Mutex, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

/// Messages that wait; a program that floods the queue loses the rest.
const MOST: usize = 1000;
/// Python's numbers of levels.
const ERROR: u8 = 40;
const WARNING: u8 = 30;

static QUEUE: Queue = Queue(Mutex::new(Vec::new()));

struct Queue(Mutex<Vec<(u8, String)>>);

impl Log for Queue {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Error => ERROR,
            _ => WARNING,
        };
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST {
            waiting.push((level, record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Receives the library's messages from now on. The first work does it, so that the `epsilon` command, which does none of ours,
/// logs as it likes.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if log::set_logger(&QUEUE).is_ok() {
            log::set_max_level(LevelFilter::Warn);
        }
    });
}

/// Hands what waits to the logger `epsilon_zsl`.
pub(crate) fn deliver(py: Python<'_>) -> PyResult<()> {
    let waiting = {
        let mut waiting = QUEUE.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting)
    };
    if waiting.is_empty() {
        return Ok(());
    }
    let logger = (py.import("logging")?).call_method1("getLogger", ("epsilon_zsl",))?;
    for (level, message) in waiting {
        logger.call_method1("log", (level, "%s", message))?;
    }
    Ok(())
}
