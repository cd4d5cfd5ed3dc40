//! All seeds, and every input that once was read wrongly, are read without a panic, in time and within the memory that they may take.

use std::process::Command;

#[test]
fn seeds_and_finds_are_read() {
    let output = Command::new(env!("CARGO_BIN_EXE_fuzz"))
        .arg("replay")
        .output()
        .expect("the driver runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.lines().count() > 30, "a line for each target: {told}");
}
