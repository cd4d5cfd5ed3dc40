//! SIGKILL at random moments: what is started again ends with the bytes of the run that nobody disturbed.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::world::{Random, World, assert_same_files};

/// Kills of one run.
const KILLS: usize = 8;

/// A seed from the clock, printed so that a failure can be repeated (the moments; not the machine's pace).
pub(crate) fn random(what: &str) -> Random {
    let given = std::env::var("EPSILON_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |time| time.as_nanos() as u64)
    };
    let seed = given.unwrap_or_else(clock);
    println!("{what}: EPSILON_TEST_SEED={seed}");
    Random(seed)
}

/// When to kill.
enum Moment {
    /// This long after the start.
    After(Duration),
    /// As soon as a file is being written below this folder, after this many others were.
    Writing(usize),
}

/// Starts the program and kills it at the moment; says whether it still ran.
fn killed(world: &World, arguments: &str, out: &Path, moment: &Moment) -> bool {
    let mut child = world
        .command(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    match moment {
        Moment::After(delay) => sleep(*delay),
        Moment::Writing(skipped) => {
            let (mut seen, mut last) = (0, false);
            while seen <= *skipped && child.try_wait().unwrap().is_none() {
                let now = is_writing(out);
                seen += usize::from(now && !last);
                last = now;
            }
        }
    }
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    let status = child.wait().unwrap();
    running && status.code().is_none()
}

/// Whether a temporary file lies in the folder or in one of its own.
fn is_writing(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|ending| ending == "tmp") || path.is_dir() && is_writing(&path)
    })
}

/// Starts the command [`KILLS`] times and kills it, in turn at a random moment and while it writes; gives the number of
/// kills that hit (the others came after its end).
fn disturb(
    world: &World,
    arguments: &str,
    out: &str,
    whole: Duration,
    random: &mut Random,
) -> usize {
    let mut hits = 0;
    let first = random.below(2) as usize;
    for round in first..first + KILLS {
        let moment = if round % 2 == 0 {
            Moment::After(whole.mul_f64(0.6 * random.unit()))
        } else {
            Moment::Writing(random.below(2) as usize)
        };
        hits += usize::from(killed(world, arguments, &world.path(out), &moment));
    }
    hits
}

#[test]
fn extraction() {
    let world = World::of(600, 100);
    // Some images fail, so that their place in the journal is tried too.
    fs::remove_file(world.path("train-0005.png")).unwrap();
    world.truncate("train-0300.jpg", 0.6);
    fs::remove_file(world.path("test-0699.jpg")).unwrap();
    let failed = ["train-0005.png", "train-0300.jpg", "test-0699.jpg"];
    let start = Instant::now();
    let said = world.run("extract recipe.toml --out calm").partly(&failed);
    let whole = start.elapsed();
    let calm = world.files("calm");
    assert!(calm.len() >= 6, "several shards and the manifest");

    let mut random = random("extract");
    let mut all_hits = 0;
    for out in ["first", "second", "third"] {
        let command = format!("extract recipe.toml --out {out}");
        // Where a busy machine made `whole` too long, the first run is over before its kill: again, and sooner.
        let mut hits = 0;
        for halvings in 0..8 {
            hits = disturb(&world, &command, out, whole / (1 << halvings), &mut random);
            println!("{out}: {hits} kills hit a run of {whole:?}");
            if hits > 0 {
                break;
            }
            fs::remove_dir_all(world.path(out)).unwrap();
        }
        all_hits += hits;
        let again = world.run(&format!("{command} --verify")).partly(&failed);
        assert_eq!(again.replace(&format!("{out}/"), "calm/"), said);
        assert_same_files(&world.files(out), &calm);
    }
    assert!(all_hits >= 3, "kills must hit a running process");
}

#[test]
fn training() {
    let world = World::new();
    world.edit("recipe.toml", "epochs = 1", "epochs = 20");
    world.edit("recipe.toml", "seeds = [1]", "seeds = [1, 2]");
    world.edit(
        "recipe.toml",
        "batch = 8",
        "batch = 8\nvalidation = 0.2\nschedule = { kind = \"cosine\", floor = 0.1 }\nwarm-up = 1.5",
    );
    world.edit(
        "recipe.toml",
        "checkpoint-steps = 2",
        "checkpoint-steps = 1",
    );
    let start = Instant::now();
    let said = world.run("train recipe.toml --out calm").done();
    let whole = start.elapsed();
    let calm = outcome(&world, "calm");
    assert!(
        calm.iter().all(|(_, metrics)| metrics.len() == 20),
        "one line an epoch"
    );

    let mut random = random("train");
    let mut all_hits = 0;
    for out in ["first", "second", "third"] {
        let command = format!("train recipe.toml --resume --out {out}");
        let hits = disturb(&world, &command, out, whole, &mut random);
        println!("{out}: {hits} kills hit a run of {whole:?}");
        all_hits += hits;
        let again = world.run(&command).done();
        assert_eq!(again.replace(&format!("{out}/"), "calm/"), said);
        for (seed, ((model, metrics), (calm_model, calm_metrics))) in
            (1..).zip(outcome(&world, out).iter().zip(&calm))
        {
            assert!(model == calm_model, "{out}, seed {seed}: the model differs");
            assert_eq!(metrics, calm_metrics, "{out}, seed {seed}");
        }
        assert_same_files(
            &world.files(&format!("{out}/tokens")),
            &world.files("calm/tokens"),
        );
        assert!(
            !is_writing(&world.path(out)),
            "no half-written file is left"
        );
    }
    assert!(all_hits >= 3, "kills must hit a running process");
}

/// The model file of both seeds, and the lines of their `metrics.jsonl` without what the clock decides.
fn outcome(world: &World, out: &str) -> Vec<(Vec<u8>, Vec<Value>)> {
    let line = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        for key in ["images_per_second", "waiting"] {
            assert!(
                record.as_object_mut().unwrap().remove(key).is_some(),
                "{key}"
            );
        }
        record
    };
    [1, 2]
        .map(|seed| {
            let model =
                fs::read(world.path(format!("{out}/seed-{seed}/model.safetensors"))).unwrap();
            let metrics = world.text(&format!("{out}/seed-{seed}/metrics.jsonl"));
            (model, metrics.lines().map(line).collect())
        })
        .into()
}

#[test]
fn a_store_that_is_not_finished_is_not_read() {
    let world = World::of(400, 50);
    world.run("train recipe.toml --out whole").done();
    let out = world.path("out");
    // On a busy machine the process may end before it is seen writing.
    let hit = (0..5).any(|_| {
        let _ = fs::remove_dir_all(&out);
        killed(
            &world,
            "extract recipe.toml --out out",
            &out,
            &Moment::Writing(1),
        )
    });
    assert!(hit);
    let ended = world.run("eval whole/seed-1/model.safetensors --store out/tokens");
    ended.refused(&["out/tokens", "not finished", "run it again"]);
}
