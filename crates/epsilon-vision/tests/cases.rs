//! Photographs that were sent to do harm, each with what is to come of it.

use std::fs;
use std::path::Path;
use std::time::Instant;

use epsilon_vision::image::{Filter, Fit, ImageError, Limits, Preprocess, open};

/// The start of a PNG of one-bit grey pixels, up to its first data: enough for a decoder to reserve what the header asks for.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([1, 0, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend(&header);
    bytes.extend(crc32(&header).to_be_bytes());
    bytes.extend(b"\0\0\0\x02IDAT\x78\x9c");
    bytes.extend(crc32(b"IDAT\x78\x9c").to_be_bytes());
    bytes
}

/// The checksum of a PNG chunk (ISO 15948, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ 0xEDB8_8320,
            _ => crc >> 1,
        })
    });
    !crc
}

/// Most memory that this process has held at once, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn preprocess(fit: Fit) -> Preprocess {
    Preprocess {
        size: 224,
        fit,
        filter: Filter::Bicubic,
        mean: [0.5; 3],
        std: [0.5; 3],
    }
}

#[test]
fn a01_extreme_shapes_are_refused_or_cost_little() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let path = folder.path().join("long.png");
    for (width, height) in [
        (1, 99_999_999),
        (99_999_999, 1),
        (1, 3_000_000),
        (65_536, 2),
    ] {
        fs::write(&path, png_header(width, height)).unwrap();
        let error = open(&path, &limits).unwrap_err();
        assert!(
            matches!(error, ImageError::TooLong { limit: 65_535, .. }),
            "{width} x {height}: {error}"
        );
        assert!(error.to_string().contains(&format!("{width} x {height}")));
    }
    let before = peak_memory();
    let started = Instant::now();
    let mut decoded = 0;
    for long in [2, 100, 5_000, 30_000, 65_535] {
        for short in [1, 2, 3, 17] {
            for (width, height) in [(long, short), (short, long)] {
                let picture = image::GrayImage::from_fn(width, height, |x, y| {
                    image::Luma([((x * 7 + y * 3) % 256) as u8])
                });
                picture.save(&path).unwrap();
                check(&path, &limits);
                decoded += 1;
            }
        }
    }
    assert_eq!(decoded, 40);
    // 40 pictures, each preprocessed in two ways, on a slow machine as well.
    assert!(started.elapsed().as_secs() < 80, "{:?}", started.elapsed());
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < 300 << 20, "{} bytes more", after - before);
    }
}

/// That a picture can be preprocessed in either way to values within its range.
fn check(path: &Path, limits: &Limits) {
    let picture = open(path, limits).unwrap();
    for fit in [Fit::Squash, Fit::ShorterSide { resize: 256 }] {
        let preprocess = preprocess(fit);
        let mut pixels = vec![f32::NAN; preprocess.len()];
        preprocess.apply(&picture, &mut pixels);
        assert!(pixels.iter().all(|value| (-1.0..=1.0).contains(value)));
    }
}
