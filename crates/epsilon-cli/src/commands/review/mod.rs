//! `epsilon review`: the owner of a library says which labels are right, in the terminal or by lines from a program.

mod desk;
mod script;
mod terminal;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use epsilon::library::ownership::folded;
use epsilon::library::{Correction, Corrections, Filter, Library, Line, Order, Reviewed};

use self::desk::{Desk, print};
use crate::{Outcome, console};

/// Say which labels of a tagged library are right.
///
/// Your word is kept in the library's corrections.jsonl: a label that you reject never comes
/// back, one that you approve is never taken out, whatever models and words come.
///
/// Photographs are shown one by one, those first that teach most (docs/learning.md).
/// An answer is a line:
///
///   1 3      approve the labels of these numbers; one that is approved is rejected
///   +WORD    add a label; +animal|dog is dog below animal
///   (empty)  done: what is not approved is not there
///   s        skip this photograph
///   u        undo the last answer
///   q        quit
///
/// Where standard input is no terminal, each line of it is a command instead:
///
///   approve PHOTO LABEL    it is there: a label of the photograph
///   reject PHOTO LABEL     it is not there: a label of the photograph
///   add PHOTO LABEL        it is there: any word, or animal|dog
///   withdraw PHOTO LABEL   take back what was said of it
///   reviewed PHOTO         what is not approved is not there
///   unreviewed PHOTO       take that back
///   undo                   undo the last of these commands
///
/// PHOTO is a path, or the name as in tags.jsonl. In double quotes, or with a tab behind it,
/// it may hold spaces. Each decision is printed once it is on the disk. A line about an
/// unknown photograph or label, or one that is not UTF-8, changes nothing and is named on
/// stderr; the exit code is then 1.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The folder of photographs that was tagged, or its library.
    #[arg(value_name = "PHOTOS")]
    library: PathBuf,
    /// Show photographs with this label, or one below it, that you did not reject. With --list: what you said of it.
    #[arg(long, value_name = "WORD")]
    label: Option<String>,
    /// Show those, too, that you have reviewed.
    #[arg(long)]
    all: bool,
    /// Print what you have said until now, and change nothing.
    #[arg(long, conflicts_with = "all")]
    list: bool,
    /// Print each decision as a line of JSON, as it stands in corrections.jsonl.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    let (library, folder) = Library::read(&args.library)?;
    if args.list {
        list(
            &Corrections::read(&folder)?,
            args.label.as_deref(),
            args.json,
        )?;
        return Ok(Outcome::Done);
    }
    let mut desk = Desk::open(library, folder)?;
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return script::run(&mut desk, stdin.lock(), args.json);
    }
    let photos = photos(&mut desk, args.label, !args.all)?;
    terminal::run(&mut desk, &photos, &mut stdin.lock(), args.json)?;
    Ok(Outcome::Done)
}

/// The photographs to be shown, those first that teach most.
fn photos(desk: &mut Desk, label: Option<String>, unreviewed: bool) -> anyhow::Result<Vec<String>> {
    let filter = Filter {
        label,
        unreviewed,
        ..Filter::default()
    };
    let catalog = desk.telling()?;
    let places = catalog.select(&filter, Order::Doubt).into_iter();
    let items = places.map(|place| &catalog.items()[place]);
    let readable = items.filter(|item| item.error.is_none());
    Ok(readable.map(|item| item.id.clone()).collect())
}

/// All that holds, as lines that would say it again.
fn list(corrections: &Corrections, label: Option<&str>, json: bool) -> anyhow::Result<()> {
    let label = label.map(folded);
    for (photo, opinion) in corrections.photos() {
        let asked = opinion.labels.iter();
        let asked = asked.filter(|(key, _)| label.as_ref().is_none_or(|label| label == *key));
        for (_, judged) in asked {
            let line = Line::Label(Correction {
                photo: photo.into(),
                label: judged.name.clone(),
                parents: judged.parents.clone(),
                verdict: judged.verdict,
                at: judged.at,
                by: judged.by.clone(),
            });
            print(&line, json)?;
        }
        if opinion.reviewed && label.is_none() {
            let line = Line::Photo(Reviewed {
                photo: photo.into(),
                reviewed: true,
                at: opinion.reviewed_at,
            });
            print(&line, json)?;
        }
    }
    if corrections.photos().next().is_none() {
        console::tell("nothing was said yet");
    }
    Ok(())
}
