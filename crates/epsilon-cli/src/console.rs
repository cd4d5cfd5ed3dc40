//! What the program says: results on stdout, progress on stderr; bars only to a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Writes a result and its line end to stdout.
pub fn print(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a result to stdout as one JSON document.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(serde_json::to_string_pretty(value)?)?)
}

/// Whether somebody watches stderr.
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Tells what is going on, on stderr, where somebody watches.
pub fn tell(text: impl std::fmt::Display) {
    if is_terminal() {
        complain(text);
    }
}

/// Names an input that failed, on stderr.
pub fn name_failure(text: impl std::fmt::Display) {
    complain(format_args!("failed: {text}"));
}

/// Writes a line to stderr.
pub fn complain(text: impl std::fmt::Display) {
    // Where nobody reads stderr there is nobody to tell; the exit code still does (`eprintln!` would panic).
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// An error and its causes, each said once: most messages of the library hold their cause's already.
pub fn explain(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |said, cause| {
            match (said.is_empty(), said.contains(&cause)) {
                (true, _) => cause,
                (_, true) => said,
                (_, false) => format!("{said}: {cause}"),
            }
        })
}

/// A progress bar with rate and time left; silent when stderr is no terminal.
pub fn bar(total: u64, what: &str) -> ProgressBar {
    let target = if is_terminal() {
        ProgressDrawTarget::stderr_with_hz(4)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(total), target).with_prefix(what.to_string());
    let style = ProgressStyle::with_template(
        "{prefix:>10} {wide_bar} {human_pos}/{human_len} {per_sec} {eta} left {msg}",
    );
    // The template is fixed text; should it ever not parse, the usual style serves.
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Whether an error is only that nobody reads our output any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
