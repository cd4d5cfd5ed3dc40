//! The ranks of a job that this process may be one of: started by `mpirun` or `srun`, several of them work on one command.

use std::ffi::OsString;
use std::sync::{Arc, OnceLock};

use anyhow::{bail, ensure};
use epsilon::ranks::{Alone, Ranks, dissenter, started_with};

use crate::Command;

static RANKS: OnceLock<Arc<dyn Ranks>> = OnceLock::new();

/// The ranks of this process's job.
pub(crate) fn of_job() -> Arc<dyn Ranks> {
    RANKS.get().cloned().unwrap_or_else(|| Arc::new(Alone))
}

/// A job of several processes as long as it lives.
#[cfg(feature = "mpi")]
pub(crate) type Job = epsilon::ranks::Job;
#[cfg(not(feature = "mpi"))]
pub(crate) enum Job {}

/// Joins the job that this process was started in, if it is of several processes; a command that does not share its work out is
/// refused there, before all of them do the same.
pub(crate) fn join(command: &Command) -> anyhow::Result<Option<Job>> {
    let Some(count) = started_with().filter(|&count| count > 1) else {
        return Ok(None);
    };
    // Its parts are told apart by hand.
    if matches!(command, Command::Extract(args) if args.is_part()) {
        return Ok(None);
    }
    ensure!(
        shares_its_work(command),
        "this command runs in one process, and mpirun or srun has started {count}: start it without them"
    );
    joined(count)
}

fn shares_its_work(command: &Command) -> bool {
    matches!(
        command,
        Command::Extract(_)
            | Command::Train(_)
            | Command::Eval(_)
            | Command::Bench(_)
            | Command::Sweep(_)
            | Command::Tag(_)
            | Command::Search(_)
            | Command::Serve(_)
    )
}

#[cfg(feature = "mpi")]
fn joined(_: usize) -> anyhow::Result<Option<Job>> {
    let job = match epsilon::ranks::start() {
        Ok(job) => job,
        Err(reason) => bail!("MPI: {reason}"),
    };
    let ranks = job.ranks();
    if !ranks.is_first() {
        crate::console::be_quiet();
    }
    // The program is run once in a process.
    let _ = RANKS.set(ranks);
    Ok(Some(job))
}

#[cfg(not(feature = "mpi"))]
fn joined(count: usize) -> anyhow::Result<Option<Job>> {
    bail!(
        "mpirun or srun has started {count} processes, and this program was built without MPI: each would do the same work; build it \
         with `--features mpi`, or start one"
    )
}

/// Makes sure that all ranks of the job, which lives, were started with the same command.
pub(crate) fn agree(arguments: &[OsString]) -> anyhow::Result<()> {
    let ranks = of_job();
    if let Some(other) = dissenter(&*ranks, told(arguments).into_bytes()) {
        // One message is enough; it ends all.
        if !ranks.is_first() {
            ranks.wait();
        }
        bail!(
            "rank {other} was started with another command than rank 0: give all of them the same"
        );
    }
    Ok(())
}

/// What a process was told to do, but for how many threads it has.
fn told(arguments: &[OsString]) -> String {
    let mut words = arguments.iter().skip(1);
    let mut told = Vec::new();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--threads") => drop(words.next()),
            Some(word) if word.starts_with("--threads=") => {}
            _ => told.push(word),
        }
    }
    format!("{told:?}")
}

/// Ends all processes of the job after an error in one of them; returns where there are no others.
pub(crate) fn abandon(status: u8) {
    #[cfg(feature = "mpi")]
    if of_job().size() > 1 {
        epsilon::ranks::abort(status);
    }
    #[cfg(not(feature = "mpi"))]
    let _ = status;
}

/// How many compute threads a process of several has where nothing is said: its share of the processors, where the launcher has not
/// bound it to some of its own.
pub(crate) fn threads() -> Option<usize> {
    // A batch script's own commands have the variables of its job, too, and all of its processors.
    if of_job().size() == 1 {
        return None;
    }
    let names = [
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "MPI_LOCALNRANKS",
        "SLURM_NTASKS_PER_NODE",
    ];
    let local = names
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse().ok())?;
    let free = std::thread::available_parallelism().ok()?.get();
    share(free, processors()?, local)
}

/// Of `all` processors a process may use `free`, and `local` processes run beside each other.
fn share(free: usize, all: usize, local: usize) -> Option<usize> {
    (local > 1 && free == all).then(|| (all / local).max(1))
}

/// The processors of this machine, whatever this process is bound to.
fn processors() -> Option<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let count = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()? + 1 - first.parse::<usize>().ok()?)
    };
    text.trim().split(',').map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_may_differ_in_threads_alone() {
        let of = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            told(&words)
        };
        let one = of("epsilon train a.toml --seed 1");
        assert_eq!(one, of("/bin/epsilon train a.toml --threads 3 --seed 1"));
        assert_eq!(one, of("epsilon train --threads=3 a.toml --seed 1"));
        assert_ne!(one, of("epsilon train a.toml --seed 2"));
        assert_ne!(one, of("epsilon eval a.toml --seed 1"));
    }

    #[test]
    fn processes_that_are_not_bound_share_the_processors() {
        assert_eq!(share(16, 16, 4), Some(4));
        assert_eq!(share(2, 2, 4), Some(1));
        assert_eq!(share(4, 16, 4), None, "bound to its own");
        assert_eq!(share(16, 16, 1), None);
    }
}
