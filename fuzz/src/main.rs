//! Drives the readers of strangers' bytes with damaged ones: `fuzz run`, and `fuzz replay` for what is known. See `fuzz/README.md`.

mod coverage;
mod driver;
mod http;
mod memory;
mod mutate;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use driver::{Place, explore, finds, seeds};
use targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

const USAGE: &str = "fuzz run SECONDS SEED [TARGET ...] | fuzz replay [TARGET ...]";
/// Stack of the thread that reads: that of the program's own threads.
const STACK: usize = 2 << 20;
/// Finds that end a process, after which a target is left alone.
const DEATHS: usize = 10;

/// The repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &words[..] {
        ["epsilon", ..] => {
            let arguments = arguments.iter().map(Into::into).collect();
            return ExitCode::from(epsilon_cli::run_program(arguments));
        }
        ["run", seconds, seed, targets @ ..] => {
            let (Ok(seconds), Ok(seed)) = (seconds.parse(), seed.parse()) else {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            };
            let run = |target: &Target| run(target, Duration::from_secs(seconds), seed);
            chosen(targets).map(run).filter(|done| !done).count() == 0
        }
        ["replay", targets @ ..] => {
            let replay = |target| alone(target, &["replayed"]);
            chosen(targets).map(replay).filter(|done| !done).count() == 0
        }
        ["replayed", name, folder] => child(name, folder, |place, target| {
            let inputs = seeds(target).into_iter().chain(finds(target));
            let mut done = true;
            let start = Instant::now();
            for (name, bytes) in inputs {
                if let Err(wrong) = place.run(&bytes) {
                    eprintln!("{name}: {wrong}");
                    done = false;
                }
            }
            println!("{}: {:.2} s", target.name, start.elapsed().as_secs_f64());
            done
        }),
        ["explore", seconds, seed, name, folder] => child(name, folder, |place, target| {
            let until = Instant::now() + Duration::from_secs_f64(seconds.parse().unwrap_or(1.0));
            let (corpus, found) = (kept("corpus", target), kept("found", target));
            let explored = explore(place, until, seed.parse().unwrap_or(1), &corpus, &found);
            explored.map_err(|error| eprintln!("{error}")).is_ok()
        }),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    ExitCode::from(u8::from(!done))
}

/// The targets of these names, or all.
fn chosen<'a>(names: &'a [&str]) -> impl Iterator<Item = &'static Target> + 'a {
    TARGETS
        .iter()
        .filter(move |target| names.is_empty() || names.contains(&target.name))
}

/// Where a run keeps what it needs the next time.
fn kept(what: &str, target: &Target) -> PathBuf {
    root().join("target/fuzz").join(what).join(target.name)
}

/// A folder for a target's process: in memory, where the system has such files.
fn folder(target: &Target) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = match memory.is_dir() {
        true => memory.to_path_buf(),
        false => std::env::temp_dir(),
    };
    let own = std::process::id();
    base.join(format!("epsilon-fuzz-{}-{own}", target.name))
}

/// Explores a target in processes of their own, a new one where one died; whether nothing was found.
fn run(target: &Target, time: Duration, seed: u64) -> bool {
    let until = Instant::now() + time;
    let found = kept("found", target);
    let before = driver::listed(&found).len();
    for round in 0..DEATHS as u64 {
        let left = until
            .saturating_duration_since(Instant::now())
            .as_secs_f64();
        let seed = (seed + 1000 * round).to_string();
        if left < 1.0 || alone(target, &["explore", &left.to_string(), &seed]) {
            break;
        }
    }
    driver::listed(&found).len() == before
}

/// Runs a target in a process of its own; keeps the input that it died of.
fn alone(target: &Target, arguments: &[&str]) -> bool {
    let folder = folder(target);
    let ended = std::env::current_exe()
        .and_then(|program| {
            fs::create_dir_all(folder.join("input"))?;
            let mut command = Command::new(program);
            command.args(arguments).arg(target.name).arg(&folder);
            // One input at a time, and nothing that is remembered of files elsewhere.
            command.env("RAYON_NUM_THREADS", "1");
            command.env("XDG_CACHE_HOME", folder.join("cache"));
            command.status()
        })
        .map_err(|error| eprintln!("{}: {error}", target.name));
    if let Ok(status) = ended
        && status.code().is_none()
        && let Ok(input) = fs::read(folder.join("current"))
    {
        let path = kept("found", target).join(format!("{:016x}", driver::name(&input)));
        let _ = fs::create_dir_all(kept("found", target)).and_then(|()| fs::write(&path, &input));
        eprintln!("{}: {status}: {}", target.name, path.display());
    }
    let _ = fs::remove_dir_all(folder);
    ended.is_ok_and(|status| status.success())
}

/// What a process of a target does, in a thread with the stack of the program's own.
fn child(name: &str, folder: &str, work: impl FnOnce(&Place<'_>, &Target) -> bool + Send) -> bool {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        return false;
    };
    let place = match Place::new(target, Path::new(folder)) {
        Ok(place) => place,
        Err(error) => {
            eprintln!("{folder}: {error}");
            return false;
        }
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let spawned = thread.spawn_scoped(scope, || work(&place, target));
        spawned.is_ok_and(|thread| thread.join().unwrap_or(false))
    })
}
