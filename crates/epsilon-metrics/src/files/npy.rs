//! The header of NumPy's `.npy` files, <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use super::layout::{Kind, Layout};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The header of a table has about 100 bytes.
const LONGEST_HEADER: usize = 1 << 16;

/// Type and position of the numbers of a `.npy` file.
///
/// # Errors
/// A message without the name of the file.
pub(super) fn layout(bytes: &[u8]) -> Result<Layout, String> {
    let cut = || "ends within its header".to_string();
    if !bytes.starts_with(MAGIC) {
        return Err("is no npy file: it does not begin with \\x93NUMPY".into());
    }
    let version = *bytes.get(6).ok_or_else(cut)?;
    let (start, length) = match version {
        1 => {
            let length = bytes.get(8..10).ok_or_else(cut)?;
            (10, usize::from(u16::from_le_bytes([length[0], length[1]])))
        }
        2 | 3 => {
            let length = bytes.get(8..12).ok_or_else(cut)?;
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
            (12, length as usize)
        }
        version => return Err(format!("has npy version {version}: 1 to 3 can be read")),
    };
    if length > LONGEST_HEADER {
        return Err(format!(
            "has a header of {length} bytes: no table needs that"
        ));
    }
    let header = bytes.get(start..start + length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| "has a header that is not text")?;
    let odd = || format!("has a header that is not understood: {}", header.trim());
    let header = Header::parse(header).ok_or_else(odd)?;
    let [rows, columns] = header.shape[..] else {
        return Err(format!(
            "has {} dimensions: a table of images x labels has 2",
            header.shape.len()
        ));
    };
    Ok(Layout {
        start: start + length,
        kind: kind(header.descr)?,
        by_column: header.fortran_order,
        rows,
        columns,
    })
}

fn kind(descr: &str) -> Result<Kind, String> {
    Ok(match descr {
        "|b1" => Kind::Bool,
        "|i1" | "<i1" => Kind::I8,
        "|u1" | "<u1" => Kind::U8,
        "<i2" => Kind::I16,
        "<i4" => Kind::I32,
        "<i8" => Kind::I64,
        "<f2" => Kind::F16,
        "<f4" => Kind::F32,
        "<f8" => Kind::F64,
        other if other.starts_with('>') => {
            return Err(format!(
                "holds big-endian numbers ({other}): save it with .astype('<{}')",
                &other[1..]
            ));
        }
        other => return Err(format!("holds numbers of type {other}, which no table has")),
    })
}

#[derive(Debug, PartialEq)]
struct Header<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl<'a> Header<'a> {
    /// A Python dictionary with exactly these three keys, in any order.
    fn parse(text: &'a str) -> Option<Self> {
        let mut rest = Rest(text);
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        rest.take("{")?;
        while rest.take("}").is_none() {
            let key = rest.quoted()?;
            rest.take(":")?;
            match key {
                "descr" => descr = Some(rest.quoted()?),
                "fortran_order" => fortran_order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                _ => return None,
            }
            // A comma after the last entry is optional.
            if rest.take(",").is_none() && !rest.0.trim_start().starts_with('}') {
                return None;
            }
        }
        rest.0.trim().is_empty().then_some(())?;
        Some(Self {
            descr: descr?,
            fortran_order: fortran_order?,
            shape: shape?,
        })
    }
}

/// The rest of a header that is not yet parsed.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn take(&mut self, mark: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(mark)?;
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = self.0.trim_start().chars().next()?;
        (quote == '\'' || quote == '"').then_some(())?;
        let (inside, rest) = self.0.trim_start()[1..].split_once(quote)?;
        self.0 = rest;
        Some(inside)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.take("True") {
            Some(()) => Some(true),
            None => self.take("False").map(|()| false),
        }
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        self.take("(")?;
        let (inside, rest) = self.0.split_once(')')?;
        self.0 = rest;
        let parts = inside.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().ok())
            .collect()
    }
}

/// The header of a row-major table, padded so that the numbers start at a multiple of 64 bytes, as NumPy does.
pub(super) fn header(descr: &str, rows: usize, columns: usize) -> Vec<u8> {
    let mut text =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let whole = (10 + text.len() + 1).next_multiple_of(64);
    text.extend(std::iter::repeat_n(' ', whole - 10 - text.len() - 1));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(header: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }          \n";
        let layout = layout(&with(text)).unwrap();
        assert_eq!(
            (layout.rows, layout.columns, layout.start),
            (3, 4, 10 + text.len())
        );
        assert!(layout.kind == Kind::F32 && !layout.by_column);
        let text = "{\"shape\":(3,4),\"fortran_order\":True,\"descr\":\"|b1\"}";
        let layout = super::layout(&with(text)).unwrap();
        assert!(layout.kind == Kind::Bool && layout.by_column);
        let ours = header("<f8", 1234, 5);
        assert_eq!(ours.len() % 64, 0);
        let layout = super::layout(&ours).unwrap();
        assert_eq!(
            (layout.rows, layout.columns, layout.start),
            (1234, 5, ours.len())
        );
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let refused = |bytes: &[u8], why: &str| {
            let error = layout(bytes).err().unwrap();
            assert!(error.contains(why), "{error}");
        };
        refused(b"PK\x03\x04", "no npy file");
        refused(b"\x93NUMPY", "ends within");
        refused(b"\x93NUMPY\x01\x00\xff\xff{", "ends within");
        refused(
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
            "header of 4294967295",
        );
        refused(b"\x93NUMPY\x09\x00\x01\x00{", "version 9");
        let of = |descr: &str, shape: &str| {
            with(&format!(
                "{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
            ))
        };
        refused(&of("'<f4'", "(3,)"), "1 dimensions");
        refused(&of("'<f4'", "()"), "0 dimensions");
        refused(&of("'<f4'", "(3, -1)"), "not understood");
        refused(&of("'>f4'", "(3, 1)"), ".astype('<f4')");
        refused(&of("'|O'", "(3, 1)"), "|O");
        refused(&of("[('a', '<f4')]", "(3, 1)"), "not understood");
        refused(&with(&"(".repeat(60_000)), "not understood");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(header in ".{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = layout(&with(&header));
            let _ = layout(&bytes);
            let _ = layout(&[MAGIC, &bytes].concat());
        }
    }
}
