//! Bundles through the library: alone in an empty folder they rank as their model did, and damage is an error, never a panic.

use std::fs;
use std::path::Path;

use epsilon::Predictor;
use epsilon::model::{Model, Ranking};
use epsilon::predictor::{BundleOptions, is_bundle};

include!("common/drawn.rs");

const PHOTOS: usize = 8;

fn rankings(predictor: &Predictor, photos: &[Vec<u8>], words: &[String]) -> Vec<Ranking> {
    let labels = predictor.labels(words.to_vec()).unwrap();
    let photos = photos
        .iter()
        .map(|photo| epsilon::predictor::Photo::Bytes(photo));
    let ranked = predictor.rank_all(photos, &labels).unwrap();
    ranked.into_iter().map(Result::unwrap).collect()
}

/// The largest difference of two scores of one label.
fn far(a: &[Ranking], b: &[Ranking]) -> f32 {
    let mut most = 0.0_f32;
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.len(), b.len());
        for label in a.iter() {
            let other = b.iter().find(|other| other.name == label.name).unwrap();
            most = most.max((label.score - other.score).abs());
        }
    }
    most
}

fn bundle(model: &Path, out: &Path, exact: bool) -> Predictor {
    let options = BundleOptions {
        exact,
        ..BundleOptions::default()
    };
    let predictor = Predictor::load(model).unwrap();
    predictor.bundle(out, &options).unwrap();
    predictor
}

#[test]
fn a_bundle_alone_ranks_as_its_model() {
    for method in ["epsilon", "ridge"] {
        let made = drawn_model(method).unwrap();
        let alone = tempfile::tempdir().unwrap();
        let at = |name: &str| alone.path().join(name);
        let photo = |number: usize| made.path().join(format!("data/test/{number:06}.png"));
        let photos: Vec<Vec<u8>> = (0..PHOTOS).map(|n| fs::read(photo(n)).unwrap()).collect();
        // Words that are no labels.
        let vectors = made.path().join("data/vectors.txt");
        let text = fs::read_to_string(&vectors).unwrap();
        let rest = |line: &str| line.split_once(' ').unwrap().1.to_string();
        let others = ["sun", "moon"].iter().zip(text.lines().rev());
        let others: String = others
            .map(|(word, line)| format!("{word} {}\n", rest(line)))
            .collect();
        fs::write(&vectors, text.clone() + &others).unwrap();
        let model = made.path().join("model.safetensors");
        let predictor = bundle(&model, &at("exact"), true);
        bundle(&model, &at("rounded"), false);
        assert!(is_bundle(&at("exact")).unwrap() && !is_bundle(&model).unwrap());
        let mut words = predictor.model().card().labels().to_vec();
        words.extend(["sun", "sun moon"].map(String::from));
        let before = rankings(&predictor, &photos, &words);
        drop((predictor, made));
        let exact = Predictor::load(at("exact")).unwrap();
        assert_eq!(rankings(&exact, &photos, &words), before);
        let rounded = Predictor::load(at("rounded")).unwrap();
        let far = far(&rankings(&rounded, &photos, &words), &before);
        assert!(far > 0.0 && far < 0.02, "{method}: {far}");
    }
}

#[test]
fn a_card_is_written_anew_and_the_rest_stays() {
    let made = drawn_model("ridge").unwrap();
    let path = made.path().join("m.epsilon");
    bundle(&made.path().join("model.safetensors"), &path, false);
    let before = fs::read(&path).unwrap();
    let device = epsilon::device::device("cpu").unwrap();
    let model = Model::load(&path, &device).unwrap();
    let level = epsilon::cpu::level().unwrap().to_string();
    assert_eq!(model.card().cpu(), Some(level.as_str()), "what trained it");
    let read = epsilon_data::files::sha256(&before);
    model.update(&path, &read).unwrap();
    assert!(fs::read(&path).unwrap() == before);
}

/// What a training wrote while a model was calibrated is not overwritten, nor is a bundle given another's card.
#[test]
fn a_newer_model_in_the_place_stays() {
    let made = drawn_model("ridge").unwrap();
    let path = made.path().join("model.safetensors");
    let bundled = made.path().join("m.epsilon");
    bundle(&path, &bundled, false);
    let device = epsilon::device::device("cpu").unwrap();
    let other = drawn_model("epsilon").unwrap();
    let newer = fs::read(other.path().join("model.safetensors")).unwrap();
    for path in [&path, &bundled] {
        let read = epsilon_data::files::sha256_of(path).unwrap();
        let model = Model::load(path, &device).unwrap();
        fs::write(path, &newer).unwrap();
        let refused = model.update(path, &read).unwrap_err().to_string();
        assert!(refused.contains("another model now"), "{refused}");
        assert!(fs::read(path).unwrap() == newer);
    }
}

#[test]
fn cuts_and_flipped_bits_are_errors_that_name_the_file() {
    let made = drawn_model("ridge").unwrap();
    let path = made.path().join("m.epsilon");
    bundle(&made.path().join("model.safetensors"), &path, false);
    let bytes = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = Predictor::load(&path)
            .err()
            .unwrap_or_else(|| panic!("{what}"));
        assert!(error.to_string().contains("m.epsilon"), "{what}: {error}");
    };
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let places = (0..header)
        .step_by(97)
        .chain((header..bytes.len()).step_by(bytes.len() / 30));
    for place in places.chain(0..16) {
        let mut other = bytes.clone();
        other[place] ^= 1 << (place % 8);
        refused(&other, &format!("bit of byte {place}"));
    }
    for cut in (0..bytes.len()).step_by(bytes.len() / 40) {
        refused(&bytes[..cut], &format!("cut at {cut}"));
    }
}
