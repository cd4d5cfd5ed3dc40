//! SigLIP and SigLIP 2 against tiny networks and tokenizers of transformers (`fixtures/siglip`), and against damaged ones.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use epsilon_vision::backbone::{self, Features, Options, Pairing, TextTower, Tokens};
use epsilon_vision::image::{Filter, Fit};
use proptest::prelude::*;
use safetensors::SafeTensors;

const NAMES: [&str; 2] = ["siglip", "siglip2"];

/// Positions of the text towers.
const LENGTH: usize = 16;

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/siglip");
    folder.join(name)
}

fn json<T: for<'a> serde::Deserialize<'a>>(name: &str) -> T {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

/// What transformers gave, by name.
fn expected(name: &str) -> HashMap<String, Vec<f32>> {
    let bytes = fs::read(fixture(name).join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    let values = tensors.map(|(name, tensor)| {
        let (quads, _) = tensor.data().as_chunks::<4>();
        (name, quads.iter().map(|x| f32::from_le_bytes(*x)).collect())
    });
    values.collect()
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

fn images(name: &str, tokens: Tokens) -> Features {
    let options = Options {
        tokens,
        ..Options::default()
    };
    let network = backbone::load_with(&fixture(name), &options).unwrap();
    assert_eq!(network.info().options(), options);
    let (mut out, input) = (Features::default(), &expected(name)["input"]);
    let count = input.len() / network.info().preprocess.len();
    network.forward(input, count, &mut out).unwrap();
    out
}

#[test]
fn images_plain_and_projected() {
    for name in NAMES {
        let all = expected(name);
        let plain = images(name, Tokens::Plain);
        assert_close("tokens", &plain.tokens, &all["tokens"]);
        assert_close("global", &plain.global, &all["global"]);
        let projected = images(name, Tokens::Projected);
        assert_close("projected", &projected.tokens, &all["projected"]);
        assert_eq!(projected.global, plain.global);
    }
    let info = |name: &str| backbone::load(&fixture(name)).unwrap().info().clone();
    let (first, second) = (info("siglip"), info("siglip2"));
    assert_eq!(
        (first.grid, first.dim, first.global_dim()),
        ((3, 3), 32, 32)
    );
    assert_eq!(
        (first.preprocess.fit, first.preprocess.mean),
        (Fit::Squash, [0.5; 3])
    );
    assert_eq!(first.preprocess.filter, Filter::Bicubic);
    // Another size than the position embedding's, and another filter, as the folder says.
    assert_eq!((second.grid, second.preprocess.size), ((4, 4), 16));
    assert_eq!(second.preprocess.filter, Filter::Bilinear);
    let check = backbone::check(&fixture("siglip"), &Options::default()).unwrap();
    assert_eq!(check.family.name, "siglip-huggingface");
}

/// A copy of a folder of the fixtures with another tokenizer, or without one.
fn with_tokenizer(name: &str, file: Option<(&str, &[u8])>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["model.safetensors", "config.json"] {
        fs::copy(fixture(name).join(part), folder.path().join(part)).unwrap();
    }
    if let Some((file, bytes)) = file {
        fs::write(folder.path().join(file), bytes).unwrap();
    }
    folder
}

/// Holds the tokens of all texts against transformers' own.
fn same_tokens(tower: &TextTower, name: &str, padding: u32) {
    let texts: Vec<String> = json("texts.json");
    let ids: Vec<Vec<u32>> = json(&format!("{name}_ids.json"));
    assert!(texts.len() > 200 && texts.len() == ids.len());
    for (text, mut ids) in texts.iter().zip(ids) {
        ids.resize(LENGTH, padding);
        assert_eq!(tower.tokens(text).unwrap(), ids, "{text}");
    }
}

#[test]
fn texts_of_ten_scripts_with_every_form_of_tokenizer() {
    let texts: Vec<String> = json("texts.json");
    let texts: Vec<String> = texts.into_iter().step_by(20).collect();
    let check = |what: &str, name: &str, folder: &Path, padding: u32| {
        let tower = TextTower::load(folder, None).unwrap();
        same_tokens(&tower, name, padding);
        let vectors = tower.embed(&texts).unwrap().concat();
        assert_close(what, &vectors, &expected(name)["text"]);
    };
    check("spiece.model", "siglip", &fixture("siglip"), 1);
    check("Gemma's", "siglip2", &fixture("siglip2"), 0);
    let whole = fs::read(fixture("siglip_tokenizer.json")).unwrap();
    let folder = with_tokenizer("siglip", Some(("tokenizer.json", &whole)));
    check("tokenizer.json", "siglip", folder.path(), 1);
}

#[test]
fn logits_and_probabilities_of_pairs() {
    for name in NAMES {
        let all = expected(name);
        let texts: Vec<String> = json("texts.json");
        let texts: Vec<String> = texts.into_iter().step_by(20).collect();
        let tower = TextTower::load(&fixture(name), None).unwrap();
        let pairing = tower.pairing.unwrap();
        assert_eq!(
            backbone::pairing(&fixture(name), None).unwrap(),
            Some(pairing)
        );
        let scale = 3.5f32.exp();
        assert!((pairing.scale / scale - 1.0).abs() < 1e-6);
        assert_eq!(pairing.bias, Some(8.75));
        let unit = |vector: &[f32]| -> Vec<f32> {
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            vector.iter().map(|x| x / length).collect()
        };
        let vectors = tower.embed(&texts).unwrap();
        let mut logits = Vec::new();
        for image in images(name, Tokens::Plain)
            .global
            .chunks_exact(tower.width())
        {
            for text in &vectors {
                let (image, text) = (unit(image), unit(text));
                let cosine: f32 = image.iter().zip(text).map(|(a, b)| a * b).sum();
                logits.push(pairing.logit(cosine));
            }
        }
        assert_close("logits", &logits, &all["logits"]);
        let sigmoid = |x: &f32| 1.0 / (1.0 + (-x).exp());
        let probabilities: Vec<f32> = logits.iter().map(sigmoid).collect();
        assert_close("probabilities", &probabilities, &all["probabilities"]);
    }
    let old: Pairing = serde_json::from_str(r#"{"scale": 100.0}"#).unwrap();
    assert_eq!((old.scale, old.bias), (100.0, None));
}

#[test]
fn text_towers_that_do_not_fit_their_tokenizer() {
    let refused = |name: &str, file: Option<(&str, &[u8])>, part: &str| {
        let folder = with_tokenizer(name, file);
        let error = TextTower::load(folder.path(), None).err().unwrap();
        let text = error.to_string();
        assert!(text.contains(part), "{part} is not in: {text}");
    };
    refused("siglip", None, "spiece.model or tokenizer.json is needed");
    refused(
        "siglip",
        Some(("spiece.model", b"words")),
        "not a sentencepiece model",
    );
    refused("siglip", Some(("tokenizer.json", b"{}")), "not a tokenizer");
    let clip = fs::read(fixture("../backbones/clip_tokenizer.json")).unwrap();
    refused("siglip2", Some(("tokenizer.json", &clip)), "no token <eos>");
    // More tokens than the weights have.
    let gemma = fs::read(fixture("siglip2/tokenizer.json")).unwrap();
    refused(
        "siglip",
        Some(("tokenizer.json", &gemma)),
        "but the weights hold 480",
    );
    let text = String::from_utf8(gemma).unwrap();
    let table = r#""normalizer":{"type":"Precompiled","precompiled_charsmap":""}"#;
    let text = text.replacen(
        r#""normalizer":{"type":"Replace""#,
        &format!(r#"{table},"more":{{"type":"Replace""#),
        1,
    );
    refused(
        "siglip2",
        Some(("tokenizer.json", text.as_bytes())),
        "a compiled table",
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]
    /// Whatever stands in a tokenizer's file: an error that names it, or tokens; never a panic.
    #[test]
    fn damaged_tokenizers_never_panic(
        which in 0usize..3,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        early in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (name, source, file) = [
            ("siglip", "siglip/spiece.model", "spiece.model"),
            ("siglip", "siglip_tokenizer.json", "tokenizer.json"),
            ("siglip2", "siglip2/tokenizer.json", "tokenizer.json"),
        ][which];
        let mut bytes = fs::read(fixture(source)).unwrap();
        let end = if early { bytes.len().min(3000) } else { bytes.len() };
        for (place, value) in places {
            let at = place.index(end);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = with_tokenizer(name, Some((file, &bytes)));
        let tower = TextTower::load(folder.path(), None);
        let tokens = tower.and_then(|tower| tower.tokens("A photo of a zebra, 樹 und Straße"));
        match tokens {
            Ok(tokens) => prop_assert_eq!(tokens.len(), LENGTH),
            Err(error) => prop_assert!(error.to_string().contains(file), "{}", error),
        }
    }
}
