//! Output of the program: results on stdout, progress and errors on stderr, progress bars only on a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use epsilon::paths::plain;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Whether this process leaves all output but an error that ends it to the first one of its job.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on nothing is written but an error that ends the program.
#[cfg(feature = "mpi")]
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
    log::set_max_level(log::LevelFilter::Error);
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes a result and a newline to stdout.
pub(crate) fn print(text: impl std::fmt::Display) -> io::Result<()> {
    if is_quiet() {
        return Ok(());
    }
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a result to stdout as one JSON document.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(serde_json::to_string_pretty(value)?)?)
}

/// Whether stderr is a terminal.
pub(crate) fn is_terminal() -> bool {
    !is_quiet() && io::stderr().is_terminal()
}

/// Writes a progress message to stderr if it is a terminal.
pub(crate) fn tell(text: impl std::fmt::Display) {
    if is_terminal() {
        complain(text);
    }
}

/// Asks a question that is answered by yes or no; `None` where nobody is there to answer.
pub(crate) fn ask(question: &str) -> io::Result<Option<bool>> {
    if !(is_terminal() && io::stdin().is_terminal()) {
        return Ok(None);
    }
    complain(format_args!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    let answer = answer.trim();
    Ok(Some(
        ["y", "yes"]
            .iter()
            .any(|yes| answer.eq_ignore_ascii_case(yes)),
    ))
}

/// Reports an input that failed on stderr, in one line.
pub(crate) fn name_failure(text: impl std::fmt::Display) {
    complain(format_args!("failed: {}", plain(&text.to_string())));
}

/// Reports on stderr, in one line, what is not right but was no obstacle.
pub(crate) fn warn(text: impl std::fmt::Display) {
    complain(format_args!("warning: {}", plain(&text.to_string())));
}

/// Writes a line to stderr, or several. Names in it come from strangers: what a terminal would obey is written out.
pub(crate) fn complain(text: impl std::fmt::Display) {
    if !is_quiet() {
        write(&text.to_string());
    }
}

/// Reports the error that ends the program. Of the processes of a job that all find the same, the first one is left the time to say it
/// and to end the job.
pub(crate) fn report(error: &anyhow::Error) {
    let ranks = crate::ranks::of_job();
    if is_quiet() {
        std::thread::sleep(Duration::from_secs(1));
    }
    match ranks.size() {
        1 => write(&format!("epsilon: {}", explain(error))),
        size => write(&format!(
            "epsilon: rank {} of {size}: {}",
            ranks.rank(),
            explain(error)
        )),
    }
}

fn write(text: &str) {
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(LAYOUT) {
        let words = part.trim_end_matches(LAYOUT);
        shown += &plain(words).to_string();
        shown += &part[words.len()..];
    }
    // `eprintln!` would panic if stderr is closed; the exit code still reports the failure.
    let _ = writeln!(io::stderr().lock(), "{shown}");
}

/// Characters that lay out a message of several lines.
const LAYOUT: [char; 2] = ['\n', '\t'];

/// The message of an error and of its causes, without repetition.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    epsilon::errors::explain(error.as_ref())
}

/// A progress bar with rate and remaining time; hidden if stderr is not a terminal.
pub(crate) fn bar(total: u64, what: &str) -> ProgressBar {
    let target = if is_terminal() {
        ProgressDrawTarget::stderr_with_hz(4)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(total), target).with_prefix(what.to_string());
    let style = ProgressStyle::with_template(
        "{prefix:>10} {wide_bar} {human_pos}/{human_len} {per_sec} {eta} left {msg}",
    );
    // The template is constant; the default style is only a fallback.
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// When a log, which has no bar, is told how far a long computation is: after five seconds, then every thirty.
pub(crate) struct Log {
    start: Instant,
    next: Duration,
}

impl Log {
    /// The computation starts now.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            next: Duration::from_secs(5),
        }
    }

    /// Whether a line is due now: never on a terminal.
    pub(crate) fn is_due(&mut self) -> bool {
        let elapsed = self.start.elapsed();
        if is_terminal() || elapsed < self.next {
            return false;
        }
        self.next = elapsed + Duration::from_secs(30);
        true
    }
}

/// Whether an error means that the reader of the output closed its pipe.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
