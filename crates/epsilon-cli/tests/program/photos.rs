//! Photographs of strangers: extreme, incomplete, of other kinds, under any name.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::server::{Server, form};
use crate::world::{Ended, World};

const MODEL: &str = "out/seed-1/model.safetensors";

/// A trained model and an empty folder `photos`.
fn world() -> World {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    fs::create_dir(world.path("photos")).unwrap();
    world
}

/// Copies a test picture into `photos`.
fn copy(world: &World, name: impl Into<PathBuf>) {
    let to = world.path("photos").join(name.into());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(world.path("test-0025.png"), to).unwrap();
}

/// The photographs in a library's `tags.jsonl`.
fn tagged(world: &World) -> Vec<String> {
    let text = world.text("photos/.epsilon/tags.jsonl");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let photos = lines.map(|line: serde_json::Value| line["photo"].as_str().unwrap().into());
    photos.collect()
}

/// A PNG of zeros, as small as it can be written.
fn png(width: u32, height: u32, colour: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    let bits = colour.samples() * depth as usize * width as usize;
    let mut writer = encoder.write_header().unwrap();
    let zeros = vec![0; bits.div_ceil(8) * height as usize];
    writer.write_image_data(&zeros).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Most memory that a running process has held at once, in bytes, where the system tells.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Runs the program to its end; the most memory that it was seen to hold.
fn measured(world: &World, arguments: &str) -> u64 {
    let mut child: Child = world
        .command(arguments)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    let status = loop {
        most = most.max(peak(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // What is refused is named; nothing is aborted.
    assert!(
        matches!(status.code(), Some(0 | 1)),
        "{arguments}: {status}"
    );
    most
}

#[test]
fn a01_extreme_photographs_stop_nothing() {
    use png::{BitDepth, ColorType};
    let world = world();
    copy(&world, "usual.png");
    let idle = measured(&world, &format!("predict --model {MODEL} photos/usual.png"));
    let mut names = Vec::new();
    for (width, height, colour, depth) in [
        (1, 99_999_999, ColorType::Grayscale, BitDepth::One),
        (1, 3_000_000, ColorType::Grayscale, BitDepth::One),
        (100_000_000, 1, ColorType::Grayscale, BitDepth::One),
        (1, 65_535, ColorType::Rgba, BitDepth::Sixteen),
        (65_535, 1, ColorType::Grayscale, BitDepth::One),
        (60_000, 2, ColorType::Rgb, BitDepth::Eight),
        (3, 65_000, ColorType::GrayscaleAlpha, BitDepth::Eight),
        (9_999, 9_999, ColorType::Grayscale, BitDepth::One),
        (9_999, 9_999, ColorType::Grayscale, BitDepth::Eight),
        (4_800, 4_800, ColorType::Rgba, BitDepth::Sixteen),
    ] {
        let bytes = png(width, height, colour, depth);
        assert!(bytes.len() < 200_000);
        let name = format!("photos/{width}x{height}-{}.png", names.len());
        world.write(&name, bytes);
        names.push(name);
    }
    let rows: Vec<String> = names
        .iter()
        .map(|name| format!("{name}\ttest\tcyan\n"))
        .collect();
    let table = world.text("labels.tsv");
    world.write("labels.tsv", table + &rows.concat());
    let start = Instant::now();
    for command in [
        format!("predict --model {MODEL} {}", names.join(" ")),
        format!("tag --model {MODEL} photos --top 1"),
        "extract recipe.toml --out tokens".into(),
    ] {
        let most = measured(&world, &command);
        assert!(
            most < idle + 300_000_000,
            "{command}: {most} bytes, {idle} idle"
        );
    }
    assert_eq!(tagged(&world).len(), 11);
    let server = Server::start(&world, MODEL);
    for name in &names {
        let photo = fs::read(world.path(name)).unwrap();
        let reply = server.post("/v1/predict", &form(&[("photo", "a.png", &photo)]));
        assert!(matches!(reply.status, 200 | 422), "{name}: {reply:?}");
    }
    let most = peak(server.process()).unwrap_or(0);
    assert!(
        most < idle + 300_000_000,
        "serve: {most} bytes, {idle} idle"
    );
    // At most 2 seconds a picture on a slow machine.
    assert!(
        start.elapsed() < Duration::from_secs(4 * 2 * 10),
        "{:?}",
        start.elapsed()
    );
}

#[cfg(unix)]
#[test]
fn t10_names_that_are_not_utf8_cost_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let world = world();
    let strange = OsStr::from_bytes(b"se\xe9.png");
    copy(&world, "ok.png");
    copy(&world, PathBuf::from(strange));
    let mut command = world.command(&format!("predict --model {MODEL} photos/ok.png --json"));
    command
        .arg(world.path("photos").join(strange))
        .arg("photos/none.png");
    let said = world.end(command, "predict").partly(&["photos/none.png"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said[0]["photo"], "photos/ok.png");
    let photo = said[1]["photo"].as_str().unwrap();
    assert!(photo.ends_with(r"photos/se\xe9.png"), "{photo}");
    assert_eq!(said[0]["labels"], said[1]["labels"]);

    let tag = format!("tag --model {MODEL} photos --top 1 --csv tags.csv --xmp");
    let json = world.run(&format!("{tag} --json")).done();
    assert!(json.contains(r#""photo":"se\\xe9.png""#), "{json}");
    assert_eq!(tagged(&world), ["ok.png", r"se\xe9.png"]);
    assert!(world.text("tags.csv").contains("\nse\\xe9.png,"));
    let sidecar = OsStr::from_bytes(b"se\xe9.png.xmp");
    assert!(world.path("photos").join(sidecar).exists());
    assert_eq!(world.run(&tag).done(), "", "nothing is left to do");
    let found = world.run("search photos red --json").json();
    let found = found.as_array().unwrap().iter();
    let found: Vec<&str> = found.map(|hit| hit["photo"].as_str().unwrap()).collect();
    assert!(
        found
            .iter()
            .any(|photo| photo.ends_with(r"photos/se\xe9.png")),
        "{found:?}"
    );
    // In text as well, and in the names of heat maps.
    let mut command = world.command(&format!("explain --model {MODEL} --label red --out maps"));
    command.arg(world.path("photos").join(strange));
    let said = world.end(command, "explain").done();
    assert!(said.contains(r"se\xe9.png  red"), "{said}");
}

#[cfg(unix)]
#[test]
fn t18_names_with_control_characters_are_written_out() {
    let world = world();
    let name = "a\nb\u{1b}[31m.png";
    copy(&world, name);
    fs::write(world.path("photos/c\nd.png"), "broken").unwrap();
    let plain = r"photos/a\nb\u{1b}[31m.png";
    let photo = format!("photos/{name}");
    let predict = |json: &[&str]| -> Ended {
        let mut command = world.command(&format!("predict --model {MODEL} --top 1"));
        command.args([&photo, "photos/c\nd.png"]).args(json);
        world.end(command, "predict")
    };
    let said =
        predict(&[]).partly(&[r"failed: photos/c\nd.png: not a picture of a kind that is read"]);
    assert_eq!(said.lines().next(), Some(plain), "{said}");
    assert_eq!(said.lines().count(), 2);
    // JSON escapes for itself, and holds the name as it is.
    let said = predict(&["--json"]).partly(&[r"c\nd.png"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said[0]["photo"], photo);

    let said = world
        .run(&format!("tag --model {MODEL} photos --top 1"))
        .partly(&[r"photos/c\nd.png: not a"]);
    assert!(
        said.starts_with(&format!("{}\t", plain.trim_start_matches("photos/"))),
        "{said}"
    );
    let said = world.run("search photos red").done();
    assert!(
        said.lines().count() == 1 && said.trim_end().ends_with(plain),
        "{said}"
    );
}

#[test]
fn t11_pictures_of_other_kinds_are_said() {
    let world = world();
    fs::copy(world.path("test-0024.jpg"), world.path("photos/a.jfif")).unwrap();
    fs::copy(world.path("test-0024.jpg"), world.path("photos/b")).unwrap();
    // A PNG under a JPEG's name.
    copy(&world, "c.jpg");
    world.write("photos/d.psd", b"8BPS\0\x01 and more");
    world.write("photos/e", b"8BPS\0\x01 and more");
    world.write("photos/f.jpg", b"8BPS\0\x01 and more");
    let ended = world.run(&format!("tag --model {MODEL} photos --top 1"));
    let said = ended.partly(&[
        "warning: not read, as `epsilon formats` does not list them: 2 pictures (2 psd)",
        "f.jpg: not a picture of a kind that is read but PSD",
    ]);
    let names: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(names, ["a.jfif", "b", "c.jpg"]);
}

/// A picture in each format that `epsilon formats` lists as read, in one folder.
#[test]
fn every_format_that_is_listed_is_tagged() {
    let world = world();
    let listed = world.run("formats --json").done();
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    let table = world.run("formats").done();
    let fixtures = format!(
        "{}/../epsilon-vision/tests/fixtures/formats",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut tried = 0;
    for format in &listed {
        assert!(
            table.contains(format["format"].as_str().unwrap()),
            "{table}"
        );
        let ending = format!(".{}", format["endings"][0].as_str().unwrap());
        let mut names: Vec<String> = fs::read_dir(&fixtures)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(&ending))
            .collect();
        names.sort();
        if let (Some(name), Some(true)) = (names.first(), format["read"].as_bool()) {
            fs::copy(
                format!("{fixtures}/{name}"),
                world.path("photos").join(name),
            )
            .unwrap();
            tried += 1;
        }
    }
    assert!(tried >= 13, "{tried}");
    let said = world
        .run(&format!("tag --model {MODEL} photos --top 1"))
        .done();
    assert_eq!(said.lines().count(), tried, "{said}");
}

#[test]
fn t12_what_is_excluded_is_left_alone() {
    let world = world();
    for name in [
        "a.png",
        "@eaDir/a.png",
        "old/b.png",
        "old/keep.png",
        "c-draft.png",
    ] {
        copy(&world, name);
    }
    world
        .run(&format!("tag --model {MODEL} photos --top 1 --xmp"))
        .done();
    assert_eq!(
        tagged(&world),
        ["a.png", "c-draft.png", "old/b.png", "old/keep.png"]
    );
    assert!(!world.path("photos/@eaDir/a.png.xmp").exists());
    let exclude = "--exclude old/* --exclude !keep.png --exclude *-draft.*";
    world
        .run(&format!("tag --model {MODEL} photos --top 1 {exclude}"))
        .done();
    assert_eq!(tagged(&world), ["a.png", "old/keep.png"]);
    // What is left out is not gone: its sidecar stays as it is.
    assert!(world.path("photos/c-draft.png.xmp").exists());
    world
        .run(&format!("tag --model {MODEL} photos --top 1 --exclude a[b"))
        .refused(&["\"a[b\""]);
}

#[test]
fn t17_the_largest_photograph_is_chosen_wherever_photographs_are_read() {
    let world = world();
    image::GrayImage::new(1_500, 1_000)
        .save(world.path("photos/large.png"))
        .unwrap();
    let table = world.text("labels.tsv");
    world.write(
        "labels.tsv",
        format!("photos/large.png\ttest\tcyan\n{table}"),
    );
    let refused = [
        "large.png: 1500 x 1000 pixels",
        "1000000",
        "--max-megapixels",
    ];
    let mut commands = vec![
        format!("predict --model {MODEL} photos/large.png"),
        format!("explain --model {MODEL} photos/large.png --label red --out maps"),
        "prepare recipe.toml".into(),
        "extract recipe.toml --out new".into(),
    ];
    for command in &commands {
        world
            .run(&format!("{command} --max-megapixels 1"))
            .partly(&refused);
    }
    world
        .run(&format!(
            "tag --model {MODEL} photos --top 1 --max-megapixels 1"
        ))
        .partly(&refused);
    // The recipe's own key, and the option in its place.
    world.edit(
        "recipe.toml",
        "[method]",
        "[features]\nmax-megapixels = 1\n\n[method]",
    );
    world.run("prepare recipe.toml").partly(&refused);
    for command in &mut commands[2..] {
        *command += "x --max-megapixels 2";
        *command = command.replace("recipe.tomlx", "recipe.toml");
    }
    for command in commands {
        world.run(&command).done();
    }
    world.run("report out --photos 1 --max-megapixels 1").done();
}

#[test]
fn t20_a_photograph_without_its_end_is_read_with_a_warning() {
    let world = world();
    let cut = |from: &str, to: &str, bytes: usize| {
        let whole = fs::read(world.path(from)).unwrap();
        world.write(&format!("photos/{to}"), &whole[..whole.len() - bytes]);
    };
    cut("test-0024.jpg", "a.jpg", 2);
    cut("test-0025.png", "b.png", 12);
    cut("test-0024.jpg", "c.jpg", 20);
    let missing = "the file's end is missing; the picture is whole";
    let names = "photos/a.jpg photos/b.png photos/c.jpg test-0024.jpg test-0025.png";
    let said = world.run(&format!("predict --model {MODEL} {names} --json"));
    let said = said.partly(&[
        &format!("warning: photos/a.jpg: {missing}"),
        &format!("warning: photos/b.png: {missing}"),
        "failed: photos/c.jpg: truncated JPEG",
    ]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said.as_array().unwrap().len(), 4);
    assert_eq!(said[0]["labels"], said[2]["labels"]);
    assert_eq!(said[1]["labels"], said[3]["labels"]);
    let said = world
        .run(&format!("tag --model {MODEL} photos --top 1"))
        .partly(&[
            "2 photographs were read although their files are not quite right",
            "failed: ",
        ]);
    assert_eq!(said.lines().count(), 2);
}
