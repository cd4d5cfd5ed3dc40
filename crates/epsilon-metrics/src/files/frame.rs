//! Shape of a table and names of its images and labels.

use std::path::{Path, PathBuf};

use super::error::FileError;
use super::names;
use super::numbers::Numbers;

/// Everything about a table but its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) path: PathBuf,
    pub(super) images: usize,
    pub(super) labels: usize,
    pub(super) image_names: Option<Vec<String>>,
    pub(super) label_names: Option<Vec<String>>,
}

impl Frame {
    /// The frame of a table of numbers, with the names in its name files.
    pub(super) fn beside(path: &Path, numbers: &Numbers) -> Result<Self, FileError> {
        let (images, labels) = (numbers.layout.rows, numbers.layout.columns);
        Ok(Self {
            path: path.into(),
            images,
            labels,
            image_names: names::beside(path, "image", images)?,
            label_names: names::beside(path, "label", labels)?,
        })
    }

    /// The frame of a table that holds its own names; every name must be unique.
    pub(super) fn named(
        path: &Path,
        images: Vec<String>,
        labels: Vec<String>,
    ) -> Result<Self, FileError> {
        names::check(path, "image", &images)?;
        names::check(path, "label", &labels)?;
        Ok(Self {
            path: path.into(),
            images: images.len(),
            labels: labels.len(),
            image_names: Some(images),
            label_names: Some(labels),
        })
    }

    /// Describes a row, counted from 0, with its name if it has one.
    pub(super) fn row(&self, row: usize) -> String {
        place("row", row, self.image_names.as_deref())
    }

    /// Describes a column, counted from 0, with its name if it has one.
    pub(super) fn column(&self, column: usize) -> String {
        place("column", column, self.label_names.as_deref())
    }
}

fn place(what: &str, at: usize, names: Option<&[String]>) -> String {
    match names.and_then(|names| names.get(at)) {
        Some(name) => format!("{what} {at} ({name})"),
        None => format!("{what} {at}"),
    }
}
