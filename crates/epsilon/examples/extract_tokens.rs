//! Runs the images of a folder through a backbone and keeps their tokens in a store, which Python's safetensors reads, too.
//!
//! `cargo run --release -p epsilon-zsl --example extract_tokens -- WEIGHTS FOLDER STORE`

use std::error::Error;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

use epsilon::backbone::{self, Download};
use epsilon::library::scan;
use epsilon::tokens::{self, ExtractOptions, TokenStore};

/// An extraction that was interrupted goes on where it stopped.
pub(crate) fn extract(
    weights: &Path,
    folder: &Path,
    store: &Path,
) -> Result<TokenStore, Box<dyn Error>> {
    let options = backbone::Options::default();
    let backbone = backbone::load_with(&backbone::locate(weights, Download::WithBar)?, &options)?;
    let photos = scan(folder).photos.into_iter();
    let items: Vec<(String, PathBuf)> = photos.map(|photo| (photo.id, photo.path)).collect();
    let options = ExtractOptions::default();
    let report = tokens::extract(&items, &*backbone, store, &options, &mut |_| Continue(()))?;
    for failure in &report.failed {
        eprintln!("failed: {}: {}", failure.id, failure.reason);
    }
    Ok(TokenStore::open(store)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, folder, store] = &arguments[..] else {
        return Err("usage: extract_tokens WEIGHTS FOLDER STORE".into());
    };
    let store = extract(weights.as_ref(), folder.as_ref(), store.as_ref())?;
    let (tokens, width) = (store.tokens_per_image(), store.dim());
    println!("{tokens} tokens of {width} values an image");
    Ok(())
}
