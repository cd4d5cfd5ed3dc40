//! Weight files as training programs and downloads leave them, and files that were made to do harm: each with what is to come
//! of it.

use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use epsilon_vision::backbone::{self, Backbone, BackboneError, Options};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Anything on files this small takes a fraction of it.
const SOON: Duration = Duration::from_secs(5);

/// Names and shapes of a Vision Transformer with timm's names: 16 x 16 pixels, 4 tokens of 64 values, one block.
const TENSORS: [(&str, &[usize]); 18] = [
    ("cls_token", &[1, 1, 64]),
    ("pos_embed", &[1, 5, 64]),
    ("patch_embed.proj.weight", &[64, 3, 8, 8]),
    ("patch_embed.proj.bias", &[64]),
    ("norm.weight", &[64]),
    ("norm.bias", &[64]),
    ("blocks.0.norm1.weight", &[64]),
    ("blocks.0.norm1.bias", &[64]),
    ("blocks.0.norm2.weight", &[64]),
    ("blocks.0.norm2.bias", &[64]),
    ("blocks.0.attn.qkv.weight", &[192, 64]),
    ("blocks.0.attn.qkv.bias", &[192]),
    ("blocks.0.attn.proj.weight", &[64, 64]),
    ("blocks.0.attn.proj.bias", &[64]),
    ("blocks.0.mlp.fc1.weight", &[128, 64]),
    ("blocks.0.mlp.fc1.bias", &[128]),
    ("blocks.0.mlp.fc2.weight", &[64, 128]),
    ("blocks.0.mlp.fc2.bias", &[64]),
];

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// A file as `torch.save` writes it: a dictionary of what is added.
struct Checkpoint {
    pickle: Vec<u8>,
    storages: Vec<Vec<u8>>,
    compression: CompressionMethod,
}

impl Checkpoint {
    fn new() -> Self {
        Self {
            pickle: b"\x80\x02}".to_vec(),
            storages: Vec::new(),
            compression: CompressionMethod::Stored,
        }
    }

    fn text(&mut self, text: &str) {
        self.pickle.push(b'X');
        self.pickle.extend((text.len() as u32).to_le_bytes());
        self.pickle.extend(text.as_bytes());
    }

    fn numbers(&mut self, numbers: &[usize]) {
        self.pickle.push(b'(');
        for &number in numbers {
            self.pickle.push(b'J');
            self.pickle.extend((number as u32).to_le_bytes());
        }
        self.pickle.push(b't');
    }

    /// A tensor of `stored` values in the file, seen with these strides.
    fn tensor(&mut self, value: f32, stored: usize, shape: &[usize], strides: &[usize]) {
        self.pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.pickle.extend(b"ctorch\nFloatStorage\n");
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.pickle.push(b'J');
        self.pickle.extend((stored as u32).to_le_bytes());
        self.pickle.extend(b"tQK\0");
        self.numbers(shape);
        self.numbers(strides);
        self.pickle.extend(b"\x89}tR");
        self.storages.push(value.to_le_bytes().repeat(stored));
    }

    /// A network under a key, its values all the same.
    fn network(&mut self, key: &str, prefix: &str, value: f32) {
        self.text(key);
        self.pickle.push(b'}');
        for (name, shape) in TENSORS {
            self.text(&format!("{prefix}{name}"));
            let count = shape.iter().product();
            let strides: Vec<usize> = (0..shape.len())
                .map(|axis| shape[axis + 1..].iter().product())
                .collect();
            self.tensor(value, count, shape, &strides);
            self.pickle.push(b's');
        }
        self.pickle.push(b's');
    }

    /// What else training programs keep: `{"state": {0: {"step": 7, "exp_avg": ..}}, "param_groups": [..]}`, and a number.
    fn optimizer(&mut self) {
        self.text("epoch");
        self.pickle.extend(b"K\x09s");
        self.text("optimizer");
        self.pickle.push(b'}');
        self.text("state");
        self.pickle.extend(b"}K\0}");
        self.text("exp_avg");
        self.tensor(0.0, 64, &[64], &[1]);
        self.pickle.extend(b"sss");
        self.text("param_groups");
        self.pickle.extend(b"]}");
        self.text("lr");
        self.pickle.extend(b"G\x3f\xf0\0\0\0\0\0\0sass");
    }

    fn bytes(mut self) -> Vec<u8> {
        self.pickle.push(b'.');
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(self.compression);
        archive.start_file("archive/data.pkl", options).unwrap();
        archive.write_all(&self.pickle).unwrap();
        for (number, bytes) in self.storages.iter().enumerate() {
            archive
                .start_file(format!("archive/data/{number}"), options)
                .unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }
}

fn load(path: &std::path::Path, key: Option<&str>) -> Result<Box<dyn Backbone>, BackboneError> {
    let options = Options {
        weights_key: key.map(String::from),
        ..Options::default()
    };
    backbone::load_with(path, &options)
}

fn refusal(path: &std::path::Path) -> String {
    let started = Instant::now();
    let error = load(path, None).err().unwrap().to_string();
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    error
}

#[test]
fn w01_the_network_of_a_checkpoint_is_found_beside_its_optimiser() {
    let files = Files::new();
    for (key, prefix) in [
        ("model", ""),
        ("state_dict", "module."),
        ("model", "backbone."),
        ("net", "_orig_mod.module."),
    ] {
        let mut checkpoint = Checkpoint::new();
        checkpoint.network(key, prefix, 0.5);
        checkpoint.optimizer();
        let backbone = load(&files.put("checkpoint.pth", checkpoint.bytes()), None).unwrap();
        let info = backbone.info();
        assert_eq!(
            (info.tokens, info.dim, info.weights_key.as_deref()),
            (4, 64, None)
        );
    }
}

#[test]
fn w01_of_several_networks_a_key_chooses_and_the_message_lists_them() {
    let files = Files::new();
    let mut checkpoint = Checkpoint::new();
    checkpoint.network("student", "module.backbone.", 0.5);
    checkpoint.network("teacher", "backbone.", 0.25);
    checkpoint.optimizer();
    let path = files.put("dino.pth", checkpoint.bytes());
    let message = refusal(&path);
    for part in [
        "weights-key",
        "\"student.module.backbone\" (vit-timm)",
        "\"teacher.backbone\" (vit-timm)",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let wrong = load(&path, Some("teecher")).err().unwrap().to_string();
    assert!(
        wrong.contains("teecher") && wrong.contains("teacher.backbone"),
        "{wrong}"
    );
    let [student, teacher] =
        ["student.module.backbone", "teacher.backbone"].map(|key| load(&path, Some(key)).unwrap());
    assert_eq!(
        teacher.info().weights_key.as_deref(),
        Some("teacher.backbone")
    );
    // They are of one file, and not the same.
    assert!(student.info().difference(teacher.info()).is_some());
    let again = load(&path, teacher.info().options().weights_key.as_deref()).unwrap();
    assert_eq!(again.info().difference(teacher.info()), None);
    // What is left over within the part is named as ever.
    let mut checkpoint = Checkpoint::new();
    checkpoint.network("model", "", 0.5);
    checkpoint.text("model.blocks.0.strange");
    checkpoint.tensor(0.0, 4, &[4], &[1]);
    checkpoint.pickle.push(b's');
    let message = refusal(&files.put("strange.pth", checkpoint.bytes()));
    assert!(
        message.contains("blocks.0.strange: not part of this network"),
        "{message}"
    );
}

#[test]
fn w05_a_git_lfs_pointer_or_a_page_is_said_to_be_one() {
    let files = Files::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258\nsize 12345\n";
    let page = "\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n";
    for (content, said) in [(pointer, "git lfs pull"), (page, "HTML page")] {
        for name in ["w.safetensors", "w.pth", "w.safetensors.index.json"] {
            let message = refusal(&files.put(name, content));
            assert!(
                message.contains(name) && message.contains(said),
                "{message}"
            );
        }
    }
}

#[test]
fn a06_a_small_archive_that_unpacks_to_much_is_refused() {
    let files = Files::new();
    // 99 MB of empty lists in 100 kB.
    let mut checkpoint = Checkpoint::new();
    checkpoint.compression = CompressionMethod::Deflated;
    checkpoint.pickle.extend(b"]".repeat(99 << 20));
    let message = refusal(&files.put("bomb.pth", checkpoint.bytes()));
    assert!(
        message.contains("unpacks to") && message.contains("4 times"),
        "{message}"
    );
    // As large as it is, and still nothing but operations: in an archive, and alone.
    let operations = b"]".repeat(3 << 20);
    let mut checkpoint = Checkpoint::new();
    checkpoint.pickle.extend(&operations);
    let whole = [b"\x80\x02", &operations[..], b"."].concat();
    for content in [checkpoint.bytes(), whole] {
        let message = refusal(&files.put("operations.pth", content));
        assert!(message.contains("operations"), "{message}");
    }
}

#[test]
fn a06_a_tensor_of_repeated_values_is_refused() {
    let files = Files::new();
    let mut checkpoint = Checkpoint::new();
    checkpoint.text("pos_embed");
    checkpoint.tensor(1.0, 1, &[1 << 14, 1 << 14], &[0, 0]);
    checkpoint.pickle.push(b's');
    let message = refusal(&files.put("strides.pth", checkpoint.bytes()));
    assert!(message.contains("16 times its size"), "{message}");
}
