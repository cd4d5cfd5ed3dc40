//! Trains a model from a recipe with seed 1 and measures it on the test images.
//!
//! `cargo run --release -p epsilon-zsl --example train_recipe -- RECIPE FOLDER`

use std::error::Error;
use std::ops::ControlFlow::Continue;
use std::path::Path;

use epsilon::Experiment;
use epsilon::experiment::Figures;
use epsilon::recipe::Recipe;

/// Keeps tokens, model and figures in the folder; what is there of an earlier run is used again.
pub(crate) fn train(recipe: &Path, folder: &Path) -> Result<Figures, Box<dyn Error>> {
    let mut experiment = Experiment::open(Recipe::read(recipe)?, folder)?;
    Ok(experiment.run(1, &mut |_| Continue(()))?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, folder] = &arguments[..] else {
        return Err("usage: train_recipe RECIPE FOLDER".into());
    };
    for (labels, figures) in train(recipe.as_ref(), folder.as_ref())?.parts() {
        println!("{:<8}mAP {:.1} %", labels.name(), 100.0 * figures.map);
    }
    Ok(())
}
