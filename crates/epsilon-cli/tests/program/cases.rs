//! Cases that people met with the program, each with what is to come of it. (Those of the readers alone stand in the tests of
//! `epsilon-data` and `epsilon-vision`.)

use crate::world::World;

#[test]
fn d06_a_photo_table_as_csv_is_what_it_is_as_tsv() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world
        .run("eval out/seed-1/model.safetensors --k 1,3 --save-scores scores.npy")
        .done();
    let table = world.text("labels.tsv");
    let rows: Vec<String> = table
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            format!("{},{},\"{}\"\n", cells[0], cells[1], cells[2])
        })
        .collect();
    world.write("headless.csv", rows.concat());
    world.write("named.csv", format!("path,split,labels\n{}", rows.concat()));
    let of = |labels: &str| {
        let lists = "--seen seen.txt --unseen unseen.txt --k 1,3 --json";
        world
            .run(&format!(
                "eval --scores scores.npy --labels {labels} {lists}"
            ))
            .json()
    };
    let expected = of("labels.tsv");
    assert_eq!(of("headless.csv"), expected);
    assert_eq!(of("named.csv"), expected);
}

#[test]
fn d08_a_validation_share_that_leaves_nothing_is_named() {
    let world = World::new();
    world.edit(
        "recipe.toml",
        "[training]\n",
        "[training]\nvalidation = 0.999\n",
    );
    world
        .run("train recipe.toml --out out")
        .refused(&["validation = 0.999", "smaller share"]);
}
