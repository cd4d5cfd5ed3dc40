//! How long it takes to open a library's catalog, to bring it up to date, to choose photographs by criteria, and to search with
//! them, for `bench/catalog.sh`. Draws a library in a folder, unless one of that size is there. Prints one line of JSON, in
//! milliseconds; each time is the median of several turns.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::path::{Path, PathBuf};
use std::time::Instant;

use epsilon::library::{
    Catalog, Correction, Corrections, Entry, Filter, Journal, Label, Library, Line, Order, Outcome,
    Verdict,
};
use epsilon::semantic_index::{Index, IndexInfo, IndexWriter};
use epsilon_bench::{Arguments, Outcome as Done};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const NAMES: &[&str] = &["folder", "photos", "turns"];
/// Labels that there are, and how many a photograph has.
const LABELS: usize = 500;
const EACH: usize = 5;
/// Of so many photographs one could not be tagged, and one was corrected.
const BROKEN: usize = 200;
const CORRECTED: usize = 25;
const TEN_YEARS: i64 = 10 * 365 * 24 * 60 * 60;
const BEGIN: i64 = 1_450_000_000;

fn main() -> Done<()> {
    let arguments = Arguments::read(NAMES)?;
    let folder: PathBuf = arguments.get("folder", "target/bench-catalog".into())?;
    let photos: usize = arguments.get("photos", 50_000)?;
    let turns: usize = arguments.get("turns", 11)?;
    let info = IndexInfo {
        model: "drawn".into(),
        groups: 8,
        width: 300,
        classes: None,
    };
    if !folder.join("library.json").exists() {
        draw(&folder, &info, photos)?;
    }
    let time = |work: &mut dyn FnMut() -> Done<usize>| -> Done<serde_json::Value> {
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..turns {
            let start = Instant::now();
            found = work()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(serde_json::json!({"ms": times[turns / 2], "found": found}))
    };
    let mut figures = serde_json::Map::new();
    figures.insert(
        "read".into(),
        time(&mut || Ok(Catalog::read(&folder)?.items().len()))?,
    );
    let mut catalog = Catalog::read(&folder)?;
    figures.insert(
        "refresh, nothing new".into(),
        time(&mut || Ok(usize::from(catalog.refresh()?)))?,
    );
    let mut corrections = Corrections::open(&folder)?;
    let refresh = time(&mut || {
        corrections.add(&[correction(&id(7), "label 0007", Verdict::Approved)])?;
        Ok(usize::from(catalog.refresh()?))
    })?;
    figures.insert("correct and refresh".into(), refresh);
    let mut journal = Journal::open(&folder)?;
    let batch: Vec<Entry> = (0..16)
        .map(|photo| entry(photo, &mut ChaCha8Rng::seed_from_u64(9)))
        .collect();
    let refresh = time(&mut || {
        journal.add(&batch)?;
        Ok(usize::from(catalog.refresh()?))
    })?;
    figures.insert("tag 16 and refresh".into(), refresh);
    journal.tidy()?;
    catalog.refresh()?;
    for (what, filter, order) in filters() {
        let selected = time(&mut || Ok(catalog.select(&filter, order).len()))?;
        figures.insert(format!("select {what}"), selected);
    }
    figures.insert(
        "open the index".into(),
        time(&mut || Ok(Index::open(&Library::index(&folder))?.len()))?,
    );
    let index = Index::open(&Library::index(&folder))?;
    let query: Vec<f32> = row(&mut ChaCha8Rng::seed_from_u64(5), info.width);
    for (what, filter, order) in filters() {
        let search = |top| catalog.search(&index, &query, "label 0007", &filter, (order, top));
        figures.insert(
            format!("search {what}"),
            time(&mut || Ok(search(50)?.len()))?,
        );
        let like = |top| catalog.like(&index, &id(3), &filter, (order, top));
        figures.insert(format!("like {what}"), time(&mut || Ok(like(50)?.len()))?);
        figures.insert(
            format!("search {what}, all of them"),
            time(&mut || Ok(search(photos)?.len()))?,
        );
    }
    println!("{}", serde_json::to_string_pretty(&figures)?);
    Ok(())
}

fn filters() -> [(&'static str, Filter, Order); 4] {
    let label = Filter {
        label: Some("label 0007".into()),
        ..Filter::default()
    };
    let probable = Filter {
        probability: Some(0.9),
        ..label.clone()
    };
    let year = Filter {
        since: Some(BEGIN),
        until: Some(BEGIN + TEN_YEARS / 10),
        folder: Some("1".into()),
        ..Filter::default()
    };
    [
        ("all by date", Filter::default(), Order::Date),
        ("a label", label, Order::Relevance),
        ("a probable label by doubt", probable, Order::Doubt),
        ("a year in a folder by doubt", year, Order::Doubt),
    ]
}

fn id(photo: usize) -> String {
    format!("{}/{:03}/{photo:06}.jpg", photo / 10_000, photo / 100)
}

fn correction(photo: &str, label: &str, verdict: Verdict) -> Line {
    Line::Label(Correction {
        photo: photo.into(),
        label: label.into(),
        parents: Vec::new(),
        verdict,
        at: 1,
        by: None,
    })
}

fn entry(photo: usize, rng: &mut impl Rng) -> Entry {
    let labels = (0..EACH).map(|_| Label {
        name: format!("label {:04}", rng.random_range(0..LABELS)),
        parents: Vec::new(),
        score: Some(rng.random_range(-1.0..1.0)),
        probability: Some(rng.random_range(0.0..1.0)),
        seen: true,
    });
    let labels = labels.collect();
    Entry {
        photo: id(photo),
        bytes: 3_000_000,
        modified: 1_700_000_000_000_000_000,
        settings: "5".repeat(64),
        outcome: match photo % BROKEN {
            1 => Outcome::Error("drawn: cannot be read".into()),
            _ => Outcome::Labels(labels),
        },
        content: photo % BROKEN == 1,
        taken: Some(BEGIN + rng.random_range(0..TEN_YEARS)),
        doubt: Some(rng.random_range(0.0..20.0)),
        sidecar: None,
    }
}

fn row(rng: &mut impl Rng, width: usize) -> Vec<f32> {
    (0..width).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn draw(folder: &Path, info: &IndexInfo, photos: usize) -> Done<()> {
    std::fs::create_dir_all(folder)?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut writer = IndexWriter::open(&Library::index(folder), info)?;
    let mut entries = Vec::new();
    let mut lines = Vec::new();
    for photo in 0..photos {
        let entry = entry(photo, &mut rng);
        if matches!(entry.outcome, Outcome::Labels(_)) {
            writer.push(&entry.photo, &row(&mut rng, info.groups * info.width))?;
        }
        if photo % CORRECTED == 0 {
            let verdict = if photo % 2 == 0 {
                Verdict::Approved
            } else {
                Verdict::Rejected
            };
            let label = format!("label {:04}", rng.random_range(0..LABELS));
            lines.push(correction(&entry.photo, &label, verdict));
        }
        entries.push(entry);
    }
    writer.commit()?;
    Journal::open(folder)?.add(&entries)?;
    Corrections::open(folder)?.add(&lines)?;
    let photographs = std::path::absolute(folder)?;
    // Written last: a folder with it is whole.
    Ok(Library::new("drawn.safetensors".into(), info.model.clone(), photographs).write(folder)?)
}
