//! Commands whose backbone another engine runs, beside this program's own. `.ci/engines` names ONNX Runtime's library.

use serde_json::Value;

use crate::learn;
use crate::world::World;

/// Whether ONNX Runtime is there; otherwise says that the test was skipped.
fn is_there() -> bool {
    let named = std::env::var_os("ORT_DYLIB_PATH").is_some();
    if !named {
        eprintln!("skipped: ORT_DYLIB_PATH names no ONNX Runtime");
    }
    named
}

/// Each mAP of an evaluation.
fn maps(figures: &Value) -> Vec<f64> {
    let sets = ["zsl", "seen", "gzsl"].map(|set| figures[set]["map"].as_f64());
    sets.into_iter().flatten().collect()
}

fn alike(ours: &Value, theirs: &Value) {
    let (ours, theirs) = (maps(ours), maps(theirs));
    assert_eq!((ours.len(), theirs.len()), (3, 3));
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() < 1e-3, "{a}, {b}");
    }
}

#[test]
fn training_and_evaluation_of_photographs_are_those_of_the_own_engine() {
    if !is_there() {
        return;
    }
    let world = World::new();
    let [own, other] = ["own", "onnxruntime"].map(|engine| {
        let trained = format!("train recipe.toml --out {engine} --engine {engine} --json");
        let trained = world.run(&trained).json()[0]["figures"].clone();
        let model = format!("{engine}/seed-1/model.safetensors");
        world
            .run(&format!(
                "bundle {model} -o {engine}.epsilon --precision f32"
            ))
            .done();
        let of_photographs =
            format!("eval {engine}.epsilon --data recipe.toml --engine {engine} --json");
        (trained, world.run(&of_photographs).json())
    });
    alike(&own.0, &other.0);
    alike(&own.1, &other.1);
    // The tokens of a model are there, so that no engine runs.
    world
        .run("eval own/seed-1/model.safetensors --engine onnxruntime")
        .refused(&["--engine", "no backbone runs"]);
}

#[test]
fn a_library_is_learnt_with_another_engine() {
    if !is_there() {
        return;
    }
    let world = learn::world(40);
    let command = format!("{} --engine onnxruntime", learn::LEARN);
    let report = learn::learnt(world.run(&command));
    assert_eq!(report["extracted"], 40);
    // The tokens serve the own engine, too.
    let report = learn::learnt(world.run("learn p --json"));
    assert_eq!(report["extracted"], 0);
}
