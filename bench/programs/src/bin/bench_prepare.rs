//! What `bench/prepare.py` times: reads a data set of text files into its index, reads the index, or resolves labels in a
//! vector file. `trees` writes official-looking files of full scale. Prints one line of JSON: seconds and peak memory.

#[path = "../../../../crates/epsilon-data/src/dataset/trees.rs"]
#[allow(dead_code, reason = "shared with tests")]
mod trees;

use std::path::{Path, PathBuf};
use std::time::Instant;

use epsilon::dataset::{
    Source,
    nus_wide::{NusWideLabels, NusWideOptions},
    open_images::OpenImagesOptions,
};
use epsilon::labels::{VectorFile, read_names, resolve_words};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["tree", "nus-wide", folder, train, test] => {
            let names = |what: &str, count| (0..count).map(|i| format!("{what}{i}")).collect();
            let concepts: Vec<String> = names("concept", 81);
            // 75 concepts are tags as well.
            let tags: Vec<String> = [names("tag", 925), concepts[..75].to_vec()].concat();
            let parts = [train.parse()?, test.parse()?];
            trees::nus_wide(Path::new(folder), &tags, &concepts, parts, 1);
            Ok(())
        }
        ["tree", "open-images", folder, train, test, rows] => {
            let parts = [train.parse()?, test.parse()?];
            trees::open_images(
                Path::new(folder),
                [7186, 400, 12409],
                parts,
                rows.parse()?,
                1,
            );
            Ok(())
        }
        ["read", kind, folder, index] => {
            let source = source(kind, Path::new(folder));
            let start = Instant::now();
            let (dataset, _) = source.read_cached(Path::new(index))?;
            let labels = (0..dataset.records.len()).map(|row| dataset.labels.entries(row).len());
            let labels: usize = labels.sum();
            report(start, dataset.records.len(), labels)
        }
        ["resolve", file, labels, names @ ..] => {
            let start = Instant::now();
            let labels = read_names(Path::new(labels))?;
            let file = VectorFile {
                path: file.into(),
                names: names.iter().map(PathBuf::from).collect(),
            };
            let resolved = resolve_words(&file, &labels, &labels)?;
            report(start, resolved.vectors.len(), resolved.vectors.dim())
        }
        _ => Err("usage: bench_prepare tree|read|resolve ...".into()),
    }
}

fn source(kind: &str, folder: &Path) -> Source {
    let file = |name: &str| folder.join(name);
    if kind == "nus-wide" {
        return Source::NusWide(NusWideOptions {
            outside: false,
            folder: folder.into(),
            images: file("Flickr"),
            labels: NusWideLabels::default(),
        });
    }
    Source::OpenImages(OpenImagesOptions {
        outside: false,
        train: vec![file("train-annotations-human-imagelabels.csv")],
        test: vec![file("test-annotations-human-imagelabels.csv")],
        images: file("images"),
        descriptions: file("class-descriptions.csv"),
        seen: file("classes-trainable.txt"),
        unseen: file("top_unseen.csv"),
        unseen_classes: Some(file("unseen_labels.txt")),
        max_positives: 40,
        unknown_ids: Default::default(),
    })
}

fn report(start: Instant, images: usize, labels: usize) -> Outcome {
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak
        .and_then(|peak| peak.split_whitespace().next())
        .unwrap_or("0");
    let peak = peak.parse::<f64>()? * 1024.0 / 1e6;
    println!(
        r#"{{"seconds": {seconds}, "peak_rss_mb": {peak}, "images": {images}, "labels": {labels}}}"#
    );
    Ok(())
}
