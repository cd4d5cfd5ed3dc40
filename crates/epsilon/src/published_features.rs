//! Published features: HDF5 files as LESA's successors distribute them become a token store and a table of labels, so
//! that no photograph is needed.
//!
//! An image NAME has the data sets `NAME-features` [channels, positions] (512 x 196 of VGG19's last convolution),
//! `NAME-labels` or `NAME-seenlabels`, and `NAME-labels_81` or `NAME-unseenlabels`, values in {-1, 0, 1}. A token is what
//! the channels hold at one position, so the matrix is transposed. There is no global vector in such files: the store's is
//! the mean token. HDF5 is read by the crate `hdf5-reader`, which needs no system library.

use std::collections::HashMap;
use std::io::BufWriter;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hdf5_reader::Hdf5File;
use hdf5_reader::group::Group;
use parquet::errors::ParquetError;

use epsilon_data::dataset::{Split, table};
use epsilon_data::files;
use epsilon_vision::backbone::{BackboneInfo, Features, Precision};
use epsilon_vision::image::{Filter, Fit, Preprocess};
use epsilon_vision::tokens::{
    self, ExtractOptions, ExtractReport, FeatureError, Progress, TokenType,
};

/// Why features cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file is unreadable, damaged, or not of the published form.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The labels of an image are not as many as the lists name.
    #[error("{path}: {key} holds {found} values, but {lists}")]
    Labels {
        /// The file.
        path: PathBuf,
        /// The data set within it.
        key: String,
        /// Its values.
        found: usize,
        /// What the lists name, in words.
        lists: String,
    },
    /// The store cannot be written.
    #[error(transparent)]
    Features(FeatureError),
    /// The observer has broken off.
    #[error(
        "the import was stopped: what is finished is kept, and the same call goes on from there"
    )]
    Stopped,
    /// The table cannot be written.
    #[error("{path}: cannot be written: {reason}")]
    Write {
        /// The table.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
}

impl From<FeatureError> for ImportError {
    fn from(error: FeatureError) -> Self {
        match error {
            FeatureError::Stopped => Self::Stopped,
            error => Self::Features(error),
        }
    }
}

/// What the observer of [`import`] is told.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ImportEvent {
    /// Labels are read: those of each image once to count them, and once more for the table.
    Labels {
        /// Images whose labels were read.
        done: usize,
        /// Images whose labels are to be read.
        total: usize,
    },
    /// Features are written.
    Features(Progress),
}

/// Is told how far an import is, and can break off.
pub type Observe<'a> = dyn FnMut(ImportEvent) -> ControlFlow<()> + 'a;

/// What a label of 0 means in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeros {
    /// Unknown, as -1 is negative.
    Unknown,
    /// Negative: the files hold 0 and 1 only.
    Negative,
}

/// What is imported.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Files with training images.
    pub train: Vec<PathBuf>,
    /// Files with test images.
    pub test: Vec<PathBuf>,
    /// Names of the seen labels, in the order of the files' columns.
    pub seen: Vec<String>,
    /// Names of the unseen labels, in the order of the files' columns.
    pub unseen: Vec<String>,
    /// What a label of 0 means.
    pub zeros: Zeros,
    /// How the store keeps a value.
    pub dtype: TokenType,
}

/// What an import has come to.
#[derive(Debug)]
pub struct ImportReport {
    /// The store.
    pub store: PathBuf,
    /// The table.
    pub table: PathBuf,
    /// Images with tokens, and those that could not be read.
    pub images: ExtractReport,
    /// Tokens of an image, and their width.
    pub shape: (usize, usize),
    /// Labels of value -1, 0 and +1 in all images.
    pub values: [u64; 3],
}

/// An image of the files.
struct Item {
    id: String,
    split: Split,
    file: usize,
}

/// Imports the files into `dir`: the token store `tokens` and the table `labels.parquet`. An import that was killed or stopped goes
/// on where it stopped.
///
/// # Errors
/// [`ImportError::Stopped`] where `observe` breaks off. /// Unreadable, damaged or empty files, labels that do not fit the lists, an image that stands in two files, a folder that
/// cannot be written. Images whose features cannot be read are no error: they are listed in the store.
pub fn import(
    options: &ImportOptions,
    dir: &Path,
    observe: &mut Observe<'_>,
) -> Result<ImportReport, ImportError> {
    let paths: Vec<&PathBuf> = options.train.iter().chain(&options.test).collect();
    let files = paths
        .iter()
        .map(|path| Source::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let items = items(options, &files)?;
    let shape = match items.first() {
        Some(item) => files[item.file].shape(&item.id)?,
        None => return Err(files[0].error("holds no data set NAME-features")),
    };
    let (mut read, total) = (0, 2 * items.len());
    let mut labels = || {
        read += 1;
        observe(ImportEvent::Labels { done: read, total })
    };
    let values = count(options, &files, &items, &mut labels)?;
    let table = dir.join("labels.parquet");
    let failed = |reason| ImportError::Write {
        path: table.clone(),
        reason,
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let negative = options.zeros == Zeros::Unknown && values[1] > 0;
    let mut told = ControlFlow::Continue(());
    let written = files::replace(&table, |file| {
        let file = BufWriter::new(file);
        write_table(file, options, &files, &items, negative, &mut || {
            told = labels();
            told
        })
    });
    if told.is_break() {
        return Err(ImportError::Stopped);
    }
    written.map_err(failed)?;

    let store = dir.join("tokens");
    let sources = Sources {
        paths: &paths,
        files: &files,
        items: &items,
    };
    let progress = &mut |at| observe(ImportEvent::Features(at));
    let images = write_store(&sources, shape, options.dtype, &store, progress)?;
    Ok(ImportReport {
        store,
        table,
        images,
        shape: (shape.1, shape.0),
        values,
    })
}

/// All images of the files, in their order.
fn items(options: &ImportOptions, files: &[Source]) -> Result<Vec<Item>, ImportError> {
    let mut items = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let split = if number < options.train.len() {
            Split::Train
        } else {
            Split::Test
        };
        items.extend(file.images()?.into_iter().map(|id| Item {
            id,
            split,
            file: number,
        }));
    }
    Ok(items)
}

/// Labels of value -1, 0 and +1 in all images.
fn count(
    options: &ImportOptions,
    files: &[Source],
    items: &[Item],
    ask: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<[u64; 3], ImportError> {
    let width = Width {
        seen: options.seen.len(),
        unseen: options.unseen.len(),
    };
    let mut values = [0u64; 3];
    for item in items {
        let labels = files[item.file].labels(&item.id, width)?;
        for value in labels.into_iter().flatten() {
            values[(value + 1) as usize] += 1;
        }
        if ask().is_break() {
            return Err(ImportError::Stopped);
        }
    }
    Ok(values)
}

/// The files with their images.
struct Sources<'a> {
    paths: &'a [&'a PathBuf],
    files: &'a [Source],
    items: &'a [Item],
}

fn write_store(
    sources: &Sources<'_>,
    shape: (usize, usize),
    dtype: TokenType,
    store: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ExtractReport, ImportError> {
    let Sources {
        paths,
        files,
        items,
    } = *sources;
    let pairs: Vec<(String, PathBuf)> = items
        .iter()
        .map(|item| (item.id.clone(), paths[item.file].clone()))
        .collect();
    let by_path: HashMap<&Path, &Source> =
        paths.iter().map(|path| path.as_path()).zip(files).collect();
    let wrong = |reason| tokens::Unread {
        reason,
        content: true,
    };
    let read = |id: &str, path: &Path| match by_path.get(path) {
        Some(file) => file.features(id, shape).map(Into::into).map_err(wrong),
        None => Err(wrong(format!("{}: not opened", path.display()))),
    };
    let extract_options = ExtractOptions {
        dtype,
        ..ExtractOptions::default()
    };
    let mut source = tokens::Source {
        info: &info(shape),
        read: &read,
        features: &mut |images, _, out| {
            transpose(images, shape, out);
            Ok(None)
        },
        batch: None,
    };
    let written = tokens::write_store(&pairs, &mut source, store, &extract_options, progress)?;
    Ok(written)
}

fn write_table(
    file: impl std::io::Write + Send,
    options: &ImportOptions,
    files: &[Source],
    items: &[Item],
    negative: bool,
    ask: &mut dyn FnMut() -> ControlFlow<()>,
) -> std::io::Result<()> {
    let other = |error: ParquetError| std::io::Error::other(error);
    let width = Width {
        seen: options.seen.len(),
        unseen: options.unseen.len(),
    };
    let names: Vec<&String> = options.seen.iter().chain(&options.unseen).collect();
    let mut writer = table::Writer::new(file, negative).map_err(other)?;
    for item in items {
        let labels = files[item.file]
            .labels(&item.id, width)
            .map_err(std::io::Error::other)?;
        let of = |wanted: i8| -> Vec<String> {
            let named = names.iter().zip(&labels);
            named
                .filter(|(_, value)| **value == Some(wanted))
                .map(|(name, _)| (*name).clone())
                .collect()
        };
        let negatives = if negative { of(-1) } else { Vec::new() };
        writer
            .push(&item.id, item.split, of(1), negatives)
            .map_err(other)?;
        if ask().is_break() {
            return Err(std::io::Error::other("stopped"));
        }
    }
    writer.finish().map_err(other)
}

/// How many labels the lists name.
#[derive(Clone, Copy)]
struct Width {
    seen: usize,
    unseen: usize,
}

/// An open file.
struct Source {
    path: PathBuf,
    /// Of the file.
    bytes: u64,
    file: Hdf5File,
}

const FEATURES: &str = "-features";
/// Values of an image, a hundred times what published files have.
const LARGEST: u64 = 1 << 24;

impl Source {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let file = guarded(|| {
            let bytes = files::open(path, u64::MAX).and_then(|file| file.metadata());
            let bytes = bytes.map_err(|error| error.to_string())?.len();
            let file = Hdf5File::open(path).map_err(|error| error.to_string())?;
            Ok((file, bytes))
        });
        let (file, bytes) = file.map_err(|reason| ImportError::File {
            path: path.into(),
            reason: format!("cannot be read as HDF5: {reason}"),
        })?;
        Ok(Self {
            path: path.into(),
            bytes,
            file,
        })
    }

    fn error(&self, reason: impl Into<String>) -> ImportError {
        ImportError::File {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// Names of the images, ascending.
    fn images(&self) -> Result<Vec<String>, ImportError> {
        let list = || {
            let root = self.file.root_group().map_err(|error| error.to_string())?;
            let mut found = Vec::new();
            // A name takes more bytes than these.
            let mut room = self.bytes / 8;
            collect(&root, "", 0, &mut room, &mut found)?;
            found.sort_unstable();
            Ok(found)
        };
        guarded(list).map_err(|reason| self.error(reason))
    }

    /// Channels and positions of an image.
    fn shape(&self, id: &str) -> Result<(usize, usize), ImportError> {
        let key = format!("{id}{FEATURES}");
        let shape = guarded(|| {
            let data = self.file.dataset(&key).map_err(|error| error.to_string())?;
            Ok(data.shape().to_vec())
        });
        let shape = shape.map_err(|reason| self.error(reason))?;
        sizes(&shape).ok_or_else(|| {
            let reason = format!("{key} has shape {shape:?}, not [channels, positions]");
            self.error(reason)
        })
    }

    /// Features of an image, `[channels, positions]`.
    fn features(&self, id: &str, shape: (usize, usize)) -> Result<Vec<f32>, String> {
        let key = format!("{id}{FEATURES}");
        let read = || {
            let data = self.file.dataset(&key).map_err(|error| error.to_string())?;
            if data.shape() != [shape.0 as u64, shape.1 as u64] {
                let (found, first) = (data.shape(), [shape.0, shape.1]);
                return Err(format!("shape {found:?}, not {first:?} as the first image"));
            }
            let values = data
                .read_array::<f32>()
                .map_err(|error| error.to_string())?;
            Ok(values.into_iter().collect())
        };
        guarded(read).map_err(|reason| format!("{}: {key}: {reason}", self.path.display()))
    }

    /// Labels of an image, seen ones first; none where the file says nothing about them.
    fn labels(&self, id: &str, width: Width) -> Result<Vec<Option<i8>>, ImportError> {
        let mut labels = vec![None; width.seen + width.unseen];
        let mut put = |from: usize, values: &[i8]| {
            for (label, value) in labels[from..].iter_mut().zip(values) {
                *label = Some(*value);
            }
        };
        let first = self.first(id, &["-labels", "-seenlabels"])?;
        let (key, values) = first.ok_or_else(|| self.error(format!("{id} has no labels")))?;
        if values.len() != width.seen && values.len() != width.seen + width.unseen {
            let lists = format!(
                "the lists name {} seen and {} unseen labels",
                width.seen, width.unseen
            );
            return Err(self.misfit(key, values.len(), lists));
        }
        put(0, &values);
        if let Some((key, values)) = self.first(id, &["-labels_81", "-unseenlabels"])? {
            if values.len() != width.unseen {
                let lists = format!("the list names {} unseen labels", width.unseen);
                return Err(self.misfit(key, values.len(), lists));
            }
            put(width.seen, &values);
        }
        Ok(labels)
    }

    fn misfit(&self, key: String, found: usize, lists: String) -> ImportError {
        ImportError::Labels {
            path: self.path.clone(),
            key,
            found,
            lists,
        }
    }

    /// The labels under the first of these endings that an image has, with its key.
    fn first(&self, id: &str, endings: &[&str]) -> Result<Option<(String, Vec<i8>)>, ImportError> {
        for ending in endings {
            let key = format!("{id}{ending}");
            let read = || {
                let Ok(data) = self.file.dataset(&key) else {
                    return Ok(None);
                };
                let count = data.num_elements().map_err(|error| error.to_string())?;
                if count > 1 << 20 {
                    return Err(format!("{count} values"));
                }
                let values = data.read_array::<i8>().map_err(|error| error.to_string())?;
                let values: Vec<i8> = values.into_iter().collect();
                match values.iter().find(|value| !(-1..=1).contains(*value)) {
                    Some(value) => Err(format!("holds {value}; a label is -1, 0 or 1")),
                    None => Ok(Some(values)),
                }
            };
            let found = guarded(read).map_err(|reason| self.error(format!("{key}: {reason}")))?;
            if let Some(values) = found {
                return Ok(Some((key, values)));
            }
        }
        Ok(None)
    }
}

/// Channels and positions, where a network may have made as many.
fn sizes(shape: &[u64]) -> Option<(usize, usize)> {
    let &[channels, positions] = shape else {
        return None;
    };
    // A file of some bytes can have any shape: what was never written is filled up when it is read.
    let sides = 1..=1 << 16;
    let fits =
        sides.contains(&channels) && sides.contains(&positions) && channels * positions <= LARGEST;
    fits.then_some((channels as usize, positions as usize))
}

/// Names of images in a group and the groups below it: image names may hold slashes.
///
/// A group may stand in many others, so that few bytes could hold names without end: `room` is how many there can be where each has
/// bytes of its own.
fn collect(
    group: &Group,
    prefix: &str,
    depth: usize,
    room: &mut u64,
    found: &mut Vec<String>,
) -> Result<(), String> {
    if depth > 8 {
        return Err(format!(
            "groups below {prefix} lie deeper than names of images do"
        ));
    }
    let (groups, datasets) = group.member_names().map_err(|error| error.to_string())?;
    let names = 1 + groups.len() + datasets.len();
    *room = room
        .checked_sub(names as u64)
        .ok_or("the same groups stand in more places than names of images need")?;
    let names = datasets
        .iter()
        .filter_map(|name| name.strip_suffix(FEATURES));
    found.extend(names.map(|name| format!("{prefix}{name}")));
    for name in groups {
        let below = group.group(&name).map_err(|error| error.to_string())?;
        collect(&below, &format!("{prefix}{name}/"), depth + 1, room, found)?;
    }
    Ok(())
}

/// Runs the HDF5 reader; a panic in it, on a file made to harm, counts as damage.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the HDF5 reader failed".into()))
}

/// What is known of the network that made the features, from their channels and positions.
fn info((channels, positions): (usize, usize)) -> BackboneInfo {
    let side = positions.isqrt();
    BackboneInfo {
        name: "imported".into(),
        // Nobody knows the weights: features of one shape are taken for those of one network.
        weights_sha256: format!("unknown (features imported from HDF5, {channels} x {positions})"),
        weights_key: None,
        // As LESA and BiAM prepared their images.
        preprocess: Preprocess {
            size: 224,
            fit: Fit::Squash,
            filter: Filter::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        },
        tokens: positions,
        dim: channels,
        grid: match side * side == positions {
            true => (side, side),
            false => (1, positions),
        },
        global: None,
        classes: None,
        projected: false,
        precision: Precision::F32,
    }
}

/// Images `[n, channels, positions]` as tokens `[n, positions, channels]`; the global vector is the mean token.
fn transpose(images: &[f32], (channels, positions): (usize, usize), out: &mut Features) {
    out.tokens.clear();
    out.tokens.resize(images.len(), 0.0);
    out.global.clear();
    for (image, rows) in images
        .chunks_exact(channels * positions)
        .zip(out.tokens.chunks_exact_mut(channels * positions))
    {
        for (channel, values) in image.chunks_exact(positions).enumerate() {
            for (token, value) in values.iter().enumerate() {
                rows[token * channels + channel] = *value;
            }
            let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
            out.global.push((sum / positions as f64) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow::{Break, Continue};

    use super::*;
    use epsilon_data::dataset::table::TableOptions;
    use epsilon_vision::tokens::TokenStore;
    use proptest::prelude::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../epsilon-data/tests/fixtures/published"
        ))
        .join(name)
    }

    fn options(train: &[PathBuf], test: &[PathBuf]) -> ImportOptions {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        ImportOptions {
            train: train.to_vec(),
            test: test.to_vec(),
            seen: names(&["cat", "dog", "ice cream"]),
            unseen: names(&["cow", "pig"]),
            zeros: Zeros::Unknown,
            dtype: TokenType::F32,
        }
    }

    /// What make.py writes at place i of a file.
    fn value(i: usize) -> f32 {
        (i as f32 * 37.0 % 101.0 - 50.0) / 16.0
    }

    fn table(dir: &Path) -> epsilon_data::dataset::Dataset {
        std::fs::write(dir.join("seen.txt"), "cat\ndog\nice cream\n").unwrap();
        std::fs::write(dir.join("unseen.txt"), "cow\npig\n").unwrap();
        let options = TableOptions {
            table: dir.join("labels.parquet"),
            ..TableOptions::in_folder(dir)
        };
        table::read(&options).unwrap().0
    }

    #[test]
    fn features_are_no_larger_than_a_network_makes_them() {
        assert_eq!(sizes(&[512, 196]), Some((512, 196)));
        assert_eq!(sizes(&[1 << 16, 1 << 8]), Some((1 << 16, 1 << 8)));
        for shape in [
            &[1 << 16, (1 << 8) + 1][..],
            &[1 << 16, 1 << 16],
            &[0, 4],
            &[u64::MAX, 2],
            &[4],
            &[4, 4, 4],
        ] {
            assert_eq!(sizes(shape), None, "{shape:?}");
        }
    }

    /// Groups that are linked 40 times in each other, eight deep, in 6,308 bytes.
    #[test]
    fn groups_hold_no_names_without_end() {
        let links =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/finds/features/links.h5");
        let dir = tempfile::tempdir().unwrap();
        let options = options(std::slice::from_ref(&links), std::slice::from_ref(&links));
        let error = import(&options, dir.path(), &mut |_| Continue(())).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("links.h5") && said.contains("the same groups"),
            "{said}"
        );
    }

    #[test]
    fn what_h5py_wrote_becomes_tokens_and_labels() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(&[fixture("train.h5")], &[fixture("test.h5")]);
        let report = import(&options, dir.path(), &mut |_| Continue(())).unwrap();
        assert_eq!((report.images.images, report.shape), (4, (4, 6)));
        // Columns that the second array of an image gives anew are counted once.
        assert_eq!(report.values, [10, 3, 7]);
        let store = TokenStore::open(&report.store).unwrap();
        assert_eq!(store.ids(), ["a_1.jpg", "b_2.jpg", "c/3.jpg", "d_4.jpg"]);
        assert_eq!(store.manifest().header.backbone.grid, (2, 2));
        let (mut tokens, mut global) = (vec![0.0; 24], vec![0.0; 6]);
        // The second image of train.h5 holds values 24 to 47, channel by channel.
        store.read_tokens(1, &mut tokens);
        store.read_global(1, &mut global);
        for channel in 0..6 {
            let channel_values: Vec<f32> = (0..4)
                .map(|token| value(24 + channel * 4 + token))
                .collect();
            for (token, expected) in channel_values.iter().enumerate() {
                assert_eq!(tokens[token * 6 + channel], *expected);
            }
            assert_eq!(global[channel], channel_values.iter().sum::<f32>() / 4.0);
        }
        let dataset = table(dir.path());
        assert_eq!(dataset.rows(Split::Test), [3]);
        let rows: Vec<Vec<i8>> = (0..4)
            .map(|row| (0..5).map(|label| dataset.labels.get(row, label)).collect())
            .collect();
        assert_eq!(
            rows,
            [
                [1, -1, 0, 1, -1],
                [0, 1, 1, -1, -1],
                [-1, -1, -1, 0, 1],
                [1, -1, -1, -1, 1]
            ]
        );
    }

    #[test]
    fn zeros_may_be_negative() {
        let dir = tempfile::tempdir().unwrap();
        let options = ImportOptions {
            zeros: Zeros::Negative,
            ..options(&[fixture("train.h5")], &[])
        };
        import(&options, dir.path(), &mut |_| Continue(())).unwrap();
        let dataset = table(dir.path());
        assert_eq!(dataset.labels.rest(), -1);
        assert_eq!(dataset.labels.get(0, 2), -1);
    }

    /// Stopped while it counts, while it writes the table, and while it writes features.
    #[test]
    fn a_stopped_import_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&[fixture("many.h5")], &[]);
        let whole = folder.path().join("whole");
        import(&options, &whole, &mut |_| Continue(())).unwrap();
        for stop_at in [1, 41, 81] {
            let dir = folder.path().join(stop_at.to_string());
            let mut told = 0;
            let stopped = import(&options, &dir, &mut |event| {
                told += 1;
                let is_labels = matches!(event, ImportEvent::Labels { total: 80, .. });
                assert_eq!(is_labels, told <= 80, "{event:?}");
                match told < stop_at {
                    true => Continue(()),
                    false => Break(()),
                }
            });
            assert!(matches!(stopped, Err(ImportError::Stopped)));
            assert_eq!(told, stop_at);
            assert_eq!(dir.join("labels.parquet").exists(), stop_at > 80);
            let report = import(&options, &dir, &mut |_| Continue(())).unwrap();
            assert_eq!(report.images.images, 40);
            for name in ["labels.parquet", "tokens/manifest.json"] {
                let [ours, theirs] = [&dir, &whole].map(|dir| std::fs::read(dir.join(name)));
                assert_eq!(ours.unwrap(), theirs.unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn many_images_in_the_new_layout() {
        let dir = tempfile::tempdir().unwrap();
        let report = import(
            &options(&[fixture("many.h5")], &[]),
            dir.path(),
            &mut |_| Continue(()),
        )
        .unwrap();
        assert_eq!(report.images.images, 40);
        assert_eq!(table(dir.path()).labels.rest(), -1);
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = |options: ImportOptions| {
            import(&options, dir.path(), &mut |_| Continue(()))
                .unwrap_err()
                .to_string()
        };
        let mut few = options(&[fixture("train.h5")], &[]);
        few.seen.pop();
        assert!(message(few).contains(
            "train.h5: a_1.jpg-labels holds 3 values, but the lists name 2 seen and 2 unseen"
        ));
        let mut many = options(&[fixture("train.h5")], &[]);
        many.unseen.push("hen".into());
        assert!(
            message(many).contains("a_1.jpg-labels_81 holds 2 values, but the list names 3 unseen")
        );
        assert!(
            message(options(&[fixture("make.py")], &[]))
                .contains("make.py: cannot be read as HDF5")
        );
        assert!(
            message(options(&[fixture("none.h5")], &[]))
                .contains("none.h5: cannot be read as HDF5")
        );
        let twice = options(&[fixture("train.h5")], &[fixture("train.h5")]);
        assert!(message(twice).contains("the image a_1.jpg is listed twice"));
        let cut = dir.path().join("cut.h5");
        let bytes = std::fs::read(fixture("train.h5")).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        assert!(message(options(&[cut], &[])).contains("cut.h5"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn spoilt_bytes_never_panic(place in 0usize..30_000, byte: u8) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("spoilt.h5");
            let mut bytes = std::fs::read(fixture("train.h5")).unwrap();
            let place = place % bytes.len();
            bytes[place] = byte;
            std::fs::write(&path, bytes).unwrap();
            let _ = import(&options(&[path], &[]), &dir.path().join("out"), &mut |_| Continue(()));
        }
    }
}
