//! Parquet files, as tables of photographs and as the index that is kept of a data set: whole columns in and out.

use super::{DatasetError, LineError, lines};
use crate::files;
use crate::formats::stand_in;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Rows read at once: a bound on memory that does not depend on how large the file's row groups are.
const AT_ONCE: usize = 1024;
/// Bytes of memory for the values of a column in the pages that are opened for these rows. Repeated values take no bytes of a file.
const MOST_BYTES: usize = 256 << 20;

/// The columns of some rows, in the order asked for.
pub(super) struct Rows {
    /// Number of rows.
    pub(super) count: usize,
    /// For each column, the cells of each row.
    pub(super) texts: Vec<Cells<ByteArray>>,
    /// The same for columns of whole numbers.
    pub(super) numbers: Vec<Cells<i32>>,
}

/// Cells of one column: row r holds `values[starts[r]..starts[r + 1]]`, one value where the column is no list.
pub(super) struct Cells<T> {
    /// Where each row begins; one more than there are rows.
    pub(super) starts: Vec<usize>,
    /// The values.
    pub(super) values: Vec<T>,
    /// Whether the column is a list.
    pub(super) is_list: bool,
}

impl<T> Cells<T> {
    /// The values of one row.
    pub(super) fn row(&self, row: usize) -> &[T] {
        &self.values[self.starts[row]..self.starts[row + 1]]
    }
}

/// What a file holds besides its rows.
pub(super) struct About {
    /// Rows in all.
    pub(super) rows: usize,
    /// Names of its columns, of the outermost fields.
    pub(super) columns: Vec<String>,
    /// Key-value entries of its metadata.
    pub(super) entries: Vec<(String, String)>,
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> DatasetError {
    DatasetError::Form {
        path: path.into(),
        reason: format!("cannot be read as Parquet: {reason}"),
    }
}

/// Opens a file; a panic in the reader, on a file made to harm, counts as damage.
fn guarded<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, DatasetError>,
) -> Result<T, DatasetError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(damaged(path, "its reader failed")))
}

/// What a Parquet file holds, without reading its rows.
///
/// # Errors
/// An unreadable or damaged file.
pub(super) fn about(path: &Path) -> Result<About, DatasetError> {
    guarded(path, || {
        let reader = open(path)?;
        let metadata = reader.metadata().file_metadata();
        let columns = metadata.schema().get_fields();
        let entries = metadata.key_value_metadata().into_iter().flatten();
        Ok(About {
            rows: usize::try_from(metadata.num_rows()).unwrap_or(0),
            columns: columns.iter().map(|field| field.name().into()).collect(),
            entries: entries
                .map(|entry| (entry.key.clone(), entry.value.clone().unwrap_or_default()))
                .collect(),
        })
    })
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, DatasetError> {
    let file = files::open(path, u64::MAX).map_err(|reason| lines::read_error(path, reason))?;
    if let Some(what) = stand_in::at(path) {
        return Err(DatasetError::Form {
            path: path.into(),
            reason: what.into(),
        });
    }
    SerializedFileReader::new(file).map_err(|error| damaged(path, error))
}

/// Hands over the rows of a file piece by piece: of the columns `texts` and `numbers`, by their outermost field's name.
///
/// # Errors
/// An unreadable or damaged file, a column that is missing or of another kind, and whatever `sink` returns.
pub(super) fn read(
    path: &Path,
    texts: &[&str],
    numbers: &[&str],
    mut sink: impl FnMut(Rows) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    guarded(path, || {
        let file = open(path)?;
        for index in 0..file.num_row_groups() {
            let group = file
                .get_row_group(index)
                .map_err(|error| damaged(path, error))?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            let mut texts = columns::<ByteArrayType>(path, &*group, texts, "text")?;
            let mut numbers = columns::<Int32Type>(path, &*group, numbers, "32-bit numbers")?;
            let mut left = rows;
            while left > 0 {
                let count = left.min(AT_ONCE);
                let error = |error| damaged(path, error);
                let pieces = Rows {
                    count,
                    texts: pieces(&mut texts, count).map_err(error)?,
                    numbers: pieces(&mut numbers, count).map_err(error)?,
                };
                sink(pieces)?;
                left -= count;
            }
        }
        Ok(())
    })
}

/// A column that is being read.
struct Column<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// Values that its pages may still have.
    left: Arc<AtomicU32>,
    /// Level at which a value is there.
    present: i16,
    is_list: bool,
}

/// Pages of a column, as long as they have no more values than may be left.
struct Bounded {
    pages: Box<dyn PageReader>,
    left: Arc<AtomicU32>,
}

impl PageReader for Bounded {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.get_next_page()?;
        let values = page.as_ref().map_or(0, Page::num_values);
        let left = self.left.load(Ordering::Relaxed).checked_sub(values);
        let left = left.ok_or_else(|| {
            let what = format!("the lists of {AT_ONCE} rows are longer than memory suffices for");
            ParquetError::General(what)
        })?;
        self.left.store(left, Ordering::Relaxed);
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>, ParquetError> {
        self.pages.take_deferred_dictionary()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for Bounded {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

fn columns<T: DataType>(
    path: &Path,
    group: &dyn RowGroupReader,
    names: &[&str],
    kind: &str,
) -> Result<Vec<Column<T>>, DatasetError> {
    let open = |name: &&str| {
        let all = group.metadata().columns();
        let mut of_field = all.iter().enumerate().filter(|(_, column)| {
            let parts = column.column_path().parts();
            parts.first().is_some_and(|part| part == name)
        });
        let (Some((index, column)), None) = (of_field.next(), of_field.next()) else {
            return Err(damaged(path, format_args!("no plain column `{name}`")));
        };
        let descr = column.column_descr();
        if descr.physical_type() != T::get_physical_type() || descr.max_rep_level() > 1 {
            let reason = format!("the column `{name}` is not {kind} or a list of it");
            return Err(damaged(path, reason));
        }
        let (present, is_list) = (descr.max_def_level(), descr.max_rep_level() == 1);
        let pages = group.get_column_page_reader(index);
        let pages = pages.map_err(|error| damaged(path, error))?;
        let left = Arc::new(AtomicU32::new(0));
        let pages = Bounded {
            pages,
            left: left.clone(),
        };
        Ok(Column {
            reader: ColumnReaderImpl::new(column.column_descr_ptr(), Box::new(pages)),
            left,
            present,
            is_list,
        })
    };
    names.iter().map(open).collect()
}

fn pieces<T: DataType>(
    columns: &mut [Column<T>],
    count: usize,
) -> Result<Vec<Cells<T::T>>, ParquetError> {
    columns
        .iter_mut()
        .map(|column| column.read(count))
        .collect()
}

impl<T: DataType> Column<T> {
    /// Values of a list in [`MOST_BYTES`], each with its two levels.
    const MOST: u32 = (MOST_BYTES / (size_of::<T::T>() + 4)) as u32;

    /// The next `count` rows. A null is an empty list, or a cell without a value.
    fn read(&mut self, count: usize) -> Result<Cells<T::T>, ParquetError> {
        // Without lists a row is a value.
        let most = if self.is_list { Self::MOST } else { u32::MAX };
        self.left.store(most, Ordering::Relaxed);
        let (mut present, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (rows, _, levels) = self.reader.read_records(
            count,
            Some(&mut present),
            Some(&mut repeated),
            &mut values,
        )?;
        if rows != count {
            return Err(ParquetError::EOF(format!("{rows} of {count} rows")));
        }
        let mut starts = Vec::with_capacity(count + 1);
        let mut place = 0;
        for level in 0..levels {
            if !self.is_list || repeated.get(level) == Some(&0) {
                starts.push(place);
            }
            place += usize::from(self.present == 0 || present.get(level) == Some(&self.present));
        }
        starts.push(place);
        if starts.len() != count + 1 || place != values.len() {
            return Err(ParquetError::General("levels and values disagree".into()));
        }
        Ok(Cells {
            starts,
            values,
            is_list: self.is_list,
        })
    }
}

/// The text of a cell.
pub(super) fn text(value: &ByteArray) -> Result<&str, LineError> {
    std::str::from_utf8(value.data()).map_err(|_| LineError::NotUtf8)
}
