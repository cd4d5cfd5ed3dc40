//! Times a device: images a second through a backbone, and Epsilon's training step, for `bench/gpu.sh`;
//! `bench/peer_device.py` is the same in PyTorch. Pixels and tokens are random and in memory, so only the device counts.
//!
//! `--weights FILE --device NAME [--images 32] [--rounds 10]` and those of the training step (`--batch`, `--dim` ..). Where there is
//! no such file, a ViT-B/16 of random weights is written there. Prints one line of JSON: `images_per_second` and `step_seconds`,
//! medians over the rounds; `images_per_second_in_a_stream`, where each batch but the last is fetched after the next one was handed
//! over; and `first_batch_seconds` and `first_step_seconds`, with whatever the device compiles or tries out at first.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::path::Path;
use std::time::Instant;

use epsilon::backbone::{Backbone, Features, Options, Pending};
use epsilon::device::device;
use epsilon::tensor_vit::load_on;
use epsilon::tokens::usual_batch;
use epsilon_bench::step::{NAMES, Step, normal};
use epsilon_bench::{Arguments, Outcome};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The first and the median of some runs of `work`, in seconds.
fn times(rounds: usize, mut work: impl FnMut() -> Outcome<()>) -> Outcome<[f64; 2]> {
    let mut run = || -> Outcome<f64> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let first = run()?;
    let mut all = Vec::new();
    for _ in 0..rounds.max(1) {
        all.push(run()?);
    }
    all.sort_by(f64::total_cmp);
    Ok([first, all[all.len() / 2]])
}

/// Images a second where each batch but the last is fetched after the next one was handed over, as extraction does.
fn stream(backbone: &dyn Backbone, pixels: &[f32], images: usize, rounds: usize) -> Outcome<f64> {
    let start = Instant::now();
    let (mut out, mut before) = (Features::default(), None::<Pending>);
    for _ in 0..rounds.max(1) {
        let next = backbone.start(pixels, images, &mut out)?;
        if let Some(before) = std::mem::replace(&mut before, next) {
            before(&mut out)?;
        }
    }
    if let Some(last) = before {
        last(&mut out)?;
    }
    Ok((images * rounds.max(1)) as f64 / start.elapsed().as_secs_f64())
}

/// A ViT-B/16 with timm's names, at a scale at which every linear map keeps its input's size.
fn make(path: &Path) -> Outcome<()> {
    const WIDTH: usize = 768;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut put = |name: String, shape: &[usize], middle: f32, spread: f32| {
        let values = normal(shape.iter().product(), &mut rng).into_iter();
        let bytes = values.flat_map(|value| (middle + spread * value).to_le_bytes());
        tensors.push((name, shape.to_vec(), bytes.collect()));
    };
    put("cls_token".into(), &[1, 1, WIDTH], 0.0, 0.5);
    put("pos_embed".into(), &[1, 197, WIDTH], 0.0, 0.5);
    let mut linear = |name: String, shape: &[usize]| {
        let inputs: usize = shape[1..].iter().product();
        let spread = (inputs as f32).sqrt().recip();
        put(format!("{name}.weight"), shape, 0.0, spread);
        put(format!("{name}.bias"), &shape[..1], 0.0, 0.1);
    };
    linear("patch_embed.proj".into(), &[WIDTH, 3, 16, 16]);
    for block in 0..12 {
        for (part, outputs, inputs) in [
            ("attn.qkv", 3 * WIDTH, WIDTH),
            ("attn.proj", WIDTH, WIDTH),
            ("mlp.fc1", 4 * WIDTH, WIDTH),
            ("mlp.fc2", WIDTH, 4 * WIDTH),
        ] {
            linear(format!("blocks.{block}.{part}"), &[outputs, inputs]);
        }
    }
    let norms =
        (0..12).flat_map(|block| ["norm1", "norm2"].map(|part| format!("blocks.{block}.{part}")));
    for name in norms.chain(["norm".to_string()]) {
        put(format!("{name}.weight"), &[WIDTH], 1.0, 0.1);
        put(format!("{name}.bias"), &[WIDTH], 0.0, 0.1);
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views: Outcome<Vec<_>> = views.collect();
    safetensors::serialize_to_file(views?, None, path)?;
    Ok(())
}

fn main() -> Outcome<()> {
    let known: Vec<&str> = NAMES
        .iter()
        .copied()
        .chain(["weights", "images", "rounds"])
        .collect();
    let arguments = Arguments::read(&known)?;
    let name = arguments.get("device", String::from("cpu"))?;
    let rounds = arguments.get("rounds", 10)?;
    let images = arguments.get("images", 32)?;
    let weights = arguments.get("weights", String::new())?;
    let weights = Path::new(&weights);
    if !weights.exists() {
        make(weights)?;
    }
    let backbone = load_on(weights, &Options::default(), &device(&name)?)?;
    let length = images * backbone.info().preprocess.len();
    let pixels: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut out = Features::default();
    let [first_batch, batch] = times(rounds, || Ok(backbone.forward(&pixels, images, &mut out)?))?;
    let stream = stream(&*backbone, &pixels, images, rounds)?;
    let mut step = Step::new(&arguments)?;
    let [first_step, step] = times(rounds, || {
        step.run();
        Ok(())
    })?;
    let line = serde_json::json!({
        "device": name, "images": images, "rounds": rounds,
        "usual_batch": usual_batch(&*backbone), "first_batch_seconds": first_batch,
        "images_per_second": images as f64 / batch, "images_per_second_in_a_stream": stream,
        "first_step_seconds": first_step, "step_seconds": step,
    });
    println!("{line}");
    Ok(())
}
