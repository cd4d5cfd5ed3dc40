//! How long a search takes over many photographs, beside how fast this machine reads the same bytes, for `bench/search.sh`.
//! Builds an index of random vectors in a folder, unless one of the same sizes is there. Prints one line of JSON.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::path::{Path, PathBuf};
use std::time::Instant;

use epsilon::semantic_index::{Index, IndexInfo, IndexWriter};
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};
use memmap2::Mmap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

const NAMES: &[&str] = &["folder", "photos", "groups", "width", "classes", "queries"];
/// Photographs between two commits.
const COMMIT: usize = 20_000;

fn main() -> Outcome<()> {
    let arguments = Arguments::read(NAMES)?;
    let folder: PathBuf = arguments.get("folder", "target/bench-search".into())?;
    let photos: usize = arguments.get("photos", 1_000_000)?;
    // Of an anchor.
    let classes: usize = arguments.get("classes", 0)?;
    let info = IndexInfo {
        model: "random".into(),
        groups: arguments.get("groups", 8)?,
        width: arguments.get("width", 300)?,
        classes: (classes > 0).then_some(classes),
    };
    let queries: usize = arguments.get("queries", 15)?;
    let built = Instant::now();
    build(&folder, &info, photos)?;
    let build_seconds = built.elapsed().as_secs_f64();

    let opened = Instant::now();
    let index = Index::open(&folder)?;
    let open_seconds = opened.elapsed().as_secs_f64();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut search = || -> Outcome<f64> {
        let query: Vec<f32> = (0..info.width + classes)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let start = Instant::now();
        let hits = index.search(&query, 50)?;
        assert_eq!(hits.len(), 50.min(photos));
        Ok(start.elapsed().as_secs_f64())
    };
    let first = search()?;
    // In turn, so that both meet the same noise.
    let file = std::fs::File::open(folder.join("rows-0.bin"))?;
    // SAFETY: nobody writes to the file while it is read here.
    let bytes = unsafe { Mmap::map(&file)? };
    let (mut searches, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..queries {
        searches.push(search()?);
        let start = Instant::now();
        std::hint::black_box(sum(&bytes));
        reads.push(start.elapsed().as_secs_f64());
    }
    let gigabytes = index.bytes() as f64 / 1e9;
    let [fastest, middle, slowest] = spread(searches);
    let [best_read, middle_read, _] = spread(reads);
    println!(
        "{}",
        serde_json::json!({
            "photos": photos,
            "groups": info.groups,
            "width": info.width,
            "classes": info.classes,
            "threads": rayon::current_num_threads(),
            "gigabytes": gigabytes,
            "build_seconds": build_seconds,
            "open_seconds": open_seconds,
            "first_search_seconds": first,
            "search_seconds": {"fastest": fastest, "median": middle, "slowest": slowest},
            "search_gb_per_second": gigabytes / middle,
            "read_gb_per_second": {"best": gigabytes / best_read, "median": gigabytes / middle_read},
            "share_of_median_read": middle_read / middle,
            "share_of_best_read": best_read / middle,
            "peak_rss_mb": peak_rss_mb()?,
        })
    );
    Ok(())
}

fn build(folder: &Path, info: &IndexInfo, photos: usize) -> Outcome<()> {
    let mut writer = IndexWriter::open(folder, info)?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for photo in 0..photos {
        let id = format!("{:04}/{photo:07}.jpg", photo / 1000);
        if !writer.contains(&id) {
            // Cheap numbers between -1 and 1: what they are does not matter to the time of a search.
            let word: u64 = rng.random();
            let anchor = info.classes.map_or(0, |classes| classes + 1);
            let rows = (0..(info.groups * info.width + anchor) as u64).map(|place| {
                let mixed = (word ^ place).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
                mixed as f32 / (1 << 23) as f32 - 1.0
            });
            writer.push(&id, &rows.collect::<Vec<_>>())?;
        }
        if (photo + 1) % COMMIT == 0 {
            writer.commit()?;
        }
    }
    Ok(writer.commit()?)
}

/// All bytes, read by all threads in wide words.
fn sum(bytes: &[u8]) -> u64 {
    let chunks = bytes.par_chunks(1 << 22);
    let sums = chunks.map(|chunk| {
        let (_, words, _) = bytemuck::pod_align_to::<u8, u64>(chunk);
        words
            .iter()
            .fold(0_u64, |sum, word| sum.wrapping_add(*word))
    });
    sums.reduce(|| 0, u64::wrapping_add)
}

/// The fastest, the median and the slowest.
fn spread(mut seconds: Vec<f64>) -> [f64; 3] {
    seconds.sort_by(f64::total_cmp);
    [
        seconds[0],
        seconds[seconds.len() / 2],
        seconds[seconds.len() - 1],
    ]
}
