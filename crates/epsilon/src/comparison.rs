//! Comparisons: one TOML file with several methods on the same features, each tuned over a grid on the validation images.
//! Every grid point of every row becomes a [`Recipe`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use epsilon_data::files;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::recipe::{Recipe, RecipeError, with_nearest};

/// Recipes of a comparison, each of them a training: a few lists of a grid multiply to any number.
const MOST: usize = 10_000;
/// Bytes of all of them as text.
const MOST_TEXT: usize = 64 << 20;

/// Published figures of a method, in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Published {
    /// mAP of the unseen labels among themselves, or of the labels of a classification.
    pub map: Option<f64>,
    /// F1 at the two K of the same.
    pub f1: Option<[f64; 2]>,
    /// mAP of all labels together.
    pub gzsl_map: Option<f64>,
    /// F1 at the two K of the same.
    pub gzsl_f1: Option<[f64; 2]>,
}

/// A method of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name in the table.
    pub name: String,
    /// Its published figures.
    pub published: Option<Published>,
    /// The recipes of its grid; a single one if nothing is tuned.
    pub points: Vec<Point>,
}

/// A grid point of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its keys and values, such as `learning-rate=0.001`; empty if nothing is tuned.
    pub label: String,
    /// The recipe.
    pub recipe: Recipe,
}

/// Methods to train and evaluate on the same data, tokens and protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The methods in table order, at least one.
    pub rows: Vec<Row>,
}

/// A row as written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    name: String,
    method: Table,
    #[serde(default)]
    training: Table,
    anchor: Option<Table>,
    grid: Option<Table>,
    published: Option<Published>,
}

impl Comparison {
    /// Reads a comparison and checks every recipe in it.
    ///
    /// The file is a recipe without `[method]`, with two more sections. `[grid]` has lists of values by key
    /// (`training.learning-rate`, `method.lambda`, `anchor.weight`); every combination is tried for every row. Each `[[row]]` has
    /// `name`, `method`, and optionally `training` (overrides single shared keys), `anchor` (replaces the shared one), `grid` (replaces the shared one) and `published`.
    ///
    /// ```
    /// use epsilon::comparison::Comparison;
    ///
    /// let folder = tempfile::tempdir()?;
    /// for name in ["labels.tsv", "seen.txt", "unseen.txt", "glove.txt", "vit.safetensors"] {
    ///     std::fs::write(folder.path().join(name), "")?;
    /// }
    /// let path = folder.path().join("table.toml");
    /// std::fs::write(&path, r#"
    ///     [data]
    ///     table = "labels.tsv"
    ///     images = "."
    ///     seen = "seen.txt"
    ///     unseen = "unseen.txt"
    ///     vectors = "glove.txt"
    ///     [backbone]
    ///     weights = "vit.safetensors"
    ///     [grid]
    ///     "training.learning-rate" = [1e-4, 1e-3]
    ///     [[row]]
    ///     name = "Epsilon, M = 7"
    ///     method = { kind = "epsilon", groups = 7 }
    ///     published = { map = 33.2 }
    ///     [[row]]
    ///     name = "Ridge"
    ///     method = { kind = "ridge" }
    ///     grid = { "method.penalty" = [0.1, 1.0, 10.0] }
    /// "#)?;
    ///
    /// let comparison = Comparison::read(&path)?;
    /// let [epsilon, ridge] = &comparison.rows[..] else { panic!("two rows") };
    /// assert_eq!(epsilon.points[1].label, "learning-rate=0.001");
    /// assert_eq!(epsilon.points[1].recipe.training.learning_rate, 1e-3);
    /// assert_eq!(epsilon.published.as_ref().and_then(|p| p.map), Some(33.2));
    /// assert_eq!(epsilon.folder(), "epsilon-m-=-7");
    /// assert_eq!(ridge.points.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecipeError`] names the row and the key.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let text =
            files::read_text(path, files::DESCRIPTION).map_err(|reason| RecipeError::Read {
                path: path.into(),
                reason,
            })?;
        let form = |reason: String| RecipeError::Form {
            path: path.into(),
            reason,
        };
        let mut shared: Table = text
            .parse()
            .map_err(|e: toml::de::Error| form(e.to_string()))?;
        let take = |table: &mut Table, key: &str| table.remove(key);
        let grid = match take(&mut shared, "grid") {
            Some(grid) => grid.try_into().map_err(|e| form(format!("[grid]: {e}")))?,
            None => Table::new(),
        };
        let rows = take(&mut shared, "row")
            .ok_or_else(|| form("no [[row]]: a comparison names at least one method".into()))?;
        let rows: Vec<Written> = rows
            .try_into()
            .map_err(|e| form(format!("[[row]]: {}", with_nearest(&e.to_string()))))?;
        let grids = rows.iter().map(|row| row.grid.as_ref().unwrap_or(&grid));
        bounded(grids, &text).map_err(form)?;
        let rows = rows
            .into_iter()
            .map(|row| Row::of(row, &shared, &grid, path))
            .collect::<Result<Vec<Row>, RecipeError>>()?;
        for row in &rows {
            let name = &row.name;
            if let Some(reason) = no_folder(&row.folder()) {
                return Err(form(format!("[[row]] name = {name:?}: {reason}")));
            }
            if let Some((one, other)) = in_one_folder(row.points.iter().map(|point| &*point.label))
            {
                return Err(form(format!(
                    "[grid] of {name:?}: {one} and {other} would be trained in one folder: give each value once"
                )));
            }
        }
        if let Some((_, name)) = in_one_folder(rows.iter().map(|row| &*row.name)) {
            return Err(form(format!(
                "[[row]] name = {name:?}: give each row a name of its own"
            )));
        }
        Ok(Self { rows })
    }

    /// The recipe at `path` with every combination of values of some keys, one row per combination, named by it.
    ///
    /// A key is `method.KEY`, `training.KEY`, or a `KEY` of either section.
    ///
    /// ```
    /// use epsilon::comparison::Comparison;
    /// use toml::Value;
    ///
    /// let folder = tempfile::tempdir()?;
    /// for name in ["labels.tsv", "seen.txt", "glove.txt", "vit.safetensors"] {
    ///     std::fs::write(folder.path().join(name), "")?;
    /// }
    /// let path = folder.path().join("recipe.toml");
    /// std::fs::write(&path, r#"
    ///     [data]
    ///     table = "labels.tsv"
    ///     images = "."
    ///     seen = "seen.txt"
    ///     vectors = "glove.txt"
    ///     [backbone]
    ///     weights = "vit.safetensors"
    ///     [method]
    ///     kind = "epsilon"
    /// "#)?;
    ///
    /// let groups = ("groups".to_string(), vec![Value::from(2), Value::from(4)]);
    /// let sweep = Comparison::sweep(&path, &[groups])?;
    /// let names: Vec<&str> = sweep.rows.iter().map(|row| row.name.as_str()).collect();
    /// assert_eq!(names, ["groups=2", "groups=4"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecipeError`] names the key.
    pub fn sweep(path: &Path, settings: &[(String, Vec<Value>)]) -> Result<Self, RecipeError> {
        let text =
            files::read_text(path, files::DESCRIPTION).map_err(|reason| RecipeError::Read {
                path: path.into(),
                reason,
            })?;
        let form = |reason: String| RecipeError::Form {
            path: path.into(),
            reason,
        };
        // Errors in the recipe itself get the same message as in `train`.
        Recipe::resolve(path, &text)?;
        let recipe: Table = text
            .parse()
            .map_err(|e: toml::de::Error| form(e.to_string()))?;
        let mut grid = Table::new();
        for (key, values) in settings {
            let first = values
                .first()
                .ok_or_else(|| form(format!("{key}: no value")))?;
            let key = section_of(key, first, &recipe, path)?;
            if grid
                .insert(key.clone(), Value::Array(values.clone()))
                .is_some()
            {
                return Err(form(format!("{key} is set twice")));
            }
        }
        bounded([&grid], &text).map_err(form)?;
        let rows = combinations(&grid)
            .map_err(form)?
            .into_iter()
            .map(|values| {
                let table = with(&recipe, &values).map_err(form)?;
                let text = toml::to_string(&table).map_err(|e| form(e.to_string()))?;
                let point = Point {
                    label: String::new(),
                    recipe: Recipe::resolve(path, &text)?,
                };
                Ok(Row {
                    name: label(&values),
                    published: None,
                    points: vec![point],
                })
            });
        let rows = rows.collect::<Result<Vec<Row>, RecipeError>>()?;
        match in_one_folder(rows.iter().map(|row| &*row.name)) {
            None => Ok(Self { rows }),
            Some((one, other)) => Err(form(format!(
                "{one} and {other} would be trained in one folder: give each value once"
            ))),
        }
    }

    /// The places of the rows that these lists name, ascending. A list has names of rows, or of their folders, between commas;
    /// a name may have commas in it.
    ///
    /// # Errors
    /// The first name that no row has.
    pub fn places(&self, lists: &[String]) -> Result<Vec<usize>, String> {
        let mut places = Vec::new();
        for list in lists {
            let mut rest: Vec<&str> = list.split(',').collect();
            while !rest.is_empty() {
                // The longest name first: a shorter one may be its beginning.
                let found = (1..=rest.len()).rev().find_map(|parts| {
                    let name = rest[..parts].join(",");
                    let place = self.rows.iter().position(|row| row.is(name.trim()))?;
                    Some((place, parts))
                });
                let (place, parts) = found.ok_or_else(|| rest[0].trim().to_string())?;
                places.push(place);
                rest.drain(..parts);
            }
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// The first recipe, whose data, tokens and protocol all rows share.
    pub fn shared(&self) -> &Recipe {
        &self.rows[0].points[0].recipe
    }
}

impl Row {
    fn of(row: Written, shared: &Table, grid: &Table, path: &Path) -> Result<Self, RecipeError> {
        let named = |error: RecipeError| match error {
            RecipeError::Form { path, reason } => RecipeError::Form {
                path,
                reason: format!("[[row]] {:?}: {reason}", row.name),
            },
            other => other,
        };
        let form = |reason: String| {
            named(RecipeError::Form {
                path: PathBuf::from(path),
                reason,
            })
        };
        let mut table = shared.clone();
        table.insert("method".into(), Value::Table(row.method));
        let training = table
            .entry("training")
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(training) = training else {
            return Err(form("`training` is no table".into()));
        };
        training.extend(row.training);
        if let Some(anchor) = row.anchor {
            table.insert("anchor".into(), Value::Table(anchor));
        }
        let points = combinations(row.grid.as_ref().unwrap_or(grid)).map_err(form)?;
        let points = points.into_iter().map(|values| {
            let table = with(&table, &values).map_err(form)?;
            let text = toml::to_string(&table).map_err(|e| form(e.to_string()))?;
            Ok(Point {
                label: label(&values),
                recipe: Recipe::resolve(path, &text).map_err(named)?,
            })
        });
        Ok(Self {
            points: points.collect::<Result<_, RecipeError>>()?,
            published: row.published,
            name: row.name,
        })
    }

    /// The name of its folder, [`file_name`] of the row's.
    pub fn folder(&self) -> String {
        file_name(&self.name)
    }

    /// Whether `name` is its name or its folder's.
    fn is(&self, name: &str) -> bool {
        self.name == name || self.folder() == name
    }
}

impl Point {
    /// The name of its folder.
    pub fn folder(&self) -> String {
        file_name(&self.label)
    }
}

/// The name of a row's or a setting's folder: lower case, runs of characters other than letters, digits, `.` and `=` replaced by a
/// dash.
pub fn file_name(name: &str) -> String {
    let plain = |c: char| match c {
        'a'..='z' | '0'..='9' | '.' | '=' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        _ => '-',
    };
    let dashed: String = name.chars().map(plain).collect();
    let parts: Vec<&str> = dashed.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

/// Why a row's folder cannot have this name, if it cannot.
fn no_folder(name: &str) -> Option<&'static str> {
    /// Names that Windows keeps for devices, whatever their ending.
    const DEVICES: &[&str] = &["aux", "con", "nul", "prn"];
    let stem = name.split('.').next().unwrap_or_default();
    let port = stem
        .strip_prefix("com")
        .or_else(|| stem.strip_prefix("lpt"));
    let is_port = port.is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit());
    // A folder of dots alone is the one above.
    if !name.contains(|c: char| c.is_ascii_alphanumeric()) {
        Some("give it a letter or a digit, for the name of its folder")
    } else if DEVICES.contains(&stem) || is_port {
        Some("give it another name: its folder's is one that Windows keeps for a device")
    } else if name == "tokens"
        || name.starts_with("tokens-")
        || ["index.parquet", "table.md", "table.csv", "table.tex"].contains(&name)
    {
        Some("give it another name: the table's folder keeps something of its own under this one")
    } else {
        None
    }
}

/// The first two names whose folders would be the same.
fn in_one_folder<'a>(names: impl Iterator<Item = &'a str>) -> Option<(&'a str, &'a str)> {
    let mut known = HashMap::new();
    names
        .filter_map(|name| Some((known.insert(file_name(name), name)?, name)))
        .next()
}

/// Refuses the grids of a file where they multiply to more than memory and time would suffice for.
fn bounded<'a>(grids: impl IntoIterator<Item = &'a Table>, text: &str) -> Result<(), String> {
    // An empty list is refused when its turn comes, which is after those before it were multiplied.
    let values = |values: &Value| values.as_array().map_or(1, |values| values.len().max(1));
    let points = |grid: &Table| grid.values().map(values).fold(1, usize::saturating_mul);
    let all = grids.into_iter().map(points).fold(0, usize::saturating_add);
    // Each combination becomes a recipe, about as long as this file.
    let most = MOST.min(MOST_TEXT / text.len().max(1));
    match all > most {
        true => Err(format!(
            "its grids have {all} combinations of values, and at most {most} can be tried: give fewer values, or several files"
        )),
        false => Ok(()),
    }
}

/// Every combination of a grid's values, the last key fastest; one empty combination for an empty grid.
fn combinations(grid: &Table) -> Result<Vec<Vec<(String, Value)>>, String> {
    let mut all = vec![Vec::new()];
    for (key, values) in grid {
        let values = match values {
            Value::Array(values) if !values.is_empty() => values,
            _ => return Err(format!("[grid] {key}: give a list of values")),
        };
        all = all
            .into_iter()
            .flat_map(|point: Vec<(String, Value)>| {
                values.iter().map(move |value| {
                    let mut point = point.clone();
                    point.push((key.clone(), value.clone()));
                    point
                })
            })
            .collect();
    }
    Ok(all)
}

/// A key with its section: the one it names, or the first one that accepts the value.
fn section_of(
    key: &str,
    value: &Value,
    recipe: &Table,
    path: &Path,
) -> Result<String, RecipeError> {
    if key.contains('.') {
        return Ok(key.into());
    }
    let mut errors = Vec::new();
    for section in ["method", "training"] {
        let key = format!("{section}.{key}");
        let taken = with(recipe, &[(key.clone(), value.clone())])
            .and_then(|table| toml::to_string(&table).map_err(|e| e.to_string()))
            .map_err(|reason| RecipeError::Form {
                path: path.into(),
                reason,
            })
            .and_then(|text| Recipe::resolve(path, &text));
        match taken {
            Ok(_) => return Ok(key),
            Err(error) => errors.push(error),
        }
    }
    // If a section has the key, its error explains what is wrong with the value; otherwise the method's suggests the nearest.
    let strange = |error: &RecipeError| error.to_string().contains("unknown field");
    let place = errors.iter().position(|error| !strange(error)).unwrap_or(0);
    Err(errors.swap_remove(place))
}

/// Sets keys of a recipe.
fn with(table: &Table, values: &[(String, Value)]) -> Result<Table, String> {
    let mut table = table.clone();
    table
        .entry("training")
        .or_insert_with(|| Value::Table(Table::new()));
    for (key, value) in values {
        set(&mut table, key, value.clone())?;
    }
    Ok(table)
}

/// Sets `training.learning-rate` and the like.
fn set(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let Some((section @ ("training" | "method" | "anchor"), key)) = key.split_once('.') else {
        return Err(format!(
            "[grid] \"{key}\": give \"training.KEY\", \"method.KEY\" or \"anchor.KEY\""
        ));
    };
    match table.get_mut(section) {
        Some(Value::Table(section)) => {
            section.insert(key.into(), value);
            Ok(())
        }
        None => Err(format!(
            "[grid] \"{section}.{key}\": there is no [{section}] whose key it could be"
        )),
        Some(_) => Err(format!("`{section}` is no table")),
    }
}

fn label(values: &[(String, Value)]) -> String {
    let one = |(key, value): &(String, Value)| {
        let key = key.split_once('.').map_or(key.as_str(), |(_, key)| key);
        match value {
            Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other}"),
        }
    };
    values.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Comparison, RecipeError> {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "labels.tsv",
            "seen.txt",
            "unseen.txt",
            "vectors.txt",
            "net.safetensors",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let shared = r#"
            [data]
            table = "labels.tsv"
            images = "."
            seen = "seen.txt"
            unseen = "unseen.txt"
            vectors = "vectors.txt"
            [backbone]
            weights = "net.safetensors"
            [training]
            epochs = 3
            batch = 32
        "#;
        let path = folder.path().join("table.toml");
        std::fs::write(&path, format!("seeds = [1, 2]\n{shared}\n{text}")).unwrap();
        Comparison::read(&path)
    }

    #[test]
    fn rows_take_what_is_shared_and_every_point_of_the_grid() {
        let comparison = read(
            r#"
            [grid]
            "training.learning-rate" = [1e-4, 1e-3]
            "training.epochs" = [5, 10]
            [[row]]
            name = "Epsilon, M = 2"
            method = { kind = "epsilon", groups = 2 }
            training = { batch = 16 }
            published = { map = 33.2, gzsl-f1 = [18.7, 22.5] }
            [[row]]
            name = "Ridge"
            method = { kind = "ridge" }
            grid = { "method.penalty" = [0.1] }
            "#,
        )
        .unwrap();
        let [epsilon, ridge] = &comparison.rows[..] else {
            panic!("two rows");
        };
        assert_eq!(epsilon.folder(), "epsilon-m-=-2");
        assert_eq!(epsilon.points.len(), 4);
        let training = &epsilon.points[2].recipe.training;
        assert_eq!((training.epochs, training.batch), (10, 16));
        assert_eq!(epsilon.points[2].label, "epochs=10, learning-rate=0.0001");
        assert_eq!(
            epsilon.published.as_ref().unwrap().gzsl_f1,
            Some([18.7, 22.5])
        );
        assert_eq!(ridge.points.len(), 1);
        assert_eq!(ridge.points[0].folder(), "penalty=0.1");
        assert_eq!(comparison.shared().seeds, [1, 2]);
    }

    #[test]
    fn a_row_has_an_anchor_and_a_grid_its_weight() {
        let comparison = read(
            r#"
            [[row]]
            name = "Alone"
            method = { kind = "sdl" }
            [[row]]
            name = "Anchored"
            method = { kind = "sdl" }
            anchor = { trained = true }
            grid = { "anchor.weight" = [0.25, 0.5] }
            "#,
        )
        .unwrap();
        let [alone, anchored] = &comparison.rows[..] else {
            panic!("two rows");
        };
        assert_eq!(alone.points[0].recipe.anchor, None);
        let weights: Vec<f64> = anchored
            .points
            .iter()
            .map(|point| {
                let anchor = point.recipe.anchor.as_ref().unwrap();
                assert!(anchor.trained);
                anchor.weight
            })
            .collect();
        assert_eq!(weights, [0.25, 0.5]);
        assert_eq!(anchored.points[0].label, "weight=0.25");
        let said = read(
            "[[row]]\nname = \"A\"\nmethod = { kind = \"sdl\" }\ngrid = { \"anchor.weight\" = [1.0] }",
        );
        assert!(said.unwrap_err().to_string().contains("anchor"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_row() {
        let row = |rest: &str| {
            read(&format!("[[row]]\nname = \"A\"\n{rest}"))
                .unwrap_err()
                .to_string()
        };
        let said = row("method = { kind = \"epsilon\", grups = 2 }");
        assert!(said.contains("\"A\"") && said.contains("groups"), "{said}");
        let said = row("method = { kind = \"ridge\" }\ngrid = { \"data.table\" = [1] }");
        assert!(
            said.contains("data.table") && said.contains("training.KEY"),
            "{said}"
        );
        let said = row("method = { kind = \"ridge\" }\ngrid = { \"method.penalty\" = [] }");
        assert!(said.contains("list of values"), "{said}");
        let said = row("method = { kind = \"ridge\" }\ntraining = { epochs = 0 }");
        assert!(said.contains("epochs = 0"), "{said}");
        let keys = (0..20).map(|key| format!("\"training.{key}\" = [1, 2, 3, 4]"));
        let grid = format!(
            "grid = {{ {}, z = [] }}",
            keys.collect::<Vec<_>>().join(", ")
        );
        let said = row(&format!("method = {{ kind = \"ridge\" }}\n{grid}"));
        assert!(said.contains("1099511627776 combinations"), "{said}");
        assert!(said.contains("at most 10000"), "{said}");
        assert!(read("").unwrap_err().to_string().contains("[[row]]"));
        let named = |name: &str| {
            read(&format!(
                "[[row]]\nname = {name:?}\nmethod = {{ kind = \"ridge\" }}\n"
            ))
        };
        for (names, part) in [
            (&["", ".", "..", "ß", "= -"][..], "letter or a digit"),
            (&["CON", "nul.a", "Com1", "lpt9.b"], "a device"),
            (
                &["Tokens", "tokens 1 of 2", "table.md", "Index.parquet"],
                "of its own",
            ),
        ] {
            for name in names {
                let said = named(name).unwrap_err().to_string();
                assert!(said.contains(part), "{name}: {said}");
            }
        }
        for name in ["CONSE", "com", "com10", "nulled", "1.5", "token", "A."] {
            named(name).unwrap();
        }
        let said =
            row("method = { kind = \"ridge\" }\ngrid = { \"method.penalty\" = [1.0, 2.0, 1.0] }");
        assert!(
            said.contains("penalty=1.0") && said.contains("one folder"),
            "{said}"
        );
        let twice = "[[row]]\nname = \"A\"\nmethod = { kind = \"ridge\" }\n";
        let said = read(&twice.repeat(2)).unwrap_err().to_string();
        assert!(said.contains("name of its own"), "{said}");
    }

    /// Every comparison that comes with the project is read, and together they have every method.
    #[test]
    fn the_comparisons_of_the_project_are_whole() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let folder = tempfile::tempdir().unwrap();
        let tables = folder.path().join("project/recipes/tables");
        std::fs::create_dir_all(&tables).unwrap();
        let mut there = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(root.join("recipes/tables")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let written: Table = text.parse().unwrap();
            for named in strings(&Value::Table(written))
                .iter()
                .filter(|s| s.starts_with(".."))
            {
                // Only its being there is asked for, so everything may be a folder.
                std::fs::create_dir_all(tables.join(named)).unwrap();
            }
            let copy = tables.join(path.file_name().unwrap());
            std::fs::write(&copy, text).unwrap();
            let comparison = Comparison::read(&copy).unwrap();
            there.extend(
                comparison
                    .rows
                    .iter()
                    .map(|row| row.points[0].recipe.method.name()),
            );
        }
        // That one is not trained, so that no recipe has it.
        let trained = crate::methods::Kind::NAMES.into_iter();
        for name in trained.filter(|name| *name != "class-words") {
            assert!(there.contains(name), "`{name}` has no row");
        }
    }

    fn strings(value: &Value) -> Vec<String> {
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(all) => all.iter().flat_map(strings).collect(),
            Value::Table(all) => all.values().flat_map(strings).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_sweep_has_a_row_for_every_combination() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["t.tsv", "s", "u", "v.txt", "n.safetensors"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let path = folder.path().join("recipe.toml");
        let text = "[data]\ntable = \"t.tsv\"\nimages = \".\"\nseen = \"s\"\nunseen = \"u\"\nvectors = \"v.txt\"\n\
                    [backbone]\nweights = \"n.safetensors\"\n[method]\nkind = \"epsilon\"\n";
        std::fs::write(&path, text).unwrap();
        let set = |key: &str, values: &[f64]| {
            let values = values.iter().map(|&v| Value::Float(v)).collect();
            (key.to_string(), values)
        };
        let groups = (
            "groups".to_string(),
            vec![Value::Integer(2), Value::Integer(4)],
        );
        let settings = [
            groups,
            set("learning-rate", &[1e-4]),
            set("method.lambda", &[0.1, 0.3]),
        ];
        let twice = Comparison::sweep(&path, &[set("method.lambda", &[0.3, 0.1, 0.3])]);
        let said = twice.unwrap_err().to_string();
        assert!(said.contains("lambda=0.3 and lambda=0.3"), "{said}");
        let sweep = Comparison::sweep(&path, &settings).unwrap();
        let names: Vec<&str> = sweep.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names[0], "groups=2, lambda=0.1, learning-rate=0.0001");
        assert_eq!(names.len(), 4);
        assert_eq!(sweep.rows[3].points[0].recipe.training.learning_rate, 1e-4);
        let says = |setting| {
            Comparison::sweep(&path, &[setting])
                .unwrap_err()
                .to_string()
        };
        assert!(says(set("grups", &[1.0])).contains("groups"));
        assert!(says(set("epochs", &[1.5])).contains("1.5"));
        let twice = [set("lambda", &[0.1]), set("method.lambda", &[0.2])];
        let said = Comparison::sweep(&path, &twice).unwrap_err().to_string();
        assert!(said.contains("set twice"), "{said}");
    }

    #[test]
    fn some_rows_alone() {
        let comparison = read(
            "[[row]]\nname = \"Ridge\"\nmethod = { kind = \"ridge\" }\n\
             [[row]]\nname = \"Ridge, much\"\nmethod = { kind = \"ridge\", penalty = 9.0 }\n\
             [[row]]\nname = \"Chance\"\nmethod = { kind = \"random\" }",
        )
        .unwrap();
        let places = |lists: &[&str]| {
            let lists: Vec<String> = lists.iter().map(|&list| list.into()).collect();
            comparison.places(&lists)
        };
        assert_eq!(places(&["Rigde"]), Err("Rigde".into()));
        assert_eq!(places(&["chance,Ridge"]), Ok(vec![0, 2]));
        assert_eq!(places(&["Ridge, much, Chance"]), Ok(vec![1, 2]));
        assert_eq!(
            places(&["Chance", "ridge-much,Ridge", "Ridge"]),
            Ok(vec![0, 1, 2])
        );
        assert_eq!(places(&["Ridge, more"]), Err("more".into()));
    }
}
