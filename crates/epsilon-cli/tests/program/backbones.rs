//! Backbones of every family and container through the program: listed, checked, extracted with, trained on; hostile
//! weight files, a hub that is not there, configurations that lie, and pictures of extreme sizes.

use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde_json::Value;

use crate::world::{Ended, World};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../epsilon-vision/tests/fixtures");
    folder.join(name)
}

/// Puts a fixture, a file or a folder, into the world.
pub(crate) fn put(world: &World, from: &str, to: &str) {
    let source = fixture(&format!("backbones/{from}"));
    if source.is_file() {
        fs::copy(source, world.path(to)).unwrap();
        return;
    }
    fs::create_dir_all(world.path(to)).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), world.path(to).join(entry.file_name())).unwrap();
    }
}

/// The program with environment variables.
fn run_with(world: &World, arguments: &str, variables: &[(&str, &str)]) -> Ended {
    let mut command = world.command(arguments);
    for name in ["HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    world.end(command, arguments)
}

#[test]
fn every_family_is_listed_and_checked() {
    let world = World::of(1, 1);
    let listed = world.run("backbone list --json").json();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|family| family["name"].as_str().unwrap())
        .collect();
    let text = world.run("backbone list").done();
    for (file, family, tokens, dim, global) in [
        ("vit", "vit-huggingface", 9, 40, 40),
        ("dinov2", "dinov2-huggingface", 9, 40, 40),
        ("dinov2_registers", "dinov2-huggingface", 9, 40, 40),
        ("timm_dinov2.safetensors", "vit-timm", 16, 40, 40),
        ("clip", "clip-huggingface", 16, 40, 16),
        ("open_clip", "clip-openclip", 16, 40, 16),
        ("vgg19.pth", "vgg", 196, 20, 28),
        ("vgg19_bn.pth", "vgg", 196, 20, 28),
        ("../siglip/siglip", "siglip-huggingface", 9, 32, 32),
    ] {
        assert!(names.contains(&family) && text.contains(family));
        let from = file;
        let file = from.trim_start_matches("../siglip/");
        put(&world, from, file);
        let check = world.run(&format!("backbone check {file} --json")).json();
        assert_eq!(check["family"]["name"], family, "{file}");
        assert_eq!(check["info"]["tokens"], tokens, "{file}");
        assert_eq!(check["info"]["dim"], dim, "{file}");
        assert_eq!(check["global"], global, "{file}");
        assert!(check["parameters"].as_u64().unwrap() > 1000);
        let sha = check["info"]["weights_sha256"].as_str().unwrap();
        let text = world.run(&format!("backbone check {file}")).done();
        assert!(text.contains(sha) && text.contains(&format!("{tokens} x {dim}")));
    }
    let check = world.run("backbone check vgg19.pth --json").json();
    assert_eq!(check["classes"], 3);
    let text = world.run("backbone check clip").done();
    assert!(text.contains("own classes    none"), "{text}");
    let projected = world.run("backbone check clip --tokens projected --json");
    assert_eq!(projected.json()["info"]["dim"], 16);
    world
        .run("backbone check vit --tokens projected")
        .refused(&["projected", "CLIP"]);
}

/// A VGG's global vectors are wider than its tokens: stored, trained on, measured, ranked with.
#[test]
fn vgg_from_photographs_to_labels() {
    let world = World::of(6, 4);
    put(&world, "vgg19.pth", "vgg.pth");
    world.edit("recipe.toml", "backbone.safetensors", "vgg.pth");
    world.edit(
        "recipe.toml",
        "kind = \"epsilon\"\ngroups = 2",
        "kind = \"ridge\"",
    );
    world.run("train recipe.toml --out out").done();
    let model = "out/seed-1/model.safetensors";
    let ranked = world
        .run(&format!("predict --model {model} test-0007.png --json"))
        .json();
    assert_eq!(ranked[0]["labels"].as_array().unwrap().len(), 9);
    world.edit(
        "recipe.toml",
        "kind = \"ridge\"",
        "kind = \"epsilon\"\ngroups = 2\nheads = 2",
    );
    world.run("train recipe.toml --out out").done();
    world.edit("recipe.toml", "groups = 2", "with-cls = true");
    world
        .run("train recipe.toml --out out")
        .refused(&["with-cls", "28 values, the tokens 20"]);
}

/// A store in another precision is another store, and a model ranks with what it was trained on.
#[test]
fn precisions_are_kept_apart() {
    let world = World::of(6, 4);
    world.run("extract recipe.toml --out out").done();
    let manifest = world.text("out/tokens/manifest.json");
    assert!(!manifest.contains("precision"), "as older stores, in f32");
    world.edit(
        "recipe.toml",
        "[backbone]",
        "[backbone]\nprecision = \"int8\"",
    );
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    if !has {
        println!("skipped: this CPU has no AVX-512 bf16 instructions");
        world
            .run("train recipe.toml --out out")
            .refused(&["precision = \"int8\"", "AVX-512"]);
        return;
    }
    world
        .run("train recipe.toml --out out")
        .refused(&["another precision", "f32", "int8"]);
    world.run("train recipe.toml --out other").done();
    let manifest = world.text("other/tokens/manifest.json");
    assert!(manifest.contains("\"precision\": \"int8\""), "{manifest}");
    let model = "other/seed-1/model.safetensors";
    let ranked = world
        .run(&format!("predict --model {model} test-0007.png --json"))
        .json();
    assert_eq!(ranked[0]["labels"].as_array().unwrap().len(), 9);
    world
        .run(&format!("eval {model} --store out/tokens"))
        .refused(&["precision", "f32", "int8"]);
}

/// CLIP's and SigLIP's projected tokens with label vectors of their own text towers.
#[test]
fn text_towers_from_photographs_to_any_words() {
    any_words("clip", "clip", 16);
    any_words("../siglip/siglip", "siglip", 32);
}

fn any_words(from: &str, tower: &str, width: usize) {
    let world = World::of(6, 4);
    put(&world, from, tower);
    let words = world.text("seen.txt") + &world.text("unseen.txt");
    world.write("words.txt", words + "sea lion\n");
    let embed =
        format!("embed --text {tower} --weights {tower} --labels words.txt --out vectors.txt");
    let out = world.run(&format!("{embed} --json")).json();
    assert_eq!((&out["labels"], &out["width"]), (&10.into(), &width.into()));
    assert_eq!(out["template"], "There is a {label} in the scene");
    let first = world.text("vectors.txt");
    assert!(first.lines().any(|line| line.starts_with("sea_lion ")));
    world.run(&format!("{embed} --template {{label}}")).done();
    assert_ne!(world.text("vectors.txt"), first);
    world
        .run(&format!("{embed} --template label"))
        .refused(&["--template", "{label}"]);
    world.edit(
        "recipe.toml",
        "\"backbone.safetensors\"",
        &format!("\"{tower}\"\ntokens = \"projected\""),
    );
    world.edit(
        "recipe.toml",
        "groups = 2",
        "groups = 2\nheads = 2\nwith-cls = true",
    );
    world.run("train recipe.toml --out out").done();
    world.write("new.txt", "sea lion\nred\n");
    let model = "out/seed-1/model.safetensors";
    let predict = format!("predict --model {model} test-0007.png --labels new.txt --json");
    let ranked = world.run(&predict).json();
    assert_eq!(ranked[0]["labels"].as_array().unwrap().len(), 2);
}

#[test]
fn weights_cut_short_in_every_container() {
    let world = World::of(1, 1);
    for file in [
        "vgg19.pth",
        "vgg19_bn.pth",
        "timm_dinov2.safetensors",
        "open_clip",
    ] {
        let name = if file == "open_clip" {
            "open_clip/open_clip_pytorch_model.bin"
        } else {
            file
        };
        for share in [0.0, 0.001, 0.3, 0.9, 0.999] {
            put(&world, file, file);
            world.truncate(name, share);
            world
                .run(&format!("backbone check {file}"))
                .refused(&[name]);
        }
    }
    // Two shards and their index; then one shard is gone, then cut, then the index points outside.
    put(&world, "timm_dinov2.safetensors", "a.safetensors");
    world.write(
        "model.safetensors.index.json",
        r#"{"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}"#,
    );
    world.run("backbone check .").done();
    world.truncate("a.safetensors", 0.5);
    world.run("backbone check .").refused(&["a.safetensors"]);
    fs::remove_file(world.path("a.safetensors")).unwrap();
    world
        .run("backbone check .")
        .refused(&["a.safetensors", "no such weight file"]);
    world.write(
        "model.safetensors.index.json",
        r#"{"weight_map": {"x": "../a.safetensors"}}"#,
    );
    world
        .run("backbone check .")
        .refused(&["../a.safetensors", "not a file beside the index"]);
    world.write("model.safetensors.index.json", "{");
    world
        .run("backbone check .")
        .refused(&["not an index of weight files"]);
}

#[test]
fn a_pickle_with_code_is_refused_by_the_name_of_the_code_and_not_run() {
    let world = World::of(1, 1);
    let proof = world.path("proof");
    // GLOBAL posix.system, a command, TUPLE1, REDUCE, STOP: as it stands, and as a value in a dictionary.
    let command = format!("touch {}", proof.display());
    let call = [
        b"cposix\nsystem\nX",
        &(command.len() as u32).to_le_bytes()[..],
        command.as_bytes(),
        b"\x85R",
    ]
    .concat();
    let bare = [b"\x80\x02", &call[..], b"."].concat();
    let inside = [b"\x80\x02}X\x01\0\0\0a", &call[..], b"s."].concat();
    for bytes in [bare, inside] {
        world.write("code.pth", bytes);
        world
            .run("backbone check code.pth")
            .refused(&["code.pth", "posix.system"]);
    }
    // The same beside tensors, as torch.save writes it.
    put(&world, "hostile.pth", "hostile.pth");
    world
        .run("backbone check hostile.pth")
        .refused(&["hostile.pth", "system"]);
    assert!(!proof.exists() && !world.path("proof").exists());
}

#[test]
fn unknown_networks_name_the_nearest_family() {
    let world = World::of(1, 1);
    put(&world, "expected.safetensors", "other.safetensors");
    world.run("backbone check other.safetensors").refused(&[
        "other.safetensors",
        "of no family",
        "vit-timm",
        "vgg",
        "lacks",
    ]);
    fs::create_dir(world.path("empty")).unwrap();
    world
        .run("backbone check empty")
        .refused(&["empty: 0 weight files", "model.safetensors"]);
}

#[test]
fn a_hub_that_cannot_be_reached_and_a_filled_cache() {
    let world = World::of(2, 1);
    let home = world.path("cache");
    let home = home.to_str().unwrap();
    // Nobody listens on port 9 of this machine.
    let closed = [("HF_HOME", home), ("HF_ENDPOINT", "http://127.0.0.1:9")];
    run_with(&world, "backbone check hf:owner/net", &closed).refused(&[
        "owner/net",
        "what to do",
        "HF_ENDPOINT",
        home,
    ]);
    let offline = [("HF_HOME", home), ("HF_HUB_OFFLINE", "1")];
    run_with(&world, "backbone check hf:owner/net", &offline).refused(&[
        "owner/net",
        "HF_HUB_OFFLINE",
        home,
    ]);
    run_with(&world, "backbone check hf:owner", &offline).refused(&["hf:OWNER/NAME"]);
    let repository = "cache/hub/models--owner--net";
    put(&world, "vit", &format!("{repository}/snapshots/c0ffee"));
    fs::create_dir_all(world.path(repository).join("refs")).unwrap();
    world.write(&format!("{repository}/refs/main"), "c0ffee");
    for variables in [closed, offline] {
        let check = run_with(&world, "backbone check hf:owner/net --json", &variables).json();
        assert_eq!(check["info"]["name"], "net");
    }
    world.edit("recipe.toml", "backbone.safetensors", "hf:owner/net");
    let out = run_with(&world, "extract recipe.toml --out out", &offline).done();
    assert!(out.contains("9 tokens of 40"), "{out}");
}

#[test]
fn a_configuration_that_lies() {
    let world = World::of(1, 1);
    for (file, from, to, part) in [
        (
            "config.json",
            "\"hidden_size\": 40",
            "\"hidden_size\": 64",
            "hidden_size is 64 there, but 40",
        ),
        (
            "config.json",
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 12",
            "num_hidden_layers is 12",
        ),
        (
            "config.json",
            "\"num_attention_heads\": 5",
            "\"num_attention_heads\": 7",
            "7 heads",
        ),
        (
            "config.json",
            "\"num_attention_heads\": 5",
            "\"num_attention_heads\": 0",
            "0 heads",
        ),
        (
            "config.json",
            "\"num_attention_heads\": 5",
            "\"num_attention_heads\": \"five\"",
            "num_attention_heads",
        ),
        (
            "config.json",
            "\"image_size\": 12",
            "\"image_size\": 224",
            "image_size is 224",
        ),
        (
            "config.json",
            "\"hidden_act\": \"gelu\"",
            "\"hidden_act\": \"relu\"",
            "activation relu",
        ),
        ("config.json", "1e-12", "-1", "layer_norm_eps"),
        ("config.json", "{", "", "not JSON"),
        (
            "preprocessor_config.json",
            "\"height\": 12",
            "\"height\": 13",
            "not one length",
        ),
        (
            "preprocessor_config.json",
            "\"resample\": 2",
            "\"resample\": 1",
            "resample 1",
        ),
        (
            "preprocessor_config.json",
            "\"height\": 12,\n  \"width\": 12",
            "\"height\": 14,\n  \"width\": 14",
            "multiple of the patch size 4",
        ),
        (
            "preprocessor_config.json",
            "\"height\": 12,\n  \"width\": 12",
            "\"height\": 4000000000,\n  \"width\": 4000000000",
            "out of reach",
        ),
    ] {
        put(&world, "vit", "vit");
        world.edit(&format!("vit/{file}"), from, to);
        world.run("backbone check vit").refused(&[part]);
    }
}

/// A PNG file's beginning for a grey picture of this size.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let crc = header.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
        })
    });
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\x0d",
        &header[..],
        &(!crc).to_be_bytes(),
        b"\0\0\x10\0IDAT",
        &[0; 100],
    ]
    .concat()
}

#[test]
fn pictures_of_one_pixel_and_of_too_many() {
    let world = World::of(6, 4);
    RgbImage::new(1, 1)
        .save(world.path("train-0001.png"))
        .unwrap();
    world.write("train-0002.png", png_header(20_000, 20_000));
    world.write("train-0004.png", png_header(u32::MAX >> 1, 1 << 20));
    let out = world.run("extract recipe.toml --out out").partly(&[
        "train-0002.png",
        "20000 x 20000 pixels, above the limit of 100000000",
        "train-0004.png",
    ]);
    assert!(
        out.contains("8 images") && out.contains("2 failed"),
        "{out}"
    );
}

#[test]
fn many_files_of_which_one_in_a_hundred_is_broken() {
    let world = World::of(400, 200);
    let mut broken = Vec::new();
    for line in world.text("labels.tsv").lines().skip(50).step_by(100) {
        let name = line.split('\t').next().unwrap().to_string();
        world.truncate(&name, [0.0, 0.4, 0.8][broken.len() % 3]);
        broken.push(name);
    }
    let ended = world.run("extract recipe.toml --out out --json");
    let names: Vec<&str> = broken.iter().map(String::as_str).collect();
    let store: Value = serde_json::from_str(&ended.partly(&names)).unwrap();
    assert_eq!(store["images"], 594);
    assert_eq!(store["failed"].as_array().unwrap().len(), 6);
}
