//! The header of NumPy's `.npy` files, versions 1 to 3:
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::io::{Read, Seek, SeekFrom};

use super::numbers::Number;

/// The longest header that is read, in bytes.
const LONGEST_HEADER: u64 = 100 << 20;

/// What an `.npy` file says about its array.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// Type of the values.
    pub number: Number,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Whether the first dimension is the fastest in the file (Fortran's order) and not the slowest.
    pub fortran: bool,
    /// Where the values begin, in bytes from the start of the file.
    pub offset: u64,
}

/// Reads the header of an array of f16, f32 or f64. Whether the file holds as many values as the shape says
/// is not checked.
///
/// ```
/// use epsilon_data::formats::{npy, numbers::Number};
/// use std::io::Cursor;
///
/// let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }\n";
/// let mut file = b"\x93NUMPY\x01\x00".to_vec();
/// file.extend((text.len() as u16).to_le_bytes());
/// file.extend(text.as_bytes());
/// let header = npy::read_header(&mut Cursor::new(&file))?;
/// assert_eq!((header.number, header.shape), (Number::F32, vec![3, 2]));
/// assert_eq!(header.offset, 10 + text.len() as u64);
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
///
/// What is wrong with the file, in words that follow its name: not an `.npy` file, cut off, another type.
pub fn read_header(file: &mut (impl Read + Seek)) -> Result<Header, String> {
    let mut start = [0; 12];
    file.read_exact(&mut start)
        .map_err(|_| "an .npy file that is cut off")?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err("not an .npy file".into());
    }
    let [.., a, b, c, d] = start;
    let (length, from) = match start[6] {
        1 => (u64::from(u16::from_le_bytes([a, b])), 10),
        _ => (u64::from(u32::from_le_bytes([a, b, c, d])), 12),
    };
    if length > LONGEST_HEADER {
        return Err("an .npy file with a damaged header".into());
    }
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.take(length).read_to_end(&mut text))
        .map_err(|error| format!("cannot be read: {error}"))?;
    let text = String::from_utf8_lossy(&text);
    let (descr, fortran, shape) =
        fields(&text).ok_or_else(|| format!("an .npy file with the header {:?}", text.trim()))?;
    let number = match descr {
        "<f2" => Number::F16,
        "<f4" => Number::F32,
        "<f8" => Number::F64,
        other => {
            return Err(format!(
                "values of type {other}; f2, f4 and f8, low byte first, are read"
            ));
        }
    };
    Ok(Header {
        number,
        shape,
        fortran,
        offset: from + length,
    })
}

/// Type, order and shape from `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
fn fields(text: &str) -> Option<(&str, bool, Vec<usize>)> {
    let after = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}'"))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0;
    let fortran = match after("fortran_order")? {
        rest if rest.starts_with("True") => true,
        rest if rest.starts_with("False") => false,
        _ => return None,
    };
    let shape = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let sizes = shape
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty());
    let shape = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    Some((descr, fortran, shape))
}
