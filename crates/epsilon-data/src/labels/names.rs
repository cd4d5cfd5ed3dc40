//! Lists of label names: text files of one name a line.

use super::LabelError;
use super::text_vectors::{Line, Lines, open, refuse_stand_in};
use crate::files;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::path::Path;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The name with its letters and accents composed (Unicode NFC), as names are compared: `é` may be written as one character or as
/// two, which look the same.
///
/// ```
/// use epsilon_data::labels::composed;
///
/// assert_eq!(composed("cafe\u{301}"), "caf\u{e9}");
/// ```
pub fn composed(name: &str) -> Cow<'_, str> {
    match name.is_ascii() || is_nfc_quick(name.chars()) == IsNormalized::Yes {
        true => Cow::Borrowed(name),
        false => Cow::Owned(name.nfc().collect()),
    }
}

/// Reads a list of label names: UTF-8, one name a line; space around a name, blank lines and lines that
/// start with `#` are skipped. Names are [`composed`].
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("words.txt");
/// std::fs::write(&path, "# of the sea\nbeach\n\nred flower\n")?;
/// assert_eq!(epsilon_data::labels::read_names(&path)?, ["beach", "red flower"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A file that cannot be read, text that is not UTF-8, a control character inside a name, a name that
/// stands twice, a list without a name.
pub fn read_names(path: &Path) -> Result<Vec<String>, LabelError> {
    parse_names(path, open(path)?)
}

/// The labels of a line such as `beach, dog, "red flower"`: between commas or line ends, without the spaces and the double quotes
/// around them. A comma between quotes parts nothing.
///
/// ```
/// use epsilon_data::labels::split_list;
///
/// assert_eq!(split_list("beach, \"red flower\""), ["beach", "red flower"]);
/// assert_eq!(split_list("\"a, b\",c,"), ["a, b", "c", ""]);
/// ```
pub fn split_list(text: &str) -> Vec<String> {
    let mut quoted = false;
    let parts = text.split(|character| {
        quoted ^= character == '"';
        matches!(character, ',' | '\n') && !quoted
    });
    let whole = |part: &str| {
        let part = part.trim();
        let inside = part
            .strip_prefix('"')
            .and_then(|part| part.strip_suffix('"'));
        inside.unwrap_or(part).trim().to_string()
    };
    parts.map(whole).collect()
}

/// [`read_names`] of a list that the user names in a call, which may be a pipe, as a shell makes one of `<(command)`:
/// [`files::read_list`].
///
/// # Errors
/// As [`read_names`].
pub fn read_list(path: &Path) -> Result<Vec<String>, LabelError> {
    let text = files::read_list(path).map_err(|reason| LabelError::Read {
        path: path.into(),
        reason,
    })?;
    refuse_stand_in(path, &text)?;
    parse_names(path, &text[..])
}

/// Reads the seen and the unseen list; gives the names, seen first and in file order, and how many are seen.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let [seen, unseen] = ["seen", "unseen"].map(|name| folder.path().join(name));
/// std::fs::write(&seen, "sea\nsky\n")?;
/// std::fs::write(&unseen, "zebra\n")?;
/// let (names, count) = epsilon_data::labels::read_seen_unseen(&seen, &unseen)?;
/// assert_eq!((names.join(" "), count), ("sea sky zebra".to_string(), 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`read_names`], and a name that stands in both lists.
pub fn read_seen_unseen(seen: &Path, unseen: &Path) -> Result<(Vec<String>, usize), LabelError> {
    let (mut names, others) = (read_names(seen)?, read_names(unseen)?);
    let known: HashSet<&String> = names.iter().collect();
    if let Some(name) = others.iter().find(|name| known.contains(name)) {
        return Err(LabelError::SeenAndUnseen {
            name: name.clone(),
            seen: seen.into(),
            unseen: unseen.into(),
        });
    }
    let count = names.len();
    names.extend(others);
    Ok((names, count))
}

fn parse_names(path: &Path, reader: impl BufRead) -> Result<Vec<String>, LabelError> {
    let mut first_lines: HashMap<String, u64> = HashMap::new();
    let mut names = Vec::new();
    let mut lines = Lines::new(path, reader);
    while let Some(Line {
        number: line, text, ..
    }) = lines.next_line()?
    {
        let name = text.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        if !is_name(name) {
            return Err(LabelError::ListedName {
                path: path.into(),
                line,
                name: name.into(),
            });
        }
        let name = &*composed(name);
        if let Some(&first) = first_lines.get(name) {
            return Err(LabelError::ListedTwice {
                path: path.into(),
                line,
                first,
                name: name.into(),
            });
        }
        first_lines.insert(name.into(), line);
        names.push(name.into());
    }
    if names.is_empty() {
        return Err(LabelError::EmptyList { path: path.into() });
    }
    Ok(names)
}

/// Whether `name` can be a label: not empty, no space around it, no control character. A byte order mark
/// counts as one, since it is lost at the start of a file.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.trim() == name
        && !name.contains(|c: char| c.is_control() || c == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: impl AsRef<[u8]>) -> Result<Vec<String>, LabelError> {
        parse_names(Path::new("list.txt"), text.as_ref())
    }

    #[test]
    fn blank_lines_comments_bom_and_crlf_are_skipped() {
        let names = parse("\u{feff}# animals\r\npolar bear \r\n\r\n  cat\n#dog").unwrap();
        assert_eq!(names, ["polar bear", "cat"]);
    }

    #[test]
    fn bad_lists_name_file_and_line() {
        assert_eq!(
            parse("# only this\n\n").unwrap_err().to_string(),
            "list.txt: holds no label name; write one name a line"
        );
        let twice = parse("cat\ndog\n\ncat\n").unwrap_err().to_string();
        assert_eq!(
            twice,
            "list.txt, line 4: `cat` stands on line 1 already; keep one of the two"
        );
        assert!(matches!(
            parse("cat\tdog").unwrap_err(),
            LabelError::ListedName { line: 1, .. }
        ));
        assert!(matches!(
            parse(b"cat\n\xff\xfe").unwrap_err(),
            LabelError::NotUtf8 { line: 2, .. }
        ));
    }

    #[test]
    fn a_missing_list_is_named() {
        let error = read_names(Path::new("no/such/list.txt")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no/such/list.txt: cannot be read"),
            "{error}"
        );
    }

    #[test]
    fn a_name_in_both_lists_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (seen, unseen) = (dir.path().join("seen.txt"), dir.path().join("unseen.txt"));
        std::fs::write(&seen, "cat\ndog\n").unwrap();
        std::fs::write(&unseen, "cow\n").unwrap();
        assert_eq!(
            read_seen_unseen(&seen, &unseen).unwrap(),
            (vec!["cat".into(), "dog".into(), "cow".into()], 2)
        );
        std::fs::write(&unseen, "cow\ndog\n").unwrap();
        let error = read_seen_unseen(&seen, &unseen).unwrap_err().to_string();
        assert!(
            error.contains("`dog`") && error.contains("seen.txt") && error.contains("unseen.txt"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(names) = parse(&bytes) {
                prop_assert!(names.iter().all(|name| is_name(name)));
            }
        }

        #[test]
        fn lists_round_trip(names in proptest::collection::hash_set("[a-z][a-z ]{0,8}[a-z]", 1..20)) {
            let names: Vec<String> = names.into_iter().collect();
            prop_assert_eq!(parse(names.join("\n")).unwrap(), names);
        }
    }
}
