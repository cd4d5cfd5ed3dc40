//! The directories of TIFF (TIFF 6.0), which cameras' raw files and EXIF have, too: numbers in either byte order, and entries of 12
//! bytes that hold their values or say where these are.

/// Numbers of an entry that are looked at.
const MOST_NUMBERS: usize = 100;

/// A part of some bytes, if it lies within them.
pub(super) fn slice(bytes: &[u8], at: u32, length: u32) -> Option<&[u8]> {
    let (at, length) = (usize::try_from(at).ok()?, usize::try_from(length).ok()?);
    bytes.get(at..at.checked_add(length)?)
}

/// A TIFF's bytes, from which its offsets count, and their order.
#[derive(Clone, Copy)]
pub(super) struct Tiff<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) little: bool,
}

/// An entry of a directory.
pub(super) struct Entry<'a> {
    tiff: Tiff<'a>,
    pub(super) tag: u16,
    pub(super) kind: u16,
    pub(super) count: u32,
    /// The last four bytes: a value, or where values are.
    place: &'a [u8],
    pub(super) value: u32,
}

impl<'a> Tiff<'a> {
    /// Reads a header, and where the first directory is.
    pub(super) fn open(bytes: &'a [u8]) -> Option<(Self, u32)> {
        let little = match bytes.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let tiff = Self { bytes, little };
        // TIFF's number, Olympus' two and Panasonic's.
        let known = matches!(tiff.u16(bytes.get(2..)?)?, 42 | 0x4F52 | 0x5352 | 0x55);
        let first = tiff.u32(bytes.get(4..)?)?;
        known.then_some((tiff, first))
    }

    pub(super) fn is_panasonic(self) -> bool {
        self.bytes.starts_with(b"IIU\0")
    }

    fn u16(self, bytes: &[u8]) -> Option<u16> {
        let bytes = *bytes.first_chunk()?;
        Some(match self.little {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        })
    }

    fn u32(self, bytes: &[u8]) -> Option<u32> {
        let bytes = *bytes.first_chunk()?;
        Some(match self.little {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        })
    }

    /// The entries of the directory at this place, of 12 bytes each, and where the next directory is.
    pub(super) fn entries(self, at: u32) -> Option<(&'a [u8], u32)> {
        let directory = self.bytes.get(usize::try_from(at).ok()?..)?;
        let count = usize::from(self.u16(directory)?);
        let (entries, after) = directory.get(2..)?.split_at_checked(12 * count)?;
        Some((entries, self.u32(after)?))
    }

    pub(super) fn entry(self, entry: &'a [u8]) -> Option<Entry<'a>> {
        let place = entry.get(8..)?;
        Some(Entry {
            tiff: self,
            tag: self.u16(entry)?,
            kind: self.u16(entry.get(2..)?)?,
            count: self.u32(entry.get(4..)?)?,
            place,
            value: self.u32(place)?,
        })
    }
}

impl<'a> Entry<'a> {
    /// Its bytes: in the entry if there are four at most.
    pub(super) fn data(&self) -> Option<&'a [u8]> {
        let size = match self.kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => return None,
        };
        let length = self.count.checked_mul(size)?;
        match length {
            0..=4 => self.place.get(..length as usize),
            _ => slice(self.tiff.bytes, self.value, length),
        }
    }

    /// Its unsigned numbers of 16 or 32 bits.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<'a> {
        let tiff = self.tiff;
        let (size, wide) = match self.kind {
            3 => (2, false),
            4 | 13 => (4, true),
            _ => (1, false),
        };
        let data = self.data().filter(|_| size > 1).unwrap_or_default();
        let number = move |bytes: &'a [u8]| match wide {
            true => tiff.u32(bytes),
            false => tiff.u16(bytes).map(u32::from),
        };
        data.chunks_exact(size)
            .take(MOST_NUMBERS)
            .filter_map(number)
    }
}
