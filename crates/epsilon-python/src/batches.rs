//! Photographs of any iterable, some at a time: as many as fit into memory, and as few as take no longer than Ctrl-C may.

use epsilon::image::Limits;
use epsilon::tokens::Pace;
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyString};

use crate::errors::is_of_photo;
use crate::photo::Photo;
use crate::progress::{Far, Progress};

/// Bytes of decoded photographs that wait at once.
const HELD: usize = 256 << 20;

/// Photographs, batch after batch. One that cannot be read stands as its exception in its place.
pub(crate) struct Batches<'py> {
    photos: Bound<'py, PyIterator>,
    total: Option<usize>,
    done: usize,
    most: usize,
    limits: Limits,
    pace: Pace,
}

impl<'py> Batches<'py> {
    /// Of an iterable, at most `most` at once.
    pub(crate) fn of(photos: &Bound<'py, PyAny>, most: usize, limits: Limits) -> PyResult<Self> {
        let one = photos.cast::<PyString>().is_ok()
            || photos.cast::<PyBytes>().is_ok()
            || photos.hasattr("__fspath__")?
            || photos
                .cast::<PyUntypedArray>()
                .is_ok_and(|array| array.ndim() != 4);
        let several = || {
            PyTypeError::new_err(
                "photographs are an iterable of several, such as a list of paths or an array (n, H, W, 3), not one",
            )
        };
        if one {
            return Err(several());
        }
        Ok(Self {
            photos: photos.try_iter().map_err(|_| several())?,
            total: photos.len().ok(),
            done: 0,
            most,
            limits,
            pace: Pace::default(),
        })
    }

    /// The next ones; none at the end. Signals are handled and `progress` is told of those before.
    pub(crate) fn next(
        &mut self,
        what: &'static str,
        progress: Option<&Progress>,
    ) -> PyResult<Option<Vec<PyResult<Photo>>>> {
        let py = self.photos.py();
        py.check_signals()?;
        if self.done > 0 {
            self.pace.begin(self.most);
        }
        let (mut batch, mut held) = (Vec::new(), 0);
        while batch.is_empty() || !self.pace.is_due(batch.len(), self.most) && held < HELD {
            let Some(photo) = self.photos.next() else {
                break;
            };
            let photo = Photo::of(&photo?, &self.limits);
            match &photo {
                Ok(photo) => held += photo.size(),
                Err(error) if is_of_photo(py, error) => {}
                Err(error) => return Err(error.clone_ref(py)),
            }
            batch.push(photo);
        }
        let ended = batch.is_empty();
        if let Some(progress) = progress
            && self.done > 0
            && (ended || progress.is_due())
        {
            let total = if ended { Some(self.done) } else { self.total };
            let done = self.done;
            progress.tell(py, &Far { done, total, what })?;
        }
        self.done += batch.len();
        Ok((!ended).then_some(batch))
    }
}
