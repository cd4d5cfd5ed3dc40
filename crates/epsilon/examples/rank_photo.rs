//! Ranks words for a photograph.
//!
//! `cargo run --release -p epsilon-zsl --example rank_photo -- MODEL PHOTO WORD...`

use std::error::Error;
use std::path::Path;

use epsilon::Predictor;
use epsilon::model::Ranking;

/// The words, best first.
pub(crate) fn rank(
    model: &Path,
    photo: &Path,
    words: &[String],
) -> Result<Ranking, Box<dyn Error>> {
    // The model names its backbone and its word vectors.
    let predictor = Predictor::load(model)?;
    let labels = predictor.labels(words)?;
    Ok(predictor.rank(photo, &labels)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo, words @ ..] = &arguments[..] else {
        return Err("usage: rank_photo MODEL PHOTO WORD...".into());
    };
    for label in rank(model.as_ref(), photo.as_ref(), words)?.top(5) {
        println!("{:<20}{:.2}", label.name, label.score);
    }
    Ok(())
}
