//! What the index's bytes lose against the vectors themselves: the mAP of a model's test images under its protocol, and the
//! share of the 50 best photographs of every label that stay among them. Prints one line of JSON.
//!
//!     cargo run --release -p epsilon-bench --bin index_loss -- --model runs/X/seed-1/model.safetensors --store runs/X/tokens

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use epsilon::dataset::Split;
use epsilon::experiment;
use epsilon::model::{Model, Ranker};
use epsilon::recipe::Recipe;
use epsilon::semantic_index::{Index, IndexInfo, IndexWriter};
use epsilon::tokens::TokenStore;
use epsilon_bench::{Arguments, Outcome, peak_rss_mb};
use epsilon_metrics::{Labels, Protocol, Scores, Standardise, evaluate, standardise};

const TOP: usize = 50;

fn main() -> Outcome<()> {
    let arguments = Arguments::read(&["model", "store", "folder"])?;
    let path: PathBuf = arguments.get("model", PathBuf::new())?;
    let folder: PathBuf = arguments.get("folder", "target/index-loss".into())?;
    let device = Device::flex();
    let model = Model::load(&path, &device)?;
    let recipe: Recipe = model.card().recipe()?;
    let prepared = experiment::prepare(&recipe)?;
    let store = TokenStore::open(&arguments.get("store", PathBuf::new())?)?;
    let dataset = &prepared.dataset;
    let rows = dataset.rows(Split::Test).into_iter();
    let rows: Vec<(usize, usize)> = rows
        .filter_map(|row| Some((row, store.row_of(&dataset.records[row].id)?)))
        .collect();
    let labels = dataset.names.len();

    let exact = experiment::score(&model, &prepared, &store, &device, &mut |_, _| {
        ControlFlow::Continue(())
    })?
    .scores;
    build(&folder, &model, &store, &rows, &device)?;
    let index = Index::open(&folder)?;
    let queries = model.queries(&prepared.vectors, &device)?;
    let queries = queries.chunks_exact(queries.len() / labels);
    let mut rounded = vec![f32::NAN; exact.len()];
    let mut stayed = 0;
    for (label, query) in queries.enumerate() {
        let hits = index.search(query, rows.len())?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| exact[b * labels + label].total_cmp(&exact[a * labels + label]));
        for (rank, hit) in hits.iter().enumerate() {
            let image: usize = hit.id.parse()?;
            rounded[image * labels + label] = hit.score;
            stayed += usize::from(rank < TOP && order[..TOP].contains(&image));
        }
    }
    let mut truths = vec![0; exact.len()];
    for ((row, _), truths) in rows.iter().zip(truths.chunks_exact_mut(labels)) {
        dataset.labels.dense_row(*row, truths);
    }
    let protocol: Protocol = recipe.evaluation.protocol.parse()?;
    let columns: Vec<usize> = (0..labels).collect();
    let map = |mut scores: Vec<f32>| -> Outcome<f64> {
        if recipe.evaluation.standardise != Standardise::None {
            standardise(&mut scores, labels);
        }
        let scores = Scores::new(&scores, rows.len(), labels)?;
        let truths = Labels::new(&truths, rows.len(), labels)?;
        Ok(100.0 * evaluate(scores, truths, &columns, &protocol, &[])?.map)
    };
    println!(
        "{}",
        serde_json::json!({
            "images": rows.len(),
            "labels": labels,
            "map_of_vectors": map(exact.clone())?,
            "map_of_index": map(rounded)?,
            "peak_rss_mb": peak_rss_mb()?,
            "best_50_kept": stayed as f64 / (TOP * labels) as f64,
        })
    );
    Ok(())
}

/// An index of the images, whose ids are their places.
fn build(
    folder: &Path,
    model: &Model,
    store: &TokenStore,
    rows: &[(usize, usize)],
    device: &Device,
) -> Outcome<()> {
    let _ = std::fs::remove_dir_all(folder);
    let ranker = Ranker::new(model, model.own_labels(), device)?;
    let mut writer = None;
    for (image, (_, stored)) in rows.iter().enumerate() {
        let mut tokens = vec![0.0; store.tokens_per_image() * store.dim()];
        let mut global = vec![0.0; store.global_dim()];
        store.read_tokens(*stored, &mut tokens);
        store.read_global(*stored, &mut global);
        let (_, vectors) = ranker.rank_with_vectors(1, tokens, global);
        let vectors = vectors.ok_or("the method has no semantic vectors")?;
        let info = IndexInfo {
            model: model.identity(),
            groups: vectors.groups,
            width: vectors.width,
            classes: vectors.classes,
        };
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(IndexWriter::open(folder, &info)?),
        };
        writer.push(&image.to_string(), &vectors.values)?;
    }
    Ok(writer.ok_or("no image")?.commit()?)
}
