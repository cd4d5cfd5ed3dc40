//! Networks of every family taken out of their files: in one file of tensors they are the same to the bit, or rounded, and damage
//! is seen.

use std::fs;
use std::path::{Path, PathBuf};

use epsilon_data::formats::numbers::Number;
use epsilon_data::formats::sealed::{self, Tensor};
use epsilon_vision::backbone::{
    self, BUILT_IN, BackboneError, Features, Global, Options, Packed, Tokens, load_with, pack,
};
use safetensors::Dtype;

const NETWORKS: [&str; 14] = [
    "backbones/clip",
    "backbones/open_clip",
    "backbones/deit_distilled",
    "backbones/dinov2",
    "backbones/dinov2_classifier",
    "backbones/dinov2_registers",
    "backbones/timm_dinov2.safetensors",
    "backbones/timm_dinov2_registers.safetensors",
    "backbones/timm_distilled.safetensors",
    "backbones/timm_gap.safetensors",
    "backbones/vgg19.pth",
    "backbones/vgg19_bn.pth",
    "backbones/vit",
    "siglip/siglip",
];

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    folder.join(name)
}

/// Writes a packed network among tensors that are none of its own.
fn write(path: &Path, packed: &Packed) {
    let mut tensors = packed.tensors.clone();
    tensors.push(Tensor::of_f32("weight.pos_embed", &[1], &[1.0]));
    tensors.push(Tensor::of_f32("label_vectors", &[1], &[1.0]));
    let metadata = packed.metadata.clone();
    sealed::write(path, &tensors, metadata.into()).unwrap();
}

fn features(path: &Path, options: &Options) -> (backbone::BackboneInfo, Features) {
    let network = load_with(path, options).unwrap();
    let length = 2 * network.info().preprocess.len();
    let images: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut out = Features::default();
    network.forward(&images, 2, &mut out).unwrap();
    (network.info().clone(), out)
}

/// How far two vectors are apart, as a share of the first one's length.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
    let lost = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    (lost / square(&mut a.iter().copied())).sqrt()
}

#[test]
fn every_family_is_the_same_in_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("packed");
    let mut rounded = 0;
    for name in NETWORKS {
        let path = fixture(name);
        let classes = backbone::check(&path, &Options::default()).unwrap().classes;
        let mut choices = vec![Options::default()];
        if classes.is_some() {
            choices.push(Options {
                global: Global::Classes,
                ..Options::default()
            });
        }
        if name.contains("clip") || name.contains("siglip") {
            choices.push(Options {
                tokens: Tokens::Projected,
                ..Options::default()
            });
        }
        for options in choices {
            let (info, before) = features(&path, &options);
            let exact = pack(&path, &options, false).unwrap();
            assert!(!exact.rounded && exact.source_sha256 == info.weights_sha256);
            write(&place, &exact);
            let (there, after) = features(&place, &options);
            assert_eq!(there.difference(&info), None, "{name}");
            assert_eq!(after, before, "{name} {options:?}");
            let half = pack(&path, &options, true).unwrap();
            write(&place, &half);
            let (there, after) = features(&place, &options);
            assert_eq!(there.difference(&half.info), None, "{name}");
            assert_eq!(half.rounded, there.weights_sha256 != info.weights_sha256);
            let far =
                apart(&before.tokens, &after.tokens).max(apart(&before.global, &after.global));
            assert!(far < 5e-3, "{name}: {far}");
            // Some fixtures are in f16 already.
            assert_eq!(half.rounded, far > 0.0, "{name}");
            rounded += usize::from(half.rounded);
            // Packed again nothing is lost any more.
            let again = pack(&place, &options, true).unwrap();
            assert_eq!(again.info.weights_sha256, half.info.weights_sha256);
        }
    }
    // Their values are all such that f16 holds them.
    assert_eq!(rounded, 0);
}

#[test]
fn values_that_f16_does_not_hold_are_rounded_and_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let [finer, place] = ["finer", "packed"].map(|name| folder.path().join(name));
    let options = Options::default();
    let mut packed = pack(&fixture("backbones/timm_gap.safetensors"), &options, false).unwrap();
    for tensor in &mut packed.tensors {
        let number = match tensor.dtype {
            Dtype::F16 => Number::F16,
            Dtype::BF16 => Number::Bf16,
            _ => Number::F32,
        };
        let values = number.read(&tensor.bytes).into_iter();
        let values: Vec<f32> = values.map(|value| value * 1.000_3).collect();
        *tensor = Tensor::of_f32(&*tensor.name, &tensor.shape, &values);
    }
    write(&finer, &packed);
    let (info, before) = features(&finer, &options);
    let half = pack(&finer, &options, true).unwrap();
    write(&place, &half);
    let (there, after) = features(&place, &options);
    assert!(half.rounded && there.weights_sha256 != info.weights_sha256);
    let far = apart(&before.tokens, &after.tokens);
    assert!(far > 0.0 && far < 5e-3, "{far}");
}

#[test]
fn what_the_text_tower_has_stays_behind() {
    let packed = pack(&fixture("backbones/clip"), &Options::default(), false).unwrap();
    let names: Vec<&str> = packed.tensors.iter().map(|t| &*t.name).collect();
    assert!(names.contains(&"backbone.visual_projection.weight"));
    assert!(!names.iter().any(|name| name.contains("text")), "{names:?}");
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (source, path) = (
        folder.path().join("vit.safetensors"),
        folder.path().join("packed"),
    );
    fs::write(&source, BUILT_IN).unwrap();
    write(&path, &pack(&source, &Options::default(), true).unwrap());
    let bytes = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| -> BackboneError {
        fs::write(&path, bytes).unwrap();
        let refused = backbone::load(&path).err().unwrap();
        let text = refused.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        refused
    };
    // Bits of the header and of the tensors, and cuts.
    let places = (0..2000).chain((2000..bytes.len()).step_by(bytes.len() / 50));
    for place in places.step_by(7) {
        let mut other = bytes.clone();
        other[place] ^= 1 << (place % 8);
        refused(&other);
    }
    for cut in (0..bytes.len()).step_by(bytes.len() / 40) {
        refused(&bytes[..cut]);
    }
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    assert!(matches!(refused(&other), BackboneError::Damaged { .. }));
}
