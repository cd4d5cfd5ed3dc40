//! The processes of one job, called ranks, and what they do together: sum, share, and deal work. With the feature `mpi` they are
//! those of `mpirun` or `srun`; a program that was started alone is the only one of its job.

#[cfg(feature = "mpi")]
mod mpi;
mod threads;

use std::fmt::Debug;
use std::ops::ControlFlow;

#[cfg(feature = "mpi")]
pub use mpi::{Job, abort, start};
pub use threads::Threads;

/// The ranks of a job as one of them sees them. All ranks make the same calls in the same order; each call waits for the others.
///
/// Nothing here gives an error: a rank that is lost cannot be gone on without, and ends the whole job with a message.
///
/// ```
/// use epsilon::ranks::{Ranks, Threads};
///
/// let sums = Threads::run(3, |ranks| {
///     let mut values = [1.0, ranks.rank() as f32];
///     ranks.sum(&mut values);
///     values
/// });
/// assert_eq!(sums, [[3.0, 3.0]; 3]);
/// ```
pub trait Ranks: Debug + Send + Sync {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Replaces values by their sums over all ranks.
    fn sum(&self, values: &mut [f32]);

    /// [`sum`](Self::sum) in double precision.
    fn sum_f64(&self, values: &mut [f64]);

    /// The bytes that rank `from` gave; those of the others are dropped.
    fn share(&self, from: usize, bytes: Vec<u8>) -> Vec<u8>;

    /// What every rank gave, in the order of the ranks, to the first one; the others have nothing of it.
    fn bring(&self, bytes: Vec<u8>) -> Vec<Vec<u8>>;

    /// Waits for all ranks.
    fn wait(&self);

    /// Begins to deal the pieces of work 0 to below `count`, each to the rank that is free first.
    fn deal(&self, count: usize) -> Box<dyn Deal + Send + '_>;

    /// Whether this is the rank that writes and prints.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The stretch of so many things that is this rank's own: the ranks' stretches in their order are all of them.
    fn own(&self, count: usize) -> std::ops::Range<usize> {
        let border = |rank: usize| (count as u128 * rank as u128 / self.size() as u128) as usize;
        border(self.rank())..border(self.rank() + 1)
    }

    /// What every rank gave, in the order of the ranks.
    fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut own = Some(bytes);
        let from = |rank| match rank == self.rank() {
            true => own.take().unwrap_or_default(),
            false => Vec::new(),
        };
        let given: Vec<Vec<u8>> = (0..self.size()).map(from).collect();
        let shared = given.into_iter().enumerate();
        shared
            .map(|(rank, bytes)| self.share(rank, bytes))
            .collect()
    }
}

/// The first rank that has other bytes than rank 0, of something that all have to have the same.
pub fn dissenter(ranks: &dyn Ranks, bytes: Vec<u8>) -> Option<usize> {
    if ranks.size() == 1 {
        return None;
    }
    let all = ranks.gather(bytes);
    all.iter().position(|theirs| *theirs != all[0])
}

/// Work that is dealt.
pub trait Deal {
    /// The next piece for this rank; `None` when there is none left, for any rank.
    fn next(&mut self) -> Option<usize>;

    /// To be called now and then during a piece of work: the first rank, which deals, answers those that have asked.
    fn serve(&mut self);
}

/// A process that is the only one of its job.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [f32]) {}

    fn sum_f64(&self, _: &mut [f64]) {}

    fn share(&self, _: usize, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    fn bring(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        vec![bytes]
    }

    fn wait(&self) {}

    fn deal(&self, count: usize) -> Box<dyn Deal + Send + '_> {
        Box::new(InTurn(0..count))
    }
}

struct InTurn(std::ops::Range<usize>);

impl Deal for InTurn {
    fn next(&mut self) -> Option<usize> {
        self.0.next()
    }

    fn serve(&mut self) {}
}

/// Rows of `width` values for `count` things, made by all ranks: each makes those of its own stretch, a multiple of `unit` things but
/// for the last, so that what is made together does not depend on the number of ranks. `make` can break off.
pub(crate) fn rows(
    ranks: &dyn Ranks,
    count: usize,
    unit: usize,
    make: impl FnOnce(std::ops::Range<usize>) -> ControlFlow<(), Vec<f32>>,
) -> ControlFlow<(), Vec<f32>> {
    if ranks.size() == 1 {
        return make(0..count);
    }
    let units = ranks.own(count.div_ceil(unit));
    let own = make(units.start * unit..(units.end * unit).min(count))?;
    let parts = ranks.gather(bytemuck::cast_slice(&own).to_vec());
    let values = parts.iter().flat_map(|part| part.chunks_exact(4));
    ControlFlow::Continue(values.map(bytemuck::pod_read_unaligned).collect())
}

/// How many processes this one was started with, itself included, where `mpirun` or `srun` has said so in the environment.
pub fn started_with() -> Option<usize> {
    started_in(|name| std::env::var(name).ok())
}

fn started_in(variable: impl Fn(&str) -> Option<String>) -> Option<usize> {
    // Open MPI, MPICH and its relatives, Slurm. The batch script of a Slurm job, which is one process, has no step of its own.
    let names = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
    let values = names.iter().filter_map(|name| variable(name));
    values.filter_map(|value| value.trim().parse().ok()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_how_many_processes_there_are() {
        let of = |name: &'static str, value: &'static str| {
            started_in(move |asked| (asked == name).then(|| value.to_string()))
        };
        assert_eq!(of("OMPI_COMM_WORLD_SIZE", "4"), Some(4));
        assert_eq!(of("PMI_SIZE", "2"), Some(2));
        assert_eq!(of("SLURM_STEP_NUM_TASKS", "16"), Some(16));
        assert_eq!(
            of("SLURM_NTASKS", "16"),
            None,
            "a batch script is one process"
        );
        assert_eq!(of("PMI_SIZE", "many"), None);
    }

    #[test]
    fn a_rank_of_another_opinion_is_found_by_all() {
        let opinions = |other: usize| {
            Threads::run(3, |ranks| {
                dissenter(ranks, vec![u8::from(ranks.rank() == other)])
            })
        };
        assert_eq!(opinions(9), [None; 3]);
        assert_eq!(opinions(2), [Some(2); 3]);
        assert_eq!(opinions(0), [Some(1); 3], "rank 0 is the measure");
        assert_eq!(dissenter(&Alone, vec![1]), None);
    }

    #[test]
    fn rows_are_the_same_for_any_number_of_ranks() {
        let make = |range: std::ops::Range<usize>| {
            ControlFlow::Continue(range.flat_map(|i| [i as f32, 0.5]).collect())
        };
        for (count, unit) in [(0, 16), (5, 16), (16, 4), (50, 16), (51, 1)] {
            let whole = rows(&Alone, count, unit, make);
            for size in 1..5 {
                let together = Threads::run(size, |ranks| rows(ranks, count, unit, make));
                assert!(
                    together.iter().all(|rows| *rows == whole),
                    "{count} by {size}"
                );
            }
        }
    }
}
