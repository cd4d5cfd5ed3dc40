//! Every format that photo libraries hold: one known picture in each (see `fixtures/make_formats.py`), whole, cut short and
//! damaged. A test of its own process, whose memory is measured.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use epsilon_vision::image::{
    self, FORMATS, Filter, Fit, Flaw, ImageError, Limits, Part, Pixels, Preprocess, RgbImage, kind,
};

/// Counts the memory that is in use, and its peak.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests of this file go one at a time: they measure the memory of all.
static ONE: Mutex<()> = Mutex::new(());

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats")
}

/// The files that this build reads.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if kind(&bytes).unwrap().is_read() {
            files.push((path.file_name().unwrap().to_str().unwrap().into(), bytes));
        }
    }
    files.sort();
    files
}

/// The picture of the fixtures; the same formula is in `make_formats.py`.
fn drawn() -> RgbImage {
    RgbImage::from_fn(48, 32, |x, y| {
        let colour = match (x, y) {
            (4..16, 4..12) => [230, 30, 30],
            (28..44, 16..28) => [30, 60, 220],
            _ => [40 + 4 * x, 30 + 6 * y, 200 - 2 * x - 2 * y].map(|level| level as u8),
        };
        colour.into()
    })
}

/// Mean and largest difference of two pictures' values.
fn differences(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
    assert_eq!(a.dimensions(), b.dimensions());
    let pairs = a.as_raw().iter().zip(b.as_raw());
    let each: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = each.iter().map(|one| f64::from(*one)).sum();
    (
        sum / each.len() as f64,
        each.into_iter().max().unwrap_or_default(),
    )
}

fn read(bytes: &[u8]) -> Result<Pixels, ImageError> {
    let preprocess = Preprocess {
        size: 48,
        fit: Fit::Squash,
        filter: Filter::Bicubic,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let limits = Limits {
        max_pixels: 1_000_000,
        ..Limits::default()
    };
    image::decode_for("photo".as_ref(), bytes, &preprocess, &limits)
}

#[test]
fn every_format_gives_the_picture_upright() {
    let _one = ONE.lock();
    let colours = drawn();
    let mut grey = colours.clone();
    for pixel in grey.pixels_mut() {
        let [r, g, b] = pixel.0.map(u32::from);
        // What Pillow's `convert("L")` does.
        pixel.0 = [((19_595 * r + 38_470 * g + 7_471 * b + 32_768) >> 16) as u8; 3];
    }
    let mut seen: Vec<&str> = Vec::new();
    for (name, bytes) in files() {
        let ending = name.rsplit('.').next().unwrap();
        // Of each channel's values: the mean difference and the largest, where the format loses some.
        let (mean, largest) = match &*name {
            "chroma_420.heic" | "chroma_420.avif" => (5.0, 180),
            "jpeg.tif" | "lossy.jxl" => (3.0, 60),
            "plain.gif" | "moving.gif" | "palette.bmp" => (3.0, 16),
            "grey16.tif" | "cmyk.tif" => (0.5, 1),
            _ if ["heic", "avif"].contains(&ending) => (2.0, 24),
            _ if name.starts_with("turned.") && !["tif", "jxl"].contains(&ending) => (1.5, 24),
            "note.nef" | "om_system.orf" | "preview.cr3" | "turned.jxl" => (1.5, 24),
            _ => (0.0, 0),
        };
        let expected = if name.starts_with("grey") {
            &grey
        } else {
            &colours
        };
        let found = image::decode(Path::new(&name), &bytes, &Limits::default());
        let found = found.unwrap_or_else(|error| panic!("{error}"));
        // Twice as large, as the encoders' smallest frame is 64 x 64.
        let twice = RgbImage::from_fn(96, 64, |x, y| *colours.get_pixel(x / 2, y / 2));
        let expected = if name.starts_with("grid") {
            &twice
        } else {
            expected
        };
        let (by, most) = differences(&found, expected);
        println!("{name}: {by:.2} {most}");
        assert!(
            by <= mean && most <= largest,
            "{name}: differs by {by:.2} in the mean, {most} at most"
        );
        seen.push(
            FORMATS
                .iter()
                .find(|format| format.endings.contains(&ending))
                .unwrap()
                .name,
        );
    }
    for format in FORMATS.iter().filter(|format| format.is_built()) {
        // JPEG, PNG and WebP have fixtures of their own.
        let elsewhere = ["JPEG", "PNG", "WebP"].contains(&format.name);
        assert!(
            elsewhere || seen.contains(&format.name),
            "no {} was tried",
            format.name
        );
    }
}

#[cfg(not(feature = "avif"))]
#[test]
fn what_another_build_reads_is_named() {
    let path = folder().join("chroma_444.avif");
    let error = image::open(&path, &Limits::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("chroma_444.avif: AVIF is not read by this build: one with the cargo feature `avif` reads it; or convert it"), "{text}");
}

#[test]
fn raw_files_without_a_preview_say_so() {
    for name in ["turned.dng", "turned.cr3", "turned.raf", "turned.rw2"] {
        let mut bytes = fs::read(folder().join(name)).unwrap();
        for at in 0..bytes.len() - 2 {
            if bytes[at..].starts_with(b"\xff\xd8\xff") {
                bytes[at] = 0;
            }
        }
        let error = read(&bytes).unwrap_err();
        assert!(
            matches!(error, ImageError::NoPreview { .. }),
            "{name}: {error}"
        );
    }
    assert!(
        FORMATS
            .iter()
            .filter(|format| format.part == Part::Preview)
            .count()
            >= 8
    );
}

/// A preview whose last bytes are missing is as good as a JPEG that lacks them.
#[test]
fn a_preview_without_its_end_is_flawed() {
    let mut bytes = fs::read(folder().join("turned.rw2")).unwrap();
    let whole = read(&bytes).unwrap();
    assert_eq!(whole.flaw, None);
    let end = bytes
        .windows(2)
        .rposition(|pair| pair == b"\xff\xd9")
        .unwrap();
    bytes[end..end + 2].fill(0);
    let pixels = read(&bytes).unwrap();
    assert_eq!(
        (pixels.flaw, pixels.values),
        (Some(Flaw::NoEnd), whole.values)
    );
}

/// At a smaller size a JPEG gives hardly other values than as a whole, however it is coded and turned.
#[test]
fn a_jpeg_decoded_at_a_smaller_size_gives_the_same_picture() {
    let _one = ONE.lock();
    let folder = folder().join("../reduced");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let bytes = fs::read(path).unwrap();
        if name == "turned.jpg" {
            // The entry of the orientation, in Pillow's order of bytes.
            let entry = b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00";
            let entry_in_other = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06";
            let little = bytes.windows(10).position(|window| window == entry);
            let big = bytes
                .windows(10)
                .position(|window| window == entry_in_other);
            let place = little.map(|at| at + 8).or(big.map(|at| at + 9)).unwrap();
            for orientation in 1..=8 {
                let mut turned = bytes.clone();
                turned[place] = orientation;
                cases.push((format!("{name}, orientation {orientation}"), turned));
            }
        } else {
            cases.push((name, bytes));
        }
    }
    assert_eq!(cases.len(), 14);
    for (name, bytes) in &cases {
        let whole = image::decode(name.as_ref(), bytes, &Limits::default()).unwrap();
        for size in [32, 64, 120] {
            for fit in [Fit::Squash, Fit::ShorterSide { resize: size + 8 }] {
                let preprocess = Preprocess {
                    size,
                    fit,
                    filter: Filter::Bicubic,
                    mean: [0.0; 3],
                    std: [1.0 / 255.0; 3],
                };
                let mut expected = vec![0.0; preprocess.len()];
                preprocess.apply(&whole, &mut expected);
                let before = NOW.load(Ordering::Relaxed);
                PEAK.store(before, Ordering::Relaxed);
                let found =
                    image::decode_for(name.as_ref(), bytes, &preprocess, &Limits::default());
                let found = found.unwrap().values;
                let peak = PEAK.load(Ordering::Relaxed) - before;
                let by: Vec<f32> = expected
                    .iter()
                    .zip(&found)
                    .map(|(a, b)| (a - b).abs())
                    .collect();
                let mean = by.iter().sum::<f32>() / by.len() as f32;
                let most = by.iter().copied().fold(0.0, f32::max);
                let case = format!(
                    "{name}, {size}, {fit:?}: {mean:.2} in the mean, {most} at most, {} kB",
                    peak / 1000
                );
                println!("{case}");
                assert!(mean < 1.0 && most <= 40.0, "{case}");
                // A whole picture takes 1.4 MB.
                assert!(peak < 1_300_000 || name == "progressive.jpg", "{case}");
            }
        }
    }
}

/// How reading hostile bytes went, over a whole test.
#[derive(Default)]
struct Cost {
    slowest: Duration,
    largest: usize,
    where_largest: String,
    panics: Vec<String>,
}

impl Cost {
    fn read(&mut self, bytes: &[u8], case: impl Fn() -> String) -> Result<Pixels, ImageError> {
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let result = read(bytes);
        self.slowest = self.slowest.max(start.elapsed());
        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        if peak > self.largest {
            let said = result.as_ref().err().map(ToString::to_string);
            self.where_largest = format!("{}: {said:?}", case());
            self.largest = peak;
        }
        assert!(peak < 250_000_000, "{}: {} MB", case(), peak / 1_000_000);
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{}: {:?}",
            case(),
            start.elapsed()
        );
        if let Err(error) = &result
            && error.to_string().contains("its decoder failed")
        {
            self.panics.push(format!("{}: {error}", case()));
        }
        result
    }

    fn report(self) {
        println!(
            "at most {:?}, and {} kB of memory ({}); {} panics",
            self.slowest,
            self.largest / 1_000,
            self.where_largest,
            self.panics.len()
        );
        assert!(self.panics.is_empty(), "{}", self.panics.join("\n"));
    }
}

#[test]
fn a_file_cut_short_is_an_error_or_the_same_picture() {
    let _one = ONE.lock();
    let mut cost = Cost::default();
    for (name, bytes) in files() {
        let whole = read(&bytes).unwrap();
        for length in 0..bytes.len() {
            let case = || format!("{name} cut to {length} of {}", bytes.len());
            if let Ok(pixels) = cost.read(&bytes[..length], case) {
                assert!(pixels.values == whole.values, "{}", case());
            }
        }
        let half = cost.read(&bytes[..bytes.len() / 4], || name.clone());
        assert!(half.is_err(), "{name}");
    }
    cost.report();
}

/// Some bytes of each file at random, many times over. `EPSILON_FUZZ_ROUNDS` sets how many times.
#[test]
fn damage_is_an_error_or_a_picture() {
    let _one = ONE.lock();
    let rounds = std::env::var("EPSILON_FUZZ_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(300);
    let mut cost = Cost::default();
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    // xorshift64.
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for (name, bytes) in files() {
        for round in 0..rounds {
            let mut damaged = bytes.clone();
            // Headers are shorter than pixels: half of the damage goes there.
            let until = if round % 2 == 0 {
                bytes.len()
            } else {
                bytes.len().min(600)
            };
            for _ in 0..=next(4) {
                let place = next(until);
                damaged[place] = match next(4) {
                    0 => 0,
                    1 => 0xFF,
                    2 => damaged[place] ^ (1 << next(8)),
                    _ => next(256) as u8,
                };
            }
            let _ = cost.read(&damaged, || format!("{name}, round {round}"));
        }
    }
    cost.report();
}
