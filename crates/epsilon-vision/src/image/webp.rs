//! The chunks of a WebP file: what its decoding costs, and whether all of its picture is there. The decoder may fill what is
//! missing and say nothing.

use super::error::{Fault, Flaw};

/// What the chunks say.
#[derive(Debug)]
pub(super) struct WebP {
    /// Bytes of memory that decoding takes for each pixel, the pixels included.
    pub memory: u64,
    /// Whether bytes are missing after the picture.
    pub flaw: Option<Flaw>,
}

/// Walks the chunks of a file to that of the picture, or of an animation's first one.
///
/// # Errors
/// [`Fault::Truncated`] where that chunk is not whole.
pub(super) fn examine(bytes: &[u8]) -> Result<WebP, Fault> {
    let claimed = size(bytes, 4).ok_or(Fault::Truncated)?.saturating_add(8);
    let mut at = 12;
    loop {
        let length = size(bytes, at + 4).ok_or(Fault::Truncated)?;
        let memory = match &bytes[at..at + 4] {
            // Brightness and halved colours beside three channels.
            b"VP8 " if at == 12 => Some(5),
            // Four channels beside three.
            b"VP8L" if at == 12 => Some(7),
            // With alpha, or a frame beside its canvas.
            b"VP8 " | b"VP8L" | b"ANMF" => Some(12),
            _ => None,
        };
        let end = at.saturating_add(8).saturating_add(length);
        if end > bytes.len() {
            return Err(Fault::Truncated);
        }
        if let Some(memory) = memory {
            let flaw = (bytes.len() < claimed).then_some(Flaw::NoEnd);
            return Ok(WebP { memory, flaw });
        }
        // Chunks begin at even places.
        at = end.saturating_add(length % 2);
    }
}

/// The length that stands at this place.
fn size(bytes: &[u8], at: usize) -> Option<usize> {
    let (length, _) = bytes.get(at..)?.split_first_chunk()?;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}
