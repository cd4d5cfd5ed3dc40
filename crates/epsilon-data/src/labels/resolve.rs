//! How a name finds its vector: the exact word, its parts joined, or the mean of its parts.
//!
//! One pass over the vector file picks up every word some rule could use; only where a name stays without a
//! vector does a second pass look for the nearest words. Who asks again and again keeps a [`super::VectorIndex`].

use super::rows::Place;
use super::vector_file::VectorFile;
use super::{LabelError, LabelVectors, composed, short};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

/// What joins the parts of a name, in the order tried.
const JOINTS: [&str; 3] = ["_", "-", ""];
/// Nearest words named for each part of a name without a vector.
const NEAREST: usize = 3;
/// Characters of a word that near ones are looked for.
const LONGEST_WORD: usize = 200;
/// Names and parts of names that nearest words are looked for at once: each costs a look at every word of the file.
const SEARCHES: usize = 64;

/// The rule by which a name found its vector. Within each rule the name's own case is tried before lower case.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// The name itself is a word of the file.
    Exact,
    /// The name in lower case, given here, is a word of the file.
    LowerCase(String),
    /// The parts of the name joined by `_`, `-` or nothing are a word of the file, given here.
    Joined(String),
    /// The vector is the mean of the vectors of these words, one for each part of the name.
    Mean(Vec<String>),
    /// A network's text tower made the vector from sentences about the name.
    TextTower,
}

/// How one name found its vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The name.
    pub name: String,
    /// The rule that gave its vector.
    pub found: Found,
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Found::Exact => write!(f, "{}: exact word", self.name),
            Found::LowerCase(key) | Found::Joined(key) => {
                write!(f, "{}: the word `{key}`", self.name)
            }
            Found::Mean(words) => write!(f, "{}: mean of `{}`", self.name, words.join("`, `")),
            Found::TextTower => write!(f, "{}: by the text tower", self.name),
        }
    }
}

/// The raw vectors of all names asked for, and how each was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// One row for each name, in the order asked for, not normalised.
    pub vectors: LabelVectors,
    /// One entry for each name, in the same order.
    pub report: Vec<Resolution>,
}

/// The counts by rule on one line, then one line for each name that is another word of the file.
impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |rule: fn(&Found) -> bool| {
            self.report
                .iter()
                .filter(|entry| rule(&entry.found))
                .count()
        };
        write!(
            f,
            "{} labels, vectors of width {}: {} exact, {} in lower case, {} joined, {} means of words",
            self.report.len(),
            self.vectors.dim(),
            count(|found| matches!(found, Found::Exact)),
            count(|found| matches!(found, Found::LowerCase(_))),
            count(|found| matches!(found, Found::Joined(_))),
            count(|found| matches!(found, Found::Mean(_))),
        )?;
        match count(|found| matches!(found, Found::TextTower)) {
            0 => {}
            made => write!(f, ", {made} by the text tower")?,
        }
        let found_otherwise =
            |entry: &&Resolution| !matches!(entry.found, Found::Exact | Found::TextTower);
        for entry in self.report.iter().filter(found_otherwise) {
            write!(f, "\n  {entry}")?;
        }
        Ok(())
    }
}

/// A name without a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The name.
    pub name: String,
    /// The parts of the name that are no word of the file; the name itself if it has one part.
    pub missing: Vec<String>,
    /// The words of the file nearest to the name and its missing parts; may be empty. None where nobody looked for them,
    /// as for the last of very many names.
    pub nearest: Option<Vec<String>>,
}

/// The name, its missing parts, and the nearest words.
impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", short(&self.name))?;
        if self.missing != [self.name.as_str()] {
            let missing: Vec<_> = self.missing.iter().map(|word| short(word)).collect();
            write!(f, " (nor has `{}`)", missing.join("`, `"))?;
        }
        match self.nearest.as_deref() {
            None => Ok(()),
            Some([]) => write!(f, "; no word of the file is near"),
            Some(nearest) => write!(f, "; nearest: `{}`", nearest.join("`, `")),
        }
    }
}

pub(super) fn unresolved_message(path: &Path, labels: &[Unresolved]) -> String {
    let count = if labels.len() == 1 {
        "1 label has".into()
    } else {
        format!("{} labels have", labels.len())
    };
    let mut message = format!("{}: {count} no vector:", path.display());
    for label in labels {
        message += &format!("\n  {label}");
    }
    message + "\ncorrect the names in the label list, or use a vector file that holds these words"
}

/// [`resolve_words`] in a file that holds its own words, each name being its own word.
///
/// ```
/// use epsilon_data::labels::resolve;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("words.txt");
/// std::fs::write(&path, "red 1 0\nflower 0 1\n")?;
/// let names = ["red flower".to_string()]; // the mean of its parts
/// assert_eq!(resolve(&path, &names)?.vectors.row(0), [0.5, 0.5]);
/// let unknown = resolve(&path, &["flour".to_string()]).unwrap_err();
/// assert!(unknown.to_string().contains("nearest: `flower`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`resolve_words`].
pub fn resolve(path: &Path, names: &[String]) -> Result<Resolved, LabelError> {
    resolve_words(&path.into(), names, names)
}

/// Finds the vector of every name in a vector file. Name i is looked up as `words[i]`: the same, unless two labels share
/// a word.
///
/// The rules, the first that gives a vector wins: the name as it is; its parts (split at space, `_` and `-`)
/// joined by `_`, `-` or nothing; the mean of its parts' vectors, which must all exist. Within each rule the
/// name's own case is tried before lower case. Words are compared [`composed`]. The file is streamed: memory holds the
/// words some rule could use, not the file.
///
/// # Panics
/// If there are not as many words as names.
///
/// # Errors
/// No name; repeated names; a damaged file (file and line are named, but values are checked only of words some
/// rule could use); such a word with two vectors or one of zeros; a mean that is all zeros; and
/// [`LabelError::Unresolved`], which names every label without a vector and the words nearest to it.
pub fn resolve_words(
    file: &VectorFile,
    names: &[String],
    words: &[String],
) -> Result<Resolved, LabelError> {
    assert_eq!(names.len(), words.len(), "a word for each name");
    let (dim, found) = read_words(file, words)?;
    let labels = Asked {
        file: &file.path,
        names,
        words,
    };
    labels.resolve(dim, &found, |visit| {
        file.scan(|row| {
            visit(row.key);
            Ok(())
        })?;
        Ok(())
    })
}

/// Names that are looked up in a file.
pub(super) struct Asked<'a> {
    pub(super) file: &'a Path,
    pub(super) names: &'a [String],
    /// What each is looked up as.
    pub(super) words: &'a [String],
}

impl Asked<'_> {
    /// The vector of every name, by the words that were found for them. `all` shows every word of the file; it is needed
    /// where a name has no vector.
    pub(super) fn resolve(
        &self,
        dim: usize,
        found: &Words,
        all: impl FnOnce(&mut dyn FnMut(&str)) -> Result<(), LabelError>,
    ) -> Result<Resolved, LabelError> {
        let mut values = Vec::with_capacity(self.names.len() * dim);
        let mut report = Vec::with_capacity(self.names.len());
        let mut unresolved = Vec::new();
        for (name, word) in self.names.iter().zip(self.words) {
            match find(&composed(word), found) {
                Some((found, vector)) => {
                    values.extend(vector);
                    report.push(Resolution {
                        name: name.clone(),
                        found,
                    });
                }
                None => unresolved.push(word.as_str()),
            }
        }
        if !unresolved.is_empty() {
            unresolved.dedup();
            return Err(LabelError::Unresolved {
                path: self.file.into(),
                labels: explain(&unresolved, found, all)?,
            });
        }
        Ok(Resolved {
            vectors: LabelVectors::new(self.names.to_vec(), dim, values)?,
            report,
        })
    }
}

/// The words picked up from a file, composed, and their vectors.
pub(super) type Words = HashMap<String, Vec<f32>>;

/// First pass: the width of the vectors, and all words that some rule for some name could use.
pub(super) fn read_words(
    file: &VectorFile,
    names: &[String],
) -> Result<(usize, Words), LabelError> {
    let wanted = wanted(names);
    // Lists of words, such as NUS-WIDE's tags and its concepts, may share some.
    let may_repeat = file.names.len() > 1;
    let mut places: HashMap<String, Place> = HashMap::new();
    let mut words = Words::new();
    // Published files hold some words in both forms; then the composed one counts, wherever it stands.
    let mut other_forms: HashSet<String> = HashSet::new();
    let dim = file.scan(|row| {
        let key = composed(row.key);
        if !wanted.contains(&*key) {
            return Ok(());
        }
        let is_composed = *key == *row.key;
        if !is_composed && words.contains_key(&*key) {
            return Ok(());
        }
        let vector = row.parse()?;
        if vector.iter().all(|&value| value == 0.0) {
            return Err(LabelError::ZeroRow {
                path: row.path.into(),
                place: row.place,
                key: row.key.into(),
            });
        }
        match (places.get(&*key), words.get(&*key)) {
            (Some(_), Some(known)) if may_repeat && *known == vector => Ok(()),
            (Some(first), _) if !other_forms.remove(&*key) => Err(LabelError::DuplicateKey {
                path: row.path.into(),
                place: row.place,
                first: *first,
                key: row.key.into(),
            }),
            _ => {
                if !is_composed {
                    other_forms.insert(key.to_string());
                }
                places.insert(key.to_string(), row.place);
                words.insert(key.into_owned(), vector);
                Ok(())
            }
        }
    })?;
    Ok((dim, words))
}

/// Every word that some rule for some of these names could use.
pub(super) fn wanted(names: &[String]) -> HashSet<String> {
    names.iter().flat_map(|name| candidates(name)).collect()
}

/// Every word that [`find`] may look up for `name`.
fn candidates(name: &str) -> Vec<String> {
    let name = &*composed(name);
    let parts = parts(name);
    let joined = JOINTS.iter().map(|joint| parts.join(joint));
    let keys: Vec<String> = joined
        .chain([name.to_string()])
        .chain(parts.iter().map(ToString::to_string))
        .collect();
    keys.iter().flat_map(|key| cases(key)).collect()
}

fn find(name: &str, words: &Words) -> Option<(Found, Vec<f32>)> {
    if let Some((key, vector)) = look_up(name, words) {
        let found = if key == name {
            Found::Exact
        } else {
            Found::LowerCase(key)
        };
        return Some((found, vector.to_vec()));
    }
    let parts = parts(name);
    if parts.len() < 2 {
        return None;
    }
    if let Some((key, vector)) = JOINTS
        .iter()
        .find_map(|joint| look_up(&parts.join(joint), words))
    {
        return Some((Found::Joined(key), vector.to_vec()));
    }
    let (keys, vectors): (Vec<_>, Vec<_>) = parts
        .iter()
        .map(|part| look_up(part, words))
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .unzip();
    Some((Found::Mean(keys), mean(&vectors)))
}

/// As [`find`], or the mean of those parts that are words.
pub(super) fn approximate(name: &str, words: &Words) -> Option<Vec<f32>> {
    if let Some((_, vector)) = find(name, words) {
        return Some(vector);
    }
    let parts = parts(name).into_iter();
    let vectors: Vec<&[f32]> = parts
        .filter_map(|part| Some(look_up(part, words)?.1))
        .collect();
    (!vectors.is_empty()).then(|| mean(&vectors))
}

fn look_up<'w>(key: &str, words: &'w Words) -> Option<(String, &'w [f32])> {
    cases(key)
        .into_iter()
        .find_map(|key| words.get(&key).map(|vector| (key, vector.as_slice())))
}

/// The key as it is, then in lower case.
fn cases(key: &str) -> [String; 2] {
    [key.to_string(), composed(&key.to_lowercase()).into_owned()]
}

fn parts(name: &str) -> Vec<&str> {
    name.split(|c: char| c.is_whitespace() || c == '_' || c == '-')
        .filter(|part| !part.is_empty())
        .collect()
}

/// The mean of vectors of one width, summed in f64.
fn mean(vectors: &[&[f32]]) -> Vec<f32> {
    let width = vectors.first().map_or(0, |vector| vector.len());
    (0..width)
        .map(|i| {
            (vectors
                .iter()
                .map(|vector| f64::from(vector[i]))
                .sum::<f64>()
                / vectors.len() as f64) as f32
        })
        .collect()
}

/// Second pass: the words nearest to each name without a vector, of all that `all` shows.
fn explain(
    names: &[&str],
    words: &Words,
    all: impl FnOnce(&mut dyn FnMut(&str)) -> Result<(), LabelError>,
) -> Result<Vec<Unresolved>, LabelError> {
    let mut labels = Vec::new();
    // Of each label, as long as there are not too many.
    let mut searches: Vec<Vec<Search>> = Vec::new();
    let mut count = 0;
    for &name in names {
        let parts = parts(name);
        let missing: Vec<String> = if parts.len() < 2 {
            vec![name.to_string()]
        } else {
            parts
                .iter()
                .filter(|part| look_up(part, words).is_none())
                .map(ToString::to_string)
                .collect()
        };
        let mut queries = missing.clone();
        if parts.len() > 1 {
            queries.insert(0, parts.join("_"));
        }
        count += queries.len();
        if count <= SEARCHES {
            searches.push(queries.iter().map(|query| Search::new(query)).collect());
        }
        labels.push(Unresolved {
            name: name.into(),
            missing,
            nearest: None,
        });
    }
    all(&mut |key| {
        let folded = composed(key).to_lowercase();
        let (letters, length) = (letters(&folded), folded.chars().count());
        for search in searches.iter_mut().flatten() {
            search.offer(key, &folded, letters, length);
        }
    })?;
    for (label, searches) in labels.iter_mut().zip(searches) {
        let mut nearest = Vec::new();
        for (_, key) in searches.into_iter().flat_map(|search| search.best) {
            if !nearest.contains(&key) {
                nearest.push(key);
            }
        }
        label.nearest = Some(nearest);
    }
    Ok(labels)
}

/// Keeps the words nearest to one query: at most [`NEAREST`], each within a third of the query's length.
struct Search {
    query: String,
    letters: u64,
    length: usize,
    limit: usize,
    best: Vec<(usize, String)>,
}

impl Search {
    fn new(query: &str) -> Self {
        let query = composed(query).to_lowercase();
        let length = query.chars().count();
        // A distance takes the product of both lengths: of what is no word, none is near.
        let limit = match length {
            0..=LONGEST_WORD => length.div_ceil(3).min(4),
            _ => 0,
        };
        Self {
            letters: letters(&query),
            query,
            length,
            limit,
            best: Vec::new(),
        }
    }

    /// Offers a word: as written, in lower case, and the letters and length of the latter.
    fn offer(&mut self, key: &str, folded: &str, letters: u64, length: usize) {
        // Two lower bounds of the edit distance spare nearly all of its computations: an edit changes the
        // length by at most one, and takes at most one letter out of the set and one into it.
        let bound = self
            .length
            .abs_diff(length)
            .max((self.letters ^ letters).count_ones().div_ceil(2) as usize);
        if self.limit == 0 || !self.wants(bound) {
            return;
        }
        let distance = strsim::osa_distance(&self.query, folded);
        if !self.wants(distance) {
            return;
        }
        let place = self.best.partition_point(|(other, _)| *other <= distance);
        self.best.insert(place, (distance, key.to_string()));
        self.best.truncate(NEAREST);
    }

    /// Whether a word at this distance would be kept. Of equals the earlier one stays: published files are ordered
    /// by frequency.
    fn wants(&self, distance: usize) -> bool {
        let full = self.best.len() == NEAREST;
        distance <= self.limit && !(full && self.best.iter().all(|(kept, _)| *kept <= distance))
    }
}

/// The set of letters of a word, hashed into 64 bits.
fn letters(word: &str) -> u64 {
    word.chars()
        .fold(0, |set, c| set | 1 << (u32::from(c) % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    /// A distance of such words would take 10^10 steps.
    #[test]
    fn nothing_is_near_to_what_is_no_word() {
        let long = |end: &str| format!("{}{end}", "a".repeat(100_000));
        let mut search = Search::new(&long("b"));
        let word = long("c");
        search.offer(&word, &word, letters(&word), word.len());
        assert!(search.best.is_empty());
        let mut search = Search::new("hose");
        search.offer("horse", "horse", letters("horse"), 5);
        assert_eq!(search.best, [(1, "horse".to_string())]);
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn found(text: &str, name: &str) -> (Found, Vec<f32>) {
        let resolved = resolve(file(text).path(), &names(&[name])).unwrap();
        (
            resolved.report[0].found.clone(),
            resolved.vectors.values().to_vec(),
        )
    }

    #[test]
    fn rules_are_tried_in_order() {
        let joined = |key: &str| Found::Joined(key.into());
        let all = "polar 1 1\nbear 3 5\npolarbear 4 0\npolar-bear 5 0\npolar_bear 6 0\n";
        assert_eq!(found(all, "polar_bear"), (Found::Exact, vec![6.0, 0.0]));
        assert_eq!(found(all, "polar-bear"), (Found::Exact, vec![5.0, 0.0]));
        assert_eq!(
            found(all, "polar bear"),
            (joined("polar_bear"), vec![6.0, 0.0])
        );
        let text = "polar 1 1\nbear 3 5\npolarbear 4 0\npolar-bear 5 0\n";
        assert_eq!(
            found(text, "polar bear"),
            (joined("polar-bear"), vec![5.0, 0.0])
        );
        let text = "polar 1 1\nbear 3 5\npolarbear 4 0\n";
        assert_eq!(
            found(text, "polar bear"),
            (joined("polarbear"), vec![4.0, 0.0])
        );
        let text = "polar 1 1\nbear 3 5\n";
        let mean = (Found::Mean(names(&["polar", "bear"])), vec![2.0, 3.0]);
        assert_eq!(found(text, "polar bear"), mean);
        assert_eq!(found(text, "polar_bear"), mean);
    }

    #[test]
    fn own_case_comes_before_lower_case() {
        assert_eq!(
            found("apple 1\nApple 2\n", "Apple"),
            (Found::Exact, vec![2.0])
        );
        assert_eq!(
            found("apple 1\nAPPLE 2\n", "Apple"),
            (Found::LowerCase("apple".into()), vec![1.0])
        );
        assert_eq!(
            found("polar_bear 1\nPolar 2\nBear 3\n", "Polar Bear"),
            (Found::Joined("polar_bear".into()), vec![1.0])
        );
        assert_eq!(
            found("polar 1\nBear 3\n", "Polar Bear"),
            (Found::Mean(names(&["polar", "Bear"])), vec![2.0])
        );
        let error = resolve(file("Apple 2\n").path(), &names(&["apple"])).unwrap_err();
        assert!(error.to_string().contains("nearest: `Apple`"), "{error}");
    }

    #[test]
    fn report_reads_well() {
        let file = file("cat 1\ntree 2\npolar_bear 3\nhot 4\ndog 6\n");
        let resolved = resolve(
            file.path(),
            &names(&["cat", "Tree", "polar bear", "hot dog"]),
        )
        .unwrap();
        assert_eq!(
            resolved.to_string(),
            "4 labels, vectors of width 1: 1 exact, 1 in lower case, 1 joined, 1 means of words\
             \n  Tree: the word `tree`\n  polar bear: the word `polar_bear`\n  hot dog: mean of `hot`, `dog`"
        );
        assert_eq!(resolved.vectors.values(), [1.0, 2.0, 3.0, 5.0]);
    }

    #[test]
    fn every_label_without_a_vector_is_named_with_the_nearest_words() {
        let file = file("bear 1\nboar 2\npolar 3\nzebra 4\nstop_sign 5\n");
        let error = resolve(
            file.path(),
            &names(&["polar baer", "zebra", "qqqqqqq", "zbera", "stop sgin"]),
        )
        .unwrap_err();
        let LabelError::Unresolved { labels, .. } = &error else {
            panic!("{error}")
        };
        let unresolved = |name: &str, missing: &[&str], nearest: &[&str]| Unresolved {
            name: name.into(),
            missing: names(missing),
            nearest: Some(names(nearest)),
        };
        assert_eq!(
            labels,
            &[
                unresolved("polar baer", &["baer"], &["bear", "boar"]),
                unresolved("qqqqqqq", &["qqqqqqq"], &[]),
                unresolved("zbera", &["zbera"], &["zebra", "bear"]),
                unresolved("stop sgin", &["stop", "sgin"], &["stop_sign"]),
            ]
        );
        let text = error.to_string();
        assert!(text.contains("4 labels have no vector:\n  `polar baer` (nor has `baer`); nearest: `bear`, `boar`\n"), "{text}");
        assert!(
            text.contains("  `qqqqqqq`; no word of the file is near\n"),
            "{text}"
        );
    }

    #[test]
    fn damage_of_wanted_words_is_an_error() {
        let error =
            |text: &str, name: &str| resolve(file(text).path(), &names(&[name])).unwrap_err();
        assert!(matches!(
            error("a 1\nb 2\na 3\n", "a"),
            LabelError::DuplicateKey {
                place: Place::Line(3),
                first: Place::Line(1),
                ..
            }
        ));
        assert!(matches!(
            error("b 2\na nan\n", "a"),
            LabelError::NotFinite {
                place: Place::Line(2),
                ..
            }
        ));
        assert!(matches!(
            error("b 2\na 0.0\n", "a"),
            LabelError::ZeroRow {
                place: Place::Line(2),
                ..
            }
        ));
        assert!(matches!(
            error("b 2 3\na 1\n", "b"),
            LabelError::Width {
                place: Place::Line(2),
                ..
            }
        ));
        assert!(matches!(
            error("b 1\nc -1\n", "b c"),
            LabelError::ZeroVector { .. }
        ));
        assert!(matches!(
            resolve(file("a 1\n").path(), &[]).unwrap_err(),
            LabelError::NoVectors { .. }
        ));
        assert!(matches!(
            resolve(Path::new("none.txt"), &names(&["a"])).unwrap_err(),
            LabelError::Read { .. }
        ));
    }

    #[test]
    fn real_label_lists_find_their_vectors() {
        let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
        if !data.exists() {
            println!("skipped: ../shared/data is missing");
            return;
        }
        let vectors = data.join("words/glove.6B.300d.subset.txt");
        let corel = data.join("corel5k");
        let (names, seen) =
            super::super::read_seen_unseen(&corel.join("seen.txt"), &corel.join("unseen.txt"))
                .unwrap();
        assert_eq!((seen, names.len()), (194, 242));
        let resolved = resolve(&vectors, &names).unwrap();
        assert!(
            resolved
                .report
                .iter()
                .all(|entry| entry.found == Found::Exact)
        );
        assert_eq!((resolved.vectors.len(), resolved.vectors.dim()), (242, 300));
        let (names, _) = super::super::read_seen_unseen(
            &data.join("splits/coco_65_15_seen.txt"),
            &data.join("splits/coco_65_15_unseen.txt"),
        )
        .unwrap();
        let resolved = resolve(&vectors, &names).unwrap();
        let joined = resolved
            .report
            .iter()
            .filter(|entry| matches!(entry.found, Found::Joined(_)))
            .count();
        assert_eq!(
            joined,
            names.iter().filter(|name| name.contains(' ')).count()
        );
        let concepts = super::super::read_names(&data.join("nus-wide/Concepts81.txt")).unwrap();
        assert_eq!(resolve(&vectors, &concepts).unwrap().vectors.len(), 81);
    }

    proptest! {
        #[test]
        fn no_nearer_word_is_missed(query in "[a-e]{3,8}", keys in proptest::collection::hash_set("[a-e]{2,9}", 1..30)) {
            let keys: Vec<String> = keys.into_iter().collect();
            let mut search = Search::new(&query);
            for key in &keys {
                search.offer(key, key, letters(key), key.chars().count());
            }
            let mut all: Vec<usize> = keys.iter().map(|key| strsim::osa_distance(&query, key)).collect();
            all.retain(|&distance| distance <= search.limit);
            all.sort_unstable();
            all.truncate(NEAREST);
            prop_assert_eq!(search.best.iter().map(|(distance, _)| *distance).collect::<Vec<_>>(), all);
        }

        #[test]
        fn any_name_is_found_or_refused(name in "\\PC{0,12}", text in "([a-c ]{1,3}( [0-9]){2}\n){1,5}") {
            let _ = resolve(file(&text).path(), &[name]);
        }
    }
}
