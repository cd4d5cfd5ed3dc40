//! How much of a method's map of a label lies inside the object: drawn scenes, whose objects' pixels are known, against the
//! share of the picture that the object takes.
//!
//! cargo run --release -p epsilon-bench --bin localise [TRAINING PICTURES] [TEST PICTURES]
//!
//! A map that looked nowhere in particular would have as much inside as the object's area.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use epsilon::backbone::{self, Backbone, Features};
use epsilon::burn::tensor::Device;
use epsilon::dataset::Split;
use epsilon::dataset::scenes::{SceneOptions, Scenes};
use epsilon::experiment::{self, Training};
use epsilon::explain::share_inside;
use epsilon::image::RgbImage;
use epsilon::model::Model;
use epsilon::recipe::Recipe;
use epsilon::tokens::TokenStore;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Methods with maps, as in a recipe, and their learning rates.
const METHODS: [(&str, &str, f64); 5] = [
    ("Epsilon", "kind = 'epsilon'\n groups = 4", 1e-3),
    ("LESA", "kind = 'lesa'", 2e-3),
    ("LESA per cluster", "kind = 'lesa-per-cluster'", 2e-3),
    (
        "Bilinear attention",
        "kind = 'bilinear-attention'\n rank = 128",
        2e-3,
    ),
    ("BiAM", "kind = 'biam'\n channels = 64", 1e-3),
];

fn main() -> Outcome<()> {
    let mut counts = std::env::args().skip(1).map(|count| count.parse::<u32>());
    let train = counts.next().unwrap_or(Ok(1500))?;
    let test = counts.next().unwrap_or(Ok(200))?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let scenes = Scenes::new(SceneOptions::default())?;
    scenes.write(&folder.join("data"), train, 1)?;
    let weights = folder.join("backbone.safetensors");
    std::fs::write(&weights, backbone::BUILT_IN)?;
    let backbone = backbone::load(&weights)?;
    let mut store = None;
    println!(
        "{train} training and {test} test pictures; percent of a map inside the object, mean over objects\n"
    );
    println!("| method | map | seen labels | unseen labels |");
    println!("| --- | --- | ---: | ---: |");
    for (name, method, rate) in METHODS {
        let recipe = recipe(folder, method, rate)?;
        let prepared = experiment::prepare(&recipe)?;
        if store.is_none() {
            let dir = folder.join("tokens");
            experiment::extract(&recipe, &prepared, &*backbone, &dir, None, &mut |_| {
                ControlFlow::Continue(())
            })?;
            store = Some(TokenStore::open(&dir)?);
        }
        let Some(store) = &store else { continue };
        let training = Training {
            recipe: &recipe,
            prepared: &prepared,
            store,
            seed: 1,
            device: &Device::flex(),
            folder: None,
            resume: false,
            ranks: &epsilon::ranks::Alone,
        };
        let model = training.run(&mut |_| ControlFlow::Continue(()))?;
        let shares = measure(&model, &scenes, &*backbone, test)?;
        for (map, means) in &shares {
            if map != AREA {
                println!(
                    "| {name} | {map} | {} | {} |",
                    means[0].print(),
                    means[1].print()
                );
            }
        }
        if name == METHODS[METHODS.len() - 1].0 {
            let [seen, unseen] = &shares[AREA];
            println!(
                "| the object's area | | {} | {} |",
                seen.print(),
                unseen.print()
            );
        }
    }
    Ok(())
}

const AREA: &str = "area";

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn print(&self) -> String {
        format!("{:.1}", 100.0 * self.sum / self.count.max(1) as f64)
    }
}

/// By what a map shows, the share of it inside an object's pixels, for seen and for unseen labels; and the area.
fn measure(
    model: &Model,
    scenes: &Scenes,
    backbone: &dyn Backbone,
    pictures: u32,
) -> Outcome<BTreeMap<String, [Mean; 2]>> {
    let device = Device::flex();
    let scorer = model.scorer(model.vectors(), &device)?;
    let size = scenes.options().size;
    let preprocess = &backbone.info().preprocess;
    let mut shares: BTreeMap<String, [Mean; 2]> = BTreeMap::new();
    for index in 0..pictures {
        let scene = scenes.draw(Split::Test, index);
        let picture = RgbImage::from_raw(size, size, scene.pixels).ok_or("a picture's size")?;
        let mut pixels = vec![0.0; preprocess.len()];
        preprocess.apply(&picture, &mut pixels);
        let mut features = Features::default();
        backbone.forward(&pixels, 1, &mut features)?;
        for (number, object) in scene.objects.iter().enumerate() {
            let inside: Vec<bool> = scene
                .mask
                .iter()
                .map(|&m| usize::from(m) == number + 1)
                .collect();
            let covered = inside.iter().filter(|&&inside| inside).count();
            if covered == 0 {
                continue;
            }
            let side = usize::from(object.label >= scenes.seen());
            let mut add = |what: &str, share: f64| {
                shares.entry(what.into()).or_default()[side].add(share);
            };
            add(AREA, covered as f64 / inside.len() as f64);
            let Features { tokens, global } = features.clone();
            for map in scorer.maps(tokens, global, object.label) {
                add(map.what, share_inside(&map, preprocess, [size; 2], &inside));
            }
        }
    }
    Ok(shares)
}

fn recipe(folder: &Path, method: &str, rate: f64) -> Outcome<Recipe> {
    let text = format!(
        "[data]\ntable = 'data/labels.tsv'\nimages = 'data'\nseen = 'data/seen.txt'\nunseen = 'data/unseen.txt'\n\
         vectors = 'data/vectors.txt'\n[backbone]\nweights = 'backbone.safetensors'\n[method]\n{method}\n[training]\n\
         epochs = 15\nbatch = 16\nlearning-rate = {rate}\nschedule = {{ kind = 'cosine', floor = 0.05 }}\n\
         optimiser = {{ kind = 'adam', weight-decay = 0.0 }}\n"
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, text)?;
    Ok(Recipe::read(&path)?)
}
