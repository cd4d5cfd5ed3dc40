//! Every backbone family against tiny networks of transformers, timm and torchvision (`fixtures/backbones`).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use epsilon_vision::backbone::{
    self, Backbone, BackboneError, DifferenceKind, Features, Global, Options, Pairing, Precision,
    TextTower, Tokens,
};
use epsilon_vision::image::{Filter, Fit};
use proptest::prelude::*;
use safetensors::SafeTensors;

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backbones");
    folder.join(name)
}

/// Name to shape and values of what the references gave.
fn expected() -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(fixture("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, tensor)| {
            let (quads, _) = tensor.data().as_chunks::<4>();
            let values = quads.iter().map(|x| f32::from_le_bytes(*x)).collect();
            (name, (tensor.shape().to_vec(), values))
        })
        .collect()
}

fn run(network: &dyn Backbone, images: &[f32]) -> Features {
    let mut out = Features::default();
    let count = images.len() / network.info().preprocess.len();
    network.forward(images, count, &mut out).unwrap();
    out
}

fn assert_close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours.iter().zip(theirs);
    let worst = worst
        .map(|(a, b)| (a - b).abs())
        .max_by(f32::total_cmp)
        .unwrap_or_default();
    assert!(worst < 1e-4, "{what}: {worst} apart");
    let size = theirs.iter().fold(0.0f32, |top, x| top.max(x.abs()));
    assert!(size > 0.1, "{what}: the reference is next to nothing");
}

/// Loads `file` and compares it with the reference's `name`.
fn agrees(file: &str, name: &str) -> Box<dyn Backbone> {
    let all = expected();
    let path = fixture(file);
    let network = backbone::load(&path).unwrap();
    let (_, images) = &all[&format!("{name}.input")];
    let out = run(&*network, images);
    let (shape, tokens) = &all[&format!("{name}.tokens")];
    let info = network.info();
    assert_eq!(shape[1..], [info.tokens, info.dim], "{name}");
    assert_close(&format!("{name} tokens"), &out.tokens, tokens);
    let (_, global) = &all[&format!("{name}.global")];
    assert_close(&format!("{name} global"), &out.global, global);
    network
}

#[test]
fn vit_with_hugging_face_names() {
    let network = agrees("vit", "vit");
    let pre = &network.info().preprocess;
    assert_eq!((pre.size, pre.fit), (12, Fit::Squash));
    assert_eq!((pre.filter, pre.mean), (Filter::Bilinear, [0.5; 3]));
    assert_eq!(network.info().name, "vit");
}

#[test]
fn dinov2_with_and_without_registers_resampled() {
    for name in ["dinov2", "dinov2_registers"] {
        let network = agrees(name, name);
        let pre = &network.info().preprocess;
        assert_eq!(pre.size, 21, "from preprocessor_config.json");
        assert_eq!(pre.fit, Fit::ShorterSide { resize: 29 });
        assert_eq!(network.info().grid, (3, 3));
    }
}

#[test]
fn dinov2_with_timms_names() {
    for name in ["timm_dinov2", "timm_dinov2_registers"] {
        agrees(&format!("{name}.safetensors"), name);
    }
}

#[test]
fn clip_images_under_both_names_plain_and_projected() {
    let all = expected();
    for file in ["clip", "open_clip"] {
        let network = agrees(file, "clip");
        assert_eq!(
            (network.info().dim, network.info().global_dim()),
            (40, 16),
            "{file}"
        );
        assert_eq!(
            network.info().preprocess.fit,
            Fit::ShorterSide { resize: 16 }
        );
        let options = Options {
            tokens: Tokens::Projected,
            ..Options::default()
        };
        let network = backbone::load_with(&fixture(file), &options).unwrap();
        assert_eq!((network.info().dim, network.info().global), (16, None));
        assert_eq!(network.info().options(), options);
        let out = run(&*network, &all["clip.input"].1);
        assert_close("projected", &out.tokens, &all["clip.projected"].1);
        assert_close("global", &out.global, &all["clip.global"].1);
    }
}

#[test]
fn clip_texts_with_every_form_of_tokenizer() {
    let texts: Vec<String> =
        serde_json::from_slice(&fs::read(fixture("texts.json")).unwrap()).unwrap();
    let expected = &expected()["clip.text"].1;
    let check = |what: &str, folder: &Path| {
        let tower = TextTower::load(folder, None).unwrap();
        assert_eq!(tower.width(), 16);
        let vectors = tower.embed(&texts).unwrap().concat();
        assert_close(what, &vectors, expected);
    };
    check("vocabulary and merges", &fixture("clip"));
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        fs::copy(fixture(from), folder.path().join(to)).unwrap();
    };
    copy("clip/model.safetensors", "model.safetensors");
    copy("clip/config.json", "config.json");
    copy("clip_tokenizer.json", "tokenizer.json");
    check("tokenizer.json", folder.path());
    let folder = tempfile::tempdir().unwrap();
    for name in ["open_clip_pytorch_model.bin", "open_clip_config.json"] {
        fs::copy(fixture("open_clip").join(name), folder.path().join(name)).unwrap();
    }
    fs::copy(
        fixture("clip_tokenizer.json"),
        folder.path().join("tokenizer.json"),
    )
    .unwrap();
    check("open_clip", folder.path());
}

#[test]
fn what_a_text_tower_is_named_by() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    // The local header of an archive's first entry, with a name of this length.
    let archive = |name: &[u8]| {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.resize(26, 0);
        bytes.extend([name.len() as u8, 0, 0, 0]);
        [&bytes[..], name].concat()
    };
    let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let networks = [
        PathBuf::from("hf:owner/name"),
        fixture("clip"),
        fixture("clip/model.safetensors"),
        fixture("open_clip/open_clip_pytorch_model.bin"),
        fixture("vgg19.pth"),
        at("model.safetensors.index.json", b"{}"),
        at("new.pt", &archive(b"archive/data.pkl")),
        at("old.pt", legacy),
    ];
    for path in networks {
        assert!(TextTower::is_named(&path), "{}", path.display());
    }
    let others = [
        PathBuf::from("nowhere"),
        fixture("timm_gap.safetensors"),
        fixture("expected.safetensors"),
        at("glove.txt", b"dog 1 2\n"),
        at("empty", b""),
        at("words.npz", &archive(b"arr_0.npy")),
        at("glove.zip", &archive(b"glove.6B.50d.txt")),
        at("cut.zip", &archive(b"archive/data.pkl")[..32]),
        at("words.pickle", b"\x80\x04}."),
        at("word2vec.bin", b"1 1\ndog \0\0\0\0"),
    ];
    for path in others {
        assert!(!TextTower::is_named(&path), "{}", path.display());
    }
}

#[test]
fn text_towers_that_do_not_fit_their_tokenizer() {
    let message = |folder: &Path| TextTower::load(folder, None).err().unwrap().to_string();
    assert!(message(&fixture("vit")).contains("text_model.embeddings.token_embedding.weight"));
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "config.json"] {
        fs::copy(fixture("clip").join(name), folder.path().join(name)).unwrap();
    }
    assert!(message(folder.path()).contains("no tokenizer there"));
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    put("merges.txt", "#version\nab\n");
    put("vocab.json", r#"{"a": 0}"#);
    assert!(message(folder.path()).contains("line 2: not two parts"));
    put("merges.txt", "");
    assert!(message(folder.path()).contains("no token <|startoftext|>"));
    put(
        "vocab.json",
        r#"{"<|startoftext|>": 5, "<|endoftext|>": 9999}"#,
    );
    assert!(message(folder.path()).contains("a token 9999"));
    put("tokenizer.json", "{}");
    assert!(message(folder.path()).contains("not a tokenizer"));
}

#[test]
fn vgg_from_both_of_pytorchs_containers() {
    let all = expected();
    let images: Vec<f32> = (0..2 * 3 * 224 * 224)
        .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
        .collect();
    for name in ["vgg19", "vgg19_bn"] {
        let network = backbone::load(&fixture(&format!("{name}.pth"))).unwrap();
        let info = network.info();
        assert_eq!((info.tokens, info.dim, info.global_dim()), (196, 20, 28));
        assert_eq!(info.preprocess.fit, Fit::ShorterSide { resize: 256 });
        let out = run(&*network, &images);
        assert_close("tokens", &out.tokens, &all[&format!("{name}.tokens")].1);
        assert_close("global", &out.global, &all[&format!("{name}.global")].1);
        let one = run(&*network, &images[3 * 224 * 224..]);
        assert_eq!(one.tokens, out.tokens[196 * 20..], "an image stands alone");
        assert_eq!(one.global, out.global[28..]);
    }
}

/// The scores of a network's own classes, of every family that has them, and how such a backbone is told from the usual.
#[test]
fn scores_of_the_networks_own_classes() {
    let all = expected();
    let images: Vec<f32> = (0..2 * 3 * 224 * 224)
        .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
        .collect();
    for (file, name) in [
        ("vit", "vit"),
        ("deit_distilled", "deit_distilled"),
        ("dinov2_classifier", "dinov2_classifier"),
        ("timm_distilled.safetensors", "timm_distilled"),
        ("timm_gap.safetensors", "timm_gap"),
        ("vgg19.pth", "vgg19"),
    ] {
        let options = Options {
            global: Global::Classes,
            ..Options::default()
        };
        let usual = backbone::load(&fixture(file)).unwrap();
        let network = backbone::load_with(&fixture(file), &options).unwrap();
        let info = network.info();
        let (shape, logits) = &all[&format!("{name}.logits")];
        assert_eq!(
            (info.classes, info.global_dim()),
            (Some(shape[1]), shape[1])
        );
        assert_eq!(info.options(), options, "{name}");
        let images = all.get(&format!("{name}.input")).map_or(&images, |x| &x.1);
        let (ours, usual_out) = (run(&*network, images), run(&*usual, images));
        assert_close(&format!("{name} logits"), &ours.global, logits);
        assert_eq!(ours.tokens, usual_out.tokens, "{name}");
        let difference = info.difference(usual.info()).unwrap();
        assert_eq!(difference.kind, DifferenceKind::Shape);
        assert!(
            difference
                .found
                .contains(&format!("scores of {} classes", shape[1]))
        );
        // What a store wrote before there was a choice.
        let mut text = serde_json::to_value(usual.info()).unwrap();
        assert!(text.as_object_mut().unwrap().remove("classes").is_none());
        assert_eq!(
            &serde_json::from_value::<backbone::BackboneInfo>(text).unwrap(),
            usual.info()
        );
        let check = backbone::check(&fixture(file), &Options::default()).unwrap();
        assert_eq!(check.classes, Some(shape[1]));
    }
    for file in ["clip", "dinov2", "timm_dinov2.safetensors"] {
        let options = Options {
            global: Global::Classes,
            ..Options::default()
        };
        let error = backbone::load_with(&fixture(file), &options).err().unwrap();
        assert!(
            error.to_string().contains("no classifier's head"),
            "{error}"
        );
        let check = backbone::check(&fixture(file), &Options::default()).unwrap();
        assert_eq!(check.classes, None);
    }
}

/// CLIP's logits and probabilities: the softmax over the sentences.
#[test]
fn clip_pairs_as_transformers_scores_them() {
    let all = expected();
    let (tower, network) = (
        TextTower::load(&fixture("clip"), None).unwrap(),
        backbone::load(&fixture("clip")).unwrap(),
    );
    let texts: Vec<String> =
        serde_json::from_slice(&fs::read(fixture("texts.json")).unwrap()).unwrap();
    let unit = |vector: &[f32]| -> Vec<f32> {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / length).collect()
    };
    let (pairing, vectors) = (tower.pairing.unwrap(), tower.embed(&texts).unwrap());
    let (mut logits, mut probabilities) = (Vec::new(), Vec::new());
    let images = run(&*network, &all["clip.input"].1).global;
    for image in images.chunks_exact(tower.width()) {
        let image = unit(image);
        let row = vectors.iter().map(|text| {
            let cosine: f32 = image.iter().zip(unit(text)).map(|(a, b)| a * b).sum();
            pairing.logit(cosine)
        });
        let row: Vec<f32> = row.collect();
        let sum: f32 = row.iter().map(|x| x.exp()).sum();
        probabilities.extend(row.iter().map(|x| x.exp() / sum));
        logits.extend(row);
    }
    assert_close("logits", &logits, &all["clip.logits"].1);
    assert_close(
        "probabilities",
        &probabilities,
        &all["clip.probabilities"].1,
    );
}

#[test]
fn how_pairs_are_scored() {
    let scale = 2.6592f32.exp(); // what transformers starts from
    for file in ["clip", "open_clip"] {
        let found = backbone::pairing(&fixture(file), None).unwrap().unwrap();
        assert!(
            (found.scale / scale - 1.0).abs() < 5e-3,
            "{file}: {found:?}"
        );
        assert_eq!(found.bias, None);
    }
    let tower = TextTower::load(&fixture("clip"), None).unwrap();
    let found = backbone::pairing(&fixture("clip"), None).unwrap();
    assert_eq!(tower.pairing, found);
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(
        serde_json::from_str::<Option<Pairing>>(&text).unwrap(),
        found
    );
    for file in ["vit", "dinov2", "vgg19.pth"] {
        assert_eq!(
            backbone::pairing(&fixture(file), None).unwrap(),
            None,
            "{file}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Whatever stands in a state dict, of any container: an error or a network, never a panic.
    #[test]
    fn damaged_state_dicts_never_panic(
        file in 0usize..3,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        early in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let name = ["vgg19.pth", "vgg19_bn.pth", "open_clip/open_clip_pytorch_model.bin"][file];
        let mut bytes = fs::read(fixture(name)).unwrap();
        // The pickle stands at the beginning, and little of the file is not numbers.
        let end = if early { 4000 } else { bytes.len() };
        for (place, value) in places {
            let at = place.index(end);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        fs::write(&path, bytes).unwrap();
        if let Err(error) = backbone::check(&path, &Options::default()) {
            prop_assert!(error.to_string().contains("weights.pth"), "{}", error);
        }
    }
}

/// Mean cosine of rows of `dim` values.
fn mean_cosine(a: &[f32], b: &[f32], dim: usize) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let pairs = a.chunks_exact(dim).zip(b.chunks_exact(dim));
    let cosines = pairs.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
    cosines.sum::<f32>() / (a.len() / dim) as f32
}

/// Every family in the precisions that this CPU has, against its own f32.
#[test]
fn other_precisions_agree_with_f32() {
    for file in [
        "vit",
        "dinov2_registers",
        "clip",
        "vgg19.pth",
        "vgg19_bn.pth",
        "../siglip/siglip",
    ] {
        let load = |precision| {
            let options = Options {
                precision,
                ..Options::default()
            };
            backbone::load_with(&fixture(file), &options)
        };
        let exact = load(Precision::F32).unwrap();
        let length = 2 * exact.info().preprocess.len();
        let images: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
        let (info, exact) = (exact.info().clone(), run(&*exact, &images));
        for (precision, least) in [(Precision::Bf16, 0.999), (Precision::Int8, 0.98)] {
            let network = match load(precision) {
                Ok(network) => network,
                Err(error) => {
                    assert!(matches!(error, BackboneError::Precision { .. }), "{error}");
                    println!("skipped: {error}");
                    continue;
                }
            };
            assert_eq!(network.info().options().precision, precision);
            let ours = run(&*network, &images);
            let tokens = mean_cosine(&ours.tokens, &exact.tokens, info.dim);
            let global = mean_cosine(&ours.global, &exact.global, info.global_dim());
            assert!(
                tokens > least && global > least,
                "{file} {precision}: {tokens}, {global}"
            );
        }
    }
}
