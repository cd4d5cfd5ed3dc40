//! `epsilon search`: the photographs of a tagged library that match a word best, are like one of them, or meet criteria.

use std::path::PathBuf;

use anyhow::{anyhow, bail, ensure};
use epsilon::Finder;
use epsilon::finder::{self, FindError, Found};
use epsilon::library::{Filter, Library, Order};
use epsilon::paths;
use epsilon::semantic_index::{self, Searchers};

use super::trained::{VectorArgs, with_option};
use crate::{Outcome, console};

/// Rank a tagged library for any word, also one that it was not tagged with; find photographs like one of them; or list those that
/// meet criteria.
///
/// Photographs for which you approved the very words as a label come first, those for which you rejected them are left out.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The library that `epsilon tag` made, or the folder of photographs that it is in.
    library: PathBuf,
    /// What to look for: a word, or several as one, such as "red flower". Without it, and without --like, photographs that meet
    /// the criteria are listed.
    words: Option<String>,
    /// Find the photographs most like this one of the library: its path, or its id as in tags.jsonl.
    #[arg(long, value_name = "PHOTO", conflicts_with = "words")]
    like: Option<PathBuf>,
    #[command(flatten)]
    criteria: Criteria,
    /// In which order: best first, latest first, or those first whose review teaches most. With words or --like, the
    /// best --top photographs are put in this order.
    #[arg(long, value_name = "ORDER", value_enum)]
    sort: Option<Sort>,
    /// How many photographs to show.
    #[arg(long, default_value_t = 50, value_name = "N")]
    top: usize,
    #[command(flatten)]
    vectors: VectorArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which photographs; those that meet all that is given.
#[derive(clap::Args)]
#[command(next_help_heading = "Criteria")]
struct Criteria {
    /// Those with this label, or one below it, that you did not reject.
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Those whose label (that of --label, or any) has at least this probability (0 to 1). An approved label is certain.
    #[arg(long, value_name = "P")]
    threshold: Option<f32>,
    /// Those taken then or later: YYYY, YYYY-MM, YYYY-MM-DD, YYYY-MM-DDTHH:MM, or 30d for 30 days ago. The camera's clock
    /// counts; where a photograph does not say when it was taken, the time its file was last changed (UTC).
    #[arg(long, value_name = "DATE")]
    since: Option<String>,
    /// Those taken then or earlier: a year, month or day counts to its end.
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
    /// Those in this folder of the library and the folders in it: its path, from the folder of photographs or as it is.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Those that you have not marked as reviewed.
    #[arg(long)]
    unreviewed: bool,
    /// Those that could not be tagged.
    #[arg(long)]
    broken: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Sort {
    Relevance,
    Date,
    Doubt,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    args.check()?;
    let ranks = crate::ranks::of_job();
    if !ranks.is_first() {
        let (_, folder) = Library::read(&args.library)?;
        semantic_index::assist(&Library::index(&folder), &*ranks);
        return Ok(Outcome::Done);
    }
    let mut finder = Finder::open(&args.library)?.shared_with(Searchers::new(ranks));
    if matches!(args.sort, Some(Sort::Doubt)) {
        finder.find_telling()?;
    }
    let filter = finder.filter(&args.criteria.get()).map_err(named)?;
    let order = match args.sort {
        None | Some(Sort::Relevance) => Order::Relevance,
        Some(Sort::Date) => Order::Date,
        Some(Sort::Doubt) => Order::Doubt,
    };
    let asked = (order, args.top);
    let found = match (&args.words, &args.like) {
        (Some(words), _) => {
            let names = [words.clone()];
            let (model, vectors) = args.vectors.load_words(finder.library(), &names)?;
            let found = finder.matching(words, (&model, &vectors), &filter, asked);
            found.map_err(named)?
        }
        (None, Some(photo)) => finder.like(photo, &filter, asked).map_err(named)?,
        (None, None) => finder.listed(&filter, asked),
    };
    if args.words.is_some() || args.like.is_some() {
        warn_of_unindexed(&finder, &filter);
    }
    if args.json {
        console::print_json(&found)?;
    } else {
        for (rank, found) in (1..).zip(&found) {
            print(rank, found, order)?;
        }
    }
    Ok(Outcome::Done)
}

/// Says of how many photographs a search knows nothing yet: what it does not find may be among them. An index that was replaced
/// since it was searched takes nothing back of what was found.
fn warn_of_unindexed(finder: &Finder, filter: &Filter) {
    if let Ok((unindexed @ 1.., asked)) = finder.unindexed(filter) {
        console::warn(format_args!(
            "{unindexed} of {asked} photographs are not in the index yet and were not ranked: `epsilon tag` goes on with them"
        ));
    }
}

impl Args {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.top > 0, "--top 0: give at least 1");
        let anything = self.words.is_some() || self.like.is_some() || self.sort.is_some();
        ensure!(
            anything || self.criteria.is_any(),
            "what to look for? Give words, --like PHOTO, or criteria such as --since or --label"
        );
        if let (None, Some(file)) = (&self.words, self.vectors.path()) {
            bail!(
                "{}: vectors of which words? Name the words, too",
                paths::shown(file)
            );
        }
        Ok(())
    }
}

impl Criteria {
    fn is_any(&self) -> bool {
        let texts = [&self.label, &self.since, &self.until];
        texts.iter().any(|text| text.is_some())
            || self.threshold.is_some()
            || self.folder.is_some()
            || self.unreviewed
            || self.broken
    }

    fn get(&self) -> finder::Criteria {
        finder::Criteria {
            label: self.label.clone(),
            probability: self.threshold,
            since: self.since.clone(),
            until: self.until.clone(),
            folder: self.folder.clone(),
            unreviewed: self.unreviewed,
            broken: self.broken,
        }
    }
}

/// The error, with the option that it is about.
pub(super) fn named(error: FindError) -> anyhow::Error {
    match error {
        FindError::Since(error) => anyhow::Error::new(error).context("--since"),
        FindError::Until(error) => anyhow::Error::new(error).context("--until"),
        FindError::Probability(_) => anyhow!("--threshold {error}"),
        FindError::Folder { .. } => anyhow!("--folder {error}"),
        FindError::Photo { .. } => anyhow!("--like {error}"),
        FindError::Predict(error) => with_option(*error),
        error => error.into(),
    }
}

/// A line: the rank, what the order goes by, and the photograph.
fn print(rank: usize, found: &Found<'_>, order: Order) -> anyhow::Result<()> {
    let by = match (order, found.score) {
        (Order::Relevance, Some(score)) => format!("{score:>8.4}"),
        (Order::Doubt, _) => match found.doubt {
            Some(doubt) => format!("{doubt:>8.2}"),
            None => format!("{:>8}", "-"),
        },
        _ => found.date.clone(),
    };
    let photo = paths::plain(&found.photo);
    let error = match found.error {
        Some(error) => format!("  {}", paths::plain(error)),
        None => String::new(),
    };
    Ok(console::print(format_args!(
        "{rank:>4}  {by}  {photo}{error}"
    ))?)
}
