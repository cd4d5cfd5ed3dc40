//! Words and their vectors in memory: taken out of a vector file, to be put into a file of tensors. There they are a kind of vector
//! file themselves, so that names find them by the same rules.

use std::collections::HashMap;

use safetensors::Dtype;

use super::{LabelError, VectorFile};
use crate::formats::sealed::Tensor;

/// The tensor that holds the words: UTF-8, one a line, without a line end after the last.
pub(super) const WORDS: &str = "words.names";
/// The tensor that holds their vectors, `[words, width]`.
pub(super) const VECTORS: &str = "words.vectors";

/// Words with their vectors, not normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct WordTable {
    words: Vec<String>,
    /// Where each first stands in `words`.
    places: HashMap<String, usize>,
    dim: usize,
    /// Row-major `[words, dim]`.
    values: Vec<f32>,
}

impl WordTable {
    /// A table without words.
    pub fn new(dim: usize) -> Self {
        Self {
            words: Vec::new(),
            places: HashMap::new(),
            dim,
            values: Vec::new(),
        }
    }

    /// The first words of a vector file, at most so many, in its order. Those are left out that nobody could ask for: with a vector
    /// of zeros, a line end in them, or a second time with the same vector.
    ///
    /// ```
    /// use epsilon_data::labels::{VectorFile, WordTable};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("words.txt");
    /// std::fs::write(&path, "the 1 0\nred 0 2\nflower 1 1\n")?;
    /// let table = WordTable::first(&VectorFile::from(&*path), 2)?;
    /// assert_eq!(table.words(), ["the", "red"]);
    /// assert_eq!(table.get("red"), Some(&[0.0, 2.0][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`super::resolve_words`] for a file that cannot be read or is damaged.
    pub fn first(file: &VectorFile, most: usize) -> Result<Self, LabelError> {
        let mut table = Self::new(0);
        let dim = file.scan(|row| {
            if table.len() < most && !row.key.contains('\n') {
                let vector = row.parse()?;
                table.dim = vector.len();
                if vector.iter().any(|&value| value != 0.0) && table.get(row.key) != Some(&*vector)
                {
                    table.push(row.key, &vector);
                }
            }
            Ok(())
        })?;
        table.dim = dim;
        Ok(table)
    }

    /// Adds a word.
    ///
    /// # Panics
    /// If the vector has another width.
    pub fn push(&mut self, word: &str, vector: &[f32]) {
        assert_eq!(vector.len(), self.dim, "the table's width");
        let place = self.words.len();
        self.places.entry(word.into()).or_insert(place);
        self.words.push(word.into());
        self.values.extend(vector);
    }

    /// The words.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The vector of a word; of the first where it stands twice.
    pub fn get(&self, word: &str) -> Option<&[f32]> {
        let place = *self.places.get(word)?;
        Some(&self.values[place * self.dim..][..self.dim])
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether it has no words.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Width of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The tensors that make a file with them a [`VectorFile`]: the words, and the vectors in f32; or with `rounded` in f16, where
    /// that keeps every word's vector. None without words.
    ///
    /// ```
    /// use epsilon_data::formats::sealed;
    /// use epsilon_data::labels::{VectorFile, WordTable, resolve};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let mut table = WordTable::new(2);
    /// table.push("red", &[1.0, 0.0]);
    /// table.push("flower", &[0.0, 1.0]);
    /// let path = folder.path().join("words.safetensors");
    /// sealed::write(&path, &table.tensors(true), Default::default())?;
    /// assert_eq!(resolve(&path, &["red flower".to_string()])?.vectors.row(0), [0.5, 0.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tensors(&self, rounded: bool) -> Vec<Tensor<'static>> {
        if self.is_empty() {
            return Vec::new();
        }
        let words = self.words.join("\n").into_bytes();
        let names = Tensor {
            name: WORDS.into(),
            dtype: Dtype::U8,
            shape: vec![words.len()],
            bytes: words.into(),
        };
        let shape = [self.len(), self.dim];
        let f16 = rounded.then(|| Tensor::of_f16(VECTORS, &shape, &self.values, self.dim));
        let vectors = f16.flatten();
        vec![
            names,
            vectors.unwrap_or_else(|| Tensor::of_f32(VECTORS, &shape, &self.values)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{VectorIndex, resolve};
    use super::*;
    use crate::formats::sealed;

    #[test]
    fn a_file_of_words_is_a_vector_file_with_the_same_rules() {
        let folder = tempfile::tempdir().unwrap();
        let (text, packed) = (folder.path().join("text"), folder.path().join("packed"));
        let lines =
            "the 1 2 3\nRed 0.5 0 0\nnone 0 0 0\nfire_truck 0 4 0\nthe 1 2 3\nflower 0 0 1\n";
        std::fs::write(&text, lines).unwrap();
        let table = WordTable::first(&VectorFile::from(&*text), usize::MAX).unwrap();
        assert_eq!(table.words(), ["the", "Red", "fire_truck", "flower"]);
        let names = ["the", "Fire truck", "Red flower"].map(String::from);
        let file = VectorFile::from(&*packed);
        for rounded in [false, true] {
            sealed::write(&packed, &table.tensors(rounded), Default::default()).unwrap();
            let found = resolve(&packed, &names).unwrap();
            assert_eq!(
                found.vectors.values(),
                [1.0, 2.0, 3.0, 0.0, 4.0, 0.0, 0.25, 0.0, 0.5]
            );
            let index = VectorIndex::read(&file).unwrap();
            assert_eq!(index.resolve(&names).unwrap(), found);
            let unknown = resolve(&packed, &["flour".into()]).unwrap_err().to_string();
            assert!(unknown.contains("nearest: `flower`"), "{unknown}");
            assert_eq!(WordTable::first(&file, usize::MAX).unwrap(), table);
        }
        // Small vectors among large ones are not rounded away.
        let mut small = table.clone();
        small.push("tiny", &[1e-9, 0.0, 0.0]);
        assert_eq!(small.tensors(true)[1].dtype, Dtype::F32);
    }

    #[test]
    fn damaged_words_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut table = WordTable::new(1);
        table.push("a", &[1.0]);
        table.push("b", &[1.0]);
        let error = |tensors: &[Tensor<'_>]| {
            sealed::write(&path, tensors, Default::default()).unwrap();
            let error = resolve(&path, &["a".into()]).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            error
        };
        let [names, vectors] = &table.tensors(true)[..] else {
            panic!("two tensors")
        };
        assert!(error(std::slice::from_ref(names)).contains("words.vectors is missing"));
        let named = |bytes: &'static [u8]| Tensor {
            shape: vec![bytes.len()],
            bytes: bytes.into(),
            ..names.clone()
        };
        assert!(error(&[named(b"a\nb\nc"), vectors.clone()]).contains("3 words, but 2 vectors"));
        assert!(error(&[named(b"a\n\xff"), vectors.clone()]).contains("UTF-8"));
        sealed::write(&path, &table.tensors(true), Default::default()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in 1..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(resolve(&path, &["b".into()]).is_err(), "{cut}");
        }
    }
}
