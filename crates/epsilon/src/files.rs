//! Writing files so that a reader never sees half of one, and the little of safetensors that the library shares.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

/// Writes a file beside its place with `fill`, syncs it, and renames it into place; on failure nothing is left and what
/// was there before stays.
pub(crate) fn replace(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let beside: PathBuf = path.with_file_name(name);
    let written = File::create(&beside).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()
    });
    let placed = written.and_then(|()| std::fs::rename(&beside, path));
    if placed.is_err() {
        // The first error is the one to tell; what cannot be removed is overwritten the next time.
        let _ = std::fs::remove_file(&beside);
        return placed;
    }
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// [`replace`] with these bytes.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |file| file.write_all(bytes))
}

/// A tensor to write: name, shape, values.
pub(crate) type Named = (String, Vec<usize>, Vec<f32>);

/// Writes f32 tensors and metadata as one safetensors file.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &[Named],
    metadata: HashMap<String, String>,
) -> io::Result<()> {
    let views = tensors
        .iter()
        .map(|(name, shape, values)| {
            let bytes = bytemuck::cast_slice(values);
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)?;
    write(path, &bytes)
}

/// [`write_tensors`] with values rounded to f16.
pub(crate) fn write_f16_tensors(
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

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One metadata entry of a safetensors file.
pub(crate) fn metadata(bytes: &[u8], key: &str) -> Result<String, String> {
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| format!("not a safetensors file ({e})"))?;
    let entries = header.metadata().as_ref();
    entries
        .and_then(|entries| entries.get(key).cloned())
        .ok_or_else(|| format!("its metadata has no `{key}`: the file was made by another program"))
}

/// The values of an f32 tensor of a safetensors file.
pub(crate) fn f32_values(tensors: &SafeTensors, name: &str) -> Result<Vec<f32>, String> {
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
    fn a_failed_write_leaves_the_old_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        write(&path, b"old").unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
