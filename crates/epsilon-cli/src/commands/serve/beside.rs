//! Work beside the server's own threads. A thread that has begun cannot be told to end: what bounds how many there are goes with
//! the work, and not with whoever waits for it.

use std::sync::Arc;

use tokio::sync::{Mutex as Turns, OwnedSemaphorePermit, Semaphore};

use super::refusal::{Refusal, failed};

/// Runs work on a thread of its own, which keeps `permit` until the work has ended. Work that takes long asks the function that it is
/// given whether anybody still waits for it.
pub(super) async fn beside<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    // Goes with whoever waits, when the time is up or the client has gone.
    let waits = Arc::new(());
    let waiting = Arc::downgrade(&waits);
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work(&|| waiting.strong_count() > 0)
    });
    let done = done.await.map_err(failed)?;
    drop(waits);
    done
}

/// As [`beside`], of work that is short or must be done; it waits for a permit first.
pub(super) async fn one_of<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let permit = permits.clone().acquire_owned().await.map_err(failed)?;
    beside(permit, |_| work()).await
}

/// Something that takes long to make, and is made when it is first needed.
pub(super) struct Kept<T>(Arc<Turns<Option<Arc<T>>>>);

impl<T: Send + Sync + 'static> Kept<T> {
    /// Nothing yet, or what is there already.
    pub(super) fn new(made: Option<Arc<T>>) -> Self {
        Self(Arc::new(Turns::new(made)))
    }

    /// What is right now, by `right`, which is given what is kept: that, or another one, which is kept in its place. One at a time asks;
    /// others wait, and leave when nobody waits for them any more. What has begun is ended and kept, whoever has gone.
    pub(super) async fn get(
        &self,
        right: impl FnOnce(Option<Arc<T>>) -> Result<Arc<T>, Refusal> + Send + 'static,
    ) -> Result<Arc<T>, Refusal> {
        let mut kept = self.0.clone().lock_owned().await;
        let made = tokio::task::spawn_blocking(move || {
            let right = right(kept.clone())?;
            *kept = Some(right.clone());
            Ok(right)
        });
        made.await.map_err(failed)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    /// Requests that were left, one after the other, hold no more threads than there are permits, and not for long.
    #[tokio::test]
    async fn work_that_nobody_waits_for_ends() {
        let permits = Arc::new(Semaphore::new(2));
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        for _ in 0..8 {
            let (running, most) = (running.clone(), most.clone());
            let work = move |wanted: &dyn Fn() -> bool| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let start = Instant::now();
                while wanted() && start.elapsed() < LONG {
                    sleep(Duration::from_millis(2));
                }
                // The pass that it is in.
                sleep(4 * SOON);
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            };
            let asked = async {
                let permit = permits.clone().acquire_owned().await.unwrap();
                beside(permit, work).await
            };
            assert!(timeout(SOON, asked).await.is_err());
        }
        let free = timeout(LONG, permits.acquire_many(2));
        let _free = free.await.expect("the threads are given back").unwrap();
        assert_eq!(running.load(Ordering::SeqCst), 0);
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn what_was_begun_is_kept_whoever_has_gone() {
        let (kept, made) = (Kept::new(None), Arc::new(AtomicUsize::new(0)));
        let get = || {
            let made = made.clone();
            kept.get(move |kept| {
                let make = || {
                    sleep(6 * SOON);
                    made.fetch_add(1, Ordering::SeqCst);
                    Arc::new("model")
                };
                Ok(kept.unwrap_or_else(make))
            })
        };
        for _ in 0..5 {
            assert!(timeout(SOON, get()).await.is_err());
        }
        assert_eq!(*get().await.unwrap(), "model");
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_failed_is_made_again_and_what_is_wrong_is_replaced() {
        let kept = Kept::new(Some(Arc::new(1)));
        let refused = kept.get(|_| Err(failed("a test of a failure"))).await;
        assert_eq!(refused.unwrap_err().code, "server");
        let same = kept.get(|kept| kept.ok_or_else(|| failed("nothing")));
        assert_eq!(*same.await.unwrap(), 1);
        assert_eq!(*kept.get(|_| Ok(Arc::new(2))).await.unwrap(), 2);
        let same = kept.get(|kept| kept.ok_or_else(|| failed("nothing")));
        assert_eq!(*same.await.unwrap(), 2);
    }
}
