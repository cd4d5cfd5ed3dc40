//! The pages that the program makes, in headless Chromium at the widths of a desk and of a phone: those of `epsilon serve` are
//! used as people do, the report of `epsilon report` is opened. Skipped, in one line, where Chromium is not installed.

mod axe;
mod chromium;
mod library;
mod measured;
#[path = "../program/server.rs"]
#[allow(dead_code, reason = "the page asks the server, not these tests")]
mod server;
#[path = "../program/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the program")]
mod world;

use std::fs;

use chromium::Browser;
use server::Server;
use world::World;

const WIDTHS: [u32; 2] = [1280, 390];

#[test]
fn a_photograph_is_dropped_words_are_typed_and_a_heat_map_is_seen() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world.write("broken.png", "no picture");
    let server = Server::start(&world, "out/seed-1/model.safetensors");
    for width in WIDTHS {
        browser.width(width);
        browser.open(&server.url("/"));
        browser.write("#words", "purple, red");
        browser.drop_files("#drop", &[world.path("test-0025.png")]);
        browser.until("document.querySelectorAll('.labels li').length === 2");
        let labels = browser.evaluate(
            "[...document.querySelectorAll('.labels .name')].map(e => e.textContent).sort()",
        );
        assert_eq!(labels, serde_json::json!(["purple unseen", "red"]));
        // By the keyboard: the first button behind the list's start is reached and pressed.
        browser.evaluate("document.querySelector('.labels button').focus()");
        browser.press("Enter");
        browser.until("document.querySelector('img.heat')?.naturalWidth === 48");
        browser.until(
            "document.querySelector('#status').textContent.includes('where the model looked')",
        );
        assert_eq!(browser.complaints(), Vec::<String>::new());
        assert!(browser.fits(), "{width}");

        // Other words, for the photograph that is there; and the model's own.
        browser.evaluate("document.querySelector('#words').value = ''");
        browser.evaluate("document.querySelector('#again').click()");
        browser.until("document.querySelectorAll('.labels li').length === 9");

        // A broken file and an unknown word are told in words.
        browser.drop_files("#drop", &[world.path("broken.png")]);
        browser.until(
            "document.querySelector('.error')?.textContent.includes('broken.png: not a picture of a kind that is read')",
        );
        browser.write("#words", "gren");
        browser.evaluate("document.querySelector('#again').click()");
        browser.until("[...document.querySelectorAll('.error')].filter(e => e.textContent.includes('green')).length === 2");
        assert!(browser.fits(), "{width}");
        let complaints = browser.complaints();
        // Chromium notes every refused request.
        assert!(
            complaints.iter().all(|text| text.contains("status of 422")),
            "{complaints:?}"
        );
    }
}

#[test]
fn a_server_that_wants_a_token_is_given_it_on_the_page() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::new();
    world.run("train recipe.toml --out out").done();
    world.write("token.txt", "secret");
    let server = Server::start(
        &world,
        "out/seed-1/model.safetensors --token-file token.txt",
    );
    browser.open(&server.url("/"));
    browser.drop_files("#drop", &[world.path("test-0025.png")]);
    browser.until("document.querySelector('.error')?.textContent.includes('wants a token')");
    browser.write("#token", "secret");
    browser.evaluate("document.querySelector('#again').click()");
    browser.until("document.querySelectorAll('.labels li').length === 9");
}

#[test]
fn a_report_opens_without_an_error_or_a_scroll_to_the_side() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::of(24, 60);
    world.edit("recipe.toml", "epochs = 1", "epochs = 3\nvalidation = 0.25");
    world.run("train recipe.toml --out out").done();
    world.run("calibrate out/seed-1/model.safetensors").done();
    world.run("report out --photos 12").done();
    let report = fs::canonicalize(world.path("out/report.html")).unwrap();
    for width in WIDTHS {
        browser.width(width);
        browser.open(&format!("file://{}", report.display()));
        assert_eq!(browser.complaints(), Vec::<String>::new());
        assert!(browser.fits(), "{width}");
        browser.evaluate(
            "document.querySelectorAll('details').forEach(part => { part.open = true; })",
        );
        assert!(browser.fits(), "{width}, all of it open");
        let pictures = "[...document.querySelectorAll('.gallery img')]";
        browser.evaluate(&format!(
            "{pictures}.forEach(picture => {{ picture.loading = 'eager'; }})"
        ));
        browser.until(&format!(
            "{pictures}.length === 24 && {pictures}.every(picture => picture.naturalWidth > 0)"
        ));
        let charts =
            browser.evaluate("document.querySelectorAll('svg[role=img][aria-label]').length");
        assert!(charts.as_u64().unwrap() >= 4, "{charts}");
    }
}
