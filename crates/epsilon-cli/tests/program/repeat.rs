//! The same seed twice gives the same model, byte for byte.

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::SafeTensors;

use crate::world::World;

#[test]
fn a_seed_repeats_its_model_and_another_does_not() {
    let world = World::new();
    world.edit("recipe.toml", "epochs = 1", "epochs = 3");
    world.edit("recipe.toml", "seeds = [1]", "seeds = [1, 2]");
    world.run("train recipe.toml --out first").done();
    world.run("train recipe.toml --out second").done();
    for file in [
        "seed-1/model.safetensors",
        "seed-2/model.safetensors",
        "tokens/manifest.json",
        "tokens/tokens-00000.safetensors",
    ] {
        let bytes = |out: &str| std::fs::read(world.path(out).join(file)).unwrap();
        assert!(bytes("first") == bytes("second"), "{file} differs");
    }
    // A model keeps its seed and recipe too: the weights alone are what must differ, and agree.
    let weights = |file: &str| -> BTreeMap<String, Vec<u8>> {
        let bytes = std::fs::read(world.path(file)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        tensors
            .iter()
            .map(|(name, view)| (name.to_string(), view.data().to_vec()))
            .collect()
    };
    let second = weights("first/seed-2/model.safetensors");
    assert!(
        weights("first/seed-1/model.safetensors") != second,
        "the seed decides the weights"
    );

    world.run("train recipe.toml --out third --seed 2").done();
    assert!(!world.path("third/seed-1").exists());
    assert!(
        weights("third/seed-2/model.safetensors") == second,
        "one seed alone is the same as among others"
    );
}

/// Without a terminal every epoch has a line; TensorBoard's files say the same, and those of a training before are gone.
#[test]
fn a_training_tells_of_its_epochs() {
    let world = World::new();
    world.edit("recipe.toml", "epochs = 1", "epochs = 2");
    world.edit("recipe.toml", "[training]", "[training]\nvalidation = 0.25");
    world.run("train recipe.toml --out run").done();
    assert!(event_files(&world).is_empty());
    for _ in 0..2 {
        let ended = world.run("train recipe.toml --out run --tensorboard");
        let told = ended.epochs();
        assert_eq!(told.len(), 2, "{ended:?}");
        for (line, epoch) in told.iter().zip(1..) {
            let start = format!("run/seed-1: epoch {epoch} of 2: loss ");
            assert!(line.starts_with(&start), "{line}");
            assert!(line.contains(", validation mAP "), "{line}");
        }
        let files = event_files(&world);
        assert_eq!(files.len(), 1, "{files:?}");
        let events = records(&std::fs::read(&files[0]).unwrap());
        // The head, three steps of 8 of 18 images in each of the epochs, and a line an epoch.
        assert_eq!(events.len(), 1 + 2 * (3 + 1));
        let holds = |part: &str| {
            let holds = |event: &&Vec<u8>| event.windows(part.len()).any(|w| w == part.as_bytes());
            events.iter().filter(holds).count()
        };
        assert_eq!(holds("brain.Event:2"), 1);
        assert_eq!(holds("train/loss"), 6);
        assert_eq!(holds("validation/mAP"), 2);
    }
    world
        .run("train recipe.toml --out run --tensorboard --resume")
        .done();
    assert_eq!(event_files(&world).len(), 2, "what was resumed is kept");
}

/// The event files of the first seed.
fn event_files(world: &World) -> Vec<PathBuf> {
    let files = std::fs::read_dir(world.path("run/seed-1")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let is_event = |path: &PathBuf| path.to_string_lossy().contains("events.out.tfevents.");
    files.filter(is_event).collect()
}

/// The messages of an event file.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
        let length = u64::from_le_bytes(*length) as usize;
        records.push(rest[4..][..length].to_vec());
        bytes = &rest[4 + length + 4..];
    }
    records
}

/// A training begun anew is never resumed from the checkpoint of the one before it.
#[test]
fn a_new_training_forgets_the_old_checkpoint() {
    let world = World::new();
    world.run("train recipe.toml --out run").done();
    let checkpoint = world.path("run/seed-1/checkpoints/last.safetensors");
    assert!(checkpoint.exists());
    // A folder in the place of the metrics stops the second training as soon as it has begun.
    let metrics = world.path("run/seed-1/metrics.jsonl");
    std::fs::remove_file(&metrics).unwrap();
    std::fs::create_dir(&metrics).unwrap();
    let ended = world.run("train recipe.toml --out run");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("metrics.jsonl"), "{ended:?}");
    assert!(!checkpoint.exists());
    std::fs::remove_dir(&metrics).unwrap();
    world.run("train recipe.toml --out run --resume").done();
    assert_eq!(world.text("run/seed-1/metrics.jsonl").lines().count(), 1);
}

/// bf16 trains where the CPU has instructions for it, and is refused by name before anything starts where it has not.
#[test]
fn bf16_trains_or_is_refused() {
    let world = World::new();
    world.edit(
        "recipe.toml",
        "epochs = 1",
        "epochs = 1\nprecision = \"bf16\"",
    );
    let ended = world.run("train recipe.toml --out half");
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bf16") {
        ended.done();
        let first = std::fs::read(world.path("half/seed-1/model.safetensors")).unwrap();
        world.run("train recipe.toml --out again").done();
        let second = std::fs::read(world.path("again/seed-1/model.safetensors")).unwrap();
        assert!(first == second, "bf16 repeats its weights too");
        world.edit(
            "recipe.toml",
            "kind = \"epsilon\"",
            "kind = \"epsilon\"\nshared-mlp = true",
        );
        let ended = world.run("train recipe.toml --out shared");
        ended.refused(&["precision = \"bf16\"", "no bf16 form"]);
        return;
    }
    ended.refused(&["precision = \"bf16\"", "AVX-512"]);
    assert!(!world.path("half").exists());
}
