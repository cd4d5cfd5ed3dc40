//! Every command that takes a device, on a GPU against the CPU, and what is said where there is none. `.ci/devices` runs them on
//! Mesa's software driver.

use serde_json::Value;

use crate::comparison;
use crate::world::World;

/// Tokens, a model, and what it makes of photographs, all of it computed on a device.
struct Made {
    figures: Value,
    again: Value,
    ranked: Value,
    maps: Value,
    tagged: String,
}

fn make(world: &World, device: &str) -> Made {
    let on = format!("--device {device}");
    let model = format!("{device}/seed-1/model.safetensors");
    let run = |arguments: &str| world.run(&format!("{arguments} {on}"));
    run(&format!("extract recipe.toml --out {device} --verify")).done();
    let rows = run(&format!("train recipe.toml --out {device} --json")).json();
    let photos = "test-0024.jpg test-0025.png";
    Made {
        figures: rows[0]["figures"].clone(),
        again: run(&format!("eval {model} --json")).json(),
        ranked: run(&format!("predict --model {model} {photos} --top 9 --json")).json(),
        maps: run(&format!(
            "explain --model {model} {photos} --out {device}/maps --json"
        ))
        .json(),
        tagged: run(&format!(
            "tag --model {model} photos --top 3 --out {device}/library"
        ))
        .done(),
    }
}

/// All numbers of a JSON value, in order, and beside them everything else.
fn split(value: &Value, numbers: &mut Vec<f64>, rest: &mut Vec<String>) {
    match value {
        Value::Number(number) => numbers.push(number.as_f64().unwrap()),
        Value::Array(items) => items.iter().for_each(|item| split(item, numbers, rest)),
        Value::Object(fields) => {
            for (name, field) in fields {
                rest.push(name.clone());
                split(field, numbers, rest);
            }
        }
        other => rest.push(other.to_string()),
    }
}

#[track_caller]
fn alike(what: &str, ours: &Value, theirs: &Value) {
    let of = |value: &Value| {
        let (mut numbers, mut rest) = (Vec::new(), Vec::new());
        split(value, &mut numbers, &mut rest);
        (numbers, rest)
    };
    let ((ours, said), (theirs, expected)) = (of(ours), of(theirs));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    if what == "figures" {
        assert_eq!(said, expected, "{what}");
    }
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() <= 2e-3 * b.abs().max(1.0), "{what}: {a}, {b}");
    }
}

#[test]
fn every_command_gives_what_it_gives_on_the_cpu() {
    let world = World::new();
    std::fs::create_dir(world.path("photos")).unwrap();
    for name in ["test-0024.jpg", "test-0025.png", "test-0026.png"] {
        std::fs::copy(world.path(name), world.path("photos").join(name)).unwrap();
    }
    let [cpu, gpu] = ["cpu", "wgpu"].map(|device| make(&world, device));
    alike("figures", &gpu.figures, &cpu.figures);
    alike("eval", &gpu.again, &cpu.again);
    alike("predict", &gpu.ranked, &cpu.ranked);
    alike("explain", &gpu.maps, &cpu.maps);
    assert_eq!(gpu.tagged.lines().count(), cpu.tagged.lines().count());
    // A model of either device runs on the other.
    let model = "wgpu/seed-1/model.safetensors";
    let eval = format!("eval {model} --json");
    let on_cpu = world.run(&eval).json();
    alike("eval", &gpu.again, &on_cpu);
    let compared = "compare wgpu/seed-1/model.safetensors cpu/seed-1/model.safetensors --bootstrap 20 --device wgpu --json";
    world.run(compared).json();
}

/// The settings that a comparison or a sweep trained, and their figures.
fn figures(rows: &Value) -> Value {
    let rows = rows.as_array().unwrap().iter();
    let trained = rows.flat_map(|row| row["trained"].as_array().unwrap());
    trained
        .map(|training| {
            Value::from(vec![
                training["recipe"].clone(),
                training["figures"].clone(),
            ])
        })
        .collect()
}

#[test]
fn comparisons_and_sweeps_give_what_they_give_on_the_cpu() {
    let world = World::of(24, 40);
    // Of one point, because a choice between two that are about as good may fall on either. Chance is drawn from the bits of the
    // photographs' vectors, which are another device's own.
    let table = comparison::table("validation = 0.25")
        .replace("[1e-4, 1e-3]", "[1e-3]")
        .replace("{ kind = \"random\" }", "{ kind = \"ridge\" }");
    world.write("table.toml", table);
    for command in ["bench table.toml", "sweep recipe.toml --set groups=1,2"] {
        let [cpu, gpu] = ["cpu", "wgpu"].map(|device| {
            let out = format!("--out {device} --device {device} --json");
            figures(&world.run(&format!("{command} {out}")).json())
        });
        assert_eq!(cpu.as_array().unwrap().len(), gpu.as_array().unwrap().len());
        for (gpu, cpu) in gpu.as_array().unwrap().iter().zip(cpu.as_array().unwrap()) {
            alike(&format!("{command}: {}", cpu[0]), gpu, cpu);
        }
    }
}

#[test]
fn what_a_device_lacks_is_said_before_anything_starts() {
    let world = World::new();
    for (command, parts) in [
        (
            "extract recipe.toml --out out --device wgpu",
            &["int8", "--device cpu"][..],
        ),
        ("train recipe.toml --out out --device wgpu", &["int8"]),
        (
            "quickstart --train-backbone new.safetensors --device wgpu",
            &["--device"],
        ),
    ] {
        if command.contains("recipe") {
            world.write("recipe.toml", crate::world::RECIPE);
            world.edit(
                "recipe.toml",
                "weights = \"backbone.safetensors\"",
                "weights = \"backbone.safetensors\"\nprecision = \"int8\"",
            );
        }
        world.run(command).refused(parts);
        assert!(!world.path("out/tokens").exists(), "{command}");
    }
    world.write("recipe.toml", crate::world::RECIPE);
    world.edit(
        "recipe.toml",
        "epochs = 1",
        "epochs = 1\nprecision = \"bf16\"",
    );
    world
        .run("train recipe.toml --out out --device wgpu")
        .refused(&["bf16"]);
    assert!(!world.path("out/tokens").exists());
}

/// Without a driver, and with none but one that computes on the CPU.
#[test]
fn a_machine_without_a_gpu_is_told_what_to_install() {
    let world = World::new();
    let arguments = "extract recipe.toml --out out --device wgpu";
    let mut without = world.command(arguments);
    for variable in [
        "VK_DRIVER_FILES",
        "VK_ICD_FILENAMES",
        "__EGL_VENDOR_LIBRARY_FILENAMES",
    ] {
        without.env(variable, "nowhere.json");
    }
    world
        .end(without, arguments)
        .refused(&["--device wgpu", "install", "vulkaninfo"]);
    let mut unasked = world.command(arguments);
    unasked.env_remove("CUBECL_WGPU_DEFAULT_DEVICE");
    // Where there is a GPU, it is taken.
    let ended = world.end(unasked, arguments);
    if ended.code != Some(0) {
        ended.refused(&["computes on the CPU", "CUBECL_WGPU_DEFAULT_DEVICE=Cpu"]);
    }
}
