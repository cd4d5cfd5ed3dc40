//! `epsilon explain`: pictures of where a model looked, for its own labels and for other words.

use crate::world::World;

#[test]
fn a_photograph_comes_back_under_the_heat_of_each_label() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    let model = "out/seed-1/model.safetensors";
    let explain = format!("explain --model {model} test-0025.png --out maps");
    let all = world
        .run(&format!("{explain} --label cyan --label purple --json"))
        .json();
    let labels: Vec<(&str, bool)> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["label"].as_str().unwrap(), e["seen"].as_bool().unwrap()))
        .collect();
    assert_eq!(labels, [("cyan", false), ("purple", false)]);
    for explained in all.as_array().unwrap() {
        let pictures = explained["pictures"].as_array().unwrap();
        let what: Vec<&str> = pictures
            .iter()
            .map(|p| p["what"].as_str().unwrap())
            .collect();
        assert_eq!(what, ["attention", "global weights"]);
        // Both maps are of the group that won the label.
        assert_eq!(pictures[0]["group"], pictures[1]["group"]);
        for picture in pictures {
            let values = picture["values"].as_array().unwrap();
            let sum: f64 = values.iter().map(|v| v.as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-4, "{sum}");
            let side = picture["grid"][0].as_u64().unwrap() as usize;
            assert_eq!(values.len(), side * side);
            let file = world.path(picture["file"].as_str().unwrap());
            let drawn = image::open(file).unwrap().into_rgb8();
            let photo = image::open(world.path("test-0025.png"))
                .unwrap()
                .into_rgb8();
            assert_eq!(drawn.dimensions(), photo.dimensions());
            assert_ne!(drawn, photo);
        }
    }

    let text = world.run(&explain).done();
    assert_eq!(text.matches("test-0025.png  ").count(), 3, "{text}");
    assert!(text.contains("attention of group"), "{text}");
}

#[test]
fn what_cannot_be_explained_is_said() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world.write("broken.png", "no picture");
    let model = "out/seed-1/model.safetensors";
    let ended = world.run(&format!(
        "explain --model {model} broken.png test-0025.png --out maps"
    ));
    ended.partly(&["broken.png"]);
    assert!(world.path("maps").read_dir().unwrap().count() >= 3);
    world
        .run(&format!(
            "explain --model {model} test-0025.png --label nobodys"
        ))
        .refused(&["nobodys"]);
}
