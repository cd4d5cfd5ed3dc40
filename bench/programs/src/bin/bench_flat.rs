//! Whether extraction keeps its pace and its memory however many images there are, for `bench/flat.py`: drawn pictures
//! through the built-in backbone. `--draw FOLDER --images N` draws them there; `--photos FOLDER --images N --store
//! FOLDER [--threads 2]` extracts the first N of them and prints one line of JSON: `images`, `seconds`, `peak_rss_mb`,
//! and `rates`, the images a second of each tenth of the run.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use epsilon::backbone;
use epsilon::dataset::scenes::{SceneOptions, Scenes};
use epsilon::tokens::{ExtractOptions, extract};
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};

fn draw(folder: &Path, images: usize) -> Outcome<()> {
    let scenes = Scenes::new(SceneOptions::default())?;
    scenes.write(folder, u32::try_from(images)?, 0)?;
    Ok(())
}

fn photos(folder: &Path, images: usize) -> Outcome<Vec<(String, PathBuf)>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    if paths.len() < images {
        return Err(format!("{} pictures are there, not {images}", paths.len()).into());
    }
    paths.truncate(images);
    Ok(paths
        .into_iter()
        .map(|path| (path.display().to_string(), path))
        .collect())
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read(&["draw", "photos", "images", "store", "threads"])?;
    let images = arguments.get("images", 1000)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.get("threads", 2)?)
        .build_global()?;
    let folder = arguments.get("draw", String::new())?;
    if !folder.is_empty() {
        return draw(Path::new(&folder), images);
    }
    let store = PathBuf::from(arguments.get("store", String::new())?);
    std::fs::create_dir_all(&store)?;
    let weights = store.join("built-in.safetensors");
    std::fs::write(&weights, backbone::BUILT_IN)?;
    let backbone = backbone::load(&weights)?;
    let items = photos(Path::new(&arguments.get("photos", String::new())?), images)?;

    let start = Instant::now();
    let (mut rates, mut last) = (Vec::new(), (0.0, 0));
    let options = ExtractOptions::default();
    let tokens = store.join("tokens");
    let report = extract(&items, &*backbone, &tokens, &options, &mut |progress| {
        if progress.done * 10 >= images * (rates.len() + 1) {
            let now = start.elapsed().as_secs_f64();
            rates.push((progress.done - last.1) as f64 / (now - last.0));
            last = (now, progress.done);
        }
        ControlFlow::Continue(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "images": report.images, "seconds": seconds, "peak_rss_mb": peak_rss_mb()?, "rates": rates,
    });
    println!("{line}");
    Ok(())
}
