//! The Vision Transformers over the tensor framework against the CPU engine, on the small networks of `epsilon-vision`'s tests.

use std::path::Path;

use epsilon::backbone::{self, Backbone, Features};
use epsilon::burn::tensor::Device;
use epsilon::tensor_vit::TensorVit;

#[test]
fn every_vision_transformer_gives_what_the_cpu_engine_gives() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../epsilon-vision/tests/fixtures/backbones");
    for name in [
        "vit",
        "dinov2",
        "dinov2_registers",
        "timm_dinov2.safetensors",
        "timm_dinov2_registers.safetensors",
        "clip",
        "open_clip",
    ] {
        let path = folder.join(name);
        let engine = backbone::load(&path).unwrap();
        let tensors = TensorVit::new(&backbone::load_weights(&path).unwrap(), &Device::flex());
        let length = engine.info().preprocess.len();
        let images: Vec<f32> = (0..2 * length).map(|i| (i as f32 * 0.37).sin()).collect();
        let run = |network: &dyn Backbone| {
            let mut out = Features::default();
            network.forward(&images, 2, &mut out).unwrap();
            [out.tokens, out.global]
        };
        for (ours, theirs) in run(&tensors).iter().zip(&run(&*engine)) {
            assert_eq!(ours.len(), theirs.len(), "{name}");
            let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
            let worst = apart.fold(0.0f32, f32::max);
            assert!(worst < 1e-4, "{name}: {worst} apart");
        }
    }
}
