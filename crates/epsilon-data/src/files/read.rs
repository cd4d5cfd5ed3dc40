//! Reading files that somebody else may have made: regular ones alone, up to a size.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead, Read};
use std::path::Path;

/// The largest file of settings that is read: a recipe, a card, a manifest, a configuration.
pub const DESCRIPTION: u64 = 64 << 20;

/// The largest list that is held in memory whole: names, an annotation file, figures.
pub const LIST: u64 = 1 << 30;

/// Opens a file for reading.
///
/// ```
/// use epsilon_data::files;
///
/// let folder = tempfile::tempdir()?;
/// let refused = files::open(folder.path(), u64::MAX).unwrap_err();
/// assert_eq!(refused.to_string(), "it is a folder, not a file");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// What is no regular file (without waiting for the other end of a pipe); a file of more than `at_most` bytes,
/// [`io::ErrorKind::FileTooLarge`]; what the system says.
pub fn open(path: &Path, at_most: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    let (file, about) = open_regular(&mut options, 0, path)?;
    refuse_large(about.len(), at_most)?;
    Ok(file)
}

/// Reads a file whole.
///
/// ```
/// use epsilon_data::files;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("list");
/// files::write(&path, b"sun moon")?;
/// assert_eq!(files::read(&path, files::LIST)?, b"sun moon");
/// assert_eq!(files::read(&path, 4).unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`open`].
pub fn read(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    read_whole(open(path, at_most)?, at_most)
}

/// Reads a list of at most [`LIST`] bytes that the user names in a call: also from a pipe, as a shell makes one of `<(command)`, to
/// its end. That is waited for, so a path that stands in a file is not for this.
///
/// # Errors
///
/// As [`open`], but for pipes.
pub fn read_list(path: &Path) -> io::Result<Vec<u8>> {
    read_or_wait(path, LIST)
}

fn read_or_wait(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    if !is_pipe(&path.metadata()?) {
        return read(path, at_most);
    }
    // Opened once, and with waiting: a pipe that is opened without seems to be at its end until somebody writes, and one that is
    // opened again may have been written into and closed between.
    let file = File::open(path)?;
    let about = file.metadata()?;
    if !is_pipe(&about) {
        refuse_special(&about)?;
    }
    read_whole(file, at_most)
}

fn read_whole(file: File, at_most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(file.metadata()?.len() as usize);
    // It may grow while it is read.
    let mut limited = file.take(at_most.saturating_add(1));
    limited.read_to_end(&mut bytes)?;
    refuse_large(bytes.len() as u64, at_most)?;
    Ok(bytes)
}

/// Reads a text file whole.
///
/// # Errors
///
/// As [`open`], and [`io::ErrorKind::InvalidData`] for what is no UTF-8.
pub fn read_text(path: &Path, at_most: u64) -> io::Result<String> {
    String::from_utf8(read(path, at_most)?).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let problem = format!("byte {place} is not UTF-8 text");
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })
}

/// What a reader holds next, [`BufRead::fill_buf`], also where a signal came in between, as everything else that reads has it.
pub(crate) fn held(reader: &mut impl BufRead) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Ok([]) => return Ok(&[]),
            Ok(_) => return reader.fill_buf(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens what is there only if it is a regular file. `flags` are those of the system, beside the options.
pub(super) fn open_regular(
    options: &mut OpenOptions,
    flags: i32,
    path: &Path,
) -> io::Result<(File, Metadata)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Without it the opening of a pipe waits for its other end. Regular files don't know the flag.
        options.custom_flags(flags | libc::O_NONBLOCK);
    }
    #[cfg(not(unix))]
    let _ = flags;
    let file = options.open(path)?;
    let about = file.metadata()?;
    refuse_special(&about)?;
    Ok((file, about))
}

/// Refuses what is no regular file, and says what it is.
pub(super) fn refuse_special(about: &Metadata) -> io::Result<()> {
    if about.is_file() {
        return Ok(());
    }
    let kind = if about.is_dir() {
        io::ErrorKind::IsADirectory
    } else {
        io::ErrorKind::InvalidInput
    };
    Err(io::Error::new(
        kind,
        format!("it is {}, not a file", kind_of(about)),
    ))
}

fn is_pipe(about: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::FileTypeExt::is_fifo(&about.file_type());
    #[cfg(not(unix))]
    {
        let _ = about;
        false
    }
}

fn kind_of(about: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = about.file_type();
        if is_pipe(about) {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if about.is_dir() {
        "a folder"
    } else {
        "something else"
    }
}

fn refuse_large(length: u64, at_most: u64) -> io::Result<()> {
    if length <= at_most {
        return Ok(());
    }
    let problem = format!("it has {length} bytes; at most {at_most} are read");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, problem))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::io::BufReader;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;

    /// A signal before every byte.
    struct Interrupted<'a>(&'a [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match self.1 {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => self.0.read(&mut bytes[..1]),
            }
        }
    }

    #[test]
    fn a_signal_is_no_end() {
        let mut reader = BufReader::new(Interrupted(b"ab", false));
        for expected in [&b"a"[..], b"b", b""] {
            let found = held(&mut reader).unwrap();
            assert_eq!(found, expected);
            let length = found.len();
            reader.consume(length);
        }
        assert_eq!(
            super::super::hash(&mut Interrupted(b"ab", false)).unwrap(),
            super::super::sha256(b"ab")
        );
    }

    /// Makes a named pipe.
    pub(super) fn pipe(path: &Path) {
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is a string that ends in zero and lives through the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    }

    #[test]
    fn a09_pipes_devices_and_folders_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        pipe(&path);
        let linked = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &linked).unwrap();
        for (path, kind) in [
            (path.as_path(), "a pipe"),
            (&linked, "a device"),
            (Path::new("/dev/zero"), "a device"),
            (folder.path(), "a folder"),
        ] {
            let refused = read(path, LIST).unwrap_err().to_string();
            assert_eq!(refused, format!("it is {kind}, not a file"));
        }
    }

    /// A writer that comes after the reader and writes in two goes; and many that are done at once.
    #[test]
    fn a_list_is_read_from_a_pipe_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        pipe(&path);
        for (at_most, expected) in [(8, Some("sun\nmoon")), (7, None)] {
            let there = path.clone();
            let writer = std::thread::spawn(move || {
                let wait = || std::thread::sleep(std::time::Duration::from_millis(50));
                wait();
                let mut pipe = File::options().write(true).open(there).unwrap();
                pipe.write_all(b"sun\n").unwrap();
                wait();
                pipe.write_all(b"moon").unwrap();
            });
            let read = read_or_wait(&path, at_most);
            writer.join().unwrap();
            match expected {
                Some(text) => assert_eq!(read.unwrap(), text.as_bytes()),
                None => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::FileTooLarge),
            }
        }
        for _ in 0..200 {
            let there = path.clone();
            let writer = std::thread::spawn(move || std::fs::write(there, "sun").unwrap());
            assert_eq!(read_list(&path).unwrap(), b"sun");
            writer.join().unwrap();
        }
        let refused = read_list(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(refused.to_string(), "it is a device, not a file");
        std::fs::write(folder.path().join("file"), "stars").unwrap();
        assert_eq!(read_list(&folder.path().join("file")).unwrap(), b"stars");
    }

    #[test]
    fn a_size_is_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let refused = read(&path, 4).unwrap_err();
        assert_eq!(refused.to_string(), "it has 5 bytes; at most 4 are read");
        std::fs::write(&path, b"ab\xff").unwrap();
        let refused = read_text(&path, 4).unwrap_err();
        assert_eq!(refused.to_string(), "byte 2 is not UTF-8 text");
    }
}
