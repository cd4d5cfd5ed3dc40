//! The README's first command: pictures drawn, labels ranked, no download.

use crate::world::World;

#[test]
fn quickstart_ranks_labels_nobody_trained_on() {
    let world = World::new();
    let said = world.run("quickstart --out quick").done();
    let map = |name: &str| -> f64 {
        let row = said.lines().find(|line| line.starts_with(name)).unwrap();
        row.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // Nine unseen labels, so chance is far from 0; Epsilon must know more than it.
    assert!(map("Epsilon") > 1.3 * map("chance"), "{said}");
    assert!(said.contains("unseen"), "{said}");
    let predict = said
        .lines()
        .find_map(|line| line.strip_prefix("try:   epsilon "))
        .unwrap();
    let ranked = world.run(predict).done();
    assert_eq!(ranked.lines().count(), 11, "{ranked}");
}
