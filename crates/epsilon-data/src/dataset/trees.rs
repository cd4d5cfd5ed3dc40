//! Data sets that look like the published ones but hold random content: what the readers' tests read, and, at full scale,
//! what `bench/prepare.py` times. Nothing of the real data sets is in them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Random numbers that a seed repeats (splitmix64).
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// `count` different numbers below `end`, or all of them, ascending.
    pub(crate) fn some(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut drawn: Vec<usize> = (0..count).map(|_| self.below(end)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }
}

fn create(path: &Path) -> BufWriter<File> {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    BufWriter::with_capacity(1 << 20, File::create(path).unwrap())
}

fn write(path: &Path, text: &str) {
    create(path).write_all(text.as_bytes()).unwrap();
}

/// NUS-WIDE's text files for `parts[0]` training and `parts[1]` test images; gives the labels that each image must have,
/// as positions in seen tags followed by concepts.
pub(crate) fn nus_wide(
    folder: &Path,
    tags: &[String],
    concepts: &[String],
    parts: [usize; 2],
    seed: u64,
) -> Vec<Vec<usize>> {
    let mut random = Random(seed);
    let list = |names: &[String]| names.iter().map(|n| n.clone() + "\r\n").collect::<String>();
    write(&folder.join("NUS_WID_Tags/TagList1k.txt"), &list(tags));
    write(&folder.join("ConceptsList/Concepts81.txt"), &list(concepts));
    let mut seen = 0;
    let mut columns = Vec::new();
    for tag in tags {
        columns.push((!concepts.contains(tag)).then_some(seen));
        seen += usize::from(!concepts.contains(tag));
    }
    let mut expected = Vec::new();
    for (part, images) in ["Train", "Test"].into_iter().zip(parts) {
        let mut names = create(&folder.join(format!("ImageList/{part}Imagelist.txt")));
        let mut table = create(&folder.join(format!("NUS_WID_Tags/{part}_Tags1k.dat")));
        let mut flags = vec![Vec::with_capacity(2 * images); concepts.len()];
        for image in 0..images {
            write!(
                names,
                "{}\\{image:04}_{part}.jpg\r\n",
                concepts[image % concepts.len()]
            )
            .unwrap();
            let mut labels = Vec::new();
            let mut line = "0\t".repeat(tags.len()).into_bytes();
            let drawn = random.below(12);
            for tag in random.some(drawn, tags.len()) {
                line[2 * tag] = b'1';
                labels.extend(columns[tag]);
            }
            line.extend(b"\r\n");
            table.write_all(&line).unwrap();
            let drawn = random.below(4);
            let true_concepts = random.some(drawn, concepts.len());
            for (concept, file) in flags.iter_mut().enumerate() {
                let positive = true_concepts.contains(&concept);
                file.extend(if positive { b"1\n" } else { b"0\n" });
            }
            labels.extend(true_concepts.iter().map(|concept| seen + concept));
            expected.push(labels);
        }
        for (concept, file) in concepts.iter().zip(flags) {
            let name = format!("TrainTestLabels/Labels_{concept}_{part}.txt");
            create(&folder.join(name)).write_all(&file).unwrap();
        }
    }
    expected
}

/// A small [`nus_wide`]: tags t0 to t7 and cat, concepts cat and dog.
pub(crate) fn small_nus_wide(
    folder: &Path,
    train: usize,
    test: usize,
    seed: u64,
) -> Vec<Vec<usize>> {
    let tags: Vec<String> = (0..8)
        .map(|i| format!("t{i}"))
        .chain(["cat".into()])
        .collect();
    nus_wide(
        folder,
        &tags,
        &["cat".into(), "dog".into()],
        [train, test],
        seed,
    )
}

/// Open Images' CSV files: `classes[0]` seen, `classes[1]` unseen and `classes[2]` other classes, `parts` training and
/// test images of about `rows` lines each. Gives what each image must have: labels as positions in seen classes followed
/// by unseen ones, with their values.
///
/// Classes are `/m/0` and so on, described as `class 0`, every hundredth in quotes with a comma; the list of unseen
/// positions counts backwards in `unseen_labels.txt`.
pub(crate) fn open_images(
    folder: &Path,
    classes: [usize; 3],
    parts: [usize; 2],
    rows: usize,
    seed: u64,
) -> Vec<(String, Vec<(usize, i8)>)> {
    let mut random = Random(seed);
    let [seen, unseen, other] = classes;
    let ids =
        |range: std::ops::Range<usize>| range.map(|i| format!("/m/{i}\n")).collect::<String>();
    write(&folder.join("classes-trainable.txt"), &ids(0..seen));
    write(
        &folder.join("unseen_labels.txt"),
        &ids(seen..seen + unseen + other),
    );
    let positions: String = (0..unseen).rev().map(|i| format!("{i}\r\n")).collect();
    write(
        &folder.join("top_unseen.csv"),
        &format!("\u{feff}{positions}"),
    );
    let mut descriptions = String::new();
    for i in 0..seen + unseen + other {
        if i % 100 == 7 {
            writeln!(descriptions, "/m/{i},\"class, {i}\"").unwrap();
        } else {
            writeln!(descriptions, "/m/{i},class {i}").unwrap();
        }
    }
    write(&folder.join("class-descriptions.csv"), &descriptions);
    let mut expected = Vec::new();
    for (part, images) in ["train", "test"].into_iter().zip(parts) {
        let name = format!("{part}-annotations-human-imagelabels.csv");
        let mut csv = create(&folder.join(name));
        csv.write_all(b"ImageID,Source,LabelName,Confidence\n")
            .unwrap();
        for image in 0..images {
            let id = format!(
                "{:016x}",
                (image as u64 * 2 + u64::from(part == "test")) << 20
            );
            let drawn = 1 + random.below(2 * rows - 1);
            let mut labels = Vec::new();
            for class in random.some(drawn, seen + unseen + other) {
                let positive = random.below(2) == 1;
                writeln!(csv, "{id},verification,/m/{class},{}", u8::from(positive)).unwrap();
                let value = if positive { 1 } else { -1 };
                if class < seen {
                    labels.push((class, value));
                } else if class < seen + unseen {
                    labels.push((seen + unseen - 1 - (class - seen), value));
                }
            }
            labels.sort_unstable();
            expected.push((format!("{part}/{id}.jpg"), labels));
        }
    }
    expected
}

/// A COCO file of instances with these categories; gives, for each image, its file and its categories.
pub(crate) fn coco(
    path: &Path,
    categories: &[&str],
    images: usize,
    seed: u64,
) -> Vec<(String, Vec<usize>)> {
    let mut random = Random(seed);
    let mut file = create(path);
    let mut expected = Vec::new();
    file.write_all(b"{\"info\": {\"year\": 2014, \"url\": \"\"}, \"images\": [")
        .unwrap();
    for image in 0..images {
        let comma = if image > 0 { ", " } else { "" };
        let name = format!("COCO_{seed}_{image:012}.jpg");
        write!(file, "{comma}{{\"license\": 5, \"file_name\": \"{name}\", \"height\": 360, \"width\": 640, \"id\": {}}}", 100 + image).unwrap();
        expected.push((name, Vec::new()));
    }
    file.write_all(b"], \"licenses\": [{\"id\": 1}], \"annotations\": [")
        .unwrap();
    let mut number = 0;
    for (image, (_, labels)) in expected.iter_mut().enumerate() {
        let drawn = random.below(5);
        for category in random.some(drawn, categories.len()) {
            for _ in 0..1 + random.below(2) {
                let comma = if number > 0 { ", " } else { "" };
                write!(file, "{comma}{{\"segmentation\": [[239.97, 260.24, 222.04, 270.49, 199.84, 253.41]], \"area\": 2765.1486500000005, \"iscrowd\": 0, \"image_id\": {}, \"bbox\": [199.84, 200.46, 77.71, 70.88], \"category_id\": {}, \"id\": {number}}}", 100 + image, 2 * category + 1).unwrap();
                number += 1;
            }
            labels.push(category);
        }
    }
    file.write_all(b"], \"categories\": [").unwrap();
    for (category, name) in categories.iter().enumerate() {
        let comma = if category > 0 { ", " } else { "" };
        write!(
            file,
            "{comma}{{\"supercategory\": \"x\", \"id\": {}, \"name\": \"{name}\"}}",
            2 * category + 1
        )
        .unwrap();
    }
    file.write_all(b"]}").unwrap();
    expected
}

/// Pascal VOC's XML files and image sets `trainval` and `test`. Gives each image's objects: class and whether it is
/// marked as difficult.
pub(crate) fn voc(
    folder: &Path,
    classes: &[&str],
    parts: [usize; 2],
    seed: u64,
) -> Vec<(String, Vec<(usize, bool)>)> {
    let mut random = Random(seed);
    let mut expected = Vec::new();
    for (set, images) in ["trainval", "test"].into_iter().zip(parts) {
        let mut list = create(&folder.join(format!("ImageSets/Main/{set}.txt")));
        for _ in 0..images {
            let id = format!("{:06}", expected.len() + 1);
            writeln!(list, "{id}").unwrap();
            let mut xml = format!(
                "<annotation>\n\t<folder>VOC2007</folder>\n\t<filename>{id}.jpg</filename>\n"
            );
            let mut objects = Vec::new();
            for _ in 0..random.below(4) {
                let (class, difficult) = (random.below(classes.len()), random.below(3) == 0);
                write!(xml, "\t<object>\n\t\t<name>{}</name>\n\t\t<difficult>{}</difficult>\n\t\t<part><name>head</name></part>\n\t</object>\n", classes[class], u8::from(difficult)).unwrap();
                objects.push((class, difficult));
            }
            write(
                &folder.join(format!("Annotations/{id}.xml")),
                &(xml + "</annotation>\n"),
            );
            expected.push((format!("JPEGImages/{id}.jpg"), objects));
        }
    }
    expected
}
