//! The names of a classifier's classes: ImageNet's 1,000 are built in, those of others come from a list with a line for each
//! class, and which labels are among them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use epsilon_data::files;
use epsilon_data::labels::{LabelError, VectorIndex, composed};
use serde::{Deserialize, Serialize};

/// The classes of ImageNet's 1,000, in the order of the networks' heads: a synset, then its names in WordNet.
const IMAGENET: &str = include_str!("../assets/imagenet_classes.tsv");

/// What can be wrong with the names of a network's classes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassesError {
    /// A network of other classes than ImageNet's, and no list of them.
    #[error("a classifier of {count} classes, whose names are not known")]
    Unnamed {
        /// Classes of the network.
        count: usize,
    },
    /// A list that cannot be read.
    #[error("{}: {reason}", path.display())]
    Read {
        /// The list.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A list of another length.
    #[error(
        "{}: {lines} lines, but the network has {count} classes: one line for each, its names between commas", path.display()
    )]
    Lines {
        /// The list.
        path: PathBuf,
        /// Its lines.
        lines: usize,
        /// Classes of the network.
        count: usize,
    },
}

/// The names of a network's classes, several a class, in the order of its head.
///
/// ```
/// use epsilon::classes::ClassNames;
///
/// let imagenet = ClassNames::read(None, 1000)?;
/// assert_eq!(imagenet.names()[0], ["tench", "Tinca tinca"]);
/// let labels = ["goldfish", "sharks", "love"].map(String::from);
/// assert_eq!(imagenet.among(&labels), [true, true, false]);
/// # Ok::<(), epsilon::classes::ClassesError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassNames(Vec<Vec<String>>);

/// Vectors of the names of classes.
#[derive(Debug, Clone, PartialEq)]
pub struct NameVectors {
    /// Of unit length, row-major `[names, d]`.
    pub values: Vec<f32>,
    /// The class of each.
    pub owners: Vec<usize>,
}

impl ClassNames {
    /// The names of a network's `count` classes: from a file with a line for each, its names between commas, or ImageNet's.
    ///
    /// # Errors
    /// [`ClassesError`].
    pub fn read(file: Option<&Path>, count: usize) -> Result<Self, ClassesError> {
        // A synset may stand before the names, as in the built-in list.
        let split = |line: &str| {
            let names = line.split_once('\t').map_or(line, |(_, names)| names);
            let names = names.split(',').map(|name| name.trim().to_string());
            names.collect::<Vec<String>>()
        };
        let Some(path) = file else {
            let lines = IMAGENET.lines().filter(|line| !line.starts_with('#'));
            let names: Vec<Vec<String>> = lines.map(split).collect();
            return match names.len() == count {
                true => Ok(Self(names)),
                false => Err(ClassesError::Unnamed { count }),
            };
        };
        let text = files::read_text(path, files::LIST);
        let text = text.map_err(|reason| ClassesError::Read {
            path: path.into(),
            reason,
        })?;
        let names: Vec<Vec<String>> = text.lines().map(split).collect();
        match names.len() == count {
            true => Ok(Self(names)),
            false => Err(ClassesError::Lines {
                path: path.into(),
                lines: names.len(),
                count,
            }),
        }
    }

    /// The names of each class.
    pub fn names(&self) -> &[Vec<String>] {
        &self.0
    }

    /// Which labels are classes: their name is that of a class, or the last word of one (`bear` of "brown bear"), in the
    /// singular or with an `s`. Case, spaces, `_` and `-` do not count.
    pub fn among(&self, labels: &[String]) -> Vec<bool> {
        let all = self.0.iter().flatten();
        let names = all.flat_map(|name| {
            let name = plain(name);
            let last = name.rsplit(' ').next().unwrap_or_default().to_string();
            [name, last]
        });
        let names: HashSet<String> = names.filter(|name| !name.is_empty()).collect();
        let is_class = |label: &String| {
            let label = plain(label);
            let singular = ["s", "es"].into_iter();
            let mut singular = singular.filter_map(|ending| label.strip_suffix(ending));
            names.contains(&label) || singular.any(|label| names.contains(label))
        };
        labels.iter().map(is_class).collect()
    }

    /// The vectors that stand for each class: of every name of it, the mean of its words where the file does not have it whole,
    /// and of every name's last word. A class without any has none.
    ///
    /// # Errors
    /// Those of [`VectorIndex::approximate`].
    pub fn vectors(&self, index: &VectorIndex) -> Result<NameVectors, LabelError> {
        let mut owners = Vec::new();
        let mut names = Vec::new();
        for (class, of_class) in self.0.iter().enumerate() {
            let first = names.len();
            for name in of_class {
                let parts = |c: char| c.is_whitespace() || c == '_' || c == '-';
                let last = name.rsplit(parts).next().unwrap_or_default();
                for name in [name, last] {
                    if !name.is_empty() && !names[first..].iter().any(|other| other == name) {
                        names.push(name.to_string());
                        owners.push(class);
                    }
                }
            }
        }
        let found = index.approximate(&names)?;
        let mut vectors = NameVectors {
            values: Vec::new(),
            owners: Vec::new(),
        };
        for (vector, owner) in found.into_iter().zip(owners) {
            let length = |vector: &[f32]| vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            let vector = vector.filter(|vector| length(vector) > 0.0);
            if let Some(vector) = vector {
                let length = length(&vector);
                vectors.values.extend(vector.iter().map(|v| v / length));
                vectors.owners.push(owner);
            }
        }
        Ok(vectors)
    }
}

impl NameVectors {
    /// How many classes have a vector.
    pub fn classes(&self) -> usize {
        let mut owners = self.owners.clone();
        owners.dedup();
        owners.len()
    }
}

/// Whether too few of a network's classes have a vector for its scores to say much of other words: four in five are needed.
pub(crate) fn too_few(with_vectors: usize, classes: usize) -> bool {
    (classes - with_vectors) * 5 > classes
}

/// A name as it is compared.
fn plain(name: &str) -> String {
    let name = composed(name).to_lowercase();
    let words = name.split(|c: char| c.is_whitespace() || c == '_' || c == '-');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, count: usize) -> Result<ClassNames, ClassesError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes.txt");
        std::fs::write(&path, text).unwrap();
        ClassNames::read(Some(&path), count)
    }

    #[test]
    fn labels_among_the_classes() {
        let classes = read("brown bear, Ursus arctos\nice-cream\nbus\n", 3).unwrap();
        let among = |label: &str| classes.among(&[label.to_string()])[0];
        for label in ["bear", "Bears", "brown_bear", "ice cream", "cream", "buses"] {
            assert!(among(label), "{label}");
        }
        for label in ["brown", "ice", "beach", "s", "es"] {
            assert!(!among(label), "{label}");
        }
    }

    #[test]
    fn a_list_of_another_length_and_an_unknown_head_are_refused() {
        let said = read("cat\ndog\n", 3).unwrap_err().to_string();
        assert!(
            said.contains("2 lines") && said.contains("3 classes"),
            "{said}"
        );
        let said = ClassNames::read(None, 10).unwrap_err().to_string();
        assert!(said.contains("10 classes"), "{said}");
        assert!(ClassNames::read(Some(Path::new("none.txt")), 3).is_err());
    }

    #[test]
    fn a_class_goes_by_its_names_and_their_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.txt");
        std::fs::write(&path, "brown 2 0\nbear 0 2\nursus 3 0\ncat 0 1\n").unwrap();
        let index = VectorIndex::read(&path.as_path().into()).unwrap();
        let classes = read("brown bear, Ursus arctos\nunheard-of\nCat, cat\n", 3).unwrap();
        let vectors = classes.vectors(&index).unwrap();
        // "brown bear" is the mean of both, then "bear"; of "Ursus arctos" its first word alone has a vector, and the last
        // word of it none; the second class has nothing.
        let half = 0.5_f32.sqrt();
        let expected = [half, half, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0];
        let apart = vectors
            .values
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs());
        assert!(
            apart.max_by(f32::total_cmp).unwrap() < 1e-6,
            "{:?}",
            vectors.values
        );
        assert_eq!(vectors.owners, [0, 0, 0, 2, 2]);
        assert_eq!(vectors.classes(), 2);
    }
}
