//! Ranks that are threads of one process: for tests, and for programs that want to see what a job of several ranks does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use super::{Deal, Ranks};

/// A rank that is a thread.
#[derive(Debug, Clone)]
pub struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    barrier: Barrier,
    /// What each rank has brought to the call under way.
    brought: Mutex<Vec<Vec<u8>>>,
    next: AtomicUsize,
}

impl Threads {
    /// Runs `work` once for every rank, at the same time, and gives the results in their order.
    ///
    /// # Panics
    /// Where `work` panics in the first rank that is waited for. The others may then wait for ever.
    pub fn run<R: Send>(size: usize, work: impl Fn(&Self) -> R + Sync) -> Vec<R> {
        let shared = Arc::new(Shared {
            barrier: Barrier::new(size),
            brought: Mutex::new(vec![Vec::new(); size]),
            next: AtomicUsize::new(0),
        });
        let work = &work;
        std::thread::scope(|scope| {
            let ranks = (0..size).map(|rank| Self {
                rank,
                shared: shared.clone(),
            });
            let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || work(&rank))).collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        })
    }

    /// What all ranks brought, through `read`.
    fn together<R>(&self, bytes: Vec<u8>, read: impl FnOnce(&[Vec<u8>]) -> R) -> R {
        let brought = || {
            let brought = self.shared.brought.lock();
            brought.unwrap_or_else(PoisonError::into_inner)
        };
        brought()[self.rank] = bytes;
        self.shared.barrier.wait();
        let result = read(&brought());
        self.shared.barrier.wait();
        result
    }

    fn sums<T>(&self, values: &mut [T])
    where
        T: bytemuck::Pod + std::iter::Sum,
    {
        let bytes = bytemuck::cast_slice(values).to_vec();
        let size = size_of::<T>();
        self.together(bytes, |all| {
            for (place, value) in values.iter_mut().enumerate() {
                let of_rank = |bytes: &Vec<u8>| {
                    bytemuck::pod_read_unaligned::<T>(&bytes[place * size..][..size])
                };
                *value = all.iter().map(of_rank).sum();
            }
        });
    }
}

impl Ranks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        let brought = self.shared.brought.lock();
        brought.unwrap_or_else(PoisonError::into_inner).len()
    }

    fn sum(&self, values: &mut [f32]) {
        self.sums(values);
    }

    fn sum_f64(&self, values: &mut [f64]) {
        self.sums(values);
    }

    fn share(&self, from: usize, bytes: Vec<u8>) -> Vec<u8> {
        self.together(bytes, |all| all[from].clone())
    }

    fn bring(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        self.together(bytes, |all| match self.rank {
            0 => all.to_vec(),
            _ => Vec::new(),
        })
    }

    fn wait(&self) {
        self.shared.barrier.wait();
    }

    fn deal(&self, count: usize) -> Box<dyn Deal + Send + '_> {
        // Nobody asks for work of this deal before all have left the one before.
        self.wait();
        if self.rank == 0 {
            self.shared.next.store(0, Ordering::Relaxed);
        }
        self.wait();
        Box::new(Dealt { of: self, count })
    }
}

struct Dealt<'a> {
    of: &'a Threads,
    count: usize,
}

impl Deal for Dealt<'_> {
    fn next(&mut self) -> Option<usize> {
        let piece = self.of.shared.next.fetch_add(1, Ordering::Relaxed);
        (piece < self.count).then_some(piece)
    }

    fn serve(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_dealt_once() {
        let dealt = Threads::run(3, |ranks| {
            let mut all = Vec::new();
            for count in [10, 0, 7] {
                let mut deal = ranks.deal(count);
                let mut own = Vec::new();
                while let Some(piece) = deal.next() {
                    own.push(piece);
                    deal.serve();
                }
                all.push(own);
            }
            all
        });
        for (place, count) in [10, 0, 7].into_iter().enumerate() {
            let mut pieces: Vec<usize> = dealt.iter().flat_map(|all| all[place].clone()).collect();
            pieces.sort_unstable();
            assert_eq!(pieces, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_gathered_stands_in_the_order_of_the_ranks() {
        let gathered = Threads::run(3, |ranks| {
            ranks.gather(vec![ranks.rank() as u8; ranks.rank()])
        });
        let expected = vec![vec![], vec![1], vec![2, 2]];
        assert_eq!(gathered, [expected.clone(), expected.clone(), expected]);
    }
}
