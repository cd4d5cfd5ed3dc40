//! A library's semantic vectors for other programs: a Parquet file, or points and a collection for Qdrant. In both the score of a
//! photograph is `max_m p_m . w`, see [`Index::dot_vectors`].

mod points;
mod table;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Catalog, Item, Library};
use crate::semantic_index::{Index, IndexError};
use epsilon_data::paths::{shown, text};

/// What can go wrong with an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A file cannot be written.
    #[error("{}: {source}", shown(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The index is of another model than the one that tagged the library last.
    #[error(
        "the library's index holds vectors of another model than its labels are of: tag it again"
    )]
    OtherModel,
    /// A damaged index.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What the vectors of an export are: in JSON the value of the key `epsilon.vectors` among a Parquet file's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vectors {
    /// [`crate::model::Model::identity`] of the model that made them.
    pub model: String,
    /// M, vectors of a photograph.
    pub groups: usize,
    /// E, their width.
    pub width: usize,
    /// The last so many of these E values are what the model's anchor adds, with a constant as the last one; 0 without an anchor.
    pub anchor: usize,
    /// How a vector and a query are compared: by their dot product.
    pub metric: &'static str,
    /// What becomes of the products of a photograph's M vectors: the largest is the score.
    pub comparator: &'static str,
    /// Whether the vectors are of unit length.
    pub normalised: bool,
}

/// A library's vectors, photograph by photograph.
///
/// ```no_run
/// use epsilon::library::{Catalog, Export, Library};
/// use epsilon::semantic_index::Index;
/// use std::path::Path;
///
/// let (library, folder) = Library::read(Path::new("Pictures"))?;
/// let (catalog, index) = (Catalog::read(&folder)?, Index::open(&Library::index(&folder))?);
/// let export = Export::new(&library, &catalog, &index)?;
/// export.write_parquet(Path::new("pictures.parquet"), &mut |_| {})?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Export<'a> {
    photos: String,
    index: &'a Index,
    /// The photographs with their records, in the index's order.
    rows: Vec<(usize, &'a Item)>,
    missing: Vec<(&'a str, String)>,
}

impl<'a> Export<'a> {
    /// That of a library, what is known of its photographs, and its index.
    ///
    /// # Errors
    /// [`ExportError::OtherModel`], and an index whose ids are damaged.
    pub fn new(
        library: &Library,
        catalog: &'a Catalog,
        index: &'a Index,
    ) -> Result<Self, ExportError> {
        if index.info().model != library.identity {
            return Err(ExportError::OtherModel);
        }
        let places = index.places()?;
        let known = places.iter();
        // What the catalog does not know, a search does not find either.
        let rows = known.filter_map(|(place, id)| Some((*place, catalog.item(id)?)));
        let rows: Vec<(usize, &Item)> = rows.collect();
        let held: HashSet<&str> = rows.iter().map(|(_, item)| item.id.as_str()).collect();
        let others = catalog.items().iter();
        let others = others.filter(|item| !held.contains(item.id.as_str()));
        let missing = others.map(|item| (item.id.as_str(), without(item)));
        Ok(Self {
            photos: text(&library.photos),
            index,
            missing: missing.collect(),
            rows,
        })
    }

    /// How many photographs are exported.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no photograph has vectors.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The ids of the library's photographs that have no vectors, and why.
    pub fn missing(&self) -> &[(&'a str, String)] {
        &self.missing
    }

    /// What the vectors are.
    pub fn vectors(&self) -> Vectors {
        let info = self.index.info();
        Vectors {
            model: info.model.clone(),
            groups: info.groups,
            width: info.dot_width(),
            anchor: info.dot_width() - info.width,
            metric: "dot",
            comparator: "max",
            normalised: false,
        }
    }

    /// Where a photograph lies.
    fn path(&self, item: &Item) -> String {
        format!("{}/{}", self.photos, item.id)
    }
}

/// Why a photograph has no vectors.
fn without(item: &Item) -> String {
    let reason = "the index holds no vectors of it";
    item.error.clone().unwrap_or_else(|| reason.into())
}

fn failed(path: &Path, source: io::Error) -> ExportError {
    ExportError::Write {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests;
