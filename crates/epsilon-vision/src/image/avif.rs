//! AVIF: pictures coded as frames of AV1 in an ISO base media file (AV1 Image File Format).

use ::image::DynamicImage;
use heic_rs::context::Context;
use heic_rs::ftyp::{Brand, FileType};
use heic_rs::hevc::Frame;
use heic_rs::props::colr::{MatrixCoefficients, Nclx, Range};
use heic_rs::{ChromaFormat, Mirror, PixelLayout, Transform, color, grid, meta, transform};
use re_rav1d::dav1d::pixel::YUVRange;
use re_rav1d::dav1d::{
    Decoder, Error, Picture, PixelLayout as Layout, PlanarImageComponent, Settings,
};

use super::error::Fault;
use super::heic::{Frames, check_places, fault, rgb};

/// A file whose boxes have been read.
pub(super) struct Avif<'a> {
    context: Context<'a>,
    frames: Frames,
    /// Pixels of the largest frame.
    largest: u32,
    /// Pixels of all frames.
    all: u64,
}

impl<'a> Avif<'a> {
    /// Reads a file up to its frames.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        check_places(bytes)?;
        // The boxes are those of HEIC, whose reader knows all but the name.
        let context = Context {
            file: bytes,
            ftyp: FileType {
                major: Brand::Avif,
                effective: Brand::Avif,
                minor_version: 0,
                compatible_count: 0,
            },
            meta: meta::parse(bytes).map_err(fault)?,
        };
        let frames = Frames::of(&context, context.meta.primary)?;
        let (mut largest, mut all) = (0, 0);
        for item in &frames.items {
            let size = context.props(*item).map_err(fault)?.ispe;
            let size = size.ok_or_else(|| broken("a frame without its size"))?;
            let pixels = size.width.checked_mul(size.height);
            let pixels = pixels.ok_or_else(|| broken("a frame too large"))?;
            largest = largest.max(pixels);
            all += u64::from(pixels);
        }
        Ok(Self {
            context,
            frames,
            largest,
            all,
        })
    }

    /// Width and height of the upright picture.
    pub(super) fn size(&self) -> (u32, u32) {
        self.frames.size
    }

    /// Bytes of memory that decoding takes, the pixels included.
    pub(super) fn memory(&self) -> u64 {
        // Three channels of two bytes, twice where tiles are put together; the decoder's own, and what its filters need beside.
        12 * self.all + 10 * u64::from(self.largest) + self.frames.memory() + (4 << 20)
    }

    /// The upright picture.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn decode(&self) -> Result<DynamicImage, Fault> {
        let id = self.context.meta.primary;
        let properties = self.context.props(id).map_err(fault)?;
        let mut decoded = Vec::with_capacity(self.frames.items.len());
        let mut colours = properties.nclx;
        for item in &self.frames.items {
            let data = self.context.item_data(*item).map_err(fault)?;
            let picture = self.picture(data.into_owned())?;
            let frame = planes(&picture)?;
            // Only where the boxes do not say: the decoder fails at numbers that it does not know.
            colours.get_or_insert_with(|| coded_colours(&picture));
            decoded.push(frame);
        }
        let layout = self.context.grid(id).map_err(fault)?;
        let frame = match (layout, decoded.pop()) {
            (Some((grid, _)), Some(last)) => {
                decoded.push(last);
                grid::compose(&grid, &decoded, self.all).map_err(fault)?
            }
            (None, Some(frame)) => frame,
            (_, None) => return Err(broken("no frame")),
        };
        drop(decoded);
        let colours = colours.unwrap_or_default();
        let image = color::convert(&frame, None, colours, PixelLayout::Rgb8, self.all, Some(1));
        let image = image.map_err(fault)?;
        drop(frame);
        let transforms: Vec<Transform> = properties.transforms.into_iter().map(mirrored).collect();
        let image = transform::apply_all(image, &transforms).map_err(fault)?;
        rgb(image.width, image.height, image.data)
    }

    /// One coded frame.
    fn picture(&self, data: Vec<u8>) -> Result<Picture, Fault> {
        let mut settings = Settings::new();
        settings.set_n_threads(1);
        settings.set_max_frame_delay(1);
        settings.set_frame_size_limit(self.largest);
        let mut decoder = Decoder::with_settings(&settings).map_err(av1)?;
        match decoder.send_data(data, None, None, None) {
            Ok(()) | Err(Error::Again) => {}
            Err(error) => return Err(av1(error)),
        }
        // A still picture comes at once, or after a little that the decoder did not take at first.
        for _ in 0..16 {
            match decoder.get_picture() {
                Ok(picture) => return Ok(picture),
                Err(Error::Again) => {}
                Err(error) => return Err(av1(error)),
            }
            match decoder.send_pending_data() {
                Ok(()) | Err(Error::Again) => {}
                Err(error) => return Err(av1(error)),
            }
        }
        Err(Fault::Truncated)
    }
}

/// A mirror image as all others understand it: axis 0 exchanges top and bottom. The reader of boxes has it the other way round.
fn mirrored(transform: Transform) -> Transform {
    match transform {
        Transform::Mirror(Mirror::LeftRight) => Transform::Mirror(Mirror::TopBottom),
        Transform::Mirror(Mirror::TopBottom) => Transform::Mirror(Mirror::LeftRight),
        other => other,
    }
}

fn planes(picture: &Picture) -> Result<Frame, Fault> {
    let depth = picture.bits_per_component();
    let depth = depth.and_then(|depth| u8::try_from(depth.0).ok());
    let depth = depth.ok_or_else(|| broken("samples of a size unknown"))?;
    let chroma = match picture.pixel_layout() {
        Layout::I400 => ChromaFormat::Monochrome,
        Layout::I420 => ChromaFormat::Yuv420,
        Layout::I422 => ChromaFormat::Yuv422,
        Layout::I444 => ChromaFormat::Yuv444,
    };
    let (width, height) = (picture.width(), picture.height());
    let (narrow, low) = chroma.chroma_size(width, height);
    let colour = |component| match chroma {
        ChromaFormat::Monochrome => Vec::new(),
        _ => samples(picture, component, (narrow, low), depth),
    };
    Ok(Frame {
        width,
        height,
        bit_depth: depth,
        chroma,
        y: samples(picture, PlanarImageComponent::Y, (width, height), depth),
        cb: colour(PlanarImageComponent::U),
        cr: colour(PlanarImageComponent::V),
        y_stride: width,
        c_stride: narrow,
    })
}

/// The samples of a plane, without what fills its rows.
fn samples(
    picture: &Picture,
    component: PlanarImageComponent,
    (width, height): (u32, u32),
    depth: u8,
) -> Vec<u16> {
    let stride = picture.stride(component) as usize;
    let (width, height) = (width as usize, height as usize);
    let plane = picture.plane(component);
    let mut samples = Vec::with_capacity(width * height);
    for row in plane.chunks(stride.max(1)).take(height) {
        match depth {
            8 => samples.extend(row.iter().take(width).map(|sample| u16::from(*sample))),
            _ => {
                let pairs = row.chunks_exact(2).take(width);
                samples.extend(pairs.map(|pair| u16::from_ne_bytes([pair[0], pair[1]])));
            }
        }
    }
    samples
}

/// What a frame says of its colours itself.
fn coded_colours(picture: &Picture) -> Nclx {
    use re_rav1d::dav1d::pixel::MatrixCoefficients as Matrix;
    // The codes of ITU-T H.273.
    let code = match picture.matrix_coefficients() {
        Matrix::Identity => 0,
        Matrix::BT709 => 1,
        Matrix::BT2020NonConstantLuminance => 9,
        _ => 6,
    };
    Nclx {
        matrix: MatrixCoefficients::from_code(code),
        matrix_code: code,
        range: match picture.color_range() {
            YUVRange::Full => Range::Full,
            YUVRange::Limited => Range::Limited,
        },
        ..Nclx::default()
    }
}

fn av1(error: Error) -> Fault {
    match error {
        Error::Again => Fault::Truncated,
        other => Fault::Broken(other.to_string()),
    }
}

fn broken(what: &str) -> Fault {
    Fault::Broken(what.into())
}
