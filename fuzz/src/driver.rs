//! Runs inputs: each in the same folder, watched for panics, time and memory. What goes wrong is kept.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::coverage::Reached;
use crate::memory;
use crate::mutate::{Random, damaged};
use crate::targets::{BETWEEN, Target};

/// Processor time that an input may take: other work on the machine does not count.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same by the clock, for what waits and never ends.
pub(crate) const WAIT: Duration = Duration::from_secs(60);
/// Memory that an input may make its reader hold at once: pictures are read within a quarter of a gigabyte, nothing else needs more.
const BUDGET: usize = 512 << 20;
/// Bytes of an input.
const LONGEST: usize = 256 << 10;

/// What the last panic said, and where.
static SAID: Mutex<String> = Mutex::new(String::new());
/// Inputs that were begun.
static BEGUN: AtomicU64 = AtomicU64::new(0);
/// How often is looked whether the input that is running takes too long.
const TICK: Duration = Duration::from_millis(200);

/// A folder for the inputs of a target.
pub(crate) struct Place<'a> {
    target: &'a Target,
    at: PathBuf,
    /// Where the input that is running is kept, for whoever finds this process dead.
    current: PathBuf,
}

impl<'a> Place<'a> {
    /// In a folder of this process, which is made.
    pub(crate) fn new(target: &'a Target, folder: &Path) -> std::io::Result<Self> {
        let at = folder.join("input");
        for file in target.files {
            let path = at.join(file);
            fs::create_dir_all(path.parent().unwrap_or(&at))?;
        }
        for (from, name) in target.beside {
            fs::copy(crate::root().join(from), at.join(name))?;
        }
        std::panic::set_hook(Box::new(|panic| {
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            let said = panic.payload_as_str().unwrap_or_default();
            *SAID
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = format!("{place}: {said}");
        }));
        std::thread::spawn(watch);
        Ok(Self {
            target,
            at,
            current: folder.join("current"),
        })
    }

    /// Runs an input; what was wrong with how it was read.
    pub(crate) fn run(&self, input: &[u8]) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("the driver's own files: {error}");
        fs::write(&self.current, input).map_err(failed)?;
        self.lay_out(input).map_err(failed)?;
        let held = memory::start();
        BEGUN.fetch_add(1, Relaxed);
        let ended = catch_unwind(AssertUnwindSafe(|| (self.target.read)(&self.at)));
        let most = memory::peak().saturating_sub(held);
        self.tidy().map_err(failed)?;
        let said = std::mem::take(
            &mut *SAID
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        // What a decoder of others panicked with is caught by its reader; a panic of this repository's own code never is right.
        let own = said.starts_with("crates/");
        match ended {
            Err(_) => Err(format!("panic at {said}")),
            Ok(()) if own => Err(format!("panic within at {said}")),
            Ok(()) if most > BUDGET => Err(format!("it holds {} MiB", most >> 20)),
            Ok(()) => Ok(()),
        }
    }

    fn lay_out(&self, input: &[u8]) -> std::io::Result<()> {
        let mut rest = Some(input);
        for file in self.target.files {
            let part = rest.map(|bytes| {
                let end = bytes
                    .windows(BETWEEN.len())
                    .position(|window| window == BETWEEN);
                match end.filter(|_| self.target.files.len() > 1) {
                    Some(end) => (&bytes[..end], Some(&bytes[end + BETWEEN.len()..])),
                    None => (bytes, None),
                }
            });
            let path = self.at.join(file);
            match part {
                Some((bytes, more)) => {
                    fs::write(path, bytes)?;
                    rest = more;
                }
                None if path.exists() => fs::remove_file(path)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Removes what the readers have written.
    fn tidy(&self) -> std::io::Result<()> {
        let beside = self.target.beside.iter().map(|(_, name)| *name);
        let known: HashSet<&str> = self
            .target
            .files
            .iter()
            .copied()
            .chain(beside)
            .filter_map(|name| name.split('/').next())
            .collect();
        for entry in fs::read_dir(&self.at)? {
            let entry = entry?;
            if known.contains(&*entry.file_name().to_string_lossy()) {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }
}

/// Ends the process, and with it a run of a target, where an input takes too long.
fn watch() {
    let (mut input, mut ticks, mut start) = (0, 0, processor_time());
    loop {
        std::thread::sleep(TICK);
        let now = processor_time();
        let running = BEGUN.load(Relaxed);
        if running != input {
            (input, ticks, start) = (running, 0, now);
            continue;
        }
        // Counted, not measured: where the whole process is stopped for a while, no time passes.
        ticks += 1;
        let worked = now.saturating_sub(start);
        if worked > PATIENCE || ticks * TICK > WAIT {
            eprintln!("an input takes longer than {PATIENCE:?}: {worked:?} of processor time");
            std::process::abort();
        }
    }
}

/// Processor time of this process until now; none where the system does not say it as Linux does.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name, in brackets, may hold anything; behind it come eleven fields, then those of user and system in 1/100 s.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let hundredths: u64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(10 * hundredths)
}

/// The seeds of a target with their names: its own, and its fixtures.
pub(crate) fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    let root = crate::root();
    let mut paths = listed(&root.join("fuzz/seeds").join(target.name));
    for (folder, end) in target.fixtures {
        let whole = root.join(folder).join(end);
        match end.starts_with('.') {
            true => paths.extend(
                listed(&root.join(folder))
                    .into_iter()
                    .filter(|path| path.to_string_lossy().ends_with(end)),
            ),
            false => paths.push(whole),
        }
    }
    read(paths)
}

/// What was found by earlier runs.
pub(crate) fn finds(target: &Target) -> Vec<(String, Vec<u8>)> {
    read(listed(&crate::root().join("fuzz/finds").join(target.name)))
}

fn read(paths: Vec<PathBuf>) -> Vec<(String, Vec<u8>)> {
    let named = |path: PathBuf| Some((path.display().to_string(), fs::read(path).ok()?));
    paths.into_iter().filter_map(named).collect()
}

/// The files of a folder, by name.
pub(crate) fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths
}

/// Damages and runs inputs until the time is over; what reaches new edges is kept in `corpus`, what goes wrong in `found`.
pub(crate) fn explore(
    place: &Place<'_>,
    until: Instant,
    seed: u64,
    corpus: &Path,
    found: &Path,
) -> std::io::Result<()> {
    let target = place.target;
    fs::create_dir_all(corpus)?;
    let mut inputs: Vec<Vec<u8>> = seeds(target)
        .into_iter()
        .chain(finds(target))
        .map(|(_, bytes)| bytes)
        .collect();
    let earlier = read(listed(corpus));
    inputs.extend(earlier.into_iter().map(|(_, bytes)| bytes));
    if inputs.is_empty() {
        inputs.push(b"a".to_vec());
    }
    let mut reached = Reached::new();
    let mut complaints: HashSet<String> = HashSet::new();
    let mut keep = |input: &[u8], wrong: &str| -> std::io::Result<()> {
        // One of each place is enough.
        let kind: String = wrong
            .chars()
            .take_while(|c| *c != ' ' || !wrong.starts_with("it"))
            .filter(|c| !c.is_ascii_digit())
            .collect();
        if complaints.insert(kind) {
            fs::create_dir_all(found)?;
            let path = found.join(format!("{:016x}", name(input)));
            eprintln!("{}: {wrong}: {}", target.name, path.display());
            fs::write(path, input)?;
        }
        Ok(())
    };
    // What was counted until now is no input's.
    reached.look();
    let before = reached.edges;
    let mut useful = Vec::new();
    for input in inputs {
        if let Err(wrong) = place.run(&input) {
            keep(&input, &wrong)?;
        }
        if reached.look() || useful.is_empty() || reached.all() == 0 {
            useful.push(input);
        }
    }
    let longest = useful.iter().map(Vec::len).max().unwrap_or(0);
    let most = (2 * longest).clamp(4096, LONGEST);
    let mut random = Random(seed);
    let mut runs = 0_u64;
    while Instant::now() < until {
        // Every other time one of the newest, which have been tried least.
        let count = useful.len();
        let from = match random.below(2) {
            0 => count.saturating_sub(16),
            _ => 0,
        };
        let input = from + random.below(count - from);
        let other = random.below(count);
        let input = damaged(
            &mut random,
            &useful[input],
            &useful[other],
            target.words,
            most,
        );
        let input = match random.below(8) {
            0 => input,
            _ => (target.mend)(input),
        };
        runs += 1;
        if let Err(wrong) = place.run(&input) {
            keep(&input, &wrong)?;
        } else if reached.look() {
            fs::write(corpus.join(format!("{:016x}", name(&input))), &input)?;
            useful.push(input);
        }
    }
    println!(
        "{}\t{runs} inputs\t{} kept\t{} edges",
        target.name,
        useful.len(),
        reached.edges - before
    );
    Ok(())
}

/// A name for an input (FNV-1a).
pub(crate) fn name(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
