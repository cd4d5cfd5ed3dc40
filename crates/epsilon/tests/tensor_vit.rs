//! The networks over the tensor framework against the CPU engine, on the small ones of `epsilon-vision`'s tests.

#[path = "common/device.rs"]
mod device;

use std::path::{Path, PathBuf};

use device::device;
use epsilon::backbone::{self, Backbone, Features, Global, Network, Options, Precision, Tokens};
use epsilon::burn::tensor::{Device, FloatDType};
use epsilon::tensor_vgg::TensorVgg;
use epsilon::tensor_vit::{TensorVit, load_on};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../epsilon-vision/tests/fixtures")
}

#[test]
fn every_vision_transformer_gives_what_the_cpu_engine_gives() {
    for name in [
        "vit",
        "dinov2",
        "dinov2_registers",
        "timm_dinov2.safetensors",
        "timm_dinov2_registers.safetensors",
        "clip",
        "open_clip",
    ] {
        agree(&format!("backbones/{name}"), &Options::default(), 1e-4);
    }
    let projected = Options {
        tokens: Tokens::Projected,
        ..Options::default()
    };
    agree("backbones/clip", &projected, 1e-4);
    agree("siglip/siglip", &Options::default(), 1e-4);
    agree("siglip/siglip2", &projected, 1e-4);
}

#[test]
fn every_vgg_gives_what_the_cpu_engine_gives() {
    let classes = Options {
        global: Global::Classes,
        ..Options::default()
    };
    for name in ["backbones/vgg19.pth", "backbones/vgg19_bn.pth"] {
        agree(name, &Options::default(), 1e-4);
        agree(name, &classes, 1e-4);
    }
}

/// Batches that are handed over one after the other, and fetched then, are those that each gives alone.
#[test]
fn the_next_images_are_handed_over_before_features_are_fetched() {
    for name in ["backbones/vit", "backbones/vgg19.pth"] {
        let network = load_on(&fixtures().join(name), &Options::default(), &device()).unwrap();
        let length = network.info().preprocess.len();
        let images: Vec<f32> = (0..5 * length).map(|i| (i as f32 * 0.37).sin()).collect();
        let (first, second) = images.split_at(3 * length);
        let run = |images: &[f32], count| {
            let mut out = Features::default();
            network.forward(images, count, &mut out).unwrap();
            out
        };
        let alone = [run(first, 3), run(second, 2)];
        let mut ahead = [Features::default(), Features::default()];
        let [one, other] = [(first, 3), (second, 2)].map(|(images, count)| {
            let mut out = Features::default();
            let pending = network.start(images, count, &mut out).unwrap();
            // On the CPU they are there at once.
            pending.unwrap_or_else(|| {
                Box::new(move |to| {
                    *to = out;
                    Ok(())
                })
            })
        });
        one(&mut ahead[0]).unwrap();
        other(&mut ahead[1]).unwrap();
        for (ahead, alone) in ahead.iter().zip(&alone) {
            near(&ahead.tokens, &alone.tokens, 1e-5, name);
            near(&ahead.global, &alone.global, 1e-5, name);
        }
        let on_cpu = device() == Device::flex();
        assert!(!on_cpu || network.device_batch().is_none());
    }
}

/// In half precision a token points where that in f32 does; what a device does not compute in is refused by name.
#[test]
fn half_precision_keeps_the_direction_of_every_token() {
    let device = device();
    if device == Device::flex() {
        return println!("skipped: EPSILON_TEST_DEVICE names no other device");
    }
    let of = |name: &str, precision| {
        let options = Options {
            precision,
            ..Options::default()
        };
        load_on(&fixtures().join("backbones").join(name), &options, &device)
    };
    for (precision, kind) in [
        (Precision::F16, Some(FloatDType::F16)),
        (Precision::Bf16, Some(FloatDType::BF16)),
        (Precision::Int8, None),
    ] {
        if !kind.is_some_and(|kind| device.supports_dtype(kind)) {
            let error = of("vit", precision).err().unwrap().to_string();
            assert!(error.contains(&precision.to_string()), "{error}");
            println!("{precision}: not on this device");
            continue;
        }
        assert!(of("vgg19.pth", precision).is_err());
        for name in ["vit", "dinov2", "clip"] {
            let [half, whole] = [precision, Precision::F32].map(|precision| {
                let network = of(name, precision).unwrap();
                assert_eq!(network.info().precision, precision);
                let length = network.info().preprocess.len();
                let images: Vec<f32> = (0..2 * length).map(|i| (i as f32 * 0.37).sin()).collect();
                let mut out = Features::default();
                network.forward(&images, 2, &mut out).unwrap();
                (out.tokens, network.info().dim)
            });
            let rows = half
                .0
                .chunks_exact(half.1)
                .zip(whole.0.chunks_exact(whole.1));
            let cosines = rows.map(|(a, b)| cosine(a, b));
            // Not `min`, which would let a NaN pass.
            let short = cosines.map(|cosine| (1.0 - cosine).abs());
            let least = 1.0 - short.max_by(f32::total_cmp).unwrap();
            println!("{name} in {precision}: the least cosine is {least:.6}");
            assert!(least > 0.999, "{name}: {least}");
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn agree(name: &str, options: &Options, tolerance: f32) {
    let path = fixtures().join(name);
    let engine = backbone::load_with(&path, options).unwrap();
    let tensors: Box<dyn Backbone> = match backbone::read(&path, options).unwrap() {
        Network::Vit(weights) => Box::new(TensorVit::new(&weights, &device(), None)),
        Network::Vgg(weights) => Box::new(TensorVgg::new(&weights, &device())),
    };
    let length = engine.info().preprocess.len();
    let images: Vec<f32> = (0..2 * length).map(|i| (i as f32 * 0.37).sin()).collect();
    let run = |network: &dyn Backbone| {
        let mut out = Features::default();
        network.forward(&images, 2, &mut out).unwrap();
        [out.tokens, out.global]
    };
    for (ours, theirs) in run(&*tensors).iter().zip(&run(&*engine)) {
        near(ours, theirs, tolerance, name);
    }
}

/// Of the largest value there: a VGG's have no fixed scale.
fn near(ours: &[f32], theirs: &[f32], tolerance: f32, name: &str) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    // Not `max`, which would let a NaN pass.
    let scale = theirs
        .iter()
        .fold(1.0f32, |top, value| top.max(value.abs()));
    let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    let worst = apart.max_by(f32::total_cmp).unwrap_or_default();
    assert!(
        worst <= tolerance * scale,
        "{name}: {worst} apart at scale {scale}"
    );
}
