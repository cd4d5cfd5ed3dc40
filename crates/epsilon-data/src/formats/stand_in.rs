//! What lies in a file's place when it was not fetched: a Git LFS pointer, or the page that a web server sent instead.

use std::io::Read;
use std::path::Path;

use crate::files;

/// Bytes that are enough to tell.
const START: u64 = 1024;

const LFS: &str = "is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository";
const HTML: &str =
    "is an HTML page, not the file itself: its address led to a page, download it again";

/// What stands in for a file that begins so, and what to do; `None` for anything else.
///
/// ```
/// use epsilon_data::formats::stand_in;
///
/// let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a";
/// assert!(stand_in::told_by(pointer).unwrap().contains("git lfs pull"));
/// assert!(stand_in::told_by(b"\n<!DOCTYPE html>\n<html>").unwrap().contains("HTML page"));
/// assert_eq!(stand_in::told_by(b"beach 0.1 0.2\n"), None);
/// ```
pub fn told_by(start: &[u8]) -> Option<&'static str> {
    let start = &start[..start.len().min(START as usize)];
    if start.starts_with(b"version https://git-lfs.github.com/") {
        return Some(LFS);
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let text = text.trim_ascii_start();
    let begins = |with: &[u8]| {
        text.get(..with.len())
            .is_some_and(|text| text.eq_ignore_ascii_case(with))
    };
    let is_page = begins(b"<!doctype html") || begins(b"<html");
    is_page.then_some(HTML)
}

/// [`told_by`] of the file at `path`; `None` also where it cannot be read, which its reader will say.
pub fn at(path: &Path) -> Option<&'static str> {
    let mut start = Vec::new();
    let file = files::open(path, u64::MAX).ok()?;
    file.take(START).read_to_end(&mut start).ok()?;
    told_by(&start)
}
