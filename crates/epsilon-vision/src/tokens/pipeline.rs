//! Images through a backbone: threads decode ahead of it, and it is given a batch at a time.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use epsilon_data::paths::shown;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::store::Failure;
use crate::backbone::{Backbone, BackboneError, BackboneInfo, Features, Pending};
use crate::image::{self, ImageError, Limits, Pixels, Preprocess};

/// Decoded images that one thread may be ahead of the backbone.
const AHEAD: usize = 8;

/// The most images a batch holds unless told otherwise: more do not make the backbone faster.
const USUAL_BATCH: usize = 32;

/// A batch is meant to take no longer, so that who watches a run is told of it often enough to stop it.
const LONGEST: Duration = Duration::from_millis(500);

/// Images a batch of a backbone holds where nothing is said: as many as its device takes; on the CPU as many as fit, pixels and
/// tokens, into an eighth of the memory that is free, at most 32, at least one a thread. What comes out does not depend on it.
pub fn usual_batch(backbone: &dyn Backbone) -> usize {
    let on_device = backbone.device_batch();
    on_device.unwrap_or_else(|| batch_on_cpu(backbone.info()))
}

fn batch_on_cpu(info: &BackboneInfo) -> usize {
    let memory = System::new_with_specifics(
        RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()),
    );
    let limit = memory.cgroup_limits().map(|limits| limits.free_memory);
    let free = memory.available_memory().min(limit.unwrap_or(u64::MAX));
    batch_for(info, free, rayon::current_num_threads())
}

fn batch_for(info: &BackboneInfo, free: u64, threads: usize) -> usize {
    // The backbone's own working memory for an image is of the size of a few layers' tokens.
    const LAYERS: usize = 8;
    let image = 4 * (info.preprocess.len() + LAYERS * info.tokens * info.dim);
    let most = (free / 8 / image.max(1) as u64).min(USUAL_BATCH as u64) as usize;
    // Whole rounds of all threads.
    (most / threads * threads).max(threads)
}

/// What a backbone made of some images.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct FeatureBatch {
    /// Their ids.
    pub ids: Vec<String>,
    /// Their features, in the same order.
    pub features: Features,
    /// Ids of images since the batch before that could not be read, and why.
    pub failed: Vec<(String, Unread)>,
    /// Images of this batch whose files are not quite right, and what is wrong.
    pub flawed: Vec<Failure>,
}

/// Runs images, pairs of id and file, through a backbone in their order, as many at once as [`usual_batch`] says or half a
/// second allows, and hands every batch of features to `take`, until that breaks.
///
/// ```
/// use epsilon_vision::backbone::{BUILT_IN, load};
/// use epsilon_vision::image::Limits;
/// use std::ops::ControlFlow;
///
/// let folder = tempfile::tempdir()?;
/// let [weights, photo] = ["vit.safetensors", "sea.png"].map(|name| folder.path().join(name));
/// std::fs::write(&weights, BUILT_IN)?;
/// image::RgbImage::new(80, 60).save(&photo)?;
/// let photos = [("sea".to_string(), photo), ("gone".to_string(), "gone.png".into())];
///
/// let (mut read, mut failed) = (0, 0);
/// let limits = Limits::default();
/// epsilon_vision::tokens::run(&photos, load(&weights)?.as_ref(), &limits, &mut |batch| {
///     read += batch.ids.len();
///     failed += batch.failed.len();
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!((read, failed), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the backbone fails. Images that cannot be read are no error: see [`FeatureBatch::failed`].
pub fn run(
    items: &[(String, PathBuf)],
    backbone: &dyn Backbone,
    limits: &Limits,
    take: &mut dyn FnMut(&FeatureBatch) -> ControlFlow<()>,
) -> Result<(), BackboneError> {
    let info = backbone.info();
    let mut source = Source {
        info,
        read: &|_, path| decode(path, &info.preprocess, limits),
        features: &mut |images, count, out: &mut Features| backbone.start(images, count, out),
        batch: backbone.device_batch(),
    };
    run_source(items, &mut source, take)
}

/// As [`run`], of features from any source.
///
/// # Errors
/// When the source's features cannot be made.
pub fn run_source(
    items: &[(String, PathBuf)],
    source: &mut Source,
    take: &mut dyn FnMut(&FeatureBatch) -> ControlFlow<()>,
) -> Result<(), BackboneError> {
    let (threads, size) = (rayon::current_num_threads(), source.usual_batch());
    batches(items, source, threads, (size, usize::MAX), &mut |batch| {
        Ok(match take(batch) {
            ControlFlow::Continue(()) => Some(usize::MAX),
            ControlFlow::Break(()) => None,
        })
    })
}

/// What was read of one item.
#[derive(Debug, Default)]
pub struct Read {
    /// What features are made of.
    pub values: Vec<f32>,
    /// What is wrong with its file, though it could be read; the message names the file.
    pub flaw: Option<String>,
}

impl From<Vec<f32>> for Read {
    fn from(values: Vec<f32>) -> Self {
        Self { values, flaw: None }
    }
}

/// Why an item could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What to tell.
    pub reason: String,
    /// Whether its content is wrong. Otherwise the system did not give it, as it may do the next time.
    pub content: bool,
}

/// What was read of one item, or why it could not be.
pub type ReadResult = Result<Read, Unread>;

/// Makes features of what was read of some items, one after the other, and of their number, which is never 0; or begins to, as
/// [`Backbone::start`] does.
pub type MakeFeatures<'a> =
    dyn FnMut(&[f32], usize, &mut Features) -> Result<Option<Pending>, BackboneError> + 'a;

/// Where features come from.
pub struct Source<'a> {
    /// What the store says made them.
    pub info: &'a BackboneInfo,
    /// Reads one item, by its id and file; called on several threads.
    pub read: &'a (dyn Fn(&str, &Path) -> ReadResult + Sync),
    /// Makes features of a batch.
    pub features: &'a mut MakeFeatures<'a>,
    /// Items a batch holds where nothing is said: [`Backbone::device_batch`]; `None` for what the memory here suggests.
    pub batch: Option<usize>,
}

impl Source<'_> {
    /// As [`usual_batch`] of its backbone.
    pub(super) fn usual_batch(&self) -> usize {
        self.batch.unwrap_or_else(|| batch_on_cpu(self.info))
    }
}

/// The loop of every extraction: threads read ahead, and `take` gets batch after batch of features, of at most `most` items, and of
/// no more than there is room for, at least one: so many at first, then as many as `take` answers, if it wants any more. A batch
/// none of whose items can be read has no features. Batches are smaller than they may be where one takes long: features of an item
/// do not depend on the others of its batch. While a device computes a batch, the next one is made ready and handed over.
pub(super) fn batches<E: From<BackboneError>>(
    items: &[(String, PathBuf)],
    source: &mut Source,
    threads: usize,
    (most, room): (usize, usize),
    take: &mut Take<E>,
) -> Result<(), E> {
    let Source { read, features, .. } = source;
    read_ahead(items, *read, threads, |results| {
        let (mut batch, mut values) = (FeatureBatch::default(), Vec::new());
        let mut line = Line {
            take,
            room,
            ahead: None,
        };
        let mut pace = Pace::default();
        for (index, (id, _)) in items.iter().enumerate() {
            match results.next(index) {
                Ok(item) => {
                    batch.ids.push(id.clone());
                    values.extend(item.values);
                    batch
                        .flawed
                        .extend(item.flaw.map(|reason| failure(id, reason)));
                }
                Err(unread) => batch.failed.push((id.clone(), unread)),
            }
            let size = most.min(line.room());
            if !pace.is_due(batch.ids.len(), size) && index + 1 < items.len() {
                continue;
            }
            let started = match batch.ids.len() {
                0 => {
                    batch.features = Features::default();
                    Ok(None)
                }
                count => features(&values, count, &mut batch.features),
            };
            // The batch before is whole, whatever became of this one.
            if line.fetch()?.is_break() {
                return Ok(());
            }
            let told = match started? {
                None => line.hand(&batch)?,
                Some(pending) => line.go_ahead(std::mem::take(&mut batch), pending)?,
            };
            if told.is_break() {
                return Ok(());
            }
            pace.begin(most.min(line.room()));
            batch.ids.clear();
            batch.failed.clear();
            batch.flawed.clear();
            values.clear();
        }
        line.fetch().map(|_| ())
    })
}

/// Takes a batch, and answers how many items there is room for now, or that it wants no more.
type Take<'a, E> = dyn FnMut(&FeatureBatch) -> Result<Option<usize>, E> + 'a;

/// Batches on their way to who takes them: at most one, which a device computes.
struct Line<'a, 'b, E> {
    take: &'a mut Take<'b, E>,
    /// What `take` answered.
    room: usize,
    ahead: Option<(FeatureBatch, Pending)>,
}

impl<E: From<BackboneError>> Line<'_, '_, E> {
    /// Items that there is room for behind those on their way.
    fn room(&self) -> usize {
        let ahead = self.ahead.as_ref().map_or(0, |(batch, _)| batch.ids.len());
        self.room - ahead
    }

    fn hand(&mut self, batch: &FeatureBatch) -> Result<ControlFlow<()>, E> {
        Ok(match (self.take)(batch)? {
            Some(room) => {
                self.room = room;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        })
    }

    /// Waits for the batch on its way, if there is one.
    fn fetch(&mut self) -> Result<ControlFlow<()>, E> {
        let Some((mut batch, pending)) = self.ahead.take() else {
            return Ok(ControlFlow::Continue(()));
        };
        pending(&mut batch.features)?;
        self.hand(&batch)
    }

    /// Lets a batch be computed while the next one is made ready, if there is room for one.
    fn go_ahead(&mut self, batch: FeatureBatch, pending: Pending) -> Result<ControlFlow<()>, E> {
        self.ahead = Some((batch, pending));
        match self.room() {
            0 => self.fetch(),
            _ => Ok(ControlFlow::Continue(())),
        }
    }
}

/// How large a batch is to be: whole rounds of all threads, more or fewer by how long the one before took.
///
/// ```
/// use epsilon_vision::tokens::Pace;
///
/// let mut pace = Pace::default();
/// assert!(pace.is_due(32, 32) && !pace.is_due(0, 32));
/// pace.begin(32); // The batch was quick: the next one is larger.
/// ```
#[derive(Debug, Clone)]
pub struct Pace {
    size: usize,
    begun: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            size: rayon::current_num_threads(),
            begun: Instant::now(),
        }
    }
}

impl Pace {
    /// Whether a batch of so many items, of at most `most`, is not to wait for more.
    pub fn is_due(&self, items: usize, most: usize) -> bool {
        items >= self.size.min(most) || self.begun.elapsed() > LONGEST
    }

    /// Begins the next batch, of at most `most` items.
    pub fn begin(&mut self, most: usize) {
        let took = self.begun.elapsed();
        if took > LONGEST {
            self.size = (self.size / 2).max(rayon::current_num_threads());
        } else if took < LONGEST / 2 && self.size < most {
            self.size *= 2;
        }
        self.begun = Instant::now();
    }
}

fn failure(id: &str, reason: String) -> Failure {
    Failure {
        id: id.into(),
        reason,
    }
}

/// What threads have read, in order: item `i` comes from thread `i % threads`.
struct Results {
    channels: Vec<Receiver<ReadResult>>,
}

impl Results {
    fn next(&self, index: usize) -> ReadResult {
        let channel = &self.channels[index % self.channels.len()];
        channel.recv().unwrap_or_else(|_| {
            Err(Unread {
                reason: "its decoding thread has ended".into(),
                content: false,
            })
        })
    }
}

/// Runs `consume` while threads read `items` ahead of it.
fn read_ahead<T>(
    items: &[(String, PathBuf)],
    read: &(dyn Fn(&str, &Path) -> ReadResult + Sync),
    threads: usize,
    consume: impl FnOnce(Results) -> T,
) -> T {
    thread::scope(|scope| {
        let channels = (0..threads)
            .map(|first| {
                let (sender, receiver) = sync_channel(AHEAD);
                scope.spawn(move || {
                    for (id, path) in items.iter().skip(first).step_by(threads) {
                        // The receiver is gone when the run has failed.
                        if sender.send(read(id, path)).is_err() {
                            break;
                        }
                    }
                });
                receiver
            })
            .collect();
        consume(Results { channels })
    })
}

pub(super) fn decode(path: &Path, preprocess: &Preprocess, limits: &Limits) -> ReadResult {
    read_photo(path, || image::open_for(path, preprocess, limits))
}

/// What `read` makes of a photograph, for a [`Source`]; messages call it `path`.
///
/// # Errors
/// Those of `read`, as [`Unread`]; where it panics, too.
pub fn read_photo(path: &Path, read: impl FnOnce() -> Result<Pixels, ImageError>) -> ReadResult {
    // A panic in a decoder costs its image, not a run of hours.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let read = read().map_err(|error| Unread {
            reason: error.to_string(),
            content: error.is_content(),
        })?;
        let flaw = read.flaw.map(|flaw| format!("{}: {flaw}", shown(path)));
        let values = read.values;
        Ok(Read { values, flaw })
    }));
    result.unwrap_or_else(|_| {
        Err(Unread {
            reason: format!("{}: the decoder failed", shown(path)),
            content: true,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::image::{Filter, Fit};

    fn info() -> BackboneInfo {
        BackboneInfo {
            name: "means".into(),
            weights_sha256: "ab".repeat(32),
            weights_key: None,
            preprocess: Preprocess {
                size: 4,
                fit: Fit::Squash,
                filter: Filter::Bicubic,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            tokens: 2,
            dim: 3,
            grid: (1, 2),
            global: None,
            classes: None,
            projected: false,
            precision: Default::default(),
        }
    }

    #[test]
    fn a_batch_fits_the_memory_in_whole_rounds() {
        let image = 4 * (3 * 4 * 4 + 8 * 2 * 3);
        let free = |images: u64| 8 * images * image;
        assert_eq!(batch_for(&info(), free(1000), 2), 32);
        assert_eq!(batch_for(&info(), free(1000), 5), 30);
        assert_eq!(batch_for(&info(), free(9), 4), 8);
        assert_eq!(batch_for(&info(), 0, 4), 4);
        let mut backbone = Ahead::default();
        assert!(usual_batch(&backbone) >= 1);
        backbone.batch = Some(77);
        assert_eq!(usual_batch(&backbone), 77);
    }

    /// Tells how many images it was given at once, as their global vector.
    struct Counts(BackboneInfo);

    impl Backbone for Counts {
        fn info(&self) -> &BackboneInfo {
            &self.0
        }

        fn forward(
            &self,
            _: &[f32],
            count: usize,
            out: &mut Features,
        ) -> Result<(), BackboneError> {
            out.tokens = vec![0.0; count * 6];
            out.global = vec![count as f32; count * 3];
            Ok(())
        }
    }

    #[test]
    fn batches_grow_while_they_are_quick_and_shrink_when_they_take_long() {
        let threads = rayon::current_num_threads();
        let after = |size: usize, milliseconds: u64, most: usize| {
            let begun = Instant::now().checked_sub(Duration::from_millis(milliseconds));
            let begun = begun.expect("the machine runs for some seconds");
            let mut pace = Pace { size, begun };
            let waited = pace.is_due(1, size);
            pace.begin(most);
            (pace.size, waited)
        };
        assert_eq!(
            after(threads, 0, 100 * threads),
            (2 * threads, threads == 1)
        );
        assert_eq!(after(2 * threads, 0, 2 * threads), (2 * threads, false));
        assert_eq!(after(4 * threads, 300, 100 * threads), (4 * threads, false));
        assert_eq!(after(4 * threads, 700, 100 * threads), (2 * threads, true));
        assert_eq!(after(threads, 5000, 100 * threads), (threads, true));
    }

    /// Of 70 images every seventh is broken: batches of 32 of those that are not, each failure told once.
    #[test]
    fn images_come_in_their_order_and_failures_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let items: Vec<(String, PathBuf)> = (0..70)
            .map(|index| {
                let path = folder.path().join(format!("{index}.png"));
                match index % 7 {
                    0 => std::fs::write(&path, b"no picture").unwrap(),
                    _ => image::RgbImage::new(5, 5).save(&path).unwrap(),
                }
                (index.to_string(), path)
            })
            .collect();
        let (mut seen, mut failed, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        run(&items, &Counts(info()), &Limits::default(), &mut |batch| {
            assert_eq!(batch.features.global.len(), 3 * batch.ids.len());
            counts.push(batch.ids.len());
            seen.extend(batch.ids.clone());
            failed.extend(batch.failed.iter().map(|(id, _)| id.clone()));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(counts.iter().sum::<usize>(), 60);
        assert!(counts.len() >= 2);
        let all = |broken: bool| (0..70).filter(move |index| (index % 7 == 0) == broken);
        assert_eq!(seen, all(false).map(|i| i.to_string()).collect::<Vec<_>>());
        assert_eq!(failed, all(true).map(|i| i.to_string()).collect::<Vec<_>>());
        let mut batches = 0;
        run(&items, &Counts(info()), &Limits::default(), &mut |_| {
            batches += 1;
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(batches, 1);
    }

    /// A network on a device that computes aside: its global vectors are the images' numbers. Tells what was asked of it.
    struct Ahead {
        info: BackboneInfo,
        batch: Option<usize>,
        told: Arc<Mutex<Vec<String>>>,
        /// Fails when it is handed the image of this number.
        fails_at: f32,
    }

    impl Default for Ahead {
        fn default() -> Self {
            Self {
                info: info(),
                batch: None,
                told: Arc::default(),
                fails_at: f32::INFINITY,
            }
        }
    }

    impl Backbone for Ahead {
        fn info(&self) -> &BackboneInfo {
            &self.info
        }

        fn forward(&self, _: &[f32], _: usize, _: &mut Features) -> Result<(), BackboneError> {
            unreachable!("extraction hands images over")
        }

        fn start(
            &self,
            images: &[f32],
            count: usize,
            _: &mut Features,
        ) -> Result<Option<Pending>, BackboneError> {
            let first = images[0];
            assert_eq!(images.len(), count);
            if images.contains(&self.fails_at) {
                let path = "device".into();
                let reason = "lost".into();
                return Err(BackboneError::Damaged { path, reason });
            }
            let told = self.told.clone();
            told.lock().unwrap().push(format!("start {first}"));
            let features = Features {
                tokens: vec![0.0; count * 6],
                global: images.iter().flat_map(|image| [*image; 3]).collect(),
            };
            Ok(Some(Box::new(move |out| {
                told.lock().unwrap().push(format!("fetch {first}"));
                *out = features;
                Ok(())
            })))
        }

        fn device_batch(&self) -> Option<usize> {
            self.batch
        }
    }

    /// What is taken of items 0 to 9, at most two at once, where there is room for so many before it must be empty; 5 cannot be read.
    fn ahead(backbone: &Ahead, room: usize) -> (Vec<f32>, Result<(), BackboneError>) {
        let items: Vec<(String, PathBuf)> = (0..10)
            .map(|item| (item.to_string(), PathBuf::new()))
            .collect();
        let unread = Unread {
            reason: "broken".into(),
            content: true,
        };
        let mut source = Source {
            info: &backbone.info,
            read: &|id, _| match id {
                "5" => Err(unread.clone()),
                _ => Ok(vec![id.parse().unwrap()].into()),
            },
            features: &mut |images, count, out: &mut Features| backbone.start(images, count, out),
            batch: None,
        };
        let (mut taken, mut left) = (Vec::new(), room);
        let run = batches(&items, &mut source, 2, (2, room), &mut |batch| {
            let ids: Vec<f32> = batch.ids.iter().map(|id| id.parse().unwrap()).collect();
            assert!(ids.len() <= left);
            left -= ids.len();
            if left == 0 {
                left = room;
            }
            let global: Vec<f32> = ids.iter().flat_map(|id| [*id; 3]).collect();
            assert_eq!(batch.features.global, global);
            taken.extend(ids);
            Ok::<_, BackboneError>(Some(left))
        });
        (taken, run)
    }

    #[test]
    fn the_next_batch_is_handed_over_before_one_is_fetched() {
        let all = [0., 1., 2., 3., 4., 6., 7., 8., 9.];
        let backbone = Ahead::default();
        let (taken, run) = ahead(&backbone, usize::MAX);
        run.unwrap();
        assert_eq!(taken, all);
        let told = backbone.told.lock().unwrap().clone();
        let starts: Vec<usize> = (0..told.len())
            .filter(|&place| told[place].starts_with("start"))
            .collect();
        // All but the last are fetched after another one was begun.
        assert_eq!(told[0], "start 0");
        assert_eq!(told[told.len() - 1].split(' ').next(), Some("fetch"));
        assert_eq!(starts.iter().take(2).collect::<Vec<_>>(), [&0, &1]);
        assert!(
            starts[1..].windows(2).all(|pair| pair[1] == pair[0] + 2),
            "{told:?}"
        );
        // Where there is no room for another one, the first is waited for.
        for room in [1, 2, 3, 5] {
            let (taken, run) = ahead(&Ahead::default(), room);
            run.unwrap();
            assert_eq!(taken, all, "room {room}");
        }
    }

    #[test]
    fn a_batch_on_its_way_is_kept_where_the_next_one_fails() {
        let backbone = Ahead {
            fails_at: 4.0,
            ..Ahead::default()
        };
        let (taken, run) = ahead(&backbone, usize::MAX);
        // Two at once, but where one thread begins with one.
        let begun = [0., 1., 2., 3.];
        assert_eq!(taken, begun[..taken.len()]);
        assert!(taken.len() >= 3, "{taken:?}");
        assert!(run.unwrap_err().to_string().contains("lost"));
    }
}
