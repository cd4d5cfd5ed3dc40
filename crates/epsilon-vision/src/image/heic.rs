//! HEIC: pictures coded as frames of HEVC in an ISO base media file (ISO/IEC 23008-12). The decoder takes any number of frames of
//! any size, so how many there are and how large they claim to be is read here before it starts.

use ::image::{DynamicImage, RgbImage};
use heic_decoder::HeifError;
use heic_rs::context::Context;
use heic_rs::props::hvcc::NAL_SPS;
use heic_rs::{Error, transform};

use super::boxes::{boxes, find};
use super::error::Fault;

/// What the boxes say.
#[derive(Debug)]
pub(super) struct Heic {
    /// Width and height of the upright picture.
    pub size: (u32, u32),
    /// Bytes of memory that decoding takes, the pixels included.
    pub memory: u64,
}

/// Reads a file up to its frames.
///
/// # Errors
/// [`Fault`].
pub(super) fn examine(bytes: &[u8]) -> Result<Heic, Fault> {
    check_places(bytes)?;
    let context = Context::open(bytes).map_err(fault)?;
    let id = context.meta.primary;
    let frames = Frames::of(&context, id)?;
    let mut items = frames.items.clone();
    // Transparency is decoded as well.
    if let Some(alpha) = context.alpha_item(id).map_err(fault)? {
        items.extend(Frames::of(&context, alpha)?.items);
    }
    let (mut samples, mut data) = (0, 0);
    for item in items {
        samples += samples_of(&context, item)?;
        data += context.item_data(item).map_err(fault)?.len() as u64;
    }
    if data > 2 * bytes.len() as u64 {
        return Err(broken("its parts are larger than the file"));
    }
    Ok(Heic {
        size: frames.size,
        // A sample takes four bytes; the frames, their copies without filling and turned, and the pixels.
        memory: 12 * samples + 2 * frames.memory() + 2 * data,
    })
}

/// Refuses places of items that take no bytes to write: the reader of boxes makes memory for as many as are claimed, which a
/// file of some bytes could then have in any number (ISO/IEC 14496-12, 8.11.3).
///
/// # Errors
/// [`Fault::Broken`].
pub(super) fn check_places(bytes: &[u8]) -> Result<(), Fault> {
    let meta = find(bytes, b"meta").and_then(|meta| meta.get(4..));
    let places = boxes(meta.unwrap_or_default()).filter(|(kind, _)| kind == b"iloc");
    // The lengths of an offset and of a length. Only later versions have an index, in the last four bits.
    let mut lengths = places.filter_map(|(_, places)| places.get(4..6));
    match lengths.any(|lengths| lengths[0] == 0) {
        true => Err(broken("the places of its parts have no length")),
        false => Ok(()),
    }
}

/// Samples of the largest frame that an item may hold.
fn samples_of(context: &Context<'_>, item: u32) -> Result<u64, Fault> {
    let configuration = context.props(item).map_err(fault)?.hvcc;
    let configuration = configuration.ok_or_else(|| broken("a picture that is not HEVC"))?;
    let sets = configuration.arrays.iter();
    let sets = sets.filter(|array| array.nal_type == NAL_SPS);
    let mut most = 0;
    for set in sets.flat_map(|array| &array.nals) {
        let size = coded_size(set);
        let (width, height) = size.ok_or_else(|| broken("a damaged sequence parameter set"))?;
        most = most.max(u64::from(width) * u64::from(height));
    }
    // Colours of half the width and height, or of up to the same.
    Ok(match configuration.chroma_format {
        1 => most * 3 / 2,
        _ => most * 3,
    })
}

/// The upright picture.
///
/// # Errors
/// [`Fault`].
pub(super) fn decode(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    let fault = |error| match error {
        HeifError::Truncated { .. } => Fault::Truncated,
        other => Fault::Broken(other.to_string()),
    };
    let image = heic_decoder::decode(bytes).map_err(fault)?;
    let image = image.to_rgb8().map_err(fault)?;
    rgb(image.width as u32, image.height as u32, image.data)
}

/// The coded pictures of which a file's picture is made, be they HEVC or AV1.
pub(super) struct Frames {
    /// Width and height of the upright picture.
    pub size: (u32, u32),
    /// Pixels before it is cut.
    pub pixels: u64,
    /// The items that hold them: one, or the tiles of a grid.
    pub items: Vec<u32>,
    /// Whether the picture is turned or cut after it is decoded.
    changed: bool,
}

impl Frames {
    /// Finds those of an item.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn of(context: &Context<'_>, id: u32) -> Result<Self, Fault> {
        let properties = context.props(id).map_err(fault)?;
        let (width, height) = context.coded_size(id, &properties).map_err(fault)?;
        let transforms = &properties.transforms;
        let size = transform::transformed_size(width, height, transforms).map_err(fault)?;
        let grid = context.grid(id).map_err(fault)?;
        Ok(Self {
            size,
            pixels: u64::from(width) * u64::from(height),
            items: grid.map_or_else(|| vec![id], |(_, tiles)| tiles),
            changed: !transforms.is_empty(),
        })
    }

    /// Bytes of the picture's own pixels while it is made upright.
    pub(super) fn memory(&self) -> u64 {
        3 * self.pixels * if self.changed { 2 } else { 1 }
    }
}

/// Decoded pixels as the other formats have them.
pub(super) fn rgb(width: u32, height: u32, pixels: Vec<u8>) -> Result<DynamicImage, Fault> {
    let made = RgbImage::from_raw(width, height, pixels);
    made.map(DynamicImage::from)
        .ok_or_else(|| broken("rows are missing"))
}

/// What the reader of boxes says.
pub(super) fn fault(error: Error) -> Fault {
    match error {
        Error::Truncated(_) => Fault::Truncated,
        other => Fault::Broken(other.to_string()),
    }
}

fn broken(what: &str) -> Fault {
    Fault::Broken(what.into())
}

/// Width and height of the frames that a sequence parameter set describes, before they are cut (ITU-T H.265, 7.3.2.2.1).
fn coded_size(set: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::of(set);
    // The unit's header, and the name of another set.
    bits.skip(16 + 4)?;
    let layers = bits.take(3)?;
    // A flag; profile, tier and level.
    bits.skip(1 + 88 + 8)?;
    if layers > 0 {
        let flags: Vec<u32> = (0..layers).map(|_| bits.take(2)).collect::<Option<_>>()?;
        bits.skip(2 * (8 - layers as usize))?;
        for flag in flags {
            bits.skip(if flag & 2 == 2 { 88 } else { 0 })?;
            bits.skip(if flag & 1 == 1 { 8 } else { 0 })?;
        }
    }
    bits.golomb()?;
    if bits.golomb()? == 3 {
        bits.skip(1)?;
    }
    Some((bits.golomb()?, bits.golomb()?))
}

/// The bits of a unit, without the bytes that only keep start codes from arising in it.
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    /// The size stands near the start.
    fn of(unit: &[u8]) -> Self {
        let (mut bytes, mut zeros) = (Vec::new(), 0);
        for byte in unit.iter().take(200) {
            if *byte == 3 && zeros == 2 {
                zeros = 0;
                continue;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            bytes.push(*byte);
        }
        Self { bytes, at: 0 }
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= 8 * self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<u32> {
        let mut number = 0;
        for at in self.at..self.at + count {
            let bit = self.bytes.get(at / 8)? >> (7 - at % 8) & 1;
            number = number << 1 | u32::from(bit);
        }
        self.at += count;
        Some(number)
    }

    /// A number in Exp-Golomb code.
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
        }
        (zeros < 32).then_some(())?;
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_growing_length_are_read() {
        // 1, 010, 011, 00100: 0 to 3.
        let mut bits = Bits::of(&[0b1010_0110, 0b0100_0000]);
        let numbers: Vec<u32> = std::iter::from_fn(|| bits.golomb()).take(4).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(Bits::of(&[0; 9]).golomb(), None);
        assert_eq!(
            Bits::of(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3]).bytes,
            [1, 0, 0, 1, 0, 0, 0, 0]
        );
    }
}
