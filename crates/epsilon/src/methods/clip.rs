//! What the methods of CLIP share: both want the image vector in the text vectors' space (as CLIP's global vector is) and label
//! vectors from its text tower: `vectors` names the network, or a file of `epsilon embed --text clip`, template "There is a {label}
//! in the scene".

use super::MethodError;
use crate::batch::Dims;

/// Checks that images and labels have vectors of one width.
///
/// # Errors
/// [`MethodError::Setting`] names both widths where they differ.
pub(super) fn one_space(dims: &Dims) -> Result<(), MethodError> {
    let (image, text) = (dims.global_width(), dims.label_width);
    if image == text {
        return Ok(());
    }
    Err(MethodError::Setting(format!(
        "kind: CLIP compares image and label vectors of one width, but images have {image} values and labels {text}: name one \
         network with both towers as weights in [backbone] and as vectors in [data]"
    )))
}
