//! `epsilon report`: one HTML file about one run or two, that asks nothing of the network.

use crate::world::World;

#[test]
fn a_report_tells_of_two_runs_and_shows_photographs() {
    let world = World::new();
    world.run("train recipe.toml --out one").done();
    let longer = crate::world::RECIPE.replace("epochs = 1", "epochs = 3\nvalidation = 0.25");
    world.write(
        "recipe.toml",
        longer.replace("seeds = [1]", "seeds = [1, 2]"),
    );
    world.run("train recipe.toml --out two").done();
    let said = world.run("report two one --photos 5").done();
    assert_eq!(said, "two/report.html\n");
    let html = world.text("two/report.html");
    for part in [
        "<h1>Epsilon: two</h1>",
        "Protocol epsilon: ",
        "<th scope=\"row\">one</th>",
        " \u{b1} ",
        "95 % interval",
        "Training loss",
        "two, seed 2",
        "Best labels",
        "precision, percent",
        "(unseen)",
        "\u{2713}",
        "attention for ",
        "kind = &quot;epsilon&quot;",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<li><div class=\"pictures\">").count(), 5);
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 10);
    assert!(html.trim_end().ends_with("</html>"));
    // Whatever is shown is within: no address but those of the document itself and of SVG's names.
    let addresses = html.replace("http://www.w3.org/", "");
    assert!(
        !addresses.contains("http:") && !addresses.contains("https:") && !html.contains("<script")
    );
    for source in html.split("src=\"").skip(1) {
        assert!(source.starts_with("data:"), "{}", &source[..40]);
    }
    // Every picture says what it is, and every chart too.
    assert_eq!(
        html.matches("<img ").count(),
        html.matches(" alt=\"").count()
    );
    assert_eq!(
        html.matches("<svg ").count(),
        html.matches("<svg role=\"img\" aria-label=").count()
    );

    world.run("report two --photos 0 --out short.html").done();
    assert!(!world.text("short.html").contains("data:image"));
}

#[test]
fn a_broken_photograph_is_named_and_a_folder_without_run_is_refused() {
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world.write("test-0024.jpg", "no picture");
    let said = world
        .run("report out --photos 3")
        .partly(&["test-0024.jpg"]);
    assert_eq!(said, "out/report.html\n");
    world.run("report .").refused(&["no finished training"]);
    world.run("report nowhere").refused(&["nowhere"]);
    world.write("out/seed-1/figures.json", "{}");
    world.run("report out").refused(&["seed-1", "figures"]);
}

#[test]
fn a_row_of_a_sweep_and_a_classification_have_reports() {
    let world = World::new();
    world
        .run("sweep recipe.toml --out out --set groups=2,3")
        .done();
    let html = |run: &str| {
        world
            .run(&format!("report {run} --photos 1 --out r.html"))
            .done();
        world.text("r.html")
    };
    assert!(html("out/sweep/groups=3").contains("<h1>Epsilon: groups=3</h1>"));
    let swept = html("out/sweep/groups=2 out/sweep/groups=3");
    assert!(swept.contains("Sweep of groups"), "{swept}");
    let classes = crate::world::RECIPE.replace("unseen = \"unseen.txt\"\n", "");
    world.write("recipe.toml", classes);
    world.run("train recipe.toml --out classes").done();
    let page = html("classes");
    assert!(page.contains("seen mAP") && !page.contains("GZSL"));
}

#[test]
fn a_tuned_row_has_a_report_of_the_setting_that_was_chosen() {
    let world = World::new();
    world.write("table.toml", crate::comparison::table("validation = 0.25"));
    let lines = world.run("bench table.toml --out out --json").json();
    let chosen = lines[0]["chosen"].as_str().unwrap();
    let said = world
        .run("report out/epsilon out/chance-more --photos 1")
        .done();
    assert_eq!(said, "out/epsilon/report.html\n");
    let html = world.text("out/epsilon/report.html");
    for part in [
        format!("<h1>Epsilon: epsilon, {chosen}</h1>"),
        format!("epsilon, {chosen}, seed 1, at length"),
        " \u{b1} ".into(),
    ] {
        assert!(html.contains(&part), "{part}");
    }
    // Any setting has one by its own folder.
    for setting in ["learning-rate=0.0001", "learning-rate=0.001"] {
        let said = world
            .run(&format!("report out/epsilon/{setting} --photos 0"))
            .done();
        assert_eq!(said, format!("out/epsilon/{setting}/report.html\n"));
    }
    std::fs::remove_file(world.path("out/epsilon/chosen.json")).unwrap();
    world
        .run("report out/epsilon")
        .refused(&["out/epsilon", "of one setting of a row"]);
}
