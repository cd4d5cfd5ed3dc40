//! Safetensors files under a seal: a hash over everything that they hold, kept in their metadata, so that a file which was damaged
//! or changed is told from a whole one. They are written the same, byte for byte, from the same content.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::f16;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::files::{hexadecimal, replace_if};

/// Key of the metadata that holds the seal.
pub const SEAL: &str = "epsilon.seal";

/// The largest share of a tensor's length (the root of its squares' sum) that rounding may change.
const ROUNDED: f64 = 1.0 / 1024.0;

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, the low byte first.
    pub bytes: Cow<'a, [u8]>,
}

impl Tensor<'static> {
    /// A tensor in f32.
    pub fn of_f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Self::new(name, Dtype::F32, shape, bytes.collect())
    }

    /// A tensor in f16, if that keeps it: none where a value is out of f16's range, or where a row of `row` values has lost more
    /// than a thousandth, as very small values do.
    pub fn of_f16(
        name: impl Into<String>,
        shape: &[usize],
        values: &[f32],
        row: usize,
    ) -> Option<Self> {
        let mut bytes = Vec::with_capacity(2 * values.len());
        for row in values.chunks(row.max(1)) {
            let (mut lost, mut all) = (0.0, 0.0);
            for &value in row {
                let rounded = f16::from_f32(value);
                lost += (f64::from(rounded.to_f32()) - f64::from(value)).powi(2);
                all += f64::from(value).powi(2);
                bytes.extend(rounded.to_le_bytes());
            }
            // Not so of infinities, either.
            let keeps = lost <= all * ROUNDED * ROUNDED;
            if !keeps {
                return None;
            }
        }
        Some(Self::new(name, Dtype::F16, shape, bytes))
    }

    fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            bytes: bytes.into(),
        }
    }
}

/// Writes tensors and metadata under a seal, whole or not at all; returns the file's size.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use epsilon_data::formats::sealed::{Tensor, check, write};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.safetensors");
/// let metadata = BTreeMap::from([("made".to_string(), "here".to_string())]);
/// write(&path, &[Tensor::of_f32("numbers", &[2], &[1.0, 2.0])], metadata)?;
/// let mut bytes = std::fs::read(&path)?;
/// assert!(check(&bytes).is_ok());
/// *bytes.last_mut().unwrap() ^= 1;
/// assert!(check(&bytes).unwrap_err().contains("damaged"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What the system says; two tensors of one name.
pub fn write(
    path: &Path,
    tensors: &[Tensor<'_>],
    metadata: BTreeMap<String, String>,
) -> io::Result<u64> {
    write_if(path, tensors, metadata, || Ok(()))
}

/// As [`write()`], with a last look at what is to be replaced, see [`replace_if`].
///
/// # Errors
/// As [`write()`], and what `still` says.
pub fn write_if(
    path: &Path,
    tensors: &[Tensor<'_>],
    mut metadata: BTreeMap<String, String>,
    still: impl FnOnce() -> io::Result<()>,
) -> io::Result<u64> {
    metadata.remove(SEAL);
    let mut sorted: Vec<&Tensor<'_>> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(same) = sorted.windows(2).find(|two| two[0].name == two[1].name) {
        let name = &same[0].name;
        return Err(io::Error::other(format!("two tensors are named {name}")));
    }
    let parts = sorted
        .iter()
        .map(|tensor| (&*tensor.name, tensor.dtype, &*tensor.shape, &*tensor.bytes));
    metadata.insert(SEAL.into(), seal(&metadata, parts)?);
    // The widest types first, so that every tensor is aligned.
    sorted.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));
    let (mut entries, mut end) = (serde_json::Map::new(), 0);
    entries.insert("__metadata__".into(), json!(metadata));
    for tensor in &sorted {
        let from = end;
        end += tensor.bytes.len();
        let about =
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [from, end]});
        entries.insert(tensor.name.clone(), about);
    }
    let mut header = serde_json::to_vec(&entries)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let fill = |file: &mut File| {
        let mut file = BufWriter::new(file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for tensor in &sorted {
            file.write_all(&tensor.bytes)?;
        }
        file.flush()
    };
    replace_if(path, fill, still)?;
    Ok((8 + header.len() + end) as u64)
}

/// Whether the content of a safetensors file is what its seal says.
///
/// # Errors
/// A sentence: no safetensors file, no seal, another content.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let damaged = |error: safetensors::SafeTensorError| {
        format!("it is no complete safetensors file ({error})")
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let all = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let mut metadata: BTreeMap<String, String> =
        header.metadata().iter().flatten().map(owned).collect();
    let stated = metadata.remove(SEAL).ok_or_else(|| {
        format!("its metadata has no `{SEAL}`: it is damaged, copy it or make it again")
    })?;
    let mut tensors = all.tensors();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let parts = tensors
        .iter()
        .map(|(name, tensor)| (&**name, tensor.dtype(), tensor.shape(), tensor.data()));
    let found = seal(&metadata, parts).map_err(|error| error.to_string())?;
    match found == stated {
        true => Ok(()),
        false => Err(
            "its content is not what its seal says: it is damaged, copy it or make it again".into(),
        ),
    }
}

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// SHA-256 of the metadata as JSON, keys sorted, and a line end; then of each tensor, sorted by name, `[name, dtype, shape]` as JSON,
/// a line end, and its bytes.
fn seal<'a>(
    metadata: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], &'a [u8])>,
) -> io::Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(metadata)?);
    hasher.update(b"\n");
    for (name, dtype, shape, bytes) in tensors {
        hasher.update(serde_json::to_vec(&(name, dtype, shape))?);
        hasher.update(b"\n");
        hasher.update(bytes);
    }
    Ok(hexadecimal(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path) -> Vec<u8> {
        let tensors = [
            Tensor::of_f16("b", &[1, 3], &[1.0, -2.0, 0.5], 3).unwrap(),
            Tensor::of_f32("c", &[2], &[0.1, 0.2]),
            Tensor::of_f32("a", &[], &[7.0]),
        ];
        let metadata = [("one", "1"), ("two", "\"\n\u{e9}")];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value.to_string()));
        let size = write(path, &tensors, metadata.into()).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes.len() as u64, size);
        bytes
    }

    #[test]
    fn what_is_written_is_a_safetensors_file_and_always_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = written(&path);
        check(&bytes).unwrap();
        assert_eq!(bytes, written(&path));
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let half = read.tensor("b").unwrap();
        assert_eq!((half.dtype(), half.shape()), (Dtype::F16, &[1, 3][..]));
        assert_eq!(half.data(), [0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38]);
        assert_eq!(read.tensor("a").unwrap().data(), 7.0_f32.to_le_bytes());
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["two"], "\"\n\u{e9}");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = written(&folder.path().join("file"));
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[place] ^= 1 << bit;
                assert!(check(&other).is_err(), "byte {place}, bit {bit}");
            }
            assert!(check(&bytes[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn what_f16_cannot_hold_is_not_rounded() {
        let rounded =
            |values: &[f32], row| Tensor::of_f16("a", &[values.len()], values, row).is_some();
        assert!(rounded(&[0.1, 65504.0], 2) && rounded(&[0.0, 0.0], 2));
        // One far beyond the range, one that vanishes, and one that vanishes in its row alone.
        assert!(!rounded(&[0.1, 70000.0], 2) && !rounded(&[1e-9], 1));
        assert!(rounded(&[1.0, 1e-9], 2) && !rounded(&[1.0, 1e-9], 1));
        assert!(!rounded(&[f32::NAN], 1));
    }
}
