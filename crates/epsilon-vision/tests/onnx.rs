//! Backbones on ONNX Runtime beside this program's own engine, for every way to tokens and a global vector. `.ci/engines` gets the
//! library and runs this.
#![cfg(feature = "onnxruntime")]

use std::path::{Path, PathBuf};

use epsilon_vision::backbone::{
    BUILT_IN, Engine, Features, Global, Options, Precision, Provider, Tokens, load_with,
};

/// Whether the library is named; says so where it is not.
fn is_there() -> bool {
    let named = std::env::var_os("ORT_DYLIB_PATH").is_some();
    if !named {
        eprintln!("skipped: ORT_DYLIB_PATH names no ONNX Runtime");
    }
    named
}

fn on(provider: Provider, options: &Options) -> Options {
    Options {
        engine: Engine::OnnxRuntime(provider),
        ..options.clone()
    }
}

#[test]
fn its_tokens_are_those_of_our_own_engine() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let built_in = folder.path().join("vit.safetensors");
    std::fs::write(&built_in, BUILT_IN).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let classes = Options {
        global: Global::Classes,
        ..Options::default()
    };
    let projected = Options {
        tokens: Tokens::Projected,
        ..Options::default()
    };
    let cases: [(PathBuf, Options); 9] = [
        (built_in, Options::default()),
        (
            fixtures.join("backbones/timm_distilled.safetensors"),
            Options::default(),
        ),
        (
            fixtures.join("backbones/timm_distilled.safetensors"),
            classes.clone(),
        ),
        (fixtures.join("backbones/dinov2_classifier"), classes),
        (fixtures.join("backbones/clip"), Options::default()),
        (fixtures.join("backbones/clip"), projected.clone()),
        (fixtures.join("siglip/siglip"), Options::default()),
        (fixtures.join("siglip/siglip2"), projected.clone()),
        (fixtures.join("siglip/siglip"), projected),
    ];
    for (path, options) in cases {
        let ours = load_with(&path, &options).unwrap();
        let theirs = load_with(&path, &on(Provider::Cpu, &options)).unwrap();
        assert_eq!(ours.info(), theirs.info());
        // The numbers of images change from batch to batch.
        for count in [2, 1, 3] {
            let length = count * ours.info().preprocess.len();
            let images: Vec<f32> = (0..length)
                .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
                .collect();
            let (mut a, mut b) = (Features::default(), Features::default());
            ours.forward(&images, count, &mut a).unwrap();
            theirs.forward(&images, count, &mut b).unwrap();
            for (a, b) in [(&a.tokens, &b.tokens), (&a.global, &b.global)] {
                assert_eq!(a.len(), b.len(), "{}", path.display());
                let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
                let worst = apart.max_by(f32::total_cmp).unwrap_or_default();
                assert!(worst < 1e-4, "{}: {worst} apart", path.display());
            }
        }
        assert!(
            theirs
                .forward(&[0.0; 5], 1, &mut Features::default())
                .is_err()
        );
    }
}

#[test]
fn what_it_cannot_do_is_refused_by_name() {
    if !is_there() {
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backbones");
    let refused = |name: &str, options: &Options| {
        let loaded = load_with(&fixtures.join(name), options);
        loaded.err().map(|error| error.to_string()).unwrap()
    };
    let clip = Options::default();
    let bf16 = Options {
        precision: Precision::Bf16,
        ..on(Provider::Cpu, &clip)
    };
    let said = refused("clip", &bf16);
    assert!(said.contains("give \"f32\""), "{said}");
    // The library for the CPU has no CUDA.
    let said = refused("clip", &on(Provider::Cuda, &clip));
    assert!(said.starts_with("ONNX Runtime: "), "{said}");
}
