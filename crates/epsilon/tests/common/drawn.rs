// A model of drawn pictures, for the programs in the documentation and the tests of the examples.

/// Draws pictures into `data` of a new folder, extracts their tokens into `tokens`, and trains a method on them:
/// `model.safetensors`. The recipe is in `recipe.toml`.
#[allow(dead_code, reason = "not every test needs both")]
pub fn drawn_model(method: &str) -> Result<tempfile::TempDir, Box<dyn std::error::Error>> {
    use epsilon::experiment::{Training, extract, prepare};
    use std::ops::ControlFlow::Continue;
    let folder = drawn_recipe(method)?;
    let recipe = epsilon::recipe::Recipe::read(&folder.path().join("recipe.toml"))?;
    let prepared = prepare(&recipe)?;
    let weights = folder.path().join("backbone.safetensors");
    let backbone = epsilon::backbone::load_with(&weights, &epsilon::backbone::Options::default())?;
    let tokens = folder.path().join("tokens");
    extract(&recipe, &prepared, &*backbone, &tokens, None, &mut |_| Continue(()))?;
    let training = Training {
        recipe: &recipe,
        prepared: &prepared,
        store: &epsilon::tokens::TokenStore::open(&tokens)?,
        seed: 1,
        device: &epsilon::device::device("cpu")?,
        folder: None,
        resume: false,
        ranks: &epsilon::ranks::Alone,
    };
    let model = training.run(&mut |_| Continue(()))?;
    model.save(&folder.path().join("model.safetensors"))?;
    Ok(folder)
}

/// Draws 60 pictures to train on and 8 to test into `data` of a new folder, with a recipe for them, `recipe.toml`.
#[allow(dead_code, reason = "not every test needs both")]
pub fn drawn_recipe(method: &str) -> Result<tempfile::TempDir, Box<dyn std::error::Error>> {
    use epsilon::dataset::scenes::{SceneOptions, Scenes};
    let folder = tempfile::tempdir()?;
    Scenes::new(SceneOptions::default())?.write(&folder.path().join("data"), 60, 8)?;
    let weights = folder.path().join("backbone.safetensors");
    std::fs::write(&weights, epsilon::backbone::BUILT_IN)?;
    let recipe = format!(
        r#"
        [data]
        table = "data/labels.tsv"
        images = "data"
        seen = "data/seen.txt"
        unseen = "data/unseen.txt"
        vectors = "data/vectors.txt"
        [backbone]
        weights = "backbone.safetensors"
        [method]
        kind = "{method}"
        [training]
        epochs = 1
        batch = 16
        [evaluation]
        protocol = "lesa-nus"
        "#
    );
    std::fs::write(folder.path().join("recipe.toml"), recipe)?;
    Ok(folder)
}
