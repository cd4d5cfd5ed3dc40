//! IPTC's Information Interchange Model (IIM 4.2), and Photoshop's image resources, in which JPEG and TIFF keep it (Adobe
//! Photoshop File Formats, "Image Resource Blocks").

use super::Found;

/// Begins a data set.
const MARKER: u8 = 0x1C;
/// What 1:90 says of UTF-8: `ESC % G`.
const UTF_8: &[u8] = b"\x1b%G";

impl Found {
    /// Image resources, of which one holds IPTC's.
    pub(super) fn resources(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&[s0, s1, s2, s3, high, low, name], _)) = rest.split_first_chunk() {
            if ![*b"8BIM", *b"PHUT", *b"AgHg", *b"DCSR", *b"MeSa"].contains(&[s0, s1, s2, s3]) {
                // Filled up with zeros by some programs.
                if rest.iter().any(|byte| *byte != 0) {
                    self.flaw("its Photoshop resources are damaged");
                }
                return;
            }
            // The name's length and the name take an even number of bytes.
            let named = 6 + (1 + usize::from(name)).next_multiple_of(2);
            let Some((content, after)) = rest.get(named..).and_then(sized) else {
                return self.cut("a Photoshop resource");
            };
            if [high, low] == [0x04, 0x04] {
                self.iptc(content);
            }
            rest = after.get(content.len() % 2..).unwrap_or_default();
        }
    }

    /// IPTC's data sets: its keywords.
    pub(super) fn iptc(&mut self, bytes: &[u8]) {
        let (mut rest, mut charset) = (bytes, None);
        while let [MARKER, record, set, after @ ..] = rest {
            let Some((value, after)) = data_set(after) else {
                self.cut("a field of its IPTC");
                break;
            };
            match (*record, *set) {
                (1, 90) => charset = Some(value),
                (2, 25) => self.iptc_keyword(value, charset),
                _ => {}
            }
            rest = after;
        }
        if !rest.starts_with(&[MARKER]) && rest.iter().any(|byte| *byte != 0) {
            self.flaw("its IPTC is damaged");
        }
    }

    /// Many programs write UTF-8 and do not say so. What is valid UTF-8 is hardly ever meant as anything else; what is not, is
    /// read as Latin-1.
    fn iptc_keyword(&mut self, value: &[u8], charset: Option<&[u8]>) {
        let utf_8 = charset.is_none_or(|charset| charset == UTF_8);
        let text = std::str::from_utf8(value).ok().filter(|_| utf_8);
        let latin = || value.iter().map(|byte| char::from(*byte)).collect();
        let keyword: String = text.map_or_else(latin, Into::into);
        let keyword = keyword.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        if !keyword.is_empty() {
            self.keyword(|metadata| &mut metadata.keywords_iptc, keyword.into());
        }
    }
}

/// What stands behind its length of 32 bits, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// A data set's value, and what follows. A length of 15 bits, or, where its first bit is set, the length of the length.
fn data_set(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (length, rest) = match length & 0x8000 {
        0 => (length, rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(length & 0x7FFF)?;
            let digits = (digits.len() <= 4).then_some(digits)?;
            let length = digits
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
    };
    rest.split_at_checked(length)
}
