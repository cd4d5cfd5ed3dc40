//! Names of files as text: without loss for results that programs read, and without control characters for people's screens.

use std::fmt::{self, Display, Write as _};
use std::path::{Component, Path, PathBuf};

/// A path as text that loses nothing: a byte that is not UTF-8 becomes `\xHH`, its value in two hexadecimal digits. Everything
/// else stands for itself, but for the backslash of a name that already reads like that, which becomes `\x5c`: so two paths
/// never give the same text, and each `\xHH` in it is one byte.
///
/// ```
/// use epsilon_data::paths::text;
/// use std::path::Path;
///
/// assert_eq!(text(Path::new("été/sea.jpg")), "été/sea.jpg");
/// # #[cfg(unix)]
/// # {
/// use std::ffi::OsStr;
/// use std::os::unix::ffi::OsStrExt;
///
/// let latin1 = OsStr::from_bytes(b"\xe9t\xe9.jpg");
/// assert_eq!(text(Path::new(latin1)), r"\xe9t\xe9.jpg");
/// # }
/// assert_eq!(text(Path::new(r"\xe9t.jpg")), r"\x5cxe9t.jpg");
/// ```
pub fn text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        push_valid(&mut text, chunk.valid());
        for byte in chunk.invalid() {
            // Writing into a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Adds text whose backslashes must not be taken for those of [`text`].
fn push_valid(text: &mut String, valid: &str) {
    for (place, character) in valid.char_indices() {
        text.push(character);
        if character == '\\' && reads_as_byte(&valid.as_bytes()[place + 1..]) {
            text.push_str("x5c");
        }
    }
}

fn reads_as_byte(rest: &[u8]) -> bool {
    matches!(rest, [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// The path that a [`text`] stands for. (Of a Windows name that is no Unicode, which nobody types, it is another one.)
///
/// ```
/// use epsilon_data::paths::{path, text};
/// use std::path::Path;
///
/// let name = Path::new(r"2024/\xe9t.jpg");
/// assert_eq!(path(&text(name)), name);
/// ```
pub fn path(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match after {
            [b'x', high, low, left @ ..] if first == b'\\' && reads_as_byte(after) => {
                bytes.push(16 * value(*high) + value(*low));
                rest = left;
            }
            _ => bytes.push(first),
        }
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(bytes).into()
    }
    #[cfg(not(unix))]
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// The longest [`text`] of a path below a folder, in bytes: no system has longer paths, with four characters for each byte.
const LONGEST: usize = 1 << 15;

/// Whether a [`text`] is the path of a file below some folder: names alone, neither absolute nor with `..`, and no longer than paths
/// are. What stands in a file that may come from anybody is not taken for a place in a folder before.
///
/// ```
/// use epsilon_data::paths::is_below;
///
/// assert!(is_below("2024/sea.jpg") && is_below("..jpg"));
/// assert!(!is_below("../sea.jpg") && !is_below("/sea.jpg") && !is_below(""));
/// ```
pub fn is_below(text: &str) -> bool {
    let mut parts = 0;
    let is_name = |part| {
        parts += 1;
        matches!(part, Component::Normal(_))
    };
    text.len() <= LONGEST && path(text).components().all(is_name) && parts > 0
}

/// The value of a hexadecimal digit.
fn value(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or_default() as u8
}

/// A path for a line of text: as [`text`], with [`plain`] characters alone.
pub fn shown(path: &Path) -> String {
    plain(&text(path)).to_string()
}

/// A text for one line of a screen: line ends and other control characters are written as Rust writes them (`\n`,
/// `\u{1b}`), and so are the characters that change a line's direction.
pub fn plain(text: &str) -> impl Display {
    struct Plain<'a>(&'a str);
    impl Display for Plain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.chars().try_for_each(|character| {
                if is_plain_character(character) {
                    f.write_char(character)
                } else {
                    write!(f, "{}", character.escape_default())
                }
            })
        }
    }
    Plain(text)
}

/// Whether [`plain`] leaves a text as it is.
pub fn is_plain(text: &str) -> bool {
    text.chars().all(is_plain_character)
}

/// Whether a character is shown as itself: no control character, no line end, none of those that turn the direction of a line.
fn is_plain_character(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_no_control_characters() {
        let name = "a\nb\u{1b}[31m\t\u{7f}\u{9b}é\u{202e}gpj.exe";
        assert_eq!(
            shown(Path::new(name)),
            r"a\nb\u{1b}[31m\t\u{7f}\u{9b}é\u{202e}gpj.exe"
        );
    }

    #[test]
    fn a_path_below_a_folder_is_made_of_names() {
        let long = "a/".repeat(LONGEST / 2);
        for below in [
            "a", "a/b.jpg", "...", "a//b", "a/./b", "a/b/", "é/\\", &long,
        ] {
            assert!(is_below(below), "{below}");
        }
        let longer = format!("{long}a");
        for outside in [
            "",
            ".",
            "..",
            "./a",
            "a/..",
            "a/../b",
            "/",
            "/a",
            "//a",
            r"\x2e\x2e/a",
            &longer,
        ] {
            assert!(!is_below(outside), "{outside}");
        }
    }

    #[cfg(unix)]
    proptest::proptest! {
        #[test]
        fn t10_a_name_is_written_without_loss(name in r"([ -~é\\xf0-9]|\\x[0-9a-f]{2}){0,12}", raw: Vec<u8>) {
            use std::os::unix::ffi::OsStrExt;
            for name in [name.as_bytes(), &raw] {
                let path = Path::new(std::ffi::OsStr::from_bytes(name));
                proptest::prop_assert_eq!(super::path(&text(path)), path);
            }
        }
    }
}
