//! `epsilon search`: the photographs of a tagged library that match a word best, are like one of them, or meet criteria.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use epsilon::library::{
    Catalog, Filter, Item, Labelled, Library, Match, Order, dates, now, photo_ids,
};
use epsilon::model::Model;
use epsilon::paths;
use epsilon::semantic_index::Index;
use serde::Serialize;

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

/// A photograph as it is printed.
#[derive(Serialize)]
struct Found<'a> {
    photo: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<usize>,
    date: String,
    labels: &'a [Labelled],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    doubt: Option<f32>,
    reviewed: bool,
}

/// What is looked for, in which library.
struct Search {
    library: Library,
    folder: PathBuf,
    catalog: Catalog,
    filter: Filter,
    order: Order,
    top: usize,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    args.check()?;
    let (library, folder) = Library::read(&args.library)?;
    let mut catalog = Catalog::read(&folder)?;
    if matches!(args.sort, Some(Sort::Doubt)) {
        catalog.find_telling(&folder)?;
    }
    let search = Search {
        filter: args.criteria.filter(&library, &catalog)?,
        library,
        folder,
        catalog,
        order: match args.sort {
            None | Some(Sort::Relevance) => Order::Relevance,
            Some(Sort::Date) => Order::Date,
            Some(Sort::Doubt) => Order::Doubt,
        },
        top: args.top,
    };
    let found = match (&args.words, &args.like) {
        (Some(words), _) => search.matching(words, &args.vectors)?,
        (None, Some(photo)) => search.like(photo)?,
        (None, None) => search.listed(),
    };
    if args.json {
        console::print_json(&found)?;
    } else {
        for (rank, found) in (1..).zip(&found) {
            print(rank, found, search.order)?;
        }
    }
    Ok(Outcome::Done)
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

    fn filter(&self, library: &Library, catalog: &Catalog) -> anyhow::Result<Filter> {
        if let Some(p) = self.threshold {
            ensure!(
                (0.0..=1.0).contains(&p),
                "--threshold {p}: give a probability from 0 to 1"
            );
        }
        let now = i64::try_from(now()).unwrap_or(i64::MAX);
        let span = |option: &str, text: &Option<String>| {
            let span = text.as_ref().map(|text| dates::span(text, now));
            span.transpose().with_context(|| option.to_string())
        };
        let folder = self.folder.as_ref().map(|folder| {
            let known = photo_ids(&library.photos, folder)
                .into_iter()
                .find(|id| catalog.has_folder(id));
            known.with_context(|| {
                format!(
                    "--folder {}: the library knows no photographs in such a folder of {}",
                    paths::shown(folder),
                    paths::shown(&library.photos)
                )
            })
        });
        Ok(Filter {
            label: self.label.clone(),
            probability: self.threshold,
            since: span("--since", &self.since)?.map(|span| span.start),
            until: span("--until", &self.until)?.map(|span| span.end),
            folder: folder.transpose()?,
            unreviewed: self.unreviewed,
            broken: self.broken,
        })
    }
}

impl Search {
    /// The photographs that match words best.
    fn matching(&self, words: &str, vectors: &VectorArgs) -> anyhow::Result<Vec<Found<'_>>> {
        let (model, query) = queries(&self.library, &[words.to_string()], vectors)?;
        let index = open_index(&self.folder, Some(&model))?;
        let order = (self.order, self.top);
        let found = self
            .catalog
            .search(&index, &query, words, &self.filter, order)?;
        let score = |best| model.card().method().score_of_match(best);
        Ok(self.found(found, score))
    }

    /// The photographs most like one.
    fn like(&self, photo: &Path) -> anyhow::Result<Vec<Found<'_>>> {
        let index = open_index(&self.folder, None)?;
        let mut ids = photo_ids(&self.library.photos, photo).into_iter();
        let Some(id) = ids.find(|id| self.catalog.item(id).is_some()) else {
            bail!(
                "--like {}: is no photograph of this library, which is of {}: give its path, or its id as in tags.jsonl",
                paths::shown(photo),
                paths::shown(&self.library.photos)
            );
        };
        let order = (self.order, self.top);
        let found = self.catalog.like(&index, &id, &self.filter, order)?;
        Ok(self.found(found, |cosine| cosine))
    }

    /// Photographs that meet the criteria.
    fn listed(&self) -> Vec<Found<'_>> {
        let selected = self.catalog.select(&self.filter, self.order);
        let items = selected.into_iter().take(self.top);
        items
            .map(|item| self.photo(&self.catalog.items()[item]))
            .collect()
    }

    fn found(&self, matches: Vec<Match>, score: impl Fn(f32) -> f32) -> Vec<Found<'_>> {
        let found = matches.into_iter().map(|found| Found {
            score: Some(score(found.score)),
            group: found.group,
            ..self.photo(&self.catalog.items()[found.item])
        });
        found.collect()
    }

    fn photo<'a>(&self, item: &'a Item) -> Found<'a> {
        Found {
            photo: format!("{}/{}", paths::text(&self.library.photos), item.id),
            score: None,
            group: None,
            date: dates::text(item.date),
            labels: &item.labels,
            error: item.error.as_deref(),
            doubt: item.doubt,
            reviewed: item.reviewed,
        }
    }
}

/// The model of a library, without its backbone, and the [queries](Model::queries) of words, one after the other.
pub(super) fn queries(
    library: &Library,
    words: &[String],
    vectors: &VectorArgs,
) -> anyhow::Result<(Model, Vec<f32>)> {
    let device = epsilon::device::device("cpu")?;
    let (model, vectors) = vectors.load_words(library, words)?;
    ensure!(
        model.identity() == library.identity,
        "{}: is another model now than the one that tagged this library: tag it again",
        library.model.display()
    );
    let vectors = vectors.find(words).map_err(with_option)?;
    let queries = model.queries(&vectors, &device)?;
    Ok((model, queries))
}

/// The index of the library in a folder; `model` is the library's, where it is known.
pub(super) fn open_index(folder: &Path, model: Option<&Model>) -> anyhow::Result<Index> {
    let place = Library::index(folder);
    if Index::is_at(&place) {
        return Ok(Index::open(&place)?);
    }
    let method = match model {
        Some(model) => format!("the method `{}`", model.card().method().name()),
        None => "its model's method".to_string(),
    };
    bail!(
        "{}: holds no index of photographs: {method} scores photographs otherwise than by semantic vectors, or none was tagged yet (`epsilon tag PHOTOS`)",
        folder.display(),
    );
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
