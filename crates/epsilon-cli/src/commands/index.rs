//! `epsilon index`: the semantic vectors of a tagged library for other programs, and the vectors of words to search them with.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use epsilon::Finder;
use epsilon::library::Export;
use epsilon_data::files;

use super::output;
use super::search::named;
use super::trained::VectorArgs;
use crate::{Outcome, console};

/// Export a tagged library's vectors, and the vectors of words, to search with another program.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Export(ExportArgs),
    Query(QueryArgs),
}

/// Write the photographs of a tagged library with their vectors and labels into a file: Parquet, or points of Qdrant.
///
/// Each photograph has M vectors. Its score for a word is the largest of their dot products with the word's vector (`epsilon index
/// query`), which is the score of `epsilon search`; of a classifier with word vectors that is its logarithm.
#[derive(clap::Args)]
struct ExportArgs {
    /// The library that `epsilon tag` made, or the folder of photographs that it is in.
    library: PathBuf,
    /// The file to write. With Qdrant's points, NAME.jsonl, the collection that they fit is written beside them, as
    /// NAME.collection.json.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    to: PathBuf,
    /// What to write [default: as the file's name ends, .parquet or .jsonl].
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A row a photograph, with its vectors as a list of lists.
    Parquet,
    /// A line of JSON a photograph, as a point with a multivector.
    Qdrant,
}

/// Print the vectors of words that fit an exported library, a line of JSON for each: `words` and `vector`.
#[derive(clap::Args)]
struct QueryArgs {
    /// The library that `epsilon tag` made, or the folder of photographs that it is in.
    library: PathBuf,
    /// What to look for: a word, or several as one, such as "red flower".
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    vectors: VectorArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Export(args) => export(&args),
        Command::Query(args) => query(&args),
    }
}

fn export(args: &ExportArgs) -> anyhow::Result<Outcome> {
    let format = match args.format {
        Some(format) => format,
        None => Format::of(&args.to)?,
    };
    let finder = Finder::open(&args.library)?;
    let index = finder.index(None)?;
    let export = Export::new(finder.library(), finder.catalog(), &index)?;
    let bar = console::bar(export.len() as u64, "export");
    let mut done = |written: usize| bar.set_position(written as u64);
    let collection = match format {
        Format::Parquet => {
            export.write_parquet(&args.to, &mut done)?;
            None
        }
        Format::Qdrant => {
            export.write_points(&args.to, &mut done)?;
            let place = args.to.with_extension("collection.json");
            let text = serde_json::to_vec_pretty(&export.collection())?;
            files::write(&place, &text)
                .map_err(|error| anyhow::anyhow!("{}: {error}", place.display()))?;
            Some(place)
        }
    };
    bar.finish_and_clear();
    print(args, &export, collection.as_deref())?;
    for (photo, reason) in export.missing() {
        console::name_failure(format_args!("{photo}: {reason}"));
    }
    Ok(match export.missing().is_empty() {
        true => Outcome::Done,
        false => Outcome::SomeFailed,
    })
}

impl Format {
    /// What a file's name tells.
    fn of(file: &Path) -> anyhow::Result<Self> {
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("jsonl") => Ok(Self::Qdrant),
            _ => bail!(
                "--to {}: which format? Name a file that ends in .parquet or .jsonl (for Qdrant), or give --format",
                file.display()
            ),
        }
    }
}

fn print(args: &ExportArgs, export: &Export<'_>, collection: Option<&Path>) -> anyhow::Result<()> {
    let vectors = export.vectors();
    if args.json {
        let missing = export.missing().iter();
        let missing =
            missing.map(|(photo, reason)| serde_json::json!({ "photo": photo, "error": reason }));
        return console::print_json(&serde_json::json!({
            "file": args.to,
            "collection": collection,
            "photos": export.len(),
            "vectors": vectors,
            "missing": missing.collect::<Vec<_>>(),
        }));
    }
    console::print(format_args!(
        "{}: {} photographs of {} vectors each, {} wide; {} without vectors",
        args.to.display(),
        export.len(),
        vectors.groups,
        vectors.width,
        export.missing().len()
    ))?;
    if let Some(collection) = collection {
        console::print(format_args!("{}: the collection", collection.display()))?;
    }
    Ok(())
}

fn query(args: &QueryArgs) -> anyhow::Result<Outcome> {
    let finder = Finder::open(&args.library)?;
    let (model, vectors) = args.vectors.load_words(finder.library(), &args.words)?;
    let queries = finder
        .queries(&args.words, (&model, &vectors))
        .map_err(named)?;
    let index = finder.index(Some(&model))?;
    let width = queries.len() / args.words.len();
    for (words, query) in args.words.iter().zip(queries.chunks(width)) {
        let vector = index.dot_query(query)?;
        let line = serde_json::json!({ "words": words, "vector": vector });
        console::print(line)?;
    }
    Ok(Outcome::Done)
}
