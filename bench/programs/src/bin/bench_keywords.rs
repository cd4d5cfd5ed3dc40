//! How long it takes to read the keywords of a folder's photographs, from sidecars and pictures. Prints one line of JSON.
//!
//!     cargo run --release -p epsilon-bench --bin bench_keywords -- --folder PHOTOS

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::path::PathBuf;
use std::time::Instant;

use epsilon::image::Limits;
use epsilon::library::{Ledger, Library, keywords, scan};
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};

fn main() -> Outcome<()> {
    let arguments = Arguments::read(&["folder"])?;
    let folder: PathBuf = arguments.get("folder", PathBuf::new())?;
    let photos = scan(&folder).photos;
    let ours = Ledger::snapshot(&Library::beside(&folder))?;
    let begun = Instant::now();
    let said = keywords::of_all(&photos, &ours, &Limits::default());
    let seconds = begun.elapsed().as_secs_f64();
    let keywords = |said: &keywords::Said| said.keywords.len();
    let line = serde_json::json!({
        "photographs": photos.len(),
        "seconds": seconds,
        "with_keywords": said.iter().filter(|said| keywords(said) > 0).count(),
        "keywords": said.iter().map(keywords).sum::<usize>(),
        "with_date": said.iter().filter(|said| said.taken.is_some()).count(),
        "flaws": said.iter().map(|said| said.flaws.len()).sum::<usize>(),
        "threads": rayon::current_num_threads(),
        "peak_rss_mb": peak_rss_mb()?,
    });
    println!("{line}");
    Ok(())
}
