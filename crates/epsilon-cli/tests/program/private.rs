//! Nothing leaves the machine: no command but those that are told to serve or to download opens a socket of the Internet.
#![cfg(target_os = "linux")]

use std::process::Command;

use crate::world::World;

/// Commands one after another, from a data set to a searched library.
const COMMANDS: [&str; 14] = [
    "prepare recipe.toml",
    "extract recipe.toml --out out",
    "train recipe.toml --out out",
    "eval out/seed-1/model.safetensors",
    "calibrate out/seed-1/model.safetensors",
    "predict --model out/seed-1/model.safetensors test-0025.png",
    "explain --model out/seed-1/model.safetensors --label red --out maps test-0025.png",
    "bundle out/seed-1/model.safetensors --out bundle.safetensors",
    "tag p --model bundle.safetensors --top 2 --xmp",
    "review p --list",
    "search p purple",
    "index export p --to points.parquet",
    "report out --out report.html",
    "models",
];

#[test]
fn no_command_opens_a_connection() {
    let traces = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status();
    if !traces.is_ok_and(|status| status.success()) {
        println!("skipped: strace is missing, or may not trace here");
        return;
    }
    let world = World::new();
    std::fs::create_dir(world.path("p")).unwrap();
    for name in ["train-0000.jpg", "train-0001.png"] {
        std::fs::copy(world.path(name), world.path("p").join(name)).unwrap();
    }
    for arguments in COMMANDS {
        let command = world.command(arguments);
        let mut traced = Command::new("strace");
        traced.args(["-f", "-e", "trace=socket,connect,sendto,sendmsg", "-o"]);
        traced
            .arg(world.path("calls"))
            .arg(command.get_program())
            .args(command.get_args());
        traced.current_dir(world.path("."));
        let ended = world.end(traced, arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let calls = world.text("calls");
        assert!(calls.contains("exited with 0"), "{arguments}: {calls}");
        assert!(!calls.contains("AF_INET"), "{arguments}: {calls}");
    }
}
