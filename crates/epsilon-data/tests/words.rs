//! Vectors and lists as people really have them, and pickles that were made to do harm: each with what is to come of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use epsilon_data::formats::pickle::Pickle;
use epsilon_data::labels::{self, VectorFile, resolve, resolve_words};

/// Anything on these few megabytes takes a fraction of it.
const SOON: Duration = Duration::from_secs(5);

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// Most memory that this process has held at once, in bytes, where the system tells.
fn peak_memory() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Reads the vectors of a pickle; whatever comes of it comes soon.
fn read(path: &Path) -> Result<usize, String> {
    let started = Instant::now();
    let names = VectorFile {
        path: path.into(),
        names: Vec::new(),
    };
    let read = resolve_words(&names, &["cat".into()], &["cat".into()]);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    match read {
        Ok(found) => Ok(found.vectors.dim()),
        Err(error) => Err(error.to_string()),
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// A call of `numpy.core.numeric._frombuffer` with these bytes, a type, and a shape as operations.
fn array(bytes: &[u8], dtype: &str, shape: &[u8]) -> Vec<u8> {
    let mut made = b"cnumpy.core.numeric\n_frombuffer\n(B".to_vec();
    made.extend((bytes.len() as u32).to_le_bytes());
    made.extend(bytes);
    made.extend(b"cnumpy\ndtype\n");
    made.extend(text(dtype));
    made.extend(b"\x85R");
    made.extend(shape);
    made.extend(text("C"));
    made.extend(b"tR");
    made
}

#[test]
fn a06_an_array_of_many_rows_and_no_value_is_refused() {
    let files = Files::new();
    let mut pickle = b"\x80\x02".to_vec();
    // The shape (2^40, 0).
    pickle.extend(array(b"", "f4", b"\x8a\x06\0\0\0\0\0\x01K\0\x86"));
    pickle.push(b'.');
    let error = read(&files.put("empty.pkl", &pickle)).unwrap_err();
    assert!(error.contains("holds no label vectors"), "{error}");
    // The same as types of no width, and as names.
    for dtype in ["S0", "U0"] {
        let mut pickle = b"\x80\x02".to_vec();
        pickle.extend(array(b"", dtype, b"\x8a\x06\0\0\0\0\0\x01K\x05\x86"));
        pickle.push(b'.');
        read(&files.put("names.pkl", &pickle)).unwrap_err();
    }
}

#[test]
fn a06_small_operations_take_a_bounded_multiple_of_their_file() {
    let files = Files::new();
    const SIZE: usize = 16 << 20;
    let before = peak_memory();
    for operation in [
        &b"]"[..],
        b"}",
        b"N",
        b"(",
        b")",
        b"K\x07",
        b"]\x94",
        b"]K\x01a",
        b"K\x01\x85",
    ] {
        let mut pickle = b"\x80\x04".to_vec();
        pickle.extend(operation.repeat(SIZE / operation.len()));
        pickle.push(b'.');
        // Whether it is refused or read as no vectors: soon.
        read(&files.put("small.pkl", &pickle)).unwrap_err();
    }
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        let bound = 64 * SIZE + (64 << 20);
        assert!(after - before < bound, "{} bytes", after - before);
    }
}

#[test]
fn a06_repeated_calls_cost_as_much_as_they_are_long() {
    let files = Files::new();
    // A tuple of a million values and a text of a megabyte, as arguments of a million calls.
    let many = [&b"("[..], &b"K\x01".repeat(500_000), b"t"].concat();
    let long = text(&"f".repeat(1 << 20));
    for (argument, call) in [
        (many, &b"h\0h\x01R0"[..]),
        ([&long[..], b"\x85"].concat(), b"h\0h\x01R0"),
    ] {
        for function in [
            &b"cnumpy\ndtype\n"[..],
            b"c_codecs\nencode\n",
            b"ccollections\nOrderedDict\n",
        ] {
            let mut pickle = [b"\x80\x02", function, b"q\x000", &argument, b"q\x010"].concat();
            pickle.extend(call.repeat(500_000));
            pickle.extend(b"].");
            read(&files.put("calls.pkl", &pickle)).unwrap_err();
        }
    }
}

#[test]
fn a06_what_stands_there_once_is_not_given_out_for_ever() {
    let files = Files::new();
    // One array of a megabyte, as hundreds of thousands of matrices.
    let mut pickle = b"\x80\x02".to_vec();
    pickle.extend(array(&[1; 1 << 20], "u1", b"J\0\0\x10\0K\x01\x86"));
    pickle.extend(b"q\x000](");
    pickle.extend(b"h\0".repeat(300_000));
    pickle.extend(b"e.");
    read(&files.put("matrices.pkl", &pickle)).unwrap_err();
    // One text of a megabyte, as hundreds of thousands of names, in a list and in a dictionary.
    for (open, item, close) in [
        (&b"]("[..], &b"h\0"[..], &b"e."[..]),
        (b"}(", b"h\0N", b"u."),
    ] {
        let mut pickle = b"\x80\x02".to_vec();
        pickle.extend(text(&"a".repeat(1 << 20)));
        pickle.extend(b"q\x000");
        pickle.extend(open);
        pickle.extend(item.repeat(300_000));
        pickle.extend(close);
        let path = files.put("names.pkl", &pickle);
        read(&path).unwrap_err();
        let started = Instant::now();
        epsilon_data::formats::pickle::read_strings(&path).unwrap_err();
        assert!(started.elapsed() < SOON);
    }
    // One vector of a million values, of many words.
    let mut pickle = b"\x80\x02".to_vec();
    pickle.extend(array(&[1; 1 << 20], "u1", b"J\0\0\x10\0\x85"));
    pickle.extend(b"q\x000}");
    pickle.extend(text("cat"));
    pickle.extend(b"h\0s.");
    let error = read(&files.put("wide.pkl", &pickle)).unwrap_err();
    assert!(error.contains("vectors of width 1048576"), "{error}");
}

#[test]
fn a06_pickles_that_python_writes_are_read_as_before() {
    let files = Files::new();
    // {"cat": array([1, 2], "u1"), "dog": [0.5]}: a dictionary whose values are of several kinds.
    let mut pickle = b"\x80\x02}(".to_vec();
    pickle.extend(text("cat"));
    pickle.extend(array(&[1, 2], "u1", b"K\x02\x85"));
    pickle.extend(text("dog"));
    pickle.extend(b"]K\x07a");
    pickle.extend(b"u.");
    let path = files.put("good.pkl", &pickle);
    assert_eq!(read(&path), Ok(2));
    assert!(Pickle::read(&path).is_ok());
}

/// A vector file whose header promises so many.
fn promised(count: usize, text: &str) -> String {
    format!("{count} 2\n{text}")
}

#[test]
fn w03_a_header_may_miscount_by_one_and_by_one_in_a_thousand() {
    let files = Files::new();
    let names = ["w1".to_string()];
    let of =
        |text: String| resolve(&files.put("v.vec", text), &names).map(|found| found.vectors.len());
    let rows = |count: usize| {
        (0..count)
            .map(|i| format!("w{i} 1 2\n"))
            .collect::<String>()
    };
    for (count, held, fits) in [
        (5, 4, true),
        (5, 6, true),
        (5, 3, false),
        (5, 7, false),
        (5000, 4995, true),
        (5000, 4990, false),
    ] {
        assert_eq!(
            of(promised(count, &rows(held))).is_ok(),
            fits,
            "{count} promised, {held} held"
        );
    }
    // One too few because the last line breaks off, whole words before it or not.
    let cut = rows(4).trim_end().to_string();
    assert!(of(promised(5, &cut)).is_err());
    assert!(
        of(promised(4, &cut)).is_ok(),
        "only the line end is missing"
    );
    assert!(of(promised(4, &cut[..cut.len() - 2])).is_err());
}

#[test]
fn w04_words_are_compared_composed_and_the_composed_one_counts() {
    let files = Files::new();
    let (two, one) = ("cafe\u{301}", "caf\u{e9}");
    let vector = |text: &str, name: &str| {
        let found = resolve(&files.put("v.txt", text), &[name.to_string()]);
        found
            .map(|found| found.vectors.row(0).to_vec())
            .map_err(|error| error.to_string())
    };
    for (written, asked) in [(two, one), (one, two), (two, two)] {
        assert_eq!(
            vector(&format!("a 1 2\n{written} 3 4\n"), asked),
            Ok(vec![3.0, 4.0])
        );
    }
    // In files that hold both, in either order.
    for text in [
        format!("{two} 1 2\n{one} 3 4\n"),
        format!("{one} 3 4\n{two} 1 2\n"),
    ] {
        assert_eq!(vector(&text, two), Ok(vec![3.0, 4.0]));
    }
    let twice = vector(&format!("{one} 3 4\n{one} 3 4\n"), one).unwrap_err();
    assert!(twice.contains("has a vector on line 1 already"), "{twice}");
    // A list that holds a name in both forms holds it twice.
    let list = files.put("list.txt", format!("{one}\n{two}\n"));
    assert!(labels::read_names(&list).is_err());
}

#[test]
fn a14_lists_of_every_kind_keep_to_their_folder() {
    use epsilon_data::dataset::coco::{self, CocoOptions, CocoSplit};
    use epsilon_data::dataset::table::{self, TableOptions};
    use epsilon_data::dataset::voc::{self, VocOptions};

    let files = Files::new();
    let folder = files.0.path();
    let (seen, unseen) = (
        files.put("seen.txt", "cat\n"),
        files.put("unseen.txt", "dog\n"),
    );
    for (name, row) in [
        ("t.tsv", "../a.jpg\ttrain\tcat\n"),
        ("t.csv", "/a.jpg,train,cat\n"),
    ] {
        let mut options = TableOptions::in_folder(folder);
        options.table = files.put(name, row);
        let error = table::read(&options).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{name}, line 1")) && error.contains("outside = true"),
            "{error}"
        );
        options.outside = true;
        table::read(&options).unwrap();
    }
    let file = |image: &str| {
        format!(
            r#"{{"images": [{{"id": 7, "file_name": "{image}"}}], "annotations": [],
            "categories": [{{"id": 1, "name": "cat"}}, {{"id": 2, "name": "dog"}}]}}"#
        )
    };
    let mut options = CocoOptions {
        outside: false,
        train: files.put("train.json", file("a.jpg")),
        test: files.put("test.json", file("../../b.jpg")),
        train_images: folder.into(),
        test_images: folder.into(),
        split: CocoSplit::Lists {
            seen: seen.clone(),
            unseen: unseen.clone(),
        },
        training_images: Default::default(),
    };
    let error = coco::read(&options).unwrap_err().to_string();
    assert!(
        error.contains("test.json: image 7") && error.contains("../../b.jpg"),
        "{error}"
    );
    options.outside = true;
    coco::read(&options).unwrap();
    fs::create_dir_all(folder.join("ImageSets/Main")).unwrap();
    files.put("ImageSets/Main/trainval.txt", "\n../../secret\n");
    files.put("ImageSets/Main/test.txt", "a\n");
    let options = VocOptions {
        outside: false,
        folder: folder.into(),
        train_set: "trainval".into(),
        test_set: "test".into(),
        seen,
        unseen,
        difficult: Default::default(),
    };
    let error = voc::read(&options).unwrap_err().to_string();
    assert!(
        error.contains("trainval.txt, line 2") && error.contains("../../secret"),
        "{error}"
    );
}
