//! Photographs as Python has them: paths, the bytes of files, Pillow's images and arrays.

use std::path::PathBuf;

use epsilon::image::{Limits, RgbImage, kind};
use epsilon::predictor;
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, Luma, Rgba};
use numpy::ndarray::{ArrayViewD, Axis};
use numpy::{PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyException, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

use crate::errors::{OrRaise, raise, wrong_type};

/// The tag of an orientation in EXIF.
const ORIENTATION: u16 = 0x0112;

/// A photograph that Python handed in, free of Python's global lock.
pub(crate) enum Photo {
    File(PathBuf),
    Bytes(PyBackedBytes),
    /// Decoded, upright.
    Image(RgbImage),
}

impl Photo {
    /// What Python handed in. The size of what is decoded already is checked before any of it is copied.
    ///
    /// Raises ImageError and TypeError.
    pub(crate) fn of(photo: &Bound<'_, PyAny>, limits: &Limits) -> PyResult<Self> {
        if let Ok(bytes) = photo.extract() {
            return Ok(Self::Bytes(bytes));
        }
        if photo.cast::<PyMemoryView>().is_ok() {
            return Ok(Self::Bytes(photo.call_method0("tobytes")?.extract()?));
        }
        if let Ok(array) = photo.cast::<PyUntypedArray>() {
            return of_array(array, limits).map(Self::Image);
        }
        if is_pillow(photo)? {
            return of_pillow(photo, limits);
        }
        photo.extract().map(Self::File).map_err(|error| {
            wrong_type(photo.py(), error, || {
                let kind = photo.get_type();
                format!(
                    "a photograph is a path, the bytes of a file, an image of Pillow's or an array of uint8, not {kind}"
                )
            })
        })
    }

    /// What the library takes.
    pub(crate) fn get(&self) -> predictor::Photo<'_> {
        match self {
            Self::File(path) => path.into(),
            Self::Bytes(bytes) => predictor::Photo::Bytes(bytes),
            Self::Image(picture) => predictor::Photo::Image(picture),
        }
    }

    /// Bytes that it holds.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::File(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Image(picture) => picture.as_raw().len(),
        }
    }
}

/// Whether an object is a photograph that Python holds in memory, not the path of one.
pub(crate) fn is_held(photo: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(photo.cast::<PyBytes>().is_ok()
        || photo.cast::<PyByteArray>().is_ok()
        || photo.cast::<PyMemoryView>().is_ok()
        || photo.cast::<PyUntypedArray>().is_ok()
        || is_pillow(photo)?)
}

fn unfit(reason: &str) -> PyErr {
    raise("ImageError", format!("photograph: {reason}"))
}

/// Whether an object is an image of Pillow's, which is never imported here: who has such an image has done it.
fn is_pillow(photo: &Bound<'_, PyAny>) -> PyResult<bool> {
    let modules = photo.py().import("sys")?.getattr("modules")?;
    match modules.get_item("PIL.Image") {
        Ok(module) => photo.is_instance(&module.getattr("Image")?),
        Err(_) => Ok(false),
    }
}

/// The picture of an array of uint8, `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`; an alpha channel is dropped.
fn of_array(array: &Bound<'_, PyUntypedArray>, limits: &Limits) -> PyResult<RgbImage> {
    let Ok(pixels) = array.extract::<PyReadonlyArrayDyn<'_, u8>>() else {
        let dtype = array.dtype();
        return Err(PyTypeError::new_err(format!(
            "a photograph as an array holds uint8 from 0 to 255, not {dtype}: scale it and convert it with .astype(numpy.uint8)"
        )));
    };
    let shape = pixels.shape();
    let ([height, width] | [height, width, 1 | 3 | 4]) = *shape else {
        let hint = match *shape {
            [3 | 4, _, _] => "; move the channels behind, as with .transpose(1, 2, 0)",
            _ => "",
        };
        return Err(unfit(&format!(
            "an array of shape {shape:?}: give (height, width), (height, width, 3) or (height, width, 4){hint}"
        )));
    };
    let (width, height) = sides(width, height, limits)?;
    RgbImage::from_raw(width, height, rgb(&pixels.as_array()))
        .ok_or_else(|| unfit("its pixels are not as many as its sides say"))
}

/// The red, green and blue of an array of pixels.
fn rgb(pixels: &ArrayViewD<'_, u8>) -> Vec<u8> {
    match (pixels.shape(), pixels.as_slice()) {
        ([_, _, 3], Some(values)) => values.to_vec(),
        ([_, _, 3 | 4], _) => {
            let mut values = Vec::with_capacity(pixels.len());
            for pixel in pixels.lanes(Axis(2)) {
                values.extend([pixel[0], pixel[1], pixel[2]]);
            }
            values
        }
        _ => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
    }
}

/// Width and height of a picture within the limits.
fn sides(width: usize, height: usize, limits: &Limits) -> PyResult<(u32, u32)> {
    let sides = (u32::try_from(width), u32::try_from(height));
    let (Ok(wide @ 1..), Ok(high @ 1..)) = sides else {
        return Err(unfit(&format!("{width} x {height} pixels are no picture")));
    };
    (limits.check_size("photograph".as_ref(), (wide, high))).or_raise()?;
    Ok((wide, high))
}

/// An image of Pillow's: the file that it was opened from where its pixels were not asked for yet, and its pixels otherwise.
fn of_pillow(image: &Bound<'_, PyAny>, limits: &Limits) -> PyResult<Photo> {
    if let Some(bytes) = unread(image)? {
        return Ok(Photo::Bytes(bytes));
    }
    let (width, height) = image.getattr("size")?.extract()?;
    sides(width, height, limits)?;
    if let Err(error) = image.call_method0("load") {
        return Err(failing(image, error, unfit));
    }
    let mut picture = pixels(image)?;
    picture.apply_orientation(orientation(image)?);
    Ok(Photo::Image(picture.into_rgb8()))
}

/// The bytes of the file behind an image that was opened and not read yet, if it is of a kind that the library decodes.
fn unread(image: &Bound<'_, PyAny>) -> PyResult<Option<PyBackedBytes>> {
    let has = |name: &str| {
        image
            .getattr(name)
            .is_ok_and(|of| of.is_truthy().unwrap_or(false))
    };
    // After `load` there are no tiles left to read; another frame than the first is not what the library decodes.
    let frame = image
        .call_method0("tell")
        .and_then(|at| at.extract::<usize>());
    if !has("tile") || !has("fp") || !frame.is_ok_and(|frame| frame == 0) {
        return Ok(None);
    }
    let file = image.getattr("fp")?;
    let read = || -> PyResult<PyBackedBytes> {
        let at = file.call_method0("tell")?;
        file.call_method1("seek", (0,))?;
        let bytes = file.call_method0("read")?.extract().map_err(PyErr::from);
        file.call_method1("seek", (at,))?;
        bytes
    };
    let known = |bytes: &PyBackedBytes| kind(bytes).is_some_and(epsilon::image::Kind::is_read);
    match read() {
        Ok(bytes) => Ok(Some(bytes).filter(known)),
        // Its pixels are asked for then.
        Err(error) if is_of_file(image.py(), &error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file says that it cannot be read.
fn is_of_file(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyOSError>(py) || error.is_instance_of::<PyValueError>(py)
}

/// The exception for what Pillow says of an image; Ctrl-C is none of it.
fn failing(image: &Bound<'_, PyAny>, error: PyErr, of: impl FnOnce(&str) -> PyErr) -> PyErr {
    match error.is_instance_of::<PyException>(image.py()) {
        true => of(&error.value(image.py()).to_string()),
        false => error,
    }
}

/// The pixels of an image as they lie in memory, with the values of our own decoder: 16 bits are scaled, not cut off.
fn pixels(image: &Bound<'_, PyAny>) -> PyResult<DynamicImage> {
    let mode = image.getattr("mode")?;
    let mode = mode.cast::<PyString>()?.to_string_lossy().into_owned();
    let image = match &*mode {
        "RGB" | "RGBA" | "L" | "I" | "I;16" | "I;16L" | "I;16B" => image.clone(),
        // A palette whose colours have an alpha of their own is converted to them without complaint.
        "P" | "PA" => image.call_method1("convert", ("RGBA",))?,
        "F" => {
            return Err(unfit(
                "an image of floating point values (mode F): convert it to 8 bits first",
            ));
        }
        _ => image.call_method1("convert", ("RGB",)).map_err(|error| {
            failing(image, error, |said| {
                unfit(&format!("an image of mode {mode}: {said}"))
            })
        })?,
    };
    let (width, height) = image.getattr("size")?.extract()?;
    let values: PyBackedBytes = image.call_method0("tobytes")?.extract()?;
    let made = match &*mode {
        "L" => ImageBuffer::from_raw(width, height, values.to_vec()).map(DynamicImage::ImageLuma8),
        "RGBA" | "P" | "PA" => {
            let made = ImageBuffer::<Rgba<u8>, _>::from_raw(width, height, values.to_vec());
            made.map(DynamicImage::ImageRgba8)
        }
        "I" => grey(width, height, words(&values, i32::from_ne_bytes)?),
        "I;16" | "I;16L" => grey(width, height, words(&values, u16::from_le_bytes)?),
        "I;16B" => grey(width, height, words(&values, u16::from_be_bytes)?),
        _ => ImageBuffer::from_raw(width, height, values.to_vec()).map(DynamicImage::ImageRgb8),
    };
    made.ok_or_else(|| unfit("its pixels are not as many as its size says"))
}

fn grey(width: u32, height: u32, values: Vec<u16>) -> Option<DynamicImage> {
    let made = ImageBuffer::<Luma<u16>, _>::from_raw(width, height, values);
    made.map(DynamicImage::ImageLuma16)
}

/// Values of 16 bits that lie in `N` bytes each.
fn words<const N: usize, T: TryInto<u16>>(
    bytes: &[u8],
    of: fn([u8; N]) -> T,
) -> PyResult<Vec<u16>> {
    let (words, _) = bytes.as_chunks::<N>();
    let values = words.iter().map(|&word| {
        let value = of(word).try_into();
        value.map_err(|_| unfit("an image of mode I with values beyond 16 bits: convert it first"))
    });
    values.collect()
}

/// How EXIF says the image is to be turned.
fn orientation(image: &Bound<'_, PyAny>) -> PyResult<Orientation> {
    let said = image.call_method0("getexif").and_then(|exif| {
        let said = exif.call_method1("get", (ORIENTATION,))?;
        said.extract::<u8>()
    });
    match said {
        Ok(said) => Ok(Orientation::from_exif(said).unwrap_or(Orientation::NoTransforms)),
        // There is none, or none that can be read.
        Err(error) if error.is_instance_of::<PyException>(image.py()) => {
            Ok(Orientation::NoTransforms)
        }
        Err(error) => Err(error),
    }
}
