//! Help, version, exit codes, and outputs that nobody reads or that are full.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use crate::world::{World, network, shapes};

#[test]
fn help_and_version() {
    let world = World::new();
    let version = world.run("--version").done();
    assert_eq!(
        version.trim_end(),
        concat!("epsilon ", env!("CARGO_PKG_VERSION"))
    );
    let help = world.run("--help").done();
    let verbs = [
        "quickstart",
        "prepare",
        "embed",
        "extract",
        "store",
        "train",
        "eval",
        "predict",
        "completions",
        "man",
    ];
    for verb in verbs {
        assert!(help.contains(&format!("  {verb} ")), "{verb}: {help}");
        let help = world.run(&format!("{verb} --help")).done();
        assert!(help.contains(&format!("Usage: epsilon {verb}")), "{help}");
    }
}

#[test]
fn wrong_usage_is_refused() {
    let world = World::new();
    world.run("trian recipe.toml").refused(&["trian", "train"]);
    world.run("train").refused(&["RECIPE"]);
    world
        .run("train recipe.toml --sed 3")
        .refused(&["--sed", "--seed"]);
    world
        .run("train nowhere.toml")
        .refused(&["nowhere.toml", "cannot be read"]);
    world
        .run("train recipe.toml --device tpu")
        .refused(&["tpu", "cpu"]);
    world
        .run("predict --model model.safetensors photo.jpg --top 0")
        .refused(&["--top 0"]);
    world
        .run("predict --model model.safetensors photo.jpg")
        .refused(&["model.safetensors"]);
    assert!(!world.path("runs").exists(), "nothing was begun");
    let mut command = Command::new(env!("CARGO_BIN_EXE_epsilon"));
    let none = command
        .args(["--threads", "0", "prepare"])
        .arg(world.path("recipe.toml"))
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("--threads 0"));
}

/// The instructions asked for are checked before anything is begun; no processor has those of two architectures.
#[test]
fn instructions_that_cannot_be_had_are_refused() {
    let listed = |level: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epsilon"));
        command.arg("models").env("EPSILON_CPU", level).output()
    };
    for (level, says) in [
        ("AVX9", "EPSILON_CPU=\"AVX9\" is no instruction set"),
        ("avx2 neon", "this CPU has "),
    ] {
        let ended = listed(level).unwrap();
        assert_eq!(ended.status.code(), Some(2));
        assert!(ended.stdout.is_empty());
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(stderr.contains(says), "{stderr}");
    }
    let missing = ["avx2", "neon"].map(|level| listed(level).unwrap());
    let refused = |ended: &Output| String::from_utf8_lossy(&ended.stderr).contains("lacks these");
    assert!(missing.iter().any(refused), "{missing:?}");
    let lowest = if cfg!(target_arch = "aarch64") {
        "neon"
    } else {
        "baseline"
    };
    let stdout = listed(lowest).unwrap().stdout;
    let stdout = String::from_utf8_lossy(&stdout);
    assert!(
        stdout.contains(&format!("instructions: {lowest}.")),
        "{stdout}"
    );
}

#[test]
fn a_cause_is_said_once() {
    let world = World::new();
    for arguments in [
        "train nowhere.toml",
        "embed --labels nowhere --vectors vectors.txt",
        "train recipe.toml --out labels.tsv",
    ] {
        let ended = world.run(arguments);
        assert_eq!(ended.stderr.matches("(os error ").count(), 1, "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let world = World::new();
    for arguments in [
        "prepare recipe.toml",
        "prepare recipe.toml --json",
        "--help",
    ] {
        let mut child = world.command(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(
            (ended.status.code(), stderr.as_ref()),
            (Some(0), ""),
            "{arguments}"
        );
    }
}

#[test]
fn a_closed_stderr_changes_no_exit_code() {
    let world = World::new();
    world.write("train-0001.png", "no picture");
    for (arguments, code) in [
        ("prepare recipe.toml", 1),
        ("extract recipe.toml --out out", 1),
        ("train nowhere.toml", 2),
    ] {
        let mut child = world.command(arguments).spawn().unwrap();
        drop(child.stderr.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{arguments}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_are_an_error() {
    let world = World::new();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ended = world
        .command("prepare recipe.toml")
        .stdout(Stdio::from(full))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("No space left") && !stderr.contains("panicked"),
        "{stderr}"
    );
}

/// What stands in an output's place and is no file stays what it is, and is refused before anything is computed.
#[cfg(unix)]
#[test]
fn outputs_replace_no_devices() {
    let world = World::new();
    std::os::unix::fs::symlink("/dev/zero", world.path("zero.csv")).unwrap();
    for (arguments, parts) in [
        (
            "tag --model model photos --csv zero.csv",
            ["--csv", "a device"],
        ),
        (
            "tag --model model photos --csv /dev/stdout",
            ["--csv", "--json"],
        ),
        ("eval model --per-label -", ["--per-label", "no file"]),
        (
            "eval model --save-scores /dev/null",
            ["--save-scores", "a device"],
        ),
        (
            "embed --labels a --vectors b --out .",
            ["--out", "a folder"],
        ),
        (
            "report run --out /dev/report.html",
            ["--out", "folder of devices"],
        ),
    ] {
        world.run(arguments).refused(&parts);
    }
    assert_eq!(
        std::fs::read_link(world.path("zero.csv")).unwrap(),
        std::path::Path::new("/dev/zero")
    );
}

/// The log of a batch job has no bar.
#[test]
fn a_log_is_told_how_far_an_extraction_is() {
    let world = World::of(300, 4);
    // So many tokens that any machine takes a minute.
    world.write(
        "backbone.safetensors",
        network(1, &shapes(64, 4, 56 * 56 + 1, 12, 256)),
    );
    world.edit(
        "recipe.toml",
        "[method]",
        "[features]\nbatch = 2\n\n[method]",
    );
    let mut child = world
        .command("extract recipe.toml --out out")
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = stderr.lines().map_while(Result::ok);
    let told = lines.find(|line| line.starts_with("extract: "));
    child.kill().unwrap();
    child.wait().unwrap();
    let told = told.expect("a line within the extraction");
    assert!(
        told.contains(" of 304 images; ") && told.contains(" images/s, "),
        "{told}"
    );
    assert!(told.ends_with(" left"), "{told}");
}
