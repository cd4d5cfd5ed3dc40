//! The settings of a method and of its training by their names, with their defaults: what a binding to another language offers.

use epsilon_metrics::Protocol;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Estimator, EstimatorError};
use crate::methods::{Fitting, Kind};
use crate::training::{TrainingError, TrainingSettings};

/// A setting of a method or of its training, by its name in recipes.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Whether it is one of the training's.
    pub is_training: bool,
    /// What it is where it is not given, as JSON; none where it must be given.
    pub default: Option<Value>,
}

/// Of the training's settings those that an estimator has no use for: there is no folder for checkpoints, and no label is left out.
const NOT_HERE: [&str; 4] = [
    "checkpoint-steps",
    "validation-labels",
    "validation-folds",
    "choose",
];

/// The settings of a method, and behind them those of its training where it follows gradients. The seed is none of them.
///
/// ```
/// use epsilon::estimator::settings;
///
/// let ridge = settings("ridge").unwrap();
/// assert_eq!((ridge.len(), ridge[0].name), (1, "penalty"));
/// let sdl = settings("sdl").unwrap();
/// assert!(sdl.iter().any(|setting| setting.name == "learning-rate" && setting.is_training));
/// assert!(settings("unheard-of").is_none());
/// ```
pub fn settings(method: &str) -> Option<Vec<Setting>> {
    let fields = Kind::fields(method)?.iter().filter(|&&name| name != SEED);
    let of_method = described::<Kind>(json!({ "kind": method }), fields, false);
    let default = json!({ "kind": method });
    let follows_gradients = match serde_json::from_value::<Kind>(default) {
        Ok(method) => matches!(method.fitting(), Fitting::Gradient(_)),
        // The one that must be given another method, which it trains by gradients.
        Err(_) => true,
    };
    let fields = TrainingSettings::fields().iter();
    let fields = fields.filter(|name| follows_gradients && !NOT_HERE.contains(name));
    let of_training = described::<TrainingSettings>(json!({}), fields, true);
    Some(of_method.into_iter().chain(of_training).collect())
}

/// A method's own seed: that of the estimator.
const SEED: &str = "seed";

/// Fields of `T` with their defaults, which is read from `base` where none is given.
fn described<'a, T: DeserializeOwned + Serialize + PartialEq>(
    base: Value,
    fields: impl Iterator<Item = &'a &'static str>,
    is_training: bool,
) -> Vec<Setting> {
    let default: Option<T> = serde_json::from_value(base.clone()).ok();
    let written = default.as_ref().map(|default| json!(default));
    let of = |name: &'static str| {
        let default = default.as_ref()?;
        if let Some(value) = written.as_ref()?.get(name) {
            return Some(value.clone());
        }
        // One that is not written where it is the default: null for an option, else the empty value of its kind.
        let empty = [json!(null), json!(false), json!(0.0), json!(1), json!([])];
        empty.into_iter().find(|value| {
            let read = serde_json::from_value::<T>(with(&base, name, value));
            read.is_ok_and(|read| read == *default)
        })
    };
    fields
        .map(|&name| Setting {
            name,
            is_training,
            default: of(name),
        })
        .collect()
}

/// An object with one more entry.
fn with(base: &Value, name: &str, value: &Value) -> Value {
    let mut all = base.clone();
    all[name] = value.clone();
    all
}

impl Estimator {
    /// A method by its name, with settings by theirs, as [`settings`] lists them; what is not given has its default. The seed is
    /// also that of a method that draws its scores.
    ///
    /// ```
    /// use epsilon::estimator::Estimator;
    ///
    /// let given = serde_json::json!({ "rows": 3, "epochs": 20 });
    /// let sdl = Estimator::with_settings("sdl", given.as_object().unwrap(), 7)?;
    /// assert_eq!((sdl.method.name(), sdl.training.epochs, sdl.seed), ("sdl", 20, 7));
    /// let wrong = serde_json::json!({ "rows": "many" });
    /// let said = Estimator::with_settings("sdl", wrong.as_object().unwrap(), 7).unwrap_err().to_string();
    /// assert!(said.contains("rows"), "{said}");
    /// # Ok::<(), epsilon::estimator::EstimatorError>(())
    /// ```
    ///
    /// # Errors
    /// [`TrainingError::Setting`] names a setting that the method does not have, or a value that it cannot have.
    pub fn with_settings(
        method: &str,
        given: &Map<String, Value>,
        seed: u64,
    ) -> Result<Self, EstimatorError> {
        let wrong = |what: String| EstimatorError::from(TrainingError::Setting(what));
        let Some(known) = settings(method) else {
            let names = Kind::NAMES.join(", ");
            return Err(wrong(format!("kind = \"{method}\": give one of {names}")));
        };
        let mut of_method = json!({ "kind": method });
        let mut of_training = json!({});
        for (name, value) in given {
            let Some(setting) = known.iter().find(|setting| setting.name == name) else {
                let names: Vec<&str> = known.iter().map(|setting| setting.name).collect();
                let names = names.join(", ");
                return Err(wrong(format!("{name}: `{method}` has {names}")));
            };
            let all = match setting.is_training {
                true => &mut of_training,
                false => &mut of_method,
            };
            all[name] = value.clone();
            // One by one, so that the wrong one is named.
            let read = match setting.is_training {
                true => read::<TrainingSettings>(&with(&json!({}), name, value)),
                false => read::<Kind>(&with(&json!({ "kind": method }), name, value)),
            };
            read.map_err(|reason| wrong(format!("{name} = {value}: {reason}")))?;
        }
        if Kind::fields(method).is_some_and(|fields| fields.contains(&SEED)) {
            of_method[SEED] = seed.into();
        }
        let method = serde_json::from_value(of_method);
        let training = serde_json::from_value(of_training);
        Ok(Self {
            method: method.map_err(|error| wrong(error.to_string()))?,
            training: training.map_err(|error| wrong(error.to_string()))?,
            seed,
            protocol: Protocol::epsilon(),
        })
    }
}

/// Whether a `T` can be read from this.
fn read<T: DeserializeOwned>(from: &Value) -> Result<(), String> {
    let read = serde_json::from_value::<T>(from.clone());
    read.map(|_| ()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_can_be_given_its_default() {
        for method in Kind::NAMES {
            let settings = settings(method).unwrap();
            let missing: Vec<_> = settings.iter().filter(|s| s.default.is_none()).collect();
            let mut given: Map<String, Value> = settings
                .iter()
                .filter_map(|setting| Some((setting.name.into(), setting.default.clone()?)))
                .collect();
            if method == "learnt-labels" {
                assert_eq!((missing.len(), missing[0].name), (1, "of"));
                given.insert("of".into(), json!({ "kind": "label-em" }));
            } else {
                assert!(missing.is_empty(), "{method}: {missing:?}");
            }
            let all = Estimator::with_settings(method, &given, 1).unwrap();
            given.retain(|name, _| name == "of");
            let none = Estimator::with_settings(method, &given, 1).unwrap();
            assert_eq!(all, none, "{method}");
        }
    }

    #[test]
    fn settings_are_told_apart_and_wrong_ones_named() {
        let read = |text: &str| {
            let given: Map<String, Value> = serde_json::from_str(text).unwrap();
            Estimator::with_settings("fast0tag", &given, 3)
        };
        let both = read(r#"{ "hidden": [8], "learning-rate": 0.5, "patience": null }"#).unwrap();
        assert_eq!(
            (both.training.learning_rate, both.training.patience),
            (0.5, None)
        );
        assert_eq!(json!(both.method)["hidden"], json!([8]));
        for (text, said) in [
            (
                r#"{ "penalty": 1 }"#,
                "penalty: `fast0tag` has input, hidden",
            ),
            (r#"{ "epochs": -1 }"#, "epochs = -1: "),
            (r#"{ "hidden": 3 }"#, "hidden = 3: "),
            (r#"{ "checkpoint-steps": 3 }"#, "checkpoint-steps: "),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let random = Estimator::with_settings("random", &Map::new(), 9).unwrap();
        assert_eq!(json!(random.method)["seed"], 9);
    }
}
