//! Where photographs lie while their owner judges them: what is known of them, what is said, and the way back.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use epsilon::library::ownership::{Subject, folded};
use epsilon::library::{
    Catalog, Correction, Corrections, Item, Labelled, Library, LibraryError, Line, Opinion,
    Reviewed, State, Tag, Verdict, now, photo_ids,
};
use epsilon::paths;

use crate::console;

/// Something that the owner says of a photograph.
pub(super) enum Saying {
    /// Of a label that it has.
    Judge(String, Verdict),
    /// Of any label: it is there.
    Add(Subject),
    /// Whether all of it was looked at.
    Review(bool),
}

/// What an answer changed: the lines that were added, and those that take them back.
struct Done {
    photo: String,
    back: Vec<Line>,
}

pub(super) struct Desk {
    library: Library,
    folder: PathBuf,
    catalog: Catalog,
    corrections: Corrections,
    done: Vec<Done>,
}

impl Desk {
    pub(super) fn open(library: Library, folder: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            catalog: Catalog::read(&folder)?,
            corrections: Corrections::open(&folder)?,
            library,
            folder,
            done: Vec::new(),
        })
    }

    /// The library's photographs, those whose review teaches most in their order.
    pub(super) fn telling(&mut self) -> anyhow::Result<&Catalog> {
        self.catalog.find_telling(&self.folder)?;
        Ok(&self.catalog)
    }

    /// Reads what other programs have done meanwhile.
    pub(super) fn refresh(&mut self) -> anyhow::Result<()> {
        self.corrections.refresh()?;
        if self.catalog.refresh()? {
            self.library = Library::read(&self.folder)?.0;
        }
        Ok(())
    }

    /// The id of a photograph that somebody means.
    pub(super) fn photo(&mut self, meant: &str) -> anyhow::Result<String> {
        let find = |desk: &Self| {
            let ids = photo_ids(&desk.library.photos, Path::new(meant));
            ids.into_iter().find(|id| desk.catalog.item(id).is_some())
        };
        if let Some(id) = find(self) {
            return Ok(id);
        }
        // It may be new.
        self.refresh()?;
        find(self).with_context(|| {
            format!(
                "{}: is no photograph of this library, which is of {}",
                paths::plain(meant),
                paths::shown(&self.library.photos)
            )
        })
    }

    pub(super) fn item(&self, photo: &str) -> Option<&Item> {
        self.catalog.item(photo)
    }

    /// A photograph's labels with all that was said of them, also those that the owner rejected and no model keeps now.
    pub(super) fn labels(&self, photo: &str) -> Vec<Labelled> {
        let item = self.catalog.item(photo);
        let labels = item.into_iter().flat_map(|item| &item.labels);
        let given = labels.filter(|tag| tag.score().is_some());
        let given = given.map(Tag::label).collect();
        let mut labels = self.corrections.apply(photo, given);
        let opinion = self.corrections.of(photo);
        for judged in opinion.into_iter().flat_map(Opinion::rejected) {
            if find(&labels, &judged.name).is_none() {
                let label = judged.label();
                let state = State::Rejected;
                labels.push(Labelled { label, state });
            }
        }
        labels
    }

    pub(super) fn is_reviewed(&self, photo: &str) -> bool {
        self.corrections
            .of(photo)
            .is_some_and(|opinion| opinion.reviewed)
    }

    /// Says all this of a photograph, or nothing; gives the lines when they are on the disk.
    pub(super) fn say(&mut self, photo: &str, sayings: Vec<Saying>) -> anyhow::Result<Vec<Line>> {
        let labels = self.labels(photo);
        let lines = sayings
            .into_iter()
            .map(|saying| self.line(photo, &labels, saying));
        let lines: Vec<Line> = lines.collect::<anyhow::Result<_>>()?;
        let back = lines.iter().rev().map(|line| self.before(line)).collect();
        self.corrections.add(&lines)?;
        self.done.push(Done {
            photo: photo.into(),
            back,
        });
        Ok(lines)
    }

    /// Takes the last answer back; gives its photograph and the lines that do so, or none where there is nothing to take back.
    pub(super) fn undo(&mut self) -> anyhow::Result<Option<(String, Vec<Line>)>> {
        let Some(Done { photo, mut back }) = self.done.pop() else {
            return Ok(None);
        };
        for line in &mut back {
            let (Line::Label(Correction { at, .. }) | Line::Photo(Reviewed { at, .. })) = line;
            *at = now();
        }
        self.corrections.add(&back)?;
        Ok(Some((photo, back)))
    }

    fn line(&self, photo: &str, labels: &[Labelled], saying: Saying) -> anyhow::Result<Line> {
        let (subject, verdict) = match saying {
            Saying::Review(reviewed) => {
                return Ok(Line::Photo(Reviewed {
                    photo: photo.into(),
                    reviewed,
                    at: now(),
                }));
            }
            Saying::Add(subject) => (as_it_stands(labels, subject), Verdict::Approved),
            Saying::Judge(name, verdict) => {
                let Some(labelled) = find(labels, &name) else {
                    bail!("{name}: is none of the labels of {photo}; `add` adds one");
                };
                (labelled.label.subject(), verdict)
            }
        };
        let item = self.catalog.item(photo);
        Ok(Line::Label(Correction {
            photo: photo.into(),
            verdict,
            at: now(),
            by: item.and_then(|item| item.proposal(&self.library, &subject.name)),
            label: subject.name,
            parents: subject.parents,
        }))
    }

    /// The line that says again what held before this one.
    fn before(&self, line: &Line) -> Line {
        let opinion = self.corrections.of(line.photo());
        match line {
            Line::Photo(reviewed) => Line::Photo(Reviewed {
                reviewed: opinion.is_some_and(|opinion| opinion.reviewed),
                ..reviewed.clone()
            }),
            Line::Label(said) => {
                let before = opinion.and_then(|opinion| opinion.labels.get(&folded(&said.label)));
                Line::Label(match before {
                    Some(judged) => Correction {
                        label: judged.name.clone(),
                        parents: judged.parents.clone(),
                        verdict: judged.verdict,
                        by: judged.by.clone(),
                        ..said.clone()
                    },
                    None => Correction {
                        verdict: Verdict::Withdrawn,
                        ..said.clone()
                    },
                })
            }
        }
    }
}

/// Whether the journal cannot be read or written, so that going on is of no use; a wrong name of a label is no such error.
pub(super) fn is_of_library(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<LibraryError>();
    error.is_some_and(|error| !matches!(error, LibraryError::Label { .. }))
}

/// The label with a name, whatever its case.
pub(super) fn find<'a>(labels: &'a [Labelled], name: &str) -> Option<&'a Labelled> {
    let key = folded(name);
    labels
        .iter()
        .find(|labelled| folded(&labelled.label.name) == key)
}

/// A label that somebody types without parents, as the photograph has it already.
fn as_it_stands(labels: &[Labelled], typed: Subject) -> Subject {
    let stands = find(labels, &typed.name).filter(|_| typed.parents.is_empty());
    stands.map_or(typed, |labelled| labelled.label.subject())
}

/// A label that somebody types: `animal|dog` is dog below animal.
pub(super) fn subject(text: &str) -> anyhow::Result<Subject> {
    let parts: Vec<String> = text.split('|').map(|part| part.trim().into()).collect();
    let whole = parts.iter().all(|part| !part.is_empty());
    let subject = Subject::of_path(parts).filter(|_| whole);
    subject.with_context(|| format!("{text:?}: is no label"))
}

/// Prints a decision: what was said, the photograph, and the label.
pub(super) fn print(line: &Line, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(console::print(serde_json::to_string(line)?)?);
    }
    let photo = paths::plain(line.photo());
    let text = match line {
        Line::Label(said) => {
            let label = [&said.parents[..], std::slice::from_ref(&said.label)].concat();
            let (verdict, label) = (verdict(said.verdict), label.join("|"));
            format!("{verdict}\t{photo}\t{}", paths::plain(&label))
        }
        Line::Photo(Reviewed { reviewed: true, .. }) => format!("reviewed\t{photo}"),
        Line::Photo(_) => format!("unreviewed\t{photo}"),
    };
    Ok(console::print(text)?)
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approved => "approved",
        Verdict::Rejected => "rejected",
        Verdict::Withdrawn => "withdrawn",
    }
}
