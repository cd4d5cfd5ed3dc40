//! The small world every test runs in: pictures of coloured squares, colours as labels, a tiny random Vision
//! Transformer; and the program's runs in it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{Rgb, RgbImage};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use tempfile::TempDir;

/// Colours that pictures hold; the first [`SEEN`] are trained on.
const COLOURS: [(&str, [u8; 3]); 9] = [
    ("red", [220, 20, 20]),
    ("green", [20, 160, 20]),
    ("blue", [20, 20, 220]),
    ("yellow", [230, 230, 20]),
    ("black", [10, 10, 10]),
    ("white", [250, 250, 250]),
    ("cyan", [20, 220, 220]),
    ("magenta", [220, 20, 220]),
    ("orange", [250, 150, 10]),
];
const SEEN: usize = 6;
/// Words with a vector that are no label of the data set.
const OTHER_WORDS: [(&str, [u8; 3]); 3] = [
    ("purple", [120, 10, 120]),
    ("grey", [128, 128, 128]),
    ("brown", [120, 70, 20]),
];

pub(crate) const RECIPE: &str = r#"seeds = [1]

[data]
table = "labels.tsv"
images = "."
seen = "seen.txt"
unseen = "unseen.txt"
vectors = "vectors.txt"

[backbone]
weights = "backbone.safetensors"

[method]
kind = "epsilon"
groups = 2

[training]
epochs = 1
batch = 8
learning-rate = 1e-3
checkpoint-steps = 2

[evaluation]
protocol = "epsilon"
k-zsl = [1, 2]
k-gzsl = [1, 3]
bootstrap = 20
"#;

/// Random numbers that a seed repeats (splitmix64).
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A temporary folder with everything a recipe needs.
pub(crate) struct World {
    folder: TempDir,
}

impl World {
    /// 24 training and 12 test pictures.
    pub(crate) fn new() -> Self {
        Self::of(24, 12)
    }

    pub(crate) fn of(train: usize, test: usize) -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        world.draw(train, test);
        let names = |colours: &[(&str, [u8; 3])]| -> String {
            colours
                .iter()
                .map(|(name, _)| format!("{name}\n"))
                .collect()
        };
        world.write("seen.txt", names(&COLOURS[..SEEN]));
        world.write("unseen.txt", names(&COLOURS[SEEN..]));
        let vectors: String = COLOURS
            .iter()
            .chain(&OTHER_WORDS)
            .map(|(name, [r, g, b])| {
                format!(
                    "{name} {:.3} {:.3} {:.3} 0.5\n",
                    f32::from(*r) / 255.,
                    f32::from(*g) / 255.,
                    f32::from(*b) / 255.
                )
            })
            .collect();
        world.write("vectors.txt", vectors);
        world.write("backbone.safetensors", backbone(1));
        world.write("recipe.toml", RECIPE);
        world
    }

    /// Pictures of two colours; every test picture holds an unseen one, no training picture does. Every third is a JPEG.
    fn draw(&self, train: usize, test: usize) {
        let mut table = String::new();
        let mut random = Random(7);
        for index in 0..train + test {
            let training = index < train;
            let first = random.below(SEEN as u64) as usize;
            let second = if training {
                (first + 1 + random.below(SEEN as u64 - 1) as usize) % SEEN
            } else {
                SEEN + index % 3
            };
            let mut picture = RgbImage::from_fn(48, 48, |x, y| {
                Rgb([110 + (x % 7) as u8, 120 + (y % 5) as u8, 125])
            });
            for (side, colour) in [(0, first), (24, second)] {
                let (left, top) = (side + random.below(10) as u32, random.below(30) as u32);
                for (x, y) in (0..14).flat_map(|x| (0..14).map(move |y| (x, y))) {
                    picture.put_pixel(left + x, top + y, Rgb(COLOURS[colour].1));
                }
            }
            let (split, ending) = (
                if training { "train" } else { "test" },
                if index % 3 == 0 { "jpg" } else { "png" },
            );
            let name = format!("{split}-{index:04}.{ending}");
            picture.save(self.path(&name)).unwrap();
            table += &format!(
                "{name}\t{split}\t{},{}\n",
                COLOURS[first].0, COLOURS[second].0
            );
        }
        self.write("labels.tsv", table);
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces the first `from` in a text file, which must be there.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.text(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, text.replacen(from, to, 1));
    }

    /// Keeps the lines of a text file that `keep` wants.
    pub(crate) fn keep_lines(&self, name: &str, keep: impl Fn(&str) -> bool) {
        let kept: String = self
            .text(name)
            .lines()
            .filter(|line| keep(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        self.write(name, kept);
    }

    /// Cuts a file to a share of its length.
    pub(crate) fn truncate(&self, name: &str, share: f64) {
        let path = self.path(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
    }

    /// The program with these arguments (separated by spaces), in the world's folder, with two threads.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epsilon"));
        command
            .args(arguments.split_whitespace())
            .args(["--threads", "2"])
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &str) -> Ended {
        self.end(self.command(arguments), arguments)
    }

    /// Runs a [`World::command`] with these arguments to its end.
    pub(crate) fn end(&self, mut command: Command, arguments: &str) -> Ended {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ended = Ended {
            arguments: arguments.into(),
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
        ended
    }

    /// Every file below a folder with its content.
    pub(crate) fn files(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.path(folder))
    }
}

/// Every file below a folder with its content, by its path from there.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(
                    path.strip_prefix(folder).unwrap().into(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

/// Two folders hold the same files with the same bytes. (Says which differ; the bytes themselves would fill the screen.)
pub(crate) fn assert_same_files(
    found: &BTreeMap<PathBuf, Vec<u8>>,
    expected: &BTreeMap<PathBuf, Vec<u8>>,
) {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{} differs", name.display());
    }
}

/// Whether a line tells how a training's epoch went.
fn is_epoch(line: &str) -> bool {
    let told = line.split_once(": epoch ").map(|(_, told)| told);
    told.is_some_and(|told| told.contains(": loss ") && told.ends_with(" images/s"))
}

/// Whether a line tells a log how far an extraction is, as one does that takes longer than a few seconds.
fn is_progress(line: &str) -> bool {
    line.starts_with("extract: ") && line.ends_with(" left")
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    arguments: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// It did all it should and had nothing to complain about; gives stdout.
    pub(crate) fn done(self) -> String {
        let lines = self.stderr.lines();
        let complaints = lines.filter(|line| !is_epoch(line) && !is_progress(line));
        assert_eq!((self.code, complaints.count()), (Some(0), 0), "{self:?}");
        self.stdout
    }

    /// What it said of the epochs of its trainings.
    pub(crate) fn epochs(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| is_epoch(line)).collect()
    }

    /// [`Ended::done`] with JSON.
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// It could not start or went wrong, said nothing on stdout, and stderr holds all these parts.
    pub(crate) fn refused(&self, parts: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{self:?}");
        self.says(parts);
    }

    /// It went on without some inputs, which stderr names; gives stdout.
    pub(crate) fn partly(self, parts: &[&str]) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.says(parts);
        self.stdout
    }

    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "epsilon {}: stderr lacks {part:?}:\n{}",
                self.arguments,
                self.stderr
            );
        }
    }
}

/// A Vision Transformer of random weights: 32 x 32 pixels, 16 tokens 64 wide, 2 blocks.
pub(crate) fn backbone(seed: u64) -> Vec<u8> {
    let shapes: Vec<(String, Vec<usize>)> = shapes(64, 8, 17, 2, 128);
    network(seed, &shapes)
}

/// Names and shapes of timm's Vision Transformer.
pub(crate) fn shapes(
    dim: usize,
    patch: usize,
    tokens: usize,
    depth: usize,
    hidden: usize,
) -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        ("cls_token".to_string(), vec![1, 1, dim]),
        ("pos_embed".into(), vec![1, tokens, dim]),
        ("patch_embed.proj.weight".into(), vec![dim, 3, patch, patch]),
        ("patch_embed.proj.bias".into(), vec![dim]),
        ("norm.weight".into(), vec![dim]),
        ("norm.bias".into(), vec![dim]),
    ];
    for block in 0..depth {
        let linear = [
            ("attn.qkv", dim, 3 * dim),
            ("attn.proj", dim, dim),
            ("mlp.fc1", dim, hidden),
            ("mlp.fc2", hidden, dim),
        ];
        for (part, inputs, outputs) in linear {
            shapes.push((
                format!("blocks.{block}.{part}.weight"),
                vec![outputs, inputs],
            ));
            shapes.push((format!("blocks.{block}.{part}.bias"), vec![outputs]));
        }
        for part in ["norm1", "norm2"] {
            shapes.push((format!("blocks.{block}.{part}.weight"), vec![dim]));
            shapes.push((format!("blocks.{block}.{part}.bias"), vec![dim]));
        }
    }
    shapes
}

/// A weight file of random values with these tensors.
pub(crate) fn network(seed: u64, shapes: &[(String, Vec<usize>)]) -> Vec<u8> {
    let mut random = Random(seed);
    let tensors: Vec<(&String, &Vec<usize>, Vec<u8>)> = shapes
        .iter()
        .map(|(name, shape)| {
            let is_scale = name.contains("norm") && name.ends_with("weight");
            let (middle, spread) = if is_scale { (1.0, 0.1) } else { (0.0, 0.25) };
            let count: usize = shape.iter().product();
            let mut value = || (middle + spread * (2.0 * random.unit() - 1.0)) as f32;
            (
                name,
                shape,
                (0..count).flat_map(|_| value().to_le_bytes()).collect(),
            )
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap(),
        )
    });
    let settings = r#"{"heads": 2, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}"#;
    let metadata = HashMap::from([("epsilon.vit".to_string(), settings.to_string())]);
    safetensors::serialize(views, Some(metadata)).unwrap()
}
