//! Extraction: images through a backbone into a token store.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::error::FeatureError;
use super::part::Part;
use super::pipeline::{Source, batches, decode};
use super::source::TokenSource;
use super::store::TokenStore;
use super::store::TokenType;
use super::writer::{ExtractReport, StoreSettings, StoreWriter};
use crate::backbone::{Backbone, BackboneInfo, Features};
use crate::image::Limits;

/// Rows that are copied at once.
const COPIED: usize = 128;

/// How images are turned into tokens.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// Images the backbone is given at once; `None` for as many as [`usual_batch`](super::usual_batch) says.
    pub batch: Option<usize>,
    /// Threads that read and decode images.
    pub decoders: usize,
    /// Images of a shard; fixed once a store is begun.
    pub shard_size: usize,
    /// How values are kept; fixed once a store is begun.
    pub dtype: TokenType,
    /// Which image files are refused.
    pub limits: Limits,
    /// Extract only this part of the images.
    pub part: Option<Part>,
}

impl Default for ExtractOptions {
    /// A batch that fits the memory, a decoding thread a core, 128 images a shard, half precision, all images.
    fn default() -> Self {
        Self {
            batch: None,
            decoders: rayon::current_num_threads(),
            shard_size: 128,
            dtype: TokenType::F16,
            limits: Limits::default(),
            part: None,
        }
    }
}

/// How far an extraction is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Images with tokens, those of earlier runs included.
    pub done: usize,
    /// Images that could not be read.
    pub failed: usize,
    /// Images asked for.
    pub total: usize,
    /// Images a second in this run.
    pub rate: f64,
}

/// Turns images into tokens with `backbone` and keeps them in the folder `dir` as a [`super::TokenStore`].
///
/// `items` are pairs of id and file. Images that cannot be read are recorded and skipped. The rows of the store keep
/// the order of `items`, and the bytes of the store depend on nothing else than `items`, the files, the backbone
/// and the options: not on the timing of threads, nor on how often the run was killed and started
/// again. When `dir` holds a part of the same store, the shards that are complete are kept; when it holds the whole,
/// nothing is done. Memory is bounded by one batch, one shard, and a few images a decoding thread.
///
/// `progress` is called once a batch, about twice a second or more, and can break off: [`FeatureError::Stopped`].
///
/// # Errors
///
/// See [`FeatureError`]. What was written before an error is a valid beginning.
pub fn extract(
    items: &[(String, PathBuf)],
    backbone: &dyn Backbone,
    dir: &Path,
    options: &ExtractOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ExtractReport, FeatureError> {
    extract_beyond(None, items, backbone, dir, options, progress)
}

/// Writes a store of features from any source, as [`extract`] does for images and a backbone.
///
/// # Errors
///
/// See [`FeatureError`].
pub fn write_store(
    items: &[(String, PathBuf)],
    source: &mut Source,
    dir: &Path,
    options: &ExtractOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ExtractReport, FeatureError> {
    let writer = open(items, source.info, dir, options)?;
    let items = options.part.map_or(items, |part| part.cut(items));
    finished(writer, items, source, options, progress)
}

/// A store whose tokens can be taken over.
#[derive(Clone, Copy)]
pub struct Earlier<'a> {
    /// The store.
    pub store: &'a TokenStore,
    /// Whether an image, by its id, is still what its tokens were made of.
    pub unchanged: &'a dyn Fn(&str) -> bool,
}

impl Earlier<'_> {
    fn row_of(&self, id: &str) -> Option<usize> {
        self.store.row_of(id).filter(|_| (self.unchanged)(id))
    }
}

/// Extracts as [`extract`] does, but for images whose tokens by the same backbone can be taken over: these are copied, and stand
/// first in the new store, in the order of `items`. So a list that has grown, or has lost some images, costs no more passes through
/// the backbone than it has new images. The earlier store stays as it is; an interrupted run is resumed. `progress` is also called
/// while tokens are copied.
///
/// # Errors
///
/// As [`extract`]; [`FeatureError::Store`] where the earlier store was made by another backbone.
pub fn extract_beyond(
    earlier: Option<Earlier<'_>>,
    items: &[(String, PathBuf)],
    backbone: &dyn Backbone,
    dir: &Path,
    options: &ExtractOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ExtractReport, FeatureError> {
    let info = backbone.info();
    let mut source = Source {
        info,
        read: &|_, path| decode(path, &info.preprocess, &options.limits),
        features: &mut |images, count, out: &mut Features| backbone.start(images, count, out),
        batch: backbone.device_batch(),
    };
    let Some(earlier) = earlier else {
        return write_store(items, &mut source, dir, options, progress);
    };
    let store = earlier.store;
    let header = &store.manifest().header;
    header.check_backbone(store.dir(), info)?;
    let is_known = |(id, _): &&(String, PathBuf)| earlier.row_of(id).is_some();
    let (known, new): (Vec<_>, Vec<_>) = items.iter().partition(is_known);
    let items: Vec<(String, PathBuf)> = known.into_iter().chain(new).cloned().collect();
    let mut writer = open(&items, info, dir, options)?;
    let items = options.part.map_or(&items[..], |part| part.cut(&items));
    let rows = items.iter().map_while(|(id, _)| earlier.row_of(id));
    let rows: Vec<usize> = rows.skip(writer.consumed()).collect();
    let start = Instant::now();
    let mut rest = &rows[..];
    while !rest.is_empty() {
        let (part, after) = rest.split_at(writer.room().min(COPIED).min(rest.len()));
        let (tokens, global) = store.read_rows(part);
        let ids: Vec<&str> = part.iter().map(|&row| store.ids()[row].as_str()).collect();
        writer.push(&ids, &Features { tokens, global })?;
        rest = after;
        let copied = rows.len() - rest.len();
        tell(&writer, items.len(), (copied, start), progress)?;
    }
    finished(writer, items, &mut source, options, progress)
}

/// The store of a list of images, begun or resumed.
fn open(
    items: &[(String, PathBuf)],
    info: &BackboneInfo,
    dir: &Path,
    options: &ExtractOptions,
) -> Result<StoreWriter, FeatureError> {
    if options.batch == Some(0) || options.decoders == 0 {
        return Err(FeatureError::Options);
    }
    let ids: Vec<&str> = items.iter().map(|(id, _)| id.as_str()).collect();
    let settings = StoreSettings {
        dtype: options.dtype,
        shard_size: options.shard_size,
        part: options.part,
    };
    StoreWriter::open(dir, &ids, info, &settings)
}

/// Extracts the images that a store has not come to yet, and ends it.
fn finished(
    mut writer: StoreWriter,
    items: &[(String, PathBuf)],
    source: &mut Source,
    options: &ExtractOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ExtractReport, FeatureError> {
    let earlier = writer.consumed();
    let rest = items.get(earlier..).unwrap_or_default();
    let start = Instant::now();
    let most = options.batch.unwrap_or_else(|| source.usual_batch());
    // A batch never reaches into the next shard.
    let sizes = (most, writer.room());
    let mut flawed = Vec::new();
    batches(rest, source, options.decoders, sizes, &mut |batch| {
        flawed.extend_from_slice(&batch.flawed);
        for (id, unread) in &batch.failed {
            writer.push_failed(id, &unread.reason);
        }
        writer.push(&batch.ids, &batch.features)?;
        let read = writer.consumed() - earlier;
        tell(&writer, items.len(), (read, start), progress)?;
        Ok::<_, FeatureError>(Some(writer.room()))
    })?;
    let report = writer.finish()?;
    Ok(ExtractReport { flawed, ..report })
}

/// Tells how far the store of so many images is, and how many of them were done since when.
fn tell(
    writer: &StoreWriter,
    total: usize,
    (done, since): (usize, Instant),
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(), FeatureError> {
    let told = progress(Progress {
        done: writer.done(),
        failed: writer.failed(),
        total,
        rate: done as f64 / since.elapsed().as_secs_f64().max(1e-9),
    });
    match told {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(FeatureError::Stopped),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::ops::ControlFlow::{Break, Continue};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use std::fs::OpenOptions;
    use std::io::Write;

    use super::super::store::{JOURNAL, StoreError, shard_name};
    use super::super::{Part, TokenStore};
    use super::*;
    use crate::backbone::{BackboneError, BackboneInfo, Precision};
    use crate::image::{Fit, Preprocess, RgbImage};

    /// Two tokens of width 3: the mean of each channel's upper and lower half. Fails after `limit` images.
    struct Means {
        info: BackboneInfo,
        limit: AtomicUsize,
    }

    fn means() -> Means {
        Means {
            info: BackboneInfo {
                name: "means".into(),
                weights_sha256: "0".into(),
                weights_key: None,
                preprocess: Preprocess {
                    size: 4,
                    fit: Fit::Squash,
                    filter: crate::image::Filter::Bicubic,
                    mean: [0.0; 3],
                    std: [1.0; 3],
                },
                tokens: 2,
                dim: 3,
                grid: (2, 1),
                global: None,
                classes: None,
                projected: false,
                precision: Default::default(),
            },
            limit: AtomicUsize::new(usize::MAX),
        }
    }

    impl Backbone for Means {
        fn info(&self) -> &BackboneInfo {
            &self.info
        }

        fn forward(
            &self,
            images: &[f32],
            count: usize,
            out: &mut Features,
        ) -> Result<(), BackboneError> {
            assert!(count > 0, "a batch of no image");
            if self.limit.fetch_sub(count, Ordering::Relaxed) < count {
                return Err(BackboneError::Images {
                    count,
                    expected: 0,
                    found: 0,
                });
            }
            let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
            out.tokens.clear();
            out.global.clear();
            for image in images.chunks_exact(48) {
                out.tokens
                    .extend(image.chunks_exact(16).map(|plane| mean(&plane[..8])));
                out.tokens
                    .extend(image.chunks_exact(16).map(|plane| mean(&plane[8..])));
                out.global.extend(image.chunks_exact(16).map(mean));
            }
            Ok(())
        }
    }

    /// `count` flat images; every seventh is no image.
    fn photos(folder: &Path, count: usize) -> Vec<(String, PathBuf)> {
        (0..count)
            .map(|index| {
                let path = folder.join(format!("{index}.png"));
                if index % 7 == 3 {
                    fs::write(&path, "words").unwrap();
                } else {
                    let level = index as u8;
                    let image = RgbImage::from_fn(4, 4, |_, y| {
                        [level, 2 * level, y as u8 / 2 * 255].into()
                    });
                    image.save(&path).unwrap();
                }
                (format!("photo {index}"), path)
            })
            .collect()
    }

    fn options() -> ExtractOptions {
        ExtractOptions {
            batch: Some(4),
            decoders: 3,
            shard_size: 10,
            ..ExtractOptions::default()
        }
    }

    fn run(
        items: &[(String, PathBuf)],
        backbone: &Means,
        dir: &Path,
    ) -> Result<ExtractReport, FeatureError> {
        extract(items, backbone, dir, &options(), &mut |_| Continue(()))
    }

    fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        files
            .map(|file| {
                (
                    file.file_name().into_string().unwrap(),
                    fs::read(file.path()).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 50);
        let dir = folder.path().join("store");
        let mut seen = Vec::new();
        let report = extract(&items, &means(), &dir, &options(), &mut |p| {
            seen.push(p);
            Continue(())
        });
        let report = report.unwrap();
        assert_eq!(
            (report.images, report.resumed, report.failed.len()),
            (43, 0, 7)
        );
        assert!(
            report.failed[0].id == "photo 3" && report.failed[0].reason.contains("not a picture")
        );
        let last = seen.last().unwrap();
        assert_eq!((last.done, last.failed, last.total), (43, 7, 50));
        assert!(seen.windows(2).all(|pair| pair[0].done <= pair[1].done));

        let store = TokenStore::open(&dir).unwrap();
        store.verify().unwrap();
        assert_eq!(
            (store.len(), store.tokens_per_image(), store.dim()),
            (43, 2, 3)
        );
        assert_eq!(store.manifest().shards.len(), 5);
        assert_eq!(store.row_of("photo 3"), None);
        let (mut tokens, mut global) = ([0.0; 6], [0.0; 3]);
        for (row, id) in store.ids().iter().enumerate() {
            assert_eq!(store.row_of(id), Some(row));
            let index: f32 = id.strip_prefix("photo ").unwrap().parse().unwrap();
            store.read_tokens(row, &mut tokens);
            store.read_global(row, &mut global);
            let (red, green) = (index / 255.0, 2.0 * index / 255.0);
            let expected = [red, green, 0.0, red, green, 1.0];
            assert!(
                tokens
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 3e-4),
                "{id}: {tokens:?}"
            );
            assert!(
                global
                    .iter()
                    .zip([red, green, 0.5])
                    .all(|(a, b)| (a - b).abs() < 3e-4)
            );
        }
        assert!(!dir.join(JOURNAL).exists());
        // Asked again, nothing is left to do.
        let again = run(&items, &means(), &dir).unwrap();
        assert_eq!(
            (again.images, again.resumed, again.failed.len()),
            (43, 43, 7)
        );
    }

    #[test]
    fn single_precision_keeps_every_bit() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 3);
        let dir = folder.path().join("store");
        let options = ExtractOptions {
            dtype: TokenType::F32,
            ..options()
        };
        extract(&items, &means(), &dir, &options, &mut |_| Continue(())).unwrap();
        let mut global = [0.0; 3];
        TokenStore::open(&dir).unwrap().read_global(2, &mut global);
        assert_eq!(global, [2.0 / 255.0, 4.0 / 255.0, 0.5]);
    }

    #[test]
    fn an_interrupted_run_goes_on_and_ends_with_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 60);
        let whole = folder.path().join("whole");
        run(&items, &means(), &whole).unwrap();
        for limit in [0, 3, 9, 10, 14, 25, 40, 50] {
            let dir = folder.path().join(format!("stopped after {limit}"));
            let backbone = means();
            backbone.limit.store(limit, Ordering::Relaxed);
            assert!(matches!(
                run(&items, &backbone, &dir),
                Err(FeatureError::Backbone(_))
            ));
            assert!(matches!(
                TokenStore::open(&dir),
                Err(StoreError::Unfinished { .. })
            ));
            // What a kill in the middle of a write leaves.
            let mut journal = OpenOptions::new()
                .append(true)
                .open(dir.join(JOURNAL))
                .unwrap();
            journal.write_all(br#"{"shard":{"file":"tokens-0"#).unwrap();
            fs::write(dir.join(".epsilon-a1B2c3.tmp"), "half").unwrap();
            let report = run(&items, &means(), &dir).unwrap();
            assert_eq!(report.resumed, limit / 10 * 10);
            assert_eq!(contents(&dir), contents(&whole), "stopped after {limit}");
        }
    }

    #[test]
    fn a_stopped_run_goes_on_and_ends_with_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 60);
        let whole = folder.path().join("whole");
        run(&items, &means(), &whole).unwrap();
        for stop_at in [1, 3, 4, 10] {
            let dir = folder.path().join(format!("stopped at {stop_at}"));
            let (mut told, mut done) = (0, 0);
            let stopped = extract(&items, &means(), &dir, &options(), &mut |at| {
                (told, done) = (told + 1, at.done);
                match told < stop_at {
                    true => Continue(()),
                    false => Break(()),
                }
            });
            assert!(matches!(stopped, Err(FeatureError::Stopped)));
            assert_eq!(told, stop_at, "told again after it was stopped");
            let report = run(&items, &means(), &dir).unwrap();
            assert_eq!(
                report.resumed,
                done / 10 * 10,
                "the shards that were complete"
            );
            assert_eq!(contents(&dir), contents(&whole), "stopped at {stop_at}");
        }
    }

    #[test]
    fn tokens_that_are_taken_over_can_be_stopped_too() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 60);
        let (earlier, dir) = (folder.path().join("earlier"), folder.path().join("dir"));
        run(&items, &means(), &earlier).unwrap();
        let store = TokenStore::open(&earlier).unwrap();
        let earlier = Earlier {
            store: &store,
            unchanged: &|_| true,
        };
        let mut told = 0;
        let stopped = extract_beyond(
            Some(earlier),
            &items,
            &means(),
            &dir,
            &options(),
            &mut |_| {
                told += 1;
                match told < 3 {
                    true => Continue(()),
                    false => Break(()),
                }
            },
        );
        assert!(matches!(stopped, Err(FeatureError::Stopped)));
        assert_eq!(told, 3);
        let rest = extract_beyond(
            Some(earlier),
            &items,
            &means(),
            &dir,
            &options(),
            &mut |_| Continue(()),
        );
        let report = rest.unwrap();
        assert_eq!((report.images, report.resumed), (51, 30));
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 40);
        let stores: Vec<_> = [1, 2, 7]
            .iter()
            .map(|&decoders| {
                let dir = folder.path().join(decoders.to_string());
                let options = ExtractOptions {
                    decoders,
                    ..options()
                };
                extract(&items, &means(), &dir, &options, &mut |_| Continue(())).unwrap();
                contents(&dir)
            })
            .collect();
        assert!(stores[0] == stores[1] && stores[1] == stores[2]);
    }

    #[test]
    fn a_lost_shard_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 60);
        let (whole, dir) = (folder.path().join("whole"), folder.path().join("store"));
        run(&items, &means(), &whole).unwrap();
        let backbone = means();
        backbone.limit.store(40, Ordering::Relaxed);
        run(&items, &backbone, &dir).unwrap_err();
        fs::remove_file(dir.join(shard_name(1))).unwrap();
        assert_eq!(run(&items, &means(), &dir).unwrap().resumed, 10);
        assert_eq!(contents(&dir), contents(&whole));
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_finished() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 60);
        let (whole, dir) = (folder.path().join("whole"), folder.path().join("store"));
        run(&items, &means(), &whole).unwrap();
        // A folder in the place of the third shard.
        fs::create_dir_all(dir.join(shard_name(2)).join("x")).unwrap();
        let error = run(&items, &means(), &dir).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("tokens-00002.safetensors: cannot be written"),
            "{error}"
        );
        fs::remove_dir_all(dir.join(shard_name(2))).unwrap();
        assert_eq!(run(&items, &means(), &dir).unwrap().resumed, 20);
        assert_eq!(contents(&dir), contents(&whole));
    }

    #[test]
    fn a_store_made_otherwise_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 30);
        let (begun, complete) = (folder.path().join("begun"), folder.path().join("complete"));
        run(&items, &means(), &complete).unwrap();
        let backbone = means();
        backbone.limit.store(12, Ordering::Relaxed);
        run(&items, &backbone, &begun).unwrap_err();

        let mut weights = means();
        weights.info.weights_sha256 = "1".into();
        let mut preprocess = means();
        preprocess.info.preprocess.mean = [0.5; 3];
        let mut precision = means();
        precision.info.precision = Precision::Int8;
        for dir in [&begun, &complete] {
            let message =
                |backbone: &Means, options: &ExtractOptions, items: &[(String, PathBuf)]| {
                    let before = contents(dir);
                    let error =
                        extract(items, backbone, dir, options, &mut |_| Continue(())).unwrap_err();
                    assert_eq!(contents(dir), before);
                    error.to_string()
                };
            assert!(message(&weights, &options(), &items).contains("another backbone"));
            assert!(message(&preprocess, &options(), &items).contains("another preprocessing"));
            assert!(message(&precision, &options(), &items).contains("another precision"));
            assert!(message(&means(), &options(), &items[1..]).contains("another list of images"));
            let single = ExtractOptions {
                dtype: TokenType::F32,
                ..options()
            };
            assert!(message(&means(), &single, &items).contains("another value type"));
            let shards = ExtractOptions {
                shard_size: 11,
                ..options()
            };
            assert!(message(&means(), &shards, &items).contains("another shard size"));
        }
    }

    #[test]
    fn two_runs_at_once_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 30);
        let dir = folder.path().join("store");
        let mut tried = false;
        extract(&items, &means(), &dir, &options(), &mut |_| {
            assert!(matches!(
                run(&items, &means(), &dir),
                Err(FeatureError::Busy { .. })
            ));
            tried = true;
            Continue(())
        })
        .unwrap();
        assert!(tried);
    }

    /// A journal beside a complete store goes with the next run, which says so where it cannot be removed.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_journal_left_behind_is_removed_or_told() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 3);
        let dir = folder.path().join("store");
        run(&items, &means(), &dir).unwrap();
        let calm = contents(&dir);
        fs::write(dir.join(JOURNAL), "left").unwrap();
        run(&items, &means(), &dir).unwrap();
        assert_eq!(contents(&dir), calm);
        // What cannot be removed as a file is.
        fs::create_dir(dir.join(JOURNAL)).unwrap();
        match run(&items, &means(), &dir) {
            Err(FeatureError::Write { path, .. }) => assert_eq!(path, dir.join(JOURNAL)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_beyond_half_precision_name_their_image() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 3);
        let mut backbone = means();
        // The third image's green, 4 / 255, becomes 78,431.
        backbone.info.preprocess.std = [1.0, 2e-7, 1.0];
        let error = run(&items, &backbone, &folder.path().join("store")).unwrap_err();
        assert!(
            matches!(error, FeatureError::NotFinite { ref id, .. } if id == "photo 2"),
            "{error}"
        );
    }

    #[test]
    fn lists_that_make_no_sense() {
        let folder = tempfile::tempdir().unwrap();
        let mut items = photos(folder.path(), 5);
        items[4].0 = "photo 1".into();
        let dir = folder.path().join("store");
        assert!(
            matches!(run(&items, &means(), &dir), Err(FeatureError::Duplicate { id }) if id == "photo 1")
        );
        let none = ExtractOptions {
            batch: Some(0),
            ..options()
        };
        assert!(matches!(
            extract(&items, &means(), &dir, &none, &mut |_| Continue(())),
            Err(FeatureError::Options)
        ));
        // No image, or none that can be read: an empty store.
        for list in [&items[..0], &items[3..4]] {
            let dir = folder.path().join(format!("{} images", list.len()));
            assert_eq!(run(list, &means(), &dir).unwrap().images, 0);
            assert!(TokenStore::open(&dir).unwrap().is_empty());
        }
    }

    /// A shard's worth of images that cannot be read never reaches the backbone, which refuses a batch of none.
    #[test]
    fn an_all_broken_batch_is_not_shown_to_the_backbone() {
        let folder = tempfile::tempdir().unwrap();
        let broken: Vec<(String, PathBuf)> = (0..40)
            .map(|index| (format!("{index}"), folder.path().join("none.png")))
            .collect();
        let dir = folder.path().join("store");
        let mut calls = Vec::new();
        let report = extract(&broken, &means(), &dir, &options(), &mut |p| {
            calls.push(p);
            Continue(())
        });
        let report = report.unwrap();
        assert_eq!((report.images, report.failed.len()), (0, 40));
        assert_eq!((calls.len(), calls[0].failed), (1, 40));
        assert!(
            report
                .failed
                .iter()
                .zip(&broken)
                .all(|(f, (id, _))| f.id == *id)
        );
    }

    #[test]
    fn parts_are_written_as_people_write_them() {
        for text in ["2/4", "1/1"] {
            let part: Part = text.parse().unwrap();
            assert_eq!(format!("{}/{}", part.index(), part.of()), text);
        }
        for text in ["0/4", "5/4", "4", "a/b", "-1/2", "1/0", "1/2/3", ""] {
            let error = text.parse::<Part>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    fn part(text: &str) -> ExtractOptions {
        ExtractOptions {
            part: Some(text.parse().unwrap()),
            ..options()
        }
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 37);
        let whole = folder.path().join("whole");
        run(&items, &means(), &whole).unwrap();
        let whole = TokenStore::open(&whole).unwrap();
        let parts: Vec<PathBuf> = (1..=3)
            .rev()
            .map(|index| {
                let dir = folder.path().join(format!("part {index}"));
                let options = part(&format!("{index}/3"));
                extract(&items, &means(), &dir, &options, &mut |_| Continue(())).unwrap();
                dir
            })
            .collect();
        let dir = folder.path().join("merged");
        // What a killed merge may have left.
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(shard_name(1)), "half a shard").unwrap();
        super::super::merge(&parts, &dir).unwrap();
        let merged = TokenStore::open(&dir).unwrap();
        merged.verify().unwrap();
        assert_eq!(merged.ids(), whole.ids());
        assert_eq!(merged.manifest().failed, whole.manifest().failed);
        assert_eq!(merged.manifest().header, whole.manifest().header);
        let (mut ours, mut theirs) = ([0.0; 6], [0.0; 6]);
        for row in 0..whole.len() {
            merged.read_tokens(row, &mut ours);
            whole.read_tokens(row, &mut theirs);
            assert_eq!(ours, theirs, "row {row}");
        }
        // It is what the whole extraction would have made.
        let report = run(&items, &means(), &dir).unwrap();
        assert_eq!(report.resumed, whole.len());
    }

    #[test]
    fn parts_that_do_not_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 9);
        let make = |name: &str, items: &[(String, PathBuf)], options: &ExtractOptions| {
            let dir = folder.path().join(name);
            extract(items, &means(), &dir, options, &mut |_| Continue(())).unwrap();
            dir
        };
        let first = make("first", &items, &part("1/2"));
        let second = make("second", &items, &part("2/2"));
        let again = make("again", &items, &part("1/2"));
        let third = make("third", &items, &part("3/3"));
        let other = make("other", &items[..8], &part("2/2"));
        let whole = make("whole", &items, &options());
        let single = ExtractOptions {
            dtype: TokenType::F32,
            ..part("2/2")
        };
        let single = make("single", &items, &single);
        let to = folder.path().join("to");
        let message = |parts: &[&PathBuf]| {
            let parts: Vec<PathBuf> = parts.iter().map(|dir| (*dir).clone()).collect();
            let text = super::super::merge(&parts, &to).unwrap_err().to_string();
            assert!(!to.exists(), "something was written: {text}");
            text
        };
        assert!(message(&[]).contains("no part"));
        assert!(message(&[&first]).contains("of 2 parts one is missing: 2"));
        assert!(message(&[&first, &second, &again]).contains("are both part 1"));
        assert!(message(&[&first, &third]).contains("different lists"));
        assert!(message(&[&first, &other]).contains("different lists"));
        assert!(message(&[&first, &whole]).contains("whole: holds a whole list"));
        assert!(message(&[&first, &single]).contains("value type"));
        assert!(message(&[&first, &folder.path().join("none")]).contains("no token store there"));

        let shard = second.join(shard_name(0));
        let mut bytes = fs::read(&shard).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&shard, bytes).unwrap();
        assert!(message(&[&first, &second]).contains("its checksum is not the manifest's"));
        let error = super::super::merge(&[first.clone(), again], &whole).unwrap_err();
        assert!(error.to_string().contains("are both part 1"), "{error}");
        // Another part than the one that is there.
        let error = extract(
            &items,
            &means(),
            &first,
            &part("2/2"),
            &mut |_| Continue(()),
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("part 1 of 2, not part 2 of 2"),
            "{error}"
        );
    }

    #[test]
    fn a_grown_list_costs_no_more_than_its_new_images() {
        let folder = tempfile::tempdir().unwrap();
        let items = photos(folder.path(), 7);
        let options = ExtractOptions {
            shard_size: 3,
            ..ExtractOptions::default()
        };
        let at = |name: &str| folder.path().join(name);
        let backbone = means();
        extract(&items[..4], &backbone, &at("a"), &options, &mut |_| {
            Continue(())
        })
        .unwrap();
        let earlier = TokenStore::open(&at("a")).unwrap();
        // One is gone, one failed, and three are new, of which one stands in front.
        let grown = [&items[6..], &items[1..6]].concat();
        let backbone = means();
        backbone.limit.store(3, Ordering::Relaxed);
        let mut told = Vec::new();
        let taken_over = Some(Earlier {
            store: &earlier,
            unchanged: &|_| true,
        });
        let dir = at("b");
        let report = extract_beyond(taken_over, &grown, &backbone, &dir, &options, &mut |p| {
            told.push((p.done, p.total));
            Continue(())
        });
        let report = report.unwrap();
        assert_eq!((report.images, report.failed.len()), (5, 1));
        assert_eq!(told.last(), Some(&(5, 6)));
        let store = TokenStore::open(&at("b")).unwrap();
        let expected: Vec<&str> = [1, 2, 6, 4, 5].map(|i| items[i].0.as_str()).into();
        assert_eq!(store.ids(), expected);
        extract(&items, &means(), &at("c"), &options, &mut |_| Continue(())).unwrap();
        let whole = TokenStore::open(&at("c")).unwrap();
        for (row, id) in store.ids().iter().enumerate() {
            let there = whole.row_of(id).unwrap();
            assert_eq!(store.read_rows(&[row]), whole.read_rows(&[there]), "{id}");
        }
        let mut other = means();
        other.info.weights_sha256 = "1".into();
        let dir = at("d");
        let refused = extract_beyond(taken_over, &grown, &other, &dir, &options, &mut |_| {
            Continue(())
        });
        assert!(matches!(refused, Err(FeatureError::Store(_))));
    }
}
