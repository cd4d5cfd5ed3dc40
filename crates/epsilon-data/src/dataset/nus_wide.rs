//! NUS-WIDE (Chua et al., CIVR 2009) from its official text files: 1,000 Flickr tags and 81 concepts that people checked.
//!
//! Zero-shot learning on it, as LESA and all after it split it: the tags that are no concept are seen (925), the concepts
//! unseen (81). A concept that is also a tag (75 are) has its human labels; the tag's column is not used. Read are
//! `ImageList/{Train,Test}Imagelist.txt`, `ConceptsList/Concepts81.txt`, `NUS_WID_Tags/TagList1k.txt`,
//! `NUS_WID_Tags/{Train,Test}_Tags1k` and `TrainTestLabels/Labels_<concept>_{Train,Test}.txt`. The published classification of
//! the 81 concepts trains on them instead, and reads no tag.

use super::lines::{self, line_error};
use super::summary::{Notes, WordCounts};
use super::{Dataset, DatasetError, LineError, Record, SparseLabels, Split, Summary};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where NUS-WIDE lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NusWideOptions {
    /// The folder with `ImageList`, `ConceptsList`, `NUS_WID_Tags` and `TrainTestLabels` (or `Groundtruth` around the
    /// latter).
    pub folder: PathBuf,
    /// The folder that the image lists' paths start from (`Flickr` in the distribution).
    pub images: PathBuf,
    /// Which labels there are.
    #[serde(default)]
    pub labels: NusWideLabels,
    /// Whether images may lie outside their folder, where a path with `..` or from the root leads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
}

/// The labels of NUS-WIDE that an experiment is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NusWideLabels {
    /// Zero-shot learning: the tags that are no concept are seen, the concepts unseen.
    #[default]
    TagsAndConcepts,
    /// Classification: the concepts alone, all of them trained on.
    Concepts,
}

/// The parts of the data set, and what their files call them.
const PARTS: [(Split, &str); 2] = [(Split::Train, "Train"), (Split::Test, "Test")];

/// Images a list names twice.
const TWICE: &str = "images listed again, left out";

impl NusWideOptions {
    /// Every file that [`read`] reads, as far as they exist.
    ///
    /// # Errors
    /// [`DatasetError::Layout`] names what is missing; an unreadable or empty list of concepts.
    pub fn sources(&self) -> Result<Vec<PathBuf>, DatasetError> {
        let files = Files {
            folder: &self.folder,
        };
        let with_tags = self.labels == NusWideLabels::TagsAndConcepts;
        let mut all = vec![files.concepts()?];
        let concepts = lines::names(&all[0])?;
        if with_tags {
            all.push(files.tag_list()?);
        }
        for (_, part) in PARTS {
            all.push(files.images(part)?);
            if with_tags {
                all.push(files.tags(part)?);
            }
            for concept in &concepts {
                all.push(files.labels(concept, part)?);
            }
        }
        Ok(all)
    }
}

/// Reads the data set and counts it. Images that are listed twice keep their first place, and are counted.
///
/// # Errors
/// Missing and unreadable files; a file of labels or tags with more or fewer lines than its list has images; with file
/// and line, a value that is not 0 or 1, and a row of tags that is too short or too long.
pub fn read(options: &NusWideOptions) -> Result<(Dataset, Summary), DatasetError> {
    let files = Files {
        folder: &options.folder,
    };
    let concepts = lines::names(&files.concepts()?)?;
    let tags = match options.labels {
        NusWideLabels::TagsAndConcepts => Some(lines::names(&files.tag_list()?)?),
        NusWideLabels::Concepts => None,
    };
    let is_concept: HashSet<&String> = concepts.iter().collect();
    // The column of each tag among the labels; none where the concept's human labels stand for it.
    let mut names = Vec::new();
    let column = |tag: &String| {
        (!is_concept.contains(tag)).then(|| {
            names.push(tag.clone());
            names.len() as u32 - 1
        })
    };
    let columns: Option<Vec<Option<u32>>> =
        tags.as_ref().map(|tags| tags.iter().map(column).collect());
    let first_concept = names.len();
    let mut notes = Notes::default();
    if let Some(tags) = &tags {
        notes.add(
            "tags that are concepts and have their human labels",
            tags.len() - first_concept,
            vec![],
        );
    }
    names.extend(concepts.iter().cloned());
    let seen = match options.labels {
        NusWideLabels::TagsAndConcepts => first_concept,
        NusWideLabels::Concepts => names.len(),
    };
    let labels = LabelFiles {
        columns: columns.as_deref(),
        concepts: &concepts,
        first_concept: first_concept as u32,
        outside: options.outside,
    };

    let parts: Vec<Part> = PARTS
        .par_iter()
        .map(|&(split, name)| Part::read(&files, split, name, &labels))
        .collect::<Result<_, _>>()?;
    let images: Arc<Path> = options.images.as_path().into();
    let mut records = Vec::new();
    let mut rows = Vec::new();
    let mut known = HashMap::new();
    for part in parts {
        for (id, entries) in part.ids.into_iter().zip(part.rows) {
            if known.insert(id.clone(), part.split).is_some() {
                notes.count(TWICE, &id);
                continue;
            }
            records.push(Record {
                folder: images.clone(),
                id,
                split: part.split,
            });
            rows.push(entries);
        }
    }
    let dataset = Dataset {
        records,
        labels: SparseLabels::new(names.len(), -1, rows)?,
        words: names.clone(),
        names,
        seen,
    };
    let summary = Summary::new(&dataset, WordCounts::new(), notes);
    Ok((dataset, summary))
}

/// Finds the files of the distribution.
struct Files<'a> {
    folder: &'a Path,
}

impl Files<'_> {
    /// The first of `tried` that exists.
    fn first(&self, tried: &[String]) -> Result<PathBuf, DatasetError> {
        let mut paths = tried.iter().map(|name| self.folder.join(name));
        paths
            .find(|path| path.is_file())
            .ok_or_else(|| DatasetError::Layout {
                folder: self.folder.into(),
                tried: tried.join(", "),
            })
    }

    fn tag_list(&self) -> Result<PathBuf, DatasetError> {
        self.first(&["NUS_WID_Tags/TagList1k.txt", "TagList1k.txt"].map(String::from))
    }

    fn concepts(&self) -> Result<PathBuf, DatasetError> {
        self.first(&["ConceptsList/Concepts81.txt", "Concepts81.txt"].map(String::from))
    }

    fn images(&self, part: &str) -> Result<PathBuf, DatasetError> {
        self.first(&[format!("ImageList/{part}Imagelist.txt")])
    }

    fn tags(&self, part: &str) -> Result<PathBuf, DatasetError> {
        self.first(&["dat", "txt"].map(|end| format!("NUS_WID_Tags/{part}_Tags1k.{end}")))
    }

    /// The file of a concept, which is no path.
    fn labels(&self, concept: &str, part: &str) -> Result<PathBuf, DatasetError> {
        if concept.contains(['/', '\\']) {
            return Err(DatasetError::Form {
                path: self.concepts()?,
                reason: format!("{concept:?} is no concept: files are named after them"),
            });
        }
        let name = format!("TrainTestLabels/Labels_{concept}_{part}.txt");
        self.first(&[name.clone(), format!("Groundtruth/{name}")])
    }
}

/// What is read of every image.
struct LabelFiles<'a> {
    /// The label of each tag, if it is one; `None` where the tags are not read.
    columns: Option<&'a [Option<u32>]>,
    concepts: &'a [String],
    /// The label of the first concept.
    first_concept: u32,
    /// Whether images may lie outside their folder.
    outside: bool,
}

/// One of the two lists of images, with its labels.
struct Part {
    split: Split,
    ids: Vec<String>,
    rows: Vec<Vec<(u32, i8)>>,
}

impl Part {
    fn read(
        files: &Files,
        split: Split,
        name: &str,
        wanted: &LabelFiles<'_>,
    ) -> Result<Self, DatasetError> {
        let list = files.images(name)?;
        let mut ids = Vec::new();
        for (line, text) in lines::list(&list)? {
            if !wanted.outside && !lines::is_inside(&text) {
                return Err(line_error(&list, line, LineError::Outside(text)));
            }
            ids.push(text.replace('\\', "/"));
        }
        let labels = || -> Result<Vec<Vec<u32>>, DatasetError> {
            let one = |concept: &String| {
                let path = files.labels(concept, name)?;
                let (positives, found) = read_flags(&path)?;
                same_length(&path, found, &list, ids.len())?;
                Ok(positives)
            };
            wanted.concepts.par_iter().map(one).collect()
        };
        let tags = || -> Result<Vec<Vec<(u32, i8)>>, DatasetError> {
            let Some(columns) = wanted.columns else {
                return Ok(vec![Vec::new(); ids.len()]);
            };
            let path = files.tags(name)?;
            let rows = read_tags(&path, columns)?;
            same_length(&path, rows.len(), &list, ids.len())?;
            Ok(rows)
        };
        let (rows, labels) = rayon::join(tags, labels);
        let (mut rows, labels) = (rows?, labels?);
        for (label, positives) in (wanted.first_concept..).zip(labels) {
            for row in positives {
                rows[row as usize].push((label, 1));
            }
        }
        Ok(Self { split, ids, rows })
    }
}

fn same_length(
    path: &Path,
    found: usize,
    list: &Path,
    expected: usize,
) -> Result<(), DatasetError> {
    if found == expected {
        return Ok(());
    }
    Err(DatasetError::Lines {
        path: path.into(),
        line: found.min(expected) as u64 + 1,
        found,
        list: list.into(),
        expected,
    })
}

/// Reads a file of one 0 or 1 a line; gives the numbers of the lines that hold 1, counted from 0, and how many there are.
fn read_flags(path: &Path) -> Result<(Vec<u32>, usize), DatasetError> {
    let mut positives = Vec::new();
    let mut count = 0;
    lines::for_each_raw(path, lines::open(path)?, |line, text| {
        match text.trim_ascii() {
            b"0" => {}
            b"1" => positives.push(line as u32 - 1),
            other => return Err(line_error(path, line, not_binary(other))),
        }
        count += 1;
        Ok(())
    })?;
    Ok((positives, count))
}

/// Reads a file of one 0 or 1 a tag in every line, separated by tabs or spaces: the labels of each line's ones.
fn read_tags(path: &Path, columns: &[Option<u32>]) -> Result<Vec<Vec<(u32, i8)>>, DatasetError> {
    let mut rows = Vec::new();
    lines::for_each_raw(path, lines::open(path)?, |line, text| {
        let mut entries = Vec::new();
        let mut found = 0;
        for value in text.split(u8::is_ascii_whitespace) {
            match value {
                b"" => continue,
                b"0" => {}
                b"1" => entries.extend(columns.get(found).copied().flatten().map(|c| (c, 1))),
                other => return Err(line_error(path, line, not_binary(other))),
            }
            found += 1;
        }
        if found != columns.len() {
            let expected = columns.len();
            return Err(line_error(
                path,
                line,
                LineError::Values { found, expected },
            ));
        }
        entries.shrink_to_fit();
        rows.push(entries);
        Ok(())
    })?;
    Ok(rows)
}

fn not_binary(text: &[u8]) -> LineError {
    let shown = &text[..text.len().min(40)];
    LineError::NotBinary(String::from_utf8_lossy(shown).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::trees;
    use proptest::prelude::*;

    fn message(spoil: impl Fn(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        trees::small_nus_wide(dir.path(), 5, 3, 1);
        spoil(dir.path());
        read(&options(dir.path())).unwrap_err().to_string()
    }

    fn options(folder: &Path) -> NusWideOptions {
        NusWideOptions {
            outside: false,
            folder: folder.into(),
            images: folder.join("Flickr"),
            labels: NusWideLabels::default(),
        }
    }

    fn edit(path: PathBuf, change: impl Fn(String) -> String) {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, change(text)).unwrap();
    }

    #[test]
    fn a_concept_is_no_path() {
        for concept in ["x/../../../secret", "x\\\\secret"] {
            let said = message(|folder| {
                let path = folder.join("ConceptsList/Concepts81.txt");
                edit(path, |text| format!("{text}\n{concept}\n"));
            });
            assert!(
                said.contains("Concepts81.txt") && said.contains("is no concept"),
                "{said}"
            );
        }
    }

    #[test]
    fn the_official_files_by_hand() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("NUS_WID_Tags/TagList1k.txt", "nature\r\nsky\r\nblue\r\n");
        write("ConceptsList/Concepts81.txt", "airport\r\nsky\r\n");
        write(
            "ImageList/TrainImagelist.txt",
            "a\\1.jpg\r\nb\\2.jpg\r\na\\1.jpg\r\n",
        );
        write("ImageList/TestImagelist.txt", "b\\3.jpg\nb\\2.jpg");
        write(
            "NUS_WID_Tags/Train_Tags1k.dat",
            "1\t1\t0\t\r\n0\t1\t1\t\r\n0\t0\t1\r\n",
        );
        write("NUS_WID_Tags/Test_Tags1k.dat", "0 0 1\n0 0 0\n");
        write("TrainTestLabels/Labels_airport_Train.txt", "0\n1\n0\n");
        write(
            "Groundtruth/TrainTestLabels/Labels_sky_Train.txt",
            "0 \r\n0 \r\n1 \r\n",
        );
        write("TrainTestLabels/Labels_airport_Test.txt", "1\n0\n");
        write("TrainTestLabels/Labels_sky_Test.txt", "1\n0");
        write("Flickr/a/1.jpg", "");
        let (dataset, summary) = read(&options(dir.path())).unwrap();
        assert_eq!(dataset.names, ["nature", "blue", "airport", "sky"]);
        assert_eq!(dataset.seen, 2);
        let ids: Vec<&str> = dataset.records.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["a/1.jpg", "b/2.jpg", "b/3.jpg"]);
        assert_eq!(dataset.rows(Split::Test), [2]);
        let positives = |row| {
            dataset
                .labels
                .positives(row)
                .map(|c| dataset.names[c].as_str())
                .collect::<Vec<_>>()
        };
        // The tag `sky` of both training images does not count: nobody saw a sky in them.
        assert_eq!(positives(0), ["nature"]);
        assert_eq!(positives(1), ["blue", "airport"]);
        assert_eq!(positives(2), ["blue", "airport", "sky"]);
        assert_eq!(dataset.labels.rest(), -1);
        assert_eq!(summary.missing_examples, ["b/2.jpg", "b/3.jpg"]);
        let counted: Vec<(&str, usize)> = summary
            .notes
            .iter()
            .map(|n| (n.what.as_str(), n.count))
            .collect();
        assert_eq!(
            counted,
            [
                ("tags that are concepts and have their human labels", 1),
                (TWICE, 2)
            ]
        );
        assert_eq!(summary.notes[1].examples, ["a/1.jpg", "b/2.jpg"]);
        let sources = options(dir.path()).sources().unwrap();
        assert_eq!(sources.len(), 2 + 2 * (2 + 2));
        assert!(sources.iter().all(|path| path.is_file()));

        std::fs::remove_dir_all(dir.path().join("NUS_WID_Tags")).unwrap();
        let options = NusWideOptions {
            outside: false,
            labels: NusWideLabels::Concepts,
            ..options(dir.path())
        };
        let (dataset, summary) = read(&options).unwrap();
        assert_eq!(dataset.names, ["airport", "sky"]);
        assert_eq!(dataset.seen, 2);
        let positives = |row| dataset.labels.positives(row).collect::<Vec<_>>();
        assert_eq!((positives(0), positives(2)), (vec![], vec![0, 1]));
        assert_eq!(positives(1), [0]);
        assert_eq!((summary.seen, summary.unseen), (2, 0));
        assert_eq!(options.sources().unwrap().len(), 1 + 2 * (1 + 2));
    }

    #[test]
    fn damage_is_named_with_file_and_line() {
        let last_line_off = |text: String| text.trim_end().rsplit_once('\n').unwrap().0.to_string();
        let short = message(|dir| {
            edit(
                dir.join("TrainTestLabels/Labels_cat_Train.txt"),
                last_line_off,
            );
        });
        assert!(
            short.contains("Labels_cat_Train.txt, line 5: 4 lines, but")
                && short.contains("TrainImagelist.txt lists 5 images"),
            "{short}"
        );
        let long = message(|dir| {
            edit(dir.join("TrainTestLabels/Labels_cat_Test.txt"), |text| {
                text + "0\n"
            });
        });
        assert!(
            long.contains("Labels_cat_Test.txt, line 4: 4 lines"),
            "{long}"
        );
        let tags = message(|dir| {
            edit(dir.join("NUS_WID_Tags/Train_Tags1k.dat"), last_line_off);
        });
        assert!(tags.contains("Train_Tags1k.dat, line 5: 4 lines"), "{tags}");
        let narrow = message(|dir| {
            edit(dir.join("NUS_WID_Tags/Test_Tags1k.dat"), |text| {
                text.replacen("\t", " ", 1).replacen("0\t", "", 1)
            });
        });
        assert!(
            narrow.contains("Test_Tags1k.dat, line 1: ") && narrow.contains("values instead of"),
            "{narrow}"
        );
        let word = message(|dir| {
            edit(dir.join("TrainTestLabels/Labels_dog_Train.txt"), |text| {
                text.replacen("0", "2", 1)
            });
        });
        assert!(
            word.contains("Labels_dog_Train.txt, line ") && word.contains("\"2\" is not 0 or 1"),
            "{word}"
        );
        let gone = message(|dir| {
            std::fs::remove_file(dir.join("TrainTestLabels/Labels_dog_Train.txt")).unwrap();
        });
        assert!(
            gone.contains("holds none of TrainTestLabels/Labels_dog_Train.txt"),
            "{gone}"
        );
        let twice = message(|dir| {
            edit(dir.join("NUS_WID_Tags/TagList1k.txt"), |text| {
                text.replacen("t1", "t0", 1)
            });
        });
        assert!(
            twice.contains("TagList1k.txt, line 2: `t0` stands on line 1"),
            "{twice}"
        );
    }

    #[test]
    fn the_real_lists_give_the_published_counts() {
        let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
        if !shared.exists() {
            println!("skipped: ../shared/data is missing");
            return;
        }
        let real = shared.join("nus-wide");
        let dir = tempfile::tempdir().unwrap();
        let lists = [
            ("TagList1k.txt", "NUS_WID_Tags"),
            ("Concepts81.txt", "ConceptsList"),
        ]
        .map(|(name, folder)| (real.join(name), dir.path().join(folder).join(name)));
        let [tags, concepts] = [0, 1].map(|i| lines::names(&lists[i].0).unwrap());
        trees::nus_wide(dir.path(), &tags, &concepts, [4, 3], 1);
        for (from, to) in lists {
            std::fs::copy(from, to).unwrap();
        }
        let (dataset, summary) = read(&options(dir.path())).unwrap();
        assert_eq!(
            (dataset.seen, dataset.names.len() - dataset.seen),
            (925, 81)
        );
        assert_eq!(summary.notes[0].count, 75);
        let words = shared.join("words/glove.6B.300d.subset.txt");
        let resolved = crate::labels::resolve(&words, &dataset.names).unwrap();
        assert_eq!(resolved.report.len(), 1006);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_tree_reads_back(train in 1usize..9, test in 1usize..9, seed in 0u64..1000) {
            let dir = tempfile::tempdir().unwrap();
            let tree = trees::small_nus_wide(dir.path(), train, test, seed);
            let (dataset, summary) = read(&options(dir.path())).unwrap();
            prop_assert_eq!((summary.train.images, summary.test.images), (train, test));
            for (row, labels) in tree.iter().enumerate() {
                prop_assert_eq!(&dataset.labels.positives(row).collect::<Vec<_>>(), labels);
            }
        }

        #[test]
        fn spoilt_bytes_never_panic(file in 0usize..6, place in 0usize..200, byte: u8) {
            let dir = tempfile::tempdir().unwrap();
            trees::small_nus_wide(dir.path(), 3, 2, 1);
            let sources = options(dir.path()).sources().unwrap();
            let path = &sources[file % sources.len()];
            let mut bytes = std::fs::read(path).unwrap();
            let place = place % bytes.len();
            bytes[place] = byte;
            std::fs::write(path, bytes).unwrap();
            let _ = read(&options(dir.path()));
        }
    }
}
