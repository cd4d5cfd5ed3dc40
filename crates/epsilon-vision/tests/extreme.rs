//! Small files of extreme pictures: what each may cost at most. A test of its own process, whose memory is measured.

use std::fs;
use std::io::Cursor;
use std::time::{Duration, Instant};

use epsilon_vision::image::{Filter, Fit, ImageError, Limits, Pixels, Preprocess, decode_for};
use image::{ExtendedColorType, ImageEncoder};
use png::{BitDepth, ColorType};

/// A PNG of zeros.
fn png(width: u32, height: u32, colour: ColorType, depth: BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    if colour == ColorType::Indexed {
        encoder.set_palette(vec![9, 99, 199]);
    }
    let channels = colour.samples();
    let bits = channels * depth as usize * width as usize;
    let mut writer = encoder.write_header().unwrap();
    let zeros = vec![0; bits.div_ceil(8) * height as usize];
    writer.write_image_data(&zeros).unwrap();
    writer.finish().unwrap();
    bytes
}

fn jpeg(width: u32, height: u32, colour: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let zeros = vec![0; usize::from(colour.channel_count()) * (width * height) as usize];
    let encoder = image::codecs::jpeg::JpegEncoder::new(&mut bytes);
    encoder.write_image(&zeros, width, height, colour).unwrap();
    bytes
}

fn webp(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The format's longest side.
    let (width, height) = (width.min(16_383), height.min(16_383));
    let zeros = vec![0; 3 * (width * height) as usize];
    let encoder = image::codecs::webp::WebPEncoder::new_lossless(Cursor::new(&mut bytes));
    encoder
        .write_image(&zeros, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// Makes a picture of a width and a height.
type Make = dyn Fn(u32, u32) -> Vec<u8>;

/// A hundred pictures: nine kinds of pixels in ten shapes, and ten as large as so small a file can be.
fn pictures() -> Vec<(String, Vec<u8>)> {
    let kinds: [(&str, &Make); 9] = [
        ("1-bit PNG", &|w, h| {
            png(w, h, ColorType::Grayscale, BitDepth::One)
        }),
        ("grey PNG", &|w, h| {
            png(w, h, ColorType::Grayscale, BitDepth::Eight)
        }),
        ("16-bit PNG", &|w, h| {
            png(w, h, ColorType::Rgba, BitDepth::Sixteen)
        }),
        ("palette PNG", &|w, h| {
            png(w, h, ColorType::Indexed, BitDepth::Eight)
        }),
        ("4-colour PNG", &|w, h| {
            png(w, h, ColorType::Indexed, BitDepth::Two)
        }),
        ("RGB PNG", &|w, h| {
            png(w, h, ColorType::Rgb, BitDepth::Eight)
        }),
        ("grey JPEG", &|w, h| jpeg(w, h, ExtendedColorType::L8)),
        ("JPEG", &|w, h| jpeg(w, h, ExtendedColorType::Rgb8)),
        ("WebP", &webp),
    ];
    let shapes = [
        (1, 65_535),
        (65_535, 1),
        (1, 60_000),
        (60_000, 2),
        (3, 65_000),
        (65_000, 3),
        (17, 30_000),
        (30_000, 17),
        (200, 15_000),
        (15_000, 200),
    ];
    let mut all = Vec::new();
    for (kind, make) in kinds {
        for (width, height) in shapes {
            all.push((format!("{width} x {height} {kind}"), make(width, height)));
        }
    }
    for (kind, width, height) in [
        (0, 9_999, 9_999),
        (0, 65_535, 1_525),
        (0, 1_525, 65_535),
        (1, 9_999, 9_999),
        (2, 4_800, 4_800),
        (3, 9_999, 9_999),
        (4, 9_999, 9_999),
        (5, 7_000, 7_000),
        (6, 3_900, 3_900),
        (8, 16_383, 1_700),
    ] {
        let (kind, make) = kinds[kind];
        all.push((format!("{width} x {height} {kind}"), make(width, height)));
    }
    all
}

/// A field of this process's memory in bytes, where the system tells.
fn memory(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// What reading a picture gives, the time it takes, and the memory at its peak above what was in use before, where the
/// system tells.
fn read(bytes: &[u8], fit: Fit) -> (Result<Pixels, ImageError>, Duration, Option<u64>) {
    let preprocess = Preprocess {
        size: 224,
        fit,
        filter: Filter::Bicubic,
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    // The peak begins anew.
    let reset = fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS:");
    let start = Instant::now();
    let read = decode_for("photo".as_ref(), bytes, &preprocess, &Limits::default());
    let elapsed = start.elapsed();
    let peak = reset.ok().and_then(|()| memory("VmHWM:"));
    (
        read,
        elapsed,
        peak.zip(before)
            .map(|(peak, before)| peak.saturating_sub(before)),
    )
}

#[test]
fn a01_a_hundred_extreme_pictures_cost_little() {
    let pictures = pictures();
    assert_eq!(pictures.len(), 100);
    let (mut slowest, mut largest) = (Duration::ZERO, 0);
    for (place, (name, bytes)) in pictures.iter().enumerate() {
        assert!(bytes.len() < 200_000, "{name}: {} bytes", bytes.len());
        // The work of decoding a large one is the same in either way.
        let fits = [Fit::ShorterSide { resize: 256 }, Fit::Squash];
        for fit in &fits[..if place < 90 { 2 } else { 1 }] {
            let (read, elapsed, peak) = read(bytes, *fit);
            let pixels = read.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(
                pixels
                    .values
                    .iter()
                    .all(|value| (-1.0..=1.0).contains(value))
            );
            assert!(elapsed < Duration::from_secs(2), "{name}: {elapsed:?}");
            assert!(
                peak.is_none_or(|peak| peak < 300_000_000),
                "{name}: {peak:?}"
            );
            (slowest, largest) = (slowest.max(elapsed), largest.max(peak.unwrap_or(0)));
        }
    }
    println!("at most {slowest:?} and {} MB", largest / 1_000_000);
    deep_pictures_cost_rows();
    disproportionate_pictures_are_refused();
}

/// 16 bits in each of four channels: as little as one of 8 bits, since no more than some rows are there at a time (A12).
fn deep_pictures_cost_rows() {
    let bytes = png(4_800, 4_800, ColorType::Rgba, BitDepth::Sixteen);
    let (_, _, peak) = read(&bytes, Fit::Squash);
    assert!(peak.is_none_or(|peak| peak < 40_000_000), "{peak:?}");
}

fn disproportionate_pictures_are_refused() {
    let bytes = webp(16_383, 6_000);
    let (read, _, _) = read(&bytes, Fit::Squash);
    let error = read.unwrap_err();
    assert!(
        matches!(error, ImageError::Disproportionate { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("16383 x 6000"), "{error}");
}
