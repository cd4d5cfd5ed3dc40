//! The counts of a data set at each filter, as `epsilon prepare` prints them.

use super::{Dataset, Record, Split};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Ignored words named.
const FREQUENT: usize = 10;
/// Examples kept of what a reader met.
const EXAMPLES: usize = 3;
/// Images looked for by one thread at a time.
const CHUNK: usize = 4096;
/// Names listed in the text form before "and n more"; the serialised form has them all.
const LISTED: usize = 20;

/// How often each word stands in a table.
pub(super) type WordCounts = HashMap<String, usize>;

/// What a reader met that is worth telling, in the order it was first met.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Notes(pub(super) Vec<Note>);

impl Notes {
    /// Counts one more of `what`.
    pub(super) fn count(&mut self, what: &str, example: &str) {
        let place = match self.0.iter().position(|note| note.what == what) {
            Some(place) => place,
            None => {
                self.add(what, 0, Vec::new());
                self.0.len() - 1
            }
        };
        let note = &mut self.0[place];
        note.count += 1;
        if note.examples.len() < EXAMPLES {
            note.examples.push(example.into());
        }
    }

    /// Adds a count made elsewhere.
    pub(super) fn add(&mut self, what: &str, count: usize, examples: Vec<String>) {
        self.0.push(Note {
            what: what.into(),
            count,
            examples,
        });
    }
}

impl Notes {
    /// Adds the labels that no test image is known to lack: their average precision is 1 whatever the scores are.
    fn with_never_negative(mut self, dataset: &Dataset) -> Self {
        if dataset.labels.rest() == -1 {
            // All labels but those that every image has are negative somewhere; few data sets have one.
            return self;
        }
        let mut positive = vec![false; dataset.names.len()];
        let mut negative = vec![false; dataset.names.len()];
        for row in dataset.rows(Split::Test) {
            for &(label, value) in dataset.labels.entries(row) {
                match value {
                    1 => positive[label as usize] = true,
                    _ => negative[label as usize] = true,
                }
            }
        }
        let never = (0..dataset.names.len()).filter(|&label| positive[label] && !negative[label]);
        let never: Vec<&String> = never.map(|label| &dataset.names[label]).collect();
        if !never.is_empty() {
            let examples = never.iter().take(EXAMPLES).map(|name| (*name).clone());
            self.add(
                "labels that are negative for no test image, so that any ranking of them is perfect",
                never.len(),
                examples.collect(),
            );
        }
        self
    }
}

/// How often a reader met something, such as images listed twice, and some of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What, in words.
    pub what: String,
    /// How often.
    pub count: usize,
    /// The first ones, at most three.
    pub examples: Vec<String>,
}

/// Counts of a data set at each filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows of the table.
    pub rows: usize,
    /// Number of seen labels.
    pub seen: usize,
    /// Number of unseen labels.
    pub unseen: usize,
    /// Whether a label that an image does not list is negative (else unknown).
    pub unlisted_is_negative: bool,
    /// The training images.
    pub train: SplitSummary,
    /// The test images.
    pub test: SplitSummary,
    /// Different words of the table that stand in neither list of labels.
    pub ignored_words: usize,
    /// How often such words stand in the table.
    pub ignored_occurrences: usize,
    /// The most frequent of them, at most ten, with their counts; equals in alphabetical order.
    pub most_ignored: Vec<(String, usize)>,
    /// What else the reader met and counted; `rows` are those that were kept.
    pub notes: Vec<Note>,
    /// Images whose file does not exist; with a token store, those without tokens.
    pub missing_images: usize,
    /// Ids of the first ones, at most twenty.
    pub missing_examples: Vec<String>,
}

/// Counts of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Images.
    pub images: usize,
    /// Images with at least one positive seen label.
    pub with_seen: usize,
    /// Images with at least one positive unseen label.
    pub with_unseen: usize,
    /// Images with at least one positive label of either kind.
    pub with_any: usize,
    /// Positive seen labels per image, over all images of the split (0 without images).
    pub seen_per_image: f64,
    /// Positive unseen labels per image, over all images of the split (0 without images).
    pub unseen_per_image: f64,
    /// Seen labels that no image of the split has.
    pub seen_without_positive: Vec<String>,
    /// Unseen labels that no image of the split has.
    pub unseen_without_positive: Vec<String>,
}

impl Summary {
    /// Counts `dataset` and looks for each of its files; `ignored` counts the words that are no label.
    pub(super) fn new(dataset: &Dataset, ignored: WordCounts, notes: Notes) -> Self {
        let ignored_words = ignored.len();
        let ignored_occurrences = ignored.values().sum();
        let mut most_ignored: Vec<(String, usize)> = ignored.into_iter().collect();
        most_ignored.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        most_ignored.truncate(FREQUENT);
        let mut summary = Self {
            rows: dataset.records.len(),
            seen: dataset.seen,
            unseen: dataset.names.len() - dataset.seen,
            unlisted_is_negative: dataset.labels.rest() == -1,
            train: SplitSummary::new(dataset, Split::Train),
            test: SplitSummary::new(dataset, Split::Test),
            ignored_words,
            ignored_occurrences,
            most_ignored,
            notes: notes.with_never_negative(dataset).0,
            missing_images: 0,
            missing_examples: Vec::new(),
        };
        summary.find_missing(dataset);
        summary
    }

    /// The same data set with other labels seen and unseen, or with fewer images: its images and labels are counted again.
    #[must_use]
    pub fn recounted(&self, dataset: &Dataset) -> Self {
        Self {
            rows: dataset.records.len(),
            seen: dataset.seen,
            unseen: dataset.names.len() - dataset.seen,
            train: SplitSummary::new(dataset, Split::Train),
            test: SplitSummary::new(dataset, Split::Test),
            ..self.clone()
        }
    }

    /// Looks for the file of every image.
    pub(super) fn find_missing(&mut self, dataset: &Dataset) {
        // Millions of images lie in few folders: one that is not there spares the question for each of them.
        let missing: Vec<bool> = dataset
            .records
            .par_chunks(CHUNK)
            .flat_map_iter(|records| {
                let mut folder = (PathBuf::new(), false);
                records.iter().map(move |record| {
                    let path = record.path();
                    let parent = path.parent().unwrap_or(Path::new(""));
                    if folder.0 != parent {
                        folder = (parent.into(), parent.is_dir());
                    }
                    !(folder.1 && path.is_file())
                })
            })
            .collect();
        self.set_missing(dataset, |row, _| missing[row]);
    }

    /// Counts the images that `is_missing`, given row and record, says are missing.
    pub fn set_missing(&mut self, dataset: &Dataset, is_missing: impl Fn(usize, &Record) -> bool) {
        let rows = dataset.records.iter().enumerate();
        let missing = rows.filter(|&(row, record)| is_missing(row, record));
        let mut missing = missing.map(|(_, record)| &record.id);
        self.missing_examples = missing.by_ref().take(LISTED).cloned().collect();
        self.missing_images = self.missing_examples.len() + missing.count();
    }
}

impl SplitSummary {
    fn new(dataset: &Dataset, split: Split) -> Self {
        let rows = dataset.rows(split);
        let mut positives = vec![0_usize; dataset.names.len()];
        let (mut with_seen, mut with_unseen, mut with_any) = (0, 0, 0);
        for &row in &rows {
            let (mut seen, mut unseen) = (false, false);
            for label in dataset.labels.positives(row) {
                positives[label] += 1;
                *(if label < dataset.seen {
                    &mut seen
                } else {
                    &mut unseen
                }) = true;
            }
            with_seen += usize::from(seen);
            with_unseen += usize::from(unseen);
            with_any += usize::from(seen || unseen);
        }
        let (seen, unseen) = positives.split_at(dataset.seen);
        let per_image =
            |counts: &[usize]| counts.iter().sum::<usize>() as f64 / rows.len().max(1) as f64;
        let without = |names: &[String], counts: &[usize]| {
            names
                .iter()
                .zip(counts)
                .filter(|(_, count)| **count == 0)
                .map(|(name, _)| name.clone())
                .collect()
        };
        Self {
            images: rows.len(),
            with_seen,
            with_unseen,
            with_any,
            seen_per_image: per_image(seen),
            unseen_per_image: per_image(unseen),
            seen_without_positive: without(dataset.seen_names(), seen),
            unseen_without_positive: without(dataset.unseen_names(), unseen),
        }
    }
}

/// A line of the text form: a count or a mean of each split.
type Count = fn(&SplitSummary) -> usize;
type Mean = fn(&SplitSummary) -> f64;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (train, test) = (&self.train, &self.test);
        let rest = if self.unlisted_is_negative {
            "negative"
        } else {
            "unknown"
        };
        writeln!(f, "rows read    {}", self.rows)?;
        writeln!(
            f,
            "labels       {} seen, {} unseen; a label that is not listed is {rest}",
            self.seen, self.unseen
        )?;
        self.write_table(f)?;
        list(
            f,
            "no train image has the seen labels",
            &train.seen_without_positive,
        )?;
        list(
            f,
            "no test image has the seen labels",
            &test.seen_without_positive,
        )?;
        list(
            f,
            "no test image has the unseen labels",
            &test.unseen_without_positive,
        )?;
        self.write_ignored(f)?;
        self.write_notes(f)?;
        self.write_missing(f)
    }
}

impl Summary {
    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (train, test) = (&self.train, &self.test);
        writeln!(f, "             {:>28} {:>9} {:>9}", "", "train", "test")?;
        let mut row = |what: &str, train: String, test: String| {
            writeln!(f, "             {what:<28} {train:>9} {test:>9}")
        };
        let counts: [(&str, Count); 6] = [
            ("images", |split| split.images),
            ("with a seen label", |split| split.with_seen),
            ("with an unseen label", |split| split.with_unseen),
            ("with any label", |split| split.with_any),
            ("seen labels without image", |split| {
                split.seen_without_positive.len()
            }),
            ("unseen labels without image", |split| {
                split.unseen_without_positive.len()
            }),
        ];
        for (what, count) in counts {
            row(what, count(train).to_string(), count(test).to_string())?;
        }
        let means: [(&str, Mean); 4] = [
            ("seen labels per image", |split| split.seen_per_image),
            ("  of those with one", |split| {
                per(split.seen_per_image, split.images, split.with_seen)
            }),
            ("unseen labels per image", |split| split.unseen_per_image),
            ("  of those with one", |split| {
                per(split.unseen_per_image, split.images, split.with_unseen)
            }),
        ];
        for (what, mean) in means {
            row(
                what,
                format!("{:.2}", mean(train)),
                format!("{:.2}", mean(test)),
            )?;
        }
        Ok(())
    }

    fn write_ignored(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ignored      {} words in neither list, {} times",
            self.ignored_words, self.ignored_occurrences
        )?;
        let most: Vec<String> = self
            .most_ignored
            .iter()
            .map(|(word, count)| format!("{word} {count}"))
            .collect();
        if !most.is_empty() {
            write!(f, "; most often: {}", most.join(", "))?;
        }
        writeln!(f)
    }

    fn write_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            write!(f, "counted      {}: {}", note.what, note.count)?;
            if !note.examples.is_empty() {
                write!(f, " ({})", note.examples.join(", "))?;
                if note.examples.len() < note.count {
                    write!(f, " ...")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_missing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing      {} images", self.missing_images)?;
        for id in &self.missing_examples {
            write!(f, "\n             {id}")?;
        }
        let more = self.missing_images - self.missing_examples.len();
        if more > 0 {
            write!(f, "\n             and {more} more")?;
        }
        Ok(())
    }
}

/// A mean over `all` images as one over `some` of them, where the others have none.
fn per(mean: f64, all: usize, some: usize) -> f64 {
    mean * all as f64 / some.max(1) as f64
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, names: &[String]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    let shown = names[..names.len().min(LISTED)].join(", ");
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    writeln!(f, "             {what}: {shown}{more}")
}
