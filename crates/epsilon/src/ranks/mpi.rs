//! Ranks that are the processes of an MPI job, under `mpirun` or `srun`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::Equivalence;
use mpi::environment::Universe;
use mpi::request::{Request, Scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Root, Source};

use super::{Deal, Ranks};

/// Values of one message: MPI counts in 32 bits.
const MESSAGE: usize = 1 << 28;
/// Tags of messages by which work is dealt.
const ASK: i32 = 1;
const GIVE: i32 = 2;
/// Of what is brought to the first rank.
const BRING: i32 = 3;
/// Instead of a piece of work: there is none left.
const NONE_LEFT: u64 = u64::MAX;
/// How long a rank waits for the others within a computation that all make at the same pace, where the environment says nothing else.
const PATIENCE: Duration = Duration::from_secs(50);

/// An MPI job as long as it lives: when it is dropped, MPI ends.
pub struct Job {
    _universe: Universe,
    ranks: Arc<Mpi>,
}

impl Job {
    /// Its ranks.
    pub fn ranks(&self) -> Arc<dyn Ranks> {
        self.ranks.clone()
    }
}

impl Drop for Job {
    /// A rank that panics ends the others: to leave the job in order it would wait for them, and they for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            abort(101);
        }
    }
}

/// Joins the MPI job that this process was started in. All calls of MPI are made one at a time, from whatever thread.
///
/// # Errors
/// A text where MPI does not start, or a setting in the environment is wrong.
pub fn start() -> Result<Job, String> {
    let patience = patience(std::env::var("EPSILON_MPI_PATIENCE").ok())?;
    let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
        .ok_or("MPI was started before in this process")?;
    if threading < Threading::Serialized {
        return Err(
            "this MPI takes calls from the main thread alone; MPI_THREAD_SERIALIZED is needed"
                .into(),
        );
    }
    let world = universe.world();
    let number = |of: i32| usize::try_from(of).unwrap_or(0);
    let ranks = Arc::new(Mpi {
        rank: number(world.rank()),
        size: number(world.size()),
        patience,
        turn: Mutex::new(()),
    });
    Ok(Job {
        _universe: universe,
        ranks,
    })
}

/// Ends all processes of the job at once, with this exit status.
pub fn abort(status: u8) -> ! {
    SimpleCommunicator::world().abort(status.into())
}

fn patience(given: Option<String>) -> Result<Duration, String> {
    let Some(given) = given else {
        return Ok(PATIENCE);
    };
    match given.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!(
            "EPSILON_MPI_PATIENCE={given}: give the seconds that a rank waits for the others, such as 50"
        )),
    }
}

#[derive(Debug)]
struct Mpi {
    rank: usize,
    size: usize,
    patience: Duration,
    /// Held during a call of MPI.
    turn: Mutex<()>,
}

impl Mpi {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sums over all ranks, as long as they keep pace.
    fn sums<T: Equivalence + Copy>(&self, values: &mut [T]) {
        let _turn = self.turn();
        let world = SimpleCommunicator::world();
        for values in values.chunks_mut(MESSAGE) {
            let own = values.to_vec();
            mpi::request::scope(|scope| {
                let sum = SystemOperation::sum();
                let request = world.immediate_all_reduce_into(scope, &own[..], &mut *values, sum);
                self.finish(request, Some(self.patience));
            });
        }
    }

    /// Waits until a request is done. A rank that has waited for too long ends the job: one of the others is lost.
    fn finish<'a, D: ?Sized, S: Scope<'a>>(
        &self,
        request: Request<'a, D, S>,
        patience: Option<Duration>,
    ) {
        let start = Instant::now();
        let mut request = request;
        while let Err(pending) = request.test() {
            request = pending;
            let waited = start.elapsed();
            if patience.is_some_and(|patience| waited > patience) {
                self.give_up(waited);
            }
            // The others may need this processor. After a while they are known to be at something long.
            match waited < Duration::from_millis(5) {
                true => std::thread::yield_now(),
                false => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    fn give_up(&self, waited: Duration) -> ! {
        eprintln!(
            "epsilon: rank {} of {}: the other ranks have not answered for {} seconds: a host or its network is lost, or one of them \
             is that much slower; the job ends (EPSILON_MPI_PATIENCE=SECONDS waits longer)",
            self.rank,
            self.size,
            waited.as_secs()
        );
        abort(2)
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, values: &mut [f32]) {
        self.sums(values);
    }

    fn sum_f64(&self, values: &mut [f64]) {
        self.sums(values);
    }

    fn share(&self, from: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        // What follows waits without rest, so all are there before it begins.
        self.wait();
        let _turn = self.turn();
        let world = SimpleCommunicator::world();
        let root = world.process_at_rank(from as i32);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        for part in bytes.chunks_mut(MESSAGE) {
            root.broadcast_into(part);
        }
        bytes
    }

    fn bring(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        self.wait();
        let _turn = self.turn();
        let world = SimpleCommunicator::world();
        let first = world.process_at_rank(0);
        if self.rank > 0 {
            first.send_with_tag(&(bytes.len() as u64), BRING);
            for part in bytes.chunks(MESSAGE) {
                first.send_with_tag(part, BRING);
            }
            return Vec::new();
        }
        let mut all = vec![bytes];
        for rank in 1..self.size {
            let from = world.process_at_rank(rank as i32);
            let (length, _): (u64, _) = from.receive_with_tag(BRING);
            let mut bytes = vec![0; length as usize];
            for part in bytes.chunks_mut(MESSAGE) {
                from.receive_into_with_tag(part, BRING);
            }
            all.push(bytes);
        }
        all
    }

    fn wait(&self) {
        let _turn = self.turn();
        let world = SimpleCommunicator::world();
        self.finish(world.immediate_barrier(), None);
    }

    fn deal(&self, count: usize) -> Box<dyn Deal + Send + '_> {
        self.wait();
        match self.rank {
            0 => Box::new(Dealer {
                of: self,
                next: 0..count,
                dismissed: 0,
            }),
            _ => {
                let asker = Asker {
                    of: self,
                    is_over: false,
                };
                asker.ask();
                Box::new(asker)
            }
        }
    }
}

/// The first rank's side of a deal.
struct Dealer<'a> {
    of: &'a Mpi,
    next: std::ops::Range<usize>,
    /// Ranks that were told that there is nothing left.
    dismissed: usize,
}

impl Deal for Dealer<'_> {
    fn next(&mut self) -> Option<usize> {
        self.serve();
        let own = self.next.next();
        if own.is_none() {
            while self.dismissed + 1 < self.of.size {
                self.serve();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        own
    }

    fn serve(&mut self) {
        let _turn = self.of.turn();
        let world = SimpleCommunicator::world();
        while let Some(status) = world.any_process().immediate_probe_with_tag(ASK) {
            let asking = world.process_at_rank(status.source_rank());
            let _: (u64, _) = asking.receive_with_tag(ASK);
            let piece = self.next.next();
            self.dismissed += usize::from(piece.is_none());
            let piece = piece.map_or(NONE_LEFT, |piece| piece as u64);
            asking.send_with_tag(&piece, GIVE);
        }
    }
}

/// The side of another rank. It has always asked for one piece more than it works on, so that it never waits for the dealer, which
/// answers between two batches of its own work.
struct Asker<'a> {
    of: &'a Mpi,
    is_over: bool,
}

impl Asker<'_> {
    fn ask(&self) {
        let _turn = self.of.turn();
        let world = SimpleCommunicator::world();
        world.process_at_rank(0).send_with_tag(&0u64, ASK);
    }

    fn answer(&self) -> u64 {
        loop {
            {
                let _turn = self.of.turn();
                let world = SimpleCommunicator::world();
                let dealer = world.process_at_rank(0);
                if dealer.immediate_probe_with_tag(GIVE).is_some() {
                    return dealer.receive_with_tag(GIVE).0;
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Deal for Asker<'_> {
    fn next(&mut self) -> Option<usize> {
        if self.is_over {
            return None;
        }
        match self.answer() {
            NONE_LEFT => {
                self.is_over = true;
                None
            }
            piece => {
                self.ask();
                Some(piece as usize)
            }
        }
    }

    fn serve(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_number_of_seconds() {
        assert_eq!(patience(None), Ok(PATIENCE));
        assert_eq!(patience(Some("7".into())), Ok(Duration::from_secs(7)));
        for wrong in ["", "0", "-1", "soon"] {
            let error = patience(Some(wrong.into())).unwrap_err();
            assert!(error.contains("EPSILON_MPI_PATIENCE"), "{error}");
        }
    }
}
