//! What the library shares of safetensors files: writing them whole, a metadata entry, the values of a tensor.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors};

use super::stand_in;
use crate::files::{DESCRIPTION, open, write};

/// A tensor to write: name, shape, values.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Writes f32 tensors and metadata as one safetensors file.
pub fn write_tensors(
    path: &Path,
    tensors: &[Named],
    metadata: HashMap<String, String>,
) -> io::Result<()> {
    write(path, &to_bytes(tensors, metadata)?)
}

/// The bytes of a safetensors file with f32 tensors and metadata.
pub fn to_bytes(tensors: &[Named], metadata: HashMap<String, String>) -> io::Result<Vec<u8>> {
    let views = tensors
        .iter()
        .map(|(name, shape, values)| {
            let bytes = bytemuck::cast_slice(values);
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)
}

/// [`write_tensors`] with values rounded to f16.
pub fn write_f16_tensors(
    path: &Path,
    tensors: &[Named],
    metadata: HashMap<String, String>,
) -> io::Result<()> {
    let rounded: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| {
            values
                .iter()
                .flat_map(|&v| half::f16::from_f32(v).to_le_bytes())
                .collect()
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&rounded)
        .map(|((name, shape, _), bytes)| {
            TensorView::new(Dtype::F16, shape.clone(), bytes).map(|view| (name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)?;
    write(path, &bytes)
}

/// One metadata entry of a safetensors file.
pub fn metadata(bytes: &[u8], key: &str) -> Result<String, String> {
    if let Some(what) = stand_in::told_by(bytes) {
        return Err(what.into());
    }
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| format!("not a safetensors file ({e})"))?;
    let entries = header.metadata().as_ref();
    entries
        .and_then(|entries| entries.get(key).cloned())
        .ok_or_else(|| format!("its metadata has no `{key}`: the file was made by another program"))
}

/// A metadata entry of the file at `path`; none where it has no such entry, or is no safetensors file. Its header alone is read.
///
/// ```
/// use epsilon_data::formats::safetensors::{metadata_at, write_tensors};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.safetensors");
/// let metadata = [("made".to_string(), "here".to_string())];
/// write_tensors(&path, &[("numbers".into(), vec![1], vec![2.0])], metadata.into())?;
/// assert_eq!(metadata_at(&path, "made")?.as_deref(), Some("here"));
/// assert_eq!(metadata_at(&path, "sold")?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When the file cannot be read.
pub fn metadata_at(path: &Path, key: &str) -> io::Result<Option<String>> {
    let file = open(path, u64::MAX)?;
    let mut length = Vec::new();
    (&file).take(8).read_to_end(&mut length)?;
    // Of another file these are any bytes.
    let length = length.try_into().map(u64::from_le_bytes);
    let Ok(length @ ..=DESCRIPTION) = length else {
        return Ok(None);
    };
    let mut header = Vec::new();
    if file.take(length).read_to_end(&mut header)? as u64 != length {
        return Ok(None);
    }
    // Not `SafeTensors::read_metadata`, which wants the tensors behind it.
    let header: Option<Metadata> = serde_json::from_slice(&header).ok();
    let entries = header.and_then(|header| header.metadata().clone());
    Ok(entries.and_then(|mut entries| entries.remove(key)))
}

/// The values of an f32 tensor of a safetensors file.
pub fn f32_values(tensors: &SafeTensors, name: &str) -> Result<Vec<f32>, String> {
    let view = tensors
        .tensor(name)
        .map_err(|_| format!("tensor `{name}` is missing"))?;
    if view.dtype() != Dtype::F32 {
        return Err(format!("tensor `{name}` is {:?}, not F32", view.dtype()));
    }
    let values = view
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensors");
        let tensors = [("a".to_string(), vec![3], vec![1.0, 2.0, 3.0])];
        let entries = HashMap::from([("mine".to_string(), "yes".to_string())]);
        write_tensors(&path, &tensors, entries).unwrap();
        let found = |key: &str| metadata_at(&path, key).unwrap();
        assert_eq!(found("mine").as_deref(), Some("yes"));
        assert_eq!(found("yours"), None);
        let whole = std::fs::read(&path).unwrap();
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            // The values do not matter, but the header is read whole or not at all.
            let header = end >= whole.len() - 12;
            assert_eq!(found("mine").is_some(), header, "{end}");
        }
        std::fs::write(&path, [0xff; 64]).unwrap();
        assert_eq!(found("mine"), None);
        assert!(metadata_at(&folder.path().join("none"), "mine").is_err());
    }
}
