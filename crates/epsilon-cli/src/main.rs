//! The `epsilon` program.

use std::process::ExitCode;

/// Every tensor operation allocates its result; this allocator reuses freed memory without page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    epsilon_cli::run_program(std::env::args_os().collect()).into()
}
