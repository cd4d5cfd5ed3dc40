//! The same seed twice gives the same model, byte for byte.

use std::collections::BTreeMap;

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
