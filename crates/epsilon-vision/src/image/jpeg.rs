//! The segments of a JPEG file (ITU-T T.81, annex B): what its decoding costs, and whether all of its picture is there. The
//! decoder itself fills what is missing with grey and says nothing.

use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::error::Fault;

pub(super) const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;
const PROGRESSIVE: u8 = 0xC2;

/// What the segments say.
#[derive(Debug, Default)]
pub(super) struct Jpeg {
    /// Whether there is an end marker.
    pub ended: bool,
    frame: Option<Frame>,
    /// Components of the first scan.
    first_scan: Option<usize>,
}

#[derive(Debug)]
struct Frame {
    progressive: bool,
    width: u64,
    height: u64,
    components: Vec<Component>,
}

#[derive(Debug)]
struct Component {
    id: u8,
    /// Blocks of a unit, across and down.
    blocks: [u64; 2],
    /// Which of its coefficients a scan has brought to their last bit, a bit each.
    done: u64,
}

/// Reads a file's segments.
///
/// # Errors
/// [`Fault::Truncated`] where the file ends before its last scan does. Whether that scan's own data is whole is not known here
/// if there is no end marker: see [`endings`].
pub(super) fn examine(bytes: &[u8]) -> Result<Jpeg, Fault> {
    let jpeg = walk(bytes);
    let complete = |frame: &Frame| frame.components.iter().all(|one| one.done == u64::MAX);
    match &jpeg.frame {
        Some(frame) if jpeg.ended || complete(frame) => Ok(jpeg),
        _ => Err(Fault::Truncated),
    }
}

/// Width and height of a picture that the decoders here read: Huffman codes, 8 bits, sequential or progressive. (Raw files keep
/// the sensor's data as lossless JPEG.)
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    if !bytes.starts_with(b"\xff\xd8") {
        return None;
    }
    // Photographs have some dozens of segments before the frame's.
    for (marker, content) in Segments::of(bytes).take(1_000) {
        if matches!(marker, 0xC0..=PROGRESSIVE) {
            let &[8, y1, y0, x1, x0] = content.first_chunk()? else {
                return None;
            };
            let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
            return Some((side(x1, x0), side(y1, y0)));
        }
        if matches!(marker, START_OF_SCAN | 0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF) {
            return None;
        }
    }
    None
}

/// Walks the segments to the end marker or the end of the file.
fn walk(bytes: &[u8]) -> Jpeg {
    let mut jpeg = Jpeg::default();
    let mut segments = Segments::of(bytes);
    for (marker, content) in &mut segments {
        jpeg.segment(marker, content);
    }
    jpeg.ended = segments.ended;
    jpeg
}

/// The segments of a file, each by its marker and what it holds, up to the first that is not whole. A thumbnail's own markers lie
/// inside a segment and are stepped over.
pub(super) struct Segments<'a> {
    rest: &'a [u8],
    /// Whether the end marker was reached.
    ended: bool,
}

impl<'a> Segments<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            ended: false,
        }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // A marker is 0xFF and a byte that is neither 0 (a stuffed data byte) nor 0xFF (filling). Entropy-coded data holds no
        // marker but restarts, so one search serves inside and between segments.
        while let Some(at) = self.rest.iter().position(|byte| *byte == 0xFF) {
            let marker = *self.rest.get(at + 1)?;
            match marker {
                END_OF_IMAGE => {
                    self.ended = true;
                    self.rest = &[];
                }
                0xFF => self.rest = &self.rest[at + 1..],
                // Without a length: stuffing, TEM, restarts, start of image.
                0x00 | 0x01 | 0xD0..=0xD8 => self.rest = &self.rest[at + 2..],
                _ => {
                    let after = &self.rest[at + 2..];
                    let length = usize::from(u16::from_be_bytes(*after.first_chunk()?)).max(2);
                    let (segment, after) = after.split_at_checked(length)?;
                    self.rest = after;
                    return Some((marker, &segment[2..]));
                }
            }
        }
        None
    }
}

impl Jpeg {
    fn segment(&mut self, marker: u8, content: &[u8]) {
        match marker {
            // Huffman tables, reserved, arithmetic conditioning.
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF if self.frame.is_none() => {
                self.frame = Frame::read(marker == PROGRESSIVE, content);
            }
            START_OF_SCAN => self.scan(content),
            _ => {}
        }
    }

    /// Remembers which coefficients of which components a scan completes (T.81, B.2.3 and G.1.1.1).
    fn scan(&mut self, content: &[u8]) {
        let Some((&count, rest)) = content.split_first() else {
            return;
        };
        let Some((components, &[first, last, bits, ..])) =
            rest.split_at_checked(2 * usize::from(count))
        else {
            return;
        };
        self.first_scan.get_or_insert(usize::from(count));
        // The low half is the bit that is still missing after this scan.
        if first > last || last > 63 || bits & 0x0F != 0 {
            return;
        }
        let done = (first..=last).fold(0, |done, place| done | 1 << place);
        let frame = self
            .frame
            .iter_mut()
            .flat_map(|frame| &mut frame.components);
        for component in frame {
            if components.iter().step_by(2).any(|id| *id == component.id) {
                component.done |= done;
            }
        }
    }

    /// Bytes of memory that decoding takes, the pixels included.
    pub(super) fn memory(&self) -> u64 {
        let Some(frame) = &self.frame else { return 0 };
        // Grey stays grey; everything else becomes three channels.
        let channels = if frame.components.len() == 1 { 1 } else { 3 };
        let pixels = frame.width * frame.height * channels;
        // Some rows of every component, before and after they are made as wide as the picture.
        let rows = 256 * frame.width * frame.components.len() as u64;
        let at_once = self
            .first_scan
            .is_none_or(|first| first == frame.components.len());
        let coefficients = match frame.progressive || !at_once {
            true => frame.coefficients(),
            false => 0,
        };
        pixels + rows + coefficients
    }
}

impl Frame {
    /// Precision, height, width, and of each component its name, its blocks across and down, and a table.
    fn read(progressive: bool, content: &[u8]) -> Option<Self> {
        let (&[_, y1, y0, x1, x0, _], components) = content.split_first_chunk()?;
        let components = components.chunks_exact(3).map(|component| Component {
            id: component[0],
            blocks: [component[1] >> 4, component[1] & 0x0F].map(|count| u64::from(count.max(1))),
            done: 0,
        });
        Some(Self {
            progressive,
            width: u16::from_be_bytes([x1, x0]).into(),
            height: u16::from_be_bytes([y1, y0]).into(),
            components: components.collect(),
        })
    }

    /// Bytes of all coefficients, which a picture in several scans needs at once: 64 of two bytes a block.
    fn coefficients(&self) -> u64 {
        let most = |axis: usize| {
            self.components
                .iter()
                .map(move |one| one.blocks[axis])
                .max()
        };
        let units = |side: u64, axis| side.div_ceil(8 * most(axis).unwrap_or(1));
        let units = units(self.width, 0) * units(self.height, 1);
        let blocks = self
            .components
            .iter()
            .map(|one| one.blocks[0] * one.blocks[1]);
        128 * units * blocks.sum::<u64>()
    }
}

/// A file that lacks its end marker, with two different endings. A decoder that needs more of the picture than there is makes
/// different pixels of the two: whatever bit it reads first is 0 in one and 1 in the other. Of a code it finds ones alone,
/// which stand for nothing (T.81, C.2): the second is not [readable](is_readable).
pub(super) fn endings(bytes: &[u8]) -> [Vec<u8>; 2] {
    // A file that was reserved on the disk but not filled ends in zeros; one alone may belong to a stuffed 0xFF.
    let mut kept = bytes;
    if kept.ends_with(&[0, 0]) {
        while let [before @ .., 0] = kept {
            kept = before;
        }
    }
    // Half a marker.
    if let [before @ .., 0xFF] = kept {
        kept = before;
    }
    [[0, 0], [0xFF, 0]].map(|filling| {
        let end = [0xFF, END_OF_IMAGE];
        [kept, &filling.repeat(64), &end].concat()
    })
}

/// Whether every code of a file stands for something. (As a rule the decoder goes on after one that does not.)
pub(super) fn is_readable(bytes: &[u8]) -> bool {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_marker_inside_a_thumbnail_does_not_count() {
        let thumbnail = [0xFF, 0xD8, 0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xD8, 0xFF, 0xD9];
        assert!(!walk(&thumbnail).ended);
        assert!(walk(&[&thumbnail[..], &[0x12, 0xFF, 0xFF, 0xD9]].concat()).ended);
    }

    /// A frame of 20 x 10 pixels, in two by one blocks of brightness and one of each colour.
    #[test]
    fn memory_is_known_from_the_header() {
        let frame = [8, 0, 10, 0, 20, 3, 1, 0x21, 0, 2, 0x11, 1, 3, 0x11, 1];
        let mut jpeg = Jpeg::default();
        jpeg.segment(0xC0, &frame);
        assert_eq!(jpeg.memory(), 3 * 200 + 256 * 20 * 3);
        let mut jpeg = Jpeg::default();
        jpeg.segment(PROGRESSIVE, &frame);
        // Two units across, two down, of four blocks each.
        assert_eq!(jpeg.memory(), 3 * 200 + 256 * 20 * 3 + 128 * 4 * 4);
    }

    #[test]
    fn scans_complete_coefficients() {
        let mut jpeg = Jpeg::default();
        jpeg.segment(PROGRESSIVE, &[8, 0, 8, 0, 8, 1, 7, 0x11, 0]);
        let scan = |jpeg: &mut Jpeg, first, last, bits| jpeg.scan(&[1, 7, 0, first, last, bits]);
        scan(&mut jpeg, 0, 0, 0x01);
        scan(&mut jpeg, 1, 63, 0x00);
        let done = |jpeg: &Jpeg| jpeg.frame.as_ref().unwrap().components[0].done;
        assert_eq!(done(&jpeg), u64::MAX - 1);
        scan(&mut jpeg, 0, 0, 0x10);
        assert_eq!(done(&jpeg), u64::MAX);
    }
}
