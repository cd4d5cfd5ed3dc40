//! Pascal VOC (Everingham et al., IJCV 2010) from its development kit: `Annotations/<id>.xml` and
//! `ImageSets/Main/<set>.txt` beside `JPEGImages/<id>.jpg`.
//!
//! An image has the classes of which it holds an object. A class of which all objects are marked as difficult is, unless
//! told otherwise, unknown: the challenge counts it neither way.

use super::lines;
use super::summary::{Notes, WordCounts};
use super::{Dataset, DatasetError, LineError, Record, SparseLabels, Split, Summary};
use crate::files;
use crate::formats::xml::{self, XmlError};
use crate::labels::{composed, read_seen_unseen};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a class counts as of which all objects of an image are marked as difficult.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difficult {
    /// Neither positive nor negative, as in the challenge.
    #[default]
    Unknown,
    /// As any other object.
    Positive,
    /// As if it were not there.
    Negative,
}

/// Where VOC lies and how it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VocOptions {
    /// The folder of a year: `VOCdevkit/VOC2007`.
    pub folder: PathBuf,
    /// The set to train on.
    #[serde(default = "trainval")]
    pub train_set: String,
    /// The set to measure on.
    #[serde(default = "test")]
    pub test_set: String,
    /// Seen classes, one a line.
    pub seen: PathBuf,
    /// Unseen classes, one a line.
    pub unseen: PathBuf,
    /// What a class counts as of which all objects of an image are marked as difficult.
    #[serde(default)]
    pub difficult: Difficult,
    /// Whether images may lie outside their folder, where a path with `..` or from the root leads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
}

fn trainval() -> String {
    "trainval".into()
}

fn test() -> String {
    "test".into()
}

impl VocOptions {
    fn set(&self, name: &str) -> PathBuf {
        self.folder.join(format!("ImageSets/Main/{name}.txt"))
    }

    fn annotation(&self, id: &str) -> PathBuf {
        self.folder.join(format!("Annotations/{id}.xml"))
    }

    /// Every file that [`read`] reads.
    ///
    /// # Errors
    /// Unreadable or empty sets.
    pub fn sources(&self) -> Result<Vec<PathBuf>, DatasetError> {
        let mut files = vec![self.seen.clone(), self.unseen.clone()];
        for name in [&self.train_set, &self.test_set] {
            let set = self.set(name);
            files.extend(
                ids(&set, self.outside)?
                    .iter()
                    .map(|id| self.annotation(id)),
            );
            files.push(set);
        }
        Ok(files)
    }
}

/// Reads the data set and counts it. Classes in neither list are ignored and counted; an image of both sets keeps its
/// place in the training set and is counted.
///
/// # Errors
/// Unreadable files; with file and line, XML that is damaged, an object without name, `difficult` that is not 0 or 1.
pub fn read(options: &VocOptions) -> Result<(Dataset, Summary), DatasetError> {
    let (names, seen) = read_seen_unseen(&options.seen, &options.unseen)?;
    let numbers: HashMap<&str, u32> = (0..).zip(&names).map(|(i, n)| (n.as_str(), i)).collect();
    let mut notes = Notes::default();
    let mut records = Vec::new();
    let mut places = HashMap::new();
    for (split, set) in [
        (Split::Train, &options.train_set),
        (Split::Test, &options.test_set),
    ] {
        for id in ids(&options.set(set), options.outside)? {
            if places.insert(id.clone(), split).is_some() {
                notes.count("images listed again, left out", &id);
                continue;
            }
            records.push((id, split));
        }
    }
    let annotations: Vec<Annotation> = records
        .par_iter()
        .map(|(id, _)| read_annotation(&options.annotation(id)))
        .collect::<Result<_, _>>()?;
    let files: Vec<String> = records
        .par_iter()
        .zip(&annotations)
        .map(|((id, _), annotation)| image_file(&options.folder, id, annotation))
        .collect();
    let mut ignored = WordCounts::new();
    let said: Vec<Said> = annotations
        .into_iter()
        .map(|annotation| {
            let mut values = Said::new();
            for (class, difficult) in classes(annotation.objects) {
                let Some(&label) = numbers.get(&*composed(&class)) else {
                    *ignored.entry(class).or_default() += 1;
                    continue;
                };
                let value = match (difficult, options.difficult) {
                    (false, _) | (true, Difficult::Positive) => 1,
                    (true, Difficult::Negative) => -1,
                    (true, Difficult::Unknown) => 0,
                };
                values.insert(label, value);
            }
            values
        })
        .collect();
    let unknown = said.iter().flat_map(BTreeMap::values);
    let unknown = unknown.filter(|value| **value == 0).count();
    let labels = matrix(options, names.len(), said, unknown > 0)?;
    if unknown > 0 {
        let what = "labels left unknown because every object is difficult";
        notes.add(what, unknown, Vec::new());
    }
    let folder: Arc<Path> = options.folder.as_path().into();
    let record = |(id, (_, split)): (String, (String, Split))| Record {
        id,
        folder: folder.clone(),
        split,
    };
    let dataset = Dataset {
        records: files.into_iter().zip(records).map(record).collect(),
        labels,
        words: names.clone(),
        names,
        seen,
    };
    let mut summary = Summary::new(&dataset, ignored, notes);
    // The matrix may list the negatives; an annotation does not.
    summary.unlisted_is_negative = true;
    Ok((dataset, summary))
}

/// What the objects of an image say of labels: +1, -1, or 0 for one that is left unknown.
type Said = BTreeMap<u32, i8>;

/// Most labels that are listed as negative, of all images together: 8 bytes each.
const MOST_LISTED: usize = 1 << 27;

/// The matrix of labels: what no object says is negative. Only what is not listed can be unknown, so that the negatives are listed
/// where anything is.
fn matrix(
    options: &VocOptions,
    labels: usize,
    said: Vec<Said>,
    has_unknown: bool,
) -> Result<SparseLabels, DatasetError> {
    if !has_unknown {
        let rows = said.into_iter().map(|said| said.into_iter().collect());
        return SparseLabels::new(labels, -1, rows.collect());
    }
    if labels.saturating_mul(said.len()) > MOST_LISTED {
        let reason = format!(
            "{} images with {labels} labels and difficult objects among them are more than {MOST_LISTED} values: count difficult \
             objects as positive or negative (`difficult`)",
            said.len()
        );
        let path = options.folder.clone();
        return Err(DatasetError::Form { path, reason });
    }
    let row = |said: Said| {
        let value = |label| said.get(&label).copied().unwrap_or(-1);
        let all = (0..labels as u32).map(|label| (label, value(label)));
        all.filter(|(_, value)| *value != 0).collect()
    };
    SparseLabels::new(labels, 0, said.into_iter().map(row).collect())
}

/// The ids of a set; a second column (of the sets of one class) is passed over.
fn ids(set: &Path, outside: bool) -> Result<Vec<String>, DatasetError> {
    let mut ids = Vec::new();
    for (line, text) in lines::list(set)? {
        let Some(id) = text.split_whitespace().next() else {
            continue;
        };
        if !outside && !lines::is_inside(id) {
            return Err(lines::line_error(set, line, LineError::Outside(id.into())));
        }
        ids.push(id.to_string());
    }
    match ids.is_empty() {
        true => Err(DatasetError::Empty { path: set.into() }),
        false => Ok(ids),
    }
}

/// What an annotation says of its image.
struct Annotation {
    /// The image's own name for its file, where it gives one.
    file: Option<String>,
    objects: Vec<Object>,
}

/// Endings of image files, tried in this order.
const ENDINGS: [&str; 8] = ["jpg", "JPG", "jpeg", "JPEG", "png", "PNG", "webp", "WEBP"];

/// Where the image of an annotation lies within the folder: under the name that the annotation gives, under its id with any
/// ending, or, where there is none of these, where the development kit has it.
fn image_file(folder: &Path, id: &str, annotation: &Annotation) -> String {
    let own = annotation.file.iter().cloned();
    let usual = ENDINGS.iter().map(|ending| format!("{id}.{ending}"));
    let places = own.chain(usual).map(|name| format!("JPEGImages/{name}"));
    places
        .into_iter()
        .find(|place| folder.join(place).is_file())
        .unwrap_or_else(|| format!("JPEGImages/{id}.jpg"))
}

/// An object of an image: its class, and whether it is marked as difficult.
type Object = (String, bool);

/// Each class of the objects, and whether all its objects are difficult.
fn classes(objects: Vec<Object>) -> BTreeMap<String, bool> {
    let mut classes = BTreeMap::new();
    for (class, difficult) in objects {
        let all = classes.entry(class).or_insert(true);
        *all = *all && difficult;
    }
    classes
}

fn read_annotation(path: &Path) -> Result<Annotation, DatasetError> {
    let bytes =
        files::read(path, files::DESCRIPTION).map_err(|reason| lines::read_error(path, reason))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        lines::line_error(path, line as u64, LineError::NotUtf8)
    })?;
    let document = xml::parse(&text).map_err(|error| match error {
        XmlError::Form(error) => {
            let (line, problem) = (error.pos().row.into(), LineError::Xml(error.to_string()));
            lines::line_error(path, line, problem)
        }
        error => DatasetError::Form {
            path: path.into(),
            reason: error.to_string(),
        },
    })?;
    let mut children = document.root_element().children();
    let file = children.find(|child| child.has_tag_name("filename"));
    let file = file.and_then(|child| child.text()).map(str::trim);
    // A name alone: a path could lead out of the folder.
    let file = file.filter(|name| !name.is_empty() && !name.contains(['/', '\\']) && *name != "..");
    let mut objects = Vec::new();
    for object in document.root_element().children() {
        if !object.has_tag_name("object") {
            continue;
        }
        let field = |name| {
            let mut children = object.children();
            let child = children.find(|child| child.has_tag_name(name))?;
            Some(child.text().unwrap_or_default().trim())
        };
        let error = |problem: String| {
            // Lines are counted from the beginning of the file.
            let line = document.text_pos_at(object.range().start).row.into();
            lines::line_error(path, line, LineError::Xml(problem))
        };
        let name = field("name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| error("an object without a name".into()))?;
        let difficult = match field("difficult").unwrap_or("0") {
            "0" | "" => false,
            "1" => true,
            other if other.eq_ignore_ascii_case("unspecified") => false,
            other => return Err(error(format!("difficult is {other:?}, not 0 or 1"))),
        };
        objects.push((name.to_string(), difficult));
    }
    Ok(Annotation {
        file: file.map(String::from),
        objects,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::trees;
    use proptest::prelude::*;

    const CLASSES: [&str; 4] = ["cat", "dog", "cow", "tree"];

    fn options(folder: &Path) -> VocOptions {
        VocOptions {
            folder: folder.into(),
            train_set: trainval(),
            test_set: test(),
            seen: folder.join("seen.txt"),
            unseen: folder.join("unseen.txt"),
            difficult: Difficult::Unknown,
            outside: false,
        }
    }

    /// cat and dog seen, cow unseen, tree ignored.
    fn world(
        folder: &Path,
        train: usize,
        test: usize,
        seed: u64,
    ) -> Vec<(String, Vec<(usize, bool)>)> {
        std::fs::write(folder.join("seen.txt"), "cat\ndog\n").unwrap();
        std::fs::write(folder.join("unseen.txt"), "cow\n").unwrap();
        trees::voc(folder, &CLASSES, [train, test], seed)
    }

    fn with(
        xml: impl AsRef<[u8]>,
        difficult: Difficult,
    ) -> Result<(Dataset, Summary), DatasetError> {
        let dir = tempfile::tempdir().unwrap();
        world(dir.path(), 1, 1, 1);
        std::fs::write(dir.path().join("Annotations/000001.xml"), xml).unwrap();
        read(&VocOptions {
            outside: false,
            difficult,
            ..options(dir.path())
        })
    }

    #[test]
    fn objects_become_labels() {
        let object = |name: &str, difficult: u8| {
            format!(
                "<object>\n<name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>\n"
            )
        };
        let xml = format!(
            "<annotation><filename>x</filename>{}{}{}{}</annotation>",
            object("dog", 1),
            object("cat", 1),
            object("dog", 0),
            object("tree", 0)
        );
        for (difficult, cat) in [
            (Difficult::Unknown, 0),
            (Difficult::Positive, 1),
            (Difficult::Negative, -1),
        ] {
            let (dataset, summary) = with(&xml, difficult).unwrap();
            let values: Vec<i8> = (0..3).map(|label| dataset.labels.get(0, label)).collect();
            assert_eq!(values, [cat, 1, -1]);
            assert!(summary.unlisted_is_negative, "there is no cow");
            assert!(summary.ignored_words >= 1);
            assert_eq!(dataset.records[0].id, "JPEGImages/000001.jpg");
        }
    }

    /// Many objects on one line, and many seen names: the work is that of the file and of the names.
    #[test]
    fn large_annotations_are_read_in_time() {
        let object = "<object><name>cat</name></object>";
        let xml = format!("<annotation>{}</annotation>", object.repeat(100_000));
        let (dataset, _) = with(&xml, Difficult::Unknown).unwrap();
        assert_eq!((dataset.labels.get(0, 0), dataset.labels.rest()), (1, -1));
        let many: String = (0..150_000).map(|i| format!(" a{i}=''")).collect();
        let said = with(format!("<annotation{many}/>"), Difficult::Unknown);
        let said = said.unwrap_err().to_string();
        assert!(
            said.contains("000001.xml") && said.contains("1000 attributes"),
            "{said}"
        );
    }

    /// Negatives are listed only where something is unknown, and not without end.
    #[test]
    fn what_is_listed_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let images = MOST_LISTED / 60_000 + 1;
        let said = || vec![Said::from([(7, 1)]); images];
        let labels = matrix(&options, 60_000, said(), false).unwrap();
        assert_eq!((labels.get(2, 7), labels.get(2, 8)), (1, -1));
        let refused = matrix(&options, 60_000, said(), true).unwrap_err();
        assert!(
            refused.to_string().contains("count difficult objects"),
            "{refused}"
        );
        let small = matrix(&options, 3, vec![Said::from([(0, 1), (2, 0)])], true).unwrap();
        assert_eq!([0, 1, 2].map(|label| small.get(0, label)), [1, -1, 0]);
    }

    #[test]
    fn damage_is_named_with_file_and_line() {
        let message = |xml: &str| with(xml, Difficult::Unknown).unwrap_err().to_string();
        assert!(message("<annotation>\n<object></annotation>").contains("000001.xml, line 2: "));
        assert!(
            message("<annotation>\n\n<object><name> </name></object></annotation>")
                .contains("line 3: an object without a name")
        );
        assert!(
            message(
                "<annotation><object><name>cat</name><difficult>x</difficult></object></annotation>"
            )
            .contains("difficult is \"x\"")
        );
        assert!(message("").contains("000001.xml, line 1: "));
        assert!(
            with(b"<a>\n\xff</a>", Difficult::Unknown)
                .unwrap_err()
                .to_string()
                .contains("line 2: not UTF-8")
        );
        let dir = tempfile::tempdir().unwrap();
        world(dir.path(), 2, 2, 1);
        std::fs::write(
            dir.path().join("ImageSets/Main/test.txt"),
            "000002  1\r\n000009 -1\r\n",
        )
        .unwrap();
        assert!(
            read(&options(dir.path()))
                .unwrap_err()
                .to_string()
                .contains("000009.xml: cannot be read")
        );
        std::fs::write(
            dir.path().join("ImageSets/Main/test.txt"),
            "000002  1\r\n000003 -1\r\n",
        )
        .unwrap();
        let (dataset, summary) = read(&options(dir.path())).unwrap();
        assert_eq!((dataset.records.len(), summary.notes[0].count), (3, 1));
        assert_eq!(options(dir.path()).sources().unwrap().len(), 2 + 2 + 4);
        std::fs::write(dir.path().join("ImageSets/Main/test.txt"), "\n").unwrap();
        assert!(
            read(&options(dir.path()))
                .unwrap_err()
                .to_string()
                .contains("test.txt: holds no line")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_tree_reads_back(train in 1usize..9, test in 1usize..9, seed in 0u64..1000) {
            let dir = tempfile::tempdir().unwrap();
            let tree = world(dir.path(), train, test, seed);
            let (dataset, summary) = read(&options(dir.path())).unwrap();
            prop_assert_eq!((summary.train.images, summary.test.images), (train, test));
            for (row, (id, objects)) in tree.iter().enumerate() {
                prop_assert_eq!(&dataset.records[row].id, id);
                for label in 0..3 {
                    let of = |difficult| objects.contains(&(label, difficult));
                    let expected = if of(false) { 1 } else if of(true) { 0 } else { -1 };
                    prop_assert_eq!(dataset.labels.get(row, label), expected);
                }
            }
        }

        #[test]
        fn near_xml_never_panics(xml in "<a>(<object>|</object>|<name>cat</name>|<difficult>[01x]|&amp;|&x;|<!--|\n){0,8}</a>") {
            let _ = with(xml, Difficult::Unknown);
        }
    }
}
