//! COCO (Lin et al., ECCV 2014) from its files of instances: an image has the categories of which it holds an object.
//!
//! `instances_train2014.json` and so on are read as a stream: of each image its file name is held, of each object two
//! numbers. Two zero-shot splits of the categories are built in: 48/17 of Bansal et al. (ECCV 2018) and 65/15 of Rahman
//! et al. (AAAI 2020); categories of neither list are ignored and counted.

use super::lines;
use super::summary::{Notes, WordCounts};
use super::{Dataset, DatasetError, Record, SparseLabels, Split, Summary};
use crate::labels::{composed, read_seen_unseen};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which categories are seen and which unseen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub enum CocoSplit {
    /// 48 seen and 17 unseen categories.
    #[default]
    #[serde(rename = "48/17")]
    Bansal,
    /// 65 seen and 15 unseen categories.
    #[serde(rename = "65/15")]
    Rahman,
    /// Two lists of one's own.
    #[serde(untagged)]
    Lists {
        /// Seen categories, one a line.
        seen: PathBuf,
        /// Unseen categories, one a line.
        unseen: PathBuf,
    },
}

/// Read by hand: serde says of a form that fits none of several only that it fits none.
impl<'de> Deserialize<'de> for CocoSplit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SplitForm)
    }
}

struct SplitForm;

impl<'de> Visitor<'de> for SplitForm {
    type Value = CocoSplit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("split = \"48/17\", \"65/15\" or { seen = \"FILE\", unseen = \"FILE\" }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<CocoSplit, E> {
        match name {
            "48/17" => Ok(CocoSplit::Bansal),
            "65/15" => Ok(CocoSplit::Rahman),
            _ => Err(E::invalid_value(Unexpected::Str(name), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CocoSplit, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Lists {
            seen: PathBuf,
            unseen: PathBuf,
        }
        let Lists { seen, unseen } = Lists::deserialize(MapAccessDeserializer::new(map))?;
        Ok(CocoSplit::Lists { seen, unseen })
    }
}

/// Which training images are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingImages {
    /// All of them.
    #[default]
    All,
    /// Those without an object of an unseen category, as in zero-shot detection.
    WithoutUnseen,
}

/// Where COCO lies and how it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CocoOptions {
    /// `instances_train2014.json` or another year's.
    pub train: PathBuf,
    /// `instances_val2014.json` or another year's.
    pub test: PathBuf,
    /// The folder of the training images.
    pub train_images: PathBuf,
    /// The folder of the test images.
    pub test_images: PathBuf,
    /// Seen and unseen categories.
    #[serde(default)]
    pub split: CocoSplit,
    /// Which training images are used.
    #[serde(default)]
    pub training_images: TrainingImages,
    /// Whether images may lie outside their folder, where a path with `..` or from the root leads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
}

const SEEN_48_17: [&str; 48] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "truck",
    "boat",
    "bench",
    "bird",
    "horse",
    "sheep",
    "zebra",
    "giraffe",
    "backpack",
    "handbag",
    "skis",
    "kite",
    "surfboard",
    "bottle",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "orange",
    "broccoli",
    "carrot",
    "pizza",
    "donut",
    "chair",
    "bed",
    "tv",
    "laptop",
    "remote",
    "microwave",
    "oven",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "toothbrush",
    "train",
    "bear",
    "suitcase",
    "frisbee",
    "fork",
    "sandwich",
    "toilet",
    "mouse",
    "toaster",
];

const UNSEEN_48_17: [&str; 17] = [
    "bus",
    "dog",
    "cow",
    "elephant",
    "umbrella",
    "tie",
    "skateboard",
    "cup",
    "knife",
    "cake",
    "couch",
    "keyboard",
    "sink",
    "scissors",
    "airplane",
    "cat",
    "snowboard",
];

const SEEN_65_15: [&str; 65] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "bus",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "bench",
    "bird",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "skis",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "orange",
    "broccoli",
    "carrot",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "tv",
    "laptop",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "toothbrush",
];

const UNSEEN_65_15: [&str; 15] = [
    "airplane",
    "train",
    "parking meter",
    "cat",
    "bear",
    "suitcase",
    "frisbee",
    "snowboard",
    "fork",
    "sandwich",
    "hot dog",
    "toilet",
    "mouse",
    "toaster",
    "hair drier",
];

impl CocoOptions {
    /// Every file that [`read`] reads.
    pub fn sources(&self) -> Vec<PathBuf> {
        let mut files = vec![self.train.clone(), self.test.clone()];
        if let CocoSplit::Lists { seen, unseen } = &self.split {
            files.extend([seen.clone(), unseen.clone()]);
        }
        files
    }
}

impl CocoSplit {
    /// Names, seen first, and how many are seen.
    fn names(&self) -> Result<(Vec<String>, usize), DatasetError> {
        let join = |seen: &[&str], unseen: &[&str]| {
            let names = seen.iter().chain(unseen).map(ToString::to_string);
            (names.collect(), seen.len())
        };
        Ok(match self {
            Self::Bansal => join(&SEEN_48_17, &UNSEEN_48_17),
            Self::Rahman => join(&SEEN_65_15, &UNSEEN_65_15),
            Self::Lists { seen, unseen } => read_seen_unseen(seen, unseen)?,
        })
    }
}

/// Reads the data set and counts it.
///
/// # Errors
/// Unreadable files; JSON that is damaged, cut off or not of the form, with line and column; a category of the split
/// that a file does not define, an id or file name that stands twice. Objects of images or categories that a file does not
/// define are counted and left out.
pub fn read(options: &CocoOptions) -> Result<(Dataset, Summary), DatasetError> {
    let (names, seen) = options.split.names()?;
    let mut records = Vec::new();
    let mut rows = Vec::new();
    let mut ignored = WordCounts::new();
    let mut notes = Notes::default();
    let mut places = HashMap::new();
    let parts = [
        (Split::Train, &options.train, &options.train_images),
        (Split::Test, &options.test, &options.test_images),
    ];
    for (split, path, images) in parts {
        let folder: Arc<Path> = images.as_path().into();
        let instances = Instances::read(path)?;
        if !options.outside {
            instances.check_inside(path)?;
        }
        let found = instances.labels(path, &names, &mut ignored, &mut notes)?;
        for (id, labels) in found {
            let unseen = labels.iter().any(|&(label, _)| label as usize >= seen);
            if split == Split::Train
                && unseen
                && options.training_images == TrainingImages::WithoutUnseen
            {
                notes.count("training images with an unseen category, dropped", &id);
                continue;
            }
            let Some((folder, id)) = place(&mut places, &folder, &id) else {
                notes.count("test images that are also training images, left out", &id);
                continue;
            };
            records.push(Record { id, folder, split });
            rows.push(labels);
        }
    }
    if records.is_empty() {
        return Err(form(&options.train, "holds no image".into()));
    }
    let dataset = Dataset {
        records,
        labels: SparseLabels::new(names.len(), -1, rows)?,
        words: names.clone(),
        names,
        seen,
    };
    let summary = Summary::new(&dataset, ignored, notes);
    Ok((dataset, summary))
}

/// Folder and id of an image, where `places` holds those that are there already: as they are given, or, where another folder
/// holds a file of that name, with the folder's own name before the id. `None` where this very file is there already.
fn place(
    places: &mut HashMap<String, Arc<Path>>,
    folder: &Arc<Path>,
    id: &str,
) -> Option<(Arc<Path>, String)> {
    let (mut folder, mut id) = (folder.clone(), id.to_string());
    let file = folder.join(&id);
    while let Some(other) = places.get(&id) {
        if other.join(&id) == file {
            return None;
        }
        let name = folder.file_name()?.to_str()?;
        id = format!("{name}/{id}");
        folder = folder.parent()?.into();
    }
    places.insert(id.clone(), folder.clone());
    Some((folder, id))
}

fn form(path: &Path, reason: String) -> DatasetError {
    DatasetError::Form {
        path: path.into(),
        reason,
    }
}

/// What is used of a file of instances; the rest is passed over while reading.
#[derive(Deserialize)]
struct Instances {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: Id,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Id,
    category_id: Id,
}

#[derive(Deserialize)]
struct Category {
    id: Id,
    name: String,
}

/// The number of an image or a category, which some files write as text: `17` and `"17"` are the same.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text.trim().to_string(),
        }))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// File name and label entries of an image.
type Labelled = (String, Vec<(u32, i8)>);

impl Instances {
    fn read(path: &Path) -> Result<Self, DatasetError> {
        serde_json::from_reader(lines::open_text(path)?).map_err(|reason| DatasetError::Json {
            path: path.into(),
            reason,
        })
    }

    /// Whether all images lie in their folder.
    fn check_inside(&self, path: &Path) -> Result<(), DatasetError> {
        let mut images = self.images.iter();
        match images.find(|image| !lines::is_inside(&image.file_name)) {
            Some(image) => Err(DatasetError::Outside {
                path: path.into(),
                id: image.id.to_string(),
                name: image.file_name.clone(),
            }),
            None => Ok(()),
        }
    }

    fn labels(
        self,
        path: &Path,
        names: &[String],
        ignored: &mut WordCounts,
        notes: &mut Notes,
    ) -> Result<Vec<Labelled>, DatasetError> {
        let categories: HashMap<&Id, Cow<'_, str>> = self
            .categories
            .iter()
            .map(|c| (&c.id, composed(&c.name)))
            .collect();
        let defined: HashSet<&str> = categories.values().map(|name| &**name).collect();
        if let Some(name) = names.iter().find(|name| !defined.contains(name.as_str())) {
            let reason = format!("defines no category `{name}`, which the split names");
            return Err(form(path, reason));
        }
        let numbers: HashMap<&str, u32> = (0..).zip(names).map(|(i, n)| (n.as_str(), i)).collect();
        let mut rows = HashMap::new();
        let mut files = HashSet::new();
        for (row, image) in self.images.iter().enumerate() {
            if rows.insert(&image.id, row).is_some() || !files.insert(&image.file_name) {
                let reason = format!(
                    "the image {} ({}) stands there twice",
                    image.id, image.file_name
                );
                return Err(form(path, reason));
            }
        }
        let mut labels = vec![Vec::new(); self.images.len()];
        for object in &self.annotations {
            let Some(&row) = rows.get(&object.image_id) else {
                let image = format!("{}: image {}", path.display(), object.image_id);
                notes.count(
                    "objects of images that the file does not list, left out",
                    &image,
                );
                continue;
            };
            let Some(name) = categories.get(&object.category_id) else {
                let category = format!("{}: category {}", path.display(), object.category_id);
                notes.count(
                    "objects of categories that the file does not define, left out",
                    &category,
                );
                continue;
            };
            match numbers.get(&**name) {
                Some(&label) => labels[row].push((label, 1)),
                None => *ignored.entry(name.to_string()).or_default() += 1,
            }
        }
        let files = self.images.into_iter().map(|image| image.file_name);
        Ok(files.zip(labels).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::trees;
    use proptest::prelude::*;
    use std::io::Read;

    fn options(folder: &Path) -> CocoOptions {
        CocoOptions {
            train: folder.join("instances_train2014.json"),
            test: folder.join("instances_val2014.json"),
            train_images: folder.join("train2014"),
            test_images: folder.join("val2014"),
            split: CocoSplit::Lists {
                seen: folder.join("seen.txt"),
                unseen: folder.join("unseen.txt"),
            },
            training_images: TrainingImages::All,
            outside: false,
        }
    }

    /// Categories cat and dog seen, cow unseen, tree ignored.
    fn world(
        folder: &Path,
        train: usize,
        test: usize,
        seed: u64,
    ) -> [Vec<(String, Vec<usize>)>; 2] {
        std::fs::write(folder.join("seen.txt"), "cat\ndog\n").unwrap();
        std::fs::write(folder.join("unseen.txt"), "cow\n").unwrap();
        let categories = ["cat", "dog", "cow", "tree"];
        let options = options(folder);
        [
            trees::coco(&options.train, &categories, train, seed),
            trees::coco(&options.test, &categories, test, seed + 1),
        ]
    }

    fn message(json: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        world(dir.path(), 2, 2, 1);
        std::fs::write(&options(dir.path()).train, json).unwrap();
        read(&options(dir.path())).unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_splits_are_the_published_ones() {
        for (split, seen, unseen) in [(CocoSplit::Bansal, 48, 17), (CocoSplit::Rahman, 65, 15)] {
            let (names, count) = split.names().unwrap();
            assert_eq!((count, names.len() - count), (seen, unseen));
            let unique: HashSet<&String> = names.iter().collect();
            assert_eq!(unique.len(), names.len());
        }
        let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
        if !shared.exists() {
            println!("skipped: ../shared/data is missing");
            return;
        }
        for (split, name) in [(CocoSplit::Bansal, "48_17"), (CocoSplit::Rahman, "65_15")] {
            let list = |kind| shared.join(format!("splits/coco_{name}_{kind}.txt"));
            let published = read_seen_unseen(&list("seen"), &list("unseen")).unwrap();
            assert_eq!(split.names().unwrap(), published);
            let words = shared.join("words/glove.6B.300d.subset.txt");
            crate::labels::resolve(&words, &published.0).unwrap();
        }
    }

    #[test]
    fn objects_become_labels() {
        let json = r#"{"info": {}, "annotations": [
            {"segmentation": {"counts": [1, 2], "size": [3, 4]}, "image_id": 9, "category_id": 18, "id": 1},
            {"segmentation": [[1.5]], "image_id": 9, "category_id": 18, "iscrowd": 1, "id": 2},
            {"image_id": 9, "category_id": 21}, {"image_id": 9, "category_id": 1}],
            "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg", "height": 3}],
            "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 21, "name": "cow"},
                           {"id": 1, "name": "tree"}]}"#;
        let dir = tempfile::tempdir().unwrap();
        world(dir.path(), 2, 2, 1);
        let mut options = options(dir.path());
        std::fs::write(&options.train, json).unwrap();
        let (dataset, summary) = read(&options).unwrap();
        assert_eq!(dataset.names, ["cat", "dog", "cow"]);
        assert_eq!(dataset.labels.entries(0), []);
        assert_eq!(dataset.labels.entries(1), [(1, 1), (2, 1)]);
        assert_eq!(dataset.records[1].id, "b.jpg");
        assert!(dataset.records[1].path().ends_with("train2014/b.jpg"));
        assert!(summary.most_ignored[0].0 == "tree" && summary.ignored_words == 1);
        options.training_images = TrainingImages::WithoutUnseen;
        let (dataset, summary) = read(&options).unwrap();
        assert_eq!(summary.train.images, 1);
        assert_eq!(dataset.records[0].id, "a.jpg");
        assert_eq!(summary.notes[0].examples, ["b.jpg"]);
    }

    #[test]
    fn an_image_of_both_files_stays_in_the_first() {
        let dir = tempfile::tempdir().unwrap();
        world(dir.path(), 3, 2, 1);
        let mut options = options(dir.path());
        std::fs::copy(&options.train, &options.test).unwrap();
        options.test_images = options.train_images.clone();
        let (dataset, summary) = read(&options).unwrap();
        assert_eq!((dataset.records.len(), summary.notes[0].count), (3, 3));
    }

    #[test]
    fn damage_is_named_with_file_and_place() {
        assert!(
            message("")
                .contains("instances_train2014.json: EOF while parsing a value at line 1 column 0")
        );
        assert!(message("{}").contains("missing field `images` at line 1 column 2"));
        let json =
            r#"{"images": [{"id": 1, "file_name": "a"}], "annotations": [A], "categories": [C]}"#;
        let with = |object: &str, categories: &str| {
            message(&json.replace('A', object).replace('C', categories))
        };
        let all = r#"{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "cow"}"#;
        assert!(with("", r#"{"id": 1, "name": "cat"}"#).contains("defines no category `dog`"));
        assert!(with(r#"{"image_id": [1], "category_id": 9}"#, all).contains("line 1 column"));
        assert!(with(r#"{"category_id": 9}"#, all).contains("missing field `image_id`"));
        let twice = json
            .replace("A", "")
            .replace("C", all)
            .replace("}],", "}, {\"id\": 1, \"file_name\": \"b\"}],");
        assert!(message(&twice).contains("the image 1 (b) stands there twice"));
    }

    /// A file of instances that goes on for `left` bytes and then breaks off: it would not fit in the memory of a test
    /// as a whole.
    struct Endless {
        text: &'static [u8],
        place: usize,
        left: usize,
    }

    impl Read for Endless {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let count = out.len().min(self.left);
            for byte in &mut out[..count] {
                *byte = self.text[self.place % self.text.len()];
                self.place += 1;
            }
            self.left -= count;
            Ok(count)
        }
    }

    #[test]
    fn a_long_file_that_breaks_off_is_named_with_its_place() {
        let start = r#"{"images": [], "annotations": ["#.as_bytes();
        let objects = br#"{"segmentation": [[239.97, 260.24, 222.04, 270.49]], "image_id": 1, "category_id": 1}, "#;
        let cut = 20_000_000;
        let endless = Endless {
            text: objects,
            place: 0,
            left: cut,
        };
        let error =
            serde_json::from_reader::<_, Instances>(start.chain(std::io::BufReader::new(endless)));
        let error = error.err().unwrap();
        assert!(error.is_eof());
        assert_eq!((error.line(), error.column()), (1, start.len() + cut));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_tree_reads_back(train in 1usize..9, test in 1usize..9, seed in 0u64..1000) {
            let dir = tempfile::tempdir().unwrap();
            let tree = world(dir.path(), train, test, seed);
            let (dataset, summary) = read(&options(dir.path())).unwrap();
            prop_assert_eq!((summary.train.images, summary.test.images), (train, test));
            for (row, (file, labels)) in tree.iter().flatten().enumerate() {
                prop_assert!(dataset.records[row].path().ends_with(file));
                let known: Vec<usize> = labels.iter().copied().filter(|&label| label < 3).collect();
                prop_assert_eq!(dataset.labels.positives(row).collect::<Vec<_>>(), known);
            }
        }

        #[test]
        fn spoilt_bytes_never_panic(place in 0usize..2000, byte: u8, cut: bool) {
            let dir = tempfile::tempdir().unwrap();
            world(dir.path(), 3, 2, 5);
            let options = options(dir.path());
            let mut bytes = std::fs::read(&options.train).unwrap();
            let place = place % bytes.len();
            bytes[place] = byte;
            if cut {
                bytes.truncate(place);
            }
            std::fs::write(&options.train, bytes).unwrap();
            let result = read(&options);
            prop_assert!(!cut || result.is_err());
        }
    }
}
