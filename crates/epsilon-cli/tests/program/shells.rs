//! Completion scripts and manual pages.

use std::fs;

use crate::world::World;

#[test]
fn every_shell_is_told_the_commands_and_their_options() {
    let world = World::new();
    for (shell, sign) in [
        ("bash", "complete -F _epsilon"),
        ("zsh", "#compdef epsilon"),
        ("fish", "complete -c epsilon"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer[epsilon]"),
    ] {
        let script = world.run(&format!("completions {shell}")).done();
        for part in [sign, "quickstart", "predict", "calibrate", "train-backbone"] {
            assert!(script.contains(part), "{shell}: {part}");
        }
    }
    world
        .run("completions tcsh")
        .refused(&["tcsh", "bash", "zsh"]);
}

/// Bash itself completes by the script.
#[test]
#[cfg(target_os = "linux")]
fn bash_completes_a_command() {
    let world = World::new();
    world.write("epsilon.bash", world.run("completions bash").done());
    let ask = "source epsilon.bash; COMP_WORDS=(epsilon quic); COMP_CWORD=1; \
               _epsilon epsilon quic epsilon; echo ${COMPREPLY[*]}";
    let bash = std::process::Command::new("bash")
        .args(["--norc", "-c", ask])
        .current_dir(world.path("."))
        .output();
    let Ok(bash) = bash else {
        println!("skipped: there is no bash");
        return;
    };
    let said = String::from_utf8_lossy(&bash.stdout);
    assert_eq!(said.trim(), "quickstart", "{bash:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let world = World::new();
    let said = world.run("man --out new/man1").done();
    assert_eq!(said.lines().next(), Some("new/man1/epsilon.1"));
    assert_eq!(
        said.lines().count(),
        fs::read_dir(world.path("new/man1")).unwrap().count()
    );
    let page = world.text("new/man1/epsilon.1");
    for part in [
        ".TH epsilon 1",
        "epsilon\\-quickstart(1)",
        "epsilon\\-train(1)",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let train = world.text("new/man1/epsilon-train.1");
    assert!(
        train.contains(".TH epsilon-train 1") && train.contains("\\-\\-resume"),
        "{train}"
    );
    let below: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("epsilon-store-"))
        .collect();
    assert!(!below.is_empty(), "{said}");
    world.write("file", "");
    world.run("man --out file").refused(&["file"]);
}
