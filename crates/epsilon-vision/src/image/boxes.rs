//! The boxes of an ISO base media file (ISO/IEC 14496-12, 4.2), in which HEIC, AVIF and Canon's CR3 keep what they hold.

/// A box: its type and what is in it.
pub(super) type Part<'a> = ([u8; 4], &'a [u8]);

/// The boxes that stand one behind another, up to the first that is not whole.
pub(super) fn boxes(bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (part, after) = first(rest)?;
        rest = after;
        Some(part)
    })
}

/// The content of the first box of this type, if there is one.
pub(super) fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find_map(|(name, content)| (name == *kind).then_some(content))
}

fn first(bytes: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let kind = *bytes.get(4..)?.first_chunk()?;
    // 0 stands for all that is left, and 1 for a length of 64 bits.
    let (header, length) = match u32(bytes, 0)? {
        0 => (8, bytes.len()),
        1 => {
            let length = u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
            (16, usize::try_from(length).ok()?)
        }
        length => (8, usize::try_from(length).ok()?),
    };
    let (whole, after) = bytes.split_at_checked(length)?;
    Some(((kind, whole.get(header..)?), after))
}

/// The 32-bit number at this place.
pub(super) fn u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_their_three_forms() {
        let mut file = b"\0\0\0\x0aabcd12".to_vec();
        file.extend(b"\0\0\0\x01efgh\0\0\0\0\0\0\0\x113");
        file.extend(b"\0\0\0\0ijkl456");
        let found: Vec<Part> = boxes(&file).collect();
        let expected: [Part; 3] = [(*b"abcd", b"12"), (*b"efgh", b"3"), (*b"ijkl", b"456")];
        assert_eq!(found, expected);
        assert_eq!(find(&file, b"efgh"), Some(&b"3"[..]));
        for length in 0..file.len() {
            assert!(boxes(&file[..length]).count() <= 3);
        }
        // Shorter than its own header, and longer than the file.
        for bytes in [
            &b"\0\0\0\x07abcd"[..],
            b"\0\0\0\x01abcd\0\0\0\0\0\0\0\x03",
            b"\xff\xff\xff\xffabcd",
        ] {
            assert_eq!(boxes(bytes).count(), 0);
        }
    }
}
