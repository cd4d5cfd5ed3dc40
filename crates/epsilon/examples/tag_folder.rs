//! Tags a folder of photographs with the model's own labels, three a photograph, kept in the folder's `.epsilon`.
//!
//! `cargo run --release -p epsilon-zsl --example tag_folder -- MODEL FOLDER`

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use epsilon::model::Keep;
use epsilon::tagger::{TagEvent, TagOptions, TagReport};
use epsilon::{Predictor, Tagger};

/// Tags what is new in the folder or has changed.
pub(crate) fn tag(model: &Path, folder: &Path) -> Result<TagReport, Box<dyn Error>> {
    let predictor = Predictor::load(model)?;
    let mut tagger = Tagger::open(&predictor, folder, TagOptions::new(Keep::best(3)))?;
    let report = tagger.tag(&mut |event| {
        match event {
            TagEvent::Tagged(entry) => println!("{}", entry.photo),
            TagEvent::Failed(reason) => eprintln!("failed: {reason}"),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(report)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder] = &arguments[..] else {
        return Err("usage: tag_folder MODEL FOLDER".into());
    };
    let report = tag(model.as_ref(), folder.as_ref())?;
    println!("{} tagged, {} failed", report.tagged, report.failed);
    Ok(())
}
