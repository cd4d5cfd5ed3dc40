//! The recipe that a library is learnt with: the one for small data, with paths and sizes of the library.

use serde::Deserialize;

use epsilon_data::dataset::Source;
use epsilon_vision::backbone::TextTower;

use super::table::{self, Table};
use super::{LearnError, Learner, Network, SEED, store};
use crate::methods::Kind;
use crate::methods::anchor::Anchor;
use crate::recipe::{BackboneSettings, DataSettings, EvaluationSettings, FeatureSettings, Recipe};
use crate::training::TrainingSettings;

/// Method, training and evaluation of `recipes/photos.toml`, without validation: nothing is chosen by it.
const SETTINGS: &str = include_str!("../../assets/learn.toml");
/// Steps of gradient descent that a training has at least, however few photographs there are.
const STEPS: usize = 200;
/// Below so many photographs the backbone's own classes have the greater of the two weights.
const FEW: usize = 200;
const WEIGHT_OF_FEW: f64 = 1.0;
const WEIGHT: f64 = 0.5;

/// Method, training and evaluation that a library is learnt with.
#[derive(Deserialize)]
pub(super) struct Defaults {
    method: Kind,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
}

impl Defaults {
    /// Another recipe's data, learnt so.
    pub(super) fn apply(self, recipe: Recipe) -> Recipe {
        Recipe {
            method: self.method,
            training: self.training,
            evaluation: self.evaluation,
            ..recipe
        }
    }
}

/// What the network is loaded with.
pub(super) fn backbone(network: &Network) -> BackboneSettings {
    BackboneSettings {
        weights: network.weights.clone(),
        tokens: Default::default(),
        precision: Default::default(),
        weights_key: None,
    }
}

/// The recipe of a learner's table.
pub(super) fn of(learner: &Learner, table: &Table) -> Result<Recipe, LearnError> {
    let Defaults {
        method,
        training,
        mut evaluation,
    } = defaults()?;
    evaluation.k_zsl.clear();
    evaluation.k_gzsl.retain(|&k| k <= table.labels());
    let network = &learner.network;
    let vectors = network.vectors()?;
    let anchor = Anchor {
        classes: network.classes.clone(),
        ..Anchor::default()
    };
    let mut recipe = Recipe {
        data: DataSettings {
            source: Source::Table(table::options(learner)),
            vectors: vectors.path.clone(),
            vector_names: vectors.names,
        },
        backbone: Some(backbone(network)),
        features: FeatureSettings {
            store: Some(store::place(&learner.folder)),
            ..FeatureSettings::default()
        },
        method,
        // A text tower compares no classes' names.
        anchor: (!TextTower::is_named(&vectors.path)).then_some(anchor),
        training,
        evaluation,
        seeds: vec![SEED],
    };
    fit_to(&mut recipe, table.trained_on());
    Ok(recipe)
}

/// What depends on the number of images that are trained on: steps of gradient descent, and how much the backbone's own classes
/// add, the more the less there is to learn from.
pub(super) fn fit_to(recipe: &mut Recipe, images: usize) {
    let training = &mut recipe.training;
    training.batch = training.batch.min(images.max(1));
    let steps = (images / training.batch).max(1);
    training.epochs = training.epochs.max(STEPS.div_ceil(steps));
    if let Some(anchor) = &mut recipe.anchor {
        anchor.weight = if images < FEW { WEIGHT_OF_FEW } else { WEIGHT };
    }
}

pub(super) fn defaults() -> Result<Defaults, LearnError> {
    toml::from_str(SETTINGS).map_err(|error| {
        let reason = error.to_string();
        crate::recipe::RecipeError::Form {
            path: "learn.toml".into(),
            reason,
        }
        .into()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_settings_are_those_of_the_recipe_for_small_data() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/photos.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let recipe = Recipe::parse(&path, &text).unwrap();
        let settings = defaults().unwrap();
        assert_eq!(settings.method, recipe.method);
        let training = TrainingSettings {
            validation: 0.0,
            ..recipe.training
        };
        assert_eq!(settings.training, training);
        assert_eq!(
            settings.evaluation.standardise,
            recipe.evaluation.standardise
        );
        assert_eq!(settings.evaluation.protocol, recipe.evaluation.protocol);
    }
}
