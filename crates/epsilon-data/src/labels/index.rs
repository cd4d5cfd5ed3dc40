//! Where every word of a vector file stands. The file is read through once; after that a word costs a single read, and the
//! nearest words are found without the file. For programs that look words up again and again, such as a server.

use super::resolve::{Asked, Resolved, Words, approximate, read_words, resolve_words, wanted};
use super::rows::{Place, Row, Values, read_error};
use super::text_vectors::Lines;
use super::vector_file::VectorFile;
use super::{LabelError, composed};
use crate::files;
use crate::formats::numbers::Number;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, Seek, SeekFrom};
use std::time::SystemTime;

/// An index of a vector file. It holds the words and 20 bytes for each, about 28 bytes a word, but not the vectors; it keeps
/// the file open. A pickle's words are indexed, but each look-up reads it anew.
pub struct VectorIndex {
    file: VectorFile,
    dim: usize,
    open: File,
    /// Size and time of the file as it was indexed.
    stamp: Stamp,
    form: Form,
    /// All words in the file's order, one after the other.
    text: String,
    /// Where each ends in `text`.
    ends: Vec<u32>,
    /// Where each one's vector begins.
    places: Vec<u64>,
    /// Hash and number of each word, sorted.
    order: Vec<(u32, u32)>,
}

/// How the vectors are kept.
enum Form {
    /// Numbers as text, up to the line's end.
    Text,
    /// And the bytes from one to the next.
    Numbers(Number, u64),
    /// Of a pickle, which is small or shares vectors, the words alone are indexed; it is read anew each time.
    Pickle,
}

/// None where the system keeps no times.
type Stamp = Option<(u64, SystemTime)>;

fn stamp(file: &File) -> Stamp {
    let metadata = file.metadata().ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

impl Form {
    /// Where a row's vector begins. All rows of a file are of one form.
    fn place(&mut self, row: &Row<'_>) -> u64 {
        match &row.values {
            Values::Text { at, .. } => {
                *self = Self::Text;
                *at
            }
            Values::Bytes { at, .. } => {
                *self = Self::Numbers(Number::F32, 4);
                *at
            }
            Values::File {
                offset,
                step,
                number,
                ..
            } => {
                *self = Self::Numbers(*number, *step);
                *offset
            }
            Values::Pickle(..) => {
                *self = Self::Pickle;
                0
            }
        }
    }
}

impl VectorIndex {
    /// Reads a file through.
    ///
    /// # Errors
    /// As [`super::resolve()`] for a damaged file; words of more than 4 GB in all.
    pub fn read(file: &VectorFile) -> Result<Self, LabelError> {
        let open =
            files::open(&file.path, u64::MAX).map_err(|reason| read_error(&file.path, reason))?;
        let stamp = stamp(&open);
        let mut form = Form::Text;
        let (mut text, mut ends, mut places) = (String::new(), Vec::new(), Vec::new());
        let dim = file.scan(|row| {
            text.push_str(row.key);
            let end = u32::try_from(text.len()).map_err(|_| LabelError::Form {
                path: file.path.clone(),
                reason: "words of more than 4 GB in all".into(),
            })?;
            ends.push(end);
            places.push(form.place(&row));
            Ok(())
        })?;
        let mut index = Self {
            file: file.clone(),
            dim,
            open,
            stamp,
            form,
            text,
            ends,
            places,
            order: Vec::new(),
        };
        index.text.shrink_to_fit();
        index.ends.shrink_to_fit();
        index.places.shrink_to_fit();
        let numbers = 0..index.ends.len() as u32;
        let mut order: Vec<_> = numbers
            .map(|number| (hash(&composed(index.word(number))), number))
            .collect();
        order.sort_unstable();
        index.order = order;
        Ok(index)
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds no word, which no index that was read does.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// As [`super::resolve_words`], each name being its own word.
    ///
    /// # Errors
    /// As [`super::resolve_words`].
    pub fn resolve(&self, names: &[String]) -> Result<Resolved, LabelError> {
        self.resolve_as(names, names)
    }

    /// The same for names that are looked up as other `words`, one for each.
    ///
    /// # Errors
    /// As [`super::resolve_words`].
    ///
    /// # Panics
    /// When there are not as many words as names.
    pub fn resolve_as(&self, names: &[String], words: &[String]) -> Result<Resolved, LabelError> {
        assert_eq!(names.len(), words.len(), "a word for each name");
        let labels = Asked {
            file: &self.file.path,
            names,
            words,
        };
        match self.find(words) {
            Some(found) => labels.resolve(self.dim, &found, |visit| {
                (0..self.ends.len() as u32).for_each(|number| visit(self.word(number)));
                Ok(())
            }),
            // Something is wrong with one of the words, or the file is another by now: reading it in order tells what.
            None => resolve_words(&self.file, names, words),
        }
    }

    /// Width of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The vector of each name as [`VectorIndex::resolve`] finds it, or the mean of those of its parts that are words of the file;
    /// none where no part of it is one. For lists of names that were not made for the file, such as a network's classes.
    ///
    /// # Errors
    /// As [`super::resolve_words`] for a damaged file.
    pub fn approximate(&self, names: &[String]) -> Result<Vec<Option<Vec<f32>>>, LabelError> {
        let found = match self.find(names) {
            Some(found) => found,
            None => read_words(&self.file, names)?.1,
        };
        let names = names.iter();
        Ok(names
            .map(|name| approximate(&composed(name), &found))
            .collect())
    }

    /// All words that some rule for some name could use. None if the file has changed, or where a word of them stands twice
    /// or has a vector that cannot be used.
    fn find(&self, names: &[String]) -> Option<Words> {
        if stamp(&self.open) != self.stamp {
            return None;
        }
        let mut found = Words::new();
        for word in wanted(names) {
            let same = self.numbers(&word);
            let mut as_it_is = same.iter().filter(|number| self.word(**number) == word);
            // The composed form of a word counts, wherever it stands, and of other forms the first.
            let number = match (as_it_is.next(), as_it_is.next()) {
                (Some(_), Some(_)) => return None,
                (Some(number), None) => number,
                (None, _) => match same.first() {
                    Some(number) => number,
                    None => continue,
                },
            };
            // Whoever reads the file in order comes upon the first form first, and looks at its values, whichever counts.
            if let Some(first) = same.first().filter(|first| *first != number) {
                self.usable(&word, *first)?;
            }
            let vector = self.usable(&word, *number)?;
            found.insert(word, vector);
        }
        Some(found)
    }

    /// The numbers of all forms of a word, in the file's order.
    fn numbers(&self, word: &str) -> Vec<u32> {
        let hash = hash(word);
        let first = self.order.partition_point(|(other, _)| *other < hash);
        let same = self.order[first..].iter();
        let same = same.take_while(|(other, _)| *other == hash);
        let same = same.filter(|(_, number)| composed(self.word(*number)) == word);
        same.map(|(_, number)| *number).collect()
    }

    fn word(&self, number: u32) -> &str {
        let number = number as usize;
        let start = match number {
            0 => 0,
            _ => self.ends[number - 1],
        };
        &self.text[start as usize..self.ends[number] as usize]
    }

    /// The vector of the word of this number, if it can be used and is not of zeros.
    fn usable(&self, word: &str, number: u32) -> Option<Vec<f32>> {
        let vector = self.vector(word, self.places[number as usize])?;
        vector.iter().any(|&value| value != 0.0).then_some(vector)
    }

    /// The vector that begins at this place, if it can be used.
    fn vector(&self, word: &str, at: u64) -> Option<Vec<f32>> {
        let row = |values| Row {
            path: &self.file.path,
            place: Place::Vector(1),
            key: word,
            values,
            dim: self.dim,
        };
        match &self.form {
            Form::Text => {
                let mut file = &self.open;
                file.seek(SeekFrom::Start(at)).ok()?;
                // A few reads a line: with a larger buffer most of what is read would not be needed.
                let reader = BufReader::with_capacity(1 << 12, file);
                let mut lines = Lines::new(&self.file.path, reader);
                let text = lines.next_line().ok()??.text;
                row(Values::Text { text, at }).parse().ok()
            }
            Form::Numbers(number, step) => {
                let values = Values::File {
                    file: &self.open,
                    offset: at,
                    step: *step,
                    number: *number,
                };
                row(values).parse().ok()
            }
            Form::Pickle => None,
        }
    }
}

/// 32 bits of a word: few words share them, and those are told apart by the words themselves.
fn hash(word: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::*;
    use proptest::prelude::*;

    fn both(text: &str, names: &[String]) -> [Result<Resolved, String>; 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors.txt");
        std::fs::write(&path, text).unwrap();
        let file = VectorFile::from(&*path);
        let index = VectorIndex::read(&file).and_then(|index| index.resolve(names));
        let read = resolve(&path, names);
        [index, read].map(|found| found.map_err(|error| error.to_string()))
    }

    #[test]
    fn a10_a_changed_file_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors.txt");
        std::fs::write(&path, "cat 1 2\ndog 3 4\n").unwrap();
        let index = VectorIndex::read(&VectorFile::from(&*path)).unwrap();
        assert_eq!(index.len(), 2);
        let dog = || {
            let found = index.resolve(&["dog".into()]);
            found.map(|found| found.vectors.values().to_vec())
        };
        assert_eq!(dog().unwrap(), [3.0, 4.0]);
        std::fs::write(&path, "longer-cat 1 2\ndog 5 6\n").unwrap();
        assert_eq!(dog().unwrap(), [5.0, 6.0]);
    }

    /// Its composed form counts, and yet what stands before it is looked at.
    #[test]
    fn a10_an_unusable_form_is_told_wherever_it_stands() {
        let names = ["\u{e9}".to_string()];
        let composed = "\u{e9} 0 1\n";
        for value in ["n", "0"] {
            let other = format!("e\u{301} 0 {value}\n");
            let [index, read] = both(&format!("{other}{composed}"), &names);
            assert!(read.is_err() && index == read, "{index:?} {read:?}");
            // Behind it nobody looks.
            let [index, read] = both(&format!("{composed}{other}"), &names);
            assert!(read.is_ok() && index == read, "{index:?} {read:?}");
        }
    }

    #[test]
    fn a10_nearest_words_are_looked_for_up_to_a_number() {
        let names: Vec<String> = (0..200).map(|number| format!("cta{number:03}")).collect();
        let [index, read] = both("cat 1 2\ncta00 3 4\n", &names);
        let message = read.unwrap_err();
        assert_eq!(index.unwrap_err(), message);
        assert_eq!(message.matches("nearest: `cta00`").count(), 64, "{message}");
        assert!(message.contains("  `cta199`\n"), "{message}");
    }

    proptest! {
        #[test]
        fn a10_an_index_finds_what_reading_finds(
            names in proptest::collection::hash_set("[a-cA\u{e9} ]{1,4}", 1..4),
            text in "\u{feff}?(([a-c]{1,2}|\u{e9}|e\u{301})( [a-c])?( [0-9n]){2}\r?\n){1,9}",
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let [index, read] = both(&text, &names);
            // Of several faults either may be met first.
            prop_assert_eq!(index.ok(), read.ok());
        }
    }
}
