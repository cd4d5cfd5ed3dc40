//! One Parquet file, a row for each photograph: its vectors as a list of M lists of E numbers, and its labels as a list of structs.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::{Export, ExportError, Item, failed};
use crate::library::Tag;
use epsilon_data::files;

/// The key of [`super::Vectors`] among the file's metadata.
const METADATA: &str = "epsilon.vectors";
const SCHEMA: &str = "message photographs {
    required binary photo (STRING);
    required binary path (STRING);
    required int64 date (TIMESTAMP(MILLIS,false));
    required group vectors (LIST) {
        repeated group list {
            required group element (LIST) { repeated group list { required float element; } }
        }
    }
    required group labels (LIST) {
        repeated group list {
            required group element {
                required binary name (STRING);
                required binary state (STRING);
                optional float score;
                optional float probability;
            }
        }
    }
}";
const VECTORS: [&str; 5] = ["vectors", "list", "element", "list", "element"];
/// Numbers of vectors in a row group at most, unless a single photograph has more: a bound on memory.
const GROUP: usize = 1 << 22;
/// Photographs in a row group at most.
const ROWS: usize = 1 << 16;

impl Export<'_> {
    /// Writes a Parquet file, whole or not at all. `done` is told how many photographs are written.
    ///
    /// Columns: `photo`, the id of a photograph, its path in the library; `path`, where it lies; `date`, when it was taken, on the
    /// camera's clock, or its file was changed; `vectors`, `[M, E]` as nested lists of 32-bit floats; `labels`, a list of structs of
    /// `name`, `state`, `score` and `probability`. Rows are in the order in which a search prefers one of equal scores. The key
    /// `epsilon.vectors` of the file's metadata is [`super::Vectors`] in JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_parquet(
        &self,
        path: &Path,
        done: &mut dyn FnMut(usize),
    ) -> Result<(), ExportError> {
        files::replace(path, |file| {
            let file = BufWriter::with_capacity(1 << 18, file);
            self.fill(file, done).map_err(std::io::Error::other)
        })
        .map_err(|source| failed(path, source))
    }

    fn fill(
        &self,
        file: impl Write + Send,
        done: &mut dyn FnMut(usize),
    ) -> Result<(), ParquetError> {
        let vectors = self.vectors();
        let about = serde_json::to_string(&vectors);
        let about = about.map_err(|error| ParquetError::External(error.into()))?;
        let numbers = ColumnPath::from(VECTORS.map(String::from).to_vec());
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_column_dictionary_enabled(numbers, false)
            .set_key_value_metadata(Some(vec![KeyValue::new(METADATA.into(), about)]))
            .build();
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
        let rows = (GROUP / (vectors.groups * vectors.width)).clamp(1, ROWS);
        let mut written = 0;
        for rows in self.rows.chunks(rows) {
            let mut group = writer.next_row_group()?;
            self.write_facts(&mut group, rows)?;
            self.write_vectors(&mut group, rows)?;
            write_labels(&mut group, rows)?;
            group.close()?;
            written += rows.len();
            done(written);
        }
        writer.close()?;
        Ok(())
    }

    fn write_facts<W: Write + Send>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        rows: &[(usize, &Item)],
    ) -> Result<(), ParquetError> {
        let texts = |of: &dyn Fn(&Item) -> String| -> Vec<ByteArray> {
            rows.iter()
                .map(|(_, item)| of(item).as_str().into())
                .collect()
        };
        for values in [
            texts(&|item| item.id.clone()),
            texts(&|item| self.path(item)),
        ] {
            column::<ByteArrayType, W>(group, |column| column.write_batch(&values, None, None))?;
        }
        let dates = rows.iter().map(|(_, item)| item.date.saturating_mul(1000));
        let dates: Vec<i64> = dates.collect();
        column::<Int64Type, W>(group, |column| column.write_batch(&dates, None, None))
    }

    /// The vectors, photograph by photograph.
    fn write_vectors<W: Write + Send>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        rows: &[(usize, &Item)],
    ) -> Result<(), ParquetError> {
        let (groups, width) = (self.vectors().groups, self.vectors().width);
        let present = vec![2; groups * width];
        // A number begins a photograph, a vector, or neither.
        let mut repeated = vec![2; groups * width];
        repeated
            .iter_mut()
            .step_by(width)
            .for_each(|level| *level = 1);
        repeated[0] = 0;
        column::<FloatType, W>(group, |column| {
            for (place, _) in rows {
                let values = self.index.dot_vectors(*place);
                column.write_batch(&values, Some(&present), Some(&repeated))?;
            }
            Ok(0)
        })
    }
}

fn write_labels<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[(usize, &Item)],
) -> Result<(), ParquetError> {
    let names = |tag: &Tag| Some(tag.name().into());
    let states = |tag: &Tag| Some(tag.state().name().into());
    write_list::<ByteArrayType, W>(group, rows, 1, names)?;
    write_list::<ByteArrayType, W>(group, rows, 1, states)?;
    write_list::<FloatType, W>(group, rows, 2, Tag::score)?;
    write_list::<FloatType, W>(group, rows, 2, Tag::probability)
}

/// A column of the labels' structs, with `present` as the level of a value that is there: one that is not is a level below, and the
/// label that an empty list does not have stands at 0.
fn write_list<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[(usize, &Item)],
    present: i16,
    value: impl Fn(&Tag) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let (mut values, mut levels, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for (_, item) in rows {
        for (place, tag) in item.labels.iter().enumerate() {
            let value = value(tag);
            levels.push(present - i16::from(value.is_none()));
            repeated.push(i16::from(place > 0));
            values.extend(value);
        }
        if item.labels.is_empty() {
            levels.push(0);
            repeated.push(0);
        }
    }
    column::<T, W>(group, |column| {
        column.write_batch(&values, Some(&levels), Some(&repeated))
    })
}

/// Writes the schema's next column.
fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    write: impl FnOnce(&mut ColumnWriterImpl<'_, T>) -> Result<usize, ParquetError>,
) -> Result<(), ParquetError> {
    let column = group.next_column()?;
    let mut column =
        column.ok_or_else(|| ParquetError::General("the schema has no further column".into()))?;
    write(column.typed::<T>())?;
    column.close()
}
