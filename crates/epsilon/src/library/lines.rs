//! A file of lines of JSON that is appended to while a library is tagged: a line that a killed program left half written is
//! dropped, one that only lacks its end, as an editor may leave the last, is kept, and a file that was taken away meanwhile is noticed
//! before more is lost. [`Tail`] is for those who only read it, beside the program that writes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use same_file::Handle;

use super::{LibraryError, failed};
use epsilon_data::{files, paths};

/// Bytes that a reader of all lines takes at once: a line of many labels has thousands.
const READ: usize = 1 << 16;

/// Checks what a line says of where a file lies, seen from the folder of photographs: a library may come from anybody, and nothing
/// outside that folder is looked at, written or removed for it.
pub(super) fn below(place: &str) -> serde_json::Result<()> {
    match paths::is_below(place) {
        true => Ok(()),
        false => {
            let shown: String = place.chars().take(100).collect();
            let reason = format!("{shown:?} is no file below the folder of photographs");
            Err(serde::de::Error::custom(reason))
        }
    }
}

/// The file, open for more.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    end: u64,
}

impl Lines {
    /// Opens the file, made where there is none, and shows each whole line with its place. `hint` says what to do about a
    /// damaged one.
    pub(super) fn open(
        path: PathBuf,
        hint: &str,
        each: &mut dyn FnMut(u64, &[u8]) -> serde_json::Result<()>,
    ) -> Result<Self, LibraryError> {
        let file = files::own(&path).map_err(|e| failed(&path, e))?;
        let mut lines = Self { path, file, end: 0 };
        lines.read(hint, each)?;
        Ok(lines)
    }

    fn read(
        &mut self,
        hint: &str,
        each: &mut dyn FnMut(u64, &[u8]) -> serde_json::Result<()>,
    ) -> Result<(), LibraryError> {
        let system = |source| failed(&self.path, source);
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        let mut without_end = None;
        for number in 1.. {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(system)?;
            if line.last() != Some(&b'\n') {
                // No part of a line reads as a whole one: the last byte closes what the first opened.
                let is_whole = !line.is_empty() && each(self.end, &line).is_ok();
                without_end = is_whole.then_some(length as u64);
                break;
            }
            each(self.end, &line).map_err(|error| LibraryError::Form {
                path: self.path.clone(),
                reason: format!("line {number}: {error}; {hint}"),
            })?;
            self.end += length as u64;
        }
        if let Some(length) = without_end {
            let mut file = &self.file;
            let place = SeekFrom::Start(self.end + length);
            let ended = file.seek(place).and_then(|_| file.write_all(b"\n"));
            ended.map_err(system)?;
            self.end += length + 1;
        }
        self.file.set_len(self.end).map_err(system)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).into()
    }

    /// Where the next line will stand.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// [`LibraryError::Gone`], and when they cannot be written.
    pub(super) fn append(&mut self, text: &[u8]) -> Result<(), LibraryError> {
        self.check()?;
        let mut file = &self.file;
        let written = file.seek(SeekFrom::Start(self.end));
        let written = written.and_then(|_| file.write_all(text));
        written.map_err(|e| failed(&self.path, e))?;
        self.end += text.len() as u64;
        Ok(())
    }

    /// Returns when all that was appended is on the disk.
    pub(super) fn sync(&self) -> Result<(), LibraryError> {
        self.file.sync_data().map_err(|e| failed(&self.path, e))
    }

    /// The line that begins at a place.
    pub(super) fn line(&self, place: u64) -> io::Result<String> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place))?;
        let mut line = String::new();
        BufReader::new(file.take(self.end - place)).read_line(&mut line)?;
        Ok(line)
    }

    /// Writes the file anew with other lines, whole or not at all; it is to be opened again then.
    pub(super) fn replace(
        &self,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), LibraryError> {
        self.check()?;
        files::replace(&self.path, fill).map_err(|e| failed(&self.path, e))
    }

    /// Whether the file at the path is still the one that is open: what is written into one that was removed, or moved away
    /// with its folder, is lost.
    ///
    /// # Errors
    /// [`LibraryError::Gone`].
    pub(super) fn check(&self) -> Result<(), LibraryError> {
        let ours = self.file.try_clone().and_then(Handle::from_file);
        match (ours, Handle::from_path(&self.path)) {
            (Ok(ours), Ok(there)) if ours == there => Ok(()),
            _ => Err(LibraryError::Gone {
                path: self.path.clone(),
            }),
        }
    }
}

/// Shows the whole lines of such a file to one who reads it once and changes nothing, also a last one that only lacks its end.
/// Nothing where there is no file.
pub(super) fn read_once(
    path: PathBuf,
    hint: &str,
    each: &mut dyn FnMut(&[u8]) -> serde_json::Result<()>,
) -> Result<(), LibraryError> {
    let mut tail = Tail::new(path);
    tail.read(hint, each)?;
    let Some(file) = &tail.file else {
        return Ok(());
    };
    let (mut file, mut rest) = (file.as_file(), Vec::new());
    let read = file.seek(SeekFrom::Start(tail.end));
    let read = read.and_then(|_| file.read_to_end(&mut rest));
    read.map_err(|source| failed(&tail.path, source))?;
    if !rest.is_empty() {
        // Half a line counts for nothing.
        let _ = each(&rest);
    }
    Ok(())
}

/// What a [`Tail`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing new.
    None,
    /// Lines behind those that were read before.
    More,
    /// Another file: all of its lines; none where it is gone.
    Anew,
}

/// The lines of such a file for a reader that changes nothing, and those that were added since it last looked.
pub(super) struct Tail {
    path: PathBuf,
    /// The file that was read. It is kept open, so that no other one can be taken for it.
    file: Option<Handle>,
    end: u64,
    lines: u64,
}

impl Tail {
    /// Of a file that need not be there yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            end: 0,
            lines: 0,
        }
    }

    /// Where the next line will stand.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Shows the whole lines that are new. After an error nothing counts as read.
    pub(super) fn read(
        &mut self,
        hint: &str,
        each: &mut dyn FnMut(&[u8]) -> serde_json::Result<()>,
    ) -> Result<News, LibraryError> {
        let system = |source| failed(&self.path, source);
        let file = match files::open(&self.path, u64::MAX) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let news = if self.file.is_some() {
                    News::Anew
                } else {
                    News::None
                };
                *self = Self::new(self.path.clone());
                return Ok(news);
            }
            Err(error) => return Err(system(error)),
        };
        let length = file.metadata().map_err(system)?.len();
        let file = Handle::from_file(file).map_err(system)?;
        let anew = self.file.as_ref() != Some(&file) || length < self.end;
        let (mut end, mut lines) = if anew { (0, 0) } else { (self.end, self.lines) };
        let mut reader = BufReader::with_capacity(READ, file.as_file());
        reader.seek(SeekFrom::Start(end)).map_err(system)?;
        let (mut line, begin) = (Vec::new(), lines);
        while reader.read_until(b'\n', &mut line).map_err(system)? > 0 && line.ends_with(b"\n") {
            lines += 1;
            each(&line).map_err(|error| LibraryError::Form {
                path: self.path.clone(),
                reason: format!("line {lines}: {error}; {hint}"),
            })?;
            end += line.len() as u64;
            line.clear();
        }
        (self.file, self.end, self.lines) = (Some(file), end, lines);
        Ok(match (anew, lines > begin) {
            (true, _) => News::Anew,
            (_, true) => News::More,
            (_, false) => News::None,
        })
    }
}
