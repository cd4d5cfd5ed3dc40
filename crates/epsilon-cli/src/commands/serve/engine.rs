//! The one thread that computes: photographs of different requests go through the network together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use epsilon::PredictError;
use epsilon::Predictor;
use epsilon::backbone::Features;
use epsilon::labels::LabelVectors;
use epsilon::methods::LabelMap;
use epsilon::model::{ModelError, Ranker, Ranking};
use epsilon::tokens::usual_batch;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::limits::RANKERS;
use super::metrics::Metrics;
use super::refusal::{Refusal, failed};

/// A photograph to look at.
pub(super) struct Work {
    /// As the network takes it.
    pub pixels: Vec<f32>,
    pub labels: Arc<LabelVectors>,
    /// Whether the maps of the first label are wanted, too.
    pub maps: bool,
    pub reply: oneshot::Sender<Answer>,
    /// Its place among the photographs that may wait.
    pub _waits: OwnedSemaphorePermit,
}

/// What came of it, or why nothing did.
pub(super) type Answer = Result<Seen, Refusal>;

/// What the model sees in a photograph.
pub(super) struct Seen {
    /// All labels, best first.
    pub ranked: Ranking,
    /// Where it looked for the first label, if asked.
    pub maps: Vec<LabelMap>,
}

/// A handle on the engine; it ends when all of them are gone.
#[derive(Clone)]
pub(super) struct Engine {
    work: Sender<Work>,
    /// Closed when the thread has ended.
    alive: watch::Receiver<()>,
}

impl Engine {
    /// Starts the thread.
    pub(super) fn start(predictor: Arc<Predictor>, metrics: Metrics) -> (Self, JoinHandle<()>) {
        Self::run(move |queue| {
            let most = usual_batch(predictor.backbone());
            let mut bench = Bench {
                predictor: &predictor,
                rankers: HashMap::new(),
                features: Features::default(),
                metrics,
            };
            while let Some(batch) = next(&queue, most) {
                bench.compute(batch);
            }
        })
    }

    /// Starts a thread that takes work until nobody can give it any more.
    pub(super) fn run(
        take: impl FnOnce(Receiver<Work>) + Send + 'static,
    ) -> (Self, JoinHandle<()>) {
        let (work, queue) = channel();
        let (ended, alive) = watch::channel(());
        let worker = thread::spawn(move || {
            // Dropped when the thread ends, also by a panic.
            let _ended = ended;
            take(queue);
        });
        (Self { work, alive }, worker)
    }

    /// Whether it still takes work.
    pub(super) fn is_alive(&self) -> bool {
        self.alive.has_changed().is_ok()
    }

    /// What waits until its thread has ended, without keeping it alive.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut alive = self.alive.clone();
        async move { while alive.changed().await.is_ok() {} }
    }

    /// What the model sees in a photograph.
    pub(super) async fn look(
        &self,
        pixels: Vec<f32>,
        labels: Arc<LabelVectors>,
        maps: bool,
        waits: OwnedSemaphorePermit,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        let gone = || failed("the engine has stopped");
        let work = Work {
            pixels,
            labels,
            maps,
            reply,
            _waits: waits,
        };
        self.work.send(work).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// What waits, as much of it as goes at once: while one batch is computed the next one gathers. None when nobody can ask any
/// more.
fn next(queue: &Receiver<Work>, most: usize) -> Option<Vec<Work>> {
    let mut batch = vec![queue.recv().ok()?];
    batch.extend(queue.try_iter().take(most - 1));
    // Whoever asked may have gone.
    batch.retain(|work| !work.reply.is_closed());
    Some(batch)
}

/// What computing needs.
struct Bench<'a> {
    predictor: &'a Predictor,
    rankers: HashMap<Vec<String>, Ranker>,
    features: Features,
    metrics: Metrics,
}

impl Bench<'_> {
    fn compute(&mut self, batch: Vec<Work>) {
        if batch.is_empty() {
            return;
        }
        let start = Instant::now();
        self.metrics.batch.observe(batch.len() as f64);
        let pixels: Vec<f32> = batch
            .iter()
            .flat_map(|work| &work.pixels)
            .copied()
            .collect();
        match self
            .predictor
            .backbone()
            .forward(&pixels, batch.len(), &mut self.features)
        {
            Ok(()) => self.rank(batch),
            Err(error) => {
                let refusal = failed(format_args!("the network failed: {error}"));
                refuse(batch.into_iter(), &refusal);
            }
        }
        self.metrics.computing.inc_by(start.elapsed().as_secs_f64());
    }

    /// Ranks photographs with the same labels together.
    fn rank(&mut self, batch: Vec<Work>) {
        let count = batch.len();
        let mut by_labels: HashMap<Vec<String>, Vec<(usize, Work)>> = HashMap::new();
        for (place, work) in batch.into_iter().enumerate() {
            let names = work.labels.names().to_vec();
            by_labels.entry(names).or_default().push((place, work));
        }
        for (names, group) in by_labels {
            let ranker = match self.ranker(names, &group[0].1.labels) {
                Ok(ranker) => ranker,
                Err(refusal) => {
                    refuse(group.into_iter().map(|(_, work)| work), &refusal);
                    continue;
                }
            };
            let features = |place: usize| {
                (
                    part(&self.features.tokens, place, count),
                    part(&self.features.global, place, count),
                )
            };
            let tokens = group.iter().flat_map(|(place, _)| features(*place).0);
            let global = group.iter().flat_map(|(place, _)| features(*place).1);
            let (tokens, global) = (tokens.copied().collect(), global.copied().collect());
            let ranked = self.rankers[&ranker].rank(group.len(), tokens, global);
            for ((place, work), ranked) in group.into_iter().zip(ranked) {
                let maps = match work.maps {
                    true => {
                        let (tokens, global) = features(place);
                        self.rankers[&ranker].maps(tokens.to_vec(), global.to_vec(), 0)
                    }
                    false => Vec::new(),
                };
                self.metrics.photos.inc();
                // Whoever asked may have gone.
                let _ = work.reply.send(Ok(Seen { ranked, maps }));
            }
        }
    }

    /// Makes sure that there is a ranker of these labels; its key.
    fn ranker(
        &mut self,
        names: Vec<String>,
        labels: &LabelVectors,
    ) -> Result<Vec<String>, Refusal> {
        if !self.rankers.contains_key(&names) {
            if self.rankers.len() >= RANKERS {
                self.rankers.clear();
            }
            let ranker = self.predictor.ranker(labels.clone());
            let ranker = ranker.map_err(|error| match error {
                PredictError::Model(ModelError::Unknown { .. }) => {
                    Refusal::unusable("labels", error.to_string())
                }
                other => failed(other),
            })?;
            self.rankers.insert(names.clone(), ranker);
        }
        Ok(names)
    }
}

/// Gives everything the same answer.
fn refuse(work: impl Iterator<Item = Work>, refusal: &Refusal) {
    // Whoever asked may have gone.
    work.for_each(|work| drop(work.reply.send(Err(refusal.clone()))));
}

/// The values of one of `count` photographs.
fn part(values: &[f32], place: usize, count: usize) -> &[f32] {
    let size = values.len() / count;
    &values[place * size..][..size]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    /// Work that the engine fails on is answered, not waited for, and the engine is known to be dead.
    #[tokio::test]
    async fn a05_a_dead_engine_is_known() {
        let (engine, worker) = Engine::run(|queue| {
            let _work = queue.recv();
            panic!("a test of the engine's death");
        });
        assert!(engine.is_alive());
        let labels = LabelVectors::new(vec!["a".into()], 1, vec![1.0]).unwrap();
        let places = Arc::new(Semaphore::new(2));
        let look = async || {
            let waits = places.clone().acquire_owned().await.unwrap();
            let seen = engine.look(vec![0.0], Arc::new(labels.clone()), false, waits);
            seen.await.err().unwrap().code
        };
        assert_eq!(look().await, "server");
        engine.ended().await;
        assert!(!engine.is_alive());
        assert_eq!(look().await, "server");
        assert_eq!(places.available_permits(), 2);
        assert!(worker.join().is_err());
    }
}
