//! A table of numbers in a memory-mapped file.

use std::path::Path;

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::SafeTensors;

use super::error::FileError;
use super::layout::{Kind, Layout};
use super::npy;

/// A table of numbers in a mapped file.
#[derive(Debug)]
pub(super) struct Numbers {
    map: Mmap,
    pub(super) layout: Layout,
}

impl Numbers {
    pub(super) fn npy(path: &Path) -> Result<Self, FileError> {
        Self::open(path, npy::layout)
    }

    /// Opens a safetensors file: its only tensor, or the tensor of this name if there are several.
    pub(super) fn safetensors(path: &Path, name: &str) -> Result<Self, FileError> {
        Self::open(path, |bytes| tensor(bytes, name))
    }

    fn open(
        path: &Path,
        layout: impl FnOnce(&[u8]) -> Result<Layout, String>,
    ) -> Result<Self, FileError> {
        let read = |reason| FileError::Read {
            path: path.into(),
            reason,
        };
        let file = super::open(path).map_err(read)?;
        // SAFETY: the map is only read. If another program truncates the file while it is mapped, this program ends with
        // SIGBUS; if it changes values, the metrics are those of the changed values.
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        let wrong = |problem| FileError::Format {
            path: path.into(),
            problem,
        };
        let layout = layout(&map).map_err(wrong)?;
        let Layout { rows, columns, .. } = layout;
        if rows == 0 || columns == 0 {
            return Err(wrong(format!("is an empty table, {rows} x {columns}")));
        }
        let length = rows
            .checked_mul(columns)
            .and_then(|count| count.checked_mul(layout.kind.bytes()))
            .and_then(|length| length.checked_add(layout.start));
        if length.is_none_or(|length| length > map.len()) {
            return Err(wrong(format!(
                "is cut short: a table of {rows} x {columns} needs {} bytes, the file has {}",
                length.map_or_else(|| "too many".into(), |length| length.to_string()),
                map.len()
            )));
        }
        Ok(Self { map, layout })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        let Layout {
            start,
            kind,
            rows,
            columns,
            ..
        } = self.layout;
        &self.map[start..start + rows * columns * kind.bytes()]
    }

    /// The mapped values as `T`, if they are row-major and aligned for `T`.
    pub(super) fn values<T: bytemuck::Pod>(&self) -> Option<&[T]> {
        if self.layout.by_column || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.bytes()).ok()
    }

    /// The value at a row and column.
    pub(super) fn get(&self, row: usize, column: usize) -> f64 {
        let Layout {
            rows,
            columns,
            by_column,
            kind,
            ..
        } = self.layout;
        let place = if by_column {
            column * rows + row
        } else {
            row * columns + column
        };
        let size = kind.bytes();
        decode(kind, &self.bytes()[place * size..(place + 1) * size])
    }
}

/// Converts the bytes of one value.
fn decode(kind: Kind, bytes: &[u8]) -> f64 {
    let two = || [bytes[0], bytes[1]];
    let four = || [bytes[0], bytes[1], bytes[2], bytes[3]];
    let eight = || {
        let mut all = [0; 8];
        all.copy_from_slice(bytes);
        all
    };
    match kind {
        Kind::Bool | Kind::U8 => f64::from(bytes[0]),
        Kind::I8 => f64::from(bytes[0] as i8),
        Kind::I16 => f64::from(i16::from_le_bytes(two())),
        Kind::I32 => f64::from(i32::from_le_bytes(four())),
        Kind::I64 => i64::from_le_bytes(eight()) as f64,
        Kind::F16 => f16::from_le_bytes(two()).to_f64(),
        Kind::Bf16 => bf16::from_le_bytes(two()).to_f64(),
        Kind::F32 => f64::from(f32::from_le_bytes(four())),
        Kind::F64 => f64::from_le_bytes(eight()),
    }
}

fn tensor(bytes: &[u8], name: &str) -> Result<Layout, String> {
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("is no safetensors file, or is cut short or damaged ({error})"))?;
    let names = tensors.names();
    let chosen = match names[..] {
        [only] => only,
        _ if names.contains(&name) => name,
        _ => {
            return Err(format!(
                "holds {} tensors, none of them named `{name}`: name the table so, or keep it alone",
                names.len()
            ));
        }
    };
    let view = tensors.tensor(chosen).map_err(|error| error.to_string())?;
    let [rows, columns] = view.shape()[..] else {
        return Err(format!(
            "has a tensor `{chosen}` of {} dimensions: a table of images x labels has 2",
            view.shape().len()
        ));
    };
    let kind = Kind::of(view.dtype()).ok_or_else(|| {
        format!(
            "holds numbers of type {:?}, which no table has",
            view.dtype()
        )
    })?;
    Ok(Layout {
        start: view.data().as_ptr() as usize - bytes.as_ptr() as usize,
        kind,
        by_column: false,
        rows,
        columns,
    })
}
